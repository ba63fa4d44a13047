
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_json.h"


/*
 * One pass without recursion and without memory of its own.  As long as an
 * array or object is open, "next" of its node is the index of its parent, so
 * the nodes are the stack as well.
 */


/* up to here each name is compared with those before it */

#define RUNCOACH_JSON_FEW  32

/* ends a list of siblings that is being sorted: node 0 is nobody's sibling */

#define RUNCOACH_JSON_NIL  0

/* the decimal exponent of the largest double */

#define RUNCOACH_JSON_MAX_EXPONENT  308

/* an exponent beyond this is as good as this, for any text there can be */

#define RUNCOACH_JSON_HUGE  ((int64_t) 1 << 56)

#define runcoach_json_bytes(c)  (~(uint64_t) 0 / 255 * (c))


typedef struct {
    runcoach_json_t     *json;
    const u_char        *p;
    const u_char        *last;
    size_t               used;        /* of json->buf */
    uint32_t             parent;
    unsigned             depth;
    unsigned             max_depth;
    unsigned             lenient;
} runcoach_json_reader_t;


static inline u_char runcoach_json_peek(runcoach_json_reader_t *r);
static inline const u_char *runcoach_json_digits(const u_char *p,
    const u_char *last);
static inline int runcoach_json_equal(const runcoach_str_t *a,
    const runcoach_str_t *b);

static runcoach_json_rc_e runcoach_json_read(runcoach_json_t *json,
    const u_char *text, size_t n, unsigned max_depth, unsigned lenient);
static runcoach_json_rc_e runcoach_json_values(runcoach_json_reader_t *r);
static runcoach_json_rc_e runcoach_json_name(runcoach_json_reader_t *r,
    runcoach_str_t *name);
static runcoach_json_rc_e runcoach_json_value(runcoach_json_reader_t *r,
    const runcoach_str_t *name);
static runcoach_json_rc_e runcoach_json_open(runcoach_json_reader_t *r,
    runcoach_json_node_t *node, runcoach_json_type_e type);
static runcoach_json_rc_e runcoach_json_close(runcoach_json_reader_t *r);

static runcoach_json_rc_e runcoach_json_string(runcoach_json_reader_t *r,
    runcoach_str_t *s);
static runcoach_json_rc_e runcoach_json_escape(runcoach_json_reader_t *r);
static runcoach_json_rc_e runcoach_json_unicode(runcoach_json_reader_t *r);
static int runcoach_json_low(const u_char *p, const u_char *last);
static size_t runcoach_json_encode(u_char *dst, int c);
static int runcoach_json_hex4(const u_char *p, const u_char *last);
static runcoach_json_rc_e runcoach_json_append(runcoach_json_reader_t *r,
    const u_char *data, size_t len);
static const u_char *runcoach_json_plain(const u_char *p, const u_char *last);
static size_t runcoach_json_utf8(const u_char *p, const u_char *last);

static runcoach_json_rc_e runcoach_json_literal(runcoach_json_reader_t *r,
    runcoach_json_node_t *node, runcoach_json_type_e type, const char *text,
    size_t len);
static runcoach_json_rc_e runcoach_json_scan_number(runcoach_json_reader_t *r,
    runcoach_json_node_t *node);
static int runcoach_json_fits(const u_char *p, const u_char *last,
    int negative);
static runcoach_json_rc_e runcoach_json_scan_real(runcoach_json_reader_t *r,
    const u_char *digits, const u_char *p);
static const u_char *runcoach_json_exponent(const u_char *p,
    const u_char *last, int64_t *exponent);
static int64_t runcoach_json_magnitude(const u_char *p, const u_char *last);

static runcoach_json_rc_e runcoach_json_unique(runcoach_json_t *json,
    uint32_t first);
static runcoach_json_rc_e runcoach_json_unique_many(runcoach_json_t *json,
    uint32_t first);
static uint32_t runcoach_json_sort(runcoach_json_node_t *nodes, uint32_t i,
    uint32_t end, int by_name);
static uint32_t runcoach_json_merge(runcoach_json_node_t *nodes, uint32_t a,
    uint32_t b, int by_name);
