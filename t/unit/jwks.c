
#include "../../ngx_runcoach_module/lib/runcoach_jwks.c"

#include <openssl/ecdsa.h>
#include <openssl/encoder.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include "tap.h"


#define RSA_E  "\"e\":\"AQAB\""
#define RSA_K  "\"kty\":\"RSA\",\"kid\":\"k\""

#define TEXT   "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyXzEifQ"
#define OTHER  "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyXzIifQ"

#define ALG_RSA                                                               \
    (RUNCOACH_ALG_RS256|RUNCOACH_ALG_RS384|RUNCOACH_ALG_RS512                 \
     |RUNCOACH_ALG_PS256|RUNCOACH_ALG_PS384|RUNCOACH_ALG_PS512)


typedef struct {
    const char   *name;
    unsigned      alg;
    const char   *md;
    int           pss;
    EVP_PKEY    **pkey;
    EVP_PKEY    **other;
} signer_t;


static void *copy_of(const void *data, size_t n);
static runcoach_jwks_rc_e parse(const char *json);
static char *modulus(int bits, int last);
static char *jwk(const char *n, const char *members);
static int usable(const char *n, const char *members);
static int point(const char *members);
static void coordinate(char *dst, const EVP_PKEY *pkey, const char *name,
    size_t size);
static char *jwk_of(const EVP_PKEY *pkey, const char *members);
static runcoach_jwks_rc_e parse_keys(const char *a, const char *b,
    const char *c);
static EVP_PKEY_CTX *signing(const signer_t *signer, EVP_PKEY *pkey);
static size_t sign(u_char *sig, const signer_t *signer, EVP_PKEY *pkey,
    const char *text);
static size_t raw_ecdsa(u_char *sig, const u_char *der, size_t n,
    size_t size);
static runcoach_jwks_verdict_e verdict(const char *kid, unsigned alg,
    const char *text, const void *sig, size_t n);
static int verifies(unsigned alg, const void *sig, size_t n);
static char *pem_of(EVP_PKEY *pkey, int selection, const char *structure);
static char *pem_of_cert(EVP_PKEY *pkey);
static char *replaced(const char *text, const char *what, const char *with);
static runcoach_jwks_rc_e from_pem(const char *pem);
static runcoach_jwks_rc_e from_secret(const void *secret, size_t n);
static void is_pem(const char *pem, EVP_PKEY *pkey, const char *name);
static void test_algorithms(void);
static void test_document(void);
static void test_members(void);
static void test_sizes(void);
static void test_roca(void);
static void test_ec(void);
static void test_ed25519(void);
static void test_several(void);
static void test_errors(void);
static void test_json(void);
static void test_pem(void);
static void test_pem_kinds(void);
static void test_pem_refused(void);
static void test_secret(void);
static void test_secret_refused(void);
static void test_verify(void);
static void test_mutations(void);
static void test_pinned(void);
static void test_pkcs1(void);
static void test_pss(void);
static void test_ecdsa(void);
static void test_eddsa(void);
static void test_hmac(void);
static void test_kid(void);
static void test_reuse(void);
static void test_digest(void);
static void test_vectors(void);


static runcoach_jwks_t  *set;
static unsigned          skipped;
static EVP_PKEY         *rsa, *rsa2, *ec[3], *ec2[3], *ed, *ed2;


static const signer_t  signers[] = {
    { "RS256", RUNCOACH_ALG_RS256, "SHA256", 0, &rsa, &rsa2 },
    { "RS384", RUNCOACH_ALG_RS384, "SHA384", 0, &rsa, &rsa2 },
    { "RS512", RUNCOACH_ALG_RS512, "SHA512", 0, &rsa, &rsa2 },
    { "PS256", RUNCOACH_ALG_PS256, "SHA256", 1, &rsa, &rsa2 },
    { "PS384", RUNCOACH_ALG_PS384, "SHA384", 1, &rsa, &rsa2 },
    { "PS512", RUNCOACH_ALG_PS512, "SHA512", 1, &rsa, &rsa2 },
    { "ES256", RUNCOACH_ALG_ES256, "SHA256", 0, &ec[0], &ec2[0] },
    { "ES384", RUNCOACH_ALG_ES384, "SHA384", 0, &ec[1], &ec2[1] },
    { "ES512", RUNCOACH_ALG_ES512, "SHA512", 0, &ec[2], &ec2[2] },
    { "EdDSA", RUNCOACH_ALG_EDDSA, NULL, 0, &ed, &ed2 }
};

#define NSIGNERS  (sizeof(signers) / sizeof(signers[0]))


static void *
copy_of(const void *data, size_t n)
{
    void  *p;

    p = malloc(n + (n == 0));

    if (p == NULL) {
        abort();
    }

    memcpy(p, data, n);

    return p;
}


static runcoach_jwks_rc_e
parse(const char *json)
{
    void                *p;
    runcoach_jwks_rc_e   rc;

    runcoach_jwks_free(set);

    p = copy_of(json, strlen(json));
    rc = runcoach_jwks_parse(&set, &skipped, p, strlen(json));
    free(p);

    return rc;
}


/* any odd number will do: nothing is ever verified with it */

static char *
modulus(int bits, int last)
{
    size_t  n;
    u_char  raw[2048];

    static char  text[4096];

    n = (bits + 7) / 8;

    memset(raw, 0x5a, n);
    raw[0] = (u_char) (1 << ((bits + 7) % 8));
    raw[n - 1] = (u_char) last;

    text[runcoach_base64url_encode((u_char *) text, raw, n)] = '\0';

    return text;
}


static char *
jwk(const char *n, const char *members)
{
    static char  text[16384];

    snprintf(text, sizeof(text), "{\"keys\":[{\"n\":\"%s\"%s%s}]}", n,
             members[0] ? "," : "", members);

    return text;
}


static int
usable(const char *n, const char *members)
{
    runcoach_jwks_rc_e  rc;

    rc = parse(jwk(n, members));

    if (rc == RUNCOACH_JWKS_OK) {
        return runcoach_jwks_count(set) == 1 && skipped == 0;
    }

    return (rc == RUNCOACH_JWKS_NO_KEY && set == NULL && skipped == 1) ? 0 : -1;
}


/* the verdict on a key of another kind: 1 usable, 0 left out, -1 neither */

static int
point(const char *members)
{
    char                 text[2048];
    runcoach_jwks_rc_e   rc;

    snprintf(text, sizeof(text), "{\"keys\":[{\"kid\":\"k\",%s}]}", members);

    rc = parse(text);

    if (ERR_peek_error() != 0) {
        return -1;
    }

    if (rc == RUNCOACH_JWKS_OK) {
        return runcoach_jwks_count(set) == 1 && skipped == 0;
    }

    return (rc == RUNCOACH_JWKS_NO_KEY && set == NULL && skipped == 1) ? 0 : -1;
}


static void
coordinate(char *dst, const EVP_PKEY *pkey, const char *name, size_t size)
{
    u_char   raw[1024];
    BIGNUM  *bn;

    bn = NULL;

    if (EVP_PKEY_get_bn_param(pkey, name, &bn) != 1) {
        abort();
    }

    if (size == 0) {
        size = BN_num_bytes(bn);
    }

    BN_bn2binpad(bn, raw, (int) size);
    BN_free(bn);

    dst[runcoach_base64url_encode((u_char *) dst, raw, size)] = '\0';
}


/* a public key with some members added; to be freed */

static char *
jwk_of(const EVP_PKEY *pkey, const char *members)
{
    int      bits;
    char    *text;
    char     a[1024], b[1024];
    u_char   raw[64];
    size_t   n;

    text = malloc(4096);

    switch (EVP_PKEY_get_base_id(pkey)) {

    case EVP_PKEY_RSA:
        coordinate(a, pkey, OSSL_PKEY_PARAM_RSA_N, 0);
        coordinate(b, pkey, OSSL_PKEY_PARAM_RSA_E, 0);
        snprintf(text, 4096, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\",%s}",
                 a, b, members);
        break;

    case EVP_PKEY_EC:
        bits = EVP_PKEY_get_bits(pkey);
        coordinate(a, pkey, OSSL_PKEY_PARAM_EC_PUB_X, (bits + 7) / 8);
        coordinate(b, pkey, OSSL_PKEY_PARAM_EC_PUB_Y, (bits + 7) / 8);
        snprintf(text, 4096, "{\"kty\":\"EC\",\"crv\":\"P-%d\",\"x\":\"%s\","
                 "\"y\":\"%s\",%s}", bits, a, b, members);
        break;

    default:
        n = sizeof(raw);
        EVP_PKEY_get_raw_public_key(pkey, raw, &n);
        a[runcoach_base64url_encode((u_char *) a, raw, n)] = '\0';
        snprintf(text, 4096, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
                 "\"x\":\"%s\",%s}", a, members);
    }

    return text;
}


/* the keys are freed; b and c may be NULL */

static runcoach_jwks_rc_e
parse_keys(const char *a, const char *b, const char *c)
{
    char                 text[16384];
    runcoach_jwks_rc_e   rc;

    snprintf(text, sizeof(text), "{\"keys\":[%s%s%s%s%s]}", a, b ? "," : "",
             b ? b : "", c ? "," : "", c ? c : "");

    rc = parse(text);

    free((void *) a);
    free((void *) b);
    free((void *) c);

    return rc;
}


