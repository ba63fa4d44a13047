
#include "ngx_http_runcoach_auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>


/* of what goes into the digest, and of its order */

#define NGX_HTTP_RUNCOACH_ISSUER_LAYOUT  1

#define NGX_HTTP_RUNCOACH_AZP_REQUIRE    0
#define NGX_HTTP_RUNCOACH_AZP_PRESENT    1
#define NGX_HTTP_RUNCOACH_AZP_OFF        2


/* the parameters of runcoach_issuer as they were written */

typedef struct {
    ngx_str_t                     publishable_key;
    ngx_str_t                     issuer;
    ngx_str_t                     jwks;
    ngx_str_t                     jwks_url;
    ngx_str_t                     jwks_refresh;
    ngx_str_t                     jwks_stale;
    ngx_str_t                     jwks_cooldown;
    ngx_str_t                     key;
    ngx_str_t                     key_file;
    ngx_str_t                     secret;
    ngx_str_t                     secret_format;
    ngx_str_t                     algorithms;
    ngx_str_t                     parties;
    ngx_str_t                     audience;
    ngx_str_t                     azp;
    ngx_str_t                     azp_header;
    ngx_str_t                     azp_cookie;
    ngx_str_t                     accept;
    ngx_str_t                     pending;
    ngx_str_t                     require;
    ngx_str_t                     leeway;
    ngx_str_t                     max_lifetime;
    ngx_str_t                     user;
} ngx_http_runcoach_issuer_params_t;


typedef struct {
    const char                   *name;
    size_t                        offset;
} ngx_http_runcoach_issuer_field_t;


typedef struct {
    const char                   *name;
    unsigned                      bit;
} ngx_http_runcoach_issuer_word_t;


static char *ngx_http_runcoach_issuer_name(ngx_conf_t *cf,
    ngx_http_runcoach_issuers_t *issuers, ngx_str_t *name);
