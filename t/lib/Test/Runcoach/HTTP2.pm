package Test::Runcoach::HTTP2;

# A client for HTTP/2 with prior knowledge, for tests that have to send what no
# well-behaved client does: any bytes in a header field, one cookie per field,
# fields twice, trailers.
#
#     my $h2 = Test::Runcoach::HTTP2->new('127.0.0.1:8080');
#
#     my $r = $h2->request('GET', '/', [authorization => 'Bearer x']);
#
# gives a response as $t->request() does; its status is 0 if the stream was
# reset.  One stream at a time, as many as you like on one connection, which is
# made again when the server has closed it.

use strict;
use warnings;

use IO::Select;
use Socket qw/ IPPROTO_TCP TCP_NODELAY /;
use Time::HiRes qw/ time /;

use Test::Runcoach;

use constant {
    DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6,
    GOAWAY => 7, WINDOW_UPDATE => 8, CONTINUATION => 9,
    END_STREAM => 0x1, ACK => 0x1, END_HEADERS => 0x4, PADDED => 0x8,
    PRIORITY => 0x20,
};

# RFC 7541 appendix A, without the values that no answer here is sent by

my @STATIC = (undef, qw/ :authority :method :method :path :path :scheme :scheme
    :status :status :status :status :status :status :status accept-charset
    accept-encoding accept-language accept-ranges accept
    access-control-allow-origin age allow authorization cache-control
    content-disposition content-encoding content-language content-length
    content-location content-range content-type cookie date etag expect expires
    from host if-match if-modified-since if-none-match if-range
    if-unmodified-since last-modified link location max-forwards
    proxy-authenticate proxy-authorization range referer refresh retry-after
    server set-cookie strict-transport-security transfer-encoding user-agent
    vary via www-authenticate /);

my %STATUS = (8 => 200, 9 => 204, 10 => 206, 11 => 304, 12 => 400, 13 => 404,
              14 => 500);

# Appendix B: the lengths of the codes.  The codes follow from them, for among
# codes of one length the order is that of the symbols.

my @LENGTHS = qw/
    13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28
    28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28
     6 10 10 12 13  6  8 11 10 10  8 11  8  6  6  6
     5  5  5  6  6  6  6  6  6  6  7  8 15  6 12 10
    13  6  7  7  7  7  7  7  7  7  7  7  7  7  7  7
     7  7  7  7  7  7  7  7  8  7  8 13 19 13 14  6
    15  5  6  5  6  5  6  6  6  5  7  7  6  6  6  5
     6  7  6  5  5  6  7  7  7  7  7 15 11 14 13 28
    20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23
    24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24
    22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23
    21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23
    26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25
    19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27
    20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23
    26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 /;

my %SYMBOLS = symbols();


sub symbols
{
    my ($code, $length, %symbols) = (0, 0);

    for my $symbol (sort { $LENGTHS[$a] <=> $LENGTHS[$b] || $a <=> $b }
                    0 .. 255)
    {
        $code <<= $LENGTHS[$symbol] - $length;
        $length = $LENGTHS[$symbol];

        $symbols{sprintf('%0*b', $length, $code)} = chr($symbol);
        $code++;
    }

    return %symbols;
}


sub new
{
    my ($class, $where) = @_;

    return bless({ where => $where }, $class);
}


# request(METHOD, path, [name => value, ...], body =>, trailers => [...],
# authority =>): names are sent in lower case, values as they are

sub request
{
    my ($self, $method, $path, $headers, %opt) = @_;

    $self->open() unless $self->{socket};

    my $id = $self->{next};
    my $body = defined $opt{body} ? $opt{body} : '';
    my @trailers = @{$opt{trailers} || []};
    my $last = !length $body && !@trailers;

    $self->{next} += 2;

    $self->send_headers($id, $last, ':method' => $method, ':scheme' => 'http',
        ':path' => $path, ':authority' => $opt{authority} || $self->{where},
        @$headers);

    $self->send_frame(DATA, @trailers ? 0 : END_STREAM, $id, $body)
        if length $body;
    $self->send_headers($id, 1, @trailers) if @trailers;

    return $self->answer($id);
}


