import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { destinationContract, keys, read } from '../contract/destination.ts';
import { scratchBase } from '../store/helpers.ts';

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(scratchBase, 'lifeboat-local-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const newRoot = () => mkdtempSync(join(scratch, 'root-'));

destinationContract('local', async () => {
  const root = newRoot();
  return { destination: createLocalDestination({ root }), cleanUp: async () => rmSync(root, { recursive: true }) };
});

/** Mounts a separate file system, so that it can be full or read-only. */
function mounted(options: string, run: (root: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const root = newRoot();
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', root]);
    try {
      await run(root);
    } finally {
      execFileSync('umount', [root]);
    }
  };
}

const filesIn = (root: string) => readdirSync(root, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());

describe('local destination', () => {
  test('a file with a disk error is damaged, and named in the error', async () => {
    // The kernel returns EIO for the first page of a process's memory.
    const destination = createLocalDestination({ root: '/proc/self' });
    await expect(read(destination, 'mem')).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      message: 'mem cannot be read',
      cause: { code: 'EIO' },
    });
  });

  test('too many open files say nothing about the file that could not be opened', async () => {
    const root = newRoot();
    writeFileSync(join(root, 'object'), 'x');
    const script = `
      import { createLocalDestination } from ${JSON.stringify(join(import.meta.dirname, '../../src/destinations/local.ts'))};
      import { openSync } from 'node:fs';
      const destination = createLocalDestination({ root: ${JSON.stringify(root)} });
      try { for (;;) openSync('/dev/null'); } catch {}
      await destination.get('object').catch(({ code }) => console.log(code));`;
    const limited = ['-c', 'ulimit -n 64; exec "$0" --input-type=module --eval "$1"', process.execPath, script];
    expect(execFileSync('sh', limited, { encoding: 'utf8' }).trim()).toBe('DEST_UNREACHABLE');
  });

  test('files have mode 600 and directories 700, whatever the umask', async () => {
    const root = newRoot();
    for (const umask of [0, 0o077, 0o777]) {
      const before = process.umask(umask);
      try {
        await createLocalDestination({ root }).put(`u${umask}/b/object`, Readable.from(['x']));
      } finally {
        process.umask(before);
      }
      expect(statSync(join(root, `u${umask}/b/object`)).mode & 0o7777).toBe(0o600);
      expect(statSync(join(root, `u${umask}/b`)).mode & 0o7777).toBe(0o700);
      expect(statSync(join(root, `u${umask}`)).mode & 0o7777).toBe(0o700);
    }
  });

  test(
    'a full disk is DEST_FULL, and nothing is left',
    mounted('size=2m', async (root) => {
      const destination = createLocalDestination({ root });
      await destination.put('kept', Readable.from([randomBytes(500_000)]));
      const big = Readable.from(Array.from({ length: 8 }, () => randomBytes(500_000)));
      await expect(destination.put('p/packs/big', big)).rejects.toMatchObject({ code: 'DEST_FULL' });
      expect(filesIn(root).map((entry) => entry.name)).toEqual(['kept']);
      await destination.put('p/packs/small', Readable.from([randomBytes(500_000)]));
      expect(await keys(destination, '')).toEqual(['kept', 'p/packs/small']);
    }),
  );

  test(
    'a disk without inodes is DEST_FULL',
    mounted('size=2m,nr_inodes=4', async (root) => {
      const put = createLocalDestination({ root }).put('a/b/c/d/e', Readable.from(['x']));
      await expect(put).rejects.toMatchObject({ code: 'DEST_FULL' });
    }),
  );

  test(
    'a read-only file system is DEST_UNWRITABLE, and can be read',
    mounted('size=2m', async (root) => {
      const destination = createLocalDestination({ root });
      await destination.put('a/b', Readable.from(['x']));
      execFileSync('mount', ['-o', 'remount,ro', root]);
      await expect(destination.put('a/c', Readable.from(['x']))).rejects.toMatchObject({ code: 'DEST_UNWRITABLE' });
      await expect(destination.delete('a/b')).rejects.toMatchObject({ code: 'DEST_UNWRITABLE' });
      expect(String(await read(destination, 'a/b'))).toBe('x');
    }),
  );

  test('a root that does not exist is DEST_UNWRITABLE, and is not created', async () => {
    const root = join(scratch, 'unmounted');
    const destination = createLocalDestination({ root });
    await expect(destination.put('a/b', Readable.from(['x']))).rejects.toMatchObject({ code: 'DEST_UNWRITABLE' });
    await expect(keys(destination, '')).rejects.toMatchObject({ code: 'DEST_UNWRITABLE' });
    expect(readdirSync(scratch)).not.toContain('unmounted');
  });

  test('a body that fails with a system error keeps its own error', async () => {
    const failure = Object.assign(new Error('read'), { code: 'ENOSPC' });
    const body = new Readable({ read() {} });
    const put = createLocalDestination({ root: newRoot() }).put('a', body);
    body.destroy(failure);
    await expect(put).rejects.toBe(failure);
  });

  test('deleting the last object of a directory removes it, up to the root', async () => {
    const root = newRoot();
    const destination = createLocalDestination({ root });
    await destination.put('p/a/b/one', Readable.from(['1']));
    await destination.put('p/two', Readable.from(['2']));
    await destination.delete('p/a/b/one');
    expect(readdirSync(join(root, 'p'))).toEqual(['two']);
    await destination.delete('p/two');
    expect(readdirSync(root)).toEqual([]);
  });

  test('putting during deletes never fails, although directories come and go', async () => {
    const destination = createLocalDestination({ root: newRoot() });
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        await destination.put(`p/${i % 2}/${i}`, Readable.from([String(i)]));
        await destination.delete(`p/${i % 2}/${i}`);
      }),
    );
    expect(await keys(destination, '')).toEqual([]);
  });

  test('files that are not objects are not listed', async () => {
    const root = newRoot();
    mkdirSync(join(root, 'lost+found'));
    writeFileSync(join(root, 'lost+found', '#12'), 'x');
    writeFileSync(join(root, '.abc.tmp'), 'x');
    mkdirSync(join(root, 'empty'));
    execFileSync('mkfifo', [join(root, 'fifo')]);
    execFileSync('ln', ['-s', '/etc/passwd', join(root, 'link')]);
    const destination = createLocalDestination({ root });
    expect(await keys(destination, '')).toEqual([]);
    for (const key of ['link', 'fifo', 'empty']) {
      await expect(destination.get(key)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
    }
  });

  test('a directory that was moved and replaced by a link is listed; a cycle of links ends', async () => {
    const root = newRoot();
    const disk = newRoot();
    const destination = createLocalDestination({ root });
    symlinkSync(disk, join(root, 'p'));
    const packs = newRoot();
    symlinkSync(packs, join(disk, 'packs'));
    await destination.put('p/packs/ab/one', Readable.from(['1']));
    await destination.put('p/snapshots/two', Readable.from(['2']));
    const all = ['p/packs/ab/one', 'p/snapshots/two'];
    for (const prefix of ['', 'p/']) expect(await keys(destination, prefix), prefix).toEqual(all);
    // Links back to parent directories, to the root, and to nothing.
    symlinkSync(disk, join(packs, 'back'));
    symlinkSync(packs, join(packs, 'self'));
    symlinkSync(root, join(packs, 'root'));
    for (const prefix of ['', 'p/']) expect(await keys(destination, prefix), prefix).toEqual(all);
    // The parents of the prefix count too: no manifest appears among the packs.
    expect(await keys(destination, 'p/packs/')).toEqual(['p/packs/ab/one']);
  });

  test.each(['link', 'loop', 'file', 'link above', 'no rights'])(
    'a directory replaced by something else (%s) is an outage, and no object below it counts as missing',
    async (kind) => {
      const root = newRoot();
      const destination = createLocalDestination({ root });
      await destination.put('p/packs/web/one', Readable.from(['1']));
      await destination.put('p/snapshots/two', Readable.from(['2']));
      const [packs, project] = [join(root, 'p', 'packs'), join(root, 'p')];
      if (kind === 'no rights')
        vi.spyOn(fs, 'readdir').mockRejectedValue(Object.assign(new Error('no'), { code: 'EACCES', errno: -13 }));
      else rmSync(kind === 'link above' ? project : packs, { recursive: true });
      if (kind === 'link') symlinkSync('/mnt/nas/packs', packs);
      if (kind === 'loop') symlinkSync('packs', packs);
      if (kind === 'file') writeFileSync(packs, '');
      if (kind === 'link above') symlinkSync('/mnt/nas/p', project);
      syncBuiltinESMExports();
      const outage = { code: 'DEST_UNREACHABLE', hint: expect.stringMatching(/mount|Mount|may read/) };
      const prefixes = ['p/packs/', 'p/packs/web/', ...(kind === 'link' ? ['p/'] : [])];
      for (const prefix of prefixes) await expect(keys(destination, prefix), prefix).rejects.toMatchObject(outage);
      vi.restoreAllMocks();
      syncBuiltinESMExports();
      if (kind === 'no rights') return;
      if (kind !== 'file') await expect(destination.get('p/packs/web/one')).rejects.toMatchObject(outage);
      const put = destination.put('p/packs/web/three', Readable.from(['3']));
      await expect(put).rejects.toMatchObject(outage);
    },
  );

  test('a sweep leaves what this process is storing, and recent files where others store as well', async () => {
    const root = newRoot();
    const destination = createLocalDestination({ root });
    const recent = { prefix: 'p/wal/', olderThanMs: 60_000 };
    mkdirSync(join(root, 'p', 'wal', 'db'), { recursive: true });
    for (const directory of ['p', 'p/wal/db']) writeFileSync(join(root, directory, '.0123.tmp'), 'x');
    const second = new Date(Date.now() - 1000);
    for (const directory of ['p', 'p/wal/db']) utimesSync(join(root, directory, '.0123.tmp'), second, second);
    const slow = async function* () {
      yield Buffer.alloc(2 * 1024 * 1024);
      await expect.poll(() => filesIn(root).length).toBe(3);
      for (const { parentPath, name } of filesIn(root))
        if (name !== '.0123.tmp') utimesSync(join(parentPath, name), second, second);
      // Another part of the process opened the same directory.
      const other = createLocalDestination({ root });
      expect(await other.sweepTemporary({ prefix: 'p/', olderThanMs: 0, recent })).toBe(1);
      yield Buffer.from('end');
    };
    await destination.put('p/packs/slow', Readable.from(slow()));
    expect(
      filesIn(root)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['.0123.tmp', 'slow']);
    expect(await destination.sweepTemporary({ prefix: 'p/', olderThanMs: 0 })).toBe(1);
  });

  test('old temporary files are removed, new ones and objects stay', async () => {
    const root = newRoot();
    const destination = createLocalDestination({ root });
    await destination.put('p/a/object', Readable.from(['x']));
    const old = join(root, 'p', '.0123.tmp');
    const fresh = join(root, 'p', 'a', '.4567.tmp');
    for (const file of [old, fresh]) writeFileSync(file, 'x');
    utimesSync(old, new Date(0), new Date(0));
    // A file's time may be slightly ahead of the clock that the sweep uses.
    const second = new Date(Date.now() - 1000);
    utimesSync(fresh, second, second);
    expect(await destination.sweepTemporary({ olderThanMs: 60_000 })).toBe(1);
    expect(
      filesIn(root)
        .map((entry) => entry.name)
        .sort(),
    ).toEqual(['.4567.tmp', 'object']);
    expect(await destination.sweepTemporary({ olderThanMs: 0 })).toBe(1);
    expect(await keys(destination, '')).toEqual(['p/a/object']);
  });
});
