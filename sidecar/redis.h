
/*
 * A blocking Redis client for what may fail, or be done again: wake-ups, health
 * and revocations.
 *
 * It has its own socket and TLS and takes only the codec from hiredis, whose
 * version in Debian 12 knows neither TLS nor a deadline for name and password.
 */


#ifndef _REDIS_H_INCLUDED_
#define _REDIS_H_INCLUDED_


#include <hiredis/hiredis.h>

#include "../ngx_runcoach_module/lib/runcoach_redis_url.h"


typedef struct redis_s  redis_t;


typedef enum {
    REDIS_DONE = 0,
    REDIS_STOPPED,      /* the descriptor of the caller became readable */
    REDIS_DOWN          /* no connection, a timeout, an error answer */
} redis_rc_e;


/* url is borrowed; NULL makes every command REDIS_DOWN.  NULL: no memory */

redis_t *redis_create(const runcoach_redis_url_t *url);
void redis_free(redis_t *redis);


/*
 * Sends a command and waits timeout milliseconds for its answer, less if the
 * descriptor stop (-1: none) becomes readable.  Connects if need be; after
 * trouble it does not try again for two seconds, so that a dead Redis costs a
 * caller nothing.  If a connection breaks the command may be carried out twice.
 *
 * On REDIS_DONE *reply is the caller's, for freeReplyObject(), and not an error
 * reply.
 */

redis_rc_e redis_command(redis_t *redis, redisReply **reply, int timeout,
    int stop, unsigned argc, const char *const *argv)
    __attribute__((warn_unused_result));


#endif /* _REDIS_H_INCLUDED_ */
