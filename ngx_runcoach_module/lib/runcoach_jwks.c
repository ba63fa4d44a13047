
/*
 * Keys come from outside: each is taken to its numbers, checked and built
 * anew here, once, so that what verifies a signature later may trust every key
 * of a set, wherever it came from.  A bad key costs the others nothing: an
 * issuer may publish kinds of keys which are not for us.
 *
 * All OpenSSL errors are taken off its queue again.  nginx would report them
 * at some innocent connection.
 */


#include <stdlib.h>
#include <string.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "runcoach_json.h"
#include "runcoach_jwks.h"


#define RUNCOACH_JWKS_MAX_DEPTH    32
#define RUNCOACH_JWKS_MAX_TRIES    2
#define RUNCOACH_JWKS_MIN_SECRET   32

#define RUNCOACH_RSA_MIN_BITS      2048
#define RUNCOACH_RSA_MAX_BITS      8192
#define RUNCOACH_RSA_MAX_E_BITS    32

#define RUNCOACH_EC_MAX_SIZE       66         /* bytes of P-521 */
#define RUNCOACH_ED25519_SIZE      32
#define RUNCOACH_ED25519_PAIR      64

/* two integers with a zero before each, and what is around them */

#define RUNCOACH_EC_MAX_DER        (2 * (RUNCOACH_EC_MAX_SIZE + 3) + 3)

/* base64 of three bytes more than the largest modulus is not even decoded */

#define RUNCOACH_JWKS_MAX_NUMBER   (RUNCOACH_RSA_MAX_BITS / 8 + 2)

#define RUNCOACH_JWKS_NHASHES      3
#define RUNCOACH_JWKS_MAX_HASH     64


typedef enum {
    RUNCOACH_JWKS_RSA = 0,
    RUNCOACH_JWKS_EC,
    RUNCOACH_JWKS_ED25519,
    RUNCOACH_JWKS_SECRET
} runcoach_jwks_type_e;


/* hash is an index of the table of hashes; pss chooses one of RSA's paddings */

typedef struct {
    runcoach_str_t                name;
    unsigned                      alg;
    runcoach_jwks_type_e          type;
    unsigned                      hash;
    unsigned                      pss;
} runcoach_jwks_alg_t;


typedef struct {
    const char                   *name;
    size_t                        size;
} runcoach_jwks_md_t;


/* size is that of a coordinate, and of half a signature */

typedef struct {
    runcoach_jwks_type_e          type;
    const char                   *kty;
    const char                   *crv;
    const char                   *group;      /* as OpenSSL calls it */
    int                           nid;
    size_t                        size;
    unsigned                      algs;
} runcoach_jwks_kind_t;


/* the numbers of a key: n and e, x and y, x alone, or a secret's bytes */

typedef struct {
    const runcoach_jwks_kind_t   *kind;
    size_t                        na;
    size_t                        nb;
    u_char                        a[RUNCOACH_JWKS_MAX_NUMBER];
    u_char                        b[RUNCOACH_JWKS_MAX_NUMBER];
} runcoach_jwks_raw_t;


typedef struct {
    runcoach_str_t                kid;        /* empty: any */
    unsigned                      algs;
    const runcoach_jwks_kind_t   *kind;
    EVP_PKEY                     *pkey;
    EVP_PKEY_CTX                 *verify[2][RUNCOACH_JWKS_NHASHES];
    EVP_MAC_CTX                  *mac[RUNCOACH_JWKS_NHASHES];
    u_char                        order[RUNCOACH_EC_MAX_SIZE];
    u_char                        digest[RUNCOACH_JWKS_DIGEST];
} runcoach_jwks_key_t;


typedef struct {
    EVP_MD                       *md;
    EVP_MD_CTX                   *ctx;
} runcoach_jwks_hash_t;


struct runcoach_jwks_s {
    size_t                        nkeys;
    unsigned                      algs;
    runcoach_jwks_key_t          *keys;
    runcoach_jwks_hash_t         *hashes;
    u_char                        digest[RUNCOACH_JWKS_DIGEST];
};


typedef EVP_PKEY *(*runcoach_jwks_der_pt)(const u_char **der, long n);


typedef struct {
    const char                   *label;
    runcoach_jwks_der_pt          parse;
} runcoach_jwks_pem_t;


static const runcoach_jwks_alg_t *runcoach_jwks_alg(unsigned alg);

static runcoach_jwks_rc_e runcoach_jwks_document(runcoach_jwks_t **set,
    unsigned *skipped, const runcoach_json_t *json);
static size_t runcoach_jwks_elements(const runcoach_json_t *json,
    const runcoach_json_node_t *array);
static runcoach_jwks_t *runcoach_jwks_create(size_t nkeys);
static runcoach_jwks_rc_e runcoach_jwks_add(runcoach_jwks_t *set,
    const runcoach_json_t *json, const runcoach_json_node_t *jwk);
static runcoach_jwks_rc_e runcoach_jwks_single(runcoach_jwks_t **set,
    const runcoach_jwks_raw_t *raw);

static const runcoach_json_node_t *runcoach_jwks_member(
    const runcoach_json_t *json, const runcoach_json_node_t *jwk,
    const char *name);
static int runcoach_jwks_is(const runcoach_json_node_t *node, const char *s);
static unsigned runcoach_jwks_policy(const runcoach_json_t *json,
    const runcoach_json_node_t *jwk, const runcoach_jwks_kind_t *kind);
static int runcoach_jwks_for_verifying(const runcoach_json_t *json,
    const runcoach_json_node_t *jwk);
static int runcoach_jwks_is_public(const runcoach_json_t *json,
    const runcoach_json_node_t *jwk);
static int runcoach_jwks_from_jwk(runcoach_jwks_raw_t *raw,
    const runcoach_json_t *json, const runcoach_json_node_t *jwk);
static size_t runcoach_jwks_octets(u_char *dst, const runcoach_json_t *json,
    const runcoach_json_node_t *jwk, const char *name);

static int runcoach_jwks_from_pkey(runcoach_jwks_raw_t *raw,
    const EVP_PKEY *pkey);
static const runcoach_jwks_kind_t *runcoach_jwks_pkey_kind(
    const EVP_PKEY *pkey);
static size_t runcoach_jwks_number(u_char *dst, const EVP_PKEY *pkey,
    const char *name, size_t size);

static int runcoach_jwks_build(runcoach_jwks_t *set, runcoach_jwks_key_t *key,
    const runcoach_jwks_raw_t *raw);
static EVP_PKEY *runcoach_jwks_rsa(const runcoach_jwks_raw_t *raw);
static int runcoach_jwks_rsa_check(const BIGNUM *n, const BIGNUM *e);
static int runcoach_jwks_roca(const BIGNUM *n);
static EVP_PKEY *runcoach_jwks_rsa_pkey(const BIGNUM *n, const BIGNUM *e);
static EVP_PKEY *runcoach_jwks_ec(const runcoach_jwks_raw_t *raw);
static int runcoach_jwks_ec_order(u_char *order,
    const runcoach_jwks_kind_t *kind);
static EVP_PKEY *runcoach_jwks_fromdata(const char *type,
    OSSL_PARAM_BLD *bld);
static EVP_PKEY *runcoach_jwks_ed25519(const runcoach_jwks_raw_t *raw);
static int runcoach_jwks_ed25519_check(const u_char *point);
static int runcoach_jwks_ed25519_point(BN_CTX *ctx, const u_char *point);
static int runcoach_jwks_secret(runcoach_jwks_key_t *key,
    const runcoach_jwks_raw_t *raw);
static EVP_MAC_CTX *runcoach_jwks_mac(EVP_MAC *mac, const char *md,
    const runcoach_jwks_raw_t *raw);

