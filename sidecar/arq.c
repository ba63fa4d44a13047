
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arq.h"


/* milliseconds for which arq keeps a job that nobody takes */

#define ARQ_EXPIRES  "86400000"
#define ARQ_TIMEOUT  2000


static u_char *arq_text(u_char *p, const char *s);
static u_char *arq_number(u_char *p, long long n);


/* a pickle has NULs in it, which our commands have not: it comes as digits */

static const char  arq_script[] =
    "if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return 0 end "
    "local pickle = string.gsub(ARGV[2], '..', function (digits) "
    "return string.char(tonumber(digits, 16)) end) "
    "redis.call('PSETEX', KEYS[1], ARGV[1], pickle) "
    "redis.call('ZADD', KEYS[3], ARGV[3], ARGV[4]) "
    "return 1";


size_t
arq_pickle(u_char *dst, long long activity, long long user, long long ms)
{
    u_char  *p;

    p = dst;

    memcpy(p, "\x80\x02}(", 4);             /* protocol, a dict, its items */
    p = arq_text(p + 4, "t");
    *p++ = 'N';
    p = arq_text(p, "f");
    p = arq_text(p, ARQ_FUNCTION);
    p = arq_text(p, "a");
    *p++ = ')';
    p = arq_text(p, "k");
    *p++ = '}';
    *p++ = '(';
    p = arq_text(p, "activity_id");
    p = arq_number(p, activity);
    p = arq_text(p, "user_id");
    p = arq_number(p, user);
    *p++ = 'u';
    p = arq_text(p, "et");
    p = arq_number(p, ms);
    *p++ = 'u';
    *p++ = '.';

    return p - dst;
}


static u_char *
arq_text(u_char *p, const char *s)
{
    size_t  n;

    n = strlen(s);

    *p++ = 'X';
    *p++ = (u_char) n;
    *p++ = 0;
    *p++ = 0;
    *p++ = 0;

    memcpy(p, s, n);

    return p + n;
}


/* as Python does: the shortest form, the longest one signed */

static u_char *
arq_number(u_char *p, long long n)
{
    size_t   i, len;
    u_char  *count;

    if (n < 256) {
        *p++ = 'K';
        len = 1;

    } else if (n < 65536) {
        *p++ = 'M';
        len = 2;

    } else if (n < 2147483648LL) {
        *p++ = 'J';
        len = 4;

    } else {
        *p++ = 0x8a;
        count = p++;

        for (len = 0; len < 8 && (n >> (8 * len)) != 0; len++) { /* void */ }

        if (len < 8 && ((n >> (8 * len - 1)) & 1)) {
            len++;
        }

        *count = (u_char) len;
    }

    for (i = 0; i < len; i++) {
        *p++ = (u_char) (n >> (8 * i));
    }

    return p;
}


int
arq_relay(worker_t *w, const job_t *job)
{
    char              id[96], key[128], result[128], score[24];
    char              hex[2 * ARQ_PICKLE + 1];
    u_char            pickle[ARQ_PICKLE];
    size_t            i, n;
    long long         ms;
    redisReply       *reply;
    const char       *argv[10];
    struct timespec   now;

    clock_gettime(CLOCK_REALTIME, &now);
    ms = now.tv_sec * 1000LL + now.tv_nsec / 1000000;

    snprintf(id, sizeof(id), "fit-%.20s-%.8s", job->activity,
             (job->etag == NULL) ? "" : job->etag);
    snprintf(key, sizeof(key), "arq:job:%s", id);
    snprintf(result, sizeof(result), "arq:result:%s", id);
    snprintf(score, sizeof(score), "%lld", ms);

    n = arq_pickle(pickle, atoll(job->activity),
                   (job->user == NULL) ? 0 : atoll(job->user), ms);

    for (i = 0; i < n; i++) {
        snprintf(hex + 2 * i, 3, "%02x", pickle[i]);
    }

    argv[0] = "EVAL";
    argv[1] = arq_script;
    argv[2] = "3";
    argv[3] = key;
    argv[4] = result;
    argv[5] = w->cf->arq_queue;
    argv[6] = ARQ_EXPIRES;
    argv[7] = hex;
    argv[8] = score;
    argv[9] = id;

    if (redis_command(w->redis, &reply, ARQ_TIMEOUT, -1, 10, argv)
        != REDIS_DONE)
    {
        return -1;
    }

    log_info("handed to arq id=%s new=%lld", log_value(id), reply->integer);

    freeReplyObject(reply);

    return 0;
}
