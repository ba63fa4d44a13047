
/*
 * Moves files of the old scheme, in a column or in a directory, packed or not,
 * to the store.  A row whose file is there has a key, so whoever begins again
 * goes on where it broke off.  Nothing is removed before the store has given
 * the same bytes back.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "commands.h"
#include "inflate.h"
#include "jobs.h"
#include "progress.h"


#define FILES_PAGE   "200"
#define FILES_RATIO  8


/* columns of files_row_sql */

enum {
    FILES_USER = 0,
    FILES_PATH,
    FILES_HASH,
    FILES_CONTENT
};


typedef struct {
    worker_t      w;
    const char   *root;          /* of relative paths; NULL: here */
    int           remove;
    progress_t    progress;
    long          moved;
    long          failed;
    long          queued;

    /* of the activity at hand */
    const char   *id;
    u_char       *data;
    size_t        len;
    char          path[1024];    /* empty: it was a column */
    char          key[96];
    char          sha256[65];
    const char   *error;
} files_t;


static int files_arguments(files_t *f, int argc, char **argv);
static int files_all(files_t *f);
static int files_count(files_t *f);
static void files_one(files_t *f, const char *id);
static int files_source(files_t *f, const PGresult *row);
static int files_content(files_t *f, const char *text);
static int files_path(files_t *f, const char *path);
static int files_unpack(files_t *f);
static int files_verify(files_t *f, const char *hash, const u_char *packed,
    size_t n);
static void files_sha256(char *hex, const u_char *data, size_t n);
static int files_store(files_t *f, r2_head_t *head);
static int files_same(files_t *f, const r2_head_t *head);
static int files_record(files_t *f, const r2_head_t *head);
static int files_fail(files_t *f, const char *error);


#define FILES_WHERE                                                           \
    " FROM activities WHERE id > $1::integer"                                 \
    " AND coalesce(fit_file_key, r2_key) IS NULL"                             \
    " AND coalesce(fit_file_status, '') <> 'deleted'"                         \
    " AND (fit_file_content IS NOT NULL OR nullif(fit_file_path, '')"         \
    " IS NOT NULL)"

static const char  files_count_sql[] =
    "SELECT count(*)" FILES_WHERE;

static const char  files_ids_sql[] =
    "SELECT id" FILES_WHERE " ORDER BY id LIMIT " FILES_PAGE;

static const char  files_row_sql[] =
    "SELECT user_id, fit_file_path, lower(fit_file_hash),"
    " encode(fit_file_content, 'hex') FROM activities WHERE id = $1::integer";

static const char  files_move_sql[] =
    "SELECT outcome, job_id FROM edge_move_file($1::integer, $2, $3::bigint,"
    " $4, $5, $6::boolean)";


int
command_files(const config_t *cf, int argc, char **argv)
{
    int       rc;
    files_t  *f;

    f = calloc(1, sizeof(files_t));
    if (f == NULL) {
        return 1;
    }

    rc = COMMAND_USAGE;

    if (files_arguments(f, argc, argv) != 0) {
        goto done;
    }

    rc = 1;

    if (cf->database == NULL || !cf->store_enabled) {
        log_error("%s", (cf->database == NULL)
                        ? "DATABASE_URL is not set"
                        : "no store is configured: R2_...");
        goto done;
    }

    f->w.cf = cf;
    f->w.db = db_create(cf->database, cf->statement);
    f->w.redis = redis_create(cf->redis_url != NULL ? &cf->redis : NULL);
    f->w.r2 = r2_create(cf);

    if (f->w.db != NULL && f->w.redis != NULL && f->w.r2 != NULL
        && files_all(f) == 0)
    {
        printf("moved=%ld failed=%ld queued=%ld\n", f->moved, f->failed,
               f->queued);
        rc = (f->failed == 0) ? 0 : 1;
    }

    if (f->queued != 0) {
        jobs_wake(f->w.redis);
    }

    db_free(f->w.db);
    redis_free(f->w.redis);
    r2_free(f->w.r2);

done:

    free(f);

    return rc;
}


static int
files_arguments(files_t *f, int argc, char **argv)
{
    int  i;

    for (i = 0; i < argc; i++) {

        if (strcmp(argv[i], "--remove") == 0) {
            f->remove = 1;

        } else if (strcmp(argv[i], "--root") == 0 && i + 1 < argc) {
            f->root = argv[++i];

        } else {
            return -1;
        }
    }

    return 0;
}


