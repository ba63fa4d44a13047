
/*
 * Both sides end in runcoach_sigv4_sign(), which streams the canonical request
 * into SHA-256: nothing of it is ever built in memory.  The two blocks of an
 * HMAC that depend on its key alone are hashed once a day.
 *
 * The low-level SHA-256 is deprecated since OpenSSL 3.0, but nothing else can
 * copy a state without allocating: a signature would cost twice as much.
 *
 * The signer writes path and query into the URL in their canonical form, and
 * signs these very bytes.  The verifier accepts only that form (decoding it
 * would give the attacker a choice of spellings) and has to sort.
 */


#define OPENSSL_SUPPRESS_DEPRECATED

#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "runcoach_number.h"
#include "runcoach_sigv4.h"


#define RUNCOACH_SIGV4_ALGORITHM  "AWS4-HMAC-SHA256"
#define RUNCOACH_SIGV4_AHEAD      900
#define RUNCOACH_SIGV4_HASH       32
#define RUNCOACH_SIGV4_BLOCK      64
#define RUNCOACH_SIGV4_HEX        (2 * RUNCOACH_SIGV4_HASH)
#define RUNCOACH_SIGV4_DATE       16                  /* 20261120T093000Z */
#define RUNCOACH_SIGV4_DAY        8
#define RUNCOACH_SIGV4_MAX_TIME   253402300799LL      /* the year 9999 */

#define RUNCOACH_SIGV4_MAX_NAMES  1024                /* "host;x-amz-..." */

/*
 * "://" and "/", "?X-Amz-Algorithm=AWS4-HMAC-SHA256", "&X-Amz-Credential=" and
 * what a scope has beside names, "&X-Amz-Date=20261120T093000Z",
 * "&X-Amz-Expires=604800", "&X-Amz-Security-Token=",
 * "&X-Amz-SignedHeaders=host" and "&X-Amz-Signature=" with 64 digits
 */

#define RUNCOACH_SIGV4_FIXED      400


/* text that grows towards an end; full is sticky, to be asked for once */

typedef struct {
    u_char                 *pos;
    u_char                 *last;
    int                     full;
} runcoach_sigv4_text_t;


/*
 * What is signed; the query is sorted and encoded, the headers are sorted.
 * args is the whole query where it stands in one piece.
 */

typedef struct {
    runcoach_str_t          method;
    runcoach_str_t          path;
    runcoach_str_t          args;
    runcoach_str_t          names;
    size_t                  nquery;
    size_t                  nheaders;
    runcoach_sigv4_pair_t   query[RUNCOACH_SIGV4_MAX_ARGS];
    runcoach_sigv4_pair_t   headers[RUNCOACH_SIGV4_MAX_PAIRS + 1];
    u_char                  names_buf[RUNCOACH_SIGV4_MAX_NAMES];
    char                    date[RUNCOACH_SIGV4_DATE + 1];
} runcoach_sigv4_canonical_t;


static const u_char *runcoach_sigv4_utf8(const u_char *p, const u_char *last);

static runcoach_sigv4_rc_e runcoach_sigv4_check_request(
    const runcoach_sigv4_credential_t *cred,
    const runcoach_sigv4_request_t *request);
static runcoach_sigv4_rc_e runcoach_sigv4_check_credential(
    const runcoach_sigv4_credential_t *cred);
static runcoach_sigv4_rc_e runcoach_sigv4_set_headers(
    runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_request_t *request);
static void runcoach_sigv4_put_url(runcoach_sigv4_text_t *text,
    runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_request_t *request);
static void runcoach_sigv4_put_query(runcoach_sigv4_text_t *text,
    runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_request_t *request);
static void runcoach_sigv4_put_arg(runcoach_sigv4_text_t *text,
    const runcoach_sigv4_canonical_t *canonical, size_t *i, const char *name,
    const void *value, size_t n);
static void runcoach_sigv4_put_others(runcoach_sigv4_text_t *text,
    const runcoach_sigv4_canonical_t *canonical, size_t *i,
    const runcoach_str_t *before);

static runcoach_sigv4_rc_e runcoach_sigv4_check_path(
    const runcoach_sigv4_signed_t *request);
static runcoach_sigv4_rc_e runcoach_sigv4_split_args(
    runcoach_sigv4_canonical_t *canonical, const runcoach_str_t *args);
static runcoach_str_t *runcoach_sigv4_arg(
    runcoach_sigv4_canonical_t *canonical, const char *name);
static runcoach_sigv4_rc_e runcoach_sigv4_take_signature(char *signature,
    runcoach_sigv4_canonical_t *canonical);
static runcoach_sigv4_rc_e runcoach_sigv4_check_time(
    runcoach_sigv4_canonical_t *canonical, time_t now);
static runcoach_sigv4_rc_e runcoach_sigv4_check_scope(
    runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_credential_t *cred);
static runcoach_sigv4_rc_e runcoach_sigv4_find_headers(
    runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_signed_t *request);

static runcoach_sigv4_rc_e runcoach_sigv4_sign(char *signature,
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_canonical_t *canonical);
static int runcoach_sigv4_hash_request(u_char *digest,
    const runcoach_sigv4_canonical_t *canonical);
static int runcoach_sigv4_hash_query(SHA256_CTX *sha,
    const runcoach_sigv4_canonical_t *canonical);
static int runcoach_sigv4_hash_pair(SHA256_CTX *sha,
    const runcoach_sigv4_pair_t *pair);
static int runcoach_sigv4_hash_value(SHA256_CTX *sha,
    const runcoach_str_t *value);
static int runcoach_sigv4_renew(runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_credential_t *cred, const char *date);
static void runcoach_sigv4_set_scope(runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_credential_t *cred, const char *date);
static int runcoach_sigv4_derive(u_char *key,
    const runcoach_sigv4_credential_t *cred, const char *date);
static int runcoach_sigv4_prepare(SHA256_CTX *sha, const u_char *key,
    u_char pad);
static int runcoach_sigv4_hmac(u_char *dst, const void *key, size_t nkey,
    const void *data, size_t n);
static void runcoach_sigv4_hex(char *dst, const u_char *src, size_t n);

static inline void runcoach_sigv4_put(runcoach_sigv4_text_t *text,
    const void *data, size_t n);
static void runcoach_sigv4_put_str(runcoach_sigv4_text_t *text,
    const runcoach_str_t *s);
static void runcoach_sigv4_put_encoded(runcoach_sigv4_text_t *text,
    const runcoach_str_t *s, int keep_slash);
static void runcoach_sigv4_put_scope(runcoach_sigv4_text_t *text,
    const runcoach_sigv4_credential_t *cred, const char *date);

static int runcoach_sigv4_compare_str(const runcoach_str_t *a,
    const runcoach_str_t *b);