static char *ngx_http_runcoach_issuer_params(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_make(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);

static char *ngx_http_runcoach_issuer_publishable_key(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static ngx_int_t ngx_http_runcoach_issuer_text(ngx_conf_t *cf,
    ngx_str_t *value, const char *prefix, const u_char *data, size_t len);

static char *ngx_http_runcoach_issuer_policy(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_algorithms(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwt_policy_t *policy);
static char *ngx_http_runcoach_issuer_classes(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwt_policy_t *policy);
static char *ngx_http_runcoach_issuer_lists(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwt_policy_t *policy);
static char *ngx_http_runcoach_issuer_require(ngx_conf_t *cf,
    ngx_str_t *value, runcoach_jwt_policy_t *policy);
static char *ngx_http_runcoach_issuer_required(ngx_conf_t *cf,
    ngx_str_t *item, runcoach_jwt_required_t *required);
static char *ngx_http_runcoach_issuer_carriers(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_azp(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, runcoach_jwt_policy_t *policy, ngx_uint_t azp);

static char *ngx_http_runcoach_issuer_keys(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static char *ngx_http_runcoach_issuer_fixed(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwks_t **set);
static char *ngx_http_runcoach_issuer_key_file(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer, ngx_str_t *path,
    runcoach_jwks_t **set);
static ngx_int_t ngx_http_runcoach_issuer_read(ngx_conf_t *cf,
    ngx_str_t *path, ngx_str_t *text);
static char *ngx_http_runcoach_issuer_secret(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwks_t **set);
static ssize_t ngx_http_runcoach_issuer_hex(u_char *dst, ngx_str_t *src);
static char *ngx_http_runcoach_issuer_fetched(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params,
    ngx_http_runcoach_keys_conf_t *conf);
static ngx_int_t ngx_http_runcoach_issuer_default_url(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params);

static char *ngx_http_runcoach_issuer_digest(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params);
static int ngx_http_runcoach_issuer_digest_add(EVP_MD_CTX *md,
    const void *data, size_t len);

static char *ngx_http_runcoach_issuer_time(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, time_t min, time_t *seconds);
static char *ngx_http_runcoach_issuer_words(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, const ngx_http_runcoach_issuer_word_t *words,
    unsigned *bits);
static u_char *ngx_http_runcoach_issuer_print(u_char *p, u_char *last,
    const ngx_http_runcoach_issuer_word_t *words, unsigned bits);
static const runcoach_str_t *ngx_http_runcoach_issuer_list(ngx_conf_t *cf,
    const char *name, ngx_str_t *value, size_t *n);


#define ngx_http_runcoach_issuer_field(name, member)                          \
    { name, offsetof(ngx_http_runcoach_issuer_params_t, member) }

static const ngx_http_runcoach_issuer_field_t
    ngx_http_runcoach_issuer_fields[] = {
    ngx_http_runcoach_issuer_field("publishable_key", publishable_key),
    ngx_http_runcoach_issuer_field("issuer", issuer),
    ngx_http_runcoach_issuer_field("jwks", jwks),
    ngx_http_runcoach_issuer_field("jwks_url", jwks_url),
    ngx_http_runcoach_issuer_field("jwks_refresh", jwks_refresh),
    ngx_http_runcoach_issuer_field("jwks_stale", jwks_stale),
    ngx_http_runcoach_issuer_field("jwks_cooldown", jwks_cooldown),
    ngx_http_runcoach_issuer_field("key", key),
    ngx_http_runcoach_issuer_field("key_file", key_file),
    ngx_http_runcoach_issuer_field("secret", secret),
    ngx_http_runcoach_issuer_field("secret_format", secret_format),
    ngx_http_runcoach_issuer_field("algorithms", algorithms),
    ngx_http_runcoach_issuer_field("authorized_parties", parties),
    ngx_http_runcoach_issuer_field("audience", audience),
    ngx_http_runcoach_issuer_field("azp", azp),
    ngx_http_runcoach_issuer_field("azp_header", azp_header),
    ngx_http_runcoach_issuer_field("azp_cookie", azp_cookie),
    ngx_http_runcoach_issuer_field("accept", accept),
    ngx_http_runcoach_issuer_field("pending", pending),
    ngx_http_runcoach_issuer_field("require", require),
    ngx_http_runcoach_issuer_field("leeway", leeway),
    ngx_http_runcoach_issuer_field("max_lifetime", max_lifetime),
    ngx_http_runcoach_issuer_field("user", user)
};

#define NGX_HTTP_RUNCOACH_ISSUER_FIELDS                                       \
    (sizeof(ngx_http_runcoach_issuer_fields)                                  \
     / sizeof(ngx_http_runcoach_issuer_field_t))


static const ngx_http_runcoach_issuer_word_t
    ngx_http_runcoach_issuer_algs[] = {
    { "RS256", RUNCOACH_ALG_RS256 },
    { "RS384", RUNCOACH_ALG_RS384 },
    { "RS512", RUNCOACH_ALG_RS512 },
    { "PS256", RUNCOACH_ALG_PS256 },
    { "PS384", RUNCOACH_ALG_PS384 },
    { "PS512", RUNCOACH_ALG_PS512 },
    { "ES256", RUNCOACH_ALG_ES256 },
    { "ES384", RUNCOACH_ALG_ES384 },
    { "ES512", RUNCOACH_ALG_ES512 },
    { "EdDSA", RUNCOACH_ALG_EDDSA },
    { "HS256", RUNCOACH_ALG_HS256 },
    { "HS384", RUNCOACH_ALG_HS384 },
    { "HS512", RUNCOACH_ALG_HS512 },
    { NULL, 0 }
};


static const ngx_http_runcoach_issuer_word_t
    ngx_http_runcoach_issuer_accepted[] = {
    { "session", RUNCOACH_JWT_SESSION },
    { "template", RUNCOACH_JWT_TEMPLATE },
    { "machine", RUNCOACH_JWT_MACHINE },
    { "oauth", RUNCOACH_JWT_OAUTH },
    { NULL, 0 }
};


ngx_int_t
ngx_http_runcoach_issuers_init(ngx_conf_t *cf,
    ngx_http_runcoach_issuers_t *issuers)
{
    return ngx_array_init(&issuers->elts, cf->pool, 4,
                          sizeof(ngx_http_runcoach_issuer_t *));
}


char *
ngx_http_runcoach_issuer_add(ngx_conf_t *cf,
    ngx_http_runcoach_issuers_t *issuers)
{
    char                                *rv;
    ngx_str_t                           *value;
    ngx_http_runcoach_issuer_t          *issuer, **p;
    ngx_http_runcoach_issuer_params_t    params;

    value = cf->args->elts;

    rv = ngx_http_runcoach_issuer_name(cf, issuers, &value[1]);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    issuer = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_issuer_t));
    if (issuer == NULL) {
        return NGX_CONF_ERROR;
    }

    p = ngx_array_push(&issuers->elts);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = issuer;

    ngx_memzero(&params, sizeof(ngx_http_runcoach_issuer_params_t));

    issuer->name = value[1];
    issuer->clerk = ngx_http_runcoach_names_eq(&value[1], "clerk");

    rv = ngx_http_runcoach_issuer_params(cf, &params);

    if (rv == NGX_CONF_OK) {
        rv = ngx_http_runcoach_issuer_make(cf, issuer, &params);
    }

    /* the key set has a copy of its own */

    if (params.secret.len != 0) {
        OPENSSL_cleanse(params.secret.data, params.secret.len);
    }

    return rv;
}


ngx_http_runcoach_issuer_t *
ngx_http_runcoach_issuer_find(ngx_http_runcoach_issuers_t *issuers,
    ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_http_runcoach_issuer_t  **issuer;

    issuer = issuers->elts.elts;

    for (i = 0; i < issuers->elts.nelts; i++) {

        if (issuer[i]->name.len == name->len
            && ngx_strncmp(issuer[i]->name.data, name->data, name->len) == 0)
        {
            return issuer[i];
        }
    }

    return NULL;
}


ngx_uint_t
ngx_http_runcoach_issuer_overlaps(const ngx_http_runcoach_issuer_t *a,
    const ngx_http_runcoach_issuer_t *b)
{
    const runcoach_jwt_policy_t  *p, *q;

    p = &a->policy[NGX_HTTP_RUNCOACH_HEADER];
    q = &b->policy[NGX_HTTP_RUNCOACH_HEADER];

    return a->keys != NULL
           && b->keys != NULL
           && (p->algs & q->algs) != 0
           && p->issuer.len == q->issuer.len
           && ngx_memcmp(p->issuer.data, q->issuer.data, p->issuer.len) == 0;
}


static char *
ngx_http_runcoach_issuer_name(ngx_conf_t *cf,
    ngx_http_runcoach_issuers_t *issuers, ngx_str_t *name)
{
    if (name->len == 0
        || ngx_http_runcoach_names_eq(name, "session")
        || ngx_http_runcoach_names_eq(name, "optional")
        || ngx_http_runcoach_names_eq(name, "off")
        || ngx_strlchr(name->data, name->data + name->len, '=') != NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" in runcoach_issuer, must be "
                           "a word other than \"session\", \"optional\" and "
                           "\"off\"", name);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_runcoach_issuer_find(issuers, name) != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate runcoach_issuer \"%V\"", name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_issuer_params(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params)
{
    ngx_str_t   *value;
    ngx_uint_t   i, n;

    ngx_http_runcoach_param_t  known[NGX_HTTP_RUNCOACH_ISSUER_FIELDS + 1];

    value = cf->args->elts;
    n = 0;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "secret=", 7) == 0 && n++ != 0) {

            /* what is said of others that are duplicate would show it */

            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate parameter \"secret\" in "
                               "runcoach_issuer \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    for (i = 0; i < NGX_HTTP_RUNCOACH_ISSUER_FIELDS; i++) {
        known[i].name = ngx_http_runcoach_issuer_fields[i].name;
        known[i].value = (ngx_str_t *) ((u_char *) params
                                  + ngx_http_runcoach_issuer_fields[i].offset);
    }

    known[i].name = NULL;
    known[i].value = NULL;

    return ngx_http_runcoach_params(cf, 2, known);
}


static char *
ngx_http_runcoach_issuer_make(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    char  *rv;

    if (params->publishable_key.len == 0 && params->issuer.len == 0) {

        if (params->key.len != 0 || params->key_file.len != 0
            || params->secret.len != 0 || params->jwks_url.len != 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "runcoach_issuer \"%V\" has keys but no "
                               "issuer: needs publishable_key= or issuer=",
                               &issuer->name);
            return NGX_CONF_ERROR;
        }

        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "runcoach_issuer \"%V\" is off: neither "
                           "publishable_key= nor issuer= is set",
                           &issuer->name);
        return NGX_CONF_OK;
    }

    rv = ngx_http_runcoach_issuer_publishable_key(cf, issuer, params);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_policy(cf, issuer, params);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_keys(cf, issuer, params);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_runcoach_issuer_digest(cf, issuer, params);
}


