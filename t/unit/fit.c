
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fit.h"
#include "tap.h"


#define HEADER  14
#define DATA    32
#define SIZE    (HEADER + DATA + 2)


static size_t make(u_char *p, size_t header, size_t data);
static void seal(u_char *p);
static fit_verdict_e check(const u_char *data, size_t n, fit_check_t *result);
static void test_good(void);
static void test_header_crc_absent(void);
static void test_bad(void);
static void test_every_byte(void);
static void test_names(void);
static void test_sample(void);


/* a file with good checksums around data of no meaning; returns its size */

static size_t
make(u_char *p, size_t header, size_t data)
{
    size_t  i;

    memset(p, 0, header + data + 2);

    p[0] = (u_char) header;
    p[1] = 0x20;
    p[2] = 0x93;
    p[3] = 0x08;
    p[4] = (u_char) data;
    memcpy(p + 8, ".FIT", 4);

    for (i = 0; i < data; i++) {
        p[header + i] = (u_char) (i * 7 + 1);
    }

    seal(p);

    return header + data + 2;
}


static void
seal(u_char *p)
{
    size_t    n;
    uint16_t  crc;

    if (p[0] == 14) {
        crc = fit_crc(0, p, 12);
        p[12] = (u_char) crc;
        p[13] = (u_char) (crc >> 8);
    }

    n = p[0] + p[4];
    crc = fit_crc(0, p, n);
    p[n] = (u_char) crc;
    p[n + 1] = (u_char) (crc >> 8);
}


/* a copy of exactly the size lets a sanitizer see a read beyond it */

static fit_verdict_e
check(const u_char *data, size_t n, fit_check_t *result)
{
    u_char         *p;
    fit_verdict_e   rc;

    p = malloc(n > 0 ? n : 1);
    if (p == NULL) {
        abort();
    }

    memcpy(p, data, n);

    rc = fit_check(p, n, result);

    free(p);

    return rc;
}


static void
test_good(void)
{
    u_char       buf[4 * SIZE];
    size_t       n;
    fit_check_t  r;

    n = make(buf, 14, DATA);

    ok(check(buf, n, &r) == FIT_OK && r.files == 1 && r.profile == 2195
       && r.protocol == 0x20 && r.verdict == FIT_OK && r.reason != NULL,
       "header of 14 bytes");

    n = make(buf, 12, DATA);
    ok(check(buf, n, &r) == FIT_OK && r.files == 1, "header of 12 bytes");

    n = make(buf, 14, DATA);
    n += make(buf + n, 12, 1);
    n += make(buf + n, 14, 5);
    ok(check(buf, n, &r) == FIT_OK && r.files == 3, "three chained files");

    ok(fit_crc(0, (const u_char *) "123456789", 9) == 0xbb3d,
       "the check value of CRC-16/ARC");
    ok(fit_crc(fit_crc(0, (const u_char *) "1234", 4),
               (const u_char *) "56789", 5)
       == 0xbb3d,
       "the same in two parts");
}


static void
test_header_crc_absent(void)
{
    u_char       buf[SIZE];
    uint16_t     crc;
    fit_check_t  r;

    (void) make(buf, 14, DATA);

    buf[12] = 0;
    buf[13] = 0;
    crc = fit_crc(0, buf, HEADER + DATA);
    buf[SIZE - 2] = (u_char) crc;
    buf[SIZE - 1] = (u_char) (crc >> 8);

    ok(check(buf, SIZE, &r) == FIT_OK, "header without a checksum");

    buf[12] = 1;
    ok(check(buf, SIZE, &r) == FIT_HEADER_CRC, "wrong checksum of the header");
}


static void
test_bad(void)
{
    u_char       buf[2 * SIZE];
    size_t       n;
    fit_check_t  r;

    ok(check((const u_char *) "", 0, &r) == FIT_EMPTY, "no bytes");
    ok(check((const u_char *) "hello, world, hello", 19, &r) == FIT_NOT_FIT,
       "text");
    ok(check((const u_char *) "\x1f\x8b\x08\x00", 4, &r) == FIT_COMPRESSED,
       "gzip");
    ok(check((const u_char *) "PK\x03\x04", 4, &r) == FIT_COMPRESSED, "zip");
    ok(check((const u_char *) "\x0e", 1, &r) == FIT_TRUNCATED, "one byte");

    n = make(buf, 14, DATA);
    buf[8] = 'X';
    ok(check(buf, n, &r) == FIT_NOT_FIT, "another signature");

    n = make(buf, 14, DATA);
    buf[0] = 13;
    ok(check(buf, n, &r) == FIT_NOT_FIT, "header of 13 bytes");

    n = make(buf, 12, 0);
    ok(check(buf, n, &r) == FIT_NO_DATA, "no data");

    n = make(buf, 12, DATA);
    buf[n - 1] ^= 1;
    ok(check(buf, n, &r) == FIT_FILE_CRC, "wrong checksum");

    n = make(buf, 12, DATA);
    memset(buf + 4, 0xff, 4);
    ok(check(buf, n, &r) == FIT_TRUNCATED, "4 GB of data promised");

    n = make(buf, 14, DATA);
    memcpy(buf + n, "garbage and more", 16);
    ok(check(buf, n + 16, &r) == FIT_TRAILING && r.files == 1 && r.offset == n,
       "foreign bytes after the file");

    n += make(buf + n, 14, DATA);
    ok(check(buf, n - 1, &r) == FIT_TRUNCATED && r.files == 1
       && r.offset == SIZE,
       "the second file is truncated");
}


static void
test_every_byte(void)
{
    u_char       buf[SIZE];
    size_t       i, good;
    fit_check_t  r;

    (void) make(buf, 14, DATA);
    good = 0;

    for (i = 1; i < SIZE; i++) {
        good += (check(buf, i, &r) == FIT_TRUNCATED);
    }

    ok(good == SIZE - 1, "truncated at every byte");

    good = 0;

    for (i = 0; i < SIZE; i++) {
        buf[i] ^= 0x10;
        good += (check(buf, SIZE, &r) != FIT_OK);
        buf[i] ^= 0x10;
    }

    ok(good == SIZE, "changed at every byte");
}


static void
test_names(void)
{
    int     i, good;

    good = 0;

    for (i = FIT_OK; i <= FIT_TRAILING; i++) {
        good += (strcmp(fit_verdict_name(i), "unknown") != 0);
    }

    ok(good == FIT_TRAILING + 1, "every verdict has a name");
    ok(strcmp(fit_verdict_name((fit_verdict_e) 99), "unknown") == 0,
       "what is none has not");
}


static void
test_sample(void)
{
    FILE         *fp;
    size_t        n;
    fit_check_t   r;

    static u_char  buf[65536];

    fp = fopen("t/data/activity.fit", "rb");

    if (fp == NULL) {
        skip("no t/data/activity.fit in this directory");
        return;
    }

    n = fread(buf, 1, sizeof(buf), fp);
    (void) fclose(fp);

    ok(check(buf, n, &r) == FIT_OK && r.files == 1, "t/data/activity.fit");
}


int
main(void)
{
    test_good();
    test_header_crc_absent();
    test_bad();
    test_every_byte();
    test_names();
    test_sample();

    return done();
}
