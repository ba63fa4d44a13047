
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "svix.h"
#include "tap.h"


typedef struct {
    const char  *name;
    const char  *secret;
    const char  *id;
    const char  *timestamp;
    const char  *body;
    size_t       len;
    const char  *signature;
} vector_t;


#define SVIX_SECRET   "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define OTHER_SECRET  "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

/* 64 and 65 bytes begin like this */

#define LONG_SECRET                                                           \
    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh"                        \
    "8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P"

#define GOOD   "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
#define WRONG  "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define BODY   "{\"email\":\"test@example.com\",\"username\":\"test_user\"}"
#define ID     "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"
#define TIME   1649367553


static runcoach_str_t text(const char *s);
static int parse(svix_secrets_t *secrets, const char *list);
static svix_rc_e verify(const char *list, const char *id,
    const char *timestamp, const char *signature, int64_t now);
static svix_rc_e verify_signature(const char *signature);
static void test_vectors(void);
static void test_secrets(void);
static void test_timestamp(void);
static void test_signature(void);
static void test_headers(void);


static const char  clerk_body[] =
    "{\"data\":{\"id\":\"user_new123\",\"object\":\"user\",\"email_addresses\":"
    "[{\"id\":\"email_1\",\"email_address\":\"newuser@example.com\","
    "\"verification\":{\"status\":\"verified\",\"strategy\":\"email_code\"}}],"
    "\"primary_email_address_id\":\"email_1\",\"first_name\":\"New\","
    "\"last_name\":\"User\",\"created_at\":1795166399000,"
    "\"updated_at\":1795166399000},\"object\":\"event\","
    "\"type\":\"user.created\",\"timestamp\":1795166399123,"
    "\"instance_id\":\"ins_1\",\"event_attributes\":{\"http_request\":"
    "{\"client_ip\":\"203.0.113.9\",\"user_agent\":\"x\"}}}";


static const vector_t  vectors[] = {
    { "Svix's own", SVIX_SECRET, ID, "1649367553", BODY, sizeof(BODY) - 1,
      GOOD },
    { "Standard Webhooks' own", OTHER_SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "1614265330", "{\"test\": 2432232314}", 20,
      "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
    { "a Clerk event", OTHER_SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "1795166400", clerk_body, sizeof(clerk_body) - 1,
      "v1,3jPrRwEjNRejIK5cNWbH3XG11oG7LiZZtjNS5HStv/Q=" },
    { "a body that is no text", OTHER_SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "1795166400", "\x00\xff\r\n\x80", 5,
      "v1,OwByVimEVi3UX4e4FPBgefzVw2vqOYtJCPQC8BcTSDw=" },
    { "an empty body", OTHER_SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "1795166400", "", 0,
      "v1,DBBKxRTIysHkYsYFOuK/TKwoqf7VpmUNXJ1pnM5ah/E=" }
};


static const svix_headers_t  none;


static runcoach_str_t
text(const char *s)
{
    runcoach_str_t  v;

    v.len = strlen(s);
    v.data = (const u_char *) s;

    return v;
}


static int
parse(svix_secrets_t *secrets, const char *list)
{
    const char  *error;

    error = NULL;

    if (svix_secrets_parse(secrets, (const u_char *) list, strlen(list),
                           &error)
        == 0)
    {
        return (int) secrets->nkeys;
    }

    return (error != NULL && error[0] != '\0') ? -1 : -2;
}


static svix_rc_e
verify(const char *list, const char *id, const char *timestamp,
    const char *signature, int64_t now)
{
    svix_headers_t  h;
    svix_secrets_t  secrets;

    (void) parse(&secrets, list);

    h.id = text(id);
    h.timestamp = text(timestamp);
    h.signature = text(signature);

    return svix_verify(&secrets, &h, &none, (const u_char *) BODY,
                       sizeof(BODY) - 1, now, NULL, NULL);
}


static svix_rc_e
verify_signature(const char *signature)
{
    return verify(SVIX_SECRET, ID, "1649367553", signature, TIME);
}


static void
test_vectors(void)
{
    size_t                 i;
    int64_t                timestamp;
    svix_headers_t         h;
    const vector_t        *v;
    svix_secrets_t         secrets;
    const svix_headers_t  *used;

    for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        v = &vectors[i];

        (void) parse(&secrets, v->secret);

        h.id = text(v->id);
        h.timestamp = text(v->timestamp);
        h.signature = text(v->signature);

        ok(svix_verify(&secrets, &h, &none, (const u_char *) v->body, v->len,
                       atoll(v->timestamp), &used, &timestamp)
           == SVIX_OK && used == &h && timestamp == atoll(v->timestamp),
           "%s", v->name);

        ok(svix_verify(&secrets, &none, &h, (const u_char *) v->body, v->len,
                       atoll(v->timestamp), &used, NULL)
           == SVIX_OK && used == &h,
           "%s: unbranded headers", v->name);

        ok(svix_verify(&secrets, &h, &none, (const u_char *) "x", 1,
                       atoll(v->timestamp), NULL, NULL)
           == SVIX_BAD_SIGNATURE,
           "%s: another body", v->name);
    }
}


