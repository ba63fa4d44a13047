
#include "ngx_http_runcoach.h"


#define NGX_HTTP_RUNCOACH_ZONE_VERSION  4
#define NGX_HTTP_RUNCOACH_ZONE_MIN      (8 * ngx_pagesize)


typedef struct {
    ngx_uint_t                        version;
    void                             *data[NGX_HTTP_RUNCOACH_ZONE_PLACES];
} ngx_http_runcoach_shctx_t;


typedef struct {
    ngx_shm_zone_t                   *zone;
    ngx_http_runcoach_shctx_t        *sh;
    ngx_http_runcoach_zone_init_pt    init[NGX_HTTP_RUNCOACH_ZONE_PLACES];

    ngx_runcoach_redis_t             *redis;
    ngx_array_t                      *more;       /* ngx_runcoach_redis_t * */
    ngx_uint_t                        redis_set;  /* unsigned  redis_set:1; */

    ngx_array_t                      *origins;    /* ngx_str_t */

    ngx_uint_t                        underscores; /* in headers: they pass */
} ngx_http_runcoach_main_conf_t;


static void *ngx_http_runcoach_zone_place(ngx_http_runcoach_main_conf_t *rmcf,
    ngx_http_runcoach_zone_place_e place, ngx_slab_pool_t **shpool);
static void ngx_http_runcoach_set_resolver(ngx_conf_t *cf,
    ngx_runcoach_redis_t *rd);

static ngx_int_t ngx_http_runcoach_post_read_handler(ngx_http_request_t *r);
static void ngx_http_runcoach_clear_identity(ngx_http_request_t *r);
static ngx_str_t *ngx_http_runcoach_identity_name(ngx_str_t *key);
static u_char *ngx_http_runcoach_log_handler(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);
static ngx_int_t ngx_http_runcoach_origin_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

