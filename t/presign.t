#!/usr/bin/perl

# Tests for presigned URLs, and for the local store that verifies them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256 sha256_hex /;
use MIME::Base64 qw/ encode_base64 /;
use POSIX qw/ strftime /;
use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

# no database and no sidecar: what is here needs neither

$t->edge(postgres => 0, sidecar => 0, env => {
    DATABASE_URL => 'postgresql://nobody@/none',
    MAX_FILE_SIZE => 100000,
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});

my $base = 'http://' . $t->host();
my $token = $t->token(sub => 'user_p');

###############################################################################

# the fields of the answer

my $before = time();
my $r = ask({});
my $j = $r->json;

is($r->status, 200, 'url');
like($r->header('Content-Type'), qr{^application/json}, 'content type');
is_deeply([ sort keys %$j ], [ sort qw/ upload_url key activity_id expires_at
                                       expires_in method headers / ],
          'fields');
is($j->{method}, 'PUT', 'method');
is($j->{expires_in}, 3600, 'expires_in');
like($j->{expires_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$/,
     'expires_at');
cmp_ok($j->{expires_at}, 'ge',
       strftime('%Y-%m-%dT%H:%M:%S+00:00', gmtime($before + 3600)),
       'expires_at is in an hour');
is_deeply($j->{headers}, {}, 'headers: nothing stated, nothing bound');
like($j->{activity_id}, qr/^\d+$/, 'activity_id is an integer');
cmp_ok($j->{activity_id}, '>', 2 ** 31, 'activity_id above any row');
cmp_ok($j->{activity_id}, '<', 2 ** 53, 'activity_id fits into a double');
is($j->{key}, "users/user_p/activities/$j->{activity_id}.fit", 'key');
like($j->{upload_url}, qr{^\Q$base/fit-files/$j->{key}?\E}, 'URL');

my %args = map { split(/=/, $_, 2) }
           split(/&/, ($j->{upload_url} =~ /\?(.*)/)[0]);

is($args{'X-Amz-Algorithm'}, 'AWS4-HMAC-SHA256', 'algorithm');
is($args{'X-Amz-Expires'}, 3600, 'expires');
is($args{'X-Amz-SignedHeaders'}, 'host', 'signed headers');
like($args{'X-Amz-Credential'},
     qr{^local%2F\d{8}%2Fauto%2Fs3%2Faws4_request$}, 'credential');

is($j->{upload_url}, our_url($j, 'PUT'), 'signature is as we reckon it');

isnt(ask({})->json->{activity_id}, $j->{activity_id}, 'ids differ');

# with an activity

$j = ask({ activity_id => 77, filename => 'morning.fit', file_size => 5 })
     ->json;

is($j->{activity_id}, 77, 'activity: id');
is($j->{key}, 'users/user_p/activities/77.fit', 'activity: key');

# no body is not JSON, unless there is nothing that it has to say

is($t->post('/api/v1/upload/url', token => $token)->status, 422, 'no body');
is($t->post('/api/v1/activities/7/upload-url', token => $token)->status, 200,
   'no body, activity in the path');

# what is stated is bound

my $bytes = 'some bytes';
my $hex = sha256_hex($bytes);
my $base64 = encode_base64(sha256($bytes), '');

$j = ask({ file_size => length($bytes),
           content_type => 'application/octet-stream', checksum => $hex })
     ->json;

my %bound = map { lc($_) => $j->{headers}{$_} } keys %{$j->{headers}};

is($bound{'content-type'}, 'application/octet-stream', 'bound: type');
is($bound{'x-amz-checksum-sha256'}, $base64, 'bound: checksum');

%args = map { split(/=/, $_, 2) }
        split(/&/, ($j->{upload_url} =~ /\?(.*)/)[0]);

my $signed = $args{'X-Amz-SignedHeaders'} =~ s/%3B/;/gr;

is($signed, 'content-length;content-type;host;x-amz-checksum-sha256',
   'bound: signed headers');
is($j->{upload_url}, our_url($j, 'PUT', headers => {
       %bound, 'content-length' => length($bytes) }), 'bound: signature');

is(ask({ checksum => $base64 })->json->{headers}{'x-amz-checksum-sha256'},
   $base64, 'checksum in base64');
is(ask({ checksum => uc($hex) })->json->{headers}{'x-amz-checksum-sha256'},
   $base64, 'checksum in upper case');

# put as it says

$r = put($j->{upload_url}, $bytes, %{$j->{headers}});
is($r->status, 200, 'bound: put');

$r = $t->url('GET', $t->presign(key => $j->{key}));
is($r->status, 200, 'bound: read');
is($r->body, $bytes, 'bound: same bytes');

my %type = ('Content-Type' => 'application/octet-stream');
my %checksum = ('x-amz-checksum-sha256' => $base64);

for my $case (
    [ 'other type', $bytes, 'Content-Type' => 'text/plain', %checksum ],
    [ 'no type', $bytes, %checksum ],
    [ 'no checksum', $bytes, %type ],
    [ 'other checksum', $bytes, %type,
      'x-amz-checksum-sha256' => encode_base64(sha256('x'), '') ],
    [ 'longer', "$bytes.", %type, %checksum ],
    [ 'shorter', substr($bytes, 1), %type, %checksum ],
    [ 'empty', '', %type, %checksum ],
)
{
    my ($name, $body, %headers) = @$case;

    is(put($j->{upload_url}, $body, %headers)->status, 403, "bound: $name");
}

###############################################################################

# bad bodies: 422 that names the field, nothing signed

for my $case (
    [ 'not JSON', '{', 'body' ],
    [ 'a list', '[]', 'body' ],
    [ 'a string', '"x"', 'body' ],
    [ 'two documents', '{}{}', 'body' ],
    [ 'not UTF-8', "{\"filename\":\"\xff\"}", 'body' ],
    [ 'activity_id is text', '{"activity_id":"x"}', 'activity_id' ],
    [ 'activity_id is a real', '{"activity_id":1.5}', 'activity_id' ],
    [ 'activity_id is true', '{"activity_id":true}', 'activity_id' ],
    [ 'activity_id is a list', '{"activity_id":[1]}', 'activity_id' ],
    [ 'activity_id is negative', '{"activity_id":-1}', 'activity_id' ],
    [ 'activity_id is a path', '{"activity_id":"../../7"}', 'activity_id' ],
    [ 'activity_id is huge', '{"activity_id":9007199254740993}',
      'activity_id' ],
    [ 'file_size is text', '{"file_size":"5"}', 'file_size' ],
    [ 'file_size is negative', '{"file_size":-1}', 'file_size' ],
    [ 'file_size is a real', '{"file_size":1.5}', 'file_size' ],
    [ 'filename is a number', '{"filename":5}', 'filename' ],
    [ 'content_type is a number', '{"content_type":5}', 'content_type' ],
    [ 'content_type with CR LF', '{"content_type":"a/b\r\nX: y"}',
      'content_type' ],
    [ 'checksum is short', '{"checksum":"abcd"}', 'checksum' ],
    [ 'checksum is a number', '{"checksum":5}', 'checksum' ],
    [ 'checksum is not hex', '{"checksum":"' . 'g' x 64 . '"}', 'checksum' ],
)
{
    my ($name, $body, $field) = @$case;

    my $r = $t->post('/api/v1/upload/url', token => $token, body => $body,
                     headers => { 'Content-Type' => 'application/json' });

    is($r->status, 422, $name);
    is(ref($r->detail), 'ARRAY', "$name: detail is a list") or next;

    my $detail = $r->detail->[0];

    is_deeply([ sort keys %$detail ], [ qw/ loc msg type / ],
              "$name: what it tells");
    is($detail->{loc}[-1], $field, "$name: names the field");
}

# null is the same as left out, and so is 0, as in the present application

cmp_ok(ask({ activity_id => 0 })->json->{activity_id}, '>', 2 ** 31,
       'activity_id is zero');

is(ask({ activity_id => undef, filename => undef, file_size => undef,
         content_type => undef, checksum => undef })->status, 200, 'nulls');

# too large

is(ask({ file_size => 100000 })->status, 200, 'at the limit');
is(ask({ file_size => 100001 })->status, 413, 'over the limit');
is(ask({ file_size => 1 << 62 })->status, 413, 'far over the limit');
like($t->post('/api/v1/upload/url', token => $token, body => 'x' x 20000)
     ->status, qr/^4(?:13|22)$/, 'large body');

# who asks

$r = $t->post('/api/v1/upload/url', json => {});
is($r->status, 401, 'nobody');
is($r->header('WWW-Authenticate'), 'Bearer', 'nobody: challenge');
is_deeply($r->json, { detail => 'Authentication required' }, 'nobody: body');

is($t->post('/api/v1/upload/url', json => { activity_id => 5 },
            cookie => $t->session(42))->json->{key},
   'users/42/activities/5.fit', 'session');

# What a subject may not do to a key: one segment, or no URL at all.

for my $sub ('user_a/../user_b', '..', '.', 'a/b', "a\tb") {
    my $r = $t->post('/api/v1/upload/url', json => { activity_id => 5 },
                     token => $t->token(sub => $sub));

    cmp_ok($r->status, '>=', 400, "subject \"$sub\"") or diag($r->body);
}

$j = $t->post('/api/v1/upload/url', json => { activity_id => 5 },
              token => $t->token(sub => "user b+c~\x{e9}"))->json;

like($j->{upload_url}, qr{/users/user%20b%2Bc~%C3%A9/activities/5\.fit\?},
     'subject is encoded');
is(put($j->{upload_url}, 'x')->status, 200, 'subject is encoded: put');

# other names of the same

is($t->post('/api/v1/upload/upload-url', token => $token, json => {})->status,
   200, 'upload-url');

$j = $t->post('/api/v1/activities/9/upload-url', token => $token, json => {})
     ->json;

is($j->{activity_id}, 9, 'activities/9/upload-url');
is($j->{key}, 'users/user_p/activities/9.fit', 'activities/9/upload-url: key');

# other methods

is($t->get('/api/v1/upload/url', token => $token)->status, 405, 'GET');
like($t->request('DELETE', '/api/v1/upload/url', token => $token)->status,
     qr/^40[35]$/, 'DELETE');

# a slow body, in pieces, and one chunked

is($t->request('POST', '/api/v1/upload/url', token => $token,
               headers => { 'Transfer-Encoding' => 'chunked' },
               body => "5\r\n{\"act\r\nd\r\nivity_id\":12}\r\n0\r\n\r\n")
   ->json->{activity_id}, 12, 'chunked');

my $s = $t->http_start("POST /api/v1/upload/url HTTP/1.0\r\n"
                       . "Authorization: Bearer $token\r\n"
                       . "Content-Length: 18\r\n\r\n{\"activity",
                       body => '_id":13}', sleep => 0.2);

is($t->request_end($s)->json->{activity_id}, 13, 'slow body');

$t->http("POST /api/v1/upload/url HTTP/1.0\r\nAuthorization: Bearer $token\r\n"
         . "Content-Length: 18\r\n\r\n{\"activity", aborted => 1,
         sleep => 0.05);

###############################################################################

# the store refuses whatever was not signed

my $key = 'users/user_p/activities/100.fit';
my $url = $t->presign(method => 'PUT', key => $key);
my $get = $t->presign(method => 'GET', key => $key);

is(put($url, 'one')->status, 200, 'store: put');
my $etag = $t->url('GET', $get)->header('ETag');
is($t->url('GET', $get)->body, 'one', 'store: get');
is($t->url('HEAD', $t->presign(method => 'HEAD', key => $key))
   ->header('Content-Length'), 3, 'store: head');

is(put($url, 'two')->status, 200, 'store: put again');
is($t->url('GET', $get)->body, 'two', 'store: replaced');
isnt($t->url('GET', $get)->header('ETag'), $etag,
     'store: each put has an ETag of its own');

# not even if the client says when they were modified, and a file is reused

my %etags;

for my $n (1 .. 4) {
    $t->url('PUT', $url, body => "now$n",
            headers => { Date => 'Fri, 20 Nov 2026 09:30:00 GMT' });
    $etags{$t->url('GET', $get)->header('ETag')}++;
}

is(scalar(keys %etags), 4, 'store: nor by a Date');
is(put($url, 'two')->status, 200, 'store: put the second again');

my ($path) = $url =~ m{(/fit-files.*)};
my $signature = ($url =~ /Signature=(\w+)/)[0];

for my $case (
    [ 'no query', $url =~ s/\?.*//r ],
    [ 'other signature', $url =~ s/Signature=./Signature=z/r ],
    [ 'signature of one zero', $url =~ s/Signature=\w+/Signature=0/r ],
    [ 'signature is empty', $url =~ s/Signature=\w+/Signature=/r ],
    [ 'no signature', $url =~ s/&X-Amz-Signature=\w+//r ],
    [ 'signature in upper case', $url =~ s/($signature)/uc($1)/er ],
    [ 'signature twice', "$url&X-Amz-Signature=$signature" ],
    [ 'other key', $url =~ s/100\.fit/101.fit/r ],
    [ 'key of another person', $url =~ s/user_p/user_q/r ],
    [ 'key with dots', $url =~ s{/100}{/x/../100}r ],
    [ 'key with dots, encoded', $url =~ s{/100}{/x%2F%2E%2E%2F100}r ],
    [ 'key with two slashes', $url =~ s{/100}{//100}r ],
    [ 'key encoded in another way', $url =~ s{/100}{/%31%30%30}r ],
    [ 'longer expiry', $url =~ s/Expires=300/Expires=600000/r ],
    [ 'expiry above a week', $t->presign(method => 'PUT', key => $key,
      expires => 604801) ],
    [ 'expiry of zero', $t->presign(method => 'PUT', key => $key,
      expires => 0) ],
    [ 'negative expiry', $t->presign(method => 'PUT', key => $key,
      expires => -300) ],
    [ 'other date', $url =~ s/Date=(\d+T\d+)/Date=20200101T000000/r ],
    [ 'an argument more', "$url&x=y" ],
    [ 'an argument before', $url =~ s/\?/?x=y&/r ],
    [ 'expired', $t->presign(method => 'PUT', key => $key,
      time => time() - 400) ],
    [ 'from the future', $t->presign(method => 'PUT', key => $key,
      time => time() + 3600) ],
    [ 'other secret', $t->presign(method => 'PUT', key => $key,
      secret_key => 'x') ],
    [ 'other access key', $t->presign(method => 'PUT', key => $key,
      access_key => 'x') ],
    [ 'other region', $t->presign(method => 'PUT', key => $key,
      region => 'us-east-1') ],
    [ 'URL for reading', $get ],
    [ 'URL for deleting', $t->presign(method => 'DELETE', key => $key) ],
    [ 'a header signed and not sent', $t->presign(method => 'PUT', key => $key,
      headers => { 'x-amz-meta-a' => 'b' }) ],
    [ 'host not signed', $url =~ s/SignedHeaders=host/SignedHeaders=/r ],
    [ 'bucket only', $t->presign(method => 'PUT', key => '') ],
    [ 'other algorithm', $url =~ s/HMAC-SHA256/HMAC-SHA512/r ],
)
{
    my ($name, $bad) = @$case;

    my $r = put($bad, 'evil');

    like($r->status, qr/^40[03]$/, "store refuses: $name");
}

is($t->url('GET', $get)->body, 'two', 'store: nothing changed');

# another Host than the one that was signed

is($t->put($path, body => 'x', host => 'evil.example.com')->status, 403,
   'store refuses: other host');

# what the application's credentials are worth here: nothing

is($t->get('/fit-files/' . $key, token => $token)->status, 403,
   'store refuses: a token');
like($t->get('/fit-files/')->status, qr/^40[03]$/, 'store refuses: listing');

# other methods of dav

for my $method (qw/ MKCOL COPY MOVE PROPFIND POST OPTIONS /) {
    my $r = $t->request($method, $path, headers => {
        Destination => "$base/fit-files/users/evil" });

    like($r->status, qr/^(?:400|403|405)$/, "store refuses: $method");
}

# deleting, twice; and reading what is not there

my $delete = $t->presign(method => 'DELETE', key => $key);

is($t->url('DELETE', $delete)->status, 204, 'store: delete');
is($t->url('DELETE', $delete)->status, 204, 'store: delete again');

$r = $t->url('GET', $get);
is($r->status, 404, 'store: missing');
like($r->body, qr/NoSuchKey/, 'store: missing, body');
is($t->url('HEAD', $t->presign(method => 'HEAD', key => $key))->status, 404,
   'store: missing, head');

# headers that are signed and sent

$url = $t->presign(method => 'PUT', key => $key,
                   headers => { 'content-type' => 'a/b', 'x-amz-meta-a' => 'b' });

is(put($url, 'x', 'Content-Type' => 'a/b', 'x-amz-meta-a' => 'b')->status, 200,
   'store: signed headers');
is(put($url, 'x', 'Content-Type' => 'a/b', 'x-amz-meta-a' => 'c')->status, 403,
   'store refuses: signed header changed');
is(put($url, 'x', ['Content-Type' => 'a/b', 'x-amz-meta-a' => 'b',
                   'x-amz-meta-a' => 'c'])->status, 403,
   'store refuses: signed header twice');

# no secret and no signature in any log

my $log = join('', map { $t->read_file("$t->{home}/logs/$_.log") // '' }
                   qw/ access error /);

unlike($log, qr/X-Amz-Signature/, 'no signature in the logs');
unlike($log, qr/test-secret/, 'no secret in the logs');
unlike(join('', map { $t->read_file("$t->{home}/$_") }
                qw/ env.conf env.server.conf /), qr/test-secret/,
       'no secret in the configuration');

###############################################################################

# Without a store uploads answer 503, never an ephemeral disk by accident.

$t->stop();

delete @{$t->{edge_env}}{qw/ R2_ENDPOINT_URL R2_ACCESS_KEY R2_SECRET_KEY
                             LOCAL_STORE /};

$t->edge_configure();
$t->edge_run();

$r = ask({});

is($r->status, 503, 'no store');
is($r->detail, 'Cloud storage not available', 'no store: detail');

# R2 by its account

$t->stop();

@{$t->{edge_env}}{qw/ R2_ACCOUNT_ID R2_ACCESS_KEY_ID R2_SECRET_ACCESS_KEY /} =
    ('a' x 32, 'AKIAIOSFODNN7EXAMPLE', 'secret/with+signs=');

$t->edge_configure();
$t->edge_run();

$j = ask({ activity_id => 7 })->json;

is($j->{upload_url}, our_url($j, 'PUT',
       endpoint => 'https://' . 'a' x 32 . '.r2.cloudflarestorage.com',
       access_key => 'AKIAIOSFODNN7EXAMPLE',
       secret_key => 'secret/with+signs='), 'R2 by account and aliases');

$t->done();

###############################################################################

sub ask
{
    my ($json) = @_;

    return $t->post('/api/v1/upload/url', token => $token, json => $json);
}


sub put
{
    my ($url, $body, @headers) = @_;

    my $headers = @headers == 1 ? $headers[0] : { @headers };

    return $t->url('PUT', $url, body => $body, headers => $headers);
}


# what the URL of an answer has to be, by the other implementation

sub our_url
{
    my ($j, $method, %opt) = @_;

    my ($date) = $j->{upload_url} =~ /X-Amz-Date=(\w+)/;
    my @t = $date =~ /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;

    require Time::Local;

    my $time = Time::Local::timegm($t[5], $t[4], $t[3], $t[2], $t[1] - 1,
                                   $t[0]);

    return $t->presign(method => $method, key => $j->{key}, time => $time,
                       expires => $j->{expires_in}, %opt);
}

###############################################################################
