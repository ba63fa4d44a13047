
/*
 * Counters, and their text for Prometheus.  Labels come from the configuration
 * and from constants of ours, never from a request.
 */


#include "ngx_http_runcoach_status.h"


#define NGX_HTTP_RUNCOACH_METRICS_SIZE  65536


static void ngx_http_runcoach_metrics_bump(
    const ngx_http_runcoach_status_main_conf_t *smcf, uint64_t *counter,
    uint64_t n);
static ngx_uint_t ngx_http_runcoach_metrics_method(
    ngx_http_runcoach_status_main_conf_t *smcf, const ngx_str_t *method);
static ngx_uint_t ngx_http_runcoach_metrics_reason(
    ngx_http_runcoach_status_main_conf_t *smcf, const ngx_str_t *reason);
static ngx_uint_t ngx_http_runcoach_metrics_name(
    ngx_http_runcoach_status_name_t *names, ngx_uint_t n,
    const ngx_str_t *name);
static ngx_uint_t ngx_http_runcoach_metrics_signed(const ngx_str_t *method);

static void ngx_http_runcoach_metrics_sum(
    const ngx_http_runcoach_status_shctx_t *sh,
    ngx_http_runcoach_status_counters_t *sum);
static void ngx_http_runcoach_metrics_add(uint64_t *dst, const uint64_t *src,
    ngx_uint_t n);
static void ngx_http_runcoach_metrics_requests(runcoach_exposition_t *x,
    const ngx_http_runcoach_status_counters_t *sum);
static void ngx_http_runcoach_metrics_auth(runcoach_exposition_t *x,
    const ngx_http_runcoach_status_shctx_t *sh,
    const ngx_http_runcoach_status_counters_t *sum);
static void ngx_http_runcoach_metrics_names(runcoach_exposition_t *x,
    const char *family, const char *label,
    const ngx_http_runcoach_status_name_t *names, ngx_uint_t n,
    const uint64_t *values);
static void ngx_http_runcoach_metrics_limits(runcoach_exposition_t *x,
    const ngx_http_runcoach_status_counters_t *sum);
static void ngx_http_runcoach_metrics_limiter(runcoach_exposition_t *x,
    const ngx_http_runcoach_limit_counters_t *c);
static void ngx_http_runcoach_metrics_redis(runcoach_exposition_t *x,
    ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_http_runcoach_status_counters_t *sum);
static void ngx_http_runcoach_metrics_zone(runcoach_exposition_t *x,
    ngx_slab_pool_t *shpool);
static void ngx_http_runcoach_metrics_one(runcoach_exposition_t *x,
    const char *family, const char *label, const char *value, uint64_t n);


static const char  *ngx_http_runcoach_metrics_methods[] = {
    "GET", "HEAD", "PUT", "DELETE"
};


/* by runcoach_lease_source_e */

static const char  *ngx_http_runcoach_metrics_sources[] = {
    "lease", "bound", "gate", "redis", "local", "none"
};


void
ngx_http_runcoach_status_count(ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_http_runcoach_status_facts_t *facts)
{
    ngx_uint_t                            i;
    ngx_http_runcoach_status_counters_t  *c;

    c = smcf->counters;

    i = facts->status / 100;
    i = (i >= 1 && i < NGX_HTTP_RUNCOACH_STATUS_CLASSES) ? i : 0;

    ngx_http_runcoach_metrics_bump(smcf, &c->classes[i], 1);

    switch (facts->auth) {

    case NGX_OK:
        i = ngx_http_runcoach_metrics_method(smcf, &facts->method);
        ngx_http_runcoach_metrics_bump(smcf, &c->accepted[i], 1);
        break;

    case NGX_DECLINED:
        ngx_http_runcoach_metrics_bump(smcf, &c->anonymous, 1);
        break;

    case NGX_HTTP_UNAUTHORIZED:
        i = ngx_http_runcoach_metrics_reason(smcf, &facts->reason);
        ngx_http_runcoach_metrics_bump(smcf, &c->refused[i], 1);
        break;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        i = ngx_http_runcoach_metrics_reason(smcf, &facts->reason);
        ngx_http_runcoach_metrics_bump(smcf, &c->unavailable[i], 1);
        break;
    }

    if (facts->limit != NGX_HTTP_RUNCOACH_LIMIT_NONE) {
        ngx_http_runcoach_metrics_bump(smcf,
                                   &c->limits[facts->limit][facts->source], 1);
    }

    if (facts->nsigned > 0) {
        i = ngx_http_runcoach_metrics_signed(&facts->signed_for);
        ngx_http_runcoach_metrics_bump(smcf, &c->urls[i], facts->nsigned);
    }

    /* a WebSocket lasts as long as somebody is there */

    if (facts->status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        return;
    }

    runcoach_histogram_add(&c->request, (uint64_t) facts->ms * 1000,
                           smcf->own);

    if (facts->upstream >= 0) {
        runcoach_histogram_add(&c->upstream, (uint64_t) facts->upstream * 1000,
                               smcf->own);
    }
}


