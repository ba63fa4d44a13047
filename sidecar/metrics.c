
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../ngx_runcoach_module/lib/runcoach_metrics.h"
#include "log.h"
#include "metrics.h"


#ifndef RUNCOACH_VERSION
#define RUNCOACH_VERSION  "0.1.0"
#endif

/* another layout, or order of names, is another number, and a new file */

#define METRICS_LAYOUT    (0x72756e636f010000 + sizeof(metrics_t))

#define METRICS_TEXT      65536
#define METRICS_ROUTES    24
#define METRICS_STATUSES  12
#define METRICS_NAMES     12
#define METRICS_KINDS     6


/* the last one of a list is for all others */

typedef struct {
    uint64_t              layout;
    uint64_t              counters[METRICS_COUNTERS];
    uint64_t              requests[METRICS_ROUTES][METRICS_STATUSES];
    uint64_t              webhooks[METRICS_NAMES];
    uint64_t              completions[METRICS_NAMES];
    uint64_t              jobs[METRICS_KINDS][METRICS_NAMES];
    runcoach_histogram_t  seconds;
} metrics_t;


static metrics_t *metrics_map(const char *path);
static int metrics_ours(int fd);
static size_t metrics_name(const char *const *names, const char *name);
static void metrics_requests(runcoach_exposition_t *x);
static void metrics_outcomes(runcoach_exposition_t *x, const char *family,
    const char *const *names, const uint64_t *values);
static void metrics_jobs(runcoach_exposition_t *x);
static void metrics_value(runcoach_exposition_t *x, metrics_counter_e counter,
    const char *name, const char *help);
static void metrics_label(runcoach_label_t *label, const char *name,
    const char *value);


static metrics_t   metrics_own;
static metrics_t  *metrics = &metrics_own;
static uint64_t    metrics_waiting;


const char *const  metrics_routes[] = {
    "/api/v1/webhooks/clerk",
    "/api/v1/webhooks/health",
    "/api/v1/upload/complete",
    "/api/v1/upload/upload-complete",
    "/api/v1/activities/{}/upload-complete",
    "/api/v1/upload/activity/{}/download-url",
    "/api/v1/upload/activity/{}/fit",
    "/api/v1/upload/stats",
    "/api/v1/upload/health",
    "/health",
    "/api/v1/health",
    "/health/detailed",
    "/api/v1/health/detailed",
    "/metrics",
    NULL
};


static const unsigned  metrics_statuses[] = {
    200, 400, 401, 404, 405, 409, 413, 422, 500, 503, 0
};


static const char *const  metrics_webhooks[] = {
    "applied", "duplicate", "stale", "ignored", "conflict", "tombstoned", NULL
};


static const char *const  metrics_completions[] = {
    "uploaded", "repeated", "busy", "no_activity", NULL
};


static const char *const  metrics_kinds[] = {
    "analyze", "check_upload", "delete_object", "delete_user_files", NULL
};


static const char *const  metrics_outcomes_of_jobs[] = {
    "done", "failed", "retry", "dead", "lost", "unreported", NULL
};


void
metrics_open(const char *listen, const char *home)
{
    char        path[512];
    int         n;
    metrics_t  *map;

    n = (strncmp(listen, "unix:", 5) == 0)
        ? snprintf(path, sizeof(path), "%s.metrics", listen + 5)
        : snprintf(path, sizeof(path), "%s/sidecar.metrics", home);

    map = (n > 0 && (size_t) n < sizeof(path)) ? metrics_map(path) : NULL;

    if (map == NULL) {
        log_warn("metrics are of this process alone path=%s reason=%s",
                 log_value(path), log_value(strerror(errno)));
        return;
    }

    metrics = map;
}


static metrics_t *
metrics_map(const char *path)
{
    int         fd, tries;
    void       *map;
    metrics_t  *m;

    for (tries = 0; tries < 2; tries++) {

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd == -1) {
            return NULL;
        }

        if (metrics_ours(fd) != 0) {
            close(fd);
            return NULL;
        }

        /* reserved, so that a full disk is noticed here and not by a signal */

        errno = posix_fallocate(fd, 0, sizeof(metrics_t));
        if (errno != 0) {
            close(fd);
            return NULL;
        }

        map = mmap(NULL, sizeof(metrics_t), PROT_READ | PROT_WRITE, MAP_SHARED,
                   fd, 0);
        close(fd);

        if (map == MAP_FAILED) {
            return NULL;
        }

        m = map;

        if (m->layout == 0) {
            m->layout = METRICS_LAYOUT;
        }

        if (m->layout == METRICS_LAYOUT) {
            return m;
        }

        /* of another version: those who have it go on counting there */

        munmap(map, sizeof(metrics_t));

        if (unlink(path) != 0) {
            return NULL;
        }
    }

    errno = EBUSY;

    return NULL;
}


