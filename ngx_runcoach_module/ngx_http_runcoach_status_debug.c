
/*
 * The ring of what went wrong, in the shapes of the application's own debug
 * routes.  Nothing of a client gets in but the method, the path and the id of
 * the request: no query string, no header, nobody's name.
 */


#include "ngx_http_runcoach_status.h"


#define NGX_HTTP_RUNCOACH_UNPROCESSABLE  422

/* a longer segment of a path may be a token, or say who somebody is */

#define NGX_HTTP_RUNCOACH_DEBUG_SEGMENT  16

/* of an entry as JSON, with all of its bytes escaped */

#define NGX_HTTP_RUNCOACH_DEBUG_ENTRY    1536


typedef enum {
    NGX_HTTP_RUNCOACH_DEBUG_INFO = 0,
    NGX_HTTP_RUNCOACH_DEBUG_WARNING,
    NGX_HTTP_RUNCOACH_DEBUG_ERROR,
    NGX_HTTP_RUNCOACH_DEBUG_LEVELS
} ngx_http_runcoach_debug_level_e;


typedef enum {
    NGX_HTTP_RUNCOACH_DEBUG_AUTH = 0,
    NGX_HTTP_RUNCOACH_DEBUG_LIMIT,
    NGX_HTTP_RUNCOACH_DEBUG_SIGN,
    NGX_HTTP_RUNCOACH_DEBUG_STORE,
    NGX_HTTP_RUNCOACH_DEBUG_REDIS,
    NGX_HTTP_RUNCOACH_DEBUG_PROXY,
    NGX_HTTP_RUNCOACH_DEBUG_HTTP,
    NGX_HTTP_RUNCOACH_DEBUG_PERFORMANCE,
    NGX_HTTP_RUNCOACH_DEBUG_COMPONENTS
} ngx_http_runcoach_debug_component_e;


typedef struct {
    uint64_t    time;                 /* ms since 1970 */
    uint32_t    ms;
    uint16_t    status;               /* 0: it is about no request */
    uint16_t    upstream_status;      /* 0: none */
    u_char      level;
    u_char      component;
    u_char      message;
    u_char      method_len;
    u_char      path_len;
    u_char      id_len;
    u_char      reason_len;
    u_char      policy_len;
    u_char      method[8];
    u_char      path[128];
    u_char      id[32];
    u_char      reason[64];
    u_char      policy[64];
} ngx_http_runcoach_debug_record_t;


typedef union {
    ngx_http_runcoach_debug_record_t  record;
    uint64_t    words[sizeof(ngx_http_runcoach_debug_record_t)
                      / sizeof(uint64_t)];
} ngx_http_runcoach_debug_entry_t;


/* what it took in all, to connect, to the header; -1: it did not come to it */

typedef uint64_t  ngx_http_runcoach_debug_upstream_t[3];


typedef struct {
    const char  *name;
    size_t       ring;                /* its offset */
    ngx_uint_t   word;                /* of a record */
} ngx_http_runcoach_debug_operation_t;


/* what a request asks of the ring */

typedef struct {
    ngx_uint_t  limit;
    ngx_str_t   component;            /* empty: any */
    ngx_str_t   level;
} ngx_http_runcoach_debug_query_t;


static runcoach_ring_t *ngx_http_runcoach_debug_create(ngx_slab_pool_t *shpool,
    size_t n, size_t record);

static void ngx_http_runcoach_debug_timings(
    ngx_http_runcoach_debug_shctx_t *rings,
    const ngx_http_runcoach_status_facts_t *facts);
static void ngx_http_runcoach_debug_redis(
    ngx_http_runcoach_status_main_conf_t *smcf);
static void ngx_http_runcoach_debug_judge(ngx_http_request_t *r,
    const ngx_http_runcoach_status_facts_t *facts,
    ngx_http_runcoach_debug_record_t *record);
static void ngx_http_runcoach_debug_put(ngx_http_runcoach_debug_shctx_t *rings,
    ngx_http_runcoach_debug_entry_t *entry);
static u_char ngx_http_runcoach_debug_copy(u_char *dst, size_t size,
    const u_char *src, size_t len);
static void ngx_http_runcoach_debug_request(ngx_http_request_t *r,
    ngx_http_runcoach_status_main_conf_t *smcf,
    ngx_http_runcoach_debug_record_t *record);
static u_char ngx_http_runcoach_debug_path(u_char *dst, size_t size,
    const ngx_str_t *uri);
static ngx_uint_t ngx_http_runcoach_debug_private(const u_char *p, size_t len);

static ngx_int_t ngx_http_runcoach_debug_logs(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings);
static ngx_int_t ngx_http_runcoach_debug_errors(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings);
static ngx_int_t ngx_http_runcoach_debug_timing(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings);
static ngx_int_t ngx_http_runcoach_debug_clear(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings);
static ngx_buf_t *ngx_http_runcoach_debug_list(ngx_http_request_t *r,
    const runcoach_ring_t *ring, const char *name,
    const ngx_http_runcoach_debug_query_t *query);
