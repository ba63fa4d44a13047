#!/usr/bin/perl

# Tests for the routes of operators in the configuration that is shipped: who
# may see them, and what they tell of a journey through edge and sidecar.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use IO::Socket::IP;
use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

$t->edge();

my @routes = qw{ /metrics /metrics/sidecar /api/v1/debug/logs
                 /api/v1/debug/errors /api/v1/debug/timing };

###############################################################################

# from this machine

is($t->get($_)->status, 200, "$_: here") for @routes;
is($t->post('/api/v1/debug/clear')->body, '{"status":"cleared"}',
   'clear: here');
is($t->get('/api/v1/debug/clear')->status, 405, 'clear: by GET');
is($t->get('/api/v1/debug/clear')->header('Allow'), 'POST', 'clear: Allow');
is($t->get('/metrics')->header('X-Frame-Options'), 'DENY',
   'with the headers of every answer');
like($t->get('/api/v1/debug/logs?limit=x')->body,
     qr/"loc":\["query","limit"\]/, 'a mistake in its own words');

# Who is not, or speaks for somebody else.  127.0.0.2 is a trusted peer, which
# is believed about addresses, and so can claim any, but is no operator.

my %claims = (
    'X-Forwarded-For' => '127.0.0.1',
    'x-forwarded-for' => '203.0.113.9',
    'X-Forwarded-For ' => '127.0.0.1, 127.0.0.1',
    'X-Real-IP' => '127.0.0.1',
    'Forwarded' => 'for=127.0.0.1',
    'Fly-Client-IP' => '127.0.0.1',
    'CF-Connecting-IP' => '127.0.0.1',
    'Via' => '1.1 proxy',
    'X-Forwarded-Proto' => 'https',
    'X-Forwarded-Host' => 'edge.example',
    'Origin' => 'https://evil.example',
    'Sec-Fetch-Site' => 'same-origin',
);

