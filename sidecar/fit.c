
#include <string.h>

#include "fit.h"


#define FIT_HEADER_MIN  12
#define FIT_HEADER_MAX  14
#define FIT_CRC_LEN     2


static fit_verdict_e fit_check_one(const u_char *p, size_t n, size_t *used,
    fit_check_t *check);
static fit_verdict_e fit_check_header(const u_char *p, size_t n);
static int fit_compressed(const u_char *p, size_t n);
static uint16_t fit_u16(const u_char *p);
static uint32_t fit_u32(const u_char *p);


static const struct {
    const char  *name;
    const char  *reason;
} fit_verdicts[] = {
    { "ok",         "a FIT file" },
    { "empty",      "the file is empty" },
    { "compressed", "the file is compressed" },
    { "not_fit",    "not a FIT file" },
    { "header_crc", "the header's checksum is wrong" },
    { "no_data",    "the file has a header and no data" },
    { "truncated",  "the file is shorter than its header says" },
    { "file_crc",   "the file's checksum is wrong" },
    { "trailing",   "there are foreign bytes after the file" }
};


/* the polynomial of CRC-16/ARC, four bits at a time */

static const uint16_t fit_crc_table[] = {
    0x0000, 0xcc01, 0xd801, 0x1400, 0xf001, 0x3c00, 0x2800, 0xe401,
    0xa001, 0x6c00, 0x7800, 0xb401, 0x5000, 0x9c01, 0x8801, 0x4400
};


fit_verdict_e
fit_check(const u_char *data, size_t n, fit_check_t *check)
{
    size_t         used;
    fit_verdict_e  verdict;

    memset(check, 0, sizeof(fit_check_t));

    if (n == 0) {
        verdict = FIT_EMPTY;
        goto done;
    }

    if (fit_compressed(data, n)) {
        verdict = FIT_COMPRESSED;
        goto done;
    }

    do {
        verdict = fit_check_one(data + check->offset, n - check->offset, &used,
                                check);

        if (verdict != FIT_OK) {
            break;
        }

        check->files++;

        if (used == n - check->offset) {
            break;
        }

        check->offset += used;

    } while (1);

    if (verdict == FIT_NOT_FIT && check->files > 0) {
        verdict = FIT_TRAILING;
    }

done:

    check->verdict = verdict;
    check->reason = fit_verdicts[verdict].reason;

    return verdict;
}


/* on FIT_OK *used > 0: a chain is walked once and ends */

static fit_verdict_e
fit_check_one(const u_char *p, size_t n, size_t *used, fit_check_t *check)
{
    size_t         header, data;
    fit_verdict_e  verdict;

    verdict = fit_check_header(p, n);

    if (verdict != FIT_OK) {
        return verdict;
    }

    header = p[0];
    data = fit_u32(p + 4);

    if (check->files == 0) {
        check->protocol = p[1];
        check->profile = fit_u16(p + 2);
    }

    /*
     * a device that lost its power has written the header first and has never
     * come back to fill in the size
     */

    if (data == 0) {
        return FIT_NO_DATA;
    }

    if (n < header + FIT_CRC_LEN || data > n - header - FIT_CRC_LEN) {
        return FIT_TRUNCATED;
    }

    if (fit_crc(0, p, header + data) != fit_u16(p + header + data)) {
        return FIT_FILE_CRC;
    }

    *used = header + data + FIT_CRC_LEN;

    return FIT_OK;
}


static fit_verdict_e
fit_check_header(const u_char *p, size_t n)
{
    uint16_t  crc;

    if (p[0] != FIT_HEADER_MIN && p[0] != FIT_HEADER_MAX) {
        return FIT_NOT_FIT;
    }

    if (n < FIT_HEADER_MIN) {
        return FIT_TRUNCATED;
    }

    if (memcmp(p + 8, ".FIT", 4) != 0) {
        return FIT_NOT_FIT;
    }

    if (n < p[0]) {
        return FIT_TRUNCATED;
    }

    if (p[0] == FIT_HEADER_MIN) {
        return FIT_OK;
    }

    /* 0 means that the writer did not reckon it */

    crc = fit_u16(p + FIT_HEADER_MIN);

    if (crc != 0 && crc != fit_crc(0, p, FIT_HEADER_MIN)) {
        return FIT_HEADER_CRC;
    }

    return FIT_OK;
}


static int
fit_compressed(const u_char *p, size_t n)
{
    return (n >= 3 && memcmp(p, "\x1f\x8b\x08", 3) == 0)
           || (n >= 4 && memcmp(p, "PK\x03\x04", 4) == 0);
}


uint16_t
fit_crc(uint16_t crc, const u_char *data, size_t n)
{
    size_t    i;
    uint16_t  low;

    for (i = 0; i < n; i++) {
        low = fit_crc_table[crc & 0xf];
        crc = (crc >> 4) ^ low ^ fit_crc_table[data[i] & 0xf];

        low = fit_crc_table[crc & 0xf];
        crc = (crc >> 4) ^ low ^ fit_crc_table[data[i] >> 4];
    }

    return crc;
}


const char *
fit_verdict_name(fit_verdict_e verdict)
{
    if ((size_t) verdict >= sizeof(fit_verdicts) / sizeof(fit_verdicts[0])) {
        return "unknown";
    }

    return fit_verdicts[verdict].name;
}


static uint16_t
fit_u16(const u_char *p)
{
    return (uint16_t) (p[0] | p[1] << 8);
}


static uint32_t
fit_u32(const u_char *p)
{
    return p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16
           | (uint32_t) p[3] << 24;
}
