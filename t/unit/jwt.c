
#include "../../ngx_runcoach_module/lib/runcoach_jwt.c"

#include <stdio.h>
#include <stdlib.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include "tap.h"


#define NOW  1795166400LL

#define HEAD  "{\"alg\":\"RS256\",\"kid\":\"ins_1\",\"typ\":\"JWT\"}"
#define ISS   "\"iss\":\"https://clerk.example.com\""
#define SUB   "\"sub\":\"user_1\""
#define EXP   "\"exp\":1795166460"
#define BODY  "{" ISS "," SUB "," EXP "}"


typedef struct {
    runcoach_jwt_rc_e   rc;
    const char         *json;
} row_t;


static EVP_PKEY *generate(void);
static char *jwk(EVP_PKEY *pkey, const char *kid);
static runcoach_jwks_t *keys_of(const char *a, const char *b, const char *c);
static size_t encode(char *dst, const void *data, size_t n);
static const char *sign(EVP_PKEY *pkey, const char *head, const char *body,
    size_t nbody);
static const char *unsigned_token(const char *head, const char *body);
static const char *sign_with(const char *alg, EVP_PKEY *pkey,
    const char *body);
static runcoach_jwks_t *pem_keys(EVP_PKEY *pkey);
static runcoach_jwt_rc_e parse(const char *token, size_t n);
static runcoach_jwt_rc_e judge(const char *token);
static runcoach_jwt_rc_e claims(const char *members);
static void rows_of(const row_t *rows, size_t n, const char *what);
static void test_good(void);
static void test_clerk(void);
static void test_structure(void);
static void test_encoding(void);
static void test_header(void);
static void test_json(void);
static void test_algorithm(void);
static void test_hmac_confusion(void);
static void test_signature(void);
static void test_keys(void);
static void test_pem(void);
static void test_issuer(void);
static void test_class(void);
static void test_classes(void);
static void test_subject(void);
static void test_dates(void);
static void test_boundaries(void);
static void test_times(void);
static void test_lifetime(void);
static void test_audience(void);
static void test_party(void);
static void test_status(void);
static void test_required(void);
static void test_order(void);
static void test_values(void);
static runcoach_jwt_path_t path_of(char *names);
static void text_is(const char *path, const char *expected);
static void test_text(void);
static void org_is(const char *expected[4], const char *name);
static void test_org(void);
static void test_opaque(void);
static void test_every_algorithm(void);
static void test_secret(void);
static void test_reasons(void);


#define rows(array, what)                                                     \
    rows_of(array, sizeof(array) / sizeof(array[0]), what)


static EVP_PKEY               *mine, *other;
static runcoach_jwks_t        *keys;
static runcoach_jwt_t          store;
static runcoach_jwt_t         *jwt = &store;
static u_char                 *text_of_jwt;
static runcoach_jwt_policy_t   policy;
static runcoach_jwt_policy_t   strict;

static const runcoach_str_t    parties[] = {
    runcoach_string("https://app.example.com"),
    runcoach_string("http://localhost:3000")
};

static const runcoach_str_t    audiences[] = {
    runcoach_string("api"),
    runcoach_string("authenticated")
};


static EVP_PKEY *
generate(void)
{
    return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);
}


static char *
jwk(EVP_PKEY *pkey, const char *kid)
{
    int      len;
    char    *text;
    char     n[1024];
    u_char   raw[1024];
    BIGNUM  *bn;

    bn = NULL;

    if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &bn) != 1) {
        abort();
    }

    len = BN_bn2bin(bn, raw);
    BN_free(bn);

    encode(n, raw, len);

    text = malloc(2048);
    snprintf(text, 2048, "{\"kty\":\"RSA\",\"use\":\"sig\",\"alg\":\"RS256\","
             "\"kid\":\"%s\",\"n\":\"%s\",\"e\":\"AQAB\"}", kid, n);

    return text;
}


/* the keys are freed; b and c may be NULL */

static runcoach_jwks_t *
keys_of(const char *a, const char *b, const char *c)
{
    char              text[8192];
    runcoach_jwks_t  *set;

    snprintf(text, sizeof(text), "{\"keys\":[%s%s%s%s%s]}", a, b ? "," : "",
             b ? b : "", c ? "," : "", c ? c : "");

    if (runcoach_jwks_parse(&set, NULL, (u_char *) text, strlen(text))
        != RUNCOACH_JWKS_OK)
    {
        abort();
    }

    free((void *) a);
    free((void *) b);
    free((void *) c);

    return set;
}


static size_t
encode(char *dst, const void *data, size_t n)
{
    n = runcoach_base64url_encode((u_char *) dst, data, n);
    dst[n] = '\0';

    return n;
}


static const char *
sign(EVP_PKEY *pkey, const char *head, const char *body, size_t nbody)
{
    char        *p;
    size_t       n;
    u_char       raw[1024];
    EVP_MD_CTX  *ctx;

    static char  token[32768];

    p = token;
    p += encode(p, head, strlen(head));
    *p++ = '.';
    p += encode(p, body, nbody);

    ctx = EVP_MD_CTX_new();
    n = sizeof(raw);

    if (EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, pkey) != 1
        || EVP_DigestSign(ctx, raw, &n, (u_char *) token, p - token) != 1)
    {
        abort();
    }

    EVP_MD_CTX_free(ctx);

    *p++ = '.';
    encode(p, raw, n);

    return token;
}


static const char *
unsigned_token(const char *head, const char *body)
{
    char  *p;

    static char  token[32768];

    p = token;
    p += encode(p, head, strlen(head));
    *p++ = '.';
    p += encode(p, body, strlen(body));
    strcpy(p, ".");

    return token;
}


/* by one of the algorithms that are not RS256; no kid */

static const char *
sign_with(const char *alg, EVP_PKEY *pkey, const char *body)
{
    int            size;
    char          *p;
    char           head[64];
    size_t         n;
    u_char         raw[1024], pair[132];
    ECDSA_SIG     *sig;
    EVP_MD_CTX    *ctx;
    EVP_PKEY_CTX  *pctx;
    const u_char  *der;
    const EVP_MD  *md;

    static char  token[4096];

    snprintf(head, sizeof(head), "{\"alg\":\"%s\"}", alg);
    p = strcpy(token, unsigned_token(head, body));
    p += strlen(token) - 1;

    md = strcmp(alg, "EdDSA") == 0 ? NULL
         : alg[2] == '2' ? EVP_sha256()
         : alg[2] == '3' ? EVP_sha384() : EVP_sha512();

    ctx = EVP_MD_CTX_new();
    n = sizeof(raw);

    if (EVP_DigestSignInit(ctx, &pctx, md, NULL, pkey) != 1
        || (alg[0] == 'P'
            && (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) != 1
                || EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx,
                                                    RSA_PSS_SALTLEN_DIGEST)
                   != 1))
        || EVP_DigestSign(ctx, raw, &n, (u_char *) token, p - token) != 1)
    {
        abort();
    }

    EVP_MD_CTX_free(ctx);

    if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC) {
        size = (EVP_PKEY_get_bits(pkey) + 7) / 8;
        der = raw;
        sig = d2i_ECDSA_SIG(NULL, &der, (long) n);
        BN_bn2binpad(ECDSA_SIG_get0_r(sig), pair, size);
        BN_bn2binpad(ECDSA_SIG_get0_s(sig), pair + size, size);
        ECDSA_SIG_free(sig);

        n = 2 * size;
        memcpy(raw, pair, n);
    }

    encode(p + 1, raw, n);

    return token;
}


static runcoach_jwks_t *
pem_keys(EVP_PKEY *pkey)
{
    long              n;
    BIO              *bio;
    char             *pem;
    runcoach_jwks_t  *set;

    bio = BIO_new(BIO_s_mem());

    if (PEM_write_bio_PUBKEY(bio, pkey) != 1) {
        abort();
    }

    n = BIO_get_mem_data(bio, &pem);

    if (runcoach_jwks_from_pem(&set, (u_char *) pem, n) != RUNCOACH_JWKS_OK) {
        abort();
    }

    BIO_free(bio);

    return set;
}


/* the text lives as long as what is said of it, and not a byte more */

static runcoach_jwt_rc_e
parse(const char *token, size_t n)
{
    free(text_of_jwt);

    text_of_jwt = malloc(n + (n == 0));
    memcpy(text_of_jwt, token, n);

    return runcoach_jwt_parse(jwt, text_of_jwt, n);
}


/* as the callers do it: parse, claims, signature */

static runcoach_jwt_rc_e
judge(const char *token)
{
    runcoach_jwt_rc_e  rc;

    rc = parse(token, strlen(token));
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    rc = runcoach_jwt_check_claims(jwt, &policy, NOW);
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    rc = runcoach_jwt_check_signature(jwt, keys, policy.algs);

    /* nothing may be left for nginx to blame on somebody */

    return (ERR_peek_error() == 0) ? rc : (runcoach_jwt_rc_e) -1;
}


/* the verdict on claims which are added to good ones */

static runcoach_jwt_rc_e
claims(const char *members)
{
    char         body[16384];
    const char  *iss, *sub, *exp;

    iss = strstr(members, "\"iss\"") ? NULL : ISS;
    sub = strstr(members, "\"sub\"") ? NULL : SUB;
    exp = strstr(members, "\"exp\"") ? NULL : EXP;

    snprintf(body, sizeof(body), "{%s%s%s%s%s%s%s}", iss ? iss : "",
             iss ? "," : "", sub ? sub : "", sub ? "," : "", exp ? exp : "",
             exp && members[0] ? "," : "", members);

    return judge(sign(mine, HEAD, body, strlen(body)));
}


static void
rows_of(const row_t *row, size_t n, const char *what)
{
    size_t             i;
    runcoach_jwt_rc_e  rc;

    for (i = 0; i < n; i++) {
        rc = claims(row[i].json);

        ok(rc == row[i].rc, "%s: %.60s: %s%s%s", what, row[i].json,
           runcoach_jwt_reason(row[i].rc), rc == row[i].rc ? "" : ", not ",
           rc == row[i].rc ? "" : runcoach_jwt_reason(rc));
    }
}


