import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** Starts a server that responds as S3 would, as far as `answer` implements it. */
export async function startStubS3(answer: RequestListener) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    endpoint,
    location: { bucket: 'bucket', prefix: '', endpoint, pathStyle: true },
    credentials: { accessKeyId: 'id', secretAccessKey: 'canary-secret' },
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Returns the body of an error response, as S3 writes it. */
export const s3Error = (code: string) => `<Error><Code>${code}</Code><Message>no</Message></Error>`;

/** A request that {@link memoryS3} has answered. */
export interface StubRequest {
  method: string;
  /** the key of the object, without the bucket; empty for requests to the bucket */
  key: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
}

/** Options of {@link memoryS3}. */
interface MemoryOptions {
  /** the ETag of an object; default: that of servers that do not encrypt, the MD5 of the content */
  etagOf?: (content: Buffer) => string;
  /** the value of If-Match that fits an ETag; default: the ETag */
  conditionOf?: (etag: string) => string;
  /** answers a request instead: returns false if it did not */
  first?: (request: StubRequest, answer: ServerResponse) => boolean;
}

/** A bucket in memory, and the requests that it has answered. */
export function memoryS3({ etagOf = md5Of, conditionOf = (etag) => etag, first = () => false }: MemoryOptions = {}) {
  const objects = new Map<string, { content: Buffer; headers: Record<string, string>; at: Date }>();
  const seen: StubRequest[] = [];
  const describe = (key: string) => {
    const object = objects.get(key);
    return object && { etag: etagOf(object.content), 'content-length': object.content.length, ...object.headers };
  };
  const answer: RequestListener = async (incoming, response) => {
    const { pathname, searchParams: query } = new URL(incoming.url ?? '', 'http://stub');
    const key = decodeURIComponent(pathname.split('/').slice(2).join('/'));
    const request = { method: incoming.method ?? '', key, query, headers: incoming.headers };
    const body = await buffer(incoming);
    seen.push(request);
    if (first(request, response)) return;
    const refuse = (status: number, code: string) => void response.writeHead(status).end(s3Error(code));
    const found = describe(key);
    if (request.method === 'PUT') {
      if (found && incoming.headers['if-none-match'] === '*') return refuse(412, 'PreconditionFailed');
      const expected = incoming.headers['if-match'];
      if (expected !== undefined && (!found || conditionOf(found.etag) !== expected))
        return found ? refuse(412, 'PreconditionFailed') : refuse(404, 'NoSuchKey');
      const marks = Object.entries(incoming.headers).filter(([name]) => name.startsWith('x-amz-meta-'));
      objects.set(key, { content: body, headers: Object.fromEntries(marks) as Record<string, string>, at: new Date() });
      return void response.writeHead(200, { etag: etagOf(body) }).end();
    }
    if (request.method === 'DELETE') {
      objects.delete(key);
      return void response.writeHead(204).end();
    }
    if (request.method === 'POST' && query.has('delete')) {
      for (const [, name = ''] of body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)) objects.delete(name);
      return void response.end('<DeleteResult/>');
    }
    if (key === '' && query.has('list-type')) return void response.end(listOf(query.get('prefix') ?? ''));
    if (key === '' && query.has('object-lock')) return refuse(404, 'ObjectLockConfigurationNotFoundError');
    if (!found) return refuse(404, request.method === 'HEAD' ? '' : 'NoSuchKey');
    response.writeHead(200, found).end(request.method === 'HEAD' ? undefined : objects.get(key)?.content);
  };
  const listOf = (prefix: string) => {
    const keys = [...objects.keys()].filter((key) => key.startsWith(prefix)).sort();
    const entries = keys.map((key) => {
      const { content, at } = objects.get(key) as { content: Buffer; at: Date };
      const etag = `<ETag>${etagOf(content)}</ETag><LastModified>${at.toISOString()}</LastModified>`;
      return `<Contents><Key>${key}</Key><Size>${content.length}</Size>${etag}</Contents>`;
    });
    return `<ListBucketResult><IsTruncated>false</IsTruncated>${entries.join('')}</ListBucketResult>`;
  };
  return { objects, seen, answer };
}

function md5Of(content: Buffer): string {
  return `"${createHash('md5').update(content).digest('hex')}"`;
}
