#!/usr/bin/perl

# The schema: on an empty database and on one that has the application's tables
# already, up, up again, down and up; then what the functions in it do.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new()->has(qw/ psql pg_dump /);
my $pg = $t->postgres();

my $REFERENCE = "$FindBin::Bin/data/reference_schema.sql";
my $VERSIONS = () = glob("$FindBin::Bin/../migrations/*.up.sql");


sub migrate
{
    my ($db, @args) = @_;

    return $t->sidecar_run(['migrate', @args],
                           { DATABASE_URL => $pg->url($db) });
}


sub migrate_ok
{
    my ($db, @args) = @_;

    my ($status, $out) = migrate($db, @args);

    is($status, 0, "$db: migrate @args") or diag($out);

    return $out;
}


# newer releases put a random word into each dump

sub dump_schema
{
    my ($db) = @_;

    my ($status, $out) = $t->command([Test::Runcoach::find_program('pg_dump'),
        '-s', '-h', $t->dir(), '-U', 'runcoach', '-d', $db]);

    die "pg_dump: $out\n" if $status;

    return join("\n", grep { !/^(--|\\(un)?restrict|$)/ } split(/\n/, $out));
}


sub same
{
    my ($got, $expected, $name) = @_;

    ok($got eq $expected, $name) and return;

    my %old = map { $_ => 1 } split(/\n/, $expected);
    my %new = map { $_ => 1 } split(/\n/, $got);

    diag("only before: $_") for grep { !$new{$_} } sort keys %old;
    diag("only after:  $_") for grep { !$old{$_} } sort keys %new;
}


sub create
{
    my ($db) = @_;

    $pg->sql_as('postgres', "CREATE DATABASE $db");

    return if $db eq 'blank';

    $pg->sql_as($db, Test::Runcoach::slurp($REFERENCE));
    $pg->sql_as($db, <<'EOF_SQL');
INSERT INTO users (email, timezone) VALUES ('old@example.com', 'UTC');
INSERT INTO activities (user_id, garmin_id, activity_type, start_time,
                        has_fit_file, has_stryd, has_external_hr)
VALUES (1, 5, 'running', now(), true, false, false);
EOF_SQL
}


# what an event makes of a database: outcome|user_id|detail

sub event
{
    my ($db, $id, $type, $user, $ms, $email, $verified, $name) = @_;

    return $pg->sql_as($db, 'SELECT * FROM edge_apply_clerk_event('
        . '$1, $2, $3, $4::bigint, $5, $6::boolean, $7, NULL)',
        $id, "user.$type", $user, $ms, $email, $verified ? 'true' : 'false',
        $name);
}


sub outcome
{
    return (split(/\|/, event(@_)))[0];
}


# all statements at once, each in a session of its own; the answers, sorted.
# The sessions wait for a lock until all of them are there.

sub at_once
{
    my ($db, @statements) = @_;

    my $psql = Test::Runcoach::find_program('psql') . ' -X -q -A -t -h '
               . $t->dir() . " -U runcoach -d $db";

    my $script = "$psql -c 'SELECT 1 WHERE pg_advisory_lock(1) IS NULL'"
                 . " -c 'SELECT 1 WHERE pg_sleep(0.7) IS NULL' & sleep 0.2; ";

    for my $statement (@statements) {
        $script .= "$psql -c 'SELECT 1 WHERE pg_advisory_lock_shared(1)"
                   . " IS NULL' -c \"$statement\" & ";
    }

    my (undef, $out) = $t->command(['/bin/sh', '-c', "${script}wait"]);

    return join(' ', sort(split(/\n/, $out)));
}


