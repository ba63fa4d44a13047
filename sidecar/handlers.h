
/*
 * What routes.c sends requests to.  Each answers the request exactly once.
 */


#ifndef _HANDLERS_H_INCLUDED_
#define _HANDLERS_H_INCLUDED_


#include "http.h"


#ifndef RUNCOACH_VERSION
#define RUNCOACH_VERSION  "0.1.0"
#endif


/* upload.c */

void upload_complete(http_request_t *r, worker_t *w);
void upload_download_url(http_request_t *r, worker_t *w);
void upload_delete(http_request_t *r, worker_t *w);
void upload_stats(http_request_t *r, worker_t *w);
void upload_health(http_request_t *r, worker_t *w);

/* webhook.c; the first of up to so many */

#define WEBHOOK_TOGETHER  16

void webhook_clerk(http_request_t *r, worker_t *w);
void webhook_health(http_request_t *r, worker_t *w);

/* health.c */

void health(http_request_t *r, worker_t *w);
void health_detailed(http_request_t *r, worker_t *w);
void health_metrics(http_request_t *r, worker_t *w);


#endif /* _HANDLERS_H_INCLUDED_ */
