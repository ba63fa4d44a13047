
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <microhttpd.h>

#include "http.h"
#include "metrics.h"


/* below the usual limit of descriptors, with room for the workers' own */

#define HTTP_CONNECTIONS  512

/* longer than nginx keeps an idle connection: the client closes first */

#define HTTP_TIMEOUT      120

/* of a connection: what nginx lets through in buffers of 64k, and our own */

#define HTTP_POOL         98304
#define HTTP_RETRY_AFTER  "2"

/* transactions for many at a time: with more of them each is for fewer */

#define HTTP_GROUPS       2

/* ms in the queue after which who asked would not wait for the end of it */

#define HTTP_PATIENCE     12000


typedef enum {
    HTTP_READING = 0,
    HTTP_REFUSED,                    /* the body is passed over */
    HTTP_QUEUED,
    HTTP_ANSWERED
} http_state_e;


typedef struct http_job_s  http_job_t;

struct http_job_s {
    http_request_t          request;     /* first: handlers see this part */
    http_t                 *http;
    struct MHD_Connection  *connection;
    http_job_t             *next;        /* in the queue, or of one worker */
    http_state_e            state;
    http_handler_pt         handler;
    unsigned                together;
    u_char                 *body;
    size_t                  size;
    unsigned                status;
    char                   *text;
    const char             *type;        /* NULL: JSON */
    const char             *allow;
    unsigned                challenge:1;
    unsigned                retry:1;
    unsigned                late:1;
    struct timespec         start;
    struct timespec         queued;
    size_t                  note_len;
    char                    note[512];
};


struct http_s {
    const config_t         *cf;
    int                     fd;
    struct MHD_Daemon      *daemon;

    const char             *path;        /* of the socket, or NULL */
    dev_t                   dev;
    ino_t                   ino;

    pthread_mutex_t         lock;
    pthread_cond_t          wakeup;      /* of workers */
    pthread_cond_t          idle;        /* of http_stop() */
    http_job_t             *first;
    http_job_t            **last;
    unsigned                waiting;
    unsigned                together;    /* of these, for groups */
    unsigned                active;
    unsigned                sleeping;    /* workers that wait for wakeup */
    unsigned                groups;      /* of requests done together */
    unsigned                most;        /*   at a time */
    unsigned                waking:1;    /* one of them is about to look */
    unsigned                stopping:1;

    unsigned                nthreads;
    pthread_t               threads[64];
};


static int http_listen(http_t *http);
static int http_listen_unix(http_t *http, const char *path);
static int http_listen_tcp(http_t *http, const char *address);
static int http_stale(const struct sockaddr_un *sun);
static void *http_worker(void *data);
static int http_worker_init(worker_t *w, const config_t *cf);
static void http_worker_free(worker_t *w);
static http_job_t **http_find(http_t *http);
static http_job_t *http_take(http_t *http, http_job_t **p);
static void http_wake(http_t *http);
static int http_full(const http_t *http, const http_job_t *job);
static void http_run(http_job_t *job, worker_t *w);
static long http_elapsed(const struct timespec *since);
static long http_us(const struct timespec *since);
static enum MHD_Result http_access(void *cls, struct MHD_Connection *connection,
    const char *url, const char *method, const char *version,
    const char *upload_data, size_t *upload_data_size, void **con_cls);
static http_job_t *http_begin(http_t *http, struct MHD_Connection *connection,
    const char *url, const char *method);
static enum MHD_Result http_body(http_job_t *job, const char *data, size_t *n);
static enum MHD_Result http_dispatch(http_job_t *job);
static enum MHD_Result http_send(http_job_t *job);
static void http_completed(void *cls, struct MHD_Connection *connection,
    void **con_cls, enum MHD_RequestTerminationCode toe);