static int
files_all(files_t *f)
{
    int          i, n;
    char         last[24];
    PGresult    *res;
    const char  *param;

    if (files_count(f) != 0) {
        return -1;
    }

    strcpy(last, "0");

    do {
        param = last;

        if (db_query(f->w.db, "files", files_ids_sql, 1, &param, &res)
            != DB_OK)
        {
            return -1;
        }

        n = PQntuples(res);

        for (i = 0; i < n; i++) {
            files_one(f, PQgetvalue(res, i, 0));
            progress_step(&f->progress, 1);
        }

        if (n > 0) {
            snprintf(last, sizeof(last), "%s", PQgetvalue(res, n - 1, 0));
        }

        PQclear(res);

    } while (n > 0);

    progress_end(&f->progress);

    return 0;
}


static int
files_count(files_t *f)
{
    PGresult    *res;
    const char  *zero;

    zero = "0";

    if (db_query(f->w.db, "files", files_count_sql, 1, &zero, &res) != DB_OK) {
        return -1;
    }

    progress_begin(&f->progress, "files", atoll(db_value(res, 0)));
    PQclear(res);

    return 0;
}


static void
files_one(files_t *f, const char *id)
{
    PGresult   *row;
    r2_head_t   head;

    f->id = id;
    f->data = NULL;
    f->len = 0;
    f->path[0] = '\0';
    f->error = NULL;

    if (db_query(f->w.db, "file", files_row_sql, 1, &id, &row) != DB_OK) {
        (void) files_fail(f, "the database did not answer");

    } else if (db_value(row, FILES_USER) == NULL) {
        (void) files_fail(f, "the activity was deleted");

    } else if (files_source(f, row) == 0
               && files_store(f, &head) == 0
               && files_record(f, &head) == 0)
    {
        f->moved++;
    }

    if (f->error != NULL) {
        f->failed++;
        printf("failed activity=%s%s%s reason=%s\n", id,
               (f->path[0] == '\0') ? "" : " path=",
               (f->path[0] == '\0') ? "" : log_value(f->path),
               log_value(f->error));
    }

    PQclear(row);
    free(f->data);
}


static int
files_source(files_t *f, const PGresult *row)
{
    int      rc;
    size_t   n;
    u_char  *packed;

    snprintf(f->key, sizeof(f->key), "users/%s/activities/%s.fit",
             db_value(row, FILES_USER), f->id);

    rc = (db_value(row, FILES_CONTENT) != NULL)
         ? files_content(f, db_value(row, FILES_CONTENT))
         : files_path(f, db_value(row, FILES_PATH));

    if (rc != 0) {
        return -1;
    }

    packed = f->data;
    n = f->len;

    rc = (files_unpack(f) == 0
          && files_verify(f, db_value(row, FILES_HASH), packed, n) == 0)
         ? 0 : -1;

    if (packed != f->data) {
        free(packed);
    }

    return rc;
}


static int
files_content(files_t *f, const char *text)
{
    int      high, low;
    size_t   i;

    static const char  digits[] = "0123456789abcdef";

    f->len = strlen(text) / 2;
    f->data = malloc(f->len + 1);

    if (f->data == NULL) {
        return files_fail(f, "no memory");
    }

    for (i = 0; i < f->len; i++) {
        high = (int) (strchr(digits, text[2 * i]) - digits);
        low = (int) (strchr(digits, text[2 * i + 1]) - digits);

        f->data[i] = (u_char) (high * 16 + low);
    }

    return 0;
}


static int
files_path(files_t *f, const char *path)
{
    int          fd;
    ssize_t      n;
    struct stat  st;

    if (*path == '/' || f->root == NULL) {
        snprintf(f->path, sizeof(f->path), "%s", path);

    } else {
        snprintf(f->path, sizeof(f->path), "%.500s/%.500s", f->root, path);
    }

    fd = open(f->path, O_RDONLY | O_CLOEXEC);

    if (fd == -1) {
        return files_fail(f, strerror(errno));
    }

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return files_fail(f, "it is no file");
    }

    if (st.st_size > f->w.cf->max_file_size) {
        close(fd);
        return files_fail(f, "it is larger than MAX_FILE_SIZE");
    }

    f->data = malloc(st.st_size + 1);

    while (f->data != NULL && f->len < (size_t) st.st_size) {
        n = read(fd, f->data + f->len, st.st_size - f->len);

        if (n <= 0) {
            break;
        }

        f->len += n;
    }

    close(fd);

    return (f->data == NULL || f->len != (size_t) st.st_size)
           ? files_fail(f, "it could not be read") : 0;
}