static int runcoach_json_compare(const runcoach_str_t *a,
    const runcoach_str_t *b);


/* the next character that is not white space; 0, which is no token, if none */

static inline u_char
runcoach_json_peek(runcoach_json_reader_t *r)
{
    const u_char  *p;

    for (p = r->p; p != r->last; p++) {

        if (*p != ' ' && *p != '\n' && *p != '\r' && *p != '\t') {
            r->p = p;
            return *p;
        }
    }

    r->p = p;

    return 0;
}


static inline const u_char *
runcoach_json_digits(const u_char *p, const u_char *last)
{
    while (p != last && *p >= '0' && *p <= '9') {
        p++;
    }

    return p;
}


static inline int
runcoach_json_equal(const runcoach_str_t *a, const runcoach_str_t *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}


runcoach_json_rc_e
runcoach_json_parse(runcoach_json_t *json, const u_char *text, size_t n,
    unsigned max_depth)
{
    return runcoach_json_read(json, text, n, max_depth, 0);
}


runcoach_json_rc_e
runcoach_json_parse_lenient(runcoach_json_t *json, const u_char *text,
    size_t n, unsigned max_depth)
{
    return runcoach_json_read(json, text, n, max_depth, 1);
}


static runcoach_json_rc_e
runcoach_json_read(runcoach_json_t *json, const u_char *text, size_t n,
    unsigned max_depth, unsigned lenient)
{
    runcoach_json_rc_e      rc;
    runcoach_json_reader_t  r;

    if (n == 0) {
        json->n = 0;
        return RUNCOACH_JSON_INVALID;
    }

    memset(&r, 0, sizeof(runcoach_json_reader_t));

    r.json = json;
    r.p = text;
    r.last = text + n;
    r.max_depth = max_depth;
    r.lenient = lenient;

    json->n = 0;

    rc = runcoach_json_values(&r);

    if (rc == RUNCOACH_JSON_OK) {
        (void) runcoach_json_peek(&r);

        if (r.p != r.last) {
            rc = RUNCOACH_JSON_INVALID;
        }
    }

    if (rc != RUNCOACH_JSON_OK) {
        json->n = 0;
    }

    return rc;
}


static runcoach_json_rc_e
runcoach_json_values(runcoach_json_reader_t *r)
{
    u_char               c;
    int                  object;
    runcoach_str_t       name;
    runcoach_json_t     *json;
    runcoach_json_rc_e   rc;

    static const runcoach_str_t  none = runcoach_string("");

    json = r->json;

    if (runcoach_json_peek(r) != '{') {
        return RUNCOACH_JSON_INVALID;
    }

    rc = runcoach_json_value(r, &none);

    while (rc == RUNCOACH_JSON_OK && r->depth != 0) {

        object = (json->nodes[r->parent].type == RUNCOACH_JSON_OBJECT);
        c = runcoach_json_peek(r);

        if (c == (object ? '}' : ']')) {
            rc = runcoach_json_close(r);
            continue;
        }

        if (json->n != (size_t) r->parent + 1) {

            if (c != ',') {
                return RUNCOACH_JSON_INVALID;
            }

            r->p++;
        }

        name = none;

        if (object) {
            rc = runcoach_json_name(r, &name);

            if (rc != RUNCOACH_JSON_OK) {
                return rc;
            }
        }

        rc = runcoach_json_value(r, &name);
    }

    return rc;
}


static runcoach_json_rc_e
runcoach_json_name(runcoach_json_reader_t *r, runcoach_str_t *name)
{
    runcoach_json_rc_e  rc;

    if (runcoach_json_peek(r) != '"') {
        return RUNCOACH_JSON_INVALID;
    }

    rc = runcoach_json_string(r, name);

    if (rc != RUNCOACH_JSON_OK) {
        return rc;
    }

    if (runcoach_json_peek(r) != ':') {
        return RUNCOACH_JSON_INVALID;
    }

    r->p++;

    return RUNCOACH_JSON_OK;
}


