#!/usr/bin/perl

# Tests for the connection to Redis: greeting, faults, timeouts, TLS, leaving.
# What a request does without Redis is told by the source of its limit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use IO::Socket::UNIX;
use Test::More;
use Test::Runcoach;
use Time::HiRes qw/ time sleep /;

# a byte at a time, and in valgrind, nothing is as fast as it should be

my $slowly = $ENV{RUNCOACH_SHIM} || $ENV{RUNCOACH_VALGRIND};

my $t = Test::Runcoach->new()->has('openssl', 'redis-server');
my $dir = $t->dir();

my $GREETED = "+OK\r\n";

# allowed, granted, held, epoch, valid, free, retry, reset, fresh

my $GRANTED = integers(1, 1, 0, 5, 4000000, 3599996400000000, 0, 3600000000, 1);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

worker_processes          %%WORKERS%%;
worker_shutdown_timeout   5s;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:1m;
    runcoach_redis  env:REDIS_URL  timeout=%%TIMEOUT%%;
    %%RESOLVER%%

    runcoach_limit_policy  user  rate=1r/h  burst=1000000  key=$arg_user
                                 lease=off;

    add_header  X-Source     $runcoach_limit_source     always;
    add_header  X-Remaining  $runcoach_limit_remaining  always;
    add_header  X-Worker     $pid                       always;

    server {
        listen  127.0.0.1:8080;

        location / {
            runcoach_limit  user;
            empty_gif;
        }
    }
}

EOF

$t->set(WORKERS => 1);
my $timeout = $ENV{RUNCOACH_VALGRIND} ? 1 : 0.1;

$t->set(TIMEOUT => $timeout * 1000 . 'ms');
configure('');

###############################################################################

# a real one

my $redis = $t->redis(args => [ '--requirepass', 'pa:ss@w%rd' ]);
my $sock = $redis->socket();
my $url = "unix:$sock?db=3&password=pa:ss\@w%25rd";

start($url);

is(source(), 'redis', 'password and database');
$redis->cmd('AUTH', 'pa:ss@w%rd');
$redis->cmd('SELECT', 3);
is($redis->cmd('DBSIZE'), 1, 'it is that database');
like($redis->cmd('CLIENT', 'LIST'), qr/name=runcoach-edge/, 'and that name');

$redis->cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
sleep(0.1);
$t->log_lacks(qr/\[error\]/, sub {
    is(source(), 'redis', 'closed while idle, and made again');
}, 'an idle connection that is closed is no error');

# killed and back

$t->log_contains(qr/redis is unavailable: it /, sub {
    $redis->kill('KILL');
    is(source(), 'local', 'killed');
}, 'told');

my ($slow, %sources) = (0);

for (1 .. 200) {
    my $start = time();

    $sources{source()}++;
    $slow++ if time() - $start > 0.08;
}

is(join(' ', %sources), 'local 200', 'requests go on without it');
is($slow, 0, 'and wait for nothing') unless $slowly;
is(count(qr/redis is unavailable|connect\(\) to/), 2, 'told once');

$t->log_contains(qr/redis is back after \d+ ms/, sub {
    $redis->start();
}, 'back without being asked');

$t->wait_for(sub { source() eq 'redis' });
is(source(), 'redis', 'back');

# hung: one request waits until the timeout, nobody else does

$redis->kill('STOP');

my $start = time();

is(source(), 'local', 'hung');
cmp_ok(time() - $start, '<', 0.5, 'for as long as the timeout') unless $slowly;

sleep(0.02);
$slow = 0;

for (1 .. 200) {
    my $start = time();

    source();
    sleep(0.005);
    $slow++ if time() - $start > 0.08;
}

# were it each time, it would be all of them

