
/*
 * The connection of a worker to Redis.
 *
 *           send()                TCP, TLS            greeted
 *     DOWN --------> RESOLVING -----------> CONNECTING, --------> UP
 *       ^                                   GREETING              |
 *       +------------ backoff, 100 to 500 ms <--------------------+
 *                                 any error
 *
 * Commands wait in one queue for replies, which come in the same order.  So a
 * reply cannot be skipped: a command that is overdue costs the connection.
 * AUTH, SELECT and CLIENT SETNAME are simply the first commands.
 *
 * Requests must never pay for a Redis that is in trouble.  The first ones may
 * wait for a connection to be made, not longer than for a reply.  After a
 * failure the connection is made again in the background, with all the time it
 * takes, and until it is greeted send() refuses at once.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#if (NGX_SSL)
#include <openssl/x509v3.h>
#endif

#include "ngx_runcoach_redis.h"
#include "lib/runcoach_metrics.h"
#include "lib/runcoach_number.h"
#include "lib/runcoach_redis_url.h"
#include "lib/runcoach_reply.h"


#define NGX_RUNCOACH_REDIS_MAX_PENDING  4096
#define NGX_RUNCOACH_REDIS_MAX_OUT      262144
#define NGX_RUNCOACH_REDIS_MAX_REPLY    65536
#define NGX_RUNCOACH_REDIS_MAX_LARGE    1048576

#define NGX_RUNCOACH_REDIS_CONNECT      1000
#define NGX_RUNCOACH_REDIS_BACKOFF      100
#define NGX_RUNCOACH_REDIS_MAX_BACKOFF  500

#define NGX_RUNCOACH_REDIS_REASONS      8

#define NGX_RUNCOACH_REDIS_NAME         "runcoach-edge"


#define ngx_runcoach_redis_add(rd, counter)                                   \
    if ((rd)->counters != NULL) {                                             \
        runcoach_counter_add(&(rd)->counters->counter, 1);                    \
    }


typedef enum {
    NGX_RUNCOACH_REDIS_DOWN = 0,
    NGX_RUNCOACH_REDIS_RESOLVING,
    NGX_RUNCOACH_REDIS_CONNECTING,
    NGX_RUNCOACH_REDIS_GREETING,
    NGX_RUNCOACH_REDIS_UP
} ngx_runcoach_redis_state_e;


struct ngx_runcoach_redis_cmd_s {
    ngx_queue_t                   queue;
    ngx_runcoach_redis_reply_pt   handler;     /* NULL: cancelled */
    void                         *data;
    ngx_msec_t                    deadline;
    ngx_uint_t                    abandoned;   /* unsigned  abandoned:1; */
};


struct ngx_runcoach_redis_s {
    ngx_pool_t                   *pool;
    runcoach_reply_reader_t      *reader;

    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_int_t                     ident;

    ngx_runcoach_redis_state_e    state;

    ngx_peer_connection_t         peer;
    ngx_resolver_ctx_t           *resolve;
    ngx_log_t                     log;

    ngx_queue_t                   pending;     /* the oldest first */
    ngx_queue_t                   free;
    ngx_uint_t                    npending;

    ngx_event_t                   flush;       /* posted */
    ngx_event_t                   timer;       /* overdue */
    ngx_event_t                   backoff;

    ngx_buf_t                     out;
    ngx_chain_t                   chain;
    size_t                        max_reply;

    ngx_msec_t                    timeout;
    ngx_msec_t                    deadline;    /* to be greeted */
    ngx_msec_t                    since;       /* of the trouble */
    ngx_msec_t                    looked;      /* while others are down */
    ngx_uint_t                    failures;
    const char                   *reason;      /* the last one */
    const char                   *told[NGX_RUNCOACH_REDIS_REASONS];
    ngx_uint_t                    ntold;
    const char                   *refused;
    ngx_str_t                     error;
    u_char                        text[128];

    ngx_addr_t                   *addrs;       /* allocated, as resolved */
    ngx_addr_t                   *resolved;
    ngx_uint_t                    naddrs;
    ngx_uint_t                    naddr;
    ngx_uint_t                    tries;

    ngx_str_t                     client;      /* what it calls itself */
    ngx_str_t                     host;
    in_port_t                     port;
    ngx_str_t                     user;
    ngx_str_t                     password;
    ngx_str_t                     db;

    ngx_resolver_t               *resolver;
    ngx_msec_t                    resolver_timeout;

    ngx_runcoach_redis_shared_t  *shared;      /* NULL: on its own */
    ngx_runcoach_redis_counters_t  *counters;

#if (NGX_SSL)
    ngx_ssl_t                    *ssl;
#endif

    unsigned                      name:1;      /* the host is not a literal */
    unsigned                      tls:1;
    unsigned                      suspect:1;   /* nobody may wait for it */
    unsigned                      broken:1;    /* takes no more commands */
    unsigned                      wary:1;      /* greets, then refuses */
    unsigned                      background:1;
};


static ngx_int_t ngx_runcoach_redis_init(ngx_conf_t *cf,
    ngx_runcoach_redis_t *rd, const char *name, ngx_msec_t timeout);
