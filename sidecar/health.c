
#include "handlers.h"


/* no object of a user can have this key */

#define HEALTH_KEY  "health"


static const char *health_redis(worker_t *w);
static const char *health_store(worker_t *w);


void
health(http_request_t *r, worker_t *w)
{
    (void) w;

    http_answer(r, 200, json_pack("{s: s, s: s}", "status", "healthy",
                                  "version", RUNCOACH_VERSION));
}


/* without its database the edge can do little; without the others, much */

void
health_detailed(http_request_t *r, worker_t *w)
{
    char         now[40];
    int          database;
    PGresult    *res;
    const char  *redis, *store, *status;

    database = (db_query(w->db, "health", "SELECT 1", 0, NULL, &res) == DB_OK);
    PQclear(res);

    redis = health_redis(w);
    store = health_store(w);

    status = !database ? "unhealthy"
             : (redis[0] == 'e' || store[0] == 'e') ? "degraded" : "healthy";

    http_note(r, " database=%s redis=\"%s\" store=\"%s\"",
              database ? "ok" : "error", redis, store);

    http_answer(r, database ? 200 : 503,
                json_pack("{s: s, s: s, s: s, s: s, s: s, s: s}",
                          "status", status,
                          "version", RUNCOACH_VERSION,
                          "timestamp", http_timestamp(now),
                          "database", database ? "ok" : "error",
                          "redis", redis,
                          "store", store));
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
