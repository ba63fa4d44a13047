
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "log.h"
#include "metrics.h"
#include "redis.h"


#define REDIS_CONNECT   2000
#define REDIS_BACKOFF   2000
#define REDIS_COMMAND   4096


struct redis_s {
    const runcoach_redis_url_t  *url;
    int                          fd;
    SSL_CTX                     *ctx;
    SSL                         *ssl;
    redisReader                 *reader;
    long long                    until;      /* deadline of what is going on */
    long long                    retry;      /* no attempt to connect before */
    int                          stop;
    const char                  *step;       /* where it broke off */
    unsigned                     stopped:1;
    unsigned                     down:1;     /* has been logged */
};


static int redis_connect(redis_t *redis);
static int redis_dial(redis_t *redis, const struct sockaddr *sa, socklen_t len);
static int redis_dial_unix(redis_t *redis);
static int redis_dial_tcp(redis_t *redis);
static int redis_tls(redis_t *redis);
static int redis_login(redis_t *redis);
static void redis_close(redis_t *redis);
static redisReply *redis_exchange(redis_t *redis, unsigned argc,
    const char *const *argv);
static int redis_send(redis_t *redis, const char *p, size_t n);
static ssize_t redis_recv(redis_t *redis, char *p, size_t n);
static int redis_ready(redis_t *redis, ssize_t rc, short events);
static int redis_poll(redis_t *redis, short events);
static long long redis_now(void);


redis_t *
redis_create(const runcoach_redis_url_t *url)
{
    redis_t  *redis;

    redis = calloc(1, sizeof(redis_t));
    if (redis == NULL) {
        return NULL;
    }

    redis->url = url;
    redis->fd = -1;
    redis->stop = -1;

    return redis;
}


void
redis_free(redis_t *redis)
{
    if (redis != NULL) {
        redis_close(redis);
        SSL_CTX_free(redis->ctx);
        free(redis);
    }
}


redis_rc_e
redis_command(redis_t *redis, redisReply **reply, int timeout, int stop,
    unsigned argc, const char *const *argv)
{
    unsigned   reused;
    long long  now;

    *reply = NULL;

    if (redis->url == NULL) {
        return REDIS_DOWN;
    }

    redis->stop = stop;
    redis->stopped = 0;

    do {
        now = redis_now();
        reused = (redis->fd != -1);

        if (!reused) {

            if (now < redis->retry) {
                return REDIS_DOWN;
            }

            redis->until = now + REDIS_CONNECT;

            if (redis_connect(redis) != 0) {
                goto failed;
            }
        }

        redis->until = redis_now() + timeout;
        redis->step = "command";

        *reply = redis_exchange(redis, argc, argv);

        if (*reply != NULL) {
            break;
        }

        /* the server may have closed a connection that was idle */

        if (!reused || redis->stopped || redis_now() >= redis->until) {
            goto failed;
        }

        redis_close(redis);

    } while (reused);

    if ((*reply)->type == REDIS_REPLY_ERROR) {
        metrics_add(METRICS_REDIS_FAILURES);
        log_warn("redis refused command=%s reason=%s", argv[0],
                 log_value((*reply)->str));

        /* a primary that has become a replica: its name is of another now */

        if (strncmp((*reply)->str, "READONLY", 8) == 0) {
            redis_close(redis);
        }

        freeReplyObject(*reply);
        *reply = NULL;
        return REDIS_DOWN;
    }

    redis->down = 0;

    return REDIS_DONE;

failed:

    /* answers are positional: one that is late must not meet the next */

    redis_close(redis);

    if (redis->stopped) {
        return REDIS_STOPPED;
    }

    redis->retry = redis_now() + REDIS_BACKOFF;

    metrics_add(METRICS_REDIS_FAILURES);

    if (!redis->down) {
        log_warn("redis is not reachable host=%s command=%s step=%s",
                 log_value(redis->url->host), argv[0], redis->step);
        redis->down = 1;
    }

    return REDIS_DOWN;
}


static int
redis_connect(redis_t *redis)
{
    int  rc;

    redis->step = "connect";

    rc = redis->url->local ? redis_dial_unix(redis) : redis_dial_tcp(redis);
    if (rc != 0) {
        return -1;
    }

    redis->step = "tls";

    if (redis->url->tls && redis_tls(redis) != 0) {
        return -1;
    }

    redis->reader = redisReaderCreate();
    if (redis->reader == NULL) {
        return -1;
    }

    redis->step = "login";

    return redis_login(redis);
}


