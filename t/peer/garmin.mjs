// Garmin's own encoder: writes a small running activity to standard output,
// after its own decoder has found it good.

import { Decoder, Encoder, Profile, Stream } from '@garmin/fitsdk';

const encoder = new Encoder();
const begin = new Date('2026-11-01T06:30:00Z');
const seconds = (n) => new Date(begin.getTime() + n * 1000);
const message = (mesgNum, fields) => encoder.writeMesg({ mesgNum, ...fields });
const num = Profile.MesgNum;

message(num.FILE_ID, {
    type: 'activity', manufacturer: 'development', product: 1,
    serialNumber: 1234, timeCreated: begin,
});

for (let n = 0; n < 600; n++) {
    message(num.RECORD, {
        timestamp: seconds(n), heartRate: 120 + n % 40, cadence: 85,
        distance: n * 3.1, speed: 3.1, altitude: 40 + Math.sin(n / 60) * 5,
    });
}

const total = {
    timestamp: seconds(600), startTime: begin, totalElapsedTime: 600,
    totalTimerTime: 600, totalDistance: 1860, avgHeartRate: 139,
    maxHeartRate: 159, totalCalories: 130,
};

message(num.LAP, { ...total, messageIndex: 0 });
message(num.SESSION, { ...total, messageIndex: 0, sport: 'running',
                       firstLapIndex: 0, numLaps: 1 });
message(num.ACTIVITY, { timestamp: seconds(600), totalTimerTime: 600,
                        numSessions: 1 });

const bytes = encoder.close();
const decoder = new Decoder(Stream.fromByteArray([...bytes]));

if (!decoder.isFIT() || !decoder.checkIntegrity()) {
    throw new Error('the decoder does not take what the encoder wrote');
}

process.stdout.write(Buffer.from(bytes));