static int
files_unpack(files_t *f)
{
    size_t   n;
    u_char  *plain;

    if (inflate_is_gzip(f->data, f->len)) {

        if (inflate_gzip(f->data, f->len,
                         FILES_RATIO * f->w.cf->max_file_size, &plain, &n)
            != INFLATE_OK)
        {
            return files_fail(f, "the gzip file is damaged or too large");
        }

        f->data = plain;
        f->len = n;
    }

    if (f->len == 0) {
        return files_fail(f, "it is empty");
    }

    if (f->len > (size_t) f->w.cf->max_file_size) {
        return files_fail(f, "it is larger than MAX_FILE_SIZE");
    }

    return 0;
}


/* the hash is that of the file before it was packed, or else of what is here */

static int
files_verify(files_t *f, const char *hash, const u_char *packed, size_t n)
{
    char  hex[65];

    files_sha256(f->sha256, f->data, f->len);

    if (hash == NULL || *hash == '\0' || strcmp(hash, f->sha256) == 0) {
        return 0;
    }

    files_sha256(hex, packed, n);

    return (strcmp(hash, hex) == 0)
           ? 0 : files_fail(f, "its hash is not the one in the row");
}


static void
files_sha256(char *hex, const u_char *data, size_t n)
{
    size_t         i;
    unsigned       len;
    unsigned char  digest[EVP_MAX_MD_SIZE];

    if (EVP_Digest(data, n, digest, &len, EVP_sha256(), NULL) != 1) {
        len = 0;
    }

    hex[0] = '\0';

    for (i = 0; i < len; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
}


static int
files_store(files_t *f, r2_head_t *head)
{
    char     sha256[65];
    r2_rc_e  rc;

    rc = r2_head(f->w.r2, f->key, head);

    if (rc == R2_NOT_FOUND) {

        rc = r2_put(f->w.r2, f->key, f->data, f->len, sha256);

        if (rc == R2_OK) {
            rc = r2_head(f->w.r2, f->key, head);
        }
    }

    if (rc != R2_OK) {
        return files_fail(f, "the store did not take it");
    }

    return files_same(f, head);
}


/* also one that was there: perhaps we have put it there before */

static int
files_same(files_t *f, const r2_head_t *head)
{
    int      rc;
    char     hex[65];
    size_t   n;
    u_char  *data;

    if (head->size != (long long) f->len) {
        return files_fail(f, "another object is in its place");
    }

    if (r2_get(f->w.r2, f->key, head->etag, f->len, &data, &n) != R2_OK) {
        return files_fail(f, "the store did not give it back");
    }

    files_sha256(hex, data, n);
    free(data);

    rc = (hex[0] != '\0' && strcmp(hex, f->sha256) == 0) ? 0 : -1;

    return (rc == 0) ? 0 : files_fail(f, "another object is in its place");
}


static int
files_record(files_t *f, const r2_head_t *head)
{
    char         size[24];
    PGresult    *res;
    const char  *params[6];

    snprintf(size, sizeof(size), "%lld", head->size);

    params[0] = f->id;
    params[1] = f->key;
    params[2] = size;
    params[3] = head->etag;
    params[4] = f->sha256;
    params[5] = f->remove ? "true" : "false";

    if (db_query(f->w.db, "move_file", files_move_sql, 6, params, &res)
        != DB_OK)
    {
        return files_fail(f, "the database did not answer");
    }

    if (strcmp(db_value(res, 0), "moved") != 0) {
        PQclear(res);
        return files_fail(f, "the row has got a file meanwhile");
    }

    f->queued += (db_value(res, 1) != NULL);
    PQclear(res);

    if (f->remove && f->path[0] != '\0' && unlink(f->path) != 0) {
        log_warn("moved, but not removed path=%s reason=%s",
                 log_value(f->path), log_value(strerror(errno)));
    }

    return 0;
}


static int
files_fail(files_t *f, const char *error)
{
    f->error = error;

    return -1;
}
