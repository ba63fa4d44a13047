
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "runcoach_cache.h"


#define RUNCOACH_CACHE_LINE  64       /* of the processor's cache */
#define RUNCOACH_CACHE_STEP  256      /* entries grow in steps of that */
#define RUNCOACH_CACHE_KEEP  4096     /* beyond that, memory is not kept */

#define runcoach_cache_align(n)  (((n) + 7) & ~(size_t) 7)


/*
 * The key, and after it, aligned, the record: so where both are is known before
 * anything of the entry has been read.
 */

typedef struct {
    uint64_t                 tag;
    uint32_t                 size;      /* of data */
    uint32_t                 len;
    uint32_t                 n;
    uint32_t                 reserved;
    u_char                   data[];
} runcoach_cache_entry_t;


/*
 * What a look-up has to read of a set is in one line of the processor's cache,
 * and the pointer which it then follows in the next.  The memory of an entry
 * stays where it is when its prefix is cleared.
 */

typedef struct {
    uint16_t                 prefix[RUNCOACH_CACHE_WAYS];   /* 0: empty */
    uint32_t                 used[RUNCOACH_CACHE_WAYS];
    uint64_t                 reserved[2];
    runcoach_cache_entry_t  *entry[RUNCOACH_CACHE_WAYS];
} runcoach_cache_set_t;


struct runcoach_cache_s {
    runcoach_cache_set_t    *sets;
    size_t                   mask;
    runcoach_siphash_key_t   seed;
    uint32_t                 clock;
};


typedef struct {
    runcoach_cache_set_t    *set;
    unsigned                 way;       /* RUNCOACH_CACHE_WAYS: not found */
    uint16_t                 prefix;
} runcoach_cache_place_t;


static inline runcoach_cache_place_t runcoach_cache_find(
    runcoach_cache_t *cache, uint64_t tag, const u_char *key, size_t n);
static inline uint64_t runcoach_cache_hash(const runcoach_siphash_key_t *seed,
    uint64_t tag, const u_char *key, size_t n);
static inline uint64_t runcoach_cache_match(const uint16_t *prefix,
    uint16_t wanted);
static unsigned runcoach_cache_oldest(runcoach_cache_t *cache,
    runcoach_cache_set_t *set);
static runcoach_cache_entry_t *runcoach_cache_room(runcoach_cache_entry_t *e,
    size_t size);
static void runcoach_cache_clear(runcoach_cache_set_t *set, unsigned way);
static void runcoach_cache_release(runcoach_cache_entry_t *e);


runcoach_cache_t *
runcoach_cache_create(size_t entries, const u_char seed[RUNCOACH_CACHE_SEED])
{
    size_t             sets;
    runcoach_cache_t  *cache;

    if (entries == 0 || entries > RUNCOACH_CACHE_MAX_ENTRIES) {
        return NULL;
    }

    for (sets = 1; sets * RUNCOACH_CACHE_WAYS < entries; sets *= 2) {
        /* void */
    }

    cache = calloc(1, sizeof(runcoach_cache_t));
    if (cache == NULL) {
        return NULL;
    }

    cache->sets = aligned_alloc(RUNCOACH_CACHE_LINE,
                                sets * sizeof(runcoach_cache_set_t));
    if (cache->sets == NULL) {
        free(cache);
        return NULL;
    }

    memset(cache->sets, 0, sets * sizeof(runcoach_cache_set_t));
    runcoach_siphash_key(&cache->seed, seed);
    cache->mask = sets - 1;

    return cache;
}


void
runcoach_cache_free(runcoach_cache_t *cache)
{
    size_t    i;
    unsigned  way;

    if (cache == NULL) {
        return;
    }

    for (i = 0; i <= cache->mask; i++) {
        for (way = 0; way < RUNCOACH_CACHE_WAYS; way++) {
            runcoach_cache_release(cache->sets[i].entry[way]);
        }
    }

    OPENSSL_cleanse(&cache->seed, sizeof(cache->seed));

    free(cache->sets);
    free(cache);
}


void *
runcoach_cache_get(runcoach_cache_t *cache, uint64_t tag, const u_char *key,
    size_t n, size_t *len)
{
    runcoach_cache_entry_t  *e;
    runcoach_cache_place_t   place;

    place = runcoach_cache_find(cache, tag, key, n);

    if (place.way == RUNCOACH_CACHE_WAYS) {
        return NULL;
    }

    e = place.set->entry[place.way];

    place.set->used[place.way] = ++cache->clock;

    *len = e->len;

    return e->data + runcoach_cache_align(n);
}


void *
runcoach_cache_put(runcoach_cache_t *cache, uint64_t tag, const u_char *key,
    size_t n, size_t len)
{
    unsigned                 way;
    runcoach_cache_set_t    *set;
    runcoach_cache_entry_t  *e;
    runcoach_cache_place_t   place;

    if (n > RUNCOACH_CACHE_MAX_KEY) {
        return NULL;
    }

    if (len > RUNCOACH_CACHE_MAX_DATA) {
        runcoach_cache_delete(cache, tag, key, n);
        return NULL;
    }

    place = runcoach_cache_find(cache, tag, key, n);

    set = place.set;
    way = (place.way == RUNCOACH_CACHE_WAYS)
          ? runcoach_cache_oldest(cache, set) : place.way;

    set->prefix[way] = 0;

    e = runcoach_cache_room(set->entry[way], runcoach_cache_align(n) + len);
    if (e == NULL) {
        return NULL;
    }

    e->tag = tag;
    e->len = (uint32_t) len;
    e->n = (uint32_t) n;

    if (n != 0) {
        memcpy(e->data, key, n);
    }

    set->entry[way] = e;
    set->prefix[way] = place.prefix;
    set->used[way] = ++cache->clock;

    return e->data + runcoach_cache_align(n);
}


