
/*
 * Both tables against a list, and while a process dies: a child makes a change
 * one instruction at a time, and after each the memory is as if it had been
 * killed there.
 */


#include "../../ngx_runcoach_module/lib/runcoach_shared.c"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <openssl/sha.h>
#include "tap.h"


#define OPERATIONS  100000
#define ITEMS       80
#define MEMORY      (64 * 1024)
#define NOW         1700000000

#define BOTH        (2 * RUNCOACH_SHARED_WAYS)


typedef struct {
    u_char    digest[RUNCOACH_DIGEST];
    u_char    fill;
    size_t    len;           /* 0: not there */
    uint64_t  until;
    uint64_t  used;
} item_t;


typedef struct {
    size_t    size;
    void    (*change)(void *table);
    int     (*usable)(void *table, int finished);
} crash_t;


static uint64_t number(uint64_t limit);
static void digest_of(u_char *digest, unsigned n);
static void digest_in(u_char *digest, unsigned n, uint32_t first,
    uint32_t second);
static void *zone(size_t size);
static int is_filled(const u_char *record, size_t len, u_char fill);
static int put(runcoach_verified_t *table, unsigned n, size_t len,
    uint64_t expires, uint64_t now);
static int has(runcoach_verified_t *table, unsigned n, size_t len,
    uint64_t now);
static unsigned verified_live(const item_t *items, uint64_t now);
static int verified_look(runcoach_verified_t *table, item_t *item,
    uint64_t now, uint64_t step);
static int verified_is_oldest(const item_t *items, const item_t *gone,
    uint64_t now);
static int revoked_is_first(const item_t *items, const item_t *gone,
    uint64_t now);
static void change_new(void *table);
static void change_replace(void *table);
static void change_revoke(void *table);
static void change_extend(void *table);
static int usable_new(void *table, int finished);
static int usable_replace(void *table, int finished);
static int usable_verified(void *table);
static int usable_revoke(void *table, int finished);
static int usable_extend(void *table, int finished);
static int crash(const crash_t *c, unsigned *states);
static pid_t crash_start(const crash_t *c, u_char *memory);
static int crash_steps(const crash_t *c, pid_t pid, const u_char *memory,
    unsigned *states);
static void test_sizes(void);
static void test_digest(void);
static void test_verified(void);
static void test_expiry(void);
static void test_lru(void);
static void test_choice(void);
static void test_moved(void);
static void test_garbage(void);
static void test_verified_model(void);
static void test_revoked(void);
static void test_revoked_both(unsigned first);
static void test_revoked_full(void);
static void test_revoked_model(void);
static void test_crash(void);


static uint64_t      state = 88172645463325252;
static const u_char  key[RUNCOACH_SIPHASH_KEY] = "0123456789abcdef";


static uint64_t
number(uint64_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return state % limit;
}


static void
digest_of(u_char *digest, unsigned n)
{
    SHA256((u_char *) &n, sizeof(n), digest);
}


/* one that has its places in these sets, of 2^32 */

static void
digest_in(u_char *digest, unsigned n, uint32_t first, uint32_t second)
{
    digest_of(digest, n);

    memcpy(digest + 8, &first, 4);
    memcpy(digest + 12, &second, 4);
}


static void *
zone(size_t size)
{
    void  *memory;

    memory = malloc(size);

    if (memory == NULL) {
        abort();
    }

    memset(memory, 0xa5, size);

    return memory;
}


static int
is_filled(const u_char *record, size_t len, u_char fill)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (record[i] != fill) {
            return 0;
        }
    }

    return 1;
}


/* a record of len bytes, which tell it by its length */

static int
put(runcoach_verified_t *table, unsigned n, size_t len, uint64_t expires,
    uint64_t now)
{
    int      rc;
    u_char   digest[RUNCOACH_DIGEST], *record;

    digest_of(digest, n);

    record = malloc(len + 1);
    memset(record, (int) len, len);

    rc = runcoach_verified_put(table, digest, record, len, expires, now);

    free(record);

    return rc;
}


/* len is 0: there must be none */

static int
has(runcoach_verified_t *table, unsigned n, size_t len, uint64_t now)
{
    u_char  digest[RUNCOACH_DIGEST], record[RUNCOACH_VERIFIED_RECORD];

    digest_of(digest, n);

    return runcoach_verified_get(table, digest, record, now) == len
           && is_filled(record, len, (u_char) len);
}


