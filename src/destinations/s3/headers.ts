import { createHash } from 'node:crypto';
import type { S3Client } from '@aws-sdk/client-s3';
import type { S3Location } from '../../plan/s3-location.ts';

/** The parts of a location, and the key, that become headers of requests. */
type HeaderWish = Pick<S3Location, 'encryption' | 'kmsKey' | 'acl' | 'requesterPays'> & {
  /** base64 of the 32 bytes of a customer key (SSE-C) */
  customerKey?: string | undefined;
};

/** Lets a client add to each request the headers that its bucket asks for, and the checksum that every server knows. */
export function addHeaders({ middlewareStack }: S3Client, wish: HeaderWish): void {
  middlewareStack.add(
    (next, { commandName = '' }) =>
      (args) => {
        const request = args.request as Parameters<typeof withMd5>[0];
        Object.assign(request.headers, headersOf(commandName, wish));
        withMd5(request);
        return next(args);
      },
    { step: 'build', priority: 'low', name: 'lifeboatHeaders' },
  );
}

/** The commands that store an object, or begin to. */
const STORING = new Set(['PutObjectCommand', 'CreateMultipartUploadCommand', 'CopyObjectCommand']);
/** The commands that send or receive the content of an object, or describe it: they need its customer key. */
const OF_CONTENT = new Set([
  ...STORING,
  'GetObjectCommand',
  'HeadObjectCommand',
  'UploadPartCommand',
  'UploadPartCopyCommand',
]);
/** The commands that read the content of another object, too. */
const COPYING = new Set(['CopyObjectCommand', 'UploadPartCopyCommand']);

/**
 * Returns the headers that a request needs because its bucket asks for them: encryption by the server (SSE-S3, SSE-KMS,
 * SSE-C), a canned ACL, and payment by the requester.
 *
 * @param command name of the SDK's command, such as `PutObjectCommand`
 */
function headersOf(command: string, wish: HeaderWish): Record<string, string> {
  const { encryption, kmsKey, acl, requesterPays, customerKey } = wish;
  const headers: Record<string, string> = {};
  if (requesterPays) headers['x-amz-request-payer'] = 'requester';
  if (STORING.has(command)) {
    if (acl !== undefined) headers['x-amz-acl'] = acl;
    if (encryption !== undefined && encryption !== 'customer') headers['x-amz-server-side-encryption'] = encryption;
    if (kmsKey !== undefined) headers['x-amz-server-side-encryption-aws-kms-key-id'] = kmsKey;
  }
  if (encryption !== 'customer' || customerKey === undefined) return headers;
  if (OF_CONTENT.has(command)) addCustomerKey(headers, 'x-amz-server-side-encryption-customer', customerKey);
  if (COPYING.has(command)) addCustomerKey(headers, 'x-amz-copy-source-server-side-encryption-customer', customerKey);
  return headers;
}

function addCustomerKey(headers: Record<string, string>, name: string, key: string): void {
  headers[`${name}-algorithm`] = 'AES256';
  headers[`${name}-key`] = key;
  headers[`${name}-key-md5`] = createHash('md5').update(Buffer.from(key, 'base64')).digest('base64');
}

/**
 * Adds the checksum that requests for bucket settings require. Every server supports MD5, while the SDK adds newer
 * ones.
 */
function withMd5(request: { body?: unknown; headers: Record<string, string> }): void {
  const { body, headers } = request;
  if (typeof body !== 'string' || body === '') return;
  for (const name of Object.keys(headers)) if (/^x-amz-(sdk-)?checksum-/i.test(name)) delete headers[name];
  headers['content-md5'] = createHash('md5').update(body).digest('base64');
}
