
/*
 * Tokens: where a request has one, and whether it is good.
 */


#include "ngx_http_runcoach_auth.h"
#include "ngx_http_runcoach_revocations.h"


/* what a request has of one of Clerk's instances */

typedef struct {
    ngx_str_t                     plain;
    ngx_str_t                     suffixed;
    ngx_str_t                     plain_uat;
    ngx_str_t                     suffixed_uat;
} ngx_http_runcoach_clerk_t;


static ngx_int_t ngx_http_runcoach_token_find(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_token_bearer(ngx_http_request_t *r,
    ngx_str_t *token);
static ngx_int_t ngx_http_runcoach_token_cookie(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static runcoach_clerk_choice_e ngx_http_runcoach_token_choose(
    ngx_http_request_t *r, ngx_http_runcoach_auth_ctx_t *ctx,
    ngx_http_runcoach_clerk_t *found);
static runcoach_clerk_choice_e ngx_http_runcoach_token_suffixed(
    ngx_http_runcoach_issuer_t *issuer, ngx_http_runcoach_clerk_t *found);
static void ngx_http_runcoach_token_facts(runcoach_clerk_session_t *session,
    ngx_str_t *token, const runcoach_str_t *issuer);
static ngx_int_t ngx_http_runcoach_token_query(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *token);
static ngx_int_t ngx_http_runcoach_token_cut(ngx_http_request_t *r,
    ngx_str_t *args, ngx_str_t *name, ngx_str_t *token);
static u_char *ngx_http_runcoach_token_argument(u_char *p, u_char *last,
    ngx_str_t *name);
static ngx_int_t ngx_http_runcoach_token_uri(ngx_http_request_t *r, size_t path,
    ngx_str_t *args);
static ngx_int_t ngx_http_runcoach_token_known(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_token_verify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_http_runcoach_issuer_t *ngx_http_runcoach_token_issuer(
    const ngx_http_runcoach_methods_t *methods, const runcoach_jwt_t *jwt);
static ngx_uint_t ngx_http_runcoach_token_foreign(
    ngx_http_runcoach_auth_ctx_t *ctx, const runcoach_jwt_t *jwt);
static ngx_int_t ngx_http_runcoach_token_number(const runcoach_jwt_t *jwt);
static ngx_int_t ngx_http_runcoach_token_signature(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const runcoach_jwt_t *jwt,
    ngx_http_runcoach_issuer_t *issuer);
static ngx_uint_t ngx_http_runcoach_token_revoked(ngx_http_request_t *r,
    ngx_http_runcoach_issuer_t *issuer, ngx_http_runcoach_verdict_t *verdict);
static ngx_int_t ngx_http_runcoach_token_identify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_verdict_t *verdict);
static void ngx_http_runcoach_cookie_line(ngx_str_t *line,
    ngx_http_runcoach_cookie_t *cookies, ngx_uint_t n);


/* for the length of a call: never in use when control is back in nginx */

static runcoach_jwt_t  ngx_http_runcoach_jwt;


ngx_int_t
ngx_http_runcoach_auth_token(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_int_t                            rc;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    if (!ctx->found) {
        rc = ngx_http_runcoach_token_find(r, ctx);

        if (rc != NGX_OK) {
            return rc;
        }

        ctx->found = 1;
    }

    if (runcoach_jwt_opaque(ctx->token.data, ctx->token.len)) {

        /* somebody logs in as a machine: no cookie is to speak for it */

        ctx->last = 1;
        return ngx_http_runcoach_auth_refuse(r, ctx, "token-type-opaque");
    }

    rc = ngx_http_runcoach_token_known(r, ctx);

    if (rc != NGX_DECLINED) {
        ngx_str_set(&ctx->cached, "HIT");
        return rc;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);

    if (amcf->cache) {
        ngx_str_set(&ctx->cached, "MISS");

    } else {
        ngx_str_set(&ctx->cached, "OFF");
    }

    return ngx_http_runcoach_token_verify(r, ctx);
}


static ngx_int_t
ngx_http_runcoach_token_find(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_int_t                    found;
    ngx_uint_t                   i;
    ngx_http_runcoach_source_t  *source;

    found = NGX_DECLINED;
    source = ctx->sources->elts.elts;

    for (i = 0; i < ctx->sources->elts.nelts && found == NGX_DECLINED; i++) {
        ctx->carrier = NGX_HTTP_RUNCOACH_HEADER;

        switch (source[i].type) {

        case NGX_HTTP_RUNCOACH_SOURCE_HEADER:
            found = ngx_http_runcoach_token_bearer(r, &ctx->token);
            break;

        case NGX_HTTP_RUNCOACH_SOURCE_COOKIE:
            ctx->carrier = NGX_HTTP_RUNCOACH_COOKIE;
            found = ngx_http_runcoach_token_cookie(r, ctx);
            break;

        case NGX_HTTP_RUNCOACH_SOURCE_QUERY:

            if (ctx->query_token.len != 0
                && ctx->query_name.len == source[i].name.len
                && ngx_memcmp(ctx->query_name.data, source[i].name.data,
                              source[i].name.len)
                   == 0)
            {
                ctx->token = ctx->query_token;
                found = NGX_OK;
            }

            break;

        default: /* NGX_HTTP_RUNCOACH_SOURCE_VALUE */

            if (ngx_http_complex_value(r, &source[i].value, &ctx->token)
                != NGX_OK)
            {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }

            found = ctx->token.len != 0 ? NGX_OK : NGX_DECLINED;
        }
    }

    return found;
}


/* RFC 9110 section 11.1: the scheme is case-insensitive */

static ngx_int_t
ngx_http_runcoach_token_bearer(ngx_http_request_t *r, ngx_str_t *token)
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


/*
 * The cookie that has an instance's suffix is its own, the plain one may be of
 * another instance on a domain above.  A browser that has signed out may have a
 * token left, but says so.
 */

static ngx_int_t
ngx_http_runcoach_token_cookie(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_str_t                    *token, *value;
    runcoach_clerk_uat_t          uat;
    ngx_http_runcoach_clerk_t     cookies;

    if (ngx_http_runcoach_token_choose(r, ctx, &cookies)
        == RUNCOACH_CLERK_SUFFIXED)
    {
        token = &cookies.suffixed;
        value = &cookies.suffixed_uat;

    } else {
        token = &cookies.plain;
        value = &cookies.plain_uat;
    }

    if (token->len == 0) {
        return NGX_DECLINED;
    }

    ctx->token = *token;

    runcoach_clerk_uat(&uat, value->data, value->len);

    if (!uat.present) {
        return NGX_OK;
    }

    if (uat.value == 0) {
        return ngx_http_runcoach_auth_refuse(r, ctx, "signed-out");
    }

    ctx->uat = uat.value;

    return NGX_OK;
}


static runcoach_clerk_choice_e
ngx_http_runcoach_token_choose(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_http_runcoach_clerk_t *found)
{
    ngx_uint_t                    i, n;
    ngx_http_runcoach_issuer_t  **issuer;

    static ngx_str_t  session = ngx_string("__session");
    static ngx_str_t  client_uat = ngx_string("__client_uat");

    ngx_http_runcoach_cookie_t  cookies[] = {
        { &session, &found->plain },
        { &client_uat, &found->plain_uat },
        { NULL, &found->suffixed },
        { NULL, &found->suffixed_uat }
    };

    issuer = ctx->methods->issuers.elts;
    n = 2;

    for (i = 0; i < ctx->methods->issuers.nelts; i++) {

        if (issuer[i]->session_cookie.len == 0) {
            continue;
        }

        cookies[2].name = &issuer[i]->session_cookie;
        cookies[3].name = &issuer[i]->uat_cookie;
        n = 4;

        ngx_memzero(found, sizeof(ngx_http_runcoach_clerk_t));
        ngx_http_runcoach_cookies(r, cookies, n);

        if (found->suffixed.len != 0 || found->suffixed_uat.len != 0) {
            return ngx_http_runcoach_token_suffixed(issuer[i], found);
        }
    }

    if (n == 2) {
        ngx_memzero(found, sizeof(ngx_http_runcoach_clerk_t));
        ngx_http_runcoach_cookies(r, cookies, n);
    }

    return RUNCOACH_CLERK_PLAIN;
}


/* both are the same token unless there are two instances, or a race */

static runcoach_clerk_choice_e
ngx_http_runcoach_token_suffixed(ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_clerk_t *found)
{
    runcoach_clerk_cookies_t  cookies;

    ngx_memzero(&cookies, sizeof(runcoach_clerk_cookies_t));

    cookies.issuer = issuer->policy[0].issuer;
    cookies.production = issuer->production;

    runcoach_clerk_uat(&cookies.plain_uat, found->plain_uat.data,
                       found->plain_uat.len);
    runcoach_clerk_uat(&cookies.suffixed_uat, found->suffixed_uat.data,
                       found->suffixed_uat.len);

    if (cookies.suffixed_uat.present
        && cookies.suffixed_uat.value != 0
        && found->plain.len == found->suffixed.len
        && ngx_memcmp(found->plain.data, found->suffixed.data,
                      found->plain.len)
           == 0)
    {
        return RUNCOACH_CLERK_SUFFIXED;
    }

    ngx_http_runcoach_token_facts(&cookies.plain, &found->plain,
                                  &cookies.issuer);
    ngx_http_runcoach_token_facts(&cookies.suffixed, &found->suffixed,
                                  &cookies.issuer);

    return runcoach_clerk_choose(&cookies, ngx_time());
}


/* nothing of a token is verified here, nor believed: it chooses a cookie */

static void
ngx_http_runcoach_token_facts(runcoach_clerk_session_t *session,
    ngx_str_t *token, const runcoach_str_t *issuer)
{
    time_t          exp, nbf, iat;
    runcoach_str_t  iss;

    static const runcoach_str_t  other = runcoach_string("another");

    session->present = (token->len != 0);

    if (runcoach_jwt_parse(&ngx_http_runcoach_jwt, token->data, token->len)
        != RUNCOACH_JWT_OK)
    {
        return;
    }

    session->readable = 1;

    if (runcoach_jwt_claim(&ngx_http_runcoach_jwt, "iss", &iss)) {
        session->issuer = (iss.len == issuer->len
                           && ngx_memcmp(iss.data, issuer->data, iss.len) == 0)
                          ? *issuer : other;
    }

    runcoach_jwt_dates(&ngx_http_runcoach_jwt, &exp, &nbf, &iat);

    session->iat = iat;
    session->exp = exp;
}


/*
 * The argument disappears from all that is passed on or logged: it is as good
 * as a password.  So it is taken out even if another carrier has won, and
 * before anybody has a reason to refuse the request.
 */

ngx_int_t
ngx_http_runcoach_auth_query(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx,
    const ngx_http_runcoach_sources_t *sources)
{
    ngx_str_t                    token;
    ngx_uint_t                   i;
    ngx_http_runcoach_source_t  *source;

    source = sources->elts.elts;

    for (i = 0; i < sources->elts.nelts; i++) {

        if (source[i].type != NGX_HTTP_RUNCOACH_SOURCE_QUERY) {
            continue;
        }

        ngx_str_null(&token);

        if (ngx_http_runcoach_token_query(r, &source[i].name, &token)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (ctx->query_token.len == 0 && token.len != 0) {
            ctx->query_name = source[i].name;
            ctx->query_token = token;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_token_query(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *token)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   args, *uri;

    if (ngx_http_runcoach_token_cut(r, &r->args, name, token) == NGX_ERROR) {
        return NGX_ERROR;
    }

    uri = &r->unparsed_uri;
    p = ngx_strlchr(uri->data, uri->data + uri->len, '?');

    if (p == NULL) {
        return NGX_OK;
    }

    args.data = p + 1;
    args.len = uri->data + uri->len - args.data;

    rc = ngx_http_runcoach_token_cut(r, &args, name, token);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_OK : NGX_ERROR;
    }

    return ngx_http_runcoach_token_uri(r, p - uri->data, &args);
}


/* without the arguments of that name; NGX_DECLINED: there is none */

static ngx_int_t
ngx_http_runcoach_token_cut(ngx_http_request_t *r, ngx_str_t *args,
    ngx_str_t *name, ngx_str_t *token)
{
    u_char  *p, *last, *next, *value, *start, *dst;

    start = NULL;
    dst = NULL;
    last = args->data + args->len;

    for (p = args->data; p < last; p = next + 1) {
        next = ngx_strlchr(p, last, '&');

        if (next == NULL) {
            next = last;
        }

        value = ngx_http_runcoach_token_argument(p, next, name);

        if (value == NULL) {

            if (dst != NULL) {

                if (dst != start) {
                    *dst++ = '&';
                }

                dst = ngx_cpymem(dst, p, next - p);
            }

            continue;
        }

        if (token->len == 0) {
            token->data = value;
            token->len = next - value;
        }

        if (dst == NULL) {
            start = ngx_pnalloc(r->pool, args->len);
            if (start == NULL) {
                return NGX_ERROR;
            }

            dst = ngx_cpymem(start, args->data, p - args->data);

            if (dst != start) {
                dst--;
            }
        }
    }

    if (dst == NULL) {
        return NGX_DECLINED;
    }

    args->data = start;
    args->len = dst - start;

    return NGX_OK;
}


/* the value of an argument which has that name, however it is written */

static u_char *
ngx_http_runcoach_token_argument(u_char *p, u_char *last, ngx_str_t *name)
{
    size_t   n;
    u_char  *eq, *src, *dst;
    u_char   buf[3 * NGX_HTTP_RUNCOACH_QUERY_NAME];

    eq = ngx_strlchr(p, last, '=');

    if (eq == NULL) {
        eq = last;
    }

    n = eq - p;

    if (n > name->len && n <= 3 * name->len) {
        src = p;
        dst = buf;

        ngx_unescape_uri(&dst, &src, n, 0);

        p = buf;
        n = dst - buf;
    }

    if (n != name->len || ngx_memcmp(p, name->data, n) != 0) {
        return NULL;
    }

    return eq < last ? eq + 1 : last;
}


/* what is passed to a backend, and what is logged as $request */

static ngx_int_t
ngx_http_runcoach_token_uri(ngx_http_request_t *r, size_t path,
    ngx_str_t *args)
{
    u_char                              *p;
    ngx_str_t                            line;
    ngx_uint_t                           i;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    line.len = r->method_name.len + 1 + path + 1 + args->len + 1
               + r->http_protocol.len;

    line.data = ngx_pnalloc(r->pool, line.len);
    if (line.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(line.data, r->method_name.data, r->method_name.len);
    *p++ = ' ';

    p = ngx_cpymem(p, r->unparsed_uri.data, path);

    if (args->len != 0) {
        *p++ = '?';
        p = ngx_cpymem(p, args->data, args->len);
    }

    r->unparsed_uri.data = line.data + r->method_name.len + 1;
    r->unparsed_uri.len = p - r->unparsed_uri.data;

    if (r->http_protocol.len != 0) {
        *p++ = ' ';
        p = ngx_cpymem(p, r->http_protocol.data, r->http_protocol.len);
    }

    r->request_line.data = line.data;
    r->request_line.len = p - line.data;

    /* somebody may have looked before */

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);

    for (i = 0; i < NGX_HTTP_RUNCOACH_STALE; i++) {
        r->variables[amcf->stale[i]].valid = 0;
        r->variables[amcf->stale[i]].not_found = 0;
    }

    return NGX_OK;
}


/* NGX_DECLINED: it is to be verified */

static ngx_int_t
ngx_http_runcoach_token_known(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    runcoach_jwt_rc_e             rc;
    ngx_http_runcoach_issuer_t   *issuer;
    ngx_http_runcoach_verdict_t  *verdict, *copy;

    verdict = ngx_http_runcoach_verdict_get(r, ctx, &issuer);

    if (verdict == NULL) {

        issuer = ngx_http_runcoach_verdict_forged(ctx);

        if (issuer != NULL) {

            /* it may be by a new key of the same kid, still to be fetched */

            ngx_http_runcoach_keys_suspect(r, issuer->keys);

            return ngx_http_runcoach_auth_refuse(r, ctx,
                                  runcoach_jwt_reason(RUNCOACH_JWT_SIGNATURE));
        }

        return NGX_DECLINED;
    }

    rc = runcoach_jwt_check_time(verdict->exp, verdict->nbf,
                                 issuer->policy[ctx->carrier].leeway,
                                 ngx_time());

    if (rc != RUNCOACH_JWT_OK) {
        return ngx_http_runcoach_auth_refuse(r, ctx, runcoach_jwt_reason(rc));
    }

    ngx_http_runcoach_keys_refresh(r, issuer->keys);

    if (ngx_http_runcoach_token_revoked(r, issuer, verdict)) {
        return ngx_http_runcoach_auth_refuse(r, ctx, "session-revoked");
    }

    copy = ngx_palloc(r->pool, verdict->size);
    if (copy == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(copy, verdict, verdict->size);

    return ngx_http_runcoach_token_identify(r, ctx, issuer, copy);
}


static ngx_int_t
ngx_http_runcoach_token_verify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    ngx_int_t                     rc;
    runcoach_jwt_t               *jwt;
    runcoach_jwt_rc_e             checked;
    ngx_http_runcoach_issuer_t   *issuer;
    ngx_http_runcoach_verdict_t  *verdict;

    jwt = &ngx_http_runcoach_jwt;

    checked = runcoach_jwt_parse(jwt, ctx->token.data, ctx->token.len);

    if (checked != RUNCOACH_JWT_OK) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                             runcoach_jwt_reason(checked));
    }

    issuer = ngx_http_runcoach_token_issuer(ctx->methods, jwt);

    if (issuer == NULL && ngx_http_runcoach_token_foreign(ctx, jwt)) {
        return NGX_DECLINED;
    }

    if (issuer == NULL) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                     runcoach_jwt_reason(RUNCOACH_JWT_ISSUER));
    }

    checked = runcoach_jwt_check_claims(jwt, &issuer->policy[ctx->carrier],
                                        ngx_time());

    if (checked == RUNCOACH_JWT_OK && issuer->internal_user
        && ngx_http_runcoach_token_number(jwt) != NGX_OK)
    {
        checked = RUNCOACH_JWT_SUBJECT;
    }

    if (checked != RUNCOACH_JWT_OK) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                             runcoach_jwt_reason(checked));
    }

    rc = ngx_http_runcoach_token_signature(r, ctx, jwt, issuer);

    if (rc != NGX_OK) {
        return rc;
    }

    verdict = ngx_http_runcoach_verdict_make(r, issuer, jwt);

    if (verdict == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_runcoach_token_revoked(r, issuer, verdict)) {
        return ngx_http_runcoach_auth_refuse(r, ctx, "session-revoked");
    }

    ngx_http_runcoach_verdict_put(r, ctx, issuer, verdict);

    return ngx_http_runcoach_token_identify(r, ctx, issuer, verdict);
}


