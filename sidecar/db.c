
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "db.h"
#include "log.h"
#include "metrics.h"


#define DB_TRIES       3

/* more than there are in a program; what is beyond is not prepared */

#define DB_STATEMENTS  32
#define DB_NAME        32

/* ms without pipelines, after one that took too long */

#define DB_APART       60000


typedef struct {
    uint64_t     hash;
    unsigned     prepared;
} db_statement_t;


struct db_s {
    const char  *url;
    unsigned     timeout;
    unsigned     used:1;        /* the connection has answered before */
    unsigned     inside:1;      /* a transaction block: no other connection */
    unsigned     plain:1;       /* a pooler loses prepared statements */
    unsigned     away:1;        /* it could not be reached just now */
    unsigned     hurried:1;     /* others wait: nothing is tried again */
    long long    apart;         /* until then there is no pipeline */
    PGconn      *conn;

    /* what this connection has seen */
    unsigned         nstatements;
    db_statement_t   statements[DB_STATEMENTS];
};


typedef enum {
    DB_CLASS_LOST,              /* the connection is gone */
    DB_CLASS_AGAIN,             /* the same statement may succeed now */
    DB_CLASS_UNPREPARED,        /* it was another connection of a pooler */
    DB_CLASS_LATER,
    DB_CLASS_BUG
} db_class_e;


static db_rc_e db_connect(db_t *db, const char *what);
static void db_disconnect(db_t *db);
static void db_notice(void *data, const PGresult *result);
static PGresult *db_execute(db_t *db, const char *sql, unsigned n,
    const char *const *params, int *timedout);
static int db_pipeline(db_t *db, const char *sql, unsigned n,
    db_call_t *calls, unsigned ncalls, long long until);
static int db_send_all(db_t *db, const db_statement_t *statement,
    const char *sql, unsigned n, const db_call_t *calls, unsigned ncalls);
static void db_clear_all(db_call_t *calls, unsigned ncalls);
static db_statement_t *db_statement(db_t *db, const char *sql);
static void db_name(char *name, const db_statement_t *statement);
static PGresult *db_wait(db_t *db, long long until, int *timedout);
static int db_poll(int fd, short events, long long until);
static void db_report(const db_t *db, const char *what, const PGresult *res,
    db_class_e class, int timedout);
static db_class_e db_classify(const char *sqlstate);
static const char *db_sqlstate(const PGresult *result);
static long long db_now(void);


db_t *
db_create(const char *url, unsigned timeout)
{
    db_t  *db;

    db = calloc(1, sizeof(db_t));
    if (db == NULL) {
        return NULL;
    }

    db->url = url;
    db->timeout = timeout;

    return db;
}


void
db_free(db_t *db)
{
    if (db != NULL) {
        db_disconnect(db);
        free(db);
    }
}


db_rc_e
db_query(db_t *db, const char *what, const char *sql, unsigned n,
    const char *const *params, PGresult **result)
{
    int              timedout;
    unsigned         tries, fresh;
    PGresult        *res;
    db_class_e       class;
    ExecStatusType   status;

    *result = NULL;

    for (tries = 1; /* void */; tries++) {

        if (db_connect(db, what) != DB_OK) {
            return DB_RETRY;
        }

        fresh = !db->used || db->inside;
        timedout = 0;

        res = db_execute(db, sql, n, params, &timedout);
        status = PQresultStatus(res);

        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
            db->used = 1;
            *result = res;
            return DB_OK;
        }

        class = timedout ? DB_CLASS_LATER : db_classify(db_sqlstate(res));

        /*
         * A scaled-down or restarted server is noticed by the first statement
         * after it: an old connection deserves a second try, a new one which
         * fails at once does not.
         */

        if (class == DB_CLASS_LOST && !fresh && tries < DB_TRIES) {
            PQclear(res);
            db_disconnect(db);
            continue;
        }

        if (class == DB_CLASS_AGAIN && tries < DB_TRIES && !db->inside
            && !db->hurried)
        {
            PQclear(res);
            continue;
        }

        if (class == DB_CLASS_UNPREPARED && !db->plain) {
            PQclear(res);
            db->plain = 1;
            log_info("database pooler keeps no prepared statements");
            continue;
        }

        break;
    }

    db_report(db, what, res, class, timedout);

    PQclear(res);

    if (class != DB_CLASS_BUG || db->inside) {
        db_disconnect(db);
    }

    return (class == DB_CLASS_BUG) ? DB_ERROR : DB_RETRY;
}


