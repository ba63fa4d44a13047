#!/usr/bin/perl

# Tests for deliveries that wait and are then committed together: none of them
# is touched by what becomes of another.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_encode /;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();

# one worker: what comes while it waits for a lock is taken together

$t->edge(work => 0, env => { SIDECAR_THREADS => 1 });

# statements are prepared when they come for the second time

is($t->webhook($t->user_event('user.created', "user_warm$_"))->status, 200,
   "alone, $_") for 1 .. 3;

###############################################################################

# all good

my @events = map { $t->user_event('user.created', "user_a$_") } 1 .. 9;

push @events, $t->user_event('user.updated', 'user_a1', first_name => 'New',
                             ms => 1000 * (time() + 60)),
              { type => 'email.created', data => {} };

is(join(' ', together('lot-a-', @events)), join(' ', (200) x @events),
   'together: all are answered');
is(transactions('lot-a-'), '1|' . @events, 'together: one transaction');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id LIKE 'user_a%'"), 9,
   'together: rows');
is($t->sql("SELECT display_name FROM users WHERE clerk_user_id = 'user_a1'"),
   'New Runner', 'together: in the order of their times');

# the same again: one delivery twice at once, and all of them repeated

is(join(' ', together('lot-a-', @events)), join(' ', (200) x @events),
   'repeated: all are answered');
is(transactions('lot-a-'), '1|' . @events, 'repeated: nothing new');

# in the middle of good ones: not signed, no JSON, no event

@events = map { $t->user_event('user.created', "user_b$_") } 1 .. 6;

is(join(' ', together('lot-b-', $events[0], \'forged', @events[1 .. 3],
                      '{"type":', '{"type":7}', @events[4, 5])),
   '200 401 200 200 200 400 400 200 200', 'bad ones: each has its own answer');
is(transactions('lot-b-'), '1|6', 'bad ones: the others are done together');

# one which the database refuses

$t->sql(<<'SQL');
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
    IF NEW.email = 'poison@example.com' THEN
        RAISE EXCEPTION 'poisoned';
    END IF;
    RETURN NEW;
END
$f$;
CREATE TRIGGER poison BEFORE INSERT ON users
    FOR EACH ROW EXECUTE FUNCTION poison();
SQL

@events = map { $t->user_event('user.created', "user_c$_") } 1 .. 6;
$events[3] = $t->user_event('user.created', 'user_c4',
                            email => 'poison@example.com');

is(join(' ', together('lot-c-', @events)), '200 200 200 503 200 200',
   'refused by the database: only that one');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id LIKE 'user_c%'"), 5,
   'refused by the database: the others are there');
is($t->sql("SELECT count(*) FROM edge_inbox WHERE svix_id LIKE 'lot-c-%'"), 5,
   'refused by the database: and recorded');

my $log = $t->read_file("$t->{dir}/sidecar-serve.out");

is(() = $log =~ /database refused .*reason=poisoned/g, 1,
   'refused by the database: logged once');

# one which has to wait for somebody else

@events = map { $t->user_event('user.created', "user_f$_") } 1 .. 6;

is(join(' ', together('lot-f-', @events,
                      { lock => 'user_f3', do => sub { sleep(3) } })),
   join(' ', (200) x 6), 'one has to wait: all are answered');
is(transactions('lot-f-'), '6|6', 'one has to wait: each alone');

# the connection is lost in the middle, with some of them done and none
# committed

@events = map { $t->user_event('user.created', "user_d$_") } 1 .. 8;

my $lost = sub {
    $t->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            . " WHERE wait_event_type = 'Lock'");
};

is(join(' ', together('lot-d-', @events, { lock => 'user_d5', do => $lost })),
   join(' ', (200) x 8), 'connection lost: all are answered');
is($t->sql("SELECT count(*), count(DISTINCT svix_id) FROM edge_inbox"
           . " WHERE svix_id LIKE 'lot-d-%'"), '8|8',
   'connection lost: each is recorded once');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id LIKE 'user_d%'"), 8,
   'connection lost: rows');

# the server has gone while they wait

$t->{postgres}->stop();

@events = map { $t->user_event('user.created', "user_e$_") } 1 .. 6;

my @down = map { deliver("lot-e-$_", $events[$_ - 1]) } 1 .. @events;

is(join(' ', map { $t->request_end($_)->status } @down), join(' ', (503) x 6),
   'no server: to be sent again');

$t->{postgres}->start();

is(join(' ', together('lot-e-', @events)), join(' ', (200) x 6),
   'sent again: all are done');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id LIKE 'user_e%'"), 6,
   'sent again: rows');

# a lock that holds up all events holds up neither other requests nor, for
# longer than a statement may take, those who wait for it

$t->stop_process($t->{serve});
$t->{edge_env}{SIDECAR_THREADS} = 3;
$t->{edge_env}{SIDECAR_STATEMENT_TIMEOUT} = 3;
$t->{serve} = $t->sidecar(['serve']);

is($t->webhook($t->user_event('user.created', "user_f$_"))->status, 200,
   "three workers, $_") for 1 .. 3;

