#!/usr/bin/perl

# Tests for health: alive, and what it depends on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX ();
use Test::More;
use Test::Runcoach;
use Time::HiRes ();

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => { RATE_LIMIT_BURST => 1000,
    RATE_LIMIT_PER_ADDRESS => 0,
                             RATE_LIMIT_REQUESTS => 60000 });

my $token = $t->token();

###############################################################################

for my $path ('/health', '/api/v1/health') {
    my $r = $t->get($path);

    is($r->status, 200, $path);
    is($r->json->{status}, 'healthy', "$path: status");
    ok($r->json->{version}, "$path: version");
    like($r->header('Content-Type'), qr{^application/json}, "$path: type");
    is($t->request('HEAD', $path)->status, 200, "$path: HEAD");
}

my $r = $t->get('/health/detailed');

is($r->status, 200, 'detailed');
is($r->json->{$_}, 'ok', "detailed: $_") for qw/ database redis store /;

$r = $t->get('/api/v1/upload/health');
is($r->status, 200, 'upload');
is($r->json->{status}, 'ok', 'upload: status');
ok($r->json->{r2_available}, 'upload: available');
is($r->json->{r2_bucket}, 'fit-files', 'upload: bucket');
like($r->json->{timestamp}, qr/^\d{4}-\d\d-\d\dT/, 'upload: timestamp');

$r = $t->get('/api/v1/webhooks/health');
is($r->status, 200, 'webhooks');
ok($r->json->{clerk_webhooks_enabled}, 'webhooks: enabled');

is($t->get('/nothing')->status, 404, 'nothing');
is_deeply($t->get('/nothing')->json, { detail => 'Not Found' },
          'nothing: body');

# nothing of what health says is of use to anybody else

$r = $t->get('/health/detailed');
unlike($r->raw, qr/postgresql|unix:|secret|password/i, 'detailed: no secret');

###############################################################################

# Redis is down: requests flow, the limits are local; sessions are 503, not 401

my $cookie = $t->session(42);

$t->{redis}->kill();

$r = $t->get('/api/v1/me', token => $token);
is($r->status, 200, 'no Redis: token');
ok(defined $r->header('X-RateLimit-Remaining'), 'no Redis: still limited');

