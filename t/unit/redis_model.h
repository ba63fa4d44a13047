
/*
 * What the script of runcoach_bucket_script.h does to a few keys, written anew
 * in wide integers: units held for an epoch are a list, not two slots.  It is
 * compared with the script itself by t/script.t.
 */


#ifndef _REDIS_MODEL_H_INCLUDED_
#define _REDIS_MODEL_H_INCLUDED_


#include <math.h>
#include <stdint.h>
#include <string.h>

#include "runcoach_bucket.h"


typedef __int128  redis_wide_t;


typedef struct {
    int64_t       epoch;
    redis_wide_t  units;
} redis_held_t;


typedef struct {
    int           exists;
    int           fresh;
    int           dirty;
    redis_wide_t  lack;
    redis_wide_t  ts;
    redis_wide_t  p;
    redis_held_t  held[2];
    int           nheld;
    int64_t       at;
    redis_wide_t  free;
    redis_wide_t  tokens;
    int64_t       retry;
    redis_wide_t  expires;      /* us */
} redis_key_t;


static redis_wide_t
redis_up(redis_wide_t a, redis_wide_t b)
{
    return (a + b - 1) / b;
}


static redis_wide_t
redis_min(redis_wide_t a, redis_wide_t b)
{
    return a < b ? a : b;
}


static redis_wide_t
redis_convert(redis_wide_t units, redis_wide_t from, redis_wide_t to)
{
    double  x;

    x = ceil((double) units / (double) from * (double) to);

    return x < 9007199254740992.0 ? (redis_wide_t) x : 9007199254740991;
}


static redis_wide_t
redis_held(const redis_key_t *key)
{
    int           i;
    redis_wide_t  sum;

    for (sum = 0, i = 0; i < key->nheld; i++) {
        sum += key->held[i].units;
    }

    return sum;
}


static void
redis_drop(redis_key_t *key, int i)
{
    key->nheld--;

    for ( /* void */ ; i < key->nheld; i++) {
        key->held[i] = key->held[i + 1];
    }
}


static void
redis_refill(redis_key_t *key, redis_wide_t n, redis_wide_t to)
{
    redis_wide_t  elapsed;

    elapsed = to - key->ts;

    if (elapsed < 0 && elapsed >= -1000000) {
        return;
    }

    if (elapsed < 0) {
        key->dirty |= key->lack > 0;

    } else {
        key->lack -= redis_min(key->lack, elapsed * n);
    }

    key->ts = to;
}


static void
redis_load(redis_key_t *key, const runcoach_bucket_rate_t *rate,
    const runcoach_bucket_ask_t *ask, int64_t now, int64_t current)
{
    int  i;

    if (key->exists && key->expires > 0 && now >= key->expires) {
        key->exists = 0;
    }

    key->dirty = 0;
    key->fresh = !key->exists;

    if (key->fresh) {
        memset(key, 0, sizeof(redis_key_t));

        key->fresh = 1;
        key->lack = redis_min((redis_wide_t) ask->hint, rate->c);
        key->dirty = ask->hint > 0;
        key->ts = now;
        key->p = rate->p;
        key->at = current;
    }

    if (key->nheld == 0 && key->at < current) {
        key->at = current;
    }

    if (key->p != rate->p) {
        key->lack = redis_convert(key->lack, key->p, rate->p);

        for (i = 0; i < key->nheld; i++) {
            key->held[i].units = redis_convert(key->held[i].units, key->p,
                                               rate->p);
        }

        key->p = rate->p;
    }
}


static void
redis_advance(redis_key_t *key, const runcoach_bucket_rate_t *rate,
    int64_t now, int64_t current, int64_t length)
{
    if (key->nheld > 0 && key->at > current + 2) {
        key->lack += redis_held(key);
        key->nheld = 0;
        key->at = current;
        key->dirty = 1;
    }

    while (key->nheld > 0 && key->held[0].epoch + 2 <= current) {
        redis_refill(key, rate->n,
                     (redis_wide_t) (key->held[0].epoch + 2) * length);
        key->lack += key->held[0].units;
        redis_drop(key, 0);
    }

    if (key->at < current) {
        key->at = current;
    }

    redis_refill(key, rate->n, now);
}


