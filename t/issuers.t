#!/usr/bin/perl

# Tests for several issuers: whose token it is decides the exact text of "iss",
# before any key is looked at; Supabase with new and old keys; shared secrets;
# keys in files; and all that is refused when the configuration is read.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ hmac_sha256 /;
use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach qw/ b64url json_encode unb64url /;

my $t = Test::Runcoach->new();

$t->redis();
$t->key_of('issuers_p256', 'P-256');
$t->key_of('issuers_other', 'P-256');
$t->key_of('issuers_ed', 'Ed25519');

my %secret = (
    SUPABASE => 'super-secret-jwt-token-with-at-least-32-characters-long',
    RAW => 'raw bytes, "$quoted"; {#} and \\: 32+',
    BYTES => join('', map { chr(255 - $_ * 3) } 0 .. 47),
    LONG => 'x' x 64,
);

my %env = (
    PEM => $t->key_pem('issuer'),
    ESCAPED => $t->key_pem('issuer') =~ s/\n/\\n/gr,
    SECOND_PEM => $t->key_pem('second'),
    P256_PEM => scalar $t->command(['openssl', 'pkey', '-in',
        $t->key_of('issuers_p256', 'P-256'), '-pubout']),
    JWT_SUPABASE => $secret{SUPABASE},
    JWT_RAW => $secret{RAW},
    JWT_BASE64 => encode_base64($secret{BYTES}, ''),
    JWT_BASE64URL => b64url($secret{BYTES}),
    JWT_HEX => unpack('H*', $secret{BYTES}),
    JWT_UPPER => uc(unpack('H*', $secret{BYTES})),
    JWT_LONG => $secret{LONG},
    JWT_OTHER => 'another secret of 32 bytes or more',
    SHORT => 'x' x 31,
    SHORT_HEX => 'ab' x 31,
    SHORT_BASE64 => encode_base64('x' x 31, ''),
    NOT_HEX => 'xy' x 40,
    ODD_HEX => 'a' x 81,
    NOT_BASE64 => '****' x 20,
    HUGE => 'x' x 4000,
    PRIVATE => $t->read_file($t->key('issuer')),
    PUBLIC_LINE => $t->key_pem('issuer') =~ s/\n//gr,
);

# a shared secret has no business in a key set, and is not taken from there

my $jwks = $t->jwks($t->jwk_of('issuers_p256', kid => 'new'),
                    $t->jwk('issuer', kid => 'rsa'),
                    { kty => 'oct', kid => 'oct', alg => 'HS256',
                      k => b64url($env{JWT_OTHER}) });
my $issuer = $t->http_daemon(sub {
    return [200, {}, $_[0]{target} =~ /second/ ? $t->jwks('second') : $jwks];
}, port => 8091);

$t->write_file('keys/public.pem', $env{PEM});
$t->write_file('keys/set.json', "\n \t" . $t->jwks('second',
               $t->jwk_of('issuers_ed')));
$t->write_file('keys/changing', $env{PEM});
$t->write_file('keys/empty', '');
$t->write_file('keys/large', 'x' x 100000);
$t->write_file('keys/private.pem', $env{PRIVATE});
$t->write_file('keys/nothing.json', '{"keys":[]}');

my @exact = ('https://a.test', 'https://a.test/', 'https://A.test',
             'https://a.test.b', 'https://a', 'a.test', 'http://a.test',
             'https://a.test:443', 'https://a.test/%61', 'A');
my @numbered = map { sprintf('https://n%02d.test', $_) } 0 .. 29;

