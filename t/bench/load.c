
/*
 * Requests over kept-alive connections, each with one at a time, and how long
 * the answers take.
 *
 *     load ADDRESS CONNECTIONS SECONDS events SECRET USERS FIRST COUNT
 *     load ADDRESS CONNECTIONS SECONDS requests FILE
 *
 * ADDRESS is the path of a socket, or a port of this machine.  "events" are
 * deliveries of Clerk's user.updated, each about one of so many users, with
 * ids from FIRST on; after COUNT of them, if it is not 0, the same come again.
 * A FILE has requests, each with its length in a line before it; its end is the
 * end.
 *
 * Prints the answers, those that were not 200, seconds, the median and the 99th
 * percentile in microseconds, and its own CPU time for each answer.
 */


#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "runcoach_base64.h"


#define MAX_CONNECTIONS  512
#define MAX_REQUEST      8192
#define MAX_ANSWER       8192
#define MAX_SAMPLES      10000000
#define BODY             1440
#define DIGEST           32


typedef struct {
    int        fd;
    int        head;             /* an answer to HEAD has no body */
    double     start;
    size_t     len;
    char       answer[MAX_ANSWER + 1];
} connection_t;


typedef struct {
    /* of events */
    EVP_MAC_CTX  *key;
    unsigned      users;
    uint64_t      first;
    uint64_t      count;
    uint64_t      sent;
    uint64_t      random;

    /* of requests */
    FILE         *file;
} source_t;


static int source_events(source_t *s, char **argv);
static size_t next_request(source_t *s, char *dst);
static size_t next_event(source_t *s, char *dst);
static int event_sign(source_t *s, char *signature, const char *id,
    const char *timestamp, const char *body);
static size_t next_of_file(source_t *s, char *dst);
static int open_connection(const char *address);
static int send_request(connection_t *c, source_t *s);
static int read_answer(connection_t *c);
static int renew(connection_t *c, int epfd, const char *address);
static int run(const char *address, connection_t *c, int n, source_t *s,
    double seconds);
static void report(double seconds);
static int compare(const void *a, const void *b);
static double now(void);


static uint32_t  *samples;
static size_t     answered;
static size_t     failed;


int
main(int argc, char **argv)
{
    int            i, n;
    source_t       source;
    double         start;
    connection_t  *connections;

    if (argc < 6) {
        fputs("usage: load ADDRESS CONNECTIONS SECONDS"
              " events SECRET USERS FIRST COUNT | requests FILE\n", stderr);
        return 2;
    }

    memset(&source, 0, sizeof(source_t));

    if (strcmp(argv[4], "requests") == 0) {
        source.file = fopen(argv[5], "r");

    } else if (argc == 9) {
        (void) source_events(&source, argv + 5);
    }

    if (source.file == NULL && source.key == NULL) {
        fprintf(stderr, "load: cannot use \"%s\"\n", argv[5]);
        return 1;
    }

    n = atoi(argv[2]);

    if (n < 1 || n > MAX_CONNECTIONS) {
        fprintf(stderr, "load: %d connections are not 1 .. %d\n", n,
                MAX_CONNECTIONS);
        return 1;
    }

    connections = calloc(n, sizeof(connection_t));
    samples = malloc(MAX_SAMPLES * sizeof(uint32_t));

    if (connections == NULL || samples == NULL) {
        fputs("load: no memory\n", stderr);
        return 1;
    }

    for (i = 0; i < n; i++) {
        connections[i].fd = open_connection(argv[1]);

        if (connections[i].fd == -1) {
            perror(argv[1]);
            return 1;
        }
    }

    start = now();

    if (run(argv[1], connections, n, &source, strtod(argv[3], NULL)) != 0) {
        return 1;
    }

    report(now() - start);

    return 0;
}


static int
source_events(source_t *s, char **argv)
{
    u_char       secret[512];
    size_t       n;
    ssize_t      len;
    EVP_MAC     *mac;
    OSSL_PARAM   params[2];

    n = strlen(argv[0]);

    if (n <= 6 || runcoach_base64_decoded_max(n) > sizeof(secret)) {
        return -1;
    }

    len = runcoach_base64_decode_any(secret, (u_char *) argv[0] + 6, n - 6);
    if (len <= 0) {
        return -1;
    }

    s->users = atoi(argv[1]);
    s->first = strtoull(argv[2], NULL, 10);
    s->count = strtoull(argv[3], NULL, 10);
    s->random = s->first * 2 + 88172645463325252ULL;

    params[0] = OSSL_PARAM_construct_utf8_string("digest", (char *) "SHA256",
                                                 0);
    params[1] = OSSL_PARAM_construct_end();

    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    s->key = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);

    if (s->key == NULL || s->users == 0
        || EVP_MAC_init(s->key, secret, len, params) != 1)
    {
        EVP_MAC_CTX_free(s->key);
        s->key = NULL;
        return -1;
    }

    return 0;
}


static size_t
next_request(source_t *s, char *dst)
{
    return (s->file != NULL) ? next_of_file(s, dst) : next_event(s, dst);
}


/* a later event is a newer one, so that none is out of date */

