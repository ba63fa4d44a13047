
/*
 * Each digest has two sets where it may be, and goes where there is more room:
 * so a set overflows only when the table as a whole is nearly full, which
 * matters most for revocations, as these must not be lost.
 *
 * A digest is spread already, and is used as its own hash.  Who could choose
 * digests would be able to sign tokens, and would have to know the key.
 *
 * In both tables an entry is there only while a marker, a single word, says so.
 * The marker is cleared before anything else of the entry is written, and set
 * after it.
 */


#include <string.h>

#include "runcoach_shared.h"


#define RUNCOACH_SHARED_LINE     64      /* of the processor's cache */
#define RUNCOACH_SHARED_CHOICES  2

#define runcoach_shared_before()  __atomic_thread_fence(__ATOMIC_RELEASE)
#define runcoach_shared_set(p, v)                                             \
    __atomic_store_n(p, v, __ATOMIC_RELEASE)


typedef struct {
    u_char                     digest[RUNCOACH_VERIFIED_DIGEST];
    uint64_t                   len;
    u_char                     record[RUNCOACH_VERIFIED_RECORD];
} runcoach_verified_entry_t;


/* the lines that a look-up reads are the first two, and those of an entry */

typedef struct {
    uint32_t                   prefix[RUNCOACH_SHARED_WAYS];   /* 0: empty */
    uint32_t                   used[RUNCOACH_SHARED_WAYS];
    uint64_t                   expires[RUNCOACH_SHARED_WAYS];
    runcoach_verified_entry_t  entry[RUNCOACH_SHARED_WAYS];
} runcoach_verified_set_t;


/* the sets are aligned as memory is when the table is made */

struct runcoach_verified_s {
    uint32_t                   sets;
    uint32_t                   start;
    uint32_t                   clock;
    uint32_t                   reserved;
    runcoach_siphash_key_t     key;
};


/* prefix and rest are the digest; what is not in the set is told by prefixes */

typedef struct {
    uint64_t                   prefix[RUNCOACH_SHARED_WAYS];
    uint64_t                   until[RUNCOACH_SHARED_WAYS];    /* 0: empty */
    u_char                     rest[RUNCOACH_SHARED_WAYS][RUNCOACH_DIGEST - 8];
} runcoach_revoked_set_t;


struct runcoach_revoked_s {
    uint64_t                   generation;
    uint64_t                   lost;
    uint32_t                   sets;
    uint32_t                   start;
};


_Static_assert(sizeof(runcoach_verified_set_t)
               == RUNCOACH_SHARED_WAYS * RUNCOACH_VERIFIED_SIZE,
               "size of an entry");
_Static_assert(sizeof(runcoach_revoked_set_t)
               == RUNCOACH_SHARED_WAYS * RUNCOACH_REVOKED_SIZE,
               "size of an entry");


static int runcoach_shared_layout(void *memory, size_t size, size_t table,
    size_t set, uint32_t *start, uint32_t *sets);
static inline void runcoach_shared_choose(const u_char *digest, uint32_t sets,
    uint32_t index[RUNCOACH_SHARED_CHOICES]);

static inline runcoach_verified_set_t *runcoach_verified_find(
    runcoach_verified_t *table, const u_char *digest, unsigned *way);
static runcoach_verified_set_t *runcoach_verified_room(
    runcoach_verified_t *table, const u_char *digest, uint64_t now,
    unsigned *way);
static inline runcoach_verified_set_t *runcoach_verified_sets(
    const runcoach_verified_t *table);
static inline uint32_t runcoach_verified_prefix(const u_char *digest);
static inline int runcoach_verified_differ(const u_char *a, const u_char *b);

static inline runcoach_revoked_set_t *runcoach_revoked_find(
    const runcoach_revoked_t *table, const u_char *digest, unsigned *way);
static runcoach_revoked_set_t *runcoach_revoked_room(
    const runcoach_revoked_t *table, const u_char *digest, uint64_t now,
    unsigned *way);
static inline runcoach_revoked_set_t *runcoach_revoked_sets(
    const runcoach_revoked_t *table);


