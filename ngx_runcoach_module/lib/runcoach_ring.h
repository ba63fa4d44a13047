
/*
 * The last n records of one size, written by many processes into shared memory
 * without a lock: nobody waits, and who dies while writing costs one record.
 * Pure: no I/O.
 *
 * Each record has a number, which only grows.  A reader notices a record that
 * is written or overwritten while it is read, but for one case: a writer that
 * was held up while all the others have filled the ring once.  What is read is
 * therefore of the writers, but maybe of two: bounds in it must be checked.
 */


#ifndef _RUNCOACH_RING_H_INCLUDED_
#define _RUNCOACH_RING_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>


typedef struct runcoach_ring_s  runcoach_ring_t;


/* bytes of a ring of n records of so many bytes, which are rounded up to 8 */

size_t runcoach_ring_size(size_t n, size_t record);


/* memory is of that size and aligned to 8; n is above 0 */

runcoach_ring_t *runcoach_ring_init(void *memory, size_t n, size_t record);


/* record is aligned to 8, as long as was said, and rounded up */

void runcoach_ring_put(runcoach_ring_t *ring, const uint64_t *record);


/* the numbers of what is there: *first up to and without *next */

void runcoach_ring_bounds(const runcoach_ring_t *ring, uint64_t *first,
    uint64_t *next);


/* 1 with a copy, or 0: it is not there, not yet or no longer */

int runcoach_ring_get(const runcoach_ring_t *ring, uint64_t number,
    uint64_t *record);


/* what was put until now is not there any more */

void runcoach_ring_clear(runcoach_ring_t *ring);


#endif /* _RUNCOACH_RING_H_INCLUDED_ */
