
#include "../../ngx_runcoach_module/lib/runcoach_upload.c"

#include <stdio.h>

#include "tap.h"


#define SHA256_HEX                                                            \
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SHA256_BASE64  "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


static int parse(runcoach_upload_t *upload, runcoach_upload_error_t *error,
    const char *json);
static void test_accepted(void);
static void test_refused(void);
static void test_checksum(void);
static int open_list(runcoach_upload_body_t *body,
    runcoach_upload_error_t *error, const char *json);
static void test_members(void);
static void test_list(void);
static void test_list_refused(void);


static int
parse(runcoach_upload_t *upload, runcoach_upload_error_t *error,
    const char *json)
{
    return runcoach_upload_parse(upload, error, (const u_char *) json,
                                 strlen(json));
}


static void
test_accepted(void)
{
    runcoach_upload_t        u;
    runcoach_upload_error_t  error;

    ok(parse(&u, &error, "{}") == 0, "nothing stated");
    ok(u.activity_id == 0 && u.file_size == -1 && u.content_type.len == 0
       && u.checksum.len == 0, "nothing found");

    ok(parse(&u, &error, "{\"activity_id\":null,\"filename\":null,"
             "\"file_size\":null,\"content_type\":null,\"checksum\":null,"
             "\"unknown\":[1,{}]}") == 0, "null is absent, unknown is ignored");

    ok(parse(&u, &error, " {\"activity_id\":7,\"filename\":\"run.fit\","
             "\"file_size\":0,\"content_type\":\"application/gzip\","
             "\"checksum\":\"" SHA256_HEX "\"}\n") == 0, "everything stated");
    ok(u.activity_id == 7, "activity");
    ok(u.file_size == 0, "an empty file has a size");
    ok(u.content_type.len == 16
       && memcmp(u.content_type.data, "application/gzip", 16) == 0, "type");
    ok(u.checksum.len == 44 && memcmp(u.checksum.data, SHA256_BASE64, 44) == 0,
       "checksum in base64");

    ok(parse(&u, &error, "{\"activity_id\":9007199254740991}") == 0
       && u.activity_id == RUNCOACH_UPLOAD_ID_LAST, "largest id");
}