/*
 * Together first; if that fails one by one, with all that db_query() knows
 * about trying again, so that the one which has failed is alone in it.  What
 * was done and only not heard of is done twice, as there.
 */

void
db_query_each(db_t *db, const char *what, const char *sql, unsigned n,
    db_call_t *calls, unsigned ncalls)
{
    unsigned   i;
    long long  until;

    for (i = 0; i < ncalls; i++) {
        calls[i].result = NULL;
    }

    until = db_now() + db->timeout * 1000LL;

    if (ncalls > 1 && db_now() >= db->apart
        && db_pipeline(db, sql, n, calls, ncalls, until) != 0)
    {
        /* one at a time some of them would have been in time */

        db->apart = db_now() + DB_APART;
        db_report(db, what, NULL, DB_CLASS_LATER, 1);
        return;
    }

    db->hurried = (ncalls > 1);

    /* nobody waits for longer than for one statement, whoever is before */

    for (i = 0; i < ncalls && (i == 0 || db_now() < until); i++) {

        if (calls[i].result == NULL
            && db_query(db, what, sql, n, calls[i].params, &calls[i].result)
               == DB_RETRY
            && db->away)
        {
            break;
        }
    }

    db->hurried = 0;
}


db_rc_e
db_script(db_t *db, const char *what, const char *sql, unsigned deadline)
{
    int              timedout;
    PGresult        *res;
    db_class_e       class;
    ExecStatusType   status;

    if (db_connect(db, what) != DB_OK) {
        return DB_RETRY;
    }

    timedout = 0;
    res = NULL;

    if (PQsendQuery(db->conn, sql) == 1) {
        res = db_wait(db, db_now() + deadline * 1000LL, &timedout);
    }

    status = PQresultStatus(res);

    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK
        || status == PGRES_EMPTY_QUERY)
    {
        PQclear(res);
        return DB_OK;
    }

    class = timedout ? DB_CLASS_LATER : db_classify(db_sqlstate(res));

    db_report(db, what, res, class, timedout);

    PQclear(res);
    db_disconnect(db);

    return (class == DB_CLASS_BUG) ? DB_ERROR : DB_RETRY;
}


db_rc_e
db_begin(db_t *db, const char *what)
{
    db_rc_e  rc;

    rc = db_script(db, what, "BEGIN", db->timeout);
    db->inside = (rc == DB_OK);

    return rc;
}


db_rc_e
db_commit(db_t *db, const char *what)
{
    db_rc_e  rc;

    rc = db_script(db, what, "COMMIT", db->timeout);
    db->inside = 0;

    return rc;
}


const char *
db_value(const PGresult *result, int column)
{
    if (PQntuples(result) == 0 || column >= PQnfields(result)
        || PQgetisnull(result, 0, column))
    {
        return NULL;
    }

    return PQgetvalue(result, 0, column);
}


static db_rc_e
db_connect(db_t *db, const char *what)
{
    if (db->conn != NULL && PQstatus(db->conn) == CONNECTION_OK) {
        return DB_OK;
    }

    if (db->inside) {
        db_disconnect(db);
        return DB_RETRY;
    }

    db_disconnect(db);

    if (db->url == NULL) {
        log_warn("database is not configured statement=%s", what);
        return DB_RETRY;
    }

    db->away = 1;
    db->conn = PQconnectdb(db->url);

    if (db->conn == NULL || PQstatus(db->conn) != CONNECTION_OK
        || PQsetnonblocking(db->conn, 1) != 0)
    {
        metrics_add(METRICS_DB_UNREACHABLE);
        log_warn("database is not reachable statement=%s reason=%s", what,
                 log_value(PQerrorMessage(db->conn)));
        db_disconnect(db);
        return DB_RETRY;
    }

    db->away = 0;
    metrics_add(METRICS_DB_CONNECTIONS);

    /* a notice may repeat what a statement was given */

    (void) PQsetErrorVerbosity(db->conn, PQERRORS_TERSE);
    (void) PQsetNoticeReceiver(db->conn, db_notice, NULL);

    return DB_OK;
}


static void
db_disconnect(db_t *db)
{
    PQfinish(db->conn);

    db->conn = NULL;
    db->used = 0;
    db->inside = 0;
    db->nstatements = 0;
}


static void
db_notice(void *data, const PGresult *result)
{
    (void) data;
    (void) result;
}


