
/*
 * Nodes of clients in shared memory: a hash table whose chains are short, and
 * a queue of who was seen when, which is only moved once a second.
 */


#include "ngx_http_runcoach_limit.h"

#include <openssl/rand.h>


#define NGX_HTTP_RUNCOACH_LIMIT_TRIES  8      /* nodes that may have to go */
#define NGX_HTTP_RUNCOACH_LIMIT_KEEP   5000   /* ms */


static ngx_http_runcoach_limit_node_t *ngx_http_runcoach_limit_expire(
    ngx_http_runcoach_limit_shctx_t *sh, uint64_t now);
static ngx_http_runcoach_limit_node_t *ngx_http_runcoach_limit_evict(
    ngx_http_runcoach_limit_shctx_t *sh, uint64_t now);
static void ngx_http_runcoach_limit_unlink(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_node_t *node);


ngx_int_t
ngx_http_runcoach_limit_zone_init(ngx_slab_pool_t *shpool, void **data)
{
    size_t                            size;
    u_char                            secret[RUNCOACH_SIPHASH_KEY];
    ngx_uint_t                        n;
    ngx_http_runcoach_limit_shctx_t  *sh;

    /* a chain has four nodes when they fill the zone */

    size = shpool->end - shpool->start;

    for (n = 16; n * 4 * sizeof(ngx_http_runcoach_limit_node_t) < size; n *= 2)
    {
        /* void */
    }

    sh = ngx_slab_calloc(shpool, sizeof(ngx_http_runcoach_limit_shctx_t)
                                 + (n - 1) * sizeof(void *));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    if (RAND_bytes(secret, sizeof(secret)) != 1) {
        return NGX_ERROR;
    }

    runcoach_siphash_key(&sh->secret, secret);

    ngx_queue_init(&sh->queue);
    ngx_queue_init(&sh->leased);

    sh->mask = n - 1;

    *data = sh;

    return NGX_OK;
}


void
ngx_http_runcoach_limit_identify(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_policy_t *policy, ngx_str_t *key,
    ngx_http_runcoach_limit_id_t *id)
{
    runcoach_siphash_128(&sh->secret, &policy->id, key->data, key->len,
                         (u_char *) id->hash);
}


ngx_http_runcoach_limit_node_t *
ngx_http_runcoach_limit_lookup(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_id_t *id)
{
    ngx_http_runcoach_limit_node_t  *node;

    node = sh->buckets[id->hash[0] & sh->mask];

    while (node != NULL) {

        if (node->id.hash[0] == id->hash[0] && node->id.hash[1] == id->hash[1])
        {
            return node;
        }

        node = node->next;
    }

    return NULL;
}


ngx_http_runcoach_limit_node_t *
ngx_http_runcoach_limit_insert(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_slab_pool_t *shpool, ngx_http_runcoach_limit_id_t *id, uint64_t now)
{
    ngx_http_runcoach_limit_node_t  *node, *spare, **bucket;

    node = ngx_http_runcoach_limit_expire(sh, now);

    if (node == NULL) {
        node = ngx_slab_alloc_locked(shpool,
                                     sizeof(ngx_http_runcoach_limit_node_t));

    } else {
        spare = ngx_http_runcoach_limit_expire(sh, now);

        if (spare != NULL) {
            ngx_slab_free_locked(shpool, spare);
        }
    }

    if (node == NULL) {
        node = ngx_http_runcoach_limit_evict(sh, now);
    }

    if (node == NULL) {
        sh->forgotten++;
        return NULL;
    }

    ngx_memzero(node, sizeof(ngx_http_runcoach_limit_node_t));

    node->id = *id;
    node->lease.seen = (uint32_t) (now / 1000);

    bucket = &sh->buckets[id->hash[0] & sh->mask];

    /* linked last, as a process may die anywhere */

    ngx_queue_insert_head(&sh->queue, &node->queue);

    node->next = *bucket;
    *bucket = node;

    sh->nodes++;

    return node;
}


void
ngx_http_runcoach_limit_touch(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_node_t *node)
{
    ngx_queue_remove(&node->queue);
    ngx_queue_insert_head(&sh->queue, &node->queue);
}


/*
 * A client of whom nothing is left to know makes room, so the zone shrinks; not
 * at once, as who comes regularly is known by that, and gets leases for it.
 */

static ngx_http_runcoach_limit_node_t *
ngx_http_runcoach_limit_expire(ngx_http_runcoach_limit_shctx_t *sh,
    uint64_t now)
{
    ngx_queue_t                     *q;
    ngx_http_runcoach_limit_node_t  *node;

    if (ngx_queue_empty(&sh->queue)) {
        return NULL;
    }

    q = ngx_queue_last(&sh->queue);

    node = ngx_queue_data(q, ngx_http_runcoach_limit_node_t, queue);

    if ((int32_t) ((uint32_t) (now / 1000) - node->lease.seen)
        < NGX_HTTP_RUNCOACH_LIMIT_KEEP
        || runcoach_lease_worth(&node->lease, now) != 0)
    {
        return NULL;
    }

    ngx_http_runcoach_limit_unlink(sh, node);

    return node;
}


/*
 * Of those who were not seen for longest the one who loses least, and none that
 * holds a lease or has a call on its way.  A client who has spent something
 * loses nothing by this, as Redis knows it; without Redis it is forgotten.
 */

static ngx_http_runcoach_limit_node_t *
ngx_http_runcoach_limit_evict(ngx_http_runcoach_limit_shctx_t *sh, uint64_t now)
{
    int                              worth, least;
    ngx_uint_t                       i;
    ngx_queue_t                     *q;
    ngx_http_runcoach_limit_node_t  *node, *found;

    found = NULL;
    least = 2;

    q = ngx_queue_last(&sh->queue);

    for (i = 0; i < NGX_HTTP_RUNCOACH_LIMIT_TRIES; i++) {

        if (q == ngx_queue_sentinel(&sh->queue)) {
            break;
        }

        node = ngx_queue_data(q, ngx_http_runcoach_limit_node_t, queue);
        q = ngx_queue_prev(q);

        worth = runcoach_lease_worth(&node->lease, now);

        if (worth < least) {
            found = node;
            least = worth;
        }

        if (worth == 0) {
            break;
        }

        if (worth > 1) {

            /* it comes again when it has been released */

            ngx_http_runcoach_limit_touch(sh, node);
        }
    }

    if (found == NULL) {
        return NULL;
    }

    ngx_http_runcoach_limit_unlink(sh, found);

    sh->evicted++;

    return found;
}


static void
ngx_http_runcoach_limit_unlink(ngx_http_runcoach_limit_shctx_t *sh,
    ngx_http_runcoach_limit_node_t *node)
{
    ngx_http_runcoach_limit_node_t  **p;

    for (p = &sh->buckets[node->id.hash[0] & sh->mask];
         *p != NULL;
         p = &(*p)->next)
    {
        if (*p == node) {
            *p = node->next;
            break;
        }
    }

    ngx_queue_remove(&node->queue);

    if (node->leased.next != NULL) {
        ngx_queue_remove(&node->leased);
    }

    sh->nodes--;
}