/*
 * Exactly one issuer of the location, before any key is looked up.  Two of the
 * same name share no algorithm.
 */

static ngx_http_runcoach_issuer_t *
ngx_http_runcoach_token_issuer(const ngx_http_runcoach_methods_t *methods,
    const runcoach_jwt_t *jwt)
{
    ngx_uint_t                    i;
    runcoach_str_t                iss, *name;
    ngx_http_runcoach_issuer_t  **issuer, *found;

    if (!runcoach_jwt_claim(jwt, "iss", &iss)) {
        return NULL;
    }

    found = NULL;
    issuer = methods->issuers.elts;

    for (i = 0; i < methods->issuers.nelts; i++) {
        name = &issuer[i]->policy[0].issuer;

        if (name->len != iss.len
            || ngx_memcmp(name->data, iss.data, iss.len) != 0)
        {
            continue;
        }

        found = issuer[i];

        if (found->policy[0].algs & jwt->alg) {
            break;
        }
    }

    return found;
}


/*
 * The plain cookie is sent by all instances on a domain.  Where ours has one of
 * its own, another's says nothing about us.
 */

static ngx_uint_t
ngx_http_runcoach_token_foreign(ngx_http_runcoach_auth_ctx_t *ctx,
    const runcoach_jwt_t *jwt)
{
    ngx_uint_t                    i;
    runcoach_str_t                iss;
    ngx_http_runcoach_issuer_t  **issuer;

    if (ctx->carrier != NGX_HTTP_RUNCOACH_COOKIE
        || !runcoach_jwt_claim(jwt, "iss", &iss))
    {
        return 0;
    }

    issuer = ctx->methods->issuers.elts;

    for (i = 0; i < ctx->methods->issuers.nelts; i++) {
        if (issuer[i]->session_cookie.len != 0) {
            return 1;
        }
    }

    return 0;
}


