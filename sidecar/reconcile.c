
/*
 * What rows and bucket disagree on.  All rows are held in memory, sorted by
 * key, while the bucket is read page by page; a store that does not list is
 * asked for each row's object instead.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "jobs.h"
#include "progress.h"


#define RECONCILE_PAGE    "5000"

/* so many and more missing than there are: it is the wrong bucket */

#define RECONCILE_MANY    10

#define RECONCILE_PREFIX  "users/"


typedef struct {
    char          *key;
    char          *etag;        /* NULL: not known */
    long long      size;        /* -1: not known */
    int            activity;
    int            user;
    unsigned       seen:1;
} reconcile_row_t;


typedef struct {
    worker_t          w;
    int               repair;
    int               force;

    reconcile_row_t  *rows;
    size_t            nrows;
    size_t            size;
    progress_t        progress;

    long              objects;
    long              missing;
    long              changed;
    long              left;          /* deleted, but still there */
    long              orphans;
    long              pending;
    long              repaired;
    int               failed;
} reconcile_t;


static int reconcile_load(reconcile_t *rec);
static int reconcile_add(reconcile_t *rec, const PGresult *res, int i);
static int reconcile_compare(const void *one, const void *two);
static int reconcile_list(reconcile_t *rec);
static int reconcile_object(reconcile_t *rec, const listing_object_t *object);
static void reconcile_head(reconcile_t *rec);
static void reconcile_changed(reconcile_t *rec, const reconcile_row_t *row,
    const char *etag, long long size);
static int reconcile_complete(reconcile_t *rec, const reconcile_row_t *row);
static void reconcile_orphan(reconcile_t *rec, const listing_object_t *object);
static int reconcile_name(const char *key, char *user, char *number);
static void reconcile_missing(reconcile_t *rec);
static void reconcile_usage(reconcile_t *rec);
static int reconcile_query(reconcile_t *rec, const char *what, const char *sql,
    unsigned n, const char *const *params);
static void reconcile_free(reconcile_t *rec);


static const char  reconcile_rows_sql[] =
    "SELECT id, user_id, coalesce(fit_file_key, r2_key), fit_file_etag,"
    " fit_file_size FROM activities WHERE id > $1::integer"
    " AND coalesce(fit_file_key, r2_key) IS NOT NULL ORDER BY id"
    " LIMIT " RECONCILE_PAGE;

static const char  reconcile_now_sql[] =
    "SELECT now()";

static const char  reconcile_complete_sql[] =
    "SELECT outcome IN ('uploaded', 'repeated') FROM edge_complete_upload("
    "$1::integer, $2::bigint, $3, $4::bigint, $5, $6, NULL, $7::timestamptz)";

static const char  reconcile_orphan_sql[] =
    "SELECT edge_orphan($1, $2, $3::bigint)";

static const char  reconcile_remove_sql[] =
    "INSERT INTO edge_jobs (kind, object_key) VALUES ('delete_object', $1)"
    " RETURNING true";

static const char  reconcile_check_sql[] =
    "SELECT edge_announce('reconcile', '0', jsonb_build_array("
    "jsonb_build_object('key', $1::text, 'user', $2::text,"
    " 'object', $3::bigint, 'size', NULL, 'checksum', NULL,"
    " 'issued', (extract(epoch FROM now()) * 1000)::bigint"
    "           - 1000 * greatest(0, extract(epoch FROM now()"
    "             - $4::timestamptz))::bigint,"
    " 'expires', extract(epoch FROM now())::bigint)), 0) >= 0";

static const char  reconcile_missing_sql[] =
    "SELECT edge_mark_missing($1::integer, $2)";

static const char  reconcile_usage_sql[] =
    "SELECT files, bytes FROM edge_recount_usage()";


int
command_reconcile(const config_t *cf, int argc, char **argv)
{
    int           i, rc;
    reconcile_t   rec;

    memset(&rec, 0, sizeof(reconcile_t));

    for (i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--repair") == 0) {
            rec.repair = 1;

        } else if (strcmp(argv[i], "--force") == 0) {
            rec.force = 1;

        } else {
            return COMMAND_USAGE;
        }
    }

    if (cf->database == NULL || !cf->store_enabled) {
        log_error("%s", (cf->database == NULL)
                        ? "DATABASE_URL is not set"
                        : "no store is configured: R2_...");
        return 1;
    }

    rec.w.cf = cf;
    rec.w.db = db_create(cf->database, cf->statement);
    rec.w.redis = redis_create(cf->redis_url != NULL ? &cf->redis : NULL);
    rec.w.r2 = r2_create(cf);
    rc = 1;

    if (rec.w.db != NULL && rec.w.redis != NULL && rec.w.r2 != NULL
        && reconcile_load(&rec) == 0
        && reconcile_list(&rec) == 0)
    {
        reconcile_missing(&rec);
        reconcile_usage(&rec);

        printf("rows=%zu objects=%ld missing=%ld changed=%ld left=%ld"
               " orphans=%ld pending=%ld repaired=%ld\n", rec.nrows,
               rec.objects, rec.missing, rec.changed, rec.left, rec.orphans,
               rec.pending, rec.repaired);

        rc = (!rec.failed && rec.repaired == rec.missing + rec.changed
                                             + rec.left + rec.orphans)
             ? 0 : 1;
    }

    if (rec.repaired != 0) {
        jobs_wake(rec.w.redis);
    }

    reconcile_free(&rec);

    return rc;
}


