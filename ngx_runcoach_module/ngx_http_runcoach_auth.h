
/*
 * What the files of the authentication module share.
 *
 *     auth_module.c   the access handler, the order of methods, variables
 *     issuer.c        runcoach_issuer
 *     token.c         carriers, and the verification of a token
 *     session.c       runcoach_session, and the look-up of a session
 *     verdict.c       what was verified before, in worker and shared memory
 */


#ifndef _NGX_HTTP_RUNCOACH_AUTH_H_INCLUDED_
#define _NGX_HTTP_RUNCOACH_AUTH_H_INCLUDED_


#include "ngx_http_runcoach_jwks.h"
#include "runcoach_clerk.h"
#include "runcoach_jwt.h"


#define NGX_HTTP_RUNCOACH_AUTH_STEPS     2

#define NGX_HTTP_RUNCOACH_ISSUER_DIGEST  16

#define NGX_HTTP_RUNCOACH_QUERY_NAME     64      /* of a query argument */

/* variables which nginx keeps: $request_uri, $request */

#define NGX_HTTP_RUNCOACH_STALE          2


/*
 * By intent or not: a browser adds cookies by itself, so their tokens may have
 * a policy of their own.
 */

typedef enum {
    NGX_HTTP_RUNCOACH_HEADER = 0,
    NGX_HTTP_RUNCOACH_COOKIE,
    NGX_HTTP_RUNCOACH_CARRIERS
} ngx_http_runcoach_carrier_e;


typedef struct {
    ngx_str_t                     name;
    ngx_http_runcoach_keys_t     *keys;           /* NULL: it is off */
    runcoach_jwt_policy_t         policy[NGX_HTTP_RUNCOACH_CARRIERS];

    /* of a publishable key: __session_<suffix>, __client_uat_<suffix> */

    ngx_str_t                     session_cookie;
    ngx_str_t                     uat_cookie;

    /* of all its parameters: a verdict is of this configuration only */

    u_char                        digest[NGX_HTTP_RUNCOACH_ISSUER_DIGEST];

    unsigned                      clerk:1;
    unsigned                      production:1;
    unsigned                      internal_user:1;
} ngx_http_runcoach_issuer_t;


/* the issuers of http{}, pointers to them: one of them may be off */

typedef struct {
    ngx_array_t                   elts;
} ngx_http_runcoach_issuers_t;


ngx_int_t ngx_http_runcoach_issuers_init(ngx_conf_t *cf,
    ngx_http_runcoach_issuers_t *issuers);

/* runcoach_issuer, from its parsed arguments */

char *ngx_http_runcoach_issuer_add(ngx_conf_t *cf,
    ngx_http_runcoach_issuers_t *issuers);

ngx_http_runcoach_issuer_t *ngx_http_runcoach_issuer_find(
    ngx_http_runcoach_issuers_t *issuers, ngx_str_t *name);

/*
 * 1 if a token could be of either: the same "iss" and an algorithm in common.
 * Two such may be configured, for different locations, but not in one list of
 * runcoach_auth.
 */

ngx_uint_t ngx_http_runcoach_issuer_overlaps(
    const ngx_http_runcoach_issuer_t *a, const ngx_http_runcoach_issuer_t *b);


/* one of the places in which a request may have a token */

typedef enum {
    NGX_HTTP_RUNCOACH_SOURCE_HEADER = 0,
    NGX_HTTP_RUNCOACH_SOURCE_COOKIE,
    NGX_HTTP_RUNCOACH_SOURCE_QUERY,
    NGX_HTTP_RUNCOACH_SOURCE_VALUE
} ngx_http_runcoach_source_e;

typedef struct {
    ngx_http_runcoach_source_e    type;
    ngx_str_t                     name;           /* of the query argument */
    ngx_http_complex_value_t      value;
} ngx_http_runcoach_source_t;

typedef struct {
    ngx_str_t                     text;           /* as it was written */
    ngx_array_t                   elts;           /* ..._source_t */
    ngx_uint_t                    query;          /* unsigned  query:1; */
} ngx_http_runcoach_sources_t;


/* a claim which the configuration uses: one of its two paths is in the token */

typedef struct {
    ngx_str_t                     name;           /* of the variable */
    runcoach_jwt_path_t           path;
    runcoach_jwt_path_t           nested;         /* n is 0: there is none */
    ngx_int_t                     org;            /* RUNCOACH_JWT_ORG_*, -1 */
} ngx_http_runcoach_claim_t;


