
/*
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012),
 * and its variant of 128 bits: a MAC with a secret key.  Pure: no I/O, no
 * allocation.
 *
 * Nobody without the key can tell the value of a text, nor find two texts of
 * the same value.  Who has the key may find them: so it is random, never leaves
 * the machine, and no value of it is ever shown.
 */


#ifndef _RUNCOACH_SIPHASH_H_INCLUDED_
#define _RUNCOACH_SIPHASH_H_INCLUDED_


#include <stdint.h>

#include "runcoach_base64.h"


#define RUNCOACH_SIPHASH_KEY  16
#define RUNCOACH_SIPHASH_128  16       /* bytes of a value of 128 bits */


typedef struct {
    uint64_t  word[2];
} runcoach_siphash_key_t;


void runcoach_siphash_key(runcoach_siphash_key_t *key,
    const u_char secret[RUNCOACH_SIPHASH_KEY]);


/*
 * The value of *tag, as eight bytes, the lowest first, and the n bytes of text
 * after it; of text alone if tag is NULL.  text may be NULL if n is 0, and need
 * not be aligned.  The two do not tell a tag from the beginning of a text: with
 * one key it is either always there or never.
 *
 * 64 bits are returned as a number, whose lowest byte is the first of the MAC.
 */

uint64_t runcoach_siphash_64(const runcoach_siphash_key_t *key,
    const uint64_t *tag, const u_char *text, size_t n);
void runcoach_siphash_128(const runcoach_siphash_key_t *key,
    const uint64_t *tag, const u_char *text, size_t n,
    u_char mac[RUNCOACH_SIPHASH_128]);


#endif /* _RUNCOACH_SIPHASH_H_INCLUDED_ */