static ngx_int_t ngx_http_runcoach_debug_get(const runcoach_ring_t *ring,
    uint64_t number, ngx_http_runcoach_debug_entry_t *entry);
static ngx_uint_t ngx_http_runcoach_debug_matches(
    const ngx_http_runcoach_debug_record_t *record,
    const ngx_http_runcoach_debug_query_t *query);
static uint64_t ngx_http_runcoach_debug_held(const runcoach_ring_t *ring);
static u_char *ngx_http_runcoach_debug_print(u_char *p,
    const ngx_http_runcoach_debug_record_t *record);
static u_char *ngx_http_runcoach_debug_text(u_char *p, const char *name,
    const u_char *data, size_t len);
static u_char *ngx_http_runcoach_debug_summary(u_char *p,
    const ngx_http_runcoach_debug_shctx_t *rings,
    const ngx_http_runcoach_debug_operation_t *op);
static int ngx_libc_cdecl ngx_http_runcoach_debug_compare(const void *one,
    const void *two);

static ngx_int_t ngx_http_runcoach_debug_limit(ngx_http_request_t *r,
    ngx_uint_t max, ngx_uint_t *limit);
static ngx_int_t ngx_http_runcoach_debug_arg(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);
static ngx_int_t ngx_http_runcoach_debug_invalid(ngx_http_request_t *r,
    const char *name, const char *type, const char *msg, ngx_uint_t n);


static const char  *ngx_http_runcoach_debug_levels[] = {
    "INFO", "WARNING", "ERROR"
};


static const char  *ngx_http_runcoach_debug_components[] = {
    "auth", "limit", "presign", "store", "redis", "upstream", "http",
    "performance"
};


static const ngx_http_runcoach_debug_operation_t
    ngx_http_runcoach_debug_operations[] =
{
    { "request", offsetof(ngx_http_runcoach_debug_shctx_t, requests), 0 },
    { "presign", offsetof(ngx_http_runcoach_debug_shctx_t, presigns), 0 },
    { "upstream", offsetof(ngx_http_runcoach_debug_shctx_t, upstreams), 0 },
    { "upstream_connect",
      offsetof(ngx_http_runcoach_debug_shctx_t, upstreams), 1 },
    { "upstream_header",
      offsetof(ngx_http_runcoach_debug_shctx_t, upstreams), 2 },
    { NULL, 0, 0 }
};


/* by ngx_http_runcoach_debug_message_e */

typedef enum {
    NGX_HTTP_RUNCOACH_DEBUG_MISSING = 0,
    NGX_HTTP_RUNCOACH_DEBUG_REFUSED,
    NGX_HTTP_RUNCOACH_DEBUG_UNCHECKED,
    NGX_HTTP_RUNCOACH_DEBUG_LIMITED,
    NGX_HTTP_RUNCOACH_DEBUG_UNLIMITED,
    NGX_HTTP_RUNCOACH_DEBUG_UNSIGNED,
    NGX_HTTP_RUNCOACH_DEBUG_UNSTORED,
    NGX_HTTP_RUNCOACH_DEBUG_AWAY,
    NGX_HTTP_RUNCOACH_DEBUG_BACK,
    NGX_HTTP_RUNCOACH_DEBUG_NO_UPSTREAM,
    NGX_HTTP_RUNCOACH_DEBUG_UPSTREAM_ERROR,
    NGX_HTTP_RUNCOACH_DEBUG_LEFT,
    NGX_HTTP_RUNCOACH_DEBUG_BAD_REQUEST,
    NGX_HTTP_RUNCOACH_DEBUG_BROKEN,
    NGX_HTTP_RUNCOACH_DEBUG_SLOW,
    NGX_HTTP_RUNCOACH_DEBUG_MESSAGES
} ngx_http_runcoach_debug_message_e;


static const struct {
    u_char       level;
    u_char       component;
    const char  *text;
} ngx_http_runcoach_debug_messages[] = {
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_AUTH,
      "no credentials" },
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_AUTH,
      "credentials refused" },
    { NGX_HTTP_RUNCOACH_DEBUG_ERROR, NGX_HTTP_RUNCOACH_DEBUG_AUTH,
      "credentials could not be checked" },
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_LIMIT,
      "rate limit exceeded" },
    { NGX_HTTP_RUNCOACH_DEBUG_ERROR, NGX_HTTP_RUNCOACH_DEBUG_LIMIT,
      "rate limit could not be checked" },
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_SIGN,
      "no URL was signed" },
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_STORE,
      "the local store refused" },
    { NGX_HTTP_RUNCOACH_DEBUG_ERROR, NGX_HTTP_RUNCOACH_DEBUG_REDIS,
      "Redis is unavailable" },
    { NGX_HTTP_RUNCOACH_DEBUG_INFO, NGX_HTTP_RUNCOACH_DEBUG_REDIS,
      "Redis is back" },
    { NGX_HTTP_RUNCOACH_DEBUG_ERROR, NGX_HTTP_RUNCOACH_DEBUG_PROXY,
      "no answer from the upstream" },
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_PROXY,
      "the upstream answered an error" },
    { NGX_HTTP_RUNCOACH_DEBUG_INFO, NGX_HTTP_RUNCOACH_DEBUG_HTTP,
      "the client left before the answer" },
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_HTTP,
      "request refused" },
    { NGX_HTTP_RUNCOACH_DEBUG_ERROR, NGX_HTTP_RUNCOACH_DEBUG_HTTP,
      "request failed" },
    { NGX_HTTP_RUNCOACH_DEBUG_WARNING, NGX_HTTP_RUNCOACH_DEBUG_PERFORMANCE,
      "slow request" }
};


