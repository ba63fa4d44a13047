
#include "runcoach_lease.h"

#include <stdatomic.h>
#include <string.h>


#define RUNCOACH_LEASE_DEMAND  256               /* parts of a token */
#define RUNCOACH_LEASE_SECOND  UINT64_C(1000000)

/* milliseconds: who is further away than that is ahead by less than a minute */

#define RUNCOACH_LEASE_AHEAD   (UINT32_MAX - 60000)

#define RUNCOACH_LEASE_BURST   8                 /* no leases below */
#define RUNCOACH_LEASE_SMALL   64                /* such a part of a burst */
#define RUNCOACH_LEASE_TOKENS  UINT64_C(1000000000)
#define RUNCOACH_LEASE_REPLY   10000             /* us, of the first call */

#define RUNCOACH_LEASE_BOOST   256               /* a usual lease */
#define RUNCOACH_LEASE_MOST    (4 * RUNCOACH_LEASE_BOOST)
#define RUNCOACH_LEASE_LEAST   (RUNCOACH_LEASE_BOOST / 4)


/* how one key looks at a request, before anything is spent */

typedef enum {
    RUNCOACH_LEASE_LOOKS = 0,
    RUNCOACH_LEASE_SPENDS,
    RUNCOACH_LEASE_SHARES,
    RUNCOACH_LEASE_ADMITS,
    RUNCOACH_LEASE_CALLS,
    RUNCOACH_LEASE_DENIES,
    RUNCOACH_LEASE_FAILS
} runcoach_lease_view_e;


static runcoach_lease_view_e runcoach_lease_view(runcoach_lease_key_t *key,
    const runcoach_lease_conf_t *conf, uint64_t now);
static runcoach_lease_view_e runcoach_lease_bound(runcoach_lease_key_t *key,
    const runcoach_lease_conf_t *conf, uint64_t now);
static int64_t runcoach_lease_wait(const runcoach_lease_t *node,
    uint64_t tokens, uint64_t now);
static int runcoach_lease_doubts(const runcoach_lease_key_t *key,
    const runcoach_lease_conf_t *conf, uint64_t now);
static int64_t runcoach_lease_gate(const runcoach_lease_t *node,
    uint64_t tokens, const runcoach_lease_conf_t *conf, uint64_t now);
static uint64_t runcoach_lease_trip(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf);
static runcoach_lease_view_e runcoach_lease_share(runcoach_lease_key_t *key,
    uint64_t now);
static void runcoach_lease_take(runcoach_lease_key_t *key,
    runcoach_lease_view_e view, const runcoach_lease_conf_t *conf,
    uint64_t now);
static void runcoach_lease_spend(runcoach_lease_key_t *key);
static int runcoach_lease_low(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf, uint64_t now);
static void runcoach_lease_verdict(runcoach_lease_key_t *key, uint64_t now);

static void runcoach_lease_begin(runcoach_lease_key_t *key, uint64_t cost,
    const runcoach_lease_conf_t *conf, uint64_t now);
static void runcoach_lease_report(runcoach_lease_key_t *key, int release,
    uint64_t now);
static uint64_t runcoach_lease_debt(const runcoach_lease_key_t *key,
    uint64_t now);
static uint64_t runcoach_lease_owed(const runcoach_lease_key_t *key);
static uint64_t runcoach_lease_part(const runcoach_lease_t *node,
    const runcoach_bucket_rate_t *local, uint64_t now);
static uint64_t runcoach_lease_want(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf);
static void runcoach_lease_answer(runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer);
static void runcoach_lease_arrived(runcoach_lease_key_t *key);
static void runcoach_lease_learn(runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer, const runcoach_lease_conf_t *conf);
static int runcoach_lease_scarce(const runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer, const runcoach_lease_conf_t *conf);
static void runcoach_lease_receive(runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer, const runcoach_lease_conf_t *conf,
    uint64_t now);

static void runcoach_lease_adopt(runcoach_lease_t *node,
    const runcoach_bucket_rate_t *rate);
static void runcoach_lease_count(runcoach_lease_key_t *key, uint64_t now);
static uint32_t runcoach_lease_more(uint32_t average, uint64_t cost);
static void runcoach_lease_expire(runcoach_lease_t *node, uint64_t now);
static uint64_t runcoach_lease_lacks(const runcoach_lease_t *node,
    uint64_t now);
static uint64_t runcoach_lease_free(const runcoach_lease_t *node,
    uint64_t now);
static uint64_t runcoach_lease_refill(const runcoach_lease_t *node,
    uint64_t units);
static void runcoach_lease_bind(runcoach_lease_t *node, uint64_t deficit,
    uint64_t sent);
static uint64_t runcoach_lease_left(const runcoach_lease_t *node);
static uint64_t runcoach_lease_pending(runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf, uint64_t now);
static uint64_t runcoach_lease_pause(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf);
static int runcoach_lease_leases(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf);
static uint64_t runcoach_lease_quantum(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf);
static int runcoach_lease_in_flight(const runcoach_lease_t *node,
    uint64_t now);
