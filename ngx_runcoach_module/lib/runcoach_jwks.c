
/*
 * Keys come from outside: each is checked here, once, so that what verifies a
 * signature later may trust every key of a set.  A bad key costs the others
 * nothing: an issuer may publish kinds of keys which are not for us.
 *
 * All OpenSSL errors are taken off its queue again.  nginx would report them
 * at some innocent connection.
 */


#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "runcoach_jwks.h"


#define RUNCOACH_RSA_MIN_BITS    2048
#define RUNCOACH_RSA_MAX_BITS    8192
#define RUNCOACH_RSA_MAX_E_BITS  32


typedef EVP_PKEY *(*runcoach_jwks_der_pt)(const u_char **der, long n);


typedef struct {
    const char            *label;
    runcoach_jwks_der_pt   parse;
} runcoach_jwks_pem_t;


struct runcoach_jwks_s {
    size_t                 nkeys;
    runcoach_jwk_t         keys[];
};


static int runcoach_jose_depth(const u_char *data, size_t n);

static runcoach_jwks_t *runcoach_jwks_create(size_t nkeys);
static runcoach_jwks_rc_e runcoach_jwks_add(runcoach_jwks_t *set,
    const json_t *jwk);
static unsigned runcoach_jwks_algs(const char *kty, const char *name);
static int runcoach_jwks_for_verifying(const json_t *jwk);
static int runcoach_jwks_is_public(const json_t *jwk);

static EVP_PKEY *runcoach_jwks_rsa(const json_t *jwk);
static BIGNUM *runcoach_jwks_bn(const json_t *jwk, const char *name);
static int runcoach_jwks_rsa_check(const BIGNUM *n, const BIGNUM *e);
static EVP_PKEY *runcoach_jwks_rsa_build(const BIGNUM *n, const BIGNUM *e);
static int runcoach_jwks_pkey_check(EVP_PKEY *pkey);

static size_t runcoach_jwks_pem_text(u_char *dst, const u_char *pem, size_t n);
static const u_char *runcoach_jwks_pem_body(const u_char *text, size_t *n,
    const runcoach_jwks_pem_t **kind);
static EVP_PKEY *runcoach_jwks_pem_key(u_char *text, size_t n);
static EVP_PKEY *runcoach_jwks_der_key(const u_char *der, size_t n,
    runcoach_jwks_der_pt parse);
static EVP_PKEY *runcoach_jwks_der_spki(const u_char **der, long n);
static EVP_PKEY *runcoach_jwks_der_pkcs1(const u_char **der, long n);
static EVP_PKEY *runcoach_jwks_der_x509(const u_char **der, long n);


static const runcoach_alg_t  runcoach_algs[] = {
    { "RS256", "RSA", RUNCOACH_ALG_RS256, EVP_sha256 },
    { NULL, NULL, 0, NULL }
};


static const runcoach_jwks_pem_t  runcoach_jwks_pems[] = {
    { "PUBLIC KEY", runcoach_jwks_der_spki },
    { "RSA PUBLIC KEY", runcoach_jwks_der_pkcs1 },
    { "CERTIFICATE", runcoach_jwks_der_x509 },
    { NULL, NULL }
};


const runcoach_alg_t *
runcoach_alg(const char *name)
{
    const runcoach_alg_t  *row;

    for (row = runcoach_algs; row->name != NULL; row++) {
        if (strcmp(row->name, name) == 0) {
            return row;
        }
    }

    return NULL;
}


struct json_t *
runcoach_jose_json(const u_char *data, size_t n, int *memory)
{
    json_t        *json;
    json_error_t   error;

    *memory = 0;

    if (runcoach_jose_depth(data, n) > RUNCOACH_JOSE_MAX_DEPTH) {
        return NULL;
    }

    json = json_loadb((const char *) data, n, JSON_REJECT_DUPLICATES, &error);

    if (json == NULL) {
        *memory = (json_error_code(&error) == json_error_out_of_memory);
        return NULL;
    }

    if (!json_is_object(json)) {
        json_decref(json);
        return NULL;
    }

    return json;
}


