
/*
 * What verifying one token cannot do without: EVP_PKEY_verify() of a digest
 * that is known, with a context that is reused.
 *
 *     verify PUBLIC.pem SECONDS < TOKENS
 *
 * Prints the microseconds of CPU time it takes.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "runcoach_base64.h"


#define TOKENS   100
#define LONGEST  2048


typedef struct {
    u_char  digest[EVP_MAX_MD_SIZE];
    u_char  signature[LONGEST];
    size_t  len;
} item_t;


static int read_items(item_t *items);
static EVP_PKEY_CTX *context(const char *file);
static double cpu_time(void);


int
main(int argc, char **argv)
{
    int            i, n;
    long           done;
    item_t         items[TOKENS];
    double         start, spent, seconds;
    EVP_PKEY_CTX  *ctx;

    if (argc != 3) {
        fputs("usage: verify PUBLIC.pem SECONDS < TOKENS\n", stderr);
        return 2;
    }

    ctx = context(argv[1]);
    n = read_items(items);
    seconds = strtod(argv[2], NULL);

    if (ctx == NULL || n == 0) {
        fputs("verify: no key, or no tokens\n", stderr);
        return 1;
    }

    done = 0;
    start = cpu_time();

    do {
        for (i = 0; i < n; i++) {
            if (EVP_PKEY_verify(ctx, items[i].signature, items[i].len,
                                items[i].digest, 32)
                != 1)
            {
                fputs("verify: not a signature of this key\n", stderr);
                return 1;
            }
        }

        done += n;
        spent = cpu_time() - start;

    } while (spent < seconds);

    printf("%.3f\n", spent / done * 1e6);

    EVP_PKEY_CTX_free(ctx);

    return 0;
}


static int
read_items(item_t *items)
{
    int       n;
    char      line[LONGEST], *dot;
    item_t   *item;
    ssize_t   len;

    for (n = 0; n < TOKENS && fgets(line, sizeof(line), stdin) != NULL; n++) {
        item = &items[n];

        line[strcspn(line, "\n")] = '\0';
        dot = strrchr(line, '.');

        if (dot == NULL
            || EVP_Digest(line, dot - line, item->digest, NULL, EVP_sha256(),
                          NULL) != 1)
        {
            return 0;
        }

        len = runcoach_base64url_decode(item->signature, (u_char *) dot + 1,
                                        strlen(dot + 1));
        if (len == -1) {
            return 0;
        }

        item->len = (size_t) len;
    }

    return n;
}


static EVP_PKEY_CTX *
context(const char *file)
{
    FILE          *f;
    EVP_PKEY      *key;
    EVP_PKEY_CTX  *ctx;

    f = fopen(file, "r");
    if (f == NULL) {
        return NULL;
    }

    key = PEM_read_PUBKEY(f, NULL, NULL, NULL);
    ctx = EVP_PKEY_CTX_new(key, NULL);

    fclose(f);
    EVP_PKEY_free(key);

    if (ctx == NULL
        || EVP_PKEY_verify_init(ctx) != 1
        || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1
        || EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) != 1)
    {
        EVP_PKEY_CTX_free(ctx);
        return NULL;
    }

    return ctx;
}


static double
cpu_time(void)
{
    struct timespec  t;

    (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);

    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}
