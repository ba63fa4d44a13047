
/*
 * Whatever is in a document or a PEM, a key of a set is one which may verify.
 */


#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>

#include "runcoach_jwks.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(runcoach_jwks_rc_e rc, const runcoach_jwks_t *set, int pem);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char              *src;
    unsigned             skipped;
    runcoach_jwks_t     *set;
    runcoach_jwks_rc_e   rc;

    src = malloc(size + (size == 0));
    holds(src != NULL);
    memcpy(src, data, size);

    rc = runcoach_jwks_parse(&set, &skipped, src, size);
    check(rc, set, 0);
    runcoach_jwks_free(set);

    rc = runcoach_jwks_from_pem(&set, src, size);
    check(rc, set, 1);
    runcoach_jwks_free(set);

    holds(ERR_peek_error() == 0);

    free(src);

    return 0;
}


static void
check(runcoach_jwks_rc_e rc, const runcoach_jwks_t *set, int pem)
{
    size_t                 i, n;
    const runcoach_jwk_t  *key;

    holds((rc == RUNCOACH_JWKS_OK) == (set != NULL));

    if (set == NULL) {
        return;
    }

    n = runcoach_jwks_count(set);
    holds(n >= 1 && n <= (pem ? 1 : RUNCOACH_JWKS_MAX_KEYS));

    for (i = 0; i < n; i++) {
        key = runcoach_jwks_key(set, i);

        holds((key->kid.len == 0) == pem);
        holds(key->algs == RUNCOACH_ALG_RS256);
        holds(EVP_PKEY_get_base_id(key->pkey) == EVP_PKEY_RSA);
        holds(EVP_PKEY_get_bits(key->pkey) >= 2048);
        holds(EVP_PKEY_get_bits(key->pkey) <= 8192);
    }
}