static int runcoach_jwks_key_digest(runcoach_jwks_t *set,
    runcoach_jwks_key_t *key, const runcoach_jwks_raw_t *raw);
static int runcoach_jwks_set_digest(runcoach_jwks_t *set);
static int runcoach_jwks_digest_compare(const void *one, const void *two);

static size_t runcoach_jwks_pem_text(u_char *dst, const u_char *pem, size_t n);
static const u_char *runcoach_jwks_pem_body(const u_char *text, size_t *n,
    const runcoach_jwks_pem_t **kind);
static EVP_PKEY *runcoach_jwks_pem_key(u_char *text, size_t n);
static EVP_PKEY *runcoach_jwks_der_any(const u_char *der, size_t n);
static EVP_PKEY *runcoach_jwks_der_key(const u_char *der, size_t n,
    runcoach_jwks_der_pt parse);
static EVP_PKEY *runcoach_jwks_der_spki(const u_char **der, long n);
static EVP_PKEY *runcoach_jwks_der_pkcs1(const u_char **der, long n);
static EVP_PKEY *runcoach_jwks_der_x509(const u_char **der, long n);
static int runcoach_jwks_looks_public(const u_char *secret, size_t n);

static void runcoach_jwks_key_free(runcoach_jwks_key_t *key);

static int runcoach_jwks_key_matches(const runcoach_jwks_key_t *key,
    const runcoach_str_t *kid, unsigned alg);
static int runcoach_jwks_try(const runcoach_jwks_t *set,
    runcoach_jwks_key_t *key, const runcoach_jwks_alg_t *alg,
    const runcoach_str_t *text, const runcoach_str_t *signature);
static int runcoach_jwks_try_hash(const runcoach_jwks_t *set,
    runcoach_jwks_key_t *key, const runcoach_jwks_alg_t *alg,
    const runcoach_str_t *text, const runcoach_str_t *signature);
static int runcoach_jwks_try_ecdsa(const runcoach_jwks_t *set,
    runcoach_jwks_key_t *key, const runcoach_jwks_alg_t *alg,
    const runcoach_str_t *text, const runcoach_str_t *signature);
static int runcoach_jwks_try_eddsa(const runcoach_jwks_key_t *key,
    const runcoach_str_t *text, const runcoach_str_t *signature);
static int runcoach_jwks_try_hmac(const runcoach_jwks_key_t *key,
    const runcoach_jwks_alg_t *alg, const runcoach_str_t *text,
    const runcoach_str_t *signature);
static int runcoach_jwks_no_memory(void);
static EVP_PKEY_CTX *runcoach_jwks_verifier(const runcoach_jwks_t *set,
    const runcoach_jwks_key_t *key, const runcoach_jwks_alg_t *alg);
static runcoach_jwks_hash_t *runcoach_jwks_hash(const runcoach_jwks_t *set,
    unsigned i);
static int runcoach_jwks_scalar(const runcoach_jwks_key_t *key,
    const u_char *scalar);
static u_char *runcoach_jwks_der_integer(u_char *p, const u_char *src,
    size_t n);


static const runcoach_jwks_md_t  runcoach_jwks_mds[RUNCOACH_JWKS_NHASHES] = {
    { "SHA2-256", 32 },
    { "SHA2-384", 48 },
    { "SHA2-512", 64 }
};


static const runcoach_jwks_alg_t  runcoach_jwks_algorithms[] = {
    { runcoach_string("RS256"), RUNCOACH_ALG_RS256, RUNCOACH_JWKS_RSA, 0, 0 },
    { runcoach_string("RS384"), RUNCOACH_ALG_RS384, RUNCOACH_JWKS_RSA, 1, 0 },
    { runcoach_string("RS512"), RUNCOACH_ALG_RS512, RUNCOACH_JWKS_RSA, 2, 0 },
    { runcoach_string("PS256"), RUNCOACH_ALG_PS256, RUNCOACH_JWKS_RSA, 0, 1 },
    { runcoach_string("PS384"), RUNCOACH_ALG_PS384, RUNCOACH_JWKS_RSA, 1, 1 },
    { runcoach_string("PS512"), RUNCOACH_ALG_PS512, RUNCOACH_JWKS_RSA, 2, 1 },
    { runcoach_string("ES256"), RUNCOACH_ALG_ES256, RUNCOACH_JWKS_EC, 0, 0 },
    { runcoach_string("ES384"), RUNCOACH_ALG_ES384, RUNCOACH_JWKS_EC, 1, 0 },
    { runcoach_string("ES512"), RUNCOACH_ALG_ES512, RUNCOACH_JWKS_EC, 2, 0 },
    { runcoach_string("EdDSA"), RUNCOACH_ALG_EDDSA, RUNCOACH_JWKS_ED25519,
      0, 0 },
    { runcoach_string("HS256"), RUNCOACH_ALG_HS256, RUNCOACH_JWKS_SECRET,
      0, 0 },
    { runcoach_string("HS384"), RUNCOACH_ALG_HS384, RUNCOACH_JWKS_SECRET,
      1, 0 },
    { runcoach_string("HS512"), RUNCOACH_ALG_HS512, RUNCOACH_JWKS_SECRET,
      2, 0 },
    { { 0, NULL }, 0, RUNCOACH_JWKS_RSA, 0, 0 }
};


/* "oct" is of no document: it comes last, behind what ends the others */

static const runcoach_jwks_kind_t  runcoach_jwks_kinds[] = {
    { RUNCOACH_JWKS_RSA, "RSA", NULL, NULL, 0, 0,
      RUNCOACH_ALG_RS256|RUNCOACH_ALG_RS384|RUNCOACH_ALG_RS512
      |RUNCOACH_ALG_PS256|RUNCOACH_ALG_PS384|RUNCOACH_ALG_PS512 },
    { RUNCOACH_JWKS_EC, "EC", "P-256", "prime256v1", NID_X9_62_prime256v1, 32,
      RUNCOACH_ALG_ES256 },
    { RUNCOACH_JWKS_EC, "EC", "P-384", "secp384r1", NID_secp384r1, 48,
      RUNCOACH_ALG_ES384 },
    { RUNCOACH_JWKS_EC, "EC", "P-521", "secp521r1", NID_secp521r1, 66,
      RUNCOACH_ALG_ES512 },
    { RUNCOACH_JWKS_ED25519, "OKP", "Ed25519", NULL, 0, RUNCOACH_ED25519_SIZE,
      RUNCOACH_ALG_EDDSA },
    { RUNCOACH_JWKS_SECRET, NULL, NULL, NULL, 0, 0, 0 }
};


static const runcoach_jwks_pem_t  runcoach_jwks_pems[] = {
    { "PUBLIC KEY", runcoach_jwks_der_spki },
    { "RSA PUBLIC KEY", runcoach_jwks_der_pkcs1 },
    { "CERTIFICATE", runcoach_jwks_der_x509 },
    { NULL, NULL }
};


unsigned
runcoach_alg(const u_char *name, size_t n)
{
    const runcoach_jwks_alg_t  *row;

    for (row = runcoach_jwks_algorithms; row->alg != 0; row++) {

        if (row->name.len == n && memcmp(row->name.data, name, n) == 0) {
            return row->alg;
        }
    }

    return 0;
}


static const runcoach_jwks_alg_t *
runcoach_jwks_alg(unsigned alg)
{
    const runcoach_jwks_alg_t  *row;

    for (row = runcoach_jwks_algorithms; row->alg != 0; row++) {
        if (row->alg == alg) {
            return row;
        }
    }

    return NULL;
}


