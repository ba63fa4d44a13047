
/*
 * Clerk's conventions.  The first byte of the input says which:
 *
 *     c   a Cookie header line
 *     k   a publishable key
 *     u   the value of a __client_uat cookie
 *     p   features, permissions and map, with a line feed in between
 */


#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_clerk.h"


#define EXPANDED  (1 << 20)


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void cookies(const u_char *line, size_t n);
static void key(const u_char *text, size_t n);
static void uat(const u_char *text, size_t n);
static void permissions(const u_char *text, size_t n);
static size_t expand(u_char *dst, const runcoach_str_t *features,
    const runcoach_str_t *names, const runcoach_str_t *map);
static int bit(u_char *digits, const runcoach_str_t *number, size_t n);
static int item(runcoach_str_t *s, const runcoach_str_t *list, size_t n);
static int blank(u_char c);
static void *copy(const void *src, size_t n);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char  *text;

    if (size == 0) {
        return 0;
    }

    text = copy(data + 1, size - 1);

    switch (data[0]) {

    case 'k':
        key(text, size - 1);
        break;

    case 'u':
        uat(text, size - 1);
        break;

    case 'p':
        permissions(text, size - 1);
        break;

    default:
        cookies(text, size - 1);
    }

    free(text);

    return 0;
}


static void
cookies(const u_char *line, size_t n)
{
    size_t           i, count, found, equal;
    const u_char    *p, *last;
    runcoach_str_t   name, value;

    p = line;
    last = line + n;

    for (found = 0; runcoach_clerk_cookie(&p, last, &name, &value); found++) {
        holds(p <= last);
        holds(name.data >= line && name.data + name.len < value.data);
        holds(value.data + value.len <= p);

        holds(name.len == 0 || memchr(name.data, ';', name.len) == NULL);
        holds(name.len == 0 || memchr(name.data, '=', name.len) == NULL);
        holds(value.len == 0 || memchr(value.data, ';', value.len) == NULL);

        if (name.len != 0) {
            holds(name.data[0] != ' ' && name.data[0] != '\t');
            holds(name.data[name.len - 1] != ' ');
            holds(name.data[name.len - 1] != '\t');
        }
    }

    holds(p == last);

    /* as many as there are parts with a "=" */

    count = 0;
    equal = 0;

    for (i = 0; i < n; i++) {

        if (line[i] == ';') {
            equal = 0;

        } else if (line[i] == '=' && equal++ == 0) {
            count++;
        }
    }

    holds(count == found);
}


/* a key is what its host makes, up to the padding */

static void
key(const u_char *text, size_t n)
{
    size_t   len, encoded;
    u_char  *host, again[1024], suffix[RUNCOACH_CLERK_SUFFIX];

    host = copy(NULL, RUNCOACH_CLERK_MAX_HOST);
    len = runcoach_clerk_host(host, text, n);

    holds(runcoach_clerk_suffix(suffix, text, n) == 0);
    holds(memchr(suffix, '=', sizeof(suffix)) == NULL);

    if (len != 0) {
        holds(len <= RUNCOACH_CLERK_MAX_HOST);
        holds(memchr(host, '.', len) != NULL);
        holds(memchr(host, '$', len) == NULL);
        holds(memchr(host, '/', len) == NULL);

        memcpy(again, host, len);
        again[len] = '$';

        encoded = runcoach_base64url_encode(again + 512, again, len + 1);

        holds(n >= 8 + encoded);
        holds(memcmp(text + 8, again + 512, encoded) == 0);

        for ( /* void */ ; encoded < n - 8; encoded++) {
            holds(text[8 + encoded] == '=');
        }
    }

    free(host);
}


static void
uat(const u_char *text, size_t n)
{
    size_t                i;
    char                  digits[32];
    runcoach_clerk_uat_t  uat;

    runcoach_clerk_uat(&uat, text, n);

    for (i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++) { /* void */ }

    holds(uat.present == (n != 0 && n <= 15 && i == n));
    holds(uat.present || uat.value == 0);

    if (uat.present) {
        memcpy(digits, text, n);
        digits[n] = '\0';
        holds(uat.value == strtod(digits, NULL));
    }
}


