
/*
 * From the keys of a request to its verdict.
 *
 * What can be decided from shared memory is decided at once.  Else one call of
 * the script tells, and the request waits for it.  Calls that nobody waits for
 * bring leases before they are needed, and take back those that are not.
 *
 * A call outlives its request, because what Redis grants has to be accounted
 * for; it is sent and ended by the worker that decided it.
 */


#include "ngx_http_runcoach_limit.h"
#include "lib/runcoach_reply.h"

#include <ngx_sha1.h>
#include <openssl/sha.h>


#define NGX_HTTP_RUNCOACH_LIMIT_HASH      16

#define NGX_HTTP_RUNCOACH_LIMIT_EVAL                                          \
    (2 * NGX_RUNCOACH_REDIS_ARG + sizeof("EVALSHA") - 1)

#define NGX_HTTP_RUNCOACH_LIMIT_IDLE      250    /* ms */
#define NGX_HTTP_RUNCOACH_LIMIT_WALK      512    /* nodes in one go */
#define NGX_HTTP_RUNCOACH_LIMIT_RELEASE   32     /* calls in one go */
#define NGX_HTTP_RUNCOACH_LIMIT_COMPLAIN  10     /* s */

typedef struct {
    ngx_http_runcoach_limit_policy_t   *policy;
    ngx_http_runcoach_limit_id_t        id;
    u_char                              digest[NGX_HTTP_RUNCOACH_LIMIT_DIGEST];
    runcoach_bucket_rate_t              rate;
    runcoach_bucket_rate_t              local;
} ngx_http_runcoach_limit_item_t;


struct ngx_http_runcoach_limit_call_s {
    ngx_queue_t                           queue;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;
    ngx_http_runcoach_limit_ctx_t        *ctx;     /* NULL: nobody waits */
    const runcoach_lease_conf_t          *conf;
    ngx_msec_t                            since;

    ngx_uint_t                            n;
    ngx_http_runcoach_limit_item_t        items[NGX_HTTP_RUNCOACH_LIMIT_MAX];
    runcoach_lease_key_t                  keys[NGX_HTTP_RUNCOACH_LIMIT_MAX];

    unsigned                              eval:1;
    unsigned                              again:2;     /* how often */
    unsigned                              abandoned:1;
};


static runcoach_lease_verdict_e ngx_http_runcoach_limit_decide(
    ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_uint_t failed);
static ngx_int_t ngx_http_runcoach_limit_nodes(
    ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, runcoach_lease_t *spare, uint64_t now);
static ngx_int_t ngx_http_runcoach_limit_make_nodes(
    ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, runcoach_lease_t *spare, uint64_t now);
static void ngx_http_runcoach_limit_count(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_ctx_t *ctx, runcoach_lease_verdict_e verdict);

static ngx_http_runcoach_limit_call_t *ngx_http_runcoach_limit_create_call(
    ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_uint_t all);
static ngx_http_runcoach_limit_call_t *ngx_http_runcoach_limit_alloc_call(
    ngx_http_runcoach_limit_main_conf_t *lmcf);
static void ngx_http_runcoach_limit_free_call(
    ngx_http_runcoach_limit_call_t *call);
static void ngx_http_runcoach_limit_bind(ngx_http_runcoach_limit_call_t *call);
static ngx_int_t ngx_http_runcoach_limit_send(
    ngx_http_runcoach_limit_call_t *call);
static u_char *ngx_http_runcoach_limit_write(
    ngx_http_runcoach_limit_call_t *call, u_char *p);
static void ngx_http_runcoach_limit_unsent(
    ngx_http_runcoach_limit_call_t *call);
static void ngx_http_runcoach_limit_reply(void *data, redisReply *reply);
static int ngx_http_runcoach_limit_parse_reply(
    ngx_http_runcoach_limit_call_t *call, redisReply *reply,
    runcoach_bucket_answer_t *answers);
static void ngx_http_runcoach_limit_end(ngx_http_runcoach_limit_call_t *call,
    runcoach_bucket_answer_t *answers, int allowed);
static void ngx_http_runcoach_limit_finish(
    ngx_http_runcoach_limit_call_t *call, ngx_uint_t state);
static void ngx_http_runcoach_limit_complain(
    ngx_http_runcoach_limit_main_conf_t *lmcf, redisReply *reply);