static runcoach_json_rc_e
runcoach_json_value(runcoach_json_reader_t *r, const runcoach_str_t *name)
{
    u_char                 c;
    runcoach_json_t       *json;
    runcoach_json_node_t  *node;

    c = runcoach_json_peek(r);
    json = r->json;

    if (json->n == json->max || json->n == UINT32_MAX) {
        return RUNCOACH_JSON_TOO_LARGE;
    }

    node = &json->nodes[json->n++];

    node->name = *name;
    node->value.data = r->p;
    node->next = (uint32_t) json->n;

    switch (c) {

    case '"':
        node->type = RUNCOACH_JSON_STRING;
        return runcoach_json_string(r, &node->value);

    case '{':
        return runcoach_json_open(r, node, RUNCOACH_JSON_OBJECT);

    case '[':
        return runcoach_json_open(r, node, RUNCOACH_JSON_ARRAY);

    case 't':
        return runcoach_json_literal(r, node, RUNCOACH_JSON_TRUE, "true", 4);

    case 'f':
        return runcoach_json_literal(r, node, RUNCOACH_JSON_FALSE, "false", 5);

    case 'n':
        return runcoach_json_literal(r, node, RUNCOACH_JSON_NULL, "null", 4);

    default:
        return runcoach_json_scan_number(r, node);
    }
}


static runcoach_json_rc_e
runcoach_json_open(runcoach_json_reader_t *r, runcoach_json_node_t *node,
    runcoach_json_type_e type)
{
    if (r->depth == r->max_depth) {
        return RUNCOACH_JSON_TOO_DEEP;
    }

    node->type = type;
    node->next = r->parent;

    r->parent = (uint32_t) (node - r->json->nodes);
    r->depth++;
    r->p++;

    return RUNCOACH_JSON_OK;
}


static runcoach_json_rc_e
runcoach_json_close(runcoach_json_reader_t *r)
{
    uint32_t               i;
    runcoach_json_node_t  *node;

    i = r->parent;
    node = &r->json->nodes[i];

    r->p++;
    r->depth--;
    r->parent = node->next;

    node->next = (uint32_t) r->json->n;
    node->value.len = r->p - node->value.data;

    if (node->type == RUNCOACH_JSON_ARRAY || r->lenient) {
        return RUNCOACH_JSON_OK;
    }

    return runcoach_json_unique(r->json, i + 1);
}


static runcoach_json_rc_e
runcoach_json_string(runcoach_json_reader_t *r, runcoach_str_t *s)
{
    size_t               n, from;
    const u_char        *p, *start;
    runcoach_json_rc_e   rc;

    from = r->used;
    start = r->p + 1;

    for (p = start; /* void */ ; p += n) {
        p = runcoach_json_plain(p, r->last);

        if (p == r->last) {
            return RUNCOACH_JSON_INVALID;
        }

        if (*p == '"') {
            break;
        }

        if (*p != '\\') {
            n = runcoach_json_utf8(p, r->last);

            if (n == 0) {
                return RUNCOACH_JSON_INVALID;
            }

            continue;
        }

        rc = runcoach_json_append(r, start, p - start);

        if (rc == RUNCOACH_JSON_OK) {
            r->p = p + 1;
            rc = runcoach_json_escape(r);
        }

        if (rc != RUNCOACH_JSON_OK) {
            return rc;
        }

        start = p = r->p;
        n = 0;
    }

    r->p = p + 1;

    s->data = start;
    s->len = p - start;

    /* an escape is one byte at least */

    if (r->used == from) {
        return RUNCOACH_JSON_OK;
    }

    rc = runcoach_json_append(r, start, p - start);

    s->data = r->json->buf + from;
    s->len = r->used - from;

    return rc;
}


static runcoach_json_rc_e
runcoach_json_escape(runcoach_json_reader_t *r)
{
    u_char  c;

    if (r->p == r->last) {
        return RUNCOACH_JSON_INVALID;
    }

    c = *r->p++;

    switch (c) {

    case '"':
    case '\\':
    case '/':
        break;

    case 'b':
        c = '\b';
        break;

    case 'f':
        c = '\f';
        break;

    case 'n':
        c = '\n';
        break;

    case 'r':
        c = '\r';
        break;

    case 't':
        c = '\t';
        break;

    case 'u':
        return runcoach_json_unicode(r);

    default:
        return RUNCOACH_JSON_INVALID;
    }

    return runcoach_json_append(r, &c, 1);
}