static void
test_good(void)
{
    runcoach_str_t  value;

    static const char  escaped[] =
        "{\"\\u0069ss\":\"https:\\/\\/clerk.example.com\"," SUB "," EXP "}";

    ok(judge(sign(mine, HEAD, BODY, strlen(BODY))) == RUNCOACH_JWT_OK,
       "a good token");
    ok(judge(sign(mine, "{\"alg\":\"RS256\",\"kid\":\"ins_1\"}", BODY,
                  strlen(BODY)))
       == RUNCOACH_JWT_OK,
       "typ may be absent");
    ok(judge(sign(mine, HEAD, " \r\n\t" BODY "\n ", strlen(BODY) + 6))
       == RUNCOACH_JWT_OK,
       "white space around the claims");

    ok(jwt->class == RUNCOACH_JWT_SESSION
       && jwt->alg == RUNCOACH_ALG_RS256
       && jwt->kid.len == 5
       && memcmp(jwt->kid.data, "ins_1", 5) == 0
       && jwt->signature.len == 256,
       "what it says of itself");
    ok(runcoach_jwt_claim(jwt, "sub", &value)
       && value.len == 6
       && memcmp(value.data, "user_1", 6) == 0,
       "and of its subject");
    ok(judge(sign(mine,
                  "{\"\\u0061lg\":\"\\u0052S256\",\"kid\":\"ins\\u005f1\"}",
                  escaped, strlen(escaped)))
       == RUNCOACH_JWT_OK,
       "escapes in both");
}


static void
test_clerk(void)
{
    time_t          exp, nbf, iat;
    runcoach_str_t  value;

    static const char  head[] =
        "{\"alg\":\"RS256\",\"cat\":\"cl_B7d4PD111AAA\",\"kid\":\"ins_1\","
        "\"oiat\":1795166390,\"typ\":\"JWT\"}";

    static const char  v2[] =
        "{\"azp\":\"https://app.example.com\",\"exp\":1795166460,"
        "\"fea\":\"o:dashboard,uo:x\",\"fva\":[-1,7],\"iat\":1795166400,"
        ISS ",\"jti\":\"8d1a\",\"nbf\":1795166390,"
        "\"o\":{\"id\":\"org_1\",\"slg\":\"acme\",\"rol\":\"admin\","
        "\"per\":\"read,manage\",\"fpm\":\"3,2\"},\"pla\":\"o:pro\","
        "\"sid\":\"sess_1\",\"sts\":\"active\",\"sub\":\"user_2abcXYZ\","
        "\"v\":2}";

    static const char  v1[] =
        "{\"azp\":\"https://app.example.com\",\"exp\":1795166460,"
        "\"iat\":1795166400," ISS ",\"nbf\":1795166390,\"org_id\":\"org_1\","
        "\"org_permissions\":[\"org:read\"],\"org_role\":\"org:admin\","
        "\"org_slug\":\"acme\",\"sid\":\"sess_1\",\"sub\":\"user_2abcXYZ\"}";

    policy = strict;

    ok(judge(sign(mine, head, v2, strlen(v2))) == RUNCOACH_JWT_OK,
       "a session token of version 2");
    ok(runcoach_jwt_claim(jwt, "sid", &value) && value.len == 6, "its sid");
    runcoach_jwt_dates(jwt, &exp, &nbf, &iat);
    ok(exp == 1795166460 && nbf == 1795166390 && iat == 1795166400,
       "its dates");
    ok(judge(sign(mine, head, v1, strlen(v1))) == RUNCOACH_JWT_OK,
       "one of version 1");
}


static void
test_structure(void)
{
    char    token[32768], bad[98304];
    char   *dot1, *dot2;
    size_t  i, n;

    static const char *const  rows[] = {
        "", ".", "..", "...", "....", "a", "a.b", "a.b.c", "e30.e30.e30",
        "e30..", ".e30.", "..e30", "e30.e30.", "e30..e30", ".e30.e30",
        "{}", "{\"payload\":\"e30\"}", "mt_0123", "oat_0123", "ak_0123"
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ok(parse(rows[i], strlen(rows[i])) == RUNCOACH_JWT_MALFORMED,
           "not a token: \"%s\"", rows[i]);
    }

    strcpy(token, sign(mine, HEAD, BODY, strlen(BODY)));
    dot1 = strchr(token, '.');
    dot2 = strchr(dot1 + 1, '.');

    snprintf(bad, sizeof(bad), "%s.", token);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "a fourth segment, empty");
    snprintf(bad, sizeof(bad), "%s.e30", token);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "four segments");
    snprintf(bad, sizeof(bad), "%s.e30.e30", token);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "five segments, as of a JWE");
    snprintf(bad, sizeof(bad), ".%s", token);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "an empty segment before");
    snprintf(bad, sizeof(bad), "%.*s", (int) (dot2 - token + 1), token);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "an empty signature");
    snprintf(bad, sizeof(bad), "%.*s", (int) (dot2 - token), token);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "no signature");
    snprintf(bad, sizeof(bad), "{\"protected\":\"%.*s\",\"payload\":\"%.*s\","
             "\"signature\":\"%s\"}", (int) (dot1 - token), token,
             (int) (dot2 - dot1 - 1), dot1 + 1, dot2 + 1);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "JSON serialization");
    snprintf(bad, sizeof(bad), "Bearer %s", token);
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "a scheme before it");

    for (n = 0; n < strlen(token); n++) {
        if (parse(token, n) == RUNCOACH_JWT_OK
            && runcoach_jwt_check_signature(jwt, keys, policy.algs)
               == RUNCOACH_JWT_OK)
        {
            break;
        }
    }

    ok(n == strlen(token), "no truncation of a token verifies");

    memset(bad, '.', sizeof(bad));
    ok(parse(bad, sizeof(bad)) == RUNCOACH_JWT_MALFORMED, "98304 dots");
    ok(parse(bad, RUNCOACH_JWT_MAX_SIZE) == RUNCOACH_JWT_MALFORMED,
       "8192 dots");

    for (i = 8000; ; i--) {
        char  body[16384];

        n = snprintf(body, sizeof(body), "{" ISS "," SUB "," EXP ",\"x\":\"");
        memset(body + n, 'x', i);
        strcpy(body + n + i, "\"}");
        strcpy(token, sign(mine, HEAD, body, strlen(body)));

        if (strlen(token) <= RUNCOACH_JWT_MAX_SIZE) {
            break;
        }

        strcpy(bad, token);
    }

    ok(judge(token) == RUNCOACH_JWT_OK, "%zu bytes", strlen(token));
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "%zu bytes", strlen(bad));
}


static void
test_encoding(void)
{
    char         token[4096], bad[8192];
    char        *dot;
    size_t       i, n, wrong;
    const char  *body;

    strcpy(token, sign(mine, HEAD, BODY, strlen(BODY)));
    n = strlen(token);

    for (i = 0; i < 3; i++) {
        static const char *const  extra[] = { "=", " ", "\n" };

        snprintf(bad, sizeof(bad), "%s%s", token, extra[i]);
        ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "row %zu after a token", i);

        snprintf(bad, sizeof(bad), "%s%s", extra[i], token);
        ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "row %zu before a token", i);

        dot = strchr(token, '.');
        snprintf(bad, sizeof(bad), "%.*s%s%s", (int) (dot - token), token,
                 extra[i], dot);
        ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "row %zu inside", i);
    }

    ok(parse(token, n + 1) == RUNCOACH_JWT_MALFORMED, "a NUL after a token");

    /* "~~~" has both characters in which the alphabets differ */

    body = "{" ISS "," SUB "," EXP ",\"x\":\"\xef\xbf\xbf~~~???\"}";
    strcpy(bad, sign(mine, HEAD, body, strlen(body)));
    ok(judge(bad) == RUNCOACH_JWT_OK, "- and _ in a token");

    for (i = 0; bad[i] != '\0'; i++) {
        bad[i] = (bad[i] == '-') ? '+' : (bad[i] == '_') ? '/' : bad[i];
    }

    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "+ and / are not");

    /* the last of 342 characters for 256 bytes carries two bits only */

    strcpy(bad, token);
    bad[n - 1]++;
    ok(judge(bad) == RUNCOACH_JWT_MALFORMED, "trailing bits of the signature");

    wrong = 0;

    for (i = 0; i < n; i++) {
        strcpy(bad, token);
        bad[i] = (bad[i] == 'A') ? 'B' : 'A';
        wrong += (judge(bad) == RUNCOACH_JWT_OK);

        bad[i] = (char) 0x80;
        wrong += (judge(bad) != RUNCOACH_JWT_MALFORMED);
    }

    ok(wrong == 0, "no other character anywhere verifies");
}