static void *ngx_http_runcoach_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_runcoach_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);
static char *ngx_http_runcoach_redis_url(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_cors_origins(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_runcoach_valid_origin(ngx_str_t *origin);
static ngx_int_t ngx_http_runcoach_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_init(ngx_conf_t *cf);
static void ngx_http_runcoach_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_http_runcoach_commands[] = {

    { ngx_string("runcoach_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_runcoach_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_runcoach_redis_url,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_cors_origins"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_runcoach_cors_origins,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_module_ctx = {
    ngx_http_runcoach_variables,           /* preconfiguration */
    ngx_http_runcoach_init,                /* postconfiguration */

    ngx_http_runcoach_create_main_conf,    /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_runcoach_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_module_ctx,         /* module context */
    ngx_http_runcoach_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_runcoach_exit_process,        /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_runcoach_vars[] = {

    { ngx_string("runcoach_cors_origin"), NULL,
      ngx_http_runcoach_origin_variable, 0, 0, 0 },

      ngx_http_null_variable
};


static ngx_http_log_handler_pt  ngx_http_next_log_handler;


ngx_int_t
ngx_http_runcoach_value(ngx_conf_t *cf, ngx_str_t *value)
{
    char    *env;
    size_t   len;
    u_char  *p, *last, *name, *copy;

    if (ngx_strncmp(value->data, "env:", 4) != 0) {
        return NGX_OK;
    }

    p = value->data + 4;
    last = value->data + value->len;

    while (p < last) {
        name = p;
        p = ngx_strlchr(p, last, '|');

        if (p == NULL) {
            p = last;
        }

        copy = ngx_pnalloc(cf->temp_pool, p - name + 1);
        if (copy == NULL) {
            return NGX_ERROR;
        }

        ngx_cpystrn(copy, name, p - name + 1);
        p++;

        env = getenv((char *) copy);

        if (env == NULL || env[0] == '\0') {
            continue;
        }

        len = ngx_strlen(env);

        value->data = ngx_pnalloc(cf->pool, len + 1);
        if (value->data == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(value->data, env, len + 1);
        value->len = len;

        return NGX_OK;
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_runcoach_param(ngx_conf_t *cf, ngx_str_t *arg, const char *name,
    ngx_str_t *value, ngx_uint_t *known)
{
    size_t     len;
    ngx_int_t  rc;
    ngx_str_t  v;

    len = ngx_strlen(name);

    *known = (arg->len > len && arg->data[len] == '='
              && ngx_strncmp(arg->data, name, len) == 0);

    if (!*known) {
        return NGX_DECLINED;
    }

    v.data = arg->data + len + 1;
    v.len = arg->len - len - 1;

    rc = ngx_http_runcoach_value(cf, &v);

    if (rc == NGX_OK) {
        *value = v;
    }

    return rc;
}


char *
ngx_http_runcoach_params(ngx_conf_t *cf, ngx_uint_t first,
    ngx_http_runcoach_param_t *known)
{
    u_char      *p;
    ngx_str_t   *value, name;
    ngx_uint_t   i, n, found, seen;

    value = cf->args->elts;
    seen = 0;

    for (i = first; i < cf->args->nelts; i++) {

        for (n = 0; known[n].name; n++) {

            if (ngx_http_runcoach_param(cf, &value[i], known[n].name,
                                        known[n].value, &found)
                == NGX_ERROR)
            {
                return NGX_CONF_ERROR;
            }

            if (found) {
                break;
            }
        }

        if (known[n].name == NULL || (seen & (1 << n))) {
            name = value[i];
            p = ngx_strlchr(name.data, name.data + name.len, '=');

            /* what comes after it may be a secret under a name misspelled */

            if (p != NULL) {
                name.len = p - name.data + 1;
            }

            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s parameter \"%V\" in %V",
                               known[n].name ? "duplicate" : "invalid",
                               &name, &value[0]);
            return NGX_CONF_ERROR;
        }

        seen |= 1 << n;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_runcoach_names(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t     *value, *name;
    ngx_uint_t     i;
    ngx_array_t  **names;

    names = (ngx_array_t **) ((u_char *) conf + cmd->offset);

    if (*names != NULL) {
        return "is duplicate";
    }

    *names = ngx_array_create(cf->pool, 4, sizeof(ngx_str_t));
    if (*names == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        name = ngx_array_push(*names);
        if (name == NULL) {
            return NGX_CONF_ERROR;
        }

        *name = value[i];

        if (ngx_http_runcoach_names_eq(name, "off") && cf->args->nelts != 2) {
            return "has names beside \"off\"";
        }
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_runcoach_names_off(ngx_array_t *names)
{
    return ngx_http_runcoach_names_eq(names->elts, "off");
}


ngx_uint_t
ngx_http_runcoach_names_eq(ngx_str_t *name, const char *s)
{
    size_t  len;

    len = ngx_strlen(s);

    return name->len == len && ngx_strncmp(name->data, s, len) == 0;
}


ngx_uint_t
ngx_http_runcoach_has_zone(ngx_conf_t *cf)
{
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_runcoach_module);

    return rmcf->zone != NULL;
}


ngx_int_t
ngx_http_runcoach_zone_add(ngx_conf_t *cf,
    ngx_http_runcoach_zone_place_e place, ngx_http_runcoach_zone_init_pt init)
{
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_runcoach_module);

    if (rmcf->zone == NULL) {
        return NGX_DECLINED;
    }

    rmcf->init[place] = init;

    return NGX_OK;
}


void *
ngx_http_runcoach_zone_data(ngx_http_request_t *r,
    ngx_http_runcoach_zone_place_e place, ngx_slab_pool_t **shpool)
{
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_module);

    return ngx_http_runcoach_zone_place(rmcf, place, shpool);
}


void *
ngx_http_runcoach_zone_cycle_data(ngx_cycle_t *cycle,
    ngx_http_runcoach_zone_place_e place, ngx_slab_pool_t **shpool)
{
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_runcoach_module);

    return ngx_http_runcoach_zone_place(rmcf, place, shpool);
}


static void *
ngx_http_runcoach_zone_place(ngx_http_runcoach_main_conf_t *rmcf,
    ngx_http_runcoach_zone_place_e place, ngx_slab_pool_t **shpool)
{
    if (rmcf->sh == NULL) {
        return NULL;
    }

    if (shpool != NULL) {
        *shpool = (ngx_slab_pool_t *) rmcf->zone->shm.addr;
    }

    return rmcf->sh->data[place];
}


ngx_runcoach_redis_t *
ngx_http_runcoach_redis(ngx_http_request_t *r)
{
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_module);

    return rmcf->redis;
}


ngx_runcoach_redis_t *
ngx_http_runcoach_cycle_redis(ngx_cycle_t *cycle)
{
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_runcoach_module);

    return rmcf->redis;
}


ngx_int_t
ngx_http_runcoach_redis_add(ngx_conf_t *cf, const char *name,
    ngx_msec_t timeout, ngx_runcoach_redis_t **rd)
{
    ngx_runcoach_redis_t           **more;
    ngx_http_runcoach_main_conf_t   *rmcf;

    rmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_runcoach_module);

    *rd = NULL;

    if (rmcf->redis == NULL) {
        return rmcf->redis_set ? NGX_OK : NGX_DECLINED;
    }

    if (rmcf->more == NULL) {
        rmcf->more = ngx_array_create(cf->pool, 1,
                                      sizeof(ngx_runcoach_redis_t *));
        if (rmcf->more == NULL) {
            return NGX_ERROR;
        }
    }

    more = ngx_array_push(rmcf->more);
    if (more == NULL) {
        return NGX_ERROR;
    }

    *more = ngx_runcoach_redis_clone(cf, rmcf->redis, name, timeout);
    if (*more == NULL) {
        return NGX_ERROR;
    }

    ngx_http_runcoach_set_resolver(cf, *more);

    *rd = *more;

    return NGX_OK;
}


static void
ngx_http_runcoach_set_resolver(ngx_conf_t *cf, ngx_runcoach_redis_t *rd)
{
    ngx_msec_t                 timeout;
    ngx_http_core_loc_conf_t  *clcf;

    /* the configuration of http{} itself is never merged: it may be unset */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    timeout = (clcf->resolver_timeout == NGX_CONF_UNSET_MSEC)
              ? 30000 : clcf->resolver_timeout;

    ngx_runcoach_redis_set_resolver(rd, clcf->resolver, timeout);
}


ngx_int_t
ngx_http_runcoach_await(ngx_http_request_t *r)
{
    ngx_event_t  *rev;

    rev = r->connection->read;

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    return NGX_AGAIN;
}


void
ngx_http_runcoach_wake(ngx_http_request_t *r)
{
    r->read_event_handler = ngx_http_block_reading;

    /* the caller is another connection's handler: let it unwind first */

    ngx_post_event(r->connection->write, &ngx_posted_events);
}


void *
ngx_http_runcoach_ctx_get(ngx_http_request_t *r, ngx_module_t *module,
    ngx_http_cleanup_pt handler)
{
    void                *ctx;
    ngx_pool_cleanup_t  *cln;

    r = r->main;
    ctx = ngx_http_get_module_ctx(r, (*module));

    if (ctx != NULL) {
        return ctx;
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == handler) {
            ngx_http_set_ctx(r, cln->data, (*module));
            return cln->data;
        }
    }

    return NULL;
}


void *
ngx_http_runcoach_ctx_add(ngx_http_request_t *r, ngx_module_t *module,
    ngx_http_cleanup_pt handler, size_t size)
{
    ngx_http_cleanup_t  *cln;
    ngx_pool_cleanup_t  *pcln;

    r = r->main;

    /* the cleanups of the request are gone when it is logged */

    pcln = ngx_pool_cleanup_add(r->pool, size);
    if (pcln == NULL) {
        return NULL;
    }

    ngx_memzero(pcln->data, size);

    /* those of the pool come too late for a request that was terminated */

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = handler;
    cln->data = pcln->data;

    pcln->handler = handler;
    ngx_http_set_ctx(r, pcln->data, (*module));

    return pcln->data;
}


ngx_int_t
ngx_http_runcoach_set_variable(ngx_http_variable_value_t *v,
    const u_char *data, size_t len)
{
    v->valid = (data != NULL);
    v->no_cacheable = 0;
    v->not_found = (data == NULL);
    v->data = (u_char *) data;
    v->len = len;

    return NGX_OK;
}


ngx_int_t
ngx_http_runcoach_add_variables(ngx_conf_t *cf, const ngx_http_variable_t *vars)
{
    ngx_str_t                   name;
    ngx_http_variable_t        *var;
    const ngx_http_variable_t  *v;

    for (v = vars; v->name.len; v++) {
        name = v->name;

        var = ngx_http_add_variable(cf, &name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_post_read_handler(ngx_http_request_t *r)
{
    ngx_http_runcoach_main_conf_t  *rmcf;

    if (r->log_handler != ngx_http_runcoach_log_handler) {
        ngx_http_next_log_handler = r->log_handler;
        r->log_handler = ngx_http_runcoach_log_handler;
    }

    rmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_module);

    if (rmcf->underscores && r == r->main) {
        ngx_http_runcoach_clear_identity(r);
    }

    return NGX_DECLINED;
}


/*
 * A backend may read X_User_Id as X-User-Id, and so does nginx's own
 * $http_x_user_id.  So the header gets the name which proxy_set_header
 * replaces, and no value.
 */

static void
ngx_http_runcoach_clear_identity(ngx_http_request_t *r)
{
    ngx_str_t        *name;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            name = ngx_http_runcoach_identity_name(&h[i].key);

            if (name != NULL) {
                h[i].hash = ngx_hash_key(name->data, name->len);
                h[i].key = *name;
                h[i].lowcase_key = name->data;
                ngx_str_set(&h[i].value, "");
            }
        }
    }
}


/* the name that is meant by one which is written with an underscore */

static ngx_str_t *
ngx_http_runcoach_identity_name(ngx_str_t *key)
{
    u_char       c;
    ngx_uint_t   i, n;

    static ngx_str_t  names[] = {
        ngx_string("x-auth-method"),
        ngx_string("x-auth-subject"),
        ngx_string("x-clerk-user-id"),
        ngx_string("x-user-id"),
        ngx_string("x-upload-key"),
        ngx_null_string
    };

    if (ngx_strlchr(key->data, key->data + key->len, '_') == NULL) {
        return NULL;
    }

    for (i = 0; names[i].len; i++) {

        if (names[i].len != key->len) {
            continue;
        }

        for (n = 0; n < key->len; n++) {
            c = ngx_tolower(key->data[n]);

            if ((c == '_' ? '-' : c) != names[i].data[n]) {
                break;
            }
        }

        if (n == key->len) {
            return &names[i];
        }
    }

    return NULL;
}


/*
 * The error log quotes the request, the upstream and the referrer.  Query
 * strings may carry tokens and signatures, so they are left out.
 */

static u_char *
ngx_http_runcoach_log_handler(ngx_http_request_t *r, ngx_http_request_t *sr,
    u_char *buf, size_t len)
{
    u_char  *p, *dst, *last;

    last = ngx_http_next_log_handler(r, sr, buf, len);
    dst = buf;

    for (p = buf; p < last; p++) {

        while (p < last && *p == '?') {

            while (p < last && *p != ' ' && *p != '"') {
                p++;
            }
        }

        if (p < last) {
            *dst++ = *p;
        }
    }

    return dst;
}


/* an allowed origin is echoed as it is configured, any other is not found */

static ngx_int_t
ngx_http_runcoach_origin_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      *origin;
    ngx_uint_t                      i;
    ngx_table_elt_t                *h;
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_module);
    h = ngx_http_runcoach_header(r, (u_char *) "origin", sizeof("origin") - 1);

    if (rmcf->origins == NULL || h == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    origin = rmcf->origins->elts;

    for (i = 0; i < rmcf->origins->nelts; i++) {

        if (origin[i].len == h->value.len
            && ngx_strncmp(origin[i].data, h->value.data, h->value.len) == 0)
        {
            return ngx_http_runcoach_set_variable(v, origin[i].data,
                                                  origin[i].len);
        }
    }

    return ngx_http_runcoach_set_variable(v, NULL, 0);
}


ngx_table_elt_t *
ngx_http_runcoach_header(ngx_http_request_t *r, u_char *name, size_t len)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    found = NULL;
    part = &r->headers_in.headers.part;

    for ( ;; ) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != len
                || ngx_strncmp(h[i].lowcase_key, name, len) != 0)
            {
                continue;
            }

            if (found != NULL) {
                return NULL;
            }

            found = &h[i];
        }

        part = part->next;

        if (part == NULL) {
            return found;
        }
    }
}


