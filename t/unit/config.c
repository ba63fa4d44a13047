
#include <string.h>

#include "../../sidecar/config.c"
#include "tap.h"


#define SECRET  "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define LONG    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"


static const char *get(const char *name);
static int load(const char *const *pairs);
static void test_defaults(void);
static void test_aliases(void);
static void test_errors(void);


static const char *const  *environment;
static config_t            cf;
static char                error[512];


int
main(void)
{
    test_defaults();
    test_aliases();
    test_errors();

    return done();
}


static void
test_defaults(void)
{
    static const char *const  none[] = { NULL };
    static const char *const  empty[] = {
        "DATABASE_URL", "", "REDIS_URL", "", "MAX_FILE_SIZE", "",
        "RUNCOACH_HOME", "/h", NULL
    };

    ok(load(none) == 0, "an empty environment is enough");
    is_str(cf.listen, "unix:./run/sidecar.sock", "address");
    is_str(cf.store_bucket, "fit-files", "bucket");
    ok(cf.max_file_size == 10485760, "size of a file");
    ok(cf.threads == 8 && cf.queue == 64, "threads and queue");
    ok(cf.database == NULL && cf.redis_url == NULL
       && cf.webhook_secret == NULL && !cf.store_enabled,
       "nothing to talk to");
    ok(cf.database_verify == 1, "databases are verified");
    ok(cf.queue_mode == QUEUE_INTERNAL && cf.clerk_secret == NULL
       && cf.user_files_grace == 7 && cf.payload_days == 30
       && cf.upload_grace == 300, "nobody else is asked");
    is_str(cf.clerk_api_url, "https://api.clerk.com", "Clerk's API");

    ok(load(empty) == 0, "an empty value is none");
    ok(cf.database == NULL && cf.redis_url == NULL
       && cf.max_file_size == 10485760, "the defaults stand");
    is_str(cf.listen, "unix:/h/sidecar.sock", "address under the home");
}


static void
test_aliases(void)
{
    static const char *const  all[] = {
        "R2_ACCESS_KEY_ID", "ak", "R2_SECRET_ACCESS_KEY", "sk",
        "R2_ACCOUNT_ID", "acc", "CLERK_WEBHOOK_SIGNING_SECRET", SECRET,
        "DATABASE_URL", "postgresql+asyncpg://u:p@x.neon.tech/d?ssl=require",
        "REDIS_URL", "rediss://:p@h:1", NULL
    };
    static const char *const  both[] = {
        "R2_ACCESS_KEY", "first", "R2_ACCESS_KEY_ID", "second",
        "R2_SECRET_KEY", "sk", "R2_ACCOUNT_ID", "acc", NULL
    };
    static const char *const  half[] = {
        "R2_ACCESS_KEY", "ak", "R2_SECRET_KEY", "sk", NULL
    };

    ok(load(all) == 0, "aliases: %s", error);
    ok(cf.store_enabled, "a store");
    is_str(cf.store.host, "acc.r2.cloudflarestorage.com", "its host");
    is_str(cf.store.base, "/fit-files", "its bucket");
    ok(cf.webhook_secret != NULL && cf.webhook_secrets.nkeys == 1,
       "a secret of webhooks");
    ok(cf.database != NULL && strstr(cf.database, "verify-full") != NULL,
       "a database that must prove its name");
    ok(cf.redis.tls, "Redis with TLS");

    ok(load(both) == 0, "a name and its alias");
    is_str(cf.store_access_key, "first", "the name goes first");

    ok(load(half) == -1 && strstr(error, "R2_ACCOUNT_ID or R2_ENDPOINT_URL "
                                         "must be set") != NULL,
       "half a store is a mistake");
}


static void
test_errors(void)
{
    size_t  i;

    static const struct {
        const char *const  pairs[7];
        const char        *named;
    } bad[] = {
        { { "MAX_FILE_SIZE", "10M", NULL }, "MAX_FILE_SIZE must be a number" },
        { { "MAX_FILE_SIZE", "0", NULL }, "from 1 to" },
        { { "SIDECAR_THREADS", "65", NULL }, "SIDECAR_THREADS" },
        { { "SIDECAR_LISTEN", "here", NULL }, "SIDECAR_LISTEN" },
        { { "QUEUE_MODE", "rq", NULL }, "QUEUE_MODE must be" },
        { { "QUEUE_MODE", "arq", NULL }, "QUEUE_MODE needs REDIS_URL" },
        { { "CLERK_API_URL", "http://api.clerk.com", NULL },
          "CLERK_API_URL must be https" },
        { { "CLERK_SECRET_KEY", "sk hunter2", NULL },
          "CLERK_SECRET_KEY must be one word" },
        { { "SIDECAR_LISTEN", "unix:", NULL }, "SIDECAR_LISTEN" },
        { { "SIDECAR_LOG_LEVEL", "loud", NULL }, "SIDECAR_LOG_LEVEL" },
        { { "DATABASE_TLS_VERIFY", "yes", NULL }, "\"on\" or \"off\"" },
        { { "DATABASE_URL", "mysql://u:hunter2@h", NULL },
          "DATABASE_URL must be like" },
        { { "DATABASE_URL", "postgresql://u:hunter2%@h/d", NULL },
          "DATABASE_URL is not understood" },
        { { "DATABASE_URL", "postgresql://u:hunter2@h/d?nonsense=1", NULL },
          "DATABASE_URL is not understood" },
        { { "REDIS_URL", "http://:hunter2@h", NULL }, "REDIS_URL must be" },
        { { "CLERK_WEBHOOK_SIGNING_SECRET", "whsec_hunter2!", NULL },
          "CLERK_WEBHOOK_SIGNING_SECRET" },
        { { "R2_ACCESS_KEY", "a", "R2_SECRET_KEY", "hunter2",
            "R2_ENDPOINT_URL", "s3.example.com", NULL }, "R2_ENDPOINT_URL" },
        { { "R2_ACCESS_KEY", "a", "R2_SECRET_KEY", "hunter2",
            "R2_ACCOUNT_ID", "https://x", NULL }, "R2_ACCOUNT_ID" },
        { { "R2_ACCESS_KEY", "a", "R2_SECRET_KEY",
            LONG LONG LONG LONG "hunter2", "R2_ACCOUNT_ID", "x", NULL },
          "R2_SECRET_KEY" },
        { { "R2_SECRET_KEY", "hunter2", "R2_ACCOUNT_ID", "acc", NULL },
          "R2_ACCESS_KEY must be set" },
        { { "R2_ACCESS_KEY", "a", "R2_ENDPOINT_URL", "http://h", NULL },
          "R2_SECRET_KEY must be set" },
        { { "DATABASE_URL", "postgresql://u:hunt@er2@h/d", NULL },
          "percent-encode" },
        { { "REDIS_URL", "redis://:hunter2/x@h", NULL }, "percent-encode" }
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {

        ok(load(bad[i].pairs) == -1 && strstr(error, bad[i].named) != NULL,
           "%s", error);
        ok(strstr(error, "hunter2") == NULL, "no secret in it");
    }
}


static int
load(const char *const *pairs)
{
    environment = pairs;
    error[0] = '\0';

    return config_load(&cf, get, error, sizeof(error));
}


static const char *
get(const char *name)
{
    const char *const  *p;

    for (p = environment; *p != NULL; p += 2) {
        if (strcmp(p[0], name) == 0) {
            return p[1];
        }
    }

    return NULL;
}
