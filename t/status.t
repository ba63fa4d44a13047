#!/usr/bin/perl

# Tests for what an operator sees of limits, and resets; and for what a client
# sees of them by the configuration that is shipped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;
use Time::HiRes qw/ sleep /;

my $t = Test::Runcoach->new();
my $redis = $t->redis();

my $conf = <<'EOF';

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:1m;
    runcoach_redis  env:REDIS_URL  timeout=200ms;

    runcoach_limit_policy  user  rate=1r/h     burst=5    key=$arg_user;
    runcoach_limit_policy  hot   rate=100r/s   burst=200  key=$arg_user;
    runcoach_limit_policy  none  rate=env:UNSET           key=$arg_user;

    add_header  X-Status     $runcoach_limit_status     always;
    add_header  X-Remaining  $runcoach_limit_remaining  always;

    server {
        listen  127.0.0.1:8080;

        location /     { runcoach_limit user;  empty_gif; }
        location /hot  { runcoach_limit hot;   empty_gif; }

        location = /limits {
            runcoach_limit_status;
            client_max_body_size  1k;
        }

        location /inner {
            error_page  404 = /limits?policy=user&key=a;
            return      404;
        }

        location /sub {
            auth_request  /limits;
            empty_gif;
        }
    }
}

EOF

$t->write_file_expand('nginx.conf', $conf);
$t->run(env => { REDIS_URL => $redis->url() });

###############################################################################

my $r = $t->get('/limits');

is($r->status, 200, 'status');
is($r->header('Content-Type'), 'application/json', 'is JSON');
is($r->header('X-Status'), undef, 'and is not limited');

my $json = $r->json;

is($json->{redis}{breaker}, 'closed', 'no trouble');
is($json->{redis}{timeout_ms}, 200, 'timeout');
is($json->{zone}{clients}, 0, 'no clients');
is($json->{client}, undef, 'none is asked about');

get('a') for 1 .. 7;

$json = status();

like($json->{redis}{state}, qr/^(?:up|down)$/, 'connected, or not yet');
is($json->{requests}{passed}, 5, 'passed');
is($json->{requests}{rejected}, 2, 'rejected');
is($json->{requests}{redis} + $json->{requests}{bound}
   + $json->{requests}{gate}, 7, 'by whom');
is($json->{zone}{clients}, 1, 'one client');

$json = status('policy=user&key=a');

is($json->{client}{policy}, 'user', 'a client');
is($json->{client}{burst}, 5, 'burst');
is($json->{client}{edge}{remaining}, 0, 'what the edge knows');
is($json->{client}{redis}{remaining}, 0, 'what Redis knows');
cmp_ok($json->{client}{redis}{full_in_ms}, '>', 17_990_000, 'until it is full');
like($json->{client}{redis_key}, qr/^rl:\{[A-Za-z0-9_-]{22}\}:user$/, 'key');
is($redis->cmd('EXISTS', $json->{client}{redis_key}), 1, 'which it is');

$json = status('policy=user&key=nobody');

is($json->{client}{edge}, undef, 'a client who is not known');
is($json->{client}{redis}{remaining}, 5, 'has all');
ok(!$json->{client}{redis}{known}, 'and is not in Redis');
is($redis->cmd('EXISTS', $json->{client}{redis_key}), 0,
   'not even after the question');

get('a b&c');
is(status('policy=user&key=a%2520b%2526c')->{client}{redis}{remaining}, 4,
   'a key is decoded');

# a hot one, which holds a lease

$t->get('/hot?user=h') for 1 .. 60;

$json = status('policy=hot&key=h');

cmp_ok($json->{client}{edge}{leased}, '>', 0, 'leased');
cmp_ok($json->{client}{edge}{demand}, '>', 5, 'demand');

# reset

my $other = Test::Runcoach->new();

$other->{planned} = 1;
$other->write_file_expand('nginx.conf', $conf);
$other->run(env => { REDIS_URL => $redis->url() });

is(get('a')->status, 429, 'limited');
is($other->get('/?user=a')->status, 429, 'on the other edge too');

$r = $t->request('DELETE', '/limits?policy=user&key=a');

is($r->status, 200, 'reset');
ok($r->json->{client}{reset}, 'which is told');
is($r->json->{client}{redis}{remaining}, 5, 'all is there again');

for my $n (1 .. 4) {
    is(get('a')->status, 200, "not limited, by any worker, $n");
}

is($other->get('/limits?policy=user&key=a')->json->{client}{redis}{remaining},
   1, 'Redis has it so for all edges');
is($t->post('/limits?policy=user&key=a')->status, 200, 'POST does the same');
is(get('a')->header('X-Remaining'), 4, 'again');
is($t->request('DELETE', '/limits?policy=hot&key=h')->status, 200,
   'reset of a lease');
is($t->get('/hot?user=h')->status, 200, 'and on it goes');

# the other edge asks again within a second, or is told itself

ok($other->wait_for(sub { $other->get('/?user=a')->status == 200 }, 5),
   'the other edge hears of it');

get('a') for 1 .. 5;
$other->get('/?user=a') for 1 .. 2;
is($other->get('/?user=a')->status, 429, 'it is limited again');
is($other->request('DELETE', '/limits?policy=user&key=a')->status, 200,
   'reset on the other edge');
is($other->get('/?user=a')->status, 200, 'and it lets pass');

$other->stop();

# errors