static void *
ngx_http_runcoach_create_main_conf(ngx_conf_t *cf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     rmcf->zone = NULL;
     *     rmcf->sh = NULL;
     *     rmcf->init[] = { NULL };
     *     rmcf->redis = NULL;
     *     rmcf->more = NULL;
     *     rmcf->redis_set = 0;
     *     rmcf->origins = NULL;
     */

    return ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_main_conf_t));
}


static char *
ngx_http_runcoach_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_main_conf_t  *rmcf = conf;

    u_char     *p;
    ssize_t     size;
    ngx_str_t  *value, name, s;

    if (rmcf->zone != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    p = ngx_strlchr(value[1].data, value[1].data + value[1].len, ':');

    if (p == NULL || p == value[1].data) {
        goto invalid;
    }

    name.data = value[1].data;
    name.len = p - value[1].data;

    s.data = p + 1;
    s.len = value[1].data + value[1].len - s.data;

    size = ngx_parse_size(&s);

    if (size == NGX_ERROR) {
        goto invalid;
    }

    if (size < (ssize_t) NGX_HTTP_RUNCOACH_ZONE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is too small in runcoach_zone, "
                           "must be at least %uzk",
                           &value[1], NGX_HTTP_RUNCOACH_ZONE_MIN / 1024);
        return NGX_CONF_ERROR;
    }

    rmcf->zone = ngx_shared_memory_add(cf, &name, size,
                                       &ngx_http_runcoach_module);
    if (rmcf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    rmcf->zone->init = ngx_http_runcoach_zone_init;
    rmcf->zone->data = rmcf;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid zone \"%V\" in runcoach_zone, "
                       "must be like runcoach:16m", &value[1]);

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_runcoach_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_runcoach_main_conf_t  *octx = data;

    size_t                          len;
    ngx_uint_t                      i;
    ngx_slab_pool_t                *shpool;
    ngx_http_runcoach_shctx_t      *sh;
    ngx_http_runcoach_main_conf_t  *rmcf;

    rmcf = shm_zone->data;
    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (octx != NULL) {
        sh = octx->sh;

    } else if (shm_zone->shm.exists) {
        sh = shpool->data;

    } else {
        sh = ngx_slab_calloc(shpool, sizeof(ngx_http_runcoach_shctx_t));
        if (sh == NULL) {
            return NGX_ERROR;
        }

        len = sizeof(" in runcoach_zone \"\"") + shm_zone->shm.name.len;

        shpool->log_ctx = ngx_slab_alloc(shpool, len);
        if (shpool->log_ctx == NULL) {
            return NGX_ERROR;
        }

        ngx_sprintf(shpool->log_ctx, " in runcoach_zone \"%V\"%Z",
                    &shm_zone->shm.name);

        shpool->log_nomem = 0;
        shpool->data = sh;

        sh->version = NGX_HTTP_RUNCOACH_ZONE_VERSION;
    }

    if (sh->version != NGX_HTTP_RUNCOACH_ZONE_VERSION) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "runcoach_zone \"%V\" has layout %ui, this module "
                      "needs %d: restart nginx instead of a reload",
                      &shm_zone->shm.name, sh->version,
                      NGX_HTTP_RUNCOACH_ZONE_VERSION);
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_RUNCOACH_ZONE_PLACES; i++) {

        if (rmcf->init[i] == NULL || sh->data[i] != NULL) {
            continue;
        }

        if (rmcf->init[i](shpool, &sh->data[i]) != NGX_OK) {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "runcoach_zone \"%V\" is too small",
                          &shm_zone->shm.name);
            return NGX_ERROR;
        }
    }

    rmcf->sh = sh;

    return NGX_OK;
}


