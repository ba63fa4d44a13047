#!/usr/bin/perl

# Tests for claims: as variables in all the places where nginx has variables,
# organizations as Clerk's own library reads them, and what an issuer may
# demand of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_decode json_encode /;

my $t = Test::Runcoach->new();

$t->redis();

my $secret = 'a secret of this test which is long enough';

# What issuers demand: parameters, then which claims are enough and which are
# not.  Each is an issuer, and a location, by its name.

my %required = (
    present => [ 'require=email',
        [ '"email":"a@b"', '"email":0', '"email":1.5', '"email":true',
          '"email":[]', '"email":{"a":1}', '"email":" "' ],
        [ '"mail":"a@b"', '"email":""', '"email":null', '"email":false',
          '"Email":"a@b"', '"a":{"email":"x"}' ] ],
    value => [ 'require=role=admin',
        [ '"role":"admin"', '"role":["coach","admin"]', '"role":["admin"]' ],
        [ '"role":"Admin"', '"role":"admin "', '"role":"admins"',
          '"role":"adm"', '"role":""', '"role":null', '"role":true',
          '"role":["coach"]', '"role":[]', '"role":[["admin"]]',
          '"role":{"admin":true}', '"role":"coach,admin"',
          '"role":"admin\\u0020"', '"x":1' ] ],
    number => [ 'require=level=3',
        [ '"level":3', '"level":"3"', '"level":[1,3]' ],
        [ '"level":3.0', '"level":30', '"level":-3', '"level":"03"',
          '"level":null', '"x":1' ] ],
    boolean => [ 'require=verified=true',
        [ '"verified":true', '"verified":"true"' ],
        [ '"verified":false', '"verified":1', '"verified":"TRUE"',
          '"verified":null', '"x":1' ] ],
    deep => [ 'require=meta.team.plan=pro',
        [ '"meta":{"team":{"plan":"pro"}}',
          '"meta":{"a":[1,{"plan":"x"}],"team":{"b":{},"plan":"pro"}}' ],
        [ '"meta":{"team":{"plan":"free"}}', '"meta":{"team":"pro"}',
          '"plan":"pro"', '"meta":{"plan":"pro"}', '"meta":[]', '"x":1',
          '"meta":{"team":[{"plan":"pro"}]}' ] ],
    several => [ 'require=role=admin,email,meta.plan=pro',
        [ '"role":"admin","email":"a@b","meta":{"plan":"pro"}' ],
        [ '"role":"admin","email":"a@b"', '"role":"admin"', '"x":1',
          '"email":"a@b","meta":{"plan":"pro"}',
          '"role":"admin","meta":{"plan":"pro"}' ] ],
);

# ... and of the kind of a token, by which of them it accepts

my %accepted = (
    plain => [ '', 'session' ],
    session => [ 'accept=session', 'session' ],
    template => [ 'accept=template', 'template' ],
    machine => [ 'accept=machine', 'machine' ],
    oauth => [ 'accept=oauth', 'oauth' ],
    two => [ 'accept=session,template', 'session template' ],
    all => [ 'accept=session,template,machine,oauth',
             'session template machine oauth' ],
);

my %more = (
    pending => 'pending=allow',
    strict => 'pending=deny',
    hour => 'max_lifetime=1h',
    sharp => 'leeway=0s',
    late => 'leeway=60s',
    audience => 'audience=api,edge',
);

# ... and of the origin it was made for: by header with none, a good one and a
# bad one, and the same by cookie

my %origins = (
    origins => [ '', '401 200 401  200 200 401' ],
    require => [ 'azp=require', '401 200 401  401 200 401' ],
    present => [ 'azp=if-present', '200 200 401  200 200 401' ],
    none => [ 'azp=off', '200 200 200  200 200 200' ],
    header => [ 'azp_header=if-present', '200 200 401  200 200 401' ],
    cookie => [ 'azp_cookie=require', '401 200 401  401 200 401' ],
    both => [ 'azp_header=off azp_cookie=require',
              '200 200 200  401 200 401' ],
    own => [ 'azp=off azp_cookie=if-present', '200 200 200  200 200 401' ],
    other => [ 'azp=require azp_cookie=off', '401 200 401  200 200 200' ],
);

my %parameters = (
    (map { ("o_$_" => "authorized_parties=https://a.test $origins{$_}[0]") }
     keys %origins),
    (map { ("r_$_" => $required{$_}[0]) } keys %required),
    (map { ("a_$_" => $accepted{$_}[0]) } keys %accepted),
    (map { ("m_$_" => $more{$_}) } keys %more),
);

my @names = qw/ str num nest nest__inner nest__more__deep a__b list absent
                firstname public_metadata__plan sub iss aud pla __x /;

$t->set(ISSUERS => join('', map {
    "    runcoach_issuer  $_  issuer=https://$_.runcoach.test\n"
    . "        secret=env:JWT_SECRET  $parameters{$_};\n"
} sort keys %parameters));

