#!/usr/bin/perl

# Tests for reload and stop under load: nothing in flight is lost, the old
# workers go, and state in shared memory survives.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();

$t->redis();

my $jwks = $t->jwks('issuer');
my $slow = $t->http_daemon(sub { sleep(0.5); return [200, {}, '{}'] },
                           port => 8092, name => 'slow');
my $keys = $t->http_daemon(sub {
    my ($request) = @_;

    sleep(0.6) if $request->{target} =~ /slow/;

    return [200, {}, $jwks];
}, port => 8091, name => 'keys');

my $conf = <<'EOF';

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:%%ZONE%%;
    runcoach_redis  %%REDIS_URL%%  timeout=500ms;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;
    runcoach_issuer  late   issuer=https://late.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/slow;

    runcoach_limit_policy  user  rate=50000r/s  burst=50000  key=$runcoach_user;
    runcoach_limit_policy  few   rate=1r/h      burst=3      key=$runcoach_user;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        add_header  X-User       $runcoach_user             always;
        add_header  X-Limit      $runcoach_limit_status     always;
        add_header  X-Source     $runcoach_limit_source     always;
        add_header  X-Remaining  $runcoach_limit_remaining  always;
        add_header  X-Conf       %%ROUND%%                  always;

        location / {
            runcoach_auth   clerk session;
            runcoach_limit  user;
            empty_gif;
        }

        location /few {
            runcoach_auth   clerk;
            runcoach_limit  few;
            empty_gif;
        }

        location /late {
            runcoach_auth  late;
            empty_gif;
        }

        location /slow {
            runcoach_auth  clerk;
            proxy_pass     http://127.0.0.1:8092;
        }

        location /_jwks {
            internal;
            proxy_pass                  $runcoach_jwks_url;
            proxy_pass_request_headers  off;
            proxy_pass_request_body     off;
        }
    }
}

EOF

$t->set(ZONE => '4m');
$t->set(ROUND => 'one');
$t->write_file_expand('nginx.conf', $conf);
$t->run();

###############################################################################

my $token = $t->token();
my $late = $t->token(iss => 'https://late.runcoach.test');
my $cookie = $t->session(42);

is($t->get('/', token => $token)->status, 200, 'before');

# In flight while the configuration changes: an upstream that takes its time,
# a fetch of keys, and a request which has not been sent whole.

my @slow = map { $t->request_start('GET', '/slow', token => $token) } 1 .. 4;
my @late = map { $t->request_start('GET', '/late', token => $late) } 1 .. 4;
my $half = $t->http_start("GET / HTTP/1.0\r\n");

sleep(0.2);

$t->set(ROUND => 'two');
$t->write_file_expand('nginx.conf', $conf);

ok($t->reload(), 'reload');

is($t->get('/', token => $token)->header('X-Conf'), 'two',
   'the new configuration');
is(join(' ', map { $t->request_end($_)->status } @slow), '200 200 200 200',
   'in flight: upstream');
is(join(' ', map { $t->request_end($_)->status } @late), '200 200 200 200',
   'in flight: keys');

Test::Runcoach::send_all($half, "Authorization: Bearer $token\r\n\r\n");
is($t->request_end($half)->status, 200, 'in flight: half a request');

ok($t->wait_for(sub {
    return $t->children($t->{nginx}{pid}) == 2;
}), 'old workers are gone');

# A load while it is reloaded again and again: each request is answered.

my $load = 4;
my $wanted = $ENV{RUNCOACH_SOAK} ? 100 : 10;
my $stop = $t->dir() . '/load.stop';
my @pids;

for my $n (1 .. $load) {
    my $pid = fork();

    if (!$pid) {
        my $bad = 0;
        my $all = 0;

        while (!-e $stop) {
            my $r = $t->get('/', $n % 2 ? (token => $token)
                                        : (cookie => $cookie));

            $bad++ if $r->status != 200;
            $all++;
        }

        $t->write_file("load.$n", "$all $bad");
        POSIX::_exit($bad ? 1 : 0);
    }

    push @pids, $pid;
}

my $reloads = 0;
my @memory;

for my $n (1 .. $wanted) {
    $reloads++ if $t->reload();
    sleep(0.1);

    push @memory, memory() if $n == int($wanted / 2) || $n == $wanted;
}

$t->write_file('load.stop', '');
waitpid($_, 0) for @pids;

my ($all, $bad) = (0, 0);

for my $n (1 .. $load) {
    my ($x, $y) = split(/ /, $t->read_file("load.$n"));

    $all += $x;
    $bad += $y;
}

is($reloads, $wanted, "reloads under load: $reloads");
cmp_ok($memory[1], '<', $memory[0] * 1.05,
       "memory of the master does not grow: @memory kB") unless
    $ENV{RUNCOACH_ASAN};
is($bad, 0, "reloads under load: $all requests, all answered 200");

# what a bucket has given is not given again

my @statuses;

push @statuses, $t->get('/few', token => $token)->status for 1 .. 2;
$t->reload();
push @statuses, $t->get('/few', token => $token)->status for 1 .. 3;

is("@statuses", '200 200 200 429 429', 'a bucket survives a reload');

# the number of connections to Redis is that of the workers

ok($t->wait_for(sub {
    return $t->{redis}->cmd('INFO', 'clients')
           =~ /connected_clients:(\d+)/ && $1 <= 3;
}), 'old connections to Redis are closed');

# another size of the zone

$t->set(ZONE => '8m');
$t->set(ROUND => 'three');
$t->write_file_expand('nginx.conf', $conf);

$t->reload();
is($t->get('/', token => $token)->header('X-Conf'), 'three',
   'zone of another size');

# A broken configuration changes nothing.

$t->write_file_expand('nginx.conf', $conf =~ s/rate=50000r/rate=x/r);
kill('HUP', $t->{nginx}{pid});
$t->allow_alert(qr/\[emerg\].*invalid rate|\[emerg\].*rate/);

sleep(0.5);
is($t->get('/', token => $token)->header('X-Conf'), 'three',
   'broken configuration: the old one serves on');

# QUIT with requests in flight: they are answered

$t->write_file_expand('nginx.conf', $conf);

@slow = map { $t->request_start('GET', '/slow', token => $token) } 1 .. 4;
sleep(0.2);
kill('QUIT', $t->{nginx}{pid});

is(join(' ', map { $t->request_end($_)->status } @slow), '200 200 200 200',
   'QUIT: in flight');
ok($t->wait_for(sub { return !$t->alive($t->{nginx}) }), 'QUIT: gone');

# and a new start, with the socket of Redis not there

$t->{redis}->stop();
$t->run();

my $r = $t->get('/', token => $token);

is($r->status, 200, 'without Redis');
is($r->header('X-Source'), 'local', 'without Redis: limits are local');
is($t->get('/', cookie => $cookie)->status, 503, 'without Redis: session');

$t->{redis}->start();
$t->session(42, id => substr($cookie, 11));

ok($t->wait_for(sub {
    return $t->get('/', cookie => $cookie)->status == 200;
}, 3), 'Redis is back: session');

# TERM, in the middle of everything

$t->request_start('GET', '/slow', token => $token) for 1 .. 4;
kill('TERM', $t->{nginx}{pid});
ok($t->wait_for(sub { return !$t->alive($t->{nginx}) }), 'TERM: gone');

$t->done();

###############################################################################

# kilobytes of the process that all the others come from

sub memory
{
    my ($kb) = Test::Runcoach::slurp("/proc/$t->{nginx}{pid}/status")
               =~ /^VmRSS:\s+(\d+)/m;

    return $kb;
}

###############################################################################
