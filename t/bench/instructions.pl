#!/usr/bin/perl

# Instructions per request, which do not depend on the mood of the machine.
#
# nginx without worker processes under callgrind, and one connection that sends
# N requests, then the same with 2N: the difference, divided by N, is what one
# request takes; starting, stopping and what is done once are in both.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib";

use Test::Runcoach;

my $n = $ENV{BENCH_REQUESTS} || 1000;
my $limit = 2000;
my $session = 'Xq3vN8yTz1LmK5rW0aPdUe7HsJc2BgFo4Ri6QtYkVnM';

if (!Test::Runcoach::find_program('valgrind')) {
    print "Instructions are not counted: valgrind is not installed.\n";
    exit(0);
}

my $t = Test::Runcoach->new();

$t->{planned} = 1;

$t->redis();
$t->{redis}->cmd('SET', "session:$session", '{"user_id": 42}');

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

master_process  off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log          off;
    keepalive_requests  100000000;

    runcoach_zone    runcoach:16m;
    runcoach_redis   %%REDIS_URL%%  timeout=10s;

    runcoach_issuer   clerk  issuer=https://clerk.runcoach.test
                             key=env:CLERK_JWT_KEY;
    runcoach_session  cookie=session_id  prefix=session:  cache=1h;

    server {
        listen  127.0.0.1:8080;

        location = /gif {
            empty_gif;
        }

        location = /auth {
            runcoach_auth  clerk;
            empty_gif;
        }

        location = /session {
            runcoach_auth  session;
            empty_gif;
        }

        location = /both {
            runcoach_auth  clerk session;
            empty_gif;
        }
    }
}

EOF

# of 784 bytes, as Clerk's

my $token = $t->token(azp => 'https://edge.test', jti => '0' x 20,
                      fva => [0, -1], sts => 'active',
                      header => { cat => 'cl_B7d4PD111AAA' },
                      sub => 'user_' . '2' x 27, sid => 'sess_' . '2' x 27);

my %header = (
    token => "Authorization: Bearer $token\r\n",
    session => "Cookie: session_id=$session\r\n",
);

my @rows = (
    ['repeated token', 'token', '/auth'],
    ['repeated token, "clerk session"', 'token', '/both'],
    ['session, remembered', 'session', '/session'],
);

my %plain;

printf("%-36s %9s %9s %11s\n", 'instructions per request', 'plain', 'total',
       'over plain');

for my $row (@rows) {
    my ($name, $header, $path) = @$row;

    $plain{$header} //= per_request('/gif', $header{$header});

    my $total = per_request($path, $header{$header});
    my $over = $total - $plain{$header};

    printf("%-36s %9.0f %9.0f %+11.0f  of at most %+d: %s\n", $name,
           $plain{$header}, $total, $over, $limit,
           $over <= $limit ? 'reached' : 'MISSED');
}

$t->stop_all();

print <<"EOF";

"Plain" is the same request, with the same header, to a location without our
directive.  Counted by callgrind over $n requests of one connection.
EOF

exit(0);

###############################################################################

sub per_request
{
    my ($path, $header) = @_;

    return (counted($path, $header, 2 * $n) - counted($path, $header, $n)) / $n;
}


# instructions of a process that serves so many requests

sub counted
{
    my ($path, $header, $requests) = @_;

    my $out = "$t->{dir}/callgrind.out";

    unlink($out);

    my $proc = $t->spawn('callgrind', ['valgrind', '--tool=callgrind',
        "--callgrind-out-file=$out", $t->nginx(), '-p', $t->{dir},
        '-c', "$t->{dir}/nginx.conf", '-g', 'daemon off;',
        '-e', "$t->{dir}/error.log"],
        signal => 'QUIT', env => { CLERK_JWT_KEY => $t->key_pem('issuer') });

    $t->wait_for_socket('127.0.0.1:' . $t->port(8080), $proc, 60)
        or die "nginx does not listen under valgrind\n";

    send_requests($path, $header, $requests);

    $t->stop_process($proc);

    my ($total) = (Test::Runcoach::slurp($out) // '')
                  =~ /^(?:totals|summary): (\d+)/m
        or die "callgrind has left no total:\n"
               . Test::Runcoach::slurp($proc->{out}) . "\n";

    return $total;
}


sub send_requests
{
    my ($path, $header, $requests) = @_;

    my $s = Test::Runcoach::connect_to('127.0.0.1:' . $t->port(8080))
        or die "cannot connect: $!\n";
    my $text = "GET $path HTTP/1.1\r\nHost: localhost\r\n$header\r\n";

    for (1 .. $requests) {
        my $answer = '';

        syswrite($s, $text) == length($text) or die "write: $!\n";

        # the end of an empty GIF

        while ($answer !~ /\r\n\r\nGIF.*;\z/s) {
            sysread($s, $answer, 4096, length($answer))
                or die "nginx closed the connection\n";

            die "$path: $answer\n" if $answer !~ /\AHTTP\/1\.1 200 /;
        }
    }

    close($s);
}

###############################################################################