static int
reconcile_load(reconcile_t *rec)
{
    int          i, n;
    char         last[24];
    PGresult    *res;
    const char  *param;

    strcpy(last, "0");
    progress_begin(&rec->progress, "rows", 0);

    do {
        param = last;

        if (db_query(rec->w.db, "rows", reconcile_rows_sql, 1, &param, &res)
            != DB_OK)
        {
            return -1;
        }

        n = PQntuples(res);

        for (i = 0; i < n; i++) {
            if (reconcile_add(rec, res, i) != 0) {
                log_error("no memory for the rows");
                PQclear(res);
                return -1;
            }
        }

        if (n > 0) {
            snprintf(last, sizeof(last), "%s", PQgetvalue(res, n - 1, 0));
        }

        progress_step(&rec->progress, n);
        PQclear(res);

    } while (n > 0);

    progress_end(&rec->progress);

    if (rec->nrows != 0) {
        qsort(rec->rows, rec->nrows, sizeof(reconcile_row_t),
              reconcile_compare);
    }

    return 0;
}


static int
reconcile_add(reconcile_t *rec, const PGresult *res, int i)
{
    size_t            size;
    reconcile_row_t  *row;

    if (rec->nrows == rec->size) {
        size = (rec->size == 0) ? 1024 : rec->size * 2;
        row = realloc(rec->rows, size * sizeof(reconcile_row_t));

        if (row == NULL) {
            return -1;
        }

        rec->rows = row;
        rec->size = size;
    }

    row = &rec->rows[rec->nrows];
    memset(row, 0, sizeof(reconcile_row_t));

    row->activity = atoi(PQgetvalue(res, i, 0));
    row->user = atoi(PQgetvalue(res, i, 1));
    row->size = PQgetisnull(res, i, 4) ? -1 : atoll(PQgetvalue(res, i, 4));
    row->key = strdup(PQgetvalue(res, i, 2));

    if (row->key == NULL) {
        return -1;
    }

    rec->nrows++;

    if (PQgetisnull(res, i, 3) || *PQgetvalue(res, i, 3) == '\0') {
        return 0;
    }

    row->etag = strdup(PQgetvalue(res, i, 3));

    return (row->etag == NULL) ? -1 : 0;
}


static int
reconcile_compare(const void *one, const void *two)
{
    const reconcile_row_t  *a, *b;

    a = one;
    b = two;

    return strcmp(a->key, b->key);
}


static int
reconcile_list(reconcile_t *rec)
{
    int         rc;
    char        token[LISTING_TOKEN];
    size_t      i;
    u_char     *data;
    r2_rc_e     answer;
    listing_t  *list;

    list = malloc(sizeof(listing_t));
    if (list == NULL) {
        return -1;
    }

    rc = 0;
    token[0] = '\0';
    progress_begin(&rec->progress, "objects", 0);

    do {
        answer = r2_list(rec->w.r2, token, list, &data);

        if (answer != R2_OK) {

            if (token[0] == '\0') {
                printf("the store does not list its objects: rows only are "
                       "compared\n");
                reconcile_head(rec);

            } else {
                log_error("the bucket could not be read to its end");
                rc = -1;
            }

            break;
        }

        for (i = 0; i < list->n && rc == 0; i++) {
            rc = reconcile_object(rec, &list->objects[i]);
        }

        progress_step(&rec->progress, list->n);
        strcpy(token, list->token);
        free(data);

    } while (rc == 0 && token[0] != '\0');

    progress_end(&rec->progress);
    free(list);

    return rc;
}


