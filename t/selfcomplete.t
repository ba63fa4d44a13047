#!/usr/bin/perl

# Tests for uploads whose client never comes back: URLs are announced on a
# stream, and when they have expired the worker looks for what is there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256_hex sha256_base64 /;
use Test::More;
use Test::Runcoach;

my $STREAM = 'runcoach:uploads';

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => {
    MAX_FILE_SIZE => 100000,
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
    SIDECAR_UPLOAD_GRACE => 0,
    SIDECAR_SWEEP => 1,
});

# what the edge itself announces ends in an hour

$t->edge_silent();

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $token = $t->token(sub => 'user_s');
my $worker;

$t->webhook($t->user_event('user.created', 'user_s'));

my $me = $t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_s'");
my $next = 7_000_000_000;

###############################################################################

# announced while no worker runs; recorded when one does

my $given = put($fit);

announce('user_s', $given, size => length($fit),
         checksum => sha256_base64($fit) . '=');
announce('user_s', 7_100_000_001, expires => time() + 3600);
$t->{redis}->cmd('XADD', $STREAM, '*', 'key', 'x');
$t->{redis}->cmd('XADD', $STREAM, '*', 'key', '../x', 'user', 'u', 'method',
                 'PUT', 'object', 5, 'expires', 5);
announce('user_s', 7_100_000_002, method => 'GET');

$worker = $t->sidecar(['work']);

ok($t->wait_for(sub { return check($given) eq 'done|completed' }, 10),
   'completed without its client') or diag(check($given));
ok($t->wait_for(sub {
    return $t->sql('SELECT fit_file_status FROM activities'
                   . ' WHERE user_id = $1', $me) eq 'analyzed';
}, 10), 'and analyzed');

is($t->sql('SELECT fit_file_key, fit_file_size, fit_file_checksum'
           . ' FROM activities WHERE user_id = $1', $me),
   key('user_s', $given) . '|' . length($fit) . '|' . sha256_hex($fit),
   'its row');
is(check(7_100_000_001), 'queued|', 'one that has not expired waits');
is($t->sql("SELECT count(*) FROM edge_jobs WHERE kind = 'check_upload'"), 2,
   'what is no announcement is passed over');

# who comes back after all is answered the same

my $job = $t->sql("SELECT id FROM edge_jobs WHERE kind = 'analyze'");
my $r = $t->post('/api/v1/upload/complete', token => $token, json => {
    activity_id => $given, file_size => length($fit) });

is($r->status, 200, 'the client comes late');
is($r->json->{analysis_job_id}, $job, 'late: the same job');

# read again from the beginning nothing happens twice

$t->stop_process($worker);
$t->sql('DELETE FROM edge_cursors');
$worker = $t->sidecar(['work']);

ok($t->wait_for(sub { return $t->sql('SELECT count(*) FROM edge_cursors') },
                10), 'read again');
is($t->sql('SELECT count(*), count(*) FILTER (WHERE state = \'queued\')'
           . " FROM edge_jobs WHERE kind = 'check_upload'"), '2|1',
   'read again: as before');

###############################################################################

# nothing was uploaded

my $none = $next++;

announce('user_s', $none);
ends($none, qr/^done\|expired: nothing/, 'nothing was uploaded');

# completed by the client in time: nobody looks any more

my $quick = put($fit);

announce('user_s', $quick, expires => time() + 3600);
ok($t->wait_for(sub { return check($quick) eq 'queued|' }, 10), 'pending');
$t->post('/api/v1/upload/complete', token => $token, json => {
    activity_id => $quick, file_size => length($fit) });
is(check($quick), 'done|the client has completed it', 'completed by the client');

# deleted by the client

my $deleted = put($fit);
my $soon = time() + 2;

announce('user_s', $deleted, expires => $soon);

my $id = $t->post('/api/v1/upload/complete', token => $token, json => {
    activity_id => $deleted, file_size => length($fit) })->json->{activity_id};

$t->sql("UPDATE edge_jobs SET state = 'queued' WHERE dedupe_key = \$1",
        'check_upload:' . key('user_s', $deleted));
$t->request('DELETE', "/api/v1/upload/activity/$id/fit", token => $token);
store($deleted, $fit);
ends($deleted, qr/^done\|was completed or deleted$/, 'deleted by the client');
is($t->sql('SELECT fit_file_status FROM activities WHERE id = $1', $id),
   'deleted', 'deleted: stays so');

# too large: removed

my $large = put('x' x 1000);

store($large, 'x' x 100001);
announce('user_s', $large);
ends($large, qr/^done\|removed: it was too large$/, 'too large');
ok(!-e path($large), 'too large: the object is gone');

# not what was stated

my $other = put('x' x 1000);

announce('user_s', $other, size => 999);
ends($other, qr/^done\|expired: .* stated size$/, 'of another size');

my $sum = put("$fit ");

announce('user_s', $sum, checksum => sha256_hex($fit));
ends($sum, qr/^done\|completed$/, 'of another SHA-256: completed');
ok($t->wait_for(sub {
    return $t->sql('SELECT fit_error FROM activities WHERE fit_file_key = $1',
                   key('user_s', $sum)) =~ /SHA-256/;
}, 10), 'of another SHA-256: and found out');

