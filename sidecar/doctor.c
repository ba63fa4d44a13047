
/*
 * Whether everything that is configured is there and does what we need: a line
 * for each, with what to do if it is not.
 */

#define _GNU_SOURCE  /* strcasestr() */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "commands.h"
#include "jobs.h"
#include "migrate.h"


#define DOCTOR_BODY    65536
#define DOCTOR_PROBE   "runcoach doctor\n"

/* seconds a clock may be wrong: tokens bear little, signatures more */

#define DOCTOR_DRIFT   3
#define DOCTOR_WRONG   60


typedef enum {
    DOCTOR_OK = 0,
    DOCTOR_WARNING,
    DOCTOR_FAILURE
} doctor_verdict_e;


typedef struct {
    worker_t      w;
    unsigned      warnings;
    unsigned      failures;
    long          drift;            /* seconds we are ahead */
    unsigned      clocks;           /* how many were compared with ours */
} doctor_t;


typedef struct {
    CURL               *curl;
    struct curl_slist  *headers;
    long                status;      /* 0: no answer */
    char                error[CURL_ERROR_SIZE];
    char                origin[256];         /* what CORS allows */
    char                methods[256];
    time_t              date;
    time_t              sent;
    size_t              len;
    char                body[DOCTOR_BODY];
} doctor_fetch_t;


static void doctor_database(doctor_t *d);
static void doctor_schema(doctor_t *d);
static void doctor_redis(doctor_t *d);
static void doctor_store(doctor_t *d);
static int doctor_objects(doctor_t *d, const char *key);
static r2_rc_e doctor_probe(doctor_t *d, const char *key, r2_head_t *head,
    const char **step, int *same);
static void doctor_cors(doctor_t *d, const char *key);
static void doctor_origin(doctor_t *d, const char *url, const char *origin);
static void doctor_clerk(doctor_t *d);
static int doctor_jwks_url(const config_t *cf, char *url, size_t size);
static void doctor_jwks(doctor_t *d, const char *url);
static void doctor_pem(doctor_t *d, const char *pem);
static void doctor_webhooks(doctor_t *d);
static void doctor_clock(doctor_t *d);
static void doctor_fetch(doctor_t *d, doctor_fetch_t *f, const char *method,
    const char *url);
static size_t doctor_header(char *p, size_t size, size_t n, void *data);
static size_t doctor_write(char *p, size_t size, size_t n, void *data);
static void doctor_say(doctor_t *d, doctor_verdict_e verdict, const char *what,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));


int
command_doctor(const config_t *cf, int argc, char **argv)
{
    doctor_t  d;

    (void) argv;

    if (argc != 0) {
        return COMMAND_USAGE;
    }

    memset(&d, 0, sizeof(doctor_t));

    d.w.cf = cf;
    d.w.db = db_create(cf->database, cf->statement);
    d.w.redis = redis_create(cf->redis_url != NULL ? &cf->redis : NULL);
    d.w.r2 = cf->store_enabled ? r2_create(cf) : NULL;

    if (d.w.db == NULL || d.w.redis == NULL
        || (cf->store_enabled && d.w.r2 == NULL))
    {
        return 1;
    }

    doctor_say(&d, DOCTOR_OK, "configuration", "every value is understood");

    doctor_database(&d);
    doctor_redis(&d);
    doctor_store(&d);
    doctor_clerk(&d);
    doctor_webhooks(&d);
    doctor_clock(&d);

    printf("%u failures, %u warnings\n", d.failures, d.warnings);

    db_free(d.w.db);
    redis_free(d.w.redis);
    r2_free(d.w.r2);

    return (d.failures == 0) ? 0 : 1;
}


int
command_doctor_config(const char *error)
{
    printf("failure  configuration: %s\n", error);
    printf("1 failures, 0 warnings\n");

    return 1;
}


