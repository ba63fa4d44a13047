
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clerk.h"
#include "handlers.h"
#include "jobs.h"
#include "metrics.h"


/*
 * The stream which the edges read: the default of runcoach_revocations in
 * nginx, which has this name as well.  They look back as far as a token can
 * live, and the length is more than what comes in that time.
 */

#define WEBHOOK_STREAM   "runcoach:revocations"
#define WEBHOOK_LENGTH   "100000"

/* milliseconds; who sent the event waits, and will send it again */

#define WEBHOOK_TIMEOUT  1000


static int webhook_verify(http_request_t *r, worker_t *w, char *id,
    int64_t *timestamp);
static void webhook_missing(http_request_t *r, const svix_headers_t *h);
static int webhook_apply(http_request_t *r, worker_t *w,
    const clerk_event_t *ev, const char *id, int64_t timestamp);
static int webhook_revoke(http_request_t *r, worker_t *w,
    const clerk_event_t *ev);
static runcoach_str_t webhook_header(http_request_t *r, const char *name);


static const char  webhook_sql[] =
    "SELECT outcome, user_id, detail, job_id FROM edge_receive_event("
    "$1, $2, $3, $4::bigint, $5, $6::boolean, $7, $8, $9::integer)";


void
webhook_clerk(http_request_t *r, worker_t *w)
{
    char            id[SVIX_MAX_ID + 1];
    int64_t         timestamp;
    clerk_rc_e      rc;
    const char     *reason;
    clerk_event_t   ev;

    if (w->cf->webhook_secret == NULL) {
        http_fail(r, VERDICT_NOT_CONFIGURED, "Webhooks are not configured");
        return;
    }

    if (webhook_verify(r, w, id, &timestamp) != 0) {
        return;
    }

    rc = clerk_event_parse(&ev, r->body, r->body_len, &reason);

    switch (rc) {

    case CLERK_OK:
        break;

    case CLERK_NO_MEMORY:
        http_fail(r, VERDICT_RETRY, NULL);
        return;

    default:
        http_note(r, " reason=%s", log_value(reason));
        http_fail(r, VERDICT_BAD_REQUEST, "Invalid JSON payload");
        return;
    }

    http_note(r, " type=%s clerk=%s", log_value(ev.type),
              log_value(ev.clerk_id));

    if (webhook_apply(r, w, &ev, id, timestamp) != 0
        || webhook_revoke(r, w, &ev) != 0)
    {
        http_fail(r, VERDICT_RETRY, NULL);
        return;
    }

    /* a known event and an unknown type are 200 too: who sent it is done */

    http_answer(r, 200, json_pack("{s: s, s: s}", "status", "ok",
                                  "event_type", ev.type));
}


void
webhook_health(http_request_t *r, worker_t *w)
{
    char  now[40];

    http_answer(r, 200, json_pack("{s: s, s: b, s: s}", "status", "ok",
                                  "clerk_webhooks_enabled",
                                  w->cf->webhook_secret != NULL,
                                  "timestamp", http_timestamp(now)));
}


static int
webhook_verify(http_request_t *r, worker_t *w, char *id, int64_t *timestamp)
{
    svix_rc_e              rc;
    svix_headers_t         svix, unbranded;
    const svix_headers_t  *used;

    svix.id = webhook_header(r, "svix-id");
    svix.timestamp = webhook_header(r, "svix-timestamp");
    svix.signature = webhook_header(r, "svix-signature");

    unbranded.id = webhook_header(r, "webhook-id");
    unbranded.timestamp = webhook_header(r, "webhook-timestamp");
    unbranded.signature = webhook_header(r, "webhook-signature");

    rc = svix_verify(&w->cf->webhook_secrets, &svix, &unbranded, r->body,
                     r->body_len, time(NULL), &used, timestamp);

    if (rc == SVIX_NO_HEADERS) {
        webhook_missing(r, &svix);
        return -1;
    }

    if (rc != SVIX_OK) {
        http_note(r, " reason=%s", log_value(svix_strerror(rc)));
        http_fail(r, VERDICT_UNAUTHORIZED, "Invalid webhook signature");
        return -1;
    }

    memcpy(id, used->id.data, used->id.len);
    id[used->id.len] = '\0';

    http_note(r, " svix=%s", id);

    return 0;
}


