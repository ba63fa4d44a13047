#!/usr/bin/perl

# Tests for the removal of objects: on request, with a store that is away for
# a while, and when a person has left.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => {
    USER_FILES_GRACE => 0,
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my %id;

for my $user (qw/ user_go user_stay user_later user_back user_local /) {
    $t->webhook($t->user_event('user.created', $user));

    $id{$user} = $t->sql('SELECT id FROM users WHERE clerk_user_id = $1',
                         $user);
}

my $worker = $t->sidecar(['work']);

###############################################################################

# the store is away: the request is done, and the object goes when it is back

my ($activity, $key) = file('user_stay');

$t->stop_process($t->{serve});
$t->stop_process($worker);

my %broken = (R2_ENDPOINT_URL => 'http://' . $t->host(8098));
my $store = $t->http_daemon(sub { return [503, {}, ''] }, port => 8098);

$t->{serve} = $t->sidecar(['serve'], \%broken);
$worker = $t->sidecar(['work'], \%broken);

is($t->request('DELETE', "/api/v1/upload/activity/$activity/fit",
               token => $t->token(sub => 'user_stay'))->status, 200,
   'deleted while the store is away');
is(there($key), 1, 'the object is still there');

$t->sql("UPDATE edge_jobs SET lease_until = now() WHERE kind ="
        . " 'delete_object' AND object_key = \$1", $key);
wake();

ok($t->wait_for(sub { return removal($key) =~ /^queued\|[1-9]/ }, 10),
   'tried again') or diag(removal($key));

$t->stop_process($t->{serve});
$t->stop_process($worker);
$t->{serve} = $t->sidecar(['serve']);
$t->sql("UPDATE edge_jobs SET run_at = now() WHERE object_key = \$1", $key);
$worker = $t->sidecar(['work']);

ok($t->wait_for(sub { return removal($key) =~ /^done/ }, 10),
   'removed when the store is back') or diag(removal($key));
is(there($key), 0, 'the object is gone');

###############################################################################

# a person has left

my @go = map { [ file('user_go') ] } 1 .. 3;
my @stay = file('user_stay');

is($t->webhook($t->user_event('user.deleted', 'user_go'), id => 'msg_go')
   ->status, 200, 'a person leaves');

ok($t->wait_for(sub {
    return !grep { there($_->[1]) } @go;
}, 10), 'their objects are gone');

ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM edge_jobs WHERE state <> 'done'") == 0;
}, 10), 'all jobs are done');

is($t->sql('SELECT count(*), count(fit_file_key), count(r2_key),'
           . " count(*) FILTER (WHERE fit_file_status = 'deleted')"
           . ' FROM activities WHERE user_id = $1', $id{user_go}), '3|0|0|3',
   'their rows say so');
is(there($stay[1]), 1, "others' objects are there");
is($t->sql('SELECT count(fit_file_key) FROM activities WHERE user_id = $1',
           $id{user_stay}), 1, "others' rows are as they were");

is($t->webhook($t->user_event('user.deleted', 'user_go'), id => 'msg_go')
   ->status, 200, 'told again');
is($t->sql("SELECT count(*) FROM edge_jobs WHERE kind = 'delete_user_files'"),
   1, 'told again: one job');

# what they had asked for before is not completed any more

is($t->post('/api/v1/upload/complete', token => $t->token(sub => 'user_go'),
            json => { activity_id => 5_000_000_000, file_size => 5 })
   ->status, 401, 'their token is no good');

###############################################################################

# who can log in by the application's own password has not left; an empty one
# is none

my @local = file('user_local');

