
/*
 * The schema, version by version.  The scripts are part of the binary: the
 * build turns migrations/NNN_name.{up,down}.sql into build/migrations.c.
 */


#ifndef _MIGRATE_H_INCLUDED_
#define _MIGRATE_H_INCLUDED_


#include "db.h"


typedef struct {
    unsigned     version;
    const char  *name;
    const char  *up;
    const char  *down;
} migration_t;


/* generated: in the order of versions, ended by one whose name is NULL */

extern const migration_t  migrations[];


/*
 * Each version is one transaction together with its row in edge_migrations,
 * under a lock that lets one process at a time migrate a database; what is
 * there already is passed over.  Progress is told on stdout, trouble in the
 * log.  0, or -1 with the versions so far in force.
 */

int migrate_up(db_t *db) __attribute__((warn_unused_result));


/* reverts the last n versions, the newest first; n = 0: all of them */

int migrate_down(db_t *db, unsigned n) __attribute__((warn_unused_result));


/*
 * How many of our versions are not applied, and how many that are applied are
 * not ours; changes nothing.
 */

int migrate_pending(db_t *db, unsigned *pending, unsigned *unknown)
    __attribute__((warn_unused_result));


/* a line for each version; changes nothing */

int migrate_status(db_t *db) __attribute__((warn_unused_result));


#endif /* _MIGRATE_H_INCLUDED_ */