runcoach_verified_t *
runcoach_verified_init(void *memory, size_t size,
    const u_char key[RUNCOACH_SIPHASH_KEY])
{
    uint32_t                  i;
    runcoach_verified_t      *table;
    runcoach_verified_set_t  *sets;

    table = memory;

    if (runcoach_shared_layout(memory, size, sizeof(runcoach_verified_t),
                               sizeof(runcoach_verified_set_t),
                               &table->start, &table->sets)
        != 0)
    {
        return NULL;
    }

    table->clock = 0;
    table->reserved = 0;

    runcoach_siphash_key(&table->key, key);

    sets = runcoach_verified_sets(table);

    for (i = 0; i < table->sets; i++) {
        memset(sets[i].prefix, 0, sizeof(sets[i].prefix));
        memset(sets[i].used, 0, sizeof(sets[i].used));
    }

    return table;
}


void
runcoach_verified_digest(const runcoach_verified_t *table, uint64_t tag,
    const u_char *token, size_t n, u_char digest[RUNCOACH_VERIFIED_DIGEST])
{
    runcoach_siphash_128(&table->key, &tag, token, n, digest);
}


size_t
runcoach_verified_get(runcoach_verified_t *table,
    const u_char digest[RUNCOACH_VERIFIED_DIGEST], u_char *record,
    uint64_t now)
{
    size_t                    len;
    unsigned                  way;
    runcoach_verified_set_t  *set;

    set = runcoach_verified_find(table, digest, &way);

    if (set == NULL || set->expires[way] <= now) {
        return 0;
    }

    len = set->entry[way].len;

    if (len > RUNCOACH_VERIFIED_RECORD) {
        return 0;
    }

    memcpy(record, set->entry[way].record, len);

    set->used[way] = ++table->clock;

    return len;
}


int
runcoach_verified_put(runcoach_verified_t *table,
    const u_char digest[RUNCOACH_VERIFIED_DIGEST], const u_char *record,
    size_t len, uint64_t expires, uint64_t now)
{
    unsigned                    way;
    runcoach_verified_set_t    *set;
    runcoach_verified_entry_t  *e;

    if (len == 0 || len > RUNCOACH_VERIFIED_RECORD) {
        return -1;
    }

    set = runcoach_verified_find(table, digest, &way);

    if (set == NULL) {
        set = runcoach_verified_room(table, digest, now, &way);
    }

    e = &set->entry[way];

    runcoach_shared_set(&set->prefix[way], 0);
    runcoach_shared_before();

    memcpy(e->digest, digest, RUNCOACH_VERIFIED_DIGEST);
    memcpy(e->record, record, len);

    e->len = len;
    set->expires[way] = expires;
    set->used[way] = ++table->clock;

    runcoach_shared_set(&set->prefix[way], runcoach_verified_prefix(digest));

    return 0;
}


runcoach_revoked_t *
runcoach_revoked_init(void *memory, size_t size)
{
    runcoach_revoked_t  *table;

    table = memory;

    if (runcoach_shared_layout(memory, size, sizeof(runcoach_revoked_t),
                               sizeof(runcoach_revoked_set_t),
                               &table->start, &table->sets)
        != 0)
    {
        return NULL;
    }

    table->generation = 1;
    table->lost = 0;

    memset(runcoach_revoked_sets(table), 0,
           table->sets * sizeof(runcoach_revoked_set_t));

    return table;
}


int
runcoach_revoked_add(runcoach_revoked_t *table,
    const u_char digest[RUNCOACH_DIGEST], uint64_t until, uint64_t now)
{
    unsigned                 way;
    runcoach_revoked_set_t  *set;

    if (until <= now) {
        return 0;
    }

    set = runcoach_revoked_find(table, digest, &way);

    if (set != NULL && set->until[way] > now) {

        if (until > set->until[way]) {
            runcoach_shared_set(&set->until[way], until);
        }

        return 0;
    }

    if (set == NULL) {
        set = runcoach_revoked_room(table, digest, now, &way);
    }

    if (set->until[way] > now) {
        table->lost++;
    }

    /*
     * First, so that it has changed for everybody even if the process dies
     * right after the last write: who sees it change has to wait for the lock
     * before looking.
     */

    __atomic_add_fetch(&table->generation, 1, __ATOMIC_SEQ_CST);
    runcoach_shared_before();

    runcoach_shared_set(&set->until[way], 0);
    runcoach_shared_before();

    memcpy(&set->prefix[way], digest, 8);
    memcpy(set->rest[way], digest + 8, RUNCOACH_DIGEST - 8);

    runcoach_shared_set(&set->until[way], until);

    return 1;
}


