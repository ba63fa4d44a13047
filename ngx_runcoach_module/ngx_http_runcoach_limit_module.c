
#include "ngx_http_runcoach.h"

#include <ngx_sha1.h>
#include <openssl/sha.h>

#include "lib/runcoach_bucket.h"
#include "lib/runcoach_bucket_script.h"


#define NGX_HTTP_RUNCOACH_LIMIT_MAX            8   /* policies of a location */
#define NGX_HTTP_RUNCOACH_LIMIT_NAME           64

#define NGX_HTTP_RUNCOACH_LIMIT_DEF_REQUESTS   300
#define NGX_HTTP_RUNCOACH_LIMIT_DEF_WINDOW     60
#define NGX_HTTP_RUNCOACH_LIMIT_DEF_BURST      20

#define NGX_HTTP_RUNCOACH_LIMIT_PREFIX         "rl:{"
#define NGX_HTTP_RUNCOACH_LIMIT_DIGEST         16

#define NGX_HTTP_RUNCOACH_LIMIT_COMPLAIN       10    /* seconds */


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_LOCAL = 0,
    NGX_HTTP_RUNCOACH_LIMIT_OPEN,
    NGX_HTTP_RUNCOACH_LIMIT_CLOSED
} ngx_http_runcoach_limit_failure_e;


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_NEW = 0,
    NGX_HTTP_RUNCOACH_LIMIT_WAITING,
    NGX_HTTP_RUNCOACH_LIMIT_NOSCRIPT,
    NGX_HTTP_RUNCOACH_LIMIT_ANSWERED,
    NGX_HTTP_RUNCOACH_LIMIT_FAILED,
    NGX_HTTP_RUNCOACH_LIMIT_DONE
} ngx_http_runcoach_limit_state_e;


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_NONE = 0,
    NGX_HTTP_RUNCOACH_LIMIT_PASSED,
    NGX_HTTP_RUNCOACH_LIMIT_REJECTED,
    NGX_HTTP_RUNCOACH_LIMIT_BYPASSED
} ngx_http_runcoach_limit_status_e;


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_VAR_STATUS = 0,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_SOURCE,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_POLICY
} ngx_http_runcoach_limit_text_e;


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_VAR_LIMIT = 0,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_REMAINING,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_RESET,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER
} ngx_http_runcoach_limit_number_e;


/* a client under a policy; the name of the policy is hashed, as it may go */

typedef struct {
    u_char                              digest[NGX_HTTP_RUNCOACH_LIMIT_DIGEST];
    u_char                              policy[8];
} ngx_http_runcoach_limit_id_t;


typedef struct {
    ngx_rbtree_node_t                   node;
    ngx_queue_t                         queue;
    ngx_http_runcoach_limit_id_t        id;
    runcoach_bucket_t                   bucket;
    ngx_msec_t                          full;
} ngx_http_runcoach_limit_node_t;


typedef struct {
    ngx_rbtree_t                        rbtree;
    ngx_rbtree_node_t                   sentinel;
    ngx_queue_t                         queue;
} ngx_http_runcoach_limit_shctx_t;


typedef struct {
    ngx_str_t                           name;
    ngx_http_complex_value_t           *key;
    runcoach_bucket_rate_t              rate;
    runcoach_bucket_rate_t              local;
    uint64_t                            burst;
    uint64_t                            seconds;   /* to fill the burst */
    ngx_http_runcoach_limit_failure_e   failure;
    ngx_str_t                           args[RUNCOACH_BUCKET_SCRIPT_ARGS];
    u_char                              id[8];

    /* where it is used, for a policy which is not declared */
    u_char                             *file;
    ngx_uint_t                          line;

    unsigned                            declared:1;
    unsigned                            on:1;
} ngx_http_runcoach_limit_policy_t;


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_RATE = 0,
    NGX_HTTP_RUNCOACH_LIMIT_REQUESTS,
    NGX_HTTP_RUNCOACH_LIMIT_WINDOW,
    NGX_HTTP_RUNCOACH_LIMIT_BURST,
    NGX_HTTP_RUNCOACH_LIMIT_KEY,
    NGX_HTTP_RUNCOACH_LIMIT_FAILURE,
    NGX_HTTP_RUNCOACH_LIMIT_SHARE,
    NGX_HTTP_RUNCOACH_LIMIT_PARAMS
} ngx_http_runcoach_limit_param_e;


/* a value is null if it is to come from the environment and is not set there */

typedef struct {
    ngx_str_t                           value;
    ngx_uint_t                          given;     /* unsigned  given:1; */
} ngx_http_runcoach_limit_param_t;


typedef struct {
    ngx_array_t                         policies;  /* of pointers */
    ngx_str_t                           sha1;
    time_t                              complained;
} ngx_http_runcoach_limit_main_conf_t;


typedef struct {
    ngx_array_t                        *limits;    /* of pointers to policies */
} ngx_http_runcoach_limit_loc_conf_t;


typedef struct {
    ngx_http_runcoach_limit_policy_t   *policy;
    ngx_http_runcoach_limit_id_t        id;
    runcoach_bucket_verdict_t           verdict;
} ngx_http_runcoach_limit_check_t;


typedef struct {
    ngx_http_request_t                 *request;
    ngx_runcoach_redis_cmd_t           *cmd;
    ngx_http_runcoach_limit_state_e     state;
    ngx_http_runcoach_limit_status_e    status;
    ngx_str_t                          *source;

    ngx_uint_t                          argc;
    ngx_str_t                          *argv;
    ngx_uint_t                          eval;      /* unsigned  eval:1; */

    ngx_uint_t                          nchecks;
    ngx_http_runcoach_limit_check_t    *checks;
    ngx_http_runcoach_limit_check_t    *decisive;
} ngx_http_runcoach_limit_ctx_t;


static ngx_int_t ngx_http_runcoach_limit_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_limit_collect(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx,
    const ngx_http_runcoach_limit_loc_conf_t *llcf);
