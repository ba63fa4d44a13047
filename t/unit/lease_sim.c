
/*
 * Edges with leases before one bucket, in virtual time: what they admit against
 * an ideal bucket which sees every request at once, and what that costs.  With
 * the argument "operations" it prints calls of the model instead, for script.t.
 */


#include <stdlib.h>

#include "runcoach_lease.h"
#include "redis_model.h"
#include "tap.h"


#define EDGES     16
#define CALLS     65536
#define EVENTS    (CALLS + 256)
#define EPOCH     2000000
#define TIMEOUT   50000
#define SWEEP     250000

#define START     INT64_C(1000000000000)
#define WALL      INT64_C(1700000000000000)


typedef enum {
    STEADY = 0,
    BURSTS,
    IDLE_THEN_FLOOD
} traffic_e;


typedef enum {
    ARRIVE = 0,
    EXECUTE,
    REPLY,
    LOSE,
    TICK,
    WIPE
} event_e;


typedef struct {
    const char             *name;
    uint64_t                rate;
    uint64_t                burst;
    int                     edges;
    double                  load;        /* of the rate */
    int                     seconds;
    double                  bound;       /* calls a second of each edge */
    traffic_e               traffic;
    double                  first;       /* part of the first edge */
    int64_t                 trip;        /* us, both ways */
    double                  loss;
    int64_t                 wipe;        /* us, when */
    int64_t                 away;        /* us, when, for ten seconds */
    int64_t                 step;        /* us, of the clock at half time */
    double                  excess;      /* tokens, more than the rule */
    double                  least;       /* of the ideal, 0.97 if 0 */
    int                     exact;       /* no leases */
} scenario_t;


typedef struct {
    int64_t                 at;
    uint64_t                order;
    event_e                 what;
    int                     which;
} event_t;


typedef struct {
    int                     edge;
    int                     waiting;
    int                     next;
    int64_t                 began;
    int64_t                 values[RUNCOACH_BUCKET_VALUES];
    runcoach_lease_key_t    key;
    runcoach_bucket_rate_t  rate;
} call_t;


/* a bucket which knows everything at once; it measures as well as it limits */

typedef struct {
    double                  lack;
    int64_t                 at;
    double                  worst;
    uint64_t                admitted;
} ideal_t;


static double uniform(void);
static double exponential(double mean);
static int64_t trip(void);
static void schedule(int64_t at, event_e what, int which);
static event_t next_event(void);
static void setup(const scenario_t *s);
static void simulate(const scenario_t *s);
static void arrive(int edge);
static int64_t next_arrival(int edge);
static void start(const runcoach_lease_key_t *key, int waiting);
static void execute(int id);
static void answer(int id);
static void lose(int id);
static void tick(int edge);
static void admit(ideal_t *ideal, int limit);
static int away(void);
static uint64_t local_time(int edge);
static int ascending(const void *a, const void *b);
static void judge(const scenario_t *s);
static void operations(void);


static const scenario_t      *scenario;
static runcoach_lease_conf_t  conf;
static runcoach_bucket_rate_t rate;
static runcoach_bucket_rate_t share;
static runcoach_lease_t       nodes[EDGES];
static redis_key_t            redis;
static call_t                 calls[CALLS];
static int                    unused;
static event_t                heap[EVENTS];
static int                    nevents;
static int64_t                now;
static int64_t                finish;
static uint64_t               order;
static uint64_t               arrived;
static uint64_t               commands;
static uint64_t               nonsense;
static uint64_t               instant;
static ideal_t                ideal;
static ideal_t                real;
static int32_t                replies[1000000];
static unsigned               nreplies;
static uint64_t               seed = 88172645463325252;


static double
uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (double) (seed >> 11) / 9007199254740992.0;
}


static double
exponential(double mean)
{
    return -mean * log(1 - uniform());
}


/* one way: mostly half of the trip, sometimes twice that */

static int64_t
trip(void)
{
    int     i;
    double  sum;

    for (sum = -6, i = 0; i < 12; i++) {
        sum += uniform();
    }

    return (int64_t) ((double) scenario->trip / 2 * exp(0.3 * sum)) + 1;
}


