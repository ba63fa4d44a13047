package Bench;

# What the benchmarks share: slices of load on one worker, their CPU time, and
# tables of it.
#
# What is counted is the worker's time on the CPU (schedstat) divided by the
# requests answered: it does not depend on how fast the client is.  A round
# takes each case once; differences are taken within a round, and the medians of
# these are shown, because a machine changes its speed by the minute.  A slice
# during which others used the machine is taken again.

use strict;
use warnings;

use FindBin;
use POSIX ();
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

# foreign CPU, in cores, above which a slice is not counted

our $QUIET = $ENV{BENCH_QUIET} || 0.10;


sub new
{
    my ($class) = @_;

    my $cores = () = (slurp('/proc/cpuinfo') =~ /^processor/mg);

    my $self = bless({
        rounds => $ENV{BENCH_ROUNDS} || 9,
        seconds => $ENV{BENCH_SECONDS} || 1,
        connections => $ENV{BENCH_CONNECTIONS} || 32,
        cores => $cores,
        pin => $cores > 1 && Test::Runcoach::find_program('taskset'),
        processes => [],
        disturbed => 0,
    }, $class);

    $self->{client} = Test::Runcoach::find_program('wrk') ? 'wrk'
        : Test::Runcoach::find_program('h2load') ? 'h2load' : undef;

    if (!$self->{client}) {
        print "There is neither wrk nor h2load, so there is nothing to measure"
              . " with (Debian: wrk, nghttp2-client).\n";
        exit(1);
    }

    $self->{worker} = $self->{pin} ? ['taskset', '-c', '0'] : [];
    $self->{other} = $self->{pin} ? ['taskset', '-c', '1'] : [];

    return $self;
}


sub rotates { return $_[0]->{client} eq 'wrk' }


# for nginx.conf

sub affinity
{
    return $_[0]->{pin} ? 'worker_cpu_affinity  0001;' : '';
}


# a server next to the client, whose time is shown too

sub beside
{
    my ($self, $t, $pid) = @_;

    $t->command(['taskset', '-a', '-p', '-c', '1', $pid]) if $self->{pin};

    $self->{beside} = $pid;
}


# a program of t/bench, compiled when it has changed

sub program
{
    my ($self, $name) = @_;

    my $root = Test::Runcoach::root();
    my $lib = "$root/ngx_runcoach_module/lib";
    my $dir = Test::Runcoach::build() . '/bench';
    my @sources = ("$root/t/bench/$name.c", "$lib/runcoach_base64.c");

    mkdir($dir);

    return "$dir/$name"
        unless grep { newer($_, "$dir/$name") } @sources;

    system($ENV{CC} || 'cc', '-std=gnu11', '-O2', '-pthread', '-I', $lib, '-o',
           "$dir/$name", @sources, '-lcrypto') == 0
        or die "t/bench/$name.c does not compile\n";

    return "$dir/$name";
}


# A file of as many tokens, signed by a private key.  Signing takes a while, so
# they are kept while they have a day to live.

sub tokens
{
    my ($self, $key, $count, $lifetime) = @_;

    my $program = $self->program('tokens');
    my $file = Test::Runcoach::build() . "/bench/tokens-$count";

    return $file
        unless newer($key, $file) || newer($program, $file)
               || -M $file > $lifetime / 86400 - 1;

    print STDERR "signing $count tokens, once for some days\n" if -t STDERR;

    system("'$program' '$key' $count $lifetime > '$file.tmp'") == 0
        or die "t/bench/tokens.c\n";
    rename("$file.tmp", $file) or die "rename: $!\n";

    return $file;
}


sub newer
{
    my ($file, $made) = @_;

    return !-s $made || (stat($file))[9] > (stat($made))[9];
}


###############################################################################
# Measuring
###############################################################################


# A case is a hash:
#
#     name    of the row, and what the "base" of others refers to
#     base    the case it is compared with
#     server  the Test::Runcoach whose nginx has one worker
#     path    of the URL; args, body, and rotate: of how many tokens, or users:
#             of how many users
#     warm    seconds before each slice, for what adapts to the load
#     counts  a sub whose growth is divided by the requests too
#     code    instead of these: returns the microseconds one takes
#
# Without a body they are GET requests.  After run() there is in each of the
# keys cpu, user, beside, rate and counted a value for each round.