$t->set(LOCATIONS => join('', map {
    "        location /$_ { runcoach_auth $_; empty_gif; }\n"
    . "        location /q/$_ { runcoach_auth $_; "
    . "runcoach_auth_token query=token; empty_gif; }\n"
} sort keys %parameters));

$t->set(CLAIMS => join('', map {
    "        add_header  X-Claim-$_  \"[\$runcoach_claim_$_]\"  always;\n"
} @names));

$t->write_file_expand('nginx.conf', <<'EOT');

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    variables_hash_max_size  2048;

    runcoach_zone   runcoach:4m;
    runcoach_redis  %%REDIS_URL%%  timeout=2s;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                            secret=env:JWT_SECRET;
%%ISSUERS%%

    runcoach_session  cookie=session_id  prefix=session:;

    runcoach_claim  $first_name  firstName;
    runcoach_claim  $deep_name   o.Names.firstName;
    runcoach_claim  $dashed      x-hasura-role;
    runcoach_claim  $with_dots   https://runcoach.test/role;
    runcoach_claim  $plan        public_metadata.plan;

    map $runcoach_claim_pla $free {
        "u:pro"  "";
        default  $runcoach_user;
    }

    map $plan $speed {
        ""       none;
        default  "plan $plan";
    }

    runcoach_limit_policy  free  rate=1r/h  burst=2  key=$free;

    log_format  claims  escape=json
        '{"path":"$uri","str":"$runcoach_claim_str","plan":"$plan"'
        ',"list":"$runcoach_claim_list","speed":"$speed"'
        ',"org":"$runcoach_org_id","permissions":"$runcoach_org_permissions"}';

    access_log  %%TESTDIR%%/claims.log  claims;

    add_header  X-Pid     $pid                   always;
    add_header  X-Cache   $runcoach_auth_cache   always;
    add_header  X-User    $runcoach_user         always;
    add_header  X-Reason  $runcoach_auth_reason  always;

    server {
        listen  127.0.0.1:8080 reuseport;

        large_client_header_buffers  4 32k;

%%LOCATIONS%%

        location / {
            runcoach_auth  clerk session;

            add_header  X-Pid             $pid                             always;
            add_header  X-Cache           $runcoach_auth_cache             always;
            add_header  X-User            $runcoach_user                   always;
            add_header  X-Reason          $runcoach_auth_reason            always;
            add_header  X-Sid             "[$runcoach_session_id]"         always;
            add_header  X-Org-Id          "[$runcoach_org_id]"             always;
            add_header  X-Org-Slug        "[$runcoach_org_slug]"           always;
            add_header  X-Org-Role        "[$runcoach_org_role]"           always;
            add_header  X-Org-Permission  "[$runcoach_org_permissions]"    always;
            add_header  X-First           "[$first_name]"                  always;
            add_header  X-Deep            "[$deep_name]"                   always;
            add_header  X-Dashed          "[$dashed]"                      always;
            add_header  X-Dots            "[$with_dots]"                   always;
            add_header  X-Plan            "[$plan]"                        always;
%%CLAIMS%%
            empty_gif;

            location /optional {
                runcoach_auth  clerk session optional=any;
                empty_gif;
            }

            location /off {
                runcoach_auth  off;
                empty_gif;
            }
        }

        location /early {
            set  $early  "[$runcoach_claim_str]";

            runcoach_auth  clerk;
            add_header     X-Early  $early                   always;
            add_header     X-Late   "[$runcoach_claim_str]"  always;
            empty_gif;
        }

        location /gone {
            runcoach_auth  clerk;
            error_page     404 = /_gone;
        }

        location = /_gone {
            internal;
            add_header  X-Claim-str  "[$runcoach_claim_str]"  always;
            add_header  X-Plan       "[$plan]"                always;
            empty_gif;
        }

        location /limited {
            runcoach_auth   clerk;
            runcoach_limit  free;
            empty_gif;
        }

        location /proxied {
            runcoach_auth     clerk optional;
            proxy_set_header  X-Str    $runcoach_claim_str;
            proxy_set_header  X-Plan   $plan;
            proxy_set_header  X-Speed  $speed;
            proxy_set_header  X-Org    $runcoach_org_permissions;
            proxy_pass        http://127.0.0.1:8082;
        }
    }

    server {
        listen  127.0.0.1:8082;

        large_client_header_buffers  4 32k;

        location / {
            access_log  off;
            return      200  "$http_x_str|$http_x_plan|$http_x_speed|$http_x_org";
        }
    }
}
EOT

$t->run(env => { JWT_SECRET => $secret });

my $now = int(time());

###############################################################################

# One claim, one variable: what is in the token, and what comes out.