static EVP_PKEY_CTX *
signing(const signer_t *signer, EVP_PKEY *pkey)
{
    EVP_PKEY_CTX  *ctx;

    ctx = EVP_PKEY_CTX_new(pkey, NULL);

    if (EVP_PKEY_sign_init(ctx) != 1
        || (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA
            && EVP_PKEY_CTX_set_rsa_padding(ctx, signer->pss
                                                 ? RSA_PKCS1_PSS_PADDING
                                                 : RSA_PKCS1_PADDING)
               != 1)
        || EVP_PKEY_CTX_set_signature_md(ctx, EVP_get_digestbyname(signer->md))
           != 1
        || (signer->pss
            && EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST)
               != 1))
    {
        abort();
    }

    return ctx;
}


static size_t
sign(u_char *sig, const signer_t *signer, EVP_PKEY *pkey, const char *text)
{
    int            rc;
    u_char         digest[64], der[1024];
    size_t         n;
    unsigned       len;
    EVP_MD_CTX    *md;
    EVP_PKEY_CTX  *ctx;

    n = sizeof(der);

    if (signer->md == NULL) {
        md = EVP_MD_CTX_new();
        rc = EVP_DigestSignInit(md, NULL, NULL, NULL, pkey) == 1
             && EVP_DigestSign(md, der, &n, (u_char *) text, strlen(text)) == 1;
        EVP_MD_CTX_free(md);

    } else {
        EVP_Digest(text, strlen(text), digest, &len,
                   EVP_get_digestbyname(signer->md), NULL);

        ctx = signing(signer, pkey);
        rc = EVP_PKEY_sign(ctx, der, &n, digest, len);
        EVP_PKEY_CTX_free(ctx);
    }

    if (rc != 1) {
        abort();
    }

    if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC) {
        return raw_ecdsa(sig, der, n, (EVP_PKEY_get_bits(pkey) + 7) / 8);
    }

    memcpy(sig, der, n);

    return n;
}


static size_t
raw_ecdsa(u_char *sig, const u_char *der, size_t n, size_t size)
{
    ECDSA_SIG  *pair;

    pair = d2i_ECDSA_SIG(NULL, &der, (long) n);

    BN_bn2binpad(ECDSA_SIG_get0_r(pair), sig, (int) size);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), sig + size, (int) size);

    ECDSA_SIG_free(pair);

    return 2 * size;
}


static runcoach_jwks_verdict_e
verdict(const char *kid, unsigned alg, const char *text, const void *sig,
    size_t n)
{
    runcoach_str_t            k, t, s;
    runcoach_jwks_verdict_e   rc;

    k.len = kid ? strlen(kid) : 0;
    k.data = kid ? copy_of(kid, k.len) : NULL;
    t.len = strlen(text);
    t.data = copy_of(text, t.len);
    s.len = n;
    s.data = copy_of(sig, n);

    rc = runcoach_jwks_verify(set, kid ? &k : NULL, alg, &t, &s);

    free((void *) k.data);
    free((void *) t.data);
    free((void *) s.data);

    return (ERR_peek_error() == 0) ? rc : (runcoach_jwks_verdict_e) -1;
}


/* 1 or 0; -1: no key was asked */

static int
verifies(unsigned alg, const void *sig, size_t n)
{
    runcoach_jwks_verdict_e  rc;

    rc = verdict("k", alg, TEXT, sig, n);

    return (rc == RUNCOACH_JWKS_VERIFIED) ? 1
           : (rc == RUNCOACH_JWKS_FORGED) ? 0 : -1;
}


static void
test_algorithms(void)
{
    size_t    i;
    unsigned  seen;

    static const char *const  names[] = {
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
        "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"
    };

    static const char *const  none[] = {
        "", "none", "rs256", "RS256 ", " RS256", "RS25", "RS2566", "RS1",
        "ES256K", "EDDSA", "eddsa", "Ed448", "HS1", "RSA1_5", "RSA-OAEP", "dir"
    };

    seen = 0;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ok(runcoach_alg((u_char *) names[i], 5) == 1U << i, "%s", names[i]);
        seen |= runcoach_alg((u_char *) names[i], 5);
    }

    ok(seen == (RUNCOACH_ALG_ANY|RUNCOACH_ALG_HMAC), "these are all");

    for (i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        ok(runcoach_alg((u_char *) none[i], strlen(none[i])) == 0,
           "\"%s\" is none", none[i]);
    }

    ok(runcoach_alg((u_char *) "RS256\0", 6) == 0, "nor is one with a NUL");
}


static void
test_document(void)
{
    const runcoach_jwks_key_t  *key;

    ok(usable(modulus(2048, 1),
              "\"use\":\"sig\",\"kty\":\"RSA\",\"kid\":\"ins_1\","
              "\"alg\":\"RS256\"," RSA_E),
       "a document as Clerk publishes it");

    key = &set->keys[0];

    ok(key->kid.len == 5 && memcmp(key->kid.data, "ins_1", 5) == 0, "kid");
    ok(runcoach_jwks_algs(set) == RUNCOACH_ALG_RS256, "algorithms");
    ok(EVP_PKEY_get_bits(key->pkey) == 2048, "bits");
    ok(EVP_PKEY_get_base_id(key->pkey) == EVP_PKEY_RSA, "type");
    ok(ERR_peek_error() == 0, "nothing is left in OpenSSL's queue");

    ok(usable(modulus(2048, 1), RSA_K "," RSA_E)
       && runcoach_jwks_algs(set) == ALG_RSA,
       "without alg it may verify all that is RSA");
}


static void
test_members(void)
{
    size_t  i;
    char    members[512];

    static const struct {
        int          usable;
        const char  *members;
    } rows[] = {
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\"" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"RS256\"" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"RS512\"" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"PS256\"" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\",\"crv\":\"P-256\"" },
        { 1, "\"k\\u0074y\":\"RSA\",\"kid\":\"k\"" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\",\"key_ops\":[\"verify\"]" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\",\"key_ops\":[7,\"verify\"]" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"k\",\"x5c\":[\"!\"],\"x5t\":1,"
             "\"x5u\":\"file:///etc/passwd\",\"new\":{\"a\":[]}" },
        { 1, "\"kty\":\"RSA\",\"kid\":\"\xed\x82\xa4\"" },

        { 0, "\"kty\":\"RSA\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":7" },
        { 0, "\"kty\":\"RSA\",\"kid\":null" },
        { 0, "\"kid\":\"k\"" },
        { 0, "\"kty\":\"rsa\",\"kid\":\"k\"" },
        { 0, "\"kty\":\"EC\",\"kid\":\"k\"" },
        { 0, "\"kty\":\"oct\",\"k\":\"c2VjcmV0\",\"kid\":\"k\"" },
        { 0, "\"kty\":[\"RSA\"],\"kid\":\"k\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"use\":\"enc\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"use\":null" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"use\":[\"sig\"]" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"key_ops\":[\"sign\"]" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"key_ops\":[]" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"key_ops\":\"verify\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"ES256\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"EdDSA\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"HS512\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"RSA1_5\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"RSA-OAEP\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"HS256\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"none\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":null" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":[\"RS256\"]" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"d\":\"AQAB\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"p\":\"AQAB\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"oth\":[]" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"d\":null" },
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(members, sizeof(members), RSA_E ",%s", rows[i].members);

        ok(usable(modulus(2048, 1), members) == rows[i].usable,
           "%s %s", rows[i].members, rows[i].usable ? "is usable" : "is not");
    }
}


static void
test_sizes(void)
{
    char    n[512], members[128];
    size_t  i;
    u_char  raw[258];

    static const struct {
        int          usable;
        const char  *e;
    } exponents[] = {
        { 1, "Aw" }, { 1, "EQ" }, { 1, "AQAB" }, { 1, "_____w" },

        { 0, "" }, { 0, "AQ" }, { 0, "Ag" }, { 0, "AQAA" }, { 0, "AAEAAQ" },
        { 0, "AQAAAAE" }, { 0, "AA" }, { 0, "AQAB=" }, { 0, "AQ+B" },
        { 0, "AQ AB" }, { 0, "A" }, { 0, "Ax" }
    };

    ok(usable(modulus(2047, 1), RSA_K "," RSA_E) == 0, "2047 bits are few");
    ok(usable(modulus(2048, 1), RSA_K "," RSA_E) == 1, "2048 bits");
    ok(usable(modulus(4096, 1), RSA_K "," RSA_E) == 1, "4096 bits");
    ok(usable(modulus(8192, 1), RSA_K "," RSA_E) == 1, "8192 bits");
    ok(usable(modulus(8193, 1), RSA_K "," RSA_E) == 0, "8193 bits are many");
    ok(usable(modulus(8200, 1), RSA_K "," RSA_E) == 0, "8200 bits are many");
    ok(usable(modulus(16384, 1), RSA_K "," RSA_E) == 0, "so are 16384");
    ok(usable(modulus(2048, 2), RSA_K "," RSA_E) == 0, "an even modulus");
    ok(usable("", RSA_K "," RSA_E) == 0, "an empty modulus");
    ok(usable("AQAB", RSA_K "," RSA_E) == 0, "a modulus of 17 bits");
    ok(usable("AAAA", RSA_K "," RSA_E) == 0, "zero as modulus");

    memset(raw, 0x5b, sizeof(raw));
    raw[0] = 0;
    n[runcoach_base64url_encode((u_char *) n, raw, 258)] = '\0';
    ok(usable(n, RSA_K "," RSA_E) == 0, "a modulus with a leading zero");

    ok(usable(modulus(2048, 1), RSA_K) == 0, "no exponent");
    ok(usable(modulus(2048, 1), RSA_K ",\"e\":65537") == 0,
       "an exponent that is a number");

    for (i = 0; i < sizeof(exponents) / sizeof(exponents[0]); i++) {
        snprintf(members, sizeof(members), RSA_K ",\"e\":\"%s\"",
                 exponents[i].e);

        ok(usable(modulus(2048, 1), members) == exponents[i].usable,
           "exponent \"%s\" %s", exponents[i].e,
           exponents[i].usable ? "is usable" : "is not");
    }

    ok(parse("{\"keys\":[{" RSA_K "," RSA_E ",\"n\":17}]}")
       == RUNCOACH_JWKS_NO_KEY,
       "a modulus that is a number");
}


