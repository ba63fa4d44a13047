
/*
 * What operators call by hand.  Each prints its findings on standard output
 * and answers the exit status: 0, or 1 if something is left that is not as it
 * should be, or could not be done; 2 for arguments that are none.
 */


#ifndef _COMMANDS_H_INCLUDED_
#define _COMMANDS_H_INCLUDED_


#include "config.h"


#define COMMAND_USAGE  2


/* commands.c: jobs list [STATE] | requeue ID|--dead; replay SVIX_ID */

int command_jobs(const config_t *cf, int argc, char **argv);
int command_replay(const config_t *cf, int argc, char **argv);

/* doctor.c: doctor */

int command_doctor(const config_t *cf, int argc, char **argv);

/* what the doctor says of a configuration that cannot be read */

int command_doctor_config(const char *error);

/* reconcile.c: reconcile [--repair [--force]] */

int command_reconcile(const config_t *cf, int argc, char **argv);

/* inventory.c: inventory */

int command_inventory(const config_t *cf, int argc, char **argv);

/* files.c: migrate-files [--root DIRECTORY] [--remove] */

int command_files(const config_t *cf, int argc, char **argv);


#endif /* _COMMANDS_H_INCLUDED_ */
