
/*
 * What an operator sees and resets, as JSON: the connection and the counters,
 * and of a client what this edge and what Redis know.  Redis is asked before
 * the content phase, in the way requests are.
 */


#include "ngx_http_runcoach_limit.h"
#include "lib/runcoach_reply.h"


#define NGX_HTTP_RUNCOACH_LIMIT_REPORT  4096


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_REPORT_ALL = 0,
    NGX_HTTP_RUNCOACH_LIMIT_REPORT_WAITING,
    NGX_HTTP_RUNCOACH_LIMIT_REPORT_LOCAL,      /* there is no Redis */
    NGX_HTTP_RUNCOACH_LIMIT_REPORT_FAILED,
    NGX_HTTP_RUNCOACH_LIMIT_REPORT_ANSWERED
} ngx_http_runcoach_limit_report_e;


typedef struct {
    ngx_http_request_t                   *request;
    ngx_http_runcoach_limit_ctx_t        *ctx;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;
    ngx_http_runcoach_limit_report_e      state;
    ngx_uint_t                            status;  /* 0: no error so far */
    const char                           *detail;
    ngx_uint_t                            reset;   /* unsigned  reset:1; */

    ngx_http_runcoach_limit_policy_t     *policy;
    ngx_http_runcoach_limit_id_t          id;
    u_char                              digest[NGX_HTTP_RUNCOACH_LIMIT_DIGEST];
    runcoach_bucket_rate_t                rate;
    runcoach_bucket_ask_t                 ask;
    runcoach_bucket_answer_t              answer;
} ngx_http_runcoach_limit_report_t;


static ngx_int_t ngx_http_runcoach_limit_report_begin(ngx_http_request_t *r,
    ngx_http_runcoach_limit_report_t *report);
static ngx_int_t ngx_http_runcoach_limit_report_client(ngx_http_request_t *r,
    ngx_http_runcoach_limit_report_t *report);
static ngx_int_t ngx_http_runcoach_limit_report_error(
    ngx_http_runcoach_limit_report_t *report, ngx_uint_t status,
    const char *detail);
static ngx_int_t ngx_http_runcoach_limit_report_send(
    ngx_http_runcoach_limit_report_t *report);
static void ngx_http_runcoach_limit_report_reply(void *data,
    redisReply *reply);
static ngx_int_t ngx_http_runcoach_limit_report_parse(
    ngx_http_runcoach_limit_report_t *report, redisReply *reply);
static void ngx_http_runcoach_limit_forget(
    ngx_http_runcoach_limit_report_t *report);

static ngx_int_t ngx_http_runcoach_limit_status_handler(ngx_http_request_t *r);
static u_char *ngx_http_runcoach_limit_print(
    ngx_http_runcoach_limit_report_t *report, u_char *p, u_char *last);
static u_char *ngx_http_runcoach_limit_print_redis(
    ngx_http_runcoach_limit_main_conf_t *lmcf, u_char *p, u_char *last);
static u_char *ngx_http_runcoach_limit_print_counters(
    ngx_http_runcoach_limit_main_conf_t *lmcf, u_char *p, u_char *last);
static void ngx_http_runcoach_limit_copy(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_slab_pool_t *shpool, ngx_http_runcoach_limit_counters_t *counters);
static u_char *ngx_http_runcoach_limit_print_client(
    ngx_http_runcoach_limit_report_t *report, u_char *p, u_char *last);
static const char *ngx_http_runcoach_limit_bool(ngx_uint_t b);


ngx_int_t
ngx_http_runcoach_limit_status_ask(ngx_http_request_t *r)
{
    ngx_http_runcoach_limit_ctx_t     *ctx;
    ngx_http_runcoach_limit_report_t  *report;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_limit_module,
                                    ngx_http_runcoach_limit_cleanup);

    if (ctx != NULL && ctx->report != NULL) {
        report = ctx->report;

        return (report->state == NGX_HTTP_RUNCOACH_LIMIT_REPORT_WAITING)
               ? NGX_AGAIN : NGX_DECLINED;
    }

    if (ctx == NULL) {
        ctx = ngx_http_runcoach_ctx_add(r, &ngx_http_runcoach_limit_module,
                                        ngx_http_runcoach_limit_cleanup,
                                        sizeof(ngx_http_runcoach_limit_ctx_t));
    }

    report = ngx_pcalloc(r->pool, sizeof(ngx_http_runcoach_limit_report_t));

    if (ctx == NULL || report == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request = r;
    ctx->report = report;

    report->ctx = ctx;
    report->request = r;
    report->lmcf = ngx_http_get_module_main_conf(r,
                                              ngx_http_runcoach_limit_module);

    return ngx_http_runcoach_limit_report_begin(r, report);
}


