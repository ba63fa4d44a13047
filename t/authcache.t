#!/usr/bin/perl

# Tests for what is remembered of credentials: by a worker, by all of them, for
# how long, and above all when it may not be used.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ hmac_sha256 /;
use Test::More;
use Test::Runcoach qw/ b64url json_encode /;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();
my $redis = $t->redis();

my $secret = 'a secret of this test which is long enough ' x 2;

# the key sets are files, so that keys can be changed

my $keys = $t->http_daemon(sub {
    my ($request) = @_;

    return [200, {}, $t->read_file("jwks$request->{target}")];
}, port => 8091, name => 'keys');

$t->write_file('jwks/rotated', $t->jwks('issuer'));
$t->write_file('jwks/fresh', $t->jwks('issuer', 'second'));
$t->write_file('jwks/same', $t->jwks($t->jwk('issuer', kid => 'ins_k')));

# Issuers whose parameters change at a reload: before and after, claims of a
# token that is good before, and why it is not after.

my $now = int(time());

my %changed = (
    parties => [ 'authorized_parties=https://a.test',
                 'authorized_parties=https://b.test',
                 { azp => 'https://a.test' },
                 'token-invalid-authorized-parties' ],
    azp => [ 'authorized_parties=https://a.test azp=off',
             'authorized_parties=https://a.test azp=require', {},
             'token-invalid-authorized-parties' ],
    audience => [ 'audience=a', 'audience=b', { aud => 'a' },
                  'token-invalid-audience' ],
    require => [ '', 'require=role=admin', { role => 'user' }, qr/^token-/ ],
    required => [ 'require=role=user', 'require=role=admin',
                  { role => 'user' }, qr/^token-/ ],
    accept => [ 'accept=session,template', 'accept=template', {},
                'token-type-mismatch' ],
    pending => [ 'pending=allow', 'pending=deny', { sts => 'pending' },
                 'session-pending' ],
    lifetime => [ '', 'max_lifetime=30m', {}, 'token-invalid-lifetime' ],
    leeway => [ 'leeway=600s', 'leeway=0s', { exp => $now - 1 },
                'token-expired' ],
    algorithms => [ 'algorithms=HS256', 'algorithms=HS384', {},
                    'token-invalid-algorithm' ],
    secret => [ 'secret=env:JWT_SECRET', 'secret=env:JWT_OTHER', {},
                'token-invalid-signature' ],
    issuer => [ 'issuer=https://issuer.test', 'issuer=https://issuer.test/',
                {}, 'token-invalid-issuer' ],
    user => [ 'user=internal', '', { sub => '42' },
              'token-invalid-subject' ],
);

my $template = <<'EOT';

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    keepalive_requests   1000000;
    access_log           off;

    runcoach_zone        runcoach:4m;
    runcoach_redis       %%REDIS_URL%%  timeout=1s;
    runcoach_auth_cache  %%CACHE%%;
    runcoach_session     cookie=session_id  prefix=session:  cache=%%SESSION%%;

    runcoach_issuer  clerk   issuer=https://clerk.test  secret=env:JWT_SECRET;
    runcoach_issuer  twin    issuer=https://twin.test   secret=env:JWT_SECRET;
    runcoach_issuer  sharp   issuer=https://sharp.test  secret=env:JWT_SECRET
                             leeway=0s;
    runcoach_issuer  soft    issuer=https://soft.test   secret=env:JWT_SECRET
                             leeway=2s;
    runcoach_issuer  party   issuer=https://party.test  secret=env:JWT_SECRET
                             authorized_parties=https://a.test;
    runcoach_issuer  rsa     issuer=https://rsa.test    key=env:CLERK_JWT_KEY;

    runcoach_issuer  rotated  issuer=https://rotated.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8091/rotated;
    runcoach_issuer  same     issuer=https://same.test
                     jwks=/_jwks  jwks_url=http://127.0.0.1:8091/same;
    runcoach_issuer  fresh    issuer=https://fresh.test  jwks_refresh=1s
                     jwks=/_fresh  jwks_url=http://127.0.0.1:8091/fresh;

    runcoach_issuer  %%NAME%%  issuer=https://named.test
                               secret=env:JWT_SECRET;
