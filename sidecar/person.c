
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>
#include <openssl/crypto.h>

#include "clerk.h"
#include "person.h"


#define PERSON_CONNECT  1500L      /* milliseconds */
#define PERSON_DEADLINE  3000L

/* seconds without a question after an answer that was none */

#define PERSON_PAUSE    10

/* who is known already costs no question; a longer id is looked up each time */

#define PERSON_SLOTS    1024
#define PERSON_ID       64


typedef struct {
    size_t   len;
    u_char   data[CLERK_MAX_BODY];
} person_answer_t;


static int person_remembered(const char *clerk_id);
static void person_remember(const char *clerk_id);
static unsigned person_slot(const char *clerk_id);
static int person_known(worker_t *w, const char *clerk_id);
static int person_paused(void);
static void person_pause(void);
static int person_ask(const config_t *cf, const char *clerk_id,
    person_answer_t *answer);
static long person_get(const config_t *cf, const char *url,
    person_answer_t *answer);
static size_t person_write(char *p, size_t size, size_t n, void *data);
static void person_apply(worker_t *w, const char *clerk_id,
    const person_answer_t *answer);
static time_t person_now(void);


static pthread_mutex_t  person_mutex = PTHREAD_MUTEX_INITIALIZER;
static char             person_ids[PERSON_SLOTS][PERSON_ID];
static time_t           person_until;


static const char  person_known_sql[] =
    "SELECT EXISTS (SELECT 1 FROM users WHERE clerk_user_id = $1)"
    " OR EXISTS (SELECT 1 FROM edge_identity WHERE clerk_user_id = $1)";

static const char  person_apply_sql[] =
    "SELECT outcome, user_id, detail FROM edge_receive_event("
    "$1, 'user.updated', $2, $3::bigint, $4, $5::boolean, $6, NULL, NULL)";


void
person_meet(worker_t *w, const char *clerk_id)
{
    person_answer_t  *answer;

    if (w->cf->clerk_secret == NULL || clerk_id == NULL
        || strlen(clerk_id) > CLERK_MAX_ID || person_remembered(clerk_id))
    {
        return;
    }

    if (person_known(w, clerk_id)) {
        person_remember(clerk_id);
        return;
    }

    if (person_paused()) {
        return;
    }

    answer = malloc(sizeof(person_answer_t));
    if (answer == NULL) {
        return;
    }

    if (person_ask(w->cf, clerk_id, answer) == 0) {
        person_apply(w, clerk_id, answer);
    }

    free(answer);
}


static int
person_remembered(const char *clerk_id)
{
    int  rc;

    pthread_mutex_lock(&person_mutex);
    rc = (strcmp(person_ids[person_slot(clerk_id)], clerk_id) == 0);
    pthread_mutex_unlock(&person_mutex);

    return rc;
}


static void
person_remember(const char *clerk_id)
{
    size_t  n;

    n = strlen(clerk_id);

    if (n < PERSON_ID) {
        pthread_mutex_lock(&person_mutex);
        memcpy(person_ids[person_slot(clerk_id)], clerk_id, n + 1);
        pthread_mutex_unlock(&person_mutex);
    }
}


static unsigned
person_slot(const char *clerk_id)
{
    unsigned  hash;

    hash = 2166136261U;

    while (*clerk_id != '\0') {
        hash = (hash ^ (u_char) *clerk_id++) * 16777619U;
    }

    return hash % PERSON_SLOTS;
}


/* in doubt they are: nobody waits for Clerk because of a database */

static int
person_known(worker_t *w, const char *clerk_id)
{
    int        rc;
    PGresult  *res;

    if (db_query(w->db, "known", person_known_sql, 1, &clerk_id, &res) != DB_OK)
    {
        return 1;
    }

    rc = (strcmp(db_value(res, 0), "t") == 0);
    PQclear(res);

    return rc;
}


static int
person_paused(void)
{
    int  rc;

    pthread_mutex_lock(&person_mutex);
    rc = (person_now() < person_until);
    pthread_mutex_unlock(&person_mutex);

    return rc;
}


