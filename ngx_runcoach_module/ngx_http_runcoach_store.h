
/*
 * Object stores: what runcoach_store says of one, for those who sign requests
 * to it and for the one that verifies them.
 */


#ifndef _NGX_HTTP_RUNCOACH_STORE_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_STORE_H_INCLUDED_


#include "ngx_http_runcoach.h"
#include "runcoach_endpoint.h"
#include "runcoach_sigv4.h"


typedef struct {
    ngx_str_t                     name;
    runcoach_str_t                scheme;
    runcoach_str_t                host;
    runcoach_str_t                base;       /* "/bucket", or empty */
    runcoach_sigv4_credential_t   cred;
    runcoach_sigv4_day_key_t     *day;        /* caches of this worker */
    runcoach_sigv4_day_key_t     *verified;
    unsigned                      on:1;
} ngx_http_runcoach_store_t;


/* at merge, when all stores are known; NULL: there is none of that name */

ngx_http_runcoach_store_t *ngx_http_runcoach_store_find(ngx_conf_t *cf,
    ngx_str_t *name);


#endif /* _NGX_HTTP_RUNCOACH_STORE_H_INCLUDED_ */