static runcoach_json_rc_e
runcoach_json_unicode(runcoach_json_reader_t *r)
{
    int            c, low;
    u_char         utf8[4];
    const u_char  *p;

    p = r->p;
    c = runcoach_json_hex4(p, r->last);
    p += 4;

    if (c < 0 || (c == 0 && !r->lenient)) {
        return RUNCOACH_JSON_INVALID;
    }

    if (c >= 0xd800 && c <= 0xdfff) {
        low = runcoach_json_low(p, r->last);

        if (c <= 0xdbff && low != 0) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p += 6;

        } else if (r->lenient) {
            c = 0xfffd;

        } else {
            return RUNCOACH_JSON_INVALID;
        }
    }

    r->p = p;

    return runcoach_json_append(r, utf8, runcoach_json_encode(utf8, c));
}


/* the second half of a pair of surrogates, 0 if there is none */

static int
runcoach_json_low(const u_char *p, const u_char *last)
{
    int  low;

    if (last - p < 6 || p[0] != '\\' || p[1] != 'u') {
        return 0;
    }

    low = runcoach_json_hex4(p + 2, last);

    return (low >= 0xdc00 && low <= 0xdfff) ? low : 0;
}


static size_t
runcoach_json_encode(u_char *dst, int c)
{
    if (c < 0x80) {
        dst[0] = (u_char) c;
        return 1;
    }

    if (c < 0x800) {
        dst[0] = (u_char) (0xc0 | c >> 6);
        dst[1] = (u_char) (0x80 | (c & 0x3f));
        return 2;
    }

    if (c < 0x10000) {
        dst[0] = (u_char) (0xe0 | c >> 12);
        dst[1] = (u_char) (0x80 | (c >> 6 & 0x3f));
        dst[2] = (u_char) (0x80 | (c & 0x3f));
        return 3;
    }

    dst[0] = (u_char) (0xf0 | c >> 18);
    dst[1] = (u_char) (0x80 | (c >> 12 & 0x3f));
    dst[2] = (u_char) (0x80 | (c >> 6 & 0x3f));
    dst[3] = (u_char) (0x80 | (c & 0x3f));

    return 4;
}


static int
runcoach_json_hex4(const u_char *p, const u_char *last)
{
    int     value;
    u_char  c;
    size_t  i;

    if (last - p < 4) {
        return -1;
    }

    value = 0;

    for (i = 0; i < 4; i++) {
        c = p[i];

        if (c >= '0' && c <= '9') {
            c -= '0';

        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            c = (c | 0x20) - 'a' + 10;

        } else {
            return -1;
        }

        value = value << 4 | c;
    }

    return value;
}


static runcoach_json_rc_e
runcoach_json_append(runcoach_json_reader_t *r, const u_char *data, size_t len)
{
    if (len == 0) {
        return RUNCOACH_JSON_OK;
    }

    if (r->json->size - r->used < len) {
        return RUNCOACH_JSON_TOO_LARGE;
    }

    memcpy(r->json->buf + r->used, data, len);
    r->used += len;

    return RUNCOACH_JSON_OK;
}


/*
 * The first byte that is more than a character of its own: a quote, an escape,
 * a control character, or a part of a longer one.  Eight bytes at a time: a
 * borrow may mark bytes in vain, but only above one that is marked rightly.
 */

static const u_char *
runcoach_json_plain(const u_char *p, const u_char *last)
{
    uint64_t  v, quote, slash, marks;

    for ( /* void */ ; last - p >= 8; p += 8) {
        memcpy(&v, p, 8);

        quote = v ^ runcoach_json_bytes('"');
        slash = v ^ runcoach_json_bytes('\\');

        marks = (v - runcoach_json_bytes(0x20))
                | (quote - runcoach_json_bytes(1))
                | (slash - runcoach_json_bytes(1))
                | v;

        marks &= runcoach_json_bytes(0x80);

        if (marks != 0) {
#if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
            return p + __builtin_ctzll(marks) / 8;
#else
            break;
#endif
        }
    }

    while (p != last && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }

    return p;
}


/* the length of a character beyond ASCII, 0 if it is none (RFC 3629) */

