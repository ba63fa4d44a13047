
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
    char                     json[RUNCOACH_UPLOAD_MAX + 2];
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

    json[RUNCOACH_UPLOAD_MAX] = '\0';
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


int
main(void)
{
    test_accepted();
    test_refused();
    test_checksum();

    return done();
}
