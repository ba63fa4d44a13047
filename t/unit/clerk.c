
#include <stdlib.h>
#include <string.h>

#include "clerk.h"
#include "tap.h"


#define user(type, fields)                                                    \
    "{\"type\":\"user." type "\",\"timestamp\":1795166399123,"                 \
    "\"data\":{\"id\":\"user_1\"," fields "}}"

#define address(id, email, status)                                            \
    "{\"id\":\"" id "\",\"email_address\":\"" email "\","                      \
    "\"verification\":{\"status\":\"" status "\"}}"


static clerk_rc_e parse_bytes(const char *json, size_t n);
static clerk_rc_e parse(const char *json);
static int parsed_email(const char *json, const char *email, unsigned verified);
static int parsed_name(const char *json, const char *name);
static void test_kinds(void);
static void test_sessions(void);
static void test_invalid(void);
static void test_large(void);
static void test_metadata(void);
static void test_deep(void);
static void test_user(void);
static void test_time(void);
static void test_address(void);
static void test_name(void);


static const char  created[] =
    "{\"data\":{\"id\":\"user_new123\",\"object\":\"user\",\"email_addresses\":"
    "[{\"id\":\"email_1\",\"email_address\":\"newuser@example.com\","
    "\"verification\":{\"status\":\"verified\",\"strategy\":\"email_code\"}}],"
    "\"primary_email_address_id\":\"email_1\",\"first_name\":\"New\","
    "\"last_name\":\"User\",\"created_at\":1795166399000,"
    "\"updated_at\":1795166399000},\"object\":\"event\","
    "\"type\":\"user.created\",\"timestamp\":1795166399123,"
    "\"instance_id\":\"ins_1\",\"event_attributes\":{\"http_request\":"
    "{\"client_ip\":\"203.0.113.9\",\"user_agent\":\"x\"}}}";


static clerk_event_t  ev;


/* a copy of exactly the size lets a sanitizer see a read beyond it */

static clerk_rc_e
parse_bytes(const char *json, size_t n)
{
    u_char      *p;
    clerk_rc_e   rc;
    const char  *reason;

    p = malloc(n > 0 ? n : 1);
    if (p == NULL) {
        abort();
    }

    memcpy(p, json, n);
    reason = NULL;

    rc = clerk_event_parse(&ev, p, n, &reason);

    free(p);

    if (rc != CLERK_OK && (reason == NULL || ev.type[0] != '\0')) {
        return (clerk_rc_e) -1;
    }

    return rc;
}


static clerk_rc_e
parse(const char *json)
{
    return parse_bytes(json, strlen(json));
}


static int
parsed_email(const char *json, const char *email, unsigned verified)
{
    return parse(json) == CLERK_OK && strcmp(ev.email, email) == 0
           && ev.email_verified == verified;
}


static int
parsed_name(const char *json, const char *name)
{
    return parse(json) == CLERK_OK && strcmp(ev.display_name, name) == 0;
}


static void
test_kinds(void)
{
    ok(parse(created) == CLERK_OK && ev.kind == CLERK_USER_CREATED
       && strcmp(ev.type, "user.created") == 0
       && strcmp(ev.clerk_id, "user_new123") == 0
       && strcmp(ev.email, "newuser@example.com") == 0 && ev.email_verified
       && strcmp(ev.display_name, "New User") == 0
       && ev.event_ms == 1795166399000,
       "user.created as it is sent");

    ok(parse("{\"type\":\"user.updated\",\"data\":{\"id\":\"user_1\"}}")
       == CLERK_OK && ev.kind == CLERK_USER_UPDATED && ev.event_ms == 0
       && ev.email[0] == '\0' && ev.display_name[0] == '\0'
       && !ev.email_verified,
       "user.updated with nothing but an id");

    ok(parse("{\"type\":\"user.deleted\",\"timestamp\":1795166399123,\"data\":"
             "{\"object\":\"user\",\"id\":\"user_1\",\"deleted\":true}}")
       == CLERK_OK && ev.kind == CLERK_USER_DELETED
       && strcmp(ev.clerk_id, "user_1") == 0 && ev.event_ms == 1795166399123,
       "user.deleted");

    ok(parse("{\"type\":\"user.deleted\",\"data\":{\"deleted\":true}}")
       == CLERK_OK && ev.kind == CLERK_OTHER && ev.clerk_id[0] == '\0',
       "user.deleted of nobody");

    ok(parse("{\"type\":\"session.revoked\",\"data\":{\"id\":\"sess_1\","
             "\"user_id\":\"user_1\"}}")
       == CLERK_OK && ev.kind == CLERK_SESSION_ENDED
       && strcmp(ev.clerk_id, "user_1") == 0
       && strcmp(ev.session_id, "sess_1") == 0,
       "an event of a session");

    ok(parse("{\"type\":\"organizationMembership.created\",\"data\":[1,2]}")
       == CLERK_OK && ev.kind == CLERK_OTHER && ev.clerk_id[0] == '\0',
       "another event, whatever its data are");
}


