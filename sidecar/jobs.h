
/*
 * The work loop.  Jobs are rows; Redis only says when to look.
 */


#ifndef _JOBS_H_INCLUDED_
#define _JOBS_H_INCLUDED_


#include "http.h"


typedef struct {
    const char  *id;
    const char  *claim;         /* names this attempt: see migrations/005 */
    const char  *kind;
    const char  *user;
    const char  *activity;
    const char  *key;
    const char  *etag;
    const char  *checksum;      /* hex, or NULL */
    const char  *args;          /* a JSON object, or NULL */
} job_t;


typedef enum {
    JOB_DONE = 0,
    JOB_FAILED,                 /* trying again cannot help */
    JOB_RETRY
} job_rc_e;


typedef struct {
    char         error[256];    /* for people; empty if there is none */
    char        *analysis;      /* JSON, for free(), or NULL */
    unsigned     relayed:1;     /* it is somebody else's now */
} job_result_t;


/*
 * Claims and does jobs until the descriptor stop becomes readable; the job at
 * hand is finished first.  0, or -1 if it could not begin.
 */

int jobs_run(const config_t *cf, int stop) __attribute__((warn_unused_result));


/* tells a worker that there is something; nobody may hear it */

void jobs_wake(redis_t *redis);


/* analyze.c: fetches a FIT file, checks it, and fills in *result */

job_rc_e analyze(worker_t *w, const job_t *job, job_result_t *result);


#endif /* _JOBS_H_INCLUDED_ */