static size_t
next_event(source_t *s, char *dst)
{
    char             id[40], stamp[24], body[BODY + 256];
    char             signature[64];
    size_t           n;
    uint64_t         serial, us;
    unsigned         user;
    struct timespec  ts;

    serial = s->first + (s->count != 0 ? s->sent % s->count : s->sent);
    s->sent++;

    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    user = s->random % s->users;

    clock_gettime(CLOCK_REALTIME, &ts);
    us = ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;

    snprintf(id, sizeof(id), "msg_2pGv%019llu", (unsigned long long) serial);
    snprintf(stamp, sizeof(stamp), "%lld", (long long) ts.tv_sec);

    n = snprintf(body, sizeof(body),
        "{\"data\":{\"backup_code_enabled\":false,\"banned\":false,"
        "\"create_organization_enabled\":true,\"created_at\":1795166399000,"
        "\"delete_self_enabled\":true,\"email_addresses\":[{"
        "\"created_at\":1795166398900,\"email_address\":"
        "\"user_%08u@example.com\",\"id\":\"idn_2pGv%08u\",\"linked_to\":[{"
        "\"id\":\"idn_2pGvX%08u\",\"type\":\"oauth_google\"}],\"object\":"
        "\"email_address\",\"reserved\":false,\"updated_at\":1795166399000,"
        "\"verification\":{\"attempts\":null,\"expire_at\":null,\"status\":"
        "\"verified\",\"strategy\":\"from_oauth_google\"}}],"
        "\"enterprise_accounts\":[],\"external_accounts\":[],"
        "\"external_id\":null,\"first_name\":\"Test\",\"has_image\":true,"
        "\"id\":\"user_%08u\",\"image_url\":\"https://img.clerk.com/"
        "eyJ0eXBlIjoicHJveHkiLCJzcmMiOiJodHRwczovL2ltYWdlcy5jbGVyay5kZXYifQ\","
        "\"last_active_at\":1795166399000,\"last_name\":\"Runner\","
        "\"last_sign_in_at\":1795166399000,\"legal_accepted_at\":null,"
        "\"locked\":false,\"lockout_expires_in_seconds\":null,"
        "\"mfa_disabled_at\":null,\"mfa_enabled_at\":null,\"object\":\"user\","
        "\"passkeys\":[],\"password_enabled\":false,\"phone_numbers\":[],"
        "\"primary_email_address_id\":\"idn_2pGv%08u\","
        "\"primary_phone_number_id\":null,\"primary_web3_wallet_id\":null,"
        "\"private_metadata\":{},\"profile_image_url\":\"\","
        "\"public_metadata\":{\"plan\":\"free\"},\"saml_accounts\":[],"
        "\"totp_enabled\":false,\"two_factor_enabled\":false,"
        "\"unsafe_metadata\":{},\"updated_at\":%llu,\"username\":null,"
        "\"verification_attempts_remaining\":100,\"web3_wallets\":[]},"
        "\"event_attributes\":{\"http_request\":{\"client_ip\":"
        "\"203.0.113.9\",\"user_agent\":\"Mozilla/5.0\"}},\"instance_id\":"
        "\"ins_2pGv\",\"object\":\"event\",\"timestamp\":%llu,"
        "\"type\":\"user.updated\"}",
        user, user, user, user, user, (unsigned long long) us,
        (unsigned long long) us / 1000);

    /* white space at the end is JSON as well */

    while (n < BODY) {
        body[n++] = '\n';
    }

    body[n] = '\0';

    if (event_sign(s, signature, id, stamp, body) != 0) {
        return 0;
    }

    return snprintf(dst, MAX_REQUEST,
                    "POST /api/v1/webhooks/clerk HTTP/1.1\r\n"
                    "Host: sidecar\r\n"
                    "X-Request-ID: 6b0c1d7a%024llx\r\n"
                    "Content-Type: application/json\r\n"
                    "Content-Length: %zu\r\n"
                    "svix-id: %s\r\n"
                    "svix-timestamp: %s\r\n"
                    "svix-signature: v1,%s\r\n\r\n%s",
                    (unsigned long long) s->sent, n, id, stamp, signature,
                    body);
}


static int
event_sign(source_t *s, char *signature, const char *id, const char *timestamp,
    const char *body)
{
    int           rc;
    char          head[80];
    u_char        digest[DIGEST];
    size_t        n, len;
    EVP_MAC_CTX  *ctx;

    rc = -1;
    n = snprintf(head, sizeof(head), "%s.%s.", id, timestamp);

    ctx = EVP_MAC_CTX_dup(s->key);

    if (ctx != NULL
        && EVP_MAC_update(ctx, (u_char *) head, n) == 1
        && EVP_MAC_update(ctx, (const u_char *) body, strlen(body)) == 1
        && EVP_MAC_final(ctx, digest, &len, DIGEST) == 1)
    {
        n = runcoach_base64_encode((u_char *) signature, digest, len);
        signature[n] = '\0';
        rc = 0;
    }

    EVP_MAC_CTX_free(ctx);

    return rc;
}