static ngx_int_t
ngx_http_runcoach_limit_report_begin(ngx_http_request_t *r,
    ngx_http_runcoach_limit_report_t *report)
{
    ngx_int_t                             rc;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = report->lmcf;

    if (lmcf->sh == NULL
        && ngx_http_runcoach_limit_init_worker(r, lmcf) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST
                       |NGX_HTTP_DELETE)))
    {
        return NGX_HTTP_NOT_ALLOWED;
    }

    report->reset = ((r->method & (NGX_HTTP_POST|NGX_HTTP_DELETE)) != 0);

    rc = ngx_http_runcoach_limit_report_client(r, report);

    if (rc != NGX_OK) {
        return rc;
    }

    if (lmcf->redis == NULL) {
        report->state = NGX_HTTP_RUNCOACH_LIMIT_REPORT_LOCAL;
        ngx_http_runcoach_limit_forget(report);

        return NGX_DECLINED;
    }

    if (ngx_http_runcoach_limit_report_send(report) != NGX_OK) {
        report->state = NGX_HTTP_RUNCOACH_LIMIT_REPORT_FAILED;

        return NGX_DECLINED;
    }

    report->state = NGX_HTTP_RUNCOACH_LIMIT_REPORT_WAITING;

    return ngx_http_runcoach_await(r);
}


