#!/usr/bin/perl

# What the modules cost, against plain nginx in the same run: CPU time per
# request, then instructions per request (instructions.pl).
#
# One nginx worker on one core; the client and Redis on another.  lib/Bench.pm
# tells how it is measured.
#
#     BENCH_ROUNDS=9 BENCH_SECONDS=1 BENCH_CONNECTIONS=32
#     BENCH_CASES='token|session'     only those, and what they are compared to
#                                     (sidecar.pl has some more)
#     BENCH_QUIET=0.10                cores that others may use meanwhile

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib";

use Bench;
use Test::Runcoach;

my $many = 100_000;
my $lifetime = 7 * 86400;
my $conf = conf();
my $session = 'Xq3vN8yTz1LmK5rW0aPdUe7HsJc2BgFo4Ri6QtYkVnM';

my $bench = Bench->new();

# with one worker each: one remembers, the other as good as not

my $t = Test::Runcoach->new();
my $cold = Test::Runcoach->new();

# a third asks Redis over TCP

my $tcp = Test::Runcoach->new();

$_->{planned} = 1 for $t, $cold, $tcp;

$t->redis(port => 8379);
$t->{redis}->cmd('SET', "session:$session", '{"user_id": 42}');
$cold->set(REDIS_URL => $t->{redis}->url());
$tcp->set(REDIS_URL => 'redis://127.0.0.1:' . $t->port(8379));

$bench->beside($t, $t->{redis}->pid());

my $body = '{"filename":"morning.fit","file_size":140000}';
my %env = (CLERK_JWT_KEY => $t->key_pem('issuer'));
my $tokens = $bench->tokens($t->key('issuer'), $many, $lifetime);

# as many entries as there are tokens: that is what an edge which knows so many
# at a time is told

start($t, zone => '128m', entries => 131072, cache => '5s');
start($cold, zone => '1m', entries => 64, cache => 0);
start($tcp, zone => '16m', entries => 64, cache => 0);
constants($t);

my ($token) = Bench::slurp($tokens) =~ /\A(.*)\n/;
my @bearer = ('-H', "Authorization: Bearer $token");
my @cookie = ('-H', "Cookie: session_id=$session");
my @post = ('-H', 'Content-Type: application/json');
my @user = ('-H', 'X-User: user_000001');

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

    # limits; the answers have the same headers, and of refusals the same body

    { name => 'empty_gif, headers of a limit', path => '/gif/headers',
      args => [@user] },
    { name => 'limit, leased', path => '/hot', args => [@user],
      base => 'empty_gif, headers of a limit' },
    { name => 'empty_gif, headers, 10,000 users', path => '/gif/headers',
      users => 10_000 },
    { name => 'limit, leased, 10,000 users', path => '/limit',
      users => 10_000, warm => 2, base => 'empty_gif, headers, 10,000 users' },

    { name => 'empty_gif, 10,000 users', path => '/gif', users => 10_000 },
    { name => 'limit, exact, unix socket', path => '/exact', users => 10_000,
      base => 'empty_gif, 10,000 users' },
    { name => 'limit, exact, TCP', path => '/exact', users => 10_000,
      tcp => 1, base => 'empty_gif, 10,000 users' },

    { name => 'return 429', path => '/429', refused => 1 },
    { name => 'limit, refused', path => '/flood', refused => 1,
      base => 'return 429', counts => \&calls },
    { name => 'return 429, headers and body', path => '/429/headers',
      refused => 1 },
    { name => 'limit, refused, headers and body', path => '/flood/headers',
      refused => 1, base => 'return 429, headers and body',
      counts => \&calls },

    # URLs; the constants are as long as what is made

    { name => 'return 200, JSON', path => '/json/get' },
    { name => 'presigned URL, GET', path => '/presign/get?id=1234567',
      base => 'return 200, JSON' },
    { name => 'return 200, JSON, POST', path => '/json/put', args => [@post],
      body => $body },
    { name => 'presigned URL, POST', path => '/presign/put', args => [@post],
      body => $body, base => 'return 200, JSON, POST' },

    { name => 'token + limit + presigned URL', path => '/all',
      args => [@bearer, @post], body => $body, base => 'return 200' },
);

