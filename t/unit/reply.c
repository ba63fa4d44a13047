
#include "../../ngx_runcoach_module/lib/runcoach_reply.c"

#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


static void test_replies(void);
static void test_cut(void);
static void test_limits(void);
static void test_long(void);
static void test_malformed(void);
static void test_errors(void);
static void test_integers(void);

static redisReply *one(const char *text);
static runcoach_reply_rc_e first(size_t max, const char *text, size_t n);


int
main(void)
{
    test_replies();
    test_cut();
    test_limits();
    test_long();
    test_malformed();
    test_errors();
    test_integers();

    return done();
}


static redisReply *
one(const char *text)
{
    redisReply                       *reply;
    static runcoach_reply_reader_t   *reader;

    /* the one before has had its time */

    runcoach_reply_reader_free(reader);

    reply = NULL;
    reader = runcoach_reply_reader_create(1024);

    if (runcoach_reply_feed(reader, text, strlen(text)) != RUNCOACH_REPLY_OK
        || runcoach_reply_next(reader, &reply) != RUNCOACH_REPLY_OK)
    {
        ok(0, "not a reply: %s", text);
    }

    return reply;
}


static runcoach_reply_rc_e
first(size_t max, const char *text, size_t n)
{
    redisReply               *reply;
    runcoach_reply_rc_e       rc;
    runcoach_reply_reader_t  *reader;

    reader = runcoach_reply_reader_create(max);

    rc = runcoach_reply_feed(reader, text, n);

    if (rc == RUNCOACH_REPLY_OK) {
        rc = runcoach_reply_next(reader, &reply);
    }

    runcoach_reply_reader_free(reader);

    return rc;
}


static void
test_replies(void)
{
    redisReply               *reply;
    runcoach_reply_reader_t  *reader;

    static const char  text[] = "+OK\r\n:-7\r\n$-1\r\n$3\r\na\0b\r\n*-1\r\n"
                                "*2\r\n:1\r\n*1\r\n+x\r\n";

    reader = runcoach_reply_reader_create(1024);

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_AGAIN,
       "nothing yet");
    ok(runcoach_reply_feed(reader, text, sizeof(text) - 1)
       == RUNCOACH_REPLY_OK, "six at once");

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_OK
       && reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0,
       "status");

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_OK
       && reply->type == REDIS_REPLY_INTEGER && reply->integer == -7,
       "integer");

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_OK
       && reply->type == REDIS_REPLY_NIL, "no string");

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_OK
       && reply->type == REDIS_REPLY_STRING && reply->len == 3
       && memcmp(reply->str, "a\0b", 3) == 0, "string with a NUL");

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_OK
       && reply->type == REDIS_REPLY_NIL, "no array");

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_OK
       && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2
       && reply->element[1]->elements == 1
       && strcmp(reply->element[1]->element[0]->str, "x") == 0,
       "array in an array");

    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_AGAIN
       && reply == NULL, "and no more");

    runcoach_reply_reader_free(reader);
    runcoach_reply_reader_free(NULL);
}


static void
test_cut(void)
{
    int                       good;
    size_t                    cut, n;
    redisReply               *reply;
    runcoach_reply_rc_e       before;
    runcoach_reply_reader_t  *reader;

    static const char  text[] = "*3\r\n:1\r\n$2\r\nab\r\n-ERR x\r\n";

    n = sizeof(text) - 1;
    good = 0;

    for (cut = 1; cut < n; cut++) {

        /* of just the length that is allowed */

        reader = runcoach_reply_reader_create(n);

        if (runcoach_reply_feed(reader, text, cut) != RUNCOACH_REPLY_OK) {
            break;
        }

        before = runcoach_reply_next(reader, &reply);

        if (runcoach_reply_feed(reader, text + cut, n - cut)
            != RUNCOACH_REPLY_OK)
        {
            break;
        }

        good += (before == RUNCOACH_REPLY_AGAIN
                 && runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_OK
                 && reply->elements == 3
                 && strcmp(reply->element[1]->str, "ab") == 0
                 && strcmp(reply->element[2]->str, "ERR x") == 0);

        runcoach_reply_reader_free(reader);
    }

    ok(good == (int) n - 1, "cut in two at each of %d places", good);
}


