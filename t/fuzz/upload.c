
/*
 * Requests for upload URLs, one object or a list: what is accepted can be
 * signed and sent.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_upload.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void list(const u_char *text, size_t size);
static void check(const runcoach_upload_t *u);
static void text(const runcoach_str_t *s, size_t max);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char                   *p;
    runcoach_upload_t         upload;
    runcoach_upload_error_t   error;

    p = malloc(size + 1);
    if (p == NULL) {
        abort();
    }

    /* the last byte of the buffer is the last of the input */

    if (size > 0) {
        memcpy(p + 1, data, size);
    }

    memset(&error, 0, sizeof(error));

    if (runcoach_upload_parse(&upload, &error, p + 1, size) == 0) {
        check(&upload);

    } else if (error.type == NULL || error.message == NULL) {
        abort();
    }

    list(p + 1, size);

    free(p);

    return 0;
}


/* with as many values as the module allows, and a buffer only for "\" */

static void
list(const u_char *data, size_t size)
{
    size_t                    i, max;
    runcoach_upload_t         upload;
    runcoach_upload_body_t    body;
    runcoach_upload_error_t   error;

    max = runcoach_upload_nodes(size);

    body.json.max = max;
    body.json.nodes = malloc(max * sizeof(runcoach_json_node_t));
    body.json.size = size != 0 && memchr(data, '\\', size) != NULL ? size : 0;
    body.json.buf = malloc(body.json.size + 1);

    if (body.json.nodes == NULL || body.json.buf == NULL) {
        abort();
    }

    if (runcoach_upload_open(&body, &error, data, size) == 0) {

        if (body.n == 0 || body.n > RUNCOACH_UPLOAD_LIST) {
            abort();
        }

        for (i = 0; i < body.n; i++) {

            if (runcoach_upload_next(&body, &upload, &error) == 0) {
                check(&upload);

            } else if (error.type == NULL
                       || error.index != (body.list ? (int) i : -1))
            {
                abort();
            }
        }

    } else if (error.type == NULL || error.message == NULL
               || error.index != -1)
    {
        abort();
    }

    free(body.json.nodes);
    free(body.json.buf);
}


static void
check(const runcoach_upload_t *u)
{
    size_t  i;
    u_char  again[RUNCOACH_UPLOAD_CHECKSUM];

    if (u->activity_id < 0 || u->activity_id > RUNCOACH_UPLOAD_ID_LAST
        || u->file_size < -1
        || u->content_type.len > RUNCOACH_UPLOAD_CONTENT_TYPE)
    {
        abort();
    }

    text(&u->content_type, RUNCOACH_UPLOAD_CONTENT_TYPE);
    text(&u->disposition, RUNCOACH_UPLOAD_DISPOSITION);

    if (u->nmetadata > RUNCOACH_UPLOAD_METADATA
        || u->expires_in > RUNCOACH_UPLOAD_MAX_EXPIRES)
    {
        abort();
    }

    for (i = 0; i < u->nmetadata; i++) {
        text(&u->metadata[i].name, RUNCOACH_UPLOAD_META_NAME);
        text(&u->metadata[i].value, RUNCOACH_UPLOAD_META_VALUE);
    }

    if (u->checksum.len == 0) {
        return;
    }

    if (u->checksum.len != RUNCOACH_UPLOAD_CHECKSUM
        || runcoach_upload_checksum(again, u->checksum.data, u->checksum.len)
           != 0
        || memcmp(again, u->checksum.data, sizeof(again)) != 0)
    {
        abort();
    }
}


static void
text(const runcoach_str_t *s, size_t max)
{
    size_t  i;

    if (s->len > max) {
        abort();
    }

    for (i = 0; i < s->len; i++) {

        if (s->data[i] < ' ' || s->data[i] >= 0x7f) {
            abort();
        }
    }
}
