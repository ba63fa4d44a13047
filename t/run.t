#!/usr/bin/perl

# Tests for "make run", less the building: the printed lines work as they are
# printed, a second run keeps the data, what dies is started again, and TERM
# leaves nothing behind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_decode /;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();

$t->has(qw/ curl openssl redis-server /);

# the runtimes would have to be preloaded into all that run.sh starts

$t->skip_all('not with sanitizers') if $ENV{RUNCOACH_ASAN};

$t->check_module();

my $root = Test::Runcoach::root();
my $home = $t->dir() . '/home of a runner';
my $port = $t->port(8080);

$t->{logs} = ["$home/logs/error.log"];

my %env = (
    RUNCOACH_HOME => $home,
    RUNCOACH_BUILD => Test::Runcoach::build(),
    PORT => $port,
);

###############################################################################

my ($run, @lines) = start();

is($lines[0], "ready: http://127.0.0.1:$port", 'ready');
is(scalar(@lines), 6, 'ready, and five lines') or die "nothing runs\n";
is(scalar(grep { /^curl / } @lines), 5, 'five lines of curl');

# the lines, pasted into a shell in the project's directory

my @out = map { scalar $t->command(['sh', '-c', $_], cwd => $root) }
          @lines[1 .. 5];

is(eval { json_decode($out[0])->{'X-Auth-Subject'} }, 'user_anna',
   'line 1: who am I') or diag($out[0]);
is(eval { json_decode($out[1])->{status} }, 'ok', 'line 2: webhook')
    or diag($out[1]);
like(eval { json_decode($out[2])->{upload_url} } // '', qr{^http://},
     'line 3: upload URL') or diag($out[2]);
like($out[3], qr/^20[01]\n$/, 'line 4: upload') or diag($out[3]);

my $answer = eval { json_decode($out[4]) } || {};

is($answer->{status}, 'uploaded', 'line 5: complete') or diag($out[4]);
ok($answer->{analysis_job_id}, 'line 5: job');

# what it came to

my $id = $answer->{activity_id} // 0;
my $status;

ok($t->wait_for(sub {
    return ($status = sql("SELECT fit_file_status FROM activities"
                          . " WHERE id = $id")) eq 'analyzed';
}, 10), 'the row says analyzed') or diag($status);

is(sql("SELECT state FROM edge_jobs WHERE activity_id = $id"), 'done',
   'the job ran');
is(sql("SELECT email FROM users WHERE clerk_user_id = 'user_anna'"),
   'anna@example.com', 'the person is there');

# the lines once more: as good as the first time

@out = map { scalar $t->command(['sh', '-c', $_], cwd => $root) }
       @lines[1 .. 5];

is(eval { json_decode($out[4])->{status} }, 'uploaded', 'lines, once more')
    or diag(@out);
is(sql('SELECT count(*) FROM activities'), 2, 'a second activity');

# secrets are for one person

for my $file (glob("'$home'/issuer/key.pem '$home'/*.secret"
                   . " '$home'/*secret-key"))
{
    is(sprintf('%03o', (stat($file))[2] & 0777), '600', "mode of $file")
        if -e $file;
}

# nothing listens to the network, and only one port at all

my @listening = listening();

is_deeply(\@listening, ["127.0.0.1:$port"], 'one port, on loopback');

# a second run of the same home is refused, and hurts nobody

my ($code, $said) = $t->command(['sh', "$root/conf/run.sh"],
                                env => { %env, PORT => $t->port(8081) },
                                cwd => $root);

isnt($code, 0, 'second run: refused');
like($said, qr/another run is using it/, 'second run: says why');

($code, $said) = $t->command(['sh', "$root/conf/run.sh"],
                             env => { %env, RUNCOACH_HOME => "$home.2" },
                             cwd => $root);

isnt($code, 0, 'same port: refused');
like($said, qr/\b$port\b/, 'same port: says which');

is($t->get('/health')->status, 200, 'still healthy');

###############################################################################

# What dies is started again.

