#!/usr/bin/perl

# Tests for revocations: an event of Clerk's, delivered through one edge, ends
# tokens which the workers of all edges have verified before.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

my $STREAM = 'runcoach:revocations';

my $shim = $ENV{RUNCOACH_SHIM};
my $t = Test::Runcoach->new()->has('openssl', 'redis-server');
my $dir = $t->dir();

$t->postgres();

my $redis = $t->redis();
my ($status, $out) = $t->sidecar_run(['migrate', 'up']);

die "migrate: $out\n" if $status;

$t->sidecar(['serve'],
            { CLERK_WEBHOOK_SECRET => $Test::Runcoach::WEBHOOK_SECRET });

$t->set(ISSUER => $t->issuer()->{url});

$t->http_daemon(sub { sleep(2.5); return [200, {}, '{}'] }, port => 8092,
                name => 'slow');

my $conf = <<'EOF';

%%TEST_GLOBALS%%

worker_processes  2;
%%MAIN%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone         runcoach:%%ZONE%%;
    runcoach_redis        env:REDIS_URL  timeout=500ms;
    runcoach_revocations  %%REVOCATIONS%%;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                            jwks=/_jwks  jwks_url=%%ISSUER%%;

    # its processes are no workers

    proxy_cache_path  %%TESTDIR%%/cache  keys_zone=jwks:1m;

    add_header  X-Worker  $pid                   always;
    add_header  X-Reason  $runcoach_auth_reason  always;
    add_header  X-Cache   $runcoach_auth_cache   always;

    server {
        listen  127.0.0.1:8080;

        location / {
            runcoach_auth  clerk;
            empty_gif;
        }

        location /slow {
            proxy_pass  http://127.0.0.1:8092;
        }

        location = /api/v1/webhooks/clerk {
            proxy_pass  http://unix:%%TESTDIR%%/sidecar.sock;
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

my %edges = (
    first => { port => 8080, log => "$dir/error.log" },
    second => { port => 8081, log => "$dir/error2.log" },
);

push @{$t->{logs}}, $edges{second}{log};

configure();
start('first');
start('second');

my %tokens = map { $_ => $t->token(sub => "user_$_", sid => "sess_$_") }
             qw/ a b c d e f g h i j /;

$tokens{other} = $t->token(sub => 'user_a', sid => 'sess_a2');

###############################################################################

# accepted and kept by each worker of each edge, and then refused by all

for my $edge (qw/ first second /) {
    is(ask($edge, $tokens{$_}), '200', "$edge: accepted, $_")
        for sort keys %tokens;
    is(ask($edge, $tokens{a}, 'X-Cache'), 'HIT', "$edge: kept");
}

for ([ 'a', 'session.revoked' ], [ 'b', 'session.removed' ],
     [ 'c', 'session.ended' ])
{
    my ($name, $type) = @$_;

    is($t->webhook(session_event($type, "sess_$name"))->status, 200, $type);
    is(refused($name), 'first second', "$type: all workers of all edges");
}

for my $edge (qw/ first second /) {
    is(ask($edge, $tokens{other}), '200',
       "$edge: another session of that user");
    is(ask($edge, $tokens{d}), '200', "$edge: another user");
    is(ask($edge, $tokens{d}, 'X-Cache'), 'HIT', "$edge: who is still kept");
    is(ask($edge, $tokens{a}, 'X-Reason'), 'session-revoked',
       "$edge: the reason");
}

is($t->webhook($t->user_event('user.deleted', 'user_a'))->status, 200,
   'user.deleted');
is(refused('other'), 'first second', 'user.deleted: all workers of all edges');

# a token that is made later, for whatever session, is no better

my $late = $t->token(sub => 'user_a', sid => 'sess_a3');

is(ask($_, $late), '401', "$_: another token of a deleted user")
    for qw/ first second /;

# ids are of their kind

is($t->webhook(session_event('session.ended', 'user_d'))->status, 200,
   'a session that is called like a user');
is($t->webhook(session_event('session.created', 'sess_d'))->status, 200,
   'a session that begins');
is($t->webhook(session_event('session.ended', 'sess_d'),
               secret => 'whsec_AAAA')->status, 401, 'not by Clerk');
sleep(0.2);
is(ask($_, $tokens{d}), '200', "$_: none of these is a revocation")
    for qw/ first second /;

# an edge that was not there reads what it has missed

stop('second');
is($t->webhook(session_event('session.revoked', 'sess_d'))->status, 200,
   'session.revoked, while an edge is down');
start('second');
is(refused('d'), 'first second', 'an edge that starts');
is(ask('second', $tokens{a}), '401', 'what was before that');
is(ask('second', $tokens{e}), '200', 'others');

###############################################################################

# Redis is down: not acknowledged, delivered when it is sent again.

is(readers(), 2, 'one reader for each edge');

$redis->kill('KILL');

my $event = session_event('session.revoked', 'sess_e');
my $r = $t->webhook($event, id => 'msg_e');

is($r->status, 503, 'Redis down');
like($r->header('Retry-After') // '', qr/^\d+$/, 'Redis down: Retry-After');
is(ask($_, $tokens{e}), '200', "Redis down: $_ goes on")
    for qw/ first second /;
is(ask('second', $tokens{a}), '401', 'Redis down: what is known');

$redis->start();

ok($t->wait_for(sub { $t->webhook($event, id => 'msg_e')->status == 200 }),
   'Redis back, without its data: delivered again');
is(refused('e'), 'first second', 'Redis back: all workers of all edges');
is(ask('second', $tokens{a}), '401', 'Redis back: what was known');
is(count('first', qr/redis is back after .*"runcoach-revocations"/), 1,
   'Redis back: told');

# its clock goes back meanwhile: the stream begins before what was read

$redis->cmd('XADD', $STREAM, '99999999999999-7', 'kind', 'user', 'id', 'x');
sleep(0.2);
$redis->kill('KILL');
$redis->start();
revoke('session', 'sess_f');
is(refused('f'), 'first second', 'another stream, by an older clock');
is(count('first', qr/is read anew/), 1, 'another stream: told');

# what is no revocation is skipped

$redis->cmd('XADD', $STREAM, '*', @$_)
    for [ 'a', 'b' ], [ 'kind', 'group', 'id', 'x' ], [ 'kind', 'user' ],
        [ 'kind', 'user', 'id', '' ], [ 'id', 'sess_g' ],
        [ 'kind', 'user', 'id', 'x' x ($shim ? 2000 : 200000) ];
$redis->cmd('XADD', $STREAM, '*', 'id', 'sess_g', 'new', "\0", 'kind',
            'session');
is(refused('g'), 'first second', 'after entries that are none');
is(count('first', qr/is not understood by runcoach_revocations/), 1,
   'entries that are none: told once');

###############################################################################

# Reloads: one reader goes on where the one before was.

for (1 .. 20) {
    $t->{nginx} = $edges{first}{nginx};
    $t->reload();
}

ok($t->wait_for(sub { readers() == 2 }, 3), 'reloads: one reader');
revoke('session', 'sess_h');
is(refused('h'), 'first second', 'reloads: all workers of all edges');
is(ask('first', $tokens{a}), '401', 'reloads: what was known');

# an old worker that has something to finish does not read on

my $slow = $t->request_start('GET', '/slow');

sleep(0.2);
$t->{nginx} = $edges{first}{nginx};
$t->reload();
ok($t->wait_for(sub { readers() == 2 }, 2),
   'an old worker at work: no more a reader');
is($t->request_end($slow)->status, 200, 'an old worker at work: it ends');

# the worker that reads is killed

my ($victim) = sort { $a <=> $b } $t->workers();
my $before = reader_ids();

$t->allow_alert(qr/worker process \d+ exited on signal 9/);
kill('KILL', $victim);
revoke('session', 'sess_i');
is(refused('i'), 'first second', 'the reader is killed: another goes on');
isnt(reader_ids(), $before, 'it was the reader');
is(readers(), 2, 'and there is one again');
is(ask('first', $tokens{a}), '401', 'what was known');

# leaving, while a read is blocked and while Redis hangs

for my $state ('a read is blocked', 'Redis hangs') {
    $redis->kill('STOP') if $state =~ /hangs/;

    my $start = time();

    stop('second');
    cmp_ok(time() - $start, '<', 1, "leaving is not held up: $state");

    $redis->kill('CONT');
    start('second');
}

$redis->kill('STOP');

my $start = time();

$t->{nginx} = $edges{second}{nginx};
$t->reload();
ok($t->wait_for(sub { $t->children($t->{nginx}{pid}, qr/shutting/) == 0 }, 2),
   'reload while Redis hangs');
cmp_ok(time() - $start, '<', 1, 'reload while Redis hangs: at once');
$redis->kill('CONT');

revoke('session', 'sess_j');
is(refused('j'), 'first second', 'Redis goes on');

###############################################################################

# More than there is room for: the edge goes on, the newest are known.

SKIP: {
    skip 'a byte at a time there is not the time', 4 if $shim;

    bulk(100_000);
    $tokens{bulk} = $t->token(sub => 'bulk_99999');
    $tokens{none} = $t->token(sub => 'bulk_none');

    ok($t->wait_for(sub { ask('first', $tokens{bulk}) eq '401' }, 5),
       '100,000 revocations');
    is(ask('first', $tokens{none}), '200', '100,000 revocations: others');
    ok($t->wait_for(sub {
        return count('first', qr/\d+ had to make room before their time/);
    }), '100,000 revocations: told that there was no room');

    stop('second');
    $start = time();
    start('second');
    ok($t->wait_for(sub { ask('second', $tokens{bulk}) eq '401' }, 5),
       sprintf('100,000 revocations: read by an edge that starts, %.2f s',
               time() - $start));
}

stop('second');

# older ones than a token can be are not read, and others end with the tokens

configure(REVOCATIONS => 'stream=test:stream  retention=2s');
$redis->cmd('XADD', 'test:stream', (int(time()) - 4) . '000-0',
            'kind', 'user', 'id', 'user_x');
$redis->cmd('XADD', 'test:stream', '*', 'kind', 'user', 'id', 'user_y');
@tokens{qw/ x y /} = map { $t->token(sub => "user_$_") } qw/ x y /;

stop('first');
start('first');
ok($t->wait_for(sub { ask('first', $tokens{y}) eq '401' }, 2),
   'retention: a new one');
is(ask('first', $tokens{x}), '200', 'retention: an old one');
ok($t->wait_for(sub { ask('first', $tokens{y}) eq '200' }, 5),
   'retention: it ends');

# a reload that names another stream begins there where it would at a start

revoke('user', 'user_x');
$redis->cmd('XADD', 'test:stream', '*', 'kind', 'user', 'id', 'nobody');
sleep(0.2);
configure();
$t->{nginx} = $edges{first}{nginx};
$t->reload();
ok($t->wait_for(sub { ask('first', $tokens{x}) eq '401' }, 3),
   'another stream by a reload');
is(count('first', qr/is read anew/), 0, 'another stream by a reload: new');

# a single process, and a small zone

configure(MAIN => 'master_process off;', ZONE => '256k');
stop('first');
start('first');
ok($t->wait_for(sub { ask('first', $tokens{x}) eq '401' }, 3),
   'a single process');
$start = time();
stop('first');
cmp_ok(time() - $start, '<', 1, 'a single process: leaving');

# TLS

configure();
certificates();

my $port = $t->port(8380);
my $tls = $t->redis(name => 'tls', args => [ '--tls-port', $port,
    '--tls-cert-file', "$dir/server.crt", '--tls-key-file', "$dir/server.key",
    '--tls-ca-cert-file', "$dir/ca.crt", '--tls-auth-clients', 'no' ]);

$tls->cmd('ACL', 'SETUSER', 'edge', 'on', '>p@ss', '~*', '+@all');
$tls->cmd('SELECT', 2);
$tls->cmd('XADD', $STREAM, '*', 'kind', 'user', 'id', 'user_y');

start('first', REDIS_URL => "rediss://edge:p%40ss\@localhost:$port/2",
      SSL_CERT_FILE => "$dir/ca.crt");
ok($t->wait_for(sub { ask('first', $tokens{y}) eq '401' }, 3),
   'TLS, user, password, database');

$t->reload();
$tokens{z} = $t->token(sub => 'user_z');
is(ask('first', $tokens{z}), '200', 'TLS: reload');
$tls->cmd('XADD', $STREAM, '*', 'kind', 'user', 'id', 'user_z');
ok($t->wait_for(sub { ask('first', $tokens{z}) eq '401' }, 3),
   'TLS: reload: the next one');
stop('first');

# a user who may look but not read, and then may

$tls->cmd('ACL', 'SETUSER', 'edge', '-xread');
start('first', REDIS_URL => "rediss://edge:p%40ss\@localhost:$port/2",
      SSL_CERT_FILE => "$dir/ca.crt");
sleep(1);
is(count('first', qr/could not read its stream: redis refused: "NOPERM/), 1,
   'not allowed: told once');
is(ask('first', $tokens{z}), '200', 'not allowed: the edge goes on');
$tls->cmd('ACL', 'SETUSER', 'edge', '+xread');
ok($t->wait_for(sub { ask('first', $tokens{z}) eq '401' }, 3), 'allowed again');
is(count('first', qr/reads its stream again/), 1, 'allowed again: told');
stop('first');

# no streams, no permission, and what is no answer

for ([ "-ERR unknown command 'XREVRANGE'", 'streams need Redis 5 or newer' ],
     [ '-NOPERM this user has no permissions', 'redis refused: "NOPERM' ],
     [ '-WRONGTYPE Operation', 'redis refused: "WRONGTYPE' ],
     [ ':1', 'unexpected type of reply' ],
     [ '*-1', 'unexpected type of reply' ],
     [ "*1\r\n+x", 'unexpected type of reply' ],
     [ "*1\r\n*2\r\n\$3\r\nx-1\r\n*0", 'unexpected type of reply' ],
     [ "*1\r\n*2\r\n\$22\r\n99999999999999999999-1\r\n*0",
       'unexpected type of reply' ])
{
    my ($reply, $log) = @$_;
    my $name = $reply =~ s/\r\n/ /gr;

    my ($proc, $url) = $t->fake_redis(sub {
        return $_[0][0] =~ /^X/ ? "$reply\r\n" : "+OK\r\n";
    });

    start('first', REDIS_URL => $url);
    sleep(0.7);

    is(ask('first', $tokens{x}), '200', "reply $name: the edge goes on");
    is(count('first', qr/could not read its stream: \Q$log\E/), 1,
       'and told once why');

    stop('first');
    $t->stop_process($proc);
}

# off

configure(REVOCATIONS => 'off');
start('first');
revoke('user', 'user_x');
sleep(0.3);
is(ask('first', $tokens{x}), '200', 'off');
is(readers(), 0, 'off: no reader');
stop('first');

configure();
start('first', REDIS_URL => '');
is(ask('first', $tokens{x}), '200', 'without Redis');
ok(count('first', qr/runcoach_revocations is off: runcoach_redis is off/),
   'without Redis: told');
stop('first');

# configuration

for ([ 'ZONE runcoach_revocations on;', 'needs Redis, add "runcoach_redis' ],
     [ 'REDIS runcoach_revocations on;', 'needs shared memory, add "runcoach' ],
     [ 'runcoach_revocations off;', undef ],
     [ 'runcoach_revocations yes;', 'invalid parameter "yes"' ],
     [ 'runcoach_revocations off on;', 'invalid parameter "on"' ],
     [ 'runcoach_revocations on; runcoach_revocations on;', 'is duplicate' ],
     [ 'ZONE REDIS runcoach_revocations stream=a:b retention=1h;', undef ],
     [ 'runcoach_revocations stream=a stream=b;', 'duplicate parameter' ],
     [ 'runcoach_revocations stream=;', 'has an empty name of the stream' ],
     [ 'runcoach_revocations on retention=x;',
       'invalid retention "x" in runcoach_revocations, must be a time' ],
     [ 'runcoach_revocations retention=0;', 'must be a time above 0' ])
{
    my ($text, $error) = @$_;
    my $name = $text;

    $text =~ s/\bZONE\b/runcoach_zone r:1m;/;
    $text =~ s{\bREDIS\b}{runcoach_redis unix:/nosuch;};

    ($status, $out) = $t->configtest("%%TEST_GLOBALS%%\nevents {}\n"
                                     . "http { $text }\n");

    is($status != 0, defined $error, "configuration: $name") or diag($out);
    like($out, qr/\[emerg\].*\Q$error\E/, 'and why') if defined $error;
}

$t->done();

###############################################################################


sub configure
{
    my %vars = (MAIN => '', ZONE => '4m', REVOCATIONS => 'on', @_);

    $t->set($_ => $vars{$_}) for keys %vars;

    my $text = $t->expand($conf);

    $t->write_file('first.conf', $text);

    # the other edge differs in what there can be but one of

    $text =~ s/nginx\.pid/nginx2.pid/;
    $text =~ s/error\.log/error2.log/;
    $text =~ s{/cache\b}{/cache2};
    $text =~ s/listen  \K127[\d.:]+/$t->host(8081)/e;

    $t->write_file('second.conf', $text);
}


sub start
{
    my ($name, %env) = @_;

    my $edge = $edges{$name};

    truncate($edge->{log}, 0);

    $t->run(conf => "$dir/$name.conf", wait => $t->host($edge->{port}),
            error_log => $edge->{log},
            env => { REDIS_URL => $redis->url(), %env });

    $edge->{nginx} = $t->{nginx};
}


sub stop
{
    my ($name) = @_;

    $t->{nginx} = $edges{$name}{nginx};
    $t->stop();
}


sub count
{
    my ($name, $re) = @_;

    return scalar(() = $t->read_file($edges{$name}{log}) =~ /$re/g);
}


# what the workers of an edge say: one answer if they agree, else several

sub ask
{
    my ($name, $token, $header) = @_;

    my %answers;
    my $workers = $t->{vars}{MAIN} ? 1 : 2;

    # of each the last one: before, it may have had to verify

    for (1 .. 300) {
        my $r = $t->get('/', token => $token, port => $edges{$name}{port});

        $answers{$r->header('X-Worker') // ''}
            = $header ? $r->header($header) // '' : $r->status;

        last if keys %answers >= $workers && (!$header || $_ > 20);
    }

    my %seen = map { $_ => 1 } values %answers;

    $seen{'a silent worker'} = 1 if keys %answers < $workers;

    return join(' ', sort keys %seen);
}


# the edges of which all workers refuse it within a second

sub refused
{
    my ($token) = @_;

    my %done;
    my $end = time() + 1;

    while (keys %done < 2 && time() < $end) {

        for my $name (grep { !$done{$_} } keys %edges) {
            $done{$name} = 1 if ask($name, $tokens{$token}) eq '401';
        }

        sleep(0.01);
    }

    return join(' ', sort keys %done);
}


sub revoke
{
    my ($kind, $id) = @_;

    return $redis->cmd('XADD', $STREAM, '*', 'kind', $kind, 'id', $id);
}


# in pieces, for neither side may be left with more than its buffers take

sub bulk
{
    my ($n) = @_;

    my $s = Test::Runcoach::connect_to($redis->socket());

    for (my $i = 0; $i < $n; $i += 500) {
        my $text = '';

        for my $k ($i .. $i + 499) {
            my @argv = ('XADD', $STREAM, '*', 'kind', 'user', 'id', "bulk_$k");

            $text .= '*' . @argv . "\r\n"
                     . join('', map { '$' . length($_) . "\r\n$_\r\n" } @argv);
        }

        Test::Runcoach::send_all($s, $text);

        my $replies = '';

        while ((() = $replies =~ /-\d+\r\n/g) < 500) {
            sysread($s, $replies, 65536, length($replies)) or die "redis\n";
        }
    }
}


sub session_event
{
    my ($type, $id) = @_;

    return { object => 'event', type => $type,
             timestamp => int(time() * 1000),
             data => { object => 'session', id => $id, user_id => 'user_s',
                       client_id => 'client_s' } };
}


sub reader_list
{
    return grep { /name=runcoach-revocations/ }
           split(/\n/, $redis->cmd('CLIENT', 'LIST'));
}


sub readers { return scalar(() = reader_list()) }
sub reader_ids { return join(' ', sort map { /^id=(\d+)/ } reader_list()) }


sub certificates
{
    my $quiet = '>/dev/null 2>&1';

    $t->write_file('server.ext', "subjectAltName=DNS:localhost\n");

    for my $command ("req -x509 -newkey rsa:2048 -nodes -subj /CN=ca -days 2 "
                     . "-keyout $dir/ca.key -out $dir/ca.crt",
                     "req -newkey rsa:2048 -nodes -subj /CN=server "
                     . "-keyout $dir/server.key -out $dir/server.csr",
                     "x509 -req -in $dir/server.csr -CA $dir/ca.crt "
                     . "-CAkey $dir/ca.key -CAcreateserial -days 2 "
                     . "-extfile $dir/server.ext -out $dir/server.crt")
    {
        system("openssl $command $quiet") == 0 or die "openssl $command\n";
    }

    chmod(0644, glob("$dir/*.key"), glob("$dir/*.crt"));
}
