
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "config.h"


#define CONFIG_ROOTCERT  "/etc/ssl/certs/ca-certificates.crt"


typedef struct config_var_s  config_var_t;

typedef const char *(*config_set_pt)(config_t *cf, const config_var_t *var,
    const char *value);

struct config_var_s {
    const char     *name;
    const char     *aliases[2];
    const char     *value;           /* if the variable is unset or empty */
    config_set_pt   set;
    size_t          offset;
    long long       min;
    long long       max;
    const char     *meaning;
};


static const char *config_set_string(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_number(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_switch(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_level(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_redis(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_secrets(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_token(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_api(config_t *cf, const config_var_t *var,
    const char *value);
static const char *config_set_queue(config_t *cf, const config_var_t *var,
    const char *value);
static int config_listen(config_t *cf, char *error, size_t size);
static int config_database(config_t *cf, char *error, size_t size);
static int config_store(config_t *cf, char *error, size_t size);
static const char *config_endpoint_error(runcoach_endpoint_rc_e rc);
static runcoach_str_t config_text(const char *s);
static const char *config_value(const config_var_t *var, config_getenv_pt get,
    const char **name);


/* name, aliases, default, type, field, bounds, meaning */

static const config_var_t  config_vars[] = {

    { "RUNCOACH_HOME", { NULL, NULL }, "./run",
      config_set_string, offsetof(config_t, home), 0, 0,
      "directory of data, sockets and logs" },

    { "SIDECAR_LISTEN", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, listen), 0, 0,
      "unix:/path or address:port; unix:$RUNCOACH_HOME/sidecar.sock" },

    { "SIDECAR_GROUP", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, group), 0, 0,
      "group that may connect to the socket, if not the process's own" },

    { "SIDECAR_LOG_LEVEL", { NULL, NULL }, "info",
      config_set_level, offsetof(config_t, log_level), 0, 0,
      "error, warn, info or debug" },

    { "SIDECAR_THREADS", { NULL, NULL }, "8",
      config_set_number, offsetof(config_t, threads), 1, 64,
      "requests served at a time, each with a database connection" },

    { "SIDECAR_QUEUE", { NULL, NULL }, "64",
      config_set_number, offsetof(config_t, queue), 1, 4096,
      "requests that may wait; more are answered 503" },

    { "SIDECAR_STATEMENT_TIMEOUT", { NULL, NULL }, "8",
      config_set_number, offsetof(config_t, statement), 1, 600,
      "seconds the database may take for a statement" },

    { "SIDECAR_LEASE", { NULL, NULL }, "120",
      config_set_number, offsetof(config_t, lease), 1, 3600,
      "seconds after which a job of a dead worker is taken over" },

    { "SIDECAR_SWEEP", { NULL, NULL }, "300",
      config_set_number, offsetof(config_t, sweep), 1, 86400,
      "seconds between looks for jobs that nobody announced" },

    { "SIDECAR_UPLOAD_GRACE", { NULL, NULL }, "300",
      config_set_number, offsetof(config_t, upload_grace), 0, 86400,
      "seconds from a URL's end to the look for what was uploaded" },

    { "DATABASE_URL", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, database_url), 0, 0,
      "postgresql://user:password@host/name" },

    { "DATABASE_TLS_VERIFY", { NULL, NULL }, "on",
      config_set_switch, offsetof(config_t, database_verify), 0, 0,
      "off: a database at a public address need not prove its name" },

    { "REDIS_URL", { NULL, NULL }, NULL,
      config_set_redis, offsetof(config_t, redis_url), 0, 0,
      "redis://, rediss:// or unix:" },

    { "QUEUE_MODE", { NULL, NULL }, "internal",
      config_set_queue, offsetof(config_t, queue_mode), 0, 0,
      "who analyzes: internal, arq (the application's worker) or both" },

    { "ARQ_QUEUE", { NULL, NULL }, "arq:queue",
      config_set_string, offsetof(config_t, arq_queue), 0, 0,
      "the queue of that worker" },

    { "CLERK_WEBHOOK_SECRET", { "CLERK_WEBHOOK_SIGNING_SECRET", NULL }, NULL,
      config_set_secrets, offsetof(config_t, webhook_secret), 0, 0,
      "one or several whsec_..., separated by commas" },

    { "CLERK_PUBLISHABLE_KEY", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, clerk_key), 0, 0,
      "pk_...: for the doctor; the edge reads it" },

    { "CLERK_ISSUER", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, clerk_issuer), 0, 0,
      "the same" },

    { "CLERK_JWKS_URL", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, clerk_jwks), 0, 0,
      "the same" },

    { "CLERK_JWT_KEY", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, clerk_pem), 0, 0,
      "the same" },

    { "CORS_ORIGINS", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, cors_origins), 0, 0,
      "the same" },

    { "CLERK_SECRET_KEY", { NULL, NULL }, NULL,
      config_set_token, offsetof(config_t, clerk_secret), 0, 0,
      "sk_...: Clerk is asked about users not met before" },

    { "CLERK_API_URL", { NULL, NULL }, "https://api.clerk.com",
      config_set_api, offsetof(config_t, clerk_api_url), 0, 0,
      "where Clerk is asked" },

    { "R2_ENDPOINT_URL", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, store_endpoint), 0, 0,
      "the store's address, if not the account's at R2" },

    { "R2_ACCOUNT_ID", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, store_account), 0, 0,
      "Cloudflare account" },

    { "R2_ACCESS_KEY", { "R2_ACCESS_KEY_ID", NULL }, NULL,
      config_set_string, offsetof(config_t, store_access_key), 0, 0,
      "access key of the store" },

    { "R2_SECRET_KEY", { "R2_SECRET_ACCESS_KEY", NULL }, NULL,
      config_set_string, offsetof(config_t, store_secret_key), 0, 0,
      "secret key of the store" },

    { "R2_SESSION_TOKEN", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, store_token), 0, 0,
      "of temporary credentials, part of every signature" },

    { "R2_BUCKET_NAME", { NULL, NULL }, "fit-files",
      config_set_string, offsetof(config_t, store_bucket), 0, 0,
      "bucket" },

    { "R2_REGION", { NULL, NULL }, "auto",
      config_set_string, offsetof(config_t, store_region), 0, 0,
      "region in signatures" },

    { "R2_URL_STYLE", { NULL, NULL }, "path",
      config_set_string, offsetof(config_t, store_style), 0, 0,
      "path (https://host/bucket/key) or virtual (https://bucket.host/key)" },

    { "R2_JURISDICTION", { NULL, NULL }, NULL,
      config_set_string, offsetof(config_t, store_jurisdiction), 0, 0,
      "eu, fedramp or us: that of the account's buckets" },

    { "MAX_FILE_SIZE", { NULL, NULL }, "10485760",
      config_set_number, offsetof(config_t, max_file_size), 1, 1073741824,
      "bytes of the largest upload" },

    { "WEBHOOK_PAYLOAD_DAYS", { NULL, NULL }, "30",
      config_set_number, offsetof(config_t, payload_days), 0, 3650,
      "days for which the bodies of events are kept, to be replayed" },

    { "USER_FILES_GRACE", { NULL, NULL }, "7",
      config_set_number, offsetof(config_t, user_files_grace), -1, 3650,
      "days from a user's deletion to that of their files; -1: kept" },

    { NULL, { NULL, NULL }, NULL, NULL, 0, 0, 0, NULL }
};