static void
webhook_missing(http_request_t *r, const svix_headers_t *h)
{
    size_t       i;
    json_t      *list;
    const struct {
        const char            *name;
        const runcoach_str_t  *value;
    } headers[] = {
        { "svix-id", &h->id },
        { "svix-timestamp", &h->timestamp },
        { "svix-signature", &h->signature }
    };

    list = json_array();

    for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {

        if (headers[i].value->data != NULL) {
            continue;
        }

        http_note(r, " missing=%s", headers[i].name);

        if (json_array_append_new(list,
                                  json_pack("{s: s, s: [s, s], s: s}",
                                            "type", "missing",
                                            "loc", "header", headers[i].name,
                                            "msg", "Field required"))
            != 0)
        {
            json_decref(list);
            http_answer(r, 422, NULL);
            return;
        }
    }

    http_answer(r, 422, json_pack("{s: o}", "detail", list));
}


static int
webhook_apply(http_request_t *r, worker_t *w, const clerk_event_t *ev,
    const char *id, int64_t timestamp)
{
    char         ms[24], grace[24];
    PGresult    *res;
    const char  *params[9];

    snprintf(ms, sizeof(ms), "%lld",
             (long long) (ev->event_ms ? ev->event_ms : timestamp * 1000));
    snprintf(grace, sizeof(grace), "%lld", w->cf->user_files_grace);

    params[0] = id;
    params[1] = ev->type;
    params[2] = ev->clerk_id;
    params[3] = ms;
    params[4] = ev->email;
    params[5] = ev->email_verified ? "true" : "false";
    params[6] = ev->display_name;
    params[7] = (const char *) r->body;
    params[8] = (w->cf->user_files_grace < 0) ? NULL : grace;

    if (db_query(w->db, "receive_event", webhook_sql, 9, params, &res)
        != DB_OK)
    {
        return -1;
    }

    metrics_webhook(db_value(res, 0));
    http_note(r, " outcome=%s user=%s detail=%s", log_value(db_value(res, 0)),
              log_value(db_value(res, 1)), log_value(db_value(res, 2)));

    if (db_value(res, 3) != NULL) {
        http_note(r, " job=%s", db_value(res, 3));
        jobs_wake(w->redis);
    }

    PQclear(res);

    return 0;
}


/*
 * Tells the edges whose tokens are good no longer.  After the commit, and also
 * for what was here before: it may have come again because this failed.
 */

static int
webhook_revoke(http_request_t *r, worker_t *w, const clerk_event_t *ev)
{
    redisReply  *reply;
    const char  *argv[] = {
        "XADD", WEBHOOK_STREAM, "MAXLEN", "~", WEBHOOK_LENGTH, "*",
        "kind", NULL, "id", NULL
    };

    if (w->cf->redis_url == NULL) {
        return 0;
    }

    switch (ev->kind) {

    case CLERK_USER_DELETED:
        argv[7] = "user";
        argv[9] = ev->clerk_id;
        break;

    case CLERK_SESSION_ENDED:
        argv[7] = "session";
        argv[9] = ev->session_id;
        break;

    default:
        return 0;
    }

    if (redis_command(w->redis, &reply, WEBHOOK_TIMEOUT, -1, 10, argv)
        != REDIS_DONE)
    {
        http_note(r, " revoked=failed");
        return -1;
    }

    freeReplyObject(reply);

    http_note(r, " revoked=%s", argv[7]);

    return 0;
}


static runcoach_str_t
webhook_header(http_request_t *r, const char *name)
{
    const char      *value;
    runcoach_str_t   str;

    value = http_header(r, name);

    str.len = strlen(value);
    str.data = (str.len == 0) ? NULL : (const u_char *) value;

    return str;
}
