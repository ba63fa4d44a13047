#!/usr/bin/perl

# Tests for authentication: tokens by header and cookie, key sets, sessions.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ b64url json_encode /;

my $t = Test::Runcoach->new();

$t->redis();

my $pem = $t->key_pem('issuer');
my $jwks = $t->jwks('issuer', 'second',
                    { kty => 'oct', kid => 'ins_oct', alg => 'HS256',
                      k => b64url('secret' x 8) });
my $cookie = $t->jwks('issuer');
my $slow = $t->http_daemon(sub {
    my ($request) = @_;

    select(undef, undef, undef, 0.3) if $request->{target} =~ /slow/;
    return [500, {}, 'no'] if $request->{target} =~ /broken/;
    return [200, { 'Content-Type' => 'text/html' }, '<html>']
        if $request->{target} =~ /html/;
    return [200, {}, '{"keys":[' . ('{"kty":"RSA"},' x 1500) . substr($jwks, 9)]
        if $request->{target} =~ /large/;

    return [200, {}, $jwks];
}, port => 8091);

# what runs out of the default 65536 bytes of a key set is refused

my $cookie_suffix = 'ptuxpyPT';

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:4m;
    runcoach_redis  %%REDIS_URL%%  timeout=500ms;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;
    runcoach_issuer  cold   issuer=https://cold.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/slow;
    runcoach_issuer  html   issuer=https://html.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/html;
    runcoach_issuer  broken issuer=https://broken.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/broken;
    runcoach_issuer  large  issuer=https://large.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/large;
    runcoach_issuer  away   issuer=https://away.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8099/jwks;
    runcoach_issuer  strict issuer=https://strict.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/strict
                            authorized_parties=https://app.example.com,http://localhost:3000;
    runcoach_issuer  ifp    issuer=https://ifp.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/strict
                            authorized_parties=https://app.example.com
                            azp=if-present;
    runcoach_issuer  aud    issuer=https://aud.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/strict
                            audience=authenticated,edge;
    runcoach_issuer  own    issuer=https://own.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/strict
                            user=internal;
    runcoach_issuer  pem    issuer=https://pem.runcoach.test
                            key=env:CLERK_JWT_KEY  leeway=10s  max_lifetime=2h;
    runcoach_issuer  keyed  publishable_key=pk_test_Y2xlcmsucnVuY29hY2gudGVzdCQ
                            issuer=https://keyed.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/strict;
    runcoach_issuer  unset  publishable_key=env:NOT_SET  jwks=/_jwks;

    runcoach_session  cookie=session_id  prefix=session:;

    proxy_cache_path  %%TESTDIR%%/cache  keys_zone=jwks:1m;

    add_header  X-User     $runcoach_user           always;
    add_header  X-Method   $runcoach_auth_method    always;
    add_header  X-Clerk    $runcoach_clerk_user_id  always;
    add_header  X-Number   $runcoach_user_id        always;
    add_header  X-Sid      $runcoach_session_id     always;
    add_header  X-Reason   $runcoach_auth_reason    always;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8081 http2;
        server_name  localhost;

        large_client_header_buffers  4 32k;

        location / {
            runcoach_auth  clerk session;
            empty_gif;
        }

        location /clerk {
            runcoach_auth  clerk;
            empty_gif;
        }

        location /missing {
            runcoach_auth           clerk session;
            runcoach_auth_fallback  missing;
            empty_gif;
        }

        location /never {
            runcoach_auth           clerk session;
            runcoach_auth_fallback  never;
            empty_gif;
        }

        location /session {
            runcoach_auth  session;
            empty_gif;
        }

        location /off {
            runcoach_auth  off;
            empty_gif;
        }

        location /cold   { runcoach_auth  cold;          empty_gif; }
        location /html   { runcoach_auth  html;          empty_gif; }
        location /broken { runcoach_auth  broken session; empty_gif; }
        location /large  { runcoach_auth  large;         empty_gif; }
        location /away   { runcoach_auth  away;          empty_gif; }
        location /strict { runcoach_auth  strict;        empty_gif; }
        location /ifp    { runcoach_auth  ifp;           empty_gif; }
        location /aud    { runcoach_auth  aud;           empty_gif; }
        location /own    { runcoach_auth  own;           empty_gif; }
        location /pem    { runcoach_auth  pem;           empty_gif; }
        location /keyed  { runcoach_auth  keyed;         empty_gif; }
        location /unset  { runcoach_auth  unset session; empty_gif; }
        location /two    { runcoach_auth  clerk pem;     empty_gif; }

        location /satisfy {
            satisfy        any;
            allow          127.0.0.1;
            deny           all;
            runcoach_auth  clerk;
            empty_gif;
        }

        location /named {
            runcoach_auth  clerk;
            error_page     401 = @anonymous;
            empty_gif;
        }

        location @anonymous {
            add_header  X-Who  "[$runcoach_user]"  always;
            return      200;
        }

        location /body {
            runcoach_auth  cold clerk;
            proxy_pass     http://127.0.0.1:8082;
        }

        location /_jwks {
            internal;

            proxy_pass                     $runcoach_jwks_url;
            proxy_method                   GET;
            proxy_pass_request_body        off;
            proxy_pass_request_headers     off;
            proxy_set_header               Content-Length  "";
            proxy_connect_timeout          1s;
            proxy_cache                    jwks;
            proxy_cache_key                "$runcoach_jwks_url $runcoach_jwks_epoch";
            proxy_cache_valid              200  5m;
            proxy_cache_lock               on;
            subrequest_output_buffer_size  64k;
        }
    }

    server {
        listen  127.0.0.1:8082;

        location / {
            return  200  "$http_content_length $request_method";
        }
    }
}

