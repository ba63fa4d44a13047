
#include "ngx_http_runcoach_jwks.h"


#define NGX_HTTP_RUNCOACH_KEYS_FRESH     300     /* s, then refreshed */
#define NGX_HTTP_RUNCOACH_KEYS_STALE     86400   /* s, then forgotten */
#define NGX_HTTP_RUNCOACH_KEYS_COOLDOWN  10      /* s between forced fetches */
#define NGX_HTTP_RUNCOACH_KEYS_RETRY     1       /* s after a failed fetch */

#define NGX_HTTP_RUNCOACH_KEYS_SLOTS     64


/*
 * One slot for each issuer.  The epoch is part of the cache key of the
 * location, so a new epoch is a fetch that no cache can answer; it moves at
 * most once in a cool-down, whatever the number of workers.  A fetch which is
 * not forced has the last epoch that brought keys: what a cache keeps under it
 * is what is left if the issuer is down.
 */

typedef struct {
    ngx_atomic_t                hash;
    ngx_atomic_t                epoch;
    ngx_atomic_t                good;
    ngx_atomic_t                moved;        /* when, in seconds */
} ngx_http_runcoach_keys_slot_t;


struct ngx_http_runcoach_keys_s {
    ngx_str_t                   name;
    ngx_str_t                   location;
    ngx_str_t                   url;
    ngx_atomic_uint_t           hash;

    /* the state of this worker */

    runcoach_jwks_t            *set;
    time_t                      fetched;
    time_t                      tried;
    ngx_atomic_uint_t           epoch;        /* of the last finished fetch */

    unsigned                    fixed:1;
    unsigned                    failed:1;
    unsigned                    refreshing:1;
};


typedef struct {
    ngx_http_runcoach_keys_t       *keys;
    ngx_http_runcoach_keys_slot_t  *slot;
    ngx_atomic_uint_t               epoch;
    ngx_uint_t                     *pending;

    u_char                         *body;
    size_t                          len;

    unsigned                        forced:1;
    unsigned                        background:1;
    unsigned                        overflow:1;
    unsigned                        done:1;
} ngx_http_runcoach_fetch_t;


static ngx_http_runcoach_keys_slot_t *ngx_http_runcoach_keys_slot(
    ngx_http_request_t *r, ngx_http_runcoach_keys_t *keys);
static ngx_int_t ngx_http_runcoach_keys_move_epoch(
    ngx_http_runcoach_keys_t *keys, ngx_http_runcoach_keys_slot_t *slot);
static ngx_int_t ngx_http_runcoach_keys_subrequest(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, ngx_uint_t forced, ngx_uint_t *pending,
    ngx_uint_t flags);
static ngx_int_t ngx_http_runcoach_keys_clear_headers(ngx_http_request_t *sr);
static ngx_int_t ngx_http_runcoach_keys_done(ngx_http_request_t *r, void *data,
    ngx_int_t rc);
static void ngx_http_runcoach_keys_finish(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status);
static ngx_int_t ngx_http_runcoach_keys_replace(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status);
static void ngx_http_runcoach_keys_abandon(void *data);
static ngx_int_t ngx_http_runcoach_keys_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static void ngx_http_runcoach_keys_capture(ngx_http_runcoach_fetch_t *fetch,
    ngx_buf_t *b);

static ngx_int_t ngx_http_runcoach_jwks_url_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_runcoach_jwks_epoch_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_runcoach_fetch_t *ngx_http_runcoach_jwks_fetch(
    ngx_http_request_t *r);
static ngx_http_runcoach_fetch_t *ngx_http_runcoach_jwks_find(
    ngx_http_request_t *r);

static ngx_int_t ngx_http_runcoach_keys_check_url(ngx_str_t *url);
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
ngx_http_runcoach_keys_create(ngx_conf_t *cf, ngx_str_t *name,
    runcoach_jwks_t *fixed, ngx_str_t *location, ngx_str_t *url)
{
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

    keys->name = *name;
    keys->fixed = (fixed != NULL);

    if (keys->fixed) {
        return keys;
    }

    if (ngx_http_runcoach_keys_check_url(url) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid jwks_url \"%V\" of runcoach_issuer \"%V\", "
                           "must be https://..., or http:// to a loopback, "
                           "unix or private address", url, name);
        return NULL;
    }

    keys->location = *location;
    keys->url = *url;
    keys->hash = ngx_crc32_long(name->data, name->len);
    keys->hash = (keys->hash << 8 | 1) ^ ngx_hash_key(url->data, url->len);

    return keys;
}