/*
 * jansson recurses 2048 levels deep.  This count is right for as much of the
 * text as is JSON, and the parser goes no farther than that.
 */

static int
runcoach_jose_depth(const u_char *data, size_t n)
{
    int     depth, max, quoted;
    size_t  i;

    depth = 0;
    max = 0;
    quoted = 0;

    for (i = 0; i < n; i++) {

        switch (data[i]) {

        case '"':
            quoted = !quoted;
            break;

        case '\\':
            i += quoted;
            break;

        case '{':
        case '[':
            if (!quoted && ++depth > max) {
                max = depth;
            }

            break;

        case '}':
        case ']':
            depth -= !quoted;
            break;
        }
    }

    return max;
}


runcoach_jwks_rc_e
runcoach_jwks_parse(runcoach_jwks_t **set, unsigned *skipped,
    const u_char *json, size_t n)
{
    int                  memory;
    size_t               i;
    json_t              *root, *keys;
    unsigned             nskipped;
    runcoach_jwks_t     *jwks;
    runcoach_jwks_rc_e   rc;

    *set = NULL;
    jwks = NULL;
    nskipped = 0;

    if (n > RUNCOACH_JWKS_MAX_SIZE) {
        return RUNCOACH_JWKS_TOO_LARGE;
    }

    root = runcoach_jose_json(json, n, &memory);
    if (root == NULL) {
        return memory ? RUNCOACH_JWKS_NO_MEMORY : RUNCOACH_JWKS_NOT_JSON;
    }

    keys = json_object_get(root, "keys");
    if (!json_is_array(keys)) {
        rc = RUNCOACH_JWKS_NOT_JSON;
        goto done;
    }

    if (json_array_size(keys) > RUNCOACH_JWKS_MAX_KEYS) {
        rc = RUNCOACH_JWKS_TOO_LARGE;
        goto done;
    }

    jwks = runcoach_jwks_create(json_array_size(keys));
    if (jwks == NULL) {
        rc = RUNCOACH_JWKS_NO_MEMORY;
        goto done;
    }

    for (i = 0; i < json_array_size(keys); i++) {
        rc = runcoach_jwks_add(jwks, json_array_get(keys, i));

        if (rc == RUNCOACH_JWKS_NO_MEMORY) {
            goto done;
        }

        nskipped += (rc != RUNCOACH_JWKS_OK);
    }

    rc = (jwks->nkeys != 0) ? RUNCOACH_JWKS_OK : RUNCOACH_JWKS_NO_KEY;

done:

    if (rc == RUNCOACH_JWKS_OK) {
        *set = jwks;

    } else {
        runcoach_jwks_free(jwks);
    }

    if (skipped != NULL) {
        *skipped = nskipped;
    }

    json_decref(root);

    return rc;
}


static runcoach_jwks_t *
runcoach_jwks_create(size_t nkeys)
{
    return calloc(1, sizeof(runcoach_jwks_t) + nkeys * sizeof(runcoach_jwk_t));
}


