
#include "../../ngx_runcoach_module/lib/runcoach_sigv4.c"

#include <stdlib.h>
#include <jansson.h>
#include "tap.h"


#define NOW    1795167000                    /* 20261120T093000Z */
#define R2     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.r2.cloudflarestorage.com"
#define EU     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.eu.r2.cloudflarestorage.com"

#define SIGNED  "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="          \
                "AKIAIOSFODNN7EXAMPLE%2F20261120%2Fauto%2Fs3%2Faws4_request"   \
                "&X-Amz-Date=20261120T093000Z&X-Amz-Expires="


#define NONE  { { 0, NULL }, { 0, NULL } }


typedef struct {
    const char             *name;
    const char             *method;
    const char             *host;
    const char             *key;
    unsigned                expires;
    const char             *token;
    runcoach_sigv4_pair_t   headers[7];
    runcoach_sigv4_pair_t   query[3];
    const char             *url;
} vector_t;


/* a request as it arrives */

typedef struct {
    const runcoach_sigv4_pair_t  *headers;
    size_t                        nheaders;
} arrived_t;


static runcoach_str_t str(const char *s);
static size_t count(const runcoach_sigv4_pair_t *pairs, size_t max);
static runcoach_sigv4_request_t request_of(const vector_t *v);
static runcoach_sigv4_rc_e presign(const runcoach_sigv4_request_t *request);
static int find_header(void *data, const runcoach_str_t *name,
    runcoach_str_t *value);
static runcoach_sigv4_rc_e verify_at(const char *target, time_t now);
static runcoach_sigv4_rc_e verify(const char *target);
static char *changed(const char *text, const char *what, const char *with);
static void test_encode(void);
static void test_key(void);
static void test_vectors(void);
static void test_shared_vectors(void);
static void test_aws(void);
static void test_order(void);
static void test_values(void);
static void test_bounds(void);
static void test_refused(void);
static void test_day_key(void);
static void test_dates(void);
static void test_max(void);
static void test_virtual_host(void);
static void test_verify(void);
static void test_verify_time(void);
static void test_verify_scope(void);
static void test_verify_args(void);
static void test_verify_path(void);
static void test_verify_headers(void);
static void test_every_byte(void);
static void test_reasons(void);


