
/*
 * Revocations reach every edge through a stream in Redis, by default
 * "runcoach:revocations".  The sidecar adds an entry for each user that is
 * deleted and each session that ends:
 *
 *     XADD runcoach:revocations MAXLEN ~ 100000 * kind user|session id <id>
 *
 * One worker of an edge reads it, on a connection of its own, into a table in
 * shared memory where all of them look:
 *
 *     check --> read --> read --> ...
 *       ^        |
 *       +--------+  nothing in five seconds, or trouble
 *
 * A stream does not forget what was sent while nobody listened, and an id says
 * when it was sent; so an edge that starts goes back as far as a token can
 * live, and the successor of a worker goes on where that one was.
 *
 * To check is to ask for the last entry of the stream.  If that is before what
 * was read, it is another stream: of a Redis that has lost its data and whose
 * clock is behind, or which an operator has removed.  Reading on would be to
 * wait for its ids to catch up.
 */


#include <openssl/evp.h>

#include "ngx_http_runcoach_revocations.h"
#include "runcoach_shared.h"


/* the sidecar has this name as well, in sidecar/webhook.c */

#define NGX_HTTP_RUNCOACH_REVOCATIONS_STREAM     "runcoach:revocations"

/* s: the longest life of a token that is accepted by default, and some more */

#define NGX_HTTP_RUNCOACH_REVOCATIONS_RETENTION  (86400 + 300)

#define NGX_HTTP_RUNCOACH_REVOCATIONS_SLACK      60      /* s */

/*
 * An entry of the sidecar takes at most 300 bytes, so a reply is well within
 * what the connection takes, and it is processed in less than a millisecond.
 */

#define NGX_HTTP_RUNCOACH_REVOCATIONS_COUNT      "200"

#define NGX_HTTP_RUNCOACH_REVOCATIONS_BLOCK      "5000"  /* ms */
#define NGX_HTTP_RUNCOACH_REVOCATIONS_TIMEOUT    8000
#define NGX_HTTP_RUNCOACH_REVOCATIONS_RETRY      100
#define NGX_HTTP_RUNCOACH_REVOCATIONS_MAX_RETRY  500

#define NGX_HTTP_RUNCOACH_REVOCATIONS_SHARE      16      /* of the zone */


typedef struct {
    uint64_t                                ms;
    uint64_t                                seq;
} ngx_http_runcoach_stream_id_t;


/* at the beginning of the memory; the rest of it is the table */

typedef struct {
    runcoach_revoked_t                     *table;
    ngx_http_runcoach_stream_id_t           last;     /* that was read */
    uint64_t                                stream;   /* of which; 0: none */
} ngx_http_runcoach_revocations_shctx_t;


typedef struct {
    ngx_http_runcoach_revocations_shctx_t  *sh;
    ngx_slab_pool_t                        *shpool;
    ngx_runcoach_redis_t                   *redis;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                               ident;

    uint64_t                                stream;   /* server and name */
    ngx_event_t                             event;    /* the next command */
    ngx_uint_t                              added;    /* since it was told */
    const char                             *reason;   /* of trouble, told */

    unsigned                                checked:1;
    unsigned                                stopped:1;
    unsigned                                malformed:1;
    unsigned                                lost:1;
} ngx_http_runcoach_subscriber_t;


typedef struct {
    ngx_http_runcoach_subscriber_t          subscriber;  /* has the ident */

    ngx_flag_t                              enable;
    ngx_str_t                               stream;
    time_t                                  retention;

    EVP_MD                                 *sha256;
    EVP_MD_CTX                             *digest;
} ngx_http_runcoach_revocations_main_conf_t;


static ngx_int_t ngx_http_runcoach_revocations_digest(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf, ngx_str_t *kind,
    u_char *id, size_t len, u_char *digest);

static void ngx_http_runcoach_revocations_event_handler(ngx_event_t *ev);
static ngx_runcoach_redis_cmd_t *ngx_http_runcoach_revocations_check(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf);
static void ngx_http_runcoach_revocations_checked(void *data,
    redisReply *reply);
