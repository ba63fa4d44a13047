
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "r2.h"


#define R2_EXPIRES   60
#define R2_CONNECT   3000L
#define R2_DEADLINE  5000L
#define R2_TRANSFER  30000L
#define R2_PAUSE     200000000L
#define R2_LISTING   8388608     /* bytes of a page of a bucket */


struct r2_s {
    CURL                         *curl;
    const config_t               *cf;
    runcoach_sigv4_credential_t   credential;
    runcoach_sigv4_day_key_t      day;

    /* of the request that is running */
    r2_head_t                    *head;
    u_char                       *data;
    size_t                        len;
    size_t                        size;
    size_t                        limit;
    const u_char                 *body;         /* of a PUT */
    size_t                        body_len;
    size_t                        body_sent;
    char                          body_sum[48];
    unsigned                      overflow:1;
    unsigned                      whole:1;      /* the header of the answer */
};


static r2_rc_e r2_request(r2_t *r2, const char *method, const char *key,
    const char *etag);
static r2_rc_e r2_attempt(r2_t *r2, const char *method, const char *url,
    struct curl_slist *headers, const char *key, int *again);
static int r2_sign(r2_t *r2, char *url, const char *method, const char *key,
    unsigned seconds, const runcoach_sigv4_pair_t *header,
    const runcoach_sigv4_pair_t *query);
static size_t r2_header(char *p, size_t size, size_t n, void *data);
static void r2_header_size(r2_head_t *head, const char *p, size_t n);
static void r2_header_etag(r2_head_t *head, const char *p, size_t n);
static void r2_header_sha256(r2_head_t *head, const char *p, size_t n);
static int r2_append(struct curl_slist **headers, const char *line);
static size_t r2_read(char *p, size_t size, size_t n, void *data);
static int r2_seek(void *data, curl_off_t offset, int origin);
static size_t r2_write(char *p, size_t size, size_t n, void *data);
static runcoach_str_t r2_string(const char *s);


r2_t *
r2_create(const config_t *cf)
{
    r2_t  *r2;

    r2 = calloc(1, sizeof(r2_t));
    if (r2 == NULL) {
        return NULL;
    }

    r2->cf = cf;
    r2->credential.access_key = r2_string(cf->store_access_key);
    r2->credential.secret_key = r2_string(cf->store_secret_key);
    r2->credential.region = r2_string(cf->store_region);

    if (cf->store_token != NULL) {
        r2->credential.session_token = r2_string(cf->store_token);
    }

    r2->curl = curl_easy_init();

    if (r2->curl == NULL) {
        free(r2);
        return NULL;
    }

    return r2;
}


void
r2_free(r2_t *r2)
{
    if (r2 != NULL) {
        curl_easy_cleanup(r2->curl);
        OPENSSL_cleanse(&r2->day, sizeof(r2->day));
        free(r2);
    }
}


r2_rc_e
r2_head(r2_t *r2, const char *key, r2_head_t *head)
{
    r2_rc_e  rc;

    r2->head = head;

    rc = r2_request(r2, "HEAD", key, NULL);

    r2->head = NULL;

    if (rc == R2_OK && (head->size < 0 || head->etag[0] == '\0')) {
        log_error("store tells no size or no etag key=%s", log_value(key));
        return R2_RETRY;
    }

    return rc;
}


r2_rc_e
r2_get(r2_t *r2, const char *key, const char *etag, size_t limit,
    u_char **data, size_t *n)
{
    r2_rc_e    rc;
    r2_head_t  head;

    r2->limit = limit;
    r2->head = &head;

    rc = r2_request(r2, "GET", key, etag);

    r2->head = NULL;

    /* not every store looks at If-Match */

    if (rc == R2_OK && etag != NULL && head.etag[0] != '\0'
        && strcmp(etag, head.etag) != 0)
    {
        rc = R2_CHANGED;
    }

    if (rc == R2_OK) {
        *data = r2->data;
        *n = r2->len;

    } else {
        free(r2->data);
        *data = NULL;
        *n = 0;
    }

    r2->data = NULL;
    r2->size = 0;
    r2->limit = 0;

    return rc;
}


r2_rc_e
r2_delete(r2_t *r2, const char *key)
{
    r2_rc_e  rc;

    rc = r2_request(r2, "DELETE", key, NULL);

    return (rc == R2_NOT_FOUND) ? R2_OK : rc;
}


