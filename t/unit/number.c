
#include "../../ngx_runcoach_module/lib/runcoach_number.c"

#include <inttypes.h>
#include "tap.h"


#define RANDOM  200000


static int same(uint64_t n);
static void test_edges(void);
static void test_random(void);


/* as printf() writes it, and not a byte more */

static int
same(uint64_t n)
{
    char    want[RUNCOACH_NUMBER_MAX + 1];
    size_t  len;
    u_char  got[RUNCOACH_NUMBER_MAX + 1];

    len = snprintf(want, sizeof(want), "%" PRIu64, n);

    memset(got, '#', sizeof(got));

    return runcoach_number(got, n) == got + len
           && memcmp(got, want, len) == 0 && got[len] == '#';
}


static void
test_edges(void)
{
    int       good;
    uint64_t  n, power;

    good = 1;

    for (n = 0; n <= 10000; n++) {
        good &= same(n);
    }

    ok(good, "0 to 10,000");

    good = 1;

    for (power = 10; power <= UINT64_MAX / 10; power *= 10) {
        good &= same(power - 1) && same(power) && same(power + 1);
    }

    ok(good, "around each power of ten");
    ok(same(UINT64_MAX) && same(UINT64_MAX - 1), "the largest");
}


static void
test_random(void)
{
    int       good;
    size_t    i;
    uint64_t  state;

    good = 1;
    state = 88172645463325252;

    for (i = 0; i < RANDOM; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;

        /* of each length */

        good &= same(state >> (i % 64));
    }

    ok(good, "%d numbers", RANDOM);
}


int
main(void)
{
    test_edges();
    test_random();

    return done();
}
