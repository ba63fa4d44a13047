#!/usr/bin/perl

# radosgw, an S3 server that verifies signatures, takes what we sign, for each
# method, and refuses all that was tampered with.  Then the whole edge has it
# for a store, in the place of R2.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256 sha256_hex /;
use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach qw/ json_encode json_decode /;

my $t = Test::Runcoach->new();

my $program = Test::Runcoach::build() . '/presign';
my $tree = rgw_tree();

-x $program or die "$program is not built: make $program\n";

my $port = $t->port(8095);
my $rgw = "$t->{dir}/rgw";
my $libs = (glob("$tree/usr/lib/*-linux-gnu"))[0];
my ($loader) = glob("$libs/ld-linux-*.so.*");

my %store = (
    endpoint => "http://127.0.0.1:$port",
    bucket => 'fit-files',
    region => 'auto',
    access_key => 'AKIDEXAMPLE',
    secret_key => 'SECRETEXAMPLE/with+signs=',
);

mkdir($rgw);
mkdir("$rgw/data");
chown($t->{uid}, $t->{gid}, $rgw, "$rgw/data") if $t->{runas};

$t->write_file("$rgw/ceph.conf", <<"EOF");
[global]
fsid = 00000000-0000-0000-0000-000000000001
log file = $rgw/rgw.log
admin socket =
run dir = $rgw
erasure code dir = $libs/ceph/erasure-code
plugin dir = $libs/ceph

[client.rgw]
rgw backend store = dbstore
rgw config store = dbstore
dbstore db dir = $rgw/data
dbstore config uri = file:$rgw/data/config.db
rgw dns name = localhost
rgw frontends = beast endpoint=127.0.0.1:$port
EOF

my ($status, $out) = $t->command([rgw('radosgw-admin'), 'user', 'create',
    '--uid=u', '--display-name=u', "--access-key=$store{access_key}",
    "--secret=$store{secret_key}"], runas => 1, cwd => $rgw);

$t->skip_all("radosgw-admin does not run: $out") if $status;

my $proc = $t->spawn('radosgw', [rgw('radosgw'), '-f'], runas => 1,
                     cwd => $rgw);

$t->wait_for_socket("127.0.0.1:$port", $proc, 20)
    or $t->skip_all('radosgw does not listen');

ok(1, 'radosgw listens');

###############################################################################

my $now = int(time());
my $bytes = $t->read_file("$FindBin::Bin/data/activity.fit");
my $key = 'users/user_2abc/activities/100.fit';

# the bucket, by a URL of the tests' own signer for it has no key

is(ask('PUT', $t->presign(%store, method => 'PUT', key => '')
       =~ s{/\?}{?}r =~ s/Signature=\w+/'Signature=' . bucket_signature()/er)
   ->status, 200, 'bucket');

# what we sign is taken

is(ask('PUT', ours('PUT'), body => $bytes)->status, 200, 'PUT');

my $r = ask('GET', ours('GET'));
is($r->status, 200, 'GET');
ok($r->body eq $bytes, 'GET: the same bytes');

$r = ask('HEAD', ours('HEAD'));
is($r->status, 200, 'HEAD');
is($r->header('Content-Length'), length($bytes), 'HEAD: size');

is(ask('DELETE', ours('DELETE'))->status, 204, 'DELETE');
is(ask('DELETE', ours('DELETE'))->status, 204, 'DELETE again');
is(ask('GET', ours('GET'))->status, 404, 'GET after that');

# bound headers

my %type = ('content-type' => 'application/octet-stream');
my %length = ('content-length' => '' . length($bytes));
my $bound = ours('PUT', headers => { %type, %length });

is(ask('PUT', $bound, body => $bytes, headers => { %type })->status, 200,
   'bound');
is(ask('PUT', $bound, body => $bytes,
       headers => { 'content-type' => 'text/plain' })->status, 403,
   'bound: other type');
is(ask('PUT', $bound, body => "$bytes.", headers => { %type })->status, 403,
   'bound: other length');
is(ask('PUT', $bound, body => $bytes)->status, 403, 'bound: no type');

# all that can be bound at once

my %all = (%type, %length, 'x-amz-meta-device' => 'fenix 7',
           'if-none-match' => '*');
my $every = ours('PUT', key => 'users/user_2abc/all.fit', headers => \%all);

for my $name (grep { $_ ne 'content-length' } sort keys %all) {
    my %sent = %all;

    delete @sent{'content-length', $name};
    is(ask('PUT', $every, body => $bytes, headers => \%sent)->status, 403,
       "all bound: no $name");
}

my %sent = map { $_ => $all{$_} } grep { $_ ne 'content-length' } keys %all;

is(ask('PUT', $every, body => $bytes, headers => \%sent)->status, 200,
   'all bound');