static void
test_sizes(void)
{
    void    *memory;
    size_t   n;

    n = RUNCOACH_SHARED_WAYS * RUNCOACH_VERIFIED_SIZE;
    memory = aligned_alloc(64, 64 + n);

    ok(runcoach_verified_init(memory, 0, key) == NULL
       && runcoach_verified_init(memory, 64 + n - 1, key) == NULL
       && runcoach_verified_init(memory, 64 + n, key) != NULL,
       "verified: memory for a set");

    free(memory);

    n = RUNCOACH_SHARED_WAYS * RUNCOACH_REVOKED_SIZE;
    memory = aligned_alloc(64, 64 + n);

    ok(runcoach_revoked_init(memory, 0) == NULL
       && runcoach_revoked_init(memory, 64 + n - 1) == NULL
       && runcoach_revoked_init(memory, 64 + n) != NULL,
       "revoked: memory for a set");

    free(memory);
}


/* the key is in the table, wherever that is, and in no other */

static void
test_digest(void)
{
    void                    *memory, *other;
    u_char                   token[800], mac[RUNCOACH_SIPHASH_128];
    u_char                   digest[RUNCOACH_VERIFIED_DIGEST];
    u_char                   again[RUNCOACH_VERIFIED_DIGEST];
    uint64_t                 tag;
    unsigned                 i, same;
    runcoach_verified_t     *t, *copy;
    runcoach_siphash_key_t   k;

    memory = zone(MEMORY);
    other = zone(MEMORY);

    t = runcoach_verified_init(memory, MEMORY, key);

    for (i = 0; i < sizeof(token); i++) {
        token[i] = (u_char) number(256);
    }

    tag = 1;
    runcoach_siphash_key(&k, key);
    runcoach_siphash_128(&k, &tag, token, sizeof(token), mac);
    runcoach_verified_digest(t, tag, token, sizeof(token), digest);

    ok(memcmp(digest, mac, sizeof(mac)) == 0, "digest: the MAC of a token");

    (void) put(t, 1, 10, NOW + 60, NOW);

    copy = memcpy(other, memory, MEMORY);
    memset(memory, 0, MEMORY);
    runcoach_verified_digest(copy, 1, token, sizeof(token), again);

    ok(memcmp(digest, again, sizeof(digest)) == 0 && has(copy, 1, 10, NOW),
       "the same in a table at another address, that was used");

    runcoach_verified_digest(copy, 2, token, sizeof(token), again);
    same = !memcmp(digest, again, sizeof(digest));

    for (i = 0; i < sizeof(token); i++) {
        runcoach_verified_digest(copy, 1, token, i, again);
        same += !memcmp(digest, again, sizeof(digest));

        token[i] ^= 1;
        runcoach_verified_digest(copy, 1, token, sizeof(token), again);
        same += !memcmp(digest, again, sizeof(digest));
        token[i] ^= 1;
    }

    ok(same == 0, "of another tag or token it is another");

    t = runcoach_verified_init(memory, MEMORY, token);
    runcoach_verified_digest(t, 1, token, sizeof(token), again);

    ok(memcmp(digest, again, sizeof(digest)) != 0, "and with another key");

    free(memory);
    free(other);
}


static void
test_verified(void)
{
    void                 *memory;
    runcoach_verified_t  *t;

    memory = zone(MEMORY);
    t = runcoach_verified_init(memory, MEMORY, key);

    ok(has(t, 1, 0, NOW), "verified: nothing in what was any memory");

    ok(put(t, 1, 0, NOW + 60, NOW) == -1 && has(t, 1, 0, NOW),
       "no empty record");
    ok(put(t, 1, RUNCOACH_VERIFIED_RECORD + 1, NOW + 60, NOW) == -1
       && has(t, 1, 0, NOW), "none that is too long");
    ok(put(t, 1, RUNCOACH_VERIFIED_RECORD, NOW + 60, NOW) == 0
       && has(t, 1, RUNCOACH_VERIFIED_RECORD, NOW), "the longest");
    ok(put(t, 2, 1, NOW + 60, NOW) == 0 && has(t, 2, 1, NOW)
       && has(t, 1, RUNCOACH_VERIFIED_RECORD, NOW), "the shortest, and both");
    ok(put(t, 1, 100, NOW + 60, NOW) == 0 && has(t, 1, 100, NOW), "replaced");
    ok(put(t, 1, RUNCOACH_VERIFIED_RECORD + 1, NOW + 60, NOW) == -1
       && has(t, 1, 100, NOW), "not by what is too long");

    free(memory);
}


