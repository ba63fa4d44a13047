
/*
 * Key sets: RFC 7517 documents, PEM public keys and shared secrets, and what
 * they verify.  Pure: no I/O, no clock.
 */


#ifndef _RUNCOACH_JWKS_H_INCLUDED_
#define _RUNCOACH_JWKS_H_INCLUDED_


#include "runcoach_base64.h"


#define RUNCOACH_JWKS_MAX_SIZE   65536
#define RUNCOACH_JWKS_MAX_KEYS   64


/* signature algorithms, RFC 7518 section 3.1; a set of them is a bit mask */

#define RUNCOACH_ALG_RS256  0x0001
#define RUNCOACH_ALG_RS384  0x0002
#define RUNCOACH_ALG_RS512  0x0004
#define RUNCOACH_ALG_PS256  0x0008
#define RUNCOACH_ALG_PS384  0x0010
#define RUNCOACH_ALG_PS512  0x0020
#define RUNCOACH_ALG_ES256  0x0040
#define RUNCOACH_ALG_ES384  0x0080
#define RUNCOACH_ALG_ES512  0x0100
#define RUNCOACH_ALG_EDDSA  0x0200     /* RFC 8037, Ed25519 only */
#define RUNCOACH_ALG_HS256  0x0400
#define RUNCOACH_ALG_HS384  0x0800
#define RUNCOACH_ALG_HS512  0x1000

#define RUNCOACH_ALG_HMAC   (RUNCOACH_ALG_HS256|RUNCOACH_ALG_HS384            \
                             |RUNCOACH_ALG_HS512)
#define RUNCOACH_ALG_ANY    0x03ff     /* all but those of a shared secret */

#define RUNCOACH_JWKS_DIGEST      32
#define RUNCOACH_JWKS_MAX_SECRET  1024


/* the algorithm of that name ("RS256"), or 0: there is none here */

unsigned runcoach_alg(const u_char *name, size_t n);


typedef struct runcoach_jwks_s  runcoach_jwks_t;


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
 * kty, crv or alg, RSA outside 2048 .. 8192 bits or with an even exponent or
 * one outside 3 .. 2^32 - 1 or of the generator of CVE-2017-15361, a point that
 * is not on its curve or has a small order, an encoding which is not the only
 * one); the others are kept.  A key of kty "oct" is never taken from a
 * document.  Of two keys with the same kid and algorithm both are kept.  "x5c",
 * "x5u" and unknown members are ignored.
 *
 * A key with "alg" verifies that one; without, all that its kty and crv allow,
 * of which the issuer's policy is to choose.
 *
 * On RUNCOACH_JWKS_OK *set is the caller's, to be freed with
 * runcoach_jwks_free(); *skipped (may be NULL) counts the keys left out.
 * On anything else *set is NULL.
 */

runcoach_jwks_rc_e runcoach_jwks_parse(runcoach_jwks_t **set, unsigned *skipped,
    const u_char *json, size_t n);


/*
 * Makes a set of one key, of no kid, from an SPKI or PKCS #1 public key (RSA,
 * P-256, P-384, P-521, Ed25519) or a certificate in PEM.  Accepts what
 * environments do to a PEM: "\n" written as two characters, all on one line,
 * and base64 without the BEGIN / END lines.  A private key is refused, and so
 * is text around the PEM or a second one in it: which of two keys was meant is
 * not guessed.  Ownership as above.
 */

runcoach_jwks_rc_e runcoach_jwks_from_pem(runcoach_jwks_t **set,
    const u_char *pem, size_t n);


/*
 * Makes a set of one shared secret, of no kid, for HS256, HS384 and HS512 as
 * far as it is as long as their digests (RFC 7518 section 3.2).  The bytes are
 * copied, and cleared by free.  RUNCOACH_JWKS_NO_KEY: fewer than 32 bytes, more
 * than RUNCOACH_JWKS_MAX_SECRET, or what is no secret: text with a line
 * "-----BEGIN", or a public key in base64 or DER.
 */

runcoach_jwks_rc_e runcoach_jwks_from_secret(runcoach_jwks_t **set,
    const u_char *secret, size_t n);


void runcoach_jwks_free(runcoach_jwks_t *set);


/* the number of keys, and the algorithms that any of them may verify */

size_t runcoach_jwks_count(const runcoach_jwks_t *set);
unsigned runcoach_jwks_algs(const runcoach_jwks_t *set);


/*
 * SHA-256 over kids, algorithms and keys: equal for two sets which verify the
 * same tokens, whatever the white space of their documents and the order of
 * their keys.  On this machine only.  Borrowed.
 */

const u_char *runcoach_jwks_digest(const runcoach_jwks_t *set);


typedef enum {
    RUNCOACH_JWKS_VERIFIED = 0,
    RUNCOACH_JWKS_UNKNOWN,     /* the set has no such key for that alg */
    RUNCOACH_JWKS_FORGED,      /* it has, and the signature is not by it */
    RUNCOACH_JWKS_FAILED       /* OpenSSL could not tell: no memory */
} runcoach_jwks_verdict_e;


/*
 * Verifies a JWS signature (RFC 7515 section 5.2) with the keys whose kid is
 * the given one and which may verify alg, two at most.  A key of no kid matches
 * any kid, and a token without kid (kid NULL) only keys of no kid.  alg is one
 * bit of RUNCOACH_ALG_*.
 *
 * ECDSA signatures are R and S of exactly the size of the curve's order, both
 * in 1 .. n - 1.  An HMAC is compared in constant time.  OpenSSL's error queue
 * is empty afterwards.
 *
 * The contexts of a key are used again from call to call, so a set is of one
 * thread, although it is const.
 */

runcoach_jwks_verdict_e runcoach_jwks_verify(const runcoach_jwks_t *set,
    const runcoach_str_t *kid, unsigned alg, const runcoach_str_t *text,
    const runcoach_str_t *signature);


#endif /* _RUNCOACH_JWKS_H_INCLUDED_ */
