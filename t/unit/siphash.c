
#include "../../ngx_runcoach_module/lib/runcoach_siphash.c"

#include <stdlib.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include "tap.h"


#define LENGTHS  201
#define RANDOM   500
#define LONGEST  9000


static uint64_t number(uint64_t limit);
static void hex(char *text, const u_char *data, size_t n);
static int peer(EVP_MAC_CTX *ctx, const u_char *secret, const uint64_t *tag,
    const u_char *text, size_t n, size_t size, u_char *mac);
static int same(EVP_MAC_CTX *ctx, const u_char *secret, const uint64_t *tag,
    const u_char *data, size_t n);
static void test_vectors(void);
static void test_peer(void);


static uint64_t  state = 88172645463325252;


static uint64_t
number(uint64_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;

    return state % limit;
}


static void
hex(char *text, const u_char *data, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        sprintf(text + 2 * i, "%02x", data[i]);
    }
}


/* those of the authors: of the bytes 0, 1, 2, ... with such a key */

static void
test_vectors(void)
{
    char                    got[2 * RUNCOACH_SIPHASH_128 + 1], name[80];
    size_t                  i;
    u_char                  text[64], mac[RUNCOACH_SIPHASH_128];
    uint64_t                value, tag;
    runcoach_siphash_key_t  k;

    static const struct {
        size_t       n;
        const char  *value;
        const char  *wide;
    } rows[] = {
        { 0, "310e0edd47db6f72", "a3817f04ba25a8e66df67214c7550293" },
        { 1, "fd67dc93c539f874", "da87c1d86b99af44347659119b22fc45" },
        { 7, "37d1018bf50002ab", "a1f1ebbed8dbc153c0b84aa61ff08239" },
        { 8, "6224939a79f5f593", "3b62a9ba6258f5610f83e264f31497b4" },
        { 9, "b0e4a90bdf82009e", "264499060ad9baabc47f8b02bb6d71ed" },
        { 15, "e545be4961ca29a1", "5493e99933b0a8117e08ec0f97cfc3d9" },
        { 16, "db9bc2577fcc2a3f", "6ee2a4ca67b054bbfd3315bf85230577" },
        { 31, "42c341d8fa92d832", "2939b0183223fafc1723de4f52c43d35" },
        { 32, "ce7cf2722f512771", "7c3956ca5eeafc3e363e9d556546eb68" },
        { 33, "e37859f94623f3a7", "77c6077146f01c32b6b69d5f4ea9ffcf" },
        { 63, "724506eb4c328a95", "5150d1772f50834a503e069a973fbd7c" },
    };

    for (i = 0; i < sizeof(text); i++) {
        text[i] = (u_char) i;
    }

    runcoach_siphash_key(&k, text);

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        value = htole64(runcoach_siphash_64(&k, NULL, text, rows[i].n));

        hex(got, (u_char *) &value, sizeof(value));
        sprintf(name, "64 bits of %zu bytes", rows[i].n);
        is_str(got, rows[i].value, name);

        runcoach_siphash_128(&k, NULL, text, rows[i].n, mac);

        hex(got, mac, sizeof(mac));
        sprintf(name, "128 bits of %zu bytes", rows[i].n);
        is_str(got, rows[i].wide, name);

        if (rows[i].n < 8) {
            continue;
        }

        /* the first eight as a tag */

        tag = runcoach_siphash_word(text);
        runcoach_siphash_128(&k, &tag, text + 8, rows[i].n - 8, mac);

        hex(got, mac, sizeof(mac));
        sprintf(name, "128 bits of a tag and %zu bytes", rows[i].n - 8);
        is_str(got, rows[i].wide, name);
    }

    value = htole64(runcoach_siphash_64(&k, NULL, NULL, 0));
    hex(got, (u_char *) &value, sizeof(value));
    is_str(got, rows[0].value, "no text at all");
}


static int
peer(EVP_MAC_CTX *ctx, const u_char *secret, const uint64_t *tag,
    const u_char *text, size_t n, size_t size, u_char *mac)
{
    size_t      len;
    uint64_t    word;
    OSSL_PARAM  params[2];

    params[0] = OSSL_PARAM_construct_size_t("size", &size);
    params[1] = OSSL_PARAM_construct_end();

    word = tag ? htole64(*tag) : 0;

    return EVP_MAC_init(ctx, secret, RUNCOACH_SIPHASH_KEY, params) == 1
           && (tag == NULL
               || EVP_MAC_update(ctx, (u_char *) &word, sizeof(word)) == 1)
           && EVP_MAC_update(ctx, text, n) == 1
           && EVP_MAC_final(ctx, mac, &len, size) == 1
           && len == size;
}


/* in memory of exactly that size, which does not begin where a word does */

static int
same(EVP_MAC_CTX *ctx, const u_char *secret, const uint64_t *tag,
    const u_char *data, size_t n)
{
    int                     rc;
    u_char                 *memory, *text;
    u_char                  mac[RUNCOACH_SIPHASH_128];
    u_char                  expected[RUNCOACH_SIPHASH_128];
    uint64_t                value;
    runcoach_siphash_key_t  k;

    memory = malloc(n + 3);

    if (memory == NULL) {
        abort();
    }

    text = memcpy(memory + 3, data, n);

    runcoach_siphash_key(&k, secret);

    value = htole64(runcoach_siphash_64(&k, tag, text, n));

    rc = peer(ctx, secret, tag, text, n, 8, expected)
         && memcmp(&value, expected, 8) == 0;

    runcoach_siphash_128(&k, tag, text, n, mac);

    rc = rc && peer(ctx, secret, tag, text, n, sizeof(mac), expected)
         && memcmp(mac, expected, sizeof(mac)) == 0;

    free(memory);

    return rc;
}


static void
test_peer(void)
{
    size_t        n, i, k;
    u_char        secret[RUNCOACH_SIPHASH_KEY], data[LONGEST];
    EVP_MAC      *siphash;
    uint64_t      tag;
    unsigned      wrong;
    EVP_MAC_CTX  *ctx;

    siphash = EVP_MAC_fetch(NULL, "SIPHASH", NULL);

    if (siphash == NULL) {
        skip("this OpenSSL has no SipHash");
        return;
    }

    ctx = EVP_MAC_CTX_new(siphash);
    wrong = 0;

    for (i = 0; i < LENGTHS + RANDOM; i++) {
        n = i < LENGTHS ? i : number(LONGEST);
        tag = number(UINT64_MAX);

        for (k = 0; k < sizeof(secret); k++) {
            secret[k] = (u_char) number(256);
        }

        for (k = 0; k < n; k++) {
            data[k] = (u_char) number(256);
        }

        wrong += !same(ctx, secret, NULL, data, n);
        wrong += !same(ctx, secret, &tag, data, n);
    }

    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(siphash);

    ok(wrong == 0, "%zu texts, with a tag and without, as OpenSSL has them, "
       "%u differ", i, wrong);
}


int
main(void)
{
    test_vectors();
    test_peer();

    return done();
}
