
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "runcoach_endpoint.h"


#define RUNCOACH_ENDPOINT_R2  ".r2.cloudflarestorage.com"

#define RUNCOACH_ENDPOINT_WORD                                                \
    "abcdefghijklmnopqrstuvwxyz0123456789-."
#define RUNCOACH_ENDPOINT_HOST                                                \
    RUNCOACH_ENDPOINT_WORD "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"


static runcoach_endpoint_rc_e runcoach_endpoint_account(runcoach_endpoint_t *e,
    const runcoach_endpoint_conf_t *conf);
static int runcoach_endpoint_url(runcoach_endpoint_t *e,
    const runcoach_str_t *endpoint, const runcoach_str_t *bucket);
static int runcoach_endpoint_host(runcoach_endpoint_t *e,
    const runcoach_str_t *host);
static int runcoach_endpoint_port(const runcoach_str_t *port);
static int runcoach_endpoint_base(runcoach_endpoint_t *e,
    const runcoach_str_t *path, const runcoach_str_t *bucket);
static int runcoach_endpoint_segments(const runcoach_str_t *path);
static runcoach_endpoint_rc_e runcoach_endpoint_virtual(runcoach_endpoint_t *e,
    const runcoach_str_t *bucket);
static int runcoach_endpoint_name(const runcoach_str_t *name);
static int runcoach_endpoint_only(const runcoach_str_t *s, const char *chars);
static int runcoach_endpoint_is(const runcoach_str_t *s, const char *word);


runcoach_endpoint_rc_e
runcoach_endpoint_parse(runcoach_endpoint_t *e,
    const runcoach_endpoint_conf_t *conf)
{
    int                     virtual;
    runcoach_endpoint_t     made;
    runcoach_endpoint_rc_e  rc;

    virtual = runcoach_endpoint_is(&conf->style, "virtual");

    if (!virtual && conf->style.len != 0
        && !runcoach_endpoint_is(&conf->style, "path"))
    {
        return RUNCOACH_ENDPOINT_BAD_STYLE;
    }

    rc = runcoach_endpoint_account(&made, conf);
    if (rc != RUNCOACH_ENDPOINT_OK) {
        return rc;
    }

    if (!runcoach_endpoint_name(&conf->bucket)) {
        return RUNCOACH_ENDPOINT_BAD_BUCKET;
    }

    if (conf->endpoint.len == 0) {
        snprintf(made.base, sizeof(made.base), "/%.*s", (int) conf->bucket.len,
                 (const char *) conf->bucket.data);

    } else if (!runcoach_endpoint_url(&made, &conf->endpoint, &conf->bucket)) {
        return RUNCOACH_ENDPOINT_BAD_URL;
    }

    if (virtual) {
        rc = runcoach_endpoint_virtual(&made, &conf->bucket);
        if (rc != RUNCOACH_ENDPOINT_OK) {
            return rc;
        }
    }

    *e = made;

    return RUNCOACH_ENDPOINT_OK;
}


/* a jurisdiction that is none is a mistake, needed or not */

static runcoach_endpoint_rc_e
runcoach_endpoint_account(runcoach_endpoint_t *e,
    const runcoach_endpoint_conf_t *conf)
{
    const runcoach_str_t  *where;

    where = &conf->jurisdiction;

    if (where->len != 0
        && !runcoach_endpoint_is(where, "eu")
        && !runcoach_endpoint_is(where, "fedramp")
        && !runcoach_endpoint_is(where, "us"))
    {
        return RUNCOACH_ENDPOINT_BAD_JURISDICTION;
    }

    if (conf->endpoint.len != 0) {
        return RUNCOACH_ENDPOINT_OK;
    }

    if (!runcoach_endpoint_name(&conf->account)) {
        return RUNCOACH_ENDPOINT_BAD_ACCOUNT;
    }

    strcpy(e->scheme, "https");
    snprintf(e->host, sizeof(e->host), "%.*s%s%.*s" RUNCOACH_ENDPOINT_R2,
             (int) conf->account.len, (const char *) conf->account.data,
             (where->len != 0) ? "." : "",
             (int) where->len, (const char *) where->data);

    return RUNCOACH_ENDPOINT_OK;
}


static int
runcoach_endpoint_url(runcoach_endpoint_t *e, const runcoach_str_t *endpoint,
    const runcoach_str_t *bucket)
{
    runcoach_str_t   host, path;
    const char      *p, *last, *slash;

    p = (const char *) endpoint->data;
    last = p + endpoint->len;

    while (last > p && last[-1] == '/') {
        last--;
    }

    if (last - p > 8 && strncasecmp(p, "https://", 8) == 0) {
        strcpy(e->scheme, "https");
        p += 8;

    } else if (last - p > 7 && strncasecmp(p, "http://", 7) == 0) {
        strcpy(e->scheme, "http");
        p += 7;

    } else {
        return 0;
    }

    slash = memchr(p, '/', last - p);

    if (slash == NULL) {
        slash = last;
    }

    host.data = (const u_char *) p;
    host.len = slash - p;
    path.data = (const u_char *) slash;
    path.len = last - slash;

    return runcoach_endpoint_host(e, &host)
           && runcoach_endpoint_base(e, &path, bucket);
}