const runcoach_jwks_t *
ngx_http_runcoach_keys_get(ngx_http_runcoach_keys_t *keys)
{
    if (!keys->fixed
        && ngx_time() - keys->fetched > NGX_HTTP_RUNCOACH_KEYS_STALE)
    {
        return NULL;
    }

    return keys->set;
}


ngx_uint_t
ngx_http_runcoach_keys_failed(ngx_http_runcoach_keys_t *keys)
{
    return keys->failed;
}


ngx_int_t
ngx_http_runcoach_keys_fetch(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, ngx_uint_t unknown, ngx_uint_t *pending)
{
    if (keys->fixed) {
        return NGX_DECLINED;
    }

    if (unknown) {

        if (ngx_http_runcoach_keys_move_epoch(keys,
                                       ngx_http_runcoach_keys_slot(r, keys))
            != NGX_OK)
        {
            return NGX_DECLINED;
        }

    } else if (keys->failed
               && ngx_time() - keys->tried < NGX_HTTP_RUNCOACH_KEYS_RETRY)
    {
        return NGX_DECLINED;
    }

    return ngx_http_runcoach_keys_subrequest(r, keys, unknown, pending,
                                             NGX_HTTP_SUBREQUEST_WAITED);
}


void
ngx_http_runcoach_keys_refresh(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys)
{
    if (keys->fixed
        || keys->refreshing
        || ngx_time() - keys->fetched < NGX_HTTP_RUNCOACH_KEYS_FRESH
        || ngx_time() - keys->tried < NGX_HTTP_RUNCOACH_KEYS_COOLDOWN)
    {
        return;
    }

    if (ngx_http_runcoach_keys_subrequest(r, keys, 0, NULL,
                                          NGX_HTTP_SUBREQUEST_BACKGROUND)
        == NGX_ERROR)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "could not start to refresh the keys of issuer \"%V\"",
                      &keys->name);
    }
}


/* all workers find the same slot; a free one is claimed */

static ngx_http_runcoach_keys_slot_t *
ngx_http_runcoach_keys_slot(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys)
{
    ngx_uint_t                      i, n;
    ngx_http_runcoach_keys_slot_t  *slots, *slot;

    slots = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_AUTH, NULL);

    for (i = 0; i < NGX_HTTP_RUNCOACH_KEYS_SLOTS; i++) {
        n = (keys->hash + i) % NGX_HTTP_RUNCOACH_KEYS_SLOTS;
        slot = &slots[n];

        if (slot->hash == keys->hash
            || ngx_atomic_cmp_set(&slot->hash, 0, keys->hash)
            || slot->hash == keys->hash)
        {
            return slot;
        }
    }

    /* more issuers than slots, over all reloads: sharing one is harmless */

    return &slots[keys->hash % NGX_HTTP_RUNCOACH_KEYS_SLOTS];
}


