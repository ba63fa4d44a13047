
#include "runcoach_bucket.h"


static int runcoach_bucket_units(runcoach_bucket_rate_t *rate, uint64_t n,
    uint64_t p, uint64_t burst);
static uint64_t runcoach_bucket_gcd(uint64_t a, uint64_t b);
static uint64_t runcoach_bucket_divide_up(uint64_t a, uint64_t b);
static int runcoach_bucket_possible(const runcoach_bucket_answer_t *answer,
    const runcoach_bucket_rate_t *rate, const runcoach_bucket_ask_t *ask,
    int all, uint64_t epoch);


int
runcoach_bucket_parse_rate(const char *s, size_t len, uint64_t *requests,
    uint64_t *seconds)
{
    size_t    i;
    uint64_t  n, unit;

    if (len < 4 || s[len - 3] != 'r' || s[len - 2] != '/') {
        return -1;
    }

    switch (s[len - 1]) {

    case 's':
        unit = 1;
        break;

    case 'm':
        unit = 60;
        break;

    case 'h':
        unit = 3600;
        break;

    case 'd':
        unit = 86400;
        break;

    default:
        return -1;
    }

    n = 0;

    for (i = 0; i < len - 3; i++) {

        if (s[i] < '0' || s[i] > '9') {
            return -1;
        }

        n = n * 10 + (uint64_t) (s[i] - '0');

        if (n > RUNCOACH_BUCKET_MAX_REQUESTS) {
            return -1;
        }
    }

    if (n == 0) {
        return -1;
    }

    *requests = n;
    *seconds = unit;

    return 0;
}


int
runcoach_bucket_rate(runcoach_bucket_rate_t *rate, uint64_t requests,
    uint64_t seconds, uint64_t burst)
{
    if (requests == 0 || requests > RUNCOACH_BUCKET_MAX_REQUESTS
        || seconds == 0 || seconds > RUNCOACH_BUCKET_MAX_SECONDS
        || burst == 0)
    {
        return -1;
    }

    return runcoach_bucket_units(rate, requests, seconds * 1000000, burst);
}


int
runcoach_bucket_share(runcoach_bucket_rate_t *share,
    const runcoach_bucket_rate_t *rate, uint64_t permille, uint64_t burst)
{
    if (permille == 0 || permille > 1000 || burst == 0) {
        return -1;
    }

    return runcoach_bucket_units(share, rate->n * permille, rate->p * 1000,
                                 burst);
}


static int
runcoach_bucket_units(runcoach_bucket_rate_t *rate, uint64_t n, uint64_t p,
    uint64_t burst)
{
    uint64_t  gcd;

    if (burst > (RUNCOACH_BUCKET_MAX_UNITS - 1) / p) {

        /* only now, as a p of its own needs conversion when plans change */

        gcd = runcoach_bucket_gcd(n, p);

        n /= gcd;
        p /= gcd;

        if (burst > (RUNCOACH_BUCKET_MAX_UNITS - 1) / p) {
            return -1;
        }
    }

    rate->n = n;
    rate->p = p;
    rate->c = burst * p;

    return 0;
}


int
runcoach_bucket_advance(runcoach_bucket_t *b,
    const runcoach_bucket_rate_t *rate, uint64_t now)
{
    uint64_t  elapsed;

    if (b->deficit == 0) {
        b->p = rate->p;
        b->ts = now;
        return 0;
    }

    if (b->p != rate->p) {
        b->deficit = runcoach_bucket_convert(b->deficit, b->p, rate->p);
        b->p = rate->p;
    }

    if (now < b->ts) {

        if (b->ts - now <= RUNCOACH_BUCKET_STEP) {
            return 0;
        }

        b->ts = now;

        return 1;
    }

    elapsed = now - b->ts;

    b->ts = now;

    /* the product is not made unless it fits */

    if (elapsed > b->deficit / rate->n) {
        b->deficit = 0;
        return 0;
    }

    b->deficit -= elapsed * rate->n;

    return 0;
}


void
runcoach_bucket_check(const runcoach_bucket_t *b,
    const runcoach_bucket_rate_t *rate, uint64_t cost,
    runcoach_bucket_verdict_t *v)
{
    uint64_t  free, need;

    /* of a larger burst before, more may be lacking than there is room for */

    free = (b->deficit < rate->c) ? rate->c - b->deficit : 0;

    v->remaining = free / rate->p;
    v->reset_us = runcoach_bucket_divide_up(b->deficit, rate->n);
    v->retry_us = 0;

    if (cost > rate->c / rate->p) {
        v->allowed = 0;
        v->retry_us = -1;
        return;
    }

    need = cost * rate->p;
    v->allowed = (b->deficit <= rate->c - need);

    if (!v->allowed) {
        v->retry_us = (int64_t)
                      runcoach_bucket_divide_up(b->deficit - (rate->c - need),
                                                rate->n);
    }
}


