#!/usr/bin/perl

# Tests for Clerk's webhooks: signature, idempotence, order, users, and what the
# edges are told.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach qw/ json_encode /;

my $STREAM = 'runcoach:revocations';

my $t = Test::Runcoach->new();
my $second = 'whsec_' . encode_base64('the second of two keys ..', '');

$t->edge(work => 0, env => {
    CLERK_WEBHOOK_SECRET => "$Test::Runcoach::WEBHOOK_SECRET,$second",
});

my $now = time();

###############################################################################

# a user is made

my $event = $t->user_event('user.created', 'user_a', email => 'Anna@Example.com',
                           first_name => 'Anna', last_name => 'Kim');
my $r = $t->webhook($event, id => 'msg_a1');

is($r->status, 200, 'created');
is_deeply($r->json, { status => 'ok', event_type => 'user.created' },
          'created: answer');
is(row('user_a'), 'Anna@Example.com|Anna Kim', 'created: row');
is(inbox(), 1, 'created: inbox');

# the same delivery again

$r = $t->webhook($event, id => 'msg_a1');
is($r->status, 200, 'repeated');
is($r->json->{status}, 'ok', 'repeated: answer');
is(users(), 1, 'repeated: no second row');
is(inbox(), 1, 'repeated: no second entry');

# the same id with another content has no second effect either

$r = $t->webhook($t->user_event('user.updated', 'user_a', first_name => 'Eve'),
                 id => 'msg_a1');
is($r->status, 200, 'repeated id, other content');
is(row('user_a'), 'Anna@Example.com|Anna Kim',
   'repeated id, other content: no effect');

# twice at once

my $body = json_encode($t->user_event('user.created', 'user_twice'));
my $headers = { %{$t->svix_sign($body)}, 'Content-Type' => 'application/json' };
my @both = map { $t->request_start('POST', '/api/v1/webhooks/clerk',
                                   body => $body, headers => $headers) } 1 .. 8;

is(join(' ', map { $t->request_end($_)->status } @both), join(' ', (200) x 8),
   'at once: all are answered');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id = 'user_twice'"), 1,
   'at once: one row');
is($t->sql('SELECT count(*) FROM edge_inbox WHERE svix_id = $1',
           $headers->{'svix-id'}), 1, 'at once: one entry');

# updated, and an older one that comes later

my $ms = $now * 1000 + 60000;

is($t->webhook($t->user_event('user.updated', 'user_a', ms => $ms,
                              email => 'anna.lee@example.com',
                              first_name => 'Anna', last_name => 'Lee'))
   ->status, 200, 'updated');
is(row('user_a'), 'anna.lee@example.com|Anna Lee', 'updated: row');

is($t->webhook($t->user_event('user.updated', 'user_a', ms => $ms - 30000,
                              first_name => 'Old'))->status, 200,
   'older update');
is(row('user_a'), 'anna.lee@example.com|Anna Lee', 'older update: no effect');

# an update of somebody we have not heard of

is($t->webhook($t->user_event('user.updated', 'user_new'))->status, 200,
   'update of an unknown');
like(row('user_new'), qr/^user_new\@example\.com\|/,
     'update of an unknown: row');

# names

my $nameless = $t->user_event('user.created', 'user_n2',
                              email => 'part@example.com');

@{$nameless->{data}}{qw/ first_name last_name /} = (undef, undef);
$t->webhook($nameless);
is(row('user_n2'), 'part@example.com|part', 'no name: local part');

is($t->webhook($t->user_event('user.created', 'user_k', first_name => "\x{ae40}",
                              last_name => "\x{bbfc}\x{c218}"))->status, 200,
   'Korean name');
is($t->sql("SELECT length(display_name) FROM users"
           . " WHERE clerk_user_id = 'user_k'"), 4, 'Korean name: characters');

my $quoted = "O'Neil\"; DROP TABLE users; --";

$t->webhook($t->user_event('user.created', 'user_q', first_name => $quoted,
                           last_name => ''));
