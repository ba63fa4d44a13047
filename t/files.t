#!/usr/bin/perl

# Tests for "runcoach-sidecar migrate-files": files of the old scheme go to the
# store, whole, once, and nothing is lost on the way.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha256_hex /;
use File::Path qw/ make_path /;
use IO::Compress::Gzip qw/ gzip $GzipError /;
use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

$t->edge(work => 0, env => { MAX_FILE_SIZE => 100000 });

my $fit = $t->read_file("$FindBin::Bin/data/activity.fit");
my $hash = sha256_hex($fit);
my $root = "$t->{dir}/old";

gzip(\$fit => \my $packed) or die "gzip: $GzipError\n";
make_path("$root/2025");
chmod(0777, $root, "$root/2025");
$t->webhook($t->user_event('user.created', 'user_m'));

my $me = $t->sql("SELECT id FROM users WHERE clerk_user_id = 'user_m'");
my $n = 0;

$t->write_file("$root/2025/a.fit", $fit);
$t->write_file("$root/2025/b.fit.gz", $packed);
$t->write_file("$root/large.fit", 'x' x 100001);
$t->write_file("$root/cut.fit.gz", substr($packed, 0, 100));
$t->write_file("$root/empty.fit", '');

my %id = (
    blob     => row(content => $fit, hash => $hash, parsed => 1),
    blob_gz  => row(content => $packed, hash => uc($hash)),
    packed   => row(content => $packed, hash => sha256_hex($packed)),
    unhashed => row(content => $fit),
    path     => row(path => '2025/a.fit', hash => $hash),
    path_gz  => row(path => "$root/2025/b.fit.gz", hash => $hash),
);
my %bad = (
    damaged => row(content => "$fit!", hash => $hash),
    missing => row(path => '2025/none.fit'),
    large   => row(path => 'large.fit'),
    cut     => row(path => 'cut.fit.gz'),
    empty   => row(path => 'empty.fit'),
    dir     => row(path => '2025'),
    taken   => row(content => $fit),
);
my $kept = row(content => $fit);
my $deleted = row(content => $fit);

$t->sql("UPDATE activities SET r2_key = 'elsewhere' WHERE id = \$1", $kept);
$t->sql("UPDATE activities SET fit_file_status = 'deleted' WHERE id = \$1",
        $deleted);
is($t->url('PUT', $t->presign(method => 'PUT', key => key($bad{taken})),
           body => 'another')->status =~ /^2/, 1, 'one key is taken');

###############################################################################

# the store is away: all fail, nothing is lost

my ($status, $out) = files({ R2_ENDPOINT_URL => 'http://' . $t->host(8098) });

is($status, 1, 'the store is away');
like($out, qr/^moved=0 failed=13 queued=0$/m, 'the store is away: said');
is($t->sql('SELECT count(fit_file_key) FROM activities'), 0,
   'the store is away: rows are as they were');

# an attempt that broke off between the store and the row

is($t->url('PUT', $t->presign(method => 'PUT', key => key($id{blob_gz})),
           body => $fit)->status =~ /^2/, 1, 'one broke off');

($status, $out) = files();
is($status, 1, 'moved, but for some');
like($out, qr/^moved=6 failed=7 queued=5$/m, 'moved: said') or diag($out);
like($out, qr/^files: 13 of 13, 100 %$/m, 'moved: progress');

for my $name (sort keys %id) {
    my $id = $id{$name};

    is($t->sql('SELECT fit_file_key, r2_key, fit_file_size, fit_file_checksum,'
               . ' fit_file_status, storage_provider FROM activities'
               . ' WHERE id = $1', $id),
       join('|', key($id), key($id), length($fit), $hash,
            $name eq 'blob' ? 'analyzed' : 'uploaded', 'r2'), "$name: row");
    ok($t->url('GET', $t->presign(key => key($id)))->body eq $fit,
       "$name: the same bytes");
}

my %reason = (damaged => qr/hash/, missing => qr/No such file/,
              large => qr/MAX_FILE_SIZE/, cut => qr/damaged/,
              empty => qr/empty/, dir => qr/no file/,
              taken => qr/another object/);

like($out, qr/^failed activity=$bad{$_} .*$reason{$_}/m, "$_: said")
    for sort keys %bad;

is($t->sql('SELECT count(fit_file_key) FROM activities WHERE id = ANY ($1)',
           '{' . join(',', values %bad, $kept, $deleted) . '}'), 0,
   'others are as they were');
is($t->sql('SELECT count(fit_file_content) FROM activities'), 8,
   'nothing is removed');
ok(-e "$root/2025/a.fit", 'nor a file');

# again: what is done is done

($status, $out) = files();
like($out, qr/^moved=0 failed=7 queued=0$/m, 'again');

# what was not analyzed is

my $worker = $t->sidecar(['work']);

ok($t->wait_for(sub {
    return $t->sql("SELECT count(*) FROM activities"
                   . " WHERE fit_file_status = 'analyzed'") == 6;
}, 10), 'analyzed');
$t->stop_process($worker);

# and removed where it was

my $blob = row(content => $fit, hash => $hash);
my $file = row(path => '2025/a.fit');

($status, $out) = files({}, '--remove');
like($out, qr/^moved=2 failed=7/m, 'remove') or diag($out);
is($t->sql('SELECT fit_file_content IS NULL, fit_file_path IS NULL,'
           . ' fit_file_key IS NULL FROM activities WHERE id = $1', $_),
   't|t|f', 'remove: row') for $blob, $file;
ok(!-e "$root/2025/a.fit", 'remove: file');
ok(-e "$root/large.fit", 'remove: not what was not moved');

is(($t->sidecar_run(['migrate-files', @$_]))[0], 2, "usage: @$_")
    for ['x'], ['--root'];

$t->done();

###############################################################################

sub row
{
    my (%opt) = @_;

    return $t->sql('INSERT INTO activities (user_id, garmin_id, activity_type,'
        . ' start_time, fit_file_content, fit_file_path, fit_file_hash,'
        . " has_fit_file) VALUES (\$1::integer, \$2::bigint, 'running', now(),"
        . " decode(\$3, 'hex'), \$4, \$5, \$6::boolean) RETURNING id", $me,
        ++$n, defined $opt{content} ? unpack('H*', $opt{content}) : undef,
        $opt{path}, $opt{hash}, $opt{parsed} ? 'true' : 'false');
}


sub key { return "users/$me/activities/$_[0].fit" }


sub files
{
    my ($env, @args) = @_;

    return $t->sidecar_run(['migrate-files', '--root', $root, @args], $env);
}

###############################################################################