sub test_schema
{
    my ($db) = @_;

    create($db);

    my $before = dump_schema($db);

    my $out = migrate_ok($db, 'up');

    is(() = $out =~ /^applied \d+/mg, $VERSIONS, "$db: each version is told");

    my $up = dump_schema($db);

    isnt($up, $before, "$db: up does something");

    migrate_ok($db, 'up');
    same(dump_schema($db), $up, "$db: up twice is up once");

    migrate_ok($db, 'down', 1);
    isnt(dump_schema($db), $up, "$db: down 1 does something");

    migrate_ok($db, 'up');
    same(dump_schema($db), $up, "$db: and up undoes it");

    migrate_ok($db, 'down');
    same(dump_schema($db), $before, "$db: down leaves what was there");

    migrate_ok($db, 'down');
    same(dump_schema($db), $before, "$db: nothing is left to go down");

    migrate_ok($db, 'up');
    same(dump_schema($db), $up, "$db: down and up again");

    like(migrate_ok($db, 'status'), qr/^001 .*applied/m, "$db: status");
}


# up by hand without the program's books: the scripts are safe to repeat

sub test_scripts
{
    my ($db) = @_;

    my $up = dump_schema($db);
    my $failed = '';

    for my $file (sort glob("$FindBin::Bin/../migrations/*.up.sql")) {
        my ($status, $out) = $t->command([
            Test::Runcoach::find_program('psql'), '-X', '-q', '-1',
            '-v', 'ON_ERROR_STOP=1', '-h', $t->dir(), '-U', 'runcoach',
            '-d', $db, '-o', '/dev/null', '-f', $file]);

        $failed .= $out if $status;
    }

    is($failed, '', "$db: every script can be repeated");
    same(dump_schema($db), $up, "$db: and changes nothing then");
}


# a table that somebody else refers to is not taken away from under them

sub test_down_refused
{
    my ($db) = @_;

    $pg->sql_as($db, 'CREATE TABLE shoes (user_id integer REFERENCES users)');

    my ($status, $out) = migrate($db, 'down');

    isnt($status, 0, "$db: down stops at a table which is referred to");
    is($pg->sql_as($db, "SELECT to_regclass('users')"), 'users',
       "$db: users are still there");

    $pg->sql_as($db, 'DROP TABLE shoes');
    migrate_ok($db, 'up');
}


sub test_order
{
    my ($db) = @_;

    my %type = (c => 'created', u => 'updated', d => 'deleted');
    my %ms = (c => 1000, u => 1001, d => 1002);

    # outcomes, then rows, name and link at the end

    my @orders = (
        [qw/ c u d /, 'applied applied applied', '1|Name u|0'],
        [qw/ c d u /, 'applied applied tombstoned', '1|Name c|0'],
        [qw/ u c d /, 'applied stale applied', '1|Name u|0'],
        [qw/ u d c /, 'applied applied tombstoned', '1|Name u|0'],
        [qw/ d c u /, 'applied tombstoned tombstoned', '0||0'],
        [qw/ d u c /, 'applied tombstoned tombstoned', '0||0'],
    );

    for my $order (@orders) {
        my ($a, $b, $c, $outcomes, $end) = @$order;
        my $id = "$a$b$c";

        my @got = map {
            outcome($db, "order_$id$_", $type{$_}, "user_$id", $ms{$_},
                    $_ eq 'd' ? undef : "$id\@example.com", 1, "Name $_")
        } $a, $b, $c;

        is("@got", $outcomes, "$db: $a $b $c");
        is($pg->sql_as($db, 'SELECT count(*), max(display_name),'
                . ' count(clerk_user_id) FROM users WHERE email = $1',
                "$id\@example.com"), $end, "$db: $a $b $c: the row");
    }

    is(outcome($db, 'order_cudc', 'created', 'user_cud', 1000,
               'cud@example.com', 1, 'X'), 'duplicate', "$db: a repetition");
    is($pg->sql_as($db, "SELECT outcome FROM edge_person('user_cud', NULL)"),
       'deleted', "$db: a deleted person's token");

    $pg->sql_as($db, 'INSERT INTO users (email, clerk_user_id, timezone)'
                     . " VALUES ('again\@example.com', 'user_cud', 'UTC')");
    is($pg->sql_as($db, 'SELECT outcome, user_id IS NULL'
                        . " FROM edge_person('user_cud', NULL)"),
       'deleted|t', "$db: a row of the application changes nothing");
    $pg->sql_as($db, "DELETE FROM users WHERE email = 'again\@example.com'");

    is(outcome($db, 'equal_1', 'created', 'user_eq', 5, 'eq@example.com', 1,
               'C'), 'applied', "$db: created");
    is(outcome($db, 'equal_2', 'updated', 'user_eq', 5, 'eq@example.com', 1,
               'U'), 'applied', "$db: updated of the same time wins");
    is(outcome($db, 'equal_3', 'created', 'user_eq', 5, 'eq@example.com', 1,
               'C'), 'stale', "$db: created of the same time does not");
}


