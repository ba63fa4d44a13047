
/* Sessions: a user that is found can be a header value and a path segment. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runcoach_session.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t   i, n;
    u_char  *p, *user;

    p = malloc(size + 1);
    user = malloc(RUNCOACH_SESSION_USER);

    if (p == NULL || user == NULL) {
        abort();
    }

    /* the last byte of the buffer is the last of the input */

    if (size > 0) {
        memcpy(p + 1, data, size);
    }

    (void) runcoach_session_valid_id(p + 1, size);

    n = runcoach_session_user(user, p + 1, size);

    if (n > RUNCOACH_SESSION_USER) {
        abort();
    }

    for (i = 0; i < n; i++) {

        if (user[i] <= ' ' || user[i] >= 0x7f || user[i] == '/'
            || user[i] == '.')
        {
            abort();
        }
    }

    free(user);
    free(p);

    return 0;
}
