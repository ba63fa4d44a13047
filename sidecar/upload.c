
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers.h"
#include "jobs.h"
#include "key.h"
#include "metrics.h"
#include "person.h"
#include "runcoach_upload.h"
#include "user.h"


#define UPLOAD_EXPIRES     300
#define UPLOAD_MAX_KEY     500      /* what the column holds */
#define UPLOAD_CANDIDATES  4
#define UPLOAD_FREE_TIER   10.0
#define UPLOAD_TEMPLATE    "users/%s/activities/{object}.fit"

/* an object and what the client says about it; 0 is none */

#define UPLOAD_DIFFERS     1
#define UPLOAD_FITS        2


#define upload_round(x, scale)  ((long long) ((x) * (scale) + 0.5) / (scale))


/* columns of edge_activity() */

enum {
    UPLOAD_OUTCOME = 0,
    UPLOAD_USER,
    UPLOAD_CLERK_ID,
    UPLOAD_ACTIVITY,
    UPLOAD_KEY,
    UPLOAD_SIZE,
    UPLOAD_ETAG,
    UPLOAD_SEEN
};


typedef struct {
    user_t        user;
    char          id[24];           /* what the client calls it */
    long long     size;
    char          checksum[65];     /* hex, or empty */

    PGresult     *row;              /* of edge_activity() */

    unsigned      nkeys;
    char          keys[UPLOAD_CANDIDATES][UPLOAD_MAX_KEY + 1];
    const char   *key;              /* where the object was found */
    unsigned      stored:1;         /* key is the row's, not the template's */
    r2_head_t     head;
} upload_t;


static int upload_body(http_request_t *r, upload_t *u);
static void upload_hex(char *dst, const u_char *base64, size_t n);
static int upload_find(http_request_t *r, worker_t *w, upload_t *u);
static int upload_keys(http_request_t *r, upload_t *u);
static int upload_key(upload_t *u, const char *template, const char *subject);
static void upload_add_key(upload_t *u, const char *key);
static int upload_look(http_request_t *r, worker_t *w, upload_t *u);
static unsigned upload_rank(const upload_t *u, const r2_head_t *head);
static int upload_check(http_request_t *r, worker_t *w, upload_t *u);
static void upload_confirm(http_request_t *r, worker_t *w, upload_t *u);
static int upload_free_tier(json_t *answer, double bytes);
static int upload_row(http_request_t *r, worker_t *w, const user_t *user,
    const char *id, PGresult **row);
static int upload_id(http_request_t *r);
static int upload_name(http_request_t *r, const char **name);


static const char  upload_row_sql[] =
    "SELECT outcome, user_id, clerk_user_id, activity_id, file_key,"
    " file_size, file_etag, seen"
    " FROM edge_activity($1, $2::bigint, $3::bigint)";

static const char  upload_complete_sql[] =
    "SELECT outcome, activity_id, job_id FROM edge_confirm_upload("
    "$1::integer, $2::bigint, $3, $4::bigint, $5, $6, $7::timestamptz)";

static const char  upload_person_sql[] =
    "SELECT outcome, user_id FROM edge_person($1, $2::bigint)";

static const char  upload_delete_sql[] =
    "SELECT outcome, activity_id, file_key, job_id"
    " FROM edge_delete_fit($1::integer, $2::bigint)";

static const char  upload_settle_sql[] =
    "SELECT edge_settle_deletion($1::bigint)";

static const char  upload_stats_sql[] =
    "SELECT p.outcome, p.user_id, count(a.id),"
    " coalesce(sum(a.fit_file_size), 0), t.files, t.bytes"
    " FROM edge_person($1, $2::bigint) p CROSS JOIN edge_account_usage() t"
    " LEFT JOIN activities a ON a.user_id = p.user_id"
    " AND coalesce(a.fit_file_key, a.r2_key) IS NOT NULL"
    " GROUP BY p.outcome, p.user_id, t.files, t.bytes";

static const char  upload_no_activity[] = "Activity not found";
static const char  upload_no_store[] = "Cloud storage not available";


/*
 * Believes the store and not the client: what HEAD tells is what the row gets,
 * in one transaction with the job that analyzes it.  Called again it answers
 * the same.
 */