static void
ngx_http_runcoach_metrics_bump(const ngx_http_runcoach_status_main_conf_t *smcf,
    uint64_t *counter, uint64_t n)
{
    if (smcf->own) {
        runcoach_counter_own(counter, n);

    } else {
        runcoach_counter_add(counter, n);
    }
}


/* mostly it is the one of the request before, which is of the configuration */

static ngx_uint_t
ngx_http_runcoach_metrics_method(ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_str_t *method)
{
    if (smcf->method != method->data) {
        smcf->place = ngx_http_runcoach_metrics_name(smcf->sh->methods,
                                              NGX_HTTP_RUNCOACH_STATUS_METHODS,
                                              method);
        smcf->method = (smcf->place < NGX_HTTP_RUNCOACH_STATUS_METHODS)
                       ? method->data : NULL;
    }

    return smcf->place;
}


static ngx_uint_t
ngx_http_runcoach_metrics_reason(ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_str_t *reason)
{
    return ngx_http_runcoach_metrics_name(smcf->sh->reasons,
                                          NGX_HTTP_RUNCOACH_STATUS_REASONS,
                                          reason);
}


/* the place of a name, or n: there is none, or somebody is writing it */

static ngx_uint_t
ngx_http_runcoach_metrics_name(ngx_http_runcoach_status_name_t *names,
    ngx_uint_t n, const ngx_str_t *name)
{
    uint64_t                          state;
    ngx_uint_t                        i, k, hash;
    ngx_http_runcoach_status_name_t  *place;

    if (name->len == 0 || name->len > NGX_HTTP_RUNCOACH_STATUS_NAME) {
        return n;
    }

    hash = name->len;

    for (i = 0; i < name->len; i++) {
        hash = ngx_hash(hash, name->data[i]);
    }

    for (k = 0; k < n; k++) {
        i = (hash + k) % n;
        place = &names[i];
        state = __atomic_load_n(&place->state, __ATOMIC_ACQUIRE);

        if (state == 0
            && __atomic_compare_exchange_n(&place->state, &state, 1, 0,
                                           __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
        {
            place->len = (u_char) name->len;
            ngx_memcpy(place->text, name->data, name->len);

            __atomic_store_n(&place->state, 2, __ATOMIC_RELEASE);

            return i;
        }

        if (state == 1) {
            return n;
        }

        if (place->len == name->len
            && ngx_memcmp(place->text, name->data, name->len) == 0)
        {
            return i;
        }
    }

    return n;
}


static ngx_uint_t
ngx_http_runcoach_metrics_signed(const ngx_str_t *method)
{
    switch (method->data[0]) {

    case 'G':
        return 0;

    case 'H':
        return 1;

    case 'P':
        return 2;

    default:
        return 3;
    }
}


ngx_int_t
ngx_http_runcoach_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                              rc;
    ngx_buf_t                             *b;
    ngx_slab_pool_t                       *shpool;
    runcoach_exposition_t                  x;
    ngx_http_runcoach_status_shctx_t      *sh;
    ngx_http_runcoach_limit_counters_t     limiter;
    ngx_http_runcoach_status_counters_t    sum;
    ngx_http_runcoach_status_main_conf_t  *smcf;

    static ngx_str_t  type = ngx_string("text/plain; version=0.0.4; "
                                        "charset=utf-8");

    rc = ngx_http_runcoach_status_method(r, NGX_HTTP_GET|NGX_HTTP_HEAD);

    if (rc != NGX_OK) {
        return rc;
    }

    smcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_status_module);
    sh = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_STATUS,
                                     &shpool);
    b = ngx_create_temp_buf(r->pool, NGX_HTTP_RUNCOACH_METRICS_SIZE);

    if (sh == NULL || b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_runcoach_metrics_sum(sh, &sum);
    runcoach_exposition_init(&x, (char *) b->pos,
                             NGX_HTTP_RUNCOACH_METRICS_SIZE);

    ngx_http_runcoach_metrics_requests(&x, &sum);
    ngx_http_runcoach_metrics_auth(&x, sh, &sum);
    ngx_http_runcoach_metrics_limits(&x, &sum);

    if (ngx_http_runcoach_limit_counters(r, &limiter) == NGX_OK) {
        ngx_http_runcoach_metrics_limiter(&x, &limiter);
    }

    ngx_http_runcoach_metrics_redis(&x, smcf, &sum);
    ngx_http_runcoach_metrics_zone(&x, shpool);

    b->last = (u_char *) x.last;

    if (x.full) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "metrics do not fit into %d bytes: the last ones are "
                      "left out", NGX_HTTP_RUNCOACH_METRICS_SIZE);
    }

    return ngx_http_runcoach_status_send(r, NGX_HTTP_OK, &type, b);
}


