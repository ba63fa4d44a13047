#!/usr/bin/perl

# What an attacker tries, and what comes of it: one table, over HTTP/1.1 and
# HTTP/2, against the configuration which is shipped.  The part of a table is
# that of the list of attacks:
#
#     4.1  signatures, algorithms and keys
#     4.2  encoding and parsing
#     4.3  claims
#     4.4  carriers: headers, cookies, paths
#     4.5  what is remembered, and where keys come from
#
# A row says who is let in, or why nobody is: the reason is read back from the
# access log.  Whatever is refused must not have reached the application, and
# what reaches it must carry the identity of the row and nothing that the
# client said of itself, which each request does.
#
# Clerk's own library judges the same requests, of those rows that are about
# its tokens.  Where it says other than we do the row says why.
#
# What cannot be shown over HTTP is shown elsewhere: secrets compared in
# constant time, keys of weak generators (nobody tells from the outside), and
# the bounds of parsers by t/unit and t/fuzz; trouble of the session store by
# t/redis.t; issuers which are slow, away or change their keys by t/keys.t and
# t/rotation.t; optional authentication, "satisfy" and named locations, of
# which the shipped configuration has none, by t/auth.t and t/optional.t.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw/ sha1 sha256 sha512 sha1_base64 /;
use IO::Compress::Gzip qw/ gzip /;
use List::Util qw/ max /;
use Math::BigInt;
use Test::More;
use Test::Runcoach qw/ b64url unb64url json_encode json_decode /;
use Test::Runcoach::HTTP2;
use Time::HiRes qw/ time sleep /;

use constant {
    ISS => 'https://clerk.runcoach.test',
    APP => 'https://app.example.com',
    KEY => 'pk_live_Y2xlcmsucnVuY29hY2gudGVzdCQ',
    SUPA => 'https://abc.supabase.co/auth/v1',
    LEGACY => 'https://legacy.runcoach.test',
    WIDE => 'https://wide.runcoach.test',
    UUID => '5f0c9b1e-7a4d-4d1c-9a52-0c6f3a1b2c3d',
    ZERO => "\0" x 32,
    ONE => "\x01" . "\0" x 31,
};

my $t = Test::Runcoach->new();
my $now = int(time());
my $suffix = substr(sha1_base64(KEY), 0, 8) =~ tr{+/}{-_}r;

my %secret = (supa_hs => 'a secret of Supabase, of more than 32 bytes',
              legacy => "a secret of an older application \x00\xff\x80");

###############################################################################

# keys

$t->key('issuer');
$t->key_of(@$_) for (
    [ 'second', 'rsa2048' ], [ 'other', 'rsa2048' ], [ 'third', 'rsa2048' ],
    [ 'rsa1024', 'rsa1024' ], [ 'rsa2040', 'rsa2040' ],
    [ 'rsa3072', 'rsa3072' ], [ 'rsa4096', 'rsa4096' ],
    [ 'exp3', 'rsa2048e3' ], [ 'exp2p32', 'rsa2048e4294967297' ],
    [ 'ec256', 'P-256' ], [ 'ec256b', 'P-256' ], [ 'ec384', 'P-384' ],
    [ 'ec521', 'P-521' ], [ 'k1', 'secp256k1' ], [ 'ed', 'Ed25519' ],
    [ 'ed448', 'Ed448' ], [ 'x25519', 'X25519' ],
);

my $pem = $t->key_pem('issuer');
my $spki = $t->spki('issuer');
my $pkcs1 = $t->command(['openssl', 'rsa', '-in', $t->key('issuer'),
                         '-RSAPublicKey_out', '-outform', 'DER'])
            =~ s/\Awriting RSA key\n//r;
my $modulus = unb64url($t->jwk_of('issuer')->{n});
my $noise = noise(256);
my @secret_jwk = (kty => 'oct', use => 'sig', k => b64url('secret' x 8));

# A set as it should be, with what should not be in it: each of these is left
# out, and none of them spoils the others.

my $clerk_jwks = {
    keys => [
        { kty => 'RSA', kid => 'ins_nothing', use => 'sig', alg => 'RS256' },
        'not an object',
        { @secret_jwk, kid => 'ins_issuer', alg => 'HS256' },
        $t->jwk_of('issuer'),
        $t->jwk_of('second'),
        $t->jwk_of('rsa3072'),
        $t->jwk_of('rsa4096'),
        $t->jwk_of('exp3'),
        $t->jwk_of('rsa1024'),
        $t->jwk_of('rsa2040'),
        $t->jwk_of('exp2p32'),
        $t->jwk_of('other', kid => 'ins_e1', n => b64url($noise), e => 'AQ'),
        $t->jwk_of('other', kid => 'ins_e0', e => 'AA'),
        $t->jwk_of('other', kid => 'ins_even_e', e => 'AQAA'),
        $t->jwk_of('other', kid => 'ins_even_n',
                   n => b64url($modulus ^ "\0" x 255 . "\1")),
        $t->jwk_of('other', kid => 'ins_huge', n => b64url(noise(2048))),
        $t->jwk_of('other', kid => 'ins_wide_e', e => b64url(noise(256))),
        $t->jwk_of('other', kid => 'ins_private', d => b64url(noise(256))),
        $t->jwk_of('other', kid => 'ins_enc', use => 'enc'),
        $t->jwk_of('other', kid => 'ins_ops', use => undef,
                   key_ops => ['sign']),
        $t->jwk_of('other', kid => 'ins_rsa1_5', alg => 'RSA1_5'),
        $t->jwk_of('other', kid => 'ins_oaep', alg => 'RSA-OAEP-256'),
        $t->jwk_of('other', kid => 'ins_rs512', alg => 'RS512'),
        $t->jwk_of('other', kid => 'ins_hs256', alg => 'HS256'),
        $t->jwk_of('other', kid => undef),
        $t->jwk_of('other', kid => 7),
        $t->jwk_of('ec256', kid => 'ins_ec256'),
        { @secret_jwk, kid => 'ins_oct', alg => 'HS256' },
        { @secret_jwk, kid => 'ins_oct_rs', alg => 'RS256' },
        $t->jwk_of('second', kid => 'ins_twice'),
        $t->jwk_of('third', kid => 'ins_twice'),
        $t->jwk_of('ec256', kid => 'ins_mixed'),
        $t->jwk_of('second', kid => 'ins_mixed'),
        $t->jwk_of('second', kid => 'ins_x5c', x5c => ['MII'], x5t => 'x',
                   x5u => 'http://127.0.0.1:' . $t->port(8092) . '/evil',
                   unknown => { a => [1] }),
    ],
};

my $supa_jwks = {
    keys => [
        $t->jwk_of('ec256b', kid => 'supa_ec'),
        $t->jwk_of('third', kid => 'supa_rsa'),

        # the kids of another issuer

        $t->jwk_of('third', kid => 'ins_issuer'),
        $t->jwk_of('ec256b', kid => 'ins_second'),
        { @secret_jwk, kid => 'supa_oct', alg => 'HS256' },
    ],
};

my $wide_jwks = {
    keys => [
        $t->jwk_of('second', alg => undef),
        $t->jwk_of('issuer'),
        $t->jwk_of('third', alg => 'PS256'),
        $t->jwk_of('exp3', alg => undef),
        $t->jwk_of('ec256'),
        $t->jwk_of('ec384'),
        $t->jwk_of('ec521', alg => undef),
        $t->jwk_of('ed'),
        $t->jwk_of('ed', kid => 'ins_ed_alg', alg => 'Ed25519'),
        $t->jwk_of('k1'),
        $t->jwk_of('k1', kid => 'ins_k1_p256', crv => 'P-256', alg => 'ES256'),
        $t->jwk_of('ec256', kid => 'ins_curve', crv => 'P-384',
                   alg => 'ES384'),
        $t->jwk_of('ec384', kid => 'ins_es256_p384', alg => 'ES256'),
        $t->jwk_of('ec256', kid => 'ins_off', y => b64url(noise(32))),
        $t->jwk_of('ec256', kid => 'ins_zero', x => b64url(ZERO),
                   y => b64url(ZERO)),
        $t->jwk_of('ec256', kid => 'ins_no_y', y => undef),
        $t->jwk_of('ec256', kid => 'ins_x', x => ['x']),
        $t->jwk_of('ed448'),
        $t->jwk_of('x25519'),
        $t->jwk_of('ed', kid => 'ins_ed_one', x => b64url(ONE)),
        $t->jwk_of('ed', kid => 'ins_ed_zero', x => b64url(ZERO)),
        $t->jwk_of('ed', kid => 'ins_ed_short', x => b64url("\1" x 31)),
        { @secret_jwk, kid => 'ins_wide_oct' },
    ],
};

# The issuers, all of them here, and what they are asked for.  The rest are
# answers that are no key set, each under the name of an issuer.

my $good = json_encode({ keys => [ $t->jwk_of('issuer') ] });
my $many = json_encode({ keys => [ map { $t->jwk_of('ec256', kid => "k$_") }
                                   1 .. 300 ] });

my $gzip;

gzip(\$good, \$gzip);

my %answer = (
    '/jwks' => [200, {}, json_encode($clerk_jwks)],
    '/supa' => [200, {}, json_encode($supa_jwks)],
    '/wide' => [200, {}, json_encode($wide_jwks)],
    '/evil' => [200, {}, json_encode({ keys => [ $t->jwk_of('other') ] })],
    '/redirect' => [302, { Location => 'http://127.0.0.1:' . $t->port(8092)
                           . '/evil' }, ''],
    '/empty' => [200, {}, '{"keys":[]}'],
    '/html' => [200, { 'Content-Type' => 'text/html' }, '<html></html>'],
    '/bom' => [200, {}, "\xef\xbb\xbf$good"],
    '/list' => [200, {}, '[' . json_encode($t->jwk_of('issuer')) . ']'],
    '/trailing' => [200, {}, "$good x"],
    '/duplicate' => [200, {}, '{"keys":[],' . substr($good, 1)],
    '/many' => [200, {}, $many],
    '/large' => [200, {}, $good . ' ' x 1000000],
    '/gzip' => [200, { 'Content-Encoding' => 'gzip' }, $gzip],
    '/unchanged' => [304, {}, ''],
    '/partial' => [206, {}, $good],
    '/error' => [500, {}, $good],
    '/created' => [201, {}, $good],
    '/cut' => "HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n$good",
    '/chunks' => "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
                 . "zz\r\n$good\r\n0\r\n\r\n",
    '/text' => [200, { 'Content-Type' => 'text/plain' }, $good],
);

my @bad_sets = qw/ redirect empty html bom list trailing duplicate many large
                   gzip unchanged partial error created cut chunks /;

my $issuers = $t->http_daemon(sub { return $answer{$_[0]->{target}} },
                              port => 8092, name => 'issuers');

###############################################################################

# The table.  A row is { part, name, tokens or headers, status, reason or user,
# ... }, made by these:
#
#     let_in(name, user, token, ...)        by Authorization: Bearer
#     refused(name, reason, token, ...)     the same, 401
#     row(name, status =>, ...)             anything
#
# A token is a text, or what forge() takes.  More of a row:
#
#     headers => [...]     instead of Authorization; <1> is the first token
#     tokens => [...]      for them
#     method, path, body, trailers; <id> in a path is the row's own
#     session => n         the identity is that of a session
#     method_name          X-Auth-Method, "clerk" unless it says other
#     http1, http2         { what is different there }, or why it cannot be
#     before => sub        runs before the request is sent
#     cache                $runcoach_auth_cache
#     clerk, why           what Clerk's library says if it is not what we say;
#                          "n/a": it is none of its business

my ($part, @rows) = ('');

# what nginx refuses before anybody looks at it; in HTTP/2 it may end the
# connection instead

my @no_line = (http2 => { status => qr/^(?:0|400)$/ }, clerk => 'n/a',
               why => 'no server takes such a line');


sub row
{
    my ($name, %row) = @_;

    push @rows, { part => $part, name => $name, method => 'GET',
                  path => '/api/v1/<id>', %row };
}


sub let_in
{
    my ($name, $user, $token, %row) = @_;

    row($name, status => 200, user => $user, tokens => [$token],
        headers => [ Authorization => 'Bearer <1>' ], %row);
}


sub refused
{
    my ($name, $reason, $token, %row) = @_;

    row($name, status => 401, reason => $reason, tokens => [$token],
        headers => [ Authorization => 'Bearer <1>' ], %row);
}


# a spec for forge(): a good token, but for what is given

sub spec
{
    my (%spec) = @_;

    return { azp => APP, sub => 'user_a', %spec };
}


# the same with a payload or header as a text

sub claims
{
    my ($more, %spec) = @_;

    my %claim = (iss => '"' . ISS . '"', sub => '"user_a"',
                 azp => '"' . APP . '"', iat => $now, exp => $now + 3600,
                 %{delete $spec{claim} || {}});

    return spec(%spec, payload => '{' . join(',', map { "\"$_\":$claim{$_}" }
        grep { defined $claim{$_} } sort keys %claim) . "$more}");
}


sub head
{
    my ($more, %spec) = @_;

    return spec(protected => '{"alg":"RS256","kid":"ins_issuer",'
                             . "\"typ\":\"JWT\"$more}", %spec);
}


# bytes which are the same in each run, odd, and with the highest bit set

sub noise
{
    my ($n) = @_;

    my $bytes = join('', map { sha512("noise $n $_") } 0 .. $n / 64);

    $bytes = substr($bytes, 0, $n);

    return ("\x80" | substr($bytes, 0, 1)) . substr($bytes, 1, -1)
           . ("\x01" | substr($bytes, -1));
}


# RFC 8017 section 9.2, or nearly so

my %DIGEST = (
    sha1 => [ "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
              \&sha1 ],
    sha256 => [ "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"
                . "\x05\x00\x04\x20", \&sha256 ],
    no_null => [ "\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"
                 . "\x04\x20", \&sha256 ],
    ber => [ "\x30\x81\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"
             . "\x05\x00\x04\x20", \&sha256 ],
    bare => [ '', \&sha256 ],
);