static int runcoach_sigv4_compare(const runcoach_sigv4_pair_t *a,
    const runcoach_sigv4_pair_t *b);
static int runcoach_sigv4_rank(u_char c);
static void runcoach_sigv4_sort(runcoach_sigv4_pair_t *pairs, size_t n);

static int runcoach_sigv4_is_literal(const runcoach_str_t *s,
    const char *literal);
static int runcoach_sigv4_is_ours(const runcoach_str_t *name);
static int runcoach_sigv4_is_word(const runcoach_str_t *s);
static int runcoach_sigv4_is_header(const runcoach_str_t *name);
static int runcoach_sigv4_is_host(const runcoach_str_t *host);
static int runcoach_sigv4_is_base(const runcoach_str_t *base);
static int runcoach_sigv4_is_printable(const runcoach_str_t *s);
static int runcoach_sigv4_is_encoded(const runcoach_str_t *s, int keep_slash);
static int runcoach_sigv4_hex_value(u_char c);
static size_t runcoach_sigv4_decode(u_char *dst, const runcoach_str_t *s);
static int runcoach_sigv4_encodes(const runcoach_str_t *s, const u_char *raw,
    size_t n);

static int runcoach_sigv4_format_date(char *date, time_t t);
static void runcoach_sigv4_digits(char *p, unsigned value, size_t n);
static int runcoach_sigv4_parse_date(time_t *t, const char *date);
static int runcoach_sigv4_number(const char *p, size_t n);


/*
 * What stays as it is, A-Z a-z 0-9 - _ . ~, and what an object key may have
 * without a second look.
 */

#define RUNCOACH_SIGV4_PLAIN  1
#define RUNCOACH_SIGV4_KEY    2

static const u_char  runcoach_sigv4_classes[256] = {
    [' ' ... ','] = RUNCOACH_SIGV4_KEY,
    ['-' ... '.'] = RUNCOACH_SIGV4_KEY|RUNCOACH_SIGV4_PLAIN,
    ['0' ... '9'] = RUNCOACH_SIGV4_KEY|RUNCOACH_SIGV4_PLAIN,
    [':' ... '@'] = RUNCOACH_SIGV4_KEY,
    ['A' ... 'Z'] = RUNCOACH_SIGV4_KEY|RUNCOACH_SIGV4_PLAIN,
    ['[' ... '^'] = RUNCOACH_SIGV4_KEY,
    ['_'] = RUNCOACH_SIGV4_KEY|RUNCOACH_SIGV4_PLAIN,
    ['`'] = RUNCOACH_SIGV4_KEY,
    ['a' ... 'z'] = RUNCOACH_SIGV4_KEY|RUNCOACH_SIGV4_PLAIN,
    ['{' ... '}'] = RUNCOACH_SIGV4_KEY,
    ['~'] = RUNCOACH_SIGV4_KEY|RUNCOACH_SIGV4_PLAIN
};

#define runcoach_sigv4_unreserved(c)                                          \
    (runcoach_sigv4_classes[(u_char) (c)] & RUNCOACH_SIGV4_PLAIN)


runcoach_sigv4_rc_e
runcoach_sigv4_check_key(const u_char *key, size_t n)
{
    size_t         len;
    const u_char  *p, *last, *segment;

    if (n == 0 || n > RUNCOACH_SIGV4_MAX_KEY) {
        return RUNCOACH_SIGV4_BAD_KEY;
    }

    last = key + n;

    for (segment = key; /* void */ ; segment = p + 1) {
        p = segment;

        for ( ;; ) {

            while (p != last && runcoach_sigv4_classes[*p] & RUNCOACH_SIGV4_KEY)
            {
                p++;
            }

            if (p == last || *p == '/') {
                break;
            }

            p = runcoach_sigv4_utf8(p, last);

            if (p == NULL) {
                return RUNCOACH_SIGV4_BAD_KEY;
            }
        }

        len = p - segment;

        if (len == 0
            || (len == 1 && segment[0] == '.')
            || (len == 2 && segment[0] == '.' && segment[1] == '.'))
        {
            return RUNCOACH_SIGV4_BAD_KEY;
        }

        if (p == last) {
            return RUNCOACH_SIGV4_OK;
        }
    }
}


/*
 * One character, RFC 3629, which is not a control character; or NULL.
 */

static const u_char *
runcoach_sigv4_utf8(const u_char *p, const u_char *last)
{
    u_char    c;
    size_t    n;
    unsigned  code, least;

    c = *p++;

    if (c < 0x80) {
        return (c >= 0x20 && c != 0x7f) ? p : NULL;
    }

    if (c >= 0xc2 && c <= 0xdf) {
        n = 1;
        code = c & 0x1f;
        least = 0xa0;              /* below are the controls of Latin-1 */

    } else if (c >= 0xe0 && c <= 0xef) {
        n = 2;
        code = c & 0x0f;
        least = 0x800;

    } else if (c >= 0xf0 && c <= 0xf4) {
        n = 3;
        code = c & 0x07;
        least = 0x10000;

    } else {
        return NULL;
    }

    if ((size_t) (last - p) < n) {
        return NULL;
    }

    for ( /* void */ ; n != 0; n--) {
        c = *p++;

        if ((c & 0xc0) != 0x80) {
            return NULL;
        }

        code = code << 6 | (c & 0x3f);
    }

    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return NULL;
    }

    return p;
}


size_t
runcoach_sigv4_encode(u_char *dst, const u_char *src, size_t n, int keep_slash)
{
    u_char  *d;
    size_t   i;

    static const u_char  hex[] = "0123456789ABCDEF";

    d = dst;

    for (i = 0; i < n; i++) {

        if (runcoach_sigv4_unreserved(src[i])
            || (src[i] == '/' && keep_slash))
        {
            *d++ = src[i];
            continue;
        }

        *d++ = '%';
        *d++ = hex[src[i] >> 4];
        *d++ = hex[src[i] & 0x0f];
    }

    return d - dst;
}


