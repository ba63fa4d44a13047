
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "clerk.h"


static clerk_rc_e clerk_load(json_t **root, const u_char *json, size_t n,
    unsigned *mended, const char **reason);
static json_t *clerk_load_mended(const u_char *json, size_t n,
    json_error_t *error);
static u_char *clerk_mend_string(u_char *p, u_char *end);
static u_char *clerk_mend_escape(u_char *p, u_char *end);
static u_char *clerk_mend_number(u_char *p, u_char *end);
static u_char *clerk_mend_deep(u_char *p, u_char *end);
static long clerk_hex(const u_char *p, const u_char *end);
static clerk_rc_e clerk_envelope(clerk_event_t *ev, const json_t *root,
    const char **reason);
static clerk_rc_e clerk_user(clerk_event_t *ev, const json_t *data,
    const char **reason);
static void clerk_session(clerk_event_t *ev, const json_t *data);
static void clerk_address(clerk_event_t *ev, const json_t *data);
static const json_t *clerk_primary(const json_t *data);
static int clerk_good_address(const char *p, size_t n);
static void clerk_name(clerk_event_t *ev, const json_t *data);
static void clerk_append(char *dst, size_t chars, const char *src, size_t n);
static int clerk_token(char *dst, size_t max, const json_t *value);
static int64_t clerk_ms(const json_t *value);


clerk_rc_e
clerk_event_parse(clerk_event_t *ev, const u_char *json, size_t n,
    const char **reason)
{
    json_t      *root, *data;
    unsigned     mended;
    clerk_rc_e   rc;

    memset(ev, 0, sizeof(clerk_event_t));

    rc = clerk_load(&root, json, n, &mended, reason);
    if (rc != CLERK_OK) {
        return rc;
    }

    ev->mended = mended;
    data = json_object_get(root, "data");

    rc = clerk_envelope(ev, root, reason);
    if (rc != CLERK_OK) {
        goto done;
    }

    switch (ev->kind) {

    case CLERK_USER_CREATED:
    case CLERK_USER_UPDATED:
    case CLERK_USER_DELETED:
        rc = clerk_user(ev, data, reason);
        break;

    default:
        clerk_session(ev, data);
    }

done:

    json_decref(root);

    if (rc != CLERK_OK) {
        memset(ev, 0, sizeof(clerk_event_t));
    }

    return rc;
}


clerk_rc_e
clerk_user_parse(clerk_event_t *ev, const u_char *json, size_t n,
    const char **reason)
{
    json_t      *root;
    unsigned     mended;
    clerk_rc_e   rc;

    memset(ev, 0, sizeof(clerk_event_t));

    rc = clerk_load(&root, json, n, &mended, reason);
    if (rc != CLERK_OK) {
        return rc;
    }

    ev->kind = CLERK_USER_UPDATED;
    strcpy(ev->type, "user.updated");

    rc = clerk_user(ev, root, reason);

    json_decref(root);

    if (rc != CLERK_OK) {
        memset(ev, 0, sizeof(clerk_event_t));
    }

    return rc;
}


/*
 * People can put anything into metadata of their own, and it comes along with
 * their events.  So neither a "\u0000" nor a number that fits no integer may
 * make an event undeliverable.
 */

static clerk_rc_e
clerk_load(json_t **root, const u_char *json, size_t n, unsigned *mended,
    const char **reason)
{
    size_t        flags;
    json_error_t  error;

    *mended = 0;

    if (n > CLERK_MAX_BODY) {
        *reason = "event is too large";
        return CLERK_TOO_LARGE;
    }

    flags = JSON_ALLOW_NUL;

    *root = json_loadb((const char *) json, n, flags, &error);

    if (*root == NULL
        && json_error_code(&error) == json_error_numeric_overflow)
    {
        flags |= JSON_DECODE_INT_AS_REAL;

        *root = json_loadb((const char *) json, n, flags, &error);
    }

    if (*root == NULL && json_error_code(&error) != json_error_out_of_memory) {
        *mended = 1;
        *root = clerk_load_mended(json, n, &error);
    }

    if (*root == NULL && json_error_code(&error) == json_error_out_of_memory) {
        *reason = "no memory to parse the event";
        return CLERK_NO_MEMORY;
    }

    if (!json_is_object(*root)) {
        json_decref(*root);
        *root = NULL;

        *reason = "event is not a JSON object";
        return CLERK_NOT_JSON;
    }

    return CLERK_OK;
}


