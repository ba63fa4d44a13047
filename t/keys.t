#!/usr/bin/perl

# Where keys come from: an issuer that goes away or answers with something else,
# files, secrets; and what issuers may say of people.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

$t->redis();

my ($shipped) = Test::Runcoach::slurp($t->root . '/conf/runcoach.conf')
                =~ m{^(    location /_jwks/ \{\n.*?\n    \}\n)}ms
    or die "conf/runcoach.conf has no /_jwks/\n";

my @faults = qw/ error missing html empty none json large endless gzip garbage
                 cut redirect silent /;
my @good = qw/ slow chunked ec ed right /;
my @bad = qw/ name authority /;

my $jwks = $t->jwks('issuer');
my $issuer = $t->http_daemon(sub { return [200, {}, $jwks] }, port => 8091);
my $ec_jwks = $t->jwks(map { jwk("ec$_" => "P-$_") } 256, 384, 521);
my $ed_jwks = $t->jwks(jwk(ed => 'Ed25519'));
my $faulty = $t->http_daemon(\&faulty, port => 8092);

certificates();

my %url = map { $_ => "http://127.0.0.1:8092/$_" } @faults, @good;

$url{right} = 'https://right.test/jwks';
$url{name} = 'https://wrong.test/jwks';
$url{authority} = 'https://authority.test/jwks';

my %more = (ec => 'algorithms=ES256,ES384,ES512', ed => 'algorithms=EdDSA');

$t->set(SHIPPED => $shipped);
$t->set(FAULTY => join("\n    ", map {
    "runcoach_issuer  $_  issuer=https://$_.runcoach.test  jwks=/_jwks/$_  "
    . "jwks_url=$url{$_}  jwks_cooldown=1s  " . ($more{$_} // '') . ';'
} @faults, @good, @bad));
$t->set(NAMES => join(' ', @faults, @good, @bad));

$t->write_file_expand('nginx.conf', $t->expand(<<'EOT'));

%%TEST_GLOBALS%%

worker_processes  1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:1m;
    runcoach_redis  %%REDIS_URL%%;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;
    runcoach_issuer  other  issuer=https://other.runcoach.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;
    runcoach_issuer  away   issuer=https://away.runcoach.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8099/jwks;

    runcoach_issuer  pem    issuer=https://pem.runcoach.test
                     key_file=keys/pem;
    runcoach_issuer  file   issuer=https://file.runcoach.test
                     key_file=%%TESTDIR%%/keys/jwks  algorithms=RS256,ES256;
    runcoach_issuer  raw    issuer=https://raw.runcoach.test
                     secret=env:SECRET_RAW;
    runcoach_issuer  b64    issuer=https://b64.runcoach.test
                     secret=env:SECRET_B64  secret_format=base64
                     algorithms=HS256,HS512;
    runcoach_issuer  hex    issuer=https://hex.runcoach.test
                     secret=env:SECRET_HEX  secret_format=hex;

    # Supabase: new projects sign with ES256, the old secret is still there

    runcoach_issuer  supa   issuer=https://supa.runcoach.test
                     key_file=keys/ec  algorithms=ES256
                     audience=authenticated  require=role=authenticated;
    runcoach_issuer  old    issuer=https://supa.runcoach.test
                     secret=env:SECRET_RAW
                     audience=authenticated  require=role=authenticated;

    %%FAULTY%%

    proxy_cache_path  %%TESTDIR%%/cache  keys_zone=jwks:1m;

    proxy_ssl_trusted_certificate  %%TESTDIR%%/tls/ca.pem;

    upstream right.test {
        server  127.0.0.1:8085;
    }

    upstream wrong.test {
        server  127.0.0.1:8085;
    }

    upstream authority.test {
        server  127.0.0.1:8086;
    }

    add_header  X-Who  "$runcoach_auth_method:$runcoach_user:$runcoach_clerk_user_id:$runcoach_user_id"  always;

    server {
        listen       127.0.0.1:8080;
        error_page   401          /unauthorized;
        error_page   502 504  =503  @unavailable;
        error_page   503            @unavailable;

        root  %%TESTDIR%%;

        location / {
            runcoach_auth  clerk other away session;
            try_files      /ok =404;
        }

        location /faulty {
            runcoach_auth  %%NAMES%%;
            try_files      /ok =404;
        }

        location /fixed {
            runcoach_auth  pem file raw b64 hex supa old;
            try_files      /ok =404;
        }

%%SHIPPED%%

        location = /redirect {
            runcoach_auth  clerk session;
            proxy_pass     http://127.0.0.1:8081;
        }

        location = /strict {
            runcoach_auth           clerk session;
            runcoach_auth_fallback  never;
            try_files               /ok =404;
        }

        location /_jwks {
            internal;

            proxy_pass             $runcoach_jwks_url;
            proxy_cache            jwks;
            proxy_cache_key        "$runcoach_jwks_url $runcoach_jwks_epoch";
            proxy_cache_valid      200 1s;
            proxy_cache_use_stale  error timeout http_500;
        }

        location = /unauthorized {
            return  401  "log in";
        }

        location @unavailable {
            return  503  "later";
        }
    }

    server {
        listen  127.0.0.1:8081;

        location / {
            add_header  X-Accel-Redirect  /strict;
            return      200;
        }
    }

    server {
        listen               127.0.0.1:8085 ssl;
        ssl_certificate      %%TESTDIR%%/tls/right.pem;
        ssl_certificate_key  %%TESTDIR%%/tls/right.key;

        location = /jwks {
            proxy_pass  http://127.0.0.1:8092/right;
        }
    }

    server {
        listen               127.0.0.1:8086 ssl;
        ssl_certificate      %%TESTDIR%%/tls/authority.pem;
        ssl_certificate_key  %%TESTDIR%%/tls/authority.key;

        location = /jwks {
            proxy_pass  http://127.0.0.1:8092/right;
        }
    }
}
EOT