sub emsa
{
    my ($digest, %opt) = @_;

    return sub {
        my ($info, $hash) = @{$DIGEST{$digest}};
        my $tail = "\0$info" . $hash->($_[0]) . ($opt{garbage} // '');
        my $head = $opt{head} // "\0\1";
        my $n = $opt{padding} // 256 - length($head) - length($tail);
        my $byte = $opt{byte} // "\xff";

        return $head . $byte x $n . $tail;
    };
}


sub number { return Math::BigInt->from_hex(unpack('H*', $_[0])) }

sub octets
{
    my ($number, $n) = @_;

    my $hex = substr($number->as_hex(), 2);

    return pack('H*', '0' x max(0, 2 * $n - length($hex)) . $hex);
}


# RFC 8032: the order of the group

my $L = Math::BigInt->new(2)->bpow(252)
        + Math::BigInt->new('27742317777372353535851937790883648493');

my %ORDER = (
    ES256 => Math::BigInt->from_hex('ffffffff00000000ffffffffffffffff'
                                    . 'bce6faada7179e84f3b9cac2fc632551'),
);

###############################################################################

$part = '4.1';

let_in('a good token', 'user_a', spec());
let_in('... by another key of the set', 'user_b',
       spec(key => 'second', sub => 'user_b'));

# RFC 7519 section 6: none

for my $alg ('none', 'None', 'NONE', 'nOnE', 'none ', '', 'null') {
    refused("alg \"$alg\"", 'token-invalid', spec(alg => $alg, sign => ''));
    refused("alg \"$alg\", signed", 'token-invalid-algorithm',
            spec(alg => $alg, sign => 'RS256'));
}

refused('alg none, no second dot', 'token-invalid',
        spec(alg => 'none', sign => '', token => sub { "$_[0].$_[1]" }));
refused('no alg', 'token-invalid', spec(alg => undef, sign => 'RS256'));
refused('alg in lower case', 'token-invalid-algorithm',
        spec(alg => 'rs256', sign => 'RS256'));
refused('alg with a space', 'token-invalid-algorithm',
        spec(alg => 'RS256 ', sign => 'RS256'));
refused('RS256, no signature', 'token-invalid', spec(signature => ''));
refused('RS256, one byte', 'token-invalid-signature', spec(signature => 'x'));
refused('RS256, zeroes', 'token-invalid-signature',
        spec(signature => "\0" x 256));
refused('RS256, a one', 'token-invalid-signature',
        spec(signature => "\0" x 255 . "\1"));
refused('signature of another token', 'token-invalid-signature',
        spec(signature => unb64url((split(/\./, $t->forge(spec())))[2]),
             sub => 'user_evil'));
refused('signature flipped', 'token-invalid-signature',
        spec(signature => sub { $_[0] ^ "\0" x 100 . "\1" }));
refused('signature cut', 'token-invalid-signature',
        spec(signature => sub { substr($_[0], 0, -1) }));
refused('signature with a zero before it', 'token-invalid-signature',
        spec(signature => sub { "\0$_[0]" }));
refused('signature with a zero after it', 'token-invalid-signature',
        spec(signature => sub { "$_[0]\0" }));
refused('signature plus the modulus', 'token-invalid-signature',
        spec(signature => sub { octets(number($_[0]) + number($modulus),
                                       256) }));

# what is public is no secret

my %public = (
    'PEM' => $pem,
    'PEM without LF' => $pem =~ s/\n\z//r,
    'PEM with CR LF' => $pem =~ s/\n/\r\n/gr,
    'PEM on one line' => $pem =~ s/\n//gr,
    'PEM with space before it' => "\n  $pem",
    'PEM without armour' => $pem =~ s/-----.*?-----\n//gr,
    'SPKI' => $spki,
    'PKCS #1' => $pkcs1,
    'modulus' => $modulus,
    'modulus, encoded' => b64url($modulus),
    'JWK' => json_encode($t->jwk_of('issuer')),
    'JWK Set' => json_encode($clerk_jwks),
    'kid' => 'ins_issuer',
    'empty key' => '',
    'zero byte' => "\0",
);

for my $name (sort keys %public) {
    refused("HS256 by $name", 'token-invalid-algorithm',
            spec(alg => 'HS256', secret => $public{$name}));
}

refused('HS384 by PEM', 'token-invalid-algorithm',
        spec(alg => 'HS384', secret => $pem));
refused('HS512 by PEM', 'token-invalid-algorithm',
        spec(alg => 'HS512', secret => $pem));
refused('HMAC said to be RS256', 'token-invalid-signature',
        spec(alg => 'RS256', sign => 'HS256', secret => $pem));

# the algorithm is the issuer's and the key's, and not the token's

for my $alg (qw/ RS384 RS512 PS256 PS384 PS512 /) {
    refused("$alg by the right key", 'token-invalid-algorithm',
            spec(alg => $alg),
            $alg =~ /^RS/ ? (clerk => 'n/a', why => 'they take the header\'s '
                . 'word for it, with a key that says RS256: see t/clerk.t')
                          : ());
}

refused('RS512 said to be RS256', 'token-invalid-signature',
        spec(sign => 'RS512'));
refused('PS256 said to be RS256', 'token-invalid-signature',
        spec(sign => 'PS256'));
refused('ES256 by a key of the set', 'token-invalid-algorithm',
        spec(alg => 'ES256', key => 'ec256'));
refused('ES256 said to be RS256', 'jwk-kid-mismatch',
        spec(sign => 'ES256', key => 'ec256'));
refused('EdDSA', 'token-invalid-algorithm', spec(alg => 'EdDSA', key => 'ed'));

for my $alg (qw/ ES256K ES384 Ed25519 RS1 RSA1_5 A128KW dir HS1 RS2560 /) {
    refused("alg $alg", 'token-invalid-algorithm',
            spec(alg => $alg, sign => 'RS256'));
}

# PKCS #1 v1.5: one encoding of a message and no other

let_in('PKCS #1, as it should be', 'user_a', spec(block => emsa('sha256')));

for my $case (
    [ 'SHA-1', emsa('sha1') ],
    [ 'no NULL', emsa('no_null') ],
    [ 'BER length', emsa('ber') ],
    [ 'a bare hash', emsa('bare') ],
    [ 'garbage after the hash', emsa('sha256', padding => 8,
                                     garbage => 'x' x 194) ],
    [ 'no padding', emsa('sha256', padding => 0, garbage => 'x' x 202) ],
    [ 'another padding', emsa('sha256', byte => "\xfe") ],
    [ 'block type 2', emsa('sha256', head => "\0\2") ],
    [ 'block type 0', emsa('sha256', head => "\0\0", byte => "\0") ],
    [ 'other first byte', emsa('sha256', head => "\1\1") ],
)
{
    refused("PKCS #1, $case->[0]", 'token-invalid-signature',
            spec(block => $case->[1]));
}

# keys that come with the token

my $evil = 'http://127.0.0.1:' . $t->port(8092) . '/evil';

for my $case (
    [ 'jwk', { jwk => $t->jwk_of('other') } ],
    [ 'jwk and jku', { jwk => $t->jwk_of('other'), jku => $evil } ],
    [ 'jku', { jku => $evil } ],
    [ 'jku of a file', { jku => 'file:///etc/passwd' } ],
    [ 'x5u', { x5u => $evil } ],
    [ 'x5c', { x5c => [ $t->spki('other') =~ /./ ? 'MIIBIjAN' : '' ] } ],
    [ 'x5t', { x5t => 'x', 'x5t#S256' => 'x' } ],
)
{
    my ($name, $header) = @$case;

    refused("$name, own key", 'jwk-kid-mismatch',
            spec(key => 'other', header => $header));
    refused("$name, own key, kid of the issuer", 'token-invalid-signature',
            spec(key => 'other', kid => 'ins_issuer', header => $header));
    let_in("$name, by the issuer", 'user_a', spec(header => $header));
}

# kid

for my $case (
    [ 'unknown', 'ins_unknown' ],
    [ 'empty', '' ],
    [ 'a path', '../../../../dev/null' ],
    [ 'an absolute path', '/etc/passwd' ],
    [ 'a URL', $evil ],
    [ 'SQL', "ins_issuer' OR '1'='1" ],
    [ 'a command', 'ins_issuer|touch /tmp/x' ],
    [ 'CR LF', "ins_issuer\r\nSet-Cookie: evil=1" ],
    [ 'a format', '%s%n%x' ],
    [ 'of 6 KB', 'k' x 4000 ],
    [ 'with a space', 'ins_issuer ' ],
    [ 'in upper case', 'INS_ISSUER' ],
    [ 'a prefix', 'ins_iss' ],
    [ 'of the second key', 'ins_second', 'token-invalid-signature' ],
    [ 'of a key of another type', 'ins_ec256' ],
)
{
    my ($name, $kid, $reason) = @$case;

    refused("kid: $name", $reason // 'jwk-kid-mismatch', spec(kid => $kid));
}

refused('kid: missing', 'jwk-kid-mismatch', spec(kid => undef));
refused('kid: a number', 'token-invalid', spec(kid => 7));
refused('kid: a list', 'token-invalid', spec(kid => ['ins_issuer']),
        clerk => 'in', why => 'a member of an object in JavaScript has a '
                              . 'name, which ["x"] becomes');
refused('kid: null', 'token-invalid',
        head('', protected => '{"alg":"RS256","kid":null,"typ":"JWT"}'));
refused('kid: an object', 'token-invalid', spec(kid => {}));
refused('kid: with NUL', 'token-invalid',
        head('', protected => '{"alg":"RS256","kid":"ins_issuer\u0000"}'));
row('kid: of 64 KB', status => 400, tokens => [spec(kid => 'k' x 65536)],
    headers => [ Authorization => 'Bearer <1>' ], @no_line);

# what is critical and unknown to us; what we know is nothing

my $crit = 'RFC 7515 section 4.1.11, which they do not look at';

for my $case (
    [ 'unknown', ',"crit":["x"],"x":1' ],
    [ 'empty', ',"crit":[]' ],
    [ 'not a list', ',"crit":"exp"' ],
    [ 'null', ',"crit":null' ],
    [ 'a known claim', ',"crit":["exp"],"exp":1' ],
    [ 'a known parameter', ',"crit":["alg"]' ],
    [ 'twice', ',"crit":["x","x"],"x":1' ],
    [ 'of what is not there', ',"crit":["x"]' ],
    [ 'b64', ',"crit":["b64"],"b64":true' ],
    [ 'b64 false', ',"crit":["b64"],"b64":false' ],
    [ 'none, b64 false', ',"b64":false' ],
)
{
    my ($name, $more) = @$case;

    refused("crit: $name", 'token-invalid', head($more), clerk => 'in',
            why => $crit);
}

# RFC 7797 section 4.1

refused('a payload which is not encoded', 'token-invalid',
        head(',"b64":false,"crit":["b64"]', segments => sub { ($_[0], '$.02') }));

# other things than a compact JWS

refused('JWE', 'token-invalid', 'eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ'
        . '.' . b64url('x' x 256) . '.' . b64url('iv' x 6) . '.'
        . b64url(json_encode({ iss => ISS })) . '.' . b64url('tag' x 5));
refused('JWE of three segments', 'token-invalid-algorithm',
        spec(alg => 'dir', sign => 'RS256', header => { enc => 'A256GCM' }));
refused('JWE, zip', 'token-invalid', b64url('{"alg":"dir","enc":"A128GCM",'
        . '"zip":"DEF"}') . '..' . b64url('iv') . '.' . b64url('x' x 100)
        . '.' . b64url('tag'));
let_in('zip, which is not of JWS', 'user_a', spec(header => { zip => 'DEF' }));
refused('a compressed payload', 'token-invalid',
        spec(header => { zip => 'DEF' }, payload => "\xabV*.\xc9/J\xcdKI\x02"));
refused('a token in a token', 'token-invalid',
        spec(header => { cty => 'JWT' }, payload => scalar $t->forge(spec())));

my @flat = (token => sub { json_encode({ protected => $_[0], payload => $_[1],
                                         signature => $_[2] }) });

refused('JSON serialization, flattened', 'token-invalid', spec(@flat));
refused('JSON serialization, general', 'token-invalid', spec(token => sub {
    json_encode({ payload => $_[1], signatures => [ { protected => $_[0],
                                                      signature => $_[2] } ] })
}));
refused('JSON and compact in one', 'token-invalid', spec(token => sub {
    "{\"  $_[0].$_[1].\":\"\",\"protected\":\"$_[0]\",\"payload\":\"$_[1]\","
    . "\"signature\":\"$_[2]\"}"
}));
refused('unprotected header', 'token-invalid', spec(token => sub {
    json_encode({ header => { alg => 'none' }, payload => $_[1],
                  signature => '' })
}));

# weak keys, and keys for something else

let_in('RSA of 3072 bits', 'user_a', spec(key => 'rsa3072'));
let_in('RSA of 4096 bits', 'user_a', spec(key => 'rsa4096'));
let_in('e of 3', 'user_a', spec(key => 'exp3'));

my $weak = 'a key that is too weak for anybody is no key';

refused('RSA of 1024 bits', 'jwk-kid-mismatch', spec(key => 'rsa1024'),
        clerk => 'in', why => $weak);
refused('RSA of 2040 bits', 'jwk-kid-mismatch', spec(key => 'rsa2040'),
        clerk => 'in', why => $weak);
refused('e above 2^32', 'jwk-kid-mismatch', spec(key => 'exp2p32'),
        clerk => 'in', why => 'a bound of the work that a token makes');
refused('e of 1', 'jwk-kid-mismatch',
        spec(kid => 'ins_e1', sign => '', signature => sub {
            emsa('sha256')->($_[1])
        }), clerk => 'in', why => $weak);
refused('kid of a key with e of 0', 'jwk-kid-mismatch',
        spec(key => 'other', kid => 'ins_e0'));
refused('kid of a key with an even e', 'jwk-kid-mismatch',
        spec(key => 'other', kid => 'ins_even_e'));
refused('kid of a key with an even n', 'jwk-kid-mismatch',
        spec(key => 'other', kid => 'ins_even_n'));
refused('kid of a key of 16384 bits', 'jwk-kid-mismatch',
        spec(key => 'other', kid => 'ins_huge'));
refused('kid of a key with an e of 2048 bits', 'jwk-kid-mismatch',
        spec(key => 'other', kid => 'ins_wide_e'));
refused('kid of a key without n and e', 'jwk-kid-mismatch',
        spec(key => 'other', kid => 'ins_nothing'));

for my $case (
    [ 'with its private half', 'ins_private' ],
    [ 'for encryption', 'ins_enc' ],
    [ 'for signing only', 'ins_ops' ],
    [ 'of RSA1_5', 'ins_rsa1_5' ],
    [ 'of RSA-OAEP', 'ins_oaep', 'in' ],
    [ 'of RS512', 'ins_rs512' ],
    [ 'of HS256', 'ins_hs256', 'in' ],
)
{
    my ($name, $kid, $clerk) = @$case;

    refused("a key $name", 'jwk-kid-mismatch',
            spec(key => 'other', kid => $kid), clerk => $clerk,
            why => $clerk && 'they do not look at what a key is for');
}

refused('a key without kid', 'jwk-kid-mismatch',
        spec(key => 'other', kid => undef), clerk => 'in',
        why => 'to them it has the kid "undefined", as the token has');
refused('a key with a number as kid', 'jwk-kid-mismatch',
        spec(key => 'other', kid => '7'), clerk => 'in',
        why => 'a member of an object in JavaScript has a name, which 7 '
               . 'becomes');

refused('HS256 by an oct of the set', 'token-invalid-algorithm',
        spec(alg => 'HS256', kid => 'ins_oct', secret => 'secret' x 8));
refused('HS256 by an oct of the same kid', 'token-invalid-algorithm',
        spec(alg => 'HS256', kid => 'ins_issuer', secret => 'secret' x 8));
refused('RS256 by an oct', 'jwk-kid-mismatch',
        spec(kid => 'ins_oct_rs', sign => 'HS256', secret => 'secret' x 8));

let_in('a kid twice, the first', 'user_a',
       spec(key => 'second', kid => 'ins_twice'), clerk => 'out',
       why => 'the last one wins with them, and both are the issuer\'s');
let_in('a kid twice, the second', 'user_a',
       spec(key => 'third', kid => 'ins_twice'));
refused('a kid twice, neither', 'token-invalid-signature',
        spec(key => 'other', kid => 'ins_twice'));
let_in('a kid twice, of two types', 'user_a',
       spec(key => 'second', kid => 'ins_mixed'));
let_in('a key with members we do not use', 'user_a',
       spec(key => 'second', kid => 'ins_x5c'));

###############################################################################

$part = '4.2';

my $spelling = 'each token has one spelling';

# Each of the segments, and signed as it is sent.

for my $case (
    [ '"="', sub { "$_[0]=" }, 'in' ],
    [ '"=="', sub { "$_[0]==" }, 'in' ],
    [ 'a space at the end', sub { "$_[0] " } ],
    [ 'a tab', sub { "\t$_[0]" } ],
    [ 'a space inside', sub { substr($_[0], 0, 8) . ' ' . substr($_[0], 8) } ],
    [ '%20', sub { "$_[0]%20" } ],
    [ 'a byte above 0x7f', sub { "$_[0]\xc3\xa4" } ],
    [ 'a quote', sub { "\"$_[0]\"" } ],
    [ 'another letter', sub { "$_[0]!" } ],
    [ 'a length of 4n + 1', sub { $_[0] . 'A' x ((5 - length($_[0]) % 4) % 4
                                                 || 4) } ],
)
{
    my ($name, $change, $clerk) = @$case;

    # HTTP/1.1 takes no notice of space at the end of a line

    for my $i (0 .. ($name =~ /end/ ? 1 : 2)) {
        my $where = qw/ header payload signature /[$i];
        my $spec = $i == 2
            ? spec(token => sub { "$_[0].$_[1]." . $change->($_[2]) })
            : spec(segments => sub { map { $_ == $i ? $change->($_[$_])
                                                    : $_[$_] } 0, 1 });

        refused("$where: $name", 'token-invalid', $spec, clerk => $clerk,
                why => $spelling);
    }
}

# 256 bytes leave four bits in the last letter, and 22 letters of 16 bytes too

refused('signature: bits that are not used', 'token-invalid', spec(token => sub {
    my ($last) = $_[2] =~ /(.)\z/;

    return "$_[0].$_[1]." . substr($_[2], 0, -1) . chr(ord($last) + 1);
}));
refused('payload: bits that are not used', 'token-invalid',
        claims(' ' x 2, segments => sub { ($_[0], unused($_[1])) }));
refused('header: bits that are not used', 'token-invalid',
        head(' ', segments => sub { (unused($_[0]), $_[1]) }));

# pads the JSON by white space until bits are left, and sets the lowest

sub unused
{
    my ($text) = @_;

    my $json = unb64url($text);

    $json =~ s/\}\z/ }/ while length($json) % 3 == 0;
    $text = b64url($json);
    substr($text, -1) =~ tr{AEIMQUYcgkosw048}{BFJNRVZdhlptx159};

    return $text;
}