static void
test_expiry(void)
{
    void                 *memory;
    runcoach_verified_t  *t;

    memory = zone(MEMORY);
    t = runcoach_verified_init(memory, MEMORY, key);

    (void) put(t, 1, 10, NOW, NOW - 60);

    ok(has(t, 1, 10, NOW - 1), "verified: a second before it expires");
    ok(has(t, 1, 0, NOW) && has(t, 1, 0, NOW + 1), "not when it expires");
    ok(has(t, 1, 10, NOW - 1), "a clock that steps back finds it again");

    (void) put(t, 1, 20, NOW + 60, NOW);
    ok(has(t, 1, 20, NOW), "an expired one is replaced");

    (void) put(t, 2, 30, UINT64_MAX, NOW);
    ok(has(t, 2, 30, UINT64_MAX - 1) && has(t, 2, 0, UINT64_MAX),
       "the end of time");

    free(memory);
}


/* in one set, which is then both choices */

static void
test_lru(void)
{
    void                 *memory;
    size_t                size;
    unsigned              i, there;
    runcoach_verified_t  *t;

    size = 128 + RUNCOACH_SHARED_WAYS * RUNCOACH_VERIFIED_SIZE;
    memory = zone(size);
    t = runcoach_verified_init(memory, size, key);

    t->clock = UINT32_MAX - 4;

    for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
        (void) put(t, i, 10 + i, NOW + 60, NOW);
    }

    (void) has(t, 0, 10, NOW);
    (void) put(t, 100, 100, NOW + 60, NOW);

    ok(t->sets == 1 && t->clock < 16 && has(t, 1, 0, NOW),
       "verified: the oldest made room, while the clock wrapped");

    for (there = 0, i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
        there += i != 1 && has(t, i, 10 + i, NOW);
    }

    ok(there == RUNCOACH_SHARED_WAYS - 1 && has(t, 100, 100, NOW),
       "nobody else did");

    /* now 0 is the oldest, but 5 expires */

    (void) put(t, 5, 15, NOW + 1, NOW);
    (void) put(t, 101, 101, NOW + 60, NOW + 1);

    ok(has(t, 5, 0, NOW) && has(t, 0, 10, NOW + 1) && has(t, 101, 101, NOW + 1),
       "what has expired goes before the oldest");

    free(memory);
}


static void
test_choice(void)
{
    void                 *memory;
    size_t                size;
    u_char                digest[RUNCOACH_DIGEST];
    u_char                record[RUNCOACH_VERIFIED_RECORD];
    unsigned              i, there, sets;
    runcoach_verified_t  *t;

    memory = zone(MEMORY);
    t = runcoach_verified_init(memory, MEMORY, key);

    for (i = 0; i < BOTH; i++) {
        digest_in(digest, i, 0, UINT32_MAX);
        (void) runcoach_verified_put(t, digest, record, 1, NOW + 60, NOW);
    }

    for (there = 0, i = 0; i < BOTH; i++) {
        digest_in(digest, i, 0, UINT32_MAX);
        there += runcoach_verified_get(t, digest, record, NOW) == 1;
    }

    ok(there == BOTH, "verified: as many as both sets hold");

    /* 0 was put first, and is the only one not used since */

    for (i = 1; i < BOTH; i++) {
        digest_in(digest, i, 0, UINT32_MAX);
        (void) runcoach_verified_get(t, digest, record, NOW);
    }

    digest_in(digest, 1000, 0, UINT32_MAX);
    (void) runcoach_verified_put(t, digest, record, 1, NOW + 60, NOW);

    for (there = 0, i = 0; i < BOTH; i++) {
        digest_in(digest, i, 0, UINT32_MAX);
        there += runcoach_verified_get(t, digest, record, NOW) == 1;
    }

    digest_in(digest, 0, 0, UINT32_MAX);

    ok(there == BOTH - 1 && !runcoach_verified_get(t, digest, record, NOW),
       "of both, the oldest made room");

    free(memory);

    /* a table that is 3/4 full */

    sets = 1000;
    size = 128 + sets * RUNCOACH_SHARED_WAYS * RUNCOACH_VERIFIED_SIZE;
    memory = zone(size);
    t = runcoach_verified_init(memory, size, key);

    for (i = 0; i < sets * 6; i++) {
        (void) put(t, i, 8, NOW + 60, NOW);
    }

    for (there = 0, i = 0; i < sets * 6; i++) {
        there += has(t, i, 8, NOW);
    }

    ok(there == sets * 6, "a table of %u, with %u of %u", sets * 8, there,
       sets * 6);

    free(memory);
}


