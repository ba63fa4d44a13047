
/*
 * What a token says of itself chooses nothing here.  The issuer's policy names
 * the algorithms, the key names those it may verify, and "alg" has only to be
 * in both; keys come from the caller's set and never from the header.
 */


#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <openssl/err.h>

#include "runcoach_jwt.h"


#define RUNCOACH_JWT_MAX_SUBJECT  255
#define RUNCOACH_JWT_MAX_TRIES    2
#define RUNCOACH_JWT_MAX_DATE     9007199254740992.0     /* 2^53 */


/* Clerk stamps the class of a token into its header; one key signs them all */

#define RUNCOACH_JWT_CAT_SESSION  "cl_B7d4PD111AAA"
#define RUNCOACH_JWT_CAT_ANY      "cl_I7d4PD111III"


struct runcoach_jwt_s {
    json_t                *header;
    json_t                *payload;
    const runcoach_alg_t  *alg;              /* NULL: not one of ours */
    size_t                 signed_len;
    size_t                 signature_len;
    u_char                 data[];           /* what is signed, signature */
};


typedef enum {
    RUNCOACH_JWT_DATE_NONE = 0,
    RUNCOACH_JWT_DATE_OK,
    RUNCOACH_JWT_DATE_BAD
} runcoach_jwt_date_e;


static int runcoach_jwt_split(const u_char *token, size_t n,
    runcoach_str_t segments[3]);
static runcoach_jwt_rc_e runcoach_jwt_decode(json_t **json,
    const runcoach_str_t *segment);
static runcoach_jwt_rc_e runcoach_jwt_check_header(runcoach_jwt_t *jwt);

static runcoach_jwt_rc_e runcoach_jwt_check_class(const runcoach_jwt_t *jwt);
static runcoach_jwt_rc_e runcoach_jwt_check_subject(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy);
static runcoach_jwt_rc_e runcoach_jwt_check_dates(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy, time_t now);
static runcoach_jwt_rc_e runcoach_jwt_check_audience(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy);
static runcoach_jwt_rc_e runcoach_jwt_check_party(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy);
static runcoach_jwt_rc_e runcoach_jwt_check_status(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy);

static runcoach_jwt_date_e runcoach_jwt_date(const runcoach_jwt_t *jwt,
    const char *name, double *date);
static int runcoach_jwt_is(const json_t *value, const runcoach_str_t *str);
static int runcoach_jwt_in(const json_t *value, const runcoach_str_t *list,
    size_t n);
static int runcoach_jwt_presentable(const u_char *data, size_t n);
static int runcoach_jwt_string(const json_t *object, const char *name,
    runcoach_str_t *value);

static int runcoach_jwt_key_matches(const runcoach_jwt_t *jwt,
    const runcoach_jwk_t *key);
static runcoach_jwt_rc_e runcoach_jwt_verify(const runcoach_jwt_t *jwt,
    EVP_PKEY *pkey);


runcoach_jwt_rc_e
runcoach_jwt_parse(runcoach_jwt_t **jwt, const u_char *token, size_t n)
{
    ssize_t             len;
    runcoach_jwt_t     *t;
    runcoach_str_t      segments[3];
    runcoach_jwt_rc_e   rc;

    *jwt = NULL;

    if (n > RUNCOACH_JWT_MAX_SIZE || !runcoach_jwt_split(token, n, segments)) {
        return RUNCOACH_JWT_MALFORMED;
    }

    t = calloc(1, sizeof(runcoach_jwt_t) + n);
    if (t == NULL) {
        return RUNCOACH_JWT_NO_MEMORY;
    }

    t->signed_len = segments[0].len + 1 + segments[1].len;
    memcpy(t->data, token, t->signed_len);

    /* a decoded signature is shorter than its text, and so within n */

    len = runcoach_base64url_decode(t->data + t->signed_len, segments[2].data,
                                    segments[2].len);
    if (len < 0) {
        rc = RUNCOACH_JWT_MALFORMED;
        goto failed;
    }

    t->signature_len = len;

    rc = runcoach_jwt_decode(&t->header, &segments[0]);
    if (rc != RUNCOACH_JWT_OK) {
        goto failed;
    }

    rc = runcoach_jwt_check_header(t);
    if (rc != RUNCOACH_JWT_OK) {
        goto failed;
    }

    rc = runcoach_jwt_decode(&t->payload, &segments[1]);
    if (rc != RUNCOACH_JWT_OK) {
        goto failed;
    }

    *jwt = t;

    return RUNCOACH_JWT_OK;

failed:

    runcoach_jwt_free(t);

    return rc;
}