runcoach_jwks_rc_e
runcoach_jwks_parse(runcoach_jwks_t **set, unsigned *skipped,
    const u_char *json, size_t n)
{
    unsigned             nskipped;
    runcoach_json_t      doc;
    runcoach_jwks_rc_e   rc;

    *set = NULL;
    nskipped = 0;

    if (n > RUNCOACH_JWKS_MAX_SIZE) {
        return RUNCOACH_JWKS_TOO_LARGE;
    }

    doc.max = runcoach_json_max_nodes(n);
    doc.nodes = malloc(doc.max * sizeof(runcoach_json_node_t));
    doc.size = n;
    doc.buf = malloc(n + 1);

    if (doc.nodes == NULL || doc.buf == NULL) {
        rc = RUNCOACH_JWKS_NO_MEMORY;
        goto done;
    }

    if (runcoach_json_parse(&doc, json, n, RUNCOACH_JWKS_MAX_DEPTH)
        != RUNCOACH_JSON_OK)
    {
        rc = RUNCOACH_JWKS_NOT_JSON;
        goto done;
    }

    ERR_set_mark();
    rc = runcoach_jwks_document(set, &nskipped, &doc);
    ERR_pop_to_mark();

done:

    if (skipped != NULL) {
        *skipped = nskipped;
    }

    free(doc.nodes);
    free(doc.buf);

    return rc;
}


static runcoach_jwks_rc_e
runcoach_jwks_document(runcoach_jwks_t **set, unsigned *skipped,
    const runcoach_json_t *json)
{
    size_t                       n;
    runcoach_jwks_t             *jwks;
    runcoach_jwks_rc_e           rc;
    const runcoach_json_node_t  *keys, *jwk;

    keys = runcoach_jwks_member(json, json->nodes, "keys");

    if (keys == NULL || keys->type != RUNCOACH_JSON_ARRAY) {
        return RUNCOACH_JWKS_NOT_JSON;
    }

    n = runcoach_jwks_elements(json, keys);

    if (n > RUNCOACH_JWKS_MAX_KEYS) {
        return RUNCOACH_JWKS_TOO_LARGE;
    }

    jwks = runcoach_jwks_create(n);
    if (jwks == NULL) {
        return RUNCOACH_JWKS_NO_MEMORY;
    }

    for (jwk = runcoach_json_first(json, keys);
         jwk != NULL;
         jwk = runcoach_json_next(json, keys, jwk))
    {
        rc = runcoach_jwks_add(jwks, json, jwk);

        if (rc == RUNCOACH_JWKS_NO_MEMORY) {
            goto failed;
        }

        *skipped += (rc != RUNCOACH_JWKS_OK);
    }

    if (jwks->nkeys == 0) {
        rc = RUNCOACH_JWKS_NO_KEY;
        goto failed;
    }

    if (!runcoach_jwks_set_digest(jwks)) {
        rc = RUNCOACH_JWKS_NO_MEMORY;
        goto failed;
    }

    *set = jwks;

    return RUNCOACH_JWKS_OK;

failed:

    runcoach_jwks_free(jwks);

    return rc;
}


static size_t
runcoach_jwks_elements(const runcoach_json_t *json,
    const runcoach_json_node_t *array)
{
    size_t                       n;
    const runcoach_json_node_t  *node;

    n = 0;

    for (node = runcoach_json_first(json, array);
         node != NULL;
         node = runcoach_json_next(json, array, node))
    {
        n++;
    }

    return n;
}


static runcoach_jwks_t *
runcoach_jwks_create(size_t nkeys)
{
    runcoach_jwks_t  *set;

    set = calloc(1, sizeof(runcoach_jwks_t));
    if (set == NULL) {
        return NULL;
    }

    set->keys = calloc(nkeys + 1, sizeof(runcoach_jwks_key_t));
    set->hashes = calloc(RUNCOACH_JWKS_NHASHES, sizeof(runcoach_jwks_hash_t));

    if (set->keys == NULL || set->hashes == NULL) {
        runcoach_jwks_free(set);
        return NULL;
    }

    return set;
}


static runcoach_jwks_rc_e
runcoach_jwks_add(runcoach_jwks_t *set, const runcoach_json_t *json,
    const runcoach_json_node_t *jwk)
{
    u_char                      *p;
    runcoach_jwks_key_t         *key;
    runcoach_jwks_raw_t          raw;
    const runcoach_json_node_t  *kid;

    kid = runcoach_jwks_member(json, jwk, "kid");

    if (kid == NULL
        || kid->type != RUNCOACH_JSON_STRING
        || kid->value.len == 0
        || !runcoach_jwks_for_verifying(json, jwk)
        || !runcoach_jwks_is_public(json, jwk)
        || !runcoach_jwks_from_jwk(&raw, json, jwk))
    {
        return RUNCOACH_JWKS_NO_KEY;
    }

    key = &set->keys[set->nkeys];

    key->algs = runcoach_jwks_policy(json, jwk, raw.kind);

    if (key->algs == 0) {
        return RUNCOACH_JWKS_NO_KEY;
    }

    p = malloc(kid->value.len);
    if (p == NULL) {
        return RUNCOACH_JWKS_NO_MEMORY;
    }

    memcpy(p, kid->value.data, kid->value.len);

    key->kid.len = kid->value.len;
    key->kid.data = p;

    if (!runcoach_jwks_build(set, key, &raw)) {
        return RUNCOACH_JWKS_NO_KEY;
    }

    return RUNCOACH_JWKS_OK;
}


static const runcoach_json_node_t *
runcoach_jwks_member(const runcoach_json_t *json,
    const runcoach_json_node_t *jwk, const char *name)
{
    return runcoach_json_member(json, jwk, (const u_char *) name,
                                strlen(name));
}


static int
runcoach_jwks_is(const runcoach_json_node_t *node, const char *s)
{
    return node != NULL
           && node->type == RUNCOACH_JSON_STRING
           && node->value.len == strlen(s)
           && memcmp(node->value.data, s, node->value.len) == 0;
}


/*
 * The algorithm belongs to the key: a token can choose among what is set
 * here, and never beyond.  Without a name it is all that the kind can do.
 */

static unsigned
runcoach_jwks_policy(const runcoach_json_t *json,
    const runcoach_json_node_t *jwk, const runcoach_jwks_kind_t *kind)
{
    const runcoach_json_node_t  *alg;

    alg = runcoach_jwks_member(json, jwk, "alg");

    if (alg == NULL) {
        return kind->algs;
    }

    if (alg->type != RUNCOACH_JSON_STRING) {
        return 0;
    }

    return kind->algs & runcoach_alg(alg->value.data, alg->value.len);
}


static int
runcoach_jwks_for_verifying(const runcoach_json_t *json,
    const runcoach_json_node_t *jwk)
{
    const runcoach_json_node_t  *use, *ops, *op;

    use = runcoach_jwks_member(json, jwk, "use");

    if (use != NULL && !runcoach_jwks_is(use, "sig")) {
        return 0;
    }

    ops = runcoach_jwks_member(json, jwk, "key_ops");

    if (ops == NULL) {
        return 1;
    }

    if (ops->type != RUNCOACH_JSON_ARRAY) {
        return 0;
    }

    for (op = runcoach_json_first(json, ops);
         op != NULL;
         op = runcoach_json_next(json, ops, op))
    {
        if (runcoach_jwks_is(op, "verify")) {
            return 1;
        }
    }

    return 0;
}


/*
 * A private key that somebody published is nobody's key any more.
 */

