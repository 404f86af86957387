import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { Destination, ListOptions } from '../../src/destinations/destination.ts';

/** A destination for one test, initially empty. */
export interface DestinationUnderTest {
  destination: Destination;
  cleanUp(): Promise<void>;
}

/** Defines the tests of the contract of {@link Destination}. `make` creates an empty destination for each test. */
export function destinationContract(name: string, make: () => Promise<DestinationUnderTest>): void {
  const withDestination = (run: (destination: Destination) => Promise<void>) => async () => {
    const { destination, cleanUp } = await make();
    try {
      await run(destination);
    } finally {
      await cleanUp();
    }
  };

  describe(`destination contract: ${name}`, () => {
    test(
      'returns an object as it was put, with its size and hash',
      withDestination(async (destination) => {
        for (const size of [0, 1, 65_536, 3_000_001]) {
          const content = randomBytes(size);
          const stored = await destination.put(`app/size-${size}`, streamInPieces(content));
          expect(stored).toEqual({ size, sha256: createHash('sha256').update(content).digest('hex') });
          expect((await read(destination, `app/size-${size}`)).equals(content)).toBe(true);
        }
      }),
    );

    test(
      'reads ranges: start inclusive, end exclusive',
      withDestination(async (destination) => {
        const content = randomBytes(300_000);
        await destination.put('a/object', Readable.from([content]));
        for (const [start, end] of [
          [0, 1],
          [5, 5],
          [100, 200_000],
          [299_999, 300_000],
          [0, 300_000],
        ] as const) {
          const part = await read(destination, 'a/object', { start, end });
          expect(part.equals(content.subarray(start, end)), `${start}-${end}`).toBe(true);
        }
      }),
    );

    test(
      'a missing object rejects before any byte',
      withDestination(async (destination) => {
        await destination.put('a/b', Readable.from(['x']));
        for (const key of ['nothing', 'a', 'a/b/c', 'a/c']) {
          await expect(destination.get(key)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
        }
      }),
    );

    test(
      'never replaces an object',
      withDestination(async (destination) => {
        await destination.put('a/b', Readable.from(['first']));
        await expect(destination.put('a/b', Readable.from(['second']))).rejects.toMatchObject({ code: 'DEST_EXISTS' });
        expect(String(await read(destination, 'a/b'))).toBe('first');
        const race = await Promise.allSettled(
          ['x', 'y', 'z'].map((text) => destination.put('a/race', Readable.from([text]))),
        );
        const won = race.flatMap((outcome, i) => (outcome.status === 'fulfilled' ? ['xyz'[i]] : []));
        expect(won).toEqual([String(await read(destination, 'a/race'))]);
      }),
    );

    test(
      'a body that fails leaves nothing',
      withDestination(async (destination) => {
        const boom = new Error('boom');
        const body = Readable.from(
          (async function* () {
            yield randomBytes(2_000_000);
            throw boom;
          })(),
        );
        await expect(destination.put('a/failed', body)).rejects.toBe(boom);
        await expect(destination.get('a/failed')).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
        expect(await keys(destination, '')).toEqual([]);
      }),
    );

    test(
      'aborting a put leaves nothing and ends the body, at once or later',
      withDestination(async (destination) => {
        for (const delay of [0, 20]) {
          const controller = new AbortController();
          const body = new Readable({ read() {} });
          body.push(randomBytes(2_000_000));
          const put = destination.put('a/aborted', body, { signal: controller.signal });
          if (delay === 0) controller.abort(new Error('enough'));
          else setTimeout(() => controller.abort(new Error('enough')), delay);
          await expect(put).rejects.toThrow('enough');
          expect(body.destroyed).toBe(true);
          expect(await keys(destination, '')).toEqual([]);
        }
      }),
    );

    test(
      'lists in the byte order of keys, by whole parts',
      withDestination(async (destination) => {
        const all = [
          'app/b',
          'app/a/z',
          'app-staging/x',
          'app/a-b',
          'app/a.c',
          'app/ä',
          'app/Z',
          'app',
          'ap',
          'app0/q',
          'app/\u{1f600}',
          'app/\uff21',
        ];
        const possible = all.filter((key) => key !== 'app');
        for (const key of possible) await destination.put(key, Readable.from([key]));
        const sorted = [...possible].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        expect(await keys(destination, '')).toEqual(sorted);
        expect(await keys(destination, 'app/')).toEqual(sorted.filter((key) => key.startsWith('app/')));
        expect(await keys(destination, 'none/')).toEqual([]);
        for (const after of ['app/a.c', 'app/b', 'app/none', 'app-staging/x', 'z'])
          expect(await keys(destination, 'app/', { after })).toEqual(
            sorted.filter((key) => key.startsWith('app/') && Buffer.compare(Buffer.from(key), Buffer.from(after)) > 0),
          );
        for await (const { key, size } of destination.list('')) expect(size).toBe(Buffer.byteLength(key));
        await expect(keys(destination, 'app')).rejects.toMatchObject({ code: 'INTERNAL' });
      }),
    );

    test(
      'does not list an unfinished object',
      withDestination(async (destination) => {
        const body = new Readable({ read() {} });
        body.push(randomBytes(100_000));
        const put = destination.put('a/b/slow', body);
        await new Promise((resolve) => setTimeout(resolve, 30));
        expect(await keys(destination, '')).toEqual([]);
        body.push(null);
        await put;
        expect(await keys(destination, '')).toEqual(['a/b/slow']);
      }),
    );

    test(
      'deletes, including objects that do not exist',
      withDestination(async (destination) => {
        await destination.put('a/b/c', Readable.from(['x']));
        await destination.put('a/d', Readable.from(['y']));
        await destination.delete('a/b/c');
        await destination.delete('a/b/c');
        await destination.delete('q/r');
        expect(await keys(destination, '')).toEqual(['a/d']);
        await destination.put('a/b/c', Readable.from(['again']));
        expect(String(await read(destination, 'a/b/c'))).toBe('again');
      }),
    );

    test(
      'rejects invalid object names',
      withDestination(async (destination) => {
        for (const key of ['', '/a', 'a/', 'a//b', '..', 'a/../b', 'a/./b', 'a\0b', 'a/.hidden', 'a\nb', 'a\\b']) {
          await expect(destination.put(key, Readable.from(['x'])), key).rejects.toMatchObject({ code: 'INTERNAL' });
          await expect(destination.get(key), key).rejects.toMatchObject({ code: 'INTERNAL' });
          await expect(destination.delete(key), key).rejects.toMatchObject({ code: 'INTERNAL' });
        }
        expect(await keys(destination, '')).toEqual([]);
      }),
    );
  });
}

/** Reads an object whole. */
export async function read(
  destination: Destination,
  key: string,
  range?: { start: number; end: number },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of await destination.get(key, range ? { range } : {})) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** Returns all keys under a prefix, in the order of the listing. */
export async function keys(destination: Destination, prefix: string, options?: ListOptions): Promise<string[]> {
  const result: string[] = [];
  for await (const { key } of destination.list(prefix, options)) result.push(key);
  return result;
}

function streamInPieces(content: Buffer): Readable {
  const pieces: Buffer[] = [];
  for (let at = 0; at < content.length; at += 70_000) pieces.push(content.subarray(at, at + 70_000));
  return Readable.from(pieces);
}