refused('standard alphabet', 'token-invalid',
        spec(token => sub { "$_[0].$_[1]." . ($_[2] =~ tr{-_}{+/}r) }));
refused('dots encoded', 'token-invalid',
        spec(token => sub { join('%2E', @_) }));
row('NUL in the token', status => 400, tokens => [spec()],
    headers => [ Authorization => "Bearer <1>\0" ], @no_line);
row('LF in the token', status => 400, tokens => [spec()],
    headers => [ Authorization => "Bearer <1>\nX-User-Id: 1" ],
    http1 => 'two lines are two lines', @no_line);
row('CR in the token', status => 400, tokens => [spec()],
    headers => [ Authorization => "Bearer <1>\rX-User-Id: 1" ], @no_line);

# segments

for my $case (
    [ 'one segment', sub { $_[0] } ],
    [ 'two segments', sub { "$_[0].$_[1]" } ],
    [ 'a fourth, empty', sub { "$_[0].$_[1].$_[2]." } ],
    [ 'a fourth', sub { "$_[0].$_[1].$_[2].$_[2]" } ],
    [ 'five segments', sub { "$_[0].$_[1].$_[2].$_[1].$_[2]" } ],
    [ 'a dot first', sub { ".$_[0].$_[1].$_[2]" } ],
    [ 'two dots', sub { "$_[0]..$_[1].$_[2]" } ],
    [ 'no header', sub { ".$_[1].$_[2]" } ],
    [ 'no payload', sub { "$_[0]..$_[2]" } ],
    [ 'two dots alone', sub { '..' } ],
    [ 'three dots', sub { '...' } ],
    [ '7000 dots', sub { '.' x 7000 } ],
    [ '12000 dots', sub { '.' x 12000 } ],
    [ 'a word', sub { 'x' } ],
    [ 'null', sub { 'null' } ],
    [ 'undefined', sub { 'undefined' } ],
    [ 'segments changed', sub { "$_[1].$_[0].$_[2]" } ],
    [ 'a comma', sub { "$_[0],$_[1],$_[2]" } ],
)
{
    my ($name, $shape) = @$case;

    refused($name, 'token-invalid', spec(token => $shape));
}

row('a million dots', status => 400, tokens => ['.' x 1000000],
    headers => [ Authorization => 'Bearer <1>' ], @no_line);

# size

my $room = 8192 - length($t->forge(spec(pad => '')));

let_in('nearly 8 KB', 'user_a', spec(pad => 'x' x ($room * 3 / 4 - 8)));
refused('over 8 KB', 'token-invalid', spec(pad => 'x' x ($room * 3 / 4 + 16)),
        clerk => 'in', why => 'a bound for strangers');
refused('a header of 9 KB', 'token-invalid',
        spec(header => { pad => 'x' x 7000 }), clerk => 'in',
        why => 'a bound for strangers');

# JSON

my $json = 'RFC 8725 section 2.6: no two readers may see two things';

for my $case (
    [ 'sub twice', ',"sub":"user_b"' ],
    [ 'exp twice', ',"exp":' . ($now + 7200) ],
    [ 'iss twice', ',"iss":"' . ISS . '"' ],
    [ 'azp twice', ',"azp":"' . APP . '"' ],
    [ 'sub twice, once escaped', ',"\u0073ub":"user_b"' ],
    [ 'a member twice, deeper', ',"o":{"id":"a","id":"b"}' ],
    [ 'a member twice, deeper, escaped', ',"o":{"id":"a","\u0069d":"b"}' ],
    [ 'NUL', ',"a":"\u0000"' ],
    [ 'NUL in a name', ',"a\u0000":1' ],
    [ 'NUL in a sub', ',"a":{"sub":"user\u0000"}' ],
    [ 'a lone surrogate', ',"a":"\ud800"' ],
    [ 'a lone low surrogate', ',"a":"\udc00"' ],
    [ 'surrogates in disorder', ',"a":"\udc00\ud800"' ],
    [ '1e400', ',"a":1e400' ],
    [ 'an integer of 400 digits', ',"a":' . '9' x 400 ],
    [ 'invalid UTF-8', ",\"a\":\"\xff\"" ],
    [ 'overlong UTF-8', ",\"a\":\"\xc0\xaf\"" ],
    [ 'CESU-8', ",\"a\":\"\xed\xa0\x81\xed\xb0\x80\"" ],
    [ 'UTF-8 beyond Unicode', ",\"a\":\"\xf4\x90\x80\x80\"" ],
    [ 'UTF-8 cut', ",\"a\":\"\xe2\x82\"" ],
)
{
    my ($name, $more) = @$case;

    refused("payload: $name", 'token-invalid', claims($more), clerk => 'in',
            why => $json);
}

for my $case (
    [ 'a comment', ',"a":1/* x */' ],
    [ 'NaN', ',"a":NaN' ],
    [ 'Infinity', ',"a":Infinity' ],
    [ 'single quotes', ",'a':1" ],
    [ 'a name without quotes', ',a:1' ],
    [ 'a comma at the end', ',' ],
    [ 'a number with a zero', ',"a":01' ],
    [ 'a number with a plus', ',"a":+1' ],
    [ 'a number in hexadecimal', ',"a":0x1' ],
    [ 'a number with a dot', ',"a":1.' ],
    [ 'a control character', ",\"a\":\"\x01\"" ],
    [ 'a line feed in a string', ",\"a\":\"\n\"" ],
    [ 'an unknown escape', ',"a":"\x41"' ],
    [ 'a bare NUL', ",\0\"a\":1" ],
)
{
    my ($name, $more) = @$case;

    refused("payload: $name", 'token-invalid', claims($more));
}

my $text = claims('')->{payload};

