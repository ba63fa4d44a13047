
/*
 * URLs that are out.  The edge tells of each PUT that it has signed, in a
 * Redis stream and without waiting for an answer:
 *
 *     XADD runcoach:uploads MAXLEN ~ 10000 *
 *          key       KEY        of the object, not encoded
 *          user      SUBJECT    $runcoach_user: digits are the number of a row,
 *                               all else is a Clerk id
 *          method    PUT        URLs of other methods are not announced, and
 *                               skipped
 *          object    NUMBER     $runcoach_object: an activity, or provisional
 *          size      BYTES      if the client has stated it, else empty
 *          checksum  SHA-256    the same, base64 or hexadecimal
 *          expires   SECONDS    Unix time at which the URL ends
 *
 * Fields may be in any order and unknown ones are skipped; size and checksum
 * may be absent.  The time in the entry's id is when the URL was made.  What
 * the stream loses costs a client that does not come back its completion,
 * nothing else.
 */


#ifndef _ANNOUNCE_H_INCLUDED_
#define _ANNOUNCE_H_INCLUDED_


#include "jobs.h"


#define ANNOUNCE_STREAM  "runcoach:uploads"


/*
 * Reads the stream until the descriptor stop becomes readable, and records
 * what it says as jobs of kind check_upload.  0, or -1 if it could not begin.
 */

int announce_run(const config_t *cf, int stop)
    __attribute__((warn_unused_result));


/*
 * Pure: the JSON object that args of the job will be, or NULL: not an
 * announcement.  fields are pairs of strings; id is that of the entry.
 */

json_t *announce_parse(const char *id, const char *const *fields, size_t n);


/* the job: completes what has been uploaded under the key */

job_rc_e announce_check(worker_t *w, const job_t *job, job_result_t *result);


#endif /* _ANNOUNCE_H_INCLUDED_ */
