
/*
 * Where an object store is: what an operator says of it becomes the parts of a
 * URL, once for the edge and the sidecar, who must sign the same.  Pure: no
 * I/O, no allocation, no globals; no name is resolved.
 *
 *     path      https://host/bucket/key
 *     virtual   https://bucket.host/key
 */


#ifndef _RUNCOACH_ENDPOINT_H_INCLUDED_
#define _RUNCOACH_ENDPOINT_H_INCLUDED_


#include "runcoach_base64.h"


#define RUNCOACH_ENDPOINT_MAX_HOST  253
#define RUNCOACH_ENDPOINT_MAX_NAME  63       /* of a bucket, or an account */
#define RUNCOACH_ENDPOINT_MAX_PATH  255


/* each may be empty: not set */

typedef struct {
    runcoach_str_t   endpoint;      /* https://host[:port][/path] */
    runcoach_str_t   account;       /* of R2, if there is no endpoint */
    runcoach_str_t   jurisdiction;  /* of the account: eu, fedramp or us */
    runcoach_str_t   bucket;
    runcoach_str_t   style;         /* path, which is the default, or virtual */
} runcoach_endpoint_conf_t;


/* as runcoach_sigv4_request_t takes them; each ends with a NUL */

typedef struct {
    char             scheme[sizeof("https")];

    /* lower case, the bucket before it if virtual, a port unless default */

    char             host[RUNCOACH_ENDPOINT_MAX_NAME + 1
                          + RUNCOACH_ENDPOINT_MAX_HOST + sizeof(":65535")];

    char             base[RUNCOACH_ENDPOINT_MAX_PATH
                          + RUNCOACH_ENDPOINT_MAX_NAME + 2];
} runcoach_endpoint_t;


typedef enum {
    RUNCOACH_ENDPOINT_OK = 0,
    RUNCOACH_ENDPOINT_BAD_URL,           /* endpoint */
    RUNCOACH_ENDPOINT_BAD_ACCOUNT,       /* not 3 to 63 of a-z 0-9 - . */
    RUNCOACH_ENDPOINT_BAD_JURISDICTION,
    RUNCOACH_ENDPOINT_BAD_BUCKET,        /* not 3 to 63 of a-z 0-9 - . */
    RUNCOACH_ENDPOINT_BAD_STYLE,
    RUNCOACH_ENDPOINT_DOTTED,            /* virtual, with a dot in the bucket */
    RUNCOACH_ENDPOINT_ADDRESS            /* virtual, of a host without a name */
} runcoach_endpoint_rc_e;


/*
 * A path of the endpoint is kept, but for one that ends in the bucket's name:
 * that is the bucket's own address, which the dashboard shows as well.  The
 * path has letters, digits and -._~/ only, and no empty, "." or ".." segment.
 * A jurisdiction is part of the account's host and has no meaning with an
 * endpoint.  *e is filled on RUNCOACH_ENDPOINT_OK only.
 */

runcoach_endpoint_rc_e runcoach_endpoint_parse(runcoach_endpoint_t *e,
    const runcoach_endpoint_conf_t *conf);


#endif /* _RUNCOACH_ENDPOINT_H_INCLUDED_ */