/*
 * A modulus of which the remainders are those of 65537^i: of the generator that
 * made keys like it, all are.
 */

static void
test_roca(void)
{
    char      text[512];
    u_char    raw[256];
    size_t    i;
    BIGNUM   *n, *m, *rest;
    BN_CTX   *ctx;

    static const unsigned  primes[] = {
        2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67,
        71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139,
        149, 151, 157, 163, 167
    };

    ctx = BN_CTX_new();
    n = BN_new();
    m = BN_new();
    rest = BN_new();

    BN_one(m);

    for (i = 0; i < sizeof(primes) / sizeof(primes[0]); i++) {
        BN_mul_word(m, primes[i]);
    }

    BN_rand(n, 2048, BN_RAND_TOP_TWO, 0);
    BN_mod(rest, n, m, ctx);
    BN_sub(n, n, rest);
    BN_add_word(n, 65537);

    BN_bn2binpad(n, raw, 256);
    text[runcoach_base64url_encode((u_char *) text, raw, 256)] = '\0';

    ok(BN_num_bits(n) == 2048 && usable(text, RSA_K "," RSA_E) == 0,
       "a modulus that can be factored (ROCA)");

    /* 2 is no power of 65537 modulo 11 */

    BN_sub_word(n, 65535);
    BN_add_word(n, 11);
    BN_bn2binpad(n, raw, 256);
    text[runcoach_base64url_encode((u_char *) text, raw, 256)] = '\0';

    ok(usable(text, RSA_K "," RSA_E) == 1, "one like any other");

    BN_free(n);
    BN_free(m);
    BN_free(rest);
    BN_CTX_free(ctx);
}


static void
test_ec(void)
{
    int     i;
    char    x[128], y[128], members[1024];
    char   *good;
    size_t  n;
    u_char  raw[67];

    static const char *const  crvs[] = { "P-256", "P-384", "P-521" };
    static const char *const  algs[] = { "ES256", "ES384", "ES512" };

#define EC(fmt, ...)                                                          \
    (snprintf(members, sizeof(members), "\"kty\":\"EC\"," fmt, __VA_ARGS__),  \
     point(members))
#define XY  "\"x\":\"%s\",\"y\":\"%s\""

    for (i = 0; i < 3; i++) {
        n = (i == 2) ? 66 : 32 + 16 * i;

        good = jwk_of(ec[i], "\"kid\":\"k\"");
        ok(parse_keys(good, NULL, NULL) == RUNCOACH_JWKS_OK
           && runcoach_jwks_algs(set) == signers[6 + i].alg
           && EVP_PKEY_eq(set->keys[0].pkey, ec[i]) == 1,
           "%s is for %s", crvs[i], algs[i]);

        coordinate(x, ec[i], OSSL_PKEY_PARAM_EC_PUB_X, n);
        coordinate(y, ec[i], OSSL_PKEY_PARAM_EC_PUB_Y, n);

        ok(EC("\"crv\":\"%s\",\"alg\":\"%s\"," XY, crvs[i], algs[i], x, y)
           == 1, "with alg");
        ok(EC("\"crv\":\"%s\",\"alg\":\"%s\"," XY, crvs[i], algs[(i + 1) % 3],
              x, y) == 0, "another alg");
        ok(EC("\"crv\":\"%s\",\"alg\":\"RS256\"," XY, crvs[i], x, y) == 0,
           "one of RSA");
        ok(EC("\"crv\":\"%s\",\"alg\":\"ECDH-ES\"," XY, crvs[i], x, y) == 0,
           "one for encryption");
        ok(EC("\"crv\":\"%s\"," XY, crvs[(i + 1) % 3], x, y) == 0,
           "another curve");
        ok(EC("\"crv\":\"%s\"," XY, "secp256k1", x, y) == 0
           && EC("\"crv\":\"%s\"," XY, "p-256", x, y) == 0
           && EC("\"crv\":%s," XY, "256", x, y) == 0
           && EC(XY, x, y) == 0,
           "a curve that is none of ours");
        ok(EC("\"crv\":\"%s\"," XY, crvs[i], y, x) == 0,
           "not on the curve: x and y exchanged");
        ok(EC("\"crv\":\"%s\"," XY, crvs[i], x, x) == 0,
           "not on the curve: x twice");
        ok(EC("\"crv\":\"%s\",\"d\":\"AQ\"," XY, crvs[i], x, y) == 0,
           "a private key");
        ok(EC("\"crv\":\"%s\",\"x\":\"%s\"", crvs[i], x) == 0, "no y");
        ok(EC("\"crv\":\"%s\",\"x\":\"%s\",\"y\":7", crvs[i], x) == 0,
           "y is a number");
        ok(EC("\"crv\":\"%s\"," XY, crvs[i], x, "") == 0, "an empty y");
        ok(EC("\"crv\":\"%s\",\"x\":\"%s=\",\"y\":\"%s\"", crvs[i], x, y)
           == 0, "padding");

        memset(raw, 0, sizeof(raw));
        x[runcoach_base64url_encode((u_char *) x, raw, n)] = '\0';
        ok(EC("\"crv\":\"%s\"," XY, crvs[i], x, x) == 0, "zeroes");

        memset(raw, 0xff, sizeof(raw));
        x[runcoach_base64url_encode((u_char *) x, raw, n)] = '\0';
        ok(EC("\"crv\":\"%s\"," XY, crvs[i], x, y) == 0,
           "x is above the prime");

        coordinate(x, ec[i], OSSL_PKEY_PARAM_EC_PUB_X, n + 1);
        ok(EC("\"crv\":\"%s\"," XY, crvs[i], x, y) == 0,
           "a leading zero too many");

        runcoach_base64url_decode(raw, (u_char *) x, strlen(x));
        x[runcoach_base64url_encode((u_char *) x, raw + 2, n - 1)] = '\0';
        ok(EC("\"crv\":\"%s\"," XY, crvs[i], x, y) == 0, "a byte too few");
    }

#undef EC
#undef XY
}


/*
 * The points of order 1, 2, 4 and 8 as libraries list them, and encodings which
 * are not the only one.
 */

static void
test_ed25519(void)
{
    char    x[64], members[256];
    size_t  i, j, on, off;
    u_char  raw[33];

    static const char *const  bad[] = {
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
    };

#define OKP(fmt, ...)                                                         \
    (snprintf(members, sizeof(members), "\"kty\":\"OKP\"," fmt, __VA_ARGS__), \
     point(members))

    ok(parse_keys(jwk_of(ed, "\"kid\":\"k\""), NULL, NULL) == RUNCOACH_JWKS_OK
       && runcoach_jwks_algs(set) == RUNCOACH_ALG_EDDSA
       && EVP_PKEY_eq(set->keys[0].pkey, ed) == 1,
       "Ed25519 is for EdDSA");

    for (i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
        for (j = 0; j < 32; j++) {
            sscanf(&bad[i / 2][2 * j], "%2hhx", &raw[j]);
        }

        raw[31] |= (i % 2) ? 0x80 : 0;
        x[runcoach_base64url_encode((u_char *) x, raw, 32)] = '\0';

        ok(OKP("\"crv\":\"Ed25519\",\"x\":\"%s\"", x) == 0,
           "refused: %s, sign %zu", bad[i / 2], i % 2);
    }

    on = 0;
    off = 0;

    for (i = 2; i < 202; i++) {
        memset(raw, 0, sizeof(raw));
        raw[0] = (u_char) i;
        x[runcoach_base64url_encode((u_char *) x, raw, 32)] = '\0';

        switch (OKP("\"crv\":\"Ed25519\",\"x\":\"%s\"", x)) {
        case 1:
            on++;
            break;
        case 0:
            off++;
            break;
        }
    }

    ok(on + off == 200 && on > 70 && off > 70,
       "about half of all numbers are a point: %zu of 200", on);

    memset(raw, 0, sizeof(raw));
    raw[0] = 3;
    x[runcoach_base64url_encode((u_char *) x, raw, 32)] = '\0';
    ok(OKP("\"crv\":\"Ed25519\",\"x\":\"%s\"", x) == 1, "3 is one");
    ok(OKP("\"crv\":\"Ed25519\",\"alg\":\"EdDSA\",\"x\":\"%s\"", x) == 1,
       "with alg");
    ok(OKP("\"crv\":\"Ed25519\",\"alg\":\"ES256\",\"x\":\"%s\"", x) == 0,
       "another alg");
    ok(OKP("\"crv\":\"X25519\",\"x\":\"%s\"", x) == 0
       && OKP("\"crv\":\"Ed448\",\"x\":\"%s\"", x) == 0
       && OKP("\"crv\":\"ed25519\",\"x\":\"%s\"", x) == 0
       && OKP("\"x\":\"%s\"", x) == 0,
       "another curve");
    ok(OKP("\"crv\":\"Ed25519\",\"d\":\"%s\",\"x\":\"%s\"", x, x) == 0,
       "a private key");

    x[runcoach_base64url_encode((u_char *) x, raw, 33)] = '\0';
    ok(OKP("\"crv\":\"Ed25519\",\"x\":\"%s\"", x) == 0, "33 bytes");
    x[runcoach_base64url_encode((u_char *) x, raw, 31)] = '\0';
    ok(OKP("\"crv\":\"Ed25519\",\"x\":\"%s\"", x) == 0, "31 bytes");

#undef OKP
}


