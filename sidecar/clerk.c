
#include <stdlib.h>
#include <string.h>

#include "clerk.h"
#include "runcoach_json.h"


#define clerk_member(json, object, name)                                      \
    runcoach_json_member(json, object, (const u_char *) name, sizeof(name) - 1)


static clerk_rc_e clerk_load(runcoach_json_t *doc, const u_char *text,
    size_t n, const char **reason);
static clerk_rc_e clerk_event(clerk_event_t *ev, const runcoach_json_t *json,
    const char **reason);
static clerk_rc_e clerk_envelope(clerk_event_t *ev,
    const runcoach_json_t *json, const char **reason);
static clerk_rc_e clerk_user(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data, const char **reason);
static void clerk_session(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data);
static void clerk_address(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data);
static const runcoach_json_node_t *clerk_primary(const runcoach_json_t *json,
    const runcoach_json_node_t *data);
static int clerk_good_address(const runcoach_str_t *s);
static void clerk_name(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data);
static void clerk_word(clerk_event_t *ev, const runcoach_json_node_t *value);
static void clerk_append(char *dst, size_t chars, const char *src, size_t n);
static int clerk_token(char *dst, size_t max,
    const runcoach_json_node_t *value);
static int64_t clerk_ms(const runcoach_json_node_t *value);
static int clerk_string(const runcoach_json_node_t *value);


clerk_rc_e
clerk_event_parse(clerk_event_t *ev, const u_char *json, size_t n,
    const char **reason)
{
    clerk_rc_e       rc;
    runcoach_json_t  doc;

    memset(ev, 0, sizeof(clerk_event_t));

    rc = clerk_load(&doc, json, n, reason);

    if (rc == CLERK_OK) {
        rc = clerk_event(ev, &doc, reason);
    }

    free(doc.nodes);

    if (rc != CLERK_OK) {
        memset(ev, 0, sizeof(clerk_event_t));
    }

    return rc;
}


clerk_rc_e
clerk_user_parse(clerk_event_t *ev, const u_char *json, size_t n,
    const char **reason)
{
    clerk_rc_e       rc;
    runcoach_json_t  doc;

    memset(ev, 0, sizeof(clerk_event_t));

    rc = clerk_load(&doc, json, n, reason);

    if (rc == CLERK_OK) {
        ev->kind = CLERK_USER_UPDATED;
        strcpy(ev->type, "user.updated");

        rc = clerk_user(ev, &doc, &doc.nodes[0], reason);
    }

    free(doc.nodes);

    if (rc != CLERK_OK) {
        memset(ev, 0, sizeof(clerk_event_t));
    }

    return rc;
}


/*
 * People can put anything into metadata of their own, and it comes along with
 * their events, which must not become undeliverable by that: the reader is
 * lenient and knows no limit of depth.
 *
 * doc->nodes is the caller's to free, whatever is returned.
 */

static clerk_rc_e
clerk_load(runcoach_json_t *doc, const u_char *text, size_t n,
    const char **reason)
{
    memset(doc, 0, sizeof(runcoach_json_t));

    if (n > CLERK_MAX_BODY) {
        *reason = "event is too large";
        return CLERK_TOO_LARGE;
    }

    doc->max = runcoach_json_max_nodes(n);
    doc->size = n;

    doc->nodes = malloc(doc->max * sizeof(runcoach_json_node_t) + n);
    if (doc->nodes == NULL) {
        *reason = "no memory to parse the event";
        return CLERK_NO_MEMORY;
    }

    doc->buf = (u_char *) &doc->nodes[doc->max];

    if (runcoach_json_parse_lenient(doc, text, n, (unsigned) n)
        != RUNCOACH_JSON_OK)
    {
        *reason = "event is not a JSON object";
        return CLERK_NOT_JSON;
    }

    return CLERK_OK;
}


