#!/usr/bin/perl

# Tests for errors at configuration time: what "nginx -t" and env.sh say names
# the directive or the variable, the value, and what would be right.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

# a configuration with nothing wrong in it; cases change one line

my %http = (
    zone => 'runcoach_zone  runcoach:4m;',
    redis => "runcoach_redis  unix:$t->{dir}/redis.sock  timeout=50ms;",
    issuer => 'runcoach_issuer  clerk  issuer=https://clerk.runcoach.test'
              . '  jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;',
    session => 'runcoach_session  cookie=session_id  prefix=session:;',
    policy => 'runcoach_limit_policy  user  rate=5r/s  burst=20'
              . '  key=$runcoach_user;',
    store => 'runcoach_store  r2  endpoint=http://127.0.0.1:8081  bucket=bkt'
             . '  access_key=a  secret_key=s;',
    cors => 'runcoach_cors_origins  https://a.example.com;',
);

my %location = (
    auth => 'runcoach_auth  clerk session;',
    fallback => 'runcoach_auth_fallback  invalid;',
    limit => 'runcoach_limit  user;',
    presign => 'runcoach_presign  r2  PUT  "users/$runcoach_user/'
               . 'activities/$runcoach_object.fit"  expires=1h  max_size=10m;',
);

my ($status, $out) = check();

is($status, 0, 'a good one') or diag($out);

###############################################################################

