import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { Destination } from '../../../../src/destinations/destination.ts';
import { LargeFile } from '../../../../src/store/filesystem/large-file.ts';
import { keys } from '../../../contract/destination.ts';
import { type Bench, createBench, describeTree } from '../../helpers.ts';

const MIB = 1024 * 1024;

let bench: Bench;
beforeEach(() => {
  bench = createBench();
});
afterEach(() => bench.remove());

const inTree = (path: string) => join(bench.tree, path);
const indexText = () => readFileSync(bench.index, 'utf8');

/** A destination that calls a function when the n-th put (from 0) has taken its first bytes. */
function during(n: number, action: () => void, inner: Destination = bench.destination): Destination {
  let puts = 0;
  return {
    ...inner,
    put(key, body, options) {
      if (puts++ !== n) return inner.put(key, body, options);
      const through = new PassThrough();
      body.on('error', (error) => through.destroy(error));
      through.on('close', () => body.destroy());
      body.once('data', action);
      return inner.put(key, body.pipe(through), options);
    },
  };
}

describe('a tree that changes while it is read', () => {
  const size = 3 * MIB;
  const content = randomBytes(size);
  beforeEach(() => writeFileSync(inTree('big'), content));

  test('a large file that changes once is stored in its new state', async () => {
    const stored = await bench.store({ destination: during(0, () => appendFileSync(inTree('big'), 'more')) });
    expect(stored).toMatchObject({ files: 1, bytes: size + 4, changed: [] });
    expect(await keys(bench.destination, '')).toEqual(stored.packs.map(({ key }) => key));
    expect(bench.recorded).toHaveLength(1);
    expect(describeTree((await bench.extract(stored)).target)).toEqual(describeTree(bench.tree));
  });

  test.each([
    ['grows', () => appendFileSync(inTree('big'), 'more')],
    ['is cut', () => truncateSync(inTree('big'), statSync(inTree('big')).size - 1000)],
  ])('one that %s each time is flagged, and read again by the next run', async (_, change) => {
    const original = LargeFile.prototype.chunks;
    const reading = vi.spyOn(LargeFile.prototype, 'chunks').mockImplementation(function (this: LargeFile, ...args) {
      change();
      return original.apply(this, args);
    });
    const stored = await bench.storeAfterTick();
    expect(reading).toHaveBeenCalledTimes(2);
    reading.mockRestore();
    expect(stored).toMatchObject({ files: 1, changedCount: 1, changed: [{ path: 'big' }] });
    expect(indexText()).toContain('"changed":true');
    const { target } = await bench.extract(stored);
    const restored = readFileSync(join(target, 'big'));
    expect(indexText()).toContain(createHash('sha256').update(restored).digest('hex'));
    const next = await bench.storeAfterTick({ previous: { indexPath: bench.index, packs: stored.packs } });
    expect(next).toMatchObject({ unchangedFiles: 0, changed: [] });
  });

  test('a large file that is emptied is stored as empty', async () => {
    const empty = () => truncateSync(inTree('big'), 0);
    const stored = await bench.store({ destination: during(0, empty) });
    expect(stored).toMatchObject({ files: 1, bytes: 0, packs: [] });
    // Nothing uses the parts that were read before: a prune removes their pack.
    expect(await keys(bench.destination, '')).toEqual(bench.recorded);
  });

  test('a file that vanishes, or becomes something else, before its turn is not an error', async () => {
    for (const name of ['gone', 'link', 'fifo', 'dir']) writeFileSync(inTree(`later-${name}`), content);
    writeFileSync(inTree('z-small'), 'still there');
    const swap = () => {
      for (const name of ['gone', 'link', 'fifo', 'dir']) unlinkSync(inTree(`later-${name}`));
      symlinkSync('/etc/passwd', inTree('later-link'));
      execFileSync('mkfifo', [inTree('later-fifo')]);
      mkdirSync(inTree('later-dir'));
    };
    const stored = await bench.store({ destination: during(0, swap) });
    expect(stored).toMatchObject({ files: 2, unreadable: [], changed: [] });
    expect(indexText()).not.toContain('later');
  });
});

describe('an unreadable file', () => {
  test('is reported and left out, never stored as zeros', async () => {
    if (!process.seteuid) throw new Error('this test needs to change its user');
    for (const name of ['readable', 'secret']) writeFileSync(inTree(name), name);
    writeFileSync(inTree('secret-big'), Buffer.alloc(2 * MIB));
    mkdirSync(inTree('closed'));
    writeFileSync(inTree('closed/inside'), 'x');
    for (const name of ['secret', 'secret-big', 'closed']) chmodSync(inTree(name), 0);
    execFileSync('chmod', ['-R', 'go+rwX', join(bench.tree, '..'), '--quiet']);
    for (const name of ['secret', 'secret-big', 'closed']) chmodSync(inTree(name), 0);
    process.seteuid(65534);
    try {
      const stored = await bench.store();
      expect(stored.unreadable.map(({ path }) => path).sort()).toEqual(['closed', 'secret', 'secret-big']);
      expect(stored).toMatchObject({ files: 1, unreadableCount: 3 });
    } finally {
      process.seteuid(0);
    }
    expect(indexText()).toContain('"path":"closed"');
    expect(indexText()).not.toContain('secret');
  });
});

