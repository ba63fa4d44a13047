
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "announce.h"
#include "person.h"
#include "runcoach_upload.h"


#define ANNOUNCE_COUNT   "200"
#define ANNOUNCE_FIELDS  16

/* milliseconds of one XREAD, and how much longer its answer may take */

#define ANNOUNCE_BLOCK   "30000"
#define ANNOUNCE_WAIT    35000

/* seconds: the store's clock and that of Redis are not the same */

#define ANNOUNCE_SKEW    300


typedef struct {
    json_t      *json;
    const char  *user;
    char         object[24];
    long long    size;           /* -1: not stated */
    const char  *checksum;       /* hex, or NULL */
    long long    issued;         /* milliseconds */
} announce_t;


/* columns of edge_activity() */

enum {
    ANNOUNCE_OUTCOME = 0,
    ANNOUNCE_USER,
    ANNOUNCE_ETAG,
    ANNOUNCE_SEEN
};


static int announce_read(worker_t *w, char *cursor, size_t size, int stop);
static int announce_record(worker_t *w, const redisReply *entries,
    char *cursor, size_t size);
static json_t *announce_entry(const redisReply *entry);
static int announce_number(const char *s, long long max, long long *n);
static int announce_hex(char *dst, const char *s);
static int announce_load(announce_t *a, const char *args);
static job_rc_e announce_person(worker_t *w, const job_t *job,
    job_result_t *result, const PGresult *row);
static job_rc_e announce_object(worker_t *w, const job_t *job,
    job_result_t *result, const announce_t *a, const PGresult *row);
static job_rc_e announce_complete(worker_t *w, const job_t *job,
    job_result_t *result, const announce_t *a, const PGresult *row,
    const r2_head_t *head);
static job_rc_e announce_say(job_result_t *result, job_rc_e rc,
    const char *text);


static const char  announce_cursor_sql[] =
    "SELECT edge_cursor($1)";

static const char  announce_record_sql[] =
    "SELECT edge_announce($1, $2, $3::jsonb, $4::integer)";

static const char  announce_row_sql[] =
    "SELECT outcome, user_id, file_etag, seen"
    " FROM edge_activity($1, $2::bigint, $3::bigint)";

static const char  announce_settle_sql[] =
    "SELECT outcome, activity_id, job_id FROM edge_settle_upload("
    "$1::integer, $2::bigint, $3, $4::bigint, $5, $6, $7::timestamptz,"
    " to_timestamp($8::bigint / 1000.0))";


int
announce_run(const config_t *cf, int stop)
{
    int             rc;
    char            cursor[64];
    worker_t        w;
    PGresult       *res;
    const char     *name;
    struct pollfd   pfd;

    memset(&w, 0, sizeof(worker_t));
    memset(cursor, 0, sizeof(cursor));

    w.cf = cf;
    w.db = db_create(cf->database, cf->statement);
    w.redis = redis_create(&cf->redis);
    rc = (w.db == NULL || w.redis == NULL) ? -1 : 0;

    pfd.fd = stop;
    pfd.events = POLLIN;

    while (rc == 0 && poll(&pfd, 1, 0) == 0) {

        if (cursor[0] == '\0') {
            name = ANNOUNCE_STREAM;

            if (db_query(w.db, "cursor", announce_cursor_sql, 1, &name, &res)
                == DB_OK)
            {
                snprintf(cursor, sizeof(cursor), "%s", db_value(res, 0));
                PQclear(res);
            }
        }

        if (cursor[0] == '\0'
            || announce_read(&w, cursor, sizeof(cursor), stop) != 0)
        {
            (void) poll(&pfd, 1, 2000 + (int) (random() % 1000));
        }
    }

    db_free(w.db);
    redis_free(w.redis);

    return rc;
}


/* 0, or -1: trouble that may pass */

