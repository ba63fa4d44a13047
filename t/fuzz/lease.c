
/*
 * Leases: any order of requests, replies (of a Redis, or of anything), losses,
 * changes of plan and pauses.  Nobody spends more than was granted, a denial
 * says when to come again, and every number stays one.
 */


#include <stdlib.h>
#include <string.h>

#include "runcoach_lease.h"
#include "redis_model.h"


#define NODES  2
#define CALLS  8
#define EPOCH  2000000


typedef struct {
    const uint8_t           *data;
    size_t                   size;
} input_t;


typedef struct {
    int                      used;
    int                      pass;
    size_t                   n;
    int                      which[NODES];
    runcoach_lease_key_t     keys[NODES];
    runcoach_bucket_rate_t   rates[NODES];
} flight_t;


typedef struct {
    uint64_t                 now;
    runcoach_lease_conf_t    conf;
    runcoach_lease_t         nodes[NODES];
    runcoach_bucket_rate_t   rates[NODES];
    runcoach_bucket_rate_t   locals[NODES];
    redis_key_t              redis[NODES];
    uint64_t                 granted[NODES];
    uint64_t                 spent[NODES];
    flight_t                 flights[CALLS];
} state_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t take(input_t *in, size_t bytes);
static void plan(state_t *s, input_t *in, int i);
static void request(state_t *s, input_t *in);
static void keep(state_t *s, const runcoach_lease_key_t *keys, size_t n,
    const int *which, int pass);
static void reply(state_t *s, input_t *in, flight_t *f);
static void release(state_t *s, int i, int force);
static void check(const state_t *s);


static uint64_t
take(input_t *in, size_t bytes)
{
    uint64_t  value;

    for (value = 0; bytes > 0; bytes--) {
        value <<= 8;

        if (in->size > 0) {
            value |= *in->data++;
            in->size--;
        }
    }

    return value;
}


static void
plan(state_t *s, input_t *in, int i)
{
    uint64_t                requests, seconds, burst;
    runcoach_bucket_rate_t  rate;

    requests = take(in, 2) + 1;
    seconds = take(in, 1) % 4;
    seconds = (seconds == 0) ? 1 : (seconds == 1) ? 60 : seconds * 43200;
    burst = take(in, 2) + 1;

    if (runcoach_bucket_rate(&rate, requests, seconds, burst) == 0) {
        s->rates[i] = rate;
        (void) runcoach_bucket_share(&s->locals[i], &rate, 1 + burst % 1000,
                                     1 + burst / 2);
    }
}


static void
request(state_t *s, input_t *in)
{
    int                       which[NODES];
    size_t                    i, n;
    uint8_t                   what;
    runcoach_lease_key_t      keys[NODES], *k;
    runcoach_lease_mode_e     mode;
    runcoach_lease_verdict_e  verdict;

    what = (uint8_t) take(in, 1);
    n = 1 + (what & 1);
    mode = (what & 6) ? RUNCOACH_LEASE_REDIS : (what >> 3) % 4;

    memset(keys, 0, sizeof(keys));

    for (i = 0; i < n; i++) {
        which[i] = (n == 1) ? what >> 7 : (int) i;

        keys[i].node = &s->nodes[which[i]];
        keys[i].rate = &s->rates[which[i]];
        keys[i].local = &s->locals[which[i]];
        keys[i].mode = mode;
        keys[i].cost = take(in, 1);
        keys[i].cost = (keys[i].cost > 250) ? take(in, 8) >> 8
                                            : keys[i].cost / 40;
    }

    verdict = runcoach_lease_decide(keys, n, &s->conf, s->now);

    for (i = 0, k = keys; i < n; i++, k++) {

        if (verdict == RUNCOACH_LEASE_DENY && !k->verdict.allowed
            && k->verdict.retry_us < 1
            && (k->verdict.retry_us != -1
                || k->cost <= k->rate->c / k->rate->p))
        {
            abort();
        }

        if (k->verdict.reset_us > RUNCOACH_BUCKET_MAX_UNITS) {
            abort();
        }

        if (verdict == RUNCOACH_LEASE_PASS
            && k->source == RUNCOACH_LEASE_FROM_LEASE)
        {
            s->spent[which[i]] += k->cost;
        }

        if (k->call && verdict != RUNCOACH_LEASE_PASS
            && verdict != RUNCOACH_LEASE_ASK)
        {
            abort();
        }
    }

    keep(s, keys, n, which, verdict == RUNCOACH_LEASE_PASS);
}


static void
keep(state_t *s, const runcoach_lease_key_t *keys, size_t n, const int *which,
    int pass)
{
    size_t     i, calls;
    flight_t  *f;

    for (i = 0, calls = 0; i < n; i++) {
        calls += keys[i].call;
    }

    if (calls == 0) {
        return;
    }

    for (f = s->flights; f < s->flights + CALLS - 1 && f->used; f++) {
        /* void */
    }

    if (f->used) {
        runcoach_lease_lost(f->keys, f->n);
    }

    f->used = 1;
    f->pass = pass;
    f->n = n;

    for (i = 0; i < n; i++) {
        f->which[i] = which[i];
        f->keys[i] = keys[i];
        f->rates[i] = *keys[i].rate;
        f->keys[i].rate = &f->rates[i];
    }
}


