
/*
 * JSON Web Tokens: compact JWS (RFC 7515), claims (RFC 7519), with the rules
 * of RFC 8725.  Pure: no I/O, no globals, the caller passes the time.
 *
 * The order of work is the caller's:  parse, choose the issuer by "iss",
 * check the claims (cheap), check the signature (dear).  Nothing of a token
 * may be used before both checks have returned RUNCOACH_JWT_OK.
 */


#ifndef _RUNCOACH_JWT_H_INCLUDED_
#define _RUNCOACH_JWT_H_INCLUDED_


#include <time.h>

#include "runcoach_jwks.h"


#define RUNCOACH_JWT_MAX_SIZE  8192


typedef struct runcoach_jwt_s  runcoach_jwt_t;


typedef enum {
    RUNCOACH_JWT_OK = 0,
    RUNCOACH_JWT_MALFORMED,        /* not a strict compact JWS */
    RUNCOACH_JWT_ALGORITHM,        /* alg is not one the issuer may use */
    RUNCOACH_JWT_TYPE,             /* typ, cat or sub of another token class */
    RUNCOACH_JWT_UNKNOWN_KEY,      /* no key of that kid: new keys may help */
    RUNCOACH_JWT_SIGNATURE,
    RUNCOACH_JWT_ISSUER,
    RUNCOACH_JWT_SUBJECT,          /* sub missing, empty, or not presentable */
    RUNCOACH_JWT_EXPIRED,
    RUNCOACH_JWT_NOT_YET,          /* nbf */
    RUNCOACH_JWT_ISSUED_LATER,     /* iat */
    RUNCOACH_JWT_LIFETIME,         /* exp - iat above max_lifetime */
    RUNCOACH_JWT_AUTHORIZED_PARTY, /* azp */
    RUNCOACH_JWT_AUDIENCE,         /* aud */
    RUNCOACH_JWT_PENDING,          /* sts is not active */
    RUNCOACH_JWT_CLAIM,            /* a date or claim of the wrong type */
    RUNCOACH_JWT_NO_MEMORY
} runcoach_jwt_rc_e;


typedef struct {
    unsigned               algs;          /* RUNCOACH_ALG_* */
    runcoach_str_t         issuer;        /* compared exactly */
    const runcoach_str_t  *audiences;     /* none: aud is not checked */
    size_t                 naudiences;
    const runcoach_str_t  *parties;       /* none: azp is not checked at all */
    size_t                 nparties;
    time_t                 leeway;        /* seconds */
    time_t                 max_lifetime;  /* seconds; 0: any */

    unsigned               azp_required:1;     /* else it may be absent */
    unsigned               allow_pending:1;
    unsigned               numeric_subject:1;  /* sub may be digits only */
} runcoach_jwt_policy_t;


/*
 * Splits and decodes a token: three segments of canonical base64url, JSON
 * objects as runcoach_jose_json() wants them (white space around one is none of
 * our business), at most RUNCOACH_JWT_MAX_SIZE bytes.  "alg" must be a string,
 * "kid" if present too.  Any "crit" is refused, and so is "b64", which RFC 7797
 * forbids without "crit"; "jwk", "jku", "x5u" and "x5c" are ignored.
 *
 * "typ" must be absent or exactly "JWT", which is what RFC 7519 recommends and
 * Clerk's own verifier accepts: access tokens of OAuth clients ("at+jwt") are
 * signed with the same key, and a lenient comparison only serves forgers.
 *
 * Returns RUNCOACH_JWT_OK with *jwt the caller's, to be freed with
 * runcoach_jwt_free(); otherwise MALFORMED, TYPE or NO_MEMORY with *jwt NULL.
 * The token need not outlive the call.
 */

runcoach_jwt_rc_e runcoach_jwt_parse(runcoach_jwt_t **jwt,
    const u_char *token, size_t n);

void runcoach_jwt_free(runcoach_jwt_t *jwt);


/*
 * Checks everything that needs no key, in the order alg, iss, class, sub,
 * exp, nbf, iat, lifetime, aud, azp, sts.
 *
 * class     "cat", if present, must be Clerk's mark of a session token or its
 *           mark of no class: templates and machines have the same key.  The
 *           same goes for a sub "mch_...".
 * sub       1 .. 255 bytes, to be one segment of a path and the value of a
 *           header: no control character, no "/", no space at either end, not
 *           "." or "..", and not digits only unless numeric_subject.
 * dates     an integer or a real, 0 < x < 2^53.  exp is required, and
 *           "exp <= now - leeway" is expired; nbf and iat are in the future
 *           from "now + leeway + 1" on.
 * lifetime  exp - iat; without iat what is left of it, exp - now.
 * aud       a string or an array of strings, one of which must be in
 *           audiences.
 * sts       must be absent, "active", or "pending" with allow_pending.
 */

runcoach_jwt_rc_e runcoach_jwt_check_claims(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy, time_t now);


/*
 * Tries the keys whose kid is the token's and which may verify its alg, two
 * at most.  A token without kid is tried only with keys of no kid.
 *
 * RUNCOACH_JWT_OK           verified
 * RUNCOACH_JWT_UNKNOWN_KEY  the set has no key for this token
 * RUNCOACH_JWT_SIGNATURE    it has, and the signature is not by that key
 * RUNCOACH_JWT_ALGORITHM    alg is not in algs
 * RUNCOACH_JWT_NO_MEMORY
 */

runcoach_jwt_rc_e runcoach_jwt_check_signature(const runcoach_jwt_t *jwt,
    const runcoach_jwks_t *keys, unsigned algs);


/*
 * A string claim, or member of the header, by name.  On 1 *value is borrowed
 * and valid until free; 0 if it is absent or not a string, or holds a control
 * character (so a value that is returned can go into a header line or a log).
 */

int runcoach_jwt_claim(const runcoach_jwt_t *jwt, const char *name,
    runcoach_str_t *value);
int runcoach_jwt_header(const runcoach_jwt_t *jwt, const char *name,
    runcoach_str_t *value);


/*
 * exp in whole seconds since the epoch; 0 if it is not one which
 * check_claims() accepts.
 */

time_t runcoach_jwt_expires(const runcoach_jwt_t *jwt);


/* a constant such as "token-expired": for logs and variables, never NULL */

const char *runcoach_jwt_reason(runcoach_jwt_rc_e rc);


#endif /* _RUNCOACH_JWT_H_INCLUDED_ */
