#!/usr/bin/perl

# Tests for many URLs in one answer, for what else a client may state and a
# configuration may prescribe, for URLs of every method, and for what is
# announced of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256 sha256_hex /;
use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach qw/ json_encode /;

my $t = Test::Runcoach->new();

$t->has('redis-server') || $t->skip_all('no redis-server');

my $redis = $t->redis();
my $secret = 'batch-secret';

$t->set(REDIS_URL => $redis->url());
$t->set(STORE => "$t->{dir}/store");
$t->set(ERRORS => "$FindBin::Bin/../conf/store.errors.conf");
$t->set(SECRET => $secret);

$t->write_file_expand('nginx.conf', <<'EOF');
%%TEST_GLOBALS%%

worker_processes  1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone   runcoach:1m;
    runcoach_redis  %%REDIS_URL%%;

    runcoach_issuer  clerk  issuer=https://clerk.runcoach.test
                     key=env:CLERK_JWT_KEY;

    runcoach_store  r2  endpoint=http://127.0.0.1:%%PORT_8080%%
                    bucket=fit-files  access_key=AK  secret_key=%%SECRET%%;

    server {
        listen   127.0.0.1:%%PORT_8080%%;
        include  %%ERRORS%%;

        client_max_body_size     64k;
        client_body_buffer_size  64k;

        location /fit-files/ {
            root                     %%STORE%%;
            runcoach_presign_verify  r2;
            dav_methods              DELETE;
            min_delete_depth         2;
            error_page  404                  = @store_missing;
            error_page  400 403 411 412 501    @store_error;
        }

        location = /put {
            runcoach_auth     clerk;
            runcoach_presign  r2  PUT  "users/$runcoach_user/$runcoach_object.fit"
                              expires=1h  max_size=1k  announce=runcoach:uploads;
        }

        location ~ ^/put/(?<id>\w+)$ {
            runcoach_auth     clerk;
            runcoach_presign  r2  PUT  "users/$runcoach_user/$runcoach_object.fit"
                              object=$id;
        }

        location = /pinned {
            runcoach_auth     clerk;
            runcoach_presign  r2  PUT  "users/$runcoach_user/$runcoach_object.fit";

            runcoach_presign_header  Content-Type     application/gzip;
            runcoach_presign_header  if-none-match    *;
            runcoach_presign_header  x-amz-meta-user  $runcoach_user;
            runcoach_presign_header  x-amz-meta-more  $arg_more;
        }

        location = /get {
            runcoach_auth     clerk;
            runcoach_presign  r2  GET  "users/$runcoach_user/$runcoach_object.fit"
                              object=$arg_id  expires=300s;
        }

        location = /named {
            runcoach_auth     clerk;
            runcoach_presign  r2  GET  "users/$runcoach_user/$arg_name";
            runcoach_presign_query  response-content-disposition
                                    "attachment; filename=\"$arg_name\"";
        }

        location = /head {
            runcoach_auth     clerk;
            runcoach_presign  r2  HEAD  "users/$runcoach_user/$runcoach_object.fit"
                              object=$arg_id;
        }

        location = /delete {
            runcoach_auth     clerk;
            runcoach_presign  r2  DELETE  "users/$runcoach_user/$runcoach_object.fit"
                              object=$arg_id;
        }
    }
}
EOF

mkdir("$t->{dir}/store");
chown($t->{uid}, $t->{gid}, "$t->{dir}/store") if $t->{runas};

$t->run(env => { CLERK_JWT_KEY => $t->key_pem('issuer') });

my $token = $t->token(sub => 'user_b');
my $bytes = 'some bytes';
my $r;

###############################################################################

# a list of one, of a hundred, of one too many

my $j = ask('/put', { uploads => [ {} ] })->json;

is_deeply([ keys %$j ], [ 'uploads' ], 'a list is answered by a list');
is(scalar(@{$j->{uploads}}), 1, 'of one');
is_deeply([ sort keys %{$j->{uploads}[0]} ],
          [ sort qw/ upload_url key activity_id expires_at expires_in method
                     headers / ], 'with the members that one alone has');

