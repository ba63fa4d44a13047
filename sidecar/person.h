
/*
 * A person whom a token names and the database does not know yet: Clerk is
 * asked who that is, so that the row gets their address and name at once, and
 * so that a row of theirs from before is found before a second one is used.
 */


#ifndef _PERSON_H_INCLUDED_
#define _PERSON_H_INCLUDED_


#include "http.h"


/*
 * Called before anything that makes a row for clerk_id, which may be NULL.
 * Whatever goes wrong is logged, and the row is then made from the token: it
 * is put right by the person's next event.  Thread-safe.
 */

void person_meet(worker_t *w, const char *clerk_id);


#endif /* _PERSON_H_INCLUDED_ */
