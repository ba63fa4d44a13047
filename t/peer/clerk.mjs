// Clerk's backend library: judges tokens, or whole requests.
//
// Standard input is {pem or jwks, parties, tokens: [...]}, and the answer a
// list of "ok" and reasons by verifyToken(); or {pem or jwks, parties,
// publishableKey, requests: [[[name, value], ...], ...]}, and the answer a list
// of "in <user>" and "out <reason>" by authenticateRequest().

import { readFileSync } from 'node:fs';

const input = JSON.parse(readFileSync(0, 'utf8'));

// The keys would come from Clerk.  The library takes fetch() when it is loaded.

globalThis.fetch = async () => Response.json(input.jwks);

const { createClerkClient, verifyToken } = await import('@clerk/backend');

const keys = input.jwks ? { secretKey: 'sk_live_x' } : { jwtKey: input.pem };
const authorizedParties = input.parties ?? undefined;

const clerk = createClerkClient({
    secretKey: 'sk_live_x',
    publishableKey: input.publishableKey,
    telemetry: { disabled: true },
});

async function judgeToken(token) {
    try {
        await verifyToken(token, { ...keys, authorizedParties });

        return 'ok';

    } catch (error) {
        return `refused: ${error.reason ?? error.message}`;
    }
}

async function judgeRequest(headers) {
    try {
        const request = new Request('https://api.example.com/api/v1/me',
                                    { headers });
        const state = await clerk.authenticateRequest(request, {
            ...keys,
            authorizedParties,
        });

        if (state.status !== 'signed-in') {
            return `out ${state.reason}`;
        }

        const { userId } = state.toAuth();

        return userId === null ? 'out session-pending' : `in ${userId}`;

    } catch (error) {
        return `out ${error.message}`;
    }
}

const judge = input.requests ? judgeRequest : judgeToken;
const answers = [];

for (const each of input.requests ?? input.tokens) {
    answers.push(await judge(each));
}

console.log(JSON.stringify(answers));