static int
redis_dial_unix(redis_t *redis)
{
    struct sockaddr_un  sun;

    memset(&sun, 0, sizeof(struct sockaddr_un));
    sun.sun_family = AF_UNIX;
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%.107s", redis->url->host);

    return redis_dial(redis, (struct sockaddr *) &sun, sizeof(sun));
}


static int
redis_dial_tcp(redis_t *redis)
{
    int               rc, on;
    char              port[16];
    struct addrinfo   hints, *list, *ai;

    memset(&hints, 0, sizeof(struct addrinfo));
    hints.ai_socktype = SOCK_STREAM;

    snprintf(port, sizeof(port), "%u", redis->url->port);

    if (getaddrinfo(redis->url->host, port, &hints, &list) != 0) {
        return -1;
    }

    rc = -1;

    for (ai = list; ai != NULL && rc != 0; ai = ai->ai_next) {
        rc = redis_dial(redis, ai->ai_addr, ai->ai_addrlen);
    }

    freeaddrinfo(list);

    if (rc == 0) {
        on = 1;
        (void) setsockopt(redis->fd, IPPROTO_TCP, TCP_NODELAY, &on,
                          sizeof(int));
        (void) setsockopt(redis->fd, SOL_SOCKET, SO_KEEPALIVE, &on,
                          sizeof(int));
    }

    return rc;
}


static int
redis_dial(redis_t *redis, const struct sockaddr *sa, socklen_t len)
{
    int        error;
    socklen_t  n;

    redis->fd = socket(sa->sa_family,
                       SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (redis->fd == -1) {
        return -1;
    }

    if (connect(redis->fd, sa, len) == 0) {
        return 0;
    }

    n = sizeof(int);

    if (errno == EINPROGRESS && redis_poll(redis, POLLOUT) == 0
        && getsockopt(redis->fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0
        && error == 0)
    {
        return 0;
    }

    close(redis->fd);
    redis->fd = -1;

    return -1;
}


static int
redis_tls(redis_t *redis)
{
    int             rc;
    const char     *host;
    unsigned char   addr[sizeof(struct in6_addr)];

    host = redis->url->host;

    if (redis->ctx == NULL) {
        redis->ctx = SSL_CTX_new(TLS_client_method());

        if (redis->ctx == NULL
            || SSL_CTX_set_min_proto_version(redis->ctx, TLS1_2_VERSION) != 1
            || SSL_CTX_set_default_verify_paths(redis->ctx) != 1)
        {
            goto failed;
        }

        SSL_CTX_set_verify(redis->ctx, SSL_VERIFY_PEER, NULL);
    }

    redis->ssl = SSL_new(redis->ctx);

    if (redis->ssl == NULL || SSL_set_fd(redis->ssl, redis->fd) != 1) {
        goto failed;
    }

    if (inet_pton(AF_INET, host, addr) == 1
        || inet_pton(AF_INET6, host, addr) == 1)
    {
        rc = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(redis->ssl), host);

    } else {
        rc = SSL_set1_host(redis->ssl, host) == 1
             && SSL_set_tlsext_host_name(redis->ssl, host) == 1;
    }

    if (rc != 1) {
        goto failed;
    }

    do {
        rc = SSL_connect(redis->ssl);

        if (rc == 1) {
            return 0;
        }

    } while (redis_ready(redis, rc, 0) == 0);

failed:

    ERR_clear_error();

    return -1;
}


static int
redis_login(redis_t *redis)
{
    int          rc;
    char         database[16];
    unsigned     argc;
    redisReply  *reply;
    const char  *argv[3];

    argc = 0;
    argv[argc++] = "AUTH";

    if (redis->url->user[0] != '\0') {
        argv[argc++] = redis->url->user;
    }

    if (redis->url->password[0] != '\0') {
        argv[argc++] = redis->url->password;

        reply = redis_exchange(redis, argc, argv);
        rc = (reply != NULL && reply->type == REDIS_REPLY_STATUS);
        freeReplyObject(reply);

        if (!rc) {
            return -1;
        }
    }

    if (redis->url->database == 0) {
        return 0;
    }

    snprintf(database, sizeof(database), "%u", redis->url->database);
    argv[0] = "SELECT";
    argv[1] = database;

    reply = redis_exchange(redis, 2, argv);
    rc = (reply != NULL && reply->type == REDIS_REPLY_STATUS);
    freeReplyObject(reply);

    return rc ? 0 : -1;
}


static void
redis_close(redis_t *redis)
{
    SSL_free(redis->ssl);
    redis->ssl = NULL;

    if (redis->reader != NULL) {
        redisReaderFree(redis->reader);
        redis->reader = NULL;
    }

    if (redis->fd != -1) {
        close(redis->fd);
        redis->fd = -1;
    }
}


static redisReply *
redis_exchange(redis_t *redis, unsigned argc, const char *const *argv)
{
    int       n;
    char      buf[REDIS_COMMAND];
    void     *reply;
    size_t    len;
    ssize_t   got;
    unsigned  i;

    len = snprintf(buf, sizeof(buf), "*%u\r\n", argc);

    for (i = 0; i < argc; i++) {

        n = snprintf(buf + len, sizeof(buf) - len, "$%zu\r\n%s\r\n",
                     strlen(argv[i]), argv[i]);

        if (n < 0 || (size_t) n >= sizeof(buf) - len) {
            return NULL;
        }

        len += n;
    }

    n = redis_send(redis, buf, len);
    OPENSSL_cleanse(buf, len);

    if (n != 0) {
        return NULL;
    }

    for ( ;; ) {
        reply = NULL;

        if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK) {
            return NULL;
        }

        if (reply != NULL) {
            return reply;
        }

        got = redis_recv(redis, buf, sizeof(buf));

        if (got <= 0
            || redisReaderFeed(redis->reader, buf, got) != REDIS_OK)
        {
            return NULL;
        }
    }
}


