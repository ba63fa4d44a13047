
/*
 * JSON Web Tokens: compact JWS (RFC 7515), claims (RFC 7519), with the rules
 * of RFC 8725.  Pure: no I/O, no globals, no allocation, the caller passes the
 * time.
 *
 * The order of work is the caller's:  parse, choose the issuer by "iss" and
 * algorithm, check the claims (cheap), check the signature (dear).  Nothing of
 * a token may be used before both checks have returned RUNCOACH_JWT_OK.
 */


#ifndef _RUNCOACH_JWT_H_INCLUDED_
#define _RUNCOACH_JWT_H_INCLUDED_


#include <time.h>

#include "runcoach_json.h"
#include "runcoach_jwks.h"


#define RUNCOACH_JWT_MAX_SIZE   8192
#define RUNCOACH_JWT_MAX_DEPTH  32
#define RUNCOACH_JWT_MAX_TEXT   (RUNCOACH_JWT_MAX_SIZE / 4 * 3)


/* classes of tokens which one key signs; a set of them is a bit mask */

#define RUNCOACH_JWT_SESSION   0x01
#define RUNCOACH_JWT_TEMPLATE  0x02
#define RUNCOACH_JWT_MACHINE   0x04
#define RUNCOACH_JWT_OAUTH     0x08


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
    RUNCOACH_JWT_REQUIRED,         /* a required claim is not as required */
    RUNCOACH_JWT_FAILED            /* nobody could tell: no memory */
} runcoach_jwt_rc_e;


/*
 * A token that was parsed: about 140 kilobytes, to be kept by the caller and
 * used again for the next one.  It needs no initialization and owns nothing;
 * what it says is valid until it is used again, and as long as the text of the
 * token is there.
 */

typedef struct {
    runcoach_str_t         text;           /* what is signed; borrowed */
    runcoach_str_t         signature;
    runcoach_str_t         kid;            /* data is NULL: none */
    unsigned               alg;            /* RUNCOACH_ALG_*; 0: not ours */
    unsigned               class;          /* RUNCOACH_JWT_SESSION, ...; 0 */
    runcoach_json_t        header;
    runcoach_json_t        payload;

    u_char                 decoded[RUNCOACH_JWT_MAX_TEXT + 3];
    u_char                 strings[RUNCOACH_JWT_MAX_TEXT + 3];
    runcoach_json_node_t   nodes[runcoach_json_max_nodes(RUNCOACH_JWT_MAX_TEXT)
                                 + 2];
} runcoach_jwt_t;


/*
 * A claim by its path: names of members, the outer one first, each as it is in
 * the token.
 */

typedef struct {
    const runcoach_str_t  *names;
    size_t                 n;
} runcoach_jwt_path_t;


/*
 * A required claim.  value.data NULL: it must be there and be neither null, ""
 * nor false.  Else it must be that string, a number or boolean written so, or
 * an array with such an element.
 */

typedef struct {
    runcoach_jwt_path_t    path;
    runcoach_str_t         value;
} runcoach_jwt_required_t;


typedef struct {
    unsigned               algs;          /* RUNCOACH_ALG_* */
    unsigned               classes;       /* RUNCOACH_JWT_SESSION | ... */
    runcoach_str_t         issuer;        /* compared exactly */
    const runcoach_str_t  *audiences;     /* none: aud is not checked */
    size_t                 naudiences;
    const runcoach_str_t  *parties;       /* none: azp is not checked at all */
    size_t                 nparties;
    const runcoach_jwt_required_t
                          *required;
    size_t                 nrequired;
    time_t                 leeway;        /* seconds */
    time_t                 max_lifetime;  /* seconds; 0: any */

    unsigned               azp_required:1;     /* else it may be absent */
    unsigned               allow_pending:1;
    unsigned               numeric_subject:1;  /* sub may be digits only */
} runcoach_jwt_policy_t;


