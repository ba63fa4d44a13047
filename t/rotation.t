#!/usr/bin/perl

# Keys that change while people log in: rotations, floods, outages, and clients
# that do not wait, with two workers and the shipped location for key sets.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ b64url json_encode /;
use Time::HiRes qw/ time sleep /;

my $t = Test::Runcoach->new();

my ($shipped) = Test::Runcoach::slurp($t->root . '/conf/runcoach.conf')
                =~ m{^(    location /_jwks/ \{\n.*?\n    \}\n)}ms
    or die "conf/runcoach.conf has no /_jwks/\n";

# Each issuer has a file with its key set; no file: it is out of order.

my %issuers = (
    cold  => '',
    leave => '',
    multi => '',
    lock  => '',
    late  => 'jwks_cooldown=2s',
    bare  => 'jwks=/_bare/bare',
    roll  => 'jwks_cooldown=2s',
    same  => 'jwks_cooldown=2s',
    flood => 'jwks_cooldown=2s',
    guess => 'jwks_cooldown=2s',
    twin  => 'jwks_cooldown=2s jwks_url=http://127.0.0.1:8091/guess',
    fresh => 'jwks_cooldown=1s jwks_refresh=1s',
    stale => 'jwks_cooldown=1s jwks_refresh=1s jwks_stale=4s',
    again => 'jwks_cooldown=1s',
);

my $names = join(' ', sort keys %issuers);

$t->set(ISSUERS => join("\n", map { issuer_conf($_) } sort keys %issuers));
$t->set(NAMES => $names);
$t->set(SHIPPED => $shipped);

$t->write_file_expand('nginx.conf', $t->expand(<<'EOT'));

%%TEST_GLOBALS%%

worker_processes  2;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:1m;

    %%ISSUERS%%

    proxy_ssl_trusted_certificate  %%TESTDIR%%/ca.pem;

    proxy_cache_path  %%TESTDIR%%/jwks  keys_zone=jwks:1m  inactive=24h
                      max_size=16m  use_temp_path=off;

    add_header  X-Worker  $pid                   always;
    add_header  X-Reason  $runcoach_auth_reason  always;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8081 http2;
        error_page   502 504  =503  @unavailable;
        error_page   503            @unavailable;

        location / {
            runcoach_auth  %%NAMES%%;
            try_files      /ok =404;
        }

%%SHIPPED%%

        location /_bare/ {
            internal;
            proxy_pass  $runcoach_jwks_url;
        }

        location @unavailable {
            return  503  "later";
        }
    }
}
EOT

$t->write_file('ok', 'ok');
$t->command(['openssl', 'req', '-x509', '-new', '-key', $t->key('issuer'),
             '-subj', '/CN=nobody', '-out', "$t->{dir}/ca.pem"]);

my $issuer = $t->http_daemon(sub {
    my ($name) = $_[0]->{target} =~ m{^/(\w+)};
    my $delay = $t->read_file("$name.delay");

    sleep($delay) if $delay;

    my $text = $t->read_file("$name.json");

    return defined $text ? [200, {}, $text] : [500, {}, 'out of order'];
}, port => 8091);

publish($_, 'issuer') for keys %issuers;

$t->run();

###############################################################################

# A hundred requests at once, and no keys: they all wait, for one fetch.

delay(cold => 1);

my $token = $t->token(iss => iss('cold'));
my @waiting = map { $t->request_start('GET', '/', token => $token) } 1 .. 100;
my @answers = map { $t->request_end($_) } @waiting;

is(scalar(grep { $_->status == 200 } @answers), 100, 'cold: all are answered');
is(fetches('cold'), 1, 'cold: one fetch');


# The one who fetches goes away, and so does one who waits.

for my $name (qw/ leave bare /) {
    delay($name => 1);

    $token = $t->token(iss => iss($name));

    my @leave = map { start($token, $_) } 0, 0.1, 0.1;

    @waiting = map { $t->request_start('GET', '/', token => $token) } 1 .. 5;

    my $size = -s "$t->{dir}/error.log";

    abort($_) for @leave;

    ok($t->wait_for(sub { gone($size) }, 0.6),
       "$name: that a client goes away is noticed before the keys are there");

    @answers = map { $t->request_end($_) } @waiting;

    is(scalar(grep { $_->status == 200 } @answers), 5,
       "$name: the others are answered");
    cmp_ok(fetches($name), '<=', $name eq 'bare' ? 5 : 1, "$name: fetches");
}


# The same on one connection of HTTP/2: the first client takes all its streams
# along when it goes away.

delay(multi => 1);