%%ISSUERS%%

    runcoach_claim  $role  %%ROLE%%;

    proxy_cache_path  %%TESTDIR%%/cache  keys_zone=jwks:1m;

    add_header  X-Pid     $pid                   always;
    add_header  X-Cache   $runcoach_auth_cache   always;
    add_header  X-User    $runcoach_user         always;
    add_header  X-Method  $runcoach_auth_method  always;
    add_header  X-Reason  $runcoach_auth_reason  always;
    add_header  X-Role    $role                  always;

    server {
        listen  127.0.0.1:8080 reuseport;

        location /clerk    { runcoach_auth clerk session;  empty_gif; }
        location /twin     { runcoach_auth twin;           empty_gif; }
        location /twins    { runcoach_auth twin clerk;     empty_gif; }
        location /sharp    { runcoach_auth sharp;          empty_gif; }
        location /soft     { runcoach_auth soft;           empty_gif; }
        location /party    { runcoach_auth party;          empty_gif; }
        location /rsa      { runcoach_auth rsa;            empty_gif; }
        location /rotated  { runcoach_auth rotated;        empty_gif; }
        location /same     { runcoach_auth same;           empty_gif; }
        location /fresh    { runcoach_auth fresh;          empty_gif; }
        location /named    { runcoach_auth %%NAME%%;       empty_gif; }
%%LOCATIONS%%

        location /flood {
            error_log      /dev/null  crit;
            runcoach_auth  clerk session;
            empty_gif;
        }

        location /rsa-flood {
            error_log      /dev/null  crit;
            runcoach_auth  rsa;
            empty_gif;
        }

        location /_jwks {
            internal;

            proxy_pass         $runcoach_jwks_url;
            proxy_cache        jwks;
            proxy_cache_key    "$runcoach_jwks_url $runcoach_jwks_epoch";
            proxy_cache_valid  200 5m;
            proxy_cache_lock   on;
        }

        location /_fresh {
            internal;
            proxy_pass  $runcoach_jwks_url;
        }
    }
}
EOT

configure(CACHE => 'entries=64', SESSION => '2s', ROLE => 'role',
          NAME => 'one', after => 0);

$t->run(env => { JWT_SECRET => $secret, JWT_OTHER => 'x' x 40,
                 CLERK_JWT_KEY => $t->key_pem('issuer') });

###############################################################################

# A token is verified once: the second time it is known, in the other worker
# as well.

is($t->get('/clerk')->header('X-Cache'), undef, 'no credentials');

for my $case ([ '/clerk', token() ],
              [ '/rsa', $t->token(iss => 'https://rsa.test') ])
{
    my ($path, $token) = @$case;

    is($t->get($path, token => $token)->header('X-Cache'), 'MISS',
       "$path: first");
    is(said($_, 'X-Cache'), 'HIT', "$path: then")
        for both_workers($path, token => $token);
}

# so is a large one, whatever of it fits where

my $large = token(pad => 'x' x 4000, role => 'y' x 800);

is($t->get('/clerk', token => $large)->header('X-Cache'), 'MISS', 'large');
is(said($_, 'X-Role'), 'y' x 800, 'large, claim')
    for both_workers('/clerk', token => $large);

my ($worker) = both_workers('/clerk', token => $large);

is($worker->header('X-Cache'), 'HIT', 'large, then');

###############################################################################

# Times are looked at each time.  The tokens below change within 3 seconds,
# counted from the beginning of one.

my $start = int(time()) + 1;

sleep($start - time());

my @dies = (
    [ '/sharp', 'exp', token(iss => 'https://sharp.test',
                             exp => $start + 3) ],
    [ '/sharp', 'real exp', token(iss => 'https://sharp.test',
                                  exp => $start + 2.5) ],
    [ '/soft', 'exp and leeway', token(iss => 'https://soft.test',
                                       exp => $start + 1) ],
    [ '/soft', 'exp before its first use', token(iss => 'https://soft.test',
                                                 exp => $start + 0.5) ],
);

my @comes = (
    [ '/sharp', 'nbf', token(iss => 'https://sharp.test',
                             nbf => $start + 3) ],
    [ '/soft', 'nbf and leeway', token(iss => 'https://soft.test',
                                       nbf => $start + 5) ],
);

for my $case (@dies) {
    my ($path, $name, $token) = @$case;

    is($t->get($path, token => $token)->status, 200, "$name: at first");
    is(said($_, 'X-Cache'), 'HIT', "$name: known")
        for both_workers($path, token => $token);
}

for my $case (@comes) {
    my ($path, $name, $token) = @$case;

    is(said($_, 'X-Reason'), 'token-not-active-yet', "$name: not yet")
        for both_workers($path, token => $token);
}