/*
 * Splits and decodes a token: three segments of canonical base64url, JSON
 * objects as runcoach_json_parse() wants them (white space around one is none
 * of our business) nested no deeper than RUNCOACH_JWT_MAX_DEPTH, at most
 * RUNCOACH_JWT_MAX_SIZE bytes.  "alg" must be a string, "kid", "typ" and "cat"
 * too if present.  Any "crit" is refused, and so is "b64", which RFC 7797
 * forbids without "crit"; "jwk", "jku", "x5u" and "x5c" are ignored.
 *
 * The class is by "typ", "cat" and "sub".  "typ" absent or exactly "JWT", and
 * "cat" absent, Clerk's mark of a session token or its mark of no class:
 * SESSION.  Clerk's marks of templates and machines: TEMPLATE, MACHINE.  "typ"
 * of "at+jwt" or "application/at+jwt" (any case, RFC 9068): OAUTH, whichever of
 * these marks it has.  Any other "typ" or "cat": 0, no class at all.  A sub
 * "mch_..." makes MACHINE of any class.
 *
 * Returns RUNCOACH_JWT_OK or RUNCOACH_JWT_MALFORMED.
 */

runcoach_jwt_rc_e runcoach_jwt_parse(runcoach_jwt_t *jwt, const u_char *token,
    size_t n);


/*
 * 1 if a bearer token is one of Clerk's opaque ones (mt_, m2m_, oat_, ak_),
 * which only Clerk can verify, otherwise 0.
 */

int runcoach_jwt_opaque(const u_char *token, size_t n);


/*
 * Checks everything that needs no key, in the order alg, iss, class, sub,
 * exp, nbf, iat, lifetime, aud, azp, sts, required.
 *
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
 * What of the above depends on the time alone, for a token which has passed
 * before: OK, EXPIRED or NOT_YET.  exp and nbf (0: none) are those that
 * runcoach_jwt_dates() has told.
 */

runcoach_jwt_rc_e runcoach_jwt_check_time(time_t exp, time_t nbf,
    time_t leeway, time_t now);


/*
 * exp rounded up, nbf and iat rounded down to whole seconds; 0 if there is
 * none, or not one which check_claims() accepts.
 */

void runcoach_jwt_dates(const runcoach_jwt_t *jwt, time_t *exp, time_t *nbf,
    time_t *iat);


/*
 * RUNCOACH_JWT_OK           verified
 * RUNCOACH_JWT_UNKNOWN_KEY  the set has no key for this token
 * RUNCOACH_JWT_SIGNATURE    it has, and the signature is not by that key
 * RUNCOACH_JWT_ALGORITHM    alg is not in algs
 * RUNCOACH_JWT_FAILED       it could not be checked: nothing is known
 */

runcoach_jwt_rc_e runcoach_jwt_check_signature(const runcoach_jwt_t *jwt,
    const runcoach_jwks_t *keys, unsigned algs);


/*
 * A string claim by name.  On 1 *value is borrowed; 0 if it is absent or not a
 * string, or holds a control character (so a value that is returned can go into
 * a header line or a log).
 */

int runcoach_jwt_claim(const runcoach_jwt_t *jwt, const char *name,
    runcoach_str_t *value);


/*
 * A claim of any type as text: a string as it is, numbers and booleans as they
 * are written, arrays and objects as JSON without white space.  Writes at most
 * size bytes into dst.  Returns the length, or -1: absent, null, longer than
 * size, or a control character is in it.
 */

ssize_t runcoach_jwt_claim_text(const runcoach_jwt_t *jwt,
    const runcoach_jwt_path_t *path, u_char *dst, size_t size);


/*
 * The active organization, of version 2 ("v" is 2: "o") or version 1 claims
 * ("org_id", ...): id, slug and role ("org:admin", with the "org:" that version
 * 2 leaves out), each written into dst and returned as by claim_text(); -1 also
 * if it is empty.
 */

typedef enum {
    RUNCOACH_JWT_ORG_ID = 0,
    RUNCOACH_JWT_ORG_SLUG,
    RUNCOACH_JWT_ORG_ROLE,
    RUNCOACH_JWT_ORG_PERMISSIONS   /* joined by ","; 0 bytes: none */
} runcoach_jwt_org_e;

ssize_t runcoach_jwt_org(const runcoach_jwt_t *jwt, runcoach_jwt_org_e what,
    u_char *dst, size_t size);


/* a constant such as "token-expired": for logs and variables, never NULL */

const char *runcoach_jwt_reason(runcoach_jwt_rc_e rc);


#endif /* _RUNCOACH_JWT_H_INCLUDED_ */
