
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clerk.h"
#include "commands.h"
#include "jobs.h"


static int command_open(const config_t *cf, worker_t *w);
static void command_close(worker_t *w);
static int command_list(worker_t *w, const char *state);
static int command_requeue(worker_t *w, const char *which);
static int command_apply(worker_t *w, const char *id, const PGresult *row);


static const char  command_list_sql[] =
    "SELECT id, kind, state, attempts,"
    " to_char(coalesce(finished_at, lease_until, run_at) AT TIME ZONE 'UTC',"
    " 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
    " user_id, activity_id, object_key, last_error FROM edge_jobs"
    " WHERE state = ANY (CASE $1 WHEN 'open'"
    " THEN ARRAY['queued', 'running', 'dead'] WHEN 'all'"
    " THEN ARRAY['queued', 'running', 'dead', 'done'] ELSE ARRAY[$1] END)"
    " ORDER BY id LIMIT 10000";

static const char  command_requeue_sql[] =
    "SELECT edge_requeue_job($1::bigint)";

static const char  command_requeue_dead_sql[] =
    "SELECT j.id, edge_requeue_job(j.id) FROM edge_jobs j"
    " WHERE j.state = 'dead' ORDER BY j.id";

static const char  command_event_sql[] =
    "SELECT outcome, event_type, event_ms, payload FROM edge_inbox"
    " WHERE svix_id = $1";

static const char  command_replay_sql[] =
    "SELECT outcome, user_id, detail FROM edge_replay_event("
    "$1, $2, $3, $4::bigint, $5, $6::boolean, $7, $8, $9::integer)";


int
command_jobs(const config_t *cf, int argc, char **argv)
{
    int                 rc;
    size_t              i;
    worker_t            w;
    static const char  *states[] = {
        "open", "queued", "running", "dead", "done", "all"
    };

    if (argc < 1 || argc > 2) {
        return COMMAND_USAGE;
    }

    if (strcmp(argv[0], "list") == 0) {

        for (i = 0; argc == 2 && i < sizeof(states) / sizeof(states[0]); i++) {
            if (strcmp(argv[1], states[i]) == 0) {
                break;
            }
        }

        if (i == sizeof(states) / sizeof(states[0])) {
            return COMMAND_USAGE;
        }

    } else if (strcmp(argv[0], "requeue") != 0 || argc != 2
               || (strcmp(argv[1], "--dead") != 0
                   && (*argv[1] == '\0' || strlen(argv[1]) > 18
                       || strspn(argv[1], "0123456789") != strlen(argv[1]))))
    {
        return COMMAND_USAGE;
    }

    if (command_open(cf, &w) != 0) {
        return 1;
    }

    rc = (strcmp(argv[0], "list") == 0)
         ? command_list(&w, (argc == 2) ? argv[1] : "open")
         : command_requeue(&w, argv[1]);

    command_close(&w);

    return rc;
}


static int
command_list(worker_t *w, const char *state)
{
    int        i, k;
    PGresult  *res;

    static const struct {
        const char  *name;
        int          width;
    } columns[] = {
        { "ID", 8 }, { "KIND", 17 }, { "STATE", 7 }, { "TRIES", 5 },
        { "WHEN", 20 }, { "USER", 8 }, { "ACTIVITY", 8 }, { "KEY", 40 },
        { "ERROR", 0 }
    };

    if (db_query(w->db, "list_jobs", command_list_sql, 1, &state, &res)
        != DB_OK)
    {
        return 1;
    }

    for (k = 0; k < 9; k++) {
        printf("%-*s%s", columns[k].width, columns[k].name,
               (k == 8) ? "\n" : "  ");
    }

    for (i = 0; i < PQntuples(res); i++) {
        for (k = 0; k < 9; k++) {
            printf("%-*s%s", columns[k].width,
                   PQgetisnull(res, i, k) ? "-"
                   : (k < 7) ? PQgetvalue(res, i, k)
                             : log_value(PQgetvalue(res, i, k)),
                   (k == 8) ? "\n" : "  ");
        }
    }

    PQclear(res);

    return 0;
}


