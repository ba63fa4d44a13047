
#include <stdlib.h>
#include <string.h>

#include "runcoach_reply.h"


/* the shortest element, "+\r\n" */

#define RUNCOACH_REPLY_ELEMENT  3

/* of what a reply is made of; the first block lasts as long as the reader */

#define RUNCOACH_REPLY_BLOCK    4096
#define RUNCOACH_REPLY_ALIGN    sizeof(void *)


/* hiredis 1.0 has changed it */

#if (HIREDIS_MAJOR >= 1)
typedef size_t  runcoach_reply_count_t;
#else
typedef int     runcoach_reply_count_t;
#endif


typedef struct runcoach_reply_block_s  runcoach_reply_block_t;

struct runcoach_reply_block_s {
    runcoach_reply_block_t  *next;
    char                     data[];
};


struct runcoach_reply_reader_s {
    redisReader             *reader;
    runcoach_reply_block_t  *blocks;         /* the first one is the last */
    char                    *pos;
    char                    *last;
    size_t                   max;
    size_t                   pending;        /* bytes since the last reply */
    size_t                   elements;       /* of the reply under way */
    runcoach_reply_rc_e      rc;
    unsigned                 done:1;         /* a reply, and it is good */
};


static void runcoach_reply_reset(runcoach_reply_reader_t *reader);
static void *runcoach_reply_alloc(runcoach_reply_reader_t *reader, size_t n);
static int runcoach_reply_block(runcoach_reply_reader_t *reader, size_t n);
static redisReply *runcoach_reply_object(const redisReadTask *task);
static void *runcoach_reply_string(const redisReadTask *task, char *text,
    size_t n);
static void *runcoach_reply_array(const redisReadTask *task,
    runcoach_reply_count_t n);
static void *runcoach_reply_integer(const redisReadTask *task, long long value);
static void *runcoach_reply_nil(const redisReadTask *task);
#if (HIREDIS_MAJOR >= 1)
static void *runcoach_reply_double(const redisReadTask *task, double value,
    char *text, size_t n);
static void *runcoach_reply_bool(const redisReadTask *task, int value);
#endif


static redisReplyObjectFunctions  runcoach_reply_functions = {
    .createString = runcoach_reply_string,
    .createArray = runcoach_reply_array,
    .createInteger = runcoach_reply_integer,
    .createNil = runcoach_reply_nil,
#if (HIREDIS_MAJOR >= 1)
    .createDouble = runcoach_reply_double,
    .createBool = runcoach_reply_bool
#endif
};


runcoach_reply_reader_t *
runcoach_reply_reader_create(size_t max)
{
    runcoach_reply_reader_t  *reader;

    reader = calloc(1, sizeof(runcoach_reply_reader_t));
    if (reader == NULL) {
        return NULL;
    }

    reader->max = max;

    reader->reader = redisReaderCreateWithFunctions(&runcoach_reply_functions);

    if (reader->reader == NULL
        || runcoach_reply_block(reader, RUNCOACH_REPLY_BLOCK) != 0)
    {
        runcoach_reply_reader_free(reader);
        return NULL;
    }

    reader->reader->privdata = reader;

    return reader;
}


void
runcoach_reply_reader_free(runcoach_reply_reader_t *reader)
{
    if (reader == NULL) {
        return;
    }

    if (reader->reader != NULL) {
        redisReaderFree(reader->reader);
    }

    if (reader->blocks != NULL) {
        runcoach_reply_reset(reader);
        free(reader->blocks);
    }

    free(reader);
}


/* back to the first block */

static void
runcoach_reply_reset(runcoach_reply_reader_t *reader)
{
    runcoach_reply_block_t  *block;

    while (reader->blocks->next != NULL) {
        block = reader->blocks;
        reader->blocks = block->next;
        free(block);
    }

    reader->pos = reader->blocks->data;
    reader->last = reader->pos + RUNCOACH_REPLY_BLOCK;
    reader->elements = 0;
}


static void *
runcoach_reply_alloc(runcoach_reply_reader_t *reader, size_t n)
{
    void  *p;

    n = (n + RUNCOACH_REPLY_ALIGN - 1) / RUNCOACH_REPLY_ALIGN
        * RUNCOACH_REPLY_ALIGN;

    if (n > (size_t) (reader->last - reader->pos)
        && runcoach_reply_block(reader, n) != 0)
    {
        return NULL;
    }

    p = reader->pos;
    reader->pos += n;

    return p;
}


static int
runcoach_reply_block(runcoach_reply_reader_t *reader, size_t n)
{
    runcoach_reply_block_t  *block;

    n = (n > RUNCOACH_REPLY_BLOCK) ? n : RUNCOACH_REPLY_BLOCK;

    block = malloc(sizeof(runcoach_reply_block_t) + n);
    if (block == NULL) {
        return -1;
    }

    block->next = reader->blocks;

    reader->blocks = block;
    reader->pos = block->data;
    reader->last = block->data + n;

    return 0;
}


static redisReply *
runcoach_reply_object(const redisReadTask *task)
{
    redisReply  *reply, *parent;

    reply = runcoach_reply_alloc(task->privdata, sizeof(redisReply));
    if (reply == NULL) {
        return NULL;
    }

    memset(reply, 0, sizeof(redisReply));

    reply->type = task->type;

    if (task->parent != NULL) {
        parent = task->parent->obj;
        parent->element[task->idx] = reply;
    }

    return reply;
}