static void http_log(const http_job_t *job);
static void http_daemon_log(void *cls, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
static json_t *http_detail(const char *detail);


static const struct {
    unsigned     status;
    const char  *detail;
} http_verdicts[] = {
    { 400, "Bad Request" },
    { 401, "Authentication required" },
    { 404, "Not Found" },
    { 405, "Method Not Allowed" },
    { 409, "Conflict" },
    { 413, "Request body too large" },
    { 422, "Unprocessable Entity" },
    { 503, "Service temporarily unavailable" },
    { 503, "Not configured" }
};


http_t *
http_start(const config_t *cf)
{
    http_t    *http;
    unsigned   i;

    http = calloc(1, sizeof(http_t));
    if (http == NULL) {
        return NULL;
    }

    http->cf = cf;
    http->fd = -1;
    http->last = &http->first;

    pthread_mutex_init(&http->lock, NULL);
    pthread_cond_init(&http->wakeup, NULL);
    pthread_cond_init(&http->idle, NULL);

    if (http_listen(http) != 0) {
        goto failed;
    }

    /* one worker is for the rest */

    http->most = (cf->threads > HTTP_GROUPS) ? HTTP_GROUPS
                 : (cf->threads > 1) ? cf->threads - 1 : 1;

    for (i = 0; i < cf->threads; i++) {

        if (pthread_create(&http->threads[i], NULL, http_worker, http) != 0) {
            log_error("cannot create a thread");
            goto failed;
        }

        http->nthreads++;
    }

    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC
        | MHD_USE_ERROR_LOG, 0, NULL, NULL, http_access, http,
        MHD_OPTION_EXTERNAL_LOGGER, http_daemon_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, http->fd,
        MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned) HTTP_CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) HTTP_POOL,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) HTTP_TIMEOUT,
        MHD_OPTION_NOTIFY_COMPLETED, http_completed, NULL,
        MHD_OPTION_END);

    if (http->daemon == NULL) {
        log_error("cannot start the HTTP server");
        goto failed;
    }

    log_info("listening address=%s threads=%u queue=%lld", cf->listen,
             http->nthreads, cf->queue);

    return http;

failed:

    http_stop(http, 0);

    return NULL;
}


void
http_stop(http_t *http, unsigned seconds)
{
    unsigned          i;
    struct stat       st;
    struct timespec   until;

    /* a successor may have put its own socket in our place already */

    if (http->path != NULL && lstat(http->path, &st) == 0
        && st.st_dev == http->dev && st.st_ino == http->ino)
    {
        unlink(http->path);
    }

    if (http->daemon != NULL) {
        (void) MHD_quiesce_daemon(http->daemon);
    }

    if (http->fd != -1) {
        close(http->fd);
    }

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;

    pthread_mutex_lock(&http->lock);

    while (http->active > 0
           && pthread_cond_timedwait(&http->idle, &http->lock, &until) == 0)
    {
        /* void */
    }

    if (http->active > 0) {
        log_warn("stopping with unfinished requests=%u", http->active);
    }

    http->stopping = 1;
    pthread_cond_broadcast(&http->wakeup);
    pthread_mutex_unlock(&http->lock);

    for (i = 0; i < http->nthreads; i++) {
        pthread_join(http->threads[i], NULL);
    }

    if (http->daemon != NULL) {
        MHD_stop_daemon(http->daemon);
    }

    pthread_cond_destroy(&http->idle);
    pthread_cond_destroy(&http->wakeup);
    pthread_mutex_destroy(&http->lock);

    free(http);
}


const char *
http_header(const http_request_t *r, const char *name)
{
    const char        *value;
    const http_job_t  *job;

    job = (const http_job_t *) r;

    value = MHD_lookup_connection_value(job->connection, MHD_HEADER_KIND, name);

    return (value == NULL) ? "" : value;
}


const char *
http_argument(const http_request_t *r, const char *name)
{
    const char        *value;
    const http_job_t  *job;

    job = (const http_job_t *) r;

    value = MHD_lookup_connection_value(job->connection, MHD_GET_ARGUMENT_KIND,
                                        name);

    return (value == NULL) ? "" : value;
}


void
http_answer(http_request_t *r, unsigned status, json_t *json)
{
    char        *text;
    http_job_t  *job;

    job = (http_job_t *) r;

    text = (json == NULL) ? NULL
                          : json_dumps(json, JSON_COMPACT
                                             | JSON_REAL_PRECISION(12));
    json_decref(json);

    if (text == NULL) {
        status = 503;
    }

    /* what is not available now may be asked for again */

    if (status == 503) {
        job->retry = 1;
    }

    free(job->text);

    job->text = text;
    job->status = status;
}