int
config_load(config_t *cf, config_getenv_pt get, char *error, size_t size)
{
    const char          *name, *value, *text;
    const config_var_t  *var;

    memset(cf, 0, sizeof(config_t));

    for (var = config_vars; var->name != NULL; var++) {

        value = config_value(var, get, &name);
        if (value == NULL) {
            continue;
        }

        text = var->set(cf, var, value);
        if (text != NULL) {
            snprintf(error, size, "%s %s", name, text);
            return -1;
        }
    }

    if (cf->queue_mode != QUEUE_INTERNAL && cf->redis_url == NULL) {
        snprintf(error, size, "QUEUE_MODE needs REDIS_URL: arq's queue is in "
                 "Redis");
        return -1;
    }

    if (config_listen(cf, error, size) != 0
        || config_database(cf, error, size) != 0
        || config_store(cf, error, size) != 0)
    {
        return -1;
    }

    return 0;
}


void
config_usage(void)
{
    const config_var_t  *var;

    for (var = config_vars; var->name != NULL; var++) {

        printf("  %s", var->name);

        if (var->aliases[0] != NULL) {
            printf(" (%s)", var->aliases[0]);
        }

        printf("\n      %s", var->meaning);

        if (var->value != NULL) {
            printf(" [%s]", var->value);
        }

        printf("\n");
    }
}


static const char *
config_value(const config_var_t *var, config_getenv_pt get, const char **name)
{
    size_t       i;
    const char  *value;

    *name = var->name;

    value = get(var->name);
    if (value != NULL && *value != '\0') {
        return value;
    }

    for (i = 0; i < 2 && var->aliases[i] != NULL; i++) {

        value = get(var->aliases[i]);
        if (value != NULL && *value != '\0') {
            *name = var->aliases[i];
            return value;
        }
    }

    return var->value;
}


static const char *
config_set_string(config_t *cf, const config_var_t *var, const char *value)
{
    *(const char **) ((char *) cf + var->offset) = value;

    return NULL;
}