static int runcoach_lease_first(const runcoach_lease_t *node);
static uint32_t runcoach_lease_ms(uint64_t us);
static uint64_t runcoach_lease_since(uint64_t now, uint64_t then);
static uint64_t runcoach_lease_min(uint64_t a, uint64_t b);


runcoach_lease_verdict_e
runcoach_lease_decide(runcoach_lease_key_t *keys, size_t n,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    int                    asks, fails, denies;
    size_t                 i;
    runcoach_lease_view_e  views[RUNCOACH_LEASE_KEYS];

    asks = fails = denies = 0;

    for (i = 0; i < n; i++) {

        /* a clock of 32 bits says nothing of a time that never was */

        if (keys[i].node->rate.p == 0) {
            keys[i].node->seen = runcoach_lease_ms(now);
        }

        runcoach_lease_adopt(keys[i].node, keys[i].rate);
        runcoach_lease_count(&keys[i], now);
        runcoach_lease_expire(keys[i].node, now);

        keys[i].call = 0;
        keys[i].leads = 0;
        keys[i].settles = 0;
        keys[i].resets = keys[i].node->resets;
        keys[i].spent[0] = 0;
        keys[i].spent[1] = 0;

        views[i] = runcoach_lease_view(&keys[i], conf, now);

        asks += (views[i] == RUNCOACH_LEASE_CALLS);
        fails += (views[i] == RUNCOACH_LEASE_FAILS);
        denies += (views[i] == RUNCOACH_LEASE_DENIES);
    }

    for (i = 0; i < n; i++) {

        if (views[i] == RUNCOACH_LEASE_DENIES) {
            continue;
        }

        if (denies == 0 && fails == 0) {
            runcoach_lease_take(&keys[i], views[i], conf, now);
        }

        runcoach_lease_verdict(&keys[i], now);
    }

    if (denies > 0) {
        return RUNCOACH_LEASE_DENY;
    }

    if (fails > 0) {
        return RUNCOACH_LEASE_FAIL;
    }

    if (asks > 0) {
        return RUNCOACH_LEASE_ASK;
    }

    /* a call may follow, but the request does not depend on it */

    for (i = 0; i < n; i++) {
        keys[i].spent[0] = 0;
        keys[i].spent[1] = 0;
    }

    return RUNCOACH_LEASE_PASS;
}


static runcoach_lease_view_e
runcoach_lease_view(runcoach_lease_key_t *key,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    if (key->cost == 0 && key->mode != RUNCOACH_LEASE_LOCAL) {
        key->source = RUNCOACH_LEASE_FROM_BOUND;

        /* what was never heard of is worth a call */

        return (key->mode == RUNCOACH_LEASE_REDIS && key->node->heard == 0)
               ? RUNCOACH_LEASE_CALLS : RUNCOACH_LEASE_LOOKS;
    }

    if (key->cost > 0
        && key->cost <= runcoach_lease_min(runcoach_lease_left(key->node),
                                           UINT32_MAX))
    {
        key->source = RUNCOACH_LEASE_FROM_LEASE;
        return RUNCOACH_LEASE_SPENDS;
    }

    switch (key->mode) {

    case RUNCOACH_LEASE_LOCAL:
        return runcoach_lease_share(key, now);

    case RUNCOACH_LEASE_OPEN:
        key->source = RUNCOACH_LEASE_FROM_NOBODY;
        return RUNCOACH_LEASE_ADMITS;

    default:
        return runcoach_lease_bound(key, conf, now);
    }
}


static runcoach_lease_view_e
runcoach_lease_bound(runcoach_lease_key_t *key,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    int64_t                     wait;
    uint64_t                    need, burst;
    runcoach_lease_t           *node;
    runcoach_bucket_verdict_t  *v;

    node = key->node;
    v = &key->verdict;

    burst = node->rate.c / node->rate.p;

    key->source = RUNCOACH_LEASE_FROM_BOUND;

    v->allowed = 0;
    v->remaining = runcoach_lease_free(node, now) / node->rate.p;
    v->reset_us = runcoach_lease_refill(node, runcoach_lease_lacks(node, now));
    v->retry_us = -1;

    if (key->cost > burst) {
        return RUNCOACH_LEASE_DENIES;
    }

    /* what is on its way is taken, as far as there is something to take */

    need = runcoach_lease_min(runcoach_lease_pending(node, conf, now), burst);
    need += key->cost;

    wait = runcoach_lease_wait(node, need, now);

    if (wait > 0 && !runcoach_lease_doubts(key, conf, now)) {
        node->boost = RUNCOACH_LEASE_BOOST;
        node->denied = runcoach_lease_more(node->denied, key->cost);

        v->retry_us = wait + (int64_t) runcoach_lease_trip(node, conf);

        return RUNCOACH_LEASE_DENIES;
    }

    if (key->mode == RUNCOACH_LEASE_CLOSED) {
        key->source = RUNCOACH_LEASE_FROM_NOBODY;
        return RUNCOACH_LEASE_FAILS;
    }

    wait = (wait > 0) ? 0 : runcoach_lease_gate(node, need, conf, now);

    if (wait > 0) {
        key->source = RUNCOACH_LEASE_FROM_GATE;
        node->denied = runcoach_lease_more(node->denied, key->cost);

        v->retry_us = wait;

        return RUNCOACH_LEASE_DENIES;
    }

    key->source = RUNCOACH_LEASE_FROM_REDIS;

    return RUNCOACH_LEASE_CALLS;
}