for my $hash ('$2b$12$local', '') {
    $t->sql("UPDATE users SET password_hash = \$2, clerk_user_id = 'user_local'"
            . ' WHERE id = $1', $id{user_local}, $hash);
    $t->sql("DELETE FROM edge_identity WHERE clerk_user_id = 'user_local'");
    $t->sql('DELETE FROM edge_jobs WHERE dedupe_key ='
            . " 'delete_user_files:user_local'");

    $t->webhook($t->user_event('user.deleted', 'user_local'));

    my $job;

    ok($t->wait_for(sub {
        $job = $t->sql('SELECT state, last_error FROM edge_jobs WHERE'
                       . " dedupe_key = 'delete_user_files:user_local'");
        return $job =~ /^done/;
    }, 10), "password \"$hash\": the job is done");

    if ($hash ne '') {
        like($job, qr/password/, 'with a password: the job says why');
        is(there($local[1]), 1, 'with a password: the object is there');
        is($t->get('/api/v1/upload/stats',
                   cookie => $t->session($id{user_local}))
           ->json->{total_files}, 1, 'with a password: still theirs');
        next;
    }

    ok($t->wait_for(sub { return !there($local[1]) }, 10),
       'without one: the object goes');
}

###############################################################################

# with a time to come back

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve'], { USER_FILES_GRACE => 7 });

my @later = file('user_later');
my @back = file('user_back');

for my $user (qw/ user_later user_back /) {
    $t->webhook($t->user_event('user.deleted', $user));

    is($t->sql('SELECT state, round(extract(epoch FROM run_at - now()) / 86400)'
               . " FROM edge_jobs WHERE kind = 'delete_user_files'"
               . ' AND user_id = $1', $id{$user}), 'queued|7',
       "$user: in a week");
}

is(there($later[1]), 1, 'in a week: still there');

# the same person with a new identity: the address is verified

is($t->webhook($t->user_event('user.created', 'user_new',
                              email => 'user_back@example.com'))->status, 200,
   'one is back');
is($t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_new'"),
   $id{user_back}, 'back: the same row');

$t->sql("UPDATE edge_jobs SET run_at = now() WHERE state = 'queued'");
wake();

ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM edge_jobs WHERE state <> 'done'") == 0;
}, 10), 'a week later');

is(there($later[1]), 0, 'who stayed away has no files');
is(there($back[1]), 1, 'who came back has');
like($t->sql("SELECT last_error FROM edge_jobs WHERE kind ="
             . " 'delete_user_files' AND user_id = \$1", $id{user_back}),
     qr/back/, 'and the job says why');

# never

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve'], { USER_FILES_GRACE => -1 });

$t->webhook($t->user_event('user.deleted', 'user_stay'));
is($t->sql("SELECT count(*) FROM edge_jobs WHERE kind = 'delete_user_files'"
           . ' AND user_id = $1', $id{user_stay}), 0, 'never: no job');

# many files in several transactions

$t->sql('INSERT INTO activities (user_id, garmin_id, activity_type,'
        . ' start_time, r2_key) SELECT $1::integer, i, \'running\', now(),'
        . " 'users/many/' || i || '.fit' FROM generate_series(1, 450) i",
        $id{user_go});
$t->sql("INSERT INTO edge_jobs (kind, user_id) VALUES ('delete_user_files',"
        . ' $1::integer)', $id{user_go});
wake();

ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM edge_jobs WHERE kind ="
                   . " 'delete_object' AND object_key LIKE 'users/many/%'")
           == 450;
}, 10), 'many files');

$t->stop_process($worker);
$t->done();

###############################################################################

sub file
{
    my ($user) = @_;

    my $token = $t->token(sub => $user);
    my ($ask) = $t->upload($fit, token => $token);
    my $r = $t->post('/api/v1/upload/complete', token => $token, json => {
        activity_id => $ask->json->{activity_id},
        file_size => length($fit) });

    $r->status == 200 or die $r->raw;

    return ($r->json->{activity_id}, $ask->json->{key});
}


sub there
{
    return -e "$t->{home}/store/fit-files/$_[0]" ? 1 : 0;
}


sub removal
{
    return $t->sql('SELECT state, retries, last_error FROM edge_jobs'
                   . " WHERE kind = 'delete_object' AND object_key = \$1",
                   $_[0]);
}


sub wake
{
    $t->{redis}->cmd('LPUSH', 'edge:jobs:wake', 1);
}

###############################################################################
