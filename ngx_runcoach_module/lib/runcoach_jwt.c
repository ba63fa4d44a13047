
/*
 * What a token says of itself chooses nothing here.  The issuer's policy names
 * the algorithms, the key names those it may verify, and "alg" has only to be
 * in both; keys come from the caller's set and never from the header.
 */


#include <string.h>

#include "runcoach_clerk.h"
#include "runcoach_jwt.h"


#define RUNCOACH_JWT_MAX_SUBJECT   255
#define RUNCOACH_JWT_MAX_DATE      9007199254740992.0     /* 2^53 */


/* Clerk stamps the class of a token into its header; one key signs them all */

#define RUNCOACH_JWT_CAT_SESSION   "cl_B7d4PD111AAA"
#define RUNCOACH_JWT_CAT_TEMPLATE  "cl_B7d4PD222AAA"
#define RUNCOACH_JWT_CAT_MACHINE   "cl_B7d4PD333AAA"
#define RUNCOACH_JWT_CAT_ANY       "cl_I7d4PD111III"


typedef enum {
    RUNCOACH_JWT_DATE_NONE = 0,
    RUNCOACH_JWT_DATE_OK,
    RUNCOACH_JWT_DATE_BAD
} runcoach_jwt_date_e;


static int runcoach_jwt_split(const u_char *token, size_t n,
    runcoach_str_t segments[3]);
static int runcoach_jwt_decode(runcoach_jwt_t *jwt,
    const runcoach_str_t segments[3]);
static int runcoach_jwt_object(runcoach_json_t *json, const u_char *text,
    size_t n);
static int runcoach_jwt_read_header(runcoach_jwt_t *jwt);
static unsigned runcoach_jwt_class(const runcoach_jwt_t *jwt,
    const runcoach_json_node_t *typ, const runcoach_json_node_t *cat);
static int runcoach_jwt_oauth(const runcoach_str_t *typ);

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
static runcoach_jwt_rc_e runcoach_jwt_check_required(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy);
static int runcoach_jwt_required(const runcoach_jwt_t *jwt,
    const runcoach_jwt_required_t *required);

static runcoach_jwt_date_e runcoach_jwt_date(const runcoach_jwt_t *jwt,
    const char *name, double *date);
static const runcoach_json_node_t *runcoach_jwt_member(
    const runcoach_jwt_t *jwt, const char *name);
static const runcoach_json_node_t *runcoach_jwt_find(const runcoach_jwt_t *jwt,
    const runcoach_jwt_path_t *path);
static int runcoach_jwt_equal(const runcoach_str_t *a,
    const runcoach_str_t *b);
static int runcoach_jwt_named(const runcoach_json_node_t *node,
    const char *name, size_t n);
static int runcoach_jwt_text_is(const runcoach_json_node_t *node,
    const runcoach_str_t *text);
static int runcoach_jwt_in(const runcoach_json_node_t *node,
    const runcoach_str_t *list, size_t n);
static int runcoach_jwt_presentable(const u_char *data, size_t n);

static ssize_t runcoach_jwt_node_text(const runcoach_json_node_t *node,
    u_char *dst, size_t size);
static ssize_t runcoach_jwt_expand(const runcoach_jwt_t *jwt,
    const runcoach_json_node_t *org, u_char *dst, size_t size);
static ssize_t runcoach_jwt_join(const runcoach_jwt_t *jwt,
    const runcoach_json_node_t *list, u_char *dst, size_t size);


/* a member of a name that is a literal */

#define runcoach_jwt_is_named(node, s)                                        \
    runcoach_jwt_named(node, s, sizeof(s) - 1)