int
runcoach_revoked_test(const runcoach_revoked_t *table,
    const u_char digest[RUNCOACH_DIGEST], uint64_t now)
{
    unsigned                 way;
    runcoach_revoked_set_t  *set;

    set = runcoach_revoked_find(table, digest, &way);

    return set != NULL && set->until[way] > now;
}


uint64_t
runcoach_revoked_generation(const runcoach_revoked_t *table)
{
    return __atomic_load_n(&table->generation, __ATOMIC_ACQUIRE);
}


void
runcoach_revoked_count(const runcoach_revoked_t *table, uint64_t now,
    uint64_t *n, uint64_t *lost)
{
    uint32_t                 i;
    unsigned                 way;
    runcoach_revoked_set_t  *sets;

    sets = runcoach_revoked_sets(table);

    *n = 0;
    *lost = table->lost;

    for (i = 0; i < table->sets; i++) {
        for (way = 0; way < RUNCOACH_SHARED_WAYS; way++) {
            *n += sets[i].until[way] > now;
        }
    }
}


static int
runcoach_shared_layout(void *memory, size_t size, size_t table, size_t set,
    uint32_t *start, uint32_t *sets)
{
    size_t  n, offset;

    offset = (uintptr_t) memory + table + RUNCOACH_SHARED_LINE - 1;
    offset = (offset & ~(uintptr_t) (RUNCOACH_SHARED_LINE - 1))
             - (uintptr_t) memory;

    if (size < offset + set) {
        return -1;
    }

    n = (size - offset) / set;

    *start = (uint32_t) offset;
    *sets = (n > UINT32_MAX) ? UINT32_MAX : (uint32_t) n;

    return 0;
}


/* by bytes of the digest which a prefix does not tell already */

static inline void
runcoach_shared_choose(const u_char *digest, uint32_t sets,
    uint32_t index[RUNCOACH_SHARED_CHOICES])
{
    unsigned  i;
    uint32_t  part;

    for (i = 0; i < RUNCOACH_SHARED_CHOICES; i++) {
        memcpy(&part, digest + 8 + 4 * i, 4);
        index[i] = (uint32_t) (((uint64_t) part * sets) >> 32);
    }
}


static inline runcoach_verified_set_t *
runcoach_verified_find(runcoach_verified_t *table, const u_char *digest,
    unsigned *way)
{
    unsigned                    i, k, found;
    uint32_t                    prefix, index[RUNCOACH_SHARED_CHOICES];
    runcoach_verified_set_t    *set, *sets;
    runcoach_verified_entry_t  *e;

    sets = runcoach_verified_sets(table);
    prefix = runcoach_verified_prefix(digest);

    runcoach_shared_choose(digest, table->sets, index);

    __builtin_prefetch(sets[index[0]].expires);
    __builtin_prefetch(sets[index[1]].expires);

    /* without a branch, as nobody can predict where it is */

    for (found = 0, k = 0; k < RUNCOACH_SHARED_CHOICES; k++) {
        set = &sets[index[k]];

        for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
            found |= (unsigned) (set->prefix[i] == prefix)
                     << (k * RUNCOACH_SHARED_WAYS + i);
        }
    }

    for ( /* void */ ; found != 0; found &= found - 1) {
        i = (unsigned) __builtin_ctz(found);
        set = &sets[index[i / RUNCOACH_SHARED_WAYS]];
        e = &set->entry[i % RUNCOACH_SHARED_WAYS];

        /* the record too: its length is known only when the first is there */

        for (k = 0; k < sizeof(*e); k += RUNCOACH_SHARED_LINE) {
            __builtin_prefetch((u_char *) e + k);
        }

        if (!runcoach_verified_differ(e->digest, digest)) {
            *way = i % RUNCOACH_SHARED_WAYS;
            return set;
        }
    }

    return NULL;
}


/* where a digest is put that is not in the table */