for my $case (
    [ 'an array', "[$text]" ],
    [ 'a string', '"x"' ],
    [ 'a number', '1' ],
    [ 'null', 'null' ],
    [ 'empty', ' ' ],
    [ 'not closed', substr($text, 0, -1) ],
    [ 'two documents', $text . $text ],
    [ 'something after it', "$text x" ],
    [ 'a NUL after it', "$text\0" ],
    [ 'a NUL before it', "\0$text" ],
    [ 'UTF-16', join('', map { "$_\0" } split(//, $text)) ],
)
{
    my ($name, $payload) = @$case;

    refused("payload: $name", 'token-invalid', spec(payload => $payload));
}

refused('payload: a byte order mark', 'token-invalid',
        spec(payload => "\xef\xbb\xbf$text"), clerk => 'in', why => $json);
refused('payload: deep, in 7 KB', 'token-invalid',
        claims(',"a":' . '[' x 2000 . ']' x 2000), clerk => 'in',
        why => 'a bound for strangers');
refused('payload: 500 deep', 'token-invalid',
        claims(',"a":' . '{"a":' x 500 . '1' . '}' x 500), clerk => 'in',
        why => 'a bound for strangers');
let_in('payload: 16 deep', 'user_a',
       claims(',"a":' . '[' x 14 . ']' x 14));
let_in('payload: white space', 'user_a', claims(" ,\n\t\"a\" : [ ] \r\n"));
let_in('payload: white space around it', 'user_a',
       spec(payload => " \n$text\r\n "));
let_in('payload: 700 members', 'user_a',
       claims(join('', map { ",\"m$_\":0" } 1 .. 550)));
let_in('payload: an array of 1200', 'user_a', claims(',"a":[' . '0,' x 1199
                                                     . '0]'));
let_in('payload: -0', 'user_a', claims(',"a":-0,"b":-0.0,"c":0e0'));
let_in('payload: escapes', 'user_a',
       claims(',"a":"\ud83d\ude00\/\n\u00e4","b":""', claim => {
           sub => '"\u0075ser_a"' }));

for my $case (
    [ 'alg twice', ',"alg":"none"', 'out' ],
    [ 'alg twice, the same', ',"alg":"RS256"' ],
    [ 'alg twice, escaped', ',"\u0061lg":"RS256"' ],
    [ 'kid twice', ',"kid":"ins_second"', 'out' ],
    [ 'kid twice, the same', ',"kid":"ins_issuer"' ],
    [ 'typ twice', ',"typ":"JWT"' ],
    [ 'cat twice', ',"cat":"cl_B7d4PD111AAA","cat":"cl_B7d4PD111AAA"' ],
    [ 'a lone surrogate', ',"a":"\ud800"' ],
    [ 'a member twice, deeper', ',"jwk":{"n":"","n":""}' ],
    [ 'something after it', '} {', 'out' ],
    [ 'NUL in a string', ',"a":"\u0000"' ],
    [ '500 deep', ',"a":' . '[' x 500 . ']' x 500 ],
)
{
    my ($name, $more, $clerk) = @$case;

    refused("header: $name", 'token-invalid', head($more),
            clerk => $clerk // 'in', why => $json);
}

for my $case (
    [ 'alg with NUL', '{"alg":"RS256\u0000","kid":"ins_issuer"}' ],
    [ 'alg is a list', '{"alg":["RS256"],"kid":"ins_issuer"}' ],
    [ 'alg is a number', '{"alg":256,"kid":"ins_issuer"}' ],
    [ 'alg is null', '{"alg":null,"kid":"ins_issuer"}' ],
    [ 'alg is true', '{"alg":true,"kid":"ins_issuer"}' ],
    [ 'alg is an object', '{"alg":{"RS256":1},"kid":"ins_issuer"}' ],
    [ 'a list', '[{"alg":"RS256","kid":"ins_issuer"}]' ],
    [ 'a string', '"RS256"' ],
    [ 'null', 'null' ],
    [ 'a number', '256' ],
    [ 'empty', '{}' ],
    [ 'alg in upper case', '{"ALG":"RS256","kid":"ins_issuer"}' ],
    [ 'a byte order mark',
      "\xef\xbb\xbf" . '{"alg":"RS256","kid":"ins_issuer"}', 'in' ],
    [ 'typ is a number', '{"alg":"RS256","kid":"ins_issuer","typ":1}' ],
    [ 'cat is a number', '{"alg":"RS256","kid":"ins_issuer","cat":1}' ],
)
{
    my ($name, $header, $clerk) = @$case;

    refused("header: $name", 'token-invalid', head('', protected => $header),
            clerk => $clerk, why => $json);
}

let_in('header: escapes', 'user_a', head('',
       protected => '{"\u0061lg":"\u0052S256","kid":"ins\u005fissuer"}'));
let_in('header: unknown members', 'user_a', head(',"oiat":1,"x":{"y":[1]}'));

###############################################################################

$part = '4.3';

# dates

for my $case (
    [ 'missing', undef ],
    [ 'a string', '"' . ($now + 60) . '"' ],
    [ 'null', 'null' ],
    [ 'true', 'true' ],
    [ 'a list', '[' . ($now + 60) . ']' ],
    [ 'an object', '{}' ],
)
{
    my ($name, $exp) = @$case;

    refused("exp: $name", 'token-invalid-claim',
            claims('', claim => { exp => $exp }));
}

for my $case (
    [ 'negative', -1, 'token-invalid-claim' ],
    [ 'zero', 0, 'token-invalid-claim' ],
    [ '-0', '-0', 'token-invalid-claim' ],
    [ 'one', 1, 'token-expired' ],
    [ 'tiny', '1e-300', 'token-expired' ],
    [ 'just now', $now - 20, 'token-expired' ],
    [ 'before iat', $now - 100, 'token-expired', iat => $now - 50 ],
)
{
    my ($name, $exp, $reason, @more) = @$case;

    refused("exp: $name", $reason,
            claims('', claim => { exp => $exp, @more }));
}

for my $case (
    [ '2^53 - 1', '9007199254740991', 'token-invalid-lifetime' ],
    [ '2^53', '9007199254740992', 'token-invalid-claim' ],
    [ '2^63 - 1', '9223372036854775807', 'token-invalid-claim' ],
    [ '2^63 - 5', '9223372036854775803', 'token-invalid-claim' ],
    [ '1e30', '1e30', 'token-invalid-claim' ],
    [ '2^63', '9223372036854775808', 'token-invalid' ],
    [ '2^64', '18446744073709551616', 'token-invalid' ],
    [ '2^64 and an hour', '18446744073709555216', 'token-invalid' ],
    [ '1e400', '1e400', 'token-invalid' ],
    [ 'the year 2100', '4102444800', 'token-invalid-lifetime' ],
    [ 'two days', $now + 172800, 'token-invalid-lifetime' ],
)
{
    my ($name, $exp, $reason) = @$case;

    refused("exp: $name", $reason, claims('', claim => { exp => $exp }),
            clerk => 'in', why => 'a token lives for a minute, not for ever');
}

refused('exp: the year 2100, no iat', 'token-invalid-lifetime',
        claims('', claim => { exp => 4102444800, iat => undef }),
        clerk => 'in', why => 'a token lives for a minute, not for ever');
let_in('exp: a real', 'user_a', claims('', claim => { exp => $now + 60.5 }));
let_in('exp: an exponent', 'user_a',
       claims('', claim => { exp => sprintf('%.9e', $now + 3600) }));
refused('exp: deeper', 'token-invalid-claim',
        claims(',"a":{"exp":' . ($now + 60) . '}', claim => { exp => undef }));

refused('nbf: to come', 'token-not-active-yet', spec(nbf => $now + 120));
refused('nbf: after exp', 'token-not-active-yet',
        spec(nbf => $now + 120, exp => $now + 60));
refused('nbf: a string', 'token-invalid-claim', spec(nbf => "$now"));
refused('nbf: null', 'token-invalid-claim', claims(',"nbf":null'));
refused('nbf: huge', 'token-invalid-claim', claims(',"nbf":1e30'),
        clerk => 'in', why => 'a date beyond all dates is none to them');
let_in('nbf: a real', 'user_a', spec(nbf => $now - 0.5));
let_in('nbf: within the leeway', 'user_a', spec(nbf => $now + 2));
let_in('nbf: missing', 'user_a', spec(nbf => undef));

refused('iat: to come', 'token-iat-in-the-future', spec(iat => $now + 120));
refused('iat: a string', 'token-invalid-claim', spec(iat => "$now"));
refused('iat: a list', 'token-invalid-claim', spec(iat => [$now]));
let_in('iat: within the leeway', 'user_a', spec(iat => $now + 2));
let_in('iat: missing', 'user_a', spec(iat => undef));

# iss

my $bound = 'they leave iss to the key';

for my $case (
    [ 'missing', undef ],
    [ 'empty', '' ],
    [ 'of another instance', 'https://other.clerk.accounts.dev' ],
    [ 'with a slash', ISS . '/' ],
    [ 'in upper case', 'https://CLERK.runcoach.test' ],
    [ 'http', 'http://clerk.runcoach.test' ],
    [ 'a host of which it is the beginning', ISS . '.evil' ],
    [ 'with user information', 'https://clerk.runcoach.test@evil.example' ],
    [ 'with a port', ISS . ':443' ],
    [ 'with a space', ISS . ' ' ],
    [ 'with a path', ISS . '/x' ],
    [ 'a part', 'https://clerk.runcoach' ],
    [ 'the host alone', 'clerk.runcoach.test' ],
    [ 'of Supabase', SUPA ],
    [ 'a list', [ISS] ],
    [ 'a number', 7 ],
    [ 'an object', { iss => ISS } ],
)
{
    my ($name, $iss) = @$case;

    refused("iss: $name", 'token-invalid-issuer', spec(iss => $iss),
            clerk => 'in', why => $bound);
}

# aud, which the shipped issuer has none of

let_in('aud: not asked for', 'user_a', spec(aud => 'somebody'));
let_in('aud: a list', 'user_a', spec(aud => ['somebody', 7]));

# azp

let_in('azp: the second', 'user_a', spec(azp => 'http://localhost:3000'));

for my $case (
    [ 'another', 'https://evil.example.com' ],
    [ 'http', 'http://app.example.com' ],
    [ 'with a port', APP . ':8443' ],
    [ 'with the usual port', APP . ':443' ],
    [ 'a host of which it is the beginning', APP . '.evil' ],
    [ 'a subdomain', 'https://x.app.example.com' ],
    [ 'in upper case', 'https://APP.example.com' ],
    [ 'with a slash', APP . '/' ],
    [ 'both', APP . ',http://localhost:3000' ],
    [ 'the word null', 'null' ],
    [ 'empty', '' ],
)
{
    my ($name, $azp) = @$case;

    refused("azp: $name", 'token-invalid-authorized-parties',
            spec(azp => $azp));
}

refused('azp: missing', 'token-invalid-authorized-parties',
        spec(azp => undef));
refused('azp: a list', 'token-invalid-claim', spec(azp => [APP]));
refused('azp: null', 'token-invalid-claim',
        claims('', claim => { azp => 'null' }));
refused('azp: a number', 'token-invalid-claim', spec(azp => 7));

# sub

for my $case (
    [ 'missing', undef ],
    [ 'a number', 42 ],
    [ 'a list', ['user_a'] ],
    [ 'an object', {} ],
    [ 'true', JSON::PP::true() ],
)
{
    refused("sub: $case->[0]", 'token-invalid-subject',
            spec(sub => $case->[1]));
}

refused('sub: null', 'token-invalid-subject',
        claims('', claim => { sub => 'null' }));

for my $case (
    [ 'empty', '' ],
    [ 'digits', '42' ],
    [ 'CR LF', "user_a\r\nX-User-Id: 1" ],
    [ 'LF', "user_a\n" ],
    [ 'DEL', "user_a\x7f" ],
    [ 'a tab', "user\ta" ],
    [ 'a slash', 'user_a/../user_b' ],
    [ 'a dot', '.' ],
    [ 'two dots', '..' ],
    [ 'a space before it', ' user_a' ],
    [ 'a space after it', 'user_a ' ],
    [ 'of 300 bytes', 'u' x 300 ],
    [ 'of 6 KB', 'u' x 5000 ],
)
{
    my ($name, $sub) = @$case;

    refused("sub: $name", 'token-invalid-subject', spec(sub => $sub),
            clerk => 'in', why => 'it becomes a header and a path');
}

refused('sub: NUL', 'token-invalid', spec(sub => "user_a\0"), clerk => 'in',
        why => 'it becomes a header and a path');
let_in('sub: of 255 bytes', 'u' x 255, spec(sub => 'u' x 255));
let_in('sub: digits and a letter', '42x', spec(sub => '42x'));

# sts, cat, typ: one key signs all kinds of tokens

let_in('sts: active', 'user_a', spec(sts => 'active'));
refused('sts: pending', 'session-pending', spec(sts => 'pending'));
refused('sts: unknown', 'session-pending', spec(sts => 'x'), clerk => 'in',
        why => 'what is not active is not active');
refused('sts: empty', 'session-pending', spec(sts => ''), clerk => 'in',
        why => 'what is not active is not active');
refused('sts: a number', 'token-invalid-claim', spec(sts => 1),
        clerk => 'in', why => 'what is not active is not active');
refused('sts: null', 'token-invalid-claim',
        claims(',"sts":null'), clerk => 'in',
        why => 'what is not active is not active');

let_in('cat: a session', 'user_a', spec(header => { cat =>
                                                    'cl_B7d4PD111AAA' }));
let_in('cat: to be ignored', 'user_a', spec(header => { cat =>
                                                        'cl_I7d4PD111III' }));
refused('cat: a template', 'token-type-mismatch',
        spec(header => { cat => 'cl_B7d4PD222AAA' }));
refused('cat: a machine', 'token-type-mismatch',
        spec(header => { cat => 'cl_B7d4PD333AAA' }));
refused('cat: unknown', 'token-type-mismatch', spec(header => { cat => 'x' }));
refused('cat: empty', 'token-type-mismatch', spec(header => { cat => '' }));
refused('sub: a machine', 'token-type-mismatch', spec(sub => 'mch_1'));

let_in('typ: missing', 'user_a', spec(header => { typ => undef }));

for my $typ ('at+jwt', 'application/at+jwt', 'jwt', 'JWT ', 'JWE', 'JOSE',
             'application/jwt', 'dpop+jwt', 'logout+jwt', 'secevent+jwt')
{
    refused("typ: $typ", 'token-type-mismatch',
            spec(header => { typ => $typ }));
}

refused('typ: empty', 'token-type-mismatch', spec(header => { typ => '' }));

let_in('act: somebody acts for the user', 'user_a',
       spec(act => { iss => 'x', sub => 'user_admin', sid => 'sess_x' }));
let_in('claims of another name', 'user_a',
       spec(user_id => 1, user => 'admin', role => 'service_role',
            'X-User-Id' => 1, user_metadata => { sub => 'user_evil' }));

###############################################################################

$part = '4.4';

# the header

my @missing = (status => 401, reason => 'credentials-missing');
my $scheme = 'RFC 9110 section 11.1: the scheme is case-insensitive, and '
             . 'spaces may follow it';

row('nothing', @missing, headers => []);
row('empty', @missing, headers => [ Authorization => '' ]);
row('Bearer alone', @missing, headers => [ Authorization => 'Bearer' ]);
row('Bearer and spaces', @missing, headers => [ Authorization => 'Bearer   ' ],
    http2 => { reason => 'token-invalid' });

for my $name (qw/ bearer BEARER bEARER /) {
    row($name, status => 200, user => 'user_a', tokens => [spec()],
        headers => [ Authorization => "$name <1>" ], clerk => 'out',
        why => $scheme);
}

row('two spaces', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Authorization => 'Bearer  <1>' ], clerk => 'out',
    why => $scheme);
row('spaces around it', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Authorization => '   Bearer <1>   ' ],
    http2 => { status => 401, reason => 'credentials-missing', user => '' });
row('the name in upper case', status => 200, user => 'user_a',
    tokens => [spec()], headers => [ AUTHORIZATION => 'Bearer <1>' ],
    http2 => 'all names are in lower case');

for my $case (
    [ 'no scheme', '<1>', 'in', 'RFC 6750 section 2.1 has one' ],
    [ 'Basic', 'Basic <1>' ],
    [ 'Token', 'Token <1>' ],
    [ 'JWT', 'JWT <1>' ],
    [ 'Bearerx', 'Bearerx <1>' ],
    [ 'Bearer and a colon', 'Bearer: <1>' ],
    [ 'Bearer and =', 'Bearer=<1>' ],
    [ 'Bearer, quoted', '"Bearer" <1>' ],
    [ 'Bearer and a tab', "Bearer\t<1>" ],
    [ 'Bearer without a space', 'Bearer<1>' ],
    [ 'DPoP', 'DPoP <1>' ],
    [ 'Digest', 'Digest token="<1>"' ],
)
{
    my ($name, $value, $clerk, $why) = @$case;

    row($name, @missing, tokens => [spec()],
        headers => [ Authorization => $value ], clerk => $clerk, why => $why);
}

for my $case (
    [ 'quoted', 'Bearer "<1>"' ],
    [ 'in brackets', 'Bearer <<1>>' ],
    [ 'twice', 'Bearer <1> <1>', 'in' ],
    [ 'Bearer twice', 'Bearer Bearer <1>' ],
    [ 'two joined', 'Bearer <1>, Bearer <1>' ],
    [ 'two joined, the other first', 'Bearer x, Bearer <1>' ],
    [ 'a comma', 'Bearer <1>,' ],
    [ 'a semicolon', 'Bearer <1>;' ],
    [ 'a parameter', 'Bearer <1> realm=x', 'in' ],
    [ 'a tab inside', "Bearer \t<1>" ],
    [ 'a parameter by name', 'Bearer token=<1>' ],
    [ 'a byte above 0x7f', "Bearer <1>\xff" ],
    [ 'ESC', "Bearer <1>\x1b" ],
)
{
    my ($name, $value, $clerk) = @$case;

    row($name, status => 401, reason => 'token-invalid', tokens => [spec()],
        headers => [ Authorization => $value ], clerk => $clerk,
        why => $clerk && 'RFC 6750 section 2.1: nothing follows the token');
}

for my $case (
    [ 'a good one and a bad one', 'Bearer <1>', 'Bearer x' ],
    [ 'a bad one and a good one', 'Bearer x', 'Bearer <1>' ],
    [ 'the same twice', 'Bearer <1>', 'Bearer <1>' ],
    [ 'Basic and Bearer', 'Basic eDp5', 'Bearer <1>' ],
)
{
    my ($name, @values) = @$case;

    row("two headers: $name", status => qr/^40[01]$/, reason => qr/^/,
        tokens => [spec()], headers => [ map { (Authorization => $_) }
                                         @values ]);
}

row('a header of a proxy', @missing, tokens => [spec()],
    headers => [ 'Proxy-Authorization' => 'Bearer <1>' ]);
row('an underscore', @missing, tokens => [spec()],
    headers => [ 'Authorization_' => 'Bearer <1>',
                 'X-Authorization' => 'Bearer <1>',
                 'X-Forwarded-Authorization' => 'Bearer <1>' ]);
row('a space before the colon', status => 400, tokens => [spec()],
    headers => [ 'Authorization ' => 'Bearer <1>' ], @no_line);
row('a folded line', status => 400, tokens => [spec()],
    headers => [ Authorization => "Bearer\r\n <1>" ], @no_line);
row('a token in the query', @missing, tokens => [spec()], headers => [],
    path => '/api/v1/<id>?access_token=<1>&token=<1>&__session=<1>');
row('a token in the body', @missing, tokens => [spec()], method => 'POST',
    headers => [ 'Content-Type' => 'application/x-www-form-urlencoded' ],
    body => 'access_token=<1>');

# tokens that only Clerk can read

for my $token (qw{ mt_0123456789abcdef m2m_0123456789abcdef
                   oat_0123456789abcdef ak_0123/456+789abc== ak_ mt_a.b.c })
{
    refused("opaque: $token", 'token-type-opaque', $token);
}

row('opaque, with a good session', status => 401,
    reason => 'token-type-opaque', session_cookie => 42,
    headers => [ Authorization => 'Bearer oat_0123456789abcdef',
                 Cookie => '<session>' ], clerk => 'n/a',
    why => 'sessions are ours');
row('opaque, with a good cookie', status => 401,
    reason => 'token-type-opaque', tokens => [spec()],
    headers => [ Authorization => 'Bearer ak_0123456789abcdef',
                 Cookie => '__session=<1>' ]);

# cookies; one is not from a browser if the other is not there

my $uat = '__client_uat=' . ($now - 1000) . "; __client_uat_$suffix="
          . ($now - 1000);
my $alone = 'what goes with the token on a page is not asked for by an API';

row('__session', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Cookie => '__session=<1>' ], clerk => 'out', why => $alone);
row('__session, as a browser sends it', status => 200, user => 'user_a',
    tokens => [spec()], headers => [ Cookie => "__session=<1>; __client_uat="
                                               . ($now - 1000) ]);
row('__session with suffix', status => 200, user => 'user_a',
    tokens => [spec()], headers => [ Cookie => "__session_$suffix=<1>; $uat" ]);
row('both, and they agree', status => 200, user => 'user_a',
    tokens => [spec()],
    headers => [ Cookie => "__session=<1>; __session_$suffix=<1>; $uat" ]);
row('no azp', status => 200, user => 'user_a', tokens => [spec(azp => undef)],
    headers => [ Cookie => "__session_$suffix=<1>; $uat" ], clerk => 'out',
    why => 'their own cookies lack it after a navigation');
row('wrong azp', status => 401, reason => 'token-invalid-authorized-parties',
    tokens => [spec(azp => 'https://evil.example.com')],
    headers => [ Cookie => "__session_$suffix=<1>; $uat" ]);

# The one with suffix is of this instance for certain; the others follow the
# rules of their SDK, which are tried one by one in t/unit/clerkkey.c.

my @two = (tokens => [ spec(sub => 'user_plain', iat => $now - 50),
                       spec(sub => 'user_suffix', iat => $now - 20) ]);
my @older = (tokens => [ spec(sub => 'user_plain', iat => $now - 20),
                         spec(sub => 'user_suffix', iat => $now - 50) ]);
my $plain0 = '__client_uat=0';
my $suffix0 = "__client_uat_$suffix=0";
my $plain1 = '__client_uat=' . ($now - 1000);
my $suffix1 = "__client_uat_$suffix=" . ($now - 1000);
my $both = "__session=<1>; __session_$suffix=<2>";

row('two, with suffix is newer', status => 200, user => 'user_suffix', @two,
    headers => [ Cookie => "$both; $plain1; $suffix1" ]);
row('two, without suffix is newer', status => 200, user => 'user_plain',
    @older, headers => [ Cookie => "$both; $plain1; $suffix1" ]);
row('two, signed out with suffix', status => 200, user => 'user_plain', @two,
    headers => [ Cookie => "$both; $plain1; $suffix0" ]);
row('two, signed out without suffix', status => 200, user => 'user_suffix',
    @two, headers => [ Cookie => "$both; $plain0; $suffix1" ]);
row('two, signed out both ways', status => 401, reason => 'signed-out', @two,
    headers => [ Cookie => "$both; $plain0; $suffix0" ]);
row('two, the plain one of another instance', status => 200,
    user => 'user_suffix',
    tokens => [ spec(iss => 'https://other.example.com', sub => 'user_plain'),
                spec(sub => 'user_suffix') ],
    headers => [ Cookie => "$both; $plain1; $suffix1" ]);
row('two, the plain one is no token', status => 401,
    reason => 'token-invalid', tokens => [ 'x', spec() ],
    headers => [ Cookie => "$both; $plain1; $suffix1" ]);
row('two, the one with suffix is forged', status => 401,
    reason => 'token-invalid-signature',
    tokens => [ spec(iat => $now - 50),
                spec(key => 'other', kid => 'ins_issuer') ],
    headers => [ Cookie => "$both; $plain1; $suffix1" ]);

row('signed out', status => 401, reason => 'signed-out', tokens => [spec()],
    headers => [ Cookie => '__session=<1>; __client_uat=0' ]);
row('signed out, with suffix', status => 401, reason => 'signed-out',
    tokens => [spec()],
    headers => [ Cookie => "__session_$suffix=<1>; $suffix0; $plain0" ]);
row('signed out, with suffix alone', @missing, tokens => [spec()],
    headers => [ Cookie => "__session_$suffix=<1>; $suffix0" ]);
row('signed in again since', status => 401,
    reason => 'session-token-iat-before-client-uat',
    tokens => [spec(iat => $now - 100)],
    headers => [ Cookie => '__session=<1>; __client_uat=' . ($now - 50) ]);

for my $case (
    [ 'a prefix', 'x__session=<1>' ],
    [ 'another suffix', '__session_evil=<1>' ],
    [ 'another suffix of 8', '__session_abcdefgh=<1>' ],
    [ 'an empty suffix', '__session_=<1>' ],
    [ 'upper case', '__SESSION=<1>' ],
    [ 'a name in quotes', '"__session"=<1>' ],
    [ 'percent-encoded name', '__%73ession=<1>' ],
    [ 'empty', '__session=' ],
    [ 'no =', '__session' ],
    [ 'the name as value', 'a=__session=<1>' ],
    [ 'in quotes of another', 'a="; x=y"b__session=<1>' ],
)
{
    my ($name, $cookie) = @$case;

    row("cookie: $name", @missing, tokens => [spec()],
        headers => [ Cookie => "$cookie; $plain1" ]);
}

row('cookie: separated by a comma', @missing, tokens => [spec()],
    headers => [ Cookie => "a=b, __session=<1>; $plain1" ]);
row('cookie: in quotes', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Cookie => "__session=\"<1>\"; $plain1" ], clerk => 'out',
    why => 'RFC 6265 section 4.1.1: a value may be in quotes');
