#!/usr/bin/perl

# Tests for leases and the bound: what does not reach Redis, what comes back,
# and that Redis is asked for each request where that is wanted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;
use Test::Runcoach::Load;
use Time::HiRes qw/ sleep time /;

# a byte at a time nothing is fast: then it is only right

my $slow = $ENV{RUNCOACH_SHIM};

my $t = Test::Runcoach->new();
my $redis = $t->redis();

my $conf = <<'EOT';

%%TEST_GLOBALS%%

worker_processes  2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%
    %%LOG%%

    keepalive_requests  1000000;

    runcoach_zone   runcoach:1m;
    runcoach_redis  env:REDIS_URL  timeout=500ms;

    runcoach_limit_policy  hot    rate=1000r/s  burst=1000  key=$arg_user;
    runcoach_limit_policy  slow   rate=5r/s     burst=10    key=$arg_user;
    runcoach_limit_policy  exact  rate=1000r/s  burst=1000  key=$arg_user
                                  lease=off;
    runcoach_limit_policy  plan   rate=$arg_rate  burst=$arg_burst
                                  default=6r/h  key=$arg_user;
    runcoach_limit_policy  cost   rate=1r/h  burst=10  cost=$arg_cost
                                  key=$arg_user  lease=off;
    runcoach_limit_policy  two    rate=1r/h  burst=10  cost=2  key=$arg_user
                                  lease=off;
    runcoach_limit_policy  soon   rate=30r/m  burst=2  cost=$arg_cost
                                  key=$arg_user;

    add_header  X-Status     $runcoach_limit_status       always;
    add_header  X-Source     $runcoach_limit_source       always;
    add_header  X-Limit      $runcoach_limit_limit        always;
    add_header  X-Remaining  $runcoach_limit_remaining    always;
    add_header  X-Cost       $runcoach_limit_cost         always;
    add_header  Retry-After  $runcoach_limit_retry_after  always;
    add_header  RateLimit-Policy  $runcoach_ratelimit_policy  always;

    server {
        listen  127.0.0.1:8080;

        location /hot    { runcoach_limit hot;    empty_gif; }
        location /slow   { runcoach_limit slow;   empty_gif; }
        location /exact  { runcoach_limit exact;  empty_gif; }
        location /both   { runcoach_limit hot slow;  empty_gif; }
        location /plan   { runcoach_limit plan;   empty_gif; }
        location /cost   { runcoach_limit cost;   empty_gif; }
        location /two    { runcoach_limit two;    empty_gif; }
        location /soon   { runcoach_limit soon;   empty_gif; }

        location /dry {
            runcoach_limit       two;
            runcoach_limit_mode  dry_run;
            empty_gif;
        }

        location /sample {
            runcoach_limit       two;
            runcoach_limit_mode  enforce sample=50%;
            empty_gif;
        }
    }
}

EOT

my @edges = edges(2, $redis->url(), $conf);
my ($edge, $other) = @edges;

###############################################################################

# a hot key

load($edge, rate => 600, seconds => 4, uri => '/hot?user=hot');
sleep(2);

my $before = commands($redis);

sleep(1.5);

my $calls = commands($redis) - $before;

wait_for_load();

my @log = read_logs($edge);
my $sources = sources(@log);

cmp_ok(scalar(@log), '>', 2000, 'a hot key');
is(scalar(grep { $_->{status} ne 'PASSED' } @log), 0, 'is admitted');
cmp_ok(($sources->{'PASSED lease'} || 0) / @log, '>', $slow ? 0.9 : 0.99,
       'from leases')
    or diag(explain($sources));
cmp_ok($calls / 1.5, '<', 10, 'with few calls') or diag("$calls calls");

# which are given back

my ($key) = grep { /:hot$/ } @{$redis->cmd('KEYS', 'rl:*')};

ok($t->wait_for(sub {
    my $v = $redis->cmd('GET', $key);
    return !defined $v || $v =~ /^\d+ \d+ \d+(?: 0 0 \d+)?$/;
}, 1.9), 'and gives back what it does not need') or diag($redis->cmd('GET', $key));

# a flood on two edges

truncate("$_->{dir}/load.log", 0) for @edges;
$before = commands($redis);

load($_, rate => 2500, seconds => 3, uri => '/slow?user=flood') for @edges;
wait_for_load();

@log = read_logs(@edges);
$calls = commands($redis) - $before;

my $judged = judge(\@log, rate => 5, burst => 10);

