import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { MAX_PARTS, PartBuffers, PartReader, partSize } from '../../../src/destinations/s3/parts.ts';
import { isPassing, pause, S3_LIMITS, withRetries } from '../../../src/destinations/s3/retry.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

function partsFor(size: number, expectedSize?: number): number[] {
  const parts: number[] = [];
  for (let left = size; left > 0; left -= parts.at(-1)!) parts.push(partSize(parts.length, expectedSize));
  return parts;
}

test.each([
  ['small', 20 * MIB, 5 * MIB],
  ['at the end of the smallest parts', 43 * GIB, 5 * MIB],
  ['5 GiB in a pack of its own', 5 * GIB, 5 * MIB],
  ['a terabyte', 1024 * GIB, 117 * MIB],
  ['as large as S3 allows', 5 * 1024 * GIB, 583 * MIB],
])('an object of expected size, %s, has parts of one size that it can be made of', (_, size, part) => {
  const parts = partsFor(size, size);
  expect(parts.length).toBeLessThanOrEqual(MAX_PARTS);
  expect(new Set(parts)).toEqual(new Set([part]));
});

test('the parts of an object of unknown size grow, and so do those of one that exceeds its expected size', () => {
  expect(partsFor(10 * GIB).every((size) => size === 5 * MIB || size === 10 * MIB)).toBe(true);
  for (const parts of [partsFor(1200 * GIB), partsFor(5 * 1024 * GIB, GIB)]) {
    expect(parts.length).toBeLessThanOrEqual(MAX_PARTS);
    expect(parts).toEqual(parts.toSorted((a, b) => a - b));
  }
});

/** Returns whether the promise has already resolved. expect would compare every byte. */
async function isTaken(taking: Promise<Buffer>): Promise<boolean> {
  let taken = false;
  void taking.then(() => {
    taken = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  return taken;
}

test('a discarded buffer makes room for another one, and wakes a waiting object', async () => {
  const share = new PartBuffers().share();
  const size = 10 * MIB;
  const [first] = [await share.take(size), await share.take(size)];
  const third = share.take(size);
  expect(await isTaken(third)).toBe(false);
  share.lose(first);
  expect((await third) === first).toBe(false);
});

test('a buffer is awaited, and reused', async () => {
  const share = new PartBuffers().share();
  const size = 10 * MIB;
  const [first, second] = [await share.take(size), await share.take(size)];
  const third = share.take(size);
  expect(await isTaken(third)).toBe(false);
  share.give(second);
  expect((await third) === second).toBe(true);
  expect(first === second).toBe(false);
});

test.each([5, 7, 10, 16, 20, 64, 500])(
  'parts of %i MiB of all objects take 20 MiB, but each object has one',
  async (size) => {
    const buffers = new PartBuffers();
    const [one, other] = [buffers.share(), buffers.share()];
    const firsts = [await one.take(size * MIB), await other.take(size * MIB)];
    let more = 0;
    while (await isTaken(one.take(size * MIB))) more++;
    expect(more).toBe(Math.max(0, Math.floor(20 / size) - 2));
    // The buffers of a finished object are available to the other one.
    other.give(firsts[1]!);
    other.end();
    const waits = one.take(size * MIB);
    expect(await isTaken(waits)).toBe(size <= 10);
  },
);

test('an object that failed returns its memory, but not the buffers that a request may still read', async () => {
  const buffers = new PartBuffers();
  const failed = buffers.share();
  const lost = await Promise.all([1, 2, 3, 4].map(() => failed.take(5 * MIB)));
  const next = buffers.share();
  expect(await isTaken(next.take(5 * MIB))).toBe(true);
  expect(await isTaken(next.take(5 * MIB))).toBe(false);
  failed.end();
  const later = buffers.share();
  const taken = await Promise.all([1, 2, 3].map(() => later.take(5 * MIB)));
  expect(taken.some((buffer) => lost.includes(buffer))).toBe(false);
});

test('an object with growing parts waits until enough of the smaller ones are returned', async () => {
  const share = new PartBuffers().share();
  const small = await Promise.all([1, 2, 3, 4].map(() => share.take(5 * MIB)));
  const larger = share.take(10 * MIB);
  share.give(small[0]!);
  expect(await isTaken(larger)).toBe(false);
  share.give(small[1]!);
  expect((await larger).length).toBe(10 * MIB);
});

test('objects with other part sizes get the memory of idle buffers', async () => {
  const buffers = new PartBuffers();
  const [small, large] = [buffers.share(), buffers.share()];
  const taken = await Promise.all([1, 2, 3, 4].map(() => small.take(5 * MIB)));
  for (const buffer of taken) small.give(buffer);
  await large.take(10 * MIB);
  expect(await isTaken(large.take(10 * MIB))).toBe(true);
  expect(await isTaken(large.take(10 * MIB))).toBe(false);
});

test('a body is cut into parts whatever its chunks are', async () => {
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
  [answer(403, 'RequestTimeTooSkewed'), false],
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
])('whether a failure is transient: %s %s', (error, passing) => {
  expect(isPassing(error)).toBe(passing);
});

test('a request with a skewed clock is sent once more, with the clock that the SDK has corrected', async () => {
  let made = 0;
  const skewed = async () => {
    made++;
    throw answer(403, 'RequestTimeTooSkewed');
  };
  const limits = { ...S3_LIMITS, baseDelayMs: 1, maxDelayMs: 1 };
  await expect(withRetries(skewed, limits)).rejects.toThrow('RequestTimeTooSkewed');
  expect(made).toBe(2);
});

test('attempts are limited, and end at once on request', async () => {
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

test('waits double, up to the maximum', async () => {
  const start = performance.now();
  await pause(30, { ...S3_LIMITS, baseDelayMs: 1, maxDelayMs: 4 });
  expect(performance.now() - start).toBeLessThan(15_000);
});