void
runcoach_cache_delete(runcoach_cache_t *cache, uint64_t tag,
    const u_char *key, size_t n)
{
    runcoach_cache_place_t  place;

    place = runcoach_cache_find(cache, tag, key, n);

    if (place.way != RUNCOACH_CACHE_WAYS) {
        runcoach_cache_clear(place.set, place.way);
    }
}


static inline runcoach_cache_place_t
runcoach_cache_find(runcoach_cache_t *cache, uint64_t tag, const u_char *key,
    size_t n)
{
    unsigned                 way;
    uint64_t                 hash, found;
    runcoach_cache_entry_t  *e;
    runcoach_cache_place_t   place;

    hash = runcoach_cache_hash(&cache->seed, tag, key, n);

    place.set = &cache->sets[hash & cache->mask];
    place.prefix = (uint16_t) (hash >> 48) | 1;

    __builtin_prefetch(place.set->entry);

    found = runcoach_cache_match(place.set->prefix, place.prefix) >> 15
            | runcoach_cache_match(place.set->prefix + 4, place.prefix) >> 11;

    for ( /* void */ ; found != 0; found &= found - 1) {
        way = (unsigned) __builtin_ctzll(found);
        way = way >> 4 | (way & 4);

        e = place.set->entry[way];

        /*
         * Ends at the first difference, which tells nothing: to get here takes
         * a key with the same end, or luck with a secret hash.
         */

        if (e->n == n && e->tag == tag
            && (n == 0 || memcmp(e->data, key, n) == 0))
        {
            place.way = way;
            return place;
        }
    }

    place.way = RUNCOACH_CACHE_WAYS;

    return place;
}


/*
 * Of the end of the key, padded with zeros in front: always as many words, so
 * that no length is predicted wrongly.  The length goes into the word of the
 * tag, which it may share, as both are compared.
 */

static inline uint64_t
runcoach_cache_hash(const runcoach_siphash_key_t *seed, uint64_t tag,
    const u_char *key, size_t n)
{
    u_char         padded[RUNCOACH_CACHE_TAIL];
    const u_char  *p;

    if (n >= RUNCOACH_CACHE_TAIL) {
        p = key + n - RUNCOACH_CACHE_TAIL;

    } else {
        memset(padded, 0, sizeof(padded));

        if (n != 0) {
            memcpy(padded + sizeof(padded) - n, key, n);
        }

        p = padded;
    }

    tag ^= (uint64_t) n << 48;

    return runcoach_siphash_64(seed, &tag, p, RUNCOACH_CACHE_TAIL);
}


/*
 * The highest bit of each of four prefixes which is equal to that one.  Without
 * a branch, as nobody can predict which way it is: a processor that has to wait
 * for a set can ask for what comes after it meanwhile.
 */

static inline uint64_t
runcoach_cache_match(const uint16_t *prefix, uint16_t wanted)
{
    uint64_t  x;

    memcpy(&x, prefix, 8);

    x = le64toh(x) ^ (uint64_t) wanted * 0x0001000100010001;

    return ~(((x & 0x7fff7fff7fff7fff) + 0x7fff7fff7fff7fff) | x
             | 0x7fff7fff7fff7fff);
}


static unsigned
runcoach_cache_oldest(runcoach_cache_t *cache, runcoach_cache_set_t *set)
{
    uint32_t  age, oldest;
    unsigned  i, way;

    way = 0;
    oldest = 0;

    for (i = 0; i < RUNCOACH_CACHE_WAYS; i++) {

        if (set->prefix[i] == 0) {
            return i;
        }

        /* the clock wraps: so ages are compared, not times */

        age = cache->clock - set->used[i];

        if (age >= oldest) {
            oldest = age;
            way = i;
        }
    }

    return way;
}


/* memory for size bytes: what there is, or new; NULL leaves what there is */

static runcoach_cache_entry_t *
runcoach_cache_room(runcoach_cache_entry_t *e, size_t size)
{
    runcoach_cache_entry_t  *room;

    size = (size + RUNCOACH_CACHE_STEP - 1) / RUNCOACH_CACHE_STEP
           * RUNCOACH_CACHE_STEP;

    if (e != NULL
        && (e->size == size
            || (e->size > size && e->size <= RUNCOACH_CACHE_KEEP)))
    {
        return e;
    }

    room = malloc(sizeof(runcoach_cache_entry_t) + size);
    if (room == NULL) {
        return NULL;
    }

    room->size = (uint32_t) size;

    runcoach_cache_release(e);

    return room;
}


static void
runcoach_cache_clear(runcoach_cache_set_t *set, unsigned way)
{
    runcoach_cache_entry_t  *e;

    set->prefix[way] = 0;

    e = set->entry[way];

    if (e->size > RUNCOACH_CACHE_KEEP) {
        set->entry[way] = NULL;
        runcoach_cache_release(e);
        return;
    }

    OPENSSL_cleanse(e->data, e->size);
}


/* what is given back to the heap has been a credential */

static void
runcoach_cache_release(runcoach_cache_entry_t *e)
{
    if (e != NULL) {
        OPENSSL_cleanse(e->data, e->size);
        free(e);
    }
}