cmp_ok(scalar(@log), '>', $slow ? 500 : 10000, 'a flood');
cmp_ok($judged->{excess}, '<=', 1, 'gets no more than is its own');
cmp_ok($judged->{ratio}, '>=', 0.9, 'and what is its own')
    or diag(explain($judged));
cmp_ok($calls, '<=', ($slow ? 3 : 1) * (10 + 3 * 2 * (5 + 2)),
       'with hardly a call')
    or diag("$calls calls");

$sources = sources(@log);

cmp_ok($sources->{'REJECTED bound'} / @log, '>', $slow ? 0.8 : 0.98,
       'as the bound denies')
    or diag(explain($sources));

# several limits at once

truncate("$_->{dir}/load.log", 0) for @edges;
$before = commands($redis);

load($_, rate => 1000, seconds => 2, uri => '/both?user=pair') for @edges;
wait_for_load();

@log = read_logs(@edges);
$judged = judge(\@log, rate => 5, burst => 10);

cmp_ok($judged->{excess}, '<=', 1, 'two limits: the tighter counts');
cmp_ok($judged->{ratio}, '>=', 0.9, 'and gives what it has')
    or diag(explain($judged));
cmp_ok(commands($redis) - $before, '<=', $slow ? 180 : 60,
       'two limits: few calls')
    or diag(commands($redis) - $before . ' calls');

# every request asks

$before = commands($redis);

is(join(' ', uniq(map { $edges[$_ % 2]->get('/exact?user=exact')
                        ->header('X-Source') } 1 .. 20)), 'redis',
   'lease=off');
is(commands($redis) - $before, 20, 'a call for each request');

$before = commands($redis);

load($edge, rate => 300, seconds => 1, uri => '/exact?user=exact');
wait_for_load();

cmp_ok(commands($redis) - $before, '>', 250, 'whatever its rate');

# plans

is($edge->get('/plan?user=p&rate=6r/h&burst=3')->header('RateLimit-Policy'),
   '"plan";q=3;w=1800', 'rate and burst by variables');
get('/plan?user=p&rate=6r/h&burst=3') for 1 .. 2;
is(get('/plan?user=p&rate=6r/h&burst=3')->status, 429, 'used up');
is(get('/plan?user=p&rate=60r/h&burst=3')->status, 429,
   'a faster plan is no fresh burst');
is(get('/plan?user=p&rate=1r/s&burst=3')->status, 429, 'in another unit');
is($other->get('/plan?user=p&rate=6r/h&burst=3')->status, 429,
   'on another edge');

# who has just been told that nothing is left is not asked about at once

sleep(0.1);

is(get('/plan?user=p&rate=6r/h&burst=9')->header('X-Remaining'), 5,
   'a larger burst is what is larger');

$edge->log_contains(qr/invalid rate "fast" of policy "plan"/, sub {
    is(get('/plan?user=q&rate=fast&burst=3')->header('RateLimit-Policy'),
       '"plan";q=3;w=1800', 'what is not a rate is the default');
}, 'which is told');

my $size = -s "$edge->{dir}/error.log";

get('/plan?user=q&rate=fast&burst=3') for 1 .. 20;

my @told = substr($edge->read_file('error.log'), $size) =~ /invalid rate/g;

cmp_ok(scalar(@told), '<=', 1, 'once for each worker');
is(get('/plan?user=r')->header('RateLimit-Policy'), '"plan";q=20;w=12000',
   'defaults for what is absent');

# costs

is(get('/cost?user=a&cost=4')->header('X-Remaining'), 6, 'cost');
is(get('/cost?user=a')->header('X-Remaining'), 5, 'no cost is one');
is(get('/cost?user=a&cost=x')->header('X-Cost'), 1, 'nor is what is none');

my $r = get('/cost?user=a&cost=5');

is($r->status, 429, 'more than there is');
like($r->header('Retry-After'), qr/^3(?:600|59\d)$/, 'until it is there');
is(get('/cost?user=a&cost=4')->header('X-Remaining'), 0, 'all there is');

$r = get('/cost?user=b&cost=11');

is($r->status, 429, 'more than ever');
is($r->header('Retry-After'), undef, 'has no Retry-After');

# who comes back when told to is let in, on whichever edge, and not before

my @come = ([ '/soon?user=one', 2, 2 ], [ '/soon?user=two&cost=2', 1, 4 ]);

for (@come) {
    my ($uri, $n, $retry) = @$_;

    get($uri) for 1 .. $n;
    is($_->get($uri)->header('Retry-After'), $retry, "come back in $retry s")
        for @edges, @edges;
}