static void
test_header(void)
{
    size_t  i;

    static const struct {
        runcoach_jwt_rc_e   rc;
        const char         *json;
    } heads[] = {
        { RUNCOACH_JWT_OK, "{\"alg\":\"RS256\",\"kid\":\"ins_1\",\"zip\":1}" },
        { RUNCOACH_JWT_OK,
          "{\"alg\":\"RS256\",\"kid\":\"ins_1\",\"cty\":\"x\"}" },
        { RUNCOACH_JWT_OK,
          "{\"alg\":\"RS256\",\"kid\":\"ins_1\","
          "\"jwk\":{\"kty\":\"oct\",\"k\":\"AAAA\"},"
          "\"jku\":\"http://127.0.0.1/\",\"x5u\":\"file:///\",\"x5c\":[\"A\"],"
          "\"x5t\":\"A\"}" },

        { RUNCOACH_JWT_MALFORMED, "{}" },
        { RUNCOACH_JWT_MALFORMED, "[]" },
        { RUNCOACH_JWT_MALFORMED, "\"RS256\"" },
        { RUNCOACH_JWT_MALFORMED, "null" },
        { RUNCOACH_JWT_MALFORMED, "{\"kid\":\"ins_1\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":null,\"kid\":\"ins_1\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":256,\"kid\":\"ins_1\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":[\"RS256\"],\"kid\":\"ins_1\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\\u0000\","
                                  "\"kid\":\"ins_1\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"none\",\"alg\":\"RS256\","
                                  "\"kid\":\"ins_1\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"none\",\"\\u0061lg\":\"RS256\","
                                  "\"kid\":\"ins_1\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":1}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":null}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":[\"ins_1\"]}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":\"ins_1\\u0000\"}"
        },

        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":\"ins_1\","
                                  "\"crit\":[\"exp\"]}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":\"ins_1\","
                                  "\"crit\":[]}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":\"ins_1\","
                                  "\"crit\":null}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":\"ins_1\","
                                  "\"crit\":\"b64\",\"b64\":true}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":\"ins_1\","
                                  "\"crit\":[\"b64\"],\"b64\":false}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"kid\":\"ins_1\","
                                  "\"b64\":false}" },

        { RUNCOACH_JWT_TYPE, "{\"alg\":\"RS256\",\"typ\":\"at+jwt\"}" },
        { RUNCOACH_JWT_TYPE,
          "{\"alg\":\"RS256\",\"typ\":\"application/at+jwt\"}" },
        { RUNCOACH_JWT_TYPE, "{\"alg\":\"RS256\",\"typ\":\"jwt\"}" },
        { RUNCOACH_JWT_TYPE, "{\"alg\":\"RS256\",\"typ\":\"JWT \"}" },
        { RUNCOACH_JWT_TYPE, "{\"alg\":\"RS256\",\"typ\":\"\"}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"typ\":null}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"typ\":[\"JWT\"]}" },
        { RUNCOACH_JWT_MALFORMED, "{\"alg\":\"RS256\",\"cat\":1}" },

        { RUNCOACH_JWT_UNKNOWN_KEY, "{\"alg\":\"RS256\"}" },
        { RUNCOACH_JWT_UNKNOWN_KEY, "{\"alg\":\"RS256\",\"kid\":\"\"}" },
        { RUNCOACH_JWT_UNKNOWN_KEY, "{\"alg\":\"RS256\",\"kid\":\"ins_\"}" },
        { RUNCOACH_JWT_UNKNOWN_KEY, "{\"alg\":\"RS256\",\"kid\":\"ins_12\"}" },
        { RUNCOACH_JWT_UNKNOWN_KEY, "{\"alg\":\"RS256\",\"kid\":\"INS_1\"}" },
        { RUNCOACH_JWT_UNKNOWN_KEY,
          "{\"alg\":\"RS256\",\"kid\":\"../../dev/null\"}" },
        { RUNCOACH_JWT_UNKNOWN_KEY,
          "{\"alg\":\"RS256\",\"kid\":\"x' OR '1'='1\"}" },
        { RUNCOACH_JWT_UNKNOWN_KEY,
          "{\"alg\":\"RS256\",\"kid\":\"ins_1\\r\\nX: y\"}" },
    };

    for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        ok(judge(sign(mine, heads[i].json, BODY, strlen(BODY))) == heads[i].rc,
           "header %s: %s", heads[i].json, runcoach_jwt_reason(heads[i].rc));
    }
}


static void
test_json(void)
{
    char    body[8192];
    size_t  i, n;

    static const char *const  bad[] = {
        "", "null", "[]", "\"x\"", "{", BODY "x", BODY BODY, BODY ",",
        "{" ISS "," SUB "," EXP ",\"sub\":\"user_2\"}",
        "{" ISS "," SUB "," EXP ",\"\\u0073ub\":\"user_2\"}",
        "{" ISS "," SUB "," EXP ",\"exp\":1}",
        "{" ISS "," SUB "," EXP ",\"o\":{\"a\":1,\"a\":2}}",
        "{" ISS "," SUB "," EXP ",}", "{'a':1}",
        "{" ISS "," SUB "," EXP ",\"x\":NaN}",
        "{" ISS "," SUB "," EXP ",\"x\":Infinity}",
        "{" ISS "," SUB "," EXP ",\"x\":1e400}",
        "{" ISS "," SUB "," EXP ",\"x\":\"\\u0000\"}",
        "{" ISS "," SUB "," EXP ",\"x\":\"\\ud800\"}",
        "{" ISS "," SUB "," EXP ",\"x\":\"\xc0\xaf\"}",
        "{" ISS "," SUB "," EXP ",\"x\":\"\xed\xa0\x80\"}",
        "/**/" BODY, "\xef\xbb\xbf" BODY
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ok(judge(sign(mine, HEAD, bad[i], strlen(bad[i])))
           == RUNCOACH_JWT_MALFORMED,
           "claims which are not JSON for JOSE: row %zu", i);
    }

    ok(judge(sign(mine, HEAD, BODY "\0", strlen(BODY) + 1))
       == RUNCOACH_JWT_MALFORMED,
       "a NUL after the claims");

    for (n = 15; n <= 3000; n = (n == 15) ? 40 : n + 2960) {
        strcpy(body, "{" ISS "," SUB "," EXP ",\"x\":");
        i = strlen(body);
        memset(body + i, '[', n);
        memset(body + i + n, ']', n);
        strcpy(body + i + 2 * n, "}");

        ok(judge(sign(mine, HEAD, body, strlen(body)))
           == (n == 15 ? RUNCOACH_JWT_OK : RUNCOACH_JWT_MALFORMED),
           "claims nested %zu deep", n + 1);
    }
}


static void
test_algorithm(void)
{
    char    head[128];
    size_t  i;

    static const char *const  algs[] = {
        "none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", " RS256",
        "HS256", "HS384", "HS512", "RS384", "RS512", "PS256", "PS384", "PS512",
        "ES256", "ES384", "ES512", "ES256K", "EdDSA", "RSA1_5", "RSA-OAEP",
        "dir", "A128GCM", "RS256,none"
    };

    for (i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        snprintf(head, sizeof(head), "{\"alg\":\"%s\",\"kid\":\"ins_1\"}",
                 algs[i]);

        ok(judge(sign(mine, head, BODY, strlen(BODY)))
           == RUNCOACH_JWT_ALGORITHM
           && runcoach_jwt_check_signature(jwt, keys, ~0U)
              == (jwt->alg != 0 ? RUNCOACH_JWT_UNKNOWN_KEY
                                : RUNCOACH_JWT_ALGORITHM),
           "alg \"%s\"", algs[i]);
    }

    ok(judge(unsigned_token("{\"alg\":\"none\",\"kid\":\"ins_1\"}", BODY))
       == RUNCOACH_JWT_MALFORMED,
       "alg none with an empty signature");
    ok(judge(unsigned_token(HEAD, BODY)) == RUNCOACH_JWT_MALFORMED,
       "RS256 with an empty signature");

    policy.algs = 0;
    ok(claims("") == RUNCOACH_JWT_ALGORITHM, "an issuer without algorithms");
    ok(runcoach_jwt_check_signature(jwt, keys, 0) == RUNCOACH_JWT_ALGORITHM,
       "and for the signature");
    policy.algs = RUNCOACH_ALG_RS256;
}


/*
 * An HMAC with the public key as its secret, under RS256's name and its own.
 */

static void
test_hmac_confusion(void)
{
    int          len;
    BIO         *bio;
    char        *pem, *p;
    char         token[4096];
    long         n;
    size_t       i, j;
    u_char      *der;
    u_char       mac[32];

    static const char *const  heads[] = {
        HEAD, "{\"alg\":\"HS256\",\"kid\":\"ins_1\",\"typ\":\"JWT\"}"
    };

    bio = BIO_new(BIO_s_mem());

    if (PEM_write_bio_PUBKEY(bio, mine) != 1) {
        abort();
    }

    n = BIO_get_mem_data(bio, &pem);

    der = NULL;
    len = i2d_PUBKEY(mine, &der);

    for (i = 0; i < 2; i++) {
        for (j = 0; j < 4; j++) {
            p = stpcpy(token, unsigned_token(heads[i], BODY)) - 1;

            HMAC(EVP_sha256(),
                 j == 2 ? (void *) der : (void *) pem,
                 (int) (j == 0 ? n : j == 1 ? n - 1 : j == 2 ? len : 0),
                 (u_char *) token, p - token, mac, NULL);

            encode(p + 1, mac, 32);

            ok(judge(token) == (i == 0 ? RUNCOACH_JWT_SIGNATURE
                                       : RUNCOACH_JWT_ALGORITHM),
               "an HMAC with the public key: form %zu, header %zu", j, i);
            ok(runcoach_jwt_check_signature(jwt, keys, ~0U)
               == (i == 0 ? RUNCOACH_JWT_SIGNATURE : RUNCOACH_JWT_UNKNOWN_KEY),
               "... and whatever the issuer may use");
        }
    }

    OPENSSL_free(der);
    BIO_free(bio);
}


static void
test_signature(void)
{
    char    token[4096], bad[8192];
    char   *dot;
    u_char  raw[512];

    ok(judge(sign(other, HEAD, BODY, strlen(BODY))) == RUNCOACH_JWT_SIGNATURE,
       "another key under this kid");

    strcpy(token, sign(mine, HEAD, BODY, strlen(BODY)));
    dot = strrchr(token, '.');
    snprintf(bad, sizeof(bad), "%s%s",
             unsigned_token(HEAD, "{" ISS ",\"sub\":\"user_2\"," EXP "}"),
             dot + 1);
    ok(judge(bad) == RUNCOACH_JWT_SIGNATURE,
       "the signature of another token");

    snprintf(bad, sizeof(bad), "%s%s",
             unsigned_token("{\"kid\":\"ins_1\",\"alg\":\"RS256\"}", BODY),
             dot + 1);
    ok(judge(bad) == RUNCOACH_JWT_SIGNATURE, "the header is signed too");

    memset(raw, 0, sizeof(raw));
    *(dot + 1) = '\0';

    strcpy(bad, token);
    encode(bad + strlen(bad), raw, 256);
    ok(judge(bad) == RUNCOACH_JWT_SIGNATURE, "256 zeroes");

    strcpy(bad, token);
    encode(bad + strlen(bad), raw, 1);
    ok(judge(bad) == RUNCOACH_JWT_SIGNATURE, "one zero");

    strcpy(bad, token);
    encode(bad + strlen(bad), raw, 512);
    ok(judge(bad) == RUNCOACH_JWT_SIGNATURE, "512 zeroes");

    strcpy(token, sign(mine, HEAD, BODY, strlen(BODY)));
    dot = strrchr(token, '.');
    runcoach_base64url_decode(raw + 1, (u_char *) dot + 1, strlen(dot + 1));

    raw[0] = 0;
    encode(dot + 1, raw, 257);
    ok(judge(token) == RUNCOACH_JWT_SIGNATURE, "a zero before");

    raw[257] = 0;
    encode(dot + 1, raw + 1, 257);
    ok(judge(token) == RUNCOACH_JWT_SIGNATURE, "a zero after");

    encode(dot + 1, raw + 1, 255);
    ok(judge(token) == RUNCOACH_JWT_SIGNATURE, "one byte less");

    encode(dot + 1, raw + 1, 256);
    ok(judge(token) == RUNCOACH_JWT_OK, "and as it was");
}


