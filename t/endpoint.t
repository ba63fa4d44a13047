#!/usr/bin/perl

# Where the store is: edge and sidecar read the same variables and sign for the
# same place, whichever form it has, and refuse the same mistakes.  Then
# temporary credentials do for the whole journey.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => { R2_SESSION_TOKEN => 'jwt/tok+en/==',
                             RATE_LIMIT_REQUESTS => 60000,
                             RATE_LIMIT_BURST => 1000 });

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $token = $t->token(sub => 'user_e');
my %given = %{$t->{edge_env}};

###############################################################################

# temporary credentials, and a store that wants them

my ($ask, $put) = $t->upload($fit, token => $token);

like($ask->json->{upload_url}, qr/&X-Amz-Security-Token=jwt%2Ftok%2Ben%2F%3D%3D&/,
     'a token: in the URL');
is($put->status, 200, 'a token: put');

my $r = $t->post('/api/v1/upload/complete', token => $token, json => {
    activity_id => $ask->json->{activity_id}, file_size => length($fit) });

is($r->status, 200, 'a token: complete') or diag($r->raw);

my $id = $r->json->{activity_id};
my $key = $t->sql('SELECT fit_file_key FROM activities WHERE id = $1', $id);

$r = $t->get("/api/v1/upload/activity/$id/download-url", token => $token);
ok($t->url('GET', $r->json->{download_url})->body eq $fit,
   'a token: download');

my ($status, $out) = $t->sidecar_run(['doctor']);

like($out, qr{^ok       store: .* at \Q$given{R2_ENDPOINT_URL}\E/fit-files/}m,
     'a token: doctor') or diag($out);
unlike("$out@{[ log_texts() ]}", qr/tok\+en|tok%2Ben/, 'a token: in no log');

($status, $out) = $t->sidecar_run(['doctor'], { R2_SESSION_TOKEN => '' });
like($out, qr/^failure  store: PUT/m, 'without the token: refused');

($status, $out) = $t->sidecar_run(['reconcile']);
like($out, qr/^rows=1 .*missing=0 changed=0/m, 'a token: reconcile')
    or diag($out);

is($t->request('DELETE', "/api/v1/upload/activity/$id/fit", token => $token)
   ->status, 200, 'a token: delete');
ok(!-e "$t->{home}/store/fit-files/$key", 'a token: deleted');

# every form

$t->sql('UPDATE activities SET fit_file_key = $2, r2_key = $2,'
        . " fit_file_status = 'uploaded' WHERE id = \$1", $id, $key);

for my $case (
    [ 'https://fit-files.0123456789abcdef.r2.cloudflarestorage.com',
      R2_ACCOUNT_ID => '0123456789abcdef', R2_URL_STYLE => 'virtual' ],
    [ 'https://0123456789abcdef.r2.cloudflarestorage.com/fit-files',
      R2_ACCOUNT_ID => '0123456789abcdef' ],
    [ 'https://0123456789abcdef.eu.r2.cloudflarestorage.com/fit-files',
      R2_ACCOUNT_ID => '0123456789abcdef', R2_JURISDICTION => 'eu' ],
    [ 'https://0123456789abcdef.fedramp.r2.cloudflarestorage.com/a.b',
      R2_ACCOUNT_ID => '0123456789abcdef', R2_JURISDICTION => 'fedramp',
      R2_BUCKET_NAME => 'a.b', R2_URL_STYLE => 'path' ],
    [ 'https://bkt.0123456789abcdef.us.r2.cloudflarestorage.com',
      R2_ACCOUNT_ID => '0123456789abcdef', R2_JURISDICTION => 'us',
      R2_URL_STYLE => 'virtual', R2_BUCKET_NAME => 'bkt',
      R2_SESSION_TOKEN => 't/k', R2_REGION => 'us-east-1' ],
    [ 'http://s3.example.org:9000/sub/bkt',
      R2_ENDPOINT_URL => 'HTTP://S3.example.org:9000/sub/bkt/',
      R2_BUCKET_NAME => 'bkt', R2_REGION => 'eu-west-3' ],
    [ 'https://bkt.s3.example.org',
      R2_ENDPOINT_URL => 'https://s3.example.org:443',
      R2_BUCKET_NAME => 'bkt', R2_URL_STYLE => 'virtual',
      R2_JURISDICTION => 'eu' ],
)
{
    my ($where, %more) = @$case;

    configure(%more);

    my $theirs = $t->post('/api/v1/upload/url', token => $token,
                          json => { activity_id => $id })->json->{upload_url};
    my $ours = $t->get("/api/v1/upload/activity/$id/download-url",
                       token => $token)->json->{download_url};

    is($theirs =~ s{/users/.*}{}r, $where, "edge: $where");
    is($ours =~ s{/users/.*}{}r, $where, "sidecar: $where");
    is($theirs, independent('PUT', $theirs, $where, %more),
       "edge: signed as it should be, $where");
    is($ours, independent('GET', $ours, $where, %more),
       "sidecar: signed as it should be, $where");
}