static int
redis_send(redis_t *redis, const char *p, size_t n)
{
    ssize_t  rc;

    while (n > 0) {
        rc = (redis->ssl != NULL) ? SSL_write(redis->ssl, p, (int) n)
                                  : send(redis->fd, p, n, MSG_NOSIGNAL);

        if (rc > 0) {
            p += rc;
            n -= rc;
            continue;
        }

        if (redis_ready(redis, rc, POLLOUT) != 0) {
            return -1;
        }
    }

    return 0;
}


static ssize_t
redis_recv(redis_t *redis, char *p, size_t n)
{
    ssize_t  rc;

    for ( ;; ) {
        rc = (redis->ssl != NULL) ? SSL_read(redis->ssl, p, (int) n)
                                  : recv(redis->fd, p, n, 0);

        if (rc > 0 || redis_ready(redis, rc, POLLIN) != 0) {
            return rc;
        }
    }
}


/* after an operation that did nothing: waits until it is worth repeating */

static int
redis_ready(redis_t *redis, ssize_t rc, short events)
{
    if (redis->ssl == NULL) {

        if (rc == -1 && errno == EINTR) {
            return 0;
        }

        if (rc == 0 || errno != EAGAIN) {
            return -1;
        }

        return redis_poll(redis, events);
    }

    switch (SSL_get_error(redis->ssl, (int) rc)) {

    case SSL_ERROR_WANT_READ:
        return redis_poll(redis, POLLIN);

    case SSL_ERROR_WANT_WRITE:
        return redis_poll(redis, POLLOUT);

    default:
        ERR_clear_error();
        return -1;
    }
}


static int
redis_poll(redis_t *redis, short events)
{
    int            n;
    long long      left;
    struct pollfd  pfd[2];

    for ( ;; ) {
        left = redis->until - redis_now();

        if (left <= 0) {
            return -1;
        }

        /* poll() passes over a descriptor of -1 */

        pfd[0].fd = redis->fd;
        pfd[0].events = events;
        pfd[1].fd = redis->stop;
        pfd[1].events = POLLIN;
        pfd[1].revents = 0;

        n = poll(pfd, 2, (int) left);

        if (n == -1 && errno != EINTR) {
            return -1;
        }

        if (n > 0 && pfd[1].revents != 0) {
            redis->stopped = 1;
            return -1;
        }

        if (n > 0) {
            return 0;
        }
    }
}


static long long
redis_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}