sub test_addresses
{
    my ($db) = @_;

    $pg->sql_as($db, "INSERT INTO users (email, timezone, display_name)"
                     . " VALUES ('Ann\@Example.com', 'UTC', 'Annie')");

    like(event($db, 'adr_1', 'created', 'user_ann', 10, 'ann@example.com', 0,
               'ann'), qr/^conflict\|\|unverified/,
         "$db: an unverified address links nothing");
    is($pg->sql_as($db, 'SELECT count(*) FROM users'
                        . " WHERE clerk_user_id = 'user_ann'"), 0,
       "$db: and makes no row");
    is($pg->sql_as($db, "SELECT outcome FROM edge_person('user_ann', NULL)"),
       'conflict', "$db: nor does a log-in");

    like(event($db, 'adr_2', 'updated', 'user_ann', 11, 'ann@example.com', 1,
               'ann'), qr/^applied\|\d+\|linked$/,
         "$db: once verified it links");
    is($pg->sql_as($db, 'SELECT email, display_name FROM users'
                        . " WHERE clerk_user_id = 'user_ann'"),
       'Ann@Example.com|Annie', "$db: the row keeps its spelling and name");

    like(event($db, 'adr_3', 'created', 'user_eve', 12, 'ANN@example.com', 1,
               'Eve'), qr/^conflict\|\|address belongs to another/,
         "$db: a linked row is not taken");

    is(outcome($db, 'adr_4', 'created', 'user_bob', 13, 'bob@example.com', 1,
               'Bob'), 'applied', "$db: somebody else");
    is(outcome($db, 'adr_5', 'updated', 'user_bob', 14, 'ann@example.com', 1,
               'Bob B'), 'conflict', "$db: changes to a taken address");
    is($pg->sql_as($db, 'SELECT email FROM users'
                        . " WHERE clerk_user_id = 'user_bob'"),
       'bob@example.com', "$db: and keeps the old one");

    # who writes an address down first does not keep it from its owner

    is(outcome($db, 'squ_1', 'created', 'user_squat', 10, 'own@example.com', 0,
               'S'), 'applied', "$db: an unverified address of nobody");
    is(outcome($db, 'squ_2', 'created', 'user_squat2', 10, 'OWN@example.com', 0,
               'T'), 'conflict', "$db: is not for the next unverified one");
    like(event($db, 'squ_3', 'created', 'user_owner', 11, 'Own@example.com', 1,
               'O'), qr/^applied\|\d+\|created, address taken from user \d+/,
         "$db: its owner gets it");
    is($pg->sql_as($db, 'SELECT clerk_user_id, email FROM users'
            . " WHERE clerk_user_id IN ('user_squat', 'user_owner')"
            . ' ORDER BY clerk_user_id'),
       "user_owner|Own\@example.com\n"
       . 'user_squat|user_squat@users.noreply.invalid',
       "$db: and the other has another");
    is(outcome($db, 'squ_4', 'updated', 'user_squat', 12, 'own@example.com', 0,
               'S'), 'conflict', "$db: for good");
    is(outcome($db, 'squ_5', 'updated', 'user_squat', 13, 'own@example.com', 1,
               'S'), 'conflict', "$db: a verified one is not taken");
    is(outcome($db, 'squ_6', 'created', 'user_late', 14, 'late@example.com', 0,
               'L'), 'applied', "$db: unverified, then");
    is(outcome($db, 'squ_7', 'updated', 'user_late', 15, 'late@example.com', 1,
               'L'), 'applied', "$db: verified");
    is(outcome($db, 'squ_8', 'created', 'user_later', 16, 'late@example.com', 1,
               'L'), 'conflict', "$db: is theirs");

    $pg->sql_as($db, "UPDATE edge_identity SET email_verified = NULL"
                     . " WHERE clerk_user_id = 'user_late'");
    is(outcome($db, 'squ_9', 'updated', 'user_later', 17, 'late@example.com', 1,
               'L'), 'conflict', "$db: not known counts as verified");

    is(outcome($db, 'adr_6', 'created', 'user_tel', 15, undef, 0, undef),
       'applied', "$db: no address");
    is($pg->sql_as($db, 'SELECT email FROM users'
                        . " WHERE clerk_user_id = 'user_tel'"),
       'user_tel@users.noreply.invalid', "$db: gets one that cannot be");

    is($pg->sql_as($db, 'SELECT outcome FROM edge_apply_clerk_event('
        . "'adr_7', 'session.ended', 'user_bob', 16, NULL, false, NULL, NULL)"),
       'ignored', "$db: another event");
}