# every mistake

for my $case (
    [ qr/jurisdiction|R2_JURISDICTION/, R2_ACCOUNT_ID => 'abc',
      R2_JURISDICTION => 'uk' ],
    [ qr/style|R2_URL_STYLE/, R2_ACCOUNT_ID => 'abc', R2_URL_STYLE => 'host' ],
    [ qr/style=path|R2_URL_STYLE.*R2_BUCKET_NAME/, R2_ACCOUNT_ID => 'abc',
      R2_BUCKET_NAME => 'a.b', R2_URL_STYLE => 'virtual' ],
    [ qr/style=path|R2_URL_STYLE.*address/, R2_URL_STYLE => 'virtual',
      R2_ENDPOINT_URL => 'http://127.0.0.1:9' ],
    [ qr/account|R2_ACCOUNT_ID/, R2_ACCOUNT_ID => 'https://abc' ],
    [ qr/bucket|R2_BUCKET_NAME/, R2_ACCOUNT_ID => 'abc',
      R2_BUCKET_NAME => 'A_b' ],
    [ qr/endpoint|R2_ENDPOINT_URL/, R2_ENDPOINT_URL => 's3.example.org' ],
    [ qr/session_token|R2_SESSION_TOKEN/, R2_ACCOUNT_ID => 'abc',
      R2_SESSION_TOKEN => 'x' x 2049 ],
    [ qr/endpoint= or account=|R2_ACCOUNT_ID or R2_ENDPOINT_URL/ ],
    [ qr/secret_key=|R2_SECRET_KEY/, R2_ACCOUNT_ID => 'abc',
      R2_SECRET_KEY => '' ],
)
{
    my ($re, %more) = @$case;
    my %env = environment(%more);
    my $name = join(' ', map { "$_=" . substr($more{$_}, 0, 20) }
                         sort keys %more);

    $t->edge_configure(\%env);

    ($status, $out) = $t->command([$t->nginx(), '-t', '-q', '-p', $t->{home},
                                   '-c', "$t->{home}/nginx.conf"],
                                  env => { %{$t->preload()}, %env },
                                  runas => 1);
    isnt($status, 0, "edge refuses: $name");
    like($out, $re, "edge says why: $name");

    ($status, $out) = $t->command([$t->sidecar_copy(), 'check'],
                                  env => \%env, runas => 1);
    isnt($status, 0, "sidecar refuses: $name");
    like($out, $re, "sidecar says why: $name");
}

# the local store is in a path of the edge

($status, $out) = $t->edge_configure({ %given, R2_URL_STYLE => 'virtual' });
isnt($status, 0, 'the local store is none of style virtual');
like($out, qr/R2_URL_STYLE/, 'and the variable is named');

$t->done();

###############################################################################

sub environment
{
    my (%more) = @_;

    my %env = (%given, R2_ENDPOINT_URL => '', LOCAL_STORE => '',
               R2_SESSION_TOKEN => '', %more);

    delete $env{$_} for grep { $env{$_} eq '' && $_ ne 'REDIS_URL' } keys %env;

    return %env;
}


sub configure
{
    my %env = environment(@_);

    $t->stop_process($t->{serve});
    $t->stop();

    $t->{edge_env} = \%env;
    $t->edge_configure();
    $t->{serve} = $t->sidecar(['serve']);
    $t->edge_run();
}


# the URL that the tests' own signer makes of the same

sub independent
{
    my ($method, $url, $where, %more) = @_;

    my ($date) = $url =~ /X-Amz-Date=(\w+)/;
    my ($expires) = $url =~ /X-Amz-Expires=(\d+)/;
    my ($y, $m, $d, $h, $i, $s) = $date =~ /^(....)(..)(..)T(..)(..)(..)Z$/;
    my $bucket = $more{R2_BUCKET_NAME} || 'fit-files';
    my $style = $more{R2_URL_STYLE} || 'path';
    my $endpoint = $style eq 'path' ? $where =~ s{/\Q$bucket\E$}{}r
                                    : $where =~ s{//\Q$bucket\E\.}{//}r;

    my $path = $endpoint =~ s{^(https?://[^/]+)(/.*)?$}{$1}
               ? ($2 // '') =~ s{^/}{}r : '';

    return $t->presign(
        method => $method, style => $style, endpoint => $endpoint,
        bucket => $path eq '' ? $bucket : "$path/$bucket", key => $key =~
            s{[^/]+$}{$method eq 'PUT' ? "$id.fit" : $&}er,
        access_key => $given{R2_ACCESS_KEY},
        secret_key => $given{R2_SECRET_KEY},
        region => $more{R2_REGION} || 'auto', expires => $expires,
        time => POSIX::mktime($s, $i, $h, $d, $m - 1, $y - 1900),
        session_token => $more{R2_SESSION_TOKEN},
    );
}


sub log_texts
{
    return join('', map { $t->read_file($_) // '' } glob("$t->{dir}/*.out"),
                    glob("$t->{home}/logs/*"));
}

###############################################################################