static char *
ngx_http_runcoach_redis_url(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_main_conf_t  *rmcf = conf;

    char        *rv;
    ngx_int_t    rc;
    ngx_str_t   *value, url, s;
    ngx_msec_t   timeout;

    ngx_http_runcoach_param_t  known[] = {
        { "timeout", &s },
        { NULL, NULL }
    };

    if (rmcf->redis_set) {
        return "is duplicate";
    }

    rmcf->redis_set = 1;

    value = cf->args->elts;
    ngx_str_set(&s, "50ms");

    rv = ngx_http_runcoach_params(cf, 2, known);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    timeout = ngx_parse_time(&s, 0);

    if (timeout == (ngx_msec_t) NGX_ERROR || timeout == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid timeout \"%V\" in runcoach_redis, "
                           "must be a time above 0 like 50ms", &s);
        return NGX_CONF_ERROR;
    }

    url = value[1];
    rc = ngx_http_runcoach_value(cf, &url);

    if (rc == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "runcoach_redis is off: \"%V\" is not set",
                           &value[1]);
        return NGX_CONF_OK;
    }

    if (rc != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    rmcf->redis = ngx_runcoach_redis_create(cf, &url, timeout);

    return rmcf->redis != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* origins are separated by commas or given as several parameters */

static char *
ngx_http_runcoach_cors_origins(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_main_conf_t  *rmcf = conf;

    ngx_int_t     rc;
    ngx_str_t    *value, *origin, *allowed;
    ngx_uint_t    i, n;
    ngx_array_t  *list;

    if (rmcf->origins != NULL) {
        return "is duplicate";
    }

    rmcf->origins = ngx_array_create(cf->pool, 4, sizeof(ngx_str_t));
    if (rmcf->origins == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        rc = ngx_http_runcoach_value(cf, &value[i]);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        list = ngx_http_runcoach_list(cf, &value[i]);
        if (list == NULL) {
            return NGX_CONF_ERROR;
        }

        origin = list->elts;

        for (n = 0; n < list->nelts; n++) {

            if (ngx_http_runcoach_valid_origin(&origin[n]) != NGX_OK) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid origin \"%V\" in "
                                   "runcoach_cors_origins, must be like "
                                   "https://app.example.com, without a path",
                                   &origin[n]);
                return NGX_CONF_ERROR;
            }

            allowed = ngx_array_push(rmcf->origins);
            if (allowed == NULL) {
                return NGX_CONF_ERROR;
            }

            *allowed = origin[n];
        }
    }

    return NGX_CONF_OK;
}