static int
runcoach_jwks_is_public(const runcoach_json_t *json,
    const runcoach_json_node_t *jwk)
{
    const char *const  *name;

    static const char *const  private[] = {
        "d", "p", "q", "dp", "dq", "qi", "oth", "k", NULL
    };

    for (name = private; *name != NULL; name++) {
        if (runcoach_jwks_member(json, jwk, *name) != NULL) {
            return 0;
        }
    }

    return 1;
}


/*
 * RFC 7518 section 6 and RFC 8037 section 2: n and e have as few octets as the
 * number needs, x and y as many as the field has.
 */

static int
runcoach_jwks_from_jwk(runcoach_jwks_raw_t *raw, const runcoach_json_t *json,
    const runcoach_json_node_t *jwk)
{
    const runcoach_json_node_t  *kty, *crv;
    const runcoach_jwks_kind_t  *kind;

    kty = runcoach_jwks_member(json, jwk, "kty");
    crv = runcoach_jwks_member(json, jwk, "crv");

    for (kind = runcoach_jwks_kinds; kind->kty != NULL; kind++) {

        if (runcoach_jwks_is(kty, kind->kty)
            && (kind->crv == NULL || runcoach_jwks_is(crv, kind->crv)))
        {
            break;
        }
    }

    raw->kind = kind;
    raw->nb = 0;

    switch (kind->type) {

    case RUNCOACH_JWKS_RSA:
        raw->na = runcoach_jwks_octets(raw->a, json, jwk, "n");
        raw->nb = runcoach_jwks_octets(raw->b, json, jwk, "e");

        return raw->na != 0 && raw->a[0] != 0
               && raw->nb != 0 && raw->b[0] != 0;

    case RUNCOACH_JWKS_EC:
        raw->na = runcoach_jwks_octets(raw->a, json, jwk, "x");
        raw->nb = runcoach_jwks_octets(raw->b, json, jwk, "y");

        return raw->na == kind->size && raw->nb == kind->size;

    case RUNCOACH_JWKS_ED25519:
        raw->na = runcoach_jwks_octets(raw->a, json, jwk, "x");

        return raw->na == kind->size;

    default:
        return 0;
    }
}


/* the member decoded, or 0: absent, no string, not canonical, or too long */

static size_t
runcoach_jwks_octets(u_char *dst, const runcoach_json_t *json,
    const runcoach_json_node_t *jwk, const char *name)
{
    ssize_t                      n;
    const runcoach_json_node_t  *node;

    node = runcoach_jwks_member(json, jwk, name);

    if (node == NULL
        || node->type != RUNCOACH_JSON_STRING
        || runcoach_base64_decoded_max(node->value.len)
           > RUNCOACH_JWKS_MAX_NUMBER)
    {
        return 0;
    }

    n = runcoach_base64url_decode(dst, node->value.data, node->value.len);

    return (n > 0) ? (size_t) n : 0;
}


static int
runcoach_jwks_from_pkey(runcoach_jwks_raw_t *raw, const EVP_PKEY *pkey)
{
    const runcoach_jwks_kind_t  *kind;

    kind = runcoach_jwks_pkey_kind(pkey);

    raw->kind = kind;
    raw->nb = 0;

    switch (kind->type) {

    case RUNCOACH_JWKS_RSA:
        raw->na = runcoach_jwks_number(raw->a, pkey, OSSL_PKEY_PARAM_RSA_N, 0);
        raw->nb = runcoach_jwks_number(raw->b, pkey, OSSL_PKEY_PARAM_RSA_E, 0);

        return raw->na != 0 && raw->nb != 0;

    case RUNCOACH_JWKS_EC:
        raw->na = runcoach_jwks_number(raw->a, pkey, OSSL_PKEY_PARAM_EC_PUB_X,
                                       kind->size);
        raw->nb = runcoach_jwks_number(raw->b, pkey, OSSL_PKEY_PARAM_EC_PUB_Y,
                                       kind->size);

        return raw->na != 0 && raw->nb != 0;

    case RUNCOACH_JWKS_ED25519:
        raw->na = sizeof(raw->a);

        return EVP_PKEY_get_raw_public_key(pkey, raw->a, &raw->na) == 1
               && raw->na == kind->size;

    default:
        return 0;
    }
}


/* RSASSA-PSS keys have another id, and may not verify PKCS #1 v1.5 */

static const runcoach_jwks_kind_t *
runcoach_jwks_pkey_kind(const EVP_PKEY *pkey)
{
    int                          id;
    char                         group[32];
    const runcoach_jwks_kind_t  *kind;

    id = EVP_PKEY_get_base_id(pkey);
    group[0] = '\0';

    if (id == EVP_PKEY_EC
        && EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) != 1)
    {
        group[0] = '\0';
    }

    for (kind = runcoach_jwks_kinds; kind->kty != NULL; kind++) {

        if ((kind->type == RUNCOACH_JWKS_RSA && id == EVP_PKEY_RSA)
            || (kind->type == RUNCOACH_JWKS_ED25519 && id == EVP_PKEY_ED25519)
            || (kind->type == RUNCOACH_JWKS_EC
                && strcmp(group, kind->group) == 0))
        {
            break;
        }
    }

    return kind;
}


/* the length of a number; size 0: as short as it is */

static size_t
runcoach_jwks_number(u_char *dst, const EVP_PKEY *pkey, const char *name,
    size_t size)
{
    int      n;
    BIGNUM  *bn;

    bn = NULL;
    n = 0;

    if (EVP_PKEY_get_bn_param(pkey, name, &bn) == 1) {

        if (size == 0) {
            size = BN_num_bytes(bn);
        }

        if (size <= RUNCOACH_JWKS_MAX_NUMBER) {
            n = BN_bn2binpad(bn, dst, (int) size);
        }
    }

    BN_free(bn);

    return (n > 0) ? (size_t) n : 0;
}


/*
 * Makes a key of its numbers, if they are fit for it, and counts it; else the
 * key is freed.
 */

static int
runcoach_jwks_build(runcoach_jwks_t *set, runcoach_jwks_key_t *key,
    const runcoach_jwks_raw_t *raw)
{
    int  built;

    key->kind = raw->kind;
    built = 0;

    switch (raw->kind->type) {

    case RUNCOACH_JWKS_RSA:
        key->pkey = runcoach_jwks_rsa(raw);
        built = (key->pkey != NULL);
        break;

    case RUNCOACH_JWKS_EC:
        key->pkey = runcoach_jwks_ec(raw);
        built = key->pkey != NULL
                && runcoach_jwks_ec_order(key->order, raw->kind);
        break;

    case RUNCOACH_JWKS_ED25519:
        key->pkey = runcoach_jwks_ed25519(raw);
        built = (key->pkey != NULL);
        break;

    case RUNCOACH_JWKS_SECRET:
        built = runcoach_jwks_secret(key, raw);
        break;
    }

    if (!built || !runcoach_jwks_key_digest(set, key, raw)) {
        runcoach_jwks_key_free(key);
        return 0;
    }

    set->nkeys++;
    set->algs |= key->algs;

    return 1;
}


static EVP_PKEY *
runcoach_jwks_rsa(const runcoach_jwks_raw_t *raw)
{
    BIGNUM    *n, *e;
    EVP_PKEY  *pkey;

    n = BN_bin2bn(raw->a, (int) raw->na, NULL);
    e = BN_bin2bn(raw->b, (int) raw->nb, NULL);
    pkey = NULL;

    if (n != NULL && e != NULL && runcoach_jwks_rsa_check(n, e)) {
        pkey = runcoach_jwks_rsa_pkey(n, e);
    }

    BN_free(n);
    BN_free(e);

    return pkey;
}


