#!/usr/bin/perl

# Svix's own library signs webhooks, and we agree with it, both ways.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Test::Runcoach qw/ json_encode /;

my $t = Test::Runcoach->new();

my $reason = $t->peer_missing('svix');

$t->skip_all("no svix: $reason") if $reason;

my $secret = $Test::Runcoach::WEBHOOK_SECRET;
my @secrets = ($secret, map { 'whsec_' . encode_base64(random_bytes($_), '') }
                        24, 32, 47, 64);

$t->edge(work => 0, env => { CLERK_WEBHOOK_SECRET => join(',', @secrets) });

my $now = int(time());

my @bodies = (
    json_encode($t->user_event('user.created', 'user_s1')),
    json_encode($t->user_event('user.updated', 'user_s2',
                               first_name => "\x{ae40}")),
    json_encode($t->user_event('user.deleted', 'user_s3')),
    '{"type":"email.created","data":{}}',
    ' {"type":"sms.created","data":{"a":"\u0000\ud83d\ude00"}} ',
);

###############################################################################

# It signs, we take it.

my @cases = map { { op => 'sign', secret => $secret, id => "msg_p$_",
                    time => $now, body => utf8_text($bodies[$_]) } }
            0 .. $#bodies;

my ($signatures, $why) = $t->peer_json('svix.mjs', 'svix', \@cases);

ok($signatures, 'svix signs') or diag($why);

for my $i (0 .. $#bodies) {
    my %headers = ('svix-id' => "msg_p$i", 'svix-timestamp' => $now,
                   'svix-signature' => $signatures->[$i]);
    my $r = $t->post('/api/v1/webhooks/clerk', body => $bodies[$i],
                     headers => \%headers);

    is($r->status, 200, "signed by svix, $i") or diag($r->raw);
    is($signatures->[$i],
       $t->svix_sign($bodies[$i], id => "msg_p$i", time => $now)
       ->{'svix-signature'}, "the tests' own signature is the same, $i");
}

is($t->sql("SELECT count(*) FROM users WHERE clerk_user_id IN ('user_s1',"
           . " 'user_s2')"), 2, 'rows');

# It judges what we judge: the same deliveries, good and bad.

my $body = utf8_text($bodies[0]);
my $good = sub { $t->svix_sign($bodies[0], @_) };
my $other = 'whsec_' . encode_base64('x' x 24, '');

my @table = (

    # name, headers, differs on purpose: why

    [ 'good', $good->() ],
    [ 'names of the standard', { map { my ($k, $v) = ($_, $good->(id => 'msg_w')
      ->{$_}); (s/^svix/webhook/r => $v) } qw/ svix-id svix-timestamp
      svix-signature / } ],
    [ 'two signatures', two($good->()) ],
    [ 'other secret', $good->(secret => $other) ],
    [ 'too old', $good->(time => $now - 301 - 5) ],
    [ 'nearly too old', $good->(time => $now - 280) ],
    [ 'too new', $good->(time => $now + 301 + 5) ],
    [ 'nearly too new', $good->(time => $now + 280) ],
    [ 'no id', drop('svix-id') ],
    [ 'no timestamp', drop('svix-timestamp') ],
    [ 'no signature', drop('svix-signature') ],
    [ 'other id', { %{$good->()}, 'svix-id' => 'msg_other' } ],
    [ 'no version', strip($good->()) ],
    [ 'version 2', { %{$good->()}, 'svix-signature' => 'v2,AAAA' } ],
    [ 'timestamp with letters', { %{$good->()},
                                  'svix-timestamp' => "${now}x" },
      'JavaScript reads the leading digits of a number' ],
);

# what they say of a delivery does not depend on the time it takes to ask

my ($verdicts) = $t->peer_json('svix.mjs', 'svix',
    [ map { { op => 'verify', secret => $secret, body => $body,
              headers => $_->[1] } } @table ]);

for my $i (0 .. $#table) {
    my ($name, $headers, $differs) = @{$table[$i]};
    my $r = $t->post('/api/v1/webhooks/clerk', body => $bodies[0],
                     headers => $headers);
    my $ours = $r->status == 200 ? 'ok' : 'refused';
    my ($theirs) = $verdicts->[$i] =~ /^(\w+)/;

    like($r->status, qr/^(?:200|401|422)$/, "$name: status");

    if ($differs) {
        is($ours, 'refused', "$name: we are stricter: $differs");
        next;
    }

    is($ours, $theirs, "$name: both say $theirs")
        or diag($verdicts->[$i], $r->raw);
}

###############################################################################

# A thousand deliveries, each with another body, id, time and secret, signed by
# Svix; and each again with one byte of it changed.  The seed makes a failure
# repeatable.

my $seed = $ENV{RUNCOACH_TEST_SEED} || time() ^ $$;

srand($seed);
note("RUNCOACH_TEST_SEED=$seed");

my @deliveries = map { delivery($_) } 1 .. 1000;

($signatures, $why) = $t->peer_json('svix.mjs', 'svix',
    [ map { { op => 'sign', secret => $_->{secret}, id => $_->{id},
              time => $_->{time}, body => utf8_text($_->{body}) } }
      @deliveries ]);

