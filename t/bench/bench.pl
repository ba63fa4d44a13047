#!/usr/bin/perl

# CPU time per request, against plain nginx in the same run.
#
# One nginx worker on one core; the client and Redis on another.  What is
# counted is the worker's time on the CPU (schedstat) divided by the requests
# answered: it does not depend on how fast the client is.  A round takes each
# case once, for a second or so; differences are taken within a round and the
# medians of these are shown, because a machine changes its speed by the
# minute.  A slice during which others used the machine is taken again.
#
#     BENCH_ROUNDS=9 BENCH_SECONDS=1 BENCH_CONNECTIONS=32

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";

use POSIX ();
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

my $rounds = $ENV{BENCH_ROUNDS} || 9;
my $seconds = $ENV{BENCH_SECONDS} || 1;
my $connections = $ENV{BENCH_CONNECTIONS} || 32;

# foreign CPU, in cores, above which a slice is not counted

my $quiet = 0.10;

my $client = Test::Runcoach::find_program('wrk') ? 'wrk'
             : Test::Runcoach::find_program('h2load') ? 'h2load' : undef;

if (!$client) {
    print "There is neither wrk nor h2load, so there is nothing to measure"
          . " with (Debian: wrk, nghttp2-client).\n";
    exit(1);
}

my $cores = () = (slurp('/proc/cpuinfo') =~ /^processor/mg);
my $pin = $cores > 1 && Test::Runcoach::find_program('taskset');
my @other = $pin ? ('taskset', '-c', '1') : ();

my $t = Test::Runcoach->new();

$t->{planned} = 1;

$t->redis();

if ($pin) {
    $t->command(['taskset', '-a', '-p', '-c', '1', $t->{redis}->pid()]);
}

$t->set(AFFINITY => $pin ? 'worker_cpu_affinity  0001;' : '');

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

worker_processes  1;
%%AFFINITY%%

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log          off;
    keepalive_requests  100000000;

    runcoach_zone   runcoach:16m;
    runcoach_redis  %%REDIS_URL%%  timeout=1s;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                            key=env:CLERK_JWT_KEY;

    runcoach_limit_policy  user  rate=100000r/s  burst=100000
                                 key=$runcoach_user;

    runcoach_store  r2  endpoint=https://example.r2.cloudflarestorage.com
                        bucket=fit-files  access_key=AKIAIOSFODNN7EXAMPLE
                        secret_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY;

    server {
        listen  127.0.0.1:8080;

        location = /plain {
            return  200  "ok";
        }

        location = /gif {
            empty_gif;
        }

        location = /auth {
            runcoach_auth  clerk;
            empty_gif;
        }

        location = /limit {
            runcoach_auth   clerk;
            runcoach_limit  user;
            empty_gif;
        }

        location = /presign {
            runcoach_auth     clerk;
            runcoach_presign  r2  PUT
                              "users/$runcoach_user/activities/$runcoach_object.fit"
                              expires=1h  max_size=10m;
        }
    }
}

EOF

$t->run(env => { CLERK_JWT_KEY => $t->key_pem('issuer') });

my ($worker) = $t->workers();
my $token = $t->token();
my $body = '{"filename":"morning.fit","file_size":140000}';

my @bearer = ('-H', "Authorization: Bearer $token");
my @post = ('-H', 'Content-Type: application/json');

# name, arguments, body, compared with the case of that name

my @cases = (
    { name => 'return 200', path => '/plain' },
    { name => 'return 200, POST, with a token', path => '/plain',
      args => [@bearer, @post], body => $body },
    { name => 'empty_gif', path => '/gif' },
    { name => 'empty_gif, with a token', path => '/gif',
      args => [@bearer] },
    { name => 'authentication, repeated token', path => '/auth',
      args => [@bearer], base => 'empty_gif, with a token' },
    { name => 'authentication + limit (Redis)', path => '/limit',
      args => [@bearer], base => 'authentication, repeated token' },
    { name => 'presigned URL (authenticated)', path => '/presign',
      args => [@bearer, @post], body => $body,
      base => 'authentication, repeated token' },
);