/* as another process may see it elsewhere */

static void
test_moved(void)
{
    void                 *memory, *other;
    u_char                digest[RUNCOACH_DIGEST];
    unsigned              i, there;
    runcoach_revoked_t   *r;
    runcoach_verified_t  *t;

    memory = zone(MEMORY);
    other = zone(MEMORY + 64);

    t = runcoach_verified_init(memory, MEMORY, key);

    for (i = 0; i < 20; i++) {
        (void) put(t, i, 10 + i, NOW + 60, NOW);
    }

    t = memcpy((u_char *) other + 8, memory, MEMORY);
    memset(memory, 0, MEMORY);

    for (there = 0, i = 0; i < 20; i++) {
        there += has(t, i, 10 + i, NOW);
    }

    ok(there == 20, "verified: copied to another address");

    r = runcoach_revoked_init(memory, MEMORY);

    digest_of(digest, 1);
    (void) runcoach_revoked_add(r, digest, NOW + 60, NOW);

    r = memcpy((u_char *) other + 24, memory, MEMORY);
    memset(memory, 0, MEMORY);

    ok(runcoach_revoked_test(r, digest, NOW), "revoked: likewise");

    free(memory);
    free(other);
}


/* whatever is in the entries: no byte beyond a record is touched */

static void
test_garbage(void)
{
    void                     *memory;
    size_t                    n, j;
    u_char                   *p, *record, digest[RUNCOACH_DIGEST];
    unsigned                  i, k, wrong;
    runcoach_verified_t      *t;
    runcoach_verified_set_t  *sets;

    memory = zone(MEMORY);
    t = runcoach_verified_init(memory, MEMORY, key);
    sets = runcoach_verified_sets(t);
    record = malloc(RUNCOACH_VERIFIED_RECORD);
    wrong = 0;

    for (i = 0; i < 1000; i++) {
        p = memory;

        for (j = t->start; j < MEMORY; j++) {
            p[j] = (u_char) number(256);
        }

        /* and one that is found */

        digest_of(digest, i);

        for (k = 0; k < t->sets; k++) {
            sets[k].prefix[3] = runcoach_verified_prefix(digest);
            sets[k].expires[3] = NOW + 1;

            sets[k].entry[3].len = number(2) ? number(1000)
                                             : number(UINT64_MAX);
            memcpy(sets[k].entry[3].digest, digest,
                   RUNCOACH_VERIFIED_DIGEST);
        }

        n = runcoach_verified_get(t, digest, record, NOW);
        wrong += n > RUNCOACH_VERIFIED_RECORD;

        wrong += put(t, i, 50, NOW + 60, NOW) != 0 || !has(t, i, 50, NOW);
    }

    ok(wrong == 0, "verified: any bytes in the sets, %u wrong", wrong);

    free(record);
    free(memory);
}


static unsigned
verified_live(const item_t *items, uint64_t now)
{
    unsigned  i, n;

    for (n = 0, i = 0; i < ITEMS; i++) {
        n += items[i].len != 0 && items[i].until > now;
    }

    return n;
}


/* what is found must be right; what is not found may have made room */

static int
verified_look(runcoach_verified_t *table, item_t *item, uint64_t now,
    uint64_t step)
{
    size_t  n;
    u_char  record[RUNCOACH_VERIFIED_RECORD];

    n = runcoach_verified_get(table, item->digest, record, now);

    if (n == 0) {
        return item->len == 0 || item->until <= now;
    }

    item->used = step;

    return n == item->len && item->until > now
           && is_filled(record, n, item->fill);
}