static void
schedule(int64_t at, event_e what, int which)
{
    int      i, up;
    event_t  e;

    if (nevents == EVENTS) {
        fprintf(stderr, "too many events\n");
        exit(1);
    }

    e.at = at;
    e.order = order++;
    e.what = what;
    e.which = which;

    for (i = nevents++; i > 0; i = up) {
        up = (i - 1) / 2;

        if (heap[up].at < at
            || (heap[up].at == at && heap[up].order < e.order))
        {
            break;
        }

        heap[i] = heap[up];
    }

    heap[i] = e;
}


static event_t
next_event(void)
{
    int      i, down;
    event_t  first, e;

    first = heap[0];
    e = heap[--nevents];

    for (i = 0; /* void */ ; i = down) {
        down = 2 * i + 1;

        if (down >= nevents) {
            break;
        }

        if (down + 1 < nevents
            && (heap[down + 1].at < heap[down].at
                || (heap[down + 1].at == heap[down].at
                    && heap[down + 1].order < heap[down].order)))
        {
            down++;
        }

        if (e.at < heap[down].at
            || (e.at == heap[down].at && e.order < heap[down].order))
        {
            break;
        }

        heap[i] = heap[down];
    }

    heap[i] = e;

    return first;
}


static void
setup(const scenario_t *s)
{
    int                    i;
    runcoach_lease_conf_t  defaults = RUNCOACH_LEASE_CONF;

    scenario = s;
    conf = defaults;
    conf.lease = !s->exact;
    conf.flight = 2 * TIMEOUT;

    if (s->trip > TIMEOUT) {
        conf.flight = 4 * (uint64_t) s->trip;
    }

    (void) runcoach_bucket_rate(&rate, s->rate, 1, s->burst);

    i = (int) s->burst / s->edges;
    (void) runcoach_bucket_share(&share, &rate, 1000 / (uint64_t) s->edges,
                                 i > 0 ? (uint64_t) i : 1);

    memset(nodes, 0, sizeof(nodes));
    memset(&redis, 0, sizeof(redis));
    memset(&ideal, 0, sizeof(ideal));
    memset(&real, 0, sizeof(real));

    now = START;
    finish = START + s->seconds * INT64_C(1000000);
    nevents = 0;
    arrived = commands = instant = 0;
    nreplies = 0;

    for (i = 0; i < CALLS; i++) {
        calls[i].next = i + 1;
    }

    unused = 0;
}


static void
simulate(const scenario_t *s)
{
    int      i;
    event_t  e;

    setup(s);

    for (i = 0; i < s->edges; i++) {
        schedule(next_arrival(i), ARRIVE, i);
        schedule(now + SWEEP * (i + 1) / s->edges, TICK, i);
    }

    if (s->wipe) {
        schedule(START + s->wipe, WIPE, 0);
    }

    for ( ;; ) {
        e = next_event();

        if (e.at >= finish) {
            break;
        }

        now = e.at;

        switch (e.what) {

        case ARRIVE:
            arrive(e.which);
            schedule(next_arrival(e.which), ARRIVE, e.which);
            break;

        case EXECUTE:
            execute(e.which);
            break;

        case REPLY:
            answer(e.which);
            break;

        case LOSE:
            lose(e.which);
            break;

        case TICK:
            tick(e.which);
            schedule(now + SWEEP, TICK, e.which);
            break;

        case WIPE:
            memset(&redis, 0, sizeof(redis));
        }
    }

    judge(s);
}


static void
arrive(int edge)
{
    runcoach_lease_key_t      key;
    runcoach_lease_verdict_e  verdict;

    arrived++;
    admit(&ideal, 1);

    memset(&key, 0, sizeof(key));

    key.node = &nodes[edge];
    key.rate = &rate;
    key.local = &share;
    key.cost = 1;
    key.mode = away() ? RUNCOACH_LEASE_LOCAL : RUNCOACH_LEASE_REDIS;

    verdict = runcoach_lease_decide(&key, 1, &conf, local_time(edge));

    if (verdict == RUNCOACH_LEASE_PASS) {
        instant++;
        admit(&real, 0);
    }

    nonsense += verdict == RUNCOACH_LEASE_DENY && key.verdict.retry_us < 1;

    if (key.call) {
        start(&key, verdict == RUNCOACH_LEASE_ASK);
    }
}


