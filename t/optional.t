#!/usr/bin/perl

# Tests for authentication next to all that nginx can do to a request: optional
# authentication, satisfy, limit_except, internal redirects, subrequests.
# Nobody gets in by a side door, nothing is asked twice, and what a client says
# of itself reaches nobody, however it is spelled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use MIME::Base64 ();
use Test::More;
use Test::Runcoach;
use Test::Runcoach::HTTP2;
use Time::HiRes qw/ sleep /;

my $t = Test::Runcoach->new();
my $redis = $t->redis();

my $secret = 'a secret of this test which is long enough';

my $backend = $t->http_daemon(sub { return [200, {}, 'backend'] },
                              port => 8090, name => 'backend');

$t->write_file('users', "basic:{PLAIN}password\n");
$t->write_file('docs/index.html', 'index');
$t->write_file('docs/long.txt', join('', 'a' .. 'z') x 4);
$t->write_file('docs/page.html', '<!--#include virtual="/s/part/1" -->-'
                                 . '<!--#include virtual="/s/part/2" -->');

$t->write_file_expand('nginx.conf', <<'EOT');

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:4m;
    runcoach_redis  %%REDIS_URL%%  timeout=2s;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                            secret=env:JWT_SECRET;
    runcoach_issuer  other  issuer=https://other.runcoach.test
                            secret=env:JWT_SECRET;
    runcoach_issuer  away   issuer=https://away.runcoach.test
                            jwks=/_jwks  jwks_url=http://127.0.0.1:8099/jwks;

    # each look is a question to Redis, and can be counted

    runcoach_session  cookie=session_id  prefix=session:  cache=0;

    # what the shipped files set, of which one is included

    map "" $edge_upstream_host { default  localhost; }
    map "" $edge_scheme        { default  http; }

    proxy_cache_path  %%TESTDIR%%/cache  keys_zone=pages:1m;

    add_header  X-User    $runcoach_user         always;
    add_header  X-Method  $runcoach_auth_method  always;
    add_header  X-Reason  $runcoach_auth_reason  always;

    underscores_in_headers  on;

    server {
        listen  127.0.0.1:8080;
        listen  127.0.0.1:8081 http2;

        include  %%ROOT%%/conf/identity.conf;

        location /optional {
            runcoach_auth  clerk session optional;
            proxy_pass     http://127.0.0.1:8090;
        }

        location /any {
            runcoach_auth  clerk session optional=any;
            proxy_pass     http://127.0.0.1:8090;
        }

        location /required {
            runcoach_auth  clerk session;
            proxy_pass     http://127.0.0.1:8090;
        }

        location /off {
            runcoach_auth  off;
            proxy_pass     http://127.0.0.1:8090;
        }

        location /none {
            proxy_pass  http://127.0.0.1:8090;
        }

        location /missing {
            runcoach_auth           clerk session optional;
            runcoach_auth_fallback  missing;
            empty_gif;
        }

        location /invalid {
            runcoach_auth           clerk session optional;
            runcoach_auth_fallback  invalid;
            empty_gif;
        }

        location /never {
            runcoach_auth           clerk session optional;
            runcoach_auth_fallback  never;
            empty_gif;
        }

        location /away {
            runcoach_auth  away optional;
            empty_gif;
        }

        location /away-any {
            runcoach_auth  away session optional=any;
            empty_gif;
        }

        location /_jwks {
            internal;
            proxy_pass  $runcoach_jwks_url;
        }


        # satisfy

        location /any-allow {
            satisfy        any;
            allow          127.0.0.1;
            deny           all;
            runcoach_auth  clerk;
            empty_gif;
        }

        location /any-deny {
            satisfy        any;
            deny           all;
            runcoach_auth  clerk session;
            empty_gif;
        }

        location /all-allow {
            satisfy        all;
            allow          127.0.0.1;
            deny           all;
            runcoach_auth  clerk;
            empty_gif;
        }

        location /all-deny {
            satisfy        all;
            deny           all;
            runcoach_auth  clerk;
            empty_gif;
        }

        location /any-basic {
            satisfy               any;
            auth_basic            users;
            auth_basic_user_file  %%TESTDIR%%/users;
            runcoach_auth         clerk session;
            empty_gif;
        }

        location /all-basic {
            satisfy               all;
            auth_basic            users;
            auth_basic_user_file  %%TESTDIR%%/users;
            runcoach_auth         clerk session;
            empty_gif;
        }

        location /any-three {
            satisfy               any;
            allow                 127.0.0.1;
            deny                  all;
            auth_basic            users;
            auth_basic_user_file  %%TESTDIR%%/users;
            runcoach_auth         clerk;
            empty_gif;
        }

        location /any-request {
            satisfy               any;
            auth_basic            users;
            auth_basic_user_file  %%TESTDIR%%/users;
            auth_request          /yes;
            runcoach_auth         clerk;
            empty_gif;
        }

        location = /yes {
            internal;
            return  204;
        }

        location /any-optional {
            satisfy        any;
            deny           all;
            runcoach_auth  clerk session optional;
            empty_gif;
        }

        location /any-optional-any {
            satisfy        any;
            deny           all;
            runcoach_auth  clerk optional=any;
            empty_gif;
        }

        location /all-optional {
            deny           all;
            runcoach_auth  clerk optional;
            empty_gif;
        }


        # limit_except

        location /write {
            limit_except GET {
                runcoach_auth  clerk;
            }

            proxy_pass  http://127.0.0.1:8090;
        }

        location /read {
            runcoach_auth  clerk;

            limit_except POST {
                runcoach_auth  off;
            }

            proxy_pass  http://127.0.0.1:8090;
        }


        # redirects into what is protected

        location = /r/private {
            runcoach_auth  clerk session;
            empty_gif;
        }

        location = /r/internal {
            internal;
            runcoach_auth  clerk session;
            empty_gif;
        }

        location @private {
            runcoach_auth  clerk session;
            empty_gif;
        }

        location /r/error-page   { error_page 404 = /r/private;  return 404; }
        location /r/error-inner  { error_page 404 = /r/internal; return 404; }
        location /r/error-named  { error_page 404 = @private;    return 404; }
        location /r/try          { try_files  /none /r/private; }
        location /r/try-named    { try_files  /none @private; }
        location /r/rewrite      { rewrite    ^ /r/private last; }
        location /r/accel        { proxy_pass http://127.0.0.1:8082/to/r/private; }
        location /r/accel-inner  { proxy_pass http://127.0.0.1:8082/to/r/internal; }
        location /r/accel-named  { proxy_pass http://127.0.0.1:8082/to/@private; }
        location /r/off          { runcoach_auth off; try_files /none /r/private; }

        location /r/optional {
            runcoach_auth  clerk session optional;
            try_files      /none /r/private;
        }

        location /r/optional-any {
            runcoach_auth  clerk session optional=any;
            try_files      /none /r/private;
        }

        location /r/other {
            runcoach_auth  other optional=any;
            try_files      /none /r/private;
        }


        # ... from one protected location into another

        location /r/same         { runcoach_auth clerk session; try_files /none /r/private; }
        location /r/same-named   { runcoach_auth clerk session; try_files /none @private; }
        location /r/same-accel   { runcoach_auth clerk session; proxy_pass http://127.0.0.1:8082/to/r/internal; }
        location /r/same-twice   { runcoach_auth clerk session; try_files /none /r/same-accel; }
        location /r/same-error   { runcoach_auth clerk session; error_page 404 = /r/private; root %%TESTDIR%%/docs; }

        location /r/carriers {
            runcoach_auth        clerk session;
            runcoach_auth_token  header cookie;
            try_files            /none /r/carriers-too;
        }

        location = /r/carriers-too {
            internal;
            runcoach_auth        clerk session;
            runcoach_auth_token  header cookie;
            empty_gif;
        }

        location /r/dir/ {
            runcoach_auth  clerk session;
            alias          %%TESTDIR%%/docs/;
        }

        location = /r/clerk {
            runcoach_auth  clerk;
            empty_gif;
        }

        location /r/session-to-clerk { runcoach_auth session; try_files /none /r/clerk; }

        # ... and out of it

        location /r/out-error    { runcoach_auth clerk session; error_page 404 = /r/open; root %%TESTDIR%%/docs; }
        location /r/out-try      { runcoach_auth clerk session; try_files /none /r/open; }
        location /r/out-accel    { runcoach_auth clerk session; proxy_pass http://127.0.0.1:8082/to/r/open; }

        location = /r/open {
            internal;
            empty_gif;
        }

        # ... and by its refusal

        location /r/page401      { runcoach_auth clerk session; error_page 401 /r/page; empty_gif; }
        location /r/page200      { runcoach_auth clerk session; error_page 401 =200 /r/page; empty_gif; }
        location /r/page-named   { runcoach_auth clerk session; error_page 401 = @page; empty_gif; }
        location /r/page-private { runcoach_auth clerk session; error_page 401 = /r/private; empty_gif; }
        location /r/page-clerk   { runcoach_auth clerk session; error_page 401 = /r/clerk; empty_gif; }
        location /r/page-any     { runcoach_auth clerk session; error_page 401 = /r/any; empty_gif; }

        location = /r/page { return 401 page; }
        location @page     { return 200 page; }
        location = /r/any  { runcoach_auth clerk session optional=any; empty_gif; }


        # subrequests

        location /s/request {
            runcoach_auth  clerk session;
            auth_request   /s/check;
            proxy_pass     http://127.0.0.1:8082/seen;
        }

        location = /s/check {
            internal;
            proxy_pass  http://127.0.0.1:8082/check;
        }

        location /s/mirror {
            runcoach_auth  clerk session;
            mirror         /s/copy;
            proxy_pass     http://127.0.0.1:8082/seen;
        }

        location = /s/copy {
            internal;
            proxy_pass  http://127.0.0.1:8090;
        }

        location /s/page {
            default_type   text/html;
            ssi            on;
            runcoach_auth  clerk session;
            alias          %%TESTDIR%%/docs/page.html;
        }

        location /s/open-page {
            default_type   text/html;
            ssi            on;
            alias          %%TESTDIR%%/docs/page.html;
        }

        location /s/part {
            runcoach_auth  clerk session;
            proxy_pass     http://127.0.0.1:8082/seen;
        }

        location /s/slice {
            slice             10;
            runcoach_auth     clerk session;
            proxy_set_header  Range  $slice_range;
            proxy_pass        http://127.0.0.1:8082/docs/long.txt;
        }

        location /s/cached {
            runcoach_auth                  clerk session;
            proxy_cache                    pages;
            proxy_cache_key                cached;
            proxy_cache_valid              200 1s;
            proxy_cache_use_stale          updating;
            proxy_cache_background_update  on;
            add_header                     X-Cached  $upstream_cache_status;
            proxy_pass                     http://127.0.0.1:8082/seen;
        }
    }

    server {
        listen  127.0.0.1:8082;

        location ~ ^/to(/.*)$ {
            add_header  X-Accel-Redirect  $1;
            return      200;
        }

        location = /to/@private {
            add_header  X-Accel-Redirect  @private;
            return      200;
        }

        location /seen {
            return  200  "[$http_x_auth_method:$http_x_auth_subject]";
        }

        location = /check {
            if ($http_x_auth_subject = "") {
                return  403;
            }

            return  204;
        }

        location /docs {
            root  %%TESTDIR%%;
        }
    }
}
EOT

$t->run(env => { JWT_SECRET => $secret });

my $token = token(sub => 'user_good');
my $forged = token(sub => 'user_evil', secret => 'x' x 40);
my $session = $t->session(42);
my $unknown = 'session_id=' . 'u' x 43;

###############################################################################

# Whatever a client says of itself, in every spelling that somebody maps to
# one of the names, and twice.

my @names = map { spellings($_) } qw/ X-Auth-Method X-Auth-Subject
                                      X-Clerk-User-Id X-User-Id X-Upload-Key /;
my @evil = map { ($_ => 'evil', $_ => 'evil2') } @names,
           map { lc, uc } @names;

my %clerk = (
    'x-auth-method' => 'clerk',
    'x-auth-subject' => 'user_good',
    'x-clerk-user-id' => 'user_good',
);

my %session = (
    'x-auth-method' => 'session',
    'x-auth-subject' => '42',
    'x-user-id' => '42',
);

my @who = (

    # name, what is sent; status and identity by each path

    [ 'nobody', {},
      { optional => [ 200 ], any => [ 200 ], required => [ 401 ],
        off => [ 200 ], none => [ 200 ] } ],
    [ 'bad token', { token => $forged },
      { optional => [ 401 ], any => [ 200 ], required => [ 401 ],
        off => [ 200 ], none => [ 200 ] } ],
    [ 'no token at all', { token => 'x' },
      { optional => [ 401 ], any => [ 200 ], required => [ 401 ],
        off => [ 200 ], none => [ 200 ] } ],
    [ 'bad session', { cookie => $unknown },
      { optional => [ 401 ], any => [ 200 ], required => [ 401 ],
        off => [ 200 ], none => [ 200 ] } ],
    [ 'token', { token => $token },
      { optional => [ 200, \%clerk ], any => [ 200, \%clerk ],
        required => [ 200, \%clerk ], off => [ 200 ], none => [ 200 ] } ],
    [ 'cookie', { cookie => "__session=$token" },
      { optional => [ 200, \%clerk ], any => [ 200, \%clerk ],
        required => [ 200, \%clerk ], off => [ 200 ], none => [ 200 ] } ],
    [ 'session', { cookie => $session },
      { optional => [ 200, \%session ], any => [ 200, \%session ],
        required => [ 200, \%session ], off => [ 200 ], none => [ 200 ] } ],
    [ 'bad token, good session', { token => $forged, cookie => $session },
      { optional => [ 200, \%session ], any => [ 200, \%session ],
        required => [ 200, \%session ], off => [ 200 ], none => [ 200 ] } ],
);

for my $path (qw/ optional any required off none /) {
    for my $who (@who) {
        my ($name, $sent, $expected) = @$who;
        my ($status, $identity) = @{$expected->{$path}};

        for my $method (qw/ GET HEAD POST OPTIONS DELETE /) {
            $t->forget_requests($backend);

            my $r = $t->request($method, "/$path", headers => [@evil],
                                $method eq 'POST' ? (body => 'x') : (),
                                %$sent);
            my @met = $t->requests($backend);
            my $title = "$method /$path, $name";

            is($r->status, $status, "$title: status");
            is(scalar(@met), $status == 200 ? 1 : 0, "$title: who is asked");
            is_deeply(identity($_), $identity || {}, "$title: identity")
                for @met;
            is($r->header('X-User'), ($identity || {})->{'x-auth-subject'},
               "$title: variable");
            is(defined $r->header('WWW-Authenticate') ? 1 : 0,
               $status == 401 ? 1 : 0, "$title: challenge");
            is($r->body, '', "$title: no body") if $method eq 'HEAD';
        }
    }
}

# HTTP/2 brings names in lower case

my $h2 = Test::Runcoach::HTTP2->new($t->host(8081));

for my $path (qw/ optional any required /) {
    for my $case ([ 'nobody', [], $path eq 'required' ? 401 : 200, {} ],
                  [ 'token', [ authorization => "Bearer $token" ], 200,
                    \%clerk ],
                  [ 'session', [ cookie => 'a=b', cookie => $session ], 200,
                    \%session ],
                  [ 'bad token', [ authorization => "Bearer $forged" ],
                    $path eq 'any' ? 200 : 401, {} ])
    {
        my ($name, $headers, $status, $identity) = @$case;

        $t->forget_requests($backend);

        my $r = $h2->request('POST', "/$path", [ @$headers,
                             map { (lc($_) => 'evil') } @names ],
                             body => 'x');

        is($r->status, $status, "http2: /$path, $name");
        is_deeply(identity($_), $identity, "http2: /$path, $name: identity")
            for $t->requests($backend);
    }
}

###############################################################################

# Optional, and when a session may be tried.

for my $case (
    [ '/invalid', {}, 200, undef ],
    [ '/missing', {}, 200, undef ],
    [ '/never', {}, 200, undef ],
    [ '/invalid', { cookie => $session }, 200, 42 ],
    [ '/missing', { cookie => $session }, 200, 42 ],
    [ '/never', { cookie => $session }, 200, undef ],
    [ '/invalid', { cookie => $session, token => $forged }, 200, 42 ],
    [ '/missing', { cookie => $session, token => $forged }, 401, undef ],
    [ '/never', { cookie => $session, token => $forged }, 401, undef ],
    [ '/invalid', { cookie => $unknown, token => $forged }, 401, undef ],
    [ '/invalid', { cookie => $unknown }, 401, undef ],
    [ '/missing', { cookie => $unknown }, 401, undef ],
    [ '/invalid', { cookie => $session, token => 'mt_x' }, 401, undef ],
    [ '/invalid', { cookie => 'session_id=x' }, 401, undef ],
)
{
    my ($path, $sent, $status, $user) = @$case;
    my $r = $t->get($path, %$sent);
    my $title = join(' ', $path, sort keys %$sent) . ": $status";

    is($r->status, $status, $title);
    is($r->header('X-User'), $user, "$title, user");
}

# What has failed on our side is no matter of credentials.

my $away = token(iss => 'https://away.runcoach.test');

for my $path ('/away', '/away-any') {
    my $r = $t->get($path, token => $t->token(
                                iss => 'https://away.runcoach.test'));

    is($r->status, 503, "$path: issuer is away");
    is($r->header('WWW-Authenticate'), undef, "$path: no challenge");
    is($t->get($path)->status, 200, "$path: nobody");
}

is($t->get('/away-any', token => $away)->status, 200,
   'issuer is away, algorithm is bad anyway');

###############################################################################

# satisfy: status for nobody, good token, bad token, session, basic

for my $case (
    [ '/any-allow', 200, 200, 200, 200, 200 ],
    [ '/any-deny', 401, 200, 401, 200, 401 ],
    [ '/all-allow', 401, 200, 401, 401, 401 ],
    [ '/all-deny', qr/40[13]/, 403, qr/40[13]/, qr/40[13]/, qr/40[13]/ ],
    [ '/any-basic', 401, 200, 401, 200, 200 ],
    [ '/all-basic', 401, 401, 401, 401, 401 ],
    [ '/any-three', 200, 200, 200, 200, 200 ],
    [ '/any-request', 200, 200, 200, 200, 200 ],
    [ '/any-optional', 403, 200, qr/40[13]/, 200, 403 ],
    [ '/any-optional-any', 403, 200, qr/40[13]/, 403, 403 ],
    [ '/all-optional', 403, 403, qr/40[13]/, 403, 403 ],
)
{
    my ($path, @expected) = @$case;
    my $basic = 'Basic ' . MIME::Base64::encode_base64('basic:password', '');

    for my $who ([ 'nobody' ], [ 'token', token => $token ],
                 [ 'bad token', token => $forged ],
                 [ 'session', cookie => $session ],
                 [ 'basic', headers => [Authorization => $basic] ])
    {
        my ($name, @sent) = @$who;
        my $expected = shift @expected;
        my $r = $t->get($path, @sent);

        like($r->status, qr/^$expected$/, "$path: $name");

        if ($r->status == 401) {
            like($r->header('WWW-Authenticate') // '',
                 $path eq '/all-basic' ? qr/Bearer|Basic/ : qr/Bearer/,
                 "$path: $name, challenge");

        } else {
            is($r->header('WWW-Authenticate'), undef,
               "$path: $name, no challenge");
        }

        is($r->header('X-User'), undef, "$path: $name, nobody known")
            if $name =~ /^(?:nobody|bad token|basic)$/;
    }
}

is($t->get('/all-basic', cookie => "__session=$token", headers =>
           [Authorization => 'Basic ' . MIME::Base64::encode_base64(
            'basic:password', '')])->status, 200, '/all-basic: both');

# limit_except

for my $case (
    [ 'GET', '/write', 200 ], [ 'HEAD', '/write', 200 ],
    [ 'POST', '/write', 401 ], [ 'OPTIONS', '/write', 401 ],
    [ 'DELETE', '/write', 401 ], [ 'PATCH', '/write', 401 ],
    [ 'GET', '/read', 200 ], [ 'OPTIONS', '/read', 200 ],
    [ 'POST', '/read', 401 ],
)
{
    my ($method, $path, $status) = @$case;

    is($t->request($method, $path)->status, $status,
       "$method $path: nobody");
    is($t->request($method, $path, token => $forged)->status, $status,
       "$method $path: bad token");

    $t->forget_requests($backend);

    is($t->request($method, $path, token => $token, headers => [@evil])
         ->status, 200, "$method $path: token");
    is_deeply([ map { identity($_) } $t->requests($backend) ],
              [ $status == 401 ? \%clerk : {} ], "$method $path: identity");
}

###############################################################################

# Internal redirects into protected locations.

for my $path (qw{ error-page error-inner error-named try try-named rewrite
                  accel accel-inner accel-named off optional optional-any
                  other same same-named same-accel same-twice same-error
                  carriers dir/ dir/index.html dir/long.txt })
{
    for my $who ([ 'nobody', 401, 0 ], [ 'token', 200, 0, token => $token ],
                 [ 'bad token', 401, 0, token => $forged ],
                 [ 'session', 200, 1, cookie => $session ],
                 [ 'unknown session', 401, 1, cookie => $unknown ])
    {
        my ($name, $status, $gets, @sent) = @$who;

        # one that asks again, for another policy, may ask Redis again

        my $most = $path =~ /^optional/ ? 2 * $gets : $gets;

        $redis->cmd('CONFIG', 'RESETSTAT');

        my $r = $t->get("/r/$path", @sent);

        is($r->status, $status, "$path: $name");
        is($r->header('X-User'), $name eq 'token' ? 'user_good'
                                 : $name eq 'session' ? 42 : undef,
           "$path: $name, user");
        is(defined $r->header('WWW-Authenticate') ? 1 : 0,
           $status == 401 ? 1 : 0, "$path: $name, challenge");

        my $asked = gets();

        $most > $gets ? cmp_ok($asked, '<=', $most, "$path: $name, $asked GET")
                      : is($asked, $gets, "$path: $name, $gets GET");
    }
}

for my $path ('/r/internal', '/r/open') {
    is($t->get($path, token => $token)->status, 404, "$path is internal");
}

is($t->get('/r/session-to-clerk', cookie => $session)->status, 401,
   'session, then a location which wants a token');
is($t->get('/r/session-to-clerk', cookie => $session, token => $token)
     ->header('X-User'), 'user_good', 'both, each where it is wanted');
is($t->get('/r/session-to-clerk', token => $token)->status, 401,
   'token, where a session is wanted first');

# ... and out of them

for my $path (qw/ out-error out-try out-accel /) {
    is($t->get("/r/$path")->status, 401, "$path: nobody");
    is($t->get("/r/$path", token => $forged)->status, 401,
       "$path: bad token");

    $redis->cmd('CONFIG', 'RESETSTAT');

    my $r = $t->get("/r/$path", cookie => $session);

    is($r->status, 200, "$path: session");
    is($r->header('X-User'), 42, "$path: still known");
    is(gets(), 1, "$path: one GET");
}

# The challenge is on each 401 and on no other answer; after a refusal nobody
# gets in by the page which says so.

for my $case (
    [ 'page401', 401 ], [ 'page200', 200 ], [ 'page-named', 200 ],
    [ 'page-private', 401 ], [ 'page-clerk', 401 ], [ 'page-any', 200 ],
)
{
    my ($path, $status) = @$case;

    for my $who ([ 'nobody' ], [ 'bad token', token => $forged ],
                 [ 'unknown session', cookie => $unknown ])
    {
        my ($name, @sent) = @$who;
        my $r = $t->get("/r/$path", @sent);

        is($r->status, $status, "$path: $name");
        is($r->header('X-User'), undef, "$path: $name, nobody");
        is(defined $r->header('WWW-Authenticate') ? 1 : 0,
           $status == 401 ? 1 : 0, "$path: $name, challenge");
        is(scalar(my @all = $r->headers('WWW-Authenticate')), 1,
           "$path: $name, once") if $status == 401;
    }
}

###############################################################################

# Subrequests have the identity of their request, and ask nothing.

my $parts = '[session:42]-[session:42]';

for my $case (
    [ 'request', '[session:42]', '[clerk:user_good]' ],
    [ 'mirror', '[session:42]', '[clerk:user_good]' ],
    [ 'page', $parts, $parts =~ s/session:42/clerk:user_good/gr ],
    [ 'slice', join('', 'a' .. 'z') x 4, join('', 'a' .. 'z') x 4 ],
)
{
    my ($path, $session_body, $token_body) = @$case;

    is($t->get("/s/$path", headers => [@evil])->status, 401,
       "$path: nobody");
    is($t->get("/s/$path", token => $forged)->status, 401,
       "$path: bad token");
    is($t->get("/s/$path", token => $token, headers => [@evil])->body,
       $token_body, "$path: token");

    $t->forget_requests($backend);
    $redis->cmd('CONFIG', 'RESETSTAT');

    my $r = $t->get("/s/$path", cookie => $session, headers => [@evil]);

    is($r->status, 200, "$path: session");
    is($r->body, $session_body, "$path: session, body");
    is(gets(), 1, "$path: one GET");

    next if $path ne 'mirror';

    $t->wait_for(sub { scalar($t->requests($backend)) });

    is_deeply([ map { identity($_) } $t->requests($backend) ], [ \%session ],
              'mirror: identity of the copy');
}

# nginx checks access once, for the request itself: what an open page includes
# has nobody's name, whoever sends a token

is($t->get('/s/open-page', headers => [@evil])->body, '[:]-[:]',
   'open page, parts');

# a cached page is not for everybody, and an update of it asks nobody

is($t->get('/s/cached', cookie => $session)->header('X-Cached'), 'MISS',
   'cache: first');
is($t->get('/s/cached')->status, 401, 'cache: nobody');
is($t->get('/s/cached', token => $token)->header('X-Cached'), 'HIT',
   'cache: token');

sleep(2.1);

is($t->get('/s/cached')->status, 401, 'cache: nobody, when it is old');

$redis->cmd('CONFIG', 'RESETSTAT');
is($t->get('/s/cached', cookie => $session)->header('X-Cached'), 'STALE',
   'cache: in the background');
is(gets(), 1, 'cache: one GET');

###############################################################################

# A dependency of ours is down: that is said, and not for longer than it is.

$redis->stop();

for my $path ('/optional', '/any', '/required') {
    my $r = $t->wait_for(sub {
        my $r = $t->get($path, cookie => $session);
        return $r->status == 503 && $r;
    });

    is($r && $r->status, 503, "$path: Redis is away");
    is($r && $r->header('WWW-Authenticate'), undef, "$path: no challenge");
    is($t->get($path)->status, $path eq '/required' ? 401 : 200,
       "$path: nobody, without Redis");
    is($t->get($path, token => $token)->status, 200,
       "$path: token, without Redis");
}

$redis->start();

$session = $t->session(43);

ok($t->wait_for(sub {
    return ($t->get('/optional', cookie => $session)->header('X-User') // 0)
           == 43;
}), 'Redis is back');

###############################################################################

# Mistakes are found before anything is served.

my $conf = <<'EOT';

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone    runcoach:1m;
    runcoach_issuer  clerk  issuer=https://x  secret=env:JWT_SECRET;

    server {
        listen  127.0.0.1:8083;

        location / {
            runcoach_auth  NAMES;
        }
    }
}
EOT

for my $names ('optional', 'optional=any', 'clerk optional=maybe',
               'clerk optional optional', 'clerk optional optional=any',
               'off optional', 'clerk off', 'optional=', 'clerk clerk',
               'clerk nobody')
{
    my ($status, $out) = $t->configtest($conf =~ s/NAMES/$names/r,
                                        env => { JWT_SECRET => $secret });

    isnt($status, 0, "configuration: $names");
    like($out, qr/\[emerg\].*runcoach_auth/, 'and why');
}

for my $name ('optional', 'optional=any') {
    my ($status, $out) = $t->configtest(
        $conf =~ s/runcoach_issuer  clerk/runcoach_issuer  $name/r
              =~ s/NAMES/session/r, env => { JWT_SECRET => $secret });

    isnt($status, 0, "configuration: no issuer is called $name");
}

for my $names ('clerk optional', 'optional clerk', 'session optional=any') {
    my ($status, $out) = $t->configtest($conf =~ s/NAMES/$names/r,
                                        env => { JWT_SECRET => $secret });

    is($status, 0, "configuration: $names is right") or diag($out);
}

$t->done();

###############################################################################

sub token
{
    my (%claims) = @_;

    return $t->token(alg => 'HS256', secret => $secret, %claims);
}


# hyphens and underscores in all combinations

sub spellings
{
    my ($name) = @_;

    return $name unless $name =~ /^([^-]*)-(.*)$/;

    my ($first, $more) = ($1, $2);

    return map { ("$first-$_", "${first}_$_") } spellings($more);
}


# what an upstream may take for an identity

sub identity
{
    my ($request) = @_;

    my %found;

    for my $name (keys %{$request->{headers}}) {
        my $values = join(',', @{$request->{headers}{$name}});

        $found{$name} = $values
            if $values =~ /evil/
               || $name =~ tr/_/-/r =~ /^x-(?:auth|clerk|user|upload)-/;
    }

    return \%found;
}


sub gets
{
    my ($calls) = $redis->cmd('INFO', 'commandstats')
                  =~ /cmdstat_get:calls=(\d+)/;

    return $calls || 0;
}

###############################################################################