static void
ngx_http_runcoach_metrics_sum(const ngx_http_runcoach_status_shctx_t *sh,
    ngx_http_runcoach_status_counters_t *sum)
{
    ngx_uint_t                                  i;
    const ngx_http_runcoach_status_counters_t  *c;

    ngx_memzero(sum, sizeof(ngx_http_runcoach_status_counters_t));

#define ngx_http_runcoach_metrics_all(field)                                  \
    ngx_http_runcoach_metrics_add((uint64_t *) &sum->field,                   \
                                  (const uint64_t *) &c->field,               \
                                  sizeof(c->field) / sizeof(uint64_t))

    for (i = 0; i < sh->npieces; i++) {
        c = &sh->pieces[i];

        ngx_http_runcoach_metrics_all(classes);
        ngx_http_runcoach_metrics_all(accepted);
        ngx_http_runcoach_metrics_all(anonymous);
        ngx_http_runcoach_metrics_all(refused);
        ngx_http_runcoach_metrics_all(unavailable);
        ngx_http_runcoach_metrics_all(limits);
        ngx_http_runcoach_metrics_all(urls);
        ngx_http_runcoach_metrics_all(redis);

        runcoach_histogram_merge(&sum->request, &c->request);
        runcoach_histogram_merge(&sum->upstream, &c->upstream);
    }

#undef ngx_http_runcoach_metrics_all
}


static void
ngx_http_runcoach_metrics_add(uint64_t *dst, const uint64_t *src, ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        dst[i] += runcoach_counter_get(&src[i]);
    }
}


static void
ngx_http_runcoach_metrics_requests(runcoach_exposition_t *x,
    const ngx_http_runcoach_status_counters_t *sum)
{
    ngx_uint_t        i;
    runcoach_label_t  build[2];

    static const char  *classes[] = {
        "none", "1xx", "2xx", "3xx", "4xx", "5xx"
    };

    runcoach_exposition_family(x, "runcoach_build_info", "gauge",
                               "Versions, as labels.");

    build[0].name = "version";
    build[0].value = NGX_RUNCOACH_VERSION;
    build[0].len = sizeof(NGX_RUNCOACH_VERSION) - 1;
    build[1].name = "nginx";
    build[1].value = NGINX_VERSION;
    build[1].len = sizeof(NGINX_VERSION) - 1;

    runcoach_exposition_sample(x, "runcoach_build_info", build, 2, 1);

    runcoach_exposition_family(x, "runcoach_requests_total", "counter",
                               "Requests by class of status.");

    for (i = 0; i < NGX_HTTP_RUNCOACH_STATUS_CLASSES; i++) {
        ngx_http_runcoach_metrics_one(x, "runcoach_requests_total", "status",
                                      classes[i], sum->classes[i]);
    }

    runcoach_exposition_histogram(x, "runcoach_request_seconds",
                                  "Time from the first byte of a request to "
                                  "the end of its answer.", &sum->request);
    runcoach_exposition_histogram(x, "runcoach_upstream_seconds",
                                  "Time that upstreams took, all tries "
                                  "together.", &sum->upstream);

    runcoach_exposition_family(x, "runcoach_presigned_urls_total", "counter",
                               "Signed URLs handed out, by the method they "
                               "are for.");

    for (i = 0; i < NGX_HTTP_RUNCOACH_STATUS_SIGNED; i++) {
        ngx_http_runcoach_metrics_one(x, "runcoach_presigned_urls_total",
                                      "method",
                                      ngx_http_runcoach_metrics_methods[i],
                                      sum->urls[i]);
    }
}