static int
announce_read(worker_t *w, char *cursor, size_t size, int stop)
{
    int          rc;
    redisReply  *reply, *stream;
    const char  *argv[] = {
        "XREAD", "COUNT", ANNOUNCE_COUNT, "BLOCK", ANNOUNCE_BLOCK,
        "STREAMS", ANNOUNCE_STREAM, cursor
    };

    switch (redis_command(w->redis, &reply, ANNOUNCE_WAIT, stop, 8, argv)) {

    case REDIS_DONE:
        break;

    case REDIS_STOPPED:
        return 0;

    default:
        return -1;
    }

    rc = 0;

    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1) {
        stream = reply->element[0];

        rc = (stream->type == REDIS_REPLY_ARRAY && stream->elements == 2
              && stream->element[1]->type == REDIS_REPLY_ARRAY)
             ? announce_record(w, stream->element[1], cursor, size)
             : -1;
    }

    freeReplyObject(reply);

    return rc;
}


static int
announce_record(worker_t *w, const redisReply *entries, char *cursor,
    size_t size)
{
    int          rc;
    char         grace[24], *text;
    size_t       i, skipped;
    json_t      *list, *entry;
    PGresult    *res;
    const char  *params[4], *last;

    rc = -1;
    text = NULL;
    last = NULL;
    skipped = 0;
    list = json_array();

    for (i = 0; i < entries->elements; i++) {

        entry = announce_entry(entries->element[i]);

        if (entry == NULL) {
            skipped++;

        } else if (json_array_append_new(list, entry) != 0) {
            goto done;
        }

        if (entries->element[i]->type == REDIS_REPLY_ARRAY
            && entries->element[i]->elements > 0)
        {
            last = entries->element[i]->element[0]->str;
        }
    }

    text = json_dumps(list, JSON_COMPACT);

    if (text == NULL || last == NULL) {
        goto done;
    }

    snprintf(grace, sizeof(grace), "%lld", w->cf->upload_grace);

    params[0] = ANNOUNCE_STREAM;
    params[1] = last;
    params[2] = text;
    params[3] = grace;

    if (db_query(w->db, "announce", announce_record_sql, 4, params, &res)
        != DB_OK)
    {
        goto done;
    }

    log_info("uploads announced=%zu new=%s skipped=%zu cursor=%s",
             entries->elements, db_value(res, 0), skipped, log_value(last));

    PQclear(res);
    snprintf(cursor, size, "%s", last);
    rc = 0;

done:

    free(text);
    json_decref(list);

    return rc;
}


static json_t *
announce_entry(const redisReply *entry)
{
    size_t             i;
    const char        *fields[2 * ANNOUNCE_FIELDS];
    const redisReply  *list;

    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2
        || entry->element[0]->type != REDIS_REPLY_STRING
        || entry->element[1]->type != REDIS_REPLY_ARRAY
        || entry->element[1]->elements > 2 * ANNOUNCE_FIELDS)
    {
        return NULL;
    }

    list = entry->element[1];

    for (i = 0; i < list->elements; i++) {

        /* one with a NUL would be read as another text than was written */

        if (list->element[i]->type != REDIS_REPLY_STRING
            || strlen(list->element[i]->str) != (size_t) list->element[i]->len)
        {
            return NULL;
        }

        fields[i] = list->element[i]->str;
    }

    return announce_parse(entry->element[0]->str, fields, list->elements);
}


