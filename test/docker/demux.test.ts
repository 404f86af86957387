import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Capture } from '../../src/docker/capture.ts';
import { frames, writeTo } from '../../src/docker/demux.ts';
import { LineBuffer } from '../../src/docker/lines.ts';
import { frame } from '../harness/stub-engine.ts';

const runs = 150;

async function* pieces(bytes: Buffer, cuts: number[]): AsyncGenerator<Buffer> {
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const to of [...at, bytes.length]) {
    if (to > from) yield bytes.subarray(from, to);
    from = to;
  }
}

async function collect(source: AsyncIterable<Buffer>): Promise<{ stdout: Buffer; stderr: Buffer }> {
  const out = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  for await (const { stream, data } of frames(source)) out[stream].push(data);
  return { stdout: Buffer.concat(out.stdout), stderr: Buffer.concat(out.stderr) };
}

const sent = fc.array(fc.tuple(fc.constantFrom(0, 1, 2), fc.uint8Array({ maxLength: 40 })), { maxLength: 12 });
const encode = (all: [number, Uint8Array][]) =>
  Buffer.concat(all.map(([type, bytes]) => frame(type, Buffer.from(bytes))));

test('returns both outputs whole, however the stream is cut into chunks', async () => {
  await fc.assert(
    fc.asyncProperty(sent, fc.array(fc.nat(600), { maxLength: 30 }), async (all, cuts) => {
      const got = await collect(pieces(encode(all), cuts));
      const of = (wanted: (type: number) => boolean) =>
        Buffer.concat(all.filter(([type]) => wanted(type)).map(([, bytes]) => Buffer.from(bytes)));
      expect(got.stdout.equals(of((type) => type !== 2))).toBe(true);
      expect(got.stderr.equals(of((type) => type === 2))).toBe(true);
    }),
    { numRuns: runs },
  );
});

test('a stream cut inside a frame is an error, one cut between frames is not', async () => {
  await fc.assert(
    fc.asyncProperty(sent, fc.nat(600), async (all, where) => {
      const bytes = encode(all);
      const cut = bytes.length === 0 ? 0 : where % bytes.length;
      const borders = new Set([0]);
      for (const [, payload] of all) borders.add(Math.max(...borders) + 8 + payload.length);
      const result = await collect(pieces(bytes.subarray(0, cut), [])).then(
        () => 'whole',
        (error) => error.code,
      );
      expect(result).toBe(borders.has(cut) ? 'whole' : 'ENGINE_PROTOCOL');
    }),
    { numRuns: runs },
  );
});

test.each([
  ['an unknown stream', frame(3, 'x')],
  ['padding that is not zero', Buffer.from([1, 0, 7, 0, 0, 0, 0, 1, 65])],
  ['a length that no engine writes', frame(1, 'x', 0xffffffff)],
  ['plain text', Buffer.from('HTTP/1.1 200 OK\r\n')],
])('refuses %s', async (_what, bytes) => {
  await expect(collect(pieces(bytes, []))).rejects.toMatchObject({ code: 'ENGINE_PROTOCOL' });
});

test('forwards a large frame in the chunks in which it arrives', async () => {
  const sizes: number[] = [];
  async function* big() {
    yield frame(1, 'a', 3_000_001);
    for (let i = 0; i < 3; i++) yield Buffer.alloc(1_000_000);
  }
  for await (const { data } of frames(big())) sizes.push(data.length);
  expect(sizes).toEqual([1, 1_000_000, 1_000_000, 1_000_000]);
});

test('a broken connection is an unreachable engine', async () => {
  const source = new PassThrough();
  source.write(frame(1, 'x'));
  setImmediate(() => source.destroy(Object.assign(new Error('reset'), { code: 'ECONNRESET' })));
  await expect(collect(source)).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
});

test('writing waits for a slow sink, and fails for a closed one', async () => {
  const sink = new PassThrough({ highWaterMark: 10 });
  let written = false;
  const first = writeTo(sink, Buffer.alloc(20)).then(() => {
    written = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(written).toBe(false);
  sink.resume();
  await first;
  sink.pause();
  const second = writeTo(sink, Buffer.alloc(20));
  sink.destroy();
  await expect(second).rejects.toThrow();
  await expect(writeTo(sink, Buffer.alloc(1))).rejects.toMatchObject({ code: 'INTERRUPTED' });
});

test('a capture keeps everything up to its limit, and otherwise the start and the end', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'binary-ascii', maxLength: 30 })),
      fc.integer({ min: 2, max: 60 }),
      (parts, limit) => {
        const capture = new Capture(limit);
        for (const part of parts) capture.add(Buffer.from(part));
        const all = parts.join('');
        const head = Math.floor(limit / 2);
        expect(capture.total).toBe(all.length);
        expect(capture.truncated).toBe(all.length > limit);
        if (all.length <= limit) expect(capture.text()).toBe(all);
        else {
          const left = all.length - limit;
          expect(capture.text()).toBe(`${all.slice(0, head)}\n[${left} B left out]\n${all.slice(head - limit)}`);
        }
      },
    ),
    { numRuns: runs },
  );
});

test('lines are the same however the bytes are cut, and an endless line is rejected', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.constantFrom('a', 'é', '€', '😀', '\r', ' '), { maxLength: 6 })),
      fc.array(fc.nat(300)),
      async (words, cuts) => {
        const lines = words.map((word) => word.join(''));
        const buffer = new LineBuffer();
        const got: string[] = [];
        for await (const piece of pieces(Buffer.from(lines.map((line) => `${line}\n`).join('')), cuts))
          got.push(...buffer.split(piece));
        expect(got).toEqual(lines);
        expect(buffer.pending).toBe(0);
      },
    ),
    { numRuns: runs },
  );
  const endless = new LineBuffer();
  const feed = () => {
    for (let i = 0; i < 20; i++) for (const _ of endless.split(Buffer.alloc(1_000_000))) break;
  };
  expect(feed).toThrow(/more than/);
});
