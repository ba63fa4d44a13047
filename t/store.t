#!/usr/bin/perl

# Tests for the local store: it answers as R2 does, code by code, and what a
# PUT says of its bytes is checked against the bytes that came.  Then virtual
# hosts, jurisdictions and session tokens, and what configuration refuses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::MD5 qw/ md5 /;
use Digest::SHA qw/ sha256 /;
use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();
my $secret = 'store-secret/with+signs=';

my @locations = map { "runcoach_presign_verify  $_;"
                      . "  root  $t->{dir}/store;"
                      . '  dav_methods  DELETE;  min_delete_depth  2;'
                      . '  types { }  default_type  application/octet-stream;'
                    } qw/ r2 token virtual /;

$t->write_file_expand('nginx.conf', conf(<<"EOT"));
    runcoach_store  r2  endpoint=http://127.0.0.1:%%PORT_8080%%
                    bucket=fit-files  access_key=AK  secret_key=$secret;

    runcoach_store  token  endpoint=http://127.0.0.1:%%PORT_8080%%/sub/
                    bucket=with-token  access_key=AK  secret_key=$secret
                    session_token=jwt/tok+en/==  region=eu-west-1;

    runcoach_store  virtual  endpoint=http://store.test:%%PORT_8081%%
                    bucket=fit-files  access_key=AK  secret_key=$secret
                    style=virtual;

    runcoach_store  eu  account=0123456789abcdef  jurisdiction=eu
                    bucket=fit-files  access_key=AK  secret_key=$secret;

    runcoach_store  fedramp  account=0123456789abcdef.fedramp  style=virtual
                    bucket=fit-files  access_key=AK  secret_key=$secret;

    error_page  404                          = \@store_missing;
    error_page  400 403 405 409 411 412 501    \@store_error;
    error_page  413                       =400 \@store_too_large;
    error_page  500 503                        \@store_unavailable;

    client_max_body_size  1m;

    server {
        listen   127.0.0.1:%%PORT_8080%%;
        include  $FindBin::Bin/../conf/store.errors.conf;

        location /fit-files/ { $locations[0] }
        location /sub/with-token/ { $locations[1] }

        location /sign/token {
            runcoach_presign  token  PUT  "k/\$runcoach_object.fit";
        }
        location /sign/eu {
            runcoach_presign  eu  GET  "k.fit"  expires=7d
                              expires_in=\$arg_expires_in;
        }
        location /sign/fedramp {
            runcoach_presign  fedramp  HEAD  "k.fit"  expires=1s;
        }
        location /sign/virtual {
            runcoach_presign  virtual  PUT  "users/7/\$runcoach_object.fit";
        }
    }

    server {
        listen   127.0.0.1:%%PORT_8081%%;
        include  $FindBin::Bin/../conf/store.errors.conf;

        location / { $locations[2] }
    }
EOT

mkdir("$t->{dir}/store");
chown($t->{uid}, $t->{gid}, "$t->{dir}/store") if $t->{runas};

$t->run();

my $endpoint = 'http://' . $t->host();
my %keys = (endpoint => $endpoint, access_key => 'AK', secret_key => $secret,
            bucket => 'fit-files');
my $key = 'users/7/activities/100.fit';
my $bytes = join('', map { chr($_ & 255) } 0 .. 99999);
my $r;

###############################################################################

# signatures: R2's codes

$r = ask('PUT', sign('PUT'), body => $bytes);
is($r->status, 200, 'PUT');
like($r->header('ETag'), qr/^"[^"]+"$/, 'PUT: ETag');
is($r->body, '', 'PUT: nothing else');

my $etag = $r->header('ETag');

$r = ask('GET', sign('GET'));
is($r->status, 200, 'GET');
ok($r->body eq $bytes, 'GET: the bytes');
is($r->header('ETag'), $etag, 'GET: the ETag of the PUT');

refused(ask('PUT', sign('PUT', time => time() - 400), body => 'x'),
        400, 'ExpiredRequest', 'expired');