static int
verified_is_oldest(const item_t *items, const item_t *gone, uint64_t now)
{
    unsigned  i;

    for (i = 0; i < ITEMS; i++) {
        if (items[i].len != 0 && items[i].until > now
            && items[i].used < gone->used)
        {
            return 0;
        }
    }

    return 1;
}


/* one set: so of more than it holds, it is known who made room */

static void
test_verified_model(void)
{
    void                 *memory;
    size_t                size;
    item_t                items[ITEMS], *item, *gone;
    u_char                record[RUNCOACH_VERIFIED_RECORD];
    uint64_t              now, step;
    unsigned              i, wrong, evicted;
    runcoach_verified_t  *t, *copy;

    size = 128 + RUNCOACH_SHARED_WAYS * RUNCOACH_VERIFIED_SIZE;
    memory = zone(size);
    copy = aligned_alloc(8, (size + 7) & ~(size_t) 7);
    t = runcoach_verified_init(memory, size, key);

    memset(items, 0, sizeof(items));

    for (i = 0; i < ITEMS; i++) {
        digest_of(items[i].digest, i);
    }

    now = NOW;
    wrong = evicted = 0;

    for (step = 1; step <= OPERATIONS; step++) {
        item = &items[number(1 + number(ITEMS))];
        now += number(8) == 0;

        if (number(2)) {
            wrong += !verified_look(t, item, now, step);
            continue;
        }

        item->fill = (u_char) number(256);
        item->len = 1 + number(RUNCOACH_VERIFIED_RECORD);
        item->until = now + 1 + number(20);
        item->used = step;

        memset(record, item->fill, item->len);

        wrong += runcoach_verified_put(t, item->digest, record, item->len,
                                       item->until, now)
                 != 0;

        if (verified_live(items, now) <= RUNCOACH_SHARED_WAYS) {
            continue;
        }

        /* looking would mark as used: so in a copy */

        memcpy(copy, t, size);

        for (gone = NULL, i = 0; i < ITEMS; i++) {
            if (items[i].len != 0 && items[i].until > now
                && runcoach_verified_get(copy, items[i].digest, record, now)
                   == 0)
            {
                wrong += gone != NULL;
                gone = &items[i];
            }
        }

        wrong += gone == NULL || !verified_is_oldest(items, gone, now);

        if (gone != NULL) {
            gone->len = 0;
        }

        evicted++;
    }

    ok(wrong == 0 && evicted > OPERATIONS / 100,
       "verified: %u operations as in the model, %u made room, %u differ",
       OPERATIONS, evicted, wrong);

    free(copy);
    free(memory);
}


static void
test_revoked(void)
{
    void                *memory;
    u_char               digest[RUNCOACH_DIGEST], zeros[RUNCOACH_DIGEST];
    uint64_t             g, n, lost;
    runcoach_revoked_t  *r;

    memory = zone(MEMORY);
    r = runcoach_revoked_init(memory, MEMORY);

    digest_of(digest, 1);
    memset(zeros, 0, sizeof(zeros));

    g = runcoach_revoked_generation(r);

    ok(g != 0 && !runcoach_revoked_test(r, digest, NOW)
       && !runcoach_revoked_test(r, zeros, 0), "revoked: nobody yet");

    ok(runcoach_revoked_add(r, digest, NOW + 60, NOW) == 1
       && runcoach_revoked_generation(r) != g, "added, a new generation");

    g = runcoach_revoked_generation(r);

    ok(runcoach_revoked_test(r, digest, NOW)
       && runcoach_revoked_test(r, digest, NOW + 59)
       && !runcoach_revoked_test(r, digest, NOW + 60), "until it ends");

    ok(runcoach_revoked_add(r, digest, NOW + 90, NOW) == 0
       && runcoach_revoked_test(r, digest, NOW + 89)
       && runcoach_revoked_generation(r) == g, "extended, no new generation");

    ok(runcoach_revoked_add(r, digest, NOW + 10, NOW) == 0
       && runcoach_revoked_test(r, digest, NOW + 89), "never shortened");

    runcoach_revoked_count(r, NOW + 89, &n, &lost);
    ok(n == 1 && lost == 0, "counted");

    runcoach_revoked_count(r, NOW + 90, &n, &lost);
    ok(n == 0 && lost == 0, "not when it has ended");

    ok(runcoach_revoked_add(r, digest, NOW + 200, NOW + 90) == 1
       && runcoach_revoked_generation(r) != g, "added again after its end");

    g = runcoach_revoked_generation(r);
    digest_of(digest, 2);

    ok(runcoach_revoked_add(r, digest, NOW, NOW) == 0
       && !runcoach_revoked_test(r, digest, NOW - 1)
       && runcoach_revoked_generation(r) == g, "not what has ended already");

    ok(runcoach_revoked_add(r, zeros, NOW + 60, NOW) == 1
       && runcoach_revoked_test(r, zeros, NOW), "a digest of zeros");

    free(memory);
}


