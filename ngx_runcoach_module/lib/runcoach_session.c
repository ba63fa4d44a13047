
#include <stdlib.h>
#include <string.h>

#include "runcoach_json.h"
#include "runcoach_number.h"
#include "runcoach_session.h"


#define RUNCOACH_SESSION_USER_LAST  9007199254740991LL

#define RUNCOACH_SESSION_DEPTH      2048

/* what sessions usually have: for more, memory is allocated */

#define RUNCOACH_SESSION_NODES      64
#define RUNCOACH_SESSION_STRINGS    1024


static size_t runcoach_session_large(u_char *user, const u_char *json,
    size_t n);
static size_t runcoach_session_id(u_char *user,
    const runcoach_json_t *session);
static size_t runcoach_session_number(u_char *user, int64_t value);
static int runcoach_session_token(const u_char *p, size_t n);


int
runcoach_session_valid_id(const u_char *id, size_t n)
{
    return n >= RUNCOACH_SESSION_ID_MIN
           && n <= RUNCOACH_SESSION_ID_MAX
           && runcoach_session_token(id, n);
}


size_t
runcoach_session_user(u_char *user, const u_char *json, size_t n)
{
    u_char                 strings[RUNCOACH_SESSION_STRINGS];
    runcoach_json_t        session;
    runcoach_json_node_t   nodes[RUNCOACH_SESSION_NODES];

    if (n > RUNCOACH_SESSION_MAX) {
        return 0;
    }

    session.nodes = nodes;
    session.max = RUNCOACH_SESSION_NODES;
    session.buf = strings;
    session.size = RUNCOACH_SESSION_STRINGS;

    switch (runcoach_json_parse(&session, json, n, RUNCOACH_SESSION_DEPTH)) {

    case RUNCOACH_JSON_OK:
        return runcoach_session_id(user, &session);

    case RUNCOACH_JSON_TOO_LARGE:
        return runcoach_session_large(user, json, n);

    default:
        return 0;
    }
}


static size_t
runcoach_session_large(u_char *user, const u_char *json, size_t n)
{
    size_t                 len;
    runcoach_json_t        session;
    runcoach_json_node_t  *nodes;

    len = 0;

    session.max = runcoach_json_max_nodes(n);
    session.size = n;

    nodes = malloc(session.max * sizeof(runcoach_json_node_t) + n);

    if (nodes == NULL) {
        return 0;
    }

    session.nodes = nodes;
    session.buf = (u_char *) &nodes[session.max];

    if (runcoach_json_parse(&session, json, n, RUNCOACH_SESSION_DEPTH)
        == RUNCOACH_JSON_OK)
    {
        len = runcoach_session_id(user, &session);
    }

    free(nodes);

    return len;
}


static size_t
runcoach_session_id(u_char *user, const runcoach_json_t *session)
{
    const runcoach_json_node_t  *id;

    id = runcoach_json_member(session, session->nodes,
                              (const u_char *) "user_id", 7);

    if (id == NULL) {
        return 0;
    }

    if (id->type == RUNCOACH_JSON_INTEGER) {
        return runcoach_session_number(user, runcoach_json_integer(id));
    }

    if (id->type != RUNCOACH_JSON_STRING
        || id->value.len > RUNCOACH_SESSION_USER
        || !runcoach_session_token(id->value.data, id->value.len))
    {
        return 0;
    }

    memcpy(user, id->value.data, id->value.len);

    return id->value.len;
}


static size_t
runcoach_session_number(u_char *user, int64_t value)
{
    if (value < 1 || value > RUNCOACH_SESSION_USER_LAST) {
        return 0;
    }

    return runcoach_number(user, value) - user;
}


static int
runcoach_session_token(const u_char *p, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {

        if ((p[i] >= 'a' && p[i] <= 'z')
            || (p[i] >= 'A' && p[i] <= 'Z')
            || (p[i] >= '0' && p[i] <= '9')
            || p[i] == '-'
            || p[i] == '_')
        {
            continue;
        }

        return 0;
    }

    return n != 0;
}
