#!/usr/bin/perl

# Tests for what must not get past the edge: a token in the query, into a log or
# to a backend, and identity headers which a client has written, whatever nginx
# does with the request before anybody is asked to log in.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

my $backend = $t->http_daemon(sub { return [200, {}, 'ok'] },
                              port => 8090, name => 'backend');

$t->write_file_expand('nginx.conf', <<'EOT');

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  full  '$request|$request_uri|$args|$uri';
    access_log  %%TESTDIR%%/full.log  full;

    runcoach_zone    runcoach:1m;
    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                            key=env:CLERK_JWT_KEY;

    limit_req_zone  $binary_remote_addr  zone=one:1m  rate=1r/m;

    runcoach_auth_token  query=token header;

    proxy_set_header  X-User-Id  $runcoach_user_id;

    server {
        listen  127.0.0.1:8080;

        location /auth {
            runcoach_auth  clerk;
            proxy_pass     http://127.0.0.1:8090;
        }

        location /open {
            proxy_pass  http://127.0.0.1:8090;
        }

        location /variable {
            proxy_pass  http://127.0.0.1:8090$request_uri;
        }

        location /set {
            set               $before  $request_uri;
            proxy_set_header  X-Before  $before;
            proxy_pass        http://127.0.0.1:8090;
        }

        location /methods {
            runcoach_auth  clerk;

            limit_except  GET {
                runcoach_auth  off;
            }

            proxy_pass  http://127.0.0.1:8090;
        }

        location /large {
            client_max_body_size  1;
            error_page            413 = @large;
            proxy_pass            http://127.0.0.1:8090;
        }

        location @large {
            proxy_pass  http://127.0.0.1:8090;
        }

        location /return {
            return  302  /there$is_args$args;
        }

        location /rewrite {
            rewrite  ^  /there  permanent;
        }

        location /inside {
            internal;
        }

        location /limited {
            limit_req   zone=one;
            proxy_pass  http://127.0.0.1:8090;
        }
    }

    # which server reads the headers is not always the one that is meant

    server {
        listen                  127.0.0.1:8081;
        server_name             invalid;
        ignore_invalid_headers  off;

        location / {
            proxy_pass  http://127.0.0.1:8090;
        }
    }

    server {
        listen                  127.0.0.1:8082 default_server;
        server_name             first;
        underscores_in_headers  on;

        location / {
            return  404;
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  second;

        location / {
            proxy_pass  http://127.0.0.1:8090;
        }
    }
}

EOT

$t->run(env => { CLERK_JWT_KEY => $t->key_pem('issuer') });

###############################################################################

my $token = $t->token();
my @requests = (
    [ 'GET', '/auth', 200 ],
    [ 'GET', '/open', 200 ],
    [ 'GET', '/variable', 200 ],
    [ 'GET', '/set', 200 ],
    [ 'GET', '/methods', 200 ],
    [ 'POST', '/methods', 200 ],
    [ 'POST', '/large', 200 ],
    [ 'GET', '/return', 302 ],
    [ 'GET', '/rewrite', 301 ],
    [ 'GET', '/inside', 404 ],
    [ 'GET', '/nowhere', 404 ],
    [ 'GET', '/limited', 200 ],
    [ 'GET', '/limited', 503 ],
);

# nginx waits for ever if such a body was not there with the header

my $shim = $ENV{RUNCOACH_SHIM};

@requests = grep { $_->[1] ne '/large' } @requests if $shim;

for my $case (@requests) {
    my ($method, $uri, $status) = @$case;

    my $r = $t->request($method, "$uri?a=1&token=$token&b=2",
                        $method eq 'POST' ? (body => 'long') : ());

    is($r->status, $status, "$method $uri: $status");
    unlike($r->raw(), qr/\Q$token\E/, "$method $uri: not in the answer");
}

is(scalar(grep { $_->{target} =~ /a=1&b=2/ } $t->requests($backend)),
   $shim ? 7 : 8,
   'what is left of the query arrives');
unlike(Test::Runcoach::json_encode([$t->requests($backend)]), qr/\Q$token\E/,
       'the backend sees no token');

my $log = $t->read_file('full.log');

is(scalar(() = $log =~ /\n/g), scalar(@requests), 'all are logged');
unlike($log, qr/\Q$token\E/, 'the access log has no token');
unlike($t->read_file('error.log'), qr/\Q$token\E/,
       'the error log has no token');

# identity, by names which a backend may read as ours

$t->forget_requests($backend);

$t->http("GET /1 HTTP/1.1\r\nHost: invalid\r\nX_User_Id: 666\r\n"
         . "Connection: close\r\n\r\n", port => 8081);
$t->http("GET /2 HTTP/1.1\r\nX_User-Id: 666\r\nHost: second\r\n"
         . "Connection: close\r\n\r\n", port => 8082);
$t->http("GET /3 HTTP/1.1\r\nHost: second\r\nX_USER_ID: 666\r\n"
         . "Connection: close\r\n\r\n", port => 8082);

is(scalar(my @all = $t->requests($backend)), 3, 'three requests arrive');
unlike(Test::Runcoach::json_encode([$t->requests($backend)]), qr/666/,
       'and nobody is who they say');

$t->done();

###############################################################################