static void
test_secrets(void)
{
    size_t          i;
    char            list[1024];
    svix_secrets_t  secrets;

    static const char  *bad[] = {
        "", " ", ",", "whsec_", (SVIX_SECRET ","), ("," SVIX_SECRET),
        "whsec_!!!!", "whsec_QUJ", "whsec_QQ=Q", "whsec_ QUJD"
    };

    ok(parse(&secrets, SVIX_SECRET) == 1, "one secret");
    ok(parse(&secrets, SVIX_SECRET "," OTHER_SECRET) == 2, "two secrets");
    ok(parse(&secrets, " " SVIX_SECRET " ,\t" OTHER_SECRET " ") == 2,
       "blanks around secrets");
    ok(verify("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", ID, "1649367553", GOOD, TIME)
       == SVIX_OK, "without the prefix");
    ok(verify("whsec_QUI", ID, "1649367553",
              "v1,UxWWaQZV5jXDM8oM9jUGmbVatNpLKI+3JJc0XTiUvtc=", TIME)
       == SVIX_OK, "without padding");
    ok(verify(LONG_SECRET "w==", ID, "1649367553",
              "v1,S6UzySj0sKQLyd3r1c4WLiB8Gf8WvBjjreDSgbALx+w=", TIME)
       == SVIX_OK, "a key as long as a block");
    ok(verify(LONG_SECRET "0A=", ID, "1649367553",
              "v1,/0gNYzjKVEAmPPM+c3sO11gLaTegnpihA+8U/HzHLhU=", TIME)
       == SVIX_OK, "a longer one");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ok(parse(&secrets, bad[i]) == -1 && secrets.nkeys == 0,
           "refused secret \"%s\"", bad[i]);
    }

    memset(list, 'A', sizeof(list));
    list[sizeof(list) - 1] = '\0';

    ok(parse(&secrets, list) == -1, "a secret which is too long");

    strcpy(list, "QUFB,QUFB,QUFB,QUFB,QUFB,QUFB,QUFB,QUFB");
    ok(parse(&secrets, list) == SVIX_MAX_SECRETS, "as many as there may be");

    strcat(list, ",QUFB");
    ok(parse(&secrets, list) == -1, "one more");

    ok(verify(OTHER_SECRET, ID, "1649367553", GOOD, TIME)
       == SVIX_BAD_SIGNATURE, "another secret");
    ok(verify(OTHER_SECRET "," SVIX_SECRET, ID, "1649367553", GOOD, TIME)
       == SVIX_OK, "the second secret of a list");
}


static void
test_timestamp(void)
{
    size_t  i;

    static const char  *bad[] = {
        "", "-1649367553", "+1649367553", " 1649367553", "1649367553 ",
        "1649367553.0", "0x624f5001", "1649367553000", "9223372036854775808",
        "99999999999999999999999999999999", "0"
    };

    ok(verify(SVIX_SECRET, ID, "1649367553", GOOD, TIME + 300) == SVIX_OK,
       "300 s old");
    ok(verify(SVIX_SECRET, ID, "1649367553", GOOD, TIME - 300) == SVIX_OK,
       "300 s ahead");
    ok(verify(SVIX_SECRET, ID, "1649367553", GOOD, TIME + 301)
       == SVIX_BAD_TIMESTAMP, "301 s old");
    ok(verify(SVIX_SECRET, ID, "1649367553", GOOD, TIME - 301)
       == SVIX_BAD_TIMESTAMP, "301 s ahead");
    ok(verify(SVIX_SECRET, ID, "1649367554", GOOD, TIME)
       == SVIX_BAD_SIGNATURE, "another second is not what was signed");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ok(verify(SVIX_SECRET, ID, bad[i], GOOD, TIME) == SVIX_BAD_TIMESTAMP,
           "refused timestamp \"%s\"", bad[i]);
    }
}


