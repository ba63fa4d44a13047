#!/usr/bin/perl

# What the sidecar does with webhooks and completions, against what PostgreSQL
# and the store can do at all, in the same run.
#
# Webhooks: events sent to the sidecar's socket, against pgbench with the same
# statement on the same server (fsync and synchronous_commit are on), at the
# number of clients that suits it best.  Completions: against HEAD of the local
# store, and a commit of one row.  Nothing is pinned: clients, sidecar and
# PostgreSQL share all cores.
#
#     BENCH_ROUNDS=5 BENCH_SECONDS=4
#     BENCH_CASES='events|repeated|completion'    only those

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib";

use Bench;
use POSIX ();
use Test::Runcoach;

my $users = 5000;
my $some = 5000;             # deliveries that are repeated
my $uploads = 2000;
my $connections = 32;
my $few = 8;                # as many as SIDECAR_THREADS: nobody waits in line
my $rounds = $ENV{BENCH_ROUNDS} || 5;
my $seconds = $ENV{BENCH_SECONDS} || 4;
my $first_id = 2 ** 33;     # of what the edge makes up for a new upload

my @names = qw/ events repeated completion /;
my %wanted = map { $_ => 1 } grep { !$ENV{BENCH_CASES}
                                    || /$ENV{BENCH_CASES}/ } @names;

exit(0) unless %wanted;

my $bin = Test::Runcoach::Postgres::bin();

if (!$bin || !-x "$bin/pgbench") {
    print "The sidecar is not measured: there is no pgbench.\n";
    exit(0);
}

my $t = Test::Runcoach->new();

$t->{planned} = 1;
$t->postgres(args => [ map { ('-c', $_) } qw/ fsync=on shared_buffers=128MB
                                             max_connections=100 / ]);
$t->edge(work => 0);

my $load = Bench->program('load');
my $socket = "$t->{dir}/sidecar.sock";
my $serial = 0;
my $run = 0;
my %result;

printf("%s; %d rounds of %d s, medians\n\n",
       $t->sql('SELECT split_part(version(), \',\', 1)'), $rounds, $seconds);

events() if $wanted{events} || $wanted{repeated};
completion() if $wanted{completion};

$t->stop_all();

###############################################################################

# the same events from pgbench and through the sidecar, in turns

sub events
{
    my $sql = $t->write_file('event.sql', <<'EOF_SQL');
\set i :i + 1
\set id 1000000000000000000 + :run * 10000000000000
\set id :id + :client_id * 100000000000 + :i
\set user 10000000 + random(0, 4999)
SELECT outcome, user_id, detail, job_id
FROM edge_receive_event('msg_2pGv' || :id, 'user.updated', 'user_' || :user,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    'user_' || :user || '@example.org', true, 'Test Runner', :payload, 7);
EOF_SQL

    # every user is there before anything is measured

    deliver(3);
    pgbench_events($sql, 8, 3);

    my %best = (rate => 0);

    for my $clients (8, 16, 32, 64) {
        my $got = pgbench_events($sql, $clients, $seconds);

        Bench::progress("pgbench, $clients clients");
        %best = (clients => $clients, rate => $got->{rate})
            if $got->{rate} > $best{rate};
    }

    my @rows = ([ 'pgbench', sub { pgbench_events($sql, $best{clients},
                                                  $seconds) } ]);

    push @rows, [ 'events', sub { deliver($seconds) } ];
    push @rows, [ 'repeated', sub { deliver($seconds, $some) } ]
        if $wanted{repeated};

    measure(@rows);

    printf("%-32s %9s %8s %8s %13s %13s %11s\n", 'webhooks', 'events/s',
           'p50, ms', 'p99, ms', 'sidecar, us', 'postgres, us', 'client, us');

    row('pgbench', "pgbench, $best{clients} clients");
    row('events', "sidecar, $connections connections");
    row('repeated', 'sidecar, repeated deliveries') if $wanted{repeated};

    my @ratio = map { $result{events}{rate}[$_] / $result{pgbench}{rate}[$_] }
                0 .. $rounds - 1;

    Bench->targets(
        ['events, share of what pgbench reaches', Bench::median(@ratio), 0.70,
         '%.2f', 'least'],
        ['events, p99 in ms', of('events', 'p99'), 10, '%.1f'],
        ['events, CPU of the sidecar, us', of('events', 'sidecar'), 25,
         '%.1f'],
        $wanted{repeated}
            ? ['repeated, all CPU, over that of events',
               cost('repeated') / cost('events'), 1, '%.2f']
            : ());

    print "\n";
}


