#!/usr/bin/perl

# Tests for analysis by a worker of python-arq: what is in Redis is what that
# reads, once, and in time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_decode /;
use Time::HiRes qw/ time /;

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => {
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
    SIDECAR_LEASE => 2,
});

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $token = $t->token(sub => 'user_q');
my $redis = $t->{redis};
my $python = grep({ -x "$_/python3" } split(/:/, $ENV{PATH} // ''));

$t->webhook($t->user_event('user.created', 'user_q'));

my $me = $t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_q'");

###############################################################################

# arq: handed over, not analyzed

my $before = int(1000 * time());
my $worker = $t->sidecar(['work'], { QUEUE_MODE => 'arq' });
my ($activity, $job) = file();
my $id = arq_id($activity);

ok($t->wait_for(sub { return $redis->cmd('EXISTS', "arq:job:$id") }, 10),
   'arq: there');
ok($t->wait_for(sub { return state($job) eq 'done|handed to arq' }, 10),
   'arq: not ours any more') or diag(state($job));
is($t->sql('SELECT fit_file_status, has_fit_file FROM activities'
           . ' WHERE id = $1', $activity), 'uploaded|f',
   'arq: the activity is as the application expects it');

my $score = $redis->cmd('ZSCORE', 'arq:queue', $id);

cmp_ok($score, '>=', $before, 'arq: due now');
cmp_ok($score, '<=', 1000 * time(), 'arq: not later');

my $ttl = $redis->cmd('PTTL', "arq:job:$id");

cmp_ok($ttl, '>', 86_000_000, 'arq: kept for a day');
cmp_ok($ttl, '<=', 86_400_000, 'arq: not longer');
reads($id, $activity, $score);

# completed again: the same, once

is($t->post('/api/v1/upload/complete', token => $token, json => {
       activity_id => $activity, file_size => length($fit) })
   ->json->{analysis_job_id}, $job, 'arq: again: the same job');
is($redis->cmd('ZCARD', 'arq:queue'), 1, 'arq: again: once');

# what arq has just done is not done again

my ($other, $done) = do {
    $t->stop_process($worker);
    file();
};

$redis->cmd('SET', 'arq:result:' . arq_id($other), 'x');
$worker = $t->sidecar(['work'], { QUEUE_MODE => 'arq' });
ok($t->wait_for(sub { return state($done) eq 'done|handed to arq' }, 10),
   'arq: one that has a result');
is($redis->cmd('EXISTS', 'arq:job:' . arq_id($other)), 0,
   'arq: one that has a result is not queued');
$t->stop_process($worker);

# another queue

($activity, $job) = file();
$worker = $t->sidecar(['work'], { QUEUE_MODE => 'arq', ARQ_QUEUE => 'fits' });
ok($t->wait_for(sub { return state($job) =~ /^done/ }, 10), 'another queue');
ok(defined $redis->cmd('ZSCORE', 'fits', arq_id($activity)),
   'another queue: there');
$t->stop_process($worker);

# both

($activity, $job) = file();
$worker = $t->sidecar(['work'], { QUEUE_MODE => 'both' });
ok($t->wait_for(sub { return state($job) eq 'done|' }, 10), 'both')
    or diag(state($job));
is($redis->cmd('EXISTS', 'arq:job:' . arq_id($activity)), 1,
   'both: handed over');
is($t->sql('SELECT fit_file_status FROM activities WHERE id = $1', $activity),
   'analyzed', 'both: and analyzed');
$t->stop_process($worker);

# internal: nothing of arq's

($activity, $job) = file();
$worker = $t->sidecar(['work']);
ok($t->wait_for(sub { return state($job) eq 'done|' }, 10), 'internal');
is($redis->cmd('EXISTS', 'arq:job:' . arq_id($activity)), 0,
   'internal: not handed over');
$t->stop_process($worker);

# Redis is away: the job waits

($activity, $job) = file();
$worker = $t->sidecar(['work'], { QUEUE_MODE => 'arq',
                                  REDIS_URL => "unix:$t->{dir}/none.sock" });
ok($t->wait_for(sub { return state($job) =~ /^queued\|redis did not/ }, 10),
   'Redis is away') or diag(state($job));
$t->stop_process($worker);
$t->sql("UPDATE edge_jobs SET run_at = now() WHERE state = 'queued'");
$worker = $t->sidecar(['work'], { QUEUE_MODE => 'arq' });
ok($t->wait_for(sub { return state($job) =~ /^done/ }, 10), 'Redis is back');
is($redis->cmd('EXISTS', 'arq:job:' . arq_id($activity)), 1,
   'Redis is back: handed over');
$t->stop_process($worker);

# configuration

for my $case ([ { QUEUE_MODE => 'celery' }, qr/QUEUE_MODE must be/ ],
              [ { QUEUE_MODE => 'arq', REDIS_URL => '' },
                qr/QUEUE_MODE needs REDIS_URL/ ])
{
    my ($status, $out) = $t->sidecar_run(['check'], $case->[0]);

    is($status, 2, "$case->[0]{QUEUE_MODE}: refused");
    like($out, $case->[1], "$case->[0]{QUEUE_MODE}: said why");
}

$t->done();

###############################################################################

sub file
{
    my ($ask) = $t->upload($fit, token => $token);
    my $r = $t->post('/api/v1/upload/complete', token => $token, json => {
        activity_id => $ask->json->{activity_id},
        file_size => length($fit) });

    $r->status == 200 or die $r->raw;

    return @{$r->json}{qw/ activity_id analysis_job_id /};
}


sub arq_id
{
    my ($activity) = @_;

    return "fit-$activity-"
           . $t->sql('SELECT left(fit_file_etag, 8) FROM activities'
                     . ' WHERE id = $1', $activity);
}


sub state
{
    return $t->sql('SELECT state, last_error FROM edge_jobs WHERE id = $1',
                   $_[0]);
}


# as python-arq reads it: arq/jobs.py, deserialize_job_raw()

sub reads
{
    my ($id, $activity, $score) = @_;

    SKIP: {
        skip 'no python3', 1 unless $python;

        my $hex = unpack('H*', $redis->cmd('GET', "arq:job:$id"));
        my ($status, $out) = $t->command(['python3', '-c', <<'EOF_PY', $hex]);
import json, pickle, sys
d = pickle.loads(bytes.fromhex(sys.argv[1]))
assert type(d['a']) is tuple
print(json.dumps([d['t'], d['f'], list(d['a']), d['k'], d['et']]))
EOF_PY

        is_deeply($status == 0 ? json_decode($out) : $out,
                  [ undef, 'analyze_fit', [],
                    { activity_id => $activity + 0, user_id => $me + 0 },
                    $score + 0 ], 'arq: as Python reads it') or diag($out);
    }
}

###############################################################################
