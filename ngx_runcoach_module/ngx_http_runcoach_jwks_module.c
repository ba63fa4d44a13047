
#include "ngx_http_runcoach_jwks.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>


#define NGX_HTTP_RUNCOACH_KEYS_RETRY   1     /* s after a fetch that failed */
#define NGX_HTTP_RUNCOACH_KEYS_STRAY   60    /* s that a kid is remembered */
#define NGX_HTTP_RUNCOACH_KEYS_STRAYS  64
#define NGX_HTTP_RUNCOACH_KEYS_SLOTS   64
#define NGX_HTTP_RUNCOACH_KEYS_SEED    16


/*
 * One slot for each URL.  The epoch is part of the cache key of the location,
 * so a new epoch is a fetch that no cache can answer.  It is the second in
 * which it began: it moves at most once in a cool-down, whatever the number of
 * workers, and is never one from before a restart, of which a cache on disk may
 * still have the answer.
 *
 * A worker that has not seen the epoch yet joins it only within the cool-down:
 * what was fetched longer ago may lack a key which was published meanwhile.
 *
 * A fetch which is not forced has the last epoch that brought keys: what a
 * cache keeps under it is what is left if the issuer is down.
 */

typedef struct {
    ngx_atomic_t                hash;
    ngx_atomic_t                epoch;
    ngx_atomic_t                good;         /* the last that brought keys */
    ngx_atomic_t                bad;          /* the last that did not */
} ngx_http_runcoach_keys_slot_t;


/* a kid which a fetch did not bring */

typedef struct {
    uint64_t                    hash;
    time_t                      time;
} ngx_http_runcoach_stray_t;


struct ngx_http_runcoach_keys_s {
    ngx_http_runcoach_keys_conf_t   conf;
    ngx_atomic_uint_t               hash;
    u_char                          seed[NGX_HTTP_RUNCOACH_KEYS_SEED];

    /* the state of this worker */

    runcoach_jwks_t                *set;
    ngx_http_runcoach_keys_slot_t  *slot;
    ngx_queue_t                     fetches;  /* under way */

    time_t                          fetched;  /* when the issuer sent the set */
    time_t                          tried;    /* the end of the last fetch */
    time_t                          started;  /* of one nobody waits for */
    time_t                          delay;    /* between those, if they fail */

    ngx_atomic_uint_t               epoch;    /* of the last finished fetch */
    ngx_atomic_uint_t               good;     /* of the set */
    ngx_atomic_uint_t               broken;   /* its answer is of no use */

    ngx_http_runcoach_stray_t       strays[NGX_HTTP_RUNCOACH_KEYS_STRAYS];
    ngx_uint_t                      nstrays;

    ngx_int_t                       trouble;  /* as it was logged */

    unsigned                        fixed:1;
    unsigned                        failed:1;
    unsigned                        expired:1;
};


/*
 * A fetch, or a request which waits for that of another one.  If the request
 * whose subrequest fetches goes away, the first of those who wait takes over.
 */

typedef struct {
    ngx_queue_t                     queue;    /* fetches, or waiters of one */
    ngx_queue_t                     waiters;
    ngx_event_t                     event;

    ngx_http_request_t             *request;
    ngx_http_runcoach_keys_t       *keys;
    ngx_atomic_uint_t               epoch;
    uint64_t                        kid;      /* hash of it; 0: none */
    ngx_uint_t                     *pending;

    u_char                         *body;
    size_t                          len;

    unsigned                        forced:1;
    unsigned                        queued:1;
    unsigned                        leads:1;
    unsigned                        overflow:1;
    unsigned                        done:1;
} ngx_http_runcoach_fetch_t;


static ngx_int_t ngx_http_runcoach_keys_fetch_first(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, ngx_uint_t *pending);
static void ngx_http_runcoach_keys_background(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, time_t delay);
static ngx_http_runcoach_keys_slot_t *ngx_http_runcoach_keys_slot(
    ngx_http_request_t *r, ngx_http_runcoach_keys_t *keys);
static ngx_int_t ngx_http_runcoach_keys_move_epoch(
    ngx_http_runcoach_keys_t *keys);
static uint64_t ngx_http_runcoach_keys_hash(ngx_http_runcoach_keys_t *keys,
    const runcoach_str_t *kid);
static ngx_http_runcoach_stray_t *ngx_http_runcoach_keys_stray(
    ngx_http_runcoach_keys_t *keys, uint64_t hash);
static void ngx_http_runcoach_keys_remember(ngx_http_runcoach_keys_t *keys,
    uint64_t hash);

static ngx_http_runcoach_fetch_t *ngx_http_runcoach_fetch_create(
    ngx_http_request_t *r, ngx_http_runcoach_keys_t *keys,
    ngx_atomic_uint_t epoch, ngx_uint_t forced);
static ngx_int_t ngx_http_runcoach_fetch_begin(
    ngx_http_runcoach_fetch_t *fetch);
static ngx_int_t ngx_http_runcoach_fetch_wait(ngx_http_runcoach_fetch_t *fetch,
    ngx_http_runcoach_fetch_t *leader);
