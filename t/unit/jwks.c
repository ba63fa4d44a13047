
#include "../../ngx_runcoach_module/lib/runcoach_jwks.c"

#include <openssl/encoder.h>
#include <openssl/pem.h>
#include "tap.h"


#define RSA_E  "\"e\":\"AQAB\""
#define RSA_K  "\"kty\":\"RSA\",\"kid\":\"k\""


static void *copy_of(const void *data, size_t n);
static runcoach_jwks_rc_e parse(const char *json);
static char *modulus(int bits, int last);
static char *jwk(const char *n, const char *members);
static int usable(const char *n, const char *members);
static char *pem_of(EVP_PKEY *pkey, int selection, const char *structure);
static char *pem_of_cert(EVP_PKEY *pkey);
static char *replaced(const char *text, const char *what, const char *with);
static runcoach_jwks_rc_e from_pem(const char *pem);
static void is_pem(const char *pem, const char *name);
static void test_document(void);
static void test_members(void);
static void test_sizes(void);
static void test_several(void);
static void test_errors(void);
static void test_json(void);
static void test_pem(void);
static void test_pem_refused(void);


static runcoach_jwks_t  *set;
static unsigned          skipped;
static EVP_PKEY         *rsa;


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


static void
test_document(void)
{
    const runcoach_jwk_t  *key;

    ok(usable(modulus(2048, 1),
              "\"use\":\"sig\",\"kty\":\"RSA\",\"kid\":\"ins_1\","
              "\"alg\":\"RS256\"," RSA_E),
       "a document as Clerk publishes it");

    key = runcoach_jwks_key(set, 0);

    ok(key->kid.len == 5 && memcmp(key->kid.data, "ins_1", 5) == 0, "kid");
    ok(key->algs == RUNCOACH_ALG_RS256, "algorithms");
    ok(EVP_PKEY_get_bits(key->pkey) == 2048, "bits");
    ok(EVP_PKEY_get_base_id(key->pkey) == EVP_PKEY_RSA, "type");
    ok(ERR_peek_error() == 0, "nothing is left in OpenSSL's queue");
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
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"RS512\"" },
        { 0, "\"kty\":\"RSA\",\"kid\":\"k\",\"alg\":\"PS256\"" },
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
    ok(runcoach_jwks_key(set, 0)->kid.data[0] == 'a'
       && runcoach_jwks_key(set, 1)->kid.data[0] == 'b'
       && runcoach_jwks_key(set, 2)->kid.data[0] == 'a'
       && runcoach_jwks_key(set, 3)->kid.data[0] == 'c'
       && runcoach_jwks_key(set, 4)->kid.data[0] == 'a',
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
    int      memory;
    char     text[512];
    size_t   i, depth;
    void    *p;
    json_t  *json;

    static const char *const  bad[] = {
        "", "null", "1", "\"x\"", "[1]", "{", "{}{}", "{} x", "{\"a\":1,}",
        "{\"a\":1,\"a\":1}", "{\"a\":1,\"\\u0061\":1}", "{'a':1}", "{a:1}",
        "{\"a\":NaN}", "{\"a\":1e400}", "{\"a\":99999999999999999999}",
        "{\"a\":01}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\\u0000\"}", "{\"a\":\"\n\"}", "/* */{}", "{}\x0b",
        "{\"a\":\"\\\"}", "\xef\xbb\xbf{}"
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        p = copy_of(bad[i], strlen(bad[i]));
        json = runcoach_jose_json(p, strlen(bad[i]), &memory);

        ok(json == NULL && !memory, "not for JOSE: row %zu", i);

        free(p);
    }

    ok(runcoach_jose_json((u_char *) "{}\0", 3, &memory) == NULL, "NUL after");
    ok(runcoach_jose_json((u_char *) "{\"a\0\":1}", 8, &memory) == NULL,
       "NUL in a name");

    json = runcoach_jose_json((u_char *) " \r\n\t{ } \n", 9, &memory);
    ok(json != NULL, "white space around");
    json_decref(json);

    json = runcoach_jose_json((u_char *) "{\"[[[\\\"{{{\":\"\\\\\"}", 17,
                              &memory);
    ok(json != NULL, "brackets and quotes in strings");
    json_decref(json);

    for (depth = 16; depth <= 100; depth++) {
        memcpy(text, "{\"a\":", 5);
        memset(text + 5, '[', depth - 1);
        memset(text + 5 + depth - 1, ']', depth - 1);
        text[5 + 2 * (depth - 1)] = '}';

        json = runcoach_jose_json((u_char *) text, 6 + 2 * (depth - 1),
                                  &memory);

        if ((json != NULL) != (depth <= RUNCOACH_JOSE_MAX_DEPTH)) {
            break;
        }

        json_decref(json);
    }

    ok(depth == 101, "the depth is bounded at %d", RUNCOACH_JOSE_MAX_DEPTH);

    ok(runcoach_alg("RS256") != NULL
       && runcoach_alg("RS256")->alg == RUNCOACH_ALG_RS256
       && runcoach_alg("rs256") == NULL
       && runcoach_alg("none") == NULL
       && runcoach_alg("") == NULL,
       "algorithms by name");
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


static void
is_pem(const char *pem, const char *name)
{
    const runcoach_jwk_t  *key;

    if (!ok(from_pem(pem) == RUNCOACH_JWKS_OK, "%s", name)) {
        return;
    }

    key = runcoach_jwks_key(set, 0);

    ok(runcoach_jwks_count(set) == 1
       && key->kid.len == 0
       && key->algs == RUNCOACH_ALG_RS256
       && EVP_PKEY_eq(key->pkey, rsa) == 1,
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

        is_pem(pem, names[i]);

        text = replaced(pem, "\n", "\\n");
        is_pem(text, "with \\n as two characters");
        free(text);

        text = replaced(pem, "\n", "\r\n");
        is_pem(text, "with CRLF");
        free(text);

        text = replaced(pem, "\n", "\\r\\n");
        is_pem(text, "with \\r\\n");
        free(text);

        text = replaced(pem, "\n", " ");
        is_pem(text, "on one line, with spaces");
        free(text);

        text = replaced(pem, "\n", "");
        is_pem(text, "on one line");

        body = strstr(text + 5, "-----") + 5;
        end = strstr(body, "-----");
        *end = '\0';
        is_pem(body, "without BEGIN and END");
        free(text);

        body = strchr(pem, '\n');
        end = strstr(body, "-----");
        *end = '\0';
        is_pem(body, "without BEGIN and END, folded");
        free(pem);
    }
}


static void
test_pem_refused(void)
{
    char      *pem, *text;
    size_t     i;
    EVP_PKEY  *pkey;

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

    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    pem = pem_of(pkey, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
    ok(from_pem(pem) == RUNCOACH_JWKS_NO_KEY, "an EC key");
    EVP_PKEY_free(pkey);
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


int
main(void)
{
    rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);

    test_document();
    test_members();
    test_sizes();
    test_several();
    test_errors();
    test_json();
    test_pem();
    test_pem_refused();

    runcoach_jwks_free(set);
    EVP_PKEY_free(rsa);

    return done();
}
