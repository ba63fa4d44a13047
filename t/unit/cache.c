
/*
 * The table against a list for each of its sets, in the order of use.  Only
 * which set a key belongs to is asked of what is tested.
 */


#include <stdlib.h>

static void *counted_malloc(size_t size);

#define malloc(size)  counted_malloc(size)

#include "../../ngx_runcoach_module/lib/runcoach_cache.c"

#undef malloc

#include "tap.h"


#define OPERATIONS  100000
#define KEYS        120
#define SETS        4
#define LONGEST     6000

#define key(s)  (const u_char *) s, sizeof(s) - 1


typedef struct {
    uint64_t   tag;
    size_t     n;
    u_char    *key;
    size_t     set;
    size_t     len;
    u_char     fill;
} item_t;


typedef struct {
    unsigned   n;
    item_t    *item[RUNCOACH_CACHE_WAYS];     /* the last is the oldest */
} list_t;


static uint64_t number(uint64_t limit);
static runcoach_cache_t *table(size_t entries);
static int put(runcoach_cache_t *cache, uint64_t tag, const u_char *key,
    size_t n, const char *record);
static int has(runcoach_cache_t *cache, uint64_t tag, const u_char *key,
    size_t n, const char *record);
static size_t size_of(runcoach_cache_t *cache);
static unsigned list_find(const list_t *list, const item_t *item);
static void list_remove(list_t *list, unsigned i);
static void list_push(list_t *list, item_t *item);
static int is_filled(const u_char *record, size_t len, u_char fill);
static int model_get(runcoach_cache_t *cache, list_t *list, item_t *item);
static int model_put(runcoach_cache_t *cache, list_t *list, item_t *item);
static int model_delete(runcoach_cache_t *cache, list_t *list, item_t *item);
static void test_hash(void);
static void test_entries(void);
static void test_tags(void);
static void test_tails(void);
static void test_collisions(void);
static void test_lru(void);
static void test_clock(void);
static void test_replace(void);
static void test_sizes(void);
static void test_memory(void);
static void test_model(void);


static const u_char  seed[RUNCOACH_CACHE_SEED] = "0123456789abcdef";

static uint64_t      state = 88172645463325252;
static size_t        mallocs;
static int           refuse;


static void *
counted_malloc(size_t size)
{
    mallocs++;

    return refuse ? NULL : malloc(size);
}


static uint64_t
number(uint64_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return state % limit;
}


static runcoach_cache_t *
table(size_t entries)
{
    runcoach_cache_t  *cache;

    cache = runcoach_cache_create(entries, seed);

    if (cache == NULL) {
        abort();
    }

    return cache;
}


static int
put(runcoach_cache_t *cache, uint64_t tag, const u_char *key, size_t n,
    const char *record)
{
    u_char  *data;

    data = runcoach_cache_put(cache, tag, key, n, strlen(record));

    if (data == NULL) {
        return 0;
    }

    memcpy(data, record, strlen(record));

    return (uintptr_t) data % sizeof(uint64_t) == 0;
}


/* record is NULL: there must be none */

static int
has(runcoach_cache_t *cache, uint64_t tag, const u_char *key, size_t n,
    const char *record)
{
    size_t   len;
    u_char  *data;

    data = runcoach_cache_get(cache, tag, key, n, &len);

    if (record == NULL) {
        return data == NULL;
    }

    return data != NULL && len == strlen(record)
           && memcmp(data, record, len) == 0;
}


/* bytes of all entries, whether they are in use or kept */

static size_t
size_of(runcoach_cache_t *cache)
{
    size_t    i, size;
    unsigned  way;

    size = 0;

    for (i = 0; i <= cache->mask; i++) {
        for (way = 0; way < RUNCOACH_CACHE_WAYS; way++) {
            if (cache->sets[i].entry[way] != NULL) {
                size += cache->sets[i].entry[way]->size;
            }
        }
    }

    return size;
}


/* of the end of a key that is longer, or of zeros and all of it */