EOF

$t->run(env => { CLERK_JWT_KEY => $pem });

###############################################################################

# the good token

my $token = $t->token();
my $r = $t->get('/', token => $token);

is($r->status, 200, 'token');
is($r->header('X-User'), 'user_test', 'token: user');
is($r->header('X-Method'), 'clerk', 'token: method');
is($r->header('X-Clerk'), 'user_test', 'token: clerk user');
is($r->header('X-Number'), undef, 'token: no number');
is($r->header('X-Sid'), 'sess_test', 'token: session');
is($r->header('WWW-Authenticate'), undef, 'token: no challenge');

# carriers

is(get('/', cookie => "__session=$token"), 200, 'cookie');
is(get('/', cookie => "a=b; __session=$token; c=d"), 200, 'cookie among others');
is(get('/', headers => [Authorization => "bearer $token"]), 200,
   'scheme in lower case');
is(get('/', headers => [Authorization => "BEARER   $token"]), 200,
   'scheme in upper case, spaces');
is(get('/', headers => [AUTHORIZATION => "Bearer $token "]), 200,
   'name in upper case, trailing space');
is(get('/keyed', token => $t->token(iss => 'https://keyed.runcoach.test')),
   200, 'publishable key with issuer');
is(get('/keyed', cookie => "__client_uat_$cookie_suffix=1; "
       . "__session_$cookie_suffix="
       . $t->token(iss => 'https://keyed.runcoach.test')), 200,
   'cookie with suffix');
is(get('/pem', token => $t->token(iss => 'https://pem.runcoach.test')), 200,
   'PEM');
is(get('/pem', token => $t->token(iss => 'https://pem.runcoach.test',
                                  kid => undef)), 200, 'PEM, no kid');
is(get('/two', token => $t->token(iss => 'https://pem.runcoach.test')), 200,
   'second issuer');
is(get('/', token => $t->token(key => 'second')), 200, 'second key');

# The header wins over the cookie.

is($t->get('/', token => $t->token(sub => 'user_h'),
           cookie => '__session=' . $t->token(sub => 'user_c'))
   ->header('X-User'), 'user_h', 'header and cookie disagree');
like(get('/clerk', token => 'broken', cookie => "__session=$token"), qr/401/,
     'bad header, good cookie');

###############################################################################

# What bad input gets: 401 with WWW-Authenticate, nothing else.

my $now = time();
my ($head, $body, $sign) = split(/\./, $token);
my $none = $t->token(alg => 'none');
my $n = Test::Runcoach::unb64url($t->jwk('issuer')->{n});

