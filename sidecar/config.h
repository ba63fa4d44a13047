
/*
 * What the environment says.  One table in config.c has every name, its
 * aliases and its default; nothing else reads the environment.
 */


#ifndef _CONFIG_H_INCLUDED_
#define _CONFIG_H_INCLUDED_


#include "../ngx_runcoach_module/lib/runcoach_endpoint.h"
#include "../ngx_runcoach_module/lib/runcoach_redis_url.h"
#include "../ngx_runcoach_module/lib/runcoach_sigv4.h"
#include "log.h"
#include "svix.h"
#include "url.h"


typedef enum {
    QUEUE_INTERNAL = 0,              /* our worker analyzes */
    QUEUE_ARQ,                       /* the application's does */
    QUEUE_BOTH
} queue_mode_e;


typedef struct {
    const char     *home;
    const char     *listen;
    const char     *group;           /* of the socket; NULL: the process's */
    log_level_e     log_level;

    const char     *database;        /* for libpq; NULL: none.  A secret */
    const char     *database_url;    /* as it was given.  A secret */
    unsigned        database_verify;

    const char     *redis_url;       /* NULL: none.  A secret */
    runcoach_redis_url_t  redis;

    queue_mode_e    queue_mode;
    const char     *arq_queue;

    const char     *webhook_secret;  /* NULL: webhooks are not configured */
    svix_secrets_t  webhook_secrets;

    /* what the edge reads; here for the doctor alone */
    const char     *cors_origins;
    const char     *clerk_key;
    const char     *clerk_issuer;
    const char     *clerk_jwks;
    const char     *clerk_pem;

    const char     *clerk_secret;    /* NULL: Clerk is not asked */
    const char     *clerk_api_url;   /* without a slash at the end */

    const char     *store_endpoint;
    const char     *store_account;
    const char     *store_access_key;
    const char     *store_secret_key;
    const char     *store_token;     /* of temporary credentials; may be NULL */
    const char     *store_bucket;
    const char     *store_region;
    const char     *store_style;
    const char     *store_jurisdiction;      /* NULL: none */
    unsigned        store_enabled;

    runcoach_endpoint_t  store;

    long long       max_file_size;   /* bytes */
    long long       user_files_grace;  /* days; -1: never */
    long long       payload_days;    /* of events, until they are purged */
    long long       threads;         /* workers of serve */
    long long       queue;           /* requests that may wait for one */
    long long       statement;       /* seconds a statement may take */
    long long       lease;           /* seconds a job belongs to a worker */
    long long       sweep;           /* seconds between looks at the jobs */
    long long       upload_grace;    /* seconds after the end of a URL */
} config_t;


/* value of a variable, or NULL; getenv() but in tests */

typedef const char *(*config_getenv_pt)(const char *name);


/*
 * Fills *cf; strings are borrowed from the environment or live as long as the
 * process.  Returns 0, or -1 with a sentence in error that names the variable
 * and what would be right, and never its value if that is a secret.
 */

int config_load(config_t *cf, config_getenv_pt get, char *error, size_t size)
    __attribute__((warn_unused_result));


/* one line for each variable: name, aliases, default, meaning */

void config_usage(void);


#endif /* _CONFIG_H_INCLUDED_ */
