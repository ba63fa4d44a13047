
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runcoach_metrics.h"


typedef struct {
    uint64_t      us;
    const char   *le;
} runcoach_bound_t;


static void runcoach_exposition_label(runcoach_exposition_t *x,
    const runcoach_label_t *label);
static void runcoach_exposition_char(runcoach_exposition_t *x, char c);
static void runcoach_exposition_print(runcoach_exposition_t *x,
    const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void runcoach_exposition_end(runcoach_exposition_t *x);


static const runcoach_bound_t
    runcoach_bounds[RUNCOACH_HISTOGRAM_BUCKETS] =
{
    { 1000, "0.001" },
    { 5000, "0.005" },
    { 10000, "0.01" },
    { 25000, "0.025" },
    { 50000, "0.05" },
    { 100000, "0.1" },
    { 250000, "0.25" },
    { 500000, "0.5" },
    { 1000000, "1" },
    { 2500000, "2.5" },
    { 5000000, "5" },
    { 10000000, "10" },
    { UINT64_MAX, "+Inf" }
};


void
runcoach_histogram_add(runcoach_histogram_t *h, uint64_t us, int own)
{
    size_t  i;

    for (i = 0; us > runcoach_bounds[i].us; i++) {
        /* void */
    }

    if (own) {
        runcoach_counter_own(&h->buckets[i], 1);
        runcoach_counter_own(&h->us, us);

    } else {
        runcoach_counter_add(&h->buckets[i], 1);
        runcoach_counter_add(&h->us, us);
    }
}


void
runcoach_histogram_merge(runcoach_histogram_t *dst,
    const runcoach_histogram_t *src)
{
    size_t  i;

    for (i = 0; i < RUNCOACH_HISTOGRAM_BUCKETS; i++) {
        dst->buckets[i] += runcoach_counter_get(&src->buckets[i]);
    }

    dst->us += runcoach_counter_get(&src->us);
}


void
runcoach_exposition_init(runcoach_exposition_t *x, char *buf, size_t size)
{
    x->pos = buf;
    x->last = buf;
    x->end = buf + size;
    x->full = 0;
}


void
runcoach_exposition_family(runcoach_exposition_t *x, const char *name,
    const char *type, const char *help)
{
    runcoach_exposition_print(x, "# HELP %s %s\n# TYPE %s %s", name, help,
                              name, type);
    runcoach_exposition_end(x);
}


void
runcoach_exposition_sample(runcoach_exposition_t *x, const char *name,
    const runcoach_label_t *labels, size_t n, uint64_t value)
{
    size_t  i;

    runcoach_exposition_print(x, "%s", name);

    for (i = 0; i < n; i++) {
        runcoach_exposition_char(x, i == 0 ? '{' : ',');
        runcoach_exposition_label(x, &labels[i]);
    }

    runcoach_exposition_print(x, "%s %" PRIu64, n == 0 ? "" : "}", value);
    runcoach_exposition_end(x);
}


void
runcoach_exposition_value(runcoach_exposition_t *x, const char *name,
    const char *type, const char *help, uint64_t value)
{
    runcoach_exposition_family(x, name, type, help);
    runcoach_exposition_sample(x, name, NULL, 0, value);
}


void
runcoach_exposition_histogram(runcoach_exposition_t *x, const char *name,
    const char *help, const runcoach_histogram_t *h)
{
    size_t    i;
    uint64_t  n;

    runcoach_exposition_family(x, name, "histogram", help);

    n = 0;

    for (i = 0; i < RUNCOACH_HISTOGRAM_BUCKETS; i++) {
        n += h->buckets[i];

        runcoach_exposition_print(x, "%s_bucket{le=\"%s\"} %" PRIu64, name,
                                  runcoach_bounds[i].le, n);
        runcoach_exposition_end(x);
    }

    runcoach_exposition_print(x, "%s_sum %" PRIu64 ".%06" PRIu64 "\n"
                              "%s_count %" PRIu64, name, h->us / 1000000,
                              h->us % 1000000, name, n);
    runcoach_exposition_end(x);
}


static void
runcoach_exposition_label(runcoach_exposition_t *x,
    const runcoach_label_t *label)
{
    size_t  i;

    runcoach_exposition_print(x, "%s=\"", label->name);

    for (i = 0; i < label->len; i++) {

        switch (label->value[i]) {

        case '\n':
            runcoach_exposition_print(x, "\\n");
            break;

        case '\\':
        case '"':
            runcoach_exposition_char(x, '\\');

            /* fall through */

        default:
            runcoach_exposition_char(x, label->value[i]);
        }
    }

    runcoach_exposition_char(x, '"');
}


static void
runcoach_exposition_char(runcoach_exposition_t *x, char c)
{
    if (x->full || x->end - x->pos < 1) {
        x->full = 1;
        return;
    }

    *x->pos++ = c;
}


static void
runcoach_exposition_print(runcoach_exposition_t *x, const char *fmt, ...)
{
    int      n;
    va_list  args;

    if (x->full) {
        return;
    }

    va_start(args, fmt);
    n = vsnprintf(x->pos, x->end - x->pos, fmt, args);
    va_end(args);

    if (n < 0 || n >= x->end - x->pos) {
        x->full = 1;
        return;
    }

    x->pos += n;
}


/* of a line, which counts now, or not at all */

static void
runcoach_exposition_end(runcoach_exposition_t *x)
{
    runcoach_exposition_char(x, '\n');

    if (!x->full) {
        x->last = x->pos;
    }
}