@cases = wanted(@cases);

if (!@cases) {
    $_->stop_all() for $cold, $t;
    exit(0);
}

###############################################################################

for my $case (@cases) {
    $case->{server} = $case->{cold} ? $cold : $case->{tcp} ? $tcp : $t;
    $case->{tokens} = $tokens;
}

$bench->machine($t);
$bench->run(@cases);
$bench->table(@cases);
$bench->targets(targets());

$_->stop_all() for $tcp, $cold, $t;

print "\n";

exit(system($^X, "$FindBin::Bin/instructions.pl") != 0);

###############################################################################

sub start
{
    my ($server, %opt) = @_;

    $server->set(AFFINITY => $bench->affinity());
    $server->set($_ => '') for qw/ CONSTANT_GET CONSTANT_PUT /;
    $server->set(uc($_) => $opt{$_}) for keys %opt;

    $server->write_file_expand('nginx.conf', $conf);

    $server->run(env => \%env);
}


sub conf
{
    return <<'EOF';

%%TEST_GLOBALS%%

worker_processes  1;
%%AFFINITY%%

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    # as it is by default: what is refused writes no line

    error_log           %%TESTDIR%%/error.log  error;
    access_log          off;
    keepalive_requests  100000000;

    runcoach_zone        runcoach:%%ZONE%%;
    runcoach_redis       %%REDIS_URL%%  timeout=1s;
    runcoach_auth_cache  entries=%%ENTRIES%%;

    runcoach_issuer   clerk  issuer=https://clerk.runcoach.test
                             key=env:CLERK_JWT_KEY  max_lifetime=30d;
    runcoach_session  cookie=session_id  prefix=session:  cache=%%CACHE%%;

    runcoach_limit_policy  user   rate=1000r/s     burst=2000
                                  key=$http_x_user;
    runcoach_limit_policy  hot    rate=1000000r/s  burst=1000000
                                  key=$http_x_user;
    runcoach_limit_policy  me     rate=1000000r/s  burst=1000000
                                  key=$runcoach_user;
    runcoach_limit_policy  exact  rate=1000000r/s  burst=1000000
                                  key=$http_x_user  lease=off;
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

        location = /gif/headers {
            add_header  RateLimit              '"user";r=1999;t=1';
            add_header  RateLimit-Policy       '"user";q=2000;w=2';
            add_header  X-RateLimit-Limit      2000;
            add_header  X-RateLimit-Remaining  1999;
            add_header  X-RateLimit-Reset      1;
            empty_gif;
        }

        location = /hot {
            runcoach_limit          hot;
            runcoach_limit_headers  both;
            empty_gif;
        }

        location = /limit {
            runcoach_limit          user;
            runcoach_limit_headers  both;
            empty_gif;
        }

        location = /exact {
            runcoach_limit  exact;
            empty_gif;
        }

        location = /429 {
            return  429;
        }

        location = /flood {
            runcoach_limit  flood;
            empty_gif;
        }

        location = /429/headers {
            default_type  application/problem+json;

            add_header  RateLimit              '"flood";r=0;t=1'   always;
            add_header  RateLimit-Policy       '"flood";q=10;w=10' always;
            add_header  X-RateLimit-Limit      10                  always;
            add_header  X-RateLimit-Remaining  0                   always;
            add_header  X-RateLimit-Reset      10                  always;
            add_header  Retry-After            1                   always;
            add_header  Cache-Control          no-store            always;

            return  429  '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Too Many Requests","status":429,"detail":"Rate limit \\"flood\\" exceeded; retry in 1 s.","violated-policies":["flood"],"retry_after":1}';
        }

        location = /flood/headers {
            runcoach_limit          flood;
            runcoach_limit_headers  both;
            error_page              429  @too_many;
            empty_gif;
        }

        location @too_many {
            default_type  application/problem+json;

            runcoach_limit_headers  both;
            add_header              Cache-Control  no-store  always;

            return  429  '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Too Many Requests","status":429,"detail":"Rate limit \\"$runcoach_limit_policy\\" exceeded; retry in $runcoach_limit_retry_after s.","violated-policies":["$runcoach_limit_policy"],"retry_after":$runcoach_limit_retry_after}';
        }

        location = /json/get {
            default_type  application/json;
            return        200  '%%CONSTANT_GET%%';
        }

        location = /json/put {
            default_type  application/json;
            return        200  '%%CONSTANT_PUT%%';
        }

        location = /presign/get {
            runcoach_presign  r2  GET  "users/u/activities/$arg_id.fit"
                              expires=5m;
        }

        location = /presign/put {
            runcoach_presign  r2  PUT
                              "users/u/activities/$runcoach_object.fit"
                              expires=1h  max_size=10m;
        }

        location = /all {
            runcoach_auth     clerk;
            runcoach_limit    me;
            runcoach_presign  r2  PUT
                              "users/$runcoach_user/activities/$runcoach_object.fit"
                              expires=1h  max_size=10m;
        }
    }
}

