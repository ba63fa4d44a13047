#!/usr/bin/perl

# The whole story: sign up, log in, get a URL, upload, complete, be analyzed;
# with real FIT files, through what is shipped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256_hex /;
use File::Basename qw/ basename /;
use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

my @files = files();

# one person does in a second what people do in a day

$t->edge(env => { RATE_LIMIT_REQUESTS => 60000, RATE_LIMIT_BURST => 1000 });

###############################################################################

# Anna signs up: Clerk tells us.

my $r = $t->webhook($t->user_event('user.created', 'user_anna',
                                   email => 'anna@example.com',
                                   first_name => 'Anna', last_name => 'Kim'));
is($r->status, 200, 'sign up');

my $anna = $t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_anna'");

like($anna, qr/^\d+$/, 'sign up: row');

# She logs in: the application is told who she is.

my $token = $t->token(sub => 'user_anna');

$r = $t->get('/api/v1/me', token => $token);
is($r->status, 200, 'log in');
is_deeply($r->json, { 'X-Auth-Method' => 'clerk',
                      'X-Auth-Subject' => 'user_anna',
                      'X-Clerk-User-Id' => 'user_anna' }, 'log in: identity');
ok(defined $r->header('X-RateLimit-Remaining'), 'log in: counted');
ok($r->header('X-Request-ID'), 'log in: request id');

# Each file: URL, upload, completion, analysis.

for my $file (@files) {
    my ($name, $bytes, $expect) = @$file;

    subtest $name => sub {
        my ($ask, $put) = $t->upload($bytes, token => $token, json => {
            filename => "$name.fit", checksum => sha256_hex($bytes) });

        is($ask->status, 200, 'url');
        is($put->status, 200, 'put');

        my $given = $ask->json->{activity_id};
        my $r = $t->post('/api/v1/upload/complete', token => $token, json => {
            activity_id => $given, file_size => length($bytes),
            checksum => sha256_hex($bytes) });

        is($r->status, 200, 'complete') or return diag($r->raw);

        my ($id, $job) = @{$r->json}{qw/ activity_id analysis_job_id /};

        ok(defined $job, 'job');

        ok($t->wait_for(sub {
            return $t->sql('SELECT fit_file_status FROM activities'
                           . ' WHERE id = $1', $id)
                   =~ /^(?:analyzed|failed)$/;
        }, 10), 'analysis has ended');

        is($t->sql('SELECT user_id, fit_file_status, has_fit_file,'
                   . ' fit_file_size FROM activities WHERE id = $1', $id),
           "$anna|$expect|" . ($expect eq 'analyzed' ? 't' : 'f') . '|'
           . length($bytes), 'row');

        ok(length $t->sql('SELECT fit_error FROM activities WHERE id = $1',
                          $id), 'what is wrong with it')
            if $expect eq 'failed';

        is($t->sql('SELECT state FROM edge_jobs WHERE id::text = $1', $job),
           'done', 'job is done');

        # the same call again, the same answer

        is($t->post('/api/v1/upload/complete', token => $token, json => {
               activity_id => $given, file_size => length($bytes) })
           ->json->{analysis_job_id}, $job, 'again: same job');

        # and back

        my $down = $t->get("/api/v1/upload/activity/$id/download-url",
                           token => $token);

        is($down->status, 200, 'download');
        ok($t->url('GET', $down->json->{download_url})->body eq $bytes,
           'download: the same bytes');
    };
}

# her sums

my $sum = 0;

$sum += length($_->[1]) for @files;

$r = $t->get('/api/v1/upload/stats', token => $token);
is($r->json->{total_files}, scalar(@files), 'stats: files');
is($r->json->{total_size_mb}, sprintf('%.2f', $sum / 1048576) + 0,
   'stats: size');

# Bora states a wrong checksum: the worker finds it out, where the store
# does not tell.  Stated right it is judged anew.

my $bora = $t->token(sub => 'user_bora');
my $bytes = $files[0][1];
my ($ask) = $t->upload($bytes, token => $bora);