static void ngx_http_runcoach_limit_again_handler(ngx_event_t *ev);
static void ngx_http_runcoach_limit_idle_handler(ngx_event_t *ev);
static void ngx_http_runcoach_limit_release(
    ngx_http_runcoach_limit_main_conf_t *lmcf, ngx_queue_t *calls);
static ngx_int_t ngx_http_runcoach_limit_release_node(
    ngx_http_runcoach_limit_call_t *call, ngx_http_runcoach_limit_node_t *node,
    uint64_t now);
static ngx_http_runcoach_limit_policy_t *ngx_http_runcoach_limit_policy_of(
    ngx_http_runcoach_limit_main_conf_t *lmcf, uint64_t id);


/* [1] holds leases; [0] asks for each request, and never waits to do so */

const runcoach_lease_conf_t  ngx_http_runcoach_limit_confs[] = {
    { 2000000, 250000, 0, 0, 1000000, 1000000, 1000000, 0 },
    RUNCOACH_LEASE_CONF
};


ngx_int_t
ngx_http_runcoach_limit_script(ngx_conf_t *cf,
    ngx_http_runcoach_limit_main_conf_t *lmcf)
{
    u_char      *p, digest[20], hex[2 * sizeof(digest)];
    ngx_sha1_t   sha1;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, RUNCOACH_BUCKET_SCRIPT,
                    sizeof(RUNCOACH_BUCKET_SCRIPT) - 1);
    ngx_sha1_final(digest, &sha1);

    ngx_hex_dump(hex, digest, sizeof(digest));

    p = ngx_pnalloc(cf->pool, 2 * NGX_HTTP_RUNCOACH_LIMIT_EVAL + sizeof(hex)
                              + sizeof(RUNCOACH_BUCKET_SCRIPT));
    if (p == NULL) {
        return NGX_ERROR;
    }

    lmcf->evalsha.data = p;
    p = ngx_runcoach_redis_write_arg(p, (u_char *) "EVALSHA", 7);
    p = ngx_runcoach_redis_write_arg(p, hex, sizeof(hex));
    lmcf->evalsha.len = p - lmcf->evalsha.data;

    lmcf->eval.data = p;
    p = ngx_runcoach_redis_write_arg(p, (u_char *) "EVAL", 4);
    p = ngx_runcoach_redis_write_arg(p, (u_char *) RUNCOACH_BUCKET_SCRIPT,
                                     sizeof(RUNCOACH_BUCKET_SCRIPT) - 1);
    lmcf->eval.len = p - lmcf->eval.data;

    return NGX_OK;
}


ngx_int_t
ngx_http_runcoach_limit_init_worker(ngx_http_request_t *r,
    ngx_http_runcoach_limit_main_conf_t *lmcf)
{
    lmcf->redis = ngx_http_runcoach_redis(r);
    lmcf->sh = ngx_http_runcoach_zone_data(r, NGX_HTTP_RUNCOACH_ZONE_LIMIT,
                                           &lmcf->shpool);
    if (lmcf->sh == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_init(&lmcf->resend);
    ngx_queue_init(&lmcf->free);

    lmcf->again.handler = ngx_http_runcoach_limit_again_handler;
    lmcf->again.data = lmcf;
    lmcf->again.log = ngx_cycle->log;

    lmcf->idle.handler = ngx_http_runcoach_limit_idle_handler;
    lmcf->idle.data = lmcf;
    lmcf->idle.log = ngx_cycle->log;
    lmcf->idle.cancelable = 1;

    if (lmcf->redis != NULL) {
        ngx_runcoach_redis_share(lmcf->redis, &lmcf->sh->breaker);
    }

    return NGX_OK;
}


/* of the configuration's pool: a single process reloads without leaving */

void
ngx_http_runcoach_limit_exit_worker(void *data)
{
    ngx_http_runcoach_limit_main_conf_t *lmcf = data;

    ngx_queue_t  *q;

    if (lmcf->sh == NULL) {
        return;
    }

    if (lmcf->idle.timer_set) {
        ngx_del_timer(&lmcf->idle);
    }

    if (lmcf->again.posted) {
        ngx_delete_posted_event(&lmcf->again);
    }

    while (!ngx_queue_empty(&lmcf->free)) {
        q = ngx_queue_head(&lmcf->free);
        ngx_queue_remove(q);

        ngx_free(ngx_queue_data(q, ngx_http_runcoach_limit_call_t, queue));
    }
}


ngx_int_t
ngx_http_runcoach_limit_charge(ngx_http_request_t *r,
    ngx_http_runcoach_limit_ctx_t *ctx)
{
    ngx_uint_t                            failed;
    ngx_http_runcoach_limit_call_t       *call;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_runcoach_limit_module);

    failed = (ctx->state == NGX_HTTP_RUNCOACH_LIMIT_FAILED
              || (lmcf->redis != NULL
                  && !ngx_runcoach_redis_ready(lmcf->redis)));

    for ( ;; ) {
        ctx->verdict = ngx_http_runcoach_limit_decide(lmcf, ctx, failed);

        call = ngx_http_runcoach_limit_create_call(lmcf, ctx,
                                      ctx->verdict == RUNCOACH_LEASE_ASK);

        if (call != NULL && ngx_http_runcoach_limit_send(call) != NGX_OK) {
            ngx_http_runcoach_limit_unsent(call);
            call = NULL;
        }

        if (ctx->verdict != RUNCOACH_LEASE_ASK) {
            ctx->state = NGX_HTTP_RUNCOACH_LIMIT_ANSWERED;
            return NGX_OK;
        }

        if (call != NULL) {
            ctx->call = call;
            ctx->state = NGX_HTTP_RUNCOACH_LIMIT_WAITING;

            return ngx_http_runcoach_await(r);
        }

        failed = 1;
    }
}