my $secret = join('', map { chr(33 + $_) } 1 .. 64);

$t->write_file('ok', 'ok');
$t->write_file('fault', '');
$t->write_file('keys/pem', $t->key_pem('issuer'));
$t->write_file('keys/jwks', $t->jwks('issuer', jwk(ec => 'P-256')));
$t->write_file('keys/ec', scalar $t->command(['openssl', 'pkey', '-pubout',
    '-in', $t->key_of('keys_ec', 'P-256')]));

my %env = (
    SECRET_RAW => $secret,
    SECRET_B64 => MIME::Base64::encode_base64($secret, ''),
    SECRET_HEX => unpack('H*', $secret),
);

$t->run(env => \%env);

###############################################################################

my $token = $t->token(sub => 'user_1');

is($t->get('/', token => $token)->header('X-Who'), 'clerk:user_1:user_1:',
   'issuer named clerk');

# One issuer cannot speak for the users of another.

is($t->get('/', token => $t->token(iss => 'https://other.runcoach.test',
                                   sub => 'user_1'))->header('X-Who'),
   'other:user_1::', 'other issuer, no Clerk user');

# A failed fetch ends in an error page, which is not for the client.

my $away = $t->token(iss => 'https://away.runcoach.test');

for my $n (1, 2) {
    my $answer = $t->http(<<"EOR");
GET / HTTP/1.1
Host: localhost
Authorization: Bearer $away

GET / HTTP/1.1
Host: localhost
Authorization: Bearer $token
Connection: close

EOR

    my @lines = $answer =~ m{(HTTP/1\.1 \d+)}g;

    is("@lines", 'HTTP/1.1 503 HTTP/1.1 200', "issuer away $n, pipelined");
    like($answer, qr{\AHTTP/1\.1 503 [^\n]*\n.*\r\n\r\nlater}s,
         "issuer away $n, nothing before the status line");
}

# A verdict is not carried to a location with other rules.

my $session = $t->session(42);

is($t->get('/', cookie => $session)->header('X-Who'), 'session:42::42',
   'session');
is($t->get('/strict', cookie => $session)->status, 401, 'fallback never');
is($t->get('/redirect', cookie => $session)->status, 401,
   'fallback never, by an internal redirect');

# An issuer is down, somebody invents a key, nginx starts anew: what is cached
# still logs people in.

$t->stop_process($issuer);
sleep(2);

is($t->get('/', token => $t->token(kid => 'invented'))->status, 503,
   'issuer down, a key that may be new');

$t->reload();

is($t->get('/', token => $token)->status, 200, 'issuer down, cold worker');

# Fixed keys: nothing is fetched.

my $ec = { key => 'keys_ec', alg => 'ES256' };
my $authenticated = { aud => 'authenticated', role => 'authenticated' };

