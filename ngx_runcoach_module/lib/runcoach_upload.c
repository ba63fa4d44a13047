
#include <string.h>

#include <jansson.h>

#include "runcoach_upload.h"


#define RUNCOACH_UPLOAD_SHA256  32


typedef int (*runcoach_upload_field_pt)(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value);


typedef struct {
    const char                *name;
    runcoach_upload_field_pt   parse;
} runcoach_upload_field_t;


static int runcoach_upload_fail(runcoach_upload_error_t *error,
    const char *type, const char *message);
static int runcoach_upload_activity_id(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value);
static int runcoach_upload_filename(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value);
static int runcoach_upload_file_size(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value);
static int runcoach_upload_content_type(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value);
static int runcoach_upload_sha256(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value);
static ssize_t runcoach_upload_hex(u_char *dst, const u_char *src, size_t n);
static int runcoach_upload_digit(u_char c);


static const runcoach_upload_field_t  runcoach_upload_fields[] = {
    { "activity_id", runcoach_upload_activity_id },
    { "filename", runcoach_upload_filename },
    { "file_size", runcoach_upload_file_size },
    { "content_type", runcoach_upload_content_type },
    { "checksum", runcoach_upload_sha256 },
    { NULL, NULL }
};


int
runcoach_upload_parse(runcoach_upload_t *upload, runcoach_upload_error_t *error,
    const u_char *json, size_t n)
{
    int                             rc;
    json_t                         *root, *value;
    const runcoach_upload_field_t  *f;

    memset(upload, 0, sizeof(runcoach_upload_t));
    upload->file_size = -1;

    error->field = NULL;

    if (n > RUNCOACH_UPLOAD_MAX) {
        return runcoach_upload_fail(error, "too_long", "Body is too long");
    }

    root = json_loadb((const char *) json, n, JSON_REJECT_DUPLICATES, NULL);

    if (root == NULL) {
        return runcoach_upload_fail(error, "json_invalid",
                                    "JSON decode error");
    }

    rc = 0;

    if (!json_is_object(root)) {
        rc = runcoach_upload_fail(error, "dict_type",
                                  "Input should be a valid dictionary");
    }

    for (f = runcoach_upload_fields; rc == 0 && f->name; f++) {
        value = json_object_get(root, f->name);

        if (value == NULL || json_is_null(value)) {
            continue;
        }

        error->field = f->name;
        rc = f->parse(upload, error, value);
    }

    json_decref(root);

    return rc;
}


int
runcoach_upload_checksum(u_char *dst, const u_char *src, size_t n)
{
    u_char   digest[runcoach_base64_decoded_max(RUNCOACH_UPLOAD_CHECKSUM)];
    ssize_t  len;

    len = -1;

    if (n == 2 * RUNCOACH_UPLOAD_SHA256) {
        len = runcoach_upload_hex(digest, src, n);

    } else if (n == RUNCOACH_UPLOAD_CHECKSUM
               || n == RUNCOACH_UPLOAD_CHECKSUM - 1)
    {
        len = runcoach_base64_decode_any(digest, src, n);
    }

    if (len != RUNCOACH_UPLOAD_SHA256) {
        return -1;
    }

    (void) runcoach_base64_encode(dst, digest, len);

    return 0;
}


static int
runcoach_upload_fail(runcoach_upload_error_t *error, const char *type,
    const char *message)
{
    error->type = type;
    error->message = message;

    return -1;
}


static int
runcoach_upload_activity_id(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value)
{
    if (!json_is_integer(value)) {
        return runcoach_upload_fail(error, "int_type",
                                    "Input should be a valid integer");
    }

    upload->activity_id = json_integer_value(value);

    if (upload->activity_id < 0
        || upload->activity_id > RUNCOACH_UPLOAD_ID_LAST)
    {
        return runcoach_upload_fail(error, "value_error",
                                    "Input should be the id of an activity");
    }

    return 0;
}


/* the edge has no use for the name, but a wrong type is a client's mistake */

static int
runcoach_upload_filename(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value)
{
    (void) upload;

    if (!json_is_string(value)) {
        return runcoach_upload_fail(error, "string_type",
                                    "Input should be a valid string");
    }

    return 0;
}


static int
runcoach_upload_file_size(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value)
{
    if (!json_is_integer(value)) {
        return runcoach_upload_fail(error, "int_type",
                                    "Input should be a valid integer");
    }

    upload->file_size = json_integer_value(value);

    if (upload->file_size < 0) {
        return runcoach_upload_fail(error, "greater_than_equal",
                                 "Input should be greater than or equal to 0");
    }

    return 0;
}


static int
runcoach_upload_content_type(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value)
{
    size_t       i, n;
    const char  *s;

    if (!json_is_string(value)) {
        return runcoach_upload_fail(error, "string_type",
                                    "Input should be a valid string");
    }

    s = json_string_value(value);
    n = json_string_length(value);

    for (i = 0; i < n; i++) {

        if ((u_char) s[i] < 0x20 || (u_char) s[i] >= 0x7f) {
            break;
        }
    }

    if (i != n || n == 0 || n > RUNCOACH_UPLOAD_CONTENT_TYPE
        || memchr(s, '/', n) == NULL || s[0] == ' ' || s[n - 1] == ' ')
    {
        return runcoach_upload_fail(error, "value_error",
                      "Input should be a media type like application/gzip");
    }

    memcpy(upload->type_buffer, s, n);

    upload->content_type.data = upload->type_buffer;
    upload->content_type.len = n;

    return 0;
}


static int
runcoach_upload_sha256(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const json_t *value)
{
    if (!json_is_string(value)
        || runcoach_upload_checksum(upload->checksum_buffer,
                                    (const u_char *) json_string_value(value),
                                    json_string_length(value))
           != 0)
    {
        return runcoach_upload_fail(error, "value_error",
                            "Input should be a SHA-256 in hex or base64");
    }

    upload->checksum.data = upload->checksum_buffer;
    upload->checksum.len = RUNCOACH_UPLOAD_CHECKSUM;

    return 0;
}


static ssize_t
runcoach_upload_hex(u_char *dst, const u_char *src, size_t n)
{
    int     high, low;
    size_t  i;

    for (i = 0; i < n / 2; i++) {
        high = runcoach_upload_digit(src[2 * i]);
        low = runcoach_upload_digit(src[2 * i + 1]);

        if (high < 0 || low < 0) {
            return -1;
        }

        dst[i] = high << 4 | low;
    }

    return n / 2;
}


static int
runcoach_upload_digit(u_char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    return -1;
}