static void *
runcoach_reply_string(const redisReadTask *task, char *text, size_t n)
{
    redisReply  *reply;

    reply = runcoach_reply_object(task);
    if (reply == NULL) {
        return NULL;
    }

    reply->str = runcoach_reply_alloc(task->privdata, n + 1);
    if (reply->str == NULL) {
        return NULL;
    }

    memcpy(reply->str, text, n);

    reply->str[n] = '\0';
    reply->len = n;

    return reply;
}


/*
 * Room is made for what is announced, before it has come: for "*2147483647"
 * that would be 16 gigabytes.
 */

static void *
runcoach_reply_array(const redisReadTask *task, runcoach_reply_count_t n)
{
    size_t                    count;
    redisReply               *reply;
    runcoach_reply_reader_t  *reader;

    reader = task->privdata;
    count = (size_t) n;

    if (count > reader->max / RUNCOACH_REPLY_ELEMENT - reader->elements) {
        reader->rc = RUNCOACH_REPLY_TOO_LARGE;
        return NULL;
    }

    reader->elements += count;

    reply = runcoach_reply_object(task);
    if (reply == NULL) {
        return NULL;
    }

    reply->element = runcoach_reply_alloc(reader, count * sizeof(redisReply *));
    if (reply->element == NULL) {
        return NULL;
    }

    memset(reply->element, 0, count * sizeof(redisReply *));

    reply->elements = count;

    return reply;
}


static void *
runcoach_reply_integer(const redisReadTask *task, long long value)
{
    redisReply  *reply;

    reply = runcoach_reply_object(task);
    if (reply == NULL) {
        return NULL;
    }

    reply->integer = value;

    return reply;
}


static void *
runcoach_reply_nil(const redisReadTask *task)
{
    redisReply  *reply;

    reply = runcoach_reply_object(task);
    if (reply == NULL) {
        return NULL;
    }

    /* the task has the type of what is missing */

    reply->type = REDIS_REPLY_NIL;

    return reply;
}


#if (HIREDIS_MAJOR >= 1)

/* RESP3, which nobody has asked for */

static void *
runcoach_reply_double(const redisReadTask *task, double value, char *text,
    size_t n)
{
    (void) value;
    (void) text;
    (void) n;

    return runcoach_reply_nil(task);
}


static void *
runcoach_reply_bool(const redisReadTask *task, int value)
{
    (void) value;

    return runcoach_reply_nil(task);
}

#endif


runcoach_reply_rc_e
runcoach_reply_feed(runcoach_reply_reader_t *reader, const char *data, size_t n)
{
    if (reader->rc != RUNCOACH_REPLY_OK) {
        return reader->rc;
    }

    reader->pending += n;

    if (redisReaderFeed(reader->reader, data, n) != REDIS_OK) {
        reader->rc = RUNCOACH_REPLY_NO_MEMORY;
    }

    return reader->rc;
}


runcoach_reply_rc_e
runcoach_reply_next(runcoach_reply_reader_t *reader, redisReply **reply)
{
    void    *p;
    size_t   left, size;

    *reply = NULL;
    p = NULL;

    if (reader->rc != RUNCOACH_REPLY_OK) {
        return reader->rc;
    }

    if (reader->done) {
        runcoach_reply_reset(reader);
        reader->done = 0;
    }

    if (redisReaderGetReply(reader->reader, &p) != REDIS_OK) {

        /* an array that was refused looks like no memory to hiredis */

        if (reader->rc == RUNCOACH_REPLY_OK) {
            reader->rc = (reader->reader->err == REDIS_ERR_OOM)
                         ? RUNCOACH_REPLY_NO_MEMORY : RUNCOACH_REPLY_MALFORMED;
        }

        return reader->rc;
    }

    left = (p != NULL) ? reader->reader->len - reader->reader->pos : 0;
    size = reader->pending - left;

    if (size > reader->max) {
        reader->rc = RUNCOACH_REPLY_TOO_LARGE;
        return reader->rc;
    }

    if (p == NULL) {
        return RUNCOACH_REPLY_AGAIN;
    }

    reader->pending = left;
    reader->done = 1;

    *reply = p;

    return RUNCOACH_REPLY_OK;
}


const char *
runcoach_reply_text(const runcoach_reply_reader_t *reader)
{
    return reader->reader->errstr;
}


int
runcoach_reply_is_error(const redisReply *reply, const char *code)
{
    size_t  n;

    n = strlen(code);

    return reply->type == REDIS_REPLY_ERROR
           && strncmp(reply->str, code, n) == 0
           && (reply->str[n] == ' ' || reply->str[n] == '\0');
}


/* Redis before 7 quotes the error of a command within a script */

runcoach_reply_error_e
runcoach_reply_error(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ERROR) {
        return RUNCOACH_REPLY_GOES_ON;
    }

    if (runcoach_reply_is_error(reply, "NOAUTH")) {
        return RUNCOACH_REPLY_NO_AUTH;
    }

    if (runcoach_reply_is_error(reply, "READONLY")
        || strstr(reply->str, " -READONLY ") != NULL)
    {
        return RUNCOACH_REPLY_REPLICA;
    }

    if (strncmp(reply->str, "ERR max number of clients", 25) == 0) {
        return RUNCOACH_REPLY_TOO_MANY;
    }

    if (runcoach_reply_is_error(reply, "DENIED")) {
        return RUNCOACH_REPLY_DENIED;
    }

    return RUNCOACH_REPLY_GOES_ON;
}


int
runcoach_reply_integers(const redisReply *reply, int64_t *values, size_t max)
{
    size_t  i;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements > max) {
        return -1;
    }

    for (i = 0; i < reply->elements; i++) {

        if (reply->element[i]->type != REDIS_REPLY_INTEGER) {
            return -1;
        }

        values[i] = reply->element[i]->integer;
    }

    return (int) i;
}
