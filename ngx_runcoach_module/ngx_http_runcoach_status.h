
/*
 * What the files of ngx_http_runcoach_status_module share.
 *
 *     module.c   directives, the log handler, shared memory
 *     metrics.c  counters, and their text for Prometheus
 *     debug.c    the ring of what went wrong, and its JSON
 *
 * What is counted is in shared memory, in a piece that belongs to one worker
 * for as long as it lives and then to the next one, so that counters only go up
 * and none waits for another one's cache line.  The first piece is for those
 * who find no other.  Nothing takes a lock.
 */


#ifndef _NGX_HTTP_RUNCOACH_STATUS_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_STATUS_H_INCLUDED_


#include "ngx_http_runcoach_limit.h"

#include "lib/runcoach_metrics.h"
#include "lib/runcoach_ring.h"


#define NGX_HTTP_RUNCOACH_STATUS_PIECES   34

/* 1xx to 5xx, and what had no answer */

#define NGX_HTTP_RUNCOACH_STATUS_CLASSES  6
#define NGX_HTTP_RUNCOACH_STATUS_LIMITS   (NGX_HTTP_RUNCOACH_LIMIT_DRY_RUN + 1)
#define NGX_HTTP_RUNCOACH_STATUS_SOURCES  (RUNCOACH_LEASE_FROM_NOBODY + 1)
#define NGX_HTTP_RUNCOACH_STATUS_SIGNED   4

/* so many names are told apart, and the rest is one more, "other" */

#define NGX_HTTP_RUNCOACH_STATUS_METHODS  16
#define NGX_HTTP_RUNCOACH_STATUS_REASONS  48
#define NGX_HTTP_RUNCOACH_STATUS_NAME     47

#define NGX_HTTP_RUNCOACH_DEBUG_LOGS      1000
#define NGX_HTTP_RUNCOACH_DEBUG_ERRORS    100
#define NGX_HTTP_RUNCOACH_DEBUG_TIMINGS   100


/* what a request has come to */

typedef struct {
    ngx_uint_t                     status;
    ngx_msec_int_t                 ms;
    ngx_int_t                      auth;
    ngx_str_t                      method;    /* by which it was accepted */
    ngx_str_t                      reason;    /* for which it was not */
    ngx_uint_t                     limit;
    ngx_uint_t                     source;
    ngx_str_t                      policy;
    ngx_int_t                      nsigned;   /* NGX_DECLINED: not for any */
    ngx_str_t                      signed_for;
    ngx_uint_t                     upstream_status;  /* 0: none */
    ngx_msec_int_t                 upstream;         /* -1: none */
    ngx_msec_int_t                 connect;
    ngx_msec_int_t                 header;
} ngx_http_runcoach_status_facts_t;


/* a name takes its place once, and keeps it: 0 free, 1 half written, 2 there */

typedef struct {
    uint64_t                       state;
    u_char                         len;
    u_char                         text[NGX_HTTP_RUNCOACH_STATUS_NAME];
} ngx_http_runcoach_status_name_t;


typedef struct {
    uint64_t              classes[NGX_HTTP_RUNCOACH_STATUS_CLASSES];
    uint64_t              accepted[NGX_HTTP_RUNCOACH_STATUS_METHODS + 1];
    uint64_t              anonymous;
    uint64_t              refused[NGX_HTTP_RUNCOACH_STATUS_REASONS + 1];
    uint64_t              unavailable[NGX_HTTP_RUNCOACH_STATUS_REASONS + 1];
    uint64_t              limits[NGX_HTTP_RUNCOACH_STATUS_LIMITS]
                                [NGX_HTTP_RUNCOACH_STATUS_SOURCES];
    uint64_t              urls[NGX_HTTP_RUNCOACH_STATUS_SIGNED];
    runcoach_histogram_t  request;
    runcoach_histogram_t  upstream;
    ngx_runcoach_redis_counters_t  redis;
    uint64_t              owner;     /* its process; 0: nobody */
    uint64_t              padding[16];
} ngx_http_runcoach_status_counters_t;


typedef struct {
    ngx_uint_t                           npieces;
    ngx_http_runcoach_status_name_t
                              methods[NGX_HTTP_RUNCOACH_STATUS_METHODS];
    ngx_http_runcoach_status_name_t
                              reasons[NGX_HTTP_RUNCOACH_STATUS_REASONS];
    ngx_http_runcoach_status_counters_t  pieces[1];
} ngx_http_runcoach_status_shctx_t;


typedef struct {
    runcoach_ring_t               *logs;
    runcoach_ring_t               *errors;

    /* milliseconds, one each and three */

    runcoach_ring_t               *requests;
    runcoach_ring_t               *presigns;
    runcoach_ring_t               *upstreams;
} ngx_http_runcoach_debug_shctx_t;


typedef enum {
    NGX_HTTP_RUNCOACH_DEBUG_ANSWER_LOGS = 1,
    NGX_HTTP_RUNCOACH_DEBUG_ANSWER_ERRORS,
    NGX_HTTP_RUNCOACH_DEBUG_ANSWER_TIMING,
    NGX_HTTP_RUNCOACH_DEBUG_ANSWER_CLEAR
} ngx_http_runcoach_debug_answer_e;


typedef struct {
    ngx_flag_t                     ring;
    ngx_msec_t                     slow;
    ngx_uint_t                     metrics;     /* somebody asks for them */
    ngx_uint_t                     debug;
    ngx_int_t                      request_id;  /* index of the variable */

    /* of the worker */

    ngx_http_runcoach_status_shctx_t     *sh;         /* NULL: no metrics */
    ngx_http_runcoach_status_counters_t  *counters;
    ngx_uint_t                            own;        /* nobody else's */
    u_char                               *method;     /* the last one ... */
    ngx_uint_t                            place;      /* ... and its place */
    ngx_http_runcoach_debug_shctx_t      *rings;      /* NULL: off */
    ngx_runcoach_redis_t                 *redis;      /* NULL: none */
    ngx_uint_t                            trouble;    /* unsigned trouble:1; */
} ngx_http_runcoach_status_main_conf_t;


typedef struct {
    ngx_flag_t                     count;
    ngx_uint_t                     answer;      /* of runcoach_debug */
} ngx_http_runcoach_status_loc_conf_t;


extern ngx_module_t  ngx_http_runcoach_status_module;


/* metrics.c */

void ngx_http_runcoach_status_count(ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_http_runcoach_status_facts_t *facts);
ngx_int_t ngx_http_runcoach_metrics_handler(ngx_http_request_t *r);


/* debug.c */

ngx_int_t ngx_http_runcoach_debug_zone_init(ngx_slab_pool_t *shpool,
    void **data);
void ngx_http_runcoach_debug_note(ngx_http_request_t *r,
    ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_http_runcoach_status_facts_t *facts);
ngx_int_t ngx_http_runcoach_debug_handler(ngx_http_request_t *r);


/*
 * module.c.  GET and HEAD, or POST; NGX_HTTP_NOT_ALLOWED after the header Allow
 * was set.
 */

ngx_int_t ngx_http_runcoach_status_method(ngx_http_request_t *r,
    ngx_uint_t allowed);

/* the whole answer, which nobody keeps */

ngx_int_t ngx_http_runcoach_status_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, ngx_buf_t *b);


#endif /* _NGX_HTTP_RUNCOACH_STATUS_H_INCLUDED_ */
