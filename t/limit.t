#!/usr/bin/perl

# Tests for rate limits: policies, verdicts, variables, the local fallback.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();
my $dir = $t->dir();
my $redis = $t->redis();

$t->write_file('file.html', 'file');
$t->write_file('ssi.html', '<!--# include virtual="/limited?user=twelve" -->' x 2);

system('openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost '
       . "-keyout $dir/key.pem -out $dir/crt.pem >/dev/null 2>&1") == 0
    or die "openssl failed\n";

$t->write_file('cert.pem', join('', map { $t->read_file($_) }
                                    'key.pem', 'crt.pem'));

# rates are so slow that nothing comes back while the test runs

$t->set(TIMEOUT => $ENV{RUNCOACH_VALGRIND} ? '5s' : '500ms');

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:32k;
    runcoach_redis  env:REDIS_URL  timeout=%%TIMEOUT%%;

    # used before they are declared

    runcoach_limit  user;

    runcoach_limit_policy  user     rate=1r/h    burst=5  key=$arg_user;
    runcoach_limit_policy  address  rate=2r/d    burst=3  key=$arg_address;
    runcoach_limit_policy  fast     rate=20r/s   burst=2  key=$arg_user;
    runcoach_limit_policy  window   requests=env:UNSET window=env:UNSET
                                    burst=env:UNSET       key=$arg_user;
    runcoach_limit_policy  given    requests=env:UNSET|GIVEN window=2m
                                    burst=7               key=$arg_user;
    runcoach_limit_policy  norate   rate=env:UNSET        key=$arg_user;
    runcoach_limit_policy  open     rate=1r/h    burst=1  key=$arg_user
                                    failure=open;
    runcoach_limit_policy  closed   rate=1r/h    burst=1  key=$arg_user
                                    failure=closed;
    runcoach_limit_policy  share    rate=4r/h    burst=8  key=$arg_user
                                    share=0.25;

    add_header  X-Status          $runcoach_limit_status       always;
    add_header  X-Source          $runcoach_limit_source       always;
    add_header  X-Policy          $runcoach_limit_policy       always;
    add_header  X-Limit           $runcoach_limit_limit        always;
    add_header  X-Remaining       $runcoach_limit_remaining    always;
    add_header  X-Reset           $runcoach_limit_reset        always;
    add_header  Retry-After       $runcoach_limit_retry_after  always;
    add_header  RateLimit         $runcoach_ratelimit          always;
    add_header  RateLimit-Policy  $runcoach_ratelimit_policy   always;

    server {
        listen  127.0.0.1:8080;

        location /        { empty_gif; }
        location /off     { runcoach_limit off;           empty_gif; }
        location /both    { runcoach_limit user address;  empty_gif; }
        location /fast    { runcoach_limit fast;          empty_gif; }
        location /window  { runcoach_limit window;        empty_gif; }
        location /given   { runcoach_limit given;         empty_gif; }
        location /norate  { runcoach_limit norate;        empty_gif; }
        location /open    { runcoach_limit open;          empty_gif; }
        location /closed  { runcoach_limit closed;        empty_gif; }
        location /share   { runcoach_limit share;         empty_gif; }

        location /try {
            try_files  /none /file.html?user=$arg_user;
        }

        location /page {
            error_page  429 /page429;
            error_page  405 /page405;
            empty_gif;
        }

        location /page429 { empty_gif; }
        location /page405 { empty_gif; }

        location /unlimited {
            runcoach_limit  off;
            try_files       /none /limited?user=$arg_user;
        }

        location /skipped {
            runcoach_limit  address;
            try_files       /none /limited?user=$arg_user;
        }

        location /limited { empty_gif; }

        location /subrequest {
            auth_request  /sub?user=$arg_user;
            empty_gif;
        }

        location /mirror {
            mirror     /mirrored;
            empty_gif;
        }

        location /mirrored {
            proxy_pass  http://127.0.0.1:8080/off;
        }

        location /accel {
            proxy_pass  http://127.0.0.1:8080/accelerated;
        }

        location /accelerated {
            add_header  X-Accel-Redirect  /limited$is_args$args;
            return      200;
        }

        location /named {
            error_page  405 = @named;
            empty_gif;
        }

        location @named { return 204; }

        location /rewrite {
            rewrite  ^  /rewritten  last;
        }

        location /rewritten {
            rewrite  ^  /limited  last;
        }

        location /ssi.html { ssi on; }

        location /sub {
            runcoach_limit  user;
            proxy_pass      http://127.0.0.1:8080/off;
        }

        location /post {
            client_max_body_size  2m;
            proxy_set_header      X-Method $request_method;
            proxy_method          GET;
            proxy_pass            http://127.0.0.1:8080/off;
        }
    }

    server {
        listen  127.0.0.1:8081 ssl http2;

        ssl_certificate      cert.pem;
        ssl_certificate_key  cert.pem;

        location / { empty_gif; }
    }
}

