
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "announce.h"
#include "arq.h"
#include "metrics.h"


/*
 * A sleeping worker takes one; more than these, which nobody has taken, would
 * only wake it in vain.
 */

#define JOBS_LIST     "edge:jobs:wake"
#define JOBS_TOKENS   32

/* without Redis nobody wakes us: seconds between looks then */

#define JOBS_BLIND    15

/* seconds of one BLPOP: connections that are silent for longer get cut */

#define JOBS_BLOCK    60

/* activities of a deleted person in one transaction */

#define JOBS_BATCH    "200"

#define JOBS_PURGE    86400
#define JOBS_KEEP     "30"       /* days, of what is settled */
#define JOBS_REPORTS  5


/* columns of edge_take_job() */

enum {
    JOBS_ID = 0,
    JOBS_CLAIM,
    JOBS_KIND,
    JOBS_ATTEMPTS,
    JOBS_USER,
    JOBS_ACTIVITY,
    JOBS_KEY,
    JOBS_ETAG,
    JOBS_CHECKSUM,
    JOBS_ARGS
};


typedef job_rc_e (*jobs_handler_pt)(worker_t *w, const job_t *job,
    job_result_t *result);


typedef struct {
    const char       *kind;
    jobs_handler_pt   handler;
    unsigned          object:1;     /* it is about an object in the store */
} jobs_kind_t;


static int jobs_init(worker_t *w, const config_t *cf);
static void jobs_free(worker_t *w);
static db_rc_e jobs_next(worker_t *w, const char *name, PGresult **claimed);
static void jobs_do(worker_t *w, PGresult *claimed, int stop);
static job_rc_e jobs_dispatch(worker_t *w, const job_t *job,
    job_result_t *result);
static job_rc_e jobs_analyze(worker_t *w, const job_t *job,
    job_result_t *result);
static db_rc_e jobs_relayed(worker_t *w, const job_t *job, const char *done,
    PGresult **res);
static job_rc_e jobs_delete_object(worker_t *w, const job_t *job,
    job_result_t *result);
static job_rc_e jobs_delete_user_files(worker_t *w, const job_t *job,
    job_result_t *result);
static void jobs_report(worker_t *w, const job_t *job, job_rc_e rc,
    job_result_t *result, int stop, char *outcome, size_t size);
static long jobs_idle(worker_t *w);
static void jobs_wait(worker_t *w, long seconds, int stop);
static void jobs_sleep(long ms, int stop);
static int jobs_stopped(int stop);
static void jobs_purge(worker_t *w, time_t *last);
static time_t jobs_now(void);


static const char  jobs_claim_sql[] =
    "SELECT job_id, claim, kind, attempts, user_id, activity_id, object_key,"
    " object_etag, object_checksum, args FROM edge_take_job($1, $2::integer)";

static const char  jobs_finish_sql[] =
    "SELECT edge_finish_job($1::bigint, $2::integer, $3, $4, $5::jsonb)";

static const char  jobs_fail_sql[] =
    "SELECT edge_fail_job($1::bigint, $2::integer, $3)";

static const char  jobs_relay_sql[] =
    "SELECT edge_relay_job($1::bigint, $2::integer, $3::boolean)";

static const char  jobs_next_sql[] =
    "SELECT ceil(edge_next_job())";

static const char  jobs_purge_sql[] =
    "SELECT p.jobs, p.payloads, edge_fold_usage()"
    " FROM edge_purge(" JOBS_KEEP ", $1::integer) p";

static const char  jobs_user_files_sql[] =
    "SELECT outcome, removed, left_over"
    " FROM edge_remove_user_files($1::integer, " JOBS_BATCH ")";


static const jobs_kind_t  jobs_kinds[] = {
    { "analyze", jobs_analyze, 1 },
    { "check_upload", announce_check, 1 },
    { "delete_object", jobs_delete_object, 1 },
    { "delete_user_files", jobs_delete_user_files, 0 },
    { NULL, NULL, 0 }
};


