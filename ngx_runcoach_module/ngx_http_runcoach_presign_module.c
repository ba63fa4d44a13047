
/*
 * Presigned URLs, made from the verified user and the request body alone: no
 * network, no database.
 */


#include "ngx_http_runcoach_store.h"
#include "runcoach_upload.h"

#include <openssl/rand.h>


#define NGX_HTTP_RUNCOACH_PRESIGN_HEADERS  3
#define NGX_HTTP_RUNCOACH_UNPROCESSABLE    422

/*
 * Provisional ids begin above every id of a real row, which is an integer of
 * 32 bits, and end where JavaScript's numbers stop to be exact.
 */

#define NGX_HTTP_RUNCOACH_OBJECT_FIRST  (((uint64_t) 1 << 31) + 1)
#define NGX_HTTP_RUNCOACH_OBJECT_LAST   (((uint64_t) 1 << 53) - 1)


/* a literal, or a variable if index is not NGX_ERROR */

typedef struct {
    ngx_str_t                    text;
    ngx_int_t                    index;
} ngx_http_runcoach_presign_part_t;


typedef struct {
    ngx_str_t                    store_name;
    ngx_http_runcoach_store_t   *store;
    ngx_str_t                    method;
    ngx_array_t                 *parts;  /* ngx_http_runcoach_presign_part_t */
    ngx_http_complex_value_t    *object;
    time_t                       expires;
    off_t                        max_size;
} ngx_http_runcoach_presign_loc_conf_t;


typedef struct {
    uint64_t                     object;
    ngx_str_t                    object_text;
    runcoach_upload_t            upload;

    runcoach_sigv4_pair_t        headers[NGX_HTTP_RUNCOACH_PRESIGN_HEADERS];
    ngx_uint_t                   nheaders;
    u_char                       size[NGX_OFF_T_LEN];

    ngx_str_t                    key;
    ngx_str_t                    url;
} ngx_http_runcoach_presign_ctx_t;


