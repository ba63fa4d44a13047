// AWS's presigner.  Standard input is a list of {method, key, expires, time,
// headers, query, virtual, endpoint, bucket, region, access_key, secret_key};
// the answer is a list of URLs.
//
// S3RequestPresigner adds two parameters of its own to a URL (x-id and
// X-Amz-Content-Sha256), so the signer below it is asked as well, which signs
// what it is given: "plain" is to be compared byte for byte.

import {
    DeleteObjectCommand, GetObjectCommand, HeadObjectCommand,
    PutObjectCommand, S3Client,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { readFileSync } from 'node:fs';

const commands = {
    DELETE: DeleteObjectCommand,
    GET: GetObjectCommand,
    HEAD: HeadObjectCommand,
    PUT: PutObjectCommand,
};

const cases = JSON.parse(readFileSync(0, 'utf8'));
const answers = [];

for (const c of cases) {
    const client = new S3Client({
        endpoint: c.endpoint,
        region: c.region,
        forcePathStyle: !c.virtual,
        requestChecksumCalculation: 'WHEN_REQUIRED',
        responseChecksumValidation: 'WHEN_REQUIRED',
        credentials: {
            accessKeyId: c.access_key,
            secretAccessKey: c.secret_key,
            sessionToken: c.session_token ?? undefined,
        },
    });

    const headers = c.headers ?? {};
    const input = { Bucket: c.bucket, Key: c.key };

    if (headers['content-type'] !== undefined) {
        input.ContentType = headers['content-type'];
    }

    if (headers['content-length'] !== undefined) {
        input.ContentLength = Number(headers['content-length']);
    }

    if (headers['x-amz-checksum-sha256'] !== undefined) {
        input.ChecksumSHA256 = headers['x-amz-checksum-sha256'];
    }

    if (headers['if-none-match'] !== undefined) {
        input.IfNoneMatch = headers['if-none-match'];
    }

    for (const name of Object.keys(headers)) {
        if (name.startsWith('x-amz-meta-')) {
            input.Metadata ??= {};
            input.Metadata[name.slice(11)] = headers[name];
        }
    }

    if (c.query?.['response-content-disposition'] !== undefined) {
        input.ResponseContentDisposition =
            c.query['response-content-disposition'];
    }

    const url = await getSignedUrl(client, new commands[c.method](input), {
        expiresIn: c.expires,
        signingDate: new Date(c.time * 1000),
        signableHeaders: new Set(['host', ...Object.keys(headers)]),
        unhoistableHeaders: new Set(Object.keys(headers)),
    });

    answers.push(url);
}

console.log(JSON.stringify(answers));