refused(ask('PUT', sign('PUT', secret_key => 'x'), body => 'x'),
        403, 'SignatureDoesNotMatch', 'other secret');
refused(ask('PUT', sign('PUT') =~ s/100\.fit/101.fit/r, body => 'x'),
        403, 'SignatureDoesNotMatch', 'other key');
refused(ask('PUT', sign('PUT', access_key => 'x'), body => 'x'),
        403, 'AccessDenied', 'other access key');
refused(ask('PUT', sign('PUT') =~ s/\?.*//r, body => 'x'),
        403, 'AccessDenied', 'not signed');
refused(ask('PUT', sign('PUT', expires => 604801), body => 'x'),
        400, 'AuthorizationQueryParametersError', 'above a week');
refused(ask('GET', sign('GET', key => 'users/8/none.fit')),
        404, 'NoSuchKey', 'not there');
refused(ask('POST', sign('POST'), body => 'x'), 405, 'MethodNotAllowed',
        'POST');

# what is signed of a PUT

my %sum = ('x-amz-checksum-sha256' => encode_base64(sha256($bytes), ''));
my %bound = (%sum, 'content-type' => 'a/b', 'content-length' => 100000,
             'if-none-match' => '*', 'x-amz-meta-device' => 'fenix',
             'cache-control' => 'no-store');
my $all = sign('PUT', key => 'users/7/all.fit', headers => \%bound);

for my $name (sort keys %bound) {
    my %other = (%bound, $name => $name eq 'content-length' ? 99999 : 'a/c');

    refused(ask('PUT', $all, headers => \%other,
                body => substr($bytes, 0, $other{'content-length'})),
            403, 'SignatureDoesNotMatch', "bound: other $name");

    next if $name eq 'content-length';

    delete $other{$name};

    refused(ask('PUT', $all, headers => \%other, body => $bytes), 403,
            'AccessDenied', "bound: no $name");
}

is(ask('PUT', $all, headers => \%bound, body => $bytes)->status, 200,
   'bound: all of it');

###############################################################################

# checksums: of the bytes that came, bound or only stated

my $sums = sign('PUT', key => 'users/7/sum.fit', headers => \%sum);

refused(ask('PUT', $sums, headers => \%sum, body => "$bytes."), 400,
        'BadDigest', 'checksum: longer');
refused(ask('PUT', $sums, headers => \%sum, body => substr($bytes, 1)), 400,
        'BadDigest', 'checksum: shorter');
refused(ask('PUT', $sums, headers => \%sum, body => ''), 400, 'BadDigest',
        'checksum: empty');
refused(ask('PUT', $sums, headers => \%sum,
            body => substr($bytes, 0, 50000) . 'x' . substr($bytes, 50001)),
        400, 'BadDigest', 'checksum: one byte');
refused(ask('GET', sign('GET', key => 'users/7/sum.fit')), 404, 'NoSuchKey',
        'checksum: nothing was stored');
is(ask('PUT', $sums, headers => \%sum, body => $bytes)->status, 200,
   'checksum: right');
is(send_in_pieces($sums, \%sum, $bytes)->status, 200, 'checksum: in pieces');
refused(send_in_pieces($sums, \%sum, 'x' . substr($bytes, 1)), 400,
        'BadDigest', 'checksum: in pieces, wrong');

my $plain = sign('PUT', key => 'users/7/plain.fit');

refused(ask('PUT', $plain, headers => \%sum, body => 'x'), 400, 'BadDigest',
        'checksum: stated, not bound');
refused(ask('PUT', $plain, headers => { 'x-amz-checksum-sha256' => 'x' },
            body => 'x'), 400, 'InvalidDigest', 'checksum: not one');
refused(ask('PUT', $plain, headers => [ %sum, %sum ], body => $bytes), 400,
        'InvalidDigest', 'checksum: twice');
refused(ask('PUT', $plain, headers => { 'Content-MD5' =>
                encode_base64(md5('y'), '') }, body => 'x'), 400, 'BadDigest',
        'MD5: wrong');
is(ask('PUT', $plain, headers => { 'Content-MD5' =>
           encode_base64(md5('x'), '') }, body => 'x')->status, 200,
   'MD5: right');
refused(ask('PUT', $plain, headers => { 'x-amz-checksum-crc32' => 'AAAAAA==' },
            body => 'x'), 501, 'NotImplemented', 'a checksum of another kind');
is(ask('PUT', $plain, body => '')->status, 200, 'an empty object');
is(ask('GET', sign('GET', key => 'users/7/plain.fit'))->header(
       'Content-Length'), 0, 'is empty');

# not over an object that is there

my %new = ('if-none-match' => '*');
my $create = sign('PUT', key => 'users/7/new/once.fit', headers => \%new);

is(ask('PUT', $create, headers => \%new, body => 'one')->status, 200,
   'if-none-match: new');
refused(ask('PUT', $create, headers => \%new, body => 'two'), 412,
        'PreconditionFailed', 'if-none-match: again');
is(ask('GET', sign('GET', key => 'users/7/new/once.fit'))->body, 'one',
   'if-none-match: the first stays');
refused(ask('PUT', $plain, headers => { 'If-None-Match' => '"x"' },
            body => 'x'), 501, 'NotImplemented', 'if-none-match: an ETag');
refused(ask('PUT', $plain, headers => { 'If-Match' => $etag }, body => 'x'),
        501, 'NotImplemented', 'if-match of a PUT');

# of many at once, each with all but its last byte sent, one gets the name

my $race = sign('PUT', key => 'users/7/race.fit', headers => \%new);
my @racing = map {
    my ($host, $target) = $race =~ m{^http://([^/]+)(/.*)};

    $t->http_start("PUT $target HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n"
                   . "If-None-Match: *\r\nContent-Length: 4\r\n\r\n"
                   . sprintf('%03d', $_))
} 1 .. 20;

select(undef, undef, undef, 0.2);
syswrite($_, '.') for @racing;

my %status;

$status{$t->request_end($_)->status}++ for @racing;

is_deeply(\%status, { 200 => 1, 412 => 19 }, 'if-none-match: a race');

# reading with conditions and overrides

is(ask('GET', sign('GET'), headers => { 'If-Match' => $etag })->status, 200,
   'if-match');
is(ask('PUT', sign('PUT'), body => 'other')->status, 200, 'PUT again');
# what a filter refuses nginx sends at once or not at all

refused(ask('GET', sign('GET'), headers => { 'If-Match' => $etag }), 412,
        'PreconditionFailed', 'if-match: replaced since')
    unless $ENV{RUNCOACH_SHIM};
is(ask('GET', sign('GET'), headers => { Range => 'bytes=1-2' })->body, 'th',
   'range');

my %as = ('response-content-disposition' => 'attachment; filename="run 1.fit"',
          'response-content-type' => 'application/vnd.ant.fit',
          'response-cache-control' => 'no-store');

$r = ask('GET', sign('GET', query => \%as));
is($r->header('Content-Disposition'), 'attachment; filename="run 1.fit"',
   'disposition');
is($r->header('Content-Type'), 'application/vnd.ant.fit', 'type');
is($r->header('Cache-Control'), 'no-store', 'cache-control');
refused(ask('GET', sign('GET', query => \%as) =~ s/attachment/inline/r), 403,
        'SignatureDoesNotMatch', 'another disposition');
refused(ask('GET', sign('GET', query => {
                'response-content-disposition' => "a\r\nX: y" })), 400,
        'InvalidArgument', 'a disposition with CR LF');
is(ask('GET', sign('GET'))->header('Content-Type'),
   'application/octet-stream', 'no type of its own');

# bodies

refused(ask('PUT', sign('PUT'), body => 'x' x (1 << 20) . 'x'), 400,
        'EntityTooLarge', 'too large');
refused(ask('PUT', sign('PUT'), headers => { 'Transfer-Encoding' =>
                'chunked' }, body => "1\r\nx\r\n0\r\n\r\n"), 411,
        'MissingContentLength', 'chunked');
refused(ask('PUT', sign('PUT', key => "$key/below.fit"), body => 'x'), 409,
        'InvalidRequest', 'below an object');
refused(ask('PUT', sign('PUT', key => 'users/7'), body => 'x'), 409,
        'InvalidRequest', 'above an object');

# an upload that breaks off leaves the object as it was

my ($host, $target) = sign('PUT') =~ m{^http://([^/]+)(/.*)};

$t->http("PUT $target HTTP/1.1\r\nHost: $host\r\nContent-Length: 100\r\n\r\nhalf",
         aborted => 1, sleep => 0.1);
is(ask('GET', sign('GET'))->body, 'other', 'broken off: as it was');

is(ask('DELETE', sign('DELETE'))->status, 204, 'DELETE');
is(ask('DELETE', sign('DELETE'))->status, 204, 'DELETE again');
is(ask('HEAD', sign('HEAD'))->status, 404, 'HEAD');

# nothing but objects in the store, nothing left of what was refused

my @files = glob("$t->{dir}/store/fit-files/users/7/*");

is(scalar(@files), 6, 'objects') or diag("@files");
is_deeply([ grep { -f } glob("$t->{dir}/client_body_temp/*") ], [],
          'no temporary file');

###############################################################################

# other stores: session token, a path before the bucket, another region

my $j = $t->post('/sign/token', json => { activity_id => 7 })->json;

like($j->{upload_url}, qr{^\Q$endpoint\E/sub/with-token/k/7\.fit\?},
     'token: path');
like($j->{upload_url}, qr/&X-Amz-Security-Token=jwt%2Ftok%2Ben%2F%3D%3D&/,
     'token: in the URL');
like($j->{upload_url}, qr/%2Feu-west-1%2Fs3%2F/, 'token: region');
is($t->url('PUT', $j->{upload_url}, body => 'x')->status, 200, 'token: PUT');
refused($t->url('PUT', $j->{upload_url} =~ s/&X-Amz-Security-Token=[^&]*//r,
                body => 'x'), 403, 'AccessDenied', 'token: left out');
refused($t->url('PUT', $j->{upload_url} =~ s/=jwt/=jwx/r, body => 'x'), 403,
        'AccessDenied', 'token: another');

# virtual hosts

my $virtual = 'fit-files.store.test:' . $t->port(8081);

$j = $t->post('/sign/virtual', json => { activity_id => 7 })->json;

like($j->{upload_url}, qr{^http://\Q$virtual\E/users/7/7\.fit\?}, 'virtual');

($target) = $j->{upload_url} =~ m{^http://[^/]+(/.*)};
is($t->put($target, host => $virtual, port => 8081, body => 'x')->status, 200,
   'virtual: PUT');
is($t->put($target, host => 'other.store.test', port => 8081, body => 'x')
   ->status, 403, 'virtual: another bucket');

# jurisdictions, and the shortest and the longest expiry

$j = $t->get('/sign/eu')->json;
like($j->{download_url},
     qr{^https://0123456789abcdef\.eu\.r2\.cloudflarestorage\.com/fit-files/},
     'eu');
is($j->{expires_in}, 604800, 'seven days');
is($t->get('/sign/eu?expires_in=1')->json->{expires_in}, 1, 'one second');

for my $n (0, -1, 604801, '1h', '99999999999999999999') {
    $r = $t->get("/sign/eu?expires_in=$n");

    is($r->status, 422, "expires_in=$n");
    is_deeply($r->detail->[0]{loc}, [ 'query', 'expires_in' ],
              "expires_in=$n: named");
}

$j = $t->get('/sign/fedramp')->json;
like($j->{head_url}, qr{^https://fit-files\.0123456789abcdef\.fedramp\.r2\.
                        cloudflarestorage\.com/k\.fit\?}x, 'fedramp, virtual');
is($j->{expires_in}, 1, 'a second');
is($j->{method}, 'HEAD', 'HEAD');

###############################################################################

# what the configuration refuses

my $ok = "endpoint=http://s.test bucket=bkt access_key=a secret_key=$secret";
my $sign = 'runcoach_presign  s  GET  k;';

for my $case (
    [ "runcoach_store s $ok style=host;", '', qr/style "host"/ ],
    [ "runcoach_store s $ok jurisdiction=uk;", '', qr/jurisdiction "uk"/ ],
    [ 'runcoach_store s endpoint=http://s.test bucket=a.b access_key=a '
      . 'secret_key=s style=virtual;', '', qr/"a\.b".*style=path/ ],
    [ 'runcoach_store s endpoint=http://127.0.0.1 bucket=bkt access_key=a '
      . 'secret_key=s style=virtual;', '', qr/address.*style=path/ ],
    [ "runcoach_store s $ok;", 'runcoach_presign s POST k;', qr/"POST"/ ],
    [ "runcoach_store s $ok;", 'runcoach_presign s GET k expires=0;',
      qr/expires "0"/ ],
    [ "runcoach_store s $ok;", 'runcoach_presign s GET k expires=604801s;',
      qr/expires "604801s"/ ],
    [ "runcoach_store s $ok;", 'runcoach_presign s GET k announce=x;',
      qr/announce=/ ],
    [ "runcoach_store s $ok;", "$sign runcoach_presign_header host x;",
      qr/"host"/ ],
    [ "runcoach_store s $ok;", "$sign runcoach_presign_header x-amz-date x;",
      qr/"x-amz-date"/ ],
    [ "runcoach_store s $ok;", "$sign runcoach_presign_header x-amz-a:b x;",
      qr/"x-amz-a:b"/ ],
    [ "runcoach_store s $ok;", "$sign runcoach_presign_query X-Amz-Date x;",
      qr/"X-Amz-Date"/ ],
    [ "runcoach_store s $ok;", $sign . 'runcoach_presign_header x-amz-a b;' x 5,
      qr/too many/ ],
    [ "runcoach_store s $ok;", 'runcoach_presign_header x-amz-a b;',
      qr/must be in the location/ ],
)
{
    my ($http, $location, $re) = @$case;
    my ($status, $out) = $t->configtest(conf(<<"EOT"));
    $http
    server {
        listen  127.0.0.1:%%PORT_8080%%;
        location / { $location }
    }
EOT

    isnt($status, 0, "refused: $http $location");
    like($out, $re, "refused: $re");
    unlike($out, qr/\Q$secret/, 'without the secret');
}

$t->done();

###############################################################################

sub conf
{
    my ($http) = @_;

    return <<"EOF";
%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%
$http
}
EOF
}


sub sign
{
    my ($method, %opt) = @_;

    return $t->presign(%keys, method => $method, key => $key, %opt);
}


sub ask { return $t->url(@_) }


sub send_in_pieces
{
    my ($url, $headers, $body) = @_;

    my ($host, $target) = $url =~ m{^http://([^/]+)(/.*)};
    my $s = $t->http_start("PUT $target HTTP/1.1\r\nHost: $host\r\n"
                           . "Connection: close\r\nContent-Length: "
                           . length($body) . "\r\n"
                           . join('', map { "$_: $headers->{$_}\r\n" }
                                      keys %$headers) . "\r\n");

    while (length $body) {
        syswrite($s, substr($body, 0, 9973, ''));
        select(undef, undef, undef, 0.005);
    }

    return $t->request_end($s);
}


sub refused
{
    my ($r, $status, $code, $name) = @_;

    is($r->status, $status, $name);
    like($r->body, qr{<Code>\Q$code\E</Code>}, "$name: $code");

    return;
}

###############################################################################
