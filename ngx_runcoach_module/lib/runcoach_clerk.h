
/*
 * Clerk's conventions: publishable keys, which cookie holds the session, and
 * the permissions of an organization.  Pure: no I/O, no globals, no clock.
 */


#ifndef _RUNCOACH_CLERK_H_INCLUDED_
#define _RUNCOACH_CLERK_H_INCLUDED_


#include <time.h>

#include "runcoach_base64.h"


#define RUNCOACH_CLERK_SUFFIX           8
#define RUNCOACH_CLERK_MAX_HOST         255
#define RUNCOACH_CLERK_MAX_PERMISSIONS  4096


/*
 * The host of the Frontend API that a publishable key names: pk_test_ or
 * pk_live_, then the base64 (either alphabet, padding optional) of the host and
 * a "$".  The host has letters, digits, "-", "." and perhaps ":port", at least
 * one dot, and none at its ends or beside another.  host must hold
 * RUNCOACH_CLERK_MAX_HOST bytes; returns its length, or 0 if that is no
 * publishable key.
 */

size_t runcoach_clerk_host(u_char *host, const u_char *key, size_t n);


/*
 * The suffix of the cookies of an instance: of the publishable key exactly as
 * it is configured.  RUNCOACH_CLERK_SUFFIX bytes of base64url, no NUL.
 * Returns 0, or -1: OpenSSL failed.
 */

int runcoach_clerk_suffix(u_char suffix[RUNCOACH_CLERK_SUFFIX],
    const u_char *key, size_t n);


/*
 * One cookie of a Cookie header line (RFC 6265 section 5.4): name and value as
 * they stand, without the white space around them and without the quotes around
 * a value that has them; nothing is decoded.  *p moves behind it.  A part that
 * has no "=" is left out.  Returns 1, or 0 at the end of the line.
 */

int runcoach_clerk_cookie(const u_char **p, const u_char *last,
    runcoach_str_t *name, runcoach_str_t *value);


/*
 * Which of two session cookies to use, as Clerk's own SDK chooses
 * (usesSuffixedCookies() of @clerk/backend).  The facts are of the cookies as
 * they came; a token need not be verified for that, and nothing of it may be
 * believed.
 */

typedef struct {
    unsigned        present:1;      /* the cookie is there and not empty */
    unsigned        readable:1;     /* it is a token with a JSON payload */
    runcoach_str_t  issuer;         /* empty: no "iss" */
    double          iat;            /* of both, 0: none */
    double          exp;
} runcoach_clerk_session_t;

typedef struct {
    unsigned        present:1;
    double          value;          /* 0: signed out */
} runcoach_clerk_uat_t;

typedef struct {
    runcoach_clerk_session_t  plain;         /* __session */
    runcoach_clerk_session_t  suffixed;      /* __session_<suffix> */
    runcoach_clerk_uat_t      plain_uat;     /* __client_uat */
    runcoach_clerk_uat_t      suffixed_uat;  /* __client_uat_<suffix> */
    runcoach_str_t            issuer;        /* of this instance */
    unsigned                  production:1;  /* pk_live_ */
} runcoach_clerk_cookies_t;

typedef enum {
    RUNCOACH_CLERK_PLAIN = 0,
    RUNCOACH_CLERK_SUFFIXED
} runcoach_clerk_choice_e;

runcoach_clerk_choice_e runcoach_clerk_choose(
    const runcoach_clerk_cookies_t *cookies, time_t now);


/* the value of a __client_uat cookie: 1 to 15 digits, otherwise as absent */

void runcoach_clerk_uat(runcoach_clerk_uat_t *uat, const u_char *value,
    size_t n);


/*
 * The permissions of version 2 claims, as Clerk's own JavaScript expands them:
 * "o.per" names them, "o.fpm" has one decimal number for each feature of "fea"
 * whose scope contains "o", in their order, whose bit i grants permission i.
 * A number may have any number of digits.  Writes "org:<feature>:<permission>"
 * joined by "," into dst.
 *
 * Returns the number of bytes written, or -1: size is too small, the result
 * would have a control character or a space, or there are more than
 * RUNCOACH_CLERK_MAX_PERMISSIONS.  A list that is malformed in the eyes of
 * Clerk's own grants nothing more than there.
 */

ssize_t runcoach_clerk_permissions(u_char *dst, size_t size,
    const runcoach_str_t *features, const runcoach_str_t *permissions,
    const runcoach_str_t *map);


#endif /* _RUNCOACH_CLERK_H_INCLUDED_ */