for my $case (
    [ 'redis', qr/redis-server/ ],
    [ 'sidecar', qr/runcoach-sidecar serve/ ],
    [ 'worker', qr/runcoach-sidecar work/ ],
    [ 'postgres', qr{/postgres -D} ],
    [ 'issuer', qr/nginx.*issuer\.conf/ ],
    [ 'edge', qr/nginx: master.*nginx\.conf/ ],
)
{
    my ($name, $re) = @$case;
    my ($pid) = processes($re);

    ok($pid, "$name runs") or next;

    kill('KILL', $pid);

    ok($t->wait_for(sub {
        my ($new) = processes($re);

        return $new && $new != $pid;
    }, 15), "$name was killed: started again");

    # a report on health may be a few seconds old: so first what needs it all

    ok($t->wait_for(sub {
        my $body = $t->command(['sh', '-c', $lines[2]], cwd => $root);

        return (eval { json_decode($body)->{status} } // '') eq 'ok';
    }, 20), "$name was killed: webhooks are taken");

    ok($t->wait_for(sub {
        my $r = eval { $t->get('/health/detailed', timeout => 2) };

        return $r && $r->status == 200 && $r->json->{status} eq 'healthy';
    }, 20), "$name was killed: healthy");
}

@out = map { scalar $t->command(['sh', '-c', $_], cwd => $root) }
       @lines[1 .. 5];

is(eval { json_decode($out[4])->{status} }, 'uploaded', 'lines, after that')
    or diag(@out);

# TERM

my $began = time();

is(stop($run, 'TERM'), 0, 'TERM: exit status');
cmp_ok(time() - $began, '<', 8, 'TERM: soon');
is_deeply([ processes(qr/./) ], [], 'TERM: no process is left');
is_deeply([ listening() ], [], 'TERM: nothing listens');

###############################################################################

# The second run has what the first one had.

my $token = $t->command(['sh', "$root/conf/issuer.sh", 'token', 'anna'],
                        env => \%env);

($run, @lines) = start();

is($lines[0], "ready: http://127.0.0.1:$port", 'second run: ready');

chomp($token);

is($t->get('/api/v1/upload/stats', token => $token)->json->{total_files}, 3,
   'second run: same data, and a token of before');

my $down = $t->get("/api/v1/upload/activity/$id/download-url",
                   token => $token)->json;

is($t->url('GET', $down->{download_url})->body,
   $t->read_file("$root/t/data/activity.fit"), 'second run: same objects');

# INT

is(stop($run, 'INT'), 0, 'INT: exit status');
is_deeply([ processes(qr/./) ], [], 'INT: no process is left');

# INT for make alone, which does not hand it on

$t->write_file('Makefile', "run:\n\t\@exec sh '$root/conf/run.sh'\n");

($run) = start('make', '-f', $t->dir() . '/Makefile', 'run');

kill('INT', $run->{pid});

ok($t->wait_for(sub { return !$t->alive($run) }, 10), 'INT for make: it ends');
is_deeply([ processes(qr/./) ], [], 'INT for make: no process is left');

# killed: what it started does not outlive it.  The name of this home needs no
# directory for its sockets, which nobody would remove.

$home = $env{RUNCOACH_HOME} = $t->dir() . '/h3';

($run) = start();

kill('KILL', $run->{pid});
$t->stop_process($run, 'KILL');

ok($t->wait_for(sub { return !processes(qr/./) }, 20),
   'KILL: no process is left') or diag(join("\n", map { cmdline($_) }
                                                  processes(qr/./)));

###############################################################################

# Servers which the environment names are used instead of private ones.

$t->redis();
$t->postgres();

%env = (%env,
    RUNCOACH_HOME => $t->dir() . '/h2',
    DATABASE_URL => $t->{postgres}->url(),
    REDIS_URL => $t->{redis}->url(),
    CLERK_ISSUER => $t->issuer()->{iss},
    CLERK_JWKS_URL => $t->issuer()->{url},
);

$home = $env{RUNCOACH_HOME};

($run, @lines) = start();

is($lines[0], "ready: http://127.0.0.1:$port", 'named servers: ready');
is(scalar(grep { /redis-server|postgres -D|issuer\.conf/ }
          map { cmdline($_) } processes(qr/./)), 0,
   'named servers: no private ones');
is($t->get('/api/v1/me', token => $t->token())->status, 200,
   'named servers: token');
is($t->get('/api/v1/me', cookie => $t->session(42))->json->{'X-User-Id'}, 42,
   'named servers: session');
is($t->get('/api/v1/upload/stats', token => $t->token())->json->{total_files},
   0, 'named servers: database');

is(stop($run, 'TERM'), 0, 'named servers: TERM');

$t->done();

###############################################################################

sub start
{
    my @command = @_ ? @_ : ('sh', "$root/conf/run.sh");
    my $out = $t->dir() . '/run.out';

    unlink($out);

    my $run = $t->spawn('run', \@command, env => \%env, cwd => $root,
                        out => $out);

    # the ready line is flushed, the five others follow at once

    my @lines;

    $t->wait_for(sub {
        @lines = split(/\n/, $t->read_file($out) // '');
        shift @lines while @lines && $lines[0] !~ /^ready:/;

        return @lines >= 6 || !$t->alive($run);
    }, 40);

    die $t->read_file($out) // 'no output' unless @lines;

    return ($run, @lines);
}


sub stop
{
    my ($run, $signal) = @_;

    local $Test::Runcoach::TIMEOUT = 40;

    return $t->stop_process($run, $signal) // 'gone';
}


# the processes of this home

sub processes
{
    my ($re) = @_;

    my @pids;

    for my $dir (glob('/proc/[0-9]*')) {
        my ($pid) = $dir =~ /(\d+)$/;

        next if $pid == $$;

        my $cmd = cmdline($pid);
        my $environ = $t->read_file("$dir/environ") // '';

        next unless index($cmd, $home) >= 0
                    || index($environ, "RUNCOACH_HOME=$home\0") >= 0
                    || (readlink("$dir/cwd") // '') =~ /^\Q$home\E(?:\/|$)/;

        # an nginx worker is titled so, and is not a thing to kill first

        push @pids, $pid if $cmd =~ $re && $cmd !~ /^sh |nginx: worker|setpriv/
                            || $re eq qr/./;
    }

    return sort { $a <=> $b } @pids;
}


sub cmdline
{
    my ($pid) = @_;

    my $cmd = $t->read_file("/proc/$pid/cmdline") // '';

    $cmd =~ tr/\0/ /;

    return $cmd;
}


# TCP ports in LISTEN of the processes of this home

sub listening
{
    my %inodes;

    for my $pid (processes(qr/./)) {
        for my $fd (glob("/proc/$pid/fd/*")) {
            $inodes{$1} = 1 if (readlink($fd) // '') =~ /^socket:\[(\d+)\]/;
        }
    }

    my %found;

    for my $line (split(/\n/, ($t->read_file('/proc/net/tcp') // '')
                              . ($t->read_file('/proc/net/tcp6') // '')))
    {
        my @f = split(' ', $line);

        next unless ($f[3] // '') eq '0A' && $inodes{$f[9]};

        my ($address, $p) = split(/:/, $f[1]);
        my $ip = length($address) == 8
                 ? join('.', reverse map { hex } $address =~ /../g) : $address;

        $found{"$ip:" . hex($p)} = 1;
    }

    return sort keys %found;
}


sub sql
{
    my ($query) = @_;

    my ($socket) = map { /-c unix_socket_directories=(\S+)/ ? $1 : () }
                   map { cmdline($_) } processes(qr{/postgres -D});

    my ($status, $out) = $t->command([ Test::Runcoach::Postgres::bin()
        . '/psql', '-X', '-q', '-A', '-t', '-h', $socket // '/none', '-U',
        'runcoach', '-d', 'runcoach', '-c', $query ],
        runas => $> == 0 && (stat($home))[4] == ($t->{uid} // -1));

    chomp($out);

    return $out;
}

###############################################################################
