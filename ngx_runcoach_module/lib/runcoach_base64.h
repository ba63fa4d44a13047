
/*
 * Base64 and base64url, RFC 4648.  Pure: no allocation, no globals.
 */


#ifndef _RUNCOACH_BASE64_H_INCLUDED_
#define _RUNCOACH_BASE64_H_INCLUDED_


#include <sys/types.h>


typedef struct {
    size_t         len;
    const u_char  *data;
} runcoach_str_t;


#define runcoach_string(s)  { sizeof(s) - 1, (const u_char *) s }


/* bytes that an encoding or a decoding of n bytes never exceeds */

#define runcoach_base64_encoded_max(n)  ((((n) + 2) / 3) * 4)
#define runcoach_base64_decoded_max(n)  ((((n) + 3) / 4) * 3)


/*
 * RFC 4648 section 5 without padding, as RFC 7515 section 2 wants it, and
 * nothing else: "=", "+", "/", white space, a length of 4n + 1 and non-zero
 * trailing bits are refused, so each octet string has exactly one encoding.
 *
 * dst must hold runcoach_base64_decoded_max(n) bytes and may be src.
 * Returns the number of bytes written, or -1 if src is not canonical.
 */

ssize_t runcoach_base64url_decode(u_char *dst, const u_char *src, size_t n);


/*
 * Both alphabets, padding optional but right if present: for values which
 * people paste (webhook secrets, publishable keys).  Same contract.
 */

ssize_t runcoach_base64_decode_any(u_char *dst, const u_char *src, size_t n);


/*
 * dst must hold runcoach_base64_encoded_max(n) bytes.  Returns the number of
 * bytes written; no NUL is added.  The url form is unpadded.
 */

size_t runcoach_base64url_encode(u_char *dst, const u_char *src, size_t n);
size_t runcoach_base64_encode(u_char *dst, const u_char *src, size_t n);


#endif /* _RUNCOACH_BASE64_H_INCLUDED_ */
