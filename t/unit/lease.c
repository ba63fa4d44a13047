
/*
 * Leases against a model which keeps lists where they keep slots and flags, and
 * which is told of every call and reply: random requests with several keys,
 * calls lost, replies out of order, changes of plan, resets.  Then several
 * edges which do their worst before one bucket: not a unit too much.
 */


#include "../../ngx_runcoach_module/lib/runcoach_lease.c"

#include <stdlib.h>

#include "redis_model.h"
#include "tap.h"


#define OPERATIONS  400000
#define NODES       3
#define CALLS       64
#define LEASES      64
#define EPOCH       2000000
#define WALL        INT64_C(1700000000000000)


typedef struct {
    uint32_t                epoch;
    uint64_t                deadline;
    uint64_t                left;
    uint64_t                unreported;
} held_t;


/* what a node should know */

typedef struct {
    held_t                  held[LEASES];
    int                     nheld;
    redis_wide_t            lack;
    uint64_t                heard;
    uint64_t                asked;
    uint64_t                busy;
    uint64_t                pending;
    int                     away;
    runcoach_bucket_t       share;
    runcoach_bucket_rate_t  rate;
} model_t;


typedef struct {
    int                     used;
    int                     waiting;
    int                     executed;
    int                     stale[NODES];
    size_t                  n;
    int                     nodes[NODES];
    int64_t                 values[NODES * RUNCOACH_BUCKET_VALUES];
    runcoach_lease_key_t    keys[NODES];
    runcoach_bucket_rate_t  rates[NODES];
} flight_t;


typedef struct {
    runcoach_lease_view_e   view;
    runcoach_lease_source_e source;
    int64_t                 retry;
} expected_t;


static uint64_t number(uint64_t limit);
static void random_rate(runcoach_bucket_rate_t *rate);
static uint64_t random_pause(void);
static void test_model(void);
static void model_request(void);
static void model_view(model_t *m, const runcoach_lease_key_t *key,
    expected_t *expected);
static int64_t model_trip(const runcoach_lease_key_t *key, uint64_t counted);
static void model_gate(const model_t *m, const runcoach_lease_key_t *key,
    expected_t *expected);
static void model_take(model_t *m, const runcoach_lease_key_t *key,
    const expected_t *expected);
static void model_call(model_t *m, const runcoach_lease_key_t *key);
static void model_give_back(flight_t *f, size_t i);
static void model_execute(flight_t *f);
static void model_reply(flight_t *f);
static void model_lost(flight_t *f);
static void model_unsent(flight_t *f);
static void model_release(int node);
static void model_reset(int node);
static void model_compare(const char *what);
static redis_wide_t model_lack(const model_t *m);
static uint64_t model_left(model_t *m);
static void model_convert(model_t *m, const runcoach_bucket_rate_t *rate);
static flight_t *random_flight(int executed);
static void differs(const char *what);
static void test_worst(void);
static void worst_round(double *worst, unsigned *admitted, unsigned *leased);
static void test_exact(void);
static void test_first(void);
static void test_lease(void);
static void test_several(void);
static void test_gate(void);
static void test_trust(void);
static void test_death(void);
static void test_away(void);
static void test_plans(void);
static void test_reset(void);
static void test_worth(void);
static int converse(runcoach_lease_key_t *key, redis_key_t *redis,
    uint64_t now);
static void fresh_key(runcoach_lease_key_t *key, runcoach_lease_t *node,
    uint64_t cost);


static runcoach_lease_conf_t   conf = RUNCOACH_LEASE_CONF;
static runcoach_bucket_rate_t  plain;
static uint64_t                seed = 88172645463325252;

static uint64_t                now;
static runcoach_lease_t        nodes[NODES];
static runcoach_bucket_rate_t  rates[NODES];
static runcoach_bucket_rate_t  locals[NODES];
static model_t                 models[NODES];
static redis_key_t             keys[NODES];
static flight_t                flights[CALLS];
static unsigned                wrong;
static unsigned                verdicts[4];
static unsigned                sources[6];
static const char             *trouble;


static uint64_t
number(uint64_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (seed >> 11) % limit;
}


static void
random_rate(runcoach_bucket_rate_t *rate)
{
    static const uint64_t  units[] = { 1, 1, 1, 60, 86400 };

    while (runcoach_bucket_rate(rate, 1 + number(number(3) ? 30 : 1000),
                                units[number(5)], 1 + number(100))
           != 0)
    {
        /* void */
    }
}


static uint64_t
random_pause(void)
{
    switch (number(8)) {

    case 0:
    case 1:
        return 0;

    case 2:
        return number(3 * EPOCH);

    case 3:
        return number(100000);

    default:
        return number(2000);
    }
}


static void
differs(const char *what)
{
    wrong++;

    if (trouble == NULL) {
        trouble = what;
    }
}


static void
test_model(void)
{
    int        k;
    unsigned   i;
    flight_t  *f;

    /* so that no call is too old; how they become so is tested below */

    conf.flight = UINT64_C(1) << 50;
    now = conf.flight;

    for (k = 0; k < NODES; k++) {
        random_rate(&rates[k]);
        (void) runcoach_bucket_share(&locals[k], &rates[k], 500, 3);
    }

    for (i = 0; i < OPERATIONS; i++) {
        now += random_pause();
        k = (int) number(NODES);

        switch (number(100)) {

        case 0:
            random_rate(&rates[k]);
            (void) runcoach_bucket_share(&locals[k], &rates[k], 500,
                                         1 + number(5));
            break;

        case 1:
            memset(&keys[k], 0, sizeof(redis_key_t));
            break;

        case 2:
            model_reset(k);
            break;

        case 3:
        case 4:
            model_release(k);
            break;

        default:
            model_request();
        }

        model_compare("after a request");

        while (number(2)) {
            f = random_flight(0);

            if (f != NULL) {
                model_execute(f);
            }
        }

        while (number(2)) {
            f = random_flight(1);

            if (f == NULL) {
                f = random_flight(0);
            }

            if (f == NULL) {
                break;
            }

            if (!f->executed && number(3) == 0) {
                model_unsent(f);

            } else if (!f->executed || number(10) == 0) {
                model_lost(f);

            } else {
                model_reply(f);
            }

            model_compare("after a reply");
        }
    }

    ok(wrong == 0, "%u operations as in the model, %u differ%s%s", OPERATIONS,
       wrong, trouble ? ", first " : "", trouble ? trouble : "");
    ok(verdicts[0] > OPERATIONS / 20 && verdicts[1] > OPERATIONS / 20
       && verdicts[2] > OPERATIONS / 20 && verdicts[3] > OPERATIONS / 200,
       "verdicts: %u pass, %u deny, %u ask, %u fail", verdicts[0], verdicts[1],
       verdicts[2], verdicts[3]);
    ok(sources[0] > 1000 && sources[1] > 1000 && sources[2] > 100
       && sources[3] > 1000 && sources[4] > 1000 && sources[5] > 100,
       "by: %u lease, %u bound, %u gate, %u redis, %u share, %u nobody",
       sources[0], sources[1], sources[2], sources[3], sources[4], sources[5]);

    conf.flight = 1000000;
}


