
#include "ngx_http_runcoach_jwks.h"
#include "runcoach_jwt.h"
#include "runcoach_session.h"

#include <ngx_sha1.h>


#define NGX_HTTP_RUNCOACH_AUTH_STEPS       2

#define NGX_HTTP_RUNCOACH_FALLBACK_MISSING  0
#define NGX_HTTP_RUNCOACH_FALLBACK_INVALID  1
#define NGX_HTTP_RUNCOACH_FALLBACK_NEVER    2

#define NGX_HTTP_RUNCOACH_AZP_CARRIER       0
#define NGX_HTTP_RUNCOACH_AZP_REQUIRE       1
#define NGX_HTTP_RUNCOACH_AZP_PRESENT       2
#define NGX_HTTP_RUNCOACH_AZP_OFF           3


typedef enum {
    NGX_HTTP_RUNCOACH_HEADER = 0,
    NGX_HTTP_RUNCOACH_COOKIE,
    NGX_HTTP_RUNCOACH_CARRIERS
} ngx_http_runcoach_carrier_e;


typedef struct {
    ngx_str_t                     name;
    ngx_http_runcoach_keys_t     *keys;           /* NULL: it is off */
    runcoach_jwt_policy_t         policy[NGX_HTTP_RUNCOACH_CARRIERS];
    ngx_str_t                     cookie;         /* __session_<suffix> */
    unsigned                      clerk:1;
    unsigned                      internal_user:1;
} ngx_http_runcoach_issuer_t;


/* the parameters of runcoach_issuer as they were written */

typedef struct {
    ngx_str_t                     publishable_key;
    ngx_str_t                     issuer;
    ngx_str_t                     jwks;
    ngx_str_t                     jwks_url;
    ngx_str_t                     key;
    ngx_str_t                     parties;
    ngx_str_t                     audience;
    ngx_str_t                     azp;
    ngx_str_t                     leeway;
    ngx_str_t                     max_lifetime;
    ngx_str_t                     user;
} ngx_http_runcoach_issuer_params_t;


typedef struct {
    ngx_array_t                   issuers;     /* ngx_http_runcoach_issuer_t */
    ngx_str_t                     session_cookie;
    ngx_str_t                     session_prefix;
} ngx_http_runcoach_auth_main_conf_t;


typedef struct ngx_http_runcoach_auth_ctx_s  ngx_http_runcoach_auth_ctx_t;
typedef struct ngx_http_runcoach_methods_s   ngx_http_runcoach_methods_t;


typedef ngx_int_t (*ngx_http_runcoach_auth_step_pt)(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);


struct ngx_http_runcoach_methods_s {
    ngx_array_t                     issuers;   /* pointers to them */
    ngx_http_runcoach_auth_step_pt  steps[NGX_HTTP_RUNCOACH_AUTH_STEPS];
    ngx_uint_t                      nsteps;
};


typedef struct {
    ngx_array_t                  *names;       /* ngx_str_t */
    ngx_http_runcoach_methods_t  *methods;     /* what the names mean */
    ngx_uint_t                    fallback;
} ngx_http_runcoach_auth_loc_conf_t;


struct ngx_http_runcoach_auth_ctx_s {
    ngx_http_request_t                 *request;
    const ngx_http_runcoach_methods_t  *methods;
    ngx_uint_t                          fallback;
    ngx_uint_t                          step;
    ngx_int_t                           verdict;

    ngx_runcoach_redis_cmd_t           *cmd;
    ngx_uint_t                          pending;      /* a fetch of keys */

    ngx_str_t                           reason;

    /* set when the verdict is NGX_OK and only then */

    ngx_str_t                           method;
    ngx_str_t                           user;
    ngx_str_t                           clerk_user_id;
    ngx_str_t                           user_id;
    ngx_str_t                           session_id;

    ngx_str_t                           session_user; /* as Redis has it */
    ngx_int_t                           session_rc;

    unsigned                            decided:1;
    unsigned                            fetched:1;
    unsigned                            forced:1;
    unsigned                            asked:1;      /* Redis */
    unsigned                            refused:1;
    unsigned                            unavailable:1;
};


static ngx_int_t ngx_http_runcoach_auth_handler(ngx_http_request_t *r);
static ngx_http_runcoach_auth_ctx_t *ngx_http_runcoach_auth_get_ctx(
    ngx_http_request_t *r, const ngx_http_runcoach_auth_loc_conf_t *alcf);
