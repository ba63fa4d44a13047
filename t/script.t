#!/usr/bin/perl

# The script that Redis runs against a model in integers, where the script has
# doubles only.  Several keys at once, all or none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha1_hex /;
use Test::More;
use Test::Runcoach;

my $OPERATIONS = $ENV{RUNCOACH_TEST_OPERATIONS} || 12000;

my $t = Test::Runcoach->new();
my $redis = $t->redis();
my $script = script();
my $sha1 = $redis->cmd('SCRIPT', 'LOAD', $script);

srand(20240229);

###############################################################################

is($sha1, sha1_hex($script), 'the script loads');

my @rate = (5, 1000000, 10 * 1000000);
my $time = 1700000000000000;

is_deeply(script_take($time, [ 'one', @rate, 1 ]), [ 1, 1, 9, 0, 200000 ],
          'the first request');
is($redis->cmd('GET', 'one'), "1000000 $time 1000000", 'what it leaves');
cmp_ok($redis->cmd('PTTL', 'one'), '<=', 201, 'and for how long');

is_deeply(script_take($time, [ 'one', @rate, 9 ]), [ 1, 1, 0, 0, 2000000 ],
          'several at once');
is_deeply(script_take($time, [ 'one', @rate, 1 ], [ 'two', @rate, 1 ]),
          [ 0, 0, 0, 200000, 2000000, 1, 10, 0, 0 ], 'one of two denies');
is($redis->cmd('EXISTS', 'two'), 0, 'and the other is not charged');
is_deeply(script_take($time, [ 'two', @rate, 11 ]), [ 0, 0, 10, -1, 0 ],
          'more than the burst is never allowed');
is_deeply(script_take($time, [ 'two', @rate, 0 ]), [ 1, 1, 10, 0, 0 ],
          'a look');
is($redis->cmd('EXISTS', 'two'), 0, 'writes nothing');

# a clock one hour back: the bucket follows it even though it denies

is_deeply(script_take($time - 3600000000, [ 'one', @rate, 1 ]),
          [ 0, 0, 0, 200000, 2000000 ], 'a step back denies');
is_deeply(script_take($time - 3600000000 + 200000, [ 'one', @rate, 1 ]),
          [ 1, 1, 0, 0, 2000000 ], 'and refills from there');

# the same deficit in another unit of time

$redis->cmd('SET', 'plan', "5000000 $time 1000000");
is_deeply(script_take($time, [ 'plan', 10000, 86400000000, 20 * 86400000000,
                               1 ]),
          [ 1, 1, 14, 0, 51840000 ], 'another unit of time');

for my $garbage ('', 'x', '1 2', '-5 6 7', '1e9 2 3', '1 2 0', '1.5 2 3',
                 ('9' x 30) . ' 2 3', "1 2 3\n", '1 ' . ('9' x 30) . ' 3')
{
    $redis->cmd('SET', 'garbage', $garbage);
    is(script_take($time, [ 'garbage', @rate, 1 ])->[2], 9,
       'garbage is a full bucket: ' . substr($garbage =~ s/\n/\\n/r, 0, 12));
}

$redis->cmd('DEL', 'list');
$redis->cmd('LPUSH', 'list', 'x');
ok(!eval { script_take($time, [ 'list', @rate, 1 ]) }
   && $@ =~ /WRONGTYPE/, 'a foreign key is not touched');

# Redis' own clock, and no key without an end

is($redis->cmd('EVALSHA', $sha1, 1, 'own', @rate, 1)->[2], 9, 'own clock');
like($redis->cmd('GET', 'own'), qr/^1000000 \d{16} 1000000$/, 'in full digits');
cmp_ok($redis->cmd('PTTL', 'own'), '>', 0, 'it expires');

$redis->cmd('FLUSHALL');

my ($wrong, $denied, $first) = compare($OPERATIONS);

is($wrong, 0, "$OPERATIONS operations as in the model") or diag($first);
cmp_ok($denied, '>', $OPERATIONS / 20, "$denied of them denied");

$t->done();

###############################################################################

# the C string, as the compiler would have it