static flight_t *
random_flight(int executed)
{
    int  i, k;

    for (i = 0, k = (int) number(CALLS); i < CALLS; i++, k = (k + 1) % CALLS) {

        if (flights[k].used && flights[k].executed == executed) {
            return &flights[k];
        }
    }

    return NULL;
}


static void
model_request(void)
{
    int                       k, called;
    size_t                    i, n;
    flight_t                 *f;
    expected_t                expected[NODES];
    runcoach_lease_key_t      request[NODES];
    runcoach_lease_mode_e     mode;
    runcoach_lease_verdict_e  verdict, wanted;

    for (f = flights; f < flights + CALLS && f->used; f++) { /* void */ }

    if (f == flights + CALLS) {
        model_lost(flights);
        f = flights;
    }

    memset(request, 0, sizeof(request));
    memset(f, 0, sizeof(flight_t));

    mode = number(4) ? RUNCOACH_LEASE_REDIS : RUNCOACH_LEASE_LOCAL + number(3);
    wanted = RUNCOACH_LEASE_PASS;

    for (k = 0, n = 0; k < NODES; k++) {

        if (number(2) && (n > 0 || k < NODES - 1)) {
            continue;
        }

        request[n].node = &nodes[k];
        request[n].rate = &rates[k];
        request[n].local = &locals[k];
        request[n].mode = mode;
        request[n].cost = number(4) ? 1 : number(number(2) ? 4 : 101);

        model_convert(&models[k], &rates[k]);
        model_view(&models[k], &request[n], &expected[n]);

        f->nodes[n++] = k;
    }

    /* the order of precedence is that of the values */

    for (i = 0; i < n; i++) {

        if (expected[i].view == RUNCOACH_LEASE_DENIES) {
            wanted = RUNCOACH_LEASE_DENY;

        } else if (expected[i].view == RUNCOACH_LEASE_FAILS
                   && wanted != RUNCOACH_LEASE_DENY)
        {
            wanted = RUNCOACH_LEASE_FAIL;

        } else if (expected[i].view == RUNCOACH_LEASE_CALLS
                   && wanted == RUNCOACH_LEASE_PASS)
        {
            wanted = RUNCOACH_LEASE_ASK;
        }
    }

    verdict = runcoach_lease_decide(request, n, &conf, now);

    for (i = 0; i < n; i++) {

        if (request[i].source == RUNCOACH_LEASE_FROM_GATE) {
            model_gate(&models[f->nodes[i]], &request[i], &expected[i]);
            wanted = RUNCOACH_LEASE_DENY;

        } else if (request[i].source == RUNCOACH_LEASE_FROM_BOUND
                   && expected[i].view == RUNCOACH_LEASE_DENIES
                   && expected[i].retry > 0)
        {
            expected[i].retry += model_trip(&request[i], 0);
        }
    }

    verdicts[verdict]++;

    if (verdict != wanted) {
        differs("the verdict");
        return;
    }

    called = 0;

    for (i = 0; i < n; i++) {
        sources[request[i].source]++;

        if (request[i].source != expected[i].source) {
            differs("the source");
        }

        if (expected[i].view == RUNCOACH_LEASE_DENIES
            && (request[i].verdict.allowed
                || request[i].verdict.retry_us != expected[i].retry))
        {
            differs("the time to retry");
        }

        if (verdict != RUNCOACH_LEASE_PASS && verdict != RUNCOACH_LEASE_ASK) {

            if (request[i].call) {
                differs("a call for nothing");
            }

            continue;
        }

        model_take(&models[f->nodes[i]], &request[i], &expected[i]);

        if (expected[i].view == RUNCOACH_LEASE_CALLS && !request[i].call) {
            differs("no call");
        }

        if (request[i].call) {
            called = 1;
            model_call(&models[f->nodes[i]], &request[i]);
        }
    }

    if (called) {
        f->used = 1;
        f->waiting = verdict == RUNCOACH_LEASE_ASK;
        f->n = n;
        memcpy(f->keys, request, sizeof(request));

        for (i = 0; i < n; i++) {
            f->rates[i] = *request[i].rate;
            f->keys[i].rate = &f->rates[i];
        }
    }
}


static redis_wide_t
model_lack(const model_t *m)
{
    redis_wide_t  lack;

    lack = m->lack;

    if (now > m->heard) {
        lack -= (redis_wide_t) (now - m->heard) * m->rate.n;
    }

    return lack > 0 ? lack : 0;
}


/* forgets what has ended, too */

static uint64_t
model_left(model_t *m)
{
    int       i, n;
    uint64_t  left;

    for (i = 0, n = 0, left = 0; i < m->nheld; i++) {

        if (m->held[i].deadline > now) {
            left += m->held[i].left;
            m->held[n++] = m->held[i];
        }
    }

    m->nheld = n;

    return left;
}


static void
model_convert(model_t *m, const runcoach_bucket_rate_t *rate)
{
    if (m->rate.p != 0 && m->rate.p != rate->p) {
        m->lack = redis_convert(m->lack, m->rate.p, rate->p);
    }

    m->rate = *rate;
}


static void
model_view(model_t *m, const runcoach_lease_key_t *key, expected_t *expected)
{
    redis_wide_t               lack, need;
    runcoach_bucket_t          share;
    runcoach_bucket_verdict_t  v;

    expected->retry = 0;
    expected->source = RUNCOACH_LEASE_FROM_BOUND;
    expected->view = RUNCOACH_LEASE_LOOKS;

    if (key->cost == 0 && key->mode != RUNCOACH_LEASE_LOCAL) {

        if (m->heard == 0 && key->mode == RUNCOACH_LEASE_REDIS) {
            expected->view = RUNCOACH_LEASE_CALLS;
        }

        return;
    }

    lack = model_lack(m);

    if (key->cost > 0 && model_left(m) >= key->cost) {
        expected->view = RUNCOACH_LEASE_SPENDS;
        expected->source = RUNCOACH_LEASE_FROM_LEASE;

    } else if (key->mode == RUNCOACH_LEASE_OPEN) {
        expected->view = RUNCOACH_LEASE_ADMITS;
        expected->source = RUNCOACH_LEASE_FROM_NOBODY;

    } else if (key->mode == RUNCOACH_LEASE_LOCAL) {
        expected->source = RUNCOACH_LEASE_FROM_SHARE;

        if (!m->away) {
            m->away = 1;
            m->share.deficit = (uint64_t) (redis_min(lack, m->rate.c)
                                           * key->local->c / m->rate.c);
            m->share.ts = now;
            m->share.p = key->local->p;
        }

        share = m->share;

        (void) runcoach_bucket_advance(&share, key->local, now);
        runcoach_bucket_check(&share, key->local, key->cost, &v);

        expected->view = v.allowed ? RUNCOACH_LEASE_SHARES
                                   : RUNCOACH_LEASE_DENIES;
        expected->retry = v.retry_us;

        if (v.retry_us < 0 && key->cost * m->rate.p <= m->rate.c) {
            expected->retry = (int64_t) (key->cost * key->local->p
                                         / key->local->n) + 1;
        }

    } else if (key->cost * m->rate.p > m->rate.c) {
        expected->view = RUNCOACH_LEASE_DENIES;
        expected->retry = -1;

    } else {
        need = redis_min(m->pending, m->rate.c / m->rate.p);
        need = (need + key->cost) * m->rate.p;

        if (need > m->rate.c - redis_min(lack, m->rate.c)
            && (key->mode != RUNCOACH_LEASE_REDIS
                || now <= m->heard + conf.trust
                || now <= m->asked + conf.trust))
        {
            expected->view = RUNCOACH_LEASE_DENIES;
            expected->retry = (int64_t) redis_up(need - m->rate.c + lack,
                                                 m->rate.n);

        } else if (key->mode == RUNCOACH_LEASE_CLOSED) {
            expected->view = RUNCOACH_LEASE_FAILS;
            expected->source = RUNCOACH_LEASE_FROM_NOBODY;

        } else {
            expected->view = RUNCOACH_LEASE_CALLS;
            expected->source = RUNCOACH_LEASE_FROM_REDIS;
        }
    }
}


