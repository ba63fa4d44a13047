
/*
 * What a store answers to HEAD, one line of the input after the other, as curl
 * hands them over: with their end, and without a NUL.
 */

#include <stdint.h>
#include <stdlib.h>

#include "../../sidecar/r2.c"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void line(r2_t *r2, const uint8_t *p, size_t n);
static void check(const r2_head_t *head);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    r2_t            r2;
    r2_head_t       head;
    const uint8_t  *p, *end, *last;

    memset(&r2, 0, sizeof(r2));
    memset(&head, 0, sizeof(head));

    head.size = -1;
    r2.head = &head;

    last = data + size;

    for (p = data; p < last; p = end) {
        end = memchr(p, '\n', last - p);
        end = (end == NULL) ? last : end + 1;

        line(&r2, p, end - p);
        check(&head);
    }

    return 0;
}


static void
line(r2_t *r2, const uint8_t *p, size_t n)
{
    char  *copy;

    copy = malloc(n);
    holds(copy != NULL);

    memcpy(copy, p, n);

    /* anything else would end the transfer */

    holds(r2_header(copy, 1, n, r2) == n);

    free(copy);
}


static void
check(const r2_head_t *head)
{
    const char  *p;

    holds(head->size >= -1);
    holds(memchr(head->etag, '\0', sizeof(head->etag)) != NULL);

    for (p = head->etag; *p != '\0'; p++) {
        holds(*p > ' ' && *p < 0x7f);
    }

    holds(head->sha256[0] == '\0'
          || strspn(head->sha256, "0123456789abcdef") == 64);
}