static int
metrics_ours(int fd)
{
    struct stat  st;

    if (fstat(fd, &st) != 0) {
        return -1;
    }

    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1) {
        errno = EPERM;
        return -1;
    }

    return 0;
}


void
metrics_add(metrics_counter_e counter)
{
    runcoach_counter_add(&metrics->counters[counter], 1);
}


void
metrics_request(const char *route, unsigned status, uint64_t us)
{
    size_t  i;

    for (i = 0; metrics_statuses[i] != 0; i++) {
        if (metrics_statuses[i] == status) {
            break;
        }
    }

    runcoach_counter_add(
            &metrics->requests[metrics_name(metrics_routes, route)][i], 1);
    runcoach_histogram_add(&metrics->seconds, us, 0);
}


void
metrics_webhook(const char *outcome)
{
    runcoach_counter_add(
            &metrics->webhooks[metrics_name(metrics_webhooks, outcome)], 1);
}


void
metrics_completion(const char *outcome)
{
    runcoach_counter_add(
            &metrics->completions[metrics_name(metrics_completions, outcome)],
            1);
}


void
metrics_job(const char *kind, const char *outcome)
{
    size_t  k, o;

    k = metrics_name(metrics_kinds, kind);
    o = metrics_name(metrics_outcomes_of_jobs, outcome);

    runcoach_counter_add(&metrics->jobs[k][o], 1);
}


/* the index of a name, or of the NULL at the end */

static size_t
metrics_name(const char *const *names, const char *name)
{
    size_t  i;

    for (i = 0; names[i] != NULL; i++) {
        if (name != NULL && strcmp(names[i], name) == 0) {
            break;
        }
    }

    return i;
}


void
metrics_queue(unsigned waiting)
{
    __atomic_store_n(&metrics_waiting, waiting, __ATOMIC_RELAXED);
}


char *
metrics_text(void)
{
    char                   *text;
    runcoach_label_t        version;
    runcoach_histogram_t    seconds;
    runcoach_exposition_t   x;

    text = malloc(METRICS_TEXT);
    if (text == NULL) {
        return NULL;
    }

    runcoach_exposition_init(&x, text, METRICS_TEXT - 1);

    runcoach_exposition_family(&x, "runcoach_sidecar_build_info", "gauge",
                               "The version, as a label.");
    metrics_label(&version, "version", RUNCOACH_VERSION);
    runcoach_exposition_sample(&x, "runcoach_sidecar_build_info", &version, 1,
                               1);

    metrics_requests(&x);

    memset(&seconds, 0, sizeof(runcoach_histogram_t));
    runcoach_histogram_merge(&seconds, &metrics->seconds);
    runcoach_exposition_histogram(&x, "runcoach_sidecar_request_seconds",
                                  "Time from a request's first line to its "
                                  "answer.", &seconds);

    metrics_value(&x, METRICS_OVERLOAD, "runcoach_sidecar_overload_total",
                  "Requests answered 503: the queue was full.");
    metrics_value(&x, METRICS_WAITED, "runcoach_sidecar_waited_total",
                  "Requests answered 503: their turn came too late.");
    runcoach_exposition_value(&x, "runcoach_sidecar_queue_depth", "gauge",
                              "Requests that wait for a worker.",
                              runcoach_counter_get(&metrics_waiting));

    runcoach_exposition_family(&x, "runcoach_sidecar_webhooks_total",
                               "counter", "Signed events, by outcome.");
    metrics_outcomes(&x, "runcoach_sidecar_webhooks_total", metrics_webhooks,
                     metrics->webhooks);

    runcoach_exposition_family(&x, "runcoach_sidecar_completions_total",
                               "counter", "Completed uploads, by outcome.");
    metrics_outcomes(&x, "runcoach_sidecar_completions_total",
                     metrics_completions, metrics->completions);

    metrics_jobs(&x);

    metrics_value(&x, METRICS_DB_CONNECTIONS,
                  "runcoach_sidecar_database_connections_total",
                  "Connections made to the database.");
    metrics_value(&x, METRICS_DB_UNREACHABLE,
                  "runcoach_sidecar_database_unreachable_total",
                  "Connections that could not be made.");
    metrics_value(&x, METRICS_DB_FAILURES,
                  "runcoach_sidecar_database_failures_total",
                  "Statements that failed.");
    metrics_value(&x, METRICS_REDIS_FAILURES,
                  "runcoach_sidecar_redis_failures_total",
                  "Commands that Redis did not answer, or refused.");

    *x.last = '\0';

    if (x.full) {
        log_error("metrics do not fit into bytes=%d", METRICS_TEXT);
    }

    return text;
}