static int
runcoach_jwks_rsa_check(const BIGNUM *n, const BIGNUM *e)
{
    return BN_num_bits(n) >= RUNCOACH_RSA_MIN_BITS
           && BN_num_bits(n) <= RUNCOACH_RSA_MAX_BITS
           && BN_is_odd(n)
           && BN_num_bits(e) <= RUNCOACH_RSA_MAX_E_BITS
           && BN_is_odd(e)
           && !BN_is_one(e)
           && !runcoach_jwks_roca(n);
}


/*
 * CVE-2017-15361: moduli of a broken generator are powers of 65537 modulo each
 * of these primes, and others hardly ever are modulo all of them.  Such a key
 * can be factored.
 */

static int
runcoach_jwks_roca(const BIGNUM *n)
{
    size_t    i;
    unsigned  p, power, rest;

    static const unsigned char  primes[] = {
        11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151,
        157
    };

    for (i = 0; i < sizeof(primes); i++) {
        p = primes[i];
        rest = (unsigned) BN_mod_word(n, p);
        power = 1;

        while (power != rest) {
            power = power * (65537 % p) % p;

            if (power == 1) {
                return 0;
            }
        }
    }

    return 1;
}


static EVP_PKEY *
runcoach_jwks_rsa_pkey(const BIGNUM *n, const BIGNUM *e)
{
    EVP_PKEY        *pkey;
    OSSL_PARAM_BLD  *bld;

    pkey = NULL;
    bld = OSSL_PARAM_BLD_new();

    if (bld != NULL
        && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1
        && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1)
    {
        pkey = runcoach_jwks_fromdata("RSA", bld);
    }

    OSSL_PARAM_BLD_free(bld);

    return pkey;
}


/*
 * OpenSSL refuses a point that is not on the curve, as well as coordinates
 * which are not below the prime; the one at infinity has no coordinates.
 */

static EVP_PKEY *
runcoach_jwks_ec(const runcoach_jwks_raw_t *raw)
{
    u_char           point[1 + 2 * RUNCOACH_EC_MAX_SIZE];
    size_t           n;
    EVP_PKEY        *pkey;
    OSSL_PARAM_BLD  *bld;

    n = raw->kind->size;

    point[0] = POINT_CONVERSION_UNCOMPRESSED;
    memcpy(&point[1], raw->a, n);
    memcpy(&point[1 + n], raw->b, n);

    pkey = NULL;
    bld = OSSL_PARAM_BLD_new();

    if (bld != NULL
        && OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME,
                                           raw->kind->group, 0)
           == 1
        && OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY,
                                            point, 1 + 2 * n)
           == 1)
    {
        pkey = runcoach_jwks_fromdata("EC", bld);
    }

    OSSL_PARAM_BLD_free(bld);

    return pkey;
}


static int
runcoach_jwks_ec_order(u_char *order, const runcoach_jwks_kind_t *kind)
{
    int        n;
    EC_GROUP  *group;

    group = EC_GROUP_new_by_curve_name(kind->nid);
    if (group == NULL) {
        return 0;
    }

    n = BN_bn2binpad(EC_GROUP_get0_order(group), order, (int) kind->size);

    EC_GROUP_free(group);

    return n == (int) kind->size;
}


static EVP_PKEY *
runcoach_jwks_fromdata(const char *type, OSSL_PARAM_BLD *bld)
{
    EVP_PKEY      *pkey;
    OSSL_PARAM    *params;
    EVP_PKEY_CTX  *ctx;

    pkey = NULL;

    params = OSSL_PARAM_BLD_to_param(bld);
    ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);

    if (params != NULL
        && ctx != NULL
        && EVP_PKEY_fromdata_init(ctx) == 1
        && EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
    {
        pkey = NULL;
    }

    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);

    return pkey;
}


static EVP_PKEY *
runcoach_jwks_ed25519(const runcoach_jwks_raw_t *raw)
{
    if (!runcoach_jwks_ed25519_check(raw->a)) {
        return NULL;
    }

    return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw->a,
                                       raw->na);
}


/*
 * OpenSSL takes any 32 bytes.  With a key of small order one signature is good
 * for about any text, and the other ones which are refused verify nothing.
 */

static int
runcoach_jwks_ed25519_check(const u_char *point)
{
    int      good;
    BN_CTX  *ctx;

    ctx = BN_CTX_new();
    if (ctx == NULL) {
        return 0;
    }

    BN_CTX_start(ctx);
    good = runcoach_jwks_ed25519_point(ctx, point);
    BN_CTX_end(ctx);

    BN_CTX_free(ctx);

    return good;
}


/*
 * RFC 8032 section 5.1: -x^2 + y^2 = 1 + d x^2 y^2 modulo p = 2^255 - 19, with
 * d = -121665/121666.  So x^2 = u/v with u = y^2 - 1 and v = d y^2 + 1, which
 * is a square as u v is, and v is never 0.  The order of a point is 1 or 2 if
 * u = 0, 4 if y = 0, and 8 if y = 0 for twice the point: x^2 = -y^2, that is
 * y^2 v + u = 0.
 */

static int
runcoach_jwks_ed25519_point(BN_CTX *ctx, const u_char *point)
{
    u_char   le[RUNCOACH_ED25519_SIZE];
    BIGNUM  *p, *d, *y, *u, *v, *w;

    p = BN_CTX_get(ctx);
    d = BN_CTX_get(ctx);
    y = BN_CTX_get(ctx);
    u = BN_CTX_get(ctx);
    v = BN_CTX_get(ctx);
    w = BN_CTX_get(ctx);

    /* the highest bit is the sign of x */

    memcpy(le, point, sizeof(le));
    le[sizeof(le) - 1] &= 0x7f;

    if (w == NULL
        || !BN_set_bit(p, 255)
        || !BN_sub_word(p, 19)
        || BN_lebin2bn(le, sizeof(le), y) == NULL
        || BN_cmp(y, p) >= 0
        || BN_is_zero(y))
    {
        return 0;
    }

    if (!BN_set_word(w, 121666)
        || BN_mod_inverse(d, w, p, ctx) == NULL
        || !BN_mul_word(d, 121665)
        || !BN_sub(d, p, d)
        || !BN_nnmod(d, d, p, ctx)

        || !BN_mod_sqr(y, y, p, ctx)
        || !BN_copy(u, y)
        || !BN_sub_word(u, 1)
        || !BN_mod_mul(v, d, y, p, ctx)
        || !BN_add_word(v, 1)
        || !BN_mod_mul(w, y, v, p, ctx)
        || !BN_mod_add(w, w, u, p, ctx))
    {
        return 0;
    }

    if (BN_is_zero(u) || BN_is_zero(w)) {
        return 0;
    }

    return BN_mod_mul(v, u, v, p, ctx) && BN_kronecker(v, p, ctx) == 1;
}


/*
 * RFC 7518 section 3.2: a key is at least as long as the digest.
 */

static int
runcoach_jwks_secret(runcoach_jwks_key_t *key, const runcoach_jwks_raw_t *raw)
{
    EVP_MAC                    *mac;
    const runcoach_jwks_md_t   *md;
    const runcoach_jwks_alg_t  *row;

    mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    if (mac == NULL) {
        return 0;
    }

    for (row = runcoach_jwks_algorithms; row->alg != 0; row++) {
        md = &runcoach_jwks_mds[row->hash];

        if (row->type != RUNCOACH_JWKS_SECRET || raw->na < md->size) {
            continue;
        }

        key->mac[row->hash] = runcoach_jwks_mac(mac, md->name, raw);

        if (key->mac[row->hash] != NULL) {
            key->algs |= row->alg;
        }
    }

    EVP_MAC_free(mac);

    return key->algs != 0;
}


