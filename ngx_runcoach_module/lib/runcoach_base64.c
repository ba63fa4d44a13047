
#include "runcoach_base64.h"


/*
 * What a character stands for, with marks in the two bits which no value has:
 * one table serves the strict and the lenient decoder, and the marks of four
 * characters are tested at once.
 */

#define S  0x40                 /* "+" and "/", of section 4 only */
#define X  0x80                 /* not in any alphabet */


static ssize_t runcoach_base64_decode(u_char *dst, const u_char *src, size_t n,
    unsigned refused);
static size_t runcoach_base64_encode_with(u_char *dst, const u_char *src,
    size_t n, const u_char *alphabet, int padded);


static const u_char  runcoach_base64_values[256] = {
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, 62 | S, X, 62, X, 63 | S,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X, X, X, X, X, X,
    X, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, X, X, X, X, 63,
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
    return runcoach_base64_decode(dst, src, n, S | X);
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

    return runcoach_base64_decode(dst, src, n, X);
}


/*
 * Three bytes are written after four have been read, so that dst may be src.
 */

static ssize_t
runcoach_base64_decode(u_char *dst, const u_char *src, size_t n,
    unsigned refused)
{
    u_char        *d;
    unsigned       a, b, c, e;
    const u_char  *t;

    t = runcoach_base64_values;
    d = dst;

    for ( /* void */ ; n >= 4; n -= 4, src += 4) {
        a = t[src[0]];
        b = t[src[1]];
        c = t[src[2]];
        e = t[src[3]];

        if (((a | b | c | e) & refused) != 0) {
            return -1;
        }

        *d++ = (u_char) (a << 2 | (b & 0x3f) >> 4);
        *d++ = (u_char) (b << 4 | (c & 0x3f) >> 2);
        *d++ = (u_char) (c << 6 | (e & 0x3f));
    }

    if (n == 0) {
        return d - dst;
    }

    if (n == 1) {
        return -1;
    }

    a = t[src[0]];
    b = t[src[1]];
    c = (n == 3) ? t[src[2]] : 0;

    /* what the last character has beyond a whole byte must be zero */

    if (((a | b | c) & refused) != 0
        || (n == 3 ? c & 0x03 : b & 0x0f) != 0)
    {
        return -1;
    }

    *d++ = (u_char) (a << 2 | (b & 0x3f) >> 4);

    if (n == 3) {
        *d++ = (u_char) (b << 4 | (c & 0x3f) >> 2);
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