is(ask('HEAD', ours('HEAD', key => 'users/user_2abc/all.fit'))->header(
       'x-amz-meta-device'), 'fenix 7', 'all bound: metadata');

# (that if-none-match is heeded is for t/store.t: this store's backend is deaf)

# keys that have to be encoded

for my $odd ('users/7/a b+c~/x.fit', "users/7/\x{b7ec}\x{b2dd}.fit",
             q{users/7/!"#$&'()*,:;<=>@[]^_`{|}.fit}, 'users/7/%41.fit')
{
    utf8::encode(my $name = $odd);

    is(ask('PUT', ours('PUT', key => $odd), body => 'x')->status, 200,
       "key $name: PUT");
    is(ask('GET', ours('GET', key => $odd))->body, 'x', "key $name: GET");
    is(ask('DELETE', ours('DELETE', key => $odd))->status, 204,
       "key $name: DELETE");
}

is(ask('GET', ours('GET', query => {
       'response-content-disposition' => 'attachment; filename="a b.fit"' }))
   ->header('Content-Disposition'), 'attachment; filename="a b.fit"',
   'a parameter of the answer');

# What was tampered with is refused, by radosgw and by our own verifier alike:
# t/presign.t has the same list for the local store.

my $put = ours('PUT');
my $get = ours('GET');

for my $case (
    [ 'signature', 'PUT', $put =~ s/Signature=./Signature=z/r ],
    [ 'no signature', 'PUT', $put =~ s/&X-Amz-Signature=\w+//r ],
    [ 'no query', 'PUT', $put =~ s/\?.*//r ],
    [ 'other key', 'PUT', $put =~ s/100\.fit/101.fit/r ],
    [ 'other person', 'PUT', $put =~ s/user_2abc/user_2abd/r ],
    [ 'other bucket', 'PUT', $put =~ s/fit-files/fit-other/r ],
    [ 'longer expiry', 'PUT', $put =~ s/Expires=300/Expires=3000/r ],
    [ 'other date', 'PUT', $put =~ s/Date=(\d+T\d{4})\d\d/Date=${1}99/r ],
    [ 'other signed headers', 'PUT',
      $put =~ s/SignedHeaders=host/SignedHeaders=host%3Bx/r ],
    [ 'an argument more', 'PUT', "$put&x-id=PutObject" ],
    [ 'URL for reading', 'PUT', $get ],
    [ 'URL for writing', 'GET', $put ],
    [ 'URL for reading', 'DELETE', $get ],
    [ 'other secret', 'GET', ours('GET', secret_key => 'x') ],
    [ 'other access key', 'GET', ours('GET', access_key => 'x') ],
    [ 'expired', 'GET', ours('GET', time => $now - 400) ],
)
{
    my ($name, $method, $url) = @$case;

    is(ask($method, $url, $method eq 'PUT' ? (body => 'evil') : ())->status,
       403, "refused: $method, $name");
}

ok(ask('GET', ours('GET'))->body eq $bytes, 'nothing changed');

###############################################################################

# the edge and the sidecar, with radosgw in the place of R2

$t->edge(env => {
    R2_ENDPOINT_URL => $store{endpoint},
    R2_BUCKET_NAME => $store{bucket},
    R2_ACCESS_KEY => $store{access_key},
    R2_SECRET_KEY => $store{secret_key},
    LOCAL_STORE => undef,
});

is($t->get('/health/detailed')->json->{store}, 'ok', 'edge: store');

my $token = $t->token(sub => 'user_r');
my ($ask, $stored) = $t->upload($bytes, token => $token, json => {
    content_type => 'application/octet-stream',
    checksum => sha256_hex($bytes) });

is($ask->status, 200, 'edge: url');
is($stored->status, 200, 'edge: upload') or diag($stored->raw);

$r = $t->post('/api/v1/upload/complete', token => $token, json => {
    activity_id => $ask->json->{activity_id}, file_size => length($bytes),
    checksum => sha256_hex($bytes) });

is($r->status, 200, 'edge: complete') or diag($r->raw);

my $id = $r->json->{activity_id};

ok($t->wait_for(sub {
    return $t->sql('SELECT fit_file_status FROM activities WHERE id = $1',
                   $id) eq 'analyzed';
}, 10), 'edge: analyzed');

$r = $t->get("/api/v1/upload/activity/$id/download-url", token => $token);

ok($t->url('GET', $r->json->{download_url})->body eq $bytes,
   'edge: download');
is($t->request('DELETE', "/api/v1/upload/activity/$id/fit", token => $token)
   ->status, 200, 'edge: delete');
is($t->url('GET', $r->json->{download_url})->status, 404,
   'edge: deleted there');

$ask = $t->post('/api/v1/upload/url', token => $token, json => {});
is($t->post('/api/v1/upload/complete', token => $token, json => {
       activity_id => $ask->json->{activity_id}, file_size => 1 })->status,
   409, 'edge: not uploaded');

# virtual hosts: for curl and for us any name below localhost is this machine

($status, $out) = $t->sidecar_run(['reconcile']);
like($out, qr/^rows=\d+ objects=[1-9]/m, 'edge: the store lists')
    or diag($out);

my ($objects) = $out =~ / objects=(\d+)/;

$t->{edge_env}{R2_ENDPOINT_URL} = "http://localhost:$port";
$t->{edge_env}{R2_URL_STYLE} = 'virtual';
$t->stop_process($_) for @$t{qw/ serve work /};
$t->stop();
$t->edge_configure();
$t->{serve} = $t->sidecar(['serve']);
$t->edge_run();

($ask, $stored) = $t->upload($bytes, token => $token);
like($ask->json->{upload_url}, qr{^http://fit-files\.localhost:$port/users/},
     'virtual: url');
is($stored->status, 200, 'virtual: upload') or diag($stored->raw);

$r = $t->post('/api/v1/upload/complete', token => $token, json => {
    activity_id => $ask->json->{activity_id}, file_size => length($bytes) });
is($r->status, 200, 'virtual: complete') or diag($r->raw);
$id = $r->json->{activity_id};

$r = $t->get("/api/v1/upload/activity/$id/download-url", token => $token);
ok($t->url('GET', $r->json->{download_url})->body eq $bytes,
   'virtual: download');

($status, $out) = $t->sidecar_run(['doctor']);
like($out, qr{^ok       store: .* at http://fit-files\.localhost:$port/; }m,
     'virtual: doctor') or diag($out);

# the bucket itself has no path then

($status, $out) = $t->sidecar_run(['reconcile']);
like($out, qr/ objects=@{[ $objects + 1 ]} /, 'virtual: the store lists')
    or diag($out);

is($t->request('DELETE', "/api/v1/upload/activity/$id/fit", token => $token)
   ->status, 200, 'virtual: delete');
is($t->url('GET', $r->json->{download_url})->status, 404,
   'virtual: deleted there');

$t->done();

###############################################################################

sub rgw_tree
{
    my $tree = Test::Runcoach::build() . '/rgw';

    $tree = Test::Runcoach::root() . '/build/rgw' unless -e $tree;

    $t->skip_all('RUNCOACH_NO_PEERS is set') if $ENV{RUNCOACH_NO_PEERS};

    my $failed = -M "$tree/failed";

    $t->command(['sh', "$FindBin::Bin/peer/radosgw.sh"], inherit => 1,
                timeout => 300)
        unless -e "$tree/extracted" || defined $failed && $failed < 0.02;

    return "$tree/tree" if -e "$tree/extracted";

    $t->skip_all('no radosgw: ' . ($t->read_file("$tree/failed")
                                   // "not extracted\n") =~ s/\n\z//r);
}


# of Debian 13, with its own loader and libraries

sub rgw
{
    my ($name) = @_;

    return ($loader, '--library-path', "$libs:$libs/ceph", "$tree/usr/bin/$name",
            '-c', "$rgw/ceph.conf", '-n', 'client.rgw', '--no-mon-config');
}


# a URL by lib/

sub ours
{
    my ($method, %opt) = @_;

    my $case = { %store, method => $method, key => $key, time => $now,
                 expires => 300, %opt };
    my $out = $t->command([$program],
                          in => $t->write_file('case', json_encode([$case])));

    return json_decode($out)->[0];
}


sub ask
{
    my ($method, $url, %opt) = @_;

    utf8::encode($url) if utf8::is_utf8($url);

    return $t->url($method, $url, %opt);
}


# PUT /bucket, which has no key and no slash at its end

sub bucket_signature
{
    my $url = $t->presign(%store, method => 'PUT', key => '');
    my ($query) = $url =~ /\?(.*)&X-Amz-Signature/;
    my ($date) = $url =~ /X-Amz-Date=(\w+)/;
    my $day = substr($date, 0, 8);
    my $canonical = "PUT\n/$store{bucket}\n$query\nhost:127.0.0.1:$port\n\n"
                    . "host\nUNSIGNED-PAYLOAD";
    my $sign = "AWS4-HMAC-SHA256\n$date\n$day/auto/s3/aws4_request\n"
               . sha256_hex($canonical);
    my $key = "AWS4$store{secret_key}";

    $key = Digest::SHA::hmac_sha256($_, $key)
        for $day, 'auto', 's3', 'aws4_request';

    return Digest::SHA::hmac_sha256_hex($sign, $key);
}

###############################################################################