static void
test_hash(void)
{
    size_t                  i, n, max;
    u_char                  text[100], end[RUNCOACH_CACHE_TAIL];
    uint64_t                tag, word, hash, last;
    unsigned                wrong;
    runcoach_siphash_key_t  k;

    runcoach_siphash_key(&k, seed);
    wrong = 0;
    last = 0;

    for (n = 0; n < sizeof(text); n++) {
        text[n] = (u_char) number(256);
    }

    for (n = 0; n < sizeof(text); n++) {
        tag = number(UINT32_MAX);
        hash = runcoach_cache_hash(&k, tag, text, n);

        max = n < sizeof(end) ? n : sizeof(end);

        memset(end, 0, sizeof(end));
        memcpy(end + sizeof(end) - max, text + n - max, max);

        word = tag | (uint64_t) n << 48;

        wrong += hash != runcoach_siphash_64(&k, &word, end, sizeof(end))
                 || hash == last
                 || hash == runcoach_cache_hash(&k, tag + 1, text, n);
        last = hash;
    }

    ok(wrong == 0, "%zu hashes of ends of keys, %u wrong", n, wrong);

    memset(text, 0, sizeof(text));

    for (wrong = 0, n = 0; n < sizeof(text); n++) {
        for (i = 0; i < n; i++) {
            wrong += runcoach_cache_hash(&k, 1, text, i)
                     == runcoach_cache_hash(&k, 1, text, n);
        }
    }

    ok(wrong == 0, "of zeros, each length has its own, %u have not", wrong);
}


static void
test_entries(void)
{
    size_t             i;
    runcoach_cache_t  *cache;

    static const struct {
        size_t  entries;
        size_t  sets;
    } rows[] = {
        { 1, 1 }, { 8, 1 }, { 9, 2 }, { 16, 2 }, { 17, 4 }, { 8192, 1024 },
        { 8193, 2048 }, { RUNCOACH_CACHE_MAX_ENTRIES, 131072 },
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cache = runcoach_cache_create(rows[i].entries, seed);

        ok(cache != NULL && cache->mask == rows[i].sets - 1
           && (uintptr_t) cache->sets % RUNCOACH_CACHE_LINE == 0,
           "%zu entries are %zu sets", rows[i].entries, rows[i].sets);

        runcoach_cache_free(cache);
    }

    ok(runcoach_cache_create(0, seed) == NULL
       && runcoach_cache_create(RUNCOACH_CACHE_MAX_ENTRIES + 1, seed) == NULL
       && runcoach_cache_create(SIZE_MAX, seed) == NULL,
       "and neither none nor more than that");

    runcoach_cache_free(NULL);
}


static void
test_tags(void)
{
    runcoach_cache_t  *cache;

    cache = table(64);

    ok(has(cache, 1, key("a.b.c"), NULL), "nothing in an empty table");
    ok(put(cache, 1, key("a.b.c"), "one") && put(cache, 2, key("a.b.c"), "two")
       && has(cache, 1, key("a.b.c"), "one")
       && has(cache, 2, key("a.b.c"), "two"), "two meanings of a key");
    ok(has(cache, 3, key("a.b.c"), NULL), "and no third");

    runcoach_cache_delete(cache, 1, key("a.b.c"));
    runcoach_cache_delete(cache, 3, key("a.b.c"));

    ok(has(cache, 1, key("a.b.c"), NULL) && has(cache, 2, key("a.b.c"), "two"),
       "one of them removed");

    ok(has(cache, 2, key("a.b.d"), NULL) && has(cache, 2, key("a.b."), NULL)
       && has(cache, 2, key("a.b.c\0"), NULL)
       && has(cache, 2, key("\0a.b.c"), NULL), "keys that are nearly the same");

    ok(has(cache, 2, NULL, 0, NULL) && put(cache, 2, NULL, 0, "empty")
       && has(cache, 2, NULL, 0, "empty") && has(cache, 2, key("\0"), NULL),
       "an empty key is one");

    ok(put(cache, 2, key("none"), "") && has(cache, 2, key("none"), ""),
       "an empty record is one");

    runcoach_cache_free(cache);
}


/* whoever knows the end of a token shall not get what belongs to the token */