static void
test_sessions(void)
{
    size_t  i;
    char    json[512];

    static const struct {
        const char    *type;
        clerk_kind_e   kind;
    } events[] = {
        { "session.ended", CLERK_SESSION_ENDED },
        { "session.removed", CLERK_SESSION_ENDED },
        { "session.revoked", CLERK_SESSION_ENDED },
        { "session.created", CLERK_OTHER },
        { "session.pending", CLERK_OTHER },
        { "session.revoke", CLERK_OTHER },
        { "session.revoked.x", CLERK_OTHER }
    };

    for (i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        (void) snprintf(json, sizeof(json), "{\"type\":\"%s\",\"data\":"
                        "{\"id\":\"sess_1\",\"user_id\":\"user_1\"}}",
                        events[i].type);

        ok(parse(json) == CLERK_OK && ev.kind == events[i].kind
           && strcmp(ev.session_id, "sess_1") == 0
           && strcmp(ev.clerk_id, "user_1") == 0, "%s", events[i].type);
    }

    ok(parse("{\"type\":\"session.ended\",\"data\":{\"id\":\"sess_1\"}}")
       == CLERK_OK && ev.kind == CLERK_SESSION_ENDED
       && strcmp(ev.session_id, "sess_1") == 0 && ev.clerk_id[0] == '\0',
       "a session of nobody");

    ok(parse("{\"type\":\"session.ended\",\"data\":"
             "{\"user_id\":\"user_1\"}}")
       == CLERK_OK && ev.kind == CLERK_OTHER && ev.session_id[0] == '\0'
       && strcmp(ev.clerk_id, "user_1") == 0,
       "the end of no session");

    ok(parse("{\"type\":\"session.ended\",\"data\":{\"id\":\"a b\"}}")
       == CLERK_OK && ev.kind == CLERK_OTHER && ev.session_id[0] == '\0',
       "the end of a session whose id cannot be one");

    ok(parse("{\"type\":\"session.ended\",\"data\":[]}") == CLERK_OK
       && ev.kind == CLERK_OTHER, "the end of a session without data");

    ok(parse(created) == CLERK_OK && ev.session_id[0] == '\0',
       "an event of a user has no session");
}


static void
test_invalid(void)
{
    size_t  i;
    char    json[512];

    static const char  *not_json[] = {
        "", "{", "null", "[]", "\"user.created\"", "{\"type\":\"x\"}}",
        "{\"type\":\"\xff\"}", "{'type':'x'}"
    };

    static const char  *invalid[] = {
        "{}", "{\"type\":1,\"data\":{}}", "{\"type\":\"\",\"data\":{}}",
        "{\"type\":\"user created\",\"data\":{}}",
        "{\"type\":\"user.created\"}",
        "{\"type\":\"user.created\",\"data\":[]}",
        "{\"type\":\"user.created\",\"data\":{\"id\":7}}",
        "{\"type\":\"user.created\",\"data\":{\"id\":\"\"}}",
        "{\"type\":\"user.created\",\"data\":{\"id\":\"a b\"}}",
        "{\"type\":\"user.created\",\"data\":{\"id\":\"a\\u0000b\"}}",
        "{\"type\":\"user.created\",\"data\":{\"id\":\"\xc3\xa9\"}}",
        "{\"type\":\"user.deleted\",\"data\":{\"id\":{}}}"
    };

    for (i = 0; i < sizeof(not_json) / sizeof(not_json[0]); i++) {
        ok(parse(not_json[i]) == CLERK_NOT_JSON, "not a JSON object: %zu", i);
    }

    for (i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
        ok(parse(invalid[i]) == CLERK_INVALID, "not an event: %zu", i);
    }

    memset(json, 0, sizeof(json));
    strcpy(json, "{\"type\":\"user.created\",\"data\":{\"id\":\"");
    memset(json + strlen(json), 'u', CLERK_MAX_ID);
    strcat(json, "\"}}");
    ok(parse(json) == CLERK_OK && strlen(ev.clerk_id) == CLERK_MAX_ID,
       "the longest id");

    memset(json, 0, sizeof(json));
    strcpy(json, "{\"type\":\"user.created\",\"data\":{\"id\":\"");
    memset(json + strlen(json), 'u', CLERK_MAX_ID + 1);
    strcat(json, "\"}}");
    ok(parse(json) == CLERK_INVALID, "too long an id");
}


