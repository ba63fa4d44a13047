
/*
 * Who is asking: the access handler, and what it has found as variables.
 *
 * The methods of a location are tried in turn.  Each says that it has found
 * its credentials good, bad, or not there, or that it could not tell.
 */


#include <openssl/evp.h>
#include <openssl/sha.h>

#include "ngx_http_runcoach_auth.h"
#include "ngx_http_runcoach_revocations.h"


#define NGX_HTTP_RUNCOACH_FALLBACK_MISSING  0
#define NGX_HTTP_RUNCOACH_FALLBACK_INVALID  1
#define NGX_HTTP_RUNCOACH_FALLBACK_NEVER    2

#define NGX_HTTP_RUNCOACH_CLAIM_PREFIX      "runcoach_claim_"

#define NGX_HTTP_RUNCOACH_AUTH_ENTRIES      8192
#define NGX_HTTP_RUNCOACH_AUTH_MAX_ENTRIES  1048576
#define NGX_HTTP_RUNCOACH_AUTH_MAX_CLAIMS   256
#define NGX_HTTP_RUNCOACH_AUTH_MAX_SESSION  3600000      /* ms */


static ngx_int_t ngx_http_runcoach_auth_rewrite_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_auth_cut(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_auth_handler(ngx_http_request_t *r);
static ngx_http_runcoach_auth_ctx_t *ngx_http_runcoach_auth_get_ctx(
    ngx_http_request_t *r, const ngx_http_runcoach_auth_loc_conf_t *alcf);
static ngx_http_runcoach_auth_ctx_t *ngx_http_runcoach_auth_any_ctx(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_auth_run(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_uint_t ngx_http_runcoach_auth_go_on(
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_uint_t ngx_http_runcoach_auth_anonymous(
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_auth_decide(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_int_t rc);
static ngx_int_t ngx_http_runcoach_auth_header_filter(ngx_http_request_t *r);
static void ngx_http_runcoach_auth_cleanup(void *data);
static ngx_int_t ngx_http_runcoach_auth_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_auth_claim_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void *ngx_http_runcoach_auth_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_auth_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_runcoach_auth_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_auth_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_runcoach_auth_resolve(ngx_conf_t *cf,
    ngx_http_runcoach_auth_loc_conf_t *conf);
static char *ngx_http_runcoach_auth_method(ngx_conf_t *cf,
    ngx_http_runcoach_methods_t *methods, ngx_str_t *name);
static char *ngx_http_runcoach_auth_optional(ngx_conf_t *cf,
    ngx_http_runcoach_methods_t *methods, ngx_str_t *name);
static ngx_http_runcoach_methods_t *ngx_http_runcoach_auth_unique(
    ngx_conf_t *cf, ngx_http_runcoach_methods_t *methods);
static char *ngx_http_runcoach_issuer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_session(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_auth_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_auth_sources(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_http_runcoach_sources_t *ngx_http_runcoach_auth_list(ngx_conf_t *cf,
    ngx_str_t *value, ngx_uint_t n);
static ngx_int_t ngx_http_runcoach_auth_join(ngx_conf_t *cf, ngx_str_t *text,
    ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_runcoach_auth_source(ngx_conf_t *cf,
    ngx_http_runcoach_sources_t *sources, ngx_str_t *value);
static char *ngx_http_runcoach_claim(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_http_runcoach_claim_t *ngx_http_runcoach_auth_add_claim(
    ngx_conf_t *cf, ngx_http_runcoach_auth_main_conf_t *amcf, ngx_str_t *name);
static ngx_int_t ngx_http_runcoach_auth_path(ngx_conf_t *cf,
    runcoach_jwt_path_t *path, ngx_str_t *text, const char *separator);
static ngx_int_t ngx_http_runcoach_auth_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_auth_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_auth_claims(ngx_conf_t *cf,
    ngx_http_runcoach_auth_main_conf_t *amcf);
static ngx_int_t ngx_http_runcoach_auth_digests(ngx_conf_t *cf,
    ngx_http_runcoach_auth_main_conf_t *amcf);
static void ngx_http_runcoach_auth_check_retention(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer);
static ngx_int_t ngx_http_runcoach_auth_digest_claims(EVP_MD_CTX *md,
    ngx_array_t *claims);


static ngx_conf_enum_t  ngx_http_runcoach_fallback[] = {
    { ngx_string("missing"), NGX_HTTP_RUNCOACH_FALLBACK_MISSING },
    { ngx_string("invalid"), NGX_HTTP_RUNCOACH_FALLBACK_INVALID },
    { ngx_string("never"), NGX_HTTP_RUNCOACH_FALLBACK_NEVER },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_http_runcoach_auth_commands[] = {

    { ngx_string("runcoach_issuer"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_runcoach_issuer,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_session"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_runcoach_session,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_claim"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE2,
      ngx_http_runcoach_claim,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_auth_cache"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_runcoach_auth_cache,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_auth"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LMT_CONF
                        |NGX_CONF_1MORE,
      ngx_http_runcoach_names,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_runcoach_auth_loc_conf_t, names),
      NULL },

    { ngx_string("runcoach_auth_fallback"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LMT_CONF
                        |NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_runcoach_auth_loc_conf_t, fallback),
      &ngx_http_runcoach_fallback },

    { ngx_string("runcoach_auth_token"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LMT_CONF
                        |NGX_CONF_1MORE,
      ngx_http_runcoach_auth_sources,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_auth_module_ctx = {
    ngx_http_runcoach_auth_variables,        /* preconfiguration */
    ngx_http_runcoach_auth_init,             /* postconfiguration */

    ngx_http_runcoach_auth_create_main_conf, /* create main configuration */
    ngx_http_runcoach_auth_init_main_conf,   /* init main configuration */

    NULL,                                    /* create server configuration */
    NULL,                                    /* merge server configuration */

    ngx_http_runcoach_auth_create_loc_conf,  /* create location configuration */
    ngx_http_runcoach_auth_merge_loc_conf    /* merge location configuration */
};


ngx_module_t  ngx_http_runcoach_auth_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_auth_module_ctx,      /* module context */
    ngx_http_runcoach_auth_commands,         /* module directives */
    NGX_HTTP_MODULE,                         /* module type */
    NULL,                                    /* init master */
    NULL,                                    /* init module */
    ngx_http_runcoach_verdict_init_process,  /* init process */
    NULL,                                    /* init thread */
    NULL,                                    /* exit thread */
    ngx_http_runcoach_verdict_exit_process,  /* exit process */
    NULL,                                    /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_runcoach_auth_vars[] = {

    { ngx_string("runcoach_auth_method"), NULL,
      ngx_http_runcoach_auth_variable,
      offsetof(ngx_http_runcoach_auth_ctx_t, method),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_auth_reason"), NULL,
      ngx_http_runcoach_auth_variable,
      offsetof(ngx_http_runcoach_auth_ctx_t, reason),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_user"), NULL,
      ngx_http_runcoach_auth_variable,
      offsetof(ngx_http_runcoach_auth_ctx_t, user),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_clerk_user_id"), NULL,
      ngx_http_runcoach_auth_variable,
      offsetof(ngx_http_runcoach_auth_ctx_t, clerk_user_id),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_user_id"), NULL,
      ngx_http_runcoach_auth_variable,
      offsetof(ngx_http_runcoach_auth_ctx_t, user_id),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_session_id"), NULL,
      ngx_http_runcoach_auth_variable,
      offsetof(ngx_http_runcoach_auth_ctx_t, session_id),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_auth_cache"), NULL,
      ngx_http_runcoach_auth_variable,
      offsetof(ngx_http_runcoach_auth_ctx_t, cached),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


/* nginx keeps their first value, which may have a token in it */

static ngx_str_t  ngx_http_runcoach_auth_stale[NGX_HTTP_RUNCOACH_STALE] = {
    ngx_string("request_uri"),
    ngx_string("request")
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


/* of the organization in which a person acts, if the configuration asks */

static struct {
    ngx_str_t           name;
    runcoach_jwt_org_e  what;
} ngx_http_runcoach_auth_org[] = {
    { ngx_string("runcoach_org_id"), RUNCOACH_JWT_ORG_ID },
    { ngx_string("runcoach_org_slug"), RUNCOACH_JWT_ORG_SLUG },
    { ngx_string("runcoach_org_role"), RUNCOACH_JWT_ORG_ROLE },
    { ngx_string("runcoach_org_permissions"), RUNCOACH_JWT_ORG_PERMISSIONS },
    { ngx_null_string, 0 }
};


/*
 * Tokens in the query go before anything of the location may pass them on or
 * log them, whether it asks for a log-in or not.
 */

static ngx_int_t
ngx_http_runcoach_auth_rewrite_handler(ngx_http_request_t *r)
{
    return (ngx_http_runcoach_auth_cut(r) == NGX_OK)
           ? NGX_DECLINED : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


static ngx_int_t
ngx_http_runcoach_auth_cut(ngx_http_request_t *r)
{
    ngx_http_runcoach_auth_ctx_t       *ctx;
    ngx_http_runcoach_auth_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_auth_module);

    /* the configuration of http{} itself is never merged */

    if (alcf->sources == NULL || !alcf->sources->query || r != r->main) {
        return NGX_OK;
    }

    ctx = ngx_http_runcoach_auth_any_ctx(r);

    if (ctx == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_auth_query(r, ctx, alcf->sources);
}


static ngx_int_t
ngx_http_runcoach_auth_handler(ngx_http_request_t *r)
{
    ngx_http_runcoach_auth_ctx_t       *ctx;
    ngx_http_runcoach_auth_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_auth_module);

    if (alcf->methods == NULL || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_runcoach_auth_get_ctx(r, alcf);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->cmd != NULL || ctx->pending) {
        return NGX_AGAIN;
    }

    if (ctx->decided) {
        return ngx_http_runcoach_auth_decide(r, ctx, ctx->rc);
    }

    return ngx_http_runcoach_auth_run(r, ctx);
}


/*
 * An internal redirect to a location which asks for the same keeps the
 * verdict, one to a location which asks for something else starts anew.
 */

static ngx_http_runcoach_auth_ctx_t *
ngx_http_runcoach_auth_get_ctx(ngx_http_request_t *r,
    const ngx_http_runcoach_auth_loc_conf_t *alcf)
{
    ngx_str_t                        name, token;
    ngx_http_runcoach_auth_ctx_t    *ctx;
    ngx_http_runcoach_challenge_e    challenge;

    ctx = ngx_http_runcoach_auth_any_ctx(r);

    if (ctx == NULL) {
        return NULL;
    }

    if (ctx->methods == alcf->methods
        && ctx->sources == alcf->sources
        && ctx->fallback == alcf->fallback)
    {
        return ctx;
    }

    ngx_http_runcoach_auth_cleanup(ctx);

    name = ctx->query_name;
    token = ctx->query_token;
    challenge = ctx->challenge;

    ngx_memzero(ctx, sizeof(ngx_http_runcoach_auth_ctx_t));

    ctx->challenge = challenge;
    ctx->query_name = name;
    ctx->query_token = token;

    ctx->request = r;
    ctx->methods = alcf->methods;
    ctx->sources = alcf->sources;
    ctx->fallback = alcf->fallback;

    return ctx;
}


static ngx_http_runcoach_auth_ctx_t *
ngx_http_runcoach_auth_any_ctx(ngx_http_request_t *r)
{
    ngx_http_runcoach_auth_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_auth_module,
                                    ngx_http_runcoach_auth_cleanup);
    if (ctx != NULL) {
        return ctx;
    }

    return ngx_http_runcoach_ctx_add(r, &ngx_http_runcoach_auth_module,
                                     ngx_http_runcoach_auth_cleanup,
                                     sizeof(ngx_http_runcoach_auth_ctx_t));
}


static ngx_int_t
ngx_http_runcoach_auth_run(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_int_t  rc;

    for ( /* void */ ; ctx->step < ctx->methods->nsteps; ctx->step++) {

        if (ctx->step > 0 && !ngx_http_runcoach_auth_go_on(ctx)) {
            break;
        }

        rc = ctx->methods->steps[ctx->step](r, ctx);

        switch (rc) {

        case NGX_DECLINED:
            break;

        case NGX_HTTP_UNAUTHORIZED:
            ctx->refused = 1;
            break;

        case NGX_HTTP_SERVICE_UNAVAILABLE:
            ctx->unavailable = 1;
            break;

        case NGX_OK:
            return ngx_http_runcoach_auth_decide(r, ctx, NGX_OK);

        default: /* NGX_AGAIN, NGX_HTTP_INTERNAL_SERVER_ERROR */
            return rc;
        }
    }

    if (ctx->unavailable) {
        return ngx_http_runcoach_auth_decide(r, ctx,
                                             NGX_HTTP_SERVICE_UNAVAILABLE);
    }

    if (!ctx->refused) {
        ngx_str_set(&ctx->reason, "credentials-missing");
    }

    return ngx_http_runcoach_auth_decide(r, ctx,
                                         ngx_http_runcoach_auth_anonymous(ctx)
                                         ? NGX_DECLINED
                                         : NGX_HTTP_UNAUTHORIZED);
}


static ngx_uint_t
ngx_http_runcoach_auth_go_on(ngx_http_runcoach_auth_ctx_t *ctx)
{
    if (ctx->last) {
        return 0;
    }

    switch (ctx->fallback) {

    case NGX_HTTP_RUNCOACH_FALLBACK_INVALID:
        return 1;

    case NGX_HTTP_RUNCOACH_FALLBACK_MISSING:
        return !ctx->refused && !ctx->unavailable;

    default: /* NGX_HTTP_RUNCOACH_FALLBACK_NEVER */
        return 0;
    }
}


static ngx_uint_t
ngx_http_runcoach_auth_anonymous(ngx_http_runcoach_auth_ctx_t *ctx)
{
    switch (ctx->methods->optional) {

    case NGX_HTTP_RUNCOACH_OPTIONAL_ANY:
        return 1;

    case NGX_HTTP_RUNCOACH_OPTIONAL_MISSING:
        return !ctx->refused;

    default: /* NGX_HTTP_RUNCOACH_OPTIONAL_NO */
        return 0;
    }
}


static ngx_int_t
ngx_http_runcoach_auth_decide(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_int_t rc)
{
    ctx->decided = 1;
    ctx->rc = rc;

    if (rc == NGX_HTTP_UNAUTHORIZED) {
        ctx->challenge = ctx->refused ? NGX_HTTP_RUNCOACH_CHALLENGE_INVALID
                                      : NGX_HTTP_RUNCOACH_CHALLENGE_MISSING;
    }

    return rc;
}


/*
 * RFC 6750 section 3: no error code if no credentials were presented.  Only a
 * 401 has a challenge, and what becomes of ours is known here: an error page
 * or another access module may have changed it.
 */

static ngx_int_t
ngx_http_runcoach_auth_header_filter(ngx_http_request_t *r)
{
    ngx_table_elt_t               *h;
    ngx_http_runcoach_auth_ctx_t  *ctx;

    /* nginx may have answered before the phases: what follows is the log */

    if (ngx_http_runcoach_auth_cut(r) != NGX_OK) {
        return NGX_ERROR;
    }

    if (r->headers_out.status != NGX_HTTP_UNAUTHORIZED || r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_auth_module,
                                    ngx_http_runcoach_auth_cleanup);

    if (ctx == NULL || ctx->challenge == NGX_HTTP_RUNCOACH_CHALLENGE_NONE) {
        return ngx_http_next_header_filter(r);
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_http_runcoach_header_init(h);

    h->hash = 1;
    ngx_str_set(&h->key, "WWW-Authenticate");

    if (ctx->challenge == NGX_HTTP_RUNCOACH_CHALLENGE_INVALID) {
        ngx_str_set(&h->value, "Bearer error=\"invalid_token\"");

    } else {
        ngx_str_set(&h->value, "Bearer");
    }

    return ngx_http_next_header_filter(r);
}


ngx_int_t
ngx_http_runcoach_auth_refuse(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const char *reason)
{
    ctx->reason.data = (u_char *) reason;
    ctx->reason.len = ngx_strlen(reason);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "credentials refused: %V", &ctx->reason);

    return NGX_HTTP_UNAUTHORIZED;
}


/* what is missing has been logged where it was noticed, once */

ngx_int_t
ngx_http_runcoach_auth_unavailable(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const char *reason)
{
    ctx->reason.data = (u_char *) reason;
    ctx->reason.len = ngx_strlen(reason);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "credentials not checked: %V", &ctx->reason);

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}


ngx_int_t
ngx_http_runcoach_auth_outcome(ngx_http_request_t *r, ngx_str_t *method,
    ngx_str_t *reason)
{
    ngx_http_runcoach_auth_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_auth_module,
                                    ngx_http_runcoach_auth_cleanup);

    if (ctx == NULL || !ctx->decided) {
        return NGX_DONE;
    }

    *method = ctx->method;
    *reason = ctx->reason;

    return ctx->rc;
}


static void
ngx_http_runcoach_auth_cleanup(void *data)
{
    ngx_http_runcoach_auth_ctx_t  *ctx = data;

    if (ctx->cmd != NULL) {
        ngx_runcoach_redis_cancel(ctx->cmd);
        ctx->cmd = NULL;
    }
}


static ngx_int_t
ngx_http_runcoach_auth_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                     *s;
    ngx_http_runcoach_auth_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_auth_module,
                                    ngx_http_runcoach_auth_cleanup);
    if (ctx == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    s = (ngx_str_t *) ((u_char *) ctx + data);

    return ngx_http_runcoach_set_variable(v, s->len ? s->data : NULL, s->len);
}


static ngx_int_t
ngx_http_runcoach_auth_claim_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      value;
    ngx_http_runcoach_auth_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_auth_module,
                                    ngx_http_runcoach_auth_cleanup);

    if (ctx == NULL || ctx->verdict == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    ngx_http_runcoach_verdict_value(ctx->verdict,
                                    NGX_HTTP_RUNCOACH_VALUE_CLAIMS + data,
                                    &value);

    return ngx_http_runcoach_set_variable(v, value.len ? value.data : NULL,
                                          value.len);
}


static void *
ngx_http_runcoach_auth_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_auth_main_conf_t));
    if (amcf == NULL) {
        return NULL;
    }

    if (ngx_http_runcoach_issuers_init(cf, &amcf->issuers) != NGX_OK
        || ngx_array_init(&amcf->methods, cf->pool, 4,
                          sizeof(ngx_http_runcoach_methods_t *))
           != NGX_OK
        || ngx_array_init(&amcf->sources, cf->pool, 4,
                          sizeof(ngx_http_runcoach_sources_t *))
           != NGX_OK
        || ngx_array_init(&amcf->claims, cf->pool, 4,
                          sizeof(ngx_http_runcoach_claim_t))
           != NGX_OK)
    {
        return NULL;
    }

    amcf->session_cache = NGX_CONF_UNSET_MSEC;
    amcf->cache = NGX_CONF_UNSET_UINT;
    amcf->entries = NGX_HTTP_RUNCOACH_AUTH_ENTRIES;

    ngx_str_set(&amcf->session_cookie, "session_id");
    ngx_str_set(&amcf->session_prefix, "session:");

    return amcf;
}


static char *
ngx_http_runcoach_auth_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf = conf;

    ngx_conf_init_msec_value(amcf->session_cache, 5000);
    ngx_conf_init_uint_value(amcf->cache, 1);

    return NGX_CONF_OK;
}


static void *
ngx_http_runcoach_auth_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_auth_loc_conf_t  *alcf;

    alcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_auth_loc_conf_t));
    if (alcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     alcf->names = NULL;
     *     alcf->methods = NULL;
     *     alcf->sources = NULL;
     */

    alcf->fallback = NGX_CONF_UNSET_UINT;

    return alcf;
}


static char *
ngx_http_runcoach_auth_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_runcoach_auth_loc_conf_t  *prev = parent;
    ngx_http_runcoach_auth_loc_conf_t  *conf = child;

    char  *rv;

    static ngx_str_t  carriers[] = {
        ngx_string("header"),
        ngx_string("cookie")
    };

    ngx_conf_merge_uint_value(conf->fallback, prev->fallback,
                              NGX_HTTP_RUNCOACH_FALLBACK_INVALID);

    if (conf->sources == NULL) {
        conf->sources = prev->sources;
    }

    if (conf->sources == NULL) {
        conf->sources = ngx_http_runcoach_auth_list(cf, carriers, 2);

        if (conf->sources == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    if (conf->names != NULL) {
        return ngx_http_runcoach_auth_resolve(cf, conf);
    }

    /* resolved once where it is written, so that all who inherit are equal */

    if (prev->names != NULL && prev->methods == NULL) {
        rv = ngx_http_runcoach_auth_resolve(cf, prev);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    conf->names = prev->names;
    conf->methods = prev->methods;

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_auth_resolve(ngx_conf_t *cf,
    ngx_http_runcoach_auth_loc_conf_t *conf)
{
    char                         *rv;
    ngx_str_t                    *name;
    ngx_uint_t                    i, n;
    ngx_http_runcoach_methods_t  *methods;

    if (ngx_http_runcoach_names_off(conf->names)) {
        return NGX_CONF_OK;
    }

    methods = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_methods_t));
    if (methods == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_array_init(&methods->issuers, cf->pool, 4,
                       sizeof(ngx_http_runcoach_issuer_t *))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    name = conf->names->elts;

    for (i = 0; i < conf->names->nelts; i++) {

        for (n = 0; n < i; n++) {

            if (name[n].len == name[i].len
                && ngx_strncmp(name[n].data, name[i].data, name[i].len) == 0)
            {
                ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                              "duplicate method \"%V\" in runcoach_auth",
                              &name[i]);
                return NGX_CONF_ERROR;
            }
        }

        rv = ngx_http_runcoach_auth_method(cf, methods, &name[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (methods->optional != NGX_HTTP_RUNCOACH_OPTIONAL_NO
        && conf->names->nelts == 1)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "no method in runcoach_auth, must be like "
                      "\"runcoach_auth clerk session %V\"", &name[0]);
        return NGX_CONF_ERROR;
    }

    conf->methods = ngx_http_runcoach_auth_unique(cf, methods);

    return conf->methods != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_auth_method(ngx_conf_t *cf,
    ngx_http_runcoach_methods_t *methods, ngx_str_t *name)
{
    ngx_str_t                            iss;
    ngx_uint_t                           i;
    ngx_http_runcoach_issuer_t          *issuer, **known, **p;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    if (ngx_http_runcoach_names_eq(name, "session")) {
        methods->steps[methods->nsteps++] = ngx_http_runcoach_auth_session;
        return NGX_CONF_OK;
    }

    if (ngx_http_runcoach_names_eq(name, "optional")
        || ngx_http_runcoach_names_eq(name, "optional=any"))
    {
        return ngx_http_runcoach_auth_optional(cf, methods, name);
    }

    amcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_auth_module);

    issuer = ngx_http_runcoach_issuer_find(&amcf->issuers, name);

    if (issuer == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown method \"%V\" in runcoach_auth, must be "
                      "\"session\", \"optional\", \"optional=any\", \"off\" "
                      "or the name of a runcoach_issuer", name);
        return NGX_CONF_ERROR;
    }

    if (issuer->keys == NULL) {
        return NGX_CONF_OK;
    }

    if (methods->issuers.nelts == 0) {
        methods->steps[methods->nsteps++] = ngx_http_runcoach_auth_token;
    }

    known = methods->issuers.elts;

    for (i = 0; i < methods->issuers.nelts; i++) {

        if (ngx_http_runcoach_issuer_overlaps(known[i], issuer)) {
            iss.data = (u_char *) issuer->policy[0].issuer.data;
            iss.len = issuer->policy[0].issuer.len;

            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "issuers \"%V\" and \"%V\" in runcoach_auth are "
                          "both \"%V\" and have an algorithm in common: "
                          "they must differ by algorithms=",
                          &known[i]->name, name, &iss);
            return NGX_CONF_ERROR;
        }
    }

    p = ngx_array_push(&methods->issuers);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = issuer;

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_auth_optional(ngx_conf_t *cf,
    ngx_http_runcoach_methods_t *methods, ngx_str_t *name)
{
    if (methods->optional != NGX_HTTP_RUNCOACH_OPTIONAL_NO) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%V\" in runcoach_auth is a second \"optional\"",
                      name);
        return NGX_CONF_ERROR;
    }

    methods->optional = ngx_http_runcoach_names_eq(name, "optional")
                        ? NGX_HTTP_RUNCOACH_OPTIONAL_MISSING
                        : NGX_HTTP_RUNCOACH_OPTIONAL_ANY;

    return NGX_CONF_OK;
}


/* locations which ask for the same are equal, so that a redirect keeps it */

static ngx_http_runcoach_methods_t *
ngx_http_runcoach_auth_unique(ngx_conf_t *cf,
    ngx_http_runcoach_methods_t *methods)
{
    ngx_uint_t                           i;
    ngx_http_runcoach_methods_t        **known, **p;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_auth_module);
    known = amcf->methods.elts;

    for (i = 0; i < amcf->methods.nelts; i++) {

        if (known[i]->nsteps == methods->nsteps
            && known[i]->optional == methods->optional
            && known[i]->issuers.nelts == methods->issuers.nelts
            && ngx_memcmp(known[i]->steps, methods->steps,
                          sizeof(methods->steps))
               == 0
            && ngx_memcmp(known[i]->issuers.elts, methods->issuers.elts,
                          methods->issuers.nelts
                          * sizeof(ngx_http_runcoach_issuer_t *))
               == 0)
        {
            return known[i];
        }
    }

    p = ngx_array_push(&amcf->methods);
    if (p == NULL) {
        return NULL;
    }

    *p = methods;

    return methods;
}


static char *
ngx_http_runcoach_issuer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf = conf;

    return ngx_http_runcoach_issuer_add(cf, &amcf->issuers);
}


static char *
ngx_http_runcoach_session(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf = conf;

    char       *rv;
    ngx_int_t   ms;
    ngx_str_t   cache;

    ngx_http_runcoach_param_t  known[] = {
        { "cookie", &amcf->session_cookie },
        { "prefix", &amcf->session_prefix },
        { "cache", &cache },
        { NULL, NULL }
    };

    ngx_str_null(&cache);

    rv = ngx_http_runcoach_params(cf, 1, known);

    if (rv != NGX_CONF_OK || cache.len == 0) {
        return rv;
    }

    ms = ngx_parse_time(&cache, 0);

    if (ms == NGX_ERROR || ms > NGX_HTTP_RUNCOACH_AUTH_MAX_SESSION) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid cache \"%V\" in runcoach_session, must "
                           "be a time up to 1h like 5s, or 0", &cache);
        return NGX_CONF_ERROR;
    }

    amcf->session_cache = ms;

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_auth_cache(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf = conf;

    ngx_int_t   n;
    ngx_str_t  *value, entries;

    if (amcf->cache != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_runcoach_names_eq(&value[1], "off")) {
        amcf->cache = 0;
        return NGX_CONF_OK;
    }

    amcf->cache = 1;

    if (ngx_http_runcoach_names_eq(&value[1], "on")) {
        return NGX_CONF_OK;
    }

    if (value[1].len > 8 && ngx_strncmp(value[1].data, "entries=", 8) == 0) {
        entries.data = value[1].data + 8;
        entries.len = value[1].len - 8;

        n = ngx_atoi(entries.data, entries.len);

        if (n > 0 && n <= NGX_HTTP_RUNCOACH_AUTH_MAX_ENTRIES) {
            amcf->entries = n;
            return NGX_CONF_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\" in runcoach_auth_cache, must be "
                       "\"on\", \"off\" or like entries=8192, up to %d",
                       &value[1], NGX_HTTP_RUNCOACH_AUTH_MAX_ENTRIES);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_auth_sources(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_auth_loc_conf_t  *alcf = conf;

    ngx_str_t  *value;

    if (alcf->sources != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    alcf->sources = ngx_http_runcoach_auth_list(cf, &value[1],
                                                cf->args->nelts - 1);

    return alcf->sources != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* one list for all who write the same: a redirect between them keeps it */

static ngx_http_runcoach_sources_t *
ngx_http_runcoach_auth_list(ngx_conf_t *cf, ngx_str_t *value, ngx_uint_t n)
{
    ngx_str_t                            text;
    ngx_uint_t                           i;
    ngx_http_runcoach_sources_t         *sources, **known, **p;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_auth_module);

    if (ngx_http_runcoach_auth_join(cf, &text, value, n) != NGX_OK) {
        return NULL;
    }

    known = amcf->sources.elts;

    for (i = 0; i < amcf->sources.nelts; i++) {

        if (known[i]->text.len == text.len
            && ngx_memcmp(known[i]->text.data, text.data, text.len) == 0)
        {
            return known[i];
        }
    }

    sources = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_sources_t));
    if (sources == NULL) {
        return NULL;
    }

    sources->text = text;

    if (ngx_array_init(&sources->elts, cf->pool, n,
                       sizeof(ngx_http_runcoach_source_t))
        != NGX_OK)
    {
        return NULL;
    }

    for (i = 0; i < n; i++) {

        if (ngx_http_runcoach_auth_source(cf, sources, &value[i])
            != NGX_CONF_OK)
        {
            return NULL;
        }
    }

    p = ngx_array_push(&amcf->sources);
    if (p == NULL) {
        return NULL;
    }

    *p = sources;

    return sources;
}


/* NGX_ERROR: no memory, or one of them twice */

static ngx_int_t
ngx_http_runcoach_auth_join(ngx_conf_t *cf, ngx_str_t *text, ngx_str_t *value,
    ngx_uint_t n)
{
    u_char      *p;
    ngx_uint_t   i, k;

    text->len = 0;

    for (i = 0; i < n; i++) {
        text->len += value[i].len + 1;

        for (k = 0; k < i; k++) {

            if (value[i].len == value[k].len
                && ngx_memcmp(value[i].data, value[k].data, value[i].len) == 0)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate carrier \"%V\" in "
                                   "runcoach_auth_token", &value[i]);
                return NGX_ERROR;
            }
        }
    }

    text->data = ngx_pnalloc(cf->pool, text->len);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    p = text->data;

    for (i = 0; i < n; i++) {
        p = ngx_cpymem(p, value[i].data, value[i].len);
        *p++ = '\0';
    }

    return NGX_OK;
}


