
#include "../../ngx_runcoach_module/lib/runcoach_clerk.c"

#include "tap.h"


#define ISSUER  "https://clerk.example.com"
#define NOW     5000

#define row(text)  { text, sizeof(text) - 1 }


static void test_hosts(void);
static void test_longest_host(void);
static void test_suffixes(void);
static void test_cookies(void);
static void test_uat(void);
static void test_choices(void);
static void test_rules(void);
static void test_issuers(void);
static void test_permissions(void);
static void test_many_permissions(void);
static void test_room(void);
static ssize_t expand(char *dst, size_t size, const char *features,
    const char *permissions, const char *map);


static void
test_hosts(void)
{
    char    host[RUNCOACH_CLERK_MAX_HOST + 1];
    size_t  i, n;

    static const struct {
        const char  *key;
        const char  *host;
    } rows[] = {
        { "pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk",
          "foo-bar-13.clerk.accounts.dev" },
        { "pk_live_ZmFrZS1jbGVyay10ZXN0LmNsZXJrLmFjY291bnRzLmRldiQ=",
          "fake-clerk-test.clerk.accounts.dev" },
        { "pk_live_ZmFrZS1jbGVyay10ZXN0LmNsZXJrLmFjY291bnRzLmRldiQ",
          "fake-clerk-test.clerk.accounts.dev" },
        { "pk_test_Y2xlcmsuaW5zcGlyZWQucHVtYS03NC5sY2wuZGV2JA",
          "clerk.inspired.puma-74.lcl.dev" },
        { "pk_test_Y2xlcmsuY2xlcmsuZGV2JA", "clerk.clerk.dev" },
        { "pk_test_Y2xlcmsuZXhhbXBsZS5jb206ODQ0MyQ=",
          "clerk.example.com:8443" },
        { "pk_test_YS5iJA==", "a.b" },

        /* a.b$extra, a.b$$, $a.b, invalidkey$, nothing, a.b */

        { "pk_test_YS5iJGV4dHJh", "" },
        { "pk_test_YS5iJCQ=", "" },
        { "pk_test_JGEuYg==", "" },
        { "pk_live_aW52YWxpZGtleSQ=", "" },
        { "pk_live_", "" },
        { "pk_live_JA==", "" },
        { "pk_live_YS5i", "" },

        /* no such key, too many parts, wrong padding */

        { "", "" },
        { "pk_", "" },
        { "invalid!@#$", "" },
        { "pk_prod_Y2xlcmsuY2xlcmsuZGV2JA", "" },
        { "sk_test_YS5iJA==", "" },
        { "PK_TEST_YS5iJA==", "" },
        { " pk_test_YS5iJA==", "" },
        { "pk_test_YS5iJA== ", "" },
        { "pk_test_YS5iJA\n", "" },
        { "pk_test_YS5iJA=", "" },
        { "pk_test_YS5iJA===", "" },
        { "pk_test_YS5iJB", "" },
        { "pk_live_ZmFrZS1jbGVyay10ZXN0_LmNsZXJrLmFjY291bnRzLmRldiQ=", "" },

        /* example.com/x, a..b, .a, a., u@a.b, with a line feed, and ports */

        { "pk_test_Y2xlcmsuZXhhbXBsZS5jb20veCQ=", "" },
        { "pk_test_YS4uYiQ=", "" },
        { "pk_test_LmEk", "" },
        { "pk_test_YS4k", "" },
        { "pk_test_dUBhLmIk", "" },
        { "pk_test_YS5iDQp4JA==", "" },
        { "pk_test_YS5iOjk5OTk5JA==", "" },
        { "pk_test_YS5iOiQ=", "" },
        { "pk_test_Y2xlcmsuZXhhbXBsZS5jb206MCQ=", "" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        n = runcoach_clerk_host((u_char *) host, (u_char *) rows[i].key,
                                strlen(rows[i].key));
        host[n] = '\0';

        if (!ok(strcmp(host, rows[i].host) == 0, "host %zu", i)) {
            printf("# %s: %s\n", rows[i].key, host);
        }
    }
}


static void
test_longest_host(void)
{
    size_t  n, len;
    u_char  host[RUNCOACH_CLERK_MAX_HOST], text[RUNCOACH_CLERK_MAX_HOST + 2];
    u_char  key[RUNCOACH_CLERK_PREFIX + 400];

    memcpy(key, "pk_live_", RUNCOACH_CLERK_PREFIX);

    for (n = RUNCOACH_CLERK_MAX_HOST; n <= RUNCOACH_CLERK_MAX_HOST + 1; n++) {
        memset(text, 'a', n);
        text[1] = '.';
        text[n] = '$';

        len = runcoach_base64_encode(key + RUNCOACH_CLERK_PREFIX, text, n + 1);

        ok(runcoach_clerk_host(host, key, RUNCOACH_CLERK_PREFIX + len)
           == (n == RUNCOACH_CLERK_MAX_HOST ? n : 0), "host of %zu bytes", n);
    }
}


static void
test_suffixes(void)
{
    char    suffix[RUNCOACH_CLERK_SUFFIX + 1];
    size_t  i;

    static const struct {
        const char  *key;
        const char  *suffix;
    } rows[] = {
        { "pk_live_ZmFrZS1jbGVyay10ZXN0LmNsZXJrLmFjY291bnRzLmRldiQ=",
          "qReyu04C" },
        { "pk_live_ZmFrZS1jbGVyay10ZXN0LmNsZXJrLmFjY291bnRzLmRldiQ",
          "GptbXqnu" },
        { "pk_test_Y2xlcmsuY2xlcmsuZGV2JA", "QvfNY2dr" },
        { "pk_test_ZW5vdWdoLWFscGFjYS04Mi5jbGVyay5hY2NvdW50cy5sY2xjbGVyay5jb2"
          "0k", "jtYvyt_H" },
        { "pk_test_eHh4eHh4LXhhYWFhYS1hYS5jbGVyay5hY2NvdW50cy5sY2xjbGVyay5jb2"
          "0k", "tZJdb-5s" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(suffix, 0, sizeof(suffix));
        ok(runcoach_clerk_suffix((u_char *) suffix, (u_char *) rows[i].key,
                                 strlen(rows[i].key)) == 0, "suffix %zu", i);
        is_str(suffix, rows[i].suffix, rows[i].key);
    }
}


static void
test_cookies(void)
{
    char             got[256], *p;
    size_t           i;
    const u_char    *start, *last;
    runcoach_str_t   name, value;

    static const struct {
        const char  *line;
        const char  *cookies;
    } rows[] = {
        { "", "" },
        { ";", "" },
        { "a", "" },
        { "a=b", "[a|b]" },
        { "a=b; c=d", "[a|b][c|d]" },
        { "a=b;c=d;", "[a|b][c|d]" },
        { " a\t=\t b ;c = d", "[a|b][c|d]" },
        { "a=b=c; d==", "[a|b=c][d|=]" },
        { "a; b=c; d", "[b|c]" },
        { "=b; a=; =", "[|b][a|][|]" },
        { "a=\"b c\"; d=\"\"; e=\"; f=\"g", "[a|b c][d|][e|\"][f|\"g]" },
        { "a=%3B; b=%3d", "[a|%3B][b|%3d]" },
        { "__session=x.y.z; __session_qReyu04C=u.v.w",
          "[__session|x.y.z][__session_qReyu04C|u.v.w]" },
        { "a=\"b;c=d\"", "[a|\"b][c|d\"]" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        p = got;
        *p = '\0';
        start = (u_char *) rows[i].line;
        last = start + strlen(rows[i].line);

        while (runcoach_clerk_cookie(&start, last, &name, &value)) {
            p += sprintf(p, "[%.*s|%.*s]", (int) name.len, name.data,
                         (int) value.len, value.data);
        }

        is_str(got, rows[i].cookies, rows[i].line);
        ok(start == last, "at the end");
    }
}


static void
test_uat(void)
{
    size_t                i;
    runcoach_clerk_uat_t  uat;

    static const struct {
        const char  *text;
        int          present;
        double       value;
    } rows[] = {
        { "0", 1, 0 },
        { "1735689600", 1, 1735689600 },
        { "999999999999999", 1, 999999999999999 },
        { "9999999999999999", 0, 0 },
        { "", 0, 0 },
        { "-1", 0, 0 },
        { "+1", 0, 0 },
        { "1.5", 0, 0 },
        { "1e9", 0, 0 },
        { " 1", 0, 0 },
        { "17x", 0, 0 },
        { "\"0\"", 0, 0 }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(&uat, 0xff, sizeof(uat));
        runcoach_clerk_uat(&uat, (u_char *) rows[i].text,
                           strlen(rows[i].text));
        ok(uat.present == rows[i].present && uat.value == rows[i].value,
           "uat \"%s\"", rows[i].text);
    }
}


/*
 * What usesSuffixedCookies() of @clerk/backend 3.20.1 answers to each
 * combination, in the order of the loops: "s" for suffixed, "p" for plain.
 */

static void
test_choices(void)
{
    int                       right;
    size_t                    i, p, s, u, v, n;
    runcoach_clerk_cookies_t  cookies;

    static const char  answers[] =
        "ppspssppsppspssppsppspssppsppspsspps"
        "pppppppppppppppppppppppppppppppppppp"
        "pppppppppppppppppppppppppppppppppppp"
        "ssssssssssssssssssssssssssssssssssss"
        "ppppsspppppppsspppppspssppsppspsspps"
        "ppppsspppppppsspppppppsspppppppssppp"
        "ppspssppsppspssppsppspssppsppspsppps"
        "pppppppppppppppppppppppppppppppppppp"
        "pppppppppppppppppppppppppppppppppppp"
        "ssssssssssssssssssssssssssssssssssss"
        "ppppsspppppppsspppppspssppsppspsppps"
        "ppppsspppppppsspppppppsspppppppspppp";

    static const runcoach_clerk_session_t  plain[] = {
        { 0, 0, { 0, NULL }, 0, 0 },
        { 1, 0, { 0, NULL }, 0, 0 },
        { 1, 1, { 0, NULL }, 1000, 9e9 },
        { 1, 1, runcoach_string("https://clerk.other.com"), 1000, 9e9 },
        { 1, 1, runcoach_string(ISSUER), 1000, 9e9 },
        { 1, 1, runcoach_string(ISSUER), 3000, 9e9 }
    };

    static const runcoach_clerk_session_t  suffixed[] = {
        { 0, 0, { 0, NULL }, 0, 0 },
        { 1, 0, { 0, NULL }, 0, 0 },
        { 1, 1, runcoach_string(ISSUER), 2000, 9e9 },
        { 1, 1, runcoach_string(ISSUER), 2000, 4000 }
    };

    static const runcoach_clerk_uat_t  uats[] = {
        { 0, 0 }, { 1, 0 }, { 1, 1500 }
    };

    memset(&cookies, 0, sizeof(cookies));

    cookies.issuer.data = (u_char *) ISSUER;
    cookies.issuer.len = sizeof(ISSUER) - 1;

    n = 0;

    for (i = 0; i < 2; i++) {
        cookies.production = (i == 0);

        for (p = 0; p < 6; p++) {
            right = 0;
            cookies.plain = plain[p];

            for (s = 0; s < 4; s++) {
                cookies.suffixed = suffixed[s];

                for (u = 0; u < 3; u++) {
                    cookies.plain_uat = uats[u];

                    for (v = 0; v < 3; v++) {
                        cookies.suffixed_uat = uats[v];
                        right += ((runcoach_clerk_choose(&cookies, NOW)
                                   == RUNCOACH_CLERK_SUFFIXED ? 's' : 'p')
                                  == answers[n++]);
                    }
                }
            }

            ok(right == 36, "%s, plain %zu: %d of 36",
               i == 0 ? "production" : "development", p, right);
        }
    }

    ok(n == sizeof(answers) - 1, "all of them");
}


/* each rule where it is the one that decides */

static void
test_rules(void)
{
    size_t                    i;
    runcoach_clerk_cookies_t  cookies;

    static const struct {
        const char                *name;
        runcoach_clerk_session_t   plain;
        runcoach_clerk_session_t   suffixed;
        runcoach_clerk_uat_t       plain_uat;
        runcoach_clerk_uat_t       suffixed_uat;
        int                        production;
        runcoach_clerk_choice_e    choice;
    } rows[] = {
        { "1: no issuer", { 1, 1, { 0, NULL }, 1, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 1, 2 }, 1,
          RUNCOACH_CLERK_PLAIN },
        { "1: no token", { 1, 0, { 0, NULL }, 0, 0 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 1, 2 }, 1,
          RUNCOACH_CLERK_PLAIN },
        { "2: of another instance",
          { 1, 1, runcoach_string("https://clerk.other.com"), 3, 9e9 },
          { 0, 0, { 0, NULL }, 0, 0 }, { 1, 1 }, { 0, 0 }, 1,
          RUNCOACH_CLERK_SUFFIXED },
        { "3: nothing with a suffix",
          { 1, 1, runcoach_string(ISSUER), 1, 9e9 },
          { 0, 0, { 0, NULL }, 0, 0 }, { 1, 0 }, { 0, 0 }, 1,
          RUNCOACH_CLERK_PLAIN },
        { "4: the plain one is newer",
          { 1, 1, runcoach_string(ISSUER), 3, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 1, 2 }, 1,
          RUNCOACH_CLERK_PLAIN },
        { "4: the plain one is as old",
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 1, 2 }, 1,
          RUNCOACH_CLERK_SUFFIXED },
        { "4: newer by a fraction",
          { 1, 1, runcoach_string(ISSUER), 2.5, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 1, 2 }, 1,
          RUNCOACH_CLERK_PLAIN },
        { "5: signed out with the suffix only",
          { 1, 1, runcoach_string(ISSUER), 1, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 1, 0 }, 1,
          RUNCOACH_CLERK_PLAIN },
        { "6: development, expired with the suffix",
          { 1, 1, runcoach_string(ISSUER), 1, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, NOW }, { 1, 0 }, { 1, 2 }, 0,
          RUNCOACH_CLERK_PLAIN },
        { "6: development, not expired yet",
          { 1, 1, runcoach_string(ISSUER), 1, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, NOW + 1 }, { 1, 0 }, { 1, 2 },
          0, RUNCOACH_CLERK_SUFFIXED },
        { "6: production, expired with the suffix",
          { 1, 1, runcoach_string(ISSUER), 1, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, NOW }, { 1, 0 }, { 1, 2 }, 1,
          RUNCOACH_CLERK_SUFFIXED },
        { "7: a suffix on the session only",
          { 0, 0, { 0, NULL }, 0, 0 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 0, 0 }, 1,
          RUNCOACH_CLERK_PLAIN },
        { "8: otherwise", { 1, 1, runcoach_string(ISSUER), 1, 9e9 },
          { 1, 1, runcoach_string(ISSUER), 2, 9e9 }, { 1, 1 }, { 1, 2 }, 1,
          RUNCOACH_CLERK_SUFFIXED }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(&cookies, 0, sizeof(cookies));

        cookies.plain = rows[i].plain;
        cookies.suffixed = rows[i].suffixed;
        cookies.plain_uat = rows[i].plain_uat;
        cookies.suffixed_uat = rows[i].suffixed_uat;
        cookies.production = rows[i].production;
        cookies.issuer.data = (u_char *) ISSUER;
        cookies.issuer.len = sizeof(ISSUER) - 1;

        ok(runcoach_clerk_choose(&cookies, NOW) == rows[i].choice, "rule %s",
           rows[i].name);
    }
}


/* a foreign token in the plain cookie is told from one of this instance */

static void
test_issuers(void)
{
    size_t                    i;
    runcoach_clerk_cookies_t  cookies;

    static const struct {
        const char  *issuer;
        int          same;
    } rows[] = {
        { ISSUER, 1 },
        { "http://clerk.example.com", 1 },
        { "HTTPS://clerk.example.com", 1 },
        { "clerk.example.com", 1 },
        { "https://https://clerk.example.com", 1 },
        { "clerk.http://example.com", 1 },
        { "https://clerk.example.com/", 0 },
        { "https://clerk.example.com.", 0 },
        { "https://Clerk.example.com", 0 },
        { "https:/clerk.example.com", 0 },
        { "ftp://clerk.example.com", 0 },
        { "https://clerk.example.co", 0 },
        { "https://", 0 },
        { "http", 0 }
    };

    memset(&cookies, 0, sizeof(cookies));

    cookies.plain.present = 1;
    cookies.plain.readable = 1;
    cookies.issuer.data = (u_char *) ISSUER;
    cookies.issuer.len = sizeof(ISSUER) - 1;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cookies.plain.issuer.data = (u_char *) rows[i].issuer;
        cookies.plain.issuer.len = strlen(rows[i].issuer);

        ok((runcoach_clerk_choose(&cookies, NOW) == RUNCOACH_CLERK_PLAIN)
           == rows[i].same, "issuer %s", rows[i].issuer);
    }
}


static void
test_permissions(void)
{
    char     got[256];
    size_t   i;
    ssize_t  n;

    static const struct {
        const char  *features;
        const char  *permissions;
        const char  *map;
        const char  *result;         /* NULL: refused */
    } rows[] = {
        { "o:dashboard,o:impersonation", "read,manage", "3,2",
          "org:dashboard:read,org:dashboard:manage,"
          "org:impersonation:manage" },
        { "u:x,o:y", "r,w", "3", "org:y:r,org:y:w" },
        { "uo:a,u:b,ou:c", "r,w", "1,2", "org:a:r,org:c:w" },
        { "o:a", "r,w", "0", "" },
        { "o:a", "r,w", "4", "" },
        { "o:a", "r,w", "007", "org:a:r,org:a:w" },
        { "o:a", "r", "99999999999999999999999999999999999999991",
          "org:a:r" },
        { "o:a,o:b", "r", "1", "org:a:r" },
        { "o:a", "r", "1,1", "org:a:r" },

        /* white space of any kind around the elements */

        { " o:a ,\to:b\n", " r , w ", " 1 , 2 ", "org:a:r,org:b:w" },
        { "\xc2\xa0o:a\xe2\x80\x83", "\xef\xbb\xbfr\xe3\x80\x80",
          "\xe2\x80\xa8" "1\xe1\x9a\x80", "org:a:r" },
        { "o:a", "\xc2\x85r", "1", "org:a:\xc2\x85r" },

        /* a map that is no number grants nothing, and holds its place */

        { "o:a,o:b", "r", "x,1", "org:b:r" },
        { "o:a,o:b", "r", ",1", "org:b:r" },
        { "o:a,o:b", "r", "-1,1", "org:b:r" },
        { "o:a", "r", "1e3", "" },
        { "o:a", "r", "0x1", "" },
        { "o:a", "r", "1.0", "" },
        { "o:a", "r", "1 1", "" },

        /* scopes are compared as they are */

        { "O:a,oo:b,:c,x:d,uou:e", "r", "1,1,1,1,1", "" },
        { "o:a:b", "r", "1", "org:a:b:r" },
        { "o:", "r", "1", "org::r" },
        { "o:a", "r,,w", "7", "org:a:r,org:a:,org:a:w" },
        { "o:\xc3\xa9", "r", "1", "org:\xc3\xa9:r" },

        /* an error as a whole */

        { "o:a,b", "r", "1,1", "" },
        { "o:a,", "r", "1", "" },
        { "dashboard", "r", "1", "" },

        /* nothing of a kind */

        { "", "r", "1", "" },
        { "o:a", "", "1", "" },
        { "o:a", "r", "", "" },
        { "u:a,u:b", "r", "1", "" },

        /* what cannot be in a header */

        { "o:a b", "r", "1", NULL },
        { "o: a", "r", "1", NULL },
        { "o:a", "r\nX", "1", NULL },
        { "o:a", "r\x7f", "1", NULL },
        { "o:a b", "r", "0", "" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        n = expand(got, sizeof(got) - 1, rows[i].features,
                   rows[i].permissions, rows[i].map);

        if (rows[i].result == NULL) {
            ok(n == -1, "permissions %zu refused", i);
            continue;
        }

        got[n < 0 ? 0 : n] = '\0';

        if (!ok(n >= 0 && strcmp(got, rows[i].result) == 0,
                "permissions %zu", i))
        {
            printf("# %s\n", got);
        }
    }
}


/* bits where a double, or 64 of them, have none any more */

static void
test_many_permissions(void)
{
    char     names[32768], got[512], *p;
    size_t   i, n;
    ssize_t  len;

    static const struct {
        size_t       n;
        const char  *map;
        const char  *result;
    } rows[] = {
        { 54, "9007199254740993", "org:f:p0,org:f:p53" },
        { 64, "9223372036854775809", "org:f:p0,org:f:p63" },
        { 65, "18446744073709551617", "org:f:p0,org:f:p64" },
        { 64, "18446744073709551617", "org:f:p0" },
        { 100, "1267650600228229401496703205375", NULL },
        { 97, "79228162514264337593543950337", "org:f:p0,org:f:p96" },
        { 200, "803469022129495137770981046170581301261101496891396417650689",
          "org:f:p0,org:f:p199" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        p = names;

        for (n = 0; n < rows[i].n; n++) {
            p += sprintf(p, "%sp%zu", n == 0 ? "" : ",", n);
        }

        len = expand(got, sizeof(got) - 1, "o:f", names, rows[i].map);

        if (rows[i].result == NULL) {
            ok(len == -1, "all of %zu are too long", rows[i].n);
            continue;
        }

        got[len < 0 ? 0 : len] = '\0';
        is_str(got, rows[i].result, rows[i].map);
    }

    /* the most, and one more */

    p = names;

    for (n = 0; n < RUNCOACH_CLERK_MAX_PERMISSIONS - 1; n++) {
        *p++ = ',';
    }

    memcpy(p, "x", 2);
    len = expand(got, sizeof(got) - 1, "o:f", names, "1");
    ok(len == 6 && memcmp(got, "org:f:", 6) == 0, "as many as there can be");

    memcpy(p, ",x", 3);
    len = expand(got, sizeof(got) - 1, "o:f", names, "1");
    ok(len == -1, "one more");
}


static void
test_room(void)
{
    char    got[16];
    size_t  i;

    for (i = 0; i <= 15; i++) {
        ok(expand(got, i, "o:a", "r,w", "3") == (i < 15 ? -1 : 15),
           "room for %zu of 15 bytes", i);
    }

    ok(expand(NULL, 0, "o:a", "r", "0") == 0, "nothing needs no room");
}


static ssize_t
expand(char *dst, size_t size, const char *features, const char *permissions,
    const char *map)
{
    size_t           i;
    runcoach_str_t   list[3];
    const char      *text[3];

    text[0] = features;
    text[1] = permissions;
    text[2] = map;

    for (i = 0; i < 3; i++) {
        list[i].data = (const u_char *) text[i];
        list[i].len = strlen(text[i]);
    }

    return runcoach_clerk_permissions((u_char *) dst, size, &list[0],
                                      &list[1], &list[2]);
}


int
main(void)
{
    test_hosts();
    test_longest_host();
    test_suffixes();
    test_cookies();
    test_uat();
    test_choices();
    test_rules();
    test_issuers();
    test_permissions();
    test_many_permissions();
    test_room();

    return done();
}
