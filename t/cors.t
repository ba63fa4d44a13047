#!/usr/bin/perl

# Tests for what browsers need and what protects them: CORS, WebSocket
# origins, security headers, the client's address.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_decode /;

my $t = Test::Runcoach->new();

my $backend = $t->http_daemon(sub {
    my ($request, $client) = @_;

    if ($request->{headers}{upgrade}) {
        Test::Runcoach::send_all($client, "HTTP/1.1 101 Switching Protocols"
            . "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello");
        sysread($client, my $buf, 100);
        Test::Runcoach::send_all($client, "echo $buf");
        return undef;
    }

    return [200, { 'Access-Control-Allow-Origin' => '*',
                   'Vary' => 'Accept-Encoding',
                   'X-Frame-Options' => 'ALLOWALL' }, '{}'];
}, port => 8090, name => 'backend');

my $good = 'https://app.example.com';

$t->edge(postgres => 0, sidecar => 0, env => {
    BACKEND_URL => 'http://' . $t->host(8090),
    DATABASE_URL => 'postgresql://nobody@/none',
    CORS_ORIGINS => "$good, http://localhost:3000",
    RATE_LIMIT_PER_ADDRESS => 20,
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});

my $token = $t->token();

###############################################################################

# preflight

my $r = preflight('/api/v1/me', $good, 'PUT', 'authorization, content-type');

is($r->status, 204, 'preflight');
is($r->body, '', 'preflight: no body');
is($r->header('Access-Control-Allow-Origin'), $good, 'preflight: origin');
is($r->header('Access-Control-Allow-Credentials'), 'true',
   'preflight: credentials');
like($r->header('Access-Control-Allow-Methods'), qr/\bPUT\b/,
     'preflight: methods');
is($r->header('Access-Control-Allow-Headers'), 'authorization, content-type',
   'preflight: headers');
ok($r->header('Access-Control-Max-Age'), 'preflight: age');
like(join(', ', $r->headers('Vary')), qr/Origin/, 'preflight: Vary');
is($r->header('WWW-Authenticate'), undef, 'preflight: nobody is asked');
is(scalar($t->requests($backend)), 0, 'preflight: no upstream');

for my $path ('/api/v1/upload/url', '/api/v1/upload/complete',
              '/api/v1/activities/7/upload-url', '/health', '/ws', '/nothing')
{
    is(preflight($path, $good, 'POST')->status, 204, "preflight: $path");
}

is(preflight('/api/v1/me', 'http://localhost:3000', 'GET')
   ->header('Access-Control-Allow-Origin'), 'http://localhost:3000',
   'preflight: second origin');

for my $origin ('https://evil.example.com', 'http://app.example.com',
                'https://app.example.com.evil', 'https://app.example.com:8443',
                'null', 'https://APP.example.com.', 'app.example.com')
{
    my $r = preflight('/api/v1/me', $origin, 'GET');

    is($r->header('Access-Control-Allow-Origin'), undef,
       "preflight: not to $origin");
    is($r->header('Access-Control-Allow-Credentials'), undef,
       "preflight: not to $origin, credentials");
    is($r->header('Access-Control-Allow-Headers'), undef,
       "preflight: not to $origin, headers");
}

# an OPTIONS that is no preflight is a request like the rest

is($t->request('OPTIONS', '/api/v1/me')->status, 401, 'OPTIONS');
is($t->request('OPTIONS', '/api/v1/me', headers => { Origin => $good })
   ->status, 401, 'OPTIONS with an origin');
is($t->request('OPTIONS', '/api/v1/me', headers => {
       'Access-Control-Request-Method' => 'GET' })->status, 401,
   'OPTIONS without an origin');
is($t->get('/api/v1/me', headers => { Origin => $good,
       'Access-Control-Request-Method' => 'GET' })->status, 401,
   'GET that looks like a preflight');

# answers, good and bad ones, carry the headers once

