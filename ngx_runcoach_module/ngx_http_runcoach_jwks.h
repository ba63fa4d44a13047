
/*
 * The keys of an issuer: fixed ones, or a JWK Set which is fetched through an
 * internal location and kept parsed in each worker.
 */


#ifndef _NGX_HTTP_RUNCOACH_JWKS_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_JWKS_H_INCLUDED_


#include "ngx_http_runcoach.h"
#include "runcoach_jwks.h"


typedef struct ngx_http_runcoach_keys_s  ngx_http_runcoach_keys_t;


typedef struct {
    ngx_str_t                  name;       /* of the issuer, for the log */
    ngx_str_t                  location;
    ngx_str_t                  url;
    time_t                     refresh;    /* age from which they are fetched */
    time_t                     stale;      /* age from which they are none */
    time_t                     cooldown;   /* between fetches that are forced */
} ngx_http_runcoach_keys_conf_t;


/*
 * At configuration.  Either fixed keys, which are then owned here, or (NULL) a
 * location with the URL that its proxy_pass $runcoach_jwks_url is to fetch.
 * NULL: no memory, or the URL is not one to fetch keys from, which has been
 * logged.
 */

ngx_http_runcoach_keys_t *ngx_http_runcoach_keys_create(ngx_conf_t *cf,
    runcoach_jwks_t *fixed, const ngx_http_runcoach_keys_conf_t *conf);


/*
 * The keys to use now, valid until control returns to the event loop.  NULL:
 * none were ever fetched, or the last success is too long ago.
 */

const runcoach_jwks_t *ngx_http_runcoach_keys_get(
    ngx_http_runcoach_keys_t *keys);


/* 1 if the last attempt to fetch the keys has failed */

ngx_uint_t ngx_http_runcoach_keys_failed(ngx_http_runcoach_keys_t *keys);


/*
 * Fetches the keys, in the access phase of a main request, because there are
 * none (kid NULL), or because they lack the one of that kid, so that a cache
 * must not answer.  A kid with no data is that of a token which names none.
 *
 *     NGX_AGAIN     a fetch is under way: return NGX_AGAIN from the handler,
 *                   which runs again when *pending has become 0
 *     NGX_DECLINED  not now: fixed keys, or the last fetch was just before, or
 *                   a set without that kid has been fetched since it was asked
 *                   for first
 *     NGX_ERROR
 */

ngx_int_t ngx_http_runcoach_keys_fetch(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys, const runcoach_str_t *kid,
    ngx_uint_t *pending);


/*
 * Starts a fetch for which no request waits, if the keys grow old; cheap enough
 * to be called for each request.
 */

void ngx_http_runcoach_keys_refresh(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys);


/*
 * The same if a signature is not by the key of its kid: the key may have
 * changed.  At most one such fetch, or one for an unknown kid, in a cool-down.
 */

void ngx_http_runcoach_keys_suspect(ngx_http_request_t *r,
    ngx_http_runcoach_keys_t *keys);


#endif /* _NGX_HTTP_RUNCOACH_JWKS_H_INCLUDED_ */