/* a number which the application may take for one of its own users */

static ngx_int_t
ngx_http_runcoach_token_number(const runcoach_jwt_t *jwt)
{
    runcoach_str_t  sub;

    if (!runcoach_jwt_claim(jwt, "sub", &sub)
        || ngx_atoi((u_char *) sub.data, sub.len) <= 0)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_token_signature(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const runcoach_jwt_t *jwt,
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

        rc = ngx_http_runcoach_keys_fetch(r, issuer->keys, NULL,
                                          &ctx->pending);
        if (rc == NGX_DECLINED) {
            return ngx_http_runcoach_auth_unavailable(r, ctx,
                                                      "keys-unavailable");
        }

        return rc == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
    }

    checked = runcoach_jwt_check_signature(jwt, set, issuer->policy[0].algs);

    if (checked == RUNCOACH_JWT_UNKNOWN_KEY && jwt->kid.data != NULL) {

        if (!ctx->forced) {
            ctx->forced = 1;

            rc = ngx_http_runcoach_keys_fetch(r, issuer->keys, &jwt->kid,
                                              &ctx->pending);

            if (rc != NGX_DECLINED) {
                return rc == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
            }
        }

        if (ngx_http_runcoach_keys_failed(issuer->keys)) {

            /* it may be a new one: nobody could tell */

            return ngx_http_runcoach_auth_unavailable(r, ctx,
                                                      "keys-unavailable");
        }
    }

    if (checked == RUNCOACH_JWT_FAILED) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "no memory to verify a token of issuer \"%V\"",
                      &issuer->name);

        return ngx_http_runcoach_auth_unavailable(r, ctx,
                                                 runcoach_jwt_reason(checked));
    }

    if (checked == RUNCOACH_JWT_SIGNATURE) {
        ngx_http_runcoach_verdict_refuse(ctx, issuer);
        ngx_http_runcoach_keys_suspect(r, issuer->keys);
    }

    if (checked != RUNCOACH_JWT_OK) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                             runcoach_jwt_reason(checked));
    }

    ngx_http_runcoach_keys_refresh(r, issuer->keys);

    return NGX_OK;
}


