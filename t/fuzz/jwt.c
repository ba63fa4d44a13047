
/*
 * The input is a token, and then the JSON of one: header and claims, with a
 * line feed between them.  No input has a signature that is right, and claims
 * which pass are fit for a header line and a path.
 */


#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>

#include "runcoach_jwt.h"


#define NOW  1795166400


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static runcoach_jwks_t *key_set(void);
static void parse(const u_char *token, size_t n);
static void parse_parts(const uint8_t *data, size_t size);
static void check(const runcoach_jwt_t *jwt);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


static const runcoach_str_t  parties[] = {
    runcoach_string("https://app.example.com")
};

static const runcoach_str_t  audiences[] = { runcoach_string("api") };


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse(data, size);
    parse_parts(data, size);

    return 0;
}


/* a number of 2048 bits will do, since nothing must ever verify with it */

static runcoach_jwks_t *
key_set(void)
{
    char    json[1024];
    size_t  len, i;
    u_char  n[256], text[512];

    static runcoach_jwks_t  *set;

    if (set != NULL) {
        return set;
    }

    for (i = 0; i < sizeof(n); i++) {
        n[i] = (u_char) (0x80 | (i * 151));
    }

    len = runcoach_base64url_encode(text, n, sizeof(n));

    len = snprintf(json, sizeof(json), "{\"keys\":[{\"kty\":\"RSA\","
                   "\"kid\":\"k\",\"e\":\"AQAB\",\"n\":\"%.*s\"}]}", (int) len,
                   text);

    holds(runcoach_jwks_parse(&set, NULL, (u_char *) json, len)
          == RUNCOACH_JWKS_OK);

    return set;
}


static void
parse(const u_char *token, size_t n)
{
    u_char             *src;
    runcoach_jwt_t     *jwt;
    runcoach_jwt_rc_e   rc;

    src = malloc(n + (n == 0));
    holds(src != NULL);
    memcpy(src, token, n);

    rc = runcoach_jwt_parse(&jwt, src, n);

    free(src);

    holds((rc == RUNCOACH_JWT_OK) == (jwt != NULL));
    holds(rc == RUNCOACH_JWT_OK || rc == RUNCOACH_JWT_MALFORMED
          || rc == RUNCOACH_JWT_TYPE);

    if (jwt != NULL) {
        holds(n <= RUNCOACH_JWT_MAX_SIZE);
        check(jwt);
    }

    runcoach_jwt_free(jwt);
}


static void
parse_parts(const uint8_t *data, size_t size)
{
    size_t          n;
    u_char         *token, *p;
    const uint8_t  *body;

    static const u_char  signature[256] = { 1 };

    body = memchr(data, '\n', size);

    if (body == NULL || size > RUNCOACH_JWT_MAX_SIZE) {
        return;
    }

    n = body - data;
    body++;

    token = malloc(2 * size + 1024);
    holds(token != NULL);

    p = token;
    p += runcoach_base64url_encode(p, data, n);
    *p++ = '.';
    p += runcoach_base64url_encode(p, body, size - n - 1);
    *p++ = '.';
    p += runcoach_base64url_encode(p, signature, sizeof(signature));

    parse(token, p - token);

    free(token);
}


static void
check(const runcoach_jwt_t *jwt)
{
    size_t                 i;
    runcoach_str_t         value;
    runcoach_jwt_rc_e      rc;
    runcoach_jwt_policy_t  policy;

    static const runcoach_str_t  issuer = runcoach_string("i");

    holds(runcoach_jwt_check_signature(jwt, key_set(), RUNCOACH_ALG_RS256)
          != RUNCOACH_JWT_OK);
    holds(ERR_peek_error() == 0);
    holds(runcoach_jwt_expires(jwt) >= 0);

    if (runcoach_jwt_header(jwt, "kid", &value)) {
        for (i = 0; i < value.len; i++) {
            holds(value.data[i] >= 0x20 && value.data[i] != 0x7f);
        }
    }

    memset(&policy, 0, sizeof(policy));

    policy.algs = RUNCOACH_ALG_RS256;
    policy.issuer = issuer;
    policy.audiences = audiences;
    policy.parties = parties;
    policy.leeway = 5;

    for (i = 0; i < 8; i++) {
        policy.naudiences = i & 1;
        policy.nparties = (i >> 1) & 1;
        policy.max_lifetime = (i & 4) ? 86400 : 0;

        rc = runcoach_jwt_check_claims(jwt, &policy, NOW);
        holds(runcoach_jwt_reason(rc) != NULL);

        if (rc != RUNCOACH_JWT_OK) {
            continue;
        }

        holds(runcoach_jwt_expires(jwt) >= NOW - 5);

        holds(runcoach_jwt_claim(jwt, "sub", &value));
        holds(value.len >= 1 && value.len <= 255);
        holds(memchr(value.data, '/', value.len) == NULL);
        holds(value.data[0] != ' ' && value.data[value.len - 1] != ' ');
        holds(value.len > 2 || memcmp(value.data, "..", value.len) != 0);
    }
}