static void ngx_http_runcoach_revocations_position(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf,
    ngx_http_runcoach_stream_id_t *top);
static ngx_runcoach_redis_cmd_t *ngx_http_runcoach_revocations_read(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf);
static void ngx_http_runcoach_revocations_received(void *data,
    redisReply *reply);
static redisReply *ngx_http_runcoach_revocations_entries(redisReply *reply);
static ngx_int_t ngx_http_runcoach_revocations_add(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf, redisReply *entry,
    ngx_http_runcoach_stream_id_t *id);
static ngx_str_t *ngx_http_runcoach_revocations_fields(redisReply *entry,
    redisReply **id);
static ngx_int_t ngx_http_runcoach_revocations_id(redisReply *entry,
    ngx_http_runcoach_stream_id_t *id);
static u_char *ngx_http_runcoach_revocations_number(u_char *p, u_char *last,
    uint64_t *n);
static ngx_int_t ngx_http_runcoach_revocations_compare(
    ngx_http_runcoach_stream_id_t *one, ngx_http_runcoach_stream_id_t *two);
static void ngx_http_runcoach_revocations_report(
    ngx_http_runcoach_subscriber_t *sub);
static ngx_int_t ngx_http_runcoach_revocations_failed(
    ngx_http_runcoach_subscriber_t *sub, redisReply *reply);
static void ngx_http_runcoach_revocations_trouble(
    ngx_http_runcoach_subscriber_t *sub, const char *reason,
    redisReply *reply);
static void ngx_http_runcoach_revocations_again(
    ngx_http_runcoach_subscriber_t *sub);
static void ngx_http_runcoach_revocations_next(
    ngx_http_runcoach_subscriber_t *sub);
static void ngx_http_runcoach_revocations_retry(
    ngx_http_runcoach_subscriber_t *sub);