static void
ngx_http_runcoach_metrics_auth(runcoach_exposition_t *x,
    const ngx_http_runcoach_status_shctx_t *sh,
    const ngx_http_runcoach_status_counters_t *sum)
{
    runcoach_exposition_family(x, "runcoach_auth_accepted_total", "counter",
                               "Requests whose credentials were accepted.");
    ngx_http_runcoach_metrics_names(x, "runcoach_auth_accepted_total",
                                    "method", sh->methods,
                                    NGX_HTTP_RUNCOACH_STATUS_METHODS,
                                    sum->accepted);

    runcoach_exposition_value(x, "runcoach_auth_anonymous_total", "counter",
                              "Requests let in without credentials.",
                              sum->anonymous);

    runcoach_exposition_family(x, "runcoach_auth_refused_total", "counter",
                               "Requests without credentials that are "
                               "accepted.");
    ngx_http_runcoach_metrics_names(x, "runcoach_auth_refused_total",
                                    "reason", sh->reasons,
                                    NGX_HTTP_RUNCOACH_STATUS_REASONS,
                                    sum->refused);

    runcoach_exposition_family(x, "runcoach_auth_unavailable_total", "counter",
                               "Requests whose credentials could not be "
                               "checked.");
    ngx_http_runcoach_metrics_names(x, "runcoach_auth_unavailable_total",
                                    "reason", sh->reasons,
                                    NGX_HTTP_RUNCOACH_STATUS_REASONS,
                                    sum->unavailable);
}


/* a name without a value is of another family, or of another configuration */

static void
ngx_http_runcoach_metrics_names(runcoach_exposition_t *x, const char *family,
    const char *label, const ngx_http_runcoach_status_name_t *names,
    ngx_uint_t n, const uint64_t *values)
{
    ngx_uint_t        i;
    runcoach_label_t  name;

    for (i = 0; i < n; i++) {

        if (values[i] == 0
            || __atomic_load_n(&names[i].state, __ATOMIC_ACQUIRE) != 2)
        {
            continue;
        }

        name.name = label;
        name.value = (const char *) names[i].text;
        name.len = names[i].len;

        runcoach_exposition_sample(x, family, &name, 1, values[i]);
    }

    ngx_http_runcoach_metrics_one(x, family, label, "other", values[n]);
}


static void
ngx_http_runcoach_metrics_limits(runcoach_exposition_t *x,
    const ngx_http_runcoach_status_counters_t *sum)
{
    ngx_uint_t        i, k;
    runcoach_label_t  labels[2];

    static const char  *statuses[] = {
        "none", "passed", "rejected", "bypassed", "rejected_dry_run"
    };

    runcoach_exposition_family(x, "runcoach_limit_requests_total", "counter",
                               "Requests by what became of them at their "
                               "limit, and who decided.");

    labels[0].name = "status";
    labels[1].name = "source";

    for (i = NGX_HTTP_RUNCOACH_LIMIT_PASSED;
         i < NGX_HTTP_RUNCOACH_STATUS_LIMITS;
         i++)
    {
        for (k = 0; k < NGX_HTTP_RUNCOACH_STATUS_SOURCES; k++) {
            labels[0].value = statuses[i];
            labels[0].len = ngx_strlen(statuses[i]);
            labels[1].value = ngx_http_runcoach_metrics_sources[k];
            labels[1].len = ngx_strlen(labels[1].value);

            runcoach_exposition_sample(x, "runcoach_limit_requests_total",
                                       labels, 2, sum->limits[i][k]);
        }
    }
}