static ngx_int_t ngx_http_runcoach_fetch_send(ngx_http_runcoach_fetch_t *fetch,
    ngx_uint_t flags);
static ngx_int_t ngx_http_runcoach_fetch_clear_headers(ngx_http_request_t *sr);
static ngx_int_t ngx_http_runcoach_fetch_done(ngx_http_request_t *r,
    void *data, ngx_int_t rc);
static void ngx_http_runcoach_fetch_wake(ngx_http_runcoach_fetch_t *fetch);
static void ngx_http_runcoach_fetch_abandon(void *data);
static void ngx_http_runcoach_fetch_hand_over(ngx_http_runcoach_fetch_t *fetch);
static void ngx_http_runcoach_fetch_take_over(ngx_event_t *ev);

static void ngx_http_runcoach_keys_finish(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status);
static ngx_int_t ngx_http_runcoach_keys_read(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status);
static ngx_int_t ngx_http_runcoach_keys_replace(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch);
static void ngx_http_runcoach_keys_adopt(ngx_http_runcoach_keys_t *keys,
    runcoach_jwks_t *set);
static ngx_uint_t ngx_http_runcoach_keys_same(ngx_http_runcoach_keys_t *keys,
    const runcoach_jwks_t *set);
static time_t ngx_http_runcoach_keys_date(ngx_http_request_t *r);
static ngx_uint_t ngx_http_runcoach_keys_log_level(
    ngx_http_runcoach_keys_t *keys, ngx_int_t trouble);

static ngx_int_t ngx_http_runcoach_keys_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static void ngx_http_runcoach_keys_capture(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_buf_t *b);

static ngx_int_t ngx_http_runcoach_jwks_url_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_jwks_epoch_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_runcoach_fetch_t *ngx_http_runcoach_jwks_fetch(
    ngx_http_request_t *r);
static ngx_http_runcoach_fetch_t *ngx_http_runcoach_jwks_find(
    ngx_http_request_t *r);

static ngx_int_t ngx_http_runcoach_keys_check_url(const ngx_str_t *url);
static ngx_int_t ngx_http_runcoach_keys_private_host(u_char *p, size_t len);
static void ngx_http_runcoach_keys_cleanup(void *data);
static ngx_int_t ngx_http_runcoach_jwks_zone_init(ngx_slab_pool_t *shpool,
    void **data);
static ngx_int_t ngx_http_runcoach_jwks_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_jwks_init(ngx_conf_t *cf);


static ngx_http_module_t  ngx_http_runcoach_jwks_module_ctx = {
    ngx_http_runcoach_jwks_variables,      /* preconfiguration */
    ngx_http_runcoach_jwks_init,           /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_runcoach_jwks_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_jwks_module_ctx,    /* module context */
    NULL,                                  /* module directives */
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


static ngx_http_variable_t  ngx_http_runcoach_jwks_vars[] = {

    { ngx_string("runcoach_jwks_url"), NULL,
      ngx_http_runcoach_jwks_url_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("runcoach_jwks_epoch"), NULL,
      ngx_http_runcoach_jwks_epoch_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_http_output_body_filter_pt  ngx_http_next_body_filter;


ngx_http_runcoach_keys_t *
ngx_http_runcoach_keys_create(ngx_conf_t *cf, runcoach_jwks_t *fixed,
    const ngx_http_runcoach_keys_conf_t *conf)
{
    const ngx_str_t           *url;
    ngx_pool_cleanup_t        *cln;
    ngx_http_runcoach_keys_t  *keys;

    keys = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_keys_t));
    if (keys == NULL) {
        runcoach_jwks_free(fixed);
        return NULL;
    }

    keys->set = fixed;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        runcoach_jwks_free(fixed);
        return NULL;
    }

    cln->handler = ngx_http_runcoach_keys_cleanup;
    cln->data = keys;

    keys->conf = *conf;
    keys->fixed = (fixed != NULL);

    if (keys->fixed) {
        return keys;
    }

    url = &conf->url;

    if (ngx_http_runcoach_keys_check_url(url) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid jwks_url \"%V\" of runcoach_issuer \"%V\", "
                           "must be https://..., or http:// to a loopback, "
                           "unix or private address", url, &conf->name);
        return NULL;
    }

    if (RAND_bytes(keys->seed, NGX_HTTP_RUNCOACH_KEYS_SEED) != 1) {
        return NULL;
    }

    /* issuers of one URL share what a cache has under its epochs */

    keys->hash = ngx_crc32_long(url->data, url->len);
    keys->hash = (keys->hash << 8 ^ ngx_hash_key(url->data, url->len)) | 1;

    ngx_queue_init(&keys->fetches);

    return keys;
}


const runcoach_jwks_t *
ngx_http_runcoach_keys_get(ngx_http_runcoach_keys_t *keys)
{
    if (keys->fixed
        || keys->set == NULL
        || ngx_time() - keys->fetched <= keys->conf.stale)
    {
        return keys->set;
    }

    if (!keys->expired) {
        keys->expired = 1;

        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "keys of issuer \"%V\" are %T s old: not used any more",
                      &keys->conf.name, ngx_time() - keys->fetched);
    }

    return NULL;
}


