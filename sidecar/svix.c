
#include <string.h>

/*
 * EVP fetches its algorithm anew for each MAC, which takes longer than hashing
 * an event does.
 */

#define OPENSSL_SUPPRESS_DEPRECATED

#include <openssl/crypto.h>

#include "svix.h"


#define SVIX_DIGEST_LEN  SHA256_DIGEST_LENGTH
#define SVIX_BASE64_LEN  runcoach_base64_encoded_max(SVIX_DIGEST_LEN)


typedef struct {
    u_char               data[SVIX_BASE64_LEN];
} svix_signature_t;


static int svix_secret_parse(svix_key_t *key, const u_char *p, size_t n,
    const char **error);
static void svix_key_prepare(svix_key_t *key, const u_char *secret, size_t n);
static void svix_key_pad(SHA256_CTX *sha, const u_char *block, u_char pad);
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
    u_char   secret[SVIX_MAX_KEY];
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

    len = runcoach_base64_decode_any(secret, p, n);

    if (len <= 0) {
        *error = "webhook secret is not \"whsec_\" and base64";
        return -1;
    }

    svix_key_prepare(key, secret, len);

    OPENSSL_cleanse(secret, sizeof(secret));

    return 0;
}


/* RFC 2104: a key longer than a block is hashed first */

static void
svix_key_prepare(svix_key_t *key, const u_char *secret, size_t n)
{
    u_char  block[SHA256_CBLOCK];

    memset(block, 0, sizeof(block));

    if (n > sizeof(block)) {
        (void) SHA256(secret, n, block);

    } else {
        memcpy(block, secret, n);
    }

    svix_key_pad(&key->inner, block, 0x36);
    svix_key_pad(&key->outer, block, 0x5c);

    OPENSSL_cleanse(block, sizeof(block));
}


static void
svix_key_pad(SHA256_CTX *sha, const u_char *block, u_char pad)
{
    size_t  i;
    u_char  padded[SHA256_CBLOCK];

    for (i = 0; i < sizeof(padded); i++) {
        padded[i] = block[i] ^ pad;
    }

    (void) SHA256_Init(sha);
    (void) SHA256_Update(sha, padded, sizeof(padded));

    OPENSSL_cleanse(padded, sizeof(padded));
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
            return SVIX_BAD_SIGNATURE;
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
    u_char      digest[SVIX_DIGEST_LEN];
    SHA256_CTX  sha;

    sha = key->inner;

    if (!SHA256_Update(&sha, h->id.data, h->id.len)
        || !SHA256_Update(&sha, ".", 1)
        || !SHA256_Update(&sha, h->timestamp.data, h->timestamp.len)
        || !SHA256_Update(&sha, ".", 1)
        || !SHA256_Update(&sha, body, n)
        || !SHA256_Final(digest, &sha))
    {
        return -1;
    }

    sha = key->outer;

    if (!SHA256_Update(&sha, digest, sizeof(digest))
        || !SHA256_Final(digest, &sha))
    {
        return -1;
    }

    (void) runcoach_base64_encode(signature->data, digest, sizeof(digest));

    return 0;
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