int
jobs_run(const config_t *cf, int stop)
{
    char        name[96];
    long        failures;
    time_t      purged;
    worker_t    w;
    PGresult   *claimed;

    if (jobs_init(&w, cf) != 0) {
        log_error("no memory for a worker");
        jobs_free(&w);
        return -1;
    }

    if (gethostname(name, 64) != 0) {
        strcpy(name, "worker");
    }

    name[63] = '\0';
    snprintf(name + strlen(name), 16, ":%ld", (long) getpid());

    log_info("waiting for jobs worker=%s", log_value(name));

    failures = 0;
    purged = 0;

    while (!jobs_stopped(stop)) {

        if (jobs_next(&w, name, &claimed) != DB_OK) {

            /* spread, so that a restarted database is not met by all */

            failures += (failures < 5);
            jobs_sleep((1000L << (failures - 1)) + random() % 500, stop);
            continue;
        }

        failures = 0;

        if (db_value(claimed, JOBS_ID) == NULL) {
            PQclear(claimed);
            jobs_purge(&w, &purged);
            jobs_wait(&w, jobs_idle(&w), stop);
            continue;
        }

        jobs_do(&w, claimed, stop);
        PQclear(claimed);
    }

    jobs_free(&w);

    return 0;
}


void
jobs_wake(redis_t *redis)
{
    long long    n;
    redisReply  *reply;
    const char  *push[] = { "LPUSH", JOBS_LIST, "1" };
    const char  *trim[] = { "LTRIM", JOBS_LIST, "0", "7" };

    if (redis_command(redis, &reply, 300, -1, 3, push) != REDIS_DONE) {
        return;
    }

    n = reply->integer;
    freeReplyObject(reply);

    if (n > JOBS_TOKENS
        && redis_command(redis, &reply, 300, -1, 4, trim) == REDIS_DONE)
    {
        freeReplyObject(reply);
    }
}


static int
jobs_init(worker_t *w, const config_t *cf)
{
    memset(w, 0, sizeof(worker_t));

    w->cf = cf;
    w->db = db_create(cf->database, cf->statement);
    w->redis = redis_create(cf->redis_url != NULL ? &cf->redis : NULL);

    if (cf->store_enabled) {
        w->r2 = r2_create(cf);

        if (w->r2 == NULL) {
            return -1;
        }

    } else {
        log_warn("no store is configured: jobs will fail");
    }

    return (w->db == NULL || w->redis == NULL) ? -1 : 0;
}


static void
jobs_free(worker_t *w)
{
    db_free(w->db);
    r2_free(w->r2);
    redis_free(w->redis);
}


static db_rc_e
jobs_next(worker_t *w, const char *name, PGresult **claimed)
{
    char         lease[24];
    const char  *params[2];

    snprintf(lease, sizeof(lease), "%lld", w->cf->lease);

    params[0] = name;
    params[1] = lease;

    return db_query(w->db, "take_job", jobs_claim_sql, 2, params, claimed);
}


static void
jobs_do(worker_t *w, PGresult *claimed, int stop)
{
    job_t             job;
    job_rc_e          rc;
    char              outcome[16];
    job_result_t      result;
    struct timespec   begin, end;

    job.id = db_value(claimed, JOBS_ID);
    job.claim = db_value(claimed, JOBS_CLAIM);
    job.kind = db_value(claimed, JOBS_KIND);
    job.user = db_value(claimed, JOBS_USER);
    job.activity = db_value(claimed, JOBS_ACTIVITY);
    job.key = db_value(claimed, JOBS_KEY);
    job.etag = db_value(claimed, JOBS_ETAG);
    job.checksum = db_value(claimed, JOBS_CHECKSUM);
    job.args = db_value(claimed, JOBS_ARGS);

    memset(&result, 0, sizeof(job_result_t));

    clock_gettime(CLOCK_MONOTONIC, &begin);

    rc = jobs_dispatch(w, &job, &result);

    jobs_report(w, &job, rc, &result, stop, outcome, sizeof(outcome));

    clock_gettime(CLOCK_MONOTONIC, &end);

    metrics_job(job.kind, (rc == JOB_FAILED && strcmp(outcome, "done") == 0)
                          ? "failed" : outcome);

    log_info("job id=%s kind=%s activity=%s attempt=%s key=%s verdict=%s "
             "outcome=%s ms=%ld error=%s", job.id, log_value(job.kind),
             log_value(job.activity),
             log_value(db_value(claimed, JOBS_ATTEMPTS)), log_value(job.key),
             (rc == JOB_DONE) ? "done" : (rc == JOB_FAILED) ? "failed"
                                                            : "retry",
             outcome,
             (long) (end.tv_sec - begin.tv_sec) * 1000
             + (end.tv_nsec - begin.tv_nsec) / 1000000,
             result.error[0] == '\0' ? "-" : log_value(result.error));

    free(result.analysis);
}