static void
doctor_database(doctor_t *d)
{
    PGresult  *res;

    static const char  sql[] =
        "SELECT current_setting('server_version_num')::integer,"
        " current_setting('server_version'), pg_is_in_recovery(),"
        " current_setting('server_encoding')";

    if (d->w.cf->database == NULL) {
        doctor_say(d, DOCTOR_FAILURE, "database",
                   "DATABASE_URL is not set: webhooks and completions are "
                   "answered 503; set it");
        return;
    }

    if (db_query(d->w.db, "doctor", sql, 0, NULL, &res) != DB_OK) {
        doctor_say(d, DOCTOR_FAILURE, "database",
                   "no answer, for the reason above: see that DATABASE_URL has "
                   "the right host, user, password and database, and that the "
                   "server can be reached from here");
        return;
    }

    if (strcmp(db_value(res, 2), "t") == 0) {
        doctor_say(d, DOCTOR_FAILURE, "database",
                   "the server is a read-only replica: DATABASE_URL must name "
                   "the primary");

    } else if (strcmp(db_value(res, 3), "UTF8") != 0) {
        doctor_say(d, DOCTOR_FAILURE, "database",
                   "its encoding is %s: make one with ENCODING 'UTF8'",
                   db_value(res, 3));

    } else if (atoi(db_value(res, 0)) < 130000) {
        doctor_say(d, DOCTOR_WARNING, "database",
                   "PostgreSQL %s is older than what is tested (13)",
                   db_value(res, 1));

    } else {
        doctor_say(d, DOCTOR_OK, "database", "PostgreSQL %s",
                   db_value(res, 1));
    }

    PQclear(res);

    doctor_schema(d);
}


static void
doctor_schema(doctor_t *d)
{
    unsigned  pending, unknown;

    if (migrate_pending(d->w.db, &pending, &unknown) != 0) {
        doctor_say(d, DOCTOR_FAILURE, "schema",
                   "it cannot be read: see that the user of DATABASE_URL may "
                   "read and write its tables");

    } else if (pending != 0) {
        doctor_say(d, DOCTOR_FAILURE, "schema",
                   "%u migrations are not applied: run \"runcoach-sidecar "
                   "migrate up\"", pending);

    } else if (unknown != 0) {
        doctor_say(d, DOCTOR_WARNING, "schema",
                   "%u migrations are of a newer program: deploy that",
                   unknown);

    } else {
        doctor_say(d, DOCTOR_OK, "schema", "all migrations are applied");
    }
}


static void
doctor_redis(doctor_t *d)
{
    redisReply  *reply;
    const char  *ping[] = { "PING" };
    const char  *xlen[] = { "XLEN", "runcoach:uploads" };

    if (d->w.cf->redis_url == NULL) {
        doctor_say(d, DOCTOR_WARNING, "redis",
                   "REDIS_URL is not set: limits are local to each edge, there "
                   "are no sessions, jobs wait up to 15 seconds");
        return;
    }

    if (redis_command(d->w.redis, &reply, 2000, -1, 1, ping) != REDIS_DONE) {
        doctor_say(d, DOCTOR_FAILURE, "redis",
                   "no answer, for the reason above: see that REDIS_URL has "
                   "the right host, password and scheme (rediss:// for TLS)");
        return;
    }

    freeReplyObject(reply);

    if (redis_command(d->w.redis, &reply, 2000, -1, 2, xlen) != REDIS_DONE) {
        doctor_say(d, DOCTOR_FAILURE, "redis",
                   "no streams, for the reason above: it must be Redis 5 or "
                   "newer, and the user may use runcoach:*");
        return;
    }

    doctor_say(d, DOCTOR_OK, "redis", "answers; %lld uploads are announced",
               reply->integer);
    freeReplyObject(reply);
}


static void
doctor_store(doctor_t *d)
{
    char  key[96];

    if (d->w.r2 == NULL) {
        doctor_say(d, DOCTOR_WARNING, "store",
                   "none is configured: uploads are answered 503; set "
                   "R2_ACCOUNT_ID or R2_ENDPOINT_URL, R2_ACCESS_KEY, "
                   "R2_SECRET_KEY and R2_BUCKET_NAME");
        return;
    }

    snprintf(key, sizeof(key), "users/runcoach-doctor/activities/%lld%05d.fit",
             (long long) time(NULL), (int) getpid() % 100000);

    if (doctor_objects(d, key) == 0) {
        doctor_cors(d, key);
    }
}