SKIP: {
    skip('no h2load', 2) unless Test::Runcoach::find_program('h2load');

    my @h2 = ('h2load', '-n', 20, '-c', 1, '-m', 20, '-H',
              'Authorization: Bearer ' . $t->token(iss => iss('multi')),
              'http://' . $t->host(8081) . '/');

    my $client = $t->run_daemon(sub { $t->command(['timeout', '0.5', @h2]) });

    sleep(0.2);

    my $out = $t->command(\@h2);

    $t->stop_process($client);

    like($out, qr/status codes: 20 2xx/, 'HTTP/2: all are answered');
    cmp_ok(fetches('multi'), '<=', 2, 'HTTP/2: fetches');
}


# What one worker has fetched a while ago is not enough for the other.

my %on = workers();
my ($busy, $idle) = sort keys %on;

$token = $t->token(iss => iss('late'));

is(on($on{$_}, $token), 200, 'late: known key') for sort keys %on;

sleep(2.1);

is(on($on{$busy}, stray('late')), 401, 'late: one worker asks for another');

publish('late', 'issuer', 'second');
sleep(2.1);

is(on($on{$_}, $t->token(iss => iss('late'), key => 'second')), 200,
   'late: new key') for $idle, $busy;


# One worker fetches, the other waits for what it brings into the cache, and the
# client there goes away.

delay(lock => 1.5);

$token = $t->token(iss => iss('lock'));

ask($on{$busy}, $token);
sleep(0.2);
ask($on{$idle}, $token);
sleep(0.2);

my $from = -s "$t->{dir}/error.log";

abort(delete $on{$idle});

ok($t->wait_for(sub { gone($from) }, 0.6), 'lock: client is gone, and noticed');
is((answer($on{$busy}))[0], 200, 'lock: the other is answered');
is(fetches('lock'), 1, 'lock: one fetch');

close($_) for values %on;


# Rotations under load, with a flood of invented keys.  Each key is published
# a cool-down before its first use.

my $load = load('roll', 3);
my $flood = flood('roll');
my $begin = time();

tokens('roll', 'issuer');
sleep(0.5);

my @keys = qw/ issuer second third /;

for my $n (1 .. 4) {
    my ($old, $new) = map { $keys[$_ % 3] } $n - 1, $n;

    publish('roll', $old, $new);
    sleep(2.1);

    tokens('roll', $new);
    sleep(0.7);

    publish('roll', $new);
    sleep(0.3 * $n);
}

my $seconds = time() - $begin;
my %load = stop_load($load);
my %flood = stop_load($flood);

is(join(' ', grep { $_ != 200 } keys %{$load{status}}), '',
   'rotation: nobody is refused');
cmp_ok($load{status}{200} || 0, '>', 100, 'rotation: under load');
is(scalar(keys %{$load{worker}}), 2, 'rotation: with two workers');
is(join(' ', keys %{$flood{status}}), 401, 'rotation: invented keys are');
cmp_ok($flood{status}{401} || 0, '>', 100, 'rotation: under a flood of them');
cmp_ok(fetches('roll'), '<=', $seconds / 2 + 3,
       'rotation: at most one fetch in a cool-down');
cmp_ok(fetches('roll'), '>=', 4, 'rotation: and not fewer than are needed');


# Another key of the same kid: what it signs is refused once, and fetched for.

publish('same', $t->jwk('issuer', kid => 'ins_same'));

my $one = $t->token(iss => iss('same'), kid => 'ins_same');
my $two = $t->token(iss => iss('same'), kid => 'ins_same', key => 'second');

ok(everywhere($one), 'same kid: first key');

publish('same', $t->jwk('second', kid => 'ins_same'));
sleep(2);

my $answer = $t->get('/', token => $two);

is($answer->status, 401, 'same kid: refused at once');
is($answer->header('X-Reason'), 'token-invalid-signature',
   'same kid: and told why');
ok(everywhere($two), 'same kid: second key, in both workers');
ok($t->wait_for(sub { $t->get('/', token => $one)->status == 401 }),
   'same kid: first key is gone');

# also if it comes within a cool-down, and nothing but the same token comes

sleep(2);
$t->get('/', token => stray('same'));
publish('same', $t->jwk('issuer', kid => 'ins_same'));

my $three = $t->token(iss => iss('same'), kid => 'ins_same', jti => 'three');

ok($t->wait_for(sub { $t->get('/', token => $three)->status == 200 }, 10),
   'same kid: found by a token that is repeated');


# Signatures that are wrong fetch no more often than unknown keys.

is($t->get('/', token => $t->token(iss => iss('flood')))->status, 200,
   'forged: key is there');

