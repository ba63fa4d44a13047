
#include "../../ngx_runcoach_module/lib/runcoach_redis_url.c"

#include "tap.h"


typedef struct {
    const char  *in;
    const char  *host;
    unsigned     port;
    const char  *user;
    const char  *password;
    unsigned     database;
    unsigned     local;
    unsigned     tls;
} accepted_t;


typedef struct {
    const char  *in;
    const char  *error;
} refused_t;


static void test_accepted(void);
static void test_refused(void);
static void test_lengths(void);
static void test_cut(void);


static const accepted_t  accepted[] = {
    { "redis://localhost", "localhost", 6379, "", "", 0, 0, 0 },
    { "REDIS://h/", "h", 6379, "", "", 0, 0, 0 },
    { "redis://my_redis-1.internal:1", "my_redis-1.internal", 1, "", "", 0, 0,
      0 },
    { "redis://:p%40ss@h:6380/3", "h", 6380, "", "p@ss", 3, 0, 0 },
    { "redis://secret@h", "h", 6379, "", "secret", 0, 0, 0 },
    { "redis://u:p@h", "h", 6379, "u", "p", 0, 0, 0 },
    { "redis://u%3a%2F:p%3a%2f@h", "h", 6379, "u:/", "p:/", 0, 0, 0 },
    { "redis://u:a:b@h", "h", 6379, "u", "a:b", 0, 0, 0 },
    { "redis://u:a@b@h", "h", 6379, "u", "a@b", 0, 0, 0 },
    { "rediss://default:s@x.upstash.io:6379", "x.upstash.io", 6379, "", "s", 0,
      0, 1 },
    { "redis://@h", "h", 6379, "", "", 0, 0, 0 },
    { "redis://:@h", "h", 6379, "", "", 0, 0, 0 },
    { "redis://[::1]:7/1", "::1", 7, "", "", 1, 0, 0 },
    { "rediss://u:p@[fdaa::3]", "fdaa::3", 6379, "u", "p", 0, 0, 1 },
    { "redis://h:65535/9999", "h", 65535, "", "", 9999, 0, 0 },
    { "redis://h/0001", "h", 6379, "", "", 1, 0, 0 },
    { "redis://h?", "h", 6379, "", "", 0, 0, 0 },
    { "redis://h?db=4", "h", 6379, "", "", 4, 0, 0 },
    { "redis://h/2?db=4&password=p%26q", "h", 6379, "", "p&q", 4, 0, 0 },
    { "redis://u:@h?password=p", "h", 6379, "u", "p", 0, 0, 0 },
    { "unix:/run/r.sock", "/run/r.sock", 6379, "", "", 0, 1, 0 },
    { "UNIX:/r", "/r", 6379, "", "", 0, 1, 0 },
    { "unix:///run/r.sock?db=2", "/run/r.sock", 6379, "", "", 2, 1, 0 },
    { "unix:/r?db=3&password=pa:ss@w%25rd", "/r", 6379, "", "pa:ss@w%rd", 3, 1,
      0 },
    { "unix:///a@b.sock", "/a@b.sock", 6379, "", "", 0, 1, 0 },
    { "unix:/a%20b%3F", "/a b?", 6379, "", "", 0, 1, 0 },
    { "unix://:p@/run/r.sock", "/run/r.sock", 6379, "", "p", 0, 1, 0 },
    { "unix://u:a/b@/r?db=1", "/r", 6379, "u", "a/b", 1, 1, 0 }
};