static ngx_int_t ngx_http_runcoach_auth_run(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_auth_decide(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_int_t verdict);
static ngx_int_t ngx_http_runcoach_auth_challenge(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_auth_refuse(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const char *reason);
static ngx_int_t ngx_http_runcoach_auth_unavailable(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const char *reason);
static void ngx_http_runcoach_auth_cleanup(void *data);

static ngx_int_t ngx_http_runcoach_auth_token(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_auth_find_token(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_str_t *token,
    ngx_http_runcoach_carrier_e *carrier);
static ngx_int_t ngx_http_runcoach_auth_bearer(ngx_http_request_t *r,
    ngx_str_t *token);
static ngx_int_t ngx_http_runcoach_auth_verify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, runcoach_jwt_t *jwt,
    ngx_http_runcoach_carrier_e carrier);
static ngx_int_t ngx_http_runcoach_auth_signature(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, runcoach_jwt_t *jwt,
    ngx_http_runcoach_issuer_t *issuer);
static ngx_http_runcoach_issuer_t *ngx_http_runcoach_auth_issuer(
    const ngx_http_runcoach_methods_t *methods, runcoach_jwt_t *jwt);
static ngx_int_t ngx_http_runcoach_auth_identify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, runcoach_jwt_t *jwt,
    ngx_http_runcoach_issuer_t *issuer);
static ngx_int_t ngx_http_runcoach_auth_copy(ngx_http_request_t *r,
    ngx_str_t *dst, runcoach_str_t *src);

static ngx_int_t ngx_http_runcoach_auth_session(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_auth_session_send(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_str_t *id);
static void ngx_http_runcoach_auth_session_reply(void *data,
    redisReply *reply);
static ngx_int_t ngx_http_runcoach_auth_session_verdict(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);

static ngx_int_t ngx_http_runcoach_auth_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

static void *ngx_http_runcoach_auth_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_runcoach_auth_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_auth_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_runcoach_auth_resolve(ngx_conf_t *cf,
    ngx_http_runcoach_auth_loc_conf_t *conf);
static ngx_http_runcoach_issuer_t *ngx_http_runcoach_auth_known_issuer(
    ngx_http_runcoach_auth_main_conf_t *amcf, ngx_str_t *name);

static char *ngx_http_runcoach_issuer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_issuer_params(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_publishable_key(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_policy(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_azp(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer, runcoach_jwt_policy_t *policy,
    ngx_str_t *azp);
static char *ngx_http_runcoach_issuer_time(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, time_t *seconds);
static const runcoach_str_t *ngx_http_runcoach_issuer_list(ngx_conf_t *cf,
    ngx_str_t *value, size_t *n);
static char *ngx_http_runcoach_issuer_keys(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_default_url(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_session(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_runcoach_auth_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_auth_init(ngx_conf_t *cf);


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

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_auth_module_ctx = {
    ngx_http_runcoach_auth_variables,        /* preconfiguration */
    ngx_http_runcoach_auth_init,             /* postconfiguration */

    ngx_http_runcoach_auth_create_main_conf, /* create main configuration */
    NULL,                                    /* init main configuration */

    NULL,                                    /* create server configuration */
    NULL,                                    /* merge server configuration */

    ngx_http_runcoach_auth_create_loc_conf,  /* create location configuration */
    ngx_http_runcoach_auth_merge_loc_conf    /* merge location configuration */
};


ngx_module_t  ngx_http_runcoach_auth_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_auth_module_ctx,    /* module context */
    ngx_http_runcoach_auth_commands,       /* module directives */
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

      ngx_http_null_variable
};


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
        return ngx_http_runcoach_auth_decide(r, ctx, ctx->verdict);
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
    ngx_http_runcoach_auth_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_auth_module,
                                    ngx_http_runcoach_auth_cleanup);
    if (ctx == NULL) {
        ctx = ngx_http_runcoach_ctx_add(r, &ngx_http_runcoach_auth_module,
                                        ngx_http_runcoach_auth_cleanup,
                                        sizeof(ngx_http_runcoach_auth_ctx_t));
        if (ctx == NULL) {
            return NULL;
        }

    } else if (ctx->methods == alcf->methods
               && ctx->fallback == alcf->fallback)
    {
        return ctx;

    } else {
        ngx_http_runcoach_auth_cleanup(ctx);
        ngx_memzero(ctx, sizeof(ngx_http_runcoach_auth_ctx_t));
    }

    ctx->request = r;
    ctx->methods = alcf->methods;
    ctx->fallback = alcf->fallback;

    return ctx;
}


static ngx_int_t
ngx_http_runcoach_auth_run(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_int_t  rc;

    for ( /* void */ ; ctx->step < ctx->methods->nsteps; ctx->step++) {

        if (ctx->step > 0
            && (ctx->fallback == NGX_HTTP_RUNCOACH_FALLBACK_NEVER
                || (ctx->fallback == NGX_HTTP_RUNCOACH_FALLBACK_MISSING
                    && (ctx->refused || ctx->unavailable))))
        {
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

    return ngx_http_runcoach_auth_decide(r, ctx, NGX_HTTP_UNAUTHORIZED);
}


static ngx_int_t
ngx_http_runcoach_auth_decide(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_int_t verdict)
{
    ctx->decided = 1;
    ctx->verdict = verdict;

    if (verdict == NGX_HTTP_UNAUTHORIZED) {
        return ngx_http_runcoach_auth_challenge(r, ctx);
    }

    return verdict;
}


/* RFC 6750 section 3: no error code if no credentials were presented */

static ngx_int_t
ngx_http_runcoach_auth_challenge(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_table_elt_t  *h;

    h = r->headers_out.www_authenticate;

    if (h == NULL) {
        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_http_runcoach_header_init(h);
        r->headers_out.www_authenticate = h;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "WWW-Authenticate");

    if (ctx->refused) {
        ngx_str_set(&h->value, "Bearer error=\"invalid_token\"");

    } else {
        ngx_str_set(&h->value, "Bearer");
    }

    return NGX_HTTP_UNAUTHORIZED;
}


static ngx_int_t
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

static ngx_int_t
ngx_http_runcoach_auth_unavailable(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const char *reason)
{
    ctx->reason.data = (u_char *) reason;
    ctx->reason.len = ngx_strlen(reason);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "credentials not checked: %V", &ctx->reason);

    return NGX_HTTP_SERVICE_UNAVAILABLE;
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
ngx_http_runcoach_auth_token(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_int_t                     rc;
    ngx_str_t                     token;
    runcoach_jwt_t               *jwt;
    runcoach_jwt_rc_e             parsed;
    ngx_http_runcoach_carrier_e   carrier;

    if (ngx_http_runcoach_auth_find_token(r, ctx, &token, &carrier)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    parsed = runcoach_jwt_parse(&jwt, token.data, token.len);

    if (parsed == RUNCOACH_JWT_NO_MEMORY) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (parsed != RUNCOACH_JWT_OK) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                             runcoach_jwt_reason(parsed));
    }

    rc = ngx_http_runcoach_auth_verify(r, ctx, jwt, carrier);

    runcoach_jwt_free(jwt);

    return rc;
}


/* the header wins: unlike the cookie it is never sent without intent */

static ngx_int_t
ngx_http_runcoach_auth_find_token(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_str_t *token,
    ngx_http_runcoach_carrier_e *carrier)
{
    ngx_uint_t                    i;
    ngx_http_runcoach_issuer_t  **issuer;

    static ngx_str_t  session = ngx_string("__session");

    if (ngx_http_runcoach_auth_bearer(r, token) == NGX_OK) {
        *carrier = NGX_HTTP_RUNCOACH_HEADER;
        return NGX_OK;
    }

    *carrier = NGX_HTTP_RUNCOACH_COOKIE;
    issuer = ctx->methods->issuers.elts;

    for (i = 0; i < ctx->methods->issuers.nelts; i++) {

        if (issuer[i]->cookie.len != 0
            && ngx_http_runcoach_cookie(r, &issuer[i]->cookie, token) == NGX_OK
            && token->len != 0)
        {
            return NGX_OK;
        }
    }

    if (ngx_http_runcoach_cookie(r, &session, token) == NGX_OK
        && token->len != 0)
    {
        return NGX_OK;
    }

    return NGX_DECLINED;
}


/* RFC 9110 section 11.1: the scheme is case-insensitive */

static ngx_int_t
ngx_http_runcoach_auth_bearer(ngx_http_request_t *r, ngx_str_t *token)
{
    u_char           *p, *last;
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL
        || h->value.len < sizeof("Bearer ") - 1
        || ngx_strncasecmp(h->value.data, (u_char *) "Bearer ",
                           sizeof("Bearer ") - 1)
           != 0)
    {
        return NGX_DECLINED;
    }

    p = h->value.data + sizeof("Bearer ") - 1;
    last = h->value.data + h->value.len;

    while (p < last && *p == ' ') {
        p++;
    }

    token->data = p;
    token->len = last - p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_auth_verify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, runcoach_jwt_t *jwt,
    ngx_http_runcoach_carrier_e carrier)
{
    ngx_int_t                    rc;
    runcoach_jwt_rc_e            checked;
    ngx_http_runcoach_issuer_t  *issuer;

    issuer = ngx_http_runcoach_auth_issuer(ctx->methods, jwt);

    if (issuer == NULL) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                     runcoach_jwt_reason(RUNCOACH_JWT_ISSUER));
    }

    checked = runcoach_jwt_check_claims(jwt, &issuer->policy[carrier],
                                        ngx_time());

    if (checked != RUNCOACH_JWT_OK) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                             runcoach_jwt_reason(checked));
    }

    rc = ngx_http_runcoach_auth_signature(r, ctx, jwt, issuer);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_runcoach_auth_identify(r, ctx, jwt, issuer);
}


static ngx_int_t
ngx_http_runcoach_auth_signature(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, runcoach_jwt_t *jwt,
    ngx_http_runcoach_issuer_t *issuer)
{
    ngx_int_t               rc;
    runcoach_jwt_rc_e       checked;
    const runcoach_jwks_t  *set;

    set = ngx_http_runcoach_keys_get(issuer->keys);

    if (set == NULL) {

        if (ctx->fetched) {
            return ngx_http_runcoach_auth_unavailable(r, ctx,
                                                      "keys-unavailable");
        }

        ctx->fetched = 1;

        rc = ngx_http_runcoach_keys_fetch(r, issuer->keys, 0, &ctx->pending);

        return rc == NGX_DECLINED
               ? ngx_http_runcoach_auth_unavailable(r, ctx, "keys-unavailable")
               : rc == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR
               : rc;
    }

    checked = runcoach_jwt_check_signature(jwt, set, issuer->policy[0].algs);

    if (checked == RUNCOACH_JWT_UNKNOWN_KEY && !ctx->forced) {
        ctx->forced = 1;

        rc = ngx_http_runcoach_keys_fetch(r, issuer->keys, 1, &ctx->pending);

        if (rc != NGX_DECLINED) {
            return rc == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
        }
    }

    if (checked == RUNCOACH_JWT_UNKNOWN_KEY
        && ngx_http_runcoach_keys_failed(issuer->keys))
    {
        /* it may be a new one: nobody could tell */

        return ngx_http_runcoach_auth_unavailable(r, ctx, "keys-unavailable");
    }

    if (checked != RUNCOACH_JWT_OK) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                             runcoach_jwt_reason(checked));
    }

    ngx_http_runcoach_keys_refresh(r, issuer->keys);

    return NGX_OK;
}