static void *ngx_http_runcoach_revocations_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_runcoach_revocations_set(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_runcoach_revocations_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_runcoach_revocations_zone_init(
    ngx_slab_pool_t *shpool, void **data);
static void ngx_http_runcoach_revocations_cleanup(void *data);
static ngx_int_t ngx_http_runcoach_revocations_init_process(
    ngx_cycle_t *cycle);


static ngx_command_t  ngx_http_runcoach_revocations_commands[] = {

    { ngx_string("runcoach_revocations"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE123,
      ngx_http_runcoach_revocations_set,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_runcoach_revocations_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_runcoach_revocations_init,    /* postconfiguration */

    ngx_http_runcoach_revocations_create_main_conf,
                                           /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_runcoach_revocations_module = {
    NGX_MODULE_V1,
    &ngx_http_runcoach_revocations_module_ctx, /* module context */
    ngx_http_runcoach_revocations_commands,    /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_runcoach_revocations_init_process, /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_str_t  ngx_http_runcoach_revoked_user = ngx_string("user");
static ngx_str_t  ngx_http_runcoach_revoked_session = ngx_string("session");


uint64_t
ngx_http_runcoach_revocations(ngx_http_request_t *r)
{
    ngx_http_runcoach_revocations_shctx_t      *sh;
    ngx_http_runcoach_revocations_main_conf_t  *rvmcf;

    rvmcf = ngx_http_get_module_main_conf(r,
                                         ngx_http_runcoach_revocations_module);

    if (rvmcf->enable != 1) {
        return 0;
    }

    sh = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_REVOCATIONS,
                                     NULL);

    return sh != NULL ? runcoach_revoked_generation(sh->table) : 0;
}


time_t
ngx_http_runcoach_revocations_retention(ngx_conf_t *cf)
{
    ngx_http_runcoach_revocations_main_conf_t  *rvmcf;

    rvmcf = ngx_http_conf_get_module_main_conf(cf,
                                       ngx_http_runcoach_revocations_module);

    return (rvmcf->enable == 1) ? rvmcf->retention : 0;
}


ngx_uint_t
ngx_http_runcoach_revoked(ngx_http_request_t *r, ngx_str_t *user,
    ngx_str_t *session)
{
    u_char                                      u[RUNCOACH_DIGEST];
    u_char                                      s[RUNCOACH_DIGEST];
    ngx_uint_t                                  revoked;
    ngx_slab_pool_t                            *shpool;
    ngx_http_runcoach_revocations_shctx_t      *sh;
    ngx_http_runcoach_revocations_main_conf_t  *rvmcf;

    rvmcf = ngx_http_get_module_main_conf(r,
                                         ngx_http_runcoach_revocations_module);

    if (rvmcf->enable != 1) {
        return 0;
    }

    sh = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_REVOCATIONS,
                                     &shpool);
    if (sh == NULL) {
        return 0;
    }

    /* who cannot be looked up is not let in */

    if (ngx_http_runcoach_revocations_digest(rvmcf,
                                             &ngx_http_runcoach_revoked_user,
                                             user->data, user->len, u)
        != NGX_OK
        || ngx_http_runcoach_revocations_digest(rvmcf,
                                           &ngx_http_runcoach_revoked_session,
                                           session->data, session->len, s)
           != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "no digest for runcoach_revocations");
        return 1;
    }

    ngx_shmtx_lock(&shpool->mutex);

    revoked = (user->len && runcoach_revoked_test(sh->table, u, ngx_time()))
              || (session->len
                  && runcoach_revoked_test(sh->table, s, ngx_time()));

    ngx_shmtx_unlock(&shpool->mutex);

    return revoked;
}


/* the NUL after the kind is part of it: no id can look like another kind's */

static ngx_int_t
ngx_http_runcoach_revocations_digest(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf, ngx_str_t *kind,
    u_char *id, size_t len, u_char *digest)
{
    if (EVP_DigestInit_ex(rvmcf->digest, rvmcf->sha256, NULL) != 1
        || EVP_DigestUpdate(rvmcf->digest, kind->data, kind->len + 1) != 1
        || EVP_DigestUpdate(rvmcf->digest, id, len) != 1
        || EVP_DigestFinal_ex(rvmcf->digest, digest, NULL) != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_revocations_event_handler(ngx_event_t *ev)
{
    ngx_runcoach_redis_cmd_t                   *cmd;
    ngx_http_runcoach_subscriber_t             *sub;
    ngx_http_runcoach_revocations_main_conf_t  *rvmcf;

    rvmcf = ev->data;
    sub = &rvmcf->subscriber;

    if (sub->stopped || ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    cmd = sub->checked ? ngx_http_runcoach_revocations_read(rvmcf)
                       : ngx_http_runcoach_revocations_check(rvmcf);

    if (cmd == NULL) {
        ngx_http_runcoach_revocations_retry(sub);
    }
}


static ngx_runcoach_redis_cmd_t *
ngx_http_runcoach_revocations_check(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf)
{
    ngx_str_t  argv[6];

    ngx_str_set(&argv[0], "XREVRANGE");
    argv[1] = rvmcf->stream;
    ngx_str_set(&argv[2], "+");
    ngx_str_set(&argv[3], "-");
    ngx_str_set(&argv[4], "COUNT");
    ngx_str_set(&argv[5], "1");

    return ngx_runcoach_redis_send(rvmcf->subscriber.redis, 6, argv,
                                   ngx_http_runcoach_revocations_checked,
                                   rvmcf);
}


static void
ngx_http_runcoach_revocations_checked(void *data, redisReply *reply)
{
    ngx_http_runcoach_revocations_main_conf_t *rvmcf = data;

    ngx_http_runcoach_stream_id_t    top;
    ngx_http_runcoach_subscriber_t  *sub;

    sub = &rvmcf->subscriber;

    if (ngx_http_runcoach_revocations_failed(sub, reply) != NGX_OK) {
        return;
    }

    top.ms = 0;
    top.seq = 0;

    if (reply->type != REDIS_REPLY_ARRAY
        || (reply->elements != 0
            && ngx_http_runcoach_revocations_id(reply->element[0], &top)
               != NGX_OK))
    {
        ngx_http_runcoach_revocations_trouble(sub, "unexpected type of reply",
                                              NULL);
        return;
    }

    ngx_http_runcoach_revocations_position(rvmcf, &top);

    sub->checked = 1;
    ngx_http_runcoach_revocations_next(sub);
}


/* where to go on, or to begin: the last entry is known, or there is none */

static void
ngx_http_runcoach_revocations_position(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf,
    ngx_http_runcoach_stream_id_t *top)
{
    ngx_uint_t                              begun;
    ngx_http_runcoach_stream_id_t           last, start;
    ngx_http_runcoach_subscriber_t         *sub;
    ngx_http_runcoach_revocations_shctx_t  *sh;

    sub = &rvmcf->subscriber;
    sh = sub->sh;

    start.ms = (uint64_t) ngx_max(ngx_time() - rvmcf->retention, 0) * 1000;
    start.seq = 0;

    ngx_shmtx_lock(&sub->shpool->mutex);

    /* a reload may have brought another one */

    begun = (sh->stream == sub->stream);
    last = sh->last;

    if (begun && ngx_http_runcoach_revocations_compare(top, &last) >= 0) {
        ngx_shmtx_unlock(&sub->shpool->mutex);
        return;
    }

    sh->last = start;

    if (ngx_http_runcoach_revocations_compare(top, &start) < 0) {

        /*
         * All of them are too old to matter, or of a clock that is far
         * behind.  What comes next is after them in either case, but in a
         * stream that is not the one we knew they may be news.
         */

        sh->last.ms = begun ? 0 : top->ms;
        sh->last.seq = begun ? 0 : top->seq;
    }

    sh->stream = sub->stream;

    ngx_shmtx_unlock(&sub->shpool->mutex);

    if (begun) {
        ngx_log_error(NGX_LOG_NOTICE, sub->event.log, 0,
                      "the stream \"%V\" of runcoach_revocations ends at "
                      "%uL-%uL, before %uL-%uL, and is read anew",
                      &rvmcf->stream, top->ms, top->seq, last.ms, last.seq);
    }
}


static ngx_runcoach_redis_cmd_t *
ngx_http_runcoach_revocations_read(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf)
{
    u_char                           id[2 * NGX_INT64_LEN + 1];
    ngx_str_t                        argv[8];
    ngx_http_runcoach_stream_id_t    last;
    ngx_http_runcoach_subscriber_t  *sub;

    sub = &rvmcf->subscriber;

    ngx_shmtx_lock(&sub->shpool->mutex);
    last = sub->sh->last;
    ngx_shmtx_unlock(&sub->shpool->mutex);

    ngx_str_set(&argv[0], "XREAD");
    ngx_str_set(&argv[1], "COUNT");
    ngx_str_set(&argv[2], NGX_HTTP_RUNCOACH_REVOCATIONS_COUNT);
    ngx_str_set(&argv[3], "BLOCK");
    ngx_str_set(&argv[4], NGX_HTTP_RUNCOACH_REVOCATIONS_BLOCK);
    ngx_str_set(&argv[5], "STREAMS");
    argv[6] = rvmcf->stream;
    argv[7].data = id;
    argv[7].len = ngx_sprintf(id, "%uL-%uL", last.ms, last.seq) - id;

    return ngx_runcoach_redis_send(sub->redis, 8, argv,
                                   ngx_http_runcoach_revocations_received,
                                   rvmcf);
}


static void
ngx_http_runcoach_revocations_received(void *data, redisReply *reply)
{
    ngx_http_runcoach_revocations_main_conf_t *rvmcf = data;

    size_t                           i;
    redisReply                      *entries;
    ngx_http_runcoach_stream_id_t    id;
    ngx_http_runcoach_subscriber_t  *sub;

    sub = &rvmcf->subscriber;
    ngx_memzero(&id, sizeof(ngx_http_runcoach_stream_id_t));

    if (ngx_http_runcoach_revocations_failed(sub, reply) != NGX_OK) {
        return;
    }

    if (reply->type == REDIS_REPLY_NIL) {
        ngx_http_runcoach_revocations_report(sub);

        sub->checked = 0;
        ngx_http_runcoach_revocations_again(sub);
        return;
    }

    entries = ngx_http_runcoach_revocations_entries(reply);

    if (entries == NULL) {
        goto failed;
    }

    for (i = 0; i < entries->elements; i++) {

        if (ngx_http_runcoach_revocations_id(entries->element[i], &id)
            != NGX_OK)
        {
            goto failed;
        }

        if (ngx_http_runcoach_revocations_add(rvmcf, entries->element[i], &id)
            != NGX_OK
            && !sub->malformed)
        {
            sub->malformed = 1;

            ngx_log_error(NGX_LOG_WARN, sub->event.log, 0,
                          "the entry %uL-%uL of the stream \"%V\" is not "
                          "understood by runcoach_revocations, it and others "
                          "of its like are skipped",
                          id.ms, id.seq, &rvmcf->stream);
        }
    }

    ngx_shmtx_lock(&sub->shpool->mutex);

    if (sub->sh->stream == sub->stream) {
        sub->sh->last = id;
    }

    ngx_shmtx_unlock(&sub->shpool->mutex);

    ngx_http_runcoach_revocations_again(sub);

    return;

failed:

    ngx_http_runcoach_revocations_trouble(sub, "unexpected type of reply",
                                          NULL);
}


/* a list of one pair, the name of the stream and its entries */

static redisReply *
ngx_http_runcoach_revocations_entries(redisReply *reply)
{
    redisReply  *stream, *entries;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1) {
        return NULL;
    }

    stream = reply->element[0];

    if (stream->type != REDIS_REPLY_ARRAY || stream->elements != 2) {
        return NULL;
    }

    entries = stream->element[1];

    if (entries->type != REDIS_REPLY_ARRAY || entries->elements == 0) {
        return NULL;
    }

    return entries;
}


static ngx_int_t
ngx_http_runcoach_revocations_add(
    ngx_http_runcoach_revocations_main_conf_t *rvmcf, redisReply *entry,
    ngx_http_runcoach_stream_id_t *id)
{
    time_t                           now, added;
    u_char                           digest[RUNCOACH_DIGEST];
    ngx_str_t                       *kind;
    redisReply                      *name;
    ngx_http_runcoach_subscriber_t  *sub;

    sub = &rvmcf->subscriber;

    kind = ngx_http_runcoach_revocations_fields(entry, &name);

    if (kind == NULL
        || ngx_http_runcoach_revocations_digest(rvmcf, kind,
                                                (u_char *) name->str,
                                                name->len, digest)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    now = ngx_time();
    added = (time_t) (id->ms / 1000);

    /*
     * The id tells when it was, unless by a clock that cannot be ours: nothing
     * is read which is much older than a token can be.
     */

    if (added > now
        || added < now - rvmcf->retention - NGX_HTTP_RUNCOACH_REVOCATIONS_SLACK)
    {
        added = now;
    }

    ngx_shmtx_lock(&sub->shpool->mutex);

    sub->added += runcoach_revoked_add(sub->sh->table, digest,
                                       added + rvmcf->retention, now);

    ngx_shmtx_unlock(&sub->shpool->mutex);

    return NGX_OK;
}


/* fields that are not known may be of a newer sidecar */

static ngx_str_t *
ngx_http_runcoach_revocations_fields(redisReply *entry, redisReply **id)
{
    size_t       i;
    ngx_str_t    name, *kind;
    redisReply  *fields, *value;

    *id = NULL;
    kind = NULL;
    fields = entry->element[1];

    if (fields->type != REDIS_REPLY_ARRAY) {
        return NULL;
    }

    for (i = 0; i + 1 < fields->elements; i += 2) {
        value = fields->element[i + 1];

        if (fields->element[i]->type != REDIS_REPLY_STRING
            || value->type != REDIS_REPLY_STRING)
        {
            return NULL;
        }

        name.data = (u_char *) fields->element[i]->str;
        name.len = fields->element[i]->len;

        if (ngx_http_runcoach_names_eq(&name, "id")) {
            *id = value;
            continue;
        }

        if (!ngx_http_runcoach_names_eq(&name, "kind")) {
            continue;
        }

        name.data = (u_char *) value->str;
        name.len = value->len;

        kind = ngx_http_runcoach_names_eq(&name, "user")
                   ? &ngx_http_runcoach_revoked_user
               : ngx_http_runcoach_names_eq(&name, "session")
                   ? &ngx_http_runcoach_revoked_session : NULL;
    }

    return (*id != NULL && (*id)->len != 0) ? kind : NULL;
}


static ngx_int_t
ngx_http_runcoach_revocations_id(redisReply *entry,
    ngx_http_runcoach_stream_id_t *id)
{
    u_char      *p, *last;
    redisReply  *text;

    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2) {
        return NGX_ERROR;
    }

    text = entry->element[0];

    if (text->type != REDIS_REPLY_STRING) {
        return NGX_ERROR;
    }

    p = (u_char *) text->str;
    last = p + text->len;

    p = ngx_http_runcoach_revocations_number(p, last, &id->ms);

    if (p == NULL || p == last || *p != '-') {
        return NGX_ERROR;
    }

    p = ngx_http_runcoach_revocations_number(p + 1, last, &id->seq);

    return (p == last) ? NGX_OK : NGX_ERROR;
}


/* both halves of an id use all of 64 bits */

static u_char *
ngx_http_runcoach_revocations_number(u_char *p, u_char *last, uint64_t *n)
{
    u_char    *start;
    uint64_t   digit;

    *n = 0;

    for (start = p; p < last && *p >= '0' && *p <= '9'; p++) {
        digit = *p - '0';

        if (*n > (UINT64_MAX - digit) / 10) {
            return NULL;
        }

        *n = *n * 10 + digit;
    }

    return (p > start) ? p : NULL;
}


static ngx_int_t
ngx_http_runcoach_revocations_compare(ngx_http_runcoach_stream_id_t *one,
    ngx_http_runcoach_stream_id_t *two)
{
    if (one->ms != two->ms) {
        return (one->ms < two->ms) ? -1 : 1;
    }

    if (one->seq != two->seq) {
        return (one->seq < two->seq) ? -1 : 1;
    }

    return 0;
}


/* a line for each burst, when it is over */

static void
ngx_http_runcoach_revocations_report(ngx_http_runcoach_subscriber_t *sub)
{
    uint64_t  n, lost;

    if (sub->added == 0) {
        return;
    }

    ngx_shmtx_lock(&sub->shpool->mutex);
    runcoach_revoked_count(sub->sh->table, ngx_time(), &n, &lost);
    ngx_shmtx_unlock(&sub->shpool->mutex);

    ngx_log_error(NGX_LOG_INFO, sub->event.log, 0,
                  "revocations: %ui came, %uL are in force", sub->added, n);

    sub->added = 0;

    if (lost != 0 && !sub->lost) {
        sub->lost = 1;

        ngx_log_error(NGX_LOG_WARN, sub->event.log, 0,
                      "revocations: %uL had to make room before their time, "
                      "runcoach_zone is too small for them", lost);
    }
}


static ngx_int_t
ngx_http_runcoach_revocations_failed(ngx_http_runcoach_subscriber_t *sub,
    redisReply *reply)
{
    const char  *reason;

    if (reply == NULL) {

        /* the connection has told why */

        ngx_http_runcoach_revocations_retry(sub);
        return NGX_ERROR;
    }

    if (reply->type != REDIS_REPLY_ERROR) {
        return NGX_OK;
    }

    reason = (ngx_strncasecmp((u_char *) reply->str,
                              (u_char *) "ERR unknown command", 19)
              == 0)
             ? "streams need Redis 5 or newer" : "redis refused";

    ngx_http_runcoach_revocations_trouble(sub, reason, reply);

    return NGX_ERROR;
}


/* tells it once, however often it happens */

static void
ngx_http_runcoach_revocations_trouble(ngx_http_runcoach_subscriber_t *sub,
    const char *reason, redisReply *reply)
{
    size_t  len;

    if (sub->reason != reason) {
        sub->reason = reason;

        len = (reply != NULL) ? ngx_min((size_t) reply->len, 128) : 0;

        ngx_log_error(NGX_LOG_ERR, sub->event.log, 0,
                      "runcoach_revocations could not read its stream: "
                      "%s%s%*s%s", reason, len ? ": \"" : "",
                      len, len ? reply->str : "", len ? "\"" : "");
    }

    ngx_http_runcoach_revocations_retry(sub);
}


/* after a read that went well, which a check that does so is not yet */

static void
ngx_http_runcoach_revocations_again(ngx_http_runcoach_subscriber_t *sub)
{
    if (sub->reason) {
        sub->reason = NULL;

        ngx_log_error(NGX_LOG_NOTICE, sub->event.log, 0,
                      "runcoach_revocations reads its stream again");
    }

    ngx_http_runcoach_revocations_next(sub);
}


/* from the event loop, as a handler of a reply may not send */

static void
ngx_http_runcoach_revocations_next(ngx_http_runcoach_subscriber_t *sub)
{
    ngx_post_event(&sub->event, &ngx_posted_events);
}


static void
ngx_http_runcoach_revocations_retry(ngx_http_runcoach_subscriber_t *sub)
{
    ngx_msec_t  delay;

    sub->checked = 0;

    if (sub->stopped || ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    delay = NGX_HTTP_RUNCOACH_REVOCATIONS_RETRY
            + ngx_random() % (NGX_HTTP_RUNCOACH_REVOCATIONS_MAX_RETRY
                              - NGX_HTTP_RUNCOACH_REVOCATIONS_RETRY + 1);

    ngx_add_timer(&sub->event, delay);
}


static void *
ngx_http_runcoach_revocations_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_runcoach_revocations_main_conf_t  *rvmcf;

    rvmcf = ngx_pcalloc(cf->pool,
                        sizeof(ngx_http_runcoach_revocations_main_conf_t));
    if (rvmcf == NULL) {
        return NULL;
    }

    rvmcf->enable = NGX_CONF_UNSET;

    return rvmcf;
}


static char *
ngx_http_runcoach_revocations_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_runcoach_revocations_main_conf_t *rvmcf = conf;

    char        *rv;
    ngx_str_t   *value, retention;
    ngx_uint_t   off, first;

    ngx_http_runcoach_param_t  known[] = {
        { "stream", &rvmcf->stream },
        { "retention", &retention },
        { NULL, NULL }
    };

    if (rvmcf->enable != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    off = ngx_http_runcoach_names_eq(&value[1], "off");
    first = (off || ngx_http_runcoach_names_eq(&value[1], "on")) ? 2 : 1;

    ngx_str_set(&rvmcf->stream, NGX_HTTP_RUNCOACH_REVOCATIONS_STREAM);
    ngx_str_null(&retention);

    rv = ngx_http_runcoach_params(cf, first, known);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (rvmcf->stream.len == 0) {
        return "has an empty name of the stream";
    }

    rvmcf->enable = !off;
    rvmcf->retention = NGX_HTTP_RUNCOACH_REVOCATIONS_RETENTION;

    if (retention.data == NULL) {
        return NGX_CONF_OK;
    }

    rvmcf->retention = ngx_parse_time(&retention, 1);

    if (rvmcf->retention == (time_t) NGX_ERROR || rvmcf->retention == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid retention \"%V\" in runcoach_revocations, "
                           "must be a time above 0 like 24h", &retention);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_runcoach_revocations_init(ngx_conf_t *cf)
{
    ngx_int_t                                   rc;
    ngx_pool_cleanup_t                         *cln;
    ngx_http_runcoach_subscriber_t             *sub;
    ngx_http_runcoach_revocations_main_conf_t  *rvmcf;

    rvmcf = ngx_http_conf_get_module_main_conf(cf,
                                         ngx_http_runcoach_revocations_module);

    if (rvmcf->enable != 1) {
        return NGX_OK;
    }

    sub = &rvmcf->subscriber;

    if (ngx_http_runcoach_zone_add(cf, NGX_HTTP_RUNCOACH_ZONE_REVOCATIONS,
                                   ngx_http_runcoach_revocations_zone_init)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "runcoach_revocations needs shared memory, add "
                      "\"runcoach_zone runcoach:16m;\" to http");
        return NGX_ERROR;
    }

    rc = ngx_http_runcoach_redis_add(cf, "runcoach-revocations",
                                     NGX_HTTP_RUNCOACH_REVOCATIONS_TIMEOUT,
                                     &sub->redis);

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "runcoach_revocations needs Redis, add "
                      "\"runcoach_redis env:REDIS_URL;\" to http");
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (sub->redis == NULL) {
        ngx_log_error(NGX_LOG_NOTICE, cf->log, 0,
                      "runcoach_revocations is off: runcoach_redis is off");

        rvmcf->enable = 0;
        return NGX_OK;
    }

    /* runs before the cleanup of the connection, which calls for the replies */

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_runcoach_revocations_cleanup;
    cln->data = rvmcf;

    rvmcf->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    rvmcf->digest = EVP_MD_CTX_new();

    return (rvmcf->sha256 != NULL && rvmcf->digest != NULL) ? NGX_OK
                                                            : NGX_ERROR;
}


static ngx_int_t
ngx_http_runcoach_revocations_zone_init(ngx_slab_pool_t *shpool, void **data)
{
    size_t                                  size;
    ngx_http_runcoach_revocations_shctx_t  *sh;

    size = (shpool->end - (u_char *) shpool)
           / NGX_HTTP_RUNCOACH_REVOCATIONS_SHARE;
    size = ngx_max(size - size % ngx_pagesize, ngx_pagesize);

    sh = ngx_slab_alloc(shpool, size);
    if (sh == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(sh, sizeof(ngx_http_runcoach_revocations_shctx_t));

    sh->table = runcoach_revoked_init(&sh[1], size - sizeof(*sh));
    if (sh->table == NULL) {
        return NGX_ERROR;
    }

    *data = sh;

    return NGX_OK;
}


static void
ngx_http_runcoach_revocations_cleanup(void *data)
{
    ngx_http_runcoach_revocations_main_conf_t *rvmcf = data;

    ngx_http_runcoach_subscriber_t  *sub;

    sub = &rvmcf->subscriber;
    sub->stopped = 1;

    if (sub->event.timer_set) {
        ngx_del_timer(&sub->event);
    }

    if (sub->event.posted) {
        ngx_delete_posted_event(&sub->event);
    }

    EVP_MD_CTX_free(rvmcf->digest);
    EVP_MD_free(rvmcf->sha256);
}


static ngx_int_t
ngx_http_runcoach_revocations_init_process(ngx_cycle_t *cycle)
{
    ngx_http_runcoach_subscriber_t             *sub;
    ngx_http_runcoach_revocations_main_conf_t  *rvmcf;

    /* the processes that keep the cache are no workers, but numbered 0 too */

    if (ngx_process != NGX_PROCESS_SINGLE
        && (ngx_process != NGX_PROCESS_WORKER || ngx_worker != 0))
    {
        return NGX_OK;
    }

    rvmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                         ngx_http_runcoach_revocations_module);

    if (rvmcf == NULL || rvmcf->enable != 1) {
        return NGX_OK;
    }

    sub = &rvmcf->subscriber;

    sub->sh = ngx_http_runcoach_zone_cycle_data(cycle,
                                           NGX_HTTP_RUNCOACH_ZONE_REVOCATIONS,
                                           &sub->shpool);
    if (sub->sh == NULL) {
        return NGX_OK;
    }

    sub->ident = -1;

    sub->stream = ngx_crc32_long(rvmcf->stream.data, rvmcf->stream.len);
    sub->stream = sub->stream << 32 | ngx_runcoach_redis_hash(sub->redis) | 1;

    sub->event.handler = ngx_http_runcoach_revocations_event_handler;
    sub->event.data = rvmcf;
    sub->event.log = cycle->log;
    sub->event.cancelable = 1;

    /* not from here: the loop has not begun */

    ngx_add_timer(&sub->event, 1);

    return NGX_OK;
}
