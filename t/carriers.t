#!/usr/bin/perl

# Tests for the carriers of a token: header, Clerk's cookies as Clerk's own
# library chooses among them, a query argument which nobody sees afterwards, any
# variable; their order, and when a session may be tried instead.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha1 /;
use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach qw/ b64url /;

my $t = Test::Runcoach->new();

$t->redis();

# two instances of Clerk: iss, publishable key, suffix of the cookies

my %test = instance('test', 'clerk.runcoach.test');
my %live = instance('live', 'clerk.live.runcoach.test');

my $jwks = $t->jwks('issuer');
my $slow = $t->http_daemon(sub {
    select(undef, undef, undef, 0.3);
    return [200, {}, $jwks];
}, port => 8091, name => 'slow');

my $socket = $t->http_daemon(\&websocket, port => 8083, name => 'websocket');

$t->set(TEST_KEY => $test{key});
$t->set(LIVE_KEY => $live{key});

$t->write_file_expand('nginx.conf', <<'EOT');

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:4m;
    runcoach_redis  %%REDIS_URL%%  timeout=2s;

    runcoach_issuer  clerk  publishable_key=%%TEST_KEY%%
                            key=env:CLERK_JWT_KEY;
    runcoach_issuer  live   publishable_key=%%LIVE_KEY%%
                            key=env:CLERK_JWT_KEY;
    runcoach_issuer  bare   issuer=https://bare.runcoach.test
                            key=env:CLERK_JWT_KEY;

    runcoach_issuer  slow   issuer=https://slow.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8091/jwks;

    runcoach_session  cookie=session_id  prefix=session:  cache=0;

    limit_req_zone  $binary_remote_addr  zone=once:1m  rate=1r/m;

    map $http_sec_websocket_protocol $protocol_token {
        "~^bearer, *(?<protocol>[^, ]+)$"  $protocol;
        default                           "";
    }

    add_header  X-User    $runcoach_user         always;
    add_header  X-Method  $runcoach_auth_method  always;
    add_header  X-Reason  $runcoach_auth_reason  always;

    server {
        listen  127.0.0.1:8080;
        listen  127.0.0.1:8081 http2;

        large_client_header_buffers  4 32k;

        # what is looked at before authentication is kept by nginx

        if ($request_uri ~ "^/nothing") {
            return  410;
        }

        if ($request ~ "^NOTHING") {
            return  410;
        }

        location /      { runcoach_auth clerk;          empty_gif; }
        location /live  { runcoach_auth live;           empty_gif; }
        location /both  { runcoach_auth clerk live;     empty_gif; }
        location /bare  { runcoach_auth bare;           empty_gif; }

        location /invalid {
            runcoach_auth           clerk session;
            runcoach_auth_fallback  invalid;
            runcoach_auth_token     header cookie query=token;
            empty_gif;
        }

        location /missing {
            runcoach_auth           clerk session;
            runcoach_auth_fallback  missing;
            runcoach_auth_token     header cookie query=token;
            empty_gif;
        }

        location /never {
            runcoach_auth           clerk session;
            runcoach_auth_fallback  never;
            runcoach_auth_token     header cookie query=token;
            empty_gif;
        }

        location /header {
            runcoach_auth        clerk;
            runcoach_auth_token  header;
            empty_gif;
        }

        location /cookie {
            runcoach_auth        clerk;
            runcoach_auth_token  cookie;
            empty_gif;
        }

        location /cookie-header {
            runcoach_auth        clerk;
            runcoach_auth_token  cookie header;
            empty_gif;
        }

        location /all {
            runcoach_auth        clerk;
            runcoach_auth_token  $http_x_token query=token cookie header;
            empty_gif;
        }

        location /inherited {
            runcoach_auth        clerk;
            runcoach_auth_token  $http_x_token;

            location /inherited/deeper {
                empty_gif;
            }

            location /inherited/other {
                runcoach_auth_token  header;
                empty_gif;
            }
        }

        location /text {
            runcoach_auth        clerk;
            runcoach_auth_token  "$http_x_head.$http_x_body.$http_x_sign";
            empty_gif;
        }

        location /protocol {
            runcoach_auth        clerk;
            runcoach_auth_token  $protocol_token header;
            empty_gif;
        }

        location /query {
            runcoach_auth        clerk;
            runcoach_auth_token  query=token;
            proxy_pass           http://127.0.0.1:8082;
        }

        location /optional {
            runcoach_auth        clerk optional=any;
            runcoach_auth_token  header query=token;
            proxy_pass           http://127.0.0.1:8082;
        }

        location /replaced/ {
            runcoach_auth        clerk optional=any;
            runcoach_auth_token  query=token;
            proxy_pass           http://127.0.0.1:8082/new/;
        }

        location /variables {
            runcoach_auth        clerk optional=any;
            runcoach_auth_token  query=token;
            proxy_set_header     X-Seen  "$args|$query_string|$arg_token|$request_uri|$request";
            proxy_pass           http://127.0.0.1:8082$request_uri;
        }

        location /page {
            runcoach_auth        clerk;
            runcoach_auth_token  query=token;
            error_page           401 = @refused;
            proxy_pass           http://127.0.0.1:8082;
        }

        location @refused {
            proxy_pass  http://127.0.0.1:8082;
        }

        location /slow {
            runcoach_auth        slow;
            runcoach_auth_token  query=token;
            proxy_pass           http://127.0.0.1:8082;
        }

        # the token of the query is gone, and is known where it is wanted again

        location /first {
            runcoach_auth        clerk;
            runcoach_auth_token  query=token;
            try_files            /none /second?b=2;
        }

        location /second {
            runcoach_auth        clerk session;
            runcoach_auth_token  header query=token;
            proxy_pass           http://127.0.0.1:8082/second?$args;
        }

        location /names {
            runcoach_auth        clerk optional=any;
            runcoach_auth_token  query=one query=two;
            proxy_pass           http://127.0.0.1:8082;
        }

        location /elsewhere {
            runcoach_auth        clerk;
            runcoach_auth_token  query=token;
            try_files            /none /header;
        }

        location /_jwks {
            internal;
            proxy_pass  $runcoach_jwks_url;
        }

        location /down {
            runcoach_auth        clerk optional=any;
            runcoach_auth_token  query=token;
            proxy_pass           http://127.0.0.1:8099;
        }

        location /limited {
            limit_req            zone=once;
            limit_req_log_level  error;
            runcoach_auth        clerk optional=any;
            runcoach_auth_token  query=token;
            empty_gif;
        }

        location /ws {
            runcoach_auth        clerk;
            runcoach_auth_token  query=access_token header;

            proxy_http_version  1.1;
            proxy_set_header    Upgrade     $http_upgrade;
            proxy_set_header    Connection  upgrade;
            proxy_set_header    X-User      $runcoach_user;
            proxy_pass          http://127.0.0.1:8083;
        }
    }

    server {
        listen  127.0.0.1:8082;

        large_client_header_buffers  4 32k;

        location / {
            return  200  "$request_uri $http_x_seen";
        }
    }
}
EOT