static ngx_int_t
ngx_http_runcoach_keys_move_epoch(ngx_http_runcoach_keys_t *keys,
    ngx_http_runcoach_keys_slot_t *slot)
{
    ngx_atomic_uint_t  moved, now;

    if (slot->epoch != keys->epoch) {

        /* another worker, or another request, has asked for newer keys */

        return NGX_OK;
    }

    moved = slot->moved;
    now = (ngx_atomic_uint_t) ngx_time();

    if (now < moved + NGX_HTTP_RUNCOACH_KEYS_COOLDOWN) {
        return NGX_DECLINED;
    }

    if (ngx_atomic_cmp_set(&slot->moved, moved, now)) {
        (void) ngx_atomic_fetch_add(&slot->epoch, 1);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_keys_subrequest(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, ngx_uint_t forced, ngx_uint_t *pending,
    ngx_uint_t flags)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_request_t         *sr;
    ngx_http_runcoach_fetch_t  *fetch;
    ngx_http_post_subrequest_t *ps;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_runcoach_fetch_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    fetch = cln->data;
    ngx_memzero(fetch, sizeof(ngx_http_runcoach_fetch_t));

    fetch->keys = keys;
    fetch->slot = ngx_http_runcoach_keys_slot(r, keys);
    fetch->epoch = forced ? fetch->slot->epoch : fetch->slot->good;
    fetch->forced = forced;
    fetch->pending = pending;

    fetch->body = ngx_pnalloc(r->pool, RUNCOACH_JWKS_MAX_SIZE);
    if (fetch->body == NULL) {
        return NGX_ERROR;
    }

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_http_runcoach_keys_done;
    ps->data = fetch;

    if (ngx_http_subrequest(r, &keys->location, NULL, &sr, ps, flags)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    sr->filter_need_in_memory = 1;

    if (ngx_http_runcoach_keys_clear_headers(sr) != NGX_OK) {
        return NGX_ERROR;
    }

    if (pending != NULL) {
        *pending = 1;

    } else {
        fetch->background = 1;
        keys->refreshing = 1;
    }

    cln->handler = ngx_http_runcoach_keys_abandon;

    return NGX_AGAIN;
}


/*
 * A subrequest inherits what the client has sent: its token, its ranges and
 * conditions, its body.  Nothing of this is for the issuer.
 */

static ngx_int_t
ngx_http_runcoach_keys_clear_headers(ngx_http_request_t *sr)
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
ngx_http_runcoach_keys_done(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    ngx_http_runcoach_fetch_t  *fetch = data;

    if (!fetch->done) {
        fetch->done = 1;

        /* that a client went away says nothing about the issuer */

        if (rc != NGX_HTTP_CLIENT_CLOSED_REQUEST) {
            ngx_http_runcoach_keys_finish(r, fetch, rc);
        }

        if (fetch->background) {
            fetch->keys->refreshing = 0;

        } else {
            *fetch->pending = 0;
        }
    }

    /* a broken answer of the issuer must not cost the client its connection */

    return rc == NGX_ERROR ? NGX_OK : rc;
}


static void
ngx_http_runcoach_keys_finish(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status)
{
    ngx_http_runcoach_keys_t  *keys;

    keys = fetch->keys;

    keys->tried = ngx_time();
    keys->failed = (ngx_http_runcoach_keys_replace(r, fetch, status) != NGX_OK);

    if (fetch->forced || !keys->failed) {
        keys->epoch = fetch->epoch;
    }

    if (!keys->failed) {
        fetch->slot->good = fetch->epoch;
    }
}


static ngx_int_t
ngx_http_runcoach_keys_replace(ngx_http_request_t *r,
    ngx_http_runcoach_fetch_t *fetch, ngx_int_t status)
{
    ngx_log_t                 *log;
    unsigned                   skipped;
    runcoach_jwks_t           *set;
    runcoach_jwks_rc_e         rc;
    ngx_http_runcoach_keys_t  *keys;

    keys = fetch->keys;
    log = r->connection->log;

    if (status == NGX_OK) {
        status = r->headers_out.status;
    }

    if (status != NGX_HTTP_OK
        || r->headers_out.content_encoding != NULL
        || fetch->overflow)
    {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "keys of issuer \"%V\" not fetched from \"%V\": "
                      "status %i%s%s", &keys->name, &keys->url, status,
                      fetch->overflow ? ", larger than 64k" : "",
                      r->headers_out.content_encoding ? ", encoded" : "");
        return NGX_ERROR;
    }

    rc = runcoach_jwks_parse(&set, &skipped, fetch->body, fetch->len);

    if (rc != RUNCOACH_JWKS_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "keys of issuer \"%V\" from \"%V\" are %s: "
                      "the former ones stay in use", &keys->name, &keys->url,
                      rc == RUNCOACH_JWKS_NO_KEY ? "none that can be used"
                                                 : "not a JWK Set");
        return NGX_ERROR;
    }

    if (skipped != 0) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "%ud keys of issuer \"%V\" are left out: not public "
                      "signature keys of a supported kind",
                      skipped, &keys->name);
    }

    runcoach_jwks_free(keys->set);

    keys->set = set;
    keys->fetched = ngx_time();

    return NGX_OK;
}


/* the request died before its subrequest was finished */

static void
ngx_http_runcoach_keys_abandon(void *data)
{
    ngx_http_runcoach_fetch_t  *fetch = data;

    if (fetch->background && !fetch->done) {
        fetch->keys->refreshing = 0;
    }
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
        ngx_http_runcoach_keys_capture(fetch, cl->buf);
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_keys_capture(ngx_http_runcoach_fetch_t *fetch, ngx_buf_t *b)
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

    return ngx_http_runcoach_set_variable(v, fetch->keys->url.data,
                                          fetch->keys->url.len);
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
        || r->post_subrequest->handler != ngx_http_runcoach_keys_done)
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
ngx_http_runcoach_keys_check_url(ngx_str_t *url)
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
