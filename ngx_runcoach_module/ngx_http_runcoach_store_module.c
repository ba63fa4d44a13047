
/*
 * runcoach_store, and the local store: a location with
 * runcoach_presign_verify takes only requests signed for it, and keeps
 * objects with an ETag that every PUT changes.  What a PUT says of its bytes
 * is checked against what was received, before anyone can read it; deleting
 * is left to the dav module.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include "ngx_http_runcoach_store.h"

#include <openssl/crypto.h>
#include <openssl/md5.h>


#define NGX_HTTP_RUNCOACH_STORE_ACCESS  0640


typedef struct {
    ngx_array_t                 stores;       /* ngx_http_runcoach_store_t */
} ngx_http_runcoach_store_main_conf_t;


typedef struct {
    ngx_str_t                   name;
    ngx_http_runcoach_store_t  *store;
} ngx_http_runcoach_store_loc_conf_t;


/* a PUT while its body arrives; the state is hashed with each buffer */

typedef struct {
    off_t                       size;
    SHA256_CTX                  sha256;
    MD5_CTX                     md5;
    u_char                      want_sha256[SHA256_DIGEST_LENGTH];
    u_char                      want_md5[MD5_DIGEST_LENGTH];
    unsigned                    has_sha256:1;
    unsigned                    has_md5:1;
    unsigned                    create:1;     /* if-none-match: * */
} ngx_http_runcoach_store_put_t;


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
static ngx_int_t ngx_http_runcoach_store_fail(ngx_http_request_t *r,
    ngx_int_t status, const char *error);