my @refused = (
    [ 'no token', undef, 'credentials-missing' ],
    [ 'empty', '', 'credentials-missing' ],
    [ 'a word', 'x', 'token-invalid' ],
    [ 'two segments', "$head.$body", 'token-invalid' ],
    [ 'four segments', "$token.", 'token-invalid' ],
    [ 'five segments', "$token.a.b", 'token-invalid' ],
    [ 'dots', '.' x 5000, 'token-invalid' ],
    [ 'no header', ".$body.$sign", 'token-invalid' ],
    [ 'no payload', "$head..$sign", 'token-invalid' ],
    [ 'empty signature', "$head.$body.", qr/./ ],
    [ 'signature cut', "$head.$body." . substr($sign, 0, 300),
      'token-invalid-signature' ],
    [ 'signature longer', "$head.$body.${sign}AAAA",
      'token-invalid-signature' ],
    [ 'padding', "$head.$body.$sign==", 'token-invalid' ],
    [ 'standard alphabet', "$head.$body." . ($sign =~ tr{-_}{+/}r),
      'token-invalid' ],
    [ 'trailing bits', "$head.$body." . substr($sign, 0, -1)
      . (substr($sign, -1) eq 'B' ? 'C' : 'B'), 'token-invalid' ],
    [ 'percent encoding', $token =~ s/\./%2E/gr, 'token-invalid' ],
    [ 'inner space', "$head.$body. $sign", 'token-invalid' ],
    [ 'JSON serialization', json_encode({ payload => $body,
      protected => $head, signature => $sign }), 'token-invalid' ],
    [ 'over 8 KB', $t->token(pad => 'x' x 8192), 'token-invalid' ],
    [ 'payload is an array', $t->token(payload => '[]'), 'token-invalid' ],
    [ 'payload is not JSON', $t->token(payload => '{sub:1}'),
      'token-invalid' ],
    [ 'a member twice', $t->token(payload => '{"iss":"https://clerk.runcoach'
      . '.test","sub":"a","sub":"b","exp":' . ($now + 60) . '}'),
      'token-invalid' ],
    [ 'a member twice, escaped', $t->token(payload => '{"iss":"https://clerk.'
      . 'runcoach.test","sub":"a","\\u0073ub":"b","exp":' . ($now + 60) . '}'),
      'token-invalid' ],
    [ 'two documents', $t->token(payload => '{"a":1}{"a":1}'),
      'token-invalid' ],
    [ 'deep JSON', $t->token(payload => '{"a":' . ('[' x 2000)
      . (']' x 2000) . '}'), 'token-invalid' ],

    [ 'alg none', $none, qr/^token-invalid/ ],
    [ 'alg none, signed', "$none$sign", 'token-invalid-algorithm' ],
    [ 'alg None', $t->token(alg => 'None'), qr/^token-invalid/ ],
    [ 'alg nOnE', $t->token(alg => 'nOnE'), qr/^token-invalid/ ],
    [ 'no alg', $t->token(alg => undef), qr/^token-invalid/ ],
    [ 'alg is a list', $t->token(header => { alg => ['RS256'] }),
      qr/^token-invalid/ ],
    [ 'alg with NUL', $t->token(header => { alg => "RS256\0" }),
      qr/^token-invalid/ ],
    [ 'HS256 with PEM', $t->token(alg => 'HS256', secret => $pem),
      'token-invalid-algorithm' ],
    [ 'HS256 with PEM, no LF', $t->token(alg => 'HS256',
      secret => $pem =~ s/\n\z//r), 'token-invalid-algorithm' ],
    [ 'HS256 with modulus', $t->token(alg => 'HS256', secret => $n),
      'token-invalid-algorithm' ],
    [ 'HS256 with empty key', $t->token(alg => 'HS256', secret => ''),
      'token-invalid-algorithm' ],
    [ 'HS256 by oct of the set', $t->token(alg => 'HS256', kid => 'ins_oct',
      secret => 'secret' x 8), 'token-invalid-algorithm' ],
    [ 'RS512', $t->token(alg => 'RS512'), 'token-invalid-algorithm' ],
    [ 'PS256', $t->token(alg => 'PS256'), 'token-invalid-algorithm' ],

    [ 'other key, same kid', $t->token(key => 'other', kid => 'ins_issuer'),
      'token-invalid-signature' ],
    [ 'kid of the second key', $t->token(kid => 'ins_second'),
      'token-invalid-signature' ],
    [ 'no kid', $t->token(kid => undef), 'jwk-kid-mismatch' ],
    [ 'kid is a number', $t->token(header => { kid => 7 }), qr/./ ],
    [ 'kid is a path', $t->token(kid => '../../etc/passwd'),
      'jwk-kid-mismatch' ],
    [ 'jwk in the token', $t->token(key => 'other', kid => 'ins_other',
      header => { jwk => $t->jwk('other') }), 'jwk-kid-mismatch' ],
    [ 'jku in the token', $t->token(key => 'other', kid => 'ins_other',
      header => { jku => $t->host(8091) }), 'jwk-kid-mismatch' ],
    [ 'crit', $t->token(header => { crit => ['b64'], b64 => 0 }),
      'token-invalid' ],
    [ 'typ of an access token', $t->token(header => { typ => 'at+jwt' }),
      'token-type-mismatch' ],
    [ 'machine token', $t->token(header => { cat => 'cl_B7d4PD333AAA' }),
      'token-type-mismatch' ],
    [ 'template token', $t->token(header => { cat => 'cl_B7d4PD222AAA' }),
      'token-type-mismatch' ],

    [ 'expired', $t->token(exp => $now - 10), 'token-expired' ],
    [ 'no exp', $t->token(exp => undef), qr/./ ],
    [ 'exp is a string', $t->token(exp => "$now"), qr/./ ],
    [ 'exp is true', $t->token(exp => JSON::PP::true), qr/./ ],
    [ 'exp is huge', $t->token(payload => '{"iss":"https://clerk.runcoach.tes'
      . 't","sub":"user_a","exp":1e400}'), qr/./ ],
    [ 'exp at 2^64', $t->token(payload => '{"iss":"https://clerk.runcoach.tes'
      . 't","sub":"user_a","exp":18446744073709551616}'), qr/./ ],
    [ 'nbf to come', $t->token(nbf => $now + 60), 'token-not-active-yet' ],
    [ 'iat to come', $t->token(iat => $now + 60), 'token-iat-in-the-future' ],
    [ 'lives for two days', $t->token(exp => $now + 172800),
      'token-invalid-lifetime' ],

    [ 'other issuer', $t->token(iss => 'https://evil.example.com'),
      'token-invalid-issuer' ],
    [ 'issuer with slash', $t->token(iss => 'https://clerk.runcoach.test/'),
      'token-invalid-issuer' ],
    [ 'issuer in upper case', $t->token(iss => 'https://CLERK.runcoach.test'),
      'token-invalid-issuer' ],
    [ 'issuer as prefix',
      $t->token(iss => 'https://clerk.runcoach.test.evil'),
      'token-invalid-issuer' ],
    [ 'no issuer', $t->token(iss => undef), 'token-invalid-issuer' ],
    [ 'issuer is a list', $t->token(iss => ['https://clerk.runcoach.test']),
      'token-invalid-issuer' ],
    [ 'issuer of another location',
      $t->token(iss => 'https://pem.runcoach.test'), 'token-invalid-issuer' ],

    [ 'no sub', $t->token(sub => undef), 'token-invalid-subject' ],
    [ 'empty sub', $t->token(sub => ''), 'token-invalid-subject' ],
    [ 'sub is a number', $t->token(sub => 42), qr/./ ],
    [ 'sub of digits', $t->token(sub => '42'), 'token-invalid-subject' ],
    [ 'sub with CR LF', $t->token(sub => "a\r\nX-User-Id: 1"),
      'token-invalid-subject' ],
    [ 'sub with NUL', $t->token(sub => "a\0"), qr/^token-invalid/ ],
    [ 'sub of a machine', $t->token(sub => 'mch_1'), 'token-type-mismatch' ],
    [ 'pending session', $t->token(sts => 'pending'), 'session-pending' ],
);

for my $case (@refused) {
    my ($name, $bad, $reason) = @$case;

    my $r = $t->get('/clerk', defined $bad
                    ? (headers => [Authorization => "Bearer $bad"]) : ());

    subtest $name => sub {
        is($r->status, 401, 'status');
        like($r->header('WWW-Authenticate') // '', qr/^Bearer/, 'challenge');
        is($r->header('X-User'), undef, 'no user');
        is($r->header('X-Method'), undef, 'no method');
        is($r->header('X-Clerk'), undef, 'no clerk user');
        is($r->header('X-Sid'), undef, 'no session');

        ref($reason) ? like($r->header('X-Reason'), $reason, 'reason')
                     : is($r->header('X-Reason'), $reason, 'reason');
    };
}

# just inside

for my $case (
    [ 'expired within the leeway', exp => $now - 2 ],
    [ 'nbf within the leeway', nbf => $now + 2 ],
    [ 'real dates', exp => $now + 60.5, iat => $now - 0.25 ],
    [ 'no iat', iat => undef ],
    [ 'no nbf, no sid', nbf => undef, sid => undef ],
    [ 'session token', header => { cat => 'cl_B7d4PD111AAA' } ],
    [ 'no typ', header => { typ => undef } ],
    [ 'unknown members', header => { foo => [1] }, bar => { a => [1, {}] } ],
    [ 'active session', sts => 'active' ],
    [ 'impersonation', act => { iss => 'x', sub => 'user_admin' } ],
)
{
    my ($name, %claims) = @$case;

    is(get('/clerk', token => $t->token(%claims)), 200, $name);
}

is(get('/clerk', token => $t->token(payload => ' {"iss":"https://clerk.'
   . 'runcoach.test","sub":"user_a","exp":' . ($now + 60) . "}\n")), 200,
   'white space around the payload');

# parameters of the issuer

my @claims = (iss => 'https://strict.runcoach.test');

is(get('/strict', token => $t->token(@claims,
   azp => 'https://app.example.com')), 200, 'azp');
is(get('/strict', token => $t->token(@claims,
   azp => 'http://localhost:3000')), 200, 'azp, second');

for my $azp ('https://evil.example.com', 'https://app.example.com.evil',
             'http://app.example.com', 'https://APP.example.com',
             'https://app.example.com/', '', ['https://app.example.com'])
{
    like(get('/strict', token => $t->token(@claims, azp => $azp)), qr/401/,
         'azp ' . (ref($azp) ? 'as a list' : "\"$azp\""));
}

like(get('/strict', token => $t->token(@claims)), qr/401.*authorized-parties/,
     'no azp, by header');
is(get('/strict', cookie => '__session=' . $t->token(@claims)), 200,
   'no azp, by cookie');
like(get('/strict', cookie => '__session='
         . $t->token(@claims, azp => 'https://evil.example.com')),
     qr/401.*authorized-parties/, 'wrong azp, by cookie');
is(get('/ifp', token => $t->token(iss => 'https://ifp.runcoach.test')), 200,
   'no azp, if-present');
like(get('/ifp', token => $t->token(iss => 'https://ifp.runcoach.test',
         azp => 'https://evil.example.com')), qr/401/,
     'wrong azp, if-present');

@claims = (iss => 'https://aud.runcoach.test');

is(get('/aud', token => $t->token(@claims, aud => 'edge')), 200, 'aud');
is(get('/aud', token => $t->token(@claims, aud => ['x', 'authenticated'])),
   200, 'aud in a list');
like(get('/aud', token => $t->token(@claims, aud => 'x')), qr/401.*audience/,
     'wrong aud');
like(get('/aud', token => $t->token(@claims, aud => [])), qr/401/,
     'empty aud');
like(get('/aud', token => $t->token(@claims)), qr/401/, 'no aud');

@claims = (iss => 'https://own.runcoach.test');

$r = $t->get('/own', token => $t->token(@claims, sub => '42'));
is($r->status, 200, 'internal user');
is($r->header('X-Number'), 42, 'internal user: number');
is($r->header('X-Clerk'), undef, 'internal user: no clerk user');
like(get('/own', token => $t->token(@claims, sub => 'user_a')), qr/401/,
     'internal user, not a number');
like(get('/own', token => $t->token(@claims, sub => '-1')), qr/401/,
     'internal user, negative');

is(get('/pem', token => $t->token(iss => 'https://pem.runcoach.test',
       exp => time() - 6)), 200, 'leeway');
like(get('/pem', token => $t->token(iss => 'https://pem.runcoach.test',
         exp => $now + 7300)), qr/401.*lifetime/, 'max_lifetime');
like(get('/pem', token => $t->token(iss => 'https://pem.runcoach.test',
         key => 'other')), qr/401.*signature/, 'PEM, other key');

# two Authorization headers

like($t->get('/clerk', headers => [Authorization => "Bearer $token",
                                   Authorization => 'Bearer x'])->status,
     qr/^40[01]$/, 'two headers');
like(get('/clerk', headers => [Authorization => "Bearer $token, Bearer x"]),
     qr/401/, 'headers joined');
like(get('/clerk', headers => [Authorization => $token]), qr/401/,
     'no scheme');
like(get('/clerk', headers => [Authorization => "Basic $token"]), qr/401/,
     'other scheme');
like(get('/clerk', headers => [Authorization => 'Bearer']), qr/401/,
     'scheme alone');
like(get('/clerk', cookie => "x__session=$token"), qr/401/,
     'cookie name with a prefix');
like(get('/clerk', cookie => "__session_evil=$token"), qr/401/,
     'cookie name with a suffix');
like(get('/clerk', cookie => '__session='), qr/401/, 'empty cookie');
like($t->get("/clerk?access_token=$token")->status, qr/401/,
     'not from the query');

# RFC 6750: no error code where no credentials were sent

is($t->get('/clerk')->header('WWW-Authenticate'), 'Bearer', 'bare challenge');
is($t->get('/clerk', token => 'x')->header('WWW-Authenticate'),
   'Bearer error="invalid_token"', 'challenge with error');

# composition

is(get('/off', token => 'x'), 200, 'off');
is(get('/satisfy'), 200, 'satisfy any, by address');
is($t->get('/named')->header('X-Who'), '[]', 'error_page 401, anonymous');
is(get('/unset', cookie => $t->session(5)), 200, 'issuer which is off');
like(get('/unset', token => $token), qr/401/, 'issuer which is off, token');

###############################################################################

# sessions

$r = $t->get('/session', cookie => $t->session(42, email => 'a@b'));
is($r->status, 200, 'session');
is($r->header('X-User'), 42, 'session: user');
is($r->header('X-Number'), 42, 'session: number');
is($r->header('X-Method'), 'session', 'session: method');
is($r->header('X-Clerk'), undef, 'session: no clerk user');

is(get('/', cookie => $t->session(7)), 200, 'token or session');
is(get('/', cookie => $t->session(7), token => 'x'), 200,
   'bad token, good session');
like(get('/missing', cookie => $t->session(7), token => 'x'), qr/401/,
     'fallback missing, bad token');
is(get('/missing', cookie => $t->session(7)), 200,
   'fallback missing, no token');
like(get('/never', cookie => $t->session(7)), qr/401/, 'fallback never');

for my $case (
    [ 'unknown', 'session_id=' . 'a' x 43 ],
    [ 'empty', 'session_id=' ],
    [ 'user_id is missing', $t->session(0, raw => '{"a":1}') ],
    [ 'user_id is a path', $t->session(0, raw => '{"user_id":"../42"}') ],
    [ 'user_id is empty', $t->session(0, raw => '{"user_id":""}') ],
    [ 'user_id is true', $t->session(0, raw => '{"user_id":true}') ],
    [ 'user_id is twice',
      $t->session(0, raw => '{"user_id":42,"user_id":43}') ],
    [ 'user_id is deeper', $t->session(0, raw => '{"a":{"user_id":42}}') ],
    [ 'user_id is negative', $t->session(-1) ],
    [ 'user_id is zero', $t->session(0) ],
    [ 'user_id is a real', $t->session(0, raw => '{"user_id":1.5}') ],
    [ 'user_id is too large',
      $t->session(0, raw => '{"user_id":9223372036854775808}') ],
    [ 'value is not JSON', $t->session(0, raw => 'x') ],
    [ 'value is a list', $t->session(0, raw => '[42]') ],
    [ 'value is empty', $t->session(0, raw => '') ],
    [ 'id with CR LF', 'session_id=' . 'a' x 40 . '%0d%0aFLUSHALL' ],
    [ 'id with a colon', 'session_id=' . 'a' x 40 . ':x' ],
    [ 'id with a glob', 'session_id=' . 'a' x 40 . '*' ],
    [ 'id of 5 KB', 'session_id=' . 'a' x 5000 ],
)
{
    my ($name, $cookie) = @$case;

    my $r = $t->get('/session', cookie => $cookie);

    is($r->status, 401, "session: $name");
    is($r->header('X-User'), undef, "session: $name, no user");
    like($r->header('WWW-Authenticate') // '', qr/^Bearer/,
         "session: $name, challenge");
}

$t->{redis}->cmd('LPUSH', 'session:' . 'l' x 40, 'x');
$r = $t->get('/session', cookie => 'session_id=' . 'l' x 40);
like($r->status, qr/^(?:401|503)$/, 'session: WRONGTYPE');
is($r->header('X-User'), undef, 'session: WRONGTYPE, no user');

###############################################################################

# HTTP/2, where cookies come one by one

SKIP: {
    skip 'no curl', 2 unless Test::Runcoach::find_program('curl');

    my $url = 'http://' . $t->host(8081);
    my (undef, $out) = $t->curl('--http2-prior-knowledge', '-i',
        '-H', 'Cookie: a=b', '-H', "Cookie: __session=$token", "$url/clerk");

    like($out, qr{^HTTP/2 200}, 'http2, cookies');

    (undef, $out) = $t->curl('--http2-prior-knowledge', '-i', "$url/clerk");

    like($out, qr{^HTTP/2 401.*www-authenticate: Bearer}s, 'http2, no token');
}

###############################################################################

# Requests that arrive before there are keys wait for one fetch.

my $cold = $t->token(iss => 'https://cold.runcoach.test');
my @waiting = map { $t->request_start('GET', '/cold', token => $cold) } 1 .. 20;

$t->request_start('GET', '/cold', token => $cold, aborted => 1,
                  sleep => 0.05) for 1 .. 3;

my @status = map { $t->request_end($_)->status } @waiting;

is("@status", join(' ', (200) x 20), 'cold: all are answered');
is(scalar(grep { $_->{target} =~ /slow/ } $t->requests($slow)), 1,
   'cold: one fetch');

# The subrequest must not inherit what belongs to the client's request.

my ($fetch) = grep { $_->{target} =~ /slow/ } $t->requests($slow);

is($fetch->{method}, 'GET', 'fetch: method');
is($fetch->{headers}{authorization}, undef, 'fetch: no credentials');
is($fetch->{headers}{cookie}, undef, 'fetch: no cookies');
is($fetch->{headers}{'content-length'}, undef, 'fetch: no length');

# A body is still there for the upstream after the wait.

like($t->post('/body', token => $cold, body => 'x' x 100)->body, qr/100 POST/,
     'body after authentication');

# A new key appears: one fetch finds it, and it is not asked for again soon.

$t->forget_requests($slow);

for (1 .. 10) {
    like(get('/clerk', token => $t->token(key => 'other')), qr/401.*kid/,
         "unknown kid $_") if $_ < 3;
    get('/clerk', token => $t->token(kid => "ins_$_")) if $_ >= 3;
}

cmp_ok(scalar(grep { $_->{target} eq '/jwks' } $t->requests($slow)), '<=', 1,
       'unknown kids: at most one fetch');

# An issuer that is out of order is 503, never 401, and never 500.

for my $name (qw/ broken html away /) {
    my $r = $t->get("/$name",
                    token => $t->token(iss => "https://$name.runcoach.test"));

    is($r->status, 503, "issuer $name");
    is($r->header('X-User'), undef, "issuer $name, no user");
    is($r->header('WWW-Authenticate'), undef, "issuer $name, no challenge");
}

is(get('/broken', token => $t->token(iss => 'https://broken.runcoach.test'),
       cookie => $t->session(9)), 200, 'issuer broken, good session');

# A key set which is larger than expected costs nobody the connection.

$r = $t->get('/large', token => $t->token(iss => 'https://large.runcoach.test'));
like($r->status, qr/^(?:200|503)$/, 'large key set is answered');
is(get('/clerk', token => $token), 200, 'still serving');

# a request in pieces, byte by byte

like($t->http("GET /clerk HTTP/1.0\r\nHost: localhost\r\n"
              . "Authorization: Bearer $token\r\n\r\n", pieces => 40),
     qr/200 OK/, 'in pieces');

# the token is in no log

# nginx itself quotes a header that came twice, at level info

unlike(join('', grep { !/sent duplicate header/ }
            split(/^/, $t->read_file('error.log'))), qr/\Q$sign\E/,
       'token not logged');

$t->done();

###############################################################################

# the status, and why it was refused

sub get
{
    my $r = $t->get(@_);

    return $r->status == 200 ? 200
           : $r->status . ' ' . ($r->header('X-Reason') // '');
}

###############################################################################
