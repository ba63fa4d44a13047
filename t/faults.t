#!/usr/bin/perl

# Something is killed in the middle of journeys, again and again.  What has been
# acknowledged is there afterwards, once; what has not is a 503 or a broken
# connection, and works when it is tried again.  In the end each user's row says
# what the newest of their events said, whatever the order they came in, no job
# is lost, and none was about another file.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256_hex /;
use IO::Compress::Gzip qw/ gzip /;
use List::Util qw/ shuffle /;
use Test::More;
use Test::Runcoach qw/ json_encode json_decode /;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();

my $rounds = $ENV{RUNCOACH_SOAK} ? 50 : 1;
my $walkers = 3;

$t->allow_alert(qr/exited on signal 9/);

# a new nginx may come while the kernel still closes what the killed one had;
# it tries again

$t->allow_alert(qr/bind\(\) to \S+ failed \(98: /);

# a connection that is refused is not news to the ones who wait for it

$t->edge(env => {
    RATE_LIMIT_REQUESTS => 600000,
    RATE_LIMIT_BURST => 10000,
    SIDECAR_LEASE => 5,
    SIDECAR_SWEEP => 2,
    SIDECAR_UPLOAD_GRACE => 0,
    USER_FILES_GRACE => 0,
});

# longer than the longest soak

my $exp = time() + 7200;
my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $tokens = [ map { $t->token(sub => "user_w$_", exp => $exp) }
               0 .. $walkers - 1 ];

###############################################################################

# Walkers make journeys without end, and note down what was acknowledged.

my @pids;

for my $n (0 .. $walkers - 1) {
    my $pid = fork();

    if (!$pid) {
        walk($n);
        POSIX::_exit(0);
    }

    push @pids, $pid;
}

sleep(0.5);

my @faults = (
    [ 'nginx worker' => sub { kill('KILL', ($t->workers())[0]) } ],
    [ 'sidecar' => sub {
        $t->stop_process($t->{serve}, 'KILL');
        sleep(0.3);
        $t->{serve} = $t->sidecar(['serve']);
    } ],
    [ 'analysis worker' => sub {
        $t->stop_process($t->{work}, 'KILL');
        sleep(0.3);
        $t->{work} = $t->sidecar(['work']);
    } ],
    [ 'Redis' => sub {
        $t->{redis}->kill();
        sleep(0.3);
        $t->{redis}->start();
    } ],
    [ 'PostgreSQL' => sub {
        $t->{postgres}->kill();
        sleep(0.3);
        $t->{postgres}->start();
    } ],
    [ 'a database connection' => sub {
        $t->sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
                . ' WHERE pid <> pg_backend_pid() AND usename = current_user');
    } ],
    [ 'nginx, all of it' => sub {

        # stopped, the master cannot replace a worker in between

        kill('STOP', $t->{nginx}{pid});

        my @all = ($t->children($t->{nginx}{pid}), $t->{nginx}{pid});

        kill('KILL', @all);
        $t->stop_process($t->{nginx}, 'KILL');
        $t->wait_for(sub { return !grep { -e "/proc/$_" } @all });
        $t->edge_run();
    } ],
);

for my $round (1 .. $rounds) {
    for my $fault (@faults) {
        my ($name, $code) = @$fault;

        my $before = noted();

        $code->();

        ok($t->wait_for(sub { return noted() >= $before + $walkers * 2 }, 20),
           "$name was killed: journeys go on, round $round");
    }
}

$t->write_file('stop', '');

waitpid($_, 0) for @pids;

###############################################################################

# what the walkers were told

my (%noted, @strange);

