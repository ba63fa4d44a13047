#!/usr/bin/perl

# Tests for what operators call: jobs, replay, reconcile; and for the purge.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::MD5 qw/ md5_hex /;
use File::Find;
use File::Path qw/ make_path /;
use POSIX qw/ strftime /;
use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();
my $root = $t->dir() . '/bucket';

make_path($root);

my $daemon = $t->http_daemon(\&store, port => 8098);

$t->edge(work => 0, env => {
    R2_ENDPOINT_URL => 'http://' . $t->host(8098),
    RATE_LIMIT_REQUESTS => 60000,
    RATE_LIMIT_BURST => 1000,
});
$t->edge_silent();

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $token = $t->token(sub => 'user_j');

$t->webhook($t->user_event('user.created', 'user_j'));

my $me = $t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_j'");

###############################################################################

# jobs

my ($first, $key) = file();
my $job = $t->sql("SELECT id FROM edge_jobs WHERE kind = 'analyze'");

like(command('jobs', 'list'),
     qr/^ID .*ERROR\n$job +analyze +queued +0 .* $me +$first +\Q$key\E +-\n\z/s,
     'list');
is(command('jobs', 'list', 'dead') =~ tr/\n//, 1, 'list: none dead');
like(command('jobs', 'requeue', $job), qr/^$job requeued$/, 'requeue');

$t->sql("UPDATE edge_jobs SET state = 'running', lease_until = now()"
        . " + interval '1 minute' WHERE id = \$1", $job);
like(command(1, 'jobs', 'requeue', $job), qr/^$job is running$/,
     'requeue: running');

$t->sql('SELECT edge_bury_job($1, $2)', $job, "bad\nluck");
like(command('jobs', 'list'), qr/^$job .* dead .* "bad luck"$/m,
     'list: dead');
is($t->sql('SELECT fit_file_status FROM activities WHERE id = $1', $first),
   'failed', 'dead: the activity has failed');
like(command('jobs', 'requeue', '--dead'), qr/^$job requeued\n1 dead$/,
     'requeue: all that are dead');
is($t->sql('SELECT state, attempts, retries, last_error FROM edge_jobs'
           . ' WHERE id = $1', $job), 'queued|0|0|', 'requeue: as new');
is($t->sql('SELECT fit_file_status FROM activities WHERE id = $1', $first),
   'uploaded', 'requeue: the activity waits');
like(command(1, 'jobs', 'requeue', 999999), qr/no such job/, 'requeue: none');

$t->sql("UPDATE activities SET fit_file_etag = 'x' WHERE id = \$1", $first);
like(command(1, 'jobs', 'requeue', $job), qr/replaced or deleted/,
     'requeue: its file is another');
$t->sql('UPDATE activities SET fit_file_etag = $2 WHERE id = $1', $first,
        md5_hex($fit));

for my $args ([], ['list', 'x'], ['requeue'], ['requeue', 'x'],
              ['requeue', '1;'], ['drop'])
{
    my ($status) = $t->sidecar_run(['jobs', @$args]);

    is($status, 2, "jobs @$args: usage");
}

my ($status, $out) = $t->sidecar_run(['jobs', 'list'], { DATABASE_URL => '' });

is($status, 1, 'no database');
like($out, qr/DATABASE_URL/, 'no database: named');

###############################################################################

# replay: a conflict which a human has settled

$t->sql("INSERT INTO users (email) VALUES ('old\@example.com')");
$t->webhook($t->user_event('user.created', 'user_r', email => 'old@example.com',
                           unverified => 1), id => 'msg_r1');
is($t->sql("SELECT outcome FROM edge_inbox WHERE svix_id = 'msg_r1'"),
   'conflict', 'conflict');
like(command(1, 'replay', 'msg_r1'), qr/was conflict, is conflict/,
     'replay: still one');
$t->sql("UPDATE users SET email = 'new\@example.com'"
        . " WHERE email = 'old\@example.com'");
like(command('replay', 'msg_r1'), qr/was conflict, is applied .*created/,
     'replay: applied');
is($t->sql("SELECT email FROM users WHERE clerk_user_id = 'user_r'"),
   'old@example.com', 'replay: the row');
is($t->sql("SELECT count(*), max(outcome) FROM edge_inbox"
           . " WHERE svix_id = 'msg_r1'"), '1|applied', 'replay: the inbox');

# not against what has come since

$t->webhook($t->user_event('user.updated', 'user_r', first_name => 'New',
                           email => 'old@example.com',
                           ms => 1000 * (time() + 100)));
like(command(1, 'replay', 'msg_r1'), qr/is stale/, 'replay: something newer');
like($t->sql("SELECT display_name FROM users WHERE clerk_user_id = 'user_r'"),
     qr/^New/, 'replay: the newer one stands');

$t->webhook($t->user_event('user.deleted', 'user_r'), id => 'msg_r3');
like(command(1, 'replay', 'msg_r1'), qr/tombstoned|not been kept/,
     'replay: deleted');
like(command(1, 'replay', 'msg_none'), qr/no such event/, 'replay: none');

is(($t->sidecar_run(['replay']))[0], 2, 'replay: usage');

###############################################################################

# purge

$t->webhook($t->user_event('user.created', 'user_p'), id => 'msg_p');

for my $case ([ 20, 1 ], [ 9, 0 ]) {
    my ($days, $kept) = @$case;

    $t->sql("UPDATE edge_inbox SET received_at = now() - interval '10 days'"
            . " WHERE svix_id = 'msg_p'");
    $t->sql("UPDATE edge_jobs SET run_at = now() + interval '1 day'"
            . " WHERE state = 'queued'");

    my $worker = $t->sidecar(['work'], { WEBHOOK_PAYLOAD_DAYS => $days });

    $t->wait_for(sub {
        return (Test::Runcoach::slurp("$t->{dir}/sidecar-work.out") // '')
               =~ /purged.*payloads=@{[ 1 - $kept ]}/;
    }, 10);
    $t->stop_process($worker);

    is($t->sql("SELECT count(payload) FROM edge_inbox"
               . " WHERE svix_id = 'msg_p'"), $kept, "purge after $days days");
}

like(command(1, 'replay', 'msg_p'), qr/body has not been kept/,
     'replay: purged');

###############################################################################

# rows and bucket

like(command('reconcile'), qr/^rows=1 objects=1 missing=0 changed=0 left=0 orphans=0 pending=0 repaired=0$/m,
     'nothing to reconcile');

my ($lost, $lost_key) = file();
my ($changed, $changed_key) = file();
my ($deleted, $deleted_key) = file();

unlink("$root/$lost_key");
write_object($changed_key, "$fit!");

$t->request('DELETE', "/api/v1/upload/activity/$deleted/fit", token => $token);
write_object($deleted_key, $fit);

my ($ask) = $t->upload($fit, token => $token);
my $orphan = $ask->json->{key};

write_object('users/nobody/activities/5.fit', 'x');
write_object('other/&<>"thing', 'x');

$t->sql("INSERT INTO edge_jobs (kind, object_key, dedupe_key, run_at) VALUES"
        . " ('check_upload', 'users/user_j/activities/6.fit',"
        . " 'check_upload:users/user_j/activities/6.fit', now()"
        . " + interval '1 day')");
write_object('users/user_j/activities/6.fit', 'x');

$out = command(1, 'reconcile');
like($out, qr/^rows=3 objects=7 missing=1 changed=1 left=1 orphans=3 pending=1 repaired=0$/m, 'reconcile') or diag($out);
like($out, qr/^missing activity=$lost key=\Q$lost_key\E$/m, 'missing');
like($out, qr/^changed activity=$changed key=\Q$changed_key\E /m, 'changed');
like($out, qr/^left key=\Q$deleted_key\E /m, 'left');
like($out, qr/^orphan key=\Q$orphan\E size=\d+ modified=2/m, 'orphan');
like($out, qr/^orphan key="other\/&<>\\"thing"/m, "somebody else's object");
like($out, qr/^rows: 3$/m, 'progress');

$out = command(1, 'reconcile', '--repair');
like($out, qr/ repaired=5$/m, 'repair') or diag($out);

is($t->sql('SELECT fit_file_status, fit_file_key IS NULL, has_fit_file'
           . ' FROM activities WHERE id = $1', $lost), 'missing|t|f',
   'repair: missing');
is($t->sql('SELECT fit_file_status, fit_file_etag FROM activities'
           . ' WHERE id = $1', $changed), 'uploaded|' . md5_hex("$fit!"),
   'repair: changed');

my $worker = $t->sidecar(['work'], { SIDECAR_UPLOAD_GRACE => 0 });

ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM activities WHERE fit_file_key = \$1"
                   . " AND fit_file_status = 'analyzed'", $orphan) == 1;
}, 60), 'repair: the orphan is completed');
ok($t->wait_for(sub { return !-e "$root/$deleted_key" }, 60),
   'repair: what was left is removed');
