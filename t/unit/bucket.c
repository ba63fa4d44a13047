
/*
 * The token bucket against a model of another kind: GCRA, which keeps the time
 * at which the bucket will be full, in 128 bits and parts of a microsecond.
 */


#include "../../ngx_runcoach_module/lib/runcoach_bucket.c"

#include <string.h>
#include "tap.h"


#define OPERATIONS  400000


typedef __int128  wide_t;

typedef struct {
    wide_t    full;       /* when, in 1/n us */
    uint64_t  ts;
} model_t;


static uint64_t number(uint64_t limit);
static int model_take(model_t *m, const runcoach_bucket_rate_t *rate,
    uint64_t cost, uint64_t now, runcoach_bucket_verdict_t *v);
static int same(const runcoach_bucket_verdict_t *a,
    const runcoach_bucket_verdict_t *b);
static void random_rate(runcoach_bucket_rate_t *rate);
static uint64_t random_pause(const runcoach_bucket_rate_t *rate);
static void test_model(void);
static void test_rates(void);
static void test_units(void);
static void test_plans(void);
static void test_values(void);
static void test_convert(void);
static void test_args(void);
static void test_answers(void);
static int answers(const int64_t *values, size_t count);


static uint64_t  seed = 88172645463325252;


static uint64_t
number(uint64_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return seed % limit;
}


static int
model_take(model_t *m, const runcoach_bucket_rate_t *rate, uint64_t cost,
    uint64_t now, runcoach_bucket_verdict_t *v)
{
    int     stepped;
    wide_t  lack, need, t;

    stepped = 0;
    t = now;

    if (m->full <= (wide_t) m->ts * rate->n) {
        m->ts = now;
        m->full = t * rate->n;
    }

    if (now < m->ts) {

        if (m->ts - now > 1000000) {
            m->full -= (wide_t) (m->ts - now) * rate->n;
            m->ts = now;
            stepped = 1;

        } else {
            t = m->ts;
        }
    }

    lack = m->full - t * rate->n;
    lack = (lack > 0) ? lack : 0;
    need = (wide_t) cost * rate->p;

    v->allowed = (need <= rate->c && lack + need <= rate->c);
    v->retry_us = 0;

    if (need > rate->c) {
        v->retry_us = -1;

    } else if (!v->allowed) {
        v->retry_us = (lack + need - rate->c + rate->n - 1) / rate->n;

    } else if (cost > 0) {
        lack += need;
        m->full = t * rate->n + lack;
        m->ts = t;
        stepped = 1;
    }

    v->remaining = (rate->c - lack) / rate->p;
    v->reset_us = (lack + rate->n - 1) / rate->n;

    return stepped;
}


static int
same(const runcoach_bucket_verdict_t *a, const runcoach_bucket_verdict_t *b)
{
    return a->allowed == b->allowed && a->remaining == b->remaining
           && a->retry_us == b->retry_us && a->reset_us == b->reset_us;
}


static void
random_rate(runcoach_bucket_rate_t *rate)
{
    uint64_t  requests, seconds, burst;

    static const uint64_t  units[] = { 1, 60, 3600, 86400, 7, 31536000 };

    do {
        requests = 1 + number(number(3) ? 100 : 1000000);
        seconds = units[number(sizeof(units) / sizeof(units[0]))];
        burst = 1 + number(number(3) ? 50 : 1000000);

    } while (runcoach_bucket_rate(rate, requests, seconds, burst) != 0);
}


/* a pause that brings the bucket near to where something happens */

static uint64_t
random_pause(const runcoach_bucket_rate_t *rate)
{
    uint64_t  token;

    token = rate->p / rate->n + 1;

    switch (number(6)) {

    case 0:
        return 0;

    case 1:
        return number(3);

    case 2:
        return number(2 * token);

    case 3:
        return token;

    case 4:
        return number(rate->c / rate->n + 2);

    default:
        return number(1000000);
    }
}