static runcoach_verified_set_t *
runcoach_verified_room(runcoach_verified_t *table, const u_char *digest,
    uint64_t now, unsigned *way)
{
    int                       ended;
    unsigned                  i, k, room, most, candidate;
    uint32_t                  age, oldest, index[RUNCOACH_SHARED_CHOICES];
    runcoach_verified_set_t  *set, *sets, *best;

    sets = runcoach_verified_sets(table);
    runcoach_shared_choose(digest, table->sets, index);

    best = &sets[index[0]];
    most = 0;
    oldest = 0;
    *way = 0;

    for (k = 0; k < RUNCOACH_SHARED_CHOICES; k++) {
        set = &sets[index[k]];
        room = 0;
        candidate = 0;

        for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
            ended = set->prefix[i] == 0 || set->expires[i] <= now;

            if (ended) {
                room++;
                candidate = i;
                continue;
            }

            /* the clock wraps: so ages are compared, not times */

            age = table->clock - set->used[i];

            if (most == 0 && age >= oldest) {
                oldest = age;
                best = set;
                *way = i;
            }
        }

        if (room > most) {
            most = room;
            best = set;
            *way = candidate;
        }
    }

    return best;
}


static inline runcoach_verified_set_t *
runcoach_verified_sets(const runcoach_verified_t *table)
{
    return (runcoach_verified_set_t *) ((u_char *) table + table->start);
}


static inline uint32_t
runcoach_verified_prefix(const u_char *digest)
{
    uint32_t  prefix;

    memcpy(&prefix, digest, 4);

    return prefix ? prefix : 1;
}


/* takes as long wherever the difference is, as a MAC should */

static inline int
runcoach_verified_differ(const u_char *a, const u_char *b)
{
    uint64_t  x[2], y[2];

    memcpy(x, a, RUNCOACH_VERIFIED_DIGEST);
    memcpy(y, b, RUNCOACH_VERIFIED_DIGEST);

    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) != 0;
}


static inline runcoach_revoked_set_t *
runcoach_revoked_find(const runcoach_revoked_t *table, const u_char *digest,
    unsigned *way)
{
    unsigned                 i, k;
    uint32_t                 index[RUNCOACH_SHARED_CHOICES];
    uint64_t                 prefix;
    runcoach_revoked_set_t  *set, *sets;

    sets = runcoach_revoked_sets(table);

    memcpy(&prefix, digest, 8);
    runcoach_shared_choose(digest, table->sets, index);

    __builtin_prefetch(&sets[index[1]]);

    for (k = 0; k < RUNCOACH_SHARED_CHOICES; k++) {
        set = &sets[index[k]];

        for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {

            if (set->prefix[i] == prefix
                && memcmp(set->rest[i], digest + 8, RUNCOACH_DIGEST - 8) == 0)
            {
                *way = i;
                return set;
            }
        }
    }

    return NULL;
}


/* what has ended, or is empty, is less than what has not */

static runcoach_revoked_set_t *
runcoach_revoked_room(const runcoach_revoked_t *table, const u_char *digest,
    uint64_t now, unsigned *way)
{
    unsigned                 i, k, first, room, most;
    uint32_t                 index[RUNCOACH_SHARED_CHOICES];
    runcoach_revoked_set_t  *set, *sets, *best;

    sets = runcoach_revoked_sets(table);
    runcoach_shared_choose(digest, table->sets, index);

    best = NULL;
    most = 0;
    *way = 0;

    for (k = 0; k < RUNCOACH_SHARED_CHOICES; k++) {
        set = &sets[index[k]];
        room = 0;
        first = 0;

        for (i = 0; i < RUNCOACH_SHARED_WAYS; i++) {
            room += set->until[i] <= now;

            if (set->until[i] < set->until[first]) {
                first = i;
            }
        }

        if (best == NULL || room > most
            || (most == 0 && set->until[first] < best->until[*way]))
        {
            most = room;
            best = set;
            *way = first;
        }
    }

    return best;
}


static inline runcoach_revoked_set_t *
runcoach_revoked_sets(const runcoach_revoked_t *table)
{
    return (runcoach_revoked_set_t *) ((u_char *) table + table->start);
}