# new ones, or the same $count again and again

sub deliver
{
    my ($time, $count) = @_;

    $serial += 10_000_000 unless $count;

    return load($socket, $connections, $time, 'events',
                $Test::Runcoach::WEBHOOK_SECRET, $users,
                $count ? 0 : $serial, $count || 0);
}


sub pgbench_events
{
    my ($sql, $clients, $time) = @_;

    my $payload = '{"data":{' . ('"first_name":"Test",' x 69)
                  . '"id":"user"},"type":"x"}';

    $payload .= ' ' x (1440 - length($payload));

    return pgbench('-c', $clients, '-T', $time, '-D', 'i=0',
                   '-D', 'run=' . ++$run, '-D', "payload=$payload",
                   '-f', $sql);
}

###############################################################################

# new uploads are completed, a set of them for each round

sub completion
{
    my $id = $first_id;

    deliver(3) unless $wanted{events} || $wanted{repeated};

    $t->sql('CREATE TABLE bench_commit (n integer)');

    for my $round (0 .. $rounds) {
        for my $clients (1, $few) {
            my $n = $uploads / ($clients == 1 ? 4 : 1);
            my @ids = ($id .. $id + $n - 1);

            $id += $n;

            Bench::progress("completions, round $round of $rounds");
            complete($clients, $round, @ids);
        }
    }

    Bench::progress('');

    printf("%-32s %9s %8s %8s %13s %13s %11s\n", 'completions', '/s',
           'p50, ms', 'p99, ms', 'sidecar, us', 'postgres, us', 'client, us');

    for my $clients (1, $few) {
        row("head $clients", "HEAD of the local store, $clients");
        row("commit $clients", "commit of one row, $clients");
        row("completion $clients", "completion, $clients at a time");
    }

    Bench->targets(map { [
        "completion, p99 over 2 x HEAD + commit, $_ at a time",
        Bench::median(over_its_parts($_)), 1, '%.2f'
    ] } 1, $few);
}


sub complete
{
    my ($clients, $round, @ids) = @_;

    my $commit = $t->write_file('commit.sql',
                                "INSERT INTO bench_commit VALUES (1);\n");

    load($t->port(8080), $few, 60, 'requests', objects('PUT', @ids));
    $t->sql('CHECKPOINT');
    Bench::wait_until_quiet();

    my %got = (
        head => load($t->port(8080), $clients, 60, 'requests',
                     objects('HEAD', @ids)),
        commit => pgbench('-c', $clients, '-t', int(@ids / $clients), '-l',
                          '-f', $commit),
        completion => load($socket, $clients, 60, 'requests',
                           completions(@ids)),
    );

    # the first are for plans and connections

    return if $round == 0;

    for my $name (keys %got) {
        push @{$result{"$name $clients"}{$_}}, $got{$name}{$_}
            for keys %{$got{$name}};
    }
}


# in each round

sub over_its_parts
{
    my ($clients) = @_;

    my ($all, $head, $commit) = map { $result{"$_ $clients"}{p99} }
                                qw/ completion head commit /;

    return map { $all->[$_] / (2 * $head->[$_] + $commit->[$_]) }
           0 .. $#$all;
}


