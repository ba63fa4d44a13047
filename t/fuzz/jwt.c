
/*
 * The input is a token; then the JSON of one, header and claims with a line
 * feed between them, which is signed; then changes to tokens which are signed.
 * Only what was signed verifies, and claims which pass are fit for a header
 * line and a path.  The signed ones are RFC 7515's, appendix A.1 and A.2.
 */


#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "runcoach_jwt.h"


#define NOW      1795166400

#define PAYLOAD  ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6L" \
                 "y9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void initialize(void);
static void *exactly(const void *data, size_t size);
static void parse(const u_char *token, size_t n);
static void encodes_to_itself(const runcoach_jwt_t *jwt, const u_char *token,
    size_t n);
static void parse_parts(const uint8_t *data, size_t size);
static void change(const uint8_t *data, size_t size,
    const runcoach_str_t *token, const runcoach_jwks_t *keys, unsigned alg);
static int genuine(const runcoach_jwt_t *jwt);
static void check(const runcoach_jwt_t *jwt);
static void check_claims(const runcoach_jwt_t *jwt);
static void check_texts(const runcoach_jwt_t *jwt);
static void presentable(const u_char *data, ssize_t n, size_t size);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


static u_char           secret[64];
static runcoach_jwks_t  *rsa, *hmac;
static runcoach_jwt_t    token_store, again_store;


static const runcoach_str_t  hs256 = runcoach_string(
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9" PAYLOAD
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");

static const runcoach_str_t  rs256 = runcoach_string(
    "eyJhbGciOiJSUzI1NiJ9" PAYLOAD
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4B"
    "h-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZL"
    "grnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO-"
    "-xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6Lbg"
    "GY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw");

static const runcoach_str_t  parties[] = {
    runcoach_string("https://app.example.com")
};

static const runcoach_str_t  audiences[] = { runcoach_string("api") };


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    initialize();

    parse(data, size);
    parse_parts(data, size);

    change(data, size, &hs256, hmac, RUNCOACH_ALG_HS256);
    change(data, size, &rs256, rsa, RUNCOACH_ALG_RS256);

    holds(ERR_peek_error() == 0);

    return 0;
}


/* a PEM's key, unlike one of a document, is good for any kid */

static void
initialize(void)
{
    static const runcoach_str_t  key = runcoach_string(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcg"
        "UuTwjAzZr1Z9CAow");

    static const runcoach_str_t  pem = runcoach_string(
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4"
        "qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2j"
        "Z47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7W"
        "TBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK"
        "-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
        "IDAQAB");

    if (rsa != NULL) {
        return;
    }

    holds(runcoach_base64url_decode(secret, key.data, key.len) == 64);

    holds(runcoach_jwks_from_secret(&hmac, secret, 64) == RUNCOACH_JWKS_OK);
    holds(runcoach_jwks_from_pem(&rsa, pem.data, pem.len) == RUNCOACH_JWKS_OK);
}


static void *
exactly(const void *data, size_t size)
{
    void  *p;

    p = malloc(size + (size == 0));
    holds(p != NULL);

    memcpy(p, data, size);

    return p;
}


static void
parse(const u_char *token, size_t n)
{
    u_char             *src;
    runcoach_jwt_t     *jwt, *again;
    runcoach_jwt_rc_e   rc;

    src = exactly(token, n);

    jwt = &token_store;
    again = &again_store;

    rc = runcoach_jwt_parse(jwt, src, n);
    holds(rc == RUNCOACH_JWT_OK || rc == RUNCOACH_JWT_MALFORMED);
    holds(runcoach_jwt_parse(again, src, n) == rc);

    if (rc == RUNCOACH_JWT_OK) {
        holds(n <= RUNCOACH_JWT_MAX_SIZE);
        holds(jwt->alg == again->alg && jwt->class == again->class);
        holds(jwt->kid.len == again->kid.len);
        holds(jwt->header.n == again->header.n);
        holds(jwt->payload.n == again->payload.n);

        encodes_to_itself(jwt, src, n);
        check(jwt);
    }

    free(src);
}