static const refused_t  refused[] = {
    { "", "must be like redis://" },
    { "localhost:6379", "must be like redis://" },
    { "http://h", "must be like redis://" },
    { "redis:/h", "must be like redis://" },
    { " redis://h", "must be like redis://" },
    { "redis://", "no host" },
    { "redis://:6379", "no host" },
    { "redis://:secret@/0", "no host" },
    { "redis://h h", "invalid host" },
    { "redis://h%41", "invalid host" },
    { "redis://h,i", "invalid host" },
    { "redis://::1", "no host" },
    { "redis://h:", "invalid port" },
    { "redis://h:0", "invalid port" },
    { "redis://h:65536", "invalid port" },
    { "redis://h:99999999999999999999", "invalid port" },
    { "redis://h:port", "invalid port" },
    { "redis://h:1:2", "invalid port" },
    { "redis://[::1]7", "invalid port" },
    { "redis://[::1", "invalid IPv6" },
    { "redis://[]", "invalid IPv6" },
    { "redis://[h]", "invalid IPv6" },
    { "redis://[127.0.0.1]", "invalid IPv6" },
    { "redis://[1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19]",
      "invalid IPv6" },
    { "redis://h/x", "invalid database" },
    { "redis://h/10000", "invalid database" },
    { "redis://h/-1", "invalid database" },
    { "redis://h/1/", "invalid database" },
    { "redis://h?db=", "invalid database" },
    { "redis://h?x=1", "invalid argument" },
    { "redis://h?db", "invalid argument" },
    { "redis://h?db=1&&db=2", "invalid argument" },
    { "redis://secret?secret@h", "invalid argument" },
    { "redis://u:a/secret@h", "percent-encode" },
    { "redis://:a?secret@h", "percent-encode" },
    { "redis://:a?secret/b@h", "percent-encode" },
    { "redis://:secret%zz@h", "invalid \"%\"" },
    { "redis://:secret%4@h", "invalid \"%\"" },
    { "redis://:secret%@h", "invalid \"%\"" },
    { "redis://:secret%00@h", "%00" },
    { "redis://u:@h", "user without a password" },
    { "unix:", "absolute path" },
    { "unix:/", "absolute path" },
    { "unix:relative", "absolute path" },
    { "unix://relative/r", "absolute path" },
    { "unix://:secret@r", "absolute path" },
    { "unix:/r%", "invalid \"%\"" },
    { "unix:/r%0", "invalid \"%\"" },
    { "unix:/r%00", "%00" },
    { "unix:/r?x=2", "invalid argument" }
};


int
main(void)
{
    test_accepted();
    test_refused();
    test_lengths();
    test_cut();

    return done();
}


static void
test_accepted(void)
{
    size_t                 i;
    const char            *error;
    const accepted_t      *c;
    runcoach_redis_url_t   url;

    for (i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        c = &accepted[i];

        error = runcoach_redis_url_parse(&url, c->in, strlen(c->in));

        ok(error == NULL && strcmp(url.host, c->host) == 0
           && url.port == c->port && strcmp(url.user, c->user) == 0
           && strcmp(url.password, c->password) == 0
           && url.database == c->database && url.local == c->local
           && url.tls == c->tls, "\"%s\"", c->in);
    }
}


static void
test_refused(void)
{
    size_t                 i;
    const char            *error;
    runcoach_redis_url_t   url;

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        error = runcoach_redis_url_parse(&url, refused[i].in,
                                         strlen(refused[i].in));

        ok(error != NULL && strstr(error, refused[i].error) != NULL,
           "\"%s\": %s", refused[i].in, error ? error : "accepted");
        ok(error != NULL && strstr(error, "secret") == NULL,
           "which repeats nothing");
    }
}


static void
test_lengths(void)
{
    int                    n;
    char                   text[4096];
    size_t                 i;
    const char            *error;
    runcoach_redis_url_t   url;

    static const struct {
        const char  *format;
        int          most;
    } rows[] = {
        { "unix:%s%.*s", RUNCOACH_REDIS_URL_PATH },
        { "redis://%s%.*s", sizeof(url.host) - 1 },
        { "redis://u%s:%.*s@h", sizeof(url.password) - 1 },
        { "redis://%s%.*s:p@h", sizeof(url.user) - 1 }
    };

    char  many[2048];

    memset(many, 'x', sizeof(many));

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {

        many[0] = (i == 0) ? '/' : 'x';

        n = sprintf(text, rows[i].format, "", rows[i].most, many);
        error = runcoach_redis_url_parse(&url, text, n);
        ok(error == NULL, "%d bytes", rows[i].most);

        n = sprintf(text, rows[i].format, "", rows[i].most + 1, many);
        error = runcoach_redis_url_parse(&url, text, n);
        ok(error != NULL && strstr(error, "too long") != NULL, "and no more");
    }
}


/* nothing behind the end is read, or matters */

static void
test_cut(void)
{
    const char            *error;
    runcoach_redis_url_t   url;

    static const char  text[] = "redis://u:p@h:6380/12?db=3";

    error = runcoach_redis_url_parse(&url, text, 17);
    ok(error == NULL && url.port == 638 && url.database == 0, "cut in a port");

    error = runcoach_redis_url_parse(&url, text, 20);
    ok(error == NULL && url.database == 1, "cut in a database");

    error = runcoach_redis_url_parse(&url, "redis://[::1]", 12);
    ok(error != NULL, "cut in an address");

    error = runcoach_redis_url_parse(&url, "redis://h\0i", 11);
    ok(error != NULL, "NUL in a host");
}
