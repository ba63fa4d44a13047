package Test::Runcoach::Load;

# Several edges with one Redis, clients that keep to a rate, and the token
# bucket that judges them by the access logs.
#
#     my @edges = edges(2, $redis->url(), $conf, port => 8080);
#
#     load($edges[0], rate => 500, seconds => 3, uri => '/?user=a');
#     ... more of them, which run at once ...
#     wait_for_load();
#
#     my @log = read_logs(@edges);       # by time
#     my $judged = judge(\@log, rate => 100, burst => 100);
#
# The lines of the log are "$msec status source request_time user".

use strict;
use warnings;

use Exporter qw/ import /;
use IO::Socket::INET;
use POSIX ();
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

our @EXPORT = qw/ edges load wait_for_load read_logs judge sources commands
                  percentile LOG_FORMAT /;

use constant LOG_FORMAT => 'log_format load "$msec $runcoach_limit_status '
    . '$runcoach_limit_source $request_time $arg_user $status";';

my @clients;

END { kill('KILL', @clients) if @clients }


sub edges
{
    my ($n, $url, $conf) = @_;

    my @edges;

    for (1 .. $n) {
        my $t = Test::Runcoach->new();

        $t->set(LOG => LOG_FORMAT . " access_log $t->{dir}/load.log load;");
        $t->write_file_expand('nginx.conf', $conf);

        # a line for each request that is limited would be what is measured

        $t->write_file('nginx.conf', $t->read_file('nginx.conf')
                                     =~ s/error\.log info;/error.log notice;/r);
        $t->{planned} = 1;
        $t->run(env => { REDIS_URL => $url });

        push @edges, $t;
    }

    return @edges;
}


# starts a client: rate (a sub of the seconds since the start, or a number),
# seconds, uri (a sub of the number of the request, or a text), connections

sub load
{
    my ($t, %opt) = @_;

    my $pid = fork();

    die "fork: $!\n" unless defined $pid;

    if ($pid) {
        push @clients, $pid;
        return;
    }

    @clients = ();
    $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP /;
    $SIG{PIPE} = 'IGNORE';

    eval { client($t->port($opt{port} || 8080), %opt) };
    print STDERR "# client: $@" if $@;

    POSIX::_exit(0);
}


sub wait_for_load
{
    waitpid($_, 0) for @clients;
    @clients = ();

    # the log is written when the request is done

    sleep(0.1);
}


sub client
{
    my ($port, %opt) = @_;

    my $rate = ref($opt{rate}) ? $opt{rate} : sub { $opt{rate} };
    my $uri = ref($opt{uri}) ? $opt{uri} : sub { $opt{uri} };

    my @conns = map { { out => '', port => $port } }
                1 .. ($opt{connections} || 4);
    my ($n, $due, $start) = (0, 0, time());

    for (my $last = $start; ; ) {
        my $now = time();

        last if $now - $start >= $opt{seconds};

        $due += ($now - $last) * $rate->($now - $start);
        $last = $now;

        while ($n < int($due)) {
            my $conn = $conns[$n % @conns];

            $conn->{out} .= 'GET ' . $uri->($n) . " HTTP/1.1\r\nHost: x\r\n\r\n"
                if length($conn->{out}) < 65536;
            $n++;
        }

        exchange($_) for @conns;
        sleep(0.001);
    }

    # what is under way is answered, also a byte at a time

    my $rest = $ENV{RUNCOACH_SHIM} ? 2000 : 200;

    for (1 .. $rest) {
        exchange($_) for @conns;
        sleep(0.001);
    }
}


sub exchange
{
    my ($conn) = @_;

    my $s = $conn->{s};

    if (!$s) {
        $s = $conn->{s} = IO::Socket::INET->new(
            PeerAddr => "127.0.0.1:$conn->{port}") or return;
        $s->blocking(0);
    }

    while (1) {
        my $got = sysread($s, my $buf, 262144);

        last unless defined $got;

        # gone with its worker

        if ($got == 0) {
            close($s);
            delete $conn->{s};
            $conn->{out} = '';
            return;
        }
    }

    return unless length($conn->{out});

    my $put = syswrite($s, $conn->{out});

    substr($conn->{out}, 0, $put) = '' if $put;
}


sub read_logs
{
    my (@log);

    for my $t (@_) {
        for (split(/\n/, $t->read_file('load.log') // '')) {
            my ($time, $status, $source, $took, $user, $code) = split(/ /);

            push @log, { time => $time, status => $status, source => $source,
                         took => $took, user => $user, code => $code };
        }
    }

    return sort { $a->{time} <=> $b->{time} } @log;
}


# what an ideal bucket would have admitted of the same requests, and by how
# much more than it holds was admitted at worst: (admitted, ideal, excess)

sub judge
{
    my ($log, %opt) = @_;

    my ($rate, $burst) = @opt{qw/ rate burst /};
    my ($d, $ideal, $admitted, $worst, $last) = (0, 0, 0, 0, 0);
    my $lacks = 0;

    for my $line (@$log) {
        my $elapsed = ($line->{time} - $last) * $rate;

        $last = $line->{time};

        $d = $d > $elapsed ? $d - $elapsed : 0;
        $lacks = $lacks > $elapsed ? $lacks - $elapsed : 0;

        if ($lacks + 1 <= $burst) {
            $lacks++;
            $ideal++;
        }

        next unless $line->{status} eq 'PASSED';

        $admitted++;
        $d++;
        $worst = $d if $d > $worst;
    }

    return { admitted => $admitted, ideal => $ideal,
             ratio => $ideal ? $admitted / $ideal : 1,
             excess => $worst - $burst };
}


sub sources
{
    my %count;

    $count{"$_->{status} $_->{source}"}++ for @_;

    return \%count;
}


sub percentile
{
    my ($part, @values) = @_;

    return 0 unless @values;

    @values = sort { $a <=> $b } @values;

    return $values[int($part * $#values)];
}


# calls of the script so far, as Redis counts them

sub commands
{
    my ($redis) = @_;

    my $text = $redis->cmd('INFO', 'commandstats');
    my $calls = 0;

    $calls += $_ for $text =~ /^cmdstat_eval(?:sha)?:calls=(\d+)/mg;

    return $calls;
}


1;
