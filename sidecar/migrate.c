
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "migrate.h"


#define MIGRATE_DEADLINE  600


static int migrate_one(db_t *db, const migration_t *m, int up, int *done);
static int migrate_last(db_t *db, unsigned *version);
static int migrate_forget(db_t *db);
static const migration_t *migrate_find(unsigned version);


/* transaction-scoped locks only: a pooler would keep one of a session */

static const char  migrate_prepare[] =
    "SET LOCAL lock_timeout = '60s';"
    "SELECT pg_advisory_xact_lock(hashtextextended('edge:migrate', 0));"
    "SET LOCAL lock_timeout = '10s';"
    "CREATE TABLE IF NOT EXISTS edge_migrations ("
    " version integer PRIMARY KEY,"
    " name text NOT NULL,"
    " applied_at timestamptz NOT NULL DEFAULT now())";

static const char  migrate_find_sql[] =
    "SELECT 1 FROM edge_migrations WHERE version = $1::integer";

static const char  migrate_insert_sql[] =
    "INSERT INTO edge_migrations (version, name) VALUES ($1::integer, $2)";

static const char  migrate_delete_sql[] =
    "DELETE FROM edge_migrations WHERE version = $1::integer AND name = $2";

static const char  migrate_exists_sql[] =
    "SELECT to_regclass('edge_migrations') IS NOT NULL";

static const char  migrate_last_sql[] =
    "SELECT max(version) FROM edge_migrations";

static const char  migrate_list_sql[] =
    "SELECT version, name,"
    " to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    " FROM edge_migrations ORDER BY version";

static const char  migrate_forget_sql[] =
    "DROP TABLE edge_migrations";


int
migrate_up(db_t *db)
{
    int                 done;
    unsigned            n;
    const migration_t  *m;

    n = 0;

    for (m = migrations; m->name != NULL; m++) {

        if (migrate_one(db, m, 1, &done) != 0) {
            fprintf(stderr, "migration %03u %s failed\n", m->version, m->name);
            return -1;
        }

        if (done) {
            printf("applied %03u %s\n", m->version, m->name);
            n++;
        }
    }

    printf("%u applied\n", n);

    return 0;
}


int
migrate_down(db_t *db, unsigned n)
{
    int                 done;
    unsigned            i, version, reverted;
    const migration_t  *m;

    reverted = 0;

    for (i = 0; n == 0 || i < n; i++) {

        if (migrate_last(db, &version) != 0) {
            return -1;
        }

        if (version == 0) {
            break;
        }

        m = migrate_find(version);

        if (m == NULL) {
            fprintf(stderr, "version %03u is not one of this program's: "
                    "revert it with the program that applied it\n", version);
            return -1;
        }

        if (migrate_one(db, m, 0, &done) != 0) {
            fprintf(stderr, "reverting %03u %s failed\n", m->version, m->name);
            return -1;
        }

        if (done) {
            printf("reverted %03u %s\n", m->version, m->name);
            reverted++;
        }
    }

    printf("%u reverted\n", reverted);

    if (n == 0) {
        return migrate_forget(db);
    }

    return 0;
}


int
migrate_status(db_t *db)
{
    int                 i, n;
    PGresult           *exists, *res;
    const migration_t  *m;

    res = NULL;
    n = 0;

    if (db_query(db, "migrate_exists", migrate_exists_sql, 0, NULL, &exists)
        != DB_OK)
    {
        return -1;
    }

    if (strcmp(db_value(exists, 0), "t") == 0) {

        if (db_query(db, "migrate_list", migrate_list_sql, 0, NULL, &res)
            != DB_OK)
        {
            PQclear(exists);
            return -1;
        }

        n = PQntuples(res);
    }

    for (m = migrations; m->name != NULL; m++) {

        for (i = 0; i < n; i++) {
            if ((unsigned) atoi(PQgetvalue(res, i, 0)) == m->version) {
                break;
            }
        }

        printf("%03u %s %s%s\n", m->version, m->name,
               (i < n) ? "applied " : "pending",
               (i < n) ? PQgetvalue(res, i, 2) : "");
    }

    for (i = 0; i < n; i++) {

        if (migrate_find(atoi(PQgetvalue(res, i, 0))) == NULL) {
            printf("%03d %s unknown %s\n", atoi(PQgetvalue(res, i, 0)),
                   PQgetvalue(res, i, 1), PQgetvalue(res, i, 2));
        }
    }

    PQclear(exists);
    PQclear(res);

    return 0;
}