static void
test_several(void)
{
    int     i;
    char   *p;
    char    text[32768];

    p = text;
    p += sprintf(p, "{\"keys\":[");

    for (i = 0; i < 6; i++) {
        p += sprintf(p, "%s{\"kty\":\"RSA\",\"kid\":\"%s\",\"n\":\"%s\",%s}",
                     i ? "," : "", i == 1 ? "b" : i == 4 ? "c" : "a",
                     modulus(i == 3 ? 1024 : 2048, 1 + 2 * i), RSA_E);
    }

    sprintf(p, ",7,null,\"x\",[],{}],\"other\":1}");

    ok(parse(text) == RUNCOACH_JWKS_OK, "good keys among bad ones");
    ok(runcoach_jwks_count(set) == 5, "five are kept");
    ok(skipped == 6, "six are left out, got %u", skipped);
    ok(set->keys[0].kid.data[0] == 'a'
       && set->keys[1].kid.data[0] == 'b'
       && set->keys[2].kid.data[0] == 'a'
       && set->keys[3].kid.data[0] == 'c'
       && set->keys[4].kid.data[0] == 'a',
       "in the order of the document, with those of the same kid");

    runcoach_jwks_free(set);

    ok(runcoach_jwks_parse(&set, NULL, (u_char *) "{}", 2)
       == RUNCOACH_JWKS_NOT_JSON,
       "skipped may be NULL");
}


static void
test_errors(void)
{
    int      i;
    char    *p, *text;
    size_t   n;

    ok(parse("{\"keys\":[]}") == RUNCOACH_JWKS_NO_KEY && set == NULL
       && skipped == 0,
       "an empty set");
    ok(parse("{\"keys\":{}}") == RUNCOACH_JWKS_NOT_JSON, "keys is an object");
    ok(parse("{\"keys\":null}") == RUNCOACH_JWKS_NOT_JSON, "keys is null");
    ok(parse("{}") == RUNCOACH_JWKS_NOT_JSON, "no keys");
    ok(parse("[]") == RUNCOACH_JWKS_NOT_JSON, "an array");
    ok(parse("") == RUNCOACH_JWKS_NOT_JSON, "nothing");
    ok(parse("<html>") == RUNCOACH_JWKS_NOT_JSON, "HTML");
    ok(parse("\xef\xbb\xbf{\"keys\":[]}") == RUNCOACH_JWKS_NOT_JSON, "a BOM");
    ok(parse("{\"keys\":[],\"keys\":[]}") == RUNCOACH_JWKS_NOT_JSON,
       "keys twice");
    ok(parse("{\"keys\":[]") == RUNCOACH_JWKS_NOT_JSON, "truncated");

    n = RUNCOACH_JWKS_MAX_SIZE + 1;
    text = malloc(n);
    memset(text, ' ', n);
    memcpy(text, "{\"keys\":[]}", 11);

    ok(runcoach_jwks_parse(&set, &skipped, (u_char *) text, n)
       == RUNCOACH_JWKS_TOO_LARGE && set == NULL,
       "one byte too many");
    ok(runcoach_jwks_parse(&set, &skipped, (u_char *) text, n - 1)
       == RUNCOACH_JWKS_NO_KEY,
       "not one too many");

    p = text + sprintf(text, "{\"keys\":[0");

    for (i = 1; i < RUNCOACH_JWKS_MAX_KEYS; i++) {
        p += sprintf(p, ",0");
    }

    strcpy(p, "]}");
    ok(parse(text) == RUNCOACH_JWKS_NO_KEY && skipped == 64, "64 members");

    strcpy(p, ",0]}");
    ok(parse(text) == RUNCOACH_JWKS_TOO_LARGE, "65 members");

    free(text);
    runcoach_jwks_free(NULL);
}


static void
test_json(void)
{
    char    text[512];
    size_t  i, depth;

    static const char *const  bad[] = {
        "", "null", "1", "\"x\"", "[1]", "{", "%s{}", "%s x", "{\"a\":1,}",
        "{\"keys\":[],\"a\":1,\"a\":1}", "{\"keys\":[],\"a\":1,\"\\u0061\":1}",
        "{\"keys\":[],'a':1}", "{\"keys\":[],a:1}", "{\"keys\":[],\"a\":NaN}",
        "{\"keys\":[],\"a\":1e400}",
        "{\"keys\":[],\"a\":99999999999999999999}",
        "{\"keys\":[],\"a\":01}", "{\"keys\":[],\"a\":\"\\ud800\"}",
        "{\"keys\":[],\"a\":\"\xff\"}", "{\"keys\":[],\"a\":\"\xc0\x80\"}",
        "{\"keys\":[],\"a\":\"\xed\xa0\x80\"}",
        "{\"keys\":[],\"a\":\"\\u0000\"}", "{\"keys\":[],\"a\":\"\n\"}",
        "/* */{\"keys\":[]}", "{\"keys\":[]}\x0b"
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), bad[i], "{\"keys\":[]}");
        ok(parse(text) == RUNCOACH_JWKS_NOT_JSON && set == NULL,
           "no document: row %zu", i);
    }

    ok(parse(" \r\n\t{ \"keys\" : [ ] } \n") == RUNCOACH_JWKS_NO_KEY,
       "white space around");

    for (depth = 2; depth <= 100; depth++) {
        memcpy(text, "{\"keys\":", 8);
        memset(text + 8, '[', depth - 1);
        memset(text + 8 + depth - 1, ']', depth - 1);
        strcpy(text + 8 + 2 * (depth - 1), "}");

        if (parse(text) != (depth <= 32 ? RUNCOACH_JWKS_NO_KEY
                                        : RUNCOACH_JWKS_NOT_JSON))
        {
            break;
        }
    }

    ok(depth == 101, "the depth is bounded at 32");
}


static char *
pem_of(EVP_PKEY *pkey, int selection, const char *structure)
{
    size_t             n;
    u_char            *data;
    char              *text;
    OSSL_ENCODER_CTX  *ctx;

    data = NULL;
    ctx = OSSL_ENCODER_CTX_new_for_pkey(pkey, selection, "PEM", structure,
                                        NULL);

    if (OSSL_ENCODER_to_data(ctx, &data, &n) != 1) {
        abort();
    }

    text = copy_of(data, n + 1);
    text[n] = '\0';

    OPENSSL_free(data);
    OSSL_ENCODER_CTX_free(ctx);

    return text;
}


static char *
pem_of_cert(EVP_PKEY *pkey)
{
    BIO   *bio;
    long   n;
    char  *data, *text;
    X509  *cert;

    cert = X509_new();
    bio = BIO_new(BIO_s_mem());

    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 60);
    X509_set_pubkey(cert, pkey);

    if (X509_sign(cert, pkey, EVP_sha256()) == 0
        || PEM_write_bio_X509(bio, cert) != 1)
    {
        abort();
    }

    n = BIO_get_mem_data(bio, &data);
    text = malloc(n + 1);
    memcpy(text, data, n);
    text[n] = '\0';

    BIO_free(bio);
    X509_free(cert);

    return text;
}


static char *
replaced(const char *text, const char *what, const char *with)
{
    char  *out, *d;

    out = malloc(strlen(text) * 4 + 1);

    for (d = out; *text != '\0'; /* void */ ) {
        if (strncmp(text, what, strlen(what)) == 0) {
            d = stpcpy(d, with);
            text += strlen(what);

        } else {
            *d++ = *text++;
        }
    }

    *d = '\0';

    return out;
}


static runcoach_jwks_rc_e
from_pem(const char *pem)
{
    void                *p;
    runcoach_jwks_rc_e   rc;

    runcoach_jwks_free(set);

    p = copy_of(pem, strlen(pem));
    rc = runcoach_jwks_from_pem(&set, p, strlen(pem));
    free(p);

    if (ERR_peek_error() != 0) {
        return -1;
    }

    return rc;
}


static runcoach_jwks_rc_e
from_secret(const void *secret, size_t n)
{
    void                *p;
    runcoach_jwks_rc_e   rc;

    runcoach_jwks_free(set);

    p = copy_of(secret, n);
    rc = runcoach_jwks_from_secret(&set, p, n);
    free(p);

    return (ERR_peek_error() == 0) ? rc : (runcoach_jwks_rc_e) -1;
}


static void
is_pem(const char *pem, EVP_PKEY *pkey, const char *name)
{
    if (!ok(from_pem(pem) == RUNCOACH_JWKS_OK, "%s", name)) {
        return;
    }

    ok(runcoach_jwks_count(set) == 1
       && set->keys[0].kid.len == 0
       && EVP_PKEY_eq(set->keys[0].pkey, pkey) == 1,
       "... is that key");
}