/* microseconds until the bound has so many tokens, at least 1; 0: it has */

static int64_t
runcoach_lease_wait(const runcoach_lease_t *node, uint64_t tokens, uint64_t now)
{
    if (tokens <= runcoach_lease_free(node, now) / node->rate.p) {
        return 0;
    }

    return (int64_t) runcoach_lease_refill(node,
                                           runcoach_lease_lacks(node, now)
                                           + tokens * node->rate.p
                                           - node->rate.c);
}


static int
runcoach_lease_doubts(const runcoach_lease_key_t *key,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    return key->mode == RUNCOACH_LEASE_REDIS
           && runcoach_lease_since(now, key->node->heard) > conf->trust
           && runcoach_lease_since(now, key->node->asked) > conf->trust;
}


/* microseconds for which a key that is nearly empty is not asked for */

static int64_t
runcoach_lease_gate(const runcoach_lease_t *node, uint64_t tokens,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    uint64_t  pause, since, units, due;

    if (!node->drained) {
        return 0;
    }

    pause = runcoach_lease_pause(node, conf);
    since = runcoach_lease_since(now, node->asked);

    if (since < pause) {
        return (int64_t) (pause - since);
    }

    /* when there were so many, and a trip more */

    units = node->deficit + tokens * node->rate.p;

    due = node->heard + runcoach_lease_trip(node, conf);
    due += runcoach_lease_refill(node, runcoach_lease_since(units,
                                                            node->rate.c));

    return (int64_t) runcoach_lease_since(due, now);
}


/* of a flood there is another request by then; others are not kept waiting */

static uint64_t
runcoach_lease_trip(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf)
{
    if (!node->drained
        || (uint64_t) node->denied * node->reply
           < RUNCOACH_LEASE_DEMAND * RUNCOACH_LEASE_SECOND)
    {
        return 0;
    }

    return runcoach_lease_min(node->reply, conf->poll);
}


static runcoach_lease_view_e
runcoach_lease_share(runcoach_lease_key_t *key, uint64_t now)
{
    runcoach_lease_t              *node;
    runcoach_bucket_t              share;
    const runcoach_bucket_rate_t  *rate;

    node = key->node;
    rate = key->local;

    key->source = RUNCOACH_LEASE_FROM_SHARE;

    if (!node->away) {
        node->share.deficit = runcoach_lease_part(node, rate, now);
        node->share.ts = now;
        node->share.p = rate->p;
        node->away = 1;
    }

    share = node->share;

    if (runcoach_bucket_advance(&share, rate, now) != 0) {
        node->share.ts = now;
    }

    runcoach_bucket_check(&share, rate, key->cost, &key->verdict);

    if (key->verdict.allowed) {
        return RUNCOACH_LEASE_SHARES;
    }

    /* more than the share can ever be, but not more than the burst */

    if (key->verdict.retry_us < 0
        && key->cost <= node->rate.c / node->rate.p)
    {
        key->verdict.retry_us = (int64_t) (key->cost * rate->p / rate->n) + 1;
    }

    return RUNCOACH_LEASE_DENIES;
}


static void
runcoach_lease_take(runcoach_lease_key_t *key, runcoach_lease_view_e view,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    uint64_t           ms;
    runcoach_lease_t  *node;

    node = key->node;

    switch (view) {

    case RUNCOACH_LEASE_SPENDS:
        runcoach_lease_spend(key);

        if (key->mode == RUNCOACH_LEASE_REDIS
            && runcoach_lease_low(node, conf, now))
        {
            runcoach_lease_begin(key, 0, conf, now);
        }

        break;

    case RUNCOACH_LEASE_SHARES:
        (void) runcoach_bucket_advance(&node->share, key->local, now);

        runcoach_bucket_spend(&node->share, key->local, key->cost);
        runcoach_bucket_check(&node->share, key->local, 0, &key->verdict);

        ms = runcoach_lease_min(key->verdict.reset_us / 1000 + 1,
                                INT32_MAX / 2);
        node->full = runcoach_lease_ms(now) + (uint32_t) ms;
        break;

    case RUNCOACH_LEASE_CALLS:
        runcoach_lease_begin(key, key->cost, conf, now);
        break;

    default:
        break;
    }
}


static void
runcoach_lease_spend(runcoach_lease_key_t *key)
{
    int                i, s;
    uint32_t           k, cost;
    runcoach_lease_t  *node;

    node = key->node;
    cost = (uint32_t) key->cost;

    s = runcoach_lease_first(node);

    for (i = 0; i < 2; i++, s ^= 1) {
        k = (uint32_t) runcoach_lease_min(cost, node->left[s]);

        /* in this order: who dies in between has lost, not doubled, tokens */

        node->left[s] -= k;
        node->unreported[s] += k;

        key->epoch[s] = node->epoch[s];
        key->spent[s] = k;
        cost -= k;
    }
}


