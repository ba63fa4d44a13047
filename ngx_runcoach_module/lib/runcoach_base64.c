
#include "runcoach_base64.h"


/*
 * What a character stands for, with a mark on those which only one of the two
 * alphabets has: one table serves the strict and the lenient decoder.
 */

#define S  0x40                 /* "+" and "/" of section 4 */
#define U  0x80                 /* "-" and "_" of section 5 */
#define X  0xff                 /* not in any alphabet */


static ssize_t runcoach_base64_decode(u_char *dst, const u_char *src, size_t n,
    u_char refused);
static size_t runcoach_base64_encode_with(u_char *dst, const u_char *src,
    size_t n, const u_char *alphabet, int padded);


static const u_char  runcoach_base64_values[256] = {
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, 62 | S, X, 62 | U, X, 63 | S,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X, X, X, X, X, X,
    X, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, X, X, X, X, 63 | U,
    X, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, X, X, X, X, X,

    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X
};


ssize_t
runcoach_base64url_decode(u_char *dst, const u_char *src, size_t n)
{
    return runcoach_base64_decode(dst, src, n, S);
}


ssize_t
runcoach_base64_decode_any(u_char *dst, const u_char *src, size_t n)
{
    size_t  padding;

    for (padding = 0; n != 0 && src[n - 1] == '='; padding++) {
        n--;
    }

    if (padding != 0 && (padding > 2 || (n + padding) % 4 != 0)) {
        return -1;
    }

    return runcoach_base64_decode(dst, src, n, 0);
}


/*
 * Three bytes are written after four have been read, so that dst may be src.
 */

static ssize_t
runcoach_base64_decode(u_char *dst, const u_char *src, size_t n,
    u_char refused)
{
    u_char    v, *d;
    size_t    i;
    unsigned  bits;

    if (n % 4 == 1) {
        return -1;
    }

    d = dst;
    bits = 0;

    for (i = 0; i < n; i++) {
        v = runcoach_base64_values[src[i]];

        if (v == X || (v & refused) != 0) {
            return -1;
        }

        bits = (bits << 6 | (v & 0x3f)) & 0xffffff;

        if (i % 4 == 3) {
            *d++ = (u_char) (bits >> 16);
            *d++ = (u_char) (bits >> 8);
            *d++ = (u_char) bits;
        }
    }

    switch (n % 4) {

    case 2:
        if ((bits & 0x0f) != 0) {
            return -1;
        }

        *d++ = (u_char) (bits >> 4);
        break;

    case 3:
        if ((bits & 0x03) != 0) {
            return -1;
        }

        *d++ = (u_char) (bits >> 10);
        *d++ = (u_char) (bits >> 2);
        break;
    }

    return d - dst;
}


size_t
runcoach_base64url_encode(u_char *dst, const u_char *src, size_t n)
{
    static const u_char  alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    return runcoach_base64_encode_with(dst, src, n, alphabet, 0);
}


size_t
runcoach_base64_encode(u_char *dst, const u_char *src, size_t n)
{
    static const u_char  alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return runcoach_base64_encode_with(dst, src, n, alphabet, 1);
}


static size_t
runcoach_base64_encode_with(u_char *dst, const u_char *src, size_t n,
    const u_char *alphabet, int padded)
{
    u_char    *d;
    unsigned   bits;

    d = dst;

    for ( /* void */ ; n >= 3; n -= 3, src += 3) {
        *d++ = alphabet[src[0] >> 2];
        *d++ = alphabet[(src[0] & 0x03) << 4 | src[1] >> 4];
        *d++ = alphabet[(src[1] & 0x0f) << 2 | src[2] >> 6];
        *d++ = alphabet[src[2] & 0x3f];
    }

    if (n == 0) {
        return d - dst;
    }

    bits = src[0] << 8 | (n == 2 ? src[1] : 0);

    *d++ = alphabet[bits >> 10];
    *d++ = alphabet[(bits >> 4) & 0x3f];

    if (n == 2) {
        *d++ = alphabet[(bits << 2) & 0x3f];

    } else if (padded) {
        *d++ = '=';
    }

    if (padded) {
        *d++ = '=';
    }

    return d - dst;
}
