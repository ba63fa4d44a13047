
/*
 * The addresses an operator writes.  What we make of a database's is read by
 * libpq as well: wherever libpq would connect to, a host that is not private
 * must have to prove its name.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "url.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_database(const char *src, int verify);
static void check_same(const char *one, const char *two);
static void check_verified(const char *url);
static int has_public(const char *list);
static const char *option(const PQconninfoOption *options, const char *name);


#define holds(property)  do { if (!(property)) { abort(); } } while (0)


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char  *src;

    /* in memory of its own size, so that a read beyond its end is seen */

    src = malloc(size + 1);
    if (src == NULL) {
        return 0;
    }

    memcpy(src, data, size);
    src[size] = '\0';

    check_database(src, 0);
    check_database(src, 1);

    (void) url_private_host(src, strlen(src));

    free(src);

    return 0;
}


static void
check_database(const char *src, int verify)
{
    char         out[URL_MAX], again[URL_MAX];
    const char  *error;

    error = url_database(out, sizeof(out), src, verify, "/ca.pem");

    if (error != NULL) {

        /* a part of src may be its password */

        holds(error < src || error > src + strlen(src));
        holds(error < out || error >= out + sizeof(out));

        return;
    }

    holds(memchr(out, '\0', sizeof(out)) != NULL);
    holds(strncmp(out, "postgresql://", 13) == 0);

    /* once more changes nothing but the order */

    holds(url_database(again, sizeof(again), out, verify, "/ca.pem") == NULL);
    check_same(out, again);

    if (verify) {
        check_verified(out);
    }
}


static void
check_same(const char *one, const char *two)
{
    const PQconninfoOption  *p;
    const char              *value;
    PQconninfoOption        *a, *b;

    a = PQconninfoParse(one, NULL);
    b = PQconninfoParse(two, NULL);

    holds((a == NULL) == (b == NULL));

    for (p = a; p != NULL && p->keyword != NULL; p++) {
        value = option(b, p->keyword);

        holds((p->val == NULL) == (value == NULL)
              && (value == NULL || strcmp(p->val, value) == 0));
    }

    PQconninfoFree(a);
    PQconninfoFree(b);
}


static void
check_verified(const char *url)
{
    int                public;
    const char        *mode, *addr;
    PQconninfoOption  *options;

    options = PQconninfoParse(url, NULL);

    if (options == NULL) {
        return;
    }

    /* the address counts, and a host for which there is none */

    addr = option(options, "hostaddr");
    public = has_public(addr) || option(options, "service") != NULL;

    if (addr == NULL || *addr == '\0' || strchr(addr, ',') != NULL) {
        public |= has_public(option(options, "host"));
    }

    if (public) {
        mode = option(options, "sslmode");

        holds(mode != NULL && strcmp(mode, "verify-full") == 0);
        holds(option(options, "sslrootcert") != NULL);
    }

    PQconninfoFree(options);
}


static int
has_public(const char *list)
{
    size_t  n;

    while (list != NULL && *list != '\0') {
        n = strcspn(list, ",");

        if (!url_private_host(list, n)) {
            return 1;
        }

        list += n + (list[n] == ',');
    }

    return 0;
}


static const char *
option(const PQconninfoOption *options, const char *name)
{
    for ( /* void */ ; options->keyword != NULL; options++) {
        if (strcmp(options->keyword, name) == 0) {
            return options->val;
        }
    }

    return NULL;
}