$t->stop_process($worker);

$out = command(1, 'reconcile');
like($out, qr/missing=0 changed=0 left=0 orphans=2 pending=1/, 'after that')
    or diag($out);

# the wrong bucket

$t->sql('INSERT INTO activities (user_id, garmin_id, activity_type,'
        . ' start_time, r2_key) SELECT $1::integer, i, \'running\', now(),'
        . " 'users/many/' || i || '.fit' FROM generate_series(1, 40) i", $me);
like(command(1, 'reconcile', '--repair'), qr/right bucket.*repaired=[01]$/s,
     'the wrong bucket: nothing is marked');
is($t->sql("SELECT count(*) FROM activities WHERE fit_file_status = 'missing'"),
   1, 'the wrong bucket: indeed');
like(command(1, 'reconcile', '--repair', '--force'), qr/repaired=4[01]$/m,
     'the wrong bucket: by force');

# a store that does not list

rename($root, "$root.away");
make_path("$root/unlisted");
rename("$root.away/users", "$root/users");
$out = command('reconcile');
like($out, qr/does not list.*rows=3 objects=3 missing=0/s, 'no list')
    or diag($out);
is(($t->sidecar_run(['reconcile', 'x']))[0], 2, 'reconcile: usage');

$t->done();

###############################################################################

