import { execFileSync, spawnSync } from 'node:child_process';
import {
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SealKeys } from '../../../../src/plan/seal-keys.ts';
import type { ArchiveMember } from '../../../../src/store/archive/archive-member.ts';
import { type ArchiveFormat, type ArchiveItem, ArchiveWriter } from '../../../../src/store/archive/archive-writer.ts';
import { fileStream, openArchive } from '../../../../src/store/archive/open-archive.ts';
import { unpack } from '../../../../src/store/archive/unpack.ts';
import { parentOf } from '../../../../src/store/filesystem/path.ts';
import { treePath } from '../../arbitrary.ts';
import { describeTree, scratchBase } from '../../helpers.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(scratchBase, 'lifeboat-unpack-'));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

let count = 0;
const fresh = () => {
  const directory = join(base, `out-${count++}`);
  mkdirSync(directory);
  return directory;
};

async function read(file: string, target = fresh(), strip = 0, keys: SealKeys = {}) {
  const inside = await openArchive({
    file,
    stream: fileStream(file),
    keys,
    spooled: join(base, `spooled-${count++}`),
  });
  if (!('members' in inside)) throw new Error(inside.form);
  return { target, ...(await unpack({ members: inside.members, target, strip })) };
}

const member = (name: string, more: Partial<ArchiveMember> = {}): ArchiveMember => ({
  name,
  type: 'file',
  mtime: 0n,
  size: 1,
  content: () => Readable.from([Buffer.from('x')]),
  ...more,
});
const given = (...members: ArchiveMember[]) => {
  async function* all() {
    yield* members;
  }
  return unpack({ members: all(), target: fresh(), strip: 0 });
};

interface Made {
  items: ArchiveItem[];
  contents: Buffer[];
}

/** Trees with arbitrary names, with files, links and empty directories. */
const trees = fc
  .array(
    fc.record({
      path: treePath,
      type: fc.constantFrom('file' as const, 'directory' as const, 'symlink' as const),
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: fc.integer({ min: 0, max: 3_000_000 }),
      gid: fc.integer({ min: 0, max: 3_000_000 }),
      seconds: fc.integer({ min: 315_532_800, max: 2_000_000_000 }),
      content: fc.uint8Array({ maxLength: 3000 }),
      target: treePath,
    }),
    { maxLength: 12 },
  )
  .map((drawn): Made => {
    const items = new Map<string, ArchiveItem & { content?: Buffer }>();
    const kinds = new Map<string, string>();
    for (const { path, type, seconds, content, target, ...meta } of drawn) {
      const parents: string[] = [];
      for (let at = parentOf(path); at !== ''; at = parentOf(at)) parents.push(at);
      if (kinds.has(path) || parents.some((at) => (kinds.get(at) ?? 'directory') !== 'directory')) continue;
      const mtime = BigInt(seconds - (seconds % 2)) * 1_000_000_000n;
      for (const at of parents.reverse()) {
        if (!kinds.has(at)) items.set(at, { path: at, type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime });
        kinds.set(at, 'directory');
      }
      kinds.set(path, type);
      const extra =
        type === 'file'
          ? { size: content.length, content: Buffer.from(content) }
          : type === 'symlink'
            ? { target }
            : {};
      items.set(path, { path, type, mtime, ...meta, ...extra });
    }
    const all = [...items.values()];
    return {
      items: all.map(({ content: _, ...item }) => item),
      contents: all.map(({ content }) => content ?? Buffer.alloc(0)),
    };
  });

async function pack({ items, contents }: Made, format: ArchiveFormat): Promise<string> {
  const file = join(base, `made-${count++}.${format}`);
  const output = createWriteStream(file);
  const writer = await ArchiveWriter.open(format, { output, explain: (error) => error });
  const root = {
    path: '',
    type: 'directory',
    mode: 0o2750,
    uid: 5,
    gid: 6,
    mtime: 1_000_000_000_000_000_000n,
  } as const;
  if (format === 'tar') await writer.add(root);
  for (const [i, item] of items.entries()) await writer.add({ ...item, deflate: i % 2 === 0 }, contents[i]);
  await writer.finish();
  await new Promise((resolve) => output.end(resolve));
  return file;
}

