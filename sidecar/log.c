
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "log.h"


#define LOG_LINE    2048
#define LOG_VALUE   256
#define LOG_VALUES  8


static void log_line(log_level_e level, const char *fmt, va_list args);


static const char  *log_names[] = { "error", "warn", "info", "debug" };

static log_level_e  log_max = LOG_LEVEL_INFO;


int
log_level(const char *name, log_level_e *level)
{
    unsigned  i;

    for (i = 0; i < sizeof(log_names) / sizeof(log_names[0]); i++) {

        if (strcasecmp(name, log_names[i]) == 0) {
            *level = i;
            return 0;
        }
    }

    return -1;
}


void
log_init(log_level_e level)
{
    log_max = level;
}


void
log_error(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    log_line(LOG_LEVEL_ERROR, fmt, args);
    va_end(args);
}


void
log_warn(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    log_line(LOG_LEVEL_WARN, fmt, args);
    va_end(args);
}


void
log_info(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    log_line(LOG_LEVEL_INFO, fmt, args);
    va_end(args);
}


void
log_debug(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    log_line(LOG_LEVEL_DEBUG, fmt, args);
    va_end(args);
}


const char *
log_value(const char *s)
{
    char                      *p, *last, *start;
    const char                *c;
    static __thread char       values[LOG_VALUES][LOG_VALUE + 4];
    static __thread unsigned   next;

    if (s == NULL) {
        return "-";
    }

    for (c = s; *c > ' ' && *c < 0x7f && *c != '"' && *c != '='; c++) {
        /* void */
    }

    if (*c == '\0' && c != s && c - s <= LOG_VALUE) {
        return s;
    }

    start = values[next++ % LOG_VALUES];
    last = start + LOG_VALUE;
    p = start;

    *p++ = '"';

    for (c = s; *c != '\0' && p < last - 2; c++) {

        if (*c == '"' || *c == '\\') {
            *p++ = '\\';
        }

        *p++ = ((unsigned char) *c < ' ' || *c == 0x7f) ? ' ' : *c;
    }

    while (p[-1] == ' ') {
        p--;
    }

    *p++ = '"';
    *p = '\0';

    return start;
}


static void
log_line(log_level_e level, const char *fmt, va_list args)
{
    int              n;
    char             line[LOG_LINE + 64];
    size_t           i, len;
    ssize_t          written;
    struct tm        tm;
    struct timespec  ts;

    if (level > log_max) {
        return;
    }

    len = snprintf(line, LOG_LINE, "%s ", log_names[level]);

    n = vsnprintf(line + len, LOG_LINE - len, fmt, args);
    if (n < 0) {
        return;
    }

    len = (len + n < LOG_LINE) ? len + n : LOG_LINE - 1;

    for (i = 0; i < len; i++) {
        if ((unsigned char) line[i] < ' ' || line[i] == 0x7f) {
            line[i] = ' ';
        }
    }

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);

    len += strftime(line + len, 32, " time=%Y-%m-%dT%H:%M:%S", &tm);
    len += snprintf(line + len, 8, ".%03uZ\n",
                    (unsigned) (ts.tv_nsec / 1000000) % 1000);

    /* one write() is one line also when several processes share the file */

    written = write(STDERR_FILENO, line, len);
    (void) written;
}