is($t->request('DELETE', '/limits')->status, 400, 'reset of what');
is($t->request('DELETE', '/limits?policy=user')->status, 400, 'of whom');
is($t->request('DELETE', '/limits?policy=user&key=')->status, 400, 'of nobody');
is($t->get('/limits?policy=no&key=a')->status, 404, 'no such policy');
is($t->get('/limits?policy=no&key=a')->detail, 'no such policy', 'told');
is($t->get('/limits?policy=none&key=a')->status, 404, 'a policy that is off');
is($t->put('/limits?policy=user&key=a')->status, 405, 'method');
is($t->request('HEAD', '/limits')->body, '', 'HEAD');
is($t->post('/limits?policy=user&key=a', body => 'x' x 500)->status, 200,
   'a body is ignored');
is($t->get('/inner')->json->{client}{policy}, 'user', 'internal redirect');
isnt($t->get('/sub')->status, 200, 'no subrequests');

for (1 .. 20) {
    $t->http("GET /limits?policy=user&key=a HTTP/1.1\nHost: x\n\n",
             aborted => 1, sleep => 0);
}

is($t->get('/limits')->status, 200, 'clients that go away');

# without Redis

$redis->stop();

ok($t->wait_for(sub {
    get('x');
    status()->{redis}{breaker} eq 'open';
}), 'breaker');

$json = status('policy=user&key=x');

is($json->{client}{redis}, undef, 'Redis does not tell');
ok(defined $json->{client}{edge}, 'but the edge does');
$r = $t->request('DELETE', '/limits?policy=user&key=a');
is($r->status, 503, 'nothing is reset');
like($r->detail, qr/Redis is not available/, 'told');

# never had any

$t->stop();
$t->run(env => { REDIS_URL => '' });

get('a') for 1 .. 6;
is(get('a')->status, 429, 'local');
is(status()->{redis}, undef, 'no Redis');
is($t->request('DELETE', '/limits?policy=user&key=a')->status, 200,
   'local: reset');
is(get('a')->status, 200, 'local: which helps');

my ($status, $out) = $t->configtest(<<'EOF');

%%TEST_GLOBALS%%
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    runcoach_zone  z:1m;
    server {
        location / { runcoach_limit_status; runcoach_limit_mode on; }
    }
}
EOF

like($out, qr/invalid mode "on" in runcoach_limit_mode, must be enforce or/,
     'configuration: mode');

# what a client sees

my $app = 'https://app.runcoach.test';
my $e = Test::Runcoach->new();

$e->{planned} = 1;
$e->redis();
$e->edge(postgres => 0, env => { RATE_LIMIT_REQUESTS => 30,
    RATE_LIMIT_WINDOW => 60, RATE_LIMIT_BURST => 3, CORS_ORIGINS => $app });

my %me = (token => $e->token(), headers => { Origin => $app });
my @names = qw/ RateLimit RateLimit-Policy X-RateLimit-Limit
                X-RateLimit-Remaining X-RateLimit-Reset /;

for my $left (2, 1, 0) {
    $r = $e->get('/api/v1/me', %me);

    is($r->status, 200, "admitted, $left left");
    headers($r, $left, qr/[246]/);
    is($r->header('Retry-After'), undef, 'no Retry-After');
}

my $told = -s "$e->{dir}/nginx.out";

$r = $e->get('/api/v1/me', %me);

is($r->status, 429, 'rejected');
headers($r, 0, qr/2/);
is_deeply([ $r->headers('Retry-After') ], [ 2 ], 'Retry-After');
is_deeply([ $r->headers('Cache-Control') ], [ 'no-store' ], 'no-store');
is($r->header('Content-Type'), 'application/problem+json', 'type');
is_deeply($r->json, {
    type => 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title => 'Too Many Requests',
    status => 429,
    detail => 'Rate limit "user" exceeded; retry in 2 s.',
    'violated-policies' => [ 'user' ],
    retry_after => 2,
    request_id => $r->header('X-Request-ID'),
}, 'body');

$r = $e->request('HEAD', '/api/v1/me', %me);
is($r->status . $r->body, 429, 'HEAD: no body');

# which must not take two seconds

is($e->get('/api/v1/me', %me)->status, 429, 'again')
    for 1 .. ($ENV{RUNCOACH_SHIM} ? 1 : 5);
is(-s "$e->{dir}/nginx.out", $told, 'no line for each');

sleep(2);
is($e->get('/api/v1/me', %me)->status, 200, 'it is as it was told');

$e->stop_all();
is(join('', $e->alerts()), '', 'no alerts of the edge');

$t->done();

###############################################################################


sub headers
{
    my ($r, $left, $reset) = @_;

    my $expose = $r->header('Access-Control-Expose-Headers') // '';

    for my $name (@names, 'Retry-After') {
        like($expose, qr/(?:^|, )$name(?:,|$)/, "$name: exposed");
    }

    is(join(' ', map { scalar(@{[ $r->headers($_) ]}) } @names), '1 1 1 1 1',
       'each once');
    is($r->header('RateLimit-Policy'), '"user";q=3;w=6', 'RateLimit-Policy');
    like($r->header('RateLimit'), qr/^"user";r=$left;t=$reset$/, 'RateLimit');
    is($r->header('X-RateLimit-Limit'), 3, 'X-RateLimit-Limit');
    is($r->header('X-RateLimit-Remaining'), $left, 'X-RateLimit-Remaining');
    like($r->header('X-RateLimit-Reset'), qr/^[246]$/, 'X-RateLimit-Reset');
}


sub get { return $t->get('/?user=' . Test::Runcoach::uri_encode($_[0])) }


sub status
{
    my ($args) = @_;

    return $t->get('/limits' . ($args ? "?$args" : ''))->json;
}
