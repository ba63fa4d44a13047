
/*
 * One connection to Redis for each worker: pipelined, on nginx events and
 * nginx SSL; hiredis is only the codec.  Who waits for long has another one.
 */


#ifndef _NGX_RUNCOACH_REDIS_H_INCLUDED_
#define _NGX_RUNCOACH_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <hiredis/hiredis.h>


typedef struct ngx_runcoach_redis_s      ngx_runcoach_redis_t;
typedef struct ngx_runcoach_redis_cmd_s  ngx_runcoach_redis_cmd_t;


/*
 * Called once for each command from the event loop.  The reply is NULL if the
 * connection failed or the command timed out; its memory is used again after
 * the call.  The handler must not send, cancel or run a request: record and
 * post.
 */

typedef void (*ngx_runcoach_redis_reply_pt)(void *data, redisReply *reply);


/*
 * At configuration: parses the URL (lib/runcoach_redis_url.h), resolves the
 * host, prepares TLS.  NULL after an error has been logged to cf->log: it
 * names the directive and says what would be right, without the password.
 * Nothing connects before the first send().
 */

ngx_runcoach_redis_t *ngx_runcoach_redis_create(ngx_conf_t *cf, ngx_str_t *url,
    ngx_msec_t timeout);


/*
 * At configuration: another connection to the same server, under a name and
 * with a timeout of its own, for what goes on in the background and may take
 * its time.  It takes larger replies, holds up no worker that wants to leave,
 * and closes when the worker begins to.  The name must be static.  NULL: no
 * memory.
 */

ngx_runcoach_redis_t *ngx_runcoach_redis_clone(ngx_conf_t *cf,
    ngx_runcoach_redis_t *rd, const char *name, ngx_msec_t timeout);


/* tells servers and databases apart, as they are configured */

uint32_t ngx_runcoach_redis_hash(ngx_runcoach_redis_t *rd);


/* the resolver for re-connections to a host name; both may be absent (NULL) */

void ngx_runcoach_redis_set_resolver(ngx_runcoach_redis_t *rd,
    ngx_resolver_t *resolver, ngx_msec_t timeout);


/*
 * Appends a command; all that is appended in one turn of the event loop
 * leaves in one write.  The arguments are copied.  NULL: not connected and
 * backing off, too many commands in flight, or no memory.  Then the caller
 * goes on without Redis, at once.
 */

ngx_runcoach_redis_cmd_t *ngx_runcoach_redis_send(ngx_runcoach_redis_t *rd,
    ngx_uint_t argc, ngx_str_t *argv, ngx_runcoach_redis_reply_pt handler,
    void *data);


/*
 * The same for a command which the caller has written as RESP, argument by
 * argument after their count; an argument takes at most its length and
 * NGX_RUNCOACH_REDIS_ARG bytes, a number NGX_RUNCOACH_REDIS_NUMBER.  The time
 * for the reply runs since then, in ngx_current_msec: a command that is sent
 * once more has what is left of it, and none is NULL.
 */

#define NGX_RUNCOACH_REDIS_ARG     (sizeof("$" CRLF CRLF) - 1 + NGX_SIZE_T_LEN)
#define NGX_RUNCOACH_REDIS_NUMBER  (NGX_RUNCOACH_REDIS_ARG + NGX_INT64_LEN)

u_char *ngx_runcoach_redis_write_count(u_char *p, ngx_uint_t argc);
u_char *ngx_runcoach_redis_write_arg(u_char *p, const u_char *arg, size_t len);
u_char *ngx_runcoach_redis_write_number(u_char *p, int64_t n);

ngx_runcoach_redis_cmd_t *ngx_runcoach_redis_send_written(
    ngx_runcoach_redis_t *rd, ngx_str_t *command, ngx_msec_t since,
    ngx_runcoach_redis_reply_pt handler, void *data);


/* 0: send() would refuse at the moment, and somebody looks for the end of it */

ngx_uint_t ngx_runcoach_redis_ready(ngx_runcoach_redis_t *rd);


/* the reply, when it comes, is dropped; cmd must not be used again */

void ngx_runcoach_redis_cancel(ngx_runcoach_redis_cmd_t *cmd);


/*
 * What the workers tell each other about a server which is in trouble: all
 * zero is a healthy one.  It is in shared memory and has no lock.
 *
 * A worker whom the server does not answer, or does not let in, opens the
 * breaker: then send() refuses in all of them, and one at a time looks whether
 * it is back.  Any reply closes it.  Without it each worker is on its own.
 */

typedef struct {
    ngx_atomic_t                  down;        /* msec + 1, since then */
    ngx_atomic_t                  probe;       /* msec, until then one looks */
    ngx_atomic_t                  heard;       /* msec, of the last reply */
    ngx_atomic_t                  opened;      /* how often it was down */
} ngx_runcoach_redis_shared_t;

void ngx_runcoach_redis_share(ngx_runcoach_redis_t *rd,
    ngx_runcoach_redis_shared_t *shared);


/* what an operator may know of the connection of this worker */

typedef struct {
    const char                   *state;
    const char                   *reason;      /* NULL: no trouble */
    ngx_uint_t                    pending;
    ngx_uint_t                    failures;
    ngx_msec_t                    since;       /* ms of trouble */
    ngx_msec_t                    timeout;
} ngx_runcoach_redis_status_t;

void ngx_runcoach_redis_status(ngx_runcoach_redis_t *rd,
    ngx_runcoach_redis_status_t *status);


/* counts from now on, in shared memory; without it nobody counts */

typedef struct {
    uint64_t                      calls;
    uint64_t                      refused;     /* send() did not take it */
    uint64_t                      lost;        /* taken, and not answered */
    uint64_t                      connections; /* that were greeted */
    uint64_t                      failures;    /* of connections */
} ngx_runcoach_redis_counters_t;

void ngx_runcoach_redis_count(ngx_runcoach_redis_t *rd,
    ngx_runcoach_redis_counters_t *counters);


/* at exit_process: closes the connection, so that no socket is left open */

void ngx_runcoach_redis_close(ngx_runcoach_redis_t *rd);


#endif /* _NGX_RUNCOACH_REDIS_H_INCLUDED_ */