void
ngx_http_runcoach_limit_abandon(ngx_http_runcoach_limit_ctx_t *ctx)
{
    if (ctx->call != NULL) {
        ctx->call->ctx = NULL;
        ctx->call->abandoned = 1;
        ctx->call = NULL;
    }
}


/* with one lock, unless a client is new: a digest takes longer than the rest */

static runcoach_lease_verdict_e
ngx_http_runcoach_limit_decide(ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_uint_t failed)
{
    uint64_t                          now;
    ngx_uint_t                        i;
    runcoach_lease_t                  spare[NGX_HTTP_RUNCOACH_LIMIT_MAX];
    runcoach_lease_key_t             *key;
    runcoach_lease_verdict_e          verdict;
    ngx_http_runcoach_limit_node_t   *node;
    ngx_http_runcoach_limit_check_t  *check;

    now = ngx_http_runcoach_limit_now();

    ngx_shmtx_lock(&lmcf->shpool->mutex);

    while (ngx_http_runcoach_limit_nodes(lmcf, ctx, spare, now) != NGX_OK) {

        ngx_shmtx_unlock(&lmcf->shpool->mutex);

        for (i = 0; i < ctx->nchecks; i++) {
            check = &ctx->checks[i];

            ngx_http_runcoach_limit_digest(&check->key, check->digest);
            check->digested = 1;
        }

        ngx_shmtx_lock(&lmcf->shpool->mutex);
    }

    for (i = 0; i < ctx->nchecks; i++) {
        key = &ctx->keys[i];

        key->mode = (lmcf->redis == NULL) ? RUNCOACH_LEASE_LOCAL
                    : failed ? ctx->checks[i].policy->failure
                    : RUNCOACH_LEASE_REDIS;
    }

    verdict = runcoach_lease_decide(ctx->keys, ctx->nchecks, ctx->conf, now);

    ngx_http_runcoach_limit_count(lmcf->sh, ctx, verdict);

    for (i = 0; i < ctx->nchecks; i++) {
        check = &ctx->checks[i];
        key = &ctx->keys[i];

        /* a client whose node was made, or not, has a digest already */

        if ((key->call || verdict == RUNCOACH_LEASE_ASK) && !check->digested) {
            node = ngx_http_runcoach_limit_node(key->node);

            ngx_memcpy(check->digest, node->digest, sizeof(check->digest));
            check->digested = 1;
        }

        key->node = NULL;
    }

    ngx_shmtx_unlock(&lmcf->shpool->mutex);

    return verdict;
}