r2_rc_e
r2_put(r2_t *r2, const char *key, const u_char *data, size_t n, char *sha256)
{
    size_t   i;
    u_char   digest[SHA256_DIGEST_LENGTH];
    r2_rc_e  rc;

    SHA256(data, n, digest);

    for (i = 0; i < sizeof(digest); i++) {
        snprintf(sha256 + 2 * i, 3, "%02x", digest[i]);
    }

    (void) EVP_EncodeBlock((u_char *) r2->body_sum, digest, sizeof(digest));

    r2->body = data;
    r2->body_len = n;

    rc = r2_request(r2, "PUT", key, NULL);

    r2->body = NULL;

    return rc;
}


r2_rc_e
r2_list(r2_t *r2, const char *token, listing_t *list, u_char **data)
{
    int                       again;
    char                      url[RUNCOACH_SIGV4_MAX_URL];
    size_t                    n;
    r2_rc_e                   rc;
    unsigned                  tries;
    runcoach_sigv4_pair_t     query[3];
    runcoach_sigv4_request_t  request;

    *data = NULL;

    query[0].name = r2_string("list-type");
    query[0].value = r2_string("2");
    query[1].name = r2_string("max-keys");
    query[1].value = r2_string("1000");
    query[2].name = r2_string("continuation-token");
    query[2].value = r2_string(token);

    memset(&request, 0, sizeof(runcoach_sigv4_request_t));

    request.method = r2_string("GET");
    request.scheme = r2_string(r2->cf->store.scheme);
    request.host = r2_string(r2->cf->store.host);
    request.base = r2_string(r2->cf->store.base);
    request.bucket = 1;
    request.expires = R2_EXPIRES;
    request.query = query;
    request.nquery = (*token == '\0') ? 2 : 3;

    r2->limit = R2_LISTING;
    again = 1;
    rc = R2_RETRY;

    for (tries = 1; again && tries <= 2; tries++) {
        request.now = time(NULL);

        if (runcoach_sigv4_presign((u_char *) url, sizeof(url) - 1, &n,
                                   &r2->credential, &r2->day, &request)
            != RUNCOACH_SIGV4_OK)
        {
            break;
        }

        url[n] = '\0';
        rc = r2_attempt(r2, "GET", url, NULL, "?list-type=2", &again);
    }

    if (rc == R2_OK && listing_parse(list, (char *) r2->data, r2->len) != 0) {
        rc = R2_NOT_FOUND;
    }

    if (rc == R2_OK) {
        *data = r2->data;

    } else {
        free(r2->data);
    }

    r2->data = NULL;
    r2->size = 0;
    r2->limit = 0;

    return rc;
}


int
r2_presign(r2_t *r2, char *url, const char *key, unsigned seconds,
    const char *name)
{
    char                   value[256];
    runcoach_sigv4_pair_t  query;

    if (name == NULL) {
        return r2_sign(r2, url, "GET", key, seconds, NULL, NULL);
    }

    snprintf(value, sizeof(value), "attachment; filename=\"%.200s\"", name);

    query.name = r2_string("response-content-disposition");
    query.value = r2_string(value);

    return r2_sign(r2, url, "GET", key, seconds, NULL, &query);
}


static r2_rc_e
r2_request(r2_t *r2, const char *method, const char *key, const char *etag)
{
    int                     again;
    char                    url[RUNCOACH_SIGV4_MAX_URL];
    char                    match[300], sum[80];
    r2_rc_e                 rc;
    unsigned                tries, bound;
    struct timespec         pause;
    struct curl_slist      *headers;
    runcoach_sigv4_pair_t   header;

    rc = R2_RETRY;
    headers = NULL;
    bound = 0;

    /* x-amz-* headers count only if they are signed */

    if (strcmp(method, "HEAD") == 0) {
        header.name = r2_string("x-amz-checksum-mode");
        header.value = r2_string("ENABLED");
        bound = 1;

        if (r2_append(&headers, "x-amz-checksum-mode: ENABLED") != 0) {
            goto done;
        }
    }

    if (r2->body != NULL) {
        header.name = r2_string("x-amz-checksum-sha256");
        header.value = r2_string(r2->body_sum);
        bound = 1;

        snprintf(sum, sizeof(sum), "x-amz-checksum-sha256: %s", r2->body_sum);

        if (r2_append(&headers, sum) != 0
            || r2_append(&headers, "Content-Type: application/octet-stream")
               != 0
            || r2_append(&headers, "Expect:") != 0)
        {
            goto done;
        }
    }

    if (etag != NULL) {
        snprintf(match, sizeof(match),
                 (strncmp(etag, "W/", 2) == 0) ? "If-Match: %s"
                                               : "If-Match: \"%s\"", etag);

        if (r2_append(&headers, match) != 0) {
            goto done;
        }
    }

    for (tries = 1; tries <= 2; tries++) {

        if (r2_sign(r2, url, method, key, R2_EXPIRES,
                    bound ? &header : NULL, NULL)
            != 0)
        {
            log_error("cannot sign method=%s key=%s", method, log_value(key));
            rc = R2_RETRY;
            break;
        }

        rc = r2_attempt(r2, method, url, headers, key, &again);

        if (!again || tries == 2) {
            break;
        }

        pause.tv_sec = 0;
        pause.tv_nsec = R2_PAUSE;
        nanosleep(&pause, NULL);
    }

done:

    curl_slist_free_all(headers);

    return rc;
}