my @some = map { { activity_id => $_, file_size => $_,
                   checksum => sha256_hex($_), content_type => 'a/b',
                   filename => "na\"me $_.fit", metadata => { n => "$_" } } }
           1 .. 100;

$r = ask('/put', { uploads => \@some });
$j = $r->json;

is($r->status, 200, 'a hundred') or diag($r->raw);
is($r->header('Content-Length'), length($r->body), 'its length');
is_deeply([ map { $_->{activity_id} } @{$j->{uploads}} ], [ 1 .. 100 ],
          'in the order they were asked for');
is(scalar(grep { is_ours($_, 'PUT', 'upload_url',
                         { 'content-length' => $_->{activity_id} }) }
          @{$j->{uploads}}), 100, 'each signature is right');

is(scalar(keys %{{ map { $_->{activity_id} => 1 }
                   @{ask('/put', { uploads => [ map { {} } 1 .. 100 ] })->json
                         ->{uploads}} }}), 100, 'provisional ids differ');

for my $case (
    [ 'one too many', [ map { {} } 1 .. 101 ], qw/ body uploads / ],
    [ 'none', [], qw/ body uploads / ],
    [ 'no list', {}, qw/ body uploads / ],
    [ 'null', undef, qw/ body uploads / ],
    [ 'no object', [ {}, 7 ], qw/ body uploads 1 / ],
    [ 'a mistake', [ {}, {}, { file_size => 'x' } ],
      qw/ body uploads 2 file_size / ],
    [ 'a list in a list', [ { uploads => [] }, { metadata => 1 } ],
      qw/ body uploads 1 metadata / ],
)
{
    my ($name, $list, @loc) = @$case;

    $r = ask('/put', { uploads => $list });

    is($r->status, 422, "list: $name");
    is_deeply($r->detail->[0]{loc}, \@loc, "list: $name, named");
    unlike($r->body, qr/X-Amz/, "list: $name, nothing signed");
}

$r = ask('/put', { uploads => [ {}, { file_size => 1025 } ] });
is($r->status, 413, 'list: one is too large');
unlike($r->body, qr/X-Amz/, 'list: one is too large, nothing signed');

$r = ask('/put/7', { uploads => [ {} ] });
is($r->status, 422, 'list: where the path names one');

SKIP: {
    skip 'a byte at a time they take too long', 2 if $ENV{RUNCOACH_SHIM};

    my %large = map { $_ => 'x' x 200 } 1 .. 8;

    is(ask('/put', { uploads => [ ({ metadata => \%large }) x 30 ] })->status,
       200, 'list: 50 kilobytes');
    is(ask('/put', { uploads => [ { x => [ (0) x 20000 ] } ] })->status, 422,
       'list: too many values');
}

is($t->post('/put', token => $token, body => '{"x":"' . 'x' x 70000 . '"}')
   ->status, 413, 'too large a body');

###############################################################################

# what can be stated: it is bound, told, and needed

my %stated = (activity_id => 8, file_size => length($bytes),
              content_type => 'application/octet-stream',
              checksum => sha256_hex($bytes), if_none_match => '*',
              metadata => { device => 'fenix 7', 'a-b-1' => 'x=y' },
              expires_in => 60);

$j = ask('/put', \%stated)->json;

is($j->{expires_in}, 60, 'expiry as it was asked for');
is_deeply($j->{headers}, {
    'content-type' => 'application/octet-stream',
    'if-none-match' => '*',
    'x-amz-checksum-sha256' => encode_base64(sha256($bytes), ''),
    'x-amz-meta-device' => 'fenix 7',
    'x-amz-meta-a-b-1' => 'x=y',
}, 'headers to send');
ok(is_ours($j, 'PUT', 'upload_url', { 'content-length' => 10 }),
   'each is signed');
is($t->url('PUT', $j->{upload_url}, body => 'others',
           headers => $j->{headers})->status, 403, 'other bytes');
is($t->url('PUT', $j->{upload_url}, body => 'other byte',
           headers => $j->{headers})->status, 400,
   'other bytes of the same number');