static void
test_keys(void)
{
    runcoach_jwks_t  *saved;

    saved = keys;

    keys = keys_of(jwk(other, "ins_1"), jwk(mine, "ins_1"), NULL);
    ok(claims("") == RUNCOACH_JWT_OK, "the second of two keys of one kid");
    runcoach_jwks_free(keys);

    keys = keys_of(jwk(other, "ins_1"), jwk(other, "ins_1"),
                   jwk(mine, "ins_1"));
    ok(claims("") == RUNCOACH_JWT_SIGNATURE, "but no third is tried");
    runcoach_jwks_free(keys);

    keys = keys_of(jwk(other, "ins_0"), jwk(other, "ins_2"),
                   jwk(mine, "ins_1"));
    ok(claims("") == RUNCOACH_JWT_OK, "keys of another kid do not count");
    runcoach_jwks_free(keys);

    keys = keys_of(jwk(mine, "ins_2"), NULL, NULL);
    ok(claims("") == RUNCOACH_JWT_UNKNOWN_KEY, "its key under another kid");
    runcoach_jwks_free(keys);

    keys = saved;
}


static void
test_pem(void)
{
    runcoach_jwks_t  *saved;

    saved = keys;
    keys = pem_keys(mine);

    ok(claims("") == RUNCOACH_JWT_OK, "a PEM serves any kid");
    ok(judge(sign(mine, "{\"alg\":\"RS256\"}", BODY, strlen(BODY)))
       == RUNCOACH_JWT_OK,
       "and none");
    ok(judge(sign(other, HEAD, BODY, strlen(BODY))) == RUNCOACH_JWT_SIGNATURE,
       "but not any signature");

    runcoach_jwks_free(keys);

    keys = saved;
}


static void
test_issuer(void)
{
    static const row_t  list[] = {
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"\"" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":null" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":7" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":[\"https://clerk.example.com\"]" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"https://clerk.example.com/\"" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"https://clerk.example.co\"" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"https://clerk.example.com.evil\"" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"https://CLERK.example.com\"" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"https://x@clerk.example.com\"" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"http://clerk.example.com\"" },
        { RUNCOACH_JWT_ISSUER, "\"iss\":\"https\"" },
    };

    rows(list, "issuer");

    ok(judge(sign(mine, HEAD, "{" SUB "," EXP "}",
                  strlen("{" SUB "," EXP "}")))
       == RUNCOACH_JWT_ISSUER,
       "no issuer");

    policy.issuer.len = 0;
    ok(claims("\"iss\":\"\"") == RUNCOACH_JWT_ISSUER,
       "an empty issuer is nobody's");
    policy.issuer = strict.issuer;
}


static void
test_class(void)
{
    char    head[128];
    size_t  i;

    static const struct {
        runcoach_jwt_rc_e   rc;
        const char         *cat;
    } cats[] = {
        { RUNCOACH_JWT_OK, "\"cl_B7d4PD111AAA\"" },
        { RUNCOACH_JWT_OK, "\"cl_I7d4PD111III\"" },
        { RUNCOACH_JWT_TYPE, "\"cl_B7d4PD222AAA\"" },
        { RUNCOACH_JWT_TYPE, "\"cl_B7d4PD333AAA\"" },
        { RUNCOACH_JWT_TYPE, "\"cl_B7d4PD444AAA\"" },
        { RUNCOACH_JWT_TYPE, "\"cl_b7d4pd111aaa\"" },
        { RUNCOACH_JWT_TYPE, "\"\"" },
        { RUNCOACH_JWT_MALFORMED, "null" },
        { RUNCOACH_JWT_MALFORMED, "[\"cl_B7d4PD111AAA\"]" },
    };

    static const row_t  list[] = {
        { RUNCOACH_JWT_TYPE, "\"sub\":\"mch_1\"" },
        { RUNCOACH_JWT_TYPE, "\"sub\":\"mch_\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"mch\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"user_mch_1\"" },
    };

    for (i = 0; i < sizeof(cats) / sizeof(cats[0]); i++) {
        snprintf(head, sizeof(head),
                 "{\"alg\":\"RS256\",\"kid\":\"ins_1\",\"cat\":%s}",
                 cats[i].cat);

        ok(judge(sign(mine, head, BODY, strlen(BODY))) == cats[i].rc,
           "cat %s: %s", cats[i].cat, runcoach_jwt_reason(cats[i].rc));
    }

    rows(list, "class");
}


static void
test_classes(void)
{
    char      head[256], body[256];
    size_t    i;
    unsigned  class, wrong;

#define CAT(n)  "\"cat\":\"cl_B7d4PD" #n "AAA\""
#define ANY     "\"cat\":\"cl_I7d4PD111III\""

    static const struct {
        unsigned     class;
        const char  *head;
        const char  *sub;
    } list[] = {
        { RUNCOACH_JWT_SESSION, "\"typ\":\"JWT\"", "user_1" },
        { RUNCOACH_JWT_SESSION, CAT(111), "user_1" },
        { RUNCOACH_JWT_SESSION, ANY, "user_1" },
        { RUNCOACH_JWT_TEMPLATE, CAT(222), "user_1" },
        { RUNCOACH_JWT_TEMPLATE, CAT(222) ",\"typ\":\"JWT\"", "user_1" },
        { RUNCOACH_JWT_MACHINE, CAT(333), "user_1" },
        { RUNCOACH_JWT_MACHINE, CAT(333), "mch_1" },
        { RUNCOACH_JWT_MACHINE, ANY, "mch_1" },
        { RUNCOACH_JWT_MACHINE, CAT(111), "mch_1" },
        { RUNCOACH_JWT_MACHINE, CAT(222), "mch_" },
        { RUNCOACH_JWT_MACHINE, "\"typ\":\"at+jwt\"", "mch_1" },
        { RUNCOACH_JWT_OAUTH, "\"typ\":\"at+jwt\"", "user_1" },
        { RUNCOACH_JWT_OAUTH, "\"typ\":\"AT+JWT\"", "user_1" },
        { RUNCOACH_JWT_OAUTH, "\"typ\":\"application/at+jwt\"", "user_1" },
        { RUNCOACH_JWT_OAUTH, "\"typ\":\"Application/AT+jwt\"", "user_1" },
        { RUNCOACH_JWT_OAUTH, "\"typ\":\"at+jwt\"," ANY, "user_1" },
        { RUNCOACH_JWT_OAUTH, "\"typ\":\"at+jwt\"," CAT(111), "user_1" },
        { 0, "\"typ\":\"at+jwt\",\"cat\":\"x\"", "user_1" },
        { 0, "\"typ\":\"at+jw\"", "user_1" },
        { 0, "\"typ\":\"at\\u000bjwt\"", "user_1" },
        { 0, "\"typ\":\"at+jwt \"", "user_1" },
        { 0, "\"typ\":\"application/at+jwu\"", "user_1" },
        { 0, "\"typ\":\"application.at+jwt\"", "user_1" },
        { 0, "\"typ\":\"application\\u000fat+jwt\"", "user_1" },
        { 0, "\"typ\":\"jwt\"", "user_1" },
        { 0, "\"typ\":\"JOSE\"", "user_1" },
        { 0, "\"typ\":\"logout+jwt\"", "user_1" },
        { 0, "\"typ\":\"JOSE\"", "mch_1" },
        { 0, CAT(444), "mch_1" }
    };

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        snprintf(head, sizeof(head),
                 "{\"alg\":\"RS256\",\"kid\":\"ins_1\",%s}", list[i].head);
        snprintf(body, sizeof(body), "{" ISS "," EXP ",\"sub\":\"%s\"}",
                 list[i].sub);
        wrong = 0;

        for (class = 0; class < 16; class++) {
            policy.classes = class;
            wrong += judge(sign(mine, head, body, strlen(body)))
                     != ((class & list[i].class) ? RUNCOACH_JWT_OK
                                                 : RUNCOACH_JWT_TYPE);
        }

        ok(wrong == 0 && jwt->class == list[i].class, "%s of %s: class %x",
           list[i].head, list[i].sub, list[i].class);
    }

    policy.classes = RUNCOACH_JWT_SESSION;

#undef CAT
#undef ANY
}


