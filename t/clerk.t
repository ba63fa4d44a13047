#!/usr/bin/perl

# Clerk's backend library judges the same tokens as we do.  Where we differ
# it is on purpose, and the row says why.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Test::Runcoach qw/ b64url /;

my $t = Test::Runcoach->new();

my $reason = $t->peer_missing('@clerk/backend');

$t->skip_all("no \@clerk/backend: $reason") if $reason;

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone  runcoach:1m;

    runcoach_issuer  any      issuer=https://clerk.runcoach.test
                              key=env:CLERK_JWT_KEY;
    runcoach_issuer  parties  issuer=https://clerk.runcoach.test
                              key=env:CLERK_JWT_KEY
                              authorized_parties=https://app.example.com;

    server {
        listen  127.0.0.1:8080;

        add_header  X-Reason  $runcoach_auth_reason  always;

        location /any {
            runcoach_auth  any;
            empty_gif;
        }

        location /parties {
            runcoach_auth  parties;
            empty_gif;
        }
    }
}

EOF

my $pem = $t->key_pem('issuer');

$t->run(env => { CLERK_JWT_KEY => $pem });

my $now = int(time());
my ($head, $body, $sign) = split(/\./, $t->token());

###############################################################################

my @any = (

    # name, token, why we differ

    [ 'good', $t->token() ],
    [ 'no kid', $t->token(kid => undef) ],
    [ 'expired', $t->token(exp => $now - 20) ],
    [ 'expired within the leeway', $t->token(exp => $now - 2) ],
    [ 'nbf to come', $t->token(nbf => $now + 20) ],
    [ 'nbf within the leeway', $t->token(nbf => $now + 2) ],
    [ 'iat to come', $t->token(iat => $now + 20) ],
    [ 'no exp', $t->token(exp => undef) ],
    [ 'exp is a string', $t->token(exp => "$now") ],
    [ 'no sub', $t->token(sub => undef) ],
    [ 'sub is a number', $t->token(sub => 5) ],
    [ 'no iat, no nbf', $t->token(iat => undef, nbf => undef) ],
    [ 'other key', $t->token(key => 'other') ],
    [ 'payload changed', "$head." . b64url('{"sub":"user_evil","exp":'
      . ($now + 60) . ',"iss":"https://clerk.runcoach.test"}') . ".$sign" ],
    [ 'signature cut', "$head.$body." . substr($sign, 0, -4) ],
    [ 'empty signature', "$head.$body." ],
    [ 'two segments', "$head.$body" ],
    [ 'a word', 'x' ],
    [ 'alg none', $t->token(alg => 'none') ],
    [ 'HS256 with the PEM', $t->token(alg => 'HS256', secret => $pem) ],
    [ 'typ of an access token', $t->token(header => { typ => 'at+jwt' }) ],
    [ 'other typ', $t->token(header => { typ => 'x' }) ],
    [ 'no typ', $t->token(header => { typ => undef }) ],
    [ 'unknown claims', $t->token(a => { b => [1] }) ],
    [ 'aud, not configured', $t->token(aud => 'x') ],
    [ 'azp, not configured', $t->token(azp => 'https://evil.example.com') ],

    [ 'RS512', $t->token(alg => 'RS512') ],
    [ 'other issuer', $t->token(iss => 'https://evil.example.com'),
      'they leave iss to the key' ],
    [ 'no issuer', $t->token(iss => undef), 'they leave iss to the key' ],
    [ 'empty sub', $t->token(sub => ''), 'nobody is not a person' ],
    [ 'sub of digits', $t->token(sub => '42'),
      'that is a user of the sessions' ],
    [ 'lives for two days', $t->token(exp => $now + 172800),
      'max_lifetime' ],
    [ 'pending session', $t->token(sts => 'pending'),
      'authenticateRequest() refuses it, verifyToken() does not look' ],
    [ 'machine token', $t->token(header => { cat => 'cl_B7d4PD333AAA' }) ],
    [ 'template token', $t->token(header => { cat => 'cl_B7d4PD222AAA' }),
      'authenticateRequest() refuses it, verifyToken() does not look' ],
    [ 'crit', $t->token(header => { crit => ['x'], x => 1 }),
      'RFC 7515: what is critical and unknown is refused' ],
    [ 'a member twice', $t->token(payload => '{"iss":"https://clerk.runcoach'
      . '.test","sub":"user_a","sub":"user_b","exp":' . ($now + 60)
      . ',"iat":' . $now . '}'), 'which of the two is a matter of taste' ],
    [ 'signature with padding', "$head.$body.$sign==",
      'each token has one spelling' ],
    [ 'over 8 KB', $t->token(pad => 'x' x 9000), 'a bound for strangers' ],
);

judge('/any', undef, @any);

my @parties = (
    [ 'azp', $t->token(azp => 'https://app.example.com') ],
    [ 'other azp', $t->token(azp => 'https://evil.example.com') ],
    [ 'no azp', $t->token() ],
    [ 'azp with slash', $t->token(azp => 'https://app.example.com/') ],
    [ 'azp in upper case', $t->token(azp => 'https://APP.example.com') ],
    [ 'azp is a list', $t->token(azp => ['https://app.example.com']) ],
);

judge('/parties', ['https://app.example.com'], @parties);

$t->done();

###############################################################################

sub judge
{
    my ($path, $parties, @table) = @_;

    my ($verdicts, $why) = $t->peer_json('clerk.mjs', '@clerk/backend', {
        pem => $pem, parties => $parties,
        tokens => [ map { $_->[1] } @table ] });

    ok($verdicts, "$path: they judge") or return diag($why);

    for my $i (0 .. $#table) {
        my ($name, $token, $differs) = @{$table[$i]};
        my $r = $t->get($path, token => $token);
        my $ours = $r->status == 200 ? 'ok' : 'refused';
        my ($theirs) = $verdicts->[$i] =~ /^(\w+)/;

        if ($differs) {
            is("$ours $theirs", 'refused ok', "$name: we refuse: $differs")
                or diag($verdicts->[$i]);
            next;
        }

        is($ours, $theirs, "$name: both say $theirs")
            or diag($verdicts->[$i] . ', we: '
                    . ($r->header('X-Reason') // ''));
    }
}

###############################################################################
