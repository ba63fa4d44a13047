#!/usr/bin/perl

# Runs what t/unit compiles to, and replays the corpora of t/fuzz.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Basename qw/ basename /;
use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();
my $build = Test::Runcoach::build();

###############################################################################

my @sources = map { basename($_, '.c') } sort glob("$FindBin::Bin/unit/*.c");

ok(scalar(@sources), 'there are unit tests');

# every file of lib/ has one

for my $file (sort glob("$FindBin::Bin/../ngx_runcoach_module/lib/*.c")) {
    my $name = basename($file, '.c') =~ s/^runcoach_//r;

    ok(scalar(grep { $_ eq $name } @sources), "lib/$name has a unit test");
}

for my $name (@sources) {
    tap($name, "$build/unit/$name");
}

for my $file (sort glob("$FindBin::Bin/fuzz/*.c")) {
    my $name = basename($file, '.c');

    next if $name eq 'standalone';

    my $corpus = "$FindBin::Bin/fuzz/corpus/$name";

    my @texts = glob("$corpus/*");

    ok(scalar(@texts), "fuzz $name has a corpus");

    tap("fuzz $name", "$build/replay/$name", $corpus);
}

$t->done();

###############################################################################

# a program that prints TAP, as one subtest

sub tap
{
    my ($name, $program, @args) = @_;

    subtest $name => sub {
        if (!-x $program) {
            fail("$program is not built: make unit replay");
            return;
        }

        my ($status, $out) = $t->command([$program, @args], timeout => 120,
                                         cwd => Test::Runcoach::root());
        my $tests = 0;
        my $planned;

        for my $line (split(/\n/, $out)) {
            if ($line =~ /^(not )?ok\b(?: \d+)?(?: - )?(.*)/) {
                my ($not, $what) = ($1, $2);

                ok(!$not, $what =~ /\D/ ? $what : "\"$what\"");
                $tests++;

            } elsif ($line =~ /^1\.\.(\d+)/) {
                $planned = $1;

            } elsif ($line =~ /^# *(.*)/) {
                diag($1) if $status;

            } elsif (length $line) {
                diag($line);
            }
        }

        is($tests, $planned, 'as many as planned');
        is($status, 0, 'exit status');
    };
}

###############################################################################