static void
test_pem(void)
{
    size_t  i;
    char   *pem, *text, *body, *end;

    static const char *const  names[] = { "SPKI", "PKCS #1", "certificate" };

    for (i = 0; i < 3; i++) {

        pem = (i == 0) ? pem_of(rsa, EVP_PKEY_PUBLIC_KEY,
                                "SubjectPublicKeyInfo")
            : (i == 1) ? pem_of(rsa, EVP_PKEY_PUBLIC_KEY, "type-specific")
                       : pem_of_cert(rsa);

        is_pem(pem, rsa, names[i]);

        text = replaced(pem, "\n", "\\n");
        is_pem(text, rsa, "with \\n as two characters");
        free(text);

        text = replaced(pem, "\n", "\r\n");
        is_pem(text, rsa, "with CRLF");
        free(text);

        text = replaced(pem, "\n", "\\r\\n");
        is_pem(text, rsa, "with \\r\\n");
        free(text);

        text = replaced(pem, "\n", " ");
        is_pem(text, rsa, "on one line, with spaces");
        free(text);

        text = replaced(pem, "\n", "");
        is_pem(text, rsa, "on one line");

        body = strstr(text + 5, "-----") + 5;
        end = strstr(body, "-----");
        *end = '\0';
        is_pem(body, rsa, "without BEGIN and END");
        free(text);

        body = strchr(pem, '\n');
        end = strstr(body, "-----");
        *end = '\0';
        is_pem(body, rsa, "without BEGIN and END, folded");
        free(pem);
    }
}


static void
test_pem_kinds(void)
{
    int    i;
    char  *pem;

    static const char *const  names[] = { "P-256", "P-384", "P-521" };

    for (i = 0; i < 3; i++) {
        pem = pem_of(ec[i], EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
        is_pem(pem, ec[i], names[i]);
        ok(runcoach_jwks_algs(set) == signers[6 + i].alg, "... its alg");
        free(pem);
    }

    pem = pem_of_cert(ec[0]);
    is_pem(pem, ec[0], "a certificate of P-256");
    free(pem);

    pem = pem_of(ed, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    is_pem(pem, ed, "Ed25519");
    ok(runcoach_jwks_algs(set) == RUNCOACH_ALG_EDDSA, "... its alg");

    pem[strlen(pem) - 1] = '\0';
    is_pem(pem, ed, "without the last line feed");
    free(pem);

    pem = pem_of(rsa, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    from_pem(pem);
    ok(runcoach_jwks_algs(set) == ALG_RSA, "RSA: all its algorithms");
    free(pem);
}


static void
test_pem_refused(void)
{
    char          *pem, *text;
    size_t         i;
    EVP_PKEY      *pkey;
    EVP_PKEY_CTX  *ctx;

    static const char *const  bad[] = {
        "", " ", "-", "-----", "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----AAAA-----END CERTIFICATE-----",
        "AAAA", "not base64!", "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A", "sk_live_x"
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ok(from_pem(bad[i]) == RUNCOACH_JWKS_NO_KEY && set == NULL,
           "refused: \"%s\"", bad[i]);
    }

    pem = pem_of(rsa, EVP_PKEY_KEYPAIR, "PrivateKeyInfo");
    ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "a private key, PKCS #8");

    text = replaced(pem, " PRIVATE KEY", " PUBLIC KEY");
    ok(from_pem(text) == RUNCOACH_JWKS_NO_KEY, "and under another name");
    free(text);

    text = strstr(pem + 5, "-----") + 5;
    *strstr(text, "-----") = '\0';
    ok(from_pem(text) == RUNCOACH_JWKS_NO_KEY, "and without BEGIN and END");
    free(pem);

    pem = pem_of(rsa, EVP_PKEY_KEYPAIR, "type-specific");
    ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "a private key, PKCS #1");

    text = replaced(pem, " PRIVATE KEY", " PUBLIC KEY");
    ok(from_pem(text) == RUNCOACH_JWKS_NO_KEY, "and under another name");
    free(text);
    free(pem);

    pem = pem_of(rsa, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");

    text = replaced(pem, "-----BEGIN", "x-----BEGIN");
    ok(from_pem(text) == RUNCOACH_JWKS_NO_KEY, "text before");
    free(text);

    text = malloc(2 * strlen(pem) + 1);
    sprintf(text, "%s%s", pem, pem);
    ok(from_pem(text) == RUNCOACH_JWKS_NO_KEY, "two keys");
    free(text);

    text = replaced(pem, "PUBLIC", "RSA PUBLIC");
    ok(from_pem(text) == RUNCOACH_JWKS_NO_KEY, "SPKI called PKCS #1");
    free(text);
    free(pem);

    for (i = 0; i < 4; i++) {
        static const char *const  types[] = {
            "secp256k1", "P-224", "X25519", "ED448"
        };

        pkey = (i < 2) ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", types[i])
                       : EVP_PKEY_Q_keygen(NULL, NULL, types[i]);
        pem = pem_of(pkey, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
        ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "a key of %s", types[i]);
        EVP_PKEY_free(pkey);
        free(pem);
    }

    pkey = NULL;
    ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA_PSS, NULL);

    if (EVP_PKEY_keygen_init(ctx) != 1 || EVP_PKEY_keygen(ctx, &pkey) != 1) {
        abort();
    }

    EVP_PKEY_CTX_free(ctx);
    pem = pem_of(pkey, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "a key of RSASSA-PSS");
    EVP_PKEY_free(pkey);
    free(pem);

    pem = pem_of(ec[0], EVP_PKEY_KEYPAIR, "PrivateKeyInfo");
    ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "a private key of P-256");
    free(pem);

    pem = pem_of(ed, EVP_PKEY_KEYPAIR, "PrivateKeyInfo");
    ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "a private key of Ed25519");
    free(pem);

    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 1024);
    pem = pem_of(pkey, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "1024 bits");
    EVP_PKEY_free(pkey);
    free(pem);

    text = malloc(RUNCOACH_JWKS_MAX_SIZE + 1);
    memset(text, 'A', RUNCOACH_JWKS_MAX_SIZE + 1);
    runcoach_jwks_free(set);
    ok(runcoach_jwks_from_pem(&set, (u_char *) text,
                              RUNCOACH_JWKS_MAX_SIZE + 1)
       == RUNCOACH_JWKS_TOO_LARGE && set == NULL,
       "too large");
    ok(runcoach_jwks_from_pem(&set, (u_char *) text, RUNCOACH_JWKS_MAX_SIZE)
       == RUNCOACH_JWKS_NO_KEY,
       "64k of zeroes");
    free(text);
}


static void
test_secret(void)
{
    size_t    i;
    u_char    secret[RUNCOACH_JWKS_MAX_SECRET + 1];
    unsigned  algs;

    static const struct {
        size_t    n;
        unsigned  algs;
    } rows[] = {
        { 0, 0 }, { 1, 0 }, { 31, 0 },
        { 32, RUNCOACH_ALG_HS256 },
        { 47, RUNCOACH_ALG_HS256 },
        { 48, RUNCOACH_ALG_HS256|RUNCOACH_ALG_HS384 },
        { 63, RUNCOACH_ALG_HS256|RUNCOACH_ALG_HS384 },
        { 64, RUNCOACH_ALG_HMAC },
        { 129, RUNCOACH_ALG_HMAC },
        { 1024, RUNCOACH_ALG_HMAC },
        { 1025, 0 }
    };

    for (i = 0; i < sizeof(secret); i++) {
        secret[i] = (u_char) (i * 37);
    }

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        algs = 0;

        if (from_secret(secret, rows[i].n) == RUNCOACH_JWKS_OK) {
            algs = runcoach_jwks_algs(set);
        }

        ok(algs == rows[i].algs && (set != NULL) == (algs != 0),
           "a secret of %zu bytes", rows[i].n);
    }
}


/*
 * A public key as the secret of an HMAC, in every form in which one can be had.
 */