static r2_rc_e
r2_attempt(r2_t *r2, const char *method, const char *url,
    struct curl_slist *headers, const char *key, int *again)
{
    long      status;
    CURL     *curl;
    CURLcode  code;

    *again = 0;
    status = 0;
    curl = r2->curl;

    r2->len = 0;
    r2->overflow = 0;
    r2->whole = 0;

    /* nothing is left of an answer before this one */

    if (r2->head != NULL) {
        memset(r2->head, 0, sizeof(r2_head_t));
        r2->head->size = -1;
    }

    curl_easy_reset(curl);

    /* PATH_AS_IS: what was signed is what must be sent */

    if (curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https")
           != CURLE_OK)
    {
        return R2_RETRY;
    }

    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, R2_CONNECT);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
                     (r2->limit != 0 || r2->body != NULL) ? R2_TRANSFER
                                                          : R2_DEADLINE);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1024L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, R2_DEADLINE / 1000);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, r2_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, r2);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, r2_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, r2);

    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);

    } else if (r2->body != NULL) {
        r2->body_sent = 0;
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
                         (curl_off_t) r2->body_len);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, r2_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, r2);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, r2_seek);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, r2);

    } else if (strcmp(method, "GET") != 0) {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    }

    code = curl_easy_perform(curl);

    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);

    if (r2->overflow) {
        return R2_TOO_LARGE;
    }

    /* half a header is an answer for curl, and may end in half a number */

    if (code != CURLE_OK || !r2->whole) {
        log_warn("store is not reachable method=%s key=%s reason=%s", method,
                 log_value(key),
                 (code != CURLE_OK) ? log_value(curl_easy_strerror(code))
                                    : "it broke off");
        *again = 1;
        return R2_RETRY;
    }

    if (status >= 200 && status < 300) {
        return R2_OK;
    }

    if (status == 404) {
        return R2_NOT_FOUND;
    }

    if (status == 412) {
        return R2_CHANGED;
    }

    *again = (status == 429 || status >= 500);

    log_error("store refused method=%s key=%s status=%ld", method,
              log_value(key), status);

    return R2_RETRY;
}


static int
r2_sign(r2_t *r2, char *url, const char *method, const char *key,
    unsigned seconds, const runcoach_sigv4_pair_t *header,
    const runcoach_sigv4_pair_t *query)
{
    size_t                    n;
    runcoach_sigv4_request_t  request;

    memset(&request, 0, sizeof(runcoach_sigv4_request_t));

    request.method = r2_string(method);
    request.scheme = r2_string(r2->cf->store.scheme);
    request.host = r2_string(r2->cf->store.host);
    request.base = r2_string(r2->cf->store.base);
    request.key = r2_string(key);
    request.now = time(NULL);
    request.expires = seconds;
    request.headers = header;
    request.nheaders = (header != NULL);
    request.query = query;
    request.nquery = (query != NULL);

    if (runcoach_sigv4_presign((u_char *) url, RUNCOACH_SIGV4_MAX_URL - 1, &n,
                               &r2->credential, &r2->day, &request)
        != RUNCOACH_SIGV4_OK)
    {
        return -1;
    }

    url[n] = '\0';

    return 0;
}