/* in a flood an empty bucket is asked when the slowest call finds what is due */

static int64_t
model_trip(const runcoach_lease_key_t *key, uint64_t counted)
{
    const runcoach_lease_t  *node;

    node = key->node;

    if (!node->drained
        || (node->denied - counted * 256) * node->reply < 256000000)
    {
        return 0;
    }

    return (int64_t) redis_min(node->reply, conf.poll);
}


/* who is denied by the gate would have asked otherwise: not long ago, or now */

static void
model_gate(const model_t *m, const runcoach_lease_key_t *key,
    expected_t *expected)
{
    int64_t       wait;
    redis_wide_t  pause, need;

    if (expected->view != RUNCOACH_LEASE_CALLS || !key->node->drained) {
        differs("the gate");
    }

    need = redis_min(m->pending, m->rate.c / m->rate.p) + key->cost;
    need = need * m->rate.p - m->rate.c + m->lack;

    wait = (int64_t) m->heard + model_trip(key, key->cost) - (int64_t) now;
    wait += (need > 0) ? (int64_t) redis_up(need, m->rate.n) : 0;

    pause = redis_min(conf.poll, m->rate.c / m->rate.n / 4);

    if (conf.lease && m->rate.c / m->rate.p >= 8
        && key->verdict.retry_us
           == (int64_t) (m->asked + (uint64_t) pause - now))
    {
        wait = key->verdict.retry_us;
    }

    expected->view = RUNCOACH_LEASE_DENIES;
    expected->source = RUNCOACH_LEASE_FROM_GATE;
    expected->retry = wait;
}


static void
model_take(model_t *m, const runcoach_lease_key_t *key,
    const expected_t *expected)
{
    int       i, best;
    uint64_t  cost;

    cost = key->cost;

    if (expected->view == RUNCOACH_LEASE_SPENDS) {

        while (cost-- > 0) {

            for (i = 0, best = -1; i < m->nheld; i++) {

                if (m->held[i].left > 0
                    && (best < 0
                        || m->held[i].deadline < m->held[best].deadline))
                {
                    best = i;
                }
            }

            m->held[best].left--;
            m->held[best].unreported++;
        }

        return;
    }

    if (expected->view == RUNCOACH_LEASE_SHARES) {
        (void) runcoach_bucket_advance(&m->share, key->local, now);
        m->share.deficit += cost * key->local->p;
    }
}


/* that a call asks for what it should, and what of the node goes with it */

static void
model_call(model_t *m, const runcoach_lease_key_t *key)
{
    int                k;
    uint64_t           cost, burst;
    redis_wide_t       debt;
    runcoach_bucket_t  share;

    cost = (key->source == RUNCOACH_LEASE_FROM_LEASE) ? 0 : key->cost;
    burst = m->rate.c / m->rate.p;

    m->pending += cost;
    m->asked = now;

    if (key->ask.cost != cost
        || key->ask.hint != (uint64_t) redis_min(model_lack(m), m->rate.c)
        || key->ask.extra > burst / 2
        || (burst < 8 && key->ask.extra > 0))
    {
        differs("what is asked");
    }

    if (m->busy) {

        if (key->settles || key->ask.epoch >= 0 || key->ask.extra > 0 || key->ask.need != cost
            || cost == 0)
        {

            /* nobody knows a key that was never heard of */

            if (key->cost > 0 || m->heard > 0) {
                differs("two calls at once");
            }
        }

        return;
    }

    m->busy = 1;

    debt = 0;

    if (m->away && key->local != NULL) {
        share = m->share;

        (void) runcoach_bucket_advance(&share, key->local, now);

        debt = redis_min(model_lack(m), m->rate.c) * key->local->c / m->rate.c;
        debt = share.deficit - redis_min(debt, share.deficit);
        debt /= key->local->p;
    }

    if (key->ask.need != cost + (uint64_t) debt
        || key->settles != (m->away && key->local != NULL))
    {
        differs("what is owed");
    }

    /* the report is of one of the leases, all that was spent of it */

    for (k = 0; k < m->nheld; k++) {

        if (key->ask.epoch == m->held[k].epoch) {

            if (key->ask.spent != m->held[k].unreported
                || (key->ask.released > 0
                    && key->ask.released != m->held[k].left))
            {
                differs("the report");
            }

            m->held[k].unreported = 0;
            m->held[k].left -= key->ask.released;

            return;
        }

        if (m->held[k].unreported > 0 && key->ask.epoch < 0
            && m->held[k].deadline > now)
        {
            differs("no report");
        }
    }

    if (key->ask.epoch >= 0) {
        differs("a report of nothing");
    }
}


static void
model_execute(flight_t *f)
{
    size_t                         i, n;
    redis_key_t                   *k[NODES];
    const runcoach_bucket_ask_t   *asks[NODES];
    const runcoach_bucket_rate_t  *plans[NODES];

    for (i = 0, n = 0; i < f->n; i++) {

        if (f->keys[i].call) {
            k[n] = &keys[f->nodes[i]];
            asks[n] = &f->keys[i].ask;
            plans[n++] = &f->rates[i];
        }
    }

    (void) redis_call(k, plans, asks, n, WALL + (int64_t) now, EPOCH,
                      f->values);
    f->executed = 1;
}


static void
model_give_back(flight_t *f, size_t i)
{
    int       k, s;
    uint64_t  spent;
    model_t  *m;

    m = &models[f->nodes[i]];

    for (s = 0; s < 2; s++) {
        spent = f->keys[i].spent[s];

        for (k = 0; k < m->nheld && !f->stale[i]; k++) {

            if (m->held[k].epoch == f->keys[i].epoch[s]) {
                spent = (uint64_t) redis_min(spent, m->held[k].unreported);
                m->held[k].unreported -= spent;
                m->held[k].left += spent;
            }
        }
    }
}


