#!/usr/bin/perl

# Keys of an issuer that goes away, and what issuers may say of people.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

$t->redis();

my $jwks = $t->jwks('issuer');
my $issuer = $t->http_daemon(sub { return [200, {}, $jwks] }, port => 8091);

$t->write_file_expand('nginx.conf', <<'EOT');

%%TEST_GLOBALS%%

worker_processes  1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:1m;
    runcoach_redis  %%REDIS_URL%%;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;
    runcoach_issuer  other  issuer=https://other.runcoach.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;
    runcoach_issuer  away   issuer=https://away.runcoach.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8099/jwks;

    proxy_cache_path  %%TESTDIR%%/cache  keys_zone=jwks:1m;

    add_header  X-Who  "$runcoach_auth_method:$runcoach_user:$runcoach_clerk_user_id:$runcoach_user_id"  always;

    server {
        listen       127.0.0.1:8080;
        error_page   401          /unauthorized;
        error_page   502 504  =503  @unavailable;
        error_page   503            @unavailable;

        root  %%TESTDIR%%;

        location / {
            runcoach_auth  clerk other away session;
            try_files      /ok =404;
        }

        location = /redirect {
            runcoach_auth  clerk session;
            proxy_pass     http://127.0.0.1:8081;
        }

        location = /strict {
            runcoach_auth           clerk session;
            runcoach_auth_fallback  never;
            try_files               /ok =404;
        }

        location /_jwks {
            internal;

            proxy_pass             $runcoach_jwks_url;
            proxy_cache            jwks;
            proxy_cache_key        "$runcoach_jwks_url $runcoach_jwks_epoch";
            proxy_cache_valid      200 1s;
            proxy_cache_use_stale  error timeout http_500;
        }

        location = /unauthorized {
            return  401  "log in";
        }

        location @unavailable {
            return  503  "later";
        }
    }

    server {
        listen  127.0.0.1:8081;

        location / {
            add_header  X-Accel-Redirect  /strict;
            return      200;
        }
    }
}
EOT

$t->write_file('ok', 'ok');
$t->run();

###############################################################################

my $token = $t->token(sub => 'user_1');

is($t->get('/', token => $token)->header('X-Who'), 'clerk:user_1:user_1:',
   'issuer named clerk');

# One issuer cannot speak for the users of another.

is($t->get('/', token => $t->token(iss => 'https://other.runcoach.test',
                                   sub => 'user_1'))->header('X-Who'),
   'other:user_1::', 'other issuer, no Clerk user');

# A failed fetch ends in an error page, which is not for the client.

my $away = $t->token(iss => 'https://away.runcoach.test');

for my $n (1, 2) {
    my $answer = $t->http(<<"EOR");
GET / HTTP/1.1
Host: localhost
Authorization: Bearer $away

GET / HTTP/1.1
Host: localhost
Authorization: Bearer $token
Connection: close

EOR

    my @lines = $answer =~ m{(HTTP/1\.1 \d+)}g;

    is("@lines", 'HTTP/1.1 503 HTTP/1.1 200', "issuer away $n, pipelined");
    like($answer, qr{\AHTTP/1\.1 503 [^\n]*\n.*\r\n\r\nlater}s,
         "issuer away $n, nothing before the status line");
}

# A verdict is not carried to a location with other rules.

my $session = $t->session(42);

is($t->get('/', cookie => $session)->header('X-Who'), 'session:42::42',
   'session');
is($t->get('/strict', cookie => $session)->status, 401, 'fallback never');
is($t->get('/redirect', cookie => $session)->status, 401,
   'fallback never, by an internal redirect');

# An issuer is down, somebody invents a key, nginx starts anew: what is cached
# still logs people in.

$t->stop_process($issuer);
sleep(2);

is($t->get('/', token => $t->token(kid => 'invented'))->status, 503,
   'issuer down, a key that may be new');

$t->reload();

is($t->get('/', token => $token)->status, 200, 'issuer down, cold worker');

# What was asked for does not vanish because a list is empty.

my $conf = <<'EOT';

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone    runcoach:1m;
    runcoach_issuer  clerk  issuer=https://x  jwks=/_jwks  ISSUER;

    server {
        listen  127.0.0.1:8082;
    }
}
EOT

for my $row ([ 'authorized_parties=env:LIST', ' , ', 'empty list " , "' ],
             [ 'audience=env:LIST', ',', 'empty list ","' ],
             [ 'azp=require', '', 'needs authorized_parties=' ])
{
    my ($parameter, $list, $error) = @$row;
    my ($status, $out) = $t->configtest($conf =~ s/ISSUER/$parameter/r,
                                        env => { LIST => $list });

    isnt($status, 0, "configuration: $parameter");
    like($out, qr/\[emerg\].*\Q$error\E/, 'and why');
}

$t->done();

###############################################################################