my $asked = time();

for (@come) {
    my ($uri, $n, $retry) = @$_;

    sleep($asked + $retry - 0.5 - time());
    is($_->get($uri)->status, 429, 'too early') for @edges;
    is($edge->get($uri)->header('Retry-After'), 1, 'which is a second or more');
    sleep($asked + $retry - time());
    is($other->get($uri)->status, 200, "let in after $retry s");
}

is(get('/cost?user=b&cost=0')->status, 200, 'a look');
is(get('/cost?user=b&cost=0')->header('X-Remaining'), 10, 'costs nothing');
is(get('/cost?user=a&cost=0')->status, 200, 'even if nothing is left');
is(get('/two?user=c')->header('X-Remaining'), 8, 'a constant cost');

# modes

get('/two?user=d') for 1 .. 5;
is(get('/two?user=d')->status, 429, 'enforced');

$r = get('/dry?user=d');

is($r->status, 200, 'dry run');
is($r->header('X-Status'), 'REJECTED_DRY_RUN', 'which is told');
is($r->header('Retry-After'), undef, 'and nobody is sent away');

my %modes;

for my $user (1 .. 40) {
    my @status = map { get("/sample?user=s$user")->status } 1 .. 8;

    $modes{join(' ', @status[5 .. 7])}++;
}

is(join(' | ', sort keys %modes), '200 200 200 | 429 429 429',
   'a sample of clients, of which each is in or not');
cmp_ok($modes{'200 200 200'} || 0, '>', 5, 'some are out');
cmp_ok($modes{'429 429 429'} || 0, '>', 5, 'some are in');

# the data of Redis are gone

get('/two?user=e') for 1 .. 5;
$redis->cmd('FLUSHALL');
is(get('/two?user=e')->status, 429, 'what is lost is not given again');

# workers that die, and that are replaced, in the middle of it

$edge->allow_alert(qr/exited on signal 9/);
truncate("$_->{dir}/load.log", 0) for @edges;

for my $edge (@edges) {
    load($edge, rate => $slow ? 300 : 800, seconds => 9,
         uri => '/hot?user=kill');
    load($edge, rate => $slow ? 20 : 200, seconds => 9,
         uri => '/exact?user=wait');
}

for (1 .. 20) {
    my ($pid) = $edge->workers();

    sleep(0.2);
    kill('KILL', $pid) if $pid;
    sleep(0.1);
    kill('HUP', $other->{nginx}{pid});
}

wait_for_load();

@log = read_logs(@edges);
$judged = judge([ grep { $_->{user} eq 'kill' } @log ], rate => 1000,
                burst => 1000);

is(scalar(grep { $_->{code} !~ /^(?:200|429)$/ } @log), 0,
   'killed and reloaded: no errors');
is(scalar(grep { $_->{user} eq 'wait' && $_->{status} ne 'PASSED' } @log), 0,
   'nor for those who wait for Redis');
cmp_ok(percentile(1, map { $_->{took} } @log), '<', 1, 'nobody is stuck');
cmp_ok($judged->{excess}, '<=', 20, 'no excess') or diag(explain($judged));
cmp_ok($judged->{ratio}, '>', 0.9, 'and nearly all that is due')
    or diag(explain($judged));
ok($t->wait_for(sub {
    get('/hot?user=kill')->status == 200
    && $other->get('/hot?user=kill')->status == 200
}, 5), 'nothing is stuck');

$other->stop();

# a zone with room for a few

my ($small) = edges(1, $redis->url(), $conf =~ s/runcoach:1m/runcoach:32k/r);
my %seen;

for my $n (1 .. 400) {
    $seen{$small->get("/two?user=many$n")->status}++;
}

is(join(' ', %seen), '200 400', 'a full zone rejects nobody');

for (1 .. 3) {
    $small->get("/two?user=many$_") for 1 .. 200;
}

$small->get('/two?user=few') for 1 .. 4;
$small->get("/two?user=more$_") for 1 .. 200;
$small->get('/two?user=few');
is($small->get('/two?user=few')->status, 429,
   'and who was forgotten is still limited');
$small->stop();

is(join('', map { $_->alerts() } @edges, $small), '', 'no alerts of the edges');

$t->done();

###############################################################################


sub get { return $edge->get(@_) }


sub uniq
{
    my %seen;

    return grep { !$seen{$_}++ } @_;
}
