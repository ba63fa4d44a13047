
#include "../../sidecar/announce.c"
#include "tap.h"


#define HEX  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


static int same(const char *expected, const char *id, const char *key,
    const char *user, const char *method, const char *object, const char *size,
    const char *checksum, const char *expires);
static void test_good(void);
static void test_bad(void);


int
main(void)
{
    test_good();
    test_bad();

    return done();
}


static void
test_good(void)
{
    json_t             *json;
    static const char  *fields[] = {
        "later", "on", "expires", "9", "object", "7", "method", "PUT",
        "user", "42", "key", "k"
    };

    ok(same("{\"checksum\": \"" HEX "\", \"expires\": 1795166400,"
            " \"issued\": 1795162800123, \"key\": \"users/u/7.fit\","
            " \"object\": 5000000000, \"size\": 12, \"user\": \"u\"}",
            "1795162800123-0", "users/u/7.fit", "u", "PUT", "5000000000", "12",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", "1795166400"),
       "all fields");
    ok(same("{\"checksum\": \"" HEX "\", \"expires\": 1, \"issued\": 2,"
            " \"key\": \"k\", \"object\": 7, \"size\": null,"
            " \"user\": \"u\"}", "2", "k", "u", "PUT", "7", "", HEX, "1"),
       "no size, a checksum in hexadecimal");
    ok(same("{\"checksum\": null, \"expires\": 1, \"issued\": 2,"
            " \"key\": \"k\", \"object\": 7, \"size\": 0, \"user\": \"u\"}",
            "2-11", "k", "u", "PUT", "7", "0", "nonsense", "1"),
       "a checksum which is none");

    json = announce_parse("5-0", fields, 12);
    ok(json != NULL && json_is_null(json_object_get(json, "size")),
       "any order, and what is not known");
    json_decref(json);

    ok(announce_parse("5-0", fields, 11) == NULL, "an odd number of fields");
}


static void
test_bad(void)
{
    char  key[502];

    memset(key, 'k', 501);
    key[501] = '\0';

    ok(same(NULL, "x", "k", "u", "PUT", "7", "", "", "1"), "id");
    ok(same(NULL, "", "k", "u", "PUT", "7", "", "", "1"), "no id");
    ok(same(NULL, "5-0", "", "u", "PUT", "7", "", "", "1"), "no key");
    ok(same(NULL, "5-0", "a/../b", "u", "PUT", "7", "", "", "1"), "..");
    ok(same(NULL, "5-0", key, "u", "PUT", "7", "", "", "1"), "too long a key");
    ok(same(NULL, "5-0", "k", "", "PUT", "7", "", "", "1"), "no user");
    ok(same(NULL, "5-0", "k", "u", "GET", "7", "", "", "1"), "GET");
    ok(same(NULL, "5-0", "k", "u", "PUT", "", "", "", "1"), "no object");
    ok(same(NULL, "5-0", "k", "u", "PUT", "9007199254740992", "", "", "1"),
       "too large an object");
    ok(same(NULL, "5-0", "k", "u", "PUT", "7", "-1", "", "1"), "size");
    ok(same(NULL, "5-0", "k", "u", "PUT", "7", "", "", ""), "no end");
    ok(same(NULL, "5-0", "k", "u", "PUT", "7", "", "", "253402300800"),
       "an end after the year 9999");
}


static int
same(const char *expected, const char *id, const char *key, const char *user,
    const char *method, const char *object, const char *size,
    const char *checksum, const char *expires)
{
    int          rc;
    char        *text;
    json_t      *json;
    const char  *fields[] = {
        "key", key, "user", user, "method", method, "object", object,
        "size", size, "checksum", checksum, "expires", expires
    };

    json = announce_parse(id, fields, 14);

    if (json == NULL) {
        return expected == NULL;
    }

    text = json_dumps(json, JSON_SORT_KEYS);
    rc = (expected != NULL && text != NULL && strcmp(text, expected) == 0);

    if (!rc) {
        printf("# %s\n", (text == NULL) ? "no memory" : text);
    }

    free(text);
    json_decref(json);

    return rc;
}
