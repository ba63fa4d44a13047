
/*
 * Entries of the stream of uploads: the first line is the entry's id, then
 * names and values in turn.  What is accepted is what a job can be made of.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "announce.h"
#include "runcoach_upload.h"


#define FIELDS  24


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(json_t *json);
static json_int_t integer(const json_t *json, const char *name);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char        *text, *p, *end;
    size_t       n;
    json_t      *json;
    const char  *id, *fields[FIELDS];

    text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }

    memcpy(text, data, size);
    text[size] = '\0';

    id = text;
    n = 0;

    for (p = text; n < FIELDS; /* void */) {
        end = strchr(p, '\n');

        if (end == NULL) {
            break;
        }

        *end = '\0';
        p = end + 1;
        fields[n++] = p;
    }

    json = announce_parse(id, fields, n);

    if (json != NULL) {
        check(json);
        json_decref(json);
    }

    free(text);

    return 0;
}


static void
check(json_t *json)
{
    char          *dumped;
    json_t        *again, *size, *sum;
    const char    *user, *key, *hex;

    user = json_string_value(json_object_get(json, "user"));
    key = json_string_value(json_object_get(json, "key"));

    holds(user != NULL && *user != '\0' && strlen(user) <= 255);
    holds(key != NULL && strlen(key) <= 500
          && runcoach_sigv4_check_key((const u_char *) key, strlen(key))
             == RUNCOACH_SIGV4_OK);

    holds(integer(json, "object") >= 0
          && integer(json, "object") <= RUNCOACH_UPLOAD_ID_LAST);
    holds(integer(json, "issued") >= 0 && integer(json, "expires") >= 0);

    size = json_object_get(json, "size");
    holds(json_is_null(size)
          || (json_is_integer(size) && json_integer_value(size) >= 0));

    sum = json_object_get(json, "checksum");
    hex = json_string_value(sum);
    holds(json_is_null(sum)
          || (hex != NULL && strlen(hex) == 64
              && strspn(hex, "0123456789abcdef") == 64));

    /* the database is given it as text */

    dumped = json_dumps(json, JSON_COMPACT);
    holds(dumped != NULL);

    again = json_loads(dumped, 0, NULL);
    holds(again != NULL && json_equal(json, again));

    json_decref(again);
    free(dumped);
}


static json_int_t
integer(const json_t *json, const char *name)
{
    const json_t  *value;

    value = json_object_get(json, name);
    holds(json_is_integer(value));

    return json_integer_value(value);
}
