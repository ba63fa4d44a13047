
/*
 * What the rows say is in the store, for backups: a line of JSON for each
 * object.  A cursor in one transaction, so that it is of one moment, and of any
 * length in little memory.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "commands.h"
#include "db.h"


/* columns of the cursor, which are the members of a line as well */

typedef struct {
    const char  *name;
    int          number;
} inventory_column_t;


static int inventory_print(const PGresult *res);
static json_t *inventory_line(const PGresult *res, int row);


static const char  inventory_sql[] =
    "DECLARE inventory NO SCROLL CURSOR FOR"
    " SELECT user_id, id, coalesce(fit_file_key, r2_key), fit_file_size,"
    " fit_file_etag, fit_file_checksum, fit_file_status,"
    " to_char(fit_uploaded_at AT TIME ZONE 'UTC',"
    " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"')"
    " FROM activities WHERE coalesce(fit_file_key, r2_key) IS NOT NULL"
    " ORDER BY id";

static const char  inventory_fetch_sql[] =
    "FETCH 1000 FROM inventory";


static const inventory_column_t  inventory_columns[] = {
    { "user", 1 },
    { "activity", 1 },
    { "key", 0 },
    { "size", 1 },
    { "etag", 0 },
    { "sha256", 0 },
    { "status", 0 },
    { "uploaded_at", 0 },
    { NULL, 0 }
};


int
command_inventory(const config_t *cf, int argc, char **argv)
{
    int        n, rc;
    long       objects;
    db_t      *db;
    PGresult  *res;

    (void) argv;

    if (argc != 0) {
        return COMMAND_USAGE;
    }

    if (cf->database == NULL) {
        log_error("DATABASE_URL is not set");
        return 1;
    }

    db = db_create(cf->database, cf->statement);
    if (db == NULL) {
        return 1;
    }

    rc = 1;
    objects = 0;

    if (db_begin(db, "inventory") != DB_OK
        || db_query(db, "inventory", inventory_sql, 0, NULL, &res) != DB_OK)
    {
        goto failed;
    }

    PQclear(res);

    do {
        if (db_query(db, "inventory", inventory_fetch_sql, 0, NULL, &res)
            != DB_OK)
        {
            goto failed;
        }

        n = PQntuples(res);
        objects += n;

        if (inventory_print(res) != 0) {
            PQclear(res);
            goto failed;
        }

        PQclear(res);

    } while (n > 0);

    if (db_commit(db, "inventory") == DB_OK) {
        log_info("inventory objects=%ld", objects);
        rc = 0;
    }

failed:

    if (rc != 0) {
        log_error("the inventory is not complete");
    }

    db_free(db);

    return rc;
}


static int
inventory_print(const PGresult *res)
{
    int      i;
    char    *text;
    json_t  *line;

    for (i = 0; i < PQntuples(res); i++) {
        line = inventory_line(res, i);
        text = (line == NULL) ? NULL : json_dumps(line, JSON_COMPACT);
        json_decref(line);

        if (text == NULL) {
            log_error("cannot make a line of activity=%s",
                      log_value(PQgetvalue(res, i, 1)));
            return -1;
        }

        puts(text);
        free(text);
    }

    if (fflush(stdout) != 0 || ferror(stdout)) {
        log_error("cannot write reason=%s", log_value(strerror(errno)));
        return -1;
    }

    return 0;
}


static json_t *
inventory_line(const PGresult *res, int row)
{
    int                        i;
    json_t                    *line, *value;
    const inventory_column_t  *column;

    line = json_object();

    for (i = 0; inventory_columns[i].name != NULL; i++) {
        column = &inventory_columns[i];

        value = PQgetisnull(res, row, i) ? json_null()
                : column->number
                  ? json_integer(strtoll(PQgetvalue(res, row, i), NULL, 10))
                  : json_string(PQgetvalue(res, row, i));

        if (json_object_set_new(line, column->name, value) != 0) {
            json_decref(line);
            return NULL;
        }
    }

    return line;
}