static void
test_refused(void)
{
    size_t                   i;
    char                     json[RUNCOACH_UPLOAD_ONE_MAX + 2];
    runcoach_upload_t        u;
    runcoach_upload_error_t  error;

    static const struct {
        const char  *json;
        const char  *field;
        const char  *type;
    } rows[] = {
        { "", NULL, "json_invalid" },
        { "{", NULL, "json_invalid" },
        { "activity_id=7", NULL, "json_invalid" },
        { "{\"file_size\":1,\"file_size\":2}", NULL, "json_invalid" },
        { "{} {}", NULL, "json_invalid" },
        { "[]", NULL, "dict_type" },
        { "{\"activity_id\":\"7\"}", "activity_id", "int_type" },
        { "{\"activity_id\":7.5}", "activity_id", "int_type" },
        { "{\"activity_id\":true}", "activity_id", "int_type" },
        { "{\"activity_id\":-1}", "activity_id", "value_error" },
        { "{\"activity_id\":9007199254740992}", "activity_id", "value_error" },
        { "{\"filename\":1}", "filename", "string_type" },
        { "{\"file_size\":\"1\"}", "file_size", "int_type" },
        { "{\"file_size\":-1}", "file_size", "greater_than_equal" },
        { "{\"file_size\":1e3}", "file_size", "int_type" },
        { "{\"content_type\":1}", "content_type", "string_type" },
        { "{\"content_type\":\"\"}", "content_type", "value_error" },
        { "{\"content_type\":\"gzip\"}", "content_type", "value_error" },
        { "{\"content_type\":\"a/b\\r\\nX: y\"}", "content_type",
          "value_error" },
        { "{\"content_type\":\" a/b\"}", "content_type", "value_error" },
        { "{\"content_type\":\"a/\xc3\xa9\"}", "content_type", "value_error" },
        { "{\"checksum\":7}", "checksum", "value_error" },
        { "{\"expires_in\":0}", "expires_in", "value_error" },
        { "{\"expires_in\":604801}", "expires_in", "value_error" },
        { "{\"expires_in\":\"1h\"}", "expires_in", "int_type" },
        { "{\"if_none_match\":true}", "if_none_match", "value_error" },
        { "{\"if_none_match\":\"etag\"}", "if_none_match", "value_error" },
        { "{\"content_type\":\"a/b  c\"}", "content_type", "value_error" },
        { "{\"content_disposition\":7}", "content_disposition",
          "string_type" },
        { "{\"content_disposition\":\"inline\"}", "content_disposition",
          "value_error" },
        { "{\"content_disposition\":\"attachments\"}",
          "content_disposition", "value_error" },
        { "{\"content_disposition\":\"attachment; \\r\\nX: y\"}",
          "content_disposition", "value_error" },
        { "{\"metadata\":[]}", "metadata", "dict_type" },
        { "{\"metadata\":{\"A\":\"b\"}}", "metadata", "value_error" },
        { "{\"metadata\":{\"\":\"b\"}}", "metadata", "value_error" },
        { "{\"metadata\":{\"a:b\":\"c\"}}", "metadata", "value_error" },
        { "{\"metadata\":{\"a_b\":\"c\"}}", "metadata", "value_error" },
        { "{\"metadata\":{\"a\":1}}", "metadata", "value_error" },
        { "{\"metadata\":{\"a\":\"\"}}", "metadata", "value_error" },
        { "{\"metadata\":{\"a\":\"b\\n\"}}", "metadata", "value_error" },
        { "{\"metadata\":{\"a\":\"Ã©\"}}", "metadata",
          "value_error" },
        { "{\"metadata\":{\"a\":\"1\",\"b\":\"1\",\"c\":\"1\",\"d\":\"1\","
          "\"e\":\"1\",\"f\":\"1\",\"g\":\"1\",\"h\":\"1\",\"i\":\"1\"}}",
          "metadata", "too_long" },
        { "{\"checksum\":\"\"}", "checksum", "value_error" },
        { "{\"checksum\":\"abc\"}", "checksum", "value_error" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(parse(&u, &error, rows[i].json) == -1, "refused: %s", rows[i].json);
        is_str(error.field, rows[i].field, "field");
        is_str(error.type, rows[i].type, "type");
    }

    memset(json, ' ', sizeof(json) - 1);
    json[sizeof(json) - 1] = '\0';
    memcpy(json, "{}", 2);

    ok(parse(&u, &error, json) == -1, "a body that is too long");
    is_str(error.type, "too_long", "type");

    json[RUNCOACH_UPLOAD_ONE_MAX] = '\0';
    ok(parse(&u, &error, json) == 0, "a body of the greatest length");
}


static void
test_checksum(void)
{
    size_t  i;
    u_char  dst[RUNCOACH_UPLOAD_CHECKSUM];

    static const struct {
        const char  *text;
        int          rc;
    } rows[] = {
        { SHA256_HEX, 0 },
        { "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
          0 },
        { SHA256_BASE64, 0 },
        { "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", 0 },
        { "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=", -1 },
        { "g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
          -1 },
        { "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
          -1 },
        { "", -1 }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(dst, 0, sizeof(dst));

        ok(runcoach_upload_checksum(dst, (const u_char *) rows[i].text,
                                    strlen(rows[i].text))
           == rows[i].rc, "checksum \"%s\"", rows[i].text);

        if (rows[i].rc == 0) {
            ok(memcmp(dst, SHA256_BASE64, sizeof(dst)) == 0, "is the same");
        }
    }
}


/* nodes and decoded strings last until the next call */

static int
open_list(runcoach_upload_body_t *body, runcoach_upload_error_t *error,
    const char *json)
{
    static u_char                buf[65536];
    static runcoach_json_node_t  nodes[RUNCOACH_UPLOAD_NODES];

    body->json.nodes = nodes;
    body->json.max = runcoach_upload_nodes(strlen(json));
    body->json.buf = buf;
    body->json.size = sizeof(buf);

    return runcoach_upload_open(body, error, (const u_char *) json,
                                strlen(json));
}


static void
test_members(void)
{
    runcoach_upload_t        u;
    runcoach_upload_body_t   body;
    runcoach_upload_error_t  error;

    ok(open_list(&body, &error,
                 "{\"expires_in\":900,\"if_none_match\":\"*\","
                 "\"content_disposition\":\"attachment; filename=\\\"a\\\"\","
                 "\"metadata\":{\"device\":\"fenix\",\"a-b-1\":\"x y\"}}") == 0
       && body.n == 1 && body.list == NULL, "one object");
    ok(runcoach_upload_next(&body, &u, &error) == 0, "it is read");
    ok(u.expires_in == 900 && u.if_none_match == 1, "expiry, condition");
    ok(u.disposition.len == 24
       && memcmp(u.disposition.data, "attachment; filename=\"a\"", 24) == 0,
       "disposition");
    ok(u.nmetadata == 2 && u.metadata[0].name.len == 6
       && memcmp(u.metadata[0].name.data, "device", 6) == 0
       && u.metadata[1].value.len == 3
       && memcmp(u.metadata[1].value.data, "x y", 3) == 0, "metadata");

    ok(parse(&u, &error, "{\"metadata\":{\"a\":\"b\"},\"expires_in\":1}") == 0
       && u.nmetadata == 0 && u.expires_in == 1,
       "nothing is borrowed from memory that is gone");
}


static void
test_list(void)
{
    int                      i, n;
    char                     json[4096];
    runcoach_upload_t        u;
    runcoach_upload_body_t   body;
    runcoach_upload_error_t  error;

    n = sprintf(json, "{\"uploads\":[");

    for (i = 1; i <= RUNCOACH_UPLOAD_LIST; i++) {
        n += sprintf(json + n, "%s{\"activity_id\":%d}", i > 1 ? "," : "", i);
    }

    strcpy(json + n, "]}");

    ok(open_list(&body, &error, json) == 0 && body.n == RUNCOACH_UPLOAD_LIST,
       "the longest list");

    for (i = 1; i <= RUNCOACH_UPLOAD_LIST; i++) {
        if (runcoach_upload_next(&body, &u, &error) != 0
            || u.activity_id != i)
        {
            break;
        }
    }

    ok(i == RUNCOACH_UPLOAD_LIST + 1, "each is read, in order");

    strcpy(json + n, ",{}]}");
    ok(open_list(&body, &error, json) == -1, "one more");
    is_str(error.field, "uploads", "field");
    is_str(error.type, "too_long", "type");

    ok(open_list(&body, &error, "{\"uploads\":[{},{\"file_size\":3},"
                 "{\"file_size\":\"x\"},7]}") == 0, "a list with mistakes");
    ok(runcoach_upload_next(&body, &u, &error) == 0 && u.file_size == -1,
       "the first has none");
    ok(runcoach_upload_next(&body, &u, &error) == 0 && u.file_size == 3,
       "nor has the second");
    ok(runcoach_upload_next(&body, &u, &error) == -1 && error.index == 2
       && strcmp(error.field, "file_size") == 0, "the third is named");
    ok(runcoach_upload_next(&body, &u, &error) == -1 && error.index == 3
       && error.field == NULL && strcmp(error.type, "dict_type") == 0,
       "the fourth is no object");
}


static void
test_list_refused(void)
{
    size_t                   i;
    runcoach_upload_body_t   body;
    runcoach_upload_error_t  error;

    static const struct {
        const char  *json;
        const char  *type;
    } rows[] = {
        { "{\"uploads\":[]}", "too_short" },
        { "{\"uploads\":{}}", "list_type" },
        { "{\"uploads\":null}", "list_type" },
        { "{\"uploads\":[}", "json_invalid" },
        { "[{}]", "dict_type" },
        { "{\"a\":[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]}", "json_invalid" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(open_list(&body, &error, rows[i].json) == -1, "refused: %s",
           rows[i].json);
        is_str(error.type, rows[i].type, "type");
        ok(error.index == -1, "no object of it is to blame");
    }
}


int
main(void)
{
    test_accepted();
    test_refused();
    test_checksum();
    test_members();
    test_list();
    test_list_refused();

    return done();
}