int
migrate_pending(db_t *db, unsigned *pending, unsigned *unknown)
{
    int                 i, n, exists;
    PGresult           *res;
    const migration_t  *m;

    *pending = 0;
    *unknown = 0;

    for (m = migrations; m->name != NULL; m++) {
        (*pending)++;
    }

    if (db_query(db, "migrate_exists", migrate_exists_sql, 0, NULL, &res)
        != DB_OK)
    {
        return -1;
    }

    exists = (strcmp(db_value(res, 0), "t") == 0);
    PQclear(res);

    if (!exists) {
        return 0;
    }

    if (db_query(db, "migrate_list", migrate_list_sql, 0, NULL, &res) != DB_OK)
    {
        return -1;
    }

    n = PQntuples(res);

    for (i = 0; i < n; i++) {
        if (migrate_find(atoi(PQgetvalue(res, i, 0))) != NULL) {
            (*pending)--;

        } else {
            (*unknown)++;
        }
    }

    PQclear(res);

    return 0;
}


static int
migrate_one(db_t *db, const migration_t *m, int up, int *done)
{
    int          present;
    char         version[16];
    PGresult    *res;
    const char  *params[2];

    *done = 0;

    snprintf(version, sizeof(version), "%u", m->version);
    params[0] = version;
    params[1] = m->name;

    if (db_begin(db, "migrate_begin") != DB_OK
        || db_script(db, "migrate_lock", migrate_prepare, MIGRATE_DEADLINE)
           != DB_OK
        || db_query(db, "migrate_find", migrate_find_sql, 1, params, &res)
           != DB_OK)
    {
        return -1;
    }

    present = (db_value(res, 0) != NULL);
    PQclear(res);

    if (present == up) {
        return (db_commit(db, "migrate_commit") == DB_OK) ? 0 : -1;
    }

    if (db_script(db, m->name, up ? m->up : m->down, MIGRATE_DEADLINE) != DB_OK
        || db_query(db, "migrate_record",
                    up ? migrate_insert_sql : migrate_delete_sql, 2, params,
                    &res)
           != DB_OK)
    {
        return -1;
    }

    PQclear(res);

    if (db_commit(db, "migrate_commit") != DB_OK) {
        return -1;
    }

    *done = 1;

    return 0;
}


static int
migrate_last(db_t *db, unsigned *version)
{
    int        exists;
    PGresult  *res;

    *version = 0;

    if (db_query(db, "migrate_exists", migrate_exists_sql, 0, NULL, &res)
        != DB_OK)
    {
        return -1;
    }

    exists = (strcmp(db_value(res, 0), "t") == 0);
    PQclear(res);

    if (!exists) {
        return 0;
    }

    if (db_query(db, "migrate_last", migrate_last_sql, 0, NULL, &res) != DB_OK)
    {
        return -1;
    }

    if (db_value(res, 0) != NULL) {
        *version = atoi(db_value(res, 0));
    }

    PQclear(res);

    return 0;
}


static int
migrate_forget(db_t *db)
{
    PGresult  *res;
    unsigned   version;

    if (migrate_last(db, &version) != 0 || version != 0) {
        return -1;
    }

    if (db_begin(db, "migrate_begin") != DB_OK
        || db_script(db, "migrate_lock", migrate_prepare, MIGRATE_DEADLINE)
           != DB_OK
        || db_query(db, "migrate_last", migrate_last_sql, 0, NULL, &res)
           != DB_OK)
    {
        return -1;
    }

    /* somebody may have begun to go up again */

    if (db_value(res, 0) == NULL
        && db_script(db, "migrate_forget", migrate_forget_sql,
                     MIGRATE_DEADLINE)
           != DB_OK)
    {
        PQclear(res);
        return -1;
    }

    PQclear(res);

    return (db_commit(db, "migrate_commit") == DB_OK) ? 0 : -1;
}


static const migration_t *
migrate_find(unsigned version)
{
    const migration_t  *m;

    for (m = migrations; m->name != NULL; m++) {
        if (m->version == version) {
            return m;
        }
    }

    return NULL;
}
