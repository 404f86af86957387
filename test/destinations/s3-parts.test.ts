import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { MAX_PARTS, PartBuffers, PartReader, partSize, partsInMemory } from '../../src/destinations/s3-parts.ts';
import { isPassing, pause, S3_LIMITS, withRetries } from '../../src/destinations/s3-retry.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

function partsFor(size: number, expectedSize?: number): number[] {
  const parts: number[] = [];
  for (let left = size; left > 0; left -= parts.at(-1)!) parts.push(partSize(parts.length, expectedSize));
  return parts;
}

test.each([
  ['small', 20 * MIB, 8 * MIB],
  ['at the end of the smallest parts', 70 * GIB, 8 * MIB],
  ['5 GiB in a pack of its own', 5 * GIB, 8 * MIB],
  ['a terabyte', 1024 * GIB, 117 * MIB],
  ['as large as S3 allows', 5 * 1024 * GIB, 583 * MIB],
])('an object of expected size, %s, has parts of one size that it can be made of', (_, size, part) => {
  const parts = partsFor(size, size);
  expect(parts.length).toBeLessThanOrEqual(MAX_PARTS);
  expect(new Set(parts)).toEqual(new Set([part]));
});

test('parts of an object that nobody knows the size of grow, and so do those of one that becomes too large', () => {
  expect(partsFor(10 * GIB).every((size) => size === 8 * MIB)).toBe(true);
  for (const parts of [partsFor(1200 * GIB), partsFor(5 * 1024 * GIB, GIB)]) {
    expect(parts.length).toBeLessThanOrEqual(MAX_PARTS);
    expect(parts).toEqual(parts.toSorted((a, b) => a - b));
  }
});

test('no more than 32 MiB of parts are in memory, or a single one', () => {
  for (const size of [8, 16, 20, 32, 64, 500]) {
    const count = partsInMemory(size * MIB);
    expect(count === 1 || count * size <= 32).toBe(true);
  }
});

test('a buffer is waited for, and used again', async () => {
  const buffers = new PartBuffers();
  const size = 16 * MIB;
  const [first, second] = [await buffers.take(size), await buffers.take(size)];
  const third = buffers.take(size);
  let taken = false;
  third.then(() => {
    taken = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(taken).toBe(false);
  buffers.give(second);
  // Not compared by expect, which would look at every byte.
  expect((await third) === second).toBe(true);
  expect(first === second).toBe(false);
});

test('a body is cut into parts whatever its pieces are', async () => {
  const content = randomBytes(1000);
  for (const piece of [1, 7, 99, 100, 101, 1000]) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < content.length; at += piece) pieces.push(content.subarray(at, at + piece));
    const hash = createHash('sha256');
    const reader = new PartReader(Readable.from(pieces), hash);
    const parts: Buffer[] = [];
    for (let filled = 300; filled === 300; ) {
      const part = Buffer.alloc(300);
      filled = await reader.fill(part);
      parts.push(part.subarray(0, filled));
    }
    expect(parts.map(({ length }) => length)).toEqual([300, 300, 300, 100]);
    expect(Buffer.concat(parts).equals(content)).toBe(true);
    expect(reader.size).toBe(1000);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(content).digest('hex'));
  }
});

const answer = (status: number, name = 'Error') =>
  Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });
const system = (code: string) => Object.assign(new Error(code), { code });

test.each([
  [answer(500, 'InternalError'), true],
  [answer(503, 'SlowDown'), true],
  [answer(429), true],
  [answer(400, 'RequestTimeout'), true],
  [answer(400, 'BadDigest'), true],
  [answer(409, 'ConditionalRequestConflict'), true],
  [answer(200, 'SyntaxError'), true],
  [answer(403, 'AccessDenied'), false],
  [answer(404, 'NoSuchKey'), false],
  [answer(412, 'PreconditionFailed'), false],
  [answer(501, 'NotImplemented'), false],
  [answer(507, 'InsufficientStorage'), false],
  [system('ECONNRESET'), true],
  [system('EAI_AGAIN'), true],
  [system('ENOTFOUND'), true],
  [system('EPROTO'), true],
  [system('HPE_INVALID_CONSTANT'), true],
  [system('ENOSPC'), false],
  [system('EACCES'), false],
  [system('CERT_HAS_EXPIRED'), false],
  [system('ERR_TLS_CERT_ALTNAME_INVALID'), false],
  [new DOMException('late', 'TimeoutError'), true],
  [new TypeError('a mistake'), false],
])('a failure that may pass: %s %s', (error, passing) => {
  expect(isPassing(error)).toBe(passing);
});

test('attempts are bounded, and end at once when they are told to', async () => {
  const limits = { ...S3_LIMITS, attempts: 3, baseDelayMs: 1 };
  let made = 0;
  const fail = async () => {
    made++;
    throw system('ECONNRESET');
  };
  await expect(withRetries(fail, limits)).rejects.toThrow('ECONNRESET');
  expect(made).toBe(3);
  const controller = new AbortController();
  const forever = withRetries(
    fail,
    { ...limits, baseDelayMs: 60_000, maxDelayMs: 60_000 },
    { signal: controller.signal },
  );
  setTimeout(() => controller.abort(new Error('enough')), 5);
  await expect(forever).rejects.toThrow('enough');
});

test('waits double and are never longer than the longest', async () => {
  const start = performance.now();
  await pause(30, { ...S3_LIMITS, baseDelayMs: 1, maxDelayMs: 4 });
  expect(performance.now() - start).toBeLessThan(1000);
});