static void
test_signature(void)
{
    size_t  i;
    char    list[SVIX_MAX_SIGNATURE + 64];

    static const char  *bad[] = {
        "", " ", "v1", "v1,", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw",
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw==", WRONG,
        "v2,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        "v1a,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        "V1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        "v1,tz1i4/HdYGajGo5tyXIsD6sD0Kdw6HpENdE+BtA3kKW=",
        "tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        (GOOD "," GOOD), ("v1," GOOD)
    };

    ok(verify_signature(GOOD) == SVIX_OK, "one entry");
    ok(verify_signature(WRONG " v2,x " GOOD) == SVIX_OK,
       "the last of several entries");
    ok(verify_signature(GOOD " " WRONG " nonsense") == SVIX_OK,
       "the first of several entries");
    ok(verify_signature("  " GOOD "  ") == SVIX_OK, "blanks");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ok(verify_signature(bad[i]) == SVIX_BAD_SIGNATURE,
           "refused signature \"%s\"", bad[i]);
    }

    list[0] = '\0';

    for (i = 0; i < SVIX_MAX_ENTRIES - 1; i++) {
        strcat(list, WRONG " ");
    }

    strcat(list, GOOD);
    ok(verify_signature(list) == SVIX_OK, "as many entries as there may be");

    strcat(list, " " WRONG);
    ok(verify_signature(list) == SVIX_BAD_SIGNATURE, "one more");

    memset(list, ' ', sizeof(list));
    memcpy(list, GOOD, sizeof(GOOD) - 1);
    list[sizeof(list) - 1] = '\0';
    ok(verify_signature(list) == SVIX_BAD_SIGNATURE, "too long a header");
}


static void
test_headers(void)
{
    char            id[SVIX_MAX_ID + 2];
    size_t          i;
    unsigned        mask;
    svix_headers_t  good, h, bad;
    svix_secrets_t  secrets;

    static const char  *ids[] = {
        "", "msg.1", "msg 1", "msg\n1", "msg\x80", "msg/1", "msg'1"
    };

    (void) parse(&secrets, SVIX_SECRET);

    good.id = text(ID);
    good.timestamp = text("1649367553");
    good.signature = text(GOOD);

    for (mask = 1; mask < 8; mask++) {
        h = good;
        bad = none;

        if (mask & 1) {
            bad.id = h.id;
            h.id = none.id;
        }

        if (mask & 2) {
            bad.timestamp = h.timestamp;
            h.timestamp = none.timestamp;
        }

        if (mask & 4) {
            bad.signature = h.signature;
            h.signature = none.signature;
        }

        ok(svix_verify(&secrets, &h, &none, (const u_char *) BODY,
                       sizeof(BODY) - 1, TIME, NULL, NULL)
           == SVIX_NO_HEADERS,
           "missing headers: %u", mask);

        if (mask != 7) {
            ok(svix_verify(&secrets, &h, &bad, (const u_char *) BODY,
                           sizeof(BODY) - 1, TIME, NULL, NULL)
               == SVIX_NO_HEADERS,
               "the other family does not fill in: %u", mask);
        }
    }

    h = good;
    h.signature = text(WRONG);

    ok(svix_verify(&secrets, &h, &good, (const u_char *) BODY,
                   sizeof(BODY) - 1, TIME, NULL, NULL)
       == SVIX_BAD_SIGNATURE,
       "a complete svix family decides");

    for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        ok(verify(SVIX_SECRET, ids[i], "1649367553", GOOD, TIME) == SVIX_BAD_ID,
           "refused id: %zu", i);
    }

    memset(id, 'a', sizeof(id));
    id[sizeof(id) - 1] = '\0';

    ok(verify(SVIX_SECRET, id, "1649367553", GOOD, TIME) == SVIX_BAD_ID,
       "too long an id");
    ok(verify(SVIX_SECRET, id + 1, "1649367553", GOOD, TIME)
       == SVIX_BAD_SIGNATURE,
       "the longest id");
}


int
main(void)
{
    test_vectors();
    test_secrets();
    test_timestamp();
    test_signature();
    test_headers();

    return done();
}
