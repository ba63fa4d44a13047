
#include "../../sidecar/key.c"
#include "tap.h"


#define TEMPLATE  "users/user_a/activities/{object}.fit"


typedef struct {
    const char  *template;
    const char  *subject;
    const char  *instead;
    const char  *expected;      /* NULL: refused */
} case_t;


static const case_t  cases[] = {
    { TEMPLATE, "user_a", "user_a", "users/user_a/activities/17.fit" },
    { TEMPLATE, "user_a", "7", "users/7/activities/17.fit" },
    { "{object}/u", "u", "7", "17/7" },
    { "u/{object}", "u", "7", "7/17" },
    { "u/u/a{object}b", "u", "7", "7/u/a17b" },
    { "u//{object}", "u", "7", "7//17" },
    { "/u/{object}/", "u", "7", "/7/17/" },
    { "u/{object}/{object}", "u", "7", "7/17/{object}" },
    { "u-{object}", "u", "7", NULL },
    { "users/{object}", "u", "7", NULL },
    { "u/object", "u", "7", NULL },
    { "u/{obj/ect}", "u", "7", NULL },
    { "", "", "7", NULL },
    { "", "u", "7", NULL }
};


int
main(void)
{
    int            rc;
    char           key[64];
    size_t         i, n;
    const case_t  *c;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        c = &cases[i];

        rc = key_expand(key, sizeof(key), c->template, c->subject, c->instead,
                        "17");

        if (c->expected == NULL) {
            ok(rc == -1, "\"%s\" for \"%s\" is refused", c->template,
               c->subject);
            continue;
        }

        is_str(rc == 0 ? key : NULL, c->expected, c->template);
    }

    n = strlen("users/7/activities/17.fit");

    ok(key_expand(key, n + 1, TEMPLATE, "user_a", "7", "17") == 0,
       "a buffer of just the size");

    for (i = 0; i <= n; i++) {
        if (key_expand(key, i, TEMPLATE, "user_a", "7", "17") != -1) {
            break;
        }
    }

    ok(i == n + 1, "a smaller one is refused");

    return done();
}