sub objects
{
    my ($method, @ids) = @_;

    my $host = $t->host();
    my $body = $method eq 'PUT' ? 'x' x 1000 : '';

    return requests(map {
        my $url = $t->presign(method => $method, key => key($_),
                              expires => 3600);

        $url =~ s{^http://[^/]+}{};

        "$method $url HTTP/1.1\r\nHost: $host\r\n"
        . ($body ? 'Content-Length: ' . length($body) . "\r\n" : '')
        . "\r\n$body";
    } @ids);
}


sub completions
{
    return requests(map {
        my $body = qq({"activity_id":$_,"file_size":1000});
        my $user = user($_);

        "POST /api/v1/upload/complete HTTP/1.1\r\nHost: sidecar\r\n"
        . "X-Auth-Method: clerk\r\nX-Auth-Subject: $user\r\n"
        . "X-Clerk-User-Id: $user\r\n"
        . "X-Upload-Key: users/$user/activities/{object}.fit\r\n"
        . "Content-Type: application/json\r\nContent-Length: "
        . length($body) . "\r\n\r\n$body";
    } @_);
}


sub requests
{
    return $t->write_file('requests', join('', map { length() . "\n$_" } @_));
}


sub user { return sprintf('user_%08d', $_[0] % 1000) }
sub key { return 'users/' . user($_[0]) . "/activities/$_[0].fit" }

###############################################################################

# each of them once in a round, with what was written before out of the way

sub measure
{
    my (@rows) = @_;

    for my $round (1 .. $rounds) {
        for my $row (@rows) {
            my ($name, $code) = @$row;

            Bench::progress("round $round of $rounds: $name");

            $t->sql('TRUNCATE edge_inbox');
            deliver(1, $some) if $name eq 'repeated';
            $t->sql('CHECKPOINT');
            Bench::wait_until_quiet();

            my $got = $code->();

            push @{$result{$name}{$_}}, $got->{$_} for keys %$got;
        }
    }

    Bench::progress('');
}


# load(ADDRESS, ...): as load.c wants it

sub load
{
    my @args = @_;

    return on_clock(sub {
        my ($status, $out) = $t->command([$load, @args], timeout => 120);

        my %got = $out =~ /(\w+)=([\d.]+)/g;

        die "load @args[0 .. 3]: $out\n"
            if $status || !$got{answers} || $got{failed};

        return { count => $got{answers}, rate => $got{answers} / $got{seconds},
                 p50 => $got{p50} / 1000, p99 => $got{p99} / 1000,
                 client => $got{cpu} };
    });
}


sub pgbench
{
    my (@args) = @_;

    my $log = grep { $_ eq '-l' } @args;
    my $prefix = "$t->{dir}/pgbench_log";

    my $got = on_clock(sub {
        my @before = (times())[2, 3];
        my ($status, $out) = $t->command(["$bin/pgbench", '-n', '-M',
            'prepared', '-h', $t->{dir}, '-U', 'runcoach', '-j', 2,
            ($log ? "--log-prefix=$prefix" : ()), @args, 'runcoach'],
            timeout => 120);

        my ($count) = $out =~ /actually processed: (\d+)/;
        my ($rate) = $out =~ /^tps = ([\d.]+)/m;
        my @after = (times())[2, 3];

        die "pgbench: $out\n" if $status || !$rate;

        return { count => $count, rate => $rate, p50 => 0, p99 => 0,
                 client => ($after[0] + $after[1] - $before[0] - $before[1])
                           / $count * 1e6 };
    });

    if ($log) {
        my @us = sort { $a <=> $b }
                 map { (split(' ', $_))[2] }
                 map { split(/\n/, Test::Runcoach::slurp($_)) }
                 glob("$prefix.*");

        $got->{p50} = $us[$#us / 2] / 1000;
        $got->{p99} = $us[$#us * 0.99] / 1000;

        unlink(glob("$prefix.*"));
    }

    return $got;
}


# adds the CPU time, in microseconds, that the servers took for each

sub on_clock
{
    my ($code) = @_;

    my $sidecar = Bench::on_cpu($t->{serve}{pid});
    my $postgres = postgres_cpu();
    my $got = $code->();

    $got->{sidecar} = (Bench::on_cpu($t->{serve}{pid}) - $sidecar)
                      / $got->{count} * 1e6;
    $got->{postgres} = (postgres_cpu() - $postgres) / $got->{count} * 1e6;

    return $got;
}


# seconds of the server, of its processes, and of those that have ended

sub postgres_cpu
{
    my $server = $t->{postgres}->pid();
    my $ticks = 0;

    for my $pid ($server, $t->children($server)) {
        my ($rest) = Bench::slurp("/proc/$pid/stat") =~ /^\d+ \(.*\) (.*)/s
            or next;
        my @f = (split(' ', $rest))[11 .. 14];

        $ticks += $_ for $pid == $server ? @f : @f[0, 1];
    }

    return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


sub of
{
    my ($name, $key) = @_;

    return Bench::median(@{$result{$name}{$key}});
}


sub cost { return of($_[0], 'sidecar') + of($_[0], 'postgres') }


sub row
{
    my ($name, $text) = @_;

    my $ms = sub { return $_[0] ? sprintf('%.2f', $_[0]) : '' };

    printf("%-32s %9.0f %8s %8s %13.1f %13.1f %11.1f\n", $text,
           of($name, 'rate'), $ms->(of($name, 'p50')), $ms->(of($name, 'p99')),
           map { of($name, $_) } qw/ sidecar postgres client /);
}
