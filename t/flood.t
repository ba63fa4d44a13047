#!/usr/bin/perl

# A flood by one client, on two edges: what it costs Redis, and the others.
# RUNCOACH_SOAK=1 takes longer, and holds the others' costs to their bounds;
# else they are told.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;
use Test::Runcoach::Load;
use Time::HiRes qw/ sleep time /;

my $soak = $ENV{RUNCOACH_SOAK};
my $rounds = $soak ? 15 : 1;
my $seconds = 3;

# in each tick a batch of the flood, and anywhere in it a request of another

my $tick = 0.005;
my $batch = 25;
my $flood = $batch / $tick;

my $t = Test::Runcoach->new();

$t->skip_all('a byte at a time there is no flood') if $ENV{RUNCOACH_SHIM};

my $redis = $t->redis();

my @edges = edges(2, $redis->url(), <<'EOT');

%%TEST_GLOBALS%%

worker_processes  1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%
    %%LOG%%

    keepalive_requests  1000000;

    runcoach_zone   runcoach:1m;
    runcoach_redis  env:REDIS_URL  timeout=100ms;

    runcoach_limit_policy  user  rate=5r/s  burst=10  key=$arg_user;

    server {
        listen  127.0.0.1:8080;

        location / { runcoach_limit user;  empty_gif; }
    }
}

EOT

###############################################################################

# Each round has the others alone, the flood alone, and both.  What is left of
# both without the flood is what the others cost then.

my @conns = map { my $port = $_->port(8080);
                  +{ map { $_ => Test::Runcoach::connect_to("127.0.0.1:$port") }
                     qw/ flood others / } } @edges;

measure('warm', 1, 1, 1);

my @rounds;

for my $n (1 .. $rounds) {
    push @rounds, {
        alone => measure("alone$n", $seconds, 1, 0),
        flood => measure("flood$n", $seconds, 0, 1),
        both  => measure("both$n", $seconds, 1, 1),
    };
}

my @flood = map { $_->{flood}, $_->{both} } @rounds;
my @others = map { $_->{alone}, $_->{both} } @rounds;

cmp_ok(median(map { $_->{flooder}{rate} } @flood), '>', $flood * 0.95,
       'a flood');

# Redis

my $calls = most(map { $_->{flood}{calls} } @rounds);

cmp_ok($calls, '<=', 2 * (5 + 2), sprintf('calls: %.1f/s', $calls));

my $more = median(map { $_->{both}{calls} - $_->{alone}{calls} }
                  @rounds);

cmp_ok($more, '<=', 2 * (5 + 2), sprintf('more than without: %.1f/s', $more));

# what everybody gets

cmp_ok(most(map { $_->{flooder}{excess} } @flood), '<=', 1,
       'the flood gets no more than is its own');
cmp_ok(least(map { $_->{flooder}{ratio} } @flood), '>=', 0.9,
       'and what is its own');
is(most(map { $_->{others}{refused} } @others), 0, 'the others get theirs');
is(most(map { $_->{others}{errors} } @others), 0, 'without errors');

# what the others pay

my @cpu = map { ($_->{both}{cpu} - $_->{flood}{cpu}) / $_->{both}{others}{n} }
          @rounds;
