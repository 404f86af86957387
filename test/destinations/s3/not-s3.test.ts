import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { Destination } from '../../../src/destinations/destination.ts';
import { createS3Destination } from '../../../src/destinations/s3/s3.ts';
import { keys, read } from '../../contract/destination.ts';
import { s3Error, startStubS3 } from '../../harness/stub-s3.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Runs `act` on a destination at a server with these responses. Returns its result or its error. */
async function outcome(answer: Answer, act: (destination: Destination) => Promise<unknown>): Promise<unknown> {
  const listener: RequestListener = (request, response) => {
    request.resume().on('end', () => answer(request, response));
  };
  const stub = await startStubS3(listener);
  const { location, credentials } = stub;
  const limits = { attempts: 2, baseDelayMs: 1 };
  const uploads = join(tmpdir(), 'lifeboat-not-s3');
  try {
    return await act(createS3Destination({ location, credentials, uploads, env: {}, limits }));
  } catch (error) {
    return error;
  } finally {
    stub.stop();
  }
}

const ACTS: [string, (destination: Destination) => Promise<unknown>][] = [
  ['list', (destination) => keys(destination, '')],
  ['get', (destination) => read(destination, 'lifeboat.json')],
  ['put', (destination) => destination.put('shop/a', Readable.from([Buffer.from('a')]))],
  ['delete', (destination) => destination.delete('shop/a')],
];

const PAGE = '<!DOCTYPE html><html><body>Log in<br></body></html>';
const page =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', ...headers }).end(PAGE);

const UNREACHABLE = { code: 'DEST_UNREACHABLE', hint: expect.stringContaining('Check the endpoint') };

test.each(
  [page(200), page(200, { etag: '"index"' }), page(404), page(403), page(302, { location: 'http://portal/' })].flatMap(
    (answer) => ACTS.map(([name, act]) => ({ name, act, answer })),
  ),
)('a page instead of a response to $name is no response of an S3 server', async ({ act, answer }) => {
  expect(await outcome(answer, act)).toMatchObject({
    ...UNREACHABLE,
    message: expect.stringMatching(/^s3:\/\/bucket did not answer like an S3 server \(HTTP \d+, text\/html/),
  });
});

test.each([
  ['nothing', ''],
  ['text', 'OK'],
  ['other XML', '<?xml version="1.0"?><feed><title>News</title></feed>'],
  ['an XHTML page', '<html><head><title>Login</title></head><body/></html>'],
])('a list that is %s is not empty', async (_, body) => {
  const list = await outcome(
    (_, response) => response.end(body),
    (destination) => keys(destination, ''),
  );
  expect(list).toMatchObject(UNREACHABLE);
});

test.each([
  ['Name', '<Name>bucket</Name>'],
  ['KeyCount', '<KeyCount>0</KeyCount>'],
  ['IsTruncated', '<IsTruncated>false</IsTruncated>'],
])('a list with only %s is empty', async (_, element) => {
  const xml = `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${element}</ListBucketResult>`;
  expect(
    await outcome(
      (_, response) => response.end(xml),
      (destination) => keys(destination, ''),
    ),
  ).toEqual([]);
});

test('an object without an ETag was neither stored nor read by an S3 server', async () => {
  const plain: Answer = (_, response) => response.end('{}');
  for (const [name, act] of ACTS.filter(([name]) => name === 'get' || name === 'put')) {
    expect(await outcome(plain, act), name).toMatchObject(UNREACHABLE);
  }
  const accepting: Answer = ({ method }, response) => response.writeHead(method === 'HEAD' ? 404 : 200).end();
  expect(await outcome(accepting, ACTS[2]![1])).toMatchObject(UNREACHABLE);
});

test('a redirect is shown with its address, without the query', async () => {
  const redirect: Answer = (_, response) => response.writeHead(307, { location: 'http://portal/in?from=secret' }).end();
  for (const [name, act] of ACTS) {
    const error = await outcome(redirect, act);
    expect(error, name).toMatchObject({
      ...UNREACHABLE,
      message: 's3://bucket did not answer like an S3 server (HTTP 307, redirect to http://portal/in)',
    });
    expect(JSON.stringify(error), name).not.toContain('secret');
  }
  const moved: Answer = (_, response) =>
    response
      .writeHead(307, { location: 'http://other.example/bucket', 'content-type': 'application/xml', 'x-amz-id-2': 'a' })
      .end(s3Error('TemporaryRedirect'));
  expect(await outcome(moved, ACTS[0]![1])).toMatchObject({
    message: 's3://bucket redirects to http://other.example/bucket (HTTP 307)',
    hint: expect.stringContaining('Set the endpoint'),
  });
});

test('a page of a proxy that is overloaded or refuses large requests keeps its status', async () => {
  expect(await outcome(page(502), ACTS[0]![1])).toMatchObject({ message: expect.stringContaining('HTTP 502') });
  const error = await outcome(page(413), ACTS[0]![1]);
  expect(error).toMatchObject({ code: 'DEST_UNWRITABLE', message: expect.stringContaining('HTTP 413') });
  expect(String((error as Error).cause)).not.toContain('Deserialization');
});

test('responses of S3 servers with few headers are accepted', async () => {
  const error: Answer = ({ method }, response) =>
    response
      .writeHead(404, method === 'HEAD' ? {} : { 'content-type': 'application/xml' })
      .end(method === 'HEAD' ? undefined : s3Error('NoSuchKey'));
  expect(await outcome(error, ACTS[1]![1])).toMatchObject({ code: 'OBJECT_MISSING' });
  const gone: Answer = (_, response) => response.writeHead(204).end();
  expect(await outcome(gone, ACTS[3]![1])).toBeUndefined();
  // A stored page is an object like any other.
  const stored = page(200, { etag: '"a"', 'x-amz-request-id': '1', 'content-length': String(PAGE.length) });
  expect(await outcome(stored, async (at) => String(await read(at, 'page')))).toBe(PAGE);
});

test('the empty responses of Google Cloud Storage, which have the type of a page, are accepted', async () => {
  const stored = new Map<string, string>();
  const google: Answer = ({ method }, response) => {
    const headers = { 'content-type': 'text/html; charset=UTF-8', 'content-length': '0' };
    if (method === 'PUT') stored.set('a', 'a');
    if (method === 'HEAD' && stored.size === 0) response.writeHead(404, headers).end();
    else if (method === 'HEAD')
      response.writeHead(200, { 'content-type': 'text/plain', 'content-length': '1', etag: '"a"' }).end();
    else if (method === 'GET')
      response
        .writeHead(200, { 'content-type': 'text/html', 'content-length': '1', etag: '"a"', 'x-goog-hash': 'x' })
        .end('a');
    else if (method === 'DELETE') response.writeHead(204, headers).end();
    else response.writeHead(200, { ...headers, etag: '"a"', 'x-guploader-uploadid': 'u' }).end();
  };
  expect(await outcome(google, ACTS[3]![1])).toBeUndefined();
  expect(await outcome(google, ACTS[2]![1])).not.toMatchObject({ code: 'DEST_UNREACHABLE' });
});

test('an object without a length is not empty: nobody knows whether it is whole', async () => {
  const chunked: Answer = (_, response) => {
    response.writeHead(200, { etag: '"a"', 'x-amz-request-id': '1' });
    response.write('{"format"');
    response.end(':1}');
  };
  expect(await outcome(chunked, (destination) => read(destination, 'lifeboat.json'))).toMatchObject({
    ...UNREACHABLE,
    message: expect.stringContaining('without a Content-Length'),
  });
});