ngx_int_t
ngx_http_runcoach_debug_zone_init(ngx_slab_pool_t *shpool, void **data)
{
    ngx_http_runcoach_debug_shctx_t  *rings;

    rings = ngx_slab_calloc(shpool, sizeof(ngx_http_runcoach_debug_shctx_t));
    if (rings == NULL) {
        return NGX_ERROR;
    }

    rings->logs = ngx_http_runcoach_debug_create(shpool,
                                    NGX_HTTP_RUNCOACH_DEBUG_LOGS,
                                    sizeof(ngx_http_runcoach_debug_record_t));
    rings->errors = ngx_http_runcoach_debug_create(shpool,
                                    NGX_HTTP_RUNCOACH_DEBUG_ERRORS,
                                    sizeof(ngx_http_runcoach_debug_record_t));

    rings->requests = ngx_http_runcoach_debug_create(shpool,
                                    NGX_HTTP_RUNCOACH_DEBUG_TIMINGS,
                                    sizeof(uint64_t));
    rings->presigns = ngx_http_runcoach_debug_create(shpool,
                                    NGX_HTTP_RUNCOACH_DEBUG_TIMINGS,
                                    sizeof(uint64_t));
    rings->upstreams = ngx_http_runcoach_debug_create(shpool,
                                    NGX_HTTP_RUNCOACH_DEBUG_TIMINGS,
                                    sizeof(ngx_http_runcoach_debug_upstream_t));

    if (rings->logs == NULL || rings->errors == NULL || rings->requests == NULL
        || rings->presigns == NULL || rings->upstreams == NULL)
    {
        return NGX_ERROR;
    }

    *data = rings;

    return NGX_OK;
}


static runcoach_ring_t *
ngx_http_runcoach_debug_create(ngx_slab_pool_t *shpool, size_t n,
    size_t record)
{
    void  *memory;

    memory = ngx_slab_alloc(shpool, runcoach_ring_size(n, record));

    return (memory != NULL) ? runcoach_ring_init(memory, n, record) : NULL;
}


void
ngx_http_runcoach_debug_note(ngx_http_request_t *r,
    ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_http_runcoach_status_facts_t *facts)
{
    ngx_uint_t                        slow;
    ngx_http_runcoach_debug_entry_t   entry;

    if (smcf->redis != NULL) {
        ngx_http_runcoach_debug_redis(smcf);
    }

    slow = 0;

    /* a WebSocket lasts as long as somebody is there */

    if (facts->status != NGX_HTTP_SWITCHING_PROTOCOLS) {
        ngx_http_runcoach_debug_timings(smcf->rings, facts);
        slow = ((ngx_msec_t) facts->ms >= smcf->slow);
    }

    if (facts->status < NGX_HTTP_BAD_REQUEST && !slow) {
        return;
    }

    ngx_memzero(&entry, sizeof(ngx_http_runcoach_debug_entry_t));

    entry.record.status = (uint16_t) facts->status;
    entry.record.upstream_status = (uint16_t) facts->upstream_status;
    entry.record.ms = (uint32_t) ngx_min(facts->ms, NGX_MAX_INT32_VALUE);

    ngx_http_runcoach_debug_request(r, smcf, &entry.record);

    if (facts->status >= NGX_HTTP_BAD_REQUEST) {
        ngx_http_runcoach_debug_judge(r, facts, &entry.record);
        ngx_http_runcoach_debug_put(smcf->rings, &entry);
    }

    if (slow) {
        entry.record.message = NGX_HTTP_RUNCOACH_DEBUG_SLOW;
        ngx_http_runcoach_debug_put(smcf->rings, &entry);
    }
}


static void
ngx_http_runcoach_debug_timings(ngx_http_runcoach_debug_shctx_t *rings,
    const ngx_http_runcoach_status_facts_t *facts)
{
    uint64_t                            ms;
    ngx_http_runcoach_debug_upstream_t  upstream;

    ms = facts->ms;

    runcoach_ring_put(rings->requests, &ms);

    if (facts->nsigned > 0) {
        runcoach_ring_put(rings->presigns, &ms);
    }

    if (facts->upstream >= 0) {
        upstream[0] = facts->upstream;
        upstream[1] = facts->connect;
        upstream[2] = facts->header;

        runcoach_ring_put(rings->upstreams, upstream);
    }
}


/* each worker has a connection of its own: it is lost, or back again */