static void
test_large(void)
{
    char    *json;
    size_t   n;

    json = malloc(CLERK_MAX_BODY + 1);
    if (json == NULL) {
        abort();
    }

    n = strlen(created);

    memset(json, ' ', CLERK_MAX_BODY + 1);
    memcpy(json, created, n);

    ok(parse_bytes(json, CLERK_MAX_BODY) == CLERK_OK, "the largest event");
    ok(parse_bytes(json, CLERK_MAX_BODY + 1) == CLERK_TOO_LARGE,
       "too large an event");

    memset(json, '[', CLERK_MAX_BODY);
    ok(parse_bytes(json, CLERK_MAX_BODY) == CLERK_NOT_JSON,
       "nothing but nesting");

    free(json);
}


static void
test_metadata(void)
{
    ok(parsed_email(user("updated", "\"unsafe_metadata\":{\"a\":\"\\u0000\"},"
                         "\"email_addresses\":["
                         address("e1", "a@example.com", "verified") "]"),
                    "a@example.com", 1),
       "a NUL in metadata");

    ok(parsed_email(user("updated", "\"unsafe_metadata\":"
                         "123456789012345678901234567890,"
                         "\"updated_at\":1795166399001,"
                         "\"email_addresses\":["
                         address("e1", "a@example.com", "verified") "]"),
                    "a@example.com", 1)
       && ev.event_ms == 1795166399001,
       "a huge number in metadata");

    ok(parsed_email(user("updated", "\"unsafe_metadata\":{\"a\":1e400,"
                         "\"b\":[-1e999,1e-400,12]},"
                         "\"updated_at\":1795166399001,\"email_addresses\":["
                         address("e1", "a@example.com", "verified") "]"),
                    "a@example.com", 1)
       && ev.event_ms == 1795166399001,
       "a number beyond a double in metadata");

    ok(parsed_email(user("updated", "\"unsafe_metadata\":[\"\\ud83d\","
                         "\"\\udc00x\",\"\\ud83d\\ud83d\\ude00\"],"
                         "\"email_addresses\":["
                         address("e1", "a@example.com", "verified") "]"),
                    "a@example.com", 1),
       "lone surrogates in metadata");

    ok(parse("{\"type\":\"user.created\",\"data\":{\"id\":\"u\",}}")
       == CLERK_NOT_JSON, "what is no JSON stays none");
}


static void
test_deep(void)
{
    char    json[16384];
    size_t  i, n, depth;

    static const size_t  depths[] = { 500, 1500, 3000, 7000 };

    for (i = 0; i < 4; i++) {
        depth = depths[i];

        n = sprintf(json, "{\"type\":\"user.updated\",\"data\":{\"x\":");
        memset(json + n, '[', depth);
        n += depth;
        n += sprintf(json + n, "\"]\\\"\"");
        memset(json + n, ']', depth);
        n += depth;
        sprintf(json + n, ",\"id\":\"u\",\"first_name\":\"Deep\"}}");

        ok(parsed_name(json, "Deep"), "metadata %zu deep", depth);
    }
}


static void
test_user(void)
{
    const char  *reason;

    static const char  json[] =
        "{\"id\":\"user_1\",\"object\":\"user\",\"updated_at\":17951663990"
        "00,\"first_name\":\"Ada\",\"email_addresses\":["
        address("e1", "a@example.com", "verified") "]}";

    ok(clerk_user_parse(&ev, (const u_char *) json, sizeof(json) - 1, &reason)
       == CLERK_OK && ev.kind == CLERK_USER_UPDATED && ev.email_verified
       && ev.event_ms == 1795166399000, "a user of the API");
    is_str(ev.clerk_id, "user_1", "its id");
    is_str(ev.email, "a@example.com", "its address");
    ok(clerk_user_parse(&ev, (const u_char *) "{}", 2, &reason)
       == CLERK_INVALID && ev.type[0] == '\0', "no user");
    ok(clerk_user_parse(&ev, (const u_char *) "[", 1, &reason)
       == CLERK_NOT_JSON, "no JSON");
}


static void
test_time(void)
{
    ok(parse(user("updated", "\"updated_at\":1795166399000.0")) == CLERK_OK
       && ev.event_ms == 1795166399000, "a real number");
    ok(parse(user("updated", "\"updated_at\":null")) == CLERK_OK
       && ev.event_ms == 1795166399123, "no time of the user");
    ok(parse(user("updated", "\"updated_at\":\"1795166399000\"")) == CLERK_OK
       && ev.event_ms == 1795166399123, "text");
    ok(parse(user("updated", "\"updated_at\":-1")) == CLERK_OK
       && ev.event_ms == 1795166399123, "before the epoch");
    ok(parse(user("updated", "\"updated_at\":9007199254740992")) == CLERK_OK
       && ev.event_ms == 1795166399123, "2^53");
    ok(parse(user("updated", "\"updated_at\":1e300")) == CLERK_OK
       && ev.event_ms == 1795166399123, "1e300");
}


