
/*
 * The key of an object out of the template which the edge sends.  Pure.
 */


#ifndef _KEY_H_INCLUDED_
#define _KEY_H_INCLUDED_


#include <stddef.h>


/*
 * Copies template to dst with "{object}" replaced by id, and with the first
 * segment that is equal to subject replaced by instead.  0, or -1 if dst of
 * size bytes is too small, or template lacks either of the two: without the
 * segment everybody would be allowed what this person is.
 */

int key_expand(char *dst, size_t size, const char *template,
    const char *subject, const char *instead, const char *id)
    __attribute__((warn_unused_result));


#endif /* _KEY_H_INCLUDED_ */