static void
ngx_http_runcoach_debug_redis(ngx_http_runcoach_status_main_conf_t *smcf)
{
    ngx_runcoach_redis_status_t        status;
    ngx_http_runcoach_debug_entry_t    entry;
    ngx_http_runcoach_debug_record_t  *record;

    ngx_runcoach_redis_status(smcf->redis, &status);

    if ((status.reason != NULL) == smcf->trouble) {
        return;
    }

    smcf->trouble = (status.reason != NULL);

    ngx_memzero(&entry, sizeof(ngx_http_runcoach_debug_entry_t));

    record = &entry.record;
    record->message = NGX_HTTP_RUNCOACH_DEBUG_BACK;

    if (status.reason != NULL) {
        record->message = NGX_HTTP_RUNCOACH_DEBUG_AWAY;
        record->reason_len = ngx_http_runcoach_debug_copy(record->reason,
                                                    sizeof(record->reason),
                                                    (u_char *) status.reason,
                                                    ngx_strlen(status.reason));
    }

    ngx_http_runcoach_debug_put(smcf->rings, &entry);
}


/* which part of the edge it was, and why */

static void
ngx_http_runcoach_debug_judge(ngx_http_request_t *r,
    const ngx_http_runcoach_status_facts_t *facts,
    ngx_http_runcoach_debug_record_t *record)
{
    ngx_str_t    reason;
    const char  *error;

    ngx_str_null(&reason);

    error = ngx_http_runcoach_store_outcome(r);

    if (facts->auth == NGX_HTTP_UNAUTHORIZED
        && facts->status == NGX_HTTP_UNAUTHORIZED)
    {
        reason = facts->reason;
        record->message = ngx_http_runcoach_names_eq(&reason,
                                                     "credentials-missing")
                          ? NGX_HTTP_RUNCOACH_DEBUG_MISSING
                          : NGX_HTTP_RUNCOACH_DEBUG_REFUSED;

    } else if (facts->auth == NGX_HTTP_SERVICE_UNAVAILABLE
               && facts->status == NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        reason = facts->reason;
        record->message = NGX_HTTP_RUNCOACH_DEBUG_UNCHECKED;

    } else if (facts->limit == NGX_HTTP_RUNCOACH_LIMIT_REJECTED) {
        record->message = (facts->policy.len != 0)
                          ? NGX_HTTP_RUNCOACH_DEBUG_LIMITED
                          : NGX_HTTP_RUNCOACH_DEBUG_UNLIMITED;
        record->policy_len = ngx_http_runcoach_debug_copy(record->policy,
                                                    sizeof(record->policy),
                                                    facts->policy.data,
                                                    facts->policy.len);

    } else if (facts->nsigned != NGX_DECLINED) {
        record->message = NGX_HTTP_RUNCOACH_DEBUG_UNSIGNED;

    } else if (error != NULL) {
        reason.data = (u_char *) error;
        reason.len = ngx_strlen(error);
        record->message = NGX_HTTP_RUNCOACH_DEBUG_UNSTORED;

    } else if (facts->status == NGX_HTTP_CLIENT_CLOSED_REQUEST) {
        record->message = NGX_HTTP_RUNCOACH_DEBUG_LEFT;

    } else if (facts->upstream_status >= NGX_HTTP_BAD_REQUEST) {
        record->message = (facts->upstream_status == NGX_HTTP_BAD_GATEWAY
                           || facts->upstream_status
                              == NGX_HTTP_GATEWAY_TIME_OUT)
                          ? NGX_HTTP_RUNCOACH_DEBUG_NO_UPSTREAM
                          : NGX_HTTP_RUNCOACH_DEBUG_UPSTREAM_ERROR;

    } else {
        record->message = (facts->status >= NGX_HTTP_INTERNAL_SERVER_ERROR)
                          ? NGX_HTTP_RUNCOACH_DEBUG_BROKEN
                          : NGX_HTTP_RUNCOACH_DEBUG_BAD_REQUEST;
    }

    record->reason_len = ngx_http_runcoach_debug_copy(record->reason,
                                                      sizeof(record->reason),
                                                      reason.data, reason.len);
}


static void
ngx_http_runcoach_debug_put(ngx_http_runcoach_debug_shctx_t *rings,
    ngx_http_runcoach_debug_entry_t *entry)
{
    ngx_time_t                        *tp;
    ngx_http_runcoach_debug_record_t  *record;

    record = &entry->record;
    tp = ngx_timeofday();

    record->time = (uint64_t) tp->sec * 1000 + tp->msec;
    record->component =
                  ngx_http_runcoach_debug_messages[record->message].component;
    record->level = ngx_http_runcoach_debug_messages[record->message].level;

    /* whoever could not do it: nothing is right with a 5xx */

    if (record->status >= NGX_HTTP_INTERNAL_SERVER_ERROR
        && record->message != NGX_HTTP_RUNCOACH_DEBUG_SLOW)
    {
        record->level = NGX_HTTP_RUNCOACH_DEBUG_ERROR;
    }

    runcoach_ring_put(rings->logs, entry->words);

    if (record->level == NGX_HTTP_RUNCOACH_DEBUG_ERROR) {
        runcoach_ring_put(rings->errors, entry->words);
    }
}