/*
 * Three segments, none of them empty: an empty signature is how "alg": "none"
 * looks, and no algorithm of ours has one.
 */

static int
runcoach_jwt_split(const u_char *token, size_t n, runcoach_str_t segments[3])
{
    int            i;
    const u_char  *p, *dot, *last;

    p = token;
    last = token + n;

    for (i = 0; i < 3; i++) {
        dot = (p < last) ? memchr(p, '.', last - p) : NULL;

        if ((dot != NULL) != (i < 2)) {
            return 0;
        }

        if (dot == NULL) {
            dot = last;
        }

        segments[i].data = p;
        segments[i].len = dot - p;

        if (segments[i].len == 0) {
            return 0;
        }

        p = dot + 1;
    }

    return 1;
}


static runcoach_jwt_rc_e
runcoach_jwt_decode(json_t **json, const runcoach_str_t *segment)
{
    int      memory;
    u_char   buf[runcoach_base64_decoded_max(RUNCOACH_JWT_MAX_SIZE)];
    ssize_t  n;

    n = runcoach_base64url_decode(buf, segment->data, segment->len);
    if (n < 0) {
        return RUNCOACH_JWT_MALFORMED;
    }

    *json = runcoach_jose_json(buf, n, &memory);
    if (*json == NULL) {
        return memory ? RUNCOACH_JWT_NO_MEMORY : RUNCOACH_JWT_MALFORMED;
    }

    return RUNCOACH_JWT_OK;
}


static runcoach_jwt_rc_e
runcoach_jwt_check_header(runcoach_jwt_t *jwt)
{
    json_t  *alg, *kid, *typ;

    alg = json_object_get(jwt->header, "alg");
    kid = json_object_get(jwt->header, "kid");
    typ = json_object_get(jwt->header, "typ");

    if (!json_is_string(alg)
        || (kid != NULL && !json_is_string(kid))
        || json_object_get(jwt->header, "crit") != NULL
        || json_object_get(jwt->header, "b64") != NULL)
    {
        return RUNCOACH_JWT_MALFORMED;
    }

    if (typ != NULL
        && (!json_is_string(typ) || strcmp(json_string_value(typ), "JWT") != 0))
    {
        return RUNCOACH_JWT_TYPE;
    }

    jwt->alg = runcoach_alg(json_string_value(alg));

    return RUNCOACH_JWT_OK;
}


void
runcoach_jwt_free(runcoach_jwt_t *jwt)
{
    if (jwt == NULL) {
        return;
    }

    json_decref(jwt->header);
    json_decref(jwt->payload);
    free(jwt);
}


runcoach_jwt_rc_e
runcoach_jwt_check_claims(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy, time_t now)
{
    json_t             *iss;
    runcoach_jwt_rc_e   rc;

    if (jwt->alg == NULL || (jwt->alg->alg & policy->algs) == 0) {
        return RUNCOACH_JWT_ALGORITHM;
    }

    iss = json_object_get(jwt->payload, "iss");

    if (policy->issuer.len == 0 || !runcoach_jwt_is(iss, &policy->issuer)) {
        return RUNCOACH_JWT_ISSUER;
    }

    rc = runcoach_jwt_check_class(jwt);
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    rc = runcoach_jwt_check_subject(jwt, policy);
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    rc = runcoach_jwt_check_dates(jwt, policy, now);
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    rc = runcoach_jwt_check_audience(jwt, policy);
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    rc = runcoach_jwt_check_party(jwt, policy);
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    return runcoach_jwt_check_status(jwt, policy);
}