cmp_ok($slow, '<', 20, 'only once') unless $slowly;
told(qr/it does not answer \(110: /);

$redis->kill('CONT');
ok($t->wait_for(sub { source() eq 'redis' }, 3), 'awake again');

# what one worker finds out the others know

$t->stop();
$t->set(WORKERS => 8);
configure('');
start($url);

my %workers;

$t->wait_for(sub {
    $workers{$t->get('/?user=w')->header('X-Worker')}++;
    return keys %workers >= 4;
});

$redis->kill('STOP');

my $waited = 0;

for (1 .. 300) {
    my $start = time();

    source();
    $waited++ if time() - $start > 0.08;
}

cmp_ok($waited, '<=', 4, 'a breaker for all workers')
    or diag("$waited waited, of " . keys(%workers) . ' workers')
    unless $slowly;

# and nobody who is looking holds up the others

$redis->kill('CONT');
$start = time();
ok($t->wait_for(sub { source() eq 'redis' }, 3), 'closed again');
cmp_ok(time() - $start, '<', 1.2, 'soon') unless $slowly;
ok($t->wait_for(sub {
    my %sources;
    $sources{source()}++ for 1 .. 40;
    return join(' ', keys %sources) eq 'redis';
}, 3), 'for all of them');

$t->stop();
$t->set(WORKERS => 1);
configure('');
start($url);
source();

# leaving: a reload and a stop while requests wait

for my $n (1 .. 3) {
    my @s = map { $t->request_start('GET', "/?user=r$_") } 1 .. 50;

    $t->reload();

    my %count;

    $count{$t->request_end($_)->status}++ for @s;
    is(join(' ', %count), '200 50', "reload with requests waiting, $n");
}

$redis->kill('STOP');

my @s = map { $t->request_start('GET', '/?user=q') } 1 .. 20;

# in valgrind they may still be on their way

sleep($slowly ? 0.5 : 0.03);
$t->stop();
is(scalar(grep { $t->request_end($_)->status == 200 } @s), 20,
   'stopped with requests waiting')
    unless $ENV{RUNCOACH_VALGRIND};
$redis->kill('CONT');

# refused

start("unix:$sock?password=secret-and-wrong");
is(source(), 'local', 'wrong password');
told(qr/refused the user or the password: "WRONGPASS"/);
unlike(tail(), qr/secret/, 'not the password');

start("unix:$sock");
is(source(), 'local', 'no password');
sleep(0.5);
source() for 1 .. 10;
is(count(qr/redis is unavailable: it needs a password/), 1, 'told once');

start("unix:$sock?db=99&password=pa:ss\@w%25rd");
is(source(), 'local', 'no such database');
told(qr/it refused the database: "ERR DB index/);

# it says why and leaves, while it is still being written to

my @refusals = ([ '-NOAUTH Authentication required.', 'it needs a password' ],
                [ '-ERR max number of clients reached',
                  'it has too many clients' ],
                [ '-DENIED Redis is running in protected mode because ...',
                  'it is in protected mode' ]);

for ((map { [ $_ ] } @refusals), [ @refusals ]) {
    my @texts = map { "$_->[0]\r\n" } @$_;
    my @reasons = map { $_->[1] } @$_;
    my ($proc, $url) = refusing(@texts);

    start($url, SHIM => 1);
    is(source(), 'local', 'a write that fails: ' . join(', or ', @reasons));
    told(qr/redis is unavailable: $_/) for @reasons;

    # it is asked again and again

    sleep(1);
    source();
    is(count(qr/redis is unavailable/), scalar(@reasons), 'each is told once');

    $t->stop();
    $t->stop_process($proc);
}

# a real one is full

$redis->cmd('AUTH', 'pa:ss@w%rd');
$redis->cmd('CONFIG', 'SET', 'maxclients', 1);
start($url);
source() for 1 .. 3;
ok($t->wait_for(sub { tail() =~ /it has too many clients/ }), 'no room');
is(source(), 'local', 'for one more');
$redis->cmd('CONFIG', 'SET', 'maxclients', 1000);
ok($t->wait_for(sub { source() eq 'redis' }, 3), 'room again');

# what a real one says when it cannot

my $real = "unix:$sock?password=pa:ss\@w%25rd";

for ([ 'OOM', [ qw/ CONFIG SET maxmemory 1 / ],
       [ qw/ CONFIG SET maxmemory 0 / ] ],
     [ 'NOREPLICAS', [ qw/ CONFIG SET min-replicas-to-write 1 / ],
       [ qw/ CONFIG SET min-replicas-to-write 0 / ] ],
     [ 'NOPERM', [ qw/ ACL SETUSER default -eval -evalsha / ],
       [ qw/ ACL SETUSER default +@all / ] ])
{
    my ($error, $break, $mend) = @$_;

    start($real);
    is(source(), 'redis', "a real one, before $error");
    $redis->cmd(@$break);
    is(source(), 'local', "a real $error");
    told(qr/could not run the script .*\b$error /);
    is(count(qr/\[error\]/), 1, 'once');
    $redis->cmd(@$mend);
    ok($t->wait_for(sub { source() eq 'redis' }, 2), "after $error");
}

start($real);
source();
$redis->cmd('REPLICAOF', '127.0.0.1', 1);
is(source(), 'local', 'a real replica');
told(qr/redis is unavailable: it is a replica/);
$redis->cmd('REPLICAOF', 'NO', 'ONE');
ok($t->wait_for(sub { source() eq 'redis' }, 2), 'it is a primary again');

# replies in pieces, and what is none

my ($halves, $halves_url) = $t->fake_redis(sub {
    my ($argv, $n) = @_;

    return $GREETED unless $n;

    my $at = ($n - 1) % (length($GRANTED) - 1) + 1;

    return (substr($GRANTED, 0, $at), '0.002', substr($GRANTED, $at));
});

start($halves_url);

%sources = ();
$sources{source()}++ for 2 .. length($GRANTED);

is(join(' ', keys %sources), 'redis', 'split in two at every byte');

$t->stop();
$t->stop_process($halves);

fake('a byte at a time', sub {
    for my $byte (split(//, reply(@_))) {
        Test::Runcoach::send_all($_[2], $byte);
        sleep(0.0003);
    }

    return undef;
}, 'redis');

fake('no script', sub {
    my ($argv) = @_;

    return $argv->[0] eq 'EVALSHA' ? "-NOSCRIPT No matching script.\r\n"
                                   : reply(@_);
}, 'redis');

# both together take longer than an answer may

fake('no script, and late', sub {
    my ($argv) = @_;

    return reply(@_) if $argv->[0] !~ /^EVAL/;

    sleep(0.7 * $timeout);

    return $argv->[0] eq 'EVALSHA' ? "-NOSCRIPT No matching script.\r\n"
                                   : reply(@_);
}, 'local');

fake('never a script', sub {
    my ($argv) = @_;

    return $argv->[0] =~ /^EVAL/ ? "-NOSCRIPT No matching script.\r\n"
                                 : reply(@_);
}, 'local', qr/could not run the script of runcoach_limit: "NOSCRIPT/);

for my $error ('OOM command not allowed', 'LOADING Redis is loading',
               'WRONGTYPE Operation', 'NOPERM this user', 'BUSY Redis is busy',
               'MISCONF Redis', 'NOREPLICAS Not enough good replicas',
               'MASTERDOWN Link with MASTER is down', 'TRYAGAIN Multiple keys', 'CLUSTERDOWN The cluster is down',
               'MOVED 866 127.0.0.1:6381', 'CROSSSLOT Keys in request',
               'EXECABORT Transaction', 'ERR unknown command')
{
    fake($error, sub {
        my ($argv) = @_;

        return $argv->[0] =~ /^EVAL/ ? "-$error\r\n" : reply(@_);
    }, 'local', qr/could not run the script .*"\Q$error\E"/);
}

fake('NOAUTH', sub {
    my ($argv) = @_;

    return $argv->[0] =~ /^EVAL/ ? "-NOAUTH Authentication required.\r\n"
                                 : reply(@_);
}, 'local', qr/redis is unavailable: it needs a password/);

for my $error ('READONLY You can\'t write against a read only replica.',
               'ERR Error running script (call to f_0): @user_script:30: '
               . '@user_script: 30: -READONLY You can\'t write')
{
    fake($error, sub {
        my ($argv) = @_;

        return $argv->[0] =~ /^EVAL/ ? "-$error\r\n" : reply(@_);
    }, 'local', qr/redis is unavailable: it is a replica/);
}

fake('too many clients', sub {
    return ("-ERR max number of clients reached\r\n", '0.01');
}, 'local', qr/it has too many clients/);

fake('a command that is not known', sub {
    my ($argv) = @_;

    return $argv->[0] eq 'CLIENT' ? "-ERR unknown command\r\n" : reply(@_);
}, 'redis');

for my $reply ("HTTP/1.1 400 Bad Request\r\n\r\n", "%1\r\n+a\r\n+b\r\n",
               "\0\0\0\0", "*1\r\n*x\r\n", ":abc\r\n")
{
    fake('garbage ' . substr($reply, 0, 4) =~ s/[^ -~]/./gr, sub {
        return $_[1] ? $reply : $GREETED;
    }, 'local');
}

fake('what it got', sub {
    return "HTTP/1.1 400 Bad Request\r\n\r\n";
}, 'local', qr/it does not speak RESP2: "Protocol error, got "H"/);

for my $reply ("+OK\r\n", ":1\r\n", "*-1\r\n", "\$-1\r\n", "*0\r\n",
               $GRANTED =~ s/:1\r\n\z/+x\r\n/r, "*1\r\n:1\r\n",
               $GRANTED =~ s/:1\r\n\z/*1\r\n:1\r\n/r,
               integers(1, 9, 0, 5, 4000000, 1, 0, 1, 1))
{
    fake('another type ' . substr($reply, 0, 3) =~ s/\s//gr, sub {
        return $_[1] ? $reply : $GREETED;
    }, 'local', qr/unexpected type of reply/);
}

# a byte at a time it would come too late

fake('too large', sub {
    return $_[1] ? ('$99999999' . "\r\n", 'x' x 200000, 0.3) : $GREETED;
}, 'local', qr/its reply is too large/) unless $ENV{RUNCOACH_SHIM};

fake('too many', sub {
    return $_[1] ? '*2147483647' . "\r\n" : $GREETED;
}, 'local', qr/its reply is too large|Multi-bulk length out of range/);

fake('one reply too many', sub {
    return $_[1] ? $GRANTED . $GRANTED : $GREETED;
}, 'redis', qr/a reply to no command/);

fake('closed in the middle', sub {
    my ($argv, $n, $client) = @_;

    return $GREETED unless $n;

    Test::Runcoach::send_all($client, "*5\r\n:1");
    return '';
}, 'local', qr/it closed the connection/);

fake('silent', sub { return $_[1] ? undef : $GREETED }, 'local',
     qr/it does not answer/);

fake('silent from the start', sub { return undef }, 'local');

# clients that go away leave their replies behind, and in order

my ($fake, $fake_url) = $t->fake_redis(sub {
    my ($argv, $n) = @_;

    return $GREETED unless $n;
    return (0.03, $GRANTED);
});

start($fake_url);

for (1 .. 20) {
    $t->http("GET /?user=gone HTTP/1.1\nHost: x\n\n", aborted => 1,
             sleep => 0.002);
}

my @sources = map { source() } 1 .. 5;

like($sources[-1], qr/redis|local/, 'clients that go away');
like(tail(), qr/client prematurely closed connection/, 'are noticed');

$t->stop();
$t->stop_process($fake);

# by name, through a resolver: two addresses, of which one does not listen

my $dns = dns();
my $port = $t->port(8379);

my $tcp = $t->redis(name => 'tcp', port => 8379);

configure('resolver 127.0.0.1:' . $dns . ' ipv6=off valid=1s;'
          . ' resolver_timeout 1s;');
start("redis://redis.runcoach.test:$port/1");

ok($t->wait_for(sub { source() eq 'redis' }), 'a name by the resolver');
unlike(tail(), qr/redis is unavailable/, 'one of its addresses is enough');
like($tcp->cmd('INFO', 'keyspace'), qr/db1:keys/, 'database in a path');

configure('');
start("redis://127.0.0.1:$port");
is(source(), 'redis', 'an address');

# TLS

certificates();

my $tls = $t->port(8380);

my $secure = $t->redis(name => 'tls', args => [ '--tls-port', $tls,
    '--tls-cert-file', "$dir/server.crt", '--tls-key-file', "$dir/server.key",
    '--tls-ca-cert-file', "$dir/ca.crt", '--tls-auth-clients', 'no' ]);

$secure->cmd('ACL', 'SETUSER', 'edge', 'on', '>p@ss', '~*', '+@all');

my %ca = (SSL_CERT_FILE => "$dir/ca.crt");

start("rediss://edge:p%40ss\@localhost:$tls/2", %ca);
ok($t->wait_for(sub { source() eq 'redis' }),
   'TLS, by name, user and password');

start("rediss://127.0.0.1:$tls", %ca);
ok($t->wait_for(sub { source() eq 'redis' }), 'TLS, by address');


start("rediss://localhost:$tls");
source();
ok($t->wait_for(sub { tail() =~ /certificate verify error: \(\d+:/ }),
   'TLS, unknown authority');
is(source(), 'local', 'is refused');
unlike(tail(), qr/redis is back/, 'for good');

start("redis://127.0.0.1:$tls");
is(source(), 'local', 'TLS not asked for');

# It wants a certificate of ours, and says so after the handshake.  Of one that
# breaks off, as it does a byte at a time, OpenSSL tells only that it did.

$secure->cmd('CONFIG', 'SET', 'tls-auth-clients', 'yes');
start("rediss://127.0.0.1:$tls", %ca);
is(source(), 'local', 'TLS, a certificate is asked for');

if ($ENV{RUNCOACH_SHIM}) {
    told(qr/the SSL handshake failed/);

} else {
    told(qr/alert certificate required/);
    sleep(1);
    is(count(qr/alert certificate required/), 1, 'once');
}

$secure->cmd('CONFIG', 'SET', 'tls-auth-clients', 'no');

$t->stop();

my $other = $t->port(8381);

$t->redis(name => 'other', args => [ '--tls-port', $other,
    '--tls-cert-file', "$dir/other.crt", '--tls-key-file', "$dir/other.key",
    '--tls-ca-cert-file', "$dir/ca.crt", '--tls-auth-clients', 'no' ]);

start("rediss://localhost:$other", %ca);
source();
ok($t->wait_for(sub { tail() =~ /certificate does not match "localhost"/ }),
   'TLS, wrong name');
is(source(), 'local', 'is refused');

start("rediss://127.0.0.1:$other", %ca);
source();
ok($t->wait_for(sub { tail() =~ /certificate does not match "127.0.0.1"/ }),
   'TLS, wrong address');

$t->stop();

# configuration

for ([ 'redis://localhost', undef ],
     [ 'redis://:secret@127.0.0.1:6390/0', undef ],
     [ 'redis://u:secret@[::1]:6390/15', undef ],
     [ 'redis://secret@127.0.0.1', undef ],
     [ 'redis://:sec@ret@127.0.0.1/0?db=2', undef ],
     [ 'unix:///tmp/x.sock?db=1', undef ],
     [ 'unix://:secret@/tmp/x.sock', undef ],
     [ 'UNIX:/tmp/x.sock', undef ],
     [ 'http://secret@host/', 'must be like redis://:password@host:6379/0' ],
     [ 'redis://:secret@/0', 'has no host' ],
     [ 'redis://:secret@h:99999', 'has an invalid port, must be a number' ],
     [ 'redis://:secret@h/x', 'has an invalid database, must be a number' ],
     [ 'redis://u:p@ss/secret@h', 'has a raw "/" .* percent-encode it' ],
     [ 'redis://:x?secret@h', 'has a raw .*"\?" .* percent-encode it' ],
     [ 'redis://:secret%zz@h/', 'has an invalid "%", must be followed by two' ],
     [ 'redis://u:@secret', 'has a user without a password' ],
     [ 'redis://:secret@127.0.0.1/0?ssl=1', 'has an invalid argument, must be '
                                            . 'db= or password=' ],
     [ 'unix:', 'must have an absolute path' ],
     [ 'unix:relative.sock', 'must have an absolute path' ],
     [ 'unix:/' . ('x' x 200), 'has a too long path' ])
{
    my ($url, $error) = @$_;
    my ($status, $out) = $t->configtest("$dir/nginx.conf",
                                        env => { REDIS_URL => $url });

    is($status != 0, defined $error, "configuration: " . substr($url, 0, 40))
        or diag($out);
    like($out, qr/\[emerg\] the URL of runcoach_redis $error/, 'and why')
        if defined $error;
    unlike($out, qr/secret/, 'not the password');
}

my ($status, $out) = $t->configtest("$dir/nginx.conf", env => {
    REDIS_URL => 'rediss://127.0.0.1', SSL_CERT_FILE => "$dir/nosuch" });

like($out, qr/SSL_CERT_FILE "\S+nosuch" could not be loaded/,
     'configuration: no certificates');

($status, $out) = $t->configtest("$dir/nginx.conf", env => {
    REDIS_URL => 'redis://redis.invalid' });

is($status, 0, 'configuration: a name that is not known yet');
like($out, qr/\[warn\].*host not found in runcoach_redis "redis.invalid"/,
     'is told');

$t->done();

###############################################################################


sub configure
{
    $t->set(RESOLVER => $_[0]);
    $t->write_file_expand('nginx.conf', $conf);
}


sub start
{
    my ($url, %env) = @_;

    my $shim = delete $env{SHIM};

    $t->stop();
    truncate($t->dir() . '/error.log', 0);
    $t->run(env => { REDIS_URL => $url, %env }, shim => $shim);
}


sub integers
{
    return '*' . @_ . "\r\n" . join('', map { ":$_\r\n" } @_);
}


sub source { return $t->get('/?user=a')->header('X-Source') }
sub tail { return $t->read_file('error.log') }


sub told
{
    my ($re) = @_;

    ok($t->wait_for(sub { source(); tail() =~ $re }), 'told')
        or diag("lacks $re:\n" . tail());
}


sub count
{
    my ($re) = @_;

    return scalar(() = tail() =~ /$re/g);
}


sub reply
{
    my ($argv) = @_;

    return $argv->[0] =~ /^EVAL/ ? $GRANTED : $GREETED;
}


# the first request finds it, and the second finds it in whatever state

sub fake
{
    my ($name, $code, $source, $log) = @_;

    my ($proc, $url) = $t->fake_redis($code);

    start($url);

    is(source(), $source, "fake: $name");
    told($log) if $log;

    $t->get('/?user=b') for 1 .. 3;
    is($t->get('/?user=b')->status, 200, 'and goes on');

    $t->stop();
    $t->stop_process($proc);
}


# says it to whoever comes, of several by turns, and does not listen

sub refusing
{
    my @texts = @_;

    my $path = "$dir/refusing.sock";

    unlink($path);

    my $s = IO::Socket::UNIX->new(Local => $path, Listen => 64)
        or die "listen: $!\n";

    chmod(0777, $path);

    my $proc = $t->run_daemon(sub {
        while (my $client = $s->accept()) {
            Test::Runcoach::send_all($client, $texts[0]);
            close($client);
            push @texts, shift @texts;
        }
    });

    return ($proc, "unix:$path");
}


# answers any question by these two

sub dns
{
    my $s = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1')
        or die "dns: $!\n";

    $t->run_daemon(sub {
        while ($s->recv(my $query, 512)) {
            my $id = substr($query, 0, 2);
            my $question = substr($query, 12);

            $s->send($id . pack('n5', 0x8180, 1, 2, 0, 0) . $question
                     . join('', map { pack('n3Nn', 0xc00c, 1, 1, 1, 4)
                                      . pack('C4', 127, 0, 0, $_) } 9, 1));
        }
    });

    return $s->sockport();
}


sub certificates
{
    my $quiet = '>/dev/null 2>&1';

    system("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=ca -days 2 "
           . "-keyout $dir/ca.key -out $dir/ca.crt $quiet") == 0
        or die "openssl req\n";

    for ([ 'server', 'DNS:localhost,IP:127.0.0.1' ],
         [ 'other', 'DNS:other.runcoach.test,IP:127.0.0.7' ])
    {
        my ($name, $names) = @$_;

        $t->write_file("$name.ext", "subjectAltName=$names\n");

        system("openssl req -newkey rsa:2048 -nodes -subj /CN=$name "
               . "-keyout $dir/$name.key -out $dir/$name.csr $quiet") == 0
            && system("openssl x509 -req -in $dir/$name.csr -CA $dir/ca.crt "
                      . "-CAkey $dir/ca.key -CAcreateserial -days 2 "
                      . "-extfile $dir/$name.ext -out $dir/$name.crt $quiet")
               == 0
            or die "openssl x509\n";
    }

    chmod(0644, glob("$dir/*.key"), glob("$dir/*.crt"));
}