static char *
ngx_http_runcoach_auth_source(ngx_conf_t *cf,
    ngx_http_runcoach_sources_t *sources, ngx_str_t *value)
{
    ngx_http_runcoach_source_t         *source;
    ngx_http_compile_complex_value_t    ccv;

    source = ngx_array_push(&sources->elts);
    if (source == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(source, sizeof(ngx_http_runcoach_source_t));

    if (ngx_http_runcoach_names_eq(value, "header")) {
        source->type = NGX_HTTP_RUNCOACH_SOURCE_HEADER;
        return NGX_CONF_OK;
    }

    if (ngx_http_runcoach_names_eq(value, "cookie")) {
        source->type = NGX_HTTP_RUNCOACH_SOURCE_COOKIE;
        return NGX_CONF_OK;
    }

    if (value->len > 6
        && value->len - 6 <= NGX_HTTP_RUNCOACH_QUERY_NAME
        && ngx_strncmp(value->data, "query=", 6) == 0)
    {
        source->type = NGX_HTTP_RUNCOACH_SOURCE_QUERY;
        source->name.data = value->data + 6;
        source->name.len = value->len - 6;

        sources->query = 1;

        return NGX_CONF_OK;
    }

    if (ngx_http_script_variables_count(value) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid carrier \"%V\" in runcoach_auth_token, "
                           "must be \"header\", \"cookie\", query=NAME or a "
                           "variable like $http_x_token", value);
        return NGX_CONF_ERROR;
    }

    source->type = NGX_HTTP_RUNCOACH_SOURCE_VALUE;

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = &source->value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_claim(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf = conf;

    ngx_str_t                  *value, name;
    ngx_http_runcoach_claim_t  *claim;

    value = cf->args->elts;

    if (value[1].len < 2 || value[1].data[0] != '$') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid variable \"%V\" in runcoach_claim, must "
                           "be like $plan", &value[1]);
        return NGX_CONF_ERROR;
    }

    name.data = value[1].data + 1;
    name.len = value[1].len - 1;

    claim = ngx_http_runcoach_auth_add_claim(cf, amcf, &name);
    if (claim == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_runcoach_auth_path(cf, &claim->path, &value[2], "\n")
        != NGX_OK
        || ngx_http_runcoach_auth_path(cf, &claim->nested, &value[2], ".")
           != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid claim \"%V\" in runcoach_claim, must be "
                           "a name, or names like public_metadata.plan",
                           &value[2]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_http_runcoach_claim_t *
ngx_http_runcoach_auth_add_claim(ngx_conf_t *cf,
    ngx_http_runcoach_auth_main_conf_t *amcf, ngx_str_t *name)
{
    ngx_http_variable_t        *var;
    ngx_http_runcoach_claim_t  *claim;

    if (amcf->claims.nelts == NGX_HTTP_RUNCOACH_AUTH_MAX_CLAIMS) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "too many claims are used, \"$%V\" is one more than %d",
                      name, NGX_HTTP_RUNCOACH_AUTH_MAX_CLAIMS);
        return NULL;
    }

    var = ngx_http_add_variable(cf, name, NGX_HTTP_VAR_NOCACHEABLE);
    if (var == NULL) {
        return NULL;
    }

    var->get_handler = ngx_http_runcoach_auth_claim_variable;
    var->data = amcf->claims.nelts;

    claim = ngx_array_push(&amcf->claims);
    if (claim == NULL) {
        return NULL;
    }

    ngx_memzero(claim, sizeof(ngx_http_runcoach_claim_t));

    claim->name = *name;
    claim->org = -1;

    return claim;
}