static const vector_t  vectors[] = {

    { "GET", "GET", R2, "users/7/activities/100.fit", 300, NULL,
      { NONE }, { NONE },
      "/fit-files/users/7/activities/100.fit" SIGNED "300"
      "&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "f73f02ec122655a77d2e858ef6ce5faa4f825994af3f2f769c9362149abd0c0b" },

    { "HEAD", "HEAD", R2, "users/7/activities/100.fit", 60, NULL,
      { NONE }, { NONE },
      "/fit-files/users/7/activities/100.fit" SIGNED "60"
      "&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "713f6e0bbf0237f14604fc22f513ca61de44e8c8e59976bb267d1907597976af" },

    { "DELETE", "DELETE", R2, "users/7/activities/100.fit", 60, NULL,
      { NONE }, { NONE },
      "/fit-files/users/7/activities/100.fit" SIGNED "60"
      "&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "d0da9fc2bfd11880e012e51be1eddfb2a38769bfffff45ae322372c765667416" },

    { "PUT", "PUT", R2, "users/7/activities/100.fit", 3600, NULL,
      { NONE }, { NONE },
      "/fit-files/users/7/activities/100.fit" SIGNED "3600"
      "&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "09e8a0654dc1c24780908770313f782c038d2553de493756333311781453df50" },

    { "PUT of a type", "PUT", R2, "users/7/2026/activities/100.fit.gz", 3600,
      NULL,
      { { runcoach_string("content-type"),
          runcoach_string("application/gzip") } },
      { NONE },
      "/fit-files/users/7/2026/activities/100.fit.gz" SIGNED "3600"
      "&X-Amz-SignedHeaders=content-type%3Bhost&X-Amz-Signature="
      "98b1b9883a0603fdc4be87e308fa0592c4557140e1b8ca92a695fca1a78d4eca" },

    { "PUT with all bound", "PUT", R2, "users/7/activities/100/n0.fit", 900,
      NULL,
      { { runcoach_string("content-type"),
          runcoach_string("application/octet-stream") },
        { runcoach_string("content-length"), runcoach_string("94096") },
        { runcoach_string("x-amz-checksum-sha256"),
          runcoach_string("LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564=") },
        { runcoach_string("if-none-match"), runcoach_string("*") },
        { runcoach_string("x-amz-meta-uid"), runcoach_string("7") },
        { runcoach_string("x-amz-meta-aid"), runcoach_string("100") } },
      { NONE },
      "/fit-files/users/7/activities/100/n0.fit" SIGNED "900"
      "&X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost"
      "%3Bif-none-match%3Bx-amz-checksum-sha256%3Bx-amz-meta-aid"
      "%3Bx-amz-meta-uid&X-Amz-Signature="
      "4e9f4702945e97eb97b80eac57562f5fc29520d8e2ea510a528b75c6890342ac" },

    { "GET of a name", "GET", R2,
      "users/7/a b+c~\xc3\xa9/\xeb\x9f\xac\xeb\x8b\x9d.fit", 300, NULL,
      { NONE },
      { { runcoach_string("response-content-type"),
          runcoach_string("application/octet-stream") },
        { runcoach_string("response-content-disposition"),
          runcoach_string("attachment; filename=\"run 1.fit\"") } },
      "/fit-files/users/7/a%20b%2Bc~%C3%A9/%EB%9F%AC%EB%8B%9D.fit" SIGNED "300"
      "&X-Amz-SignedHeaders=host&response-content-disposition="
      "attachment%3B%20filename%3D%22run%201.fit%22&response-content-type="
      "application%2Foctet-stream&X-Amz-Signature="
      "9dee12536eaed6e4a339c7b9fbe14f81a20c8418550a6d27fcfa47beca19ed91" },

    { "GET with a session token", "GET", R2, "k", 604800, "jwt/tok+en/==",
      { NONE }, { NONE },
      "/fit-files/k" SIGNED "604800"
      "&X-Amz-Security-Token=jwt%2Ftok%2Ben%2F%3D%3D"
      "&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "2c324aaf9beb4f49a4de04775f3616102fc0a1cc38429b49b7382d07444aeb07" },

    { "GET in a jurisdiction", "GET", EU, "k", 1, NULL,
      { NONE }, { NONE },
      "/fit-files/k" SIGNED "1"
      "&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "59c2a6e267e67f679f4a87e2661d60b116466fc6ab4ca6c5be7fb12099b551ef" },

    { "PUT of a part", "PUT", R2, "k", 3600, NULL,
      { NONE },
      { { runcoach_string("uploadId"), runcoach_string("u+/=~1") },
        { runcoach_string("partNumber"), runcoach_string("2") } },
      "/fit-files/k" SIGNED "3600"
      "&X-Amz-SignedHeaders=host&partNumber=2&uploadId=u%2B%2F%3D~1"
      "&X-Amz-Signature="
      "d7f6b945beceb95d6dea98f8aab7cd007e31a01ed52ada25e9e3bc7b27cef567" }
};


#define NVECTORS  (sizeof(vectors) / sizeof(vectors[0]))


static char                         url[RUNCOACH_SIGV4_MAX_URL + 1];
static runcoach_sigv4_day_key_t     day;
static runcoach_sigv4_credential_t  cred = {
    runcoach_string("AKIAIOSFODNN7EXAMPLE"),
    runcoach_string("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    runcoach_string("auto"),
    { 0, NULL }
};

/* what verify() is asked about; tests change it and put it back */

static const char                  *method;
static arrived_t                    arrived;


static runcoach_str_t
str(const char *s)
{
    runcoach_str_t  value;

    value.len = (s != NULL) ? strlen(s) : 0;
    value.data = (const u_char *) s;

    return value;
}


static size_t
count(const runcoach_sigv4_pair_t *pairs, size_t max)
{
    size_t  n;

    for (n = 0; n < max && pairs[n].name.len != 0; n++) { /* void */ }

    return n;
}


static runcoach_sigv4_request_t
request_of(const vector_t *v)
{
    runcoach_sigv4_request_t  request;

    request.method = str(v->method);
    request.scheme = str("https");
    request.host = str(v->host);
    request.base = str("/fit-files");
    request.key = str(v->key);
    request.now = NOW;
    request.expires = v->expires;
    request.bucket = 0;
    request.headers = v->headers;
    request.nheaders = count(v->headers, 7);
    request.query = v->query;
    request.nquery = count(v->query, 3);

    cred.session_token = str(v->token);

    return request;
}


static runcoach_sigv4_rc_e
presign(const runcoach_sigv4_request_t *request)
{
    size_t               n;
    runcoach_sigv4_rc_e  rc;

    rc = runcoach_sigv4_presign((u_char *) url, sizeof(url) - 1, &n, &cred,
                                &day, request);
    url[n] = '\0';

    return rc;
}


static int
find_header(void *data, const runcoach_str_t *name, runcoach_str_t *value)
{
    size_t      i;
    arrived_t  *a;

    a = data;

    if (name->len == 4 && memcmp(name->data, "host", 4) == 0) {
        *value = str(R2);
        return 1;
    }

    for (i = 0; i < a->nheaders; i++) {
        if (a->headers[i].name.len == name->len
            && memcmp(a->headers[i].name.data, name->data, name->len) == 0)
        {
            *value = a->headers[i].value;
            return 1;
        }
    }

    return 0;
}


/* target is as in the request line; the copies are exact for the sanitizer */

static runcoach_sigv4_rc_e
verify_at(const char *target, time_t now)
{
    u_char                   *path, *args;
    const char               *mark;
    runcoach_sigv4_rc_e       rc;
    runcoach_sigv4_signed_t   request;

    mark = strchr(target, '?');

    request.method = str(method);
    request.path.len = mark ? (size_t) (mark - target) : strlen(target);
    request.args.len = mark ? strlen(mark + 1) : 0;

    path = malloc(request.path.len + 1);
    args = malloc(request.args.len + 1);

    memcpy(path + 1, target, request.path.len);

    if (mark != NULL) {
        memcpy(args + 1, mark + 1, request.args.len);
    }

    request.path.data = path + 1;
    request.args.data = args + 1;
    request.base = str("/fit-files");
    request.now = now;
    request.header = find_header;
    request.data = &arrived;

    rc = runcoach_sigv4_verify(&cred, &day, &request);

    free(path);
    free(args);

    return rc;
}


static runcoach_sigv4_rc_e
verify(const char *target)
{
    return verify_at(target, NOW);
}


/* the first what in text, which must be there, is replaced */

static char *
changed(const char *text, const char *what, const char *with)
{
    char  *p;

    static char  out[65536];

    p = strstr(text, what);

    if (p == NULL) {
        abort();
    }

    snprintf(out, sizeof(out), "%.*s%s%s", (int) (p - text), text, with,
             p + strlen(what));

    return out;
}


static void
test_encode(void)
{
    int     c, kept;
    size_t  n;
    u_char  in, out[64];

    n = runcoach_sigv4_encode(out, (u_char *) "a b/c+\xc3\xa9~*%", 11, 0);
    out[n] = '\0';
    is_str((char *) out, "a%20b%2Fc%2B%C3%A9~%2A%25", "encoded");

    n = runcoach_sigv4_encode(out, (u_char *) "a b/c", 5, 1);
    out[n] = '\0';
    is_str((char *) out, "a%20b/c", "encoded but for slashes");

    kept = 0;

    for (c = 0; c < 256; c++) {
        in = (u_char) c;
        n = runcoach_sigv4_encode(out, &in, 1, 0);
        kept += (n == 1 && out[0] == in);
    }

    ok(kept == 66, "66 characters are not reserved, got %d", kept);
    ok(runcoach_sigv4_encode(out, NULL, 0, 0) == 0, "nothing");
}


static void
test_key(void)
{
    char    text[RUNCOACH_SIGV4_MAX_KEY + 2];
    size_t  i;

    static const char *const  good[] = {
        "k", "a/b", "users/7/activities/100.fit", "...", ".a", "a.", "..a",
        "a/.../b", "a b", "%2e%2e", "a\\b", "\xc3\xa9", "\xc2\xa0",
        "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"
    };

    static const char *const  bad[] = {
        "", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/.", "a/..",
        "a/./b", "a/../b", "users/7/../8/x.fit", "a\nb", "a\rb", "a\tb",
        "a\x1f", "a\x7f", "\x80", "\xbf", "\xc0\xaf", "\xc1\xbf", "\xc2",
        "\xc2/", "\xc2\x80", "\xc2\x9f", "\xe0\x80\xaf", "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xe2\x82", "\xf0\x80\x80\xaf",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
        "\xfe", "a\xc3\x28"
    };

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ok(runcoach_sigv4_check_key((u_char *) good[i], strlen(good[i]))
           == RUNCOACH_SIGV4_OK,
           "a key: row %zu", i);
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        size_t   n;
        u_char  *p;

        n = strlen(bad[i]);
        p = malloc(n + 1);
        memcpy(p + 1, bad[i], n);

        ok(runcoach_sigv4_check_key(p + 1, n) == RUNCOACH_SIGV4_BAD_KEY,
           "no key: row %zu", i);

        free(p);
    }

    ok(runcoach_sigv4_check_key((u_char *) "a\0b", 3)
       == RUNCOACH_SIGV4_BAD_KEY,
       "a NUL");

    memset(text, 'k', sizeof(text));
    ok(runcoach_sigv4_check_key((u_char *) text, 1024) == RUNCOACH_SIGV4_OK,
       "1024 bytes");
    ok(runcoach_sigv4_check_key((u_char *) text, 1025)
       == RUNCOACH_SIGV4_BAD_KEY,
       "1025 bytes");
}


static void
test_vectors(void)
{
    char                      expected[2048];
    size_t                    i;
    const vector_t           *v;
    runcoach_sigv4_request_t  request;

    for (i = 0; i < NVECTORS; i++) {
        v = &vectors[i];
        request = request_of(v);

        snprintf(expected, sizeof(expected), "https://%s%s", v->host, v->url);

        ok(presign(&request) == RUNCOACH_SIGV4_OK, "%s", v->name);
        is_str(url, expected, v->name);
    }
}


static void
test_shared_vectors(void)
{
    char                      path[1024], base[256];
    json_t                   *root, *v, *value;
    size_t                    i;
    const char               *dir, *name, *token;
    runcoach_sigv4_pair_t     headers[16], query[16];
    runcoach_sigv4_request_t  request;

    dir = getenv("RUNCOACH_SHARED");

    if (dir == NULL) {
        skip("RUNCOACH_SHARED is not set");
        return;
    }

    snprintf(path, sizeof(path), "%s/vectors/r2_presign.json", dir);

    root = json_load_file(path, 0, NULL);

    if (root == NULL) {
        skip("no vectors in RUNCOACH_SHARED");
        return;
    }

    memset(&day, 0, sizeof(day));

    cred.access_key = str(json_string_value(json_object_get(root,
                                                            "access_key")));
    cred.secret_key = str(json_string_value(json_object_get(root,
                                                            "secret_key")));

#define get(name)  json_string_value(json_object_get(v, name))

    json_array_foreach(json_object_get(root, "cases"), i, v) {

        snprintf(base, sizeof(base), "/%s", get("bucket"));

        token = get("token");
        cred.session_token = str(token);
        cred.region = str(get("region"));

        request.method = str(get("method"));
        request.scheme = str("https");
        request.host = str(get("host"));
        request.base = str(base);
        request.key = str(get("key"));
        request.expires = json_integer_value(json_object_get(v, "expires"));
        request.headers = headers;
        request.nheaders = 0;
        request.query = query;
        request.nquery = 0;

        if (!runcoach_sigv4_parse_date(&request.now, get("date"))) {
            abort();
        }

        json_object_foreach(json_object_get(v, "headers"), name, value) {
            headers[request.nheaders].name = str(name);
            headers[request.nheaders++].value = str(json_string_value(value));
        }

        json_object_foreach(json_object_get(v, "query"), name, value) {
            query[request.nquery].name = str(name);
            query[request.nquery++].value = str(json_string_value(value));
        }

        presign(&request);
        is_str(url, get("url"), get("name"));
    }

#undef get

    cred.access_key = str("AKIAIOSFODNN7EXAMPLE");
    cred.secret_key = str("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    cred.region = str("auto");
    cred.session_token = str(NULL);

    memset(&day, 0, sizeof(day));
    json_decref(root);
}


/*
 * The example of Amazon's own page: virtual host, no base.
 */

static void
test_aws(void)
{
    runcoach_sigv4_request_t  request;

    request = request_of(&vectors[0]);
    request.host = str("examplebucket.s3.amazonaws.com");
    request.base = str("");
    request.key = str("test.txt");
    request.now = 1369353600;
    request.expires = 86400;

    memset(&day, 0, sizeof(day));
    cred.region = str("us-east-1");

    ok(presign(&request) == RUNCOACH_SIGV4_OK, "the example of AWS");
    is_str(url, "https://examplebucket.s3.amazonaws.com/test.txt"
                "?X-Amz-Algorithm=AWS4-HMAC-SHA256"
                "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524"
                "%2Fus-east-1%2Fs3%2Faws4_request"
                "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
                "&X-Amz-SignedHeaders=host&X-Amz-Signature="
                "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604"
                "d404",
           "its URL");

    cred.region = str("auto");
    memset(&day, 0, sizeof(day));
}


static void
test_order(void)
{
    char                      first[sizeof(url)];
    runcoach_sigv4_pair_t     pairs[4], swapped;
    runcoach_sigv4_request_t  request;

    request = request_of(&vectors[0]);
    request.headers = pairs;
    request.nheaders = 4;

    pairs[0].name = str("x-amz-meta-b");
    pairs[1].name = str("x-amz-meta-a");
    pairs[2].name = str("x-amz-meta");
    pairs[3].name = str("a");
    pairs[0].value = pairs[1].value = pairs[2].value = pairs[3].value
                   = str("v");

    presign(&request);
    strcpy(first, url);

    ok(strstr(url, "SignedHeaders=a%3Bhost%3Bx-amz-meta%3Bx-amz-meta-a"
                   "%3Bx-amz-meta-b&") != NULL,
       "headers are sorted by name");

    swapped = pairs[0];
    pairs[0] = pairs[3];
    pairs[3] = swapped;

    presign(&request);
    is_str(url, first, "their order is free");

    /* "%" comes before letters; equal names are sorted by value */

    request.nheaders = 0;
    request.query = pairs;
    request.nquery = 4;

    pairs[0].name = str("ab");
    pairs[1].name = str("a/");
    pairs[2].name = str("a");
    pairs[3].name = str("a");
    pairs[0].value = str("");
    pairs[2].value = str("z");
    pairs[3].value = str("!");

    presign(&request);
    ok(strstr(url, "&a=%21&a=z&a%2F=v&ab=&X-Amz-Signature=") != NULL,
       "arguments are sorted as they are encoded");
}


static void
test_values(void)
{
    char                      first[sizeof(url)];
    size_t                    i;
    runcoach_sigv4_pair_t     pair;
    runcoach_sigv4_request_t  request;

    static const char *const  same[] = {
        " a b", "a b ", "   a   b   ", "a  b"
    };

    request = request_of(&vectors[0]);
    request.headers = &pair;
    request.nheaders = 1;

    pair.name = str("x-amz-meta-a");
    pair.value = str("a b");

    presign(&request);
    strcpy(first, url);

    for (i = 0; i < 4; i++) {
        pair.value = str(same[i]);
        presign(&request);
        is_str(url, first, "blanks of a value are trimmed");
    }

    pair.value = str("ab");
    presign(&request);
    ok(strcmp(url, first) != 0, "but not all of them");

    pair.value = str("   ");
    presign(&request);
    strcpy(first, url);
    pair.value = str("");
    presign(&request);
    is_str(url, first, "blanks alone are an empty value");
}


static void
test_bounds(void)
{
    char                      text[RUNCOACH_SIGV4_MAX_URL + 1];
    char                      key[RUNCOACH_SIGV4_MAX_KEY];
    size_t                    n, size, last;
    u_char                   *buf;
    runcoach_sigv4_rc_e       rc;
    runcoach_sigv4_pair_t     pairs[17];
    runcoach_sigv4_request_t  request;
    char                      names[17][3];

    request = request_of(&vectors[5]);
    presign(&request);
    last = strlen(url);

    for (size = 0; size <= last; size++) {
        buf = malloc(size + 1);
        rc = runcoach_sigv4_presign(buf + 1, size, &n, &cred, &day, &request);
        free(buf);

        if ((rc != RUNCOACH_SIGV4_TOO_LARGE || n != 0) != (size == last)) {
            break;
        }
    }

    ok(rc == RUNCOACH_SIGV4_OK && n == last && size == last + 1,
       "a buffer of exactly the URL's length, and all that are smaller");

    memset(key, '!', sizeof(key));
    request.key.data = (u_char *) key;
    request.key.len = sizeof(key);
    ok(presign(&request) == RUNCOACH_SIGV4_OK, "the longest key");

    memset(text, 'x', sizeof(text));
    pairs[0].name = str("a");
    pairs[0].value.data = (u_char *) text;
    pairs[0].value.len = sizeof(text);
    request = request_of(&vectors[0]);
    request.query = pairs;
    request.nquery = 1;
    ok(presign(&request) == RUNCOACH_SIGV4_TOO_LARGE, "a long argument");

    for (n = 0; n < 17; n++) {
        names[n][0] = 'a' + (char) n;
        names[n][1] = 'x';
        names[n][2] = '\0';
        pairs[n].name = str(names[n]);
        pairs[n].value = str("v");
    }

    request.nquery = 16;
    ok(presign(&request) == RUNCOACH_SIGV4_OK, "16 arguments");
    request.nquery = 17;
    ok(presign(&request) == RUNCOACH_SIGV4_TOO_LARGE, "17 arguments");

    request.nquery = 0;
    request.headers = pairs;
    request.nheaders = 16;
    ok(presign(&request) == RUNCOACH_SIGV4_OK, "16 headers");
    request.nheaders = 17;
    ok(presign(&request) == RUNCOACH_SIGV4_TOO_LARGE, "17 headers");

    request.nheaders = 1;
    pairs[0].name.data = (u_char *) text;
    pairs[0].name.len = 2000;
    ok(presign(&request) == RUNCOACH_SIGV4_TOO_LARGE, "a long header name");
    request.nheaders = 0;

    cred.region.data = (u_char *) text;
    cred.region.len = RUNCOACH_SIGV4_MAX_NAME;
    day.date[0] = '\0';
    ok(presign(&request) == RUNCOACH_SIGV4_OK, "the longest region");
    cred.region.len++;
    ok(presign(&request) == RUNCOACH_SIGV4_TOO_LARGE, "a longer one");
    cred.region = str("auto");
    day.date[0] = '\0';
}


static void
test_refused(void)
{
    size_t                    i;
    runcoach_sigv4_pair_t     pairs[2];
    runcoach_sigv4_request_t  request;

    static const struct {
        const char  *name;
        const char  *value;
    } headers[] = {
        { "", "v" }, { "Content-Type", "v" }, { "a b", "v" }, { "a:b", "v" },
        { "a;b", "v" }, { "a\n", "v" }, { "host", "evil" }, { "a", "v\n" },
        { "a", "v\r\nx: y" }, { "a", "\x7f" }, { "a", "a\tb" }
    }, query[] = {
        { "", "v" }, { "X-Amz-Date", "v" }, { "X-Amz-Signature", "v" },
        { "X-Amz-Expires", "9" }, { "X-Amz-Security-Token", "v" },
        { "X-Amz-SignedHeaders", "v" }, { "X-Amz-Credential", "v" },
        { "X-Amz-Algorithm", "v" }, { "a", "v\n" }, { "a\r", "v" }
    };

    static const char *const  hosts[] = {
        "", "a/b", "a b", "a?b", "a#b", "u@h", "a\n", "a\\b"
    };

    static const char *const  bases[] = {
        "/", "b", "/b/", "/b c", "/%2f", "/b\n", "/%2F"
    };

    for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        request = request_of(&vectors[0]);
        pairs[0].name = str(headers[i].name);
        pairs[0].value = str(headers[i].value);
        request.headers = pairs;
        request.nheaders = 1;

        ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST && url[0] == '\0',
           "no header: row %zu", i);
    }

    request = request_of(&vectors[0]);
    pairs[0].name = pairs[1].name = str("a");
    pairs[0].value = pairs[1].value = str("v");
    request.headers = pairs;
    request.nheaders = 2;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST, "a header twice");

    for (i = 0; i < sizeof(query) / sizeof(query[0]); i++) {
        request = request_of(&vectors[0]);
        pairs[0].name = str(query[i].name);
        pairs[0].value = str(query[i].value);
        request.query = pairs;
        request.nquery = 1;

        ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST,
           "no argument: row %zu", i);
    }

    for (i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        request = request_of(&vectors[0]);
        request.host = str(hosts[i]);
        ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST,
           "no host: row %zu", i);
    }

    request.host = str("[::1]:8080");
    ok(presign(&request) == RUNCOACH_SIGV4_OK, "an address and a port");

    for (i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        request = request_of(&vectors[0]);
        request.base = str(bases[i]);
        ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST,
           "no base: row %zu", i);
    }

    request = request_of(&vectors[0]);
    request.key = str("users/7/../8/x.fit");
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_KEY, "a key that climbs");

    request.key = str("");
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_KEY, "no key");

    request.bucket = 1;
    ok(presign(&request) == RUNCOACH_SIGV4_OK
       && strstr(url, "/fit-files?X-Amz-") != NULL,
       "a bucket by its path: %s", url);

    request.base = str("");
    ok(presign(&request) == RUNCOACH_SIGV4_OK
       && strstr(url, ".com/?X-Amz-") != NULL,
       "a bucket by its host: %s", url);

    request.key = str("k");
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_KEY, "a bucket with a key");

    request = request_of(&vectors[0]);
    request.expires = 0;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_EXPIRES, "0 s");
    request.expires = 604801;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_EXPIRES, "604801 s");
    request.expires = (unsigned) -5;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_EXPIRES, "-5 s");

    request = request_of(&vectors[0]);
    request.now = -1;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST, "before 1970");
    request.now = (time_t) 253402300800;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST, "the year 10000");
    request.now = (time_t) 1 << 62;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST, "the end of time");

    request = request_of(&vectors[0]);
    cred.secret_key.len = 0;
    ok(presign(&request) == RUNCOACH_SIGV4_BAD_REQUEST, "an empty secret");
    cred.secret_key = str("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
}


