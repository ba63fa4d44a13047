#!/usr/bin/perl

# Tests for "runcoach-sidecar doctor": all is well; and for each thing that is
# not, one line which says so.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use MIME::Base64 qw/ encode_base64 /;
use POSIX qw/ strftime /;
use Test::More;
use Test::Runcoach qw/ json_encode /;

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => { CORS_ORIGINS => undef });

my $jwks = $t->http_daemon(sub {
    my ($request) = @_;

    return [404, {}, ''] if $request->{target} !~ /^\/(?:late|soon)?jwks$/;

    my $date = time() + ($request->{target} =~ /late/ ? 30
                         : $request->{target} =~ /soon/ ? -300 : 0);

    return [200, { Date => http_date($date) },
            json_encode({ keys => [ { kty => 'RSA', kid => 'a' } ] })];
}, port => 8096);

my %good = (CLERK_JWKS_URL => 'http://' . $t->host(8096) . '/jwks');

###############################################################################

my ($status, $out) = doctor();

is($status, 0, 'all is well') or diag($out);
like($out, qr/^ok       $_: /m, "all is well: $_")
    for qw/ configuration database schema redis store cors clerk webhooks
            clock /;
like($out, qr/^0 failures, \d warnings$/m, 'all is well: sum');
is(scalar(glob("$t->{home}/store/fit-files/users/runcoach-doctor/*/*")
          // ''), '', 'the probe object is gone');

# what is not set

($status, $out) = doctor(DATABASE_URL => '', REDIS_URL => '',
                         R2_ACCESS_KEY => '', R2_SECRET_KEY => '',
                         R2_ENDPOINT_URL => '', CLERK_JWKS_URL => '',
                         CLERK_ISSUER => '', CLERK_WEBHOOK_SECRET => '');
is($status, 1, 'nothing is set');
like($out, qr/^failure  database: .*DATABASE_URL/m, 'nothing: database');
like($out, qr/^warning  redis: .*REDIS_URL/m, 'nothing: redis');
like($out, qr/^warning  store: .*R2_/m, 'nothing: store');
like($out, qr/^warning  clerk: .*CLERK_PUBLISHABLE_KEY/m, 'nothing: clerk');
like($out, qr/^warning  webhooks: .*CLERK_WEBHOOK_SECRET/m,
     'nothing: webhooks');
like($out, qr/^warning  clock: /m, 'nothing: clock');
like($out, qr/^1 failures, 5 warnings$/m, 'nothing: sum');

# what is wrong, one by one; the secrets are not told

for my $case (
    [ 'configuration', 'failure', qr/MAX_FILE_SIZE must be/,
      MAX_FILE_SIZE => 'x' ],
    [ 'configuration', 'failure', qr/CLERK_WEBHOOK_SECRET/,
      CLERK_WEBHOOK_SECRET => 'whsec_!' ],
    [ 'database', 'failure', qr/host/,
      DATABASE_URL => "postgresql://u:hunter2\@$t->{dir}.none/x" ],
    [ 'database', 'failure', qr/user/,
      DATABASE_URL => $t->{postgres}->url('nothing') ],
    [ 'redis', 'failure', qr/REDIS_URL/,
      REDIS_URL => "unix://:hunter2\@$t->{dir}/none.sock" ],
    [ 'store', 'failure', qr/PUT of a probe.*reason above/,
      R2_SECRET_KEY => 'hunter2' ],
    [ 'store', 'failure', qr/R2_SESSION_TOKEN/, R2_SESSION_TOKEN => 'hunter2' ],
    [ 'configuration', 'failure', qr/R2_URL_STYLE must be "path", for/,
      R2_URL_STYLE => 'virtual' ],
    [ 'configuration', 'failure', qr/R2_JURISDICTION must be "eu"/,
      R2_JURISDICTION => 'uk' ],
    [ 'store', 'failure', qr/PUT of a probe/,
      R2_ENDPOINT_URL => 'http://' . $t->host(8095) ],
    [ 'clerk', 'failure', qr/no keys/,
      CLERK_JWKS_URL => 'http://' . $t->host(8096) . '/none' ],
    [ 'clerk', 'failure', qr/no answer/,
      CLERK_JWKS_URL => 'http://' . $t->host(8095) . '/jwks' ],
    [ 'clerk', 'failure', qr/pk_test/, CLERK_JWKS_URL => '',
      CLERK_ISSUER => '', CLERK_PUBLISHABLE_KEY => 'pk_test_!' ],
    [ 'clerk', 'failure', qr{https://none\.invalid/\.well-known/jwks\.json},
      CLERK_JWKS_URL => '', CLERK_ISSUER => '', CLERK_PUBLISHABLE_KEY =>
          'pk_test_' . encode_base64('none.invalid$', '') ],
    [ 'clerk', 'failure', qr/CLERK_JWT_KEY/, CLERK_JWT_KEY => 'x' ],
    [ 'clock', 'warning', qr/(?:29|30|31) seconds behind/,
      CLERK_JWKS_URL => 'http://' . $t->host(8096) . '/latejwks' ],
    [ 'clock', 'failure', qr/(?:299|300|301) seconds ahead/,
      CLERK_JWKS_URL => 'http://' . $t->host(8096) . '/soonjwks' ],
)
{
    my ($what, $verdict, $re, %env) = @$case;
    my ($status, $out) = doctor(%env);
    my ($name) = grep { $env{$_} ne '' } sort keys %env;

    is($status, $verdict eq 'failure' ? 1 : 0, "$what, $name: exit status");
    like($out, qr/^$verdict +$what: .*$re/m, "$what, $name: said") or diag($out);
    unlike($out, qr/hunter2/, "$what, $name: no secret");
}

($status, $out) = doctor(CLERK_JWT_KEY => $t->key_pem('doctor'));
like($out, qr/^ok       clerk: .*2048 bits/m, 'a key as PEM') or diag($out);
($status, $out) = doctor(CLERK_JWT_KEY => $t->key_pem('doctor')
                                          =~ s/\n/\\n/gr);
like($out, qr/^ok       clerk: .*2048 bits/m, 'a key in one line');

# the schema is not there, or is another's

$t->sidecar_run(['migrate', 'down', 1]);
($status, $out) = doctor();
is($status, 1, 'a migration is missing');
like($out, qr/^failure  schema: 1 migrations.*migrate up/m,
     'a migration is missing: said');
$t->sidecar_run(['migrate', 'up']);
$t->sql("INSERT INTO edge_migrations (version, name) VALUES (999, 'later')");
($status, $out) = doctor();
is($status, 0, 'a migration is of later');
like($out, qr/^warning  schema: 1 migrations/m,
     'a migration is of later: said');

# rules for browsers

my $bucket = $t->http_daemon(sub {
    my ($request) = @_;
    my $file = "$t->{dir}/probe";

    if ($request->{method} eq 'OPTIONS') {
        my $origin = $request->{headers}{origin}[0];

        return [403, {}, ''] if $origin =~ /bad/;
        return [200, { 'Access-Control-Allow-Origin' => $origin,
                       'Access-Control-Allow-Methods' =>
                           $origin =~ /get/ ? 'GET, HEAD' : 'GET, PUT' }, ''];
    }

    if ($request->{method} eq 'PUT') {
        $t->write_file($file, $request->{body});
        return [200, {}, ''];
    }

    return [200, { ETag => '"x"' }, $t->read_file($file)];
}, port => 8094);

($status, $out) = doctor(R2_ENDPOINT_URL => 'http://' . $t->host(8094),
                         CORS_ORIGINS => 'https://a.example,https://bad.x,'
                                         . ' https://get.y');
is($status, 1, 'rules');
like($out, qr{^ok       cors: https://a\.example may PUT}m, 'rules: good');
like($out, qr{^failure  cors: https://bad\.x may not .*AllowedOrigins}m,
     'rules: none');
like($out, qr{^failure  cors: https://get\.y may not .*"GET, HEAD"}m,
     'rules: no PUT');
like($out, qr/^2 failures/m, 'rules: sum');

is(($t->sidecar_run(['doctor', 'x']))[0], 2, 'usage');

$t->done();

###############################################################################

sub doctor
{
    my (%env) = @_;

    return $t->sidecar_run(['doctor'], { %good, %env });
}


sub http_date
{
    return strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime($_[0]));
}

###############################################################################
