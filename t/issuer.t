#!/usr/bin/perl

# The shipped configuration while the issuer is away: honest answers, and not
# a byte more.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach;

my $t = Test::Runcoach->new();

my $jwks = $t->jwks('issuer');

$t->{issuer} = { iss => 'https://clerk.runcoach.test',
                 url => 'http://' . $t->host(8091) . '/jwks.json' };

$t->edge(postgres => 0, sidecar => 0, work => 0);

my $token = $t->token();

###############################################################################

# away from the start

for my $n (1 .. 3) {
    my $answer = ask($token);

    like($answer, qr{\AHTTP/1\.1 503 }, "no keys $n: begins with the status");
    like($answer, qr/\r\nRetry-After: \d+\r\n/, "no keys $n: when to ask again");
    like($answer,
         qr/\r\n\r\n\{"detail":"Service temporarily unavailable"\}\z/,
         "no keys $n: and nothing else");
    unlike($answer, qr/WWW-Authenticate/i, "no keys $n: no challenge");
}

# there

my $issuer = $t->http_daemon(sub { return [200, {}, $jwks] }, port => 8091);

ok(passes($token), 'keys are there');

# away again: what is known is enough, what is not known is not refused

$t->stop_process($issuer);

ok(passes($token), 'known key');

my $answer = ask($t->token(kid => 'ins_new'));

like($answer, qr{\AHTTP/1\.1 503 .*unavailable"\}\z}s, 'unknown key');
is(() = $answer =~ m{HTTP/1\.1}g, 1, 'unknown key: one answer');

ok(passes($token), 'known key, still');

$t->done();

###############################################################################

# soon: each worker asks on its own, and not again within a second

sub passes
{
    my ($bearer) = @_;

    return $t->wait_for(sub { return ask($bearer) =~ m{\AHTTP/1\.1 200 } }, 5);
}


sub ask
{
    my ($bearer) = @_;

    return $t->http(<<"EOR");
GET /api/v1/me HTTP/1.1
Host: localhost
Authorization: Bearer $bearer
Connection: close

EOR
}

###############################################################################