static void
person_pause(void)
{
    pthread_mutex_lock(&person_mutex);
    person_until = person_now() + PERSON_PAUSE;
    pthread_mutex_unlock(&person_mutex);
}


static int
person_ask(const config_t *cf, const char *clerk_id, person_answer_t *answer)
{
    long    status;
    char    url[1024 + 3 * CLERK_MAX_ID];
    size_t  n;

    n = snprintf(url, 1024, "%s/v1/users/", cf->clerk_api_url);

    n += runcoach_sigv4_encode((u_char *) url + n, (const u_char *) clerk_id,
                               strlen(clerk_id), 0);
    url[n] = '\0';

    status = person_get(cf, url, answer);

    if (status == 200) {
        return 0;
    }

    /* one whom Clerk does not have is not Clerk's trouble */

    if (status != 404) {
        person_pause();
    }

    if (status >= 0) {
        log_warn("clerk does not tell about a user clerk=%s status=%ld",
                 log_value(clerk_id), status);
    }

    return -1;
}


static long
person_get(const config_t *cf, const char *url, person_answer_t *answer)
{
    long                status;
    char                header[512];
    CURL               *curl;
    CURLcode            code;
    struct curl_slist  *headers;

    status = -1;
    answer->len = 0;
    headers = NULL;
    curl = curl_easy_init();

    snprintf(header, sizeof(header), "Authorization: Bearer %s",
             cf->clerk_secret);

    if (curl == NULL || (headers = curl_slist_append(NULL, header)) == NULL
        || curl_easy_setopt(curl, CURLOPT_URL, url) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) != CURLE_OK
        || curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https")
           != CURLE_OK)
    {
        goto done;
    }

    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, PERSON_CONNECT);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, PERSON_DEADLINE);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, person_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);

    code = curl_easy_perform(curl);

    if (code != CURLE_OK) {
        log_warn("clerk is not reachable reason=%s",
                 log_value(curl_easy_strerror(code)));
        goto done;
    }

    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);

done:

    OPENSSL_cleanse(header, sizeof(header));
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);

    return status;
}


static size_t
person_write(char *p, size_t size, size_t n, void *data)
{
    person_answer_t *answer = data;

    size_t  len;

    len = size * n;

    if (len > sizeof(answer->data) - answer->len) {
        return 0;
    }

    memcpy(answer->data + answer->len, p, len);
    answer->len += len;

    return len;
}


/*
 * As an event of the time the person was changed: one that comes by webhook,
 * before, after or now, is held against it.
 */

static void
person_apply(worker_t *w, const char *clerk_id, const person_answer_t *answer)
{
    char            id[CLERK_MAX_ID + 32], ms[24];
    PGresult       *res;
    const char     *params[6], *reason;
    clerk_event_t   ev;

    if (clerk_user_parse(&ev, answer->data, answer->len, &reason) != CLERK_OK
        || strcmp(ev.clerk_id, clerk_id) != 0)
    {
        log_warn("clerk tells about nobody or somebody else clerk=%s",
                 log_value(clerk_id));
        person_pause();
        return;
    }

    snprintf(ms, sizeof(ms), "%lld", (long long) ev.event_ms);
    snprintf(id, sizeof(id), "api:%s:%s", clerk_id, ms);

    params[0] = id;
    params[1] = clerk_id;
    params[2] = ms;
    params[3] = ev.email;
    params[4] = ev.email_verified ? "true" : "false";
    params[5] = ev.display_name;

    if (db_query(w->db, "meet_user", person_apply_sql, 6, params, &res)
        != DB_OK)
    {
        return;
    }

    log_info("clerk was asked clerk=%s outcome=%s user=%s detail=%s",
             log_value(clerk_id), log_value(db_value(res, 0)),
             log_value(db_value(res, 1)), log_value(db_value(res, 2)));

    PQclear(res);
    person_remember(clerk_id);
}


static time_t
person_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec;
}