static void
test_secret_refused(void)
{
    char      *pem, *text, *body;
    size_t     i;
    ssize_t    n;
    u_char     der[2048];
    EVP_PKEY  *keys[4];

    keys[0] = rsa;
    keys[1] = ec[0];
    keys[2] = ec[2];
    keys[3] = ed;

    for (i = 0; i < 4; i++) {
        pem = pem_of(keys[i], EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");

        ok(from_secret(pem, strlen(pem)) == RUNCOACH_JWKS_NO_KEY, "a PEM");
        ok(from_secret(pem, strlen(pem) - 1) == RUNCOACH_JWKS_NO_KEY,
           "without line feed");

        text = replaced(pem, "-----B", " \n -----B");
        ok(from_secret(text, strlen(text)) == RUNCOACH_JWKS_NO_KEY,
           "with white space before it");
        free(text);

        text = replaced(pem, "\n", "\\n");
        ok(from_secret(text, strlen(text)) == RUNCOACH_JWKS_NO_KEY,
           "on one line");
        free(text);

        body = strstr(pem + 5, "-----") + 5;
        *strstr(body, "-----") = '\0';
        ok(from_secret(body, strlen(body)) == RUNCOACH_JWKS_NO_KEY,
           "without BEGIN and END");

        text = replaced(body, "\n", "");
        n = runcoach_base64_decode_any(der, (u_char *) text, strlen(text));
        ok(n > 32 && from_secret(der, n) == RUNCOACH_JWKS_NO_KEY, "in DER");
        free(text);
        free(pem);
    }

    pem = pem_of(rsa, EVP_PKEY_KEYPAIR, "PrivateKeyInfo");
    pem[1000] = '\0';
    ok(from_secret(pem, strlen(pem)) == RUNCOACH_JWKS_NO_KEY,
       "a private key");
    free(pem);
}


/*
 * Every algorithm with a key of JWK, with and without alg, and of PEM.
 */

static void
test_verify(void)
{
    char             members[64];
    char            *pem;
    size_t           i, form, n;
    u_char           sig[1024];
    const signer_t  *signer;

    for (i = 0; i < NSIGNERS; i++) {
        signer = &signers[i];

        for (form = 0; form < 3; form++) {

            if (form == 2) {
                pem = pem_of(*signer->pkey, EVP_PKEY_PUBLIC_KEY,
                             "SubjectPublicKeyInfo");
                from_pem(pem);
                free(pem);

            } else {
                snprintf(members, sizeof(members), "\"kid\":\"k\"%s%s%s",
                         form ? ",\"alg\":\"" : "", form ? signer->name : "",
                         form ? "\"" : "");
                parse_keys(jwk_of(*signer->pkey, members), NULL, NULL);
            }

            n = sign(sig, signer, *signer->pkey, TEXT);

            ok(verdict("k", signer->alg, TEXT, sig, n)
               == RUNCOACH_JWKS_VERIFIED,
               "%s verifies", signer->name);
            ok(verdict("k", signer->alg, OTHER, sig, n)
               == RUNCOACH_JWKS_FORGED,
               "... not another text");
            ok(verdict("k", signer->alg, TEXT ".", sig, n)
               == RUNCOACH_JWKS_FORGED,
               "... nor a longer one");
            ok(verdict("k", signer->alg, "", sig, n) == RUNCOACH_JWKS_FORGED,
               "... nor none");

            n = sign(sig, signer, *signer->other, TEXT);
            ok(verifies(signer->alg, sig, n) == 0, "... nor by another key");

            n = sign(sig, signer, *signer->pkey, TEXT);
            ok(verifies(signer->alg, sig, n) == 1, "... and again");
        }
    }
}


/* every bit of every signature, and every length but the right one */

static void
test_mutations(void)
{
    size_t           i, j, n, wrong;
    u_char           sig[1024];
    const signer_t  *signer;

    for (i = 0; i < NSIGNERS; i++) {
        signer = &signers[i];

        parse_keys(jwk_of(*signer->pkey, "\"kid\":\"k\""), NULL, NULL);

        memset(sig, 0, sizeof(sig));
        n = sign(sig, signer, *signer->pkey, TEXT);
        wrong = 0;

        for (j = 0; j < 8 * n; j++) {
            sig[j / 8] ^= 1 << (j % 8);
            wrong += (verifies(signer->alg, sig, n) != 0);
            sig[j / 8] ^= 1 << (j % 8);
        }

        ok(wrong == 0, "%s: no bit of %zu may be flipped", signer->name, 8 * n);

        wrong = 0;

        for (j = 0; j < 600; j++) {
            wrong += (j != n && verifies(signer->alg, sig, j) != 0);
        }

        ok(wrong == 0, "... nor one byte be missing or too many");

        memset(sig, 0, sizeof(sig));
        ok(verifies(signer->alg, sig, n) == 0, "... nor all be zero");
        memset(sig, 0xff, sizeof(sig));
        ok(verifies(signer->alg, sig, n) == 0, "... nor all be ones");

        n = sign(sig, signer, *signer->pkey, TEXT);
        ok(verifies(signer->alg, sig, n) == 1, "as it was it is good");
    }
}


/*
 * The algorithm is the key's: with every signature under every name there is.
 */

static void
test_pinned(void)
{
    char             members[64];
    size_t           i, j, n, wrong;
    u_char           sig[1024];
    unsigned         alg;
    const signer_t  *signer, *other;

    for (i = 0; i < NSIGNERS; i++) {
        signer = &signers[i];

        snprintf(members, sizeof(members), "\"kid\":\"k\",\"alg\":\"%s\"",
                 signer->name);
        parse_keys(jwk_of(*signer->pkey, members), NULL, NULL);

        wrong = 0;

        for (j = 0; j < NSIGNERS; j++) {
            other = &signers[j];
            n = sign(sig, other, *other->pkey, TEXT);

            for (alg = 1; alg <= 0x8000; alg <<= 1) {
                wrong += verdict("k", alg, TEXT, sig, n)
                         != (alg != signer->alg ? RUNCOACH_JWKS_UNKNOWN
                             : other == signer ? RUNCOACH_JWKS_VERIFIED
                             : RUNCOACH_JWKS_FORGED);
            }
        }

        ok(wrong == 0, "a key of %s verifies nothing else", signer->name);
    }

    parse_keys(jwk_of(rsa, "\"kid\":\"k\""), NULL, NULL);
    wrong = 0;

    for (i = 0; i < 6; i++) {
        n = sign(sig, &signers[i], rsa, TEXT);

        for (j = 0; j < 6; j++) {
            wrong += verifies(signers[j].alg, sig, n) != (i == j);
        }
    }

    ok(wrong == 0, "of one RSA key, each under its own name only");
    ok(verdict("k", 0, TEXT, sig, n) == RUNCOACH_JWKS_UNKNOWN
       && verdict("k", ~0U, TEXT, sig, n) == RUNCOACH_JWKS_UNKNOWN
       && verdict("k", RUNCOACH_ALG_RS256|RUNCOACH_ALG_PS256, TEXT, sig, n)
          == RUNCOACH_JWKS_UNKNOWN,
       "no name, or more than one");
}


/* what RFC 8017 section 9.2 makes, and what looks like it */

static void
test_pkcs1(void)
{
    u_char         em[256], sig[256], digest[32];
    size_t         i, n, ff;
    EVP_PKEY_CTX  *ctx;

    static const u_char  prefix[] = {
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
        0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20
    };

    static const char *const  names[] = {
        "by the book", "block type 2", "a byte of the padding is not 0xff",
        "short padding with rubbish behind the hash", "no zero",
        "a digest of another name", "no parameters in the DigestInfo",
        "the hash alone", "a first byte that is not zero"
    };

    parse_keys(jwk_of(rsa, "\"kid\":\"k\""), NULL, NULL);
    EVP_Digest(TEXT, strlen(TEXT), digest, NULL, EVP_sha256(), NULL);

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        memset(em, 0xff, sizeof(em));
        em[0] = (i == 8);
        em[1] = (i == 1) ? 2 : 1;

        ff = (i == 3) ? 8 : (i == 7) ? 256 - 3 - 32 : 256 - 3 - 51;
        ff += 2 * (i == 6);

        em[2 + ff] = (i == 4) ? 0xff : 0;
        n = 3 + ff;

        if (i != 7) {
            memcpy(em + n, prefix, sizeof(prefix));

            if (i == 6) {
                em[n + 1] -= 2;
                em[n + 3] -= 2;
                memmove(em + n + 15, em + n + 17, 2);
                n -= 2;
            }

            em[n + 14] += (i == 5);
            n += sizeof(prefix);
        }

        memcpy(em + n, digest, 32);
        em[20] ^= (i == 2);

        ctx = EVP_PKEY_CTX_new(rsa, NULL);
        n = sizeof(sig);

        if (EVP_PKEY_sign_init(ctx) != 1
            || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) != 1
            || EVP_PKEY_sign(ctx, sig, &n, em, sizeof(em)) != 1)
        {
            /* above the modulus, which is as good */

            ERR_clear_error();
            memset(sig, 0xff, sizeof(sig));
            n = sizeof(sig);
        }

        EVP_PKEY_CTX_free(ctx);

        ok(n == 256 && verifies(RUNCOACH_ALG_RS256, sig, n) == (i == 0),
           "PKCS #1: %s", names[i]);
    }
}


static void
test_pss(void)
{
    int            salt;
    size_t         i, n;
    u_char         sig[512], digest[32];
    EVP_PKEY_CTX  *ctx;

    static const struct {
        int          salt;
        int          good;
        const char  *mgf1;
        const char  *name;
    } rows[] = {
        { 32, 1, "SHA256", "a salt of 32 bytes" },
        { 0, 0, "SHA256", "no salt" },
        { 20, 0, "SHA256", "a salt of 20 bytes" },
        { 31, 0, "SHA256", "a salt of 31 bytes" },
        { 33, 0, "SHA256", "a salt of 33 bytes" },
        { 222, 0, "SHA256", "a salt of all there is room for" },
        { 32, 0, "SHA1", "SHA-1 in the mask" },
        { 32, 0, "SHA512", "SHA-512 in the mask" },
        { 32, 1, "SHA256", "32 again" }
    };

    parse_keys(jwk_of(rsa, "\"kid\":\"k\""), NULL, NULL);
    EVP_Digest(TEXT, strlen(TEXT), digest, NULL, EVP_sha256(), NULL);

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        salt = rows[i].salt;
        n = sizeof(sig);

        ctx = signing(&signers[3], rsa);

        if (EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt) != 1
            || EVP_PKEY_CTX_set_rsa_mgf1_md(ctx,
                                         EVP_get_digestbyname(rows[i].mgf1))
               != 1
            || EVP_PKEY_sign(ctx, sig, &n, digest, 32) != 1)
        {
            abort();
        }

        EVP_PKEY_CTX_free(ctx);

        ok(verifies(RUNCOACH_ALG_PS256, sig, n) == rows[i].good, "PSS: %s",
           rows[i].name);
    }
}