static void
test_address(void)
{
    size_t  i;
    char    json[2048];

    static const char  *bad[] = {
        "", "a", "@", "a@", "@b", "a b@c", "a@b\\u0000", "a@b\\n", "a@b\\u007f"
    };

    ok(parsed_email(user("created", "\"primary_email_address_id\":\"e2\","
                         "\"email_addresses\":["
                         address("e1", "one@example.com", "verified") ","
                         address("e2", "two@example.com", "unverified") "]"),
                    "two@example.com", 0),
       "the primary address and its own status");

    ok(parsed_email(user("created", "\"primary_email_address_id\":null,"
                         "\"email_addresses\":["
                         address("e1", "one@example.com", "verified") ","
                         address("e2", "two@example.com", "verified") "]"),
                    "one@example.com", 1),
       "the first one if none is primary");

    ok(parsed_email(user("created", "\"email_addresses\":[{\"id\":\"e1\","
                         "\"email_address\":\"a@b\",\"verification\":null}]"),
                    "a@b", 0),
       "no verification");

    ok(parsed_email(user("created", "\"email_addresses\":["
                         address("e1", "a@b", "verified\\u0000") "]"),
                    "a@b", 0),
       "a status which only begins like verified");

    ok(parsed_email(user("created", "\"email_addresses\":{}"), "", 0),
       "addresses are no list");
    ok(parsed_email(user("created", "\"email_addresses\":[7]"), "", 0),
       "an address is no object");
    ok(parsed_email(user("created", "\"email_addresses\":[]"), "", 0),
       "no address");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void) strcpy(json, "{\"type\":\"user.created\",\"data\":{\"id\":\"u\","
                            "\"email_addresses\":[{\"email_address\":\"");
        (void) strcat(json, bad[i]);
        (void) strcat(json, "\",\"verification\":"
                            "{\"status\":\"verified\"}}]}}");

        ok(parsed_email(json, "", 0), "unusable address \"%s\"", bad[i]);
    }

    memset(json, 0, sizeof(json));
    (void) strcpy(json, "{\"type\":\"user.created\",\"data\":{\"id\":\"u\","
                        "\"email_addresses\":[{\"email_address\":\"a@");
    memset(json + strlen(json), 'b', CLERK_MAX_EMAIL - 2);
    (void) strcat(json, "\"}]}}");
    ok(parse(json) == CLERK_OK && strlen(ev.email) == CLERK_MAX_EMAIL,
       "the longest address");

    memset(json, 0, sizeof(json));
    (void) strcpy(json, "{\"type\":\"user.created\",\"data\":{\"id\":\"u\","
                        "\"email_addresses\":[{\"email_address\":\"a@");
    memset(json + strlen(json), 'b', CLERK_MAX_EMAIL - 1);
    (void) strcat(json, "\"}]}}");
    ok(parsed_email(json, "", 0), "too long an address");
}


static void
test_name(void)
{
    char    json[2048];
    size_t  i;

    ok(parsed_name(user("created", "\"first_name\":\"Ada\""), "Ada"),
       "first name");
    ok(parsed_name(user("created", "\"last_name\":\"L\",\"first_name\":null"),
                   "L"),
       "last name");
    ok(parsed_name(user("created", "\"first_name\":\" \\tA\\n\\u0000 da \","
                        "\"last_name\":\"  L\""),
                   "A da L"),
       "blanks and control characters");
    ok(parsed_name(user("created", "\"first_name\":\"  \",\"username\":\"u\","
                        "\"email_addresses\":["
                        address("e1", "ada.l@example.com", "x") "]"),
                   "ada.l"),
       "local part of the address");
    ok(parsed_name(user("created", "\"first_name\":7,\"username\":\"u\""), "u"),
       "user name");

    memset(json, 0, sizeof(json));
    (void) strcpy(json, "{\"type\":\"user.created\",\"data\":{\"id\":\"u\","
                        "\"first_name\":\"");

    for (i = 0; i < CLERK_MAX_NAME + 1; i++) {
        (void) strcat(json, "\xeb\x9f\xac");
    }

    (void) strcat(json, "\",\"last_name\":\"x\"}}");

    ok(parse(json) == CLERK_OK && strlen(ev.display_name) == 3 * CLERK_MAX_NAME,
       "a long name ends with a whole character");
}


int
main(void)
{
    test_kinds();
    test_sessions();
    test_invalid();
    test_large();
    test_metadata();
    test_deep();
    test_user();
    test_time();
    test_address();
    test_name();

    return done();
}
