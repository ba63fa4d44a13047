
/*
 * Signs what it is given on standard input with lib/, for comparing with other
 * signers and for asking other servers: a list of objects with method,
 * endpoint, bucket, virtual, key, time, expires, headers, query, access_key,
 * secret_key, region and session_token.  The answer is a list of URLs, null
 * for what is refused.
 */


#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "runcoach_sigv4.h"


static int presign(json_t *answers, const json_t *c);
static size_t pairs(runcoach_sigv4_pair_t *pair, const json_t *object);
static runcoach_str_t string(const json_t *object, const char *name);
static runcoach_str_t text(const json_t *value);


int
main(void)
{
    int           rc;
    size_t        i;
    json_t       *cases, *answers, *c;
    json_error_t  error;

    rc = 1;
    answers = json_array();
    cases = json_loadf(stdin, 0, &error);

    if (!json_is_array(cases)) {
        fprintf(stderr, "presign: not a list: %s\n", error.text);
        goto done;
    }

    json_array_foreach(cases, i, c) {
        if (presign(answers, c) != 0) {
            goto done;
        }
    }

    rc = json_dumpf(answers, stdout, JSON_COMPACT) == 0 ? 0 : 1;

done:

    json_decref(cases);
    json_decref(answers);

    return rc;
}


static int
presign(json_t *answers, const json_t *c)
{
    char                          base[128], virtual[256];
    u_char                        url[RUNCOACH_SIGV4_MAX_URL];
    size_t                        n;
    const char                   *endpoint, *host;
    runcoach_sigv4_rc_e           rc;
    runcoach_sigv4_pair_t         headers[RUNCOACH_SIGV4_MAX_PAIRS];
    runcoach_sigv4_pair_t         query[RUNCOACH_SIGV4_MAX_PAIRS];
    runcoach_sigv4_request_t      request;
    runcoach_sigv4_day_key_t      day;
    runcoach_sigv4_credential_t   cred;

    memset(&day, 0, sizeof(day));
    memset(&request, 0, sizeof(request));

    cred.access_key = string(c, "access_key");
    cred.secret_key = string(c, "secret_key");
    cred.region = string(c, "region");
    cred.session_token = string(c, "session_token");

    endpoint = json_string_value(json_object_get(c, "endpoint"));
    host = endpoint != NULL ? strstr(endpoint, "://") : NULL;

    if (host == NULL) {
        fprintf(stderr, "presign: no endpoint\n");
        return -1;
    }

    request.scheme.data = (const u_char *) endpoint;
    request.scheme.len = host - endpoint;
    request.host.data = (const u_char *) host + 3;
    request.host.len = strlen(host + 3);

    n = snprintf(base, sizeof(base), "/%s",
                 json_string_value(json_object_get(c, "bucket")));

    request.base.data = (const u_char *) base;
    request.base.len = n < sizeof(base) ? n : sizeof(base) - 1;

    if (json_is_true(json_object_get(c, "virtual"))) {
        n = snprintf(virtual, sizeof(virtual), "%s.%s", base + 1, host + 3);

        request.host.data = (const u_char *) virtual;
        request.host.len = n < sizeof(virtual) ? n : sizeof(virtual) - 1;
        request.base.len = 0;
    }

    request.method = string(c, "method");
    request.key = string(c, "key");
    request.now = json_integer_value(json_object_get(c, "time"));
    request.expires = json_integer_value(json_object_get(c, "expires"));
    request.headers = headers;
    request.nheaders = pairs(headers, json_object_get(c, "headers"));
    request.query = query;
    request.nquery = pairs(query, json_object_get(c, "query"));

    rc = runcoach_sigv4_presign(url, sizeof(url), &n, &cred, &day, &request);

    return json_array_append_new(answers, rc == RUNCOACH_SIGV4_OK
                                          ? json_stringn((char *) url, n)
                                          : json_null());
}


static size_t
pairs(runcoach_sigv4_pair_t *pair, const json_t *object)
{
    size_t       n;
    json_t      *value;
    const char  *name;

    n = 0;

    json_object_foreach((json_t *) object, name, value) {
        if (n == RUNCOACH_SIGV4_MAX_PAIRS) {
            break;
        }

        pair[n].name.data = (const u_char *) name;
        pair[n].name.len = strlen(name);
        pair[n].value = text(value);
        n++;
    }

    return n;
}


static runcoach_str_t
string(const json_t *object, const char *name)
{
    return text(json_object_get(object, name));
}


static runcoach_str_t
text(const json_t *value)
{
    runcoach_str_t  s;

    s.data = (const u_char *) json_string_value(value);
    s.len = json_string_length(value);

    return s;
}
