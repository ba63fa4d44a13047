
#include <stdlib.h>
#include <string.h>


/* the reader is built with a memcmp() that counts */

static int counted_memcmp(const void *a, const void *b, size_t n);

#define memcmp  counted_memcmp

#include "../../ngx_runcoach_module/lib/runcoach_json.c"

#undef memcmp

#include "tap.h"


#define DEPTH    16
#define NODES    64
#define SIZE     1024

#define MEMBERS  10000

#define row(text)  { text, sizeof(text) - 1 }


typedef struct {
    const char  *text;
    size_t       len;
} row_t;


static runcoach_json_rc_e parse(runcoach_json_t *json, const char *text,
    size_t n);
static const runcoach_json_node_t *member(const runcoach_json_t *json,
    const runcoach_json_node_t *object, const char *name);
static int is_value(const runcoach_json_node_t *node, const char *value);

static void test_accepted(void);
static void test_refused(void);
static void test_names(void);
static void test_strings(void);
static void test_numbers(void);
static void test_tree(void);
static void test_borrowed(void);
static void test_compact(void);
static void test_depth(void);
static void test_room(void);
static void test_members(void);
static void test_lenient(void);
static size_t write_members(char *text, size_t n, int twice);


static runcoach_json_node_t  nodes[NODES];
static u_char                buf[SIZE];
static size_t                compared;


static int
counted_memcmp(const void *a, const void *b, size_t n)
{
    compared++;

    return memcmp(a, b, n);
}


/* what is behind the text must not matter, so there is nothing */

static runcoach_json_rc_e
parse(runcoach_json_t *json, const char *text, size_t n)
{
    u_char              *copy;
    runcoach_json_rc_e   rc;

    copy = malloc(n + (n == 0));

    if (copy == NULL) {
        abort();
    }

    memcpy(copy, text, n);

    json->nodes = nodes;
    json->max = NODES;
    json->buf = buf;
    json->size = SIZE;

    rc = runcoach_json_parse(json, copy, n, DEPTH);
    free(copy);

    /* and once more with a text that stays */

    if (runcoach_json_parse(json, (u_char *) text, n, DEPTH) != rc) {
        ok(0, "the same twice: %.*s", (int) n, text);
    }

    return rc;
}


static const runcoach_json_node_t *
member(const runcoach_json_t *json, const runcoach_json_node_t *object,
    const char *name)
{
    return runcoach_json_member(json, object, (u_char *) name, strlen(name));
}


static int
is_value(const runcoach_json_node_t *node, const char *value)
{
    return node != NULL
           && node->value.len == strlen(value)
           && memcmp(node->value.data, value, node->value.len) == 0;
}


static void
test_accepted(void)
{
    size_t           i;
    runcoach_json_t  json;

    static const row_t  rows[] = {
        row("{}"),
        row(" \t\r\n{ \t\r\n} \t\r\n"),
        row("{\"\":0}"),
        row("{\"a\" : [ ] , \"b\" : { } }"),
        row("{\"a\":[1,[2,[3]],{\"b\":{}}]}"),
        row("{\"a\":true,\"b\":false,\"c\":null}"),
        row("{\"a\":[0,-0,1,-1,10,0.0,-0.5,1e1,1E+1,1e-1,1.5e3,0e5]}"),
        row("{\"a\":9223372036854775807,\"b\":-9223372036854775808}"),
        row("{\"a\":1e308,\"b\":-1.7976931348623157e308,\"c\":1e-400}"),
        row("{\"a\":0e99999999999999999999}"),
        row("{\"a\":1e-99999999999999999999}"),
        row("{\"a\":17976931348623157000000000e283}"),
        row("{\"a\":0.00000000000000000000000001e330}"),
        row("{\"a\":1.7976931348623158e308}"),
        row("{\"a\":\"\\u0001\\uD83D\\uDE00\\ufffe\\\"\\\\\\/\"}"),
        row("{\"a\":\"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
            "\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"}"),
        row("{\"a\":1,\"A\":2,\"aa\":3,\"\\u0061b\":4}"),
        row("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}")
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(parse(&json, rows[i].text, rows[i].len) == RUNCOACH_JSON_OK
           && json.n != 0 && json.nodes[0].next == json.n,
           "accepted %zu, %zu bytes", i, rows[i].len);
    }
}