ok($signatures, 'svix signs a thousand') or diag($why);

$deliveries[$_]{signature} = $signatures->[$_] for 0 .. $#deliveries;

my @refused = grep { deliver($_) != 200 } @deliveries;

is(scalar(@refused), 0, 'all are taken') or diag(json_encode($refused[0]));
is($t->sql("SELECT count(*) FROM edge_inbox WHERE svix_id LIKE 'msg_r%'"),
   1000, 'and stored');

my @changed = map { change($_) } @deliveries;

($verdicts) = $t->peer_json('svix.mjs', 'svix',
    [ map { { op => 'verify', secret => $_->{secret},
              body => utf8_text($_->{body}), headers => headers($_) } }
      @changed ]);

my (@differ, @taken);

for my $i (0 .. $#changed) {
    my $status = deliver($changed[$i]);
    my $ours = $status == 200 ? 'ok' : 'refused';

    push @differ, $changed[$i] if $verdicts->[$i] !~ /^$ours/;
    push @taken, $changed[$i] if $status != 401;
}

is(scalar(@differ), 0, 'one byte changed: both say the same of each')
    or diag(json_encode($differ[0]));
is(scalar(@taken), 0, 'one byte changed: none is taken, each is 401')
    or diag(json_encode($taken[0]));
is($t->sql("SELECT count(*) FROM edge_inbox WHERE svix_id LIKE 'msg_r%'"),
   1000, 'one byte changed: nothing more is stored');

# bytes that are no text, which JavaScript could not be asked about

@taken = grep { deliver($_) != 401 } map { scramble($_) } @deliveries[0 .. 199];
is(scalar(@taken), 0, 'any byte in the place of one: each is 401');

$t->done();

###############################################################################

sub random_bytes
{
    return join('', map { chr(int(rand(256))) } 1 .. $_[0]);
}


sub random_text
{
    my ($n, @more) = @_;

    my @chars = ('a' .. 'z', 'A' .. 'Z', 0 .. 9, @more);

    return join('', map { $chars[rand(@chars)] } 1 .. $n);
}


sub delivery
{
    my ($n) = @_;

    my $text = random_text(int(rand(200)), ' ', "\t", '.', '"', '\\', '/',
                           "\x{e9}", "\x{ae40}", "\x{1f600}", "\x{2028}");
    my $body = json_encode({ type => 'email.created',
                             data => { id => "ema_$n", text => $text } });

    $body = ' ' x int(rand(3)) . $body . "\n" x int(rand(2));

    return { body => $body, time => $now - 200 + int(rand(400)),
             id => "msg_r$n" . random_text(1 + int(rand(40)), '_', '-'),
             secret => $secrets[rand(@secrets)] };
}


sub headers
{
    my ($d) = @_;

    return { 'svix-id' => $d->{id}, 'svix-timestamp' => "$d->{time}",
             'svix-signature' => $d->{signature} };
}


sub deliver
{
    my ($d) = @_;

    return $t->post('/api/v1/webhooks/clerk', body => $d->{body},
                    headers => headers($d))->status;
}


# one byte of one part is another one of the same kind

sub change
{
    my ($d) = @_;

    my %kinds = (
        body => join('', map { chr } 0x20 .. 0x7e),
        id => join('', 'a' .. 'z', 'A' .. 'Z', 0 .. 9, '_', '-'),
        time => '0123456789',
        signature => join('', 'a' .. 'z', 'A' .. 'Z', 0 .. 9, '+', '/', '='),
    );
    my $part = (sort keys %kinds)[rand(4)];
    my @kind = split(//, $kinds{$part});
    my %changed = (%$d, part => $part);

    my @places = grep { index($kinds{$part}, substr($d->{$part}, $_, 1)) >= 0 }
                 ($part eq 'signature' ? 3 : 0) .. length($d->{$part}) - 1;
    my $place = $places[rand(@places)];
    my $was = substr($d->{$part}, $place, 1);
    my $is = $was;

    $is = $kind[rand(@kind)] while $is eq $was;

    substr($changed{$part}, $place, 1) = $is;

    return \%changed;
}


sub scramble
{
    my ($d) = @_;

    my %changed = %$d;
    my $place = int(rand(length($d->{body})));
    my $was = substr($d->{body}, $place, 1);

    substr($changed{body}, $place, 1) = chr((ord($was) + 1 + int(rand(255)))
                                            % 256);

    return \%changed;
}


# JSON of the peer's input wants characters, not bytes

sub utf8_text
{
    my ($bytes) = @_;

    utf8::decode(my $text = $bytes);
    utf8::decode($text);

    return $text;
}


sub drop
{
    my ($name) = @_;

    my $headers = $good->();

    delete $headers->{$name};

    return $headers;
}


sub two
{
    my ($headers) = @_;

    $headers->{'svix-signature'} = 'v1,'
        . encode_base64('x' x 32, '') . ' ' . $headers->{'svix-signature'};

    return $headers;
}


sub strip
{
    my ($headers) = @_;

    $headers->{'svix-signature'} =~ s/^v1,//;

    return $headers;
}

###############################################################################