static clerk_rc_e
clerk_event(clerk_event_t *ev, const runcoach_json_t *json,
    const char **reason)
{
    clerk_rc_e                   rc;
    const runcoach_json_node_t  *data;

    rc = clerk_envelope(ev, json, reason);
    if (rc != CLERK_OK) {
        return rc;
    }

    data = clerk_member(json, &json->nodes[0], "data");

    switch (ev->kind) {

    case CLERK_USER_CREATED:
    case CLERK_USER_UPDATED:
    case CLERK_USER_DELETED:
        return clerk_user(ev, json, data, reason);

    default:
        clerk_session(ev, json, data);
        return CLERK_OK;
    }
}


static clerk_rc_e
clerk_envelope(clerk_event_t *ev, const runcoach_json_t *json,
    const char **reason)
{
    const runcoach_json_node_t  *root;

    root = &json->nodes[0];

    if (!clerk_token(ev->type, CLERK_MAX_TYPE,
                     clerk_member(json, root, "type")))
    {
        *reason = "event has no usable type";
        return CLERK_INVALID;
    }

    if (strcmp(ev->type, "user.created") == 0) {
        ev->kind = CLERK_USER_CREATED;

    } else if (strcmp(ev->type, "user.updated") == 0) {
        ev->kind = CLERK_USER_UPDATED;

    } else if (strcmp(ev->type, "user.deleted") == 0) {
        ev->kind = CLERK_USER_DELETED;

    } else if (strcmp(ev->type, "session.ended") == 0
               || strcmp(ev->type, "session.removed") == 0
               || strcmp(ev->type, "session.revoked") == 0)
    {
        ev->kind = CLERK_SESSION_ENDED;

    } else {
        ev->kind = CLERK_OTHER;
    }

    ev->event_ms = clerk_ms(clerk_member(json, root, "timestamp"));

    return CLERK_OK;
}


static clerk_rc_e
clerk_user(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data, const char **reason)
{
    int64_t                      ms;
    const runcoach_json_node_t  *id;

    id = clerk_member(json, data, "id");

    if (ev->kind == CLERK_USER_DELETED
        && (id == NULL || id->type == RUNCOACH_JSON_NULL))
    {
        ev->kind = CLERK_OTHER;
        return CLERK_OK;
    }

    if (!clerk_token(ev->clerk_id, CLERK_MAX_ID, id)) {
        *reason = "user has no usable id";
        return CLERK_INVALID;
    }

    if (ev->kind == CLERK_USER_DELETED) {
        return CLERK_OK;
    }

    ms = clerk_ms(clerk_member(json, data, "updated_at"));

    if (ms != 0) {
        ev->event_ms = ms;
    }

    clerk_address(ev, json, data);
    clerk_name(ev, json, data);

    return CLERK_OK;
}


static void
clerk_session(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data)
{
    if (strncmp(ev->type, "session.", 8) != 0) {
        return;
    }

    (void) clerk_token(ev->clerk_id, CLERK_MAX_ID,
                       clerk_member(json, data, "user_id"));

    if (!clerk_token(ev->session_id, CLERK_MAX_ID,
                     clerk_member(json, data, "id")))
    {
        ev->kind = CLERK_OTHER;
    }
}


static void
clerk_address(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data)
{
    const runcoach_json_node_t  *entry, *value;

    entry = clerk_primary(json, data);
    value = clerk_member(json, entry, "email_address");

    if (!clerk_string(value) || !clerk_good_address(&value->value)) {
        return;
    }

    memcpy(ev->email, value->value.data, value->value.len);

    value = clerk_member(json, clerk_member(json, entry, "verification"),
                         "status");

    ev->email_verified = clerk_string(value) && value->value.len == 8
                         && memcmp(value->value.data, "verified", 8) == 0;
}


static const runcoach_json_node_t *
clerk_primary(const runcoach_json_t *json, const runcoach_json_node_t *data)
{
    const runcoach_json_node_t  *list, *id, *entry, *value;

    list = clerk_member(json, data, "email_addresses");
    id = clerk_member(json, data, "primary_email_address_id");

    if (list == NULL || list->type != RUNCOACH_JSON_ARRAY) {
        return NULL;
    }

    if (!clerk_string(id)) {
        return runcoach_json_first(json, list);
    }

    for (entry = runcoach_json_first(json, list);
         entry != NULL;
         entry = runcoach_json_next(json, list, entry))
    {
        value = clerk_member(json, entry, "id");

        if (clerk_string(value) && value->value.len == id->value.len
            && memcmp(value->value.data, id->value.data, id->value.len) == 0)
        {
            return entry;
        }
    }

    return runcoach_json_first(json, list);
}