static ngx_int_t
ngx_http_runcoach_limit_nodes(ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, runcoach_lease_t *spare, uint64_t now)
{
    ngx_uint_t                       i;
    ngx_http_runcoach_limit_node_t  *node;

    for (i = 0; i < ctx->nchecks; i++) {
        node = ngx_http_runcoach_limit_lookup(lmcf->sh, &ctx->checks[i].id);

        if (node == NULL) {
            return ngx_http_runcoach_limit_make_nodes(lmcf, ctx, spare, now);
        }

        if ((uint32_t) (now / 1000) - node->lease.seen > 1000) {
            ngx_http_runcoach_limit_touch(lmcf->sh, node);
        }

        ctx->keys[i].node = &node->lease;
    }

    return NGX_OK;
}


/*
 * A node that is made may take the place of another.  Who finds no room at all
 * asks Redis with nothing known, and is answered without leaving a trace.
 */

static ngx_int_t
ngx_http_runcoach_limit_make_nodes(ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, runcoach_lease_t *spare, uint64_t now)
{
    ngx_uint_t                        i;
    ngx_http_runcoach_limit_node_t   *node;
    ngx_http_runcoach_limit_check_t  *check;

    for (i = 0; i < ctx->nchecks; i++) {

        if (!ctx->checks[i].digested) {
            return NGX_AGAIN;
        }
    }

    for (i = 0; i < ctx->nchecks; i++) {
        check = &ctx->checks[i];

        node = ngx_http_runcoach_limit_lookup(lmcf->sh, &check->id);

        if (node != NULL) {
            ngx_http_runcoach_limit_touch(lmcf->sh, node);
            continue;
        }

        node = ngx_http_runcoach_limit_insert(lmcf->sh, lmcf->shpool,
                                              &check->id, now);

        if (node != NULL) {
            node->policy = check->policy->id;
            ngx_memcpy(node->digest, check->digest, sizeof(node->digest));
        }
    }

    for (i = 0; i < ctx->nchecks; i++) {
        node = ngx_http_runcoach_limit_lookup(lmcf->sh, &ctx->checks[i].id);

        if (node != NULL) {
            ctx->keys[i].node = &node->lease;
            continue;
        }

        ngx_memzero(&spare[i], sizeof(runcoach_lease_t));
        ctx->keys[i].node = &spare[i];
    }

    return NGX_OK;
}


static void
ngx_http_runcoach_limit_count(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_ctx_t *ctx, runcoach_lease_verdict_e verdict)
{
    if (verdict == RUNCOACH_LEASE_ASK) {
        return;
    }

    if (verdict == RUNCOACH_LEASE_PASS) {
        sh->passed++;

    } else {
        sh->rejected++;
    }

    sh->from[ctx->keys[0].source]++;
}


static ngx_http_runcoach_limit_call_t *
ngx_http_runcoach_limit_create_call(ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_http_runcoach_limit_ctx_t *ctx, ngx_uint_t all)
{
    ngx_uint_t                        i, n;
    runcoach_lease_key_t             *key;
    ngx_http_runcoach_limit_call_t   *call;
    ngx_http_runcoach_limit_item_t   *item;
    ngx_http_runcoach_limit_check_t  *check;

    call = NULL;
    n = 0;

    for (i = 0; i < ctx->nchecks; i++) {
        key = &ctx->keys[i];
        check = &ctx->checks[i];

        if (!key->call && !all) {
            continue;
        }

        if (call == NULL) {
            call = ngx_http_runcoach_limit_alloc_call(lmcf);
            if (call == NULL) {
                return NULL;
            }
        }

        item = &call->items[n];

        item->policy = check->policy;
        item->id = check->id;
        item->rate = *key->rate;
        item->local = *key->local;

        ngx_memcpy(item->digest, check->digest, sizeof(item->digest));

        call->keys[n] = *key;
        call->keys[n].rate = &item->rate;
        call->keys[n].local = &item->local;

        if (!all) {

            /* the request goes on, whatever becomes of this */

            call->keys[n].spent[0] = 0;
            call->keys[n].spent[1] = 0;
        }

        n++;
    }

    if (call != NULL) {
        call->n = n;
        call->conf = ctx->conf;
        call->ctx = all ? ctx : NULL;
    }

    return call;
}


