
/*
 * What the files of ngx_http_runcoach_limit_module share.
 *
 *     module.c  directives, the handler, variables
 *     policy.c  policies, and what they mean for a request
 *     charge.c  decisions, and calls of the script
 *     zone.c    nodes of clients
 *     status.c  what an operator sees and resets
 *
 * A node is of a client under a policy.  It is in shared memory, and is only
 * touched under the mutex of the zone; a pointer to it is good for as long.
 */


#ifndef _NGX_HTTP_RUNCOACH_LIMIT_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_LIMIT_H_INCLUDED_


#include "ngx_http_runcoach.h"

#include "lib/runcoach_bucket.h"
#include "lib/runcoach_bucket_script.h"
#include "lib/runcoach_lease.h"
#include "lib/runcoach_number.h"
#include "lib/runcoach_siphash.h"


#define NGX_HTTP_RUNCOACH_LIMIT_MAX     RUNCOACH_LEASE_KEYS
#define NGX_HTTP_RUNCOACH_LIMIT_NAME    64

/* base64url of 128 bits: whom Redis knows by it */

#define NGX_HTTP_RUNCOACH_LIMIT_DIGEST  22

/* a call of the script for n keys, besides the beginning of its command */

#define NGX_HTTP_RUNCOACH_LIMIT_CALL(n)                                       \
    (3 * NGX_RUNCOACH_REDIS_NUMBER                                            \
     + (n) * (NGX_RUNCOACH_REDIS_ARG + NGX_HTTP_RUNCOACH_LIMIT_KEY_LEN        \
              + RUNCOACH_BUCKET_ARGS * NGX_RUNCOACH_REDIS_NUMBER))

#define NGX_HTTP_RUNCOACH_LIMIT_KEY_LEN                                       \
    (sizeof("rl:{") - 1 + NGX_HTTP_RUNCOACH_LIMIT_DIGEST                      \
     + sizeof("}:") - 1 + NGX_HTTP_RUNCOACH_LIMIT_NAME)


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_NEW = 0,
    NGX_HTTP_RUNCOACH_LIMIT_WAITING,
    NGX_HTTP_RUNCOACH_LIMIT_ANSWERED,
    NGX_HTTP_RUNCOACH_LIMIT_FAILED,
    NGX_HTTP_RUNCOACH_LIMIT_DONE
} ngx_http_runcoach_limit_state_e;


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_NONE = 0,
    NGX_HTTP_RUNCOACH_LIMIT_PASSED,
    NGX_HTTP_RUNCOACH_LIMIT_REJECTED,
    NGX_HTTP_RUNCOACH_LIMIT_BYPASSED,
    NGX_HTTP_RUNCOACH_LIMIT_DRY_RUN
} ngx_http_runcoach_limit_status_e;


/* whom: a keyed hash of policy and key, which nobody outside can aim at */

typedef struct {
    uint64_t                            hash[RUNCOACH_SIPHASH_128 / 8];
} ngx_http_runcoach_limit_id_t;


typedef struct ngx_http_runcoach_limit_node_s  ngx_http_runcoach_limit_node_t;

struct ngx_http_runcoach_limit_node_s {
    ngx_http_runcoach_limit_node_t     *next;
    ngx_queue_t                         queue;     /* seen last: first */
    ngx_queue_t                         leased;    /* its next is NULL: not */
    ngx_http_runcoach_limit_id_t        id;
    u_char                              digest[NGX_HTTP_RUNCOACH_LIMIT_DIGEST];
    uint64_t                            policy;
    runcoach_lease_t                    lease;
};


typedef struct {
    ngx_queue_t                         queue;
    ngx_queue_t                         leased;
    runcoach_siphash_key_t              secret;

    ngx_runcoach_redis_shared_t         breaker;

    /* for an operator; of all workers, under the mutex as all the rest */

    uint64_t                            passed;
    uint64_t                            rejected;
    uint64_t                            from[RUNCOACH_LEASE_FROM_NOBODY + 1];
    uint64_t                            calls;
    uint64_t                            lost;
    uint64_t                            evicted;
    uint64_t                            forgotten;
    ngx_uint_t                          nodes;

    ngx_uint_t                          mask;
    ngx_http_runcoach_limit_node_t     *buckets[1];
} ngx_http_runcoach_limit_shctx_t;


