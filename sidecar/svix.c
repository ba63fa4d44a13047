
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "svix.h"


#define SVIX_DIGEST_LEN  32
#define SVIX_BASE64_LEN  runcoach_base64_encoded_max(SVIX_DIGEST_LEN)


typedef struct {
    u_char               data[SVIX_BASE64_LEN];
} svix_signature_t;


static int svix_secret_parse(svix_key_t *key, const u_char *p, size_t n,
    const char **error);
static int svix_complete(const svix_headers_t *h);
static int svix_good_id(const runcoach_str_t *id);
static int svix_parse_timestamp(const runcoach_str_t *s, int64_t *timestamp);
static int svix_sign(const svix_key_t *key, const svix_headers_t *h,
    const u_char *body, size_t n, svix_signature_t *signature);
static int svix_match(const runcoach_str_t *list,
    const svix_signature_t *signatures, size_t n);


int
svix_secrets_parse(svix_secrets_t *secrets, const u_char *list, size_t n,
    const char **error)
{
    const u_char  *p, *last, *comma;

    secrets->nkeys = 0;

    p = list;
    last = list + n;

    while (p <= last) {

        comma = (p < last) ? memchr(p, ',', last - p) : NULL;

        if (comma == NULL) {
            comma = last;
        }

        if (secrets->nkeys == SVIX_MAX_SECRETS) {
            *error = "too many webhook secrets";
            goto failed;
        }

        if (svix_secret_parse(&secrets->keys[secrets->nkeys], p, comma - p,
                              error)
            != 0)
        {
            goto failed;
        }

        secrets->nkeys++;

        p = comma + 1;
    }

    return 0;

failed:

    svix_secrets_clear(secrets);

    return -1;
}


void
svix_secrets_clear(svix_secrets_t *secrets)
{
    OPENSSL_cleanse(secrets, sizeof(svix_secrets_t));
}


static int
svix_secret_parse(svix_key_t *key, const u_char *p, size_t n,
    const char **error)
{
    ssize_t  len;

    while (n > 0 && (*p == ' ' || *p == '\t')) {
        p++;
        n--;
    }

    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) {
        n--;
    }

    if (n >= 6 && memcmp(p, "whsec_", 6) == 0) {
        p += 6;
        n -= 6;
    }

    if (n == 0) {
        *error = "empty webhook secret";
        return -1;
    }

    if (runcoach_base64_decoded_max(n) > SVIX_MAX_KEY) {
        *error = "webhook secret is too long";
        return -1;
    }

    len = runcoach_base64_decode_any(key->data, p, n);

    if (len <= 0) {
        *error = "webhook secret is not \"whsec_\" and base64";
        return -1;
    }

    key->len = len;

    return 0;
}


svix_rc_e
svix_verify(const svix_secrets_t *secrets, const svix_headers_t *svix,
    const svix_headers_t *webhook, const u_char *body, size_t n, int64_t now,
    const svix_headers_t **used, int64_t *timestamp)
{
    size_t                 i;
    int64_t                t;
    svix_signature_t       signatures[SVIX_MAX_SECRETS];
    const svix_headers_t  *h;

    if (svix_complete(svix)) {
        h = svix;

    } else if (svix_complete(webhook)) {
        h = webhook;

    } else {
        return SVIX_NO_HEADERS;
    }

    if (!svix_good_id(&h->id)) {
        return SVIX_BAD_ID;
    }

    if (!svix_parse_timestamp(&h->timestamp, &t)
        || t < now - SVIX_TOLERANCE || t > now + SVIX_TOLERANCE)
    {
        return SVIX_BAD_TIMESTAMP;
    }

    if (h->signature.len > SVIX_MAX_SIGNATURE) {
        return SVIX_BAD_SIGNATURE;
    }

    for (i = 0; i < secrets->nkeys; i++) {
        if (svix_sign(&secrets->keys[i], h, body, n, &signatures[i]) != 0) {
            return SVIX_NO_MEMORY;
        }
    }

    if (!svix_match(&h->signature, signatures, secrets->nkeys)) {
        return SVIX_BAD_SIGNATURE;
    }

    if (used != NULL) {
        *used = h;
    }

    if (timestamp != NULL) {
        *timestamp = t;
    }

    return SVIX_OK;
}