/* NGX_DECLINED: one of the names is empty */

static ngx_int_t
ngx_http_runcoach_auth_path(ngx_conf_t *cf, runcoach_jwt_path_t *path,
    ngx_str_t *text, const char *separator)
{
    size_t           n;
    u_char          *p, *last, *end;
    ngx_array_t      names;
    runcoach_str_t  *name;

    n = ngx_strlen(separator);
    p = text->data;
    last = p + text->len;

    if (ngx_array_init(&names, cf->pool, 4, sizeof(runcoach_str_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for ( ;; ) {
        end = ngx_strnstr(p, (char *) separator, last - p);

        if (end == NULL) {
            end = last;
        }

        if (end == p) {
            return NGX_DECLINED;
        }

        name = ngx_array_push(&names);
        if (name == NULL) {
            return NGX_ERROR;
        }

        name->data = p;
        name->len = end - p;

        if (end == last) {
            break;
        }

        p = end + n;
    }

    path->names = names.elts;
    path->n = names.nelts;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_auth_variables(ngx_conf_t *cf)
{
    return ngx_http_runcoach_add_variables(cf, ngx_http_runcoach_auth_vars);
}


static ngx_int_t
ngx_http_runcoach_auth_init(ngx_conf_t *cf)
{
    ngx_uint_t                           i;
    ngx_http_handler_pt                 *h;
    ngx_http_core_main_conf_t           *cmcf;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_auth_module);

    for (i = 0; i < NGX_HTTP_RUNCOACH_STALE; i++) {
        amcf->stale[i] = ngx_http_get_variable_index(cf,
                                         &ngx_http_runcoach_auth_stale[i]);
        if (amcf->stale[i] == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_runcoach_auth_claims(cf, amcf) != NGX_OK
        || ngx_http_runcoach_auth_digests(cf, amcf) != NGX_OK
        || ngx_http_runcoach_verdict_init(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_runcoach_auth_handler;

    /* the handler that comes last into a phase is the first to run */

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_REWRITE_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_runcoach_auth_rewrite_handler;

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_runcoach_auth_header_filter;

    return NGX_OK;
}


/*
 * Claims are kept with a verdict, so only those which the configuration uses:
 * they have been mentioned by now.
 */

static ngx_int_t
ngx_http_runcoach_auth_claims(ngx_conf_t *cf,
    ngx_http_runcoach_auth_main_conf_t *amcf)
{
    ngx_str_t                   name;
    ngx_uint_t                  i, n;
    ngx_http_variable_t        *v;
    ngx_http_runcoach_claim_t  *claim;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    for (i = 0; i < cmcf->variables.nelts; i++) {
        v = cmcf->variables.elts;
        name = v[i].name;

        for (n = 0; ngx_http_runcoach_auth_org[n].name.len; n++) {

            if (name.len != ngx_http_runcoach_auth_org[n].name.len
                || ngx_strncmp(name.data,
                               ngx_http_runcoach_auth_org[n].name.data,
                               name.len)
                   != 0)
            {
                continue;
            }

            claim = ngx_http_runcoach_auth_add_claim(cf, amcf, &name);
            if (claim == NULL) {
                return NGX_ERROR;
            }

            claim->org = ngx_http_runcoach_auth_org[n].what;
        }

        if (name.len <= sizeof(NGX_HTTP_RUNCOACH_CLAIM_PREFIX) - 1
            || ngx_strncmp(name.data, NGX_HTTP_RUNCOACH_CLAIM_PREFIX,
                           sizeof(NGX_HTTP_RUNCOACH_CLAIM_PREFIX) - 1)
               != 0)
        {
            continue;
        }

        claim = ngx_http_runcoach_auth_add_claim(cf, amcf, &name);
        if (claim == NULL) {
            return NGX_ERROR;
        }

        name.data += sizeof(NGX_HTTP_RUNCOACH_CLAIM_PREFIX) - 1;
        name.len -= sizeof(NGX_HTTP_RUNCOACH_CLAIM_PREFIX) - 1;

        if (ngx_http_runcoach_auth_path(cf, &claim->path, &name, "\n")
            != NGX_OK
            || ngx_http_runcoach_auth_path(cf, &claim->nested, &name, "__")
               == NGX_ERROR)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* a verdict holds claims in their order, so it is of these claims only */

static ngx_int_t
ngx_http_runcoach_auth_digests(ngx_conf_t *cf,
    ngx_http_runcoach_auth_main_conf_t *amcf)
{
    u_char                        digest[SHA256_DIGEST_LENGTH];
    ngx_int_t                     rc;
    ngx_uint_t                    i;
    EVP_MD_CTX                   *md;
    ngx_http_runcoach_issuer_t  **issuer;

    md = EVP_MD_CTX_new();
    if (md == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_ERROR;
    issuer = amcf->issuers.elts.elts;

    for (i = 0; i < amcf->issuers.elts.nelts; i++) {

        if (issuer[i]->keys == NULL) {
            continue;
        }

        ngx_http_runcoach_auth_check_retention(cf, issuer[i]);

        if (!ngx_http_runcoach_has_zone(cf)) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "runcoach_issuer \"%V\" needs runcoach_zone, "
                          "like \"runcoach_zone runcoach:16m;\"",
                          &issuer[i]->name);
            goto done;
        }

        if (EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1
            || EVP_DigestUpdate(md, issuer[i]->digest,
                                NGX_HTTP_RUNCOACH_ISSUER_DIGEST)
               != 1
            || ngx_http_runcoach_auth_digest_claims(md, &amcf->claims)
               != NGX_OK
            || EVP_DigestFinal_ex(md, digest, NULL) != 1)
        {
            goto done;
        }

        ngx_memcpy(issuer[i]->digest, digest, NGX_HTTP_RUNCOACH_ISSUER_DIGEST);
    }

    rc = NGX_OK;

done:

    EVP_MD_CTX_free(md);

    return rc;
}


/* a revocation must not be forgotten before the tokens that it ends */

static void
ngx_http_runcoach_auth_check_retention(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer)
{
    time_t                        retention;
    const runcoach_jwt_policy_t  *policy;

    policy = &issuer->policy[NGX_HTTP_RUNCOACH_HEADER];
    retention = ngx_http_runcoach_revocations_retention(cf);

    if (!issuer->clerk
        || retention == 0
        || (policy->max_lifetime != 0
            && policy->max_lifetime + 2 * policy->leeway < retention))
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                  "retention of runcoach_revocations is %T seconds, but tokens "
                  "of runcoach_issuer \"%V\" may live longer: it must exceed "
                  "max_lifetime=", retention, &issuer->name);
}


static ngx_int_t
ngx_http_runcoach_auth_digest_claims(EVP_MD_CTX *md, ngx_array_t *claims)
{
    ngx_uint_t                  i, n;
    const runcoach_str_t       *name;
    ngx_http_runcoach_claim_t  *claim;

    claim = claims->elts;

    for (i = 0; i < claims->nelts; i++) {

        if (EVP_DigestUpdate(md, &claim[i].org, sizeof(ngx_int_t)) != 1
            || EVP_DigestUpdate(md, &claim[i].nested.n, sizeof(size_t)) != 1
            || EVP_DigestUpdate(md, &claim[i].path.n, sizeof(size_t)) != 1)
        {
            return NGX_ERROR;
        }

        for (n = 0; n < claim[i].path.n; n++) {
            name = &claim[i].path.names[n];

            if (EVP_DigestUpdate(md, &name->len, sizeof(size_t)) != 1
                || EVP_DigestUpdate(md, name->data, name->len) != 1)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}
