
/*
 * The sessions of the existing application: an id in a cookie, a JSON value in
 * Redis.
 */


#include "ngx_http_runcoach_auth.h"
#include "runcoach_session.h"


static ngx_int_t ngx_http_runcoach_session_known(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_session_send(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static void ngx_http_runcoach_session_reply(void *data, redisReply *reply);
static ngx_int_t ngx_http_runcoach_session_verdict(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);


ngx_int_t
ngx_http_runcoach_auth_session(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_http_runcoach_cookie_t           cookie;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    if (ctx->asked) {
        return ngx_http_runcoach_session_verdict(r, ctx);
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);

    if (ngx_http_runcoach_redis(r) == NULL) {
        return NGX_DECLINED;
    }

    ngx_str_null(&ctx->session_key);

    cookie.name = &amcf->session_cookie;
    cookie.value = &ctx->session_key;

    ngx_http_runcoach_cookies(r, &cookie, 1);

    if (ctx->session_key.data == NULL) {
        return NGX_DECLINED;
    }

    ngx_str_set(&ctx->cached, "MISS");

    if (!runcoach_session_valid_id(ctx->session_key.data,
                                   ctx->session_key.len))
    {
        return ngx_http_runcoach_auth_refuse(r, ctx, "session-id-malformed");
    }

    ctx->session_user.data = ngx_pnalloc(r->pool, RUNCOACH_SESSION_USER);
    if (ctx->session_user.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_runcoach_session_known(r, ctx) == NGX_OK) {
        ngx_str_set(&ctx->cached, "HIT");

        return ngx_http_runcoach_session_verdict(r, ctx);
    }

    return ngx_http_runcoach_session_send(r, ctx);
}


static ngx_int_t
ngx_http_runcoach_session_known(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_str_t                            user;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);

    if (amcf->session_cache == 0) {
        ngx_str_set(&ctx->cached, "OFF");
        return NGX_DECLINED;
    }

    ctx->session_rc = ngx_http_runcoach_verdict_session_get(&ctx->session_key,
                                                            &user);

    if (ctx->session_rc == NGX_AGAIN) {
        return NGX_DECLINED;
    }

    if (ctx->session_rc == NGX_OK) {
        ngx_memcpy(ctx->session_user.data, user.data, user.len);
        ctx->session_user.len = user.len;
    }

    ctx->asked = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_session_send(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_str_t                            argv[2], *key;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);
    key = &argv[1];

    ngx_str_set(&argv[0], "GET");

    key->len = amcf->session_prefix.len + ctx->session_key.len;
    key->data = ngx_pnalloc(r->pool, key->len);
    if (key->data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_sprintf(key->data, "%V%V", &amcf->session_prefix, &ctx->session_key);

    ctx->cmd = ngx_runcoach_redis_send(ngx_http_runcoach_redis(r), 2, argv,
                                       ngx_http_runcoach_session_reply, ctx);
    if (ctx->cmd == NULL) {
        return ngx_http_runcoach_auth_unavailable(r, ctx,
                                                  "session-store-unavailable");
    }

    ctx->asked = 1;

    return ngx_http_runcoach_await(r);
}


/* trouble is not remembered: it may be over with the next request */

static void
ngx_http_runcoach_session_reply(void *data, redisReply *reply)
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

    if (ctx->session_rc != NGX_ERROR) {
        ngx_http_runcoach_verdict_session_put(ctx->request, &ctx->session_key,
                                              &ctx->session_user,
                                              ctx->session_rc);
    }

    ngx_http_runcoach_wake(ctx->request);
}


static ngx_int_t
ngx_http_runcoach_session_verdict(ngx_http_request_t *r,
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
