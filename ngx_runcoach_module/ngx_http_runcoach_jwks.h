
/*
 * The keys of an issuer: fixed ones, or a JWK Set which is fetched through an
 * internal location and kept parsed in each worker.
 */


#ifndef _NGX_HTTP_RUNCOACH_JWKS_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_JWKS_H_INCLUDED_


#include "ngx_http_runcoach.h"
#include "runcoach_jwks.h"


typedef struct ngx_http_runcoach_keys_s  ngx_http_runcoach_keys_t;


/*
 * At configuration.  Either fixed keys, or a location with the URL that its
 * proxy_pass $runcoach_jwks_url is to fetch.  NULL: no memory, or the URL is
 * not one to fetch keys from, which has been logged.
 */

ngx_http_runcoach_keys_t *ngx_http_runcoach_keys_create(ngx_conf_t *cf,
    ngx_str_t *name, runcoach_jwks_t *fixed, ngx_str_t *location,
    ngx_str_t *url);


/*
 * The keys to use now, valid until control returns to the event loop.  NULL:
 * none were ever fetched, or the last success is too long ago.
 */

const runcoach_jwks_t *ngx_http_runcoach_keys_get(
    ngx_http_runcoach_keys_t *keys);


/* 1 if the last attempt to fetch the keys has failed */

ngx_uint_t ngx_http_runcoach_keys_failed(ngx_http_runcoach_keys_t *keys);


/*
 * Fetches the keys, in the access phase of a main request; unknown says that
 * keys are there and one is missing, so that a cache must not answer.
 *
 *     NGX_AGAIN     a fetch is under way: return NGX_AGAIN from the handler,
 *                   which runs again when *pending has become 0
 *     NGX_DECLINED  not now: fixed keys, or the last fetch was just before
 *     NGX_ERROR
 */

ngx_int_t ngx_http_runcoach_keys_fetch(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, ngx_uint_t unknown, ngx_uint_t *pending);


/* if the keys grow old: starts a fetch for which no request waits */

void ngx_http_runcoach_keys_refresh(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys);


#endif /* _NGX_HTTP_RUNCOACH_JWKS_H_INCLUDED_ */
