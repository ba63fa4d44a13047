
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>

#include "../ngx_runcoach_module/lib/runcoach_sigv4.h"
#include "url.h"


typedef struct {
    char        *start;
    char        *pos;
    char        *last;
    unsigned     overflow:1;
} url_buf_t;


typedef struct {
    const char  *data;
    size_t       len;
} url_span_t;


typedef struct {
    url_span_t   sslmode;
    url_span_t   host;
    url_span_t   hostaddr;
    unsigned     rootcert:1;
    unsigned     timeout:1;
    unsigned     name:1;
    unsigned     user_timeout:1;
    unsigned     service:1;
} url_database_args_t;


static int url_private_ipv4(const unsigned char *a);
static int url_hosts(url_span_t hosts, int *private);
static int url_private(const url_database_args_t *args, int private);
static int url_private_decoded(url_span_t hosts);
static const char *url_database_args(url_buf_t *b, const char *p,
    url_database_args_t *args);
static url_span_t url_sslmode(const char *p, size_t n);
static void url_argument(url_buf_t *b, const char *name, const char *value,
    size_t n);
static void url_append(url_buf_t *b, const char *p, size_t n);
static int url_equal(url_span_t s, const char *name);
static int url_decode(char *dst, size_t size, const char *src, size_t n);
static const char *url_hostport(const char *p, size_t n, url_span_t *host,
    url_span_t *port);


static const char  url_database_form[] =
    "must be like postgresql://user:password@host:5432/name?sslmode=require";

static const char  url_raw_password[] =
    "has a raw \"@\", \"/\" or \"?\" in its password: percent-encode it, %40, "
    "%2F or %3F";


int
url_private_host(const char *host, size_t n)
{
    char                 addr[INET6_ADDRSTRLEN];
    size_t               i, len;
    unsigned char        bin[16];
    static const char   *suffixes[] = {
        ".localhost", ".internal", ".flycast"
    };
    static const unsigned char  loopback[16] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
    };
    static const unsigned char  mapped[12] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
    };

    if (n == 0 || host[0] == '/' || host[0] == '@') {
        return 1;
    }

    if (n >= 3 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    }

    if (n == sizeof("localhost") - 1 && strncasecmp(host, "localhost", n) == 0)
    {
        return 1;
    }

    for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        len = strlen(suffixes[i]);

        if (n > len && strncasecmp(host + n - len, suffixes[i], len) == 0) {
            return 1;
        }
    }

    if (n >= sizeof(addr)) {
        return 0;
    }

    memcpy(addr, host, n);
    addr[n] = '\0';

    if (inet_pton(AF_INET, addr, bin) == 1) {
        return url_private_ipv4(bin);
    }

    if (inet_pton(AF_INET6, addr, bin) != 1) {
        return 0;
    }

    if (memcmp(bin, mapped, sizeof(mapped)) == 0) {
        return url_private_ipv4(bin + sizeof(mapped));
    }

    return memcmp(bin, loopback, sizeof(loopback)) == 0
           || (bin[0] & 0xfe) == 0xfc
           || (bin[0] == 0xfe && (bin[1] & 0xc0) == 0x80);
}


static int
url_private_ipv4(const unsigned char *a)
{
    return a[0] == 127
           || a[0] == 10
           || (a[0] == 172 && (a[1] & 0xf0) == 16)
           || (a[0] == 192 && a[1] == 168)
           || (a[0] == 169 && a[1] == 254)
           || (a[0] == 100 && (a[1] & 0xc0) == 64);
}