static size_t
runcoach_json_utf8(const u_char *p, const u_char *last)
{
    size_t  i, n;
    u_char  low, high;

    low = 0x80;
    high = 0xbf;

    if (p[0] < 0xc2 || p[0] > 0xf4) {
        return 0;
    }

    if (p[0] < 0xe0) {
        n = 2;

    } else if (p[0] < 0xf0) {
        n = 3;
        low = (p[0] == 0xe0) ? 0xa0 : 0x80;
        high = (p[0] == 0xed) ? 0x9f : 0xbf;

    } else {
        n = 4;
        low = (p[0] == 0xf0) ? 0x90 : 0x80;
        high = (p[0] == 0xf4) ? 0x8f : 0xbf;
    }

    if ((size_t) (last - p) < n || p[1] < low || p[1] > high) {
        return 0;
    }

    for (i = 2; i < n; i++) {

        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }

    return n;
}


static runcoach_json_rc_e
runcoach_json_literal(runcoach_json_reader_t *r, runcoach_json_node_t *node,
    runcoach_json_type_e type, const char *text, size_t len)
{
    if ((size_t) (r->last - r->p) < len || memcmp(r->p, text, len) != 0) {
        return RUNCOACH_JSON_INVALID;
    }

    r->p += len;

    node->type = type;
    node->value.len = len;

    return RUNCOACH_JSON_OK;
}


static runcoach_json_rc_e
runcoach_json_scan_number(runcoach_json_reader_t *r,
    runcoach_json_node_t *node)
{
    int                  negative;
    const u_char        *p, *digits;
    runcoach_json_rc_e   rc;

    p = r->p;
    negative = (p != r->last && *p == '-');
    p += negative;

    digits = p;
    p = runcoach_json_digits(p, r->last);

    if (p == digits || (*digits == '0' && p - digits > 1)) {
        return RUNCOACH_JSON_INVALID;
    }

    if (p != r->last && (*p == '.' || *p == 'e' || *p == 'E')) {
        node->type = RUNCOACH_JSON_REAL;
        rc = runcoach_json_scan_real(r, digits, p);

    } else {
        node->type = RUNCOACH_JSON_INTEGER;
        r->p = p;
        rc = RUNCOACH_JSON_OK;

        if (!runcoach_json_fits(digits, p, negative)) {
            node->type = RUNCOACH_JSON_REAL;
            rc = r->lenient ? RUNCOACH_JSON_OK : RUNCOACH_JSON_INVALID;
        }
    }

    node->value.len = r->p - node->value.data;

    return rc;
}


static int
runcoach_json_fits(const u_char *p, const u_char *last, int negative)
{
    uint64_t  value;

    if (last - p < 19) {
        return 1;
    }

    if (last - p > 19) {
        return 0;
    }

    for (value = 0; p != last; p++) {
        value = value * 10 + (*p - '0');
    }

    return value <= (uint64_t) INT64_MAX + negative;
}


/*
 * Whether a real is finite is told by the place of its first digit and its
 * exponent; only in the last decade below the limit is its value wanted.
 */

static runcoach_json_rc_e
runcoach_json_scan_real(runcoach_json_reader_t *r, const u_char *digits,
    const u_char *p)
{
    double         value;
    int64_t        exponent;
    const u_char  *start, *end;

    if (*p == '.') {
        start = ++p;
        p = runcoach_json_digits(p, r->last);

        if (p == start) {
            return RUNCOACH_JSON_INVALID;
        }
    }

    end = p;
    exponent = 0;

    if (p != r->last && (*p == 'e' || *p == 'E')) {
        p = runcoach_json_exponent(p + 1, r->last, &exponent);
    }

    /* in an object something must follow */

    if (p == NULL || p == r->last) {
        return RUNCOACH_JSON_INVALID;
    }

    if (r->lenient) {
        r->p = p;
        return RUNCOACH_JSON_OK;
    }

    exponent += runcoach_json_magnitude(digits, end);

    /* what follows the number, and does not belong to it, stops strtod() */

    if (exponent == RUNCOACH_JSON_MAX_EXPONENT) {
        value = strtod((const char *) r->p, NULL);
        exponent += (value > DBL_MAX || value < -DBL_MAX);
    }

    r->p = p;

    return exponent > RUNCOACH_JSON_MAX_EXPONENT ? RUNCOACH_JSON_INVALID
                                                 : RUNCOACH_JSON_OK;
}


