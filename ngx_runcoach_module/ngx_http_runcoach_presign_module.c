
/*
 * Presigned URLs, made from the verified user and the request body alone: no
 * network, no database.
 */


#include "ngx_http_runcoach_store.h"
#include "runcoach_number.h"
#include "runcoach_upload.h"

#include <openssl/rand.h>


#define NGX_HTTP_RUNCOACH_UNPROCESSABLE    422

/* what configuration and client may bind together is what the signer takes */

#define NGX_HTTP_RUNCOACH_PRESIGN_HEADERS  4
#define NGX_HTTP_RUNCOACH_PRESIGN_QUERY    8

/* of a body; more come from the pool */

#define NGX_HTTP_RUNCOACH_PRESIGN_NODES    128
#define NGX_HTTP_RUNCOACH_PRESIGN_RANDOM   64

/*
 * Provisional ids begin above every id of a real row, which is an integer of
 * 32 bits, and end where JavaScript's numbers stop to be exact.
 */

#define NGX_HTTP_RUNCOACH_OBJECT_FIRST  (((uint64_t) 1 << 31) + 1)
#define NGX_HTTP_RUNCOACH_OBJECT_LAST   (((uint64_t) 1 << 53) - 1)

/* "2026-11-20T09:30:00+00:00" */

#define NGX_HTTP_RUNCOACH_PRESIGN_TIME  25


/* what can be signed, and the member of the answer that is the URL */

typedef struct {
    ngx_str_t                    method;
    ngx_str_t                    member;
    ngx_uint_t                   upload;
} ngx_http_runcoach_presign_method_t;


typedef enum {
    NGX_HTTP_RUNCOACH_PRESIGN_LITERAL = 0,
    NGX_HTTP_RUNCOACH_PRESIGN_OBJECT,
    NGX_HTTP_RUNCOACH_PRESIGN_VARIABLE
} ngx_http_runcoach_presign_part_e;


typedef struct {
    ngx_http_runcoach_presign_part_e  type;
    ngx_str_t                         text;
    ngx_int_t                         index;
} ngx_http_runcoach_presign_part_t;


/* a header or an argument that the configuration binds */

typedef struct {
    ngx_str_t                    name;
    ngx_http_complex_value_t     value;
} ngx_http_runcoach_presign_bound_t;


typedef struct {
    ngx_str_t                    store_name;
    ngx_http_runcoach_store_t   *store;
    ngx_http_runcoach_presign_method_t  *method;
    ngx_array_t                 *parts;  /* ngx_http_runcoach_presign_part_t */
    ngx_array_t                 *headers;
    ngx_array_t                 *query;  /* ngx_http_runcoach_presign_bound_t */
    ngx_http_complex_value_t    *object;
    ngx_http_complex_value_t    *expires_in;
    ngx_str_t                    announce;
    ngx_int_t                    user;   /* index of $runcoach_user */
    time_t                       expires;
    off_t                        max_size;
    unsigned                     named:1;  /* the key has $runcoach_object */
} ngx_http_runcoach_presign_loc_conf_t;


typedef struct {
    uint64_t                     object;
    uint64_t                     path;   /* the object= of the directive */
    time_t                       now;
    time_t                       path_expires;
    ngx_str_t                    object_text;
    u_char                       digits[NGX_INT64_LEN];
    u_char                       size[NGX_OFF_T_LEN];

    ngx_int_t                    rc;     /* of an answer that was sent */
    ngx_uint_t                   nsigned;
    ngx_chain_t                 *out;
    ngx_chain_t                **last;
    off_t                        length;
} ngx_http_runcoach_presign_ctx_t;


/* one object of a request, while it is signed */

typedef struct {
    runcoach_upload_t            upload;
    runcoach_sigv4_request_t     request;
    size_t                       nheaders;
    size_t                       nquery;
    runcoach_sigv4_pair_t        headers[RUNCOACH_SIGV4_MAX_PAIRS];
    runcoach_sigv4_pair_t        query[RUNCOACH_SIGV4_MAX_PAIRS];
    u_char                       key[RUNCOACH_SIGV4_MAX_KEY];
} ngx_http_runcoach_presign_item_t;


static ngx_int_t ngx_http_runcoach_presign_handler(ngx_http_request_t *r);
static void ngx_http_runcoach_presign_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_runcoach_presign_finish(ngx_http_request_t *r,
    ngx_int_t rc);