static ngx_int_t ngx_http_runcoach_presign_handler(ngx_http_request_t *r);
static void ngx_http_runcoach_presign_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_presign_upload(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_presign_respond(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_presign_read(ngx_http_request_t *r,
    ngx_str_t *body);
static ngx_int_t ngx_http_runcoach_presign_object(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, ngx_uint_t *stated);
static ngx_int_t ngx_http_runcoach_presign_choose(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, runcoach_upload_error_t *error);
static void ngx_http_runcoach_presign_headers(
    ngx_http_runcoach_presign_ctx_t *ctx);
static void ngx_http_runcoach_presign_bind(
    ngx_http_runcoach_presign_ctx_t *ctx, const char *name,
    runcoach_str_t *value);

static ngx_int_t ngx_http_runcoach_presign_sign(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_presign_key(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, ngx_array_t *parts);
static ngx_int_t ngx_http_runcoach_presign_segment(
    ngx_http_variable_value_t *v);
static ngx_int_t ngx_http_runcoach_presign_answer(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, time_t now);
static u_char *ngx_http_runcoach_presign_json(u_char *p, const char *before,
    const u_char *data, size_t len);

static ngx_int_t ngx_http_runcoach_presign_refuse(ngx_http_request_t *r,
    ngx_uint_t status, const char *detail);
static ngx_int_t ngx_http_runcoach_presign_invalid(ngx_http_request_t *r,
    runcoach_upload_error_t *error);
static ngx_int_t ngx_http_runcoach_presign_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_buf_t *b);
static ngx_int_t ngx_http_runcoach_presign_push(ngx_http_request_t *r,
    const char *name, const char *value);

static ngx_int_t ngx_http_runcoach_object_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

static void *ngx_http_runcoach_presign_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_presign_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_runcoach_presign(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_runcoach_presign_params(ngx_conf_t *cf,
    ngx_http_runcoach_presign_loc_conf_t *plcf);
static char *ngx_http_runcoach_presign_template(ngx_conf_t *cf,
    ngx_http_runcoach_presign_loc_conf_t *plcf, ngx_str_t *s);
static char *ngx_http_runcoach_presign_check_template(ngx_conf_t *cf,
    ngx_array_t *parts, ngx_str_t *s);
static ngx_int_t ngx_http_runcoach_presign_variables(ngx_conf_t *cf);


static ngx_command_t  ngx_http_runcoach_presign_commands[] = {

    { ngx_string("runcoach_presign"),
      NGX_HTTP_LOC_CONF|NGX_CONF_2MORE,
      ngx_http_runcoach_presign,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_presign_module_ctx = {
    ngx_http_runcoach_presign_variables,       /* preconfiguration */
    NULL,                                      /* postconfiguration */

    NULL,                                      /* create main configuration */
    NULL,                                      /* init main configuration */

    NULL,                                      /* create server configuration */
    NULL,                                      /* merge server configuration */

    ngx_http_runcoach_presign_create_loc_conf, /* create location conf */
    ngx_http_runcoach_presign_merge_loc_conf   /* merge location conf */
};


ngx_module_t  ngx_http_runcoach_presign_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_presign_module_ctx, /* module context */
    ngx_http_runcoach_presign_commands,    /* module directives */
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


static ngx_http_variable_t  ngx_http_runcoach_presign_vars[] = {

    { ngx_string("runcoach_object"), NULL,
      ngx_http_runcoach_object_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_int_t
ngx_http_runcoach_presign_handler(ngx_http_request_t *r)
{
    ngx_int_t                              rc;
    ngx_uint_t                             upload, allowed;
    ngx_http_runcoach_presign_ctx_t       *ctx;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    upload = (plcf->method.data[0] == 'P');
    allowed = upload ? NGX_HTTP_POST : NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_POST;

    if (!(r->method & allowed)) {

        if (ngx_http_runcoach_presign_push(r, "Allow",
                                           upload ? "POST" : "GET, HEAD, POST")
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return NGX_HTTP_NOT_ALLOWED;
    }

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_runcoach_presign_ctx_t));
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_set_ctx(r, ctx, ngx_http_runcoach_presign_module);

    if (upload && plcf->store->on) {
        rc = ngx_http_read_client_request_body(r,
                                       ngx_http_runcoach_presign_body_handler);

        return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!plcf->store->on) {
        return ngx_http_runcoach_presign_refuse(r,
                                                NGX_HTTP_SERVICE_UNAVAILABLE,
                                                "Cloud storage not available");
    }

    ctx->upload.file_size = -1;

    return ngx_http_runcoach_presign_respond(r, ctx);
}


static void
ngx_http_runcoach_presign_body_handler(ngx_http_request_t *r)
{
    ngx_http_runcoach_presign_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_runcoach_presign_module);

    ngx_http_finalize_request(r, ngx_http_runcoach_presign_upload(r, ctx));
}


static ngx_int_t
ngx_http_runcoach_presign_upload(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx)
{
    ngx_int_t                 rc;
    ngx_str_t                 body;
    ngx_uint_t                stated;
    runcoach_upload_error_t   error;

    rc = ngx_http_runcoach_presign_read(r, &body);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_HTTP_REQUEST_ENTITY_TOO_LARGE
                                  : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_runcoach_presign_object(r, ctx, &stated) == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* where the path names the activity there is nothing a body must say */

    if (body.len == 0 && stated) {
        ngx_str_set(&body, "{}");
    }

    if (runcoach_upload_parse(&ctx->upload, &error, body.data, body.len) != 0) {
        return ngx_http_runcoach_presign_invalid(r, &error);
    }

    return ngx_http_runcoach_presign_respond(r, ctx);
}


static ngx_int_t
ngx_http_runcoach_presign_respond(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx)
{
    char                                   detail[64];
    runcoach_upload_error_t                error;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    switch (ngx_http_runcoach_presign_choose(r, ctx, &error)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        return ngx_http_runcoach_presign_refuse(r, NGX_HTTP_NOT_FOUND,
                                                "Activity not found");

    case NGX_ABORT:
        return ngx_http_runcoach_presign_invalid(r, &error);

    default: /* NGX_ERROR */
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->upload.file_size > plcf->max_size) {
        ngx_sprintf((u_char *) detail, "File too large: at most %O bytes%Z",
                    plcf->max_size);

        return ngx_http_runcoach_presign_refuse(r,
                                      NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                      detail);
    }

    ngx_http_runcoach_presign_headers(ctx);

    return ngx_http_runcoach_presign_sign(r, ctx);
}


/* NGX_DECLINED: it is in a file, since client_body_buffer_size is too small */

static ngx_int_t
ngx_http_runcoach_presign_read(ngx_http_request_t *r, ngx_str_t *body)
{
    u_char       *p;
    ngx_chain_t  *cl;

    ngx_str_null(body);

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    if (r->request_body->temp_file) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "request for an upload URL does not fit into "
                      "client_body_buffer_size");
        return NGX_DECLINED;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        body->len += ngx_buf_size(cl->buf);
    }

    p = ngx_pnalloc(r->pool, body->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        p = ngx_cpymem(p, cl->buf->pos, cl->buf->last - cl->buf->pos);
    }

    return NGX_OK;
}


/* what object= of the directive says; *stated: it says something */

static ngx_int_t
ngx_http_runcoach_presign_object(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, ngx_uint_t *stated)
{
    off_t                                  n;
    ngx_str_t                              object;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    *stated = 0;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    if (plcf->object == NULL) {
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, plcf->object, &object) != NGX_OK) {
        return NGX_ERROR;
    }

    if (object.len == 0) {
        return NGX_OK;
    }

    *stated = 1;

    n = ngx_atoof(object.data, object.len);

    if (n <= 0 || (uint64_t) n > NGX_HTTP_RUNCOACH_OBJECT_LAST) {
        return NGX_DECLINED;
    }

    ctx->object = n;

    return NGX_OK;
}


/*
 * The activity of the path, else the one of the body, else a provisional id.
 * NGX_DECLINED: that of the path is no activity; NGX_ABORT: error tells what
 * is wrong with that of the body.
 */

static ngx_int_t
ngx_http_runcoach_presign_choose(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, runcoach_upload_error_t *error)
{
    uint64_t    random;
    ngx_int_t   rc;
    ngx_uint_t  stated;

    rc = ngx_http_runcoach_presign_object(r, ctx, &stated);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!stated) {
        ctx->object = ctx->upload.activity_id;

    } else if (ctx->upload.activity_id != 0
               && (uint64_t) ctx->upload.activity_id != ctx->object)
    {
        error->field = "activity_id";
        error->type = "value_error";
        error->message = "Input should be the activity of the path";

        return NGX_ABORT;
    }

    if (ctx->object == 0) {

        if (RAND_bytes((u_char *) &random, sizeof(random)) != 1) {
            ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                          "RAND_bytes() failed");
            return NGX_ERROR;
        }

        ctx->object = NGX_HTTP_RUNCOACH_OBJECT_FIRST
                      + random % (NGX_HTTP_RUNCOACH_OBJECT_LAST
                                  - NGX_HTTP_RUNCOACH_OBJECT_FIRST);
    }

    ctx->object_text.data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (ctx->object_text.data == NULL) {
        return NGX_ERROR;
    }

    ctx->object_text.len = ngx_sprintf(ctx->object_text.data, "%uL",
                                       ctx->object)
                           - ctx->object_text.data;

    return NGX_OK;
}


