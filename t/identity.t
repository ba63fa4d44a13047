#!/usr/bin/perl

# Tests for identity headers: what a client says of itself reaches neither the
# application nor the sidecar, whatever the path and however it is spelled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

# the application and the sidecar, both of them only listeners here

my $backend = $t->http_daemon(sub { return [200, {}, '{}'] }, port => 8090,
                              name => 'backend');
my $sidecar = $t->http_daemon(sub { return [200, {}, '{}'] },
                              path => $t->dir() . '/sidecar.sock',
                              name => 'sidecar');

$t->edge(postgres => 0, sidecar => 0, env => {
    BACKEND_URL => 'http://' . $t->host(8090),
    DATABASE_URL => 'postgresql://nobody@/none',
    CORS_ORIGINS => 'https://app.example.com',
});

my $token = $t->token(sub => 'user_good');
my $cookie = $t->session(42);

# every spelling that somebody maps to one of the names

my @names = map { my $name = $_;
                  ($name, lc($name), uc($name), $name =~ tr/-/_/r,
                   lc($name) =~ tr/-/_/r) }
            qw/ X-Auth-Method X-Auth-Subject X-Clerk-User-Id X-User-Id
                X-Upload-Key /;
my @forged = map { ($_ => 'evil') } @names;

push @forged, 'X-Forwarded-Host' => 'evil', 'Forwarded' => 'for=evil';

###############################################################################

my @paths = (
    # method, path, who listens
    [ 'GET', '/api/v1/me', $backend, 1 ],
    [ 'POST', '/api/v1/activities', $backend, 1 ],
    [ 'OPTIONS', '/api/v1/me', $backend, 1 ],
    [ 'HEAD', '/api/v1/me', $backend, 1 ],
    [ 'GET', '/ws', $backend, 1 ],
    [ 'GET', '/api/v1/auth/login', $backend, 0 ],
    [ 'POST', '/api/v1/auth/login', $backend, 0 ],
    [ 'OPTIONS', '/api/v1/auth/login', $backend, 0 ],
    [ 'GET', '/api/v1/upload/stats', $sidecar, 1 ],
    [ 'POST', '/api/v1/upload/complete', $sidecar, 1 ],
    [ 'POST', '/api/v1/upload/upload-complete', $sidecar, 1 ],
    [ 'POST', '/api/v1/activities/7/upload-complete', $sidecar, 1 ],
    [ 'DELETE', '/api/v1/upload/activity/7/fit', $sidecar, 1 ],
    [ 'GET', '/api/v1/upload/activity/7/download-url', $sidecar, 1 ],
    [ 'GET', '/api/v1/upload/health', $sidecar, 0 ],
    [ 'GET', '/health', $sidecar, 0 ],
    [ 'GET', '/health/detailed', $sidecar, 0 ],
    [ 'GET', '/api/v1/health', $sidecar, 0 ],
    [ 'GET', '/api/v1/webhooks/health', $sidecar, 0 ],
    [ 'POST', '/api/v1/webhooks/clerk', $sidecar, 0 ],
    [ 'POST', '/api/v1/webhooks/other', $backend, 0 ],
    [ 'OPTIONS', '/api/v1/webhooks/clerk', $sidecar, 0 ],
);

my %token = (
    'x-auth-method' => 'clerk',
    'x-auth-subject' => 'user_good',
    'x-clerk-user-id' => 'user_good',
);

my %session = (
    'x-auth-method' => 'session',
    'x-auth-subject' => '42',
    'x-user-id' => '42',
);

for my $case (@paths) {
    my ($method, $path, $daemon, $private) = @$case;

    subtest "$method $path" => sub {

        # nobody

        my $met = ask($daemon, $method, $path);

        is(scalar(@$met), $private ? 0 : 1,
           $private ? 'nobody: stopped' : 'nobody: passed');
        is_deeply(identity($_), {}, 'nobody: no identity') for @$met;

        # a token which is refused

        $met = ask($daemon, $method, $path, token => 'forged');
        is(scalar(@$met), 0, 'refused: stopped') if $private;
        is_deeply(identity($_), {}, 'refused: no identity') for @$met;

        # a person

        $met = ask($daemon, $method, $path, token => $token);
        is(scalar(@$met), 1, 'token: passed');
        is_deeply(identity($_), $private ? \%token : {}, 'token: identity')
            for @$met;

        $met = ask($daemon, $method, $path, cookie => $cookie);
        is(scalar(@$met), 1, 'session: passed');
        is_deeply(identity($_), $private ? \%session : {},
                  'session: identity') for @$met;
    };
}