static ngx_http_runcoach_limit_call_t *
ngx_http_runcoach_limit_alloc_call(ngx_http_runcoach_limit_main_conf_t *lmcf)
{
    ngx_queue_t                     *q;
    ngx_http_runcoach_limit_call_t  *call;

    if (!ngx_queue_empty(&lmcf->free)) {
        q = ngx_queue_head(&lmcf->free);
        ngx_queue_remove(q);

        call = ngx_queue_data(q, ngx_http_runcoach_limit_call_t, queue);

    } else {
        call = ngx_alloc(sizeof(ngx_http_runcoach_limit_call_t),
                         ngx_cycle->log);
        if (call == NULL) {
            return NULL;
        }
    }

    call->lmcf = lmcf;
    call->since = ngx_current_msec;
    call->eval = 0;
    call->again = 0;
    call->abandoned = 0;

    return call;
}


static void
ngx_http_runcoach_limit_free_call(ngx_http_runcoach_limit_call_t *call)
{
    ngx_queue_insert_head(&call->lmcf->free, &call->queue);
}


/* the nodes as they are now; the mutex is held */

static void
ngx_http_runcoach_limit_bind(ngx_http_runcoach_limit_call_t *call)
{
    ngx_uint_t                       i;
    ngx_http_runcoach_limit_node_t  *node;

    for (i = 0; i < call->n; i++) {
        node = ngx_http_runcoach_limit_lookup(call->lmcf->sh,
                                              &call->items[i].id);

        call->keys[i].node = (node != NULL) ? &node->lease : NULL;
    }
}