static void
test_refused(void)
{
    size_t           i;
    runcoach_json_t  json;

    static const row_t  rows[] = {

        /* no object, or not only one */

        row(""), row(" "), row("0"), row("\"a\""), row("null"), row("[]"),
        row("[{}]"), row("{"), row("}"), row("{}{}"), row("{},"), row("{} x"),
        row("{}\0"), row("\0{}"), row("\xef\xbb\xbf{}"), row("{\xef\xbb\xbf}"),
        row("\v{}"), row("\f{}"), row("{\xc2\xa0}"), row("//\n{}"),
        row("{}/**/"),

        /* structure */

        row("{,}"), row("{\"a\"}"), row("{\"a\":}"), row("{\"a\":1,}"),
        row("{\"a\":1 \"b\":2}"), row("{\"a\":1,,\"b\":2}"), row("{a:1}"),
        row("{'a':1}"), row("{1:1}"), row("{\"a\":1]"), row("{\"a\":[1}"),
        row("{\"a\":[1,]}"), row("{\"a\":[,1]}"), row("{\"a\":[1 2]}"),
        row("{\"a\":[1"), row("{\"a\":{"), row("{\"a\":1"), row("{\"a\""),
        row("{\"a\":"), row("{\"a\":[\"b\":1]}"), row("{\"a\",1}"),
        row("{\"a\"::1}"), row("{:1}"), row("{null:1}"), row("{\"a\":1;}"),

        /* literals */

        row("{\"a\":tru}"), row("{\"a\":truex}"), row("{\"a\":True}"),
        row("{\"a\":nul"), row("{\"a\":nulll}"), row("{\"a\":falsee}"),
        row("{\"a\":undefined}"), row("{\"a\":true\0}"),

        /* numbers */

        row("{\"a\":01}"), row("{\"a\":-}"), row("{\"a\":+1}"),
        row("{\"a\":-01}"), row("{\"a\":.5}"), row("{\"a\":1.}"),
        row("{\"a\":1.e5}"), row("{\"a\":1e}"), row("{\"a\":1e+}"),
        row("{\"a\":1e5.5}"), row("{\"a\":0x10}"), row("{\"a\":1_0}"),
        row("{\"a\":NaN}"), row("{\"a\":Infinity}"), row("{\"a\":-Infinity}"),
        row("{\"a\":--1}"), row("{\"a\":1.5"), row("{\"a\":1e5"),
        row("{\"a\":1e308"), row("{\"a\":1\0}"),
        row("{\"a\":9223372036854775808}"), row("{\"a\":-9223372036854775809}"),
        row("{\"a\":18446744073709551617}"),
        row("{\"a\":10000000000000000000}"),
        row("{\"a\":1e400}"), row("{\"a\":-1e400}"), row("{\"a\":1e309}"),
        row("{\"a\":1.7976931348623159e308}"),
        row("{\"a\":0.00000000000000000000000001e336}"),
        row("{\"a\":1e99999999999999999999}"),
        row("{\"a\":1e18446744073709551617}"),

        /* strings */

        row("{\"a\":\"}"), row("{\"a\":\"b"), row("{\"a\":\"\\\"}"),
        row("{\"a\":\"\\"), row("{\"a\":\"\\x41\"}"), row("{\"a\":\"\\a\"}"),
        row("{\"a\":\"\\u\"}"), row("{\"a\":\"\\u12\"}"),
        row("{\"a\":\"\\u12g4\"}"), row("{\"a\":\"\\u 123\"}"),
        row("{\"a\":\"\\U0041\"}"), row("{\"a\":\"\\u00"),
        row("{\"a\":\"\\u0000\"}"), row("{\"\\u0000\":1}"),
        row("{\"a\\u0000b\":1}"), row("{\"a\":\"\0\"}"), row("{\"\0\":1}"),
        row("{\"a\":\"\n\"}"), row("{\"a\":\"\t\"}"), row("{\"a\":\"\x1f\"}"),
        row("{\"a\":\"12345678\x01\"}"), row("{\"a\":\"1234567\n1234567\"}"),

        /* surrogates */

        row("{\"a\":\"\\ud800\"}"), row("{\"a\":\"\\udbff\"}"),
        row("{\"a\":\"\\udc00\"}"), row("{\"a\":\"\\udfff\"}"),
        row("{\"a\":\"\\ud83dx\"}"), row("{\"a\":\"\\ud83d\\n\"}"),
        row("{\"a\":\"\\ud83d\\u0041\"}"), row("{\"a\":\"\\ud83d\\ud83d\"}"),
        row("{\"a\":\"\\ude00\\ud83d\"}"), row("{\"a\":\"\\ud83d\\u"),
        row("{\"\\ud800\":1}"),

        /* UTF-8 */

        row("{\"a\":\"\x80\"}"), row("{\"a\":\"\xbf\"}"),
        row("{\"a\":\"\xc0\x80\"}"), row("{\"a\":\"\xc0\xaf\"}"),
        row("{\"a\":\"\xc1\xbf\"}"), row("{\"a\":\"\xc3\"}"),
        row("{\"a\":\"\xc3"), row("{\"a\":\"\xc3\x28\"}"),
        row("{\"a\":\"\xe0\x80\xaf\"}"), row("{\"a\":\"\xe0\x9f\xbf\"}"),
        row("{\"a\":\"\xed\xa0\x80\"}"), row("{\"a\":\"\xed\xbf\xbf\"}"),
        row("{\"a\":\"\xe2\x82\"}"), row("{\"a\":\"\xe2\x82"),
        row("{\"a\":\"\xe2\x28\xa1\"}"), row("{\"a\":\"\xf0\x80\x80\xaf\"}"),
        row("{\"a\":\"\xf0\x8f\xbf\xbf\"}"),
        row("{\"a\":\"\xf4\x90\x80\x80\"}"),
        row("{\"a\":\"\xf5\x80\x80\x80\"}"), row("{\"a\":\"\xf0\x9f\x98\"}"),
        row("{\"a\":\"\xf0\x9f\x98\x28\"}"), row("{\"a\":\"\xfe\"}"),
        row("{\"a\":\"\xff\"}"), row("{\"\xff\":1}"), row("{\"a\":\xff}"),
        row("{\"a\":\"12345678\xff\"}")
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(parse(&json, rows[i].text, rows[i].len) == RUNCOACH_JSON_INVALID
           && json.n == 0,
           "refused %zu, %zu bytes", i, rows[i].len);
    }
}