/* it gives the issuer and the suffix of Clerk's cookies */

static char *
ngx_http_runcoach_issuer_publishable_key(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    u_char      host[RUNCOACH_CLERK_MAX_HOST];
    u_char      suffix[RUNCOACH_CLERK_SUFFIX];
    size_t      n;
    ngx_str_t  *pk;

    pk = &params->publishable_key;

    if (pk->len == 0) {
        return NGX_CONF_OK;
    }

    n = runcoach_clerk_host(host, pk->data, pk->len);

    if (n == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid publishable_key \"%V\" in runcoach_issuer, "
                           "must be pk_test_... or pk_live_... as Clerk's "
                           "dashboard shows it", pk);
        return NGX_CONF_ERROR;
    }

    if (runcoach_clerk_suffix(suffix, pk->data, pk->len) != 0) {
        return "could not hash its publishable_key";
    }

    issuer->clerk = 1;
    issuer->production = (ngx_strncmp(pk->data, "pk_live_", 8) == 0);

    if (ngx_http_runcoach_issuer_text(cf, &issuer->session_cookie,
                                      "__session_", suffix,
                                      RUNCOACH_CLERK_SUFFIX)
        != NGX_OK
        || ngx_http_runcoach_issuer_text(cf, &issuer->uat_cookie,
                                         "__client_uat_", suffix,
                                         RUNCOACH_CLERK_SUFFIX)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (params->issuer.len == 0
        && ngx_http_runcoach_issuer_text(cf, &params->issuer, "https://",
                                         host, n)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_runcoach_issuer_text(ngx_conf_t *cf, ngx_str_t *value,
    const char *prefix, const u_char *data, size_t len)
{
    value->len = ngx_strlen(prefix) + len;
    value->data = ngx_pnalloc(cf->pool, value->len + 1);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(value->data, "%s%*s%Z", prefix, len, data);

    return NGX_OK;
}


static char *
ngx_http_runcoach_issuer_policy(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    char                   *rv;
    runcoach_jwt_policy_t  *policy;

    policy = &issuer->policy[NGX_HTTP_RUNCOACH_HEADER];

    policy->issuer.data = params->issuer.data;
    policy->issuer.len = params->issuer.len;
    policy->leeway = 5;
    policy->max_lifetime = 24 * 60 * 60;

    rv = ngx_http_runcoach_issuer_time(cf, "leeway", &params->leeway, 0,
                                       &policy->leeway);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_time(cf, "max_lifetime",
                                       &params->max_lifetime, 0,
                                       &policy->max_lifetime);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_algorithms(cf, params, policy);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_classes(cf, params, policy);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_lists(cf, params, policy);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    issuer->internal_user = policy->numeric_subject;

    return ngx_http_runcoach_issuer_carriers(cf, issuer, params);
}


/* a public key must never be taken for a shared secret */

static char *
ngx_http_runcoach_issuer_algorithms(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwt_policy_t *policy)
{
    char  *rv;

    policy->algs = params->secret.len ? RUNCOACH_ALG_HS256
                                      : RUNCOACH_ALG_RS256;

    rv = ngx_http_runcoach_issuer_words(cf, "algorithms", &params->algorithms,
                                        ngx_http_runcoach_issuer_algs,
                                        &policy->algs);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (params->secret.len != 0 && (policy->algs & ~RUNCOACH_ALG_HMAC)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid algorithms \"%V\" in runcoach_issuer, "
                           "must be of HS256, HS384 and HS512 with a secret=",
                           &params->algorithms);
        return NGX_CONF_ERROR;
    }

    if (params->secret.len == 0 && (policy->algs & RUNCOACH_ALG_HMAC)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid algorithms \"%V\" in runcoach_issuer, "
                           "HS256, HS384 and HS512 need a secret= that is set, "
                           "and are not for public keys",
                           &params->algorithms);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_issuer_classes(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwt_policy_t *policy)
{
    char  *rv;

    policy->classes = RUNCOACH_JWT_SESSION;

    rv = ngx_http_runcoach_issuer_words(cf, "accept", &params->accept,
                                        ngx_http_runcoach_issuer_accepted,
                                        &policy->classes);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (ngx_http_runcoach_names_eq(&params->pending, "allow")) {
        policy->allow_pending = 1;

    } else if (params->pending.len != 0
               && !ngx_http_runcoach_names_eq(&params->pending, "deny"))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid pending \"%V\" in runcoach_issuer, must "
                           "be \"deny\" or \"allow\"", &params->pending);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_runcoach_names_eq(&params->user, "internal")) {
        policy->numeric_subject = 1;

    } else if (params->user.len != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid user \"%V\" in runcoach_issuer, must be "
                           "\"internal\" or left out", &params->user);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_issuer_lists(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwt_policy_t *policy)
{
    size_t  i;

    policy->parties = ngx_http_runcoach_issuer_list(cf, "authorized_parties",
                                                    &params->parties,
                                                    &policy->nparties);
    policy->audiences = ngx_http_runcoach_issuer_list(cf, "audience",
                                                      &params->audience,
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

    return ngx_http_runcoach_issuer_require(cf, &params->require, policy);
}


static char *
ngx_http_runcoach_issuer_require(ngx_conf_t *cf, ngx_str_t *value,
    runcoach_jwt_policy_t *policy)
{
    char                     *rv;
    size_t                    i, n;
    ngx_str_t                 item;
    const runcoach_str_t     *items;
    runcoach_jwt_required_t  *required;

    items = ngx_http_runcoach_issuer_list(cf, "require", value, &n);
    if (items == NULL) {
        return NGX_CONF_ERROR;
    }

    required = ngx_pcalloc(cf->pool, (n + 1) * sizeof(runcoach_jwt_required_t));
    if (required == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < n; i++) {
        item.data = (u_char *) items[i].data;
        item.len = items[i].len;

        rv = ngx_http_runcoach_issuer_required(cf, &item, &required[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    policy->required = required;
    policy->nrequired = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_issuer_required(ngx_conf_t *cf, ngx_str_t *item,
    runcoach_jwt_required_t *required)
{
    size_t           n;
    u_char          *p, *last, *dot;
    runcoach_str_t  *names;

    last = ngx_strlchr(item->data, item->data + item->len, '=');

    if (last == NULL) {
        last = item->data + item->len;

    } else {
        required->value.data = last + 1;
        required->value.len = item->data + item->len - last - 1;

        if (required->value.len == 0) {
            goto invalid;
        }
    }

    names = ngx_palloc(cf->pool, (item->len + 1) * sizeof(runcoach_str_t));
    if (names == NULL) {
        return NGX_CONF_ERROR;
    }

    p = item->data;
    n = 0;

    do {
        dot = ngx_strlchr(p, last, '.');

        if (dot == NULL) {
            dot = last;
        }

        if (dot == p) {
            goto invalid;
        }

        names[n].data = p;
        names[n++].len = dot - p;

        p = dot + 1;

    } while (dot < last);

    required->path.names = names;
    required->path.n = n;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid require \"%V\" in runcoach_issuer, must be "
                       "claims like \"email_verified=true,org.id\"", item);

    return NGX_CONF_ERROR;
}


/*
 * Clerk leaves azp out of the cookie's token when the browser asked for a
 * document, so by default only the header's token must have one.
 */

static char *
ngx_http_runcoach_issuer_carriers(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    char                   *rv;
    ngx_uint_t              own;
    runcoach_jwt_policy_t  *header, *cookie;

    header = &issuer->policy[NGX_HTTP_RUNCOACH_HEADER];
    cookie = &issuer->policy[NGX_HTTP_RUNCOACH_COOKIE];

    *cookie = *header;

    own = (params->azp_header.len != 0);

    rv = ngx_http_runcoach_issuer_azp(cf, own ? "azp_header" : "azp",
                                      own ? &params->azp_header : &params->azp,
                                      header, NGX_HTTP_RUNCOACH_AZP_REQUIRE);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    own = (params->azp_cookie.len != 0);

    return ngx_http_runcoach_issuer_azp(cf, own ? "azp_cookie" : "azp",
                                        own ? &params->azp_cookie
                                            : &params->azp,
                                        cookie, NGX_HTTP_RUNCOACH_AZP_PRESENT);
}


static char *
ngx_http_runcoach_issuer_azp(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, runcoach_jwt_policy_t *policy, ngx_uint_t azp)
{
    if (value->len == 0) {
        /* void */

    } else if (ngx_http_runcoach_names_eq(value, "require")) {
        azp = NGX_HTTP_RUNCOACH_AZP_REQUIRE;

        if (policy->nparties == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s \"require\" in runcoach_issuer needs "
                               "authorized_parties=, with the origins it may "
                               "be", name);
            return NGX_CONF_ERROR;
        }

    } else if (ngx_http_runcoach_names_eq(value, "if-present")) {
        azp = NGX_HTTP_RUNCOACH_AZP_PRESENT;

    } else if (ngx_http_runcoach_names_eq(value, "off")) {
        azp = NGX_HTTP_RUNCOACH_AZP_OFF;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %s \"%V\" in runcoach_issuer, must be "
                           "\"require\", \"if-present\" or \"off\"",
                           name, value);
        return NGX_CONF_ERROR;
    }

    policy->azp_required = (azp == NGX_HTTP_RUNCOACH_AZP_REQUIRE);

    if (azp == NGX_HTTP_RUNCOACH_AZP_OFF) {
        policy->nparties = 0;
    }

    return NGX_CONF_OK;
}


/*
 * One kind of keys.  A location may be there besides keys that are given: they
 * are used, and nothing is fetched.
 */

static char *
ngx_http_runcoach_issuer_keys(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    char                           *rv;
    ngx_uint_t                      kinds;
    runcoach_jwks_t                *fixed;
    ngx_http_runcoach_keys_conf_t   conf;

    fixed = NULL;
    kinds = (params->key.len != 0) + (params->key_file.len != 0)
            + (params->secret.len != 0);

    if (kinds > 1 || (params->secret.len != 0 && params->jwks.len != 0)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "runcoach_issuer \"%V\" has more than one kind of "
                           "keys, must have one of key=, key_file=, secret= "
                           "and jwks=", &issuer->name);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&conf, sizeof(ngx_http_runcoach_keys_conf_t));

    conf.name = issuer->name;

    if (kinds != 0) {
        rv = ngx_http_runcoach_issuer_fixed(cf, issuer, params, &fixed);

    } else {
        rv = ngx_http_runcoach_issuer_fetched(cf, issuer, params, &conf);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    issuer->keys = ngx_http_runcoach_keys_create(cf, fixed, &conf);

    return issuer->keys != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_issuer_fixed(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwks_t **set)
{
    char      *rv;
    u_char    *p, can[NGX_MAX_CONF_ERRSTR], must[NGX_MAX_CONF_ERRSTR];
    unsigned   algs;

    if (params->key.len != 0) {
        rv = NGX_CONF_OK;

        if (runcoach_jwks_from_pem(set, params->key.data, params->key.len)
            != RUNCOACH_JWKS_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid key in runcoach_issuer \"%V\", must "
                               "be one public key in PEM: RSA of 2048 bits or "
                               "more, P-256, P-384, P-521 or Ed25519",
                               &issuer->name);
            return NGX_CONF_ERROR;
        }

    } else if (params->key_file.len != 0) {
        rv = ngx_http_runcoach_issuer_key_file(cf, issuer, &params->key_file,
                                               set);

    } else {
        rv = ngx_http_runcoach_issuer_secret(cf, issuer, params, set);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    algs = issuer->policy[NGX_HTTP_RUNCOACH_HEADER].algs;

    if (runcoach_jwks_algs(*set) & algs) {
        return NGX_CONF_OK;
    }

    p = ngx_http_runcoach_issuer_print(must, must + NGX_MAX_CONF_ERRSTR,
                                       ngx_http_runcoach_issuer_algs, algs);
    *p = '\0';

    p = ngx_http_runcoach_issuer_print(can, can + NGX_MAX_CONF_ERRSTR,
                                       ngx_http_runcoach_issuer_algs,
                                       runcoach_jwks_algs(*set));
    *p = '\0';

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "keys of runcoach_issuer \"%V\" do not verify %s, "
                       "algorithms= must have one of %s",
                       &issuer->name, must, can);

    runcoach_jwks_free(*set);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_issuer_key_file(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer, ngx_str_t *path,
    runcoach_jwks_t **set)
{
    u_char              *p, *last;
    unsigned             skipped;
    ngx_str_t            text;
    runcoach_jwks_rc_e   rc;

    if (ngx_conf_full_name(cf->cycle, path, 1) != NGX_OK
        || ngx_http_runcoach_issuer_read(cf, path, &text) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    p = text.data;
    last = p + text.len;

    while (p < last
           && (*p == ' ' || *p == '\t' || *p == CR || *p == LF))
    {
        p++;
    }

    skipped = 0;

    if (p < last && *p == '{') {
        rc = runcoach_jwks_parse(set, &skipped, text.data, text.len);

    } else {
        rc = runcoach_jwks_from_pem(set, text.data, text.len);
    }

    if (rc != RUNCOACH_JWKS_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid key_file \"%V\" in runcoach_issuer \"%V\", "
                           "must have one public key in PEM, or a JWK Set",
                           path, &issuer->name);
        return NGX_CONF_ERROR;
    }

    if (skipped != 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "%ud keys of key_file \"%V\" are left out: not "
                           "public signature keys of a supported kind",
                           skipped, path);
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_runcoach_issuer_read(ngx_conf_t *cf, ngx_str_t *path, ngx_str_t *text)
{
    ssize_t          n;
    ngx_fd_t         fd;
    ngx_file_info_t  fi;

    text->len = 0;
    text->data = ngx_pnalloc(cf->temp_pool, RUNCOACH_JWKS_MAX_SIZE + 1);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(path->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " key_file \"%V\" of "
                           "runcoach_issuer failed", path);
        return NGX_ERROR;
    }

    n = 0;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR || !ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key_file \"%V\" of runcoach_issuer is not a file",
                           path);
        goto failed;
    }

    do {
        n = ngx_read_fd(fd, text->data + text->len,
                        RUNCOACH_JWKS_MAX_SIZE + 1 - text->len);
        if (n == -1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " key_file \"%V\" of "
                               "runcoach_issuer failed", path);
            goto failed;
        }

        text->len += n;

    } while (n != 0 && text->len <= RUNCOACH_JWKS_MAX_SIZE);

    if (text->len > RUNCOACH_JWKS_MAX_SIZE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key_file \"%V\" of runcoach_issuer is too large, "
                           "must be 64k at most", path);
        goto failed;
    }

    (void) ngx_close_file(fd);

    return NGX_OK;

failed:

    (void) ngx_close_file(fd);

    return NGX_ERROR;
}


