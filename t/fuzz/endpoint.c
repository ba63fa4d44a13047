
/*
 * Where a store is: lines of the input are what an operator sets.  What is
 * accepted can be signed for, and is the same when it is read again.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_endpoint.h"
#include "runcoach_sigv4.h"


#define LINES  5


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_signed(const runcoach_endpoint_t *e);
static void check_again(const runcoach_endpoint_t *e,
    const runcoach_str_t *bucket);
static runcoach_str_t string(const char *s);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                     i;
    const uint8_t             *p, *end, *last;
    runcoach_str_t             lines[LINES];
    runcoach_endpoint_t        e;
    runcoach_endpoint_conf_t   conf;

    p = data;
    last = data + size;

    for (i = 0; i < LINES; i++) {
        end = (p < last) ? memchr(p, '\n', last - p) : NULL;
        end = (end == NULL) ? last : end;

        lines[i].data = p;
        lines[i].len = end - p;

        p = (end < last) ? end + 1 : last;
    }

    conf.endpoint = lines[0];
    conf.account = lines[1];
    conf.jurisdiction = lines[2];
    conf.bucket = lines[3];
    conf.style = lines[4];

    memset(&e, 0xff, sizeof(e));

    if (runcoach_endpoint_parse(&e, &conf) != RUNCOACH_ENDPOINT_OK) {
        return 0;
    }

    holds(memchr(e.scheme, '\0', sizeof(e.scheme)) != NULL);
    holds(memchr(e.host, '\0', sizeof(e.host)) != NULL);
    holds(memchr(e.base, '\0', sizeof(e.base)) != NULL);

    check_signed(&e);

    if (conf.style.len != sizeof("virtual") - 1) {
        check_again(&e, &conf.bucket);
    }

    return 0;
}


static void
check_signed(const runcoach_endpoint_t *e)
{
    size_t                        n;
    u_char                        url[RUNCOACH_SIGV4_MAX_URL];
    runcoach_sigv4_request_t      request;
    runcoach_sigv4_credential_t   cred;

    static runcoach_sigv4_day_key_t  day;

    memset(&request, 0, sizeof(request));
    memset(&cred, 0, sizeof(cred));

    cred.access_key = string("a");
    cred.secret_key = string("s");
    cred.region = string("auto");

    request.method = string("GET");
    request.scheme = string(e->scheme);
    request.host = string(e->host);
    request.base = string(e->base);
    request.key = string("k");
    request.now = 1795166400;
    request.expires = 60;

    holds(runcoach_sigv4_presign(url, sizeof(url), &n, &cred, &day, &request)
          == RUNCOACH_SIGV4_OK);

    request.key = string("");
    request.bucket = 1;

    holds(runcoach_sigv4_presign(url, sizeof(url), &n, &cred, &day, &request)
          == RUNCOACH_SIGV4_OK);
}


static void
check_again(const runcoach_endpoint_t *e, const runcoach_str_t *bucket)
{
    char                       whole[sizeof(runcoach_endpoint_t) + 8];
    runcoach_endpoint_t        again;
    runcoach_endpoint_conf_t   conf;

    snprintf(whole, sizeof(whole), "%s://%s%s", e->scheme, e->host, e->base);

    memset(&conf, 0, sizeof(conf));
    conf.endpoint = string(whole);
    conf.bucket = *bucket;

    /* the bucket may make a path longer than what is taken */

    if (strlen(e->base) > RUNCOACH_ENDPOINT_MAX_PATH) {
        return;
    }

    holds(runcoach_endpoint_parse(&again, &conf) == RUNCOACH_ENDPOINT_OK);
    holds(strcmp(again.scheme, e->scheme) == 0);
    holds(strcmp(again.host, e->host) == 0);
    holds(strcmp(again.base, e->base) == 0);
}


static runcoach_str_t
string(const char *s)
{
    runcoach_str_t  str;

    str.data = (const u_char *) s;
    str.len = strlen(s);

    return str;
}
