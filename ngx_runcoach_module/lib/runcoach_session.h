
/*
 * Sessions of the existing application: a JSON object in Redis under an id
 * from a cookie.  Pure: no I/O.
 */


#ifndef _RUNCOACH_SESSION_H_INCLUDED_
#define _RUNCOACH_SESSION_H_INCLUDED_


#include "runcoach_base64.h"


#define RUNCOACH_SESSION_ID_MIN   20
#define RUNCOACH_SESSION_ID_MAX   128
#define RUNCOACH_SESSION_MAX      65536
#define RUNCOACH_SESSION_USER     64     /* bytes of a user id */


/* 1 if id is made of A-Z a-z 0-9 - _ and of a length above, otherwise 0 */

int runcoach_session_valid_id(const u_char *id, size_t n);


/*
 * Finds "user_id" of a session: a positive integer below 2^53, or a string of
 * A-Z a-z 0-9 - _ of at most RUNCOACH_SESSION_USER bytes.  Writes it as text
 * into user, which must hold RUNCOACH_SESSION_USER bytes, without a NUL.
 *
 * Returns its length, or 0 if the value is not such a session.
 */

size_t runcoach_session_user(u_char *user, const u_char *json, size_t n);


#endif /* _RUNCOACH_SESSION_H_INCLUDED_ */