static int
runcoach_endpoint_host(runcoach_endpoint_t *e, const runcoach_str_t *host)
{
    size_t           i;
    u_char           c;
    const char      *standard;
    const u_char    *end;
    runcoach_str_t   name, port;

    name = *host;

    if (name.len != 0 && name.data[0] == '[') {
        end = memchr(name.data, ']', name.len);

        if (end == NULL) {
            return 0;
        }

        name.data++;
        name.len = end - name.data;

        if (!runcoach_endpoint_only(&name, "0123456789abcdefABCDEF:.")) {
            return 0;
        }

        name.data--;
        name.len += 2;

    } else {
        end = memchr(name.data, ':', name.len);
        name.len = (end == NULL) ? name.len : (size_t) (end - name.data);

        if (!runcoach_endpoint_only(&name, RUNCOACH_ENDPOINT_HOST)) {
            return 0;
        }
    }

    if (name.len > RUNCOACH_ENDPOINT_MAX_HOST) {
        return 0;
    }

    port.data = name.data + name.len;
    port.len = host->len - name.len;

    if (!runcoach_endpoint_port(&port)) {
        return 0;
    }

    /* the default port is not part of what is signed */

    standard = (strcmp(e->scheme, "https") == 0) ? ":443" : ":80";

    if (port.len == 1 || runcoach_endpoint_is(&port, standard)) {
        port.len = 0;
    }

    for (i = 0; i < name.len; i++) {
        c = name.data[i];
        e->host[i] = (char) ((c >= 'A' && c <= 'Z') ? (c | 0x20) : c);
    }

    memcpy(e->host + i, port.data, port.len);
    e->host[i + port.len] = '\0';

    return 1;
}


/* nothing, or ":" and 1 to 65535 without zeros before it, or ":" alone */

static int
runcoach_endpoint_port(const runcoach_str_t *port)
{
    long    n;
    size_t  i;

    if (port->len < 2) {
        return port->len == 0 || port->data[0] == ':';
    }

    if (port->data[0] != ':' || port->data[1] == '0' || port->len > 6) {
        return 0;
    }

    n = 0;

    for (i = 1; i < port->len; i++) {

        if (port->data[i] < '0' || port->data[i] > '9') {
            return 0;
        }

        n = n * 10 + (port->data[i] - '0');
    }

    return n <= 65535;
}


static int
runcoach_endpoint_base(runcoach_endpoint_t *e, const runcoach_str_t *path,
    const runcoach_str_t *bucket)
{
    size_t  n;

    n = path->len;

    if (n > RUNCOACH_ENDPOINT_MAX_PATH
        || (n != 0 && !runcoach_endpoint_only(path,
                                              RUNCOACH_ENDPOINT_HOST "~/"))
        || !runcoach_endpoint_segments(path))
    {
        return 0;
    }

    if (n > bucket->len && path->data[n - bucket->len - 1] == '/'
        && memcmp(path->data + n - bucket->len, bucket->data, bucket->len) == 0)
    {
        n -= bucket->len + 1;
    }

    snprintf(e->base, sizeof(e->base), "%.*s/%.*s", (int) n,
             (const char *) path->data, (int) bucket->len,
             (const char *) bucket->data);

    return 1;
}


/* clients normalize these, and what they send is not what was signed */

static int
runcoach_endpoint_segments(const runcoach_str_t *path)
{
    size_t         n;
    const u_char  *p, *last, *slash;

    last = path->data + path->len;

    for (p = path->data; p < last; p = slash) {
        p++;

        slash = memchr(p, '/', last - p);
        if (slash == NULL) {
            slash = last;
        }

        n = slash - p;

        if (n == 0 || (n <= 2 && memcmp(p, "..", n) == 0)) {
            return 0;
        }
    }

    return 1;
}


/* the certificate of a store is for one label before its name */

static runcoach_endpoint_rc_e
runcoach_endpoint_virtual(runcoach_endpoint_t *e, const runcoach_str_t *bucket)
{
    size_t  n;

    if (memchr(bucket->data, '.', bucket->len) != NULL) {
        return RUNCOACH_ENDPOINT_DOTTED;
    }

    n = strspn(e->host, "0123456789.");

    if (e->host[0] == '[' || e->host[n] == '\0' || e->host[n] == ':') {
        return RUNCOACH_ENDPOINT_ADDRESS;
    }

    memmove(e->host + bucket->len + 1, e->host, strlen(e->host) + 1);
    memcpy(e->host, bucket->data, bucket->len);
    e->host[bucket->len] = '.';

    e->base[strlen(e->base) - bucket->len - 1] = '\0';

    return RUNCOACH_ENDPOINT_OK;
}


static int
runcoach_endpoint_name(const runcoach_str_t *name)
{
    return name->len >= 3 && name->len <= RUNCOACH_ENDPOINT_MAX_NAME
           && name->data[0] != '.'
           && runcoach_endpoint_only(name, RUNCOACH_ENDPOINT_WORD);
}


/* not empty, and of these characters */

static int
runcoach_endpoint_only(const runcoach_str_t *s, const char *chars)
{
    size_t  i;

    for (i = 0; i < s->len; i++) {
        if (s->data[i] == '\0' || strchr(chars, s->data[i]) == NULL) {
            return 0;
        }
    }

    return s->len != 0;
}


static int
runcoach_endpoint_is(const runcoach_str_t *s, const char *word)
{
    return s->len == strlen(word) && memcmp(s->data, word, s->len) == 0;
}