json_t *
announce_parse(const char *id, const char *const *fields, size_t n)
{
    char         hex[65];
    size_t       i, k;
    json_t      *size, *sum;
    long long    issued, expires, object, bytes;

    enum { KEY = 0, USER, METHOD, OBJECT, SIZE, CHECKSUM, EXPIRES, LAST };

    const char         *values[LAST];
    static const char  *names[LAST] = {
        "key", "user", "method", "object", "size", "checksum", "expires"
    };

    for (k = 0; k < LAST; k++) {
        values[k] = "";

        for (i = 0; i + 1 < n; i += 2) {
            if (strcmp(fields[i], names[k]) == 0) {
                values[k] = fields[i + 1];
            }
        }
    }

    bytes = -1;

    if (strcmp(values[METHOD], "PUT") != 0
        || announce_number(id, 9007199254740991LL, &issued) != 0
        || announce_number(values[EXPIRES], 253402300799LL, &expires) != 0
        || announce_number(values[OBJECT], RUNCOACH_UPLOAD_ID_LAST, &object)
           != 0
        || (*values[SIZE] != '\0'
            && announce_number(values[SIZE], 9007199254740991LL, &bytes) != 0)
        || *values[USER] == '\0' || strlen(values[USER]) > 255
        || strlen(values[KEY]) > 500
        || runcoach_sigv4_check_key((const u_char *) values[KEY],
                                    strlen(values[KEY]))
           != RUNCOACH_SIGV4_OK)
    {
        return NULL;
    }

    sum = (announce_hex(hex, values[CHECKSUM]) == 0) ? json_string(hex)
                                                     : json_null();
    size = (bytes < 0) ? json_null() : json_integer(bytes);

    return json_pack("{s: s, s: s, s: I, s: o, s: o, s: I, s: I}",
                     "key", values[KEY], "user", values[USER],
                     "object", (json_int_t) object, "size", size,
                     "checksum", sum, "issued", (json_int_t) issued,
                     "expires", (json_int_t) expires);
}


/* digits up to the end, or, in the id of an entry, to the "-" */

static int
announce_number(const char *s, long long max, long long *n)
{
    size_t  len;

    len = strspn(s, "0123456789");

    if (len == 0 || len > 16 || (s[len] != '\0' && s[len] != '-')) {
        return -1;
    }

    *n = strtoll(s, NULL, 10);

    return (*n > max) ? -1 : 0;
}


static int
announce_hex(char *dst, const char *s)
{
    u_char   base64[RUNCOACH_UPLOAD_CHECKSUM];
    u_char   digest[runcoach_base64_decoded_max(RUNCOACH_UPLOAD_CHECKSUM)];
    ssize_t  i, n;

    if (runcoach_upload_checksum(base64, (const u_char *) s, strlen(s)) != 0) {
        return -1;
    }

    n = runcoach_base64_decode_any(digest, base64, sizeof(base64));

    if (n != 32) {
        return -1;
    }

    for (i = 0; i < n; i++) {
        snprintf(dst + 2 * i, 3, "%02x", digest[i]);
    }

    return 0;
}


job_rc_e
announce_check(worker_t *w, const job_t *job, job_result_t *result)
{
    job_rc_e     rc;
    PGresult    *row;
    announce_t   a;
    const char  *params[3];

    if (announce_load(&a, job->args) != 0) {
        json_decref(a.json);
        return announce_say(result, JOB_FAILED, "the announcement is damaged");
    }

    params[0] = NULL;
    params[1] = NULL;
    params[2] = a.object;

    params[strspn(a.user, "0123456789") == strlen(a.user)] = a.user;

    person_meet(w, params[0]);

    if (db_query(w->db, "activity", announce_row_sql, 3, params, &row) != DB_OK)
    {
        json_decref(a.json);
        return announce_say(result, JOB_RETRY, "the database did not answer");
    }

    rc = (db_value(row, ANNOUNCE_USER) == NULL)
         ? announce_person(w, job, result, row)
         : announce_object(w, job, result, &a, row);

    PQclear(row);
    json_decref(a.json);

    return rc;
}


static int
announce_load(announce_t *a, const char *args)
{
    const json_t  *size;

    memset(a, 0, sizeof(announce_t));

    if (args == NULL) {
        return -1;
    }

    a->json = json_loads(args, 0, NULL);
    size = json_object_get(a->json, "size");

    a->user = json_string_value(json_object_get(a->json, "user"));
    a->checksum = json_string_value(json_object_get(a->json, "checksum"));
    a->issued = json_integer_value(json_object_get(a->json, "issued"));
    a->size = json_is_integer(size) ? json_integer_value(size) : -1;

    snprintf(a->object, sizeof(a->object), "%lld",
             json_integer_value(json_object_get(a->json, "object")));

    return (a->user == NULL || *a->user == '\0') ? -1 : 0;
}


/* nobody can complete it; and what a deleted person has left behind goes */

