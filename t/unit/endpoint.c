
#include "../../ngx_runcoach_module/lib/runcoach_endpoint.c"
#include "tap.h"


#define LONG63   "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz1"
#define LONG253  LONG63 LONG63 LONG63 LONG63 "x"


typedef struct {
    const char              *endpoint;
    const char              *account;
    const char              *jurisdiction;
    const char              *bucket;
    const char              *style;
    const char              *whole;
    runcoach_endpoint_rc_e   rc;
} case_t;


static runcoach_str_t text(const char *s);


static const case_t  cases[] = {

    /* R2: each jurisdiction in both styles */

    { "", "abc", "", "fit-files", "",
      "https://abc.r2.cloudflarestorage.com/fit-files", 0 },
    { "", "abc", "", "fit-files", "path",
      "https://abc.r2.cloudflarestorage.com/fit-files", 0 },
    { "", "abc", "", "fit-files", "virtual",
      "https://fit-files.abc.r2.cloudflarestorage.com", 0 },
    { "", "abc", "eu", "fit-files", "",
      "https://abc.eu.r2.cloudflarestorage.com/fit-files", 0 },
    { "", "abc", "eu", "fit-files", "virtual",
      "https://fit-files.abc.eu.r2.cloudflarestorage.com", 0 },
    { "", "abc", "fedramp", "fit-files", "",
      "https://abc.fedramp.r2.cloudflarestorage.com/fit-files", 0 },
    { "", "abc", "fedramp", "fit-files", "virtual",
      "https://fit-files.abc.fedramp.r2.cloudflarestorage.com", 0 },
    { "", "abc", "us", "fit-files", "",
      "https://abc.us.r2.cloudflarestorage.com/fit-files", 0 },
    { "", "abc.eu", "", "bkt", "",
      "https://abc.eu.r2.cloudflarestorage.com/bkt", 0 },
    { "", LONG63, "fedramp", LONG63, "virtual",
      "https://" LONG63 "." LONG63 ".fedramp.r2.cloudflarestorage.com", 0 },

    /* other stores */

    { "https://S3.Example.com", "", "", "bkt", "", "https://s3.example.com/bkt",
      0 },
    { "HTTPS://s3.example.com:443/", "", "", "bkt", "",
      "https://s3.example.com/bkt", 0 },
    { "http://127.0.0.1:80", "", "", "bkt", "", "http://127.0.0.1/bkt", 0 },
    { "http://127.0.0.1:443", "", "", "bkt", "", "http://127.0.0.1:443/bkt",
      0 },
    { "http://h:", "", "", "bkt", "", "http://h/bkt", 0 },
    { "http://h:65535", "", "", "bkt", "", "http://h:65535/bkt", 0 },
    { "http://[::1]:9000", "", "", "bkt", "", "http://[::1]:9000/bkt", 0 },
    { "http://[FD00::1]", "", "", "bkt", "", "http://[fd00::1]/bkt", 0 },
    { "http://my_host:9000", "", "", "bkt", "", "http://my_host:9000/bkt", 0 },
    { "https://h.org/bkt", "", "", "bkt", "", "https://h.org/bkt", 0 },
    { "https://h.org/bkt//", "x", "", "bkt", "", "https://h.org/bkt", 0 },
    { "https://h.org/bkt", "", "", "bkt", "virtual", "https://bkt.h.org", 0 },
    { "https://h.org/xbkt", "", "", "bkt", "", "https://h.org/xbkt/bkt", 0 },
    { "https://h.org/s3~1/", "", "", "bkt", "", "https://h.org/s3~1/bkt", 0 },
    { "https://h.org/s3/", "", "", "bkt", "virtual", "https://bkt.h.org/s3",
      0 },
    { "http://localhost:8080", "", "", "bkt", "virtual",
      "http://bkt.localhost:8080", 0 },
    { "http://1e100.net", "", "", "bkt", "virtual", "http://bkt.1e100.net", 0 },
    { "http://" LONG253, "", "", "bkt", "", "http://" LONG253 "/bkt", 0 },

    /* with an endpoint a jurisdiction means nothing, but must be one */

    { "https://h.org", "abc", "eu", "bkt", "", "https://h.org/bkt", 0 },
    { "https://h.org", "", "uk", "bkt", "", NULL,
      RUNCOACH_ENDPOINT_BAD_JURISDICTION },
    { "", "abc", "EU", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_JURISDICTION },
    { "", "abc", ".eu", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_JURISDICTION },

    { "", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_ACCOUNT },
    { "", "ab", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_ACCOUNT },
    { "", "a/b", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_ACCOUNT },
    { "", ".ab", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_ACCOUNT },
    { "", "Abc", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_ACCOUNT },
    { "", "https://abc", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_ACCOUNT },
    { "", LONG63 "x", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_ACCOUNT },

    { "", "abc", "", "", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },
    { "", "abc", "", "bk", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },
    { "", "abc", "", "a/b", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },
    { "", "abc", "", "a_b", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },
    { "", "abc", "", "..", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },
    { "", "abc", "", "...", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },
    { "", "abc", "", "Bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },
    { "", "abc", "", LONG63 "x", "", NULL, RUNCOACH_ENDPOINT_BAD_BUCKET },

    { "", "abc", "", "bkt", "host", NULL, RUNCOACH_ENDPOINT_BAD_STYLE },
    { "", "abc", "", "bkt", "Path", NULL, RUNCOACH_ENDPOINT_BAD_STYLE },
    { "", "abc", "", "a.b", "virtual", NULL, RUNCOACH_ENDPOINT_DOTTED },
    { "", "abc", "", "a.b", "path",
      "https://abc.r2.cloudflarestorage.com/a.b", 0 },
    { "http://127.0.0.1", "", "", "bkt", "virtual", NULL,
      RUNCOACH_ENDPOINT_ADDRESS },
    { "http://127.0.0.1:8080", "", "", "bkt", "virtual", NULL,
      RUNCOACH_ENDPOINT_ADDRESS },
    { "http://[::1]:8080", "", "", "bkt", "virtual", NULL,
      RUNCOACH_ENDPOINT_ADDRESS },

    { "ftp://h", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "h", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https:///x", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://:80", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://u@h", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h?x", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h#x", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h:x", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h:0", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h:080", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h:65536", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h:123456", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h:80:80", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://[::1", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://[]", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://[h]", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://[::1]x", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h/a b", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h//x", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h/x//bkt", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h/./x", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h/x/..", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h/...", "", "", "bkt", "", "https://h/.../bkt", 0 },
    { "https://h/%2e", "", "", "bkt", "", NULL, RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h\xc3\xa9/", "", "", "bkt", "", NULL,
      RUNCOACH_ENDPOINT_BAD_URL },
    { "https://" LONG253 "x", "", "", "bkt", "", NULL,
      RUNCOACH_ENDPOINT_BAD_URL },
    { "https://h/" LONG253 "xx", "", "", "bkt", "", NULL,
      RUNCOACH_ENDPOINT_BAD_URL }
};


int
main(void)
{
    char                       whole[1024], name[400];
    size_t                     i;
    const case_t              *c;
    runcoach_endpoint_t        e, untouched;
    runcoach_endpoint_rc_e     rc;
    runcoach_endpoint_conf_t   conf;

    memset(&untouched, 'x', sizeof(untouched));

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        c = &cases[i];

        conf.endpoint = text(c->endpoint);
        conf.account = text(c->account);
        conf.jurisdiction = text(c->jurisdiction);
        conf.bucket = text(c->bucket);
        conf.style = text(c->style);

        snprintf(name, sizeof(name), "%.80s%.80s %s %.80s %s", c->endpoint,
                 c->account, c->jurisdiction, c->bucket, c->style);

        memset(&e, 'x', sizeof(e));
        rc = runcoach_endpoint_parse(&e, &conf);

        if (c->whole == NULL) {
            ok(rc == c->rc, "%s: refused, %d", name, rc);
            ok(memcmp(&e, &untouched, sizeof(e)) == 0, "and nothing is set");
            continue;
        }

        if (!ok(rc == RUNCOACH_ENDPOINT_OK, "%s: taken", name)) {
            continue;
        }

        snprintf(whole, sizeof(whole), "%s://%s%s", e.scheme, e.host, e.base);
        is_str(whole, c->whole, name);
    }

    return done();
}


static runcoach_str_t
text(const char *s)
{
    runcoach_str_t  str;

    str.data = (const u_char *) s;
    str.len = strlen(s);

    return str;
}