$r = $t->get('/api/v1/me', cookie => $cookie);
is($r->status, 503, 'no Redis: session');
like($r->header('Retry-After') // '', qr/^\d+$/, 'no Redis: Retry-After');
is($r->header('WWW-Authenticate'), undef, 'no Redis: no challenge');

is($t->get('/health')->status, 200, 'no Redis: alive');
ok(detailed(redis => 'error'), 'no Redis: detailed says so');
is($t->post('/api/v1/upload/url', token => $token, json => {})->status, 200,
   'no Redis: upload URL');

$t->{redis}->start();

ok($t->wait_for(sub {
    return $t->get('/api/v1/me', cookie => $cookie)->status == 200;
}, 3), 'Redis is back: session');
ok(detailed(redis => 'ok'), 'Redis is back: detailed');

# Redis stands still: nobody waits for it long, and a session of which no worker
# has heard is not known

$cookie = $t->session(43);
$t->{redis}->kill('STOP');

my $start = Time::HiRes::time();

is($t->get('/api/v1/me', token => $token)->status, 200, 'silent Redis: token');
cmp_ok(Time::HiRes::time() - $start, '<', 1, 'silent Redis: at once');
is($t->get('/api/v1/me', cookie => $cookie)->status, 503,
   'silent Redis: session');

$t->{redis}->kill('CONT');

# the database is down

$t->{postgres}->kill();

is($t->get('/health')->status, 200, 'no database: alive');
ok(detailed(database => 'error'), 'no database: detailed');
$r = $t->get('/health/detailed');
is($r->status, 503, 'no database: detailed');
is($r->json->{database}, 'error', 'no database: detailed says so');
is($t->get('/api/v1/me', token => $token)->status, 200,
   'no database: requests flow');
is($t->post('/api/v1/upload/url', token => $token, json => {})->status, 200,
   'no database: upload URL');

$r = $t->get('/api/v1/upload/stats', token => $token);
is($r->status, 503, 'no database: stats');
like($r->header('Retry-After') // '', qr/^\d+$/, 'no database: Retry-After');

$t->{postgres}->start();

ok($t->wait_for(sub {
    return $t->get('/health/detailed')->status == 200;
}, 10), 'database is back');

# the sidecar is down

$t->stop_process($t->{serve}, 'KILL');

for my $path ('/health', '/api/v1/upload/stats') {
    my $r = $t->get($path, token => $token);

    is($r->status, 503, "no sidecar: $path");
    like($r->header('Retry-After') // '', qr/^\d+$/,
         "no sidecar: $path, Retry-After");
    ok($r->detail, "no sidecar: $path, detail");
}

is($t->get('/api/v1/me', token => $token)->status, 200,
   'no sidecar: requests flow');

$t->{serve} = $t->sidecar(['serve']);

is($t->get('/health')->status, 200, 'sidecar is back');

# it ends by itself when told to

is($t->stop_process($t->{serve}, 'TERM') // 'killed', 0, 'sidecar: TERM');

$t->{serve} = $t->sidecar(['serve']);

is($t->stop_process($t->{serve}, 'INT') // 'killed', 0, 'sidecar: INT');

# many may ask, one looks: a store that is slow holds nobody up

my $slow = $t->http_daemon(sub {
    sleep(1);
    return [404, {}, ''];
}, port => 8098);

$t->{serve} = $t->sidecar(['serve'],
                          { R2_ENDPOINT_URL => 'http://' . $t->host(8098) });

$start = Time::HiRes::time();

my @many = map { $t->request_start('GET', '/health/detailed') } 1 .. 40;
my %got;

is($t->get('/api/v1/upload/stats', token => $token)->status, 200,
   'slow store: stats');
cmp_ok(Time::HiRes::time() - $start, '<', 0.9, 'slow store: nobody waits');

$got{$t->request_end($_)->status}++ for @many;

is($got{200}, 1, 'slow store: one looks');
is($got{503}, 39, 'slow store: the others come again');

is($t->get('/health/detailed')->json->{store}, 'ok', 'slow store: seen');
cmp_ok(Time::HiRes::time() - $start, '<', 1.9, 'slow store: once');

# what has waited for too long is not begun: who asked comes again

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve'], { SIDECAR_THREADS => 1,
                                       SIDECAR_STATEMENT_TIMEOUT => 13 });

my $pid = fork();

if (!$pid) {
    $t->sql('BEGIN; LOCK users; SELECT pg_sleep(16); COMMIT');
    POSIX::_exit(0);
}

$t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM pg_locks WHERE granted"
                   . " AND mode = 'AccessExclusiveLock'") > 0;
}, 5);

$start = Time::HiRes::time();

@many = map { $t->request_start('GET', '/api/v1/upload/stats',
                                token => $token) } 1 .. 3;

is(join(' ', map { $t->request_end($_, timeout => 20)->status } @many),
   '503 503 503', 'long queue: all are told to come again');
cmp_ok(Time::HiRes::time() - $start, '<', 15, 'long queue: at once');
is(() = $t->read_file('sidecar-serve.out') =~ /reason=waited/g, 2,
   'long queue: two were not begun');

waitpid($pid, 0);

is($t->get('/api/v1/upload/stats', token => $token)->status, 200,
   'long queue: over');

$t->done();

###############################################################################

# what was seen is told for five seconds

sub detailed
{
    my ($name, $value) = @_;

    return $t->wait_for(sub {
        return $t->get('/health/detailed')->json->{$name} eq $value;
    }, 6);
}

###############################################################################