static int
doctor_objects(doctor_t *d, const char *key)
{
    int                         same;
    r2_rc_e                     rc;
    r2_head_t                   head;
    const char                 *step;
    const runcoach_endpoint_t  *store;

    store = &d->w.cf->store;
    memset(&head, 0, sizeof(r2_head_t));

    rc = doctor_probe(d, key, &head, &step, &same);

    /* whatever has become of it, it must not stay */

    if (strcmp(step, "PUT") != 0 && r2_delete(d->w.r2, key) != R2_OK
        && rc == R2_OK)
    {
        step = "DELETE";
        rc = R2_RETRY;
    }

    if (rc != R2_OK) {
        doctor_say(d, DOCTOR_FAILURE, "store",
                   "%s of a probe object at %s://%s%s/ failed%s: see that the "
                   "bucket exists, that R2_JURISDICTION is its own, that the "
                   "store knows this R2_URL_STYLE, and that the key%s may read "
                   "and write objects", step, store->scheme, store->host,
                   store->base,
                   (rc == R2_NOT_FOUND) ? ", there is no such bucket"
                                        : ", for the reason above",
                   (d->w.cf->store_token == NULL)
                   ? "" : " has not expired with its R2_SESSION_TOKEN and");
        return -1;
    }

    if (!same) {
        doctor_say(d, DOCTOR_FAILURE, "store",
                   "what was read is not what was written: something stands "
                   "between us and the store");
        return -1;
    }

    doctor_say(d, DOCTOR_OK, "store",
               "PUT, HEAD, GET and DELETE of a probe object at %s://%s%s/%s",
               store->scheme, store->host, store->base,
               (head.sha256[0] == '\0')
               ? "; it tells no SHA-256, so the worker checks it" : "");

    return 0;
}


static r2_rc_e
doctor_probe(doctor_t *d, const char *key, r2_head_t *head, const char **step,
    int *same)
{
    char      sha256[65];
    size_t    n;
    u_char   *data;
    r2_rc_e   rc;

    *step = "PUT";
    *same = 0;

    rc = r2_put(d->w.r2, key, (const u_char *) DOCTOR_PROBE,
                sizeof(DOCTOR_PROBE) - 1, sha256);

    if (rc != R2_OK) {
        return rc;
    }

    *step = "HEAD";

    rc = r2_head(d->w.r2, key, head);

    if (rc != R2_OK) {
        return rc;
    }

    *step = "GET";

    rc = r2_get(d->w.r2, key, head->etag, 4096, &data, &n);

    if (rc == R2_OK) {
        *same = (n == sizeof(DOCTOR_PROBE) - 1
                 && memcmp(data, DOCTOR_PROBE, n) == 0);
        free(data);
    }

    return rc;
}


static void
doctor_cors(doctor_t *d, const char *key)
{
    char         url[RUNCOACH_SIGV4_MAX_URL], origin[256];
    size_t       n;
    const char  *p;

    if (d->w.cf->cors_origins == NULL) {
        doctor_say(d, DOCTOR_OK, "cors",
                   "CORS_ORIGINS is not set: no browser of another origin "
                   "uploads");
        return;
    }

    /* a preflight carries no signature that anybody looks at */

    if (r2_presign(d->w.r2, url, key, 60, NULL) != 0) {
        return;
    }

    for (p = d->w.cf->cors_origins; *p != '\0'; p += n) {
        p += strspn(p, ", ");
        n = strcspn(p, ", ");

        if (n == 0) {
            break;
        }

        if (n >= sizeof(origin)) {
            doctor_say(d, DOCTOR_FAILURE, "cors", "an origin is too long");
            continue;
        }

        memcpy(origin, p, n);
        origin[n] = '\0';

        doctor_origin(d, url, origin);
    }
}


