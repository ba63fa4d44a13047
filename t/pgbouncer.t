#!/usr/bin/perl

# A PgBouncer in transaction mode between us and the database, as Neon and
# others have: all that we do works through it, nothing is left in a session,
# and whatever breaks on either side of it passes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();

$t->has('pgbouncer');

# each statement is written down, with who has sent it

$t->postgres(args => ['-c', 'log_statement=all', '-c',
                      'log_line_prefix=<%a> ', '-c', 'log_min_messages=log']);

my $pool = $t->pgbouncer();

$t->edge(work => 0, env => {
    DATABASE_URL => $pool->url(),
    USER_FILES_GRACE => 0,
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $token = $t->token(sub => 'user_p');

###############################################################################

# the schema: it has been made through the pool, and goes and comes again

my ($status, $out) = $t->sidecar_run(['migrate', 'status']);

is($status, 0, 'migrate status');
unlike($out, qr/pending/i, 'migrate up has done all') or diag($out);

$t->stop_process($t->{serve});
is(($t->sidecar_run(['migrate', 'down', 3]))[0], 0, 'migrate down');

# two at once serialize, though both use the same two connections

my @up = map { $t->sidecar(['migrate', 'up']) } 1 .. 2;

ok($t->wait_for(sub { return !grep { $t->alive($_) } @up }, 20),
   'migrate up, twice at once');
is(join(' ', map { $_->{status} } @up), '0 0', 'both are content');

$t->{serve} = $t->sidecar(['serve']);

my $worker = $t->sidecar(['work']);

# a person's life

is($t->webhook($t->user_event('user.created', 'user_p'))->status, 200,
   'user.created');
is($t->webhook($t->user_event('user.updated', 'user_p', first_name => 'New',
                              ms => int(time() * 1000) + 5), id => 'msg_up')
   ->status, 200, 'user.updated');
is($t->webhook($t->user_event('user.updated', 'user_p'), id => 'msg_up')
   ->status, 200, 'told again');
is($t->sql("SELECT display_name FROM users WHERE clerk_user_id = 'user_p'"),
   'New Runner', 'the row');

my ($ask, $put) = $t->upload($fit, token => $token);

is($put->status, 200, 'upload');

my $r = complete($ask->json->{activity_id});

is($r->status, 200, 'complete') or diag($r->raw);

my $id = $r->json->{activity_id};

is(complete($ask->json->{activity_id})->json->{analysis_job_id},
   $r->json->{analysis_job_id}, 'complete again');
ok($t->wait_for(sub { return status($id) eq 'analyzed' }, 10), 'analyzed');

$r = $t->get('/api/v1/upload/stats', token => $token)->json;
is($r->{total_files}, 1, 'stats');
is($r->{account}{total_files}, 1, 'stats: all');

$r = $t->get("/api/v1/upload/activity/$id/download-url", token => $token);
ok($t->url('GET', $r->json->{download_url})->body eq $fit, 'download');

# an upload whose client does not come back

($ask, $put) = $t->upload($fit, token => $token);

my $key = $ask->json->{key};

ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM edge_jobs WHERE kind ="
                   . " 'check_upload' AND object_key = \$1", $key);
}, 10), 'announced');

$t->sql('UPDATE edge_jobs SET run_at = now() WHERE object_key = $1', $key);
wake();
ok($t->wait_for(sub {
    return $t->sql('SELECT count(*) FROM activities WHERE fit_file_key = $1'
                   . " AND fit_file_status = 'analyzed'", $key);
}, 10), 'completed by the worker');

# commands

($status, $out) = $t->sidecar_run(['doctor']);
like($out, qr/^ok       schema: /m, 'doctor') or diag($out);
($status, $out) = $t->sidecar_run(['reconcile', '--repair']);
is($status, 0, 'reconcile') or diag($out);
($status, $out) = $t->sidecar_run(['replay', 'msg_up']);
is($status, 0, 'replay') or diag($out);
($status, $out) = $t->sidecar_run(['jobs', 'list', 'all']);
like($out, qr/analyze/, 'jobs list');
($status, $out) = $t->sidecar_run(['migrate-files']);
is($status, 0, 'migrate-files') or diag($out);

