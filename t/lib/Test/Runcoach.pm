package Test::Runcoach;

# The test harness: real nginx, Redis, PostgreSQL and sidecar in a private
# directory, raw HTTP clients, fakes by fork.  Only what perl itself ships.
#
# A test file:
#
#     use strict;
#     use warnings;
#
#     use FindBin;
#     use lib "$FindBin::Bin/lib";
#
#     use Test::More;
#     use Test::Runcoach;
#
#     my $t = Test::Runcoach->new();
#
#     $t->redis();
#     $t->write_file_expand('nginx.conf', <<'EOT');
#
#     %%TEST_GLOBALS%%
#     events {}
#     http {
#         %%TEST_GLOBALS_HTTP%%
#         runcoach_redis  %%REDIS_URL%%;
#         server {
#             listen  127.0.0.1:8080;
#             ...
#         }
#     }
#     EOT
#
#     $t->run();
#
#     is($t->get('/')->status, 200, 'simple');
#
#     $t->done();
#
# done() stops everything, adds the two tests which are free in each file (no
# alerts, no sanitizer reports) and ends the plan.
#
# 127.0.0.1:8080 and its like in files are rewritten to free ports which stay
# locked while the test runs, so prove -j is safe; port(8080) tells which.

use strict;
use warnings;

use Cwd qw/ abs_path /;
use Digest::SHA qw/ sha256_hex hmac_sha256 hmac_sha256_hex /;
use Errno qw/ EINTR /;
use Fcntl qw/ :flock /;
use File::Basename qw/ dirname /;
use File::Path qw/ make_path remove_tree /;
use File::Temp ();
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use MIME::Base64 qw/ encode_base64 decode_base64 /;
use POSIX qw/ WNOHANG strftime /;
use Scalar::Util ();
use Socket qw/ SOL_SOCKET SO_LINGER /;
use Test::More ();
use Time::HiRes qw/ time sleep /;

use Exporter qw/ import /;

our @EXPORT_OK = qw/ b64url unb64url uri_encode json_encode json_decode /;

our $TIMEOUT = $ENV{RUNCOACH_TEST_TIMEOUT} || 8;

my $ROOT = abs_path(dirname(__FILE__) . '/../../..');
my $BUILD = Cwd::realpath($ENV{RUNCOACH_BUILD} || "$ROOT/build")
            || "$ROOT/build";
my $PEERS = -e "$BUILD/peer" ? "$BUILD/peer" : "$ROOT/build/peer";

my $OWNER = $$;
my %ALL;            # the harness objects that still have something to stop


###############################################################################
# Life
###############################################################################


sub new
{
    my ($class, %opt) = @_;

    my $base = $ENV{RUNCOACH_TEST_DIR} || '/tmp';

    # unix socket paths have room for 107 bytes

    my $dir = File::Temp::tempdir('rcXXXXXX', DIR => $base, CLEANUP => 0);

    chmod(0755, $dir) or die "chmod $dir: $!\n";

    my $self = bless({
        dir => $dir,
        ports => {},
        locks => [],
        proc => [],
        env => {},
        allow_alerts => [],
        logs => ["$dir/error.log"],
        vars => {},
        planned => 0,
        owner => $$,
    }, $class);

    if ($> == 0) {
        ($self->{runas}, $self->{uid}, $self->{gid}) = runas();
        chown($self->{uid}, $self->{gid}, $dir);
    }

    $ALL{$dir} = $self;

    for my $name (qw/ INT TERM HUP /) {
        $SIG{$name} = sub { exit(128 + ($name eq 'INT' ? 2 : 15)) };
    }

    $SIG{PIPE} = 'IGNORE';

    return $self;
}


# as root, PostgreSQL, Redis, sidecar and workers run as this user

sub runas
{
    for my $name ($ENV{RUNCOACH_TEST_USER}, 'nobody', 'postgres') {
        next unless defined $name;

        my @pw = getpwnam($name);

        return ($name, $pw[2], $pw[3]) if @pw;
    }

    die "no unprivileged user to run servers as\n";
}


sub root { return $ROOT }
sub build { return $BUILD }
sub dir { return $_[0]->{dir} }


sub module
{
    return $ENV{RUNCOACH_MODULE} || "$BUILD/ngx_http_runcoach_module.so";
}


sub nginx
{
    return $ENV{TEST_NGINX_BINARY} || find_program('nginx')
           || die "nginx is not installed\n";
}


sub sidecar_binary
{
    return $ENV{RUNCOACH_SIDECAR} || "$BUILD/runcoach-sidecar";
}


sub find_program
{
    my ($name) = @_;

    for my $dir (split(/:/, $ENV{PATH}), qw{ /usr/sbin /usr/local/sbin /sbin })
    {
        return "$dir/$name" if -x "$dir/$name" && !-d _;
    }

    return undef;
}


# skips the file unless each of these exists: programs, or files by path

sub has
{
    my ($self, @names) = @_;

    for my $name (@names) {
        next if $name =~ m{/} ? -e $name : find_program($name);

        $self->skip_all("no $name");
    }

    return $self;
}


sub skip_all
{
    my ($self, $reason) = @_;

    $self->stop_all();
    $self->{planned} = 1;

    Test::More::plan(skip_all => $reason);
}


sub done
{
    my ($self) = @_;

    $self->stop_all();

    $self->{planned} = 1;

    my @alerts = $self->alerts();

    Test::More::is(join('', @alerts), '', 'no alerts');
    Test::More::is($self->sanitizer_reports(), '', 'no sanitizer reports');

    Test::More::done_testing();
}


# an expected alert, such as the one about a worker that was killed

sub allow_alert
{
    my ($self, $re) = @_;

    push @{$self->{allow_alerts}}, $re;
}


sub alerts
{
    my ($self) = @_;

    my @alerts;

    for my $log (@{$self->{logs}}) {
        open(my $fh, '<', $log) or next;

        while (my $line = <$fh>) {
            next unless $line =~ /\[(?:alert|emerg)\]/;
            next if grep { $line =~ $_ } @{$self->{allow_alerts}};

            push @alerts, $line;
        }
    }

    return @alerts;
}


sub sanitizer_reports
{
    my ($self) = @_;

    my $reports = '';

    for my $file (glob("$self->{dir}/sanitizer.*"),
                  glob("$self->{dir}/*.out"), @{$self->{logs}})
    {
        my $text = slurp($file);

        next unless defined $text;

        if ($file =~ m{/sanitizer\.[^/]*$}
            || $text =~ /ERROR: \w+Sanitizer|SUMMARY: \w+Sanitizer
                         |:\d+:\d+:\ runtime\ error:/x)
        {
            $reports .= $text;
        }
    }

    return $reports;
}


sub stop_all
{
    my ($self) = @_;

    return if $self->{owner} != $$;

    # in the reverse order: clients before servers

    $self->stop_process($_) for reverse @{$self->{proc}};

    $self->{proc} = [];
}


sub cleanup
{
    my ($self) = @_;

    return if $self->{owner} != $$ || $self->{cleaned};

    $self->{cleaned} = 1;
    $self->stop_all();

    delete $ALL{$self->{dir}};

    if ($ENV{RUNCOACH_TEST_KEEP}) {
        Test::More::diag("left: $self->{dir}");
        return;
    }

    remove_tree($self->{dir}, { error => \my $errors });
}


sub DESTROY
{
    my ($self) = @_;

    local ($?, $@, $!);

    $self->cleanup();
}


END {
    if ($$ == $OWNER) {
        my $status = $?;

        for my $t (values %ALL) {
            if (!$t->{planned}) {
                Test::More::diag("the file ended without done()");
                $t->show_logs();
                $status ||= 1;
            }

            $t->cleanup();
        }

        $? = $status;
    }
}


# what a failed start leaves to be read

sub show_logs
{
    my ($self) = @_;

    for my $file (@{$self->{logs}}, glob("$self->{dir}/*.out")) {
        my $text = slurp($file);

        next unless defined $text && length $text;

        my @lines = split(/^/, $text);

        splice(@lines, 0, @lines - 30) if @lines > 30;

        Test::More::diag("$file:\n" . join('', @lines));
    }
}


###############################################################################
# Files and ports
###############################################################################


sub slurp
{
    my ($file) = @_;

    open(my $fh, '<:raw', $file) or return undef;

    local $/;

    return scalar(<$fh>);
}


sub read_file
{
    my ($self, $name) = @_;

    return slurp($name =~ m{^/} ? $name : "$self->{dir}/$name");
}


sub write_file
{
    my ($self, $name, $text, $mode) = @_;

    my $path = $name =~ m{^/} ? $name : "$self->{dir}/$name";

    make_path(dirname($path));

    open(my $fh, '>:raw', $path) or die "open $path: $!\n";
    print $fh $text or die "write $path: $!\n";
    close($fh) or die "close $path: $!\n";

    chmod($mode, $path) if defined $mode;

    return $path;
}


sub write_file_expand
{
    my ($self, $name, $text, $mode) = @_;

    return $self->write_file($name, $self->expand($text), $mode);
}


# %%NAME%% in what write_file_expand() writes

sub set
{
    my ($self, $name, $value) = @_;

    $self->{vars}{$name} = $value;
}


sub expand
{
    my ($self, $text) = @_;

    $text =~ s/%%TEST_GLOBALS%%/$self->globals()/ge;
    $text =~ s/%%TEST_GLOBALS_HTTP%%/$self->globals_http()/ge;
    $text =~ s/%%TESTDIR%%/$self->{dir}/g;
    $text =~ s/%%ROOT%%/$ROOT/g;
    $text =~ s/%%MODULE%%/$self->module()/ge;
    $text =~ s/%%PORT_(\d+)%%/$self->port($1)/ge;
    $text =~ s/%%([A-Z][A-Z0-9_]*)%%/
               defined $self->{vars}{$1} ? $self->{vars}{$1}
                                         : die "unknown %%$1%%\n"/gex;
    $text =~ s/\b127\.0\.0\.1:(8\d\d\d)\b/'127.0.0.1:' . $self->port($1)/ge;

    return $text;
}