$t->spawn('psql', ["$t->{postgres}{bin}/psql", '-X', '-q', '-h', $t->{dir},
    '-U', 'runcoach', '-d', 'runcoach', '-c', 'BEGIN; LOCK TABLE edge_inbox;'
    . ' SELECT pg_sleep(30)'], runas => 1);
$t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM pg_locks WHERE granted"
                   . " AND relation = 'edge_inbox'::regclass"
                   . " AND mode = 'AccessExclusiveLock'") == 1;
}) or die "the lock is not there\n";

my $start = time();
my @ids = map { "lot-f-$_" } 1 .. 80;
my @flood = map { deliver($_, $t->user_event('user.updated', 'user_f1')) } @ids;

is($t->get('/api/v1/upload/stats', token => $t->token(sub => 'user_f1'))
     ->status, 200, 'a flood that is stuck: another request') for 1 .. 5;
cmp_ok(time() - $start, '<', 3, 'at once');

my @answers = map { $t->request_end($_, timeout => 30) } @flood;

is(join(' ', uniq(map { $_->status } @answers)), 503, 'all are to come again');
is(scalar(grep { ($_->header('Retry-After') // '') !~ /^\d+$/ } @answers), 0,
   'and are told when');
cmp_ok(time() - $start, '<', 20, 'none of them waits for the lock');

$t->sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
        . " WHERE query LIKE '%LOCK TABLE edge_inbox%'"
        . ' AND pid <> pg_backend_pid()');

is(scalar(grep { $_->status == 200 }
          map { $t->request_end($_) }
          map { deliver($_, $t->user_event('user.updated', 'user_f1')) } @ids),
   80, 'and then they are done');
is($t->sql("SELECT count(*) FROM edge_inbox WHERE svix_id LIKE 'lot-f-%'"), 80,
   'each once');

$t->done();

###############################################################################

# Statuses of deliveries which reach the worker while it waits for somebody's
# lock.  { lock => id, do => sub } at the end: that one is locked while they
# are done, until the sub has run.

sub together
{
    my ($id, @events) = @_;

    my $during = ref($events[-1]) eq 'HASH' && $events[-1]{do}
                 ? pop(@events) : undef;

    locked('user_gate');
    my $gate = deliver("gate_$id" . rand() =~ s/\D//gr,
                       $t->user_event('user.updated', 'user_gate'));

    waits(1) or die "nobody waits for the lock\n";

    locked($during->{lock}) if $during;

    my @requests = map { deliver("$id$_", $events[$_ - 1]) } 1 .. @events;

    # until all are in the queue

    sleep(0.3);
    release('user_gate');

    if ($during) {
        $t->request_end($gate);
        waits(1) or die "nobody waits for $during->{lock}\n";
        $during->{do}->();
        release($during->{lock});
        $gate = undef;
    }

    my @statuses = map { $t->request_end($_)->status } @requests;

    $t->request_end($gate) if $gate;

    return @statuses;
}


# a session that keeps the lock of a person

sub locked
{
    my ($clerk_id) = @_;

    my $before = $t->sql("SELECT count(*) FROM pg_locks WHERE locktype ="
                         . " 'advisory' AND granted");

    $t->spawn('psql', ["$t->{postgres}{bin}/psql", '-X', '-q',
        '-h', $t->{dir}, '-U', 'runcoach', '-d', 'runcoach', '-c',
        "BEGIN; SELECT edge_lock_clerk_id('$clerk_id'); SELECT pg_sleep(30)"],
        runas => 1);

    $t->wait_for(sub {
        return $t->sql("SELECT count(*) FROM pg_locks WHERE locktype ="
                       . " 'advisory' AND granted") > $before;
    }) or die "the lock is not there\n";
}


sub release
{
    my ($clerk_id) = @_;

    $t->sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
            . " WHERE query LIKE '%''$clerk_id''%pg_sleep%'"
            . ' AND pid <> pg_backend_pid()');
}


sub waits
{
    my ($n) = @_;

    return $t->wait_for(sub {
        return $t->sql("SELECT count(*) FROM pg_locks WHERE locktype ="
                       . " 'advisory' AND NOT granted") == $n;
    });
}


sub deliver
{
    my ($id, $event) = @_;

    my $forged = ref($event) eq 'SCALAR';
    my $body = $forged ? '{}' : ref($event) ? json_encode($event) : $event;
    my $headers = $t->svix_sign($body, id => $id);

    $body = '{"type":"forged"}' if $forged;

    my $s = $t->request_start('POST', '/api/v1/webhooks/clerk', body => $body,
                              headers => { %$headers, 'Content-Type'
                                           => 'application/json' });

    # they come in this order

    sleep(0.02);

    return $s;
}


sub uniq
{
    my %seen;

    return grep { !$seen{$_}++ } @_;
}


# how many transactions have recorded them, and how many there are

sub transactions
{
    my ($id) = @_;

    return $t->sql("SELECT count(DISTINCT xmin::text), count(*)"
                   . " FROM edge_inbox WHERE svix_id LIKE '$id%'");
}