static ngx_int_t
ngx_http_runcoach_limit_send(ngx_http_runcoach_limit_call_t *call)
{
    u_char                                buf[sizeof(RUNCOACH_BUCKET_SCRIPT)
                                              + NGX_HTTP_RUNCOACH_LIMIT_EVAL
                                              + NGX_HTTP_RUNCOACH_LIMIT_CALL(
                                                NGX_HTTP_RUNCOACH_LIMIT_MAX)];
    ngx_str_t                             command;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = call->lmcf;

    if (lmcf->redis == NULL) {
        return NGX_DECLINED;
    }

    command.data = buf;
    command.len = ngx_http_runcoach_limit_write(call, buf) - buf;

    if (ngx_runcoach_redis_send_written(lmcf->redis, &command, call->since,
                                        ngx_http_runcoach_limit_reply, call)
        == NULL)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static u_char *
ngx_http_runcoach_limit_write(ngx_http_runcoach_limit_call_t *call, u_char *p)
{
    ngx_str_t                       *begin;
    ngx_uint_t                       i, n;
    ngx_http_runcoach_limit_item_t  *item;

    n = 0;

    for (i = 0; i < call->n; i++) {
        n += call->keys[i].call;
    }

    begin = call->eval ? &call->lmcf->eval : &call->lmcf->evalsha;

    p = ngx_runcoach_redis_write_count(p, 4 + n * (1 + RUNCOACH_BUCKET_ARGS));
    p = ngx_cpymem(p, begin->data, begin->len);
    p = ngx_runcoach_redis_write_number(p, n);

    for (i = 0; i < call->n; i++) {

        if (call->keys[i].call) {
            item = &call->items[i];
            p = ngx_http_runcoach_limit_write_key(p, item->policy,
                                                  item->digest);
        }
    }

    p = ngx_runcoach_redis_write_number(p, call->conf->epoch);

    for (i = 0; i < call->n; i++) {

        if (call->keys[i].call) {
            p = ngx_http_runcoach_limit_write_args(p, call->keys[i].rate,
                                                   &call->keys[i].ask);
        }
    }

    return p;
}


u_char *
ngx_http_runcoach_limit_write_key(u_char *p,
    ngx_http_runcoach_limit_policy_t *policy, u_char *digest)
{
    u_char  key[NGX_HTTP_RUNCOACH_LIMIT_KEY_LEN], *last;

    last = ngx_http_runcoach_limit_redis_key(key, policy, digest);

    return ngx_runcoach_redis_write_arg(p, key, last - key);
}


u_char *
ngx_http_runcoach_limit_write_args(u_char *p,
    const runcoach_bucket_rate_t *rate, const runcoach_bucket_ask_t *ask)
{
    int64_t     args[RUNCOACH_BUCKET_ARGS];
    ngx_uint_t  i;

    runcoach_bucket_args(args, rate, ask);

    for (i = 0; i < RUNCOACH_BUCKET_ARGS; i++) {
        p = ngx_runcoach_redis_write_number(p, args[i]);
    }

    return p;
}


/*
 * The braces are the hash tag of Redis Cluster: all policies of one client are
 * in one slot.  The client is hashed, so that the key is short, says nothing
 * about a person and cannot be forged by what a client sends.
 */

u_char *
ngx_http_runcoach_limit_redis_key(u_char *p,
    ngx_http_runcoach_limit_policy_t *policy, u_char *digest)
{
    p = ngx_cpymem(p, "rl:{", sizeof("rl:{") - 1);
    p = ngx_cpymem(p, digest, NGX_HTTP_RUNCOACH_LIMIT_DIGEST);
    *p++ = '}';
    *p++ = ':';

    return ngx_cpymem(p, policy->name.data, policy->name.len);
}


void
ngx_http_runcoach_limit_digest(ngx_str_t *key, u_char *digest)
{
    u_char  sha256[SHA256_DIGEST_LENGTH];
    u_char  text[runcoach_base64_encoded_max(NGX_HTTP_RUNCOACH_LIMIT_HASH)];

    SHA256(key->data, key->len, sha256);

    (void) runcoach_base64url_encode(text, sha256,
                                     NGX_HTTP_RUNCOACH_LIMIT_HASH);

    ngx_memcpy(digest, text, NGX_HTTP_RUNCOACH_LIMIT_DIGEST);
}


static void
ngx_http_runcoach_limit_unsent(ngx_http_runcoach_limit_call_t *call)
{
    ngx_slab_pool_t  *shpool;

    shpool = call->lmcf->shpool;

    ngx_shmtx_lock(&shpool->mutex);

    ngx_http_runcoach_limit_bind(call);
    runcoach_lease_unsent(call->keys, call->n);

    ngx_shmtx_unlock(&shpool->mutex);

    ngx_http_runcoach_limit_finish(call, NGX_HTTP_RUNCOACH_LIMIT_FAILED);
}


/* records and wakes: the request runs when the connection has been read */

static void
ngx_http_runcoach_limit_reply(void *data, redisReply *reply)
{
    ngx_http_runcoach_limit_call_t *call = data;

    int                                   allowed;
    ngx_http_request_t                   *r;
    runcoach_bucket_answer_t              answers[NGX_HTTP_RUNCOACH_LIMIT_MAX];
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = call->lmcf;

    if (reply != NULL && !call->eval
        && runcoach_reply_is_error(reply, "NOSCRIPT"))
    {
        call->again++;

        ngx_queue_insert_tail(&lmcf->resend, &call->queue);
        ngx_post_event(&lmcf->again, &ngx_posted_events);

        return;
    }

    allowed = (reply != NULL)
              ? ngx_http_runcoach_limit_parse_reply(call, reply, answers) : -1;

    if (reply != NULL && allowed < 0) {
        ngx_http_runcoach_limit_complain(lmcf, reply);
    }

    r = (call->ctx != NULL) ? call->ctx->request : NULL;

    ngx_http_runcoach_limit_end(call, answers, allowed);

    if (r != NULL) {
        ngx_http_runcoach_wake(r);
    }

    if (!lmcf->idle.timer_set && !ngx_queue_empty(&lmcf->sh->leased)) {
        ngx_add_timer(&lmcf->idle, NGX_HTTP_RUNCOACH_LIMIT_IDLE);
    }
}


static int
ngx_http_runcoach_limit_parse_reply(ngx_http_runcoach_limit_call_t *call,
    redisReply *reply, runcoach_bucket_answer_t *answers)
{
    int                            count;
    int64_t                        values[NGX_HTTP_RUNCOACH_LIMIT_MAX
                                          * RUNCOACH_BUCKET_VALUES];
    ngx_uint_t                     i, n;
    const runcoach_bucket_ask_t   *asks[NGX_HTTP_RUNCOACH_LIMIT_MAX];
    const runcoach_bucket_rate_t  *rates[NGX_HTTP_RUNCOACH_LIMIT_MAX];

    count = runcoach_reply_integers(reply, values,
                                    sizeof(values) / sizeof(values[0]));
    if (count < 0) {
        return -1;
    }

    n = 0;

    for (i = 0; i < call->n; i++) {

        if (call->keys[i].call) {
            asks[n] = &call->keys[i].ask;
            rates[n] = call->keys[i].rate;
            n++;
        }
    }

    return runcoach_bucket_answers(answers, rates, asks, n, values, count,
                                   call->conf->epoch);
}


static void
ngx_http_runcoach_limit_end(ngx_http_runcoach_limit_call_t *call,
    runcoach_bucket_answer_t *answers, int allowed)
{
    uint64_t                          now;
    ngx_uint_t                        i;
    ngx_slab_pool_t                  *shpool;
    runcoach_lease_verdict_e          verdict;
    ngx_http_runcoach_limit_node_t   *node;
    ngx_http_runcoach_limit_shctx_t  *sh;

    sh = call->lmcf->sh;
    shpool = call->lmcf->shpool;
    now = ngx_http_runcoach_limit_now();
    verdict = RUNCOACH_LEASE_DENY;

    ngx_shmtx_lock(&shpool->mutex);

    ngx_http_runcoach_limit_bind(call);

    sh->calls++;

    if (allowed < 0) {
        sh->lost++;
        runcoach_lease_lost(call->keys, call->n);

    } else {
        verdict = runcoach_lease_end(call->keys, call->n, answers, allowed,
                                     call->conf, now);

        if (call->ctx != NULL) {
            ngx_http_runcoach_limit_count(sh, call->ctx, verdict);

        } else if (call->abandoned) {
            runcoach_lease_give_back(call->keys, call->n);
        }
    }

    for (i = 0; i < call->n; i++) {

        if (call->keys[i].node == NULL) {
            continue;
        }

        node = ngx_http_runcoach_limit_node(call->keys[i].node);

        if (node->leased.next == NULL
            && runcoach_lease_worth(&node->lease, now) > 1)
        {
            ngx_queue_insert_tail(&sh->leased, &node->leased);
        }
    }

    ngx_shmtx_unlock(&shpool->mutex);

    if (call->ctx != NULL) {
        call->ctx->verdict = verdict;
    }

    ngx_http_runcoach_limit_finish(call, allowed < 0
                                         ? NGX_HTTP_RUNCOACH_LIMIT_FAILED
                                         : NGX_HTTP_RUNCOACH_LIMIT_ANSWERED);
}


/* hands over to the request, if it is still there */

static void
ngx_http_runcoach_limit_finish(ngx_http_runcoach_limit_call_t *call,
    ngx_uint_t state)
{
    ngx_uint_t                      i;
    runcoach_lease_key_t           *key;
    ngx_http_runcoach_limit_ctx_t  *ctx;
    const runcoach_bucket_rate_t   *rate, *local;

    ctx = call->ctx;

    if (ctx != NULL) {

        for (i = 0; i < call->n; i++) {
            key = &ctx->keys[i];

            rate = key->rate;
            local = key->local;

            *key = call->keys[i];

            key->rate = rate;
            key->local = local;
            key->node = NULL;
        }

        ctx->call = NULL;
        ctx->state = state;
    }

    ngx_http_runcoach_limit_free_call(call);
}


static void
ngx_http_runcoach_limit_complain(ngx_http_runcoach_limit_main_conf_t *lmcf,
    redisReply *reply)
{
    ngx_str_t  text;

    /* Redis may be out of memory for long, and requests are many */

    if (ngx_time() - lmcf->complained < NGX_HTTP_RUNCOACH_LIMIT_COMPLAIN) {
        return;
    }

    lmcf->complained = ngx_time();

    if (reply->type == REDIS_REPLY_ERROR) {
        text.data = (u_char *) reply->str;
        text.len = reply->len;

    } else {
        ngx_str_set(&text, "unexpected type of reply");
    }

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                  "redis could not run the script of runcoach_limit: \"%V\"",
                  &text);
}


