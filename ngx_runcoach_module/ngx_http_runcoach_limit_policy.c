
/*
 * Policies: what the configuration says, and what it means for a request where
 * rate, burst or cost come from variables.
 */


#include "ngx_http_runcoach_limit.h"

#include <openssl/sha.h>


#define NGX_HTTP_RUNCOACH_LIMIT_DEF_REQUESTS  300
#define NGX_HTTP_RUNCOACH_LIMIT_DEF_WINDOW    60
#define NGX_HTTP_RUNCOACH_LIMIT_DEF_BURST     20

#define NGX_HTTP_RUNCOACH_LIMIT_MAX_COST      1000000000


typedef enum {
    NGX_HTTP_RUNCOACH_LIMIT_RATE = 0,
    NGX_HTTP_RUNCOACH_LIMIT_REQUESTS,
    NGX_HTTP_RUNCOACH_LIMIT_WINDOW,
    NGX_HTTP_RUNCOACH_LIMIT_BURST,
    NGX_HTTP_RUNCOACH_LIMIT_KEY,
    NGX_HTTP_RUNCOACH_LIMIT_FAILURE,
    NGX_HTTP_RUNCOACH_LIMIT_SHARE,
    NGX_HTTP_RUNCOACH_LIMIT_COST,
    NGX_HTTP_RUNCOACH_LIMIT_LEASE,
    NGX_HTTP_RUNCOACH_LIMIT_DEFAULT,
    NGX_HTTP_RUNCOACH_LIMIT_PARAMS
} ngx_http_runcoach_limit_param_e;


/* a value is null if it is to come from the environment and is not set there */

typedef struct {
    ngx_str_t                           value;
    ngx_uint_t                          given;     /* unsigned  given:1; */
} ngx_http_runcoach_limit_param_t;


static ngx_int_t ngx_http_runcoach_limit_policy_name(ngx_conf_t *cf,
    ngx_str_t *name);