sub globals
{
    my ($self) = @_;

    my $level = $ENV{RUNCOACH_TEST_DEBUG} ? 'debug' : 'info';
    my $user = $self->{runas} ? 'user  ' . $self->{runas} . ' '
                                . getgrgid($self->{gid}) . ';'
                              : '';

    return <<EOF;
load_module  "@{[$self->module()]}";
$user
pid          $self->{dir}/nginx.pid;
error_log    $self->{dir}/error.log $level;
EOF
}


sub globals_http
{
    my ($self) = @_;

    return <<EOF;
    client_body_temp_path  $self->{dir}/client_body_temp;
    proxy_temp_path        $self->{dir}/proxy_temp;
    fastcgi_temp_path      $self->{dir}/fastcgi_temp;
    uwsgi_temp_path        $self->{dir}/uwsgi_temp;
    scgi_temp_path         $self->{dir}/scgi_temp;
    access_log             $self->{dir}/access.log;
    root                   $self->{dir};
EOF
}


# A TCP port is free if we can bind it, and ours if we hold the UDP port of
# the same number: the lock other test files look at.

sub port
{
    my ($self, $name) = @_;

    return $self->{ports}{$name} if $self->{ports}{$name};

    for (1 .. 1000) {
        my $port = 20000 + int(rand(12000));

        my $lock = IO::Socket::INET->new(
            Proto => 'udp',
            LocalAddr => "127.0.0.1:$port",
        )
            or next;

        my $probe = IO::Socket::INET->new(
            Proto => 'tcp',
            LocalAddr => "127.0.0.1:$port",
            Listen => 1,
            ReuseAddr => 1,
        )
            or next;

        close($probe);

        push @{$self->{locks}}, $lock;

        return $self->{ports}{$name} = $port;
    }

    die "no free port\n";
}


###############################################################################
# Processes
###############################################################################


# spawn($name, \@command, env => {}, runas => 1, out => file, cwd => dir)

sub spawn
{
    my ($self, $name, $command, %opt) = @_;

    my $out = $opt{out} || "$self->{dir}/$name.out";
    my $env = $self->environment($opt{env});

    $command = [$self->valgrind($name), @$command];

    my $pid = fork();

    die "fork: $!\n" unless defined $pid;

    if ($pid == 0) {
        eval {
            $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP PIPE /;

            POSIX::setpgid(0, 0) if $opt{group};

            chdir($opt{cwd} || $self->{dir}) or die "chdir: $!\n";

            open(STDIN, '<', '/dev/null') or die "stdin: $!\n";
            open(STDOUT, '>>', $out) or die "$out: $!\n";
            open(STDERR, '>&', \*STDOUT) or die "stderr: $!\n";

            $self->drop() if $opt{runas};

            %ENV = %$env;

            exec({ $command->[0] } @$command) or die "$command->[0]: $!\n";
        };

        print STDERR $@;
        POSIX::_exit(127);
    }

    my $proc = {
        name => $name,
        pid => $pid,
        signal => $opt{signal} || 'TERM',
        group => $opt{group},
        out => $out,
    };

    push @{$self->{proc}}, $proc;

    return $proc;
}


# RUNCOACH_VALGRIND=1, or =sidecar for that alone; what it reports is found where
# the sanitizers' reports are

sub valgrind
{
    my ($self, $name) = @_;

    my $which = $ENV{RUNCOACH_VALGRIND} or return ();

    return () unless $name =~ ($which eq 'sidecar' ? qr/^sidecar/
                                                   : qr/^(?:nginx|sidecar)/);

    # nginx leaves its pools to the end of the process

    my @leaks = $name =~ /^sidecar/
                ? ('--leak-check=full', '--show-leak-kinds=definite') : ();

    return ('valgrind', '-q', @leaks,
            "--log-file=$self->{dir}/sanitizer.valgrind-%p");
}


sub drop
{
    my ($self) = @_;

    return unless $self->{runas};

    $) = "$self->{gid} $self->{gid}";
    POSIX::setgid($self->{gid}) or die "setgid: $!\n";
    POSIX::setuid($self->{uid}) or die "setuid: $!\n";
}


# nothing of the caller's environment reaches what is tested, save these

sub environment
{
    my ($self, $env) = @_;

    my %env = (
        PATH => "$ENV{PATH}:/usr/local/sbin:/usr/sbin:/sbin",
        HOME => $self->{dir},
        LC_ALL => 'C.UTF-8',
        TZ => 'UTC',
        ASAN_OPTIONS => "detect_leaks=0:log_path=$self->{dir}/sanitizer",
        UBSAN_OPTIONS => 'print_stacktrace=1:halt_on_error=1:'
                         . "log_path=$self->{dir}/sanitizer",
    );

    for my $name (qw/ LLVM_PROFILE_FILE GCOV_PREFIX GCOV_PREFIX_STRIP /) {
        $env{$name} = $ENV{$name} if defined $ENV{$name};
    }

    %env = (%env, %{$self->{env}}, %{$env || {}});

    delete $env{$_} for grep { !defined $env{$_} } keys %env;

    return \%env;
}


sub alive
{
    my ($self, $proc) = @_;

    return 0 unless $proc && $proc->{pid};
    return 1 if waitpid($proc->{pid}, WNOHANG) == 0;

    $proc->{status} = $? unless defined $proc->{status};
    $proc->{pid} = 0;

    return 0;
}


sub stop_process
{
    my ($self, $proc, $signal) = @_;

    return unless $self->alive($proc);

    my $pid = $proc->{pid};
    my $end = time() + $TIMEOUT;

    kill($signal || $proc->{signal}, $pid);

    # it may be standing still by SIGSTOP

    kill('CONT', $pid);

    while ($self->alive($proc)) {
        if (time() > $end) {
            Test::More::diag("$proc->{name} had to be killed");
            kill('KILL', $proc->{group} ? -$pid : $pid);
            waitpid($pid, 0);
            $proc->{status} = $?;
            $proc->{pid} = 0;
            last;
        }

        sleep(0.005);
    }

    kill('KILL', -$pid) if $proc->{group};

    @{$self->{proc}} = grep { $_ != $proc } @{$self->{proc}};

    return $proc->{status};
}


# a sub in a process of its own, until stop

sub run_daemon
{
    my ($self, $code, @args) = @_;

    my $pid = fork();

    die "fork: $!\n" unless defined $pid;

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP /;
        $SIG{PIPE} = 'IGNORE';

        eval { $code->(@args) };

        print STDERR "# daemon: $@" if $@;
        POSIX::_exit(0);
    }

    my $proc = { name => 'daemon', pid => $pid, signal => 'TERM' };

    push @{$self->{proc}}, $proc;

    return $proc;
}


# seconds that something may take which is slower under valgrind

sub patience
{
    my ($self, $seconds) = @_;

    return $ENV{RUNCOACH_VALGRIND} ? $seconds * 10 : $seconds;
}


# polls until the sub is true; the value, or undef after the timeout

sub wait_for
{
    my ($self, $code, $timeout) = @_;

    my $end = time() + ($timeout ? $self->patience($timeout) : $TIMEOUT);

    while (1) {
        my $value = $code->();

        return $value if $value;
        return undef if time() > $end;

        sleep(0.01);
    }
}


sub wait_for_socket
{
    my ($self, $where, $proc, $timeout) = @_;

    return $self->wait_for(sub {
        my $s = connect_to($where);

        return 1 if $s;

        die "$proc->{name} died: " . (slurp($proc->{out} || '') || '') . "\n"
            if $proc && !$self->alive($proc);

        return 0;
    }, $timeout);
}


# a path of a unix socket, or host:port

sub connect_to
{
    my ($where) = @_;

    if ($where =~ m{^(?:unix:)?(/.*)$}) {
        return IO::Socket::UNIX->new(Peer => $1);
    }

    return IO::Socket::INET->new(Proto => 'tcp', PeerAddr => $where);
}


# runs a command to its end: (exit status, output of both streams)

sub command
{
    my ($self, $command, %opt) = @_;

    pipe(my $rd, my $wr) or die "pipe: $!\n";

    my $env = $opt{inherit} ? { %ENV, %{$opt{env} || {}} }
                            : $self->environment($opt{env});
    my $pid = fork();

    die "fork: $!\n" unless defined $pid;

    if ($pid == 0) {
        eval {
            $SIG{$_} = 'DEFAULT' for qw/ INT TERM HUP PIPE /;

            close($rd);
            chdir($opt{cwd} || $self->{dir}) or die "chdir: $!\n";

            open(STDIN, '<', $opt{in} || '/dev/null') or die "stdin: $!\n";
            open(STDOUT, '>&', $wr) or die "stdout: $!\n";
            open(STDERR, '>&', $wr) or die "stderr: $!\n";

            $self->drop() if $opt{runas};

            %ENV = %$env;

            exec({ $command->[0] } @$command) or die "$command->[0]: $!\n";
        };

        print STDERR $@;
        POSIX::_exit(127);
    }

    close($wr);

    my $out = '';
    my $end = time() + ($opt{timeout} || 60);
    my $select = IO::Select->new($rd);

    while (1) {
        my $left = $end - time();

        if ($left <= 0) {
            kill('KILL', $pid);
            $out .= "\n(killed: timeout)\n";
            last;
        }

        next unless $select->can_read($left);

        last unless sysread($rd, $out, 65536, length($out));
    }

    waitpid($pid, 0);

    return wantarray ? ($? >> 8 || $? & 127, $out) : $out;
}


###############################################################################
# nginx
###############################################################################


# run(conf =>, prefix =>, env => {}, wait => where it listens, shim => 1: a byte
# at a time)

sub run
{
    my ($self, %opt) = @_;

    my $conf = $opt{conf} || "$self->{dir}/nginx.conf";

    $self->check_module();

    my @command = ($self->nginx(), '-p', $opt{prefix} || $self->{dir},
                   '-c', $conf, '-g', 'daemon off;',
                   '-e', $opt{error_log} || "$self->{dir}/error.log");

    my $proc = $self->spawn('nginx', \@command, signal => 'QUIT',
                            env => { %{$self->preload($opt{shim})},
                                     %{$opt{env} || {}} },
                            runas => $opt{runas});

    $self->{nginx} = $proc;

    my $where = $opt{wait} || $self->{wait};

    if (!$where) {
        my ($text) = slurp($conf)
                     =~ /listen\s+((?:[\d.]+:)?\d+|unix:[^\s;]+)/;

        die "$conf listens nowhere\n" unless defined $text;

        $where = $text =~ /^\d+$/ ? "127.0.0.1:$text" : $text;
    }

    $self->{wait} = $where;

    eval {
        $self->wait_for_socket($where, $proc)
            or die "nginx does not listen at $where\n";
    };

    if ($@) {
        $self->show_logs();
        die $@;
    }

    return $self;
}