void
upload_complete(http_request_t *r, worker_t *w)
{
    upload_t  u;

    memset(&u, 0, sizeof(upload_t));

    if (user_identify(r, &u.user) != 0 || upload_body(r, &u) != 0) {
        return;
    }

    http_note(r, " activity=%s", u.id);

    if (w->r2 == NULL) {
        http_fail(r, VERDICT_NOT_CONFIGURED, upload_no_store);
        return;
    }

    if (upload_find(r, w, &u) == 0
        && upload_keys(r, &u) == 0
        && upload_look(r, w, &u) == 0
        && upload_check(r, w, &u) == 0)
    {
        upload_confirm(r, w, &u);
    }

    PQclear(u.row);
}


void
upload_download_url(http_request_t *r, worker_t *w)
{
    char         url[RUNCOACH_SIGV4_MAX_URL];
    json_t      *size;
    size_t       n;
    user_t       user;
    PGresult    *row;
    const char  *key, *name, *type;

    if (user_identify(r, &user) != 0 || upload_id(r) != 0
        || upload_name(r, &name) != 0)
    {
        return;
    }

    if (w->r2 == NULL) {
        http_fail(r, VERDICT_NOT_CONFIGURED, upload_no_store);
        return;
    }

    if (upload_row(r, w, &user, r->id, &row) != 0) {
        return;
    }

    key = db_value(row, UPLOAD_KEY);

    if (db_value(row, UPLOAD_ACTIVITY) == NULL) {
        http_fail(r, VERDICT_NOT_FOUND, upload_no_activity);
        goto done;
    }

    if (key == NULL) {
        http_fail(r, VERDICT_NOT_FOUND, "FIT file not found in cloud storage");
        goto done;
    }

    if (r2_presign(w->r2, url, key, UPLOAD_EXPIRES, name) != 0) {
        log_error("cannot sign a stored key key=%s", log_value(key));
        http_fail(r, VERDICT_RETRY, "Failed to generate download URL");
        goto done;
    }

    n = strlen(key);
    type = (n > 3 && strcmp(key + n - 3, ".gz") == 0)
           ? "application/gzip" : "application/octet-stream";

    size = (db_value(row, UPLOAD_SIZE) == NULL)
           ? json_null() : json_integer(atoll(db_value(row, UPLOAD_SIZE)));

    http_answer(r, 200, json_pack("{s: s, s: i, s: s, s: o}",
                                  "download_url", url,
                                  "expires_in", UPLOAD_EXPIRES,
                                  "content_type", type,
                                  "file_size", size));

done:

    PQclear(row);
}


/*
 * The row first, with a job that removes the object in a minute: if the store
 * does not answer now, the answer to the client is true all the same.
 */

void
upload_delete(http_request_t *r, worker_t *w)
{
    user_t       user;
    PGresult    *person, *res, *settled;
    const char  *params[2], *outcome;

    res = NULL;

    if (user_identify(r, &user) != 0 || upload_id(r) != 0) {
        return;
    }

    http_note(r, " activity=%s", r->id);

    if (w->r2 == NULL) {
        http_fail(r, VERDICT_NOT_CONFIGURED, upload_no_store);
        return;
    }

    person_meet(w, user.clerk_id);

    params[0] = user.clerk_id;
    params[1] = user.user_id;

    if (db_query(w->db, "person", upload_person_sql, 2, params, &person)
        != DB_OK)
    {
        http_fail(r, VERDICT_RETRY, NULL);
        return;
    }

    if (user_accept(r, db_value(person, 0)) != 0) {
        goto done;
    }

    params[0] = db_value(person, 1);
    params[1] = r->id;

    if (db_query(w->db, "delete_fit", upload_delete_sql, 2, params, &res)
        != DB_OK)
    {
        http_fail(r, VERDICT_RETRY, NULL);
        goto done;
    }

    outcome = db_value(res, 0);

    if (outcome == NULL || strcmp(outcome, "deleted") != 0) {
        http_fail(r, VERDICT_NOT_FOUND,
                  (outcome != NULL && strcmp(outcome, "no_file") == 0)
                  ? "No FIT file to delete" : upload_no_activity);
        goto done;
    }

    http_note(r, " key=%s", log_value(db_value(res, 2)));

    if (r2_delete(w->r2, db_value(res, 2)) == R2_OK) {
        params[0] = db_value(res, 3);

        if (db_query(w->db, "settle_deletion", upload_settle_sql, 1, params,
                     &settled)
            == DB_OK)
        {
            PQclear(settled);
        }

    } else {
        http_note(r, " object=later");
    }

    http_answer(r, 200, json_pack("{s: s, s: I}", "status", "deleted",
                                  "activity_id",
                                  (json_int_t) atoll(db_value(res, 1))));

done:

    PQclear(person);
    PQclear(res);
}