static int
reconcile_object(reconcile_t *rec, const listing_object_t *object)
{
    size_t            first, last, middle;
    reconcile_row_t  *row;

    rec->objects++;

    /* the first of those rows which have this key */

    first = 0;
    last = rec->nrows;

    while (first < last) {
        middle = first + (last - first) / 2;

        if (strcmp(rec->rows[middle].key, object->key) < 0) {
            first = middle + 1;

        } else {
            last = middle;
        }
    }

    if (first == rec->nrows || strcmp(rec->rows[first].key, object->key) != 0) {
        reconcile_orphan(rec, object);
        return 0;
    }

    for (row = &rec->rows[first];
         row < rec->rows + rec->nrows && strcmp(row->key, object->key) == 0;
         row++)
    {
        row->seen = 1;

        if ((row->etag != NULL && object->etag[0] != '\0'
             && strcmp(row->etag, object->etag) != 0)
            || (row->size >= 0 && object->size >= 0
                && row->size != object->size))
        {
            reconcile_changed(rec, row, object->etag, object->size);
        }
    }

    return 0;
}


/* a key which cannot be signed nobody can ask for */

static void
reconcile_head(reconcile_t *rec)
{
    size_t            i;
    r2_head_t         head;
    reconcile_row_t  *row;

    progress_end(&rec->progress);
    progress_begin(&rec->progress, "rows", rec->nrows);

    for (i = 0; i < rec->nrows; i++) {
        row = &rec->rows[i];
        row->seen = 1;

        if (runcoach_sigv4_check_key((u_char *) row->key, strlen(row->key))
            != RUNCOACH_SIGV4_OK)
        {
            row->seen = 0;
            progress_step(&rec->progress, 1);
            continue;
        }

        switch (r2_head(rec->w.r2, row->key, &head)) {

        case R2_OK:
            rec->objects++;

            if ((row->etag != NULL && strcmp(row->etag, head.etag) != 0)
                || (row->size >= 0 && row->size != head.size))
            {
                reconcile_changed(rec, row, head.etag, head.size);
            }

            break;

        case R2_NOT_FOUND:
            row->seen = 0;
            break;

        default:
            rec->failed = 1;
            break;
        }

        progress_step(&rec->progress, 1);
    }
}


static void
reconcile_changed(reconcile_t *rec, const reconcile_row_t *row,
    const char *etag, long long size)
{
    int  done;

    rec->changed++;
    done = 0;

    if (rec->repair) {
        done = (reconcile_complete(rec, row) == 0);
        rec->repaired += done;
    }

    printf("changed activity=%d key=%s size=%lld etag=%s%s\n", row->activity,
           log_value(row->key), size, log_value(etag),
           done ? " repaired=analyzed_again" : "");
}


/* the store is asked again: what was listed may have changed since */

static int
reconcile_complete(reconcile_t *rec, const reconcile_row_t *row)
{
    int          rc;
    char         user[24], activity[24], size[24];
    PGresult    *seen;
    r2_head_t    head;
    const char  *params[7];

    if (db_query(rec->w.db, "now", reconcile_now_sql, 0, NULL, &seen) != DB_OK)
    {
        return -1;
    }

    if (r2_head(rec->w.r2, row->key, &head) != R2_OK
        || head.size > rec->w.cf->max_file_size)
    {
        PQclear(seen);
        return -1;
    }

    snprintf(user, sizeof(user), "%d", row->user);
    snprintf(activity, sizeof(activity), "%d", row->activity);
    snprintf(size, sizeof(size), "%lld", head.size);

    params[0] = user;
    params[1] = activity;
    params[2] = row->key;
    params[3] = size;
    params[4] = head.etag;
    params[5] = (head.sha256[0] == '\0') ? NULL : head.sha256;
    params[6] = db_value(seen, 0);

    rc = reconcile_query(rec, "complete_upload", reconcile_complete_sql, 7,
                         params);
    PQclear(seen);

    return rc;
}


static void
reconcile_orphan(reconcile_t *rec, const listing_object_t *object)
{
    int          done;
    char         user[256], number[24];
    PGresult    *res;
    const char  *params[4], *state;

    params[0] = object->key;
    params[1] = user;
    params[2] = number;
    params[3] = (object->modified[0] == '\0') ? "now" : object->modified;

    if (reconcile_name(object->key, user, number) != 0) {
        rec->orphans++;
        printf("orphan key=%s size=%lld modified=%s\n", log_value(object->key),
               object->size, log_value(object->modified));
        return;
    }

    if (db_query(rec->w.db, "orphan", reconcile_orphan_sql, 3, params, &res)
        != DB_OK)
    {
        rec->failed = 1;
        return;
    }

    state = db_value(res, 0);
    done = 0;

    if (strcmp(state, "pending") == 0 || strcmp(state, "removing") == 0) {
        rec->pending++;

    } else if (strcmp(state, "deleted") == 0) {
        rec->left++;

        if (rec->repair) {
            done = (reconcile_query(rec, "remove", reconcile_remove_sql, 1,
                                    params) == 0);
        }

        printf("left key=%s size=%lld%s\n", log_value(object->key),
               object->size, done ? " repaired=removal_queued" : "");

    } else {
        rec->orphans++;

        if (rec->repair) {
            done = (reconcile_query(rec, "check", reconcile_check_sql, 4,
                                    params) == 0);
        }

        printf("orphan key=%s size=%lld modified=%s%s\n",
               log_value(object->key), object->size,
               log_value(object->modified),
               done ? " repaired=check_queued" : "");
    }

    rec->repaired += done;
    PQclear(res);
}


