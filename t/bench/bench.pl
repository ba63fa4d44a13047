#!/usr/bin/perl

# What the modules cost, against plain nginx in the same run: CPU time per
# request, then instructions per request (instructions.pl).
#
# One nginx worker on one core; the client and Redis on another.  lib/Bench.pm
# tells how it is measured.
#
#     BENCH_ROUNDS=9 BENCH_SECONDS=1 BENCH_CONNECTIONS=32
#     BENCH_CASES='token|session'     only those, and what they are compared to
#     BENCH_QUIET=0.10                cores that others may use meanwhile

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib";

use Bench;
use Test::Runcoach;

my $many = 100_000;
my $lifetime = 7 * 86400;
my $session = 'Xq3vN8yTz1LmK5rW0aPdUe7HsJc2BgFo4Ri6QtYkVnM';

my $bench = Bench->new();

# two of them, with one worker each: one remembers, the other as good as not

my $t = Test::Runcoach->new();
my $cold = Test::Runcoach->new();

$_->{planned} = 1 for $t, $cold;

$t->redis();
$t->{redis}->cmd('SET', "session:$session", '{"user_id": 42}');
$cold->set(REDIS_URL => $t->{redis}->url());

$bench->beside($t, $t->{redis}->pid());

my %env = (CLERK_JWT_KEY => $t->key_pem('issuer'));
my $tokens = $bench->tokens($t->key('issuer'), $many, $lifetime);

# as many entries as there are tokens: that is what an edge which knows so many
# at a time is told

start($t, zone => '128m', entries => 131072, cache => '5s');
start($cold, zone => '1m', entries => 64, cache => 0);

my ($token) = Bench::slurp($tokens) =~ /\A(.*)\n/;
my $body = '{"filename":"morning.fit","file_size":140000}';

my @bearer = ('-H', "Authorization: Bearer $token");
my @cookie = ('-H', "Cookie: session_id=$session");
my @post = ('-H', 'Content-Type: application/json');

my @cases = (
    { name => 'return 200', path => '/plain' },
    { name => 'return 200, POST, with a token', path => '/plain',
      args => [@bearer, @post], body => $body, base => 'return 200' },
    { name => 'empty_gif', path => '/gif', base => 'return 200' },

    { name => 'empty_gif, with a token', path => '/gif', args => [@bearer] },
    { name => 'authentication, repeated token', path => '/auth',
      args => [@bearer], base => 'empty_gif, with a token' },

    { name => 'empty_gif, 2,000 tokens', path => '/gif', rotate => 2000 },
    { name => 'authentication, 2,000 tokens', path => '/auth', rotate => 2000,
      base => 'empty_gif, 2,000 tokens' },

    { name => 'empty_gif, 100,000 tokens', path => '/gif', rotate => $many },
    { name => 'authentication, 100,000 tokens', path => '/auth',
      rotate => $many, base => 'empty_gif, 100,000 tokens' },

    { name => 'empty_gif, new tokens', path => '/gif', rotate => $many,
      cold => 1 },
    { name => 'authentication, new tokens', path => '/auth', rotate => $many,
      cold => 1, base => 'empty_gif, new tokens',
      needs => 'one EVP_PKEY_verify()' },
    { name => 'one EVP_PKEY_verify()', code => \&verify },

    { name => 'empty_gif, with a session', path => '/gif', args => [@cookie] },
    { name => 'session, remembered', path => '/session', args => [@cookie],
      base => 'empty_gif, with a session' },
    { name => 'session, asked for', path => '/session', args => [@cookie],
      cold => 1, base => 'empty_gif, with a session' },

    { name => 'authentication + limit, leased', path => '/limit',
      args => [@bearer], base => 'authentication, repeated token' },
    { name => 'authentication + limit, exact', path => '/exact',
      args => [@bearer], base => 'authentication, repeated token' },
    { name => 'return 429', path => '/429', refused => 1 },
    { name => 'limit, refused', path => '/flood', refused => 1,
      base => 'return 429' },
    { name => 'presigned URL (authenticated)', path => '/presign',
      args => [@bearer, @post], body => $body,
      base => 'authentication, repeated token' },
);