/* "*" is refused too: answers carry credentials */

static ngx_int_t
ngx_http_runcoach_valid_origin(ngx_str_t *origin)
{
    u_char  *p, *last;

    p = origin->data;
    last = p + origin->len;

    if (origin->len > 8 && ngx_strncmp(p, "https://", 8) == 0) {
        p += 8;

    } else if (origin->len > 7 && ngx_strncmp(p, "http://", 7) == 0) {
        p += 7;

    } else {
        return NGX_ERROR;
    }

    for ( /* void */ ; p < last; p++) {

        if (*p <= ' ' || *p >= 0x7f || *p == '/' || *p == '*' || *p == '"') {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_array_t *
ngx_http_runcoach_list(ngx_conf_t *cf, ngx_str_t *value)
{
    u_char       *p, *last, *comma;
    ngx_str_t    *s;
    ngx_array_t  *list;

    list = ngx_array_create(cf->pool, 4, sizeof(ngx_str_t));
    if (list == NULL) {
        return NULL;
    }

    p = value->data;
    last = p + value->len;

    while (p < last) {
        comma = ngx_strlchr(p, last, ',');

        if (comma == NULL) {
            comma = last;
        }

        while (p < comma && *p == ' ') {
            p++;
        }

        if (p < comma) {
            s = ngx_array_push(list);
            if (s == NULL) {
                return NULL;
            }

            s->data = p;
            s->len = comma - p;

            while (s->data[s->len - 1] == ' ') {
                s->len--;
            }
        }

        p = comma + 1;
    }

    return list;
}


static ngx_int_t
ngx_http_runcoach_variables(ngx_conf_t *cf)
{
    return ngx_http_runcoach_add_variables(cf, ngx_http_runcoach_vars);
}


static ngx_int_t
ngx_http_runcoach_init(ngx_conf_t *cf)
{
    ngx_uint_t                      i;
    ngx_http_handler_pt            *h;
    ngx_http_core_srv_conf_t      **cscfp;
    ngx_http_core_main_conf_t      *cmcf;
    ngx_http_runcoach_main_conf_t  *rmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_POST_READ_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_runcoach_post_read_handler;

    rmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_runcoach_module);

    /* which server reads the headers is known before which one is meant */

    cscfp = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {

        if (cscfp[i]->underscores_in_headers == 1
            || cscfp[i]->ignore_invalid_headers == 0)
        {
            rmcf->underscores = 1;
        }
    }

    if (rmcf->redis != NULL) {
        ngx_http_runcoach_set_resolver(cf, rmcf->redis);
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                       i;
    ngx_runcoach_redis_t           **more;
    ngx_http_runcoach_main_conf_t   *rmcf;

    rmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_runcoach_module);

    if (rmcf == NULL) {
        return;
    }

    if (rmcf->redis != NULL) {
        ngx_runcoach_redis_close(rmcf->redis);
    }

    if (rmcf->more == NULL) {
        return;
    }

    more = rmcf->more->elts;

    for (i = 0; i < rmcf->more->nelts; i++) {
        ngx_runcoach_redis_close(more[i]);
    }
}