static ngx_int_t ngx_http_runcoach_limit_ask(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_limit_create_argv(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);
static void ngx_http_runcoach_limit_reply(void *data, redisReply *reply);
static ngx_int_t ngx_http_runcoach_limit_parse_reply(
    ngx_http_runcoach_limit_ctx_t *ctx, redisReply *reply);
static void ngx_http_runcoach_limit_complain(ngx_http_request_t *r,
    redisReply *reply);
static ngx_int_t ngx_http_runcoach_limit_fallback(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_limit_local(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_limit_verdict(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_http_runcoach_limit_check_t *ngx_http_runcoach_limit_decisive(
    ngx_http_runcoach_limit_ctx_t *ctx);
static uint64_t ngx_http_runcoach_limit_seconds(uint64_t us);
static void ngx_http_runcoach_limit_cleanup(void *data);

static ngx_int_t ngx_http_runcoach_limit_zone_init(ngx_slab_pool_t *shpool,
    void **data);
static void ngx_http_runcoach_limit_rbtree_insert_value(
    ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel);
static ngx_http_runcoach_limit_node_t *ngx_http_runcoach_limit_lookup(
    ngx_http_runcoach_limit_shctx_t *sh, ngx_http_runcoach_limit_id_t *id);
static void ngx_http_runcoach_limit_store(ngx_slab_pool_t *shpool,
    ngx_http_runcoach_limit_shctx_t *sh, ngx_http_runcoach_limit_id_t *id,
    runcoach_bucket_t *bucket, uint64_t reset_us);
static void ngx_http_runcoach_limit_expire(ngx_slab_pool_t *shpool,
    ngx_http_runcoach_limit_shctx_t *sh, ngx_uint_t n);

static ngx_http_runcoach_limit_ctx_t *ngx_http_runcoach_limit_done(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_limit_text_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_limit_number_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_limit_ratelimit_variable(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_limit_ratelimit_policy_variable(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);

static void *ngx_http_runcoach_limit_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_runcoach_limit_create_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_limit_merge_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_runcoach_limit_policy(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_runcoach_limit_policy_name(ngx_conf_t *cf,
    ngx_str_t *name);
static ngx_int_t ngx_http_runcoach_limit_policy_params(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_failure(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_rate(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_args(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy);
static char *ngx_http_runcoach_limit(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_http_runcoach_limit_policy_t *ngx_http_runcoach_limit_find(
    ngx_conf_t *cf, ngx_str_t *name);
static ngx_int_t ngx_http_runcoach_limit_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_limit_init(ngx_conf_t *cf);


static ngx_conf_enum_t  ngx_http_runcoach_limit_failures[] = {
    { ngx_string("local"), NGX_HTTP_RUNCOACH_LIMIT_LOCAL },
    { ngx_string("open"), NGX_HTTP_RUNCOACH_LIMIT_OPEN },
    { ngx_string("closed"), NGX_HTTP_RUNCOACH_LIMIT_CLOSED },
    { ngx_null_string, 0 }
};


static const char  *ngx_http_runcoach_limit_params[] = {
    "rate", "requests", "window", "burst", "key", "failure", "share"
};


static ngx_command_t  ngx_http_runcoach_limit_commands[] = {

    { ngx_string("runcoach_limit_policy"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_runcoach_limit_policy,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_limit"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_runcoach_limit,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_limit_module_ctx = {
    ngx_http_runcoach_limit_variables,        /* preconfiguration */
    ngx_http_runcoach_limit_init,             /* postconfiguration */

    ngx_http_runcoach_limit_create_main_conf, /* create main conf */
    NULL,                                     /* init main conf */

    NULL,                                     /* create server conf */
    NULL,                                     /* merge server conf */

    ngx_http_runcoach_limit_create_conf,      /* create location conf */
    ngx_http_runcoach_limit_merge_conf        /* merge location conf */
};


ngx_module_t  ngx_http_runcoach_limit_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_limit_module_ctx,   /* module context */
    ngx_http_runcoach_limit_commands,      /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_runcoach_limit_vars[] = {

    { ngx_string("runcoach_limit_status"), NULL,
      ngx_http_runcoach_limit_text_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_STATUS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_limit_source"), NULL,
      ngx_http_runcoach_limit_text_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_SOURCE, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_limit_policy"), NULL,
      ngx_http_runcoach_limit_text_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_POLICY, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_limit_limit"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_LIMIT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_limit_remaining"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_REMAINING, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_limit_reset"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_RESET, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_limit_retry_after"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_ratelimit"), NULL,
      ngx_http_runcoach_limit_ratelimit_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_ratelimit_policy"), NULL,
      ngx_http_runcoach_limit_ratelimit_policy_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_str_t  ngx_http_runcoach_limit_script =
    ngx_string(RUNCOACH_BUCKET_SCRIPT);

static ngx_str_t  ngx_http_runcoach_limit_redis = ngx_string("redis");
static ngx_str_t  ngx_http_runcoach_limit_zone = ngx_string("local");


static ngx_str_t  ngx_http_runcoach_limit_status[] = {
    ngx_null_string,
    ngx_string("PASSED"),
    ngx_string("REJECTED"),
    ngx_string("BYPASSED")
};


static ngx_int_t
ngx_http_runcoach_limit_handler(ngx_http_request_t *r)
{
    ngx_int_t                            rc;
    ngx_http_runcoach_limit_ctx_t       *ctx;
    ngx_http_runcoach_limit_loc_conf_t  *llcf;

    if (r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_limit_module,
                                    ngx_http_runcoach_limit_cleanup);

    if (ctx == NULL) {
        llcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_limit_module);

        if (llcf->limits == NULL) {
            return NGX_DECLINED;
        }

        ctx = ngx_http_runcoach_ctx_add(r, &ngx_http_runcoach_limit_module,
                                        ngx_http_runcoach_limit_cleanup,
                                        sizeof(ngx_http_runcoach_limit_ctx_t));
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->request = r;
    }

    switch (ctx->state) {

    case NGX_HTTP_RUNCOACH_LIMIT_WAITING:
        return NGX_AGAIN;

    case NGX_HTTP_RUNCOACH_LIMIT_NOSCRIPT:
        return ngx_http_runcoach_limit_ask(r, ctx);

    case NGX_HTTP_RUNCOACH_LIMIT_ANSWERED:
        return ngx_http_runcoach_limit_verdict(r, ctx);

    case NGX_HTTP_RUNCOACH_LIMIT_FAILED:
        return ngx_http_runcoach_limit_fallback(r, ctx);

    case NGX_HTTP_RUNCOACH_LIMIT_DONE:

        /* charged or rejected before an internal redirect */

        return NGX_DECLINED;

    case NGX_HTTP_RUNCOACH_LIMIT_NEW:
        break;
    }

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_limit_module);

    rc = ngx_http_runcoach_limit_collect(r, ctx, llcf);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_runcoach_redis(r) == NULL) {
        return ngx_http_runcoach_limit_local(r, ctx);
    }

    return ngx_http_runcoach_limit_ask(r, ctx);
}


static ngx_int_t
ngx_http_runcoach_limit_collect(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx,
    const ngx_http_runcoach_limit_loc_conf_t *llcf)
{
    u_char                              sha256[SHA256_DIGEST_LENGTH];
    size_t                              size;
    ngx_str_t                           key;
    ngx_uint_t                          i;
    ngx_http_runcoach_limit_check_t    *check;
    ngx_http_runcoach_limit_policy_t  **policies;

    /* after an internal redirect, and if nothing was limited before it */

    if (llcf->limits == NULL) {
        return NGX_DECLINED;
    }

    size = llcf->limits->nelts * sizeof(ngx_http_runcoach_limit_check_t);

    ctx->status = NGX_HTTP_RUNCOACH_LIMIT_NONE;
    ctx->nchecks = 0;
    ctx->checks = ngx_palloc(r->pool, size);

    if (ctx->checks == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    policies = llcf->limits->elts;

    for (i = 0; i < llcf->limits->nelts; i++) {

        if (!policies[i]->on) {
            continue;
        }

        if (ngx_http_complex_value(r, policies[i]->key, &key) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (key.len == 0) {
            continue;
        }

        SHA256(key.data, key.len, sha256);

        check = &ctx->checks[ctx->nchecks++];

        check->policy = policies[i];

        ngx_memcpy(check->id.digest, sha256, NGX_HTTP_RUNCOACH_LIMIT_DIGEST);
        ngx_memcpy(check->id.policy, policies[i]->id,
                   sizeof(check->id.policy));
    }

    if (ctx->nchecks == 0) {
        ctx->status = NGX_HTTP_RUNCOACH_LIMIT_BYPASSED;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_ask(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    if (ctx->argv == NULL
        && ngx_http_runcoach_limit_create_argv(r, ctx) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->state == NGX_HTTP_RUNCOACH_LIMIT_NOSCRIPT) {
        ctx->eval = 1;

        ngx_str_set(&ctx->argv[0], "EVAL");
        ctx->argv[1] = ngx_http_runcoach_limit_script;
    }

    ctx->cmd = ngx_runcoach_redis_send(ngx_http_runcoach_redis(r), ctx->argc,
                                       ctx->argv, ngx_http_runcoach_limit_reply,
                                       ctx);
    if (ctx->cmd == NULL) {
        return ngx_http_runcoach_limit_fallback(r, ctx);
    }

    ctx->state = NGX_HTTP_RUNCOACH_LIMIT_WAITING;

    return ngx_http_runcoach_await(r);
}


/*
 * The braces are the hash tag of Redis Cluster: all policies of one client are
 * in one slot.  The client is hashed, so that the key is short, says nothing
 * about a person and cannot be forged by what a client sends.
 */

static ngx_int_t
ngx_http_runcoach_limit_create_argv(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    size_t                                len;
    u_char                               *p;
    ngx_str_t                            *arg, digest, base64;
    ngx_uint_t                            i, k;
    ngx_http_runcoach_limit_check_t      *check;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_limit_module);

    ctx->argc = 3 + ctx->nchecks * (1 + RUNCOACH_BUCKET_SCRIPT_ARGS);
    ctx->argv = ngx_palloc(r->pool, ctx->argc * sizeof(ngx_str_t));

    len = NGX_INT_T_LEN;

    for (i = 0; i < ctx->nchecks; i++) {
        len += sizeof(NGX_HTTP_RUNCOACH_LIMIT_PREFIX) - 1
               + ngx_base64_encoded_length(NGX_HTTP_RUNCOACH_LIMIT_DIGEST)
               + sizeof("}:") - 1 + ctx->checks[i].policy->name.len;
    }

    p = ngx_pnalloc(r->pool, len);

    if (ctx->argv == NULL || p == NULL) {
        return NGX_ERROR;
    }

    arg = ctx->argv;

    ngx_str_set(arg, "EVALSHA");
    arg++;

    *arg++ = lmcf->sha1;

    arg->data = p;
    p = ngx_sprintf(p, "%ui", ctx->nchecks);
    arg->len = p - arg->data;
    arg++;

    for (i = 0; i < ctx->nchecks; i++) {
        check = &ctx->checks[i];

        arg->data = p;

        p = ngx_cpymem(p, NGX_HTTP_RUNCOACH_LIMIT_PREFIX,
                       sizeof(NGX_HTTP_RUNCOACH_LIMIT_PREFIX) - 1);

        digest.data = check->id.digest;
        digest.len = NGX_HTTP_RUNCOACH_LIMIT_DIGEST;
        base64.data = p;

        ngx_encode_base64url(&base64, &digest);

        p = ngx_sprintf(p + base64.len, "}:%V", &check->policy->name);

        arg->len = p - arg->data;
        arg++;
    }

    for (i = 0; i < ctx->nchecks; i++) {

        for (k = 0; k < RUNCOACH_BUCKET_SCRIPT_ARGS; k++) {
            *arg++ = ctx->checks[i].policy->args[k];
        }
    }

    return NGX_OK;
}


/* records and wakes: the request runs when the connection has been read */

static void
ngx_http_runcoach_limit_reply(void *data, redisReply *reply)
{
    ngx_http_runcoach_limit_ctx_t *ctx = data;

    ctx->cmd = NULL;

    if (reply == NULL) {
        ctx->state = NGX_HTTP_RUNCOACH_LIMIT_FAILED;

    } else if (ngx_http_runcoach_limit_parse_reply(ctx, reply) == NGX_OK) {
        ctx->state = NGX_HTTP_RUNCOACH_LIMIT_ANSWERED;

    } else if (reply->type == REDIS_REPLY_ERROR && !ctx->eval
               && ngx_strncmp(reply->str, "NOSCRIPT", 8) == 0)
    {
        ctx->state = NGX_HTTP_RUNCOACH_LIMIT_NOSCRIPT;

    } else {
        ngx_http_runcoach_limit_complain(ctx->request, reply);
        ctx->state = NGX_HTTP_RUNCOACH_LIMIT_FAILED;
    }

    ngx_http_runcoach_wake(ctx->request);
}


static ngx_int_t
ngx_http_runcoach_limit_parse_reply(ngx_http_runcoach_limit_ctx_t *ctx,
    redisReply *reply)
{
    ngx_uint_t                   i;
    redisReply                 **result;
    runcoach_bucket_verdict_t   *verdict;

    if (reply->type != REDIS_REPLY_ARRAY
        || reply->elements
           != 1 + ctx->nchecks * RUNCOACH_BUCKET_SCRIPT_RESULTS)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < reply->elements; i++) {

        if (reply->element[i]->type != REDIS_REPLY_INTEGER) {
            return NGX_ERROR;
        }
    }

    result = &reply->element[1];

    for (i = 0; i < ctx->nchecks; i++) {
        verdict = &ctx->checks[i].verdict;

        verdict->allowed = (result[0]->integer == 1);
        verdict->remaining = ngx_max(result[1]->integer, 0);
        verdict->retry_us = result[2]->integer;
        verdict->reset_us = ngx_max(result[3]->integer, 0);

        result += RUNCOACH_BUCKET_SCRIPT_RESULTS;
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_limit_complain(ngx_http_request_t *r, redisReply *reply)
{
    ngx_str_t                             text;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_limit_module);

    /* Redis may be out of memory for long, and requests are many */

    if (ngx_time() - lmcf->complained < NGX_HTTP_RUNCOACH_LIMIT_COMPLAIN) {
        return;
    }

    lmcf->complained = ngx_time();

    if (reply->type == REDIS_REPLY_ERROR) {
        text.data = (u_char *) reply->str;
        text.len = reply->len;

    } else {
        ngx_str_set(&text, "unexpected type of reply");
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "redis could not run the script of runcoach_limit: \"%V\"",
                  &text);
}


static ngx_int_t
ngx_http_runcoach_limit_fallback(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_uint_t                        i, n;
    ngx_http_runcoach_limit_check_t  *check;

    n = 0;

    for (i = 0; i < ctx->nchecks; i++) {
        check = &ctx->checks[i];

        if (check->policy->failure == NGX_HTTP_RUNCOACH_LIMIT_CLOSED) {
            ctx->state = NGX_HTTP_RUNCOACH_LIMIT_DONE;
            ctx->status = NGX_HTTP_RUNCOACH_LIMIT_REJECTED;

            return NGX_HTTP_SERVICE_UNAVAILABLE;
        }

        if (check->policy->failure == NGX_HTTP_RUNCOACH_LIMIT_LOCAL) {
            ctx->checks[n++] = *check;
        }
    }

    ctx->nchecks = n;

    if (n == 0) {
        ctx->state = NGX_HTTP_RUNCOACH_LIMIT_DONE;
        ctx->status = NGX_HTTP_RUNCOACH_LIMIT_BYPASSED;

        return NGX_DECLINED;
    }

    return ngx_http_runcoach_limit_local(r, ctx);
}


/* the same three steps as in the script: load all, check all, write all */

static ngx_int_t
ngx_http_runcoach_limit_local(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    int                               all, stepped[NGX_HTTP_RUNCOACH_LIMIT_MAX];
    uint64_t                          now;
    ngx_uint_t                        i;
    ngx_slab_pool_t                  *shpool;
    runcoach_bucket_t                 buckets[NGX_HTTP_RUNCOACH_LIMIT_MAX];
    ngx_http_runcoach_limit_node_t   *node;
    ngx_http_runcoach_limit_check_t  *check;
    ngx_http_runcoach_limit_shctx_t  *sh;

    sh = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_LIMIT, &shpool);
    if (sh == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->source = &ngx_http_runcoach_limit_zone;

    all = 1;
    now = (uint64_t) ngx_current_msec * 1000;

    ngx_memzero(buckets, sizeof(buckets));

    ngx_shmtx_lock(&shpool->mutex);

    for (i = 0; i < ctx->nchecks; i++) {
        check = &ctx->checks[i];

        node = ngx_http_runcoach_limit_lookup(sh, &check->id);

        if (node != NULL
            && (ngx_msec_int_t) (node->full - ngx_current_msec) > 0)
        {
            buckets[i] = node->bucket;
        }

        stepped[i] = runcoach_bucket_advance(&buckets[i],
                                             &check->policy->local, now);

        runcoach_bucket_check(&buckets[i], &check->policy->local, 1,
                              &check->verdict);

        all = all && check->verdict.allowed;
    }

    for (i = 0; i < ctx->nchecks; i++) {
        check = &ctx->checks[i];

        if (all) {
            runcoach_bucket_spend(&buckets[i], &check->policy->local, 1);
            runcoach_bucket_check(&buckets[i], &check->policy->local, 0,
                                  &check->verdict);
        }

        if (all || stepped[i]) {
            ngx_http_runcoach_limit_store(shpool, sh, &check->id, &buckets[i],
                                          check->verdict.reset_us);
        }
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return ngx_http_runcoach_limit_verdict(r, ctx);
}


static ngx_int_t
ngx_http_runcoach_limit_verdict(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_http_runcoach_limit_check_t  *check;

    if (ctx->source == NULL) {
        ctx->source = &ngx_http_runcoach_limit_redis;
    }

    check = ngx_http_runcoach_limit_decisive(ctx);

    ctx->decisive = check;
    ctx->state = NGX_HTTP_RUNCOACH_LIMIT_DONE;

    if (check->verdict.allowed) {
        ctx->status = NGX_HTTP_RUNCOACH_LIMIT_PASSED;
        return NGX_DECLINED;
    }

    ctx->status = NGX_HTTP_RUNCOACH_LIMIT_REJECTED;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "limiting requests by policy \"%V\" (%V)",
                  &check->policy->name, ctx->source);

    return NGX_HTTP_TOO_MANY_REQUESTS;
}


/* who denies for longest, else who is nearest to it */

static ngx_http_runcoach_limit_check_t *
ngx_http_runcoach_limit_decisive(ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_uint_t                        i;
    runcoach_bucket_verdict_t        *v, *w;
    ngx_http_runcoach_limit_check_t  *check, *worst;

    worst = &ctx->checks[0];

    for (i = 1; i < ctx->nchecks; i++) {
        check = &ctx->checks[i];

        v = &check->verdict;
        w = &worst->verdict;

        if (v->allowed != w->allowed) {

            if (!v->allowed) {
                worst = check;
            }

            continue;
        }

        if (!v->allowed) {

            if (w->retry_us >= 0
                && (v->retry_us < 0 || v->retry_us > w->retry_us))
            {
                worst = check;
            }

            continue;
        }

        if ((double) v->remaining / (double) check->policy->burst
            < (double) w->remaining / (double) worst->policy->burst)
        {
            worst = check;
        }
    }

    return worst;
}


static uint64_t
ngx_http_runcoach_limit_seconds(uint64_t us)
{
    return (us + 999999) / 1000000;
}


static void
ngx_http_runcoach_limit_cleanup(void *data)
{
    ngx_http_runcoach_limit_ctx_t *ctx = data;

    if (ctx->cmd != NULL) {
        ngx_runcoach_redis_cancel(ctx->cmd);
        ctx->cmd = NULL;
    }
}


static ngx_int_t
ngx_http_runcoach_limit_zone_init(ngx_slab_pool_t *shpool, void **data)
{
    ngx_http_runcoach_limit_shctx_t  *sh;

    sh = ngx_slab_alloc(shpool, sizeof(ngx_http_runcoach_limit_shctx_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&sh->rbtree, &sh->sentinel,
                    ngx_http_runcoach_limit_rbtree_insert_value);

    ngx_queue_init(&sh->queue);

    *data = sh;

    return NGX_OK;
}


static void
ngx_http_runcoach_limit_rbtree_insert_value(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_rbtree_node_t               **p;
    ngx_http_runcoach_limit_node_t   *ln, *lnt;

    for ( ;; ) {

        if (node->key < temp->key) {

            p = &temp->left;

        } else if (node->key > temp->key) {

            p = &temp->right;

        } else { /* node->key == temp->key */

            ln = (ngx_http_runcoach_limit_node_t *) node;
            lnt = (ngx_http_runcoach_limit_node_t *) temp;

            p = (ngx_memcmp(&ln->id, &lnt->id,
                            sizeof(ngx_http_runcoach_limit_id_t))
                 < 0)
                ? &temp->left : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


static ngx_http_runcoach_limit_node_t *
ngx_http_runcoach_limit_lookup(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_id_t *id)
{
    ngx_int_t                        rc;
    ngx_rbtree_key_t                 key;
    ngx_rbtree_node_t               *node, *sentinel;
    ngx_http_runcoach_limit_node_t  *ln;

    ngx_memcpy(&key, id->digest, sizeof(ngx_rbtree_key_t));

    node = sh->rbtree.root;
    sentinel = sh->rbtree.sentinel;

    while (node != sentinel) {

        if (key < node->key) {
            node = node->left;
            continue;
        }

        if (key > node->key) {
            node = node->right;
            continue;
        }

        /* key == node->key */

        ln = (ngx_http_runcoach_limit_node_t *) node;

        rc = ngx_memcmp(id, &ln->id, sizeof(ngx_http_runcoach_limit_id_t));

        if (rc == 0) {
            ngx_queue_remove(&ln->queue);
            ngx_queue_insert_head(&sh->queue, &ln->queue);

            return ln;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


static void
ngx_http_runcoach_limit_store(ngx_slab_pool_t *shpool,
    ngx_http_runcoach_limit_shctx_t *sh, ngx_http_runcoach_limit_id_t *id,
    runcoach_bucket_t *bucket, uint64_t reset_us)
{
    ngx_http_runcoach_limit_node_t  *ln;

    ln = ngx_http_runcoach_limit_lookup(sh, id);

    if (ln == NULL) {
        ngx_http_runcoach_limit_expire(shpool, sh, 1);

        ln = ngx_slab_alloc_locked(shpool,
                                   sizeof(ngx_http_runcoach_limit_node_t));

        if (ln == NULL) {
            ngx_http_runcoach_limit_expire(shpool, sh, 0);

            ln = ngx_slab_alloc_locked(shpool,
                                       sizeof(ngx_http_runcoach_limit_node_t));
        }

        /* others may have filled the zone: a client is forgotten, and passes */

        if (ln == NULL) {
            return;
        }

        ln->id = *id;

        ngx_memcpy(&ln->node.key, id->digest, sizeof(ngx_rbtree_key_t));

        ngx_rbtree_insert(&sh->rbtree, &ln->node);

        ngx_queue_insert_head(&sh->queue, &ln->queue);
    }

    ln->bucket = *bucket;
    ln->full = ngx_current_msec + (ngx_msec_t) (reset_us / 1000) + 1;
}


static void
ngx_http_runcoach_limit_expire(ngx_slab_pool_t *shpool,
    ngx_http_runcoach_limit_shctx_t *sh, ngx_uint_t n)
{
    ngx_queue_t                     *q;
    ngx_http_runcoach_limit_node_t  *ln;

    /*
     * n == 1 deletes one or two full buckets
     * n == 0 deletes the oldest bucket by force
     *        and one or two full buckets
     */

    while (n < 3) {

        if (ngx_queue_empty(&sh->queue)) {
            return;
        }

        q = ngx_queue_last(&sh->queue);

        ln = ngx_queue_data(q, ngx_http_runcoach_limit_node_t, queue);

        if (n++ != 0
            && (ngx_msec_int_t) (ln->full - ngx_current_msec) > 0)
        {
            return;
        }

        ngx_queue_remove(q);

        ngx_rbtree_delete(&sh->rbtree, &ln->node);

        ngx_slab_free_locked(shpool, ln);
    }
}


static ngx_http_runcoach_limit_ctx_t *
ngx_http_runcoach_limit_done(ngx_http_request_t *r)
{
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_limit_module,
                                    ngx_http_runcoach_limit_cleanup);

    if (ctx == NULL || ctx->status == NGX_HTTP_RUNCOACH_LIMIT_NONE) {
        return NULL;
    }

    return ctx;
}


static ngx_int_t
ngx_http_runcoach_limit_text_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      *text;
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ctx == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    switch (data) {

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_STATUS:
        text = &ngx_http_runcoach_limit_status[ctx->status];
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_SOURCE:
        text = ctx->source;
        break;

    default: /* NGX_HTTP_RUNCOACH_LIMIT_VAR_POLICY */
        text = (ctx->decisive != NULL) ? &ctx->decisive->policy->name : NULL;
        break;
    }

    if (text == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    return ngx_http_runcoach_set_variable(v, text->data, text->len);
}


static ngx_int_t
ngx_http_runcoach_limit_number_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                           *p;
    uint64_t                          n;
    ngx_http_runcoach_limit_ctx_t    *ctx;
    ngx_http_runcoach_limit_check_t  *check;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ctx == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    check = ctx->decisive;

    if (check == NULL
        && (data != NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER
            || ctx->status != NGX_HTTP_RUNCOACH_LIMIT_REJECTED))
    {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    switch (data) {

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_LIMIT:
        n = check->policy->burst;
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_REMAINING:
        n = check->verdict.remaining;
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_RESET:
        n = ngx_http_runcoach_limit_seconds(check->verdict.reset_us);
        break;

    default: /* NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER */

        if (check == NULL) {

            /* rejected for want of Redis, which may be back soon */

            n = 1;
            break;
        }

        if (check->verdict.allowed || check->verdict.retry_us < 0) {
            return ngx_http_runcoach_set_variable(v, NULL, 0);
        }

        n = ngx_http_runcoach_limit_seconds(check->verdict.retry_us);
        n = ngx_max(n, 1);
        break;
    }

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_set_variable(v, p, ngx_sprintf(p, "%uL", n) - p);
}


static ngx_int_t
ngx_http_runcoach_limit_ratelimit_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                         *p, *last;
    uint64_t                        t;
    ngx_str_t                      *name;
    runcoach_bucket_verdict_t      *verdict;
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ctx == NULL || ctx->decisive == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    name = &ctx->decisive->policy->name;
    verdict = &ctx->decisive->verdict;

    t = verdict->reset_us;

    if (!verdict->allowed && verdict->retry_us > 0) {
        t = verdict->retry_us;
    }

    p = ngx_pnalloc(r->pool, sizeof("\"\";r=;t=") - 1 + name->len
                             + 2 * NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = ngx_sprintf(p, "\"%V\";r=%uL;t=%uL", name, verdict->remaining,
                       ngx_http_runcoach_limit_seconds(t));

    return ngx_http_runcoach_set_variable(v, p, last - p);
}


static ngx_int_t
ngx_http_runcoach_limit_ratelimit_policy_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    size_t                             len;
    u_char                            *p, *last;
    ngx_uint_t                         i;
    ngx_http_runcoach_limit_ctx_t     *ctx;
    ngx_http_runcoach_limit_policy_t  *policy;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ctx == NULL || ctx->decisive == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    len = 0;

    for (i = 0; i < ctx->nchecks; i++) {
        len += sizeof(", \"\";q=;w=") - 1 + ctx->checks[i].policy->name.len
               + 2 * NGX_INT64_LEN;
    }

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = p;

    for (i = 0; i < ctx->nchecks; i++) {
        policy = ctx->checks[i].policy;

        last = ngx_sprintf(last, "%s\"%V\";q=%uL;w=%uL", i ? ", " : "",
                           &policy->name, policy->burst, policy->seconds);
    }

    return ngx_http_runcoach_set_variable(v, p, last - p);
}


static void *
ngx_http_runcoach_limit_create_main_conf(ngx_conf_t *cf)
{
    ngx_sha1_t                            sha1;
    u_char                                digest[20];
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_limit_main_conf_t));
    if (lmcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     lmcf->complained = 0;
     */

    if (ngx_array_init(&lmcf->policies, cf->pool, 4, sizeof(void *))
        != NGX_OK)
    {
        return NULL;
    }

    lmcf->sha1.len = 2 * sizeof(digest);
    lmcf->sha1.data = ngx_pnalloc(cf->pool, lmcf->sha1.len);
    if (lmcf->sha1.data == NULL) {
        return NULL;
    }

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, ngx_http_runcoach_limit_script.data,
                    ngx_http_runcoach_limit_script.len);
    ngx_sha1_final(digest, &sha1);

    ngx_hex_dump(lmcf->sha1.data, digest, sizeof(digest));

    return lmcf;
}


static void *
ngx_http_runcoach_limit_create_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_limit_loc_conf_t  *llcf;

    llcf = ngx_palloc(cf->pool, sizeof(ngx_http_runcoach_limit_loc_conf_t));
    if (llcf == NULL) {
        return NULL;
    }

    llcf->limits = NGX_CONF_UNSET_PTR;

    return llcf;
}


static char *
ngx_http_runcoach_limit_merge_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_runcoach_limit_loc_conf_t *prev = parent;
    ngx_http_runcoach_limit_loc_conf_t *conf = child;

    ngx_conf_merge_ptr_value(conf->limits, prev->limits, NULL);

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_limit_policy(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                         *value, *rate;
    ngx_http_compile_complex_value_t   ccv;
    ngx_http_runcoach_limit_param_t    params[NGX_HTTP_RUNCOACH_LIMIT_PARAMS];
    ngx_http_runcoach_limit_policy_t  *policy;

    value = cf->args->elts;

    if (ngx_http_runcoach_limit_policy_name(cf, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    policy = ngx_http_runcoach_limit_find(cf, &value[1]);
    if (policy == NULL) {
        return NGX_CONF_ERROR;
    }

    if (policy->declared) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate policy \"%V\" in runcoach_limit_policy",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    policy->declared = 1;

    if (ngx_http_runcoach_limit_policy_params(cf, policy, params) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    rate = &params[NGX_HTTP_RUNCOACH_LIMIT_RATE].value;

    if (params[NGX_HTTP_RUNCOACH_LIMIT_RATE].given && rate->data == NULL) {
        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "policy \"%V\" in runcoach_limit_policy is off: "
                           "its rate is not set", &policy->name);
        return NGX_CONF_OK;
    }

    policy->key = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (policy->key == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &params[NGX_HTTP_RUNCOACH_LIMIT_KEY].value;
    ccv.complex_value = policy->key;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_runcoach_limit_policy_failure(cf, policy, params) != NGX_OK
        || ngx_http_runcoach_limit_policy_rate(cf, policy, params) != NGX_OK
        || ngx_http_runcoach_limit_policy_args(cf, policy) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    policy->on = 1;

    return NGX_CONF_OK;
}


/* the name is part of Redis keys and of RateLimit headers */

static ngx_int_t
ngx_http_runcoach_limit_policy_name(ngx_conf_t *cf, ngx_str_t *name)
{
    u_char  c, ch;
    size_t  i;

    if (name->len == 0 || name->len > NGX_HTTP_RUNCOACH_LIMIT_NAME
        || ngx_strcmp(name->data, "off") == 0)
    {
        goto invalid;
    }

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];
        c = (u_char) (ch | 0x20);

        if ((c < 'a' || c > 'z') && (ch < '0' || ch > '9') && ch != '_'
            && ch != '-')
        {
            goto invalid;
        }
    }

    return NGX_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid name \"%V\" in runcoach_limit_policy, must be "
                       "up to %d letters, digits, \"_\" or \"-\", and not "
                       "\"off\"", name, NGX_HTTP_RUNCOACH_LIMIT_NAME);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_params(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    ngx_str_t   *value;
    ngx_uint_t   i, n, known;

    ngx_memzero(params, NGX_HTTP_RUNCOACH_LIMIT_PARAMS
                        * sizeof(ngx_http_runcoach_limit_param_t));

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        for (n = 0; n < NGX_HTTP_RUNCOACH_LIMIT_PARAMS; n++) {

            if (ngx_http_runcoach_param(cf, &value[i],
                                        ngx_http_runcoach_limit_params[n],
                                        &params[n].value, &known)
                == NGX_ERROR)
            {
                return NGX_ERROR;
            }

            if (known) {
                break;
            }
        }

        if (n == NGX_HTTP_RUNCOACH_LIMIT_PARAMS || params[n].given) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s parameter \"%V\" in runcoach_limit_policy, "
                               "must be rate=, requests=, window=, burst=, "
                               "key=, failure= or share=, each once",
                               n == NGX_HTTP_RUNCOACH_LIMIT_PARAMS
                               ? "invalid" : "duplicate", &value[i]);
            return NGX_ERROR;
        }

        params[n].given = 1;
    }

    if (params[NGX_HTTP_RUNCOACH_LIMIT_RATE].given
        == (params[NGX_HTTP_RUNCOACH_LIMIT_REQUESTS].given
            || params[NGX_HTTP_RUNCOACH_LIMIT_WINDOW].given))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "policy \"%V\" in runcoach_limit_policy must have "
                           "either rate= or requests= and window=",
                           &policy->name);
        return NGX_ERROR;
    }

    if (params[NGX_HTTP_RUNCOACH_LIMIT_KEY].value.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "policy \"%V\" in runcoach_limit_policy must have "
                           "a key, like key=$runcoach_user", &policy->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_failure(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    ngx_str_t        *value;
    ngx_conf_enum_t  *e;

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_FAILURE].value;

    if (value->data == NULL) {
        return NGX_OK;
    }

    for (e = ngx_http_runcoach_limit_failures; e->name.len != 0; e++) {

        if (e->name.len == value->len
            && ngx_strncmp(e->name.data, value->data, value->len) == 0)
        {
            policy->failure = e->value;
            return NGX_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid failure \"%V\" in runcoach_limit_policy: "
                       "must be local, open or closed", value);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_rate(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    time_t      sec;
    uint64_t    requests, seconds;
    ngx_int_t   n, permille;
    ngx_str_t  *value;

    requests = NGX_HTTP_RUNCOACH_LIMIT_DEF_REQUESTS;
    seconds = NGX_HTTP_RUNCOACH_LIMIT_DEF_WINDOW;

    policy->burst = NGX_HTTP_RUNCOACH_LIMIT_DEF_BURST;
    permille = 1000;

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_RATE].value;

    if (value->data != NULL
        && runcoach_bucket_parse_rate((char *) value->data, value->len,
                                      &requests, &seconds)
           != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid rate \"%V\" in runcoach_limit_policy: "
                           "must be like 5r/s, 300r/m, 1000r/h or 10000r/d",
                           value);
        return NGX_ERROR;
    }

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_REQUESTS].value;

    if (value->data != NULL) {
        n = ngx_atoi(value->data, value->len);

        if (n <= 0 || (uint64_t) n > RUNCOACH_BUCKET_MAX_REQUESTS) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid requests \"%V\" in "
                               "runcoach_limit_policy: must be a number from "
                               "1 to %uL", value,
                               RUNCOACH_BUCKET_MAX_REQUESTS);
            return NGX_ERROR;
        }

        requests = n;
    }

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_WINDOW].value;

    if (value->data != NULL) {
        sec = ngx_parse_time(value, 1);

        if (sec == (time_t) NGX_ERROR || sec <= 0
            || (uint64_t) sec > RUNCOACH_BUCKET_MAX_SECONDS)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid window \"%V\" in "
                               "runcoach_limit_policy: must be seconds, or "
                               "like 1m, up to a year", value);
            return NGX_ERROR;
        }

        seconds = sec;
    }

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_BURST].value;

    if (value->data != NULL) {
        n = ngx_atoi(value->data, value->len);

        if (n <= 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid burst \"%V\" in "
                               "runcoach_limit_policy: must be a number "
                               "from 1", value);
            return NGX_ERROR;
        }

        policy->burst = n;
    }

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_SHARE].value;

    if (value->data != NULL) {
        permille = ngx_atofp(value->data, value->len, 3);

        if (permille <= 0 || permille > 1000) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid share \"%V\" in "
                               "runcoach_limit_policy: must be above 0 and up "
                               "to 1, like 0.25", value);
            return NGX_ERROR;
        }
    }

    if (runcoach_bucket_rate(&policy->rate, requests, seconds, policy->burst)
        != 0
        || runcoach_bucket_share(&policy->local, &policy->rate, permille,
                                 ngx_max(policy->burst * permille / 1000, 1))
           != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "burst %uL is too large for %uL requests in %uL "
                           "seconds in runcoach_limit_policy", policy->burst,
                           requests, seconds);
        return NGX_ERROR;
    }

    if (permille == 1000) {
        policy->local = policy->rate;
    }

    policy->seconds = (policy->rate.c - 1) / (policy->rate.n * 1000000) + 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_args(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy)
{
    u_char      sha256[SHA256_DIGEST_LENGTH];
    uint64_t    args[RUNCOACH_BUCKET_SCRIPT_ARGS];
    ngx_str_t  *arg;
    ngx_uint_t  i;

    args[0] = policy->rate.n;
    args[1] = policy->rate.p;
    args[2] = policy->rate.c;
    args[3] = 1;

    for (i = 0; i < RUNCOACH_BUCKET_SCRIPT_ARGS; i++) {
        arg = &policy->args[i];

        arg->data = ngx_pnalloc(cf->pool, NGX_INT64_LEN);
        if (arg->data == NULL) {
            return NGX_ERROR;
        }

        arg->len = ngx_sprintf(arg->data, "%uL", args[i]) - arg->data;
    }

    SHA256(policy->name.data, policy->name.len, sha256);
    ngx_memcpy(policy->id, sha256, sizeof(policy->id));

    return NGX_OK;
}


static char *
ngx_http_runcoach_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_limit_loc_conf_t *llcf = conf;

    ngx_str_t                          *value;
    ngx_uint_t                          i, n;
    ngx_http_runcoach_limit_policy_t   *policy, **limits, **limit;

    if (llcf->limits != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        llcf->limits = NULL;
        return NGX_CONF_OK;
    }

    if (cf->args->nelts - 1 > NGX_HTTP_RUNCOACH_LIMIT_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "too many policies in runcoach_limit, must be up "
                           "to %d", NGX_HTTP_RUNCOACH_LIMIT_MAX);
        return NGX_CONF_ERROR;
    }

    llcf->limits = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                    sizeof(void *));
    if (llcf->limits == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {
        policy = ngx_http_runcoach_limit_find(cf, &value[i]);
        if (policy == NULL) {
            return NGX_CONF_ERROR;
        }

        limits = llcf->limits->elts;

        for (n = 0; n < llcf->limits->nelts; n++) {

            if (limits[n] == policy) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate policy \"%V\" in runcoach_limit",
                                   &value[i]);
                return NGX_CONF_ERROR;
            }
        }

        limit = ngx_array_push(llcf->limits);
        if (limit == NULL) {
            return NGX_CONF_ERROR;
        }

        *limit = policy;
    }

    return NGX_CONF_OK;
}


