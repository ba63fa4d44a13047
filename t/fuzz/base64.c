
/*
 * Decoding undoes encoding, and what is accepted by the strict decoder is
 * exactly what the encoder makes.
 */


#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_base64.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *allocated(size_t n);
static void decode(const u_char *src, size_t n);
static void encode(const u_char *src, size_t n);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char  *src;

    if (size > 65536) {
        return 0;
    }

    src = allocated(size);
    memcpy(src, data, size);

    decode(src, size);
    encode(src, size);

    free(src);

    return 0;
}


static void *
allocated(size_t n)
{
    void  *p;

    p = malloc(n + (n == 0));
    holds(p != NULL);

    return p;
}


static void
decode(const u_char *src, size_t n)
{
    u_char   *strict, *any, *again;
    ssize_t   nstrict, nany;

    strict = allocated(runcoach_base64_decoded_max(n));
    any = allocated(runcoach_base64_decoded_max(n));
    again = allocated(runcoach_base64_encoded_max(n));

    nstrict = runcoach_base64url_decode(strict, src, n);
    nany = runcoach_base64_decode_any(any, src, n);

    if (nstrict >= 0) {
        holds(runcoach_base64url_encode(again, strict, nstrict) == n);
        holds(memcmp(again, src, n) == 0);

        holds(nany == nstrict);
        holds(memcmp(any, strict, nany) == 0);
    }

    memcpy(again, src, n);
    holds(runcoach_base64url_decode(again, again, n) == nstrict);
    holds(nstrict < 0 || memcmp(again, strict, nstrict) == 0);

    free(strict);
    free(any);
    free(again);
}


static void
encode(const u_char *src, size_t n)
{
    size_t   len;
    u_char  *text, *again;

    text = allocated(runcoach_base64_encoded_max(n));
    again = allocated(runcoach_base64_decoded_max(
                          runcoach_base64_encoded_max(n)));

    len = runcoach_base64url_encode(text, src, n);
    holds(len <= runcoach_base64_encoded_max(n));
    holds(runcoach_base64url_decode(again, text, len) == (ssize_t) n);
    holds(memcmp(again, src, n) == 0);

    len = runcoach_base64_encode(text, src, n);
    holds(len == runcoach_base64_encoded_max(n));
    holds(runcoach_base64_decode_any(again, text, len) == (ssize_t) n);
    holds(memcmp(again, src, n) == 0);

    free(text);
    free(again);
}
