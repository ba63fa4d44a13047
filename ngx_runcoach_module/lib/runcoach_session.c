
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "runcoach_session.h"


#define RUNCOACH_SESSION_USER_LAST  9007199254740991LL


static int runcoach_session_token(const u_char *p, size_t n);


int
runcoach_session_valid_id(const u_char *id, size_t n)
{
    return n >= RUNCOACH_SESSION_ID_MIN
           && n <= RUNCOACH_SESSION_ID_MAX
           && runcoach_session_token(id, n);
}


size_t
runcoach_session_user(u_char *user, const u_char *json, size_t n)
{
    char          number[RUNCOACH_SESSION_USER];
    size_t        len;
    json_t       *root, *id;
    const char   *text;
    json_int_t    value;

    if (n > RUNCOACH_SESSION_MAX) {
        return 0;
    }

    len = 0;

    root = json_loadb((const char *) json, n, JSON_REJECT_DUPLICATES, NULL);
    id = json_object_get(root, "user_id");

    if (json_is_integer(id)) {
        value = json_integer_value(id);

        if (value > 0 && value <= RUNCOACH_SESSION_USER_LAST) {
            len = snprintf(number, sizeof(number), "%lld", (long long) value);
            memcpy(user, number, len);
        }

    } else if (json_is_string(id)) {
        text = json_string_value(id);
        len = json_string_length(id);

        if (len > RUNCOACH_SESSION_USER
            || !runcoach_session_token((const u_char *) text, len))
        {
            len = 0;
        }

        memcpy(user, text, len);
    }

    json_decref(root);

    return len;
}


static int
runcoach_session_token(const u_char *p, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {

        if ((p[i] >= 'a' && p[i] <= 'z')
            || (p[i] >= 'A' && p[i] <= 'Z')
            || (p[i] >= '0' && p[i] <= '9')
            || p[i] == '-'
            || p[i] == '_')
        {
            continue;
        }

        return 0;
    }

    return n != 0;
}