# Meanwhile: what looks like a token which is known, and is another.

for my $case ([ '/clerk', token(sub => 'user_a'), 'HS256' ],
              [ '/rsa', $t->token(iss => 'https://rsa.test',
                                  sub => 'user_a'), 'RS256' ])
{
    my ($path, $token, $alg) = @$case;
    my ($head, $body, $sign) = split(/\./, $token);
    my $evil = b64url(Test::Runcoach::unb64url($body)
                      =~ s/user_a/user_b/r);
    my $n = length($sign);

    $t->get($path, token => $token) for 1 .. 3;

    my %other = (
        'other body' => "$head.$evil.$sign",
        'other header' => b64url("{\"alg\":\"$alg\",\"a\":1}")
                          . ".$body.$sign",
        'header with a space' => b64url("{\"alg\":\"$alg\", \"typ\":\"JWT\"}")
                                 . ".$body.$sign",
        'first of the signature' => "$head.$body."
            . flip(substr($sign, 0, 1)) . substr($sign, 1),
        'middle of the signature' => "$head.$body."
            . substr($sign, 0, $n / 2) . flip(substr($sign, $n / 2, 1))
            . substr($sign, $n / 2 + 1),
        'last but one' => "$head.$body." . substr($sign, 0, -2)
            . flip(substr($sign, -2, 1)) . substr($sign, -1),
        'longer' => "$head.$body.${sign}AAAA",
        'shorter' => "$head.$body." . substr($sign, 0, -4),
        'no signature' => "$head.$body.",
        'prefix' => substr($token, 0, -1),
        'another letter in front' => "x$token",
        'tail' => substr($token, 1),
        'tail of it as a word' => substr($token, -60),
        'body and tail' => "$body.$sign",
    );

    for my $name (sort keys %other) {
        for my $n (1, 2) {
            my $r = $t->get($path, token => $other{$name});

            is($r->status, 401, "$alg: $name, $n");
            is($r->header('X-User'), undef, "$alg: $name, nobody, $n");
        }
    }

    is(said($_, 'X-User'), 'user_a', "$alg: and the right one")
        for both_workers($path, token => $token);
}

# A verdict is of one issuer, and of one way to come.

my $mine = token();
my $twin = token(iss => 'https://twin.test');

for (1 .. 2) {
    is($t->get('/clerk', token => $mine)->status, 200, "issuer: own $_");
    is(said($t->get('/twin', token => $mine), 'X-Reason'),
       'token-invalid-issuer', "issuer: location of another $_");
    is($t->get('/twin', token => $twin)->status, 200, "issuer: twin $_");
    is(said($t->get('/clerk', token => $twin), 'X-Reason'),
       'token-invalid-issuer', "issuer: twin in the location of another $_");
    is($t->get('/twins', token => $mine)->header('X-Method'), 'clerk',
       "issuer: of two $_");
    is($t->get('/twins', token => $twin)->header('X-Method'), 'twin',
       "issuer: of two, the other $_");
}

for my $first ('header', 'cookie') {
    my $token = token(iss => 'https://party.test', first => $first);
    my %as = (header => [ token => $token ],
              cookie => [ cookie => "__session=$token" ]);
    my ($second) = grep { $_ ne $first } keys %as;

    for my $carrier ($first, $second, $first, $second) {
        is(said($_, 'X-Reason') // 'good', $carrier eq 'header'
           ? 'token-invalid-authorized-parties' : 'good',
           "first by $first: $carrier")
            for both_workers('/party', @{$as{$carrier}});
    }
}

# ... and now it is later

sleep($start + 3.3 - time()) if time() < $start + 3.3;

for my $case (@dies) {
    my ($path, $name, $token) = @$case;

    is(said($_, 'X-Reason'), 'token-expired', "$name: at last")
        for both_workers($path, token => $token);
}

for my $case (@comes) {
    my ($path, $name, $token) = @$case;

    is($_->status, 200, "$name: at last")
        for both_workers($path, token => $token);
}

###############################################################################

# What is refused does not push out what is accepted.

my @known = map { token(sub => "user_$_") } 1 .. 16;
my @all = map { ('/clerk', $_) } @known;

bulk(@all) for 1 .. 2;

my ($head, $body) = split(/\./, token());