EOF

$t->run(env => { REDIS_URL => $redis->url(), GIVEN => 9 });

###############################################################################

# verdicts and variables

my $r = get('/?user=one');

is($r->status, 200, 'the first request');
is($r->header('X-Status'), 'PASSED', 'status');
is($r->header('X-Source'), 'redis', 'source');
is($r->header('X-Policy'), 'user', 'policy');
is($r->header('X-Limit'), 5, 'limit');
is($r->header('X-Remaining'), 4, 'remaining');
is($r->header('X-Reset'), 3600, 'reset');
is($r->header('Retry-After'), undef, 'no Retry-After');
is($r->header('RateLimit'), '"user";r=4;t=3600', 'RateLimit');
is($r->header('RateLimit-Policy'), '"user";q=5;w=18000', 'RateLimit-Policy');

is(statuses('/?user=one', 6), '200 200 200 200 429 429',
   'a burst, and no more');

$r = get('/?user=one');

is($r->header('X-Status'), 'REJECTED', 'rejected');
is($r->header('X-Remaining'), 0, 'nothing remains');
like($r->header('Retry-After'), qr/^3(600|59\d)$/, 'Retry-After');
like($r->header('RateLimit'), qr/^"user";r=0;t=3(600|59\d)$/,
     'RateLimit tells when to come again');

is(get('/?user=two')->status, 200, 'another client');

my @keys = sort @{$redis->cmd('KEYS', '*')};

is(scalar(@keys), 2, 'a key for each client');
like($keys[0], qr/^rl:\{[A-Za-z0-9_-]{22}\}:user$/, 'which does not tell whom');
cmp_ok($redis->cmd('PTTL', $keys[0]), '>', 0, 'and has an end');

$r = get('/');

is($r->status, 200, 'an empty key is not limited');
is($r->header('X-Status'), 'BYPASSED', 'bypassed');
is($r->header('RateLimit'), undef, 'no RateLimit');

$r = get('/off?user=one');

is($r->status, 200, 'off');
is($r->header('X-Status'), undef, 'off has no status');

# several policies

is(statuses('/both?user=three&address=a', 4), '200 200 200 429', 'the tighter');

$r = get('/both?user=three&address=a');

is($r->header('X-Policy'), 'address', 'which one denies');
is($r->header('RateLimit-Policy'),
   '"user";q=5;w=18000, "address";q=3;w=129600', 'all of them');
is(get('/?user=three')->header('X-Remaining'), 1,
   'the other one is not charged when one denies');
is(get('/both?address=b')->header('RateLimit-Policy'), '"address";q=3;w=129600',
   'one without a key is left out');

# time

is(statuses('/fast?user=four', 2), '200 200', 'burst of a fast policy');
ok($t->wait_for(sub { get('/fast?user=four')->status == 200 }),
   'tokens come back');

# values of the environment

is(get('/window?user=five')->header('RateLimit-Policy'), '"window";q=20;w=4',
   'defaults for what is not set');
is(get('/given?user=five')->header('RateLimit-Policy'), '"given";q=7;w=94',
   'what is set');
is(get('/norate?user=five')->header('X-Status'), 'BYPASSED',
   'no rate, no limit');
like($t->read_file('error.log'), qr/"norate" in runcoach_limit_policy is off/,
     'which is told');

# once for each request, whatever happens inside

is(get('/try?user=six')->header('X-Remaining'), 4, 'try_files charges once');
is($t->post('/page?user=six')->header('X-Remaining'), 3,
   'error_page charges once');
is(statuses('/page?user=six', 5), '200 200 200 429 429', 'error_page of 429');
is(get('/unlimited?user=seven')->header('X-Remaining'), 4,
   'limited where it arrives');
is(get('/skipped?user=seven')->header('X-Remaining'), 3,
   'limited where there is a key');
is(get('/subrequest?user=eight')->header('X-Remaining'), 4,
   'subrequests are not charged');
is(get('/mirror?user=eight')->header('X-Remaining'), 3, 'nor a mirror');
is($t->post('/named?user=eight')->header('X-Remaining'), 2,
   'a named location charges once');
is(get('/rewrite?user=eight')->header('X-Remaining'), 1,
   'rewrites charge once');

$r = get('/accel?user=eight');