/* printable ASCII and nothing else, so that it is JSON once it is escaped */

static u_char
ngx_http_runcoach_debug_copy(u_char *dst, size_t size, const u_char *src,
    size_t len)
{
    size_t  i;

    len = ngx_min(len, size);

    for (i = 0; i < len; i++) {
        dst[i] = (src[i] >= ' ' && src[i] < 0x7f) ? src[i] : '?';
    }

    return (u_char) len;
}


static void
ngx_http_runcoach_debug_request(ngx_http_request_t *r,
    ngx_http_runcoach_status_main_conf_t *smcf,
    ngx_http_runcoach_debug_record_t *record)
{
    size_t                      n;
    u_char                     *p;
    ngx_http_variable_value_t  *id;

    /* an error page changes r->method_name, and not the line */

    p = r->request_line.data;

    for (n = 0; n < r->request_line.len && p[n] >= 'A' && p[n] <= 'Z'; n++) {
        /* void */
    }

    record->method_len = ngx_http_runcoach_debug_copy(record->method,
                                                      sizeof(record->method),
                                                      p, n);
    record->path_len = ngx_http_runcoach_debug_path(record->path,
                                                    sizeof(record->path),
                                                    &r->unparsed_uri);

    id = ngx_http_get_indexed_variable(r, smcf->request_id);

    if (id != NULL && id->valid) {
        record->id_len = ngx_http_runcoach_debug_copy(record->id,
                                                      sizeof(record->id),
                                                      id->data, id->len);
    }
}


static u_char
ngx_http_runcoach_debug_path(u_char *dst, size_t size, const ngx_str_t *uri)
{
    size_t   len;
    u_char  *p, *q, *last, *end;

    p = dst;
    end = dst + size;
    q = uri->data;
    last = q + uri->len;

    while (q < last && *q != '?' && *q != '#' && p < end) {

        if (*q == '/') {
            *p++ = *q++;
            continue;
        }

        for (len = 0; q + len < last; len++) {

            if (q[len] == '/' || q[len] == '?' || q[len] == '#') {
                break;
            }
        }

        if (ngx_http_runcoach_debug_private(q, len)) {
            *p++ = '*';

        } else {
            p += ngx_http_runcoach_debug_copy(p, end - p, q, len);
        }

        q += len;
    }

    return (u_char) (p - dst);
}


static ngx_uint_t
ngx_http_runcoach_debug_private(const u_char *p, size_t len)
{
    size_t  i;

    if (len > NGX_HTTP_RUNCOACH_DEBUG_SEGMENT) {
        return 1;
    }

    for (i = 0; i < len; i++) {

        if (p[i] == '@') {
            return 1;
        }

        if (len - i >= 3 && p[i] == '%' && p[i + 1] == '4' && p[i + 2] == '0')
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_runcoach_debug_handler(ngx_http_request_t *r)
{
    ngx_int_t                              rc;
    ngx_uint_t                             clear;
    ngx_http_runcoach_debug_shctx_t       *rings;
    ngx_http_runcoach_status_loc_conf_t   *slcf;
    ngx_http_runcoach_status_main_conf_t  *smcf;

    smcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_status_module);
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_status_module);

    clear = (slcf->answer == NGX_HTTP_RUNCOACH_DEBUG_ANSWER_CLEAR);

    rc = ngx_http_runcoach_status_method(r, clear ? NGX_HTTP_POST
                                                  : NGX_HTTP_GET|NGX_HTTP_HEAD);
    if (rc != NGX_OK) {
        return rc;
    }

    rings = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_DEBUG, NULL);

    /* it may be there from before a reload */

    if (rings == NULL || smcf->ring != 1) {
        return NGX_HTTP_NOT_FOUND;
    }

    switch (slcf->answer) {

    case NGX_HTTP_RUNCOACH_DEBUG_ANSWER_LOGS:
        return ngx_http_runcoach_debug_logs(r, rings);

    case NGX_HTTP_RUNCOACH_DEBUG_ANSWER_ERRORS:
        return ngx_http_runcoach_debug_errors(r, rings);

    case NGX_HTTP_RUNCOACH_DEBUG_ANSWER_TIMING:
        return ngx_http_runcoach_debug_timing(r, rings);

    default: /* NGX_HTTP_RUNCOACH_DEBUG_ANSWER_CLEAR */
        return ngx_http_runcoach_debug_clear(r, rings);
    }
}


static ngx_str_t  ngx_http_runcoach_debug_json = ngx_string("application/json");