static void ngx_runcoach_redis_connect(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_resolved(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_runcoach_redis_copy_addrs(ngx_runcoach_redis_t *rd,
    ngx_resolver_ctx_t *ctx);
static void ngx_runcoach_redis_connect_peer(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_connect_handler(ngx_event_t *ev);
static void ngx_runcoach_redis_next_peer(ngx_runcoach_redis_t *rd,
    ngx_err_t err);
static void ngx_runcoach_redis_connected(ngx_runcoach_redis_t *rd);
#if (NGX_SSL)
static void ngx_runcoach_redis_ssl_init(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_ssl_handler(ngx_connection_t *c);
static ngx_int_t ngx_runcoach_redis_ssl_verify(ngx_runcoach_redis_t *rd);
#endif
static ngx_int_t ngx_runcoach_redis_greet(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_greeted(void *data, redisReply *reply);
static void ngx_runcoach_redis_back(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_auth_reply(void *data, redisReply *reply);
static void ngx_runcoach_redis_select_reply(void *data, redisReply *reply);

static ngx_int_t ngx_runcoach_redis_open(ngx_runcoach_redis_t *rd);
static ngx_runcoach_redis_cmd_t *ngx_runcoach_redis_sent(
    ngx_runcoach_redis_t *rd, ngx_runcoach_redis_cmd_t *cmd,
    ngx_msec_t since);
static ngx_runcoach_redis_cmd_t *ngx_runcoach_redis_push(
    ngx_runcoach_redis_t *rd, size_t size,
    ngx_runcoach_redis_reply_pt handler, void *data);
static ngx_runcoach_redis_cmd_t *ngx_runcoach_redis_append(
    ngx_runcoach_redis_t *rd, ngx_uint_t argc, ngx_str_t *argv,
    ngx_runcoach_redis_reply_pt handler, void *data);
static u_char *ngx_runcoach_redis_header(u_char *p, u_char type, size_t n);
static ngx_int_t ngx_runcoach_redis_reserve(ngx_runcoach_redis_t *rd,
    size_t size);
static void ngx_runcoach_redis_flush_handler(ngx_event_t *ev);
static void ngx_runcoach_redis_write_handler(ngx_event_t *wev);
static void ngx_runcoach_redis_flush(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_break(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_runcoach_redis_replies(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_undecodable(ngx_runcoach_redis_t *rd,
    runcoach_reply_rc_e rc);
static ngx_int_t ngx_runcoach_redis_reply(ngx_runcoach_redis_t *rd,
    redisReply *reply);
static void ngx_runcoach_redis_examine(ngx_runcoach_redis_t *rd,
    redisReply *reply);
static void ngx_runcoach_redis_refuse(ngx_runcoach_redis_t *rd,
    const char *reason, u_char *text, size_t len);
static void ngx_runcoach_redis_arm(ngx_runcoach_redis_t *rd);
static ngx_msec_t ngx_runcoach_redis_deadline(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_timer_handler(ngx_event_t *ev);
static void ngx_runcoach_redis_backoff_handler(ngx_event_t *ev);

static void ngx_runcoach_redis_fail(ngx_runcoach_redis_t *rd, ngx_err_t err,
    const char *reason);
static ngx_uint_t ngx_runcoach_redis_is_news(ngx_runcoach_redis_t *rd,
    const char *reason);
static void ngx_runcoach_redis_tell(ngx_runcoach_redis_t *rd,
    ngx_msec_t until);
static ngx_uint_t ngx_runcoach_redis_may_look(ngx_runcoach_redis_t *rd);
static ngx_uint_t ngx_runcoach_redis_pauses(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_leave(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_disconnect(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_close_peer(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_abandon(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_clear(ngx_runcoach_redis_t *rd);
static void ngx_runcoach_redis_cleanup(void *data);
static u_char *ngx_runcoach_redis_log_error(ngx_log_t *log, u_char *buf,
    size_t len);

static ngx_int_t ngx_runcoach_redis_parse(ngx_conf_t *cf,
    ngx_runcoach_redis_t *rd, ngx_str_t *url);
static ngx_int_t ngx_runcoach_redis_addresses(ngx_conf_t *cf,
    ngx_runcoach_redis_t *rd, ngx_uint_t local);
static ngx_int_t ngx_runcoach_redis_copy(ngx_conf_t *cf, ngx_str_t *dst,
    const char *src);
#if (NGX_SSL)
static ngx_int_t ngx_runcoach_redis_ssl_create(ngx_conf_t *cf,
    ngx_runcoach_redis_t *rd);
#endif


ngx_runcoach_redis_t *
ngx_runcoach_redis_create(ngx_conf_t *cf, ngx_str_t *url, ngx_msec_t timeout)
{
    ngx_runcoach_redis_t  *rd;

    rd = ngx_pcalloc(cf->pool, sizeof(ngx_runcoach_redis_t));
    if (rd == NULL) {
        return NULL;
    }

    if (ngx_runcoach_redis_parse(cf, rd, url) != NGX_OK) {
        return NULL;
    }

#if (NGX_SSL)

    if (rd->tls && ngx_runcoach_redis_ssl_create(cf, rd) != NGX_OK) {
        return NULL;
    }

#else

    if (rd->tls) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "rediss:// in runcoach_redis needs nginx with SSL");
        return NULL;
    }

#endif

    if (ngx_runcoach_redis_init(cf, rd, NGX_RUNCOACH_REDIS_NAME, timeout)
        != NGX_OK)
    {
        return NULL;
    }

    return rd;
}


ngx_runcoach_redis_t *
ngx_runcoach_redis_clone(ngx_conf_t *cf, ngx_runcoach_redis_t *rd,
    const char *name, ngx_msec_t timeout)
{
    ngx_runcoach_redis_t  *clone;

    clone = ngx_pcalloc(cf->pool, sizeof(ngx_runcoach_redis_t));
    if (clone == NULL) {
        return NULL;
    }

    /* the addresses are those of the configuration: nothing has connected */

    clone->addrs = rd->addrs;
    clone->naddrs = rd->naddrs;
    clone->host = rd->host;
    clone->port = rd->port;
    clone->user = rd->user;
    clone->password = rd->password;
    clone->db = rd->db;
    clone->resolver = rd->resolver;
    clone->resolver_timeout = rd->resolver_timeout;
    clone->name = rd->name;
    clone->tls = rd->tls;

#if (NGX_SSL)
    clone->ssl = rd->ssl;
#endif

    if (ngx_runcoach_redis_init(cf, clone, name, timeout) != NGX_OK) {
        return NULL;
    }

    clone->background = 1;
    clone->timer.cancelable = 1;
    clone->max_reply = NGX_RUNCOACH_REDIS_MAX_LARGE;

    return clone;
}


uint32_t
ngx_runcoach_redis_hash(ngx_runcoach_redis_t *rd)
{
    uint32_t  hash;

    ngx_crc32_init(hash);
    ngx_crc32_update(&hash, rd->host.data, rd->host.len);
    ngx_crc32_update(&hash, (u_char *) &rd->port, sizeof(in_port_t));
    ngx_crc32_update(&hash, rd->db.data, rd->db.len);
    ngx_crc32_final(hash);

    return hash;
}


static ngx_int_t
ngx_runcoach_redis_init(ngx_conf_t *cf, ngx_runcoach_redis_t *rd,
    const char *name, ngx_msec_t timeout)
{
    ngx_pool_cleanup_t  *cln;

    rd->pool = cf->pool;
    rd->ident = -1;
    rd->timeout = timeout;
    rd->max_reply = NGX_RUNCOACH_REDIS_MAX_REPLY;

    rd->client.data = (u_char *) name;
    rd->client.len = ngx_strlen(name);

    ngx_queue_init(&rd->pending);
    ngx_queue_init(&rd->free);

    rd->flush.handler = ngx_runcoach_redis_flush_handler;
    rd->flush.data = rd;
    rd->flush.log = &rd->log;

    rd->timer.handler = ngx_runcoach_redis_timer_handler;
    rd->timer.data = rd;
    rd->timer.log = &rd->log;

    rd->backoff.handler = ngx_runcoach_redis_backoff_handler;
    rd->backoff.data = rd;
    rd->backoff.log = &rd->log;
    rd->backoff.cancelable = 1;

    rd->out.memory = 1;
    rd->out.flush = 1;
    rd->chain.buf = &rd->out;

    /* a single process reloads without leaving */

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_runcoach_redis_cleanup;
    cln->data = rd;

    return NGX_OK;
}


void
ngx_runcoach_redis_set_resolver(ngx_runcoach_redis_t *rd,
    ngx_resolver_t *resolver, ngx_msec_t timeout)
{
    rd->resolver = resolver;
    rd->resolver_timeout = timeout;
}


void
ngx_runcoach_redis_share(ngx_runcoach_redis_t *rd,
    ngx_runcoach_redis_shared_t *shared)
{
    rd->shared = shared;
}


void
ngx_runcoach_redis_status(ngx_runcoach_redis_t *rd,
    ngx_runcoach_redis_status_t *status)
{
    static const char  *states[] = {
        "down", "resolving", "connecting", "greeting", "up"
    };

    status->state = states[rd->state];
    status->reason = rd->reason;
    status->pending = rd->npending;
    status->failures = rd->failures;
    status->since = rd->failures ? ngx_current_msec - rd->since : 0;
    status->timeout = rd->timeout;
}


void
ngx_runcoach_redis_count(ngx_runcoach_redis_t *rd,
    ngx_runcoach_redis_counters_t *counters)
{
    rd->counters = counters;
}


ngx_runcoach_redis_cmd_t *
ngx_runcoach_redis_send(ngx_runcoach_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_runcoach_redis_reply_pt handler, void *data)
{
    ngx_runcoach_redis_cmd_t  *cmd;

    if (ngx_runcoach_redis_open(rd) != NGX_OK) {
        ngx_runcoach_redis_add(rd, refused);
        return NULL;
    }

    cmd = ngx_runcoach_redis_append(rd, argc, argv, handler, data);

    return ngx_runcoach_redis_sent(rd, cmd, ngx_current_msec);
}


ngx_runcoach_redis_cmd_t *
ngx_runcoach_redis_send_written(ngx_runcoach_redis_t *rd, ngx_str_t *command,
    ngx_msec_t since, ngx_runcoach_redis_reply_pt handler, void *data)
{
    ngx_runcoach_redis_cmd_t  *cmd;

    if (ngx_current_msec - since >= rd->timeout
        || ngx_runcoach_redis_open(rd) != NGX_OK)
    {
        ngx_runcoach_redis_add(rd, refused);
        return NULL;
    }

    cmd = ngx_runcoach_redis_push(rd, command->len, handler, data);

    if (cmd != NULL) {
        rd->out.last = ngx_cpymem(rd->out.last, command->data, command->len);
    }

    return ngx_runcoach_redis_sent(rd, cmd, since);
}


/* NGX_DECLINED: it is away, and nobody has to wait for it */

static ngx_int_t
ngx_runcoach_redis_open(ngx_runcoach_redis_t *rd)
{
    if (rd->backoff.timer_set) {
        return NGX_DECLINED;
    }

    /*
     * Who made out the trouble looks for its end, in the background.  Should
     * that worker be gone, somebody has to wait for once.
     */

    if (rd->shared != NULL && rd->shared->down != 0
        && !ngx_runcoach_redis_may_look(rd))
    {
        return NGX_DECLINED;
    }

    if (rd->state == NGX_RUNCOACH_REDIS_DOWN) {
        ngx_runcoach_redis_connect(rd);
    }

    if (rd->state == NGX_RUNCOACH_REDIS_DOWN || rd->suspect) {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_runcoach_redis_cmd_t *
ngx_runcoach_redis_sent(ngx_runcoach_redis_t *rd, ngx_runcoach_redis_cmd_t *cmd,
    ngx_msec_t since)
{
    if (cmd == NULL) {
        ngx_runcoach_redis_add(rd, refused);
        return NULL;
    }

    ngx_runcoach_redis_add(rd, calls);

    cmd->deadline = since + rd->timeout;

    if (rd->state == NGX_RUNCOACH_REDIS_UP) {
        rd->peer.connection->idle = rd->background;

        if (rd->timer.timer_set
            && (ngx_msec_int_t) (cmd->deadline - rd->timer.timer.key) < 0)
        {
            ngx_del_timer(&rd->timer);
        }

        ngx_runcoach_redis_arm(rd);
    }

    if (rd->state >= NGX_RUNCOACH_REDIS_GREETING) {
        ngx_post_event(&rd->flush, &ngx_posted_events);
    }

    return cmd;
}


u_char *
ngx_runcoach_redis_write_count(u_char *p, ngx_uint_t argc)
{
    return ngx_runcoach_redis_header(p, '*', argc);
}


u_char *
ngx_runcoach_redis_write_arg(u_char *p, const u_char *arg, size_t len)
{
    p = ngx_runcoach_redis_header(p, '$', len);
    p = ngx_cpymem(p, arg, len);
    *p++ = CR; *p++ = LF;

    return p;
}


u_char *
ngx_runcoach_redis_write_number(u_char *p, int64_t n)
{
    size_t   len;
    u_char  *last, *text;

    /* most numbers have up to nine digits, so their length has one */

    text = p + sizeof("$1" CRLF) - 1;
    last = text;

    if (n < 0) {
        *last++ = '-';
    }

    last = runcoach_number(last, (n < 0) ? 0 - (uint64_t) n : (uint64_t) n);
    len = last - text;

    if (len > 9) {
        ngx_memmove(text + 1, text, len);
        last++;
    }

    (void) ngx_runcoach_redis_header(p, '$', len);

    *last++ = CR; *last++ = LF;

    return last;
}


ngx_uint_t
ngx_runcoach_redis_ready(ngx_runcoach_redis_t *rd)
{
    ngx_atomic_int_t  since;

    if (rd->backoff.timer_set || rd->suspect) {
        return 0;
    }

    if (rd->shared == NULL || rd->shared->down == 0) {
        return 1;
    }

    if (rd->state == NGX_RUNCOACH_REDIS_UP) {
        return !ngx_runcoach_redis_pauses(rd);
    }

    since = (ngx_atomic_int_t) (ngx_current_msec - rd->shared->probe);

    return since >= 0;
}


void
ngx_runcoach_redis_cancel(ngx_runcoach_redis_cmd_t *cmd)
{
    cmd->handler = NULL;
}


void
ngx_runcoach_redis_close(ngx_runcoach_redis_t *rd)
{
    ngx_runcoach_redis_leave(rd);

    if (rd->backoff.timer_set) {
        ngx_del_timer(&rd->backoff);
    }
}


static void
ngx_runcoach_redis_connect(ngx_runcoach_redis_t *rd)
{
    ngx_msec_t           timeout;
    ngx_resolver_ctx_t  *ctx, temp;

    rd->log = *ngx_cycle->log;
    rd->log.handler = ngx_runcoach_redis_log_error;
    rd->log.data = rd;
    rd->log.action = "connecting";

    /* what repeats itself at each attempt has been logged */

    if (rd->failures) {
        rd->log.log_level = NGX_LOG_ALERT;
    }

    rd->peer.name = NULL;
    rd->tries = 0;
    rd->refused = NULL;
    rd->broken = 0;
    rd->suspect = (rd->failures != 0
                   || (rd->shared != NULL && rd->shared->down != 0));
    rd->state = NGX_RUNCOACH_REDIS_RESOLVING;

    timeout = rd->background ? NGX_RUNCOACH_REDIS_CONNECT
                             : ngx_max(rd->timeout, NGX_RUNCOACH_REDIS_CONNECT);
    rd->deadline = ngx_current_msec + timeout;

    rd->timer.cancelable = (rd->suspect || rd->background);
    ngx_add_timer(&rd->timer, rd->timer.cancelable ? timeout : rd->timeout);

    if (ngx_runcoach_redis_greet(rd) != NGX_OK) {
        ngx_runcoach_redis_fail(rd, 0, "no memory");
        return;
    }

    if (!rd->name || rd->resolver == NULL) {
        ngx_runcoach_redis_connect_peer(rd);
        return;
    }

    ngx_memzero(&temp, sizeof(ngx_resolver_ctx_t));
    temp.name = rd->host;

    ctx = ngx_resolve_start(rd->resolver, &temp);

    if (ctx == NGX_NO_RESOLVER) {
        ngx_runcoach_redis_connect_peer(rd);
        return;
    }

    if (ctx == NULL) {
        ngx_runcoach_redis_fail(rd, 0, "no memory");
        return;
    }

    ctx->name = rd->host;
    ctx->handler = ngx_runcoach_redis_resolved;
    ctx->data = rd;
    ctx->timeout = rd->resolver_timeout;
    ctx->cancelable = 1;

    rd->resolve = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        rd->resolve = NULL;
        ngx_runcoach_redis_fail(rd, 0, "its name could not be resolved");
    }
}


static void
ngx_runcoach_redis_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_runcoach_redis_t *rd = ctx->data;

    ngx_int_t   rc;
    ngx_uint_t  state;

    state = ctx->state;
    rc = NGX_ERROR;

    if (state == 0) {
        rc = ngx_runcoach_redis_copy_addrs(rd, ctx);
    }

    ngx_resolve_name_done(ctx);
    rd->resolve = NULL;

    if (state != 0 && rd->naddrs == 0) {
        ngx_runcoach_redis_fail(rd, 0, ngx_resolver_strerror(state));
        return;
    }

    /* a name server in trouble is no reason to give up what is known */

    if (state == 0 && rc != NGX_OK) {
        ngx_runcoach_redis_fail(rd, 0, "no memory");
        return;
    }

    ngx_runcoach_redis_connect_peer(rd);
}


static ngx_int_t
ngx_runcoach_redis_copy_addrs(ngx_runcoach_redis_t *rd, ngx_resolver_ctx_t *ctx)
{
    u_char      *p;
    size_t       size, len;
    ngx_uint_t   i;
    ngx_addr_t  *addrs;

    size = ctx->naddrs * (sizeof(ngx_addr_t) + sizeof(ngx_sockaddr_t)
                          + NGX_SOCKADDR_STRLEN);

    addrs = ngx_alloc(size, &rd->log);
    if (addrs == NULL) {
        return NGX_ERROR;
    }

    p = (u_char *) &addrs[ctx->naddrs];

    for (i = 0; i < ctx->naddrs; i++) {
        addrs[i].sockaddr = (struct sockaddr *) p;
        addrs[i].socklen = ctx->addrs[i].socklen;

        ngx_memcpy(p, ctx->addrs[i].sockaddr, addrs[i].socklen);
        ngx_inet_set_port(addrs[i].sockaddr, rd->port);

        p += sizeof(ngx_sockaddr_t);
    }

    for (i = 0; i < ctx->naddrs; i++) {
        len = ngx_sock_ntop(addrs[i].sockaddr, addrs[i].socklen, p,
                            NGX_SOCKADDR_STRLEN, 1);

        addrs[i].name.data = p;
        addrs[i].name.len = len;

        p += NGX_SOCKADDR_STRLEN;
    }

    if (rd->resolved) {
        ngx_free(rd->resolved);
    }

    rd->resolved = addrs;
    rd->addrs = addrs;
    rd->naddrs = ctx->naddrs;

    return NGX_OK;
}


static void
ngx_runcoach_redis_connect_peer(ngx_runcoach_redis_t *rd)
{
    ngx_int_t          rc;
    ngx_addr_t        *addr;
    ngx_connection_t  *c;

    if (rd->naddrs == 0) {
        ngx_runcoach_redis_fail(rd, 0, "its name is unknown, and no resolver "
                                       "is set");
        return;
    }

    rd->tries++;
    addr = &rd->addrs[rd->naddr++ % rd->naddrs];

    ngx_memzero(&rd->peer, sizeof(ngx_peer_connection_t));

    rd->peer.sockaddr = addr->sockaddr;
    rd->peer.socklen = addr->socklen;
    rd->peer.name = &addr->name;
    rd->peer.get = ngx_event_get_peer;
    rd->peer.log = &rd->log;
    rd->peer.log_error = NGX_ERROR_ERR;
    rd->peer.so_keepalive = (addr->sockaddr->sa_family != AF_UNIX);

    rc = ngx_event_connect_peer(&rd->peer);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_runcoach_redis_next_peer(rd, 0);
        return;
    }

    c = rd->peer.connection;
    c->data = rd;
    c->idle = rd->background;

    rd->log.connection = c->number;
    rd->state = NGX_RUNCOACH_REDIS_CONNECTING;

    c->read->handler = ngx_runcoach_redis_connect_handler;
    c->write->handler = ngx_runcoach_redis_connect_handler;

    c->pool = ngx_create_pool(1024, &rd->log);
    if (c->pool == NULL) {
        ngx_runcoach_redis_fail(rd, 0, "no memory");
        return;
    }

    if (rc == NGX_OK) {
        ngx_runcoach_redis_connect_handler(c->write);
    }
}


static void
ngx_runcoach_redis_connect_handler(ngx_event_t *ev)
{
    int                    err;
    socklen_t              len;
    ngx_connection_t      *c;
    ngx_runcoach_redis_t  *rd;

    c = ev->data;
    rd = c->data;

    if (c->close) {
        ngx_runcoach_redis_leave(rd);
        return;
    }

    err = 0;
    len = sizeof(int);

    /* Solaris returns -1 and sets errno */

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        ngx_runcoach_redis_next_peer(rd, err);
        return;
    }

    if (!c->write->ready) {
        return;
    }

    if (rd->peer.sockaddr->sa_family != AF_UNIX
        && ngx_tcp_nodelay(c) != NGX_OK)
    {
        ngx_runcoach_redis_fail(rd, 0, "its socket failed");
        return;
    }

#if (NGX_SSL)

    if (rd->ssl != NULL) {
        ngx_runcoach_redis_ssl_init(rd);
        return;
    }

#endif

    ngx_runcoach_redis_connected(rd);
}


static void
ngx_runcoach_redis_next_peer(ngx_runcoach_redis_t *rd, ngx_err_t err)
{
    if (rd->tries >= rd->naddrs) {
        ngx_runcoach_redis_fail(rd, err, "it does not accept connections");
        return;
    }

    ngx_runcoach_redis_close_peer(rd);
    ngx_runcoach_redis_connect_peer(rd);
}


static void
ngx_runcoach_redis_connected(ngx_runcoach_redis_t *rd)
{
    ngx_connection_t  *c;

    c = rd->peer.connection;

    rd->reader = runcoach_reply_reader_create(rd->max_reply);
    if (rd->reader == NULL) {
        ngx_runcoach_redis_fail(rd, 0, "no memory");
        return;
    }

    rd->log.action = "greeting";
    rd->state = NGX_RUNCOACH_REDIS_GREETING;

    c->read->handler = ngx_runcoach_redis_read_handler;
    c->write->handler = ngx_runcoach_redis_write_handler;

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }

    ngx_runcoach_redis_flush(rd);
}


#if (NGX_SSL)

static void
ngx_runcoach_redis_ssl_init(ngx_runcoach_redis_t *rd)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = rd->peer.connection;

    rd->log.action = "SSL handshaking";

    if (ngx_ssl_create_connection(rd->ssl, c, NGX_SSL_BUFFER|NGX_SSL_CLIENT)
        != NGX_OK)
    {
        ngx_runcoach_redis_fail(rd, 0, "no memory");
        return;
    }

    /* a literal address is not allowed in SNI */

    if (rd->name
        && SSL_set_tlsext_host_name(c->ssl->connection,
                                    (char *) rd->host.data)
           == 0)
    {
        ngx_runcoach_redis_fail(rd, 0, "its name is not fit for SNI");
        return;
    }

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = ngx_runcoach_redis_ssl_handler;
        return;
    }

    ngx_runcoach_redis_ssl_handler(c);
}


static void
ngx_runcoach_redis_ssl_handler(ngx_connection_t *c)
{
    ngx_runcoach_redis_t  *rd;

    rd = c->data;

    if (!c->ssl->handshaked) {
        ngx_runcoach_redis_fail(rd, 0, "the SSL handshake failed");
        return;
    }

    if (ngx_runcoach_redis_ssl_verify(rd) != NGX_OK) {
        ngx_runcoach_redis_fail(rd, 0, "its certificate is not accepted");
        return;
    }

    ngx_runcoach_redis_connected(rd);
}


/* before a password is sent: whose certificate, and for which name */

static ngx_int_t
ngx_runcoach_redis_ssl_verify(ngx_runcoach_redis_t *rd)
{
    int                rc;
    long               verify;
    X509              *cert;
    ngx_connection_t  *c;

    c = rd->peer.connection;

    verify = SSL_get_verify_result(c->ssl->connection);

    if (verify != X509_V_OK) {
        ngx_log_error(NGX_LOG_ERR, &rd->log, 0,
                      "redis certificate verify error: (%l:%s)", verify,
                      X509_verify_cert_error_string(verify));
        return NGX_ERROR;
    }

    if (rd->name) {
        rc = (ngx_ssl_check_host(c, &rd->host) == NGX_OK);

    } else {
        cert = SSL_get_peer_certificate(c->ssl->connection);

        rc = (cert != NULL
              && X509_check_ip_asc(cert, (char *) rd->host.data, 0) == 1);

        X509_free(cert);
    }

    if (rc) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, &rd->log, 0,
                  "redis certificate does not match \"%V\"", &rd->host);

    return NGX_ERROR;
}

#endif


static ngx_int_t
ngx_runcoach_redis_greet(ngx_runcoach_redis_t *rd)
{
    ngx_str_t  argv[3];

    if (rd->password.len) {
        ngx_str_set(&argv[0], "AUTH");
        argv[1] = rd->user;
        argv[2] = rd->password;

        /* no user name is the form that Redis before 6 knows */

        if (rd->user.len == 0) {
            argv[1] = rd->password;
        }

        if (ngx_runcoach_redis_append(rd, rd->user.len ? 3 : 2, argv,
                                      ngx_runcoach_redis_auth_reply, rd)
            == NULL)
        {
            return NGX_ERROR;
        }
    }

    if (rd->db.len) {
        ngx_str_set(&argv[0], "SELECT");
        argv[1] = rd->db;

        if (ngx_runcoach_redis_append(rd, 2, argv,
                                      ngx_runcoach_redis_select_reply, rd)
            == NULL)
        {
            return NGX_ERROR;
        }
    }

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "SETNAME");
    argv[2] = rd->client;

    if (ngx_runcoach_redis_append(rd, 3, argv, ngx_runcoach_redis_greeted, rd)
        == NULL)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The last reply of the greeting, whatever it says: not every server knows the
 * command, and not every user may use it.
 */

static void
ngx_runcoach_redis_greeted(void *data, redisReply *reply)
{
    ngx_runcoach_redis_t *rd = data;

    ngx_queue_t               *q;
    ngx_runcoach_redis_cmd_t  *cmd;

    if (reply == NULL || rd->refused) {
        return;
    }

    rd->state = NGX_RUNCOACH_REDIS_UP;
    rd->suspect = 0;

    ngx_runcoach_redis_add(rd, connections);

    rd->log.action = "waiting for a reply";
    rd->log.log_level = ngx_cycle->log->log_level;

    if (!rd->wary) {
        ngx_runcoach_redis_back(rd);
    }

    /* from now on the timer is that of the oldest command, of no old age */

    ngx_del_timer(&rd->timer);
    rd->timer.cancelable = rd->background;

    for (q = ngx_queue_head(&rd->pending);
         q != ngx_queue_sentinel(&rd->pending);
         q = ngx_queue_next(q))
    {
        cmd = ngx_queue_data(q, ngx_runcoach_redis_cmd_t, queue);
        cmd->deadline = ngx_current_msec + rd->timeout;
    }
}


static void
ngx_runcoach_redis_back(ngx_runcoach_redis_t *rd)
{
    if (rd->failures) {
        ngx_log_error(NGX_LOG_NOTICE, &rd->log, 0,
                      "redis is back after %M ms",
                      ngx_current_msec - rd->since);
    }

    rd->wary = 0;
    rd->failures = 0;
    rd->reason = NULL;
    rd->ntold = 0;
}


static void
ngx_runcoach_redis_auth_reply(void *data, redisReply *reply)
{
    ngx_runcoach_redis_t *rd = data;

    size_t  len;

    if (reply == NULL || reply->type != REDIS_REPLY_ERROR) {
        return;
    }

    /* not the text, which may repeat what was sent */

    for (len = 0; len < (size_t) reply->len; len++) {

        if (reply->str[len] < 'A' || reply->str[len] > 'Z') {
            break;
        }
    }

    ngx_runcoach_redis_refuse(rd, "it refused the user or the password",
                              (u_char *) reply->str, len);
}


static void
ngx_runcoach_redis_select_reply(void *data, redisReply *reply)
{
    ngx_runcoach_redis_t *rd = data;

    if (reply == NULL || reply->type != REDIS_REPLY_ERROR) {
        return;
    }

    ngx_runcoach_redis_refuse(rd, "it refused the database",
                              (u_char *) reply->str, reply->len);
}


static ngx_runcoach_redis_cmd_t *
ngx_runcoach_redis_append(ngx_runcoach_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_runcoach_redis_reply_pt handler, void *data)
{
    size_t                     size;
    u_char                    *p;
    ngx_uint_t                 i;
    ngx_runcoach_redis_cmd_t  *cmd;

    size = NGX_RUNCOACH_REDIS_ARG;

    for (i = 0; i < argc; i++) {
        size += NGX_RUNCOACH_REDIS_ARG + argv[i].len;
    }

    cmd = ngx_runcoach_redis_push(rd, size, handler, data);
    if (cmd == NULL) {
        return NULL;
    }

    p = ngx_runcoach_redis_write_count(rd->out.last, argc);

    for (i = 0; i < argc; i++) {
        p = ngx_runcoach_redis_write_arg(p, argv[i].data, argv[i].len);
    }

    rd->out.last = p;

    return cmd;
}


/* waits for the reply to what the caller writes, up to size bytes */

static ngx_runcoach_redis_cmd_t *
ngx_runcoach_redis_push(ngx_runcoach_redis_t *rd, size_t size,
    ngx_runcoach_redis_reply_pt handler, void *data)
{
    ngx_queue_t               *q;
    ngx_runcoach_redis_cmd_t  *cmd;

    if (rd->npending >= NGX_RUNCOACH_REDIS_MAX_PENDING
        || ngx_runcoach_redis_reserve(rd, size) != NGX_OK)
    {
        return NULL;
    }

    if (!ngx_queue_empty(&rd->free)) {
        q = ngx_queue_head(&rd->free);
        ngx_queue_remove(q);

        cmd = ngx_queue_data(q, ngx_runcoach_redis_cmd_t, queue);

    } else {
        cmd = ngx_palloc(rd->pool, sizeof(ngx_runcoach_redis_cmd_t));
        if (cmd == NULL) {
            return NULL;
        }
    }

    cmd->handler = handler;
    cmd->data = data;
    cmd->deadline = rd->deadline;
    cmd->abandoned = 0;

    ngx_queue_insert_tail(&rd->pending, &cmd->queue);
    rd->npending++;

    return cmd;
}


static u_char *
ngx_runcoach_redis_header(u_char *p, u_char type, size_t n)
{
    *p++ = type;
    p = runcoach_number(p, n);
    *p++ = CR; *p++ = LF;

    return p;
}


static ngx_int_t
ngx_runcoach_redis_reserve(ngx_runcoach_redis_t *rd, size_t size)
{
    size_t      used, room;
    u_char     *p;
    ngx_buf_t  *b;

    b = &rd->out;
    used = b->last - b->pos;

    if (used + size > NGX_RUNCOACH_REDIS_MAX_OUT) {
        return NGX_ERROR;
    }

    if (size <= (size_t) (b->end - b->last)) {
        return NGX_OK;
    }

    /* moving is safe, as TLS writes from a buffer of its own */

    room = b->end - b->start;

    if (used + size <= room / 2) {
        ngx_memmove(b->start, b->pos, used);
        b->pos = b->start;
        b->last = b->start + used;

        return NGX_OK;
    }

    room = ngx_min(2 * (used + size) + 4096, NGX_RUNCOACH_REDIS_MAX_OUT);

    p = ngx_alloc(room, ngx_cycle->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (b->start) {
        ngx_memcpy(p, b->pos, used);
        ngx_free(b->start);
    }

    b->start = p;
    b->pos = p;
    b->last = p + used;
    b->end = p + room;

    return NGX_OK;
}


static void
ngx_runcoach_redis_flush_handler(ngx_event_t *ev)
{
    ngx_runcoach_redis_t  *rd;

    rd = ev->data;

    if (rd->state >= NGX_RUNCOACH_REDIS_GREETING) {
        ngx_runcoach_redis_flush(rd);
    }
}


static void
ngx_runcoach_redis_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;

    c = wev->data;

    ngx_runcoach_redis_flush(c->data);
}


static void
ngx_runcoach_redis_flush(ngx_runcoach_redis_t *rd)
{
    ngx_buf_t         *b;
    ngx_chain_t       *in;
    ngx_connection_t  *c;

    c = rd->peer.connection;
    b = &rd->out;

    if (rd->broken) {
        return;
    }

    while (c->write->ready && (b->pos < b->last || c->buffered)) {

        in = (b->pos < b->last) ? &rd->chain : NULL;

        if (c->send_chain(c, in, 0) == NGX_CHAIN_ERROR) {
            ngx_runcoach_redis_break(rd);
            return;
        }
    }

    if (b->pos == b->last) {
        b->pos = b->start;
        b->last = b->start;
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_runcoach_redis_fail(rd, 0, "its socket failed");
    }
}


/*
 * It takes no more commands, and has perhaps said why: what there is to be read
 * is read before the connection fails.  Nobody new may wait for that.
 */

static void
ngx_runcoach_redis_break(ngx_runcoach_redis_t *rd)
{
    ngx_event_t  *rev;

    rd->broken = 1;
    rd->suspect = 1;

    rev = rd->peer.connection->read;
    rev->ready = 1;

    ngx_post_event(rev, &ngx_posted_events);
}


static void
ngx_runcoach_redis_read_handler(ngx_event_t *rev)
{
    u_char                 buf[16384];
    ssize_t                n;
    ngx_connection_t      *c;
    ngx_runcoach_redis_t  *rd;

    c = rev->data;
    rd = c->data;

    if (c->close) {
        ngx_runcoach_redis_leave(rd);
        return;
    }

    for ( ;; ) {

        n = c->recv(c, buf, sizeof(buf));

        if (n == NGX_AGAIN) {
            break;
        }

        if (n <= 0 && rd->npending == 0) {

            /* closed for being idle, or by a restart: no trouble so far */

            ngx_log_error(NGX_LOG_INFO, &rd->log, 0,
                          "redis closed the idle connection");
            ngx_runcoach_redis_disconnect(rd);
            return;
        }

        if (n <= 0) {
            ngx_runcoach_redis_fail(rd, 0, "it closed the connection");
            return;
        }

        if (runcoach_reply_feed(rd->reader, (char *) buf, n)
            != RUNCOACH_REPLY_OK)
        {
            ngx_runcoach_redis_fail(rd, 0, "no memory");
            return;
        }

        if (ngx_runcoach_redis_replies(rd) != NGX_OK) {
            ngx_runcoach_redis_fail(rd, 0, rd->refused);
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_runcoach_redis_fail(rd, 0, "its socket failed");
        return;
    }

    if (rd->state != NGX_RUNCOACH_REDIS_UP || rd->npending != 0) {
        return;
    }

    if (ngx_exiting) {
        ngx_runcoach_redis_disconnect(rd);
        return;
    }

    c->idle = 1;
}


static ngx_int_t
ngx_runcoach_redis_replies(ngx_runcoach_redis_t *rd)
{
    redisReply           *reply;
    runcoach_reply_rc_e   rc;

    for ( ;; ) {
        rc = runcoach_reply_next(rd->reader, &reply);

        if (rc != RUNCOACH_REPLY_OK) {
            break;
        }

        if (ngx_runcoach_redis_reply(rd, reply) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (rc != RUNCOACH_REPLY_AGAIN) {
        ngx_runcoach_redis_undecodable(rd, rc);
        return NGX_ERROR;
    }

    if (rd->state == NGX_RUNCOACH_REDIS_UP) {
        ngx_runcoach_redis_arm(rd);
    }

    return NGX_OK;
}


static void
ngx_runcoach_redis_undecodable(ngx_runcoach_redis_t *rd,
    runcoach_reply_rc_e rc)
{
    const char  *text;

    switch (rc) {

    case RUNCOACH_REPLY_TOO_LARGE:
        ngx_runcoach_redis_refuse(rd, "its reply is too large", NULL, 0);
        break;

    case RUNCOACH_REPLY_MALFORMED:
        text = runcoach_reply_text(rd->reader);
        ngx_runcoach_redis_refuse(rd, "it does not speak RESP2",
                                  (u_char *) text, ngx_strlen(text));
        break;

    default: /* RUNCOACH_REPLY_NO_MEMORY */
        ngx_runcoach_redis_refuse(rd, "no memory", NULL, 0);
    }
}


static ngx_int_t
ngx_runcoach_redis_reply(ngx_runcoach_redis_t *rd, redisReply *reply)
{
    ngx_queue_t               *q;
    ngx_runcoach_redis_cmd_t  *cmd;

    ngx_runcoach_redis_examine(rd, reply);

    if (rd->npending == 0) {
        ngx_runcoach_redis_refuse(rd, "it sent a reply to no command",
                                  NULL, 0);
        return NGX_ERROR;
    }

    q = ngx_queue_head(&rd->pending);
    ngx_queue_remove(q);
    ngx_queue_insert_head(&rd->free, q);
    rd->npending--;

    cmd = ngx_queue_data(q, ngx_runcoach_redis_cmd_t, queue);

    if (cmd->handler) {
        cmd->handler(cmd->data, reply);
    }

    if (rd->refused) {
        return NGX_ERROR;
    }

    if (rd->wary && cmd->data != rd) {
        ngx_runcoach_redis_back(rd);
    }

    if (rd->shared != NULL && rd->state == NGX_RUNCOACH_REDIS_UP && !rd->wary) {
        rd->shared->heard = ngx_current_msec;

        if (rd->shared->down != 0) {
            rd->shared->down = 0;
        }
    }

    return NGX_OK;
}


/*
 * Errors that all further commands would get.  READONLY is a primary which has
 * become a replica: its name has to be resolved anew.
 */

static void
ngx_runcoach_redis_examine(ngx_runcoach_redis_t *rd, redisReply *reply)
{
    switch (runcoach_reply_error(reply)) {

    case RUNCOACH_REPLY_NO_AUTH:
        ngx_runcoach_redis_refuse(rd, "it needs a password", NULL, 0);
        break;

    case RUNCOACH_REPLY_REPLICA:
        ngx_runcoach_redis_refuse(rd, "it is a replica", NULL, 0);
        break;

    case RUNCOACH_REPLY_TOO_MANY:
        ngx_runcoach_redis_refuse(rd, "it has too many clients", NULL, 0);
        break;

    case RUNCOACH_REPLY_DENIED:
        ngx_runcoach_redis_refuse(rd, "it is in protected mode, and takes only "
                                      "clients of its own machine", NULL, 0);
        break;

    default: /* RUNCOACH_REPLY_GOES_ON */
        break;
    }
}


/* the connection is closed by the reading loop, when it is safe */

static void
ngx_runcoach_redis_refuse(ngx_runcoach_redis_t *rd, const char *reason,
    u_char *text, size_t len)
{
    if (rd->refused) {
        return;
    }

    rd->refused = reason;

    rd->error.len = ngx_min(len, sizeof(rd->text));
    rd->error.data = rd->text;

    if (rd->error.len) {
        ngx_memcpy(rd->text, text, rd->error.len);
    }
}


static void
ngx_runcoach_redis_arm(ngx_runcoach_redis_t *rd)
{
    ngx_msec_int_t  left;

    if (rd->npending == 0) {

        if (rd->timer.timer_set) {
            ngx_del_timer(&rd->timer);
        }

        return;
    }

    /* a timer that is set is of an older command, and looks again */

    if (rd->timer.timer_set) {
        return;
    }

    left = (ngx_msec_int_t) (ngx_runcoach_redis_deadline(rd)
                             - ngx_current_msec);

    ngx_add_timer(&rd->timer, ngx_max(left, 1));
}


/* of those which wait; one that was sent once more has less time than others */

static ngx_msec_t
ngx_runcoach_redis_deadline(ngx_runcoach_redis_t *rd)
{
    ngx_msec_t                 deadline;
    ngx_queue_t               *q;
    ngx_runcoach_redis_cmd_t  *cmd;

    q = ngx_queue_head(&rd->pending);
    cmd = ngx_queue_data(q, ngx_runcoach_redis_cmd_t, queue);

    deadline = cmd->deadline;

    for (q = ngx_queue_next(q);
         q != ngx_queue_sentinel(&rd->pending);
         q = ngx_queue_next(q))
    {
        cmd = ngx_queue_data(q, ngx_runcoach_redis_cmd_t, queue);

        if ((ngx_msec_int_t) (cmd->deadline - deadline) < 0) {
            deadline = cmd->deadline;
        }
    }

    return deadline;
}


static void
ngx_runcoach_redis_timer_handler(ngx_event_t *ev)
{
    ngx_msec_t             deadline;
    ngx_runcoach_redis_t  *rd;

    rd = ev->data;
    deadline = rd->deadline;

    if (rd->state == NGX_RUNCOACH_REDIS_UP) {

        if (rd->npending == 0) {
            return;
        }

        deadline = ngx_runcoach_redis_deadline(rd);
    }

    if ((ngx_msec_int_t) (deadline - ngx_current_msec) <= 0) {
        ngx_runcoach_redis_fail(rd, NGX_ETIMEDOUT, "it does not answer");
        return;
    }

    if (rd->state != NGX_RUNCOACH_REDIS_UP) {

        /* it may take its time, but not that of the requests */

        rd->suspect = 1;
        ev->cancelable = 1;

        /* to connect may take longer than to reply, as others have it */

        if (rd->shared != NULL
            && ngx_current_msec - rd->shared->heard >= rd->timeout)
        {
            ngx_runcoach_redis_tell(rd, deadline);
        }

        ngx_runcoach_redis_abandon(rd);
    }

    ngx_add_timer(ev, deadline - ngx_current_msec);
}


static void
ngx_runcoach_redis_backoff_handler(ngx_event_t *ev)
{
    ngx_runcoach_redis_t  *rd;

    rd = ev->data;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    if (rd->shared != NULL && rd->shared->down != 0
        && !ngx_runcoach_redis_may_look(rd))
    {
        ngx_add_timer(ev, NGX_RUNCOACH_REDIS_BACKOFF / 2
                          + ngx_random() % NGX_RUNCOACH_REDIS_BACKOFF);
        return;
    }

    ngx_runcoach_redis_connect(rd);
}


/* the server is down, and until then nobody has to look */

static void
ngx_runcoach_redis_tell(ngx_runcoach_redis_t *rd, ngx_msec_t until)
{
    if (rd->shared == NULL) {
        return;
    }

    rd->shared->probe = until;

    if (rd->shared->down == 0) {
        rd->shared->down = ngx_current_msec + 1;
        rd->shared->opened++;
    }
}


/*
 * While the server is down for all, one worker looks at a time.  It has as long
 * as a connection may take; what it finds ends that earlier.
 */

static ngx_uint_t
ngx_runcoach_redis_may_look(ngx_runcoach_redis_t *rd)
{
    ngx_atomic_uint_t  probe, now;

    now = ngx_current_msec;

    if (rd->state == NGX_RUNCOACH_REDIS_UP) {

        if (ngx_runcoach_redis_pauses(rd)) {
            return 0;
        }

        rd->looked = now;

        return 1;
    }

    probe = rd->shared->probe;

    if ((ngx_atomic_int_t) (now - probe) < 0) {
        return 0;
    }

    return ngx_atomic_cmp_set(&rd->shared->probe, probe,
                              now + ngx_max(rd->timeout,
                                            NGX_RUNCOACH_REDIS_CONNECT));
}


/*
 * A connection that is up looks by a request, which has to wait; once a second,
 * whoever else looks.
 */

static ngx_uint_t
ngx_runcoach_redis_pauses(ngx_runcoach_redis_t *rd)
{
    ngx_msec_int_t  down, looked;

    down = (ngx_msec_int_t) (ngx_current_msec - rd->shared->down);
    looked = (ngx_msec_int_t) (ngx_current_msec - rd->looked);

    return down < NGX_RUNCOACH_REDIS_CONNECT
           || looked < NGX_RUNCOACH_REDIS_CONNECT;
}


static void
ngx_runcoach_redis_fail(ngx_runcoach_redis_t *rd, ngx_err_t err,
    const char *reason)
{
    ngx_msec_t  delay;
    ngx_uint_t  down;

    if (rd->refused == NULL) {
        rd->error.len = 0;
    }

    if (rd->failures == 0) {
        rd->since = ngx_current_msec;
    }

    if (rd->state == NGX_RUNCOACH_REDIS_UP && rd->refused) {
        rd->wary = 1;
    }

    /* a connection that breaks is no news for the others, which have theirs */

    down = (rd->state != NGX_RUNCOACH_REDIS_UP || err == NGX_ETIMEDOUT);

    rd->reason = reason;

    if (ngx_runcoach_redis_is_news(rd, reason)) {
        rd->log.log_level = ngx_cycle->log->log_level;

        ngx_log_error(NGX_LOG_ERR, &rd->log, err,
                      "redis is unavailable: %s%s%V%s", reason,
                      rd->error.len ? ": \"" : "", &rd->error,
                      rd->error.len ? "\"" : "");
    }

    ngx_runcoach_redis_add(rd, failures);

    ngx_runcoach_redis_disconnect(rd);

    delay = NGX_RUNCOACH_REDIS_BACKOFF << ngx_min(rd->failures, 8);
    delay = ngx_min(delay, NGX_RUNCOACH_REDIS_MAX_BACKOFF);
    delay = delay / 2 + ngx_random() % (delay / 2 + 1);

    rd->failures++;

    /* one that cannot connect is no news either while others are answered */

    if (down && rd->shared != NULL
        && ngx_current_msec - rd->shared->heard >= rd->timeout)
    {
        ngx_runcoach_redis_tell(rd, ngx_current_msec + delay);
    }

    /* before the handlers, so that none of them finds it usable */

    ngx_add_timer(&rd->backoff, delay);

    ngx_runcoach_redis_clear(rd);
}


/* reasons may take turns: each is told once, until it is over */

static ngx_uint_t
ngx_runcoach_redis_is_news(ngx_runcoach_redis_t *rd, const char *reason)
{
    ngx_uint_t  i;

    for (i = 0; i < rd->ntold; i++) {

        if (rd->told[i] == reason) {
            return 0;
        }
    }

    if (rd->ntold == NGX_RUNCOACH_REDIS_REASONS) {
        return 0;
    }

    rd->told[rd->ntold++] = reason;

    return 1;
}


static void
ngx_runcoach_redis_leave(ngx_runcoach_redis_t *rd)
{
    ngx_runcoach_redis_disconnect(rd);
    ngx_runcoach_redis_clear(rd);
}


/* what is pending stays so */

static void
ngx_runcoach_redis_disconnect(ngx_runcoach_redis_t *rd)
{
    rd->state = NGX_RUNCOACH_REDIS_DOWN;

    if (rd->resolve) {
        ngx_resolve_name_done(rd->resolve);
        rd->resolve = NULL;
    }

    if (rd->timer.timer_set) {
        ngx_del_timer(&rd->timer);
    }

    if (rd->flush.posted) {
        ngx_delete_posted_event(&rd->flush);
    }

    if (rd->reader) {
        runcoach_reply_reader_free(rd->reader);
        rd->reader = NULL;
    }

    if (rd->out.start) {
        ngx_free(rd->out.start);

        rd->out.start = NULL;
        rd->out.pos = NULL;
        rd->out.last = NULL;
        rd->out.end = NULL;
    }

    ngx_runcoach_redis_close_peer(rd);
}


static void
ngx_runcoach_redis_close_peer(ngx_runcoach_redis_t *rd)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    c = rd->peer.connection;

    if (c == NULL) {
        return;
    }

    rd->peer.connection = NULL;

#if (NGX_SSL)

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        (void) ngx_ssl_shutdown(c);
    }

#endif

    pool = c->pool;

    ngx_close_connection(c);

    if (pool) {
        ngx_destroy_pool(pool);
    }
}


/* the replies will still come, and be dropped */

static void
ngx_runcoach_redis_abandon(ngx_runcoach_redis_t *rd)
{
    ngx_queue_t                  *q;
    ngx_runcoach_redis_cmd_t     *cmd;
    ngx_runcoach_redis_reply_pt   handler;

    for (q = ngx_queue_head(&rd->pending);
         q != ngx_queue_sentinel(&rd->pending);
         q = ngx_queue_next(q))
    {
        cmd = ngx_queue_data(q, ngx_runcoach_redis_cmd_t, queue);

        /* the greeting goes on */

        if (cmd->handler == NULL || cmd->data == rd) {
            continue;
        }

        ngx_runcoach_redis_add(rd, lost);

        handler = cmd->handler;
        cmd->handler = NULL;
        cmd->abandoned = 1;

        handler(cmd->data, NULL);
    }
}


/* no reply will come */

static void
ngx_runcoach_redis_clear(ngx_runcoach_redis_t *rd)
{
    ngx_queue_t               *q;
    ngx_runcoach_redis_cmd_t  *cmd;

    while (!ngx_queue_empty(&rd->pending)) {
        q = ngx_queue_head(&rd->pending);
        ngx_queue_remove(q);
        ngx_queue_insert_head(&rd->free, q);
        rd->npending--;

        cmd = ngx_queue_data(q, ngx_runcoach_redis_cmd_t, queue);

        if (cmd->data != rd && !cmd->abandoned) {
            ngx_runcoach_redis_add(rd, lost);
        }

        if (cmd->handler) {
            cmd->handler(cmd->data, NULL);
        }
    }
}


static void
ngx_runcoach_redis_cleanup(void *data)
{
    ngx_runcoach_redis_t *rd = data;

    ngx_runcoach_redis_close(rd);

    if (rd->resolved) {
        ngx_free(rd->resolved);
    }
}


static u_char *
ngx_runcoach_redis_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                *p;
    ngx_runcoach_redis_t  *rd;

    p = buf;
    rd = log->data;

    if (log->action) {
        p = ngx_snprintf(buf, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    if (rd->peer.name) {
        p = ngx_snprintf(buf, len, ", redis: \"%V\"", rd->peer.name);

    } else {
        p = ngx_snprintf(buf, len, ", redis: \"%V\"", &rd->host);
    }

    if (rd->background) {
        len -= p - buf;
        p = ngx_snprintf(p, len, ", for: \"%V\"", &rd->client);
    }

    return p;
}


static ngx_int_t
ngx_runcoach_redis_parse(ngx_conf_t *cf, ngx_runcoach_redis_t *rd,
    ngx_str_t *url)
{
    char                   db[NGX_INT_T_LEN + 1];
    ngx_int_t              rc;
    const char            *error;
    runcoach_redis_url_t   u;

    rc = NGX_ERROR;

    error = runcoach_redis_url_parse(&u, (char *) url->data, url->len);

    if (error != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the URL of runcoach_redis %s", error);
        goto done;
    }

    rd->port = (in_port_t) u.port;
    rd->tls = u.tls;

    *db = '\0';

    if (u.database != 0) {
        ngx_sprintf((u_char *) db, "%ui%Z", (ngx_uint_t) u.database);
    }

    if (ngx_runcoach_redis_copy(cf, &rd->host, u.host) != NGX_OK
        || ngx_runcoach_redis_copy(cf, &rd->user, u.user) != NGX_OK
        || ngx_runcoach_redis_copy(cf, &rd->password, u.password) != NGX_OK
        || ngx_runcoach_redis_copy(cf, &rd->db, db) != NGX_OK)
    {
        goto done;
    }

    rc = ngx_runcoach_redis_addresses(cf, rd, u.local);

done:

    ngx_explicit_memzero(&u, sizeof(runcoach_redis_url_t));

    return rc;
}


static ngx_int_t
ngx_runcoach_redis_addresses(ngx_conf_t *cf, ngx_runcoach_redis_t *rd,
    ngx_uint_t local)
{
    ngx_url_t    u;
    const char  *format;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.default_port = rd->port;
    u.no_resolve = 1;

    format = local ? "unix:%V%Z"
                   : ngx_strchr(rd->host.data, ':') ? "[%V]%Z" : "%V%Z";

    u.url.data = ngx_pnalloc(cf->pool, sizeof("unix:") + rd->host.len);
    if (u.url.data == NULL) {
        return NGX_ERROR;
    }

    u.url.len = ngx_sprintf(u.url.data, format, &rd->host) - u.url.data - 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in the URL of runcoach_redis",
                           u.err ? u.err : "invalid address");
        return NGX_ERROR;
    }

    rd->name = (u.naddrs == 0);

    if (rd->name && ngx_inet_resolve_host(cf->pool, &u) != NGX_OK) {

        /* a name server may be late, and is no reason not to start */

        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "%s in runcoach_redis \"%V\"",
                           u.err ? u.err : "host not found", &rd->host);
    }

    rd->addrs = u.addrs;
    rd->naddrs = u.naddrs;

    return NGX_OK;
}


/* with a NUL */

static ngx_int_t
ngx_runcoach_redis_copy(ngx_conf_t *cf, ngx_str_t *dst, const char *src)
{
    dst->len = ngx_strlen(src);

    dst->data = ngx_pnalloc(cf->pool, dst->len + 1);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->data, src, dst->len + 1);

    return NGX_OK;
}


#if (NGX_SSL)

static ngx_int_t
ngx_runcoach_redis_ssl_create(ngx_conf_t *cf, ngx_runcoach_redis_t *rd)
{
    char                *file;
    ngx_pool_cleanup_t  *cln;

    rd->ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (rd->ssl == NULL) {
        return NGX_ERROR;
    }

    rd->ssl->log = cf->log;

    if (ngx_ssl_create(rd->ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(rd->ssl);
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = rd->ssl;

    /* by default a file that cannot be read would be ignored */

    file = getenv("SSL_CERT_FILE");

    if (file != NULL && file[0] != '\0') {

        if (SSL_CTX_load_verify_locations(rd->ssl->ctx, file, NULL) == 1) {
            ERR_clear_error();
            return NGX_OK;
        }

        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "the certificates of SSL_CERT_FILE \"%s\" could not "
                      "be loaded for runcoach_redis", file);
        return NGX_ERROR;
    }

    if (SSL_CTX_set_default_verify_paths(rd->ssl->ctx) != 1) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "the certificates of the system could not be loaded "
                      "for runcoach_redis");
        return NGX_ERROR;
    }

    ERR_clear_error();

    return NGX_OK;
}

#endif
