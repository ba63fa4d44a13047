
#include <pthread.h>
#include <time.h>

#include "handlers.h"
#include "metrics.h"


/* no object of a user can have this key */

#define HEALTH_KEY  "health"

/*
 * seconds for which a report is good, and for which it still serves those who
 * ask while the next one is made
 */

#define HEALTH_FRESH  5
#define HEALTH_STALE  60


typedef struct {
    int          database;
    char         time[40];
    const char  *redis;
    const char  *store;
} health_report_t;


static int health_recent(health_report_t *report);
static void health_probe(worker_t *w, health_report_t *report);
static const char *health_redis(worker_t *w);
static const char *health_store(worker_t *w);
static time_t health_now(void);


static pthread_mutex_t  health_lock = PTHREAD_MUTEX_INITIALIZER;
static health_report_t  health_last;
static time_t           health_made;
static unsigned         health_busy;


void
health(http_request_t *r, worker_t *w)
{
    (void) w;

    http_answer(r, 200, json_pack("{s: s, s: s}", "status", "healthy",
                                  "version", RUNCOACH_VERSION));
}


/*
 * Anybody may ask, and a store sends a bill: one worker at a time looks, and
 * what it has seen is the answer for a while.  Without its database the edge
 * can do little; without the others, much.
 */

void
health_detailed(http_request_t *r, worker_t *w)
{
    const char       *status;
    health_report_t   report;

    switch (health_recent(&report)) {

    case 0:
        health_probe(w, &report);
        break;

    case 1:
        break;

    default:
        http_note(r, " reason=probing");
        http_fail(r, VERDICT_RETRY, NULL);
        return;
    }

    status = !report.database ? "unhealthy"
             : (report.redis[0] == 'e' || report.store[0] == 'e') ? "degraded"
                                                                  : "healthy";

    http_note(r, " database=%s redis=\"%s\" store=\"%s\"",
              report.database ? "ok" : "error", report.redis, report.store);

    http_answer(r, report.database ? 200 : 503,
                json_pack("{s: s, s: s, s: s, s: s, s: s, s: s}",
                          "status", status,
                          "version", RUNCOACH_VERSION,
                          "timestamp", report.time,
                          "database", report.database ? "ok" : "error",
                          "redis", report.redis,
                          "store", report.store));
}


void
health_metrics(http_request_t *r, worker_t *w)
{
    (void) w;

    http_text(r, "text/plain; version=0.0.4; charset=utf-8", metrics_text());
}


/* 1 with a report; 0 if the caller is to make one; -1 if another does */

static int
health_recent(health_report_t *report)
{
    int     rc;
    time_t  age;

    pthread_mutex_lock(&health_lock);

    age = health_now() - health_made;

    if (health_last.redis != NULL
        && age < (health_busy ? HEALTH_STALE : HEALTH_FRESH))
    {
        *report = health_last;
        rc = 1;

    } else if (health_busy) {
        rc = -1;

    } else {
        health_busy = 1;
        rc = 0;
    }

    pthread_mutex_unlock(&health_lock);

    return rc;
}


static void
health_probe(worker_t *w, health_report_t *report)
{
    PGresult  *res;

    report->database = (db_query(w->db, "health", "SELECT 1", 0, NULL, &res)
                        == DB_OK);
    PQclear(res);

    report->redis = health_redis(w);
    report->store = health_store(w);

    (void) http_timestamp(report->time);

    pthread_mutex_lock(&health_lock);

    health_last = *report;
    health_made = health_now();
    health_busy = 0;

    pthread_mutex_unlock(&health_lock);
}


static const char *
health_redis(worker_t *w)
{
    redisReply  *reply;
    const char  *argv[1];

    if (w->cf->redis_url == NULL) {
        return "not configured";
    }

    argv[0] = "PING";

    if (redis_command(w->redis, &reply, 1000, -1, 1, argv) != REDIS_DONE) {
        return "error";
    }

    freeReplyObject(reply);

    return "ok";
}


static const char *
health_store(worker_t *w)
{
    r2_head_t  head;

    if (w->r2 == NULL) {
        return "not configured";
    }

    switch (r2_head(w->r2, HEALTH_KEY, &head)) {

    case R2_OK:
    case R2_NOT_FOUND:
        return "ok";

    default:
        return "error";
    }
}


static time_t
health_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec;
}