static void
test_day_key(void)
{
    char                      before[sizeof(url)];
    runcoach_sigv4_day_key_t  kept;
    runcoach_sigv4_request_t  request;

    memset(&day, 0, sizeof(day));

    request = request_of(&vectors[0]);
    presign(&request);

    is_str(day.date, "20261120", "the day of a key");

    kept = day;
    request.now += 3600;
    presign(&request);
    ok(memcmp(&kept, &day, sizeof(day)) == 0, "it stays for the day");

    request.now = NOW - NOW % 86400 + 86399;
    presign(&request);
    is_str(day.date, "20261120", "to its last second");
    strcpy(before, url);

    request.now++;
    presign(&request);
    is_str(day.date, "20261121", "and is renewed in the next");
    ok(strstr(url, "%2F20261121%2F") != NULL
       && strstr(url, "Date=20261121T000000Z") != NULL,
       "with the date and the scope");

    request.now--;
    presign(&request);
    is_str(url, before, "there and back");

    memset(&day.inner.h, 0, sizeof(day.inner.h));
    presign(&request);
    ok(strcmp(url, before) != 0, "the cached key is what signs");

    memset(&day, 0, sizeof(day));
}


/*
 * Each day from 1970 to 2400, and some hours far beyond, by libc's calendar.
 */

