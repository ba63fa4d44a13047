
/*
 * Two bounded tables in memory which processes share: verified tokens by their
 * digest, and revocations.  Pure: no I/O, no clock, no allocation.  The memory
 * is the caller's, and so is the lock around every call, except where it says
 * otherwise.  A process that dies within a call leaves the table usable: at
 * worst what it was writing is not there.  There are no pointers in it, so it
 * may be mapped anywhere.
 *
 * Times are whole seconds since the epoch.
 */


#ifndef _RUNCOACH_SHARED_H_INCLUDED_
#define _RUNCOACH_SHARED_H_INCLUDED_


#include <stdint.h>

#include "runcoach_siphash.h"


#define RUNCOACH_SHARED_WAYS    8

#define RUNCOACH_DIGEST         32      /* SHA-256: of revocations */


/*
 * Verified tokens.  An entry takes RUNCOACH_VERIFIED_SIZE bytes in all.  There
 * are two sets of RUNCOACH_SHARED_WAYS where a digest may be; among them the
 * one used longest ago makes room, after those that have expired.
 *
 * The digest is a MAC and no plain one: nobody without the key can find two
 * tokens of the same value, so that 16 bytes of it are enough, which 16 bytes
 * of a plain digest are not for whoever may choose what is in his token; and it
 * costs less than SHA-256 even on a processor that has instructions for that.
 */

#define RUNCOACH_VERIFIED_SIZE    512
#define RUNCOACH_VERIFIED_DIGEST  RUNCOACH_SIPHASH_128
#define RUNCOACH_VERIFIED_RECORD  472   /* bytes of a record at most */

typedef struct runcoach_verified_s  runcoach_verified_t;


/*
 * Makes a table in size bytes of memory aligned for a 64-bit integer.  key is
 * secret and random, and is kept in the table, so that all processes have the
 * same one for as long as the table is there.  NULL: not enough for one set.
 */

runcoach_verified_t *runcoach_verified_init(void *memory, size_t size,
    const u_char key[RUNCOACH_SIPHASH_KEY]);


/*
 * Without the lock: the digest of a token of n bytes.  tag tells apart what the
 * same token means in different places.
 */

void runcoach_verified_digest(const runcoach_verified_t *table, uint64_t tag,
    const u_char *token, size_t n, u_char digest[RUNCOACH_VERIFIED_DIGEST]);


/*
 * Copies the record of a digest into record, which must hold
 * RUNCOACH_VERIFIED_RECORD bytes, and marks it as used.  Returns its length, or
 * 0: there is none, or it has expired ("expires <= now").
 */

size_t runcoach_verified_get(runcoach_verified_t *table,
    const u_char digest[RUNCOACH_VERIFIED_DIGEST], u_char *record,
    uint64_t now);


/*
 * Makes or replaces the entry of a digest.  Returns 0, or -1: the record is
 * empty or larger than RUNCOACH_VERIFIED_RECORD.
 */

int runcoach_verified_put(runcoach_verified_t *table,
    const u_char digest[RUNCOACH_VERIFIED_DIGEST], const u_char *record,
    size_t len, uint64_t expires, uint64_t now);


/*
 * Revocations: a set of digests, each until a time.  An entry takes
 * RUNCOACH_REVOKED_SIZE bytes.  When there is no room the one that would have
 * ended first makes it, and *lost counts up.
 */

#define RUNCOACH_REVOKED_SIZE  40

typedef struct runcoach_revoked_s  runcoach_revoked_t;

runcoach_revoked_t *runcoach_revoked_init(void *memory, size_t size);


/*
 * Adds a digest, or extends it.  Returns 1 if it was not there or had ended,
 * otherwise 0, also if "until <= now".  Each addition changes what
 * runcoach_revoked_generation() says.
 */

int runcoach_revoked_add(runcoach_revoked_t *table,
    const u_char digest[RUNCOACH_DIGEST], uint64_t until, uint64_t now);


/* 1 if the digest is in the set ("until > now"), otherwise 0 */

int runcoach_revoked_test(const runcoach_revoked_t *table,
    const u_char digest[RUNCOACH_DIGEST], uint64_t now);


/*
 * Without the lock: a number that changes with each addition, is never 0, and
 * is read atomically.  Who has read it, and then found a digest absent, need
 * not look again while it is the same.
 */

uint64_t runcoach_revoked_generation(const runcoach_revoked_t *table);


/* how many have not ended at now, and how many had to make room too early */

void runcoach_revoked_count(const runcoach_revoked_t *table, uint64_t now,
    uint64_t *n, uint64_t *lost);


#endif /* _RUNCOACH_SHARED_H_INCLUDED_ */
