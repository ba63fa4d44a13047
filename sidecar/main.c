
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <curl/curl.h>

#include "announce.h"
#include "commands.h"
#include "handlers.h"
#include "metrics.h"
#include "migrate.h"


/* seconds for requests that have begun; the edge waits no longer either */

#define MAIN_DRAIN  30


typedef struct {
    const config_t  *cf;
    int              stop;
    int              rc;
} main_work_t;


typedef struct {
    const char      *name;
    int            (*run)(const config_t *cf, int argc, char **argv);
} main_command_t;


static int main_serve(const config_t *cf, int argc, char **argv);
static int main_work(const config_t *cf, int argc, char **argv);
static void *main_work_thread(void *data);
static void *main_announce_thread(void *data);
static int main_migrate(const config_t *cf, int argc, char **argv);
static int main_check(const config_t *cf, int argc, char **argv);
static int main_jobs(const config_t *cf, int argc, char **argv);
static int main_replay(const config_t *cf, int argc, char **argv);
static int main_reconcile(const config_t *cf, int argc, char **argv);
static int main_doctor(const config_t *cf, int argc, char **argv);
static int main_files(const config_t *cf, int argc, char **argv);
static int main_inventory(const config_t *cf, int argc, char **argv);
static int main_usage_if(int rc);
static int main_prepare(void);
static void main_block(sigset_t *set);
static void main_wait(const sigset_t *set);
static int main_usage(FILE *out);


static const main_command_t  main_commands[] = {
    { "serve", main_serve },
    { "work", main_work },
    { "migrate", main_migrate },
    { "check", main_check },
    { "doctor", main_doctor },
    { "jobs", main_jobs },
    { "inventory", main_inventory },
    { "migrate-files", main_files },
    { "replay", main_replay },
    { "reconcile", main_reconcile },
    { NULL, NULL }
};


static const char *const  main_libpq[] = {
    "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", NULL
};


int
main(int argc, char **argv)
{
    char                   error[512];
    size_t                 i;
    static config_t        cf;
    const main_command_t  *command;

    if (argc < 2) {
        return main_usage(stderr);
    }

    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        return main_usage(stdout);
    }

    if (strcmp(argv[1], "-v") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("runcoach-sidecar/%s\n", RUNCOACH_VERSION);
        return 0;
    }

    for (command = main_commands; command->name != NULL; command++) {
        if (strcmp(argv[1], command->name) == 0) {
            break;
        }
    }

    if (command->name == NULL) {
        return main_usage(stderr);
    }

    /* DATABASE_URL alone says where the database is: libpq would ask these */

    for (i = 0; main_libpq[i] != NULL; i++) {
        unsetenv(main_libpq[i]);
    }

    if (config_load(&cf, (config_getenv_pt) getenv, error, sizeof(error)) != 0)
    {
        if (command->run == main_doctor) {
            return command_doctor_config(error);
        }

        log_error("%s", error);
        return 2;
    }

    log_init(cf.log_level);

    return command->run(&cf, argc - 2, argv + 2);
}


static int
main_serve(const config_t *cf, int argc, char **argv)
{
    http_t    *http;
    sigset_t   set;

    (void) argv;

    if (argc != 0) {
        return main_usage(stderr);
    }

    if (main_prepare() != 0) {
        return 1;
    }

    if (cf->database == NULL) {
        log_warn("DATABASE_URL is not set: most requests will be answered 503");
    }

    /* before the threads, which inherit it: signals are main's alone */

    metrics_open(cf->listen, cf->home);
    main_block(&set);

    http = http_start(cf);
    if (http == NULL) {
        return 1;
    }

    main_wait(&set);

    http_stop(http, MAIN_DRAIN);
    log_info("stopped");

    return 0;
}


static int
main_work(const config_t *cf, int argc, char **argv)
{
    sigset_t      set;
    uint64_t      one;
    pthread_t     thread, announce;
    main_work_t   work;

    (void) argv;

    if (argc != 0) {
        return main_usage(stderr);
    }

    if (main_prepare() != 0) {
        return 1;
    }

    if (cf->database == NULL) {
        log_error("DATABASE_URL is not set: there is nothing to work on");
        return 2;
    }

    metrics_open(cf->listen, cf->home);
    main_block(&set);

    work.cf = cf;
    work.rc = 0;
    work.stop = eventfd(0, EFD_CLOEXEC);

    if (work.stop == -1
        || pthread_create(&thread, NULL, main_work_thread, &work) != 0
        || pthread_create(&announce, NULL, main_announce_thread, &work) != 0)
    {
        log_error("cannot start reason=%s", log_value(strerror(errno)));
        return 1;
    }

    main_wait(&set);

    one = 1;

    if (write(work.stop, &one, sizeof(one)) != sizeof(one)) {
        return 1;
    }

    pthread_join(thread, NULL);
    pthread_join(announce, NULL);
    close(work.stop);
    log_info("stopped");

    return (work.rc == 0) ? 0 : 1;
}


static void *
main_work_thread(void *data)
{
    main_work_t *work = data;

    work->rc = jobs_run(work->cf, work->stop);

    if (work->rc != 0) {
        kill(getpid(), SIGTERM);
    }

    return NULL;
}


/* what this one learns is a comfort: without it the jobs go on */

