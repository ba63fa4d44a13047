#!/usr/bin/perl

# Something is killed in the middle of the journey, again and again.  What has
# been acknowledged is there afterwards; what has not is a 503 or a broken
# connection, and works when it is tried again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_encode json_decode /;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();

my $rounds = $ENV{RUNCOACH_SOAK} ? 40 : 2;
my $walkers = 3;

$t->allow_alert(qr/exited on signal 9/);

# a new nginx may come while the kernel still closes what the killed one had;
# it tries again

$t->allow_alert(qr/bind\(\) to \S+ failed \(98: /);

# a connection that is refused is not news to the ones who wait for it

$t->edge(env => { RATE_LIMIT_REQUESTS => 600000, RATE_LIMIT_BURST => 10000 });

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $size = length($fit);
my $tokens = [ map { $t->token(sub => "user_w$_") } 0 .. $walkers - 1 ];

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

        ok($t->wait_for(sub { return noted() >= $before + $walkers * 2 }, 15),
           "$name was killed: journeys go on, round $round");
    }
}

$t->write_file('stop', '');

waitpid($_, 0) for @pids;

###############################################################################

# what the walkers were told

my (@acknowledged, @strange);

for my $n (0 .. $walkers - 1) {
    for my $line (split(/\n/, $t->read_file("walk.$n") // '')) {
        my $note = json_decode($line);

        push @{$note->{strange} ? \@strange : \@acknowledged}, $note;
    }
}

my %what;

$what{$_->{what}}++ for @acknowledged;

note(join(', ', map { "$what{$_} $_" } sort keys %what));

cmp_ok($what{complete} // 0, '>=', 10, 'there were journeys');
is(scalar(@strange), 0, 'each refusal was a 503 or a broken connection')
    or diag(map { json_encode($_) . "\n" } @strange);

# is there

my %rows = map { my @f = split(/\|/); ($f[0] => $f[1]) }
           split(/\n/, $t->sql('SELECT id, fit_file_key FROM activities'));
my %users = map { $_ => 1 }
            split(/\n/, $t->sql('SELECT clerk_user_id FROM users'));
my %jobs = map { $_ => 1 } split(/\n/, $t->sql('SELECT id FROM edge_jobs'));
my %inbox = map { $_ => 1 }
            split(/\n/, $t->sql('SELECT svix_id FROM edge_inbox'));

my @missing;

for my $note (@acknowledged) {
    my $there = $note->{what} eq 'webhook'
                ? $users{$note->{user}} && $inbox{$note->{id}}
                : $note->{what} eq 'complete'
                ? ($rows{$note->{activity}} // '') eq $note->{key}
                  && $jobs{$note->{job}}
                : -s "$t->{home}/store/fit-files/$note->{key}";

    push @missing, $note unless $there;
}

is(scalar(@missing), 0, 'nothing acknowledged is missing')
    or diag(map { json_encode($_) . "\n" . told($_) } @missing);

# nothing is there twice

is($t->sql('SELECT count(*) FROM (SELECT fit_file_key FROM activities'
           . ' GROUP BY 1 HAVING count(*) > 1) x'), 0, 'no row twice');
is($t->sql('SELECT count(*) FROM (SELECT clerk_user_id FROM users'
           . ' GROUP BY 1 HAVING count(*) > 1) x'), 0, 'no user twice');

# Each job ends, those of the killed worker too: a lease runs out after
# SIDECAR_LEASE, so they are counted with the ones that are done.

my $left;

ok($t->wait_for(sub {
    $left = $t->sql("SELECT count(*) FROM edge_jobs WHERE state = 'queued'"
                    . ' AND run_at < now()');

    return $left == 0;
}, 20), 'no job is left lying') or diag("$left jobs");

is($t->sql("SELECT count(*) FROM edge_jobs WHERE state = 'dead'"), 0,
   'no job is dead');
cmp_ok($t->sql("SELECT count(*) FROM edge_jobs WHERE state = 'running'"), '<=',
       $rounds * 2, 'only the killed ones are still leased');

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


# what the sidecar has logged about it, and what is there of it

sub told
{
    my ($note) = @_;

    my $id = $note->{id} // $note->{key};
    my @lines = grep { /\Q$id\E/ }
                split(/^/, $t->read_file("$t->{dir}/sidecar-serve.out"));

    return @lines, $note->{what} ne 'webhook' ? () : (
        'user: ', $users{$note->{user}} ? 'there' : 'missing',
        ', inbox: ', $inbox{$note->{id}} ? 'there' : 'missing', "\n");
}


# Each step is tried until it is acknowledged, as clients and Svix do.

sub walk
{
    my ($n) = @_;

    my $token = $tokens->[$n];

    open(my $notes, '>>', "$t->{dir}/walk.$n") or die "walk.$n: $!\n";
    $notes->autoflush(1);

    for (my $i = 0; !-e "$t->{dir}/stop"; $i++) {

        # a sign-up, delivered until it is taken

        my $user = "user_w${n}_$i";
        my $body = json_encode($t->user_event('user.created', $user));
        my $headers = $t->svix_sign($body);

        try($notes, sub {
            return $t->post('/api/v1/webhooks/clerk', body => $body,
                            headers => $headers, timeout => 10);
        }) or last;

        print $notes json_encode({ what => 'webhook', user => $user,
                                   id => $headers->{'svix-id'} }), "\n";

        # an upload, by a URL which stays good when things break

        my $url = try($notes, sub {
            return $t->post('/api/v1/upload/url', token => $token,
                            json => { file_size => $size }, timeout => 10);
        }) or last;

        my ($key, $given) = @{$url->json}{qw/ key activity_id /};

        try($notes, sub {
            return $t->url('PUT', $url->json->{upload_url}, body => $fit,
                           timeout => 10);
        }) or last;

        print $notes json_encode({ what => 'put', key => $key }), "\n";

        my $done = try($notes, sub {
            return $t->post('/api/v1/upload/complete', token => $token,
                            json => { activity_id => $given,
                                      file_size => $size }, timeout => 10);
        }) or last;

        print $notes json_encode({ what => 'complete', key => $key,
                                   activity => $done->json->{activity_id},
                                   job => $done->json->{analysis_job_id} }),
                     "\n";
    }
}


# undef when it is time to stop

sub try
{
    my ($notes, $code) = @_;

    my $end = time() + 30;

    while (time() < $end) {
        my $r = eval { $code->() };

        return $r if $r && $r->status =~ /^20/;

        # 0: refused, reset, or cut off

        my $status = $r ? $r->status : 0;

        if ($status != 0 && $status != 503) {
            print $notes json_encode({ strange => 1, status => $status,
                                       line => $r->line, body => $r->body }),
                         "\n";
        }

        return undef if -e "$t->{dir}/stop";

        sleep(0.05);
    }

    print $notes json_encode({ strange => 1, status => 'never' }), "\n";

    return undef;
}

###############################################################################