/* exactly one issuer of the location, before any key is looked up */

static ngx_http_runcoach_issuer_t *
ngx_http_runcoach_auth_issuer(const ngx_http_runcoach_methods_t *methods,
    runcoach_jwt_t *jwt)
{
    ngx_uint_t                    i;
    runcoach_str_t                iss, *name;
    ngx_http_runcoach_issuer_t  **issuer;

    if (!runcoach_jwt_claim(jwt, "iss", &iss)) {
        return NULL;
    }

    issuer = methods->issuers.elts;

    for (i = 0; i < methods->issuers.nelts; i++) {
        name = &issuer[i]->policy[0].issuer;

        if (name->len == iss.len
            && ngx_memcmp(name->data, iss.data, iss.len) == 0)
        {
            return issuer[i];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_runcoach_auth_identify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, runcoach_jwt_t *jwt,
    ngx_http_runcoach_issuer_t *issuer)
{
    ngx_str_t       user, sid;
    runcoach_str_t  value;

    if (!runcoach_jwt_claim(jwt, "sub", &value)
        || (issuer->internal_user
            && ngx_atoi((u_char *) value.data, value.len) <= 0))
    {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                   runcoach_jwt_reason(RUNCOACH_JWT_SUBJECT));
    }

    if (ngx_http_runcoach_auth_copy(r, &user, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!runcoach_jwt_claim(jwt, "sid", &value)) {
        value.len = 0;
    }

    if (ngx_http_runcoach_auth_copy(r, &sid, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->method = issuer->name;
    ctx->user = user;
    ctx->session_id = sid;

    if (issuer->internal_user) {
        ctx->user_id = user;

    } else if (issuer->clerk) {
        ctx->clerk_user_id = user;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_auth_copy(ngx_http_request_t *r, ngx_str_t *dst,
    runcoach_str_t *src)
{
    ngx_str_null(dst);

    if (src->len == 0) {
        return NGX_OK;
    }

    dst->data = ngx_pnalloc(r->pool, src->len);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->data, src->data, src->len);
    dst->len = src->len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_auth_session(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_str_t                            id;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    if (ctx->asked) {
        return ngx_http_runcoach_auth_session_verdict(r, ctx);
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);

    if (ngx_http_runcoach_redis(r) == NULL
        || ngx_http_runcoach_cookie(r, &amcf->session_cookie, &id) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    if (!runcoach_session_valid_id(id.data, id.len)) {
        return ngx_http_runcoach_auth_refuse(r, ctx, "session-id-malformed");
    }

    return ngx_http_runcoach_auth_session_send(r, ctx, &id);
}


static ngx_int_t
ngx_http_runcoach_auth_session_send(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_str_t *id)
{
    ngx_str_t                            argv[2], *key;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);
    key = &argv[1];

    ngx_str_set(&argv[0], "GET");

    key->len = amcf->session_prefix.len + id->len;
    key->data = ngx_pnalloc(r->pool, key->len);
    if (key->data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_sprintf(key->data, "%V%V", &amcf->session_prefix, id);

    ctx->session_user.data = ngx_pnalloc(r->pool, RUNCOACH_SESSION_USER);
    if (ctx->session_user.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->cmd = ngx_runcoach_redis_send(ngx_http_runcoach_redis(r), 2, argv,
                                       ngx_http_runcoach_auth_session_reply,
                                       ctx);
    if (ctx->cmd == NULL) {
        return ngx_http_runcoach_auth_unavailable(r, ctx,
                                                  "session-store-unavailable");
    }

    ctx->asked = 1;

    return ngx_http_runcoach_await(r);
}


static void
ngx_http_runcoach_auth_session_reply(void *data, redisReply *reply)
{
    ngx_http_runcoach_auth_ctx_t  *ctx = data;

    ctx->cmd = NULL;

    if (reply == NULL) {
        ctx->session_rc = NGX_ERROR;

    } else if (reply->type == REDIS_REPLY_ERROR) {

        /* a key of another type is no session; the rest is Redis' trouble */

        ctx->session_rc = (ngx_strncmp(reply->str, "WRONGTYPE", 9) == 0)
                          ? NGX_OK : NGX_ERROR;

    } else if (reply->type == REDIS_REPLY_STRING) {
        ctx->session_user.len = runcoach_session_user(ctx->session_user.data,
                                                      (u_char *) reply->str,
                                                      reply->len);
        ctx->session_rc = NGX_OK;

    } else {
        ctx->session_rc = NGX_DECLINED;
    }

    ngx_http_runcoach_wake(ctx->request);
}


static ngx_int_t
ngx_http_runcoach_auth_session_verdict(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    if (ctx->session_rc == NGX_ERROR) {
        return ngx_http_runcoach_auth_unavailable(r, ctx,
                                                  "session-store-unavailable");
    }

    if (ctx->session_rc == NGX_DECLINED) {
        return ngx_http_runcoach_auth_refuse(r, ctx, "session-unknown");
    }

    if (ctx->session_user.len == 0) {
        return ngx_http_runcoach_auth_refuse(r, ctx, "session-malformed");
    }

    ngx_str_set(&ctx->method, "session");
    ctx->user = ctx->session_user;
    ctx->user_id = ctx->session_user;

    return NGX_OK;
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


static void *
ngx_http_runcoach_auth_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_auth_main_conf_t));
    if (amcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&amcf->issuers, cf->pool, 4,
                       sizeof(ngx_http_runcoach_issuer_t))
        != NGX_OK)
    {
        return NULL;
    }

    ngx_str_set(&amcf->session_cookie, "session_id");
    ngx_str_set(&amcf->session_prefix, "session:");

    return amcf;
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

    ngx_conf_merge_uint_value(conf->fallback, prev->fallback,
                              NGX_HTTP_RUNCOACH_FALLBACK_INVALID);

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
    ngx_str_t                            *name;
    ngx_uint_t                            i, n;
    ngx_http_runcoach_issuer_t           *issuer, **p;
    ngx_http_runcoach_methods_t          *methods;
    ngx_http_runcoach_auth_main_conf_t   *amcf;

    if (ngx_http_runcoach_names_off(conf->names)) {
        return NGX_CONF_OK;
    }

    amcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_auth_module);

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

        if (ngx_http_runcoach_names_eq(&name[i], "session")) {
            methods->steps[methods->nsteps++] = ngx_http_runcoach_auth_session;
            continue;
        }

        issuer = ngx_http_runcoach_auth_known_issuer(amcf, &name[i]);

        if (issuer == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown method \"%V\" in runcoach_auth, must be "
                          "\"session\", \"off\" or the name of a "
                          "runcoach_issuer", &name[i]);
            return NGX_CONF_ERROR;
        }

        if (issuer->keys == NULL) {
            continue;
        }

        if (methods->issuers.nelts == 0) {
            methods->steps[methods->nsteps++] = ngx_http_runcoach_auth_token;
        }

        p = ngx_array_push(&methods->issuers);
        if (p == NULL) {
            return NGX_CONF_ERROR;
        }

        *p = issuer;
    }

    conf->methods = methods;

    return NGX_CONF_OK;
}


static ngx_http_runcoach_issuer_t *
ngx_http_runcoach_auth_known_issuer(ngx_http_runcoach_auth_main_conf_t *amcf,
    ngx_str_t *name)
{
    ngx_uint_t                   i;
    ngx_http_runcoach_issuer_t  *issuer;

    issuer = amcf->issuers.elts;

    for (i = 0; i < amcf->issuers.nelts; i++) {

        if (issuer[i].name.len == name->len
            && ngx_strncmp(issuer[i].name.data, name->data, name->len) == 0)
        {
            return &issuer[i];
        }
    }

    return NULL;
}


static char *
ngx_http_runcoach_issuer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf = conf;

    char                               *rv;
    ngx_str_t                          *value;
    ngx_http_runcoach_issuer_t         *issuer;
    ngx_http_runcoach_issuer_params_t   params;

    value = cf->args->elts;

    if (ngx_http_runcoach_names_eq(&value[1], "session")
        || ngx_http_runcoach_names_eq(&value[1], "off")
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '=')
           != NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" in runcoach_issuer, must be "
                           "a word other than \"session\" and \"off\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_runcoach_auth_known_issuer(amcf, &value[1]) != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate runcoach_issuer \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    issuer = ngx_array_push(&amcf->issuers);
    if (issuer == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(issuer, sizeof(ngx_http_runcoach_issuer_t));
    ngx_memzero(&params, sizeof(ngx_http_runcoach_issuer_params_t));

    issuer->name = value[1];
    issuer->clerk = ngx_http_runcoach_names_eq(&value[1], "clerk");

    rv = ngx_http_runcoach_issuer_params(cf, &params);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (params.publishable_key.len == 0 && params.issuer.len == 0
        && (params.key.len != 0 || params.jwks_url.len != 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "runcoach_issuer \"%V\" has keys but no issuer: "
                           "needs publishable_key= or issuer=", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (params.publishable_key.len == 0 && params.issuer.len == 0) {
        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "runcoach_issuer \"%V\" is off: neither "
                           "publishable_key= nor issuer= is set", &value[1]);
        return NGX_CONF_OK;
    }

    rv = ngx_http_runcoach_issuer_publishable_key(cf, issuer, &params);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_policy(cf, issuer, &params);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_runcoach_issuer_keys(cf, issuer, &params);
}


static char *
ngx_http_runcoach_issuer_params(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params)
{
    ngx_http_runcoach_param_t  known[] = {
        { "publishable_key", &params->publishable_key },
        { "issuer", &params->issuer },
        { "jwks", &params->jwks },
        { "jwks_url", &params->jwks_url },
        { "key", &params->key },
        { "authorized_parties", &params->parties },
        { "audience", &params->audience },
        { "azp", &params->azp },
        { "leeway", &params->leeway },
        { "max_lifetime", &params->max_lifetime },
        { "user", &params->user },
        { NULL, NULL }
    };

    return ngx_http_runcoach_params(cf, 2, known);
}


/*
 * pk_test_ or pk_live_, then the base64 of the Frontend API's host and "$".
 * It gives the issuer and the suffix of Clerk's cookies.
 */

static char *
ngx_http_runcoach_issuer_publishable_key(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    u_char      *p, *last, digest[20], suffix[28];
    ssize_t      n;
    ngx_str_t   *pk, host;
    ngx_sha1_t   sha1;

    pk = &params->publishable_key;

    if (pk->len == 0) {
        return NGX_CONF_OK;
    }

    if (pk->len <= 8
        || (ngx_strncmp(pk->data, "pk_test_", 8) != 0
            && ngx_strncmp(pk->data, "pk_live_", 8) != 0))
    {
        goto invalid;
    }

    host.data = ngx_pnalloc(cf->pool, runcoach_base64_decoded_max(pk->len));
    if (host.data == NULL) {
        return NGX_CONF_ERROR;
    }

    n = runcoach_base64_decode_any(host.data, pk->data + 8, pk->len - 8);

    if (n < 2 || host.data[n - 1] != '$') {
        goto invalid;
    }

    host.len = n - 1;
    last = host.data + host.len;

    if (ngx_strlchr(host.data, last, '.') == NULL) {
        goto invalid;
    }

    for (p = host.data; p < last; p++) {

        if ((*p >= 'a' && *p <= 'z')
            || (*p >= 'A' && *p <= 'Z')
            || (*p >= '0' && *p <= '9')
            || *p == '-' || *p == '.' || *p == ':')
        {
            continue;
        }

        goto invalid;
    }

    issuer->clerk = 1;

    if (params->issuer.len == 0) {
        params->issuer.len = sizeof("https://") - 1 + host.len;
        params->issuer.data = ngx_pnalloc(cf->pool, params->issuer.len + 1);
        if (params->issuer.data == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_sprintf(params->issuer.data, "https://%V%Z", &host);
    }

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, pk->data, pk->len);
    ngx_sha1_final(digest, &sha1);

    (void) runcoach_base64url_encode(suffix, digest, sizeof(digest));

    issuer->cookie.len = sizeof("__session_") - 1 + 8;
    issuer->cookie.data = ngx_pnalloc(cf->pool, issuer->cookie.len);
    if (issuer->cookie.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_sprintf(issuer->cookie.data, "__session_%*s", (size_t) 8, suffix);

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid publishable_key \"%V\" in runcoach_issuer, "
                       "must be pk_test_... or pk_live_... as Clerk's "
                       "dashboard shows it", pk);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_issuer_policy(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    char                   *rv;
    size_t                  i;
    runcoach_jwt_policy_t  *policy;

    policy = &issuer->policy[NGX_HTTP_RUNCOACH_HEADER];

    policy->algs = RUNCOACH_ALG_RS256;
    policy->issuer.data = params->issuer.data;
    policy->issuer.len = params->issuer.len;
    policy->leeway = 5;
    policy->max_lifetime = 24 * 60 * 60;

    rv = ngx_http_runcoach_issuer_time(cf, "leeway", &params->leeway,
                                       &policy->leeway);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_time(cf, "max_lifetime",
                                       &params->max_lifetime,
                                       &policy->max_lifetime);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    policy->parties = ngx_http_runcoach_issuer_list(cf, &params->parties,
                                                    &policy->nparties);
    policy->audiences = ngx_http_runcoach_issuer_list(cf, &params->audience,
                                                      &policy->naudiences);

    if (policy->parties == NULL || policy->audiences == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < policy->nparties; i++) {

        if (ngx_strnstr((u_char *) policy->parties[i].data, "://",
                        policy->parties[i].len)
            == NULL)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid authorized_parties \"%V\" in "
                               "runcoach_issuer, must be origins like "
                               "https://app.example.com", &params->parties);
            return NGX_CONF_ERROR;
        }
    }

    if (params->user.len != 0) {

        if (!ngx_http_runcoach_names_eq(&params->user, "internal")) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid user \"%V\" in runcoach_issuer, "
                               "must be \"internal\" or left out",
                               &params->user);
            return NGX_CONF_ERROR;
        }

        issuer->internal_user = 1;
        policy->numeric_subject = 1;
    }

    if (params->azp.len != 0 && policy->nparties == 0
        && ngx_http_runcoach_names_eq(&params->azp, "require"))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "azp \"require\" in runcoach_issuer \"%V\" needs "
                           "authorized_parties=, with the origins it may be",
                           &issuer->name);
        return NGX_CONF_ERROR;
    }

    return ngx_http_runcoach_issuer_azp(cf, issuer, policy, &params->azp);
}