/* a name that comes twice, at any level and however it is written */

static void
test_names(void)
{
    size_t           i;
    runcoach_json_t  json;

    static const row_t  rows[] = {
        row("{\"a\":1,\"a\":1}"),
        row("{\"a\":1,\"b\":2,\"a\":3}"),
        row("{\"\":1,\"\":2}"),
        row("{\"a\":1,\"\\u0061\":2}"),
        row("{\"\\u0061\":1,\"a\":2}"),
        row("{\"\\u0061\":1,\"\\u0061\":2}"),
        row("{\"/\":1,\"\\/\":2}"),
        row("{\"\xc3\xa9\":1,\"\\u00e9\":2}"),
        row("{\"\\u00E9\":1,\"\\u00e9\":2}"),
        row("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}"),
        row("{\"a\":[{\"b\":1,\"b\":2}]}"),
        row("{\"a\":{\"b\":{\"c\":1,\"c\":2}}}"),
        row("{\"a\":{\"a\":1},\"b\":[[]],\"a\":{}}"),
        row("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,"
            "\"i\":9,\"j\":10,\"k\":11,\"l\":12,\"m\":13,\"n\":14,\"o\":15,"
            "\"a\":16}"),
        row("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,"
            "\"i\":9,\"j\":10,\"k\":11,\"l\":12,\"m\":13,\"n\":14,\"o\":15,"
            "\"p\":16,\"a\":17}")
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(parse(&json, rows[i].text, rows[i].len) == RUNCOACH_JSON_INVALID,
           "twice %zu: %s", i, rows[i].text);
    }
}


