
/*
 * PostgreSQL through libpq: a connection for each thread, made when it is
 * needed and made again when it is lost.
 *
 * Every statement is a transaction of its own and may be sent twice (the
 * answer to a COMMIT can be lost), so all of ours are idempotent.  Nothing
 * depends on the session: the server may be a PgBouncer which gives each
 * transaction to another one.
 */


#ifndef _DB_H_INCLUDED_
#define _DB_H_INCLUDED_


#include <libpq-fe.h>


#define DB_MAX_PARAMS  16


typedef struct db_s  db_t;


typedef enum {
    DB_OK = 0,
    DB_RETRY,       /* it may pass: no connection, no room, a conflict */
    DB_ERROR        /* it will not: a bug, or a schema that is not ours */
} db_rc_e;


/*
 * url is libpq's, and must outlive the db_t; NULL makes every statement
 * DB_RETRY.  timeout is the deadline of a statement in seconds.  Connects to
 * nothing yet.  NULL: no memory.
 */

db_t *db_create(const char *url, unsigned timeout);
void db_free(db_t *db);


/*
 * Runs one statement with parameters as text, NULL for null.  On DB_OK
 * *result is the caller's, to be freed with PQclear(); otherwise it is NULL
 * and the reason has been logged, once, under the name what.
 */

db_rc_e db_query(db_t *db, const char *what, const char *sql, unsigned n,
    const char *const *params, PGresult **result)
    __attribute__((warn_unused_result));


typedef struct {
    const char  *params[DB_MAX_PARAMS];
    PGresult    *result;
} db_call_t;


/*
 * Runs one statement for each of several calls, in this order, as db_query()
 * of each of them would: what fails does not touch the others, and the result
 * of a call is NULL if it failed.  But if none fails there is one round trip
 * and one transaction for all: locks are kept until its end, so calls must
 * come in an order that does not deadlock.
 *
 * All of them together have about the time of one statement: what has not been
 * run by then is NULL, too.
 */

void db_query_each(db_t *db, const char *what, const char *sql, unsigned n,
    db_call_t *calls, unsigned ncalls);


/*
 * A transaction block, for migrations only.  Inside nothing is sent twice,
 * and after anything but DB_OK, from whichever function, the connection is
 * closed, which rolls back.
 */

db_rc_e db_begin(db_t *db, const char *what)
    __attribute__((warn_unused_result));
db_rc_e db_commit(db_t *db, const char *what)
    __attribute__((warn_unused_result));


/* runs several statements without parameters; deadline is in seconds */

db_rc_e db_script(db_t *db, const char *what, const char *sql,
    unsigned deadline) __attribute__((warn_unused_result));


/* a column of row 0; NULL if it is null, or there is no row */

const char *db_value(const PGresult *result, int column);


#endif /* _DB_H_INCLUDED_ */
