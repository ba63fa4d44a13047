
/*
 * The object store: R2, or anything that speaks S3.  Requests are URLs signed
 * by the signer which the nginx module uses, given to libcurl as they are.
 */


#ifndef _R2_H_INCLUDED_
#define _R2_H_INCLUDED_


#include <time.h>

#include "config.h"
#include "listing.h"


typedef struct r2_s  r2_t;


typedef enum {
    R2_OK = 0,
    R2_NOT_FOUND,
    R2_CHANGED,         /* the object is not the one that was asked for */
    R2_TOO_LARGE,       /* more than the caller wants */
    R2_RETRY            /* no answer, or one that blames the store or us */
} r2_rc_e;


typedef struct {
    long long  size;
    char       etag[256];       /* without quotes, unless weak */
    time_t     modified;        /* 0 if the store does not tell */
    char       sha256[65];      /* hex; empty if the store does not tell */
} r2_head_t;


/* curl's library must be initialized; one thread at a time uses an r2_t */

r2_t *r2_create(const config_t *cf);
void r2_free(r2_t *r2);


/*
 * Each is tried twice if the first attempt fails in a way that may pass.  The
 * reason of anything but OK and NOT_FOUND has been logged.  r2_get() gives
 * *data to the caller, for free(); etag may be NULL.  Deleting what is not
 * there is OK.
 */

r2_rc_e r2_head(r2_t *r2, const char *key, r2_head_t *head)
    __attribute__((warn_unused_result));
r2_rc_e r2_get(r2_t *r2, const char *key, const char *etag, size_t limit,
    u_char **data, size_t *n) __attribute__((warn_unused_result));
r2_rc_e r2_delete(r2_t *r2, const char *key)
    __attribute__((warn_unused_result));


/*
 * Stores an object, whatever was there before; the store is told the SHA-256
 * and refuses another.  sha256 is of 65 bytes, and gets it in hexadecimal.
 */

r2_rc_e r2_put(r2_t *r2, const char *key, const u_char *data, size_t n,
    char *sha256) __attribute__((warn_unused_result));


/*
 * A page of the bucket, in the order of keys: token is that of the page before,
 * or empty.  *data is the caller's, for free(), and holds the strings of *list.
 * NOT_FOUND: the store does not list, or the bucket is not there.
 */

r2_rc_e r2_list(r2_t *r2, const char *token, listing_t *list, u_char **data)
    __attribute__((warn_unused_result));


/*
 * A URL to GET the object, for seconds.  name, if not NULL, is what a browser
 * calls the file: letters, digits, ".", "-", "_" only.  url is of
 * RUNCOACH_SIGV4_MAX_URL bytes.  0, or -1 if key cannot be signed.
 */

int r2_presign(r2_t *r2, char *url, const char *key, unsigned seconds,
    const char *name) __attribute__((warn_unused_result));


#endif /* _R2_H_INCLUDED_ */
