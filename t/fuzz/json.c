
/*
 * The reader against jansson: the same texts, and the same of each value.
 * Everything it is given has exactly the size it is told.
 */


#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "runcoach_json.h"


#define DEPTH  100


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const u_char *text, size_t n, json_t *expected);
static void limits(runcoach_json_t *json, const u_char *text, size_t n);
static void same(const runcoach_json_t *json,
    const runcoach_json_node_t *node, json_t *expected);
static void same_object(const runcoach_json_t *json,
    const runcoach_json_node_t *node, json_t *expected);
static void same_array(const runcoach_json_t *json,
    const runcoach_json_node_t *node, json_t *expected);
static void compacted(const runcoach_json_node_t *node, json_t *expected);
static void *copy(const void *src, size_t n);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char        *text;
    json_t        *expected;
    json_error_t   error;

    text = copy(data, size);

    expected = json_loadb((char *) text, size, JSON_REJECT_DUPLICATES, &error);

    if (expected == NULL
        && json_error_code(&error) == json_error_stack_overflow)
    {
        free(text);
        return 0;
    }

    /* jansson overlooks a NUL behind a number or a literal */

    if (!json_is_object(expected)
        || (size != 0 && memchr(text, '\0', size) != NULL))
    {
        json_decref(expected);
        expected = NULL;
    }

    compare(text, size, expected);

    json_decref(expected);
    free(text);

    return 0;
}


static void
compare(const u_char *text, size_t n, json_t *expected)
{
    size_t              nvalues;
    runcoach_json_t     json;
    runcoach_json_rc_e  rc, lenient;

    json.max = runcoach_json_max_nodes(n);
    json.nodes = copy(NULL, json.max * sizeof(runcoach_json_node_t));
    json.size = n;
    json.buf = copy(NULL, n);

    rc = runcoach_json_parse(&json, text, n, DEPTH);
    nvalues = json.n;

    if (rc != RUNCOACH_JSON_TOO_DEEP) {
        holds((rc == RUNCOACH_JSON_OK) == (expected != NULL));
    }

    if (rc == RUNCOACH_JSON_OK) {
        holds(json.nodes[0].next == json.n);
        same(&json, &json.nodes[0], expected);
        compacted(&json.nodes[0], expected);
        limits(&json, text, n);
    }

    /* who is lenient sees no other values where there is nothing to be so */

    json.max = runcoach_json_max_nodes(n);
    json.size = n;

    free(json.nodes);
    free(json.buf);
    json.nodes = copy(NULL, json.max * sizeof(runcoach_json_node_t));
    json.buf = copy(NULL, n);

    lenient = runcoach_json_parse_lenient(&json, text, n, DEPTH);

    if (rc == RUNCOACH_JSON_OK) {
        holds(lenient == RUNCOACH_JSON_OK && json.n == nvalues);
        same(&json, &json.nodes[0], expected);
    }

    holds(lenient != RUNCOACH_JSON_TOO_LARGE);

    free(json.nodes);
    free(json.buf);
}


/* not one node more than there are, and not one less */

static void
limits(runcoach_json_t *json, const u_char *text, size_t n)
{
    size_t              max;
    runcoach_json_rc_e  rc;

    max = json->n;
    free(json->nodes);
    json->nodes = copy(NULL, max * sizeof(runcoach_json_node_t));

    json->max = max;
    holds(runcoach_json_parse(json, text, n, DEPTH) == RUNCOACH_JSON_OK);

    json->max = max - 1;
    rc = runcoach_json_parse(json, text, n, DEPTH);
    holds(rc == RUNCOACH_JSON_TOO_LARGE);

    json->max = max;
    json->size = n / 8;
    free(json->buf);
    json->buf = copy(NULL, json->size);

    rc = runcoach_json_parse(json, text, n, DEPTH);
    holds(rc == RUNCOACH_JSON_OK || rc == RUNCOACH_JSON_TOO_LARGE);
}