$t->run(env => { CLERK_JWT_KEY => $t->key_pem('issuer') });

my $now = int(time());
my $token = $t->token(sub => 'user_good');
my $other = $t->token(sub => 'user_other');
my $forged = $t->token(sub => 'user_forged', key => 'other');
my ($head, $body, $sign) = split(/\./, $token);

###############################################################################

# The header: name and scheme in any case, one or more spaces.

for my $name (qw/ Authorization authorization AUTHORIZATION aUTHORIZATION /) {
    for my $scheme (qw/ Bearer bearer BEARER bEaReR /) {
        is(who('/', headers => [$name => "$scheme $token"]), 'user_good',
           "$name: $scheme");
    }
}

is(who('/', headers => [Authorization => "Bearer    $token   "]), 'user_good',
   'spaces around the token');

for my $value ($token, "Bearer$token", "Bearerx $token", "Basic $token",
               "Token $token", "Bearer", "Bearer ", "Bearer\t$token",
               "Bearer $token $token", "Bearer $token,", "Bearer, $token",
               "Bearer=$token", "Bearer \"$token\"", "JWT Bearer $token")
{
    my $shown = $value =~ s/\Q$token\E/TOKEN/gr =~ s/\t/\\t/r;

    like(who('/', headers => [Authorization => $value]), qr/^401/, "\"$shown\"");
}

# A scheme that is not ours is no token: the next carrier is asked.

is(who('/', headers => [Authorization => 'Basic dTpw'],
       cookie => "__session=$token"), 'user_good', 'basic, and a cookie');

###############################################################################

# Cookie lines, as they may come.

my @junk = map { "name$_=value$_" } 1 .. 200;

for my $case (
    [ 'alone', "__session=$token" ],
    [ 'among others', "a=b; __session=$token; c=d" ],
    [ 'without spaces', "a=b;__session=$token;c=d" ],
    [ 'with more spaces', "a=b;   __session=$token  ;  c=d" ],
    [ 'quoted', "__session=\"$token\"" ],
    [ 'quoted, among others', "a=\"b\"; __session=\"$token\"; c" ],
    [ 'after parts which are no cookies', "a; ;;=x; __session=$token;" ],
    [ 'after 200 others', join('; ', @junk, "__session=$token") ],
    [ 'before 200 others', join('; ', "__session=$token", @junk) ],
    [ 'after names that begin so', "__session2=x; __sessio=y; x__session=z; "
      . "__session_evil=x; __session=$token" ],
    [ 'two, the first counts', "__session=$token; __session=$other" ],
    [ 'with a suffix, alone', "__session_$test{suffix}=$token; "
      . "__client_uat_$test{suffix}=1" ],
    [ 'empty, and one with a suffix', "__session=; "
      . "__session_$test{suffix}=$token; __client_uat_$test{suffix}=1" ],
    [ 'with an empty suffixed one', "__session_$test{suffix}=; "
      . "__session=$token" ],
)
{
    my ($name, $cookie) = @$case;

    is(who('/', cookie => $cookie), 'user_good', "cookie $name");
}