for my $case (
    [ 'string', '"str":"pro"', 'pro' ],
    [ 'string with spaces', '"str":" a  b "', ' a  b ' ],
    [ 'empty string', '"str":""', '' ],
    [ 'string with escapes', '"str":"\\u00e9\\/\\"\\\\\\u20ac"',
      "\xc3\xa9/\"\\\xe2\x82\xac" ],
    [ 'surrogate pair', '"str":"\\ud83d\\ude00"', "\xf0\x9f\x98\x80" ],
    [ 'UTF-8', "\"str\":\"\xe5\x90\x8d\xe5\x89\x8d\"",
      "\xe5\x90\x8d\xe5\x89\x8d" ],
    [ 'what looks like a variable', '"str":"$runcoach_user"',
      '$runcoach_user' ],
    [ 'what looks like a number', '"str":"007"', '007' ],
    [ 'number', '"str":42', '42' ],
    [ 'zero', '"str":0', '0' ],
    [ 'negative number', '"str":-7', '-7' ],
    [ 'number beyond a double', '"str":9007199254740993',
      '9007199254740993' ],
    [ 'largest number', '"str":9223372036854775807', '9223372036854775807' ],
    [ 'real', '"str":1.50', '1.50' ],
    [ 'real with an exponent', '"str":-1E+2', '-1E+2' ],
    [ 'true', '"str":true', 'true' ],
    [ 'false', '"str":false', 'false' ],
    [ 'null', '"str":null', '' ],
    [ 'absent', '"other":1', '' ],
    [ 'array', '"str":["a","b"]', '["a","b"]' ],
    [ 'array with white space', "\"str\": [ 1 ,\n\t2,  {\"a\" : [ ] } ]",
      '[1,2,{"a":[]}]' ],
    [ 'empty array', '"str":[ ]', '[]' ],
    [ 'object', '"str":{ "a" : 1 , "b" : "x, y : z" }',
      '{"a":1,"b":"x, y : z"}' ],
    [ 'empty object', "\"str\":{\r\n}", '{}' ],
    [ 'escapes in an array', '"str":[ "a\\nb" , "\\u00e9\\"" ]',
      '["a\\nb","\\u00e9\\""]' ],
    [ 'quoted white space', '"str":[ "a\\" b\\\\" , " c " ]',
      '["a\\" b\\\\"," c "]' ],

    # a control character never comes out, and nothing is cut before it

    (map { [ "control character $_", "\"str\":\"a\\u00$_\"", '' ] }
     qw/ 01 08 09 0a 0d 1b 1f 7f /),
    [ 'line feed', '"str":"a\\nb"', '' ],
    [ 'header injected', '"str":"a\\r\\nX-Evil: 1"', '' ],
    [ 'DEL as it is', "\"str\":\"a\x7fb\"", '' ],
)
{
    my ($name, $claims, $expected) = @$case;

    is(claim($claims, 'X-Claim-str'), "[$expected]", $name);
}

my $r = $t->get('/', token => token('"str":"a\\r\\nX-Evil: 1","num":"x"'));

unlike($r->raw, qr/evil/i, 'injection: not a word');
is($r->header('X-Claim-num'), '[x]', 'injection: the next claim');

# a NUL is refused with the whole token, and so is a number out of bounds

for my $bad ('"str":"a\\u0000b"', '"str":18446744073709551616',
             '"str":"\\ud83d"', "\"str\":\"\xff\"")
{
    like(status('/', $bad), qr/^401 token-invalid/, "refused: $bad");
}

# names and paths

