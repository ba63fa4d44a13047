#!/usr/bin/perl

# AWS's presigner agrees with ours: for the same parameters the URLs are the
# same.  It adds two parameters to each URL (x-id, X-Amz-Content-Sha256) which
# nobody needs; told to sign these as well, ours makes the same signature.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ json_encode json_decode /;

my $t = Test::Runcoach->new();
my $program = Test::Runcoach::build() . '/presign';

-x $program or die "$program is not built: make $program\n";

my $reason = $t->peer_missing('@aws-sdk/s3-request-presigner');

$t->skip_all("no \@aws-sdk/s3-request-presigner: $reason") if $reason;

my %r2 = (
    endpoint => 'https://' . 'a' x 32 . '.r2.cloudflarestorage.com',
    bucket => 'fit-files',
    region => 'auto',
    access_key => 'AKIAIOSFODNN7EXAMPLE',
    secret_key => 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    time => 1795166400,
    expires => 3600,
);

my $key = 'users/user_2abc/activities/7501325268319012.fit';
my %type = ('content-type' => 'application/octet-stream');
my $sum = '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=';

my $true = json_decode('[true]')->[0];

my @cases = map { { %r2, %$_ } } (
    { method => 'PUT', key => $key },
    { method => 'GET', key => $key, expires => 300 },
    { method => 'HEAD', key => $key, expires => 60 },
    { method => 'DELETE', key => $key, expires => 60 },
    { method => 'PUT', key => $key, headers => { %type } },
    { method => 'PUT', key => $key,
      headers => { %type, 'content-length' => '140000' } },
    { method => 'PUT', key => $key,
      headers => { %type, 'x-amz-checksum-sha256' => $sum } },
    { method => 'GET', key => "users/7/a b+c~\x{e9}/\x{b7ec}\x{b2dd}.fit" },
    { method => 'PUT', key => q{!"#$%&'()*,:;<=>?@[]^_`{|}.fit} },
    { method => 'GET', key => 'x' x 1000 },
    { method => 'GET', key => $key, expires => 1 },
    { method => 'GET', key => $key, expires => 604800 },
    { method => 'GET', key => $key, region => 'us-east-1' },
    { method => 'GET', key => $key, session_token => 'jwt/tok+en/==' },
    { method => 'GET', key => $key, time => 1795132799 },
    { method => 'GET', key => $key, time => 1795132800 },
    { method => 'PUT', key => $key, endpoint => 'http://127.0.0.1:8080' },
    { method => 'PUT', key => $key, endpoint => 'https://example.com:8443' },
    { method => 'PUT', key => $key, secret_key => 'a/b+c=' x 10 },
    { method => 'PUT', key => $key, bucket => 'a.b-c' },
    { method => 'PUT', key => $key, headers => { 'if-none-match' => '*' } },
    { method => 'PUT', key => $key, headers => {
          'x-amz-meta-device' => 'fenix 7', 'x-amz-meta-a-b' => 'x=y/z' } },
    { method => 'PUT', key => $key, headers => { %type,
          'content-length' => '140000', 'if-none-match' => '*',
          'x-amz-checksum-sha256' => $sum, 'x-amz-meta-uid' => '7' } },
    { method => 'GET', key => $key, query => {
          'response-content-disposition' => 'attachment; filename="run 1.fit"',
      } },
    { method => 'GET', key => $key, virtual => $true },
    { method => 'PUT', key => $key, virtual => $true, headers => { %type } },
    { method => 'GET', key => $key, virtual => $true,
      endpoint => 'http://store.test:8443' },
    map { { method => 'GET', key => $key, endpoint => 'https://' . 'a' x 32
                                          . ".$_.r2.cloudflarestorage.com" } }
        qw/ eu fedramp /,
);

###############################################################################

my ($theirs, $why) = $t->peer_json('aws.mjs', '@aws-sdk/s3-request-presigner',
                                   \@cases);

ok($theirs, 'the presigner answers') or diag($why);

# what they added is told to ours

for my $i (0 .. $#cases) {
    my %args = args($theirs->[$i]);

    $cases[$i]{query} = { %{$cases[$i]{query} || {}}, map { $_ => $args{$_} }
                          grep { exists $args{$_} }
                          qw/ x-id X-Amz-Content-Sha256 / };
}

my $ours = json_decode(scalar $t->command([$program],
                       in => $t->write_file('cases', json_encode(\@cases))));

for my $i (0 .. $#cases) {
    my $case = $cases[$i];
    my $name = "$case->{method} " . substr($case->{key}, 0, 40) . ' '
               . join(' ', map { "$_=$case->{$_}" }
                           grep { $case->{$_} ne $r2{$_} }
                           grep { exists $r2{$_} } sort keys %$case);

    utf8::encode($name);

    my %a = args($ours->[$i]);
    my %b = args($theirs->[$i]);

    is($a{'X-Amz-Signature'}, $b{'X-Amz-Signature'}, "$name: signature");
    is_deeply(\%a, \%b, "$name: parameters");
    is($ours->[$i] =~ s/\?.*//r, $theirs->[$i] =~ s/\?.*//r, "$name: path");
    is($ours->[$i], $t->presign(%$case), "$name: and as the tests sign")
        unless $case->{virtual};
}

$t->done();

###############################################################################

sub args
{
    my ($url) = @_;

    return () unless defined $url;

    return map { s/%([0-9A-F]{2})/chr(hex($1))/ger }
           map { split(/=/, $_, 2) } split(/&/, $url =~ s/^[^?]*\?//r);
}

###############################################################################