static json_t *
clerk_load_mended(const u_char *json, size_t n, json_error_t *error)
{
    json_t  *root;
    u_char  *copy;

    copy = malloc(n + 1);
    if (copy == NULL) {
        return NULL;
    }

    memcpy(copy, json, n);
    clerk_mend(copy, n);

    root = json_loadb((const char *) copy, n,
                      JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, error);
    free(copy);

    return root;
}


void
clerk_mend(u_char *json, size_t n)
{
    u_char    *p, *end;
    unsigned   depth;

    p = json;
    end = json + n;
    depth = 0;

    while (p < end) {

        if (*p == '"') {
            p = clerk_mend_string(p + 1, end);

        } else if (*p == '{' || *p == '[') {

            if (depth == CLERK_MAX_DEPTH) {
                p = clerk_mend_deep(p, end);

            } else {
                depth++;
                p++;
            }

        } else if (*p == '}' || *p == ']') {
            depth -= (depth > 0);
            p++;

        } else if (*p == '-' || (*p >= '0' && *p <= '9')) {
            p = clerk_mend_number(p, end);

        } else {
            p++;
        }
    }
}


/* from behind the first quotation mark to behind the last */

static u_char *
clerk_mend_string(u_char *p, u_char *end)
{
    while (p < end && *p != '"') {

        p = (*p == '\\') ? clerk_mend_escape(p, end) : p + 1;
    }

    return (p < end) ? p + 1 : end;
}


static u_char *
clerk_mend_escape(u_char *p, u_char *end)
{
    long  code, low;

    if (end - p < 6 || p[1] != 'u') {
        return (end - p < 2) ? end : p + 2;
    }

    code = clerk_hex(p + 2, end);

    if (code < 0xd800 || code > 0xdfff) {
        return p + 2;
    }

    if (code < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u') {
        low = clerk_hex(p + 8, end);

        if (low >= 0xdc00 && low <= 0xdfff) {
            return p + 12;
        }
    }

    memcpy(p + 2, "fffd", 4);

    return p + 6;
}


static u_char *
clerk_mend_number(u_char *p, u_char *end)
{
    char     text[512];
    size_t   n;
    double   value;
    u_char  *last;

    for (last = p; last < end && *last != '\0'
                   && strchr("+-.0123456789Ee", *last) != NULL; last++)
    {
        /* void */
    }

    n = last - p;

    /* one of so many digits is beyond anything but in jest */

    value = HUGE_VAL;

    if (n < sizeof(text)) {
        memcpy(text, p, n);
        text[n] = '\0';
        value = strtod(text, NULL);
    }

    if (value == HUGE_VAL || value == -HUGE_VAL) {
        memset(p, ' ', n);
        *p = '0';
    }

    return last;
}


/* from a bracket to behind the one that closes it */

static u_char *
clerk_mend_deep(u_char *p, u_char *end)
{
    u_char    *first;
    unsigned   depth;

    first = p;
    depth = 0;

    do {
        if (*p == '"') {
            p = clerk_mend_string(p + 1, end);
            continue;
        }

        if (*p == '{' || *p == '[') {
            depth++;

        } else if (*p == '}' || *p == ']') {
            depth--;
        }

        p++;

    } while (p < end && depth != 0);

    memset(first, ' ', p - first);
    *first = '0';

    return p;
}


static long
clerk_hex(const u_char *p, const u_char *end)
{
    long    code;
    size_t  i;
    u_char  ch;

    code = 0;

    for (i = 0; i < 4 && p + i < end; i++) {
        ch = p[i] | 0x20;

        if (p[i] >= '0' && p[i] <= '9') {
            code = code * 16 + (p[i] - '0');

        } else if (ch >= 'a' && ch <= 'f') {
            code = code * 16 + (ch - 'a' + 10);

        } else {
            return -1;
        }
    }

    return (i == 4) ? code : -1;
}