static void
model_reply(flight_t *f)
{
    int                            allowed, k;
    size_t                         i, n;
    uint64_t                       deadline;
    model_t                       *m;
    redis_wide_t                   lack;
    runcoach_bucket_answer_t       answers[NODES], *a;
    const runcoach_bucket_ask_t   *asks[NODES];
    const runcoach_bucket_rate_t  *plans[NODES];

    for (i = 0, n = 0; i < f->n; i++) {

        if (f->keys[i].call) {
            asks[n] = &f->keys[i].ask;
            plans[n++] = &f->rates[i];
        }
    }

    allowed = runcoach_bucket_answers(answers, plans, asks, n, f->values,
                                      n * RUNCOACH_BUCKET_VALUES, EPOCH);

    if (allowed < 0) {
        differs("the reply is nonsense");
        model_lost(f);
        return;
    }

    for (i = 0, a = answers; i < f->n; i++) {
        m = &models[f->nodes[i]];

        if (!f->keys[i].call) {
            continue;
        }

        if (f->stale[i]) {
            a++;
            continue;
        }

        m->pending -= f->keys[i].ask.cost;
        m->busy = m->busy && !f->keys[i].leads;

        lack = (redis_wide_t) f->rates[i].c - a->free;

        if (f->rates[i].p != m->rate.p) {
            lack = redis_convert(lack, f->rates[i].p, m->rate.p);
        }

        if (f->keys[i].sent >= m->heard
            && (f->keys[i].sent != m->heard || lack >= m->lack))
        {
            m->lack = lack;
            m->heard = f->keys[i].sent;
        }

        m->away = m->away && !f->keys[i].settles;

        if (a->held > 0) {
            deadline = f->keys[i].sent + a->valid_us - RUNCOACH_LEASE_MARGIN;

            /* there are two slots: an epoch makes the one before last end */

            for (k = 0; k < m->nheld; k++) {

                if (m->held[k].epoch % 2 == a->epoch % 2
                    && m->held[k].epoch != a->epoch)
                {
                    m->held[k].deadline = 0;
                }
            }

            for (k = 0; k < m->nheld; k++) {

                if (m->held[k].epoch == a->epoch
                    && m->held[k].deadline > 0)
                {
                    break;
                }
            }

            if (k == m->nheld) {
                memset(&m->held[k], 0, sizeof(held_t));
                m->held[k].epoch = (uint32_t) a->epoch;
                m->held[k].deadline = deadline;
                m->nheld++;
            }

            if (m->held[k].deadline < deadline) {
                m->held[k].deadline = deadline;
            }

            m->held[k].left += a->held;
        }

        a++;
    }

    if (!allowed) {

        for (i = 0; i < f->n; i++) {
            model_give_back(f, i);
        }
    }

    (void) runcoach_lease_end(f->keys, f->n, answers, allowed, &conf, now);

    f->used = 0;
}


static void
model_lost(flight_t *f)
{
    size_t    i;
    model_t  *m;

    for (i = 0; i < f->n; i++) {
        m = &models[f->nodes[i]];

        if (!f->keys[i].call || f->stale[i]) {
            continue;
        }

        m->pending -= f->keys[i].ask.cost;
        m->busy = m->busy && !f->keys[i].leads;
    }

    for (i = 0; i < f->n; i++) {
        model_give_back(f, i);
    }

    runcoach_lease_lost(f->keys, f->n);

    f->used = 0;
}


static void
model_unsent(flight_t *f)
{
    int       k;
    size_t    i;
    model_t  *m;

    for (i = 0; i < f->n; i++) {
        m = &models[f->nodes[i]];

        if (!f->keys[i].call || f->stale[i]) {
            continue;
        }

        m->pending -= f->keys[i].ask.cost;
        m->busy = m->busy && !f->keys[i].leads;

        if (m->asked == f->keys[i].sent) {
            m->asked = 0;
        }

        for (k = 0; k < m->nheld; k++) {

            if (m->held[k].epoch == f->keys[i].ask.epoch) {
                m->held[k].unreported += f->keys[i].ask.spent;
                m->held[k].left += f->keys[i].ask.released;
            }
        }
    }

    for (i = 0; i < f->n; i++) {
        model_give_back(f, i);
    }

    runcoach_lease_unsent(f->keys, f->n);

    f->used = 0;
}


static void
model_release(int node)
{
    int                     k, wanted;
    flight_t               *f;
    runcoach_lease_key_t    key;
    runcoach_bucket_rate_t  rate;

    for (f = flights; f < flights + CALLS && f->used; f++) { /* void */ }

    if (f == flights + CALLS) {
        return;
    }

    memset(&key, 0, sizeof(key));
    memset(f, 0, sizeof(flight_t));

    key.node = &nodes[node];

    (void) model_left(&models[node]);

    wanted = 0;

    for (k = 0; k < models[node].nheld && !models[node].busy; k++) {
        wanted |= models[node].held[k].left + models[node].held[k].unreported
                  > 0;
    }

    if (runcoach_lease_release(&key, &rate, &conf, now, 1) != wanted) {
        differs("a release");
        return;
    }

    if (!wanted) {
        return;
    }

    if (key.ask.epoch < 0) {
        differs("a release of nothing");
    }

    f->used = 1;
    f->n = 1;
    f->nodes[0] = node;
    f->keys[0] = key;
    f->rates[0] = rate;
    f->keys[0].rate = &f->rates[0];

    model_call(&models[node], &key);
}


static void
model_reset(int node)
{
    int                      i;
    size_t                   k;
    int64_t                  values[RUNCOACH_BUCKET_VALUES];
    redis_key_t             *key;
    runcoach_bucket_ask_t    ask;
    const runcoach_bucket_ask_t   *asks;
    const runcoach_bucket_rate_t  *plans;

    memset(&ask, 0, sizeof(ask));

    ask.epoch = RUNCOACH_BUCKET_RESET;
    asks = &ask;
    plans = &rates[node];
    key = &keys[node];

    (void) redis_call(&key, &plans, &asks, 1, WALL + (int64_t) now, EPOCH,
                      values);

    runcoach_lease_reset(&nodes[node], now);

    memset(&models[node], 0, sizeof(model_t));

    /* as long as nobody asks by another rate it is full */

    for (i = 0; i < CALLS; i++) {

        for (k = 0; k < flights[i].n; k++) {

            if (flights[i].nodes[k] == node) {
                flights[i].stale[k] = 1;
            }
        }
    }
}


static void
model_compare(const char *what)
{
    int               i, k, s;
    uint64_t          left, unreported;
    const model_t    *m;
    const held_t     *h;
    runcoach_lease_t *node;

    for (k = 0; k < NODES; k++) {
        node = &nodes[k];
        m = &models[k];

        for (s = 0; s < 2; s++) {
            left = unreported = 0;

            for (i = 0; i < m->nheld; i++) {
                h = &m->held[i];

                if ((int) (h->epoch % 2) == s && h->deadline > now) {
                    left += h->left;
                    unreported += h->unreported;
                }
            }

            if (node->deadline[s] > now
                && (node->left[s] != left
                    || node->unreported[s] != unreported))
            {
                differs(what);
            }

            if (node->deadline[s] <= now && left + unreported > 0) {
                differs("a lease is missing");
            }
        }

        if (m->rate.p == node->rate.p
            && (redis_wide_t) runcoach_lease_lacks(node, now)
               != model_lack(m))
        {
            differs("the bound");
        }

        if (m->pending != (uint64_t) node->pending[0] + node->pending[1]
            || m->away != (int) node->away
            || m->heard != node->heard || m->asked != node->asked)
        {
            differs("what a node knows");
        }
    }
}