my $before = fetches('flood');
my $forged = $t->token(iss => iss('flood')) =~ s/.{6}$/AAAAAA/r;

$begin = time();

while (time() < $begin + 5) {
    $t->get('/', token => $forged);
    $t->get('/', token => stray('flood'));
}

cmp_ok(fetches('flood') - $before, '<=', (time() - $begin) / 2 + 1,
       'forged: at most one fetch in a cool-down');


# A key is asked for before it is published.

$token = $t->token(iss => iss('guess'), key => 'second');

my $other = $t->token(iss => iss('twin'), key => 'second');

is($t->get('/', token => $t->token(iss => iss('guess')))->status, 200,
   'guessed: another key');
is($t->get('/', token => $token)->status, 401, 'guessed: unknown');

$before = fetches('guess');

is($t->get('/', token => $token)->status, 401, 'guessed: still unknown')
    for 1 .. 10;

cmp_ok(fetches('guess') - $before, '<=', 1, 'guessed: not fetched each time');

publish('guess', 'issuer', 'second');

ok(everywhere($token), 'guessed: found when it is published');
ok($t->wait_for(sub { $t->get('/', token => $other)->status == 200 }, 5),
   'guessed: another issuer with the same keys');


# Keys are fetched again before anybody needs them.

delay(fresh => 0.6);

$token = $t->token(iss => iss('fresh'));

is($t->get('/', token => $token)->status, 200, 'refresh: first');

$before = fetches('fresh');
$begin = time();

my ($slowest, $refused, $n) = (0, 0, 0);

publish('fresh', 'second');

while (time() < $begin + 6) {
    my ($status, $time) = timed($token);

    last if $status == 401 && ++$refused;

    $slowest = $time if $time > $slowest;
    $n++;
    sleep(0.01);
}

cmp_ok($n, '>', 20, 'refresh: under load');
cmp_ok($slowest, '<', 0.4, 'refresh: nobody waits');
ok($refused, 'refresh: a key that is withdrawn is not accepted for long');
cmp_ok(fetches('fresh') - $before, '<=', (time() - $begin) + 2,
       'refresh: one for both workers');


# The issuer is out of order.

$token = $t->token(iss => iss('stale'));

is($t->get('/', token => $token)->status, 200, 'outage: before');

unlink("$t->{dir}/stale.json");
$begin = time();

my %seen;

while (time() < $begin + 3) {
    $seen{$t->get('/', token => $token)->status}++;
    sleep(0.02);
}

is(join(' ', keys %seen), 200, 'outage: what is known is enough');
ok($t->wait_for(sub { $t->get('/', token => $token)->status == 503 }, 6),
   'outage: but not for ever');
like($t->read_file('error.log'), qr/keys of issuer "stale" are \d+ s old/,
     'outage: which is logged');

publish('stale', 'issuer');

ok($t->wait_for(sub { $t->get('/', token => $token)->status == 200 }, 6),
   'outage: over');

my $log = $t->read_file('error.log');
my @errors = $log =~ /\[error\][^\n]*keys of issuer "stale" not fetched/g;

cmp_ok(scalar(@errors), '<=', 4, 'outage: logged once, by each worker');


# What a cache on disk has from before a restart is not what is asked for now.

is($t->get('/', token => $t->token(iss => iss('again')))->status, 200,
   'restart: before');
is($t->get('/', token => stray('again'))->status, 401, 'restart: unknown key');

$t->stop();
publish('again', 'second');
sleep(2.2);
$t->run();

is($t->get('/', token => $t->token(iss => iss('again')))->status, 401,
   'restart: a key that was withdrawn');
is($t->get('/', token => $t->token(iss => iss('again'),
                                   key => 'second'))->status,
   200, 'restart: new key');

$t->done();

###############################################################################

sub iss
{
    return "https://$_[0].runcoach.test";
}


sub issuer_conf
{
    my ($name) = @_;

    my $more = $issuers{$name};

    $more .= " jwks=/_jwks/$name" unless $more =~ /jwks=/;
    $more .= " jwks_url=http://127.0.0.1:8091/$name"
        unless $more =~ /jwks_url=/;

    return "runcoach_issuer  $name  issuer=@{[iss($name)]}  $more;";
}


# at once, so that nobody reads half of it

sub put
{
    my ($file, $text) = @_;

    $t->write_file("$file.new", $text);
    rename("$t->{dir}/$file.new", "$t->{dir}/$file") or die "rename: $!\n";
}


sub publish
{
    my ($name, @names) = @_;

    put("$name.json", $t->jwks(@names));
}


sub delay
{
    put("$_[0].delay", $_[1]);
}