$t->set(EXACT => join('', map {
    "    runcoach_issuer  exact$_  issuer=$exact[$_]  key=env:PEM;\n"
} 0 .. $#exact));
$t->set(EXACTS => join(' ', map { "exact$_" } 0 .. $#exact));
$t->set(NUMBERED => join('', map {
    "    runcoach_issuer  number$_  issuer=$numbered[$_]\n"
    . "        secret=env:JWT_LONG;\n"
} 0 .. $#numbered));
$t->set(NUMBERS => join(' ', map { "number$_" } 0 .. $#numbered));

$t->write_file_expand('nginx.conf', <<'EOT');

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:4m;
    runcoach_redis  %%REDIS_URL%%  timeout=2s;

    runcoach_issuer  clerk     issuer=https://clerk.runcoach.test  key=env:PEM;

    runcoach_issuer  supabase  issuer=https://ref.supabase.test/auth/v1
                               jwks=/_jwks  jwks_url=http://127.0.0.1:8091/x
                               algorithms=ES256,RS256
                               audience=authenticated
                               require=role=authenticated;
    runcoach_issuer  legacy    issuer=https://ref.supabase.test/auth/v1
                               secret=env:JWT_SUPABASE
                               audience=authenticated
                               require=role=authenticated;

    runcoach_issuer  raw       issuer=https://raw.test
                               secret=env:JWT_RAW;
    runcoach_issuer  said      issuer=https://said.test
                               secret=env:JWT_RAW        secret_format=raw;
    runcoach_issuer  base64    issuer=https://base64.test
                               secret=env:JWT_BASE64     secret_format=base64;
    runcoach_issuer  base64url issuer=https://base64url.test
                               secret=env:JWT_BASE64URL  secret_format=base64;
    runcoach_issuer  hex       issuer=https://hex.test
                               secret=env:JWT_HEX        secret_format=hex;
    runcoach_issuer  upper     issuer=https://upper.test
                               secret=env:JWT_UPPER      secret_format=hex;
    runcoach_issuer  text      issuer=https://text.test
                               secret=env:JWT_HEX;
    runcoach_issuer  digests   issuer=https://digests.test
                               secret=env:JWT_LONG
                               algorithms=HS256,HS384,HS512;
    runcoach_issuer  hs512     issuer=https://hs512.test
                               secret=env:JWT_LONG  algorithms=HS512;

    runcoach_issuer  alpha     issuer=https://alpha.test  key=env:PEM;
    runcoach_issuer  beta      issuer=https://beta.test
                               jwks=/_jwks
                               jwks_url=http://127.0.0.1:8091/second;

    runcoach_issuer  internal  issuer=https://internal.test
                               secret=env:JWT_LONG  user=internal;

    runcoach_issuer  pem       issuer=https://pem.test
                               key_file=keys/public.pem;
    runcoach_issuer  set       issuer=https://set.test
                               key_file=%%TESTDIR%%/keys/set.json
                               algorithms=RS256,EdDSA;
    runcoach_issuer  changing  issuer=https://changing.test
                               key_file=keys/changing;
    runcoach_issuer  escaped   issuer=https://escaped.test
                               key=env:ESCAPED;
    runcoach_issuer  ec        issuer=https://ec.test
                               key=env:P256_PEM  algorithms=ES256;

    runcoach_issuer  off       issuer=env:NOT_SET  secret=env:NOT_SET;

%%EXACT%%
%%NUMBERED%%

    add_header  X-User    $runcoach_user           always;
    add_header  X-Method  $runcoach_auth_method    always;
    add_header  X-Clerk   $runcoach_clerk_user_id  always;
    add_header  X-Number  $runcoach_user_id        always;
    add_header  X-Reason  $runcoach_auth_reason    always;

    server {
        listen  127.0.0.1:8080;

        location /exact     { runcoach_auth %%EXACTS%%;      empty_gif; }
        location /numbered  { runcoach_auth %%NUMBERS%%;     empty_gif; }
        location /supabase  { runcoach_auth supabase legacy; empty_gif; }
        location /reverse   { runcoach_auth legacy supabase; empty_gif; }
        location /new       { runcoach_auth supabase;        empty_gif; }
        location /old       { runcoach_auth legacy;          empty_gif; }
        location /three     { runcoach_auth clerk supabase legacy session; empty_gif; }
        location /raw       { runcoach_auth raw;             empty_gif; }
        location /said      { runcoach_auth said;            empty_gif; }
        location /base64    { runcoach_auth base64;          empty_gif; }
        location /base64url { runcoach_auth base64url;       empty_gif; }
        location /hex       { runcoach_auth hex;             empty_gif; }
        location /upper     { runcoach_auth upper;           empty_gif; }
        location /text      { runcoach_auth text;            empty_gif; }
        location /digests   { runcoach_auth digests;         empty_gif; }
        location /hs512     { runcoach_auth hs512;           empty_gif; }
        location /cross     { runcoach_auth alpha beta;      empty_gif; }
        location /alpha     { runcoach_auth alpha;           empty_gif; }
        location /internal  { runcoach_auth internal;        empty_gif; }
        location /pem       { runcoach_auth pem;             empty_gif; }
        location /set       { runcoach_auth set;             empty_gif; }
        location /changing  { runcoach_auth changing;        empty_gif; }
        location /escaped   { runcoach_auth escaped;         empty_gif; }
        location /ec        { runcoach_auth ec;              empty_gif; }

        location /_jwks {
            internal;
            proxy_pass  $runcoach_jwks_url;
        }
    }
}
EOT

# no issuer may be called like something else

$t->write_file('nginx.conf', $t->read_file('nginx.conf')
               =~ s/runcoach_issuer  off /runcoach_issuer  unset /r);

$t->run(env => \%env);

my $now = int(time());

###############################################################################

# The issuer is an exact text.

my @tokens = $t->forge(map { { iss => $_ } } @exact,
    'https://a.test//', 'https://a.tes', 'HTTPS://a.test', ' https://a.test',
    'https://a.test ', "https://a.test\0", 'https://a.test#', 'https://', '',
    'a', '*', 'https://a.test/a', "https://a.test\n");

for my $i (0 .. $#exact) {
    is(method('/exact', $tokens[$i]), "exact$i", "issuer \"$exact[$i]\"");
}

like(method('/exact', $tokens[$_]), qr/^401 token-invalid/,
     "no issuer, $_") for @exact .. $#tokens;

for my $i (0 .. $#numbered) {
    is(method('/numbered', hs('LONG', iss => $numbered[$i])), "number$i",
       "issuer $i of thirty");
}

is(method('/numbered', hs('LONG', iss => 'https://n30.test')),
   '401 token-invalid-issuer', 'none of thirty');

###############################################################################

# Supabase: new tokens by a key set, old ones by the project's secret.

my $uuid = '2f1b0c9e-4c55-4b2a-9c57-0f5a3c1d2e3f';
my %claims = (
    iss => 'https://ref.supabase.test/auth/v1', sub => $uuid, sid => undef,
    v => undef, aud => 'authenticated', role => 'authenticated',
    email => 'a@example.com', session_id => $uuid, aal => 'aal1',
    is_anonymous => JSON::PP::false, app_metadata => { provider => 'email' },
    user_metadata => { role => 'admin' }, amr => [ { method => 'otp' } ],
);
my %es = (%claims, alg => 'ES256', key => 'issuers_p256', kid => 'new');
my %rs = (%claims, key => 'issuer', kid => 'rsa');
my %hs = (%claims, alg => 'HS256', secret => $secret{SUPABASE},
          kid => undef);

# what an old project hands out for its browsers and its servers

my %api = (aud => undef, sub => undef, session_id => undef, email => undef,
           ref => 'ref');
my $decade = $now + 315360000;

my @rows = (

    # name, what it is made of, with both, with the set, with the secret

    [ 'ES256', { %es }, 'supabase', 'supabase',
      '401 token-invalid-algorithm' ],
    [ 'RS256', { %rs }, 'supabase', 'supabase',
      '401 token-invalid-algorithm' ],
    [ 'HS256', { %hs }, 'legacy', '401 token-invalid-algorithm', 'legacy' ],
    [ 'HS256 with a kid', { %hs, kid => 'abc' }, 'legacy',
      '401 token-invalid-algorithm', 'legacy' ],
    [ 'HS256 with the kid of another', { %hs, kid => 'new' }, 'legacy',
      '401 token-invalid-algorithm', 'legacy' ],
    [ 'HS256 by another secret', { %hs, secret => $env{JWT_OTHER} },
      '401 token-invalid-signature', '401 token-invalid-algorithm',
      '401 token-invalid-signature' ],
    [ 'HS256 by the secret in the set',
      { %hs, secret => $env{JWT_OTHER}, kid => 'oct' },
      '401 token-invalid-signature', '401 token-invalid-algorithm',
      '401 token-invalid-signature' ],
    [ 'HS256 by the public key', { %hs, secret => $env{P256_PEM} },
      '401 token-invalid-signature', '401 token-invalid-algorithm',
      '401 token-invalid-signature' ],
    [ 'HS256 by its bytes', { %hs, kid => 'new',
                              secret => $t->spki('issuers_p256') },
      '401 token-invalid-signature', '401 token-invalid-algorithm',
      '401 token-invalid-signature' ],
    [ 'HS256 by nothing', { %hs, secret => '' },
      '401 token-invalid-signature', '401 token-invalid-algorithm',
      '401 token-invalid-signature' ],
    [ 'HS384', { %hs, alg => 'HS384' }, '401 token-invalid-algorithm',
      '401 token-invalid-algorithm', '401 token-invalid-algorithm' ],
    [ 'none', { %hs, alg => 'none' }, qr/^401 token-invalid/,
      qr/^401 token-invalid/, qr/^401 token-invalid/ ],
    [ 'ES256 by another key', { %es, key => 'issuers_other' },
      '401 token-invalid-signature', '401 token-invalid-signature',
      '401 token-invalid-algorithm' ],
    [ 'ES256 with the kid of RSA', { %es, kid => 'rsa' },
      qr/^401 (?:jwk|token)-/, qr/^401 (?:jwk|token)-/,
      '401 token-invalid-algorithm' ],
    [ 'RS256 with the kid of ES256', { %rs, kid => 'new' },
      qr/^401 (?:jwk|token)-/, qr/^401 (?:jwk|token)-/,
      '401 token-invalid-algorithm' ],

    (map { my ($name, $of) = @$_; (
        [ "anon key, $name", { %$of, %api, iss => 'supabase',
                               role => 'anon', exp => $decade },
          ('401 token-invalid-issuer') x 3 ],
        [ "service_role key, $name", { %$of, %api, iss => 'supabase',
                                       role => 'service_role',
                                       exp => $decade },
          ('401 token-invalid-issuer') x 3 ],
        [ "anon key with our issuer, $name", { %$of, %api, role => 'anon' },
          (qr/^401 token-invalid/) x 3 ],
        [ "service_role with our issuer, $name",
          { %$of, %api, role => 'service_role' },
          (qr/^401 token-invalid/) x 3 ],
        [ "anon with all the rest, $name", { %$of, role => 'anon' },
          (qr/^401 token-/) x 3 ],
        [ "service_role with all the rest, $name",
          { %$of, role => 'service_role' }, (qr/^401 token-/) x 3 ],
        [ "role of the user's own, $name",
          { %$of, role => undef,
            user_metadata => { role => 'authenticated' } },
          (qr/^401 token-/) x 3 ],
        [ "no sub, $name", { %$of, sub => undef },
          (qr/^401 token-invalid-/) x 3 ],
        [ "empty sub, $name", { %$of, sub => '' },
          (qr/^401 token-invalid-/) x 3 ],
        [ "no aud, $name", { %$of, aud => undef },
          (qr/^401 token-invalid-/) x 3 ],
        [ "ten years, $name", { %$of, exp => $decade },
          (qr/^401 token-invalid-/) x 3 ],
        [ "issuer of another project, $name",
          { %$of, iss => 'https://other.supabase.test/auth/v1' },
          ('401 token-invalid-issuer') x 3 ],
        [ "issuer with a slash, $name",
          { %$of, iss => 'https://ref.supabase.test/auth/v1/' },
          ('401 token-invalid-issuer') x 3 ],
    ) } [ 'ES256', \%es ], [ 'HS256', \%hs ]),
);

my @made = $t->forge(map { $_->[1] } @rows);

for my $i (0 .. $#rows) {
    my ($name, undef, $both, $set, $secret) = @{$rows[$i]};

    for my $case ([ '/supabase', $both ], [ '/reverse', $both ],
                  [ '/three', $both ], [ '/new', $set ],
                  [ '/old', $secret ])
    {
        my ($path, $expected) = @$case;
        my $got = method($path, $made[$i]);

        ref($expected) ? like($got, $expected, "$path: $name")
                       : is($got, $expected, "$path: $name");
    }
}

for my $i (0, 2) {
    my $r = $t->get('/three', token => $made[$i]);

    is($r->header('X-User'), $uuid, "Supabase $rows[$i][0]: user");
    is($r->header('X-Clerk'), undef, "Supabase $rows[$i][0]: not Clerk's");
    is($r->header('X-Number'), undef, "Supabase $rows[$i][0]: no number");
}

# each issuer speaks for itself, next to the others

my $r = $t->get('/three', token => $t->token());

is($r->header('X-Method'), 'clerk', 'Clerk next to Supabase');
is($r->header('X-Clerk'), 'user_test', 'Clerk: user of its own');

$r = $t->get('/three', cookie => $t->session(42));

is($r->header('X-Method'), 'session', 'session next to Supabase');
is($r->header('X-Number'), 42, 'session: number');

is($t->get('/three', cookie => "__session=$made[0]")->header('X-Method'),
   'supabase', 'Supabase by cookie');

###############################################################################

# Shared secrets: raw bytes unless said otherwise, and never guessed.

for my $case (
    [ 'raw', $secret{RAW}, $secret{RAW} . "\n" ],
    [ 'said', $secret{RAW}, '' ],
    [ 'base64', $secret{BYTES}, $env{JWT_BASE64} ],
    [ 'base64url', $secret{BYTES}, $env{JWT_BASE64URL} ],
    [ 'hex', $secret{BYTES}, $env{JWT_HEX} ],
    [ 'upper', $secret{BYTES}, $env{JWT_UPPER} ],
    [ 'text', $env{JWT_HEX}, $secret{BYTES} ],
    [ 'digests', $secret{LONG}, 'x' x 63 ],
)
{
    my ($name, $right, $wrong) = @$case;

    is(method("/$name", $t->forge({ alg => 'HS256', secret => $right,
                                    iss => "https://$name.test" })), $name,
       "secret: $name");
    is(method("/$name", $t->forge({ alg => 'HS256', secret => $wrong,
                                    iss => "https://$name.test" })),
       '401 token-invalid-signature', "secret: $name, not that one");
}

for my $alg (qw/ HS256 HS384 HS512 RS256 ES256 none /) {
    my $hs = $alg =~ /^HS/;
    my %spec = (alg => $alg, secret => $secret{LONG},
                $alg eq 'ES256' ? (key => 'issuers_p256') : ());

    like(method('/digests', $t->forge({ %spec,
                                        iss => 'https://digests.test' })),
         $hs ? qr/^digests$/ : qr/^401 token-invalid/, "digests: $alg");
    like(method('/hs512', $t->forge({ %spec, iss => 'https://hs512.test' })),
         $alg eq 'HS512' ? qr/^hs512$/ : qr/^401 token-invalid/,
         "HS512 alone: $alg");
}

# an HMAC that is cut, or of another length

for my $change (sub { substr($_[0], 0, 16) }, sub { substr($_[0], 0, 31) },
                sub { $_[0] . "\0" }, sub { '' },
                sub { "\0" x 32 },
                sub { unpack('H*', $_[0]) })
{
    like(method('/raw', $t->forge({ alg => 'HS256', secret => $secret{RAW},
                                    iss => 'https://raw.test',
                                    signature => $change })),
         qr/^401 token-invalid/, 'HMAC of another length');
}

###############################################################################

# Keys of one issuer are not keys of another, whatever their kid.

for my $case (
    [ 'alpha by its own', 'alpha', 'issuer', 'ins_issuer', 'alpha' ],
    [ 'beta by its own', 'beta', 'second', 'ins_second', 'beta' ],
    [ 'alpha by the key of beta', 'alpha', 'second', 'ins_issuer', 0 ],
    [ 'alpha by the key of beta, its kid', 'alpha', 'second', 'ins_second',
      0 ],
    [ 'beta by the key of alpha', 'beta', 'issuer', 'ins_issuer', 0 ],
    [ 'beta by the key of alpha, its own kid', 'beta', 'issuer',
      'ins_second', 0 ],
)
{
    my ($name, $iss, $key, $kid, $expected) = @$case;
    my $token = $t->token(iss => "https://$iss.test", key => $key,
                          kid => $kid);

    for my $n (1, 2) {
        like(method('/cross', $token), $expected
             ? qr/^$expected$/
             : qr/^401 (?:jwk-kid-mismatch|token-invalid-signature)$/,
             "$name, $n");
    }
}

is(method('/alpha', $t->token(iss => 'https://beta.test', key => 'second')),
   '401 token-invalid-issuer', 'beta where only alpha may come');

###############################################################################

# An issuer which speaks for our own users says numbers, and no other may.

for my $case (
    [ '42', 200 ], [ '1', 200 ], [ '2147483648', 200 ],
    [ '9223372036854775807', 200 ],
    [ '9223372036854775808', 401 ], [ '99999999999999999999', 401 ],
    [ '0', 401 ], [ '-1', 401 ], [ '+1', 401 ], [ '1.0', 401 ],
    [ '1e3', 401 ], [ ' 1', 401 ], [ '0x2a', 401 ], [ 'user_42', 401 ],
    [ '42a', 401 ], [ '', 401 ],
)
{
    my ($sub, $status) = @$case;
    my $r = $t->get('/internal', token => hs('LONG', sub => $sub,
                                             iss => 'https://internal.test'));

    is($r->status, $status, "user=internal: \"$sub\"");
    is($r->header('X-Number'), $status == 200 ? $sub : undef,
       "user=internal: \"$sub\", number");
    is($r->header('X-Clerk'), undef, "user=internal: \"$sub\", not Clerk's");
    is($r->header('X-Method'), $status == 200 ? 'internal' : undef,
       "user=internal: \"$sub\", method");
}

like(method('/internal', $t->token(alg => 'HS256', secret => $secret{LONG},
            payload => '{"iss":"https://internal.test","sub":42,"exp":'
            . ($now + 60) . '}')), qr/^401/, 'user=internal: a number');
is(method('/numbered', hs('LONG', sub => '42', iss => $numbered[0])),
   '401 token-invalid-subject', 'a number, and no user=internal');

###############################################################################

# Keys in files

is(method('/pem', $t->token(iss => 'https://pem.test')), 'pem', 'PEM file');
is(method('/pem', $t->token(iss => 'https://pem.test', key => 'second')),
   '401 token-invalid-signature', 'PEM file, another key');
is(method('/set', $t->token(iss => 'https://set.test', key => 'second')),
   'set', 'key set in a file');
is(method('/set', $t->forge({ iss => 'https://set.test', alg => 'EdDSA',
                              key => 'issuers_ed', kid => 'ins_issuers_ed' })),
   'set', 'key set in a file, another kind');
like(method('/set', $t->token(iss => 'https://set.test')),
     qr/^401 jwk-kid-mismatch/, 'key set in a file, another key');
is(method('/escaped', $t->token(iss => 'https://escaped.test')), 'escaped',
   'PEM in one line');
is(method('/ec', $t->forge({ iss => 'https://ec.test', alg => 'ES256',
                             key => 'issuers_p256' })), 'ec', 'P-256 in PEM');

my $old = $t->token(iss => 'https://changing.test');
my $new = $t->token(iss => 'https://changing.test', key => 'second');

is(method('/changing', $old), 'changing', 'file: before');
like(method('/changing', $new), qr/^401/, 'file: before, the next key');

$t->write_file('keys/changing', $env{SECOND_PEM});

is(method('/changing', $old), 'changing', 'file: not before a reload');

$t->reload();

is(method('/changing', $new), 'changing', 'file: after a reload');
like(method('/changing', $old), qr/^401 token-invalid-signature/,
     'file: after a reload, the old key');

# a file which is broken stops the reload and nothing else

$t->allow_alert(qr/key_file/);
$t->write_file('keys/changing', 'x');

$t->log_contains(qr/\[emerg\].*key_file/, sub {
    kill('HUP', $t->{nginx}{pid});
}, 'file: broken');

is(method('/changing', $new), 'changing', 'file: broken, the last one stays');

$t->write_file('keys/changing', $env{SECOND_PEM});

###############################################################################

# Mistakes are found before anything is served, and told without a secret.

my $conf = <<'EOT';

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone    runcoach:1m;
    ISSUERS

    server {
        listen  127.0.0.1:8082;

        location / {
            runcoach_auth  NAMES;
            empty_gif;
        }

        location /_jwks {
            internal;
            proxy_pass  $runcoach_jwks_url;
        }
    }
}
EOT

my $x = 'issuer=https://x';

for my $case (

    # what is right

    [ "$x secret=env:JWT_RAW" ],
    [ "$x secret=env:JWT_HEX secret_format=hex algorithms=HS256,HS384" ],
    [ "$x key=env:PEM algorithms=RS256,PS256,RS512" ],
    [ "$x key_file=keys/set.json algorithms=EdDSA" ],
    [ "$x jwks=/_jwks algorithms=ES256,RS256" ],
    [ 'issuer=env:NOT_SET secret=env:NOT_SET' ],

    # and what is not, with words that tell so

    [ "$x secret=env:SHORT", 'secret.*32' ],
    [ "$x secret=env:SHORT_HEX secret_format=hex", 'secret.*32' ],
    [ "$x secret=env:SHORT_BASE64 secret_format=base64", 'secret.*32' ],
    [ "$x secret=env:HUGE", 'secret' ],
    [ "$x secret=env:NOT_HEX secret_format=hex", 'secret.*hex' ],
    [ "$x secret=env:ODD_HEX secret_format=hex", 'secret.*hex' ],
    [ "$x secret=env:NOT_BASE64 secret_format=base64", 'secret.*base64' ],
    [ "$x secret=env:JWT_RAW secret_format=utf8", 'secret_format "utf8"' ],
    [ "$x secret=env:PEM", 'secret.*PEM' ],
    [ "$x secret=env:ESCAPED", 'secret.*PEM' ],
    [ "$x secret=env:PUBLIC_LINE", 'secret.*PEM' ],
    [ "$x secret=env:PRIVATE", 'secret.*PEM' ],
    [ "$x secret=env:JWT_HEX secret_format=hex algorithms=HS512",
      'HS512' ],
    [ "$x secret=env:JWT_RAW algorithms=RS256", 'algorithms.*HS256' ],
    [ "$x secret=env:JWT_RAW algorithms=HS256,RS256", 'algorithms.*HS256' ],
    [ "$x key=env:PEM algorithms=HS256", 'HS256.*secret' ],
    [ "$x key=env:PEM algorithms=RS256,HS256", 'HS256.*secret' ],
    [ "$x jwks=/_jwks algorithms=HS256", 'HS256.*secret' ],
    [ "$x key_file=keys/set.json algorithms=HS512,RS256", 'HS512.*secret' ],
    [ "$x secret=env:NOT_SET algorithms=HS256", 'HS256.*secret' ],
    [ "$x secret=env:NOT_SET", 'no keys' ],
    [ "$x", 'no keys' ],
    [ "$x secret=env:JWT_RAW key=env:PEM", 'kind' ],
    [ "$x secret=env:JWT_RAW jwks=/_jwks", 'kind' ],
    [ "$x secret=env:JWT_RAW key_file=keys/set.json", 'kind' ],
    [ "$x key=env:PEM key_file=keys/set.json", 'kind' ],
    [ "$x key=env:PEM algorithms=ES256", 'algorithms|ES256' ],
    [ "$x key=env:P256_PEM", 'algorithms|RS256' ],
    [ "$x key=env:P256_PEM algorithms=ES384", 'algorithms|ES384' ],
    [ "$x key=env:PEM algorithms=none", 'algorithms.*none' ],
    [ "$x key=env:PEM algorithms=rs256", 'algorithms.*rs256' ],
    [ "$x key=env:PEM algorithms=RS256,ES256K", 'algorithms.*ES256K' ],
    [ "$x key=env:PEM algorithms=,", 'algorithms' ],
    [ "$x key=env:PRIVATE", 'key' ],
    [ "$x key=env:JWT_RAW", 'key' ],
    [ "$x key_file=keys/absent", 'key_file.*absent' ],
    [ "$x key_file=keys", 'key_file' ],
    [ "$x key_file=keys/empty", 'key_file' ],
    [ "$x key_file=keys/large", 'key_file' ],
    [ "$x key_file=keys/private.pem", 'key_file' ],
    [ "$x key_file=keys/nothing.json", 'key_file' ],
    [ "$x key=env:PEM user=external", 'user "external"' ],
    [ "$x secret=env:JWT_RAW secret=env:JWT_LONG", 'secret' ],
    [ "$x secrets=env:JWT_RAW", 'secrets' ],
    [ 'secret=env:JWT_RAW', 'issuer=' ],
    [ "$x $x key=env:PEM", 'issuer' ],
    [ "$x key=env:PEM; runcoach_issuer one issuer=https://y key=env:PEM",
      'duplicate.*one' ],
    [ "$x key=env:PEM; runcoach_issuer two $x key=env:SECOND_PEM",
      'https://x|RS256', 'one two' ],
    [ "$x secret=env:JWT_RAW; runcoach_issuer two $x secret=env:JWT_LONG",
      'https://x|HS256', 'one two' ],
    [ "$x jwks=/_jwks algorithms=ES256,RS256; "
      . "runcoach_issuer two $x key=env:PEM algorithms=RS256,RS512",
      'https://x|RS256', 'one two' ],

    # the same text with other algorithms, or where they never meet

    [ "$x jwks=/_jwks algorithms=ES256,RS256; "
      . "runcoach_issuer two $x secret=env:JWT_RAW", undef, 'one two' ],
    [ "$x jwks=/_jwks algorithms=ES256; "
      . "runcoach_issuer two $x key=env:PEM", undef, 'one two' ],
)
{
    my ($parameters, $error, $names) = @$case;
    my $issuers = "runcoach_issuer  one  $parameters;";
    my ($status, $out) = $t->configtest($conf =~ s/ISSUERS/$issuers/r
                                   =~ s/NAMES/$names ? $names : 'one'/er,
                                   env => \%env);

    if (!defined $error) {
        is($status, 0, "configuration: $parameters") or diag($out);
        next;
    }

    isnt($status, 0, "configuration: $parameters");
    like($out, qr/\[emerg\].*(?:$error)/, 'and why');

    for my $name (qw/ SHORT SHORT_HEX SHORT_BASE64 NOT_HEX ODD_HEX JWT_RAW
                      JWT_HEX JWT_LONG PRIVATE /)
    {
        my ($part) = $env{$name} =~ /([^\n]{12,24})\n?\z/;

        unlike($out, qr/\Q$part\E/, "and not $name") if $out =~ /\Q$part\E/;
    }
}

# what was said is in no log either

my $log = $t->read_file('error.log');

ok(index($log, $_) < 0, 'log: no secret')
    for grep { length > 20 } @secret{qw/ SUPABASE RAW /}, $env{JWT_HEX},
        $env{JWT_OTHER};

$t->done();

###############################################################################

# the method, or the status and why

sub method
{
    my ($path, $token) = @_;

    my $r = $t->get($path, token => $token);

    return $r->status == 200 ? $r->header('X-Method')
           : $r->status . ' ' . ($r->header('X-Reason') // '');
}


sub hs
{
    my ($name, %claims) = @_;

    return $t->token(alg => 'HS256', secret => $secret{$name}, kid => undef,
                     %claims);
}

###############################################################################
