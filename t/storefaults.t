#!/usr/bin/perl

# What a store may do wrong, in front of one that does right: it fails, is
# slow, breaks off, answers for another object.  Nothing accepted is ever
# wrong, and what may pass is tried again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256_hex /;
use Test::More;
use Test::Runcoach;
use Time::HiRes qw/ sleep time /;

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => {
    MAX_FILE_SIZE => 100000,
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $size = length($fit);
my $token = $t->token(sub => 'user_f');
my $plan = "$t->{dir}/plan";
my %faulty = (R2_ENDPOINT_URL => 'http://' . $t->host(8097),
              SIDECAR_SWEEP => 1);

# the local store behind a line which does what the plan says, and then nothing

my $line = $t->http_daemon(\&through, port => 8097);

$t->stop_process($t->{serve});
$t->{serve} = $t->sidecar(['serve'], \%faulty);

###############################################################################

# HEAD, for a completion: the answer now, and how often the store was asked

for my $case (
    [ 200, 1 ],
    [ 200, 2, '500' ],
    [ 200, 2, '429' ],
    [ 200, 2, '503' ],
    [ 200, 2, 'reset' ],
    [ 200, 2, 'half_head' ],
    [ 200, 2, 'half_size' ],
    [ 200, 2, 'hang' ],
    [ 503, 2, '500', '500' ],
    [ 503, 2, '429', '429' ],
    [ 503, 2, 'reset', '503' ],
    [ 503, 2, 'half_head', 'half_head' ],
    [ 503, 1, '403' ],
    [ 503, 1, '301' ],
    [ 503, 1, 'no_etag' ],
    [ 503, 1, 'no_size' ],
    [ 503, 2, '500_of_it', 'no_etag' ],
    [ 503, 1, 'odd_size' ],
    [ 409, 1, '404' ],
)
{
    my ($status, $asked, @faults) = @$case;
    my $what = join(', ', @faults) || 'nothing';
    my ($id) = upload($fit);

    faults('HEAD', @faults);

    my $begin = time();
    my $r = complete($id, $size);
    my $took = time() - $begin;

    is($r->status, $status, "HEAD, $what") or diag($r->raw);

    # the person has another prefix as well, where there is nothing

    is(scalar(grep { $_->{target} =~ m{/users/user_f/} } $t->requests($line)),
       $asked, "HEAD, $what: the store was asked $asked times");
    cmp_ok($took, '<', $t->patience(8), "HEAD, $what: in time");

    if ($status == 503) {
        like($r->header('Retry-After') // '', qr/^\d+$/,
             "HEAD, $what: Retry-After");
    }

    # what was refused left nothing, and works when it is tried again

    next if $status == 200;

    is($t->sql('SELECT count(*) FROM edge_uploads WHERE upload_id = $1', $id),
       0, "HEAD, $what: no row");

    faults();
    is(complete($id, $size)->status, 200, "HEAD, $what: and again");
}

$t->sql("UPDATE edge_jobs SET state = 'done'");

###############################################################################

# GET, for an analysis: what becomes of the job and of the row

my $worker = $t->sidecar(['work'], \%faulty);

for my $case (
    [ 'analyzed', '' ],
    [ 'analyzed', '', '500' ],
    [ 'analyzed', '', 'half' ],
    [ 'analyzed', '', 'reset' ],
    [ 'again', 'the store did not answer', '500', '500' ],
    [ 'again', 'the store did not answer', '429', '503' ],
    [ 'again', 'the store did not answer', 'half', 'half' ],
    [ 'again', 'the store did not answer', 'dribble', 'half' ],
    [ 'again', 'the store did not answer', '403' ],
    [ 'failed', 'the object is not in the store any more', '404' ],
    [ 'failed', 'the object was changed after it was confirmed', '412' ],
    [ 'failed', 'the object is too large', 'endless' ],
)
{
    my ($end, $error, @faults) = @$case;
    my $what = join(', ', @faults) || 'nothing';
    my ($id) = upload($fit);

    faults('GET', @faults);

    my $job = complete($id, $size)->json->{analysis_job_id};

    settles($job, $end, $error, "GET, $what");

    if ($end eq 'again') {
        faults();
        again($job);
        settles($job, 'analyzed', '', "GET, $what: and again");
    }
}

# the object is another one by now, and as long: for a store that looks at
# If-Match, for one that does not, and for one that does not even tell what it
# is

my $other = substr($fit, 0, -1) . chr(ord(substr($fit, -1)) ^ 1);

for my $case (
    [ 'the object was changed after it was confirmed' ],
    [ 'the object was changed after it was confirmed', 'no_match' ],
    [ 'the SHA-256 is not the one that was stated', 'no_match_no_etag' ],
)
{
    my ($error, @faults) = @$case;
    my $what = "replaced, @faults";

    $t->stop_process($worker);

    my ($id, $key) = upload($fit);
    my $job = complete($id, $size, checksum => sha256_hex($fit))
              ->json->{analysis_job_id};

    is($t->url('PUT', $t->presign(method => 'PUT', key => $key),
               body => $other)->status, 200, "$what: put");

    faults('GET', @faults);
    $worker = $t->sidecar(['work'], \%faulty);
    settles($job, 'failed', $error, $what);
    is($t->sql('SELECT fit_analysis IS NULL FROM activities'
               . ' WHERE fit_file_key = $1', $key), 't',
       "$what: nothing is said of it");

    # what is there now can be completed, and is looked at before the next one

    faults();
    is(complete($id, $size)->status, 200, "$what: completed again");
    ok($t->wait_for(sub {
        return $t->sql("SELECT count(*) FROM edge_jobs WHERE kind = 'analyze'"
                       . " AND state IN ('queued', 'running')") == 0;
    }, 10), "$what: and judged again");
}

# the store names a wrong ETag: what was seen then is not what is read later

my ($id, $key) = upload($fit);

faults('HEAD', 'other_etag');

my $r = complete($id, $size);

settles($r->json->{analysis_job_id}, 'failed',
        'the object was changed after it was confirmed', 'wrong ETag');
faults();
$r = complete($id, $size);
settles($r->json->{analysis_job_id}, 'analyzed', '', 'wrong ETag, once more');

# the object goes between completion and analysis

$t->stop_process($worker);
($id, $key) = upload($fit);
$r = complete($id, $size);
unlink("$t->{home}/store/fit-files/$key");
$worker = $t->sidecar(['work'], \%faulty);
settles($r->json->{analysis_job_id}, 'failed',
        'the object is not in the store any more', 'missing');

# removal: the client is told the truth, and it is done when it can be

for my $faults ([ '500', '500' ], [ 'reset', 'reset' ], [ '403' ]) {
    my $what = "DELETE, @$faults";

    ($id, $key) = upload($fit);
    $r = complete($id, $size);
    settles($r->json->{analysis_job_id}, 'analyzed', '', "$what: before");

    faults('DELETE', @$faults);
    is($t->request('DELETE', '/api/v1/upload/activity/'
                   . $r->json->{activity_id} . '/fit', token => $token)
       ->status, 200, $what);
    is($t->get('/api/v1/upload/activity/' . $r->json->{activity_id}
               . '/download-url', token => $token)->status, 404,
       "$what: nobody can read it");

    faults();
    $t->sql("UPDATE edge_jobs SET lease_until = now(), run_at = now() WHERE"
            . " kind = 'delete_object' AND object_key = \$1", $key);
    wake();
    ok($t->wait_for(sub { return !-e "$t->{home}/store/fit-files/$key" }, 10),
       "$what: gone in the end");
}

$t->done();

###############################################################################

sub upload
{
    my ($bytes) = @_;

    my ($ask, $put) = $t->upload($bytes, token => $token);

    $put && $put->status == 200 or die $ask->raw;

    return ($ask->json->{activity_id}, $ask->json->{key});
}


sub complete
{
    my ($id, $size, %more) = @_;

    return $t->post('/api/v1/upload/complete', token => $token, timeout => 15,
                    json => { activity_id => $id, file_size => $size, %more });
}


# the next requests of the method meet these faults, one each; then it is well

sub faults
{
    my ($method, @faults) = @_;

    $t->write_file($plan, join('', map { "$method $_\n" } @faults));
    $t->forget_requests($line);
}


sub next_fault
{
    my ($method) = @_;

    my ($first, @rest) = split(/^/, $t->read_file($plan) // '');

    return 'none' unless ($first // '') =~ /^$method (\w+)$/;

    my $fault = $1;

    $t->write_file($plan, join('', @rest));

    return $fault;
}


sub through
{
    my ($request, $client) = @_;

    my $fault = next_fault($request->{method});

    return undef if $fault eq 'reset';
    return [$fault, {}, 'x' x 200] if $fault =~ /^\d+$/;
    return "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nConte" if $fault eq 'half_head';
    return "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 1"
        if $fault eq 'half_size';
    return [500, { ETag => '"x"' }, 'x'] if $fault eq '500_of_it';
    return endless($client) if $fault eq 'endless';
    sleep(7) if $fault eq 'hang';

    my %headers = map { $_ => $request->{headers}{$_}[0] }
                  keys %{$request->{headers}};

    delete $headers{'if-match'} if $fault =~ /no_match/;

    my $raw = $t->request($request->{method}, $request->{target},
                          headers => { %headers, connection => 'close' })->raw;

    $raw =~ s/^ETag: .*?\r\n//mi if $fault =~ /no_etag/;
    $raw =~ s/^ETag: .*?\r\n/ETag: "other"\r\n/mi if $fault eq 'other_etag';
    $raw =~ s/^Content-Length: .*?\r\n//mi if $fault eq 'no_size';
    $raw =~ s/^Content-Length: .*?\r\n/Content-Length: 12x\r\n/mi
        if $fault eq 'odd_size';

    return substr($raw, 0, length($raw) - $size / 2) if $fault eq 'half';

    if ($fault eq 'dribble') {
        syswrite($client, substr($raw, 0, length($raw) - $size / 2));
        sleep(8);
        return undef;
    }

    return $raw;
}


sub endless
{
    my ($client) = @_;

    syswrite($client, "HTTP/1.1 200 OK\r\nETag: \"x\"\r\n\r\n");

    1 while syswrite($client, 'x' x 65536);

    return undef;
}


sub settles
{
    my ($job, $end, $error, $what) = @_;

    my $sql = 'SELECT CASE WHEN j.state = \'queued\' AND j.retries > 0'
              . " THEN 'again' WHEN j.state = 'queued' THEN 'waits'"
              . " WHEN j.state = 'running' THEN 'runs'"
              . ' ELSE a.fit_file_status END, coalesce(j.last_error, \'\')'
              . ' FROM edge_jobs j JOIN activities a ON a.id = j.activity_id'
              . ' WHERE j.id = $1';
    my $got;

    $t->wait_for(sub {
        $got = $t->sql($sql, $job);
        return $got !~ /^(?:waits|runs|analyzing)/;
    }, 20);

    is($got, "$end|$error", $what);
}


sub again
{
    my ($job) = @_;

    $t->sql('UPDATE edge_jobs SET run_at = now(), retries = 0 WHERE id = $1',
            $job);
    wake();
}


sub wake
{
    $t->{redis}->cmd('LPUSH', 'edge:jobs:wake', 1);
}

###############################################################################