static EVP_MAC_CTX *
runcoach_jwks_mac(EVP_MAC *mac, const char *md,
    const runcoach_jwks_raw_t *raw)
{
    OSSL_PARAM    params[2];
    EVP_MAC_CTX  *ctx;

    ctx = EVP_MAC_CTX_new(mac);

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                                 (char *) md, 0);
    params[1] = OSSL_PARAM_construct_end();

    if (ctx == NULL || EVP_MAC_init(ctx, raw->a, raw->na, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        return NULL;
    }

    return ctx;
}


static int
runcoach_jwks_key_digest(runcoach_jwks_t *set, runcoach_jwks_key_t *key,
    const runcoach_jwks_raw_t *raw)
{
    uint32_t               head[5];
    runcoach_jwks_hash_t  *hash;

    hash = runcoach_jwks_hash(set, 0);
    if (hash == NULL) {
        return 0;
    }

    head[0] = (uint32_t) (key->kind - runcoach_jwks_kinds);
    head[1] = key->algs;
    head[2] = (uint32_t) key->kid.len;
    head[3] = (uint32_t) raw->na;
    head[4] = (uint32_t) raw->nb;

    return EVP_DigestUpdate(hash->ctx, head, sizeof(head)) == 1
           && EVP_DigestUpdate(hash->ctx, key->kid.data, key->kid.len) == 1
           && EVP_DigestUpdate(hash->ctx, raw->a, raw->na) == 1
           && EVP_DigestUpdate(hash->ctx, raw->b, raw->nb) == 1
           && EVP_DigestFinal_ex(hash->ctx, key->digest, NULL) == 1;
}


/*
 * An issuer may list its keys in another order each time.
 */

static int
runcoach_jwks_set_digest(runcoach_jwks_t *set)
{
    size_t                 i;
    u_char                 list[RUNCOACH_JWKS_MAX_KEYS][RUNCOACH_JWKS_DIGEST];
    runcoach_jwks_hash_t  *hash;

    for (i = 0; i < set->nkeys; i++) {
        memcpy(list[i], set->keys[i].digest, RUNCOACH_JWKS_DIGEST);
    }

    qsort(list, set->nkeys, RUNCOACH_JWKS_DIGEST,
          runcoach_jwks_digest_compare);

    hash = runcoach_jwks_hash(set, 0);

    return hash != NULL
           && EVP_DigestUpdate(hash->ctx, list,
                               set->nkeys * RUNCOACH_JWKS_DIGEST)
              == 1
           && EVP_DigestFinal_ex(hash->ctx, set->digest, NULL) == 1;
}


static int
runcoach_jwks_digest_compare(const void *one, const void *two)
{
    return memcmp(one, two, RUNCOACH_JWKS_DIGEST);
}


runcoach_jwks_rc_e
runcoach_jwks_from_pem(runcoach_jwks_t **set, const u_char *pem, size_t n)
{
    int                   found;
    u_char               *text;
    EVP_PKEY             *pkey;
    runcoach_jwks_rc_e    rc;
    runcoach_jwks_raw_t   raw;

    *set = NULL;

    if (n > RUNCOACH_JWKS_MAX_SIZE) {
        return RUNCOACH_JWKS_TOO_LARGE;
    }

    text = malloc(n + 1);
    if (text == NULL) {
        return RUNCOACH_JWKS_NO_MEMORY;
    }

    n = runcoach_jwks_pem_text(text, pem, n);

    ERR_set_mark();

    pkey = runcoach_jwks_pem_key(text, n);
    found = (pkey != NULL && runcoach_jwks_from_pkey(&raw, pkey));
    rc = found ? runcoach_jwks_single(set, &raw) : RUNCOACH_JWKS_NO_KEY;

    ERR_pop_to_mark();

    EVP_PKEY_free(pkey);
    free(text);

    return rc;
}


runcoach_jwks_rc_e
runcoach_jwks_from_secret(runcoach_jwks_t **set, const u_char *secret,
    size_t n)
{
    runcoach_jwks_rc_e    rc;
    runcoach_jwks_raw_t   raw;

    *set = NULL;

    if (n < RUNCOACH_JWKS_MIN_SECRET || n > RUNCOACH_JWKS_MAX_SECRET) {
        return RUNCOACH_JWKS_NO_KEY;
    }

    ERR_set_mark();

    if (runcoach_jwks_looks_public(secret, n)) {
        rc = RUNCOACH_JWKS_NO_KEY;
        goto done;
    }

    for (raw.kind = runcoach_jwks_kinds; raw.kind->kty != NULL; raw.kind++) {
        /* void */
    }

    raw.na = n;
    raw.nb = 0;
    memcpy(raw.a, secret, n);

    rc = runcoach_jwks_single(set, &raw);

    OPENSSL_cleanse(&raw, sizeof(runcoach_jwks_raw_t));

done:

    ERR_pop_to_mark();

    return rc;
}


static runcoach_jwks_rc_e
runcoach_jwks_single(runcoach_jwks_t **set, const runcoach_jwks_raw_t *raw)
{
    runcoach_jwks_t  *jwks;

    jwks = runcoach_jwks_create(1);
    if (jwks == NULL) {
        return RUNCOACH_JWKS_NO_MEMORY;
    }

    jwks->keys[0].algs = raw->kind->algs;

    if (!runcoach_jwks_build(jwks, &jwks->keys[0], raw)
        || !runcoach_jwks_set_digest(jwks))
    {
        runcoach_jwks_free(jwks);
        return RUNCOACH_JWKS_NO_KEY;
    }

    *set = jwks;

    return RUNCOACH_JWKS_OK;
}


/*
 * Leaves out all white space, written as such or as "\n", even in the labels:
 * then every way to fold or unfold a PEM gives the same text.
 */

static size_t
runcoach_jwks_pem_text(u_char *dst, const u_char *pem, size_t n)
{
    u_char  *d;
    size_t   i;

    d = dst;

    for (i = 0; i < n; i++) {

        if (pem[i] == ' ' || (pem[i] >= '\t' && pem[i] <= '\r')) {
            continue;
        }

        if (pem[i] == '\\' && i + 1 < n
            && (pem[i + 1] == 'n' || pem[i + 1] == 'r'))
        {
            i++;
            continue;
        }

        *d++ = pem[i];
    }

    return d - dst;
}


/*
 * Finds the base64 between the two lines, *kind of the label that both bear.
 * Without the lines all of the text is base64, of no kind.
 */

static const u_char *
runcoach_jwks_pem_body(const u_char *text, size_t *n,
    const runcoach_jwks_pem_t **kind)
{
    char                        line[64];
    size_t                      begin, end, i;
    const char                 *p;
    const runcoach_jwks_pem_t  *pem;

    *kind = NULL;

    if (*n == 0 || text[0] != '-') {
        return text;
    }

    for (pem = runcoach_jwks_pems; pem->label != NULL; pem++) {

        /* "-----BEGIN" label "-----", then the same with "END" */

        memcpy(line, "-----BEGIN", 10);
        i = 10;

        for (p = pem->label; *p != '\0'; p++) {
            if (*p != ' ') {
                line[i++] = *p;
            }
        }

        memcpy(&line[i], "-----", 5);

        begin = i + 5;
        end = begin - 2;

        if (*n < begin + end || memcmp(text, line, begin) != 0) {
            continue;
        }

        memmove(&line[8], &line[10], begin - 10);
        memcpy(&line[5], "END", 3);

        if (memcmp(text + *n - end, line, end) != 0) {
            return NULL;
        }

        *n -= begin + end;
        *kind = pem;

        return text + begin;
    }

    return NULL;
}