like(row('user_q'), qr/O'Neil"; DROP TABLE users; --/, 'quotes in a name');

# no address at all

my $bare = $t->user_event('user.created', 'user_bare');

$bare->{data}{email_addresses} = [];
$bare->{data}{primary_email_address_id} = undef;
is($t->webhook($bare)->status, 200, 'no address');

# what people put into metadata of their own is no reason to refuse an event

for my $case ([ 'lone surrogates', '"\ud800 \udc00\ud83d"' ],
              [ 'a NUL', '"\u0000"' ],
              [ 'beyond a double', '[1e400, -1e999]' ],
              [ 'beyond an integer', '1' . '0' x 50 ],
              [ 'very deep', '[' x 5000 . ']' x 5000 ])
{
    my ($what, $value) = @$case;
    my $user = 'user_meta_' . $what =~ tr/ /_/r;
    my $body = json_encode($t->user_event('user.created', $user));

    $body =~ s/("data":\{)/$1"unsafe_metadata":{"x":$value},/ or die;

    is($t->webhook($body, id => "msg_$user")->status, 200, "metadata: $what");
    is(row($user), "$user\@example.com|Test Runner", "metadata: $what: row");
    is($t->sql('SELECT outcome, payload IS NOT NULL FROM edge_inbox'
               . ' WHERE svix_id = $1', "msg_$user"), 'applied|t',
       "metadata: $what: kept");
}

# an unverified address of somebody else

$t->webhook($t->user_event('user.created', 'user_v', email => 'v@example.com'));
my $id = $t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_v'");

is($t->webhook($t->user_event('user.created', 'user_thief', unverified => 1,
                              email => 'V@example.com'))->status, 200,
   'unverified address of another');
is($t->sql("SELECT id FROM users WHERE lower(email) = 'v\@example.com'"), $id,
   'unverified address of another: not taken over');
is(row('user_thief'), '', 'unverified address of another: no row');

# a row of before Clerk is linked by a verified address

$t->sql("INSERT INTO users (email) VALUES ('before\@example.com')");
$t->webhook($t->user_event('user.created', 'user_b4', unverified => 1,
                           email => 'before@example.com'));
is(row('user_b4'), '', 'existing row, unverified: not linked');
$t->webhook($t->user_event('user.updated', 'user_b4', ms => $ms,
                           email => 'before@example.com'));
like(row('user_b4'), qr/^before\@example\.com/,
     'existing row, verified: linked');
is($t->sql("SELECT count(*) FROM users WHERE email = 'before\@example.com'"),
   1, 'existing row: no second');

# deleted, and what comes after that

is($t->webhook($t->user_event('user.deleted', 'user_a', ms => $ms + 1000))
   ->status, 200, 'deleted');
is($t->sql("SELECT count(*) FROM edge_identity WHERE clerk_user_id = 'user_a'"
           . ' AND deleted_at IS NOT NULL'), 1, 'deleted: recorded');
is($t->webhook($t->user_event('user.updated', 'user_a', ms => $ms + 2000,
                              first_name => 'Back'))->status, 200,
   'update after deletion');
unlike(row('user_a'), qr/Back/, 'update after deletion: no effect');

$r = $t->get('/api/v1/upload/stats', token => $t->token(sub => 'user_a'));
is($r->status, 401, 'token of a deleted user');
like($r->header('WWW-Authenticate') // '', qr/^Bearer/,
     'token of a deleted user: challenge');

is($t->webhook($t->user_event('user.deleted', 'user_never'))->status, 200,
   'deletion of an unknown');
is($t->webhook($t->user_event('user.created', 'user_never'))->status, 200,
   'creation after its deletion');
is($t->sql("SELECT count(*) FROM edge_identity WHERE "
           . "clerk_user_id = 'user_never' AND deleted_at IS NOT NULL"), 1,
   'creation after its deletion: still deleted');

# what the edges are told: each time, as they may not have heard it

is(revocations(), 'user user_a,user user_never', 'deleted: told');

my $deleted = $t->user_event('user.deleted', 'user_again');

is($t->webhook($deleted, id => 'msg_d1')->status, 200, 'deleted: once');
is($t->webhook($deleted, id => 'msg_d1')->status, 200, 'deleted: repeated');
is(revocations(), 'user user_a,user user_never,user user_again,'
                  . 'user user_again', 'deleted: told again');
$t->{redis}->cmd('DEL', $STREAM);

for my $type (qw/ ended removed revoked created pending /) {
    is($t->webhook(session_event($type, "sess_$type"))->status, 200,
       "session.$type");
}

is(revocations(), join(',', map { "session sess_$_" }
                            qw/ ended removed revoked /),
   'sessions that are over: told');
$t->{redis}->cmd('DEL', $STREAM);

is($t->webhook(session_event('revoked', undef))->status, 200,
   'the end of no session');
is($t->webhook(session_event('ended', 'sess_x'), time => $now - 400)->status,
   401, 'the end of a session, too old');
is($t->webhook({ type => 'user.deleted', data => { deleted => JSON::PP::true },
                 object => 'event' })->status, 200, 'deletion of nobody');
is(revocations(), '', 'nothing to be told');

# events we have nothing to do for

$r = $t->webhook({ type => 'session.created', object => 'event',
                   timestamp => $now * 1000, data => { id => 'sess_1' } });
is($r->status, 200, 'other event');
is($r->json->{event_type}, 'session.created', 'other event: answer');
is($t->webhook({ type => 'organization.created', data => {} })->status, 200,
   'organization');

# the second of the two secrets, and several signatures in one header

is($t->webhook($t->user_event('user.created', 'user_s2'), secret => $second)
   ->status, 200, 'second secret');

$body = json_encode($t->user_event('user.created', 'user_s3'));
$headers = $t->svix_sign($body);
$headers->{'svix-signature'} = 'v1,AAAA v2,BBBB ' . $headers->{'svix-signature'};
is($t->post('/api/v1/webhooks/clerk', body => $body, headers => $headers)
   ->status, 200, 'several signatures');

# Standard Webhooks' names of the headers

$body = json_encode($t->user_event('user.created', 'user_s4'));
$headers = $t->svix_sign($body);
$headers = { map { s/^svix-/webhook-/r => $headers->{$_} } keys %$headers };
is($t->post('/api/v1/webhooks/clerk', body => $body, headers => $headers)
   ->status, 200, 'webhook-* headers');

###############################################################################

# What bad input gets: an error and no row.

my $before = counts();

for my $case (
    [ 401, 'other secret', { secret => 'whsec_' . encode_base64('x' x 24, '') } ],
    [ 401, 'too old', { time => $now - 400 } ],
    [ 401, 'too new', { time => $now + 400 } ],
    [ 401, 'timestamp is text', { time => 'x' } ],
    [ 401, 'timestamp with a sign', { time => "+$now" } ],
    [ 401, 'signature is empty', { headers => { 'svix-signature' => 'v1,' } } ],
    [ 401, 'no version', { headers => { 'svix-signature' => 'AAAA' } } ],
    [ 401, 'other version', {}, sub { s/^v1,/v2,/ for $_[0]{'svix-signature'} } ],
    [ 401, 'signature cut', {}, sub { chop($_[0]{'svix-signature'}) } ],
    [ 401, 'other id', {}, sub { $_[0]{'svix-id'} .= 'x' } ],
    [ 401, 'other timestamp', {}, sub { $_[0]{'svix-timestamp'}++ } ],
    [ 401, 'body changed', {}, sub { $_[1] .= ' ' } ],
    [ 422, 'no id', {}, sub { delete $_[0]{'svix-id'} } ],
    [ 422, 'no timestamp', {}, sub { delete $_[0]{'svix-timestamp'} } ],
    [ 422, 'no signature', {}, sub { delete $_[0]{'svix-signature'} } ],
)
{
    my ($status, $name, $opt, $change) = @$case;

    my $text = json_encode($t->user_event('user.created', 'user_bad'));
    my $headers = { %{$t->svix_sign($text, %$opt)}, %{$opt->{headers} || {}} };

    $change->($headers, $text) if $change;

    my $r = $t->post('/api/v1/webhooks/clerk', body => $text,
                     headers => $headers);

    is($r->status, $status, $name);
    is($r->detail, 'Invalid webhook signature', "$name: detail")
        if $status == 401;
    like(json_encode($r->detail), qr/svix-/, "$name: names the header")
        if $status == 422;
}

for my $case (
    [ 400, 'not JSON', '{' ],
    [ 400, 'empty', '' ],
    [ 400, 'a list', '[]' ],
    [ 400, 'not UTF-8', "{\"type\":\"user.created\",\"data\":{\"id\":\"\xff\"}}" ],
    [ qr/4\d\d/, 'no type', '{}' ],
    [ qr/4\d\d/, 'type is a number', '{"type":5,"data":{}}' ],
    [ qr/4\d\d/, 'no data', '{"type":"user.created"}' ],
    [ qr/4\d\d/, 'no id', '{"type":"user.created","data":{}}' ],
    [ qr/4\d\d/, 'id is a number', '{"type":"user.created","data":{"id":5}}' ],
    [ 400, 'deep', '[' x 5000 ],
)
{
    my ($status, $name, $text) = @$case;

    my $r = $t->webhook($text);

    ref($status) ? like($r->status, $status, "signed: $name")
                 : is($r->status, $status, "signed: $name");
    is(ref($r->json), 'HASH', "signed: $name, an object");
}

is($t->webhook('x' x 300000)->status, 413, 'too large');
is($t->webhook('{"type":"' . 'x' x 250000 . '"}')->status, 400,
   'nearly too large, a type that is none');

is(counts(), $before, 'none of it left a row');

is($t->get('/api/v1/webhooks/clerk')->status, 405, 'GET');
is($t->post('/api/v1/webhooks/other', body => '{}')->body, '{}',
   'others are for the application, which is told of nobody');

# a slow body, and one that breaks off

$body = json_encode($t->user_event('user.created', 'user_slow'));
$headers = $t->svix_sign($body);

my $s = $t->http_start("POST /api/v1/webhooks/clerk HTTP/1.0\r\n"
    . join('', map { "$_: $headers->{$_}\r\n" } keys %$headers)
    . 'Content-Length: ' . length($body) . "\r\n\r\n" . substr($body, 0, 20),
    body => substr($body, 20), sleep => 0.2);

is($t->request_end($s)->status, 200, 'slow body');

$t->http("POST /api/v1/webhooks/clerk HTTP/1.0\r\nContent-Length: 500\r\n\r\n{",
         aborted => 1, sleep => 0.05);

# health

$r = $t->get('/api/v1/webhooks/health');
is($r->status, 200, 'health');
ok($r->json->{clerk_webhooks_enabled}, 'health: enabled');
ok($r->json->{timestamp}, 'health: timestamp');

# the log has neither addresses nor secrets of what was refused

my $out = $t->read_file('sidecar-serve.out') // '';

unlike($out, qr/whsec_|\Q@{[substr($Test::Runcoach::WEBHOOK_SECRET, 6)]}\E/,
       'no secret in the log');
unlike($out, qr/anna.*\@example\.com/i, 'no address in the log');

###############################################################################

# The database is down: 503, and the same delivery succeeds when it is back.

$body = json_encode($t->user_event('user.created', 'user_later'));
$headers = $t->svix_sign($body);

$t->{postgres}->kill();

$r = $t->post('/api/v1/webhooks/clerk', body => $body, headers => $headers);
is($r->status, 503, 'database down');
like($r->header('Retry-After') // '', qr/^\d+$/, 'database down: Retry-After');
ok($r->detail, 'database down: detail');

$t->{postgres}->start();

ok($t->wait_for(sub {
    return $t->post('/api/v1/webhooks/clerk', body => $body,
                    headers => $headers)->status == 200;
}, 15), 'database back: same delivery succeeds');

like(row('user_later'), qr/^user_later\@example\.com/, 'database back: row');

# Redis is down: what the edges have to hear is delivered again, and other
# events are none of its business.

$t->{redis}->kill();

my $over = session_event('revoked', 'sess_later');

for my $try ('Redis down', 'Redis still down') {
    $r = $t->webhook($over, id => 'msg_over');
    is($r->status, 503, $try);
    like($r->header('Retry-After') // '', qr/^\d+$/, "$try: Retry-After");
}

is($t->webhook($t->user_event('user.updated', 'user_new'))->status, 200,
   'Redis down: another event');

$t->{redis}->start();
$t->{redis}->cmd('DEL', $STREAM);

ok($t->wait_for(sub { $t->webhook($over, id => 'msg_over')->status == 200 }),
   'Redis back: same delivery succeeds');
is(revocations(), 'session sess_later', 'Redis back: told');

# a stream that cannot be written to

$t->{redis}->cmd('DEL', $STREAM);
$t->{redis}->cmd('SET', $STREAM, 'x');
is($t->webhook($over, id => 'msg_over')->status, 503, 'no stream');
$t->{redis}->cmd('DEL', $STREAM);
is($t->webhook($over, id => 'msg_over')->status, 200, 'no stream: no more');

# without Redis there is nobody to be told

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve'], { REDIS_URL => '' });
$t->{redis}->cmd('DEL', $STREAM);

is($t->webhook(session_event('ended', 'sess_none'))->status, 200,
   'without Redis');
is(revocations(), '', 'without Redis: nothing');

# without a secret

$t->stop_process($t->{serve});
delete $t->{edge_env}{CLERK_WEBHOOK_SECRET};
$t->{serve} = $t->sidecar(['serve']);

$r = $t->webhook($t->user_event('user.created', 'user_z'));
is($r->status, 503, 'no secret');
like($r->detail // '', qr/not configured/i, 'no secret: detail');

$r = $t->get('/api/v1/webhooks/health');
ok($r->json && !$r->json->{clerk_webhooks_enabled}, 'no secret: health');

$t->done();

###############################################################################

sub row
{
    my ($id) = @_;

    return $t->sql('SELECT email, display_name FROM users'
                   . ' WHERE clerk_user_id = $1', $id);
}


sub users { return $t->sql('SELECT count(*) FROM users') }
sub inbox { return $t->sql('SELECT count(*) FROM edge_inbox') }


sub session_event
{
    my ($type, $id) = @_;

    return { object => 'event', type => "session.$type",
             timestamp => $now * 1000,
             data => { object => 'session', id => $id, status => $type,
                       user_id => 'user_s', client_id => 'client_s' } };
}


sub revocations
{
    my $entries = $t->{redis}->cmd('XRANGE', $STREAM, '-', '+');

    return join(',', map { my %field = @{$_->[1]}; "$field{kind} $field{id}" }
                     @$entries);
}


sub counts
{
    return users() . ' ' . inbox() . ' '
           . $t->sql('SELECT count(*) FROM edge_identity');
}

###############################################################################