static void
test_subject(void)
{
    char  member[600], sub[300];

    static const row_t  list[] = {
        { RUNCOACH_JWT_OK, "\"sub\":\"u\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"auth0|5f7c\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"7f3c0e2a-0000-4000-8000-0000000000ff\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"a@b.example\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"42a\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"-42\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"...\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"a b\"" },
        { RUNCOACH_JWT_OK, "\"sub\":\"\xeb\x9f\xac\xeb\x8b\x9d\"" },

        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":null" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":42" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":true" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":{}" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":[\"user_1\"]" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\".\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"..\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"/\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a/b\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"../user_2\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a\\/b\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a\\nb\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a\\r\\nX-User-Id: 1\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a\\tb\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a\\u001f\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a\x7f\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\" a\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"a \"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\" \"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"0\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"42\"" },
        { RUNCOACH_JWT_SUBJECT, "\"sub\":\"18446744073709551616\"" },
        { RUNCOACH_JWT_MALFORMED, "\"sub\":\"user_1\\u0000\"" },
    };

    rows(list, "subject");

    ok(judge(sign(mine, HEAD, "{" ISS "," EXP "}",
                  strlen("{" ISS "," EXP "}")))
       == RUNCOACH_JWT_SUBJECT,
       "no subject");

    memset(sub, 'x', 256);
    sub[255] = '\0';
    snprintf(member, sizeof(member), "\"sub\":\"%s\"", sub);
    ok(claims(member) == RUNCOACH_JWT_OK, "255 bytes");

    strcat(sub, "x");
    snprintf(member, sizeof(member), "\"sub\":\"%s\"", sub);
    ok(claims(member) == RUNCOACH_JWT_SUBJECT, "256 bytes");

    policy.numeric_subject = 1;
    ok(claims("\"sub\":\"42\"") == RUNCOACH_JWT_OK,
       "digits only, if the issuer may");
    ok(claims("\"sub\":42") == RUNCOACH_JWT_SUBJECT,
       "but no number all the same");
    policy.numeric_subject = 0;
}


static void
test_dates(void)
{
    static const row_t  list[] = {
        { RUNCOACH_JWT_OK, "\"exp\":1795166460.5" },
        { RUNCOACH_JWT_OK, "\"exp\":1.79516646e9" },
        { RUNCOACH_JWT_OK, "\"exp\":9007199254740991" },
        { RUNCOACH_JWT_EXPIRED, "\"exp\":1" },
        { RUNCOACH_JWT_EXPIRED, "\"exp\":0.5" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":0" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":-1" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":-0.0" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":9007199254740992" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":9223372036854775807" },
        { RUNCOACH_JWT_MALFORMED, "\"exp\":9223372036854775808" },
        { RUNCOACH_JWT_MALFORMED, "\"exp\":18446744073709551616" },
        { RUNCOACH_JWT_MALFORMED, "\"exp\":1e400" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":1e30" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":\"1795166460\"" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":null" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":true" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":[1795166460]" },
        { RUNCOACH_JWT_CLAIM, "\"exp\":{}" },

        { RUNCOACH_JWT_OK, "\"nbf\":1795166400.25,\"iat\":1795166400.75" },
        { RUNCOACH_JWT_CLAIM, "\"nbf\":\"1\"" },
        { RUNCOACH_JWT_CLAIM, "\"nbf\":null" },
        { RUNCOACH_JWT_CLAIM, "\"nbf\":-1" },
        { RUNCOACH_JWT_CLAIM, "\"nbf\":0" },
        { RUNCOACH_JWT_NOT_YET, "\"nbf\":9007199254740991" },
        { RUNCOACH_JWT_CLAIM, "\"iat\":\"1\"" },
        { RUNCOACH_JWT_CLAIM, "\"iat\":false" },
        { RUNCOACH_JWT_CLAIM, "\"iat\":1e300" },
        { RUNCOACH_JWT_ISSUED_LATER, "\"iat\":9007199254740991" },
    };

    rows(list, "date");

    ok(judge(sign(mine, HEAD, "{" ISS "," SUB "}",
                  strlen("{" ISS "," SUB "}")))
       == RUNCOACH_JWT_CLAIM,
       "no exp");
}


static void
test_boundaries(void)
{
    int     i;
    char    members[128];
    time_t  leeway;

    static const struct {
        const char         *name;
        int                 at;
        runcoach_jwt_rc_e   rc;
    } list[] = {
        { "exp", 0, RUNCOACH_JWT_EXPIRED },
        { "exp", 1, RUNCOACH_JWT_OK },
        { "nbf", 0, RUNCOACH_JWT_OK },
        { "nbf", 1, RUNCOACH_JWT_NOT_YET },
        { "iat", 0, RUNCOACH_JWT_OK },
        { "iat", 1, RUNCOACH_JWT_ISSUED_LATER },
    };

    for (leeway = 0; leeway <= 5; leeway += 5) {
        policy.leeway = leeway;

        for (i = 0; i < 6; i++) {
            snprintf(members, sizeof(members), "\"%s\":%lld", list[i].name,
                     NOW + list[i].at + (i < 2 ? -leeway : leeway));

            ok(claims(members) == list[i].rc, "leeway %d, %s: %s",
               (int) leeway, members, runcoach_jwt_reason(list[i].rc));
        }
    }

    policy.leeway = (time_t) (((unsigned long long) 1 << 63) - 1);
    ok(claims("\"exp\":9007199254740991,\"nbf\":9007199254740991")
       == RUNCOACH_JWT_OK,
       "the largest leeway overflows nothing");

    policy.leeway = 0;
}


/*
 * What is kept of a verdict must say at any second what the token itself says.
 */

static void
test_times(void)
{
    char                members[128];
    time_t              exp, nbf, iat, now, leeway;
    size_t              i, j, wrong;
    runcoach_jwt_rc_e   rc;

    static const char *const  exps[] = {
        "1795166410", "1795166410.5", "1795166409.999", "1.79516641e9",
        "9007199254740991", "9007199254740990.5"
    };

    static const char *const  nbfs[] = {
        "1795166390", "1795166390.5", "1795166389.001", "0.5", "1"
    };

    wrong = 0;

    for (i = 0; i < sizeof(exps) / sizeof(exps[0]); i++) {
        for (j = 0; j < sizeof(nbfs) / sizeof(nbfs[0]); j++) {
            snprintf(members, sizeof(members), "\"exp\":%s,\"nbf\":%s",
                     exps[i], nbfs[j]);
            claims(members);
            runcoach_jwt_dates(jwt, &exp, &nbf, &iat);
            wrong += (iat != 0);

            for (leeway = 0; leeway <= 3; leeway += 3) {
                policy.leeway = leeway;

                for (now = NOW - 20; now < NOW + 20; now++) {
                    rc = runcoach_jwt_check_claims(jwt, &policy, now);
                    wrong += (runcoach_jwt_check_time(exp, nbf, leeway, now)
                              != rc);
                }
            }
        }
    }

    policy.leeway = 0;

    ok(wrong == 0, "the time alone gives the same verdict");

    claims("\"exp\":1795166460.1,\"nbf\":1795166390.9,\"iat\":1795166399.9");
    runcoach_jwt_dates(jwt, &exp, &nbf, &iat);
    ok(exp == 1795166461 && nbf == 1795166390 && iat == 1795166399,
       "exp rounded up, nbf and iat down");

    claims("\"exp\":\"1\",\"nbf\":null,\"iat\":-1");
    runcoach_jwt_dates(jwt, &exp, &nbf, &iat);
    ok(exp == 0 && nbf == 0 && iat == 0, "0 of what is no date");

    claims("\"exp\":9007199254740992,\"nbf\":1e300,\"iat\":0");
    runcoach_jwt_dates(jwt, &exp, &nbf, &iat);
    ok(exp == 0 && nbf == 0 && iat == 0, "nor of one out of range");

    ok(runcoach_jwt_check_time(0, 0, 5, NOW) == RUNCOACH_JWT_EXPIRED,
       "without exp it has expired");
    ok(runcoach_jwt_check_time((time_t) 1 << 62, 0,
                               (time_t) (((uint64_t) 1 << 63) - 1), NOW)
       == RUNCOACH_JWT_OK,
       "nothing overflows");
}


static void
test_lifetime(void)
{
    static const row_t  list[] = {
        { RUNCOACH_JWT_OK, "\"iat\":1795166300,\"exp\":1795166420" },
        { RUNCOACH_JWT_LIFETIME, "\"iat\":1795166300,\"exp\":1795166421" },
        { RUNCOACH_JWT_LIFETIME, "\"iat\":1795166300,\"exp\":4102444800" },
        { RUNCOACH_JWT_LIFETIME, "\"iat\":1,\"exp\":1795166460" },
        { RUNCOACH_JWT_OK, "\"exp\":1795166520" },
        { RUNCOACH_JWT_LIFETIME, "\"exp\":1795166521" },
        { RUNCOACH_JWT_LIFETIME, "\"exp\":9007199254740991" },
    };

    policy.max_lifetime = 120;

    rows(list, "at most 120 s");

    policy.max_lifetime = 0;

    ok(claims("\"iat\":1,\"exp\":4102444800") == RUNCOACH_JWT_OK,
       "any lifetime, if the issuer may");
}


static void
test_audience(void)
{
    static const row_t  none[] = {
        { RUNCOACH_JWT_OK, "\"aud\":7" },
        { RUNCOACH_JWT_OK, "\"aud\":\"anyone\"" },
    };

    static const row_t  list[] = {
        { RUNCOACH_JWT_OK, "\"aud\":\"api\"" },
        { RUNCOACH_JWT_OK, "\"aud\":\"authenticated\"" },
        { RUNCOACH_JWT_OK, "\"aud\":[\"x\",\"api\"]" },
        { RUNCOACH_JWT_OK, "\"aud\":[\"api\"]" },
        { RUNCOACH_JWT_AUDIENCE, "" },
        { RUNCOACH_JWT_AUDIENCE, "\"aud\":\"\"" },
        { RUNCOACH_JWT_AUDIENCE, "\"aud\":\"ap\"" },
        { RUNCOACH_JWT_AUDIENCE, "\"aud\":\"api2\"" },
        { RUNCOACH_JWT_AUDIENCE, "\"aud\":\"API\"" },
        { RUNCOACH_JWT_AUDIENCE, "\"aud\":\"api,authenticated\"" },
        { RUNCOACH_JWT_AUDIENCE, "\"aud\":[]" },
        { RUNCOACH_JWT_AUDIENCE, "\"aud\":[\"x\"]" },
        { RUNCOACH_JWT_CLAIM, "\"aud\":7" },
        { RUNCOACH_JWT_CLAIM, "\"aud\":null" },
        { RUNCOACH_JWT_CLAIM, "\"aud\":{\"api\":1}" },
        { RUNCOACH_JWT_CLAIM, "\"aud\":[7]" },
        { RUNCOACH_JWT_CLAIM, "\"aud\":[\"api\",7]" },
        { RUNCOACH_JWT_CLAIM, "\"aud\":[[\"api\"]]" },
    };

    rows(none, "audience not checked");

    policy.audiences = audiences;
    policy.naudiences = 2;

    rows(list, "audience");

    policy.naudiences = 0;
}


