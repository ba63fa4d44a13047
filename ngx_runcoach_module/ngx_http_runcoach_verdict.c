
/*
 * What was verified before.  Each worker has its own memory, which takes no
 * lock and compares whole tokens; behind it is the shared memory, where a token
 * is known by a MAC of it.
 *
 * A verdict is of one configuration of an issuer and of one set of its keys: it
 * carries their digests, and is no verdict when they are others.  Its time and
 * revocations are looked at on every hit.
 */


#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "ngx_http_runcoach_auth.h"
#include "runcoach_cache.h"
#include "runcoach_shared.h"


/* what the keys of the tables of a worker are, next to the two carriers */

#define NGX_HTTP_RUNCOACH_TAG_SESSION    NGX_HTTP_RUNCOACH_CARRIERS

#define NGX_HTTP_RUNCOACH_REFUSED_SHARE  16      /* of the entries */
#define NGX_HTTP_RUNCOACH_REFUSED_MIN    64

/*
 * One in so many hits in the shared memory is copied into the memory of the
 * worker.  A token that comes again is there soon, and where more of them come
 * in turn than there is room for, they do not all push out one another.
 */

#define NGX_HTTP_RUNCOACH_COPY_SHARE     4

#define NGX_HTTP_RUNCOACH_VERDICT_MAX    RUNCOACH_CACHE_MAX_DATA


typedef struct {
    u_char                       issuer[NGX_HTTP_RUNCOACH_ISSUER_DIGEST];
    u_char                       keys[NGX_HTTP_RUNCOACH_ISSUER_DIGEST];
} ngx_http_runcoach_forged_t;


typedef struct {
    ngx_msec_t                   until;
    ngx_int_t                    rc;             /* as it was put */
    size_t                       len;
    u_char                       user[1];
} ngx_http_runcoach_session_t;


/* of this worker */

typedef struct {
    runcoach_cache_t            *verified;
    runcoach_cache_t            *sessions;
    runcoach_cache_t            *refused;
    ngx_uint_t                   hits;           /* in the shared memory */
} ngx_http_runcoach_verdicts_t;


static ngx_http_runcoach_verdict_t *ngx_http_runcoach_verdict_shared(
    ngx_http_request_t *r, ngx_http_runcoach_auth_ctx_t *ctx);
static ngx_http_runcoach_issuer_t *ngx_http_runcoach_verdict_issuer(
    ngx_http_runcoach_auth_ctx_t *ctx, const u_char *issuer,
    const u_char *keys);
static void ngx_http_runcoach_verdict_fill(ngx_http_request_t *r,
    ngx_http_runcoach_verdict_t *verdict, const runcoach_jwt_t *jwt,
    ngx_array_t *claims);
static ngx_int_t ngx_http_runcoach_verdict_add(
    ngx_http_runcoach_verdict_t *verdict, ngx_uint_t i, const u_char *data,
    size_t len);
static size_t ngx_http_runcoach_verdict_head(
    ngx_http_runcoach_verdict_t *verdict);
static ssize_t ngx_http_runcoach_verdict_claim(const runcoach_jwt_t *jwt,
    ngx_http_runcoach_claim_t *claim, u_char *dst, size_t size);
static ngx_int_t ngx_http_runcoach_verdict_zone_init(ngx_slab_pool_t *shpool,
    void **data);


static ngx_http_runcoach_verdicts_t  ngx_http_runcoach_verdicts;


ngx_http_runcoach_verdict_t *
ngx_http_runcoach_verdict_get(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_http_runcoach_issuer_t **issuer)
{
    size_t                        len;
    ngx_http_runcoach_verdict_t  *verdict;

    if (ngx_http_runcoach_verdicts.verified == NULL) {
        return NULL;
    }

    verdict = runcoach_cache_get(ngx_http_runcoach_verdicts.verified,
                                 ctx->carrier, ctx->token.data, ctx->token.len,
                                 &len);
    if (verdict != NULL) {
        *issuer = ngx_http_runcoach_verdict_issuer(ctx, verdict->issuer,
                                                   verdict->keys);
        if (*issuer != NULL) {
            return verdict;
        }
    }

    verdict = ngx_http_runcoach_verdict_shared(r, ctx);

    if (verdict == NULL) {
        return NULL;
    }

    *issuer = ngx_http_runcoach_verdict_issuer(ctx, verdict->issuer,
                                               verdict->keys);

    return *issuer != NULL ? verdict : NULL;
}