/*
 * Edges which spend at the worst moments, up to the last microsecond of a
 * lease; what is admitted goes into an ideal bucket, a call when it is executed.
 */

static void
test_worst(void)
{
    int       i;
    double    worst;
    unsigned  admitted, leased;

    worst = -1e18;
    admitted = leased = 0;

    for (i = 0; i < 1500; i++) {
        worst_round(&worst, &admitted, &leased);
    }

    ok(worst <= 0, "%u admitted by the worst edges, %u from leases: %.6f "
       "tokens too many", admitted, leased, worst);
    ok(leased > admitted / 5, "leases are part of it");
}


static void
worst_round(double *worst, unsigned *admitted, unsigned *leased)
{
    int                            i, e, allowed, times;
    int64_t                        values[RUNCOACH_BUCKET_VALUES];
    uint64_t                       t, last, offset[4];
    redis_key_t                    redis, *key;
    redis_wide_t                   lack;
    runcoach_lease_t               edges[4];
    runcoach_lease_key_t           k;
    runcoach_bucket_rate_t         rate, copy;
    runcoach_lease_verdict_e       verdict;
    runcoach_bucket_answer_t       answer;
    const runcoach_bucket_ask_t   *ask;
    const runcoach_bucket_rate_t  *plan;

    (void) runcoach_bucket_rate(&rate, 1 + number(200), 1 + number(2),
                                8 + number(200));

    memset(edges, 0, sizeof(edges));
    memset(&redis, 0, sizeof(redis));

    for (e = 0; e < 4; e++) {
        offset[e] = number(UINT64_C(1) << 40) + 1;
    }

    key = &redis;
    plan = &rate;
    lack = 0;
    last = t = UINT64_C(1) << 41;

    for (i = 0; i < 400; i++) {
        e = (int) number(4);

        t += number(4) ? number(20000) : number(2) ? number(EPOCH) : 0;

        /* the end of a lease, to the microsecond */

        if (number(4) == 0
            && edges[e].deadline[i % 2] > t + offset[e])
        {
            t = edges[e].deadline[i % 2] - offset[e] - 1;
        }

        for (times = number(3) ? 1 : (int) number(60); times > 0; times--) {
            lack -= redis_min(lack, (redis_wide_t) (t - last) * rate.n);
            last = t;

            fresh_key(&k, &edges[e], number(5) ? 1 : number(4) + 1);
            k.rate = &rate;

            verdict = runcoach_lease_decide(&k, 1, &conf, t + offset[e]);

            if (verdict == RUNCOACH_LEASE_PASS) {
                lack += (redis_wide_t) k.cost * rate.p;
                (*admitted)++;
                (*leased)++;
            }

            if (k.call && number(20) == 0) {
                runcoach_lease_unsent(&k, 1);

            } else if (k.call && number(20) == 0) {
                runcoach_lease_lost(&k, 1);

            } else if (k.call) {

                /* a little later, and the reply later again */

                t += number(3000);
                lack -= redis_min(lack, (redis_wide_t) (t - last) * rate.n);
                last = t;

                ask = &k.ask;

                allowed = redis_call(&key, &plan, &ask, 1,
                                     WALL + (int64_t) t, EPOCH, values);

                if (allowed && k.ask.cost > 0) {
                    lack += (redis_wide_t) k.cost * rate.p;
                    (*admitted)++;
                }

                t += number(3000);

                if (number(20) == 0) {
                    runcoach_lease_lost(&k, 1);

                } else {
                    (void) runcoach_bucket_answers(&answer, &plan, &ask, 1,
                                                   values,
                                                   RUNCOACH_BUCKET_VALUES,
                                                   EPOCH);
                    (void) runcoach_lease_end(&k, 1, &answer, allowed, &conf,
                                              t + offset[e]);
                }
            }

            if ((double) (lack - (redis_wide_t) rate.c) / (double) rate.p
                > *worst)
            {
                *worst = (double) (lack - (redis_wide_t) rate.c)
                         / (double) rate.p;
            }
        }

        if (number(10) == 0) {
            k.node = &edges[e];

            if (runcoach_lease_release(&k, &copy, &conf, t + offset[e],
                                       (int) number(2)))
            {
                ask = &k.ask;
                allowed = redis_call(&key, &plan, &ask, 1,
                                     WALL + (int64_t) t, EPOCH, values);
                (void) runcoach_bucket_answers(&answer, &plan, &ask, 1, values,
                                               RUNCOACH_BUCKET_VALUES, EPOCH);
                (void) runcoach_lease_end(&k, 1, &answer, allowed, &conf,
                                          t + offset[e]);
            }
        }
    }
}


/*
 * What the bound denies Redis would have denied, and allows when it says so;
 * nobody else takes anything here, and nothing is released.
 */

static void
test_exact(void)
{
    int                            i;
    int64_t                        values[RUNCOACH_BUCKET_VALUES];
    unsigned                       denied, unjust, early, late;
    uint64_t                       t, trust;
    redis_key_t                    redis, copy, *k;
    runcoach_lease_t               node;
    runcoach_lease_key_t           key, again;
    runcoach_bucket_ask_t          ask;
    const runcoach_bucket_ask_t   *asks;
    const runcoach_bucket_rate_t  *plans;

    t = 1000000;
    denied = unjust = early = late = 0;

    /* it is asked in between, but not here */

    trust = conf.trust;
    conf.trust = UINT64_MAX;

    memset(&ask, 0, sizeof(ask));
    ask.epoch = RUNCOACH_BUCKET_SILENT;

    asks = &ask;
    plans = &plain;
    k = &copy;

    for (i = 0; i < OPERATIONS; i++) {

        if (i % 1000 == 0) {
            memset(&node, 0, sizeof(node));
            memset(&redis, 0, sizeof(redis));
            random_rate(&plain);
            conf.lease = number(2);
        }

        t += number(3) ? number(2 * plain.p / plain.n) : number(1000);

        fresh_key(&key, &node, 1 + number(number(3) ? 1 : plain.c / plain.p));

        if (converse(&key, &redis, t) != 0
            || key.source != RUNCOACH_LEASE_FROM_BOUND)
        {
            continue;
        }

        denied++;

        ask.cost = ask.need = key.cost;

        copy = redis;
        unjust += redis_call(&k, &plans, &asks, 1, WALL + (int64_t) t, EPOCH,
                             values);

        fresh_key(&again, &node, key.cost);
        again.node = &node;
        early += runcoach_lease_bound(&again, &conf,
                                      t + (uint64_t) key.verdict.retry_us - 1)
                 != RUNCOACH_LEASE_DENIES;

        /* a lease of its own may end as late as two epochs from now */

        if (redis.nheld == 0) {
            copy = redis;
            late += !redis_call(&k, &plans, &asks, 1,
                                WALL + (int64_t) t + key.verdict.retry_us,
                                EPOCH, values);
        }
    }

    conf.lease = 1;
    conf.trust = trust;

    ok(denied > OPERATIONS / 20 && unjust == 0,
       "%u denied by the bound, of which redis had allowed %u", denied,
       unjust);
    ok(early == 0 && late == 0, "it says when: %u early, %u late", early,
       late);
}


