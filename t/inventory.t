#!/usr/bin/perl

# Tests for "runcoach-sidecar inventory": what is in the store, for backups.

use strict;
use warnings;

use Digest::SHA qw/ sha256_hex /;
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_decode /;

my $t = Test::Runcoach->new();

$t->edge(work => 0);

###############################################################################

my ($status, $out) = inventory();

is($status, 0, 'nothing');
is(join('', lines($out)), '', 'no line');

# what was uploaded, and what was deleted again

my $token = $t->token(sub => 'user_inventory');
my $file = 'FIT ' x 100;
my @ids;

for my $n (1 .. 3) {
    my $r = $t->post('/api/v1/upload/url', token => $token,
                     json => { file_size => length($file),
                               checksum => sha256_hex($file) });

    is($r->status, 200, "URL $n");

    my $url = $r->json;

    is($t->url('PUT', $url->{upload_url}, body => $file,
               headers => $url->{headers})->status, 200, "PUT $n");

    $r = $t->post('/api/v1/upload/complete', token => $token,
                  json => { activity_id => $url->{activity_id},
                            file_size => length($file),
                            checksum => sha256_hex($file) });

    is($r->status, 200, "complete $n");
    push @ids, [ $r->json->{activity_id}, $url->{key} ];
}

is($t->request('DELETE', "/api/v1/upload/activity/$ids[1][0]/fit",
               token => $token)->status, 200, 'one is deleted');

($status, $out) = inventory();

is($status, 0, 'two of three');

my @lines = map { json_decode($_) } lines($out);

is_deeply([ map { [ @$_{qw/ activity key /} ] } @lines ], [ @ids[0, 2] ],
          'those that are there');

my ($first) = lines($out);

like($first, qr/^\{"user":\d+,"activity":\d+,"key":"[^"]+","size":400,
                 "etag":"[^"]+(?:\\"[^"]*)?","sha256":"[0-9a-f]{64}",
                 "status":"\w+","uploaded_at":"[^"]+"\}$/x,
     'the members, in this order');
is($lines[0]{user}, $t->sql("SELECT id FROM users WHERE clerk_user_id ="
                            . " 'user_inventory'"), 'user');
is($lines[0]{sha256}, sha256_hex($file), 'sha256');
is($lines[0]{status}, 'uploaded', 'status');
like($lines[0]{uploaded_at},
     qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/, 'uploaded_at');
ok(-f "$t->{home}/store/fit-files/$lines[0]{key}", 'the object');

# files of the old scheme, and names that have to be escaped; more than a page

$t->sql(<<'EOF');
INSERT INTO activities (user_id, garmin_id, activity_type, start_time, r2_key)
SELECT (SELECT id FROM users LIMIT 1), n, 'running', now(),
       'users/1/2025/activities/' || n || '.fit.gz'
FROM generate_series(1000001, 1003500) n
EOF
$t->sql(<<'EOF');
INSERT INTO activities (user_id, garmin_id, activity_type, start_time, r2_key)
SELECT (SELECT id FROM users LIMIT 1), 2000000, 'running', now(),
       E'users/"q"\\b\n\u00e9\U0001F3C3'
EOF
$t->sql(<<'EOF');
INSERT INTO activities (user_id, garmin_id, activity_type, start_time)
SELECT (SELECT id FROM users LIMIT 1), 2000001, 'running', now()
EOF

($status, $out) = inventory();

is($status, 0, 'many');

@lines = map { json_decode($_) } lines($out);

is(scalar(@lines), 3503, 'all of them, and no activity without a file');
is_deeply([ map { $_->{activity} } @lines ],
          [ sort { $a <=> $b } map { $_->{activity} } @lines ], 'in order');
is_deeply([ @{$lines[10]}{qw/ size etag sha256 status uploaded_at /} ],
          [ undef, undef, undef, undef, undef ], 'what is not known is null');
is($lines[-1]{key}, "users/\"q\"\\b\n\x{e9}\x{1F3C3}", 'any key');
like($out, qr/objects=3503/, 'the sum, in the log');

# an inventory that is not whole says so

($status, $out) = $t->command(['sh', '-c', 'exec ' . $t->sidecar_copy()
                                           . ' inventory > /dev/full'],
                              env => $t->sidecar_env(), runas => 1);

is($status, 1, 'no room');
like($out, qr/cannot write/, 'no room: why');
like($out, qr/not complete/, 'no room: what of it');

($status, $out) = $t->sidecar_run(['inventory', '--all']);
is($status, 2, 'arguments');

($status, $out) = $t->sidecar_run(['inventory'], { DATABASE_URL => '' });
is($status, 1, 'no database');
like($out, qr/DATABASE_URL is not set/, 'no database: why');

$t->sql('DROP TABLE activities CASCADE');

($status, $out) = inventory();
is($status, 1, 'another schema');
like($out, qr/not complete/, 'another schema: what of it');

$t->stop_all();
$t->done();

###############################################################################

sub inventory { return $t->sidecar_run(['inventory']) }

sub lines { return grep { /^\{/ } split(/\n/, $_[0]) }

###############################################################################
