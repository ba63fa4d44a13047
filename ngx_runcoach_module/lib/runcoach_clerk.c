
#include <stdint.h>
#include <string.h>

#include <openssl/evp.h>

#include "runcoach_clerk.h"


#define RUNCOACH_CLERK_PREFIX   8     /* bytes of pk_test_ and pk_live_ */
#define RUNCOACH_CLERK_MAX_KEY                                                \
    runcoach_base64_encoded_max(RUNCOACH_CLERK_MAX_HOST + 1)

#define RUNCOACH_CLERK_UAT      15    /* digits of it a double can hold */


/* a number modulo 2^(32 * n), the least significant limb first */

typedef struct {
    size_t    n;
    uint32_t  limbs[RUNCOACH_CLERK_MAX_PERMISSIONS / 32];
} runcoach_clerk_bits_t;

typedef struct {
    u_char  *data;
    size_t   size;
    size_t   len;
} runcoach_clerk_out_t;


static int runcoach_clerk_valid_host(const u_char *p, size_t n);
static int runcoach_clerk_valid_port(const u_char *p, size_t n);

static void runcoach_clerk_strip(runcoach_str_t *s);

static int runcoach_clerk_same_instance(const runcoach_str_t *a,
    const runcoach_str_t *b);
static const u_char *runcoach_clerk_skip_scheme(const u_char *p,
    const u_char *last);
static double runcoach_clerk_iat(const runcoach_clerk_session_t *session);

static int runcoach_clerk_scoped(const runcoach_str_t *features);
static size_t runcoach_clerk_count(const runcoach_str_t *list);
static int runcoach_clerk_item(const u_char **p, const u_char *last,
    runcoach_str_t *item);
static void runcoach_clerk_trim(runcoach_str_t *s);
static size_t runcoach_clerk_space(const u_char *p, size_t n);
static int runcoach_clerk_feature(runcoach_str_t *feature);
static int runcoach_clerk_bits(runcoach_clerk_bits_t *bits,
    const runcoach_str_t *number);
static void runcoach_clerk_multiply(runcoach_clerk_bits_t *bits,
    uint32_t factor, uint32_t carry);
static int runcoach_clerk_grant(runcoach_clerk_out_t *out,
    const runcoach_clerk_bits_t *bits, const runcoach_str_t *feature,
    const runcoach_str_t *permissions);
static int runcoach_clerk_put(runcoach_clerk_out_t *out, const u_char *data,
    size_t len);


size_t
runcoach_clerk_host(u_char *host, const u_char *key, size_t n)
{
    u_char   decoded[runcoach_base64_decoded_max(RUNCOACH_CLERK_MAX_KEY)];
    ssize_t  len;

    if (n < RUNCOACH_CLERK_PREFIX
        || n > RUNCOACH_CLERK_PREFIX + RUNCOACH_CLERK_MAX_KEY
        || (memcmp(key, "pk_test_", RUNCOACH_CLERK_PREFIX) != 0
            && memcmp(key, "pk_live_", RUNCOACH_CLERK_PREFIX) != 0))
    {
        return 0;
    }

    len = runcoach_base64_decode_any(decoded, key + RUNCOACH_CLERK_PREFIX,
                                     n - RUNCOACH_CLERK_PREFIX);

    if (len < 1 || decoded[--len] != '$' || len > RUNCOACH_CLERK_MAX_HOST) {
        return 0;
    }

    if (!runcoach_clerk_valid_host(decoded, len)) {
        return 0;
    }

    memcpy(host, decoded, len);

    return len;
}


/* it becomes a part of URLs */

