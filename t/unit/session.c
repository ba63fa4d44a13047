
#include "../../ngx_runcoach_module/lib/runcoach_session.c"

#include "tap.h"


static void test_ids(void);
static void test_users(void);


static void
test_ids(void)
{
    size_t  i;
    u_char  id[RUNCOACH_SESSION_ID_MAX + 1];

    static const char *const  refused[] = {
        "", "short", "abcdefghijklmnopqrs/tuv", "abcdefghijklmnopqrs:tuv",
        "abcdefghijklmnopqrs\r\nx", "abcdefghijklmnopqrs%41", "../lock:abcdefghijkl",
        "abcdefghijklmnopqrs*tuv", "abcdefghijklmnopqrs tuv"
    };

    memset(id, 'a', sizeof(id));

    ok(runcoach_session_valid_id(id, RUNCOACH_SESSION_ID_MIN), "shortest id");
    ok(!runcoach_session_valid_id(id, RUNCOACH_SESSION_ID_MIN - 1),
       "one shorter");
    ok(runcoach_session_valid_id(id, RUNCOACH_SESSION_ID_MAX), "longest id");
    ok(!runcoach_session_valid_id(id, RUNCOACH_SESSION_ID_MAX + 1),
       "one longer");
    ok(runcoach_session_valid_id(
           (u_char *) "0123-_abcXYZ0123456789abcdefghijklmnopqrstu", 43),
       "all characters of token_urlsafe()");

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        ok(!runcoach_session_valid_id((u_char *) refused[i],
                                      strlen(refused[i])),
           "refused id %zu", i);
    }

    ok(!runcoach_session_valid_id((u_char *) "abcdefghijklmnopqrst\0uvw", 24),
       "NUL in an id");
}


static void
test_users(void)
{
    size_t  i, n;
    char    user[RUNCOACH_SESSION_USER + 1];

    static const struct {
        const char  *json;
        const char  *user;
    } rows[] = {
        { "{\"user_id\": 42}", "42" },
        { "{\"user_id\":1,\"created_at\":\"x\",\"email\":\"a@b\"}", "1" },
        { "{\"user_id\":9007199254740991}", "9007199254740991" },
        { "{\"user_id\":\"7\"}", "7" },
        { "{\"user_id\":\"b2c3-d4_E5\"}", "b2c3-d4_E5" },
        { "{\"user_id\":9007199254740992}", "" },
        { "{\"user_id\":99999999999999999999999}", "" },
        { "{\"user_id\":0}", "" },
        { "{\"user_id\":-1}", "" },
        { "{\"user_id\":1.0}", "" },
        { "{\"user_id\":true}", "" },
        { "{\"user_id\":null}", "" },
        { "{\"user_id\":[1]}", "" },
        { "{\"user_id\":\"\"}", "" },
        { "{\"user_id\":\"a/b\"}", "" },
        { "{\"user_id\":\"a\\r\\nX: y\"}", "" },
        { "{\"user_id\":1,\"user_id\":2}", "" },
        { "{\"user\":1}", "" },
        { "[{\"user_id\":1}]", "" },
        { "{\"user_id\":1} x", "" },
        { "{\"user_id\":1", "" },
        { "42", "" },
        { "", "" }
    };

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        n = runcoach_session_user((u_char *) user, (u_char *) rows[i].json,
                                  strlen(rows[i].json));
        user[n] = '\0';
        is_str(user, rows[i].user, rows[i].json);
    }

    n = runcoach_session_user((u_char *) user, (u_char *) "{\"user_id\":\""
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "\"}", 12 + 64 + 2);
    ok(n == RUNCOACH_SESSION_USER, "longest user id, got %zu", n);

    n = runcoach_session_user((u_char *) user, (u_char *) "{\"user_id\":\""
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "\"}", 12 + 65 + 2);
    ok(n == 0, "one longer, got %zu", n);
}


int
main(void)
{
    test_ids();
    test_users();

    return done();
}