static void
test_party(void)
{
    static const row_t  none[] = {
        { RUNCOACH_JWT_OK, "\"azp\":7" },
        { RUNCOACH_JWT_OK, "\"azp\":\"https://anyone\"" },
    };

    static const row_t  list[] = {
        { RUNCOACH_JWT_OK, "" },
        { RUNCOACH_JWT_OK, "\"azp\":\"https://app.example.com\"" },
        { RUNCOACH_JWT_OK, "\"azp\":\"http://localhost:3000\"" },
        { RUNCOACH_JWT_AUTHORIZED_PARTY, "\"azp\":\"\"" },
        { RUNCOACH_JWT_AUTHORIZED_PARTY, "\"azp\":\"null\"" },
        { RUNCOACH_JWT_AUTHORIZED_PARTY,
          "\"azp\":\"http://app.example.com\"" },
        { RUNCOACH_JWT_AUTHORIZED_PARTY,
          "\"azp\":\"https://app.example.com:443\"" },
        { RUNCOACH_JWT_AUTHORIZED_PARTY,
          "\"azp\":\"https://app.example.com.evil\"" },
        { RUNCOACH_JWT_AUTHORIZED_PARTY,
          "\"azp\":\"https://APP.example.com\"" },
        { RUNCOACH_JWT_AUTHORIZED_PARTY, "\"azp\":\"http://localhost\"" },
        { RUNCOACH_JWT_CLAIM, "\"azp\":[\"https://app.example.com\"]" },
        { RUNCOACH_JWT_CLAIM, "\"azp\":null" },
    };

    policy.azp_required = 1;
    rows(none, "party not checked");
    ok(claims("") == RUNCOACH_JWT_OK, "nor required, without a list");
    policy.azp_required = 0;

    policy.parties = parties;
    policy.nparties = 2;

    rows(list, "party");

    policy.azp_required = 1;
    ok(claims("") == RUNCOACH_JWT_AUTHORIZED_PARTY, "party required");
    ok(claims("\"azp\":\"http://localhost:3000\"") == RUNCOACH_JWT_OK,
       "and there");
    policy.azp_required = 0;

    policy.nparties = 0;
}


static void
test_status(void)
{
    static const row_t  list[] = {
        { RUNCOACH_JWT_OK, "\"sts\":\"active\"" },
        { RUNCOACH_JWT_PENDING, "\"sts\":\"pending\"" },
        { RUNCOACH_JWT_PENDING, "\"sts\":\"suspended\"" },
        { RUNCOACH_JWT_PENDING, "\"sts\":\"\"" },
        { RUNCOACH_JWT_CLAIM, "\"sts\":1" },
        { RUNCOACH_JWT_CLAIM, "\"sts\":null" },
    };

    rows(list, "status");

    policy.allow_pending = 1;
    ok(claims("\"sts\":\"pending\"") == RUNCOACH_JWT_OK, "pending, if allowed");
    ok(claims("\"sts\":\"suspended\"") == RUNCOACH_JWT_PENDING,
       "but no other status");
    policy.allow_pending = 0;
}


static void
test_required(void)
{
    char    names[64];
    size_t  i;

    static runcoach_jwt_required_t  list[2];

    static const struct {
        runcoach_jwt_rc_e   rc;
        const char         *path;
        const char         *value;
        const char         *claims;
    } rows[] = {
        { RUNCOACH_JWT_OK, "a", NULL, "\"a\":\"x\"" },
        { RUNCOACH_JWT_OK, "a", NULL, "\"a\":0" },
        { RUNCOACH_JWT_OK, "a", NULL, "\"a\":true" },
        { RUNCOACH_JWT_OK, "a", NULL, "\"a\":[]" },
        { RUNCOACH_JWT_OK, "a", NULL, "\"a\":{}" },
        { RUNCOACH_JWT_OK, "a.b", NULL, "\"a\":{\"b\":\"x\"}" },
        { RUNCOACH_JWT_REQUIRED, "a", NULL, "" },
        { RUNCOACH_JWT_REQUIRED, "a", NULL, "\"a\":null" },
        { RUNCOACH_JWT_REQUIRED, "a", NULL, "\"a\":\"\"" },
        { RUNCOACH_JWT_REQUIRED, "a", NULL, "\"a\":false" },
        { RUNCOACH_JWT_REQUIRED, "a", NULL, "\"A\":\"x\"" },
        { RUNCOACH_JWT_REQUIRED, "a", NULL, "\"b\":{\"a\":1}" },
        { RUNCOACH_JWT_REQUIRED, "a.b", NULL, "\"a\":\"b\"" },
        { RUNCOACH_JWT_REQUIRED, "a.b", NULL, "\"a\":[\"b\"]" },
        { RUNCOACH_JWT_REQUIRED, "a.b", NULL, "\"a.b\":1" },
        { RUNCOACH_JWT_REQUIRED, "a.b", NULL, "\"a\":{\"b\":null}" },
        { RUNCOACH_JWT_REQUIRED, "", NULL, "\"a\":1" },

        { RUNCOACH_JWT_OK, "a", "x", "\"a\":\"x\"" },
        { RUNCOACH_JWT_OK, "a", "x", "\"a\":\"\\u0078\"" },
        { RUNCOACH_JWT_OK, "a", "7", "\"a\":7" },
        { RUNCOACH_JWT_OK, "a", "7", "\"a\":\"7\"" },
        { RUNCOACH_JWT_OK, "a", "1.5", "\"a\":1.5" },
        { RUNCOACH_JWT_OK, "a", "true", "\"a\":true" },
        { RUNCOACH_JWT_OK, "a", "false", "\"a\":false" },
        { RUNCOACH_JWT_OK, "a", "", "\"a\":\"\"" },
        { RUNCOACH_JWT_OK, "a", "x", "\"a\":[\"y\",\"x\"]" },
        { RUNCOACH_JWT_OK, "a", "7", "\"a\":[{\"b\":7},7]" },
        { RUNCOACH_JWT_OK, "a.b.c", "x", "\"a\":{\"b\":{\"c\":[\"x\"]}}" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":\"X\"" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":\"xx\"" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":\"\"" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":[]" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":[[\"x\"]]" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":[{\"a\":\"x\"}]" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":{\"x\":\"x\"}" },
        { RUNCOACH_JWT_REQUIRED, "a", "null", "\"a\":null" },
        { RUNCOACH_JWT_REQUIRED, "a", "[]", "\"a\":[]" },
        { RUNCOACH_JWT_REQUIRED, "a", "{}", "\"a\":{}" },
        { RUNCOACH_JWT_REQUIRED, "a", "", "\"a\":null" },
        { RUNCOACH_JWT_REQUIRED, "a", "7", "\"a\":7.0" },
        { RUNCOACH_JWT_REQUIRED, "a", "x", "\"a\":\"x\\n\"" },
    };

    policy.required = list;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        strcpy(names, rows[i].path);
        list[0].path = path_of(names);
        list[0].value.data = (const u_char *) rows[i].value;
        list[0].value.len = rows[i].value ? strlen(rows[i].value) : 0;

        policy.nrequired = 1;
        ok(claims(rows[i].claims) == rows[i].rc, "require \"%s\" = %s of %s",
           rows[i].path, rows[i].value ? rows[i].value : "any",
           rows[i].claims);

        list[1] = list[0];
        policy.nrequired = 0;
        ok(claims(rows[i].claims) == RUNCOACH_JWT_OK, "... or not");
    }

    policy.required = NULL;
    policy.nrequired = 0;
}


/*
 * The token is wrong in every way; each repair uncovers the next one.
 */

static void
test_order(void)
{
    char    head[256], body[1024];
    size_t  i;

    static const runcoach_jwt_rc_e  order[] = {
        RUNCOACH_JWT_ALGORITHM, RUNCOACH_JWT_ISSUER, RUNCOACH_JWT_TYPE,
        RUNCOACH_JWT_SUBJECT, RUNCOACH_JWT_EXPIRED, RUNCOACH_JWT_NOT_YET,
        RUNCOACH_JWT_ISSUED_LATER, RUNCOACH_JWT_LIFETIME,
        RUNCOACH_JWT_AUDIENCE, RUNCOACH_JWT_AUTHORIZED_PARTY,
        RUNCOACH_JWT_PENDING, RUNCOACH_JWT_REQUIRED, RUNCOACH_JWT_UNKNOWN_KEY
    };

    static runcoach_str_t  role = runcoach_string("role");

    static runcoach_jwt_required_t  required[1];

    required[0].path.names = &role;
    required[0].path.n = 1;

    policy = strict;
    policy.audiences = audiences;
    policy.naudiences = 2;
    policy.required = required;
    policy.nrequired = 1;

    for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        snprintf(head, sizeof(head),
                 "{\"alg\":\"%s\",\"kid\":\"no\",\"cat\":\"%s\"}",
                 i > 0 ? "RS256" : "HS256",
                 i > 2 ? "cl_B7d4PD111AAA" : "cl_B7d4PD222AAA");

        snprintf(body, sizeof(body),
                 "{\"iss\":\"%s\",\"sub\":\"%s\",\"exp\":%lld,\"nbf\":%lld,"
                 "\"iat\":%lld,\"aud\":\"%s\",\"azp\":\"%s\",\"sts\":\"%s\","
                 "\"role\":%s}",
                 i > 1 ? "https://clerk.example.com" : "x",
                 i > 3 ? "user_1" : "/",
                 i > 7 ? NOW + 60 : i > 4 ? NOW + 9999999 : NOW - 9999,
                 i > 5 ? NOW : NOW + 9999,
                 i > 6 ? NOW : NOW + 9999,
                 i > 8 ? "api" : "x",
                 i > 9 ? "http://localhost:3000" : "x",
                 i > 10 ? "active" : "pending",
                 i > 11 ? "1" : "false");

        ok(judge(sign(mine, head, body, strlen(body))) == order[i],
           "%zu: %s", i, runcoach_jwt_reason(order[i]));
    }
}


