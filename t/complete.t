#!/usr/bin/perl

# Tests for what follows an upload: complete, stats, download-url, deletion.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256 sha256_hex /;
use IO::Compress::Gzip qw/ gzip $GzipError /;
use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach qw/ json_encode /;
use Time::HiRes qw/ sleep /;

my $t = Test::Runcoach->new();

# without the worker, so that what complete has written stands still

$t->edge(work => 0, env => {
    MAX_FILE_SIZE => 100000,
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $size = length($fit);
my $token = $t->token(sub => 'user_c');

$t->webhook($t->user_event('user.created', 'user_c'));

my $me = $t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_c'");

###############################################################################

# without an activity: the row is made here

my ($ask, $put) = $t->upload($fit, token => $token,
                             json => { filename => 'morning.fit' });
my $given = $ask->json->{activity_id};

is($put->status, 200, 'put');

my $r = complete({ activity_id => $given, file_size => $size });
my $j = $r->json;

is($r->status, 200, 'complete');
is($j->{status}, 'uploaded', 'complete: status');
like($j->{activity_id}, qr/^\d+$/, 'complete: activity_id');
cmp_ok($j->{activity_id}, '<', 2 ** 31, 'complete: a row');
ok(defined $j->{analysis_job_id}, 'complete: job');
like($j->{message}, qr/^Upload confirmed, analysis job queued: \Q$j->{analysis_job_id}\E$/,
     'complete: message');

my $id = $j->{activity_id};

is($t->sql('SELECT user_id, fit_file_status, fit_file_size, fit_file_key,'
           . ' storage_provider IS NOT NULL, garmin_id < 0, has_fit_file'
           . ' FROM activities WHERE id = $1', $id),
   "$me|uploaded|$size|users/user_c/activities/$given.fit|t|t|f",
   'complete: row');
is($t->sql("SELECT kind, state, object_key FROM edge_jobs"
           . ' WHERE activity_id = $1', $id),
   "analyze|queued|users/user_c/activities/$given.fit", 'complete: job row');

# again, by either number

for my $again ($given, $id) {
    my $r = complete({ activity_id => $again, file_size => $size });

    is($r->status, 200, "again, $again");
    is($r->json->{activity_id}, $id, "again, $again: same row");
    is($r->json->{analysis_job_id}, $j->{analysis_job_id},
       "again, $again: same job");
}

is($t->sql('SELECT count(*) FROM activities'), 1, 'again: one row');
is($t->sql('SELECT count(*) FROM edge_jobs'), 1, 'again: one job');

# eight times at once

($ask, $put) = $t->upload($fit, token => $token);

my @many = map { $t->request_start('POST', '/api/v1/upload/complete',
                                   token => $token,
                                   json => { activity_id
                                             => $ask->json->{activity_id},
                                             file_size => $size }) } 1 .. 8;
my @answers = map { $t->request_end($_) } @many;

is(join(' ', map { $_->status } @answers), join(' ', (200) x 8),
   'at once: all are answered');

my %ids = map { ($_->json || {})->{activity_id} // 'none' => 1 } @answers;
my %jobs = map { ($_->json || {})->{analysis_job_id} // 'none' => 1 } @answers;

is(scalar(keys %ids), 1, 'at once: one row');
is(scalar(keys %jobs), 1, 'at once: one job');

# two uploads without an activity are two rows (garmin_id differs)

is($t->sql('SELECT count(*) FROM activities'), 2, 'second upload: second row');

# with an activity of one's own

$t->sql("INSERT INTO activities (user_id, garmin_id, activity_type, start_time)"
        . " VALUES (\$1, 1001, 'running', now())", $me);

my $mine = $t->sql('SELECT id FROM activities WHERE garmin_id = 1001');

($ask, $put) = $t->upload($fit, token => $token, json => {
    activity_id => $mine + 0, checksum => sha256_hex($fit),
    content_type => 'application/octet-stream' });

is($ask->json->{activity_id}, $mine, 'own activity: url');
is($put->status, 200, 'own activity: put');

$r = complete({ activity_id => $mine + 0, file_size => $size,
                checksum => sha256_hex($fit) });
is($r->status, 200, 'own activity: complete');
is($r->json->{activity_id}, $mine, 'own activity: its id');
is($t->sql('SELECT fit_file_status, fit_file_checksum FROM activities'
           . ' WHERE id = $1', $mine), 'uploaded|' . sha256_hex($fit),
   'own activity: row');

# aliases

($ask, $put) = $t->upload($fit, token => $token);
is($t->post('/api/v1/upload/upload-complete', token => $token,
            json => { activity_id => $ask->json->{activity_id},
                      file_size => $size })->status, 200, 'upload-complete');
is($t->post("/api/v1/activities/$mine/upload-complete", token => $token,
            json => { file_size => $size })->json->{activity_id}, $mine,
   'activities/{id}/upload-complete');

# by session: the prefix of the number

my $cookie = $t->session($me);

($ask, $put) = $t->upload($fit, cookie => $cookie);
like($ask->json->{key}, qr{^users/$me/activities/\d+\.fit$}, 'session: key');
is($t->post('/api/v1/upload/complete', cookie => $cookie,
            json => { activity_id => $ask->json->{activity_id},
                      file_size => $size })->status, 200, 'session: complete');

# URL by one log-in, completion by the other

($ask, $put) = $t->upload($fit, token => $token);
is($t->post('/api/v1/upload/complete', cookie => $cookie,
            json => { activity_id => $ask->json->{activity_id},
                      file_size => $size })->status, 200,
   'url by token, complete by session');

($ask, $put) = $t->upload($fit, cookie => $cookie);
is($t->post('/api/v1/upload/complete', token => $token,
            json => { activity_id => $ask->json->{activity_id},
                      file_size => $size })->status, 200,
   'url by session, complete by token');

# both have a file under the number of the same row: it is the one which is
# stated, else the newer one; the other goes when nobody reads it any more

my $two = legacy(1002);

for my $case ([ token => $token, $fit ], [ cookie => $cookie, "$fit." ],
              [ token => $token, 'x' x ($size + 1) ])
{
    my ($by, $who, $bytes) = @$case;

    sleep(1.1);

    my $was = $t->sql('SELECT fit_file_key FROM activities WHERE id = $1',
                      $two);

    ($ask, $put) = $t->upload($bytes, $by => $who,
                              json => { activity_id => $two });
    is($put->status, 200, "two keys, $by: put");

    is(complete({ activity_id => $two, file_size => length($bytes) })->status,
       200, "two keys, $by: complete");
    is($t->sql('SELECT fit_file_key FROM activities WHERE id = $1', $two),
       $ask->json->{key}, "two keys, $by: the new one");

    next if $was eq '';

    is($t->sql("SELECT count(*) FROM edge_jobs WHERE kind = 'delete_object'"
               . " AND state = 'queued' AND object_key = \$1"
               . " AND run_at > now() + interval '9 minutes'", $was), 1,
       "two keys, $by: the old one goes");
}

# header fields which nginx lets through are none too many

my $stats = $t->get('/api/v1/upload/stats', token => $token,
                    headers => { map { ("X-Pad-$_" => 'y' x 11000) } 1 .. 3 });

is($stats->status, 200, 'long header');

# it is the first one, so its sum of all is of now

is(join(' ', @{$stats->json->{account}}{qw/ total_files total_size_gb /}),
   $t->sql("SELECT count(*) || ' ' || round(sum(fit_file_size)"
           . " / (1024.0 * 1024 * 1024), 3)::real FROM activities"
           . ' WHERE coalesce(fit_file_key, r2_key) IS NOT NULL'),
   'stats: the account is that of all');

# a person we have not heard of is made from the token

my $fresh = $t->token(sub => 'user_fresh');

($ask, $put) = $t->upload($fit, token => $fresh);
is($t->post('/api/v1/upload/complete', token => $fresh,
            json => { activity_id => $ask->json->{activity_id},
                      file_size => $size })->status, 200, 'new person');
is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id = 'user_fresh'"),
   1, 'new person: row');

###############################################################################

# What bad input gets.

my $before = counts();

# not there

$ask = $t->post('/api/v1/upload/url', token => $token, json => {});
$r = complete({ activity_id => $ask->json->{activity_id}, file_size => 5 });
is($r->status, 409, 'not uploaded');
ok($r->detail, 'not uploaded: detail');

# somebody else's

my $other = $t->token(sub => 'user_other');

$r = $t->post('/api/v1/upload/complete', token => $other,
              json => { activity_id => $mine + 0, file_size => $size });
is($r->status, 404, 'activity of another');
is($r->detail, 'Activity not found', 'activity of another: detail');

$r = complete({ activity_id => 999999, file_size => $size });
is($r->status, 404, 'activity that does not exist');

# nor can another person complete what I was given

($ask, $put) = $t->upload($fit, token => $token);
$r = $t->post('/api/v1/upload/complete', token => $other,
              json => { activity_id => $ask->json->{activity_id},
                        file_size => $size });
is($r->status, 409, 'provisional id of another');

# the store is believed, not the client

$r = complete({ activity_id => $ask->json->{activity_id},
                file_size => $size + 1 });
is($r->status, 422, 'other size');
like(json_encode($r->detail), qr/size/, 'other size: named');

($ask, $put) = $t->upload($fit, token => $token);
$r = complete({ activity_id => $ask->json->{activity_id},
                file_size => $size, checksum => 'a' x 63 });
is($r->status, 422, 'checksum is malformed');

# too large, by a URL for which no size was stated

$ask = $t->post('/api/v1/upload/url', token => $token, json => {});
$put = $t->url('PUT', $ask->json->{upload_url}, body => 'x' x 100001);

SKIP: {
    skip 'the store itself refused it', 3 if $put->status == 400;

    $r = complete({ activity_id => $ask->json->{activity_id},
                    file_size => 100001 });
    is($r->status, 413, 'too large');
    is($t->url('GET', $t->presign(key => $ask->json->{key}))->status, 404,
       'too large: removed');
    ok($r->detail, 'too large: detail');
}

# the same, put there by somebody who can sign

my $large = 4_000_000_001;
my $key = "users/user_c/activities/$large.fit";

$t->write_file("$t->{home}/store/fit-files/$key", 'x' x 100001, 0666);
system('chown', '-R', "$t->{uid}:$t->{gid}", "$t->{home}/store")
    if $t->{runas};

$r = complete({ activity_id => $large, file_size => 100001 });
is($r->status, 413, 'too large in the store');
ok(!-e "$t->{home}/store/fit-files/$key", 'too large in the store: removed');

# but not a file of before, which nobody measured then

legacy(2001, 'users/7/2025/activities/2001.fit.gz');

my $old = "$t->{home}/store/fit-files/users/7/2025/activities/2001.fit.gz";

$t->command(['mkdir', '-p', $old =~ s{/[^/]+$}{}r]);
$t->write_file($old, 'x' x 100001, 0666);
system('chown', '-R', "$t->{uid}:$t->{gid}", "$t->{home}/store")
    if $t->{runas};

is(complete({ activity_id => legacy(2001), file_size => 5 })->status, 413,
   'too large, but of before');
ok(-e $old, 'too large, but of before: still there');

# its key is the row's, whatever a template would make of it this year

my $before_us = legacy(2001);

$r = $t->get("/api/v1/upload/activity/$before_us/download-url",
             token => $token);
like($r->json->{download_url}, qr{/users/7/2025/activities/2001\.fit\.gz\?},
     'of before: the key to download');
is($r->json->{content_type}, 'application/gzip', 'of before: its type');
is(length($t->url('GET', $r->json->{download_url})->body), 100001,
   'of before: downloaded');
is($t->request('DELETE', "/api/v1/upload/activity/$before_us/fit",
               token => $token)->status, 200, 'of before: deleted');
ok(!-e $old, 'of before: that very object');
$t->sql('DELETE FROM edge_jobs WHERE object_key = $1',
        'users/7/2025/activities/2001.fit.gz');

# nor does a key that no object can have stand in the way

legacy(2002, '/users/7/x.fit');
is(complete({ activity_id => legacy(2002), file_size => 5 })->status, 409,
   'a key which is none');

$t->sql('DELETE FROM activities WHERE garmin_id IN (2001, 2002)');

for my $case (
    [ 'not JSON', '{', undef ],
    [ 'a list', '[]', undef ],
    [ 'empty', '', undef ],
    [ 'no activity_id', '{"file_size":5}', 'activity_id' ],
    [ 'no file_size', '{"activity_id":5}', 'file_size' ],
    [ 'activity_id is text', '{"activity_id":"x","file_size":5}',
      'activity_id' ],
    [ 'activity_id is null', '{"activity_id":null,"file_size":5}',
      'activity_id' ],
    [ 'activity_id is a real', '{"activity_id":1.5,"file_size":5}',
      'activity_id' ],
    [ 'activity_id is a path', '{"activity_id":"../5","file_size":5}',
      'activity_id' ],
    [ 'activity_id is negative', '{"activity_id":-5,"file_size":5}',
      'activity_id' ],
    [ 'file_size is text', '{"activity_id":5,"file_size":"5"}', 'file_size' ],
    [ 'file_size is negative', '{"activity_id":5,"file_size":-5}',
      'file_size' ],
    [ 'checksum is a number', '{"activity_id":5,"file_size":5,"checksum":1}',
      'checksum' ],
)
{
    my ($name, $body, $field) = @$case;

    my $r = $t->post('/api/v1/upload/complete', token => $token,
                     body => $body,
                     headers => { 'Content-Type' => 'application/json' });

    is($r->status, 422, $name);
    is(ref($r->detail), 'ARRAY', "$name: detail is a list");
    is($r->detail->[0]{loc}[-1], $field, "$name: names the field")
        if $field && ref($r->detail);
}

is($t->post('/api/v1/upload/complete', token => $token, body => 'x' x 20000)
   ->status, 413, 'large body');

$r = $t->post('/api/v1/upload/complete', json => {});
is($r->status, 401, 'nobody');
is($r->header('WWW-Authenticate'), 'Bearer', 'nobody: challenge');

$r = $t->post('/api/v1/upload/complete', cookie => $t->session(987654),
              json => { activity_id => 5, file_size => 5 });
is($r->status, 404, 'session of a user without a row');

is($t->get('/api/v1/upload/complete', token => $token)->status, 405, 'GET');

is(counts(), $before, 'none of it left a row');

###############################################################################

# stats

$r = $t->get('/api/v1/upload/stats', token => $token);
$j = $r->json;

my $files = $t->sql('SELECT count(*) FROM activities WHERE user_id = $1'
                    . ' AND fit_file_key IS NOT NULL', $me);

is($r->status, 200, 'stats');
is($j->{user_id}, $me, 'stats: user_id');
is($j->{total_files}, $files, 'stats: files');
is($j->{total_size_mb}, sprintf('%.2f', $files * $size / 1048576) + 0,
   'stats: MB');
cmp_ok($j->{free_tier_limit_gb}, '==', 10, 'stats: limit');
is_deeply([ sort keys %$j ],
          [ sort qw/ user_id total_files total_size_mb total_size_gb
                     free_tier_limit_gb free_tier_used_percent
                     free_tier_remaining_gb account / ], 'stats: fields');
is_deeply([ sort keys %{$j->{account}} ],
          [ sort qw/ total_files total_size_gb free_tier_limit_gb
                     free_tier_used_percent free_tier_remaining_gb / ],
          'stats: fields of the account');
cmp_ok($j->{account}{total_files}, '>', 0, 'stats: the account has some');
is($t->get('/api/v1/upload/stats', token => $other)->json->{total_files}, 0,
   'stats: another has none');
is($t->get('/api/v1/upload/stats')->status, 401, 'stats: nobody');

# download

$r = $t->get("/api/v1/upload/activity/$id/download-url", token => $token);
$j = $r->json;

is($r->status, 200, 'download');
is($j->{expires_in}, 300, 'download: expires_in');
is($j->{file_size}, $size, 'download: file_size');
ok($j->{content_type}, 'download: content_type');

my $got = $t->url('GET', $j->{download_url});

is($got->status, 200, 'download: get');
ok($got->body eq $fit, 'download: the same file');

is($t->get("/api/v1/upload/activity/$id/download-url", token => $other)
   ->status, 404, 'download: activity of another');
is($t->get('/api/v1/upload/activity/999999/download-url', token => $token)
   ->status, 404, 'download: no such activity');

for my $bad ('x', '-1', '0', '99999999999999999999', '1.5', '1%2F2', '') {
    like($t->get("/api/v1/upload/activity/$bad/download-url", token => $token)
         ->status, qr/^4(?:04|22|00)$/, "download: id \"$bad\"");
}

# deletion

$r = $t->request('DELETE', "/api/v1/upload/activity/$id/fit",
                 token => $other);
is($r->status, 404, 'delete: activity of another');

$r = $t->request('DELETE', "/api/v1/upload/activity/$id/fit", token => $token);
is($r->status, 200, 'delete');
is_deeply($r->json, { status => 'deleted', activity_id => $id + 0 },
          'delete: answer');
is($t->sql('SELECT fit_file_status, fit_file_key IS NULL, has_fit_file'
           . ' FROM activities WHERE id = $1', $id), 'deleted|t|f',
   'delete: row');
is($t->sql("SELECT storage_metadata ->> 'deleted_key',"
           . " storage_metadata ->> 'deleted_at' IS NOT NULL"
           . ' FROM activities WHERE id = $1', $id),
   "users/user_c/activities/$given.fit|t", 'delete: storage_metadata');
is($t->url('GET', $t->presign(key => "users/user_c/activities/$given.fit"))
   ->status, 404, 'delete: object');

$r = $t->request('DELETE', "/api/v1/upload/activity/$id/fit", token => $token);
is($r->status, 404, 'delete again');
is($r->detail, 'No FIT file to delete', 'delete again: detail');

$r = $t->get("/api/v1/upload/activity/$id/download-url", token => $token);
is($r->status, 404, 'download after deletion');
is($r->detail, 'FIT file not found in cloud storage',
   'download after deletion: detail');

# a completion that arrives late does not bring it back

$r = complete({ activity_id => $given, file_size => $size });
is($r->status, 409, 'complete after deletion');

###############################################################################

# The store is down: 503, nothing recorded; and then it works.

($ask, $put) = $t->upload($fit, token => $token);
$before = counts();

my $request = { token => $token, json => {
    activity_id => $ask->json->{activity_id}, file_size => $size } };

rename("$t->{home}/store", "$t->{home}/store.away");
$r = $t->post('/api/v1/upload/complete', %$request);
is($r->status, 409, 'object is away');
rename("$t->{home}/store.away", "$t->{home}/store");

my $good = $t->{edge_env}{R2_ENDPOINT_URL};

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve'],
                          { R2_ENDPOINT_URL => 'http://' . $t->host(8098) });

$r = $t->post('/api/v1/upload/complete', %$request);
is($r->status, 503, 'store down');
like($r->header('Retry-After') // '', qr/^\d+$/, 'store down: Retry-After');
is(counts(), $before, 'store down: nothing recorded');

# a store that refuses us is our trouble, not the client's

my $broken = $t->http_daemon(sub { return [403, {}, 'x' x 200000] },
                             port => 8098);

$r = $t->post('/api/v1/upload/complete', %$request);
is($r->status, 503, 'store refuses us');

# nor is what it says then, however long, a file that is too large

my $job = $t->sql("SELECT max(id) FROM edge_jobs WHERE kind = 'analyze'");

$t->sql("UPDATE edge_jobs SET state = 'done' WHERE id <> \$1", $job);
$t->sql("UPDATE edge_jobs SET state = 'queued' WHERE id = \$1", $job);

my $worker = $t->sidecar(['work'],
                         { R2_ENDPOINT_URL => 'http://' . $t->host(8098) });

ok($t->wait_for(sub { return job() ne 'queued||0' }, 5), 'refused: claimed');
ok($t->wait_for(sub { return job() eq 'queued|the store did not answer|1' },
                5), 'refused: tried again') or diag(job());
$t->stop_process($worker);

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve']);

is($t->post('/api/v1/upload/complete', %$request)->status, 200,
   'store is back');

# what is packed may be as large as the largest limit

gzip(\$fit => \my $packed) or die "gzip: $GzipError\n";

($ask, $put) = $t->upload($packed, token => $token);
$job = complete({ activity_id => $ask->json->{activity_id},
                  file_size => length($packed) })->json->{analysis_job_id};

$worker = $t->sidecar(['work'], { MAX_FILE_SIZE => 1073741824 });

ok($t->wait_for(sub { return job() eq 'done||0' }, 5), 'largest limit')
    or diag(job());

# its URL is good for an hour, but what is put after the completion is not what
# was confirmed: nobody analyzes it, also if it is a file

$t->stop_process($worker);

($ask, $put) = $t->upload($fit, token => $token);
$id = $ask->json->{activity_id};
$job = complete({ activity_id => $id, file_size => $size })
       ->json->{analysis_job_id};

is($t->url('PUT', $ask->json->{upload_url},
           headers => $ask->json->{headers} || {},
           body => substr($fit, 0, $size - 1) . 'x')->status, 200,
   'replaced: put');

$worker = $t->sidecar(['work']);

ok($t->wait_for(sub { return job() =~ /^done\|.*was changed/ }, 5),
   'replaced: not analyzed') or diag(job());
is($t->sql('SELECT fit_file_status, has_fit_file, fit_analysis IS NULL'
           . ' FROM activities WHERE id = (SELECT activity_id FROM edge_jobs'
           . ' WHERE id = $1)', $job), 'failed|f|t', 'replaced: row');

# completed again it is what it is now

$r = complete({ activity_id => $id, file_size => $size });
is($r->status, 200, 'replaced: completed again');
isnt($r->json->{analysis_job_id}, $job, 'replaced: another job');

# of what cannot be in the store nothing is to be removed

$job = $t->sql("INSERT INTO edge_jobs (kind, object_key, run_at) VALUES"
               . " ('delete_object', '/x', '-infinity') RETURNING id");
$t->{redis}->cmd('LPUSH', 'edge:jobs:wake', 1);

ok($t->wait_for(sub { return job() =~ /^done\|.*of this key\|0$/ }, 5),
   'a key which is none: nothing to remove') or diag(job());
$t->stop_process($worker);

# The database is down: 503; and then it works.

($ask, $put) = $t->upload($fit, token => $token);
$request->{json}{activity_id} = $ask->json->{activity_id};

$t->{postgres}->kill();

$r = $t->post('/api/v1/upload/complete', %$request);
is($r->status, 503, 'database down');
like($r->header('Retry-After') // '', qr/^\d+$/,
     'database down: Retry-After');

$t->{postgres}->start();

ok($t->wait_for(sub {
    return $t->post('/api/v1/upload/complete', %$request)->status == 200;
}, 15), 'database is back');

$t->done();

###############################################################################

sub complete
{
    my ($json) = @_;

    return $t->post('/api/v1/upload/complete', token => $token,
                    json => $json);
}


sub job
{
    return $t->sql('SELECT state, last_error, retries FROM edge_jobs'
                   . ' WHERE id = $1', $job);
}


# a row of the application's, with a file from before or none

sub legacy
{
    my ($garmin, $key) = @_;

    $t->sql('INSERT INTO activities (user_id, garmin_id, activity_type,'
            . " start_time, r2_key) VALUES (\$1, \$2, 'running', now(), \$3)"
            . ' ON CONFLICT DO NOTHING', $me, $garmin, $key);

    return $t->sql('SELECT id FROM activities WHERE garmin_id = $1', $garmin)
           + 0;
}


sub counts
{
    return $t->sql('SELECT (SELECT count(*) FROM activities),'
                   . ' (SELECT count(*) FROM edge_jobs)');
}

###############################################################################