typedef struct {
    ngx_str_t                           name;
    ngx_http_complex_value_t           *key;
    ngx_http_complex_value_t           *cost;      /* NULL: constant */
    uint64_t                            tokens;    /* also if it is bad */

    runcoach_bucket_rate_t              rate;      /* also if a value is bad */
    runcoach_bucket_rate_t              local;
    uint64_t                            requests;
    uint64_t                            seconds;
    uint64_t                            burst;
    ngx_uint_t                          permille;

    ngx_http_complex_value_t           *rate_value;    /* NULL: constant */
    ngx_http_complex_value_t           *burst_value;

    runcoach_lease_mode_e               failure;
    uint64_t                            id;
    ngx_str_t                           header;    /* empty: not constant */

    /* where it is used, for a policy which is not declared */
    u_char                             *file;
    ngx_uint_t                          line;

    unsigned                            declared:1;
    unsigned                            on:1;
    unsigned                            lease:1;
    unsigned                            complained:1;
} ngx_http_runcoach_limit_policy_t;


typedef struct {
    ngx_array_t                         policies;  /* of pointers */
    ngx_str_t                           evalsha;   /* as Redis reads them */
    ngx_str_t                           eval;
    time_t                              complained;

    /* of the worker */

    ngx_runcoach_redis_t               *redis;     /* NULL: all is local */
    ngx_http_runcoach_limit_shctx_t    *sh;
    ngx_slab_pool_t                    *shpool;
    ngx_event_t                         idle;
    ngx_event_t                         again;     /* posted */
    ngx_queue_t                         resend;
    ngx_queue_t                         free;
} ngx_http_runcoach_limit_main_conf_t;


typedef struct {
    ngx_array_t                        *limits;    /* of pointers to policies */
    ngx_uint_t                          dry_run;
    ngx_uint_t                          sample;    /* permille of clients */
    ngx_uint_t                          headers;
    ngx_uint_t                          status;
} ngx_http_runcoach_limit_loc_conf_t;


typedef struct {
    ngx_http_runcoach_limit_policy_t   *policy;
    ngx_http_runcoach_limit_id_t        id;
    ngx_str_t                           key;
    u_char                              digest[NGX_HTTP_RUNCOACH_LIMIT_DIGEST];

    /* those of the policy, unless they come from variables */
    runcoach_bucket_rate_t              rate;
    runcoach_bucket_rate_t              local;

    unsigned                            digested:1;
} ngx_http_runcoach_limit_check_t;


typedef struct ngx_http_runcoach_limit_call_s  ngx_http_runcoach_limit_call_t;

typedef struct {
    ngx_http_request_t                 *request;
    ngx_http_runcoach_limit_call_t     *call;      /* it waits for this one */
    ngx_http_runcoach_limit_state_e     state;
    ngx_http_runcoach_limit_status_e    status;
    runcoach_lease_verdict_e            verdict;
    const runcoach_lease_conf_t        *conf;

    ngx_uint_t                          nchecks;
    ngx_http_runcoach_limit_check_t    *checks;
    runcoach_lease_key_t               *keys;      /* one for each check */
    ngx_uint_t                          decisive;

    void                               *report;    /* of status.c */
    ngx_runcoach_redis_cmd_t           *cmd;
} ngx_http_runcoach_limit_ctx_t;


extern ngx_module_t  ngx_http_runcoach_limit_module;

extern const runcoach_lease_conf_t  ngx_http_runcoach_limit_confs[];


/* module.c: cancels what the request waits for; also finds its context */

void ngx_http_runcoach_limit_cleanup(void *data);


/* policy.c */

