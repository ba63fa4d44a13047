
#include <string.h>

#include "../../sidecar/metrics.h"
#include "../../sidecar/routes.c"
#include "tap.h"


static const char  *allowed;


/* what routes.c calls, instead of the server */

void
http_fail(http_request_t *r, verdict_e verdict, const char *detail)
{
    (void) r;
    (void) verdict;
    (void) detail;
}


void
http_allow(http_request_t *r, const char *methods)
{
    (void) r;

    allowed = methods;
}


void
upload_complete(http_request_t *r, worker_t *w)
{
    (void) r;
    (void) w;
}


void
upload_download_url(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
upload_delete(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
upload_stats(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
upload_health(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
webhook_clerk(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
webhook_health(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
health(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
health_detailed(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


void
health_metrics(http_request_t *r, worker_t *w)
{
    upload_complete(r, w);
}


typedef struct {
    const char       *method;
    const char       *path;
    http_handler_pt   handler;
    const char       *id;
} case_t;


#define LONG  "99999999999999999999999999"


static const case_t  cases[] = {
    { "POST", "/api/v1/upload/complete", upload_complete, "" },
    { "POST", "/api/v1/upload/upload-complete", upload_complete, "" },
    { "POST", "/api/v1/activities/17/upload-complete", upload_complete, "17" },
    { "POST", "/api/v1/activities/x/upload-complete", upload_complete, "x" },
    { "GET", "/api/v1/upload/activity/5/download-url", upload_download_url,
      "5" },
    { "GET", "/api/v1/upload/activity/" LONG "/download-url",
      upload_download_url, "xxxxxxxxxxxxxxxxxxxxxxx" },
    { "DELETE", "/api/v1/upload/activity/5/fit", upload_delete, "5" },
    { "GET", "/api/v1/upload/stats", upload_stats, "" },
    { "GET", "/api/v1/upload/health", upload_health, "" },
    { "POST", "/api/v1/webhooks/clerk", webhook_clerk, "" },
    { "GET", "/api/v1/webhooks/health", webhook_health, "" },
    { "GET", "/health", health, "" },
    { "HEAD", "/api/v1/health", health, "" },
    { "GET", "/health/detailed", health_detailed, "" },
    { "GET", "/metrics", health_metrics, "" },

    { "GET", "/", routes_not_found, NULL },
    { "GET", "", routes_not_found, NULL },
    { "GET", "/healthy", routes_not_found, NULL },
    { "GET", "/health/", routes_not_found, NULL },
    { "GET", "/api/v1/upload/activity//download-url", routes_not_found, NULL },
    { "GET", "/api/v1/upload/activity/5/6/download-url", routes_not_found,
      NULL },
    { "GET", "/api/v1/upload/activity/5", routes_not_found, NULL },

    { "GET", "/api/v1/upload/complete", routes_bad_method, NULL },
    { "POST", "/health", routes_bad_method, NULL },
    { "get", "/health", routes_bad_method, NULL }
};


int
main(void)
{
    size_t           i, k;
    unsigned         together;
    const case_t    *c;
    http_request_t   r;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        c = &cases[i];

        memset(&r, 0, sizeof(http_request_t));
        r.method = c->method;
        r.path = c->path;

        ok(routes_find(&r, &together) == c->handler, "%s %s", c->method,
           c->path);

        if (c->id != NULL) {
            is_str(r.id, c->id, "its variable segment");
        }
    }

    allowed = NULL;
    r.method = "PUT";
    r.path = "/api/v1/upload/complete";
    (void) routes_find(&r, &together);
    is_str(allowed, "POST", "what is allowed there");
    ok(together == 0, "a refusal needs no worker");

    r.method = "POST";
    (void) routes_find(&r, &together);
    ok(together == 1, "a completion does");
    is_str(r.route, "/api/v1/upload/complete", "the route it is counted under");

    r.path = "/nowhere";
    (void) routes_find(&r, &together);
    is_str(r.route, NULL, "what is none has none");

    for (i = 0; routes[i].pattern != NULL; i++) {

        for (k = 0; metrics_routes[k] != NULL; k++) {
            if (strcmp(metrics_routes[k], routes[i].pattern) == 0) {
                break;
            }
        }

        ok(metrics_routes[k] != NULL, "%s is counted", routes[i].pattern);
    }

    return done();
}