void
http_fail(http_request_t *r, verdict_e verdict, const char *detail)
{
    http_job_t  *job;

    job = (http_job_t *) r;

    job->challenge = (verdict == VERDICT_UNAUTHORIZED);
    job->retry = (verdict == VERDICT_RETRY
                  || verdict == VERDICT_NOT_CONFIGURED);

    if (detail == NULL) {
        detail = http_verdicts[verdict].detail;
    }

    http_answer(r, http_verdicts[verdict].status, http_detail(detail));
}


void
http_text(http_request_t *r, const char *type, char *text)
{
    http_job_t  *job;

    http_answer(r, 200, NULL);

    if (text != NULL) {
        job = (http_job_t *) r;

        job->text = text;
        job->type = type;
        job->status = 200;
        job->retry = 0;
    }
}


void
http_invalid(http_request_t *r, const char *where, const char *field,
    const char *type, const char *msg)
{
    json_t  *loc;

    loc = (field == NULL) ? json_pack("[s]", where)
                          : json_pack("[s, s]", where, field);

    http_note(r, " invalid=%s", log_value(field == NULL ? where : field));

    http_answer(r, 422, json_pack("{s: [{s: s, s: o, s: s}]}", "detail",
                                  "type", type, "loc", loc, "msg", msg));
}


void
http_allow(http_request_t *r, const char *methods)
{
    http_job_t  *job;

    job = (http_job_t *) r;
    job->allow = methods;
}


http_request_t *
http_next(const http_request_t *r)
{
    return (http_request_t *) ((const http_job_t *) r)->next;
}


void
http_note(http_request_t *r, const char *fmt, ...)
{
    int          n;
    size_t       left;
    va_list      args;
    http_job_t  *job;

    job = (http_job_t *) r;
    left = sizeof(job->note) - job->note_len;

    va_start(args, fmt);
    n = vsnprintf(job->note + job->note_len, left, fmt, args);
    va_end(args);

    if (n > 0) {
        job->note_len += ((size_t) n < left) ? (size_t) n : left - 1;
    }
}


const char *
http_timestamp(char *dst)
{
    size_t           n;
    struct tm        tm;
    struct timespec  ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);

    n = strftime(dst, 24, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(dst + n, 16, ".%06u+00:00",
             (unsigned) (ts.tv_nsec / 1000) % 1000000);

    return dst;
}


static int
http_listen(http_t *http)
{
    const char  *listen;

    listen = http->cf->listen;

    if (strncmp(listen, "unix:", 5) == 0) {
        return http_listen_unix(http, listen + 5);
    }

    return http_listen_tcp(http, listen);
}


static int
http_listen_unix(http_t *http, const char *path)
{
    mode_t               mask;
    struct stat          st;
    struct group        *gr;
    struct sockaddr_un   sun;

    memset(&sun, 0, sizeof(struct sockaddr_un));
    sun.sun_family = AF_UNIX;
    snprintf(sun.sun_path, sizeof(sun.sun_path), "%.107s", path);

    if (http_stale(&sun) != 0) {
        return -1;
    }

    http->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (http->fd == -1) {
        log_error("socket failed reason=%s", log_value(strerror(errno)));
        return -1;
    }

    /* whoever may connect may speak for any user: never wider, not even now */

    mask = umask(0117);

    if (bind(http->fd, (struct sockaddr *) &sun, sizeof(sun)) != 0) {
        umask(mask);
        log_error("cannot bind path=%s reason=%s", log_value(path),
                  log_value(strerror(errno)));
        return -1;
    }

    umask(mask);

    http->path = path;

    if (lstat(path, &st) == 0) {
        http->dev = st.st_dev;
        http->ino = st.st_ino;
    }

    if (http->cf->group != NULL) {
        gr = getgrnam(http->cf->group);

        if (gr == NULL || chown(path, -1, gr->gr_gid) != 0) {
            log_error("cannot give the socket to SIDECAR_GROUP=%s",
                      log_value(http->cf->group));
            return -1;
        }
    }

    if (listen(http->fd, 511) != 0) {
        log_error("listen failed reason=%s", log_value(strerror(errno)));
        return -1;
    }

    return 0;
}


