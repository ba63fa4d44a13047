
/*
 * The body of a request for an upload URL.  Pure.
 *
 *     {"activity_id": 7, "filename": "run.fit", "file_size": 123,
 *      "content_type": "application/octet-stream", "checksum": "..."}
 *
 * Every member may be absent or null.
 */


#ifndef _RUNCOACH_UPLOAD_H_INCLUDED_
#define _RUNCOACH_UPLOAD_H_INCLUDED_


#include "runcoach_base64.h"


#define RUNCOACH_UPLOAD_MAX           16384     /* bytes of a body */
#define RUNCOACH_UPLOAD_CONTENT_TYPE  127
#define RUNCOACH_UPLOAD_CHECKSUM      44        /* base64 of a SHA-256 */
#define RUNCOACH_UPLOAD_ID_LAST       9007199254740991LL


typedef struct {
    long long       activity_id;     /* 0: not stated */
    long long       file_size;       /* -1: not stated */
    runcoach_str_t  content_type;    /* empty: not stated; in buffers below */
    runcoach_str_t  checksum;        /* base64 of a SHA-256, or empty */

    u_char          type_buffer[RUNCOACH_UPLOAD_CONTENT_TYPE];
    u_char          checksum_buffer[RUNCOACH_UPLOAD_CHECKSUM];
} runcoach_upload_t;


/* what is wrong, in the terms of a 422 answer; all are constants */

typedef struct {
    const char     *field;           /* NULL: the body itself */
    const char     *type;
    const char     *message;
} runcoach_upload_error_t;


/* 0 and *upload, or -1 and *error */

int runcoach_upload_parse(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const u_char *json, size_t n);


/*
 * A SHA-256 as people write it, 64 hexadecimal digits or canonical base64,
 * becomes base64: RUNCOACH_UPLOAD_CHECKSUM bytes at dst.  0, or -1.
 */

int runcoach_upload_checksum(u_char *dst, const u_char *src, size_t n);


#endif /* _RUNCOACH_UPLOAD_H_INCLUDED_ */