static void
test_strings(void)
{
    size_t           i;
    runcoach_json_t  json;

    static const struct {
        const char  *text;
        const char  *value;
    } rows[] = {
        { "{\"a\":\"\"}", "" },
        { "{\"a\":\"b\"}", "b" },
        { "{\"a\":\"1234567\"}", "1234567" },
        { "{\"a\":\"12345678\"}", "12345678" },
        { "{\"a\":\"123456789012345678901234567890\"}",
          "123456789012345678901234567890" },
        { "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "\"\\/\b\f\n\r\t" },
        { "{\"a\":\"x\\ny\"}", "x\ny" },
        { "{\"a\":\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"}",
          "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" },
        { "{\"a\":\"\\uDBFF\\uDFFF\\ud800\\udc00\"}",
          "\xf4\x8f\xbf\xbf\xf0\x90\x80\x80" },
        { "{\"a\":\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"}",
          "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf" },
        { "{\"a\":\"1234567\xc3\xa9\\n12345678\"}",
          "1234567\xc3\xa9\n12345678" },
        { "{\"\\u0061\":\"escaped name\"}", "escaped name" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(parse(&json, rows[i].text, strlen(rows[i].text)) == RUNCOACH_JSON_OK
           && is_value(member(&json, json.nodes, "a"), rows[i].value),
           "string %zu", i);
    }
}


static void
test_numbers(void)
{
    size_t                       i, len;
    char                         text[SIZE];
    runcoach_json_t              json;
    const runcoach_json_node_t  *node;

    static const struct {
        const char            *text;
        runcoach_json_type_e   type;
        int64_t                integer;
        double                 number;
    } rows[] = {
        { "0", RUNCOACH_JSON_INTEGER, 0, 0 },
        { "-0", RUNCOACH_JSON_INTEGER, 0, 0 },
        { "1735689600", RUNCOACH_JSON_INTEGER, 1735689600, 1735689600 },
        { "-17", RUNCOACH_JSON_INTEGER, -17, -17 },
        { "999999999999999999", RUNCOACH_JSON_INTEGER, 999999999999999999,
          1e18 },
        { "9223372036854775807", RUNCOACH_JSON_INTEGER, INT64_MAX,
          9223372036854775808.0 },
        { "-9223372036854775808", RUNCOACH_JSON_INTEGER, INT64_MIN,
          -9223372036854775808.0 },
        { "1735689600.5", RUNCOACH_JSON_REAL, 0, 1735689600.5 },
        { "1e3", RUNCOACH_JSON_REAL, 0, 1000 },
        { "-1.25E-2", RUNCOACH_JSON_REAL, 0, -0.0125 },
        { "1e-400", RUNCOACH_JSON_REAL, 0, 0 },
        { "1.7976931348623157e308", RUNCOACH_JSON_REAL, 0, DBL_MAX },
        { "true", RUNCOACH_JSON_TRUE, 0, 0 },
        { "\"17\"", RUNCOACH_JSON_STRING, 0, 0 },
        { "[17]", RUNCOACH_JSON_ARRAY, 0, 0 }
    };

    /* 2^1024 - 2^970 */

    static const char  limit[] =
        "179769313486231580793728971405303415079934132710037826936"
        "173778980444968292764750946649017977587207096330286416692"
        "887910946555547851940402630657488671505820681908902000708"
        "383676273854845817711531764475730270069855571366959622842"
        "914819860834936475292719074168444365510704342711559699508"
        "093042880177904174497792";

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(text, SIZE, "{\"a\":%s,\"b\":2}", rows[i].text);

        node = (parse(&json, text, strlen(text)) == RUNCOACH_JSON_OK)
                   ? member(&json, json.nodes, "a") : NULL;

        ok(node != NULL && node->type == rows[i].type
           && runcoach_json_integer(node) == rows[i].integer
           && runcoach_json_number(node) == rows[i].number,
           "number: %s", rows[i].text);
    }

    /* of 400 digits one is too large, and another is not */

    memset(text, '9', sizeof(text));
    memcpy(text, "{\"a\":", 5);
    text[405] = '}';
    ok(parse(&json, text, 406) == RUNCOACH_JSON_INVALID,
       "integer of 400 digits");

    text[404] = '.';
    text[405] = '0';
    text[406] = '}';
    ok(parse(&json, text, 407) == RUNCOACH_JSON_INVALID,
       "real of 399 digits before the point");

    text[404] = '9';
    text[6] = '.';
    text[405] = '}';
    ok(parse(&json, text, 406) == RUNCOACH_JSON_OK
       && runcoach_json_number(member(&json, json.nodes, "a")) == 10,
       "real of 398 digits behind the point");

    /* what rounds to infinity begins half a unit above DBL_MAX */

    len = sprintf(text, "{\"a\":%s.0}", limit);
    ok(parse(&json, text, len) == RUNCOACH_JSON_INVALID, "half a unit above");

    text[len - 4]--;
    ok(parse(&json, text, len) == RUNCOACH_JSON_OK
       && runcoach_json_number(member(&json, json.nodes, "a")) == DBL_MAX,
       "less than half a unit above");
}