static int
http_stale(const struct sockaddr_un *sun)
{
    int          fd, rc;
    struct stat  st;

    if (lstat(sun->sun_path, &st) != 0) {
        return 0;
    }

    if (!S_ISSOCK(st.st_mode)) {
        log_error("cannot listen path=%s reason=\"exists and is no socket\"",
                  log_value(sun->sun_path));
        return -1;
    }

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1) {
        return -1;
    }

    rc = connect(fd, (const struct sockaddr *) sun, sizeof(*sun));

    if (rc != 0 && errno == ECONNREFUSED) {
        close(fd);

        if (unlink(sun->sun_path) == 0 || errno == ENOENT) {
            return 0;
        }

        log_error("cannot remove the stale socket path=%s reason=%s",
                  log_value(sun->sun_path), log_value(strerror(errno)));
        return -1;
    }

    close(fd);

    log_error("cannot listen path=%s reason=\"another process does\"",
              log_value(sun->sun_path));

    return -1;
}


static int
http_listen_tcp(http_t *http, const char *address)
{
    int               on;
    char              host[256];
    size_t            len;
    const char       *port;
    struct addrinfo   hints, *list, *ai;

    port = strrchr(address, ':') + 1;
    len = port - 1 - address;

    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }

    snprintf(host, sizeof(host), "%.*s", (int) len, address);

    memset(&hints, 0, sizeof(struct addrinfo));
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;

    if (getaddrinfo(len == 0 ? NULL : host, port, &hints, &list) != 0) {
        log_error("cannot listen address=%s reason=\"no such address\"",
                  log_value(http->cf->listen));
        return -1;
    }

    on = 1;

    for (ai = list; ai != NULL; ai = ai->ai_next) {

        http->fd = socket(ai->ai_family,
                          SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (http->fd == -1) {
            continue;
        }

        (void) setsockopt(http->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(int));

        if (bind(http->fd, ai->ai_addr, ai->ai_addrlen) == 0
            && listen(http->fd, 511) == 0)
        {
            break;
        }

        close(http->fd);
        http->fd = -1;
    }

    freeaddrinfo(list);

    if (http->fd == -1) {
        log_error("cannot listen address=%s reason=%s",
                  log_value(http->cf->listen), log_value(strerror(errno)));
        return -1;
    }

    return 0;
}


static void *
http_worker(void *data)
{
    http_t      *http = data;

    unsigned      group;
    worker_t      w;
    http_job_t   *job, **p;

    if (http_worker_init(&w, http->cf) != 0) {
        log_error("no memory for a worker");
        abort();
    }

    pthread_mutex_lock(&http->lock);

    for ( ;; ) {

        while ((p = http_find(http)) == NULL
               && !(http->stopping && http->first == NULL))
        {
            http->sleeping++;
            pthread_cond_wait(&http->wakeup, &http->lock);
            http->sleeping--;
            http->waking = 0;
        }

        if (p == NULL) {

            /* nor will there be anything for those who wait for their turn */

            pthread_cond_broadcast(&http->wakeup);
            break;
        }

        job = http_take(http, p);
        group = (job->together > 1 && !job->late);

        http_wake(http);

        pthread_mutex_unlock(&http->lock);

        http_run(job, &w);

        pthread_mutex_lock(&http->lock);

        http->groups -= group;
    }

    pthread_mutex_unlock(&http->lock);

    http_worker_free(&w);

    return NULL;
}


static int
http_worker_init(worker_t *w, const config_t *cf)
{
    memset(w, 0, sizeof(worker_t));

    w->cf = cf;
    w->db = db_create(cf->database, cf->statement);
    w->redis = redis_create(cf->redis_url != NULL ? &cf->redis : NULL);

    if (cf->store_enabled) {
        w->r2 = r2_create(cf);

        if (w->r2 == NULL) {
            return -1;
        }
    }

    return (w->db == NULL || w->redis == NULL) ? -1 : 0;
}


static void
http_worker_free(worker_t *w)
{
    db_free(w->db);
    r2_free(w->r2);
    redis_free(w->redis);
}


/*
 * The first request that may be taken, or NULL.  Those which are done together
 * wait while enough of them are under way: the next to go are then more.
 */

static http_job_t **
http_find(http_t *http)
{
    http_job_t  **p;

    for (p = &http->first; *p != NULL; p = &(*p)->next) {

        if ((*p)->together == 1 || http->groups < http->most
            || http_elapsed(&(*p)->queued) > HTTP_PATIENCE)
        {
            return p;
        }
    }

    return NULL;
}


/*
 * The first of the queue, which is locked and not empty, with those behind it
 * that its handler takes together.
 */