static int
runcoach_clerk_valid_host(const u_char *p, size_t n)
{
    u_char  c;
    size_t  i, dots;

    dots = 0;

    for (i = 0; i < n && p[i] != ':'; i++) {
        c = p[i];

        if (c == '.') {

            if (i == 0 || p[i - 1] == '.') {
                return 0;
            }

            dots++;
            continue;
        }

        if (!((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
            && !(c >= '0' && c <= '9')
            && c != '-')
        {
            return 0;
        }
    }

    if (dots == 0 || p[i - 1] == '.') {
        return 0;
    }

    return i == n || runcoach_clerk_valid_port(p + i + 1, n - i - 1);
}


static int
runcoach_clerk_valid_port(const u_char *p, size_t n)
{
    size_t    i;
    unsigned  port;

    if (n == 0 || n > 5) {
        return 0;
    }

    port = 0;

    for (i = 0; i < n; i++) {

        if (p[i] < '0' || p[i] > '9') {
            return 0;
        }

        port = port * 10 + (p[i] - '0');
    }

    return port >= 1 && port <= 65535;
}


int
runcoach_clerk_suffix(u_char suffix[RUNCOACH_CLERK_SUFFIX], const u_char *key,
    size_t n)
{
    u_char  digest[EVP_MAX_MD_SIZE];

    if (EVP_Digest(key, n, digest, NULL, EVP_sha1(), NULL) != 1) {
        return -1;
    }

    (void) runcoach_base64url_encode(suffix, digest,
                                     RUNCOACH_CLERK_SUFFIX / 4 * 3);

    return 0;
}


int
runcoach_clerk_cookie(const u_char **p, const u_char *last,
    runcoach_str_t *name, runcoach_str_t *value)
{
    const u_char  *start, *end, *equal;

    while (*p != last) {
        start = *p;

        end = memchr(start, ';', last - start);
        *p = (end != NULL) ? end + 1 : last;
        end = (end != NULL) ? end : last;

        equal = memchr(start, '=', end - start);
        if (equal == NULL) {
            continue;
        }

        name->data = start;
        name->len = equal - start;
        value->data = equal + 1;
        value->len = end - value->data;

        runcoach_clerk_strip(name);
        runcoach_clerk_strip(value);

        if (value->len >= 2
            && value->data[0] == '"' && value->data[value->len - 1] == '"')
        {
            value->data++;
            value->len -= 2;
        }

        return 1;
    }

    return 0;
}


static void
runcoach_clerk_strip(runcoach_str_t *s)
{
    while (s->len != 0 && (s->data[0] == ' ' || s->data[0] == '\t')) {
        s->data++;
        s->len--;
    }

    while (s->len != 0
           && (s->data[s->len - 1] == ' ' || s->data[s->len - 1] == '\t'))
    {
        s->len--;
    }
}


/*
 * The order of the rules is the meaning.  A cookie that says "0" is not the
 * same as one that is absent.
 */

runcoach_clerk_choice_e
runcoach_clerk_choose(const runcoach_clerk_cookies_t *cookies, time_t now)
{
    int                              out, suffixed_out;
    const runcoach_clerk_session_t  *plain, *suffixed;

    plain = &cookies->plain;
    suffixed = &cookies->suffixed;

    out = cookies->plain_uat.present && cookies->plain_uat.value == 0;
    suffixed_out = cookies->suffixed_uat.present
                   && cookies->suffixed_uat.value == 0;

    if (plain->present) {

        if (!plain->readable || plain->issuer.len == 0) {
            return RUNCOACH_CLERK_PLAIN;
        }

        if (!runcoach_clerk_same_instance(&plain->issuer, &cookies->issuer)) {
            return RUNCOACH_CLERK_SUFFIXED;
        }
    }

    if (!cookies->suffixed_uat.present && !suffixed->present) {
        return RUNCOACH_CLERK_PLAIN;
    }

    if (!suffixed_out && !out
        && runcoach_clerk_iat(plain) > runcoach_clerk_iat(suffixed))
    {
        return RUNCOACH_CLERK_PLAIN;
    }

    if (suffixed_out && !out) {
        return RUNCOACH_CLERK_PLAIN;
    }

    if (!cookies->production && !suffixed_out && out
        && suffixed->present && suffixed->readable
        && suffixed->exp != 0 && suffixed->exp <= (double) now)
    {
        return RUNCOACH_CLERK_PLAIN;
    }

    if (!cookies->suffixed_uat.present && suffixed->present) {
        return RUNCOACH_CLERK_PLAIN;
    }

    return RUNCOACH_CLERK_SUFFIXED;
}


/* the schemes are removed wherever they stand, as there */

static int
runcoach_clerk_same_instance(const runcoach_str_t *a, const runcoach_str_t *b)
{
    const u_char  *p, *q, *p_last, *q_last;

    p = a->data;
    p_last = p + a->len;
    q = b->data;
    q_last = q + b->len;

    for ( ;; ) {
        p = runcoach_clerk_skip_scheme(p, p_last);
        q = runcoach_clerk_skip_scheme(q, q_last);

        if (p == p_last || q == q_last) {
            return p == p_last && q == q_last;
        }

        if (*p++ != *q++) {
            return 0;
        }
    }
}


static const u_char *
runcoach_clerk_skip_scheme(const u_char *p, const u_char *last)
{
    size_t         n;
    const u_char  *q;

    for ( ;; ) {
        q = p;

        for (n = 0; n < 4; n++, q++) {

            if (q == last || (*q | 0x20) != "http"[n]) {
                return p;
            }
        }

        if (q != last && (*q | 0x20) == 's') {
            q++;
        }

        if (last - q < 3 || memcmp(q, "://", 3) != 0) {
            return p;
        }

        p = q + 3;
    }
}


static double
runcoach_clerk_iat(const runcoach_clerk_session_t *session)
{
    return (session->present && session->readable) ? session->iat : 0;
}


void
runcoach_clerk_uat(runcoach_clerk_uat_t *uat, const u_char *value, size_t n)
{
    size_t  i;

    uat->present = 0;
    uat->value = 0;

    if (n == 0 || n > RUNCOACH_CLERK_UAT) {
        return;
    }

    for (i = 0; i < n; i++) {

        if (value[i] < '0' || value[i] > '9') {
            uat->value = 0;
            return;
        }

        uat->value = uat->value * 10 + (value[i] - '0');
    }

    uat->present = 1;
}


ssize_t
runcoach_clerk_permissions(u_char *dst, size_t size,
    const runcoach_str_t *features, const runcoach_str_t *permissions,
    const runcoach_str_t *map)
{
    size_t                  n;
    const u_char           *p, *m;
    runcoach_str_t          feature, number;
    runcoach_clerk_out_t    out;
    runcoach_clerk_bits_t   bits;

    if (features->len == 0 || permissions->len == 0 || map->len == 0
        || !runcoach_clerk_scoped(features))
    {
        return 0;
    }

    n = runcoach_clerk_count(permissions);

    if (n > RUNCOACH_CLERK_MAX_PERMISSIONS) {
        return -1;
    }

    bits.n = (n + 31) / 32;

    out.data = dst;
    out.size = size;
    out.len = 0;

    p = features->data;
    m = map->data;

    while (runcoach_clerk_item(&p, features->data + features->len, &feature)) {

        if (!runcoach_clerk_feature(&feature)) {
            continue;
        }

        if (!runcoach_clerk_item(&m, map->data + map->len, &number)) {
            break;
        }

        if (runcoach_clerk_bits(&bits, &number)
            && runcoach_clerk_grant(&out, &bits, &feature, permissions) != 0)
        {
            return -1;
        }
    }

    return out.len;
}


/* a feature without a scope is an error there, of the claims as a whole */

static int
runcoach_clerk_scoped(const runcoach_str_t *features)
{
    const u_char    *p, *last;
    runcoach_str_t   feature;

    p = features->data;
    last = p + features->len;

    while (runcoach_clerk_item(&p, last, &feature)) {

        if (memchr(feature.data, ':', feature.len) == NULL) {
            return 0;
        }
    }

    return 1;
}


static size_t
runcoach_clerk_count(const runcoach_str_t *list)
{
    size_t  i, n;

    n = 1;

    for (i = 0; i < list->len; i++) {
        n += (list->data[i] == ',');
    }

    return n;
}


/*
 * An element of a list that is separated by commas, without the white space
 * around it; the empty list has one.  *p is NULL after the last.
 */

static int
runcoach_clerk_item(const u_char **p, const u_char *last, runcoach_str_t *item)
{
    const u_char  *start, *comma;

    start = *p;

    if (start == NULL) {
        return 0;
    }

    comma = memchr(start, ',', last - start);

    *p = (comma != NULL) ? comma + 1 : NULL;

    item->data = start;
    item->len = (comma != NULL ? comma : last) - start;

    runcoach_clerk_trim(item);

    return 1;
}


static void
runcoach_clerk_trim(runcoach_str_t *s)
{
    size_t  i, n;

    for ( ;; ) {
        n = runcoach_clerk_space(s->data, s->len);

        if (n == 0) {
            break;
        }

        s->data += n;
        s->len -= n;
    }

    for (i = 1; i <= 3 && i <= s->len; i++) {

        if (runcoach_clerk_space(s->data + s->len - i, i) == i) {
            s->len -= i;
            i = 0;
        }
    }
}


/* the length of what JavaScript takes for white space, in UTF-8 */

static size_t
runcoach_clerk_space(const u_char *p, size_t n)
{
    if (n >= 1 && (p[0] == ' ' || (p[0] >= '\t' && p[0] <= '\r'))) {
        return 1;
    }

    if (n >= 2 && p[0] == 0xc2 && p[1] == 0xa0) {
        return 2;
    }

    if (n < 3) {
        return 0;
    }

    switch (p[0] << 16 | p[1] << 8 | p[2]) {

    case 0xe19a80:              /* U+1680 */
    case 0xe280a8:              /* U+2028, U+2029, U+202F, U+205F */
    case 0xe280a9:
    case 0xe280af:
    case 0xe2819f:
    case 0xe38080:              /* U+3000 */
    case 0xefbbbf:              /* U+FEFF */
        return 3;
    }

    /* U+2000 to U+200A */

    return (p[0] == 0xe2 && p[1] == 0x80 && p[2] >= 0x80 && p[2] <= 0x8a) ? 3
                                                                          : 0;
}


/* 1 if it is one of organizations; its scope is taken away then */

static int
runcoach_clerk_feature(runcoach_str_t *feature)
{
    size_t         n;
    const u_char  *p;

    p = feature->data;
    n = (const u_char *) memchr(p, ':', feature->len) - p;

    if (!(n == 1 && p[0] == 'o')
        && !(n == 2 && (memcmp(p, "ou", 2) == 0 || memcmp(p, "uo", 2) == 0)))
    {
        return 0;
    }

    feature->data += n + 1;
    feature->len -= n + 1;

    return 1;
}


static int
runcoach_clerk_bits(runcoach_clerk_bits_t *bits, const runcoach_str_t *number)
{
    size_t    i;
    uint32_t  factor, digits;

    if (number->len == 0) {
        return 0;
    }

    memset(bits->limbs, 0, bits->n * sizeof(uint32_t));

    factor = 1;
    digits = 0;

    for (i = 0; i < number->len; i++) {

        if (number->data[i] < '0' || number->data[i] > '9') {
            return 0;
        }

        digits = digits * 10 + (number->data[i] - '0');
        factor *= 10;

        if (factor == 1000000000) {
            runcoach_clerk_multiply(bits, factor, digits);
            factor = 1;
            digits = 0;
        }
    }

    runcoach_clerk_multiply(bits, factor, digits);

    return 1;
}


static void
runcoach_clerk_multiply(runcoach_clerk_bits_t *bits, uint32_t factor,
    uint32_t carry)
{
    size_t    i;
    uint64_t  value;

    for (i = 0; i < bits->n; i++) {
        value = (uint64_t) bits->limbs[i] * factor + carry;
        bits->limbs[i] = (uint32_t) value;
        carry = (uint32_t) (value >> 32);
    }
}


static int
runcoach_clerk_grant(runcoach_clerk_out_t *out,
    const runcoach_clerk_bits_t *bits, const runcoach_str_t *feature,
    const runcoach_str_t *permissions)
{
    size_t           i;
    const u_char    *p, *last;
    runcoach_str_t   item;

    p = permissions->data;
    last = p + permissions->len;

    for (i = 0; runcoach_clerk_item(&p, last, &item); i++) {

        if ((bits->limbs[i / 32] >> i % 32 & 1) == 0) {
            continue;
        }

        if ((out->len != 0
             && runcoach_clerk_put(out, (const u_char *) ",", 1) != 0)
            || runcoach_clerk_put(out, (const u_char *) "org:", 4) != 0
            || runcoach_clerk_put(out, feature->data, feature->len) != 0
            || runcoach_clerk_put(out, (const u_char *) ":", 1) != 0
            || runcoach_clerk_put(out, item.data, item.len) != 0)
        {
            return -1;
        }
    }

    return 0;
}


static int
runcoach_clerk_put(runcoach_clerk_out_t *out, const u_char *data, size_t len)
{
    size_t  i;

    if (out->size - out->len < len) {
        return -1;
    }

    for (i = 0; i < len; i++) {

        if (data[i] <= ' ' || data[i] == 0x7f) {
            return -1;
        }

        out->data[out->len++] = data[i];
    }

    return 0;
}
