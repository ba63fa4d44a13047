
/*
 * HTTP/1.1 by libmicrohttpd.  One epoll thread reads requests and writes
 * answers; a request that is complete is suspended and waits in a bounded
 * queue for one of a pool of workers, each of which does one thing at a time,
 * may block, and owns a connection to everything it talks to.
 */


#ifndef _HTTP_H_INCLUDED_
#define _HTTP_H_INCLUDED_


#include <jansson.h>
#include <stdint.h>

#include "config.h"
#include "db.h"
#include "r2.h"
#include "redis.h"


#define HTTP_MAX_BODY  262144


typedef struct http_s          http_t;
typedef struct http_request_s  http_request_t;


typedef struct {
    const config_t  *cf;
    db_t            *db;
    r2_t            *r2;             /* NULL: no store is configured */
    redis_t         *redis;
} worker_t;


/*
 * What a handler has found out.  http_fail() is the one place that makes a
 * status of it: RETRY is always 503 with Retry-After, so that who asked comes
 * again.
 */

typedef enum {
    VERDICT_BAD_REQUEST = 0,
    VERDICT_UNAUTHORIZED,            /* with WWW-Authenticate */
    VERDICT_NOT_FOUND,
    VERDICT_BAD_METHOD,
    VERDICT_CONFLICT,
    VERDICT_TOO_LARGE,
    VERDICT_UNPROCESSABLE,
    VERDICT_RETRY,
    VERDICT_NOT_CONFIGURED
} verdict_e;


typedef void (*http_handler_pt)(http_request_t *r, worker_t *w);


struct http_request_s {
    const char      *method;
    const char      *path;
    const u_char    *body;           /* NUL-terminated */
    size_t           body_len;
    char             id[24];         /* the variable segment of the path */
    const char      *route;          /* of routes.c; NULL: none */
};


/*
 * Binds cf->listen, replacing a socket file nobody listens on, and starts the
 * threads.  NULL: the reason has been logged.
 */

http_t *http_start(const config_t *cf) __attribute__((warn_unused_result));


/*
 * Stops accepting, lets requests that have begun finish, for at most seconds,
 * and frees everything.
 */

void http_stop(http_t *http, unsigned seconds);


/* a header, or an argument of the query; empty if there is none */

const char *http_header(const http_request_t *r, const char *name);
const char *http_argument(const http_request_t *r, const char *name);


/*
 * The answer.  Each handler calls exactly one of these, once.  json is stolen
 * and may be NULL if it could not be made (then it is VERDICT_RETRY).
 */

void http_answer(http_request_t *r, unsigned status, json_t *json);
void http_fail(http_request_t *r, verdict_e verdict, const char *detail);

/* text is stolen, and may be NULL too; type is a constant */

void http_text(http_request_t *r, const char *type, char *text);

/* 422 in FastAPI's shape: [{"loc": [where, field], "msg": ..., "type": ...}] */

void http_invalid(http_request_t *r, const char *where, const char *field,
    const char *type, const char *msg);

void http_allow(http_request_t *r, const char *methods);


/*
 * The next of the requests that a handler is given together, or NULL: each is
 * to be answered, and the clients of all wait for the handler to return.
 */

http_request_t *http_next(const http_request_t *r);


/* appends "key=value" pairs to the line the request leaves in the log */

void http_note(http_request_t *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));


/*
 * routes.c: the handler, with r->id filled in; never NULL.  *together is how
 * many requests it takes at a time.  One that takes 0 does not block: it is
 * called by the epoll thread with nothing but w->cf, so that "are you alive" is
 * answered while all workers wait for a database.
 */

http_handler_pt routes_find(http_request_t *r, unsigned *together);


/* now in ISO 8601 with "+00:00", as Python writes it; dst is of 40 bytes */

const char *http_timestamp(char *dst);


#endif /* _HTTP_H_INCLUDED_ */
