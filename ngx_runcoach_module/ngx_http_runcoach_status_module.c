
/*
 * What goes on, for operators.  Everything is found out in the log phase, from
 * what the other modules have decided; without one of the directives there is
 * no handler in it.
 */


#include "ngx_http_runcoach_status.h"


static ngx_int_t ngx_http_runcoach_status_handler(ngx_http_request_t *r);
static void ngx_http_runcoach_status_facts(ngx_http_request_t *r,
    ngx_http_runcoach_status_facts_t *facts);
static void ngx_http_runcoach_status_upstream(ngx_http_request_t *r,
    ngx_http_runcoach_status_facts_t *facts);
static ngx_int_t ngx_http_runcoach_status_push(ngx_http_request_t *r,
    const char *name, const char *value);

static ngx_int_t ngx_http_runcoach_status_init_process(ngx_cycle_t *cycle);
static void ngx_http_runcoach_status_init_worker(
    ngx_http_runcoach_status_main_conf_t *smcf);
static ngx_http_runcoach_status_counters_t *ngx_http_runcoach_status_take(
    ngx_http_runcoach_status_shctx_t *sh);
static void ngx_http_runcoach_status_exit_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_runcoach_status_zone_init(ngx_slab_pool_t *shpool,
    void **data);

static void *ngx_http_runcoach_status_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_runcoach_status_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_status_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_runcoach_metrics(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_debug_ring(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_debug(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_runcoach_status_init(ngx_conf_t *cf);


static ngx_command_t  ngx_http_runcoach_status_commands[] = {

    { ngx_string("runcoach_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_runcoach_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_count"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_runcoach_status_loc_conf_t, count),
      NULL },

    { ngx_string("runcoach_debug_ring"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_runcoach_debug_ring,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_debug"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_runcoach_debug,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_status_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_runcoach_status_init,         /* postconfiguration */

    ngx_http_runcoach_status_create_main_conf, /* create main conf */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_runcoach_status_create_loc_conf, /* create location conf */
    ngx_http_runcoach_status_merge_loc_conf   /* merge location conf */
};


ngx_module_t  ngx_http_runcoach_status_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_status_module_ctx,  /* module context */
    ngx_http_runcoach_status_commands,     /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_runcoach_status_init_process, /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_runcoach_status_exit_process, /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_runcoach_status_handler(ngx_http_request_t *r)
{
    ngx_http_runcoach_status_facts_t       facts;
    ngx_http_runcoach_status_loc_conf_t   *slcf;
    ngx_http_runcoach_status_main_conf_t  *smcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_status_module);

    if (r != r->main || !slcf->count) {
        return NGX_OK;
    }

    smcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_status_module);

    if (smcf->counters == NULL && smcf->rings == NULL) {

        /* a single process, after a reload */

        ngx_http_runcoach_status_init_worker(smcf);
    }

    ngx_http_runcoach_status_facts(r, &facts);

    if (smcf->counters != NULL) {
        ngx_http_runcoach_status_count(smcf, &facts);
    }

    /* who reads the ring does not want to read of that */

    if (smcf->rings != NULL && slcf->answer == 0) {
        ngx_http_runcoach_debug_note(r, smcf, &facts);
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_status_facts(ngx_http_request_t *r,
    ngx_http_runcoach_status_facts_t *facts)
{
    ngx_time_t  *tp;

    facts->status = r->err_status ? r->err_status : r->headers_out.status;

    tp = ngx_timeofday();

    facts->ms = (ngx_msec_int_t) ((tp->sec - r->start_sec) * 1000
                                  + (ngx_msec_int_t) tp->msec
                                  - (ngx_msec_int_t) r->start_msec);
    facts->ms = ngx_max(facts->ms, 0);

    facts->auth = ngx_http_runcoach_auth_outcome(r, &facts->method,
                                                 &facts->reason);
    facts->limit = ngx_http_runcoach_limit_outcome(r, &facts->source,
                                                   &facts->policy);
    facts->nsigned = ngx_http_runcoach_presign_outcome(r, &facts->signed_for);

    facts->upstream_status = 0;
    facts->upstream = -1;
    facts->connect = -1;
    facts->header = -1;

    if (r->upstream_states != NULL) {
        ngx_http_runcoach_status_upstream(r, facts);
    }
}


/* of all that were tried, but the status, which is that of the last one */

static void
ngx_http_runcoach_status_upstream(ngx_http_request_t *r,
    ngx_http_runcoach_status_facts_t *facts)
{
    ngx_uint_t                  i;
    ngx_http_upstream_state_t  *state;

    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {

        /* between two of them, after an internal redirect */

        if (state[i].peer == NULL) {
            continue;
        }

        facts->upstream_status = state[i].status;

        if (state[i].response_time != (ngx_msec_t) -1) {
            facts->upstream = ngx_max(facts->upstream, 0)
                              + (ngx_msec_int_t) state[i].response_time;
        }

        if (state[i].connect_time != (ngx_msec_t) -1) {
            facts->connect = ngx_max(facts->connect, 0)
                             + (ngx_msec_int_t) state[i].connect_time;
        }

        if (state[i].header_time != (ngx_msec_t) -1) {
            facts->header = ngx_max(facts->header, 0)
                            + (ngx_msec_int_t) state[i].header_time;
        }
    }
}


ngx_int_t
ngx_http_runcoach_status_method(ngx_http_request_t *r, ngx_uint_t allowed)
{
    if (r->method & allowed) {
        return ngx_http_discard_request_body(r);
    }

    if (ngx_http_runcoach_status_push(r, "Allow", (allowed & NGX_HTTP_POST)
                                                  ? "POST" : "GET, HEAD")
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_NOT_ALLOWED;
}


ngx_int_t
ngx_http_runcoach_status_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, ngx_buf_t *b)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    if (ngx_http_runcoach_status_push(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = b->last - b->pos;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->last_buf = (r == r->main);
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


static ngx_int_t
ngx_http_runcoach_status_push(ngx_http_request_t *r, const char *name,
    const char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_http_runcoach_header_init(h);

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_status_init_process(ngx_cycle_t *cycle)
{
    ngx_http_runcoach_status_main_conf_t  *smcf;

    /* the cache manager comes here as well */

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    smcf = ngx_http_cycle_get_module_main_conf(cycle,
                                             ngx_http_runcoach_status_module);

    if (smcf != NULL && (smcf->metrics || smcf->ring == 1)) {
        ngx_http_runcoach_status_init_worker(smcf);
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_status_init_worker(
    ngx_http_runcoach_status_main_conf_t *smcf)
{
    ngx_cycle_t  *cycle;

    cycle = (ngx_cycle_t *) ngx_cycle;

    smcf->redis = ngx_http_runcoach_cycle_redis(cycle);

    if (smcf->ring == 1) {
        smcf->rings = ngx_http_runcoach_zone_cycle_data(cycle,
                                                NGX_HTTP_RUNCOACH_ZONE_DEBUG,
                                                NULL);
    }

    if (!smcf->metrics) {
        return;
    }

    smcf->sh = ngx_http_runcoach_zone_cycle_data(cycle,
                                               NGX_HTTP_RUNCOACH_ZONE_STATUS,
                                               NULL);
    if (smcf->sh == NULL) {
        return;
    }

    smcf->counters = ngx_http_runcoach_status_take(smcf->sh);
    smcf->own = (smcf->counters != &smcf->sh->pieces[0]);

    if (smcf->redis != NULL) {
        ngx_runcoach_redis_count(smcf->redis, &smcf->counters->redis);
    }
}


/*
 * A piece of nobody, or of a process that is gone, or our own: a single process
 * has one through all its reloads.
 */

static ngx_http_runcoach_status_counters_t *
ngx_http_runcoach_status_take(ngx_http_runcoach_status_shctx_t *sh)
{
    uint64_t                              owner;
    ngx_uint_t                            i;
    ngx_http_runcoach_status_counters_t  *c;

    for (i = 1; i < sh->npieces; i++) {
        c = &sh->pieces[i];
        owner = __atomic_load_n(&c->owner, __ATOMIC_RELAXED);

        if (owner == (uint64_t) ngx_pid) {
            return c;
        }
    }

    for (i = 1; i < sh->npieces; i++) {
        c = &sh->pieces[i];
        owner = __atomic_load_n(&c->owner, __ATOMIC_RELAXED);

        if (owner != 0 && (kill((ngx_pid_t) owner, 0) == 0
                           || ngx_errno != NGX_ESRCH))
        {
            continue;
        }

        if (__atomic_compare_exchange_n(&c->owner, &owner, (uint64_t) ngx_pid,
                                        0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        {
            return c;
        }
    }

    return &sh->pieces[0];
}


static void
ngx_http_runcoach_status_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_runcoach_status_main_conf_t  *smcf;

    smcf = ngx_http_cycle_get_module_main_conf(cycle,
                                             ngx_http_runcoach_status_module);

    if (smcf == NULL || smcf->counters == NULL || !smcf->own) {
        return;
    }

    if (smcf->redis != NULL) {
        ngx_runcoach_redis_count(smcf->redis, NULL);
    }

    __atomic_store_n(&smcf->counters->owner, 0, __ATOMIC_RELEASE);

    smcf->counters = NULL;
}


static ngx_int_t
ngx_http_runcoach_status_zone_init(ngx_slab_pool_t *shpool, void **data)
{
    ngx_uint_t                         n;
    ngx_http_runcoach_status_shctx_t  *sh;

    /* while a configuration is exchanged there are twice as many workers */

    n = ngx_min(2 * ngx_max(ngx_ncpu, 1) + 2, NGX_HTTP_RUNCOACH_STATUS_PIECES);

    sh = ngx_slab_calloc(shpool, sizeof(ngx_http_runcoach_status_shctx_t)
                                 + (n - 1)
                                 * sizeof(ngx_http_runcoach_status_counters_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    sh->npieces = n;

    *data = sh;

    return NGX_OK;
}


static void *
ngx_http_runcoach_status_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_status_main_conf_t  *smcf;

    smcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_status_main_conf_t));
    if (smcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     smcf->metrics = 0;
     *     smcf->debug = 0;
     *     smcf->sh = NULL;
     *     smcf->counters = NULL;
     *     smcf->rings = NULL;
     *     smcf->redis = NULL;
     *     smcf->trouble = NULL;
     */

    smcf->ring = NGX_CONF_UNSET;

    return smcf;
}


static void *
ngx_http_runcoach_status_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_status_loc_conf_t  *slcf;

    slcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_status_loc_conf_t));
    if (slcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     slcf->answer = 0;
     */

    slcf->count = NGX_CONF_UNSET;

    return slcf;
}


static char *
ngx_http_runcoach_status_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_runcoach_status_loc_conf_t  *prev = parent;
    ngx_http_runcoach_status_loc_conf_t  *conf = child;

    ngx_conf_merge_value(conf->count, prev->count, 1);

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t              *clcf;
    ngx_http_runcoach_status_main_conf_t  *smcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler == ngx_http_runcoach_metrics_handler) {
        return "is duplicate";
    }

    clcf->handler = ngx_http_runcoach_metrics_handler;

    smcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_runcoach_status_module);
    smcf->metrics = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_debug_ring(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_status_main_conf_t *smcf = conf;

    char        *rv;
    ngx_int_t    slow;
    ngx_str_t   *value, s;

    ngx_http_runcoach_param_t  known[] = {
        { "slow", &s },
        { NULL, NULL }
    };

    if (smcf->ring != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;
    ngx_str_set(&s, "1s");

    rv = ngx_http_runcoach_params(cf, 2, known);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    slow = ngx_parse_time(&s, 0);

    if (slow == NGX_ERROR || slow == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid slow \"%V\" in runcoach_debug_ring, "
                           "must be a time above 0 like 1s", &s);
        return NGX_CONF_ERROR;
    }

    smcf->slow = slow;

    if (ngx_http_runcoach_names_eq(&value[1], "on")) {
        smcf->ring = 1;
        return NGX_CONF_OK;
    }

    if (ngx_http_runcoach_names_eq(&value[1], "off")) {
        smcf->ring = 0;
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\" in runcoach_debug_ring, "
                       "must be on or off", &value[1]);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_debug(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_status_loc_conf_t *slcf = conf;

    ngx_str_t                             *value;
    ngx_uint_t                             i;
    ngx_http_core_loc_conf_t              *clcf;
    ngx_http_runcoach_status_main_conf_t  *smcf;

    static const struct {
        const char  *name;
        ngx_uint_t   answer;
    } answers[] = {
        { "logs", NGX_HTTP_RUNCOACH_DEBUG_ANSWER_LOGS },
        { "errors", NGX_HTTP_RUNCOACH_DEBUG_ANSWER_ERRORS },
        { "timing", NGX_HTTP_RUNCOACH_DEBUG_ANSWER_TIMING },
        { "clear", NGX_HTTP_RUNCOACH_DEBUG_ANSWER_CLEAR },
        { NULL, 0 }
    };

    if (slcf->answer != 0) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 0; answers[i].name != NULL; i++) {

        if (ngx_http_runcoach_names_eq(&value[1], answers[i].name)) {
            slcf->answer = answers[i].answer;
        }
    }

    if (slcf->answer == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in runcoach_debug, must be "
                           "logs, errors, timing or clear", &value[1]);
        return NGX_CONF_ERROR;
    }

    smcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_runcoach_status_module);
    smcf->debug = 1;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_runcoach_debug_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_runcoach_status_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt                   *h;
    ngx_http_core_main_conf_t             *cmcf;
    ngx_http_runcoach_status_main_conf_t  *smcf;

    static ngx_str_t  request_id = ngx_string("request_id");

    smcf = ngx_http_conf_get_module_main_conf(cf,
                                             ngx_http_runcoach_status_module);

    if (smcf->debug && smcf->ring == NGX_CONF_UNSET) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "runcoach_debug has nothing to tell, add "
                      "\"runcoach_debug_ring on;\" to http");
        return NGX_ERROR;
    }

    if (!smcf->metrics && smcf->ring != 1) {
        return NGX_OK;
    }

    if ((smcf->metrics
         && ngx_http_runcoach_zone_add(cf, NGX_HTTP_RUNCOACH_ZONE_STATUS,
                                       ngx_http_runcoach_status_zone_init)
            != NGX_OK)
        || (smcf->ring == 1
            && ngx_http_runcoach_zone_add(cf, NGX_HTTP_RUNCOACH_ZONE_DEBUG,
                                          ngx_http_runcoach_debug_zone_init)
               != NGX_OK))
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "%s needs shared memory, add "
                      "\"runcoach_zone runcoach:16m;\" to http",
                      smcf->metrics ? "runcoach_metrics"
                                    : "runcoach_debug_ring");
        return NGX_ERROR;
    }

    smcf->request_id = ngx_http_get_variable_index(cf, &request_id);

    if (smcf->request_id == NGX_ERROR) {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_runcoach_status_handler;

    return NGX_OK;
}
