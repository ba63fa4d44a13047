
#include <stdio.h>
#include <stdlib.h>
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


typedef struct {
    http_request_t  *request;
    char             id[SVIX_MAX_ID + 1];
    char             ms[24];
    clerk_event_t    event;
} webhook_t;


static int webhook_read(webhook_t *wh, http_request_t *r, worker_t *w);
static int webhook_verify(http_request_t *r, worker_t *w, char *id,
    int64_t *timestamp);
static void webhook_missing(http_request_t *r, const svix_headers_t *h);
static void webhook_apply(webhook_t *list, unsigned n, worker_t *w);
static int webhook_compare(const void *one, const void *two);
static void webhook_answer(webhook_t *wh, worker_t *w, PGresult *res);
static int webhook_revoke(http_request_t *r, worker_t *w,
    const clerk_event_t *ev);
static runcoach_str_t webhook_header(http_request_t *r, const char *name);


static const char  webhook_sql[] =
    "SELECT outcome, user_id, detail, job_id FROM edge_receive_event("
    "$1, $2, $3, $4::bigint, $5, $6::boolean, $7, $8, $9::integer)";


/*
 * Deliveries that wait are taken together, and committed together if none of
 * them fails.  Each is answered by what became of it.
 */

void
webhook_clerk(http_request_t *r, worker_t *w)
{
    unsigned   n;
    webhook_t  list[WEBHOOK_TOGETHER];

    n = 0;

    for ( /* void */ ; r != NULL; r = http_next(r)) {
        if (webhook_read(&list[n], r, w) == 0) {
            n++;
        }
    }

    if (n > 0) {
        webhook_apply(list, n, w);
    }
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


/* -1: it is answered */

static int
webhook_read(webhook_t *wh, http_request_t *r, worker_t *w)
{
    int64_t      timestamp;
    clerk_rc_e   rc;
    const char  *reason;

    if (w->cf->webhook_secret == NULL) {
        http_fail(r, VERDICT_NOT_CONFIGURED, "Webhooks are not configured");
        return -1;
    }

    if (webhook_verify(r, w, wh->id, &timestamp) != 0) {
        return -1;
    }

    rc = clerk_event_parse(&wh->event, r->body, r->body_len, &reason);

    switch (rc) {

    case CLERK_OK:
        break;

    case CLERK_NO_MEMORY:
        http_fail(r, VERDICT_RETRY, NULL);
        return -1;

    default:
        http_note(r, " reason=%s", log_value(reason));
        http_fail(r, VERDICT_BAD_REQUEST, "Invalid JSON payload");
        return -1;
    }

    http_note(r, " type=%s clerk=%s", log_value(wh->event.type),
              log_value(wh->event.clerk_id));

    wh->request = r;

    snprintf(wh->ms, sizeof(wh->ms), "%lld",
             (long long) (wh->event.event_ms ? wh->event.event_ms
                                             : timestamp * 1000));

    return 0;
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


static void
webhook_apply(webhook_t *list, unsigned n, worker_t *w)
{
    char          grace[24];
    unsigned      i;
    db_call_t     calls[WEBHOOK_TOGETHER];
    webhook_t    *wh, *sorted[WEBHOOK_TOGETHER];
    const char  **params;

    snprintf(grace, sizeof(grace), "%lld", w->cf->user_files_grace);

    for (i = 0; i < n; i++) {
        sorted[i] = &list[i];
    }

    /* people are locked: in one order by everybody */

    qsort(sorted, n, sizeof(webhook_t *), webhook_compare);

    for (i = 0; i < n; i++) {
        wh = sorted[i];
        params = calls[i].params;

        params[0] = wh->id;
        params[1] = wh->event.type;
        params[2] = wh->event.clerk_id;
        params[3] = wh->ms;
        params[4] = wh->event.email;
        params[5] = wh->event.email_verified ? "true" : "false";
        params[6] = wh->event.display_name;
        params[7] = (const char *) wh->request->body;
        params[8] = (w->cf->user_files_grace < 0) ? NULL : grace;
    }

    db_query_each(w->db, "receive_event", webhook_sql, 9, calls, n);

    for (i = 0; i < n; i++) {
        webhook_answer(sorted[i], w, calls[i].result);
        PQclear(calls[i].result);
    }
}


static int
webhook_compare(const void *one, const void *two)
{
    const webhook_t *const *a = one;
    const webhook_t *const *b = two;

    return strcmp((*a)->event.clerk_id, (*b)->event.clerk_id);
}


static void
webhook_answer(webhook_t *wh, worker_t *w, PGresult *res)
{
    http_request_t  *r;

    r = wh->request;

    if (res == NULL) {
        http_fail(r, VERDICT_RETRY, NULL);
        return;
    }

    metrics_webhook(db_value(res, 0));
    http_note(r, " outcome=%s user=%s detail=%s", log_value(db_value(res, 0)),
              log_value(db_value(res, 1)), log_value(db_value(res, 2)));

    if (db_value(res, 3) != NULL) {
        http_note(r, " job=%s", db_value(res, 3));
        jobs_wake(w->redis);
    }

    if (webhook_revoke(r, w, &wh->event) != 0) {
        http_fail(r, VERDICT_RETRY, NULL);
        return;
    }

    /* a known event and an unknown type are 200 too: who sent it is done */

    http_answer(r, 200, json_pack("{s: s, s: s}", "status", "ok",
                                  "event_type", wh->event.type));
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