EOF
}


# what a constant answer has to be as long as

sub constants
{
    my ($server) = @_;

    my %answer = (CONSTANT_GET => $server->get('/presign/get?id=1234567'),
                  CONSTANT_PUT => $server->post('/presign/put',
                      headers => { 'Content-Type' => 'application/json' },
                      body => $body));

    for my $name (keys %answer) {
        $answer{$name}->status == 200 or die "$name: not signed\n";
        $server->set($name => 'x' x length($answer{$name}->body));
    }

    $server->write_file_expand('nginx.conf', $conf);
    $server->reload() or die "the constants are not there\n";
}


# calls of the script so far

sub calls
{
    my $info = $t->{redis}->cmd('INFO', 'commandstats');
    my $calls = 0;

    $calls += $_ for $info =~ /^cmdstat_eval(?:sha)?:calls=(\d+)/mg;

    return $calls;
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
        ['leased, us over the same headers', 'limit, leased', 0.4],
        ['leased, 10,000 users, likewise', 'limit, leased, 10,000 users', 0.6],
        ['exact, unix socket, us over plain', 'limit, exact, unix socket', 2.5],
        ['exact, TCP, likewise', 'limit, exact, TCP', 3],
        ['refused, us over "return 429"', 'limit, refused', 0.3],
        ['refused, us over the same headers and body',
         'limit, refused, headers and body', 0.5],
        ['presigned URL by GET, us over a constant',
         'presigned URL, GET', 1.3],
        ['presigned URL by POST, likewise', 'presigned URL, POST', 3],
    ) {
        my ($text, $name, $limit) = @$row;
        my $value = $over->($name);

        push @targets, [$text, $value, $limit, '%+.2f'] if defined $value;
    }

    push @targets, ['new token, user time / EVP_PKEY_verify()',
                    (Bench::user($new) - Bench::user($case{$new->{base}}))
                    / Bench::median(@{$verify->{cpu}}), 1.5, '%.2f']
        if $new && $verify;

    for my $name ('limit, refused', 'limit, refused, headers and body') {
        my $case = $case{$name} or next;

        push @targets, ["calls of Redis for each of \"$name\"",
                        Bench::median(@{$case->{counted}}), 0.02, '%.4f'];
    }

    my $all = $case{'token + limit + presigned URL'};

    push @targets, ['token, limit and URL, x plain',
                    Bench::ratio($all, $case{$all->{base}}), 11 / 6.1, '%.2f']
        if $all;

    return @targets;
}

###############################################################################