const char *
svix_strerror(svix_rc_e rc)
{
    switch (rc) {

    case SVIX_OK:
        return "good signature";

    case SVIX_NO_HEADERS:
        return "signature headers are missing";

    case SVIX_BAD_ID:
        return "bad message id";

    case SVIX_BAD_TIMESTAMP:
        return "timestamp is malformed or outside of the tolerance";

    case SVIX_BAD_SIGNATURE:
        return "no matching signature";

    case SVIX_NO_MEMORY:
        return "no memory to verify the signature";
    }

    return "unknown";
}


static int
svix_complete(const svix_headers_t *h)
{
    return h->id.data != NULL && h->timestamp.data != NULL
           && h->signature.data != NULL;
}


/*
 * What is signed joins id, timestamp and body with full stops.  An id with one
 * in it could be read in two ways, so it is refused, signed or not.
 */

static int
svix_good_id(const runcoach_str_t *id)
{
    u_char  ch;
    size_t  i;

    if (id->len == 0 || id->len > SVIX_MAX_ID) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        ch = id->data[i];

        if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
            || (ch >= '0' && ch <= '9') || ch == '-' || ch == '_')
        {
            continue;
        }

        return 0;
    }

    return 1;
}


static int
svix_parse_timestamp(const runcoach_str_t *s, int64_t *timestamp)
{
    size_t   i;
    int64_t  t;

    /* 15 digits are beyond any clock and within any arithmetic */

    if (s->len == 0 || s->len > 15) {
        return 0;
    }

    t = 0;

    for (i = 0; i < s->len; i++) {
        if (s->data[i] < '0' || s->data[i] > '9') {
            return 0;
        }

        t = t * 10 + (s->data[i] - '0');
    }

    *timestamp = t;

    return 1;
}


static int
svix_sign(const svix_key_t *key, const svix_headers_t *h, const u_char *body,
    size_t n, svix_signature_t *signature)
{
    int           rc;
    size_t        len;
    u_char        digest[SVIX_DIGEST_LEN];
    EVP_MAC      *mac;
    OSSL_PARAM    params[2];
    EVP_MAC_CTX  *ctx;

    rc = -1;
    ctx = NULL;

    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (mac == NULL) {
        goto done;
    }

    ctx = EVP_MAC_CTX_new(mac);
    if (ctx == NULL) {
        goto done;
    }

    params[0] = OSSL_PARAM_construct_utf8_string("digest", (char *) "SHA256",
                                                 0);
    params[1] = OSSL_PARAM_construct_end();

    if (EVP_MAC_init(ctx, key->data, key->len, params) != 1
        || EVP_MAC_update(ctx, h->id.data, h->id.len) != 1
        || EVP_MAC_update(ctx, (const u_char *) ".", 1) != 1
        || EVP_MAC_update(ctx, h->timestamp.data, h->timestamp.len) != 1
        || EVP_MAC_update(ctx, (const u_char *) ".", 1) != 1
        || (n > 0 && EVP_MAC_update(ctx, body, n) != 1)
        || EVP_MAC_final(ctx, digest, &len, SVIX_DIGEST_LEN) != 1)
    {
        goto done;
    }

    (void) runcoach_base64_encode(signature->data, digest, len);

    rc = 0;

done:

    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);

    return rc;
}


/*
 * Neither how many entries there are nor where one stops matching is told by
 * the time this takes: the first match does not end the search.
 */

static int
svix_match(const runcoach_str_t *list, const svix_signature_t *signatures,
    size_t n)
{
    int            found;
    size_t         i, len, entries;
    const u_char  *p, *last, *space;

    found = 0;
    entries = 0;

    p = list->data;
    last = p + list->len;

    while (p < last) {

        space = memchr(p, ' ', last - p);

        if (space == NULL) {
            space = last;
        }

        len = space - p;

        if (len > 0 && ++entries > SVIX_MAX_ENTRIES) {
            return 0;
        }

        if (len == 3 + SVIX_BASE64_LEN && memcmp(p, "v1,", 3) == 0) {

            for (i = 0; i < n; i++) {
                found |= (CRYPTO_memcmp(p + 3, signatures[i].data,
                                        SVIX_BASE64_LEN)
                          == 0);
            }
        }

        p = space + 1;
    }

    return found;
}
