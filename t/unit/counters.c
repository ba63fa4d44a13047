
#include "../../sidecar/metrics.c"

#include "tap.h"


static int has(const char *line);
static void test_counts(void);
static void test_shared(const char *dir);
static void test_refused(const char *dir);


/* 1 if the text has this line, as a whole */

static int
has(const char *line)
{
    char  *text, *p;
    int    found;

    text = metrics_text();
    found = 0;

    for (p = strtok(text, "\n"); p != NULL; p = strtok(NULL, "\n")) {
        found += (strcmp(p, line) == 0);
    }

    free(text);

    return found == 1;
}


static void
test_counts(void)
{
    metrics_webhook("applied");
    metrics_webhook("applied");
    metrics_webhook("\"unheard of\"");
    metrics_webhook(NULL);
    metrics_completion("repeated");
    metrics_job("analyze", "failed");
    metrics_job("dance", "done");
    metrics_add(METRICS_OVERLOAD);
    metrics_queue(3);
    metrics_request("/health", 200, 1500);
    metrics_request("/health", 418, 10);
    metrics_request(NULL, 404, 10);

    ok(has("runcoach_sidecar_webhooks_total{outcome=\"applied\"} 2"),
       "an outcome");
    ok(has("runcoach_sidecar_webhooks_total{outcome=\"other\"} 2"),
       "others are one");
    ok(has("runcoach_sidecar_webhooks_total{outcome=\"stale\"} 0"),
       "what did not happen");
    ok(has("runcoach_sidecar_completions_total{outcome=\"repeated\"} 1"),
       "a completion");
    ok(has("runcoach_sidecar_jobs_total{kind=\"analyze\",outcome=\"failed\"} 1"),
       "a job");
    ok(has("runcoach_sidecar_jobs_total{kind=\"other\",outcome=\"done\"} 1"),
       "of another kind");
    ok(has("runcoach_sidecar_overload_total 1"), "a counter");
    ok(has("runcoach_sidecar_queue_depth 3"), "the queue");
    ok(has("runcoach_sidecar_requests_total{route=\"/health\",status=\"200\"}"
           " 1"), "a request");
    ok(has("runcoach_sidecar_requests_total{route=\"/health\",status=\"other\"}"
           " 1"), "of another status");
    ok(has("runcoach_sidecar_requests_total{route=\"other\",status=\"404\"} 1"),
       "of no route");
    ok(has("runcoach_sidecar_request_seconds_count 3"), "the histogram");
    ok(has("runcoach_sidecar_request_seconds_sum 0.001520"), "its sum");
}


static void
test_shared(const char *dir)
{
    char        listen[256], path[256];
    metrics_t  *one, *two, *three;

    snprintf(listen, sizeof(listen), "unix:%s/s.sock", dir);
    snprintf(path, sizeof(path), "%s/s.sock.metrics", dir);

    metrics_open(listen, "/nonexistent");
    one = metrics;
    metrics_open(listen, "/nonexistent");
    two = metrics;

    ok(one != &metrics_own && two != &metrics_own && one != two, "two maps");

    metrics = one;
    metrics_job("analyze", "done");
    metrics = two;
    ok(has("runcoach_sidecar_jobs_total{kind=\"analyze\",outcome=\"done\"} 1"),
       "what one counts the other one tells");

    two->layout++;
    metrics_open(listen, "/nonexistent");
    three = metrics;

    ok(three != two && three != &metrics_own
       && three->jobs[0][0] == 0 && two->jobs[0][0] == 1,
       "another layout: made anew, and the old one is left alone");

    metrics_open("127.0.0.1:80", dir);
    ok(metrics != three && metrics != &metrics_own, "of an address");

    unlink(path);
    snprintf(path, sizeof(path), "%s/sidecar.metrics", dir);
    ok(unlink(path) == 0, "it is in the home");
}


static void
test_refused(const char *dir)
{
    int   fd;
    char  path[300], other[300], listen[300];

    snprintf(listen, sizeof(listen), "unix:%s/r.sock", dir);
    snprintf(path, sizeof(path), "%s/r.sock.metrics", dir);
    snprintf(other, sizeof(other), "%s/other", dir);

    fd = open(other, O_CREAT | O_WRONLY, 0600);
    ok(fd != -1 && write(fd, "precious", 8) == 8, "somebody's file");
    close(fd);

    metrics = &metrics_own;

    ok(symlink(other, path) == 0, "a link to it");
    metrics_open(listen, dir);
    ok(metrics == &metrics_own, "is not followed");
    unlink(path);

    ok(link(other, path) == 0, "its other name");
    metrics_open(listen, dir);
    ok(metrics == &metrics_own, "is not written to");
    unlink(path);
    unlink(other);

    ok(mkdir(path, 0700) == 0, "a directory");
    metrics_open(listen, dir);
    ok(metrics == &metrics_own, "is no file");
    rmdir(path);

    metrics_open("unix:/nonexistent/r.sock", dir);
    ok(metrics == &metrics_own, "no such directory");
    metrics_webhook("stale");
    ok(has("runcoach_sidecar_webhooks_total{outcome=\"stale\"} 1"),
       "it counts all the same");
}


int
main(void)
{
    char  dir[] = "/tmp/runcoach.XXXXXX";

    if (mkdtemp(dir) == NULL) {
        return 1;
    }

    /* what it says of files it cannot use is not wanted here */

    log_init(LOG_LEVEL_ERROR);

    test_counts();
    test_shared(dir);
    test_refused(dir);

    rmdir(dir);

    return done();
}