sub fetches
{
    my ($name) = @_;

    return scalar(grep { $_->{target} eq "/$name" } $t->requests($issuer));
}


# nobody has signed it

sub stray
{
    my ($name) = @_;

    my $now = int(time());

    return b64url(json_encode({ alg => 'RS256', typ => 'JWT',
                                kid => 'ins_' . int(rand(1e15)) })) . '.'
           . b64url(json_encode({ iss => iss($name), sub => 'user_1',
                                  iat => $now, exp => $now + 60 })) . '.'
           . b64url('x' x 256);
}


sub start
{
    my ($bearer, $pause) = @_;

    sleep($pause);

    return $t->request_start('GET', '/', token => $bearer);
}


# by RST

sub abort
{
    my ($s) = @_;

    setsockopt($s, Socket::SOL_SOCKET(), Socket::SO_LINGER(),
               pack('ii', 1, 0));
    close($s);
}


sub gone
{
    my ($from) = @_;

    return substr($t->read_file('error.log'), $from)
           =~ /client prematurely closed connection/;
}


# a connection to each worker

sub workers
{
    my %on;

    $t->wait_for(sub {
        my $s = Test::Runcoach::connect_to($t->host());
        my (undef, $worker) = on($s, stray('late'));

        $on{$worker} ||= $s;

        return keys %on == 2;
    })
        or die "connections are of one worker only\n";

    return %on;
}


# status and worker of an answer on a connection that is kept

sub on
{
    my ($s, $bearer) = @_;

    ask($s, $bearer);

    my @answer = answer($s);

    return wantarray ? @answer : $answer[0];
}


sub ask
{
    my ($s, $bearer) = @_;

    Test::Runcoach::send_all($s, "GET / HTTP/1.1\r\nHost: localhost\r\n"
                                 . "Authorization: Bearer $bearer\r\n\r\n");
}


sub answer
{
    my ($s) = @_;

    my $buf = '';

    while ($buf !~ /\r\n\r\n(?:ok|.*<\/html>|later)/s) {
        sysread($s, $buf, 4096, length($buf)) or last;
    }

    my ($status) = $buf =~ m{^HTTP/1\.1 (\d+)};
    my ($worker) = $buf =~ /^X-Worker: (\d+)/m;

    return ($status // 0, $worker);
}


# status and seconds of an answer, which is over before its connection is

sub timed
{
    my ($bearer) = @_;

    my $from = time();
    my ($status) = answer($t->request_start('GET', '/', token => $bearer));

    return ($status, time() - $from);
}


# 200 by both workers

sub everywhere
{
    my ($bearer) = @_;

    my %workers;

    return $t->wait_for(sub {
        my @s = map { $t->request_start('GET', '/', token => $bearer) } 1 .. 4;

        for my $s (@s) {
            my $r = $t->request_end($s);

            if ($r->status == 200) {
                $workers{$r->header('X-Worker')} = 1;

            } else {
                %workers = ();
            }
        }

        return keys %workers == 2;
    });
}


# what the load is made of, from now on

sub tokens
{
    my ($name, @names) = @_;

    put("$name.tokens", join("\n", map { $t->token(iss => iss($name),
                                                   key => $_) } @names));
}


sub load
{
    my ($name, $processes) = @_;

    tokens($name, 'issuer');

    return [map { loader("load.$name.$_", sub {
        return (split(/\n/, $t->read_file("$name.tokens")))[0];
    }) } 1 .. $processes];
}


sub flood
{
    my ($name) = @_;

    return [loader("flood.$name", sub { return stray($name) })];
}


sub loader
{
    my ($file, $code) = @_;

    my $path = $t->write_file($file, '');
    my $proc = $t->run_daemon(sub {
        my $stop = 0;

        local $SIG{TERM} = sub { $stop = 1 };

        open(my $fh, '>>', $path) or die "$path: $!\n";

        while (!$stop) {
            my $r = eval { $t->get('/', token => $code->()) };

            last if $stop;

            die $@ unless $r;

            syswrite($fh, $r->status . ' ' . ($r->header('X-Worker') // '-')
                          . "\n");
            sleep(0.005);
        }
    });

    $proc->{results} = $path;

    return $proc;
}


sub stop_load
{
    my ($procs) = @_;

    my %result = (status => {}, worker => {});

    for my $proc (@$procs) {
        $t->stop_process($proc);

        for (split(/\n/, $t->read_file($proc->{results}))) {
            my ($status, $worker) = split(/ /);

            $result{status}{$status}++;
            $result{worker}{$worker}++;
        }
    }

    return %result;
}

###############################################################################