static ngx_int_t
ngx_http_runcoach_debug_logs(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings)
{
    ngx_int_t                         rc;
    ngx_buf_t                        *b;
    ngx_http_runcoach_debug_query_t   query;

    query.limit = 100;

    if (ngx_http_runcoach_debug_arg(r, "component", &query.component)
        == NGX_ERROR)
    {
        return ngx_http_runcoach_debug_invalid(r, "component", "value_error",
                                               "Input is given twice", 0);
    }

    if (ngx_http_runcoach_debug_arg(r, "level", &query.level) == NGX_ERROR) {
        return ngx_http_runcoach_debug_invalid(r, "level", "value_error",
                                               "Input is given twice", 0);
    }

    rc = ngx_http_runcoach_debug_limit(r, NGX_HTTP_RUNCOACH_DEBUG_LOGS,
                                       &query.limit);
    if (rc != NGX_OK) {
        return (rc == NGX_DONE) ? NGX_OK : rc;
    }

    b = ngx_http_runcoach_debug_list(r, rings->logs, "logs", &query);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "\"total_logs\":%uL,\"total_errors\":%uL}",
                          ngx_http_runcoach_debug_held(rings->logs),
                          ngx_http_runcoach_debug_held(rings->errors));

    return ngx_http_runcoach_status_send(r, NGX_HTTP_OK,
                                         &ngx_http_runcoach_debug_json, b);
}


static ngx_int_t
ngx_http_runcoach_debug_errors(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings)
{
    ngx_int_t                         rc;
    ngx_buf_t                        *b;
    ngx_http_runcoach_debug_query_t   query;

    ngx_memzero(&query, sizeof(ngx_http_runcoach_debug_query_t));
    query.limit = 50;

    rc = ngx_http_runcoach_debug_limit(r, NGX_HTTP_RUNCOACH_DEBUG_ERRORS,
                                       &query.limit);
    if (rc != NGX_OK) {
        return (rc == NGX_DONE) ? NGX_OK : rc;
    }

    b = ngx_http_runcoach_debug_list(r, rings->errors, "errors", &query);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "\"total_errors\":%uL}",
                          ngx_http_runcoach_debug_held(rings->errors));

    return ngx_http_runcoach_status_send(r, NGX_HTTP_OK,
                                         &ngx_http_runcoach_debug_json, b);
}


static ngx_int_t
ngx_http_runcoach_debug_timing(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings)
{
    ngx_buf_t                                  *b;
    ngx_str_t                                   operation;
    const ngx_http_runcoach_debug_operation_t  *op;

    if (ngx_http_runcoach_debug_arg(r, "operation", &operation) == NGX_ERROR) {
        return ngx_http_runcoach_debug_invalid(r, "operation", "value_error",
                                               "Input is given twice", 0);
    }

    b = ngx_create_temp_buf(r->pool,
                            sizeof(ngx_http_runcoach_debug_operations)
                            / sizeof(ngx_http_runcoach_debug_operation_t)
                            * NGX_HTTP_RUNCOACH_DEBUG_ENTRY);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *b->last++ = '{';

    for (op = ngx_http_runcoach_debug_operations; op->name != NULL; op++) {

        if (operation.len == 0
            || ngx_http_runcoach_names_eq(&operation, op->name))
        {
            b->last = ngx_http_runcoach_debug_summary(b->last, rings, op);
        }
    }

    if (b->last[-1] == ',') {
        b->last--;
    }

    *b->last++ = '}';

    return ngx_http_runcoach_status_send(r, NGX_HTTP_OK,
                                         &ngx_http_runcoach_debug_json, b);
}


static ngx_int_t
ngx_http_runcoach_debug_clear(ngx_http_request_t *r,
    ngx_http_runcoach_debug_shctx_t *rings)
{
    ngx_buf_t  *b;

    b = ngx_create_temp_buf(r->pool, sizeof("{\"status\":\"cleared\"}"));
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    runcoach_ring_clear(rings->logs);
    runcoach_ring_clear(rings->errors);
    runcoach_ring_clear(rings->requests);
    runcoach_ring_clear(rings->presigns);
    runcoach_ring_clear(rings->upstreams);

    b->last = ngx_sprintf(b->last, "{\"status\":\"cleared\"}");

    return ngx_http_runcoach_status_send(r, NGX_HTTP_OK,
                                         &ngx_http_runcoach_debug_json, b);
}


/* the last ones that match, the oldest of them first; room for more is left */

static ngx_buf_t *
ngx_http_runcoach_debug_list(ngx_http_request_t *r,
    const runcoach_ring_t *ring, const char *name,
    const ngx_http_runcoach_debug_query_t *query)
{
    uint64_t                          first, number, next;
    ngx_buf_t                        *b;
    ngx_uint_t                        n;
    ngx_http_runcoach_debug_entry_t   entry;

    runcoach_ring_bounds(ring, &first, &next);

    n = 0;

    for (number = next; number > first && n < query->limit; number--) {

        if (ngx_http_runcoach_debug_get(ring, number - 1, &entry) == NGX_OK
            && ngx_http_runcoach_debug_matches(&entry.record, query))
        {
            n++;
        }
    }

    b = ngx_create_temp_buf(r->pool, (n + 1) * NGX_HTTP_RUNCOACH_DEBUG_ENTRY);
    if (b == NULL) {
        return NULL;
    }

    b->last = ngx_sprintf(b->last, "{\"%s\":[", name);

    for ( /* void */ ; number < next && n > 0; number++) {

        if (ngx_http_runcoach_debug_get(ring, number, &entry) != NGX_OK
            || !ngx_http_runcoach_debug_matches(&entry.record, query))
        {
            continue;
        }

        if (b->last[-1] == '}') {
            *b->last++ = ',';
        }

        b->last = ngx_http_runcoach_debug_print(b->last, &entry.record);
        n--;
    }

    *b->last++ = ']';
    *b->last++ = ',';

    return b;
}