sub test_placeholders
{
    my ($db) = @_;

    for my $name (qw/ fay gus /) {
        $pg->sql_as($db, 'INSERT INTO users (email, timezone)'
                         . ' VALUES ($1, \'UTC\')', "$name\@example.com");
        is($pg->sql_as($db, 'SELECT outcome FROM edge_person($1, NULL)',
                       "user_$name"), 'created', "$db: first log-in");
        is($pg->sql_as($db, 'SELECT outcome FROM edge_person($1, NULL)',
                       "user_$name"), 'found', "$db: second log-in");
    }

    like(event($db, 'fold_1', 'created', 'user_fay', 10, 'fay@example.com', 1,
               'Fay'), qr/folded$/, "$db: an unused placeholder is folded");
    is($pg->sql_as($db, 'SELECT email FROM users'
                        . " WHERE clerk_user_id = 'user_fay'"),
       'fay@example.com', "$db: into the row of the address");
    is($pg->sql_as($db, 'SELECT count(*) FROM users'
                        . " WHERE email LIKE 'user_fay\@%'"), 0,
       "$db: and is gone");

    $pg->sql_as($db, <<'EOF_SQL');
SELECT edge_complete_upload(user_id, 5000000000, 'k', 1, 'e', NULL, NULL)
FROM edge_person('user_gus', NULL)
EOF_SQL

    is(outcome($db, 'fold_2', 'created', 'user_gus', 10, 'gus@example.com', 1,
               'Gus'), 'conflict', "$db: one with activities is not");
}


