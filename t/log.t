#!/usr/bin/perl

# What the logs tell, and what they must not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_decode /;

my $t = Test::Runcoach->new();

my $backend = $t->http_daemon(sub { return [200, {}, 'application'] },
                              port => 8095);

$t->edge(work => 0, env => { BACKEND_URL => 'http://' . $t->host(8095),
                             RATE_LIMIT_REQUESTS => 1, RATE_LIMIT_WINDOW => 60,
                             RATE_LIMIT_BURST => 3 });

my $token = $t->token(sub => 'user_log');
my $secret = 'SECRETQ';

###############################################################################

# the line of a request: logged() is called after its answer has come

my $line = logged(sub { $t->get('/api/v1/me', token => $token) });

is($line->{status}, 200, 'passed');
is($line->{user}, 'user_log', 'passed: user');
is($line->{auth_method}, 'clerk', 'passed: method');
is($line->{limit}, 'PASSED', 'passed: limit');
is($line->{limit_source}, 'redis', 'passed: source');
like($line->{request_id}, qr/^[0-9a-f]{32}$/, 'passed: request id');
is($line->{path}, '/api/v1/me', 'passed: path');

$line = logged(sub { $t->get('/api/v1/me') });

is($line->{status}, 401, 'nobody');
is($line->{auth_reason}, 'credentials-missing', 'nobody: reason');
is($line->{user}, '', 'nobody: no user');

$line = logged(sub { $t->get('/api/v1/me', token => $t->token(exp => 1)) });

is($line->{status}, 401, 'expired');
is($line->{auth_reason}, 'token-expired', 'expired: reason');

$t->get('/api/v1/me', token => $token) for 1 .. 2;
$line = logged(sub { $t->get('/api/v1/me', token => $token) });

is($line->{status}, 429, 'limited');
is($line->{user}, 'user_log', 'limited: user');
is($line->{limit}, 'REJECTED', 'limited: verdict');
is($line->{limit_policy}, 'user', 'limited: policy');

# Query strings may carry tokens and signatures.

$token = $t->token(sub => 'user_other');

is($t->get("/api/v1/me?token=$secret", token => $token)->status, 200,
   'query: passed');
is($t->post("/ws?token=$secret", token => $token, body => 'x' x 20_000_000)
   ->status, 413, 'query: too large');
is($t->get("/fit-files/users/x?X-Amz-Signature=$secret")->status, 403,
   'query: at the store');

$t->stop_process($backend);

$line = logged(sub {
    $t->get("/api/v1/me?token=$secret", token => $t->token(sub => 'user_third'),
            headers => { Referer => "https://app.test/?code=$secret" });
});

is($line->{status}, 503, 'query: application down');
is($line->{user}, 'user_third', 'application down: user');

my $errors = join('', map { $t->read_file($_) } grep { -e } @{$t->{logs}});

like($errors, qr{request: "GET /api/v1/me HTTP/1\.1", upstream: "http://[\d.:]+/api/v1/me", host: "[^"]+", referrer: "https://app\.test/"},
     'error log: what remains');

for my $log (glob("$t->{dir}/home/logs/*"), @{$t->{logs}}) {
    next unless -e $log;

    my $text = $t->read_file($log);

    unlike($text, qr/$secret/, "$log: no query string");
    unlike($text, qr/\Q@{[(split(m{\.}, $token))[2]]}\E/, "$log: no token");
}

$t->done();

###############################################################################

# what the access log says of the request that is made

sub logged
{
    my ($request) = @_;

    my $log = 'home/logs/access.log';
    my $before = length($t->read_file($log));

    $request->();

    $t->wait_for(sub { length($t->read_file($log)) > $before });

    my @lines = split(/\n/, substr($t->read_file($log), $before));

    return json_decode($lines[-1]);
}

###############################################################################
