
/*
 * FIT framing: what is judged good is made of good files and nothing else.
 * Then the same bytes once more with their checksums put right, which a
 * fuzzer does not find out by itself.
 */

#include <stdlib.h>
#include <string.h>

#include "fit.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_verdict(const u_char *p, size_t n);
static void seal(u_char *p, size_t n);
static void put(u_char *p, uint16_t crc);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char       *p;
    fit_check_t   check;

    p = calloc(1, size > 0 ? size : 1);
    if (p == NULL) {
        return 0;
    }

    if (size > 0) {
        memcpy(p, data, size);
    }

    check_verdict(p, size);

    seal(p, size);
    check_verdict(p, size);

    (void) fit_check(p, size, &check);

    if (check.verdict == FIT_FILE_CRC || check.verdict == FIT_HEADER_CRC) {
        abort();
    }

    free(p);

    return 0;
}


static void
check_verdict(const u_char *p, size_t n)
{
    fit_check_t  check, again;

    if (fit_check(p, n, &check) != check.verdict || check.reason == NULL
        || check.offset > n)
    {
        abort();
    }

    /* files before the one that the verdict is about are good by themselves */

    if (check.offset > 0 && fit_check(p, check.offset, &again) != FIT_OK) {
        abort();
    }

    if (check.verdict != FIT_OK) {

        if (check.offset > 0 && again.files != check.files) {
            abort();
        }

        return;
    }

    if (check.files == 0
        || fit_check(p + check.offset, n - check.offset, &again) != FIT_OK
        || again.files != 1
        || fit_check(p, n - 1, &again) == FIT_OK)
    {
        abort();
    }
}


static void
seal(u_char *p, size_t n)
{
    size_t  header, data;

    while (n >= 14 && (p[0] == 12 || p[0] == 14)) {
        header = p[0];
        data = p[4] | (size_t) p[5] << 8 | (size_t) p[6] << 16
               | (size_t) p[7] << 24;

        if (header == 14) {
            put(p + 12, fit_crc(0, p, 12));
        }

        if (n - header < 2 || data > n - header - 2) {
            return;
        }

        put(p + header + data, fit_crc(0, p, header + data));

        p += header + data + 2;
        n -= header + data + 2;
    }
}


static void
put(u_char *p, uint16_t crc)
{
    p[0] = (u_char) crc;
    p[1] = (u_char) (crc >> 8);
}
