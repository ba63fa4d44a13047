
/*
 * runcoach_store, and the local store: a location with
 * runcoach_presign_verify takes only requests signed for it, and serves
 * objects with an ETag that every PUT changes; storing and deleting them is
 * left to the dav module.
 */


#include "ngx_http_runcoach_store.h"


typedef struct {
    ngx_array_t                 stores;       /* ngx_http_runcoach_store_t */
} ngx_http_runcoach_store_main_conf_t;


typedef struct {
    ngx_str_t                   name;
    ngx_http_runcoach_store_t  *store;
} ngx_http_runcoach_store_loc_conf_t;


/* why a request was refused, in the words of S3 */

typedef struct {
    const char                 *error;
} ngx_http_runcoach_store_ctx_t;


typedef struct {
    runcoach_sigv4_rc_e         rc;
    ngx_int_t                   status;
    const char                 *error;
} ngx_http_runcoach_store_answer_t;


static ngx_int_t ngx_http_runcoach_store_access(ngx_http_request_t *r);
static int ngx_http_runcoach_store_header(void *data,
    const runcoach_str_t *name, runcoach_str_t *value);
static ngx_int_t ngx_http_runcoach_store_refuse(ngx_http_request_t *r,
    runcoach_sigv4_rc_e rc);
static ngx_int_t ngx_http_runcoach_store_content(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_open(ngx_http_request_t *r,
    ngx_str_t *path, ngx_open_file_info_t *of);
static ngx_int_t ngx_http_runcoach_store_etag(ngx_http_request_t *r,
    ngx_file_info_t *fi);
static ngx_int_t ngx_http_runcoach_store_send(ngx_http_request_t *r,
    ngx_str_t *path, ngx_open_file_info_t *of);
static ngx_int_t ngx_http_runcoach_store_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void ngx_http_runcoach_store_cleanup(void *data);

static void *ngx_http_runcoach_store_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_runcoach_store_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_store_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_runcoach_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_store_endpoint(ngx_conf_t *cf,
    ngx_http_runcoach_store_t *store, ngx_str_t *endpoint, ngx_str_t *bucket);
static ngx_int_t ngx_http_runcoach_store_valid_name(ngx_str_t *name);
static char *ngx_http_runcoach_presign_verify(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_runcoach_store_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_store_init(ngx_conf_t *cf);


static ngx_command_t  ngx_http_runcoach_store_commands[] = {

    { ngx_string("runcoach_store"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_runcoach_store,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("runcoach_presign_verify"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_runcoach_presign_verify,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_store_module_ctx = {
    ngx_http_runcoach_store_variables,        /* preconfiguration */
    ngx_http_runcoach_store_init,             /* postconfiguration */

    ngx_http_runcoach_store_create_main_conf, /* create main configuration */
    NULL,                                     /* init main configuration */

    NULL,                                     /* create server configuration */
    NULL,                                     /* merge server configuration */

    ngx_http_runcoach_store_create_loc_conf,  /* create location conf */
    ngx_http_runcoach_store_merge_loc_conf    /* merge location conf */
};


ngx_module_t  ngx_http_runcoach_store_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_store_module_ctx,   /* module context */
    ngx_http_runcoach_store_commands,      /* module directives */
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


static ngx_http_variable_t  ngx_http_runcoach_store_vars[] = {

    { ngx_string("runcoach_store_error"), NULL,
      ngx_http_runcoach_store_error_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


/* R2's status codes: an expired URL is 400 where S3 has 403 */

static const ngx_http_runcoach_store_answer_t
    ngx_http_runcoach_store_answers[] =
{
    { RUNCOACH_SIGV4_EXPIRED, NGX_HTTP_BAD_REQUEST, "ExpiredRequest" },
    { RUNCOACH_SIGV4_BAD_KEY, NGX_HTTP_BAD_REQUEST, "InvalidObjectName" },
    { RUNCOACH_SIGV4_BAD_EXPIRES, NGX_HTTP_BAD_REQUEST,
      "AuthorizationQueryParametersError" },
    { RUNCOACH_SIGV4_TOO_LARGE, NGX_HTTP_BAD_REQUEST,
      "AuthorizationQueryParametersError" },
    { RUNCOACH_SIGV4_MISMATCH, NGX_HTTP_FORBIDDEN, "SignatureDoesNotMatch" },
    { RUNCOACH_SIGV4_ERROR, NGX_HTTP_INTERNAL_SERVER_ERROR, "InternalError" },
    { RUNCOACH_SIGV4_OK, NGX_HTTP_FORBIDDEN, "AccessDenied" }
};


ngx_http_runcoach_store_t *
ngx_http_runcoach_store_find(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                            i;
    ngx_http_runcoach_store_t            *store;
    ngx_http_runcoach_store_main_conf_t  *smcf;

    smcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_store_module);
    store = smcf->stores.elts;

    for (i = 0; i < smcf->stores.nelts; i++) {

        if (store[i].name.len == name->len
            && ngx_strncmp(store[i].name.data, name->data, name->len) == 0)
        {
            return &store[i];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_runcoach_store_access(ngx_http_request_t *r)
{
    u_char                              *args;
    runcoach_sigv4_rc_e                  rc;
    runcoach_sigv4_signed_t              request;
    ngx_http_runcoach_store_t           *store;
    ngx_http_runcoach_store_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_store_module);
    store = slcf->store;

    if (store == NULL) {
        return NGX_DECLINED;
    }

    if (!store->on) {
        return ngx_http_runcoach_store_refuse(r, RUNCOACH_SIGV4_DENIED);
    }

    request.method.data = r->method_name.data;
    request.method.len = r->method_name.len;

    /* the path as it was signed, before anything was decoded or merged */

    request.path.data = r->unparsed_uri.data;
    args = ngx_strlchr(r->unparsed_uri.data,
                       r->unparsed_uri.data + r->unparsed_uri.len, '?');
    request.path.len = args ? (size_t) (args - r->unparsed_uri.data)
                            : r->unparsed_uri.len;

    request.args.data = r->args.data;
    request.args.len = r->args.len;
    request.base = store->base;
    request.now = ngx_time();
    request.header = ngx_http_runcoach_store_header;
    request.data = r;

    rc = runcoach_sigv4_verify(&store->cred, store->day, &request);

    if (rc != RUNCOACH_SIGV4_OK) {
        return ngx_http_runcoach_store_refuse(r, rc);
    }

    return NGX_OK;
}


static int
ngx_http_runcoach_store_header(void *data, const runcoach_str_t *name,
    runcoach_str_t *value)
{
    ngx_http_request_t  *r = data;

    ngx_table_elt_t  *h;

    h = ngx_http_runcoach_header(r, (u_char *) name->data, name->len);

    if (h == NULL) {
        return 0;
    }

    value->data = h->value.data;
    value->len = h->value.len;

    return 1;
}


static ngx_int_t
ngx_http_runcoach_store_refuse(ngx_http_request_t *r, runcoach_sigv4_rc_e rc)
{
    ngx_http_runcoach_store_ctx_t           *ctx;
    const ngx_http_runcoach_store_answer_t  *a;

    ctx = ngx_http_runcoach_ctx_add(r, &ngx_http_runcoach_store_module,
                                    ngx_http_runcoach_store_cleanup,
                                    sizeof(ngx_http_runcoach_store_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "request to the local store refused: %s",
                  runcoach_sigv4_reason(rc));

    a = ngx_http_runcoach_store_answers;

    while (a->rc != rc && a->rc != RUNCOACH_SIGV4_OK) {
        a++;
    }

    ctx->error = a->error;

    return a->status;
}


static ngx_int_t
ngx_http_runcoach_store_content(ngx_http_request_t *r)
{
    u_char                *last;
    size_t                 root;
    ngx_int_t              rc;
    ngx_str_t              path;
    ngx_file_info_t        fi;
    ngx_open_file_info_t   of;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_DECLINED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    last = ngx_http_map_uri_to_path(r, &path, &root, 0);
    if (last == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    path.len = last - path.data;

    rc = ngx_http_runcoach_store_open(r, &path, &of);

    if (rc != NGX_OK) {
        return rc;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = of.size;
    r->headers_out.last_modified_time = of.mtime;
    r->allow_ranges = 1;

    if (ngx_http_set_content_type(r) != NGX_OK
        || ngx_fd_info(of.fd, &fi) == NGX_FILE_ERROR
        || ngx_http_runcoach_store_etag(r, &fi) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_runcoach_store_send(r, &path, &of);
}


static ngx_int_t
ngx_http_runcoach_store_open(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_memzero(of, sizeof(ngx_open_file_info_t));

    of->read_ahead = clcf->read_ahead;
    of->directio = clcf->directio;

    if (ngx_http_set_disable_symlinks(r, clcf, path, of) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* never a cached one: the ETag must be of the object as it is now */

    if (ngx_open_cached_file(NULL, path, of, r->pool) == NGX_OK) {
        return of->is_file ? NGX_OK : NGX_HTTP_NOT_FOUND;
    }

    if (of->err == NGX_ENOENT
        || of->err == NGX_ENOTDIR
        || of->err == NGX_ENAMETOOLONG)
    {
        return NGX_HTTP_NOT_FOUND;
    }

    ngx_log_error(NGX_LOG_CRIT, r->connection->log, of->err,
                  "%s \"%s\" failed", of->failed, path->data);

    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/*
 * The time of change, since a client may set that of modification by a Date;
 * the rename at the end of a PUT renews it.  Two PUTs may fall into one second,
 * and a file system may use an inode again: only with the nanoseconds do they
 * tell objects apart.
 */

static ngx_int_t
ngx_http_runcoach_store_etag(ngx_http_request_t *r, ngx_file_info_t *fi)
{
    u_char           *p;
    ngx_table_elt_t  *etag;

    p = ngx_pnalloc(r->pool, sizeof("\"---\"") - 1 + 4 * 16);
    if (p == NULL) {
        return NGX_ERROR;
    }

    etag = ngx_list_push(&r->headers_out.headers);
    if (etag == NULL) {
        return NGX_ERROR;
    }

    ngx_http_runcoach_header_init(etag);

    etag->hash = 1;
    ngx_str_set(&etag->key, "ETag");
    etag->value.data = p;
    etag->value.len = ngx_sprintf(p, "\"%xL-%xL-%xL-%xL\"",
                                  (int64_t) fi->st_ctim.tv_sec,
                                  (int64_t) fi->st_ctim.tv_nsec,
                                  (int64_t) ngx_file_uniq(fi),
                                  (int64_t) ngx_file_size(fi))
                      - p;

    r->headers_out.etag = etag;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_store_send(ngx_http_request_t *r, ngx_str_t *path,
    ngx_open_file_info_t *of)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->file = ngx_pcalloc(r->pool, sizeof(ngx_file_t));
    if (b->file == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->file_pos = 0;
    b->file_last = of->size;
    b->in_file = of->size != 0;
    b->last_buf = (r == r->main);
    b->last_in_chain = 1;

    b->file->fd = of->fd;
    b->file->name = *path;
    b->file->log = r->connection->log;
    b->file->directio = of->is_directio;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/* dav answers a PUT with 201 or 204 and no ETag, S3 with 200 and the ETag */

static ngx_int_t
ngx_http_runcoach_store_header_filter(ngx_http_request_t *r)
{
    size_t                               root;
    ngx_str_t                            path;
    ngx_file_info_t                      fi;
    ngx_http_runcoach_store_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_store_module);

    if (slcf->store == NULL || r->method != NGX_HTTP_PUT
        || (r->headers_out.status != NGX_HTTP_CREATED
            && r->headers_out.status != NGX_HTTP_NO_CONTENT))
    {
        return ngx_http_next_header_filter(r);
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = 0;
    ngx_http_clear_location(r);

    if (ngx_http_map_uri_to_path(r, &path, &root, 0) != NULL
        && ngx_file_info(path.data, &fi) != NGX_FILE_ERROR
        && ngx_http_runcoach_store_etag(r, &fi) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_runcoach_store_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_runcoach_store_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_store_module,
                                    ngx_http_runcoach_store_cleanup);
    if (ctx == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    return ngx_http_runcoach_set_variable(v, (u_char *) ctx->error,
                                          ngx_strlen(ctx->error));
}


/* nothing to do: it is by this handler that the context is found again */

static void
ngx_http_runcoach_store_cleanup(void *data)
{
}


static void *
ngx_http_runcoach_store_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_store_main_conf_t  *smcf;

    smcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_store_main_conf_t));
    if (smcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&smcf->stores, cf->pool, 2,
                       sizeof(ngx_http_runcoach_store_t))
        != NGX_OK)
    {
        return NULL;
    }

    return smcf;
}


static void *
ngx_http_runcoach_store_create_loc_conf(ngx_conf_t *cf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     slcf->name = { 0, NULL };
     *     slcf->store = NULL;
     */

    return ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_store_loc_conf_t));
}


/* inherited, so that an "if" or a "limit_except" inside opens nothing */

static char *
ngx_http_runcoach_store_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_runcoach_store_loc_conf_t  *prev = parent;
    ngx_http_runcoach_store_loc_conf_t  *conf = child;

    if (conf->name.len == 0) {
        conf->name = prev->name;
    }

    if (conf->name.len == 0) {
        return NGX_CONF_OK;
    }

    conf->store = ngx_http_runcoach_store_find(cf, &conf->name);

    if (conf->store == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown store \"%V\" in runcoach_presign_verify, must "
                      "be the name of a runcoach_store", &conf->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_store(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_store_main_conf_t  *smcf = conf;

    char                       *rv;
    ngx_str_t                  *value, region, endpoint, account, bucket,
                                access_key, secret_key, token;
    const char                 *missing;
    ngx_http_runcoach_store_t  *store;

    ngx_http_runcoach_param_t  known[] = {
        { "endpoint", &endpoint },
        { "account", &account },
        { "bucket", &bucket },
        { "access_key", &access_key },
        { "secret_key", &secret_key },
        { "session_token", &token },
        { "region", &region },
        { NULL, NULL }
    };

    value = cf->args->elts;

    if (ngx_http_runcoach_store_find(cf, &value[1]) != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate runcoach_store \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    store = ngx_array_push(&smcf->stores);
    if (store == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(store, sizeof(ngx_http_runcoach_store_t));
    store->name = value[1];

    ngx_str_null(&endpoint);
    ngx_str_null(&account);
    ngx_str_set(&bucket, "fit-files");
    ngx_str_null(&access_key);
    ngx_str_null(&secret_key);
    ngx_str_null(&token);
    ngx_str_set(&region, "auto");

    rv = ngx_http_runcoach_params(cf, 2, known);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (endpoint.len == 0 && account.len == 0 && access_key.len == 0
        && secret_key.len == 0)
    {
        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "runcoach_store \"%V\" is off: neither endpoint=, "
                           "account=, access_key= nor secret_key= is set",
                           &value[1]);
        return NGX_CONF_OK;
    }

    missing = (endpoint.len == 0 && account.len == 0) ? "endpoint= or account="
              : access_key.len == 0 ? "access_key="
              : secret_key.len == 0 ? "secret_key="
              : NULL;

    if (missing != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "runcoach_store \"%V\" has no %s: it must be set "
                           "when the others are", &value[1], missing);
        return NGX_CONF_ERROR;
    }

    if (endpoint.len == 0) {

        if (ngx_http_runcoach_store_valid_name(&account) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid account \"%V\" in runcoach_store "
                               "\"%V\", must be the account's id, like "
                               "0123456789abcdef or 0123456789abcdef.eu",
                               &account, &value[1]);
            return NGX_CONF_ERROR;
        }

        endpoint.len = sizeof("https://.r2.cloudflarestorage.com") - 1
                       + account.len;
        endpoint.data = ngx_pnalloc(cf->pool, endpoint.len);
        if (endpoint.data == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_sprintf(endpoint.data, "https://%V.r2.cloudflarestorage.com",
                    &account);
    }

    rv = ngx_http_runcoach_store_endpoint(cf, store, &endpoint, &bucket);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    store->day = ngx_pcalloc(cf->pool, sizeof(runcoach_sigv4_day_key_t));
    if (store->day == NULL) {
        return NGX_CONF_ERROR;
    }

    store->cred.access_key.data = access_key.data;
    store->cred.access_key.len = access_key.len;
    store->cred.secret_key.data = secret_key.data;
    store->cred.secret_key.len = secret_key.len;
    store->cred.session_token.data = token.data;
    store->cred.session_token.len = token.len;
    store->cred.region.data = region.data;
    store->cred.region.len = region.len;
    store->on = 1;

    return NGX_CONF_OK;
}


/* https://host[:port][/path]; the default port is not part of what is signed */

static char *
ngx_http_runcoach_store_endpoint(ngx_conf_t *cf,
    ngx_http_runcoach_store_t *store, ngx_str_t *endpoint, ngx_str_t *bucket)
{
    u_char      *p, *last, *host, *slash;
    size_t       n;
    const char  *port;

    p = endpoint->data;
    last = p + endpoint->len;

    while (last > p && last[-1] == '/') {
        last--;
    }

    if (last - p > 8 && ngx_strncasecmp(p, (u_char *) "https://", 8) == 0) {
        n = 5;
        port = ":443";

    } else if (last - p > 7 && ngx_strncasecmp(p, (u_char *) "http://", 7) == 0)
    {
        n = 4;
        port = ":80";

    } else {
        goto invalid;
    }

    host = p + n + 3;

    for (p = host; p < last; p++) {

        if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\\' || *p == '@'
            || *p == '?' || *p == '#' || *p == '%')
        {
            goto invalid;
        }
    }

    slash = ngx_strlchr(host, last, '/');

    if (slash == NULL) {
        slash = last;
    }

    store->scheme.data = endpoint->data;
    store->scheme.len = n;

    store->host.data = host;
    store->host.len = slash - host;

    n = ngx_strlen(port);

    if (store->host.len > n && ngx_strncmp(slash - n, port, n) == 0) {
        store->host.len -= n;
    }

    if (store->host.len == 0) {
        goto invalid;
    }

    ngx_strlow(endpoint->data, endpoint->data, slash - endpoint->data);

    if (ngx_http_runcoach_store_valid_name(bucket) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid bucket \"%V\" in runcoach_store \"%V\", "
                           "must be 3 to 63 of a-z, 0-9, \"-\" and \".\"",
                           bucket, &store->name);
        return NGX_CONF_ERROR;
    }

    /* some paste the URL of the bucket, which the dashboard shows as well */

    n = last - slash;

    if (n > bucket->len && last[-1 - (ssize_t) bucket->len] == '/'
        && ngx_strncmp(last - bucket->len, bucket->data, bucket->len) == 0)
    {
        last -= 1 + bucket->len;
    }

    store->base.len = last - slash + 1 + bucket->len;

    p = ngx_pnalloc(cf->pool, store->base.len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    store->base.data = p;
    ngx_sprintf(p, "%*s/%V", (size_t) (last - slash), slash, bucket);

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid endpoint \"%V\" in runcoach_store \"%V\", must "
                       "be like https://<account>.r2.cloudflarestorage.com",
                       endpoint, &store->name);

    return NGX_CONF_ERROR;
}


/* of a bucket, or of an account: both become part of a host or of a path */

static ngx_int_t
ngx_http_runcoach_store_valid_name(ngx_str_t *name)
{
    u_char  *p;
    size_t   i;

    if (name->len < 3 || name->len > 63 || name->data[0] == '.') {
        return NGX_ERROR;
    }

    p = name->data;

    for (i = 0; i < name->len; i++) {

        if ((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= '0' && p[i] <= '9')
            || p[i] == '-' || p[i] == '.')
        {
            continue;
        }

        return NGX_ERROR;
    }

    return NGX_OK;
}


static char *
ngx_http_runcoach_presign_verify(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_runcoach_store_loc_conf_t  *slcf = conf;

    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    if (slcf->name.len != 0) {
        return "is duplicate";
    }

    value = cf->args->elts;
    slcf->name = value[1];

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_runcoach_store_content;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_runcoach_store_variables(ngx_conf_t *cf)
{
    return ngx_http_runcoach_add_variables(cf, ngx_http_runcoach_store_vars);
}


static ngx_int_t
ngx_http_runcoach_store_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_runcoach_store_access;

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_runcoach_store_header_filter;

    return NGX_OK;
}