/* a verdict that has passed need not be asked again until more are revoked */

static ngx_uint_t
ngx_http_runcoach_token_revoked(ngx_http_request_t *r,
    ngx_http_runcoach_issuer_t *issuer, ngx_http_runcoach_verdict_t *verdict)
{
    uint64_t   revocations;
    ngx_str_t  user, session;

    revocations = ngx_http_runcoach_revocations(r);

    if (!issuer->clerk || revocations == verdict->revocations) {
        return 0;
    }

    ngx_http_runcoach_verdict_value(verdict, NGX_HTTP_RUNCOACH_VALUE_USER,
                                    &user);
    ngx_http_runcoach_verdict_value(verdict, NGX_HTTP_RUNCOACH_VALUE_SESSION,
                                    &session);

    if (ngx_http_runcoach_revoked(r, &user, &session)) {
        return 1;
    }

    verdict->revocations = revocations;

    return 0;
}


static ngx_int_t
ngx_http_runcoach_token_identify(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_verdict_t *verdict)
{
    if (ctx->uat != 0 && verdict->iat != 0 && verdict->iat < ctx->uat) {
        return ngx_http_runcoach_auth_refuse(r, ctx,
                                       "session-token-iat-before-client-uat");
    }

    ctx->verdict = verdict;
    ctx->method = issuer->name;

    ngx_http_runcoach_verdict_value(verdict, NGX_HTTP_RUNCOACH_VALUE_USER,
                                    &ctx->user);
    ngx_http_runcoach_verdict_value(verdict, NGX_HTTP_RUNCOACH_VALUE_SESSION,
                                    &ctx->session_id);

    if (issuer->internal_user) {
        ctx->user_id = ctx->user;

    } else if (issuer->clerk) {
        ctx->clerk_user_id = ctx->user;
    }

    return NGX_OK;
}


