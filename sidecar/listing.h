
/*
 * A page of what a bucket holds, in S3's XML.  Pure.  It is read leniently:
 * stores differ in name spaces, order and white space.
 */


#ifndef _LISTING_H_INCLUDED_
#define _LISTING_H_INCLUDED_


#include <stddef.h>


#define LISTING_MAX    1000     /* objects of a page */
#define LISTING_KEY    1024     /* bytes of a key */
#define LISTING_TOKEN  2048


typedef struct {
    char        *key;
    char        *etag;          /* without quotes; may be empty */
    char        *modified;      /* ISO 8601; may be empty */
    long long    size;          /* -1: not told */
} listing_object_t;


typedef struct {
    size_t             n;
    listing_object_t   objects[LISTING_MAX];
    char               token[LISTING_TOKEN];   /* empty: the last page */
} listing_t;


/*
 * Reads the text of n bytes, which is overwritten with the strings the result
 * points to; it needs no NUL.  Objects without a usable key are left out.  0,
 * or -1: it is no ListBucketResult, it has too much, or it says that there is
 * more but not how to get that.
 */

int listing_parse(listing_t *list, char *xml, size_t n)
    __attribute__((warn_unused_result));


#endif /* _LISTING_H_INCLUDED_ */