static ngx_int_t ngx_http_runcoach_store_content(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_get(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_open(ngx_http_request_t *r,
    ngx_str_t *path, ngx_open_file_info_t *of);
static ngx_int_t ngx_http_runcoach_store_etag(ngx_http_request_t *r,
    ngx_file_info_t *fi);
static ngx_int_t ngx_http_runcoach_store_send(ngx_http_request_t *r,
    ngx_str_t *path, ngx_open_file_info_t *of);
static ngx_int_t ngx_http_runcoach_store_override(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_argument(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);

static ngx_int_t ngx_http_runcoach_store_put(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_conditions(ngx_http_request_t *r,
    ngx_http_runcoach_store_put_t *put);
static ngx_int_t ngx_http_runcoach_store_digests(ngx_http_request_t *r,
    ngx_http_runcoach_store_put_t *put);
static ngx_int_t ngx_http_runcoach_store_digest(ngx_http_request_t *r,
    const char *name, u_char *digest, size_t size);
static ngx_int_t ngx_http_runcoach_store_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static void ngx_http_runcoach_store_put_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_received(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_store_is_intact(ngx_http_request_t *r,
    ngx_http_runcoach_store_put_t *put);
static ngx_int_t ngx_http_runcoach_store_create(ngx_http_request_t *r,
    ngx_str_t *path);
static ngx_int_t ngx_http_runcoach_store_link(ngx_http_request_t *r,
    u_char *from, ngx_str_t *path);
static ngx_int_t ngx_http_runcoach_store_replace(ngx_http_request_t *r,
    ngx_str_t *path);
static ngx_int_t ngx_http_runcoach_store_sync(ngx_http_request_t *r,
    ngx_str_t *path);
static ngx_int_t ngx_http_runcoach_store_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void ngx_http_runcoach_store_cleanup(void *data);

static void *ngx_http_runcoach_store_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_runcoach_store_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_store_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_runcoach_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_store_missing(ngx_conf_t *cf, ngx_str_t *name,
    const char *missing, size_t set);
static char *ngx_http_runcoach_store_endpoint(ngx_conf_t *cf,
    ngx_http_runcoach_store_t *store, ngx_str_t *endpoint, ngx_str_t *account,
    ngx_str_t *jurisdiction, ngx_str_t *bucket, ngx_str_t *style);
static void ngx_http_runcoach_store_string(runcoach_str_t *dst,
    ngx_str_t *src);
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


static ngx_http_request_body_filter_pt  ngx_http_next_request_body_filter;


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

    rc = runcoach_sigv4_verify(&store->cred, store->verified, &request);

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
    const ngx_http_runcoach_store_answer_t  *a;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "request to the local store refused: %s",
                  runcoach_sigv4_reason(rc));

    a = ngx_http_runcoach_store_answers;

    while (a->rc != rc && a->rc != RUNCOACH_SIGV4_OK) {
        a++;
    }

    return ngx_http_runcoach_store_fail(r, a->status, a->error);
}


static ngx_int_t
ngx_http_runcoach_store_fail(ngx_http_request_t *r, ngx_int_t status,
    const char *error)
{
    ngx_http_runcoach_store_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_add(r, &ngx_http_runcoach_store_module,
                                    ngx_http_runcoach_store_cleanup,
                                    sizeof(ngx_http_runcoach_store_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->error = error;

    return status;
}


static ngx_int_t
ngx_http_runcoach_store_content(ngx_http_request_t *r)
{
    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return ngx_http_runcoach_store_get(r);
    }

    if (r->method == NGX_HTTP_PUT) {
        return ngx_http_runcoach_store_put(r);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_runcoach_store_get(ngx_http_request_t *r)
{
    u_char                *last;
    size_t                 root;
    ngx_int_t              rc;
    ngx_str_t              path;
    ngx_file_info_t        fi;
    ngx_open_file_info_t   of;

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

    rc = ngx_http_runcoach_store_override(r);

    if (rc != NGX_OK) {
        return rc;
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


/* what the answer shall say of the object, if that was signed */

static ngx_int_t
ngx_http_runcoach_store_override(ngx_http_request_t *r)
{
    ngx_int_t         rc;
    ngx_str_t         value;
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    static const struct {
        const char  *argument;
        ngx_str_t    header;
    } overrides[] = {
        { "response-content-type", ngx_null_string },
        { "response-content-disposition", ngx_string("Content-Disposition") },
        { "response-cache-control", ngx_string("Cache-Control") },
        { "response-content-language", ngx_string("Content-Language") },
        { "response-content-encoding", ngx_string("Content-Encoding") },
        { NULL, ngx_null_string }
    };

    for (i = 0; overrides[i].argument != NULL; i++) {
        rc = ngx_http_runcoach_store_argument(r, overrides[i].argument, &value);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        if (overrides[i].header.len == 0) {
            r->headers_out.content_type = value;
            r->headers_out.content_type_len = value.len;
            r->headers_out.content_type_lowcase = NULL;
            r->headers_out.charset.len = 0;
            continue;
        }

        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_http_runcoach_header_init(h);

        h->hash = 1;
        h->key = overrides[i].header;
        h->value = value;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_store_argument(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    u_char      *src, *dst;
    ngx_str_t    arg;
    ngx_uint_t   i;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &arg) != NGX_OK) {
        return NGX_DECLINED;
    }

    dst = ngx_pnalloc(r->pool, arg.len + 1);
    if (dst == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    value->data = dst;
    src = arg.data;

    ngx_unescape_uri(&dst, &src, arg.len, 0);

    value->len = dst - value->data;

    for (i = 0; i < value->len; i++) {

        if (value->data[i] < ' ' || value->data[i] == 0x7f) {
            return ngx_http_runcoach_store_fail(r, NGX_HTTP_BAD_REQUEST,
                                                "InvalidArgument");
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_store_put(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_runcoach_store_put_t  *put;

    if (r->headers_in.content_length_n < 0) {
        return ngx_http_runcoach_store_fail(r, NGX_HTTP_LENGTH_REQUIRED,
                                            "MissingContentLength");
    }

    put = ngx_pcalloc(r->pool, sizeof(ngx_http_runcoach_store_put_t));
    if (put == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_runcoach_store_conditions(r, put);

    if (rc == NGX_OK) {
        rc = ngx_http_runcoach_store_digests(r, put);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (!SHA256_Init(&put->sha256) || !MD5_Init(&put->md5)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_set_ctx(r, put, ngx_http_runcoach_store_module);

    r->request_body_in_file_only = 1;
    r->request_body_in_persistent_file = 1;
    r->request_body_in_clean_file = 1;
    r->request_body_file_group_access = 1;
    r->request_body_file_log_level = 0;

    rc = ngx_http_read_client_request_body(r,
                                          ngx_http_runcoach_store_put_handler);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


/*
 * What would not be heeded is refused: a client that asks for it relies on it.
 * An object that is there already is refused at once, too, but what counts is
 * how the file gets its name.
 */

static ngx_int_t
ngx_http_runcoach_store_conditions(ngx_http_request_t *r,
    ngx_http_runcoach_store_put_t *put)
{
    size_t            root;
    ngx_str_t         path;
    ngx_uint_t        i;
    ngx_file_info_t   fi;
    ngx_table_elt_t  *h;

    static const char *const  unheeded[] = {
        "content-range", "if-match", "if-modified-since",
        "if-unmodified-since", "x-amz-checksum-crc32",
        "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme",
        "x-amz-checksum-sha1", "x-amz-copy-source", NULL
    };

    for (i = 0; unheeded[i] != NULL; i++) {

        if (ngx_http_runcoach_header(r, (u_char *) unheeded[i],
                                     ngx_strlen(unheeded[i]))
            != NULL)
        {
            goto unheeded;
        }
    }

    h = r->headers_in.if_none_match;

    if (h == NULL) {
        return NGX_OK;
    }

    if (h->value.len != 1 || h->value.data[0] != '*') {
        goto unheeded;
    }

    put->create = 1;

    if (ngx_http_map_uri_to_path(r, &path, &root, 0) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_file_info(path.data, &fi) != NGX_FILE_ERROR) {
        return ngx_http_runcoach_store_fail(r, NGX_HTTP_PRECONDITION_FAILED,
                                            "PreconditionFailed");
    }

    return NGX_OK;

unheeded:

    return ngx_http_runcoach_store_fail(r, NGX_HTTP_NOT_IMPLEMENTED,
                                        "NotImplemented");
}


static ngx_int_t
ngx_http_runcoach_store_digests(ngx_http_request_t *r,
    ngx_http_runcoach_store_put_t *put)
{
    ngx_int_t  rc;

    rc = ngx_http_runcoach_store_digest(r, "x-amz-checksum-sha256",
                                        put->want_sha256,
                                        sizeof(put->want_sha256));
    if (rc == NGX_OK) {
        put->has_sha256 = 1;

    } else if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_runcoach_store_digest(r, "content-md5", put->want_md5,
                                        sizeof(put->want_md5));
    if (rc == NGX_OK) {
        put->has_md5 = 1;

    } else if (rc != NGX_DECLINED) {
        return rc;
    }

    return NGX_OK;
}


/* NGX_DECLINED: nothing is said */

static ngx_int_t
ngx_http_runcoach_store_digest(ngx_http_request_t *r, const char *name,
    u_char *digest, size_t size)
{
    u_char            buf[runcoach_base64_decoded_max(64)];
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    found = NULL;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != ngx_strlen(name)
                || ngx_strncmp(h[i].lowcase_key, name, h[i].key.len) != 0)
            {
                continue;
            }

            if (found != NULL || h[i].value.len > 64
                || runcoach_base64_decode_any(buf, h[i].value.data,
                                              h[i].value.len)
                   != (ssize_t) size)
            {
                return ngx_http_runcoach_store_fail(r, NGX_HTTP_BAD_REQUEST,
                                                    "InvalidDigest");
            }

            found = &h[i];
            ngx_memcpy(digest, buf, size);
        }
    }

    return found != NULL ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_runcoach_store_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    size_t                          n;
    ngx_buf_t                      *b;
    ngx_chain_t                    *cl;
    ngx_http_runcoach_store_put_t  *put;

    put = ngx_http_get_module_ctx(r, ngx_http_runcoach_store_module);

    for (cl = put != NULL ? in : NULL; cl; cl = cl->next) {
        b = cl->buf;
        n = b->last - b->pos;

        put->size += n;

        if ((put->has_sha256 && !SHA256_Update(&put->sha256, b->pos, n))
            || (put->has_md5 && !MD5_Update(&put->md5, b->pos, n)))
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_next_request_body_filter(r, in);
}


static void
ngx_http_runcoach_store_put_handler(ngx_http_request_t *r)
{
    ngx_http_finalize_request(r, ngx_http_runcoach_store_received(r));
}


static ngx_int_t
ngx_http_runcoach_store_received(ngx_http_request_t *r)
{
    size_t                          root;
    ngx_int_t                       rc;
    ngx_str_t                       path;
    ngx_file_info_t                 fi;
    ngx_http_runcoach_store_put_t  *put;

    put = ngx_http_get_module_ctx(r, ngx_http_runcoach_store_module);

    if (r->request_body == NULL || r->request_body->temp_file == NULL
        || ngx_http_map_uri_to_path(r, &path, &root, 0) == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    path.len = ngx_strlen(path.data);

    rc = ngx_http_runcoach_store_is_intact(r, put);

    if (rc != NGX_OK) {
        return rc;
    }

    if (fsync(r->request_body->temp_file->file.fd) == -1) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      "could not sync an object");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* an object cannot be the directory of another one */

    if (ngx_file_info(path.data, &fi) == NGX_FILE_ERROR
        ? ngx_errno == NGX_ENOTDIR : ngx_is_dir(&fi))
    {
        return ngx_http_runcoach_store_fail(r, NGX_HTTP_CONFLICT,
                                            "InvalidRequest");
    }

    rc = put->create ? ngx_http_runcoach_store_create(r, &path)
                     : ngx_http_runcoach_store_replace(r, &path);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_runcoach_store_sync(r, &path) != NGX_OK
        || ngx_file_info(path.data, &fi) == NGX_FILE_ERROR
        || ngx_http_runcoach_store_etag(r, &fi) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* the conditions were those of the PUT, not of its answer */

    r->disable_not_modified = 1;
    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = 0;
    r->header_only = 1;

    return ngx_http_send_header(r);
}


static ngx_int_t
ngx_http_runcoach_store_is_intact(ngx_http_request_t *r,
    ngx_http_runcoach_store_put_t *put)
{
    u_char  sha256[SHA256_DIGEST_LENGTH], md5[MD5_DIGEST_LENGTH];

    if (put->size != r->headers_in.content_length_n) {
        return ngx_http_runcoach_store_fail(r, NGX_HTTP_BAD_REQUEST,
                                            "IncompleteBody");
    }

    if (!SHA256_Final(sha256, &put->sha256) || !MD5_Final(md5, &put->md5)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if ((put->has_sha256
         && CRYPTO_memcmp(sha256, put->want_sha256, sizeof(sha256)) != 0)
        || (put->has_md5
            && CRYPTO_memcmp(md5, put->want_md5, sizeof(md5)) != 0))
    {
        return ngx_http_runcoach_store_fail(r, NGX_HTTP_BAD_REQUEST,
                                            "BadDigest");
    }

    return NGX_OK;
}


/*
 * A link, unlike a rename, fails if the name is taken: of two that come at
 * once one gets it, whichever worker they are in.
 */

static ngx_int_t
ngx_http_runcoach_store_create(ngx_http_request_t *r, ngx_str_t *path)
{
    u_char           *from, *copy;
    ngx_int_t         rc;
    ngx_copy_file_t   cf;

    from = r->request_body->temp_file->file.name.data;

    (void) ngx_change_file_access(from, NGX_HTTP_RUNCOACH_STORE_ACCESS);

    rc = ngx_http_runcoach_store_link(r, from, path);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    /* the temporary file is on another file system */

    copy = ngx_pnalloc(r->pool, path->len + 1 + 2 * NGX_INT64_LEN + 1);
    if (copy == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_sprintf(copy, "%V.%P.%uA%Z", path, ngx_pid, r->connection->number);

    cf.size = -1;
    cf.buf_size = 0;
    cf.access = NGX_HTTP_RUNCOACH_STORE_ACCESS;
    cf.time = -1;
    cf.log = r->connection->log;

    if (ngx_copy_file(from, copy, &cf) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_runcoach_store_link(r, copy, path);

    (void) ngx_delete_file(copy);

    return rc == NGX_DECLINED ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
}


/* NGX_DECLINED: not on one file system */

static ngx_int_t
ngx_http_runcoach_store_link(ngx_http_request_t *r, u_char *from,
    ngx_str_t *path)
{
    ngx_err_t  err;

    if (link((char *) from, (char *) path->data) == 0) {
        return NGX_OK;
    }

    err = ngx_errno;

    if (err == NGX_ENOENT) {
        err = ngx_create_full_path(path->data,
                            ngx_dir_access(NGX_HTTP_RUNCOACH_STORE_ACCESS));

        if (err == 0 || err == NGX_EEXIST) {
            err = 0;

            if (link((char *) from, (char *) path->data) == -1) {
                err = ngx_errno;
            }
        }

        if (err == 0) {
            return NGX_OK;
        }
    }

    if (err == NGX_EEXIST) {
        return ngx_http_runcoach_store_fail(r, NGX_HTTP_PRECONDITION_FAILED,
                                            "PreconditionFailed");
    }

    if (err == NGX_EXDEV) {
        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_CRIT, r->connection->log, err,
                  "link(\"%s\") to \"%V\" failed", from, path);

    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}


static ngx_int_t
ngx_http_runcoach_store_replace(ngx_http_request_t *r, ngx_str_t *path)
{
    ngx_ext_rename_file_t  ext;

    ext.access = NGX_HTTP_RUNCOACH_STORE_ACCESS;
    ext.path_access = NGX_HTTP_RUNCOACH_STORE_ACCESS;
    ext.time = -1;
    ext.create_path = 1;
    ext.delete_file = 1;
    ext.log = r->connection->log;

    return ngx_ext_rename_file(&r->request_body->temp_file->file.name, path,
                               &ext)
           == NGX_OK ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/* what is acknowledged stays, even if the machine goes down the next moment */

static ngx_int_t
ngx_http_runcoach_store_sync(ngx_http_request_t *r, ngx_str_t *path)
{
    u_char     *p;
    ngx_fd_t    fd;
    ngx_int_t   rc;
    ngx_str_t   dir;

    for (p = path->data + path->len; *p != '/'; p--) { /* void */ }

    dir.len = p - path->data;
    dir.data = ngx_pnalloc(r->pool, dir.len + 1);
    if (dir.data == NULL) {
        return NGX_ERROR;
    }

    ngx_cpystrn(dir.data, path->data, dir.len + 1);

    fd = ngx_open_file(dir.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    rc = (fd != NGX_INVALID_FILE && fsync(fd) == 0) ? NGX_OK : NGX_ERROR;

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      "could not sync \"%V\"", &dir);
    }

    if (fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(fd);
    }

    return rc;
}


const char *
ngx_http_runcoach_store_outcome(ngx_http_request_t *r)
{
    ngx_http_runcoach_store_ctx_t  *ctx;

    ctx = ngx_http_runcoach_ctx_get(r, &ngx_http_runcoach_store_module,
                                    ngx_http_runcoach_store_cleanup);

    return (ctx != NULL) ? ctx->error : NULL;
}


static ngx_int_t
ngx_http_runcoach_store_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_uint_t                      i, status;
    const char                     *error;

    static const struct {
        ngx_uint_t   status;
        const char  *error;
    } codes[] = {
        { NGX_HTTP_BAD_REQUEST, "InvalidRequest" },
        { NGX_HTTP_FORBIDDEN, "AccessDenied" },
        { NGX_HTTP_NOT_FOUND, "NoSuchKey" },
        { NGX_HTTP_NOT_ALLOWED, "MethodNotAllowed" },
        { NGX_HTTP_CONFLICT, "InvalidRequest" },
        { NGX_HTTP_LENGTH_REQUIRED, "MissingContentLength" },
        { NGX_HTTP_PRECONDITION_FAILED, "PreconditionFailed" },
        { NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, "EntityTooLarge" },
        { NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, "InvalidRequest" },
        { NGX_HTTP_RANGE_NOT_SATISFIABLE, "InvalidRange" },
        { NGX_HTTP_INTERNAL_SERVER_ERROR, "InternalError" },
        { NGX_HTTP_NOT_IMPLEMENTED, "NotImplemented" },
        { NGX_HTTP_SERVICE_UNAVAILABLE, "ServiceUnavailable" },
        { 0, NULL }
    };

    error = ngx_http_runcoach_store_outcome(r);

    if (error != NULL) {
        return ngx_http_runcoach_set_variable(v, (u_char *) error,
                                              ngx_strlen(error));
    }

    /* what nginx itself has refused */

    status = r->err_status ? r->err_status : r->headers_out.status;

    for (i = 0; codes[i].error != NULL; i++) {

        if (codes[i].status == status) {
            break;
        }
    }

    if (codes[i].error == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    return ngx_http_runcoach_set_variable(v, (u_char *) codes[i].error,
                                          ngx_strlen(codes[i].error));
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
                                access_key, secret_key, token, style,
                                jurisdiction;
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
        { "style", &style },
        { "jurisdiction", &jurisdiction },
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
    ngx_str_set(&style, "path");
    ngx_str_null(&jurisdiction);

    rv = ngx_http_runcoach_params(cf, 2, known);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    missing = (endpoint.len == 0 && account.len == 0) ? "endpoint= or account="
              : access_key.len == 0 ? "access_key="
              : secret_key.len == 0 ? "secret_key="
              : NULL;

    if (missing != NULL) {
        return ngx_http_runcoach_store_missing(cf, &value[1], missing,
                                               endpoint.len + account.len
                                               + access_key.len
                                               + secret_key.len);
    }

    if (token.len > RUNCOACH_SIGV4_MAX_TOKEN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "session_token of runcoach_store \"%V\" is too "
                           "long, must be of at most %d bytes", &store->name,
                           RUNCOACH_SIGV4_MAX_TOKEN);
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_runcoach_store_endpoint(cf, store, &endpoint, &account,
                                          &jurisdiction, &bucket, &style);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    store->day = ngx_pcalloc(cf->pool, sizeof(runcoach_sigv4_day_key_t));
    store->verified = ngx_pcalloc(cf->pool, sizeof(runcoach_sigv4_day_key_t));

    if (store->day == NULL || store->verified == NULL) {
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


/* with nothing set a store is off; with a part of it, that is a mistake */

static char *
ngx_http_runcoach_store_missing(ngx_conf_t *cf, ngx_str_t *name,
    const char *missing, size_t set)
{
    if (set == 0) {
        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "runcoach_store \"%V\" is off: neither endpoint=, "
                           "account=, access_key= nor secret_key= is set",
                           name);
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "runcoach_store \"%V\" has no %s: it must be set when "
                       "the others are", name, missing);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_runcoach_store_endpoint(ngx_conf_t *cf,
    ngx_http_runcoach_store_t *store, ngx_str_t *endpoint, ngx_str_t *account,
    ngx_str_t *jurisdiction, ngx_str_t *bucket, ngx_str_t *style)
{
    runcoach_endpoint_t        *e;
    runcoach_endpoint_conf_t    conf;

    e = ngx_palloc(cf->pool, sizeof(runcoach_endpoint_t));
    if (e == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_http_runcoach_store_string(&conf.endpoint, endpoint);
    ngx_http_runcoach_store_string(&conf.account, account);
    ngx_http_runcoach_store_string(&conf.jurisdiction, jurisdiction);
    ngx_http_runcoach_store_string(&conf.bucket, bucket);
    ngx_http_runcoach_store_string(&conf.style, style);

    switch (runcoach_endpoint_parse(e, &conf)) {

    case RUNCOACH_ENDPOINT_OK:
        break;

    case RUNCOACH_ENDPOINT_BAD_JURISDICTION:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid jurisdiction \"%V\" in runcoach_store "
                           "\"%V\", must be eu, fedramp or us",
                           jurisdiction, &store->name);
        return NGX_CONF_ERROR;

    case RUNCOACH_ENDPOINT_BAD_ACCOUNT:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid account \"%V\" in runcoach_store \"%V\", "
                           "must be the account's id, like 0123456789abcdef "
                           "or 0123456789abcdef.eu", account, &store->name);
        return NGX_CONF_ERROR;

    case RUNCOACH_ENDPOINT_BAD_BUCKET:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid bucket \"%V\" in runcoach_store \"%V\", "
                           "must be 3 to 63 of a-z, 0-9, \"-\" and \".\"",
                           bucket, &store->name);
        return NGX_CONF_ERROR;

    case RUNCOACH_ENDPOINT_BAD_STYLE:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid style \"%V\" in runcoach_store \"%V\", "
                           "must be path or virtual", style, &store->name);
        return NGX_CONF_ERROR;

    case RUNCOACH_ENDPOINT_DOTTED:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "bucket \"%V\" in runcoach_store \"%V\" has a dot, "
                           "which needs style=path", bucket, &store->name);
        return NGX_CONF_ERROR;

    case RUNCOACH_ENDPOINT_ADDRESS:
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the endpoint of runcoach_store \"%V\" is an "
                           "address, which needs style=path", &store->name);
        return NGX_CONF_ERROR;

    default: /* RUNCOACH_ENDPOINT_BAD_URL */
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid endpoint \"%V\" in runcoach_store \"%V\", "
                           "must be like "
                           "https://<account>.r2.cloudflarestorage.com",
                           endpoint, &store->name);
        return NGX_CONF_ERROR;
    }

    store->scheme.data = (u_char *) e->scheme;
    store->scheme.len = ngx_strlen(e->scheme);
    store->host.data = (u_char *) e->host;
    store->host.len = ngx_strlen(e->host);
    store->base.data = (u_char *) e->base;
    store->base.len = ngx_strlen(e->base);

    return NGX_CONF_OK;
}


static void
ngx_http_runcoach_store_string(runcoach_str_t *dst, ngx_str_t *src)
{
    dst->data = src->data;
    dst->len = src->len;
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

    ngx_http_next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_http_runcoach_store_body_filter;

    return NGX_OK;
}
