
/*
 * Users and sessions that have ended before their tokens did: told by the
 * sidecar through a stream in Redis, kept in shared memory.
 */


#ifndef _NGX_HTTP_RUNCOACH_REVOCATIONS_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_REVOCATIONS_H_INCLUDED_


#include "ngx_http_runcoach.h"


/*
 * A number that changes with each revocation which becomes known; 0 if there
 * are none to know (no runcoach_revocations, or no Redis).  Cheap: it takes no
 * lock.
 */

uint64_t ngx_http_runcoach_revocations(ngx_http_request_t *r);


/*
 * 1 if the user or the session is revoked, otherwise 0; either may be empty.
 * To be asked again when the number above has changed.
 */

ngx_uint_t ngx_http_runcoach_revoked(ngx_http_request_t *r, ngx_str_t *user,
    ngx_str_t *session);


/* at postconfiguration: seconds that one is remembered; 0: they are off */

time_t ngx_http_runcoach_revocations_retention(ngx_conf_t *cf);


#endif /* _NGX_HTTP_RUNCOACH_REVOCATIONS_H_INCLUDED_ */