static int
runcoach_lease_low(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    uint64_t  low, left;

    if (node->drained || !conf->lease || runcoach_lease_in_flight(node, now)) {
        return 0;
    }

    left = runcoach_lease_left(node);

    if (left > node->size / 2) {
        return 0;
    }

    /* what will be spent until the reply is here, and what may come at once */

    low = (uint64_t) node->demand * node->reply
          / (RUNCOACH_LEASE_DEMAND * RUNCOACH_LEASE_SECOND * 2 / 3) + 3;

    /* of one token nobody gets half */

    return left <= low
           && runcoach_lease_free(node, now) / node->rate.p >= 2;
}


static void
runcoach_lease_verdict(runcoach_lease_key_t *key, uint64_t now)
{
    uint64_t                    lacks, left, burst;
    runcoach_lease_t           *node;
    runcoach_bucket_verdict_t  *v;

    if (key->source == RUNCOACH_LEASE_FROM_SHARE) {
        return;
    }

    node = key->node;
    v = &key->verdict;

    burst = node->rate.c / node->rate.p;
    lacks = runcoach_lease_lacks(node, now);
    left = runcoach_lease_left(node);

    v->allowed = 1;
    v->retry_us = 0;
    v->remaining = runcoach_lease_free(node, now) / node->rate.p + left;
    v->remaining = runcoach_lease_min(v->remaining, burst);

    lacks -= runcoach_lease_min(lacks, left * node->rate.p);

    v->reset_us = runcoach_lease_refill(node, lacks);
}


static void
runcoach_lease_begin(runcoach_lease_key_t *key, uint64_t cost,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    uint64_t                tokens;
    runcoach_lease_t       *node;
    runcoach_bucket_ask_t  *ask;

    node = key->node;
    ask = &key->ask;

    key->sent = now;
    key->call = 1;

    ask->cost = cost;
    ask->need = cost;
    ask->extra = 0;
    ask->epoch = RUNCOACH_BUCKET_SILENT;
    ask->spent = 0;
    ask->released = 0;
    ask->hint = runcoach_lease_min(runcoach_lease_lacks(node, now),
                                   node->rate.c);

    (void) runcoach_lease_pending(node, conf, now);

    tokens = runcoach_lease_min(cost, UINT32_MAX - node->pending[node->slice
                                                                 % 2]);
    node->pending[node->slice % 2] += (uint32_t) tokens;
    node->asked = now;

    key->slice = node->slice;

    if (runcoach_lease_in_flight(node, now)) {
        return;
    }

    /* one call at a time brings and fetches what is not for its request */

    key->leads = 1;

    node->flight = runcoach_lease_ms(now + conf->flight);
    node->in_flight = 1;

    if (cost > 0 && node->size > 0
        && runcoach_lease_ms(now) - node->leased < conf->hold / 1000)
    {
        node->boost = (uint16_t) runcoach_lease_min(node->boost * 5 / 4,
                                                    RUNCOACH_LEASE_MOST);
    }

    node->size = 0;

    ask->extra = runcoach_lease_want(node, conf);

    runcoach_lease_report(key, 0, now);

    ask->need += runcoach_lease_debt(key, now);
    key->settles = node->away && key->local != NULL;
}


/*
 * Reports what was spent, of the older epoch first.  It is forgotten before it
 * is sent: of a report that is lost Redis takes the tokens for spent as well.
 */

static void
runcoach_lease_report(runcoach_lease_key_t *key, int release, uint64_t now)
{
    int                     i, s;
    runcoach_lease_t       *node;
    runcoach_bucket_ask_t  *ask;

    node = key->node;
    ask = &key->ask;

    s = runcoach_lease_first(node);

    for (i = 0; i < 2; i++, s ^= 1) {

        if (node->deadline[s] <= now
            || (node->unreported[s] == 0
                && (!release || node->left[s] == 0)))
        {
            continue;
        }

        ask->epoch = node->epoch[s];
        ask->spent = node->unreported[s];
        node->unreported[s] = 0;

        if (release) {
            ask->released = node->left[s];
            node->left[s] = 0;
        }

        return;
    }
}


/*
 * Tokens which the share lacks, and Redis does not know of.  It is charged with
 * the first reply, which ends the share.
 */

static uint64_t
runcoach_lease_debt(const runcoach_lease_key_t *key, uint64_t now)
{
    uint64_t           part;
    runcoach_bucket_t  share;

    if (!key->node->away || key->local == NULL) {
        return 0;
    }

    share = key->node->share;
    part = runcoach_lease_part(key->node, key->local, now);

    (void) runcoach_bucket_advance(&share, key->local, now);

    return (share.deficit > part) ? (share.deficit - part) / key->local->p : 0;
}


/* units which the others lack if each has had as much as this one */

static uint64_t
runcoach_lease_owed(const runcoach_lease_key_t *key)
{
    uint64_t           debt, burst;
    unsigned __int128  all;

    debt = key->ask.need - key->ask.cost;

    if (debt == 0) {
        return 0;
    }

    burst = key->rate->c / key->rate->p;

    all = (unsigned __int128) debt * burst / (key->local->c / key->local->p);
    all = (all < burst) ? all : burst;

    return runcoach_lease_since((uint64_t) all, debt) * key->rate->p;
}


