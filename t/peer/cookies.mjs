// Clerk's backend library chooses among the cookies of a browser.  Standard
// input is {pem, cases: [{key, cookie}]}, the answer a list of user ids, or of
// "refused: " and the reason.

import { createClerkClient } from '@clerk/backend';
import { readFileSync } from 'node:fs';

const input = JSON.parse(readFileSync(0, 'utf8'));
const answers = [];

for (const { key, cookie } of input.cases) {
    const client = createClerkClient({
        publishableKey: key,
        secretKey: key.replace(/^pk_(test|live)_.*$/, 'sk_$1_x'),
        telemetry: { disabled: true },
    });

    const request = new Request('https://app.example.com/api', {
        headers: { cookie },
    });

    const state = await client.authenticateRequest(request, {
        jwtKey: input.pem,
    });

    answers.push(state.status === 'signed-in'
                 ? state.toAuth().userId : `refused: ${state.reason}`);
}

console.log(JSON.stringify(answers));