void
upload_stats(http_request_t *r, worker_t *w)
{
    double       bytes;
    json_t      *answer, *account;
    user_t       user;
    PGresult    *res;
    const char  *params[2];

    if (user_identify(r, &user) != 0) {
        return;
    }

    person_meet(w, user.clerk_id);

    params[0] = user.clerk_id;
    params[1] = user.user_id;

    if (db_query(w->db, "stats", upload_stats_sql, 2, params, &res) != DB_OK) {
        http_fail(r, VERDICT_RETRY, NULL);
        return;
    }

    if (user_accept(r, db_value(res, 0)) != 0) {
        goto done;
    }

    bytes = strtod(db_value(res, 3), NULL);

    answer = json_pack("{s: I, s: I, s: f}",
                       "user_id", (json_int_t) atoll(db_value(res, 1)),
                       "total_files", (json_int_t) atoll(db_value(res, 2)),
                       "total_size_mb",
                       upload_round(bytes / (1024 * 1024), 100.0));

    /* R2's free tier is one for all users */

    account = json_pack("{s: I}", "total_files",
                        (json_int_t) atoll(db_value(res, 4)));

    if (json_object_set_new(answer, "account", account) != 0
        || upload_free_tier(answer, bytes) != 0
        || upload_free_tier(account, strtod(db_value(res, 5), NULL)) != 0)
    {
        json_decref(answer);
        answer = NULL;
    }

    http_answer(r, 200, answer);

done:

    PQclear(res);
}


/* what the store sends its bill for; NULL is no answer */

static int
upload_free_tier(json_t *answer, double bytes)
{
    double  gb, used, left;

    gb = bytes / (1024.0 * 1024 * 1024);
    used = upload_round(gb / UPLOAD_FREE_TIER * 100, 100.0);
    left = (gb > UPLOAD_FREE_TIER)
           ? 0.0 : upload_round(UPLOAD_FREE_TIER - gb, 1000.0);

    return json_object_set_new(answer, "total_size_gb",
                               json_real(upload_round(gb, 1000.0)))
           | json_object_set_new(answer, "free_tier_limit_gb",
                                 json_real(UPLOAD_FREE_TIER))
           | json_object_set_new(answer, "free_tier_used_percent",
                                 json_real(used))
           | json_object_set_new(answer, "free_tier_remaining_gb",
                                 json_real(left));
}


void
upload_health(http_request_t *r, worker_t *w)
{
    char     now[40];
    json_t  *bucket;

    bucket = w->cf->store_enabled ? json_string(w->cf->store_bucket)
                                  : json_null();

    http_answer(r, 200, json_pack("{s: s, s: b, s: o, s: s}",
                                  "status", "ok",
                                  "r2_available", (int) w->cf->store_enabled,
                                  "r2_bucket", bucket,
                                  "timestamp", http_timestamp(now)));
}


/* the same body and the same rules as for a URL, but two members must be */

static int
upload_body(http_request_t *r, upload_t *u)
{
    runcoach_upload_t         body;
    runcoach_upload_error_t   error;

    if (runcoach_upload_parse(&body, &error, r->body, r->body_len) != 0) {
        http_invalid(r, "body", error.field, error.type, error.message);
        return -1;
    }

    if (r->id[0] != '\0') {

        if (upload_id(r) != 0) {
            return -1;
        }

        snprintf(u->id, sizeof(u->id), "%s", r->id);

    } else if (body.activity_id == 0) {
        http_invalid(r, "body", "activity_id", "missing", "Field required");
        return -1;

    } else {
        snprintf(u->id, sizeof(u->id), "%lld", body.activity_id);
    }

    if (body.file_size < 0) {
        http_invalid(r, "body", "file_size", "missing", "Field required");
        return -1;
    }

    u->size = body.file_size;

    if (body.checksum.len != 0) {
        upload_hex(u->checksum, body.checksum.data, body.checksum.len);
    }

    return 0;
}


static void
upload_hex(char *dst, const u_char *base64, size_t n)
{
    u_char   digest[runcoach_base64_decoded_max(RUNCOACH_UPLOAD_CHECKSUM)];
    ssize_t  i, len;

    len = runcoach_base64_decode_any(digest, base64, n);

    for (i = 0; i < len; i++) {
        snprintf(dst + 2 * i, 3, "%02x", digest[i]);
    }
}