static char *
ngx_http_runcoach_issuer_secret(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params, runcoach_jwks_t **set)
{
    u_char              *buf;
    size_t               size;
    ssize_t              n;
    ngx_str_t           *secret, *format;
    runcoach_jwks_rc_e   rc;

    secret = &params->secret;
    format = &params->secret_format;

    size = runcoach_base64_decoded_max(secret->len) + secret->len;
    buf = ngx_pnalloc(cf->temp_pool, size);
    if (buf == NULL) {
        return NGX_CONF_ERROR;
    }

    if (format->len == 0 || ngx_http_runcoach_names_eq(format, "raw")) {
        ngx_memcpy(buf, secret->data, secret->len);
        n = secret->len;

    } else if (ngx_http_runcoach_names_eq(format, "base64")) {
        n = runcoach_base64_decode_any(buf, secret->data, secret->len);

    } else if (ngx_http_runcoach_names_eq(format, "hex")) {
        n = ngx_http_runcoach_issuer_hex(buf, secret);

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid secret_format \"%V\" in runcoach_issuer, "
                           "must be \"raw\", \"base64\" or \"hex\"", format);
        return NGX_CONF_ERROR;
    }

    rc = (n < 0) ? RUNCOACH_JWKS_NO_KEY
                 : runcoach_jwks_from_secret(set, buf, n);

    OPENSSL_cleanse(buf, size);

    if (rc == RUNCOACH_JWKS_OK) {
        return NGX_CONF_OK;
    }

    if (n < 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid secret in runcoach_issuer \"%V\", must be "
                           "%V as secret_format= says", &issuer->name, format);
        return NGX_CONF_ERROR;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid secret in runcoach_issuer \"%V\", must be 32 "
                       "to %d random bytes, and no PEM: a public key is for "
                       "key=", &issuer->name, RUNCOACH_JWKS_MAX_SECRET);

    return NGX_CONF_ERROR;
}


