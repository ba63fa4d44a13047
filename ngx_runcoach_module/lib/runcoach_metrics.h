
/*
 * Counters and histograms that many processes count in without a lock, and
 * the text in which Prometheus reads them (version 0.0.4).  Pure: no I/O.
 */


#ifndef _RUNCOACH_METRICS_H_INCLUDED_
#define _RUNCOACH_METRICS_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


/*
 * Of anything of 64 bits in shared memory; no order is promised.  own() is for
 * who is the only one that writes there, and costs a tenth.
 */

#define runcoach_counter_add(p, n)                                            \
    ((void) __atomic_fetch_add(p, n, __ATOMIC_RELAXED))
#define runcoach_counter_get(p)    __atomic_load_n(p, __ATOMIC_RELAXED)
#define runcoach_counter_own(p, n)                                            \
    __atomic_store_n(p, runcoach_counter_get(p) + (n), __ATOMIC_RELAXED)


/* 1 ms to 10 s; what took longer is in the last one */

#define RUNCOACH_HISTOGRAM_BUCKETS  13

typedef struct {
    uint64_t      buckets[RUNCOACH_HISTOGRAM_BUCKETS];
    uint64_t      us;                /* the sum */
} runcoach_histogram_t;


/* own: nobody else writes there */

void runcoach_histogram_add(runcoach_histogram_t *h, uint64_t us, int own);

/* adds what src has now to dst, which is the caller's own */

void runcoach_histogram_merge(runcoach_histogram_t *dst,
    const runcoach_histogram_t *src);


/*
 * A text in a buffer of the caller.  A line that does not fit is left out as a
 * whole, with all that come after it, and full says so.
 */

typedef struct {
    char         *pos;
    char         *last;              /* of the text so far */
    char         *end;
    unsigned      full:1;
} runcoach_exposition_t;


/* a value of any bytes: it is escaped; name is a constant */

typedef struct {
    const char   *name;
    const char   *value;
    size_t        len;
} runcoach_label_t;


void runcoach_exposition_init(runcoach_exposition_t *x, char *buf,
    size_t size);


/* HELP and TYPE, before the samples; type is "counter" or "gauge" */

void runcoach_exposition_family(runcoach_exposition_t *x, const char *name,
    const char *type, const char *help);
void runcoach_exposition_sample(runcoach_exposition_t *x, const char *name,
    const runcoach_label_t *labels, size_t n, uint64_t value);


/* a family of one sample without labels */

void runcoach_exposition_value(runcoach_exposition_t *x, const char *name,
    const char *type, const char *help, uint64_t value);


/* a family of its own, in seconds */

void runcoach_exposition_histogram(runcoach_exposition_t *x, const char *name,
    const char *help, const runcoach_histogram_t *h);


#endif /* _RUNCOACH_METRICS_H_INCLUDED_ */