my @cases = (

    # directive, what is written, what has to be said about it

    [ 'zone', 'runcoach_zone  runcoach;', qr/runcoach_zone|zone/,
      qr/"runcoach"/ ],
    [ 'zone', 'runcoach_zone  runcoach:x;', qr/zone/, qr/runcoach:x/ ],
    [ 'zone', 'runcoach_zone  runcoach:1k;', qr/zone/, qr/1k/ ],
    [ 'zone', 'runcoach_zone  a:4m;  runcoach_zone  b:4m;', qr/zone/,
      qr/duplicate/ ],
    [ 'zone', '', qr/runcoach_zone/, qr/./ ],

    [ 'redis', 'runcoach_redis  localhost:6379;', qr/runcoach_redis/,
      qr/localhost:6379|redis:/ ],
    [ 'redis', 'runcoach_redis  http://localhost;', qr/runcoach_redis/,
      qr/http|redis:/ ],
    [ 'redis', 'runcoach_redis  redis://:secret@host:port;',
      qr/runcoach_redis/, qr/port/ ],
    [ 'redis', 'runcoach_redis  unix:relative;', qr/runcoach_redis/,
      qr/relative|unix:/ ],
    [ 'redis', 'runcoach_redis  redis://127.0.0.1/x;', qr/runcoach_redis/,
      qr/./ ],
    [ 'redis', 'runcoach_redis  redis://127.0.0.1  timeout=x;', qr/timeout/,
      qr/"(?:timeout=)?x"/ ],
    [ 'redis', 'runcoach_redis  redis://127.0.0.1  foo=x;', qr/foo/, qr/./ ],

    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=_jwks;',
      qr/runcoach_issuer/, qr/_jwks/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a;',
      qr/runcoach_issuer/, qr/key=|jwks=/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  key=PEM;',
      qr/runcoach_issuer/, qr/PEM/ ],
    [ 'issuer', 'runcoach_issuer  clerk  publishable_key=pk_x  jwks=/j;',
      qr/publishable_key/, qr/"pk_x"/ ],
    [ 'issuer', 'runcoach_issuer  clerk  publishable_key=pk_test_aaaa'
      . '  jwks=/j;', qr/publishable_key/, qr/pk_test_aaaa/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=/j'
      . '  jwks_url=http://example.com/j;', qr/jwks_url/,
      qr{http://example\.com/j} ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=/j'
      . '  jwks_url=ftp://example.com/j;', qr/jwks_url/, qr/ftp:/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=/j'
      . '  azp=maybe;', qr/azp/, qr/"maybe"/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=/j'
      . '  leeway=x;', qr/leeway/, qr/"x"/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=/j'
      . '  max_lifetime=x1;', qr/max_lifetime/, qr/"x1"/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=/j'
      . '  user=external;', qr/user/, qr/"external"/ ],
    [ 'issuer', 'runcoach_issuer  clerk  issuer=https://a  jwks=/j  foo=x;',
      qr/runcoach_issuer/, qr/foo/ ],
    [ 'issuer', 'runcoach_issuer  session  issuer=https://a  jwks=/j;',
      qr/runcoach_issuer/, qr/"session"/ ],
    [ 'issuer', '', qr/runcoach_auth/, qr/"clerk"/ ],

    [ 'session', 'runcoach_session  foo=x;', qr/runcoach_session/, qr/foo/ ],

    [ 'policy', 'runcoach_limit_policy  user  rate=x  burst=20'
      . '  key=$runcoach_user;', qr/runcoach_limit_policy/, qr/rate=x|"x"/ ],
    [ 'policy', 'runcoach_limit_policy  user  rate=5r/w  burst=20'
      . '  key=$runcoach_user;', qr/runcoach_limit_policy/, qr{5r/w} ],
    [ 'policy', 'runcoach_limit_policy  user  rate=0r/s  burst=20'
      . '  key=$runcoach_user;', qr/runcoach_limit_policy/, qr{0r/s} ],
    [ 'policy', 'runcoach_limit_policy  user  rate=5r/s  burst=x'
      . '  key=$runcoach_user;', qr/runcoach_limit_policy/, qr/burst/ ],
    [ 'policy', 'runcoach_limit_policy  user  rate=5r/s  burst=20;',
      qr/runcoach_limit_policy/, qr/key/ ],
    [ 'policy', 'runcoach_limit_policy  user  burst=20  key=$runcoach_user;',
      qr/runcoach_limit_policy/, qr/rate/ ],
    [ 'policy', 'runcoach_limit_policy  user  rate=5r/s  requests=5'
      . '  window=60  burst=5  key=$runcoach_user;',
      qr/runcoach_limit_policy/, qr/rate|requests/ ],
    [ 'policy', 'runcoach_limit_policy  user  rate=5r/s  burst=20  foo=x'
      . '  key=$runcoach_user;', qr/runcoach_limit_policy/, qr/foo/ ],
    [ 'policy', '', qr/runcoach_limit/, qr/"user"/ ],
    [ 'policy', 'runcoach_limit_policy  user  rate=5r/s  burst=20'
      . '  key=$nothing;', qr/nothing/, qr/./ ],

    [ 'store', 'runcoach_store  r2  endpoint=http://127.0.0.1:8081  bucket=bkt'
      . '  access_key=a;', qr/runcoach_store/, qr/secret_key/ ],
    [ 'store', 'runcoach_store  r2  endpoint=127.0.0.1  bucket=bkt'
      . '  access_key=a  secret_key=s;', qr/endpoint/, qr/127\.0\.0\.1/ ],
    [ 'store', 'runcoach_store  r2  endpoint=http://127.0.0.1  bucket=a/b'
      . '  access_key=a  secret_key=s;', qr/bucket/, qr{a/b} ],
    [ 'store', 'runcoach_store  r2  endpoint=http://127.0.0.1  bucket=bkt'
      . '  access_key=a  secret_key=s  foo=x;', qr/runcoach_store/, qr/foo/ ],
    [ 'store', '', qr/runcoach_presign/, qr/"r2"/ ],

    [ 'cors', 'runcoach_cors_origins  https://a.example.com/;',
      qr/runcoach_cors_origins/, qr{https://a\.example\.com/} ],
    [ 'cors', 'runcoach_cors_origins  a.example.com;',
      qr/runcoach_cors_origins/, qr/a\.example\.com/ ],

    [ 'auth', 'runcoach_auth  other;', qr/runcoach_auth/, qr/"other"/ ],
    [ 'auth', 'runcoach_auth  clerk clerk;', qr/runcoach_auth/, qr/"clerk"/ ],
    [ 'auth', 'runcoach_auth  clerk off;', qr/runcoach_auth/, qr/"off"/ ],
    [ 'fallback', 'runcoach_auth_fallback  always;', qr/"always"/,
      qr/runcoach_auth_fallback|invalid value/ ],
    [ 'limit', 'runcoach_limit  other;', qr/runcoach_limit/, qr/"other"/ ],
    [ 'limit', 'runcoach_limit  user off;', qr/runcoach_limit/, qr/"off"/ ],

    [ 'presign', 'runcoach_presign  other  PUT  "a";', qr/runcoach_presign/,
      qr/"other"/ ],
    [ 'presign', 'runcoach_presign  r2  POST  "a";', qr/runcoach_presign/,
      qr/"POST"/ ],
    [ 'presign', 'runcoach_presign  r2  PUT  "a"  expires=8d;', qr/expires/,
      qr/8d/ ],
    [ 'presign', 'runcoach_presign  r2  PUT  "a"  expires=0;', qr/expires/,
      qr/0/ ],
    [ 'presign', 'runcoach_presign  r2  PUT  "a"  max_size=x;', qr/max_size/,
      qr/x/ ],
    [ 'presign', 'runcoach_presign  r2  PUT  "a"  foo=x;',
      qr/runcoach_presign/, qr/foo/ ],
    [ 'presign', 'runcoach_presign  r2  PUT  "/a";', qr/runcoach_presign/,
      qr{/a} ],
    [ 'presign', 'runcoach_presign  r2  PUT  "a//b";', qr/runcoach_presign/,
      qr{a//b} ],
    [ 'presign', 'runcoach_presign  r2  PUT  "a/../b";', qr/runcoach_presign/,
      qr{a/\.\./b} ],
    [ 'presign', 'runcoach_presign_verify  other;',
      qr/runcoach_presign_verify/, qr/"other"/ ],
);

for my $case (@cases) {
    my ($name, $line, @said) = @$case;

    my ($status, $out) = check($name => $line);
    my $title = $line || "no $name";

    isnt($status, 0, "$title: refused");
    like($out, qr/\[emerg\]/, "$title: an error") or next;
    like($out, $_, "$title: says $_") for @said;
    unlike($out, qr/secret\@|:secret/, "$title: no secret") if $line =~ /secret/;
}

###############################################################################

# env:NAME

for my $case (
    [ 'set', { V => '5r/s' }, 0 ],
    [ 'alias', { W => '5r/s' }, 0 ],
    [ 'first one wins', { V => '5r/s', W => 'x' }, 0 ],
    [ 'empty falls through', { V => '', W => '5r/s' }, 0 ],
    [ 'wrong', { V => 'five' }, 1, qr/five/ ],
)
{
    my ($name, $env, $bad, $said) = @$case;

    my ($status, $out) = check_env($env, policy => 'runcoach_limit_policy'
        . '  user  rate=env:V|W  burst=20  key=$runcoach_user;');

    is($status ? 1 : 0, $bad, "env: $name") or diag($out);
    like($out, $said, "env: $name, says") if $said;
}

($status, $out) = check_env({}, redis => 'runcoach_redis  env:REDIS_URL;');
is($status, 0, 'env: Redis is off') or diag($out);

($status, $out) = check_env({}, store => 'runcoach_store  r2  endpoint=env:E'
    . '  bucket=env:B  access_key=env:A  secret_key=env:S;');
is($status, 0, 'env: store is off') or diag($out);

($status, $out) = check_env({ E => 'http://127.0.0.1' }, store =>
    'runcoach_store  r2  endpoint=env:E  bucket=bkt  access_key=env:A'
    . '  secret_key=env:S;');
isnt($status, 0, 'env: half a store');
like($out, qr/access_key|secret_key/, 'env: half a store, says');

###############################################################################

# env.sh

my $home = $t->edge_home();

my %env = (
    RUNCOACH_HOME => $home,
    PORT => $t->port(8080),
    LISTEN => '127.0.0.1',
);

($status, $out) = env_sh();
is($status, 0, 'env.sh') or diag($out);

for my $case (
    [ PORT => 'x', 'http', '0', '65536', '-1', '80 80' ],
    [ LISTEN => 'localhost', '127.0.0.1:80', '1.2.3' ],
    [ BACKEND_URL => 'localhost:8000', 'ftp://a', 'http://', 'http://a/b',
      'http://a:x', 'http://a;b', "http://a\nb", 'http://$a', 'http://u@a' ],
    [ RATE_LIMIT_PER_ADDRESS => 'x', '-1', '1.5', '5r/s' ],
    [ MAX_FILE_SIZE => '10m', '-1' ],
    [ CORS_ORIGINS => 'app.example.com', 'https://a/', '*' ],
    [ TRUSTED_PROXIES => 'x', '10.0.0.0/x', '1.2.3' ],
    [ RESOLVER => 'x' ],
    [ SIDECAR_LISTEN => 'x', 'unix:', "unix:/a;b" ],
    [ LOCAL_STORE => 'relative', "/a;b" ],
)
{
    my ($name, @values) = @$case;

    for my $value (@values) {
        my ($status, $out) = env_sh($name => $value);
        my $title = "env.sh: $name=" . ($value =~ s/\n/\\n/gr);

        isnt($status, 0, $title);
        like($out, qr/\b$name\b/, "$title: names it");
        like($out, qr/\Q$value\E/, "$title: and the value");
    }
}

# what is good makes a configuration nginx takes

my @good = (
    {},
    { BACKEND_URL => 'http://localhost:8000' },
    { BACKEND_URL => 'https://app.example.com' },
    { BACKEND_URL => 'http://[::1]:8000/' },
    { RATE_LIMIT_PER_ADDRESS => 0 },
    { RATE_LIMIT_REQUESTS => 100, RATE_LIMIT_WINDOW => 3600,
      RATE_LIMIT_BURST => 5 },
    { CORS_ORIGINS => 'https://a.example.com, http://localhost:3000' },
    { REDIS_URL => '' },
    { REDIS_URL => 'redis://:pass%40word@127.0.0.1:6390/2' },
    { CLERK_PUBLISHABLE_KEY =>
      'pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk' },
    { CLERK_ISSUER => 'https://a.example.com',
      CLERK_JWT_KEY => $t->key_pem('issuer') },
    { CLERK_ISSUER => 'https://a.example.com',
      CLERK_JWT_KEY => $t->key_pem('issuer') =~ s/\n/\\n/gr },
    { R2_ACCOUNT_ID => 'a' x 32, R2_ACCESS_KEY_ID => 'a',
      R2_SECRET_ACCESS_KEY => 'b', R2_BUCKET_NAME => 'c-d.e' },
    { LOCAL_STORE => '/tmp/a b', R2_ENDPOINT_URL => 'http://127.0.0.1:8080',
      R2_ACCESS_KEY => 'a', R2_SECRET_KEY => 'b' },
    { FLY_APP_NAME => 'x', TRUSTED_PROXIES => 'none' },
    { MAX_FILE_SIZE => 5000 },
);

for my $env (@good) {
    my $title = join(' ', map { "$_=" . substr($env->{$_}, 0, 30) =~ s/\n/ /gr }
                          sort keys %$env) || 'nothing';

    my ($status, $out) = env_sh(%$env);

    is($status, 0, "env.sh: $title") or diag($out), next;

    ($status, $out) = nginx_t(%$env);

    is($status, 0, "nginx -t: $title") or diag($out);
}

# and the values our own directives read are judged there

my %r2 = (R2_ACCOUNT_ID => 'a' x 32, R2_BUCKET_NAME => 'bkt',
          R2_ACCESS_KEY => 'a', R2_SECRET_KEY => 's');

for my $case (
    [ 'sk_test_x', qr/publishable_key/, CLERK_PUBLISHABLE_KEY => 'sk_test_x' ],
    [ 'http://example.com/j', qr/jwks_url/, CLERK_ISSUER => 'https://a.b',
      CLERK_JWKS_URL => 'http://example.com/j' ],
    [ undef, qr/key/, CLERK_ISSUER => 'https://a.b', CLERK_JWT_KEY => 'x' ],
    [ undef, qr/runcoach_redis/, REDIS_URL => 'localhost:6379' ],
    [ 'x', qr/runcoach_limit_policy/, RATE_LIMIT_REQUESTS => 'x' ],
    [ '0', qr/runcoach_limit_policy/, RATE_LIMIT_REQUESTS => '0' ],
    [ 'x', qr/runcoach_limit_policy/, RATE_LIMIT_WINDOW => 'x' ],
    [ '0', qr/runcoach_limit_policy/, RATE_LIMIT_WINDOW => '0' ],
    [ 'x', qr/runcoach_limit_policy/, RATE_LIMIT_BURST => 'x' ],
    [ '0', qr/runcoach_limit_policy/, RATE_LIMIT_BURST => '0' ],
    [ 'A/B', qr/runcoach_store/, %r2, R2_BUCKET_NAME => 'A/B' ],
    [ 'a/b', qr/runcoach_store/, %r2, R2_ACCOUNT_ID => 'a/b' ],
    [ undef, qr/secret_key/, %r2, R2_SECRET_KEY => '' ],
)
{
    my ($value, $directive, %more) = @$case;
    my $title = join(' ', map { "$_=$more{$_}" } sort keys %more);

    env_sh();

    my ($status, $out) = nginx_t(%more);

    isnt($status, 0, "nginx -t: $title");

    my ($said) = $out =~ /(\[emerg\].*)/;

    like($said // '', $directive, "nginx -t: $title: names the directive");
    like($said // '', qr/\Q$value\E/, "nginx -t: $title: and the value")
        if defined $value;
}

$t->done();

###############################################################################

sub check { return check_env({}, @_) }


sub check_env
{
    my ($env, %change) = @_;

    my %h = (%http, map { $_ => $change{$_} }
                    grep { exists $http{$_} } keys %change);
    my %l = (%location, map { $_ => $change{$_} }
                        grep { exists $location{$_} } keys %change);

    return $t->configtest(<<"EOF", env => $env);

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    $h{zone}
    $h{redis}
    $h{issuer}
    $h{session}
    $h{policy}
    $h{store}
    $h{cors}

    server {
        listen  127.0.0.1:8080;

        location / {
            $l{auth}
            $l{fallback}
            $l{limit}
        }

        location /presign {
            $l{auth}
            $l{presign}
        }
    }
}

EOF
}


sub nginx_t
{
    my (%more) = @_;

    return $t->command([$t->nginx(), '-t', '-q', '-p', $home, '-c',
                        "$home/nginx.conf"], runas => 1,
                       env => { %env, %more, %{$t->preload()} });
}


sub env_sh
{
    my (%more) = @_;

    return $t->command(['sh', "$home/env.sh"], env => { %env, %more },
                       runas => 1);
}

###############################################################################