static job_rc_e
jobs_dispatch(worker_t *w, const job_t *job, job_result_t *result)
{
    const jobs_kind_t  *kind;

    for (kind = jobs_kinds; kind->kind != NULL; kind++) {
        if (strcmp(job->kind, kind->kind) == 0) {
            break;
        }
    }

    if (kind->kind == NULL) {
        strcpy(result->error, "a job of a kind this program does not know");
        return JOB_RETRY;
    }

    if (!kind->object) {
        return kind->handler(w, job, result);
    }

    if (w->r2 == NULL) {
        strcpy(result->error, "no store is configured");
        return JOB_RETRY;
    }

    if (job->key == NULL) {
        strcpy(result->error, "the job names no object");
        return JOB_FAILED;
    }

    if (runcoach_sigv4_check_key((const u_char *) job->key, strlen(job->key))
        != RUNCOACH_SIGV4_OK)
    {
        strcpy(result->error, "the store can have no object of this key");
        return JOB_FAILED;
    }

    return kind->handler(w, job, result);
}


/* handed over first: what follows may take us down with it */

static job_rc_e
jobs_analyze(worker_t *w, const job_t *job, job_result_t *result)
{
    PGresult  *res;

    if (w->cf->queue_mode == QUEUE_INTERNAL) {
        return analyze(w, job, result);
    }

    if (job->args == NULL || strstr(job->args, "\"relayed\"") == NULL) {

        if (arq_relay(w, job) != 0) {
            strcpy(result->error, "redis did not take the job for arq");
            return JOB_RETRY;
        }

        if (w->cf->queue_mode == QUEUE_BOTH
            && jobs_relayed(w, job, "false", &res) == DB_OK)
        {
            PQclear(res);
        }
    }

    if (w->cf->queue_mode == QUEUE_BOTH) {
        return analyze(w, job, result);
    }

    result->relayed = 1;

    return JOB_DONE;
}


static db_rc_e
jobs_relayed(worker_t *w, const job_t *job, const char *done, PGresult **res)
{
    const char  *params[3];

    params[0] = job->id;
    params[1] = job->claim;
    params[2] = done;

    return db_query(w->db, "relay_job", jobs_relay_sql, 3, params, res);
}


static job_rc_e
jobs_delete_object(worker_t *w, const job_t *job, job_result_t *result)
{
    if (r2_delete(w->r2, job->key) == R2_OK) {
        return JOB_DONE;
    }

    strcpy(result->error, "the store did not remove the object");

    return JOB_RETRY;
}


/* each round is a transaction: what has begun goes on where it broke off */

static job_rc_e
jobs_delete_user_files(worker_t *w, const job_t *job, job_result_t *result)
{
    int        more;
    long       removed;
    PGresult  *res;

    removed = 0;

    do {
        if (db_query(w->db, "remove_user_files", jobs_user_files_sql, 1,
                     &job->user, &res)
            != DB_OK)
        {
            strcpy(result->error, "the database did not answer");
            return JOB_RETRY;
        }

        if (strcmp(db_value(res, 0), "back") == 0) {
            strcpy(result->error, "the person is back: nothing is removed");
            PQclear(res);
            return JOB_DONE;
        }

        if (strcmp(db_value(res, 0), "password") == 0) {
            strcpy(result->error, "the person can log in by password: nothing "
                   "is removed");
            PQclear(res);
            return JOB_DONE;
        }

        removed += strtol(db_value(res, 1), NULL, 10);
        more = (strcmp(db_value(res, 2), "t") == 0);

        PQclear(res);

    } while (more);

    log_info("files of a deleted user are queued for removal user=%s files=%ld",
             log_value(job->user), removed);

    return JOB_DONE;
}


/* an answer that the database does not take is lost: the lease will end */

