
/*
 * The URL of a Redis, as the edge and the sidecar are given it.  Pure: nothing
 * here resolves a name.
 */


#ifndef _RUNCOACH_REDIS_URL_H_INCLUDED_
#define _RUNCOACH_REDIS_URL_H_INCLUDED_


#include <stddef.h>


#define RUNCOACH_REDIS_URL_PORT      6379
#define RUNCOACH_REDIS_URL_PATH      107     /* bytes, as sockets have it */
#define RUNCOACH_REDIS_URL_DATABASE  9999


typedef struct {
    char          host[256];       /* a name, an address, or a path if local */
    char          user[256];       /* empty: none, or "default" */
    char          password[1024];  /* empty: none */
    unsigned      port;
    unsigned      database;
    unsigned      local:1;
    unsigned      tls:1;
} runcoach_redis_url_t;


/*
 * Reads one of
 *
 *     redis://[[user:]password@]host[:port][/database][?arguments]
 *     rediss://...
 *     unix:/path[?arguments], unix://[[user:]password@]/path[?arguments]
 *
 * with the arguments db= and password=, which override.  An IPv6 address is in
 * brackets in the URL and not in host.  User, password and path may have any
 * byte percent-encoded but NUL; an "@" may also stand for itself.
 *
 * Returns NULL, or what is wrong or would be right as the rest of a sentence
 * which begins with the name of the URL; there is no part of src in it, as any
 * part may be the password.  Then url is undefined.
 */

const char *runcoach_redis_url_parse(runcoach_redis_url_t *url,
    const char *src, size_t n) __attribute__((warn_unused_result));


#endif /* _RUNCOACH_REDIS_URL_H_INCLUDED_ */