for my $case (
    [ 'answer', 200, '/api/v1/me', token => $token ],
    [ '401', 401, '/api/v1/me' ],
    [ '404', 404, '/nothing' ],
    [ '503', 503, '/api/v1/upload/stats', token => $token ],
    [ '405', 405, '/api/v1/upload/url', token => $token ],
)
{
    my ($name, $status, $path, %opt) = @$case;

    my $r = $t->get($path, %opt, headers => { Origin => $good });

    is($r->status, $status, "$name: status");
    is_deeply([ $r->headers('Access-Control-Allow-Origin') ], [ $good ],
              "$name: origin");
    is_deeply([ $r->headers('Access-Control-Allow-Credentials') ], [ 'true' ],
              "$name: credentials");
    like($r->header('Access-Control-Expose-Headers') // '', qr/Retry-After/,
         "$name: exposed");
    like(join(', ', $r->headers('Vary')), qr/Origin/, "$name: Vary");
    is_deeply([ $r->headers('X-Content-Type-Options') ], [ 'nosniff' ],
              "$name: nosniff");
    is_deeply([ $r->headers('X-Frame-Options') ], [ 'DENY' ], "$name: frame");
    is(scalar($r->headers('X-Request-ID')), 1, "$name: request id");
    unlike($r->header('Server') // '', qr/\d/, "$name: no version");

    my $r2 = $t->get($path, %opt, headers => { Origin => 'https://evil' });

    is($r2->header('Access-Control-Allow-Origin'), undef,
       "$name: nothing to another origin");
}

like(join(', ', $t->get('/api/v1/me', token => $token)->headers('Vary')),
     qr/Accept-Encoding/, "the application's Vary stays");

is($t->get('/api/v1/me', token => $token)->header('Strict-Transport-Security'),
   undef, 'no HSTS over http');
ok($t->get('/api/v1/me', token => $token,
           headers => { 'X-Forwarded-Proto' => 'https' })
   ->header('Strict-Transport-Security'), 'HSTS over https');

###############################################################################

# WebSocket

my @upgrade = (Upgrade => 'websocket', Connection => 'Upgrade',
               'Sec-WebSocket-Key' => 'x', 'Sec-WebSocket-Version' => 13);

# nginx forgets a header which the socket does not take at once

SKIP: {
    skip 'a byte at a time there are no websockets', 12 if $ENV{RUNCOACH_SHIM};

    $r = websocket(token => $token);
    is($r->status, 101, 'websocket');
    is($r->header('Upgrade'), 'websocket', 'websocket: upgraded');
    like($r->raw, qr/hello/, 'websocket: bytes from the application');
    like($r->raw, qr/echo ping/, 'websocket: bytes both ways');

    is(websocket(headers => [Origin => $good])->status, 401, 'websocket: nobody');
    like(websocket()->status, qr/^40[13]$/, 'websocket: nobody, from nowhere');
    is(websocket(cookie => "__session=$token", headers => [Origin => $good])
       ->status, 101, 'websocket: cookie, allowed origin');
    is(websocket(cookie => "__session=$token",
                 headers => [Origin => 'http://' . $t->host()])->status, 101,
       'websocket: cookie, own origin');
    is(websocket(cookie => "__session=$token",
                 headers => [Origin => 'https://evil.example.com'])->status, 403,
       'websocket: cookie, other origin');
    is(websocket(cookie => "__session=$token")->status, 403,
       'websocket: cookie, no origin');
    is(websocket(cookie => "__session=$token",
                 headers => [Origin => 'null'])->status, 403,
       'websocket: cookie, null origin');
    is(websocket(token => $token,
                 headers => [Origin => 'https://evil.example.com'])->status, 101,
       'websocket: a token is not ambient');
}

# elsewhere nobody switches protocols

$r = $t->get('/api/v1/me', token => $token, headers => [@upgrade],
             timeout => 1);
is($r->status, 200, 'upgrade elsewhere');

my ($met) = reverse $t->requests($backend);

is($met->{headers}{upgrade}, undef, 'upgrade elsewhere: not passed on');

###############################################################################

# the client's address: believed from a trusted peer, limited, logged

my @bad = map { $t->get('/health', headers => {
                    'X-Forwarded-For' => '203.0.113.9' })->status } 1 .. 80;

ok((grep { $_ == 429 } @bad), 'limited by address');

$r = (grep { $_->status == 429 }
      map { $t->get('/api/v1/me', headers => {
                'X-Forwarded-For' => '203.0.113.9' }) } 1 .. 80)[0];

SKIP: {
    skip 'no 429', 4 unless $r;

    like($r->header('Retry-After'), qr/^\d+$/, '429: Retry-After');
    is($r->header('Content-Type'), 'application/problem+json', '429: type');
    is($r->json->{status}, 429, '429: body');
    ok(defined $r->json->{detail}, '429: detail');
}

isnt($t->get('/health', headers => { 'X-Forwarded-For' => '203.0.113.10' })
     ->status, 429, 'another address is not');
isnt($t->get('/health', headers => {
         'X-Forwarded-For' => '203.0.113.9, 203.0.113.11' })->status, 429,
     'the last that is not trusted counts');

@bad = map { $t->get('/health', headers => {
                 'X-Forwarded-For' => "2001:db8:0:1::$_" })->status } 1 .. 80;
ok((grep { $_ == 429 } @bad), 'an IPv6 /64 is one address');

@bad = map { $t->post('/api/v1/webhooks/clerk', body => '{}', headers => {
                 'X-Forwarded-For' => '203.0.113.12' })->status } 1 .. 80;
ok(!(grep { $_ == 429 } @bad), 'webhooks are not limited');

$t->get('/api/v1/me?token=secret&access_token=x', token => $token,
        headers => { 'X-Forwarded-For' => '203.0.113.20' });

my @log = map { json_decode($_) }
          split(/\n/, $t->read_file("$t->{home}/logs/access.log"));
my ($line) = grep { $_->{address} eq '203.0.113.20' } @log;

ok($line, 'log: the address of the client');
is($line->{path}, '/api/v1/me', 'log: path without the query');
is($line->{user}, 'user_test', 'log: user');
is($line->{auth_method}, 'clerk', 'log: method');
is($line->{limit}, 'PASSED', 'log: limit');
is($line->{status}, 200, 'log: status');
like($line->{request_id}, qr/^[0-9a-f]{32}$/, 'log: request id');

# on Fly its own header is the one

$t->stop();
$t->{edge_env}{FLY_APP_NAME} = 'app';
$t->edge_configure();
$t->edge_run();

$t->get('/nothing', headers => { 'Fly-Client-IP' => '203.0.113.30',
                                 'X-Forwarded-For' => '203.0.113.31' });
$t->stop();

my $log = $t->read_file("$t->{home}/logs/access.log");

like($log, qr/"address":"203\.0\.113\.30"/, 'Fly-Client-IP');
unlike($log, qr/"address":"203\.0\.113\.31"/, 'not X-Forwarded-For there');

# and nobody who is not trusted

$t->{edge_env}{TRUSTED_PROXIES} = 'none';
$t->edge_configure();
$t->edge_run();

$t->get('/nothing', headers => { 'Fly-Client-IP' => '203.0.113.40' });
$t->stop();

unlike($t->read_file("$t->{home}/logs/access.log"), qr/203\.0\.113\.40/,
       'not from a peer that is not trusted');

$t->done();

###############################################################################

sub preflight
{
    my ($path, $origin, $method, $headers) = @_;

    return $t->request('OPTIONS', $path, headers => {
        Origin => $origin,
        'Access-Control-Request-Method' => $method,
        ($headers ? ('Access-Control-Request-Headers' => $headers) : ()),
    });
}


sub websocket
{
    my (%opt) = @_;

    my $s = $t->request_start('GET', '/ws', %opt,
                              headers => [@upgrade, @{$opt{headers} || []}]);

    Test::Runcoach::send_all($s, 'ping');

    return $t->request_end($s, timeout => 3);
}

###############################################################################