sub run
{
    my ($self, @cases) = @_;

    my $n = 0;

    # unmeasured: caches, connections, scripts, and each token once

    for my $case (grep { !$_->{code} } @cases) {
        my $left = $case->{rotate} && !$case->{cold} ? $case->{rotate}
                   : $case->{users} || 1;

        progress('warming up: ', $case->{name});

        $left -= $self->slice($case, 1)->{requests} while $left > 0;
    }

    for my $round (1 .. $self->{rounds}) {
        for my $case (@cases) {
            progress("round $round of $self->{rounds}: $case->{name}");
            $self->measure($case);
            $n++;
        }
    }

    progress('');

    print "$self->{disturbed} of $n slices were taken while others used more"
          . " than $QUIET of a core.\n" if $self->{disturbed};
}


sub progress
{
    printf STDERR ("\r%-70s\r", join('', @_)) if -t STDERR;
}


sub measure
{
    my ($self, $case) = @_;

    my $result;

    for my $try (1 .. 5) {
        wait_until_quiet();

        if ($case->{code}) {
            my $us = $case->{code}->();

            $result = { cpu => $us, ticks => [1, 0], rate => 1e6 / $us,
                        beside => 0, counted => 0, foreign => 0 };

        } else {
            $self->slice($case, $case->{warm}) if $case->{warm};
            $result = $self->slice($case, $self->{seconds});
        }

        last if $result->{foreign} <= $QUIET;

        sleep(0.5);
    }

    $self->{disturbed}++ if $result->{foreign} > $QUIET;

    push @{$case->{$_}}, $result->{$_} for qw/ cpu beside rate counted /;

    $case->{ticks}[$_] += $result->{ticks}[$_] for 0 .. 1;
}


# one case for some seconds

