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

$t->edge(work => 0);

my $secret = $Test::Runcoach::WEBHOOK_SECRET;
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

$t->done();

###############################################################################

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