bulk(map { ('/flood', "$head.$body." . random()) } 1 .. 4000);
bulk(map { ('/flood', "$head." . b64url('{"sub":"' . random() . '"}') . '.'
            . random()) } 1 .. 1000);
bulk(map { ('/flood', random()) } 1 .. 1000);

is(scalar(grep { $_->{cache} eq 'HIT' && $_->{status} == 200 } bulk(@all)),
   16, 'known ones after a flood of bad ones');

# More tokens than there is room for: all of them are still who they are.

my @many = map { [ "user_m$_", token(sub => "user_m$_") ] } 1 .. 2000;

for my $round (1 .. 3) {
    my @order = $round == 2 ? reverse(@many) : @many;
    my @got = bulk(map { ('/clerk', $_->[1]) } @order);

    is(scalar(@got), scalar(@order), "many, round $round: answers");
    is(scalar(grep { $got[$_]{status} == 200
                     && $got[$_]{user} eq $order[$_][0] } 0 .. $#order),
       scalar(@order), "many, round $round: right ones");
}

# A random part of them again, the last ones among bad ones.

my @mixed = map { my $it = $many[rand(@many)];
                  ([ 200, @$it ],
                   [ 401, '', $it->[1] =~ s/[^.]+$/random()/er ]) } 1 .. 1000;
my @got = bulk(map { ('/flood', $_->[2]) } @mixed);

is(scalar(grep { $got[$_]{status} == $mixed[$_][0]
                 && $got[$_]{user} eq $mixed[$_][1] } 0 .. $#mixed),
   scalar(@mixed), 'good and bad ones of the same words');

###############################################################################

# Keys that are gone take their verdicts with them.

my $old = $t->token(iss => 'https://rotated.test', sub => 'user_old');
my $new = $t->token(iss => 'https://rotated.test', key => 'second');

is($t->get('/rotated', token => $old)->status, 200, 'rotation: old key');
is(said($_, 'X-Cache'), 'HIT', 'rotation: old key, known')
    for both_workers('/rotated', token => $old);

$t->write_file('jwks/rotated', $t->jwks('second'));

is($_->status, 200, 'rotation: new key')
    for both_workers('/rotated', token => $new);
is(said($_, 'X-Reason'), 'jwk-kid-mismatch', 'rotation: old key is gone')
    for both_workers('/rotated', token => $old);
is(said($_, 'X-Cache'), 'HIT', 'rotation: new key, known')
    for both_workers('/rotated', token => $new);

# The same with a key that has the kid of the old one: the first token by it is
# refused, and has a new set fetched.

$old = $t->token(iss => 'https://same.test', kid => 'ins_k');
$new = $t->token(iss => 'https://same.test', kid => 'ins_k',
                 key => 'second');

is($t->get('/same', token => $old)->status, 200, 'same kid: old key');
is(said($_, 'X-Cache'), 'HIT', 'same kid: old key, known')
    for both_workers('/same', token => $old);

$t->write_file('jwks/same', $t->jwks($t->jwk('second', kid => 'ins_k')));

is(said($t->get('/same', token => $new), 'X-Reason'),
   'token-invalid-signature', 'same kid: new key, at first');

ok($t->wait_for(sub {
    return !grep { $_->status != 200 } both_workers('/same', token => $new);
}, 5), 'same kid: new key, then');

is(said($_, 'X-Reason'), 'token-invalid-signature', 'same kid: old key is gone')
    for both_workers('/same', token => $old);

# A key that is taken out, while nobody comes with another one: its tokens end
# with the next refresh, and those of the key that stays do not.

$old = $t->token(iss => 'https://fresh.test');
$new = $t->token(iss => 'https://fresh.test', key => 'second');

for my $token ($old, $new) {
    is($_->status, 200, 'refresh: before')
        for both_workers('/fresh', token => $token);
}

$t->write_file('jwks/fresh', $t->jwks('second'));

my $refused = 0;

ok($t->wait_for(sub {
    $refused += grep { $_->status != 200 }
                both_workers('/fresh', token => $new);
    return !grep { $_->status != 401 } both_workers('/fresh', token => $old);
}, 6), 'refresh: old key is gone');

is($refused, 0, 'refresh: new key was good all the time');

###############################################################################

# Sessions: asked once in a while, by each worker at most, and forgotten.

my $kept = $t->session(42);
my $gone = $t->session(43);
my $unknown = 'session_id=' . 'u' x 43;
my $broken = $t->session(0, raw => '{');
my $fresh = $t->session(45);

for my $case ([ 'good', $kept, 200, 42 ], [ 'to go', $gone, 200, 43 ],
              [ 'unknown', $unknown, 401 ], [ 'broken', $broken, 401 ])
{
    my ($name, $cookie, $status, $user) = @$case;

    $redis->cmd('CONFIG', 'RESETSTAT');

    is(said($t->get('/clerk', cookie => $cookie), 'X-Cache'), 'MISS',
       "session $name: first") if $status == 200;

    my @answers = map { $t->get('/clerk', cookie => $cookie) } 1 .. 20;

    is(scalar(grep { $_->status == $status
                     && ($_->header('X-User') // '') eq ($user // '') }
              @answers), 20, "session $name: answers");
    cmp_ok(gets(), '>=', 1, "session $name: asked");
    cmp_ok(gets(), '<=', 2, "session $name: once by each worker");

    is(said($answers[-1], 'X-Cache'), 'HIT', "session $name: known")
        if $status == 200;
}

$redis->cmd('SET', id($kept), '{"user_id":44}');
$redis->cmd('DEL', id($gone));
$redis->cmd('SET', id($unknown), '{"user_id":46}');

sleep(2.6);

is(said($_, 'X-User'), 44, 'session: another user')
    for both_workers('/clerk', cookie => $kept);
is(said($_, 'X-Reason'), 'session-unknown', 'session: gone')
    for both_workers('/clerk', cookie => $gone);
is(said($_, 'X-User'), 46, 'session: there now')
    for both_workers('/clerk', cookie => $unknown);

# Redis is away: that is not remembered, of nobody.

$redis->stop();

ok($t->wait_for(sub {
    return $t->get('/clerk', cookie => $fresh)->status == 503;
}), 'session: Redis is away');

is($_->status, 503, 'session: Redis is still away')
    for both_workers('/clerk', cookie => $fresh);
is($t->get('/clerk', token => $mine)->status, 200, 'token, without Redis');

$redis->start();
$redis->cmd('SET', id($fresh), '{"user_id":45}');

ok($t->wait_for(sub {
    return !grep { $_->status != 200 }
           both_workers('/clerk', cookie => $fresh);
}, 4), 'session: Redis is back');

# ids of sessions nobody has, more than there is room for

bulk(map { ('/flood', \('session_id=' . random())) } 1 .. 3000);
is($t->get('/clerk', cookie => $fresh)->header('X-User'), 45,
   'session, after many unknown ones');

###############################################################################

# Memory has its bounds, whatever comes.

my @workers = $t->workers();
my %bodies = map { my $name = $_; ($name => [ map {
    b64url("{\"iss\":\"https://$name.test\",\"sub\":\"user_$_\",\"exp\":"
           . ($now + 3600) . '}')
} 1 .. 100 ]) } qw/ clerk rsa /;

flood(10000);

my $before = rss();

flood(40000);

my $after = rss();

SKIP: {
    skip 'AddressSanitizer keeps what is freed', 1 if $ENV{RUNCOACH_ASAN};

    cmp_ok($after - $before, '<', 2048,
           "memory: $before kB, and after 40,000 bad tokens $after kB");
}

is(join(' ', sort $t->workers()), join(' ', sort @workers),
   'no worker has died');

###############################################################################

# A reload with other parameters: what was verified under the old ones is not
# verified, and is again when they are back.

my %token = map {
    my $iss = $_ eq 'issuer' ? 'https://issuer.test' : "https://$_.test";
    ($_ => token(iss => $iss, role => 'user', other => 'thing',
                 %{$changed{$_}[2]}))
} keys %changed;

my $named = token(iss => 'https://named.test', role => 'user',
                  other => 'thing');

for my $name (sort keys %changed) {
    $t->get("/c_$name", token => $token{$name});
    is(said($t->get("/c_$name", token => $token{$name}), 'X-Reason')
       // 'good', 'good', "$name: before a reload");
}

is($t->get('/named', token => $named)->header('X-Method'), 'one', 'name');
is($t->get('/named', token => $named)->header('X-Role'), 'user', 'claim');

configure(after => 1, ROLE => 'other', NAME => 'two');
$t->reload();

for my $name (sort keys %changed) {
    my $why = $changed{$name}[3];

    for my $n (1, 2) {
        my $r = $t->get("/c_$name", token => $token{$name});

        is($r->status, 401, "$name: after a reload $n");
        like($r->header('X-Reason') // '', ref($why) ? $why : qr/^$why$/,
             "$name: after a reload $n, why");
    }
}

is(said($_, 'X-Method'), 'two', 'name: after a reload')
    for both_workers('/named', token => $named);
is(said($_, 'X-Role'), 'thing', 'claim: after a reload')
    for both_workers('/named', token => $named);

configure(after => 0, ROLE => 'role', NAME => 'one');
$t->reload();

for my $name (sort keys %changed) {
    is($t->get("/c_$name", token => $token{$name})->status, 200,
       "$name: and back");
}

is(said($_, 'X-Role'), 'user', 'claim: and back')
    for both_workers('/named', token => $named);

# A reload with the same parameters loses nothing.

is($t->get('/clerk', token => $mine)->status, 200, 'before a reload');
$t->reload();
is(said($_, 'X-Cache'), 'HIT', 'after a reload')
    for both_workers('/clerk', token => $mine);

###############################################################################

# Off

configure(CACHE => 'off', SESSION => 0);
$t->reload();

for my $case ([ '/clerk', $mine ], [ '/clerk', $large ],
              [ '/rsa', $t->token(iss => 'https://rsa.test') ])
{
    my ($path, $token) = @$case;

    is(said($_, 'X-Cache'), 'OFF', "off: $path")
        for map { $t->get($path, token => $token) } 1 .. 3;
}

is($t->get('/clerk')->header('X-Cache'), undef, 'off: no credentials');
is($t->get('/clerk', token => $mine)->header('X-User'), 'user_test',
   'off: user');

for my $cookie ($fresh, 'session_id=' . 'n' x 43) {
    $redis->cmd('CONFIG', 'RESETSTAT');

    my $status = $cookie eq $fresh ? 200 : 401;

    is($t->get('/clerk', cookie => $cookie)->status, $status,
       "session: not cached, $status") for 1 .. 5;
    is(gets(), 5, 'session: asked each time');
}

my $going = $t->session(50);

is($t->get('/clerk', cookie => $going)->status, 200, 'session: there');
$redis->cmd('DEL', id($going));
is($t->get('/clerk', cookie => $going)->status, 401, 'session: gone at once');

###############################################################################

# Configurations, right and wrong.

for my $case (
    [ 'on', 0 ], [ 'off', 0 ], [ 'entries=1', 0 ], [ 'entries=100000', 0 ],
    [ 'entries=0', 1 ], [ 'entries=-1', 1 ], [ 'entries=many', 1 ],
    [ 'entries=99999999999', 1 ], [ 'maybe', 1 ],
    [ 'entries=1 entries=2', 1 ], [ '', 1 ],
)
{
    my ($value, $wrong) = @$case;
    my ($status, $out) = configtest(CACHE => $value);

    is($status ? 1 : 0, $wrong, "runcoach_auth_cache $value") or diag($out);
    like($out, qr/\[emerg\].*runcoach_auth_cache/, 'and why') if $wrong;
}

for my $case ([ '0', 0 ], [ '5s', 0 ], [ '1m', 0 ], [ 'x', 1 ], [ '-1', 1 ]) {
    my ($value, $wrong) = @$case;
    my ($status, $out) = configtest(SESSION => $value);

    is($status ? 1 : 0, $wrong, "runcoach_session cache=$value")
        or diag($out);
    like($out, qr/\[emerg\].*runcoach_session/, 'and why') if $wrong;
}

$t->done();

###############################################################################

# a token of the issuer "clerk", without a process for each

sub token
{
    my (%claims) = @_;

    my $input = b64url('{"alg":"HS256"}') . '.' . b64url(json_encode({
        iss => 'https://clerk.test', sub => 'user_test', iat => $now,
        exp => $now + 3600, %claims }));

    return "$input." . b64url(hmac_sha256($input, $secret));
}


sub random
{
    return b64url(pack('N8', map { rand(2 ** 32) } 1 .. 8));
}


sub flip
{
    return $_[0] eq 'A' ? 'B' : 'A';
}


sub id
{
    my ($cookie) = @_;

    return $cookie =~ s/^session_id=/session:/r;
}


sub said
{
    my ($r, $name) = @_;

    return $r->header($name);
}


# an answer of each worker, after which it has answered once more: what it
# knows now it may have learned from the first

sub both_workers
{
    my ($path, @args) = @_;

    my %by;

    for (1 .. 200) {
        my $r = $t->get($path, @args);

        $by{$r->header('X-Pid') // 0} = $r;
        last if keys %by == 2;
    }

    die "$path: only one worker answers\n" if keys %by != 2;

    return values %by;
}


sub gets
{
    my ($calls) = $redis->cmd('INFO', 'commandstats')
                  =~ /cmdstat_get:calls=(\d+)/;

    return $calls || 0;
}


# (path, token) or (path, \cookie), over one connection, many at once

sub bulk
{
    my @left = @_;

    my $s = Test::Runcoach::connect_to($t->host()) or die "connect: $!\n";
    my ($buf, @answers) = ('');

    while (@left) {
        my @some = splice(@left, 0, 200);
        my $text = '';
        my $n = @answers + @some / 2;

        while (my ($path, $token) = splice(@some, 0, 2)) {
            $text .= "GET $path HTTP/1.1\r\nHost: x\r\n"
                     . (ref($token) ? "Cookie: $$token"
                                    : "Authorization: Bearer $token")
                     . "\r\n\r\n";
        }

        Test::Runcoach::send_all($s, $text) or last;

        while (@answers < $n) {
            if ($buf !~ /\r\n\r\n/) {
                IO::Select->new($s)->can_read(8) or return @answers;
                sysread($s, $buf, 262144, length($buf)) or return @answers;
                next;
            }

            my $size = $+[0];
            my $head = substr($buf, 0, $size);
            my ($body) = $head =~ /^Content-Length: (\d+)/mi;

            if (length($buf) < $size + ($body || 0)) {
                sysread($s, $buf, 262144, length($buf)) or return @answers;
                next;
            }

            substr($buf, 0, $size + ($body || 0)) = '';

            push @answers, {
                status => substr($head, 9, 3),
                user => $head =~ /^X-User: (\S+)/m ? "$1" : '',
                cache => $head =~ /^X-Cache: (\S+)/m ? "$1" : '',
            };
        }
    }

    return @answers;
}


# random signatures, of which one in five is to be verified with RSA, over two
# connections

sub flood
{
    my ($n) = @_;

    my $rsa = b64url('{"alg":"RS256"}');
    my $hmac = b64url('{"alg":"HS256"}');
    my $bad = 0;

    for (1 .. $n / 2000) {
        my @some = map {
            my $n = rand(100);
            ($_ % 5) ? ('/flood', "$hmac.$bodies{clerk}[$n]." . random())
                     : ('/rsa-flood', "$rsa.$bodies{rsa}[$n]."
                        . join('', map { substr(random(), 0, 40) } 1 .. 8)
                        . substr(random(), 0, 21) . 'A');
        } 1 .. 2000;

        $bad += grep { $_->{status} == 401 } bulk(@some);
    }

    is($bad, $n, "$n bad tokens are refused");
}


# kilobytes, of all workers

sub rss
{
    my $sum = 0;

    for my $pid ($t->workers()) {
        my ($kb) = Test::Runcoach::slurp("/proc/$pid/status")
                   =~ /^VmRSS:\s+(\d+) kB/m;

        $sum += $kb;
    }

    return $sum;
}


our %variables;

sub configure
{
    my (%set) = @_;

    %variables = (%variables, %set);
    expand_into('nginx.conf');
}


sub configtest
{
    my (%set) = @_;

    local %variables = (%variables, %set);

    expand_into('test.conf');

    return $t->configtest($t->dir() . '/test.conf',
                          env => { JWT_SECRET => $secret,
                                   JWT_OTHER => 'x' x 40,
                                   CLERK_JWT_KEY => $t->key_pem('issuer') });
}


sub expand_into
{
    my ($file) = @_;

    my $after = $variables{after};

    $t->set($_ => $variables{$_}) for qw/ CACHE SESSION ROLE NAME /;

    $t->set(ISSUERS => join('', map {
        my $parameters = $changed{$_}[$after];

        $parameters .= " issuer=https://$_.test"
            unless $parameters =~ /\bissuer=/;
        $parameters .= ' secret=env:JWT_SECRET'
            unless $parameters =~ /\bsecret=/;

        "    runcoach_issuer  c_$_  $parameters;\n"
    } sort keys %changed));

    $t->set(LOCATIONS => join('', map {
        "        location /c_$_ { runcoach_auth c_$_; empty_gif; }\n"
    } sort keys %changed));

    $t->write_file_expand($file, $template);
}

###############################################################################