/* two sets that are full, of which one ends before all others */

static void
test_revoked_both(unsigned first)
{
    void                *memory;
    u_char               digest[RUNCOACH_DIGEST];
    uint64_t             n, lost;
    unsigned             i, there;
    runcoach_revoked_t  *r;

    memory = zone(MEMORY);
    r = runcoach_revoked_init(memory, MEMORY);

    for (i = 0; i < BOTH; i++) {
        digest_in(digest, i, 1, UINT32_MAX);
        (void) runcoach_revoked_add(r, digest,
                                    NOW + 100 + (i != first) * (1 + i), NOW);
    }

    runcoach_revoked_count(r, NOW, &n, &lost);
    ok(n == BOTH && lost == 0, "revoked: as many as both sets hold");

    digest_in(digest, 1000, 1, UINT32_MAX);
    ok(runcoach_revoked_add(r, digest, NOW + 50, NOW) == 1
       && runcoach_revoked_test(r, digest, NOW), "one more, which ends sooner");

    runcoach_revoked_count(r, NOW, &n, &lost);
    ok(n == BOTH && lost == 1, "one is lost");

    for (there = 0, i = 0; i < BOTH; i++) {
        digest_in(digest, i, 1, UINT32_MAX);
        there += runcoach_revoked_test(r, digest, NOW);
    }

    digest_in(digest, first, 1, UINT32_MAX);
    ok(there == BOTH - 1 && !runcoach_revoked_test(r, digest, NOW),
       "%u, which would have ended first", first);

    digest_in(digest, 1001, 1, UINT32_MAX);
    (void) runcoach_revoked_add(r, digest, NOW + 200, NOW + 50);

    runcoach_revoked_count(r, NOW + 50, &n, &lost);
    ok(n == BOTH && lost == 1, "none is, where one has ended");

    free(memory);
}


static void
test_revoked_full(void)
{
    void                *memory;
    u_char               digest[RUNCOACH_DIGEST];
    uint64_t             n, lost;
    unsigned             i, first;
    runcoach_revoked_t  *r;

    for (first = 0; first < BOTH; first++) {
        test_revoked_both(first);
    }

    /* 3/4 of what there is room for */

    memory = zone(1024 * 1024);
    r = runcoach_revoked_init(memory, 1024 * 1024);

    for (i = 0; i < 1024 * 1024 / RUNCOACH_REVOKED_SIZE * 3 / 4; i++) {
        digest_of(digest, i);
        (void) runcoach_revoked_add(r, digest, NOW + 60, NOW);
    }

    runcoach_revoked_count(r, NOW, &n, &lost);
    ok(n == i && lost == 0, "a table that is 3/4 full has lost nobody: %u", i);

    free(memory);
}


static int
revoked_is_first(const item_t *items, const item_t *gone, uint64_t now)
{
    unsigned  i;

    for (i = 0; i < ITEMS; i++) {
        if (items[i].until > now && items[i].until < gone->until) {
            return 0;
        }
    }

    return 1;
}