is(who('/', headers => [Cookie => 'a=b', Cookie => "__session=$token",
                        Cookie => 'c=d']), 'user_good', 'several lines');
is(who('/', headers => [(map { (Cookie => $_) } @junk),
                        cookie => "__session=$token"]), 'user_good',
   '201 lines');
is(who('/', headers => [Cookie => "__session=$token",
                        Cookie => "__session=$other"]), 'user_good',
   'one in each of two lines, the first counts');
is(who('/', headers => [Cookie => "__session_$test{suffix}=$token",
                        Cookie => "__client_uat_$test{suffix}=1",
                        Cookie => "__session=$other; __client_uat=1"]),
   'user_good', 'the four of them in three lines');

for my $case (
    [ 'in upper case', "__SESSION=$token" ],
    [ 'with a suffix in another case', "__session_\L$test{suffix}\E=$token" ],
    [ 'with the suffix of another instance',
      "__session_$live{suffix}=$token" ],
    [ 'with a suffix that is longer', "__session_$test{suffix}x=$token" ],
    [ 'with a prefix', "x__session=$token" ],
    [ 'in the value of another', "a=__session=$token" ],
    [ 'percent-encoded', '__session=' . ($token =~ s/\./%2E/gr) ],
    [ 'with a percent-encoded name', "__sess%69on=$token" ],
    [ 'with Bearer', "__session=Bearer $token" ],
    [ 'two, the first is bad', "__session=x; __session=$token" ],
    [ 'behind a comma', "a=b, __session=$token" ],
    [ 'half quoted', "__session=\"$token" ],
)
{
    my ($name, $cookie) = @$case;

    like(who('/', cookie => $cookie), qr/^401/, "cookie $name");
}

my $bare = $t->token(iss => 'https://bare.runcoach.test', sub => 'user_bare');

is(who('/bare', cookie => "__session_$test{suffix}=$bare"),
   '401 credentials-missing', 'no publishable key, no suffix');
is(who('/bare', cookie => "__session=$bare; __client_uat=1"), 'user_bare',
   'no publishable key, __session');
is(who('/bare', cookie => "__session=$bare; __client_uat=0"),
   '401 signed-out', 'no publishable key, __client_uat');

###############################################################################

# Which cookie it is: the rules of usesSuffixedCookies(), and what its library
# makes of them.  "Signed out" is what Clerk says of a __client_uat of 0.

my ($older, $newer, $uat) = ($now - 200, $now - 100, $now - 5000);

