
/*
 * Svix (Standard Webhooks) signatures.  Pure: no I/O, no clock, no globals.
 */


#ifndef _SVIX_H_INCLUDED_
#define _SVIX_H_INCLUDED_


#include <stdint.h>

#include <openssl/sha.h>

#include "runcoach_base64.h"


#define SVIX_TOLERANCE      300
#define SVIX_MAX_SECRETS    8
#define SVIX_MAX_KEY        256
#define SVIX_MAX_ID         256
#define SVIX_MAX_SIGNATURE  4096
#define SVIX_MAX_ENTRIES    16


/* the two states of SHA-256 which are all that an HMAC needs of a key */

typedef struct {
    SHA256_CTX           inner;
    SHA256_CTX           outer;
} svix_key_t;


typedef struct {
    size_t               nkeys;
    svix_key_t           keys[SVIX_MAX_SECRETS];
} svix_secrets_t;


/* a header that was not sent is { 0, NULL } */

typedef struct {
    runcoach_str_t       id;
    runcoach_str_t       timestamp;
    runcoach_str_t       signature;
} svix_headers_t;


typedef enum {
    SVIX_OK = 0,
    SVIX_NO_HEADERS,         /* no family is complete */
    SVIX_BAD_ID,
    SVIX_BAD_TIMESTAMP,      /* not a number, or outside of the tolerance */
    SVIX_BAD_SIGNATURE
} svix_rc_e;


/*
 * Reads "whsec_..,whsec_..": several secrets are good during a rotation.  The
 * prefix is optional, blanks around a secret are allowed.  A secret is base64
 * of 1 .. SVIX_MAX_KEY bytes; one that is not makes the whole list fail, so
 * that a typing error is seen when the program starts.
 *
 * Returns 0, or -1 with *error set to a static string.  An empty list is an
 * error.  *secrets must not be logged; svix_secrets_clear() wipes it.
 */

int svix_secrets_parse(svix_secrets_t *secrets, const u_char *list, size_t n,
    const char **error);

void svix_secrets_clear(svix_secrets_t *secrets);


/*
 * Verifies the bytes of a body as they were received.  The svix-* family
 * counts if all three of its headers are present, else webhook-*; families are
 * never mixed.  Whatever signs must be within SVIX_TOLERANCE seconds of now,
 * both ends included.  Every v1 entry is compared with the signature of every
 * secret, in constant time; entries of other versions are skipped.
 *
 * On SVIX_OK *used (may be NULL) is the family that was verified and
 * *timestamp (may be NULL) its time; the id is 1 .. SVIX_MAX_ID characters
 * out of A-Z a-z 0-9 - _ and safe as a key.
 */

svix_rc_e svix_verify(const svix_secrets_t *secrets, const svix_headers_t *svix,
    const svix_headers_t *webhook, const u_char *body, size_t n, int64_t now,
    const svix_headers_t **used, int64_t *timestamp);


/* a static string for a log, without anything of the sender's in it */

const char *svix_strerror(svix_rc_e rc);


#endif /* _SVIX_H_INCLUDED_ */