for my $name (sort keys %claims) {
    my $header = { $name =~ s/ //r => $claims{$name} };

    is(refused($_, $header), 'refused refused',
       "$_: $name: $claims{$name}") for @routes;
}

for my $value ('127.0.0.1', '::1', '127.0.0.1, ::1', 'unix:', '', ',', '0',
               'localhost', '127.0.0.1:80')
{
    is(status('/metrics', { 'X-Forwarded-For' => $value }, '127.0.0.2'), 403,
       "a trusted peer which claims \"$value\"");
}

# a page in a browser whose name leads to this machine

is(status('/metrics', { Host => $_ }), 403, "on this machine as \"$_\"")
    for 'evil.example', 'evil.example:8080', 'localhost.evil.example',
        '127.0.0.1.evil.example', 'a127.0.0.1', 'localhost|';
is(status('/metrics', { Host => $_ }), 200, "on this machine as \"$_\"")
    for 'localhost', 'LOCALHOST:8080', '127.0.0.1:8080', '[::1]:8080';

is(status($_, {}, '127.0.0.2'), 403, "$_: another address") for @routes;
is(status('/api/v1/debug/clear', {}, '127.0.0.2', 'POST'), 403,
   'clear: another address');
is(status('/metrics?x=1', {}, '127.0.0.2'), 403, 'with arguments');
is($t->get('/api/v1/debug/logs', token => $t->token(),
           headers => { 'X-Forwarded-For' => '1.2.3.4' })->detail, 'Forbidden',
   'a user is no operator');

# the address of a real interface, if there is one

my ($own) = grep { !/^127\./ } split(/\s+/, `hostname -I 2>/dev/null` // '');

my $six = -s '/proc/net/if_inet6';

# what the application has there is not let out either

is($t->get('/api/v1/debug/anything', token => $t->token())->status, 404,
   'nothing else is there');
is($t->get('/api/v1/debug/')->status, 404, 'nor without a name');
is($t->get('/metrics/')->status, 404, 'nor below metrics');
is($t->get('/metrics/sidecar/x')->status, 404, 'nor below the sidecar');

# behind Fly, whose header counts in place of the other one

rerun(FLY_APP_NAME => 'app');

is($t->get('/metrics')->status, 200, 'Fly: here');
is(status('/metrics', { 'Fly-Client-IP' => '127.0.0.1' }, '127.0.0.2'), 403,
   'Fly: a trusted peer which claims to be here');
is(status('/metrics', { 'Fly-Client-IP' => '127.0.0.1' }), 403,
   'Fly: somebody who claims to be here');

# networks of operators, and a socket

rerun(OPERATOR_NETWORKS => '127.0.0.2,10.9.0.0/16,fd00:1::/64',
      LISTEN => join(',', '127.0.0.1', $six ? '::1' : (),
                     defined $own && $own !~ /:/ ? $own : ()));

is(status('/metrics', {}, '127.0.0.2'), 200, 'a network of operators');
is(status('/metrics', { Host => 'edge.internal' }, '127.0.0.2'), 200,
   'which knows the edge by a name');
is(status('/metrics', { 'X-Forwarded-For' => '127.0.0.1' }, '127.0.0.2'), 403,
   'not for somebody else');
is(status('/metrics', {}, '127.0.0.3'), 403, 'not another one');
is($t->get('/metrics')->status, 200, 'and here');

SKIP: {
    skip('no other address', 2) unless defined $own && $own !~ /:/;

    my $s = IO::Socket::INET->new("$own:" . $t->port(8080)) or die "$own: $!";

    is($t->get('/metrics', connection => $s)->status, 403,
       'from a real interface');

    $s = IO::Socket::INET->new("$own:" . $t->port(8080)) or die "$own: $!";

    is($t->get('/metrics', connection => $s,
               headers => { 'X-Forwarded-For' => '127.0.0.1' })->status, 403,
       'which claims to be another');
}

SKIP: {
    skip('no IPv6', 2) unless $six;

    for my $case ([ 200, {} ], [ 403, { 'X-Forwarded-For' => '::1' } ]) {
        my $s = IO::Socket::IP->new(PeerHost => '::1',
                                    PeerPort => $t->port(8080))
                or die "::1: $!\n";

        is($t->get('/metrics', connection => $s, headers => $case->[1])
             ->status, $case->[0], "from ::1, $case->[0]");
    }
}

my $file = "$t->{home}/env.server.conf";
my $socket = "$t->{dir}/operators.sock";

$t->write_file($file, Test::Runcoach::slurp($file)
                      . "listen  unix:$socket;\n");
$t->reload();
$t->wait_for(sub { -S $socket });

is($t->get('/metrics', socket => $socket)->status, 200, 'a unix socket');
is($t->get('/metrics', socket => $socket,
           headers => { 'X-Forwarded-For' => '127.0.0.1' })->status, 403,
   'a unix socket, for somebody else');

for my $case ([ 'everybody', qr/"everybody" is not an address or network/ ],
              [ '10.0.0.0/x', qr/"10\.0\.0\.0\/x"/ ],
              [ '10.0.0.0/33', qr/"10\.0\.0\.0\/33" must be 0 to 32/ ],
              [ '300.1.1.1', qr/must be like 10\.9\.0\.0\/16/ ],
              [ 'fd00::/129', qr/"fd00::\/129" must be 0 to 128/ ],
              [ '10.9.0.0/16,none', qr/"none" is not an address or network/ ])
{
    my ($status, $out) = $t->edge_configure({ %{$t->{edge_env}},
                                              OPERATOR_NETWORKS => $case->[0] });

    isnt($status, 0, "OPERATOR_NETWORKS=$case->[0]");
    like($out, qr/OPERATOR_NETWORKS.*$case->[1]/s, 'and why');
}

# nobody at all, where a proxy on this machine does not say that it is one

rerun(OPERATOR_NETWORKS => 'none');

is($t->get($_)->status, 403, "$_: nobody") for @routes;

rerun();

###############################################################################

# a journey

rerun();
$t->post('/api/v1/debug/clear');

my %before = metrics('/metrics/sidecar');
my %edge = metrics('/metrics');
my $token = $t->token(sub => 'user_operator');
my $fit = Test::Runcoach::slurp($t->root() . '/t/data/activity.fit');

is($t->webhook($t->user_event('user.created', 'user_operator'),
               id => 'msg_operator')->status, 200, 'an event');
is($t->webhook($t->user_event('user.created', 'user_operator'),
               id => 'msg_operator')->status, 200, 'the same');
is($t->webhook($t->user_event('user.created', 'user_operator'),
               secret => 'whsec_' . 'A' x 32)->status, 401, 'a forged one');

my $url = $t->post('/api/v1/upload/url', token => $token,
                   json => { file_size => length($fit) })->json;

is($t->url('PUT', $url->{upload_url}, body => $fit,
           headers => $url->{headers})->status, 200, 'PUT');

for (1, 2) {
    is($t->post('/api/v1/upload/complete', token => $token,
                json => { activity_id => $url->{activity_id},
                          file_size => length($fit) })->status, 200,
       'complete');
}

is($t->post('/api/v1/upload/complete', token => $token,
            json => { activity_id => 4711, file_size => 4 })->status, 404,
   'of nothing');

my %after;

ok($t->wait_for(sub {
    %after = metrics('/metrics/sidecar');

    return grew('jobs_total{kind="analyze",outcome="done"}') == 1;
}), 'the job, which another process has done');

is(grew('webhooks_total{outcome="applied"}'), 1, 'applied');
is(grew('webhooks_total{outcome="duplicate"}'), 1, 'duplicate');
is(grew('requests_total{route="/api/v1/webhooks/clerk",status="401"}'), 1,
   'refused');
is(grew('completions_total{outcome="uploaded"}'), 1, 'uploaded');
is(grew('completions_total{outcome="repeated"}'), 1, 'repeated');
is(grew('requests_total{route="/api/v1/upload/complete",status="404"}'), 1,
   'not found');
cmp_ok(grew('request_seconds_count'), '>=', 6, 'all of them are in the time');
is($after{runcoach_sidecar_queue_depth}, 0, 'nobody waits');
cmp_ok($after{runcoach_sidecar_database_connections_total}, '>=', 2,
       'connections');
like(join(' ', keys %after), qr/build_info\{version="\d+\.\d+\.\d+"\}/,
     'version');

%after = metrics('/metrics');

is($after{'runcoach_presigned_urls_total{method="PUT"}'}
   - $edge{'runcoach_presigned_urls_total{method="PUT"}'}, 1,
   'edge: a signed URL');
is($after{'runcoach_auth_accepted_total{method="clerk"}'}
   - ($edge{'runcoach_auth_accepted_total{method="clerk"}'} // 0), 4,
   'edge: log-ins');
unlike(join(' ', %after), qr/user_operator/, 'and nobody by name');

# the ring has paths, and nothing else of a request

my $logs = $t->get('/api/v1/debug/logs')->body;

unlike($logs, qr/X-Amz|whsec|Bearer|@|\?|eyJ/, 'ring: no secrets');
like($logs, qr/"path":"\/api\/v1\/webhooks\/clerk"/, 'ring: the forged one');

# the counters outlive the sidecar, and the sidecar the file

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve']);

%after = metrics('/metrics/sidecar');

is(grew('completions_total{outcome="uploaded"}'), 1, 'a restart keeps all');

my $metrics = "$t->{dir}/sidecar.sock.metrics";

is((stat($metrics))[2] & 07777, 0640, 'mode of the file');

$t->stop_process($t->{serve});
unlink($metrics);
mkdir($metrics);
$t->{serve} = $t->sidecar(['serve']);

is($t->get('/metrics/sidecar')->status, 200, 'without a file');
is($t->get('/health')->status, 200, 'it serves');
rmdir($metrics);

# trouble

$t->{redis}->stop();
%before = metrics('/metrics/sidecar');

$t->webhook($t->user_event('user.deleted', 'user_operator'));

%after = metrics('/metrics/sidecar');
is(grew('redis_failures_total'), 1, 'Redis is away');

$t->{postgres}->stop();
%before = metrics('/metrics/sidecar');

is($t->webhook($t->user_event('user.created', 'user_other'))->status, 503,
   'no database');

%after = metrics('/metrics/sidecar');
cmp_ok(grew('database_unreachable_total') + grew('database_failures_total'),
       '>=', 1, 'the database is away');

$t->stop_process($t->{serve});

is($t->get('/metrics/sidecar')->status, 503, 'no sidecar');
is($t->get('/metrics')->status, 200, 'the edge has its own');
is(($t->get('/api/v1/debug/errors')->json->{errors}[-1] // {})->{component},
   'upstream', 'and knows of it');

$t->stop_all();
$t->done();

###############################################################################

# the edge anew, with more in its environment

sub rerun
{
    my (%env) = @_;

    my %full = (%{$t->{edge_env}}, %env);

    $t->stop();

    die "env.sh\n" if ($t->edge_configure(\%full))[0];

    local $t->{edge_env} = \%full;

    $t->edge_run();
}


# of a connection from 127.0.0.1 and of one from a trusted peer

sub refused
{
    my ($route, $headers) = @_;

    return join(' ', map { $_ == 403 ? 'refused' : $_ }
                         status($route, $headers),
                         status($route, $headers, '127.0.0.2'));
}


sub status
{
    my ($route, $headers, $from, $method) = @_;

    my $s = IO::Socket::INET->new(PeerAddr => $t->host(),
                                  LocalAddr => $from || '127.0.0.1')
            or die "connect: $!\n";

    return $t->request($method || 'GET', $route, headers => $headers,
                       connection => $s)->status;
}


sub metrics
{
    my ($route) = @_;

    my %metrics;

    for my $line (split(/\n/, $t->get($route)->body)) {
        $metrics{$1} = $2 if $line =~ /^([^#]\S*(?:\{.*\})?) (\S+)$/;
    }

    return %metrics;
}


sub grew
{
    my ($name) = @_;

    $name = "runcoach_sidecar_$name";

    return ($after{$name} // 0) - ($before{$name} // 0);
}

###############################################################################