my @choices = (

    # name, instance, cookies: session, suffixed session, uat, suffixed uat,
    # what we say, why Clerk's library says something else

    [ '1: no iss', \%test, [ { iss => undef }, {}, $uat, $uat ],
      '401 token-invalid-issuer', 'they leave iss to the key' ],
    [ '1: not a token', \%test, [ 'x', {}, $uat, $uat ],
      '401 token-invalid' ],
    [ '1: not JSON', \%test, [ 'eyJ9.eyJ9.eyJ9', {}, $uat, $uat ],
      '401 token-invalid' ],
    [ '2: of another instance', \%test,
      [ { iss => $live{iss} }, {}, $uat, $uat ], 'suffixed' ],
    [ '2: of another instance, and signed out there', \%test,
      [ { iss => $live{iss} }, {}, 0, $uat ], 'suffixed' ],
    [ '2: of another instance, and newer', \%test,
      [ { iss => $live{iss}, iat => $newer }, { iat => $older }, $uat, $uat ],
      'suffixed' ],
    [ '2: of another instance, nothing of ours but a uat', \%test,
      [ { iss => $live{iss} }, undef, $uat, $uat ],
      '401 credentials-missing' ],
    [ '2: of another instance, nothing of ours', \%test,
      [ { iss => $live{iss} }, undef, $uat, undef ],
      '401 credentials-missing' ],
    [ '3: nothing with a suffix', \%test, [ {}, undef, $uat, undef ],
      'plain' ],
    [ '3: nothing with a suffix, no uat', \%test,
      [ {}, undef, undef, undef ], 'plain', 'they want a uat' ],
    [ '4: newer', \%test,
      [ { iat => $newer }, { iat => $older }, $uat, $uat ], 'plain' ],
    [ '4: newer, live', \%live,
      [ { iat => $newer }, { iat => $older }, $uat, $uat ], 'plain' ],
    [ '4: older', \%test,
      [ { iat => $older }, { iat => $newer }, $uat, $uat ], 'suffixed' ],
    [ '4: of the same age', \%test,
      [ { iat => $older }, { iat => $older }, $uat, $uat ], 'suffixed' ],
    [ '4: newer, without iat in the other', \%test,
      [ { iat => $newer }, { iat => undef }, $uat, $uat ], 'plain' ],
    [ '5: signed out of the suffixed one', \%test,
      [ { iat => $older }, { iat => $newer }, $uat, 0 ], 'plain' ],
    [ '5: signed out of the suffixed one, no uat', \%test,
      [ { iat => $older }, { iat => $newer }, undef, 0 ], 'plain',
      'they want a uat' ],
    [ '5: signed out of both', \%test,
      [ { iat => $older }, { iat => $newer }, 0, 0 ], '401 signed-out' ],
    [ '5: signed out of both, live', \%live,
      [ { iat => $older }, { iat => $newer }, 0, 0 ], '401 signed-out' ],
    [ '6: suffixed one expired', \%test,
      [ { iat => $older }, { iat => $older, exp => $now - 60 }, 0, $uat ],
      '401 signed-out' ],
    [ '6: suffixed one expired, live', \%live,
      [ { iat => $older }, { iat => $older, exp => $now - 60 }, 0, $uat ],
      '401 token-expired' ],
    [ '6: suffixed one good', \%test,
      [ { iat => $older }, { iat => $newer }, 0, $uat ], 'suffixed' ],
    [ '6: suffixed one good, live', \%live,
      [ { iat => $newer }, { iat => $older }, 0, $uat ], 'suffixed' ],
    [ '7: no suffixed uat', \%test,
      [ { iat => $older }, { iat => $newer }, $uat, undef ], 'plain' ],
    [ '7: no uat at all', \%test,
      [ { iat => $older }, { iat => $newer }, undef, undef ], 'plain',
      'they want a uat' ],
    [ '7: only the suffixed one', \%test, [ undef, {}, undef, undef ],
      '401 credentials-missing' ],
    [ '8: only the suffixed one', \%test, [ undef, {}, undef, $uat ],
      'suffixed' ],
    [ '8: only the suffixed one, signed out of the plain one', \%test,
      [ undef, {}, 0, $uat ], 'suffixed' ],
    [ '8: only the suffixed one, live', \%live,
      [ undef, {}, undef, $uat ], 'suffixed' ],

    [ 'uat 0', \%test, [ {}, undef, 0, undef ], '401 signed-out' ],
    [ 'uat 0, live', \%live, [ {}, undef, 0, undef ], '401 signed-out' ],
    [ 'suffixed uat 0, only that', \%test, [ undef, {}, 0, 0 ],
      '401 signed-out' ],
    [ 'iat before uat', \%test, [ { iat => $older }, undef, $now, undef ],
      '401 session-token-iat-before-client-uat' ],
    [ 'iat before the suffixed uat', \%live,
      [ undef, { iat => $older }, undef, $now ],
      '401 session-token-iat-before-client-uat' ],
    [ 'iat before the uat of the other', \%test,
      [ { iat => $older - 1 }, { iat => $older }, $now, $uat ], 'suffixed' ],
    [ 'iat at uat', \%test, [ { iat => $older }, undef, $older, undef ],
      'plain' ],
    [ 'uat is a word', \%test, [ {}, undef, 'x', undef ], 'plain',
      'they want a uat' ],
    [ 'uat is negative', \%test, [ {}, undef, '-1', undef ], 'plain', 'so' ],
    [ 'uat of 400 digits', \%test, [ {}, undef, '9' x 400, undef ],
      qr/^(?:401|user_plain)/, 'so' ],
    [ 'expired', \%test, [ { exp => $now - 60 }, undef, $uat, undef ],
      '401 token-expired' ],
    [ 'forged', \%test, [ { key => 'other' }, undef, $uat, undef ],
      '401 token-invalid-signature' ],
    [ 'forged, the other one is good', \%test,
      [ { key => 'other', iat => $newer }, { iat => $older }, $uat, $uat ],
      '401 token-invalid-signature' ],
);

$_->[2] = cookies($_->[1], @{$_->[2]}) for @choices;

my ($theirs, $why) = $t->peer_json('cookies.mjs', '@clerk/backend', {
    pem => $t->key_pem('issuer'),
    cases => [ map { { key => $_->[1]{key},
                       cookie => "$_->[2]; __clerk_db_jwt=dvb; "
                                 . "__clerk_db_jwt_$_->[1]{suffix}=dvb" } }
               @choices ] });

for my $i (0 .. $#choices) {
    my ($name, $instance, $cookie, $expected, $differs) = @{$choices[$i]};
    my $ours = who($instance->{path}, cookie => $cookie);

    ref($expected) ? like($ours, $expected, "choice $name")
    : $expected =~ /^401/ ? is($ours, $expected, "choice $name")
                          : is($ours, "user_$expected", "choice $name");

    next if !$theirs || $differs;

    is($ours =~ /^401/ ? 'refused' : $ours,
       $theirs->[$i] =~ /^refused/ ? 'refused' : $theirs->[$i],
       "choice $name: Clerk's library agrees") or diag($theirs->[$i]);
}