static void
test_tails(void)
{
    u_char             token[800], other[800];
    unsigned           i, hits, kept;
    runcoach_cache_t  *cache;

    cache = table(1);

    for (i = 0; i < sizeof(token); i++) {
        token[i] = (u_char) ('a' + number(26));
    }

    (void) put(cache, 7, token, sizeof(token), "mine");

    hits = 0;

    for (i = 0; i < sizeof(token); i++) {
        memcpy(other, token, sizeof(token));
        other[i] ^= 1;
        hits += !has(cache, 7, other, sizeof(other), NULL);
    }

    ok(hits == 0, "a token with one other byte, anywhere, is another");

    for (i = 1; i < sizeof(token); i++) {
        hits += !has(cache, 7, token + i, sizeof(token) - i, NULL);
    }

    ok(hits == 0, "and so is a part with the same end");

    /* all of them have the same hash, and so the same prefix */

    kept = 0;

    for (i = 0; i < RUNCOACH_CACHE_WAYS - 1; i++) {
        memcpy(other, token, sizeof(token));
        other[i] ^= 1;
        kept += put(cache, 7, other, sizeof(other), "other");
    }

    for (i = 0; i < RUNCOACH_CACHE_WAYS - 1; i++) {
        memcpy(other, token, sizeof(token));
        other[i] ^= 1;
        kept += has(cache, 7, other, sizeof(other), "other");
    }

    ok(kept == 2 * (RUNCOACH_CACHE_WAYS - 1)
       && has(cache, 7, token, sizeof(token), "mine"),
       "a whole set of keys with the same end");

    runcoach_cache_free(cache);
}


/* as if the hash of one key were that of another */

static void
test_collisions(void)
{
    size_t                 i, len;
    uint64_t               hash;
    runcoach_cache_t      *cache;
    runcoach_cache_set_t  *set;

    static const struct {
        const char  *name;
        uint64_t     tag;
        size_t       n;
    } rows[] = {
        { "another tag", 2, 9 },
        { "a shorter key", 1, 8 },
        { "a longer key", 1, 10 },
    };

    cache = table(1);
    set = &cache->sets[0];

    (void) put(cache, 1, (u_char *) "signature", 9, "mine");

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        hash = runcoach_cache_hash(&cache->seed, rows[i].tag,
                                   (u_char *) "signature", rows[i].n);
        set->prefix[0] = (uint16_t) (hash >> 48) | 1;

        ok(runcoach_cache_get(cache, rows[i].tag, (u_char *) "signature",
                              rows[i].n, &len)
           == NULL, "%s of the same hash", rows[i].name);
    }

    runcoach_cache_free(cache);
}


static void
test_lru(void)
{
    u_char             k;
    unsigned           there;
    runcoach_cache_t  *cache;

    cache = table(RUNCOACH_CACHE_WAYS);

    for (k = 0; k < RUNCOACH_CACHE_WAYS; k++) {
        (void) put(cache, 0, &k, 1, "x");
    }

    for (there = 0, k = 0; k < RUNCOACH_CACHE_WAYS; k++) {
        there += has(cache, 0, &k, 1, "x");
    }

    ok(there == RUNCOACH_CACHE_WAYS, "as many as there is room for");

    /* 0 is used again, so 1 is the oldest */

    k = 0;
    (void) has(cache, 0, &k, 1, "x");

    k = 100;
    (void) put(cache, 0, &k, 1, "y");

    k = 1;
    ok(has(cache, 0, &k, 1, NULL), "the oldest made room");

    k = 0;
    ok(has(cache, 0, &k, 1, "x"), "not the one that was used meanwhile");

    k = 100;
    ok(has(cache, 0, &k, 1, "y"), "and the new one is there");

    /* a free place is taken before anybody has to go */

    k = 5;
    runcoach_cache_delete(cache, 0, &k, 1);

    k = 101;
    (void) put(cache, 0, &k, 1, "z");

    k = 2;
    ok(has(cache, 0, &k, 1, "x"), "nobody made room where there was some");

    runcoach_cache_free(cache);
}


static void
test_clock(void)
{
    u_char             k;
    runcoach_cache_t  *cache;

    cache = table(RUNCOACH_CACHE_WAYS);

    cache->clock = UINT32_MAX - 4;

    for (k = 0; k < RUNCOACH_CACHE_WAYS; k++) {
        (void) put(cache, 0, &k, 1, "x");
    }

    ok(cache->clock < 16, "the clock has wrapped");

    (void) put(cache, 0, &k, 1, "y");

    k = 0;
    ok(has(cache, 0, &k, 1, NULL), "and the oldest made room all the same");

    k = RUNCOACH_CACHE_WAYS - 1;
    ok(has(cache, 0, &k, 1, "x"), "not the newest");

    runcoach_cache_free(cache);
}