for my $step ([ sha256_hex('another file'), 'failed' ],
              [ sha256_hex($bytes), 'analyzed' ])
{
    my ($checksum, $expect) = @$step;

    $r = $t->post('/api/v1/upload/complete', token => $bora, json => {
        activity_id => $ask->json->{activity_id},
        file_size => length($bytes), checksum => $checksum });

    is($r->status, 200, "checksum: $expect");
    ok($t->wait_for(sub {
        return $t->sql('SELECT fit_file_status FROM activities WHERE id = $1',
                       $r->json->{activity_id}) eq $expect;
    }, 10), "checksum: $expect in the end");
}

# The application's own session, for the same person and the same rows.

my $cookie = $t->session($anna);

is_deeply($t->get('/api/v1/me', cookie => $cookie)->json,
          { 'X-Auth-Method' => 'session', 'X-Auth-Subject' => $anna,
            'X-User-Id' => $anna }, 'session: identity');
is($t->get('/api/v1/upload/stats', cookie => $cookie)->json->{total_files},
   scalar(@files), 'session: stats');

# She removes one file.

my $id = $t->sql('SELECT min(id) FROM activities WHERE user_id = $1', $anna);

$r = $t->request('DELETE', "/api/v1/upload/activity/$id/fit",
                 token => $token);
is($r->status, 200, 'delete');
is($t->get('/api/v1/upload/stats', token => $token)->json->{total_files},
   @files - 1, 'delete: stats');

# She leaves: her token is worth nothing where a row is needed.

is($t->webhook($t->user_event('user.deleted', 'user_anna',
                              ms => time() * 1000 + 5000))->status, 200,
   'sign off');
is($t->get('/api/v1/upload/stats', token => $token)->status, 401,
   'sign off: stats');

# what was logged on the way has no token, signature or query in it

my $log = $t->read_file("$t->{home}/logs/access.log");

like($log, qr/"user":"user_anna"/, 'log: user');
unlike($log, qr/X-Amz|\Q$token\E|\?/, 'log: nothing secret');

my @lines = split(/\n/, $log);

is(scalar(grep { !defined eval { Test::Runcoach::json_decode($_) } } @lines),
   0, 'log: each line is JSON');

$t->done();

###############################################################################

# [name, bytes, status after the analysis]

sub files
{
    my @files;

    my $own = $t->read_file("$FindBin::Bin/data/activity.fit");

    push @files, [ 'own', $own, 'analyzed' ];

    # none of these is an activity

    push @files, [ 'text', "this is not a FIT file\n", 'failed' ],
                 [ 'truncated', substr($own, 0, length($own) - 7), 'failed' ],
                 [ 'bit flipped', flip($own), 'failed' ];

    # gzip, as browsers and the present application send it

    my $gz = eval {
        require IO::Compress::Gzip;
        my $out;
        IO::Compress::Gzip::gzip(\$own, \$out) or die;
        $out;
    };

    push @files, [ 'gzip', $gz, 'analyzed' ] if $gz;

    push @files, garmin();

    # files of devices, where there are any

    my $shared = $ENV{RUNCOACH_FIT_FILES} || Test::Runcoach::root()
                                             . '/../shared/fit';

    for my $path (sort glob("$shared/*.fit")) {
        my $name = basename($path, '.fit');

        push @files, [ $name, $t->read_file($path),
                       $name =~ /eof|filecrc/ ? 'failed' : 'analyzed' ];
    }

    note("no device files in $shared") unless glob("$shared/*.fit");

    return @files;
}


# one written by Garmin's own encoder

sub garmin
{
    my ($file, $reason) = $t->peer('garmin.mjs', '@garmin/fitsdk');

    if (!defined $file) {
        diag("no file of Garmin's encoder: $reason");
        return;
    }

    return [ 'garmin encoder', $file, 'analyzed' ];
}


sub flip
{
    my ($bytes) = @_;

    substr($bytes, length($bytes) / 2, 1) ^= "\x10";

    return $bytes;
}

###############################################################################