SKIP: {
    skip "no \@clerk/backend: $why", 1 unless $theirs;

    is(scalar(@$theirs), scalar(@choices), "Clerk's library has judged all");
}

# A header is not sent by itself: what cookies say of it does not matter.

is(who('/', token => $token, cookie => '__client_uat=0'), 'user_good',
   'header, signed out by cookie');

# Two instances behind one location: each finds its own cookies.

is(who('/both', cookie => cookies(\%live, {}, undef, $uat, undef)),
   'user_plain', 'two instances, __session of the second');
is(who('/both', cookie => cookies(\%live, undef, {}, undef, $uat)),
   'user_suffixed', 'two instances, suffixed one of the second');
is(who('/both', cookie => cookies(\%test, undef, {}, undef, $uat) . '; '
       . cookies(\%live, {}, undef, $uat, undef)), 'user_suffixed',
   'two instances, suffixed of the first, __session of the second');

###############################################################################

# Order of carriers: the first that has a token decides.

is(who('/header', token => $token), 'user_good', 'header only');
is(who('/header', cookie => "__session=$token"), '401 credentials-missing',
   'header only, cookie');
is(who('/cookie', cookie => "__session=$token"), 'user_good', 'cookie only');
is(who('/cookie', token => $token), '401 credentials-missing',
   'cookie only, header');
is(who('/cookie-header', token => $other, cookie => "__session=$token"),
   'user_good', 'cookie before header');
is(who('/', token => $token, cookie => "__session=$other"), 'user_good',
   'header before cookie');
like(who('/cookie-header', token => $token, cookie => "__session=$forged"),
     qr/^401 token-invalid-signature/, 'bad cookie before good header');

for my $case (
    [ 'variable', [ $token, $forged, $forged, $forged ] ],
    [ 'query', [ undef, $token, $forged, $forged ] ],
    [ 'cookie', [ undef, undef, $token, $forged ] ],
    [ 'header', [ undef, undef, undef, $token ] ],
)
{
    my ($name, $of) = @$case;
    my @bad = map { !defined ? undef : $_ eq $token ? $forged : $token } @$of;

    is(who(all(@$of)), 'user_good', "order: $name");
    like(who(all(@bad)), qr/^401 token-invalid-signature/,
         "order: bad $name, the rest is good");
}

is(who(all()), '401 credentials-missing', 'order: nothing');

# variables

is(who('/inherited/deeper', headers => ['X-Token' => $token]), 'user_good',
   'variable, inherited');
is(who('/inherited/deeper', token => $token), '401 credentials-missing',
   'variable, and a header');
is(who('/inherited/other', headers => ['X-Token' => $token]),
   '401 credentials-missing', 'inherited no more');
is(who('/text', headers => ['X-Head' => $head, 'X-Body' => $body,
                            'X-Sign' => $sign]), 'user_good',
   'text with variables');
like(who('/text', headers => ['X-Head' => $head, 'X-Body' => $body]),
     qr/^401 token-invalid/, 'text with variables, incomplete');
like(who('/inherited/deeper', headers => ['X-Token' => "Bearer $token"]),
     qr/^401 token-invalid/, 'variable with a scheme');
is(who('/protocol', headers => ['Sec-WebSocket-Protocol' => "bearer, $token"]),
   'user_good', 'subprotocol of a WebSocket');
is(who('/protocol', token => $token,
       headers => ['Sec-WebSocket-Protocol' => 'chat']), 'user_good',
   'other subprotocol, and a header');

###############################################################################

# A token in the query is seen by nobody behind us, whether it is good or not.

my %seen;

