#!/usr/bin/perl

# Tests for what the files of all users take: the sums are exact whoever writes
# an activity, and nobody waits for them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => { RATE_LIMIT_REQUESTS => 60000,
                             RATE_LIMIT_BURST => 1000 });

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my @users = map { $t->sql('INSERT INTO users (email, timezone) VALUES ($1,'
                          . " 'Asia/Seoul') RETURNING id", "$_\@x.org") }
            1 .. 3;

###############################################################################

# what we write

my $r = stats($users[0]);

is($r->{account}{total_files}, 0, 'nothing yet');
cmp_ok($r->{account}{free_tier_remaining_gb}, '==', 10, 'nothing yet: free');

my @mine = map { upload($users[0]) } 1 .. 3;

upload($users[1]);

$r = stats($users[1]);
is($r->{total_files}, 1, 'uploads: mine');
is($r->{account}{total_files}, 4, 'uploads: all');

$t->request('DELETE', "/api/v1/upload/activity/$mine[0]/fit",
            cookie => $t->session($users[0]));

is(stats($users[1])->{account}{total_files}, 3, 'a deletion');
exact('after a deletion');

# another file in place of one

my $again = $t->sql('SELECT fit_file_key FROM activities WHERE id = $1',
                    $mine[1]);

$t->url('PUT', $t->presign(method => 'PUT', key => $again),
        body => 'x' x 70000);
is($t->post('/api/v1/upload/complete', cookie => $t->session($users[0]),
            json => { activity_id => $mine[1], file_size => 70000 })->status,
   200, 'another file in its place');
exact('another file in its place');

# what the application writes, and by another role

$t->sql('CREATE ROLE application LOGIN');
$t->sql('GRANT SELECT, INSERT, UPDATE, DELETE ON users, activities'
        . ' TO application');

my $gb = 2 ** 30;

application('INSERT INTO activities (user_id, garmin_id, activity_type,'
            . ' start_time, r2_key, fit_file_size)'
            . " SELECT $users[2], i, 'running', now(), 'k' || i, $gb"
            . ' FROM generate_series(1, 12) i');

$r = stats($users[0]);
is($r->{account}{total_files}, 15, 'the application: files');
cmp_ok($r->{account}{total_size_gb}, '==', 12, 'the application: GB');
cmp_ok($r->{account}{free_tier_used_percent}, '==', 120,
       'the application: percent');
cmp_ok($r->{account}{free_tier_remaining_gb}, '==', 0,
       'the application: nothing is left');
cmp_ok($r->{free_tier_used_percent}, '<', 1, 'the application: my own share');
exact('the application inserts');

application("UPDATE activities SET name = 'x', updated_at = now()");
application('UPDATE activities SET fit_file_size = NULL WHERE garmin_id = 1');
application('UPDATE activities SET r2_key = NULL WHERE garmin_id IN (2, 3)');
application("UPDATE activities SET r2_key = 'y' WHERE garmin_id = 2");
application("UPDATE activities SET fit_file_key = 'z' WHERE garmin_id = 2");
exact('the application updates');

application('DELETE FROM activities WHERE garmin_id = 4');
exact('the application deletes');

is($t->sql('BEGIN; DELETE FROM activities WHERE garmin_id < 9; ROLLBACK;'
           . ' SELECT files FROM edge_account_usage()'),
   stats($users[0])->{account}{total_files}, 'a transaction that is undone');

# nobody waits: a change that is not committed yet holds up no other

my ($status, $out) = $t->command([ 'sh', '-c', q{
    { echo "BEGIN; UPDATE activities SET fit_file_size = 1
            WHERE garmin_id = 5;"; sleep 2; echo "COMMIT;"; } | "$@" &
    sleep 0.5
    echo "SET statement_timeout = '500ms'; UPDATE activities
          SET fit_file_size = 1 WHERE garmin_id = 6;" | "$@"
    status=$?
    wait
    exit $status }, 'sh', "$t->{postgres}{bin}/psql", '-Xq', '-v',
    'ON_ERROR_STOP=1', '-h', $t->{dir}, '-U', 'application', 'runcoach' ]);

is($status, 0, 'two at once') or diag($out);
exact('two at once');

# many rows of the ledger become one, and are as much

is($t->sql('SELECT count(*) < 100 FROM edge_usage'), 't', 'a short ledger');
$t->sql("UPDATE activities SET fit_file_size = fit_file_size + 1"
        . ' FROM generate_series(1, 1) WHERE r2_key IS NOT NULL')
    for 1 .. 100;
exact('a long ledger');
$t->sql('SELECT edge_fold_usage()');
is($t->sql('SELECT count(*) FROM edge_usage'), 1, 'folded');
exact('folded');

# what no trigger sees is put right

$t->sql('SET session_replication_role = replica;'
        . ' DELETE FROM activities WHERE garmin_id = 7');
isnt($t->sql('SELECT files FROM edge_account_usage()'),
     $t->sql('SELECT count(*) FROM activities WHERE'
             . ' coalesce(fit_file_key, r2_key) IS NOT NULL'), 'a restore');

$t->sql("UPDATE activities SET fit_file_key = NULL, r2_key = NULL"
        . " WHERE garmin_id > 0");

($status, $out) = $t->sidecar_run(['reconcile', '--repair']);
like($out, qr/^usage    files=-1 bytes=-1\d{9} /m, 'recounted') or diag($out);
exact('recounted');

($status, $out) = $t->sidecar_run(['reconcile', '--repair']);
unlike($out, qr/^usage/m, 'recounted: nothing is left to be said');

# migrated with files that were there before

$t->sql('INSERT INTO activities (user_id, garmin_id, activity_type,'
        . ' start_time, r2_key, fit_file_size) SELECT $1::integer, i,'
        . " 'running', now(), 'old' || i, 7 FROM generate_series(20, 29) i",
        $users[2]);

my ($version) = $t->sql('SELECT max(version) FROM edge_migrations');

is(($t->sidecar_run(['migrate', 'down', $version - 15]))[0], 0, 'down');
is($t->sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'edge%'"), 0,
   'down: no trigger');
application("UPDATE activities SET fit_file_size = 8 WHERE garmin_id = 20");
is(($t->sidecar_run(['migrate', 'up']))[0], 0, 'up');
exact('of before');

$t->done();

###############################################################################

sub stats
{
    my ($user) = @_;

    return $t->get('/api/v1/upload/stats', cookie => $t->session($user))
           ->json;
}


sub upload
{
    my ($user) = @_;

    my $cookie = $t->session($user);
    my ($ask) = $t->upload($fit, cookie => $cookie);
    my $r = $t->post('/api/v1/upload/complete', cookie => $cookie, json => {
        activity_id => $ask->json->{activity_id},
        file_size => length($fit) });

    $r->status == 200 or die $r->raw;

    return $r->json->{activity_id};
}


sub application
{
    my ($sql) = @_;

    my ($status, $out) = $t->command(["$t->{postgres}{bin}/psql", '-Xq',
        '-v', 'ON_ERROR_STOP=1', '-h', $t->{dir}, '-U', 'application',
        '-d', 'runcoach', '-c', $sql]);

    die $out if $status;
}


sub exact
{
    my ($what) = @_;

    is($t->sql('SELECT files, bytes FROM edge_account_usage()'),
       $t->sql('SELECT count(*), coalesce(sum(fit_file_size), 0)'
               . ' FROM activities'
               . ' WHERE coalesce(fit_file_key, r2_key) IS NOT NULL'),
       "the sums are exact: $what");
}

###############################################################################