static void
metrics_requests(runcoach_exposition_t *x)
{
    char              status[12];
    size_t            r, s;
    uint64_t          n;
    runcoach_label_t  labels[2];

    runcoach_exposition_family(x, "runcoach_sidecar_requests_total", "counter",
                               "Requests by route and status.");

    for (r = 0; r == 0 || metrics_routes[r - 1] != NULL; r++) {
        for (s = 0; s == 0 || metrics_statuses[s - 1] != 0; s++) {

            n = runcoach_counter_get(&metrics->requests[r][s]);

            /* all that there could be are too many, and most never come */

            if (n == 0) {
                continue;
            }

            snprintf(status, sizeof(status), "%u", metrics_statuses[s]);

            metrics_label(&labels[0], "route",
                          (metrics_routes[r] == NULL) ? "other"
                                                      : metrics_routes[r]);
            metrics_label(&labels[1], "status",
                          (metrics_statuses[s] == 0) ? "other" : status);

            runcoach_exposition_sample(x, "runcoach_sidecar_requests_total",
                                       labels, 2, n);
        }
    }
}


static void
metrics_outcomes(runcoach_exposition_t *x, const char *family,
    const char *const *names, const uint64_t *values)
{
    size_t            i;
    runcoach_label_t  label;

    for (i = 0; i == 0 || names[i - 1] != NULL; i++) {
        metrics_label(&label, "outcome",
                      (names[i] == NULL) ? "other" : names[i]);
        runcoach_exposition_sample(x, family, &label, 1,
                                   runcoach_counter_get(&values[i]));
    }
}


static void
metrics_jobs(runcoach_exposition_t *x)
{
    size_t            k, o;
    runcoach_label_t  labels[2];

    runcoach_exposition_family(x, "runcoach_sidecar_jobs_total", "counter",
                               "Attempts at jobs, by kind and outcome.");

    for (k = 0; k == 0 || metrics_kinds[k - 1] != NULL; k++) {
        for (o = 0; o == 0 || metrics_outcomes_of_jobs[o - 1] != NULL; o++) {

            metrics_label(&labels[0], "kind",
                          (metrics_kinds[k] == NULL) ? "other"
                                                     : metrics_kinds[k]);
            metrics_label(&labels[1], "outcome",
                          (metrics_outcomes_of_jobs[o] == NULL)
                          ? "other" : metrics_outcomes_of_jobs[o]);

            runcoach_exposition_sample(x, "runcoach_sidecar_jobs_total",
                                       labels, 2,
                                       runcoach_counter_get(
                                                       &metrics->jobs[k][o]));
        }
    }
}


static void
metrics_value(runcoach_exposition_t *x, metrics_counter_e counter,
    const char *name, const char *help)
{
    runcoach_exposition_value(x, name, "counter", help,
                              runcoach_counter_get(
                                             &metrics->counters[counter]));
}


static void
metrics_label(runcoach_label_t *label, const char *name, const char *value)
{
    label->name = name;
    label->value = value;
    label->len = strlen(value);
}


/* a list that outgrows its place in the file does not compile */

#define metrics_fits(list, n)                                                 \
    _Static_assert(sizeof(list) / sizeof(list[0]) <= (n), "too many")

metrics_fits(metrics_routes, METRICS_ROUTES);
metrics_fits(metrics_statuses, METRICS_STATUSES);
metrics_fits(metrics_webhooks, METRICS_NAMES);
metrics_fits(metrics_completions, METRICS_NAMES);
metrics_fits(metrics_kinds, METRICS_KINDS);
metrics_fits(metrics_outcomes_of_jobs, METRICS_NAMES);