# The application is sent the path as it came.  One that it could read in
# another way than the edge, which has open locations too, goes nowhere.

for my $path ('/api/v1/me/../auth/x', '/api//v1/auth/x', '/api/v1/auth/./x',
              '/api/v1/auth/..', '/api/v1/me%2f..%2fauth%2fx',
              '/api/v1/secret/%2E%2E/auth/x', '/api/v1/me\\..\\auth',
              '/api/v1/auth/..?a=b')
{
    $t->forget_requests($backend);
    is($t->get($path, token => $token)->status, 400, "ambiguous $path");
    is(scalar($t->requests($backend)), 0, 'and the application is not asked');
}

is($t->get('/api/v1/me?next=//x/../y%2f', token => $token)->status, 200,
   'a query may hold anything');

# what a completion carries in addition

for my $path ('/api/v1/upload/complete', '/api/v1/upload/upload-complete',
              '/api/v1/activities/7/upload-complete')
{
    my ($met) = @{ask($sidecar, 'POST', $path, token => $token)};

    is_deeply($met->{headers}{'x-upload-key'},
              ['users/user_good/activities/{object}.fit'],
              "$path: upload key");
}

# a preflight is answered before all that

for my $path ('/api/v1/me', '/api/v1/upload/complete', '/health') {
    my $daemon = $path eq '/api/v1/me' ? $backend : $sidecar;
    my $met = ask($daemon, 'OPTIONS', $path,
                  more => [ Origin => 'https://app.example.com',
                            'Access-Control-Request-Method' => 'GET' ]);

    is(scalar(@$met), 0, "preflight $path");
}

# Errors of the edge itself are pages of its own: no upstream hears of them.

for my $path ('/api/v1/upload/url', '/nothing', '/_jwks/clerk', '/_error',
              '/_preflight')
{
    $t->forget_requests($_) for $backend, $sidecar;

    my $r = $t->get($path, headers => \@forged);

    like($r->status, qr/^4\d\d$/, "$path: refused");
    unlike($r->raw, qr/evil/, "$path: nothing echoed");
    is(scalar($t->requests($backend)) + scalar($t->requests($sidecar)), 0,
       "$path: no upstream");
}

# The built-in answer shows what it was given, so the same once more in the
# shape in which a newcomer sees it.

$t->stop();
$t->{edge_env}{BACKEND_URL} = '';
$t->edge_configure();
$t->edge_run();

my $r = $t->get('/api/v1/anything', token => $token, headers => \@forged);

is_deeply($r->json, { 'X-Auth-Method' => 'clerk',
                      'X-Auth-Subject' => 'user_good',
                      'X-Clerk-User-Id' => 'user_good' },
          'built-in answer, token');

$r = $t->post('/api/v1/anything', cookie => $cookie, headers => \@forged,
              json => {});

is_deeply($r->json, { 'X-Auth-Method' => 'session', 'X-Auth-Subject' => '42',
                      'X-User-Id' => '42' }, 'built-in answer, session');

$r = $t->get('/api/v1/auth/login', headers => \@forged);
is($r->body, '{}', 'built-in answer, nobody');

# without cookies or headers in HTTP/2 it is the same

SKIP: {
    skip 'no curl', 1 unless Test::Runcoach::find_program('curl');

    my (undef, $out) = $t->curl('--http2', '-H', "Authorization: Bearer $token",
        (map { ('-H', "$_: evil") } @names),
        'http://' . $t->host() . '/api/v1/me');

    like($out, qr/user_good/, 'curl');
    unlike($out, qr/evil/, 'curl, nothing forged');
}

$t->done();

###############################################################################

# sends the forged headers along, and returns what the listener has met

sub ask
{
    my ($daemon, $method, $path, %opt) = @_;

    my $more = delete $opt{more} || [];

    $t->forget_requests($daemon);
    $t->request($method, $path, headers => [@forged, @$more],
                $method =~ /POST|PUT/ ? (body => '{}') : (), %opt);

    return [ $t->requests($daemon) ];
}


sub identity
{
    my ($request) = @_;

    my %found;

    for my $name (keys %{$request->{headers}}) {
        my $plain = $name =~ tr/_/-/r;
        my $values = $request->{headers}{$name};

        $found{$name} = join(',', @$values)
            if $plain =~ /^x-(?:auth|clerk|user)-/ && $plain ne 'x-user-agent';

        $found{$name} = join(',', @$values) if "@$values" =~ /evil/;
    }

    # the edge's own, under its own name

    delete $found{'x-upload-key'}
        if ($found{'x-upload-key'} // '') =~ /^users/;

    return \%found;
}

###############################################################################
