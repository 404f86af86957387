import { type ErrorCode, LifeboatError } from '../../base/errors.ts';
import { isNotS3, locationOf } from './not-s3.ts';
import { isMangled, isPassing, type S3Failure, statusOf } from './retry.ts';

/** The operations, worded for a sentence, and the permission that each needs. */
const S3_ACTS = {
  put: { words: 'store objects', permission: 's3:PutObject' },
  get: { words: 'read objects', permission: 's3:GetObject' },
  list: { words: 'list objects', permission: 's3:ListBucket' },
  delete: { words: 'delete objects', permission: 's3:DeleteObject' },
  abort: { words: 'abort uploads', permission: 's3:AbortMultipartUpload' },
  uploads: { words: 'list uploads', permission: 's3:ListBucketMultipartUploads' },
  lock: { words: 'prolong locks', permission: 's3:PutObjectRetention' },
  locks: { words: 'read how long the bucket locks objects', permission: 's3:GetBucketObjectLockConfiguration' },
  bucket: { words: 'read or change the settings of the bucket', permission: 'the action named in the cause' },
  versions: { words: 'list versions', permission: 's3:ListBucketVersions' },
  undelete: { words: 'restore versions', permission: 's3:GetObjectVersion, s3:PutObject and s3:DeleteObjectVersion' },
} as const;
export type S3Act = keyof typeof S3_ACTS;

/** Each server has its own words for an exceeded quota or a full disk. */
const FULL = /quota|StorageFull|InsufficientStorage|InsufficientCapacity|cap_exceeded|CapExceeded|EntityTooLarge/i;
const BAD_KEY = /^(InvalidAccessKeyId|SignatureDoesNotMatch|AuthFailure|Unauthorized)$/;
const OLD_KEY = /^(ExpiredToken|TokenRefreshRequired|InvalidToken|ExpiredTokenException)$/;
const OTHER_REGION = /^(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException)$/;
const NOT_S3_HINT =
  'The port is wrong, or something else answers at that address: a login page of the network, a firewall or a proxy. Check the endpoint, the network of the Lifeboat container, and HTTPS_PROXY and NO_PROXY.';
const NETWORK_HINT = 'Check the endpoint, the network of the Lifeboat container, and HTTPS_PROXY and NO_PROXY.';

/**
 * Returns the error that users see for an SDK error: DEST_UNWRITABLE, DEST_FULL, DEST_UNREACHABLE, DEST_DAMAGED,
 * DELETE_REFUSED, OBJECT_ARCHIVED, OBJECT_DAMAGED. Returns a LifeboatError unchanged.
 *
 * @param name display name of the destination
 */
export function explainS3(error: unknown, act: S3Act, name: string): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const kind = error instanceof Error ? error.name : '';
  const text = `${kind} ${error instanceof Error ? error.message : ''}`;
  const failure = { error, act, name, kind, text, status: statusOf(error) };
  const [code, message, hint] = explainByName(failure) ?? explainByStatus(failure);
  return new LifeboatError(code, message, { hint, cause: named(error) });
}

/**
 * Returns the error for a page of a listing that does not say how the listing continues. The objects that are missing
 * from it may exist.
 */
export function incompleteListing(name: string): LifeboatError {
  return new LifeboatError(
    'DEST_UNREACHABLE',
    `${name} ended a listing early: more objects follow, but not how to list them`,
    {
      hint: 'Check the proxies between Lifeboat and the server, and update the server.',
    },
  );
}

/** The parts of an SDK failure. `text` contains its name and its message. */
interface Failure {
  error: unknown;
  act: S3Act;
  name: string;
  kind: string;
  text: string;
  status: number | undefined;
}

type Explanation = [code: ErrorCode, message: string, hint: string];

