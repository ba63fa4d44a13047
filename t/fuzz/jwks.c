
/*
 * Whatever is in a document, a PEM or a secret, a key of a set is one which may
 * verify, and it verifies nothing that nobody has signed.
 */


#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>

#include "runcoach_json.h"
#include "runcoach_jwks.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static u_char *exactly(const uint8_t *data, size_t size, size_t more);
static void check_document(const uint8_t *data, size_t size);
static void check_kids(const runcoach_jwks_t *set, const u_char *json,
    size_t n);
static void check_single(const uint8_t *data, size_t size,
    runcoach_jwks_rc_e (*make)(runcoach_jwks_t **, const u_char *, size_t),
    unsigned algs);
static void check_set(runcoach_jwks_rc_e rc, const runcoach_jwks_t *set,
    unsigned algs, size_t max);
static void verify_nothing(const runcoach_jwks_t *set,
    const runcoach_str_t *kid);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_document(data, size);

    check_single(data, size, runcoach_jwks_from_pem, RUNCOACH_ALG_ANY);
    check_single(data, size, runcoach_jwks_from_secret, RUNCOACH_ALG_HMAC);

    holds(ERR_peek_error() == 0);

    return 0;
}


static u_char *
exactly(const uint8_t *data, size_t size, size_t more)
{
    u_char  *p;

    p = malloc(size + more + (size + more == 0));
    holds(p != NULL);

    memcpy(p, data, size);
    memset(p + size, ' ', more);

    return p;
}


/* white space after a document changes nothing, but perhaps its size */

static void
check_document(const uint8_t *data, size_t size)
{
    u_char              *src, *more;
    unsigned             skipped, skipped2;
    runcoach_jwks_t     *set, *again;
    runcoach_jwks_rc_e   rc;

    src = exactly(data, size, 0);
    more = exactly(data, size, 1);

    rc = runcoach_jwks_parse(&set, &skipped, src, size);
    check_set(rc, set, RUNCOACH_ALG_ANY, RUNCOACH_JWKS_MAX_KEYS);

    if (set != NULL) {
        holds(runcoach_jwks_count(set) + skipped <= RUNCOACH_JWKS_MAX_KEYS);
        check_kids(set, src, size);
    }

    if (size < RUNCOACH_JWKS_MAX_SIZE) {
        holds(runcoach_jwks_parse(&again, &skipped2, more, size + 1) == rc);
        holds(skipped == skipped2);
        holds(set == NULL
              || memcmp(runcoach_jwks_digest(set), runcoach_jwks_digest(again),
                        RUNCOACH_JWKS_DIGEST)
                 == 0);

        runcoach_jwks_free(again);
    }

    runcoach_jwks_free(set);
    free(src);
    free(more);
}


static void
check_kids(const runcoach_jwks_t *set, const u_char *json, size_t n)
{
    size_t                       i;
    runcoach_json_t              doc;
    const runcoach_json_node_t  *keys, *jwk, *kid;

    verify_nothing(set, NULL);

    doc.max = runcoach_json_max_nodes(n);
    doc.nodes = malloc(doc.max * sizeof(runcoach_json_node_t));
    doc.size = n;
    doc.buf = malloc(n);
    holds(doc.nodes != NULL && doc.buf != NULL);

    holds(runcoach_json_parse(&doc, json, n, 32) == RUNCOACH_JSON_OK);

    keys = runcoach_json_member(&doc, doc.nodes, (u_char *) "keys", 4);
    i = 0;

    for (jwk = runcoach_json_first(&doc, keys);
         jwk != NULL;
         jwk = runcoach_json_next(&doc, keys, jwk))
    {
        kid = runcoach_json_member(&doc, jwk, (u_char *) "kid", 3);

        if (kid != NULL && i++ < 4) {
            verify_nothing(set, &kid->value);
        }
    }

    free(doc.nodes);
    free(doc.buf);
}


static void
check_single(const uint8_t *data, size_t size,
    runcoach_jwks_rc_e (*make)(runcoach_jwks_t **, const u_char *, size_t),
    unsigned algs)
{
    u_char              *src;
    runcoach_jwks_t     *set, *again;
    runcoach_jwks_rc_e   rc;

    src = exactly(data, size, 0);

    rc = make(&set, src, size);
    check_set(rc, set, algs, 1);

    holds(make(&again, src, size) == rc);

    if (set != NULL) {
        holds(memcmp(runcoach_jwks_digest(set), runcoach_jwks_digest(again),
                     RUNCOACH_JWKS_DIGEST)
              == 0);
        verify_nothing(set, NULL);
    }

    runcoach_jwks_free(set);
    runcoach_jwks_free(again);
    free(src);
}


static void
check_set(runcoach_jwks_rc_e rc, const runcoach_jwks_t *set, unsigned algs,
    size_t max)
{
    holds((rc == RUNCOACH_JWKS_OK) == (set != NULL));

    if (set == NULL) {
        return;
    }

    holds(runcoach_jwks_count(set) >= 1 && runcoach_jwks_count(set) <= max);
    holds(runcoach_jwks_algs(set) != 0);
    holds((runcoach_jwks_algs(set) & ~algs) == 0);
}


/* signatures of every length that a key may want, and of one of none */

static void
verify_nothing(const runcoach_jwks_t *set, const runcoach_str_t *kid)
{
    size_t                    i, j;
    u_char                   *bytes;
    unsigned                  alg;
    runcoach_str_t            signature;
    runcoach_jwks_verdict_e   verdict;

    static const runcoach_str_t  text = runcoach_string("e30.e30");

    static const size_t  sizes[] = { 0, 32, 48, 64, 96, 132, 256, 512 };

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        bytes = malloc(sizes[i] + 1);
        holds(bytes != NULL);

        for (j = 0; j < sizes[i]; j++) {
            bytes[j] = (u_char) (j * 29 + 1);
        }

        signature.data = bytes;
        signature.len = sizes[i];

        for (alg = 1; alg <= RUNCOACH_ALG_HS512 << 1; alg <<= 1) {
            verdict = runcoach_jwks_verify(set, kid, alg, &text, &signature);

            holds(verdict != RUNCOACH_JWKS_VERIFIED);
            holds((runcoach_jwks_algs(set) & alg) != 0
                  || verdict == RUNCOACH_JWKS_UNKNOWN);
        }

        free(bytes);
    }
}
