
/*
 * What a store says it holds.  Strings must lie in the text and end there.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "listing.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *text, size_t size, const char *s);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char              *text;
    size_t             i;
    static listing_t   list;

    text = malloc(size > 0 ? size : 1);
    if (text == NULL) {
        return 0;
    }

    memcpy(text, data, size);

    if (listing_parse(&list, text, size) == 0) {

        if (strlen(list.token) >= LISTING_TOKEN) {
            abort();
        }

        for (i = 0; i < list.n; i++) {
            check(text, size, list.objects[i].key);
            check(text, size, list.objects[i].etag);
            check(text, size, list.objects[i].modified);

            if (*list.objects[i].key == '\0' || list.objects[i].size < -1) {
                abort();
            }
        }
    }

    free(text);

    return 0;
}


static void
check(const char *text, size_t size, const char *s)
{
    if (*s == '\0' && (s < text || s >= text + size)) {
        return;
    }

    if (s < text || s + strlen(s) >= text + size) {
        abort();
    }
}
