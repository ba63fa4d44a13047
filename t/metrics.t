#!/usr/bin/perl

# Tests for what operators see of the edge: metrics and the debug ring.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();
my $redis = $t->redis();
my $issuer = $t->issuer();

my $conf = <<'EOF';

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone        runcoach:4m;
    runcoach_redis       env:REDIS_URL  timeout=200ms;
    runcoach_debug_ring  on  slow=300ms;

    runcoach_issuer  clerk  issuer=%%ISSUER%%  jwks=/_jwks  jwks_url=%%JWKS%%;
    runcoach_issuer  "we\"i\\rd"  issuer=odd  user=internal
                     secret=0123456789012345678901234567890123456789;

    runcoach_limit_policy  user    rate=1r/h  burst=3  key=$arg_user;
    runcoach_limit_policy  closed  rate=1r/h  burst=3  key=$arg_user
                           failure=closed;

    runcoach_store  r2  endpoint=http://127.0.0.1:8080  bucket=fit-files
                        access_key=local  secret_key=secret;

    server {
        listen  127.0.0.1:8080;

        location /        { empty_gif; }
        location /auth    { runcoach_auth clerk session;   empty_gif; }
        location /odd     { runcoach_auth "we\"i\\rd";     empty_gif; }
        location /maybe   { runcoach_auth clerk optional;  empty_gif; }
        location /limit   { runcoach_limit user;           empty_gif; }
        location /closed  { runcoach_limit closed;         empty_gif; }
        location /silent  { runcoach_count off;            empty_gif; }

        location /put {
            runcoach_presign  r2  PUT  "users/$runcoach_object.fit";
        }

        location /get {
            runcoach_presign  r2  GET  "users/$runcoach_object.fit"
                              object=$arg_id;
        }

        location /fit-files/ {
            root  %%TESTDIR%%;
            runcoach_presign_verify  r2;
        }

        location /app   { proxy_pass  http://127.0.0.1:8082; }
        location /down  { proxy_pass  http://127.0.0.1:8083; }

        location /named { error_page  404  @named;  return  404; }
        location @named { return  404; }

        location /_jwks {
            internal;
            proxy_pass  $runcoach_jwks_url;
        }

        location = /included { ssi on;  ssi_types *;  root %%TESTDIR%%; }
        location = /metrics  { runcoach_metrics;  runcoach_count off; }
        location = /logs     { runcoach_debug  logs; }
        location = /errors   { runcoach_debug  errors; }
        location = /timing   { runcoach_debug  timing; }
        location = /clear    { runcoach_debug  clear; }
    }
}

EOF

$conf =~ s/%%ISSUER%%/$issuer->{iss}/;
$conf =~ s/%%JWKS%%/$issuer->{url}/;

$t->port(8083);

$t->http_daemon(sub {
    my ($r) = @_;

    sleep(0.35) if $r->{target} =~ /wait/;

    return [418, {}, 'tea'] if $r->{target} =~ /tea/;
    return [500, {}, 'no'] if $r->{target} =~ /500/;
    return [200, {}, 'ok'];
}, port => 8082);

$t->write_file_expand('nginx.conf', $conf);
$t->run(env => { REDIS_URL => $redis->url() });

###############################################################################

# the text

my $r = $t->get('/metrics');

is($r->status, 200, 'metrics');
is($r->header('Content-Type'), 'text/plain; version=0.0.4; charset=utf-8',
   'type');
is($r->header('Cache-Control'), 'no-store', 'no-store');

my %families = well_formed($r->body);

is($t->request('HEAD', '/metrics')->status, 200, 'HEAD');
is($t->request('HEAD', '/metrics')->body, '', 'without a body');
is($t->post('/metrics', body => 'x')->status, 405, 'POST');
is($t->post('/metrics')->header('Allow'), 'GET, HEAD', 'Allow');

like($r->body, qr/^runcoach_build_info\{version="\d+\.\d+\.\d+",
                  nginx="\d+\.\d+\.\d+"\}\ 1$/mx, 'build');

# each thing counts where it belongs, and nowhere else

counts('a request', sub { is($t->get('/x')->status, 200, 'request') },
       'runcoach_requests_total{status="2xx"}' => 1,
       'runcoach_request_seconds_count' => 1);

counts('not counted', sub { $t->get('/silent') });

my $token = $t->token();

counts('accepted', sub {
    is($t->get('/auth', token => $token)->status, 200, 'token') for 1 .. 3;
}, 'runcoach_requests_total{status="2xx"}' => 3,
   'runcoach_request_seconds_count' => 3,
   'runcoach_auth_accepted_total{method="clerk"}' => 3);

$redis->cmd('SET', 'session:' . 'a' x 32, '{"user_id":7}');

counts('by a session', sub {
    is($t->get('/auth', cookie => 'session_id=' . 'a' x 32)->status, 200,
       'session');
}, 'runcoach_requests_total{status="2xx"}' => 1,
   'runcoach_request_seconds_count' => 1,
   'runcoach_redis_calls_total' => 1,
   'runcoach_redis_connections_total' => 'any',
   'runcoach_auth_accepted_total{method="session"}' => 1);

counts('by an issuer with a strange name', sub {
    is($t->get('/odd', token => $t->token(iss => 'odd', sub => '5',
               alg => 'HS256', kid => undef,
               secret => '0123456789012345678901234567890123456789'))->status,
       200, 'odd');
}, 'runcoach_requests_total{status="2xx"}' => 1,
   'runcoach_request_seconds_count' => 1,
   'runcoach_auth_accepted_total{method="we\"i\\\\rd"}' => 1);

counts('refused', sub {
    is($t->get('/auth')->status, 401, 'nobody');
    is($t->get('/auth', token => $t->token(exp => time() - 60))->status, 401,
       'expired');
}, 'runcoach_requests_total{status="4xx"}' => 2,
   'runcoach_request_seconds_count' => 2,
   'runcoach_auth_refused_total{reason="credentials-missing"}' => 1,
   'runcoach_auth_refused_total{reason="token-expired"}' => 1);

counts('anonymous', sub { $t->get('/maybe') },
       'runcoach_requests_total{status="2xx"}' => 1,
       'runcoach_request_seconds_count' => 1,
       'runcoach_auth_anonymous_total' => 1);

my $limited = sub {
    $t->get('/limit?user=' . $_[0]) for 1 .. 5;
};

my %before = %{settled()};

$limited->('a');

my %after = %{settled()};
my ($passed, $rejected) = (0, 0);

for my $name (grep { /^runcoach_limit_requests_total/ } keys %after) {
    my $n = $after{$name} - ($before{$name} // 0);

    $passed += $n if $name =~ /status="passed"/;
    $rejected += $n if $name =~ /status="rejected"/;
}

is("$passed $rejected", '3 2', 'passed and rejected');
is($after{'runcoach_limit_decisions_total{result="rejected"}'}, 2,
   "the limiter's own counters");
is($after{runcoach_limit_clients}, 1, 'clients');
cmp_ok($after{runcoach_limit_calls_total}, '>', 0, 'calls of the script');
is($after{runcoach_redis_breaker_open}, 0, 'the breaker');
is($after{runcoach_zone_bytes}, 4 * 1024 * 1024, 'size of the zone');
cmp_ok($after{runcoach_zone_free_bytes}, '<', 4 * 1024 * 1024, 'free');

counts('signed', sub {
    is($t->post('/put', json => {})->status, 200, 'PUT');
    is($t->post('/put', json => { uploads => [{}, {}, {}] })->status, 200,
       'a list');
    is($t->get('/get?id=5')->status, 200, 'GET');
    is($t->post('/put', json => { file_size => -1 })->status, 422, 'a mistake');
    is($t->post('/put', json => { uploads => [{}, { file_size => 'x' }] })
         ->status, 422, 'a mistake in a list');
}, 'runcoach_requests_total{status="2xx"}' => 3,
   'runcoach_requests_total{status="4xx"}' => 2,
   'runcoach_request_seconds_count' => 5,
   'runcoach_presigned_urls_total{method="PUT"}' => 4,
   'runcoach_presigned_urls_total{method="GET"}' => 1);

counts('of an upstream', sub {
    is($t->get('/app')->status, 200, 'upstream');
    is($t->get('/app/wait')->status, 200, 'slow');
}, 'runcoach_requests_total{status="2xx"}' => 2,
   'runcoach_request_seconds_count' => 2,
   'runcoach_upstream_seconds_count' => 2);

%after = metrics();

cmp_ok($after{'runcoach_upstream_seconds_bucket{le="0.25"}'}, '<=', 1,
       'the slow one is not among the fast');
cmp_ok($after{runcoach_upstream_seconds_sum}, '>=', 0.34, 'the sum');

# what nobody can fill: a thousand wrong tokens make no thousand names

my $lines = () = $t->get('/metrics')->body =~ /\n/g;

$t->get("/auth?x=$_", token => "a.b.$_") for 1 .. 50;

cmp_ok((() = $t->get('/metrics')->body =~ /\n/g) - $lines, '<=', 2,
       'labels are bounded');

# counters only go up, also over a reload

%before = %{settled()};
$t->reload();
%after = metrics();

is_deeply([ grep { /_total|_count|_bucket/
                   && ($after{$_} // -1) < $before{$_} } sort keys %before ],
          [], 'a reload keeps all');

# workers that come and go, and one that is killed, lose and double nothing

%before = %{settled()};

for my $round (1 .. 5) {
    $t->get('/x') for 1 .. 10;
    kill('HUP', $t->{nginx}{pid});
    $t->get('/x') for 1 .. 10;
}

$t->reload();
settled();

for my $round (1 .. 10) {
    my %old = map { $_ => 1 } $t->workers();
    my ($pid) = keys %old;

    kill('KILL', $pid);
    $t->wait_for(sub {
        my @now = $t->workers();

        return @now == 2 && !grep { $_ == $pid } @now;
    });

    $t->get('/x') for 1 .. 10;
    settled();
}

%after = %{settled()};

is($after{'runcoach_requests_total{status="2xx"}'}
   - $before{'runcoach_requests_total{status="2xx"}'}, 200,
   'each request is counted once, by whomever');
$t->allow_alert(qr/worker process \d+ exited on signal 9/);

# within another answer it is a part of it

$t->write_file('included', '<!--#include virtual="/timing" -->END');

for (1 .. 2) {
    my @answers = split(/(?=HTTP\/1\.1 )/, $t->http(<<'END'));
GET /included HTTP/1.1
Host: localhost

GET /included HTTP/1.1
Host: localhost
Connection: close

END

    is(scalar(@answers), 2, 'included: two answers');
    like($_, qr/\r\n0\r\n\r\n\z/, 'included: its end is that of the answer')
        for @answers;
    like($_, qr/END/, 'included: all of it') for @answers;
}

###############################################################################

# the ring

is($t->get('/clear')->status, 405, 'clear by GET');
is($t->get('/clear')->header('Allow'), 'POST', 'Allow');
$r = $t->post('/clear', body => 'ignored');
is($r->status . $r->body, '200{"status":"cleared"}', 'clear');

$r = $t->get('/logs');

is($r->header('Content-Type'), 'application/json', 'type');
is($r->header('Cache-Control'), 'no-store', 'no-store');
is_deeply($r->json, { logs => [], total_logs => 0, total_errors => 0 },
          'nothing, and who reads is not written down');
is_deeply($t->get('/errors')->json, { errors => [], total_errors => 0 },
          'no errors');
is_deeply($t->get('/timing')->json, {}, 'no timings');
is($t->post('/logs')->status, 405, 'POST');
is($t->request('HEAD', '/errors')->status, 200, 'HEAD');

my $secret = 'SECRETvalue';

$t->get("/auth/path?token=$secret&x=1", token => "$secret.$secret.$secret",
        cookie => "session_id=$secret", headers => { 'X-Y' => $secret });

my $entry = last_log('/auth/path');

is(join(' ', sort keys %$entry), 'component context level message timestamp',
   'the members of an entry');
like($entry->{timestamp},
     qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/, 'timestamp');
is($entry->{level}, 'WARNING', 'level');
is($entry->{component}, 'auth', 'component');
is($entry->{message}, 'credentials refused', 'message');
is($entry->{context}{path}, '/auth/path', 'path, without the query');
is($entry->{context}{method}, 'GET', 'method');
is($entry->{context}{status}, 401, 'status');
is($entry->{context}{reason}, 'session-id-malformed', 'reason');
like($entry->{context}{request_id}, qr/^[0-9a-f]{32}$/, 'id');
unlike($t->get('/logs')->body, qr/SECRET/, 'no secret');

for my $case (

    # request, component, level, message, the rest of the context

    [ [ GET => '/auth' ], 'auth', 'WARNING', 'no credentials',
      reason => 'credentials-missing' ],
    [ [ GET => '/limit?user=a' ], 'limit', 'WARNING', 'rate limit exceeded',
      policy => 'user', status => 429 ],
    [ [ POST => '/put', body => '{' ], 'presign', 'WARNING',
      'no URL was signed', status => 422, method => 'POST' ],
    [ [ GET => '/fit-files/users/7/1.fit' ], 'store', 'WARNING',
      'the local store refused', reason => 'AccessDenied', status => 403 ],
    [ [ GET => '/app/tea' ], 'upstream', 'WARNING',
      'the upstream answered an error', upstream_status => 418 ],
    [ [ GET => '/app/500' ], 'upstream', 'ERROR',
      'the upstream answered an error', upstream_status => 500 ],
    [ [ GET => '/down' ], 'upstream', 'ERROR', 'no answer from the upstream',
      upstream_status => 502, status => 502 ],
    [ [ DELETE => '/named' ], 'http', 'WARNING', 'request refused',
      method => 'DELETE', path => '/named', status => 404 ],
    [ [ GET => '/app/wait' ], 'performance', 'WARNING', 'slow request',
      status => 200 ],
    [ [ GET => '/down/bob@example.com/x' ], 'upstream', 'ERROR',
      'no answer from the upstream', path => '/down/*/x' ],
    [ [ GET => '/down/bob%40example.com' ], 'upstream', 'ERROR',
      'no answer from the upstream', path => '/down/*' ],
    [ [ GET => '/down/' . 'a' x 16 . '/' . 'a' x 17 . '/b' ], 'upstream',
      'ERROR', 'no answer from the upstream',
      path => '/down/' . 'a' x 16 . '/*/b' ],
    [ [ GET => "/down/\"\\\xc3\xa9" ], 'upstream', 'ERROR',
      'no answer from the upstream', path => '/down/"\??' ],
    [ [ GET => '/down' . '/0123456789' x 40 ], 'upstream', 'ERROR',
      'no answer from the upstream',
      path => substr('/down' . '/0123456789' x 40, 0, 128) ])
{
    my ($request, $component, $level, $message, %context) = @$case;

    $t->request(@$request);

    $entry = last_log($context{path} // $request->[1] =~ s/\?.*//r,
                      $component eq 'performance' ? $component : undef);

    my $name = "$request->[1]: " =~ s/[^ -~]/?/gr;

    is("$entry->{component} $entry->{level} $entry->{message}",
       "$component $level $message", "$name $message");
    is($entry->{context}{$_}, $context{$_}, "$name $_") for sort keys %context;
    is(defined $entry->{error}, $level eq 'ERROR', "$name error");
}

my $all = $t->get('/logs?limit=1000')->json;
my $errors = $t->get('/errors')->json;

is($all->{total_logs}, scalar(@{$all->{logs}}), 'total');
is($all->{total_errors}, $errors->{total_errors}, 'total of errors');
is_deeply([ grep { $_->{level} eq 'ERROR' } @{$all->{logs}} ],
          $errors->{errors}, 'errors are those of the logs');
is_deeply([ sort map { $_->{timestamp} } @{$all->{logs}} ],
          [ map { $_->{timestamp} } @{$all->{logs}} ], 'the oldest first');

# filters

is_deeply($t->get('/logs?component=upstream')->json->{logs},
          [ grep { $_->{component} eq 'upstream' } @{$all->{logs}} ],
          'component');
is_deeply($t->get('/logs?level=error')->json->{logs}, $errors->{errors},
          'level');
is_deeply($t->get('/logs?limit=2&level=ERROR')->json->{logs},
          [ @{$errors->{errors}}[-2, -1] ], 'the last two');
is_deeply($t->get('/logs?component=nothing')->json->{logs}, [],
          'no such component');
is(scalar(@{$t->get('/errors?limit=1')->json->{errors}}), 1, 'limit');
is(scalar(@{$t->get('/logs?limit=1')->json->{logs}}), 1, 'the least');
is($t->get('/logs?limit=1000')->status, 200, 'the most');
is($t->get('/errors?limit=100')->status, 200, 'the most errors');

for my $case ([ '/logs?limit=0', 'greater_than_equal', qr/equal to 1$/ ],
              [ '/logs?limit=-3', 'greater_than_equal', qr/equal to 1$/ ],
              [ '/logs?limit=1001', 'less_than_equal', qr/equal to 1000$/ ],
              [ '/errors?limit=101', 'less_than_equal', qr/equal to 100$/ ],
              [ '/logs?limit=99999999999999999999', 'less_than_equal',
                qr/1000$/ ],
              [ '/logs?limit=', 'int_parsing', qr/valid integer/ ],
              [ '/logs?limit=-', 'int_parsing', qr/valid integer/ ],
              [ '/logs?limit=1.5', 'int_parsing', qr/valid integer/ ],
              [ '/logs?limit=0x10', 'int_parsing', qr/valid integer/ ],
              [ '/logs?limit=ten', 'int_parsing', qr/valid integer/ ],
              [ '/logs?limit=5&limit=6', 'int_parsing', qr/valid integer/ ],
              [ '/logs?level=a&level=b', 'value_error', qr/twice/ ],
              [ '/timing?operation=a&operation=b', 'value_error', qr/twice/ ])
{
    my ($target, $type, $msg) = @$case;

    $r = $t->get($target);
    is($r->status, 422, "$target: 422");

    my ($fault, @more) = @{$r->json->{detail}};

    is(join(' ', sort keys %$fault), 'loc msg type', "$target: the shape");
    is($fault->{loc}[0], 'query', "$target: loc");
    is($fault->{type}, $type, "$target: type");
    like($fault->{msg}, $msg, "$target: msg");
    is(scalar(@more), 0, "$target: one fault");
}

# timings

$t->post('/clear');
$t->get('/x') for 1 .. 30;
$t->get('/app') for 1 .. 3;
$t->get('/app/wait');
$t->post('/put', json => {});

my $timing;

$t->wait_for(sub {
    $timing = $t->get('/timing')->json;

    return $timing->{request}{count} == 35 && $timing->{presign};
}, 2);

is(join(' ', sort keys %$timing),
   'presign request upstream upstream_connect upstream_header', 'operations');
is(join(' ', sort keys %{$timing->{request}}),
   'avg_ms count max_ms min_ms p50_ms p95_ms', 'the members');
is($timing->{request}{count}, 35, 'all requests');
is($timing->{upstream}{count}, 4, 'those of an upstream');
cmp_ok($timing->{upstream}{p95_ms}, '==', $timing->{upstream}{max_ms},
       'of a few, the 95th percentile is the largest');
cmp_ok($timing->{upstream}{max_ms}, '>=', 340, 'the largest');
cmp_ok($timing->{request}{p95_ms}, '<', 340, 'of many it is not');
cmp_ok($timing->{upstream}{avg_ms}, '>', 0, 'average');
is_deeply([ keys %{$t->get('/timing?operation=upstream')->json} ],
          ['upstream'], 'one of them');
is_deeply($t->get('/timing?operation=no')->json, {}, 'none');

# the ring is one, and keeps the last ones

$t->post('/clear');

for my $first (1, 551) {
    $t->http(join('', map { "GET /auth/$_ HTTP/1.1\nHost: x\n"
                            . ($_ % 550 ? '' : "Connection: close\n") . "\n" }
                      $first .. $first + 549));
}

last_log('/auth/1100');

$all = $t->get('/logs?limit=1000')->json;

is($all->{total_logs}, 1000, 'a thousand');
is(scalar(@{$all->{logs}}), 1000, 'all are there');
is_deeply([ map { $_->{context}{path} } @{$all->{logs}}[0, 999] ],
          [ '/auth/101', '/auth/1100' ], 'the last thousand');

$t->post('/clear');
$t->get("/down/$_") for 1 .. 110;
last_log('/down/110');

$errors = $t->get('/errors?limit=100')->json;
is($errors->{total_errors}, 100, 'a hundred errors');
is(scalar(@{$errors->{errors}}), 100, 'all are there');

# both workers write, while others read

$t->post('/clear');

my @clients = map {
    $t->http_start(("GET /auth HTTP/1.1\nHost: x\n\n" x 299)
                   . "GET /auth HTTP/1.1\nHost: x\nConnection: close\n\n")
} 1 .. 8;

my %read;

for (1 .. 20) {
    my $json = eval { $t->get('/logs?limit=1000')->json };

    $read{$json ? '' : 'no JSON'}++;
    $read{"$_->{component} $_->{message} $_->{context}{path}"}++
        for @{$json->{logs} || []};
}

$t->http_end($_) for @clients;

# on a busy machine they may be slow

delete @read{'', 'performance slow request /auth'};

is(join(', ', keys %read), 'auth no credentials /auth',
   'what is read is what was written');
ok($t->wait_for(sub { $t->get('/logs')->json->{total_logs} == 1000 }),
   'and full it is');

# Redis goes away, and comes back

$t->post('/clear');
%before = metrics();
$redis->stop();

ok($t->wait_for(sub {
    $t->get('/closed?user=z');

    return grep { $_->{component} eq 'redis' && $_->{level} eq 'ERROR' }
                @{$t->get('/errors')->json->{errors}};
}), 'Redis went away');

%after = metrics();

my ($away) = grep { $_->{component} eq 'redis' }
                  @{$t->get('/errors')->json->{errors}};

is($away->{message}, 'Redis is unavailable', 'told');
like($away->{error}, qr/\w/, 'and why');
is($away->{context}{status}, undef, 'it is about no request');
is((grep { $_->{component} eq 'limit' }
         @{$t->get('/errors')->json->{errors}})[0]{message},
   'rate limit could not be checked', 'what came of it');
cmp_ok($after{runcoach_redis_failures_total}, '>',
       $before{runcoach_redis_failures_total}, 'failures are counted');
ok($t->wait_for(sub {
    $t->get('/closed?user=z');
    my %now = metrics();

    return $now{runcoach_redis_breaker_open} == 1
           && $now{runcoach_redis_calls_refused_total}
              > $before{runcoach_redis_calls_refused_total};
}), 'the breaker is open');
is($t->get('/auth', cookie => 'session_id=' . 'b' x 32)->status, 503,
   'a session cannot be looked up');
is(last_log('/auth')->{message}, 'credentials could not be checked', 'told');

$redis->start();

ok($t->wait_for(sub {
    $t->get('/limit?user=back');

    return grep { $_->{message} eq 'Redis is back' }
                @{$t->get('/logs?level=INFO')->json->{logs}};
}), 'Redis is back');

# clients that go away

$t->http("GET /app/wait HTTP/1.1\nHost: x\n\n", aborted => 1, sleep => 0.1);
is(last_log('/app/wait')->{message}, 'the client left before the answer',
   'a client that left');

# nonsense

$t->http("\x00\x01\n\n");
$t->http("GET http://[ HTTP/1.1\n\n");
is($t->get('/logs?limit=1000')->status, 200, 'requests that are none');
ok($t->get('/logs?limit=1000')->json, 'are still JSON');

$t->stop();

###############################################################################

# the ring alone, and neither

$conf =~ s/^.*runcoach_metrics;.*\n//m;
$t->write_file_expand('nginx.conf', $conf);
$t->run(env => { REDIS_URL => $redis->url() });

$t->get('/auth');
is(last_log('/auth')->{message}, 'no credentials', 'a ring without metrics');

$conf =~ s/runcoach_debug_ring  on.*/runcoach_debug_ring  off;/;
$t->write_file_expand('nginx.conf', $conf);
$t->reload();

is($t->get('/logs')->status, 404, 'off: there is nothing');
is($t->post('/clear')->status, 404, 'off: to clear');

for my $case ([ 'runcoach_debug_ring maybe;', '', qr/"maybe".*on or off/ ],
              [ 'runcoach_debug_ring on slow=0;', '', qr/"0".*like 1s/ ],
              [ 'runcoach_debug_ring on slow=x;', '', qr/"x".*like 1s/ ],
              [ 'runcoach_debug_ring on fast=1s;', '', qr/"fast="/ ],
              [ 'runcoach_debug_ring on; runcoach_debug_ring on;', '',
                qr/duplicate/ ],
              [ '', 'runcoach_debug logs;', qr/runcoach_debug_ring on/ ],
              [ '', 'runcoach_debug all;',
                qr/"all".*logs, errors, timing or clear/ ],
              [ '', 'runcoach_metrics; runcoach_metrics;', qr/duplicate/ ])
{
    my ($http, $location, $re) = @$case;
    my ($status, $out) = configtest("runcoach_zone z:1m; $http", $location);

    isnt($status, 0, "$http$location: refused");
    like($out, $re, "$http$location: and why");
}

like((configtest('', 'runcoach_metrics;'))[1],
     qr/runcoach_metrics needs shared memory, add "runcoach_zone/,
     'metrics without a zone');
like((configtest('runcoach_debug_ring on;', ''))[1],
     qr/runcoach_debug_ring needs shared memory, add "runcoach_zone/,
     'a ring without a zone');

$t->done();

###############################################################################

sub configtest
{
    my ($http, $location) = @_;

    return $t->configtest(<<"EOT");
%%TEST_GLOBALS%%
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    $http
    server {
        location / { $location }
    }
}
EOT
}


# the last entry, which has to be of this path

sub last_log
{
    my ($path, $component) = @_;

    my $entry;

    # on a busy machine anything may be slow too, and is then told after it

    $t->wait_for(sub {
        ($entry) = reverse grep { $component
                                  ? $_->{component} eq $component
                                  : $_->{component} ne 'performance' }
                                @{$t->get('/logs?limit=2')->json->{logs}};

        return $entry && ($entry->{context}{path} // '') eq $path;
    }, 2);

    return $entry || {};
}


sub metrics
{
    my %metrics;

    for my $line (split(/\n/, $t->get('/metrics')->body)) {
        $metrics{$1} = $2 if $line =~ /^([^#]\S*(?:\{.*\})?) (\S+)$/;
    }

    return %metrics;
}


# What changed by the code.  A request is counted after its answer has left.

sub counts
{
    my ($name, $code, %expected) = @_;

    my $before = settled();
    my $changed;

    $code->();

    $t->wait_for(sub {
        my %after = metrics();

        $changed = {};

        for my $key (keys %after) {
            next if $key =~ /_bucket|_sum|^runcoach_zone|_connected/
                    && !exists $expected{$key};

            my $n = $after{$key} - ($before->{$key} // 0);

            $n = 'any' if ($expected{$key} // '') eq 'any';
            $changed->{$key} = $n if $n;
        }

        return same($changed, \%expected);
    }, 2);

    is_deeply($changed, \%expected, $name);
}


sub same
{
    my ($one, $two) = @_;

    return join(' ', map { "$_ $one->{$_}" } sort keys %$one)
           eq join(' ', map { "$_ $two->{$_}" } sort keys %$two);
}


# when nothing is on its way any more

sub settled
{
    my ($before, $now) = ({}, { metrics() });

    until (same($before, $now)) {
        sleep(0.02);
        ($before, $now) = ($now, { metrics() });
    }

    return $now;
}


# the rules of the format: every sample has a family before it, once

sub well_formed
{
    my ($text) = @_;

    my (%family, %seen, @faults, $current);

    push @faults, 'no line feed at the end' unless $text =~ /\n\z/;

    for my $line (split(/\n/, $text)) {

        if ($line =~ /^# HELP (\w+) \S.*$/) {
            push @faults, "twice: $1" if $family{$1};
            $current = $1;
            $family{$1} = '?';
            next;
        }

        if (my ($name, $type) =
                $line =~ /^# TYPE (\w+) (counter|gauge|histogram)$/)
        {
            push @faults, "no HELP: $line" unless $name eq $current;
            push @faults, "a counter without _total: $name"
                if $type eq 'counter' && $name !~ /_total$/;
            $family{$name} = $type;
            next;
        }

        my ($name, $labels, $value) =
            $line =~ /^(\w+)(\{(?:\w+="(?:[^"\\]|\\["\\n])*",?)*\})? (\d[\d.]*)$/
            or push(@faults, "what is this: $line"), next;

        push @faults, "twice: $name$labels"
            if $labels && $seen{"$name$labels"}++;

        $name =~ s/_(?:bucket|sum|count)$//
            if $family{$current} eq 'histogram';

        push @faults, "no family: $line" unless $name eq $current;
    }

    is(join("\n", @faults), '', 'the text is well formed');

    return %family;
}

###############################################################################