for my $row (
    [ 200, 'pem', {} ],
    [ 200, 'pem', { kid => 'any' } ],
    [ 200, 'pem', { kid => undef } ],
    [ 401, 'pem', { key => 'second' } ],
    [ 200, 'file', {} ],
    [ 200, 'file', { %$ec } ],
    [ 401, 'file', { kid => 'ins_second' } ],
    [ 401, 'file', { kid => undef } ],
    [ 200, 'raw', { alg => 'HS256', secret => $secret } ],
    [ 200, 'raw', { alg => 'HS256', secret => $secret, kid => undef } ],
    [ 401, 'raw', { alg => 'HS512', secret => $secret } ],
    [ 401, 'raw', { alg => 'HS256', secret => "${secret}x" } ],
    [ 401, 'raw', { alg => 'RS256' } ],
    [ 200, 'b64', { alg => 'HS512', secret => $secret } ],
    [ 200, 'hex', { alg => 'HS256', secret => $secret } ],
    [ 401, 'hex', { alg => 'HS256', secret => $env{SECRET_HEX} } ],
    [ 401, 'pem', { alg => 'HS256', secret => $t->key_pem('issuer') } ],
    [ 200, 'supa', { %$ec, %$authenticated } ],
    [ 401, 'supa', { %$ec, %$authenticated, role => 'anon' } ],
    [ 401, 'supa', { %$ec, aud => 'authenticated' } ],
    [ 200, 'supa', { alg => 'HS256', secret => $secret, %$authenticated } ],
    [ 401, 'supa', { alg => 'HS256', secret => $secret, %$authenticated,
                     role => 'service_role' } ],
    [ 401, 'supa', { alg => 'HS384', secret => $secret, %$authenticated } ])
{
    my ($status, $name, $spec) = @$row;
    my $forged = $t->forge({ iss => "https://$name.runcoach.test", %$spec });

    is($t->get('/fixed', token => $forged)->status, $status,
       "fixed: $name, " . join(' ', map { "$_=" . ($spec->{$_} // 'undef') }
                                    grep { !/secret/ } sort keys %$spec));
}

# A reload picks up what is in the files; a broken one changes nothing.

my $second = $t->token(iss => 'https://pem.runcoach.test', key => 'second');

$t->write_file('keys/pem', $t->key_pem('second'));
$t->reload();

is($t->get('/fixed', token => $second)->status, 200, 'reload: new file');

$t->write_file('keys/pem', "broken\n");
$t->allow_alert(qr/invalid key_file ".*pem" in runcoach_issuer "pem"/);

$t->log_contains(qr/invalid key_file "[^"]*pem"/, sub {
    kill('HUP', $t->{nginx}{pid});
}, 'reload: broken file');

is($t->get('/fixed', token => $second)->status, 200,
   'reload: broken file, the former configuration stays');

$t->write_file('keys/pem', $t->key_pem('second'));

# Answers which are no key set: each issuer has one of its own.

my %token = map { $_ => token_of($_) } @faults, @good, @bad;
my $from = -s "$t->{dir}/error.log";

for my $name (@good) {
    is($t->get('/faulty', token => $token{$name})->status, 200,
       "answer: $name");
}

for my $name (@faults, @bad) {
    my $r = $t->get('/faulty', token => $token{$name});

    is($r->status, 503, "fault: $name");
    is($r->body, 'later', "fault: $name, and nothing else");
}

is($t->get('/faulty', token => $token{$_})->status, 503, "fault: $_, again")
    for grep { $_ ne 'silent' } @faults, @bad;

my %logged;

$logged{$_}++ for substr($t->read_file('error.log'), $from)
                  =~ /\[error\] \S+ \S+ keys of issuer "(\w+)"/g;