static void
test_model(void)
{
    int                        stored, expected, early, late;
    model_t                    m, was;
    uint64_t                   now, cost, back;
    unsigned                   i, wrong, denied, stepped, mistimed;
    runcoach_bucket_t          b, copy;
    runcoach_bucket_rate_t     rate;
    runcoach_bucket_verdict_t  v, w, x;

    now = 1700000000000000;
    wrong = denied = stepped = mistimed = 0;

    memset(&b, 0, sizeof(b));
    memset(&m, 0, sizeof(m));
    random_rate(&rate);

    for (i = 0; i < OPERATIONS; i++) {

        if (number(500) == 0) {
            random_rate(&rate);
            memset(&b, 0, sizeof(b));
            memset(&m, 0, sizeof(m));
        }

        now += random_pause(&rate);

        if (number(100) == 0) {
            back = number(2) ? number(1000001) : number(7200000000);
            now -= back;
            stepped++;
        }

        cost = number(4) ? 1 : number(rate.c / rate.p + 2);

        copy = b;
        was = m;

        stored = runcoach_bucket_take(&copy, &rate, cost, now, &v);
        expected = model_take(&was, &rate, cost, now, &w);

        wrong += !same(&v, &w) || stored != expected;

        /* what is not to be stored is forgotten, as it is in real life */

        if (stored) {
            b = copy;
        }

        if (expected) {
            m = was;
        }

        if (v.retry_us <= 0) {
            continue;
        }

        denied++;

        copy = b;
        (void) runcoach_bucket_take(&copy, &rate, cost, now + v.retry_us, &x);
        late = x.allowed;

        copy = b;
        (void) runcoach_bucket_take(&copy, &rate, cost, now + v.retry_us - 1,
                                    &x);
        early = x.allowed;

        /* unless the clock is behind the bucket, which then waits for it */

        mistimed += now >= b.ts && (!late || early);
    }

    ok(wrong == 0, "%u operations as in the model, %u steps back, %u differ",
       OPERATIONS, stepped, wrong);
    ok(denied > OPERATIONS / 100 && mistimed == 0,
       "%u denials, retry neither early nor late, %u mistimed", denied,
       mistimed);
}


static void
test_rates(void)
{
    size_t    i;
    uint64_t  n, s;

    static const struct {
        const char  *text;
        uint64_t     requests;
        uint64_t     seconds;
    } rows[] = {
        { "5r/s", 5, 1 },
        { "300r/m", 300, 60 },
        { "1000r/h", 1000, 3600 },
        { "10000r/d", 10000, 86400 },
        { "1000000000r/s", 1000000000, 1 },
        { "007r/s", 7, 1 },
        { "1000000001r/s", 0, 0 },
        { "99999999999999999999999r/s", 0, 0 },
        { "0r/s", 0, 0 },
        { "r/s", 0, 0 },
        { "5", 0, 0 },
        { "5x", 0, 0 },
        { "5r/w", 0, 0 },
        { "5 r/s", 0, 0 },
        { "-5r/s", 0, 0 },
        { "5.5r/s", 0, 0 },
        { "5r/s ", 0, 0 },
        { "", 0, 0 },
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        n = s = 0;

        if (runcoach_bucket_parse_rate(rows[i].text, strlen(rows[i].text), &n,
                                       &s)
            != 0)
        {
            n = s = 0;
        }

        ok(n == rows[i].requests && s == rows[i].seconds, "rate \"%s\"",
           rows[i].text);
    }
}


static void
test_units(void)
{
    runcoach_bucket_rate_t  r;

    ok(runcoach_bucket_rate(&r, 5, 1, 20) == 0
       && r.n == 5 && r.p == 1000000 && r.c == 20000000, "units of a second");
    ok(runcoach_bucket_rate(&r, 300, 60, 20) == 0
       && r.n == 300 && r.p == 60000000 && r.c == 1200000000,
       "units of a minute are not reduced");
    ok(runcoach_bucket_rate(&r, 1000000, 86400, 1000000) == 0
       && r.n == 1 && r.p == 86400, "reduced when too large otherwise");
    ok(runcoach_bucket_rate(&r, 7, 86400, 104249) == 0, "the largest burst");
    ok(runcoach_bucket_rate(&r, 7, 86400, 104250) != 0, "one more");
    ok(runcoach_bucket_rate(&r, 1, 1, UINT64_MAX) != 0, "burst beyond all");
    ok(runcoach_bucket_rate(&r, 0, 1, 1) != 0
       && runcoach_bucket_rate(&r, 1, 0, 1) != 0
       && runcoach_bucket_rate(&r, 1, 1, 0) != 0
       && runcoach_bucket_rate(&r, 1, UINT64_MAX, 1) != 0, "out of range");

    (void) runcoach_bucket_rate(&r, 300, 60, 20);

    ok(runcoach_bucket_share(&r, &r, 250, 5) == 0
       && r.c == 5 * r.p && r.p / r.n == 800000, "a quarter of a rate");
    ok(runcoach_bucket_share(&r, &r, 0, 5) != 0
       && runcoach_bucket_share(&r, &r, 1001, 5) != 0, "shares out of range");
}


