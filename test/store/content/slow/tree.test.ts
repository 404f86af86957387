import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import { LargeFile } from '../../../../src/store/filesystem/large-file.ts';
import { readSmall } from '../../../../src/store/filesystem/read-file.ts';
import { at, type Bench, createBench, describeTree } from '../../helpers.ts';

let bench: Bench;
beforeEach(() => {
  bench = createBench();
});
afterEach(() => {
  vi.restoreAllMocks();
  bench.remove();
});

const write = (path: string, content: string | Buffer = path) => writeFileSync(at(bench.tree, path), content);
const mkdir = (path: string) => mkdirSync(at(bench.tree, path));
const previous = (packs: { packs: Awaited<ReturnType<Bench['store']>>['packs'] }) => ({
  indexPath: bench.index,
  packs: packs.packs,
});

describe('storing and restoring a tree', () => {
  test('content, owners, modes, times to the nanosecond, links, holes, the root itself', async () => {
    mkdir('empty');
    mkdir('a');
    mkdir('a/b');
    write('a/b/text', 'hello');
    write('a/none', '');
    write('a-b', 'sorts after a/');
    write('run', '#!/bin/sh');
    chmodSync(join(bench.tree, 'run'), 0o4755);
    chownSync(join(bench.tree, 'a/b/text'), 1234, 4321);
    write('secret', 'x');
    chmodSync(join(bench.tree, 'secret'), 0o000);
    linkSync(join(bench.tree, 'a/b/text'), join(bench.tree, 'z-link'));
    linkSync(join(bench.tree, 'a/b/text'), join(bench.tree, 'a/another'));
    symlinkSync('a/b/text', join(bench.tree, 'sym'));
    symlinkSync('/etc/passwd', join(bench.tree, 'sym-out'));
    symlinkSync('no such thing', join(bench.tree, 'a/dangling'));
    execFileSync('chown', ['-h', '77:88', join(bench.tree, 'sym')]);
    lutimesSync(join(bench.tree, 'sym'), 1, 2);
    const fd = openSync(join(bench.tree, 'sparse'), 'w');
    writeSync(fd, 'middle', 1_000_000);
    ftruncateSync(fd, 3_000_001);
    closeSync(fd);
    execFileSync('touch', ['-d', '@1700000000.123456789', join(bench.tree, 'a/b/text'), join(bench.tree, 'a/b')]);
    execFileSync('touch', ['-d', '@-5.000000001', join(bench.tree, 'a-b')]);
    chmodSync(join(bench.tree, 'a'), 0o1711);
    chmodSync(bench.tree, 0o2770);
    chownSync(bench.tree, 11, 12);
    utimesSync(bench.tree, 5, 6.5);

    const stored = await bench.store();
    const { target, result } = await bench.extract(stored, { durable: true });
    expect(describeTree(target)).toEqual(describeTree(bench.tree));
    expect(lstatSync(join(target, 'sparse')).blocks).toBeLessThan(100);
    expect(stored).toMatchObject({ files: 8, unreadable: [], changed: [], warnings: [] });
    expect(result).toMatchObject({ files: stored.files, bytes: stored.bytes, entries: stored.entries });
    expect(readdirSync(bench.spool)).toEqual([]);
  });

  test('names of any bytes', async () => {
    const names = [
      'with space',
      "quo'te",
      'dou"ble',
      'new\nline',
      '-dash',
      '--',
      'per%cent',
      '%41',
      'back\\slash',
      '*',
      '[a]',
      '?',
      '$(x)',
      'c:drive',
      'caf\xc3\xa9',
      '\xff\xfe',
      '\x01\x7f',
      'x'.repeat(255),
      '\xe9'.repeat(255),
      '...',
      '.hidden',
      ';1',
      'semi;1',
      '\xf0\x9f\x98\x80',
      '~',
      '#U00e9',
    ];
    for (const name of names) {
      write(name);
      mkdir(`d${name.slice(0, 100)}`);
      write(`d${name.slice(0, 100)}/${name}`, `in ${name}`);
    }
    symlinkSync(at(bench.tree, '\xff\xfe'), at(bench.tree, 'sym\xff'));
    const stored = await bench.store();
    const { target } = await bench.extract(stored);
    expect(describeTree(target).size).toBe(names.length * 3 + 2);
    expect(describeTree(target)).toEqual(describeTree(bench.tree));
  });

  test('large files get a pack of their own, compressed if that helps', async () => {
    const noise = randomBytes(2 * 1024 * 1024);
    write('noise', noise);
    write('text', Buffer.alloc(3 * 1024 * 1024, 'all the same '));
    write('noise-again', noise);
    const stored = await bench.store();
    expect(stored.packs.map(({ key }) => key.endsWith('.zst')).sort()).toEqual([false, true]);
    expect(stored.newBytes).toBeLessThan(3 * 1024 * 1024);
    expect(stored.newFiles).toBe(2);
    const { target } = await bench.extract(stored);
    expect(describeTree(target)).toEqual(describeTree(bench.tree));
  });

  test('special files are listed, but not read or created', async () => {
    execFileSync('mkfifo', [join(bench.tree, 'fifo')]);
    execFileSync('mknod', [join(bench.tree, 'char'), 'c', '1', '3']);
    execFileSync('mknod', [join(bench.tree, 'block'), 'b', '7', '200']);
    const server = createServer().listen(join(bench.tree, 'socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    write('file');
    try {
      const stored = await bench.store();
      expect(stored.skipped).toEqual({ fifo: 1, char: 1, block: 1, socket: 1 });
      expect((await bench.entries()).map(({ type }) => type)).toEqual([
        'directory',
        'block',
        'char',
        'fifo',
        'file',
        'socket',
      ]);
      const { target, result } = await bench.extract(stored);
      expect(result.skipped).toEqual({ fifo: 1, char: 1, block: 1, socket: 1 });
      expect(readdirSync(target)).toEqual(['file']);
    } finally {
      server.close();
    }
  });
});

describe('progress', () => {
  test('is reported while a single large file is stored or restored', async () => {
    write('large', randomBytes(3 * 1024 * 1024));
    let clock = Date.now();
    // Makes every report due.
    vi.spyOn(Date, 'now').mockImplementation(() => {
      clock += 1000;
      return clock;
    });
    const told: { done: number; files: number }[] = [];
    const progress = (update: { done: number; files: number }) => told.push(update);
    const isInside = ({ done, files }: { done: number; files: number }) => files === 0 && done > 0 && done < 3e6;
    const stored = await bench.store({ progress });
    expect(told.some(isInside)).toBe(true);
    expect(told.at(-1)).toEqual({ files: 1, done: stored.bytes });
    told.length = 0;
    await bench.extract(stored, { progress });
    expect(told.some(isInside)).toBe(true);
    expect(told.at(-1)).toEqual({ files: 1, done: stored.bytes });
  });
});

describe('a path that leads elsewhere', () => {
  test('a directory that became a symlink after it was listed is not read through', () => {
    mkdir('real');
    write('real/secret');
    symlinkSync('real', join(bench.tree, 'link'));
    const read = (path: string) => readSmall(at(bench.tree, path), 100, (size) => new Uint8Array(size)).outcome;
    expect([read('real/secret'), read('link/secret')]).toEqual(['read', 'vanished']);
  });

  test('so is a large file', async () => {
    mkdir('real');
    write('real/large', randomBytes(2 * 1024 * 1024));
    symlinkSync('real', join(bench.tree, 'link'));
    const isAt = async (path: string) => {
      const file = await LargeFile.open(at(bench.tree, path));
      const answer = file.isAt(at(bench.tree, path));
      await file.close();
      return answer;
    };
    expect([await isAt('real/large'), await isAt('link/large')]).toEqual([true, false]);
  });

  test('a tree below a symlink is stored', async () => {
    write('small');
    write('large', randomBytes(2 * 1024 * 1024));
    symlinkSync(join(bench.tree, '..'), join(bench.spool, 'link'));
    expect(await bench.store({ root: join(bench.spool, 'link', 'tree') })).toMatchObject({ files: 2 });
  });
});

describe('the next run', () => {
  test('reads and stores nothing that has not changed', async () => {
    mkdir('d');
    for (let i = 0; i < 50; i++) write(`d/${i}`);
    const first = await bench.storeAfterTick();
    expect(first).toMatchObject({ files: 50, newFiles: 50, unchangedFiles: 0 });
    const second = await bench.storeAfterTick({ previous: previous(first) });
    expect(second).toMatchObject({ files: 50, newFiles: 0, unchangedFiles: 50, newBytes: 0, packs: first.packs });
    expect((await bench.extract(second)).result.files).toBe(50);
  });

  test('stores only new content, also if files were moved, touched or copied', async () => {
    mkdir('d');
    for (let i = 0; i < 20; i++) write(`d/${i}`, `content ${i}`);
    const first = await bench.storeAfterTick();
    renameSync(join(bench.tree, 'd'), join(bench.tree, 'moved'));
    utimesSync(join(bench.tree, 'moved/3'), 1, 1);
    write('copy', 'content 7');
    write('new', 'not seen before');
    write('new-again', 'not seen before');
    unlinkSync(join(bench.tree, 'moved/19'));
    const second = await bench.storeAfterTick({ previous: previous(first) });
    expect(second).toMatchObject({ files: 22, newFiles: 1 });
    expect(second.packs).toHaveLength(2);
    expect(describeTree((await bench.extract(second)).target)).toEqual(describeTree(bench.tree));
  });

  test('a rewrite that keeps size and mtime is detected', async () => {
    write('f', 'before');
    const { mtime } = lstatSync(join(bench.tree, 'f'));
    const first = await bench.storeAfterTick();
    write('f', 'after!');
    utimesSync(join(bench.tree, 'f'), mtime, mtime);
    const second = await bench.storeAfterTick({ previous: previous(first) });
    expect(second).toMatchObject({ newFiles: 1, unchangedFiles: 0 });
  });

  test('packs that no file uses are not named', async () => {
    write('a', 'one');
    const first = await bench.storeAfterTick();
    write('b', 'two');
    const second = await bench.storeAfterTick({ previous: previous(first) });
    unlinkSync(join(bench.tree, 'a'));
    const third = await bench.storeAfterTick({ previous: previous(second) });
    expect(third.packs).toEqual(second.packs.filter(({ id }) => id !== first.packs[0]?.id));
  });

  test('a pack that is missing or cut is not reused: its files are stored again', async () => {
    write('a', 'one');
    const first = await bench.storeAfterTick();
    for (const pack of first.packs) await bench.destination.delete(pack.key);
    const second = await bench.storeAfterTick({ previous: previous(first) });
    expect(second).toMatchObject({ newFiles: 1, unchangedFiles: 0 });
    expect(second.warnings).toHaveLength(1);
    const resized = first.packs.map((pack) => ({ ...pack, size: pack.size + 1 }));
    expect(await bench.storeAfterTick({ previous: { indexPath: bench.index, packs: resized } })).toMatchObject({
      newFiles: 1,
    });
  });

  test('a damaged or missing previous index only costs time', async () => {
    for (let i = 0; i < 30; i++) write(`f${i}`, `content ${i}`);
    const first = await bench.storeAfterTick();
    const damaged = join(bench.spool, 'damaged');
    const lines = execFileSync('cat', [bench.index]).toString().split('\n');
    writeFileSync(damaged, [...lines.slice(0, 10), '{"path":', ...lines.slice(11)].join('\n'));
    const second = await bench.storeAfterTick({ previous: { indexPath: damaged, packs: first.packs } });
    expect(second).toMatchObject({ files: 30, unchangedFiles: 9 });
    expect(second.warnings.join()).toMatch(/last index/);
    const third = await bench.storeAfterTick({
      previous: { indexPath: join(bench.spool, 'none'), packs: first.packs },
    });
    expect(third).toMatchObject({ files: 30, unchangedFiles: 0, newFiles: 30 });
    expect(describeTree((await bench.extract(third)).target)).toEqual(describeTree(bench.tree));
  });
});

describe('include and exclude', () => {
  const paths = async () => (await bench.entries()).map(({ path }) => path);
  beforeEach(() => {
    for (const directory of ['cache', 'cache/deep', 'media', 'media/2026', 'media/2026/raw']) mkdir(directory);
    for (const file of [
      'cache/x',
      'cache/deep/y',
      'media/a.jpg',
      'media/2026/b.jpg',
      'media/2026/raw/c.cr2',
      'notes.tmp',
    ])
      write(file);
  });

  test('excluded directories are not entered', async () => {
    chmodSync(join(bench.tree, 'cache'), 0o000);
    await bench.store({ exclude: ['/cache', '*.tmp'] });
    expect(await paths()).toEqual([
      '',
      'media',
      'media/2026',
      'media/2026/b.jpg',
      'media/2026/raw',
      'media/2026/raw/c.cr2',
      'media/a.jpg',
    ]);
  });

  test('included paths include the directories above them', async () => {
    await bench.store({ include: ['**/*.jpg'] });
    expect(await paths()).toEqual(['', 'media', 'media/2026', 'media/2026/b.jpg', 'media/a.jpg']);
    await bench.store({ include: ['media/2026/'], exclude: ['raw'] });
    expect(await paths()).toEqual(['', 'media', 'media/2026', 'media/2026/b.jpg']);
  });

  test('a restore can select paths', async () => {
    linkSync(join(bench.tree, 'cache/x'), join(bench.tree, 'media/link-1'));
    linkSync(join(bench.tree, 'cache/x'), join(bench.tree, 'media/link-2'));
    const stored = await bench.store();
    const { target, result } = await bench.extract(stored, {
      select: selectByGlobs(['media/2026/raw', 'media/link-*']),
    });
    expect([...describeTree(target).keys()]).toEqual([
      '',
      'media',
      'media/2026',
      'media/2026/raw',
      'media/2026/raw/c.cr2',
      'media/link-1',
      'media/link-2',
    ]);
    expect(describeTree(target).get('media/link-2')).toMatchObject({ link: 'media/link-1' });
    expect(result.files).toBe(3);
  });
});

describe('refusals', () => {
  test('a target that is not empty, before anything is written', async () => {
    write('a');
    const stored = await bench.store();
    await expect(bench.extract(stored, { target: bench.tree })).rejects.toMatchObject({
      code: 'TREE_TARGET_NOT_EMPTY',
    });
    expect(readdirSync(bench.tree)).toEqual(['a']);
  });

  test('a target without enough space', async () => {
    write('a', randomBytes(500_000));
    write('b', randomBytes(900_000));
    write('sub', randomBytes(900_000));
    const stored = await bench.store();
    const target = join(bench.spool, 'small');
    mkdirSync(target);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', target]);
    try {
      await expect(bench.extract(stored, { target })).rejects.toMatchObject({ code: 'TREE_TARGET_FULL' });
    } finally {
      execFileSync('umount', [target]);
    }
  });

  test('a root that is missing or not a directory', async () => {
    for (const root of [join(bench.tree, 'none'), bench.index]) {
      await expect(bench.store({ root })).rejects.toMatchObject({ code: 'TREE_UNREADABLE' });
    }
  });
});