static ngx_int_t ngx_http_runcoach_limit_policy_params(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_enums(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_enum(ngx_conf_t *cf,
    ngx_str_t *value, ngx_conf_enum_t *e, const char *name,
    const char *expected, ngx_uint_t *result);
static ngx_int_t ngx_http_runcoach_limit_policy_values(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_value(ngx_conf_t *cf,
    ngx_str_t *value, ngx_http_complex_value_t **cv);
static ngx_int_t ngx_http_runcoach_limit_policy_rate(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_requests(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_policy_numbers(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params);
static ngx_int_t ngx_http_runcoach_limit_units(
    ngx_http_runcoach_limit_policy_t *policy, uint64_t requests,
    uint64_t seconds, uint64_t burst, runcoach_bucket_rate_t *rate,
    runcoach_bucket_rate_t *local);

static ngx_int_t ngx_http_runcoach_limit_evaluate_cost(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy, runcoach_lease_key_t *key);
static ngx_int_t ngx_http_runcoach_limit_evaluate_rate(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_check_t *check);
static void ngx_http_runcoach_limit_doubt(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy, const char *what,
    ngx_str_t *value);


static ngx_conf_enum_t  ngx_http_runcoach_limit_failures[] = {
    { ngx_string("local"), RUNCOACH_LEASE_LOCAL },
    { ngx_string("open"), RUNCOACH_LEASE_OPEN },
    { ngx_string("closed"), RUNCOACH_LEASE_CLOSED },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_runcoach_limit_leases[] = {
    { ngx_string("on"), 1 },
    { ngx_string("off"), 0 },
    { ngx_null_string, 0 }
};


static const char  *ngx_http_runcoach_limit_params[] = {
    "rate", "requests", "window", "burst", "key", "failure", "share", "cost",
    "lease", "default"
};


ngx_int_t
ngx_http_runcoach_limit_evaluate(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_check_t *check, runcoach_lease_key_t *key)
{
    if (ngx_http_complex_value(r, policy->key, &check->key) != NGX_OK) {
        return NGX_ERROR;
    }

    if (check->key.len == 0) {
        return NGX_DECLINED;
    }

    check->policy = policy;

    key->rate = &policy->rate;
    key->local = &policy->local;
    key->cost = policy->tokens;

    if (policy->cost != NULL
        && ngx_http_runcoach_limit_evaluate_cost(r, policy, key) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (policy->rate_value == NULL && policy->burst_value == NULL) {
        return NGX_OK;
    }

    if (ngx_http_runcoach_limit_evaluate_rate(r, policy, check) != NGX_OK) {
        return NGX_ERROR;
    }

    key->rate = &check->rate;
    key->local = &check->local;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_evaluate_cost(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy, runcoach_lease_key_t *key)
{
    ngx_int_t  n;
    ngx_str_t  value;

    if (ngx_http_complex_value(r, policy->cost, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        return NGX_OK;
    }

    n = ngx_atoi(value.data, value.len);

    if (n == NGX_ERROR || n > NGX_HTTP_RUNCOACH_LIMIT_MAX_COST) {
        ngx_http_runcoach_limit_doubt(r, policy, "cost", &value);
        return NGX_OK;
    }

    key->cost = n;

    return NGX_OK;
}


/* an absent value is the default in silence, another one is doubted */

static ngx_int_t
ngx_http_runcoach_limit_evaluate_rate(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_check_t *check)
{
    uint64_t   requests, seconds, burst;
    ngx_int_t  n;
    ngx_str_t  value;

    requests = policy->requests;
    seconds = policy->seconds;
    burst = policy->burst;

    if (policy->rate_value != NULL) {

        if (ngx_http_complex_value(r, policy->rate_value, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        if (value.len != 0
            && runcoach_bucket_parse_rate((char *) value.data, value.len,
                                          &requests, &seconds)
               != 0)
        {
            ngx_http_runcoach_limit_doubt(r, policy, "rate", &value);
        }
    }

    if (policy->burst_value != NULL) {

        if (ngx_http_complex_value(r, policy->burst_value, &value) != NGX_OK) {
            return NGX_ERROR;
        }

        n = ngx_atoi(value.data, value.len);

        if (n > 0) {
            burst = n;

        } else if (value.len != 0) {
            ngx_http_runcoach_limit_doubt(r, policy, "burst", &value);
        }
    }

    if (ngx_http_runcoach_limit_units(policy, requests, seconds, burst,
                                      &check->rate, &check->local)
        != NGX_OK)
    {
        ngx_str_set(&value, "too large");
        ngx_http_runcoach_limit_doubt(r, policy, "burst", &value);

        check->rate = policy->rate;
        check->local = policy->local;
    }

    return NGX_OK;
}


/* once for each policy and worker: the value may be the same for everybody */

static void
ngx_http_runcoach_limit_doubt(ngx_http_request_t *r,
    ngx_http_runcoach_limit_policy_t *policy, const char *what,
    ngx_str_t *value)
{
    if (policy->complained) {
        return;
    }

    policy->complained = 1;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "invalid %s \"%V\" of policy \"%V\" in "
                  "runcoach_limit_policy, the default is used from now on "
                  "without telling", what, value, &policy->name);
}


static ngx_int_t
ngx_http_runcoach_limit_units(ngx_http_runcoach_limit_policy_t *policy,
    uint64_t requests, uint64_t seconds, uint64_t burst,
    runcoach_bucket_rate_t *rate, runcoach_bucket_rate_t *local)
{
    if (runcoach_bucket_rate(rate, requests, seconds, burst) != 0) {
        return NGX_ERROR;
    }

    if (policy->permille == 1000) {
        *local = *rate;
        return NGX_OK;
    }

    burst = ngx_max(burst * policy->permille / 1000, 1);

    if (runcoach_bucket_share(local, rate, policy->permille, burst) != 0) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


char *
ngx_http_runcoach_limit_policy(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    u_char                            *p;
    u_char                             sha256[SHA256_DIGEST_LENGTH];
    ngx_str_t                         *value, *rate;
    ngx_http_runcoach_limit_param_t    params[NGX_HTTP_RUNCOACH_LIMIT_PARAMS];
    ngx_http_runcoach_limit_policy_t  *policy;

    value = cf->args->elts;

    if (ngx_http_runcoach_limit_policy_name(cf, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    policy = ngx_http_runcoach_limit_find(cf, &value[1]);
    if (policy == NULL) {
        return NGX_CONF_ERROR;
    }

    if (policy->declared) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate policy \"%V\" in runcoach_limit_policy",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    policy->declared = 1;

    if (ngx_http_runcoach_limit_policy_params(cf, policy, params) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    rate = &params[NGX_HTTP_RUNCOACH_LIMIT_RATE].value;

    if (params[NGX_HTTP_RUNCOACH_LIMIT_RATE].given && rate->data == NULL) {
        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "policy \"%V\" in runcoach_limit_policy is off: "
                           "its rate is not set", &policy->name);
        return NGX_CONF_OK;
    }

    if (ngx_http_runcoach_limit_policy_enums(cf, policy, params) != NGX_OK
        || ngx_http_runcoach_limit_policy_values(cf, policy, params) != NGX_OK
        || ngx_http_runcoach_limit_policy_rate(cf, policy, params) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    SHA256(policy->name.data, policy->name.len, sha256);
    ngx_memcpy(&policy->id, sha256, sizeof(policy->id));

    if (policy->rate_value == NULL && policy->burst_value == NULL) {
        p = ngx_pnalloc(cf->pool, sizeof("\"\";q=;w=") - 1 + policy->name.len
                                  + 2 * NGX_INT64_LEN);
        if (p == NULL) {
            return NGX_CONF_ERROR;
        }

        policy->header.data = p;
        p = ngx_http_runcoach_limit_describe(p, &policy->name, &policy->rate);
        policy->header.len = p - policy->header.data;
    }

    policy->on = 1;

    return NGX_CONF_OK;
}


u_char *
ngx_http_runcoach_limit_describe(u_char *p, ngx_str_t *name,
    const runcoach_bucket_rate_t *rate)
{
    return ngx_sprintf(p, "\"%V\";q=%uL;w=%uL", name, rate->c / rate->p,
                       (rate->c - 1) / (rate->n * 1000000) + 1);
}


/* the name is part of Redis keys and of RateLimit headers */

static ngx_int_t
ngx_http_runcoach_limit_policy_name(ngx_conf_t *cf, ngx_str_t *name)
{
    u_char  c, ch;
    size_t  i;

    if (name->len == 0 || name->len > NGX_HTTP_RUNCOACH_LIMIT_NAME
        || ngx_strcmp(name->data, "off") == 0)
    {
        goto invalid;
    }

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];
        c = (u_char) (ch | 0x20);

        if ((c < 'a' || c > 'z') && (ch < '0' || ch > '9') && ch != '_'
            && ch != '-')
        {
            goto invalid;
        }
    }

    return NGX_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid name \"%V\" in runcoach_limit_policy, must be "
                       "up to %d letters, digits, \"_\" or \"-\", and not "
                       "\"off\"", name, NGX_HTTP_RUNCOACH_LIMIT_NAME);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_params(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    ngx_str_t   *value;
    ngx_uint_t   i, n, known;

    ngx_memzero(params, NGX_HTTP_RUNCOACH_LIMIT_PARAMS
                        * sizeof(ngx_http_runcoach_limit_param_t));

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        for (n = 0; n < NGX_HTTP_RUNCOACH_LIMIT_PARAMS; n++) {

            if (ngx_http_runcoach_param(cf, &value[i],
                                        ngx_http_runcoach_limit_params[n],
                                        &params[n].value, &known)
                == NGX_ERROR)
            {
                return NGX_ERROR;
            }

            if (known) {
                break;
            }
        }

        if (n == NGX_HTTP_RUNCOACH_LIMIT_PARAMS || params[n].given) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s parameter \"%V\" in runcoach_limit_policy, "
                               "must be rate=, requests=, window=, burst=, "
                               "key=, cost=, lease=, failure=, share= or "
                               "default=, each once",
                               n == NGX_HTTP_RUNCOACH_LIMIT_PARAMS
                               ? "invalid" : "duplicate", &value[i]);
            return NGX_ERROR;
        }

        params[n].given = 1;
    }

    if (params[NGX_HTTP_RUNCOACH_LIMIT_RATE].given
        == (params[NGX_HTTP_RUNCOACH_LIMIT_REQUESTS].given
            || params[NGX_HTTP_RUNCOACH_LIMIT_WINDOW].given))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "policy \"%V\" in runcoach_limit_policy must have "
                           "either rate= or requests= and window=",
                           &policy->name);
        return NGX_ERROR;
    }

    if (params[NGX_HTTP_RUNCOACH_LIMIT_KEY].value.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "policy \"%V\" in runcoach_limit_policy must have "
                           "a key, like key=$runcoach_user", &policy->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_enums(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    ngx_uint_t  n;

    n = RUNCOACH_LEASE_LOCAL;

    if (ngx_http_runcoach_limit_policy_enum(cf,
            &params[NGX_HTTP_RUNCOACH_LIMIT_FAILURE].value,
            ngx_http_runcoach_limit_failures, "failure",
            "local, open or closed", &n)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    policy->failure = n;
    n = 1;

    if (ngx_http_runcoach_limit_policy_enum(cf,
            &params[NGX_HTTP_RUNCOACH_LIMIT_LEASE].value,
            ngx_http_runcoach_limit_leases, "lease", "on or off", &n)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    policy->lease = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_enum(ngx_conf_t *cf, ngx_str_t *value,
    ngx_conf_enum_t *e, const char *name, const char *expected,
    ngx_uint_t *result)
{
    if (value->data == NULL) {
        return NGX_OK;
    }

    for ( /* void */ ; e->name.len != 0; e++) {

        if (e->name.len == value->len
            && ngx_strncmp(e->name.data, value->data, value->len) == 0)
        {
            *result = e->value;
            return NGX_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid %s \"%V\" in runcoach_limit_policy: must be %s",
                       name, value, expected);

    return NGX_ERROR;
}


/* those that may have variables: key, cost, rate and burst */

static ngx_int_t
ngx_http_runcoach_limit_policy_values(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    ngx_int_t   n;
    ngx_str_t  *value;

    if (ngx_http_runcoach_limit_policy_value(cf,
            &params[NGX_HTTP_RUNCOACH_LIMIT_KEY].value, &policy->key)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    policy->tokens = 1;
    value = &params[NGX_HTTP_RUNCOACH_LIMIT_COST].value;

    if (value->data != NULL && ngx_http_script_variables_count(value) == 0) {
        n = ngx_atoi(value->data, value->len);

        if (n == NGX_ERROR || n > NGX_HTTP_RUNCOACH_LIMIT_MAX_COST) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid cost \"%V\" in "
                               "runcoach_limit_policy: must be a number from "
                               "0 to %d, or a variable", value,
                               NGX_HTTP_RUNCOACH_LIMIT_MAX_COST);
            return NGX_ERROR;
        }

        policy->tokens = n;

    } else if (value->data != NULL
               && ngx_http_runcoach_limit_policy_value(cf, value,
                                                       &policy->cost)
                  != NGX_OK)
    {
        return NGX_ERROR;
    }

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_RATE].value;

    if (value->data != NULL && ngx_http_script_variables_count(value) != 0
        && ngx_http_runcoach_limit_policy_value(cf, value, &policy->rate_value)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_BURST].value;

    if (value->data != NULL && ngx_http_script_variables_count(value) != 0
        && ngx_http_runcoach_limit_policy_value(cf, value,
                                                &policy->burst_value)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_value(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_complex_value_t **cv)
{
    ngx_http_compile_complex_value_t  ccv;

    *cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*cv == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = *cv;

    return ngx_http_compile_complex_value(&ccv);
}


static ngx_int_t
ngx_http_runcoach_limit_policy_rate(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    ngx_str_t  *value;

    policy->requests = NGX_HTTP_RUNCOACH_LIMIT_DEF_REQUESTS;
    policy->seconds = NGX_HTTP_RUNCOACH_LIMIT_DEF_WINDOW;

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_RATE].value;

    if (policy->rate_value != NULL) {
        value = &params[NGX_HTTP_RUNCOACH_LIMIT_DEFAULT].value;

    } else if (params[NGX_HTTP_RUNCOACH_LIMIT_DEFAULT].given) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "default= of policy \"%V\" in "
                           "runcoach_limit_policy needs a rate= with "
                           "variables", &policy->name);
        return NGX_ERROR;
    }

    if (value->data != NULL
        && runcoach_bucket_parse_rate((char *) value->data, value->len,
                                      &policy->requests, &policy->seconds)
           != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid rate \"%V\" in runcoach_limit_policy: "
                           "must be like 5r/s, 300r/m, 1000r/h or 10000r/d",
                           value);
        return NGX_ERROR;
    }

    if (ngx_http_runcoach_limit_policy_requests(cf, policy, params) != NGX_OK
        || ngx_http_runcoach_limit_policy_numbers(cf, policy, params)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_runcoach_limit_units(policy, policy->requests,
                                      policy->seconds, policy->burst,
                                      &policy->rate, &policy->local)
        != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "burst %uL is too large for %uL requests in %uL "
                           "seconds in runcoach_limit_policy", policy->burst,
                           policy->requests, policy->seconds);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_requests(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    time_t      sec;
    ngx_int_t   n;
    ngx_str_t  *value;

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_REQUESTS].value;

    if (value->data != NULL) {
        n = ngx_atoi(value->data, value->len);

        if (n <= 0 || (uint64_t) n > RUNCOACH_BUCKET_MAX_REQUESTS) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid requests \"%V\" in "
                               "runcoach_limit_policy: must be a number from "
                               "1 to %uL", value,
                               RUNCOACH_BUCKET_MAX_REQUESTS);
            return NGX_ERROR;
        }

        policy->requests = n;
    }

    value = &params[NGX_HTTP_RUNCOACH_LIMIT_WINDOW].value;

    if (value->data != NULL) {
        sec = ngx_parse_time(value, 1);

        if (sec == (time_t) NGX_ERROR || sec <= 0
            || (uint64_t) sec > RUNCOACH_BUCKET_MAX_SECONDS)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid window \"%V\" in "
                               "runcoach_limit_policy: must be seconds, or "
                               "like 1m, up to a year", value);
            return NGX_ERROR;
        }

        policy->seconds = sec;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_runcoach_limit_policy_numbers(ngx_conf_t *cf,
    ngx_http_runcoach_limit_policy_t *policy,
    ngx_http_runcoach_limit_param_t *params)
{
    ngx_int_t   n;
    ngx_str_t  *value;

    policy->burst = NGX_HTTP_RUNCOACH_LIMIT_DEF_BURST;
    value = &params[NGX_HTTP_RUNCOACH_LIMIT_BURST].value;

    if (value->data != NULL && policy->burst_value == NULL) {
        n = ngx_atoi(value->data, value->len);

        if (n <= 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid burst \"%V\" in "
                               "runcoach_limit_policy: must be a number "
                               "from 1", value);
            return NGX_ERROR;
        }

        policy->burst = n;
    }

    policy->permille = 1000;
    value = &params[NGX_HTTP_RUNCOACH_LIMIT_SHARE].value;

    if (value->data != NULL) {
        n = ngx_atofp(value->data, value->len, 3);

        if (n <= 0 || n > 1000) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid share \"%V\" in "
                               "runcoach_limit_policy: must be above 0 and up "
                               "to 1, like 0.25", value);
            return NGX_ERROR;
        }

        policy->permille = n;
    }

    return NGX_OK;
}


/* a policy may be used before it is declared, so it is made by whoever asks */

ngx_http_runcoach_limit_policy_t *
ngx_http_runcoach_limit_find(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                             i;
    ngx_http_runcoach_limit_policy_t      *policy, **policies, **p;
    ngx_http_runcoach_limit_main_conf_t   *lmcf;

    lmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_runcoach_limit_module);
    policies = lmcf->policies.elts;

    for (i = 0; i < lmcf->policies.nelts; i++) {

        if (policies[i]->name.len == name->len
            && ngx_strncmp(policies[i]->name.data, name->data, name->len) == 0)
        {
            return policies[i];
        }
    }

    policy = ngx_pcalloc(cf->pool, sizeof(ngx_http_runcoach_limit_policy_t));
    if (policy == NULL) {
        return NULL;
    }

    policy->name = *name;
    policy->file = cf->conf_file->file.name.data;
    policy->line = cf->conf_file->line;

    p = ngx_array_push(&lmcf->policies);
    if (p == NULL) {
        return NULL;
    }

    *p = policy;

    return policy;
}