static void
encodes_to_itself(const runcoach_jwt_t *jwt, const u_char *token, size_t n)
{
    size_t         len;
    u_char        *text, *p;
    const u_char  *dot, *end;

    text = exactly(token, n);

    dot = memchr(token, '.', n);
    end = token + jwt->text.len;

    holds(jwt->text.data == token && dot < end && *end == '.');

    len = runcoach_base64url_encode(text, jwt->signature.data,
                                    jwt->signature.len);
    holds(len == n - jwt->text.len - 1);
    holds(memcmp(text, end + 1, len) == 0);

    p = exactly(jwt->decoded, runcoach_base64_decoded_max(n));

    len = runcoach_base64url_decode(p, token, dot - token);
    holds(memcmp(p, jwt->decoded, len) == 0);
    holds(runcoach_base64url_encode(text, jwt->decoded, len)
          == (size_t) (dot - token));
    holds(memcmp(text, token, dot - token) == 0);

    n = jwt->signature.data - jwt->decoded - len;
    holds(runcoach_base64url_encode(text, jwt->decoded + len, n)
          == (size_t) (end - dot - 1));
    holds(memcmp(text, dot + 1, end - dot - 1) == 0);

    free(p);
    free(text);
}


/* signed, it verifies if it says that it is of this algorithm, and only then */

static void
parse_parts(const uint8_t *data, size_t size)
{
    size_t              n, nbody;
    u_char             *token, *p;
    u_char              mac[EVP_MAX_MD_SIZE];
    unsigned            len;
    const uint8_t      *body;
    runcoach_jwt_rc_e   rc;

    body = memchr(data, '\n', size);

    if (body == NULL || size > RUNCOACH_JWT_MAX_SIZE) {
        return;
    }

    n = body - data;
    nbody = size - n - 1;

    token = malloc(2 * size + 1024);
    holds(token != NULL);

    p = token;
    p += runcoach_base64url_encode(p, data, n);
    *p++ = '.';
    p += runcoach_base64url_encode(p, body + 1, nbody);

    HMAC(EVP_sha256(), secret, 64, token, p - token, mac, &len);

    *p++ = '.';
    p += runcoach_base64url_encode(p, mac, len);

    parse(token, p - token);

    if (runcoach_jwt_parse(&token_store, token, p - token)
        == RUNCOACH_JWT_OK)
    {
        rc = runcoach_jwt_check_signature(&token_store, hmac, ~0U);
        holds((rc == RUNCOACH_JWT_OK)
              == (token_store.alg == RUNCOACH_ALG_HS256));

        /* and no longer when one bit of it is another */

        n = (nbody * 131 + data[size - 1]) % (p - token);
        token[n] ^= 1 << (nbody % 7);

        holds(runcoach_jwt_parse(&token_store, token, p - token)
              != RUNCOACH_JWT_OK
              || runcoach_jwt_check_signature(&token_store, hmac, ~0U)
                 != RUNCOACH_JWT_OK);
    }

    free(token);
}


/*
 * Four bytes of the input are a change: where, how much to remove there, and
 * what to put there instead.
 */

static void
change(const uint8_t *data, size_t size, const runcoach_str_t *token,
    const runcoach_jwks_t *keys, unsigned alg)
{
    size_t              n, at, gone;
    u_char             *text, *src;
    runcoach_jwt_rc_e   rc;

    text = malloc(token->len + size);
    holds(text != NULL);

    n = token->len;
    memcpy(text, token->data, n);

    for ( /* void */ ; size >= 4; size -= 4, data += 4) {
        at = (data[0] << 8 | data[1]) % (n + 1);
        gone = data[2] % 4;
        gone = (gone > n - at) ? n - at : gone;

        memmove(text + at + 1, text + at + gone, n - at - gone);
        text[at] = data[3];
        n = n + 1 - gone;
    }

    src = exactly(text, n);

    if (runcoach_jwt_parse(&token_store, src, n) == RUNCOACH_JWT_OK) {
        rc = runcoach_jwt_check_signature(&token_store, keys, alg);

        holds((rc == RUNCOACH_JWT_OK)
              == (n == token->len && memcmp(src, token->data, n) == 0));
        holds(rc == runcoach_jwt_check_signature(&token_store, keys, alg));
    }

    free(src);
    free(text);
}


/* one of the signed ones, which libFuzzer may well find */

static int
genuine(const runcoach_jwt_t *jwt)
{
    return (jwt->text.len < hs256.len
            && memcmp(jwt->text.data, hs256.data, jwt->text.len) == 0)
           || (jwt->text.len < rs256.len
               && memcmp(jwt->text.data, rs256.data, jwt->text.len) == 0);
}