static void
doctor_origin(doctor_t *d, const char *url, const char *origin)
{
    char             line[300];
    doctor_fetch_t  *f;

    f = calloc(1, sizeof(doctor_fetch_t));
    if (f == NULL) {
        return;
    }

    snprintf(line, sizeof(line), "Origin: %s", origin);

    f->headers = curl_slist_append(NULL, line);
    f->headers = curl_slist_append(f->headers,
                                   "Access-Control-Request-Method: PUT");
    f->headers = curl_slist_append(f->headers,
                                   "Access-Control-Request-Headers: "
                                   "content-type, x-amz-checksum-sha256");

    doctor_fetch(d, f, "OPTIONS", url);

    if (f->status >= 200 && f->status < 300
        && (strcmp(f->origin, origin) == 0 || strcmp(f->origin, "*") == 0)
        && (strcasestr(f->methods, "PUT") != NULL
            || strcmp(f->methods, "*") == 0))
    {
        doctor_say(d, DOCTOR_OK, "cors", "%s may PUT", origin);

    } else {
        doctor_say(d, DOCTOR_FAILURE, "cors",
                   "%s may not PUT (status %ld, allowed origin \"%s\", methods "
                   "\"%s\"): the bucket needs the rule [{\"AllowedOrigins\": "
                   "[\"%s\"], \"AllowedMethods\": [\"PUT\", \"GET\", \"HEAD\"],"
                   " \"AllowedHeaders\": [\"content-type\", "
                   "\"x-amz-checksum-sha256\", \"if-none-match\"], "
                   "\"ExposeHeaders\": [\"ETag\"], \"MaxAgeSeconds\": 3600}]",
                   origin, f->status, f->origin, f->methods, origin);
    }

    curl_slist_free_all(f->headers);
    free(f);
}


static void
doctor_clerk(doctor_t *d)
{
    char             url[1024];
    const config_t  *cf;

    cf = d->w.cf;

    if (cf->clerk_pem != NULL) {
        doctor_pem(d, cf->clerk_pem);
        return;
    }

    switch (doctor_jwks_url(cf, url, sizeof(url))) {

    case 0:
        doctor_jwks(d, url);
        break;

    case 1:
        doctor_say(d, DOCTOR_WARNING, "clerk",
                   "no issuer is configured: nobody logs in by token; set "
                   "CLERK_PUBLISHABLE_KEY");
        break;

    default:
        doctor_say(d, DOCTOR_FAILURE, "clerk",
                   "CLERK_PUBLISHABLE_KEY is not pk_test_... or pk_live_...: "
                   "copy it from Clerk's dashboard");
        break;
    }
}


/* 0; 1: nothing says where; -1: the publishable key is none */

static int
doctor_jwks_url(const config_t *cf, char *url, size_t size)
{
    u_char       host[256];
    ssize_t      n;
    const char  *key;

    if (cf->clerk_jwks != NULL) {
        snprintf(url, size, "%s", cf->clerk_jwks);
        return 0;
    }

    if (cf->clerk_issuer != NULL) {
        snprintf(url, size, "%s%s.well-known/jwks.json", cf->clerk_issuer,
                 (cf->clerk_issuer[strlen(cf->clerk_issuer) - 1] == '/')
                 ? "" : "/");
        return 0;
    }

    key = cf->clerk_key;

    if (key == NULL) {
        return 1;
    }

    if ((strncmp(key, "pk_test_", 8) != 0 && strncmp(key, "pk_live_", 8) != 0)
        || runcoach_base64_decoded_max(strlen(key + 8)) > sizeof(host))
    {
        return -1;
    }

    n = runcoach_base64_decode_any(host, (const u_char *) key + 8,
                                   strlen(key + 8));

    if (n < 2 || host[n - 1] != '$'
        || memchr(host, '/', n) != NULL || memchr(host, '\0', n) != NULL)
    {
        return -1;
    }

    snprintf(url, size, "https://%.*s/.well-known/jwks.json", (int) n - 1,
             host);

    return 0;
}


