
/*
 * Rate limits.  A request is limited once, in the last phase before content:
 * by then it is known who asks, and who may not has been sent away.
 */


#include "ngx_http_runcoach_limit.h"


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_VAR_STATUS = 0,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_SOURCE,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_POLICY
} ngx_http_runcoach_limit_text_e;


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_VAR_LIMIT = 0,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_REMAINING,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_RESET,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER,
    NGX_HTTP_RUNCOACH_LIMIT_VAR_COST
} ngx_http_runcoach_limit_number_e;


/* bits of runcoach_limit_headers */

#define NGX_HTTP_RUNCOACH_LIMIT_IETF    1
#define NGX_HTTP_RUNCOACH_LIMIT_LEGACY  2


static ngx_int_t ngx_http_runcoach_limit_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_limit_collect(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx,
    const ngx_http_runcoach_limit_loc_conf_t *llcf);
static ngx_int_t ngx_http_runcoach_limit_alloc(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_uint_t n);
static ngx_int_t ngx_http_runcoach_limit_verdict(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_uint_t ngx_http_runcoach_limit_decisive(
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_uint_t ngx_http_runcoach_limit_tighter(runcoach_lease_key_t *a,
    runcoach_lease_key_t *b);
static ngx_uint_t ngx_http_runcoach_limit_enforced(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);

static ngx_http_runcoach_limit_ctx_t *ngx_http_runcoach_limit_done(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_limit_set(ngx_http_variable_value_t *v,
    ngx_http_runcoach_limit_ctx_t *ctx, const u_char *data, size_t len);
static runcoach_lease_key_t *ngx_http_runcoach_limit_decisive_key(
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_limit_text_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_limit_number_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_limit_retry_after(
    ngx_http_runcoach_limit_ctx_t *ctx, uint64_t *n);
static ngx_int_t ngx_http_runcoach_limit_ratelimit_variable(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_limit_ratelimit_policy_variable(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);

static ngx_int_t ngx_http_runcoach_limit_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_limit_ietf(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_limit_legacy(ngx_http_request_t *r,
    runcoach_lease_key_t *key);
static ngx_int_t ngx_http_runcoach_limit_add_number(ngx_http_request_t *r,
    ngx_str_t *name, uint64_t n);
static ngx_int_t ngx_http_runcoach_limit_add_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_http_runcoach_limit_item(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_str_t *value);
static ngx_int_t ngx_http_runcoach_limit_list(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_str_t *value);
static uint64_t ngx_http_runcoach_limit_seconds(uint64_t us);

static void *ngx_http_runcoach_limit_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_runcoach_limit_create_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_limit_merge_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_runcoach_limit(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_limit_mode(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_runcoach_limit_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_limit_init(ngx_conf_t *cf);


static ngx_conf_enum_t  ngx_http_runcoach_limit_headers[] = {
    { ngx_string("off"), 0 },
    { ngx_string("ietf"), NGX_HTTP_RUNCOACH_LIMIT_IETF },
    { ngx_string("legacy"), NGX_HTTP_RUNCOACH_LIMIT_LEGACY },
    { ngx_string("both"), NGX_HTTP_RUNCOACH_LIMIT_IETF
                          |NGX_HTTP_RUNCOACH_LIMIT_LEGACY },
    { ngx_null_string, 0 }
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

    { ngx_string("runcoach_limit_mode"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_runcoach_limit_mode,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_limit_headers"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_runcoach_limit_loc_conf_t, headers),
      &ngx_http_runcoach_limit_headers },

    { ngx_string("runcoach_limit_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_runcoach_limit_status,
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
      NGX_HTTP_RUNCOACH_LIMIT_VAR_STATUS, 0, 0 },

    { ngx_string("runcoach_limit_source"), NULL,
      ngx_http_runcoach_limit_text_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_SOURCE, 0, 0 },

    { ngx_string("runcoach_limit_policy"), NULL,
      ngx_http_runcoach_limit_text_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_POLICY, 0, 0 },

    { ngx_string("runcoach_limit_limit"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_LIMIT, 0, 0 },

    { ngx_string("runcoach_limit_remaining"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_REMAINING, 0, 0 },

    { ngx_string("runcoach_limit_reset"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_RESET, 0, 0 },

    { ngx_string("runcoach_limit_retry_after"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER, 0, 0 },

    { ngx_string("runcoach_limit_cost"), NULL,
      ngx_http_runcoach_limit_number_variable,
      NGX_HTTP_RUNCOACH_LIMIT_VAR_COST, 0, 0 },

    { ngx_string("runcoach_ratelimit"), NULL,
      ngx_http_runcoach_limit_ratelimit_variable,
      0, 0, 0 },

    { ngx_string("runcoach_ratelimit_policy"), NULL,
      ngx_http_runcoach_limit_ratelimit_policy_variable,
      0, 0, 0 },

      ngx_http_null_variable
};


static ngx_str_t  ngx_http_runcoach_limit_statuses[] = {
    ngx_null_string,
    ngx_string("PASSED"),
    ngx_string("REJECTED"),
    ngx_string("BYPASSED"),
    ngx_string("REJECTED_DRY_RUN")
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


/* by runcoach_lease_source_e */

static ngx_str_t  ngx_http_runcoach_limit_sources[] = {
    ngx_string("lease"),
    ngx_string("bound"),
    ngx_string("bound"),
    ngx_string("redis"),
    ngx_string("local"),
    ngx_null_string
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

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_limit_module);

    if (llcf->status) {
        return ngx_http_runcoach_limit_status_ask(r);
    }

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_limit_module,
                                    ngx_http_runcoach_limit_cleanup);

    if (ctx == NULL) {

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

    case NGX_HTTP_RUNCOACH_LIMIT_NEW:
        rc = ngx_http_runcoach_limit_collect(r, ctx, llcf);

        if (rc != NGX_OK) {
            return rc;
        }

        break;

    case NGX_HTTP_RUNCOACH_LIMIT_WAITING:
        return NGX_AGAIN;

    case NGX_HTTP_RUNCOACH_LIMIT_ANSWERED:
        return ngx_http_runcoach_limit_verdict(r, ctx);

    case NGX_HTTP_RUNCOACH_LIMIT_FAILED:
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_DONE:

        /* charged or rejected before an internal redirect */

        return NGX_DECLINED;
    }

    rc = ngx_http_runcoach_limit_charge(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_runcoach_limit_verdict(r, ctx);
}


static ngx_int_t
ngx_http_runcoach_limit_collect(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx,
    const ngx_http_runcoach_limit_loc_conf_t *llcf)
{
    ngx_int_t                              rc;
    ngx_uint_t                             i, lease;
    ngx_http_runcoach_limit_check_t       *check;
    ngx_http_runcoach_limit_policy_t     **policies;
    ngx_http_runcoach_limit_main_conf_t   *lmcf;

    /* after an internal redirect, and if nothing was limited before it */

    if (llcf->limits == NULL) {
        return NGX_DECLINED;
    }

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_limit_module);

    if ((lmcf->sh == NULL
         && ngx_http_runcoach_limit_init_worker(r, lmcf) != NGX_OK)
        || ngx_http_runcoach_limit_alloc(r, ctx, llcf->limits->nelts)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    policies = llcf->limits->elts;
    lease = 1;

    for (i = 0; i < llcf->limits->nelts; i++) {

        if (!policies[i]->on) {
            continue;
        }

        check = &ctx->checks[ctx->nchecks];

        rc = ngx_http_runcoach_limit_evaluate(r, policies[i], check,
                                              &ctx->keys[ctx->nchecks]);

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (rc == NGX_DECLINED) {
            continue;
        }

        ngx_http_runcoach_limit_identify(lmcf->sh, policies[i], &check->key,
                                         &check->id);

        lease = lease && policies[i]->lease;
        ctx->nchecks++;
    }

    if (ctx->nchecks == 0) {
        ctx->status = NGX_HTTP_RUNCOACH_LIMIT_BYPASSED;
        return NGX_DECLINED;
    }

    ctx->conf = &ngx_http_runcoach_limit_confs[lease];

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_alloc(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_uint_t n)
{
    u_char  *p;

    p = ngx_pcalloc(r->pool, n * (sizeof(runcoach_lease_key_t)
                                  + sizeof(ngx_http_runcoach_limit_check_t)));
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->keys = (runcoach_lease_key_t *) p;
    ctx->checks = (ngx_http_runcoach_limit_check_t *) &ctx->keys[n];

    ctx->nchecks = 0;
    ctx->status = NGX_HTTP_RUNCOACH_LIMIT_NONE;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_verdict(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_http_runcoach_limit_check_t  *check;

    ctx->state = NGX_HTTP_RUNCOACH_LIMIT_DONE;
    ctx->decisive = ngx_http_runcoach_limit_decisive(ctx);

    if (ctx->verdict == RUNCOACH_LEASE_PASS) {
        ctx->status = (ctx->decisive < ctx->nchecks)
                      ? NGX_HTTP_RUNCOACH_LIMIT_PASSED
                      : NGX_HTTP_RUNCOACH_LIMIT_BYPASSED;

        return NGX_DECLINED;
    }

    if (!ngx_http_runcoach_limit_enforced(r, ctx)) {
        ctx->status = NGX_HTTP_RUNCOACH_LIMIT_DRY_RUN;
        return NGX_DECLINED;
    }

    ctx->status = NGX_HTTP_RUNCOACH_LIMIT_REJECTED;

    if (ctx->verdict == RUNCOACH_LEASE_FAIL) {

        /* nothing that is known of its keys is the reason */

        ctx->decisive = ctx->nchecks;

        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    check = &ctx->checks[ctx->decisive];

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "limiting requests by policy \"%V\" (%V)",
                  &check->policy->name,
                  &ngx_http_runcoach_limit_sources[
                                          ctx->keys[ctx->decisive].source]);

    return NGX_HTTP_TOO_MANY_REQUESTS;
}


/* who denies for longest, else who is nearest to it; nchecks: nobody said */

static ngx_uint_t
ngx_http_runcoach_limit_decisive(ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_uint_t  i, worst;

    worst = ctx->nchecks;

    for (i = 0; i < ctx->nchecks; i++) {

        if (ctx->keys[i].source == RUNCOACH_LEASE_FROM_NOBODY) {
            continue;
        }

        if (worst == ctx->nchecks
            || ngx_http_runcoach_limit_tighter(&ctx->keys[i],
                                               &ctx->keys[worst]))
        {
            worst = i;
        }
    }

    return worst;
}


static ngx_uint_t
ngx_http_runcoach_limit_tighter(runcoach_lease_key_t *a,
    runcoach_lease_key_t *b)
{
    runcoach_bucket_verdict_t  *v, *w;

    v = &a->verdict;
    w = &b->verdict;

    if (v->allowed != w->allowed) {
        return !v->allowed;
    }

    if (!v->allowed) {
        return w->retry_us >= 0
               && (v->retry_us < 0 || v->retry_us > w->retry_us);
    }

    return (double) v->remaining * a->rate->p / a->rate->c
           < (double) w->remaining * b->rate->p / b->rate->c;
}


/* a part of the clients, the same ones on all edges */

static ngx_uint_t
ngx_http_runcoach_limit_enforced(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_str_t                           *key;
    ngx_http_runcoach_limit_loc_conf_t  *llcf;

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_limit_module);

    if (llcf->dry_run) {
        return 0;
    }

    if (llcf->sample == 1000) {
        return 1;
    }

    key = &ctx->checks[0].key;

    return ngx_crc32_long(key->data, key->len) % 1000 < llcf->sample;
}


void
ngx_http_runcoach_limit_cleanup(void *data)
{
    ngx_http_runcoach_limit_ctx_t *ctx = data;

    ngx_http_runcoach_limit_abandon(ctx);

    if (ctx->cmd != NULL) {
        ngx_runcoach_redis_cancel(ctx->cmd);
        ctx->cmd = NULL;
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


/* what is not decided yet may be asked for again */

static ngx_int_t
ngx_http_runcoach_limit_set(ngx_http_variable_value_t *v,
    ngx_http_runcoach_limit_ctx_t *ctx, const u_char *data, size_t len)
{
    ngx_int_t  rc;

    rc = ngx_http_runcoach_set_variable(v, data, len);

    v->no_cacheable = (ctx == NULL
                       || ctx->state != NGX_HTTP_RUNCOACH_LIMIT_DONE);

    return rc;
}


ngx_uint_t
ngx_http_runcoach_limit_outcome(ngx_http_request_t *r, ngx_uint_t *source,
    ngx_str_t *policy)
{
    runcoach_lease_key_t           *key;
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ctx == NULL) {
        return NGX_HTTP_RUNCOACH_LIMIT_NONE;
    }

    key = ngx_http_runcoach_limit_decisive_key(ctx);

    if (key == NULL) {
        *source = RUNCOACH_LEASE_FROM_NOBODY;
        ngx_str_null(policy);

    } else {
        *source = key->source;
        *policy = ctx->checks[ctx->decisive].policy->name;
    }

    return ctx->status;
}


static runcoach_lease_key_t *
ngx_http_runcoach_limit_decisive_key(ngx_http_runcoach_limit_ctx_t *ctx)
{
    if (ctx == NULL || ctx->decisive >= ctx->nchecks) {
        return NULL;
    }

    return &ctx->keys[ctx->decisive];
}


static ngx_int_t
ngx_http_runcoach_limit_text_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      *text;
    runcoach_lease_key_t           *key;
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ctx == NULL) {
        return ngx_http_runcoach_limit_set(v, ctx, NULL, 0);
    }

    key = ngx_http_runcoach_limit_decisive_key(ctx);

    switch (data) {

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_STATUS:
        text = &ngx_http_runcoach_limit_statuses[ctx->status];
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_SOURCE:
        text = (key != NULL) ? &ngx_http_runcoach_limit_sources[key->source]
                             : NULL;
        break;

    default: /* NGX_HTTP_RUNCOACH_LIMIT_VAR_POLICY */
        text = (key != NULL) ? &ctx->checks[ctx->decisive].policy->name : NULL;
        break;
    }

    if (text == NULL) {
        return ngx_http_runcoach_limit_set(v, ctx, NULL, 0);
    }

    return ngx_http_runcoach_limit_set(v, ctx, text->data, text->len);
}


static ngx_int_t
ngx_http_runcoach_limit_number_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                         *p;
    uint64_t                        n;
    runcoach_lease_key_t           *key;
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_limit_done(r);
    key = ngx_http_runcoach_limit_decisive_key(ctx);

    if (ctx == NULL
        || (key == NULL && data != NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER))
    {
        return ngx_http_runcoach_limit_set(v, ctx, NULL, 0);
    }

    switch (data) {

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_LIMIT:
        n = key->rate->c / key->rate->p;
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_REMAINING:
        n = key->verdict.remaining;
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_RESET:
        n = ngx_http_runcoach_limit_seconds(key->verdict.reset_us);
        break;

    case NGX_HTTP_RUNCOACH_LIMIT_VAR_COST:
        n = key->cost;
        break;

    default: /* NGX_HTTP_RUNCOACH_LIMIT_VAR_RETRY_AFTER */

        if (ngx_http_runcoach_limit_retry_after(ctx, &n) != NGX_OK) {
            return ngx_http_runcoach_limit_set(v, ctx, NULL, 0);
        }

        break;
    }

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_limit_set(v, ctx, p, runcoach_number(p, n) - p);
}


static ngx_int_t
ngx_http_runcoach_limit_retry_after(ngx_http_runcoach_limit_ctx_t *ctx,
    uint64_t *n)
{
    runcoach_lease_key_t  *key;

    if (ctx->status != NGX_HTTP_RUNCOACH_LIMIT_REJECTED) {
        return NGX_DECLINED;
    }

    key = ngx_http_runcoach_limit_decisive_key(ctx);

    if (key == NULL) {

        /* rejected for want of Redis, which may be back soon */

        *n = 1;
        return NGX_OK;
    }

    /* what costs more than the burst never passes */

    if (key->verdict.retry_us < 0) {
        return NGX_DECLINED;
    }

    *n = ngx_http_runcoach_limit_seconds(key->verdict.retry_us);
    *n = ngx_max(*n, 1);

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_ratelimit_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                       value;
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ngx_http_runcoach_limit_decisive_key(ctx) == NULL) {
        return ngx_http_runcoach_limit_set(v, ctx, NULL, 0);
    }

    if (ngx_http_runcoach_limit_item(r, ctx, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_limit_set(v, ctx, value.data, value.len);
}


static ngx_int_t
ngx_http_runcoach_limit_ratelimit_policy_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                       value;
    ngx_http_runcoach_limit_ctx_t  *ctx;

    ctx = ngx_http_runcoach_limit_done(r);

    if (ngx_http_runcoach_limit_decisive_key(ctx) == NULL) {
        return ngx_http_runcoach_limit_set(v, ctx, NULL, 0);
    }

    if (ngx_http_runcoach_limit_list(r, ctx, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_limit_set(v, ctx, value.data, value.len);
}


/*
 * On every answer to a request that was limited, whoever makes it.  The same
 * by variables and add_header takes 3,400 instructions more.
 */

static ngx_int_t
ngx_http_runcoach_limit_header_filter(ngx_http_request_t *r)
{
    uint64_t                             n;
    runcoach_lease_key_t                *key;
    ngx_http_runcoach_limit_ctx_t       *ctx;
    ngx_http_runcoach_limit_loc_conf_t  *llcf;

    static ngx_str_t  retry_after = ngx_string("Retry-After");

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_limit_module);

    if (llcf->headers == 0 || r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_runcoach_limit_done(r);

    if (ctx == NULL) {
        return ngx_http_next_header_filter(r);
    }

    key = ngx_http_runcoach_limit_decisive_key(ctx);

    if (key != NULL && (llcf->headers & NGX_HTTP_RUNCOACH_LIMIT_IETF)
        && ngx_http_runcoach_limit_ietf(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (key != NULL && (llcf->headers & NGX_HTTP_RUNCOACH_LIMIT_LEGACY)
        && ngx_http_runcoach_limit_legacy(r, key) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_runcoach_limit_retry_after(ctx, &n) == NGX_OK
        && ngx_http_runcoach_limit_add_number(r, &retry_after, n) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_runcoach_limit_ietf(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_str_t  value;

    static ngx_str_t  ratelimit = ngx_string("RateLimit");
    static ngx_str_t  policy = ngx_string("RateLimit-Policy");

    if (ngx_http_runcoach_limit_item(r, ctx, &value) != NGX_OK
        || ngx_http_runcoach_limit_add_header(r, &ratelimit, &value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_runcoach_limit_list(r, ctx, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_limit_add_header(r, &policy, &value);
}


static ngx_int_t
ngx_http_runcoach_limit_legacy(ngx_http_request_t *r,
    runcoach_lease_key_t *key)
{
    uint64_t  reset;

    static ngx_str_t  limit = ngx_string("X-RateLimit-Limit");
    static ngx_str_t  remaining = ngx_string("X-RateLimit-Remaining");
    static ngx_str_t  resets = ngx_string("X-RateLimit-Reset");

    reset = ngx_http_runcoach_limit_seconds(key->verdict.reset_us);

    if (ngx_http_runcoach_limit_add_number(r, &limit,
                                           key->rate->c / key->rate->p)
        != NGX_OK
        || ngx_http_runcoach_limit_add_number(r, &remaining,
                                              key->verdict.remaining)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_limit_add_number(r, &resets, reset);
}


static ngx_int_t
ngx_http_runcoach_limit_add_number(ngx_http_request_t *r, ngx_str_t *name,
    uint64_t n)
{
    ngx_str_t  value;

    value.data = ngx_pnalloc(r->pool, RUNCOACH_NUMBER_MAX);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = runcoach_number(value.data, n) - value.data;

    return ngx_http_runcoach_limit_add_header(r, name, &value);
}


static ngx_int_t
ngx_http_runcoach_limit_add_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key = *name;
    h->value = *value;
    h->lowcase_key = NULL;

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return NGX_OK;
}


/* the value of RateLimit: of the policy that decided */

static ngx_int_t
ngx_http_runcoach_limit_item(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_str_t *value)
{
    u_char                *p;
    uint64_t               t;
    ngx_str_t             *name;
    runcoach_lease_key_t  *key;

    key = &ctx->keys[ctx->decisive];
    name = &ctx->checks[ctx->decisive].policy->name;

    t = key->verdict.reset_us;

    if (!key->verdict.allowed && key->verdict.retry_us > 0) {
        t = key->verdict.retry_us;
    }

    value->data = ngx_pnalloc(r->pool, sizeof("\"\";r=;t=") - 1 + name->len
                                       + 2 * RUNCOACH_NUMBER_MAX);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    p = value->data;

    *p++ = '"';
    p = ngx_cpymem(p, name->data, name->len);
    p = ngx_cpymem(p, "\";r=", sizeof("\";r=") - 1);
    p = runcoach_number(p, key->verdict.remaining);
    p = ngx_cpymem(p, ";t=", sizeof(";t=") - 1);
    p = runcoach_number(p, ngx_http_runcoach_limit_seconds(t));

    value->len = p - value->data;

    return NGX_OK;
}


/* the value of RateLimit-Policy: of all that had a say */

static ngx_int_t
ngx_http_runcoach_limit_list(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_str_t *value)
{
    size_t                         len;
    u_char                        *p;
    ngx_uint_t                     i;
    const runcoach_bucket_rate_t  *rate;

    *value = ctx->checks[0].policy->header;

    if (ctx->nchecks == 1 && value->len != 0) {
        return NGX_OK;
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

    value->data = p;

    for (i = 0; i < ctx->nchecks; i++) {

        if (ctx->keys[i].source == RUNCOACH_LEASE_FROM_NOBODY) {
            continue;
        }

        rate = ctx->keys[i].rate;

        if (p > value->data) {
            *p++ = ',';
            *p++ = ' ';
        }

        p = ngx_http_runcoach_limit_describe(p, &ctx->checks[i].policy->name,
                                             rate);
    }

    value->len = p - value->data;

    return NGX_OK;
}


static uint64_t
ngx_http_runcoach_limit_seconds(uint64_t us)
{
    return (us + 999999) / 1000000;
}


static void *
ngx_http_runcoach_limit_create_main_conf(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t                   *cln;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_limit_main_conf_t));
    if (lmcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     lmcf->complained = 0;
     *     lmcf->sh = NULL;
     */

    if (ngx_array_init(&lmcf->policies, cf->pool, 4, sizeof(void *))
        != NGX_OK)
    {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_runcoach_limit_exit_worker;
    cln->data = lmcf;

    if (ngx_http_runcoach_limit_script(cf, lmcf) != NGX_OK) {
        return NULL;
    }

    return lmcf;
}


static void *
ngx_http_runcoach_limit_create_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_limit_loc_conf_t  *llcf;

    llcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_limit_loc_conf_t));
    if (llcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     llcf->status = 0;
     */

    llcf->limits = NGX_CONF_UNSET_PTR;
    llcf->dry_run = NGX_CONF_UNSET_UINT;
    llcf->sample = NGX_CONF_UNSET_UINT;
    llcf->headers = NGX_CONF_UNSET_UINT;

    return llcf;
}


static char *
ngx_http_runcoach_limit_merge_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_runcoach_limit_loc_conf_t *prev = parent;
    ngx_http_runcoach_limit_loc_conf_t *conf = child;

    ngx_conf_merge_ptr_value(conf->limits, prev->limits, NULL);
    ngx_conf_merge_uint_value(conf->dry_run, prev->dry_run, 0);
    ngx_conf_merge_uint_value(conf->sample, prev->sample, 1000);
    ngx_conf_merge_uint_value(conf->headers, prev->headers, 0);

    return NGX_CONF_OK;
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


static char *
ngx_http_runcoach_limit_mode(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_limit_loc_conf_t *llcf = conf;

    ngx_int_t   n;
    ngx_str_t  *value, s;

    if (llcf->dry_run != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "enforce") == 0) {
        llcf->dry_run = 0;

    } else if (ngx_strcmp(value[1].data, "dry_run") == 0) {
        llcf->dry_run = 1;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid mode \"%V\" in runcoach_limit_mode, must "
                           "be enforce or dry_run", &value[1]);
        return NGX_CONF_ERROR;
    }

    llcf->sample = 1000;

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    s = value[2];

    if (s.len > 8 && ngx_strncmp(s.data, "sample=", 7) == 0
        && s.data[s.len - 1] == '%' && !llcf->dry_run)
    {
        n = ngx_atofp(s.data + 7, s.len - 8, 1);

        if (n != NGX_ERROR && n <= 1000) {
            llcf->sample = n;
            return NGX_CONF_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\" in runcoach_limit_mode, must "
                       "be a part of the clients like sample=10%%, with "
                       "enforce", &s);

    return NGX_CONF_ERROR;
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

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_runcoach_limit_header_filter;

    return NGX_OK;
}