static ngx_int_t
ngx_http_runcoach_limit_report_client(ngx_http_request_t *r,
    ngx_http_runcoach_limit_report_t *report)
{
    u_char                               *dst, *src;
    ngx_str_t                             policy, key;
    ngx_uint_t                            i;
    ngx_http_runcoach_limit_node_t       *node;
    ngx_http_runcoach_limit_policy_t    **policies;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = report->lmcf;

    if (ngx_http_arg(r, (u_char *) "policy", 6, &policy) != NGX_OK
        || ngx_http_arg(r, (u_char *) "key", 3, &key) != NGX_OK
        || key.len == 0)
    {
        return report->reset
               ? ngx_http_runcoach_limit_report_error(report,
                                           NGX_HTTP_BAD_REQUEST,
                                           "policy and key must be given")
               : NGX_DECLINED;
    }

    policies = lmcf->policies.elts;

    for (i = 0; i < lmcf->policies.nelts; i++) {

        if (policies[i]->on && policies[i]->name.len == policy.len
            && ngx_strncmp(policies[i]->name.data, policy.data, policy.len)
               == 0)
        {
            report->policy = policies[i];
        }
    }

    if (report->policy == NULL) {
        return ngx_http_runcoach_limit_report_error(report, NGX_HTTP_NOT_FOUND,
                                                    "no such policy");
    }

    src = key.data;
    key.data = ngx_pnalloc(r->pool, key.len);
    if (key.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    dst = key.data;
    ngx_unescape_uri(&dst, &src, key.len, 0);
    key.len = dst - key.data;

    ngx_http_runcoach_limit_identify(lmcf->sh, report->policy, &key,
                                     &report->id);
    ngx_http_runcoach_limit_digest(&key, report->digest);

    report->rate = report->policy->rate;

    ngx_shmtx_lock(&lmcf->shpool->mutex);

    node = ngx_http_runcoach_limit_lookup(lmcf->sh, &report->id);

    if (node != NULL && node->lease.rate.n != 0) {
        report->rate = node->lease.rate;
    }

    ngx_shmtx_unlock(&lmcf->shpool->mutex);

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_report_error(ngx_http_runcoach_limit_report_t *report,
    ngx_uint_t status, const char *detail)
{
    report->status = status;
    report->detail = detail;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_runcoach_limit_report_send(ngx_http_runcoach_limit_report_t *report)
{
    u_char                               *p;
    ngx_str_t                             command;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = report->lmcf;

    report->ask.epoch = report->reset ? RUNCOACH_BUCKET_RESET
                                      : RUNCOACH_BUCKET_SILENT;

    command.data = ngx_pnalloc(report->ctx->request->pool,
                               lmcf->eval.len
                               + NGX_HTTP_RUNCOACH_LIMIT_CALL(1));
    if (command.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_runcoach_redis_write_count(command.data, 5 + RUNCOACH_BUCKET_ARGS);
    p = ngx_cpymem(p, lmcf->eval.data, lmcf->eval.len);
    p = ngx_runcoach_redis_write_number(p, 1);
    p = ngx_http_runcoach_limit_write_key(p, report->policy, report->digest);
    p = ngx_runcoach_redis_write_number(p,
                                      ngx_http_runcoach_limit_confs[1].epoch);
    p = ngx_http_runcoach_limit_write_args(p, &report->rate, &report->ask);

    command.len = p - command.data;

    report->ctx->cmd = ngx_runcoach_redis_send_written(lmcf->redis, &command,
                                         ngx_current_msec,
                                         ngx_http_runcoach_limit_report_reply,
                                         report);

    return (report->ctx->cmd != NULL) ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_runcoach_limit_report_reply(void *data, redisReply *reply)
{
    ngx_http_runcoach_limit_report_t *report = data;

    report->ctx->cmd = NULL;
    report->state = NGX_HTTP_RUNCOACH_LIMIT_REPORT_FAILED;

    if (reply != NULL
        && ngx_http_runcoach_limit_report_parse(report, reply) == NGX_OK)
    {
        report->state = NGX_HTTP_RUNCOACH_LIMIT_REPORT_ANSWERED;

        /* after Redis, or a request in between would bring back the old */

        ngx_http_runcoach_limit_forget(report);
    }

    ngx_http_runcoach_wake(report->request);
}


static ngx_int_t
ngx_http_runcoach_limit_report_parse(ngx_http_runcoach_limit_report_t *report,
    redisReply *reply)
{
    int                            count;
    int64_t                        values[RUNCOACH_BUCKET_VALUES];
    const runcoach_bucket_ask_t   *ask;
    const runcoach_bucket_rate_t  *rate;

    ask = &report->ask;
    rate = &report->rate;

    count = runcoach_reply_integers(reply, values, RUNCOACH_BUCKET_VALUES);

    if (count < 0
        || runcoach_bucket_answers(&report->answer, &rate, &ask, 1, values,
                                   count,
                                   ngx_http_runcoach_limit_confs[1].epoch)
        < 0)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_limit_forget(ngx_http_runcoach_limit_report_t *report)
{
    ngx_slab_pool_t                 *shpool;
    ngx_http_runcoach_limit_node_t  *node;

    if (!report->reset) {
        return;
    }

    shpool = report->lmcf->shpool;

    ngx_shmtx_lock(&shpool->mutex);

    node = ngx_http_runcoach_limit_lookup(report->lmcf->sh, &report->id);

    if (node != NULL) {
        runcoach_lease_reset(&node->lease, ngx_http_runcoach_limit_now());
    }

    ngx_shmtx_unlock(&shpool->mutex);
}


static ngx_int_t
ngx_http_runcoach_limit_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                          rc;
    ngx_buf_t                         *b;
    ngx_chain_t                        out;
    ngx_http_runcoach_limit_ctx_t     *ctx;
    ngx_http_runcoach_limit_report_t  *report;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_limit_module,
                                    ngx_http_runcoach_limit_cleanup);

    if (ctx == NULL || ctx->report == NULL) {

        /* a subrequest, or no policy is on */

        return NGX_HTTP_NOT_FOUND;
    }

    report = ctx->report;

    b = ngx_create_temp_buf(r->pool, NGX_HTTP_RUNCOACH_LIMIT_REPORT);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (report->reset
        && report->state == NGX_HTTP_RUNCOACH_LIMIT_REPORT_FAILED)
    {
        (void) ngx_http_runcoach_limit_report_error(report,
                              NGX_HTTP_SERVICE_UNAVAILABLE,
                              "Redis is not available, nothing was reset");
    }

    b->last = ngx_http_runcoach_limit_print(report, b->pos, b->end);
    b->last_buf = 1;
    b->last_in_chain = 1;

    r->headers_out.status = report->status ? report->status : NGX_HTTP_OK;
    r->headers_out.content_length_n = b->last - b->pos;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


static u_char *
ngx_http_runcoach_limit_print(ngx_http_runcoach_limit_report_t *report,
    u_char *p, u_char *last)
{
    if (report->status) {
        return ngx_slprintf(p, last, "{\"detail\":\"%s\"}\n", report->detail);
    }

    p = ngx_slprintf(p, last, "{");

    if (report->policy != NULL) {
        p = ngx_http_runcoach_limit_print_client(report, p, last);
        p = ngx_slprintf(p, last, ",");
    }

    p = ngx_http_runcoach_limit_print_redis(report->lmcf, p, last);
    p = ngx_http_runcoach_limit_print_counters(report->lmcf, p, last);

    return ngx_slprintf(p, last, "}\n");
}


static u_char *
ngx_http_runcoach_limit_print_redis(ngx_http_runcoach_limit_main_conf_t *lmcf,
    u_char *p, u_char *last)
{
    ngx_runcoach_redis_status_t  status;

    if (lmcf->redis == NULL) {
        return ngx_slprintf(p, last, "\"redis\":null,");
    }

    ngx_runcoach_redis_status(lmcf->redis, &status);

    p = ngx_slprintf(p, last, "\"redis\":{\"state\":\"%s\",\"pending\":%ui,"
                     "\"failures\":%ui,\"trouble_ms\":%M,\"timeout_ms\":%M,",
                     status.state, status.pending, status.failures,
                     status.since, status.timeout);

    if (status.reason != NULL) {
        p = ngx_slprintf(p, last, "\"reason\":\"%s\",", status.reason);
    }

    return ngx_slprintf(p, last, "\"breaker\":\"%s\",\"opened\":%uA},",
                        lmcf->sh->breaker.down ? "open" : "closed",
                        lmcf->sh->breaker.opened);
}


static u_char *
ngx_http_runcoach_limit_print_counters(
    ngx_http_runcoach_limit_main_conf_t *lmcf, u_char *p, u_char *last)
{
    uint64_t                            *from;
    ngx_http_runcoach_limit_counters_t   c;

    ngx_http_runcoach_limit_copy(lmcf->sh, lmcf->shpool, &c);

    from = c.from;

    return ngx_slprintf(p, last,
                        "\"requests\":{\"passed\":%uL,\"rejected\":%uL,"
                        "\"lease\":%uL,\"bound\":%uL,\"gate\":%uL,"
                        "\"redis\":%uL,\"local\":%uL,\"unlimited\":%uL},"
                        "\"calls\":{\"answered\":%uL,\"lost\":%uL},"
                        "\"zone\":{\"clients\":%uL,\"evicted\":%uL,"
                        "\"full\":%uL}",
                        c.passed, c.rejected, from[RUNCOACH_LEASE_FROM_LEASE],
                        from[RUNCOACH_LEASE_FROM_BOUND],
                        from[RUNCOACH_LEASE_FROM_GATE],
                        from[RUNCOACH_LEASE_FROM_REDIS],
                        from[RUNCOACH_LEASE_FROM_SHARE],
                        from[RUNCOACH_LEASE_FROM_NOBODY],
                        c.calls - c.lost, c.lost, c.nodes, c.evicted,
                        c.forgotten);
}


ngx_int_t
ngx_http_runcoach_limit_counters(ngx_http_request_t *r,
    ngx_http_runcoach_limit_counters_t *counters)
{
    ngx_slab_pool_t                  *shpool;
    ngx_http_runcoach_limit_shctx_t  *sh;

    sh = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_LIMIT, &shpool);

    if (sh == NULL) {
        return NGX_DECLINED;
    }

    ngx_http_runcoach_limit_copy(sh, shpool, counters);

    return NGX_OK;
}


static void
ngx_http_runcoach_limit_copy(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_slab_pool_t *shpool, ngx_http_runcoach_limit_counters_t *counters)
{
    ngx_shmtx_lock(&shpool->mutex);

    counters->passed = sh->passed;
    counters->rejected = sh->rejected;
    counters->calls = sh->calls;
    counters->lost = sh->lost;
    counters->evicted = sh->evicted;
    counters->forgotten = sh->forgotten;
    counters->nodes = sh->nodes;
    ngx_memcpy(counters->from, sh->from, sizeof(counters->from));

    ngx_shmtx_unlock(&shpool->mutex);

    counters->opened = sh->breaker.opened;
    counters->open = (sh->breaker.down != 0);
}


static u_char *
ngx_http_runcoach_limit_print_client(ngx_http_runcoach_limit_report_t *report,
    u_char *p, u_char *last)
{
    uint64_t                              left;
    ngx_uint_t                            known;
    runcoach_lease_status_t               edge;
    const runcoach_bucket_rate_t         *local;
    ngx_http_runcoach_limit_node_t       *node;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = report->lmcf;

    ngx_shmtx_lock(&lmcf->shpool->mutex);

    node = ngx_http_runcoach_limit_lookup(lmcf->sh, &report->id);
    known = (node != NULL && node->lease.rate.n != 0);

    if (known) {
        local = (report->policy->header.len != 0) ? &report->policy->local
                                                  : NULL;

        runcoach_lease_look(&node->lease, local, ngx_http_runcoach_limit_now(),
                            &edge);
    }

    ngx_shmtx_unlock(&lmcf->shpool->mutex);

    p = ngx_slprintf(p, last, "\"client\":{\"policy\":\"%V\",\"redis_key\":\"",
                     &report->policy->name);

    if (last - p > (ssize_t) NGX_HTTP_RUNCOACH_LIMIT_KEY_LEN) {
        p = ngx_http_runcoach_limit_redis_key(p, report->policy,
                                              report->digest);
    }

    p = ngx_slprintf(p, last, "\",\"burst\":%uL,\"reset\":%s,",
                     report->rate.c / report->rate.p,
                     ngx_http_runcoach_limit_bool(report->reset));

    if (known) {
        p = ngx_slprintf(p, last,
                         "\"edge\":{\"remaining\":%uL,\"leased\":%uL,"
                         "\"unreported\":%uL,\"full_in_ms\":%uL,"
                         "\"demand\":%uL,\"in_flight\":%s,\"drained\":%s,"
                         "\"local\":%s},",
                         edge.remaining, edge.leased, edge.unreported,
                         edge.reset_us / 1000, edge.demand,
                         ngx_http_runcoach_limit_bool(edge.in_flight),
                         ngx_http_runcoach_limit_bool(edge.drained),
                         ngx_http_runcoach_limit_bool(edge.away));

    } else {
        p = ngx_slprintf(p, last, "\"edge\":null,");
    }

    if (report->state != NGX_HTTP_RUNCOACH_LIMIT_REPORT_ANSWERED) {
        return ngx_slprintf(p, last, "\"redis\":null}");
    }

    left = (report->answer.free > 0)
           ? (uint64_t) report->answer.free / report->rate.p : 0;

    return ngx_slprintf(p, last, "\"redis\":{\"remaining\":%uL,"
                        "\"full_in_ms\":%uL,\"known\":%s}}",
                        left, report->answer.reset_us / 1000,
                        ngx_http_runcoach_limit_bool(!report->answer.fresh));
}


static const char *
ngx_http_runcoach_limit_bool(ngx_uint_t b)
{
    return b ? "true" : "false";
}


char *
ngx_http_runcoach_limit_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_limit_loc_conf_t *llcf = conf;

    ngx_http_core_loc_conf_t  *clcf;

    if (llcf->status) {
        return "is duplicate";
    }

    llcf->status = 1;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_runcoach_limit_status_handler;

    return NGX_CONF_OK;
}
