
/*
 * Decimal numbers, faster than printf().  Pure: no allocation, no globals.
 */


#ifndef _RUNCOACH_NUMBER_H_INCLUDED_
#define _RUNCOACH_NUMBER_H_INCLUDED_


#include <stdint.h>
#include <sys/types.h>


/* digits of the largest number */

#define RUNCOACH_NUMBER_MAX  20


/*
 * Writes the digits of n, without leading zeros and without a NUL, 1 to
 * RUNCOACH_NUMBER_MAX of them, and returns where they end.
 */

u_char *runcoach_number(u_char *p, uint64_t n);


#endif /* _RUNCOACH_NUMBER_H_INCLUDED_ */
