
/*
 * The input is lines: key, value of a header, name and value of an argument,
 * session token, and two numbers that choose a byte and a bit.  What could be
 * signed verifies, until that bit is turned.  Then the input is a target that
 * arrives, which nobody has signed.
 */


#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_sigv4.h"


#define NOW    1795167000
#define LINES  6


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void split(runcoach_str_t lines[LINES], const uint8_t *data,
    size_t size);
static void sign(const runcoach_str_t lines[LINES]);
static int header(void *data, const runcoach_str_t *name,
    runcoach_str_t *value);
static runcoach_sigv4_rc_e verify(const u_char *target, size_t n,
    const runcoach_sigv4_credential_t *cred,
    const runcoach_sigv4_request_t *request);
static size_t number(const runcoach_str_t *line);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


static const runcoach_sigv4_credential_t  keys = {
    runcoach_string("AK"), runcoach_string("secret"), runcoach_string("auto"),
    { 0, NULL }
};

static runcoach_sigv4_day_key_t  day;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    runcoach_str_t            lines[LINES];
    runcoach_sigv4_request_t  request;

    if (size > 16384) {
        return 0;
    }

    split(lines, data, size);
    sign(lines);

    memset(&request, 0, sizeof(request));
    holds(verify(data, size, &keys, &request) != RUNCOACH_SIGV4_OK);

    return 0;
}


static void
split(runcoach_str_t lines[LINES], const uint8_t *data, size_t size)
{
    int             i;
    const uint8_t  *end, *last;

    last = data + size;

    for (i = 0; i < LINES; i++) {
        end = (data < last) ? memchr(data, '\n', last - data) : NULL;

        if (end == NULL) {
            end = last;
        }

        lines[i].data = data;
        lines[i].len = end - data;

        data = end + (end < last);
    }
}


static void
sign(const runcoach_str_t lines[LINES])
{
    size_t                        n, host, i;
    u_char                       *url, *target;
    runcoach_sigv4_rc_e           rc;
    runcoach_sigv4_pair_t         bound, query;
    runcoach_sigv4_request_t      request;
    runcoach_sigv4_credential_t   cred;

    static const runcoach_str_t  method = runcoach_string("PUT");
    static const runcoach_str_t  scheme = runcoach_string("https");
    static const runcoach_str_t  name = runcoach_string("h.example");
    static const runcoach_str_t  base = runcoach_string("/b");
    static const runcoach_str_t  type = runcoach_string("content-type");

    cred = keys;
    cred.session_token = lines[4];

    bound.name = type;
    bound.value = lines[1];
    query.name = lines[2];
    query.value = lines[3];

    request.method = method;
    request.scheme = scheme;
    request.host = name;
    request.base = base;
    request.key = lines[0];
    request.now = NOW;
    request.expires = 300;
    request.headers = &bound;
    request.nheaders = (lines[1].len != 0);
    request.query = &query;
    request.nquery = (lines[2].len != 0);

    url = malloc(RUNCOACH_SIGV4_MAX_URL);
    holds(url != NULL);

    rc = runcoach_sigv4_presign(url, RUNCOACH_SIGV4_MAX_URL, &n, &cred, &day,
                                &request);

    if (rc != RUNCOACH_SIGV4_OK) {
        holds(n == 0);
        free(url);
        return;
    }

    holds(runcoach_sigv4_check_key(request.key.data, request.key.len)
          == RUNCOACH_SIGV4_OK);

    host = scheme.len + 3 + name.len;
    target = url + host;
    n -= host;

    holds(verify(target, n, &cred, &request) == RUNCOACH_SIGV4_OK);

    i = number(&lines[5]);
    target[(i >> 3) % n] ^= (u_char) (1 << (i & 7));

    holds(verify(target, n, &cred, &request) != RUNCOACH_SIGV4_OK);

    free(url);
}


static size_t
number(const runcoach_str_t *line)
{
    size_t  i, value;

    value = 0;

    for (i = 0; i < line->len; i++) {
        value = value * 31 + line->data[i];
    }

    return value;
}


static runcoach_sigv4_rc_e
verify(const u_char *target, size_t n, const runcoach_sigv4_credential_t *cred,
    const runcoach_sigv4_request_t *request)
{
    size_t                    npath;
    u_char                   *path, *args;
    const u_char             *mark;
    runcoach_sigv4_rc_e       rc;
    runcoach_sigv4_signed_t   arrived;

    static const runcoach_str_t  method = runcoach_string("PUT");
    static const runcoach_str_t  base = runcoach_string("/b");

    mark = (n != 0) ? memchr(target, '?', n) : NULL;
    npath = (mark != NULL) ? (size_t) (mark - target) : n;

    arrived.method = method;
    arrived.base = base;
    arrived.path.len = npath;
    arrived.args.len = (mark != NULL) ? n - npath - 1 : 0;
    arrived.now = NOW;
    arrived.header = header;
    arrived.data = (void *) request;

    path = malloc(arrived.path.len + 1);
    args = malloc(arrived.args.len + 1);
    holds(path != NULL && args != NULL);

    /* to the end of what was allocated, so that a byte more is seen */

    arrived.path.data = path + 1;
    arrived.args.data = args + 1;

    if (npath != 0) {
        memcpy(path + 1, target, npath);
    }

    if (arrived.args.len != 0) {
        memcpy(args + 1, mark + 1, arrived.args.len);
    }

    rc = runcoach_sigv4_verify(cred, &day, &arrived);
    holds(runcoach_sigv4_reason(rc) != NULL);

    free(path);
    free(args);

    return rc;
}


static int
header(void *data, const runcoach_str_t *name, runcoach_str_t *value)
{
    runcoach_sigv4_request_t  *request;

    static const runcoach_str_t  host = runcoach_string("h.example");

    request = data;

    if (name->len == 4 && memcmp(name->data, "host", 4) == 0) {
        *value = host;
        return 1;
    }

    if (request->nheaders == 1 && request->headers[0].name.len == name->len
        && memcmp(request->headers[0].name.data, name->data, name->len) == 0)
    {
        *value = request->headers[0].value;
        return 1;
    }

    return 0;
}