static void
fresh_key(runcoach_lease_key_t *key, runcoach_lease_t *node, uint64_t cost)
{
    memset(key, 0, sizeof(runcoach_lease_key_t));

    key->node = node;
    key->rate = &plain;
    key->local = &plain;
    key->cost = cost;
}


/* one request, and its reply at once; the verdict, 2: without a call */

static int
converse(runcoach_lease_key_t *key, redis_key_t *redis, uint64_t t)
{
    int                            allowed;
    int64_t                        values[RUNCOACH_BUCKET_VALUES];
    runcoach_lease_verdict_e       verdict;
    runcoach_bucket_answer_t       answer;
    const runcoach_bucket_ask_t   *ask;
    const runcoach_bucket_rate_t  *plan;

    verdict = runcoach_lease_decide(key, 1, &conf, t);

    if (!key->call) {
        return verdict == RUNCOACH_LEASE_PASS ? 2 : 0;
    }

    ask = &key->ask;
    plan = key->rate;

    (void) redis_call(&redis, &plan, &ask, 1, WALL + (int64_t) t, EPOCH,
                      values);
    allowed = runcoach_bucket_answers(&answer, &plan, &ask, 1, values,
                                      RUNCOACH_BUCKET_VALUES, EPOCH);

    return runcoach_lease_end(key, 1, &answer, allowed, &conf, t)
           == RUNCOACH_LEASE_PASS;
}


static void
test_first(void)
{
    int                   i, n;
    int64_t               retry;
    redis_key_t           redis;
    runcoach_lease_t      node;
    runcoach_lease_key_t  key;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 5, 1, 3);

    ok(sizeof(runcoach_lease_t) <= 176, "a node has %zu bytes",
       sizeof(runcoach_lease_t));

    /* all at once, before any reply: only as many ask as may pass */

    for (i = 0, n = 0; i < 100; i++) {
        fresh_key(&key, &node, 1);
        n += runcoach_lease_decide(&key, 1, &conf, 1000000)
             == RUNCOACH_LEASE_ASK;
    }

    ok(n == 3, "of a hundred first requests %d ask", n);
    ok(!key.call && key.verdict.retry_us == 200000,
       "the others are denied, as if these had been granted");

    memset(&node, 0, sizeof(node));

    for (i = 0, n = 0; i < 100; i++) {
        fresh_key(&key, &node, 1);
        n += converse(&key, &redis, 1000000 + i) == 1;
    }

    ok(n == 3, "one after the other: %d pass", n);
    retry = key.verdict.retry_us;

    ok(key.source == RUNCOACH_LEASE_FROM_BOUND
       && retry == 200000 - 99, "the bound denies, %lld us",
       (long long) retry);

    fresh_key(&key, &node, 1);
    ok(converse(&key, &redis, 1200000 - 1) == 0 && !key.ask.need,
       "a microsecond too early");

    fresh_key(&key, &node, 1);
    ok(converse(&key, &redis, 1000099 + (uint64_t) retry) == 1, "and in time");

    fresh_key(&key, &node, 4);
    ok(converse(&key, &redis, 99000000) == 0 && key.verdict.retry_us == -1,
       "never more than the burst");

    fresh_key(&key, &node, 0);
    ok(converse(&key, &redis, 99000000) == 2 && key.verdict.remaining == 3,
       "a look");
}


static void
test_lease(void)
{
    int                     i, asked;
    uint64_t                t, low;
    redis_key_t             redis;
    runcoach_lease_t        node;
    runcoach_lease_key_t    key;
    runcoach_bucket_rate_t  rate;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 1000, 1, 1000);

    for (i = 0, asked = 0, low = 1000, t = 1000000; i < 5000; i++, t += 2000) {
        fresh_key(&key, &node, 1);
        asked += converse(&key, &redis, t) == 1;
        low = (key.verdict.remaining < low) ? key.verdict.remaining : low;
    }

    ok(low > 700, "what is held counts as remaining: %llu",
       (unsigned long long) low);

    ok(asked < 75, "of 5000 requests in 10 s %d ask or refill", asked);
    ok(runcoach_lease_left(&node) > 0, "a lease is held: %u and %u",
       node.left[0], node.left[1]);

    /* idle: it is given back, once */

    ok(runcoach_lease_release(&key, &rate, &conf, t + 900000, 0) == 0,
       "not idle for long enough");

    key.node = &node;
    i = runcoach_lease_release(&key, &rate, &conf, t + 1100000, 0);
    ok(i == 1 && key.ask.released > 0 && key.ask.cost == 0
       && key.ask.extra == 0 && rate.c == plain.c, "released when idle: %llu",
       (unsigned long long) key.ask.released);
    runcoach_lease_lost(&key, 1);

    key.node = &node;
    ok(runcoach_lease_left(&node) == 0
       && runcoach_lease_release(&key, &rate, &conf, t + 1200000, 0) == 0,
       "and then it is gone, whether that was heard or not");

    /* exact mode: the same without leases */

    conf.lease = 0;
    memset(&node, 0, sizeof(node));

    for (i = 0, asked = 0, t += 5000000; i < 100; i++, t += 2000) {
        fresh_key(&key, &node, 1);
        asked += converse(&key, &redis, t) == 1 && key.ask.extra == 0;
    }

    ok(asked == 100, "in exact mode every request asks");
    conf.lease = 1;
}