static ngx_int_t ngx_http_runcoach_presign_line(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_presign_body(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_presign_list(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, runcoach_upload_body_t *body);
static ngx_int_t ngx_http_runcoach_presign_read(ngx_http_request_t *r,
    ngx_str_t *body);
static ngx_int_t ngx_http_runcoach_presign_path(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx);
static ngx_int_t ngx_http_runcoach_presign_item(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item, runcoach_upload_error_t *error);
static ngx_int_t ngx_http_runcoach_presign_choose(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item, runcoach_upload_error_t *error);
static ngx_int_t ngx_http_runcoach_presign_random(ngx_http_request_t *r,
    uint64_t *id);
static ngx_int_t ngx_http_runcoach_presign_headers(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item);
static void ngx_http_runcoach_presign_bind(
    ngx_http_runcoach_presign_item_t *item, const char *name,
    const runcoach_str_t *value);
static ngx_int_t ngx_http_runcoach_presign_configured(ngx_http_request_t *r,
    ngx_array_t *bound, runcoach_sigv4_pair_t *pairs, size_t *n,
    runcoach_upload_error_t *error);
static const char *ngx_http_runcoach_presign_field(ngx_str_t *name);

static ngx_int_t ngx_http_runcoach_presign_sign(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item);
static ngx_buf_t *ngx_http_runcoach_presign_create_buf(ngx_http_request_t *r,
    ngx_http_runcoach_presign_item_t *item, size_t len);
static ngx_int_t ngx_http_runcoach_presign_key(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item);
static ngx_int_t ngx_http_runcoach_presign_segment(
    ngx_http_variable_value_t *v);
static u_char *ngx_http_runcoach_presign_rest(u_char *p,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item, ngx_str_t *method);
static u_char *ngx_http_runcoach_presign_json(u_char *p, const char *before,
    const u_char *data, size_t len);
static u_char *ngx_http_runcoach_presign_time(u_char *p, time_t t);
static ngx_int_t ngx_http_runcoach_presign_add(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, ngx_buf_t *b);
static ngx_int_t ngx_http_runcoach_presign_text(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, const char *text);
static void ngx_http_runcoach_presign_announce(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item);
static void ngx_http_runcoach_presign_answered(void *data, redisReply *reply);

static ngx_int_t ngx_http_runcoach_presign_refuse(ngx_http_request_t *r,
    ngx_uint_t status, const char *detail);
static ngx_int_t ngx_http_runcoach_presign_invalid(ngx_http_request_t *r,
    const char *where, runcoach_upload_error_t *error);
static ngx_int_t ngx_http_runcoach_presign_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_chain_t *out, off_t length);
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
static char *ngx_http_runcoach_presign_compile(ngx_conf_t *cf, ngx_str_t *s,
    ngx_http_complex_value_t **cv);
static char *ngx_http_runcoach_presign_bound(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_runcoach_presign_bindable(ngx_str_t *name);
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

    { ngx_string("runcoach_presign_header"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_runcoach_presign_bound,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_runcoach_presign_loc_conf_t, headers),
      NULL },

    { ngx_string("runcoach_presign_query"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_runcoach_presign_bound,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_runcoach_presign_loc_conf_t, query),
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


static ngx_http_runcoach_presign_method_t
    ngx_http_runcoach_presign_methods[] =
{
    { ngx_string("PUT"), ngx_string("upload_url"), 1 },
    { ngx_string("GET"), ngx_string("download_url"), 0 },
    { ngx_string("HEAD"), ngx_string("head_url"), 0 },
    { ngx_string("DELETE"), ngx_string("delete_url"), 0 },
    { ngx_null_string, ngx_null_string, 0 }
};


static ngx_int_t
ngx_http_runcoach_presign_handler(ngx_http_request_t *r)
{
    ngx_int_t                              rc;
    ngx_uint_t                             upload, allowed;
    ngx_http_runcoach_presign_ctx_t       *ctx;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    upload = plcf->method->upload;
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

    ctx->now = ngx_time();
    ctx->last = &ctx->out;

    ngx_http_set_ctx(r, ctx, ngx_http_runcoach_presign_module);

    if (r->method == NGX_HTTP_POST && plcf->store->on) {
        rc = ngx_http_read_client_request_body(r,
                                       ngx_http_runcoach_presign_body_handler);

        return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!plcf->store->on) {
        (void) ngx_http_runcoach_presign_refuse(r,
                                                NGX_HTTP_SERVICE_UNAVAILABLE,
                                                "Cloud storage not available");
        return ctx->rc;
    }

    return ngx_http_runcoach_presign_finish(r,
                                        ngx_http_runcoach_presign_line(r, ctx));
}


static void
ngx_http_runcoach_presign_body_handler(ngx_http_request_t *r)
{
    ngx_http_runcoach_presign_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_runcoach_presign_module);

    ngx_http_finalize_request(r, ngx_http_runcoach_presign_finish(r,
                                       ngx_http_runcoach_presign_body(r, ctx)));
}


/*
 * NGX_OK: all is signed; NGX_DONE: an answer that says why not has been sent;
 * else it is an error.  The same holds for all below.
 */

static ngx_int_t
ngx_http_runcoach_presign_finish(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_http_runcoach_presign_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_runcoach_presign_module);

    if (rc == NGX_DONE) {
        return ctx->rc;
    }

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_runcoach_presign_send(r, NGX_HTTP_OK, ctx->out,
                                          ctx->length);
}


/* all that is asked for stands in the request line */

static ngx_int_t
ngx_http_runcoach_presign_line(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx)
{
    ngx_int_t                          rc;
    runcoach_upload_error_t            error;
    ngx_http_runcoach_presign_item_t   item;

    rc = ngx_http_runcoach_presign_path(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    item.upload.activity_id = 0;
    item.upload.file_size = -1;
    item.upload.expires_in = 0;
    item.upload.if_none_match = 0;
    item.upload.content_type.len = 0;
    item.upload.checksum.len = 0;
    item.upload.disposition.len = 0;
    item.upload.nmetadata = 0;

    error.index = -1;

    return ngx_http_runcoach_presign_item(r, ctx, &item, &error);
}


static ngx_int_t
ngx_http_runcoach_presign_body(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx)
{
    ngx_int_t                              rc;
    ngx_str_t                              text;
    runcoach_json_t                       *json;
    runcoach_json_node_t                   nodes[
                                               NGX_HTTP_RUNCOACH_PRESIGN_NODES];
    runcoach_upload_body_t                 body;
    runcoach_upload_error_t                error;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    rc = ngx_http_runcoach_presign_read(r, &text);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_runcoach_presign_path(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    /* where the path names the object there is nothing a body must say */

    if (text.len == 0 && (ctx->path != 0 || !plcf->named)) {
        ngx_str_set(&text, "{}");
    }

    json = &body.json;

    json->nodes = nodes;
    json->max = runcoach_upload_nodes(text.len);
    json->buf = NULL;
    json->size = 0;

    if (json->max > NGX_HTTP_RUNCOACH_PRESIGN_NODES) {
        json->nodes = ngx_palloc(r->pool,
                                 json->max * sizeof(runcoach_json_node_t));
        if (json->nodes == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (ngx_strlchr(text.data, text.data + text.len, '\\') != NULL) {
        json->size = text.len;
        json->buf = ngx_pnalloc(r->pool, text.len);
        if (json->buf == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (runcoach_upload_open(&body, &error, text.data, text.len) != 0) {
        return ngx_http_runcoach_presign_invalid(r, "body", &error);
    }

    return ngx_http_runcoach_presign_list(r, ctx, &body);
}


/* all or nothing: what is signed leaves only when each object could be */

static ngx_int_t
ngx_http_runcoach_presign_list(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, runcoach_upload_body_t *body)
{
    size_t                             i;
    ngx_int_t                          rc;
    runcoach_upload_error_t            error;
    ngx_http_runcoach_presign_item_t   item;

    if (body->list != NULL && ctx->path != 0) {
        error.index = -1;
        error.field = "uploads";
        error.type = "value_error";
        error.message = "The path names one activity";

        return ngx_http_runcoach_presign_invalid(r, "body", &error);
    }

    for (i = 0; i < body->n; i++) {

        if (runcoach_upload_next(body, &item.upload, &error) != 0) {
            return ngx_http_runcoach_presign_invalid(r, "body", &error);
        }

        if (body->list != NULL
            && ngx_http_runcoach_presign_text(r, ctx,
                                              i == 0 ? "{\"uploads\":[" : ",")
               != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        rc = ngx_http_runcoach_presign_item(r, ctx, &item, &error);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (body->list != NULL
        && ngx_http_runcoach_presign_text(r, ctx, "]}") != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_presign_read(ngx_http_request_t *r, ngx_str_t *body)
{
    u_char       *p;
    ngx_chain_t  *cl;

    ngx_str_null(body);

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    if (r->request_body->temp_file) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "request for an upload URL does not fit into "
                      "client_body_buffer_size");
        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }

    cl = r->request_body->bufs;

    if (cl->next == NULL) {
        body->data = cl->buf->pos;
        body->len = cl->buf->last - cl->buf->pos;

        return NGX_OK;
    }

    for ( /* void */ ; cl; cl = cl->next) {
        body->len += ngx_buf_size(cl->buf);
    }

    p = ngx_pnalloc(r->pool, body->len + 1);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body->data = p;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        p = ngx_cpymem(p, cl->buf->pos, cl->buf->last - cl->buf->pos);
    }

    return NGX_OK;
}


/* what object= and expires_in= of the directive say of this request */

static ngx_int_t
ngx_http_runcoach_presign_path(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx)
{
    off_t                                  n;
    ngx_str_t                              s;
    runcoach_upload_error_t                error;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    ctx->path_expires = plcf->expires;

    if (plcf->object != NULL) {

        if (ngx_http_complex_value(r, plcf->object, &s) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        n = s.len != 0 ? ngx_atoof(s.data, s.len) : 0;

        if (s.len != 0
            && (n <= 0 || (uint64_t) n > NGX_HTTP_RUNCOACH_OBJECT_LAST))
        {
            return ngx_http_runcoach_presign_refuse(r, NGX_HTTP_NOT_FOUND,
                                                    "Activity not found");
        }

        ctx->path = n;
    }

    if (plcf->expires_in != NULL) {

        if (ngx_http_complex_value(r, plcf->expires_in, &s) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (s.len == 0) {
            return NGX_OK;
        }

        n = ngx_atoof(s.data, s.len);

        if (n < 1 || n > RUNCOACH_SIGV4_MAX_EXPIRES) {
            error.index = -1;
            error.field = "expires_in";
            error.type = "value_error";
            error.message = "Input should be from 1 to 604800 seconds";

            return ngx_http_runcoach_presign_invalid(r, "query", &error);
        }

        ctx->path_expires = ngx_min(n, plcf->expires);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_presign_item(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item, runcoach_upload_error_t *error)
{
    char                                   detail[64];
    ngx_int_t                              rc;
    runcoach_upload_t                     *upload;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    upload = &item->upload;

    rc = ngx_http_runcoach_presign_choose(r, ctx, item, error);

    if (rc == NGX_OK && plcf->method->upload
        && upload->file_size > plcf->max_size)
    {
        ngx_sprintf((u_char *) detail, "File too large: at most %O bytes%Z",
                    plcf->max_size);

        return ngx_http_runcoach_presign_refuse(r,
                                      NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                      detail);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_runcoach_presign_headers(r, ctx, item);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_runcoach_presign_configured(r, plcf->headers,
                                                  item->headers,
                                                  &item->nheaders, error);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_runcoach_presign_configured(r, plcf->query, item->query,
                                                  &item->nquery, error);
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_runcoach_presign_invalid(r, "body", error);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    item->request.expires = ctx->path_expires;

    if (upload->expires_in != 0 && upload->expires_in < ctx->path_expires) {
        item->request.expires = upload->expires_in;
    }

    return ngx_http_runcoach_presign_sign(r, ctx, item);
}


/*
 * The activity of the path, else the one of the body, else a provisional id
 * for something new.  NGX_DECLINED: error tells what is wrong.
 */

static ngx_int_t
ngx_http_runcoach_presign_choose(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item, runcoach_upload_error_t *error)
{
    uint64_t                               stated;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    stated = item->upload.activity_id;

    if (ctx->path != 0 && stated != 0 && stated != ctx->path) {
        error->field = "activity_id";
        error->type = "value_error";
        error->message = "Input should be the activity of the path";

        return NGX_DECLINED;
    }

    ctx->object = ctx->path != 0 ? ctx->path : stated;

    if (ctx->object == 0 && plcf->named) {

        if (!plcf->method->upload) {
            error->field = "activity_id";
            error->type = "missing";
            error->message = "Field required";

            return NGX_DECLINED;
        }

        if (ngx_http_runcoach_presign_random(r, &ctx->object) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ctx->object_text.data = ctx->digits;
    ctx->object_text.len = 0;

    if (ctx->object != 0) {
        ctx->object_text.len = runcoach_number(ctx->digits, ctx->object)
                               - ctx->digits;
    }

    return NGX_OK;
}


/* asked for in stock, since each call into the generator has its price */

static ngx_int_t
ngx_http_runcoach_presign_random(ngx_http_request_t *r, uint64_t *id)
{
    static uint64_t    stock[NGX_HTTP_RUNCOACH_PRESIGN_RANDOM];
    static ngx_uint_t  left;

    if (left == 0) {

        if (RAND_bytes((u_char *) stock, sizeof(stock)) != 1) {
            ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0,
                          "RAND_bytes() failed");
            return NGX_ERROR;
        }

        left = NGX_HTTP_RUNCOACH_PRESIGN_RANDOM;
    }

    *id = NGX_HTTP_RUNCOACH_OBJECT_FIRST
          + stock[--left] % (NGX_HTTP_RUNCOACH_OBJECT_LAST
                             - NGX_HTTP_RUNCOACH_OBJECT_FIRST);

    return NGX_OK;
}


/* only what the client has stated can be bound: it knows what it will send */

static ngx_int_t
ngx_http_runcoach_presign_headers(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item)
{
    size_t                                 i;
    u_char                                *p;
    runcoach_str_t                         s;
    runcoach_upload_t                     *upload;
    runcoach_upload_meta_t                *meta;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    static const runcoach_str_t  any = runcoach_string("*");
    static const char            disposition[] = "response-content-disposition";

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    upload = &item->upload;
    item->nheaders = 0;
    item->nquery = 0;

    if (!plcf->method->upload) {

        if (upload->disposition.len != 0) {
            item->query[0].name.data = (const u_char *) disposition;
            item->query[0].name.len = sizeof(disposition) - 1;
            item->query[0].value = upload->disposition;
            item->nquery = 1;
        }

        return NGX_OK;
    }

    if (upload->file_size >= 0) {
        s.data = ctx->size;
        s.len = runcoach_number(ctx->size, upload->file_size) - ctx->size;

        ngx_http_runcoach_presign_bind(item, "content-length", &s);
    }

    ngx_http_runcoach_presign_bind(item, "content-type", &upload->content_type);

    if (upload->if_none_match) {
        ngx_http_runcoach_presign_bind(item, "if-none-match", &any);
    }

    ngx_http_runcoach_presign_bind(item, "x-amz-checksum-sha256",
                                   &upload->checksum);

    for (i = 0; i < upload->nmetadata; i++) {
        meta = &upload->metadata[i];

        s.len = sizeof("x-amz-meta-") - 1 + meta->name.len;
        p = ngx_pnalloc(r->pool, s.len + 1);
        if (p == NULL) {
            return NGX_ERROR;
        }

        s.data = p;
        p = ngx_cpymem(p, "x-amz-meta-", sizeof("x-amz-meta-") - 1);
        p = ngx_cpymem(p, meta->name.data, meta->name.len);
        *p = '\0';

        ngx_http_runcoach_presign_bind(item, (const char *) s.data,
                                       &meta->value);
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_presign_bind(ngx_http_runcoach_presign_item_t *item,
    const char *name, const runcoach_str_t *value)
{
    runcoach_sigv4_pair_t  *pair;

    if (value->len == 0) {
        return;
    }

    pair = &item->headers[item->nheaders++];

    pair->name.data = (const u_char *) name;
    pair->name.len = ngx_strlen(name);
    pair->value = *value;
}


/*
 * What the configuration binds, as far as it is not empty; the client may
 * state the same, but nothing else: NGX_DECLINED and *error.
 */

static ngx_int_t
ngx_http_runcoach_presign_configured(ngx_http_request_t *r, ngx_array_t *bound,
    runcoach_sigv4_pair_t *pairs, size_t *n, runcoach_upload_error_t *error)
{
    size_t                              k, stated;
    ngx_str_t                           value;
    ngx_uint_t                          i;
    runcoach_sigv4_pair_t              *pair;
    ngx_http_runcoach_presign_bound_t  *b;

    if (bound == NULL) {
        return NGX_OK;
    }

    b = bound->elts;
    stated = *n;

    for (i = 0; i < bound->nelts; i++) {

        if (ngx_http_complex_value(r, &b[i].value, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        if (value.len == 0) {
            continue;
        }

        for (k = 0; k < stated; k++) {

            if (pairs[k].name.len == b[i].name.len
                && ngx_strncmp(pairs[k].name.data, b[i].name.data,
                               b[i].name.len)
                   == 0)
            {
                break;
            }
        }

        pair = &pairs[k];

        if (k == stated) {
            pair = &pairs[(*n)++];

            pair->name.data = b[i].name.data;
            pair->name.len = b[i].name.len;
            pair->value.data = value.data;
            pair->value.len = value.len;

        } else if (pair->value.len != value.len
                   || ngx_memcmp(pair->value.data, value.data, value.len) != 0)
        {
            error->field = ngx_http_runcoach_presign_field(&b[i].name);
            error->type = "value_error";
            error->message = "Another value is prescribed here";

            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


static const char *
ngx_http_runcoach_presign_field(ngx_str_t *name)
{
    ngx_uint_t  i;

    static const char *const  fields[][2] = {
        { "content-length", "file_size" },
        { "content-type", "content_type" },
        { "if-none-match", "if_none_match" },
        { "x-amz-checksum-sha256", "checksum" },
        { "response-content-disposition", "content_disposition" },
        { NULL, "metadata" }
    };

    for (i = 0; fields[i][0] != NULL; i++) {

        if (ngx_http_runcoach_names_eq(name, fields[i][0])) {
            break;
        }
    }

    return fields[i][1];
}


static ngx_int_t
ngx_http_runcoach_presign_sign(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item)
{
    size_t                                 len;
    ngx_buf_t                             *b;
    runcoach_sigv4_rc_e                    rc;
    runcoach_sigv4_request_t              *request;
    ngx_http_runcoach_store_t             *store;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    store = plcf->store;
    request = &item->request;

    if (ngx_http_runcoach_presign_key(r, ctx, item) != NGX_OK) {
        goto failed;
    }

    request->method.data = plcf->method->method.data;
    request->method.len = plcf->method->method.len;
    request->scheme = store->scheme;
    request->host = store->host;
    request->base = store->base;
    request->bucket = 0;
    request->now = ctx->now;
    request->headers = item->headers;
    request->nheaders = item->nheaders;
    request->query = item->query;
    request->nquery = item->nquery;

    len = ngx_min(runcoach_sigv4_max(&store->cred, request),
                  RUNCOACH_SIGV4_MAX_URL);

    b = ngx_http_runcoach_presign_create_buf(r, item, len);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *b->last++ = '{';
    *b->last++ = '"';
    b->last = ngx_cpymem(b->last, plcf->method->member.data,
                         plcf->method->member.len);
    b->last = ngx_cpymem(b->last, "\":\"", 3);

    /* nothing in a URL of ours has to be escaped in JSON */

    rc = runcoach_sigv4_presign(b->last, len, &len, &store->cred, store->day,
                                request);

    if (rc != RUNCOACH_SIGV4_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "could not sign a URL for \"%*s\": %s", request->key.len,
                      request->key.data, runcoach_sigv4_reason(rc));
        goto failed;
    }

    ctx->nsigned++;

    b->last = ngx_http_runcoach_presign_rest(b->last + len, ctx, item,
                                             &plcf->method->method);

    if (plcf->announce.len != 0) {
        ngx_http_runcoach_presign_announce(r, ctx, item);
    }

    return ngx_http_runcoach_presign_add(r, ctx, b) == NGX_OK
           ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;

failed:

    return ngx_http_runcoach_presign_refuse(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                            "Failed to generate upload URL");
}


/* for an answer with a URL of len bytes; a character of JSON is at most six */

static ngx_buf_t *
ngx_http_runcoach_presign_create_buf(ngx_http_request_t *r,
    ngx_http_runcoach_presign_item_t *item, size_t len)
{
    size_t  i;

    len += 256 + 6 * item->request.key.len;

    for (i = 0; i < item->nheaders; i++) {
        len += sizeof(",\"\":\"\"") + item->headers[i].name.len
               + 6 * item->headers[i].value.len;
    }

    return ngx_create_temp_buf(r->pool, len);
}


/* NGX_DECLINED: a variable is not one segment, so the key would be another's */

static ngx_int_t
ngx_http_runcoach_presign_key(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item)
{
    u_char                                *p, *last;
    ngx_str_t                              s;
    ngx_uint_t                             i;
    ngx_http_variable_value_t             *v;
    ngx_http_runcoach_presign_part_t      *part;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    p = item->key;
    last = p + RUNCOACH_SIGV4_MAX_KEY;

    part = plcf->parts->elts;

    for (i = 0; i < plcf->parts->nelts; i++) {
        s = part[i].text;

        if (part[i].type == NGX_HTTP_RUNCOACH_PRESIGN_OBJECT) {
            s = ctx->object_text;

        } else if (part[i].type == NGX_HTTP_RUNCOACH_PRESIGN_VARIABLE) {
            v = ngx_http_get_flushed_variable(r, part[i].index);

            if (v == NULL || ngx_http_runcoach_presign_segment(v) != NGX_OK) {
                goto invalid;
            }

            s.data = v->data;
            s.len = v->len;
        }

        if ((size_t) (last - p) < s.len) {
            goto invalid;
        }

        p = ngx_cpymem(p, s.data, s.len);
    }

    item->request.key.data = item->key;
    item->request.key.len = p - item->key;

    return NGX_OK;

invalid:

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "variable \"%V\" of a key template is empty, too long or no "
                  "single segment of a path", &part[i].text);

    return NGX_DECLINED;
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


/* all after the URL, which is at most 256 bytes beside key and headers */

static u_char *
ngx_http_runcoach_presign_rest(u_char *p, ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item, ngx_str_t *method)
{
    size_t                  i, n;
    runcoach_sigv4_pair_t  *h;

    p = ngx_http_runcoach_presign_json(p, "\",\"key\":\"",
                                       item->request.key.data,
                                       item->request.key.len);
    *p++ = '"';

    if (ctx->object != 0) {
        p = ngx_http_runcoach_presign_json(p, ",\"activity_id\":",
                                           ctx->object_text.data,
                                           ctx->object_text.len);
    }

    p = ngx_cpymem(p, ",\"expires_at\":\"", sizeof(",\"expires_at\":\"") - 1);
    p = ngx_http_runcoach_presign_time(p, ctx->now + item->request.expires);
    p = ngx_cpymem(p, "\",\"expires_in\":", sizeof("\",\"expires_in\":") - 1);
    p = runcoach_number(p, item->request.expires);
    p = ngx_http_runcoach_presign_json(p, ",\"method\":\"", method->data,
                                       method->len);
    p = ngx_cpymem(p, "\",\"headers\":{", sizeof("\",\"headers\":{") - 1);

    n = 0;

    for (i = 0; i < item->nheaders; i++) {
        h = &item->headers[i];

        /* a browser sets it by itself, and lets nobody else do so */

        if (h->name.len == sizeof("content-length") - 1
            && ngx_strncmp(h->name.data, "content-length", h->name.len) == 0)
        {
            continue;
        }

        p = ngx_http_runcoach_presign_json(p, n++ ? "\",\"" : "\"",
                                           h->name.data, h->name.len);
        p = ngx_http_runcoach_presign_json(p, "\":\"", h->value.data,
                                           h->value.len);
    }

    if (n != 0) {
        *p++ = '"';
    }

    *p++ = '}';
    *p++ = '}';

    return p;
}


/* data is of a key or a header: it has no control characters */

static u_char *
ngx_http_runcoach_presign_json(u_char *p, const char *before,
    const u_char *data, size_t len)
{
    p = ngx_cpymem(p, before, ngx_strlen(before));

    if (memchr(data, '"', len) == NULL && memchr(data, '\\', len) == NULL) {
        return ngx_cpymem(p, data, len);
    }

    return (u_char *) ngx_escape_json(p, (u_char *) data, len);
}


static u_char *
ngx_http_runcoach_presign_time(u_char *p, time_t t)
{
    ngx_tm_t    tm;
    ngx_int_t   value;
    ngx_uint_t  i, k;

    ngx_gmtime(t, &tm);

    ngx_memcpy(p, "0000-00-00T00:00:00+00:00", NGX_HTTP_RUNCOACH_PRESIGN_TIME);

    value = tm.ngx_tm_year;

    for (k = 4; k-- != 0; /* void */ ) {
        p[k] = '0' + value % 10;
        value /= 10;
    }

    for (i = 0; i < 5; i++) {
        value = i == 0 ? tm.ngx_tm_mon
                : i == 1 ? tm.ngx_tm_mday
                : i == 2 ? tm.ngx_tm_hour
                : i == 3 ? tm.ngx_tm_min
                : tm.ngx_tm_sec;

        p[5 + 3 * i] = '0' + value / 10;
        p[6 + 3 * i] = '0' + value % 10;
    }

    return p + NGX_HTTP_RUNCOACH_PRESIGN_TIME;
}


static ngx_int_t
ngx_http_runcoach_presign_add(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, ngx_buf_t *b)
{
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    cl->buf = b;
    cl->next = NULL;

    *ctx->last = cl;
    ctx->last = &cl->next;
    ctx->length += b->last - b->pos;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_presign_text(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx, const char *text)
{
    ngx_buf_t  *b;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->memory = 1;
    b->pos = (u_char *) text;
    b->last = b->pos + ngx_strlen(text);

    return ngx_http_runcoach_presign_add(r, ctx, b);
}


/*
 * Told to whom it may concern, without waiting: when Redis is away the URL is
 * as good, and a client that completes its upload needs nobody to look.
 */

static void
ngx_http_runcoach_presign_announce(ngx_http_request_t *r,
    ngx_http_runcoach_presign_ctx_t *ctx,
    ngx_http_runcoach_presign_item_t *item)
{
    u_char                                 expires[NGX_TIME_T_LEN];
    uint64_t                               end;
    ngx_runcoach_redis_t                  *rd;
    ngx_runcoach_redis_cmd_t              *cmd;
    ngx_http_variable_value_t             *v;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    ngx_str_t  argv[] = {
        ngx_string("XADD"), ngx_null_string, ngx_string("MAXLEN"),
        ngx_string("~"), ngx_string("10000"), ngx_string("*"),
        ngx_string("key"), ngx_null_string,
        ngx_string("user"), ngx_null_string,
        ngx_string("method"), ngx_null_string,
        ngx_string("object"), ngx_null_string,
        ngx_string("size"), ngx_null_string,
        ngx_string("checksum"), ngx_null_string,
        ngx_string("expires"), ngx_null_string
    };

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    rd = ngx_http_runcoach_redis(r);
    v = ngx_http_get_indexed_variable(r, plcf->user);

    if (rd == NULL || v == NULL || v->not_found || v->len == 0) {
        return;
    }

    end = ctx->now + item->request.expires;

    argv[1] = plcf->announce;
    argv[7].data = item->key;
    argv[7].len = item->request.key.len;
    argv[9].data = v->data;
    argv[9].len = v->len;
    argv[11] = plcf->method->method;
    argv[13] = ctx->object_text;
    argv[15].data = ctx->size;

    if (item->upload.file_size >= 0) {
        argv[15].len = runcoach_number(ctx->size, item->upload.file_size)
                       - ctx->size;
    }

    argv[17].data = item->upload.checksum_buffer;
    argv[17].len = item->upload.checksum.len;
    argv[19].data = expires;
    argv[19].len = runcoach_number(expires, end) - expires;

    cmd = ngx_runcoach_redis_send(rd, sizeof(argv) / sizeof(argv[0]), argv,
                                  ngx_http_runcoach_presign_answered, NULL);

    if (cmd != NULL) {
        ngx_runcoach_redis_cancel(cmd);
    }
}


/* nobody waits: the command is cancelled as soon as it is sent */

static void
ngx_http_runcoach_presign_answered(void *data, redisReply *reply)
{
}


static ngx_int_t
ngx_http_runcoach_presign_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *detail)
{
    ngx_buf_t                        *b;
    ngx_chain_t                       out;
    ngx_http_runcoach_presign_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_runcoach_presign_module);

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

    out.buf = b;
    out.next = NULL;

    ctx->rc = ngx_http_runcoach_presign_send(r, status, &out,
                                             b->last - b->pos);
    return NGX_DONE;
}


static ngx_int_t
ngx_http_runcoach_presign_invalid(ngx_http_request_t *r, const char *where,
    runcoach_upload_error_t *error)
{
    ngx_buf_t                        *b;
    ngx_chain_t                       out;
    ngx_http_runcoach_presign_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_runcoach_presign_module);

    b = ngx_create_temp_buf(r->pool, 512);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "{\"detail\":[{\"loc\":[\"%s\"", where);

    if (error->index >= 0) {
        b->last = ngx_sprintf(b->last, ",\"uploads\",%d", error->index);
    }

    if (error->field != NULL) {
        b->last = ngx_sprintf(b->last, ",\"%s\"", error->field);
    }

    b->last = ngx_sprintf(b->last, "],\"msg\":\"%s\",\"type\":\"%s\"}]}",
                          error->message, error->type);

    out.buf = b;
    out.next = NULL;

    ctx->rc = ngx_http_runcoach_presign_send(r,
                                        NGX_HTTP_RUNCOACH_UNPROCESSABLE,
                                        &out, b->last - b->pos);
    return NGX_DONE;
}


static ngx_int_t
ngx_http_runcoach_presign_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_chain_t *out, off_t length)
{
    ngx_int_t     rc;
    ngx_chain_t  *cl;

    if (ngx_http_runcoach_presign_push(r, "Cache-Control", "no-store")
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = length;

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

    for (cl = out; cl->next; cl = cl->next) { /* void */ }

    cl->buf->last_buf = (r == r->main);
    cl->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, out);
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


ngx_int_t
ngx_http_runcoach_presign_outcome(ngx_http_request_t *r, ngx_str_t *method)
{
    ngx_http_runcoach_presign_ctx_t       *ctx;
    ngx_http_runcoach_presign_loc_conf_t  *plcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_runcoach_presign_module);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_runcoach_presign_module);

    if (ctx == NULL || plcf->method == NULL) {
        return NGX_DECLINED;
    }

    *method = plcf->method->method;

    /* all or nothing: what was signed before a mistake has not left */

    return (r->headers_out.status == NGX_HTTP_OK) ? (ngx_int_t) ctx->nsigned
                                                  : 0;
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
     *     plcf->method = NULL;
     *     plcf->parts = NULL;
     *     plcf->headers = NULL;
     *     plcf->query = NULL;
     *     plcf->object = NULL;
     *     plcf->expires_in = NULL;
     *     plcf->announce = { 0, NULL };
     *     plcf->user = 0;
     *     plcf->expires = 0;
     *     plcf->max_size = 0;
     *     plcf->named = 0;
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

        if (conf->headers != NULL || conf->query != NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "runcoach_presign_header and runcoach_presign_query "
                          "must be in the location of a runcoach_presign");
            return NGX_CONF_ERROR;
        }

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

    char                                *rv;
    ngx_str_t                           *value;
    ngx_http_core_loc_conf_t            *clcf;
    ngx_http_runcoach_presign_method_t  *method;

    if (plcf->store_name.len != 0) {
        return "is duplicate";
    }

    if (cf->args->nelts < 4) {
        return "needs a store, a method and a key template";
    }

    value = cf->args->elts;

    for (method = ngx_http_runcoach_presign_methods;
         method->method.len != 0;
         method++)
    {
        if (ngx_http_runcoach_names_eq(&value[2],
                                       (const char *) method->method.data))
        {
            break;
        }
    }

    if (method->method.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid method \"%V\" in runcoach_presign, "
                           "must be PUT, GET, HEAD or DELETE", &value[2]);
        return NGX_CONF_ERROR;
    }

    plcf->store_name = value[1];
    plcf->method = method;

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
    char                       *rv;
    ngx_str_t                   expires, max_size, object, expires_in;

    ngx_http_runcoach_param_t  known[] = {
        { "expires", &expires },
        { "expires_in", &expires_in },
        { "max_size", &max_size },
        { "object", &object },
        { "announce", &plcf->announce },
        { NULL, NULL }
    };

    static ngx_str_t  user = ngx_string("runcoach_user");

    ngx_str_set(&expires, "1h");
    ngx_str_set(&max_size, "10m");
    ngx_str_null(&object);
    ngx_str_null(&expires_in);

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

    if (plcf->announce.len != 0 && (!plcf->method->upload || !plcf->named)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "announce= in runcoach_presign is for PUT with "
                           "$runcoach_object in the key");
        return NGX_CONF_ERROR;
    }

    plcf->user = ngx_http_get_variable_index(cf, &user);

    if (plcf->user == NGX_ERROR
        || ngx_http_runcoach_presign_compile(cf, &object, &plcf->object)
           != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_runcoach_presign_compile(cf, &expires_in,
                                             &plcf->expires_in);
}


static char *
ngx_http_runcoach_presign_compile(ngx_conf_t *cf, ngx_str_t *s,
    ngx_http_complex_value_t **cv)
{
    ngx_http_compile_complex_value_t  ccv;

    if (s->len == 0) {
        return NGX_CONF_OK;
    }

    *cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*cv == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = s;
    ccv.complex_value = *cv;

    return ngx_http_compile_complex_value(&ccv) == NGX_OK ? NGX_CONF_OK
                                                          : NGX_CONF_ERROR;
}


/* runcoach_presign_header and runcoach_presign_query: NAME VALUE */

static char *
ngx_http_runcoach_presign_bound(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                          *value;
    ngx_uint_t                          header, most;
    ngx_array_t                       **bound;
    ngx_http_runcoach_presign_bound_t  *b;
    ngx_http_compile_complex_value_t    ccv;

    bound = (ngx_array_t **) ((u_char *) conf + cmd->offset);
    value = cf->args->elts;

    header = (cmd->offset
              == offsetof(ngx_http_runcoach_presign_loc_conf_t, headers));
    most = header ? NGX_HTTP_RUNCOACH_PRESIGN_HEADERS
                  : NGX_HTTP_RUNCOACH_PRESIGN_QUERY;

    if (header) {
        ngx_strlow(value[1].data, value[1].data, value[1].len);
    }

    if (header ? ngx_http_runcoach_presign_bindable(&value[1]) != NGX_OK
               : (value[1].len < 10
                  || ngx_strncmp(value[1].data, "response-", 9) != 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" in %V, must be %s", &value[1],
                           &value[0],
                           header ? "a header that a store understands, like "
                                    "content-type or x-amz-meta-name"
                                  : "like response-content-disposition");
        return NGX_CONF_ERROR;
    }

    if (*bound == NULL) {
        *bound = ngx_array_create(cf->pool, 2,
                                  sizeof(ngx_http_runcoach_presign_bound_t));
        if (*bound == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    b = (*bound)->elts;

    if ((*bound)->nelts == most) {
        return "is set too many times";
    }

    b = ngx_array_push(*bound);
    if (b == NULL) {
        return NGX_CONF_ERROR;
    }

    b->name = value[1];

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[2];
    ccv.complex_value = &b->value;

    return ngx_http_compile_complex_value(&ccv) == NGX_OK ? NGX_CONF_OK
                                                          : NGX_CONF_ERROR;
}


/* what is part of the signature by itself cannot be bound once more */

static ngx_int_t
ngx_http_runcoach_presign_bindable(ngx_str_t *name)
{
    ngx_uint_t  i;

    static const char *const  plain[] = {
        "cache-control", "content-disposition", "content-encoding",
        "content-language", "content-length", "content-md5", "content-type",
        "if-match", "if-none-match", NULL
    };

    static const char *const  taken[] = {
        "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", NULL
    };

    for (i = 0; plain[i] != NULL; i++) {
        if (ngx_http_runcoach_names_eq(name, plain[i])) {
            return NGX_OK;
        }
    }

    for (i = 0; taken[i] != NULL; i++) {
        if (ngx_http_runcoach_names_eq(name, taken[i])) {
            return NGX_ERROR;
        }
    }

    if (name->len < 7 || ngx_strncmp(name->data, "x-amz-", 6) != 0) {
        return NGX_ERROR;
    }

    for (i = 0; i < name->len; i++) {

        if ((name->data[i] < 'a' || name->data[i] > 'z')
            && (name->data[i] < '0' || name->data[i] > '9')
            && name->data[i] != '-' && name->data[i] != '_')
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
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

        part->type = NGX_HTTP_RUNCOACH_PRESIGN_LITERAL;
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

        if (ngx_http_runcoach_names_eq(&part->text, "runcoach_object")) {
            part->type = NGX_HTTP_RUNCOACH_PRESIGN_OBJECT;
            plcf->named = 1;
            continue;
        }

        part->type = NGX_HTTP_RUNCOACH_PRESIGN_VARIABLE;
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

        if (part[i].type == NGX_HTTP_RUNCOACH_PRESIGN_LITERAL) {
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
