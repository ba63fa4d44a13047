
#include "../../sidecar/arq.c"
#include "tap.h"


static int is_pickle(long long activity, long long user, long long ms,
    const char *hex);


int
main(void)
{
    /* what Python's own pickle.loads() reads as the dictionary in arq.h */

    ok(is_pickle(100, 7, 1760000000123,
                 "80027d285801000000744e580100000066580b000000616e616c797a655f66"
                 "69745801000000612958010000006b7d28580b00000061637469766974795f"
                 "69644b645807000000757365725f69644b0775580200000065748a067bc02c"
                 "c89901752e"),
       "one byte each");
    ok(is_pickle(70000, 3000000000, 1795166400000,
                 "80027d285801000000744e580100000066580b000000616e616c797a655f66"
                 "69745801000000612958010000006b7d28580b00000061637469766974795f"
                 "69644a701101005807000000757365725f69648a05005ed0b2007558020000"
                 "0065748a06006e41f8a101752e"),
       "four bytes and five, with one for the sign");
    ok(is_pickle(256, 65535, 2147483647,
                 "80027d285801000000744e580100000066580b000000616e616c797a655f66"
                 "69745801000000612958010000006b7d28580b00000061637469766974795f"
                 "69644d00015807000000757365725f69644dffff75580200000065744affff"
                 "ff7f752e"),
       "two bytes, and the largest of four");
    ok(is_pickle(2147483648, 9223372036854775807, 0,
                 "80027d285801000000744e580100000066580b000000616e616c797a655f66"
                 "69745801000000612958010000006b7d28580b00000061637469766974795f"
                 "69648a0500000080005807000000757365725f69648a08ffffffffffffff7f"
                 "75580200000065744b00752e"),
       "the smallest long one and the largest");

    return done();
}


static int
is_pickle(long long activity, long long user, long long ms, const char *hex)
{
    char    text[2 * ARQ_PICKLE + 1];
    size_t  i, n;
    u_char  pickle[ARQ_PICKLE];

    n = arq_pickle(pickle, activity, user, ms);

    for (i = 0; i < n; i++) {
        snprintf(text + 2 * i, 3, "%02x", pickle[i]);
    }

    if (strcmp(text, hex) != 0) {
        printf("# %s\n", text);
        return 0;
    }

    return 1;
}