static clerk_rc_e
clerk_envelope(clerk_event_t *ev, const json_t *root, const char **reason)
{
    if (!clerk_token(ev->type, CLERK_MAX_TYPE, json_object_get(root, "type"))) {
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

    ev->event_ms = clerk_ms(json_object_get(root, "timestamp"));

    return CLERK_OK;
}


static clerk_rc_e
clerk_user(clerk_event_t *ev, const json_t *data, const char **reason)
{
    int64_t        ms;
    const json_t  *id;

    id = json_object_get(data, "id");

    if (ev->kind == CLERK_USER_DELETED && (id == NULL || json_is_null(id))) {
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

    ms = clerk_ms(json_object_get(data, "updated_at"));

    if (ms != 0) {
        ev->event_ms = ms;
    }

    clerk_address(ev, data);
    clerk_name(ev, data);

    return CLERK_OK;
}


static void
clerk_session(clerk_event_t *ev, const json_t *data)
{
    if (strncmp(ev->type, "session.", 8) != 0) {
        return;
    }

    (void) clerk_token(ev->clerk_id, CLERK_MAX_ID,
                       json_object_get(data, "user_id"));

    if (!clerk_token(ev->session_id, CLERK_MAX_ID,
                     json_object_get(data, "id")))
    {
        ev->kind = CLERK_OTHER;
    }
}


static void
clerk_address(clerk_event_t *ev, const json_t *data)
{
    size_t         n;
    const char    *p;
    const json_t  *entry, *value;

    entry = clerk_primary(data);
    value = json_object_get(entry, "email_address");

    if (!json_is_string(value)) {
        return;
    }

    p = json_string_value(value);
    n = json_string_length(value);

    if (!clerk_good_address(p, n)) {
        return;
    }

    memcpy(ev->email, p, n);

    value = json_object_get(json_object_get(entry, "verification"), "status");

    ev->email_verified = json_is_string(value)
                         && json_string_length(value) == 8
                         && memcmp(json_string_value(value), "verified", 8)
                            == 0;
}


static const json_t *
clerk_primary(const json_t *data)
{
    size_t         i, n;
    const json_t  *list, *id, *entry;

    list = json_object_get(data, "email_addresses");
    id = json_object_get(data, "primary_email_address_id");

    n = json_array_size(list);

    if (json_is_string(id)) {

        for (i = 0; i < n; i++) {
            entry = json_array_get(list, i);

            if (json_equal(json_object_get(entry, "id"), id)) {
                return entry;
            }
        }
    }

    return json_array_get(list, 0);
}


static int
clerk_good_address(const char *p, size_t n)
{
    size_t  i, chars, at;

    if (n > CLERK_MAX_EMAIL * 4) {
        return 0;
    }

    at = 0;
    chars = 0;

    for (i = 0; i < n; i++) {

        if ((u_char) p[i] <= 0x20 || p[i] == 0x7f) {
            return 0;
        }

        if (p[i] == '@') {
            at = i;
        }

        chars += (((u_char) p[i] & 0xc0) != 0x80);
    }

    return at > 0 && at < n - 1 && chars <= CLERK_MAX_EMAIL;
}


static void
clerk_name(clerk_event_t *ev, const json_t *data)
{
    char          *at;
    size_t         i;
    const json_t  *value;

    static const char  *parts[] = { "first_name", "last_name" };

    for (i = 0; i < 2; i++) {
        value = json_object_get(data, parts[i]);

        if (json_is_string(value)) {
            clerk_append(ev->display_name, CLERK_MAX_NAME,
                         json_string_value(value), json_string_length(value));
        }
    }

    if (ev->display_name[0] != '\0') {
        return;
    }

    at = strrchr(ev->email, '@');

    if (at != NULL) {
        clerk_append(ev->display_name, CLERK_MAX_NAME, ev->email,
                     at - ev->email);
        return;
    }

    value = json_object_get(data, "username");

    if (json_is_string(value)) {
        clerk_append(ev->display_name, CLERK_MAX_NAME,
                     json_string_value(value), json_string_length(value));
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
clerk_token(char *dst, size_t max, const json_t *value)
{
    size_t       i, n;
    const char  *p;

    p = json_string_value(value);

    if (p == NULL) {
        return 0;
    }

    n = json_string_length(value);

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
clerk_ms(const json_t *value)
{
    double  ms;

    ms = json_number_value(value);

    if (ms >= 1.0 && ms < 9007199254740992.0) {
        return (int64_t) ms;
    }

    return 0;
}