static void
test_several(void)
{
    int                            i, allowed;
    int64_t                        values[2 * RUNCOACH_BUCKET_VALUES];
    uint64_t                       t, left, unreported;
    redis_key_t                    redis[2], *k[2];
    runcoach_lease_t               node[2];
    runcoach_lease_key_t           pair[2], key;
    runcoach_bucket_rate_t         small;
    runcoach_bucket_answer_t       answers[2];
    const runcoach_bucket_ask_t   *asks[2];
    const runcoach_bucket_rate_t  *plans[2];

    memset(node, 0, sizeof(node));
    memset(redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 1000, 1, 1000);
    (void) runcoach_bucket_rate(&small, 1, 1, 5);

    for (i = 0, t = 1000000; i < 200; i++, t += 2000) {
        fresh_key(&key, &node[0], 1);
        (void) converse(&key, &redis[0], t);
    }

    left = runcoach_lease_left(&node[0]);
    unreported = node[0].unreported[0] + node[0].unreported[1];

    /* another edge has taken all of the second key meanwhile */

    memset(&key, 0, sizeof(key));
    key.ask.cost = key.ask.need = 5;
    key.ask.epoch = RUNCOACH_BUCKET_SILENT;

    k[0] = &redis[1];
    asks[0] = &key.ask;
    plans[0] = &small;
    (void) redis_call(k, plans, asks, 1, WALL + (int64_t) t, EPOCH, values);

    fresh_key(&pair[0], &node[0], 1);
    fresh_key(&pair[1], &node[1], 1);
    pair[1].rate = &small;

    ok(runcoach_lease_decide(pair, 2, &conf, t) == RUNCOACH_LEASE_ASK
       && !pair[0].call && pair[1].call,
       "only the key without a lease is asked for");
    ok(runcoach_lease_left(&node[0]) == left - 1, "the other has spent one");

    asks[0] = &pair[1].ask;
    (void) redis_call(k, plans, asks, 1, WALL + (int64_t) t, EPOCH, values);
    allowed = runcoach_bucket_answers(answers, plans, asks, 1, values,
                                      RUNCOACH_BUCKET_VALUES, EPOCH);

    ok(allowed == 0
       && runcoach_lease_end(pair, 2, answers, allowed, &conf, t)
          == RUNCOACH_LEASE_DENY, "redis denies");
    ok(pair[0].verdict.allowed && !pair[1].verdict.allowed
       && pair[1].verdict.retry_us == 1000000, "because of one key");
    ok(runcoach_lease_left(&node[0]) == left
       && node[0].unreported[0] + node[0].unreported[1] == unreported,
       "what was spent is back");

    fresh_key(&pair[0], &node[0], 1);
    fresh_key(&pair[1], &node[1], 1);
    pair[1].rate = &small;

    ok(runcoach_lease_decide(pair, 2, &conf, t) == RUNCOACH_LEASE_DENY
       && !pair[0].call && !pair[1].call
       && runcoach_lease_left(&node[0]) == left,
       "and now nobody has to be asked");
}


static void
test_gate(void)
{
    int                   i, asked, passed;
    uint64_t              t;
    redis_key_t           redis;
    runcoach_lease_t      node;
    runcoach_lease_key_t  key;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 100, 1, 100);

    for (i = 0, asked = passed = 0, t = 1000000; i < 100000; i++, t += 100) {
        fresh_key(&key, &node, 1);

        if (i == 20000) {
            asked = passed = 0;
        }

        switch (converse(&key, &redis, t)) {

        case 0:
            asked += key.source == RUNCOACH_LEASE_FROM_REDIS;
            break;

        case 1:
            asked++;

            /* fall through */

        default:
            passed++;
        }
    }

    ok(asked <= 20 * 8 + 2, "a flood asks %d times in 8 s", asked);
    ok(passed >= 790 && passed <= 810, "and passes %d times", passed);

    conf.poll = 0;

    for (i = 0, asked = 0; i < 10000; i++, t += 100) {
        fresh_key(&key, &node, 1);
        asked += converse(&key, &redis, t) == 1;
    }

    ok(asked >= 98 && asked <= 108, "without the gate each token is taken when "
       "it is due: %d", asked);
    conf.poll = 50000;
}


/* a bound is believed for a while: the bucket may be another's matter, too */

static void
test_trust(void)
{
    int                   i, asked;
    uint64_t              t;
    redis_key_t           redis;
    runcoach_lease_t      node;
    runcoach_lease_key_t  key;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 1, 3600, 1);

    t = 1000000;

    fresh_key(&key, &node, 1);
    ok(converse(&key, &redis, t) == 1, "the only token of an hour");

    for (i = 0, asked = 0; i < 100000; i++, t += 100) {
        fresh_key(&key, &node, 1);

        if (converse(&key, &redis, t) != 0) {
            break;
        }

        asked += key.source == RUNCOACH_LEASE_FROM_REDIS;
    }

    ok(i == 100000, "nobody else has one");
    ok(asked >= 8 && asked <= 10, "a flood of 10 s asks %d times", asked);

    /* somebody has reset it elsewhere */

    redis.lack = 0;

    for (i = 0; i < 10001; i++, t += 100) {
        fresh_key(&key, &node, 1);

        if (converse(&key, &redis, t) == 1) {
            break;
        }
    }

    ok(i <= 10000, "a reset elsewhere is found within a second: %d us",
       i * 100);
}


/* a process dies with its calls: others go on */

static void
test_death(void)
{
    int                   i, n;
    uint64_t              t;
    redis_key_t           redis;
    runcoach_lease_t      node;
    runcoach_lease_key_t  key;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 100, 1, 20);

    t = 1000000;

    for (i = 0; i < 20; i++) {
        fresh_key(&key, &node, 1);
        (void) runcoach_lease_decide(&key, 1, &conf, t);
    }

    ok(node.in_flight && node.pending[0] + node.pending[1] == 20,
       "all that there is is on its way");

    fresh_key(&key, &node, 1);
    ok(runcoach_lease_decide(&key, 1, &conf, t) == RUNCOACH_LEASE_DENY,
       "so the next one is denied");

    fresh_key(&key, &node, 1);
    t += 2 * conf.flight;
    ok(converse(&key, &redis, t) == 1 && key.leads,
       "after a while another one leads");

    for (i = 0, n = 0; i < 40; i++, t += 20000) {
        fresh_key(&key, &node, 1);
        n += converse(&key, &redis, t) > 0;
    }

    ok(n == 40, "and all is as it was");
    ok(node.pending[0] + node.pending[1] == 0, "nothing is pending");

    /* dead while calls of others go on all the time */

    t += 3 * conf.flight;
    fresh_key(&key, &node, 10);
    (void) runcoach_lease_decide(&key, 1, &conf, t);

    for (i = 0; i < 250; i++, t += 10000) {
        fresh_key(&key, &node, 1);
        (void) converse(&key, &redis, t);
    }

    ok(node.pending[0] + node.pending[1] == 0,
       "nor when others keep the key busy");
}


