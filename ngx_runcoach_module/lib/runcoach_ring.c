
#include <string.h>

#include "runcoach_ring.h"


/*
 * A slot is its state and then the record.  The state of record i is 2i + 1
 * while it is written and 2i + 2 afterwards.
 */

struct runcoach_ring_s {
    uint64_t      next;
    uint64_t      first;             /* since it was cleared */
    uint64_t      n;
    uint64_t      words;             /* of a record */
    uint64_t      slots[];
};


static uint64_t *runcoach_ring_slot(const runcoach_ring_t *ring,
    uint64_t number);


size_t
runcoach_ring_size(size_t n, size_t record)
{
    return sizeof(runcoach_ring_t)
           + n * sizeof(uint64_t) * (1 + (record + 7) / 8);
}


runcoach_ring_t *
runcoach_ring_init(void *memory, size_t n, size_t record)
{
    runcoach_ring_t  *ring;

    ring = memory;

    memset(ring, 0, runcoach_ring_size(n, record));

    ring->n = n;
    ring->words = (record + 7) / 8;

    return ring;
}


void
runcoach_ring_put(runcoach_ring_t *ring, const uint64_t *record)
{
    uint64_t   i, number, *slot;

    number = __atomic_fetch_add(&ring->next, 1, __ATOMIC_RELAXED);
    slot = runcoach_ring_slot(ring, number);

    __atomic_store_n(&slot[0], 2 * number + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);

    for (i = 0; i < ring->words; i++) {
        __atomic_store_n(&slot[1 + i], record[i], __ATOMIC_RELAXED);
    }

    __atomic_store_n(&slot[0], 2 * number + 2, __ATOMIC_RELEASE);
}


void
runcoach_ring_bounds(const runcoach_ring_t *ring, uint64_t *first,
    uint64_t *next)
{
    *first = __atomic_load_n(&ring->first, __ATOMIC_RELAXED);
    *next = __atomic_load_n(&ring->next, __ATOMIC_RELAXED);

    if (*next > ring->n && *first < *next - ring->n) {
        *first = *next - ring->n;
    }

    /* it was cleared in between */

    if (*first > *next) {
        *first = *next;
    }
}


int
runcoach_ring_get(const runcoach_ring_t *ring, uint64_t number,
    uint64_t *record)
{
    uint64_t   i, *slot;

    if (number < __atomic_load_n(&ring->first, __ATOMIC_RELAXED)
        || number >= __atomic_load_n(&ring->next, __ATOMIC_RELAXED))
    {
        return 0;
    }

    slot = runcoach_ring_slot(ring, number);

    if (__atomic_load_n(&slot[0], __ATOMIC_ACQUIRE) != 2 * number + 2) {
        return 0;
    }

    for (i = 0; i < ring->words; i++) {
        record[i] = __atomic_load_n(&slot[1 + i], __ATOMIC_RELAXED);
    }

    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return __atomic_load_n(&slot[0], __ATOMIC_RELAXED) == 2 * number + 2;
}


void
runcoach_ring_clear(runcoach_ring_t *ring)
{
    __atomic_store_n(&ring->first,
                     __atomic_load_n(&ring->next, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
}


static uint64_t *
runcoach_ring_slot(const runcoach_ring_t *ring, uint64_t number)
{
    return (uint64_t *) ring->slots + number % ring->n * (1 + ring->words);
}