static int
command_requeue(worker_t *w, const char *which)
{
    int          i, rc, all;
    PGresult    *res;
    const char  *outcome;

    all = (strcmp(which, "--dead") == 0);

    if (db_query(w->db, "requeue_job",
                 all ? command_requeue_dead_sql : command_requeue_sql, !all,
                 &which, &res)
        != DB_OK)
    {
        return 1;
    }

    rc = 0;

    for (i = 0; i < PQntuples(res); i++) {
        outcome = PQgetvalue(res, i, all);

        printf("%s %s\n", all ? PQgetvalue(res, i, 0) : which,
               (strcmp(outcome, "not_found") == 0) ? "there is no such job"
               : (strcmp(outcome, "running") == 0) ? "is running"
               : (strcmp(outcome, "gone") == 0)
                 ? "its file was replaced or deleted"
                 : outcome);

        if (strcmp(outcome, "requeued") != 0) {
            rc = 1;
        }
    }

    if (all) {
        printf("%d dead\n", PQntuples(res));
    }

    PQclear(res);
    jobs_wake(w->redis);

    return rc;
}


int
command_replay(const config_t *cf, int argc, char **argv)
{
    int          rc;
    worker_t     w;
    PGresult    *row;
    const char  *id;

    if (argc != 1 || *argv[0] == '-') {
        return COMMAND_USAGE;
    }

    id = argv[0];

    if (command_open(cf, &w) != 0) {
        return 1;
    }

    rc = 1;

    if (db_query(w.db, "find_event", command_event_sql, 1, &id, &row) == DB_OK)
    {
        if (db_value(row, 0) == NULL) {
            printf("%s: there is no such event\n", id);

        } else if (db_value(row, 3) == NULL) {
            printf("%s: %s, and its body has not been kept\n", id,
                   db_value(row, 0));

        } else {
            rc = command_apply(&w, id, row);
        }

        PQclear(row);
    }

    command_close(&w);

    return rc;
}


static int
command_apply(worker_t *w, const char *id, const PGresult *row)
{
    int             rc;
    char            grace[24];
    PGresult       *res;
    const char     *params[9], *payload, *reason, *outcome;
    clerk_event_t   ev;

    payload = db_value(row, 3);

    if (clerk_event_parse(&ev, (const u_char *) payload, strlen(payload),
                          &reason)
        != CLERK_OK)
    {
        printf("%s: %s\n", id, reason);
        return 1;
    }

    snprintf(grace, sizeof(grace), "%lld", w->cf->user_files_grace);

    params[0] = id;
    params[1] = db_value(row, 1);
    params[2] = ev.clerk_id;
    params[3] = db_value(row, 2);
    params[4] = ev.email;
    params[5] = ev.email_verified ? "true" : "false";
    params[6] = ev.display_name;
    params[7] = payload;
    params[8] = (w->cf->user_files_grace < 0) ? NULL : grace;

    if (db_query(w->db, "replay_event", command_replay_sql, 9, params, &res)
        != DB_OK)
    {
        return 1;
    }

    outcome = db_value(res, 0);

    printf("%s: was %s, is %s user=%s detail=%s\n", id, db_value(row, 0),
           outcome, log_value(db_value(res, 1)), log_value(db_value(res, 2)));

    rc = (outcome != NULL && strcmp(outcome, "applied") == 0) ? 0 : 1;

    PQclear(res);

    return rc;
}


static int
command_open(const config_t *cf, worker_t *w)
{
    memset(w, 0, sizeof(worker_t));

    if (cf->database == NULL) {
        log_error("DATABASE_URL is not set");
        return -1;
    }

    w->cf = cf;
    w->db = db_create(cf->database, cf->statement);
    w->redis = redis_create(cf->redis_url != NULL ? &cf->redis : NULL);

    if (w->db == NULL || w->redis == NULL) {
        command_close(w);
        return -1;
    }

    return 0;
}


static void
command_close(worker_t *w)
{
    db_free(w->db);
    redis_free(w->redis);
}
