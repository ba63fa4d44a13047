#!/usr/bin/perl

# Tests for runcoach_limit_headers, and for what the shipped configuration says
# to requests which can never pass and while a limit cannot be checked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();
my $redis = $t->redis();

# rates are so slow that nothing comes back while the test runs

my $conf = <<'EOF';

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:1m;
    runcoach_redis  env:REDIS_URL  timeout=500ms;

    runcoach_limit_policy  user    rate=1r/h    burst=2  key=$arg_user;
    runcoach_limit_policy  app     rate=1r/h    burst=9  key=all;
    runcoach_limit_policy  dear    rate=1r/h    burst=2  key=$arg_user
                                   cost=3;
    runcoach_limit_policy  plan    rate=$arg_rate burst=$arg_burst
                                   key=$arg_user;
    runcoach_limit_policy  closed  rate=1r/h    burst=2  key=$arg_user
                                   failure=closed;
    runcoach_limit_policy  open    rate=1r/h    burst=2  key=$arg_user
                                   failure=open;

    runcoach_limit_headers  both;

    server {
        listen  127.0.0.1:8080;

        # no add_header of a level takes them away

        add_header  X-Server  1;

        location /both    { runcoach_limit user;  empty_gif; }
        location /more    { runcoach_limit user;  add_header X-More 1;
                            empty_gif; }
        location /ietf    { runcoach_limit user;
                            runcoach_limit_headers ietf;    empty_gif; }
        location /legacy  { runcoach_limit user;
                            runcoach_limit_headers legacy;  empty_gif; }
        location /off     { runcoach_limit user;
                            runcoach_limit_headers off;     empty_gif; }
        location /two     { runcoach_limit user app;  empty_gif; }
        location /dear    { runcoach_limit dear;      empty_gif; }
        location /plan    { runcoach_limit plan;      empty_gif; }
        location /closed  { runcoach_limit closed;    empty_gif; }
        location /open    { runcoach_limit open;      empty_gif; }
        location /none    { empty_gif; }

        location /dry {
            runcoach_limit       user;
            runcoach_limit_mode  dry_run;
            empty_gif;
        }

        location /missing { runcoach_limit user;  root /nonexistent; }

        location /page {
            runcoach_limit  user;
            error_page      429  @page;
            empty_gif;
        }

        location @page {
            add_header  X-Page  $runcoach_limit_policy  always;
            return      429     "$runcoach_limit_retry_after";
        }

        location /sub {
            runcoach_limit  user;
            auth_request    /both;
            empty_gif;
        }
    }
}

EOF

$t->write_file_expand('nginx.conf', $conf);
$t->run(env => { REDIS_URL => $redis->url() });

###############################################################################

my @ietf = qw/ RateLimit RateLimit-Policy /;
my @legacy = qw/ X-RateLimit-Limit X-RateLimit-Remaining X-RateLimit-Reset /;

is(told('/both?user=a'), '200 "user";r=1;t=3600 "user";q=2;w=7200 2 1 3600 -',
   'both');
is(told('/both?user=a'), '200 "user";r=0;t=7200 "user";q=2;w=7200 2 0 7200 -',
   'the last one');
is(told('/both?user=a'),
   '429 "user";r=0;t=3600 "user";q=2;w=7200 2 0 7200 3600', 'rejected');

is(told('/ietf?user=a'), '429 "user";r=0;t=3600 "user";q=2;w=7200 - - - 3600',
   'only those of the IETF');
is(told('/legacy?user=a'), '429 - - 2 0 7200 3600', 'only the others');
is(told('/off?user=a'), '429 - - - - - -', 'off');
is(told('/none?user=a'), '200 - - - - - -', 'no limit, no headers');
is(told('/both'), '200 - - - - - -', 'no key, no headers');

is(told('/dry?user=a'),
   '200 "user";r=0;t=3600 "user";q=2;w=7200 2 0 7200 -',
   'a dry run tells, and asks nobody to wait');

is(told('/missing?user=b'),
   '404 "user";r=1;t=3600 "user";q=2;w=7200 2 1 3600 -', 'on errors too');

my $r = $t->get('/more?user=b');

is($r->header('X-More'), 1, 'beside add_header');
is($r->header('RateLimit'), '"user";r=0;t=7200', 'beside add_header: both');

$r = $t->get('/page?user=a');

is($r->status, 429, 'error page');
is($r->header('X-Page'), 'user', 'error page: variables');
like($r->body, qr/^(?:3600|3599)$/, 'error page: variables in its body');
is(told('/page?user=a'),
   '429 "user";r=0;t=3600 "user";q=2;w=7200 2 0 7200 3600',
   'error page: headers');

is(told('/two?user=c'),
   '200 "user";r=1;t=3600 "user";q=2;w=7200, "app";q=9;w=32400 2 1 3600 -',
   'two: the tightest');
