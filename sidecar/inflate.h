
/*
 * Bounded gzip.  Pure: no I/O, no globals.
 */


#ifndef _INFLATE_H_INCLUDED_
#define _INFLATE_H_INCLUDED_


#include <sys/types.h>


typedef enum {
    INFLATE_OK = 0,
    INFLATE_CORRUPT,       /* not gzip, cut off, or something behind it */
    INFLATE_TOO_LARGE,
    INFLATE_NO_MEMORY
} inflate_rc_e;


/* 1 if the bytes begin as a gzip file does */

int inflate_is_gzip(const u_char *data, size_t n);


/*
 * Unpacks a gzip file of one or several members, checking its checksums, as
 * long as it stays within limit bytes.  On INFLATE_OK *out is the caller's,
 * for free(), and of *len bytes; otherwise NULL.
 */

inflate_rc_e inflate_gzip(const u_char *data, size_t n, size_t limit,
    u_char **out, size_t *len) __attribute__((warn_unused_result));


#endif /* _INFLATE_H_INCLUDED_ */