static EVP_PKEY *
runcoach_jwks_pem_key(u_char *text, size_t n)
{
    ssize_t                     len;
    const u_char               *body;
    const runcoach_jwks_pem_t  *pem;

    body = runcoach_jwks_pem_body(text, &n, &pem);
    if (body == NULL) {
        return NULL;
    }

    memmove(text, body, n);

    len = runcoach_base64_decode_any(text, text, n);
    if (len <= 0) {
        return NULL;
    }

    if (pem != NULL) {
        return runcoach_jwks_der_key(text, len, pem->parse);
    }

    return runcoach_jwks_der_any(text, len);
}


static EVP_PKEY *
runcoach_jwks_der_any(const u_char *der, size_t n)
{
    EVP_PKEY                   *pkey;
    const runcoach_jwks_pem_t  *pem;

    for (pem = runcoach_jwks_pems; pem->label != NULL; pem++) {
        pkey = runcoach_jwks_der_key(der, n, pem->parse);

        if (pkey != NULL) {
            return pkey;
        }
    }

    return NULL;
}


static EVP_PKEY *
runcoach_jwks_der_key(const u_char *der, size_t n, runcoach_jwks_der_pt parse)
{
    EVP_PKEY      *pkey;
    const u_char  *p;

    p = der;

    pkey = parse(&p, (long) n);

    if (pkey != NULL && p == der + n) {
        return pkey;
    }

    EVP_PKEY_free(pkey);

    return NULL;
}


static EVP_PKEY *
runcoach_jwks_der_spki(const u_char **der, long n)
{
    return d2i_PUBKEY(NULL, der, n);
}


static EVP_PKEY *
runcoach_jwks_der_pkcs1(const u_char **der, long n)
{
    return d2i_PublicKey(EVP_PKEY_RSA, NULL, der, n);
}


static EVP_PKEY *
runcoach_jwks_der_x509(const u_char **der, long n)
{
    X509      *cert;
    EVP_PKEY  *pkey;

    cert = d2i_X509(NULL, der, n);
    if (cert == NULL) {
        return NULL;
    }

    pkey = X509_get_pubkey(cert);

    X509_free(cert);

    return pkey;
}


/*
 * What everybody can have must never be a secret: a PEM, or what it decodes to
 * when somebody has said that the secret is base64.
 */

static int
runcoach_jwks_looks_public(const u_char *secret, size_t n)
{
    int        found;
    u_char     text[RUNCOACH_JWKS_MAX_SECRET];
    size_t     len, i;
    EVP_PKEY  *pkey;

    len = runcoach_jwks_pem_text(text, secret, n);
    pkey = NULL;
    found = 0;

    for (i = 0; i + 10 <= len; i++) {
        found |= (memcmp(&text[i], "-----BEGIN", 10) == 0);
    }

    if (!found) {
        pkey = runcoach_jwks_pem_key(text, len);
    }

    if (!found && pkey == NULL) {
        pkey = runcoach_jwks_der_any(secret, n);
    }

    found |= (pkey != NULL);

    EVP_PKEY_free(pkey);
    OPENSSL_cleanse(text, sizeof(text));

    return found;
}


void
runcoach_jwks_free(runcoach_jwks_t *set)
{
    size_t  i;

    if (set == NULL) {
        return;
    }

    if (set->keys != NULL) {
        for (i = 0; i < set->nkeys; i++) {
            runcoach_jwks_key_free(&set->keys[i]);
        }
    }

    if (set->hashes != NULL) {
        for (i = 0; i < RUNCOACH_JWKS_NHASHES; i++) {
            EVP_MD_CTX_free(set->hashes[i].ctx);
            EVP_MD_free(set->hashes[i].md);
        }
    }

    free(set->keys);
    free(set->hashes);
    free(set);
}


/* what there is of it; it can be used for another one then */

static void
runcoach_jwks_key_free(runcoach_jwks_key_t *key)
{
    unsigned  i;

    for (i = 0; i < RUNCOACH_JWKS_NHASHES; i++) {
        EVP_PKEY_CTX_free(key->verify[0][i]);
        EVP_PKEY_CTX_free(key->verify[1][i]);
        EVP_MAC_CTX_free(key->mac[i]);
    }

    EVP_PKEY_free(key->pkey);
    free((void *) key->kid.data);

    OPENSSL_cleanse(key, sizeof(runcoach_jwks_key_t));
}


size_t
runcoach_jwks_count(const runcoach_jwks_t *set)
{
    return set->nkeys;
}


unsigned
runcoach_jwks_algs(const runcoach_jwks_t *set)
{
    return set->algs;
}


const u_char *
runcoach_jwks_digest(const runcoach_jwks_t *set)
{
    return set->digest;
}


runcoach_jwks_verdict_e
runcoach_jwks_verify(const runcoach_jwks_t *set, const runcoach_str_t *kid,
    unsigned alg, const runcoach_str_t *text, const runcoach_str_t *signature)
{
    int                         rc;
    size_t                      i;
    unsigned                    tries;
    const runcoach_jwks_alg_t  *row;
    runcoach_jwks_verdict_e     verdict;

    row = runcoach_jwks_alg(alg);

    if (row == NULL || (set->algs & alg) == 0) {
        return RUNCOACH_JWKS_UNKNOWN;
    }

    verdict = RUNCOACH_JWKS_UNKNOWN;
    tries = 0;

    /* what is left there would be blamed on us, and what we leave on others */

    ERR_clear_error();

    for (i = 0; i < set->nkeys && tries < RUNCOACH_JWKS_MAX_TRIES; i++) {

        if (!runcoach_jwks_key_matches(&set->keys[i], kid, alg)) {
            continue;
        }

        rc = runcoach_jwks_try(set, &set->keys[i], row, text, signature);

        if (rc == 1) {
            verdict = RUNCOACH_JWKS_VERIFIED;
            break;
        }

        if (rc < 0 || verdict == RUNCOACH_JWKS_FAILED) {
            verdict = RUNCOACH_JWKS_FAILED;

        } else {
            verdict = RUNCOACH_JWKS_FORGED;
        }

        tries++;
    }

    ERR_clear_error();

    return verdict;
}


static int
runcoach_jwks_key_matches(const runcoach_jwks_key_t *key,
    const runcoach_str_t *kid, unsigned alg)
{
    if ((key->algs & alg) == 0) {
        return 0;
    }

    if (key->kid.len == 0) {
        return 1;
    }

    return kid != NULL
           && kid->len == key->kid.len
           && memcmp(kid->data, key->kid.data, kid->len) == 0;
}


/* 1: the signature is by this key; 0: it is not; -1: OpenSSL could not tell */

static int
runcoach_jwks_try(const runcoach_jwks_t *set, runcoach_jwks_key_t *key,
    const runcoach_jwks_alg_t *alg, const runcoach_str_t *text,
    const runcoach_str_t *signature)
{
    switch (alg->type) {

    case RUNCOACH_JWKS_RSA:

        /* RFC 8017 section 8.2.2: as long as the modulus, whatever it is */

        if (signature->len != (size_t) EVP_PKEY_get_size(key->pkey)) {
            return 0;
        }

        return runcoach_jwks_try_hash(set, key, alg, text, signature);

    case RUNCOACH_JWKS_EC:
        return runcoach_jwks_try_ecdsa(set, key, alg, text, signature);

    case RUNCOACH_JWKS_ED25519:
        return runcoach_jwks_try_eddsa(key, text, signature);

    case RUNCOACH_JWKS_SECRET:
        return runcoach_jwks_try_hmac(key, alg, text, signature);
    }

    return 0;
}


