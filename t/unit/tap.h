
/*
 * The Test Anything Protocol, as much of it as a unit test needs: header-only,
 * for programs of one file.  The number of tests is counted, and printed last.
 *
 *     ok(n == 3, "three keys, got %zu", n);
 *     is_str(name, "kid", "name of the key");
 *     return done();
 */


#ifndef _TAP_H_INCLUDED_
#define _TAP_H_INCLUDED_


#include <stdarg.h>
#include <stdio.h>
#include <string.h>


static int  tap_run;
static int  tap_failed;


/* returns passed, so that a test may stop or tell more */

static inline int __attribute__((format(printf, 2, 3)))
ok(int passed, const char *fmt, ...)
{
    va_list  args;

    printf("%sok %d - ", passed ? "" : "not ", ++tap_run);

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);

    putchar('\n');

    /* what was said before a crash must not be lost */

    fflush(stdout);

    tap_failed += !passed;

    return passed;
}


/* NULL is a value like others, equal to itself only */

static inline int
is_str(const char *got, const char *expected, const char *name)
{
    int  passed;

    passed = (got != NULL && expected != NULL) ? strcmp(got, expected) == 0
                                               : got == expected;

    if (!ok(passed, "%s", name)) {
        printf("#      got: %s\n# expected: %s\n", got ? got : "(null)",
               expected ? expected : "(null)");
    }

    return passed;
}


static inline void
skip(const char *reason)
{
    printf("ok %d # SKIP %s\n", ++tap_run, reason);
}


/* what main() returns */

static inline int
done(void)
{
    printf("1..%d\n", tap_run);

    return tap_failed != 0;
}


#endif /* _TAP_H_INCLUDED_ */