static int
upload_find(http_request_t *r, worker_t *w, upload_t *u)
{
    const char  *outcome;

    if (upload_row(r, w, &u->user, u->id, &u->row) != 0) {
        return -1;
    }

    outcome = db_value(u->row, UPLOAD_OUTCOME);

    if (strcmp(outcome, "no_activity") == 0) {
        http_fail(r, VERDICT_NOT_FOUND, upload_no_activity);
        return -1;
    }

    return 0;
}


/*
 * Where the object may be.  The URL may have been made for another log-in of
 * the same person; and who has been told the row's number may ask with that
 * one again, for which only the row knows the key.
 */

static int
upload_keys(http_request_t *r, upload_t *u)
{
    char         buf[UPLOAD_MAX_KEY + 1];
    const char  *template, *key;

    template = http_header(r, "X-Upload-Key");

    if (*template == '\0') {
        snprintf(buf, sizeof(buf), UPLOAD_TEMPLATE, u->user.subject);
        template = buf;
    }

    if (upload_key(u, template, u->user.subject) != 0) {
        log_error("the template of keys is not usable key=%s",
                  log_value(template));
        http_fail(r, VERDICT_NOT_CONFIGURED, upload_no_store);
        return -1;
    }

    (void) upload_key(u, template, db_value(u->row, UPLOAD_USER));
    (void) upload_key(u, template, db_value(u->row, UPLOAD_CLERK_ID));

    key = db_value(u->row, UPLOAD_KEY);

    /* of a key which cannot be signed nobody can say that it is not there */

    if (key != NULL && strlen(key) <= UPLOAD_MAX_KEY
        && runcoach_sigv4_check_key((const u_char *) key, strlen(key))
           == RUNCOACH_SIGV4_OK)
    {
        upload_add_key(u, key);
    }

    return 0;
}


static int
upload_key(upload_t *u, const char *template, const char *subject)
{
    char  key[UPLOAD_MAX_KEY + 1];

    if (subject == NULL) {
        return 0;
    }

    if (key_expand(key, sizeof(key), template, u->user.subject, subject, u->id)
        != 0)
    {
        return -1;
    }

    upload_add_key(u, key);

    return 0;
}


static void
upload_add_key(upload_t *u, const char *key)
{
    unsigned  i;

    for (i = 0; i < u->nkeys; i++) {
        if (strcmp(u->keys[i], key) == 0) {
            return;
        }
    }

    strcpy(u->keys[u->nkeys++], key);
}


/* there may be one of before under another key: the first is not the best */

static int
upload_look(http_request_t *r, worker_t *w, upload_t *u)
{
    r2_rc_e      rc;
    unsigned     i, rank, best;
    r2_head_t    head;
    const char  *stored;

    best = 0;

    for (i = 0; i < u->nkeys; i++) {

        rc = r2_head(w->r2, u->keys[i], &head);

        if (rc == R2_NOT_FOUND) {
            continue;
        }

        if (rc != R2_OK) {
            http_fail(r, VERDICT_RETRY, upload_no_store);
            return -1;
        }

        rank = upload_rank(u, &head);

        if (rank > best || (rank == best && head.modified > u->head.modified)) {
            best = rank;
            u->key = u->keys[i];
            u->head = head;
        }

        /* the number was made up for one upload, so there is none of before */

        if (rank == UPLOAD_FITS && db_value(u->row, UPLOAD_ACTIVITY) == NULL) {
            break;
        }
    }

    if (best == 0) {
        http_note(r, " reason=no_object");
        http_fail(r, VERDICT_CONFLICT, "Upload not found in storage");
        return -1;
    }

    stored = db_value(u->row, UPLOAD_KEY);
    u->stored = (stored != NULL && strcmp(stored, u->key) == 0);

    http_note(r, " key=%s size=%lld etag=%s", log_value(u->key), u->head.size,
              log_value(u->head.etag));

    return 0;
}


static unsigned
upload_rank(const upload_t *u, const r2_head_t *head)
{
    if (head->size != u->size) {
        return UPLOAD_DIFFERS;
    }

    return (u->checksum[0] == '\0' || head->sha256[0] == '\0'
            || strcmp(u->checksum, head->sha256) == 0) ? UPLOAD_FITS
                                                       : UPLOAD_DIFFERS;
}