for my $case (

    # what is sent, what is left of it

    [ 'token=T', '' ],
    [ 'token=T&a=1', '?a=1' ],
    [ 'a=1&token=T', '?a=1' ],
    [ 'a=1&token=T&b=2', '?a=1&b=2' ],
    [ 'a=1&b=2&c=3&token=T&d=4', '?a=1&b=2&c=3&d=4' ],
    [ 'token=T&token=T', '' ],
    [ 'token=T&a=1&token=T', '?a=1' ],
    [ 'token=T&a=1&token=T&b=2&token=T', '?a=1&b=2' ],
    [ '%74oken=T&a=1', '?a=1' ],
    [ 'a=1&toke%6E=T', '?a=1' ],
    [ 'a=1&%74%6f%6B%65%6e=T&b=2', '?a=1&b=2' ],
    [ 'token=T&%74oken=T&a=1', '?a=1' ],
    [ 'mytoken=1&token=T&tokens=2&token2=3&to=4', '?mytoken=1&tokens=2&token2=3&to=4' ],
    [ 'a&token=T&b', '?a&b' ],
    [ 'a=token=1&token=T', '?a=token=1' ],
    [ 'a=%26token%3D1&token=T', '?a=%26token%3D1' ],
    [ 'a=x+y%20z&token=T&b=%C3%A9', '?a=x+y%20z&b=%C3%A9' ],
    [ 'a=b?c&token=T', '?a=b?c' ],
    [ 'token=&a=1', '?a=1' ],
)
{
    my ($sent, $left) = @$case;

    for my $query ($token, $forged) {
        my $name = $query eq $token ? 'good' : 'bad';
        my $target = '/optional?' . ($sent =~ s/=T/=$query/gr);
        my $r = $t->get($target);

        is($r->status, 200, "?$sent: $name");
        is($r->body =~ s/ $//r, "/optional$left", "?$sent: $name, removed");

        if ($name eq 'bad' || $sent !~ /=T/) {
            is($r->header('X-User'), undef, "?$sent: $name, nobody");

        } else {
            is($r->header('X-User'), 'user_good', "?$sent: $name, user");
        }
    }
}

for my $token ($token, $forged) {
    my ($head, $body, $sign) = split(/\./, $token);
    my $name = $token eq $forged ? 'bad' : 'good';
    my $r = $t->get("/optional/a%20b%2Fc/%C3%A9?a=1&token=$token");

    is($r->body =~ s/ $//r, '/optional/a%20b%2Fc/%C3%A9?a=1',
       "path as it came, $name");

    $r = $t->get("/replaced/x?token=$token&a=1");
    is($r->body =~ s/ $//r, '/new/x?a=1', "path replaced, $name");

    $r = $t->get("/variables?a=1&token=$token&b=2");
    unlike($r->body, qr/\Q$sign\E/, "no variable has it, $name");
    like($r->body, qr{^/variables\?a=1&b=2 a=1&b=2\|a=1&b=2\|\|},
         "what variables have, $name");

    $r = $t->get("/optional?a=1&token=$token", token => $other);
    is($r->header('X-User'), 'user_other', "another carrier wins, $name");
    is($r->body =~ s/ $//r, '/optional?a=1',
       "another carrier wins, $name, removed");

    is($t->get("/down?token=$token")->status, 502, "upstream down, $name");
    $t->get("/limited?token=$token") for 1 .. 2;
}

is($t->get("/query?token=$token")->header('X-User'), 'user_good', 'query');

my $later = $t->token(iss => 'https://slow.runcoach.test', sub => 'user_late');
my @waiting = map { $t->request_start('GET', "/slow?a=$_&token=$later") } 1 .. 3;

for my $n (1 .. 3) {
    my $r = $t->request_end($waiting[$n - 1]);

    is($r->header('X-User'), 'user_late', "after waiting for keys $n");
    is($r->body =~ s/ $//r, "/slow?a=$n", "after waiting for keys $n, removed");
}

unlike(join('', map { "$_->{target} @{[ %{$_->{headers}} ]}" }
            $t->requests($slow)), qr/token|\Q$later\E/,
       'keys are fetched without it');

for my $case ([ 'one=T', 'user_good' ], [ 'two=T', 'user_good' ],
              [ 'one=T&two=F', 'user_good' ], [ 'two=F&one=T', 'user_good' ],
              [ 'one=F&two=T', '' ], [ 'two=T&one=F', '' ],
              [ 'one=&two=T', 'user_good' ])
{
    my ($query, $user) = @$case;
    my $r = $t->get("/names?$query&a=1" =~ s/=T/=$token/r =~ s/=F/=$forged/r);

    is($r->header('X-User') // '', $user, "two names: $query");
    is($r->body =~ s/ $//r, '/names?a=1', "two names: $query, removed");
}

is(who("/first?a=1&token=$token"), 'user_good', 'internal redirect');
is(who("/first?a=1&token=$forged"), '401 token-invalid-signature',
   'internal redirect, bad token');
is($t->get("/first?a=1&token=$token")->body =~ s/ $//r, '/second?b=2',
   'internal redirect, removed');
is(who("/elsewhere?token=$token"), '401 credentials-missing',
   'internal redirect to where no query is looked at');

is($t->get("/page?a=1&token=$token")->body =~ s/ $//r, '/page?a=1', 'page');
like(who("/query?token=$forged"), qr/^401 token-invalid-signature/,
     'bad token in the query');
is(who('/query?token='), '401 credentials-missing', 'empty');
is(who('/query?token'), '401 credentials-missing', 'without a value');
is(who('/query'), '401 credentials-missing', 'no query');
is(who("/query?tokens=$other"), '401 credentials-missing', 'longer name');
is(who("/?token=$other"), '401 credentials-missing', 'query, not configured');
like(who("/query?token=$forged&token=$token"), qr/^401/,
     'two, the first is bad');

# an error page which is an upstream

my $r = $t->get("/page?a=1&token=$forged");

is($r->status, 200, 'error page');
is($r->body =~ s/ $//r, '/page?a=1', 'error page, removed');
is($r->header('X-User'), undef, 'error page, nobody');

###############################################################################

# Machine tokens which only Clerk can read are refused, and no session is
# asked in their place.

my $session = $t->session(42);

for my $opaque ('mt_abc123', 'm2m_abc123', 'oat_abc123', 'ak_abc123',
                'ak_a/b+c==', 'mt_')
{
    for my $path (qw{ /invalid /missing /never / }) {
        $t->{redis}->cmd('CONFIG', 'RESETSTAT');

        my $r = $t->get($path, token => $opaque, cookie => $session);

        is($r->status, 401, "$opaque: $path");
        is($r->header('X-Reason'), 'token-type-opaque', "$opaque: $path why");
        is($r->header('X-User'), undef, "$opaque: $path, nobody");
        is($r->header('WWW-Authenticate'), 'Bearer error="invalid_token"',
           "$opaque: $path, challenge");
        is(gets(), 0, "$opaque: $path, Redis is not asked");
    }
}

is(who('/all', headers => ['X-Token' => 'mt_abc'], token => $token),
   '401 token-type-opaque', 'opaque in a variable, good header');
is(who('/query?token=oat_abc'), '401 token-type-opaque', 'opaque in a query');
is(who('/', token => 'ak_x', cookie => "__session=$token"),
   '401 token-type-opaque', 'opaque, and a good cookie');

for my $word (qw/ mt MT_abc xmt_abc mtabc oat-abc /) {
    is(who('/', token => $word), '401 token-invalid', "$word is not opaque");
}

###############################################################################

# When a session may be tried: path, no token, bad token.

for my $case (
    [ '/invalid', 42, 42 ],
    [ '/missing', 42, 401 ],
    [ '/never', 401, 401 ],
)
{
    my ($path, $without, $bad) = @$case;

    my @given = (
        [ 'no token', $without, $path ],
        [ 'bad header', $bad, $path, token => $forged ],
        [ 'bad query', $bad, "$path?token=$forged" ],
        [ 'bad cookie', $bad, $path, more => "__session=$forged" ],
        [ 'signed out', $bad, $path,
          more => "__session=$other; __client_uat=0" ],
    );

    for my $given (@given) {
        my ($name, $expected, $target, %opt) = @$given;
        my $more = delete $opt{more};
        my $cookie = defined $more ? "$more; $session" : $session;

        # whoever is signed out has shown credentials or none, who can tell

        next if $path eq '/missing' && $name eq 'signed out';

        like(who($target, cookie => $cookie, %opt), qr/^$expected/,
             "$path: $name, good session");
        like(who($target, cookie => $cookie =~ s/session_id=./session_id=x/r,
                 %opt), qr/^401/, "$path: $name, bad session");
    }

    is(who($path, token => $token, cookie => $session), 'user_good',
       "$path: good token, good session");
}

###############################################################################

# A WebSocket, of which a browser can only choose the URL.

my $handshake = <<'EOR' =~ s/\n/\r\n/gr;
GET %s HTTP/1.1
Host: localhost
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
X-User: evil

EOR

my $answer = $t->http(sprintf($handshake, "/ws/7?access_token=$token&room=1"),
                      body => 'ping', sleep => 0.1);

# where the header had to wait, nginx sends what follows before it

like($answer, $ENV{RUNCOACH_SHIM} ? qr{HTTP/1\.1 101 .*\r\n\r\n}s
                                  : qr{\AHTTP/1\.1 101 .*\r\n\r\nping\z}s,
     'WebSocket');

my ($met) = $t->requests($socket);

is($met->{target}, '/ws/7?room=1', 'WebSocket: no token in the URL');
is_deeply($met->{headers}{'x-user'}, ['user_good'], 'WebSocket: user');

$t->forget_requests($socket);
like($t->http(sprintf($handshake, "/ws/7?access_token=$forged&room=1"),
              timeout => 2), qr{\AHTTP/1\.1 401 }, 'WebSocket: bad token');
like($t->http(sprintf($handshake, '/ws/7?room=1'), timeout => 2),
     qr{\AHTTP/1\.1 401 }, 'WebSocket: no token');
is(scalar($t->requests($socket)), 0, 'WebSocket: they stop here');

###############################################################################

# HTTP/2

SKIP: {
    skip 'no curl', 5 unless Test::Runcoach::find_program('curl');

    my $url = 'http://' . $t->host(8081);

    like(curl('-H', "authorization: bearer $token", "$url/"),
         qr{^HTTP/2 200.*x-user: user_good}s, 'http2: header');
    my @four = split(/; /, cookies(\%test, { iat => $newer },
                                   { iat => $older }, $uat, $uat));

    like(curl((map { ('-H', "Cookie: $_") } 'a=b', @four), "$url/"),
         qr{^HTTP/2 200.*x-user: user_plain}s,
         'http2: four cookies, the plain one is newer');
    like(curl('-H', 'Cookie: a=b', '-H', "Cookie: __session_$test{suffix}="
              . $token, '-H', "Cookie: __client_uat_$test{suffix}=1", '-H',
              'Cookie: __session=', "$url/"),
         qr{^HTTP/2 200.*x-user: user_good}s, 'http2: cookies');

    my $out = curl("$url/optional?a=1&token=$token&b=2");

    like($out, qr{^HTTP/2 200.*x-user: user_good.*/optional\?a=1&b=2 $}s,
         'http2: query');
    like(curl('-H', 'authorization: Bearer mt_x', "$url/"),
         qr{^HTTP/2 401.*token-type-opaque}s, 'http2: opaque');
}

###############################################################################

# Mistakes are found before anything is served.

my $conf = <<'EOT';

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone    runcoach:1m;
    runcoach_issuer  clerk  issuer=https://x  key=env:CLERK_JWT_KEY;

    server {
        listen         127.0.0.1:8084;
        runcoach_auth  clerk;
        DIRECTIVE
    }
}
EOT

for my $bad ('runcoach_auth_token;', 'runcoach_auth_token bearer;',
             'runcoach_auth_token query=;', 'runcoach_auth_token header header;',
             'runcoach_auth_token header; runcoach_auth_token cookie;',
             'runcoach_auth_token $no_such_variable;',
             'runcoach_auth_fallback sometimes;')
{
    my ($status, $out) = $t->configtest($conf =~ s/DIRECTIVE/$bad/r,
                           env => { CLERK_JWT_KEY => $t->key_pem('issuer') });

    isnt($status, 0, "configuration: $bad");
    like($out, qr/\[emerg\]/, 'and why');
}

# The tokens that came in a query are in no log, whatever else was logged of
# their requests.

$t->stop();

my @logs = ('error.log', 'access.log');

for my $log (@logs) {
    my $text = $t->read_file($log);

    for my $query ($token, $forged) {
        my ($sign) = $query =~ /([^.]+)$/;
        my @lines = grep { /\Q$sign\E/ } split(/^/, $text);

        is(scalar(@lines), 0, "$log: no " . ($query eq $token ? 'good' : 'bad')
           . ' token of a query') or diag(cut($lines[0]));
    }

    like($text, qr{/optional\?a=1&b=2}, "$log: the rest of the query")
        if $log eq 'access.log';
}

$t->done();

###############################################################################

# a user, or the status and why

sub who
{
    my $r = $t->get(@_);

    return $r->status == 200 ? $r->header('X-User') // ''
           : $r->status . ' ' . ($r->header('X-Reason') // '');
}


sub all
{
    my ($variable, $query, $cookie, $header) = @_;

    return ('/all' . (defined $query ? "?token=$query" : ''),
            headers => [defined $variable ? ('X-Token' => $variable) : (),
                        defined $cookie ? (Cookie => "__session=$cookie") : (),
                        defined $header
                        ? (Authorization => "Bearer $header") : ()]);
}


sub instance
{
    my ($kind, $host) = @_;

    my $key = "pk_${kind}_" . (encode_base64("$host\$", '') =~ s/=+$//r);

    return (key => $key, iss => "https://$host",
            suffix => substr(b64url(sha1($key)), 0, 8),
            path => $kind eq 'live' ? '/live' : '/');
}


# session and suffixed session: claims of a token, or text; undef for none

sub cookies
{
    my ($instance, $plain, $suffixed, $uat, $suffixed_uat) = @_;

    my $suffix = "_$instance->{suffix}";
    my @cookies;

    for my $of ([ '__session', $plain, 'user_plain' ],
                [ "__session$suffix", $suffixed, 'user_suffixed' ])
    {
        my ($name, $claims, $sub) = @$of;

        $claims = $t->token(iss => $instance->{iss}, sub => $sub,
                            iat => $now - 100, nbf => undef, %$claims)
            if ref $claims;

        push @cookies, "$name=$claims" if defined $claims;
    }

    push @cookies, "__client_uat=$uat" if defined $uat;
    push @cookies, "__client_uat$suffix=$suffixed_uat"
        if defined $suffixed_uat;

    return join('; ', @cookies);
}


sub gets
{
    my ($calls) = $t->{redis}->cmd('INFO', 'commandstats')
                  =~ /cmdstat_get:calls=(\d+)/;

    return $calls || 0;
}


sub curl
{
    my (undef, $out) = $t->curl('--http2-prior-knowledge', '-i', @_);

    return $out;
}


sub cut { return substr($_[0], 0, 300) }


# says yes, and sends back what comes

sub websocket
{
    my ($request, $client) = @_;

    Test::Runcoach::send_all($client, "HTTP/1.1 101 Switching Protocols\r\n"
        . "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n");

    my $bytes;

    Test::Runcoach::send_all($client, $bytes)
        if sysread($client, $bytes, 4);

    return undef;
}

###############################################################################