/* only what the client has stated can be bound: it knows what it will send */

static void
ngx_http_runcoach_presign_headers(ngx_http_runcoach_presign_ctx_t *ctx)
{
    runcoach_str_t  size;

    if (ctx->upload.file_size >= 0) {
        size.data = ctx->size;
        size.len = ngx_sprintf(ctx->size, "%O", (off_t) ctx->upload.file_size)
                   - ctx->size;

        ngx_http_runcoach_presign_bind(ctx, "content-length", &size);
    }

    ngx_http_runcoach_presign_bind(ctx, "content-type",
                                   &ctx->upload.content_type);
    ngx_http_runcoach_presign_bind(ctx, "x-amz-checksum-sha256",
                                   &ctx->upload.checksum);
}


static void
ngx_http_runcoach_presign_bind(ngx_http_runcoach_presign_ctx_t *ctx,
    const char *name, runcoach_str_t *value)
{
    runcoach_sigv4_pair_t  *pair;

    if (value->len == 0) {
        return;
    }

    pair = &ctx->headers[ctx->nheaders++];

    pair->name.data = (const u_char *) name;
    pair->name.len = ngx_strlen(name);
    pair->value = *value;
}


static ngx_int_t
ngx_http_runcoach_presign_sign(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx)
{
    ngx_int_t                              rc;
    runcoach_sigv4_rc_e                    signed_rc;
    runcoach_sigv4_request_t               request;
    ngx_http_runcoach_store_t             *store;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);
    store = plcf->store;

    rc = ngx_http_runcoach_presign_key(r, ctx, plcf->parts);

    if (rc == NGX_DECLINED) {
        return ngx_http_runcoach_presign_refuse(r,
                                      NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "Failed to generate upload URL");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->url.data = ngx_pnalloc(r->pool, RUNCOACH_SIGV4_MAX_URL);
    if (ctx->url.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&request, sizeof(runcoach_sigv4_request_t));

    request.method.data = plcf->method.data;
    request.method.len = plcf->method.len;
    request.scheme = store->scheme;
    request.host = store->host;
    request.base = store->base;
    request.key.data = ctx->key.data;
    request.key.len = ctx->key.len;
    request.now = ngx_time();
    request.expires = plcf->expires;
    request.headers = ctx->headers;
    request.nheaders = ctx->nheaders;

    signed_rc = runcoach_sigv4_presign(ctx->url.data, RUNCOACH_SIGV4_MAX_URL,
                                       &ctx->url.len, &store->cred, store->day,
                                       &request);

    if (signed_rc != RUNCOACH_SIGV4_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "could not sign a URL for \"%V\": %s", &ctx->key,
                      runcoach_sigv4_reason(signed_rc));

        return ngx_http_runcoach_presign_refuse(r,
                                      NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "Failed to generate upload URL");
    }

    return ngx_http_runcoach_presign_answer(r, ctx, request.now);
}