row('cookie: spaces', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Cookie => "a=b;   __session=<1>  ;c=d;$plain1" ]);
row('cookie: spaces around =', status => 200, user => 'user_a',
    tokens => [spec()], headers => [ Cookie => "__session = <1>; $plain1" ]);
row('cookie: no space', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Cookie => "a=b;__session=<1>;$plain1" ]);
row('cookie: percent-encoded', status => 401, reason => 'token-invalid',
    tokens => [spec(token => sub { join('%2E', @_) })],
    headers => [ Cookie => "__session=<1>; $plain1" ], clerk => 'in',
    why => 'RFC 6265 has no such encoding, and a token no need of it');
row('cookie: over 8 KB', status => 401, reason => 'token-invalid',
    tokens => [spec(pad => 'x' x 7000)],
    headers => [ Cookie => "__session=<1>; $plain1" ], clerk => 'in',
    why => 'a bound for strangers');
row('cookie: among 200', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Cookie => join('; ', map { "c$_=" . 'x' x 20 } 1 .. 200)
                           . "; __session=<1>; $plain1" ]);
row('cookie: twice, the first good', status => 200, user => 'user_a',
    tokens => [ spec(), spec(key => 'other', kid => 'ins_issuer') ],
    headers => [ Cookie => "__session=<1>; __session=<2>; $plain1" ]);
row('cookie: twice, the first forged', status => 401,
    reason => 'token-invalid-signature',
    tokens => [ spec(key => 'other', kid => 'ins_issuer'), spec() ],
    headers => [ Cookie => "__session=<1>; __session=<2>; $plain1" ]);
row('cookie: two lines', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ Cookie => 'a=b', Cookie => "__session=<1>; $plain1" ],
    clerk => 'n/a', why => 'HTTP joins them before they see them');
row('cookie: ten lines', status => 200, user => 'user_a', tokens => [spec()],
    headers => [ (map { (Cookie => "c$_=x") } 1 .. 8),
                 Cookie => '__session=<1>', Cookie => $plain1 ],
    clerk => 'n/a', why => 'HTTP joins them before they see them');
row('cookie: signed out in another line', status => 401,
    reason => 'signed-out', tokens => [spec()],
    headers => [ Cookie => '__session=<1>', Cookie => $plain0 ],
    clerk => 'n/a', why => 'HTTP joins them before they see them');
row('cookie: of a machine', status => 401, reason => 'token-type-mismatch',
    tokens => [spec(sub => 'mch_1')],
    headers => [ Cookie => "__session=<1>; $plain1" ]);
row('cookie: opaque', status => 401, reason => 'token-type-opaque',
    headers => [ Cookie => "__session=oat_0123456789abcdef; $plain1" ]);

# both

my @disagree = (tokens => [ spec(sub => 'user_h'), spec(sub => 'user_c') ]);

row('header and cookie disagree', status => 200, user => 'user_h', @disagree,
    headers => [ Authorization => 'Bearer <1>',
                 Cookie => "__session=<2>; $plain1" ]);
row('good header, bad cookie', status => 200, user => 'user_h', @disagree,
    headers => [ Authorization => 'Bearer <1>', Cookie => '__session=x' ]);
row('bad header, good cookie', status => 401, reason => 'token-invalid',
    @disagree, headers => [ Authorization => 'Bearer x',
                            Cookie => "__session=<2>; $plain1" ]);
row('forged header, good cookie', status => 401,
    reason => 'token-invalid-signature',
    tokens => [ spec(key => 'other', kid => 'ins_issuer'), spec() ],
    headers => [ Authorization => 'Bearer <1>',
                 Cookie => "__session=<2>; $plain1" ]);
row('another scheme, good cookie', status => 200, user => 'user_a',
    tokens => [spec()], headers => [ Authorization => 'Basic eDp5',
                                     Cookie => "__session=<1>; $plain1" ]);

# sessions of the application

my @session = (clerk => 'n/a', why => 'sessions are ours');

row('a session', status => 200, session => 42, session_cookie => 42, @session,
    headers => [ Cookie => '<session>' ]);
row('bad token, good session', status => 200, session => 42,
    reason => 'token-invalid', session_cookie => 42, @session,
    headers => [ Authorization => 'Bearer x', Cookie => '<session>' ]);
row('forged token, good session', status => 200, session => 42,
    reason => 'token-invalid-signature', session_cookie => 42, @session,
    tokens => [spec(key => 'other', kid => 'ins_issuer')],
    headers => [ Authorization => 'Bearer <1>', Cookie => '<session>' ]);
row('good token, another session', status => 200, user => 'user_a',
    session_cookie => 42, @session, tokens => [spec()],
    headers => [ Authorization => 'Bearer <1>', Cookie => '<session>' ]);
row('forged token, unknown session', status => 401,
    reason => 'session-unknown', @session,
    tokens => [spec(key => 'other', kid => 'ins_issuer')],
    headers => [ Authorization => 'Bearer <1>',
                 Cookie => 'session_id=' . 'a' x 43 ]);
row('unknown session', status => 401, reason => 'session-unknown', @session,
    headers => [ Cookie => 'session_id=' . 'u' x 43 ]);

for my $case (
    [ 'CR LF', 'a' x 40 . '%0d%0aFLUSHALL' ],
    [ 'a colon', 'a' x 40 . ':x' ],
    [ 'a glob', '*' x 40 ],
    [ 'a path', '../' x 14 ],
    [ 'a lock', '../lock:' . 'a' x 40 ],
    [ 'a space', 'a' x 20 . ' ' . 'a' x 20 ],
    [ 'a quote', 'a' x 40 . "'" ],
    [ 'a byte above 0x7f', 'a' x 40 . "\xe4" ],
    [ 'percent-encoded', '%61' x 40 ],
    [ 'short', 'a' x 19 ],
    [ 'long', 'a' x 129 ],
    [ '10 KB', 'a' x 10240 ],
    [ 'a token', 'eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.' ],
)
{
    my ($name, $id) = @$case;

    row("session id: $name", status => 401, reason => 'session-id-malformed',
        @session, headers => [ Cookie => "session_id=$id" ]);
}

for my $case (
    [ 'not JSON', 'x' ],
    [ 'empty', '' ],
    [ 'a list', '[42]' ],
    [ 'no user', '{"a":1}' ],
    [ 'null', '{"user_id":null}' ],
    [ 'true', '{"user_id":true}' ],
    [ 'negative', '{"user_id":-42}' ],
    [ 'zero', '{"user_id":0}' ],
    [ 'a real', '{"user_id":42.5}' ],
    [ '2^53', '{"user_id":9007199254740992}' ],
    [ '2^63', '{"user_id":9223372036854775808}' ],
    [ '1e400', '{"user_id":1e400}' ],
    [ 'a path', '{"user_id":"../42"}' ],
    [ 'CR LF', '{"user_id":"42\r\nX-Auth-Method: clerk"}' ],
    [ 'twice', '{"user_id":42,"user_id":43}' ],
    [ 'twice, escaped', '{"user_id":42,"user\u005fid":43}' ],
    [ 'deeper', '{"a":{"user_id":42}}' ],
    [ 'a list in it', '{"user_id":[42]}' ],
    [ 'something after it', '{"user_id":42} x' ],
    [ '65 letters', '{"user_id":"' . 'a' x 65 . '"}' ],
)
{
    my ($name, $value) = @$case;

    row("session: $name", status => 401, reason => 'session-malformed',
        @session, session_value => $value,
        headers => [ Cookie => '<session>' ]);
}

row('session: a list of Redis', status => 401, reason => 'session-malformed',
    @session, headers => [ Cookie => 'session_id=' . 'l' x 40 ],
    before => sub {
        $t->{redis}->cmd('LPUSH', 'session:' . 'l' x 40, '{"user_id":42}');
    });

# what a client says of itself, in all spellings: in each request of this
# table, and where nobody is asked to log in

my @open = (status => 200, clerk => 'n/a', why => 'nobody is asked');

row('an open location', @open, user => '', headers => [],
    path => '/api/v1/auth/<id>');
row('an open location, OPTIONS', @open, user => '', headers => [],
    method => 'OPTIONS', path => '/api/v1/auth/<id>');
row('an open location, a good token', @open, user => '', tokens => [spec()],
    headers => [ Authorization => 'Bearer <1>' ],
    path => '/api/v1/auth/<id>');
row('another webhook', @open, user => '', headers => [], method => 'POST',
    body => '{}', path => '/api/v1/webhooks/<id>');
row('trailers', status => 200, user => 'user_a', tokens => [spec()],
    method => 'POST', body => '{}',
    headers => [ Authorization => 'Bearer <1>' ],
    trailers => [ 'x-user-id' => '1', 'x-auth-subject' => 'evil' ],
    http2 => { status => qr/^(?:0|200)$/ });
row('identity in Connection', status => 200, user => 'user_a',
    tokens => [spec()], http2 => 'there is no such header',
    headers => [ Authorization => 'Bearer <1>',
                 Connection => 'close, X-Auth-Subject, X-Auth-Method' ]);
row('other names of the URI', @missing,
    headers => [ 'X-Original-URL' => '/api/v1/auth/x',
                 'X-Rewrite-URL' => '/api/v1/auth/x',
                 'X-Envoy-Original-Path' => '/api/v1/auth/x',
                 'X-Original-URI' => '/api/v1/auth/x',
                 'X-Accel-Redirect' => '/api/v1/auth/x' ]);
row('other names of the method', @missing, method => 'POST', body => '{}',
    headers => [ 'X-HTTP-Method-Override' => 'OPTIONS',
                 'X-Method-Override' => 'OPTIONS' ]);

# methods

for my $method (qw/ OPTIONS HEAD POST PUT PATCH DELETE /) {
    row("$method, nobody", @missing, method => $method, headers => [],
        clerk => 'n/a', why => 'they do not look at the method');
    row("$method, forged", status => 401, reason => 'token-invalid-signature',
        tokens => [spec(key => 'other', kid => 'ins_issuer')],
        headers => [ Authorization => 'Bearer <1>' ], method => $method,
        clerk => 'n/a', why => 'they do not look at the method');
}

row('OPTIONS with an Origin', @missing, method => 'OPTIONS',
    headers => [ Origin => 'https://evil.example.com' ]);
row('OPTIONS with a method', @missing, method => 'OPTIONS',
    headers => [ 'Access-Control-Request-Method' => 'GET' ]);
row('a preflight', status => 204, method => 'OPTIONS',
    headers => [ Origin => 'https://evil.example.com',
                 'Access-Control-Request-Method' => 'GET' ], clerk => 'n/a',
    why => 'it is answered here');
row('a preflight by GET', @missing,
    headers => [ Origin => APP, 'Access-Control-Request-Method' => 'GET' ]);

# paths: what the edge decides about is what the application gets

my @path = (clerk => 'n/a', why => 'they do not look at the path');

for my $path ('/api/v1/auth/../<id>', '/api/v1/auth/%2e%2e/<id>',
              '/api/v1/auth/..%2f<id>', '/api/v1/auth//<id>',
              '/api/v1/auth/./<id>', '/api//v1/<id>', '//api/v1/auth/<id>',
              '/api/v1/auth/<id>/..', '/api/v1/auth\\..\\<id>',
              '/api/v1/auth/%5c../<id>', '/api/v1/<id>/%2E%2E/auth/x',
              '/api/v1/auth/..;/<id>/../x')
{
    row("path $path", status => 400, headers => [], path => $path, @path);
}

for my $path ('/api/v1/Auth/<id>', '/api/v1/auth<id>', '/api/v1/authx/<id>',
              '/api/v1/aut%68x/<id>', '/api/v1/webhooks<id>',
              '/api/v1/<id>?/../auth/', '/api/v1/<id>;/auth/',
              '/api/v1/<id>/auth/x', '/api/v1/upload/healthy/<id>')
{
    row("path $path", @missing, headers => [], path => $path, @path,
        http1 => {}, sidecar => 1);
}

for my $path ('/_jwks/clerk?<id>', '/_error?<id>', '/_preflight?<id>',
              '/<id>', '/API/v1/<id>')
{
    row("path $path", status => 404, headers => [], path => $path, @path);
}

row('an absolute URI', @missing, headers => [],
    path => 'http://auth.example.com/api/v1/<id>', @path,
    http2 => 'there :path is one',
    logged => '/api/v1/<id>');
row('X-Accel-Redirect to a private location', status => 401,
    reason => 'credentials-missing', headers => [],
    path => '/api/v1/auth/accel/<id>', backend => '/api/v1/auth/accel/<id>',
    @path);

# WebSockets: a page of somebody else has the cookies, and no token

my @upgrade = (Upgrade => 'websocket', Connection => 'Upgrade',
               'Sec-WebSocket-Version' => '13',
               'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==');