is(join(' ', map { "$_:" . ($logged{$_} // 0) } @faults, @bad),
   join(' ', map { "$_:1" } @faults, @bad), 'fault: logged once');

is(scalar(grep { $_->{target} eq '/elsewhere' } $t->requests($faulty)), 0,
   'fault: a redirect is not followed');

# The fault is gone, and comes back: neither of both is remembered.

unlink("$t->{dir}/fault");

for my $name (@faults) {
    ok($t->wait_for(sub {
        return $t->get('/faulty', token => $token{$name})->status == 200;
    }, 5), "fault: $name, over");
}

$t->write_file('fault', '');
sleep(2);

for my $name (@faults) {
    next if $name eq 'silent';

    is($t->get('/faulty', token => token_of($name, kid => 'new'))->status, 503,
       "fault: $name, a key that may be new");
    is($t->get('/faulty', token => token_of($name))->status, 200,
       "fault: $name, a key that is known");
}

unlike($t->read_file('error.log'), qr/\Q$secret\E|\Q$env{SECRET_B64}\E/,
       'no secret in the log');

# What was asked for does not vanish because a list is empty.

my $conf = <<'EOT';

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone    runcoach:1m;
    runcoach_issuer  clerk  ISSUER;

    server {
        listen  127.0.0.1:8082;
    }
}
EOT

my $x = 'issuer=https://x';
my $j = "$x jwks=/_jwks";
my $pub = $t->key_pem('issuer');

$t->write_file('keys/text', "text\n");
$t->write_file('keys/empty', '');
$t->write_file('keys/none', '{"keys":[]}');
$t->write_file('keys/private', Test::Runcoach::slurp($t->key('issuer')));
$t->write_file('keys/two', $pub . $t->key_pem('second'));
$t->write_file('keys/large', ' ' x 70000);

for my $row (
    [ "$j authorized_parties=env:A", { A => ' , ' }, 'empty list " , "' ],
    [ "$j audience=env:A", { A => ',' }, 'empty list ","' ],
    [ "$j azp=require", {}, 'needs authorized_parties=' ],
    [ "$j azp_cookie=require", {}, 'azp_cookie "require"' ],
    [ "$j azp_header=never", {}, 'invalid azp_header "never"' ],
    [ "$j algorithms=RS257", {},
      'invalid algorithms "RS257" in runcoach_issuer, must be of RS256,RS384' ],
    [ "$j algorithms=none", {}, 'invalid algorithms "none"' ],
    [ "$j algorithms=RS256,HS256", {}, 'need a secret=' ],
    [ "$j algorithms=,", {}, 'empty list ","' ],
    [ "$x secret=env:A algorithms=RS256", { A => 'x' x 32 },
      'must be of HS256, HS384 and HS512' ],
    [ "$x secret=env:A", { A => 'x' x 31 }, 'must be 32 to 1024' ],
    [ "$x secret=env:A", { A => $pub }, 'no PEM' ],
    [ "$x secret=env:A", { A => 'x' x 1025 }, 'must be 32 to 1024' ],
    [ "$x secret=env:A secret_format=hex", { A => 'xy' x 32 }, 'must be hex' ],
    [ "$x secret=env:A secret_format=hex", { A => 'f' x 63 }, 'must be hex' ],
    [ "$x secret=env:A secret_format=base64", { A => '*' x 64 },
      'must be base64' ],
    [ "$x secret=env:A secret_format=text", { A => 'x' x 64 },
      'invalid secret_format "text"' ],
    [ "$x secret=env:A algorithms=HS512", { A => 'x' x 40 },
      'do not verify HS512, algorithms= must have one of HS256' ],
    [ "$j secret=env:A", { A => 'x' x 32 }, 'more than one kind of keys' ],
    [ "$x key=env:A secret=env:B", { A => $pub, B => 'x' x 32 },
      'more than one kind of keys' ],
    [ "$x key=env:A key_file=keys/pem", { A => $pub },
      'more than one kind of keys' ],
    [ "$x secret=env:A secret=env:B", { A => 'x' x 32, B => 'y' x 32 },
      'duplicate parameter "secret"' ],
    [ 'secret=env:A', { A => 'x' x 32 }, 'has keys but no issuer' ],
    [ 'key_file=keys/pem', {}, 'has keys but no issuer' ],
    [ "$x secret=env:NOT_SET", {}, 'has no keys' ],
    [ "$x key=env:A algorithms=ES256", { A => $pub },
      'do not verify ES256, algorithms= must have one of RS256' ],
    [ "$x key_file=keys/jwks algorithms=EdDSA", {},
      'do not verify EdDSA, algorithms= must have one of RS256,ES256' ],
    [ "$x key_file=keys/away", {}, 'keys/away" of runcoach_issuer failed' ],
    [ "$x key_file=keys", {}, 'is not a file' ],
    [ "$x key_file=keys/large", {}, 'too large' ],
    (map { [ "$x key_file=keys/$_", {}, 'one public key in PEM, or a JWK Set' ]
         } qw/ text empty none private two /),
    [ "$j accept=sessions", {},
      'invalid accept "sessions" in runcoach_issuer, must be of session,' ],
    [ "$j pending=maybe", {}, 'invalid pending "maybe"' ],
    [ "$j require=a..b", {}, 'invalid require "a..b"' ],
    [ "$j require=role=", {}, 'invalid require "role="' ],
    [ "$j require==x", {}, 'invalid require "=x"' ],
    [ "$j jwks_refresh=0", {}, 'invalid jwks_refresh "0"' ],
    [ "$j jwks_cooldown=x", {}, 'invalid jwks_cooldown "x"' ],
    [ "$j jwks_stale=1m", {}, 'must not be less than jwks_refresh' ])
{
    my ($parameters, $env, $error) = @$row;
    my ($status, $out) = $t->configtest($conf =~ s/ISSUER/$parameters/r,
                                        env => $env);

    isnt($status, 0, "configuration: $parameters");
    like($out, qr/\[emerg\].*\Q$error\E/, 'and why');
    unlike($out, qr/x{31}|y{31}|f{63}/, 'and no secret') if $env->{A};
}

for my $parameters (
    "$j require=email_verified=true,org.id,a.b.c=x=y accept=session,oauth",
    "$j azp=off azp_header=if-present pending=allow leeway=0 max_lifetime=0",
    "$j jwks_refresh=1m jwks_stale=1m jwks_cooldown=1s user=internal",
    "$j key_file=keys/pem",
    "$x/ jwks=/_jwks algorithms=RS256,RS384,RS512,PS256,PS384,PS512,ES256,"
    . 'ES384,ES512,EdDSA',
    "$x secret=" . ('z' x 64) . ' algorithms=HS256,HS384,HS512',
    'secret=env:NOT_SET issuer=env:NOT_SET')
{
    my ($status, $out) = $t->configtest($conf =~ s/ISSUER/$parameters/r);

    is($status, 0, "configuration: $parameters") or diag($out);
}

$t->done();

###############################################################################

# while there is a file "fault"; a key set otherwise

sub faulty
{
    my ($request, $client) = @_;

    my ($name) = $request->{target} =~ m{^/(\w+)$} or return [404, {}, ''];

    my $slow = ($name eq 'slow');

    sleep(1) if $slow;

    return [200, {}, $jwks] if $slow || $name =~ /^(?:right|elsewhere)$/;
    return [200, {}, $ec_jwks] if $name eq 'ec';
    return [200, {}, $ed_jwks] if $name eq 'ed';
    return [200, { 'Transfer-Encoding' => 'chunked' },
            join('', map { sprintf("%x\r\n%s\r\n", length, $_) }
                     $jwks =~ /.{1,7}/gs) . "0\r\n\r\n"]
        if $name eq 'chunked';

    return [200, {}, $jwks] unless -e "$t->{dir}/fault";

    return [500, {}, $jwks] if $name eq 'error';
    return [404, {}, $jwks] if $name eq 'missing';
    return [200, { 'Content-Type' => 'text/html' }, "<html>$jwks</html>"]
        if $name eq 'html';
    return [200, {}, ''] if $name eq 'empty';
    return [200, {}, '{"keys":[]}'] if $name eq 'none';
    return [200, {}, '{"keys":{}}'] if $name eq 'json';
    return [200, {}, ' ' x 1048576 . $jwks] if $name eq 'large';
    return [200, { 'Content-Encoding' => 'gzip' }, $jwks] if $name eq 'gzip';
    return [200, { 'Transfer-Encoding' => 'chunked' }, "xyz\r\n$jwks"]
        if $name eq 'garbage';
    return [302, { Location => '/elsewhere' }, ''] if $name eq 'redirect';
    return "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n$jwks"
        if $name eq 'cut';

    if ($name eq 'endless') {
        Test::Runcoach::send_all($client, "HTTP/1.1 200 OK\r\n\r\n$jwks");
        1 while Test::Runcoach::send_all($client, ' ' x 65536);
        return undef;
    }

    sleep(7);

    return undef;
}


# a JWK of a new name

sub jwk
{
    my ($name, $type) = @_;

    $t->key_of("keys_$name", $type);

    return $t->jwk_of("keys_$name");
}


sub token_of
{
    my ($name, %more) = @_;

    my %key = $name eq 'ec' ? (key => 'keys_ec384', alg => 'ES384')
              : $name eq 'ed' ? (key => 'keys_ed', alg => 'EdDSA') : ();

    return scalar $t->forge({ iss => "https://$name.runcoach.test", %key,
                              %more });
}


# two authorities, of which one is trusted; both know right.test

sub certificates
{
    my $dir = "$t->{dir}/tls";

    $t->write_file('tls/ext', 'subjectAltName=DNS:right.test,'
                              . "DNS:authority.test\n");

    for my $row ([ 'ca', 'right' ], [ 'other', 'authority' ]) {
        my ($ca, $name) = @$row;

        $t->command(['sh', '-ec', <<'EOF', 'sh', $ca, $name], cwd => $dir);
openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=$1" -days 2 \
    -keyout "$1.key" -out "$1.pem"
openssl req -newkey rsa:2048 -nodes -subj /CN=right.test \
    -keyout "$2.key" -out "$2.csr"
openssl x509 -req -in "$2.csr" -CA "$1.pem" -CAkey "$1.key" -set_serial 1 \
    -days 2 -extfile ext -out "$2.pem"
EOF

        -s "$dir/$name.pem" or die "openssl made no certificate\n";
    }
}

###############################################################################