###############################################################################

machine();

# one unmeasured slice each: caches, connections, scripts

slice($_, 1) for @cases;

my $disturbed = 0;

for my $round (1 .. $rounds) {
    for my $case (@cases) {
        my $result;

        for my $try (1 .. 5) {
            wait_until_quiet();
            $result = slice($case, $seconds);

            last if $result->{foreign} <= $quiet;

            $result->{noisy} = 1;
            sleep(0.5);
        }

        $disturbed++ if $result->{foreign} > $quiet;

        push @{$case->{$_}}, $result->{$_}
            for qw/ cpu user redis rate /;
    }

    print STDERR "\rround $round of $rounds" if -t STDERR;
}

print STDERR "\r" if -t STDERR;

table();

print "$disturbed of ", $rounds * @cases, " slices were taken while others",
      " used more than $quiet of a core.\n" if $disturbed;

$t->stop_all();

exit(0);

###############################################################################

# one case for some seconds

sub slice
{
    my ($case, $time) = @_;

    my @command = (@other, load($case, $time));
    my $all = busy();
    my $cpu = on_cpu($worker);
    my @ticks = ticks($worker);
    my $redis = on_cpu($t->{redis}->pid());
    my @children = (times())[2, 3];
    my $start = time();

    my ($status, $out) = $t->command(\@command, timeout => $time + 30);

    my $wall = time() - $start;
    my @after = (times())[2, 3];

    $cpu = on_cpu($worker) - $cpu;

    my @now = ticks($worker);
    my $user = $now[0] - $ticks[0];
    my $system = $now[1] - $ticks[1];

    $redis = on_cpu($t->{redis}->pid()) - $redis;
    $all = busy() - $all;

    die "$client: $out\n" if $status;

    my ($n, $bad) = $client eq 'wrk'
        ? ($out =~ /(\d+) requests in/, $out =~ /(Non-2xx[^\n]*)/)
        : ($out =~ /(\d+) succeeded/, $out =~ /, ([1-9]\d* failed)/);

    die "$case->{name}: $bad\n$out\n" if $bad;
    die "$case->{name}: $out\n" unless $n;

    my $mine = $cpu + $redis + $after[0] + $after[1] - $children[0]
               - $children[1];

    return {
        cpu => $cpu / $n * 1e6,
        user => $cpu / $n * 1e6 * $user / ($user + $system || 1),
        redis => $redis / $n * 1e6,
        rate => $n / $time,
        foreign => ($all - $mine) / $wall,
    };
}


sub load
{
    my ($case, $time) = @_;

    my $url = 'http://' . $t->host() . $case->{path};
    my @args = @{$case->{args} || []};

    if ($client eq 'h2load') {
        push @args, '-d', $t->write_file('body', $case->{body})
            if defined $case->{body};

        return ('h2load', '--h1', '-t1', "-c$connections",
                "--duration=$time", @args, $url);
    }

    if (defined $case->{body}) {
        my $script = $t->write_file('post.lua', "wrk.method = 'POST'\n"
                                    . "wrk.body = '$case->{body}'\n");

        push @args, '-s', $script;
    }

    return ('wrk', '-t1', "-c$connections", '-d', "${time}s",
            '--timeout', '10s', @args, $url);
}


# seconds on a CPU of all threads of a process

sub on_cpu
{
    my ($pid) = @_;

    my $ns = 0;

    for my $file (glob("/proc/$pid/task/*/schedstat")) {
        $ns += (split(' ', slurp($file)))[0];
    }

    return $ns / 1e9;
}


# in user mode and in the kernel, in ticks: sampled, so only their proportion
# is used

sub ticks
{
    my ($pid) = @_;

    my ($rest) = slurp("/proc/$pid/stat") =~ /^\d+ \(.*\) (.*)/s;

    return (split(' ', $rest))[11, 12];
}


