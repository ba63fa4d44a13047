
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"


#define PROGRESS_BAR       30
#define PROGRESS_TERMINAL  100      /* milliseconds */
#define PROGRESS_LINE      10000


static void progress_show(const progress_t *p);
static long long progress_now(void);


void
progress_begin(progress_t *p, const char *what, long long total)
{
    p->what = what;
    p->done = 0;
    p->total = total;
    p->terminal = isatty(STDERR_FILENO);
    p->shown = progress_now();
}


void
progress_step(progress_t *p, long long n)
{
    long long  now;

    p->done += n;
    now = progress_now();

    if (now - p->shown >= (p->terminal ? PROGRESS_TERMINAL : PROGRESS_LINE)) {
        p->shown = now;
        progress_show(p);
    }
}


void
progress_end(progress_t *p)
{
    progress_show(p);

    if (p->terminal) {
        fputc('\n', stderr);
    }
}


static void
progress_show(const progress_t *p)
{
    int  i, n;

    if (p->total <= 0) {
        fprintf(stderr, p->terminal ? "\r%s: %lld\033[K" : "%s: %lld\n",
                p->what, p->done);
        return;
    }

    n = (int) (p->done * PROGRESS_BAR / p->total);

    if (!p->terminal) {
        fprintf(stderr, "%s: %lld of %lld, %lld %%\n", p->what, p->done,
                p->total, p->done * 100 / p->total);
        return;
    }

    fprintf(stderr, "\r%s: [", p->what);

    for (i = 0; i < PROGRESS_BAR; i++) {
        fputc((i < n) ? '#' : '.', stderr);
    }

    fprintf(stderr, "] %lld of %lld, %lld %%\033[K", p->done, p->total,
            p->done * 100 / p->total);
}


static long long
progress_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}
