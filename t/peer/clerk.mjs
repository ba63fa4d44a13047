// Clerk's backend library: judges tokens.  Standard input is {pem, parties,
// tokens: [...]}, the answer a list of "ok" and reasons.

import { verifyToken } from '@clerk/backend';
import { readFileSync } from 'node:fs';

const input = JSON.parse(readFileSync(0, 'utf8'));
const answers = [];

for (const token of input.tokens) {
    try {
        await verifyToken(token, {
            jwtKey: input.pem,
            authorizedParties: input.parties ?? undefined,
        });

        answers.push('ok');

    } catch (error) {
        answers.push(`refused: ${error.reason ?? error.message}`);
    }
}

console.log(JSON.stringify(answers));