static int
runcoach_jwks_try_hash(const runcoach_jwks_t *set, runcoach_jwks_key_t *key,
    const runcoach_jwks_alg_t *alg, const runcoach_str_t *text,
    const runcoach_str_t *signature)
{
    int                     rc;
    u_char                  digest[RUNCOACH_JWKS_MAX_HASH];
    EVP_PKEY_CTX          **ctx;
    runcoach_jwks_hash_t   *hash;

    ctx = &key->verify[alg->pss][alg->hash];

    if (*ctx == NULL) {
        *ctx = runcoach_jwks_verifier(set, key, alg);
    }

    hash = runcoach_jwks_hash(set, alg->hash);

    if (*ctx == NULL
        || hash == NULL
        || EVP_DigestUpdate(hash->ctx, text->data, text->len) != 1
        || EVP_DigestFinal_ex(hash->ctx, digest, NULL) != 1)
    {
        return -1;
    }

    rc = EVP_PKEY_verify(*ctx, signature->data, signature->len, digest,
                         runcoach_jwks_mds[alg->hash].size);

    /* 0 is a verdict, but after an error nobody says what the context is */

    if (rc < 0 || (rc == 0 && runcoach_jwks_no_memory())) {
        EVP_PKEY_CTX_free(*ctx);
        *ctx = NULL;

        return -1;
    }

    return rc;
}


/* OpenSSL says "no" too if it had no memory to find out */

static int
runcoach_jwks_no_memory(void)
{
    unsigned long  e;

    for (e = ERR_get_error(); e != 0; e = ERR_get_error()) {
        if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE) {
            return 1;
        }
    }

    return 0;
}


static EVP_PKEY_CTX *
runcoach_jwks_verifier(const runcoach_jwks_t *set,
    const runcoach_jwks_key_t *key, const runcoach_jwks_alg_t *alg)
{
    const EVP_MD          *md;
    EVP_PKEY_CTX          *ctx;
    runcoach_jwks_hash_t  *hash;

    hash = runcoach_jwks_hash(set, alg->hash);
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);

    if (hash == NULL || ctx == NULL || EVP_PKEY_verify_init(ctx) != 1) {
        goto failed;
    }

    md = hash->md;

    if (alg->type == RUNCOACH_JWKS_RSA
        && EVP_PKEY_CTX_set_rsa_padding(ctx, alg->pss ? RSA_PKCS1_PSS_PADDING
                                                      : RSA_PKCS1_PADDING)
           != 1)
    {
        goto failed;
    }

    if (EVP_PKEY_CTX_set_signature_md(ctx, md) != 1) {
        goto failed;
    }

    /* RFC 7518 section 3.5: the same hash, and a salt as long as it is */

    if (alg->pss
        && (EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) != 1
            || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST)
               != 1))
    {
        goto failed;
    }

    return ctx;

failed:

    EVP_PKEY_CTX_free(ctx);

    return NULL;
}


/*
 * A hash that is ready for a text.  Fetched once, a method costs no search
 * through the providers each time.
 */

static runcoach_jwks_hash_t *
runcoach_jwks_hash(const runcoach_jwks_t *set, unsigned i)
{
    runcoach_jwks_hash_t  *hash;

    hash = &set->hashes[i];

    if (hash->md == NULL) {
        hash->md = EVP_MD_fetch(NULL, runcoach_jwks_mds[i].name, NULL);
    }

    if (hash->ctx == NULL) {
        hash->ctx = EVP_MD_CTX_new();
    }

    if (hash->md == NULL
        || hash->ctx == NULL
        || EVP_DigestInit_ex2(hash->ctx, hash->md, NULL) != 1)
    {
        return NULL;
    }

    return hash;
}


/*
 * RFC 7518 section 3.4 has R and S one after the other, and OpenSSL wants them
 * in DER.
 */

static int
runcoach_jwks_try_ecdsa(const runcoach_jwks_t *set, runcoach_jwks_key_t *key,
    const runcoach_jwks_alg_t *alg, const runcoach_str_t *text,
    const runcoach_str_t *signature)
{
    size_t           n;
    u_char           buf[RUNCOACH_EC_MAX_DER];
    u_char          *p, *body;
    const u_char    *r, *s;
    runcoach_str_t   der;

    n = key->kind->size;

    if (signature->len != 2 * n) {
        return 0;
    }

    r = signature->data;
    s = r + n;

    if (!runcoach_jwks_scalar(key, r) || !runcoach_jwks_scalar(key, s)) {
        return 0;
    }

    body = &buf[3];

    p = runcoach_jwks_der_integer(body, r, n);
    p = runcoach_jwks_der_integer(p, s, n);

    der.len = p - body;

    *--body = (u_char) der.len;

    if (der.len > 127) {
        *--body = 0x81;
    }

    *--body = 0x30;

    der.data = body;
    der.len = p - body;

    return runcoach_jwks_try_hash(set, key, alg, text, &der);
}


/* 1 .. n - 1: with 0 some have found a signature that is good for all */

static int
runcoach_jwks_scalar(const runcoach_jwks_key_t *key, const u_char *scalar)
{
    size_t  i;

    for (i = 0; i < key->kind->size; i++) {
        if (scalar[i] != 0) {
            return memcmp(scalar, key->order, key->kind->size) < 0;
        }
    }

    return 0;
}


static u_char *
runcoach_jwks_der_integer(u_char *p, const u_char *src, size_t n)
{
    while (*src == 0) {
        src++;
        n--;
    }

    *p++ = 0x02;

    if (*src & 0x80) {
        *p++ = (u_char) (n + 1);
        *p++ = 0;

    } else {
        *p++ = (u_char) n;
    }

    memcpy(p, src, n);

    return p + n;
}


/*
 * Ed25519 hashes the text together with the key, so it wants all of it at
 * once; and a context that has verified is not for another time in later
 * releases of OpenSSL.
 */

static int
runcoach_jwks_try_eddsa(const runcoach_jwks_key_t *key,
    const runcoach_str_t *text, const runcoach_str_t *signature)
{
    int          rc;
    EVP_MD_CTX  *ctx;

    if (signature->len != RUNCOACH_ED25519_PAIR) {
        return 0;
    }

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return -1;
    }

    rc = -1;

    if (EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key->pkey) == 1) {
        rc = EVP_DigestVerify(ctx, signature->data, signature->len,
                              text->data, text->len);

        if (rc == 0 && runcoach_jwks_no_memory()) {
            rc = -1;
        }
    }

    EVP_MD_CTX_free(ctx);

    return rc;
}


/*
 * The copy has the secret in it already.  To begin with the same context anew
 * is cheaper, but the first releases of OpenSSL 3.0 go on with the last text.
 */

static int
runcoach_jwks_try_hmac(const runcoach_jwks_key_t *key,
    const runcoach_jwks_alg_t *alg, const runcoach_str_t *text,
    const runcoach_str_t *signature)
{
    int           rc;
    u_char        mac[RUNCOACH_JWKS_MAX_HASH];
    size_t        n;
    EVP_MAC_CTX  *ctx;

    if (signature->len != runcoach_jwks_mds[alg->hash].size) {
        return 0;
    }

    ctx = EVP_MAC_CTX_dup(key->mac[alg->hash]);
    if (ctx == NULL) {
        return -1;
    }

    rc = -1;

    if (EVP_MAC_update(ctx, text->data, text->len) == 1
        && EVP_MAC_final(ctx, mac, &n, sizeof(mac)) == 1
        && n == signature->len)
    {
        rc = (CRYPTO_memcmp(mac, signature->data, n) == 0);
    }

    OPENSSL_cleanse(mac, sizeof(mac));
    EVP_MAC_CTX_free(ctx);

    return rc;
}
