
/*
 * Key sets: RFC 7517 documents and PEM public keys.  Pure: no I/O, no clock.
 */


#ifndef _RUNCOACH_JWKS_H_INCLUDED_
#define _RUNCOACH_JWKS_H_INCLUDED_


#include <openssl/evp.h>

#include "runcoach_base64.h"


#define RUNCOACH_JWKS_MAX_SIZE   65536
#define RUNCOACH_JWKS_MAX_KEYS   64

#define RUNCOACH_JOSE_MAX_DEPTH  32


/* signature algorithms, RFC 7518 section 3.1; a set of them is a bit mask */

#define RUNCOACH_ALG_RS256  0x0001


typedef struct {
    const char      *name;     /* "alg" of a token's header or of a key */
    const char      *kty;      /* the only type of key that may verify it */
    unsigned         alg;
    const EVP_MD  *(*md)(void);
} runcoach_alg_t;


typedef struct runcoach_jwks_s  runcoach_jwks_t;


typedef struct {
    runcoach_str_t   kid;      /* empty: the key matches a token of any kid */
    unsigned         algs;     /* what this key may verify */
    EVP_PKEY        *pkey;     /* owned by the set */
} runcoach_jwk_t;


typedef enum {
    RUNCOACH_JWKS_OK = 0,
    RUNCOACH_JWKS_TOO_LARGE,   /* in bytes or in keys */
    RUNCOACH_JWKS_NOT_JSON,    /* not a JSON object with an array "keys" */
    RUNCOACH_JWKS_NO_KEY,      /* nothing in it is usable; a PEM: not one key */
    RUNCOACH_JWKS_NO_MEMORY
} runcoach_jwks_rc_e;


/*
 * Parses a JWK Set.  A key that is not usable for verifying is left out (no
 * kid, private parts, use other than "sig", key_ops without "verify", unknown
 * kty or alg, RSA outside 2048 .. 8192 bits or with an even exponent or one
 * outside 3 .. 2^32 - 1); the others are kept.  Of two keys with the same kid
 * and algorithm both are kept.  "x5c", "x5u" and unknown members are ignored.
 *
 * On RUNCOACH_JWKS_OK *set is the caller's, to be freed with
 * runcoach_jwks_free(); *skipped (may be NULL) counts the keys left out.
 * On anything else *set is NULL.
 */

runcoach_jwks_rc_e runcoach_jwks_parse(runcoach_jwks_t **set, unsigned *skipped,
    const u_char *json, size_t n);


/*
 * Makes a set of one key, of no kid, from an SPKI or PKCS #1 public key or a
 * certificate in PEM.  Accepts what environments do to a PEM: "\n" written as
 * two characters, all on one line, and base64 without the BEGIN / END lines.
 * A private key is refused, and so is text around the PEM or a second one in
 * it: which of two keys was meant is not guessed.  Ownership as above.
 */

runcoach_jwks_rc_e runcoach_jwks_from_pem(runcoach_jwks_t **set,
    const u_char *pem, size_t n);


void runcoach_jwks_free(runcoach_jwks_t *set);


/* the keys in the order of the document; borrowed, valid until free */

size_t runcoach_jwks_count(const runcoach_jwks_t *set);
const runcoach_jwk_t *runcoach_jwks_key(const runcoach_jwks_t *set, size_t i);


/* the row of an algorithm, or NULL: there is none of that name here */

const runcoach_alg_t *runcoach_alg(const char *name);


/*
 * JSON as JOSE needs it: one object, no duplicate members (RFC 7515 section
 * 4), UTF-8, no NUL, nothing but white space after it, and nested no deeper
 * than RUNCOACH_JOSE_MAX_DEPTH.  NULL if it is not; *memory is then set if it
 * may be, but memory ran out.  To be freed with json_decref().
 */

struct json_t *runcoach_jose_json(const u_char *data, size_t n, int *memory);


#endif /* _RUNCOACH_JWKS_H_INCLUDED_ */
