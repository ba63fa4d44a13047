
#define _GNU_SOURCE  /* memmem() */

#include <stdlib.h>
#include <string.h>

#include "listing.h"


typedef struct {
    char    *pos;
    char    *end;
} listing_span_t;


static int listing_element(const listing_span_t *in, const char *name,
    listing_span_t *value, char **after);
static char *listing_find(char *pos, char *end, const char *s, size_t n);
static int listing_object(listing_object_t *object, const listing_span_t *in);
static char *listing_text(listing_span_t *span);
static char *listing_entity(char *p, char *end, char *ch);


int
listing_parse(listing_t *list, char *xml, size_t n)
{
    char             *next, *text;
    listing_span_t    all, value, contents;

    memset(list, 0, sizeof(listing_t));

    all.pos = xml;
    all.end = xml + n;

    if (listing_find(xml, all.end, "ListBucketResult", 16) == NULL) {
        return -1;
    }

    /* texts are decoded in place: what is needed of the whole goes first */

    if (listing_element(&all, "NextContinuationToken", &value, &next)) {
        text = listing_text(&value);

        if (text == NULL || strlen(text) >= LISTING_TOKEN) {
            return -1;
        }

        strcpy(list->token, text);
    }

    if (listing_element(&all, "IsTruncated", &value, &next)
        && value.end - value.pos == 4 && memcmp(value.pos, "true", 4) == 0)
    {
        if (list->token[0] == '\0') {
            return -1;
        }

    } else {
        list->token[0] = '\0';
    }

    while (listing_element(&all, "Contents", &contents, &next)) {

        if (list->n == LISTING_MAX) {
            return -1;
        }

        list->n += listing_object(&list->objects[list->n], &contents);
        all.pos = next;
    }

    return 0;
}


/* 1 with what is between <name> and </name>; name spaces are not looked at */

static int
listing_element(const listing_span_t *in, const char *name,
    listing_span_t *value, char **after)
{
    char    *p, *close;
    size_t   n;

    n = strlen(name);

    for (p = in->pos; /* void */; p += n) {
        p = listing_find(p, in->end, name, n);

        if (p == NULL) {
            return 0;
        }

        if (p > in->pos && p[-1] == '<' && p + n < in->end && p[n] == '>') {
            break;
        }
    }

    value->pos = p + n + 1;

    for (close = value->pos; /* void */; close += n) {
        close = listing_find(close, in->end, name, n);

        if (close == NULL) {
            return 0;
        }

        if (close - value->pos >= 2 && close[-1] == '/' && close[-2] == '<') {
            break;
        }
    }

    value->end = close - 2;
    *after = close + n;

    return 1;
}


static char *
listing_find(char *pos, char *end, const char *s, size_t n)
{
    return (pos < end) ? memmem(pos, end - pos, s, n) : NULL;
}


static int
listing_object(listing_object_t *object, const listing_span_t *in)
{
    char            *text, *rest, *next;
    listing_span_t   key, size, etag, modified;

    object->size = -1;
    object->etag = "";
    object->modified = "";

    if (!listing_element(in, "Key", &key, &next)) {
        return 0;
    }

    /* all are found before the first is changed */

    if (!listing_element(in, "Size", &size, &next)) {
        size.pos = NULL;
    }

    if (!listing_element(in, "ETag", &etag, &next)) {
        etag.pos = NULL;
    }

    if (!listing_element(in, "LastModified", &modified, &next)) {
        modified.pos = NULL;
    }

    object->key = listing_text(&key);

    if (object->key == NULL || strlen(object->key) > LISTING_KEY) {
        return 0;
    }

    if (size.pos != NULL && (text = listing_text(&size)) != NULL
        && strspn(text, "0123456789") == strlen(text) && strlen(text) < 18
        && *text != '\0')
    {
        object->size = strtoll(text, &rest, 10);
    }

    if (etag.pos != NULL && (text = listing_text(&etag)) != NULL) {

        if (*text == '"' && strlen(text) >= 2) {
            text++;
            text[strlen(text) - 1] = '\0';
        }

        object->etag = text;
    }

    if (modified.pos != NULL && (text = listing_text(&modified)) != NULL) {
        object->modified = text;
    }

    return 1;
}


/* decoded in place and ended; NULL: empty, or it has a NUL or no good entity */

static char *
listing_text(listing_span_t *span)
{
    char  *p, *dst;

    dst = span->pos;

    for (p = span->pos; p < span->end; /* void */) {

        if (*p == '&') {
            p = listing_entity(p, span->end, dst);

            if (p == NULL) {
                return NULL;
            }

            dst++;
            continue;
        }

        if (*p == '\0') {
            return NULL;
        }

        *dst++ = *p++;
    }

    /* the "<" of the end of the element is there for it */

    *dst = '\0';

    return (dst == span->pos) ? NULL : span->pos;
}


/* characters above 7 bits are written as they are by every store */

static char *
listing_entity(char *p, char *end, char *ch)
{
    long    code;
    size_t  i, n;
    char   *semicolon, *rest;

    static const struct {
        const char  *name;
        char         ch;
    } names[] = {
        { "amp", '&' }, { "lt", '<' }, { "gt", '>' }, { "quot", '"' },
        { "apos", '\'' }
    };

    semicolon = memchr(p, ';', end - p);

    if (semicolon == NULL) {
        return NULL;
    }

    p++;
    n = semicolon - p;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {

        if (n == strlen(names[i].name) && memcmp(p, names[i].name, n) == 0) {
            *ch = names[i].ch;
            return semicolon + 1;
        }
    }

    if (n < 2 || n > 6 || *p != '#') {
        return NULL;
    }

    code = (p[1] == 'x') ? strtol(p + 2, &rest, 16) : strtol(p + 1, &rest, 10);

    if (rest != semicolon || code < 1 || code > 127) {
        return NULL;
    }

    *ch = (char) code;

    return semicolon + 1;
}
