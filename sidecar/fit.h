
/*
 * Is this a FIT file?  Framing only: headers, sizes and checksums of one file
 * or of several chained ones.  Pure: no I/O, no allocation.
 */


#ifndef _FIT_H_INCLUDED_
#define _FIT_H_INCLUDED_


#include <stdint.h>
#include <sys/types.h>


typedef enum {
    FIT_OK = 0,
    FIT_EMPTY,               /* no bytes at all */
    FIT_COMPRESSED,          /* gzip or zip: unpack it and ask again */
    FIT_NOT_FIT,             /* the header is not one of FIT's */
    FIT_HEADER_CRC,
    FIT_NO_DATA,             /* the header says there is none */
    FIT_TRUNCATED,           /* the header promises more than there is */
    FIT_FILE_CRC,
    FIT_TRAILING             /* good files, then bytes that are no header */
} fit_verdict_e;


typedef struct {
    fit_verdict_e  verdict;
    const char    *reason;    /* static, one line, for people */
    size_t         offset;    /* where the file begins that it is about */
    unsigned       files;     /* chained files that are good */
    uint16_t       profile;   /* of the first file, hundredfold */
    uint8_t        protocol;  /* of the first file, major << 4 | minor */
} fit_check_t;


/*
 * Judges the n bytes at data and nothing beyond them, in one pass.  Fills
 * *check (never NULL) and returns check->verdict.
 */

fit_verdict_e fit_check(const u_char *data, size_t n, fit_check_t *check);


/* FIT's CRC-16 of n bytes, continued from crc (0 to begin) */

uint16_t fit_crc(uint16_t crc, const u_char *data, size_t n);


/* a short name for a column or a counter: "ok", "truncated", ... */

const char *fit_verdict_name(fit_verdict_e verdict);


#endif /* _FIT_H_INCLUDED_ */
