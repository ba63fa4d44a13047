
/*
 * What an edge knows about a key between two calls of the script, so that most
 * requests need none.  The memory of a node is the caller's and may be shared
 * by processes; so is the lock around every call.  Pure: no I/O, no clock, no
 * allocation, no pointers in a node.  A process that dies within a function, or
 * with a call on its way, leaves a node that works: what it marked ends by
 * itself, and what it was about to admit is at worst lost, never doubled.
 *
 *     held leases   Tokens that Redis holds out of the bucket for this edge.
 *                   They are spent here, reported with the next call, and taken
 *                   for spent by Redis when their epoch has ended, so nobody
 *                   has to be trusted and no clocks have to agree.
 *     the bound     A bucket lacks at least what Redis said it lacked, less
 *                   what came back since.  What the bound denies Redis would
 *                   have denied; a flood costs nothing more.  Once a second it
 *                   is asked all the same: the bucket may have been reset, or
 *                   have another rate elsewhere.
 *     the gate      A key that is nearly empty is asked for once in a while,
 *                   and then takes what has gathered; in a flood not before
 *                   the slowest call finds it there.
 *     the share     While Redis is away a bucket of the local rate, which
 *                   begins at the bound.  What it lacks then is charged, so
 *                   that the shares of all edges make up the bucket again.
 *
 * A request has up to RUNCOACH_LEASE_KEYS keys, each of another node.  It goes
 *
 *     decide --- PASS   spent from leases; keys with "call" set want more: send
 *          |            a call for them, which nobody waits for
 *          |---- DENY   nothing is spent
 *          |---- FAIL   a key in mode CLOSED cannot be answered for
 *          '---- ASK    send a call for the keys with "call" set, and wait
 *                          |---- end     the reply: PASS or DENY
 *                          |---- lost    no reply, or nonsense: decide again,
 *                          |             in another mode
 *                          '---- unsent  the call never left: the same
 *
 * Every decide() which sets "call" has to be followed by exactly one of end(),
 * lost() or unsent() for the keys that have it; what comes back when the client
 * has gone still has to be given to end(), followed by give_back().  NOSCRIPT
 * means that nothing was done: the same call is sent again, and nothing is told
 * here.  Copy the keys when they must outlive the request.  A node may vanish
 * meanwhile: set its pointer to NULL, or to the node which the key has now.
 *
 * Times are microseconds of a monotonic clock, the same for all processes, and
 * never 0.  A time that was read a little too early, as in a loop over events,
 * does no harm up to RUNCOACH_LEASE_MARGIN / 2.
 */


#ifndef _RUNCOACH_LEASE_H_INCLUDED_
#define _RUNCOACH_LEASE_H_INCLUDED_


#include "runcoach_bucket.h"


#define RUNCOACH_LEASE_KEYS    8

/* a lease ends here that much before it ends in Redis */

#define RUNCOACH_LEASE_MARGIN  UINT64_C(50000)


typedef enum {
    RUNCOACH_LEASE_PASS = 0,
    RUNCOACH_LEASE_DENY,
    RUNCOACH_LEASE_ASK,
    RUNCOACH_LEASE_FAIL
} runcoach_lease_verdict_e;


/*
 * How a key without a lease is decided; leases are spent in any mode.  Either
 * all keys of a request are in mode REDIS or none is.
 */

typedef enum {
    RUNCOACH_LEASE_REDIS = 0,
    RUNCOACH_LEASE_LOCAL,
    RUNCOACH_LEASE_OPEN,
    RUNCOACH_LEASE_CLOSED
} runcoach_lease_mode_e;


/* who said it */

typedef enum {
    RUNCOACH_LEASE_FROM_LEASE = 0,
    RUNCOACH_LEASE_FROM_BOUND,         /* denied, exact */
    RUNCOACH_LEASE_FROM_GATE,          /* denied, for less than conf->poll */
    RUNCOACH_LEASE_FROM_REDIS,
    RUNCOACH_LEASE_FROM_SHARE,         /* mode LOCAL */
    RUNCOACH_LEASE_FROM_NOBODY         /* mode OPEN or CLOSED */
} runcoach_lease_source_e;


/* in microseconds */

typedef struct {
    uint64_t                       epoch;   /* the same on all edges */
    uint64_t                       hold;    /* traffic a lease is made for */
    uint64_t                       small;   /*   while it is a small one */
    uint64_t                       poll;    /* of the gate; 0: none */
    uint64_t                       trust;   /* in a bound, until asked */
    uint64_t                       idle;    /* then leases are released */
    uint64_t                       flight;  /* a call is lost after that */
    unsigned                       lease:1; /* 0: exact mode, no leases */
} runcoach_lease_conf_t;


#define RUNCOACH_LEASE_CONF                                                   \
    { 2000000, 250000, 1000000, 50000, 1000000, 1000000, 1000000, 1 }


/* all zero is a key that nobody knows anything about */