sub open
{
    my ($self) = @_;

    $self->{socket} = Test::Runcoach::connect_to($self->{where})
        or die "connect to $self->{where}: $!\n";

    setsockopt($self->{socket}, IPPROTO_TCP, TCP_NODELAY, 1);

    $self->{buf} = '';
    $self->{next} = 1;

    Test::Runcoach::send_all($self->{socket},
                             "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

    # no push, a window of a megabyte

    $self->send_frame(SETTINGS, 0, 0, pack('nNnN', 2, 0, 4, 1 << 20));
}


sub close
{
    my ($self) = @_;

    delete $self->{socket};
}


sub send_frame
{
    my ($self, $type, $flags, $id, $payload) = @_;

    my $n = length($payload);

    Test::Runcoach::send_all($self->{socket},
        pack('CnCCN', $n >> 16, $n & 0xffff, $type, $flags, $id) . $payload);
}


sub send_headers
{
    my ($self, $id, $last, @fields) = @_;

    my $block = '';

    while (my ($name, $value) = splice(@fields, 0, 2)) {
        $block .= "\0" . string(lc($name)) . string($value);
    }

    my ($type, $flags) = (HEADERS, $last ? END_STREAM : 0);

    while (1) {
        my $part = substr($block, 0, 16384, '');
        my $end = length $block ? 0 : END_HEADERS;

        $self->send_frame($type, $flags | $end, $id, $part);

        last if $end;

        ($type, $flags) = (CONTINUATION, 0);
    }
}


# a literal without Huffman's code

sub string
{
    my ($bytes) = @_;

    my $n = length($bytes);

    return chr($n) . $bytes if $n < 127;

    my $text = "\x7f";

    for ($n -= 127; $n >= 128; $n >>= 7) {
        $text .= chr(($n & 127) | 128);
    }

    return $text . chr($n) . $bytes;
}


sub answer
{
    my ($self, $id) = @_;

    my ($block, $body, $ended, @fields) = ('', '', 0);

    while (!$ended) {
        my ($type, $flags, $stream, $payload) = $self->frame() or last;

        if ($type == SETTINGS) {
            $self->send_frame(SETTINGS, ACK, 0, '') unless $flags & ACK;

        } elsif ($type == PING) {
            $self->send_frame(PING, ACK, 0, $payload) unless $flags & ACK;

        } elsif ($type == GOAWAY) {
            $self->{going} = 1;

        } elsif ($stream != $id) {
            next;

        } elsif ($type == RST_STREAM) {
            last;

        } elsif ($type == HEADERS || $type == CONTINUATION) {
            $payload = unpadded($type, $flags, $payload);
            $block .= $payload;
            $ended = 1 if $type == HEADERS && $flags & END_STREAM;

            if ($flags & END_HEADERS) {
                push @fields, fields($block);
                $block = '';
            }

        } elsif ($type == DATA) {
            $self->send_frame(WINDOW_UPDATE, 0, 0, pack('N', length($payload)))
                if length $payload;
            $body .= unpadded($type, $flags, $payload);
            $ended = 1 if $flags & END_STREAM;
        }
    }

    $self->close() if delete $self->{going};

    return response($body, @fields);
}


sub response
{
    my ($body, @fields) = @_;

    my ($status, %headers) = (0);

    while (my ($name, $value) = splice(@fields, 0, 2)) {
        if ($name eq ':status') {
            $status = $value;
            next;
        }

        push @{$headers{$name}}, $value;
    }

    return bless({ raw => '', line => "HTTP/2 $status", status => $status,
                   headers => \%headers, body => $body },
                 'Test::Runcoach::Response');
}


# (type, flags, stream, payload), or nothing at the end of the connection

sub frame
{
    my ($self) = @_;

    my $head = $self->take(9);

    return unless defined $head;

    my ($high, $low, $type, $flags, $stream) = unpack('CnCCN', $head);
    my $payload = $self->take($high << 16 | $low);

    return unless defined $payload;
    return ($type, $flags, $stream & 0x7fffffff, $payload);
}


sub take
{
    my ($self, $n) = @_;

    my $end = time() + $Test::Runcoach::TIMEOUT;

    while (length($self->{buf}) < $n) {
        my $left = $end - time();

        if ($left <= 0
            || !IO::Select->new($self->{socket})->can_read($left)
            || !sysread($self->{socket}, $self->{buf}, 65536,
                        length($self->{buf})))
        {
            $self->{going} = 1;

            return undef;
        }
    }

    return substr($self->{buf}, 0, $n, '');
}


sub unpadded
{
    my ($type, $flags, $payload) = @_;

    return $payload if $type == CONTINUATION;

    my $pad = $flags & PADDED ? ord(substr($payload, 0, 1, '')) : 0;

    substr($payload, 0, 5, '') if $type == HEADERS && $flags & PRIORITY;

    return substr($payload, 0, length($payload) - $pad);
}


# nginx has no dynamic table of its own, so what points into one is an error

sub fields
{
    my ($block) = @_;

    my @fields;

    while (length $block) {
        my $first = ord($block);

        if ($first & 0x80) {
            my $index = integer(\$block, 7);

            push @fields, $STATIC[$index] // die("HPACK: index $index\n"),
                          $STATUS{$index} // '';
            next;
        }

        if (($first & 0xe0) == 0x20) {
            integer(\$block, 5);
            next;
        }

        my $index = integer(\$block, $first & 0x40 ? 6 : 4);
        my $name = $index ? $STATIC[$index] // die("HPACK: index $index\n")
                          : text(\$block);

        push @fields, $name, text(\$block);
    }

    return @fields;
}


sub integer
{
    my ($block, $bits) = @_;

    my $mask = (1 << $bits) - 1;
    my $n = ord(substr($$block, 0, 1, '')) & $mask;

    return $n if $n < $mask;

    for (my $shift = 0; ; $shift += 7) {
        my $byte = ord(substr($$block, 0, 1, ''));

        $n += ($byte & 127) << $shift;

        return $n unless $byte & 128;
    }
}


sub text
{
    my ($block) = @_;

    my $coded = ord($$block) & 0x80;
    my $n = integer($block, 7);
    my $bytes = substr($$block, 0, $n, '');

    return $bytes unless $coded;

    my ($text, $code) = ('', '');

    for my $bit (split(//, unpack('B*', $bytes))) {
        $code .= $bit;

        if (defined(my $symbol = $SYMBOLS{$code})) {
            $text .= $symbol;
            $code = '';
        }
    }

    return $text;
}


1;