static int64_t
next_arrival(int edge)
{
    double   mean, share, since;
    int64_t  t;

    share = 1.0 / scenario->edges;

    if (scenario->first > 0) {
        share = (edge == 0) ? scenario->first
                            : (1 - scenario->first) / (scenario->edges - 1);
    }

    mean = 1e6 / ((double) scenario->rate * scenario->load * share);

    if (scenario->traffic == BURSTS) {
        t = now + (int64_t) exponential(mean / 5) + 1;

        /* one second of five */

        since = (double) ((t - START) % 5000000);

        return (since < 1e6) ? t
                             : t - (int64_t) since + 5000000
                               + (int64_t) (uniform() * 1000);
    }

    if (scenario->traffic == IDLE_THEN_FLOOD) {

        if (now >= START + 45000000) {
            return now + (int64_t) exponential(mean / 10) + 1;
        }

        t = now + (int64_t) exponential(mean) + 1;

        return (t < START + 5000000)
               ? t : START + 45000000 + (int64_t) (uniform() * 1000);
    }

    return now + (int64_t) exponential(mean) + 1;
}


static void
start(const runcoach_lease_key_t *key, int waiting)
{
    int      id;
    call_t  *call;

    id = unused;

    if (id == CALLS) {
        fprintf(stderr, "too many calls\n");
        exit(1);
    }

    call = &calls[id];
    unused = call->next;

    call->edge = (int) (key->node - nodes);
    call->waiting = waiting;
    call->began = now;
    call->key = *key;
    call->rate = *key->rate;
    call->key.rate = &call->rate;

    commands++;

    if (away() || uniform() < scenario->loss) {
        schedule(now + TIMEOUT, LOSE, id);
        return;
    }

    schedule(now + trip(), EXECUTE, id);
}


static void
execute(int id)
{
    call_t                       *call;
    int64_t                       clock;
    redis_key_t                  *key;
    const runcoach_bucket_ask_t  *ask;
    const runcoach_bucket_rate_t *rates;

    call = &calls[id];
    key = &redis;
    ask = &call->key.ask;
    rates = call->key.rate;

    clock = now - START + WALL;

    if (now - START > (finish - START) / 2) {
        clock += scenario->step;
    }

    (void) redis_call(&key, &rates, &ask, 1, clock, EPOCH, call->values);

    if (uniform() < scenario->loss) {
        schedule(call->began + TIMEOUT, LOSE, id);
        return;
    }

    schedule(now + trip(), REPLY, id);
}


static void
answer(int id)
{
    int                           allowed;
    call_t                       *call;
    runcoach_lease_verdict_e      verdict;
    runcoach_bucket_answer_t      reply;
    const runcoach_bucket_ask_t  *ask;
    const runcoach_bucket_rate_t *rates;

    call = &calls[id];
    ask = &call->key.ask;
    rates = call->key.rate;

    allowed = runcoach_bucket_answers(&reply, &rates, &ask, 1, call->values,
                                      RUNCOACH_BUCKET_VALUES, EPOCH);

    if (allowed < 0) {
        nonsense++;
        lose(id);
        return;
    }

    if (nreplies < sizeof(replies) / sizeof(replies[0])) {
        replies[nreplies++] = (int32_t) (now - call->began);
    }

    verdict = runcoach_lease_end(&call->key, 1, &reply, allowed, &conf,
                                 local_time(call->edge));

    if (call->waiting && verdict == RUNCOACH_LEASE_PASS) {
        admit(&real, 0);
    }

    call->next = unused;
    unused = id;
}


static void
lose(int id)
{
    call_t  *call;

    call = &calls[id];

    runcoach_lease_lost(&call->key, 1);

    /* a request that asked is answered 503 here, or may come again */

    if (call->waiting) {
        call->key.mode = scenario->away ? RUNCOACH_LEASE_LOCAL
                                        : RUNCOACH_LEASE_CLOSED;

        if (runcoach_lease_decide(&call->key, 1, &conf,
                                  local_time(call->edge))
            == RUNCOACH_LEASE_PASS)
        {
            admit(&real, 0);
        }
    }

    call->next = unused;
    unused = id;
}


