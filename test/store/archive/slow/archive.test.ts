import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  createWriteStream,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ArchiveFormat, ArchiveWriter } from '../../../../src/store/archive/archive-writer.ts';
import { type ExportTreeOptions, exportTree } from '../../../../src/store/archive/export-tree.ts';
import type { StoredTree } from '../../../../src/store/content/stored-tree.ts';
import { readIndexFile, readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import { at, type Bench, createBench, describeTree, scratchBase } from '../../helpers.ts';

let bench: Bench;
let base: string;
beforeEach(() => {
  bench = createBench();
  base = mkdtempSync(join(scratchBase, 'lifeboat-archive-'));
});
afterEach(() => {
  bench.remove();
  rmSync(base, { recursive: true, force: true });
});

const explain = (error: unknown) => error;

async function write(stored: StoredTree, format: ArchiveFormat, options: Partial<ExportTreeOptions> = {}) {
  const file = join(base, `out.${format}`);
  const output = createWriteStream(file);
  const writer = await ArchiveWriter.open(format, { output, explain });
  const { destination, spool } = bench;
  const result = await exportTree({
    index: readIndexFileLines(bench.index),
    packs: stored.packs,
    destination,
    keys: {},
    writer,
    spool,
    ...options,
  }).catch(async (error: unknown) => {
    await writer.abandon(error);
    await new Promise((resolve) => output.end(resolve));
    throw error;
  });
  await writer.finish();
  await new Promise((resolve) => output.end(resolve));
  return { file, result, odd: writer.oddNames };
}

function fill() {
  const { tree } = bench;
  const when = new Date('2024-03-01T12:34:56.780Z');
  writeFileSync(join(tree, 'plain.txt'), 'plain '.repeat(4000));
  mkdirSync(join(tree, 'deep/er'), { recursive: true });
  mkdirSync(join(tree, 'empty'));
  writeFileSync(join(tree, 'deep/er/photo.jpg'), randomish(3000));
  writeFileSync(join(tree, 'deep/100% ünïcode.txt'), 'x');
  writeFileSync(join(tree, 'none'), '');
  linkSync(join(tree, 'plain.txt'), join(tree, 'second.txt'));
  symlinkSync('../deep/er', join(tree, 'empty/link'));
  writeFileSync(at(tree, 'caf\xe9'), 'latin');
  writeFileSync(join(tree, 'a\\b'), 'backslash');
  writeFileSync(join(tree, 'c:drive'), 'colon');
  writeFileSync(join(tree, 'large'), Buffer.concat([randomish(700_000), Buffer.from('tail')]));
  writeFileSync(join(tree, 'holes'), '');
  truncateSync(join(tree, 'holes'), 3_000_000);
  chmodSync(join(tree, 'plain.txt'), 0o4755);
  chmodSync(join(tree, 'empty'), 0o1700);
  chownSync(join(tree, 'plain.txt'), 1234, 3_000_000);
  for (const name of ['plain.txt', 'none', 'large', 'deep/er']) utimesSync(join(tree, name), when, when);
  lutimesSync(join(tree, 'empty/link'), when, when);
  utimesSync(join(tree, 'empty'), when, when);
}

function randomish(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  let seed = 7;
  for (let i = 0; i < size; i++) {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    bytes[i] = seed >> 16;
  }
  return bytes;
}

describe('an archive of a stored tree', () => {
  test('GNU tar reads everything from a tar', async () => {
    fill();
    const stored = await bench.store();
    const { file, result, odd } = await write(stored, 'tar');
    expect(result).toMatchObject({ files: stored.files, skipped: {} });
    const target = join(base, 'tar');
    mkdirSync(target);
    const said = execFileSync('tar', ['-xpf', file, '-C', target, '--same-owner'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(said.toString()).toBe('');
    expect(odd).toBe(3);
    const there = describeTree(target);
    const expected = describeTree(bench.tree);
    for (const [plain, encoded] of [
      ['caf\xe9', 'caf%E9'],
      ['a\\b', 'a%5Cb'],
      ['c:drive', 'c%3Adrive'],
    ] as const) {
      expected.set(encoded, expected.get(plain)!);
      expected.delete(plain);
    }
    const sorted = (map: Map<string, unknown>) =>
      [...map]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([path, facts]) => ({ path, ...(facts as object), link: undefined, links: undefined }));
    expect(sorted(there)).toEqual(sorted(expected));
  });

  test('Info-ZIP and Python accept a zip', async () => {
    fill();
    const stored = await bench.store();
    const { file } = await write(stored, 'zip');
    execFileSync('unzip', ['-tqq', file]);
    const target = join(base, 'zip');
    execFileSync('unzip', ['-qK', file, '-d', target], { env: { ...process.env, TZ: 'UTC', LC_ALL: 'C.UTF-8' } });
    expect(readdirSync(target).sort()).toEqual([
      'a%5Cb',
      'c%3Adrive',
      'caf%E9',
      'deep',
      'empty',
      'holes',
      'large',
      'none',
      'plain.txt',
      'second.txt',
    ]);
    for (const name of [
      'plain.txt',
      'second.txt',
      'deep/er/photo.jpg',
      'deep/100% ünïcode.txt',
      'large',
      'holes',
      'none',
    ]) {
      expect(readFileSync(join(target, name)).equals(readFileSync(join(bench.tree, name))), name).toBe(true);
    }
    const facts = describeTree(target);
    expect(facts.get('empty/link')).toMatchObject({ target: '../deep/er' });
    expect(facts.get('plain.txt')).toMatchObject({ mtime: 1709296496000000000n });
    expect(facts.get('empty')).toMatchObject({ mode: '1700' });
    execFileSync('python3', ['-c', 'import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).testzip() is None', file]);
  });

  test('a selection includes its directories, and a hard link becomes the file if its first name is not selected', async () => {
    fill();
    linkSync(join(bench.tree, 'plain.txt'), join(bench.tree, 'deep/third.txt'));
    const stored = await bench.store();
    const names = (file: string) => execFileSync('tar', ['-tf', file]).toString().trim().split('\n').sort();
    const only = await write(stored, 'tar', { select: (path) => path.startsWith('deep/') && path.endsWith('.txt') });
    expect(names(only.file)).toEqual(['./', 'deep/', 'deep/100% ünïcode.txt', 'deep/third.txt'].sort());
    expect(execFileSync('tar', ['-xOf', only.file, 'deep/third.txt']).toString()).toBe('plain '.repeat(4000));
  });

  test.each(['zip', 'tar'] as const)('damaged content is named, and the %s is not a valid archive', async (format) => {
    fill();
    const stored = await bench.store();
    const [entry] = (await bench.entries()).filter(({ path }) => path === 'deep/er/photo.jpg');
    async function* index() {
      for await (const one of readIndexFile(bench.index)) {
        yield one.path === entry?.path ? { ...one, sha256: 'f'.repeat(64) } : one;
      }
    }
    const outcome = write(stored, format, { index: index() });
    await expect(outcome).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      message: expect.stringContaining('deep/er/photo.jpg'),
    });
    const test = () =>
      execFileSync(format === 'zip' ? 'unzip' : 'tar', ['-tf', join(base, `out.${format}`)], { stdio: 'pipe' });
    expect(test).toThrow();
  });

  test.each(['zip', 'tar'] as const)('a %s that is cut at any point is not a valid archive', async (format) => {
    for (const count of [0, 1, 2]) {
      const file = join(base, `cut-${count}.${format}`);
      const output = createWriteStream(file);
      const writer = await ArchiveWriter.open(format, { output, explain });
      const item = { type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: 0n, size: 512 } as const;
      for (let i = 0; i < count; i++) await writer.add({ path: `file${i}`, ...item }, Buffer.alloc(512, 65));
      await writer.abandon(new Error('on purpose'));
      await new Promise((resolve) => output.end(resolve));
      const test = () => execFileSync(format === 'zip' ? 'unzip' : 'tar', ['-tf', file], { stdio: 'pipe' });
      expect(test, `${count}`).toThrow();
    }
  });

  test.each(['zip', 'tar'] as const)('a slow reader of a %s slows down the writer', async (format) => {
    let held = 0;
    const output = new Writable({
      highWaterMark: 1024,
      write: (chunk: Buffer, _, done) => {
        held += chunk.length;
        setImmediate(done);
      },
    });
    const writer = await ArchiveWriter.open(format, { output, explain });
    let ahead = 0;
    const content = Buffer.alloc(100_000, 1);
    for (let i = 0; i < 400; i++) {
      const item = {
        path: `f${i}`,
        type: 'file',
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0n,
        size: content.length,
      } as const;
      await writer.add(item, content);
      ahead = Math.max(ahead, (i + 1) * content.length - held);
    }
    await writer.finish();
    expect(ahead).toBeLessThan(8 * 1024 * 1024);
    expect(held).toBeGreaterThan(40_000_000);
  });

  test('a failing output ends the export with the explained error', async () => {
    const output = new Writable({ write: (_chunk, _encoding, done) => done(new Error('EPIPE')) });
    const writer = await ArchiveWriter.open('zip', { output, explain: () => new Error('gone') });
    const item = { path: 'a', type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: 0n, size: 4_000_000 } as const;
    const work = writer.add(item, Buffer.alloc(4_000_000)).then(() => writer.finish());
    await expect(work).rejects.toThrow('gone');
    await writer.abandon(new Error('over'));
  });

  test.each(['zip', 'tar'] as const)(
    'a %s is given up at once when the run is stopped, even with a reader that is stuck',
    async (format) => {
      const stop = new AbortController();
      let begun: () => void = () => undefined;
      const writing = new Promise<void>((resolve) => {
        begun = resolve;
      });
      const output = new Writable({ write: () => begun() });
      const writer = await ArchiveWriter.open(format, { output, explain }, stop.signal);
      const item = { path: 'a', type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: 0n, size: 1e9 } as const;
      async function* endless() {
        for (;;) yield Buffer.alloc(100_000);
      }
      const adding = writer.add(item, endless());
      adding.catch(() => undefined);
      await writing;
      stop.abort(new Error('stopped'));
      await expect(adding).rejects.toThrow('stopped');
      await writer.abandon(new Error('over'));
      await expect(writer.finish()).rejects.toThrow('stopped');
    },
  );
});