static size_t
next_of_file(source_t *s, char *dst)
{
    char    line[32];
    size_t  n;

    if (fgets(line, sizeof(line), s->file) == NULL) {
        return 0;
    }

    n = strtoul(line, NULL, 10);

    return (n < MAX_REQUEST && fread(dst, 1, n, s->file) == n) ? n : 0;
}


static int
open_connection(const char *address)
{
    int                  fd, rc;
    struct sockaddr_in   sin;
    struct sockaddr_un   sun;

    memset(&sin, 0, sizeof(struct sockaddr_in));
    sin.sin_family = AF_INET;
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sin.sin_port = htons(atoi(address));

    memset(&sun, 0, sizeof(struct sockaddr_un));
    sun.sun_family = AF_UNIX;
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%.107s", address);

    if (address[0] == '/') {
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        rc = connect(fd, (struct sockaddr *) &sun, sizeof(sun));

    } else {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        rc = connect(fd, (struct sockaddr *) &sin, sizeof(sin));
    }

    return (rc == 0) ? fd : -1;
}


/* 0: sent; 1: there is none */

static int
send_request(connection_t *c, source_t *s)
{
    char    request[MAX_REQUEST];
    size_t  n;

    n = next_request(s, request);

    if (n == 0) {
        return 1;
    }

    c->len = 0;
    c->head = (strncmp(request, "HEAD ", 5) == 0);
    c->start = now();

    return (write(c->fd, request, n) == (ssize_t) n) ? 0 : -1;
}


/* 1: it is complete; 0: it is not; -1: the connection is of no use any more */

static int
read_answer(connection_t *c)
{
    char     *end, *length;
    size_t    n;
    ssize_t   got;

    got = read(c->fd, c->answer + c->len, MAX_ANSWER - c->len);

    if (got <= 0) {
        return -1;
    }

    c->len += got;
    c->answer[c->len] = '\0';

    end = strstr(c->answer, "\r\n\r\n");

    if (end == NULL) {
        return 0;
    }

    length = strstr(c->answer, "\r\nContent-Length:");
    n = (c->head || length == NULL || length > end)
        ? 0 : strtoul(length + 17, NULL, 10);

    return c->len >= (size_t) (end + 4 - c->answer) + n;
}


/* nginx serves so many requests by a connection and no more */

static int
renew(connection_t *c, int epfd, const char *address)
{
    struct epoll_event  event;

    if (strstr(c->answer, "\r\nConnection: close\r\n") == NULL) {
        return 0;
    }

    close(c->fd);
    c->fd = open_connection(address);

    event.events = EPOLLIN;
    event.data.ptr = c;

    return epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &event);
}


static int
run(const char *address, connection_t *c, int n, source_t *s, double seconds)
{
    int                  i, busy, ready, epfd, rc;
    double               end, t;
    struct epoll_event   events[MAX_CONNECTIONS];
    connection_t        *one;

    epfd = epoll_create1(0);
    end = now() + seconds;
    busy = 0;

    for (i = 0; i < n; i++) {
        events[0].events = EPOLLIN;
        events[0].data.ptr = &c[i];

        if (epoll_ctl(epfd, EPOLL_CTL_ADD, c[i].fd, &events[0]) != 0) {
            perror("load: epoll_ctl");
            return -1;
        }

        busy += (send_request(&c[i], s) == 0);
    }

    while (busy > 0) {
        ready = epoll_wait(epfd, events, MAX_CONNECTIONS, 10000);

        if (ready <= 0) {
            fputs("load: no answer in 10 seconds\n", stderr);
            return -1;
        }

        for (i = 0; i < ready; i++) {
            one = events[i].data.ptr;
            rc = read_answer(one);

            if (rc < 0) {
                fputs("load: a connection was closed\n", stderr);
                return -1;
            }

            if (rc == 0) {
                continue;
            }

            t = now();

            if (answered < MAX_SAMPLES) {
                samples[answered] = (uint32_t) ((t - one->start) * 1e6);
            }

            answered++;

            if (strncmp(one->answer, "HTTP/1.1 200", 12) != 0) {

                if (failed++ == 0) {
                    fprintf(stderr, "load: %.400s\n", one->answer);
                }
            }

            if (t >= end || renew(one, epfd, address) != 0
                || send_request(one, s) != 0)
            {
                busy--;
            }
        }
    }

    return 0;
}


static void
report(double seconds)
{
    double           cpu;
    size_t           n;
    struct timespec  ts;

    n = (answered < MAX_SAMPLES) ? answered : MAX_SAMPLES;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    cpu = ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;

    qsort(samples, n, sizeof(uint32_t), compare);

    printf("answers=%zu failed=%zu seconds=%.3f p50=%u p99=%u cpu=%.2f\n",
           answered, failed, seconds, n ? samples[n / 2] : 0,
           n ? samples[(size_t) (n * 0.99)] : 0, cpu / (n ? n : 1));
}


static int
compare(const void *a, const void *b)
{
    uint32_t  x, y;

    x = *(const uint32_t *) a;
    y = *(const uint32_t *) b;

    return (x > y) - (x < y);
}


static double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}
