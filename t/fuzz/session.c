
/*
 * Sessions: a user that is found can be a header value and a path segment, and
 * it is the one that jansson finds.
 */


#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "runcoach_session.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t find(char *user, const u_char *text, size_t n);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char     expected[RUNCOACH_SESSION_USER + 1];
    size_t   i, n;
    u_char  *p, *user;

    p = malloc(size + (size == 0));
    user = malloc(RUNCOACH_SESSION_USER);
    holds(p != NULL && user != NULL);

    memcpy(p, data, size);

    (void) runcoach_session_valid_id(p, size);

    n = runcoach_session_user(user, p, size);

    holds(n <= RUNCOACH_SESSION_USER);
    holds(n == find(expected, p, size));
    holds(memcmp(user, expected, n) == 0);

    for (i = 0; i < n; i++) {
        holds(user[i] > ' ' && user[i] < 0x7f);
        holds(user[i] != '/' && user[i] != '.');
    }

    free(user);
    free(p);

    return 0;
}


static size_t
find(char *user, const u_char *text, size_t n)
{
    size_t       len;
    json_t      *root, *id;
    const char  *p;

    /* jansson overlooks a NUL behind a number or a literal */

    if (n > RUNCOACH_SESSION_MAX || memchr(text, '\0', n) != NULL) {
        return 0;
    }

    root = json_loadb((const char *) text, n, JSON_REJECT_DUPLICATES, NULL);
    id = json_object_get(root, "user_id");
    len = 0;

    if (json_is_integer(id)
        && json_integer_value(id) > 0
        && json_integer_value(id) < (json_int_t) 1 << 53)
    {
        len = sprintf(user, "%" JSON_INTEGER_FORMAT, json_integer_value(id));

    } else if (json_is_string(id)
               && json_string_length(id) <= RUNCOACH_SESSION_USER)
    {
        p = json_string_value(id);
        len = strlen(p);

        if (strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                      "0123456789-_") != len)
        {
            len = 0;
        }

        memcpy(user, p, len);
    }

    json_decref(root);

    return len;
}