static size_t
r2_header(char *p, size_t size, size_t n, void *data)
{
    r2_t *r2 = data;

    char         date[64];
    size_t       len;
    const char  *value;

    len = size * n;

    /* the line that ends it, also that of an answer before the answer */

    r2->whole = (len <= 2 && p[len - 1] == '\n');

    if (r2->head == NULL) {
        return len;
    }

    value = memchr(p, ':', len);
    if (value == NULL) {
        return len;
    }

    n = value - p;
    value++;
    size = p + len - value;

    while (size > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        size--;
    }

    while (size > 0 && strchr("\r\n \t", value[size - 1]) != NULL) {
        size--;
    }

    if (n == 4 && strncasecmp(p, "etag", 4) == 0) {
        r2_header_etag(r2->head, value, size);

    } else if (n == 14 && strncasecmp(p, "content-length", 14) == 0) {
        r2_header_size(r2->head, value, size);

    } else if (n == 13 && strncasecmp(p, "last-modified", 13) == 0
               && size < sizeof(date))
    {
        memcpy(date, value, size);
        date[size] = '\0';
        r2->head->modified = curl_getdate(date, NULL);

    } else if (n == 21 && strncasecmp(p, "x-amz-checksum-sha256", 21) == 0) {
        r2_header_sha256(r2->head, value, size);
    }

    return len;
}


static void
r2_header_size(r2_head_t *head, const char *p, size_t n)
{
    size_t     i;
    long long  size;

    size = 0;

    for (i = 0; i < n; i++) {

        if (i == 18 || p[i] < '0' || p[i] > '9') {
            return;
        }

        size = size * 10 + (p[i] - '0');
    }

    head->size = (n == 0) ? -1 : size;
}


/* it goes into a header and into the database */

static void
r2_header_etag(r2_head_t *head, const char *p, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (p[i] <= ' ' || p[i] >= 0x7f) {
            return;
        }
    }

    if (n >= 2 && p[0] == '"' && p[n - 1] == '"') {
        p++;
        n -= 2;
    }

    if (n < sizeof(head->etag)) {
        memcpy(head->etag, p, n);
        head->etag[n] = '\0';
    }
}


/* that of a multipart upload is a sum of sums, told by its suffix "-N" */

static void
r2_header_sha256(r2_head_t *head, const char *p, size_t n)
{
    u_char   digest[runcoach_base64_decoded_max(44)];
    ssize_t  len, i;

    if (n > 44) {
        return;
    }

    len = runcoach_base64_decode_any(digest, (const u_char *) p, n);

    if (len != 32) {
        return;
    }

    for (i = 0; i < len; i++) {
        snprintf(head->sha256 + 2 * i, 3, "%02x", digest[i]);
    }
}


static int
r2_append(struct curl_slist **headers, const char *line)
{
    struct curl_slist  *next;

    next = curl_slist_append(*headers, line);
    if (next == NULL) {
        return -1;
    }

    *headers = next;

    return 0;
}


static size_t
r2_read(char *p, size_t size, size_t n, void *data)
{
    r2_t *r2 = data;

    size_t  len;

    len = r2->body_len - r2->body_sent;

    if (len > size * n) {
        len = size * n;
    }

    memcpy(p, r2->body + r2->body_sent, len);
    r2->body_sent += len;

    return len;
}


/* curl sends again what an idle connection that was closed has not taken */

static int
r2_seek(void *data, curl_off_t offset, int origin)
{
    r2_t *r2 = data;

    if (origin != SEEK_SET || offset < 0 || (size_t) offset > r2->body_len) {
        return CURL_SEEKFUNC_FAIL;
    }

    r2->body_sent = (size_t) offset;

    return CURL_SEEKFUNC_OK;
}


static size_t
r2_write(char *p, size_t size, size_t n, void *data)
{
    r2_t *r2 = data;

    long     status;
    size_t   len, want;
    u_char  *bigger;

    len = size * n;

    /* the body of an answer to HEAD or DELETE, or of an error, is nothing */

    status = 0;
    curl_easy_getinfo(r2->curl, CURLINFO_RESPONSE_CODE, &status);

    if (r2->limit == 0 || status < 200 || status > 299) {
        return len;
    }

    if (len > r2->limit - r2->len) {
        r2->overflow = 1;
        return 0;
    }

    if (r2->len + len > r2->size) {
        want = (r2->size == 0) ? 65536 : r2->size;

        while (want < r2->len + len) {
            want *= 2;
        }

        bigger = realloc(r2->data, want);
        if (bigger == NULL) {
            return 0;
        }

        r2->data = bigger;
        r2->size = want;
    }

    memcpy(r2->data + r2->len, p, len);
    r2->len += len;

    return len;
}


static runcoach_str_t
r2_string(const char *s)
{
    runcoach_str_t  str;

    str.data = (const u_char *) s;
    str.len = strlen(s);

    return str;
}