/* what any worker has verified, in memory that is used for one at a time */

static ngx_http_runcoach_verdict_t *
ngx_http_runcoach_verdict_shared(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx)
{
    void                 *entry;
    size_t                len;
    u_char                digest[RUNCOACH_VERIFIED_DIGEST];
    ngx_slab_pool_t      *shpool;
    runcoach_verified_t  *table;

    static uint64_t  record[RUNCOACH_VERIFIED_RECORD / sizeof(uint64_t)];

    table = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_VERDICTS,
                                        &shpool);

    if (table == NULL) {
        return NULL;
    }

    runcoach_verified_digest(table, ctx->carrier, ctx->token.data,
                             ctx->token.len, digest);

    ngx_shmtx_lock(&shpool->mutex);

    len = runcoach_verified_get(table, digest, (u_char *) record, ngx_time());

    ngx_shmtx_unlock(&shpool->mutex);

    if (len == 0) {
        return NULL;
    }

    if (ngx_http_runcoach_verdicts.hits++ % NGX_HTTP_RUNCOACH_COPY_SHARE == 0) {
        entry = runcoach_cache_put(ngx_http_runcoach_verdicts.verified,
                                   ctx->carrier, ctx->token.data,
                                   ctx->token.len, len);
        if (entry != NULL) {
            ngx_memcpy(entry, record, len);
        }
    }

    return (ngx_http_runcoach_verdict_t *) record;
}


static ngx_http_runcoach_issuer_t *
ngx_http_runcoach_verdict_issuer(ngx_http_runcoach_auth_ctx_t *ctx,
    const u_char *issuer, const u_char *keys)
{
    ngx_uint_t                    i;
    const runcoach_jwks_t        *set;
    ngx_http_runcoach_issuer_t  **known;

    known = ctx->methods->issuers.elts;

    for (i = 0; i < ctx->methods->issuers.nelts; i++) {

        if (ngx_memcmp(known[i]->digest, issuer,
                       NGX_HTTP_RUNCOACH_ISSUER_DIGEST)
            != 0)
        {
            continue;
        }

        set = ngx_http_runcoach_keys_get(known[i]->keys);

        if (set != NULL
            && ngx_memcmp(runcoach_jwks_digest(set), keys,
                          NGX_HTTP_RUNCOACH_ISSUER_DIGEST)
               == 0)
        {
            return known[i];
        }

        return NULL;
    }

    return NULL;
}


ngx_http_runcoach_verdict_t *
ngx_http_runcoach_verdict_make(ngx_http_request_t *r,
    ngx_http_runcoach_issuer_t *issuer, const runcoach_jwt_t *jwt)
{
    time_t                               exp, nbf, iat;
    uint64_t                             space[NGX_HTTP_RUNCOACH_VERDICT_MAX
                                               / sizeof(uint64_t)];
    ngx_http_runcoach_verdict_t         *verdict, *copy;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);

    verdict = (ngx_http_runcoach_verdict_t *) space;

    ngx_memzero(verdict, sizeof(ngx_http_runcoach_verdict_t));

    runcoach_jwt_dates(jwt, &exp, &nbf, &iat);

    verdict->exp = exp;
    verdict->nbf = nbf;
    verdict->iat = iat;

    ngx_memcpy(verdict->issuer, issuer->digest,
               NGX_HTTP_RUNCOACH_ISSUER_DIGEST);
    ngx_memcpy(verdict->keys,
               runcoach_jwks_digest(ngx_http_runcoach_keys_get(issuer->keys)),
               NGX_HTTP_RUNCOACH_ISSUER_DIGEST);

    verdict->nvalues = NGX_HTTP_RUNCOACH_VALUE_CLAIMS + amcf->claims.nelts;
    verdict->size = ngx_http_runcoach_verdict_head(verdict);

    ngx_http_runcoach_verdict_fill(r, verdict, jwt, &amcf->claims);

    copy = ngx_palloc(r->pool, verdict->size);
    if (copy == NULL) {
        return NULL;
    }

    ngx_memcpy(copy, verdict, verdict->size);

    return copy;
}