const char *
url_database(char *dst, size_t size, const char *src, int verify,
    const char *rootcert)
{
    int                   private;
    size_t                len;
    url_buf_t             b;
    const char           *p, *args, *path, *at, *error;
    url_span_t            hosts;
    url_database_args_t   a;

    p = strstr(src, "://");
    if (p == NULL) {
        return url_database_form;
    }

    len = strcspn(src, "+:");

    if (!(len == 8 && strncasecmp(src, "postgres", len) == 0)
        && !(len == 10 && strncasecmp(src, "postgresql", len) == 0))
    {
        return url_database_form;
    }

    p += 3;

    if (strpbrk(p, " \t\r\n") != NULL) {
        return "must not have white space in it (write %20)";
    }

    if (strchr(p, '#') != NULL) {
        return "must not have \"#\" in it (write %23)";
    }

    b.start = dst;
    b.pos = dst;
    b.last = dst + size - 1;
    b.overflow = 0;

    args = strchr(p, '?');
    len = (args == NULL) ? strlen(p) : (size_t) (args - p);

    /*
     * For libpq a password ends at the first "@" before a slash, and a slash
     * among the arguments may not be there any more when it reads them.
     */

    if (args != NULL && memchr(p, '/', len) == NULL
        && strchr(args, '@') != NULL)
    {
        return url_raw_password;
    }

    path = memchr(p, '/', len);
    hosts.data = p;
    hosts.len = (path == NULL) ? len : (size_t) (path - p);

    at = memchr(hosts.data, '@', hosts.len);
    if (at != NULL) {
        hosts.len -= at + 1 - hosts.data;
        hosts.data = at + 1;
    }

    /* the rest of a password would be taken for a host, and be logged as one */

    if (memchr(hosts.data, '@', p + len - hosts.data) != NULL) {
        return url_raw_password;
    }

    if (url_hosts(hosts, &private) != 0) {
        return url_database_form;
    }

    url_append(&b, "postgresql://", sizeof("postgresql://") - 1);
    url_append(&b, p, len);

    memset(&a, 0, sizeof(url_database_args_t));

    error = url_database_args(&b, args, &a);
    if (error != NULL) {
        return error;
    }

    if (verify && !url_private(&a, private)
        && !url_equal(a.sslmode, "verify-full"))
    {
        url_argument(&b, "sslmode", "verify-full", sizeof("verify-full") - 1);

    } else if (a.sslmode.len != 0) {
        url_argument(&b, "sslmode", a.sslmode.data, a.sslmode.len);
        verify = url_equal(a.sslmode, "verify-full");

    } else {
        verify = 0;
    }

    if (verify && !a.rootcert) {
        url_argument(&b, "sslrootcert", rootcert, strlen(rootcert));
    }

    if (!a.timeout) {
        url_argument(&b, "connect_timeout", "10", 2);
    }

    if (!a.user_timeout) {
        url_argument(&b, "tcp_user_timeout", "10000", 5);
    }

    if (!a.name) {
        url_argument(&b, "application_name", "runcoach-sidecar",
                     sizeof("runcoach-sidecar") - 1);
    }

    *b.pos = '\0';

    return b.overflow ? "is too long" : NULL;
}


/*
 * The hosts before the path, which may have ports; -1: malformed.  For libpq a
 * bracket that is not closed reaches beyond the path.
 */

static int
url_hosts(url_span_t hosts, int *private)
{
    url_span_t   host, port;
    const char  *p, *last, *comma;

    *private = 1;
    last = hosts.data + hosts.len;

    for (p = hosts.data; p <= last; p = comma + 1) {

        comma = memchr(p, ',', last - p);
        if (comma == NULL) {
            comma = last;
        }

        if (url_hostport(p, comma - p, &host, &port) != NULL) {
            return -1;
        }

        if (!url_private_decoded(host)) {
            *private = 0;
        }
    }

    return 0;
}


/*
 * As in libpq: an argument overrides the host before the path, and the address
 * to connect to is hostaddr, as far as there is one for each host.  Where a
 * service leads is written in a file.
 */

static int
url_private(const url_database_args_t *args, int private)
{
    url_span_t  addr;

    if (args->service) {
        return 0;
    }

    addr = args->hostaddr;

    if (addr.len != 0) {

        if (!url_private_decoded(addr)) {
            return 0;
        }

        if (memchr(addr.data, ',', addr.len) == NULL
            && memchr(addr.data, '%', addr.len) == NULL)
        {
            return 1;
        }
    }

    return (args->host.len != 0) ? url_private_decoded(args->host) : private;
}


/* libpq decodes first: what was one host may be several now */

static int
url_private_decoded(url_span_t hosts)
{
    char         decoded[256];
    size_t       n;
    const char  *p;

    if (url_decode(decoded, sizeof(decoded), hosts.data, hosts.len) != 0) {
        return 0;
    }

    for (p = decoded; /* void */; p += n + 1) {
        n = strcspn(p, ",");

        if (!url_private_host(p, n)) {
            return 0;
        }

        if (p[n] == '\0') {
            return 1;
        }
    }
}


