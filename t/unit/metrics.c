
#include "../../ngx_runcoach_module/lib/runcoach_metrics.c"

#include "tap.h"


static void test_histogram(void);
static void test_text(void);
static void test_labels(void);
static void test_room(void);


static void
test_histogram(void)
{
    size_t                i;
    runcoach_histogram_t  h, sum;

    static const struct {
        uint64_t  us;
        size_t    bucket;
    } rows[] = {
        { 0, 0 }, { 1000, 0 }, { 1001, 1 }, { 5000, 1 }, { 5001, 2 },
        { 999999, 8 }, { 1000000, 8 }, { 1000001, 9 }, { 10000000, 11 },
        { 10000001, 12 }, { UINT64_MAX, 12 }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(&h, 0, sizeof(h));
        runcoach_histogram_add(&h, rows[i].us, i & 1);
        ok(h.buckets[rows[i].bucket] == 1 && h.us == rows[i].us,
           "%llu us in bucket %zu", (unsigned long long) rows[i].us,
           rows[i].bucket);
    }

    memset(&h, 0, sizeof(h));
    memset(&sum, 0, sizeof(sum));

    for (i = 0; i < 10; i++) {
        runcoach_histogram_add(&h, 3000, 0);
    }

    runcoach_histogram_merge(&sum, &h);
    runcoach_histogram_merge(&sum, &h);

    ok(sum.buckets[1] == 20 && sum.us == 60000, "merged twice");
}


static void
test_text(void)
{
    char                   buf[4096];
    runcoach_histogram_t   h;
    runcoach_exposition_t  x;

    runcoach_exposition_init(&x, buf, sizeof(buf));
    runcoach_exposition_value(&x, "a_total", "counter", "What it is.",
                              UINT64_MAX);
    *x.last = '\0';

    is_str(buf, "# HELP a_total What it is.\n# TYPE a_total counter\n"
                "a_total 18446744073709551615\n", "a counter");

    memset(&h, 0, sizeof(h));
    runcoach_histogram_add(&h, 1500, 1);
    runcoach_histogram_add(&h, 20000000, 1);

    runcoach_exposition_init(&x, buf, sizeof(buf));
    runcoach_exposition_histogram(&x, "t_seconds", "Time.", &h);
    *x.last = '\0';

    is_str(buf, "# HELP t_seconds Time.\n# TYPE t_seconds histogram\n"
                "t_seconds_bucket{le=\"0.001\"} 0\n"
                "t_seconds_bucket{le=\"0.005\"} 1\n"
                "t_seconds_bucket{le=\"0.01\"} 1\n"
                "t_seconds_bucket{le=\"0.025\"} 1\n"
                "t_seconds_bucket{le=\"0.05\"} 1\n"
                "t_seconds_bucket{le=\"0.1\"} 1\n"
                "t_seconds_bucket{le=\"0.25\"} 1\n"
                "t_seconds_bucket{le=\"0.5\"} 1\n"
                "t_seconds_bucket{le=\"1\"} 1\n"
                "t_seconds_bucket{le=\"2.5\"} 1\n"
                "t_seconds_bucket{le=\"5\"} 1\n"
                "t_seconds_bucket{le=\"10\"} 1\n"
                "t_seconds_bucket{le=\"+Inf\"} 2\n"
                "t_seconds_sum 20.001500\nt_seconds_count 2\n",
           "a histogram is cumulative");
}


static void
test_labels(void)
{
    char                   buf[256];
    runcoach_label_t       labels[2];
    runcoach_exposition_t  x;

    labels[0].name = "a";
    labels[0].value = "q\" b\\ n\n\xc3\xa9";
    labels[0].len = strlen(labels[0].value);
    labels[1].name = "b";
    labels[1].value = "";
    labels[1].len = 0;

    runcoach_exposition_init(&x, buf, sizeof(buf));
    runcoach_exposition_sample(&x, "m", labels, 2, 7);
    *x.last = '\0';

    is_str(buf, "m{a=\"q\\\" b\\\\ n\\n\xc3\xa9\",b=\"\"} 7\n", "escaped");
}


/* whole lines or none, whatever room there is; nothing beyond it is touched */

static void
test_room(void)
{
    char                   buf[128], whole[128];
    size_t                 n, size;
    unsigned               bad;
    runcoach_label_t       label;
    runcoach_exposition_t  x;

    label.name = "l";
    label.value = "some\"value";
    label.len = strlen(label.value);

    runcoach_exposition_init(&x, whole, sizeof(whole));
    runcoach_exposition_sample(&x, "first", &label, 1, 1);
    runcoach_exposition_sample(&x, "second", &label, 1, 22);
    size = x.last - whole;
    bad = x.full;

    for (n = 0; n <= size; n++) {
        memset(buf, '#', sizeof(buf));
        runcoach_exposition_init(&x, buf, n);
        runcoach_exposition_sample(&x, "first", &label, 1, 1);
        runcoach_exposition_sample(&x, "second", &label, 1, 22);

        bad += (buf[n] != '#' || x.last > buf + n
                || memcmp(buf, whole, x.last - buf) != 0
                || (x.last != buf && x.last[-1] != '\n')
                || (!x.full && (size_t) (x.last - buf) != size));
    }

    ok(bad == 0, "any room, %u wrong", bad);
    ok(!x.full && (size_t) (x.last - buf) == size, "just enough");
}


int
main(void)
{
    test_histogram();
    test_text();
    test_labels();
    test_room();

    return done();
}
