
#include <string.h>

#include "handlers.h"


typedef struct {
    const char       *method;
    const char       *pattern;       /* "{}" is one segment of any kind */
    http_handler_pt   handler;
    unsigned          together;
} route_t;


static int routes_match(const char *pattern, const char *path, char *id,
    size_t size);
static void routes_not_found(http_request_t *r, worker_t *w);
static void routes_bad_method(http_request_t *r, worker_t *w);


static const route_t  routes[] = {

    { "POST",   "/api/v1/webhooks/clerk", webhook_clerk,
                WEBHOOK_TOGETHER },
    { "GET",    "/api/v1/webhooks/health", webhook_health, 0 },

    { "POST",   "/api/v1/upload/complete", upload_complete, 1 },
    { "POST",   "/api/v1/upload/upload-complete", upload_complete, 1 },
    { "POST",   "/api/v1/activities/{}/upload-complete", upload_complete, 1 },

    { "GET",    "/api/v1/upload/activity/{}/download-url",
                upload_download_url, 1 },
    { "DELETE", "/api/v1/upload/activity/{}/fit", upload_delete, 1 },
    { "GET",    "/api/v1/upload/stats", upload_stats, 1 },
    { "GET",    "/api/v1/upload/health", upload_health, 0 },

    { "GET",    "/health", health, 0 },
    { "GET",    "/api/v1/health", health, 0 },
    { "GET",    "/health/detailed", health_detailed, 1 },
    { "GET",    "/api/v1/health/detailed", health_detailed, 1 },

    { "GET",    "/metrics", health_metrics, 0 },

    { NULL, NULL, NULL, 0 }
};


http_handler_pt
routes_find(http_request_t *r, unsigned *together)
{
    int             seen;
    const char     *method;
    const route_t  *route;

    seen = 0;
    r->route = NULL;
    *together = 0;
    method = (strcmp(r->method, "HEAD") == 0) ? "GET" : r->method;

    for (route = routes; route->method != NULL; route++) {

        if (!routes_match(route->pattern, r->path, r->id, sizeof(r->id))) {
            continue;
        }

        r->route = route->pattern;

        if (strcmp(route->method, method) == 0) {
            *together = route->together;
            return route->handler;
        }

        seen = 1;
        http_allow(r, (strcmp(route->method, "GET") == 0) ? "GET, HEAD"
                                                          : route->method);
    }

    return seen ? routes_bad_method : routes_not_found;
}


/* a segment that does not fit in id is cut: its length makes it wrong still */

static int
routes_match(const char *pattern, const char *path, char *id, size_t size)
{
    size_t  n;

    id[0] = '\0';

    while (*pattern != '\0') {

        if (pattern[0] != '{') {

            if (*pattern++ != *path++) {
                return 0;
            }

            continue;
        }

        pattern += 2;

        n = strcspn(path, "/");
        if (n == 0) {
            return 0;
        }

        if (n < size) {
            memcpy(id, path, n);
            id[n] = '\0';

        } else {
            memset(id, 'x', size - 1);
            id[size - 1] = '\0';
        }

        path += n;
    }

    return *path == '\0';
}


static void
routes_not_found(http_request_t *r, worker_t *w)
{
    (void) w;

    http_fail(r, VERDICT_NOT_FOUND, NULL);
}


static void
routes_bad_method(http_request_t *r, worker_t *w)
{
    (void) w;

    http_fail(r, VERDICT_BAD_METHOD, NULL);
}