for my $case (
    [ '"nest":{"inner":"x"}', 'X-Claim-nest__inner', 'x' ],
    [ '"nest":{"inner":{"a":1}}', 'X-Claim-nest__inner', '{"a":1}' ],
    [ '"nest":{"inner":"x"}', 'X-Claim-nest', '{"inner":"x"}' ],
    [ '"nest":{"more":{"deep":true}}', 'X-Claim-nest__more__deep', 'true' ],
    [ '"nest__inner":"whole","nest":{"inner":"x"}', 'X-Claim-nest__inner',
      'whole' ],
    [ '"nest__inner":"whole"', 'X-Claim-nest__inner', 'whole' ],
    [ '"nest":{"more__deep":1}', 'X-Claim-nest__more__deep', '' ],
    [ '"nest":"inner"', 'X-Claim-nest__inner', '' ],
    [ '"nest":["inner"]', 'X-Claim-nest__inner', '' ],
    [ '"nest":{"Inner":"x"}', 'X-Claim-nest__inner', '' ],
    [ '"nest":null', 'X-Claim-nest__inner', '' ],
    [ '"a":{"b":{"c":1}}', 'X-Claim-a__b', '{"c":1}' ],
    [ '"a":{"c":{"b":1}},"b":2', 'X-Claim-a__b', '' ],
    [ '"firstName":"A","firstname":"B"', 'X-Claim-firstname', 'B' ],
    [ '"firstName":"A","firstname":"B"', 'X-First', 'A' ],
    [ '"firstName":"A"', 'X-Claim-firstname', '' ],
    [ '"public_metadata":{"plan":"pro"}', 'X-Claim-public_metadata__plan',
      'pro' ],
    [ '"public_metadata":{"plan":"pro"}', 'X-Plan', 'pro' ],
    [ '"public_metadata":{"plan":{ "a" : 1 }}', 'X-Plan', '{"a":1}' ],
    [ '"o":{"Names":{"firstName":"A"}}', 'X-Deep', 'A' ],
    [ '"o":{"names":{"firstName":"A"}}', 'X-Deep', '' ],
    [ '"x-hasura-role":"user"', 'X-Dashed', 'user' ],
    [ '"https://runcoach.test/role":"coach"', 'X-Dots', 'coach' ],
    [ '"__x":"y"', 'X-Claim-__x', 'y' ],
    [ '"\\u0073tr":"escaped name"', 'X-Claim-str', 'escaped name' ],
    [ '"x":1', 'X-Claim-sub', 'user_claims' ],
    [ '"x":1', 'X-Claim-iss', 'https://clerk.runcoach.test' ],
    [ '"aud":["a", "b"]', 'X-Claim-aud', '["a","b"]' ],
    [ '"sid":"sess_9"', 'X-Sid', 'sess_9' ],
    [ '"sid":"sess\\n9"', 'X-Sid', '' ],
    [ '"sid":9', 'X-Sid', '' ],
)
{
    my ($claims, $header, $expected) = @$case;

    is(claim($claims, $header), "[$expected]", "$claims as $header");
}

# as large as a token may be

for my $n (400, 1000, 4000, 5700) {
    my $value = join('', map { chr(97 + $_ % 26) } 1 .. $n);

    is(claim("\"str\":\"$value\"", 'X-Claim-str'), "[$value]",
       "string of $n bytes");

    my @list = map { 'item' . $_ } 1 .. $n / 12;
    my $list = json_encode(\@list);

    is(claim("\"list\":" . ($list =~ s/,/ , /gr), 'X-Claim-list'), "[$list]",
       'list of ' . scalar(@list) . ' items') if $n < 5000;
}

# of somebody whom we do not know there is nothing to say

my $good = '"str":"x","pla":"u:pro","org_id":"org_1","sid":"sess_1"';