/** Explains a failure by the name of the error, where servers agree on one. */
function explainByName({ error, kind, text, status, name }: Failure): Explanation | undefined {
  if (isNotS3(error)) {
    const message = `${name} did not answer like an S3 server (${(error as Error).message})`;
    return ['DEST_UNREACHABLE', message, NOT_S3_HINT];
  }
  if (status === 507 || (status !== undefined && status >= 400 && FULL.test(text))) {
    return ['DEST_FULL', `${name} has no space left`, 'Raise the quota of the bucket or account, or free space there.'];
  }
  if (kind === 'NoSuchBucket') {
    const hint = 'Create it, or correct its name, region or endpoint.';
    return ['DEST_UNWRITABLE', `the bucket of ${name} does not exist`, hint];
  }
  if (kind === 'InvalidObjectState' || kind === 'ObjectNotInActiveTierError') {
    const hint =
      'Restore it (`aws s3api restore-object`), wait, then try again. `lifeboat bucket setup` shows the rule that moved it.';
    return ['OBJECT_ARCHIVED', `an object in ${name} is in an archive and cannot be read at once`, hint];
  }
  if (kind === 'CredentialsProviderError' || /credential/i.test(kind)) {
    const hint = 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or their _FILE forms.';
    return ['DEST_UNWRITABLE', `there is no key for ${name}`, hint];
  }
  if (OTHER_REGION.test(kind) || status === 301 || /region is missing/i.test(text)) {
    return ['DEST_UNWRITABLE', `${name} is in another region`, 'Add ?region=… to its location.'];
  }
  if (kind === 'RequestTimeTooSkewed') {
    const message = `the clocks of this host and of ${name} differ too much`;
    return ['DEST_UNWRITABLE', message, 'Set the clock of the host.'];
  }
  if (OLD_KEY.test(kind)) return ['DEST_UNWRITABLE', `the key for ${name} has expired`, 'Give Lifeboat a new key.'];
  if (BAD_KEY.test(kind)) {
    const hint = 'Compare AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY with those of the server.';
    return ['DEST_UNWRITABLE', `${name} refused the key`, hint];
  }
  return undefined;
}

/** Explains a failure by the HTTP status, or by its absence. */
function explainByStatus({ error, act, name, text, status }: Failure): Explanation {
  if (act === 'delete' && isKept(status, text)) {
    const hint = 'This is expected with a lock or an append-only key. Otherwise, allow s3:DeleteObject to the key.';
    return ['DELETE_REFUSED', `${name} does not let this key delete objects`, hint];
  }
  if (status === 403 || status === 401) return ['DEST_UNWRITABLE', ...refused(act, name)];
  if (act === 'get' && status === 416) {
    const hint = 'Back up again: the next backup stores damaged content again. Or restore from a copy.';
    return ['OBJECT_DAMAGED', `an object in ${name} is shorter than it should be`, hint];
  }
  if (isMangled(error)) {
    const hint = 'Test the memory of the host, and check everything between it and the server.';
    return ['DEST_DAMAGED', `the bytes that arrive at ${name} differ from the bytes sent`, hint];
  }
  if (isPassing(error)) {
    if (status === undefined || status < 300) return ['DEST_UNREACHABLE', `${name} does not answer`, NETWORK_HINT];
    const hint = 'Check the state of the server, and try again later.';
    return ['DEST_UNREACHABLE', `${name} kept failing (HTTP ${status})`, hint];
  }
  if (status === undefined) return ['DEST_UNREACHABLE', `${name} cannot be reached`, tlsHint(error)];
  const where = locationOf(error);
  if (status >= 300 && status < 400 && where) {
    const hint = 'Set the endpoint in the location of the destination to the address of the server itself.';
    return ['DEST_UNWRITABLE', `${name} redirects to ${where} (HTTP ${status})`, hint];
  }
  const message = `${name} refused to ${S3_ACTS[act].words} (HTTP ${status})`;
  return ['DEST_UNWRITABLE', message, 'Read the cause, and the logs of the server and of every proxy in front of it.'];
}

/**
 * Returns true if the key may not delete, or if something protects the object for a time. Servers word this
 * differently.
 */
function isKept(status: number | undefined, text: string): boolean {
  return status === 403 || (status !== undefined && status >= 400 && status < 500 && /lock|retention|hold/i.test(text));
}

function refused(act: S3Act, name: string): [string, string] {
  const { words, permission } = S3_ACTS[act];
  return [
    `${name} does not let this key ${words}`,
    `Allow ${permission} to the key, or correct the key. \`lifeboat bucket policy\` prints the permissions that Lifeboat needs.`,
  ];
}

function tlsHint(error: unknown): string {
  const code = error instanceof Error ? String((error as S3Failure).code ?? '') : '';
  if (!/CERT|TLS|SSL/.test(code)) return NETWORK_HINT;
  return 'Set NODE_EXTRA_CA_CERTS to the file with the certificate of its authority, or correct the endpoint.';
}

/** Some SDK errors have no message, such as those to HEAD. Their name says more. */
function named(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const status = statusOf(error);
  // The SDK's text about a response that it cannot parse is for programmers, and other text may follow. It also has a
  // text for errors to which the server gives no message.
  const isOwn = /Deserialization error|^UnknownError$/.test(error.message);
  const message = /Deserialization error/.test(error.message) ? 'the response is not XML' : isOwn ? '' : error.message;
  const known = error.name !== 'Error' && !message.includes(error.name) ? [error.name] : [];
  const words = [...known, ...(message === '' ? [] : [message])].join(': ') || 'an error without a name';
  return new Error(`${words}${status === undefined ? '' : ` (HTTP ${status})`}`, isOwn ? {} : { cause: error });
}
