import type { S3Client } from '@aws-sdk/client-s3';

/** The name of the error for a response that does not come from an S3 server. */
export const NOT_S3 = 'NotS3';

/** Error statuses that a proxy in front of a working S3 server sends with a page of its own. */
const OF_PROXIES = new Set([408, 413, 429]);

/** Headers of Amazon S3 and compatible servers, Google Cloud Storage, and Alibaba OSS. */
const SERVER_HEADERS = /^x-(amz|goog|guploader|oss)-/;

/** The longest redirect address that a message shows, characters. */
const SHOWN = 200;

/** Operations whose successful response always has an ETag header. */
const WITH_ETAG = new Set(['GetObject', 'HeadObject', 'PutObject', 'UploadPart']);

/**
 * Elements of successful responses. Each server sends at least one of them, even in an empty list. The SDK reads
 * unrelated XML, or an empty body, as a response without any element.
 */
const ELEMENTS: Partial<Record<string, readonly string[]>> = {
  ListObjectsV2: ['Name', 'KeyCount', 'IsTruncated'],
  ListObjectVersions: ['Name', 'IsTruncated'],
  ListMultipartUploads: ['Bucket', 'IsTruncated'],
  ListParts: ['UploadId', 'Bucket', 'IsTruncated'],
  CreateMultipartUpload: ['UploadId'],
};

/** The parts of an HTTP response that show who sent it. */
interface HttpAnswer {
  statusCode: number;
  /** names in lower case */
  headers: Record<string, string>;
  body?: unknown;
}

/**
 * Makes a client reject responses that no S3 server sends, such as the page of a captive portal, a firewall or the
 * wrong port. Otherwise such a page would count as an empty list, a damaged object, or an object that exists.
 */
export function refuseNotS3(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args);
      const answer = result.response as HttpAnswer;
      const reason = findForeign(answer, String(context.commandName).replace(/Command$/, ''));
      if (reason === undefined) return result;
      discardBody(answer.body);
      throw notS3(reason);
    },
    // This step is next to the connection, so it sees the response before the SDK parses it.
    { step: 'deserialize', priority: 'low', name: 'lifeboatNotS3' },
  );
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args).catch((error: unknown) => {
        throw isUnreadable(error) ? notS3('HTTP 200, but the response is not XML', error) : error;
      });
      const elements = ELEMENTS[String(context.commandName).replace(/Command$/, '')];
      const output = result.output as unknown as Record<string, unknown>;
      if (!elements || elements.some((element) => output[element] !== undefined)) return result;
      throw notS3(`HTTP 200 without ${elements[0]}`);
    },
    { step: 'deserialize', priority: 'high', name: 'lifeboatNotS3Output' },
  );
}

/** Returns how a response differs from those of S3 servers; undefined if it may come from one. */
function findForeign({ statusCode, headers }: HttpAnswer, operation: string): string | undefined {
  const isSuccess = statusCode < 300;
  const isRedirect = statusCode >= 300 && statusCode < 400;
  const type = (headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  const hasAmz = Object.keys(headers).some((name) => SERVER_HEADERS.test(name));
  // Google Cloud Storage sends empty responses with the type of a page.
  const isEmpty = statusCode === 204 || headers['content-length'] === '0';
  const isPage = !isEmpty && (type === 'text/html' || type === 'application/xhtml+xml');
  const { location } = headers;
  const redirect = location === undefined ? '' : `redirect to ${showAddress(location)}`;
  const what = [`HTTP ${statusCode}`, type, redirect].filter((part) => part !== '').join(', ');
  // A proxy that is overloaded, or cannot reach the server, also sends pages. Their status is enough to know that.
  if (isPage && !hasAmz && statusCode < 500 && !OF_PROXIES.has(statusCode)) return what;
  if (isRedirect && !hasAmz && !type.endsWith('/xml')) return what;
  if (isSuccess && WITH_ETAG.has(operation) && !headers.etag) return `${what}, without an ETag`;
  // Nobody could know whether the content is whole.
  if (isSuccess && operation === 'GetObject' && headers['content-length'] === undefined)
    return `${what}, without a Content-Length`;
  return undefined;
}

/** Returns the address to which the response of a failed request redirects, as {@link showAddress} shows it. */
export function locationOf(error: unknown): string | undefined {
  const { $response } = error as { $response?: Partial<HttpAnswer> };
  const location = $response?.headers?.location;
  return location === undefined ? undefined : showAddress(location);
}

/** Returns an address without credentials and query: the query of a portal's address often repeats the request. */
function showAddress(location: string): string {
  const address = location.replace(/[?#].*$/s, '').replace(/\/\/[^/]*@/, '//');
  return address.length > SHOWN ? `${address.slice(0, SHOWN)}…` : address;
}

/** Returns true if the SDK could not parse a response with a success status, although it arrived. */
function isUnreadable(error: unknown): boolean {
  const { $response, $metadata, message } = error as {
    $response?: Partial<HttpAnswer>;
    $metadata?: { httpStatusCode?: number };
    message?: unknown;
  };
  const status = $metadata?.httpStatusCode ?? $response?.statusCode;
  return status !== undefined && status < 300 && /Deserialization error/.test(String(message));
}

/** Returns an error that {@link isNotS3} recognises. It has no HTTP status, because the server did not send any. */
function notS3(reason: string, cause?: unknown): Error {
  return Object.assign(new Error(reason, { cause }), { name: NOT_S3 });
}

/** Returns true for the errors of a client that {@link refuseNotS3} has changed. */
export function isNotS3(error: unknown): boolean {
  return error instanceof Error && error.name === NOT_S3;
}

/** Ends a response whose body nobody reads, so that its connection does not stay open. */
function discardBody(body: unknown): void {
  if (body && typeof (body as { destroy?: unknown }).destroy === 'function') {
    const stream = body as NodeJS.ReadableStream & { destroy(): void };
    stream.on('error', () => undefined);
    stream.destroy();
  }
}
