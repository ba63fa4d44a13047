// Svix's own library: signs and verifies what it is given on standard input,
// a list of {op, secret, id, time, body, headers}.

import { Webhook } from 'svix';
import { readFileSync } from 'node:fs';

const cases = JSON.parse(readFileSync(0, 'utf8'));

const answers = cases.map((c) => {
    try {
        const webhook = new Webhook(c.secret);

        if (c.op === 'sign') {
            return webhook.sign(c.id, new Date(c.time * 1000), c.body);
        }

        webhook.verify(c.body, c.headers);

        return 'ok';

    } catch (error) {
        return `refused: ${error.message}`;
    }
});

console.log(JSON.stringify(answers));