static const u_char *
runcoach_json_exponent(const u_char *p, const u_char *last, int64_t *exponent)
{
    int            negative;
    int64_t        value;
    const u_char  *digits;

    negative = (p != last && *p == '-');

    if (p != last && (*p == '+' || *p == '-')) {
        p++;
    }

    digits = p;
    p = runcoach_json_digits(p, last);

    if (p == digits) {
        return NULL;
    }

    for (value = 0; digits != p; digits++) {
        value = value * 10 + (*digits - '0');

        if (value > RUNCOACH_JSON_HUGE) {
            value = RUNCOACH_JSON_HUGE;
        }
    }

    *exponent = negative ? -value : value;

    return p;
}


/* the decimal exponent of the first digit that is not 0 */

static int64_t
runcoach_json_magnitude(const u_char *p, const u_char *last)
{
    int64_t  place;

    place = runcoach_json_digits(p, last) - p - 1;

    for ( /* void */ ; p != last; p++) {

        if (*p == '.') {
            continue;
        }

        if (*p != '0') {
            return place;
        }

        place--;
    }

    return INT64_MIN / 2;
}


/*
 * Members of an object that is complete.  Few of them are compared only if
 * their names have the same mark, which is rare.
 */

static runcoach_json_rc_e
runcoach_json_unique(runcoach_json_t *json, uint32_t first)
{
    uint32_t               i, j, n, end;
    uint64_t               mark, marks;
    const runcoach_str_t  *name;
    runcoach_json_node_t  *nodes;

    nodes = json->nodes;
    end = (uint32_t) json->n;
    marks = 0;
    n = 0;

    for (i = first; i != end; i = nodes[i].next) {

        if (n++ == RUNCOACH_JSON_FEW) {
            return runcoach_json_unique_many(json, first);
        }

        name = &nodes[i].name;
        mark = name->len;

        if (name->len != 0) {
            mark += name->data[0] * 5 + name->data[name->len - 1] * 3;
        }

        mark = (uint64_t) 1 << (mark & 63);

        if ((marks & mark) == 0) {
            marks |= mark;
            continue;
        }

        for (j = first; j != i; j = nodes[j].next) {

            if (runcoach_json_equal(&nodes[j].name, name)) {
                return RUNCOACH_JSON_INVALID;
            }
        }
    }

    return RUNCOACH_JSON_OK;
}


/*
 * Sorted by name, members of the same name are neighbors.  The links that are
 * used for this come back when they are sorted by place.
 */

static runcoach_json_rc_e
runcoach_json_unique_many(runcoach_json_t *json, uint32_t first)
{
    uint32_t               i, next;
    runcoach_json_node_t  *nodes;

    nodes = json->nodes;
    i = runcoach_json_sort(nodes, first, (uint32_t) json->n, 1);
    first = i;

    for (next = nodes[i].next; next != RUNCOACH_JSON_NIL; next = nodes[i].next)
    {
        if (runcoach_json_equal(&nodes[i].name, &nodes[next].name)) {
            return RUNCOACH_JSON_INVALID;
        }

        i = next;
    }

    i = runcoach_json_sort(nodes, first, RUNCOACH_JSON_NIL, 0);

    while (nodes[i].next != RUNCOACH_JSON_NIL) {
        i = nodes[i].next;
    }

    nodes[i].next = (uint32_t) json->n;

    return RUNCOACH_JSON_OK;
}


/* runs[n] has 2^n nodes or none, as in a counter that is incremented */

static uint32_t
runcoach_json_sort(runcoach_json_node_t *nodes, uint32_t i, uint32_t end,
    int by_name)
{
    size_t    n;
    uint32_t  next, run, runs[32];

    memset(runs, 0, sizeof(runs));

    for ( /* void */ ; i != end; i = next) {
        next = nodes[i].next;
        nodes[i].next = RUNCOACH_JSON_NIL;
        run = i;

        for (n = 0; runs[n] != RUNCOACH_JSON_NIL; n++) {
            run = runcoach_json_merge(nodes, runs[n], run, by_name);
            runs[n] = RUNCOACH_JSON_NIL;
        }

        runs[n] = run;
    }

    run = RUNCOACH_JSON_NIL;

    for (n = 0; n < 32; n++) {
        run = runcoach_json_merge(nodes, runs[n], run, by_name);
    }

    return run;
}


