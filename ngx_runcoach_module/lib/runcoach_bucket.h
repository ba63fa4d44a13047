
/*
 * Token buckets in exact integers.
 *
 * A bucket is kept as what it lacks: a deficit of 0 is a full bucket, and a
 * bucket that nobody remembers is full.  The deficit is counted in units so
 * small that nothing is ever rounded: with a rate of R requests in S seconds
 *
 *     p = S * 1000000   units are one token
 *     n = R             units come back in a microsecond
 *     c = burst * p     units are a full bucket
 *
 * which is exact for any R, S and burst, as long as c < 2^53: the same numbers
 * are doubles in the script that Redis runs.  A deficit remembers its p, so
 * that it keeps its meaning when the time unit of the rate changes; a change
 * of R or burst leaves it alone, and nobody gains a burst by changing plans.
 *
 * Nothing here reads a clock: the caller passes microseconds, of any epoch.
 */


#ifndef _RUNCOACH_BUCKET_H_INCLUDED_
#define _RUNCOACH_BUCKET_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define RUNCOACH_BUCKET_MAX_UNITS     (UINT64_C(1) << 53)
#define RUNCOACH_BUCKET_MAX_REQUESTS  UINT64_C(1000000000)
#define RUNCOACH_BUCKET_MAX_SECONDS   UINT64_C(31536000)

/* a clock that steps back further than this is believed, in microseconds */

#define RUNCOACH_BUCKET_STEP          UINT64_C(1000000)


typedef struct {
    uint64_t                      n;
    uint64_t                      p;
    uint64_t                      c;
} runcoach_bucket_rate_t;


/* all zero is a full bucket */

typedef struct {
    uint64_t                      deficit;
    uint64_t                      ts;
    uint64_t                      p;
} runcoach_bucket_t;


/* integers of each key: arguments (and one for all), and of the reply */

#define RUNCOACH_BUCKET_ARGS          10
#define RUNCOACH_BUCKET_VALUES        9

/* no report; or the bucket is to be made full */

#define RUNCOACH_BUCKET_SILENT        -1
#define RUNCOACH_BUCKET_RESET         -2


/*
 * One key of a call of the script (runcoach_bucket_script.h).  All but the
 * hint are tokens; the report is of tokens that were held for this edge.
 */

typedef struct {
    uint64_t                      cost;        /* all or nothing */
    uint64_t                      need;        /* cost, and debts if possible */
    uint64_t                      extra;       /* to be held for this edge */
    int64_t                       epoch;       /* of the report, or above */
    uint64_t                      spent;
    uint64_t                      released;
    uint64_t                      hint;        /* deficit if there is no key */
} runcoach_bucket_ask_t;


/* what the script says about one key, after what it has granted */

typedef struct {
    int                           allowed;     /* by this key, if not by all */
    uint64_t                      granted;     /* of need, 0 unless all allow */
    uint64_t                      held;        /* of extra */
    int64_t                       epoch;       /* of what is held */
    uint64_t                      valid_us;    /* until that is spent for all */
    int64_t                       free;        /* units, may be negative */
    int64_t                       retry_us;    /* -1: never, cost > burst */
    uint64_t                      reset_us;
    int                           fresh;       /* there was no key */
} runcoach_bucket_answer_t;


typedef struct {
    int                           allowed;
    uint64_t                      remaining;   /* whole tokens */
    int64_t                       retry_us;    /* -1: never, cost > burst */
    uint64_t                      reset_us;    /* until full */
} runcoach_bucket_verdict_t;


/*
 * Reads "5r/s", "300r/m", "1000r/h" or "10000r/d".  Returns 0, or -1 if it is
 * anything else or beyond the maxima above.
 */

int runcoach_bucket_parse_rate(const char *s, size_t len, uint64_t *requests,
    uint64_t *seconds);


/*
 * Makes the units of a rate.  Returns 0, or -1 if an argument is zero or
 * beyond its maximum, or if the burst is too large to be counted exactly.
 */

int runcoach_bucket_rate(runcoach_bucket_rate_t *rate, uint64_t requests,
    uint64_t seconds, uint64_t burst);


/*
 * Changes units of one p into units of another, rounding up, as the script
 * does.  The result is below RUNCOACH_BUCKET_MAX_UNITS.
 */

uint64_t runcoach_bucket_convert(uint64_t units, uint64_t from, uint64_t to);


/*
 * The part of a rate that one of several may give away alone: permille of its
 * requests, with a burst of its own.  Returns as above.
 */

int runcoach_bucket_share(runcoach_bucket_rate_t *share,
    const runcoach_bucket_rate_t *rate, uint64_t permille, uint64_t burst);


/*
 * Refills the bucket up to now.  Returns 1 if the clock was found to have
 * stepped back and the bucket now follows it; then the bucket has to be stored
 * even if nothing is taken, or it would stand still until the clock is back.
 */

int runcoach_bucket_advance(runcoach_bucket_t *b,
    const runcoach_bucket_rate_t *rate, uint64_t now);


/* what an advanced bucket has to say about cost tokens; takes nothing */

void runcoach_bucket_check(const runcoach_bucket_t *b,
    const runcoach_bucket_rate_t *rate, uint64_t cost,
    runcoach_bucket_verdict_t *v);


/* takes cost tokens which check() has allowed */

void runcoach_bucket_spend(runcoach_bucket_t *b,
    const runcoach_bucket_rate_t *rate, uint64_t cost);


/*
 * All of the above for one bucket: the verdict is of after the request.
 * Returns 1 if the bucket has to be stored.
 */

int runcoach_bucket_take(runcoach_bucket_t *b,
    const runcoach_bucket_rate_t *rate, uint64_t cost, uint64_t now,
    runcoach_bucket_verdict_t *v);


/*
 * Writes the arguments of one key for the script, in its order: there are
 * RUNCOACH_BUCKET_ARGS of them.
 */

void runcoach_bucket_args(int64_t *args, const runcoach_bucket_rate_t *rate,
    const runcoach_bucket_ask_t *ask);


/*
 * Reads the reply of the script to a call of n keys: count integers, answers
 * for n.  epoch is the length of an epoch that the call had.  Returns 1 if all
 * keys allowed, 0 if not, or -1 if this cannot be an answer to what was asked;
 * then nothing in answers means anything.
 */

int runcoach_bucket_answers(runcoach_bucket_answer_t *answers,
    const runcoach_bucket_rate_t *const *rates,
    const runcoach_bucket_ask_t *const *asks, size_t n, const int64_t *values,
    size_t count, uint64_t epoch);


#endif /* _RUNCOACH_BUCKET_H_INCLUDED_ */