static void
test_replace(void)
{
    size_t             len;
    u_char            *data;
    uint64_t           value;
    runcoach_cache_t  *cache;

    cache = table(8);

    (void) put(cache, 1, key("token"), "short");
    (void) put(cache, 1, key("token"), "a record that is longer");

    ok(has(cache, 1, key("token"), "a record that is longer"), "replaced");

    (void) put(cache, 1, key("token"), "s");
    ok(has(cache, 1, key("token"), "s"), "by a shorter one");

    data = runcoach_cache_put(cache, 1, key("number"), sizeof(value));
    value = 41;
    memcpy(data, &value, sizeof(value));

    data = runcoach_cache_get(cache, 1, key("number"), &len);
    value = *(uint64_t *) data + 1;
    memcpy(data, &value, len);

    data = runcoach_cache_get(cache, 1, key("number"), &len);
    ok(len == sizeof(value) && *(uint64_t *) data == 42, "changed in place");

    runcoach_cache_delete(cache, 1, key("token"));
    runcoach_cache_delete(cache, 1, key("token"));
    ok(has(cache, 1, key("token"), NULL), "removed, twice");

    (void) put(cache, 1, key("token"), "again");
    ok(has(cache, 1, key("token"), "again"), "and there again");

    runcoach_cache_free(cache);
}


static void
test_sizes(void)
{
    size_t             len;
    u_char            *token, *data;
    runcoach_cache_t  *cache;

    cache = table(8);
    token = calloc(1, RUNCOACH_CACHE_MAX_KEY + 1);

    ok(runcoach_cache_put(cache, 0, token, RUNCOACH_CACHE_MAX_KEY + 1, 1)
       == NULL, "a key that is too long");
    ok(runcoach_cache_get(cache, 0, token, RUNCOACH_CACHE_MAX_KEY + 1, &len)
       == NULL, "is not there");

    data = runcoach_cache_put(cache, 0, token, RUNCOACH_CACHE_MAX_KEY,
                              RUNCOACH_CACHE_MAX_DATA);
    if (data != NULL) {
        memset(data, 7, RUNCOACH_CACHE_MAX_DATA);
    }

    data = runcoach_cache_get(cache, 0, token, RUNCOACH_CACHE_MAX_KEY, &len);
    ok(data != NULL && len == RUNCOACH_CACHE_MAX_DATA
       && is_filled(data, len, 7), "the longest key and record");

    ok(size_of(cache) >= RUNCOACH_CACHE_MAX_KEY + RUNCOACH_CACHE_MAX_DATA,
       "take their memory");

    ok(runcoach_cache_put(cache, 0, token, RUNCOACH_CACHE_MAX_KEY,
                          RUNCOACH_CACHE_MAX_DATA + 1) == NULL
       && runcoach_cache_get(cache, 0, token, RUNCOACH_CACHE_MAX_KEY, &len)
          == NULL, "a record too long, and there is no entry any more");

    ok(size_of(cache) == 0, "nor its memory");

    (void) put(cache, 0, key("other"), "x");

    ok(runcoach_cache_put(cache, 0, key("more"), SIZE_MAX) == NULL
       && has(cache, 0, key("other"), "x"), "which costs nobody else his");

    free(token);
    runcoach_cache_free(cache);
}


static void
test_memory(void)
{
    size_t             before;
    u_char             k;
    unsigned           i;
    runcoach_cache_t  *cache;

    cache = table(RUNCOACH_CACHE_WAYS);

    for (k = 0; k < RUNCOACH_CACHE_WAYS; k++) {
        (void) runcoach_cache_put(cache, 0, &k, 1, 700);
    }

    before = mallocs;

    for (i = 0; i < 1000; i++) {
        k = (u_char) i;
        (void) runcoach_cache_put(cache, 0, &k, 1, 1 + number(700));
        k = (u_char) number(256);
        runcoach_cache_delete(cache, 0, &k, 1);
    }

    ok(mallocs == before, "memory is kept for the next");

    for (k = 0; k < RUNCOACH_CACHE_WAYS; k++) {
        (void) runcoach_cache_put(cache, 0, &k, 1, RUNCOACH_CACHE_MAX_DATA);
    }

    before = size_of(cache);

    for (k = 0; k < RUNCOACH_CACHE_WAYS; k++) {
        (void) runcoach_cache_put(cache, 0, &k, 1, 100);
    }

    ok(before >= RUNCOACH_CACHE_WAYS * RUNCOACH_CACHE_MAX_DATA
       && size_of(cache) == RUNCOACH_CACHE_WAYS * RUNCOACH_CACHE_STEP,
       "and cut when it was large");

    refuse = 1;

    k = 0;
    ok(runcoach_cache_put(cache, 0, &k, 1, 100) != NULL,
       "no memory is needed where there is some");

    ok(runcoach_cache_put(cache, 0, &k, 1, 5000) == NULL
       && has(cache, 0, &k, 1, NULL), "without memory there is no entry");

    refuse = 0;

    ok(put(cache, 0, &k, 1, "x") && has(cache, 0, &k, 1, "x"),
       "and later there is");

    runcoach_cache_free(cache);
}


