
/*
 * The URL of a Redis: what is accepted is a host that can be looked up, and
 * written down again and read once more it is the same.  What is refused is
 * told without a part of it.
 */


#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_redis_url.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const runcoach_redis_url_t *url);
static size_t write_url(char *dst, const runcoach_redis_url_t *url);
static char *encode(char *dst, const char *src);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char                         *text;
    size_t                        n;
    const char                   *error;
    static char                   again[8192];
    static runcoach_redis_url_t   url, two;

    text = malloc(size > 0 ? size : 1);
    if (text == NULL) {
        abort();
    }

    memcpy(text, data, size);

    error = runcoach_redis_url_parse(&url, text, size);

    free(text);

    if (error != NULL) {

        if (error[0] == '\0') {
            abort();
        }

        return 0;
    }

    check(&url);

    n = write_url(again, &url);

    if (runcoach_redis_url_parse(&two, again, n) != NULL
        || strcmp(url.host, two.host) != 0
        || strcmp(url.user, two.user) != 0
        || strcmp(url.password, two.password) != 0
        || url.port != two.port || url.database != two.database
        || url.local != two.local || url.tls != two.tls)
    {
        abort();
    }

    return 0;
}


static void
check(const runcoach_redis_url_t *url)
{
    if (url->host[0] == '\0'
        || url->port < 1 || url->port > 65535
        || url->database > RUNCOACH_REDIS_URL_DATABASE
        || (url->user[0] != '\0' && url->password[0] == '\0')
        || strcmp(url->user, "default") == 0)
    {
        abort();
    }

    if (url->local && (url->host[0] != '/' || url->tls
                       || strlen(url->host) > RUNCOACH_REDIS_URL_PATH))
    {
        abort();
    }

    if (!url->local && strpbrk(url->host, "/@[]% \t\r\n?#") != NULL) {
        abort();
    }
}


static size_t
write_url(char *dst, const runcoach_redis_url_t *url)
{
    char  *p;

    p = dst + sprintf(dst, "%s://", url->local ? "unix"
                                    : url->tls ? "rediss" : "redis");

    if (url->password[0] != '\0') {
        p = encode(p, url->user);
        *p++ = ':';
        p = encode(p, url->password);
        *p++ = '@';
    }

    if (url->local) {
        *p++ = '/';
        p = encode(p, url->host + 1);
        p += sprintf(p, "?db=%u", url->database);

    } else {
        p += sprintf(p, strchr(url->host, ':') ? "[%s]:%u/%u" : "%s:%u/%u",
                     url->host, url->port, url->database);
    }

    return p - dst;
}


static char *
encode(char *dst, const char *src)
{
    for ( /* void */ ; *src != '\0'; src++) {
        dst += sprintf(dst, "%%%02X", (unsigned char) *src);
    }

    return dst;
}