@cases = wanted(@cases);

###############################################################################

for my $case (@cases) {
    $case->{server} = $case->{cold} ? $cold : $t;
    $case->{tokens} = $tokens;
}

$bench->machine($t);
$bench->run(@cases);
$bench->table(@cases);
$bench->targets(targets());

$_->stop_all() for $cold, $t;

print "\n";

exit(system($^X, "$FindBin::Bin/instructions.pl") != 0);

###############################################################################

sub start
{
    my ($server, %opt) = @_;

    $server->set(AFFINITY => $bench->affinity());
    $server->set(uc($_) => $opt{$_}) for keys %opt;

    $server->write_file_expand('nginx.conf', <<'EOF');

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

    runcoach_zone        runcoach:%%ZONE%%;
    runcoach_redis       %%REDIS_URL%%  timeout=1s;
    runcoach_auth_cache  entries=%%ENTRIES%%;

    runcoach_issuer   clerk  issuer=https://clerk.runcoach.test
                             key=env:CLERK_JWT_KEY  max_lifetime=30d;
    runcoach_session  cookie=session_id  prefix=session:  cache=%%CACHE%%;

    runcoach_limit_policy  user   rate=1000000r/s  burst=1000000
                                  key=$runcoach_user;
    runcoach_limit_policy  exact  rate=1000000r/s  burst=1000000
                                  key=$runcoach_user  lease=off;
    runcoach_limit_policy  flood  rate=1r/s        burst=10
                                  key=$remote_addr;

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

        location = /session {
            runcoach_auth  session;
            empty_gif;
        }

        location = /limit {
            runcoach_auth   clerk;
            runcoach_limit  user;
            empty_gif;
        }

        location = /exact {
            runcoach_auth   clerk;
            runcoach_limit  exact;
            empty_gif;
        }

        location = /flood {
            runcoach_limit  flood;
            empty_gif;
        }

        location = /429 {
            return  429;
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

    $server->run(env => \%env);
}


sub verify
{
    my $program = $bench->program('verify');
    my $public = $t->write_file('public.pem', $env{CLERK_JWT_KEY});

    my ($status, $out) = $t->command([@{$bench->{worker}}, $program, $public,
                                      $bench->{seconds} / 2], in => $tokens);

    die "verify: $out\n" if $status;

    chomp($out);

    return $out;
}


# what BENCH_CASES selects, with its bases

sub wanted
{
    my (@all) = @_;

    if (!$bench->rotates()) {
        print "Without wrk there is no rotation of tokens.\n";
        @all = grep { !$_->{rotate} } @all;
    }

    my $re = $ENV{BENCH_CASES} or return @all;
    my %keep;

    for my $case (reverse @all) {
        next unless $keep{$case->{name}} || $case->{name} =~ /$re/;

        $keep{$_} = 1 for grep { defined } @$case{qw/ name base needs /};
    }

    return grep { $keep{$_->{name}} } @all;
}


sub targets
{
    my %case = map { $_->{name} => $_ } @cases;
    my @targets;

    my $over = sub {
        my $case = $case{$_[0]} or return undef;

        return (Bench::over($case, $case{$case->{base}}))[0];
    };

    my $new = $case{'authentication, new tokens'};
    my $verify = $case{'one EVP_PKEY_verify()'};

    for my $row (
        ['repeated token, us over the plain request',
         'authentication, repeated token', 0.4],
        ['2,000 tokens, likewise', 'authentication, 2,000 tokens', 0.48],
        ['100,000 tokens, likewise', 'authentication, 100,000 tokens', 1],
        ['session remembered, likewise', 'session, remembered', 0.4],
        ['session asked for in Redis, likewise', 'session, asked for', 3],
    ) {
        my ($text, $name, $limit) = @$row;
        my $value = $over->($name);

        push @targets, [$text, $value, $limit, '%+.2f'] if defined $value;
    }

    push @targets, ['new token, user time / EVP_PKEY_verify()',
                    (Bench::user($new) - Bench::user($case{$new->{base}}))
                    / Bench::median(@{$verify->{cpu}}), 1.5, '%.2f']
        if $new && $verify;

    return @targets;
}

###############################################################################