static void *
main_announce_thread(void *data)
{
    main_work_t *work = data;

    if (work->cf->redis_url != NULL
        && announce_run(work->cf, work->stop) != 0)
    {
        log_error("announced uploads are not read: no memory");
    }

    return NULL;
}


static int
main_migrate(const config_t *cf, int argc, char **argv)
{
    int        rc;
    db_t      *db;
    char      *end;
    long       n;

    if (argc < 1 || argc > 2) {
        return main_usage(stderr);
    }

    n = 0;

    if (argc == 2) {
        n = strtol(argv[1], &end, 10);

        if (strcmp(argv[0], "down") != 0 || *end != '\0' || n < 1 || n > 9999)
        {
            return main_usage(stderr);
        }
    }

    if (cf->database == NULL) {
        log_error("DATABASE_URL is not set: there is nothing to migrate");
        return 2;
    }

    db = db_create(cf->database, cf->statement);
    if (db == NULL) {
        return 1;
    }

    if (strcmp(argv[0], "up") == 0) {
        rc = migrate_up(db);

    } else if (strcmp(argv[0], "down") == 0) {
        rc = migrate_down(db, n);

    } else if (strcmp(argv[0], "status") == 0) {
        rc = migrate_status(db);

    } else {
        db_free(db);
        return main_usage(stderr);
    }

    db_free(db);

    return (rc == 0) ? 0 : 1;
}


static int
main_check(const config_t *cf, int argc, char **argv)
{
    (void) argv;

    if (argc != 0) {
        return main_usage(stderr);
    }

    printf("configuration ok: listen %s, database %s, redis %s, webhooks %s, "
           "store %s\n", cf->listen,
           (cf->database != NULL) ? "set" : "none",
           (cf->redis_url != NULL) ? "set" : "none",
           (cf->webhook_secret != NULL) ? "set" : "none",
           cf->store_enabled ? cf->store.host : "none");

    return 0;
}


static int
main_jobs(const config_t *cf, int argc, char **argv)
{
    return main_usage_if(command_jobs(cf, argc, argv));
}


static int
main_replay(const config_t *cf, int argc, char **argv)
{
    return main_usage_if(command_replay(cf, argc, argv));
}


static int
main_reconcile(const config_t *cf, int argc, char **argv)
{
    (void) signal(SIGPIPE, SIG_IGN);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return 1;
    }

    return main_usage_if(command_reconcile(cf, argc, argv));
}


static int
main_doctor(const config_t *cf, int argc, char **argv)
{
    (void) signal(SIGPIPE, SIG_IGN);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return 1;
    }

    return main_usage_if(command_doctor(cf, argc, argv));
}


static int
main_files(const config_t *cf, int argc, char **argv)
{
    (void) signal(SIGPIPE, SIG_IGN);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return 1;
    }

    return main_usage_if(command_files(cf, argc, argv));
}


static int
main_inventory(const config_t *cf, int argc, char **argv)
{
    (void) signal(SIGPIPE, SIG_IGN);

    return main_usage_if(command_inventory(cf, argc, argv));
}


static int
main_usage_if(int rc)
{
    return (rc == COMMAND_USAGE) ? main_usage(stderr) : rc;
}


/* what talks to the world has no business being root */

static int
main_prepare(void)
{
    if (geteuid() == 0) {
        log_error("refusing to run as root: start as an ordinary user");
        return -1;
    }

    (void) signal(SIGPIPE, SIG_IGN);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        log_error("cannot initialize libcurl");
        return -1;
    }

    return 0;
}


static void
main_block(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGQUIT);
    sigaddset(set, SIGHUP);

    pthread_sigmask(SIG_BLOCK, set, NULL);
}


/* returns at the first signal that ends us; the second one then does at once */

static void
main_wait(const sigset_t *set)
{
    int  sig;

    for ( ;; ) {

        if (sigwait(set, &sig) != 0) {
            continue;
        }

        if (sig != SIGHUP) {
            break;
        }

        log_info("the environment is read at the start only: restart to "
                 "change it");
    }

    log_info("stopping signal=%d", sig);

    (void) signal(SIGTERM, SIG_DFL);
    (void) signal(SIGINT, SIG_DFL);
    (void) signal(SIGQUIT, SIG_DFL);

    pthread_sigmask(SIG_UNBLOCK, set, NULL);
}


static int
main_usage(FILE *out)
{
    fprintf(out,
            "usage: runcoach-sidecar serve\n"
            "       runcoach-sidecar work\n"
            "       runcoach-sidecar migrate up | down [N] | status\n"
            "       runcoach-sidecar doctor\n"
            "       runcoach-sidecar jobs list [open | queued | running | dead"
            " | done | all]\n"
            "       runcoach-sidecar jobs requeue ID | --dead\n"
            "       runcoach-sidecar replay SVIX_ID\n"
            "       runcoach-sidecar inventory\n"
            "       runcoach-sidecar migrate-files [--root DIRECTORY]"
            " [--remove]\n"
            "       runcoach-sidecar reconcile [--repair [--force]]\n"
            "       runcoach-sidecar check | --version | --help\n");

    if (out == stdout) {
        printf("\nenvironment:\n");
        config_usage();
        return 0;
    }

    return 2;
}