static http_job_t *
http_take(http_t *http, http_job_t **p)
{
    unsigned     n;
    http_job_t  *job, *last;

    job = *p;
    last = job;

    job->late = (http_elapsed(&job->queued) > HTTP_PATIENCE);

    for (n = 1; n < job->together && !job->late; n++) {

        if (last->next == NULL || last->next->handler != job->handler) {
            break;
        }

        last = last->next;
    }

    *p = last->next;
    metrics_queue(http->waiting -= n);

    if (job->together > 1) {
        http->together -= n;
        http->groups += !job->late;
    }

    if (*p == NULL) {
        http->last = p;
    }

    last->next = NULL;

    return job;
}


/*
 * One worker at a time is woken, who wakes the next if there is more to do:
 * what comes until then can be done together, and by who is awake anyway.
 */

static void
http_wake(http_t *http)
{
    if (http->sleeping > 0 && !http->waking && http_find(http) != NULL) {
        http->waking = 1;
        pthread_cond_signal(&http->wakeup);
    }
}


/* a flood of those which are done together leaves room for the others */

static int
http_full(const http_t *http, const http_job_t *job)
{
    unsigned  queue;

    queue = http->cf->queue;

    return http->stopping || http->waiting >= queue
           || (job->together > 1 && http->together >= queue - queue / 4);
}


static void
http_run(http_job_t *job, worker_t *w)
{
    http_job_t  *next;

    if (job->late) {
        metrics_add(METRICS_WAITED);
        http_note(&job->request, " reason=waited");
        http_fail(&job->request, VERDICT_RETRY, NULL);

    } else {
        job->handler(&job->request, w);
    }

    /* who is resumed may be gone at once */

    for ( /* void */ ; job != NULL; job = next) {
        next = job->next;
        job->state = HTTP_ANSWERED;

        MHD_resume_connection(job->connection);
    }
}


static long
http_elapsed(const struct timespec *since)
{
    return http_us(since) / 1000;
}


static long
http_us(const struct timespec *since)
{
    struct timespec  now;

    clock_gettime(CLOCK_MONOTONIC, &now);

    return (now.tv_sec - since->tv_sec) * 1000000
           + (now.tv_nsec - since->tv_nsec) / 1000;
}


static enum MHD_Result
http_access(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *upload_data,
    size_t *upload_data_size, void **con_cls)
{
    http_job_t  *job;

    (void) version;

    job = *con_cls;

    if (job == NULL) {
        job = http_begin(cls, connection, url, method);
        *con_cls = job;
        return (job == NULL) ? MHD_NO : MHD_YES;
    }

    if (*upload_data_size != 0) {
        return http_body(job, upload_data, upload_data_size);
    }

    switch (job->state) {

    case HTTP_READING:
        return http_dispatch(job);

    case HTTP_REFUSED:
        http_fail(&job->request, VERDICT_TOO_LARGE, NULL);
        return http_send(job);

    case HTTP_ANSWERED:
        return http_send(job);

    default:
        return MHD_NO;
    }
}


static http_job_t *
http_begin(http_t *http, struct MHD_Connection *connection, const char *url,
    const char *method)
{
    http_job_t  *job;

    job = calloc(1, sizeof(http_job_t));
    if (job == NULL) {
        return NULL;
    }

    job->http = http;
    job->connection = connection;
    job->request.method = method;
    job->request.path = url;

    clock_gettime(CLOCK_MONOTONIC, &job->start);

    pthread_mutex_lock(&http->lock);
    http->active++;
    pthread_mutex_unlock(&http->lock);

    return job;
}


static enum MHD_Result
http_body(http_job_t *job, const char *data, size_t *n)
{
    size_t   size;
    u_char  *body;

    if (job->state == HTTP_ANSWERED) {
        return MHD_NO;
    }

    if (job->request.body_len + *n > HTTP_MAX_BODY) {

        /* the answer is read only by who may finish sending; within reason */

        job->state = HTTP_REFUSED;
        job->request.body_len += *n;

        if (job->request.body_len > 16 * HTTP_MAX_BODY) {
            return MHD_NO;
        }

        *n = 0;
        return MHD_YES;
    }

    if (job->request.body_len + *n >= job->size) {
        size = (job->size == 0) ? 4096 : job->size;

        while (size <= job->request.body_len + *n) {
            size *= 2;
        }

        body = realloc(job->body, size);
        if (body == NULL) {
            return MHD_NO;
        }

        job->body = body;
        job->size = size;
    }

    memcpy(job->body + job->request.body_len, data, *n);
    job->request.body_len += *n;
    job->body[job->request.body_len] = '\0';
    *n = 0;

    return MHD_YES;
}