static void
test_tree(void)
{
    size_t                       n;
    runcoach_json_t              json;
    const runcoach_json_node_t  *root, *o, *node;

    static const char  text[] =
        " {\"sub\":\"user_1\" , \"o\" : { \"id\":\"org_1\", \"x\":[1,[2,3],{}]"
        " }, \"fva\":[ -1 ,5],\"v\":2,\"none\":null} ";

    ok(parse(&json, text, sizeof(text) - 1) == RUNCOACH_JSON_OK, "tree");
    ok(json.n == 15, "values in it: %zu", json.n);

    root = json.nodes;
    o = member(&json, root, "o");

    ok(root->type == RUNCOACH_JSON_OBJECT
       && root->value.data == (u_char *) text + 1
       && root->value.len == sizeof(text) - 3, "root as it was written");
    ok(is_value(member(&json, root, "sub"), "user_1"), "string");
    ok(is_value(member(&json, root, "none"), "null"), "null");
    ok(is_value(o, "{ \"id\":\"org_1\", \"x\":[1,[2,3],{}] }"),
       "object as it was written");
    ok(is_value(member(&json, o, "id"), "org_1"), "member of a member");
    ok(member(&json, root, "id") == NULL, "not of the root");
    ok(member(&json, root, "su") == NULL, "half a name");
    ok(member(&json, member(&json, root, "fva"), "") == NULL,
       "member of an array");
    ok(member(&json, member(&json, root, "nothing"), "a") == NULL,
       "member of nothing");
    ok(runcoach_json_first(&json, member(&json, root, "v")) == NULL,
       "a number has no first");

    n = 0;

    for (node = runcoach_json_first(&json, root);
         node != NULL;
         node = runcoach_json_next(&json, root, node))
    {
        n++;
    }

    ok(n == 5, "members, got %zu", n);

    node = runcoach_json_first(&json, member(&json, o, "x"));
    ok(is_value(node, "1") && node->name.len == 0, "first element");
    node = runcoach_json_next(&json, member(&json, o, "x"), node);
    ok(is_value(node, "[2,3]"), "second element");
    node = runcoach_json_next(&json, member(&json, o, "x"), node);
    ok(is_value(node, "{}"), "third element");
    ok(runcoach_json_first(&json, node) == NULL, "nothing in it");
    ok(runcoach_json_next(&json, member(&json, o, "x"), node) == NULL,
       "no fourth element");
}


/* only a string with an escape is copied */

static void
test_borrowed(void)
{
    runcoach_json_t              json;
    const runcoach_json_node_t  *node;

    static const char  text[] = "{\"a\":\"\xc3\xa9t\xc3\xa9\",\"b\":\"\\n\"}";

    ok(parse(&json, text, sizeof(text) - 1) == RUNCOACH_JSON_OK, "two strings");

    node = member(&json, json.nodes, "a");
    ok(node->value.data == (u_char *) text + 6, "borrowed from the text");

    node = member(&json, json.nodes, "b");
    ok(node->value.data == buf && node->value.len == 1, "decoded");
}