static void
test_plans(void)
{
    uint64_t                   now;
    unsigned                   i, admitted;
    runcoach_bucket_t          b;
    runcoach_bucket_rate_t     small, large, day;
    runcoach_bucket_verdict_t  v;

    now = 1000000000;
    memset(&b, 0, sizeof(b));

    (void) runcoach_bucket_rate(&small, 1, 1, 1);
    (void) runcoach_bucket_rate(&large, 10, 1, 20);
    (void) runcoach_bucket_rate(&day, 10000, 86400, 20);

    for (i = 0, admitted = 0; i < 100; i++) {
        (void) runcoach_bucket_take(&b, i % 2 ? &small : &large, 1, now, &v);
        admitted += v.allowed;
    }

    ok(admitted == 20, "no burst is gained by changing plans: %u", admitted);

    for (i = 0, admitted = 0; i < 100; i++) {
        (void) runcoach_bucket_take(&b, i % 2 ? &day : &large, 1, now, &v);
        admitted += v.allowed;
    }

    ok(admitted == 0, "nor by another time unit: %u", admitted);

    (void) runcoach_bucket_take(&b, &large, 20, now + 2000000, &v);
    ok(v.allowed, "and nobody loses: full again when it should be");
}


static void
test_values(void)
{
    runcoach_bucket_t          b;
    runcoach_bucket_rate_t     r;
    runcoach_bucket_verdict_t  v;

    memset(&b, 0, sizeof(b));
    (void) runcoach_bucket_rate(&r, 5, 1, 2);

    ok(runcoach_bucket_take(&b, &r, 1, 1000, &v) == 1 && v.allowed
       && v.remaining == 1 && v.reset_us == 200000, "the first request");
    ok(runcoach_bucket_take(&b, &r, 1, 1000, &v) == 1 && v.allowed
       && v.remaining == 0 && v.reset_us == 400000, "the last of a burst");
    ok(runcoach_bucket_take(&b, &r, 1, 1000, &v) == 0 && !v.allowed
       && v.retry_us == 200000 && v.reset_us == 400000, "denied");
    ok(runcoach_bucket_take(&b, &r, 0, 1000, &v) == 0 && v.allowed
       && v.remaining == 0, "a look costs nothing");
    ok(runcoach_bucket_take(&b, &r, 3, 1000, &v) == 0 && !v.allowed
       && v.retry_us == -1, "more than the burst is never allowed");
}


static void
test_convert(void)
{
    ok(runcoach_bucket_convert(5000000, 1000000, UINT64_C(86400000000))
       == 5 * UINT64_C(86400000000), "five tokens in another unit");
    ok(runcoach_bucket_convert(1, UINT64_C(86400000000), 1000000) == 1,
       "rounded up");
    ok(runcoach_bucket_convert(0, 7, 3) == 0
       && runcoach_bucket_convert(7, 0, 3) == 0, "nothing");
    ok(runcoach_bucket_convert(RUNCOACH_BUCKET_MAX_UNITS - 1, 1, 1000000)
       == RUNCOACH_BUCKET_MAX_UNITS - 1, "at most all");
}


static void
test_args(void)
{
    int                     i, wrong;
    int64_t                 args[RUNCOACH_BUCKET_ARGS];
    runcoach_bucket_ask_t   ask = { 4, 5, 6, 7, 8, 9, 10 };
    runcoach_bucket_rate_t  rate = { 1, 2, 3 };

    runcoach_bucket_args(args, &rate, &ask);

    for (i = 0, wrong = 0; i < RUNCOACH_BUCKET_ARGS; i++) {
        wrong += args[i] != i + 1;
    }

    ok(wrong == 0, "arguments in the order of the script");
}