/* what is absent is empty */

static void
ngx_http_runcoach_verdict_fill(ngx_http_request_t *r,
    ngx_http_runcoach_verdict_t *verdict, const runcoach_jwt_t *jwt,
    ngx_array_t *claims)
{
    u_char                      text[RUNCOACH_JWT_MAX_TEXT];
    ssize_t                     len;
    ngx_uint_t                  i, n;
    runcoach_str_t              value;
    ngx_http_runcoach_claim_t  *claim;

    static const char  *names[NGX_HTTP_RUNCOACH_VALUE_CLAIMS] = {
        "sub", "sid"
    };

    for (i = 0; i < NGX_HTTP_RUNCOACH_VALUE_CLAIMS; i++) {

        if (!runcoach_jwt_claim(jwt, names[i], &value)) {
            value.len = 0;
            value.data = text;
        }

        (void) ngx_http_runcoach_verdict_add(verdict, i, value.data,
                                             value.len);
    }

    claim = claims->elts;

    for (n = 0; n < claims->nelts; n++) {
        len = ngx_http_runcoach_verdict_claim(jwt, &claim[n], text,
                                              sizeof(text));

        if (ngx_http_runcoach_verdict_add(verdict, i + n, text,
                                          ngx_max(len, 0))
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                          "claim of \"$%V\" is left out: the claims in use "
                          "are larger than %d bytes", &claim[n].name,
                          NGX_HTTP_RUNCOACH_VERDICT_MAX);
        }
    }
}


static ngx_int_t
ngx_http_runcoach_verdict_add(ngx_http_runcoach_verdict_t *verdict,
    ngx_uint_t i, const u_char *data, size_t len)
{
    uint16_t  *last;
    ngx_int_t  rc;

    last = (uint16_t *) (verdict + 1);
    rc = NGX_OK;

    if (len > NGX_HTTP_RUNCOACH_VERDICT_MAX - verdict->size) {
        len = 0;
        rc = NGX_DECLINED;
    }

    ngx_memcpy((u_char *) verdict + verdict->size, data, len);

    verdict->size += len;
    last[i] = verdict->size;

    return rc;
}


/* the ends of the values are before the first of them */

static size_t
ngx_http_runcoach_verdict_head(ngx_http_runcoach_verdict_t *verdict)
{
    return sizeof(ngx_http_runcoach_verdict_t)
           + verdict->nvalues * sizeof(uint16_t);
}


void
ngx_http_runcoach_verdict_value(ngx_http_runcoach_verdict_t *verdict,
    ngx_uint_t i, ngx_str_t *value)
{
    size_t     first;
    uint16_t  *last;

    last = (uint16_t *) (verdict + 1);
    first = i ? last[i - 1] : ngx_http_runcoach_verdict_head(verdict);

    value->data = (u_char *) verdict + first;
    value->len = last[i] - first;
}


static ssize_t
ngx_http_runcoach_verdict_claim(const runcoach_jwt_t *jwt,
    ngx_http_runcoach_claim_t *claim, u_char *dst, size_t size)
{
    ssize_t  len;

    if (claim->org != -1) {
        return runcoach_jwt_org(jwt, claim->org, dst, size);
    }

    len = runcoach_jwt_claim_text(jwt, &claim->path, dst, size);

    if (len == -1 && claim->nested.n != 0) {
        return runcoach_jwt_claim_text(jwt, &claim->nested, dst, size);
    }

    return len;
}