static runcoach_jwt_rc_e
runcoach_jwt_check_class(const runcoach_jwt_t *jwt)
{
    json_t  *cat, *sub;

    static const runcoach_str_t  classes[] = {
        runcoach_string(RUNCOACH_JWT_CAT_SESSION),
        runcoach_string(RUNCOACH_JWT_CAT_ANY)
    };

    cat = json_object_get(jwt->header, "cat");

    if (cat != NULL && !runcoach_jwt_in(cat, classes, 2)) {
        return RUNCOACH_JWT_TYPE;
    }

    sub = json_object_get(jwt->payload, "sub");

    if (json_is_string(sub)
        && strncmp(json_string_value(sub), "mch_", 4) == 0)
    {
        return RUNCOACH_JWT_TYPE;
    }

    return RUNCOACH_JWT_OK;
}


/*
 * A space at either end would be gone when the backend reads the header, and
 * with it the difference between two people.
 */

static runcoach_jwt_rc_e
runcoach_jwt_check_subject(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy)
{
    size_t       n;
    json_t      *value;
    const char  *sub;

    value = json_object_get(jwt->payload, "sub");
    sub = json_string_value(value);
    n = json_string_length(value);

    if (n == 0
        || n > RUNCOACH_JWT_MAX_SUBJECT
        || !runcoach_jwt_presentable((const u_char *) sub, n)
        || sub[0] == ' '
        || sub[n - 1] == ' '
        || memchr(sub, '/', n) != NULL
        || strcmp(sub, ".") == 0
        || strcmp(sub, "..") == 0)
    {
        return RUNCOACH_JWT_SUBJECT;
    }

    if (!policy->numeric_subject && strspn(sub, "0123456789") == n) {
        return RUNCOACH_JWT_SUBJECT;
    }

    return RUNCOACH_JWT_OK;
}


/*
 * In doubles, which hold every accepted date exactly, no sum of a date and a
 * leeway overflows.  now has lost its fraction, which a real date may have: so
 * what begins within this second has begun.
 */

static runcoach_jwt_rc_e
runcoach_jwt_check_dates(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy, time_t now)
{
    double               exp, nbf, iat, leeway, next;
    runcoach_jwt_date_e  has_nbf, has_iat;

    if (runcoach_jwt_date(jwt, "exp", &exp) != RUNCOACH_JWT_DATE_OK) {
        return RUNCOACH_JWT_CLAIM;
    }

    has_nbf = runcoach_jwt_date(jwt, "nbf", &nbf);
    has_iat = runcoach_jwt_date(jwt, "iat", &iat);

    if (has_nbf == RUNCOACH_JWT_DATE_BAD || has_iat == RUNCOACH_JWT_DATE_BAD) {
        return RUNCOACH_JWT_CLAIM;
    }

    leeway = (double) policy->leeway;
    next = (double) now + 1 + leeway;

    if (exp <= (double) now - leeway) {
        return RUNCOACH_JWT_EXPIRED;
    }

    if (has_nbf == RUNCOACH_JWT_DATE_OK && nbf >= next) {
        return RUNCOACH_JWT_NOT_YET;
    }

    if (has_iat == RUNCOACH_JWT_DATE_NONE) {
        iat = (double) now;

    } else if (iat >= next) {
        return RUNCOACH_JWT_ISSUED_LATER;
    }

    if (policy->max_lifetime != 0
        && exp - iat > (double) policy->max_lifetime)
    {
        return RUNCOACH_JWT_LIFETIME;
    }

    return RUNCOACH_JWT_OK;
}