/*
 * Clerk leaves azp out of the cookie's token when the browser asked for a
 * document, so by default only the header's token must have one.
 */

static char *
ngx_http_runcoach_issuer_azp(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer, runcoach_jwt_policy_t *policy,
    ngx_str_t *azp)
{
    ngx_uint_t              header, cookie;
    runcoach_jwt_policy_t  *cookies;

    header = 1;
    cookie = 0;

    if (azp->len == 0) {
        /* void */

    } else if (ngx_http_runcoach_names_eq(azp, "require")) {
        cookie = 1;

    } else if (ngx_http_runcoach_names_eq(azp, "if-present")) {
        header = 0;

    } else if (ngx_http_runcoach_names_eq(azp, "off")) {
        policy->nparties = 0;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid azp \"%V\" in runcoach_issuer, must be "
                           "\"require\", \"if-present\" or \"off\"", azp);
        return NGX_CONF_ERROR;
    }

    cookies = &issuer->policy[NGX_HTTP_RUNCOACH_COOKIE];
    *cookies = *policy;

    policy->azp_required = header;
    cookies->azp_required = cookie;

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_issuer_time(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, time_t *seconds)
{
    ngx_int_t  n;

    if (value->len == 0) {
        return NGX_CONF_OK;
    }

    n = ngx_parse_time(value, 1);

    if (n == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %s \"%V\" in runcoach_issuer, "
                           "must be a time like 5s or 24h", name, value);
        return NGX_CONF_ERROR;
    }

    *seconds = n;

    return NGX_CONF_OK;
}