/* users/USER/.../NUMBER.ANYTHING, as keys have been made so far */

static int
reconcile_name(const char *key, char *user, char *number)
{
    size_t       n;
    const char  *p;

    if (strncmp(key, RECONCILE_PREFIX, sizeof(RECONCILE_PREFIX) - 1) != 0) {
        return -1;
    }

    p = key + sizeof(RECONCILE_PREFIX) - 1;
    n = strcspn(p, "/");

    if (n == 0 || n > 255 || p[n] == '\0') {
        return -1;
    }

    memcpy(user, p, n);
    user[n] = '\0';

    p = strrchr(key, '/') + 1;
    n = strspn(p, "0123456789");

    if (n == 0 || n > 16 || (p[n] != '.' && p[n] != '\0')) {
        return -1;
    }

    memcpy(number, p, n);
    number[n] = '\0';

    return 0;
}


static void
reconcile_missing(reconcile_t *rec)
{
    int               done;
    char              activity[24];
    size_t            i;
    r2_head_t         head;
    const char       *params[2];
    reconcile_row_t  *row;

    for (i = 0; i < rec->nrows; i++) {
        rec->missing += !rec->rows[i].seen;
    }

    if (rec->repair && !rec->force && rec->missing > RECONCILE_MANY
        && rec->missing * 2 > (long) rec->nrows)
    {
        printf("%ld of %zu files are missing: is this the right bucket?  "
               "Nothing is marked without --force\n", rec->missing,
               rec->nrows);
        rec->repair = 0;
    }

    for (i = 0; i < rec->nrows; i++) {
        row = &rec->rows[i];

        if (row->seen) {
            continue;
        }

        done = 0;

        if (rec->repair
            && (runcoach_sigv4_check_key((u_char *) row->key, strlen(row->key))
                != RUNCOACH_SIGV4_OK
                || r2_head(rec->w.r2, row->key, &head) == R2_NOT_FOUND))
        {
            snprintf(activity, sizeof(activity), "%d", row->activity);
            params[0] = activity;
            params[1] = row->key;

            done = (reconcile_query(rec, "mark_missing", reconcile_missing_sql,
                                    2, params) == 0);
            rec->repaired += done;
        }

        printf("missing activity=%d key=%s%s\n", row->activity,
               log_value(row->key), done ? " repaired=marked" : "");
    }
}


/* triggers sum up what the account holds, and a restore goes round them */

static void
reconcile_usage(reconcile_t *rec)
{
    PGresult  *res;

    if (!rec->repair) {
        return;
    }

    if (db_query(rec->w.db, "recount_usage", reconcile_usage_sql, 0, NULL,
                 &res)
        != DB_OK)
    {
        rec->failed = 1;
        return;
    }

    if (strcmp(db_value(res, 0), "0") != 0
        || strcmp(db_value(res, 1), "0") != 0)
    {
        printf("usage    files=%s bytes=%s were not in the account's sums\n",
               db_value(res, 0), db_value(res, 1));
    }

    PQclear(res);
}


/* 0 if the answer is true */

static int
reconcile_query(reconcile_t *rec, const char *what, const char *sql, unsigned n,
    const char *const *params)
{
    int        rc;
    PGresult  *res;

    if (db_query(rec->w.db, what, sql, n, params, &res) != DB_OK) {
        rec->failed = 1;
        return -1;
    }

    rc = (db_value(res, 0) != NULL && strcmp(db_value(res, 0), "t") == 0)
         ? 0 : -1;

    PQclear(res);

    return rc;
}


static void
reconcile_free(reconcile_t *rec)
{
    size_t  i;

    for (i = 0; i < rec->nrows; i++) {
        free(rec->rows[i].key);
        free(rec->rows[i].etag);
    }

    free(rec->rows);
    db_free(rec->w.db);
    redis_free(rec->w.redis);
    r2_free(rec->w.r2);
}