is($t->url('PUT', $j->{upload_url}, body => $bytes,
           headers => $j->{headers})->status, 200, 'these bytes');
is($t->url('PUT', $j->{upload_url}, body => $bytes,
           headers => $j->{headers})->status, 412, 'not twice');

is(ask('/put', { expires_in => 604800 })->json->{expires_in}, 3600,
   'expiry: no more than is configured');
is(ask('/put', { expires_in => 1 })->json->{expires_in}, 1, 'expiry: a second');

for my $case (
    [ expires_in => 0 ], [ expires_in => -1 ], [ expires_in => 604801 ],
    [ expires_in => '60' ], [ expires_in => 1.5 ],
    [ if_none_match => '"etag"' ], [ if_none_match => 1 ],
    [ metadata => [] ], [ metadata => { 'A' => 'b' } ],
    [ metadata => { 'a b' => 'c' } ], [ metadata => { a => "b\r\nc: d" } ],
    [ metadata => { a => "\x{e9}" } ], [ metadata => { a => 'x' x 257 } ],
    [ metadata => { map { $_ => 'x' } 'a' .. 'i' } ],
)
{
    my ($name, $value) = @$case;

    $r = ask('/put', { $name => $value });

    is($r->status, 422, "$name: " . json_encode([$value]));
    is_deeply($r->detail->[0]{loc}, [ 'body', $name ], "$name: named");
}

# what the configuration prescribes

$j = ask('/pinned', { activity_id => 9 })->json;

is_deeply($j->{headers}, { 'content-type' => 'application/gzip',
                           'if-none-match' => '*',
                           'x-amz-meta-user' => 'user_b' },
          'prescribed, and what is empty is not');
ok(is_ours($j, 'PUT', 'upload_url'), 'prescribed: signed');

is(ask('/pinned?more=x', {})->json->{headers}{'x-amz-meta-more'}, 'x',
   'prescribed: by a variable');
is(ask('/pinned', { content_type => 'application/gzip',
                    if_none_match => '*' })->status, 200,
   'prescribed: stated as well');

for my $case ([ content_type => 'a/b' ], [ metadata => { user => 'user_c' } ]) {
    my ($name, $value) = @$case;

    $r = ask('/pinned', { $name => $value });

    is($r->status, 422, "prescribed: another $name");
    is_deeply($r->detail->[0]{loc}, [ 'body', $name ],
              "prescribed: another $name, named");
}

# the id of the path

is(ask('/put/12', {})->json->{activity_id}, 12, 'path');
is($t->post('/put/12', token => $token)->json->{activity_id}, 12,
   'path, no body');
is(ask('/put/12', { activity_id => 12 })->status, 200, 'path and body');
is(ask('/put/12', { activity_id => 13 })->status, 422, 'path or body');
is(ask('/put/0', {})->status, 404, 'path: zero');
is(ask('/put/x', {})->status, 404, 'path: a word');
is(ask('/put/9007199254740992', {})->status, 404, 'path: too large');

###############################################################################

# the other methods

$j = $t->get('/get?id=8', token => $token)->json;

is($j->{method}, 'GET', 'GET: method');
is($j->{expires_in}, 300, 'GET: expiry');
ok(is_ours($j, 'GET', 'download_url'), 'GET: signature');
is($t->url('GET', $j->{download_url})->body, $bytes, 'GET: the bytes');

$j = ask('/get', { activity_id => 8,
                   content_disposition => 'attachment; filename="run 1.fit"' })
     ->json;

is($t->url('GET', $j->{download_url})->header('Content-Disposition'),
   'attachment; filename="run 1.fit"', 'GET: disposition');

for my $bad ('inline', 'attachmentx', "attachment; \r\nX: y", '', 7) {
    is(ask('/get', { activity_id => 8, content_disposition => $bad })->status,
       422, 'GET: disposition ' . json_encode([$bad]));
}

$r = $t->get('/get', token => $token);
is($r->status, 422, 'GET: of nothing');
is_deeply($r->detail->[0]{loc}, [ 'body', 'activity_id' ],
          'GET: of nothing, named');