void
ngx_http_runcoach_verdict_put(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_verdict_t *verdict)
{
    void                 *entry;
    time_t                expires;
    u_char                digest[RUNCOACH_VERIFIED_DIGEST];
    ngx_slab_pool_t      *shpool;
    runcoach_verified_t  *table;

    if (ngx_http_runcoach_verdicts.verified == NULL) {
        return;
    }

    entry = runcoach_cache_put(ngx_http_runcoach_verdicts.verified,
                               ctx->carrier, ctx->token.data, ctx->token.len,
                               verdict->size);
    if (entry != NULL) {
        ngx_memcpy(entry, verdict, verdict->size);
    }

    table = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_VERDICTS,
                                        &shpool);

    if (table == NULL || verdict->size > RUNCOACH_VERIFIED_RECORD) {
        return;
    }

    runcoach_verified_digest(table, ctx->carrier, ctx->token.data,
                             ctx->token.len, digest);

    expires = verdict->exp + issuer->policy[ctx->carrier].leeway;

    ngx_shmtx_lock(&shpool->mutex);

    (void) runcoach_verified_put(table, digest, (u_char *) verdict,
                                 verdict->size, expires, ngx_time());

    ngx_shmtx_unlock(&shpool->mutex);
}


ngx_http_runcoach_issuer_t *
ngx_http_runcoach_verdict_forged(ngx_http_runcoach_auth_ctx_t *ctx)
{
    size_t                       len;
    ngx_http_runcoach_forged_t  *forged;

    if (ngx_http_runcoach_verdicts.verified == NULL) {
        return NULL;
    }

    forged = runcoach_cache_get(ngx_http_runcoach_verdicts.refused,
                                ctx->carrier, ctx->token.data, ctx->token.len,
                                &len);

    if (forged == NULL) {
        return NULL;
    }

    return ngx_http_runcoach_verdict_issuer(ctx, forged->issuer, forged->keys);
}


void
ngx_http_runcoach_verdict_refuse(ngx_http_runcoach_auth_ctx_t *ctx,
    ngx_http_runcoach_issuer_t *issuer)
{
    ngx_http_runcoach_forged_t  *forged;

    if (ngx_http_runcoach_verdicts.verified == NULL) {
        return;
    }

    forged = runcoach_cache_put(ngx_http_runcoach_verdicts.refused,
                                ctx->carrier, ctx->token.data, ctx->token.len,
                                sizeof(ngx_http_runcoach_forged_t));
    if (forged == NULL) {
        return;
    }

    ngx_memcpy(forged->issuer, issuer->digest,
               NGX_HTTP_RUNCOACH_ISSUER_DIGEST);
    ngx_memcpy(forged->keys,
               runcoach_jwks_digest(ngx_http_runcoach_keys_get(issuer->keys)),
               NGX_HTTP_RUNCOACH_ISSUER_DIGEST);
}


ngx_int_t
ngx_http_runcoach_verdict_session_get(ngx_str_t *id, ngx_str_t *user)
{
    size_t                        len;
    ngx_uint_t                    i;
    runcoach_cache_t             *tables[2];
    ngx_http_runcoach_session_t  *session;

    tables[0] = ngx_http_runcoach_verdicts.sessions;
    tables[1] = ngx_http_runcoach_verdicts.refused;

    for (i = 0; i < 2; i++) {

        if (tables[i] == NULL) {
            continue;
        }

        session = runcoach_cache_get(tables[i], NGX_HTTP_RUNCOACH_TAG_SESSION,
                                     id->data, id->len, &len);

        if (session == NULL
            || (ngx_msec_int_t) (session->until - ngx_current_msec) <= 0)
        {
            continue;
        }

        user->data = session->user;
        user->len = session->len;

        return session->rc;
    }

    return NGX_AGAIN;
}