/* NGX_DECLINED: it is not there, or not as anybody has written it */

static ngx_int_t
ngx_http_runcoach_debug_get(const runcoach_ring_t *ring, uint64_t number,
    ngx_http_runcoach_debug_entry_t *entry)
{
    ngx_http_runcoach_debug_record_t  *record;

    record = &entry->record;

    if (!runcoach_ring_get(ring, number, entry->words)
        || record->level >= NGX_HTTP_RUNCOACH_DEBUG_LEVELS
        || record->component >= NGX_HTTP_RUNCOACH_DEBUG_COMPONENTS
        || record->message >= NGX_HTTP_RUNCOACH_DEBUG_MESSAGES
        || record->method_len > sizeof(record->method)
        || record->path_len > sizeof(record->path)
        || record->id_len > sizeof(record->id)
        || record->reason_len > sizeof(record->reason)
        || record->policy_len > sizeof(record->policy))
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_runcoach_debug_matches(const ngx_http_runcoach_debug_record_t *record,
    const ngx_http_runcoach_debug_query_t *query)
{
    const char  *component, *level;

    component = ngx_http_runcoach_debug_components[record->component];
    level = ngx_http_runcoach_debug_levels[record->level];

    if (query->component.len != 0
        && !ngx_http_runcoach_names_eq((ngx_str_t *) &query->component,
                                       component))
    {
        return 0;
    }

    return query->level.len == 0
           || (query->level.len == ngx_strlen(level)
               && ngx_strncasecmp(query->level.data, (u_char *) level,
                                  query->level.len)
                  == 0);
}


static uint64_t
ngx_http_runcoach_debug_held(const runcoach_ring_t *ring)
{
    uint64_t  first, next;

    runcoach_ring_bounds(ring, &first, &next);

    return next - first;
}


static u_char *
ngx_http_runcoach_debug_print(u_char *p,
    const ngx_http_runcoach_debug_record_t *record)
{
    ngx_tm_t    tm;
    ngx_uint_t  level;

    level = record->level;

    ngx_gmtime(record->time / 1000, &tm);

    p = ngx_sprintf(p, "{\"timestamp\":"
                    "\"%04d-%02d-%02dT%02d:%02d:%02d.%03d000+00:00\","
                    "\"level\":\"%s\",\"component\":\"%s\","
                    "\"message\":\"%s\",\"context\":{",
                    tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                    tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                    (int) (record->time % 1000),
                    ngx_http_runcoach_debug_levels[level],
                    ngx_http_runcoach_debug_components[record->component],
                    ngx_http_runcoach_debug_messages[record->message].text);

    p = ngx_http_runcoach_debug_text(p, "request_id", record->id,
                                     record->id_len);
    p = ngx_http_runcoach_debug_text(p, "method", record->method,
                                     record->method_len);
    p = ngx_http_runcoach_debug_text(p, "path", record->path,
                                     record->path_len);
    p = ngx_http_runcoach_debug_text(p, "reason", record->reason,
                                     record->reason_len);
    p = ngx_http_runcoach_debug_text(p, "policy", record->policy,
                                     record->policy_len);

    if (record->upstream_status != 0) {
        p = ngx_sprintf(p, "\"upstream_status\":%ud,",
                        (unsigned) record->upstream_status);
    }

    if (record->status != 0) {
        p = ngx_sprintf(p, "\"status\":%ud,\"duration_ms\":%uD,",
                        (unsigned) record->status, record->ms);
    }

    if (p[-1] == ',') {
        p--;
    }

    *p++ = '}';

    if (level == NGX_HTTP_RUNCOACH_DEBUG_ERROR) {
        *p++ = ',';
        p = (record->reason_len != 0)
            ? ngx_http_runcoach_debug_text(p, "error", record->reason,
                                           record->reason_len) - 1
            : ngx_sprintf(p, "\"error\":\"%ud\"", (unsigned) record->status);
    }

    *p++ = '}';

    return p;
}


static u_char *
ngx_http_runcoach_debug_text(u_char *p, const char *name, const u_char *data,
    size_t len)
{
    if (len == 0) {
        return p;
    }

    p = ngx_sprintf(p, "\"%s\":\"", name);
    p = (u_char *) ngx_escape_json(p, (u_char *) data, len);

    *p++ = '"';
    *p++ = ',';

    return p;
}


/* as the application reckons: the upper one of two, the largest of a few */

static u_char *
ngx_http_runcoach_debug_summary(u_char *p,
    const ngx_http_runcoach_debug_shctx_t *rings,
    const ngx_http_runcoach_debug_operation_t *op)
{
    uint64_t                             first, next, sum;
    uint64_t                             ms[NGX_HTTP_RUNCOACH_DEBUG_TIMINGS];
    ngx_uint_t                           n;
    runcoach_ring_t                     *ring;
    ngx_http_runcoach_debug_upstream_t   record;

    ring = *(runcoach_ring_t **) ((u_char *) rings + op->ring);

    runcoach_ring_bounds(ring, &first, &next);

    n = 0;
    sum = 0;

    for ( /* void */ ; first < next; first++) {

        if (runcoach_ring_get(ring, first, record)
            && (int64_t) record[op->word] >= 0)
        {
            ms[n] = record[op->word];
            sum += ms[n++];
        }
    }

    if (n == 0) {
        return p;
    }

    ngx_qsort(ms, n, sizeof(uint64_t), ngx_http_runcoach_debug_compare);

    return ngx_sprintf(p, "\"%s\":{\"count\":%ui,\"min_ms\":%uL,"
                       "\"max_ms\":%uL,\"avg_ms\":%.2f,\"p50_ms\":%uL,"
                       "\"p95_ms\":%uL},", op->name, n, ms[0], ms[n - 1],
                       (double) sum / n, ms[n / 2],
                       (n < 20) ? ms[n - 1] : ms[n * 95 / 100]);
}


static int ngx_libc_cdecl
ngx_http_runcoach_debug_compare(const void *one, const void *two)
{
    uint64_t  a, b;

    a = *(const uint64_t *) one;
    b = *(const uint64_t *) two;

    return (a > b) - (a < b);
}


/* NGX_OK, or what became of a 422; then NGX_DONE is an answer that was sent */

static ngx_int_t
ngx_http_runcoach_debug_limit(ngx_http_request_t *r, ngx_uint_t max,
    ngx_uint_t *limit)
{
    ngx_int_t   n, rc;
    ngx_str_t   value;
    ngx_uint_t  negative;

    rc = ngx_http_runcoach_debug_arg(r, "limit", &value);

    if (rc == NGX_DECLINED) {
        return NGX_OK;
    }

    negative = (value.len > 1 && value.data[0] == '-');
    value.data += negative;
    value.len -= negative;

    n = (rc == NGX_OK) ? ngx_atoi(value.data, ngx_min(value.len, 9))
                       : NGX_ERROR;

    if (n == NGX_ERROR) {
        rc = ngx_http_runcoach_debug_invalid(r, "limit", "int_parsing",
                                 "Input should be a valid integer, unable to "
                                 "parse string as an integer", 0);

    } else if (negative || n < 1) {
        rc = ngx_http_runcoach_debug_invalid(r, "limit", "greater_than_equal",
                                 "Input should be greater than or equal to ",
                                 1);

    } else if (value.len > 9 || (ngx_uint_t) n > max) {
        rc = ngx_http_runcoach_debug_invalid(r, "limit", "less_than_equal",
                                 "Input should be less than or equal to ",
                                 max);

    } else {
        *limit = n;
        return NGX_OK;
    }

    return (rc == NGX_OK) ? NGX_DONE : rc;
}


/* as it was sent; NGX_DECLINED: absent, NGX_ERROR: more than once */

static ngx_int_t
ngx_http_runcoach_debug_arg(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    size_t      len;
    u_char     *p, *last, *end;
    ngx_int_t   rc;

    ngx_str_null(value);

    rc = NGX_DECLINED;
    len = ngx_strlen(name);
    p = r->args.data;
    last = p + r->args.len;

    for ( /* void */ ; p < last; p = end + 1) {
        end = ngx_strlchr(p, last, '&');

        if (end == NULL) {
            end = last;
        }

        if ((size_t) (end - p) <= len || p[len] != '='
            || ngx_strncmp(p, name, len) != 0)
        {
            continue;
        }

        if (rc == NGX_OK) {
            return NGX_ERROR;
        }

        value->data = p + len + 1;
        value->len = end - value->data;
        rc = NGX_OK;
    }

    return rc;
}


static ngx_int_t
ngx_http_runcoach_debug_invalid(ngx_http_request_t *r, const char *name,
    const char *type, const char *msg, ngx_uint_t n)
{
    ngx_buf_t  *b;

    b = ngx_create_temp_buf(r->pool, NGX_HTTP_RUNCOACH_DEBUG_ENTRY);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "{\"detail\":[{\"type\":\"%s\","
                          "\"loc\":[\"query\",\"%s\"],\"msg\":\"%s",
                          type, name, msg);

    if (n != 0) {
        b->last = ngx_sprintf(b->last, "%ui", n);
    }

    b->last = ngx_sprintf(b->last, "\"}]}");

    return ngx_http_runcoach_status_send(r, NGX_HTTP_RUNCOACH_UNPROCESSABLE,
                                         &ngx_http_runcoach_debug_json, b);
}