# command([status,] @args): what it prints

sub command
{
    my $expect = $_[0] =~ /^\d+$/ ? shift : 0;
    my ($status, $out) = $t->sidecar_run([@_]);

    is($status, $expect, "@_: exit status") or diag($out);

    return $out;
}


sub file
{
    my ($ask, $put) = $t->upload($fit, token => $token);

    $put->status == 200 or die $put->raw;

    my $r = $t->post('/api/v1/upload/complete', token => $token, json => {
        activity_id => $ask->json->{activity_id},
        file_size => length($fit) });

    $r->status == 200 or die $r->raw;

    return ($r->json->{activity_id}, $ask->json->{key});
}


sub write_object
{
    my ($key, $bytes) = @_;

    my ($dir) = "$root/$key" =~ m{^(.*)/};

    make_path($dir);
    $t->write_file("$root/$key", $bytes);
}


# a bucket in a directory, which gives pages of three and believes nobody

sub store
{
    my ($request) = @_;

    my ($path, $args) = split(/\?/, $request->{target}, 2);
    my %args = map { my ($n, $v) = split(/=/, $_, 2);
                     ($n => ($v // '') =~ s/%(..)/chr(hex($1))/ger) }
               split(/&/, $args);
    my $headers = $request->{headers};

    return [403, {}, ''] unless signed($request, $path, $args, \%args);

    return list(\%args) if $path eq '/fit-files';

    my $key = $path =~ s{^/fit-files/}{}r =~ s/%(..)/chr(hex($1))/ger;
    my $file = "$root/$key";

    if ($request->{method} eq 'PUT') {
        write_object($key, $request->{body});
        return [200, {}, ''];
    }

    if ($request->{method} eq 'DELETE') {
        unlink($file);
        return [204, {}, ''];
    }

    return [404, {}, ''] unless -e $file;

    my $bytes = $t->read_file($file);
    my $etag = md5_hex($bytes);
    my $match = ($headers->{'if-match'} || [])->[0];

    return [412, {}, ''] if $match && $match ne "\"$etag\"";

    return [200, { ETag => "\"$etag\"", 'Last-Modified' =>
                   strftime('%a, %d %b %Y %H:%M:%S GMT',
                            gmtime((stat($file))[9])) }, $bytes];
}


sub signed
{
    my ($request, $path, $args, $values) = @_;

    my ($signature) = $args =~ /&X-Amz-Signature=(\w+)$/ or return 0;
    my $query = join('&', sort grep { !/^X-Amz-Signature=/ }
                               split(/&/, $args));
    my $names = $values->{'X-Amz-SignedHeaders'};
    my $scope = $values->{'X-Amz-Credential'} =~ s{^local/}{}r;
    my $secret = 'AWS4' . 'test-secret-of-the-local-store';

    require Digest::SHA;

    my $canonical = join("\n", $request->{method}, $path, $query,
                         (map { "$_:" . $request->{headers}{$_}[0] }
                          split(/;/, $names)), '', $names,
                         'UNSIGNED-PAYLOAD');
    my $key = $secret;

    $key = Digest::SHA::hmac_sha256($_, $key) for split(m{/}, $scope);

    return Digest::SHA::hmac_sha256_hex(join("\n", 'AWS4-HMAC-SHA256',
        $values->{'X-Amz-Date'}, $scope, Digest::SHA::sha256_hex($canonical)),
        $key) eq $signature;
}


sub list
{
    my ($args) = @_;

    return [501, {}, '<Error><Code>NotImplemented</Code></Error>']
        if -e "$root/unlisted";

    my @keys;

    find({ no_chdir => 1, wanted => sub {
        push @keys, $File::Find::name =~ s{^\Q$root\E/}{}r if -f;
    } }, $root);

    my $after = $args->{'continuation-token'} // '';
    my @page = grep { $_ gt $after } sort @keys;
    my $more = @page > 3;

    @page = @page[0 .. 2] if $more;

    my $xml = join('', map {
        my $bytes = $t->read_file("$root/$_");

        '<Contents><Key>' . escape($_) . '</Key><LastModified>'
        . strftime('%Y-%m-%dT%H:%M:%S.000Z', gmtime((stat("$root/$_"))[9]))
        . '</LastModified><ETag>&quot;' . md5_hex($bytes) . '&quot;</ETag>'
        . '<Size>' . length($bytes) . '</Size></Contents>'
    } @page);

    return [200, { 'Content-Type' => 'application/xml' },
            "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3\">"
            . '<IsTruncated>' . ($more ? 'true' : 'false') . '</IsTruncated>'
            . ($more ? '<NextContinuationToken>' . escape($page[-1])
                       . '</NextContinuationToken>' : '')
            . "$xml</ListBucketResult>"];
}


sub escape
{
    my %names = ('&' => 'amp', '<' => 'lt', '>' => 'gt', '"' => 'quot');

    return $_[0] =~ s/([&<>"])/&$names{$1};/gr;
}

###############################################################################