runcoach_sigv4_rc_e
runcoach_sigv4_presign(u_char *url, size_t size, size_t *n,
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_request_t *request)
{
    char                        signature[RUNCOACH_SIGV4_HEX];
    runcoach_sigv4_rc_e         rc;
    runcoach_sigv4_text_t       text;
    runcoach_sigv4_canonical_t  canonical;

    *n = 0;

    rc = runcoach_sigv4_check_request(cred, request);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    rc = runcoach_sigv4_set_headers(&canonical, request);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    if (!runcoach_sigv4_format_date(canonical.date, request->now)) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    if (!runcoach_sigv4_renew(day, cred, canonical.date)) {
        return RUNCOACH_SIGV4_ERROR;
    }

    if (size > RUNCOACH_SIGV4_MAX_URL) {
        size = RUNCOACH_SIGV4_MAX_URL;
    }

    text.pos = url;
    text.last = url + size;
    text.full = 0;

    runcoach_sigv4_put_url(&text, &canonical, cred, day, request);

    if (text.full) {
        return RUNCOACH_SIGV4_TOO_LARGE;
    }

    rc = runcoach_sigv4_sign(signature, cred, day, &canonical);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    runcoach_sigv4_put(&text, "&X-Amz-Signature=", 17);
    runcoach_sigv4_put(&text, signature, RUNCOACH_SIGV4_HEX);

    if (text.full) {
        return RUNCOACH_SIGV4_TOO_LARGE;
    }

    *n = text.pos - url;

    return RUNCOACH_SIGV4_OK;
}