static void
test_values(void)
{
    runcoach_str_t  value;

    claims("\"a\":\"x y\",\"b\":\"\",\"c\":\"x\\ny\",\"d\":7,\"e\":null,"
           "\"f\":\"\x7f\",\"g\":\"\xeb\x9f\xac\",\"h\":\"\\u001b[31m\"");

    ok(runcoach_jwt_claim(jwt, "a", &value) && value.len == 3
       && memcmp(value.data, "x y", 3) == 0,
       "a string claim");
    ok(runcoach_jwt_claim(jwt, "b", &value) && value.len == 0, "an empty one");
    ok(runcoach_jwt_claim(jwt, "g", &value) && value.len == 3, "UTF-8");

    value.len = 77;
    ok(!runcoach_jwt_claim(jwt, "c", &value), "a line feed");
    ok(!runcoach_jwt_claim(jwt, "d", &value), "a number");
    ok(!runcoach_jwt_claim(jwt, "e", &value), "null");
    ok(!runcoach_jwt_claim(jwt, "f", &value), "DEL");
    ok(!runcoach_jwt_claim(jwt, "h", &value), "an escape sequence");
    ok(!runcoach_jwt_claim(jwt, "z", &value), "absent");
    ok(value.len == 77, "value is left alone then");

    ok(!runcoach_jwt_claim(jwt, "kid", &value), "no header among the claims");
}


/* "a.b.c" in place */

static runcoach_jwt_path_t
path_of(char *names)
{
    char                 *name;
    runcoach_jwt_path_t   path;

    static runcoach_str_t  list[8];

    path.names = list;
    path.n = 0;

    for (name = strtok(names, "."); name != NULL; name = strtok(NULL, ".")) {
        list[path.n].len = strlen(name);
        list[path.n++].data = (u_char *) name;
    }

    return path;
}


/* NULL: none; and every size below that of the text is too small */

static void
text_is(const char *path, const char *expected)
{
    char                  names[64];
    size_t                n, size, wrong;
    ssize_t               len;
    u_char               *dst;
    runcoach_jwt_path_t   p;

    strcpy(names, path);
    p = path_of(names);
    n = expected ? strlen(expected) : 0;
    wrong = 0;

    for (size = 0; size <= n + 2; size++) {
        dst = malloc(size + (size == 0));
        len = runcoach_jwt_claim_text(jwt, &p, dst, size);

        if (expected == NULL || size < n) {
            wrong += (len != -1);

        } else {
            wrong += (len != (ssize_t) n || memcmp(dst, expected, n) != 0);
        }

        free(dst);
    }

    ok(wrong == 0, "%s is %s", path, expected ? expected : "nothing");
}


static void
test_text(void)
{
    runcoach_jwt_path_t  none;
    u_char               dst[8];

    claims("\"a\":\"x y\",\"b\":-7,\"c\":1.50e1,\"d\":true,\"e\":null,\"f\":[],"
           "\"g\": [ 1 , \"a b\" , { \"x\" : null } ] ,\"h\":\"\","
           "\"i\":{ \"j\" :{\"k\":\"deep\",\"l\":\"a\\nb\"},\"m\":[{\"k\":1}]},"
           "\"n\":\"a\\nb\",\"o\":\"\x7f\",\"p\":[\"\x7f\"],\"q\":[\"\\n\"],"
           "\"r\":false,\"s\":\"\\u00e9\",\"t\":123456789012345678,\"u\":-0.0");

    text_is("a", "x y");
    text_is("b", "-7");
    text_is("c", "1.50e1");
    text_is("d", "true");
    text_is("e", NULL);
    text_is("f", "[]");
    text_is("g", "[1,\"a b\",{\"x\":null}]");
    text_is("h", "");
    text_is("i", "{\"j\":{\"k\":\"deep\",\"l\":\"a\\nb\"},\"m\":[{\"k\":1}]}");
    text_is("i.j", "{\"k\":\"deep\",\"l\":\"a\\nb\"}");
    text_is("i.j.k", "deep");
    text_is("i.j.l", NULL);
    text_is("i.j.k.x", NULL);
    text_is("i.m.k", NULL);
    text_is("i.k", NULL);
    text_is("n", NULL);
    text_is("o", NULL);
    text_is("p", NULL);
    text_is("q", "[\"\\n\"]");
    text_is("r", "false");
    text_is("s", "\xc3\xa9");
    text_is("t", "123456789012345678");
    text_is("u", "-0.0");
    text_is("z", NULL);
    text_is("A", NULL);
    text_is("sub", "user_1");

    none.names = NULL;
    none.n = 0;
    ok(runcoach_jwt_claim_text(jwt, &none, dst, sizeof(dst)) == -1,
       "the claim of an empty path");
}


static void
org_is(const char *expected[4], const char *name)
{
    int      what;
    size_t   n, size, wrong;
    ssize_t  len;
    u_char  *dst;

    wrong = 0;

    for (what = 0; what < 4; what++) {
        n = expected[what] ? strlen(expected[what]) : 0;

        for (size = 0; size <= n + 2; size++) {
            dst = malloc(size + (size == 0));
            len = runcoach_jwt_org(jwt, what, dst, size);

            if (expected[what] == NULL || size < n) {
                wrong += (len != -1);

            } else {
                wrong += (len != (ssize_t) n
                          || memcmp(dst, expected[what], n) != 0);
            }

            free(dst);
        }
    }

    ok(wrong == 0, "organization: %s", name);
}


static void
test_org(void)
{
    size_t  i;

    static struct {
        const char  *name;
        const char  *claims;
        const char  *expected[4];
    } list[] = {
        { "none", "", { NULL, NULL, NULL, NULL } },
        { "none in version 2", "\"v\":2", { NULL, NULL, NULL, NULL } },
        { "version 1",
          "\"org_id\":\"org_1\",\"org_slug\":\"acme\",\"org_role\":\"org:admin\","
          "\"org_permissions\":[\"org:a:read\",\"org:a:write\"]",
          { "org_1", "acme", "org:admin", "org:a:read,org:a:write" } },
        { "version 1, no permissions",
          "\"org_id\":\"org_1\",\"org_role\":\"org:member\","
          "\"org_permissions\":[]",
          { "org_1", NULL, "org:member", "" } },
        { "version 1, a custom \"o\"",
          "\"o\":{\"id\":\"org_2\",\"rol\":\"admin\"}",
          { NULL, NULL, NULL, NULL } },
        { "version 1, of wrong types",
          "\"org_id\":1,\"org_slug\":null,\"org_role\":[\"org:admin\"],"
          "\"org_permissions\":\"org:a:read\"",
          { NULL, NULL, NULL, NULL } },
        { "version 1, empty",
          "\"org_id\":\"\",\"org_slug\":\"\",\"org_role\":\"\","
          "\"org_permissions\":[\"\"]",
          { NULL, NULL, NULL, NULL } },
        { "version 1, a comma in a permission",
          "\"org_permissions\":[\"org:a:read,org:a:write\"]",
          { NULL, NULL, NULL, NULL } },
        { "version 1, a control character",
          "\"org_id\":\"a\\nb\",\"org_role\":\"a\\u0001\","
          "\"org_permissions\":[\"a\",\"b\\r\"]",
          { NULL, NULL, NULL, NULL } },
        { "version 1, a number among permissions",
          "\"org_permissions\":[\"a\",7]", { NULL, NULL, NULL, NULL } },
        { "version 2",
          "\"v\":2,\"fea\":\"o:dashboard,u:x,o:teams\",\"o\":{\"id\":\"org_1\","
          "\"slg\":\"acme\",\"rol\":\"admin\",\"per\":\"read,manage\","
          "\"fpm\":\"3,2\"}",
          { "org_1", "acme", "org:admin",
            "org:dashboard:read,org:dashboard:manage,org:teams:manage" } },
        { "version 2, no permissions",
          "\"v\":2,\"o\":{\"id\":\"org_1\",\"slg\":\"acme\",\"rol\":\"member\"}",
          { "org_1", "acme", "org:member", "" } },
        { "version 2 does not see names of version 1",
          "\"v\":2,\"org_id\":\"org_1\",\"org_slug\":\"acme\","
          "\"org_role\":\"org:admin\",\"org_permissions\":[\"org:a:read\"]",
          { NULL, NULL, NULL, NULL } },
        { "version 2, of wrong types",
          "\"v\":2,\"o\":{\"id\":7,\"slg\":null,\"rol\":{}}",
          { NULL, NULL, NULL, "" } },
        { "version 2, no object", "\"v\":2,\"o\":[\"id\",\"x\"]",
          { NULL, NULL, NULL, NULL } },
        { "version 2, empty", "\"v\":2,\"o\":{\"id\":\"\",\"rol\":\"\"}",
          { NULL, NULL, NULL, "" } },
        { "version 2, a control character",
          "\"v\":2,\"o\":{\"id\":\"a\\tb\",\"rol\":\"a\\u007f\"}",
          { NULL, NULL, NULL, "" } },
        { "version \"2\"", "\"v\":\"2\",\"o\":{\"id\":\"org_1\"}",
          { NULL, NULL, NULL, NULL } },
        { "version 2.0", "\"v\":2.0,\"o\":{\"id\":\"org_1\"}",
          { "org_1", NULL, NULL, "" } },
        { "version 3", "\"v\":3,\"o\":{\"id\":\"org_1\"}",
          { NULL, NULL, NULL, NULL } }
    };

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        if (claims(list[i].claims) != RUNCOACH_JWT_OK) {
            abort();
        }

        org_is(list[i].expected, list[i].name);
    }
}