static uint32_t
runcoach_json_merge(runcoach_json_node_t *nodes, uint32_t a, uint32_t b,
    int by_name)
{
    int        first;
    uint32_t   list, *last;

    last = &list;

    while (a != RUNCOACH_JSON_NIL && b != RUNCOACH_JSON_NIL) {
        first = by_name ? runcoach_json_compare(&nodes[a].name,
                                                &nodes[b].name) <= 0
                        : a < b;

        if (first) {
            *last = a;
            last = &nodes[a].next;
            a = *last;

        } else {
            *last = b;
            last = &nodes[b].next;
            b = *last;
        }
    }

    *last = (a != RUNCOACH_JSON_NIL) ? a : b;

    return list;
}


/* any order will do */

static int
runcoach_json_compare(const runcoach_str_t *a, const runcoach_str_t *b)
{
    if (a->len != b->len) {
        return a->len < b->len ? -1 : 1;
    }

    return memcmp(a->data, b->data, a->len);
}


const runcoach_json_node_t *
runcoach_json_member(const runcoach_json_t *json,
    const runcoach_json_node_t *object, const u_char *name, size_t len)
{
    runcoach_str_t               wanted;
    const runcoach_json_node_t  *node;

    if (object == NULL || object->type != RUNCOACH_JSON_OBJECT) {
        return NULL;
    }

    wanted.data = name;
    wanted.len = len;

    for (node = runcoach_json_first(json, object);
         node != NULL;
         node = runcoach_json_next(json, object, node))
    {
        if (runcoach_json_equal(&node->name, &wanted)) {
            break;
        }
    }

    return node;
}


/* a value that is no array or object ends where the next one begins */

const runcoach_json_node_t *
runcoach_json_first(const runcoach_json_t *json,
    const runcoach_json_node_t *parent)
{
    if (parent + 1 == &json->nodes[parent->next]) {
        return NULL;
    }

    return parent + 1;
}


const runcoach_json_node_t *
runcoach_json_next(const runcoach_json_t *json,
    const runcoach_json_node_t *parent, const runcoach_json_node_t *node)
{
    if (node->next == parent->next) {
        return NULL;
    }

    return &json->nodes[node->next];
}


int64_t
runcoach_json_integer(const runcoach_json_node_t *node)
{
    int            negative;
    uint64_t       value;
    const u_char  *p, *last;

    if (node->type != RUNCOACH_JSON_INTEGER) {
        return 0;
    }

    p = node->value.data;
    last = p + node->value.len;
    negative = (*p == '-');
    p += negative;

    for (value = 0; p != last; p++) {
        value = value * 10 + (*p - '0');
    }

    /* the conversion of a value above INT64_MAX is modulo 2^64 */

    return (int64_t) (negative ? 0 - value : value);
}


double
runcoach_json_number(const runcoach_json_node_t *node)
{
    if (node->type == RUNCOACH_JSON_INTEGER) {
        return (double) runcoach_json_integer(node);
    }

    if (node->type == RUNCOACH_JSON_REAL) {
        return strtod((const char *) node->value.data, NULL);
    }

    return 0;
}


size_t
runcoach_json_compact(u_char *dst, const runcoach_json_node_t *node)
{
    int            quoted;
    u_char         c, *d;
    const u_char  *p, *last;

    d = dst;
    p = node->value.data;
    last = p + node->value.len;
    quoted = 0;

    while (p != last) {
        c = *p++;

        if (c == '"') {
            quoted = !quoted;

        } else if (quoted && c == '\\') {
            *d++ = c;
            c = *p++;

        } else if (!quoted && (c == ' ' || c == '\n' || c == '\r'
                               || c == '\t'))
        {
            continue;
        }

        *d++ = c;
    }

    return d - dst;
}