static runcoach_sigv4_rc_e
runcoach_sigv4_check_request(const runcoach_sigv4_credential_t *cred,
    const runcoach_sigv4_request_t *request)
{
    size_t                        i;
    runcoach_sigv4_rc_e           rc;
    const runcoach_sigv4_pair_t  *arg;

    rc = runcoach_sigv4_check_credential(cred);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    if (request->nheaders > RUNCOACH_SIGV4_MAX_PAIRS
        || request->nquery > RUNCOACH_SIGV4_MAX_PAIRS)
    {
        return RUNCOACH_SIGV4_TOO_LARGE;
    }

    if (request->expires < 1 || request->expires > RUNCOACH_SIGV4_MAX_EXPIRES) {
        return RUNCOACH_SIGV4_BAD_EXPIRES;
    }

    if (!runcoach_sigv4_is_word(&request->method)
        || !runcoach_sigv4_is_word(&request->scheme)
        || !runcoach_sigv4_is_host(&request->host)
        || !runcoach_sigv4_is_base(&request->base))
    {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    for (i = 0; i < request->nquery; i++) {
        arg = &request->query[i];

        if (arg->name.len == 0
            || runcoach_sigv4_is_ours(&arg->name)
            || !runcoach_sigv4_is_printable(&arg->name)
            || !runcoach_sigv4_is_printable(&arg->value))
        {
            return RUNCOACH_SIGV4_BAD_REQUEST;
        }
    }

    if (request->bucket) {
        return (request->key.len == 0) ? RUNCOACH_SIGV4_OK
                                       : RUNCOACH_SIGV4_BAD_KEY;
    }

    return runcoach_sigv4_check_key(request->key.data, request->key.len);
}


/*
 * With an empty secret anyone could sign.
 */

static runcoach_sigv4_rc_e
runcoach_sigv4_check_credential(const runcoach_sigv4_credential_t *cred)
{
    if (cred->access_key.len == 0
        || cred->secret_key.len == 0
        || cred->region.len == 0)
    {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    if (cred->access_key.len > RUNCOACH_SIGV4_MAX_NAME
        || cred->secret_key.len > RUNCOACH_SIGV4_MAX_NAME
        || cred->region.len > RUNCOACH_SIGV4_MAX_NAME)
    {
        return RUNCOACH_SIGV4_TOO_LARGE;
    }

    return RUNCOACH_SIGV4_OK;
}


static runcoach_sigv4_rc_e
runcoach_sigv4_set_headers(runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_request_t *request)
{
    size_t                  i, n;
    runcoach_sigv4_text_t   names;
    runcoach_sigv4_pair_t  *headers;

    static const runcoach_str_t  host = runcoach_string("host");

    headers = canonical->headers;
    headers[0].name = host;
    headers[0].value = request->host;

    for (n = 1; n <= request->nheaders; n++) {
        headers[n] = request->headers[n - 1];
    }

    canonical->nheaders = n;

    runcoach_sigv4_sort(headers, n);

    names.pos = canonical->names_buf;
    names.last = canonical->names_buf + RUNCOACH_SIGV4_MAX_NAMES;
    names.full = 0;

    for (i = 0; i < n; i++) {

        if (!runcoach_sigv4_is_header(&headers[i].name)
            || (headers[i].value.data != request->host.data
                && !runcoach_sigv4_is_printable(&headers[i].value)))
        {
            return RUNCOACH_SIGV4_BAD_REQUEST;
        }

        if (i != 0) {

            if (runcoach_sigv4_compare_str(&headers[i - 1].name,
                                           &headers[i].name)
                == 0)
            {
                return RUNCOACH_SIGV4_BAD_REQUEST;
            }

            runcoach_sigv4_put(&names, ";", 1);
        }

        runcoach_sigv4_put_str(&names, &headers[i].name);
    }

    canonical->names.data = canonical->names_buf;
    canonical->names.len = names.pos - canonical->names_buf;

    return names.full ? RUNCOACH_SIGV4_TOO_LARGE : RUNCOACH_SIGV4_OK;
}


/*
 * Afterwards path and args of canonical are what was written.
 */

static void
runcoach_sigv4_put_url(runcoach_sigv4_text_t *text,
    runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_request_t *request)
{
    runcoach_sigv4_put_str(text, &request->scheme);
    runcoach_sigv4_put(text, "://", 3);
    runcoach_sigv4_put_str(text, &request->host);

    canonical->method = request->method;
    canonical->path.data = text->pos;

    runcoach_sigv4_put_str(text, &request->base);

    if (!request->bucket || request->base.len == 0) {
        runcoach_sigv4_put(text, "/", 1);
    }

    runcoach_sigv4_put_encoded(text, &request->key, 1);

    canonical->path.len = text->pos - canonical->path.data;

    runcoach_sigv4_put(text, "?", 1);

    canonical->args.data = text->pos;

    runcoach_sigv4_put_query(text, canonical, cred, day, request);

    canonical->args.len = text->pos - canonical->args.data;
}


/*
 * Ours are in order and encoded already; others are merged in where they sort
 * when they are encoded, most of them after ours.
 */

static void
runcoach_sigv4_put_query(runcoach_sigv4_text_t *text,
    runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_credential_t *cred, runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_request_t *request)
{
    size_t                  i, n;
    u_char                  expires[RUNCOACH_NUMBER_MAX];
    runcoach_sigv4_pair_t  *others;

    n = runcoach_number(expires, request->expires) - expires;

    others = canonical->query;

    for (i = 0; i < request->nquery; i++) {
        others[i] = request->query[i];
    }

    canonical->nquery = request->nquery;

    runcoach_sigv4_sort(others, canonical->nquery);

    i = 0;

    runcoach_sigv4_put_arg(text, canonical, &i, "X-Amz-Algorithm",
                           RUNCOACH_SIGV4_ALGORITHM,
                           sizeof(RUNCOACH_SIGV4_ALGORITHM) - 1);
    runcoach_sigv4_put_arg(text, canonical, &i, "X-Amz-Credential",
                           day->scope, day->nscope);
    runcoach_sigv4_put_arg(text, canonical, &i, "X-Amz-Date",
                           canonical->date, RUNCOACH_SIGV4_DATE);
    runcoach_sigv4_put_arg(text, canonical, &i, "X-Amz-Expires", expires, n);

    if (cred->session_token.len != 0) {
        runcoach_sigv4_put_arg(text, canonical, &i, "X-Amz-Security-Token",
                               NULL, 0);
        runcoach_sigv4_put_encoded(text, &cred->session_token, 0);
    }

    runcoach_sigv4_put_arg(text, canonical, &i, "X-Amz-SignedHeaders", NULL, 0);
    runcoach_sigv4_put_encoded(text, &canonical->names, 0);

    runcoach_sigv4_put_others(text, canonical, &i, NULL);
}


static void
runcoach_sigv4_put_arg(runcoach_sigv4_text_t *text,
    const runcoach_sigv4_canonical_t *canonical, size_t *i, const char *name,
    const void *value, size_t n)
{
    runcoach_str_t  s;

    s.data = (const u_char *) name;
    s.len = strlen(name);

    if (*i < canonical->nquery) {
        runcoach_sigv4_put_others(text, canonical, i, &s);
    }

    runcoach_sigv4_put(text, "&", text->pos != canonical->args.data);
    runcoach_sigv4_put(text, s.data, s.len);
    runcoach_sigv4_put(text, "=", 1);
    runcoach_sigv4_put(text, value, n);
}


/*
 * Those from *i on which come before a name; NULL: the rest.
 */

static void
runcoach_sigv4_put_others(runcoach_sigv4_text_t *text,
    const runcoach_sigv4_canonical_t *canonical, size_t *i,
    const runcoach_str_t *before)
{
    const runcoach_sigv4_pair_t  *arg;

    for ( /* void */ ; *i < canonical->nquery; (*i)++) {
        arg = &canonical->query[*i];

        if (before != NULL
            && runcoach_sigv4_compare_str(&arg->name, before) > 0)
        {
            return;
        }

        runcoach_sigv4_put(text, "&", text->pos != canonical->args.data);
        runcoach_sigv4_put_encoded(text, &arg->name, 0);
        runcoach_sigv4_put(text, "=", 1);
        runcoach_sigv4_put_encoded(text, &arg->value, 0);
    }
}


runcoach_sigv4_rc_e
runcoach_sigv4_verify(const runcoach_sigv4_credential_t *cred,
    runcoach_sigv4_day_key_t *day, const runcoach_sigv4_signed_t *request)
{
    char                        given[RUNCOACH_SIGV4_HEX];
    char                        signature[RUNCOACH_SIGV4_HEX];
    runcoach_sigv4_rc_e         rc;
    runcoach_sigv4_canonical_t  canonical;

    rc = runcoach_sigv4_check_credential(cred);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    rc = runcoach_sigv4_check_path(request);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    rc = runcoach_sigv4_split_args(&canonical, &request->args);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    rc = runcoach_sigv4_take_signature(given, &canonical);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    rc = runcoach_sigv4_check_time(&canonical, request->now);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    rc = runcoach_sigv4_check_scope(&canonical, cred);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    rc = runcoach_sigv4_find_headers(&canonical, request);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    canonical.method = request->method;
    canonical.path = request->path;
    canonical.args.data = NULL;

    if (!runcoach_sigv4_renew(day, cred, canonical.date)) {
        return RUNCOACH_SIGV4_ERROR;
    }

    rc = runcoach_sigv4_sign(signature, cred, day, &canonical);
    if (rc != RUNCOACH_SIGV4_OK) {
        return rc;
    }

    if (CRYPTO_memcmp(signature, given, RUNCOACH_SIGV4_HEX) != 0) {
        return RUNCOACH_SIGV4_MISMATCH;
    }

    return RUNCOACH_SIGV4_OK;
}


static runcoach_sigv4_rc_e
runcoach_sigv4_check_path(const runcoach_sigv4_signed_t *request)
{
    size_t          n;
    u_char          buf[RUNCOACH_SIGV4_MAX_KEY];
    runcoach_str_t  key;

    n = request->base.len;

    if (request->path.len <= n
        || (n != 0 && memcmp(request->path.data, request->base.data, n) != 0)
        || request->path.data[n] != '/')
    {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    key.data = request->path.data + n + 1;
    key.len = request->path.len - n - 1;

    if (key.len > 3 * RUNCOACH_SIGV4_MAX_KEY) {
        return RUNCOACH_SIGV4_BAD_KEY;
    }

    if (!runcoach_sigv4_is_encoded(&key, 1)) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    n = runcoach_sigv4_decode(NULL, &key);

    if (n > sizeof(buf)) {
        return RUNCOACH_SIGV4_BAD_KEY;
    }

    return runcoach_sigv4_check_key(buf, runcoach_sigv4_decode(buf, &key));
}


static runcoach_sigv4_rc_e
runcoach_sigv4_split_args(runcoach_sigv4_canonical_t *canonical,
    const runcoach_str_t *args)
{
    size_t                  i;
    const u_char           *p, *last, *end, *value;
    runcoach_sigv4_pair_t  *query;

    static const char  prefix[] = "X-Amz-";

    if (args->len == 0) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    if (args->len > RUNCOACH_SIGV4_MAX_URL) {
        return RUNCOACH_SIGV4_TOO_LARGE;
    }

    canonical->nquery = 0;
    query = canonical->query;
    last = args->data + args->len;

    for (p = args->data; p <= last; p = end + 1) {

        if (canonical->nquery == RUNCOACH_SIGV4_MAX_ARGS) {
            return RUNCOACH_SIGV4_TOO_LARGE;
        }

        end = memchr(p, '&', last - p);
        if (end == NULL) {
            end = last;
        }

        value = memchr(p, '=', end - p);
        if (value == NULL) {
            value = end;
        }

        query->name.data = p;
        query->name.len = value - p;

        value += (value != end);

        query->value.data = value;
        query->value.len = end - value;

        if (query->name.len == 0
            || !runcoach_sigv4_is_encoded(&query->name, 0)
            || !runcoach_sigv4_is_encoded(&query->value, 0))
        {
            return RUNCOACH_SIGV4_BAD_REQUEST;
        }

        canonical->nquery++;
        query++;
    }

    query = canonical->query;

    runcoach_sigv4_sort(query, canonical->nquery);

    for (i = 1; i < canonical->nquery; i++) {

        if (query[i].name.len >= sizeof(prefix) - 1
            && memcmp(query[i].name.data, prefix, sizeof(prefix) - 1) == 0
            && runcoach_sigv4_compare_str(&query[i - 1].name, &query[i].name)
               == 0)
        {
            return RUNCOACH_SIGV4_BAD_REQUEST;
        }
    }

    return RUNCOACH_SIGV4_OK;
}


static runcoach_str_t *
runcoach_sigv4_arg(runcoach_sigv4_canonical_t *canonical, const char *name)
{
    size_t  i;

    for (i = 0; i < canonical->nquery; i++) {
        if (runcoach_sigv4_is_literal(&canonical->query[i].name, name)) {
            return &canonical->query[i].value;
        }
    }

    return NULL;
}


/*
 * The signature cannot be among what is signed.
 */

static runcoach_sigv4_rc_e
runcoach_sigv4_take_signature(char *signature,
    runcoach_sigv4_canonical_t *canonical)
{
    size_t                  i;
    runcoach_sigv4_pair_t  *query;

    query = canonical->query;

    for (i = 0; i < canonical->nquery; i++) {

        if (!runcoach_sigv4_is_literal(&query[i].name, "X-Amz-Signature")) {
            continue;
        }

        if (query[i].value.len != RUNCOACH_SIGV4_HEX) {
            return RUNCOACH_SIGV4_BAD_REQUEST;
        }

        memcpy(signature, query[i].value.data, RUNCOACH_SIGV4_HEX);

        canonical->nquery--;

        memmove(&query[i], &query[i + 1],
                (canonical->nquery - i) * sizeof(runcoach_sigv4_pair_t));

        return RUNCOACH_SIGV4_OK;
    }

    return RUNCOACH_SIGV4_BAD_REQUEST;
}


static runcoach_sigv4_rc_e
runcoach_sigv4_check_time(runcoach_sigv4_canonical_t *canonical, time_t now)
{
    int              expires;
    time_t           date;
    runcoach_str_t  *arg;

    arg = runcoach_sigv4_arg(canonical, "X-Amz-Date");

    if (arg == NULL || arg->len != RUNCOACH_SIGV4_DATE) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    memcpy(canonical->date, arg->data, RUNCOACH_SIGV4_DATE);
    canonical->date[RUNCOACH_SIGV4_DATE] = '\0';

    if (!runcoach_sigv4_parse_date(&date, canonical->date)) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    arg = runcoach_sigv4_arg(canonical, "X-Amz-Expires");
    if (arg == NULL) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    expires = runcoach_sigv4_number((const char *) arg->data, arg->len);

    if (expires < 1 || expires > RUNCOACH_SIGV4_MAX_EXPIRES) {
        return RUNCOACH_SIGV4_BAD_EXPIRES;
    }

    if (date - now >= RUNCOACH_SIGV4_AHEAD) {
        return RUNCOACH_SIGV4_NOT_YET;
    }

    if (now - date > expires) {
        return RUNCOACH_SIGV4_EXPIRED;
    }

    return RUNCOACH_SIGV4_OK;
}


static runcoach_sigv4_rc_e
runcoach_sigv4_check_scope(runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_credential_t *cred)
{
    u_char                  buf[RUNCOACH_SIGV4_MAX_SCOPE];
    runcoach_str_t         *arg;
    runcoach_sigv4_text_t   text;

    arg = runcoach_sigv4_arg(canonical, "X-Amz-Algorithm");

    if (arg == NULL
        || !runcoach_sigv4_is_literal(arg, RUNCOACH_SIGV4_ALGORITHM))
    {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    arg = runcoach_sigv4_arg(canonical, "X-Amz-Credential");
    if (arg == NULL) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    text.pos = buf;
    text.last = buf + sizeof(buf);
    text.full = 0;

    runcoach_sigv4_put_str(&text, &cred->access_key);
    runcoach_sigv4_put(&text, "/", 1);
    runcoach_sigv4_put_scope(&text, cred, canonical->date);

    if (!runcoach_sigv4_encodes(arg, buf, text.pos - buf)) {
        return RUNCOACH_SIGV4_DENIED;
    }

    arg = runcoach_sigv4_arg(canonical, "X-Amz-Security-Token");

    if (arg == NULL) {
        return cred->session_token.len == 0 ? RUNCOACH_SIGV4_OK
                                            : RUNCOACH_SIGV4_DENIED;
    }

    if (!runcoach_sigv4_encodes(arg, cred->session_token.data,
                                cred->session_token.len))
    {
        return RUNCOACH_SIGV4_DENIED;
    }

    return RUNCOACH_SIGV4_OK;
}


static runcoach_sigv4_rc_e
runcoach_sigv4_find_headers(runcoach_sigv4_canonical_t *canonical,
    const runcoach_sigv4_signed_t *request)
{
    int                     host;
    const u_char           *p, *last, *end;
    runcoach_str_t         *arg, *names;
    runcoach_sigv4_pair_t  *header;

    arg = runcoach_sigv4_arg(canonical, "X-Amz-SignedHeaders");
    if (arg == NULL) {
        return RUNCOACH_SIGV4_BAD_REQUEST;
    }

    if (runcoach_sigv4_decode(NULL, arg) > RUNCOACH_SIGV4_MAX_NAMES) {
        return RUNCOACH_SIGV4_TOO_LARGE;
    }

    names = &canonical->names;
    names->data = canonical->names_buf;
    names->len = runcoach_sigv4_decode(canonical->names_buf, arg);

    canonical->nheaders = 0;
    header = canonical->headers;
    last = names->data + names->len;
    host = 0;

    for (p = names->data; p <= last; p = end + 1) {

        if (canonical->nheaders == RUNCOACH_SIGV4_MAX_PAIRS + 1) {
            return RUNCOACH_SIGV4_TOO_LARGE;
        }

        end = memchr(p, ';', last - p);
        if (end == NULL) {
            end = last;
        }

        header->name.data = p;
        header->name.len = end - p;

        if (!runcoach_sigv4_is_header(&header->name)
            || (canonical->nheaders != 0
                && runcoach_sigv4_compare_str(&header[-1].name, &header->name)
                   >= 0)
            || !request->header(request->data, &header->name, &header->value))
        {
            return RUNCOACH_SIGV4_BAD_REQUEST;
        }

        host |= runcoach_sigv4_is_literal(&header->name, "host");

        canonical->nheaders++;
        header++;
    }

    return host ? RUNCOACH_SIGV4_OK : RUNCOACH_SIGV4_BAD_REQUEST;
}


static runcoach_sigv4_rc_e
runcoach_sigv4_sign(char *signature, const runcoach_sigv4_credential_t *cred,
    runcoach_sigv4_day_key_t *day, const runcoach_sigv4_canonical_t *canonical)
{
    char                    hex[RUNCOACH_SIGV4_HEX];
    u_char                  digest[RUNCOACH_SIGV4_HASH];
    u_char                  buf[RUNCOACH_SIGV4_MAX_SCOPE + 128];
    SHA256_CTX              sha;
    runcoach_sigv4_text_t   text;

    if (!runcoach_sigv4_hash_request(digest, canonical)) {
        return RUNCOACH_SIGV4_ERROR;
    }

    runcoach_sigv4_hex(hex, digest, sizeof(digest));

    text.pos = buf;
    text.last = buf + sizeof(buf);
    text.full = 0;

    runcoach_sigv4_put(&text, RUNCOACH_SIGV4_ALGORITHM "\n",
                       sizeof(RUNCOACH_SIGV4_ALGORITHM "\n") - 1);
    runcoach_sigv4_put(&text, canonical->date, RUNCOACH_SIGV4_DATE);
    runcoach_sigv4_put(&text, "\n", 1);
    runcoach_sigv4_put_scope(&text, cred, canonical->date);
    runcoach_sigv4_put(&text, "\n", 1);
    runcoach_sigv4_put(&text, hex, sizeof(hex));

    sha = day->inner;

    if (!SHA256_Update(&sha, buf, text.pos - buf)
        || !SHA256_Final(digest, &sha))
    {
        return RUNCOACH_SIGV4_ERROR;
    }

    sha = day->outer;

    if (!SHA256_Update(&sha, digest, sizeof(digest))
        || !SHA256_Final(digest, &sha))
    {
        return RUNCOACH_SIGV4_ERROR;
    }

    runcoach_sigv4_hex(signature, digest, sizeof(digest));

    return RUNCOACH_SIGV4_OK;
}


static int
runcoach_sigv4_hash_request(u_char *digest,
    const runcoach_sigv4_canonical_t *canonical)
{
    int         ok;
    size_t      i;
    SHA256_CTX  sha;

    ok = SHA256_Init(&sha)
         && SHA256_Update(&sha, canonical->method.data, canonical->method.len)
         && SHA256_Update(&sha, "\n", 1)
         && SHA256_Update(&sha, canonical->path.data, canonical->path.len)
         && SHA256_Update(&sha, "\n", 1)
         && runcoach_sigv4_hash_query(&sha, canonical)
         && SHA256_Update(&sha, "\n", 1);

    for (i = 0; ok && i < canonical->nheaders; i++) {
        ok = runcoach_sigv4_hash_pair(&sha, &canonical->headers[i]);
    }

    return ok
           && SHA256_Update(&sha, "\n", 1)
           && SHA256_Update(&sha, canonical->names.data, canonical->names.len)
           && SHA256_Update(&sha, "\nUNSIGNED-PAYLOAD", 17)
           && SHA256_Final(digest, &sha);
}


static int
runcoach_sigv4_hash_query(SHA256_CTX *sha,
    const runcoach_sigv4_canonical_t *canonical)
{
    int                           ok;
    size_t                        i;
    const runcoach_sigv4_pair_t  *pair;

    if (canonical->args.data != NULL) {
        return SHA256_Update(sha, canonical->args.data, canonical->args.len);
    }

    ok = 1;

    for (i = 0; ok && i < canonical->nquery; i++) {
        pair = &canonical->query[i];

        ok = SHA256_Update(sha, "&", i != 0)
             && SHA256_Update(sha, pair->name.data, pair->name.len)
             && SHA256_Update(sha, "=", 1)
             && SHA256_Update(sha, pair->value.data, pair->value.len);
    }

    return ok;
}


static int
runcoach_sigv4_hash_pair(SHA256_CTX *sha, const runcoach_sigv4_pair_t *pair)
{
    return SHA256_Update(sha, pair->name.data, pair->name.len)
           && SHA256_Update(sha, ":", 1)
           && runcoach_sigv4_hash_value(sha, &pair->value)
           && SHA256_Update(sha, "\n", 1);
}


/*
 * Without the blanks at its ends, and with one space for several.
 */

static int
runcoach_sigv4_hash_value(SHA256_CTX *sha, const runcoach_str_t *value)
{
    const u_char  *p, *last, *word;

    p = value->data;
    last = p + value->len;

    while (p != last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (p != last && (last[-1] == ' ' || last[-1] == '\t')) {
        last--;
    }

    for (word = p; p != last; p++) {

        if (p[0] == ' ' && p[1] == ' ') {

            if (!SHA256_Update(sha, word, p - word)) {
                return 0;
            }

            word = p + 1;
        }
    }

    return SHA256_Update(sha, word, last - word);
}


/*
 * Four HMACs give the key of a day; date is the one that is being signed, so
 * the two cannot fall on either side of midnight.
 */

static int
runcoach_sigv4_renew(runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_credential_t *cred, const char *date)
{
    int     ok;
    u_char  key[RUNCOACH_SIGV4_HASH];

    if (memcmp(day->date, date, RUNCOACH_SIGV4_DAY) == 0) {
        return 1;
    }

    memset(day->date, 0, sizeof(day->date));

    ok = runcoach_sigv4_derive(key, cred, date)
         && runcoach_sigv4_prepare(&day->inner, key, 0x36)
         && runcoach_sigv4_prepare(&day->outer, key, 0x5c);

    OPENSSL_cleanse(key, sizeof(key));

    if (ok) {
        runcoach_sigv4_set_scope(day, cred, date);
        memcpy(day->date, date, RUNCOACH_SIGV4_DAY);
    }

    return ok;
}


static void
runcoach_sigv4_set_scope(runcoach_sigv4_day_key_t *day,
    const runcoach_sigv4_credential_t *cred, const char *date)
{
    u_char                 buf[RUNCOACH_SIGV4_MAX_SCOPE];
    runcoach_sigv4_text_t  text;

    text.pos = buf;
    text.last = buf + sizeof(buf);
    text.full = 0;

    runcoach_sigv4_put_str(&text, &cred->access_key);
    runcoach_sigv4_put(&text, "/", 1);
    runcoach_sigv4_put_scope(&text, cred, date);

    day->nscope = runcoach_sigv4_encode(day->scope, buf, text.pos - buf, 0);
}


static int
runcoach_sigv4_derive(u_char *key, const runcoach_sigv4_credential_t *cred,
    const char *date)
{
    int     ok;
    size_t  n;
    u_char  secret[4 + RUNCOACH_SIGV4_MAX_NAME];

    n = cred->secret_key.len;

    memcpy(secret, "AWS4", 4);
    memcpy(secret + 4, cred->secret_key.data, n);

    ok = runcoach_sigv4_hmac(key, secret, 4 + n, date, RUNCOACH_SIGV4_DAY)
         && runcoach_sigv4_hmac(key, key, RUNCOACH_SIGV4_HASH,
                                cred->region.data, cred->region.len)
         && runcoach_sigv4_hmac(key, key, RUNCOACH_SIGV4_HASH, "s3", 2)
         && runcoach_sigv4_hmac(key, key, RUNCOACH_SIGV4_HASH,
                                "aws4_request", 12);

    OPENSSL_cleanse(secret, sizeof(secret));

    return ok;
}


static int
runcoach_sigv4_prepare(SHA256_CTX *sha, const u_char *key, u_char pad)
{
    int     ok;
    size_t  i;
    u_char  block[RUNCOACH_SIGV4_BLOCK];

    memset(block, pad, sizeof(block));

    for (i = 0; i < RUNCOACH_SIGV4_HASH; i++) {
        block[i] ^= key[i];
    }

    ok = SHA256_Init(sha) && SHA256_Update(sha, block, sizeof(block));

    OPENSSL_cleanse(block, sizeof(block));

    return ok;
}


static int
runcoach_sigv4_hmac(u_char *dst, const void *key, size_t nkey,
    const void *data, size_t n)
{
    return HMAC(EVP_sha256(), key, (int) nkey, data, n, dst, NULL) != NULL;
}


static void
runcoach_sigv4_hex(char *dst, const u_char *src, size_t n)
{
    size_t  i;

    static const char  hex[] =
        "000102030405060708090a0b0c0d0e0f"
        "101112131415161718191a1b1c1d1e1f"
        "202122232425262728292a2b2c2d2e2f"
        "303132333435363738393a3b3c3d3e3f"
        "404142434445464748494a4b4c4d4e4f"
        "505152535455565758595a5b5c5d5e5f"
        "606162636465666768696a6b6c6d6e6f"
        "707172737475767778797a7b7c7d7e7f"
        "808182838485868788898a8b8c8d8e8f"
        "909192939495969798999a9b9c9d9e9f"
        "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
        "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
        "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
        "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
        "e0e1e2e3e4e5e6e7e8e9eaebecedeeef"
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

    for (i = 0; i < n; i++) {
        memcpy(dst + 2 * i, hex + 2 * src[i], 2);
    }
}


static inline void
runcoach_sigv4_put(runcoach_sigv4_text_t *text, const void *data, size_t n)
{
    if (text->full || (size_t) (text->last - text->pos) < n) {
        text->full = 1;
        return;
    }

    if (n != 0) {
        memcpy(text->pos, data, n);
        text->pos += n;
    }
}


static void
runcoach_sigv4_put_str(runcoach_sigv4_text_t *text, const runcoach_str_t *s)
{
    runcoach_sigv4_put(text, s->data, s->len);
}


static void
runcoach_sigv4_put_encoded(runcoach_sigv4_text_t *text,
    const runcoach_str_t *s, int keep_slash)
{
    size_t  i, n;
    u_char  code[3];

    if ((size_t) (text->last - text->pos) / 3 >= s->len) {
        text->pos += runcoach_sigv4_encode(text->pos, s->data, s->len,
                                           keep_slash);
        return;
    }

    for (i = 0; i < s->len; i++) {
        n = runcoach_sigv4_encode(code, &s->data[i], 1, keep_slash);
        runcoach_sigv4_put(text, code, n);
    }
}


static void
runcoach_sigv4_put_scope(runcoach_sigv4_text_t *text,
    const runcoach_sigv4_credential_t *cred, const char *date)
{
    runcoach_sigv4_put(text, date, RUNCOACH_SIGV4_DAY);
    runcoach_sigv4_put(text, "/", 1);
    runcoach_sigv4_put_str(text, &cred->region);
    runcoach_sigv4_put(text, "/s3/aws4_request", 16);
}


/*
 * The order is that of the encoded text, whether s is encoded yet or not:
 * "%" comes before all that stays as it is, and digits of higher bytes after
 * those of lower ones.
 */

static int
runcoach_sigv4_compare_str(const runcoach_str_t *a, const runcoach_str_t *b)
{
    size_t  i;

    for (i = 0; i < a->len && i < b->len; i++) {
        if (a->data[i] != b->data[i]) {
            return runcoach_sigv4_rank(a->data[i])
                   - runcoach_sigv4_rank(b->data[i]);
        }
    }

    return (a->len > b->len) - (a->len < b->len);
}


static int
runcoach_sigv4_rank(u_char c)
{
    return runcoach_sigv4_unreserved(c) ? 256 + c : c;
}


static int
runcoach_sigv4_compare(const runcoach_sigv4_pair_t *a,
    const runcoach_sigv4_pair_t *b)
{
    int  rc;

    rc = runcoach_sigv4_compare_str(&a->name, &b->name);

    return (rc != 0) ? rc : runcoach_sigv4_compare_str(&a->value, &b->value);
}


static void
runcoach_sigv4_sort(runcoach_sigv4_pair_t *pairs, size_t n)
{
    size_t                 i, j;
    runcoach_sigv4_pair_t  pair;

    for (i = 1; i < n; i++) {
        pair = pairs[i];

        for (j = i; j > 0; j--) {

            if (runcoach_sigv4_compare(&pairs[j - 1], &pair) <= 0) {
                break;
            }

            pairs[j] = pairs[j - 1];
        }

        pairs[j] = pair;
    }
}


static int
runcoach_sigv4_is_literal(const runcoach_str_t *s, const char *literal)
{
    return s->len == strlen(literal) && memcmp(s->data, literal, s->len) == 0;
}


static int
runcoach_sigv4_is_ours(const runcoach_str_t *name)
{
    const char *const  *p;

    static const char *const  ours[] = {
        "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
        "X-Amz-Security-Token", "X-Amz-Signature", "X-Amz-SignedHeaders", NULL
    };

    for (p = ours; *p != NULL; p++) {
        if (runcoach_sigv4_is_literal(name, *p)) {
            return 1;
        }
    }

    return 0;
}


static int
runcoach_sigv4_is_word(const runcoach_str_t *s)
{
    size_t  i;

    for (i = 0; i < s->len; i++) {
        if (!runcoach_sigv4_unreserved(s->data[i])) {
            return 0;
        }
    }

    return s->len != 0;
}


static int
runcoach_sigv4_is_header(const runcoach_str_t *name)
{
    size_t  i;

    for (i = 0; i < name->len; i++) {
        if (name->data[i] >= 'A' && name->data[i] <= 'Z') {
            return 0;
        }
    }

    return runcoach_sigv4_is_word(name);
}


static int
runcoach_sigv4_is_host(const runcoach_str_t *host)
{
    size_t  i;
    u_char  c;

    for (i = 0; i < host->len; i++) {
        c = host->data[i];

        if (!runcoach_sigv4_unreserved(c) && c != ':' && c != '[' && c != ']') {
            return 0;
        }
    }

    return host->len != 0;
}


static int
runcoach_sigv4_is_base(const runcoach_str_t *base)
{
    if (base->len == 0) {
        return 1;
    }

    return base->data[0] == '/'
           && base->data[base->len - 1] != '/'
           && runcoach_sigv4_is_encoded(base, 1);
}


static int
runcoach_sigv4_is_printable(const runcoach_str_t *s)
{
    size_t  i;

    for (i = 0; i < s->len; i++) {
        if (s->data[i] < 0x20 || s->data[i] == 0x7f) {
            return 0;
        }
    }

    return 1;
}


/*
 * Whether s is what runcoach_sigv4_encode() would have made of something.
 */

static int
runcoach_sigv4_is_encoded(const runcoach_str_t *s, int keep_slash)
{
    int     high, low, c;
    size_t  i;

    for (i = 0; i < s->len; i++) {
        c = s->data[i];

        if (runcoach_sigv4_unreserved(c) || (c == '/' && keep_slash)) {
            continue;
        }

        if (c != '%' || s->len - i < 3) {
            return 0;
        }

        high = runcoach_sigv4_hex_value(s->data[++i]);
        low = runcoach_sigv4_hex_value(s->data[++i]);

        if (high == -1 || low == -1) {
            return 0;
        }

        c = high << 4 | low;

        if (runcoach_sigv4_unreserved(c) || (c == '/' && keep_slash)) {
            return 0;
        }
    }

    return 1;
}


static int
runcoach_sigv4_hex_value(u_char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    return (c >= 'A' && c <= 'F') ? c - 'A' + 10 : -1;
}


/*
 * Of what is_encoded(); the length alone if dst is NULL.
 */

static size_t
runcoach_sigv4_decode(u_char *dst, const runcoach_str_t *s)
{
    u_char  c;
    size_t  i, n;

    n = 0;

    for (i = 0; i < s->len; i++) {
        c = s->data[i];

        if (c == '%') {
            c = runcoach_sigv4_hex_value(s->data[i + 1]) << 4
                | runcoach_sigv4_hex_value(s->data[i + 2]);
            i += 2;
        }

        if (dst != NULL) {
            dst[n] = c;
        }

        n++;
    }

    return n;
}


static int
runcoach_sigv4_encodes(const runcoach_str_t *s, const u_char *raw, size_t n)
{
    u_char  buf[RUNCOACH_SIGV4_MAX_URL];

    return runcoach_sigv4_decode(NULL, s) == n
           && runcoach_sigv4_decode(buf, s) == n
           && CRYPTO_memcmp(buf, raw, n) == 0;
}


/*
 * By the days since 1 March of year 0, so that the leap day ends a year;
 * strftime() would cost as much as the signature.
 */

static int
runcoach_sigv4_format_date(char *date, time_t t)
{
    unsigned  days, era, year, month, second;

    if (t < 0 || t > RUNCOACH_SIGV4_MAX_TIME) {
        return 0;
    }

    days = t / 86400 + 719468;
    second = t % 86400;

    era = days / 146097;
    days %= 146097;

    year = (days - days / 1460 + days / 36524 - days / 146096) / 365;
    days -= 365 * year + year / 4 - year / 100;
    month = (5 * days + 2) / 153;
    days -= (153 * month + 2) / 5;

    month = month < 10 ? month + 3 : month - 9;
    year += era * 400 + (month <= 2);

    runcoach_sigv4_digits(date, year, 4);
    runcoach_sigv4_digits(date + 4, month, 2);
    runcoach_sigv4_digits(date + 6, days + 1, 2);
    date[8] = 'T';
    runcoach_sigv4_digits(date + 9, second / 3600, 2);
    runcoach_sigv4_digits(date + 11, second / 60 % 60, 2);
    runcoach_sigv4_digits(date + 13, second % 60, 2);
    date[15] = 'Z';
    date[16] = '\0';

    return 1;
}


static void
runcoach_sigv4_digits(char *p, unsigned value, size_t n)
{
    while (n-- != 0) {
        p[n] = '0' + value % 10;
        value /= 10;
    }
}


/*
 * timegm() makes a date of anything: of 31 February, the 3rd of March.  Only
 * a real one comes back as it was.
 */

static int
runcoach_sigv4_parse_date(time_t *t, const char *date)
{
    char       again[RUNCOACH_SIGV4_DATE + 1];
    struct tm  tm;

    memset(&tm, 0, sizeof(struct tm));

    tm.tm_year = runcoach_sigv4_number(date, 4) - 1900;
    tm.tm_mon = runcoach_sigv4_number(date + 4, 2) - 1;
    tm.tm_mday = runcoach_sigv4_number(date + 6, 2);
    tm.tm_hour = runcoach_sigv4_number(date + 9, 2);
    tm.tm_min = runcoach_sigv4_number(date + 11, 2);
    tm.tm_sec = runcoach_sigv4_number(date + 13, 2);

    *t = timegm(&tm);

    return runcoach_sigv4_format_date(again, *t) && strcmp(again, date) == 0;
}


/*
 * Of one to six decimal digits; or -1.
 */

static int
runcoach_sigv4_number(const char *p, size_t n)
{
    int     value;
    size_t  i;

    if (n == 0 || n > 6) {
        return -1;
    }

    value = 0;

    for (i = 0; i < n; i++) {

        if (p[i] < '0' || p[i] > '9') {
            return -1;
        }

        value = value * 10 + (p[i] - '0');
    }

    return value;
}


size_t
runcoach_sigv4_max(const runcoach_sigv4_credential_t *cred,
    const runcoach_sigv4_request_t *request)
{
    size_t                        i, n;
    const runcoach_sigv4_pair_t  *pair;

    n = RUNCOACH_SIGV4_FIXED + request->scheme.len + request->host.len
        + request->base.len
        + 3 * (request->key.len + cred->access_key.len + cred->region.len
               + cred->session_token.len);

    for (i = 0; i < request->nheaders; i++) {
        n += request->headers[i].name.len + 3;
    }

    for (i = 0; i < request->nquery; i++) {
        pair = &request->query[i];
        n += 3 * (pair->name.len + pair->value.len) + 2;
    }

    return n;
}


const char *
runcoach_sigv4_reason(runcoach_sigv4_rc_e rc)
{
    static const char *const  reasons[] = {
        "ok",
        "invalid-key",
        "invalid-expires",
        "invalid-request",
        "too-large",
        "access-denied",
        "expired",
        "not-yet-valid",
        "signature-mismatch",
        "internal-error"
    };

    if ((size_t) rc >= sizeof(reasons) / sizeof(reasons[0])) {
        return "internal-error";
    }

    return reasons[rc];
}
