
/*
 * Clerk's webhook events.  Pure: no I/O, no clock; what it allocates while
 * parsing is freed before it returns.
 */


#ifndef _CLERK_H_INCLUDED_
#define _CLERK_H_INCLUDED_


#include <stdint.h>
#include <sys/types.h>


#define CLERK_MAX_BODY  262144
#define CLERK_MAX_TYPE  64
#define CLERK_MAX_ID    200

/* characters a column holds; a character of UTF-8 is at most four bytes */

#define CLERK_MAX_EMAIL  255
#define CLERK_MAX_NAME   100


typedef enum {
    CLERK_USER_CREATED,
    CLERK_USER_UPDATED,
    CLERK_USER_DELETED,
    CLERK_SESSION_ENDED,     /* ended, removed or revoked */
    CLERK_OTHER              /* to be recorded and acknowledged */
} clerk_kind_e;


typedef struct {
    clerk_kind_e      kind;

    /* milliseconds; 0 if the event has no time: take that of the delivery */
    int64_t           event_ms;

    unsigned          email_verified;  /* 0 or 1 */

    /* NUL-terminated UTF-8 without control characters, empty if absent */
    char              type[CLERK_MAX_TYPE + 1];
    char              clerk_id[CLERK_MAX_ID + 1];
    char              session_id[CLERK_MAX_ID + 1];
    char              email[CLERK_MAX_EMAIL * 4 + 1];
    char              display_name[CLERK_MAX_NAME * 4 + 1];
} clerk_event_t;


typedef enum {
    CLERK_OK = 0,
    CLERK_TOO_LARGE,         /* over CLERK_MAX_BODY */
    CLERK_NOT_JSON,          /* not a JSON object */
    CLERK_INVALID,           /* no usable type, or no usable id of a user */
    CLERK_NO_MEMORY
} clerk_rc_e;


/*
 * Reads an event.  Of everything but type and, for a user, data.id, any part
 * may be missing or of another type than it should: it is then left out.  What
 * people may have put into metadata, as lone surrogates, NULs, huge numbers and
 * any depth, is no error.
 *
 * clerk_id is data.id of user.* and data.user_id of session.* events, empty for
 * others and for a user.deleted that names nobody, which is CLERK_OTHER.
 * session_id is data.id of session.* events; without a usable one the end of a
 * session is CLERK_OTHER, as there is nothing that could be done.
 *
 * The address is the primary one, or the first if none is marked; verified
 * only if Clerk says exactly "verified".  An address that is not usable (no
 * "@", too long, control characters or blanks) is left out.  display_name is
 * first and last name, else the local part of the address, else the user name.
 *
 * event_ms is data.updated_at of created and updated, in absence of that and
 * for all others the timestamp of the envelope.
 *
 * On anything but CLERK_OK *ev is zeroed and *reason is a static string with
 * nothing of the sender's in it.
 */

clerk_rc_e clerk_event_parse(clerk_event_t *ev, const u_char *json, size_t n,
    const char **reason);


/*
 * Reads a user as Clerk's API tells about one, which is what an event has as
 * data: the result is that of a user.updated.
 */

clerk_rc_e clerk_user_parse(clerk_event_t *ev, const u_char *json, size_t n,
    const char **reason);


#endif /* _CLERK_H_INCLUDED_ */