sub check_module
{
    my ($self) = @_;

    my $module = $self->module();

    -e $module or die "$module is not built: make module\n";
}


# when the module alone is sanitized, the runtimes have to come first; behind
# them, if that is wanted, what moves a byte at a time

sub preload
{
    my ($self, $shim) = @_;

    my @libs;

    for my $name ($ENV{RUNCOACH_ASAN} ? qw/ libasan.so libubsan.so / : ()) {
        my $path = `gcc -print-file-name=$name`;

        chomp($path);
        push @libs, $path if $path =~ m{/};
    }

    if ($shim || $ENV{RUNCOACH_SHIM}) {
        -e "$BUILD/eagain.so" or die "$BUILD/eagain.so is not built\n";
        push @libs, "$BUILD/eagain.so";
    }

    return @libs ? { LD_PRELOAD => join(':', @libs) } : {};
}


# nginx -t on a configuration (text, or a path): (exit status, what it said)

sub configtest
{
    my ($self, $conf, %opt) = @_;

    $self->check_module();

    $conf = $self->write_file_expand('test.conf', $conf) if $conf =~ /\n/;

    return $self->command([$self->nginx(), '-t', '-q',
                           '-p', $opt{prefix} || $self->{dir}, '-c', $conf,
                           '-e', "$self->{dir}/configtest.log"],
                          env => { %{$self->preload()},
                                   %{$opt{env} || {}} });
}


# returns when the old workers are gone, or shutting down

sub reload
{
    my ($self) = @_;

    # nginx listens before it has workers, and they are forked before they are
    # called so

    $self->wait_for(sub { return $self->workers() });

    my %old = map { $_ => 1 } $self->children($self->{nginx}{pid});

    kill('HUP', $self->{nginx}{pid});

    return $self->wait_for(sub {
        my @now = $self->workers();

        return @now && !grep { $old{$_} } @now;
    });
}


sub workers
{
    my ($self) = @_;

    return $self->children($self->{nginx}{pid}, qr/^nginx: worker process *$/);
}


sub children
{
    my ($self, $parent, $re) = @_;

    my @pids;

    for my $stat (glob('/proc/[0-9]*/stat')) {
        my $text = slurp($stat);

        next unless defined $text && $text =~ /^(\d+) \(.*\) \S (\d+) /s;

        my ($pid, $ppid) = ($1, $2);

        next unless $ppid == $parent;

        if ($re) {
            my $cmd = slurp("/proc/$pid/cmdline");

            next unless defined $cmd;

            $cmd =~ tr/\0/ /;
            next unless $cmd =~ $re;
        }

        push @pids, $pid;
    }

    return @pids;
}


sub stop
{
    my ($self) = @_;

    $self->stop_process($self->{nginx}) if $self->{nginx};
    $self->{nginx} = undef;

    return $self;
}


# block-scoped assertions on the error log

