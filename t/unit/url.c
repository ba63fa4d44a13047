
#include "../../sidecar/url.c"
#include "tap.h"


#define TAIL  "connect_timeout=10&tcp_user_timeout=10000"                     \
              "&application_name=runcoach-sidecar"
#define FULL  "sslmode=verify-full&sslrootcert=/ca"


typedef struct {
    const char  *in;
    int          verify;
    const char  *out;           /* NULL: refused */
} database_t;


static void test_private(void);
static void test_database(void);


static const char  *private[] = {
    "", "/var/run/postgresql", "@abstract", "localhost", "LOCALHOST",
    "a.localhost", "postgres.railway.internal", "db.Internal", "app.flycast",
    "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.1.1", "100.64.0.1", "::1", "[::1]", "fd00::1",
    "fdaa:0:1::3", "fe80::1", "::ffff:10.0.0.1"
};


static const char  *public[] = {
    "ep-x.eu-central-1.aws.neon.tech", "db", "internal", "xinternal",
    "localhost.example.com", "internal.example.com", "8.8.8.8", "172.32.0.1",
    "172.15.0.1", "192.169.0.1", "100.128.0.1", "11.0.0.1", "10.0.0.1.nip.io",
    "127.0.0.1.example.com", "2001:db8::1", "::ffff:8.8.8.8", "fec0::1", "::"
};


static const database_t  databases[] = {
    { "postgres://u:p@localhost/d", 1, "postgresql://u:p@localhost/d?" TAIL },
    { "postgresql+asyncpg://u:p@10.0.0.5:5432/d?ssl=require", 1,
      "postgresql://u:p@10.0.0.5:5432/d?sslmode=require&" TAIL },
    { "postgresql:///d?host=/run/pg", 1,
      "postgresql:///d?host=/run/pg&" TAIL },
    { "postgresql:///d?host=%2Frun%2Fpg&user=x", 1,
      "postgresql:///d?host=%2Frun%2Fpg&user=x&" TAIL },

    { "postgresql://u:p@x.neon.tech/d", 1,
      "postgresql://u:p@x.neon.tech/d?" FULL "&" TAIL },
    { "postgresql://u:p@x.neon.tech/d?sslmode=require&channel_binding=require",
      1, "postgresql://u:p@x.neon.tech/d?channel_binding=require&" FULL "&"
      TAIL },
    { "postgresql://u:p@x.neon.tech/d?ssl=true", 1,
      "postgresql://u:p@x.neon.tech/d?" FULL "&" TAIL },
    { "postgresql://u:p@x.neon.tech/d?sslmode=disable", 1,
      "postgresql://u:p@x.neon.tech/d?" FULL "&" TAIL },
    { "postgresql://u:p@x.neon.tech/d?sslrootcert=/my", 1,
      "postgresql://u:p@x.neon.tech/d?sslrootcert=/my&sslmode=verify-full&"
      TAIL },

    { "postgresql://u:p@x.neon.tech/d?sslmode=require", 0,
      "postgresql://u:p@x.neon.tech/d?sslmode=require&" TAIL },
    { "postgresql://u:p@x.neon.tech/d?sslmode=verify-full", 0,
      "postgresql://u:p@x.neon.tech/d?" FULL "&" TAIL },
    { "postgresql://u:p@x.neon.tech/d", 0,
      "postgresql://u:p@x.neon.tech/d?" TAIL },

    /* one public host of several is enough; an argument overrides the host */

    { "postgresql://localhost:1,x.org:2/d", 1,
      "postgresql://localhost:1,x.org:2/d?" FULL "&" TAIL },
    { "postgresql://10.0.0.1,[::1]:5/d", 1,
      "postgresql://10.0.0.1,[::1]:5/d?" TAIL },
    { "postgresql://localhost/d?host=x.org", 1,
      "postgresql://localhost/d?host=x.org&" FULL "&" TAIL },
    { "postgresql://x.org/d?hostaddr=10.0.0.1&host=x.org", 1,
      "postgresql://x.org/d?hostaddr=10.0.0.1&host=x.org&" TAIL },
    { "postgresql://localhost/d?hostaddr=8.8.8.8&host=localhost", 1,
      "postgresql://localhost/d?hostaddr=8.8.8.8&host=localhost&" FULL "&"
      TAIL },
    { "postgresql://localhost,x.org/d?hostaddr=10.0.0.1,", 1,
      "postgresql://localhost,x.org/d?hostaddr=10.0.0.1,&" FULL "&" TAIL },
    { "postgresql:///d?service=far", 1,
      "postgresql:///d?service=far&" FULL "&" TAIL },
    { "postgresql://localhost/d?host=%2Frun%2Cx.org", 1,
      "postgresql://localhost/d?host=%2Frun%2Cx.org&" FULL "&" TAIL },
    { "postgresql://%2Frun%2Cx.org/d", 1,
      "postgresql://%2Frun%2Cx.org/d?" FULL "&" TAIL },
    { "postgresql://%2Frun%2C10.0.0.1/d", 1,
      "postgresql://%2Frun%2C10.0.0.1/d?" TAIL },
    { "postgresql://localhost/d?hostaddr=:x", 1,
      "postgresql://localhost/d?hostaddr=:x&" FULL "&" TAIL },
    { "postgresql://localhost/d?hostaddr=fd00::1", 1,
      "postgresql://localhost/d?hostaddr=fd00::1&" TAIL },
    { "postgresql://[::1/d?x=]@x.org", 1, NULL },
    { "postgresql://u@[::1/d?x=]", 1, NULL },
    { "postgresql://h:port/d", 1, NULL },
    { "postgresql://localhost/d?h%6fst=x.org", 1, NULL },
    { "postgresql://localhost?u@x.org", 1, NULL },
    { "postgresql://localhost?application_name=u@x.org/d", 1, NULL },
    { "postgresql://localhost?statement_cache_size=/&application_name=u@x.org",
      1, NULL },
    { "postgresql://localhost/d?application_name=u@x.org", 1,
      "postgresql://localhost/d?application_name=u@x.org&connect_timeout=10"
      "&tcp_user_timeout=10000" },
    { "postgresql://localhost@x.org/d", 1,
      "postgresql://localhost@x.org/d?" FULL "&" TAIL },

    { "postgresql://localhost/d?connect_timeout=3&application_name=me"
      "&tcp_user_timeout=1&statement_cache_size=0", 1,
      "postgresql://localhost/d?connect_timeout=3&application_name=me"
      "&tcp_user_timeout=1" },
    { "postgresql://localhost", 1, "postgresql://localhost?" TAIL },
    { "postgresql://localhost/d?", 1, "postgresql://localhost/d?" TAIL },

    { "mysql://u:p@h/d", 1, NULL },
    { "postgresqlx://h/d", 1, NULL },
    { "host=localhost dbname=d", 1, NULL },
    { "postgresql:/h", 1, NULL },
    { "postgresql://h/d?ssl=maybe", 1, NULL },
    { "postgresql://h/d?sslmode=", 1, NULL },
    { "postgresql://h/d?x", 1, NULL },
    { "postgresql://h/d d", 1, NULL },
    { "postgresql://u:a#b@h/d", 1, NULL },
    { "postgresql://u:a@b@localhost/d", 1, NULL },
    { "postgresql://u:a/b@localhost/d", 1, NULL }
};