$j = ask('/get', { uploads => [ { activity_id => 8 }, { activity_id => 9 } ] })
     ->json;
is(scalar(grep { is_ours($_, 'GET', 'download_url') } @{$j->{uploads}}), 2,
   'GET: a list');

$j = $t->get('/named?name=x.fit', token => $token)->json;
like($j->{download_url}, qr/&response-content-disposition=attachment%3B%20
                            filename%3D%22x\.fit%22&X-Amz-Signature=/x,
     'GET: disposition by the configuration');
ok(!exists $j->{activity_id}, 'GET: no object in the key, none in the answer');

for my $bad ('..', '.', 'a/b', '') {
    like($t->get("/named?name=$bad", token => $token)->status, qr/^[45]/,
         "GET: \"$bad\" is no segment");
}

$j = $t->get('/head?id=8', token => $token)->json;
is($t->url('HEAD', $j->{head_url})->header('Content-Length'), 10, 'HEAD');
is($t->url('GET', $j->{head_url})->status, 403, 'HEAD: not for reading');

$j = $t->get('/delete?id=8', token => $token)->json;
is($t->url('GET', $j->{delete_url})->status, 403, 'DELETE: not for reading');
is($t->url('DELETE', $j->{delete_url})->status, 204, 'DELETE');
is($t->url('GET', $t->get('/get?id=8', token => $token)->json->{download_url})
   ->status, 404, 'DELETE: gone');

is($t->get('/put', token => $token)->status, 405, 'PUT: not by GET');
is($t->request('PUT', '/get?id=8', token => $token)->status, 405,
   'GET: not by PUT');
is($t->request('HEAD', '/get?id=8', token => $token)->body, '',
   'GET: asked for by HEAD');
is($t->post('/put', json => {})->status, 401, 'nobody');

###############################################################################

# what was announced: each PUT of that location, in order, and nothing else

$redis->cmd('DEL', 'runcoach:uploads');

$j = ask('/put', { uploads => [ { activity_id => 21, file_size => 7,
                                  checksum => sha256_hex('x') }, {} ] })->json;
ask('/put', { uploads => [ {}, { file_size => 'x' } ] });

$t->wait_for(sub { return $redis->cmd('XLEN', 'runcoach:uploads') >= 2 }, 5);

my @entries = map { { @{$_->[1]} } }
              @{$redis->cmd('XRANGE', 'runcoach:uploads', '-', '+')};

is_deeply($entries[0], {
    key => 'users/user_b/21.fit', user => 'user_b', method => 'PUT',
    object => 21, size => 7, checksum => encode_base64(sha256('x'), ''),
    expires => $entries[0]{expires},
}, 'announced');
cmp_ok(abs($entries[0]{expires} - time() - 3600), '<', 5, 'announced: expiry');
is($entries[1]{object}, $j->{uploads}[1]{activity_id},
   'announced: a provisional id');
is($entries[1]{size} . $entries[1]{checksum}, '', 'announced: nothing stated');

# without Redis the URLs are as good

$redis->stop();

$r = ask('/put', {});
is($r->status, 200, 'Redis is away');

$t->allow_alert(qr/redis/i) if $t->can('allow_alert');

$t->done();

###############################################################################

sub ask
{
    my ($path, $json) = @_;

    return $t->post($path, token => $token, json => $json);
}


# whether the URL of an answer is the one that the tests' signer makes

sub is_ours
{
    my ($answer, $method, $member, $more) = @_;

    my $url = $answer->{$member};
    my ($date) = $url =~ /X-Amz-Date=(\w+)/;
    my @t = $date =~ /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;

    require Time::Local;

    my $ours = $t->presign(
        endpoint => 'http://' . $t->host(), bucket => 'fit-files',
        access_key => 'AK', secret_key => $secret, method => $method,
        key => $answer->{key}, expires => $answer->{expires_in},
        headers => { %{$answer->{headers}}, %{$more || {}} },
        time => Time::Local::timegm($t[5], $t[4], $t[3], $t[2], $t[1] - 1,
                                    $t[0]));

    return $ours eq $url || !diag("$ours\n$url");
}

###############################################################################