describe('the content of an archive', () => {
  test.each(['tar', 'zip'] as const)(
    'a %s that was written is read as the tree that it was, whatever its names',
    async (format) => {
      await fc.assert(
        fc.asyncProperty(trees, async (made) => {
          const { target } = await read(await pack(made, format));
          const there = describeTree(target);
          there.delete('');
          const expected = new Map(
            made.items.map(({ path, type, mode, uid, gid, mtime, target: link }) => {
              const owner = format === 'tar' ? `${uid}:${gid}` : '0:0';
              return [path, { owner, mtime, ...(type === 'symlink' ? { target: link } : { mode: mode.toString(8) }) }];
            }),
          );
          expect([...there.keys()].sort()).toEqual([...expected.keys()].sort());
          for (const [path, facts] of expected) {
            expect(there.get(path), path).toMatchObject(facts);
          }
          for (const [i, { path, type }] of made.items.entries()) {
            if (type === 'file')
              expect(readFileSync(Buffer.from(`${target}/${path}`, 'latin1')).equals(contents(made, i))).toBe(true);
          }
          rmSync(target, { recursive: true, force: true });
        }),
        { numRuns: 40 },
      );
    },
  );
  const contents = (made: Made, i: number) => made.contents[i] ?? Buffer.alloc(0);

  test('archives of other programs, wrapped in gzip, zstd and age', async () => {
    const tree = join(base, 'tree');
    mkdirSync(join(tree, 'a/b'), { recursive: true });
    writeFileSync(join(tree, 'a/b/file'), 'content');
    writeFileSync(Buffer.from(`${tree}/caf\xe9`, 'latin1'), 'latin');
    writeFileSync(join(tree, `${'n'.repeat(150)}`), 'long');
    execFileSync('ln', ['-s', '/etc/passwd', join(tree, 'a/link')]);
    execFileSync('ln', [join(tree, 'a/b/file'), join(tree, 'second')]);
    const out = (name: string) => join(base, name);
    for (const format of ['gnu', 'pax', 'ustar', 'v7']) {
      const skip = format === 'ustar' || format === 'v7' ? ['--exclude=nnn*'] : [];
      execFileSync('tar', ['-C', tree, `--format=${format}`, ...skip, '-czf', out(`${format}.tgz`), '.'], {
        stdio: 'pipe',
      });
    }
    execFileSync('sh', ['-c', `tar -C ${tree} -cf - . | zstd -q | gzip > ${out('twice')}`]);
    execFileSync('zip', ['-qry', out('info.zip'), '.'], { cwd: tree });
    for (const name of ['gnu.tgz', 'twice', 'info.zip']) {
      const { target } = await read(out(name));
      expect(spawnSync('diff', ['-r', '--no-dereference', tree, target]).stdout.toString(), name).toBe('');
    }
    const ageIdentity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const recipient = execFileSync('age-keygen', ['-y'], { input: ageIdentity, encoding: 'utf8' }).trim();
    for (const [name, options] of [
      ['gnu.tgz.age', []],
      ['gnu.tgz.asc', ['--armor']],
    ] as const) {
      execFileSync('age', ['-r', recipient, ...options, '-o', out(name), out('gnu.tgz')]);
      const { target } = await read(out(name), fresh(), 0, { ageIdentity });
      expect(spawnSync('diff', ['-r', '--no-dereference', tree, target]).stdout.toString(), name).toBe('');
      await expect(read(out(name)), name).rejects.toMatchObject({ code: 'KEY_MISSING' });
    }
    expect(readFileSync(join((await read(out('pax.tgz'))).target, 'n'.repeat(150)), 'utf8')).toBe('long');
    expect(readFileSync(join((await read(out('ustar.tgz'))).target, 'second'), 'utf8')).toBe('content');
    rmSync(join(tree, 'second'));
    execFileSync('tar', ['-C', tree, '-cf', out('strip.tar'), 'a', 'n'.repeat(150)]);
    const { target } = await read(out('strip.tar'), fresh(), 1);
    expect(readdirSync(target)).toEqual(['b', 'link']);
  });

  test.each<[string, ArchiveMember[]]>([
    ['an absolute name with ..', [member('/a/../../evil')]],
    ['a name that leads out of the archive', [member('a/../../evil')]],
    ['a name below a symlink', [member('link', { type: 'symlink', target: '/tmp' }), member('link/evil')]],
    [
      'a directory below a symlink',
      [member('link', { type: 'symlink', target: '..' }), member('link/evil', { type: 'directory' })],
    ],
    [
      'a symlink for a directory, then a name below',
      [member('d', { type: 'directory' }), member('d', { type: 'symlink', target: '/' }), member('d/evil')],
    ],
    ['a hard link to a file outside', [member('hard', { type: 'hardlink', target: '/etc/passwd' })]],
    [
      'a hard link through a symlink',
      [member('l', { type: 'symlink', target: '/etc' }), member('hard', { type: 'hardlink', target: 'l/passwd' })],
    ],
    [
      'a hard link to a symlink',
      [member('l', { type: 'symlink', target: '/etc/passwd' }), member('hard', { type: 'hardlink', target: 'l' })],
    ],
    ['a name with a zero byte', [member('a\0b')]],
    ['a name that is too long', [member('n'.repeat(300))]],
    ['a file as the top directory', [member('./')]],
  ])('%s is refused', async (_, members) => {
    await expect(given(...members)).rejects.toMatchObject({ code: 'IMPORT_REFUSED' });
    expect(existsSync(join(base, 'evil'))).toBe(false);
  });

  test('devices are left out, and the later of two members with one name counts', async () => {
    const twice = (text: string) => member('f', { content: () => Readable.from([Buffer.from(text)]) });
    const found = await given(
      member('null', { type: 'other' }),
      twice('1'),
      member('f', { type: 'symlink', target: '/etc/hostname' }),
      twice('2'),
    );
    expect(found.warnings).toContainEqual(expect.stringContaining('1 device'));
    expect(readFileSync(join(base, `out-${count - 1}`, 'f'), 'utf8')).toBe('2');
  });

  test('members that --strip removes, and entries that a later one replaces, are listed', async () => {
    async function* all() {
      yield* [member('top'), member('a/f'), member('a/f'), member('other', { type: 'directory' })];
    }
    const { warnings } = await unpack({ members: all(), target: fresh(), strip: 1 });
    expect(warnings).toContainEqual(expect.stringMatching(/^1 file left out, because --strip .*: top$/));
    expect(warnings).toContainEqual(expect.stringMatching(/^1 entry replaced by a later one.*: f$/));
  });

  /** One header with its content, as in POSIX, pax, "ustar Interchange Format". */
  const block = (name: string, type: string, content = Buffer.alloc(0), more: Record<number, string> = {}) => {
    const header = Buffer.alloc(512);
    header.write(name, 0, 100, 'latin1');
    header.write(['0000644', '0000000', '0000000', content.length.toString(8).padStart(11, '0')].join('\0'), 100);
    header.write(`\0${'0'.repeat(11)}\0${' '.repeat(8)}${type}`, 135, 'latin1');
    header.write('ustar\x0000', 257, 'latin1');
    for (const [at, text] of Object.entries(more)) header.write(text, Number(at), 'latin1');
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
  };
  const pax = (...records: string[]) => {
    const lines = records.map((record) => {
      const length = record.length + 2;
      const digits = String(length + String(length + 1).length).length;
      return `${length + digits} ${record}\n`;
    });
    return block('pax', 'x', Buffer.from(lines.join(''), 'latin1'));
  };
  const readBlocks = (...blocks: Buffer[]) => {
    const file = join(base, `made-${count++}.tar`);
    writeFileSync(file, Buffer.concat([...blocks, Buffer.alloc(1024)]));
    return read(file);
  };
  const file = (name: string) => block(name, '0', Buffer.from(name, 'latin1'));
  const names = (target: string) => readdirSync(target, { encoding: 'latin1' }).sort();

  test('names of pax and GNU records keep all their bytes', async () => {
    const long = 'n'.repeat(150);
    const { target } = await readBlocks(
      pax('hdrcharset=BINARY', 'path=caf\xe9'),
      file('1'),
      pax('path=caf\xe8', `comment=${long}`),
      file('2'),
      pax('path=caf\xc3\xa9'),
      file('3'),
      pax('linkpath=to\xff', 'path=link\xfe'),
      block('4', '2'),
      block('long', 'L', Buffer.from(`${long}\xe9\0`, 'latin1')),
      file('5'),
    );
    const found = ['caf\xc3\xa9', 'caf\xe8', 'caf\xe9', 'link\xfe', `${long}\xe9`].sort();
    expect(names(target)).toEqual(found);
    expect(readFileSync(Buffer.from(`${target}/caf\xe9`, 'latin1'), 'utf8')).toBe('1');
    expect(describeTree(target).get('link\xfe')).toMatchObject({ target: 'to\xff' });
  });

  test.each<[string, Buffer[]]>([
    ['a name with a zero byte', [pax('path=a\0b'), file('1')]],
    ['an absolute name with ..', [pax('path=/../a'), file('1')]],
    ['a name that leads out', [block('long', 'L', Buffer.from('../a\0')), file('1')]],
    ['a hard link to a missing file', [block('1', '1', undefined, { 157: 'missing' })]],
    ['a sparse file of pax', [pax('GNU.sparse.major=1', 'GNU.sparse.minor=0'), file('1')]],
    ['a sparse file of GNU tar', [block('1', 'S')]],
    ['an owner that Linux does not have', [pax('uid=4294967295'), file('1')]],
  ])('a tar with %s is refused', async (_, blocks) => {
    await expect(readBlocks(...blocks)).rejects.toMatchObject({ code: 'IMPORT_REFUSED' });
  });

  test.each([
    ['a length that ends elsewhere', '99 path=a\n'],
    ['no length', 'path=aaa\n'],
    ['no value', '7 path\n'],
  ])('a tar with a damaged pax record, with %s, is refused', async (_, record) => {
    const given = readBlocks(block('pax', 'x', Buffer.from(record)), file('1'));
    await expect(given).rejects.toMatchObject({ code: 'IMPORT_UNREADABLE' });
  });

  test('devices with names are left out with a warning, and an unreadable time is the epoch', async () => {
    const { warnings, target } = await readBlocks(
      block('null', '3'),
      block('1', '0', undefined, { 136: 'xxxxxxxxxxx' }),
    );
    expect(warnings).toContainEqual(expect.stringContaining('1 device, FIFO or socket left out: null'));
    expect(names(target)).toEqual(['1']);
  });

  test('an archive that is cut or damaged anywhere is an error', async () => {
    const tree = join(base, 'tree');
    mkdirSync(tree);
    for (const name of ['a', 'b', 'c']) writeFileSync(join(tree, name), name.repeat(5000));
    const whole: Record<string, Buffer> = {};
    execFileSync('tar', ['-C', tree, '-cf', join(base, 'w.tar'), '.']);
    execFileSync('tar', ['-C', tree, '-czf', join(base, 'w.tgz'), '.']);
    execFileSync('sh', ['-c', `zstd -q --check < ${base}/w.tar > ${base}/w.zst`]);
    execFileSync('zip', ['-qr', join(base, 'w.zip'), '.'], { cwd: tree });
    for (const name of ['tar', 'tgz', 'zst', 'zip']) whole[name] = readFileSync(join(base, `w.${name}`));
    const bytesOf = (name: string) => whole[name] ?? Buffer.alloc(0);
    // Every block of the tar, including the ends of members.
    const cuts = [...Array.from({ length: 32 }, (_, i) => ['tar', i * 512] as const), ['tar', 700] as const];
    for (const [name, length] of [...cuts, ['tgz', 100] as const, ['zst', 60] as const, ['zip', 200] as const]) {
      if (length === 0) continue;
      writeFileSync(join(base, 'cut'), bytesOf(name).subarray(0, length));
      await expect(read(join(base, 'cut')), `${name} ${length}`).rejects.toMatchObject({ code: 'IMPORT_UNREADABLE' });
    }
    const flipped = Buffer.from(bytesOf('zip'));
    flipped[60] = (flipped[60] ?? 0) ^ 0x55;
    writeFileSync(join(base, 'flipped'), flipped);
    await expect(read(join(base, 'flipped'))).rejects.toMatchObject({ code: 'IMPORT_UNREADABLE' });
    for (const program of ['xz', 'bzip2']) {
      execFileSync('sh', ['-c', `${program} < ${base}/w.tar > ${base}/foreign`]);
      await expect(read(join(base, 'foreign'))).rejects.toMatchObject({
        code: 'IMPORT_UNREADABLE',
        message: expect.stringContaining(program),
      });
    }
  });
});
