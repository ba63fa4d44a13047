
/*
 * AWS Signature Version 4 by query parameters ("presigned URLs") for S3: one
 * signer for the module and the sidecar, and the verifier of the local store.
 * Pure: no I/O, no allocation, no globals, the caller passes the time.
 *
 *     CanonicalRequest = METHOD \n path \n query \n headers \n names \n
 *                        UNSIGNED-PAYLOAD
 *     StringToSign     = AWS4-HMAC-SHA256 \n date \n scope \n
 *                        hex(sha256(CanonicalRequest))
 *     signature        = hex(hmac(signing key, StringToSign))
 *
 * docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
 */


#ifndef _RUNCOACH_SIGV4_H_INCLUDED_
#define _RUNCOACH_SIGV4_H_INCLUDED_


#include <time.h>
#include <openssl/sha.h>

#include "runcoach_base64.h"


#define RUNCOACH_SIGV4_MAX_EXPIRES  604800
#define RUNCOACH_SIGV4_MAX_KEY      1024    /* bytes of an object key */
#define RUNCOACH_SIGV4_MAX_PAIRS    16      /* headers, or query arguments */
#define RUNCOACH_SIGV4_MAX_ARGS     32      /* of a request to be verified */
#define RUNCOACH_SIGV4_MAX_NAME     256     /* of access key, secret, region */
#define RUNCOACH_SIGV4_MAX_TOKEN    2048    /* bytes of a session token */
#define RUNCOACH_SIGV4_MAX_URL      8192
#define RUNCOACH_SIGV4_MAX_SCOPE    (2 * RUNCOACH_SIGV4_MAX_NAME + 64)


typedef struct {
    runcoach_str_t         access_key;
    runcoach_str_t         secret_key;
    runcoach_str_t         region;
    runcoach_str_t         session_token;   /* empty: none */
} runcoach_sigv4_credential_t;


/*
 * A derived signing key of one UTC day, as the two states of SHA-256 which are
 * all that an HMAC needs of a key, and the credential as it stands in a URL.
 * Zero it before the first use, keep one for each credential; the functions
 * below renew it when the day changes.  One that verifies should be another
 * than the one that signs: the day there is what the client says.
 */

typedef struct {
    char                   date[9];         /* "20261120" */
    SHA256_CTX             inner;
    SHA256_CTX             outer;
    size_t                 nscope;
    u_char                 scope[3 * RUNCOACH_SIGV4_MAX_SCOPE];
} runcoach_sigv4_day_key_t;


typedef struct {
    runcoach_str_t         name;
    runcoach_str_t         value;
} runcoach_sigv4_pair_t;


typedef struct {
    runcoach_str_t         method;          /* "PUT" */
    runcoach_str_t         scheme;          /* "https" */
    runcoach_str_t         host;            /* with a port unless default */
    runcoach_str_t         base;            /* "/bucket", encoded; or empty */
    runcoach_str_t         key;             /* object key, raw bytes */
    time_t                 now;
    unsigned               expires;         /* seconds */
    unsigned               bucket:1;        /* it itself: key is empty */

    /* what is bound beside host, and response-*, partNumber, ... */

    const runcoach_sigv4_pair_t  *headers;
    size_t                        nheaders;
    const runcoach_sigv4_pair_t  *query;
    size_t                        nquery;
} runcoach_sigv4_request_t;


typedef enum {
    RUNCOACH_SIGV4_OK = 0,
    RUNCOACH_SIGV4_BAD_KEY,        /* key: see runcoach_sigv4_check_key() */
    RUNCOACH_SIGV4_BAD_EXPIRES,    /* outside 1 .. 604800 */
    RUNCOACH_SIGV4_BAD_REQUEST,    /* not a presigned request, or malformed */
    RUNCOACH_SIGV4_TOO_LARGE,      /* the buffer or a bound above */
    RUNCOACH_SIGV4_DENIED,         /* other access key, scope or token */
    RUNCOACH_SIGV4_EXPIRED,        /* more than X-Amz-Expires after the date */
    RUNCOACH_SIGV4_NOT_YET,        /* X-Amz-Date 15 minutes or more ahead */
    RUNCOACH_SIGV4_MISMATCH,       /* the signature is another one */
    RUNCOACH_SIGV4_ERROR           /* OpenSSL refused: no memory */
} runcoach_sigv4_rc_e;


/*
 * An object key is 1 .. 1024 bytes of UTF-8 without control characters and
 * without an empty, "." or ".." segment: clients normalize those, and the
 * signature would be of another path.  RUNCOACH_SIGV4_OK or BAD_KEY.
 */

runcoach_sigv4_rc_e runcoach_sigv4_check_key(const u_char *key, size_t n);


/*
 * Percent-encodes all but A-Z a-z 0-9 - _ . ~ with upper-case digits; "/" is
 * kept if keep_slash.  dst must hold 3 * n bytes.  Returns bytes written.
 */

size_t runcoach_sigv4_encode(u_char *dst, const u_char *src, size_t n,
    int keep_slash);


/*
 * Writes the whole URL into url, which is the caller's, of size bytes; *n is
 * its length (no NUL).  Header names must be lower case, without "host" and
 * each once; order is free, of the query's arguments too: the URL has them in
 * canonical order and the signature last.  *day is read and, on a new day,
 * rewritten.  Values of headers are trimmed as the protocol demands; a control
 * character in a value, a name of ours ("X-Amz-Date", ...) in the query, or a
 * host or base that is not one is BAD_REQUEST.
 */

runcoach_sigv4_rc_e runcoach_sigv4_presign(u_char *url, size_t size, size_t *n,
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_request_t *request);


/*
 * Not less than the length of the URL that runcoach_sigv4_presign() makes.
 */

size_t runcoach_sigv4_max(const runcoach_sigv4_credential_t *cred,
    const runcoach_sigv4_request_t *request);


/*
 * The verifying side.  path and args are what stood in the request line, not
 * decoded; the path must be our own encoding of a valid key under base, and
 * the arguments canonically encoded, in any order, each X-Amz-* only once.
 * header() finds a request header by its lower-case name: 1 and *value, or 0;
 * a header that is signed but absent or repeated must be 0, and is BAD_REQUEST.
 * The host must be among the signed ones.
 *
 * What costs nothing is checked first, the signature last: EXPIRED and NOT_YET
 * do not say that the signature was right.
 *
 * On RUNCOACH_SIGV4_OK the request was signed with cred, for this method,
 * host, path, query and headers, and has not expired.  signature compares in
 * constant time.
 */

typedef struct {
    runcoach_str_t         method;
    runcoach_str_t         path;
    runcoach_str_t         args;
    runcoach_str_t         base;
    time_t                 now;
    int                  (*header)(void *data, const runcoach_str_t *name,
                               runcoach_str_t *value);
    void                  *data;
} runcoach_sigv4_signed_t;

runcoach_sigv4_rc_e runcoach_sigv4_verify(
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_signed_t *request);


/* a constant for logs, never NULL */

const char *runcoach_sigv4_reason(runcoach_sigv4_rc_e rc);


#endif /* _RUNCOACH_SIGV4_H_INCLUDED_ */