static void
check(const runcoach_jwt_t *jwt)
{
    time_t             exp, nbf, iat;
    runcoach_jwt_rc_e  rc;

    rc = runcoach_jwt_check_signature(jwt, rsa, ~0U);

    holds(rc != RUNCOACH_JWT_OK || genuine(jwt));
    holds((rc == RUNCOACH_JWT_ALGORITHM) == (jwt->alg == 0));
    holds(runcoach_jwt_check_signature(jwt, rsa, ~jwt->alg)
          == RUNCOACH_JWT_ALGORITHM);
    holds(ERR_peek_error() == 0);

    runcoach_jwt_dates(jwt, &exp, &nbf, &iat);
    holds(exp >= 0 && nbf >= 0 && iat >= 0);

    check_claims(jwt);
    check_texts(jwt);
}


static void
check_claims(const runcoach_jwt_t *jwt)
{
    size_t                     i;
    time_t                     exp, nbf, iat;
    runcoach_str_t             value;
    runcoach_jwt_rc_e          rc, timed;
    runcoach_jwt_policy_t      policy;
    runcoach_jwt_required_t    required;

    static const runcoach_str_t  issuer = runcoach_string("i");
    static const runcoach_str_t  name = runcoach_string("sid");

    memset(&policy, 0, sizeof(policy));
    memset(&required, 0, sizeof(required));

    required.path.names = &name;
    required.path.n = 1;

    policy.algs = RUNCOACH_ALG_ANY|RUNCOACH_ALG_HMAC;
    policy.issuer = issuer;
    policy.audiences = audiences;
    policy.parties = parties;
    policy.required = &required;
    policy.leeway = 5;

    runcoach_jwt_dates(jwt, &exp, &nbf, &iat);
    timed = runcoach_jwt_check_time(exp, nbf, 5, NOW);

    for (i = 0; i < 32; i++) {
        policy.naudiences = i & 1;
        policy.nparties = (i >> 1) & 1;
        policy.max_lifetime = (i & 4) ? 86400 : 0;
        policy.nrequired = (i >> 3) & 1;
        policy.classes = (i & 16) ? 0x0f : RUNCOACH_JWT_SESSION;

        rc = runcoach_jwt_check_claims(jwt, &policy, NOW);
        holds(runcoach_jwt_reason(rc) != NULL);
        holds(rc == runcoach_jwt_check_claims(jwt, &policy, NOW));

        if (rc == RUNCOACH_JWT_EXPIRED || rc == RUNCOACH_JWT_NOT_YET) {
            holds(rc == timed);
        }

        if (rc != RUNCOACH_JWT_OK) {
            continue;
        }

        holds(timed == RUNCOACH_JWT_OK);
        holds(exp >= NOW - 5);
        holds((jwt->class & policy.classes) != 0);

        holds(runcoach_jwt_claim(jwt, "sub", &value));
        presentable(value.data, value.len, 255);
        holds(value.len >= 1);
        holds(memchr(value.data, '/', value.len) == NULL);
        holds(value.data[0] != ' ' && value.data[value.len - 1] != ' ');
        holds(value.len > 2 || memcmp(value.data, "..", value.len) != 0);
    }
}


/* every claim there is, as text of every size that may just be enough */

static void
check_texts(const runcoach_jwt_t *jwt)
{
    int                          what, tries;
    u_char                      *dst;
    size_t                       size;
    ssize_t                      n;
    runcoach_jwt_path_t          path;
    const runcoach_json_node_t  *node;

    tries = 0;

    for (node = runcoach_json_first(&jwt->payload, jwt->payload.nodes);
         node != NULL && tries < 20;
         node = runcoach_json_next(&jwt->payload, jwt->payload.nodes, node))
    {
        path.names = &node->name;
        path.n = 1;

        for (size = node->value.len; size + 2 > node->value.len; size--) {
            dst = malloc(size + (size == 0));
            holds(dst != NULL);

            n = runcoach_jwt_claim_text(jwt, &path, dst, size);
            presentable(dst, n, size);
            free(dst);

            if (size == 0) {
                break;
            }
        }

        tries++;
    }

    for (what = RUNCOACH_JWT_ORG_ID;
         what <= RUNCOACH_JWT_ORG_PERMISSIONS;
         what++)
    {
        for (size = 1; size <= 4096; size *= 4) {
            dst = malloc(size);
            holds(dst != NULL);

            n = runcoach_jwt_org(jwt, what, dst, size);
            presentable(dst, n, size);
            free(dst);
        }
    }
}


static void
presentable(const u_char *data, ssize_t n, size_t size)
{
    ssize_t  i;

    holds(n >= -1 && n <= (ssize_t) size);

    for (i = 0; i < n; i++) {
        holds(data[i] >= 0x20 && data[i] != 0x7f);
    }
}