static void
test_dates(void)
{
    char       ours[RUNCOACH_SIGV4_DATE + 1], theirs[64];
    int        bad;
    time_t     t, back;
    struct tm  tm;

    bad = 0;

    for (t = 0; t < 13569465600; t += 86400 - 7) {
        gmtime_r(&t, &tm);
        strftime(theirs, sizeof(theirs), "%Y%m%dT%H%M%SZ", &tm);

        bad += !runcoach_sigv4_format_date(ours, t)
               || strcmp(ours, theirs) != 0
               || !runcoach_sigv4_parse_date(&back, ours)
               || back != t;
    }

    ok(bad == 0, "dates to the year 2400");

    ok(runcoach_sigv4_format_date(ours, RUNCOACH_SIGV4_MAX_TIME),
       "the last second of 9999");
    is_str(ours, "99991231T235959Z", "is written");
    ok(!runcoach_sigv4_format_date(ours, RUNCOACH_SIGV4_MAX_TIME + 1)
       && !runcoach_sigv4_format_date(ours, -1), "others are not");
}


static void
test_max(void)
{
    size_t                    i, max;
    runcoach_sigv4_request_t  request;

    for (i = 0; i < NVECTORS; i++) {
        request = request_of(&vectors[i]);
        max = runcoach_sigv4_max(&cred, &request);

        ok(presign(&request) == RUNCOACH_SIGV4_OK && strlen(url) <= max
           && max < strlen(url) + 500, "%s: at most %zu", vectors[i].name, max);
    }

    cred.session_token = str(NULL);
}