void
ngx_http_runcoach_verdict_session_put(ngx_http_request_t *r, ngx_str_t *id,
    ngx_str_t *user, ngx_int_t rc)
{
    runcoach_cache_t                    *table, *other;
    ngx_http_runcoach_session_t         *session;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    table = ngx_http_runcoach_verdicts.sessions;
    other = ngx_http_runcoach_verdicts.refused;

    if (table == NULL) {
        return;
    }

    if (user->len == 0) {
        table = other;
        other = ngx_http_runcoach_verdicts.sessions;
    }

    runcoach_cache_delete(other, NGX_HTTP_RUNCOACH_TAG_SESSION, id->data,
                          id->len);

    session = runcoach_cache_put(table, NGX_HTTP_RUNCOACH_TAG_SESSION,
                                 id->data, id->len,
                                 sizeof(ngx_http_runcoach_session_t)
                                 + user->len);
    if (session == NULL) {
        return;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_auth_module);

    session->until = ngx_current_msec + amcf->session_cache;
    session->rc = rc;
    session->len = user->len;

    ngx_memcpy(session->user, user->data, user->len);
}


ngx_int_t
ngx_http_runcoach_verdict_init(ngx_conf_t *cf)
{
    ngx_uint_t                            i;
    ngx_http_runcoach_issuer_t          **issuer;
    ngx_http_runcoach_auth_main_conf_t   *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_auth_module);
    issuer = amcf->issuers.elts.elts;

    for (i = 0; amcf->cache && i < amcf->issuers.elts.nelts; i++) {

        if (issuer[i]->keys != NULL) {
            return ngx_http_runcoach_zone_add(cf,
                                          NGX_HTTP_RUNCOACH_ZONE_VERDICTS,
                                          ngx_http_runcoach_verdict_zone_init);
        }
    }

    return NGX_OK;
}


/*
 * Half of the zone: the rest is for limits, revocations and keys.  A zone in
 * which there is no room, after a reload, has no table: each worker is then on
 * its own.
 */

static ngx_int_t
ngx_http_runcoach_verdict_zone_init(ngx_slab_pool_t *shpool, void **data)
{
    void    *memory;
    size_t   size;
    u_char   key[RUNCOACH_SIPHASH_KEY];

    if (RAND_bytes(key, sizeof(key)) != 1) {
        return NGX_ERROR;
    }

    size = ((u_char *) shpool->end - (u_char *) shpool) / 2;

    memory = ngx_slab_alloc(shpool, size);

    if (memory != NULL) {
        *data = runcoach_verified_init(memory, size, key);
    }

    OPENSSL_cleanse(key, sizeof(key));

    return NGX_OK;
}


/* the helpers of a cache serve no requests */

ngx_int_t
ngx_http_runcoach_verdict_init_process(ngx_cycle_t *cycle)
{
    size_t                               refused;
    u_char                               seed[RUNCOACH_CACHE_SEED];
    ngx_http_runcoach_verdicts_t        *verdicts;
    ngx_http_runcoach_auth_main_conf_t  *amcf;

    amcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_runcoach_auth_module);

    if (amcf == NULL
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    if (RAND_bytes(seed, sizeof(seed)) != 1) {
        return NGX_ERROR;
    }

    verdicts = &ngx_http_runcoach_verdicts;

    /* one process without workers comes here again after a reload */

    ngx_http_runcoach_verdict_exit_process(cycle);

    refused = ngx_max(amcf->entries / NGX_HTTP_RUNCOACH_REFUSED_SHARE,
                      NGX_HTTP_RUNCOACH_REFUSED_MIN);

    if (amcf->cache) {
        verdicts->verified = runcoach_cache_create(amcf->entries, seed);

        if (verdicts->verified == NULL) {
            return NGX_ERROR;
        }
    }

    if (amcf->session_cache != 0) {
        verdicts->sessions = runcoach_cache_create(amcf->entries, seed);

        if (verdicts->sessions == NULL) {
            return NGX_ERROR;
        }
    }

    verdicts->refused = runcoach_cache_create(refused, seed);

    return verdicts->refused != NULL ? NGX_OK : NGX_ERROR;
}


void
ngx_http_runcoach_verdict_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_runcoach_verdicts_t  *verdicts;

    verdicts = &ngx_http_runcoach_verdicts;

    runcoach_cache_free(verdicts->verified);
    runcoach_cache_free(verdicts->sessions);
    runcoach_cache_free(verdicts->refused);

    ngx_memzero(verdicts, sizeof(ngx_http_runcoach_verdicts_t));
}
