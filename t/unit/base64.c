
#include "../../ngx_runcoach_module/lib/runcoach_base64.c"

#include <stdlib.h>
#include "tap.h"


typedef ssize_t (*decode_pt)(u_char *dst, const u_char *src, size_t n);


static int decodes(decode_pt decode, const char *text, size_t n,
    const char *expected);
static void test_vectors(void);
static void test_refused(void);
static void test_lenient(void);
static void test_every_byte(void);
static void test_in_place(void);
static void test_canonical(void);


/* expected is NULL: refused; the buffers are exact for the sanitizer's sake */

static int
decodes(decode_pt decode, const char *text, size_t n, const char *expected)
{
    int      same;
    u_char  *src, *dst;
    ssize_t  rc;

    src = malloc(n + 1);
    dst = malloc(runcoach_base64_decoded_max(n) + 1);

    memcpy(src + 1, text, n);

    rc = decode(dst + 1, src + 1, n);

    same = (expected == NULL) ? rc == -1
                              : rc == (ssize_t) strlen(expected)
                                && memcmp(dst + 1, expected, rc) == 0;

    free(src);
    free(dst);

    return same;
}


static void
test_vectors(void)
{
    size_t  i, n;
    u_char  buf[32];

    /* RFC 4648 section 10, and the two characters that differ */

    static const char *const  rows[][3] = {
        { "", "", "" },
        { "f", "Zg==", "Zg" },
        { "fo", "Zm8=", "Zm8" },
        { "foo", "Zm9v", "Zm9v" },
        { "foob", "Zm9vYg==", "Zm9vYg" },
        { "fooba", "Zm9vYmE=", "Zm9vYmE" },
        { "foobar", "Zm9vYmFy", "Zm9vYmFy" },
        { "\xfb\xff\xbf", "+/+/", "-_-_" },
        { "\xff", "/w==", "_w" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const u_char  *raw = (const u_char *) rows[i][0];

        n = runcoach_base64_encode(buf, raw, strlen(rows[i][0]));
        buf[n] = '\0';
        is_str((char *) buf, rows[i][1], "encode");

        n = runcoach_base64url_encode(buf, raw, strlen(rows[i][0]));
        buf[n] = '\0';
        is_str((char *) buf, rows[i][2], "encode for URLs");

        ok(decodes(runcoach_base64url_decode, rows[i][2], strlen(rows[i][2]),
                   rows[i][0]),
           "decode \"%s\"", rows[i][2]);

        ok(decodes(runcoach_base64_decode_any, rows[i][1], strlen(rows[i][1]),
                   rows[i][0]),
           "decode any \"%s\"", rows[i][1]);

        ok(decodes(runcoach_base64_decode_any, rows[i][2], strlen(rows[i][2]),
                   rows[i][0]),
           "decode any \"%s\"", rows[i][2]);
    }
}


static void
test_refused(void)
{
    size_t  i;

    static const char *const  rows[] = {
        "Zg==", "Zm8=", "=", "====",       /* padding */
        "+/+/", "Zm9+", "/w",              /* the other alphabet */
        "Z", "Zm9vY",                      /* 4n + 1 */
        "Zh", "Zm9", "_x",                 /* trailing bits */
        "Zm 9v", " Zm9v", "Zm9v ", "Zm9v\n", "Zm9v\r\n", "Zm\t9",
        "Zm%39v", "Zm9.", "Zm9v,", "Zm9\x80", "\xffZm9",
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(decodes(runcoach_base64url_decode, rows[i], strlen(rows[i]), NULL),
           "strict refuses row %zu", i);
    }

    ok(decodes(runcoach_base64url_decode, "Zm9v\0", 5, NULL), "NUL at the end");
    ok(decodes(runcoach_base64url_decode, "Zm\0v", 4, NULL), "NUL inside");
}


static void
test_lenient(void)
{
    size_t  i;

    static const char *const  bad[] = {
        "Z===", "Zg=", "Zg===", "Zm8==", "Zm9v=", "Zm9v====", "Z=g=", "=Zg=",
        "=", "==", "====", "Zh==", "Zm9=", "Zm9v Zg==", "Zm9v\n"
    };

    ok(decodes(runcoach_base64_decode_any, "-/+_", 4, "\xfb\xff\xbf"),
       "both alphabets in one text");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ok(decodes(runcoach_base64_decode_any, bad[i], strlen(bad[i]), NULL),
           "lenient refuses \"%s\"", bad[i]);
    }

    ok(decodes(runcoach_base64_decode_any,
               "Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk", 40,
               "foo-bar-13.clerk.accounts.dev$"),
       "a publishable key");
}


static void
test_every_byte(void)
{
    int      c, strict, any;
    u_char   src[4], dst[4];
    ssize_t  n;

    strict = 0;
    any = 0;

    for (c = 0; c < 256; c++) {
        memset(src, 'A', 4);
        src[3] = (u_char) c;

        n = runcoach_base64url_decode(dst, src, 4);
        strict += (n == 3);

        n = runcoach_base64_decode_any(dst, src, 4);
        any += (n == 3);
    }

    ok(strict == 64, "the strict alphabet has 64 characters, got %d", strict);
    ok(any == 66, "the lenient one has 66, got %d", any);
}


static void
test_in_place(void)
{
    u_char   buf[] = "Zm9vYmFyYmF6cXV4";
    ssize_t  n;

    n = runcoach_base64url_decode(buf, buf, 16);

    ok(n == 12 && memcmp(buf, "foobarbazqux", 12) == 0, "dst may be src");
}


/*
 * All texts of two and three characters: what is accepted is what encodes
 * back to itself, and each octet string has one text.
 */

static void
test_canonical(void)
{
    int      a, b, c, one, two, wrong;
    u_char   src[3], dst[4], again[4];
    ssize_t  n;

    one = 0;
    two = 0;
    wrong = 0;

    for (a = 0; a < 256; a++) {
        for (b = 0; b < 256; b++) {
            src[0] = (u_char) a;
            src[1] = (u_char) b;

            n = runcoach_base64url_decode(dst, src, 2);

            if (n == 1) {
                one++;
                wrong += (runcoach_base64url_encode(again, dst, 1) != 2
                          || memcmp(again, src, 2) != 0);
            }

            for (c = 0; c < 128; c++) {
                src[2] = (u_char) c;

                n = runcoach_base64url_decode(dst, src, 3);

                if (n == 2) {
                    two++;
                    wrong += (runcoach_base64url_encode(again, dst, 2) != 3
                              || memcmp(again, src, 3) != 0);
                }
            }
        }
    }

    ok(one == 256, "one octet has 256 texts, got %d", one);
    ok(two == 65536, "two octets have 65536, got %d", two);
    ok(wrong == 0, "and each encodes back to itself");
}


int
main(void)
{
    test_vectors();
    test_refused();
    test_lenient();
    test_every_byte();
    test_in_place();
    test_canonical();

    return done();
}