static void
same(const runcoach_json_t *json, const runcoach_json_node_t *node,
    json_t *expected)
{
    double  real;

    switch (node->type) {

    case RUNCOACH_JSON_NULL:
        holds(json_is_null(expected));
        holds(node->value.len == 4);
        break;

    case RUNCOACH_JSON_FALSE:
        holds(json_is_false(expected));
        holds(node->value.len == 5);
        break;

    case RUNCOACH_JSON_TRUE:
        holds(json_is_true(expected));
        holds(node->value.len == 4);
        break;

    case RUNCOACH_JSON_INTEGER:
        holds(json_is_integer(expected));
        holds(runcoach_json_integer(node) == json_integer_value(expected));
        break;

    case RUNCOACH_JSON_REAL:
        holds(json_is_real(expected));
        holds(runcoach_json_integer(node) == 0);
        real = json_real_value(expected);
        holds(runcoach_json_number(node) == real);
        break;

    case RUNCOACH_JSON_STRING:
        holds(json_is_string(expected));
        holds(node->value.len == json_string_length(expected));
        holds(memcmp(node->value.data, json_string_value(expected),
                     node->value.len) == 0);
        holds(runcoach_json_number(node) == 0);
        break;

    case RUNCOACH_JSON_ARRAY:
        same_array(json, node, expected);
        break;

    case RUNCOACH_JSON_OBJECT:
        same_object(json, node, expected);
        break;
    }
}


static void
same_object(const runcoach_json_t *json, const runcoach_json_node_t *node,
    json_t *expected)
{
    size_t                       n;
    const runcoach_json_node_t  *member, *found;

    holds(json_is_object(expected));
    holds(node->value.data[0] == '{');
    holds(node->value.data[node->value.len - 1] == '}');

    n = 0;

    for (member = runcoach_json_first(json, node);
         member != NULL;
         member = runcoach_json_next(json, node, member))
    {
        if (n++ < 64) {
            found = runcoach_json_member(json, node, member->name.data,
                                         member->name.len);
            holds(found == member);
        }

        same(json, member,
             json_object_getn(expected, (char *) member->name.data,
                              member->name.len));
    }

    holds(n == json_object_size(expected));

    /* the reader refuses a NUL in a name, so there is no such member */

    holds(runcoach_json_member(json, node, (u_char *) "\0", 1) == NULL);
}


static void
same_array(const runcoach_json_t *json, const runcoach_json_node_t *node,
    json_t *expected)
{
    size_t                       n;
    const runcoach_json_node_t  *element;

    holds(json_is_array(expected));
    holds(node->value.data[0] == '[');
    holds(node->value.data[node->value.len - 1] == ']');

    n = 0;

    for (element = runcoach_json_first(json, node);
         element != NULL;
         element = runcoach_json_next(json, node, element))
    {
        holds(element->name.len == 0);
        same(json, element, json_array_get(expected, n++));
    }

    holds(n == json_array_size(expected));
    holds(runcoach_json_member(json, node, (u_char *) "", 0) == NULL);
}


/* without white space it is the same value, and cannot be any shorter */

static void
compacted(const runcoach_json_node_t *node, json_t *expected)
{
    size_t   i, n;
    u_char  *text;
    json_t  *value;

    text = copy(NULL, node->value.len);
    n = runcoach_json_compact(text, node);
    holds(n <= node->value.len);

    for (i = 0; i < n; i++) {
        holds(text[i] >= ' ');
    }

    value = json_loadb((char *) text, n, JSON_REJECT_DUPLICATES, NULL);
    holds(json_equal(value, expected));

    json_decref(value);
    free(text);
}


static void *
copy(const void *src, size_t n)
{
    void  *p;

    /* not one byte more: of 0 bytes there is none that may be touched */

    p = calloc(n, 1);
    holds(p != NULL);

    if (src != NULL && n != 0) {
        memcpy(p, src, n);
    }

    return p;
}