/* what Redis did not know is sent with all of the script */

static void
ngx_http_runcoach_limit_again_handler(ngx_event_t *ev)
{
    ngx_uint_t                            first;
    ngx_queue_t                          *q;
    ngx_http_request_t                   *r;
    ngx_http_runcoach_limit_call_t       *call;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = ev->data;
    first = 1;

    while (!ngx_queue_empty(&lmcf->resend)) {
        q = ngx_queue_head(&lmcf->resend);
        ngx_queue_remove(q);

        call = ngx_queue_data(q, ngx_http_runcoach_limit_call_t, queue);

        /* what one brings the others find; who finds it gone again brings it */

        call->eval = first || call->again > 1;
        first = 0;

        if (ngx_http_runcoach_limit_send(call) == NGX_OK) {
            continue;
        }

        r = (call->ctx != NULL) ? call->ctx->request : NULL;

        ngx_http_runcoach_limit_unsent(call);

        if (r != NULL) {
            ngx_http_runcoach_wake(r);
        }
    }
}


static void
ngx_http_runcoach_limit_idle_handler(ngx_event_t *ev)
{
    ngx_queue_t                           calls, *q;
    ngx_http_runcoach_limit_call_t       *call;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = ev->data;

    ngx_queue_init(&calls);
    ngx_http_runcoach_limit_release(lmcf, &calls);

    while (!ngx_queue_empty(&calls)) {
        q = ngx_queue_head(&calls);
        ngx_queue_remove(q);

        call = ngx_queue_data(q, ngx_http_runcoach_limit_call_t, queue);

        if (ngx_http_runcoach_limit_send(call) != NGX_OK) {
            ngx_http_runcoach_limit_unsent(call);
        }
    }

    if (!ngx_queue_empty(&lmcf->sh->leased) && !ngx_exiting) {
        ngx_add_timer(ev, NGX_HTTP_RUNCOACH_LIMIT_IDLE);
    }
}