# an activity of one's own, with a file of before that is not the upload

my $mine = $t->sql('INSERT INTO activities (user_id, garmin_id, activity_type,'
                   . ' start_time) VALUES ($1::integer, 77, \'running\', now())'
                   . ' RETURNING id', $me);

announce('user_s', $mine);
ends($mine, qr/^done\|expired: nothing/, 'own activity: nothing uploaded');

store($mine, $fit);
utime(time() - 7200, time() - 7200, path($mine));
announce('user_s', $mine);
ends($mine, qr/^done\|expired: .*older/, 'own activity: an object of before');

utime(time(), time(), path($mine));
announce('user_s', $mine);
ends($mine, qr/^done\|completed$/, 'own activity: completed');

announce('user_s', $mine);
ends($mine, qr/^done\|was completed/, 'own activity: once');

# by session; by somebody we have not heard of; by nobody

my $cookie = $t->session($me);
my ($ask) = $t->upload($fit, cookie => $cookie);

announce($me, $ask->json->{activity_id});
ends($ask->json->{activity_id}, qr/^done\|completed$/, 'by session', $me);

my $fresh = $t->token(sub => 'user_f');

($ask) = $t->upload($fit, token => $fresh);
announce('user_f', $ask->json->{activity_id});
ends($ask->json->{activity_id}, qr/^done\|completed$/, 'somebody new',
     'user_f');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id = 'user_f'"), 1,
   'somebody new: has a row');

announce('987654', $next);
ends($next++, qr/^done\|expired: there is no such user$/, 'nobody', 987654);

announce('user_s', 999_999);
ends(999_999, qr/^done\|expired: there is no such activity$/,
     'an activity of nobody');

# the person is deleted meanwhile

my $gone = put($fit);

announce('user_s', $gone, expires => time() + 2);
$t->webhook($t->user_event('user.deleted', 'user_s'));
ends($gone, qr/^done\|removed: the user is deleted$/, 'deleted person');
ok(!-e path($gone), 'deleted person: the object is gone');

###############################################################################

# the database is away while URLs are announced

$t->{postgres}->kill();
announce('user_f', $next);
sleep(1);
$t->{postgres}->start();
ends($next, qr/^done\|expired/, 'the database is back', 'user_f');

# Redis loses all it had

$t->{redis}->cmd('FLUSHALL');
announce('user_f', ++$next);
ends($next, qr/^done\|expired/, 'Redis was emptied', 'user_f');

# the store is away when it expires

$t->stop_process($worker);
$t->http_daemon(sub { return [503, {}, ''] }, port => 8098);

$worker = $t->sidecar(['work'],
                      { R2_ENDPOINT_URL => 'http://' . $t->host(8098) });
($ask) = $t->upload($fit, token => $fresh);
announce('user_f', $ask->json->{activity_id});
ends($ask->json->{activity_id}, qr/^queued\|the store did not answer$/,
     'the store is away', 'user_f');

$t->stop_process($worker);
$t->sql("UPDATE edge_jobs SET run_at = now() WHERE kind = 'check_upload'");
$worker = $t->sidecar(['work']);
ends($ask->json->{activity_id}, qr/^done\|completed$/, 'the store is back',
     'user_f');

$t->stop_process($worker);
$t->done();

###############################################################################

sub key { return "users/$_[0]/activities/$_[1].fit" }
sub path { return "$t->{home}/store/fit-files/" . key('user_s', $_[0]) }


sub put
{
    my ($bytes) = @_;

    my ($ask, $put) = $t->upload($bytes, token => $token);

    $put->status == 200 or die $put->raw;

    return $ask->json->{activity_id};
}


# as somebody with the store's key would

sub store
{
    my ($id, $bytes) = @_;

    my $put = $t->url('PUT', $t->presign(method => 'PUT',
                                         key => key('user_s', $id)),
                      body => $bytes);

    return if $put->status == 200;

    $t->write_file(path($id), $bytes, 0666);
}


# what the edge says when it has signed a URL

sub announce
{
    my ($user, $object, %opt) = @_;

    $t->{redis}->cmd('XADD', $STREAM, 'MAXLEN', '~', 10000, '*',
                     key => key($user, $object), user => $user,
                     method => $opt{method} || 'PUT', object => $object,
                     size => $opt{size} // '', checksum => $opt{checksum} // '',
                     expires => $opt{expires} || time() - 1, later => 'on');
}


sub check
{
    my ($object, $user) = @_;

    return $t->sql('SELECT state, last_error FROM edge_jobs'
                   . ' WHERE dedupe_key = $1',
                   'check_upload:' . key($user || 'user_s', $object));
}


sub ends
{
    my ($object, $re, $name, $user) = @_;

    $t->wait_for(sub {
        $t->{redis}->cmd('LPUSH', 'edge:jobs:wake', 1);

        return check($object, $user) =~ $re;
    }, 10);

    like(check($object, $user), $re, $name);
}

###############################################################################