for my $case (
    [ 'refused', '/', 401, token => token($good, secret => 'x' x 40) ],
    [ 'expired', '/', 401, token => token("$good,\"exp\":" . ($now - 60)) ],
    [ 'refused, optional', '/optional', 200,
      token => token($good, secret => 'x' x 40) ],
    [ 'nobody', '/optional', 200 ],
    [ 'off', '/off', 200, token => token($good) ],
    [ 'session', '/', 200, cookie => $t->session(7, str => 'x') ],
)
{
    my ($name, $path, $status, @args) = @$case;
    my $r = $t->get($path, @args);

    is($r->status, $status, $name);
    is(join('', map { $r->header("X-Claim-$_") =~ tr/[]//dr } @names), '',
       "$name: no claims");
    is(join('', map { $r->header($_) =~ tr/[]//dr }
            qw/ X-Org-Id X-Org-Slug X-Org-Role X-Org-Permission X-Sid /), '',
       "$name: no organization, no session");
}

# before there is an answer there is none, and none is remembered

$r = $t->get('/early', token => token('"str":"x"'));
is($r->header('X-Early'), '[]', 'before authentication');
is($r->header('X-Late'), '[x]', 'after it');

# ... and on an error page it is still there

$r = $t->get('/gone', token => token('"str":"x","public_metadata":'
                                     . '{"plan":"pro"}'));
is($r->header('X-Claim-str'), '[x]', 'error page');
is($r->header('X-Plan'), '[pro]', 'error page, directive');

###############################################################################

# Organizations: claims, id, slug, role, permissions.

my $permissions = join(',', map { "p$_" } 0 .. 60);

my @organizations = (
    [ 'version 1', { org_id => 'org_1', org_slug => 'team',
                     org_role => 'org:admin',
                     org_permissions => ['org:a:read', 'org:a:manage'] },
      'org_1', 'team', 'org:admin', 'org:a:read,org:a:manage' ],
    [ 'version 1, said', { v => 1, org_id => 'org_1', org_role => 'admin' },
      'org_1', '', 'admin', '' ],
    [ 'version 1, no permissions', { org_id => 'org_1',
                                     org_permissions => [] },
      'org_1', '', '', '' ],
    [ 'version 1, and "o"', { org_id => 'org_1', o => { id => 'org_2' } },
      'org_1', '', '', '' ],
    [ 'version 1, nothing', { }, '', '', '', '' ],
    [ 'version 2, nothing', { v => 2, fea => 'u:a' }, '', '', '', '' ],
    [ 'version 2, of version 1', { v => 2, org_id => 'org_1',
                                   org_role => 'org:admin' },
      '', '', '', '' ],
    [ 'version 2', { v => 2, o => { id => 'org_1', slg => 'team',
                                    rol => 'admin', per => 'read,manage',
                                    fpm => '3,2' },
                     fea => 'o:dashboard,o:impersonation' },
      'org_1', 'team', 'org:admin', 'org:dashboard:read,org:dashboard:manage,'
      . 'org:impersonation:manage' ],
    [ 'no role, no slug', { v => 2, o => { id => 'org_1' } },
      'org_1', '', '', '' ],
    [ 'role with its prefix', { v => 2, o => { id => 'o', rol => 'org:x' } },
      'o', '', 'org:org:x', '' ],
    [ 'features of the user between', feature('u:x,o:y', 'read', '1') ,
      'org:y:read' ],
    [ 'features of both', feature('u:x,ou:y,uo:z,o:w', 'read,write', '1,2,3'),
      'org:y:read,org:z:write,org:w:read,org:w:write' ],
    [ 'features of other scopes', feature('x:a,o:b,oo:c,:d', 'read', '1,1'),
      'org:b:read' ],
    [ 'white space', feature(' o:a , o:b ', ' read , write ', ' 1 , 2 '),
      'org:a:read,org:b:write' ],
    [ 'feature with a colon', feature('o:a:b', 'read', '1'), 'org:a:b:read' ],
    [ 'permission with a colon', feature('o:a', 'x:read', '1'),
      'org:a:x:read' ],
    [ 'nothing granted', feature('o:a,o:b', 'read', '0,0'), '' ],
    [ 'more numbers than features', feature('o:a', 'read', '1,1,1'),
      'org:a:read' ],
    [ 'fewer numbers than features', feature('o:a,o:b', 'read', '1'),
      'org:a:read' ],
    [ 'bits without permissions', feature('o:a', 'read', '255'),
      'org:a:read' ],
    [ 'leading zeros', feature('o:a', 'read,write', '0002'), 'org:a:write' ],
    [ 'no number', feature('o:a,o:b', 'read', 'x,1'), 'org:b:read' ],
    [ 'negative number', feature('o:a,o:b', 'read', '-1,1'), 'org:b:read' ],
    [ 'number with a point', feature('o:a,o:b', 'read', '1.0,1'),
      'org:b:read' ],
    [ 'hexadecimal number', feature('o:a,o:b', 'read', '0x1,1'),
      'org:b:read' ],
    [ 'empty number', feature('o:a,o:b', 'read', ',1'), 'org:b:read' ],
    [ 'no map', feature('o:a', 'read', ''), '' ],
    [ 'no permissions', feature('o:a', '', '1'), '' ],
    [ 'no features', feature('', 'read', '1'), '' ],
    [ '61 permissions, the last', feature('o:a', $permissions,
      '1152921504606846976'), 'org:a:p60' ],
    [ '61 permissions, first and last', feature('o:a', $permissions,
      '1152921504606846977'), 'org:a:p0,org:a:p60' ],
    [ 'beyond 64 bits', feature('o:a', join(',', map { "p$_" } 0 .. 69),
      '590295810358705651713'), 'org:a:p0,org:a:p69' ],
    [ 'beyond 128 bits', feature('o:a', 'x,y', '9' x 60 . '7'), 'org:a:x' ],
    [ '"o" is null', { v => 2, o => undef }, '', '', '', '' ],
    [ '"o" is a string', { v => 2, o => 'org_1' }, '', '', '', '' ],
    [ '"v" is a string', { v => '2', o => { id => 'org_2' },
                           org_id => 'org_1' }, 'org_1', '', '', '' ],
    [ '"v" to come', { v => 3, o => { id => 'org_2' }, org_id => 'org_1' },
      'org_1', '', '', '' ],
);

my ($theirs, $why) = $t->peer_json('organization.mjs', '@clerk/shared',
                                   [ map { $_->[1] } @organizations ]);

for my $i (0 .. $#organizations) {
    my ($name, $claims, @expected) = @{$organizations[$i]};

    # the token has one "v"

    my $r = $t->get('/', token => token(inner($claims)));
    my @ours = map { $r->header("X-Org-$_") =~ s/^\[|\]$//gr }
               qw/ Id Slug Role Permission /;

    is("@ours", "@expected", "organization: $name");
    is("@ours", join(' ', @{$theirs->[$i]}{qw/ id slug role permissions /}),
       "organization: $name: Clerk's library agrees")
        if $theirs && ref $theirs->[$i];
}

SKIP: {
    skip "no \@clerk/shared: $why", 1 unless $theirs;

    is(scalar(@$theirs), scalar(@organizations),
       "Clerk's library has read all");
}

# where it throws, nothing is granted

$r = $t->get('/', token => token(inner((feature('o:a,b', 'read', '1,1'))[0])));
is($r->header('X-Org-Permission'), '[]', 'malformed features');

# what could break a list or a header is not in it

for my $claims ({ org_id => "a\nb", org_role => "a\rb",
                  org_slug => "\x01", org_permissions => ["a\nb"] },
                { v => 2, o => { id => "a\nb", slg => "\x7f", rol => "a\tb",
                                 per => "a\nb", fpm => '1' }, fea => 'o:a' })
{
    $r = $t->get('/', token => token(inner($claims)));

    is(join('', map { $r->header("X-Org-$_") } qw/ Id Slug Role Permission /),
       '[][][][]', 'organization with control characters');
}

###############################################################################

# map, and the limits which depend on it

my @free = map { $t->get('/limited', token => token('"pla":"u:free"'))
                   ->status } 1 .. 4;
my @pro = map { $t->get('/limited', token => token('"pla":"u:pro"'))
                  ->status } 1 .. 6;

is("@pro", '200 200 200 200 200 200', 'limit: pro');
is($free[0], 200, 'limit: free, first');
is($free[3], 429, 'limit: free, fourth');

# proxy_set_header: what a client has written is replaced, or removed

my @forged = (headers => { map { $_ => 'evil' }
                           qw/ X-Str X-Plan X-Speed X-Org / });
my $claims = '"str":"x y","public_metadata":{"plan":"pro"},'
             . inner((feature('o:a', 'read', '1'))[0]);

is($t->get('/proxied', token => token($claims), @forged)->body,
   'x y|pro|plan pro|org:a:read', 'proxy_set_header');
is($t->get('/proxied', token => token('"x":1'), @forged)->body, '||none|',
   'proxy_set_header, no claims');
is($t->get('/proxied', @forged)->body, '||none|', 'proxy_set_header, nobody');

# log_format

$t->get('/log', token => token("$claims,\"list\":[1, \"é\"]"));

my $line = $t->wait_for(sub {
    my ($found) = grep { m{"/log"} } split(/^/, $t->read_file('claims.log'));
    return $found;
});

my $logged = eval { json_decode($line // '') } || {};

is($logged->{str}, 'x y', 'log: claim');
is($logged->{plan}, 'pro', 'log: directive');
is($logged->{speed}, 'plan pro', 'log: map');
is($logged->{list}, "[1,\"\x{e9}\"]", 'log: list');
is($logged->{permissions}, 'org:a:read', 'log: permissions');

###############################################################################

# The same is said by whoever answers: the worker that has verified the token,
# the same one again, the other one, and those after a reload.

for my $case (
    [ 'small', '"str":"x","num":1' ],
    [ 'rich', '"str":"x","num":1.50,"nest":{"inner":[ 1, 2 ],"more":'
      . '{"deep":true}},"a__b":"c","list":[ "a" , {} ],"firstName":"A",'
      . '"firstname":"B","pla":"u:pro","sid":"sess_1","aud":["a"],'
      . '"public_metadata":{"plan":"pro"},"x-hasura-role":"r",'
      . inner((feature('u:x,o:y,ou:z', 'read,write', '3,2'))[0]) ],
    [ 'large', '"str":"' . 'x' x 2500 . '","list":["' . 'y' x 2500 . '"]' ],
    [ 'UTF-8', "\"str\":\"\xe5\x90\x8d\",\"num\":null,\"list\":\"a\\nb\"" ],
)
{
    my ($name, $claims) = @$case;
    my $token = token($claims);
    my $first = $t->get('/', token => $token);

    is($first->header('X-Cache'), 'MISS', "$name: miss");

    my $expected = variables($first);

    is_deeply(variables($_), $expected, "$name: " . $_->header('X-Cache')
              . ' in worker ' . ($_->header('X-Pid')
                                 == $first->header('X-Pid') ? 1 : 2))
        for both_workers('/', $token);

    $t->reload();

    is_deeply(variables($_), $expected, "$name: after a reload")
        for both_workers('/', $token);
}

###############################################################################

# What an issuer demands

for my $name (sort keys %required) {
    my (undef, $enough, $not) = @{$required{$name}};

    is(status("/r_$name", $_), 200, "$parameters{qq/r_$name/}: $_")
        for @$enough;
    like(status("/r_$name", $_), qr/^401 token-/,
         "$parameters{qq/r_$name/}: not $_") for @$not;
}

my %kinds = (
    'no mark' => [ 'session' ],
    'no typ' => [ 'session', { typ => undef } ],
    'mark of a session' => [ 'session', { cat => 'cl_B7d4PD111AAA' } ],
    'mark of no class' => [ 'session', { cat => 'cl_I7d4PD111III' } ],
    'mark of a template' => [ 'template', { cat => 'cl_B7d4PD222AAA' } ],
    'mark of a machine' => [ 'machine', { cat => 'cl_B7d4PD333AAA' } ],
    'sub of a machine' => [ 'machine', {}, '"sub":"mch_1"' ],
    'session with sub of a machine' =>
        [ 'machine', { cat => 'cl_B7d4PD111AAA' }, '"sub":"mch_1"' ],
    'access token' => [ 'oauth', { typ => 'at+jwt' } ],
    'access token in full' => [ 'oauth', { typ => 'application/at+jwt' } ],
    'access token in upper case' => [ 'oauth', { typ => 'AT+JWT' } ],
    'access token of a machine' =>
        [ 'machine', { typ => 'at+jwt' }, '"sub":"mch_1"' ],
    'unknown mark' => [ 'none', { cat => 'cl_B7d4PD444AAA' } ],
    'empty mark' => [ 'none', { cat => '' } ],
    'unknown typ' => [ 'none', { typ => 'x' } ],
    'typ in lower case' => [ 'none', { typ => 'jwt' } ],
    'typ of a logout' => [ 'none', { typ => 'logout+jwt' } ],
);

for my $name (sort keys %accepted) {
    for my $kind (sort keys %kinds) {
        my ($class, $header, $claims) = @{$kinds{$kind}};
        my $status = status("/a_$name", $claims // '"x":1',
                            header => $header || {});
        my $yes = " $accepted{$name}[1] " =~ / $class /;

        is($status, $yes ? 200 : '401 token-type-mismatch',
           "$name: $kind is " . ($yes ? 'accepted' : 'not'));
    }
}

for my $case (
    [ 'pending', '"sts":"pending"', 200 ],
    [ 'pending', '"sts":"active"', 200 ],
    [ 'pending', '"sts":"ended"', '401 session-pending' ],
    [ 'pending', '"sts":1', qr/^401/ ],
    [ 'strict', '"sts":"pending"', '401 session-pending' ],
    [ 'strict', '"sts":"active"', 200 ],
    [ 'strict', '"sts":""', '401 session-pending' ],

    [ 'hour', dates(0, 3600), 200 ],
    [ 'hour', dates(-1800, 1800), 200 ],
    [ 'hour', dates(0, 3660), '401 token-invalid-lifetime' ],
    [ 'hour', dates(-3600, 60), '401 token-invalid-lifetime' ],
    [ 'hour', dates(undef, 3500), 200 ],
    [ 'hour', dates(undef, 3700), '401 token-invalid-lifetime' ],
    [ 'strict', dates(0, 86400), 200 ],
    [ 'strict', dates(0, 86500), '401 token-invalid-lifetime' ],

    [ 'sharp', dates(-60, -1), '401 token-expired' ],
    [ 'sharp', dates(-60, 30), 200 ],
    [ 'sharp', dates(-60, 30) . ',"nbf":' . ($now + 30),
      '401 token-not-active-yet' ],
    [ 'sharp', dates(30, 60), '401 token-iat-in-the-future' ],
    [ 'late', dates(-60, -40), 200 ],
    [ 'late', dates(-120, -90), '401 token-expired' ],
    [ 'late', dates(-60, 30) . ',"nbf":' . ($now + 40), 200 ],
    [ 'late', dates(40, 600), 200 ],
    [ 'late', dates(120, 600), '401 token-iat-in-the-future' ],

    [ 'audience', '"aud":"api"', 200 ],
    [ 'audience', '"aud":"edge"', 200 ],
    [ 'audience', '"aud":["x","api"]', 200 ],
    [ 'audience', '"aud":"API"', '401 token-invalid-audience' ],
    [ 'audience', '"aud":"api,edge"', '401 token-invalid-audience' ],
    [ 'audience', '"aud":["x"]', '401 token-invalid-audience' ],
    [ 'audience', '"aud":[]', '401 token-invalid-audience' ],
    [ 'audience', '"aud":["api",7]', qr/^(?:200|401)/ ],
    [ 'audience', '"aud":{"api":1}', qr/^401/ ],
    [ 'audience', '"aud":null', qr/^401/ ],
    [ 'audience', '"x":1', '401 token-invalid-audience' ],
)
{
    my ($name, $claims, $expected) = @$case;
    my $status = status("/m_$name", $claims);

    ref($expected) ? like($status, $expected, "$more{$name}: $claims")
                   : is($status, $expected, "$more{$name}: $claims");
}

for my $name (sort keys %origins) {
    my (undef, $expected) = @{$origins{$name}};
    my @given = map { token("$_\"x\":1", name => "o_$name") }
                ('', '"azp":"https://a.test",', '"azp":"https://b.test",');

    is(join(' ', (map { $t->get("/o_$name", token => $_)->status } @given),
            '', map { $t->get("/o_$name", cookie => "__session=$_")->status }
                @given), $expected, "azp: $parameters{qq/o_$name/}");
    is(join(' ', map { $t->get("/q/o_$name?token=$_")->status } @given),
       $expected =~ s/  .*//r, "azp: $name, a query is as a header");
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
    runcoach_issuer  clerk  issuer=https://x  secret=env:JWT_SECRET PARAMETER;
    DIRECTIVE

    server {
        listen  127.0.0.1:8083;

        location / {
            runcoach_auth  clerk;
            add_header     X-Claim  $runcoach_claim_x;
        }
    }
}
EOT

is_deeply([ configuration('accept=session', 'runcoach_claim $x a.b;') ],
          [ 0, '' ], 'configuration');

for my $case (
    [ 'accept=person', '', 'accept' ],
    [ 'pending=maybe', '', 'pending' ],
    [ 'require==x', '', 'require' ],
    [ 'require=a..b', '', 'require' ],
    [ 'require=.a', '', 'require' ],
    [ 'leeway=soon', '', 'leeway' ],
    [ 'max_lifetime=long', '', 'max_lifetime' ],
    [ 'accepts=session', '', 'accepts' ],
    [ 'azp_header=require', '', 'azp_header' ],
    [ 'azp_cookie=require', '', 'azp_cookie' ],
    [ 'authorized_parties=https://a azp_cookie=never', '', 'azp_cookie' ],
    [ '', 'runcoach_claim;', 'runcoach_claim' ],
    [ '', 'runcoach_claim $x;', 'runcoach_claim' ],
    [ '', 'runcoach_claim x a;', 'runcoach_claim|variable' ],
    [ '', 'runcoach_claim $ a;', 'runcoach_claim|variable' ],
    [ '', 'runcoach_claim $x "";', 'runcoach_claim' ],
    [ '', 'runcoach_claim $x a..b;', 'runcoach_claim' ],
    [ '', 'runcoach_claim $x a; runcoach_claim $x b;',
      'runcoach_claim|duplicate' ],
    [ '', 'runcoach_claim $runcoach_user a;', 'runcoach_user' ],
    [ '', 'runcoach_claim $host a;', 'host' ],
)
{
    my ($parameter, $directive, $word) = @$case;
    my ($status, $out) = configuration($parameter, $directive);

    isnt($status, 0, "configuration: $parameter$directive");
    like($out, qr/\[emerg\].*(?:$word)/, 'and why');
    unlike($out, qr/\Q$secret\E/, 'and no secret');
}

$t->done();

###############################################################################

# a token with the text of these claims in it; of a claim that is there the
# defaults leave out their own

sub token
{
    my ($claims, %opt) = @_;

    my $name = $opt{name} // 'clerk';
    my %default = (
        iss => "\"https://$name.runcoach.test\"",
        sub => '"user_claims"',
        exp => $now + 3600,
    );

    delete $default{$_} for grep { $claims =~ /"\Q$_\E":/ } keys %default;

    my $payload = '{' . join(',', (map { "\"$_\":$default{$_}" }
                                   sort keys %default), $claims) . '}';

    return $t->token(alg => 'HS256', secret => $opt{secret} // $secret,
                     payload => $payload, header => $opt{header} || {});
}


# the header that an answer to such a token has

sub claim
{
    my ($claims, $header) = @_;

    return $t->get('/', token => token($claims))->header($header);
}


# 200, or the status and why; the location is named like its issuer

sub status
{
    my ($path, $claims, %opt) = @_;

    my ($name) = $path =~ m{^/(.+)};
    my $r = $t->get($path, token => token($claims, name => $name, %opt));

    return $r->status == 200 ? 200
           : $r->status . ' ' . ($r->header('X-Reason') // '');
}


sub dates
{
    my ($iat, $exp) = @_;

    return (defined $iat ? '"iat":' . ($now + $iat) . ',' : '')
           . '"exp":' . ($now + $exp);
}


# claims of an organization, and what besides permissions is expected of them

sub feature
{
    my ($features, $permissions, $map) = @_;

    return ({ v => 2, fea => $features, o => { id => 'org_1', slg => 'team',
              rol => 'admin', per => $permissions, fpm => $map } },
            'org_1', 'team', 'org:admin');
}


# without the braces

sub inner
{
    my $text = json_encode($_[0]);

    return $text eq '{}' ? '"x":1' : substr($text, 1, -1);
}


sub variables
{
    my ($r) = @_;

    return { status => $r->status, map { $_ => $r->header($_) }
             grep { /^x-/ && !/^x-(?:pid|cache)$/ } $r->header_names };
}


# an answer of each worker, at least

sub both_workers
{
    my ($path, $token) = @_;

    my %by;

    for (1 .. 200) {
        my $r = $t->get($path, token => $token);

        $by{$r->header('X-Pid')} = $r;
        last if keys %by == 2;
    }

    is(scalar(keys %by), 2, 'both workers have answered');

    return values %by;
}


sub configuration
{
    my ($parameter, $directive) = @_;

    return $t->configtest($conf =~ s/PARAMETER/$parameter/r
                                =~ s/DIRECTIVE/$directive/r,
                          env => { JWT_SECRET => $secret });
}

###############################################################################