/* of two keys: a refill with a report, and a request for three tokens of ten */

static int
answers(const int64_t *values, size_t count)
{
    runcoach_bucket_answer_t              a[2];
    static const runcoach_bucket_ask_t    refill = { 0, 0, 4, 7, 1, 0, 0 };
    static const runcoach_bucket_ask_t    three = { 3, 5, 0, -1, 0, 0, 0 };
    static const runcoach_bucket_rate_t   rate = { 5, 1000000, 10000000 };
    const runcoach_bucket_ask_t          *asks[] = { &refill, &three };
    const runcoach_bucket_rate_t         *rates[] = { &rate, &rate };

    return runcoach_bucket_answers(a, rates, asks, 2, values, count, 2000000);
}


static void
test_answers(void)
{
    size_t                    i, k;
    int64_t                   values[18];
    unsigned                  accepted;
    runcoach_bucket_answer_t  a;

    static const runcoach_bucket_ask_t    one = { 1, 1, 0, -1, 0, 0, 0 };
    static const runcoach_bucket_rate_t   rate = { 5, 1000000, 10000000 };
    const runcoach_bucket_ask_t          *asks = &one;
    const runcoach_bucket_rate_t         *rates = &rate;

    static const int64_t  granted[18] = {
        1, 0, 4, 850000000, 4000000, 6000000, 0, 0, 0,
        1, 5, 0, 850000000, 4000000, 5000000, 0, 1000000, 1
    };

    static const int64_t  denied[18] = {
        1, 0, 0, 850000000, 4000000, 6000000, 0, 0, 0,
        0, 0, 0, 850000000, 4000000, -5000000, 1600000, 3000000, 0
    };

    /* which value, what it must not be, in which of the two */

    static const struct {
        int      which;
        int64_t  value;
        int      denied;
    } rows[] = {
        { 0, 2, 0 }, { 0, -1, 0 }, { 0, 0, 0 }, { 1, 1, 0 }, { 1, -1, 0 },
        { 2, 5, 0 }, { 2, -4, 0 }, { 3, -1, 0 }, { 4, 0, 0 }, { 4, -1, 0 },
        { 4, 8000001, 0 }, { 5, 10000001, 0 }, { 6, 1, 0 }, { 6, -1, 0 },
        { 7, -1, 0 }, { 8, 2, 0 }, { 10, 2, 0 }, { 10, 6, 0 }, { 11, 1, 0 },
        { 5, INT64_MIN, 0 }, { 7, INT64_MAX, 0 }, { 3, INT64_MAX, 0 },
        { 2, 1, 1 }, { 9, 1, 1 }, { 10, 3, 1 }, { 15, 0, 1 }, { 15, -1, 1 },
        { 15, -2, 1 }, { 15, INT64_MAX, 1 }, { 0, 0, 1 }
    };

    ok(answers(granted, 18) == 1, "all allow");
    ok(answers(denied, 18) == 0, "one denies");
    ok(answers(granted, 9) == -1 && answers(granted, 17) == -1
       && answers(granted, 0) == -1, "too few");

    for (i = 0, accepted = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memcpy(values, rows[i].denied ? denied : granted, sizeof(values));

        values[rows[i].which] = rows[i].value;

        if (answers(values, 18) >= 0) {
            accepted++;
            printf("# accepted: row %zu\n", i);
        }
    }

    ok(accepted == 0, "%zu answers to something else", i);

    for (k = 0; k < 9; k++) {
        values[k] = denied[k + 9];
    }

    values[6] = 200000;

    ok(runcoach_bucket_answers(&a, &rates, &asks, 1, values, 9, 2000000) == 0
       && a.allowed == 0 && a.free == -5000000 && a.retry_us == 200000
       && a.reset_us == 3000000 && a.epoch == 850000000
       && a.valid_us == 4000000 && a.held == 0 && a.granted == 0
       && a.fresh == 0, "what it says");
}


int
main(void)
{
    test_rates();
    test_units();
    test_values();
    test_convert();
    test_args();
    test_answers();
    test_plans();
    test_model();

    return done();
}