static void
test_opaque(void)
{
    size_t       i;
    const char  *token;

    static const char *const  yes[] = {
        "mt_", "mt_0123", "m2m_x", "oat_x", "ak_x", "ak_a/b+c="
    };

    static const char *const  no[] = {
        "", "m", "mt", "mt-x", "MT_x", "m2_x", "oa_x", "oat", "ak", "sk_x",
        "xmt_x", " mt_x", "e30.e30.e30"
    };

    for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        ok(runcoach_jwt_opaque((u_char *) yes[i], strlen(yes[i])) == 1,
           "opaque: \"%s\"", yes[i]);
    }

    for (i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        ok(runcoach_jwt_opaque((u_char *) no[i], strlen(no[i])) == 0,
           "not opaque: \"%s\"", no[i]);
    }

    token = sign(mine, HEAD, BODY, strlen(BODY));
    ok(runcoach_jwt_opaque((u_char *) token, strlen(token)) == 0, "nor a JWT");
}


/*
 * A token of each algorithm before the keys of each: only its own will do, and
 * only if the issuer may use it.
 */

static void
test_every_algorithm(void)
{
    char              token[4096], bad[4096];
    char             *dot;
    size_t            i, j, wrong;
    EVP_PKEY         *pkeys[5];
    runcoach_jwks_t  *saved, *sets[5];

    static const struct {
        const char  *name;
        unsigned     alg;
        int          key;
    } algs[] = {
        { "RS256", RUNCOACH_ALG_RS256, 0 }, { "RS384", RUNCOACH_ALG_RS384, 0 },
        { "RS512", RUNCOACH_ALG_RS512, 0 }, { "PS256", RUNCOACH_ALG_PS256, 0 },
        { "PS384", RUNCOACH_ALG_PS384, 0 }, { "PS512", RUNCOACH_ALG_PS512, 0 },
        { "ES256", RUNCOACH_ALG_ES256, 1 }, { "ES384", RUNCOACH_ALG_ES384, 2 },
        { "ES512", RUNCOACH_ALG_ES512, 3 }, { "EdDSA", RUNCOACH_ALG_EDDSA, 4 }
    };

    saved = keys;

    pkeys[0] = mine;
    pkeys[1] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    pkeys[2] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    pkeys[3] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521");
    pkeys[4] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    for (i = 0; i < 5; i++) {
        sets[i] = pem_keys(pkeys[i]);
    }

    for (i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        strcpy(token, sign_with(algs[i].name, pkeys[algs[i].key], BODY));

        keys = sets[algs[i].key];
        policy.algs = RUNCOACH_ALG_ANY;
        ok(judge(token) == RUNCOACH_JWT_OK, "%s", algs[i].name);

        policy.algs = algs[i].alg;
        ok(judge(token) == RUNCOACH_JWT_OK, "... alone");

        policy.algs = (RUNCOACH_ALG_ANY|RUNCOACH_ALG_HMAC) & ~algs[i].alg;
        ok(judge(token) == RUNCOACH_JWT_ALGORITHM, "... not without it");
        policy.algs = RUNCOACH_ALG_ANY;

        wrong = 0;

        for (j = 0; j < 5; j++) {
            keys = sets[j];
            wrong += (j != (size_t) algs[i].key
                      && judge(token) != RUNCOACH_JWT_UNKNOWN_KEY);
        }

        ok(wrong == 0, "... nor by a key of another kind");

        keys = sets[algs[i].key];
        wrong = 0;

        for (j = 0; j < sizeof(algs) / sizeof(algs[0]); j++) {
            if (j == i) {
                continue;
            }

            snprintf(bad, sizeof(bad), "{\"alg\":\"%s\"}", algs[j].name);
            dot = strrchr(token, '.');
            strcpy(bad, unsigned_token(bad, BODY));
            strcat(bad, dot + 1);
            wrong += (judge(bad) == RUNCOACH_JWT_OK);
        }

        ok(wrong == 0, "... nor under another name");
    }

    for (i = 0; i < 5; i++) {
        runcoach_jwks_free(sets[i]);

        if (i > 0) {
            EVP_PKEY_free(pkeys[i]);
        }
    }

    policy.algs = RUNCOACH_ALG_RS256;
    keys = saved;
}


/* as Supabase's legacy keys: no kid, and "anon" is signed by the same secret */

static void
test_secret(void)
{
    char              token[4096];
    u_char            mac[64];
    size_t            i, n;
    unsigned          len;
    runcoach_jwks_t  *saved, *one, *two;

    static runcoach_str_t           role = runcoach_string("role");
    static runcoach_jwt_required_t  required[1];

    static const u_char  secret[] =
        "a secret of more than sixty-four bytes, of which one is different: 1";
    static const u_char  another[] =
        "a secret of more than sixty-four bytes, of which one is different: 2";

    static const struct {
        runcoach_jwt_rc_e   rc;
        const char         *body;
    } rows[] = {
        { RUNCOACH_JWT_OK,
          "{" ISS "," SUB "," EXP ",\"aud\":\"authenticated\","
          "\"role\":\"authenticated\"}" },
        { RUNCOACH_JWT_SUBJECT,
          "{" ISS "," EXP ",\"role\":\"anon\"}" },
        { RUNCOACH_JWT_SUBJECT,
          "{" ISS "," EXP ",\"role\":\"service_role\"}" },
        { RUNCOACH_JWT_AUDIENCE,
          "{" ISS "," SUB "," EXP ",\"role\":\"authenticated\"}" },
        { RUNCOACH_JWT_REQUIRED,
          "{" ISS "," SUB "," EXP ",\"aud\":\"authenticated\","
          "\"role\":\"service_role\"}" },
        { RUNCOACH_JWT_REQUIRED,
          "{" ISS "," SUB "," EXP ",\"aud\":\"authenticated\","
          "\"user_metadata\":{\"role\":\"authenticated\"}}" }
    };

    saved = keys;

    if (runcoach_jwks_from_secret(&one, secret, sizeof(secret) - 1)
        != RUNCOACH_JWKS_OK
        || runcoach_jwks_from_secret(&two, another, sizeof(another) - 1)
           != RUNCOACH_JWKS_OK)
    {
        abort();
    }

    required[0].path.names = &role;
    required[0].path.n = 1;
    required[0].value = audiences[1];

    policy.algs = RUNCOACH_ALG_HS256;
    policy.audiences = audiences;
    policy.naudiences = 2;
    policy.required = required;
    policy.nrequired = 1;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        strcpy(token, unsigned_token("{\"alg\":\"HS256\",\"typ\":\"JWT\"}",
                                     rows[i].body));
        n = strlen(token);
        HMAC(EVP_sha256(), secret, sizeof(secret) - 1, (u_char *) token, n - 1,
             mac, &len);
        encode(token + n, mac, len);

        keys = one;
        ok(judge(token) == rows[i].rc, "a secret: %s",
           runcoach_jwt_reason(rows[i].rc));

        if (rows[i].rc != RUNCOACH_JWT_OK) {
            continue;
        }

        keys = two;
        ok(judge(token) == RUNCOACH_JWT_SIGNATURE, "not by another secret");
        keys = saved;
        ok(judge(token) == RUNCOACH_JWT_UNKNOWN_KEY, "nor by a public key");

        keys = one;
        policy.algs = RUNCOACH_ALG_ANY;
        ok(judge(token) == RUNCOACH_JWT_ALGORITHM,
           "nor where no secret may be used");
        policy.algs = RUNCOACH_ALG_HS256;
    }

    runcoach_jwks_free(one);
    runcoach_jwks_free(two);

    policy = strict;
    policy.nparties = 0;
    policy.leeway = 0;
    policy.max_lifetime = 0;
    policy.azp_required = 0;

    keys = saved;
}


static void
test_reasons(void)
{
    int  rc, other_rc, same;

    same = 0;

    for (rc = RUNCOACH_JWT_OK; rc <= RUNCOACH_JWT_REQUIRED; rc++) {
        for (other_rc = 0; other_rc < rc; other_rc++) {
            same += strcmp(runcoach_jwt_reason(rc),
                           runcoach_jwt_reason(other_rc)) == 0;
        }
    }

    ok(same == 0, "each has a reason of its own");

    is_str(runcoach_jwt_reason(RUNCOACH_JWT_EXPIRED), "token-expired",
           "expired");
    is_str(runcoach_jwt_reason(RUNCOACH_JWT_UNKNOWN_KEY), "jwk-kid-mismatch",
           "unknown key");
    is_str(runcoach_jwt_reason(RUNCOACH_JWT_TYPE), "token-type-mismatch",
           "type");
    is_str(runcoach_jwt_reason((runcoach_jwt_rc_e) 99), "unexpected-error",
           "never NULL");
}


int
main(void)
{
    static const runcoach_str_t  issuer =
                                 runcoach_string("https://clerk.example.com");

    mine = generate();
    other = generate();
    keys = keys_of(jwk(mine, "ins_1"), jwk(other, "ins_2"), NULL);

    strict.algs = RUNCOACH_ALG_RS256;
    strict.classes = RUNCOACH_JWT_SESSION;
    strict.issuer = issuer;

    policy = strict;

    strict.parties = parties;
    strict.nparties = 2;
    strict.leeway = 5;
    strict.max_lifetime = 86400;
    strict.azp_required = 1;

    test_good();
    test_structure();
    test_encoding();
    test_header();
    test_json();
    test_algorithm();
    test_hmac_confusion();
    test_signature();
    test_keys();
    test_pem();
    test_issuer();
    test_class();
    test_classes();
    test_subject();
    test_dates();
    test_boundaries();
    test_times();
    test_lifetime();
    test_audience();
    test_party();
    test_status();
    test_required();
    test_values();
    test_text();
    test_org();
    test_opaque();
    test_reasons();
    test_every_algorithm();
    test_secret();

    test_clerk();
    test_order();

    free(text_of_jwt);
    runcoach_jwks_free(keys);
    EVP_PKEY_free(mine);
    EVP_PKEY_free(other);

    return done();
}
