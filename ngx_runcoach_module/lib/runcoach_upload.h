
/*
 * The body of a request for upload URLs.  Pure.
 *
 *     {"activity_id": 7, "filename": "run.fit", "file_size": 123,
 *      "content_type": "application/octet-stream", "checksum": "...",
 *      "if_none_match": "*", "metadata": {"device": "fenix"},
 *      "expires_in": 900, "content_disposition": "attachment"}
 *
 * Every member may be absent or null.  Or a list of such objects, which are
 * answered together:
 *
 *     {"uploads": [{"activity_id": 7}, {"activity_id": 8}]}
 */


#ifndef _RUNCOACH_UPLOAD_H_INCLUDED_
#define _RUNCOACH_UPLOAD_H_INCLUDED_


#include "runcoach_base64.h"
#include "runcoach_json.h"


#define RUNCOACH_UPLOAD_MAX           65536     /* bytes of a body */
#define RUNCOACH_UPLOAD_ONE_MAX       16384     /* of runcoach_upload_parse() */
#define RUNCOACH_UPLOAD_LIST          100       /* objects in one body */
#define RUNCOACH_UPLOAD_NODES         4096      /* JSON values in a body */
#define RUNCOACH_UPLOAD_DEPTH         16
#define RUNCOACH_UPLOAD_CONTENT_TYPE  127
#define RUNCOACH_UPLOAD_DISPOSITION   255
#define RUNCOACH_UPLOAD_CHECKSUM      44        /* base64 of a SHA-256 */
#define RUNCOACH_UPLOAD_METADATA      8         /* members of "metadata" */
#define RUNCOACH_UPLOAD_META_NAME     64
#define RUNCOACH_UPLOAD_META_VALUE    256
#define RUNCOACH_UPLOAD_MAX_EXPIRES   604800
#define RUNCOACH_UPLOAD_ID_LAST       9007199254740991LL


typedef struct {
    runcoach_str_t  name;            /* without "x-amz-meta-" */
    runcoach_str_t  value;
} runcoach_upload_meta_t;


typedef struct {
    long long       activity_id;     /* 0: not stated */
    long long       file_size;       /* -1: not stated */
    unsigned        expires_in;      /* 0: not stated */
    unsigned        if_none_match;   /* 1: "*" */
    runcoach_str_t  content_type;    /* empty: not stated; in buffers below */
    runcoach_str_t  checksum;        /* base64 of a SHA-256, or empty */

    u_char          type_buffer[RUNCOACH_UPLOAD_CONTENT_TYPE];
    u_char          checksum_buffer[RUNCOACH_UPLOAD_CHECKSUM];

    /* borrowed from the body or its decoded strings */

    runcoach_str_t          disposition;
    size_t                  nmetadata;
    runcoach_upload_meta_t  metadata[RUNCOACH_UPLOAD_METADATA];
} runcoach_upload_t;


/* what is wrong, in the terms of a 422 answer; all are constants */

typedef struct {
    int             index;           /* in the list; -1: there is none */
    const char     *field;           /* NULL: the object itself */
    const char     *type;
    const char     *message;
} runcoach_upload_error_t;


/* a body that is read object by object */

typedef struct {
    runcoach_json_t              json;
    const runcoach_json_node_t  *list;    /* NULL: the body is one object */
    const runcoach_json_node_t  *object;  /* the next one; NULL: no more */
    size_t                       n;       /* objects in all, 1 .. LIST */
    int                          index;   /* of the next one, from 0; or -1 */
} runcoach_upload_body_t;


/* values that a body of n bytes may have; more of them are refused */

#define runcoach_upload_nodes(n)                                              \
    (runcoach_json_max_nodes(n) < RUNCOACH_UPLOAD_NODES                       \
     ? runcoach_json_max_nodes(n) : RUNCOACH_UPLOAD_NODES)


/*
 * The caller has set nodes, max, buf and size of body->json, as for
 * runcoach_json_parse(); buf may be absent if the text has no "\".  Text,
 * nodes and buf must stay as long as any of it is used.
 *
 * open() reads the text; then next() gives each object in turn.  0 and what
 * was asked for, or -1 and *error; next() must not be called more than n times.
 */

int runcoach_upload_open(runcoach_upload_body_t *body,
    runcoach_upload_error_t *error, const u_char *text, size_t n);
int runcoach_upload_next(runcoach_upload_body_t *body,
    runcoach_upload_t *upload, runcoach_upload_error_t *error);


/*
 * One object alone, in memory of its own: without metadata and disposition,
 * which would be borrowed from it, and "uploads" is ignored as any name that
 * is not known.  0 and *upload, or -1 and *error.
 */

int runcoach_upload_parse(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const u_char *json, size_t n);


/*
 * A SHA-256 as people write it, 64 hexadecimal digits or canonical base64,
 * becomes base64: RUNCOACH_UPLOAD_CHECKSUM bytes at dst.  0, or -1.
 */

int runcoach_upload_checksum(u_char *dst, const u_char *src, size_t n);


#endif /* _RUNCOACH_UPLOAD_H_INCLUDED_ */
