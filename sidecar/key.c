
#include <string.h>

#include "key.h"


#define KEY_OBJECT  "{object}"


typedef struct {
    char        *pos;
    char        *last;
} key_buf_t;


static int key_append(key_buf_t *b, const char *p, size_t n);


int
key_expand(char *dst, size_t size, const char *template, const char *subject,
    const char *instead, const char *id)
{
    int          person, object;
    size_t       n;
    key_buf_t    b;
    const char  *p, *name;

    if (size == 0) {
        return -1;
    }

    b.pos = dst;
    b.last = dst + size - 1;

    person = 0;
    object = 0;

    for (p = template; /* void */; p += n + 1) {

        n = strcspn(p, "/");
        name = strstr(p, KEY_OBJECT);

        if (!person && n == strlen(subject) && memcmp(p, subject, n) == 0) {
            person = 1;

            if (key_append(&b, instead, strlen(instead)) != 0) {
                return -1;
            }

        } else if (!object && name != NULL && name < p + n) {
            object = 1;

            if (key_append(&b, p, name - p) != 0
                || key_append(&b, id, strlen(id)) != 0
                || key_append(&b, name + sizeof(KEY_OBJECT) - 1,
                              p + n - name - (sizeof(KEY_OBJECT) - 1))
                   != 0)
            {
                return -1;
            }

        } else if (key_append(&b, p, n) != 0) {
            return -1;
        }

        if (p[n] == '\0') {
            break;
        }

        if (key_append(&b, "/", 1) != 0) {
            return -1;
        }
    }

    *b.pos = '\0';

    return (person && object) ? 0 : -1;
}


static int
key_append(key_buf_t *b, const char *p, size_t n)
{
    if (n > (size_t) (b->last - b->pos)) {
        return -1;
    }

    memcpy(b->pos, p, n);
    b->pos += n;

    return 0;
}
