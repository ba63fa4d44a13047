
/*
 * Signatures.  The input is the list of secrets, the three headers and the
 * body, one after the other, with a NUL between them: whatever is accepted
 * must still be with another header or entry beside it, and must not be with
 * another body.
 */

#include <stdlib.h>
#include <string.h>

#include "svix.h"


#define FIELDS  5
#define NOW     1649367553


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void split(runcoach_str_t *fields, const u_char *p, size_t n);
static void check(const svix_secrets_t *secrets, const runcoach_str_t *f);
static void check_accepted(const svix_secrets_t *secrets,
    const svix_headers_t *h, const runcoach_str_t *body);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char          *p;
    const char      *error;
    runcoach_str_t   fields[FIELDS];
    svix_secrets_t   secrets;

    p = malloc(size > 0 ? size : 1);
    if (p == NULL) {
        return 0;
    }

    if (size > 0) {
        memcpy(p, data, size);
    }

    split(fields, p, size);

    error = NULL;

    if (svix_secrets_parse(&secrets, fields[0].data, fields[0].len, &error)
        == 0)
    {
        if (secrets.nkeys == 0 || secrets.nkeys > SVIX_MAX_SECRETS) {
            abort();
        }

        check(&secrets, fields);

    } else if (error == NULL || secrets.nkeys != 0) {
        abort();
    }

    free(p);

    return 0;
}


static void
split(runcoach_str_t *fields, const u_char *p, size_t n)
{
    size_t         i;
    const u_char  *nul, *last;

    last = p + n;

    for (i = 0; i < FIELDS; i++) {
        nul = (i < FIELDS - 1 && p < last) ? memchr(p, '\0', last - p) : NULL;

        fields[i].data = p;
        fields[i].len = (nul != NULL) ? (size_t) (nul - p)
                                      : (size_t) (last - p);

        p = (nul != NULL) ? nul + 1 : last;
    }
}


static void
check(const svix_secrets_t *secrets, const runcoach_str_t *f)
{
    int64_t                timestamp;
    svix_rc_e              rc;
    svix_headers_t         h;
    const svix_headers_t  *used;

    static const svix_headers_t  none;

    h.id = f[1];
    h.timestamp = f[2];
    h.signature = f[3];

    rc = svix_verify(secrets, &h, &none, f[4].data, f[4].len, NOW, &used,
                     &timestamp);

    if (svix_strerror(rc)[0] == '\0') {
        abort();
    }

    if (svix_verify(secrets, &none, &h, f[4].data, f[4].len, NOW, NULL, NULL)
        != rc)
    {
        abort();
    }

    if (rc == SVIX_OK) {
        if (used != &h || timestamp < NOW - SVIX_TOLERANCE
            || timestamp > NOW + SVIX_TOLERANCE)
        {
            abort();
        }

        check_accepted(secrets, &h, &f[4]);
    }
}


static void
check_accepted(const svix_secrets_t *secrets, const svix_headers_t *h,
    const runcoach_str_t *body)
{
    u_char  *other;

    if (svix_verify(secrets, h, h, body->data, body->len, NOW + 301 * 2, NULL,
                    NULL)
        != SVIX_BAD_TIMESTAMP)
    {
        abort();
    }

    other = malloc(body->len + 1);
    if (other == NULL) {
        return;
    }

    memcpy(other, body->data, body->len);
    other[body->len] = 'x';

    if (svix_verify(secrets, h, h, other, body->len + 1, NOW, NULL, NULL)
        != SVIX_BAD_SIGNATURE)
    {
        abort();
    }

    free(other);
}
