
#include "../../sidecar/inflate.c"
#include "tap.h"


static size_t pack(u_char *dst, size_t size, const u_char *src, size_t n);
static inflate_rc_e unpack(const u_char *data, size_t n, size_t limit,
    const u_char *expected, size_t len);


int
main(void)
{
    size_t           n, i, small;
    u_char          *plain, packed[8192], two[16384], *big;
    static u_char    zero[300000];

    plain = zero;
    n = pack(packed, sizeof(packed), plain, 100000);

    ok(inflate_is_gzip(packed, n), "gzip is known by its first bytes");
    ok(!inflate_is_gzip(packed, 1), "one byte is too little for that");
    ok(!inflate_is_gzip((const u_char *) "PK", 2), "zip is not gzip");

    ok(unpack(packed, n, 100000, plain, 100000) == INFLATE_OK,
       "a file of just the limit");
    ok(unpack(packed, n, 99999, NULL, 0) == INFLATE_TOO_LARGE,
       "a file of one byte more");
    ok(unpack(packed, n, 0, NULL, 0) == INFLATE_TOO_LARGE, "a limit of zero");
    ok(unpack(packed, n, 300000, plain, 100000) == INFLATE_OK,
       "a file far below the limit");

    small = pack(two, sizeof(two), (const u_char *) "", 0);
    ok(unpack(two, small, 0, plain, 0) == INFLATE_OK, "an empty file");
    ok(unpack(two, small, 10, plain, 0) == INFLATE_OK,
       "an empty file below the limit");

    for (i = 0; i < n; i++) {
        big = malloc(i ? i : 1);
        if (big == NULL) {
            break;
        }

        memcpy(big, packed, i);

        if (unpack(big, i, 300000, NULL, 0) != INFLATE_CORRUPT) {
            free(big);
            break;
        }

        free(big);
    }

    ok(i == n, "cut off at any of %zu bytes it is corrupt (%zu)", n, i);

    memcpy(two, packed, n);
    two[n - 6] ^= 1;
    ok(unpack(two, n, 300000, NULL, 0) == INFLATE_CORRUPT, "a wrong checksum");

    memcpy(two, packed, n);
    memcpy(two + n, packed, n);
    ok(unpack(two, 2 * n, 300000, plain, 200000) == INFLATE_OK, "two members");
    ok(unpack(two, 2 * n, 150000, NULL, 0) == INFLATE_TOO_LARGE,
       "two members that are together too large");
    ok(unpack(two, n + 1, 300000, NULL, 0) == INFLATE_CORRUPT,
       "a byte behind it");
    ok(unpack(two, n + 12, 300000, NULL, 0) == INFLATE_CORRUPT,
       "half a member behind it");

    return done();
}


static size_t
pack(u_char *dst, size_t size, const u_char *src, size_t n)
{
    z_stream  z;

    memset(&z, 0, sizeof(z_stream));

    if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY)
        != Z_OK)
    {
        return 0;
    }

    z.next_in = (Bytef *) src;
    z.avail_in = n;
    z.next_out = dst;
    z.avail_out = size;

    (void) deflate(&z, Z_FINISH);
    deflateEnd(&z);

    return size - z.avail_out;
}


static inflate_rc_e
unpack(const u_char *data, size_t n, size_t limit, const u_char *expected,
    size_t len)
{
    size_t         got;
    u_char        *out;
    inflate_rc_e   rc;

    rc = inflate_gzip(data, n, limit, &out, &got);

    if (rc == INFLATE_OK && (got != len || memcmp(out, expected, len) != 0)) {
        rc = INFLATE_NO_MEMORY;
    }

    if (rc != INFLATE_OK && out != NULL) {
        rc = INFLATE_NO_MEMORY;
    }

    free(out);

    return rc;
}