is($r->header('X-Remaining'), 0, 'X-Accel-Redirect charges once');
is($r->status, 200, 'where it has a token');
is(get('/accel?user=eight')->status, 429, 'and is refused without');
is(length(get('/ssi.html?user=twelve')->body), 2 * 43, 'SSI');
is(get('/?user=twelve')->header('X-Remaining'), 3, 'SSI charges once');

# who does not wait for the answer has asked

$redis->kill('STOP');
$t->http("GET /?user=gone HTTP/1.1\r\nHost: x\r\n\r\n", aborted => 1,
         sleep => 0.05) for 1 .. 3;
$redis->kill('CONT');

ok($t->wait_for(sub {
    return 3 == (() = $t->read_file('error.log')
                      =~ /client prematurely closed connection/g);
}), 'clients that go away');

# a worker may be told by Redis what it is too late for

$t->wait_for(sub { get('/?user=nobody')->header('X-Source') eq 'redis' });
is(get('/?user=gone')->header('X-Remaining'), 1, 'are charged once');

# bodies and connections; a byte at a time, a small one is large enough

my $body = 'x' x ($ENV{RUNCOACH_SHIM} ? 5000 : 1000000);

is($t->post('/post?user=nine', body => $body)->status, 200, 'body');
get('/?user=nine') for 1 .. 4;
is($t->post('/post?user=nine', body => $body)->status, 429,
   'rejected with a body');

my $answers = $t->http(pipeline(7, 'user=ten'));

is(join(' ', $answers =~ m{HTTP/1.1 (\d+)}g), '200 200 200 200 200 429 429',
   'pipelined on one connection');

is($t->request('HEAD', '/?user=ten')->status, 429, 'HEAD');

SKIP: {
    skip 'no curl with HTTP/2', 1 if `curl -V 2>/dev/null` !~ /HTTP2/;

    my $url = 'https://127.0.0.1:' . $t->port(8081) . '/?user=h2&[1-9]';
    my $out = `curl -s -k -Z --http2 -o /dev/null -w '%{http_code}\\n' '$url' \\
               2>/dev/null`;

    is(join(' ', sort split(/\s+/, $out)),
       '200 200 200 200 200 429 429 429 429', 'streams of HTTP/2');
}

# the script is gone

$redis->cmd('SCRIPT', 'FLUSH');
$r = get('/?user=eleven');

is($r->header('X-Source') . $r->header('X-Remaining'), 'redis4',
   'a script that is lost is sent again');
is(get('/?user=eleven')->header('X-Remaining'), 3, 'and known then');

$t->reload();

is(get('/?user=eleven')->header('X-Remaining'), 2, 'Redis after a reload');
is(at_once('/?user=many', 40), '200=5 429=35', 'exact with many at once');

# without Redis

$redis->stop();

$t->wait_for(sub { get('/open?user=x')->header('X-Status') eq 'BYPASSED' });

is(statuses('/?user=alone', 6), '200 200 200 200 200 429',
   'a bucket of our own without Redis');

$r = get('/?user=alone');

is($r->header('X-Source'), 'local', 'which is told');
like($r->header('Retry-After'), qr/^3(600|59\d)$/, 'and has the same answers');
is(get('/?user=one')->status, 429, 'it begins at what Redis has said');
is(statuses('/both?user=l&address=l', 4), '200 200 200 429', 'several of ours');
is(get('/?user=l')->header('X-Remaining'), 1, 'all or none');
is(statuses('/open?user=l', 3), '200 200 200', 'failure=open');
is(statuses('/share?user=l', 3), '200 200 429', 'share=0.25');

$r = get('/closed?user=l');

is($r->status, 503, 'failure=closed');
is($r->header('Retry-After'), 1, 'and Retry-After');
is($r->header('X-Status'), 'REJECTED', 'rejected for want of Redis');

is(at_once('/?user=crowd', 40), '200=5 429=35',
   'exact without Redis, for all workers');

$t->reload();

is(get('/?user=alone')->status, 429, 'a reload does not forget');

# the zone has room for less than two hundred

my %seen;

for my $i (1 .. 30) {
    $seen{$_}++ for $t->http(pipeline(50, "user=zone$i-"))
                    =~ m{HTTP/1.1 (\d+)}g;
}

is(join(' ', %seen), '200 1500', 'a full zone forgets, and does not fail');
is(statuses('/?user=after', 6), '200 200 200 200 200 429', 'and still limits');

$redis->start();

ok($t->wait_for(sub { get('/?user=back')->header('X-Source') eq 'redis' }),
   'Redis is back');

# of two clients that are new with one request neither makes room for the other

my $fresh = Test::Runcoach->new();