static void
tick(int edge)
{
    runcoach_lease_key_t    key;
    runcoach_bucket_rate_t  copy;

    memset(&key, 0, sizeof(key));

    key.node = &nodes[edge];

    while (runcoach_lease_release(&key, &copy, &conf, local_time(edge), 0)) {
        start(&key, 0);
    }
}


static void
admit(ideal_t *b, int limit)
{
    b->lack -= (double) scenario->rate * (double) (now - b->at) / 1e6;
    b->at = now;

    if (b->lack < 0) {
        b->lack = 0;
    }

    if (limit && b->lack + 1 > (double) scenario->burst) {
        return;
    }

    b->lack++;
    b->admitted++;

    if (b->lack > b->worst) {
        b->worst = b->lack;
    }
}


static int
away(void)
{
    return scenario->away && now >= START + scenario->away
           && now < START + scenario->away + 10000000;
}


/* each machine has a clock of its own, which its event loop reads at times */

static uint64_t
local_time(int edge)
{
    return (uint64_t) ((now + edge * INT64_C(123456789)) / 1000 * 1000);
}


static int
ascending(const void *a, const void *b)
{
    return *(const int32_t *) a - *(const int32_t *) b;
}


static void
judge(const scenario_t *s)
{
    double  part, excess, bound, rule, p99, seconds, least;

    seconds = (double) s->seconds;
    part = (double) real.admitted / (double) ideal.admitted;
    excess = real.worst - (double) s->burst;

    qsort(replies, nreplies, sizeof(replies[0]), ascending);
    p99 = nreplies ? replies[nreplies * 99 / 100] : 0;

    rule = (double) s->rate * p99 / 1e6;
    rule = (rule < 1) ? 1 : rule;
    rule += s->excess;

    bound = (double) commands / seconds / s->edges;
    least = s->least > 0 ? s->least : 0.97;

    printf("# %-34s %7llu of %8llu  part %.3f  excess %+7.1f  "
           "calls/s/edge %6.1f  at once %3.0f%%\n", s->name,
           (unsigned long long) real.admitted, (unsigned long long) arrived,
           part, excess, bound,
           100 * (double) instant / (double) real.admitted);

    ok(part >= least, "%s: %.3f of the ideal", s->name, part);
    ok(excess <= rule, "%s: excess %.1f, at most %.1f", s->name, excess, rule);
    ok(bound <= s->bound, "%s: %.1f calls a second of each edge, at most %.1f",
       s->name, bound, s->bound);
}


/* the values that make something happen, at times that do */

static void
operations(void)
{
    int                           i, k;
    int64_t                       clock, values[RUNCOACH_BUCKET_VALUES];
    int64_t                       args[RUNCOACH_BUCKET_ARGS], epoch, held;
    redis_key_t                  *key;
    runcoach_bucket_ask_t         ask;
    runcoach_bucket_rate_t        plan;
    const runcoach_bucket_ask_t  *asks;
    const runcoach_bucket_rate_t *plans;

    static const uint64_t  units[] = { 1, 60, 3600, 86400, 7 };

    clock = WALL;
    key = &redis;
    epoch = -1;
    held = 0;
    asks = &ask;
    plans = &plan;

    for (i = 0; i < 20000; i++) {

        if (i % 100 == 0) {
            memset(&redis, 0, sizeof(redis));
        }

        /* keys of the fake clock do not expire */

        redis.expires = 0;

        if (i % 100 == 0 || uniform() < 0.03) {

            while (runcoach_bucket_rate(&plan, 1 + (uint64_t) (uniform() * 100),
                                        units[(int) (uniform() * 5)],
                                        1 + (uint64_t) (uniform() * 50))
                   != 0)
            {
                /* void */
            }
        }

        clock += (int64_t) (pow(2, uniform() * 23) - 1);
        clock += uniform() < 0.1 ? (int64_t) (uniform() * 4 * EPOCH) : 0;
        clock -= uniform() < 0.02 ? (int64_t) (uniform() * 1500000) : 0;
        clock -= uniform() < 0.01 ? (int64_t) (uniform() * 6 * EPOCH) : 0;

        memset(&ask, 0, sizeof(ask));

        ask.cost = (uint64_t) (uniform() * 4);
        ask.need = ask.cost + (uint64_t) (uniform() * 2);
        ask.extra = (uint64_t) (uniform() * 10);
        ask.epoch = uniform() < 0.5 ? epoch : RUNCOACH_BUCKET_SILENT;
        ask.epoch = uniform() < 0.01 ? RUNCOACH_BUCKET_RESET : ask.epoch;
        ask.spent = (uint64_t) (uniform() * (double) (held + 1));
        ask.released = (uint64_t) (uniform() * (double) (held + 2));
        ask.hint = uniform() < 0.3 ? (uint64_t) (uniform() * 2
                                                 * (double) plan.c) : 0;

        (void) redis_call(&key, &plans, &asks, 1, clock, EPOCH, values);

        if (values[2] > 0) {
            epoch = values[3];
            held = values[2];
        }

        runcoach_bucket_args(args, &plan, &ask);

        printf("call unit:%d %lld %d", i / 100, (long long) clock, EPOCH);

        for (k = 0; k < RUNCOACH_BUCKET_ARGS; k++) {
            printf(" %lld", (long long) args[k]);
        }

        printf(" =");

        for (k = 0; k < RUNCOACH_BUCKET_VALUES; k++) {
            printf(" %lld", (long long) values[k]);
        }

        printf("\n");
    }
}