/* of what is lacking, as of what comes in, each edge has its part */

static uint64_t
runcoach_lease_part(const runcoach_lease_t *node,
    const runcoach_bucket_rate_t *local, uint64_t now)
{
    uint64_t           lacks;
    unsigned __int128  part;

    lacks = runcoach_lease_min(runcoach_lease_lacks(node, now), node->rate.c);
    part = (unsigned __int128) local->c * lacks / node->rate.c;

    return (uint64_t) part;
}


static uint64_t
runcoach_lease_want(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf)
{
    uint64_t                       burst, demand, want, small, room;
    const runcoach_bucket_rate_t  *rate;

    rate = &node->rate;
    burst = rate->c / rate->p;

    if (node->away || !runcoach_lease_leases(node, conf)) {
        return 0;
    }

    if (node->drained) {
        return runcoach_lease_quantum(node, conf);
    }

    /* what is held takes no part in a burst, so there is an end to it */

    room = burst / 2;
    room -= runcoach_lease_min(room, node->others);
    room = runcoach_lease_min(room, burst / 4);
    room = runcoach_lease_min(room, RUNCOACH_LEASE_TOKENS);

    demand = rate->n * RUNCOACH_LEASE_SECOND / rate->p + 1;
    demand = runcoach_lease_min(demand * RUNCOACH_LEASE_DEMAND, node->demand);

    want = demand * conf->hold / RUNCOACH_LEASE_SECOND
           * node->boost / RUNCOACH_LEASE_BOOST / RUNCOACH_LEASE_DEMAND;

    /* a small part of the burst is missed by nobody, and saves calls */

    small = demand * conf->small / RUNCOACH_LEASE_SECOND
            / RUNCOACH_LEASE_DEMAND;
    small = runcoach_lease_min(small, burst / RUNCOACH_LEASE_SMALL);

    want = (want > small) ? want : small;

    return runcoach_lease_min((want > 0) ? want : 1, room);
}


runcoach_lease_verdict_e
runcoach_lease_end(runcoach_lease_key_t *keys, size_t n,
    const runcoach_bucket_answer_t *answers, int allowed,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    size_t                 i;
    runcoach_lease_key_t  *key;

    for (i = 0; i < n; i++) {
        key = &keys[i];

        if (!key->call) {
            continue;
        }

        runcoach_lease_arrived(key);

        if (key->node != NULL && key->resets == key->node->resets) {

            /* the key may have a new node meanwhile */

            if (key->node->rate.n == 0) {
                runcoach_lease_adopt(key->node, key->rate);
            }

            runcoach_lease_learn(key, answers, conf);
            runcoach_lease_receive(key, answers, conf, now);
        }

        /* a request which was decided by a lease keeps its verdict */

        if (key->ask.cost > 0 || key->cost == 0) {
            runcoach_lease_answer(key, answers);
        }

        answers++;
    }

    if (!allowed) {
        runcoach_lease_give_back(keys, n);
    }

    return allowed ? RUNCOACH_LEASE_PASS : RUNCOACH_LEASE_DENY;
}


/* what is held here is of the client, too */

static void
runcoach_lease_answer(runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer)
{
    uint64_t                    tokens;
    runcoach_bucket_verdict_t  *v;

    tokens = (answer->free > 0) ? (uint64_t) answer->free / key->rate->p : 0;

    if (key->node != NULL) {
        tokens += runcoach_lease_left(key->node);
    }

    v = &key->verdict;

    v->allowed = answer->allowed;
    v->remaining = runcoach_lease_min(tokens, key->rate->c / key->rate->p);
    v->retry_us = answer->retry_us;
    v->reset_us = answer->reset_us;

    key->source = RUNCOACH_LEASE_FROM_REDIS;
}


static void
runcoach_lease_arrived(runcoach_lease_key_t *key)
{
    uint32_t          *pending;
    runcoach_lease_t  *node;

    node = key->node;

    key->call = 0;

    if (node == NULL || key->resets != node->resets) {
        return;
    }

    if (node->slice - key->slice < 2) {
        pending = &node->pending[key->slice % 2];
        *pending -= (uint32_t) runcoach_lease_min(*pending, key->ask.cost);
    }

    if (key->leads) {
        node->in_flight = 0;
    }
}


static void
runcoach_lease_learn(runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer, const runcoach_lease_conf_t *conf)
{
    uint64_t           lacks, spent, held, own;
    runcoach_lease_t  *node;

    node = key->node;

    /* what was sent later knows better */

    if (key->sent < node->heard) {
        return;
    }

    lacks = (uint64_t) ((int64_t) key->rate->c - answer->free);
    spent = answer->reset_us * key->rate->n;
    held = (lacks > spent) ? (lacks - spent) / key->rate->p : 0;

    if (key->rate->p != node->rate.p) {
        lacks = runcoach_bucket_convert(lacks, key->rate->p, node->rate.p);
    }

    /* at the same time each knows of a bucket that lacked at least that */

    if (key->sent == node->heard && lacks < node->deficit) {
        return;
    }

    runcoach_lease_bind(node, lacks, key->sent);

    own = answer->held + runcoach_lease_left(node) + node->unreported[0]
          + node->unreported[1];

    held -= runcoach_lease_min(held, own);
    node->others = (uint32_t) runcoach_lease_min(held, UINT32_MAX);

    node->drained = runcoach_lease_scarce(key, answer, conf);
}