/* NGX_DECLINED: a variable is not one segment, so the key would be another's */

static ngx_int_t
ngx_http_runcoach_presign_key(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, ngx_array_t *parts)
{
    u_char                            *p, *last;
    ngx_uint_t                         i;
    ngx_http_variable_value_t         *v;
    ngx_http_runcoach_presign_part_t  *part;

    p = ngx_pnalloc(r->pool, RUNCOACH_SIGV4_MAX_KEY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->key.data = p;
    last = p + RUNCOACH_SIGV4_MAX_KEY;

    part = parts->elts;

    for (i = 0; i < parts->nelts; i++) {

        if (part[i].index == NGX_ERROR) {

            if ((size_t) (last - p) < part[i].text.len) {
                return NGX_DECLINED;
            }

            p = ngx_cpymem(p, part[i].text.data, part[i].text.len);
            continue;
        }

        v = ngx_http_get_flushed_variable(r, part[i].index);

        if (v == NULL || ngx_http_runcoach_presign_segment(v) != NGX_OK
            || (size_t) (last - p) <= v->len)
        {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "variable \"%V\" of a key template is empty, too "
                          "long or no single segment of a path",
                          &part[i].text);
            return NGX_DECLINED;
        }

        p = ngx_cpymem(p, v->data, v->len);
    }

    ctx->key.len = p - ctx->key.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_presign_segment(ngx_http_variable_value_t *v)
{
    ngx_uint_t  i;

    if (v->not_found || v->len == 0) {
        return NGX_ERROR;
    }

    if (v->data[0] == '.'
        && (v->len == 1 || (v->len == 2 && v->data[1] == '.')))
    {
        return NGX_ERROR;
    }

    for (i = 0; i < v->len; i++) {

        if (v->data[i] < ' ' || v->data[i] == 0x7f || v->data[i] == '/') {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_presign_answer(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, time_t now)
{
    size_t                                 len;
    ngx_tm_t                               tm;
    ngx_buf_t                             *b;
    ngx_uint_t                             i;
    runcoach_sigv4_pair_t                 *h;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    /* a character of JSON is at most \u0000 */

    len = 512 + ctx->url.len + 6 * ctx->key.len;

    for (i = 0; i < ctx->nheaders; i++) {
        h = &ctx->headers[i];
        len += sizeof(",\"\":\"\"") + h->name.len + 6 * h->value.len;
    }

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_gmtime(now + plcf->expires, &tm);

    b->last = ngx_http_runcoach_presign_json(b->last,
                                             plcf->method.data[0] == 'P'
                                             ? "{\"upload_url\":\""
                                             : "{\"download_url\":\"",
                                             ctx->url.data, ctx->url.len);

    b->last = ngx_http_runcoach_presign_json(b->last, "\",\"key\":\"",
                                             ctx->key.data, ctx->key.len);

    b->last = ngx_sprintf(b->last,
                          "\",\"activity_id\":%uL,"
                          "\"expires_at\":"
                          "\"%4d-%02d-%02dT%02d:%02d:%02d+00:00\","
                          "\"expires_in\":%T,"
                          "\"method\":\"%V\",\"headers\":{",
                          ctx->object, tm.ngx_tm_year, tm.ngx_tm_mon,
                          tm.ngx_tm_mday, tm.ngx_tm_hour, tm.ngx_tm_min,
                          tm.ngx_tm_sec, plcf->expires, &plcf->method);

    for (i = 0; i < ctx->nheaders; i++) {
        h = &ctx->headers[i];

        b->last = ngx_http_runcoach_presign_json(b->last, i ? "\",\"" : "\"",
                                                 h->name.data, h->name.len);
        b->last = ngx_http_runcoach_presign_json(b->last, "\":\"",
                                                 h->value.data, h->value.len);
    }

    if (ctx->nheaders != 0) {
        *b->last++ = '"';
    }

    *b->last++ = '}';
    *b->last++ = '}';

    return ngx_http_runcoach_presign_send(r, NGX_HTTP_OK, b);
}


static u_char *
ngx_http_runcoach_presign_json(u_char *p, const char *before,
    const u_char *data, size_t len)
{
    p = ngx_cpymem(p, before, ngx_strlen(before));

    return (u_char *) ngx_escape_json(p, (u_char *) data, len);
}


static ngx_int_t
ngx_http_runcoach_presign_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *detail)
{
    ngx_buf_t  *b;

    b = ngx_create_temp_buf(r->pool,
                            sizeof("{\"detail\":\"\"}") + ngx_strlen(detail));
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "{\"detail\":\"%s\"}", detail);

    if (status == NGX_HTTP_SERVICE_UNAVAILABLE
        && ngx_http_runcoach_presign_push(r, "Retry-After", "60") != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_runcoach_presign_send(r, status, b);
}


static ngx_int_t
ngx_http_runcoach_presign_invalid(ngx_http_request_t *r,
    runcoach_upload_error_t *error)
{
    ngx_buf_t  *b;

    b = ngx_create_temp_buf(r->pool, 512);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last,
                          "{\"detail\":[{\"loc\":[\"body\"%s%s%s],"
                          "\"msg\":\"%s\",\"type\":\"%s\"}]}",
                          error->field ? ",\"" : "",
                          error->field ? error->field : "",
                          error->field ? "\"" : "",
                          error->message, error->type);

    return ngx_http_runcoach_presign_send(r, NGX_HTTP_RUNCOACH_UNPROCESSABLE,
                                          b);
}


static ngx_int_t
ngx_http_runcoach_presign_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_buf_t *b)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    if (ngx_http_runcoach_presign_push(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = b->last - b->pos;

    if (status == NGX_HTTP_RUNCOACH_UNPROCESSABLE) {

        /* nginx has no words for it */

        ngx_str_set(&r->headers_out.status_line, "422 Unprocessable Entity");
    }

    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
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
ngx_http_runcoach_presign_push(ngx_http_request_t *r, const char *name,
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
ngx_http_runcoach_object_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_runcoach_presign_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_runcoach_presign_module);

    if (ctx == NULL) {
        return ngx_http_runcoach_set_variable(v, NULL, 0);
    }

    return ngx_http_runcoach_set_variable(v, ctx->object_text.data,
                                          ctx->object_text.len);
}


static void *
ngx_http_runcoach_presign_create_loc_conf(ngx_conf_t *cf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     plcf->store_name = { 0, NULL };
     *     plcf->store = NULL;
     *     plcf->method = { 0, NULL };
     *     plcf->parts = NULL;
     *     plcf->object = NULL;
     *     plcf->expires = 0;
     *     plcf->max_size = 0;
     */

    return ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_presign_loc_conf_t));
}