# seconds all CPUs were busy

sub busy
{
    my ($line) = slurp('/proc/stat') =~ /^cpu +(.*)/m;
    my ($user, $nice, $system, $idle, $iowait, $irq, $softirq, $steal)
        = split(' ', $line);

    return ($user + $nice + $system + $irq + $softirq + ($steal // 0))
           / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


sub wait_until_quiet
{
    my $end = time() + 20;

    while (time() < $end) {
        my $before = busy();

        sleep(0.2);

        return if (busy() - $before) / 0.2 <= $quiet;
    }
}


sub table
{
    my $plain = $cases[0];
    my %named = map { $_->{name} => $_ } @cases;

    printf("%-34s %7s %14s %7s %14s %7s %6s %8s\n", 'CPU of the worker, us',
           'total', 'over plain', 'x plain', 'over its base', 'user', 'redis',
           'req/s');

    for my $case (@cases) {
        my $base = $case->{base} ? $named{$case->{base}} : undef;

        printf("%-34s %7.2f %14s %7s %14s %7.2f %6s %8.0f\n", $case->{name},
               median(@{$case->{cpu}}),
               $case == $plain ? '' : over($case, $plain),
               $case == $plain ? '' : sprintf('%.2f', ratio($case, $plain)),
               $base ? over($case, $base) : '',
               median(@{$case->{user}}),
               median(@{$case->{redis}}) > 0.05
                   ? sprintf('%.2f', median(@{$case->{redis}})) : '',
               median(@{$case->{rate}}));
    }

    print <<"EOF";

Medians of $rounds rounds of $seconds s, $connections connections, $client.
"Over" is the median of the differences within a round and, in brackets, half
of the distance of their quartiles.  Bases: the same request without what is
measured, that is the request with a token for authentication, and the
authenticated one for the limit and for the presigned URL (which besides reads
a body and sends a longer answer).  "User" is the part spent outside of the
kernel.  When a request takes long, the client has gone to sleep and each
answer has to wake it, which the kernel charges to the worker; with Redis next
to the client it sleeps less.  So where the totals contradict each other,
compare the user parts.
EOF
}


sub over
{
    my ($case, $base) = @_;

    my @d = sort { $a <=> $b }
            map { $case->{cpu}[$_] - $base->{cpu}[$_] } 0 .. $rounds - 1;

    return sprintf('%+.2f (%.2f)', median(@d),
                   ($d[int(0.75 * $#d + 0.5)] - $d[int(0.25 * $#d + 0.5)])
                   / 2);
}


sub ratio
{
    my ($case, $base) = @_;

    return median(map { $case->{cpu}[$_] / $base->{cpu}[$_] }
                  0 .. $rounds - 1);
}


sub median
{
    my @s = sort { $a <=> $b } @_;

    return ($s[int($#s / 2)] + $s[int(($#s + 1) / 2)]) / 2;
}


sub machine
{
    my ($model) = slurp('/proc/cpuinfo') =~ /^model name\s*: (.*)/m;
    my ($os) = slurp('/etc/os-release') =~ /^PRETTY_NAME="(.*)"/m;
    my $kernel = (POSIX::uname())[2];
    my $nginx = $t->command([$t->nginx(), '-v']);
    my $redis = $t->command(['redis-server', '--version']);
    my $openssl = $t->command(['openssl', 'version']);

    $nginx =~ s{.*nginx/(\S+).*}{$1}s;
    $redis =~ s{.* v=(\S+).*}{$1}s;
    $openssl =~ s{^OpenSSL (\S+).*}{$1}s;

    print $model // 'unknown CPU', ", $cores cores; ", $os // '', ", Linux $kernel\n",
          "nginx $nginx, Redis $redis, OpenSSL $openssl; ",
          $pin ? 'worker on core 0, client and Redis on core 1'
               : 'nothing is pinned: a single core, or no taskset', "\n\n";
}


sub slurp { return Test::Runcoach::slurp($_[0]) // '' }

###############################################################################
