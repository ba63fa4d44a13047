#!/usr/bin/perl

# Writes t/data/activity.fit, byte for byte the same each time:
#
#     perl t/data/make_fit.pl > t/data/activity.fit
#
# An invented run of a minute around a square in the sea off West Africa, at
# 0 N 0 E, where nobody lives.  The structure is what the public description of
# the FIT protocol asks of an activity: a header of 14 bytes, file_id first, an
# event that starts the timer, records, an event that stops it, then lap,
# session and activity as summaries, and a CRC.
#
# Each message has a definition, which gives its fields as number, size and
# base type, and data in that layout; all of it is little-endian.

use strict;
use warnings;


# base types: number in the definition, size, pack template

my %TYPE = (
    enum => [0x00, 1, 'C'],
    uint8 => [0x02, 1, 'C'],
    uint16 => [0x84, 2, 'v'],
    sint32 => [0x85, 4, 'l<'],
    uint32 => [0x86, 4, 'V'],
    uint32z => [0x8c, 4, 'V'],
);


# local type => global message number and its fields: number, type, name

my @MESSAGES = (
    [0, 'file_id',
        [0, 'enum', 'type'], [1, 'uint16', 'manufacturer'],
        [2, 'uint16', 'product'], [3, 'uint32z', 'serial_number'],
        [4, 'uint32', 'time_created']],
    [21, 'event',
        [253, 'uint32', 'timestamp'], [0, 'enum', 'event'],
        [1, 'enum', 'event_type'], [4, 'uint8', 'event_group']],
    [20, 'record',
        [253, 'uint32', 'timestamp'], [0, 'sint32', 'position_lat'],
        [1, 'sint32', 'position_long'], [2, 'uint16', 'altitude'],
        [3, 'uint8', 'heart_rate'], [4, 'uint8', 'cadence'],
        [5, 'uint32', 'distance'], [6, 'uint16', 'speed'],
        [7, 'uint16', 'power']],
    [19, 'lap',
        [254, 'uint16', 'message_index'], [253, 'uint32', 'timestamp'],
        [0, 'enum', 'event'], [1, 'enum', 'event_type'],
        [2, 'uint32', 'start_time'], [7, 'uint32', 'total_elapsed_time'],
        [8, 'uint32', 'total_timer_time'], [9, 'uint32', 'total_distance'],
        [11, 'uint16', 'total_calories'], [13, 'uint16', 'avg_speed'],
        [15, 'uint8', 'avg_heart_rate'], [16, 'uint8', 'max_heart_rate'],
        [17, 'uint8', 'avg_cadence'], [24, 'enum', 'lap_trigger'],
        [25, 'enum', 'sport']],
    [18, 'session',
        [254, 'uint16', 'message_index'], [253, 'uint32', 'timestamp'],
        [0, 'enum', 'event'], [1, 'enum', 'event_type'],
        [2, 'uint32', 'start_time'], [5, 'enum', 'sport'],
        [6, 'enum', 'sub_sport'], [7, 'uint32', 'total_elapsed_time'],
        [8, 'uint32', 'total_timer_time'], [9, 'uint32', 'total_distance'],
        [11, 'uint16', 'total_calories'], [14, 'uint16', 'avg_speed'],
        [15, 'uint16', 'max_speed'], [16, 'uint8', 'avg_heart_rate'],
        [17, 'uint8', 'max_heart_rate'], [18, 'uint8', 'avg_cadence'],
        [20, 'uint16', 'avg_power'], [25, 'uint16', 'first_lap_index'],
        [26, 'uint16', 'num_laps']],
    [34, 'activity',
        [253, 'uint32', 'timestamp'], [0, 'uint32', 'total_timer_time'],
        [1, 'uint16', 'num_sessions'], [2, 'enum', 'type'],
        [3, 'enum', 'event'], [4, 'enum', 'event_type']],
);

my %LOCAL = map { $MESSAGES[$_][1] => $_ } 0 .. $#MESSAGES;


# FIT counts seconds from 1989-12-31T00:00:00Z; this is 2026-01-01T06:00:00Z

my $START = 1767247200 - 631065600;
my $SECONDS = 60;


sub definition
{
    my ($name) = @_;

    my $local = $LOCAL{$name};
    my ($global, undef, @fields) = @{$MESSAGES[$local]};

    my $bytes = pack('C C C v C', 0x40 | $local, 0, 0, $global, scalar @fields);

    for my $field (@fields) {
        my ($base, $size) = @{$TYPE{$field->[1]}};

        $bytes .= pack('C3', $field->[0], $size, $base);
    }

    return $bytes;
}