/* the gate is for who wanted more than there was, unless there is nothing */

static int
runcoach_lease_scarce(const runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer, const runcoach_lease_conf_t *conf)
{
    uint64_t  free, quantum;

    free = (answer->free > 0) ? (uint64_t) answer->free / key->rate->p : 0;
    quantum = runcoach_lease_quantum(key->node, conf);

    return free < quantum
           || (free < 2 * quantum - 1
               && (key->node->drained || answer->held < key->ask.extra));
}


static void
runcoach_lease_receive(runcoach_lease_key_t *key,
    const runcoach_bucket_answer_t *answer, const runcoach_lease_conf_t *conf,
    uint64_t now)
{
    int                s;
    uint64_t           deadline, reply;
    runcoach_lease_t  *node;

    node = key->node;

    /* other edges are only about to say what their shares lack */

    if (node->away && key->settles) {
        node->away = 0;

        if (answer->free < (int64_t) (key->rate->c / 2
                                      + runcoach_lease_owed(key)))
        {
            node->drained = 1;
        }
    }

    reply = runcoach_lease_since(now, key->sent);
    reply = runcoach_lease_min(reply, conf->flight);

    node->reply -= node->reply / 8;

    if (node->reply < reply) {
        node->reply = (uint32_t) reply;
    }

    if (!answer->allowed) {
        node->boost = RUNCOACH_LEASE_BOOST;
        node->denied = runcoach_lease_more(node->denied, key->ask.cost);
    }

    if (answer->held == 0 || answer->epoch > UINT32_MAX
        || answer->valid_us <= RUNCOACH_LEASE_MARGIN)
    {
        return;
    }

    /* it was sent before Redis looked at its clock */

    deadline = runcoach_lease_min(answer->valid_us, 2 * conf->epoch);
    deadline += key->sent - RUNCOACH_LEASE_MARGIN;

    s = answer->epoch % 2;

    if (node->epoch[s] != (uint32_t) answer->epoch) {
        node->left[s] = 0;
        node->unreported[s] = 0;

        atomic_signal_fence(memory_order_seq_cst);

        node->epoch[s] = (uint32_t) answer->epoch;
        node->deadline[s] = deadline;

        atomic_signal_fence(memory_order_seq_cst);

    } else if (node->deadline[s] < deadline) {
        node->deadline[s] = deadline;
    }

    node->left[s] += (uint32_t) runcoach_lease_min(answer->held,
                                            UINT32_MAX - node->left[s]);
    node->leased = runcoach_lease_ms(now);
    node->size = (uint32_t) runcoach_lease_left(node);
}


void
runcoach_lease_lost(runcoach_lease_key_t *keys, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {

        if (keys[i].call) {
            runcoach_lease_arrived(&keys[i]);
        }
    }

    runcoach_lease_give_back(keys, n);
}


void
runcoach_lease_unsent(runcoach_lease_key_t *keys, size_t n)
{
    int                     s;
    size_t                  i;
    runcoach_lease_t       *node;
    runcoach_bucket_ask_t  *ask;

    for (i = 0; i < n; i++) {
        node = keys[i].node;
        ask = &keys[i].ask;

        if (!keys[i].call) {
            continue;
        }

        runcoach_lease_arrived(&keys[i]);

        if (node == NULL || keys[i].resets != node->resets) {
            continue;
        }

        s = ask->epoch % 2;

        if (ask->epoch >= 0 && node->epoch[s] == (uint32_t) ask->epoch) {
            node->unreported[s] += (uint32_t) ask->spent;
            node->left[s] += (uint32_t) ask->released;
        }

        /* the gate is for calls which were made */

        if (node->asked == keys[i].sent) {
            node->asked = 0;
        }
    }

    runcoach_lease_give_back(keys, n);
}


void
runcoach_lease_give_back(runcoach_lease_key_t *keys, size_t n)
{
    int                s;
    size_t             i;
    uint32_t           k;
    runcoach_lease_t  *node;

    for (i = 0; i < n; i++) {
        node = keys[i].node;

        for (s = 0; s < 2; s++) {
            k = keys[i].spent[s];
            keys[i].spent[s] = 0;

            if (k == 0 || node == NULL || keys[i].resets != node->resets
                || keys[i].epoch[s] != node->epoch[s])
            {
                continue;
            }

            /* what was reported meanwhile is spent */

            k = (uint32_t) runcoach_lease_min(k, node->unreported[s]);

            node->unreported[s] -= k;
            node->left[s] += k;
        }
    }
}


