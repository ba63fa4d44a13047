
/*
 * What the modules of ngx_http_runcoach_module.so share: functions, no
 * structures.  Each module keeps its configuration and contexts to itself.
 */


#ifndef _NGX_HTTP_RUNCOACH_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_runcoach_redis.h"


/* versions of nginx differ here and nowhere else */

#if (nginx_version >= 1023000)
#define ngx_http_runcoach_header_init(h)  (h)->next = NULL
#else
#define ngx_http_runcoach_header_init(h)
#endif


/*
 * Configuration values.
 *
 * A value "env:NAME" is replaced by that variable of the environment, the
 * first one of "env:A|B" which is set and not empty.
 *
 *     NGX_OK        *value is the value to use, terminated by a NUL
 *     NGX_DECLINED  it is in the environment, and is not set there
 *     NGX_ERROR     no memory
 */

ngx_int_t ngx_http_runcoach_value(ngx_conf_t *cf, ngx_str_t *value);


/*
 * If arg is "name=...", the rest is resolved as above and put into *value,
 * which is left alone on NGX_DECLINED: not this parameter, or not set; *known
 * tells which.
 */

ngx_int_t ngx_http_runcoach_param(ngx_conf_t *cf, ngx_str_t *arg,
    const char *name, ngx_str_t *value, ngx_uint_t *known);


/*
 * The parameters of a directive from the given one on, by a table which ends
 * with a NULL name.  One that is not in the table is an error.
 */

typedef struct {
    const char  *name;
    ngx_str_t   *value;
} ngx_http_runcoach_param_t;

char *ngx_http_runcoach_params(ngx_conf_t *cf, ngx_uint_t first,
    ngx_http_runcoach_param_t *known);


/*
 * A directive that is a list of names, or "off": the setter puts an array of
 * ngx_str_t at the command's offset; what the names mean is found at merge,
 * when all of the configuration is known.
 */

char *ngx_http_runcoach_names(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_uint_t ngx_http_runcoach_names_off(ngx_array_t *names);
ngx_uint_t ngx_http_runcoach_names_eq(ngx_str_t *name, const char *s);


/*
 * Shared memory.  One zone, set by runcoach_zone, in which each module has a
 * place of its own.  init() is called once when the zone is made; what it
 * leaves in *data is there for all workers and survives a reload.
 */

typedef enum {
    NGX_HTTP_RUNCOACH_ZONE_AUTH = 0,
    NGX_HTTP_RUNCOACH_ZONE_LIMIT,
    NGX_HTTP_RUNCOACH_ZONE_VERDICTS,
    NGX_HTTP_RUNCOACH_ZONE_REVOCATIONS,
    NGX_HTTP_RUNCOACH_ZONE_STATUS,
    NGX_HTTP_RUNCOACH_ZONE_DEBUG,
    NGX_HTTP_RUNCOACH_ZONE_PLACES
} ngx_http_runcoach_zone_place_e;

typedef ngx_int_t (*ngx_http_runcoach_zone_init_pt)(ngx_slab_pool_t *shpool,
    void **data);

/* at postconfiguration; NGX_DECLINED: the configuration has no runcoach_zone */

ngx_int_t ngx_http_runcoach_zone_add(ngx_conf_t *cf,
    ngx_http_runcoach_zone_place_e place, ngx_http_runcoach_zone_init_pt init);

ngx_uint_t ngx_http_runcoach_has_zone(ngx_conf_t *cf);

/* while serving; NULL: no runcoach_zone */

void *ngx_http_runcoach_zone_data(ngx_http_request_t *r,
    ngx_http_runcoach_zone_place_e place, ngx_slab_pool_t **shpool);


void *ngx_http_runcoach_zone_cycle_data(ngx_cycle_t *cycle,
    ngx_http_runcoach_zone_place_e place, ngx_slab_pool_t **shpool);


/* the connection of this worker; NULL: no runcoach_redis, or it is off */

ngx_runcoach_redis_t *ngx_http_runcoach_redis(ngx_http_request_t *r);
ngx_runcoach_redis_t *ngx_http_runcoach_cycle_redis(ngx_cycle_t *cycle);


/*
 * At postconfiguration: one more connection to the same Redis, for something
 * in the background (ngx_runcoach_redis_clone() tells what that means).
 *
 *     NGX_OK        *rd is the connection; NULL: runcoach_redis is off
 *     NGX_DECLINED  the configuration has no runcoach_redis
 *     NGX_ERROR     no memory
 */

ngx_int_t ngx_http_runcoach_redis_add(ngx_conf_t *cf, const char *name,
    ngx_msec_t timeout, ngx_runcoach_redis_t **rd);


/*
 * Waiting in a phase for something that is not of the request's connection.
 *
 * await() is what the handler returns; it arranges that a vanished client is
 * noticed.  wake() makes the phases run again, from the event loop and never
 * from within the call.  Only for main requests, before the content phase.
 */

ngx_int_t ngx_http_runcoach_await(ngx_http_request_t *r);
void ngx_http_runcoach_wake(ngx_http_request_t *r);


/*
 * A context that is found again after an internal redirect, which zeroes
 * r->ctx: it hangs from a cleanup of the main request's pool.  get() is NULL
 * before the first add() of that module.  The handler is the key; it is called
 * when the request ends, which is where commands are cancelled, and once more
 * with its pool.
 */

void *ngx_http_runcoach_ctx_get(ngx_http_request_t *r, ngx_module_t *module,
    ngx_http_cleanup_pt handler);
void *ngx_http_runcoach_ctx_add(ngx_http_request_t *r, ngx_module_t *module,
    ngx_http_cleanup_pt handler, size_t size);


/*
 * A list separated by commas, with the spaces around its items removed; the
 * items (ngx_str_t) point into value.  NULL: no memory.
 */

ngx_array_t *ngx_http_runcoach_list(ngx_conf_t *cf, ngx_str_t *value);


/* a request header by its lower-case name; NULL: absent, or more than one */

ngx_table_elt_t *ngx_http_runcoach_header(ngx_http_request_t *r, u_char *name,
    size_t len);


/*
 * What a module has decided about a request, for the log phase.
 *
 * Authentication: NGX_OK by *method; NGX_DECLINED, without anybody; 401 or 503
 * for *reason; NGX_DONE, it was not asked or has not come to an end.
 *
 * Limits: 0, it was not asked, else a ..._limit_status_e of its header; *source
 * is a runcoach_lease_source_e, and *policy the one that decided, or empty.
 *
 * Signed URLs: NGX_DECLINED, the request was not for any; else their number,
 * and the method for which they are.
 *
 * The local store: why it refused, in S3's words; NULL, it did not.
 */

ngx_int_t ngx_http_runcoach_auth_outcome(ngx_http_request_t *r,
    ngx_str_t *method, ngx_str_t *reason);
ngx_uint_t ngx_http_runcoach_limit_outcome(ngx_http_request_t *r,
    ngx_uint_t *source, ngx_str_t *policy);
ngx_int_t ngx_http_runcoach_presign_outcome(ngx_http_request_t *r,
    ngx_str_t *method);
const char *ngx_http_runcoach_store_outcome(ngx_http_request_t *r);


/* the value of a variable, for the lifetime of the request; NULL: not found */

ngx_int_t ngx_http_runcoach_set_variable(ngx_http_variable_value_t *v,
    const u_char *data, size_t len);


/* a table of variables, terminated by an empty name, into the configuration */

ngx_int_t ngx_http_runcoach_add_variables(ngx_conf_t *cf,
    const ngx_http_variable_t *vars);


#endif /* _NGX_HTTP_RUNCOACH_H_INCLUDED_ */