ngx_uint_t
ngx_http_runcoach_keys_failed(ngx_http_runcoach_keys_t *keys)
{
    return keys->failed;
}


ngx_int_t
ngx_http_runcoach_keys_fetch(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, const runcoach_str_t *kid,
    ngx_uint_t *pending)
{
    uint64_t                    hash;
    ngx_http_runcoach_fetch_t  *fetch;

    if (keys->fixed) {
        return NGX_DECLINED;
    }

    (void) ngx_http_runcoach_keys_slot(r, keys);

    if (kid == NULL) {
        return ngx_http_runcoach_keys_fetch_first(r, keys, pending);
    }

    if (kid->data == NULL) {

        /* a key set has no key for it, and never will */

        return NGX_DECLINED;
    }

    hash = ngx_http_runcoach_keys_hash(keys, kid);

    if (ngx_http_runcoach_keys_stray(keys, hash) != NULL) {

        /*
         * Nobody waits for it again; but a key which was asked for before it
         * was published must not be unknown for that long.
         */

        ngx_http_runcoach_keys_suspect(r, keys);
        return NGX_DECLINED;
    }

    if (ngx_http_runcoach_keys_move_epoch(keys) != NGX_OK) {
        return NGX_DECLINED;
    }

    fetch = ngx_http_runcoach_fetch_create(r, keys, keys->slot->epoch, 1);
    if (fetch == NULL) {
        return NGX_ERROR;
    }

    fetch->kid = hash;
    fetch->pending = pending;

    return ngx_http_runcoach_fetch_begin(fetch);
}


static ngx_int_t
ngx_http_runcoach_keys_fetch_first(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, ngx_uint_t *pending)
{
    time_t                          now;
    ngx_uint_t                      forced;
    ngx_atomic_uint_t               epoch;
    ngx_http_runcoach_fetch_t      *fetch;
    ngx_http_runcoach_keys_slot_t  *slot;

    now = ngx_time();

    if (ngx_http_runcoach_keys_get(keys) != NULL) {
        return NGX_DECLINED;
    }

    if (ngx_queue_empty(&keys->fetches) && keys->failed
        && now - keys->tried < NGX_HTTP_RUNCOACH_KEYS_RETRY)
    {
        return NGX_DECLINED;
    }

    slot = keys->slot;
    forced = 0;
    epoch = slot->good;

    if (epoch == 0) {

        /* it does not count as forced: a new key may be asked for at once */

        (void) ngx_atomic_cmp_set(&slot->epoch, 0, now - keys->conf.cooldown);
        epoch = slot->epoch;
    }

    if (epoch == keys->broken) {

        /* it is what a cache would answer again */

        if (ngx_http_runcoach_keys_move_epoch(keys) != NGX_OK) {
            return NGX_DECLINED;
        }

        epoch = slot->epoch;
        forced = 1;
    }

    fetch = ngx_http_runcoach_fetch_create(r, keys, epoch, forced);
    if (fetch == NULL) {
        return NGX_ERROR;
    }

    fetch->pending = pending;

    return ngx_http_runcoach_fetch_begin(fetch);
}


void
ngx_http_runcoach_keys_refresh(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys)
{
    if (keys->fixed) {
        return;
    }

    if (ngx_http_runcoach_keys_slot(r, keys)->good == keys->good
        && ngx_time() - keys->fetched < keys->conf.refresh)
    {
        return;
    }

    ngx_http_runcoach_keys_background(r, keys, keys->delay);
}


void
ngx_http_runcoach_keys_suspect(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys)
{
    if (keys->fixed) {
        return;
    }

    (void) ngx_http_runcoach_keys_slot(r, keys);

    ngx_http_runcoach_keys_background(r, keys, keys->conf.cooldown);
}


/*
 * What another worker has fetched comes from the cache; otherwise the epoch
 * moves.  The time is that of the start: a client which goes away takes its
 * subrequest along, and must not make room for the next.
 */

static void
ngx_http_runcoach_keys_background(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, time_t delay)
{
    ngx_uint_t                  forced;
    ngx_atomic_uint_t           epoch;
    ngx_http_runcoach_fetch_t  *fetch;

    if (ngx_exiting
        || !ngx_queue_empty(&keys->fetches)
        || (keys->started != 0 && ngx_time() - keys->started < delay))
    {
        return;
    }

    epoch = keys->slot->good;
    forced = (epoch == 0 || epoch == keys->good);

    if (forced) {

        if (ngx_http_runcoach_keys_move_epoch(keys) != NGX_OK) {
            return;
        }

        epoch = keys->slot->epoch;
    }

    keys->started = ngx_time();

    fetch = ngx_http_runcoach_fetch_create(r, keys, epoch, forced);

    if (fetch == NULL
        || ngx_http_runcoach_fetch_send(fetch, NGX_HTTP_SUBREQUEST_BACKGROUND)
           == NGX_ERROR)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "could not start to refresh the keys of issuer \"%V\"",
                      &keys->conf.name);
    }
}