static void
test_revoked_model(void)
{
    int                  rc, live;
    void                *memory;
    size_t               size;
    item_t               items[ITEMS], *item, *gone;
    uint64_t             now, step, until, n, lost, expected, g;
    unsigned             i, wrong;
    runcoach_revoked_t  *r;

    size = 128 + RUNCOACH_SHARED_WAYS * RUNCOACH_REVOKED_SIZE;
    memory = zone(size);
    r = runcoach_revoked_init(memory, size);

    memset(items, 0, sizeof(items));

    for (i = 0; i < ITEMS; i++) {
        digest_of(items[i].digest, i);
    }

    now = NOW;
    expected = lost = 0;
    wrong = 0;

    for (step = 1; step <= OPERATIONS; step++) {
        item = &items[number(1 + number(ITEMS))];
        now += number(8) == 0;
        live = item->until > now;

        if (number(2)) {
            wrong += runcoach_revoked_test(r, item->digest, now) != live;
            continue;
        }

        g = runcoach_revoked_generation(r);
        until = now + number(20);
        rc = runcoach_revoked_add(r, item->digest, until, now);

        wrong += rc != (!live && until > now)
                 || (runcoach_revoked_generation(r) != g) != rc;

        for (gone = NULL, i = 0; i < ITEMS; i++) {
            if (&items[i] != item && items[i].until > now
                && !runcoach_revoked_test(r, items[i].digest, now))
            {
                wrong += gone != NULL || !rc;
                gone = &items[i];
            }
        }

        if (gone != NULL) {
            wrong += !revoked_is_first(items, gone, now);
            gone->until = 0;
            expected++;
        }

        if (until > item->until) {
            item->until = until;
        }

        runcoach_revoked_count(r, now, &n, &lost);
        wrong += n > RUNCOACH_SHARED_WAYS || lost != expected;
    }

    ok(wrong == 0 && lost > OPERATIONS / 100,
       "revoked: %u operations as in the model, %u lost, %u differ",
       OPERATIONS, (unsigned) lost, wrong);

    free(memory);
}


/* in a table of one set which holds 0 .. 7, of which 0 is the oldest */

static void
change_new(void *table)
{
    (void) put(table, 100, 300, NOW + 60, NOW);
}


static void
change_replace(void *table)
{
    (void) put(table, 3, 300, NOW + 60, NOW);
}


static void
change_revoke(void *table)
{
    u_char  digest[RUNCOACH_DIGEST];

    digest_of(digest, 100);
    (void) runcoach_revoked_add(table, digest, NOW + 200, NOW);
}


static void
change_extend(void *table)
{
    u_char  digest[RUNCOACH_DIGEST];

    digest_of(digest, 3);
    (void) runcoach_revoked_add(table, digest, NOW + 200, NOW);
}


static int
usable_verified(void *table)
{
    unsigned  i;

    for (i = 1; i < RUNCOACH_SHARED_WAYS; i++) {
        if (i != 3 && !has(table, i, 10 + i, NOW)) {
            return 0;
        }
    }

    /* and the next process may change it as if nothing had happened */

    return put(table, 100, 77, NOW + 60, NOW) == 0 && has(table, 100, 77, NOW)
           && put(table, 3, 78, NOW + 60, NOW) == 0 && has(table, 3, 78, NOW)
           && put(table, 101, 79, NOW + 60, NOW) == 0
           && has(table, 101, 79, NOW);
}


static int
usable_new(void *table, int finished)
{
    return (has(table, 100, 300, NOW) || (!finished && has(table, 100, 0, NOW)))
           && (has(table, 0, 0, NOW) || (!finished && has(table, 0, 10, NOW)))
           && has(table, 3, 13, NOW)
           && usable_verified(table);
}


static int
usable_replace(void *table, int finished)
{
    return (has(table, 3, 300, NOW)
            || (!finished && (has(table, 3, 0, NOW) || has(table, 3, 13, NOW))))
           && has(table, 0, 10, NOW) && has(table, 100, 0, NOW)
           && usable_verified(table);
}


static int
usable_revoke(void *table, int finished)
{
    u_char    digest[RUNCOACH_DIGEST];
    unsigned  i;

    for (i = 1; i < RUNCOACH_SHARED_WAYS; i++) {
        digest_of(digest, i);

        if (!runcoach_revoked_test(table, digest, NOW)) {
            return 0;
        }
    }

    digest_of(digest, 100);

    if (runcoach_revoked_test(table, digest, NOW)) {

        /* whoever has looked before has to look again */

        return runcoach_revoked_generation(table) == 10
               && runcoach_revoked_test(table, digest, NOW + 199);
    }

    return !finished
           && runcoach_revoked_add(table, digest, NOW + 200, NOW) == 1
           && runcoach_revoked_test(table, digest, NOW);
}


