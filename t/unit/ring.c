
#include <pthread.h>
#include <stdlib.h>

#include "../../ngx_runcoach_module/lib/runcoach_ring.c"

#include "tap.h"


#define RING_WORDS    5
#define RING_ROUNDS   200000
#define RING_WRITERS  3


static runcoach_ring_t *make(size_t n, size_t record);
static void test_one(void);
static void test_wrap(void);
static void test_clear(void);
static void test_torn(void);
static void test_threads(void);
static void *writer(void *data);


static runcoach_ring_t *
make(size_t n, size_t record)
{
    return runcoach_ring_init(malloc(runcoach_ring_size(n, record)), n,
                              record);
}


static void
test_one(void)
{
    uint64_t          first, next, got[3];
    runcoach_ring_t  *ring;

    static const uint64_t  record[3] = { 1, 2, 3 };

    ring = make(4, 17);

    runcoach_ring_bounds(ring, &first, &next);
    ok(first == 0 && next == 0, "empty");
    ok(!runcoach_ring_get(ring, 0, got), "nothing is there");
    ok(!runcoach_ring_get(ring, UINT64_MAX, got), "nor at the end of numbers");

    runcoach_ring_put(ring, record);
    runcoach_ring_bounds(ring, &first, &next);

    ok(first == 0 && next == 1, "one");
    ok(runcoach_ring_get(ring, 0, got)
       && memcmp(got, record, sizeof(got)) == 0, "rounded up, and whole");
    ok(!runcoach_ring_get(ring, 1, got), "the next is not there");
    ok(!runcoach_ring_get(ring, 4, got), "nor the one of the same slot");

    free(ring);
}


static void
test_wrap(void)
{
    uint64_t          i, first, next, got;
    unsigned          bad;
    runcoach_ring_t  *ring;

    ring = make(7, sizeof(uint64_t));
    bad = 0;

    for (i = 0; i < 100; i++) {
        runcoach_ring_put(ring, &i);
        runcoach_ring_bounds(ring, &first, &next);

        bad += (next != i + 1 || first != (i < 7 ? 0 : i - 6));

        for ( /* void */ ; first < next; first++) {
            bad += (!runcoach_ring_get(ring, first, &got) || got != first);
        }

        bad += (i >= 7 && runcoach_ring_get(ring, i - 7, &got));
    }

    ok(bad == 0, "the last seven of a hundred, %u wrong", bad);

    free(ring);
}


static void
test_clear(void)
{
    uint64_t          i, first, next, got;
    runcoach_ring_t  *ring;

    ring = make(4, sizeof(uint64_t));

    for (i = 0; i < 6; i++) {
        runcoach_ring_put(ring, &i);
    }

    runcoach_ring_clear(ring);
    runcoach_ring_bounds(ring, &first, &next);

    ok(first == 6 && next == 6, "cleared");
    ok(!runcoach_ring_get(ring, 5, &got), "it is not to be had");

    runcoach_ring_put(ring, &i);
    runcoach_ring_bounds(ring, &first, &next);

    ok(first == 6 && next == 7, "one after it");
    ok(runcoach_ring_get(ring, 6, &got) && got == 6, "which is there");

    free(ring);
}


/* who is interrupted while writing leaves a gap, which the next round fills */

static void
test_torn(void)
{
    uint64_t          i, got, *slot;
    runcoach_ring_t  *ring;

    ring = make(4, sizeof(uint64_t));

    for (i = 0; i < 4; i++) {
        runcoach_ring_put(ring, &i);
    }

    slot = runcoach_ring_slot(ring, 2);
    *slot = 2 * 2 + 1;

    ok(!runcoach_ring_get(ring, 2, &got), "half written");
    ok(runcoach_ring_get(ring, 3, &got) && got == 3, "the others are there");

    for (i = 4; i < 8; i++) {
        runcoach_ring_put(ring, &i);
    }

    ok(runcoach_ring_get(ring, 6, &got) && got == 6, "filled");

    free(ring);
}


static void
test_threads(void)
{
    size_t            i, k;
    uint64_t          first, next, got[RING_WORDS], bad, seen;
    pthread_t         threads[RING_WRITERS];
    runcoach_ring_t  *ring;

    ring = make(64, sizeof(got));
    bad = 0;
    seen = 0;

    for (i = 0; i < RING_WRITERS; i++) {
        if (pthread_create(&threads[i], NULL, writer, ring) != 0) {
            ok(0, "a thread");
            return;
        }
    }

    do {
        runcoach_ring_bounds(ring, &first, &next);

        for ( /* void */ ; first < next; first++) {

            if (!runcoach_ring_get(ring, first, got)) {
                continue;
            }

            seen++;

            for (k = 1; k < RING_WORDS; k++) {
                bad += (got[k] != got[0] + k);
            }
        }

    } while (next < (uint64_t) RING_WRITERS * RING_ROUNDS);

    for (i = 0; i < RING_WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }

    /*
     * Who is stopped in the middle for a whole round may leave a record of two:
     * that is rare, and the price of having no lock.
     */

    ok(seen > 0 && bad <= seen / 1000, "%llu read, %llu of two writers",
       (unsigned long long) seen, (unsigned long long) bad);
    ok(ring->next == (uint64_t) RING_WRITERS * RING_ROUNDS, "none is lost");

    free(ring);
}


static void *
writer(void *data)
{
    size_t    i, k;
    uint64_t  record[RING_WORDS];

    for (i = 0; i < RING_ROUNDS; i++) {

        for (k = 0; k < RING_WORDS; k++) {
            record[k] = i * 7 + k;
        }

        runcoach_ring_put(data, record);
    }

    return NULL;
}


int
main(void)
{
    test_one();
    test_wrap();
    test_clear();
    test_torn();
    test_threads();

    return done();
}