/*
 * What is known of a token that was verified, in one piece, so that it can be
 * copied: into the request, the memory of the worker and the shared memory.
 * After it come nvalues ends of values (uint16_t) and their bytes: the user,
 * the session, and the claims which the configuration uses.
 */

typedef struct {
    int64_t                       exp;
    int64_t                       nbf;            /* 0: none */
    int64_t                       iat;            /* 0: none */
    uint64_t                      revocations;    /* of which it is not one */
    u_char                        issuer[NGX_HTTP_RUNCOACH_ISSUER_DIGEST];
    u_char                        keys[NGX_HTTP_RUNCOACH_ISSUER_DIGEST];
    uint32_t                      size;           /* of all of it */
    uint16_t                      nvalues;
} ngx_http_runcoach_verdict_t;

#define NGX_HTTP_RUNCOACH_VALUE_USER     0
#define NGX_HTTP_RUNCOACH_VALUE_SESSION  1
#define NGX_HTTP_RUNCOACH_VALUE_CLAIMS   2


typedef struct ngx_http_runcoach_auth_ctx_s  ngx_http_runcoach_auth_ctx_t;


typedef ngx_int_t (*ngx_http_runcoach_auth_step_pt)(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);


typedef enum {
    NGX_HTTP_RUNCOACH_OPTIONAL_NO = 0,
    NGX_HTTP_RUNCOACH_OPTIONAL_MISSING,
    NGX_HTTP_RUNCOACH_OPTIONAL_ANY
} ngx_http_runcoach_optional_e;


typedef enum {
    NGX_HTTP_RUNCOACH_CHALLENGE_NONE = 0,
    NGX_HTTP_RUNCOACH_CHALLENGE_MISSING,
    NGX_HTTP_RUNCOACH_CHALLENGE_INVALID
} ngx_http_runcoach_challenge_e;


typedef struct {
    ngx_array_t                     issuers;      /* pointers to them */
    ngx_http_runcoach_auth_step_pt  steps[NGX_HTTP_RUNCOACH_AUTH_STEPS];
    ngx_uint_t                      nsteps;
    ngx_http_runcoach_optional_e    optional;
} ngx_http_runcoach_methods_t;


typedef struct {
    ngx_http_runcoach_issuers_t   issuers;
    ngx_array_t                   methods;        /* pointers, no two equal */
    ngx_array_t                   claims;         /* ..._claim_t */
    ngx_array_t                   sources;        /* pointers, no two equal */
    ngx_int_t                     stale[NGX_HTTP_RUNCOACH_STALE];

    ngx_str_t                     session_cookie;
    ngx_str_t                     session_prefix;
    ngx_msec_t                    session_cache;  /* 0: off */

    ngx_uint_t                    cache;          /* unsigned  cache:1; */
    ngx_uint_t                    entries;
} ngx_http_runcoach_auth_main_conf_t;


typedef struct {
    ngx_array_t                  *names;          /* ngx_str_t */
    ngx_http_runcoach_methods_t  *methods;        /* what the names mean */
    ngx_http_runcoach_sources_t  *sources;
    ngx_uint_t                    fallback;
} ngx_http_runcoach_auth_loc_conf_t;


struct ngx_http_runcoach_auth_ctx_s {
    ngx_http_request_t                 *request;
    const ngx_http_runcoach_methods_t  *methods;
    const ngx_http_runcoach_sources_t  *sources;
    ngx_uint_t                          fallback;
    ngx_uint_t                          step;
    ngx_int_t                           rc;

    ngx_runcoach_redis_cmd_t           *cmd;
    ngx_uint_t                          pending;  /* a fetch of keys */

    ngx_str_t                           token;
    ngx_http_runcoach_carrier_e         carrier;
    double                              uat;      /* 0: no such cookie */

    ngx_http_runcoach_challenge_e       challenge;

    /* it was taken out of the arguments, where nobody finds it again */

    ngx_str_t                           query_name;
    ngx_str_t                           query_token;

    ngx_str_t                           reason;
    ngx_str_t                           cached;

    /* set when rc is NGX_OK and only then */

    ngx_http_runcoach_verdict_t        *verdict;  /* NULL: not by a token */
    ngx_str_t                           method;
    ngx_str_t                           user;
    ngx_str_t                           clerk_user_id;
    ngx_str_t                           user_id;
    ngx_str_t                           session_id;