sub script
{
    my $text = $t->read_file($t->root()
                   . '/ngx_runcoach_module/lib/runcoach_bucket_script.h');
    my $script = '';

    while ($text =~ /^    "(.*)"\s*\\?$/mg) {
        $script .= $1;
    }

    $script =~ s/\\n/\n/g;

    return $script;
}


sub script_take
{
    my ($now, @checks) = @_;

    return $redis->cmd('EVALSHA', $sha1, scalar(@checks),
                       (map { $_->[0] } @checks),
                       (map { @$_[1 .. 4] } @checks), $now);
}


# the state of a key: what it lacks, and when

sub model_take
{
    my ($state, $now, @checks) = @_;

    my ($all, @lacks, @reply) = (1);

    for my $check (@checks) {
        my ($key, $n, $p, $c, $cost) = @$check;
        my ($lack, $at, $stepped) = (0, $now, 0);

        if ($state->{$key}) {
            ($lack, $at) = @{$state->{$key}};

            if ($now >= $at) {

                # beyond 2^53 only its being larger matters

                my $gain = ($now - $at) * $n;

                $lack = $gain > $lack ? 0 : $lack - $gain;
                $at = $now;

            } elsif ($at - $now > 1000000) {
                ($at, $stepped) = ($now, 1);
            }
        }

        my ($ok, $retry) = (1, 0);

        if ($cost * $p > $c) {
            ($ok, $retry) = (0, -1);

        } elsif ($lack + $cost * $p > $c) {
            my $over = $lack + $cost * $p - $c;

            ($ok, $retry) = (0, int(($over + $n - 1) / $n));
        }

        $all &&= $ok;
        push @lacks, [ $lack, $at, $stepped, $ok, $retry ];
    }

    for my $i (0 .. $#checks) {
        my ($key, $n, $p, $c, $cost) = @{$checks[$i]};
        my ($lack, $at, $stepped, $ok, $retry) = @{$lacks[$i]};

        $lack += $cost * $p if $all;

        if (($all && $cost > 0) || ($stepped && $lack > 0)) {
            $state->{$key} = [ $lack, $at ];
        }

        push @reply, $ok, $lack > $c ? 0 : int(($c - $lack) / $p), $retry,
                     int(($lack + $n - 1) / $n);
    }

    return [ $all, @reply ];
}


# each key keeps its rate: keys are many, and rates come with them

sub compare
{
    my ($count) = @_;

    my ($now, $wrong, $denied) = (1700000000000000, 0, 0);
    my ($state, @keys, $first);

    for my $i (1 .. $count) {

        # a new generation of keys, so that Redis' own expiry does not matter

        if ($i % 200 == 1) {
            $state = {};
            @keys = map { [ "key:$i:$_", random_rate() ] } 1 .. 4;
        }

        $now += int(rand(3)) == 0 ? 0 : int(rand(2) ** int(rand(24)));
        $now -= int(rand(2)) ? int(rand(1000001)) : int(rand(7200000000))
            if rand(100) < 1;

        my @use = grep { rand(2) < 1 } @keys;

        @use = ($keys[0]) unless @use;

        my @checks = map { [ @$_, int(rand(4)) ? 1 : int(rand(4)) ] } @use;

        my $got = script_take_alive($now, @checks);
        my $expected = model_take($state, $now, @checks);

        $denied++ unless $expected->[0];

        next if "@$got" eq "@$expected";

        $first ||= "operation $i: got @$got, expected @$expected";
        $wrong++;
    }

    return ($wrong, $denied, $first);
}


# keys must not expire by the real clock, which stands still in a transaction

sub script_take_alive
{
    my ($now, @checks) = @_;

    $redis->cmd('MULTI');

    script_take($now, @checks);
    $redis->cmd('PERSIST', $_->[0]) for @checks;

    return $redis->cmd('EXEC')->[0];
}


sub random_rate
{
    while (1) {
        my @seconds = (1, 60, 3600, 86400, 7);

        my $n = 1 + int(rand(int(rand(3)) ? 100 : 1000000));
        my $p = $seconds[rand(@seconds)] * 1000000;
        my $c = $p * (1 + int(rand(int(rand(3)) ? 20 : 100000)));

        return ($n, $p, $c) if $c < 2 ** 53;
    }
}