# and the end

is($t->request('DELETE', "/api/v1/upload/activity/$id/fit", token => $token)
   ->status, 200, 'delete');
is($t->webhook($t->user_event('user.deleted', 'user_p'))->status, 200,
   'user.deleted');
ok($t->wait_for(sub {
    return !-e "$t->{home}/store/fit-files/$key";
}, 10), 'the files go');

###############################################################################

# forty at once by two connections, of twenty people

my %events = map { ("user_c$_" => $t->user_event('user.created', "user_c$_")) }
             1 .. 20;
my @sent = map {
    my ($user, $n) = @$_;
    my $body = Test::Runcoach::json_encode($events{$user});

    $t->request_start('POST', '/api/v1/webhooks/clerk', body => $body,
                      headers => $t->svix_sign($body, id => "msg_$user"));
} map { my $n = $_; map { [ $_, $n ] } sort keys %events } 1 .. 2;

is(join(' ', map { $t->request_end($_)->status } @sent),
   join(' ', (200) x 40), 'forty at once');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id LIKE 'user_c%'"),
   20, 'forty at once: twenty rows');
cmp_ok($t->sql('SELECT count(*) FROM pg_stat_activity WHERE application_name'
               . " = 'runcoach-sidecar'"), '<=', 2,
       'forty at once: two connections to the server');

# this PgBouncer does not know what is prepared, which the sidecar has noticed;
# what it has left in sessions is named by its text, so it is good for others

my $anybody = $t->token(sub => 'user_c1');

ok($t->wait_for(sub {
    my @asked = map { $t->request_start('GET', '/api/v1/upload/stats',
                                        token => $anybody) } 1 .. 8;

    $t->request_end($_) for @asked;

    return $t->read_file('sidecar-serve.out')
           =~ /database pooler keeps no prepared statements/;
}, 10), 'nothing is prepared')
    if pooler_version() < 1.21;

# nothing else was left in a session, nor asked of one

my @statements = grep { /^<runcoach-sidecar> LOG: / }
                 split(/\n/, $t->read_file('pg.out'));

cmp_ok(scalar(@statements), '>', 100, 'statements were written down');

for my $case (
    [ 'a setting', qr/(?::\ |;)\s*SET\s+(?!LOCAL\b|application_name\b)
                      |set_config\([^)]*false\)/xi ],
    [ 'a lock', qr/\bpg_(?:try_)?advisory_(?:un)?lock(?:_shared)?\s*\(/ ],
    [ 'a prepared statement',
      qr/(?:parse|bind|execute) (?!<unnamed>|edge_[0-9a-f]{16}:)\S+:/ ],
    [ 'PREPARE', qr/statement: \s*(?:PREPARE|EXECUTE|DEALLOCATE)\b/i ],
    [ 'LISTEN', qr/statement: \s*(?:LISTEN|UNLISTEN)\b/i ],
    [ 'a cursor', qr/\bDECLARE \S+ .*CURSOR\b.* WITH HOLD/i ],
    [ 'a temporary table', qr/\bCREATE TEMP/i ],
)
{
    my ($what, $re) = @$case;

    is(join("\n", grep { /statement: |execute |parse |bind / && /$re/
                         && !/FUNCTION/ } @statements), '', "no $what");
}

is($t->sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0,
   'no lock is held');

###############################################################################

# What breaks.  Each time the next event is taken, at once or when it is sent
# again, as Svix does.

my $n = 0;