static runcoach_jwks_rc_e
runcoach_jwks_add(runcoach_jwks_t *set, const json_t *jwk)
{
    size_t           len;
    u_char          *p;
    json_t          *kid, *alg, *kty;
    unsigned         algs;
    EVP_PKEY        *pkey;
    runcoach_jwk_t  *key;

    kid = json_object_get(jwk, "kid");
    kty = json_object_get(jwk, "kty");
    alg = json_object_get(jwk, "alg");

    len = json_string_length(kid);

    if (len == 0
        || !json_is_string(kty)
        || (alg != NULL && !json_is_string(alg)))
    {
        return RUNCOACH_JWKS_NO_KEY;
    }

    algs = runcoach_jwks_algs(json_string_value(kty), json_string_value(alg));

    if (algs == 0
        || !runcoach_jwks_for_verifying(jwk)
        || !runcoach_jwks_is_public(jwk))
    {
        return RUNCOACH_JWKS_NO_KEY;
    }

    pkey = runcoach_jwks_rsa(jwk);
    if (pkey == NULL) {
        return RUNCOACH_JWKS_NO_KEY;
    }

    p = malloc(len);
    if (p == NULL) {
        EVP_PKEY_free(pkey);
        return RUNCOACH_JWKS_NO_MEMORY;
    }

    memcpy(p, json_string_value(kid), len);

    key = &set->keys[set->nkeys++];

    key->kid.len = len;
    key->kid.data = p;
    key->algs = algs;
    key->pkey = pkey;

    return RUNCOACH_JWKS_OK;
}


/*
 * The algorithm belongs to the key: a token can choose among what is set
 * here, and never beyond.  Without a name it is all that the type can do.
 */

static unsigned
runcoach_jwks_algs(const char *kty, const char *name)
{
    unsigned               algs;
    const runcoach_alg_t  *row;

    algs = 0;

    for (row = runcoach_algs; row->name != NULL; row++) {

        if (strcmp(row->kty, kty) == 0
            && (name == NULL || strcmp(row->name, name) == 0))
        {
            algs |= row->alg;
        }
    }

    return algs;
}


static int
runcoach_jwks_for_verifying(const json_t *jwk)
{
    size_t         i;
    json_t        *use, *ops;
    const char    *op;

    use = json_object_get(jwk, "use");

    if (use != NULL
        && (!json_is_string(use) || strcmp(json_string_value(use), "sig") != 0))
    {
        return 0;
    }

    ops = json_object_get(jwk, "key_ops");

    if (ops == NULL) {
        return 1;
    }

    for (i = 0; i < json_array_size(ops); i++) {
        op = json_string_value(json_array_get(ops, i));

        if (op != NULL && strcmp(op, "verify") == 0) {
            return 1;
        }
    }

    return 0;
}


/*
 * A private key that somebody published is nobody's key any more.
 */

static int
runcoach_jwks_is_public(const json_t *jwk)
{
    const char *const  *name;

    static const char *const  private[] = {
        "d", "p", "q", "dp", "dq", "qi", "oth", "k", NULL
    };

    for (name = private; *name != NULL; name++) {
        if (json_object_get(jwk, *name) != NULL) {
            return 0;
        }
    }

    return 1;
}


static EVP_PKEY *
runcoach_jwks_rsa(const json_t *jwk)
{
    BIGNUM    *n, *e;
    EVP_PKEY  *pkey;

    n = runcoach_jwks_bn(jwk, "n");
    e = runcoach_jwks_bn(jwk, "e");
    pkey = NULL;

    if (n != NULL && e != NULL && runcoach_jwks_rsa_check(n, e)) {
        ERR_set_mark();
        pkey = runcoach_jwks_rsa_build(n, e);
        ERR_pop_to_mark();
    }

    BN_free(n);
    BN_free(e);

    return pkey;
}


/*
 * Base64urlUInt, RFC 7518 section 2: as few octets as the number needs.
 */

static BIGNUM *
runcoach_jwks_bn(const json_t *jwk, const char *name)
{
    u_char   buf[RUNCOACH_RSA_MAX_BITS / 8 + 2];
    size_t   len;
    json_t  *value;
    ssize_t  n;

    value = json_object_get(jwk, name);
    len = json_string_length(value);

    if (len == 0 || runcoach_base64_decoded_max(len) > sizeof(buf)) {
        return NULL;
    }

    n = runcoach_base64url_decode(buf,
                                  (const u_char *) json_string_value(value),
                                  len);

    if (n <= 0 || buf[0] == 0) {
        return NULL;
    }

    return BN_bin2bn(buf, (int) n, NULL);
}