my @cpu_alone = map { $_->{alone}{cpu} / $_->{alone}{others}{n} } @rounds;
my $cpu = median(map { $cpu[$_] / $cpu_alone[$_] } 0 .. $#rounds);

my @time = map { $_->{both}{others}{median} } @rounds;
my @time_alone = map { $_->{alone}{others}{median} } @rounds;
my $time = median(map { $time[$_] / $time_alone[$_] } 0 .. $#rounds);

note(sprintf('CPU of a request of others: %.1f us alone, %.1f us in the flood,'
             . ' x %.2f', 1e6 * median(@cpu_alone), 1e6 * median(@cpu), $cpu));
note(sprintf('median latency of others: %.0f us alone, %.0f us in the flood,'
             . ' x %.2f', 1e6 * median(@time_alone), 1e6 * median(@time),
             $time));
note(sprintf('CPU of a request of the flood: %.2f us; of Redis: %.2f %% alone,'
             . ' %.2f %% in the flood',
             1e6 * median(map { $_->{flood}{cpu}
                                / $_->{flood}{flooder}{sent} } @rounds),
             100 * median(map { $_->{alone}{redis} } @rounds),
             100 * median(map { $_->{both}{redis} } @rounds)));

if ($soak) {
    cmp_ok($cpu, '<=', 1.1, 'CPU of a request of others');
    cmp_ok($time, '<=', 1.25, 'median latency of others');
}

# nothing is told of each, at a level that tells more than the default

for my $edge (@edges) {
    cmp_ok(scalar(() = $edge->read_file('error.log') =~ /\n/g), '<', 20,
           'no line for each');
}

is(join('', map { $_->alerts() } @edges), '', 'no alerts of the edges');

$t->done();

###############################################################################


sub measure
{
    my ($name, $seconds, $with_others, $with_flood) = @_;

    truncate("$_->{dir}/load.log", 0) for @edges;

    # until the burst is spent

    drive($name, 0.5, 0, $with_flood);

    my %before = state();
    my ($sent, @waited) = drive($name, $seconds, $with_others, $with_flood);
    my %after = state();

    sleep(0.1);

    my @log = read_logs(@edges);
    my @flooder = grep { $_->{user} =~ /flood/ } @log;
    my @others = grep { $_->{user} !~ /flood/ } @log;
    my $spent = $after{time} - $before{time};

    return {
        calls => ($after{calls} - $before{calls}) / $spent,
        cpu => $after{cpu} - $before{cpu},
        redis => ($after{redis} - $before{redis}) / $spent,
        flooder => {
            %{judge(\@flooder, rate => 5, burst => 10)},
            sent => $sent,
            rate => $sent / $spent,
        },
        others => {
            n => scalar(@waited),
            median => median(@waited),
            refused => scalar(grep { $_->{status} ne 'PASSED' } @others),
            errors => scalar(grep { $_->{code} != 200 } @others),
        },
    };
}


# how many of the flood were sent, and how long each of the others waited,
# who are a hundred, and each within its limit

sub drive
{
    my ($name, $seconds, $with_others, $with_flood) = @_;

    my $ticks = int($seconds / $tick);
    my $flooder = "GET /?user=$name-flood HTTP/1.1\r\nHost: x\r\n\r\n" x $batch;
    my $start = time();
    my @waited;

    for my $n (0 .. $ticks - 1) {
        my $pair = $conns[$n % @conns];

        wait_until($start + $n * $tick);

        if ($with_flood) {
            drain($pair->{flood});
            syswrite($pair->{flood}, $flooder);
        }

        next unless $with_others;

        wait_until($start + ($n + rand()) * $tick);

        my $user = "$name-" . $n % 100;
        my $asked = time();

        syswrite($pair->{others},
                 "GET /?user=$user HTTP/1.1\r\nHost: x\r\n\r\n");
        sysread($pair->{others}, my $answer, 65536);
        push @waited, time() - $asked;
    }

    wait_until($start + $seconds);
    drain($_->{flood}) for @conns;

    return ($with_flood ? $ticks * $batch : 0, @waited);
}


sub wait_until
{
    my ($when) = @_;

    my $wait = $when - time();

    sleep($wait) if $wait > 0;
}


sub drain
{
    my ($s) = @_;

    $s->blocking(0);
    1 while sysread($s, my $answers, 262144);
    $s->blocking(1);
}


# CPU of the workers, as the scheduler counts it, and of Redis; its calls

sub state
{
    my $cpu = 0;

    for my $pid (map { $_->workers() } @edges) {
        my ($ns) = Test::Runcoach::slurp("/proc/$pid/schedstat") =~ /^(\d+)/;

        $cpu += $ns / 1e9;
    }

    my ($ns) = Test::Runcoach::slurp('/proc/' . $redis->pid() . '/schedstat')
               =~ /^(\d+)/;

    return (time => time(), cpu => $cpu, redis => $ns / 1e9,
            calls => commands($redis));
}


sub median { return percentile(0.5, @_) }
sub least { return (sort { $a <=> $b } @_)[0] }
sub most { return (sort { $b <=> $a } @_)[0] }