/* a policy may be used before it is declared, so it is made by whoever asks */

static ngx_http_runcoach_limit_policy_t *
ngx_http_runcoach_limit_find(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                             i;
    ngx_http_runcoach_limit_policy_t      *policy, **policies, **p;
    ngx_http_runcoach_limit_main_conf_t   *lmcf;

    lmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_limit_module);
    policies = lmcf->policies.elts;

    for (i = 0; i < lmcf->policies.nelts; i++) {

        if (policies[i]->name.len == name->len
            && ngx_strncmp(policies[i]->name.data, name->data, name->len) == 0)
        {
            return policies[i];
        }
    }

    policy = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_limit_policy_t));
    if (policy == NULL) {
        return NULL;
    }

    policy->name = *name;
    policy->file = cf->conf_file->file.name.data;
    policy->line = cf->conf_file->line;

    p = ngx_array_push(&lmcf->policies);
    if (p == NULL) {
        return NULL;
    }

    *p = policy;

    return policy;
}


static ngx_int_t
ngx_http_runcoach_limit_variables(ngx_conf_t *cf)
{
    return ngx_http_runcoach_add_variables(cf, ngx_http_runcoach_limit_vars);
}


static ngx_int_t
ngx_http_runcoach_limit_init(ngx_conf_t *cf)
{
    ngx_uint_t                             i, on;
    ngx_http_handler_pt                   *h;
    ngx_http_core_main_conf_t             *cmcf;
    ngx_http_runcoach_limit_policy_t     **policies;
    ngx_http_runcoach_limit_main_conf_t   *lmcf;

    lmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_limit_module);
    policies = lmcf->policies.elts;
    on = 0;

    for (i = 0; i < lmcf->policies.nelts; i++) {

        if (!policies[i]->declared) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown policy \"%V\" in runcoach_limit, must be "
                          "declared by runcoach_limit_policy in %s:%ui",
                          &policies[i]->name, policies[i]->file,
                          policies[i]->line);
            return NGX_ERROR;
        }

        on = on || policies[i]->on;
    }

    if (!on) {
        return NGX_OK;
    }

    if (ngx_http_runcoach_zone_add(cf, NGX_HTTP_RUNCOACH_ZONE_LIMIT,
                                   ngx_http_runcoach_limit_zone_init)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "runcoach_limit_policy needs shared memory, add "
                      "\"runcoach_zone runcoach:16m;\" to http");
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_runcoach_limit_handler;

    return NGX_OK;
}