static void
permissions(const u_char *text, size_t n)
{
    size_t           i, len;
    u_char          *dst, *expected;
    ssize_t          rc;
    const u_char    *p, *end;
    runcoach_str_t   lists[3];

    p = text;

    for (i = 0; i < 3; i++) {
        end = (n != 0) ? memchr(p, '\n', text + n - p) : NULL;
        end = (end != NULL && i < 2) ? end : text + n;

        lists[i].data = p;
        lists[i].len = end - p;

        p = (end == text + n) ? end : end + 1;
    }

    /* other white space is for the unit test, and halving takes its time */

    if (n > 256) {
        return;
    }

    for (i = 0; i < n; i++) {

        if (text[i] >= 0x80) {
            return;
        }
    }

    expected = copy(NULL, EXPANDED);
    len = expand(expected, &lists[0], &lists[1], &lists[2]);

    dst = copy(NULL, len);
    rc = runcoach_clerk_permissions(dst, len, &lists[0], &lists[1],
                                    &lists[2]);

    for (i = 0; i < len && expected[i] > ' ' && expected[i] != 0x7f; i++) {
        /* void */
    }

    if (i != len) {
        holds(rc == -1);

    } else {
        holds(rc == (ssize_t) len);
        holds(len == 0 || memcmp(dst, expected, len) == 0);
        free(dst);
        dst = copy(NULL, len / 2);

        if (len != 0) {
            holds(runcoach_clerk_permissions(dst, len / 2, &lists[0],
                                             &lists[1], &lists[2]) == -1);
        }
    }

    free(expected);
    free(dst);
}


/* the same with nothing clever in it: each bit by halving the decimal text */

static size_t
expand(u_char *dst, const runcoach_str_t *features,
    const runcoach_str_t *names, const runcoach_str_t *map)
{
    size_t           i, j, k;
    u_char          *digits, *d;
    runcoach_str_t   feature, name, number;

    d = dst;

    if (features->len == 0 || names->len == 0 || map->len == 0) {
        return 0;
    }

    for (i = 0; item(&feature, features, i); i++) {

        if (memchr(feature.data, ':', feature.len) == NULL) {
            return 0;
        }
    }

    digits = copy(NULL, map->len);
    k = 0;

    for (i = 0; item(&feature, features, i); i++) {
        j = (const u_char *) memchr(feature.data, ':', feature.len)
            - feature.data;

        if (!(j == 1 && feature.data[0] == 'o')
            && !(j == 2 && memcmp(feature.data, "ou", 2) == 0)
            && !(j == 2 && memcmp(feature.data, "uo", 2) == 0))
        {
            continue;
        }

        feature.data += j + 1;
        feature.len -= j + 1;

        if (!item(&number, map, k++)) {
            break;
        }

        for (j = 0; item(&name, names, j); j++) {

            if (!bit(digits, &number, j)) {
                continue;
            }

            holds((size_t) (d - dst) + feature.len + name.len + 6 < EXPANDED);

            d += sprintf((char *) d, "%sorg:", d != dst ? "," : "");
            memcpy(d, feature.data, feature.len);
            d += feature.len;
            *d++ = ':';
            memcpy(d, name.data, name.len);
            d += name.len;
        }
    }

    free(digits);

    return d - dst;
}


static int
bit(u_char *digits, const runcoach_str_t *number, size_t n)
{
    int     rest, value;
    size_t  i;

    for (i = 0; i < number->len; i++) {

        if (number->data[i] < '0' || number->data[i] > '9') {
            return 0;
        }

        digits[i] = number->data[i] - '0';
    }

    for ( ;; ) {
        rest = 0;

        for (i = 0; i < number->len; i++) {
            value = rest * 10 + digits[i];
            digits[i] = value / 2;
            rest = value % 2;
        }

        if (n-- == 0) {
            return rest;
        }
    }
}


static int
item(runcoach_str_t *s, const runcoach_str_t *list, size_t n)
{
    size_t  i, from;

    from = 0;

    for (i = 0; i < list->len && n != 0; i++) {

        if (list->data[i] == ',') {
            from = i + 1;
            n--;
        }
    }

    if (n != 0) {
        return 0;
    }

    for (i = from; i < list->len && list->data[i] != ','; i++) { /* void */ }

    while (from < i && blank(list->data[from])) {
        from++;
    }

    while (from < i && blank(list->data[i - 1])) {
        i--;
    }

    s->data = list->data + from;
    s->len = i - from;

    return 1;
}


static int
blank(u_char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
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
