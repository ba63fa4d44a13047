
#include <string.h>

#include "runcoach_number.h"


u_char *
runcoach_number(u_char *p, uint64_t n)
{
    u_char    *last;
    uint64_t   rest;

    static const u_char  pairs[] =
        "00010203040506070809101112131415161718192021222324"
        "25262728293031323334353637383940414243444546474849"
        "50515253545556575859606162636465666768697071727374"
        "75767778798081828384858687888990919293949596979899";

    last = p + 1;

    for (rest = n; rest >= 10; rest /= 10) {
        last++;
    }

    /* from the end, as two digits take one division */

    for (p = last; n >= 100; n /= 100) {
        p -= 2;
        memcpy(p, &pairs[n % 100 * 2], 2);
    }

    if (n >= 10) {
        memcpy(p - 2, &pairs[n * 2], 2);

    } else {
        p[-1] = (u_char) ('0' + n);
    }

    return last;
}