static unsigned
list_find(const list_t *list, const item_t *item)
{
    unsigned  i;

    for (i = 0; i < list->n && list->item[i] != item; i++) {
        /* void */
    }

    return i;
}


static void
list_remove(list_t *list, unsigned i)
{
    list->n--;

    memmove(&list->item[i], &list->item[i + 1],
            (list->n - i) * sizeof(item_t *));
}


static void
list_push(list_t *list, item_t *item)
{
    if (list->n == RUNCOACH_CACHE_WAYS) {
        list->n--;
    }

    memmove(&list->item[1], &list->item[0], list->n * sizeof(item_t *));

    list->item[0] = item;
    list->n++;
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


/* each returns whether table and list agree */

static int
model_get(runcoach_cache_t *cache, list_t *list, item_t *item)
{
    size_t    len;
    u_char   *data;
    unsigned  i;

    i = list_find(list, item);
    data = runcoach_cache_get(cache, item->tag, item->key, item->n, &len);

    if (i == list->n) {
        return data == NULL;
    }

    list_remove(list, i);
    list_push(list, item);

    return data != NULL && len == item->len
           && is_filled(data, len, item->fill);
}


static int
model_put(runcoach_cache_t *cache, list_t *list, item_t *item)
{
    u_char    *data;
    unsigned   i;

    i = list_find(list, item);

    if (i != list->n) {
        list_remove(list, i);
    }

    item->len = number(number(10) ? 500 : LONGEST);
    item->fill = (u_char) number(256);

    data = runcoach_cache_put(cache, item->tag, item->key, item->n, item->len);

    if (data == NULL) {
        return 0;
    }

    memset(data, item->fill, item->len);

    list_push(list, item);

    return 1;
}


static int
model_delete(runcoach_cache_t *cache, list_t *list, item_t *item)
{
    unsigned  i;

    i = list_find(list, item);

    if (i != list->n) {
        list_remove(list, i);
    }

    runcoach_cache_delete(cache, item->tag, item->key, item->n);

    return has(cache, item->tag, item->key, item->n, NULL);
}


static void
test_model(void)
{
    size_t             i, j;
    list_t             lists[SETS], *list;
    item_t            *item, items[KEYS];
    unsigned           wrong, hits;
    runcoach_cache_t  *cache;

    cache = table(SETS * RUNCOACH_CACHE_WAYS);

    memset(lists, 0, sizeof(lists));

    for (i = 0; i < KEYS; i++) {
        item = &items[i];

        item->tag = i % 2;
        item->n = i / 2 + 1;
        item->key = malloc(item->n);

        for (j = 0; j < item->n; j++) {
            item->key[j] = (u_char) number(256);
        }

        item->set = runcoach_cache_hash(&cache->seed, item->tag, item->key,
                                        item->n) % SETS;
    }

    wrong = hits = 0;

    for (i = 0; i < OPERATIONS; i++) {

        /* some are asked for more often than others */

        item = &items[number(1 + number(KEYS))];
        list = &lists[item->set];

        hits += list_find(list, item) != list->n;

        switch (number(8)) {

        case 0:
            wrong += !model_delete(cache, list, item);
            break;

        case 1:
        case 2:
        case 3:
            wrong += !model_put(cache, list, item);
            break;

        default:
            wrong += !model_get(cache, list, item);
        }
    }

    ok(wrong == 0 && hits > OPERATIONS / 10 && hits < OPERATIONS * 9 / 10,
       "%u operations as in the model, %u on what was there, %u differ",
       OPERATIONS, hits, wrong);

    for (i = 0; i < KEYS; i++) {
        free(items[i].key);
    }

    runcoach_cache_free(cache);
}


int
main(void)
{
    test_hash();
    test_entries();
    test_tags();
    test_tails();
    test_collisions();
    test_lru();
    test_clock();
    test_replace();
    test_sizes();
    test_memory();
    test_model();

    return done();
}