my $upgrade = 'HTTP/2 has no Upgrade';

row('WebSocket, nobody', status => 403, path => '/ws/<id>', @path,
    headers => [ @upgrade, Origin => 'https://evil.example.com' ],
    http2 => $upgrade);
row('WebSocket, cookie, a page of somebody', status => 403,
    path => '/ws/<id>', tokens => [spec()], @path,
    headers => [ @upgrade, Origin => 'https://evil.example.com',
                 Cookie => "__session=<1>; $plain1" ], http2 => $upgrade);
row('WebSocket, forged', status => 401, path => '/ws/<id>', @path,
    reason => 'token-invalid-signature',
    tokens => [spec(key => 'other', kid => 'ins_issuer')],
    headers => [ @upgrade, Authorization => 'Bearer <1>' ], http2 => $upgrade);
row('WebSocket, a token', status => 200, user => 'user_a', path => '/ws/<id>',
    tokens => [spec()], @path, http2 => $upgrade,
    headers => [ @upgrade, Authorization => 'Bearer <1>' ]);

###############################################################################

$part = '4.5';

# What was verified is remembered, and refusals may be: by the whole token.

my @twin = (sub => 'user_twin', iat => $now, exp => $now + 3000);
my ($twin) = $t->forge(spec(@twin));
my ($twin_head, $twin_body, $twin_sign) = split(/\./, $twin);

let_in('a token', 'user_twin', $twin);
let_in("... time $_", 'user_twin', $twin, cache => 'HIT') for 2 .. 3;
refused('... with another signature', 'token-invalid-signature',
        spec(@twin, signature => sub { $_[0] ^ "\0" x 255 . "\1" }));
refused('... with its signature cut', 'token-invalid-signature',
        spec(@twin, signature => sub { substr($_[0], 0, 64) }));
refused('... its signature for another payload', 'token-invalid-signature',
        spec(@twin, sub => 'user_evil', signature => unb64url($twin_sign)));
refused('... its signature for another header', 'token-invalid-signature',
        spec(@twin, header => { a => 1 }, signature => unb64url($twin_sign)));
refused('... and a letter', 'token-invalid-signature', "${twin}A");
refused('... in capitals', 'token-invalid', uc($twin));
row('... by cookie, signed out', status => 401, reason => 'signed-out',
    tokens => [$twin], headers => [ Cookie => "__session=<1>; $plain0" ]);
let_in('... itself', 'user_twin', $twin);

# a refusal first

my @later = (sub => 'user_later', iat => $now, exp => $now + 3000);

refused('forged, then good', 'token-invalid-signature',
        spec(@later, key => 'other', kid => 'ins_issuer'));
let_in('good after forged', 'user_later', spec(@later));
refused('forged after good', 'token-invalid-signature',
        spec(@later, key => 'other', kid => 'ins_issuer'));

# a policy by carrier: the token is the same

my ($no_azp) = $t->forge(spec(azp => undef, sub => 'user_n'));

row('no azp, by cookie', status => 200, user => 'user_n', tokens => [$no_azp],
    headers => [ Cookie => "__session=<1>; $plain1" ], clerk => 'out',
    why => 'their own cookies lack it after a navigation');
refused('no azp, by header, known by cookie',
        'token-invalid-authorized-parties', $no_azp);
row('no azp, by cookie again', status => 200, user => 'user_n',
    tokens => [$no_azp],
    headers => [ Cookie => "__session=<1>; $plain1" ], clerk => 'out',
    why => 'their own cookies lack it after a navigation');

# many forged ones do not drive out a good one

refused("forged $_", 'token-invalid-signature',
        spec(jti => "forged $_", signature => "\1" x 256)) for 1 .. 20;
refused("unknown kid $_", 'jwk-kid-mismatch',
        spec(kid => "ins_flood_$_", signature => "\1" x 256)) for 1 .. 20;
let_in('a good one after them', 'user_twin', $twin, cache => 'HIT');

# revoked: by the stream that webhooks are told in

my %revoked = (sid => 'sess_gone', sub => 'user_r');
my ($gone) = $t->forge(spec(%revoked));
my ($of_gone) = $t->forge(spec(sub => 'user_gone', sid => 'sess_of_gone'));
my $told = 'a token that lives is good to them';

let_in('a session, before it is revoked', 'user_r', $gone);
let_in('a user, before it is deleted', 'user_gone', $of_gone);
refused('a session which is revoked', 'session-revoked', $gone,
        clerk => 'in', why => $told, before => sub {
            revoke(session => 'sess_gone');
            revoke(user => 'user_gone');

            $t->wait_for(sub {
                return $t->get('/api/v1/wait', token => $of_gone)->status
                       == 401;
            }, 3);
        });
refused('a user who is deleted', 'session-revoked', $of_gone,
        clerk => 'in', why => $told);
refused('... by a token which is new', 'session-revoked',
        spec(%revoked, jti => 'new'), clerk => 'in', why => $told);
row('... by cookie', status => 401, reason => 'session-revoked',
    tokens => [$gone], headers => [ Cookie => "__session=<1>; $plain1" ],
    clerk => 'in', why => $told);
let_in('another session of the user', 'user_r',
       spec(%revoked, sid => 'sess_other'));
let_in('another user of a like name', 'user_gone2',
       spec(sub => 'user_gone2', sid => 'sess_gone2'));

# not a second longer than it lives

my (%timed, $end);
my @timed = (clerk => 'n/a', why => 'they are asked at one time only');

row('expired in a moment', status => 200, user => 'user_short', early => 1,
    headers => [ Authorization => '<short>' ], @timed, before => sub {
        $end = int(time()) + 1;
        @timed{qw/ short soon /} = $t->forge(
            spec(exp => $end, sub => 'user_short'),
            spec(nbf => $end + 8, sub => 'user_soon'));
    });
row('valid in a moment', status => 401, reason => 'token-not-active-yet',
    early => 1, headers => [ Authorization => '<soon>' ], @timed);
row('expired meanwhile', status => 401, reason => 'token-expired',
    headers => [ Authorization => '<short>' ], @timed, before => sub {
        my $left = $end + 5 + 1 - time();

        sleep($left) if $left > 0;
    });
row('valid meanwhile', status => 200, user => 'user_soon',
    headers => [ Authorization => '<soon>' ], @timed);

my @shipped = splice(@rows);

###############################################################################

# The second edge: more issuers in front of the same application.

$part = '4.1';

my @not_clerk = (clerk => 'n/a', why => 'it is not their issuer');


sub wide
{
    return spec(iss => WIDE, azp => undef, @_);
}

sub wide_in
{
    my ($name, $spec, %row) = @_;

    let_in($name, 'user_a', $spec, method_name => 'wide', @not_clerk, %row);
}

sub wide_out
{
    my ($name, $reason, $spec, %row) = @_;

    refused($name, $reason, $spec, @not_clerk, %row);
}

wide_in("$_->[0] by $_->[1]", wide(alg => $_->[0], key => $_->[1])) for (
    [ 'RS256', 'second' ], [ 'RS384', 'second' ], [ 'RS512', 'second' ],
    [ 'PS256', 'second' ], [ 'PS384', 'second' ], [ 'PS512', 'second' ],
    [ 'RS256', 'issuer' ], [ 'PS256', 'third' ], [ 'ES256', 'ec256' ],
    [ 'ES384', 'ec384' ], [ 'ES512', 'ec521' ], [ 'EdDSA', 'ed' ],
    [ 'RS256', 'exp3' ],
);

# a key has one algorithm, if it says so, and one family in any case

wide_out("$_->[0] by $_->[1]", 'jwk-kid-mismatch',
         wide(alg => $_->[0], key => $_->[1])) for (
    [ 'RS384', 'issuer' ], [ 'RS512', 'issuer' ], [ 'PS256', 'issuer' ],
    [ 'PS384', 'third' ], [ 'RS256', 'third' ],
);

wide_out("$_->[0] by $_->[1], signed by $_->[2]", 'jwk-kid-mismatch',
         wide(alg => $_->[0], kid => "ins_$_->[1]", key => $_->[1],
              sign => $_->[2])) for (
    [ 'ES256', 'second', 'RS256' ], [ 'RS256', 'ec256', 'ES256' ],
    [ 'ES384', 'ec256', 'ES256' ], [ 'ES256', 'ec384', 'ES384' ],
    [ 'ES512', 'ec384', 'ES384' ], [ 'EdDSA', 'ec256', 'ES256' ],
    [ 'ES256', 'ed', 'EdDSA' ],
);

wide_out("HS256 by $_", 'token-invalid-algorithm',
         wide(alg => 'HS256', kid => 'ins_second',
              secret => $_ eq 'SPKI' ? $t->spki('second')
                        : scalar $t->key_pem('second')))
    for qw/ SPKI PEM /;
wide_out("HS256 by the point of $_", 'token-invalid-algorithm',
         wide(alg => 'HS256', kid => "ins_$_",
              secret => unb64url($t->jwk_of($_)->{x})))
    for qw/ ec256 ed /;
wide_out('HS256 by an oct without alg', 'token-invalid-algorithm',
         wide(alg => 'HS256', kid => 'ins_wide_oct', secret => 'secret' x 8));
wide_out('alg none', 'token-invalid-algorithm', wide(alg => 'none', sign => 'RS256'));
wide_out('ES256K', 'token-invalid-algorithm',
         wide(alg => 'ES256K', key => 'k1', sign => 'ES256'));

for my $case (
    [ 'secp256k1 said to be P-256', 'ins_k1_p256', 'k1', 'ES256' ],
    [ 'P-256 said to be P-384', 'ins_curve', 'ec384', 'ES384' ],
    [ 'P-384 said to be for ES256', 'ins_es256_p384', 'ec256', 'ES256' ],
    [ 'a point which is not on the curve', 'ins_off', 'ec256', 'ES256' ],
    [ 'a point at zero', 'ins_zero', 'ec256', 'ES256' ],
    [ 'a point without y', 'ins_no_y', 'ec256', 'ES256' ],
    [ 'a point with a list', 'ins_x', 'ec256', 'ES256' ],
    [ 'Ed448', 'ins_ed448', 'ed', 'EdDSA' ],
    [ 'X25519', 'ins_x25519', 'ed', 'EdDSA' ],
    [ 'Ed25519 of 31 bytes', 'ins_ed_short', 'ed', 'EdDSA' ],
    [ 'secp256k1', 'ins_k1', 'ec256', 'ES256' ],
)
{
    my ($name, $kid, $key, $alg) = @$case;

    wide_out("key: $name", 'jwk-kid-mismatch',
             wide(alg => $alg, key => $key, kid => $kid));
}

# ECDSA: R and S of the size of the order, and in 1 .. n - 1

my $n256 = octets($ORDER{ES256}, 32);
my $one = "\0" x 31 . "\1";

for my $case (
    [ 'r = s = 0', ZERO . ZERO ],
    [ 'r = 0', ZERO . $one ],
    [ 's = 0', $one . ZERO ],
    [ 'r = s = 1', $one . $one ],
    [ 'r = s = n', $n256 . $n256 ],
    [ 'r = n, s = 1', $n256 . $one ],
    [ 'r = 1, s = n', $one . $n256 ],
    [ 'r = s = 2^256 - 1', "\xff" x 64 ],
    [ 'r = n + 1', octets($ORDER{ES256} + 1, 32) . $one ],
    [ 'empty', '' ],
    [ 'DER of zeroes', "\x30\x06\x02\x01\x00\x02\x01\x00" ],
)
{
    my ($name, $bytes) = @$case;

    wide_out("ES256: $name", length $bytes ? 'token-invalid-signature'
                                           : 'token-invalid',
             wide(alg => 'ES256', key => 'ec256', sign => '',
                  signature => $bytes));
}

for my $case (
    [ 'DER', sub { der($_[0]) } ],
    [ '63 bytes', sub { substr($_[0], 1) } ],
    [ '65 bytes', sub { "$_[0]\0" } ],
    [ 'zeroes before R and S', sub { "\0" . substr($_[0], 0, 32) . "\0"
                                     . substr($_[0], 32) } ],
    [ '96 bytes', sub { join('', map { "\0" x 16 . $_ }
                                 unpack('(a32)*', $_[0])) } ],
    [ '132 bytes', sub { join('', map { "\0" x 34 . $_ }
                                  unpack('(a32)*', $_[0])) } ],
    [ 'S before R', sub { substr($_[0], 32) . substr($_[0], 0, 32) } ],
    [ 'R alone', sub { substr($_[0], 0, 32) } ],
    [ 's + n', sub { substr($_[0], 0, 32)
                     . octets(number(substr($_[0], 32)) + $ORDER{ES256},
                              32) } ],
)
{
    my ($name, $change) = @$case;

    wide_out("ES256: $name", 'token-invalid-signature',
             wide(alg => 'ES256', key => 'ec256', signature => $change));
}

wide_out('ES384: 64 bytes', 'token-invalid-signature',
         wide(alg => 'ES384', key => 'ec384',
              signature => sub { substr($_[0], 0, 64) }));
wide_out('ES512: DER', 'token-invalid-signature',
         wide(alg => 'ES512', key => 'ec521',
              signature => sub { der($_[0]) }));
wide_out('ES512: 128 bytes', 'token-invalid-signature',
         wide(alg => 'ES512', key => 'ec521',
              signature => sub { substr($_[0], 1, 65) . substr($_[0], 67) }));
wide_out('ES512: zeroes', 'token-invalid-signature',
         wide(alg => 'ES512', key => 'ec521', sign => '',
              signature => "\0" x 132));

sub der
{
    my ($raw) = @_;

    my $body = join('', map {
        my $bytes = s/^\0+//r;

        $bytes = "\0$bytes" if ord($bytes) & 0x80;
        pack('CC/a*', 2, $bytes);
    } unpack('(a' . length($raw) / 2 . ')*', $raw));

    return length($body) < 128 ? pack('CC/a*', 0x30, $body)
                               : pack('CCC/a*', 0x30, 0x81, $body);
}

# RSASSA-PSS: salt and mask of the algorithm's digest

for my $case (
    [ 'no salt', 'PS256', 'rsa_pss_saltlen:0' ],
    [ 'a salt of 20 bytes', 'PS256', 'rsa_pss_saltlen:20' ],
    [ 'the longest salt', 'PS256', 'rsa_pss_saltlen:max' ],
    [ 'a salt of 33 bytes', 'PS256', 'rsa_pss_saltlen:33' ],
    [ 'the mask of SHA-1', 'PS256', 'rsa_mgf1_md:sha1' ],
    [ 'the mask of SHA-512', 'PS256', 'rsa_mgf1_md:sha512' ],
    [ 'no salt, SHA-512', 'PS512', 'rsa_pss_saltlen:0' ],
)
{
    my ($name, $alg, $option) = @$case;

    wide_out("PSS: $name", 'token-invalid-signature',
             wide(alg => $alg, key => 'second', sigopt => [$option]));
}

wide_out('PSS: of another digest', 'token-invalid-signature',
         wide(alg => 'PS256', key => 'second', sign => 'PS384'));
wide_out('PSS: it is PKCS #1', 'token-invalid-signature',
         wide(alg => 'PS256', key => 'second', sign => 'RS256'));
wide_out('PKCS #1: it is PSS', 'token-invalid-signature',
         wide(alg => 'RS256', key => 'second', sign => 'PS256'));
wide_out('RS256: it is RS512', 'token-invalid-signature',
         wide(alg => 'RS256', key => 'second', sign => 'RS512'));

