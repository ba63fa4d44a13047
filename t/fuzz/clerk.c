
/* Events: what is accepted fits the columns it is made for. */

#include <stdlib.h>
#include <string.h>

#include "clerk.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *p, size_t max, size_t chars);
static void check_event(const clerk_event_t *ev);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char         *p;
    clerk_rc_e      rc;
    const char     *reason;
    clerk_event_t   ev;

    static clerk_event_t  zero;

    p = malloc(size > 0 ? size : 1);
    if (p == NULL) {
        return 0;
    }

    if (size > 0) {
        memcpy(p, data, size);
    }

    memset(&ev, 0xff, sizeof(ev));
    memset(&zero, 0, sizeof(zero));
    reason = NULL;

    rc = clerk_event_parse(&ev, p, size, &reason);

    if (rc == CLERK_OK) {
        check_event(&ev);

    } else if (reason == NULL || memcmp(&ev, &zero, sizeof(ev)) != 0) {
        abort();
    }

    free(p);

    return 0;
}


static void
check_event(const clerk_event_t *ev)
{
    if (ev->event_ms < 0 || ev->event_ms >= 9007199254740992
        || ev->email_verified > 1
        || ev->type[0] == '\0')
    {
        abort();
    }

    switch (ev->kind) {

    case CLERK_SESSION_ENDED:

        if (ev->session_id[0] == '\0') {
            abort();
        }

        break;

    case CLERK_OTHER:
        break;

    default:

        if (ev->clerk_id[0] == '\0' || ev->session_id[0] != '\0') {
            abort();
        }
    }

    if (ev->email_verified && strchr(ev->email, '@') == NULL) {
        abort();
    }

    check_text(ev->type, CLERK_MAX_TYPE, CLERK_MAX_TYPE);
    check_text(ev->clerk_id, CLERK_MAX_ID, CLERK_MAX_ID);
    check_text(ev->session_id, CLERK_MAX_ID, CLERK_MAX_ID);
    check_text(ev->email, CLERK_MAX_EMAIL * 4, CLERK_MAX_EMAIL);
    check_text(ev->display_name, CLERK_MAX_NAME * 4, CLERK_MAX_NAME);
}


static void
check_text(const char *p, size_t max, size_t chars)
{
    size_t  i, n, used;

    n = strnlen(p, max + 1);
    used = 0;

    for (i = 0; i < n; i++) {
        used += (((u_char) p[i] & 0xc0) != 0x80);

        if ((u_char) p[i] < 0x20 || p[i] == 0x7f) {
            abort();
        }
    }

    if (n > max || used > chars) {
        abort();
    }
}