static void
jobs_report(worker_t *w, const job_t *job, job_rc_e rc, job_result_t *result,
    int stop, char *outcome, size_t size)
{
    db_rc_e      done;
    unsigned     tries, analyze;
    PGresult    *res;
    const char  *params[5];

    analyze = (strcmp(job->kind, "analyze") == 0);

    params[0] = job->id;
    params[1] = job->claim;

    for (tries = 1; /* void */; tries++) {

        if (rc == JOB_RETRY) {
            params[2] = result->error;

            done = db_query(w->db, "fail_job", jobs_fail_sql, 3, params, &res);

        } else if (result->relayed) {
            done = jobs_relayed(w, job, "true", &res);

        } else {
            params[2] = !analyze ? NULL
                        : (rc == JOB_DONE) ? "analyzed" : "failed";
            params[3] = (result->error[0] == '\0') ? NULL : result->error;
            params[4] = result->analysis;

            done = db_query(w->db, "finish_job", jobs_finish_sql, 5, params,
                            &res);
        }

        if (done == DB_OK || tries == JOBS_REPORTS) {
            break;
        }

        jobs_sleep(1000L * tries, stop);
    }

    snprintf(outcome, size, "%s",
             (done == DB_OK && db_value(res, 0) != NULL) ? db_value(res, 0)
                                                         : "unreported");
    PQclear(res);
}


/* seconds for which there will be nothing to do, as far as anybody knows */

static long
jobs_idle(worker_t *w)
{
    long       seconds;
    PGresult  *res;

    seconds = w->cf->sweep;

    if (db_query(w->db, "next_job", jobs_next_sql, 0, NULL, &res) != DB_OK) {
        return 1;
    }

    if (db_value(res, 0) != NULL) {
        seconds = strtol(db_value(res, 0), NULL, 10);

        /* due, but not to be had: another worker has it under its lock */

        if (seconds < 1) {
            seconds = 1;
        }
    }

    PQclear(res);

    return (seconds < w->cf->sweep) ? seconds : w->cf->sweep;
}


static void
jobs_wait(worker_t *w, long seconds, int stop)
{
    long          left;
    char          timeout[24];
    time_t        until;
    redisReply   *reply;
    const char   *argv[3];

    until = jobs_now() + seconds;

    argv[0] = "BLPOP";
    argv[1] = JOBS_LIST;
    argv[2] = timeout;

    for ( ;; ) {
        left = until - jobs_now();

        if (left <= 0) {
            return;
        }

        if (left > JOBS_BLOCK) {
            left = JOBS_BLOCK;
        }

        snprintf(timeout, sizeof(timeout), "%ld", left);

        switch (redis_command(w->redis, &reply, (left + 5) * 1000, stop, 3,
                              argv))
        {
        case REDIS_DONE:

            if (reply->type != REDIS_REPLY_NIL) {
                freeReplyObject(reply);
                return;
            }

            freeReplyObject(reply);
            break;

        case REDIS_STOPPED:
            return;

        default:
            jobs_sleep(1000L * (left < JOBS_BLIND ? left : JOBS_BLIND), stop);
            return;
        }
    }
}


static void
jobs_sleep(long ms, int stop)
{
    struct pollfd  pfd;

    pfd.fd = stop;
    pfd.events = POLLIN;

    (void) poll(&pfd, 1, (int) ms);
}


static int
jobs_stopped(int stop)
{
    struct pollfd  pfd;

    pfd.fd = stop;
    pfd.events = POLLIN;

    return poll(&pfd, 1, 0) == 1;
}


static void
jobs_purge(worker_t *w, time_t *last)
{
    char         days[24];
    time_t       now;
    PGresult    *res;
    const char  *param;

    now = jobs_now();

    if (*last != 0 && now - *last < JOBS_PURGE) {
        return;
    }

    *last = now;

    snprintf(days, sizeof(days), "%lld", w->cf->payload_days);
    param = days;

    if (db_query(w->db, "purge", jobs_purge_sql, 1, &param, &res) == DB_OK) {
        log_info("purged jobs=%s payloads=%s", db_value(res, 0),
                 db_value(res, 1));
        PQclear(res);
    }
}


static time_t
jobs_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec;
}
