
/*
 * Every allocation of OpenSSL fails once: a good signature is then verified, or
 * nobody could tell; it is never called a forgery, nor a forgery good.
 */


#include <stdlib.h>

#include "runcoach_jwks.c"
#include "tap.h"


/* RFC 7515 appendix A.2 */

static const char  document[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k\",\"e\":\"AQAB\",\"n\":\""
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp"
    "-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOW"
    "vG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUs"
    "LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9k"
    "G4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2"
    "PAcDTW9gb54h4FRWyuXpoQ\"}]}";

static const char  text[] =
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0"
    "dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

static const char  signature[] =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh"
    "-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLg"
    "rnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--"
    "xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgG"
    "Y9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";


static int fails(void);
static void *allocate(size_t n, const char *file, int line);
static void *reallocate(void *p, size_t n, const char *file, int line);
static void release(void *p, const char *file, int line);
static runcoach_jwks_verdict_e verify(const runcoach_jwks_t *set, int forged);
static int each(int forged, runcoach_jwks_verdict_e wrong, int *seen);


static int  left = -1;       /* allocations until one fails; -1: none does */
static int  failed;


static int
fails(void)
{
    if (left < 0) {
        return 0;
    }

    if (left == 0) {
        failed = 1;
    }

    return left-- == 0;
}


static void *
allocate(size_t n, const char *file, int line)
{
    (void) file;
    (void) line;

    return fails() ? NULL : malloc(n);
}


static void *
reallocate(void *p, size_t n, const char *file, int line)
{
    (void) file;
    (void) line;

    return fails() ? NULL : realloc(p, n);
}


static void
release(void *p, const char *file, int line)
{
    (void) file;
    (void) line;

    free(p);
}


static runcoach_jwks_verdict_e
verify(const runcoach_jwks_t *set, int forged)
{
    u_char          bytes[256];
    runcoach_str_t  message, sig;

    static const runcoach_str_t  kid = runcoach_string("k");

    sig.data = bytes;
    sig.len = runcoach_base64url_decode(bytes, (const u_char *) signature,
                                        sizeof(signature) - 1);
    bytes[255] ^= forged;

    message.data = (const u_char *) text;
    message.len = sizeof(text) - 1;

    return runcoach_jwks_verify(set, &kid, RUNCOACH_ALG_RS256, &message, &sig);
}


/* the allocations of one verification, each failing in its turn */

static int
each(int forged, runcoach_jwks_verdict_e wrong, int *seen)
{
    int                       n, bad;
    runcoach_jwks_t          *set;
    runcoach_jwks_verdict_e   verdict;

    bad = 0;

    for (n = 0; n < 10000; n++) {

        if (runcoach_jwks_parse(&set, NULL, (const u_char *) document,
                                sizeof(document) - 1)
            != RUNCOACH_JWKS_OK)
        {
            return -1;
        }

        failed = 0;
        left = n;
        verdict = verify(set, forged);
        left = -1;

        bad += (verdict == wrong);
        bad += (verify(set, 0) != RUNCOACH_JWKS_VERIFIED);
        *seen += (verdict == RUNCOACH_JWKS_FAILED);

        runcoach_jwks_free(set);

        if (!failed) {
            break;
        }
    }

    return bad;
}


int
main(void)
{
    int              seen;
    runcoach_jwks_t  *set;

    if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1) {
        printf("1..0 # SKIP OpenSSL has allocated already\n");
        return 0;
    }

    /* what OpenSSL keeps for ever it has then */

    (void) runcoach_jwks_parse(&set, NULL, (const u_char *) document,
                               sizeof(document) - 1);
    ok(verify(set, 0) == RUNCOACH_JWKS_VERIFIED, "verified");
    ok(verify(set, 1) == RUNCOACH_JWKS_FORGED, "forged");
    runcoach_jwks_free(set);

    seen = 0;

    ok(each(0, RUNCOACH_JWKS_FORGED, &seen) == 0,
       "a good signature is never called a forgery");
    ok(each(1, RUNCOACH_JWKS_VERIFIED, &seen) == 0,
       "a forgery is never called good");
    ok(seen > 0, "and without memory nobody can tell");

    return done();
}