static const char *
config_set_number(config_t *cf, const config_var_t *var, const char *value)
{
    char         *end;
    long long     n;
    static char   text[128];

    errno = 0;
    n = strtoll(value, &end, 10);

    if (errno != 0 || end == value || *end != '\0' || n < var->min
        || n > var->max)
    {
        snprintf(text, sizeof(text), "must be a number from %lld to %lld",
                 var->min, var->max);
        return text;
    }

    *(long long *) ((char *) cf + var->offset) = n;

    return NULL;
}


static const char *
config_set_switch(config_t *cf, const config_var_t *var, const char *value)
{
    unsigned  *field;

    field = (unsigned *) ((char *) cf + var->offset);

    if (strcmp(value, "on") == 0) {
        *field = 1;
        return NULL;
    }

    if (strcmp(value, "off") == 0) {
        *field = 0;
        return NULL;
    }

    return "must be \"on\" or \"off\"";
}


static const char *
config_set_level(config_t *cf, const config_var_t *var, const char *value)
{
    (void) var;

    if (log_level(value, &cf->log_level) != 0) {
        return "must be \"error\", \"warn\", \"info\" or \"debug\"";
    }

    return NULL;
}


static const char *
config_set_redis(config_t *cf, const config_var_t *var, const char *value)
{
    (void) var;

    cf->redis_url = value;

    return runcoach_redis_url_parse(&cf->redis, value, strlen(value));
}


static const char *
config_set_secrets(config_t *cf, const config_var_t *var, const char *value)
{
    const char  *error;

    (void) var;

    if (svix_secrets_parse(&cf->webhook_secrets, (const u_char *) value,
                           strlen(value), &error)
        != 0)
    {
        return error;
    }

    cf->webhook_secret = value;

    return NULL;
}


/* it goes into a header */

static const char *
config_set_token(config_t *cf, const config_var_t *var, const char *value)
{
    size_t  i, n;

    n = strlen(value);

    for (i = 0; i < n; i++) {
        if (value[i] <= ' ' || value[i] == 0x7f) {
            return "must be one word";
        }
    }

    if (n > 400) {
        return "must be of at most 400 bytes";
    }

    return config_set_string(cf, var, value);
}


/* a secret goes there */

static const char *
config_set_api(config_t *cf, const config_var_t *var, const char *value)
{
    size_t       n;
    const char  *host;

    static char  buf[512];

    n = strlen(value);

    if (n >= sizeof(buf) || strpbrk(value, "?#@ ") != NULL) {
        return "must be https://host";
    }

    memcpy(buf, value, n + 1);

    while (n > 0 && buf[n - 1] == '/') {
        buf[--n] = '\0';
    }

    if (strncmp(buf, "https://", 8) == 0 && n > 8) {
        return config_set_string(cf, var, buf);
    }

    host = buf + 7;

    if (strncmp(buf, "http://", 7) != 0
        || !url_private_host(host, strcspn(host, (*host == '[') ? "]" : ":/")
                                   + (*host == '[')))
    {
        return "must be https://host, or http:// if the host is private";
    }

    return config_set_string(cf, var, buf);
}


static const char *
config_set_queue(config_t *cf, const config_var_t *var, const char *value)
{
    (void) var;

    if (strcmp(value, "internal") == 0) {
        cf->queue_mode = QUEUE_INTERNAL;

    } else if (strcmp(value, "arq") == 0) {
        cf->queue_mode = QUEUE_ARQ;

    } else if (strcmp(value, "both") == 0) {
        cf->queue_mode = QUEUE_BOTH;

    } else {
        return "must be \"internal\", \"arq\" or \"both\"";
    }

    return NULL;
}


static int
config_listen(config_t *cf, char *error, size_t size)
{
    int          n;
    static char  buf[512];

    if (cf->listen == NULL) {
        n = snprintf(buf, sizeof(buf), "unix:%s/sidecar.sock", cf->home);

        if (n < 0 || (size_t) n >= sizeof(buf)) {
            snprintf(error, size, "RUNCOACH_HOME is too long");
            return -1;
        }

        cf->listen = buf;
    }

    if (strncmp(cf->listen, "unix:", 5) == 0) {

        if (cf->listen[5] == '\0' || strlen(cf->listen + 5) > 107) {
            snprintf(error, size, "SIDECAR_LISTEN must be unix: with a path of "
                     "1 to 107 bytes, \"%s\" is not", cf->listen);
            return -1;
        }

        return 0;
    }

    if (strrchr(cf->listen, ':') == NULL) {
        snprintf(error, size, "SIDECAR_LISTEN must be unix:/path or "
                 "address:port, \"%s\" is not", cf->listen);
        return -1;
    }

    return 0;
}