sub log_contains
{
    my ($self, $re, $code, $name) = @_;

    my ($log) = grep { -e $_ } @{$self->{logs}};
    my $from = -s $log || 0;

    $code->();

    my $found = $self->wait_for(sub {
        return substr(slurp($log) // '', $from) =~ $re;
    }, 3);

    Test::More::ok($found, $name || "log contains $re");

    return $found;
}


sub log_lacks
{
    my ($self, $re, $code, $name) = @_;

    my ($log) = grep { -e $_ } @{$self->{logs}};
    my $from = -s $log || 0;

    $code->();

    Test::More::unlike(substr(slurp($log) // '', $from), $re,
                       $name || "log lacks $re");
}


###############################################################################
# Redis and PostgreSQL
###############################################################################


# redis(name => 'redis', args => [...], port => 8379, appendonly => 0)

sub redis
{
    my ($self, %opt) = @_;

    my $redis = Test::Runcoach::Redis->new($self, %opt);

    $self->{redis} ||= $redis;
    $self->{vars}{REDIS_URL} ||= $redis->url();

    return $redis;
}


sub postgres
{
    my ($self, %opt) = @_;

    my $pg = Test::Runcoach::Postgres->new($self, %opt);

    $self->{postgres} ||= $pg;
    $self->{vars}{DATABASE_URL} ||= $pg->url();

    return $pg;
}


# A real PgBouncer in transaction mode before the test's PostgreSQL: what is
# given goes into its configuration.  url() is what DATABASE_URL is to be.

sub pgbouncer
{
    my ($self, %settings) = @_;

    return Test::Runcoach::PgBouncer->new($self, %settings);
}


sub sql
{
    my ($self, $query, @bind) = @_;

    return $self->{postgres}->sql($query, @bind);
}


# A fake Redis on a unix socket: (process, URL).  The sub gets ($argv, $n,
# $client), n counts the commands of that connection, and returns the reply:
# a string, or a list of pieces and pauses (numbers) to be sent one by one;
# undef for silence, '' to close the connection.

sub fake_redis
{
    my ($self, $code, %opt) = @_;

    my $path = $opt{path} || "$self->{dir}/fake_redis.sock";

    unlink($path);

    my $server = IO::Socket::UNIX->new(Local => $path, Listen => 64)
        or die "listen $path: $!\n";

    chmod(0777, $path);

    my $proc = $self->run_daemon(sub {
        serve_clients($server, sub { fake_redis_client($_[0], $code) });
    });

    close($server);

    return ($proc, "unix:$path");
}


# a process for each connection; they all end with their parent

sub serve_clients
{
    my ($server, $code) = @_;

    my %pids;

    local $SIG{TERM} = sub {
        kill('KILL', keys %pids);
        POSIX::_exit(0);
    };

    for (my $n = 0; ; ) {
        my $client = $server->accept();

        while ((my $pid = waitpid(-1, WNOHANG)) > 0) {
            delete $pids{$pid};
        }

        next unless $client;

        my $pid = fork();

        if ($pid) {
            $pids{$pid} = 1;
            $n++;
            close($client);
            next;
        }

        $SIG{TERM} = 'DEFAULT';

        close($server);
        eval { $code->($client, $n) };

        print STDERR "# daemon: $@" if $@;
        POSIX::_exit(0);
    }
}


sub fake_redis_client
{
    my ($client, $code) = @_;

    my ($buf, $n) = ('', 0);

    while (1) {
        while (defined(my $argv = resp_command(\$buf))) {
            my @reply = $code->($argv, $n++, $client);

            next unless defined $reply[0];
            return if $reply[0] eq '';

            for my $piece (@reply) {
                if ($piece =~ /^[0-9.]+$/) {
                    sleep($piece);

                } else {
                    send_all($client, $piece);
                }
            }
        }

        sysread($client, $buf, 65536, length($buf)) or return;
    }
}


# takes one command off the buffer

sub resp_command
{
    my ($buf) = @_;

    return undef unless $$buf =~ /\A\*(\d+)\r\n/;

    my ($argc, $pos) = ($1, $+[0]);
    my @argv;

    for (1 .. $argc) {
        return undef unless substr($$buf, $pos) =~ /\A\$(\d+)\r\n/;

        my $n = $1;
        my $at = $pos + $+[0];

        return undef if length($$buf) < $at + $n + 2;

        push @argv, substr($$buf, $at, $n);
        $pos = $at + $n + 2;
    }

    substr($$buf, 0, $pos) = '';

    return \@argv;
}


###############################################################################
# Sidecar and the whole edge
###############################################################################


# runs the sidecar to its end: sidecar_run(['migrate', 'up'], {...})

sub sidecar_run
{
    my ($self, $args, $env, %opt) = @_;

    return $self->command([$self->valgrind('sidecar'), $self->sidecar_copy(),
                           @$args],
                          env => $self->sidecar_env($env), runas => 1, %opt);
}


# sidecar(['serve'], {...}): in the background

sub sidecar
{
    my ($self, $args, $env) = @_;

    my $mode = $args->[0];
    my $full = $self->sidecar_env($env);
    my $proc = $self->spawn("sidecar-$mode",
                            [$self->sidecar_copy(), @$args],
                            env => $full, runas => 1);

    if ($mode eq 'serve') {
        my $where = $full->{SIDECAR_LISTEN}
                    || "unix:$full->{RUNCOACH_HOME}/sidecar.sock";

        eval {
            $self->wait_for_socket($where, $proc)
                or die "the sidecar does not listen\n";
        };

        if ($@) {
            $self->show_logs();
            die $@;
        }
    }

    return $proc;
}


sub sidecar_env
{
    my ($self, $env) = @_;

    return {
        RUNCOACH_HOME => $self->{home} || $self->{dir},
        ($self->{postgres} ? (DATABASE_URL => $self->{postgres}->url()) : ()),
        ($self->{redis} ? (REDIS_URL => $self->{redis}->url()) : ()),
        %{$self->{edge_env} || {}},
        %{$env || {}},
    };
}


# the checkout may be unreadable to the user the servers run as

sub sidecar_copy
{
    my ($self) = @_;

    my $copy = "$self->{dir}/runcoach-sidecar";

    if (!-e $copy) {
        my $binary = $self->sidecar_binary();

        -e $binary or die "$binary is not built: make sidecar\n";

        system('cp', $binary, $copy) == 0 or die "cp $binary\n";
        chmod(0755, $copy);
    }

    return $copy;
}


# edge(): what a user deploys.  The shipped conf/ files, env.conf written by
# conf/env.sh, PostgreSQL, Redis, the local store, a local issuer (the key
# "issuer" of token()) and the sidecar, serve and work.
#
#     env => {}        more of the environment; undef removes
#     work => 0        without the worker
#     postgres => 0, redis => 0, sidecar => 0
#
# It does what conf/run.sh does, but each piece is a child of the test and can
# be killed.  After it port(8080) is the edge.

our $WEBHOOK_SECRET = 'whsec_' . encode_base64('runcoach test signing key', '');

sub edge
{
    my ($self, %opt) = @_;

    my $home = $self->edge_home();

    $self->postgres() unless $self->{postgres} || defined $opt{postgres};
    $self->redis(appendonly => 1) unless $self->{redis} || defined $opt{redis};

    my $env = $self->edge_environment(%opt);

    $self->{edge_env} = $env;
    $self->{logs} = [ "$home/logs/error.log", "$self->{dir}/nginx.out",
                      "$self->{dir}/error.log" ];

    $self->edge_configure();

    if (!defined $opt{sidecar} && $self->{postgres}) {
        my ($status, $out) = $self->sidecar_run(['migrate', 'up']);

        die "migrate: $out\n" if $status;

        $self->{serve} = $self->sidecar(['serve']);
        $self->{work} = $self->sidecar(['work'])
            unless defined $opt{work} && !$opt{work};
    }

    $self->edge_run();

    return $self;
}


# URLs are then announced to the sidecar by nobody but the test

sub edge_silent
{
    my ($self) = @_;

    my $file = "$self->{home}/upload_url.conf";
    my $conf = slurp($file);

    $conf =~ s/\s+announce=\S+;/;/ or die "$file announces nothing\n";

    $self->write_file($file, $conf);
    $self->reload();
}


sub edge_home
{
    my ($self) = @_;

    my $home = $self->{home} = "$self->{dir}/home";

    make_path(map { "$home/$_" } qw/ modules logs tmp store /);

    for my $file (glob("$ROOT/conf/*")) {
        next unless -f $file;
        system('cp', $file, $home) == 0 or die "cp $file\n";
    }

    $self->check_module();

    system('cp', $self->module(), "$home/modules/") == 0 or die "cp module\n";
    system('cp', $self->sidecar_copy(), "$home/") == 0 or die "cp sidecar\n";

    chmod(0755, glob("$home/*.sh"), "$home/runcoach-sidecar");

    system('chown', '-R', "$self->{uid}:$self->{gid}", $home)
        if $self->{runas};

    return $home;
}


sub edge_environment
{
    my ($self, %opt) = @_;

    my $port = $self->port(8080);
    my $issuer = $self->issuer();

    my %env = (
        RUNCOACH_HOME => $self->{home},
        PORT => $port,
        LISTEN => '127.0.0.1',
        BACKEND_SOCKET => "$self->{dir}/backend.sock",
        SIDECAR_LISTEN => "unix:$self->{dir}/sidecar.sock",
        LOCAL_STORE => "$self->{home}/store",
        DATABASE_URL => $self->{postgres} ? $self->{postgres}->url() : undef,
        REDIS_URL => $self->{redis} ? $self->{redis}->url() : '',
        CLERK_ISSUER => $issuer->{iss},
        CLERK_JWKS_URL => $issuer->{url},
        CLERK_WEBHOOK_SECRET => $WEBHOOK_SECRET,
        R2_ENDPOINT_URL => "http://127.0.0.1:$port",
        R2_BUCKET_NAME => 'fit-files',
        R2_ACCESS_KEY => 'local',
        R2_SECRET_KEY => 'test-secret-of-the-local-store',
        RATE_LIMIT_PER_ADDRESS => 0,
        %{$opt{env} || {}},
    );

    delete $env{$_} for grep { !defined $env{$_} } keys %env;

    return \%env;
}


# env.conf and env.server.conf; (exit status, output), dies without array

sub edge_configure
{
    my ($self, $env) = @_;

    my ($status, $out) = $self->command(['sh', "$self->{home}/env.sh"],
                                        env => $env || $self->{edge_env},
                                        cwd => $self->{home}, runas => 1);

    return ($status, $out) if wantarray;

    die "env.sh: $out\n" if $status;
}


sub edge_run
{
    my ($self) = @_;

    my $home = $self->{home};

    # a killed nginx leaves its socket behind

    unlink("$self->{dir}/backend.sock");

    $self->run(conf => "$home/nginx.conf", prefix => $home, runas => 1,
               env => $self->{edge_env}, wait => $self->host(),
               error_log => "$home/logs/error.log");
}


###############################################################################
# HTTP
###############################################################################


# Raw: http("GET / HTTP/1.0\n\n", port => 8080, socket => path, timeout => 8,
#           pieces => 1 (bytes at once), body =>, sleep => before the body,
#           aborted => 1 (RST))
#
# The request is sent as it is, but for "\n" that become CR LF when the text
# has no CR.  The answer is all there is until the end of the connection.

sub http
{
    my ($self, $request, %opt) = @_;

    my $s = $self->http_start($request, %opt);

    return $self->http_end($s, %opt);
}


sub http_start
{
    my ($self, $request, %opt) = @_;

    my $where = $opt{socket} || $self->host($opt{port});
    my $s = $opt{connection} || connect_to($where)
            || die "connect to $where: $!\n";

    $request =~ s/\n/\r\n/g unless $request =~ /\r/;

    if (defined $opt{pieces}) {
        while (length $request) {
            send_all($s, substr($request, 0, $opt{pieces}, ''));
            sleep($opt{sleep} || 0.001);
        }

    } else {
        send_all($s, $request);
    }

    if (defined $opt{body}) {
        sleep($opt{sleep}) if $opt{sleep};
        send_all($s, $opt{body});
    }

    if ($opt{aborted}) {
        sleep($opt{sleep}) if $opt{sleep};
        setsockopt($s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
        close($s);

        return undef;
    }

    return $s;
}


sub http_end
{
    my ($self, $s, %opt) = @_;

    return undef unless $s;

    my $buf = '';
    my $end = time() + ($opt{timeout} || $TIMEOUT);
    my $select = IO::Select->new($s);

    while (1) {
        my $left = $end - time();

        last if $left <= 0;
        next unless $select->can_read($left);

        my $n = sysread($s, $buf, 65536, length($buf));

        next if !defined $n && $! == EINTR;
        last unless $n;
    }

    close($s);

    return $buf;
}


sub send_all
{
    my ($s, $data) = @_;

    utf8::encode($data) if utf8::is_utf8($data);

    while (length $data) {
        my $n = syswrite($s, $data);

        if (!defined $n) {
            next if $! == EINTR;
            return 0;
        }

        substr($data, 0, $n) = '';
    }

    return 1;
}


# Cooked: request(METHOD, target, headers => {} or [], body =>, json =>,
# token =>, cookie =>, and what http() takes).  A response object:
# status, header(name), headers(name), body, json, detail.

sub request
{
    my ($self, $method, $target, %opt) = @_;

    my $s = $self->request_start($method, $target, %opt);

    return Test::Runcoach::Response->new($self->http_end($s, %opt));
}


sub request_start
{
    my ($self, $method, $target, %opt) = @_;

    my @headers = ref($opt{headers}) eq 'HASH'
                  ? map { [$_, $opt{headers}{$_}] } sort keys %{$opt{headers}}
                  : pairs(@{$opt{headers} || []});
    my %given = map { lc($_->[0]) => 1 } @headers;
    my $body = $opt{body};

    if (exists $opt{json}) {
        $body = json_encode($opt{json});
        push @headers, ['Content-Type', 'application/json']
            unless $given{'content-type'};
    }

    utf8::encode($body) if defined $body && utf8::is_utf8($body);

    push @headers, ['Authorization', "Bearer $opt{token}"] if $opt{token};
    push @headers, ['Cookie', $opt{cookie}] if $opt{cookie};
    push @headers, ['Content-Length', length($body)]
        if defined $body && !$given{'content-length'}
           && !$given{'transfer-encoding'};

    unshift @headers, ['Host', $opt{host} || $self->host($opt{port})]
        unless $given{host};

    my $request = "$method $target HTTP/1.1\r\n"
                  . join('', map { "$_->[0]: $_->[1]\r\n" } @headers)
                  . ($given{connection} ? '' : "Connection: close\r\n")
                  . "\r\n" . (defined $body ? $body : '');

    delete @opt{qw/ body headers json token cookie host /};

    return $self->http_start($request, %opt);
}


sub request_end
{
    my ($self, $s, %opt) = @_;

    return Test::Runcoach::Response->new($self->http_end($s, %opt));
}


sub pairs
{
    my @pairs;

    push @pairs, [splice(@_, 0, 2)] while @_;

    return @pairs;
}


sub host
{
    my ($self, $port) = @_;

    return '127.0.0.1:' . $self->port($port || 8080);
}


sub get { my $self = shift; return $self->request('GET', @_) }
sub post { my $self = shift; return $self->request('POST', @_) }
sub put { my $self = shift; return $self->request('PUT', @_) }


# a URL as it was handed out: url('PUT', $url, body => ...)

sub url
{
    my ($self, $method, $url, %opt) = @_;

    my ($host, $target) = $url =~ m{^http://([^/]+)(/.*)$}s
        or die "not an http URL: $url\n";
    my ($port) = $host =~ /:(\d+)$/;
    my $s = connect_to('127.0.0.1:' . ($port || 80))
        or die "connect to $host: $!\n";

    return $self->request($method, $target, host => $host, connection => $s,
                          %opt);
}


# curl(@args), for HTTP/2: (exit status, output)

sub curl
{
    my ($self, @args) = @_;

    return $self->command(['curl', '-s', '-S', '--max-time', $TIMEOUT, @args]);
}


# An HTTP server by fork, on port 8090 unless port => or path => says other.
# The sub gets {method, target, headers => {lower => [...]}, body, n} and
# returns [status, {headers}, body], or the raw text of an answer, or undef.
# requests($proc) tells what it has met.

sub http_daemon
{
    my ($self, $code, %opt) = @_;

    my ($server, $where);

    if ($opt{path}) {
        unlink($opt{path});
        $where = $opt{path};
        $server = IO::Socket::UNIX->new(Local => $where, Listen => 128);
        chmod(0777, $where);

    } else {
        $where = $self->host($opt{port} || 8090);
        $server = IO::Socket::INET->new(LocalAddr => $where, Proto => 'tcp',
                                        Listen => 128, ReuseAddr => 1);
    }

    die "listen $where: $!\n" unless $server;

    my $name = $opt{name} || $opt{port} || 'http';
    my $journal = $self->write_file("requests.$name", '');

    my $proc = $self->run_daemon(sub {
        serve_clients($server, sub {
            http_daemon_client($_[0], $code, $journal, $_[1]);
        });
    });

    close($server);

    $proc->{journal} = $journal;

    return $proc;
}


sub http_daemon_client
{
    my ($client, $code, $journal, $n) = @_;

    my $buf = '';

    while ($buf !~ /\r\n\r\n/) {
        sysread($client, $buf, 65536, length($buf)) or return;
    }

    my ($head, $body) = split(/\r\n\r\n/, $buf, 2);
    my ($line, @lines) = split(/\r\n/, $head);
    my ($method, $target) = split(/ /, $line);
    my %headers;

    for (@lines) {
        my ($name, $value) = /^([^:]+):\s*(.*)$/ or next;

        push @{$headers{lc $name}}, $value;
    }

    my $length = ($headers{'content-length'} || [0])->[0];

    while (length($body) < $length) {
        sysread($client, $body, 65536, length($body)) or last;
    }

    my $request = {
        method => $method,
        target => $target,
        headers => \%headers,
        body => $body,
        n => $n,
    };

    open(my $fh, '>>', $journal) or die "$journal: $!\n";
    syswrite($fh, JSON::PP->new()->canonical()->latin1()->encode($request)
                  . "\n");
    close($fh);

    my $answer = $code->($request, $client);

    return unless defined $answer;

    if (ref $answer) {
        my ($status, $fields, $text) = @$answer;
        my %fields = ('Content-Type' => 'application/json', %{$fields || {}});

        $text = '' unless defined $text;
        $fields{'Content-Length'} = length($text)
            unless $fields{'Transfer-Encoding'};

        $answer = "HTTP/1.1 $status X\r\n"
                  . join('', map { "$_: $fields{$_}\r\n" } sort keys %fields)
                  . "Connection: close\r\n\r\n";
        $answer .= $text unless $method eq 'HEAD';
    }

    send_all($client, $answer);
    close($client);
}


sub requests
{
    my ($self, $proc) = @_;

    return map { JSON::PP->new()->latin1()->decode($_) }
           split(/\n/, slurp($proc->{journal}) // '');
}


sub forget_requests
{
    my ($self, $proc) = @_;

    truncate($proc->{journal}, 0);
}


###############################################################################
# Keys and tokens
###############################################################################


# An RSA key by name: made once for the whole checkout, in build/test-keys.

sub key
{
    my ($self, $name, $bits) = @_;

    my $dir = "$BUILD/test-keys";
    my $file = "$dir/$name.pem";

    return $file if -s $file;

    make_path($dir);

    open(my $lock, '>>', "$dir/lock") or die "$dir/lock: $!\n";
    flock($lock, LOCK_EX);

    if (!-s $file) {
        my ($status, $out) = $self->command(['openssl', 'genpkey',
            '-algorithm', 'RSA', '-pkeyopt',
            'rsa_keygen_bits:' . ($bits || 2048), '-out', "$file.tmp"]);

        die "openssl genpkey: $out\n" if $status;

        rename("$file.tmp", $file) or die "rename: $!\n";
    }

    return $file;
}


sub key_pem
{
    my ($self, $name) = @_;

    return scalar $self->command(['openssl', 'pkey', '-in', $self->key($name),
                                  '-pubout']);
}


sub jwk
{
    my ($self, $name, %more) = @_;

    if (!$self->{jwk}{$name}) {
        my $out = $self->command(['openssl', 'rsa', '-in', $self->key($name),
                                  '-noout', '-modulus']);
        my ($hex) = $out =~ /Modulus=([0-9A-F]+)/
            or die "openssl rsa: $out\n";

        $self->{jwk}{$name} = b64url(pack('H*', $hex));
    }

    return {
        kty => 'RSA', use => 'sig', alg => 'RS256', kid => "ins_$name",
        n => $self->{jwk}{$name}, e => 'AQAB', %more,
    };
}


# the text of a key set: names of keys, or members ready made

sub jwks
{
    my ($self, @names) = @_;

    return json_encode({ keys => [ map { ref($_) ? $_ : $self->jwk($_) }
                                   @names ] });
}


# The default issuer: key "issuer", kid "ins_issuer"; its JWKS is served on
# port 8091 and counted by requests().

sub issuer
{
    my ($self) = @_;

    return $self->{issuer} if $self->{issuer};

    my $jwks = $self->jwks('issuer');
    my $proc = $self->http_daemon(sub { return [200, {}, $jwks] },
                                  port => 8091, name => 'issuer');

    $proc->{iss} = 'https://clerk.runcoach.test';
    $proc->{url} = 'http://' . $self->host(8091) . '/.well-known/jwks.json';

    return $self->{issuer} = $proc;
}


# token(sub => ..., key => 'issuer', alg => 'RS256', kid => 'ins_issuer',
#       header => {}, payload => raw text, iat => ..., exp => ...); undef
# leaves a claim out

sub token
{
    my ($self, %claims) = @_;

    my $key = delete $claims{key} || 'issuer';
    my $alg = exists $claims{alg} ? delete $claims{alg} : 'RS256';
    my $kid = exists $claims{kid} ? delete $claims{kid} : "ins_$key";
    my $secret = delete $claims{secret};
    my $header = delete $claims{header} || {};
    my $payload = delete $claims{payload};
    my $now = int(time());

    my %head = (alg => $alg, kid => $kid, typ => 'JWT', %$header);
    my %body = (
        iss => 'https://clerk.runcoach.test',
        sub => 'user_test',
        sid => 'sess_test',
        iat => $now,
        nbf => $now - 10,
        exp => $now + 3600,
        v => 2,
        %claims,
    );

    delete $head{$_} for grep { !defined $head{$_} } keys %head;
    delete $body{$_} for grep { !defined $body{$_} } keys %body;

    my $input = b64url(json_encode(\%head)) . '.'
                . b64url(defined $payload ? $payload : json_encode(\%body));

    return $input . '.' . b64url($self->sign($input, $alg // '', $key,
                                             $secret));
}


sub sign
{
    my ($self, $input, $alg, $key, $secret) = @_;

    return hmac_sha256($input, $secret // '') if $alg eq 'HS256';

    my ($bits) = $alg =~ /^(?:RS|PS)(\d+)$/ or return '';

    my $file = $self->write_file("sign.$$", $input);
    my @pss = $alg =~ /^PS/ ? ('-sigopt', 'rsa_padding_mode:pss',
                               '-sigopt', 'rsa_pss_saltlen:digest') : ();
    my ($status, $out) = $self->command(['openssl', 'dgst', "-sha$bits", @pss,
                                         '-sign', $self->key($key), $file]);

    die "openssl dgst: $out\n" if $status;

    unlink($file);

    return $out;
}


# A private key of any kind by name, made once like the others: rsa2048 (or
# other bits, or rsa2048e3 with that exponent), P-256, P-384, P-521, secp256k1,
# Ed25519, Ed448, X25519.

sub key_of
{
    my ($self, $name, $type) = @_;

    my $dir = "$BUILD/test-keys";
    my $file = "$dir/$name.pem";

    return $file if -s $file;

    my @args = $type =~ /^rsa(\d+)(?:e(\d+))?$/
        ? ('RSA', '-pkeyopt', "rsa_keygen_bits:$1",
           $2 ? ('-pkeyopt', "rsa_keygen_pubexp:$2") : ())
        : $type =~ /^(?:Ed|X)/ ? $type
        : ('EC', '-pkeyopt', "ec_paramgen_curve:$type");

    make_path($dir);

    open(my $lock, '>>', "$dir/lock") or die "$dir/lock: $!\n";
    flock($lock, LOCK_EX);

    if (!-s $file) {
        my ($status, $out) = $self->command(['openssl', 'genpkey',
            '-algorithm', @args, '-out', "$file.tmp"]);

        die "openssl genpkey: $out\n" if $status;

        rename("$file.tmp", $file) or die "rename: $!\n";
    }

    return $file;
}


# its public half: the bytes of a SubjectPublicKeyInfo

sub spki
{
    my ($self, $name) = @_;

    return $self->{spki}{$name} //= scalar $self->command(['openssl', 'pkey',
        '-in', "$BUILD/test-keys/$name.pem", '-pubout', '-outform', 'DER']);
}


# ... and as a JWK with the kid "ins_$name"; undef removes a member

sub jwk_of
{
    my ($self, $name, %more) = @_;

    my $der = $self->spki($name);
    my %jwk = (use => 'sig', kid => "ins_$name");

    if ($der =~ /\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01/) {

        # BIT STRING, SEQUENCE, and the two INTEGERs

        my $rest = der_value(substr(der_value($der), 15));

        $rest = der_value(substr($rest, 1));
        $jwk{n} = b64url(der_value($rest, \$rest) =~ s/^\0//r);
        $jwk{e} = b64url(der_value($rest) =~ s/^\0//r);
        @jwk{qw/ kty alg /} = qw/ RSA RS256 /;

    } elsif ($der =~ /\x2a\x86\x48\xce\x3d\x02\x01
                      \x06.(\x2a\x86\x48\xce\x3d\x03\x01\x07
                            |\x2b\x81\x04\x00.)/xs)
    {
        my ($curve, $alg, $n) = @{{
            "\x2a\x86\x48\xce\x3d\x03\x01\x07" => ['P-256', 'ES256', 32],
            "\x2b\x81\x04\x00\x22" => ['P-384', 'ES384', 48],
            "\x2b\x81\x04\x00\x23" => ['P-521', 'ES512', 66],
            "\x2b\x81\x04\x00\x0a" => ['secp256k1', 'ES256K', 32],
        }->{$1}};

        $jwk{x} = b64url(substr($der, -2 * $n, $n));
        $jwk{y} = b64url(substr($der, -$n));
        @jwk{qw/ kty alg crv /} = ('EC', $alg, $curve);

    } elsif ($der =~ /\x06\x03\x2b\x65([\x6e\x70\x71])/) {
        $jwk{crv} = { n => 'X25519', p => 'Ed25519', q => 'Ed448' }->{$1};
        $jwk{x} = b64url(substr($der, $1 eq 'q' ? -57 : -32));
        @jwk{qw/ kty alg /} = qw/ OKP EdDSA /;
    }

    %jwk = (%jwk, %more);

    delete $jwk{$_} for grep { !defined $jwk{$_} } keys %jwk;

    return \%jwk;
}


# the contents of the first DER value; what follows it into *$rest

sub der_value
{
    my ($der, $rest) = @_;

    my $n = ord(substr($der, 1, 1));
    my $at = 2;

    if ($n & 0x80) {
        $at += $n & 0x7f;
        $n = hex(unpack('H*', substr($der, 2, $n & 0x7f)));
    }

    $$rest = substr($der, $at + $n) if $rest;

    return substr($der, $at, $n);
}


# forge(\%spec, ...): many tokens at once, as the signatures are made in two
# processes and not in one for each.  A spec is what token() takes, and
#
#     protected => text       the header, instead of alg, kid, and header
#     segments => sub         given both encoded parts, returns those to sign
#     sign => 'PS256'         the algorithm, if it is not the one of "alg"
#     sigopt => [...]         more options for openssl
#     block => sub            given the input, returns what RSA's bare operation
#                             makes the signature of
#     signature => sub        given signature and input, returns another; or
#                             the bytes
#     token => sub            given the three segments, returns the token

sub forge
{
    my ($self, @specs) = @_;

    my (@jobs, @tokens);

    for my $spec (@specs) {
        my ($head, $body) = $self->unsigned($spec);

        ($head, $body) = $spec->{segments}->($head, $body) if $spec->{segments};

        push @jobs, { key => 'issuer', %$spec, input => "$head.$body",
                      head => $head, body => $body,
                      sign => $spec->{sign} // $spec->{alg} // 'RS256' };

        $jobs[-1]{block} = $spec->{block}->("$head.$body") if $spec->{block};
    }

    $self->sign_all(@jobs);

    for my $job (@jobs) {
        my $change = $job->{signature};
        my $bytes = ref($change) ? $change->($job->{bytes}, $job->{input})
                    : $change // $job->{bytes};
        my $shape = $job->{token} || sub { join('.', @_) };

        push @tokens, $shape->($job->{head}, $job->{body}, b64url($bytes));
    }

    return wantarray ? @tokens : $tokens[0];
}


my %FORGED = map { $_ => 1 } qw/ protected segments sign sigopt block signature
                                 token key secret alg kid header payload /;


sub unsigned
{
    my ($self, $spec) = @_;

    my $now = int(time());
    my %head = (
        alg => 'RS256',
        kid => 'ins_' . ($spec->{key} || 'issuer'),
        typ => 'JWT',
        (map { $_ => $spec->{$_} } grep { exists $spec->{$_} } qw/ alg kid /),
        %{$spec->{header} || {}},
    );
    my %body = (
        iss => 'https://clerk.runcoach.test',
        sub => 'user_test',
        sid => 'sess_test',
        iat => $now,
        nbf => $now - 10,
        exp => $now + 3600,
        v => 2,
        map { $_ => $spec->{$_} } grep { !$FORGED{$_} } keys %$spec,
    );

    delete $head{$_} for grep { !defined $head{$_} } keys %head;
    delete $body{$_} for grep { !defined $body{$_} } keys %body;

    return (b64url($spec->{protected} // json_encode(\%head)),
            b64url($spec->{payload} // json_encode(\%body)));
}


# adds "bytes" to each job; only openssl's are worth a process

sub sign_all
{
    my ($self, @jobs) = @_;

    my $dir = "$self->{dir}/forge";
    my @scripts = ('set -eu', 'set -eu');
    my $n = 0;

    make_path($dir);

    for my $job (@jobs) {
        my $alg = $job->{sign};

        if ($alg =~ /^HS(\d+)$/) {
            my $hmac = Digest::SHA->can("hmac_sha$1");

            $job->{bytes} = $hmac->($job->{input}, $job->{secret} // '');
            next;
        }

        if ($alg !~ /^(?:RS|PS|ES)\d+$|^EdDSA$/ && !defined $job->{block}) {
            $job->{bytes} = '';
            next;
        }

        $job->{file} = "$dir/" . ++$n;
        $self->write_file($job->{file}, $job->{block} // $job->{input});
        $scripts[$n % 2] .= "\n" . sign_command($job);
    }

    return unless $n;

    my @files = map { $self->write_file("$dir/$_.sh", "$scripts[$_]\n") } 0, 1;
    my ($status, $out) = $self->command(['sh', '-c',
        'sh "$1" & sh "$2" && wait $!', 'sh', @files]);

    die "openssl: $out\n" if $status;

    for my $job (grep { $_->{file} } @jobs) {
        $job->{bytes} = slurp("$job->{file}.sig");
        $job->{bytes} = p1363($job->{bytes}, $job->{sign})
            if $job->{sign} =~ /^ES/;
    }

    remove_tree($dir);
}


sub sign_command
{
    my ($job) = @_;

    my ($family, $bits) = $job->{sign} =~ /^(\D+)(\d*)/;
    my $key = "$BUILD/test-keys/$job->{key}.pem";
    my $pss = $family eq 'PS' ? ['rsa_padding_mode:pss',
                                 'rsa_pss_saltlen:digest'] : [];
    my @args = ('-out', "$job->{file}.sig");

    if (defined $job->{block}) {
        unshift @args, 'pkeyutl', '-decrypt', '-inkey', $key,
                '-pkeyopt', 'rsa_padding_mode:none', '-in', $job->{file};

    } elsif ($family eq 'EdDSA') {
        unshift @args, 'pkeyutl', '-sign', '-inkey', $key, '-rawin',
                '-in', $job->{file};

    } else {
        unshift @args, 'dgst', "-sha$bits", '-sign', $key;
        push @args, (map { ('-sigopt', $_) } @$pss, @{$job->{sigopt} || []}),
             $job->{file};
    }

    return join(' ', 'openssl', map { "'$_'" } @args);
}


# R and S of an ECDSA signature side by side, as RFC 7518 section 3.4 has them

sub p1363
{
    my ($der, $alg) = @_;

    my $n = { ES256 => 32, ES384 => 48, ES512 => 66 }->{$alg};
    my $rest = der_value($der);
    my @parts;

    for (1, 2) {
        my $bytes = der_value($rest, \$rest) =~ s/^\0+//r;

        push @parts, "\0" x ($n - length($bytes)) . $bytes;
    }

    return join('', @parts);
}


# a session in Redis, as the application makes them; the cookie

sub session
{
    my ($self, $user_id, %more) = @_;

    my $id = delete $more{id} || 's' . substr(sha256_hex(rand() . $$), 0, 42);
    my $value = exists $more{raw} ? $more{raw}
                : json_encode({ user_id => $user_id,
                                created_at => '2026-01-01T00:00:00', %more });

    $self->{redis}->cmd('SETEX', "session:$id", 604800, $value);

    return "session_id=$id";
}


###############################################################################
# Webhooks and presigned URLs
###############################################################################


# the three headers of a delivery

sub svix_sign
{
    my ($self, $body, %opt) = @_;

    my $id = $opt{id} || 'msg_' . substr(sha256_hex(rand() . time()), 0, 24);
    my $time = $opt{time} || int(time());
    my $secret = $opt{secret} || $WEBHOOK_SECRET;

    $secret =~ s/^whsec_//;

    my $bytes = $body;

    utf8::encode($bytes) if utf8::is_utf8($bytes);

    my $mac = encode_base64(hmac_sha256("$id.$time.$bytes",
                                        decode_base64($secret)), '');

    return {
        'svix-id' => $id,
        'svix-timestamp' => $time,
        'svix-signature' => "v1,$mac",
    };
}


# webhook($event, id =>, time =>, secret =>, headers => {}): signs, delivers

sub webhook
{
    my ($self, $event, %opt) = @_;

    my $body = ref($event) ? json_encode($event) : $event;
    my $headers = { %{$self->svix_sign($body, %opt)},
                    'Content-Type' => 'application/json',
                    %{$opt{headers} || {}} };

    delete $headers->{$_} for grep { !defined $headers->{$_} } keys %$headers;

    return $self->post('/api/v1/webhooks/clerk', body => $body,
                       headers => $headers,
                       map { $_ => $opt{$_} }
                       grep { defined $opt{$_} } qw/ timeout port socket /);
}


# user_event('user.created', 'user_1', email => ..., ms => ...): as Clerk
# sends it

sub user_event
{
    my ($self, $type, $id, %opt) = @_;

    my $ms = $opt{ms} || int(time() * 1000);
    my $email = exists $opt{email} ? $opt{email} : "$id\@example.com";
    my $address = "idn_$id";
    my $data;

    if ($type eq 'user.deleted') {
        $data = { id => $id, object => 'user', deleted => JSON::PP::true };

    } else {
        $data = {
            id => $id,
            object => 'user',
            first_name => $opt{first_name} // 'Test',
            last_name => $opt{last_name} // 'Runner',
            primary_email_address_id => $address,
            email_addresses => [ {
                id => $address,
                object => 'email_address',
                email_address => $email,
                verification => {
                    status => $opt{unverified} ? 'unverified' : 'verified',
                    strategy => 'email_code',
                },
            } ],
            created_at => $opt{created_at} || $ms,
            updated_at => $opt{updated_at} || $ms,
        };
    }

    return { object => 'event', type => $type, timestamp => $ms,
             instance_id => 'ins_test', data => $data };
}


# AWS Signature Version 4 by query, written from the specification and not
# from our C: endpoint, bucket, key, method, access_key, secret_key, region,
# expires, time, headers => {}, query => {}, style => 'virtual', session_token

sub presign
{
    my ($self, %opt) = @_;

    my $env = $self->{edge_env} || {};
    my $endpoint = $opt{endpoint} || $env->{R2_ENDPOINT_URL};
    my $bucket = $opt{bucket} || $env->{R2_BUCKET_NAME} || 'fit-files';
    my $access = $opt{access_key} || $env->{R2_ACCESS_KEY};
    my $secret = $opt{secret_key} || $env->{R2_SECRET_KEY};
    my $region = $opt{region} || 'auto';
    my $expires = defined $opt{expires} ? $opt{expires} : 300;

    my ($scheme, $host) = $endpoint =~ m{^(https?)://([^/]+)}
        or die "endpoint\n";
    my $root = "/$bucket/";

    if (($opt{style} || 'path') eq 'virtual') {
        $root = '/';
        $host = "$bucket.$host";
        $endpoint = "$scheme://$host";
    }

    my $date = strftime('%Y%m%dT%H%M%SZ', gmtime($opt{time} || time()));
    my $day = substr($date, 0, 8);
    my $scope = "$day/$region/s3/aws4_request";
    my $path = $root . join('/', map { uri_encode($_) }
                                       split(m{/}, $opt{key}, -1));
    my %headers = (host => $host,
                   map { lc($_) => $opt{headers}{$_} }
                   keys %{$opt{headers} || {}});
    my $names = join(';', sort keys %headers);

    my %query = (
        'X-Amz-Algorithm' => 'AWS4-HMAC-SHA256',
        'X-Amz-Credential' => "$access/$scope",
        'X-Amz-Date' => $date,
        'X-Amz-Expires' => $expires,
        'X-Amz-SignedHeaders' => $names,
        %{$opt{query} || {}},
    );

    $query{'X-Amz-Security-Token'} = $opt{session_token}
        if $opt{session_token};

    my $query = join('&', map { uri_encode($_) . '='
                                . uri_encode($query{$_}) }
                          sort keys %query);

    my $canonical = join("\n", $opt{method} || 'GET', $path, $query,
                         (map { "$_:$headers{$_}" } sort keys %headers), '',
                         $names, 'UNSIGNED-PAYLOAD');
    my $to_sign = join("\n", 'AWS4-HMAC-SHA256', $date, $scope,
                       sha256_hex($canonical));
    my $key = "AWS4$secret";

    $key = hmac_sha256($_, $key) for $day, $region, 's3', 'aws4_request';

    return "$endpoint$path?$query&X-Amz-Signature="
           . hmac_sha256_hex($to_sign, $key);
}


# asks for an upload URL and puts a file there: (answer, response of the PUT)

sub upload
{
    my ($self, $bytes, %opt) = @_;

    my $ask = $self->post('/api/v1/upload/url',
                          json => { file_size => length($bytes),
                                    %{$opt{json} || {}} },
                          map { $_ => $opt{$_} }
                          grep { defined $opt{$_} } qw/ token cookie /);

    return ($ask, undef) unless $ask->status == 200;

    my $answer = $ask->json;
    my $put = $self->url($answer->{method} || 'PUT', $answer->{upload_url},
                         headers => $answer->{headers} || {}, body => $bytes);

    return ($ask, $put);
}


###############################################################################
# Peers: other people's clients, by npm
###############################################################################


# peer('svix.mjs', 'svix', $input): runs t/peer/svix.mjs, which needs the
# package, with the input as JSON; (what it printed, undef) or (undef, why
# not).  "node" does not write to the tree: it runs a copy.

sub peer
{
    my ($self, $script, $package, $input) = @_;

    my $reason = $self->peer_missing($package);

    return (undef, $reason) if $reason;

    my $copy = $self->write_file("peer/$script",
                                 slurp("$ROOT/t/peer/$script"));

    symlink("$PEERS/node_modules", "$self->{dir}/peer/node_modules");

    my $file = $self->write_file("peer/$script.in",
                                 defined $input ? json_encode($input) : '');
    my $err = "$self->{dir}/peer/$script.err";
    my ($status, $out) = $self->command(['sh', '-c',
        'exec node --no-warnings --preserve-symlinks '
        . '--preserve-symlinks-main "$1" 2> "$2"', 'sh', $copy, $err],
        in => $file);

    return (undef, "$script: " . (slurp($err) // '')) if $status;

    return ($out, undef);
}


sub peer_json
{
    my ($self, $script, $package, $input) = @_;

    my ($out, $reason) = $self->peer($script, $package, $input);

    return (defined $out ? json_decode($out) : undef, $reason);
}


# why a peer is not there, or undef; the first who asks has it installed

sub peer_missing
{
    my ($self, $package) = @_;

    return 'RUNCOACH_NO_PEERS is set' if $ENV{RUNCOACH_NO_PEERS};
    return 'no node' unless find_program('node');

    # not again by each file of one run

    my $failed = -M "$PEERS/failed";

    if (!-e "$PEERS/installed" && !(defined $failed && $failed < 0.02)) {
        $self->command(['sh', "$ROOT/t/peer/install.sh"], inherit => 1,
                       env => { RUNCOACH_BUILD => dirname($PEERS) }, timeout => 300);
    }

    return undef if -e "$PEERS/node_modules/$package/package.json";

    my $reason = slurp("$PEERS/failed") // "$package is not installed";

    chomp($reason);

    return $reason;
}


###############################################################################
# Small things
###############################################################################


sub b64url
{
    my ($bytes) = @_;

    my $text = encode_base64($bytes, '');

    $text =~ tr{+/}{-_};
    $text =~ s/=+$//;

    return $text;
}


sub unb64url
{
    my ($text) = @_;

    $text =~ tr{-_}{+/};

    return decode_base64($text);
}


sub uri_encode
{
    my ($text) = @_;

    utf8::encode($text) if utf8::is_utf8($text);
    $text =~ s/([^A-Za-z0-9\-_.~])/sprintf('%%%02X', ord($1))/ge;

    return $text;
}


sub json_encode
{
    return JSON::PP->new()->canonical()->allow_nonref()->utf8()->encode($_[0]);
}


sub json_decode
{
    return JSON::PP->new()->allow_nonref()->utf8()->decode($_[0]);
}


###############################################################################

package Test::Runcoach::Response;

use strict;
use warnings;

sub new
{
    my ($class, $raw) = @_;

    $raw = '' unless defined $raw;

    my $rest = $raw;

    # interim answers

    while ($rest =~ /\AHTTP\/1\.[01] 1(?!01)\d\d .*?\r\n\r\n/s) {
        substr($rest, 0, $+[0]) = '';
    }

    my ($head, $body) = split(/\r\n\r\n/, $rest, 2);
    my ($line, @lines) = split(/\r\n/, defined $head ? $head : '');
    my ($status) = ($line // '') =~ /^HTTP\/1\.[01] (\d+)/;
    my %headers;

    for (@lines) {
        my ($name, $value) = /^([^:]+):\s*(.*?)\s*$/ or next;

        push @{$headers{lc $name}}, $value;
    }

    $body = '' unless defined $body;
    $body = unchunk($body)
        if ($headers{'transfer-encoding'} || [''])->[0] =~ /chunked/i;

    return bless({ raw => $raw, line => $line // '', status => $status || 0,
                   headers => \%headers, body => $body }, $class);
}


sub unchunk
{
    my ($body) = @_;

    my $text = '';

    while ($body =~ s/\A([0-9a-fA-F]+)[^\r\n]*\r\n//) {
        my $n = hex($1) or last;

        $text .= substr($body, 0, $n, '');
        substr($body, 0, 2, '');
    }

    return $text;
}


sub raw { return $_[0]->{raw} }
sub line { return $_[0]->{line} }
sub status { return $_[0]->{status} }
sub body { return $_[0]->{body} }
sub header_names { return sort keys %{$_[0]->{headers}} }
sub headers { return @{$_[0]->{headers}{lc $_[1]} || []} }


# undef if it is absent; all values joined if there are several

sub header
{
    my ($self, $name) = @_;

    my $values = $self->{headers}{lc $name} or return undef;

    return join(', ', @$values);
}


# undef if the body is not JSON

sub json
{
    my ($self) = @_;

    return scalar(eval { Test::Runcoach::json_decode($self->{body}) });
}


sub detail
{
    my ($self) = @_;

    my $json = $self->json;

    return ref($json) eq 'HASH' ? $json->{detail} : undef;
}


###############################################################################

package Test::Runcoach::Redis;

use strict;
use warnings;

use IO::Select;

sub new
{
    my ($class, $t, %opt) = @_;

    my $name = $opt{name} || 'redis';
    my $dir = "$t->{dir}/$name";

    mkdir($dir) or -d $dir or die "mkdir $dir: $!\n";
    chown($t->{uid}, $t->{gid}, $dir) if $t->{runas};

    my $self = bless({ t => $t, name => $name, dir => $dir, opt => \%opt,
                       sock => "$dir/redis.sock" }, $class);

    # the harness owns the object, not the other way round

    Scalar::Util::weaken($self->{t});

    $self->start();

    return $self;
}


sub start
{
    my ($self) = @_;

    my $t = $self->{t};
    my $opt = $self->{opt};
    my $program = Test::Runcoach::find_program('redis-server')
        or $t->skip_all('no redis-server');

    $self->disconnect();
    unlink($self->{sock});

    $self->{proc} = $t->spawn($self->{name}, [$program,
        '--port', $opt->{port} ? $t->port($opt->{port}) : 0,
        '--bind', '127.0.0.1',
        '--unixsocket', $self->{sock}, '--unixsocketperm', 777,
        '--save', '', '--appendonly', $opt->{appendonly} ? 'yes' : 'no',
        '--appendfsync', 'no', '--dir', $self->{dir}, '--daemonize', 'no',
        @{$opt->{args} || []}], runas => 1);

    $t->wait_for_socket($self->{sock}, $self->{proc})
        or die "redis does not listen\n";

    # -LOADING, while the append-only file is being read

    $t->wait_for(sub {
        return 1 if eval { $self->cmd('PING') };
        return $@ =~ /NOAUTH/;
    })
        or die "redis does not answer\n";

    return $self;
}


sub url { return 'unix:' . $_[0]->{sock} }
sub socket { return $_[0]->{sock} }
sub pid { return $_[0]->{proc}{pid} }


sub stop
{
    my ($self) = @_;

    $self->disconnect();
    $self->{t}->stop_process($self->{proc});
}


# kill('KILL'), kill('STOP'), kill('CONT')

sub kill
{
    my ($self, $signal) = @_;

    $self->disconnect();

    if (!$signal || $signal eq 'KILL') {
        $self->{t}->stop_process($self->{proc}, 'KILL');
        return;
    }

    CORE::kill($signal, $self->{proc}{pid});
}


sub disconnect
{
    my ($self) = @_;

    delete $self->{conn};
    $self->{buf} = '';
}


# one command; the reply, nested arrays for arrays; dies of an error

sub cmd
{
    my ($self, @argv) = @_;

    my $s = $self->{conn} ||= Test::Runcoach::connect_to($self->{sock})
            || die "connect to $self->{sock}: $!\n";
    my $text = '*' . @argv . "\r\n";

    for my $arg (@argv) {
        my $bytes = "$arg";

        utf8::encode($bytes) if utf8::is_utf8($bytes);
        $text .= '$' . length($bytes) . "\r\n$bytes\r\n";
    }

    if (!Test::Runcoach::send_all($s, $text)) {
        $self->disconnect();
        die "redis went away\n";
    }

    return $self->reply();
}


sub reply
{
    my ($self) = @_;

    my $line = $self->line();
    my $type = substr($line, 0, 1, '');

    return $line if $type eq '+' || $type eq ':';

    die "$line\n" if $type eq '-';

    return undef if $line < 0;
    return $self->bytes($line) if $type eq '$';

    return [ map { scalar $self->reply() } 1 .. $line ];
}


sub fill
{
    my ($self) = @_;

    my $select = IO::Select->new($self->{conn});

    if (!$select->can_read($Test::Runcoach::TIMEOUT)
        || !sysread($self->{conn}, $self->{buf}, 65536, length($self->{buf})))
    {
        $self->disconnect();
        die "redis does not answer\n";
    }
}


sub line
{
    my ($self) = @_;

    $self->fill() while $self->{buf} !~ /\r\n/;
    $self->{buf} =~ s/\A(.*?)\r\n//s;

    return $1;
}


sub bytes
{
    my ($self, $n) = @_;

    $self->fill() while length($self->{buf}) < $n + 2;

    my $bytes = substr($self->{buf}, 0, $n, '');

    substr($self->{buf}, 0, 2, '');

    return $bytes;
}


###############################################################################

package Test::Runcoach::Postgres;

use strict;
use warnings;

use Fcntl qw/ :flock /;
use File::Path qw/ make_path remove_tree /;

sub new
{
    my ($class, $t, %opt) = @_;

    my $name = $opt{name} || 'pg';
    my $bin = bin() or $t->skip_all('no PostgreSQL server');

    my $self = bless({ t => $t, name => $name, dir => "$t->{dir}/$name",
                       bin => $bin, opt => \%opt,
                       db => $opt{db} || 'runcoach' }, $class);

    Scalar::Util::weaken($self->{t});

    $self->initdb();
    $self->start();

    return $self;
}


sub bin
{
    my @bins = sort { ($b =~ m{/(\d+)/bin})[0] <=> ($a =~ m{/(\d+)/bin})[0] }
               grep { -x "$_/initdb" } glob('/usr/lib/postgresql/*/bin');

    return $bins[0] if @bins;

    my $initdb = Test::Runcoach::find_program('initdb') or return undef;

    return $initdb =~ s{/initdb$}{}r;
}


# initdb once, then copies: a template in build/ with the database made

sub initdb
{
    my ($self) = @_;

    my $t = $self->{t};
    my $build = Test::Runcoach::build();
    my ($version) = $self->{bin} =~ m{/(\d+)/bin};
    my $template = sprintf('%s/pg-template-%s-%d', $build, $version || 'x',
                           $t->{runas} ? $t->{uid} : $>);

    make_path($build);

    open(my $lock, '>>', "$template.lock") or die "$template.lock: $!\n";
    flock($lock, LOCK_EX);

    $self->make_template($template) unless -e "$template/PG_VERSION";

    flock($lock, LOCK_UN);

    system('cp', '-a', $template, $self->{dir}) == 0
        or die "cp -a $template\n";
}


sub make_template
{
    my ($self, $template) = @_;

    my $t = $self->{t};
    my $work = "$t->{dir}/pg-template";

    # the checkout may be closed to the user PostgreSQL runs as, so the work
    # is done in the temporary directory

    my ($status, $out) = $t->command(["$self->{bin}/initdb", '-D', $work,
        '-U', 'runcoach', '-A', 'trust', '-N', '-E', 'UTF8',
        '--locale=C.UTF-8', '--no-instructions'], runas => 1);

    die "initdb: $out\n" if $status;

    # fsync off loses nothing when a process is killed, the kernel lives on;
    # synchronous_commit stays, for what was acknowledged must be there, and so
    # does full_page_writes, for a kill may tear the write of a page

    open(my $fh, '>>', "$work/postgresql.conf") or die "postgresql.conf: $!\n";
    print $fh <<'EOF';
listen_addresses = ''
fsync = off
synchronous_commit = on
max_connections = 60
shared_buffers = 32MB
log_min_messages = warning
EOF
    close($fh);

    local $self->{dir} = $work;

    $self->start('postgres');
    $self->sql_as('postgres', 'CREATE DATABASE runcoach');
    $self->stop();

    remove_tree($template);
    system('cp', '-a', $work, "$template.new") == 0 or die "cp -a $work\n";
    rename("$template.new", $template) or die "rename $template: $!\n";
    remove_tree($work);
}


sub start
{
    my ($self, $db) = @_;

    my $t = $self->{t};

    unlink("$self->{dir}/postmaster.pid");

    $self->{proc} = $t->spawn($self->{name}, ["$self->{bin}/postgres",
        '-D', $self->{dir}, '-k', $t->{dir}, @{$self->{opt}{args} || []}],
        runas => 1, signal => 'INT');

    $t->wait_for_socket("$t->{dir}/.s.PGSQL.5432", $self->{proc})
        or die "postgres does not listen\n";

    # "the database system is starting up"

    $t->wait_for(sub {
        my ($status) = $t->command(["$self->{bin}/pg_isready", '-q',
                                    '-h', $t->{dir}, '-d', $db || $self->{db}]);
        return $status == 0;
    }, 20)
        or die "postgres does not start\n";

    return $self;
}


sub url
{
    my ($self, $db) = @_;

    return sprintf('postgresql://runcoach@/%s?host=%s', $db || $self->{db},
                   Test::Runcoach::uri_encode($self->{t}{dir}));
}


sub pid { return $_[0]->{proc}{pid} }


sub stop
{
    my ($self) = @_;

    $self->{t}->stop_process($self->{proc});
}


# kill() takes the whole server, as a machine's death would

sub kill
{
    my ($self, $signal) = @_;

    my $t = $self->{t};
    my $pid = $self->{proc}{pid};

    if ($signal && $signal ne 'KILL') {
        CORE::kill($signal, $pid);
        return;
    }

    # A backend that is made meanwhile would survive, and commit into what the
    # next server knows nothing of: so the one who makes them is stopped first,
    # and nobody may be left when start() removes the lock.

    CORE::kill('STOP', $pid);

    # it stops when it is next scheduled, perhaps after a fork()

    $t->wait_for(sub {
        return (Test::Runcoach::slurp("/proc/$pid/stat") // '')
               =~ /^\d+ \(.*\) T/s;
    });

    my @pids = ($pid, $t->children($pid));

    CORE::kill('KILL', @pids);
    $t->stop_process($self->{proc}, 'KILL');

    $t->wait_for(sub { return !grep { -e "/proc/$_" } @pids });
}


sub sql
{
    my ($self, $query, @bind) = @_;

    return $self->sql_as($self->{db}, $query, @bind);
}


# $1 ... are replaced by quoted literals; rows by lines, columns by "|"

sub sql_as
{
    my ($self, $db, $query, @bind) = @_;

    $query =~ s/\$(\d+)\b/quote($bind[$1 - 1])/ge if @bind;

    my ($status, $out) = $self->psql($db, '-c', $query);

    die "psql: $out\n" if $status;

    chomp($out);

    return $out;
}


sub psql
{
    my ($self, $db, @args) = @_;

    return $self->{t}->command(["$self->{bin}/psql", '-X', '-q', '-A', '-t',
        '-v', 'ON_ERROR_STOP=1', '-h', $self->{t}{dir}, '-U', 'runcoach',
        '-d', $db, @args]);
}


sub quote
{
    my ($value) = @_;

    return 'NULL' unless defined $value;

    $value =~ s/'/''/g;

    return $value =~ /\\/ ? " E'" . ($value =~ s/\\/\\\\/gr) . "'" : "'$value'";
}


###############################################################################

package Test::Runcoach::PgBouncer;

use strict;
use warnings;

sub new
{
    my ($class, $t, %settings) = @_;

    my $self = bless({ t => $t, dir => "$t->{dir}/pgbouncer" }, $class);

    Scalar::Util::weaken($self->{t});

    # Two connections to the server for all clients, in turn, so that whatever
    # a statement leaves behind in its session is met by another client or is
    # missed by its own; and Debian's reset query is told to do nothing about it

    %settings = (
        pool_mode => 'transaction',
        default_pool_size => 2,
        server_round_robin => 1,
        server_reset_query => '',
        max_client_conn => 100,
        query_wait_timeout => 20,
        server_login_retry => 1,
        auth_type => 'any',
        admin_users => 'runcoach',
        listen_port => 6432,
        listen_addr => '',
        unix_socket_dir => $self->{dir},
        %settings,
    );

    mkdir($self->{dir}) or die "mkdir $self->{dir}: $!\n";
    chown($t->{uid}, $t->{gid}, $self->{dir}) if $t->{runas};

    $t->write_file('pgbouncer/pgbouncer.ini',
        "[databases]\n"
        . "runcoach = host=$t->{dir} dbname=runcoach user=runcoach\n\n"
        . "[pgbouncer]\n"
        . join('', map { "$_ = $settings{$_}\n" } sort keys %settings));

    return $self->start();
}


sub start
{
    my ($self) = @_;

    my $t = $self->{t};

    unlink("$self->{dir}/.s.PGSQL.6432");

    $self->{proc} = $t->spawn('pgbouncer',
        [Test::Runcoach::find_program('pgbouncer'),
         "$self->{dir}/pgbouncer.ini"], runas => 1, signal => 'INT');

    $t->wait_for_socket("$self->{dir}/.s.PGSQL.6432", $self->{proc})
        or die "pgbouncer does not listen\n";

    return $self;
}


sub url
{
    my ($self) = @_;

    return sprintf('postgresql://runcoach@/runcoach?host=%s&port=6432',
                   Test::Runcoach::uri_encode($self->{dir}));
}


sub kill
{
    my ($self) = @_;

    $self->{t}->stop_process($self->{proc}, 'KILL');
}


# a command of its console: lines, columns by "|"

sub admin
{
    my ($self, $command) = @_;

    my $t = $self->{t};
    my ($status, $out) = $t->command([$t->{postgres}{bin} . '/psql', '-X',
        '-q', '-A', '-t', '-h', $self->{dir}, '-p', 6432, '-U', 'runcoach',
        '-d', 'pgbouncer', '-c', $command]);

    die "pgbouncer, $command: $out\n" if $status;

    return $out;
}


1;