static void
redis_report(redis_key_t *key, const runcoach_bucket_rate_t *rate,
    const runcoach_bucket_ask_t *ask, int64_t current, int64_t length)
{
    int           i;
    redis_wide_t  spent, released;

    if (ask->epoch == RUNCOACH_BUCKET_RESET) {
        key->lack = 0;
        key->nheld = 0;
        key->dirty = 1;
        key->at = current + 1
                  + (int64_t) redis_up(rate->c, (redis_wide_t) rate->n
                                                * length);
        return;
    }

    if (ask->epoch != key->at && ask->epoch != key->at - 1) {
        return;
    }

    for (i = 0; i < key->nheld; i++) {

        if (key->held[i].epoch != ask->epoch) {
            continue;
        }

        spent = redis_min((redis_wide_t) ask->spent * rate->p,
                          key->held[i].units);
        released = redis_min((redis_wide_t) ask->released * rate->p,
                             key->held[i].units - spent);

        key->dirty |= spent + released > 0;
        key->lack += spent;
        key->held[i].units -= spent + released;

        if (key->held[i].units == 0) {
            redis_drop(key, i);
        }

        return;
    }
}


static int64_t
redis_retry(const redis_key_t *key, const runcoach_bucket_rate_t *rate,
    redis_wide_t lacks, int64_t now, int64_t length)
{
    int           i;
    redis_wide_t  lack, gain, t, end;

    lack = key->lack;
    t = now;

    for (i = 0; i < key->nheld && lacks > lack; i++) {
        end = (redis_wide_t) (key->held[i].epoch + 2) * length;
        gain = redis_min(lack, (end - t) * rate->n);

        lacks -= gain;
        lack += key->held[i].units - gain;
        t = end;
    }

    return (int64_t) (t - now + redis_up(lacks, rate->n));
}


static void
redis_check(redis_key_t *key, const runcoach_bucket_rate_t *rate,
    const runcoach_bucket_ask_t *ask, int64_t now, int64_t length)
{
    redis_wide_t  need;

    need = (redis_wide_t) ask->cost * rate->p;

    key->free = rate->c - key->lack - redis_held(key);
    key->tokens = key->free > 0 ? key->free / rate->p : 0;
    key->retry = 0;

    if (need > rate->c) {
        key->retry = -1;

    } else if (ask->cost > key->tokens) {
        key->retry = redis_retry(key, rate, need - key->free, now, length);
    }
}


static void
redis_take(redis_key_t *key, const runcoach_bucket_rate_t *rate,
    redis_wide_t granted, redis_wide_t held)
{
    key->lack += granted * rate->p;
    key->free -= (granted + held) * rate->p;
    key->dirty |= granted + held > 0;

    if (held == 0) {
        return;
    }

    if (key->nheld == 0 || key->held[key->nheld - 1].epoch != key->at) {
        key->held[key->nheld].epoch = key->at;
        key->held[key->nheld].units = 0;
        key->nheld++;
    }

    key->held[key->nheld - 1].units += held * rate->p;
}


static int
redis_call(redis_key_t **keys, const runcoach_bucket_rate_t *const *rates,
    const runcoach_bucket_ask_t *const *asks, size_t n, int64_t now,
    int64_t length, int64_t *values)
{
    int           all;
    size_t        i;
    int64_t       current, at;
    redis_key_t   k[8];
    redis_wide_t  granted, held, us;

    current = now / length;
    all = 1;

    for (i = 0; i < n; i++) {
        k[i] = *keys[i];

        redis_load(&k[i], rates[i], asks[i], now, current);
        redis_advance(&k[i], rates[i], now, current, length);
        redis_report(&k[i], rates[i], asks[i], current, length);
        redis_check(&k[i], rates[i], asks[i], now, length);

        all = all && k[i].retry == 0;
    }

    for (i = 0; i < n; i++) {
        granted = held = 0;

        if (all) {
            granted = redis_min(asks[i]->need, k[i].tokens);
            held = redis_min(asks[i]->extra, (k[i].tokens - granted) / 2);

            if (k[i].nheld == 0 && k[i].at > current) {
                held = 0;
            }
        }

        redis_take(&k[i], rates[i], granted, held);

        at = held > 0 ? k[i].at : current;

        *values++ = k[i].retry == 0;
        *values++ = (int64_t) granted;
        *values++ = (int64_t) held;
        *values++ = at;
        *values++ = (at + 2) * length - now;
        *values++ = (int64_t) k[i].free;
        *values++ = k[i].retry;
        *values++ = (int64_t) redis_up(k[i].lack, rates[i]->n);
        *values++ = k[i].fresh;

        if (!k[i].dirty) {
            continue;
        }

        us = redis_up(rates[i]->c - k[i].free, rates[i]->n);
        k[i].expires = now + redis_up(us, 1000) * 1000 + 1000;

        if (k[i].nheld > 0 || k[i].at > current) {
            k[i].expires += (redis_wide_t) (k[i].at + 2) * length - now;
        }

        if (k[i].nheld == 0 && k[i].at <= current) {
            k[i].at = -1;
        }

        k[i].exists = 1;
        *keys[i] = k[i];
    }

    return all;
}


#endif /* _REDIS_MODEL_H_INCLUDED_ */