    ngx_str_t                           session_key;
    ngx_str_t                           session_user; /* as Redis has it */
    ngx_int_t                           session_rc;

    unsigned                            decided:1;
    unsigned                            found:1;      /* the token */
    unsigned                            fetched:1;
    unsigned                            forced:1;
    unsigned                            asked:1;      /* Redis */
    unsigned                            refused:1;
    unsigned                            last:1;       /* no other method */
    unsigned                            unavailable:1;
};


extern ngx_module_t  ngx_http_runcoach_auth_module;


/* methods: NGX_OK, NGX_DECLINED (no such credentials), 401, 503, NGX_AGAIN */

ngx_int_t ngx_http_runcoach_auth_token(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);
ngx_int_t ngx_http_runcoach_auth_session(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx);

/* takes tokens out of the arguments; NGX_ERROR: no memory */

ngx_int_t ngx_http_runcoach_auth_query(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx,
    const ngx_http_runcoach_sources_t *sources);

/* with a constant as the reason: 401, and 503 */

ngx_int_t ngx_http_runcoach_auth_refuse(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const char *reason);
ngx_int_t ngx_http_runcoach_auth_unavailable(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, const char *reason);


/*
 * The first value of each cookie that is asked for, in one pass over all lines;
 * what is absent is left as it was.
 */

typedef struct {
    ngx_str_t                    *name;
    ngx_str_t                    *value;
} ngx_http_runcoach_cookie_t;

void ngx_http_runcoach_cookies(ngx_http_request_t *r,
    ngx_http_runcoach_cookie_t *cookies, ngx_uint_t n);


/*
 * What this worker, or any other, remembers.  A verdict that is found was about
 * the token, the carrier, the configuration of one of the location's issuers
 * and its present keys; exp, nbf and revocations are the caller's to look at.
 * It stays until the next call.  NULL: it is not known.
 */

ngx_http_runcoach_verdict_t *ngx_http_runcoach_verdict_get(
    ngx_http_request_t *r, ngx_http_runcoach_auth_ctx_t *ctx,
    ngx_http_runcoach_issuer_t **issuer);

/* of a token that was verified just now; NULL: no memory */

ngx_http_runcoach_verdict_t *ngx_http_runcoach_verdict_make(
    ngx_http_request_t *r, ngx_http_runcoach_issuer_t *issuer,
    const runcoach_jwt_t *jwt);

void ngx_http_runcoach_verdict_put(ngx_http_request_t *r,
    ngx_http_runcoach_auth_ctx_t *ctx, ngx_http_runcoach_issuer_t *issuer,
    ngx_http_runcoach_verdict_t *verdict);

void ngx_http_runcoach_verdict_value(ngx_http_runcoach_verdict_t *verdict,
    ngx_uint_t i, ngx_str_t *value);

/*
 * Forged ones are remembered apart, so that they push out no other.  forged()
 * is the issuer for whose present keys the token is a forgery, or NULL.
 */

ngx_http_runcoach_issuer_t *ngx_http_runcoach_verdict_forged(
    ngx_http_runcoach_auth_ctx_t *ctx);
void ngx_http_runcoach_verdict_refuse(ngx_http_runcoach_auth_ctx_t *ctx,
    ngx_http_runcoach_issuer_t *issuer);


/*
 * Sessions by their id.  get() is NGX_AGAIN if nothing is known, else what was
 * put: NGX_OK with *user borrowed until the next call, empty if the value was
 * no session, or NGX_DECLINED if there is none.
 */

ngx_int_t ngx_http_runcoach_verdict_session_get(ngx_str_t *id,
    ngx_str_t *user);
void ngx_http_runcoach_verdict_session_put(ngx_http_request_t *r,
    ngx_str_t *id, ngx_str_t *user, ngx_int_t rc);


/* at postconfiguration, in init_process, in exit_process */

ngx_int_t ngx_http_runcoach_verdict_init(ngx_conf_t *cf);
ngx_int_t ngx_http_runcoach_verdict_init_process(ngx_cycle_t *cycle);
void ngx_http_runcoach_verdict_exit_process(ngx_cycle_t *cycle);


#endif /* _NGX_HTTP_RUNCOACH_AUTH_H_INCLUDED_ */
