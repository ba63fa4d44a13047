#!/usr/bin/perl

# What the README shows as a configuration is one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();
my $readme = Test::Runcoach::slurp($t->root() . '/README.md');

my %env = (
    CLERK_PUBLISHABLE_KEY =>
        'pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk',
    CLERK_JWT_KEY => $t->key_pem('issuer'),
    REDIS_URL => 'redis://127.0.0.1:1/0',
    SUPABASE_JWT_SECRET => 'a secret of Supabase, 40 characters long',
    JWT_SECRET => 'a secret of our own, of 40 characters...',
);

my @blocks = $readme =~ /^```nginx\n(.*?)^```/gms;

cmp_ok(scalar(@blocks), '>=', 3, 'the README has configurations');

for my $n (1 .. @blocks) {
    my $conf = $blocks[$n - 1];

    if ($conf !~ /^http \{/m) {
        $conf = "runcoach_zone  readme:1m;\n$conf"
            unless $conf =~ /runcoach_zone/;
        $conf = "events {}\nhttp {\n$conf\n}\n";
    }

    my $dir = $t->dir();

    $conf =~ s/^load_module.*\n//m;
    $conf =~ s{/var/cache/nginx/jwks}{$dir/jwks};

    $conf = "%%TEST_GLOBALS%%\n$conf";
    $conf =~ s/listen\s+8080;/listen  127.0.0.1:8080;/;

    my ($status, $output) = $t->configtest($t->expand($conf), env => \%env);

    is($status, 0, "configuration $n of the README") or diag($output);
}

$t->done();

###############################################################################
