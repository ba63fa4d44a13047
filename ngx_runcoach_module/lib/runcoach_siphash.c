
#include <endian.h>
#include <string.h>

#include "runcoach_siphash.h"


#define RUNCOACH_SIPHASH_STEP  32       /* bytes of a step of the loop */


#define runcoach_siphash_rotl(x, b)  (((x) << (b)) | ((x) >> (64 - (b))))

#define runcoach_siphash_round(v)                                             \
    (v)[0] += (v)[1]; (v)[2] += (v)[3];                                       \
    (v)[1] = runcoach_siphash_rotl((v)[1], 13);                               \
    (v)[3] = runcoach_siphash_rotl((v)[3], 16);                               \
    (v)[1] ^= (v)[0]; (v)[3] ^= (v)[2];                                       \
    (v)[0] = runcoach_siphash_rotl((v)[0], 32);                               \
    (v)[2] += (v)[1]; (v)[0] += (v)[3];                                       \
    (v)[1] = runcoach_siphash_rotl((v)[1], 17);                               \
    (v)[3] = runcoach_siphash_rotl((v)[3], 21);                               \
    (v)[1] ^= (v)[2]; (v)[3] ^= (v)[0];                                       \
    (v)[2] = runcoach_siphash_rotl((v)[2], 32)

#define runcoach_siphash_absorb(v, m)                                         \
    (v)[3] ^= (m);                                                            \
    runcoach_siphash_round(v);                                                \
    runcoach_siphash_round(v);                                                \
    (v)[0] ^= (m)


static inline void runcoach_siphash_start(uint64_t v[4],
    const runcoach_siphash_key_t *key);
static inline void runcoach_siphash_text(uint64_t v[4], const uint64_t *tag,
    const u_char *text, size_t n);
static inline uint64_t runcoach_siphash_rest(const u_char *text, size_t n);
static inline uint64_t runcoach_siphash_word(const u_char *p);
static inline uint64_t runcoach_siphash_end(uint64_t v[4]);


void
runcoach_siphash_key(runcoach_siphash_key_t *key,
    const u_char secret[RUNCOACH_SIPHASH_KEY])
{
    key->word[0] = runcoach_siphash_word(secret);
    key->word[1] = runcoach_siphash_word(secret + 8);
}


uint64_t
runcoach_siphash_64(const runcoach_siphash_key_t *key, const uint64_t *tag,
    const u_char *text, size_t n)
{
    uint64_t  v[4];

    runcoach_siphash_start(v, key);
    runcoach_siphash_text(v, tag, text, n);

    v[2] ^= 0xff;

    return runcoach_siphash_end(v);
}


void
runcoach_siphash_128(const runcoach_siphash_key_t *key, const uint64_t *tag,
    const u_char *text, size_t n, u_char mac[RUNCOACH_SIPHASH_128])
{
    uint64_t  v[4], half;

    runcoach_siphash_start(v, key);

    v[1] ^= 0xee;

    runcoach_siphash_text(v, tag, text, n);

    v[2] ^= 0xee;

    half = htole64(runcoach_siphash_end(v));
    memcpy(mac, &half, 8);

    v[1] ^= 0xdd;

    half = htole64(runcoach_siphash_end(v));
    memcpy(mac + 8, &half, 8);
}


static inline void
runcoach_siphash_start(uint64_t v[4], const runcoach_siphash_key_t *key)
{
    v[0] = key->word[0] ^ 0x736f6d6570736575;
    v[1] = key->word[1] ^ 0x646f72616e646f6d;
    v[2] = key->word[0] ^ 0x6c7967656e657261;
    v[3] = key->word[1] ^ 0x7465646279746573;
}


static inline void
runcoach_siphash_text(uint64_t v[4], const uint64_t *tag, const u_char *text,
    size_t n)
{
    size_t         i;
    uint64_t       m, size, s[4];

    /* of its own, so that the compiler keeps it in registers */

    memcpy(s, v, sizeof(s));

    size = n;

    if (tag != NULL) {
        size += 8;
        runcoach_siphash_absorb(s, *tag);
    }

    for (i = 0; n - i >= RUNCOACH_SIPHASH_STEP; i += RUNCOACH_SIPHASH_STEP) {
        m = runcoach_siphash_word(text + i);
        runcoach_siphash_absorb(s, m);

        m = runcoach_siphash_word(text + i + 8);
        runcoach_siphash_absorb(s, m);

        m = runcoach_siphash_word(text + i + 16);
        runcoach_siphash_absorb(s, m);

        m = runcoach_siphash_word(text + i + 24);
        runcoach_siphash_absorb(s, m);
    }

    for ( /* void */ ; n - i >= 8; i += 8) {
        m = runcoach_siphash_word(text + i);
        runcoach_siphash_absorb(s, m);
    }

    m = size << 56 | runcoach_siphash_rest(text, n);
    runcoach_siphash_absorb(s, m);

    memcpy(v, s, sizeof(s));
}


/* what is left after whole words: as the end of a word, where there is one */

static inline uint64_t
runcoach_siphash_rest(const u_char *text, size_t n)
{
    size_t    i, rest;
    uint64_t  m;

    rest = n % 8;

    if (rest == 0) {
        return 0;
    }

    if (n >= 8) {
        return runcoach_siphash_word(text + n - 8) >> (64 - 8 * rest);
    }

    for (m = 0, i = 0; i < rest; i++) {
        m |= (uint64_t) text[i] << (8 * i);
    }

    return m;
}


static inline uint64_t
runcoach_siphash_word(const u_char *p)
{
    uint64_t  m;

    memcpy(&m, p, 8);

    return le64toh(m);
}


static inline uint64_t
runcoach_siphash_end(uint64_t v[4])
{
    runcoach_siphash_round(v);
    runcoach_siphash_round(v);
    runcoach_siphash_round(v);
    runcoach_siphash_round(v);

    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
