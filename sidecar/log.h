
/*
 * The log: one line for each event on standard error,
 *
 *     level message key=value ... time=...
 *
 * Control characters never reach the line, whatever a caller passes.
 */


#ifndef _LOG_H_INCLUDED_
#define _LOG_H_INCLUDED_


typedef enum {
    LOG_LEVEL_ERROR = 0,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
} log_level_e;


/* 0, or -1 if name is none of "error", "warn", "info", "debug" */

int log_level(const char *name, log_level_e *level)
    __attribute__((warn_unused_result));


/* lines above level are dropped from now on; call before threads start */

void log_init(log_level_e level);


/* thread-safe; a line is cut at 2 kB */

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));


/*
 * Makes an outside string fit to stand after "key=": as it is if it is plain,
 * else in quotes and escaped, cut at 256 bytes.  NULL gives "-".  The result
 * is the thread's own and lives for seven further calls.
 */

const char *log_value(const char *s);


#endif /* _LOG_H_INCLUDED_ */