/* NULL: no memory, or an error that has been logged; "" has zero items */

static const runcoach_str_t *
ngx_http_runcoach_issuer_list(ngx_conf_t *cf, ngx_str_t *value, size_t *n)
{
    ngx_str_t       *item;
    ngx_uint_t       i;
    ngx_array_t     *list;
    runcoach_str_t  *strings;

    list = ngx_http_runcoach_list(cf, value);
    if (list == NULL) {
        return NULL;
    }

    if (value->len != 0 && list->nelts == 0) {

        /* not the same as none: a check that was asked for must not vanish */

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "empty list \"%V\" in runcoach_issuer, must be "
                           "like https://app.example.com,https://example.com",
                           value);
        return NULL;
    }

    strings = ngx_palloc(cf->pool, (list->nelts + 1) * sizeof(runcoach_str_t));
    if (strings == NULL) {
        return NULL;
    }

    item = list->elts;

    for (i = 0; i < list->nelts; i++) {
        strings[i].data = item[i].data;
        strings[i].len = item[i].len;
    }

    *n = list->nelts;

    return strings;
}


static char *
ngx_http_runcoach_issuer_keys(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    char                *rv;
    runcoach_jwks_t     *fixed;
    runcoach_jwks_rc_e   rc;

    fixed = NULL;

    if (params->key.len != 0) {
        rc = runcoach_jwks_from_pem(&fixed, params->key.data, params->key.len);

        if (rc != RUNCOACH_JWKS_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid key in runcoach_issuer \"%V\", must "
                               "be a public RSA key of 2048 bits or more "
                               "in PEM", &issuer->name);
            return NGX_CONF_ERROR;
        }

    } else if (params->jwks.len == 0 || params->jwks.data[0] != '/') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "runcoach_issuer \"%V\" has no keys: needs key= "
                           "with a public key in PEM, or jwks= with an "
                           "internal location like /_jwks/%V, not \"%V\"",
                           &issuer->name, &issuer->name, &params->jwks);
        return NGX_CONF_ERROR;

    } else if (params->jwks_url.len == 0) {
        rv = ngx_http_runcoach_issuer_default_url(cf, params);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    issuer->keys = ngx_http_runcoach_keys_create(cf, &issuer->name, fixed,
                                                 &params->jwks,
                                                 &params->jwks_url);

    return issuer->keys != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_issuer_default_url(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params)
{
    ngx_str_t  *url;

    url = &params->jwks_url;

    url->len = params->issuer.len + sizeof("/.well-known/jwks.json") - 1;
    url->data = ngx_pnalloc(cf->pool, url->len);
    if (url->data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_sprintf(url->data, "%V/.well-known/jwks.json", &params->issuer);

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_session(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_auth_main_conf_t  *amcf = conf;

    ngx_http_runcoach_param_t  known[] = {
        { "cookie", &amcf->session_cookie },
        { "prefix", &amcf->session_prefix },
        { NULL, NULL }
    };

    return ngx_http_runcoach_params(cf, 1, known);
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
    ngx_http_runcoach_issuer_t          *issuer;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_auth_module);
    issuer = amcf->issuers.elts;

    for (i = 0; i < amcf->issuers.nelts; i++) {

        if (issuer[i].keys != NULL && !ngx_http_runcoach_has_zone(cf)) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "runcoach_issuer \"%V\" needs runcoach_zone, "
                          "like \"runcoach_zone runcoach:16m;\"",
                          &issuer[i].name);
            return NGX_ERROR;
        }
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_runcoach_auth_handler;

    return NGX_OK;
}