static int
config_database(config_t *cf, char *error, size_t size)
{
    char              *message;
    const char        *text;
    PQconninfoOption  *options;
    static char        buf[URL_MAX];

    if (cf->database_url == NULL) {
        return 0;
    }

    /* libpq 16 can use the system's own store of certificates */

    text = url_database(buf, sizeof(buf), cf->database_url,
                        cf->database_verify,
                        PQlibVersion() >= 160000 ? "system" : CONFIG_ROOTCERT);

    if (text != NULL) {
        snprintf(error, size, "DATABASE_URL %s", text);
        return -1;
    }

    /* libpq's message may quote the password */

    message = NULL;
    options = PQconninfoParse(buf, &message);

    if (options == NULL) {
        PQfreemem(message);
        snprintf(error, size, "DATABASE_URL is not understood by libpq: an "
                 "argument it does not know, or a \"%%\" that is not %%XX");
        return -1;
    }

    PQconninfoFree(options);

    cf->database = buf;

    return 0;
}


/* the same rules as for runcoach_store at the edge, and the same code */

static int
config_store(config_t *cf, char *error, size_t size)
{
    const char                *missing, *text;
    runcoach_endpoint_conf_t   conf;

    missing = (cf->store_endpoint == NULL && cf->store_account == NULL)
              ? "R2_ACCOUNT_ID or R2_ENDPOINT_URL"
              : (cf->store_access_key == NULL) ? "R2_ACCESS_KEY"
              : (cf->store_secret_key == NULL) ? "R2_SECRET_KEY"
              : NULL;

    if (missing != NULL) {

        if (cf->store_endpoint == NULL && cf->store_account == NULL
            && cf->store_access_key == NULL && cf->store_secret_key == NULL)
        {
            return 0;
        }

        snprintf(error, size, "%s must be set, as others of the store's are",
                 missing);
        return -1;
    }

    if (strlen(cf->store_access_key) > RUNCOACH_SIGV4_MAX_NAME
        || strlen(cf->store_secret_key) > RUNCOACH_SIGV4_MAX_NAME
        || strlen(cf->store_region) > RUNCOACH_SIGV4_MAX_NAME)
    {
        snprintf(error, size, "R2_ACCESS_KEY, R2_SECRET_KEY and R2_REGION must "
                 "be of at most %d bytes each", RUNCOACH_SIGV4_MAX_NAME);
        return -1;
    }

    if (cf->store_token != NULL
        && strlen(cf->store_token) > RUNCOACH_SIGV4_MAX_TOKEN)
    {
        snprintf(error, size, "R2_SESSION_TOKEN must be of at most %d bytes",
                 RUNCOACH_SIGV4_MAX_TOKEN);
        return -1;
    }

    conf.endpoint = config_text(cf->store_endpoint);
    conf.account = config_text(cf->store_account);
    conf.jurisdiction = config_text(cf->store_jurisdiction);
    conf.bucket = config_text(cf->store_bucket);
    conf.style = config_text(cf->store_style);

    text = config_endpoint_error(runcoach_endpoint_parse(&cf->store, &conf));

    if (text != NULL) {
        snprintf(error, size, "%s", text);
        return -1;
    }

    cf->store_enabled = 1;

    return 0;
}


static const char *
config_endpoint_error(runcoach_endpoint_rc_e rc)
{
    switch (rc) {

    case RUNCOACH_ENDPOINT_OK:
        return NULL;

    case RUNCOACH_ENDPOINT_BAD_ACCOUNT:
        return "R2_ACCOUNT_ID must be the account's id, like 0123456789abcdef";

    case RUNCOACH_ENDPOINT_BAD_JURISDICTION:
        return "R2_JURISDICTION must be \"eu\", \"fedramp\" or \"us\"";

    case RUNCOACH_ENDPOINT_BAD_BUCKET:
        return "R2_BUCKET_NAME must be 3 to 63 of a-z, 0-9, \"-\" and \".\"";

    case RUNCOACH_ENDPOINT_BAD_STYLE:
        return "R2_URL_STYLE must be \"path\" or \"virtual\"";

    case RUNCOACH_ENDPOINT_DOTTED:
        return "R2_URL_STYLE must be \"path\", for R2_BUCKET_NAME has a dot";

    case RUNCOACH_ENDPOINT_ADDRESS:
        return "R2_URL_STYLE must be \"path\", for R2_ENDPOINT_URL has an "
               "address and not a name";

    default: /* RUNCOACH_ENDPOINT_BAD_URL */
        return "R2_ENDPOINT_URL must be like "
               "https://account.r2.cloudflarestorage.com";
    }
}


static runcoach_str_t
config_text(const char *s)
{
    runcoach_str_t  str;

    str.data = (const u_char *) s;
    str.len = (s == NULL) ? 0 : strlen(s);

    return str;
}