for my $n (0 .. $walkers - 1) {
    for my $line (split(/\n/, $t->read_file("walk.$n") // '')) {
        my $note = json_decode($line);

        if ($note->{strange}) {
            push @strange, $note;

        } else {
            push @{$noted{$note->{what}}}, $note;
        }
    }
}

note(join(', ', map { scalar(@{$noted{$_}}) . " $_" } sort keys %noted));

cmp_ok(scalar(@{$noted{complete} || []}), '>=', 10, 'there were journeys');
is(scalar(@strange), 0, 'each refusal was a 503 or a broken connection')
    or diag(map { json_encode($_) . "\n" } @strange);

# Jobs are done, those of the killed worker too when their lease has ended.
# Uploads that their clients have completed are looked after as well, which must
# change nothing.

$t->sql("UPDATE edge_jobs SET run_at = now() WHERE state = 'queued'");
$t->{redis}->cmd('LPUSH', 'edge:jobs:wake', 1);

my $left;

ok($t->wait_for(sub {
    $left = $t->sql("SELECT count(*) FROM edge_jobs"
                    . " WHERE state IN ('queued', 'running')");

    return $left == 0;
}, 90), 'no job is left') or diag($t->sql('SELECT * FROM edge_jobs WHERE'
                                          . " state IN ('queued', 'running')"));

is($t->sql("SELECT count(*) FROM edge_jobs WHERE state = 'dead'"), 0,
   'no job is dead');

# events: each that was acknowledged is there, and none twice

my %inbox;

$inbox{$_}++ for split(/\n/, $t->sql('SELECT svix_id FROM edge_inbox'));

my @wrong = grep { ($inbox{$_->{id}} // 0) != 1 } @{$noted{event}};

is(scalar(@wrong), 0, 'each acknowledged event is in the inbox once')
    or diag(map { json_encode($_) . "\n" . told($_->{id}) } @wrong);

# users: those whose events have all been taken

my %users = table('SELECT clerk_user_id, id, display_name, email FROM users'
                  . ' WHERE clerk_user_id IS NOT NULL');
my %gone = table('SELECT clerk_user_id, user_id FROM edge_identity'
                 . ' WHERE deleted_at IS NOT NULL');

@wrong = ();

for my $note (@{$noted{user}}) {
    my $row = $users{$note->{user}};

    push @wrong, { %$note, row => $row }
        if $note->{deleted} ? $row || !$gone{$note->{user}}
                            : !$row || $gone{$note->{user}}
                              || $row->[1] ne $note->{name}
                              || $row->[2] ne "$note->{user}\@example.com";
}

is(scalar(@wrong), 0, 'each row is what the newest event says')
    or diag(map { json_encode($_) . "\n" } @wrong);
is($t->sql('SELECT count(*) FROM (SELECT clerk_user_id FROM users'
           . ' GROUP BY 1 HAVING count(*) > 1 AND clerk_user_id IS NOT NULL)'
           . ' x'), 0, 'no user twice');

# files: the last that was said of each key

my %rows = table('SELECT coalesce(fit_file_key, storage_metadata ->>'
                 . " 'deleted_key'), id, fit_file_status, fit_file_checksum,"
                 . ' fit_error FROM activities');
my %jobs = map { $_ => 1 } split(/\n/, $t->sql('SELECT id FROM edge_jobs'));
my %last;

for my $note (map { @{$noted{$_} || []} } qw/ put complete delete replaced /) {
    my $known = $last{$note->{key}};

    $last{$note->{key}} = $note if !$known || $note->{n} > $known->{n};
}

@wrong = ();

for my $key (sort keys %last) {
    my $note = $last{$key};
    my $row = $rows{$key};
    my $there = -e "$t->{home}/store/fit-files/$key";
    my ($id, $status, $checksum) = $row ? @$row : ('') x 3;

    my $right = $note->{what} eq 'delete' || $gone{$note->{user} // ''}
                ? !$there && $status eq 'deleted'
                : $note->{what} eq 'replaced'
                ? !$there && !$row
                : $note->{what} eq 'complete'
                ? $there && $status eq 'analyzed' && $id eq $note->{activity}
                  && $checksum eq $note->{checksum} && $jobs{$note->{job}}

                # nobody has told: either it is complete, or there is no row,
                # because a killed Redis may forget what it was told last

                : $there && (!$row || $status eq 'analyzed'
                                      && $checksum eq $note->{checksum});

    push @wrong, { %$note, row => $row, there => $there ? 1 : 0 }
        unless $right;
}

is(scalar(@wrong), 0, 'each file is what was acknowledged last')
    or diag(map { json_encode($_) . "\n" . told($_->{key}) } @wrong);
is($t->sql('SELECT count(*) FROM (SELECT fit_file_key FROM activities'
           . ' WHERE fit_file_key IS NOT NULL GROUP BY 1 HAVING count(*) > 1)'
           . ' x'), 0, 'no row twice');

my $found = grep { $_->{what} eq 'put' && $rows{$_->{key}} } values %last;

note("$found uploads were completed without their client");
cmp_ok($found, '>', 0, 'uploads were completed without their client');

# rows and bucket agree, but for uploads of which nobody has told

my ($status, $out) = $t->sidecar_run(['reconcile']);

like($out, qr/ missing=0 changed=0 left=0 /, 'rows and bucket agree')
    or diag($out);

@wrong = grep { !$last{$_} || $last{$_}{what} ne 'put' }
         $out =~ /^orphan key=(\S+)/mg;
is(join(' ', @wrong), '', 'no object without a row that had one');

is($t->sql('SELECT files, bytes FROM edge_account_usage()'),
   $t->sql('SELECT count(*), coalesce(sum(fit_file_size), 0) FROM activities'
           . ' WHERE coalesce(fit_file_key, r2_key) IS NOT NULL'),
   "the account's sums are exact");

# the edge is whole again

my $r = $t->get('/health/detailed');

is($r->status, 200, 'healthy');
is($r->json->{status}, 'healthy', 'healthy, all of it');

$t->done();

###############################################################################

sub noted
{
    my $lines = 0;

    for my $n (0 .. $walkers - 1) {
        $lines += () = ($t->read_file("walk.$n") // '') =~ /complete/g;
    }

    return $lines;
}


# what the sidecar has logged about it

sub told
{
    my ($id) = @_;

    return join('', grep { /\Q$id\E/ }
                    split(/^/, $t->read_file("$t->{dir}/sidecar-serve.out")));
}


# the first column => the others

sub table
{
    return map { my @f = split(/\|/, $_, -1); ($f[0] => [ @f[1 .. $#f] ]) }
           split(/\n/, $t->sql($_[0]));
}


# Each step is tried until it is acknowledged, as clients and Svix do.

sub walk
{
    my ($n) = @_;

    my $notes = notes($n);

    srand($$ ^ time());

    for (my $i = 0; !-e "$t->{dir}/stop"; $i++) {
        walk_user($notes, "user_w${n}_$i", $i % 2) or last;
        walk_file($notes, $tokens->[$n], "user_w$n", $i % 4) or last;
    }
}


# A person's events, the first of them first if they upload something in
# between, all others in any order and some of them twice.

sub walk_user
{
    my ($notes, $user, $leaves) = @_;

    my $ms = int(time() * 1000);
    my @events = ([ 'user.created', 0 ], [ 'user.updated', 1 ],
                  [ 'user.updated', 2 ], [ 'user.updated', 3 ]);

    push @events, [ 'user.deleted', 4 ] if $leaves;

    my @deliveries = map {
        my ($type, $k) = @$_;
        my $body = json_encode($t->user_event($type, $user, ms => $ms + $k,
                                              first_name => "N$k",
                                              created_at => $ms));
        { type => $type, body => $body, headers => $t->svix_sign($body) };
    } @events;

    if ($leaves) {
        deliver($notes, shift(@deliveries), $user) or return 0;
        walk_file($notes, $t->token(sub => $user, exp => $exp), $user, 0)
            or return 0;
    }

    push @deliveries, $deliveries[rand(@deliveries)] for 1 .. 2;

    for my $delivery (shuffle(@deliveries)) {
        deliver($notes, $delivery, $user) or return 0;
    }

    $notes->({ what => 'user', user => $user, name => 'N3 Runner',
               deleted => $leaves ? 1 : 0 });

    return 1;
}


# one time in three by two connections at once

sub deliver
{
    my ($notes, $delivery, $user) = @_;

    my $twice = rand() < 1 / 3;

    try($notes, sub {
        my @request = ('POST', '/api/v1/webhooks/clerk',
                       body => $delivery->{body},
                       headers => $delivery->{headers});
        my $other = $twice && eval { $t->request_start(@request) };
        my $r = $t->request(@request, timeout => 10);

        eval { $t->request_end($other, timeout => 10) } if $other;

        return $r;
    }) or return 0;

    $notes->({ what => 'event', user => $user,
               id => $delivery->{headers}{'svix-id'} });

    return 1;
}


# 0: completed; 1: the client does not come back; 2: deleted after that;
# 3: other files take its place

sub walk_file
{
    my ($notes, $token, $user, $way) = @_;

    my $bytes = file();
    my $url = try($notes, sub {
        return $t->post('/api/v1/upload/url', token => $token, timeout => 10,
                        json => { $way == 1 ? (expires_in => 15) : (),
                                  checksum => sha256_hex($bytes) });
    }) or return 0;

    my %about = (key => $url->json->{key}, user => $user);

    # one that may come too late for its URL is none

    put($notes, $url->json, $bytes, $way == 1) or return $way == 1;

    $notes->({ %about, what => 'put', checksum => sha256_hex($bytes) });

    return 1 if $way == 1;

    my $done = complete($notes, $token, $url->json, $bytes, \%about)
        or return 0;

    if ($way == 3) {
        my $id = $done->json->{activity_id};
        my %old = %about;

        # the row has a key of its own, where the first file is not: twice, the
        # second time in the place of the first

        $url = try($notes, sub {
            return $t->post('/api/v1/upload/url', token => $token,
                            timeout => 10, json => { activity_id => $id });
        }) or return 0;

        $about{key} = $url->json->{key};

        for (1 .. 2) {
            my $other = file();

            put($notes, $url->json, $other) or return 0;
            complete($notes, $token, $url->json, $other, \%about) or return 0;
            $notes->({ %old, what => 'replaced' });
        }
    }

    if ($way == 2) {
        my $id = $done->json->{activity_id};

        # when the answer got lost there is nothing left to delete

        try($notes, sub {
            return $t->request('DELETE', "/api/v1/upload/activity/$id/fit",
                               token => $token, timeout => 10);
        }, 404) or return 0;

        $notes->({ %about, what => 'delete' });
    }

    return 1;
}


# no two are the same, and all are good

sub file
{
    gzip(\$fit => \my $packed, -Comment => rand() . "$$" . time());

    return $packed;
}


sub put
{
    my ($notes, $given, $bytes, $may_expire) = @_;

    my $r = try($notes, sub {
        return $t->url($given->{method}, $given->{upload_url}, body => $bytes,
                       headers => $given->{headers}, timeout => 10);
    }, $may_expire ? 400 : ());

    return $r && $r->status == 200;
}


sub complete
{
    my ($notes, $token, $given, $bytes, $about) = @_;

    my $done = try($notes, sub {
        return $t->post('/api/v1/upload/complete', token => $token,
                        timeout => 10,
                        json => { activity_id => $given->{activity_id},
                                  checksum => sha256_hex($bytes),
                                  file_size => length($bytes) });
    }) or return undef;

    $notes->({ %$about, what => 'complete', checksum => sha256_hex($bytes),
               activity => $done->json->{activity_id},
               job => $done->json->{analysis_job_id} });

    return $done;
}


sub notes
{
    my ($n) = @_;

    my $i = 0;

    open(my $fh, '>>', "$t->{dir}/walk.$n") or die "walk.$n: $!\n";
    $fh->autoflush(1);

    return sub { print $fh json_encode({ %{$_[0]}, n => $i++ }), "\n" };
}


# undef when it is time to stop

sub try
{
    my ($notes, $code, @also) = @_;

    my $end = time() + 30;

    while (time() < $end) {
        my $r = eval { $code->() };

        # 0: refused, reset, or cut off

        my $status = $r ? $r->status || 0 : 0;

        return $r if $status =~ /^20/ || grep { $status == $_ } @also;

        if ($status != 0 && $status != 503) {
            $notes->({ strange => 1, status => $status, line => $r->line,
                       body => $r->body });
        }

        return undef if -e "$t->{dir}/stop";

        sleep(0.05);
    }

    $notes->({ strange => 1, status => 'never' });

    return undef;
}

###############################################################################