sub data
{
    my ($name, %value) = @_;

    my $local = $LOCAL{$name};
    my (undef, undef, @fields) = @{$MESSAGES[$local]};

    my $bytes = pack('C', $local);

    for my $field (@fields) {
        my (undef, $type, $key) = @$field;

        die "$name has no $key\n" unless defined $value{$key};

        $bytes .= pack($TYPE{$type}[2], delete $value{$key});
    }

    die "$name: unknown ", join(', ', sort keys %value), "\n" if %value;

    return $bytes;
}


# heart rate, cadence, speed (mm/s) and power of a given second: rising, then
# steady, in integers only, so that no machine rounds differently

sub effort
{
    my ($i) = @_;

    my $ramp = $i < 30 ? $i : 30;

    return (120 + $ramp + $i % 3, 78 + int($ramp / 5) + $i % 2,
            2500 + 25 * $ramp, 180 + 3 * $ramp + $i % 5);
}


# a square of 50 m sides; a metre is about 107.2 semicircles at the equator

sub position
{
    my ($metres) = @_;

    my $side = int($metres / 50) % 4;
    my $along = int(($metres - 50 * int($metres / 50)) * 1072 / 10);
    my $whole = 50 * 107;

    return (0, $along) if $side == 0;
    return ($along, $whole) if $side == 1;
    return ($whole, $whole - $along) if $side == 2;
    return ($whole - $along, 0);
}


sub records
{
    my ($sum) = @_;

    my $bytes = '';
    my $mm = 0;

    for my $i (0 .. $SECONDS) {
        my ($hr, $cadence, $speed, $power) = effort($i);
        my ($lat, $long) = position(int($mm / 1000));

        $bytes .= data('record',
            timestamp => $START + $i,
            position_lat => $lat,
            position_long => $long,
            altitude => (12 + int($i / 20) + 500) * 5,
            heart_rate => $hr,
            cadence => $cadence,
            distance => int($mm / 10),
            speed => $speed,
            power => $power);

        $sum->{hr} += $hr;
        $sum->{cadence} += $cadence;
        $sum->{power} += $power;
        $sum->{max_hr} = $hr if $hr > $sum->{max_hr};
        $sum->{max_speed} = $speed if $speed > $sum->{max_speed};
        $sum->{mm} = $mm;

        $mm += $speed;
    }

    return $bytes;
}


sub summary
{
    my ($sum) = @_;

    return (
        message_index => 0,
        timestamp => $START + $SECONDS,
        event_type => 1,
        start_time => $START,
        total_elapsed_time => $SECONDS * 1000,
        total_timer_time => $SECONDS * 1000,
        total_distance => int($sum->{mm} / 10),
        total_calories => 14,
        avg_speed => int($sum->{mm} / $SECONDS),
        avg_heart_rate => int($sum->{hr} / ($SECONDS + 1)),
        max_heart_rate => $sum->{max_hr},
        avg_cadence => int($sum->{cadence} / ($SECONDS + 1)),
        sport => 1,
    );
}


sub messages
{
    my %sum = (hr => 0, max_hr => 0, cadence => 0, power => 0, max_speed => 0);

    my $bytes = definition('file_id')
        . data('file_id',
            type => 4,                  # activity
            manufacturer => 255,        # development
            product => 1,
            serial_number => 1,
            time_created => $START);

    $bytes .= definition('event')
        . data('event', timestamp => $START, event => 0, event_type => 0,
            event_group => 0);

    $bytes .= definition('record') . records(\%sum);

    $bytes .= data('event', timestamp => $START + $SECONDS, event => 0,
        event_type => 4, event_group => 0);

    $bytes .= definition('lap')
        . data('lap', summary(\%sum), event => 9, lap_trigger => 7);

    $bytes .= definition('session')
        . data('session', summary(\%sum), event => 8,
            sub_sport => 0,
            max_speed => $sum{max_speed},
            avg_power => int($sum{power} / ($SECONDS + 1)),
            first_lap_index => 0,
            num_laps => 1);

    $bytes .= definition('activity')
        . data('activity',
            timestamp => $START + $SECONDS,
            total_timer_time => $SECONDS * 1000,
            num_sessions => 1,
            type => 0,
            event => 26,
            event_type => 1);

    return $bytes;
}


# CRC-16/ARC

sub crc
{
    my ($bytes) = @_;

    my $crc = 0;

    for my $byte (unpack('C*', $bytes)) {
        $crc ^= $byte;

        for (1 .. 8) {
            $crc = $crc & 1 ? $crc >> 1 ^ 0xa001 : $crc >> 1;
        }
    }

    return $crc;
}


my $messages = messages();

my $header = pack('C C v V a4', 14, 0x20, 2195, length($messages), '.FIT');

$header .= pack('v', crc($header));

binmode(STDOUT);

print $header, $messages, pack('v', crc($header . $messages));
