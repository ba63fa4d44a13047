// Clerk's own reading of organization claims.  Standard input is a list of
// claims, the answer a list of {id, slug, role, permissions} or of "error: "
// and a message.

import { __experimental_JWTPayloadToAuthObjectProperties as read }
    from '@clerk/shared/jwtPayloadParser';
import { readFileSync } from 'node:fs';

const input = JSON.parse(readFileSync(0, 'utf8'));

const answers = input.map((claims) => {
    try {
        const auth = read(claims);

        return {
            id: auth.orgId ?? '',
            slug: auth.orgSlug ?? '',
            role: auth.orgRole ?? '',
            permissions: (auth.orgPermissions ?? []).join(','),
        };

    } catch (error) {
        return `error: ${error.message}`;
    }
});

console.log(JSON.stringify(answers));
