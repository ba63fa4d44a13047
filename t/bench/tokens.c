
/*
 * Tokens for the benchmark: as Clerk's in shape and size, each of another user,
 * RS256.
 *
 *     tokens KEY.pem COUNT LIFETIME > FILE
 */


#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "runcoach_base64.h"


#define THREADS    64
#define SIGNATURE  512      /* of an RSA key of 4096 bits */
#define LONGEST    2048


typedef struct {
    pthread_t   id;
    EVP_PKEY   *key;
    size_t      first;
    size_t      last;
    time_t      now;
    time_t      lifetime;
    char      (*tokens)[LONGEST];
    int         failed;
} job_t;


static EVP_PKEY *read_key(const char *file);
static void *make(void *data);
static int make_token(EVP_MD_CTX *ctx, job_t *job, size_t i);
static size_t encode(char *dst, const char *text);


int
main(int argc, char **argv)
{
    long     n;
    char   (*tokens)[LONGEST];
    size_t   i, count;
    job_t    jobs[THREADS];

    if (argc != 4) {
        fputs("usage: tokens KEY.pem COUNT LIFETIME > FILE\n", stderr);
        return 2;
    }

    count = strtoul(argv[2], NULL, 10);
    tokens = calloc(count, LONGEST);
    n = sysconf(_SC_NPROCESSORS_ONLN);

    if (count == 0 || tokens == NULL) {
        fputs("tokens: no memory\n", stderr);
        return 1;
    }

    n = (n < 1) ? 1 : (n > THREADS) ? THREADS : n;

    for (i = 0; i < (size_t) n; i++) {
        jobs[i].key = read_key(argv[1]);
        jobs[i].first = count * i / n;
        jobs[i].last = count * (i + 1) / n;
        jobs[i].now = time(NULL);
        jobs[i].lifetime = strtol(argv[3], NULL, 10);
        jobs[i].tokens = tokens;
        jobs[i].failed = 1;

        if (jobs[i].key == NULL
            || pthread_create(&jobs[i].id, NULL, make, &jobs[i]) != 0)
        {
            fprintf(stderr, "tokens: %s: no key, or no thread\n", argv[1]);
            return 1;
        }
    }

    for (i = 0; i < (size_t) n; i++) {
        (void) pthread_join(jobs[i].id, NULL);
        EVP_PKEY_free(jobs[i].key);

        if (jobs[i].failed) {
            fputs("tokens: cannot sign\n", stderr);
            return 1;
        }
    }

    for (i = 0; i < count; i++) {
        puts(tokens[i]);
    }

    free(tokens);

    return fflush(stdout) != 0;
}


static EVP_PKEY *
read_key(const char *file)
{
    FILE      *f;
    EVP_PKEY  *key;

    f = fopen(file, "r");
    if (f == NULL) {
        return NULL;
    }

    key = PEM_read_PrivateKey(f, NULL, NULL, NULL);

    fclose(f);

    return key;
}


static void *
make(void *data)
{
    job_t *job = data;

    size_t       i;
    EVP_MD_CTX  *ctx;

    ctx = EVP_MD_CTX_new();

    for (i = job->first; i < job->last; i++) {
        if (ctx == NULL || make_token(ctx, job, i) != 0) {
            EVP_MD_CTX_free(ctx);
            return NULL;
        }
    }

    EVP_MD_CTX_free(ctx);

    job->failed = 0;

    return NULL;
}


static int
make_token(EVP_MD_CTX *ctx, job_t *job, size_t i)
{
    char    *token, payload[LONGEST / 2];
    size_t   n, len;
    u_char   signature[SIGNATURE];

    token = job->tokens[i];

    snprintf(payload, sizeof(payload),
             "{\"azp\":\"https://edge.test\",\"exp\":%ld,\"fva\":[0,-1],"
             "\"iat\":%ld,\"iss\":\"https://clerk.runcoach.test\","
             "\"jti\":\"%020zx\",\"nbf\":%ld,\"sid\":\"sess_2pGw%023zu\","
             "\"sts\":\"active\",\"sub\":\"user_2pGv%023zu\",\"v\":2}",
             (long) (job->now + job->lifetime), (long) job->now, i * 2654435761,
             (long) (job->now - 10), i, i);

    n = encode(token, "{\"alg\":\"RS256\",\"cat\":\"cl_B7d4PD111AAA\","
                      "\"kid\":\"ins_issuer\",\"typ\":\"JWT\"}");
    token[n++] = '.';
    n += encode(token + n, payload);

    len = sizeof(signature);

    if (EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, job->key) != 1
        || EVP_DigestSign(ctx, signature, &len, (u_char *) token, n) != 1)
    {
        return -1;
    }

    token[n++] = '.';
    n += runcoach_base64url_encode((u_char *) token + n, signature, len);
    token[n] = '\0';

    return 0;
}


static size_t
encode(char *dst, const char *text)
{
    return runcoach_base64url_encode((u_char *) dst, (const u_char *) text,
                                     strlen(text));
}
