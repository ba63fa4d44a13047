
/*
 * Replays files through a fuzz target without libFuzzer: every crash ever
 * found is an ordinary test.  Arguments are files, or directories of them.
 */


#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path);
static int replay_directory(const char *path);
static int replay_file(const char *path);
static int visible(const struct dirent *entry);


static int  count;


int
main(int argc, char **argv)
{
    int  i;

    for (i = 1; i < argc; i++) {
        if (replay(argv[i]) != 0) {
            perror(argv[i]);
            return 1;
        }
    }

    printf("1..%d\n", count);

    return 0;
}


static int
replay(const char *path)
{
    struct stat  st;

    if (stat(path, &st) != 0) {
        return -1;
    }

    return S_ISDIR(st.st_mode) ? replay_directory(path) : replay_file(path);
}


static int
replay_directory(const char *path)
{
    int             i, n, rc;
    char            name[4096];
    struct dirent  **list;

    n = scandir(path, &list, visible, alphasort);
    if (n < 0) {
        return -1;
    }

    rc = 0;

    for (i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "%s/%s", path, list[i]->d_name);

        if (rc == 0) {
            rc = replay(name);
        }

        free(list[i]);
    }

    free(list);

    return rc;
}


static int
visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}


static int
replay_file(const char *path)
{
    FILE     *file;
    size_t    size, n;
    uint8_t  *data, *p;

    file = fopen(path, "rb");
    if (file == NULL) {
        return -1;
    }

    data = NULL;
    size = 0;

    do {
        p = realloc(data, size + 65536);
        if (p == NULL) {
            abort();
        }

        data = p;
        n = fread(data + size, 1, 65536, file);
        size += n;

    } while (n == 65536);

    fclose(file);

    /* if this crashes, the last thing said is what with */

    printf("# %s\n", path);
    fflush(stdout);

    LLVMFuzzerTestOneInput(data, size);

    printf("ok %d - %s\n", ++count, path);

    free(data);

    return 0;
}