$fresh->{planned} = 1;
$fresh->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%
events { }
http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone          runcoach:1m;
    runcoach_limit_policy  user  rate=1r/h  burst=2  key=$arg_user;
    runcoach_limit_policy  app   rate=1r/h  burst=9  key=app;

    server {
        listen  127.0.0.1:8080;
        location / { runcoach_limit user app;  empty_gif; }
    }
}

EOF

$fresh->run();

is(join(' ', map { $fresh->get('/?user=new')->status } 1 .. 4),
   '200 200 429 429', 'two limits in a fresh zone');

$fresh->stop();

# configuration

my $head = <<'EOF';

%%TEST_GLOBALS%%
events { }
http {
    %%TEST_GLOBALS_HTTP%%
EOF

my $zone = 'runcoach_zone z:1m;';
my $good = 'runcoach_limit_policy p rate=5r/s key=$arg_k;';

config("$zone $good", undef, 'good');
config("$zone runcoach_limit p; $good", undef, 'in any order');
config($good, 'needs shared memory, add "runcoach_zone runcoach:16m;"', 'zone');
config("$zone runcoach_limit q; $good", 'unknown policy "q" in runcoach_limit.*'
       . 'declared by runcoach_limit_policy in .*test.conf:\d+', 'unknown');
config("$zone $good $good", 'duplicate policy "p"', 'duplicate');
config("$zone $good runcoach_limit p p;", 'duplicate policy "p" in runcoach_l',
       'policy used twice');
config("$zone $good runcoach_limit p; runcoach_limit p;", 'is duplicate',
       'directive twice');

for ([ 'rate=5x key=k', 'invalid rate "5x" in runcoach_limit_policy: '
                        . 'must be like 5r/s, 300r/m' ],
     [ 'rate=0r/s key=k', 'invalid rate "0r/s"' ],
     [ 'rate=5r/s', 'must have a key, like key=\$runcoach_user' ],
     [ 'key=k', 'must have either rate= or requests=' ],
     [ 'rate=5r/s window=3 key=k', 'must have either rate= or requests=' ],
     [ 'requests=x key=k', 'invalid requests "x".*number from 1' ],
     [ 'requests=5 window=0 key=k', 'invalid window "0"' ],
     [ 'requests=5 window=2y key=k', 'invalid window "2y"' ],
     [ 'rate=5r/s burst=0 key=k', 'invalid burst "0"' ],
     [ 'rate=7r/d burst=200000000 key=k', 'burst 200000000 is too large' ],
     [ 'rate=5r/s failure=no key=k', 'invalid failure "no".*local, open' ],
     [ 'rate=5r/s share=2 key=k', 'invalid share "2"' ],
     [ 'rate=5r/s key=k key=k', 'duplicate parameter "key=k"' ],
     [ 'rate=5r/s key=k size=2', 'invalid parameter "size=2".*must be rate=' ],
     [ 'rate=5r/s key=k cost=-1', 'invalid cost "-1".*a number from 0' ],
     [ 'rate=5r/s key=k lease=1', 'invalid lease "1".*must be on or off' ],
     [ 'rate=5r/s key=k default=1r/s', 'default= of policy "p".*needs a rate' ],
     [ 'rate=$arg_r key=k default=x', 'invalid rate "x"' ],
     [ 'rate=5r/s key=$nosuch', 'unknown "nosuch" variable' ])
{
    config("$zone runcoach_limit_policy p $_->[0];", $_->[1], $_->[0]);
}

config("$zone runcoach_limit_policy off rate=5r/s key=k;", 'invalid name "off"',
       'name off');
config("$zone runcoach_limit_policy 'a\"b' rate=5r/s key=k;", 'invalid name',
       'name with a quote');

$t->done();

###############################################################################


sub get { return $t->get(@_) }


sub statuses
{
    my ($uri, $n) = @_;

    return join(' ', map { get($uri)->status } 1 .. $n);
}


sub pipeline
{
    my ($n, $args) = @_;

    return join('', map {
        "GET /?$args" . ($n == 50 ? $_ : "&$_") . " HTTP/1.1\nHost: localhost\n"
        . ($_ == $n ? "Connection: close\n" : '') . "\n" } 1 .. $n);
}


sub at_once
{
    my ($uri, $n) = @_;

    my %count;
    my @s = map { $t->request_start('GET', $uri) } 1 .. $n;

    $count{$t->request_end($_)->status}++ for @s;

    return join(' ', map { "$_=$count{$_}" } sort keys %count);
}


sub config
{
    my ($directives, $error, $name) = @_;

    my ($status, $out) = $t->configtest("$head    $directives\n}\n");

    return is($status, 0, "configuration: $name") || diag($out)
        unless defined $error;

    like($out, qr/\[emerg\].*$error/, "configuration: $name");
}