void
runcoach_bucket_spend(runcoach_bucket_t *b, const runcoach_bucket_rate_t *rate,
    uint64_t cost)
{
    b->deficit += cost * rate->p;
}


int
runcoach_bucket_take(runcoach_bucket_t *b, const runcoach_bucket_rate_t *rate,
    uint64_t cost, uint64_t now, runcoach_bucket_verdict_t *v)
{
    int  stepped;

    stepped = runcoach_bucket_advance(b, rate, now);

    runcoach_bucket_check(b, rate, cost, v);

    if (!v->allowed || cost == 0) {
        return stepped;
    }

    runcoach_bucket_spend(b, rate, cost);
    runcoach_bucket_check(b, rate, 0, v);

    return 1;
}


static uint64_t
runcoach_bucket_gcd(uint64_t a, uint64_t b)
{
    uint64_t  t;

    while (b != 0) {
        t = a % b;
        a = b;
        b = t;
    }

    return a;
}


static uint64_t
runcoach_bucket_divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}


uint64_t
runcoach_bucket_convert(uint64_t units, uint64_t from, uint64_t to)
{
    double    value;
    uint64_t  result;

    if (units == 0 || from == 0) {
        return 0;
    }

    /*
     * The same operations in the same order as in the script, which has
     * doubles only, so that both come to the same integer.
     */

    value = (double) units / (double) from * (double) to;

    if (value >= (double) RUNCOACH_BUCKET_MAX_UNITS) {
        return RUNCOACH_BUCKET_MAX_UNITS - 1;
    }

    result = (uint64_t) value;

    return ((double) result < value) ? result + 1 : result;
}


void
runcoach_bucket_args(int64_t *args, const runcoach_bucket_rate_t *rate,
    const runcoach_bucket_ask_t *ask)
{
    *args++ = (int64_t) rate->n;
    *args++ = (int64_t) rate->p;
    *args++ = (int64_t) rate->c;
    *args++ = (int64_t) ask->cost;
    *args++ = (int64_t) ask->need;
    *args++ = (int64_t) ask->extra;
    *args++ = ask->epoch;
    *args++ = (int64_t) ask->spent;
    *args++ = (int64_t) ask->released;
    *args = (int64_t) ask->hint;
}


int
runcoach_bucket_answers(runcoach_bucket_answer_t *answers,
    const runcoach_bucket_rate_t *const *rates,
    const runcoach_bucket_ask_t *const *asks, size_t n, const int64_t *values,
    size_t count, uint64_t epoch)
{
    int                        all;
    size_t                     i, k;
    runcoach_bucket_answer_t  *a;

    if (count != n * RUNCOACH_BUCKET_VALUES) {
        return -1;
    }

    /* before anything is cast to what has no sign; only two may have one */

    for (i = 0; i < count; i++) {
        k = i % RUNCOACH_BUCKET_VALUES;

        if (values[i] < 0 && k != 5 && (k != 6 || values[i] != -1)) {
            return -1;
        }

        if (values[i] > 4 * (int64_t) RUNCOACH_BUCKET_MAX_UNITS
            || values[i] < -4 * (int64_t) RUNCOACH_BUCKET_MAX_UNITS)
        {
            return -1;
        }
    }

    all = 1;

    for (i = 0; i < n; i++) {
        all = all && values[i * RUNCOACH_BUCKET_VALUES] == 1;
    }

    for (i = 0; i < n; i++) {
        a = &answers[i];

        a->allowed = (values[0] != 0);
        a->granted = (uint64_t) values[1];
        a->held = (uint64_t) values[2];
        a->epoch = values[3];
        a->valid_us = (uint64_t) values[4];
        a->free = values[5];
        a->retry_us = values[6];
        a->reset_us = (uint64_t) values[7];
        a->fresh = (values[8] != 0);

        if (values[0] > 1 || values[8] > 1
            || !runcoach_bucket_possible(a, rates[i], asks[i], all, epoch))
        {
            return -1;
        }

        values += RUNCOACH_BUCKET_VALUES;
    }

    return all;
}


static int
runcoach_bucket_possible(const runcoach_bucket_answer_t *answer,
    const runcoach_bucket_rate_t *rate, const runcoach_bucket_ask_t *ask,
    int all, uint64_t epoch)
{
    if (answer->allowed != (answer->retry_us == 0)
        || (answer->retry_us == -1) != (ask->cost > rate->c / rate->p))
    {
        return 0;
    }

    if (answer->granted > ask->need || answer->held > ask->extra
        || (all && answer->granted < ask->cost)
        || (!all && (answer->granted > 0 || answer->held > 0)))
    {
        return 0;
    }

    /* two epochs, and two more if the clock of Redis stepped back */

    return answer->free <= (int64_t) rate->c
           && answer->valid_us > 0 && answer->valid_us <= 4 * epoch;
}
