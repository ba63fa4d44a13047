
#include "../../ngx_runcoach_module/lib/runcoach_jwt.c"

#include <stdio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
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
static void test_subject(void);
static void test_dates(void);
static void test_boundaries(void);
static void test_lifetime(void);
static void test_audience(void);
static void test_party(void);
static void test_status(void);
static void test_order(void);
static void test_values(void);
static void test_reasons(void);


#define rows(array, what)                                                     \
    rows_of(array, sizeof(array) / sizeof(array[0]), what)


static EVP_PKEY               *mine, *other;
static runcoach_jwks_t        *keys;
static runcoach_jwt_t         *jwt;
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


static runcoach_jwt_rc_e
parse(const char *token, size_t n)
{
    u_char             *p;
    runcoach_jwt_rc_e   rc;

    runcoach_jwt_free(jwt);

    p = malloc(n + (n == 0));
    memcpy(p, token, n);

    rc = runcoach_jwt_parse(&jwt, p, n);

    free(p);

    if ((rc == RUNCOACH_JWT_OK) != (jwt != NULL)) {
        abort();
    }

    return rc;
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
    size_t          n;
    char            token[4096];
    u_char         *p;
    runcoach_str_t  value;

    ok(judge(sign(mine, HEAD, BODY, strlen(BODY))) == RUNCOACH_JWT_OK,
       "a good token");
    ok(judge(sign(mine, "{\"alg\":\"RS256\",\"kid\":\"ins_1\"}", BODY,
                  strlen(BODY)))
       == RUNCOACH_JWT_OK,
       "typ may be absent");
    ok(judge(sign(mine, HEAD, " \r\n\t" BODY "\n ", strlen(BODY) + 6))
       == RUNCOACH_JWT_OK,
       "white space around the claims");

    strcpy(token, sign(mine, HEAD, BODY, strlen(BODY)));
    n = strlen(token);
    p = malloc(n);
    memcpy(p, token, n);

    runcoach_jwt_free(jwt);
    ok(runcoach_jwt_parse(&jwt, p, n) == RUNCOACH_JWT_OK, "parsed");

    memset(p, 'x', n);
    free(p);

    ok(runcoach_jwt_check_signature(jwt, keys, RUNCOACH_ALG_RS256)
       == RUNCOACH_JWT_OK
       && runcoach_jwt_claim(jwt, "sub", &value)
       && value.len == 6
       && memcmp(value.data, "user_1", 6) == 0,
       "the token need not outlive the call");
}


static void
test_clerk(void)
{
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
    ok(runcoach_jwt_expires(jwt) == 1795166460, "its exp");
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
        { RUNCOACH_JWT_TYPE, "{\"alg\":\"RS256\",\"typ\":null}" },
        { RUNCOACH_JWT_TYPE, "{\"alg\":\"RS256\",\"typ\":[\"JWT\"]}" },

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
              == RUNCOACH_JWT_ALGORITHM,
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
    long              n;
    BIO              *bio;
    char             *pem;
    runcoach_jwks_t  *saved;

    saved = keys;
    bio = BIO_new(BIO_s_mem());

    if (PEM_write_bio_PUBKEY(bio, mine) != 1) {
        abort();
    }

    n = BIO_get_mem_data(bio, &pem);

    if (runcoach_jwks_from_pem(&keys, (u_char *) pem, n) != RUNCOACH_JWKS_OK) {
        abort();
    }

    ok(claims("") == RUNCOACH_JWT_OK, "a PEM serves any kid");
    ok(judge(sign(mine, "{\"alg\":\"RS256\"}", BODY, strlen(BODY)))
       == RUNCOACH_JWT_OK,
       "and none");
    ok(judge(sign(other, HEAD, BODY, strlen(BODY))) == RUNCOACH_JWT_SIGNATURE,
       "but not any signature");

    runcoach_jwks_free(keys);
    BIO_free(bio);

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
        { RUNCOACH_JWT_TYPE, "null" },
        { RUNCOACH_JWT_TYPE, "[\"cl_B7d4PD111AAA\"]" },
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
    ok(runcoach_jwt_expires(jwt) == 0, "its time is 0");

    claims("\"exp\":1795166460.9");
    ok(runcoach_jwt_expires(jwt) == 1795166460, "whole seconds");
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
        RUNCOACH_JWT_PENDING, RUNCOACH_JWT_UNKNOWN_KEY
    };

    policy = strict;
    policy.audiences = audiences;
    policy.naudiences = 2;

    for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        snprintf(head, sizeof(head),
                 "{\"alg\":\"%s\",\"kid\":\"no\",\"cat\":\"%s\"}",
                 i > 0 ? "RS256" : "HS256",
                 i > 2 ? "cl_B7d4PD111AAA" : "cl_B7d4PD222AAA");

        snprintf(body, sizeof(body),
                 "{\"iss\":\"%s\",\"sub\":\"%s\",\"exp\":%lld,\"nbf\":%lld,"
                 "\"iat\":%lld,\"aud\":\"%s\",\"azp\":\"%s\",\"sts\":\"%s\"}",
                 i > 1 ? "https://clerk.example.com" : "x",
                 i > 3 ? "user_1" : "/",
                 i > 7 ? NOW + 60 : i > 4 ? NOW + 9999999 : NOW - 9999,
                 i > 5 ? NOW : NOW + 9999,
                 i > 6 ? NOW : NOW + 9999,
                 i > 8 ? "api" : "x",
                 i > 9 ? "http://localhost:3000" : "x",
                 i > 10 ? "active" : "pending");

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

    ok(runcoach_jwt_header(jwt, "kid", &value) && value.len == 5
       && memcmp(value.data, "ins_1", 5) == 0,
       "kid");
    ok(!runcoach_jwt_header(jwt, "sub", &value), "no claim in the header");

    judge(sign(mine, "{\"alg\":\"RS256\",\"kid\":\"a\\nb\"}", BODY,
               strlen(BODY)));
    ok(!runcoach_jwt_header(jwt, "kid", &value), "a kid for no log");
}


static void
test_reasons(void)
{
    int  rc, other_rc, same;

    same = 0;

    for (rc = RUNCOACH_JWT_OK; rc <= RUNCOACH_JWT_NO_MEMORY; rc++) {
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
    is_str(runcoach_jwt_reason(RUNCOACH_JWT_NO_MEMORY), "unexpected-error",
           "no memory");
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
    test_subject();
    test_dates();
    test_boundaries();
    test_lifetime();
    test_audience();
    test_party();
    test_status();
    test_values();
    test_reasons();

    test_clerk();
    test_order();

    runcoach_jwt_free(jwt);
    runcoach_jwt_free(NULL);
    runcoach_jwks_free(keys);
    EVP_PKEY_free(mine);
    EVP_PKEY_free(other);

    return done();
}
