
/* Requests for upload URLs: what is accepted can be signed and sent. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_upload.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const runcoach_upload_t *u);


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

    free(p);

    return 0;
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

    for (i = 0; i < u->content_type.len; i++) {

        if (u->content_type.data[i] < ' ' || u->content_type.data[i] >= 0x7f) {
            abort();
        }
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