is(told('/two?user=c'),
   '200 "user";r=0;t=7200 "user";q=2;w=7200, "app";q=9;w=32400 2 0 7200 -',
   'two: the tightest');

is(told('/dear?user=d'), '429 "dear";r=2;t=0 "dear";q=2;w=7200 2 2 0 -',
   'what never passes is told no time');

is(told('/plan?user=e&rate=2r/h&burst=4'),
   '200 "plan";r=3;t=1800 "plan";q=4;w=7200 4 3 1800 -', 'by variables');

like(told('/sub?user=f'), qr/^200 "user";r=1;/,
     'a subrequest is not charged, and adds nothing');

is(told('/both?user=g', 'HEAD'),
   '200 "user";r=1;t=3600 "user";q=2;w=7200 2 1 3600 -', 'HEAD');

# Redis is away

$redis->stop();

is(told('/closed?user=h'), '503 - - - - - 1', 'closed: when to try again');
is(told('/open?user=h'), '200 - - - - - -', 'open: nobody knows');

$t->stop();

###############################################################################

for my $bad (['runcoach_limit_headers  x-ratelimit;',
              qr/invalid value "x-ratelimit"/],
             ['runcoach_limit_headers  both;  runcoach_limit_headers  off;',
              qr/is duplicate/]) {
    my ($line, $re) = @$bad;

    (my $text = $conf) =~ s/runcoach_limit_headers  both;/$line/;

    $t->write_file_expand('bad.conf', $text);

    my ($status, $out) = $t->configtest('bad.conf');

    ok($status != 0, "$line is refused");
    like($out, $re, "$line: why");
}

###############################################################################

# the shipped configuration, with other policies

my $e = Test::Runcoach->new();

$e->{planned} = 1;
$e->redis();
$e->edge(postgres => 0, env => { RATE_LIMIT_BURST => 3 });

my %me = (token => $e->token());

policy('cost=4');

$r = $e->get('/api/v1/me', %me);

is($r->status, 429, 'shipped: a cost above the burst');
is($r->header('Retry-After'), undef, 'shipped: no time to wait');
is_deeply($r->json, {
    type => 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title => 'Too Many Requests',
    status => 429,
    detail => 'Rate limit "user" exceeded; the request costs more than it'
              . ' allows at once.',
    'violated-policies' => [ 'user' ],
    retry_after => undef,
    request_id => $r->header('X-Request-ID'),
}, 'shipped: body');

policy('failure=closed');
$e->{redis}->stop();

$r = $e->get('/api/v1/me', %me);

is($r->status, 503, 'shipped: closed');
is_deeply([ $r->headers('Retry-After') ], [ 1 ], 'shipped: when to try again');
is($r->header('Content-Type'), 'application/problem+json', 'shipped: type');
is_deeply([ $r->headers('Cache-Control') ], [ 'no-store' ],
          'shipped: no-store');
is_deeply($r->json, {
    type => 'https://iana.org/assignments/http-problem-types'
            . '#temporary-reduced-capacity',
    title => 'Service Unavailable',
    status => 503,
    detail => 'Rate limits cannot be checked at the moment; retry in 1 s.',
    retry_after => 1,
    request_id => $r->header('X-Request-ID'),
}, 'shipped: body');

# by address there is nothing that the module knows

$e->stop();
$e->{edge_env}{RATE_LIMIT_PER_ADDRESS} = 1;
$e->edge_configure();
$e->edge_run();

my @answers = grep { $_->status == 429 } map { $e->get('/api/v1/me') } 1 .. 9;

cmp_ok(scalar(@answers), '>', 0, 'shipped: by address');
is_deeply([ $answers[0]->headers('Retry-After') ], [ 1 ],
          'shipped: by address: when to try again');
is($answers[0]->json->{detail}, 'Rate limit "address" exceeded; retry in 1 s.',
   'shipped: by address: body');

$e->stop_all();
is(join('', $e->alerts()), '', 'no alerts of the edge');

$t->done();

###############################################################################


# status and headers, of which each may be there once

sub told
{
    my ($uri, $method) = @_;

    my $r = $t->request($method || 'GET', $uri);
    my @values = ($r->status);

    for my $name (@ietf, @legacy, 'Retry-After') {
        my @all = $r->headers($name);

        push @values, @all ? join('|', @all) : '-';
    }

    # a second may have passed

    return join(' ', map { s/\b(3599|7199|1799)\b/$1 + 1/er } @values);
}


# another parameter of the policy that is shipped

sub policy
{
    my ($param) = @_;

    my $file = "$e->{home}/nginx.conf";
    my $text = $e->read_file($file);

    $text =~ s/(key=\$runcoach_user)[^;]*;/$1 $param;/
        or die "$file has no policy\n";

    $e->write_file($file, $text);
    $e->reload();
}