# e of 3: whatever follows the hash can be chosen so that the cube root is near

wide_out('e of 3, a cube root', 'token-invalid-signature',
         wide(alg => 'RS256', key => 'exp3', sign => '', signature => sub {
             my $block = emsa('sha256', padding => 8,
                              garbage => "\0" x 194)->($_[1]);
             my $root = number($block)->broot(3)->binc();

             return octets($root, 256);
         }));

# Ed25519: S below the order, no key of a small order

wide_out('Ed25519: S + L', 'token-invalid-signature',
         wide(alg => 'EdDSA', key => 'ed', signature => sub {
             my $s = number(scalar reverse substr($_[0], 32));

             return substr($_[0], 0, 32)
                    . reverse(octets($s + $L, 32));
         }));
wide_out('Ed25519: zeroes', 'token-invalid-signature',
         wide(alg => 'EdDSA', key => 'ed', sign => '',
              signature => ZERO . ZERO));
wide_out('Ed25519: 63 bytes', 'token-invalid-signature',
         wide(alg => 'EdDSA', key => 'ed',
              signature => sub { substr($_[0], 0, 63) }));
wide_out('Ed25519: 65 bytes', 'token-invalid-signature',
         wide(alg => 'EdDSA', key => 'ed', signature => sub { "$_[0]\0" }));
wide_out('Ed25519: the point of order 1', 'jwk-kid-mismatch',
         wide(alg => 'EdDSA', kid => 'ins_ed_one', sign => '',
              signature => ONE . ZERO));
wide_out('Ed25519: a point of order 4', 'jwk-kid-mismatch',
         wide(alg => 'EdDSA', kid => 'ins_ed_zero', sign => '',
              segments => sub { fourth($_[0], unb64url($_[1])) },
              signature => ONE . ZERO));

# A is of order 4, so that where the hash is a multiple of it A does not count

sub fourth
{
    my ($head, $payload) = @_;

    for (1 .. 200) {
        my $body = b64url($payload);
        my $k = number(scalar reverse sha512(ONE . ZERO . "$head.$body"));

        return ($head, $body) if $k->bmod($L)->bmod(4)->is_zero();

        $payload =~ s/\}\z/ }/;
    }

    die "no multiple of 4\n";
}

# keys of one issuer for tokens of another, under the same kid

my @both_in = (aud => 'authenticated', role => 'authenticated', sub => UUID,
               iss => SUPA, azp => undef, sid => undef);

sub supa { return spec(@both_in, @_) }

sub supa_in
{
    my ($name, $spec, $method) = @_;

    let_in($name, UUID, $spec, method_name => $method || 'supa', @not_clerk);
}

sub supa_out
{
    my ($name, $reason, $spec, %row) = @_;

    refused($name, $reason, $spec, @not_clerk, %row);
}

my @hs = (alg => 'HS256', kid => undef, secret => $secret{supa_hs});

supa_in('ES256', supa(alg => 'ES256', key => 'ec256b', kid => 'supa_ec'));
supa_in('RS256', supa(alg => 'RS256', key => 'third', kid => 'supa_rsa'));
supa_in('HS256', supa(@hs), 'supa_hs');
supa_in('HS256 with a kid', supa(@hs, kid => 'x'), 'supa_hs');
let_in('HS256 of another issuer', 'user_a',
       spec(iss => LEGACY, azp => undef, alg => 'HS256', kid => undef,
            secret => $secret{legacy}), method_name => 'legacy', @not_clerk);
let_in('Clerk', 'user_a', spec(), clerk => 'n/a', why => 'it was asked above');

supa_out('of Clerk, by a key of Supabase', 'token-invalid-signature',
         spec(key => 'third', kid => 'ins_issuer'));
supa_out('of Supabase, by a key of Clerk', 'token-invalid-signature',
         supa(key => 'issuer'));
supa_out('of Supabase, by a kid of Clerk alone', 'jwk-kid-mismatch',
         supa(key => 'rsa3072'));
supa_out('of Supabase, ES256 by a kid of both', 'token-invalid-signature',
         supa(alg => 'ES256', key => 'ec256', kid => 'ins_second'));
supa_out('of Clerk, by the secret of Supabase', 'token-invalid-algorithm',
         spec(alg => 'HS256', secret => $secret{supa_hs}));
supa_out('of Supabase, by the secret of another', 'token-invalid-signature',
         supa(@hs, secret => $secret{legacy}));
supa_out('of another, by the secret of Supabase', 'token-invalid-signature',
         spec(iss => LEGACY, azp => undef, alg => 'HS256', kid => undef,
              secret => $secret{supa_hs}));
supa_out('of another, by a key of Clerk', 'token-invalid-algorithm',
         spec(iss => LEGACY, azp => undef));
supa_out('of another, alg none', 'token-invalid',
         spec(iss => LEGACY, azp => undef, alg => 'none', sign => ''));

for my $case (
    [ 'the PEM', $pem ],
    [ 'the JWK', json_encode($t->jwk_of('ec256b', kid => 'supa_ec')) ],
    [ 'nothing', '' ],
    [ 'a zero byte', "\0" ],
    [ 'an oct of the set', 'secret' x 8 ],
    [ 'the secret, encoded', b64url($secret{supa_hs}) ],
    [ 'the secret and LF', "$secret{supa_hs}\n" ],
    [ 'the name of the secret', 'env:SUPABASE_JWT_SECRET' ],
)
{
    my ($name, $secret) = @$case;

    supa_out("HS256 by $name", 'token-invalid-signature',
             supa(@hs, kid => 'supa_oct', secret => $secret));
}

supa_out('HS384 by the secret', 'token-invalid-algorithm',
         supa(@hs, alg => 'HS384'));
supa_out('HS256, cut', 'token-invalid-signature',
         supa(@hs, signature => sub { substr($_[0], 0, 16) }));
supa_out('HS256, one byte', 'token-invalid-signature',
         supa(@hs, signature => sub { substr($_[0], 0, 1) }));
supa_out('HS256, empty', 'token-invalid', supa(@hs, signature => ''));
supa_out('HS256, longer', 'token-invalid-signature',
         supa(@hs, signature => sub { "$_[0]\0" }));
supa_out('HS256, zeroes', 'token-invalid-signature',
         supa(@hs, signature => "\0" x 32));
supa_out('HS256 said to be ES256', 'token-invalid-signature',
         supa(@hs, alg => 'ES256', kid => 'supa_ec', sign => 'HS256'));
supa_out('ES256 said to be HS256', 'token-invalid-signature',
         supa(alg => 'HS256', key => 'ec256b', kid => 'supa_ec',
              sign => 'ES256'));

$part = '4.3';

# The keys of a project are tokens themselves: of nobody, for ten years.

supa_out('the anon key', 'token-invalid-subject', spec(@hs, iss => SUPA, azp => undef,
         sub => undef, sid => undef, nbf => undef, role => 'anon',
         ref => 'abc', exp => $now + 315360000));
supa_out('the service_role key', 'token-invalid-subject', spec(@hs, iss => SUPA, azp => undef,
         sub => undef, sid => undef, nbf => undef, role => 'service_role',
         ref => 'abc', exp => $now + 315360000));
supa_out('the anon key, of iss "supabase"', 'token-invalid-issuer',
         spec(@hs, iss => 'supabase', azp => undef, sub => undef,
              role => 'anon'));

for my $case (
    [ 'service_role', 'service_role' ],
    [ 'anon', 'anon' ],
    [ 'missing', undef ],
    [ 'empty', '' ],
    [ 'in upper case', 'AUTHENTICATED' ],
    [ 'longer', 'authenticated2' ],
    [ 'a number', 1 ],
    [ 'an object', { authenticated => 1 } ],
)
{
    my ($name, $role) = @$case;

    supa_out("role: $name", 'token-required-claim', supa(@hs, role => $role));
}

supa_out('role in the metadata', 'token-required-claim',
         supa(@hs, role => undef,
              user_metadata => { role => 'authenticated' },
              app_metadata => { role => 'authenticated' }));
supa_in('another role in the metadata',
        supa(@hs, user_metadata => { role => 'service_role', sub => 'evil' }),
        'supa_hs');

for my $case (
    [ 'a list', ['authenticated'], 1 ],
    [ 'a list with others', ['x', 'authenticated'], 1 ],
    [ 'missing', undef, 'token-invalid-audience' ],
    [ 'another', 'anon', 'token-invalid-audience' ],
    [ 'empty', '', 'token-invalid-audience' ],
    [ 'longer', 'authenticated.evil', 'token-invalid-audience' ],
    [ 'in upper case', 'Authenticated', 'token-invalid-audience' ],
    [ 'an empty list', [], 'token-invalid-audience' ],
    [ 'a list of others', ['x', 'y'], 'token-invalid-audience' ],
    [ 'a number', 7, 'token-invalid-claim' ],
    [ 'an object', { authenticated => 1 }, 'token-invalid-claim' ],
    [ 'true', JSON::PP::true(), 'token-invalid-claim' ],
    [ 'a list with a number', ['x', 7], 'token-invalid-claim' ],
    [ 'a list with a number after it', ['authenticated', 7], 'token-invalid-claim' ],
    [ 'a list in a list', [['authenticated']], 'token-invalid-claim' ],
)
{
    my ($name, $aud, $reason) = @$case;

    if ($reason eq '1') {
        supa_in("aud: $name", supa(@hs, aud => $aud), 'supa_hs');
        next;
    }

    supa_out("aud: $name", $reason, supa(@hs, aud => $aud));
}

supa_out('aud: null', 'token-invalid-claim',
         spec(@hs, payload => '{"iss":"' . SUPA . '","sub":"' . UUID . '",'
              . '"role":"authenticated","aud":null,"exp":' . ($now + 60)
              . '}'));
supa_out('sub: missing', 'token-invalid-subject', supa(@hs, sub => undef));
supa_out('sub: empty', 'token-invalid-subject', supa(@hs, sub => ''));
supa_out('sub: digits', 'token-invalid-subject', supa(@hs, sub => '42'));
supa_out('expired', 'token-expired', supa(@hs, exp => $now - 20));
supa_out('an anonymous user of another class', 'token-type-mismatch',
         supa(@hs, header => { typ => 'at+jwt' }));

$part = '4.5';

# A verdict is of one issuer, and of the places that have it.

my ($known) = $t->forge(supa(@hs, session_id => 'known'));

supa_in('known here', $known, 'supa_hs');
refused('... and not there', 'token-invalid-issuer', $known, @not_clerk,
        path => '/only/clerk/<id>');
refused('... nor there', 'token-invalid-issuer', $known, @not_clerk,
        path => '/only/legacy/<id>');
row('... nor there, a session', @missing, tokens => [$known], @not_clerk,
    headers => [ Authorization => 'Bearer <1>' ],
    path => '/only/session/<id>');
supa_in('... and here again', $known, 'supa_hs');

# What is not a key set is none: nobody is told that a token is bad, which it
# may not be, and nobody gets in.

for my $name (@bad_sets) {
    row("keys: $name", status => 503, reason => 'keys-unavailable',
        tokens => [spec(iss => "https://$name.runcoach.test", azp => undef)],
        headers => [ Authorization => 'Bearer <1>' ], @not_clerk,
        path => '/only/keys/<id>');
}

let_in('keys: another content type', 'user_a',
       spec(iss => 'https://text.runcoach.test', azp => undef),
       method_name => 'text', @not_clerk, path => '/only/keys/<id>');
row('keys: where the redirect goes', status => 503,
    reason => 'keys-unavailable', headers => [ Authorization => 'Bearer <1>' ],
    tokens => [spec(iss => 'https://redirect.runcoach.test', azp => undef,
                    key => 'other')], @not_clerk, path => '/only/keys/<id>');

my @second = splice(@rows);

###############################################################################

# the edge

my (%signatures, $http2);
my $backend = $t->http_daemon(sub {
    my ($request) = @_;

    return [200, { 'X-Accel-Redirect' => '/api/v1/secret' }, '{}']
        if $request->{target} =~ m{/accel/};

    return [200, {}, '{"detail":"the application"}'];
}, port => 8090, name => 'backend');

$t->redis(appendonly => 1);
$t->edge_home();

$t->{edge_env} = $t->edge_environment(env => {
    BACKEND_URL => 'http://' . $t->host(8090),
    DATABASE_URL => 'postgresql://nobody@/none',
    CLERK_PUBLISHABLE_KEY => KEY,
    CLERK_ISSUER => ISS,
    CLERK_JWKS_URL => 'http://' . $t->host(8092) . '/jwks',
    CLERK_AUTHORIZED_PARTIES => APP . ',http://localhost:3000',
    CORS_ORIGINS => APP,
    RATE_LIMIT_REQUESTS => 1000000,
    RATE_LIMIT_WINDOW => 1,
    RATE_LIMIT_BURST => 100000,
    SUPABASE_JWT_SECRET => $secret{supa_hs},
    LEGACY_JWT_SECRET => unpack('H*', $secret{legacy}),
});

my $home = $t->{home};

$t->{logs} = [ "$home/logs/error.log", $t->dir() . '/nginx.out',
               $t->dir() . '/error.log' ];

my %setting = (
    PEM => $pem,
    SPACED => "\n  $pem",
    BOTH => $pem . $t->key_pem('second'),
    WEAK => scalar $t->key_pem('rsa1024'),
    PRIVATE => $t->read_file($t->key('issuer')),
    S31 => 's' x 31,
    S32 => substr('a secret of 32 bytes, and no more', 0, 32),
    S64 => 's' x 64,
    HEX => 'ab' x 31,
    NOT64 => 's' x 64 . '!*',
);

start();
run_table('the shipped configuration', @shipped);

my @fetched = grep { $_->{target} eq '/jwks' } $t->requests($issuers);

cmp_ok(scalar(@fetched), '<=', 2 + (time() - $now) / 10,
       'keys are not fetched for each unknown kid');

$t->stop();
configure_second();

SKIP: {
    skip 'the second edge did not start', 1
        unless ok(eval { start(); 1 }, 'the second edge starts')
               || diag($@);

    run_table('more issuers', @second);
}

is(scalar(grep { $_->{target} eq '/evil' } $t->requests($issuers)), 0,
   'nobody is asked whom a token or a redirect names');

is(join(', ', grep { /^(?:authorization|cookie|x-.*)$/ }
        map { keys %{$_->{headers}} } $t->requests($issuers)), '',
   'an issuer hears nothing of the client');

# neither a token nor what is in it, in any log