/*
 * A statement that comes again is prepared, so that the server does not parse
 * and plan it each time.  Such a pooler as gives each transaction to another
 * connection, and knows nothing of that, refuses it before it is executed.
 */

static PGresult *
db_execute(db_t *db, const char *sql, unsigned n, const char *const *params,
    int *timedout)
{
    int              sent;
    char             name[DB_NAME];
    PGresult        *res;
    long long        until;
    db_statement_t  *statement;

    until = db_now() + db->timeout * 1000LL;
    statement = db_statement(db, sql);

    if (statement == NULL) {
        sent = PQsendQueryParams(db->conn, sql, n, NULL, params, NULL, NULL,
                                 0);

        return sent ? db_wait(db, until, timedout) : NULL;
    }

    db_name(name, statement);

    if (!statement->prepared) {
        sent = PQsendPrepare(db->conn, name, sql, 0, NULL);
        res = sent ? db_wait(db, until, timedout) : NULL;

        if (PQresultStatus(res) != PGRES_COMMAND_OK) {
            return res;
        }

        PQclear(res);
        statement->prepared = 1;
    }

    sent = PQsendQueryPrepared(db->conn, name, n, params, NULL, NULL, 0);

    return sent ? db_wait(db, until, timedout) : NULL;
}


/*
 * What is sent before one Sync is one transaction, which commits at the Sync:
 * until the answer to that is here no result counts.  -1: the deadline has
 * passed.
 */

static int
db_pipeline(db_t *db, const char *sql, unsigned n, db_call_t *calls,
    unsigned ncalls, long long until)
{
    int              timedout, done;
    unsigned         i;
    PGresult        *res;
    db_statement_t  *statement;

    if (PQstatus(db->conn) != CONNECTION_OK || !db->used || db->inside) {
        return 0;
    }

    statement = db_statement(db, sql);

    /* to prepare it would be a call of another kind */

    if (!db->plain && (statement == NULL || !statement->prepared)) {
        return 0;
    }

    timedout = 0;

    if (PQenterPipelineMode(db->conn) != 1
        || db_send_all(db, statement, sql, n, calls, ncalls) != 0)
    {
        goto failed;
    }

    for (i = 0; i < ncalls; i++) {
        calls[i].result = db_wait(db, until, &timedout);

        if (PQstatus(db->conn) != CONNECTION_OK) {
            goto failed;
        }
    }

    res = db_wait(db, until, &timedout);
    done = (PQresultStatus(res) == PGRES_PIPELINE_SYNC);
    PQclear(res);

    if (PQexitPipelineMode(db->conn) != 1) {
        goto failed;
    }

    /* if one has failed, all have */

    for (i = 0; i < ncalls; i++) {
        done &= (PQresultStatus(calls[i].result) == PGRES_TUPLES_OK);
    }

    if (!done) {
        db_clear_all(calls, ncalls);
    }

    return 0;

failed:

    db_clear_all(calls, ncalls);
    db_disconnect(db);

    return timedout ? -1 : 0;
}


static int
db_send_all(db_t *db, const db_statement_t *statement, const char *sql,
    unsigned n, const db_call_t *calls, unsigned ncalls)
{
    int       sent;
    char      name[DB_NAME];
    unsigned  i;

    if (statement != NULL) {
        db_name(name, statement);
    }

    for (i = 0; i < ncalls; i++) {

        sent = (statement != NULL)
               ? PQsendQueryPrepared(db->conn, name, n, calls[i].params, NULL,
                                     NULL, 0)
               : PQsendQueryParams(db->conn, sql, n, NULL, calls[i].params,
                                   NULL, NULL, 0);

        if (sent != 1) {
            return -1;
        }
    }

    return (PQpipelineSync(db->conn) == 1) ? 0 : -1;
}


static void
db_clear_all(db_call_t *calls, unsigned ncalls)
{
    unsigned  i;

    for (i = 0; i < ncalls; i++) {
        PQclear(calls[i].result);
        calls[i].result = NULL;
    }
}


/* NULL if it should not be prepared, as if it comes for the first time */

static db_statement_t *
db_statement(db_t *db, const char *sql)
{
    unsigned      i;
    uint64_t      hash;
    const char   *p;

    if (db->plain || db->inside) {
        return NULL;
    }

    /* FNV-1a */

    hash = 14695981039346656037U;

    for (p = sql; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char) *p) * 1099511628211U;
    }

    for (i = 0; i < db->nstatements; i++) {
        if (db->statements[i].hash == hash) {
            return &db->statements[i];
        }
    }

    if (i < DB_STATEMENTS) {
        db->statements[i].hash = hash;
        db->statements[i].prepared = 0;
        db->nstatements++;
    }

    return NULL;
}


