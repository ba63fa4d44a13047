#!/usr/bin/perl

# Tests for people whom a token names before any webhook does: Clerk is asked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_encode /;
use Time::HiRes qw/ sleep time /;

my $SECRET = 'sk_test_thisIsTheSecretOfTheTest';

my $t = Test::Runcoach->new();
my $api = $t->http_daemon(\&clerk, port => 8097);

$t->edge(work => 0, env => {
    CLERK_SECRET_KEY => $SECRET,
    CLERK_API_URL => 'http://' . $t->host(8097) . '/',
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");

###############################################################################

is(stats('user_a')->status, 200, 'first request');
is(row('user_a'), 'user_a@example.com|Test Runner', 'row as Clerk tells it');
is(stats('user_a')->status, 200, 'second request');

my @asked = $t->requests($api);

is(scalar(@asked), 1, 'asked once');
is($asked[0]{target}, '/v1/users/user_a', 'asked: path');
is($asked[0]{headers}{authorization}[0], "Bearer $SECRET", 'asked: secret');

# a row from before Clerk is theirs, and gets the first upload

$t->sql("INSERT INTO users (email) VALUES ('user_old\@example.com')");

my $old = $t->sql("SELECT id FROM users WHERE email = 'user_old\@example.com'");
my $token = $t->token(sub => 'user_old');
my ($ask) = $t->upload($fit, token => $token);
my $r = $t->post('/api/v1/upload/complete', token => $token, json => {
    activity_id => $ask->json->{activity_id}, file_size => length($fit) });

is($r->status, 200, 'a row from before: complete');
is($t->sql('SELECT user_id FROM activities'), $old, 'a row from before');

# not by an address that is not verified

$t->sql("INSERT INTO users (email) VALUES ('unverified_1\@example.com')");
is(stats('unverified_1')->status, 409, 'unverified address of another');
is(row('unverified_1'), '', 'unverified address of another: no row');

# whom a webhook has made known nobody is asked about

$t->webhook($t->user_event('user.created', 'user_w', first_name => 'Hook'));
stats('user_w');
like(row('user_w'), qr/\|Hook/, 'known by webhook');
is(scalar(grep { $_->{target} =~ /user_w$/ } $t->requests($api)), 0,
   'known by webhook: not asked');

$t->webhook($t->user_event('user.deleted', 'user_w'));
is(stats('user_w')->status, 401, 'deleted');

# an id that is not plain

is(stats('user+x:y')->status, 200, 'an id to be encoded');
is(scalar(grep { $_->{target} eq '/v1/users/user%2Bx%3Ay' }
          $t->requests($api)), 1, 'an id to be encoded: is');

# the race with the webhook, either way, ends in one row and what is newest

for my $n (1 .. 6) {
    my $id = "race_$n";
    my $body = json_encode($t->user_event('user.created', $id,
                                          first_name => 'Hook',
                                          ms => 1000 * int(time())));
    my @all;

    for my $i (0 .. 4) {
        push @all, $i == $n % 5
            ? $t->request_start('POST', '/api/v1/webhooks/clerk',
                  body => $body,
                  headers => { %{$t->svix_sign($body)},
                               'Content-Type' => 'application/json' })
            : $t->request_start('GET', '/api/v1/upload/stats',
                                token => $t->token(sub => $id));
    }

    is(join(' ', map { $t->request_end($_)->status } @all), '200 200 200 200 200',
       "race $n");
    is($t->sql('SELECT count(*), max(display_name) FROM users'
               . ' WHERE clerk_user_id = $1', $id), '1|Hook Runner',
       "race $n: one row, and the newer name");
}

# what Clerk does not know, or does not say

is(stats('gone_1')->status, 200, 'unknown to Clerk');
is(row('gone_1'), 'gone_1@users.noreply.invalid|', 'unknown: by the token');
is(stats('user_b')->status, 200, 'the next one is asked about');
like(row('user_b'), qr/^user_b\@example/, 'and is known');

for my $case (qw/ other_1 junk_1 broken_1 denied_1 large_1 /) {
    fresh();
    is(stats($case)->status, 200, $case);
    is(row($case), "$case\@users.noreply.invalid|", "$case: by the token");
}

# Clerk is slow: once, and then nobody waits

fresh();

my $start = time();

is(stats('slow_1')->status, 200, 'slow');
cmp_ok(time() - $start, '<', $t->patience(4.5), 'slow: not longer than the deadline');
is(row('slow_1'), 'slow_1@users.noreply.invalid|', 'slow: by the token');

$start = time();
is(stats('slow_2')->status, 200, 'slow: the next one');
cmp_ok(time() - $start, '<', 1, 'slow: does not wait');

# and the event puts it right

$t->webhook($t->user_event('user.updated', 'slow_1'));
is(row('slow_1'), 'slow_1@example.com|Test Runner', 'the event comes later');

# nobody there

fresh(CLERK_API_URL => 'http://' . $t->host(8098));
is(stats('away_1')->status, 200, 'nobody there');
is(row('away_1'), 'away_1@users.noreply.invalid|', 'nobody there: by the token');

unlike(join('', map { Test::Runcoach::slurp($_) } glob($t->dir() . '/*.out')),
       qr/\Q$SECRET\E/, 'the secret is not in the logs');

# configuration

for my $case ([ CLERK_API_URL => 'http://api.clerk.com' ],
              [ CLERK_API_URL => 'ftp://127.0.0.1' ],
              [ CLERK_API_URL => 'https://' ],
              [ CLERK_SECRET_KEY => "sk_x y" ])
{
    my ($name, $value) = @$case;
    my ($status, $out) = $t->sidecar_run(['check'], { $name => $value });

    is($status, 2, "$name=$value");
    like($out, qr/\b$name must be/, "$name=$value: named");
}

$t->done();

###############################################################################

sub stats
{
    return $t->get('/api/v1/upload/stats',
                   token => $t->token(sub => $_[0]), timeout => 12);
}


sub row
{
    return $t->sql('SELECT email, display_name FROM users'
                   . ' WHERE clerk_user_id = $1', $_[0]);
}


# a process that has no reason to wait

sub fresh
{
    $t->stop_process($t->{serve});
    $t->{serve} = $t->sidecar(['serve'], { @_ });
}


sub clerk
{
    my ($request) = @_;

    my ($id) = $request->{target} =~ m{^/v1/users/(.*)$}
        or return [404, {}, ''];

    $id =~ s/%(..)/chr(hex($1))/ge;

    my $user = $t->user_event('user.updated', $id,
                              ms => 1000 * int(time()) - 50000,
                              unverified => ($id =~ /^unverified/ ? 1 : 0))->{data};

    $user->{public_metadata} = { x => 'y' };

    sleep(0.05 * rand()) if $id =~ /^race/;
    sleep(8) if $id =~ /^slow/;

    return [404, {}, '{"errors":[]}'] if $id =~ /^gone/;
    return [401, {}, '{"errors":[]}'] if $id =~ /^denied/;
    return [500, {}, 'x'] if $id =~ /^broken/;
    return [200, {}, '{"id":'] if $id =~ /^junk/;
    return [200, {}, 'x' x 300000] if $id =~ /^large/;

    $user->{id} = 'user_eve' if $id =~ /^other/;

    return [200, {}, json_encode($user)];
}

###############################################################################
