
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "inflate.h"


#define INFLATE_FIRST  65536


int
inflate_is_gzip(const u_char *data, size_t n)
{
    return n >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}


inflate_rc_e
inflate_gzip(const u_char *data, size_t n, size_t limit, u_char **out,
    size_t *len)
{
    int            zrc;
    size_t         size, done;
    u_char        *buf, *bigger;
    z_stream       z;
    inflate_rc_e   rc;

    *out = NULL;
    *len = 0;

    if (!inflate_is_gzip(data, n) || n > UINT_MAX || limit >= UINT_MAX) {
        return INFLATE_CORRUPT;
    }

    memset(&z, 0, sizeof(z_stream));

    if (inflateInit2(&z, 15 + 16) != Z_OK) {
        return INFLATE_NO_MEMORY;
    }

    /* one byte more than allowed tells "full" from "too large" */

    size = (limit < INFLATE_FIRST) ? limit + 1 : INFLATE_FIRST;
    done = 0;

    buf = malloc(size);
    if (buf == NULL) {
        rc = INFLATE_NO_MEMORY;
        goto done;
    }

    z.next_in = (Bytef *) data;
    z.avail_in = n;

    for ( ;; ) {
        z.next_out = buf + done;
        z.avail_out = size - done;

        zrc = inflate(&z, Z_NO_FLUSH);

        done = size - z.avail_out;

        if (done > limit) {
            rc = INFLATE_TOO_LARGE;
            goto done;
        }

        if (zrc == Z_STREAM_END) {

            if (z.avail_in == 0) {
                rc = INFLATE_OK;
                goto done;
            }

            if (!inflate_is_gzip(z.next_in, z.avail_in)
                || inflateReset(&z) != Z_OK)
            {
                rc = INFLATE_CORRUPT;
                goto done;
            }

        } else if (zrc != Z_OK && !(zrc == Z_BUF_ERROR && z.avail_out == 0)) {
            rc = (zrc == Z_MEM_ERROR) ? INFLATE_NO_MEMORY : INFLATE_CORRUPT;
            goto done;
        }

        if (z.avail_out == 0) {
            size = (size > (limit + 1) / 2) ? limit + 1 : size * 2;

            bigger = realloc(buf, size);
            if (bigger == NULL) {
                rc = INFLATE_NO_MEMORY;
                goto done;
            }

            buf = bigger;

        } else if (z.avail_in == 0 && zrc != Z_STREAM_END) {
            rc = INFLATE_CORRUPT;
            goto done;
        }
    }

done:

    inflateEnd(&z);

    if (rc == INFLATE_OK) {
        *out = buf;
        *len = done;

    } else {
        free(buf);
    }

    return rc;
}