static runcoach_jwt_rc_e
runcoach_jwt_check_audience(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy)
{
    int      found;
    size_t   i;
    json_t  *aud, *value;

    if (policy->naudiences == 0) {
        return RUNCOACH_JWT_OK;
    }

    aud = json_object_get(jwt->payload, "aud");
    found = 0;

    if (json_is_array(aud)) {

        json_array_foreach(aud, i, value) {

            if (!json_is_string(value)) {
                return RUNCOACH_JWT_CLAIM;
            }

            found |= runcoach_jwt_in(value, policy->audiences,
                                     policy->naudiences);
        }

    } else if (json_is_string(aud)) {
        found = runcoach_jwt_in(aud, policy->audiences, policy->naudiences);

    } else if (aud != NULL) {
        return RUNCOACH_JWT_CLAIM;
    }

    return found ? RUNCOACH_JWT_OK : RUNCOACH_JWT_AUDIENCE;
}


static runcoach_jwt_rc_e
runcoach_jwt_check_party(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy)
{
    json_t  *azp;

    if (policy->nparties == 0) {
        return RUNCOACH_JWT_OK;
    }

    azp = json_object_get(jwt->payload, "azp");

    if (azp == NULL) {
        return policy->azp_required ? RUNCOACH_JWT_AUTHORIZED_PARTY
                                    : RUNCOACH_JWT_OK;
    }

    if (!json_is_string(azp)) {
        return RUNCOACH_JWT_CLAIM;
    }

    if (!runcoach_jwt_in(azp, policy->parties, policy->nparties)) {
        return RUNCOACH_JWT_AUTHORIZED_PARTY;
    }

    return RUNCOACH_JWT_OK;
}


static runcoach_jwt_rc_e
runcoach_jwt_check_status(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy)
{
    json_t  *sts;

    static const runcoach_str_t  statuses[] = {
        runcoach_string("active"),
        runcoach_string("pending")
    };

    sts = json_object_get(jwt->payload, "sts");

    if (sts == NULL) {
        return RUNCOACH_JWT_OK;
    }

    if (!json_is_string(sts)) {
        return RUNCOACH_JWT_CLAIM;
    }

    if (!runcoach_jwt_in(sts, statuses, policy->allow_pending ? 2 : 1)) {
        return RUNCOACH_JWT_PENDING;
    }

    return RUNCOACH_JWT_OK;
}


static runcoach_jwt_date_e
runcoach_jwt_date(const runcoach_jwt_t *jwt, const char *name, double *date)
{
    json_t  *value;

    *date = 0;

    value = json_object_get(jwt->payload, name);

    if (value == NULL) {
        return RUNCOACH_JWT_DATE_NONE;
    }

    /* json_number_value() of what is not a number is zero */

    *date = json_number_value(value);

    if (*date > 0 && *date < RUNCOACH_JWT_MAX_DATE) {
        return RUNCOACH_JWT_DATE_OK;
    }

    return RUNCOACH_JWT_DATE_BAD;
}


static int
runcoach_jwt_is(const json_t *value, const runcoach_str_t *str)
{
    return json_is_string(value)
           && json_string_length(value) == str->len
           && memcmp(json_string_value(value), str->data, str->len) == 0;
}


static int
runcoach_jwt_in(const json_t *value, const runcoach_str_t *list, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (runcoach_jwt_is(value, &list[i])) {
            return 1;
        }
    }

    return 0;
}


static int
runcoach_jwt_presentable(const u_char *data, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (data[i] < 0x20 || data[i] == 0x7f) {
            return 0;
        }
    }

    return 1;
}