typedef struct {

    /* [0] and [1] are of even and odd epochs */

    uint64_t                       deadline[2];
    uint32_t                       epoch[2];
    uint32_t                       left[2];
    uint32_t                       unreported[2];

    runcoach_bucket_rate_t         rate;
    uint64_t                       deficit;    /* the bound: at least this */
    uint64_t                       heard;      /*   when that call was sent */
    uint64_t                       asked;      /* when the last one was */
    runcoach_bucket_t              share;

    /* milliseconds */

    uint32_t                       seen;       /* the last request */
    uint32_t                       full;       /* the share will be */
    uint32_t                       flight;     /* until then in flight */
    uint32_t                       leased;     /* the last lease came */

    uint32_t                       size;       /*   and made so many tokens */
    uint32_t                       others;     /* tokens held by other edges */
    uint32_t                       demand;     /* 1/256 tokens a second */
    uint32_t                       denied;     /*   of these */
    uint32_t                       reply;      /* us, nearly the worst */
    uint32_t                       pending[2]; /* tokens on their way */
    uint32_t                       slice;      /*   and since when */
    uint16_t                       boost;      /* of leases, 0 is once */
    uint8_t                        resets;
    unsigned                       in_flight:1;
    unsigned                       drained:1;
    unsigned                       away:1;     /* the share has begun */
} runcoach_lease_t;


typedef struct {

    /* of the caller */

    runcoach_lease_t              *node;
    const runcoach_bucket_rate_t  *rate;
    const runcoach_bucket_rate_t  *local;      /* for mode LOCAL */
    uint64_t                       cost;       /* 0: only a look */
    runcoach_lease_mode_e          mode;

    /* for the caller */

    runcoach_lease_source_e        source;
    runcoach_bucket_verdict_t      verdict;    /* of after the request */
    runcoach_bucket_ask_t          ask;        /* if call is set */

    /* zero all of this before the first decide() of a request */

    uint64_t                       sent;
    uint32_t                       slice;
    uint32_t                       epoch[2];
    uint32_t                       spent[2];
    uint8_t                        resets;
    unsigned                       call:1;     /* also for the caller */
    unsigned                       leads:1;
    unsigned                       settles:1;  /* what the share lacks */
    unsigned                       counted:1;
} runcoach_lease_key_t;


typedef struct {
    uint64_t                       remaining;  /* tokens, at most */
    uint64_t                       leased;     /* tokens to be spent here */
    uint64_t                       unreported;
    uint64_t                       reset_us;
    uint64_t                       demand;     /* tokens a second */
    unsigned                       in_flight:1;
    unsigned                       drained:1;
    unsigned                       away:1;
} runcoach_lease_status_t;


/*
 * Decides about a request, all or none of n keys, 1 to RUNCOACH_LEASE_KEYS.
 * Each key has its verdict: of a denial also those that would have allowed.
 * A denial has retry_us >= 1, or -1 if the cost is more than the burst.  It may
 * be called again for the same keys, in other modes, after lost() or unsent().
 *
 * What is on its way counts as taken, so that of many requests at once only as
 * many ask as may be granted.
 *
 * The rate of a key may be another each time: what was spent stays spent.
 */

runcoach_lease_verdict_e runcoach_lease_decide(runcoach_lease_key_t *keys,
    size_t n, const runcoach_lease_conf_t *conf, uint64_t now);


/*
 * The reply to a call: answers are those of the keys with "call" set, in their
 * order, and were accepted by runcoach_bucket_answers(), which said allowed.
 * After a denial what was spent from leases is given back.
 */

runcoach_lease_verdict_e runcoach_lease_end(runcoach_lease_key_t *keys,
    size_t n, const runcoach_bucket_answer_t *answers, int allowed,
    const runcoach_lease_conf_t *conf, uint64_t now);


/*
 * The call may have been executed, but nobody will know: what it reported is
 * not reported again, and what it may have been granted is not spent.  What the
 * request spent from leases is given back.
 */

void runcoach_lease_lost(runcoach_lease_key_t *keys, size_t n);


/* the call was certainly not executed: as if it had not been decided */

void runcoach_lease_unsent(runcoach_lease_key_t *keys, size_t n);


/* gives back what a request has spent from leases, as far as they last */

void runcoach_lease_give_back(runcoach_lease_key_t *keys, size_t n);


/*
 * Returns 1 and sets "call" and "ask" if the node of key has tokens which it
 * should release, or spent ones which it should report: nobody asked for
 * conf->idle, or force is set, as before its eviction.  All of key but its node
 * is set here; the rate is copied, as the node may vanish.  The call is sent
 * and ended as any other.
 */

int runcoach_lease_release(runcoach_lease_key_t *key,
    runcoach_bucket_rate_t *rate, const runcoach_lease_conf_t *conf,
    uint64_t now, int force);


/*
 * How much would be lost with the node: 0 nothing at all, 1 a bound or a share,
 * 2 tokens of a lease, 3 a call is on its way.
 */

int runcoach_lease_worth(const runcoach_lease_t *node, uint64_t now);


/*
 * Forgets what a key has spent, and its leases.  What is still on its way will
 * be ignored.  In Redis it takes a call of one key with the epoch
 * RUNCOACH_BUCKET_RESET: if the key were deleted, the hint of another edge
 * would bring its deficit back.
 */

void runcoach_lease_reset(runcoach_lease_t *node, uint64_t now);


/*
 * What is known about a key, by the rate it was last asked with; while Redis is
 * away, of the share of the local rate, unless that is NULL.
 */

void runcoach_lease_look(const runcoach_lease_t *node,
    const runcoach_bucket_rate_t *local, uint64_t now,
    runcoach_lease_status_t *status);


#endif /* _RUNCOACH_LEASE_H_INCLUDED_ */