static enum MHD_Result
http_dispatch(http_job_t *job)
{
    http_t    *http;
    worker_t   w;

    http = job->http;
    job->request.body = (job->body == NULL) ? (const u_char *) "" : job->body;

    job->handler = routes_find(&job->request, &job->together);

    if (job->together == 0) {
        memset(&w, 0, sizeof(worker_t));
        w.cf = http->cf;

        job->handler(&job->request, &w);
        return http_send(job);
    }

    pthread_mutex_lock(&http->lock);

    if (http_full(http, job)) {
        pthread_mutex_unlock(&http->lock);

        metrics_add(METRICS_OVERLOAD);
        http_note(&job->request, " reason=overload");
        http_fail(&job->request, VERDICT_RETRY,
                  "Too many requests in progress");
        return http_send(job);
    }

    /* suspended before a worker can see it, or it could be resumed first */

    job->state = HTTP_QUEUED;
    clock_gettime(CLOCK_MONOTONIC, &job->queued);
    MHD_suspend_connection(job->connection);

    *http->last = job;
    http->last = &job->next;
    metrics_queue(++http->waiting);
    http->together += (job->together > 1);

    http_wake(http);

    pthread_mutex_unlock(&http->lock);

    return MHD_YES;
}


static enum MHD_Result
http_send(http_job_t *job)
{
    char                 *text;
    enum MHD_Result       rc;
    struct MHD_Response  *response;
    static char           fallback[] =
        "{\"detail\":\"Service temporarily unavailable\"}";

    text = (job->text == NULL) ? fallback : job->text;

    response = MHD_create_response_from_buffer(strlen(text), text,
                                               MHD_RESPMEM_MUST_COPY);
    if (response == NULL) {
        return MHD_NO;
    }

    rc = MHD_add_response_header(response, "Content-Type",
                                 (job->type == NULL) ? "application/json"
                                                     : job->type);

    if (rc == MHD_YES) {
        rc = MHD_add_response_header(response, "Cache-Control", "no-store");
    }

    if (rc == MHD_YES && job->retry) {
        rc = MHD_add_response_header(response, "Retry-After", HTTP_RETRY_AFTER);
    }

    if (rc == MHD_YES && job->challenge) {
        rc = MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    }

    if (rc == MHD_YES && job->allow != NULL) {
        rc = MHD_add_response_header(response, "Allow", job->allow);
    }

    if (rc == MHD_YES) {
        rc = MHD_queue_response(job->connection, job->status, response);
    }

    MHD_destroy_response(response);

    job->state = HTTP_ANSWERED;

    metrics_request(job->request.route, job->status, http_us(&job->start));
    http_log(job);

    return rc;
}


static void
http_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
    enum MHD_RequestTerminationCode toe)
{
    http_t      *http;
    http_job_t  *job;

    (void) cls;
    (void) connection;

    job = *con_cls;

    if (job == NULL) {
        return;
    }

    *con_cls = NULL;
    http = job->http;

    if (toe != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        log_info("client left before the answer method=%s path=%s",
                 job->request.method, log_value(job->request.path));
    }

    free(job->body);
    free(job->text);
    free(job);

    pthread_mutex_lock(&http->lock);

    http->active--;

    if (http->active == 0) {
        pthread_cond_signal(&http->idle);
    }

    pthread_mutex_unlock(&http->lock);
}


static void
http_log(const http_job_t *job)
{
    const char  *id;

    id = http_header(&job->request, "X-Request-ID");

    log_info("request id=%s method=%s path=%s status=%u ms=%ld%s",
             (*id == '\0') ? "-" : log_value(id),
             log_value(job->request.method), log_value(job->request.path),
             job->status, http_elapsed(&job->start), job->note);
}


static void
http_daemon_log(void *cls, const char *fmt, va_list args)
{
    char  buf[512];

    (void) cls;

    /* mostly of clients that went away */

    vsnprintf(buf, sizeof(buf), fmt, args);
    log_debug("http server reason=%s", log_value(buf));
}


static json_t *
http_detail(const char *detail)
{
    return json_pack("{s: s}", "detail", detail);
}