static int
upload_check(http_request_t *r, worker_t *w, upload_t *u)
{
    char         msg[96];
    const char  *etag;

    if (u->head.size > w->cf->max_file_size) {
        etag = db_value(u->row, UPLOAD_ETAG);

        /*
         * what was good when the limit was higher is not taken away, nor what
         * the row has from before anybody noted its etag
         */

        if ((!u->stored
             || (etag != NULL && strcmp(etag, u->head.etag) != 0))
            && r2_delete(w->r2, u->key) != R2_OK)
        {
            http_fail(r, VERDICT_RETRY, upload_no_store);
            return -1;
        }

        snprintf(msg, sizeof(msg), "File too large: the limit is %lld bytes",
                 w->cf->max_file_size);
        http_fail(r, VERDICT_TOO_LARGE, msg);
        return -1;
    }

    if (u->head.size != u->size) {
        snprintf(msg, sizeof(msg), "Stored object has %lld bytes",
                 u->head.size);
        http_invalid(r, "body", "file_size", "value_error", msg);
        return -1;
    }

    if (u->checksum[0] != '\0' && u->head.sha256[0] != '\0'
        && strcmp(u->checksum, u->head.sha256) != 0)
    {
        http_invalid(r, "body", "checksum", "value_error",
                     "Stored object has another SHA-256");
        return -1;
    }

    if (u->checksum[0] == '\0') {
        memcpy(u->checksum, u->head.sha256, sizeof(u->checksum));
    }

    return 0;
}


static void
upload_confirm(http_request_t *r, worker_t *w, upload_t *u)
{
    char         size[24], message[96];
    PGresult    *res;
    const char  *params[7], *outcome;

    snprintf(size, sizeof(size), "%lld", u->head.size);

    params[0] = db_value(u->row, UPLOAD_USER);
    params[1] = u->id;
    params[2] = u->key;
    params[3] = size;
    params[4] = u->head.etag;
    params[5] = (u->checksum[0] == '\0') ? NULL : u->checksum;
    params[6] = db_value(u->row, UPLOAD_SEEN);

    if (db_query(w->db, "confirm_upload", upload_complete_sql, 7, params, &res)
        != DB_OK)
    {
        http_fail(r, VERDICT_RETRY, NULL);
        return;
    }

    outcome = db_value(res, 0);
    metrics_completion(outcome);
    http_note(r, " outcome=%s job=%s", log_value(outcome),
              log_value(db_value(res, 2)));

    if (outcome != NULL && strcmp(outcome, "no_activity") == 0) {
        http_fail(r, VERDICT_NOT_FOUND, upload_no_activity);
        goto done;
    }

    if (db_value(res, 1) == NULL || db_value(res, 2) == NULL) {
        http_fail(r, VERDICT_RETRY, NULL);
        goto done;
    }

    jobs_wake(w->redis);

    snprintf(message, sizeof(message),
             "Upload confirmed, analysis job queued: %s", db_value(res, 2));

    http_answer(r, 200, json_pack("{s: s, s: I, s: s, s: s}",
                                  "status", "uploaded",
                                  "activity_id",
                                  (json_int_t) atoll(db_value(res, 1)),
                                  "analysis_job_id", db_value(res, 2),
                                  "message", message));

done:

    PQclear(res);
}


/* 0 with the row of a person that may go on, or -1 with the answer given */

static int
upload_row(http_request_t *r, worker_t *w, const user_t *user, const char *id,
    PGresult **row)
{
    const char  *params[3];

    person_meet(w, user->clerk_id);

    params[0] = user->clerk_id;
    params[1] = user->user_id;
    params[2] = id;

    if (db_query(w->db, "activity", upload_row_sql, 3, params, row) != DB_OK) {
        http_fail(r, VERDICT_RETRY, NULL);
        return -1;
    }

    if (user_accept(r, db_value(*row, UPLOAD_OUTCOME)) != 0) {
        PQclear(*row);
        *row = NULL;
        return -1;
    }

    return 0;
}


static int
upload_id(http_request_t *r)
{
    size_t  n;

    n = strlen(r->id);

    if (n > 0 && n <= 16 && strspn(r->id, "0123456789") == n
        && atoll(r->id) <= RUNCOACH_UPLOAD_ID_LAST)
    {
        return 0;
    }

    http_invalid(r, "path", "activity_id", "int_parsing",
                 "Input should be a valid integer, unable to parse string as "
                 "an integer");

    return -1;
}


/* the name goes into a header of the store's answer: nothing to escape */

static int
upload_name(http_request_t *r, const char **name)
{
    size_t       n;
    const char  *s;

    s = http_argument(r, "filename");
    n = strlen(s);

    *name = (n == 0) ? NULL : s;

    if (n <= 100
        && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                     "0123456789.-_") == n)
    {
        return 0;
    }

    http_invalid(r, "query", "filename", "value_error",
                 "Input should be letters, digits, \".\", \"-\" and \"_\", at "
                 "most 100");

    return -1;
}