static void
doctor_jwks(doctor_t *d, const char *url)
{
    json_t          *json;
    size_t           keys;
    doctor_fetch_t  *f;

    f = calloc(1, sizeof(doctor_fetch_t));
    if (f == NULL) {
        return;
    }

    doctor_fetch(d, f, "GET", url);

    json = json_loadb(f->body, f->len, 0, NULL);
    keys = json_array_size(json_object_get(json, "keys"));

    if (f->status == 200 && keys > 0) {
        doctor_say(d, DOCTOR_OK, "clerk", "%zu keys at %s", keys, url);

    } else if (f->status == 0) {
        doctor_say(d, DOCTOR_FAILURE, "clerk",
                   "no answer from %s (%s): see that the name is right and can "
                   "be reached from here", url, f->error);

    } else {
        doctor_say(d, DOCTOR_FAILURE, "clerk",
                   "no keys at %s (status %ld): see that CLERK_JWKS_URL, "
                   "CLERK_ISSUER or CLERK_PUBLISHABLE_KEY are of this instance",
                   url, f->status);
    }

    json_decref(json);
    free(f);
}


static void
doctor_pem(doctor_t *d, const char *pem)
{
    BIO       *bio;
    char      *text, *p;
    EVP_PKEY  *key;

    key = NULL;
    text = strdup(pem);
    if (text == NULL) {
        return;
    }

    /* where a variable can have no line feeds, people write "\n" */

    for (p = strstr(text, "\\n"); p != NULL; p = strstr(p, "\\n")) {
        *p = '\n';
        memmove(p + 1, p + 2, strlen(p + 2) + 1);
    }

    bio = BIO_new_mem_buf(text, -1);

    if (bio != NULL) {
        key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    }

    if (key != NULL) {
        doctor_say(d, DOCTOR_OK, "clerk", "CLERK_JWT_KEY is a public key of "
                   "%d bits", EVP_PKEY_bits(key));

    } else {
        doctor_say(d, DOCTOR_FAILURE, "clerk",
                   "CLERK_JWT_KEY is no public key: it must be PEM, with "
                   "\"-----BEGIN PUBLIC KEY-----\"");
    }

    EVP_PKEY_free(key);
    BIO_free(bio);
    free(text);
}


static void
doctor_webhooks(doctor_t *d)
{
    const config_t  *cf;

    cf = d->w.cf;

    if (cf->webhook_secret == NULL) {
        doctor_say(d, DOCTOR_WARNING, "webhooks",
                   "CLERK_WEBHOOK_SECRET is not set: they are answered 503; "
                   "copy the endpoint's signing secret from Clerk's dashboard");

    } else {
        doctor_say(d, DOCTOR_OK, "webhooks", "%zu signing secrets",
                   cf->webhook_secrets.nkeys);
    }

    if (cf->clerk_secret == NULL) {
        doctor_say(d, DOCTOR_OK, "users",
                   "CLERK_SECRET_KEY is not set: people not met before are "
                   "made from their token");
    }
}


static void
doctor_clock(doctor_t *d)
{
    long             drift;
    char             url[1024];
    doctor_fetch_t  *f;

    /* any answer will do, also one that refuses */

    f = calloc(1, sizeof(doctor_fetch_t));

    if (f != NULL && d->w.r2 != NULL) {
        snprintf(url, sizeof(url), "%s://%s/", d->w.cf->store.scheme,
                 d->w.cf->store.host);
        doctor_fetch(d, f, "GET", url);
    }

    free(f);

    if (d->clocks == 0) {
        doctor_say(d, DOCTOR_WARNING, "clock",
                   "nobody has told the time to compare with");
        return;
    }

    drift = labs(d->drift);

    if (drift > DOCTOR_WRONG) {
        doctor_say(d, DOCTOR_FAILURE, "clock",
                   "%ld seconds %s: signatures and tokens will be refused; "
                   "start a time service (NTP)", drift,
                   (d->drift > 0) ? "ahead" : "behind");

    } else if (drift > DOCTOR_DRIFT) {
        doctor_say(d, DOCTOR_WARNING, "clock",
                   "%ld seconds %s: start a time service (NTP)", drift,
                   (d->drift > 0) ? "ahead" : "behind");

    } else {
        doctor_say(d, DOCTOR_OK, "clock", "right within %d seconds",
                   DOCTOR_DRIFT);
    }
}