static int
usable_extend(void *table, int finished)
{
    u_char    digest[RUNCOACH_DIGEST];
    unsigned  i;

    for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
        digest_of(digest, i);

        if (!runcoach_revoked_test(table, digest, NOW)) {
            return 0;
        }
    }

    digest_of(digest, 3);

    return !finished || runcoach_revoked_test(table, digest, NOW + 199);
}


/* 1: usable after each instruction, 0: not, -1: a child cannot be traced */

static int
crash(const crash_t *c, unsigned *states)
{
    int      rc, status;
    pid_t    pid;
    u_char  *memory;

    memory = mmap(NULL, c->size, PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        return -1;
    }

    pid = crash_start(c, memory);
    rc = -1;

    if (pid != -1) {
        rc = crash_steps(c, pid, memory, states);

        (void) kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) == -1 && errno == EINTR) { /* void */ }
    }

    (void) munmap(memory, c->size);

    return rc;
}


/* a child that has stopped before the change, and stops after it */

static pid_t
crash_start(const crash_t *c, u_char *memory)
{
    int       status;
    pid_t     pid;
    u_char    digest[RUNCOACH_DIGEST];
    unsigned  i;

    if (c->change == change_revoke || c->change == change_extend) {
        (void) runcoach_revoked_init(memory, c->size);

        for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
            digest_of(digest, i);
            (void) runcoach_revoked_add((void *) memory, digest,
                                        NOW + 100 + i, NOW);
        }

    } else {
        (void) runcoach_verified_init(memory, c->size, key);

        for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
            (void) put((void *) memory, i, 10 + i, NOW + 60, NOW);
        }
    }

    pid = fork();

    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1) {
            _exit(2);
        }

        (void) raise(SIGSTOP);
        c->change(memory);
        (void) raise(SIGSTOP);
        _exit(0);
    }

    if (pid != -1
        && (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)))
    {
        return -1;
    }

    return pid;
}


static int
crash_steps(const crash_t *c, pid_t pid, const u_char *memory,
    unsigned *states)
{
    int      rc, status;
    u_char  *last, *copy;

    last = zone(c->size);
    copy = zone(c->size);
    rc = -1;

    for (*states = 0; /* void */ ; ) {

        if (memcmp(last, memory, c->size) != 0) {
            memcpy(last, memory, c->size);
            memcpy(copy, memory, c->size);
            (*states)++;

            if (!c->usable(copy, 0)) {
                rc = 0;
                break;
            }
        }

        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == -1
            || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        {
            break;
        }

        if (WSTOPSIG(status) == SIGSTOP) {
            memcpy(copy, memory, c->size);
            rc = c->usable(copy, 1);
            break;
        }
    }

    free(last);
    free(copy);

    return rc;
}


static void
test_crash(void)
{
    int       rc;
    size_t    i;
    unsigned  states;

    static const struct {
        crash_t      c;
        const char  *name;
    } rows[] = {
        { { 128 + RUNCOACH_SHARED_WAYS * RUNCOACH_VERIFIED_SIZE,
            change_new, usable_new }, "verified, a new one" },
        { { 128 + RUNCOACH_SHARED_WAYS * RUNCOACH_VERIFIED_SIZE,
            change_replace, usable_replace }, "verified, replaced" },
        { { 128 + RUNCOACH_SHARED_WAYS * RUNCOACH_REVOKED_SIZE,
            change_revoke, usable_revoke }, "revoked, a new one" },
        { { 128 + RUNCOACH_SHARED_WAYS * RUNCOACH_REVOKED_SIZE,
            change_extend, usable_extend }, "revoked, extended" },
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        states = 0;
        rc = crash(&rows[i].c, &states);

        if (rc == -1) {
            skip("a child cannot be traced");
            continue;
        }

        ok(rc == 1 && states > 1, "dying within a change: %s, %u states",
           rows[i].name, states);
    }
}


int
main(void)
{
    test_sizes();
    test_digest();
    test_verified();
    test_expiry();
    test_lru();
    test_choice();
    test_moved();
    test_garbage();
    test_verified_model();
    test_revoked();
    test_revoked_full();
    test_revoked_model();
    test_crash();

    return done();
}