runcoach_jwt_rc_e
runcoach_jwt_parse(runcoach_jwt_t *jwt, const u_char *token, size_t n)
{
    runcoach_str_t  segments[3];

    if (n > RUNCOACH_JWT_MAX_SIZE
        || !runcoach_jwt_split(token, n, segments)
        || !runcoach_jwt_decode(jwt, segments)
        || !runcoach_jwt_read_header(jwt))
    {
        return RUNCOACH_JWT_MALFORMED;
    }

    return RUNCOACH_JWT_OK;
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


/*
 * All three share the buffers: what is left of a token of the largest size
 * after one segment is enough for the others.
 */

static int
runcoach_jwt_decode(runcoach_jwt_t *jwt, const runcoach_str_t segments[3])
{
    int       i;
    u_char   *p;
    ssize_t   n[3];

    p = jwt->decoded;

    for (i = 0; i < 3; i++) {
        n[i] = runcoach_base64url_decode(p, segments[i].data, segments[i].len);

        if (n[i] < 0) {
            return 0;
        }

        p += n[i];
    }

    jwt->text.data = segments[0].data;
    jwt->text.len = segments[0].len + 1 + segments[1].len;

    jwt->signature.data = p - n[2];
    jwt->signature.len = n[2];

    jwt->header.nodes = jwt->nodes;
    jwt->header.max = sizeof(jwt->nodes) / sizeof(jwt->nodes[0]);
    jwt->header.buf = jwt->strings;
    jwt->header.size = n[0];

    if (!runcoach_jwt_object(&jwt->header, jwt->decoded, n[0])) {
        return 0;
    }

    jwt->payload.nodes = jwt->nodes + jwt->header.n;
    jwt->payload.max = jwt->header.max - jwt->header.n;
    jwt->payload.buf = jwt->strings + n[0];
    jwt->payload.size = n[1];

    return runcoach_jwt_object(&jwt->payload, jwt->decoded + n[0], n[1]);
}


static int
runcoach_jwt_object(runcoach_json_t *json, const u_char *text, size_t n)
{
    return runcoach_json_parse(json, text, n, RUNCOACH_JWT_MAX_DEPTH)
           == RUNCOACH_JSON_OK;
}


static int
runcoach_jwt_read_header(runcoach_jwt_t *jwt)
{
    const runcoach_json_node_t  *node, *alg, *typ, *cat;

    alg = NULL;
    typ = NULL;
    cat = NULL;

    jwt->kid.len = 0;
    jwt->kid.data = NULL;

    for (node = runcoach_json_first(&jwt->header, jwt->header.nodes);
         node != NULL;
         node = runcoach_json_next(&jwt->header, jwt->header.nodes, node))
    {
        if (runcoach_jwt_is_named(node, "alg")) {
            alg = node;

        } else if (runcoach_jwt_is_named(node, "kid")) {
            jwt->kid = node->value;

        } else if (runcoach_jwt_is_named(node, "typ")) {
            typ = node;

        } else if (runcoach_jwt_is_named(node, "cat")) {
            cat = node;

        } else if (runcoach_jwt_is_named(node, "crit")
                   || runcoach_jwt_is_named(node, "b64"))
        {
            return 0;

        } else {
            continue;
        }

        if (node->type != RUNCOACH_JSON_STRING) {
            return 0;
        }
    }

    if (alg == NULL) {
        return 0;
    }

    jwt->alg = runcoach_alg(alg->value.data, alg->value.len);
    jwt->class = runcoach_jwt_class(jwt, typ, cat);

    return 1;
}


static unsigned
runcoach_jwt_class(const runcoach_jwt_t *jwt, const runcoach_json_node_t *typ,
    const runcoach_json_node_t *cat)
{
    unsigned                     class;
    const runcoach_json_node_t  *sub;

    static const runcoach_str_t  jwt_typ = runcoach_string("JWT");
    static const runcoach_str_t  any = runcoach_string(RUNCOACH_JWT_CAT_ANY);
    static const runcoach_str_t  session =
                                   runcoach_string(RUNCOACH_JWT_CAT_SESSION);
    static const runcoach_str_t  template =
                                   runcoach_string(RUNCOACH_JWT_CAT_TEMPLATE);
    static const runcoach_str_t  machine =
                                   runcoach_string(RUNCOACH_JWT_CAT_MACHINE);

    if (cat == NULL
        || runcoach_jwt_equal(&cat->value, &session)
        || runcoach_jwt_equal(&cat->value, &any))
    {
        class = RUNCOACH_JWT_SESSION;

    } else if (runcoach_jwt_equal(&cat->value, &template)) {
        class = RUNCOACH_JWT_TEMPLATE;

    } else if (runcoach_jwt_equal(&cat->value, &machine)) {
        class = RUNCOACH_JWT_MACHINE;

    } else {
        return 0;
    }

    if (typ != NULL && !runcoach_jwt_equal(&typ->value, &jwt_typ)) {

        if (!runcoach_jwt_oauth(&typ->value)) {
            return 0;
        }

        class = RUNCOACH_JWT_OAUTH;
    }

    sub = runcoach_jwt_member(jwt, "sub");

    if (sub != NULL
        && sub->type == RUNCOACH_JSON_STRING
        && sub->value.len >= 4
        && memcmp(sub->value.data, "mch_", 4) == 0)
    {
        class = RUNCOACH_JWT_MACHINE;
    }

    return class;
}


/* media types have no case, RFC 7515 section 4.1.9 */

static int
runcoach_jwt_oauth(const runcoach_str_t *typ)
{
    size_t         n;
    const u_char  *p;
    const char    *q;

    p = typ->data;
    n = typ->len;

    q = (n == sizeof("at+jwt") - 1) ? "at+jwt" : "application/at+jwt";

    if (n != strlen(q)) {
        return 0;
    }

    for ( /* void */ ; n != 0; n--, p++, q++) {

        if (*p != (u_char) *q
            && (*p < 'A' || *p > 'Z' || (*p | 0x20) != (u_char) *q))
        {
            return 0;
        }
    }

    return 1;
}


int
runcoach_jwt_opaque(const u_char *token, size_t n)
{
    size_t  i;

    static const runcoach_str_t  prefixes[] = {
        runcoach_string("mt_"),
        runcoach_string("m2m_"),
        runcoach_string("oat_"),
        runcoach_string("ak_")
    };

    for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {

        if (n >= prefixes[i].len
            && memcmp(token, prefixes[i].data, prefixes[i].len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


runcoach_jwt_rc_e
runcoach_jwt_check_claims(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy, time_t now)
{
    runcoach_jwt_rc_e  rc;

    if ((jwt->alg & policy->algs) == 0) {
        return RUNCOACH_JWT_ALGORITHM;
    }

    if (policy->issuer.len == 0
        || !runcoach_jwt_in(runcoach_jwt_member(jwt, "iss"), &policy->issuer,
                            1))
    {
        return RUNCOACH_JWT_ISSUER;
    }

    if ((jwt->class & policy->classes) == 0) {
        return RUNCOACH_JWT_TYPE;
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

    rc = runcoach_jwt_check_status(jwt, policy);
    if (rc != RUNCOACH_JWT_OK) {
        return rc;
    }

    return runcoach_jwt_check_required(jwt, policy);
}


/*
 * A space at either end would be gone when the backend reads the header, and
 * with it the difference between two people.
 */

static runcoach_jwt_rc_e
runcoach_jwt_check_subject(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy)
{
    size_t           i;
    runcoach_str_t   sub;

    if (!runcoach_jwt_claim(jwt, "sub", &sub)
        || sub.len == 0
        || sub.len > RUNCOACH_JWT_MAX_SUBJECT
        || sub.data[0] == ' '
        || sub.data[sub.len - 1] == ' '
        || memchr(sub.data, '/', sub.len) != NULL
        || (sub.len <= 2 && memcmp(sub.data, "..", sub.len) == 0))
    {
        return RUNCOACH_JWT_SUBJECT;
    }

    if (policy->numeric_subject) {
        return RUNCOACH_JWT_OK;
    }

    for (i = 0; i < sub.len; i++) {
        if (sub.data[i] < '0' || sub.data[i] > '9') {
            return RUNCOACH_JWT_OK;
        }
    }

    return RUNCOACH_JWT_SUBJECT;
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
    int                          found;
    const runcoach_json_node_t  *aud, *node;

    if (policy->naudiences == 0) {
        return RUNCOACH_JWT_OK;
    }

    aud = runcoach_jwt_member(jwt, "aud");

    if (aud == NULL) {
        return RUNCOACH_JWT_AUDIENCE;
    }

    found = 0;

    if (aud->type == RUNCOACH_JSON_STRING) {
        found = runcoach_jwt_in(aud, policy->audiences, policy->naudiences);

    } else if (aud->type == RUNCOACH_JSON_ARRAY) {

        for (node = runcoach_json_first(&jwt->payload, aud);
             node != NULL;
             node = runcoach_json_next(&jwt->payload, aud, node))
        {
            if (node->type != RUNCOACH_JSON_STRING) {
                return RUNCOACH_JWT_CLAIM;
            }

            found |= runcoach_jwt_in(node, policy->audiences,
                                     policy->naudiences);
        }

    } else {
        return RUNCOACH_JWT_CLAIM;
    }

    return found ? RUNCOACH_JWT_OK : RUNCOACH_JWT_AUDIENCE;
}


static runcoach_jwt_rc_e
runcoach_jwt_check_party(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy)
{
    const runcoach_json_node_t  *azp;

    if (policy->nparties == 0) {
        return RUNCOACH_JWT_OK;
    }

    azp = runcoach_jwt_member(jwt, "azp");

    if (azp == NULL) {
        return policy->azp_required ? RUNCOACH_JWT_AUTHORIZED_PARTY
                                    : RUNCOACH_JWT_OK;
    }

    if (azp->type != RUNCOACH_JSON_STRING) {
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
    const runcoach_json_node_t  *sts;

    static const runcoach_str_t  statuses[] = {
        runcoach_string("active"),
        runcoach_string("pending")
    };

    sts = runcoach_jwt_member(jwt, "sts");

    if (sts == NULL) {
        return RUNCOACH_JWT_OK;
    }

    if (sts->type != RUNCOACH_JSON_STRING) {
        return RUNCOACH_JWT_CLAIM;
    }

    if (!runcoach_jwt_in(sts, statuses, policy->allow_pending ? 2 : 1)) {
        return RUNCOACH_JWT_PENDING;
    }

    return RUNCOACH_JWT_OK;
}


static runcoach_jwt_rc_e
runcoach_jwt_check_required(const runcoach_jwt_t *jwt,
    const runcoach_jwt_policy_t *policy)
{
    size_t  i;

    for (i = 0; i < policy->nrequired; i++) {
        if (!runcoach_jwt_required(jwt, &policy->required[i])) {
            return RUNCOACH_JWT_REQUIRED;
        }
    }

    return RUNCOACH_JWT_OK;
}


static int
runcoach_jwt_required(const runcoach_jwt_t *jwt,
    const runcoach_jwt_required_t *required)
{
    const runcoach_json_node_t  *claim, *node;

    claim = runcoach_jwt_find(jwt, &required->path);

    if (claim == NULL) {
        return 0;
    }

    if (required->value.data == NULL) {
        return claim->type != RUNCOACH_JSON_NULL
               && claim->type != RUNCOACH_JSON_FALSE
               && (claim->type != RUNCOACH_JSON_STRING
                   || claim->value.len != 0);
    }

    if (claim->type != RUNCOACH_JSON_ARRAY) {
        return runcoach_jwt_text_is(claim, &required->value);
    }

    for (node = runcoach_json_first(&jwt->payload, claim);
         node != NULL;
         node = runcoach_json_next(&jwt->payload, claim, node))
    {
        if (runcoach_jwt_text_is(node, &required->value)) {
            return 1;
        }
    }

    return 0;
}


/* exp has been rounded up and nbf down, which changes neither comparison */

runcoach_jwt_rc_e
runcoach_jwt_check_time(time_t exp, time_t nbf, time_t leeway, time_t now)
{
    if ((double) exp <= (double) now - (double) leeway) {
        return RUNCOACH_JWT_EXPIRED;
    }

    if (nbf != 0 && (double) nbf >= (double) now + 1 + (double) leeway) {
        return RUNCOACH_JWT_NOT_YET;
    }

    return RUNCOACH_JWT_OK;
}


void
runcoach_jwt_dates(const runcoach_jwt_t *jwt, time_t *exp, time_t *nbf,
    time_t *iat)
{
    double  date;

    *exp = 0;
    *nbf = 0;
    *iat = 0;

    if (runcoach_jwt_date(jwt, "exp", &date) == RUNCOACH_JWT_DATE_OK) {
        *exp = (time_t) date;
        *exp += ((double) *exp < date);
    }

    if (runcoach_jwt_date(jwt, "nbf", &date) == RUNCOACH_JWT_DATE_OK) {
        *nbf = (time_t) date;
    }

    if (runcoach_jwt_date(jwt, "iat", &date) == RUNCOACH_JWT_DATE_OK) {
        *iat = (time_t) date;
    }
}


static runcoach_jwt_date_e
runcoach_jwt_date(const runcoach_jwt_t *jwt, const char *name, double *date)
{
    const runcoach_json_node_t  *node;

    *date = 0;

    node = runcoach_jwt_member(jwt, name);

    if (node == NULL) {
        return RUNCOACH_JWT_DATE_NONE;
    }

    /* of what is not a number it is zero */

    *date = runcoach_json_number(node);

    if (*date > 0 && *date < RUNCOACH_JWT_MAX_DATE) {
        return RUNCOACH_JWT_DATE_OK;
    }

    return RUNCOACH_JWT_DATE_BAD;
}


static const runcoach_json_node_t *
runcoach_jwt_member(const runcoach_jwt_t *jwt, const char *name)
{
    return runcoach_json_member(&jwt->payload, jwt->payload.nodes,
                                (const u_char *) name, strlen(name));
}


static const runcoach_json_node_t *
runcoach_jwt_find(const runcoach_jwt_t *jwt, const runcoach_jwt_path_t *path)
{
    size_t                       i;
    const runcoach_json_node_t  *node;

    if (path->n == 0) {
        return NULL;
    }

    node = jwt->payload.nodes;

    for (i = 0; i < path->n && node != NULL; i++) {
        node = runcoach_json_member(&jwt->payload, node, path->names[i].data,
                                    path->names[i].len);
    }

    return node;
}


static int
runcoach_jwt_equal(const runcoach_str_t *a, const runcoach_str_t *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}


static int
runcoach_jwt_named(const runcoach_json_node_t *node, const char *name,
    size_t n)
{
    return node->name.len == n && memcmp(node->name.data, name, n) == 0;
}


/* a string, number or boolean that is written so */

static int
runcoach_jwt_text_is(const runcoach_json_node_t *node,
    const runcoach_str_t *text)
{
    switch (node->type) {

    case RUNCOACH_JSON_STRING:
    case RUNCOACH_JSON_INTEGER:
    case RUNCOACH_JSON_REAL:
    case RUNCOACH_JSON_TRUE:
    case RUNCOACH_JSON_FALSE:
        return runcoach_jwt_equal(&node->value, text);

    default:
        return 0;
    }
}


/* a string that is one of a list; node may be NULL */

static int
runcoach_jwt_in(const runcoach_json_node_t *node, const runcoach_str_t *list,
    size_t n)
{
    size_t  i;

    if (node == NULL || node->type != RUNCOACH_JSON_STRING) {
        return 0;
    }

    for (i = 0; i < n; i++) {
        if (runcoach_jwt_equal(&node->value, &list[i])) {
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
    const runcoach_str_t  *kid;

    if ((jwt->alg & algs) == 0) {
        return RUNCOACH_JWT_ALGORITHM;
    }

    kid = (jwt->kid.data != NULL) ? &jwt->kid : NULL;

    switch (runcoach_jwks_verify(keys, kid, jwt->alg, &jwt->text,
                                 &jwt->signature))
    {
    case RUNCOACH_JWKS_VERIFIED:
        return RUNCOACH_JWT_OK;

    case RUNCOACH_JWKS_UNKNOWN:
        return RUNCOACH_JWT_UNKNOWN_KEY;

    case RUNCOACH_JWKS_FORGED:
        return RUNCOACH_JWT_SIGNATURE;

    default: /* RUNCOACH_JWKS_FAILED */
        return RUNCOACH_JWT_FAILED;
    }
}


int
runcoach_jwt_claim(const runcoach_jwt_t *jwt, const char *name,
    runcoach_str_t *value)
{
    const runcoach_json_node_t  *node;

    node = runcoach_jwt_member(jwt, name);

    if (node == NULL
        || node->type != RUNCOACH_JSON_STRING
        || !runcoach_jwt_presentable(node->value.data, node->value.len))
    {
        return 0;
    }

    *value = node->value;

    return 1;
}


ssize_t
runcoach_jwt_claim_text(const runcoach_jwt_t *jwt,
    const runcoach_jwt_path_t *path, u_char *dst, size_t size)
{
    return runcoach_jwt_node_text(runcoach_jwt_find(jwt, path), dst, size);
}


/*
 * An array or object needs room for its white space until that is gone.
 */

static ssize_t
runcoach_jwt_node_text(const runcoach_json_node_t *node, u_char *dst,
    size_t size)
{
    u_char           buf[RUNCOACH_JWT_MAX_TEXT];
    runcoach_str_t   text;

    if (node == NULL || node->type == RUNCOACH_JSON_NULL) {
        return -1;
    }

    text = node->value;

    if (node->type == RUNCOACH_JSON_ARRAY
        || node->type == RUNCOACH_JSON_OBJECT)
    {
        if (text.len > sizeof(buf)) {
            return -1;
        }

        text.len = runcoach_json_compact(buf, node);
        text.data = buf;
    }

    if (text.len > size || !runcoach_jwt_presentable(text.data, text.len)) {
        return -1;
    }

    memcpy(dst, text.data, text.len);

    return text.len;
}


/*
 * Clerk's own asks "v" which version it is, too: the names of one version may
 * be anybody's claims in the other.
 */

ssize_t
runcoach_jwt_org(const runcoach_jwt_t *jwt, runcoach_jwt_org_e what,
    u_char *dst, size_t size)
{
    int                          version2;
    size_t                       skip;
    ssize_t                      n;
    const char                  *name;
    const runcoach_json_node_t  *v, *org, *node;

    static const char *const  names[2][4] = {
        { "org_id", "org_slug", "org_role", "org_permissions" },
        { "id", "slg", "rol", "per" }
    };

    v = runcoach_jwt_member(jwt, "v");
    version2 = (v != NULL && runcoach_json_number(v) == 2);

    org = version2 ? runcoach_jwt_member(jwt, "o") : jwt->payload.nodes;
    name = names[version2][what];

    node = runcoach_json_member(&jwt->payload, org, (const u_char *) name,
                                strlen(name));

    if (what == RUNCOACH_JWT_ORG_PERMISSIONS) {
        return version2 ? runcoach_jwt_expand(jwt, org, dst, size)
                        : runcoach_jwt_join(jwt, node, dst, size);
    }

    if (node == NULL
        || node->type != RUNCOACH_JSON_STRING
        || node->value.len == 0)
    {
        return -1;
    }

    skip = (version2 && what == RUNCOACH_JWT_ORG_ROLE) ? 4 : 0;

    if (size < skip) {
        return -1;
    }

    memcpy(dst, "org:", skip);

    n = runcoach_jwt_node_text(node, dst + skip, size - skip);

    return (n < 0) ? -1 : n + (ssize_t) skip;
}


static ssize_t
runcoach_jwt_expand(const runcoach_jwt_t *jwt, const runcoach_json_node_t *org,
    u_char *dst, size_t size)
{
    size_t                       i;
    runcoach_str_t               lists[3];
    const runcoach_json_node_t  *nodes[3];

    if (org == NULL || org->type != RUNCOACH_JSON_OBJECT) {
        return -1;
    }

    nodes[0] = runcoach_jwt_member(jwt, "fea");
    nodes[1] = runcoach_json_member(&jwt->payload, org,
                                    (const u_char *) "per", 3);
    nodes[2] = runcoach_json_member(&jwt->payload, org,
                                    (const u_char *) "fpm", 3);

    for (i = 0; i < 3; i++) {

        if (nodes[i] != NULL && nodes[i]->type == RUNCOACH_JSON_STRING) {
            lists[i] = nodes[i]->value;

        } else {
            lists[i].len = 0;
            lists[i].data = (const u_char *) "";
        }
    }

    return runcoach_clerk_permissions(dst, size, &lists[0], &lists[1],
                                      &lists[2]);
}


/* a comma in one of them would make two of it */

static ssize_t
runcoach_jwt_join(const runcoach_jwt_t *jwt, const runcoach_json_node_t *list,
    u_char *dst, size_t size)
{
    u_char                      *p;
    size_t                       len;
    const runcoach_json_node_t  *node;

    if (list == NULL || list->type != RUNCOACH_JSON_ARRAY) {
        return -1;
    }

    p = dst;

    for (node = runcoach_json_first(&jwt->payload, list);
         node != NULL;
         node = runcoach_json_next(&jwt->payload, list, node))
    {
        len = node->value.len;

        if (node->type != RUNCOACH_JSON_STRING
            || len == 0
            || memchr(node->value.data, ',', len) != NULL
            || !runcoach_jwt_presentable(node->value.data, len)
            || size - (p - dst) < len + (p != dst))
        {
            return -1;
        }

        if (p != dst) {
            *p++ = ',';
        }

        memcpy(p, node->value.data, len);
        p += len;
    }

    return p - dst;
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
        "token-required-claim",
        "token-verification-failed"
    };

    if ((size_t) rc >= sizeof(reasons) / sizeof(reasons[0])) {
        return "unexpected-error";
    }

    return reasons[rc];
}