/* inherited as a whole by "if" and "limit_except", which keep the handler */

static char *
ngx_http_runcoach_presign_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_runcoach_presign_loc_conf_t  *prev = parent;
    ngx_http_runcoach_presign_loc_conf_t  *conf = child;

    if (conf->store_name.len == 0) {
        *conf = *prev;
    }

    if (conf->store_name.len == 0) {
        return NGX_CONF_OK;
    }

    conf->store = ngx_http_runcoach_store_find(cf, &conf->store_name);

    if (conf->store == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "unknown store \"%V\" in runcoach_presign, must be the "
                      "name of a runcoach_store", &conf->store_name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_presign(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_runcoach_presign_loc_conf_t  *plcf = conf;

    char                      *rv;
    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    if (plcf->store_name.len != 0) {
        return "is duplicate";
    }

    if (cf->args->nelts < 4) {
        return "needs a store, a method and a key template";
    }

    value = cf->args->elts;

    plcf->store_name = value[1];
    plcf->method = value[2];

    if (!ngx_http_runcoach_names_eq(&value[2], "PUT")
        && !ngx_http_runcoach_names_eq(&value[2], "GET"))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid method \"%V\" in runcoach_presign, "
                           "must be PUT or GET", &value[2]);
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_runcoach_presign_template(cf, plcf, &value[3]);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_runcoach_presign_params(cf, plcf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_runcoach_presign_handler;

    return NGX_CONF_OK;
}


static char *
ngx_http_runcoach_presign_params(ngx_conf_t *cf,
    ngx_http_runcoach_presign_loc_conf_t *plcf)
{
    char                              *rv;
    ngx_str_t                          expires, max_size, object;
    ngx_http_compile_complex_value_t   ccv;

    ngx_http_runcoach_param_t  known[] = {
        { "expires", &expires },
        { "max_size", &max_size },
        { "object", &object },
        { NULL, NULL }
    };

    ngx_str_set(&expires, "1h");
    ngx_str_set(&max_size, "10m");
    ngx_str_null(&object);

    rv = ngx_http_runcoach_params(cf, 4, known);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    plcf->expires = ngx_parse_time(&expires, 1);

    if (plcf->expires < 1 || plcf->expires > RUNCOACH_SIGV4_MAX_EXPIRES) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid expires \"%V\" in runcoach_presign, "
                           "must be from 1s to 7d", &expires);
        return NGX_CONF_ERROR;
    }

    plcf->max_size = ngx_parse_offset(&max_size);

    if (plcf->max_size <= 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid max_size \"%V\" in runcoach_presign, "
                           "must be a size above 0 like 10m", &max_size);
        return NGX_CONF_ERROR;
    }

    if (object.len == 0) {
        return NGX_CONF_OK;
    }

    plcf->object = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (plcf->object == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &object;
    ccv.complex_value = plcf->object;

    return ngx_http_compile_complex_value(&ccv) == NGX_OK ? NGX_CONF_OK
                                                          : NGX_CONF_ERROR;
}


