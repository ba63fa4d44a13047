
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>

#include "runcoach_redis_url.h"


static const char *runcoach_redis_url_unix(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_tcp(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_user(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_address(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_literal(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_name(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_port(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_database(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_args(runcoach_redis_url_t *url,
    const char *p, const char *last);
static const char *runcoach_redis_url_decode(char *dst, size_t size,
    const char *p, const char *last);

static const char *runcoach_redis_url_find(const char *p, const char *last,
    char c);
static const char *runcoach_redis_url_at(const char *p, const char *last);
static int runcoach_redis_url_number(const char *p, const char *last,
    unsigned max);
static int runcoach_redis_url_hex(char c);


static const char  runcoach_redis_url_form[] =
    "must be like redis://:password@host:6379/0, rediss://host:6380 or "
    "unix:/path/redis.sock";

static const char  runcoach_redis_url_raw[] =
    "has a raw \"/\" or \"?\" in its password: percent-encode it, %2F or %3F";

static const char  runcoach_redis_url_ipv6[] =
    "has an invalid IPv6 address, must be like redis://[::1]:6379";


const char *
runcoach_redis_url_parse(runcoach_redis_url_t *url, const char *src, size_t n)
{
    const char  *p, *last, *args, *error;

    memset(url, 0, sizeof(runcoach_redis_url_t));
    url->port = RUNCOACH_REDIS_URL_PORT;

    p = src;
    last = src + n;
    args = runcoach_redis_url_find(p, last, '?');

    if (n >= 5 && strncasecmp(p, "unix:", 5) == 0) {
        url->local = 1;
        error = runcoach_redis_url_unix(url, p + 5, args);

    } else if (n >= 8 && strncasecmp(p, "redis://", 8) == 0) {
        error = runcoach_redis_url_tcp(url, p + 8, args);

    } else if (n >= 9 && strncasecmp(p, "rediss://", 9) == 0) {
        url->tls = 1;
        error = runcoach_redis_url_tcp(url, p + 9, args);

    } else {
        return runcoach_redis_url_form;
    }

    if (error != NULL) {

        /* a password with a "?" is cut there, and the rest looks like a host */

        return (runcoach_redis_url_at(args, last) != args)
               ? runcoach_redis_url_raw : error;
    }

    error = (args < last) ? runcoach_redis_url_args(url, args + 1, last) : NULL;

    if (error == NULL && url->user[0] != '\0' && url->password[0] == '\0') {
        return "has a user without a password";
    }

    return error;
}


static const char *
runcoach_redis_url_unix(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    const char  *at, *error;

    /* unix:///path, as other clients have it */

    if (last - p >= 2 && p[0] == '/' && p[1] == '/') {
        p += 2;
    }

    at = (p < last && *p != '/') ? runcoach_redis_url_at(p, last) : p;

    if (at != p) {
        error = runcoach_redis_url_user(url, p, at - 1);

        if (error != NULL) {
            return error;
        }
    }

    if (last - at < 2 || *at != '/') {
        return "must have an absolute path of a socket: unix:/path/redis.sock";
    }

    error = runcoach_redis_url_decode(url->host, sizeof(url->host), at, last);

    if (error == NULL && strlen(url->host) > RUNCOACH_REDIS_URL_PATH) {
        return "has a too long path of a socket, 107 bytes are the most";
    }

    return error;
}


static const char *
runcoach_redis_url_tcp(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    const char  *at, *slash, *error;

    slash = runcoach_redis_url_find(p, last, '/');

    if (runcoach_redis_url_at(slash, last) != slash) {
        return runcoach_redis_url_raw;
    }

    /* the last "@", for there are passwords which should have been encoded */

    at = runcoach_redis_url_at(p, slash);

    if (at != p) {
        error = runcoach_redis_url_user(url, p, at - 1);

        if (error != NULL) {
            return error;
        }
    }

    error = runcoach_redis_url_address(url, at, slash);

    if (error != NULL || last - slash < 2) {
        return error;
    }

    return runcoach_redis_url_database(url, slash + 1, last);
}


static const char *
runcoach_redis_url_user(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    const char  *colon, *error;

    colon = runcoach_redis_url_find(p, last, ':');

    if (colon == last) {
        return runcoach_redis_url_decode(url->password, sizeof(url->password),
                                         p, last);
    }

    error = runcoach_redis_url_decode(url->user, sizeof(url->user), p, colon);

    if (error != NULL) {
        return error;
    }

    /* the user that is meant by none, which Redis before 6 does not know */

    if (strcmp(url->user, "default") == 0) {
        url->user[0] = '\0';
    }

    return runcoach_redis_url_decode(url->password, sizeof(url->password),
                                     colon + 1, last);
}


static const char *
runcoach_redis_url_address(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    const char  *end, *error;

    if (p < last && *p == '[') {
        end = runcoach_redis_url_find(p, last, ']');

        if (end == last) {
            return runcoach_redis_url_ipv6;
        }

        error = runcoach_redis_url_literal(url, p + 1, end++);

    } else {
        end = runcoach_redis_url_find(p, last, ':');
        error = runcoach_redis_url_name(url, p, end);
    }

    if (error != NULL || end == last) {
        return error;
    }

    return runcoach_redis_url_port(url, end, last);
}


static const char *
runcoach_redis_url_literal(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    size_t           n;
    struct in6_addr  addr;

    n = last - p;

    if (n >= INET6_ADDRSTRLEN || memchr(p, '\0', n) != NULL) {
        return runcoach_redis_url_ipv6;
    }

    memcpy(url->host, p, n);
    url->host[n] = '\0';

    return (inet_pton(AF_INET6, url->host, &addr) == 1)
           ? NULL : runcoach_redis_url_ipv6;
}


static const char *
runcoach_redis_url_name(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    size_t  n, i;

    n = last - p;

    if (n == 0) {
        return "has no host, must be like redis://host:6379";
    }

    if (n >= sizeof(url->host)) {
        return "has a too long host";
    }

    memcpy(url->host, p, n);
    url->host[n] = '\0';

    i = strspn(url->host, "abcdefghijklmnopqrstuvwxyz"
                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");

    return (i == n) ? NULL
                    : "has an invalid host, must be letters, digits, \".\", "
                      "\"-\", \"_\", or an IPv6 address in brackets";
}


static const char *
runcoach_redis_url_port(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    int  n;

    n = (*p == ':') ? runcoach_redis_url_number(p + 1, last, 65535) : -1;

    if (n < 1) {
        return "has an invalid port, must be a number, 1 .. 65535";
    }

    url->port = n;

    return NULL;
}


static const char *
runcoach_redis_url_database(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    int  n;

    n = runcoach_redis_url_number(p, last, RUNCOACH_REDIS_URL_DATABASE);

    if (n < 0) {
        return "has an invalid database, must be a number, 0 .. 9999";
    }

    url->database = n;

    return NULL;
}


static const char *
runcoach_redis_url_args(runcoach_redis_url_t *url, const char *p,
    const char *last)
{
    const char  *end, *error;

    for ( /* void */ ; p < last; p = end + 1) {
        end = runcoach_redis_url_find(p, last, '&');

        if (end - p >= 3 && memcmp(p, "db=", 3) == 0) {
            error = runcoach_redis_url_database(url, p + 3, end);

        } else if (end - p >= 9 && memcmp(p, "password=", 9) == 0) {
            error = runcoach_redis_url_decode(url->password,
                                              sizeof(url->password),
                                              p + 9, end);

        } else {
            error = "has an invalid argument, must be db= or password= (a "
                    "\"?\" in a password is written %3F)";
        }

        if (error != NULL) {
            return error;
        }
    }

    return NULL;
}


static const char *
runcoach_redis_url_decode(char *dst, size_t size, const char *p,
    const char *last)
{
    int          high, low;
    const char  *end;

    end = dst + size - 1;

    for ( /* void */ ; p < last; p++) {

        if (dst == end) {
            return "has a too long user, password or path";
        }

        *dst = *p;

        if (*p == '%') {
            high = (last - p > 2) ? runcoach_redis_url_hex(p[1]) : -1;
            low = (last - p > 2) ? runcoach_redis_url_hex(p[2]) : -1;

            if (high < 0 || low < 0) {
                return "has an invalid \"%\", must be followed by two "
                       "hexadecimal digits (a \"%\" itself is written %25)";
            }

            *dst = (char) (high << 4 | low);
            p += 2;
        }

        if (*dst++ == '\0') {
            return "must not have %00 in it";
        }
    }

    *dst = '\0';

    return NULL;
}


/* last, if there is none */

static const char *
runcoach_redis_url_find(const char *p, const char *last, char c)
{
    while (p < last && *p != c) {
        p++;
    }

    return p;
}


/* what is behind the last "@", or all */

static const char *
runcoach_redis_url_at(const char *p, const char *last)
{
    while (last > p && last[-1] != '@') {
        last--;
    }

    return last;
}


static int
runcoach_redis_url_number(const char *p, const char *last, unsigned max)
{
    unsigned  n;

    if (p == last) {
        return -1;
    }

    for (n = 0; p < last; p++) {

        if (*p < '0' || *p > '9') {
            return -1;
        }

        n = n * 10 + (*p - '0');

        if (n > max) {
            return -1;
        }
    }

    return (int) n;
}


static int
runcoach_redis_url_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return (c >= 'a' && c <= 'f') ? c - 'a' + 10 : -1;
}