char *ngx_http_runcoach_limit_policy(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_http_runcoach_limit_policy_t *ngx_http_runcoach_limit_find(ngx_conf_t *cf,
    ngx_str_t *name);

/* its item of RateLimit-Policy: the burst, and the time to fill it */

u_char *ngx_http_runcoach_limit_describe(u_char *p, ngx_str_t *name,
    const runcoach_bucket_rate_t *rate);

/* what the policy means for this request; NGX_DECLINED: its key is empty */

ngx_int_t ngx_http_runcoach_limit_evaluate(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_check_t *check, runcoach_lease_key_t *key);


/* charge.c: from collected checks to a verdict; NGX_AGAIN, or an HTTP status */

ngx_int_t ngx_http_runcoach_limit_charge(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);

/* the client has gone; what its call brings is given back */

void ngx_http_runcoach_limit_abandon(ngx_http_runcoach_limit_ctx_t *ctx);

/* of the worker; the first request brings what a cycle does not know */

ngx_int_t ngx_http_runcoach_limit_init_worker(ngx_http_request_t *r,
    ngx_http_runcoach_limit_main_conf_t *lmcf);
void ngx_http_runcoach_limit_exit_worker(void *data);

u_char *ngx_http_runcoach_limit_redis_key(u_char *p,
    ngx_http_runcoach_limit_policy_t *policy, u_char *digest);

/* for a call: the beginning of both commands, and what it takes of one key */

ngx_int_t ngx_http_runcoach_limit_script(ngx_conf_t *cf,
    ngx_http_runcoach_limit_main_conf_t *lmcf);
u_char *ngx_http_runcoach_limit_write_key(u_char *p,
    ngx_http_runcoach_limit_policy_t *policy, u_char *digest);
u_char *ngx_http_runcoach_limit_write_args(u_char *p,
    const runcoach_bucket_rate_t *rate, const runcoach_bucket_ask_t *ask);
void ngx_http_runcoach_limit_digest(ngx_str_t *key, u_char *digest);


/* zone.c; all but init() with the mutex held */

ngx_int_t ngx_http_runcoach_limit_zone_init(ngx_slab_pool_t *shpool,
    void **data);
void ngx_http_runcoach_limit_identify(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_policy_t *policy, ngx_str_t *key,
    ngx_http_runcoach_limit_id_t *id);

ngx_http_runcoach_limit_node_t *ngx_http_runcoach_limit_lookup(
    ngx_http_runcoach_limit_shctx_t *sh, ngx_http_runcoach_limit_id_t *id);

/* a new node, or NULL: there is no room, nothing may be forgotten for it */

ngx_http_runcoach_limit_node_t *ngx_http_runcoach_limit_insert(
    ngx_http_runcoach_limit_shctx_t *sh, ngx_slab_pool_t *shpool,
    ngx_http_runcoach_limit_id_t *id, uint64_t now);

void ngx_http_runcoach_limit_touch(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_node_t *node);


/* status.c */

typedef struct {
    uint64_t                            passed;
    uint64_t                            rejected;
    uint64_t                            from[RUNCOACH_LEASE_FROM_NOBODY + 1];
    uint64_t                            calls;
    uint64_t                            lost;
    uint64_t                            evicted;
    uint64_t                            forgotten;
    uint64_t                            nodes;
    uint64_t                            opened;    /* of the breaker */
    ngx_uint_t                          open;
} ngx_http_runcoach_limit_counters_t;

/* NGX_DECLINED: no policy is on */

ngx_int_t ngx_http_runcoach_limit_counters(ngx_http_request_t *r,
    ngx_http_runcoach_limit_counters_t *counters);

ngx_int_t ngx_http_runcoach_limit_status_ask(ngx_http_request_t *r);
char *ngx_http_runcoach_limit_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* the node of a lease that is not a spare one */

#define ngx_http_runcoach_limit_node(l)                                       \
    ((ngx_http_runcoach_limit_node_t *)                                       \
     ((u_char *) (l) - offsetof(ngx_http_runcoach_limit_node_t, lease)))

#define ngx_http_runcoach_limit_now()                                         \
    ((uint64_t) ngx_current_msec * 1000 + 1)


#endif /* _NGX_HTTP_RUNCOACH_LIMIT_H_INCLUDED_ */