describe('a destination that fails', () => {
  beforeEach(() => {
    // Three packs: small files, parts that can be compressed, and parts that cannot.
    for (const i of [0, 2]) writeFileSync(inTree(`big-${i}`), randomBytes(2 * MIB));
    writeFileSync(inTree('big-1'), Buffer.alloc(2 * MIB, 'text'));
    writeFileSync(inTree('small'), 'small');
  });

  const full = (n: number): Destination => {
    let puts = 0;
    return {
      ...bench.destination,
      async put(key, body, options) {
        if (puts++ !== n) return bench.destination.put(key, body, options);
        body.once('data', () => body.destroy());
        await new Promise((resolve) => body.once('close', resolve));
        throw new LifeboatError('DEST_FULL', 'no space');
      },
    };
  };

  test.each([0, 1, 2])('at put %i: no index, no partial object, and the next run succeeds', async (n) => {
    await expect(bench.store({ destination: full(n) })).rejects.toMatchObject({ code: 'DEST_FULL' });
    expect(existsSync(bench.index)).toBe(false);
    expect(existsSync(`${bench.index}.partial`)).toBe(false);
    for (const key of await keys(bench.destination, '')) expect(bench.recorded).toContain(key);
    const stored = await bench.store();
    expect(stored).toMatchObject({ files: 4, newFiles: 4 });
  });

  test('a failed run leaves the previous index unchanged', async () => {
    const first = await bench.store();
    const before = indexText();
    writeFileSync(inTree('new'), 'new');
    const previous = { indexPath: bench.index, packs: first.packs };
    await expect(bench.store({ previous, destination: full(0) })).rejects.toMatchObject({ code: 'DEST_FULL' });
    expect(indexText()).toBe(before);
  });

  test('a signal stops the run, and nothing partial remains', async () => {
    const controller = new AbortController();
    const destination = during(1, () => controller.abort(new Error('stop')));
    await expect(bench.store({ destination, signal: controller.signal })).rejects.toThrow('stop');
    expect(existsSync(bench.index)).toBe(false);
    const leftovers = readdirSync(join(bench.tree, '../repo'), { recursive: true }).filter((name) =>
      String(name).endsWith('.tmp'),
    );
    expect(leftovers).toEqual([]);
  });

  test('an object log that cannot be written stops the run before anything is put', async () => {
    const recordObject = async () => {
      throw new Error('log');
    };
    await expect(bench.store({ recordObject })).rejects.toThrow('log');
    expect(await keys(bench.destination, '')).toEqual([]);
  });
});

describe('a damaged repository', () => {
  beforeEach(() => {
    writeFileSync(inTree('a'), 'content of a '.repeat(100));
    writeFileSync(inTree('noise'), randomBytes(5000));
    writeFileSync(inTree('big'), randomBytes(2 * MIB));
  });
  const fileOf = (key: string) => join(bench.tree, '../repo', key);

  test('packs with flipped bytes or cuts anywhere are refused', async () => {
    const stored = await bench.store();
    for (const pack of stored.packs) {
      const whole = readFileSync(fileOf(pack.key));
      const damages = [0, 100, whole.length >> 1, whole.length - 1].map((at) => {
        const damaged = Buffer.from(whole);
        damaged[at]! ^= 0x10;
        return damaged;
      });
      damages.push(...[0, 50, whole.length - 1].map((length) => whole.subarray(0, length)));
      let refused = 0;
      for (const damaged of damages) {
        writeFileSync(fileOf(pack.key), damaged);
        const outcome = await bench.extract(stored).then(
          ({ target }) => describeTree(target),
          (error) => error.code,
        );
        if (outcome === 'OBJECT_DAMAGED') refused++;
        // Bytes that do not affect content (a time in a header) may pass. Restored content is never wrong.
        else expect(outcome).toEqual(describeTree(bench.tree));
      }
      expect(refused).toBeGreaterThanOrEqual(4);
      writeFileSync(fileOf(pack.key), whole);
    }
    expect(readdirSync(bench.spool)).toEqual([]);
  });

  test('a missing pack, and one the manifest does not name', async () => {
    const stored = await bench.store();
    await expect(bench.extract({ ...stored, packs: [] })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    rmSync(fileOf(stored.packs[0]!.key));
    await expect(bench.extract(stored)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });

  test('swapped packs', async () => {
    const stored = await bench.store();
    const [x, y] = stored.packs.map(({ key }) => fileOf(key)) as [string, string];
    renameSync(x, `${x}.swap`);
    renameSync(y, x);
    renameSync(`${x}.swap`, y);
    await expect(bench.extract(stored)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('a destination that returns fewer bytes than requested', async () => {
    const stored = await bench.store();
    const short: Destination = {
      ...bench.destination,
      async get(key, options) {
        const chunks: Buffer[] = [];
        for await (const chunk of await bench.destination.get(key, options)) chunks.push(chunk);
        return Readable.from([Buffer.concat(chunks).subarray(0, -1)]);
      },
    };
    await expect(bench.extract(stored, { destination: short })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });
});