static ssize_t
ngx_http_runcoach_issuer_hex(u_char *dst, ngx_str_t *src)
{
    size_t     i;
    ngx_int_t  n;

    if (src->len % 2 != 0) {
        return -1;
    }

    for (i = 0; i < src->len; i += 2) {
        n = ngx_hextoi(src->data + i, 2);

        if (n == NGX_ERROR) {
            return -1;
        }

        *dst++ = (u_char) n;
    }

    return src->len / 2;
}


static char *
ngx_http_runcoach_issuer_fetched(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params,
    ngx_http_runcoach_keys_conf_t *conf)
{
    char  *rv;

    if (params->jwks.len == 0 || params->jwks.data[0] != '/') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "runcoach_issuer \"%V\" has no keys: needs key= "
                           "with a public key in PEM, key_file=, secret=, or "
                           "jwks= with an internal location like /_jwks/%V, "
                           "not \"%V\"",
                           &issuer->name, &issuer->name, &params->jwks);
        return NGX_CONF_ERROR;
    }

    if (params->jwks_url.len == 0
        && ngx_http_runcoach_issuer_default_url(cf, params) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    conf->location = params->jwks;
    conf->url = params->jwks_url;
    conf->refresh = 5 * 60;
    conf->stale = 24 * 60 * 60;
    conf->cooldown = 10;

    rv = ngx_http_runcoach_issuer_time(cf, "jwks_refresh",
                                       &params->jwks_refresh, 1,
                                       &conf->refresh);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_time(cf, "jwks_stale", &params->jwks_stale,
                                       1, &conf->stale);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_issuer_time(cf, "jwks_cooldown",
                                       &params->jwks_cooldown, 1,
                                       &conf->cooldown);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (conf->stale < conf->refresh) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "jwks_stale of runcoach_issuer \"%V\" must not be "
                           "less than jwks_refresh", &issuer->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* the names of some issuers end with a slash */

static ngx_int_t
ngx_http_runcoach_issuer_default_url(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_params_t *params)
{
    size_t      len;
    ngx_str_t  *url;

    static const char  path[] = "/.well-known/jwks.json";

    url = &params->jwks_url;
    len = params->issuer.len;

    if (params->issuer.data[len - 1] == '/') {
        len--;
    }

    url->len = len + sizeof(path) - 1;
    url->data = ngx_pnalloc(cf->pool, url->len);
    if (url->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(ngx_cpymem(url->data, params->issuer.data, len), path,
               sizeof(path) - 1);

    return NGX_OK;
}


/* fixed keys are known by their digest, which stands for a secret, too */

static char *
ngx_http_runcoach_issuer_digest(ngx_conf_t *cf,
    ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_issuer_params_t *params)
{
    int                     ok;
    u_char                  digest[EVP_MAX_MD_SIZE];
    uint32_t                layout;
    ngx_str_t              *value;
    ngx_uint_t              i;
    EVP_MD_CTX             *md;
    const char             *name;
    const runcoach_jwks_t  *set;

    md = EVP_MD_CTX_new();
    if (md == NULL) {
        return NGX_CONF_ERROR;
    }

    layout = NGX_HTTP_RUNCOACH_ISSUER_LAYOUT;

    ok = EVP_DigestInit_ex(md, EVP_sha256(), NULL)
         && ngx_http_runcoach_issuer_digest_add(md, &layout, sizeof(uint32_t))
         && ngx_http_runcoach_issuer_digest_add(md, issuer->name.data,
                                                issuer->name.len);

    for (i = 0; ok && i < NGX_HTTP_RUNCOACH_ISSUER_FIELDS; i++) {
        name = ngx_http_runcoach_issuer_fields[i].name;
        value = (ngx_str_t *) ((u_char *) params
                               + ngx_http_runcoach_issuer_fields[i].offset);

        ok = ngx_http_runcoach_issuer_digest_add(md, name, ngx_strlen(name))
             && ngx_http_runcoach_issuer_digest_add(md, value->data,
                                                    value == &params->secret
                                                    ? 0 : value->len);
    }

    set = ngx_http_runcoach_keys_get(issuer->keys);

    if (ok && set != NULL) {
        ok = ngx_http_runcoach_issuer_digest_add(md, runcoach_jwks_digest(set),
                                                 RUNCOACH_JWKS_DIGEST);
    }

    ok = ok && EVP_DigestFinal_ex(md, digest, NULL);

    EVP_MD_CTX_free(md);

    ngx_memcpy(issuer->digest, digest, NGX_HTTP_RUNCOACH_ISSUER_DIGEST);

    return ok ? NGX_CONF_OK : "could not be hashed";
}


static int
ngx_http_runcoach_issuer_digest_add(EVP_MD_CTX *md, const void *data,
    size_t len)
{
    uint64_t  n;

    n = len;

    return EVP_DigestUpdate(md, &n, sizeof(uint64_t))
           && (len == 0 || EVP_DigestUpdate(md, data, len));
}


static char *
ngx_http_runcoach_issuer_time(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, time_t min, time_t *seconds)
{
    ngx_int_t  n;

    if (value->len == 0) {
        return NGX_CONF_OK;
    }

    n = ngx_parse_time(value, 1);

    if (n == NGX_ERROR || n < min) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %s \"%V\" in runcoach_issuer, "
                           "must be a time like 5s or 24h", name, value);
        return NGX_CONF_ERROR;
    }

    *seconds = n;

    return NGX_CONF_OK;
}