for my $case (
    [ 'connections to the server are ended (57P01)', sub {
        $t->sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE'
                . " application_name = 'runcoach-sidecar'");
    }, 1 ],
    [ 'RECONNECT', sub { $pool->admin('RECONNECT') }, 1 ],
    [ 'KILL and RESUME', sub {
        $pool->admin('KILL runcoach');
        $pool->admin('RESUME runcoach');
    }, 1 ],
    [ 'PAUSE, and RESUME a second later', sub {
        $pool->admin('PAUSE');
        $t->run_daemon(sub { sleep(1); $pool->admin('RESUME') });
    }, 1 ],
    [ 'the pool is restarted', sub { $pool->kill(); $pool->start() }, 1 ],
    [ 'the pool is away for a while', sub {
        $pool->kill();
        is(event()->status, 503, 'the pool is away');
        $pool->start();
    }, 0 ],
    [ 'the server is restarted', sub {
        $t->{postgres}->stop();
        $t->{postgres}->start();
    }, 0 ],
    [ 'the server is killed', sub {
        $t->{postgres}->kill();
        is(event()->status, 503, 'the server is away');
        $t->{postgres}->start();
    }, 0 ],
)
{
    my ($what, $code, $at_once) = @$case;

    event() for 1 .. 4;
    $code->();

    if ($at_once) {
        is(event()->status, 200, "$what: the first is taken");
    }

    my $ok = $t->wait_for(sub { return event()->status == 200 }, 20);

    ok($ok, "$what: it goes on");
}

# no connection of the pool is free for longer than it waits

$t->stop_process($_) for $t->{serve}, $worker;
$pool->kill();
unlink(glob("$pool->{dir}/.s.*"));
rmdir($pool->{dir}) or $t->command(['rm', '-r', $pool->{dir}]);

$pool = $t->pgbouncer(default_pool_size => 1, query_wait_timeout => 1);
$t->{serve} = $t->sidecar(['serve']);

my $holder = $t->spawn('holder', ["$t->{postgres}{bin}/psql", '-X', '-q',
    $pool->url(), '-c', 'BEGIN; SELECT pg_sleep(4); COMMIT']);

ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE"
                   . " '%pg_sleep(4)%' AND pid <> pg_backend_pid()");
}), 'the only connection is taken');

$r = event();
is($r->status, 503, 'no connection is free');
like($r->header('Retry-After') // '', qr/^\d+$/,
     'no connection is free: Retry-After');
ok($t->wait_for(sub { return event()->status == 200 }, 15),
   'no connection is free: it passes');

# a statement that takes too long is given up, and its connection with it

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve'], { SIDECAR_STATEMENT_TIMEOUT => 1 });
event();
$holder = $t->spawn('holder', ["$t->{postgres}{bin}/psql", '-X', '-q',
    $t->{postgres}->url(), '-c',
    'BEGIN; LOCK TABLE edge_inbox; SELECT pg_sleep(3); COMMIT']);
ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE"
                   . " '%pg_sleep(3)%' AND pid <> pg_backend_pid()");
}), 'a table is locked');

my $begin = time();

is(event()->status, 503, 'a statement takes too long');
cmp_ok(time() - $begin, '<', $t->patience(2.5), 'and is given up in time');
ok($t->wait_for(sub { return event()->status == 200 }, 15),
   'a statement takes too long: it passes');

$t->done();

###############################################################################

sub event
{
    my $user = 'user_f' . ++$n;

    return $t->webhook($t->user_event('user.created', $user), timeout => 25);
}


sub complete
{
    my ($activity) = @_;

    return $t->post('/api/v1/upload/complete', token => $token, json => {
        activity_id => $activity, file_size => length($fit) });
}


sub status
{
    return $t->sql('SELECT fit_file_status FROM activities WHERE id = $1',
                   $_[0]);
}


sub wake
{
    $t->{redis}->cmd('LPUSH', 'edge:jobs:wake', 1);
}

###############################################################################


sub pooler_version
{
    my ($version) = $t->command(['pgbouncer', '--version'])
                    =~ /PgBouncer (\d+\.\d+)/;

    return $version // 0;
}
