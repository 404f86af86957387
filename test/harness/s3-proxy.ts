import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** The operation of a request to an S3 server, named like the SDK's commands. */
export type S3Operation =
  | 'HeadObject'
  | 'GetObject'
  | 'PutObject'
  | 'DeleteObject'
  | 'ListObjectsV2'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload'
  | 'ListMultipartUploads'
  | 'other';

/**
 * A fault of a request:
 * - `reset`: the connection is cut before the server receives the request; `reset-body`: after half of the body
 * - 429, 500, 503: the proxy responds with this status, and the server does not receive the request; 501, 403: with a
 *   matching S3 error code
 * - `hang`: no response ever
 * - `lost`: the server executes the request, and the connection is cut instead of a response
 * - `short`: half of the response body, then the connection is cut
 * - `damage-request`, `damage-answer`: one bit of the body is flipped
 * - `lie`: the response reports the object as one byte shorter than it is
 * - `portal`: the proxy responds with a page and status 200, as the login page of a network does; `redirect`: it
 *   redirects to such a page
 * - `hold`: the server receives the request when that promise resolves
 */
export type S3Fault =
  | 'reset'
  | 'reset-body'
  | 'hang'
  | 'lost'
  | 'short'
  | 'damage-request'
  | 'damage-answer'
  | 'lie'
  | 'portal'
  | 'redirect'
  | 403
  | 429
  | 500
  | 501
  | 503
  | 507
  | { hold: Promise<unknown> };

/** A request, as the fault script receives it. */
export interface S3Seen {
  operation: S3Operation;
  /** bucket and key */
  path: string;
  headers: IncomingMessage['headers'];
  /** the number of requests before this one */
  number: number;
  /** the number of requests of the same operation before this one */
  ofOperation: number;
}

export interface S3Proxy {
  /** http://127.0.0.1:port */
  endpoint: string;
  port: number;
  /** all requests so far */
  readonly seen: S3Seen[];
  /** the number of requests that met a fault */
  readonly faults: number;
  /** starts over: clears the record and the faults */
  forget(): void;
  script(fault: (seen: S3Seen) => S3Fault | undefined): void;
  close(): Promise<void>;
}

const CODES: Partial<Record<number, string>> = {
  403: 'AccessDenied',
  429: 'TooManyRequests',
  500: 'InternalError',
  501: 'NotImplemented',
  503: 'SlowDown',
  507: 'InsufficientStorage',
};

/** Starts an HTTP server that forwards requests to an S3 server, and applies the faults of the script. */
export async function startS3Proxy(options: { server: string; host?: string; port?: number }): Promise<S3Proxy> {
  const seen: S3Seen[] = [];
  let faults = 0;
  let script: (seen: S3Seen) => S3Fault | undefined = () => undefined;
  const server = createServer((incoming, answer) => {
    incoming.on('error', () => undefined);
    answer.on('error', () => undefined);
    const operation = operationOf(incoming);
    const path = decodeURIComponent((incoming.url ?? '').split('?')[0] ?? '').slice(1);
    const ofOperation = seen.filter((one) => one.operation === operation).length;
    const one: S3Seen = { operation, path, headers: incoming.headers, number: seen.length, ofOperation };
    seen.push(one);
    const fault = script(one);
    if (fault !== undefined) faults++;
    handle(options.server, incoming, answer, fault).catch(() => incoming.socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    port,
    seen,
    get faults() {
      return faults;
    },
    forget() {
      seen.length = 0;
      faults = 0;
      script = () => undefined;
    },
    script: (fault) => {
      script = fault;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function handle(
  server: string,
  incoming: IncomingMessage,
  answer: ServerResponse,
  fault: S3Fault | undefined,
): Promise<void> {
  const { socket } = incoming;
  const cut = () => socket.destroy();
  if (fault === 'reset') return void cut();
  if (fault === 'reset-body') {
    const length = Number(incoming.headers['content-length'] ?? 0);
    let got = 0;
    for await (const chunk of incoming) {
      got += (chunk as Buffer).length;
      if (got >= length / 2) break;
    }
    return void cut();
  }
  const body = await buffer(incoming);
  if (fault === 'hang') return;
  if (typeof fault === 'object') await fault.hold;
  if (fault === 'portal' || fault === 'redirect') return showPortal(answer, fault, incoming.method === 'HEAD');
  if (typeof fault === 'number') return refuse(answer, fault, incoming.method === 'HEAD');
  if (fault === 'damage-request') flip(body);
  const { status, headers, content } = await forward(server, incoming, body);
  if (fault === 'lost') return void cut();
  if (fault === 'damage-answer') flip(content);
  if (fault === 'lie') headers['content-length'] = String(Number(headers['content-length']) - 1);
  answer.writeHead(status, headers);
  if (fault === 'short') return void answer.write(content.subarray(0, content.length / 2), cut);
  answer.end(content);
}

function showPortal(answer: ServerResponse, how: 'portal' | 'redirect', head: boolean): void {
  const page = '<!DOCTYPE html><html><body><form>Log in<br></form></body></html>';
  const type = { 'content-type': 'text/html; charset=utf-8', 'content-length': page.length };
  if (how === 'portal') answer.writeHead(200, type);
  else answer.writeHead(307, { ...type, location: 'http://portal.example/login?from=canary' });
  answer.end(head ? undefined : page);
}

function refuse(answer: ServerResponse, status: number, head: boolean): void {
  const code = CODES[status] ?? 'InternalError';
  const text = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>as the script says</Message></Error>`;
  answer.writeHead(status, { 'content-type': 'application/xml' });
  answer.end(head ? undefined : text);
}

function forward(
  server: string,
  { method, url, headers }: IncomingMessage,
  body: Buffer,
): Promise<{ status: number; headers: IncomingMessage['headers']; content: Buffer }> {
  return new Promise((resolve, reject) => {
    let whole = () => false;
    const sent = request(new URL(url ?? '/', server), { method, headers, agent: false }, (answer) => {
      whole = () => answer.complete;
      buffer(answer).then(
        (content) => resolve({ status: answer.statusCode ?? 500, headers: answer.headers, content }),
        reject,
      );
    });
    sent.on('error', (error) => {
      // Ceph 18 sends more bytes than its Content-Length if public access is not blocked.
      if (!whole()) reject(error);
    });
    sent.end(body);
  });
}

function flip(bytes: Buffer): void {
  const middle = Math.floor(bytes.length / 2);
  if (bytes.length > 0) bytes[middle] = (bytes[middle] ?? 0) ^ 1;
}

function operationOf({ method, url = '' }: IncomingMessage): S3Operation {
  const { pathname, searchParams } = new URL(url, 'http://server');
  const ofObject = pathname.split('/').filter((part) => part !== '').length > 1;
  const upload = searchParams.has('uploadId');
  if (searchParams.has('uploads')) return method === 'POST' ? 'CreateMultipartUpload' : 'ListMultipartUploads';
  if (searchParams.has('list-type')) return 'ListObjectsV2';
  if (!ofObject) return 'other';
  if (method === 'HEAD') return 'HeadObject';
  if (method === 'GET') return upload ? 'other' : 'GetObject';
  if (method === 'PUT') return upload ? 'UploadPart' : 'PutObject';
  if (method === 'DELETE') return upload ? 'AbortMultipartUpload' : 'DeleteObject';
  return method === 'POST' && upload ? 'CompleteMultipartUpload' : 'other';
}