static int
clerk_good_address(const runcoach_str_t *s)
{
    size_t         i, n, chars, at;
    const u_char  *p;

    p = s->data;
    n = s->len;

    if (n > CLERK_MAX_EMAIL * 4) {
        return 0;
    }

    at = 0;
    chars = 0;

    for (i = 0; i < n; i++) {

        if (p[i] <= 0x20 || p[i] == 0x7f) {
            return 0;
        }

        if (p[i] == '@') {
            at = i;
        }

        chars += ((p[i] & 0xc0) != 0x80);
    }

    return at > 0 && at < n - 1 && chars <= CLERK_MAX_EMAIL;
}


static void
clerk_name(clerk_event_t *ev, const runcoach_json_t *json,
    const runcoach_json_node_t *data)
{
    char  *at;

    clerk_word(ev, clerk_member(json, data, "first_name"));
    clerk_word(ev, clerk_member(json, data, "last_name"));

    if (ev->display_name[0] != '\0') {
        return;
    }

    at = strrchr(ev->email, '@');

    if (at != NULL) {
        clerk_append(ev->display_name, CLERK_MAX_NAME, ev->email,
                     at - ev->email);
        return;
    }

    clerk_word(ev, clerk_member(json, data, "username"));
}


static void
clerk_word(clerk_event_t *ev, const runcoach_json_node_t *value)
{
    if (clerk_string(value)) {
        clerk_append(ev->display_name, CLERK_MAX_NAME,
                     (const char *) value->value.data, value->value.len);
    }
}


/*
 * Appends a word to the text in dst, which is left with at most the given
 * number of characters.  White space and control characters of src separate
 * words; one blank remains of them.
 */

static void
clerk_append(char *dst, size_t chars, const char *src, size_t n)
{
    u_char  ch;
    size_t  i, len, used, blank;

    len = strlen(dst);
    used = 0;

    for (i = 0; i < len; i++) {
        used += (((u_char) dst[i] & 0xc0) != 0x80);
    }

    blank = (len > 0);

    for (i = 0; i < n; i++) {
        ch = (u_char) src[i];

        if (ch <= 0x20 || ch == 0x7f) {
            blank = (len > 0);
            continue;
        }

        if ((ch & 0xc0) != 0x80) {

            if (used + 1 + blank > chars) {
                break;
            }

            if (blank) {
                dst[len++] = ' ';
            }

            used += 1 + blank;
            blank = 0;
        }

        dst[len++] = (char) ch;
    }

    dst[len] = '\0';
}


/* a word of visible ASCII; *dst is empty if the value is none */

static int
clerk_token(char *dst, size_t max, const runcoach_json_node_t *value)
{
    size_t         i, n;
    const u_char  *p;

    if (!clerk_string(value)) {
        return 0;
    }

    p = value->value.data;
    n = value->value.len;

    if (n == 0 || n > max) {
        return 0;
    }

    for (i = 0; i < n; i++) {
        if (p[i] <= 0x20 || p[i] >= 0x7f) {
            return 0;
        }
    }

    memcpy(dst, p, n);
    dst[n] = '\0';

    return 1;
}


/* 0 if there is no such time; 2^53 is where a number stops being exact */

static int64_t
clerk_ms(const runcoach_json_node_t *value)
{
    double  ms;

    ms = (value == NULL) ? 0 : runcoach_json_number(value);

    if (ms >= 1.0 && ms < 9007199254740992.0) {
        return (int64_t) ms;
    }

    return 0;
}


static int
clerk_string(const runcoach_json_node_t *value)
{
    return value != NULL && value->type == RUNCOACH_JSON_STRING;
}
