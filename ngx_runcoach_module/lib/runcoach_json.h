
/*
 * A strict JSON reader (RFC 8259) which allocates nothing: for texts that are
 * read once per request.  Pure: no I/O, no globals, no clock.
 */


#ifndef _RUNCOACH_JSON_H_INCLUDED_
#define _RUNCOACH_JSON_H_INCLUDED_


#include <stdint.h>

#include "runcoach_base64.h"


typedef enum {
    RUNCOACH_JSON_NULL = 0,
    RUNCOACH_JSON_FALSE,
    RUNCOACH_JSON_TRUE,
    RUNCOACH_JSON_INTEGER,         /* fits in 64 bits, signed */
    RUNCOACH_JSON_REAL,            /* finite as a double */
    RUNCOACH_JSON_STRING,
    RUNCOACH_JSON_ARRAY,
    RUNCOACH_JSON_OBJECT
} runcoach_json_type_e;


/*
 * The values of a text in the order in which they begin, so that an array or
 * object is followed by all that is in it.  value is a string decoded, and any
 * other value as it was written, with its brackets and white space.  Both
 * strings are borrowed, either from the text or from the decoded buffer.
 */

typedef struct {
    runcoach_str_t         name;   /* of a member; empty in an array */
    runcoach_str_t         value;
    uint32_t               next;   /* index of the first node after it */
    runcoach_json_type_e   type;
} runcoach_json_node_t;


typedef struct {
    runcoach_json_node_t  *nodes;  /* of the caller, max of them */
    size_t                 max;
    size_t                 n;
    u_char                *buf;    /* of the caller: strings with escapes */
    size_t                 size;
} runcoach_json_t;


typedef enum {
    RUNCOACH_JSON_OK = 0,
    RUNCOACH_JSON_INVALID,
    RUNCOACH_JSON_TOO_DEEP,        /* more than max_depth levels */
    RUNCOACH_JSON_TOO_LARGE        /* more than max values, or buf is full */
} runcoach_json_rc_e;


/* what a text of n bytes that is well-formed needs at most */

#define runcoach_json_max_nodes(n)  ((n) / 2 + 2)


/*
 * Reads one object with nothing but white space around it.  The caller has set
 * nodes, max, buf and size; a buf of n bytes is always enough.  Text and buf
 * must stay as long as the nodes are used.
 *
 * Refused, besides what RFC 8259 forbids: anything but an object, members of
 * the same name in one object at any level (names are compared decoded), a NUL
 * in a string ("\u0000"), lone surrogates, UTF-8 that is overlong, of a
 * surrogate or above U+10FFFF, an integer beyond 64 bits, a real that is not
 * finite.  A byte order mark is not white space.
 *
 * On RUNCOACH_JSON_OK node 0 is the object; otherwise nothing may be used.
 * Time is O(n log n) for any text.
 */

runcoach_json_rc_e runcoach_json_parse(runcoach_json_t *json,
    const u_char *text, size_t n, unsigned max_depth);


/*
 * The same for texts which somebody else has vouched for, but not for what
 * people have put into them.  Members of the same name may be (the first one
 * counts), and so may NULs; a lone surrogate is read as U+FFFD, an integer
 * beyond 64 bits is REAL, and a REAL may be infinite.
 */

runcoach_json_rc_e runcoach_json_parse_lenient(runcoach_json_t *json,
    const u_char *text, size_t n, unsigned max_depth);


/*
 * The member of an object, or NULL: there is none, or the node is NULL or no
 * object.
 */

const runcoach_json_node_t *runcoach_json_member(const runcoach_json_t *json,
    const runcoach_json_node_t *object, const u_char *name, size_t len);


/*
 * The first element of an array or member of an object, and the one after it
 * in the same parent; NULL: there is no more.
 */

const runcoach_json_node_t *runcoach_json_first(const runcoach_json_t *json,
    const runcoach_json_node_t *parent);
const runcoach_json_node_t *runcoach_json_next(const runcoach_json_t *json,
    const runcoach_json_node_t *parent, const runcoach_json_node_t *node);


/*
 * The value of an INTEGER; and of an INTEGER or REAL as a double, if the
 * decimal point of the locale is ".".  Of a node of another type both are 0.
 */

int64_t runcoach_json_integer(const runcoach_json_node_t *node);
double runcoach_json_number(const runcoach_json_node_t *node);


/*
 * Writes an array or object without the white space around its tokens, so that
 * it has no control character.  dst must hold value.len bytes.  Returns the
 * number of bytes written.
 */

size_t runcoach_json_compact(u_char *dst, const runcoach_json_node_t *node);


#endif /* _RUNCOACH_JSON_H_INCLUDED_ */