static void
test_away(void)
{
    int                     i, n;
    uint64_t                t;
    redis_key_t             redis;
    runcoach_lease_t        node;
    runcoach_lease_key_t    key;
    runcoach_bucket_rate_t  half;

    conf.lease = 0;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 10, 1, 20);
    (void) runcoach_bucket_share(&half, &plain, 500, 10);

    t = 1000000;
    fresh_key(&key, &node, 12);
    ok(converse(&key, &redis, t) == 1, "twelve of twenty are spent");

    for (i = 0, n = 0; i < 20; i++) {
        fresh_key(&key, &node, 1);
        key.local = &half;
        key.mode = RUNCOACH_LEASE_LOCAL;
        n += runcoach_lease_decide(&key, 1, &conf, t) == RUNCOACH_LEASE_PASS;
    }

    ok(n == 4, "redis is away: half of the other eight, %d", n);
    ok(key.source == RUNCOACH_LEASE_FROM_SHARE && key.verdict.retry_us == 200000,
       "and then half of the rate");

    for (i = 0, n = 0; i < 100; i++, t += 100000) {
        fresh_key(&key, &node, 1);
        key.local = &half;
        key.mode = RUNCOACH_LEASE_LOCAL;
        n += runcoach_lease_decide(&key, 1, &conf, t) == RUNCOACH_LEASE_PASS;
    }

    ok(n >= 49 && n <= 50, "%d in ten seconds", n);

    fresh_key(&key, &node, 11);
    key.local = &half;
    key.mode = RUNCOACH_LEASE_LOCAL;
    ok(runcoach_lease_decide(&key, 1, &conf, t) == RUNCOACH_LEASE_DENY
       && key.verdict.retry_us > 0, "more than a share is not denied for ever");

    fresh_key(&key, &node, 20);
    key.mode = RUNCOACH_LEASE_OPEN;
    ok(runcoach_lease_decide(&key, 1, &conf, t) == RUNCOACH_LEASE_PASS,
       "open: anything");

    /* redis is back, and hears what the share lacks */

    fresh_key(&key, &node, 1);
    key.local = &half;
    (void) runcoach_lease_decide(&key, 1, &conf, t);
    ok(key.call && key.ask.cost == 1 && key.ask.need == 10
       && key.ask.hint == 0, "what was admitted is charged: %llu",
       (unsigned long long) key.ask.need);
    runcoach_lease_lost(&key, 1);

    fresh_key(&key, &node, 1);
    key.local = &half;
    ok(converse(&key, &redis, t) == 1 && key.ask.need == 10
       && redis.lack == (redis_wide_t) 10 * (redis_wide_t) plain.p,
       "again, if the call was lost");
    ok(!node.away, "and then no more");

    fresh_key(&key, &node, 1);
    key.mode = RUNCOACH_LEASE_CLOSED;
    ok(runcoach_lease_decide(&key, 1, &conf, t) == RUNCOACH_LEASE_FAIL,
       "closed: nobody can say");

    fresh_key(&key, &node, 20);
    key.mode = RUNCOACH_LEASE_CLOSED;
    ok(runcoach_lease_decide(&key, 1, &conf, t) == RUNCOACH_LEASE_DENY,
       "unless the bound denies");

    /* data is lost: the bound is told, when the others have had their say */

    ok(node.drained, "the others may say what their shares lack");
    node.drained = 0;

    memset(&redis, 0, sizeof(redis));
    fresh_key(&key, &node, 5);
    (void) converse(&key, &redis, t);
    ok(redis.lack == (redis_wide_t) 15 * (redis_wide_t) plain.p,
       "lost data comes back");

    conf.lease = 1;
}


static void
test_plans(void)
{
    int                     i, n;
    redis_key_t             redis;
    runcoach_lease_t        node;
    runcoach_lease_key_t    key;
    runcoach_bucket_rate_t  rate[3];

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&rate[0], 1, 1, 5);
    (void) runcoach_bucket_rate(&rate[1], 10, 1, 20);
    (void) runcoach_bucket_rate(&rate[2], 10000, 86400, 20);

    for (i = 0, n = 0; i < 300; i++) {
        fresh_key(&key, &node, 1);
        key.rate = &rate[i % 3];
        n += converse(&key, &redis, 1000000) > 0;
    }

    ok(n == 20, "no burst is gained by changing plans: %d", n);

    fresh_key(&key, &node, 20);
    key.rate = &rate[1];
    ok(converse(&key, &redis, 3100000) == 1,
       "and nobody loses: full again when it should be");
}


static void
test_reset(void)
{
    int                       i;
    redis_key_t               redis;
    runcoach_lease_t          node, other;
    runcoach_lease_key_t      key, late;
    runcoach_bucket_answer_t  answer;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 1, 1, 3);

    for (i = 0; i < 3; i++) {
        fresh_key(&key, &node, 1);
        (void) converse(&key, &redis, 1000000);
    }

    fresh_key(&late, &node, 1);
    (void) runcoach_lease_decide(&late, 1, &conf, 2000000);

    runcoach_lease_reset(&node, 2000001);
    memset(&redis, 0, sizeof(redis));

    fresh_key(&key, &node, 3);
    ok(converse(&key, &redis, 2000002) == 1, "all is there again");

    runcoach_lease_lost(&late, 1);
    ok(node.pending[0] + node.pending[1] == 0 && node.heard == 2000002,
       "what was on its way is ignored");

    /* a node vanishes while a call is on its way, and there may be a new one */

    for (i = 0; i < 2; i++) {
        (void) runcoach_bucket_rate(&plain, 1000, 1, 1000);

        memset(&other, 0, sizeof(other));
        memset(&answer, 0, sizeof(answer));

        fresh_key(&key, &other, 10);
        (void) runcoach_lease_decide(&key, 1, &conf, 3000000);

        memset(&other, 0, sizeof(other));
        key.node = i ? &other : NULL;

        answer.allowed = 1;
        answer.granted = 10;
        answer.held = 2;
        answer.epoch = 8;
        answer.valid_us = EPOCH;

        ok(runcoach_lease_end(&key, 1, &answer, 1, &conf, 3001000)
           == RUNCOACH_LEASE_PASS && runcoach_lease_left(&other)
                                     == (uint64_t) (i ? 2 : 0),
           "a node that %s", i ? "was made anew" : "is gone");
    }
}


static void
test_worth(void)
{
    redis_key_t              redis;
    runcoach_lease_t         node;
    runcoach_lease_key_t     key;
    runcoach_bucket_rate_t   half;
    runcoach_lease_status_t  status;

    conf.lease = 0;

    memset(&node, 0, sizeof(node));
    memset(&redis, 0, sizeof(redis));

    (void) runcoach_bucket_rate(&plain, 10, 1, 20);
    (void) runcoach_bucket_share(&half, &plain, 500, 10);

    runcoach_lease_look(&node, NULL, 1, &status);
    ok(status.remaining == 0 && runcoach_lease_worth(&node, 1) == 0,
       "nothing is known of a new node");

    fresh_key(&key, &node, 10);
    (void) runcoach_lease_decide(&key, 1, &conf, 1000000);
    ok(runcoach_lease_worth(&node, 1000000) == 3, "a call is on its way");
    runcoach_lease_unsent(&key, 1);

    (void) converse(&key, &redis, 1000000);
    ok(runcoach_lease_worth(&node, 1500000) == 1, "a bound");
    ok(runcoach_lease_worth(&node, 2000000) == 0, "which was the last");

    runcoach_lease_look(&node, NULL, 1500000, &status);
    ok(status.remaining == 15 && status.reset_us == 500000
       && status.demand == 10 && !status.in_flight, "a look at it");

    key.local = &half;
    key.mode = RUNCOACH_LEASE_LOCAL;
    key.cost = 5;
    (void) runcoach_lease_decide(&key, 1, &conf, 3000000);
    ok(runcoach_lease_worth(&node, 3900000) == 1
       && runcoach_lease_worth(&node, 4100000) == 0,
       "a share takes longer than the bound");

    node.deadline[1] = 6000000;
    node.left[1] = 1;
    ok(runcoach_lease_worth(&node, 5000000) == 2, "a lease");

    conf.lease = 1;
}


int
main(void)
{
    test_first();
    test_lease();
    test_several();
    test_gate();
    test_trust();
    test_death();
    test_away();
    test_plans();
    test_reset();
    test_worth();
    test_exact();
    test_worst();
    test_model();

    return done();
}