static void
ngx_http_runcoach_metrics_limiter(runcoach_exposition_t *x,
    const ngx_http_runcoach_limit_counters_t *c)
{
    ngx_uint_t  i;

    runcoach_exposition_family(x, "runcoach_limit_decisions_total", "counter",
                               "Decisions of the limiter, dry runs included.");
    ngx_http_runcoach_metrics_one(x, "runcoach_limit_decisions_total",
                                  "result", "passed", c->passed);
    ngx_http_runcoach_metrics_one(x, "runcoach_limit_decisions_total",
                                  "result", "rejected", c->rejected);

    runcoach_exposition_family(x, "runcoach_limit_decided_total", "counter",
                               "The same decisions, by who made them.");

    for (i = 0; i < NGX_HTTP_RUNCOACH_STATUS_SOURCES; i++) {
        ngx_http_runcoach_metrics_one(x, "runcoach_limit_decided_total",
                                      "source",
                                      ngx_http_runcoach_metrics_sources[i],
                                      c->from[i]);
    }

    runcoach_exposition_value(x, "runcoach_limit_calls_total", "counter",
                              "Calls of the script in Redis.", c->calls);
    runcoach_exposition_value(x, "runcoach_limit_calls_lost_total", "counter",
                              "Calls of it that were not answered.", c->lost);
    runcoach_exposition_value(x, "runcoach_limit_clients", "gauge",
                              "Clients in shared memory.", c->nodes);
    runcoach_exposition_value(x, "runcoach_limit_evicted_total", "counter",
                              "Clients that made room for others.",
                              c->evicted);
    runcoach_exposition_value(x, "runcoach_limit_full_total", "counter",
                              "Times that there was no room for a client.",
                              c->forgotten);
    runcoach_exposition_value(x, "runcoach_redis_breaker_open", "gauge",
                              "1 while no worker asks Redis.", c->open);
    runcoach_exposition_value(x, "runcoach_redis_breaker_opened_total",
                              "counter", "Times that it opened.", c->opened);
}


static void
ngx_http_runcoach_metrics_redis(runcoach_exposition_t *x,
    ngx_http_runcoach_status_main_conf_t *smcf,
    const ngx_http_runcoach_status_counters_t *sum)
{
    ngx_runcoach_redis_status_t  status;

    if (smcf->redis == NULL) {
        return;
    }

    ngx_runcoach_redis_status(smcf->redis, &status);

    runcoach_exposition_value(x, "runcoach_redis_calls_total", "counter",
                              "Commands sent to Redis.", sum->redis.calls);
    runcoach_exposition_value(x, "runcoach_redis_calls_refused_total",
                              "counter",
                              "Commands not sent: no connection, or the "
                              "breaker is open.", sum->redis.refused);
    runcoach_exposition_value(x, "runcoach_redis_calls_lost_total", "counter",
                              "Commands sent and not answered.",
                              sum->redis.lost);
    runcoach_exposition_value(x, "runcoach_redis_connections_total", "counter",
                              "Connections made.", sum->redis.connections);
    runcoach_exposition_value(x, "runcoach_redis_failures_total", "counter",
                              "Connections that failed or could not be made.",
                              sum->redis.failures);
    runcoach_exposition_value(x, "runcoach_redis_connected", "gauge",
                              "1 if the worker that answers is connected.",
                              ngx_strcmp(status.state, "up") == 0);
}


static void
ngx_http_runcoach_metrics_zone(runcoach_exposition_t *x,
    ngx_slab_pool_t *shpool)
{
    runcoach_exposition_value(x, "runcoach_zone_bytes", "gauge",
                              "Shared memory of runcoach_zone.",
                              shpool->end - (u_char *) shpool);
    runcoach_exposition_value(x, "runcoach_zone_free_bytes", "gauge",
                              "Free pages of it.",
                              (uint64_t) shpool->pfree * ngx_pagesize);
}


static void
ngx_http_runcoach_metrics_one(runcoach_exposition_t *x, const char *family,
    const char *label, const char *value, uint64_t n)
{
    runcoach_label_t  one;

    one.name = label;
    one.value = value;
    one.len = ngx_strlen(value);

    runcoach_exposition_sample(x, family, &one, 1, n);
}