#if (nginx_version >= 1023000)

void
ngx_http_runcoach_cookies(ngx_http_request_t *r,
    ngx_http_runcoach_cookie_t *cookies, ngx_uint_t n)
{
    ngx_table_elt_t  *h;

    for (h = r->headers_in.cookie; h; h = h->next) {
        ngx_http_runcoach_cookie_line(&h->value, cookies, n);
    }
}

#else

void
ngx_http_runcoach_cookies(ngx_http_request_t *r,
    ngx_http_runcoach_cookie_t *cookies, ngx_uint_t n)
{
    ngx_uint_t         i;
    ngx_table_elt_t  **h;

    h = r->headers_in.cookies.elts;

    for (i = 0; i < r->headers_in.cookies.nelts; i++) {
        ngx_http_runcoach_cookie_line(&h[i]->value, cookies, n);
    }
}

#endif


static void
ngx_http_runcoach_cookie_line(ngx_str_t *line,
    ngx_http_runcoach_cookie_t *cookies, ngx_uint_t n)
{
    ngx_uint_t       i;
    const u_char    *p, *last;
    runcoach_str_t   name, value;

    p = line->data;
    last = p + line->len;

    while (runcoach_clerk_cookie(&p, last, &name, &value)) {

        for (i = 0; i < n; i++) {

            if (cookies[i].name->len == name.len
                && cookies[i].value->data == NULL
                && ngx_memcmp(cookies[i].name->data, name.data, name.len) == 0)
            {
                cookies[i].value->data = (u_char *) value.data;
                cookies[i].value->len = value.len;
            }
        }
    }
}