int
runcoach_lease_release(runcoach_lease_key_t *key, runcoach_bucket_rate_t *rate,
    const runcoach_lease_conf_t *conf, uint64_t now, int force)
{
    uint32_t           quiet;
    runcoach_lease_t  *node;

    node = key->node;

    *rate = node->rate;

    memset(key, 0, sizeof(runcoach_lease_key_t));

    key->node = node;
    key->rate = rate;
    key->resets = node->resets;

    runcoach_lease_expire(node, now);

    if (runcoach_lease_left(node) + node->unreported[0] + node->unreported[1]
        == 0
        || runcoach_lease_in_flight(node, now))
    {
        return 0;
    }

    quiet = runcoach_lease_ms(now) - node->seen;

    if (!force
        && (quiet > RUNCOACH_LEASE_AHEAD || quiet < conf->idle / 1000))
    {
        return 0;
    }

    /* what comes next is not what was */

    node->boost = RUNCOACH_LEASE_BOOST;
    node->demand = 0;

    runcoach_lease_begin(key, 0, conf, now);

    /* begin() has reported what was spent of one epoch */

    if (key->ask.epoch < 0) {
        runcoach_lease_report(key, 1, now);
        return 1;
    }

    key->ask.released = node->left[key->ask.epoch % 2];
    node->left[key->ask.epoch % 2] = 0;

    return 1;
}


int
runcoach_lease_worth(const runcoach_lease_t *node, uint64_t now)
{
    int  s;

    if (runcoach_lease_in_flight(node, now)) {
        return 3;
    }

    for (s = 0; s < 2; s++) {

        if (node->deadline[s] > now
            && node->left[s] + node->unreported[s] > 0)
        {
            return 2;
        }
    }

    if (node->away
        && (int32_t) (node->full - runcoach_lease_ms(now)) > 0)
    {
        return 1;
    }

    return runcoach_lease_lacks(node, now) > 0;
}


void
runcoach_lease_reset(runcoach_lease_t *node, uint64_t now)
{
    uint8_t  resets;

    resets = node->resets + 1;

    memset(node, 0, sizeof(runcoach_lease_t));

    node->resets = resets;
    node->seen = runcoach_lease_ms(now);
}


void
runcoach_lease_look(const runcoach_lease_t *node,
    const runcoach_bucket_rate_t *local, uint64_t now,
    runcoach_lease_status_t *status)
{
    int                        s;
    uint64_t                   lacks;
    runcoach_bucket_t          share;
    runcoach_bucket_verdict_t  verdict;

    memset(status, 0, sizeof(runcoach_lease_status_t));

    if (node->rate.n == 0) {
        return;
    }

    for (s = 0; s < 2; s++) {

        if (node->deadline[s] > now) {
            status->leased += node->left[s];
            status->unreported += node->unreported[s];
        }
    }

    lacks = runcoach_lease_lacks(node, now);

    status->remaining = runcoach_lease_free(node, now) / node->rate.p
                        + status->leased;
    status->reset_us = runcoach_lease_refill(node, lacks);

    if (node->away && local != NULL) {
        share = node->share;

        (void) runcoach_bucket_advance(&share, local, now);
        runcoach_bucket_check(&share, local, 0, &verdict);

        status->remaining = verdict.remaining + status->leased;
        status->reset_us = verdict.reset_us;
    }

    if (runcoach_lease_ms(now) - node->seen < 1000) {
        status->demand = node->demand / RUNCOACH_LEASE_DEMAND;
    }

    status->in_flight = runcoach_lease_in_flight(node, now);
    status->drained = node->drained;
    status->away = node->away;
}


static void
runcoach_lease_adopt(runcoach_lease_t *node, const runcoach_bucket_rate_t *rate)
{
    uint64_t  deficit;

    if (node->rate.p == rate->p) {

        if (node->rate.n != rate->n || node->rate.c != rate->c) {
            node->rate = *rate;
        }

        return;
    }

    if (node->rate.p == 0) {
        node->boost = RUNCOACH_LEASE_BOOST;
        node->reply = RUNCOACH_LEASE_REPLY;
    }

    deficit = runcoach_bucket_convert(node->deficit, node->rate.p, rate->p);

    /* units of one rate must never be found with another */

    node->deficit = 0;

    atomic_signal_fence(memory_order_seq_cst);

    node->rate = *rate;

    atomic_signal_fence(memory_order_seq_cst);

    node->deficit = deficit;
}


/* averages over about a second, in integers */

static void
runcoach_lease_count(runcoach_lease_key_t *key, uint64_t now)
{
    uint32_t           ms, quiet;
    runcoach_lease_t  *node;

    if (key->counted) {
        return;
    }

    key->counted = 1;

    node = key->node;

    ms = runcoach_lease_ms(now);
    quiet = ms - node->seen;

    /* another process may be a little ahead */

    if (quiet > 0 && quiet <= RUNCOACH_LEASE_AHEAD) {
        quiet = (quiet < 1000) ? quiet : 1000;

        node->seen = ms;
        node->demand -= (uint32_t) ((uint64_t) node->demand * quiet / 1000);
        node->denied -= (uint32_t) ((uint64_t) node->denied * quiet / 1000);
    }

    node->demand = runcoach_lease_more(node->demand, key->cost);
}


