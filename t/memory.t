#!/usr/bin/perl

# Requests at full speed, of every kind and straight to the sidecar: its memory
# does not grow.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ hmac_sha256 /;
use MIME::Base64 qw/ encode_base64 decode_base64 /;
use Test::More;
use Test::Runcoach qw/ json_encode /;
use Time::HiRes qw/ time /;

my $t = Test::Runcoach->new();

$t->skip_all('AddressSanitizer keeps what was freed') if $ENV{RUNCOACH_ASAN};
$t->skip_all('valgrind keeps what was freed') if $ENV{RUNCOACH_VALGRIND};

my $clients = 4;
my $rounds = 8;
my $all = $ENV{RUNCOACH_SOAK} ? 400000 : 16000;
my $each = $all / $rounds / $clients;

$t->edge(work => 0, env => {
    RATE_LIMIT_REQUESTS => 600000,
    RATE_LIMIT_BURST => 10000,
});

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $size = length($fit);
my $secret = decode_base64($Test::Runcoach::WEBHOOK_SECRET =~ s/^whsec_//r);
my $now;

# what is completed again and again

my @given = map {
    my $token = $t->token(sub => "user_m$_");
    my ($ask, $put) = $t->upload($fit, token => $token);

    is($t->post('/api/v1/upload/complete', token => $token, json => {
        activity_id => $ask->json->{activity_id}, file_size => $size })
       ->status, 200, "an upload of client $_");

    $ask->json->{activity_id};
} 0 .. $clients - 1;

###############################################################################

my (@rss, %met);
my $begin = time();

for my $round (1 .. $rounds) {
    my @pids;

    for my $n (0 .. $clients - 1) {
        my $pid = fork();

        die "fork: $!\n" unless defined $pid;

        if ($pid == 0) {
            my $ok = eval { client($n, $round); 1 };

            print STDERR "# client: $@" unless $ok;
            POSIX::_exit($ok ? 0 : 1);
        }

        push @pids, $pid;
    }

    for my $pid (@pids) {
        waitpid($pid, 0);
        is($?, 0, "round $round: a client met nothing but what is right");
    }

    push @rss, rss();
}

note(sprintf('%d requests in %.1f s; RSS %s kB', $all, time() - $begin,
             join(' ', @rss)));

for my $file (glob("$t->{dir}/met.*")) {
    for my $line (split(/\n/, $t->read_file($file))) {
        my ($kind, $times) = split(/ /, $line);

        $met{$kind} += $times;
    }
}

note(join(', ', map { "$met{$_} $_" } sort keys %met));

my $sum = 0;

$sum += $_ for values %met;

is($sum, $all, 'all were answered');
cmp_ok($met{$_}, '>', 0, "there were requests of kind $_")
    for qw/ event duplicate forged malformed complete stats health download
            unknown /;

# the first quarter fills caches, buffers and the arenas of threads

my $growth = $rss[-1] - $rss[$rounds / 4 - 1];

cmp_ok($growth, '<', 1024, 'less than a megabyte more after three quarters')
    or diag("RSS @rss");

$t->done();

###############################################################################

sub rss
{
    my ($kb) = $t->read_file("/proc/$t->{serve}{pid}/status")
               =~ /^VmRSS:\s+(\d+) kB/m;

    return $kb;
}


# a kept connection; dies at the first answer that is not the right one

sub client
{
    my ($n, $round) = @_;

    my $s = Test::Runcoach::connect_to($t->{edge_env}{SIDECAR_LISTEN})
        or die "connect: $!\n";
    my ($buf, %times) = ('');

    # a round is shorter than a signature lasts

    $now = int(time());

    for my $i (1 .. $each) {
        my ($kind, $status, $request) = any($n, $round, $i);

        Test::Runcoach::send_all($s, $request);

        my $got = answer($s, \$buf);

        $got == $status or die "$kind: $got, not $status\n";
        $times{$kind}++;
    }

    $t->write_file("met.$n.$round",
                   join('', map { "$_ $times{$_}\n" } sort keys %times));
}


sub any
{
    my ($n, $round, $i) = @_;

    my $who = "X-Auth-Method: clerk\r\nX-Auth-Subject: user_m$n\r\n"
              . "X-Clerk-User-Id: user_m$n\r\n";

    # the same people again and again, so that only the inbox gets longer

    my $user = "user_e${n}_" . ($i % 500);
    my $event = json_encode($t->user_event('user.updated', $user,
                                           ms => $now * 1000 + $i));
    my $id = "msg_${n}_${round}_$i";

    my @kinds = (
        sub { return ('event', 200, signed($id, $event)) },
        sub { return ('duplicate', 200, signed("msg_${n}_1_1", $event)) },
        sub { return ('forged', 401,
                      signed($id, $event) =~ s/v1,./v1,*/r) },
        sub { return ('malformed', 400, signed($id, substr($event, 1))) },
        sub { return ('complete', 200, request('POST',
                      '/api/v1/upload/complete', $who, json_encode({
                          activity_id => $given[$n], file_size => $size }))) },
        sub { return ('stats', 200, request('GET', '/api/v1/upload/stats',
                                            $who)) },
        sub { return ('health', 200, request('GET', '/health')) },
        sub { return ('download', 404, request('GET',
                      '/api/v1/upload/activity/999999/download-url', $who)) },
        sub { return ('unknown', 404, request('GET', '/x')) },
    );

    # a duplicate needs one that was there before

    return $kinds[0]->() if $i == 1;

    return $kinds[$i % @kinds]->();
}


sub signed
{
    my ($id, $body) = @_;

    my $mac = encode_base64(hmac_sha256("$id.$now.$body", $secret), '');

    return request('POST', '/api/v1/webhooks/clerk',
                   "svix-id: $id\r\nsvix-timestamp: $now\r\n"
                   . "svix-signature: v1,$mac\r\n", $body);
}


sub request
{
    my ($method, $path, $headers, $body) = @_;

    return "$method $path HTTP/1.1\r\nHost: x\r\n" . ($headers // '')
           . (defined $body ? 'Content-Length: ' . length($body) . "\r\n" : '')
           . "\r\n" . ($body // '');
}


sub answer
{
    my ($s, $buf) = @_;

    my $end;

    while (1) {
        if ($$buf =~ /\r\n\r\n/) {
            $end = $+[0];
            last;
        }

        sysread($s, $$buf, 65536, length($$buf)) or die "cut off\n";
    }

    my ($status) = $$buf =~ m{^HTTP/1\.1 (\d+)};
    my ($length) = substr($$buf, 0, $end) =~ /^Content-Length: (\d+)/mi;

    while (length($$buf) < $end + $length) {
        sysread($s, $$buf, 65536, length($$buf)) or die "cut off\n";
    }

    $$buf = substr($$buf, $end + $length);

    return $status;
}

###############################################################################