int
main(int argc, char **argv)
{
    size_t  i;

    static const scenario_t  scenarios[] = {
        { .name = "steady 0.8, 1000/s", .rate = 1000, .burst = 1000,
          .edges = 4, .load = 0.8, .seconds = 30, .bound = 6 },
        { .name = "steady 1.0, 1000/s", .rate = 1000, .burst = 1000,
          .edges = 8, .load = 1.0, .seconds = 20, .bound = 6 },
        { .name = "1.2, 1000/s", .rate = 1000, .burst = 1000,
          .edges = 8, .load = 1.2, .seconds = 20, .bound = 20 },
        { .name = "flood 10, 100/s", .rate = 100, .burst = 100,
          .edges = 4, .load = 10, .seconds = 60, .bound = 20 },
        { .name = "flood 10, 5/s", .rate = 5, .burst = 10,
          .edges = 4, .load = 10, .seconds = 60, .bound = 6 },
        { .name = "one client 1000 req/s, 5/s", .rate = 5, .burst = 10,
          .edges = 4, .load = 200, .seconds = 30, .bound = 6 },
        { .name = "one client 5000 req/s, 5/s", .rate = 5, .burst = 20,
          .edges = 2, .load = 1000, .seconds = 20, .bound = 6,
          .trip = 400 },
        { .name = "one client, exact mode", .rate = 5, .burst = 10,
          .edges = 4, .load = 200, .seconds = 30, .bound = 6, .exact = 1 },
        { .name = "0.8, 97/1/1/1", .rate = 100, .burst = 100, .edges = 4,
          .load = 0.8, .first = 0.97, .seconds = 60, .bound = 4 },
        { .name = "flood 10, 97/1/1/1", .rate = 100, .burst = 100,
          .edges = 4, .load = 10, .first = 0.97, .seconds = 60, .bound = 20 },
        { .name = "bursts, mean 0.9", .rate = 100, .burst = 200, .edges = 4,
          .load = 0.9, .traffic = BURSTS, .seconds = 60, .bound = 8 },
        { .name = "idle, then flood", .rate = 100, .burst = 400, .edges = 8,
          .load = 0.8, .traffic = IDLE_THEN_FLOOD, .seconds = 60,
          .bound = 8 },
        { .name = "data lost, flood 10", .rate = 100, .burst = 100,
          .edges = 4, .load = 10, .wipe = 30000000, .seconds = 60,
          .excess = 5, .bound = 20 },
        { .name = "2% of calls and replies lost", .rate = 1000,
          .burst = 1000, .edges = 4, .load = 0.8, .loss = 0.02,
          .seconds = 30, .bound = 8 },
        { .name = "2% lost, flood 10", .rate = 100, .burst = 100,
          .edges = 4, .load = 10, .loss = 0.02, .seconds = 60, .bound = 20, .least = 0.95 },
        { .name = "redis away for 10 s, 0.8", .rate = 1000, .burst = 1000,
          .edges = 4, .load = 0.8, .away = 10000000, .seconds = 30,
          .bound = 6 },
        { .name = "redis away for 10 s, flood 10", .rate = 100,
          .burst = 100, .edges = 4, .load = 10, .away = 20000000,
          .seconds = 60, .excess = 5, .bound = 20 },
        { .name = "16 edges, flood 10", .rate = 100, .burst = 100,
          .edges = 16, .load = 10, .seconds = 60, .bound = 20 },
        { .name = "16 edges, 0.8", .rate = 1000, .burst = 1000, .edges = 16,
          .load = 0.8, .seconds = 20, .bound = 6 },
        { .name = "80 ms away, 2.0", .rate = 100, .burst = 100, .edges = 4,
          .load = 2, .trip = 80000, .seconds = 60, .bound = 20 },
        { .name = "burst of 2, flood 10", .rate = 100, .burst = 2,
          .edges = 4, .load = 10, .seconds = 30, .bound = 110 },
        { .name = "burst of 7, one edge", .rate = 1000, .burst = 7,
          .edges = 1, .load = 3, .seconds = 10, .bound = 1250, .trip = 500 },
        { .name = "burst of 8, one edge", .rate = 1000, .burst = 8,
          .edges = 1, .load = 3, .seconds = 10, .bound = 1150, .trip = 500 },
        { .name = "burst of 20, one edge", .rate = 1000, .burst = 20,
          .edges = 1, .load = 3, .seconds = 10, .bound = 250, .trip = 500 },
        { .name = "burst of 100, one edge", .rate = 1000, .burst = 100,
          .edges = 1, .load = 3, .seconds = 10, .bound = 80, .trip = 500 },
        { .name = "1.05, one edge", .rate = 1000, .burst = 1000,
          .edges = 1, .load = 1.05, .seconds = 60, .bound = 20 },
        { .name = "1.2, one edge", .rate = 1000, .burst = 1000,
          .edges = 1, .load = 1.2, .seconds = 60, .bound = 21 },
        { .name = "flood 5, one edge", .rate = 1000, .burst = 1000,
          .edges = 1, .load = 5, .seconds = 30, .bound = 30 },
        { .name = "1.0, burst of 100, one edge", .rate = 1000, .burst = 100,
          .edges = 1, .load = 1.0, .seconds = 30, .bound = 1010 },
        { .name = "0.9, burst of 100, one edge", .rate = 1000, .burst = 100,
          .edges = 1, .load = 0.9, .seconds = 30, .bound = 920 },
        { .name = "0.9, burst of 20, two edges", .rate = 100, .burst = 20,
          .edges = 2, .load = 0.9, .seconds = 60, .bound = 50 },
        { .name = "flood 10, burst of 20", .rate = 50, .burst = 20,
          .edges = 2, .load = 10, .seconds = 60, .bound = 20 },
        { .name = "exact mode, one edge", .rate = 1000, .burst = 100,
          .edges = 1, .load = 3, .seconds = 10, .bound = 1250, .trip = 500,
          .exact = 1 },
        { .name = "exact mode, flood 10", .rate = 100, .burst = 100,
          .edges = 4, .load = 10, .seconds = 30, .bound = 110, .exact = 1 },
        { .name = "burst of 1, 1/s", .rate = 1, .burst = 1, .edges = 8,
          .load = 20, .seconds = 60, .bound = 2 },
        { .name = "clock +2 s, flood 10", .rate = 100, .burst = 500,
          .edges = 4, .load = 10, .step = 2000000, .seconds = 60,
          .excess = 200, .bound = 20 },
        { .name = "clock -0.5 s, flood 10", .rate = 100, .burst = 100,
          .edges = 4, .load = 10, .step = -500000, .seconds = 60,
          .bound = 20 },
        { .name = "clock -1 h, flood 10", .rate = 100, .burst = 100,
          .edges = 4, .load = 10, .step = INT64_C(-3600000000),
          .seconds = 60, .bound = 20 },
    };

    if (argc > 1 && strcmp(argv[1], "operations") == 0) {
        operations();
        return 0;
    }

    for (i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        scenario_t  s = scenarios[i];

        s.trip = s.trip ? s.trip : 5000;
        simulate(&s);
    }

    ok(nonsense == 0, "no reply was nonsense, no denial without a time");

    return done();
}