static job_rc_e
announce_person(worker_t *w, const job_t *job, job_result_t *result,
    const PGresult *row)
{
    const char  *outcome;

    outcome = db_value(row, ANNOUNCE_OUTCOME);

    if (outcome == NULL || strcmp(outcome, "deleted") != 0) {
        return announce_say(result, JOB_DONE, "expired: there is no such user");
    }

    if (r2_delete(w->r2, job->key) != R2_OK) {
        return announce_say(result, JOB_RETRY,
                            "the store did not remove the object");
    }

    return announce_say(result, JOB_DONE, "removed: the user is deleted");
}


static job_rc_e
announce_object(worker_t *w, const job_t *job, job_result_t *result,
    const announce_t *a, const PGresult *row)
{
    r2_head_t    head;
    const char  *etag;

    if (strcmp(db_value(row, ANNOUNCE_OUTCOME), "no_activity") == 0) {
        return announce_say(result, JOB_DONE,
                            "expired: there is no such activity");
    }

    switch (r2_head(w->r2, job->key, &head)) {

    case R2_OK:
        break;

    case R2_NOT_FOUND:
        return announce_say(result, JOB_DONE, "expired: nothing was uploaded");

    default:
        return announce_say(result, JOB_RETRY, "the store did not answer");
    }

    if (head.modified != 0
        && (long long) head.modified + ANNOUNCE_SKEW < a->issued / 1000)
    {
        return announce_say(result, JOB_DONE,
                            "expired: the object is older than the URL");
    }

    if (head.size > w->cf->max_file_size) {
        etag = db_value(row, ANNOUNCE_ETAG);

        if (etag != NULL && strcmp(etag, head.etag) == 0) {
            return announce_say(result, JOB_DONE, "was completed");
        }

        if (r2_delete(w->r2, job->key) != R2_OK) {
            return announce_say(result, JOB_RETRY,
                                "the store did not remove the object");
        }

        return announce_say(result, JOB_DONE, "removed: it was too large");
    }

    if (a->size >= 0 && a->size != head.size) {
        return announce_say(result, JOB_DONE,
                            "expired: the object is not of the stated size");
    }

    return announce_complete(w, job, result, a, row, &head);
}


static job_rc_e
announce_complete(worker_t *w, const job_t *job, job_result_t *result,
    const announce_t *a, const PGresult *row, const r2_head_t *head)
{
    char         size[24], issued[24];
    job_rc_e     rc;
    PGresult    *res;
    const char  *params[8], *outcome;

    snprintf(size, sizeof(size), "%lld", head->size);
    snprintf(issued, sizeof(issued), "%lld", a->issued);

    params[0] = db_value(row, ANNOUNCE_USER);
    params[1] = a->object;
    params[2] = job->key;
    params[3] = size;
    params[4] = head->etag;
    params[5] = (a->checksum != NULL) ? a->checksum
                : (head->sha256[0] != '\0') ? head->sha256 : NULL;
    params[6] = db_value(row, ANNOUNCE_SEEN);
    params[7] = issued;

    if (db_query(w->db, "settle_upload", announce_settle_sql, 8, params, &res)
        != DB_OK)
    {
        return announce_say(result, JOB_RETRY, "the database did not answer");
    }

    outcome = db_value(res, 0);

    if (outcome == NULL || strcmp(outcome, "busy") == 0) {
        rc = announce_say(result, JOB_RETRY, "the file is being changed");

    } else if (strcmp(outcome, "uploaded") == 0) {
        rc = announce_say(result, JOB_DONE, "completed");
        jobs_wake(w->redis);

    } else {
        rc = announce_say(result, JOB_DONE,
                          (strcmp(outcome, "no_activity") == 0)
                          ? "expired: there is no such activity"
                          : "was completed or deleted");
    }

    PQclear(res);

    return rc;
}


static job_rc_e
announce_say(job_result_t *result, job_rc_e rc, const char *text)
{
    snprintf(result->error, sizeof(result->error), "%s", text);

    return rc;
}
