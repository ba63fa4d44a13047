
/*
 * What one worker remembers of credentials it has checked.  Bounded: a table
 * of sets of RUNCOACH_CACHE_WAYS entries, of which the one used longest ago
 * makes room.  Pure: no I/O, no clock, no lock; allocates with malloc().
 *
 * An entry is found by a keyed hash of the end of its key, and is the right
 * one only if all of the key is equal.  The end of a token is its signature,
 * which nobody can choose who cannot sign; so whoever fills the table with keys
 * that were not verified uses a table of their own for that.
 */


#ifndef _RUNCOACH_CACHE_H_INCLUDED_
#define _RUNCOACH_CACHE_H_INCLUDED_


#include <stdint.h>

#include "runcoach_siphash.h"


#define RUNCOACH_CACHE_WAYS         8
#define RUNCOACH_CACHE_SEED         RUNCOACH_SIPHASH_KEY
#define RUNCOACH_CACHE_TAIL         24       /* bytes of a key, hashed */
#define RUNCOACH_CACHE_MAX_ENTRIES  1048576
#define RUNCOACH_CACHE_MAX_KEY      8192
#define RUNCOACH_CACHE_MAX_DATA     16384    /* bytes of a record */


typedef struct runcoach_cache_s  runcoach_cache_t;


/*
 * Makes a table of at least entries entries, rounded up to whole sets, a power
 * of two of them.  The memory of an entry is allocated when it is first needed,
 * kept for the next, and cut when it was a large one.  seed is secret and
 * random.  NULL: no memory, or entries is 0 or more than above.
 */

runcoach_cache_t *runcoach_cache_create(size_t entries,
    const u_char seed[RUNCOACH_CACHE_SEED]);
void runcoach_cache_free(runcoach_cache_t *cache);


/*
 * Finds the record of a key.  tag tells apart what the same key means in
 * different places, and is compared too.  Returns the record, which the caller
 * may read and change in place until the next put(), with its length in *len;
 * it is aligned for a 64-bit integer.  NULL: there is none.
 */

void *runcoach_cache_get(runcoach_cache_t *cache, uint64_t tag,
    const u_char *key, size_t n, size_t *len);


/*
 * Makes or replaces the entry of a key, with room for a record of len bytes,
 * which the caller fills in before anything else is done with the table.
 * NULL: no memory, or key or record are larger than above; there is then no
 * entry of that key.
 */

void *runcoach_cache_put(runcoach_cache_t *cache, uint64_t tag,
    const u_char *key, size_t n, size_t len);


/* removes the entry of a key, if there is one */

void runcoach_cache_delete(runcoach_cache_t *cache, uint64_t tag,
    const u_char *key, size_t n);


#endif /* _RUNCOACH_CACHE_H_INCLUDED_ */