static void
test_ecdsa(void)
{
    int              i;
    size_t           n, j, wrong;
    u_char           sig[132], bad[200], order[66], zero[66];
    const u_char    *p;
    u_char          *q;
    ECDSA_SIG       *pair;
    const signer_t  *signer;

    for (i = 0; i < 3; i++) {
        signer = &signers[6 + i];

        parse_keys(jwk_of(ec[i], "\"kid\":\"k\""), NULL, NULL);

        n = sign(sig, signer, ec[i], TEXT) / 2;
        memcpy(order, set->keys[0].order, n);
        memset(zero, 0, sizeof(zero));

#define PAIR(r, s)                                                            \
        (memcpy(bad, r, n), memcpy(bad + n, s, n),                            \
         verifies(signer->alg, bad, 2 * n))

        ok(PAIR(sig, sig + n) == 1, "%s: r and s", signer->name);
        ok(PAIR(zero, zero) == 0, "both zero");
        ok(PAIR(zero, sig + n) == 0, "r is zero");
        ok(PAIR(sig, zero) == 0, "s is zero");
        ok(PAIR(order, order) == 0, "both are n");
        ok(PAIR(order, sig + n) == 0, "r is n");
        ok(PAIR(sig, order) == 0, "s is n");
        ok(PAIR(sig + n, sig) == 0, "s and r");

        order[n - 1]--;
        ok(PAIR(order, order) == 0, "n - 1 is in range and no signature");
        order[n - 1] += 2;
        ok(PAIR(order, order) == 0, "n + 1");

        /* one and the same number to a reader that takes it modulo n */

        order[n - 1]--;
        memcpy(bad, sig, 2 * n);
        wrong = 0;

        for (j = n; j-- > 0; /* void */ ) {
            wrong += bad[n + j] + order[j];
            bad[n + j] = (u_char) wrong;
            wrong >>= 8;
        }

        ok(verifies(signer->alg, bad, 2 * n) == 0, "s + n");

        pair = ECDSA_SIG_new();
        ECDSA_SIG_set0(pair, BN_bin2bn(sig, (int) n, NULL),
                       BN_bin2bn(sig + n, (int) n, NULL));
        q = bad;
        j = i2d_ECDSA_SIG(pair, &q);
        ECDSA_SIG_free(pair);
        ok(verifies(signer->alg, bad, j) == 0, "in DER, %zu bytes", j);

        memcpy(bad, sig, 2 * n);
        bad[2 * n] = 0;
        ok(verifies(signer->alg, bad, 2 * n + 1) == 0, "a zero after it");
        ok(verifies(signer->alg, bad, 2 * n - 1) == 0, "a byte is missing");
        ok(verifies(signer->alg, bad, n) == 0, "s is missing");
        ok(verifies(signer->alg, bad, 0) == 0, "both are missing");

        bad[0] = 0;
        memcpy(bad + 1, sig, n);
        bad[1 + n] = 0;
        memcpy(bad + 2 + n, sig + n, n);
        ok(verifies(signer->alg, bad, 2 * n + 2) == 0, "a zero before each");

#undef PAIR
    }

    /* small numbers make short integers, and large ones a zero before them */

    signer = &signers[6];
    parse_keys(jwk_of(ec[0], "\"kid\":\"k\""), NULL, NULL);
    wrong = 0;

    for (j = 0; j < 600; j++) {
        n = sign(sig, signer, ec[0], TEXT);
        wrong += (verifies(signer->alg, sig, n) != 1);
    }

    ok(wrong == 0, "600 signatures of any shape");

    memset(bad, 0, sizeof(bad));

    for (j = 0; j < 16; j++) {
        bad[31] = (u_char) (1 << (j % 8));
        bad[63 - j] = 0x80;
        wrong += (verifies(signer->alg, bad, 64) != 0);
        bad[63 - j] = 0;
    }

    ok(wrong == 0, "integers of one byte are no signatures");

    p = set->keys[0].order;
    ok(p[0] == 0xff && p[31] == 0x51, "the order is that of P-256");
}


/* S + L is the same number modulo L, and a second signature (RFC 8032, 5.1.7) */

static void
test_eddsa(void)
{
    int       i, times;
    size_t    n;
    u_char    sig[64], bad[65];
    unsigned  carry;

    static const u_char  order[32] = {
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2,
        0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x10
    };

    parse_keys(jwk_of(ed, "\"kid\":\"k\""), NULL, NULL);

    n = sign(sig, &signers[9], ed, TEXT);
    ok(n == 64 && verifies(RUNCOACH_ALG_EDDSA, sig, n) == 1, "S");

    memcpy(bad, sig, 64);

    for (times = 1; times <= 14; times++) {
        carry = 0;

        for (i = 0; i < 32; i++) {
            carry += bad[32 + i] + order[i];
            bad[32 + i] = (u_char) carry;
            carry >>= 8;
        }

        ok(verifies(RUNCOACH_ALG_EDDSA, bad, 64) == 0, "S + %d L", times);
    }

    memcpy(bad, sig, 64);
    memcpy(bad + 32, order, 32);
    ok(verifies(RUNCOACH_ALG_EDDSA, bad, 64) == 0, "L");

    memset(bad + 32, 0, 32);
    ok(verifies(RUNCOACH_ALG_EDDSA, bad, 64) == 0, "S is zero");

    /* with the neutral element as R and a key of order 1 this would be one */

    memset(bad, 0, sizeof(bad));
    bad[0] = 1;
    ok(verifies(RUNCOACH_ALG_EDDSA, bad, 64) == 0, "R is neutral and S zero");

    memcpy(bad, sig, 64);
    bad[64] = 0;
    ok(verifies(RUNCOACH_ALG_EDDSA, bad, 65) == 0, "a zero after it");
}


