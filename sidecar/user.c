
#include <string.h>

#include "user.h"


static int user_number(const char *s);


int
user_identify(http_request_t *r, user_t *user)
{
    const char  *subject, *clerk_id, *user_id;

    subject = http_header(r, "X-Auth-Subject");
    clerk_id = http_header(r, "X-Clerk-User-Id");
    user_id = http_header(r, "X-User-Id");

    if (strlen(subject) > USER_MAX || strlen(clerk_id) > USER_MAX
        || *http_header(r, "X-Auth-Method") == '\0')
    {
        goto unauthorized;
    }

    if (*clerk_id == '\0' && !user_number(user_id)) {
        goto unauthorized;
    }

    user->clerk_id = (*clerk_id == '\0') ? NULL : clerk_id;
    user->user_id = user_number(user_id) ? user_id : NULL;
    user->subject = (*subject != '\0') ? subject
                    : (*clerk_id != '\0') ? clerk_id : user_id;

    http_note(r, " subject=%s", log_value(user->subject));

    return 0;

unauthorized:

    http_fail(r, VERDICT_UNAUTHORIZED, NULL);

    return -1;
}


int
user_accept(http_request_t *r, const char *outcome)
{
    if (outcome == NULL) {
        http_fail(r, VERDICT_RETRY, NULL);
        return -1;
    }

    if (strcmp(outcome, "not_found") == 0) {
        http_note(r, " reason=no_user");
        http_fail(r, VERDICT_NOT_FOUND, "User not found");
        return -1;
    }

    if (strcmp(outcome, "deleted") == 0) {
        http_note(r, " reason=deleted_user");
        http_fail(r, VERDICT_UNAUTHORIZED, NULL);
        return -1;
    }

    if (strcmp(outcome, "conflict") == 0) {
        http_note(r, " reason=address_conflict");
        http_fail(r, VERDICT_CONFLICT,
                  "The e-mail address of this account belongs to another one");
        return -1;
    }

    return 0;
}


/* a number that an integer column can hold: nine digits, or ten and small */

static int
user_number(const char *s)
{
    size_t  n;

    n = strlen(s);

    return n > 0 && n <= 10 && strspn(s, "0123456789") == n && s[0] != '0'
           && (n < 10 || strcmp(s, "2147483647") <= 0);
}