int
main(void)
{
    test_private();
    test_database();

    return done();
}


static void
test_private(void)
{
    size_t  i;

    for (i = 0; i < sizeof(private) / sizeof(private[0]); i++) {
        ok(url_private_host(private[i], strlen(private[i])),
           "\"%s\" is private", private[i]);
    }

    for (i = 0; i < sizeof(public) / sizeof(public[0]); i++) {
        ok(!url_private_host(public[i], strlen(public[i])),
           "\"%s\" is not", public[i]);
    }
}


static void
test_database(void)
{
    char               out[URL_MAX];
    size_t             i, n;
    const char        *error;
    const database_t  *d;

    for (i = 0; i < sizeof(databases) / sizeof(databases[0]); i++) {
        d = &databases[i];

        error = url_database(out, sizeof(out), d->in, d->verify, "/ca");

        if (d->out == NULL) {
            ok(error != NULL, "\"%s\" is refused", d->in);
            continue;
        }

        is_str(error == NULL ? out : error, d->out, d->in);
    }

    n = strlen(databases[0].out);

    ok(url_database(out, n + 1, databases[0].in, 1, "/ca") == NULL,
       "a buffer of just the size");

    for (i = 1; i <= n; i++) {
        if (url_database(out, i, databases[0].in, 1, "/ca") == NULL) {
            break;
        }
    }

    ok(i == n + 1, "a smaller one is refused");

    error = url_database(out, sizeof(out), "mysql://u:secret@h/d", 1, "/ca");
    ok(error != NULL && strstr(error, "secret") == NULL,
       "the message has no password in it");
}