sub test_completion
{
    my ($db) = @_;

    my $user = $pg->sql_as($db, "SELECT user_id FROM edge_person('user_hal',"
                                . ' NULL)');

    my $complete = sub {
        my ($id, $key, $etag, $who) = @_;

        return $pg->sql_as($db, 'SELECT * FROM edge_complete_upload('
            . '$1::integer, $2::bigint, $3, 100, $4, NULL, NULL)',
            $who || $user, $id, $key, $etag);
    };

    my $first = $complete->(6000000000, 'k1', 'e1');

    like($first, qr/^uploaded\|\d+\|\d+$/, "$db: completed");

    my (undef, $activity, $job) = split(/\|/, $first);

    is($complete->(6000000000, 'k1', 'e1'), "repeated|$activity|$job",
       "$db: completed again: the same ids");
    is($complete->($activity, 'k1', 'e1'), "repeated|$activity|$job",
       "$db: and by the real one");
    is($complete->($activity, 'k1', 'e1', 1), 'no_activity||',
       "$db: not by somebody else");
    # who has looked before that knows less

    is($pg->sql_as($db, 'SELECT * FROM edge_complete_upload($1::integer,'
            . " \$2::bigint, 'k1', 100, 'e0', NULL, NULL,"
            . " now() - interval '1 hour')", $user, $activity), 'busy||',
       "$db: an older look is refused");
    is($pg->sql_as($db, 'SELECT fit_file_etag, fit_uploaded_at < (SELECT seen'
            . " FROM edge_activity('user_hal', NULL, id)) FROM activities"
            . ' WHERE id = $1', $activity), 'e1|t', "$db: and changes nothing");
    is($pg->sql_as($db, 'SELECT garmin_id = -id, name, fit_file_status, r2_key,'
            . ' has_fit_file FROM activities WHERE id = $1', $activity),
       't|FIT Upload|uploaded|k1|f', "$db: the row");

    # whatever waits from before is out of the way

    $pg->sql_as($db, "UPDATE edge_jobs SET state = 'done' WHERE id <> \$1",
                $job);

    is($pg->sql_as($db, "SELECT job_id, claim, kind FROM edge_claim_job('w',"
                        . ' 60)'), "$job|1|analyze", "$db: claimed");
    is($pg->sql_as($db, "SELECT job_id FROM edge_claim_job('w', 60)"), '',
       "$db: once");
    is($pg->sql_as($db, "SELECT edge_fail_job(\$1, 1, 'x', 0)", $job), 'retry',
       "$db: failed for now");
    is($pg->sql_as($db, "SELECT job_id, claim FROM edge_claim_job('w', 0)"),
       "$job|2", "$db: claimed with a lease that ends");
    is($pg->sql_as($db, "SELECT job_id, claim FROM edge_claim_job('w', 60)"),
       "$job|3", "$db: taken over");
    is($pg->sql_as($db, "SELECT edge_finish_job(\$1, 2, 'analyzed', NULL,"
                        . " '{}')", $job), 'lost', "$db: too late");
    is($pg->sql_as($db, "SELECT edge_finish_job(\$1, 3, 'analyzed', NULL,"
                        . " '{}')", $job), 'done', "$db: in time");
    is($pg->sql_as($db, 'SELECT fit_file_status, has_fit_file FROM activities'
                        . ' WHERE id = $1', $activity), 'analyzed|t',
       "$db: the row is analyzed");

    # tried again for a week of an outage, and after that too if it must go

    $first = $complete->(6000000001, 'k2', 'e2');

    my (undef, $waiting, $analysis) = split(/\|/, $first);
    my $removal = $pg->sql_as($db, 'INSERT INTO edge_jobs (kind, object_key)'
                                   . " VALUES ('delete_object', 'k0')"
                                   . ' RETURNING id');

    for my $case ([ $analysis, 217, 'retry' ], [ $analysis, 218, 'dead' ],
                  [ $removal, 5000, 'retry' ])
    {
        my ($id, $retries, $expect) = @$case;

        $pg->sql_as($db, 'UPDATE edge_jobs SET retries = $2::integer,'
            . " attempts = \$2::integer, run_at = '-infinity'"
            . ' WHERE id = $1', $id, $retries);

        my ($got, $claim) = split(/\|/, $pg->sql_as($db,
            "SELECT job_id, claim FROM edge_claim_job('w', 60)"));

        is($got, $id, "$db: $retries retries: claimed");
        is($pg->sql_as($db, "SELECT edge_fail_job(\$1, \$2, 'x')", $id,
                       $claim), $expect, "$db: $retries retries: $expect");
        is($pg->sql_as($db, "SELECT count(*) FROM edge_jobs WHERE run_at >"
                            . " now() + interval '1 hour'"), 0,
           "$db: $retries retries: within an hour");
    }

    is($pg->sql_as($db, 'SELECT fit_file_status FROM activities WHERE id = $1',
                   $waiting), 'failed', "$db: failed in the end");
    is($complete->(6000000001, 'k2', 'e2'), "uploaded|$waiting|$analysis",
       "$db: and completed again it is analyzed again");

    # only what took its worker down uses attempts up

    $pg->sql_as($db, "UPDATE edge_jobs SET attempts = 8, run_at = '-infinity'"
                     . ' WHERE id = $1', $analysis);
    is($pg->sql_as($db, "SELECT job_id FROM edge_claim_job('w', 60)"), '',
       "$db: eight crashes are enough");
    is($pg->sql_as($db, 'SELECT state FROM edge_jobs WHERE id = $1',
                   $analysis), 'dead', "$db: for an analysis");

    my $deleted = $pg->sql_as($db, 'SELECT * FROM edge_delete_fit('
                                   . '$1::integer, $2::bigint)', $user,
                              $activity);

    like($deleted, qr/^deleted\|$activity\|k1\|\d+$/, "$db: deleted");
    is($complete->($activity, 'k1', 'e1'), 'busy||',
       "$db: not completed while it is removed");
    $pg->sql_as($db, 'SELECT edge_settle_deletion($1)',
                (split(/\|/, $deleted))[3]);
    like($pg->sql_as($db, 'SELECT * FROM edge_delete_fit($1::integer,'
                          . ' $2::bigint)', $user, $activity),
         qr/^no_file/, "$db: deleted before");
    is($complete->($activity, 'k1', 'e1'), "uploaded|$activity|$job",
       "$db: the same file again: the job runs again");
    is($pg->sql_as($db, "SELECT count(*) FROM edge_jobs WHERE state <> 'done'"
                        . " AND kind = 'delete_object' AND object_key = 'k1'"),
       0,
       "$db: and nothing removes it");
}


