
/*
 * Who asks.  The edge has verified it and tells it in four headers; whoever
 * can reach the socket is the edge.
 */


#ifndef _USER_H_INCLUDED_
#define _USER_H_INCLUDED_


#include "http.h"


#define USER_MAX  255


typedef struct {
    const char  *subject;       /* as in the prefix of the person's objects */
    const char  *clerk_id;      /* NULL: the user's number tells */
    const char  *user_id;       /* digits, or NULL */
} user_t;


/*
 * Reads the headers.  0 with strings that live as long as the request, or -1
 * with the request answered: 401.
 */

int user_identify(http_request_t *r, user_t *user)
    __attribute__((warn_unused_result));


/*
 * What the database calls the person: 0 if there is one, or -1 with the
 * request answered: 404 for a session whose user is not there, 401 for one
 * that the identity provider has deleted, 409 if the address of the account is
 * another's.
 */

int user_accept(http_request_t *r, const char *outcome)
    __attribute__((warn_unused_result));


#endif /* _USER_H_INCLUDED_ */
