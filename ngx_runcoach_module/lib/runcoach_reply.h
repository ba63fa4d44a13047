
/*
 * Replies of Redis: from bytes as they come to what they mean.  hiredis is the
 * codec; a reply is made in memory which is used again for the next one, so
 * that what is short is not allocated.  Pure: whoever reads a socket feeds it.
 */


#ifndef _RUNCOACH_REPLY_H_INCLUDED_
#define _RUNCOACH_REPLY_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include <hiredis/hiredis.h>


typedef struct runcoach_reply_reader_s  runcoach_reply_reader_t;


typedef enum {
    RUNCOACH_REPLY_OK = 0,
    RUNCOACH_REPLY_AGAIN,       /* more bytes are needed */
    RUNCOACH_REPLY_TOO_LARGE,
    RUNCOACH_REPLY_MALFORMED,   /* not RESP2 */
    RUNCOACH_REPLY_NO_MEMORY
} runcoach_reply_rc_e;


/* what an error reply says about all further commands of the connection */

typedef enum {
    RUNCOACH_REPLY_GOES_ON = 0,
    RUNCOACH_REPLY_NO_AUTH,     /* it needs a password */
    RUNCOACH_REPLY_REPLICA,     /* READONLY, also from within a script */
    RUNCOACH_REPLY_TOO_MANY,    /* clients */
    RUNCOACH_REPLY_DENIED       /* protected mode */
} runcoach_reply_error_e;


/*
 * A reader of replies of at most max bytes each.  A longer one is refused when
 * more than that has come of it, and an array whose elements could not be that
 * short before they come.  NULL: no memory.
 */

runcoach_reply_reader_t *runcoach_reply_reader_create(size_t max);
void runcoach_reply_reader_free(runcoach_reply_reader_t *reader);


/* takes what has come: OK, or what has been the end of it */

runcoach_reply_rc_e runcoach_reply_feed(runcoach_reply_reader_t *reader,
    const char *data, size_t n) __attribute__((warn_unused_result));


/*
 * The next reply of what was fed.  On OK it is good until the next call of
 * next() or free().  On any other *reply is NULL.  What is not OK or AGAIN is
 * for good: there is nothing more to be had from this reader.
 *
 * However the bytes were divided when they were fed, the replies are the same,
 * and so is whether one of them is refused.
 */

runcoach_reply_rc_e runcoach_reply_next(runcoach_reply_reader_t *reader,
    redisReply **reply) __attribute__((warn_unused_result));


/* after MALFORMED: what was wrong, as long as there is the reader */

const char *runcoach_reply_text(const runcoach_reply_reader_t *reader);


/* 1 if it is an error reply of this code, like "NOSCRIPT" */

int runcoach_reply_is_error(const redisReply *reply, const char *code);


/* GOES_ON is also what is not an error reply */

runcoach_reply_error_e runcoach_reply_error(const redisReply *reply);


/*
 * Reads an array of at most max integers.  Returns how many there are, or -1
 * if the reply is anything else; then values are undefined.
 */

int runcoach_reply_integers(const redisReply *reply, int64_t *values,
    size_t max);


#endif /* _RUNCOACH_REPLY_H_INCLUDED_ */