static int
runcoach_jwks_rsa_check(const BIGNUM *n, const BIGNUM *e)
{
    return BN_num_bits(n) >= RUNCOACH_RSA_MIN_BITS
           && BN_num_bits(n) <= RUNCOACH_RSA_MAX_BITS
           && BN_is_odd(n)
           && BN_num_bits(e) <= RUNCOACH_RSA_MAX_E_BITS
           && BN_is_odd(e)
           && !BN_is_one(e);
}


static EVP_PKEY *
runcoach_jwks_rsa_build(const BIGNUM *n, const BIGNUM *e)
{
    EVP_PKEY        *pkey;
    OSSL_PARAM      *params;
    EVP_PKEY_CTX    *ctx;
    OSSL_PARAM_BLD  *bld;

    pkey = NULL;
    params = NULL;

    bld = OSSL_PARAM_BLD_new();
    ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);

    if (bld == NULL || ctx == NULL) {
        goto done;
    }

    if (OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) != 1
        || OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) != 1)
    {
        goto done;
    }

    params = OSSL_PARAM_BLD_to_param(bld);

    if (params == NULL || EVP_PKEY_fromdata_init(ctx) != 1) {
        goto done;
    }

    if (EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        pkey = NULL;
    }

done:

    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    EVP_PKEY_CTX_free(ctx);

    return pkey;
}


runcoach_jwks_rc_e
runcoach_jwks_from_pem(runcoach_jwks_t **set, const u_char *pem, size_t n)
{
    u_char           *text;
    EVP_PKEY         *pkey;
    runcoach_jwks_t  *jwks;

    *set = NULL;

    if (n > RUNCOACH_JWKS_MAX_SIZE) {
        return RUNCOACH_JWKS_TOO_LARGE;
    }

    text = malloc(n + 1);
    jwks = runcoach_jwks_create(1);

    if (text == NULL || jwks == NULL) {
        free(text);
        free(jwks);
        return RUNCOACH_JWKS_NO_MEMORY;
    }

    n = runcoach_jwks_pem_text(text, pem, n);

    ERR_set_mark();
    pkey = runcoach_jwks_pem_key(text, n);
    ERR_pop_to_mark();

    free(text);

    if (pkey == NULL) {
        free(jwks);
        return RUNCOACH_JWKS_NO_KEY;
    }

    jwks->nkeys = 1;
    jwks->keys[0].algs = runcoach_jwks_algs("RSA", NULL);
    jwks->keys[0].pkey = pkey;

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
    EVP_PKEY                   *pkey;
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

    for (pem = runcoach_jwks_pems; pem->label != NULL; pem++) {
        pkey = runcoach_jwks_der_key(text, len, pem->parse);

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

    if (pkey != NULL && p == der + n && runcoach_jwks_pkey_check(pkey)) {
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


static int
runcoach_jwks_pkey_check(EVP_PKEY *pkey)
{
    int      ok;
    BIGNUM  *n, *e;

    /* RSASSA-PSS keys have another id, and may not verify PKCS #1 v1.5 */

    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA) {
        return 0;
    }

    n = NULL;
    e = NULL;

    ok = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1
         && EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1
         && runcoach_jwks_rsa_check(n, e);

    BN_free(n);
    BN_free(e);

    return ok;
}


void
runcoach_jwks_free(runcoach_jwks_t *set)
{
    size_t  i;

    if (set == NULL) {
        return;
    }

    for (i = 0; i < set->nkeys; i++) {
        free((void *) set->keys[i].kid.data);
        EVP_PKEY_free(set->keys[i].pkey);
    }

    free(set);
}


size_t
runcoach_jwks_count(const runcoach_jwks_t *set)
{
    return set->nkeys;
}


const runcoach_jwk_t *
runcoach_jwks_key(const runcoach_jwks_t *set, size_t i)
{
    return &set->keys[i];
}