static void
reply(state_t *s, input_t *in, flight_t *f)
{
    int                            allowed, raw;
    size_t                         i, n;
    int64_t                        values[NODES * RUNCOACH_BUCKET_VALUES];
    redis_key_t                   *k[NODES];
    runcoach_bucket_answer_t       answers[NODES], *a;
    const runcoach_bucket_ask_t   *asks[NODES];
    const runcoach_bucket_rate_t  *rates[NODES];

    for (i = 0, n = 0; i < f->n; i++) {

        if (f->keys[i].call) {
            k[n] = &s->redis[f->which[i]];
            asks[n] = &f->keys[i].ask;
            rates[n++] = &f->rates[i];
        }
    }

    raw = (int) take(in, 1);

    (void) redis_call(k, rates, asks, n, (int64_t) (s->now & ((1ll << 51) - 1)),
                      EPOCH, values);

    /* a few values which no script would send */

    if (raw > 200) {
        values[(size_t) raw % (n * RUNCOACH_BUCKET_VALUES)]
            = (int64_t) take(in, 1 + (size_t) raw % 8);
    }

    allowed = runcoach_bucket_answers(answers, rates, asks, n, values,
                                      n * RUNCOACH_BUCKET_VALUES, EPOCH);

    if (allowed < 0) {
        runcoach_lease_lost(f->keys, f->n);
        f->used = 0;
        return;
    }

    for (i = 0, a = answers; i < f->n; i++) {

        if (f->keys[i].call) {
            s->granted[f->which[i]] += a->held;
            a++;
        }
    }

    (void) runcoach_lease_end(f->keys, f->n, answers, allowed, &s->conf,
                              s->now);

    for (i = 0; i < f->n && !f->pass && allowed; i++) {

        if (f->keys[i].source == RUNCOACH_LEASE_FROM_LEASE) {
            s->spent[f->which[i]] += f->keys[i].cost;
        }
    }

    f->used = 0;
}


static void
release(state_t *s, int i, int force)
{
    runcoach_lease_key_t    key;
    runcoach_bucket_rate_t  rate;

    memset(&key, 0, sizeof(key));

    key.node = &s->nodes[i];

    if (runcoach_lease_release(&key, &rate, &s->conf, s->now, force)) {
        keep(s, &key, 1, &i, 1);
    }
}


static void
check(const state_t *s)
{
    int                      i;
    uint64_t                 left;
    const runcoach_lease_t  *node;
    runcoach_lease_status_t  status;

    for (i = 0; i < NODES; i++) {
        node = &s->nodes[i];

        left = (uint64_t) node->left[0] + node->left[1];

        if (s->spent[i] > s->granted[i]
            || left > s->granted[i] - s->spent[i]
            || (uint64_t) node->unreported[0] + node->unreported[1]
               > s->granted[i])
        {
            abort();
        }

        if (node->rate.n != 0 && (node->boost < 64 || node->boost > 1024)) {
            abort();
        }

        runcoach_lease_look(node, &s->locals[i], s->now, &status);

        if (status.leased > left || runcoach_lease_worth(node, s->now) > 3) {
            abort();
        }
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int        i, op;
    input_t    in;
    state_t   *s;
    flight_t  *f;

    static const runcoach_lease_conf_t  conf = RUNCOACH_LEASE_CONF;

    s = calloc(1, sizeof(state_t));
    if (s == NULL) {
        abort();
    }

    in.data = data;
    in.size = size;

    s->now = 1000000;
    s->conf = conf;
    s->conf.poll = (take(&in, 1) & 1) ? 50000 : 0;

    for (i = 0; i < NODES; i++) {
        (void) runcoach_bucket_rate(&s->rates[i], 5, 1, 20);
        s->locals[i] = s->rates[i];
        plan(s, &in, i);
    }

    while (in.size > 0) {
        op = (int) take(&in, 1);
        i = op >> 7;
        f = &s->flights[(op >> 4) % CALLS];

        switch (op % 16) {

        case 0:
            plan(s, &in, i);
            break;

        case 1:
            s->now += take(&in, 3);
            break;

        case 2:
            s->now += take(&in, 1) << 18;
            break;

        case 3:
            release(s, i, op & 64);
            break;

        case 4:
            if (f->used) {
                runcoach_lease_lost(f->keys, f->n);
                f->used = 0;
            }

            break;

        case 5:
            if (f->used) {
                runcoach_lease_unsent(f->keys, f->n);
                f->used = 0;
            }

            break;

        case 6:
            runcoach_lease_reset(&s->nodes[i], s->now);
            break;

        case 7:
            memset(&s->redis[i], 0, sizeof(redis_key_t));
            break;

        case 8:
        case 9:
        case 10:
        case 11:
            if (f->used) {
                reply(s, &in, f);
            }

            break;

        default:
            request(s, &in);
            s->now += (uint64_t) (op >> 4) * 100;
        }

        check(s);
    }

    free(s);

    return 0;
}