/* all workers find the same slot; a free one is claimed */

static ngx_http_runcoach_keys_slot_t *
ngx_http_runcoach_keys_slot(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys)
{
    ngx_uint_t                      i, n;
    ngx_http_runcoach_keys_slot_t  *slots, *slot;

    if (keys->slot != NULL) {
        return keys->slot;
    }

    slots = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_AUTH, NULL);

    /* with more URLs than slots, over all reloads, sharing one is harmless */

    keys->slot = &slots[keys->hash % NGX_HTTP_RUNCOACH_KEYS_SLOTS];

    for (i = 0; i < NGX_HTTP_RUNCOACH_KEYS_SLOTS; i++) {
        n = (keys->hash + i) % NGX_HTTP_RUNCOACH_KEYS_SLOTS;
        slot = &slots[n];

        if (slot->hash == keys->hash
            || ngx_atomic_cmp_set(&slot->hash, 0, keys->hash)
            || slot->hash == keys->hash)
        {
            keys->slot = slot;
            break;
        }
    }

    return keys->slot;
}


/* NGX_OK: the epoch is one that this worker may fetch now */

static ngx_int_t
ngx_http_runcoach_keys_move_epoch(ngx_http_runcoach_keys_t *keys)
{
    ngx_atomic_uint_t               epoch, now, cooldown;
    ngx_http_runcoach_keys_slot_t  *slot;

    slot = keys->slot;
    epoch = slot->epoch;
    now = (ngx_atomic_uint_t) ngx_time();
    cooldown = (ngx_atomic_uint_t) keys->conf.cooldown;

    /* the clock of another worker may be ahead, but not by so much */

    if (now >= epoch + cooldown || now + cooldown < epoch) {

        /* if it fails, somebody else has moved it just now */

        (void) ngx_atomic_cmp_set(&slot->epoch, epoch, now);

        return NGX_OK;
    }

    if (epoch == keys->epoch) {
        return NGX_DECLINED;
    }

    if (epoch == slot->bad) {

        /* another worker has tried */

        keys->epoch = epoch;
        keys->failed = 1;

        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* keyed, so that nobody can make up a kid that hides another one */

static uint64_t
ngx_http_runcoach_keys_hash(ngx_http_runcoach_keys_t *keys,
    const runcoach_str_t *kid)
{
    u_char        digest[EVP_MAX_MD_SIZE];
    uint64_t      hash;
    unsigned int  len;

    if (HMAC(EVP_sha256(), keys->seed, NGX_HTTP_RUNCOACH_KEYS_SEED,
             kid->data, kid->len, digest, &len)
        == NULL)
    {
        return 0;
    }

    ngx_memcpy(&hash, digest, sizeof(uint64_t));

    return hash;
}


static ngx_http_runcoach_stray_t *
ngx_http_runcoach_keys_stray(ngx_http_runcoach_keys_t *keys, uint64_t hash)
{
    time_t                      now;
    ngx_uint_t                  i;
    ngx_http_runcoach_stray_t  *stray;

    now = ngx_time();

    for (i = 0; i < NGX_HTTP_RUNCOACH_KEYS_STRAYS; i++) {
        stray = &keys->strays[i];

        if (stray->hash == hash && hash != 0
            && now - stray->time < NGX_HTTP_RUNCOACH_KEYS_STRAY)
        {
            return stray;
        }
    }

    return NULL;
}


/* the kid may be in the set: nobody asks for it then */

static void
ngx_http_runcoach_keys_remember(ngx_http_runcoach_keys_t *keys, uint64_t hash)
{
    ngx_http_runcoach_stray_t  *stray;

    if (hash == 0) {
        return;
    }

    stray = ngx_http_runcoach_keys_stray(keys, hash);

    if (stray == NULL) {
        stray = &keys->strays[keys->nstrays++
                              % NGX_HTTP_RUNCOACH_KEYS_STRAYS];
    }

    stray->hash = hash;
    stray->time = ngx_time();
}


static ngx_http_runcoach_fetch_t *
ngx_http_runcoach_fetch_create(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, ngx_atomic_uint_t epoch, ngx_uint_t forced)
{
    ngx_http_cleanup_t         *cln;
    ngx_http_runcoach_fetch_t  *fetch;

    fetch = ngx_pcalloc(r->pool, sizeof(ngx_http_runcoach_fetch_t));
    if (fetch == NULL) {
        return NULL;
    }

    /* those of the pool come too late for a request that was terminated */

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_runcoach_fetch_abandon;
    cln->data = fetch;

    fetch->request = r->main;
    fetch->keys = keys;
    fetch->epoch = epoch;
    fetch->forced = forced;

    fetch->event.handler = ngx_http_runcoach_fetch_take_over;
    fetch->event.data = fetch;
    fetch->event.log = r->connection->log;

    ngx_queue_init(&fetch->waiters);

    return fetch;
}


/* in a worker, one request fetches and the others wait for it */

static ngx_int_t
ngx_http_runcoach_fetch_begin(ngx_http_runcoach_fetch_t *fetch)
{
    ngx_queue_t                *q, *fetches;
    ngx_http_runcoach_fetch_t  *leader;

    fetches = &fetch->keys->fetches;

    for (q = ngx_queue_head(fetches);
         q != ngx_queue_sentinel(fetches);
         q = ngx_queue_next(q))
    {
        leader = ngx_queue_data(q, ngx_http_runcoach_fetch_t, queue);

        if (leader->epoch == fetch->epoch || fetch->kid == 0) {
            return ngx_http_runcoach_fetch_wait(fetch, leader);
        }
    }

    return ngx_http_runcoach_fetch_send(fetch, NGX_HTTP_SUBREQUEST_WAITED);
}


static ngx_int_t
ngx_http_runcoach_fetch_wait(ngx_http_runcoach_fetch_t *fetch,
    ngx_http_runcoach_fetch_t *leader)
{
    if (ngx_http_runcoach_await(fetch->request) != NGX_AGAIN) {
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&leader->waiters, &fetch->queue);

    fetch->queued = 1;
    *fetch->pending = 1;

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_runcoach_fetch_send(ngx_http_runcoach_fetch_t *fetch,
    ngx_uint_t flags)
{
    ngx_http_request_t          *r, *sr;
    ngx_http_post_subrequest_t  *ps;

    r = fetch->request;

    fetch->body = ngx_pnalloc(r->pool, RUNCOACH_JWKS_MAX_SIZE);
    if (fetch->body == NULL) {
        return NGX_ERROR;
    }

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_http_runcoach_fetch_done;
    ps->data = fetch;

    if (ngx_http_subrequest(r, &fetch->keys->conf.location, NULL, &sr, ps,
                            flags)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_runcoach_fetch_clear_headers(sr) != NGX_OK) {
        fetch->done = 1;
        return NGX_ERROR;
    }

    sr->filter_need_in_memory = 1;

    if (!sr->background) {

        /* a client that goes away while a cache lock is held is noticed */

        sr->read_event_handler = ngx_http_test_reading;
    }

    if (fetch->pending != NULL) {
        *fetch->pending = 1;
    }

    if (!fetch->queued) {
        ngx_queue_insert_tail(&fetch->keys->fetches, &fetch->queue);
        fetch->queued = 1;
    }

    fetch->leads = 1;

    return NGX_AGAIN;
}


/*
 * A subrequest inherits what the client has sent: its token, its ranges and
 * conditions, its body.  Nothing of this is for the issuer.
 */

static ngx_int_t
ngx_http_runcoach_fetch_clear_headers(ngx_http_request_t *sr)
{
    ngx_memzero(&sr->headers_in, sizeof(ngx_http_headers_in_t));
    sr->headers_in.content_length_n = -1;

    if (ngx_list_init(&sr->headers_in.headers, sr->pool, 1,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

#if (nginx_version < 1023000)

    if (ngx_array_init(&sr->headers_in.cookies, sr->pool, 1,
                       sizeof(ngx_table_elt_t *))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

#endif

    sr->request_body = ngx_pcalloc(sr->pool, sizeof(ngx_http_request_body_t));
    if (sr->request_body == NULL) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* may be called twice for one subrequest: for an error, and for its page */

static ngx_int_t
ngx_http_runcoach_fetch_done(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    ngx_http_runcoach_fetch_t  *fetch = data;

    if (!fetch->done) {
        fetch->done = 1;

        ngx_queue_remove(&fetch->queue);

        if (rc == NGX_HTTP_CLIENT_CLOSED_REQUEST) {

            /* that a client went away says nothing about the issuer */

            ngx_http_runcoach_fetch_hand_over(fetch);

        } else {
            ngx_http_runcoach_keys_finish(r, fetch, rc);
            ngx_http_runcoach_fetch_wake(fetch);
        }

        if (fetch->pending != NULL) {
            *fetch->pending = 0;
        }
    }

    /* a broken answer of the issuer must not cost the client its connection */

    return rc == NGX_ERROR ? NGX_OK : rc;
}


static void
ngx_http_runcoach_fetch_wake(ngx_http_runcoach_fetch_t *fetch)
{
    ngx_queue_t                *q;
    ngx_http_runcoach_fetch_t  *waiter;

    while (!ngx_queue_empty(&fetch->waiters)) {
        q = ngx_queue_head(&fetch->waiters);
        ngx_queue_remove(q);

        waiter = ngx_queue_data(q, ngx_http_runcoach_fetch_t, queue);

        if (!fetch->keys->failed) {
            ngx_http_runcoach_keys_remember(fetch->keys, waiter->kid);
        }

        waiter->done = 1;
        *waiter->pending = 0;

        ngx_http_runcoach_wake(waiter->request);
    }
}


/* the request has ended before the fetch, or while it waited for one */

static void
ngx_http_runcoach_fetch_abandon(void *data)
{
    ngx_http_runcoach_fetch_t  *fetch = data;

    if (fetch->done || !fetch->queued) {
        return;
    }

    fetch->done = 1;

    ngx_queue_remove(&fetch->queue);

    if (fetch->event.posted) {
        ngx_delete_posted_event(&fetch->event);
    }

    if (fetch->leads) {
        ngx_http_runcoach_fetch_hand_over(fetch);
    }
}


static void
ngx_http_runcoach_fetch_hand_over(ngx_http_runcoach_fetch_t *fetch)
{
    ngx_queue_t                *q;
    ngx_http_runcoach_fetch_t  *heir;

    if (ngx_queue_empty(&fetch->waiters)) {
        return;
    }

    q = ngx_queue_head(&fetch->waiters);
    ngx_queue_remove(q);

    heir = ngx_queue_data(q, ngx_http_runcoach_fetch_t, queue);

    if (!ngx_queue_empty(&fetch->waiters)) {
        ngx_queue_add(&heir->waiters, &fetch->waiters);
        ngx_queue_init(&fetch->waiters);
    }

    heir->epoch = fetch->epoch;
    heir->forced = fetch->forced;
    heir->leads = 1;

    ngx_queue_insert_tail(&fetch->keys->fetches, &heir->queue);

    /* the caller is another request's: let it unwind first */

    ngx_post_event(&heir->event, &ngx_posted_events);
}


static void
ngx_http_runcoach_fetch_take_over(ngx_event_t *ev)
{
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_runcoach_fetch_t  *fetch;

    fetch = ev->data;
    r = fetch->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;

    if (ngx_http_runcoach_fetch_send(fetch, NGX_HTTP_SUBREQUEST_WAITED)
        == NGX_ERROR)
    {
        fetch->done = 1;
        fetch->keys->failed = 1;

        ngx_queue_remove(&fetch->queue);
        ngx_http_runcoach_fetch_wake(fetch);

        *fetch->pending = 0;
        ngx_http_runcoach_wake(r);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_runcoach_keys_finish(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status)
{
    time_t                          now;
    ngx_int_t                       rc;
    ngx_http_runcoach_keys_t       *keys;
    ngx_http_runcoach_keys_slot_t  *slot;

    now = ngx_time();
    keys = fetch->keys;
    slot = keys->slot;

    rc = ngx_http_runcoach_keys_read(r, fetch, status);

    keys->tried = now;
    keys->failed = (rc != NGX_OK);

    if (rc == NGX_DECLINED) {
        keys->broken = fetch->epoch;
    }

    if ((fetch->forced || rc != NGX_ERROR)
        && (fetch->epoch > keys->epoch || fetch->epoch == slot->epoch))
    {
        keys->epoch = fetch->epoch;
    }

    if (rc != NGX_OK) {

        if (fetch->epoch == slot->epoch && keys->epoch == fetch->epoch) {
            slot->bad = fetch->epoch;
        }

        keys->delay = ngx_max(2 * keys->delay, keys->conf.cooldown);
        keys->delay = ngx_min(keys->delay, keys->conf.refresh);

        return;
    }

    keys->delay = 0;
    ngx_http_runcoach_keys_remember(keys, fetch->kid);

    if (fetch->epoch > slot->good
        || slot->good > (ngx_atomic_uint_t) (now + keys->conf.cooldown))
    {
        slot->good = fetch->epoch;
    }
}


/*
 * NGX_OK        there are keys
 * NGX_DECLINED  an answer which a cache would keep, and which is of no use
 * NGX_ERROR     no answer
 */

static ngx_int_t
ngx_http_runcoach_keys_read(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status)
{
    ngx_uint_t                 level, encoded, cut;
    ngx_http_runcoach_keys_t  *keys;

    keys = fetch->keys;

    if (status == NGX_OK) {
        status = r->headers_out.status;
    }

    encoded = (r->headers_out.content_encoding != NULL);
    cut = (!fetch->overflow && r->headers_out.content_length_n != -1
           && r->headers_out.content_length_n != (off_t) fetch->len);

    if (status == NGX_HTTP_OK && !encoded && !fetch->overflow && !cut) {
        return ngx_http_runcoach_keys_replace(r, fetch);
    }

    level = ngx_http_runcoach_keys_log_level(keys, status);

    ngx_log_error(level, r->connection->log, 0,
                  "keys of issuer \"%V\" not fetched from \"%V\": "
                  "status %i%s%s%s", &keys->conf.name, &keys->conf.url, status,
                  fetch->overflow ? ", larger than 64k" : "",
                  cut ? ", incomplete" : "", encoded ? ", encoded" : "");

    return (status == NGX_HTTP_OK && !cut) ? NGX_DECLINED : NGX_ERROR;
}


static ngx_int_t
ngx_http_runcoach_keys_replace(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch)
{
    time_t                     date;
    unsigned                   skipped;
    ngx_log_t                 *log;
    ngx_uint_t                 level;
    runcoach_jwks_t           *set;
    runcoach_jwks_rc_e         rc;
    ngx_http_runcoach_keys_t  *keys;

    keys = fetch->keys;
    log = r->connection->log;
    date = ngx_http_runcoach_keys_date(r);

    if (ngx_time() - date > keys->conf.stale) {
        level = ngx_http_runcoach_keys_log_level(keys, NGX_ABORT);

        ngx_log_error(level, log, 0,
                      "keys of issuer \"%V\" in the cache are %T s old: "
                      "not used", &keys->conf.name, ngx_time() - date);
        return NGX_DECLINED;
    }

    if (keys->set != NULL && fetch->epoch < keys->good
        && fetch->epoch != keys->slot->good)
    {
        /* a later one was faster */

        return NGX_OK;
    }

    rc = runcoach_jwks_parse(&set, &skipped, fetch->body, fetch->len);

    if (rc != RUNCOACH_JWKS_OK) {
        level = ngx_http_runcoach_keys_log_level(keys, NGX_ABORT - rc);

        ngx_log_error(level, log, 0,
                      "keys of issuer \"%V\" from \"%V\" are %s%s",
                      &keys->conf.name, &keys->conf.url,
                      rc == RUNCOACH_JWKS_NO_KEY ? "none that can be used"
                      : rc == RUNCOACH_JWKS_NO_MEMORY ? "more than fits"
                      : "not a JWK Set",
                      keys->set != NULL ? ": the former ones stay in use" : "");

        return rc == RUNCOACH_JWKS_NO_MEMORY ? NGX_ERROR : NGX_DECLINED;
    }

    if (skipped != 0 && !ngx_http_runcoach_keys_same(keys, set)) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "%ud keys of issuer \"%V\" are left out: not public "
                      "signature keys of a supported kind",
                      skipped, &keys->conf.name);
    }

    if (keys->trouble != 0) {
        keys->trouble = 0;
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "keys of issuer \"%V\" are fetched again",
                      &keys->conf.name);
    }

    keys->fetched = date;
    keys->good = fetch->epoch;

    ngx_http_runcoach_keys_adopt(keys, set);

    return NGX_OK;
}


static void
ngx_http_runcoach_keys_adopt(ngx_http_runcoach_keys_t *keys,
    runcoach_jwks_t *set)
{
    keys->expired = 0;

    if (ngx_http_runcoach_keys_same(keys, set)) {
        runcoach_jwks_free(set);
        return;
    }

    runcoach_jwks_free(keys->set);
    keys->set = set;

    ngx_memzero(keys->strays, sizeof(keys->strays));
}


static ngx_uint_t
ngx_http_runcoach_keys_same(ngx_http_runcoach_keys_t *keys,
    const runcoach_jwks_t *set)
{
    return keys->set != NULL
           && ngx_memcmp(runcoach_jwks_digest(keys->set),
                         runcoach_jwks_digest(set), RUNCOACH_JWKS_DIGEST)
              == 0;
}


/* a cache tells when the issuer was asked, which may be long ago */

static time_t
ngx_http_runcoach_keys_date(ngx_http_request_t *r)
{
#if (NGX_HTTP_CACHE)

    if (r->upstream != NULL && r->cache != NULL) {

        switch (r->upstream->cache_status) {

        case NGX_HTTP_CACHE_HIT:
        case NGX_HTTP_CACHE_STALE:
        case NGX_HTTP_CACHE_UPDATING:
            return ngx_min(r->cache->date, ngx_time());
        }
    }

#endif

    return ngx_time();
}


/* an outage is logged when it begins and when it ends */

static ngx_uint_t
ngx_http_runcoach_keys_log_level(ngx_http_runcoach_keys_t *keys,
    ngx_int_t trouble)
{
    if (keys->trouble == trouble) {
        return NGX_LOG_INFO;
    }

    keys->trouble = trouble;

    return NGX_LOG_ERR;
}


/*
 * The answer of the issuer is kept here rather than by an in-memory
 * subrequest, because there an answer larger than the buffer is an error of
 * the client's connection.
 */

static ngx_int_t
ngx_http_runcoach_keys_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t                *cl;
    ngx_http_runcoach_fetch_t  *fetch;

    fetch = ngx_http_runcoach_jwks_fetch(r);

    if (fetch == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {
        ngx_http_runcoach_keys_capture(r, fetch, cl->buf);
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_keys_capture(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_buf_t *b)
{
    size_t  size;

    if (ngx_buf_in_memory(b)) {
        size = b->last - b->pos;

        if (size > RUNCOACH_JWKS_MAX_SIZE - fetch->len) {
            fetch->overflow = 1;

        } else {
            ngx_memcpy(fetch->body + fetch->len, b->pos, size);
            fetch->len += size;
        }

        b->pos = b->last;
    }

    if (b->in_file) {
        b->file_pos = b->file_last;
    }

    if (fetch->overflow && r->upstream != NULL && r->upstream->pipe != NULL) {

        /* the rest of it, perhaps without an end, is neither read nor cached */

        r->upstream->pipe->upstream_error = 1;
    }
}


static ngx_int_t
ngx_http_runcoach_jwks_url_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_runcoach_fetch_t  *fetch;

    fetch = ngx_http_runcoach_jwks_find(r);

    if (fetch == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    return ngx_http_runcoach_set_variable(v, fetch->keys->conf.url.data,
                                          fetch->keys->conf.url.len);
}


static ngx_int_t
ngx_http_runcoach_jwks_epoch_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                     *p;
    ngx_http_runcoach_fetch_t  *fetch;

    fetch = ngx_http_runcoach_jwks_find(r);

    if (fetch == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    p = ngx_pnalloc(r->pool, NGX_ATOMIC_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_set_variable(v, p,
                                  ngx_sprintf(p, "%uA", fetch->epoch) - p);
}


/* not by a context, which does not survive an internal redirect */

static ngx_http_runcoach_fetch_t *
ngx_http_runcoach_jwks_fetch(ngx_http_request_t *r)
{
    if (r->post_subrequest == NULL
        || r->post_subrequest->handler != ngx_http_runcoach_fetch_done)
    {
        return NULL;
    }

    return r->post_subrequest->data;
}


/* a cache updates itself by a subrequest of the subrequest */

static ngx_http_runcoach_fetch_t *
ngx_http_runcoach_jwks_find(ngx_http_request_t *r)
{
    ngx_http_runcoach_fetch_t  *fetch;

    for ( /* void */ ; r; r = r->parent) {
        fetch = ngx_http_runcoach_jwks_fetch(r);

        if (fetch != NULL) {
            return fetch;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_runcoach_keys_check_url(const ngx_str_t *url)
{
    u_char  *p, *last;
    size_t   i;

    for (i = 0; i < url->len; i++) {

        if (url->data[i] <= ' ' || url->data[i] >= 0x7f) {
            return NGX_ERROR;
        }
    }

    p = url->data;
    last = p + url->len;

    if (url->len > 8 && ngx_strncasecmp(p, (u_char *) "https://", 8) == 0) {
        return NGX_OK;
    }

    if (url->len <= 7 || ngx_strncasecmp(p, (u_char *) "http://", 7) != 0) {
        return NGX_ERROR;
    }

    return ngx_http_runcoach_keys_private_host(p + 7, last - p - 7);
}


static ngx_int_t
ngx_http_runcoach_keys_private_host(u_char *p, size_t len)
{
    u_char       *end;
    in_addr_t     addr;
#if (NGX_HAVE_INET6)
    struct in6_addr  addr6;
#endif

    if (len > 5 && ngx_strncmp(p, "unix:", 5) == 0) {
        return NGX_OK;
    }

    if (*p == '[') {
        end = ngx_strlchr(p, p + len, ']');

        if (end == NULL) {
            return NGX_ERROR;
        }

#if (NGX_HAVE_INET6)
        if (ngx_inet6_addr(p + 1, end - p - 1, addr6.s6_addr) == NGX_OK
            && (IN6_IS_ADDR_LOOPBACK(&addr6)
                || (addr6.s6_addr[0] & 0xfe) == 0xfc))
        {
            return NGX_OK;
        }
#endif

        return NGX_ERROR;
    }

    for (end = p; end < p + len && *end != ':' && *end != '/'; end++) {
        /* void */
    }

    len = end - p;

    if ((len == 9 && ngx_strncasecmp(p, (u_char *) "localhost", 9) == 0)
        || (len > 9
            && ngx_strncasecmp(end - 9, (u_char *) ".internal", 9) == 0)
        || (len > 8
            && ngx_strncasecmp(end - 8, (u_char *) ".flycast", 8) == 0))
    {
        return NGX_OK;
    }

    addr = ngx_inet_addr(p, len);

    if (addr == INADDR_NONE) {
        return NGX_ERROR;
    }

    addr = ntohl(addr);

    if (addr >> 24 == 127
        || addr >> 24 == 10
        || addr >> 20 == 0xac1
        || addr >> 16 == 0xc0a8)
    {
        return NGX_OK;
    }

    return NGX_ERROR;
}


static void
ngx_http_runcoach_keys_cleanup(void *data)
{
    ngx_http_runcoach_keys_t  *keys = data;

    runcoach_jwks_free(keys->set);
}


static ngx_int_t
ngx_http_runcoach_jwks_zone_init(ngx_slab_pool_t *shpool, void **data)
{
    *data = ngx_slab_calloc(shpool, NGX_HTTP_RUNCOACH_KEYS_SLOTS
                                    * sizeof(ngx_http_runcoach_keys_slot_t));

    return *data != NULL ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_runcoach_jwks_variables(ngx_conf_t *cf)
{
    return ngx_http_runcoach_add_variables(cf, ngx_http_runcoach_jwks_vars);
}


/* without a zone there is no issuer with a location: the auth module checks */

static ngx_int_t
ngx_http_runcoach_jwks_init(ngx_conf_t *cf)
{
    (void) ngx_http_runcoach_zone_add(cf, NGX_HTTP_RUNCOACH_ZONE_AUTH,
                                      ngx_http_runcoach_jwks_zone_init);

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_runcoach_keys_body_filter;

    return NGX_OK;
}