static void
doctor_fetch(doctor_t *d, doctor_fetch_t *f, const char *method,
    const char *url)
{
    long      drift;
    time_t    now;
    CURLcode  code;

    f->curl = curl_easy_init();
    if (f->curl == NULL) {
        return;
    }

    if (curl_easy_setopt(f->curl, CURLOPT_URL, url) == CURLE_OK
        && curl_easy_setopt(f->curl, CURLOPT_PROTOCOLS_STR, "http,https")
           == CURLE_OK)
    {
        curl_easy_setopt(f->curl, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, f->headers);
        curl_easy_setopt(f->curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(f->curl, CURLOPT_TIMEOUT_MS, 8000L);
        curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, f->error);
        curl_easy_setopt(f->curl, CURLOPT_HEADERFUNCTION, doctor_header);
        curl_easy_setopt(f->curl, CURLOPT_HEADERDATA, f);
        curl_easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, doctor_write);
        curl_easy_setopt(f->curl, CURLOPT_WRITEDATA, f);

        f->sent = time(NULL);
        code = curl_easy_perform(f->curl);
        now = time(NULL);

        if (code == CURLE_OK) {
            curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &f->status);

        } else if (f->error[0] == '\0') {
            snprintf(f->error, sizeof(f->error), "%s",
                     curl_easy_strerror(code));
        }

        /* it was told at some time between sending and now */

        if (code == CURLE_OK && f->date > 0) {
            drift = (f->date < f->sent) ? f->sent - f->date
                    : (f->date > now) ? now - f->date : 0;
            d->clocks++;

            if (labs(drift) > labs(d->drift)) {
                d->drift = drift;
            }
        }
    }

    curl_easy_cleanup(f->curl);
}


static size_t
doctor_header(char *p, size_t size, size_t n, void *data)
{
    doctor_fetch_t *f = data;

    char    line[512], *value;
    size_t  len;

    len = size * n;

    if (len >= sizeof(line)) {
        return len;
    }

    memcpy(line, p, len);
    line[len] = '\0';
    line[strcspn(line, "\r\n")] = '\0';

    value = strchr(line, ':');
    if (value == NULL) {
        return len;
    }

    *value++ = '\0';
    value += strspn(value, " \t");

    if (strcasecmp(line, "date") == 0) {
        f->date = curl_getdate(value, NULL);

    } else if (strcasecmp(line, "access-control-allow-origin") == 0) {
        snprintf(f->origin, sizeof(f->origin), "%.255s", value);

    } else if (strcasecmp(line, "access-control-allow-methods") == 0) {
        snprintf(f->methods, sizeof(f->methods), "%.255s", value);
    }

    return len;
}


static size_t
doctor_write(char *p, size_t size, size_t n, void *data)
{
    doctor_fetch_t *f = data;

    size_t  len;

    len = size * n;

    if (len > sizeof(f->body) - f->len) {
        return 0;
    }

    memcpy(f->body + f->len, p, len);
    f->len += len;

    return len;
}


static void
doctor_say(doctor_t *d, doctor_verdict_e verdict, const char *what,
    const char *fmt, ...)
{
    va_list  args;

    static const char  *names[] = { "ok", "warning", "failure" };

    d->warnings += (verdict == DOCTOR_WARNING);
    d->failures += (verdict == DOCTOR_FAILURE);

    printf("%-7s  %s: ", names[verdict], what);

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);

    printf("\n");
    fflush(stdout);
}