/*
 * The virtual host of a bucket is a signature over another host and path.
 */

static void
test_virtual_host(void)
{
    runcoach_sigv4_request_t  request;

    request = request_of(&vectors[0]);
    request.host = str("fit-files." R2);
    request.base = str("");

    ok(presign(&request) == RUNCOACH_SIGV4_OK, "virtual host");
    ok(strncmp(url, "https://fit-files." R2 "/users/7/activities/100.fit?",
               strlen("https://fit-files." R2 "/users/7/activities/100.fit?"))
       == 0, "in the host, not in the path");
    ok(strstr(url, strrchr(vectors[0].url, '=')) == NULL,
       "with a signature of its own");
}


static void
test_verify(void)
{
    size_t           i;
    const vector_t  *v;

    for (i = 0; i < NVECTORS; i++) {
        v = &vectors[i];

        if (strcmp(v->host, R2) != 0) {
            continue;
        }

        request_of(v);
        method = v->method;
        arrived.headers = v->headers;
        arrived.nheaders = count(v->headers, 7);

        ok(verify(v->url) == RUNCOACH_SIGV4_OK, "verified: %s", v->name);

        method = "POST";
        ok(verify(v->url) == RUNCOACH_SIGV4_MISMATCH, "not for POST");
    }

    method = "GET";
    request_of(&vectors[8]);
    ok(verify(vectors[8].url) == RUNCOACH_SIGV4_MISMATCH, "another host");

    method = "PUT";
    request_of(&vectors[4]);
    arrived.headers = vectors[5].headers;
    arrived.nheaders = 1;
    ok(verify(vectors[4].url) == RUNCOACH_SIGV4_MISMATCH,
       "another value of a header");
    arrived.nheaders = 0;
    ok(verify(vectors[4].url) == RUNCOACH_SIGV4_BAD_REQUEST,
       "a signed header is absent");

    method = "GET";
    request_of(&vectors[0]);
    cred.secret_key = str("another");
    memset(&day, 0, sizeof(day));
    ok(verify(vectors[0].url) == RUNCOACH_SIGV4_MISMATCH, "another secret");
    cred.secret_key = str("");
    ok(verify(vectors[0].url) == RUNCOACH_SIGV4_BAD_REQUEST,
       "an empty secret verifies nothing");
    cred.secret_key = str("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    memset(&day, 0, sizeof(day));
}


static void
test_verify_time(void)
{
    char         with[64];
    size_t       i;
    const char  *target;

    static const char *const  dates[] = {
        "20261120T093000", "20261120T093000ZZ", "20261120 093000Z",
        "20261320T093000Z", "20260231T093000Z", "20261120T243000Z",
        "20261120T096000Z", "20261120T093060Z", "2026-1-20T0930-0Z",
        "19691231T235959Z", "00000000T000000Z", "XXXXXXXXTXXXXXXZ", ""
    };

    static const char *const  expires[] = {
        "0", "604801", "-1", "", "3e2", "300x", "9999999",
        "18446744073709551616"
    };

    target = vectors[0].url;

    ok(verify_at(target, NOW + 300) == RUNCOACH_SIGV4_OK, "the last second");
    ok(verify_at(target, NOW + 301) == RUNCOACH_SIGV4_EXPIRED, "the next");
    ok(verify_at(target, NOW + 86400) == RUNCOACH_SIGV4_EXPIRED, "a day later");
    ok(verify_at(target, NOW - 899) == RUNCOACH_SIGV4_OK, "899 s ahead");
    ok(verify_at(target, NOW - 900) == RUNCOACH_SIGV4_NOT_YET, "900 s ahead");
    ok(verify_at(target, 0) == RUNCOACH_SIGV4_NOT_YET, "far ahead");

    for (i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
        ok(verify(changed(target, "20261120T093000Z", dates[i]))
           == RUNCOACH_SIGV4_BAD_REQUEST,
           "no date: \"%s\"", dates[i]);
    }

    for (i = 0; i < sizeof(expires) / sizeof(expires[0]); i++) {
        snprintf(with, sizeof(with), "=%s", expires[i]);

        ok(verify(changed(target, "=300", with)) == RUNCOACH_SIGV4_BAD_EXPIRES,
           "no expiry: \"%s\"", expires[i]);
    }

    ok(verify(changed(target, "=300", "=301")) == RUNCOACH_SIGV4_MISMATCH,
       "one second more");
    ok(verify(changed(target, "=300", "=0300")) == RUNCOACH_SIGV4_MISMATCH,
       "the same with a zero before");
    ok(verify(changed(target, "T093000Z", "T093001Z"))
       == RUNCOACH_SIGV4_MISMATCH,
       "another second");
}


static void
test_verify_scope(void)
{
    const char  *target;

    target = vectors[0].url;

    ok(verify(changed(target, "AKIAIOS", "AKIAIOT")) == RUNCOACH_SIGV4_DENIED,
       "another access key");
    ok(verify(changed(target, "%2Fauto", "%2Fus-east-1"))
       == RUNCOACH_SIGV4_DENIED,
       "another region");
    ok(verify(changed(target, "%2F20261120", "%2F20261119"))
       == RUNCOACH_SIGV4_DENIED,
       "the scope of another day");
    ok(verify(changed(target, "%2Fs3%2F", "%2Fec2%2F"))
       == RUNCOACH_SIGV4_DENIED,
       "another service");
    ok(verify(changed(target, "aws4_request", "aws4_reques"))
       == RUNCOACH_SIGV4_DENIED,
       "truncated");
    ok(verify(changed(target, "aws4_request", "aws4_request%00"))
       == RUNCOACH_SIGV4_DENIED,
       "with a NUL");
    ok(verify(changed(target, "SHA256", "SHA1")) == RUNCOACH_SIGV4_BAD_REQUEST,
       "another algorithm");
    ok(verify(changed(target, "&X-Amz-Sign",
                      "&X-Amz-Security-Token=t&X-Amz-Sign"))
       == RUNCOACH_SIGV4_DENIED,
       "a session token that we have not");

    cred.session_token = str("t");
    ok(verify(target) == RUNCOACH_SIGV4_DENIED, "ours is missing");
    ok(verify(changed(target, "&X-Amz-Sign",
                      "&X-Amz-Security-Token=u&X-Amz-Sign"))
       == RUNCOACH_SIGV4_DENIED,
       "another session token");
    cred.session_token = str(NULL);
}


static void
test_verify_args(void)
{
    int          i;
    char         more[512], bad[10240];
    char        *p;
    size_t       n;
    const char  *target, *tail;

    static const char *const  names[] = {
        "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
        "X-Amz-SignedHeaders", "X-Amz-Signature", NULL
    };

    target = vectors[0].url;

    for (i = 0; names[i] != NULL; i++) {
        ok(verify(changed(target, names[i], "x"))
           == RUNCOACH_SIGV4_BAD_REQUEST,
           "without %s", names[i]);

        snprintf(bad, sizeof(bad), "%s&%s=1", target, names[i]);
        ok(verify(bad) == RUNCOACH_SIGV4_BAD_REQUEST, "%s twice", names[i]);

        snprintf(bad, sizeof(bad), "?%s=1&X-Amz-Alg", names[i]);
        ok(verify(changed(target, "?X-Amz-Alg", bad))
           == RUNCOACH_SIGV4_BAD_REQUEST,
           "or first");
    }

    snprintf(bad, sizeof(bad), "%s&X-Amz-Foo=1&X-Amz-Foo=2", target);
    ok(verify(bad) == RUNCOACH_SIGV4_BAD_REQUEST, "any X-Amz-* twice");

    snprintf(bad, sizeof(bad), "%s&x-id=PutObject", target);
    ok(verify(bad) == RUNCOACH_SIGV4_MISMATCH, "an argument more");

    ok(verify("/fit-files/k") == RUNCOACH_SIGV4_BAD_REQUEST, "no arguments");
    ok(verify("/fit-files/k?") == RUNCOACH_SIGV4_BAD_REQUEST, "empty ones");
    ok(verify("/fit-files/k?a=b") == RUNCOACH_SIGV4_BAD_REQUEST, "others");

    ok(verify(changed(target, "&X-Amz-Date", "&&X-Amz-Date"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "an empty argument");
    ok(verify(changed(target, "&X-Amz-Date", "&=x&X-Amz-Date"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "one without a name");
    ok(verify(changed(target, "%2Fauto", "%2fauto"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "lower-case digits");
    ok(verify(changed(target, "%2Fauto", "/auto"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "a slash as such");
    ok(verify(changed(target, "AKIA", "%41KIA"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "encoded without need");
    ok(verify(changed(target, "=host", "=host%"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "a lone %%");
    ok(verify(changed(target, "=host", "=host%2"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "half of a code");
    ok(verify(changed(target, "=host", "=host+"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "a plus");

    /* the order in the request line does not matter */

    target = vectors[6].url;
    tail = strstr(target, "&response-content-disposition");
    p = strchr(target, '?');
    snprintf(bad, sizeof(bad), "%.*s?%s&%.*s", (int) (p - target), target,
             tail + 1, (int) (tail - p - 1), p + 1);
    ok(verify(bad) == RUNCOACH_SIGV4_OK, "any order");

    snprintf(bad, sizeof(bad), "%s&", vectors[0].url);
    ok(verify(bad) == RUNCOACH_SIGV4_BAD_REQUEST, "an idle & at the end");

    target = vectors[0].url;
    for (p = more, n = 0; n < 26; n++) {
        p += sprintf(p, "&a%zu=", n);
    }

    snprintf(bad, sizeof(bad), "%s%s", target, more);
    ok(verify(bad) == RUNCOACH_SIGV4_MISMATCH, "32 arguments");
    strcat(bad, "&b=");
    ok(verify(bad) == RUNCOACH_SIGV4_TOO_LARGE, "33 arguments");

    n = sprintf(bad, "%s&a=", target);
    memset(bad + n, 'a', 9000);
    bad[n + 9000] = '\0';
    ok(verify(bad) == RUNCOACH_SIGV4_TOO_LARGE, "9000 bytes");

    ok(verify(changed(target, "Signature=f7", "Signature=F7"))
       == RUNCOACH_SIGV4_MISMATCH,
       "an upper-case signature");
    ok(verify(changed(target, "Signature=f7", "Signature=7"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "a shorter one");
    ok(verify(changed(target, "Signature=f7", "Signature=ff7"))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "a longer one");
}


static void
test_verify_path(void)
{
    size_t       i;
    char         text[8192];
    const char  *target;

    static const struct {
        runcoach_sigv4_rc_e   rc;
        const char           *path;
    } rows[] = {
        { RUNCOACH_SIGV4_MISMATCH, "/fit-files/users/8/activities/100.fit" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-filesx/k" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/other/k" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "//fit-files/k" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files/" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files//k" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files/a/../k" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files/./k" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files/k/" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files/k%00" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files/k%0A" },
        { RUNCOACH_SIGV4_BAD_KEY, "/fit-files/%FF" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/%2E%2E/k" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/a%2Fb" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/%6B" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/%c3%a9" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/\xc3\xa9" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/a b" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/a+b" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/a%" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/a%2" },
        { RUNCOACH_SIGV4_BAD_REQUEST, "/fit-files/a#b" },
    };

    target = strchr(vectors[0].url, '?');

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(text, sizeof(text), "%s%s", rows[i].path, target);

        ok(verify(text) == rows[i].rc, "path \"%s\": %s", rows[i].path,
           runcoach_sigv4_reason(rows[i].rc));
    }

    memcpy(text, "/fit-files/", 11);
    memset(text + 11, 'k', 1025);
    strcpy(text + 11 + 1025, target);
    ok(verify(text) == RUNCOACH_SIGV4_BAD_KEY, "a key of 1025 bytes");

    memset(text + 11, 'k', 4000);
    strcpy(text + 11 + 4000, target);
    ok(verify(text) == RUNCOACH_SIGV4_BAD_KEY, "a key of 4000 bytes");
}


static void
test_verify_headers(void)
{
    char        *p;
    char         list[2048];
    size_t       i;
    const char  *target;

    runcoach_sigv4_request_t  request;

    static const runcoach_sigv4_pair_t  given[] = {
        { runcoach_string("content-type"), runcoach_string("a/b") },
        { runcoach_string("x-a"), runcoach_string(" 1   2\t") }
    };

    static const runcoach_sigv4_pair_t  bound[] = {
        { runcoach_string("x-a"), runcoach_string("1 2") },
        { runcoach_string("content-type"), runcoach_string("a/b") }
    };

    static const char *const  bad[] = {
        "", "x-a", "content-type", "host%3Bcontent-type", "host%3Bhost",
        "host%3B", "%3Bhost", "host%3B%3Bx-a", "Host", "host%2Cx-a", "host%20",
        "accept%3Bhost", "host%3Bx-b", "host%0A"
    };

    request = request_of(&vectors[0]);
    request.headers = bound;
    request.nheaders = 2;
    presign(&request);

    arrived.headers = given;
    arrived.nheaders = 2;
    ok(verify(url + 8 + strlen(R2)) == RUNCOACH_SIGV4_OK,
       "headers as they came");

    target = vectors[0].url;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(list, sizeof(list), "SignedHeaders=%s", bad[i]);

        ok(verify(changed(target, "SignedHeaders=host", list))
           == RUNCOACH_SIGV4_BAD_REQUEST,
           "no list of headers: \"%s\"", bad[i]);
    }

    ok(verify(changed(target, "=host", "=content-type%3Bhost"))
       == RUNCOACH_SIGV4_MISMATCH,
       "another list");

    p = list + sprintf(list, "SignedHeaders=host");

    for (i = 0; i < 17; i++) {
        p += sprintf(p, "%%3Bi%c", 'a' + (int) i);
    }

    ok(verify(changed(target, "SignedHeaders=host", list))
       == RUNCOACH_SIGV4_BAD_REQUEST,
       "a list of unknown headers");

    memset(list + 18, 'x', 1100);
    list[1118] = '\0';
    ok(verify(changed(target, "SignedHeaders=host", list))
       == RUNCOACH_SIGV4_TOO_LARGE,
       "a long list");

    arrived.nheaders = 0;
}


static void
test_every_byte(void)
{
    int     wrong;
    char    target[4096];
    size_t  i, n;

    method = "GET";
    request_of(&vectors[6]);

    strcpy(target, vectors[6].url);
    n = strlen(target);
    wrong = (verify(target) != RUNCOACH_SIGV4_OK);

    for (i = 0; i < n; i++) {
        target[i] ^= 1;
        wrong += (verify(target) == RUNCOACH_SIGV4_OK);
        target[i] ^= 1;
    }

    ok(wrong == 0, "a bit turned in any byte");

    for (i = 0; i < n; i++) {
        strcpy(target, vectors[6].url);
        target[i] = '\0';
        wrong += (verify(target) == RUNCOACH_SIGV4_OK);
    }

    ok(wrong == 0, "truncated at any byte");
}


static void
test_reasons(void)
{
    int  rc, other, same;

    same = 0;

    for (rc = RUNCOACH_SIGV4_OK; rc <= RUNCOACH_SIGV4_ERROR; rc++) {
        for (other = 0; other < rc; other++) {
            same += strcmp(runcoach_sigv4_reason(rc),
                           runcoach_sigv4_reason(other)) == 0;
        }
    }

    ok(same == 0, "each has a reason of its own");
    ok(runcoach_sigv4_reason((runcoach_sigv4_rc_e) 99) != NULL, "never NULL");
}


int
main(void)
{
    test_encode();
    test_key();
    test_vectors();
    test_shared_vectors();
    test_aws();
    test_order();
    test_values();
    test_bounds();
    test_refused();
    test_day_key();
    test_dates();
    test_max();
    test_virtual_host();
    test_verify();
    test_verify_time();
    test_verify_scope();
    test_verify_args();
    test_verify_path();
    test_verify_headers();
    test_every_byte();
    test_reasons();

    return done();
}