/* by what it is: behind a pooler others use the same connections */

static void
db_name(char *name, const db_statement_t *statement)
{
    snprintf(name, DB_NAME, "edge_%016llx",
             (unsigned long long) statement->hash);
}


/*
 * The last result of what was sent, or the first that failed; NULL if the
 * connection broke or the deadline passed.  The deadline is kept here and not
 * by statement_timeout, which a pooler does not let through.
 */

static PGresult *
db_wait(db_t *db, long long until, int *timedout)
{
    int              rc, flushed;
    PGresult        *res, *last;
    ExecStatusType   status;

    last = NULL;

    for ( ;; ) {

        flushed = PQflush(db->conn);
        if (flushed < 0) {
            goto failed;
        }

        if (flushed == 0 && !PQisBusy(db->conn)) {

            res = PQgetResult(db->conn);
            if (res == NULL) {
                return last;
            }

            status = PQresultStatus(last);

            if (last != NULL && status != PGRES_TUPLES_OK
                && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY)
            {
                PQclear(res);

            } else {
                PQclear(last);
                last = res;
            }

            /*
             * Without a connection each call would make one more of these.
             * And rows without the server's last word are not committed.
             */

            if (PQstatus(db->conn) == CONNECTION_BAD) {
                status = PQresultStatus(last);

                if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
                    goto failed;
                }

                return last;
            }

            continue;
        }

        rc = db_poll(PQsocket(db->conn),
                     POLLIN | (flushed == 1 ? POLLOUT : 0), until);

        if (rc == 0) {
            *timedout = 1;
            goto failed;
        }

        if (rc < 0 || PQconsumeInput(db->conn) != 1) {
            goto failed;
        }
    }

failed:

    PQclear(last);

    return NULL;
}


static int
db_poll(int fd, short events, long long until)
{
    int            n;
    long long      left;
    struct pollfd  pfd;

    for ( ;; ) {
        left = until - db_now();

        if (left <= 0) {
            return 0;
        }

        pfd.fd = fd;
        pfd.events = events;

        n = poll(&pfd, 1, (int) left);

        if (n >= 0 || errno != EINTR) {
            return n;
        }
    }
}


static void
db_report(const db_t *db, const char *what, const PGresult *res,
    db_class_e class, int timedout)
{
    const char  *reason;

    metrics_add(METRICS_DB_FAILURES);

    reason = timedout ? "timeout"
             : (res != NULL) ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY)
             : PQerrorMessage(db->conn);

    if (class == DB_CLASS_BUG) {
        log_error("database refused statement=%s sqlstate=%s reason=%s", what,
                  db_sqlstate(res), log_value(reason));
        return;
    }

    log_warn("database failed statement=%s sqlstate=%s reason=%s", what,
             db_sqlstate(res), log_value(reason));
}


static db_class_e
db_classify(const char *sqlstate)
{
    size_t              i;
    static const char  *again[] = { "40001", "40P01", "55P03" };
    static const char  *unprepared[] = { "26000", "42P05" };

    /* 0A000 is of a plan: a migration has changed what a function returns */

    static const char  *lost[] = { "08", "57P", "0A000" };
    static const char  *later[] = { "53", "57", "58", "XX", "25006" };

    if (strcmp(sqlstate, "-") == 0) {
        return DB_CLASS_LOST;
    }

    for (i = 0; i < sizeof(again) / sizeof(again[0]); i++) {
        if (strcmp(sqlstate, again[i]) == 0) {
            return DB_CLASS_AGAIN;
        }
    }

    for (i = 0; i < sizeof(unprepared) / sizeof(unprepared[0]); i++) {
        if (strcmp(sqlstate, unprepared[i]) == 0) {
            return DB_CLASS_UNPREPARED;
        }
    }

    for (i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
        if (strncmp(sqlstate, lost[i], strlen(lost[i])) == 0) {
            return DB_CLASS_LOST;
        }
    }

    for (i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        if (strncmp(sqlstate, later[i], strlen(later[i])) == 0) {
            return DB_CLASS_LATER;
        }
    }

    return DB_CLASS_BUG;
}


static const char *
db_sqlstate(const PGresult *result)
{
    const char  *sqlstate;

    sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return (sqlstate == NULL) ? "-" : sqlstate;
}


static long long
db_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}