static void
test_hmac(void)
{
    int            i;
    char          *pem;
    size_t         j, wrong;
    u_char         secret[128], mac[65];
    unsigned       n, alg;
    const EVP_MD  *md;

    for (j = 0; j < sizeof(secret); j++) {
        secret[j] = (u_char) (j * 11 + 3);
    }

    for (i = 0; i < 3; i++) {
        md = (i == 0) ? EVP_sha256() : (i == 1) ? EVP_sha384() : EVP_sha512();
        alg = RUNCOACH_ALG_HS256 << i;

        from_secret(secret, 100);
        HMAC(md, secret, 100, (u_char *) TEXT, strlen(TEXT), mac, &n);
        mac[n] = 0;

        ok(verifies(alg, mac, n) == 1, "HMAC of %u bytes", n);
        ok(verdict(NULL, alg, TEXT, mac, n) == RUNCOACH_JWKS_VERIFIED,
           "... without a kid");
        ok(verdict("k", alg, OTHER, mac, n) == RUNCOACH_JWKS_FORGED,
           "... not of another text");
        ok(verifies(alg, mac, n - 1) == 0 && verifies(alg, mac, n + 1) == 0
           && verifies(alg, mac, 0) == 0 && verifies(alg, mac, n / 2) == 0,
           "... nor of another length");

        wrong = 0;

        for (j = 0; j < 8 * n; j++) {
            mac[j / 8] ^= 1 << (j % 8);
            wrong += (verifies(alg, mac, n) != 0);
            mac[j / 8] ^= 1 << (j % 8);
        }

        ok(wrong == 0, "... nor with a bit flipped");

        wrong = 0;

        for (j = 0; j < NSIGNERS; j++) {
            wrong += (verifies(signers[j].alg, mac, n) != -1);
        }

        ok(wrong == 0, "... nor under the name of another kind");
        ok(verifies(alg, mac, n) == 1, "and again");

        from_secret(secret, 99);
        ok(verifies(alg, mac, n) == 0, "not by another secret");

        HMAC(md, secret, 0, (u_char *) TEXT, strlen(TEXT), mac, &n);
        ok(verifies(alg, mac, n) == 0, "nor by none");

        /* the public key as a secret, for who has the public key only */

        pem = pem_of(rsa, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
        HMAC(md, pem, (int) strlen(pem), (u_char *) TEXT, strlen(TEXT), mac,
             &n);
        from_pem(pem);
        free(pem);

        ok(verifies(alg, mac, n) == -1
           && verifies(RUNCOACH_ALG_RS256 << i, mac, n) == 0,
           "nor by a public key");
    }
}


static void
test_kid(void)
{
    size_t   n;
    char    *pem;
    u_char   sig[512];

    n = sign(sig, &signers[6], ec[0], TEXT);

#define RUN(kid)  verdict(kid, RUNCOACH_ALG_ES256, TEXT, sig, n)

    parse_keys(jwk_of(ec2[0], "\"kid\":\"a\""), jwk_of(ec[0], "\"kid\":\"b\""),
               jwk_of(rsa, "\"kid\":\"c\""));
    ok(RUN("b") == RUNCOACH_JWKS_VERIFIED, "its kid");
    ok(RUN("a") == RUNCOACH_JWKS_FORGED, "that of another key");
    ok(RUN("c") == RUNCOACH_JWKS_UNKNOWN, "that of a key for other algorithms");
    ok(RUN("d") == RUNCOACH_JWKS_UNKNOWN, "an unknown one");
    ok(RUN("") == RUNCOACH_JWKS_UNKNOWN, "an empty one");
    ok(RUN("B") == RUNCOACH_JWKS_UNKNOWN, "in upper case");
    ok(RUN("bb") == RUNCOACH_JWKS_UNKNOWN, "a longer one");
    ok(RUN(NULL) == RUNCOACH_JWKS_UNKNOWN, "none");

    parse_keys(jwk_of(ec2[0], "\"kid\":\"a\""), jwk_of(ec[0], "\"kid\":\"a\""),
               NULL);
    ok(RUN("a") == RUNCOACH_JWKS_VERIFIED, "the second of two of one kid");

    parse_keys(jwk_of(rsa, "\"kid\":\"a\""), jwk_of(ec2[1], "\"kid\":\"a\""),
               jwk_of(ec[0], "\"kid\":\"a\""));
    ok(RUN("a") == RUNCOACH_JWKS_VERIFIED,
       "those for other algorithms do not count");

    parse_keys(jwk_of(ec2[0], "\"kid\":\"a\""),
               jwk_of(ec2[0], "\"kid\":\"a\""),
               jwk_of(ec[0], "\"kid\":\"a\""));
    ok(RUN("a") == RUNCOACH_JWKS_FORGED, "but no third is tried");

    pem = pem_of(ec[0], EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    from_pem(pem);
    free(pem);
    ok(RUN("anything") == RUNCOACH_JWKS_VERIFIED, "a PEM serves any kid");
    ok(RUN("") == RUNCOACH_JWKS_VERIFIED, "an empty one");
    ok(RUN(NULL) == RUNCOACH_JWKS_VERIFIED, "and none");

    parse_keys(jwk_of(ec[0], "\"kid\":\"\\ud0a4/\\\"\""), NULL, NULL);
    ok(RUN("\xed\x82\xa4/\"") == RUNCOACH_JWKS_VERIFIED, "a kid with escapes");

#undef RUN
}


/* contexts are used again, whatever came before */

static void
test_reuse(void)
{
    int              round;
    size_t           i, n, m, wrong;
    u_char           good[1024], bad[1024];
    const signer_t  *signer;

    ERR_clear_error();

    for (i = 0; i < NSIGNERS; i++) {
        signer = &signers[i];

        parse_keys(jwk_of(*signer->pkey, "\"kid\":\"k\""), NULL, NULL);

        n = sign(good, signer, *signer->pkey, TEXT);
        wrong = 0;

        for (round = 0; round < 20; round++) {
            m = sign(bad, signer, *signer->other, TEXT);
            memset(bad, (round % 3 == 1) ? 0xff : bad[0], round % 3 ? m : 1);

            wrong += (verifies(signer->alg, bad, m) != 0);
            wrong += (verifies(signer->alg, bad, m - 1) != 0);
            wrong += (verifies(signer->alg, bad, 0) != 0);
            wrong += (verifies(signer->alg, good, n) != 1);
        }

        ok(wrong == 0, "%s: refusals leave nothing behind", signer->name);
    }

    ERR_raise(ERR_LIB_USER, 42);
    runcoach_jwks_free(set);
    set = NULL;
    ok(parse("{\"keys\":[{\"kid\":\"k\",\"kty\":\"EC\",\"crv\":\"P-256\","
             "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
             "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}")
       == RUNCOACH_JWKS_NO_KEY
       && ERR_GET_REASON(ERR_get_error()) == 42
       && ERR_get_error() == 0,
       "an error that was in OpenSSL's queue stays, alone");
}


static void
test_digest(void)
{
    char    *one, *two, *text;
    char     spaced[16384];
    u_char   first[RUNCOACH_JWKS_DIGEST];
    u_char   secret[64];

#define SAME()                                                                \
    (memcmp(first, runcoach_jwks_digest(set), RUNCOACH_JWKS_DIGEST) == 0)

    one = jwk_of(rsa, "\"kid\":\"a\"");
    two = jwk_of(ec[0], "\"kid\":\"b\"");

    parse_keys(strdup(one), strdup(two), NULL);
    memcpy(first, runcoach_jwks_digest(set), sizeof(first));

    parse_keys(strdup(one), strdup(two), NULL);
    ok(SAME(), "the digest of the same set");

    parse_keys(strdup(two), strdup(one), NULL);
    ok(SAME(), "... in another order");

    text = replaced(two, ",", " ,\n\t");
    snprintf(spaced, sizeof(spaced), "\n{\"x\":1, \"keys\" : [%s,\n%s , {}]} ",
             text, one);
    free(text);
    parse(spaced);
    ok(SAME() && skipped == 1, "... with white space and what is left out");

    parse_keys(strdup(one), NULL, NULL);
    ok(!SAME(), "one of two");

    parse_keys(strdup(one), jwk_of(ec[0], "\"kid\":\"c\""), NULL);
    ok(!SAME(), "another kid");

    parse_keys(strdup(one), jwk_of(ec2[0], "\"kid\":\"b\""), NULL);
    ok(!SAME(), "another key");

    parse_keys(jwk_of(rsa, "\"kid\":\"a\",\"alg\":\"RS256\""), strdup(two),
               NULL);
    ok(!SAME(), "another algorithm");

    parse_keys(strdup(one), strdup(two), strdup(two));
    ok(!SAME(), "one of them twice");

    text = pem_of(rsa, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    from_pem(text);
    memcpy(first, runcoach_jwks_digest(set), sizeof(first));
    free(text);

    text = pem_of_cert(rsa);
    from_pem(text);
    ok(SAME(), "one key in two kinds of PEM");
    free(text);

    text = pem_of(rsa2, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    from_pem(text);
    ok(!SAME(), "two keys");
    free(text);

    memset(secret, 0x55, sizeof(secret));
    from_secret(secret, 64);
    memcpy(first, runcoach_jwks_digest(set), sizeof(first));
    from_secret(secret, 64);
    ok(SAME(), "one secret");
    from_secret(secret, 63);
    ok(!SAME(), "a shorter one");
    secret[63] ^= 1;
    from_secret(secret, 64);
    ok(!SAME(), "another one");

    free(one);
    free(two);

#undef SAME
}


/* examples of RFC 7515, appendix A, and RFC 8037, appendix A.4 */

static void
test_vectors(void)
{
    char            text[512];
    u_char          sig[256], secret[64];
    size_t          i;
    ssize_t         n;

    static const char  key[] =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUu"
        "TwjAzZr1Z9CAow";

    static const struct {
        const char  *name;
        unsigned     alg;
        const char  *jwk;
        const char  *text;
        const char  *sig;
    } rows[] = {
        { "RFC 7515, A.1: HS256", RUNCOACH_ALG_HS256, NULL,
          "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
          ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
          "LmNvbS9pc19yb290Ijp0cnVlfQ",
          "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" },
        { "RFC 7515, A.2: RS256", RUNCOACH_ALG_RS256,
          "{\"kty\":\"RSA\",\"kid\":\"k\",\"e\":\"AQAB\",\"n\":\"ofgWCuLjybRlzo0tZW"
          "JjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0"
          "Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0"
          "LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtd"
          "VMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGN"
          "j8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\"}",
          "eyJhbGciOiJSUzI1NiJ9"
          ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
          "LmNvbS9pc19yb290Ijp0cnVlfQ",
          "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4B"
          "h-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZ"
          "LgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"
          "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6"
          "LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw" },
        { "RFC 7515, A.3: ES256", RUNCOACH_ALG_ES256,
          "{\"kty\":\"EC\",\"kid\":\"k\",\"crv\":\"P-256\","
          "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
          "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
          "eyJhbGciOiJFUzI1NiJ9"
          ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
          "LmNvbS9pc19yb290Ijp0cnVlfQ",
          "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKT"
          "UJqPP3-Kg6NU1Q" },
        { "RFC 7515, A.4: ES512", RUNCOACH_ALG_ES512,
          "{\"kty\":\"EC\",\"kid\":\"k\",\"crv\":\"P-521\","
          "\"x\":\"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6O"
          "vLFV1jSfS9tsz4qUxcWceqwQGk\","
          "\"y\":\"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL"
          "4Kkd0AZMaZmh9ubmf63e3kyMj2\"}",
          "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA",
          "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-K"
          "GDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKv"
          "U8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn" },
        { "RFC 8037, A.4: Ed25519", RUNCOACH_ALG_EDDSA,
          "{\"kty\":\"OKP\",\"kid\":\"k\",\"crv\":\"Ed25519\","
          "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
          "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
          "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7"
          "sVvpAr_MuM0KAg" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].jwk == NULL) {
            n = runcoach_base64url_decode(secret, (u_char *) key, strlen(key));
            from_secret(secret, n);

        } else {
            parse_keys(strdup(rows[i].jwk), NULL, NULL);
        }

        n = runcoach_base64url_decode(sig, (u_char *) rows[i].sig,
                                      strlen(rows[i].sig));

        ok(set != NULL && n > 0
           && verdict("k", rows[i].alg, rows[i].text, sig, n)
              == RUNCOACH_JWKS_VERIFIED,
           "%s", rows[i].name);

        strcpy(text, rows[i].text);
        text[strlen(text) - 1] ^= 1;
        ok(set != NULL && n > 0
           && verdict("k", rows[i].alg, text, sig, n) == RUNCOACH_JWKS_FORGED,
           "... and no other text");
    }
}


int
main(void)
{
    int  i;

    static const char *const  curves[] = { "P-256", "P-384", "P-521" };

    rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);
    rsa2 = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    ed2 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    for (i = 0; i < 3; i++) {
        ec[i] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curves[i]);
        ec2[i] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curves[i]);
    }

    test_algorithms();
    test_document();
    test_members();
    test_sizes();
    test_roca();
    test_ec();
    test_ed25519();
    test_several();
    test_errors();
    test_json();
    test_pem();
    test_pem_kinds();
    test_pem_refused();
    test_secret();
    test_secret_refused();

    test_verify();
    test_mutations();
    test_pinned();
    test_pkcs1();
    test_pss();
    test_ecdsa();
    test_eddsa();
    test_hmac();
    test_kid();
    test_reuse();
    test_digest();
    test_vectors();

    runcoach_jwks_free(set);

    EVP_PKEY_free(rsa);
    EVP_PKEY_free(rsa2);
    EVP_PKEY_free(ed);
    EVP_PKEY_free(ed2);

    for (i = 0; i < 3; i++) {
        EVP_PKEY_free(ec[i]);
        EVP_PKEY_free(ec2[i]);
    }

    return done();
}