static uint32_t
runcoach_lease_more(uint32_t average, uint64_t cost)
{
    uint64_t  more;

    more = average + runcoach_lease_min(cost, UINT32_MAX)
                     * RUNCOACH_LEASE_DEMAND;

    return (uint32_t) runcoach_lease_min(more, UINT32_MAX);
}


static void
runcoach_lease_expire(runcoach_lease_t *node, uint64_t now)
{
    int  s;

    for (s = 0; s < 2; s++) {

        if (node->left[s] + node->unreported[s] == 0
            || node->deadline[s] > now)
        {
            continue;
        }

        if (node->left[s] > node->size / 2) {
            node->boost = (uint16_t) (node->boost / 2);

            if (node->boost < RUNCOACH_LEASE_LEAST) {
                node->boost = RUNCOACH_LEASE_LEAST;
            }
        }

        node->left[s] = 0;
        node->unreported[s] = 0;
    }
}


static uint64_t
runcoach_lease_lacks(const runcoach_lease_t *node, uint64_t now)
{
    uint64_t  elapsed;

    if (node->deficit == 0 || node->rate.n == 0) {
        return 0;
    }

    elapsed = runcoach_lease_since(now, node->heard);

    /* the product is not made unless it fits */

    if (elapsed > node->deficit / node->rate.n) {
        return 0;
    }

    return node->deficit - elapsed * node->rate.n;
}


static uint64_t
runcoach_lease_free(const runcoach_lease_t *node, uint64_t now)
{
    uint64_t  lacks;

    lacks = runcoach_lease_lacks(node, now);

    return (lacks < node->rate.c) ? node->rate.c - lacks : 0;
}


/* microseconds for so many units to come back */

static uint64_t
runcoach_lease_refill(const runcoach_lease_t *node, uint64_t units)
{
    return units / node->rate.n + (units % node->rate.n != 0);
}


static void
runcoach_lease_bind(runcoach_lease_t *node, uint64_t deficit, uint64_t sent)
{
    node->deficit = 0;

    atomic_signal_fence(memory_order_seq_cst);

    node->heard = sent;

    atomic_signal_fence(memory_order_seq_cst);

    node->deficit = deficit;
}


static uint64_t
runcoach_lease_left(const runcoach_lease_t *node)
{
    return (uint64_t) node->left[0] + node->left[1];
}


/*
 * Two slices of time, the older of which is forgotten with what it counted: a
 * process that died never takes its tokens off.
 */

static uint64_t
runcoach_lease_pending(runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf, uint64_t now)
{
    uint32_t  slice, ahead;

    slice = (uint32_t) (now / conf->flight);
    ahead = slice - node->slice;

    if (ahead != 0 && ahead <= INT32_MAX) {
        node->pending[slice % 2] = 0;

        if (ahead > 1) {
            node->pending[(slice + 1) % 2] = 0;
        }

        node->slice = slice;
    }

    return (uint64_t) node->pending[0] + node->pending[1];
}


/*
 * For how long the gate is closed, which is a matter of leases: otherwise each
 * call brings one token.  What was spent from a lease comes back only after its
 * report, with the next call: the bucket must not have filled up before, so the
 * leases of two pauses, and what is left beside them, have to fit.
 */

static uint64_t
runcoach_lease_pause(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf)
{
    if (!runcoach_lease_leases(node, conf)) {
        return 0;
    }

    return runcoach_lease_min(conf->poll, node->rate.c / node->rate.n / 4);
}


/*
 * Leases are for keys in constant use.  They make a bucket seem smaller, which
 * one that lasts for less than two of them cannot bear, unless most is denied
 * in any case.
 */

static int
runcoach_lease_leases(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf)
{
    const runcoach_bucket_rate_t  *rate;

    rate = &node->rate;

    if (!conf->lease || rate->c / rate->p < RUNCOACH_LEASE_BURST
        || node->demand * conf->epoch
           < 4 * RUNCOACH_LEASE_DEMAND * RUNCOACH_LEASE_SECOND)
    {
        return 0;
    }

    return rate->c / rate->n >= 2 * conf->hold
           || node->denied > node->demand / 2;
}


/* tokens that gather while the gate is closed */

static uint64_t
runcoach_lease_quantum(const runcoach_lease_t *node,
    const runcoach_lease_conf_t *conf)
{
    uint64_t  units;

    units = node->rate.n * runcoach_lease_pause(node, conf);

    return units / node->rate.p + (units % node->rate.p != 0 || units == 0);
}


static int
runcoach_lease_in_flight(const runcoach_lease_t *node, uint64_t now)
{
    return node->in_flight
           && (int32_t) (node->flight - runcoach_lease_ms(now)) > 0;
}


static int
runcoach_lease_first(const runcoach_lease_t *node)
{
    return node->deadline[1] < node->deadline[0];
}


static uint32_t
runcoach_lease_ms(uint64_t us)
{
    return (uint32_t) (us / 1000);
}


static uint64_t
runcoach_lease_since(uint64_t now, uint64_t then)
{
    return (now > then) ? now - then : 0;
}


static uint64_t
runcoach_lease_min(uint64_t a, uint64_t b)
{
    return (a < b) ? a : b;
}
