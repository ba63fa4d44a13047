
#include <string.h>

#include "runcoach_upload.h"


#define RUNCOACH_UPLOAD_SHA256     32

/* of one object that is read into memory of our own */

#define RUNCOACH_UPLOAD_ONE_NODES  512


typedef int (*runcoach_upload_field_pt)(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);


typedef struct {
    runcoach_str_t             name;
    runcoach_upload_field_pt   parse;
} runcoach_upload_field_t;


static int runcoach_upload_read(runcoach_json_t *json,
    runcoach_upload_error_t *error, const u_char *text, size_t n);
static int runcoach_upload_object(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *object);
static int runcoach_upload_fail(runcoach_upload_error_t *error,
    const char *type, const char *message);
static int runcoach_upload_integer(long long *dst,
    runcoach_upload_error_t *error, const runcoach_json_node_t *value);
static int runcoach_upload_activity_id(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_filename(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_file_size(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_expires_in(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_content_type(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_disposition(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_if_none_match(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_metadata(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_sha256(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value);
static int runcoach_upload_is_text(const runcoach_str_t *s, size_t max);
static int runcoach_upload_is_name(const runcoach_str_t *s);
static ssize_t runcoach_upload_hex(u_char *dst, const u_char *src, size_t n);
static int runcoach_upload_digit(u_char c);


static const runcoach_upload_field_t  runcoach_upload_fields[] = {
    { runcoach_string("activity_id"), runcoach_upload_activity_id },
    { runcoach_string("filename"), runcoach_upload_filename },
    { runcoach_string("file_size"), runcoach_upload_file_size },
    { runcoach_string("content_type"), runcoach_upload_content_type },
    { runcoach_string("checksum"), runcoach_upload_sha256 },
    { runcoach_string("if_none_match"), runcoach_upload_if_none_match },
    { runcoach_string("metadata"), runcoach_upload_metadata },
    { runcoach_string("expires_in"), runcoach_upload_expires_in },
    { runcoach_string("content_disposition"), runcoach_upload_disposition },
    { { 0, NULL }, NULL }
};


int
runcoach_upload_open(runcoach_upload_body_t *body,
    runcoach_upload_error_t *error, const u_char *text, size_t n)
{
    const runcoach_json_t       *json;
    const runcoach_json_node_t  *node;

    static const runcoach_str_t  uploads = runcoach_string("uploads");

    if (runcoach_upload_read(&body->json, error, text, n) != 0) {
        return -1;
    }

    json = &body->json;

    body->list = runcoach_json_member(json, json->nodes, uploads.data,
                                      uploads.len);
    body->object = json->nodes;
    body->index = -1;
    body->n = 1;

    if (body->list == NULL) {
        return 0;
    }

    error->field = (const char *) uploads.data;

    if (body->list->type != RUNCOACH_JSON_ARRAY) {
        return runcoach_upload_fail(error, "list_type",
                                    "Input should be a valid list");
    }

    body->object = runcoach_json_first(json, body->list);
    body->index = 0;
    body->n = 0;

    for (node = body->object;
         node != NULL;
         node = runcoach_json_next(json, body->list, node))
    {
        if (++body->n > RUNCOACH_UPLOAD_LIST) {
            return runcoach_upload_fail(error, "too_long",
                                  "List should have at most 100 items");
        }
    }

    if (body->n == 0) {
        return runcoach_upload_fail(error, "too_short",
                                    "List should have at least 1 item");
    }

    return 0;
}


int
runcoach_upload_next(runcoach_upload_body_t *body, runcoach_upload_t *upload,
    runcoach_upload_error_t *error)
{
    const runcoach_json_node_t  *object;

    object = body->object;

    error->index = body->index;
    error->field = NULL;

    if (body->list != NULL) {
        body->object = runcoach_json_next(&body->json, body->list, object);
        body->index++;
    }

    return runcoach_upload_object(upload, error, &body->json, object);
}


int
runcoach_upload_parse(runcoach_upload_t *upload, runcoach_upload_error_t *error,
    const u_char *json, size_t n)
{
    int                   rc;
    u_char                buf[RUNCOACH_UPLOAD_ONE_MAX];
    runcoach_json_t       parsed;
    runcoach_json_node_t  nodes[RUNCOACH_UPLOAD_ONE_NODES];

    parsed.nodes = nodes;
    parsed.max = RUNCOACH_UPLOAD_ONE_NODES;
    parsed.buf = buf;
    parsed.size = sizeof(buf);

    error->index = -1;
    error->field = NULL;

    if (n > RUNCOACH_UPLOAD_ONE_MAX) {
        return runcoach_upload_fail(error, "too_long", "Body is too long");
    }

    rc = runcoach_upload_read(&parsed, error, json, n);

    if (rc == 0) {
        rc = runcoach_upload_object(upload, error, &parsed, nodes);
    }

    upload->nmetadata = 0;
    upload->disposition.len = 0;

    return rc;
}


static int
runcoach_upload_read(runcoach_json_t *json, runcoach_upload_error_t *error,
    const u_char *text, size_t n)
{
    size_t  i;

    error->index = -1;
    error->field = NULL;

    if (n > RUNCOACH_UPLOAD_MAX) {
        return runcoach_upload_fail(error, "too_long", "Body is too long");
    }

    switch (runcoach_json_parse(json, text, n, RUNCOACH_UPLOAD_DEPTH)) {

    case RUNCOACH_JSON_OK:
        return 0;

    case RUNCOACH_JSON_TOO_LARGE:
        return runcoach_upload_fail(error, "too_long",
                                    "Body has too many values");

    case RUNCOACH_JSON_TOO_DEEP:
        return runcoach_upload_fail(error, "json_invalid",
                                    "Body is nested too deep");

    default: /* RUNCOACH_JSON_INVALID */
        break;
    }

    for (i = 0; i < n && (text[i] == ' ' || text[i] == '\t'
                          || text[i] == '\r' || text[i] == '\n'); i++)
    {
        /* void */
    }

    if (i < n && (text[i] == '[' || text[i] == '"')) {
        return runcoach_upload_fail(error, "dict_type",
                                    "Input should be a valid dictionary");
    }

    return runcoach_upload_fail(error, "json_invalid", "JSON decode error");
}


static int
runcoach_upload_object(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *object)
{
    const runcoach_json_node_t     *node;
    const runcoach_upload_field_t  *f;

    upload->activity_id = 0;
    upload->file_size = -1;
    upload->expires_in = 0;
    upload->if_none_match = 0;
    upload->content_type.len = 0;
    upload->checksum.len = 0;
    upload->disposition.len = 0;
    upload->nmetadata = 0;

    if (object->type != RUNCOACH_JSON_OBJECT) {
        return runcoach_upload_fail(error, "dict_type",
                                    "Input should be a valid dictionary");
    }

    for (node = runcoach_json_first(json, object);
         node != NULL;
         node = runcoach_json_next(json, object, node))
    {
        if (node->type == RUNCOACH_JSON_NULL) {
            continue;
        }

        for (f = runcoach_upload_fields; f->parse != NULL; f++) {

            if (node->name.len == f->name.len
                && memcmp(node->name.data, f->name.data, f->name.len) == 0)
            {
                error->field = (const char *) f->name.data;

                if (f->parse(upload, error, json, node) != 0) {
                    return -1;
                }

                break;
            }
        }
    }

    error->field = NULL;

    return 0;
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
runcoach_upload_integer(long long *dst, runcoach_upload_error_t *error,
    const runcoach_json_node_t *value)
{
    if (value->type != RUNCOACH_JSON_INTEGER) {
        return runcoach_upload_fail(error, "int_type",
                                    "Input should be a valid integer");
    }

    *dst = runcoach_json_integer(value);

    return 0;
}


static int
runcoach_upload_activity_id(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    (void) json;

    if (runcoach_upload_integer(&upload->activity_id, error, value) != 0) {
        return -1;
    }

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
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    (void) upload;
    (void) json;

    if (value->type != RUNCOACH_JSON_STRING) {
        return runcoach_upload_fail(error, "string_type",
                                    "Input should be a valid string");
    }

    return 0;
}


static int
runcoach_upload_file_size(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    (void) json;

    if (runcoach_upload_integer(&upload->file_size, error, value) != 0) {
        return -1;
    }

    if (upload->file_size < 0) {
        return runcoach_upload_fail(error, "greater_than_equal",
                                 "Input should be greater than or equal to 0");
    }

    return 0;
}


static int
runcoach_upload_expires_in(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    long long  n;

    (void) json;

    if (runcoach_upload_integer(&n, error, value) != 0) {
        return -1;
    }

    if (n < 1 || n > RUNCOACH_UPLOAD_MAX_EXPIRES) {
        return runcoach_upload_fail(error, "value_error",
                             "Input should be from 1 to 604800 seconds");
    }

    upload->expires_in = n;

    return 0;
}


static int
runcoach_upload_content_type(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    const runcoach_str_t  *s;

    (void) json;

    s = &value->value;

    if (value->type != RUNCOACH_JSON_STRING) {
        return runcoach_upload_fail(error, "string_type",
                                    "Input should be a valid string");
    }

    if (!runcoach_upload_is_text(s, RUNCOACH_UPLOAD_CONTENT_TYPE)
        || memchr(s->data, '/', s->len) == NULL)
    {
        return runcoach_upload_fail(error, "value_error",
                      "Input should be a media type like application/gzip");
    }

    memcpy(upload->type_buffer, s->data, s->len);

    upload->content_type.data = upload->type_buffer;
    upload->content_type.len = s->len;

    return 0;
}


/*
 * A client may name what it downloads.  It may not have it shown: a page of
 * its own making would run where the store is.
 */

static int
runcoach_upload_disposition(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    const runcoach_str_t  *s;

    static const char  attachment[] = "attachment";

    (void) json;

    s = &value->value;

    if (value->type != RUNCOACH_JSON_STRING) {
        return runcoach_upload_fail(error, "string_type",
                                    "Input should be a valid string");
    }

    if (!runcoach_upload_is_text(s, RUNCOACH_UPLOAD_DISPOSITION)
        || s->len < sizeof(attachment) - 1
        || memcmp(s->data, attachment, sizeof(attachment) - 1) != 0
        || (s->len > sizeof(attachment) - 1
            && s->data[sizeof(attachment) - 1] != ';'))
    {
        return runcoach_upload_fail(error, "value_error",
                   "Input should be attachment, with or without a file name");
    }

    upload->disposition = *s;

    return 0;
}


static int
runcoach_upload_if_none_match(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    (void) json;

    if (value->type != RUNCOACH_JSON_STRING
        || value->value.len != 1 || value->value.data[0] != '*')
    {
        return runcoach_upload_fail(error, "value_error",
                                    "Input should be *");
    }

    upload->if_none_match = 1;

    return 0;
}


static int
runcoach_upload_metadata(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    runcoach_upload_meta_t      *meta;
    const runcoach_json_node_t  *node;

    if (value->type != RUNCOACH_JSON_OBJECT) {
        return runcoach_upload_fail(error, "dict_type",
                                    "Input should be a valid dictionary");
    }

    for (node = runcoach_json_first(json, value);
         node != NULL;
         node = runcoach_json_next(json, value, node))
    {
        if (upload->nmetadata == RUNCOACH_UPLOAD_METADATA) {
            return runcoach_upload_fail(error, "too_long",
                                 "Dictionary should have at most 8 items");
        }

        if (node->type != RUNCOACH_JSON_STRING
            || !runcoach_upload_is_name(&node->name)
            || !runcoach_upload_is_text(&node->value,
                                        RUNCOACH_UPLOAD_META_VALUE))
        {
            return runcoach_upload_fail(error, "value_error",
                          "Names should be of a-z, 0-9 and -, values of "
                          "1 to 256 characters of ASCII");
        }

        meta = &upload->metadata[upload->nmetadata++];
        meta->name = node->name;
        meta->value = node->value;
    }

    return 0;
}


static int
runcoach_upload_sha256(runcoach_upload_t *upload,
    runcoach_upload_error_t *error, const runcoach_json_t *json,
    const runcoach_json_node_t *value)
{
    (void) json;

    if (value->type != RUNCOACH_JSON_STRING
        || runcoach_upload_checksum(upload->checksum_buffer,
                                    value->value.data, value->value.len)
           != 0)
    {
        return runcoach_upload_fail(error, "value_error",
                            "Input should be a SHA-256 in hex or base64");
    }

    upload->checksum.data = upload->checksum_buffer;
    upload->checksum.len = RUNCOACH_UPLOAD_CHECKSUM;

    return 0;
}


/*
 * What can be the value of a header and is signed as it is: blanks at its
 * ends, or two in a row, would be signed as something else.
 */

static int
runcoach_upload_is_text(const runcoach_str_t *s, size_t max)
{
    size_t  i;

    if (s->len == 0 || s->len > max
        || s->data[0] == ' ' || s->data[s->len - 1] == ' ')
    {
        return 0;
    }

    for (i = 0; i < s->len; i++) {

        if (s->data[i] < 0x20 || s->data[i] >= 0x7f
            || (s->data[i] == ' ' && s->data[i + 1] == ' '))
        {
            return 0;
        }
    }

    return 1;
}


/* no "_": servers and proxies drop headers that have one */

static int
runcoach_upload_is_name(const runcoach_str_t *s)
{
    size_t  i;
    u_char  c;

    if (s->len == 0 || s->len > RUNCOACH_UPLOAD_META_NAME) {
        return 0;
    }

    for (i = 0; i < s->len; i++) {
        c = s->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
        {
            return 0;
        }
    }

    return 1;
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