sub test_concurrency
{
    my ($db) = @_;

    my $call = sub {
        return sprintf("SELECT outcome FROM edge_apply_clerk_event('%s',"
            . " 'user.created', '%s', 5, '%s', true, 'N', NULL)", @_);
    };

    is(at_once($db, map { $call->('con_1', 'user_con', 'con@example.com') }
                    1 .. 8),
       'applied' . ' duplicate' x 7, "$db: one delivery, eight times at once");

    is(at_once($db, map { $call->("con_2$_", "user_con$_", 'c@example.com') }
                    1 .. 8),
       'applied' . ' conflict' x 7, "$db: one address, eight people at once");

    my $out = at_once($db, (map { "SELECT 'p' FROM edge_person('user_race',"
                                  . ' NULL)' } 1 .. 6),
                      $call->('con_3', 'user_race', 'race@example.com'));

    is($out, 'applied' . ' p' x 6, "$db: first log-ins and the event at once");
    is($pg->sql_as($db, 'SELECT count(*), max(email) FROM users'
                        . " WHERE clerk_user_id = 'user_race'"),
       '1|race@example.com', "$db: one row");

    $out = at_once($db, map { 'SELECT activity_id FROM edge_complete_upload('
                              . "1, 7000000000, 'kc', 1, 'e', NULL, NULL)" }
                        1 .. 8);

    my %ids = map { $_ => 1 } split(/ /, $out);

    is(scalar(keys %ids), 1, "$db: one upload, eight completions at once");
    is($pg->sql_as($db, "SELECT count(*) FROM edge_jobs"
                        . " WHERE object_key = 'kc'"), 1, "$db: one job");
}


for my $db (qw/ blank reference /) {
    test_schema($db);
    test_scripts($db);
}

test_down_refused('blank');

$pg->sql_as('blank', "INSERT INTO users (email) VALUES ('first\@example.com')");

is($pg->sql_as('reference', 'SELECT garmin_id, has_fit_file FROM activities'),
   '5|t', 'reference: rows are as they were');

for my $db (qw/ blank reference /) {
    test_order($db);
    test_addresses($db);
    test_placeholders($db);
    test_completion($db);
    test_concurrency($db);
}

# the number of a row has to be known before it is written

$pg->sql_as('postgres', 'CREATE DATABASE numbered');
$pg->sql_as('numbered', 'CREATE TABLE users (id serial PRIMARY KEY, email'
                        . ' varchar(255) NOT NULL UNIQUE)');
$pg->sql_as('numbered', 'CREATE TABLE activities (id integer PRIMARY KEY)');

my ($status, $out) = migrate('numbered', 'up');

ok($status != 0, 'activities.id without a sequence');
like($out, qr/activities\.id has no sequence: it must be serial or an/,
     'is named, with what would be right');

$t->done();
