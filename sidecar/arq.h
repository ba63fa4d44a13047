
/*
 * Jobs for a worker of python-arq: a pickle under arq:job:ID and the id in a
 * sorted set.  Nothing of what such a worker writes is ever read here.
 */


#ifndef _ARQ_H_INCLUDED_
#define _ARQ_H_INCLUDED_


#include "jobs.h"


#define ARQ_FUNCTION  "analyze_fit"
#define ARQ_PICKLE    160


/*
 * Pure: the pickle, of protocol 2, of
 *
 *     {'t': None, 'f': 'analyze_fit', 'a': (),
 *      'k': {'activity_id': activity, 'user_id': user}, 'et': ms}
 *
 * into dst of ARQ_PICKLE bytes.  The numbers are not negative.  Returns bytes
 * written.
 */

size_t arq_pickle(u_char *dst, long long activity, long long user,
    long long ms);


/*
 * Puts the job into the queue unless it is there, or has just been done there.
 * 0, or -1: Redis does not answer.
 */

int arq_relay(worker_t *w, const job_t *job)
    __attribute__((warn_unused_result));


#endif /* _ARQ_H_INCLUDED_ */