/*
 * Not a complex value: what a variable brings in must be told apart from what
 * the configuration says, since only the latter may have a "/".
 */

static char *
ngx_http_runcoach_presign_template(ngx_conf_t *cf,
    ngx_http_runcoach_presign_loc_conf_t *plcf, ngx_str_t *s)
{
    u_char                            *p, *last;
    ngx_uint_t                         bracket;
    ngx_http_runcoach_presign_part_t  *part;

    plcf->parts = ngx_array_create(cf->pool, 4,
                                   sizeof(ngx_http_runcoach_presign_part_t));
    if (plcf->parts == NULL) {
        return NGX_CONF_ERROR;
    }

    p = s->data;
    last = p + s->len;

    while (p < last) {
        part = ngx_array_push(plcf->parts);
        if (part == NULL) {
            return NGX_CONF_ERROR;
        }

        part->index = NGX_ERROR;
        part->text.data = p;

        while (p < last && *p != '$') {
            p++;
        }

        part->text.len = p - part->text.data;

        if (part->text.len != 0) {
            continue;
        }

        p++;
        bracket = (p < last && *p == '{');
        p += bracket;

        part->text.data = p;

        while (p < last
               && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
                   || (*p >= '0' && *p <= '9') || *p == '_'))
        {
            p++;
        }

        part->text.len = p - part->text.data;

        if (part->text.len == 0 || (bracket && (p == last || *p != '}'))) {
            goto invalid;
        }

        p += bracket;

        part->index = ngx_http_get_variable_index(cf, &part->text);

        if (part->index == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_runcoach_presign_check_template(cf, plcf->parts, s);

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid variable in the template \"%V\" of "
                       "runcoach_presign", s);

    return NGX_CONF_ERROR;
}


/* the template must be a valid key when each variable is one character */

static char *
ngx_http_runcoach_presign_check_template(ngx_conf_t *cf, ngx_array_t *parts,
    ngx_str_t *s)
{
    u_char                            *p, *key;
    ngx_uint_t                         i;
    ngx_http_runcoach_presign_part_t  *part;

    key = ngx_pnalloc(cf->temp_pool, s->len + 1);
    if (key == NULL) {
        return NGX_CONF_ERROR;
    }

    p = key;
    part = parts->elts;

    for (i = 0; i < parts->nelts; i++) {

        if (part[i].index == NGX_ERROR) {
            p = ngx_cpymem(p, part[i].text.data, part[i].text.len);

        } else {
            *p++ = 'x';
        }
    }

    if (runcoach_sigv4_check_key(key, p - key) != RUNCOACH_SIGV4_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid template \"%V\" in runcoach_presign, must "
                           "be a path without a leading \"/\" and without "
                           "empty, \".\" or \"..\" segments", s);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_runcoach_presign_variables(ngx_conf_t *cf)
{
    return ngx_http_runcoach_add_variables(cf, ngx_http_runcoach_presign_vars);
}