static void
test_limits(void)
{
    char                      text[256];
    size_t                    i;
    redisReply               *reply;
    runcoach_reply_rc_e       rc;
    runcoach_reply_reader_t  *reader;

    static const char *const  announced[] = {
        "*2147483647\r\n", "*2147483648\r\n", "*9999999999\r\n", "*-2\r\n",
        "*35\r\n", "*34\r\n*1\r\n", "*1\r\n*33\r\n*1\r\n"
    };

    /* "$94\r\n" ... "\r\n" are 101 bytes */

    memset(text, 'x', sizeof(text));
    memcpy(text, "$94\r\n", 5);
    memcpy(text + 99, "\r\n+\r\n", 5);

    ok(first(101, text, 101) == RUNCOACH_REPLY_OK, "as long as is allowed");
    ok(first(100, text, 101) == RUNCOACH_REPLY_TOO_LARGE, "one byte longer");
    ok(first(101, text, 104) == RUNCOACH_REPLY_OK, "with the next behind it");
    ok(first(99, text, 99) == RUNCOACH_REPLY_AGAIN, "not yet too long");
    ok(first(99, text, 100) == RUNCOACH_REPLY_TOO_LARGE, "too long, unfinished");

    for (i = 0; i < sizeof(announced) / sizeof(announced[0]); i++) {
        rc = first(102, announced[i], strlen(announced[i]));

        /* versions of hiredis take some of them for malformed */

        ok(rc == RUNCOACH_REPLY_TOO_LARGE || rc == RUNCOACH_REPLY_MALFORMED,
           "announced: %.*s", (int) strcspn(announced[i], "\r"),
           announced[i]);
    }

    ok(first(102, "*34\r\n", 5) == RUNCOACH_REPLY_AGAIN, "announced: *34");
    ok(first(102, "$536870911\r\n", 12) == RUNCOACH_REPLY_AGAIN,
       "an announced string costs nothing");

    /* each reply has all of it */

    reader = runcoach_reply_reader_create(20);

    for (i = 0; i < 100; i++) {

        if (runcoach_reply_feed(reader, "*3\r\n:1\r\n:2\r\n:3\r\n*3\r", 19)
            != RUNCOACH_REPLY_OK
            || runcoach_reply_next(reader, &reply) != RUNCOACH_REPLY_OK)
        {
            break;
        }


        if (runcoach_reply_feed(reader, "\n:1\r\n:2\r\n:3\r\n", 13)
            != RUNCOACH_REPLY_OK
            || runcoach_reply_next(reader, &reply) != RUNCOACH_REPLY_OK)
        {
            break;
        }

    }

    ok(i == 100, "many, one after the other");

    runcoach_reply_reader_free(reader);
}


/* longer than a block, by one string and by many elements */

static void
test_long(void)
{
    char                     *text, *p;
    size_t                    i, n;
    redisReply               *reply;
    runcoach_reply_reader_t  *reader;

    n = 0;
    text = malloc(65536);
    reader = runcoach_reply_reader_create(65536);

    for (i = 0; i < 3; i++) {
        memset(text, 'x', 20012);
        memcpy(text, "*2\r\n$20000\r\n", 12);
        p = text + 20012;
        p += sprintf(p, "\r\n*1000\r\n");

        for (n = 0; n < 1000; n++) {
            p += sprintf(p, "$%d\r\n%03zu\r\n", 3, n);
        }

        if (runcoach_reply_feed(reader, text, p - text) != RUNCOACH_REPLY_OK
            || runcoach_reply_next(reader, &reply) != RUNCOACH_REPLY_OK
            || reply->element[0]->len != 20000
            || strspn(reply->element[0]->str, "x") != 20000)
        {
            break;
        }

        for (n = 0; n < 1000; n++) {

            if (strtol(reply->element[1]->element[n]->str, NULL, 10)
                != (long) n)
            {
                break;
            }
        }
    }

    ok(i == 3 && n == 1000, "long ones, again and again");
    ok(runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_AGAIN,
       "and no more");

    runcoach_reply_reader_free(reader);
    free(text);
}