static const char *
url_database_args(url_buf_t *b, const char *p, url_database_args_t *args)
{
    size_t               i;
    url_span_t           name, value;
    const char          *last;
    static const char   *dropped[] = {
        "prepared_statement_cache_size", "statement_cache_size",
        "prepared_statement_name_func", "command_timeout", "pgbouncer",
        "pool_timeout", "connection_limit", "schema"
    };

    while (p != NULL && *p != '\0') {
        p++;

        last = p + strcspn(p, "&");
        name.data = p;
        value.data = memchr(p, '=', last - p);
        p = last;

        if (value.data == NULL) {

            if (last == name.data) {
                continue;
            }

            return "has an argument without \"=\"";
        }

        name.len = value.data - name.data;
        value.data++;

        /* libpq decodes it, and would understand another one than we do */

        if (memchr(name.data, '%', name.len) != NULL) {
            return "has an argument whose name is percent-encoded";
        }

        value.len = last - value.data;

        if (url_equal(name, "ssl")) {
            args->sslmode = url_sslmode(value.data, value.len);

            if (args->sslmode.len == 0) {
                return "has an \"ssl\" that is none of require, disable, "
                       "prefer, allow, verify-ca, verify-full, true, false";
            }

            continue;
        }

        if (url_equal(name, "sslmode")) {
            args->sslmode = url_sslmode(value.data, value.len);

            if (args->sslmode.len == 0) {
                return "has an \"sslmode\" that is none of disable, allow, "
                       "prefer, require, verify-ca, verify-full";
            }

            continue;
        }

        for (i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
            if (url_equal(name, dropped[i])) {
                break;
            }
        }

        if (i < sizeof(dropped) / sizeof(dropped[0])) {
            continue;
        }

        if (url_equal(name, "host")) {
            args->host = value;

        } else if (url_equal(name, "hostaddr")) {
            args->hostaddr = value;
        }

        args->rootcert |= url_equal(name, "sslrootcert");
        args->timeout |= url_equal(name, "connect_timeout");
        args->name |= url_equal(name, "application_name");
        args->user_timeout |= url_equal(name, "tcp_user_timeout");
        args->service |= url_equal(name, "service");

        url_append(b, memchr(b->start, '?', b->pos - b->start) ? "&" : "?", 1);
        url_append(b, name.data, last - name.data);
    }

    return NULL;
}


static url_span_t
url_sslmode(const char *p, size_t n)
{
    size_t              i;
    url_span_t          s;
    static const char  *modes[][2] = {
        { "disable", "disable" },
        { "allow", "allow" },
        { "prefer", "prefer" },
        { "require", "require" },
        { "verify-ca", "verify-ca" },
        { "verify-full", "verify-full" },
        { "true", "require" },
        { "1", "require" },
        { "false", "disable" },
        { "0", "disable" }
    };

    for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {

        if (strlen(modes[i][0]) == n && memcmp(p, modes[i][0], n) == 0) {
            s.data = modes[i][1];
            s.len = strlen(s.data);
            return s;
        }
    }

    s.data = NULL;
    s.len = 0;

    return s;
}


static void
url_argument(url_buf_t *b, const char *name, const char *value, size_t n)
{
    url_append(b, memchr(b->start, '?', b->pos - b->start) ? "&" : "?", 1);
    url_append(b, name, strlen(name));
    url_append(b, "=", 1);
    url_append(b, value, n);
}


static void
url_append(url_buf_t *b, const char *p, size_t n)
{
    if (n > (size_t) (b->last - b->pos)) {
        b->overflow = 1;
        return;
    }

    memcpy(b->pos, p, n);
    b->pos += n;
}


static int
url_equal(url_span_t s, const char *name)
{
    return s.len == strlen(name) && memcmp(s.data, name, s.len) == 0;
}


static int
url_decode(char *dst, size_t size, const char *src, size_t n)
{
    char    hex[3];
    size_t  i, len;

    len = 0;
    hex[2] = '\0';

    for (i = 0; i < n; i++) {

        if (len + 1 >= size) {
            return -1;
        }

        if (src[i] != '%') {
            dst[len++] = src[i];
            continue;
        }

        if (n - i < 3 || !isxdigit((unsigned char) src[i + 1])
            || !isxdigit((unsigned char) src[i + 2]))
        {
            return -1;
        }

        hex[0] = src[++i];
        hex[1] = src[++i];
        dst[len] = (char) strtol(hex, NULL, 16);

        if (dst[len++] == '\0') {
            return -1;
        }
    }

    dst[len] = '\0';

    return 0;
}


static const char *
url_hostport(const char *p, size_t n, url_span_t *host, url_span_t *port)
{
    size_t       i;
    const char  *colon, *bracket;

    host->data = p;
    host->len = n;
    port->data = NULL;
    port->len = 0;

    colon = memchr(p, ':', n);

    if (n != 0 && p[0] == '[') {
        bracket = memchr(p, ']', n);

        if (bracket == NULL || bracket == p + 1) {
            return "bad bracket";
        }

        host->len = bracket + 1 - p;
        colon = (host->len == n) ? NULL : bracket + 1;

        if (colon != NULL && *colon != ':') {
            return "bad port";
        }
    }

    if (colon == NULL) {
        return NULL;
    }

    host->len = colon - p;
    port->data = colon + 1;
    port->len = n - host->len - 1;

    if (port->len > 5) {
        return "bad port";
    }

    for (i = 0; i < port->len; i++) {
        if (!isdigit((unsigned char) port->data[i])) {
            return "bad port";
        }
    }

    return NULL;
}
