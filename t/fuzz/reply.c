
/*
 * Replies of Redis, fed whole, a byte at a time, and cut in two at every byte:
 * the same replies, and the same end.  The first bytes are how long a reply may
 * be; what it takes of memory must keep to that.
 */


#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_reply.h"


#define DEPTH  16


/* what came, as text */

typedef struct {
    char    *data;
    size_t   size;
    size_t   used;
    int      refused;
} trace_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(trace_t *t, size_t max, const char *data, size_t size,
    size_t cut, size_t step);
static int take(trace_t *t, runcoach_reply_reader_t *reader);
static void put_reply(trace_t *t, const redisReply *reply, int depth);
static void check(const redisReply *reply, size_t max);
static void put(trace_t *t, const void *data, size_t n);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char     *text;
    size_t    cut, max;
    trace_t   whole, other;

    if (size < 2 || size > 4096) {
        return 0;
    }

    max = (size_t) data[0] << 8 | data[1];
    size -= 2;

    /* of just its size, that nothing is read behind it unnoticed */

    text = malloc(size > 0 ? size : 1);
    if (text == NULL) {
        abort();
    }

    memcpy(text, data + 2, size);

    decode(&whole, max, text, size, 0, size);

    for (cut = 1; cut < size + 1; cut++) {

        /* the last time a byte at a time */

        decode(&other, max, text, size, cut % size, cut < size ? size : 1);

        if (other.refused != whole.refused || other.used != whole.used
            || (whole.used > 0
                && memcmp(other.data, whole.data, whole.used) != 0))
        {
            abort();
        }

        free(other.data);
    }

    free(whole.data);
    free(text);

    return 0;
}


static void
decode(trace_t *t, size_t max, const char *data, size_t size, size_t cut,
    size_t step)
{
    size_t                    n;
    runcoach_reply_reader_t  *reader;

    memset(t, 0, sizeof(trace_t));

    reader = runcoach_reply_reader_create(max);
    if (reader == NULL) {
        abort();
    }

    for (n = (cut > 0) ? cut : step; size > 0; n = step) {

        n = (n < size) ? n : size;

        if (runcoach_reply_feed(reader, data, n) != RUNCOACH_REPLY_OK
            && !t->refused)
        {
            abort();
        }

        data += n;
        size -= n;

        while (take(t, reader)) { /* void */ }
    }

    runcoach_reply_reader_free(reader);
}


static int
take(trace_t *t, runcoach_reply_reader_t *reader)
{
    int64_t               values[8];
    redisReply           *reply;
    runcoach_reply_rc_e   rc;

    rc = runcoach_reply_next(reader, &reply);

    if ((rc == RUNCOACH_REPLY_OK) != (reply != NULL)
        || rc == RUNCOACH_REPLY_NO_MEMORY)
    {
        abort();
    }

    if (rc == RUNCOACH_REPLY_AGAIN) {
        return 0;
    }

    if (rc != RUNCOACH_REPLY_OK) {

        if (rc == RUNCOACH_REPLY_MALFORMED
            && runcoach_reply_text(reader)[0] == '\0')
        {
            abort();
        }

        t->refused = 1;
        return 0;
    }

    check(reply, sizeof(values) / sizeof(values[0]));
    put_reply(t, reply, 0);


    return 1;
}


static void
check(const redisReply *reply, size_t max)
{
    int      n;
    size_t   i;
    int64_t  values[8];

    n = runcoach_reply_integers(reply, values, max);

    if (n >= 0 && (reply->type != REDIS_REPLY_ARRAY
                   || (size_t) n != reply->elements))
    {
        abort();
    }

    for (i = 0; n > 0 && i < (size_t) n; i++) {

        if (values[i] != reply->element[i]->integer) {
            abort();
        }
    }

    if (reply->type != REDIS_REPLY_ERROR
        && (runcoach_reply_error(reply) != RUNCOACH_REPLY_GOES_ON
            || runcoach_reply_is_error(reply, "")))
    {
        abort();
    }
}


static void
put_reply(trace_t *t, const redisReply *reply, int depth)
{
    size_t  i;
    int     what;

    what = runcoach_reply_error(reply);

    put(t, &reply->type, sizeof(int));
    put(t, &what, sizeof(int));

    switch (reply->type) {

    case REDIS_REPLY_INTEGER:
        put(t, &reply->integer, sizeof(long long));
        break;

    case REDIS_REPLY_ARRAY:
        put(t, &reply->elements, sizeof(size_t));

        for (i = 0; i < reply->elements && depth < DEPTH; i++) {
            put_reply(t, reply->element[i], depth + 1);
        }

        break;

    case REDIS_REPLY_NIL:
        break;

    default:
        put(t, reply->str, reply->len + 1);
    }
}


static void
put(trace_t *t, const void *data, size_t n)
{
    if (t->used + n > t->size) {
        t->size = 2 * t->size + n + 256;

        t->data = realloc(t->data, t->size);
        if (t->data == NULL) {
            abort();
        }
    }

    memcpy(t->data + t->used, data, n);
    t->used += n;
}