sub slice
{
    my ($self, $case, $time) = @_;

    my $t = $case->{server};
    my $worker = $case->{server}{bench_worker} ||= ($t->workers())[0];
    my @command = (@{$self->{other}}, $self->load($case, $time));
    my $all = busy();
    my $cpu = on_cpu($worker);
    my @ticks = ticks($worker);
    my $beside = on_cpu($self->{beside});
    my $counted = $case->{counts} ? $case->{counts}->() : 0;
    my @children = (times())[2, 3];
    my $start = time();

    my ($status, $out) = $t->command(\@command, timeout => $time + 60);

    my $wall = time() - $start;
    my @after = (times())[2, 3];

    $cpu = on_cpu($worker) - $cpu;

    my @now = ticks($worker);

    $beside = on_cpu($self->{beside}) - $beside;
    $counted = $case->{counts}->() - $counted if $case->{counts};
    $all = busy() - $all;

    die "$self->{client}: $out\n" if $status;

    my ($n, $bad) = $self->{client} eq 'wrk'
        ? ($out =~ /(\d+) requests in/,
           $out =~ /(Non-2xx[^\n]*|Socket errors[^\n]*)/)
        : ($out =~ /(\d+) succeeded/, $out =~ /, ([1-9]\d* failed)/);

    die "$case->{name}: $bad\n$out\n" if $bad && !$case->{refused};
    die "$case->{name}: $out\n" unless $n;

    # the next slice of a rotation begins where this one ends

    $case->{at} = (($case->{at} // 0) + $n) % ($case->{rotate} || 1);

    my $mine = $cpu + $beside + $after[0] + $after[1] - $children[0]
               - $children[1];

    return {
        requests => $n,
        cpu => $cpu / $n * 1e6,
        ticks => [$now[0] - $ticks[0], $now[1] - $ticks[1]],
        beside => $beside / $n * 1e6,
        counted => $counted / $n,
        rate => $n / $time,
        foreign => ($all - $mine) / $wall,
    };
}


sub load
{
    my ($self, $case, $time) = @_;

    my $t = $case->{server};
    my $url = 'http://' . $t->host() . $case->{path};
    my @args = @{$case->{args} || []};

    if ($self->{client} eq 'h2load') {
        push @args, '-d', $t->write_file('body', $case->{body})
            if defined $case->{body};

        return ('h2load', '--h1', '-t1', "-c$self->{connections}",
                "--duration=$time", @args, $url);
    }

    if (defined $case->{body}) {
        my $script = $t->write_file('post.lua', "wrk.method = 'POST'\n"
                                    . "wrk.body = '$case->{body}'\n");

        push @args, '-s', $script;
    }

    my @rotate;

    if ($case->{rotate}) {
        push @args, '-s', Test::Runcoach::root() . '/t/bench/rotate.lua';
        @rotate = ('--', $case->{tokens}, $case->{rotate},
                   $case->{at} // 0);
    }

    if ($case->{users}) {
        push @args, '-s', Test::Runcoach::root() . '/t/bench/users.lua';
        @rotate = ('--', $case->{users});
    }

    return ('wrk', '-t1', "-c$self->{connections}", '-d', "${time}s",
            '--timeout', '10s', @args, $url, @rotate);
}


# seconds on a CPU of all threads of a process

sub on_cpu
{
    my ($pid) = @_;

    return 0 unless $pid;

    my $ns = 0;

    for my $file (glob("/proc/$pid/task/*/schedstat")) {
        $ns += (split(' ', slurp($file)))[0];
    }

    return $ns / 1e9;
}


# in user mode and in the kernel, in ticks: sampled, so only their proportion
# is used, and that of all rounds together

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

        return if (busy() - $before) / 0.2 <= $QUIET;
    }
}


###############################################################################
# Showing
###############################################################################


# what a request costs over that of another case: the median of the differences
# within a round, and half of the distance of their quartiles

sub over
{
    my ($case, $base) = @_;

    my @d = sort { $a <=> $b } map { $case->{cpu}[$_] - $base->{cpu}[$_] }
                                   0 .. $#{$case->{cpu}};

    return (median(@d), ($d[int(0.75 * $#d + 0.5)] - $d[int(0.25 * $#d + 0.5)])
                        / 2);
}


sub ratio
{
    my ($case, $base) = @_;

    return median(map { $case->{cpu}[$_] / $base->{cpu}[$_] }
                  0 .. $#{$case->{cpu}});
}


sub user
{
    my ($case) = @_;

    my ($user, $system) = @{$case->{ticks}};

    return median(@{$case->{cpu}}) * $user / ($user + $system || 1);
}


sub table
{
    my ($self, @cases) = @_;

    my %named = map { $_->{name} => $_ } @cases;

    printf("%-36s %7s %15s %7s %7s %7s %6s %8s\n", 'CPU of the worker, us',
           'total', 'over its base', 'x base', 'user', 'over', 'redis',
           'req/s');

    for my $case (@cases) {
        my $base = $case->{base} ? $named{$case->{base}} : undef;

        printf("%-36s %7.2f %15s %7s %7.2f %7s %6s %8.0f\n", $case->{name},
               median(@{$case->{cpu}}),
               $base ? sprintf('%+.2f (%.2f)', over($case, $base)) : '',
               $base ? sprintf('%.2f', ratio($case, $base)) : '',
               user($case),
               $base ? sprintf('%+.2f', user($case) - user($base)) : '',
               median(@{$case->{beside}}) > 0.05
                   ? sprintf('%.2f', median(@{$case->{beside}})) : '',
               median(@{$case->{rate}}));
    }

    print <<"EOF";

Medians of $self->{rounds} rounds of $self->{seconds} s, $self->{connections} connections, $self->{client}.
"Over" is the median of the differences within a round and, in brackets, half
of the distance of their quartiles.  "User" is the part spent outside of the
kernel.  When a request takes long, the client has gone to sleep and each
answer has to wake it, which the kernel charges to the worker; with Redis next
to the client it sleeps less.  So where the totals contradict each other,
compare the user parts.
EOF
}


# what was to be reached: [text, value, limit, format], with 'least' as the fifth
# if more is better

sub targets
{
    my ($self, @targets) = @_;

    print "\n" if @targets;

    for my $target (@targets) {
        my ($text, $value, $limit, $format, $bound) = @$target;
        my $reached = $bound ? $value >= $limit : $value <= $limit;

        printf("%-46s %7s of at %s %-7s %s\n", $text,
               sprintf($format, $value), $bound || 'most',
               sprintf($format, $limit), $reached ? 'reached' : 'MISSED');
    }
}


sub median
{
    my @s = sort { $a <=> $b } @_;

    return ($s[int($#s / 2)] + $s[int(($#s + 1) / 2)]) / 2;
}


sub machine
{
    my ($self, $t) = @_;

    my ($model) = slurp('/proc/cpuinfo') =~ /^model name\s*: (.*)/m;
    my ($os) = slurp('/etc/os-release') =~ /^PRETTY_NAME="(.*)"/m;
    my $kernel = (POSIX::uname())[2];
    my $nginx = $t->command([$t->nginx(), '-v']);
    my $redis = $t->command(['redis-server', '--version']);
    my $openssl = $t->command(['openssl', 'version']);

    $nginx =~ s{.*nginx/(\S+).*}{$1}s;
    $redis =~ s{.* v=(\S+).*}{$1}s;
    $openssl =~ s{^OpenSSL (\S+).*}{$1}s;

    print $model // 'unknown CPU', ", $self->{cores} cores; ", $os // '',
          ", Linux $kernel\n",
          "nginx $nginx, Redis $redis, OpenSSL $openssl; ",
          $self->{pin} ? 'worker on core 0, client and Redis on core 1'
                       : 'nothing is pinned: a single core, or no taskset',
          "\n\n";
}


sub slurp { return Test::Runcoach::slurp($_[0]) // '' }


1;