static void
ngx_http_runcoach_limit_release(ngx_http_runcoach_limit_main_conf_t *lmcf,
    ngx_queue_t *calls)
{
    uint64_t                         now;
    ngx_uint_t                       i, n;
    ngx_queue_t                     *q;
    ngx_http_runcoach_limit_call_t  *call;
    ngx_http_runcoach_limit_node_t  *node;

    now = ngx_http_runcoach_limit_now();
    call = NULL;
    n = 0;

    ngx_shmtx_lock(&lmcf->shpool->mutex);

    for (i = 0; i < NGX_HTTP_RUNCOACH_LIMIT_WALK; i++) {

        if (ngx_queue_empty(&lmcf->sh->leased)
            || n == NGX_HTTP_RUNCOACH_LIMIT_RELEASE)
        {
            break;
        }

        if (call == NULL) {
            call = ngx_http_runcoach_limit_alloc_call(lmcf);
            if (call == NULL) {
                break;
            }
        }

        q = ngx_queue_head(&lmcf->sh->leased);
        ngx_queue_remove(q);

        node = ngx_queue_data(q, ngx_http_runcoach_limit_node_t, leased);
        node->leased.next = NULL;

        if (ngx_http_runcoach_limit_release_node(call, node, now) == NGX_OK) {
            ngx_queue_insert_tail(calls, &call->queue);
            call = NULL;
            n++;
        }
    }

    ngx_shmtx_unlock(&lmcf->shpool->mutex);

    if (call != NULL) {
        ngx_http_runcoach_limit_free_call(call);
    }
}


static ngx_int_t
ngx_http_runcoach_limit_release_node(ngx_http_runcoach_limit_call_t *call,
    ngx_http_runcoach_limit_node_t *node, uint64_t now)
{
    ngx_http_runcoach_limit_item_t       *item;
    ngx_http_runcoach_limit_main_conf_t  *lmcf;

    lmcf = call->lmcf;

    item = &call->items[0];
    item->policy = ngx_http_runcoach_limit_policy_of(lmcf, node->policy);

    /* a policy that is gone leaves its leases to expire */

    if (item->policy == NULL || runcoach_lease_worth(&node->lease, now) < 2) {
        return NGX_DECLINED;
    }

    ngx_queue_insert_tail(&lmcf->sh->leased, &node->leased);

    call->ctx = NULL;
    call->conf = &ngx_http_runcoach_limit_confs[1];
    call->n = 1;
    call->keys[0].node = &node->lease;

    if (!runcoach_lease_release(&call->keys[0], &item->rate, call->conf, now,
                                0))
    {
        return NGX_DECLINED;
    }

    item->id = node->id;

    ngx_memcpy(item->digest, node->digest, sizeof(item->digest));

    return NGX_OK;
}


static ngx_http_runcoach_limit_policy_t *
ngx_http_runcoach_limit_policy_of(ngx_http_runcoach_limit_main_conf_t *lmcf,
    uint64_t id)
{
    ngx_uint_t                          i;
    ngx_http_runcoach_limit_policy_t  **policies;

    policies = lmcf->policies.elts;

    for (i = 0; i < lmcf->policies.nelts; i++) {

        if (policies[i]->id == id) {
            return policies[i];
        }
    }

    return NULL;
}