runcoach_jwt_rc_e
runcoach_jwt_check_signature(const runcoach_jwt_t *jwt,
    const runcoach_jwks_t *keys, unsigned algs)
{
    int                    tries;
    size_t                 i;
    runcoach_jwt_rc_e      rc;
    const runcoach_jwk_t  *key;

    if (jwt->alg == NULL || (jwt->alg->alg & algs) == 0) {
        return RUNCOACH_JWT_ALGORITHM;
    }

    rc = RUNCOACH_JWT_UNKNOWN_KEY;
    tries = 0;

    for (i = 0; i < runcoach_jwks_count(keys); i++) {
        key = runcoach_jwks_key(keys, i);

        if (!runcoach_jwt_key_matches(jwt, key)) {
            continue;
        }

        rc = runcoach_jwt_verify(jwt, key->pkey);

        if (rc == RUNCOACH_JWT_OK || ++tries == RUNCOACH_JWT_MAX_TRIES) {
            break;
        }
    }

    return rc;
}


static int
runcoach_jwt_key_matches(const runcoach_jwt_t *jwt, const runcoach_jwk_t *key)
{
    if ((key->algs & jwt->alg->alg) == 0) {
        return 0;
    }

    return key->kid.len == 0
           || runcoach_jwt_is(json_object_get(jwt->header, "kid"), &key->kid);
}


static runcoach_jwt_rc_e
runcoach_jwt_verify(const runcoach_jwt_t *jwt, EVP_PKEY *pkey)
{
    int          rc;
    EVP_MD_CTX  *ctx;

    ctx = EVP_MD_CTX_new();
    if (ctx == NULL) {
        return RUNCOACH_JWT_NO_MEMORY;
    }

    /* what is left in OpenSSL's queue is blamed on the next connection */

    ERR_set_mark();

    rc = EVP_DigestVerifyInit(ctx, NULL, jwt->alg->md(), NULL, pkey);

    if (rc == 1) {
        rc = EVP_DigestVerify(ctx, jwt->data + jwt->signed_len,
                              jwt->signature_len, jwt->data, jwt->signed_len);
    }

    ERR_pop_to_mark();

    EVP_MD_CTX_free(ctx);

    return (rc == 1) ? RUNCOACH_JWT_OK : RUNCOACH_JWT_SIGNATURE;
}


int
runcoach_jwt_claim(const runcoach_jwt_t *jwt, const char *name,
    runcoach_str_t *value)
{
    return runcoach_jwt_string(jwt->payload, name, value);
}


int
runcoach_jwt_header(const runcoach_jwt_t *jwt, const char *name,
    runcoach_str_t *value)
{
    return runcoach_jwt_string(jwt->header, name, value);
}


static int
runcoach_jwt_string(const json_t *object, const char *name,
    runcoach_str_t *value)
{
    size_t         n;
    json_t        *member;
    const u_char  *data;

    member = json_object_get(object, name);
    data = (const u_char *) json_string_value(member);
    n = json_string_length(member);

    if (data == NULL || !runcoach_jwt_presentable(data, n)) {
        return 0;
    }

    value->len = n;
    value->data = data;

    return 1;
}


time_t
runcoach_jwt_expires(const runcoach_jwt_t *jwt)
{
    double  exp;

    if (runcoach_jwt_date(jwt, "exp", &exp) != RUNCOACH_JWT_DATE_OK) {
        return 0;
    }

    return (time_t) exp;
}


const char *
runcoach_jwt_reason(runcoach_jwt_rc_e rc)
{
    static const char *const  reasons[] = {
        "ok",
        "token-invalid",
        "token-invalid-algorithm",
        "token-type-mismatch",
        "jwk-kid-mismatch",
        "token-invalid-signature",
        "token-invalid-issuer",
        "token-invalid-subject",
        "token-expired",
        "token-not-active-yet",
        "token-iat-in-the-future",
        "token-invalid-lifetime",
        "token-invalid-authorized-parties",
        "token-invalid-audience",
        "session-pending",
        "token-invalid-claim",
        "unexpected-error"
    };

    if ((size_t) rc >= sizeof(reasons) / sizeof(reasons[0])) {
        return "unexpected-error";
    }

    return reasons[rc];
}
