
/*
 * What the processes of one sidecar count, lock-free and in memory which they
 * share, so that "serve" can tell what "work" does and a restart of either
 * takes nothing back.  The memory is a file beside the socket; without it each
 * process counts for itself.
 */


#ifndef _METRICS_H_INCLUDED_
#define _METRICS_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


typedef enum {
    METRICS_OVERLOAD = 0,            /* 503: the queue was full */
    METRICS_WAITED,                  /* 503: it came to its turn too late */
    METRICS_DB_CONNECTIONS,
    METRICS_DB_UNREACHABLE,
    METRICS_DB_FAILURES,             /* of statements */
    METRICS_REDIS_FAILURES,
    METRICS_COUNTERS
} metrics_counter_e;


/*
 * At the start, before threads: maps the file of the sidecar which listens
 * there, "unix:/path" or an address; home is where the file of an address is.
 * A file that is not ours to use is a warning, and the counts are our own.
 */

void metrics_open(const char *listen, const char *home);


void metrics_add(metrics_counter_e counter);


/* the routes that are told apart, up to a NULL */

extern const char *const  metrics_routes[];


/*
 * route is a pattern of routes.c, or NULL for none of them.  Outcomes are what
 * the database says; NULL, and what is not known here, is "other".
 */

void metrics_request(const char *route, unsigned status, uint64_t us);
void metrics_webhook(const char *outcome);
void metrics_completion(const char *outcome);
void metrics_job(const char *kind, const char *outcome);


/* requests that wait for a worker of this process */

void metrics_queue(unsigned waiting);


/* all of it, as Prometheus reads it; for free().  NULL: no memory */

char *metrics_text(void);


#endif /* _METRICS_H_INCLUDED_ */