static void
test_compact(void)
{
    size_t           i, n;
    u_char           dst[SIZE];
    runcoach_json_t  json;

    static const struct {
        const char  *text;
        const char  *compact;
    } rows[] = {
        { " { } ", "{}" },
        { "{\"a\":[1,2]}", "{\"a\":[1,2]}" },
        { "{ \"a b\"\t:\r\n[ 1 , \"c \\\" d\" , true ]\n}",
          "{\"a b\":[1,\"c \\\" d\",true]}" },
        { "{\"\\\\\" : \"\\\\\\\" \\n\", \"b\" : { \"c\" : null } }",
          "{\"\\\\\":\"\\\\\\\" \\n\",\"b\":{\"c\":null}}" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        n = 0;

        if (parse(&json, rows[i].text, strlen(rows[i].text))
            == RUNCOACH_JSON_OK)
        {
            n = runcoach_json_compact(dst, json.nodes);
        }

        dst[n] = '\0';
        is_str((char *) dst, rows[i].compact, "compact");
    }
}


static void
test_depth(void)
{
    size_t               n, len;
    char                 text[4 * DEPTH];
    runcoach_json_t      json;
    runcoach_json_rc_e   rc;

    for (n = DEPTH - 1; n <= DEPTH + 1; n++) {

        /* n levels: the object and arrays in it */

        len = sprintf(text, "{\"a\":");
        memset(text + len, '[', n - 1);
        len += n - 1;
        memset(text + len, ']', n - 1);
        len += n - 1;
        text[len++] = '}';

        rc = parse(&json, text, len);
        ok(rc == (n <= DEPTH ? RUNCOACH_JSON_OK : RUNCOACH_JSON_TOO_DEEP),
           "%zu levels", n);
    }

    json.nodes = nodes;
    json.max = NODES;
    json.buf = NULL;
    json.size = 0;

    ok(runcoach_json_parse(&json, (u_char *) "{}", 2, 0)
       == RUNCOACH_JSON_TOO_DEEP, "no level at all");
    ok(runcoach_json_parse(&json, (u_char *) "{\"a\":\"b\"}", 9, 1)
       == RUNCOACH_JSON_OK, "one level, and no room for escapes");
    ok(runcoach_json_parse(&json, NULL, 0, 1) == RUNCOACH_JSON_INVALID,
       "no text");
}


static void
test_room(void)
{
    size_t           i;
    runcoach_json_t  json;

    static const u_char  text[] = "{\"a\":[1,2],\"b\":\"x\\ny\",\"\\t\":3}";

    json.nodes = nodes;
    json.buf = buf;

    for (i = 0; i <= 6; i++) {
        json.max = i;
        json.size = SIZE;
        ok(runcoach_json_parse(&json, text, sizeof(text) - 1, 2)
           == (i == 6 ? RUNCOACH_JSON_OK : RUNCOACH_JSON_TOO_LARGE),
           "room for %zu values of 6", i);
    }

    for (i = 0; i <= 4; i++) {
        json.max = NODES;
        json.size = i;
        ok(runcoach_json_parse(&json, text, sizeof(text) - 1, 2)
           == (i == 4 ? RUNCOACH_JSON_OK : RUNCOACH_JSON_TOO_LARGE),
           "room for %zu bytes of 4", i);
    }

    /* the most values that a text can have */

    json.max = runcoach_json_max_nodes(11);
    ok(runcoach_json_parse(&json, (u_char *) "{\"\":[0,0,0]}", 12, 2)
       == RUNCOACH_JSON_OK, "values of one byte");
}


/* names of the same length: each comparison of two is a call of memcmp() */

static void
test_members(void)
{
    int                          found;
    char                        *text;
    size_t                       i, len;
    runcoach_json_t              json;
    const runcoach_json_node_t  *node;

    text = malloc(MEMBERS * 32);
    json.max = MEMBERS * 2 + 1;
    json.nodes = malloc(json.max * sizeof(runcoach_json_node_t));

    if (text == NULL || json.nodes == NULL) {
        abort();
    }

    json.buf = NULL;
    json.size = 0;

    len = write_members(text, MEMBERS, 0);
    compared = 0;

    ok(runcoach_json_parse(&json, (u_char *) text, len, 2)
       == RUNCOACH_JSON_OK, "%d members", MEMBERS);

    /* n log2 n is 132877 */

    ok(compared < MEMBERS * 15, "%zu comparisons", compared);

    found = 1;
    i = 0;

    for (node = runcoach_json_first(&json, json.nodes);
         node != NULL;
         node = runcoach_json_next(&json, json.nodes, node))
    {
        found &= (runcoach_json_first(&json, node) == node + 1);
        found &= (runcoach_json_integer(node + 1) == (int64_t) i++);
    }

    ok(found && i == MEMBERS, "in their order, %zu of them", i);

    len = write_members(text, MEMBERS, 1);
    compared = 0;

    ok(runcoach_json_parse(&json, (u_char *) text, len, 2)
       == RUNCOACH_JSON_INVALID, "the last is one before");
    ok(compared < MEMBERS * 16, "%zu comparisons", compared);

    len = write_members(text, RUNCOACH_JSON_FEW, 0);
    ok(runcoach_json_parse(&json, (u_char *) text, len, 2)
       == RUNCOACH_JSON_OK, "as few as are compared directly");

    len = write_members(text, RUNCOACH_JSON_FEW + 1, 0);
    ok(runcoach_json_parse(&json, (u_char *) text, len, 2)
       == RUNCOACH_JSON_OK && json.nodes[0].next == json.n, "one more");

    free(json.nodes);
    free(text);
}


static size_t
write_members(char *text, size_t n, int twice)
{
    char    *p;
    size_t   i, id;

    p = text;

    for (i = 0; i < n; i++) {
        id = (twice && i == n - 1) ? n / 2 : i;

        p += sprintf(p, "%c\"%08x\":[%zu]", i == 0 ? '{' : ',',
                     (uint32_t) (id * 2654435761), i);
    }

    *p++ = '}';

    return p - text;
}


/* each is refused by the strict reader, but the last ones by both */

static void
test_lenient(void)
{
    size_t                       i;
    runcoach_json_t              json;
    const runcoach_json_node_t  *root;

    static const struct {
        row_t        row;
        const char  *value;
        size_t       len;
    } rows[] = {
        { row("{\"a\":\"1\",\"a\":\"2\"}"), "1", 1 },
        { row("{\"a\":\"\\u0000x\"}"), "\0x", 2 },
        { row("{\"a\":\"\\ud83d\"}"), "\xef\xbf\xbd", 3 },
        { row("{\"a\":\"\\udc00x\"}"), "\xef\xbf\xbdx", 4 },
        { row("{\"a\":\"\\ud83d\\n\"}"), "\xef\xbf\xbd\n", 4 },
        { row("{\"a\":\"\\ud83d\\ud83d\\ude00\"}"),
          "\xef\xbf\xbd\xf0\x9f\x98\x80", 7 },
        { row("{\"a\":9223372036854775808}"), "9223372036854775808", 19 },
        { row("{\"a\":-1e999}"), "-1e999", 6 },
        { row("{\"a\":1.5e308,\"b\":1.8e308}"), "1.5e308", 7 }
    };

    static const row_t  refused[] = {
        row("{\"a\":\"\\u00\"}"), row("{\"a\":\"\\u00g0\"}"),
        row("{\"a\":\"\0\"}"), row("{\"a\":\"\xed\xa0\x80\"}"),
        row("{\"a\":1e}"), row("{\"a\":01}"), row("{\"a\":1}}"), row("[]")
    };

    json.nodes = nodes;
    json.max = NODES;
    json.buf = buf;
    json.size = SIZE;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(parse(&json, rows[i].row.text, rows[i].row.len)
           == RUNCOACH_JSON_INVALID, "strict: %s", rows[i].row.text);

        ok(runcoach_json_parse_lenient(&json, (u_char *) rows[i].row.text,
                                       rows[i].row.len, DEPTH)
           == RUNCOACH_JSON_OK, "lenient: %s", rows[i].row.text);

        root = member(&json, &json.nodes[0], "a");

        ok(root != NULL && root->value.len == rows[i].len
           && memcmp(root->value.data, rows[i].value, rows[i].len) == 0,
           "its value");
    }

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        ok(runcoach_json_parse_lenient(&json, (u_char *) refused[i].text,
                                       refused[i].len, DEPTH)
           == RUNCOACH_JSON_INVALID, "not even lenient: %s", refused[i].text);
    }

    (void) runcoach_json_parse_lenient(&json, (u_char *) "{\"a\":1e400}", 11,
                                       DEPTH);
    ok(runcoach_json_number(member(&json, &json.nodes[0], "a")) > 1e308,
       "a number without end");
}


int
main(void)
{
    test_accepted();
    test_refused();
    test_names();
    test_strings();
    test_numbers();
    test_tree();
    test_borrowed();
    test_compact();
    test_depth();
    test_room();
    test_members();
    test_lenient();

    return done();
}