/* bits are left alone if the parameter is not set */

static char *
ngx_http_runcoach_issuer_words(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, const ngx_http_runcoach_issuer_word_t *words,
    unsigned *bits)
{
    u_char                *p, text[NGX_MAX_CONF_ERRSTR];
    size_t                 i, n;
    ngx_str_t              item;
    ngx_uint_t             w;
    const runcoach_str_t  *items;

    if (value->len == 0) {
        return NGX_CONF_OK;
    }

    items = ngx_http_runcoach_issuer_list(cf, name, value, &n);
    if (items == NULL) {
        return NGX_CONF_ERROR;
    }

    *bits = 0;

    for (i = 0; i < n; i++) {
        item.data = (u_char *) items[i].data;
        item.len = items[i].len;

        for (w = 0; words[w].name; w++) {

            if (ngx_http_runcoach_names_eq(&item, words[w].name)) {
                break;
            }
        }

        if (words[w].name == NULL) {
            p = ngx_http_runcoach_issuer_print(text,
                                               text + NGX_MAX_CONF_ERRSTR,
                                               words, ~0U);
            *p = '\0';

            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid %s \"%V\" in runcoach_issuer, must be "
                               "of %s", name, &item, text);
            return NGX_CONF_ERROR;
        }

        *bits |= words[w].bit;
    }

    return NGX_CONF_OK;
}


/* leaves room for a NUL */

static u_char *
ngx_http_runcoach_issuer_print(u_char *p, u_char *last,
    const ngx_http_runcoach_issuer_word_t *words, unsigned bits)
{
    u_char      *start;
    ngx_uint_t   w;

    start = p;

    for (w = 0; words[w].name; w++) {

        if (words[w].bit & bits) {
            p = ngx_slprintf(p, last - 1, "%s%s", p == start ? "" : ",",
                             words[w].name);
        }
    }

    return p;
}


/* NULL: no memory, or an error that has been logged; "" has zero items */

static const runcoach_str_t *
ngx_http_runcoach_issuer_list(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, size_t *n)
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
                           "empty list \"%V\" for %s in runcoach_issuer, must "
                           "be items with commas between them", value, name);
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
