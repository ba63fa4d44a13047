
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "fit.h"
#include "inflate.h"
#include "jobs.h"


/* FIT packs to a third at most: what unpacks to more than this is a trap */

#define ANALYZE_RATIO  8
#define ANALYZE_LIMIT  1073741824


static int analyze_checksum(const u_char *data, size_t n, const char *hex);
static job_rc_e analyze_file(const u_char *data, size_t n, int packed,
    job_result_t *result);
static job_rc_e analyze_fail(job_result_t *result, job_rc_e rc,
    const char *error);


job_rc_e
analyze(worker_t *w, const job_t *job, job_result_t *result)
{
    int        packed;
    size_t     n, len, limit;
    u_char    *data, *plain;
    job_rc_e   rc;

    plain = NULL;
    data = NULL;

    switch (r2_get(w->r2, job->key, job->etag, w->cf->max_file_size, &data, &n))
    {
    case R2_OK:
        break;

    case R2_NOT_FOUND:
        return analyze_fail(result, JOB_FAILED,
                            "the object is not in the store any more");

    case R2_CHANGED:
        return analyze_fail(result, JOB_FAILED,
                            "the object was changed after it was confirmed");

    case R2_TOO_LARGE:
        return analyze_fail(result, JOB_FAILED, "the object is too large");

    default:
        return analyze_fail(result, JOB_RETRY, "the store did not answer");
    }

    if (job->checksum != NULL && !analyze_checksum(data, n, job->checksum)) {
        rc = analyze_fail(result, JOB_FAILED,
                          "the SHA-256 is not the one that was stated");
        goto done;
    }

    packed = inflate_is_gzip(data, n);

    if (!packed) {
        rc = analyze_file(data, n, 0, result);
        goto done;
    }

    limit = ANALYZE_RATIO * w->cf->max_file_size;

    if (limit > ANALYZE_LIMIT) {
        limit = ANALYZE_LIMIT;
    }

    switch (inflate_gzip(data, n, limit, &plain, &len)) {

    case INFLATE_OK:
        rc = analyze_file(plain, len, 1, result);
        break;

    case INFLATE_TOO_LARGE:
        rc = analyze_fail(result, JOB_FAILED,
                          "the gzip file unpacks to too much");
        break;

    case INFLATE_NO_MEMORY:
        rc = analyze_fail(result, JOB_RETRY, "no memory to unpack the file");
        break;

    default:
        rc = analyze_fail(result, JOB_FAILED, "the gzip file is damaged");
        break;
    }

done:

    free(plain);
    free(data);

    return rc;
}


static int
analyze_checksum(const u_char *data, size_t n, const char *hex)
{
    char           text[2 * EVP_MAX_MD_SIZE + 1];
    unsigned       i, len;
    unsigned char  digest[EVP_MAX_MD_SIZE];

    if (EVP_Digest(data, n, digest, &len, EVP_sha256(), NULL) != 1) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }

    return strcmp(text, hex) == 0;
}


static job_rc_e
analyze_file(const u_char *data, size_t n, int packed, job_result_t *result)
{
    char         protocol[16], profile[16];
    json_t      *json;
    fit_check_t  check;

    if (fit_check(data, n, &check) != FIT_OK) {
        snprintf(result->error, sizeof(result->error), "%s (at byte %zu)",
                 check.reason, check.offset);
        return JOB_FAILED;
    }

    snprintf(protocol, sizeof(protocol), "%d.%d", check.protocol >> 4,
             check.protocol & 15);
    snprintf(profile, sizeof(profile), "%d.%02d", check.profile / 100,
             check.profile % 100);

    json = json_pack("{s: I, s: i, s: s, s: s, s: b}",
                     "bytes", (json_int_t) n, "files", (int) check.files,
                     "protocol", protocol, "profile", profile,
                     "compressed", packed);

    result->analysis = (json == NULL) ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);

    return (result->analysis == NULL)
           ? analyze_fail(result, JOB_RETRY, "no memory for the result")
           : JOB_DONE;
}


static job_rc_e
analyze_fail(job_result_t *result, job_rc_e rc, const char *error)
{
    snprintf(result->error, sizeof(result->error), "%s", error);

    return rc;
}
