#!/usr/bin/perl

# The script that Redis runs against a model in integers, where the script has
# doubles only: several keys at once, leases, reports, hints, changes of plan,
# and a clock that also steps back.  Then against the model that the unit tests
# have of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha1_hex /;
use Test::More;
use Test::Runcoach;

my $OPERATIONS = $ENV{RUNCOACH_TEST_OPERATIONS} || 100000;
my $BATCH = 250;
my $EPOCH = 2000000;

my @FIELDS = qw/ allowed granted held epoch valid free retry reset fresh /;

my $t = Test::Runcoach->new();
my $redis = $t->redis();
my $script = script();

# the same with a clock of ours: what is shipped takes no such argument

my $clocked = $script;

is($clocked =~ s/redis\.call\('TIME'\)/{ 0, ARGV[#ARGV] }/g, 1,
   'the script asks for the time once');

my $sha1 = $redis->cmd('SCRIPT', 'LOAD', $clocked);

srand(20240229);

###############################################################################

is($redis->cmd('SCRIPT', 'LOAD', $script), sha1_hex($script),
   'the script loads');

my @rate = (5, 1000000, 10 * 1000000);
my $time = 1700000000000000;
my $now = $time / $EPOCH;

answer('the first request', $time, [ 'one', @rate, 1 ],
       1, 1, 0, $now, 2 * $EPOCH, 9000000, 0, 200000, 1);
is($redis->cmd('GET', 'one'), "1000000 $time 1000000", 'what it leaves');
cmp_ok($redis->cmd('PTTL', 'one'), '<=', 201, 'and for how long');

$redis->cmd('PERSIST', 'one');

answer('several at once', $time, [ 'one', @rate, 9 ],
       1, 9, 0, $now, 2 * $EPOCH, 0, 0, 2000000, 0);

$redis->cmd('PERSIST', 'one');

is_deeply(take($time, $EPOCH, [ 'one', @rate, 1 ], [ 'two', @rate, 1 ]),
          [ 0, 0, 0, $now, 2 * $EPOCH, 0, 200000, 2000000, 0,
            1, 0, 0, $now, 2 * $EPOCH, 10000000, 0, 0, 1 ],
          'one of two denies');
is($redis->cmd('EXISTS', 'two'), 0, 'and the other is not charged');

answer('more than the burst is never allowed', $time, [ 'two', @rate, 11 ],
       0, 0, 0, $now, 2 * $EPOCH, 10000000, -1, 0, 1);
answer('a look', $time, [ 'two', @rate, 0 ],
       1, 0, 0, $now, 2 * $EPOCH, 10000000, 0, 0, 1);
is($redis->cmd('EXISTS', 'two'), 0, 'writes nothing');

# a clock one hour back: the bucket follows it even though it denies

my $back = $time - 3600000000;

is(take($back, $EPOCH, [ 'one', @rate, 1 ])->[6], 200000,
   'a step back denies');
$redis->cmd('PERSIST', 'one');
is(take($back + 200000, $EPOCH, [ 'one', @rate, 1 ])->[0], 1,
   'and refills from there');

# the same deficit in another unit of time

$redis->cmd('SET', 'plan', "5000000 $time 1000000");
is(take($time, $EPOCH, [ 'plan', 10000, 86400000000, 20 * 86400000000, 1 ])
   ->[5], 14 * 86400000000, 'another unit of time');

for my $garbage ('', 'x', '1 2', '-5 6 7', '1e9 2 3', '1 2 0', '1.5 2 3',
                 ('9' x 30) . ' 2 3', "1 2 3\n", '1 ' . ('9' x 30) . ' 3',
                 '1 2 3 4', '1 2 3 4 5', '1 2 3 4 5 6 7', '1 2 3 4 5 x',
                 '1 2 3 0 0 ' . ('9' x 16), '1 2 3 ' . ('9' x 30) . ' 0 1')
{
    $redis->cmd('SET', 'garbage', $garbage);
    is(take($time, $EPOCH, [ 'garbage', @rate, 1 ])->[5], 9000000,
       'garbage is a full bucket: ' . substr($garbage =~ s/\n/\\n/r, 0, 15));
}

$redis->cmd('DEL', 'list');
$redis->cmd('LPUSH', 'list', 'x');
ok(!eval { take($time, $EPOCH, [ 'list', @rate, 1 ]) } && $@ =~ /WRONGTYPE/,
   'a foreign key is not touched');

# a lease: at most half of the rest, reported, released, and at last spent

$redis->cmd('FLUSHALL');

answer('a lease', $time, [ 'lease', @rate, 1, 1, 9 ],
       1, 1, 4, $now, 2 * $EPOCH, 5000000, 0, 200000, 1);
is($redis->cmd('GET', 'lease'), "1000000 $time 1000000 4000000 0 $now",
   'is held');
$redis->cmd('PERSIST', 'lease');
answer('a report', $time, [ 'lease', @rate, 0, 0, 0, $now, 1, 2 ],
       1, 0, 0, $now, 2 * $EPOCH, 7000000, 0, 400000, 0);
$redis->cmd('PERSIST', 'lease');
answer('of an epoch unknown', $time, [ 'lease', @rate, 0, 0, 0, $now + 1, 1, 2 ],
       1, 0, 0, $now, 2 * $EPOCH, 7000000, 0, 400000, 0);
answer('is held until its end', $time + 2 * $EPOCH - 1, [ 'lease', @rate, 0 ],
       1, 0, 0, $now + 1, $EPOCH + 1, 9000000, 0, 0, 0);
answer('and then counts as spent', $time + 2 * $EPOCH + 100000,
       [ 'lease', @rate, 0 ],
       1, 0, 0, $now + 2, 2 * $EPOCH - 100000, 9500000, 0, 100000, 0);

# data that was lost comes back from who remembers

answer('a hint', $time, [ 'lost', @rate, 1, 1, 0, -1, 0, 0, 9500000 ],
       0, 0, 0, $now, 2 * $EPOCH, 500000, 100000, 1900000, 1);
is($redis->cmd('GET', 'lost'), "9500000 $time 1000000", 'is kept');
$redis->cmd('PERSIST', 'lost');
answer('once', $time, [ 'lost', @rate, 1, 1, 0, -1, 0, 0, 10000000 ],
       0, 0, 0, $now, 2 * $EPOCH, 500000, 100000, 1900000, 0);

answer('a reset', $time, [ 'lost', @rate, 0, 0, 0, -2 ],
       1, 0, 0, $now, 2 * $EPOCH, 10000000, 0, 0, 0);
cmp_ok($redis->cmd('PTTL', 'lost'), '>', 4000, 'stays for as long as a hint');
$redis->cmd('PERSIST', 'lost');
answer('which does not undo it', $time,
       [ 'lost', @rate, 1, 3, 8, -1, 0, 0, 10000000 ],
       1, 3, 0, $now, 2 * $EPOCH, 7000000, 0, 600000, 0);
cmp_ok($redis->cmd('PTTL', 'lost'), '>', 4000, 'after a request either');

# Redis' own clock, and no key without an end

is($redis->cmd('EVALSHA', sha1_hex($script), 1, 'own', $EPOCH, arguments(@rate,
               1))->[5], 9000000, 'own clock');
like($redis->cmd('GET', 'own'), qr/^1000000 \d{16} 1000000$/, 'in full digits');
cmp_ok($redis->cmd('PTTL', 'own'), '>', 0, 'it expires');

$redis->cmd('FLUSHALL');

my ($wrong, $denied, $leased, $first) = compare($OPERATIONS);

is($wrong, 0, "$OPERATIONS operations as in the model") or diag($first);
cmp_ok($denied, '>', $OPERATIONS / 20, "$denied of them denied");
cmp_ok($leased, '>', $OPERATIONS / 50, "$leased gave a lease");

$redis->cmd('FLUSHALL');

unit_model();

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


# n p c cost, and then: need extra epoch spent released hint

sub arguments
{
    my ($n, $p, $c, $cost, $need, $extra, $epoch, $spent, $released, $hint)
        = @_;

    return ($n, $p, $c, $cost, $need // $cost, $extra // 0, $epoch // -1,
            $spent // 0, $released // 0, $hint // 0);
}


sub call
{
    my ($now, $epoch, @asks) = @_;

    return ('EVALSHA', $sha1, scalar(@asks), (map { $_->[0] } @asks), $epoch,
            (map { arguments(@$_[1 .. $#$_]) } @asks), $now);
}


sub take
{
    return $redis->cmd(call(@_));
}


sub answer
{
    my ($name, $now, $ask, @expected) = @_;

    my $got = take($now, $EPOCH, $ask);
    my (%got, %expected);

    @got{@FIELDS} = @$got;
    @expected{@FIELDS} = @expected;

    is_deeply(\%got, \%expected, $name);
}


###############################################################################

# The model.  A key: what it lacks, when, in which units; held units by epoch;
# and the epoch of the last update, which only matters with these or after a
# reset.

sub model_load
{
    my ($state, $now, $current, $p, $hint, $c) = @_;

    if (!$state) {
        return { lack => $hint < $c ? $hint : $c, ts => $now, p => $p,
                 held => {}, at => $current, fresh => 1, dirty => $hint > 0 };
    }

    my %bucket = (%$state, held => { %{$state->{held}} }, fresh => 0, dirty => 0);

    $bucket{at} = $current unless defined $bucket{at};

    if ($bucket{p} != $p) {
        $_ = model_convert($_, $bucket{p}, $p)
            for $bucket{lack}, values %{$bucket{held}};
        $bucket{p} = $p;
    }

    return \%bucket;
}


# as the script does it: the one thing that is not in integers

sub model_convert
{
    my ($units, $from, $to) = @_;

    my $x = $units / $from * $to;
    my $y = int($x);

    $y++ if $y < $x;

    return $y < 2 ** 53 ? $y : 2 ** 53 - 1;
}


sub model_refill
{
    use integer;

    my ($bucket, $n, $to) = @_;

    my $elapsed = $to - $bucket->{ts};

    if ($elapsed < 0) {
        return if $elapsed >= -1000000;

        $bucket->{dirty} = 1 if $bucket->{lack} > 0;

    } elsif ($elapsed > $bucket->{lack} / $n) {
        $bucket->{lack} = 0;

    } else {
        $bucket->{lack} -= $elapsed * $n;
    }

    $bucket->{ts} = $to;
}


sub model_advance
{
    use integer;

    my ($bucket, $n, $now, $current, $length) = @_;

    if (%{$bucket->{held}} && $bucket->{at} > $current + 2) {
        $bucket->{lack} += $_ for values %{$bucket->{held}};
        $bucket->{held} = {};
        $bucket->{at} = $current;
        $bucket->{dirty} = 1;
    }

    for my $epoch (sort { $a <=> $b } keys %{$bucket->{held}}) {
        next if $epoch + 2 > $current;

        model_refill($bucket, $n, ($epoch + 2) * $length);
        $bucket->{lack} += delete $bucket->{held}{$epoch};
    }

    $bucket->{at} = $current if $bucket->{at} < $current;

    model_refill($bucket, $n, $now);
}


sub model_report
{
    use integer;

    my ($bucket, $n, $c, $epoch, $spent, $released, $current, $length) = @_;

    if ($epoch == -2) {
        $bucket->{lack} = 0;
        $bucket->{held} = {};
        $bucket->{dirty} = 1;
        $bucket->{at} = $current + 1 + ($c + $n * $length - 1) / ($n * $length);

        return;
    }

    return if $epoch != $bucket->{at} && $epoch != $bucket->{at} - 1;

    my $held = $bucket->{held}{$epoch} // 0;

    $spent *= $bucket->{p};
    $released *= $bucket->{p};
    $spent = $held if $spent > $held;
    $released = $held - $spent if $released > $held - $spent;

    return if $spent + $released == 0;

    $bucket->{lack} += $spent;
    $bucket->{held}{$epoch} -= $spent + $released;
    delete $bucket->{held}{$epoch} if $bucket->{held}{$epoch} == 0;
    $bucket->{dirty} = 1;
}


# when there will be enough, if nobody releases anything

sub model_retry
{
    use integer;

    my ($bucket, $n, $short, $now, $length) = @_;

    my ($lack, $at) = ($bucket->{lack}, $now);

    for my $epoch (sort { $a <=> $b } keys %{$bucket->{held}}) {
        last if $short <= $lack;

        my $end = ($epoch + 2) * $length;
        my $gain = ($end - $at) > $lack / $n ? $lack : ($end - $at) * $n;

        $short -= $gain;
        $lack += $bucket->{held}{$epoch} - $gain;
        $at = $end;
    }

    return $at - $now + ($short + $n - 1) / $n;
}


sub model_take
{
    use integer;

    my ($state, $now, $length, @asks) = @_;

    my $all = 1;
    my $current = $now / $length;
    my (@buckets, @reply, @ttl);

    for my $ask (@asks) {
        my ($key, $n, $p, $c, $cost, $need, $extra, $epoch, $spent, $released,
            $hint) = @$ask;

        my $bucket = model_load($state->{$key}, $now, $current, $p, $hint, $c);

        model_advance($bucket, $n, $now, $current, $length);
        model_report($bucket, $n, $c, $epoch, $spent, $released, $current, $length);

        $bucket->{free} = $c - $bucket->{lack};
        $bucket->{free} -= $_ for values %{$bucket->{held}};
        $bucket->{tokens} = $bucket->{free} > 0 ? $bucket->{free} / $p : 0;
        $bucket->{retry} = $cost * $p > $c ? -1
                    : $cost <= $bucket->{tokens} ? 0
                    : model_retry($bucket, $n, $cost * $p - $bucket->{free}, $now,
                                  $length);

        $all = 0 if $bucket->{retry};
        push @buckets, $bucket;
    }

    for my $i (0 .. $#asks) {
        my ($key, $n, $p, $c, $cost, $need, $extra) = @{$asks[$i]};
        my $bucket = $buckets[$i];
        my ($granted, $held) = (0, 0);

        if ($all) {
            $granted = $need < $bucket->{tokens} ? $need : $bucket->{tokens};
            $held = ($bucket->{tokens} - $granted) / 2;
            $held = $extra if $held > $extra;
            $held = 0 if $bucket->{at} > $current && !%{$bucket->{held}};
        }

        $bucket->{lack} += $granted * $p;
        $bucket->{held}{$bucket->{at}} += $held * $p if $held;
        $bucket->{free} -= ($granted + $held) * $p;

        push @reply, $bucket->{retry} == 0 ? 1 : 0, $granted, $held,
                     $held ? $bucket->{at} : $current,
                     (($held ? $bucket->{at} : $current) + 2) * $length - $now,
                     $bucket->{free}, $bucket->{retry}, ($bucket->{lack} + $n - 1) / $n,
                     $bucket->{fresh};
        push @ttl, -1;

        next unless $bucket->{dirty} || $granted + $held > 0;

        my $us = $c - $bucket->{free};

        $us = ($us + $n - 1) / $n;
        $ttl[$i] = ($us + 999) / 1000 + 1;

        if (%{$bucket->{held}} || $bucket->{at} > $current) {
            $ttl[$i] += (($bucket->{at} + 2) * $length - $now + 999) / 1000;

        } else {
            delete $bucket->{at};
        }

        $state->{$key} = $bucket;
    }

    return (\@reply, \@ttl);
}


# The model runs ahead of Redis by a batch, in which no key can expire: in a
# transaction the real clock stands still.

sub compare
{
    my ($count) = @_;

    my $now = 1700000000000000;
    my ($wrong, $denied, $leased, $done) = (0, 0, 0, 0);
    my ($state, @keys, $first, $length);

    while ($done < $count) {

        $state = {};
        $length = (100000, 2000000, 2000000, 5000000)[rand(4)];
        @keys = map { { name => "key:$done:$_", rate => [ random_rate() ],
                        leases => [] } } 1 .. 5;

        my @commands = ([ 'MULTI' ]);
        my @expected;

        for (1 .. $BATCH) {
            $now += random_pause($length);

            my ($calls, $reply) = random_operation($state, $now, $length,
                                                   \@keys);
            push @commands, @$calls;
            push @expected, $reply;

            next unless $reply->{values};

            my @values = @{$reply->{values}};

            $denied++ if grep { $values[$_ * 9] == 0 } 0 .. $#values / 9;
            $leased++ if grep { $values[$_ * 9 + 2] > 0 } 0 .. $#values / 9;
        }

        push @commands, [ 'EXEC' ];

        my $replies = pipeline(@commands);
        my $got = $replies->[-1];

        for my $expected (@expected) {
            my $difference = differs($got, $expected);

            $wrong++ if $difference;
            $first ||= $difference;
        }

        $done += $BATCH;
    }

    return ($wrong, $denied, $leased, $first);
}


sub differs
{
    my ($got, $expected) = @_;

    if ($expected->{lost}) {
        shift @$got;
        return '';
    }

    my $values = shift @$got;
    my @ttl = map { my $ttl = shift @$got; shift @$got; $ttl }
                  @{$expected->{ttl}};

    return "$expected->{what}: got @$values, expected @{$expected->{values}}"
        if "@$values" ne "@{$expected->{values}}";

    # the clock of a script is not quite that of its transaction

    for my $i (0 .. $#ttl) {
        my ($got, $wanted) = ($ttl[$i], $expected->{ttl}[$i]);

        return "$expected->{what}: lives for $got, expected $wanted"
            if $wanted < 0 ? $got >= 0
                           : $got < 0 && $wanted > 2 || $got > $wanted + 1
                             || $got < $wanted - 5000;
    }

    return '';
}


sub random_operation
{
    my ($state, $now, $length, $keys) = @_;

    if (rand(100) < 1) {
        my $key = $keys->[rand(@$keys)];

        delete $state->{$key->{name}};

        return ([ [ 'DEL', $key->{name} ] ], { lost => 1 });
    }

    my @use = grep { rand(3) < 1 } @$keys;

    @use = ($keys->[0]) unless @use;

    my @asks;

    for my $key (@use) {
        $key->{rate} = [ random_rate() ] if rand(40) < 1;

        my ($n, $p, $c) = @{$key->{rate}};
        my $burst = $c / $p;
        my $cost = (0, 1, 1, 1, 1, 2, int(rand($burst + 2)))[rand(7)];
        my $need = $cost + (0, 0, 0, int(rand(5)))[rand(4)];
        my $extra = (0, 0, 1, 5, int(rand($burst)))[rand(5)];
        my @report = (-1, 0, 0);

        if (@{$key->{leases}} && rand(2) < 1) {
            my $lease = splice(@{$key->{leases}},
                               rand(@{$key->{leases}}), 1);
            my ($epoch, $held) = @$lease;
            my $spent = int(rand($held + 1));

            @report = ($epoch, $spent, (0, 0, $held - $spent, 2 * $held)
                                       [rand(4)]);
        }

        @report = (-2, 0, 0) if rand(200) < 1;

        push @asks, [ $key->{name}, $n, $p, $c, $cost, $need, $extra, @report,
                      (0, 0, $c, int(rand(2 * $c)))[rand(4)] ];
    }

    my ($values, $ttl) = model_take($state, $now, $length, @asks);

    for my $i (0 .. $#use) {
        my ($held, $epoch) = @$values[$i * 9 + 2, $i * 9 + 3];

        push @{$use[$i]{leases}}, [ $epoch, $held ] if $held;
    }

    return ([ [ call($now, $length, @asks) ],
              (map { ([ 'PTTL', $_->{name} ], [ 'PERSIST', $_->{name} ]) }
                   @use) ],
            { values => $values, ttl => $ttl,
              what => "$now $length " . join(', ', map { "@$_" } @asks) });
}


sub random_pause
{
    my ($length) = @_;

    return -int(rand(2) ? rand(1000001) : rand(2) ? rand(5 * $length)
                                                  : rand(7200000000))
        if rand(100) < 1;

    return int(rand(4 * $length)) if rand(8) < 1;

    return rand(3) < 1 ? 0 : int(rand(2) ** int(rand(24)));
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


# many commands, and then all replies

sub pipeline
{
    my (@commands) = @_;

    my $text = join('', map {
        my $argv = $_;

        '*' . @$argv . "\r\n"
            . join('', map { '$' . length($_) . "\r\n$_\r\n" } @$argv);
    } @commands);

    $redis->cmd('PING');

    Test::Runcoach::send_all($redis->{conn}, $text)
        or die "redis went away\n";

    return [ map { scalar $redis->reply() } @commands ];
}


# operations of the model in C, which the simulation of leases relies on

sub unit_model
{
    my $program = Test::Runcoach::build() . '/unit/lease_sim';
    my ($status, $out) = $t->command([ $program, 'operations' ],
                                     timeout => 60);
    my ($count, $wrong, $first) = (0, 0);
    my @lines = grep { /^call / } split(/\n/, $out);

    is($status, 0, 'the unit tests have a model, too');

    while (my @batch = splice(@lines, 0, $BATCH)) {
        my @commands = ([ 'MULTI' ]);
        my @expected;

        for my $line (@batch) {
            my ($key, $now, $epoch, $args, $values)
                = $line =~ /^call (\S+) (\d+) (\d+) ([\d -]+) = ([\d -]+)$/
                or die "unexpected: $line\n";

            push @commands, [ 'EVALSHA', $sha1, 1, $key, $epoch,
                              split(/ /, $args), $now ],
                            [ 'PERSIST', $key ];
            push @expected, $values;
        }

        my $got = pipeline(@commands, [ 'EXEC' ])->[-1];

        for my $i (0 .. $#batch) {
            my $values = join(' ', @{$got->[2 * $i]});

            $count++;

            next if $values eq $expected[$i];

            $wrong++;
            $first ||= "$batch[$i]\ngot $values";
        }
    }

    cmp_ok($count, '>=', 10000, "$count operations of it");
    is($wrong, 0, 'are as those of the script') or diag($first);
}