static void
test_malformed(void)
{
    size_t                    i;
    redisReply               *reply;
    runcoach_reply_reader_t  *reader;

    static const char *const  texts[] = {
        "HTTP/1.1 400 Bad Request\r\n", "*1\r\n*x\r\n", ":abc\r\n", ":\r\n",
        "$-2\r\n"
    };

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        reader = runcoach_reply_reader_create(1024);

        ok(runcoach_reply_feed(reader, texts[i], strlen(texts[i]))
           == RUNCOACH_REPLY_OK
           && runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_MALFORMED
           && reply == NULL && runcoach_reply_text(reader)[0] != '\0',
           "malformed %zu: %s", i, runcoach_reply_text(reader));

        ok(runcoach_reply_feed(reader, "+OK\r\n", 5)
           == RUNCOACH_REPLY_MALFORMED
           && runcoach_reply_next(reader, &reply) == RUNCOACH_REPLY_MALFORMED,
           "for good");

        runcoach_reply_reader_free(reader);
    }
}


static void
test_errors(void)
{
    size_t       i;
    redisReply  *reply;

    static const struct {
        const char              *text;
        runcoach_reply_error_e   error;
    } rows[] = {
        { "-NOAUTH Authentication required.\r\n", RUNCOACH_REPLY_NO_AUTH },
        { "-NOAUTH\r\n", RUNCOACH_REPLY_NO_AUTH },
        { "-NOAUTHX\r\n", RUNCOACH_REPLY_GOES_ON },
        { "+NOAUTH\r\n", RUNCOACH_REPLY_GOES_ON },
        { "-READONLY You can't write\r\n", RUNCOACH_REPLY_REPLICA },
        { "-ERR Error running script (call to f_0): @user_script:30: "
          "@user_script: 30: -READONLY You can't write\r\n",
          RUNCOACH_REPLY_REPLICA },
        { "-ERR max number of clients reached\r\n", RUNCOACH_REPLY_TOO_MANY },
        { "-DENIED Redis is running in protected mode because protected "
          "mode is enabled\r\n", RUNCOACH_REPLY_DENIED },
        { "-ERR\r\n", RUNCOACH_REPLY_GOES_ON },
        { "-\r\n", RUNCOACH_REPLY_GOES_ON },
        { "-OOM command not allowed\r\n", RUNCOACH_REPLY_GOES_ON },
        { ":1\r\n", RUNCOACH_REPLY_GOES_ON },
        { "*1\r\n-NOAUTH x\r\n", RUNCOACH_REPLY_GOES_ON }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        reply = one(rows[i].text);

        ok(runcoach_reply_error(reply) == rows[i].error, "%.*s",
           (int) strcspn(rows[i].text, "\r"), rows[i].text);

    }

    reply = one("-NOSCRIPT No matching script.\r\n");
    ok(runcoach_reply_is_error(reply, "NOSCRIPT"), "NOSCRIPT");
    ok(!runcoach_reply_is_error(reply, "NO"), "by its whole code");
}


static void
test_integers(void)
{
    size_t       i;
    int64_t      values[3];
    redisReply  *reply;

    static const char *const  others[] = {
        ":1\r\n", "$-1\r\n", "*-1\r\n", "*2\r\n:1\r\n+2\r\n",
        "*1\r\n*1\r\n:1\r\n", "*2\r\n:1\r\n$-1\r\n",
        "*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n"
    };

    reply = one("*3\r\n:1\r\n:-9223372036854775808\r\n"
                ":9223372036854775807\r\n");

    ok(runcoach_reply_integers(reply, values, 3) == 3 && values[0] == 1
       && values[1] == INT64_MIN && values[2] == INT64_MAX, "integers");
    ok(runcoach_reply_integers(reply, values, 2) == -1, "no room");

    reply = one("*0\r\n");
    ok(runcoach_reply_integers(reply, values, 3) == 0, "none");

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        reply = one(others[i]);
        ok(runcoach_reply_integers(reply, values, 3) == -1,
           "other than integers, %zu", i);
    }
}