my $logs = join('', map { $t->read_file($_) // '' }
                    "$home/logs/error.log", "$home/logs/access.log",
                    $t->dir() . '/nginx.out');

is(join(', ', map { substr($_, 0, 40) } grep { index($logs, $_) >= 0 }
        keys %signatures), '', 'no signature is logged');
unlike($logs, qr/Set-Cookie: evil|touch \/tmp|etc\/passwd/,
       'no kid is logged');

# what is no configuration: nothing of it can be attacked

for my $case (
    [ 'a key', 'key=env:PEM', 0 ],
    [ 'a secret of 32 bytes', 'secret=env:S32', 0 ],
    [ 'a secret of 31 bytes', 'secret=env:S31' ],
    [ 'a secret of one byte', 'secret=x' ],
    [ 'a PEM as secret', 'secret=env:PEM' ],
    [ 'a PEM as secret, spaces before it', 'secret=env:SPACED' ],
    [ 'half a secret, in hexadecimal', 'secret=env:HEX secret_format=hex' ],
    [ 'a secret which is not hexadecimal',
      'secret=env:S64 secret_format=hex' ],
    [ 'a secret which is not base64', 'secret=env:NOT64 secret_format=base64' ],
    [ 'a secret for RS256', 'secret=env:S32 algorithms=RS256' ],
    [ 'a secret for HS256 and RS256', 'secret=env:S64 algorithms=HS256,RS256' ],
    [ 'a short secret for HS512', 'secret=env:S32 algorithms=HS512' ],
    [ 'a key for HS256', 'key=env:PEM algorithms=HS256' ],
    [ 'a key and a secret', 'key=env:PEM secret=env:S32' ],
    [ 'a set for HS256', 'jwks=/_jwks jwks_url=http://127.0.0.1:8092/jwks '
                         . 'algorithms=HS256' ],
    [ 'no algorithm', 'key=env:PEM algorithms=none' ],
    [ 'an unknown one', 'key=env:PEM algorithms=RS256,RS257' ],
    [ 'a key of 1024 bits', 'key=env:WEAK' ],
    [ 'a private key', 'key=env:PRIVATE' ],
    [ 'two keys', 'key=env:BOTH' ],
    [ 'keys from a foreign host, in the clear',
      'jwks=/_jwks jwks_url=http://93.184.216.34/jwks' ],
)
{
    my ($name, $parameters, $right) = @$case;
    my ($status, $out) = $t->configtest(<<"END", env => \%setting);

%%TEST_GLOBALS%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    runcoach_zone    runcoach:1m;
    runcoach_issuer  test  issuer=https://test.runcoach.test  $parameters;

    server {
        listen  127.0.0.1:8083;

        location / {
            runcoach_auth  test;
        }
    }
}

END

    is($status ? 1 : 0, $right // 1, "4.1 configuration: $name") or diag($out);
    unlike($out, qr/\Q$setting{S32}\E|BEGIN PRIVATE|core dumped/,
           "4.1 configuration: $name, no secret is told");
}

$t->done();

###############################################################################

# HTTP/2 wants a port of its own, which the shipped configuration has none of

sub start
{
    $t->edge_configure();

    my $file = "$home/env.server.conf";

    $t->write_file($file, $t->read_file($file) . 'listen  127.0.0.1:'
                          . $t->port(8081) . " http2;\n");
    $t->edge_run();

    $http2 = Test::Runcoach::HTTP2->new($t->host(8081));
}


sub configure_second
{
    my $url = 'http://' . $t->host(8092);
    my $more = join('', map { <<"EOF" } @bad_sets, 'text');
    runcoach_issuer  $_  issuer=https://$_.runcoach.test
                     jwks=/_jwks/$_  jwks_url=$url/$_;
EOF

    $more .= <<"EOF";
    runcoach_issuer  supa     issuer=@{[SUPA]}
                     jwks=/_jwks/supa  jwks_url=$url/supa
                     algorithms=ES256,RS256  audience=authenticated
                     require=role=authenticated;
    runcoach_issuer  supa_hs  issuer=@{[SUPA]}
                     secret=env:SUPABASE_JWT_SECRET  algorithms=HS256
                     audience=authenticated  require=role=authenticated;
    runcoach_issuer  legacy   issuer=@{[LEGACY]}
                     secret=env:LEGACY_JWT_SECRET  secret_format=hex;
    runcoach_issuer  wide     issuer=@{[WIDE]}
                     jwks=/_jwks/wide  jwks_url=$url/wide
                     algorithms=RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA;
EOF

    my $conf = $t->read_file("$home/nginx.conf");

    $conf =~ s/^(    runcoach_session )/$more\n$1/m or die "no place\n";
    $t->write_file("$home/nginx.conf", $conf);

    my $routes = $t->read_file("$home/runcoach.conf");
    my $only = join('', map { <<"EOF" }

    location /only/$_->[0]/ {
        runcoach_auth  $_->[1];
        include        identity.conf;
        proxy_pass     \$edge_backend;
    }
EOF
        [ 'clerk', 'clerk' ], [ 'legacy', 'legacy' ], [ 'session', 'session' ],
        [ 'keys', join(' ', @bad_sets, 'text') ]);

    $routes =~ s/(runcoach_auth\s+clerk)\ session;
                /$1 supa supa_hs legacy wide session;/gx
        or die "no place\n";
    $routes =~ s/^(    # everything else is not here)/$only\n$1/m
        or die "no place\n";
    $t->write_file("$home/runcoach.conf", $routes);
}


sub revoke
{
    my ($kind, $id) = @_;

    $t->{redis}->cmd('XADD', 'runcoach:revocations', '*', 'kind', $kind,
                     'id', $id);
}


sub run_table
{
    my ($name, @table) = @_;

    prepare(@table);
    $t->forget_requests($backend);

    my $log = "$home/logs/access.log";
    my $from = -s $log || 0;

    for my $row ((grep { $_->{early} } @table), (grep { !$_->{early} } @table))
    {
        $row->{before}->() if $row->{before};
        ask($row, 'HTTP/1.1', 1, \&ask_http1);
        ask($row, 'HTTP/2', 2, \&ask_http2);
    }

    # or nginx lingers for its client when it stops

    $http2->close();

    my ($logged, %met);

    $t->wait_for(sub {
        $logged = read_log(substr($t->read_file($log) // '', $from));

        return !grep { ref && $_->{logs} && !$logged->{$_->{path}} }
                map { values %{$_->{answers}} } @table;
    }, 5);

    $met{$_->{target} =~ s/\?.*//r} = $_ for $t->requests($backend);

    for my $row (@table) {
        for my $version ('HTTP/1.1', 'HTTP/2') {
            my $answer = $row->{answers}{$version};
            my $label = "$row->{part} $row->{name}, $version";

            if (!ref $answer) {
                SKIP: { skip("$label: $answer", 1) }
                next;
            }

            is(join("\n", faults($row, $answer, $logged, \%met)), '', $label);
        }
    }

    judge($name, grep { ($_->{clerk} // '') ne 'n/a' } @table);
}


# tokens and sessions of all rows, made at once

my $id;

sub prepare
{
    my (@table) = @_;

    my (@specs, %seen, %made);

    for my $row (@table) {
        for my $token (@{$row->{tokens} || []}) {
            push @specs, $token if ref $token && !$seen{$token}++;
        }
    }

    @made{@specs} = $t->forge(@specs);
    $signatures{$_} = 1 for grep { length > 40 } map { (split(/\./))[-1] // '' }
                            values %made;

    for my $row (@table) {
        my @tokens = map { ref($_) ? $made{$_} : $_ } @{$row->{tokens} || []};
        my $cookie = exists $row->{session_value}
                     ? $t->session(0, raw => $row->{session_value})
                     : $row->{session_cookie}
                     ? $t->session($row->{session_cookie}) : '';

        for my $text (@{$row->{headers}}, $row->{path}, $row->{body}) {
            next unless defined $text;

            $text =~ s/<(\d)>/$tokens[$1 - 1]/g;
            $text =~ s/<session>/$cookie/g;
        }

        $row->{id} = 'r' . ++$id;

        push @{$row->{faults}}, 'a difference without a reason'
            if defined $row->{clerk} && !$row->{why};
    }
}


# what every client says of itself, in vain

my @FORGED;

BEGIN {
    @FORGED = (
        'X-Auth-Method' => 'clerk', 'X-Auth-Subject' => 'evil',
        'X-Clerk-User-Id' => 'evil', 'X-User-Id' => '1', 'x-user-id' => '2',
        'X_User_Id' => '1', 'x_auth_subject' => 'evil',
        'X-Upload-Key' => 'evil', 'X-Forwarded-Host' => 'evil',
        'Forwarded' => 'for=evil',
    );
}


sub ask
{
    my ($row, $version, $n, $ask) = @_;

    my $differs = $row->{"http$n"};

    if (defined $differs && !ref $differs) {
        $row->{answers}{$version} = $differs;
        return;
    }

    my $own = "$row->{id}-$n";
    my @headers = map { s/<(short|soon)>/Bearer $timed{$1}/r }
                  @{$row->{headers}};
    my $r = $ask->($row, $row->{path} =~ s/<id>/$own/r,
                   [ @FORGED, @headers ]);

    my $answer = $row->{answers}{$version} = { %$row, %{$differs || {}},
        r => $r, path => ($row->{logged} // $row->{path}) =~ s/<id>/$own/r,
        seen => ($row->{backend} // '') =~ s/<id>/$own/r };

    # nginx logs what it could read, and paths are without the query

    $answer->{path} =~ s/\?.*//;
    $answer->{logs} = $answer->{path} =~ /\Q$own/ && $r->status
                      && $r->status != 400;
}


sub ask_http1
{
    my ($row, $path, $headers) = @_;

    my @headers = @$headers;
    my $body = $row->{body};

    push @headers, Connection => 'close'
        if grep { /^connection$/i } @{$row->{headers}};

    if ($row->{trailers}) {
        my @pairs = @{$row->{trailers}};

        push @headers, 'Transfer-Encoding' => 'chunked';
        $body = sprintf("%x\r\n%s\r\n0\r\n", length($body), $body);

        while (my ($name, $value) = splice(@pairs, 0, 2)) {
            $body .= "$name: $value\r\n";
        }

        $body .= "\r\n";
    }

    return $t->request($row->{method}, $path, headers => \@headers,
                       defined $body ? (body => $body) : ());
}


sub ask_http2
{
    my ($row, $path, $headers) = @_;

    return $http2->request($row->{method}, $path, $headers,
        body => $row->{body}, trailers => $row->{trailers},
        authority => $t->host());
}


sub read_log
{
    my ($text) = @_;

    my %logged;

    for my $line (split(/\n/, $text)) {
        my $entry = eval { json_decode($line) } or next;

        $logged{$entry->{path}} = $entry;
    }

    return \%logged;
}


# what is wrong about an answer, of any row

sub faults
{
    my ($row, $answer, $logged, $met) = @_;

    my @faults = @{$row->{faults} || []};
    my $r = $answer->{r};
    my $path = $answer->{path};
    my $seen = $met->{$path};
    my $entry = $logged->{$path};
    my $reason = $answer->{reason} // '';

    push @faults, 'status ' . $r->status . ', not ' . shown($answer->{status})
        unless matches($r->status, $answer->{status});

    if ($answer->{logs}) {
        push @faults, !$entry ? "$path is not in the log"
                      : "reason \"$entry->{auth_reason}\", not "
                        . shown($reason)
            unless $entry && matches($entry->{auth_reason}, $reason);
        push @faults, "cache \"$entry->{auth_cache}\", not "
                      . shown($answer->{cache})
            if $entry && defined $answer->{cache}
               && $entry->{auth_cache} ne $answer->{cache};
    }

    # the application

    if ($answer->{seen}) {
        push @faults, 'the application was not asked'
            unless $met->{$answer->{seen}};
        push @faults, 'the application was asked for a secret'
            if $met->{'/api/v1/secret'};

    } elsif ($r->status == 200) {
        push @faults, $seen ? identity_faults($answer, $seen)
                            : 'the application was not asked';

    } elsif ($seen) {
        push @faults, 'the application was asked';
    }

    return (@faults, answer_faults($answer, $r, $entry));
}


# RFC 6750 section 3: no error code if there was nothing that could be wrong

sub answer_faults
{
    my ($answer, $r, $entry) = @_;

    my @faults;
    my $challenge = $r->header('WWW-Authenticate');

    push @faults, 'the answer has something of the request'
        if $r->raw =~ /\bevil\b/ || $r->body =~ /\bevil\b/;

    if ($r->status != 401) {
        push @faults, "WWW-Authenticate: $challenge" if defined $challenge;
        push @faults, '503 without Retry-After'
            if $r->status == 503 && !$r->header('Retry-After');

        return @faults;
    }

    my $reason = ($entry || {})->{auth_reason} // '';
    my $right = $reason eq 'credentials-missing'
                ? 'Bearer' : 'Bearer error="invalid_token"';
    my $body = $answer->{method} eq 'HEAD'
               ? '' : '{"detail":"Authentication required"}';
    my %vary = map { lc($_) => 1 } split(/\s*,\s*/, $r->header('Vary') // '');

    push @faults, 'WWW-Authenticate: ' . ($challenge // 'none')
        unless ($challenge // '') eq $right;
    push @faults, 'body ' . $r->body unless $r->body eq $body;
    push @faults, 'Cache-Control: ' . ($r->header('Cache-Control') // 'none')
        unless ($r->header('Cache-Control') // '') eq 'no-store';
    push @faults, 'Vary: ' . ($r->header('Vary') // 'none')
        if grep { !$vary{$_} } qw/ origin authorization cookie /;

    return @faults;
}


sub identity_faults
{
    my ($answer, $seen) = @_;

    my $user = $answer->{user} // '';
    my $method = $answer->{method_name} || 'clerk';
    my %right = defined $answer->{session}
        ? ('x-auth-method' => 'session', 'x-auth-subject' => $answer->{session},
           'x-user-id' => $answer->{session})
        : !length($user) ? ()
        : ('x-auth-method' => $method, 'x-auth-subject' => $user,
           $method eq 'clerk' ? ('x-clerk-user-id' => $user) : ());
    my %found;

    for my $name (keys %{$seen->{headers}}) {
        my $value = join(',', @{$seen->{headers}{$name}});

        $found{$name} = $value
            if $name =~ tr/_/-/r =~ /^x-(?:auth|clerk|user|upload)-/
               || $value =~ /\bevil\b/;
    }

    my ($is, $should) = (described(%found), described(%right));

    return $is eq $should ? () : "identity $is, not $should";
}


sub described
{
    my (%headers) = @_;

    return join(', ', map { "$_: $headers{$_}" } sort keys %headers) || 'none';
}


sub matches
{
    my ($value, $right) = @_;

    return ref($right) ? $value =~ $right : $value eq $right;
}


sub shown { return ref($_[0]) ? "like $_[0]" : "\"$_[0]\"" }


# Clerk's library about the same requests.  It is to say what we say, unless
# the row has declared what it says.

sub judge
{
    my ($name, @table) = @_;

    return unless @table;

    my $missing = $t->peer_missing('@clerk/backend');

    SKIP: {
        skip("\@clerk/backend: $missing", scalar(@table)) if $missing;

        my ($verdicts, $why) = $t->peer_json('clerk.mjs', '@clerk/backend', {
            jwks => { keys => [ grep { ref } @{$clerk_jwks->{keys}} ] },
            parties => [ APP, 'http://localhost:3000' ],
            publishableKey => KEY,
            requests => [ map { [ pairs(@{$_->{headers}}) ] } @table ] });

        ok($verdicts, "$name: Clerk's library judges") or diag($why);

        skip('no verdicts', scalar(@table)) unless $verdicts;

        verdict($table[$_], $verdicts->[$_]) for 0 .. $#table;
    }
}


sub pairs
{
    my @pairs;

    push @pairs, [splice(@_, 0, 2)] while @_;

    return @pairs;
}


sub verdict
{
    my ($row, $theirs) = @_;

    my $ours = matches(200, $row->{status}) ? 'in ' . ($row->{user} // '')
                                            : 'out';
    my $right = $row->{clerk} // $ours;
    my $label = "$row->{part} $row->{name}: ";

    my $says = $right =~ /^(?:in|out)$/ ? $theirs =~ s/^(in|out)\b.*/$1/sr
                                        : $theirs;

    is($says, $right, $label . ($right eq $ours ? 'Clerk agrees'
                                : "Clerk differs: $row->{why}"))
        or diag($theirs);
}

###############################################################################
