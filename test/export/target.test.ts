import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type FileTarget, openFileTarget, stdoutTarget } from '../../src/export/target.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync(path.join(tmpdir(), 'lifeboat-target-'));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

const open = (more: Partial<FileTarget> = {}) =>
  openFileTarget({
    file: path.join(base, 'media.zip'),
    overwrite: false,
    mounts: [{ type: 'bind', source: '/host', destination: base, writable: true }],
    kept: [],
    ...more,
  });
const write = (target: Awaited<ReturnType<typeof open>>, text: string) =>
  new Promise<void>((resolve, reject) => target.output.write(text, (error) => (error ? reject(error) : resolve())));

test('a file has its name only when it is whole, and can be read by its owner alone', async () => {
  const target = await open();
  await write(target, 'content');
  expect(readdirSync(base)).toEqual([expect.stringMatching(/^\.media\.zip\..*\.part$/)]);
  await target.commit();
  expect(readdirSync(base)).toEqual(['media.zip']);
  expect(readFileSync(path.join(base, 'media.zip'), 'utf8')).toBe('content');
});

test('one that is given up leaves nothing', async () => {
  const target = await open();
  await write(target, 'content');
  await target.discard();
  expect(readdirSync(base)).toEqual([]);
});

test('what killed exports to the same file left is removed by the next one', async () => {
  const killed = await open();
  await write(killed, 'half');
  writeFileSync(path.join(base, '.media.zip.old.part'), 'of somebody else');
  writeFileSync(path.join(base, '.media.zip.tar.0123abcd.part'), 'of another export');
  const next = await open();
  await write(next, 'whole');
  expect(readdirSync(base)).toHaveLength(3);
  // It only seemed dead.
  await expect(killed.commit()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  await killed.discard();
  await next.commit();
  expect(readdirSync(base).sort()).toEqual(['.media.zip.old.part', '.media.zip.tar.0123abcd.part', 'media.zip']);
  expect(readFileSync(path.join(base, 'media.zip'), 'utf8')).toBe('whole');
});

test('what is there stays, also what comes meanwhile', async () => {
  const target = await open();
  writeFileSync(path.join(base, 'media.zip'), 'somebody else');
  await expect(target.commit()).rejects.toMatchObject({ code: 'FILE_EXISTS' });
  await target.discard();
  expect(readFileSync(path.join(base, 'media.zip'), 'utf8')).toBe('somebody else');
  await expect(open()).rejects.toMatchObject({ code: 'FILE_EXISTS' });
  const second = await open({ overwrite: true });
  await second.commit();
  expect(readFileSync(path.join(base, 'media.zip'), 'utf8')).toBe('');
  expect(readdirSync(base)).toEqual(['media.zip']);
});

test('a link is neither followed nor replaced, and a directory is no file', async () => {
  symlinkSync('/etc/hostname', path.join(base, 'link.zip'));
  mkdirSync(path.join(base, 'directory'));
  for (const name of ['link.zip', 'directory']) {
    await expect(open({ file: path.join(base, name), overwrite: true })).rejects.toMatchObject({ code: 'FILE_EXISTS' });
  }
});

test('no file goes where Lifeboat has its own things', async () => {
  mkdirSync(path.join(base, 'repo/shop'), { recursive: true });
  const repository = path.join(base, 'repo');
  const own = { repository, kept: [{ directory: repository, holds: 'the backups' }] };
  for (const name of ['repo/shop/x.zip', 'repo/lifeboat.json', 'repo/.hidden', 'missing/x.zip']) {
    const outcome = open({ ...own, file: path.join(base, name), overwrite: true });
    await expect(outcome, name).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  }
  await (await open({ ...own, file: path.join(base, 'repo/x.zip') })).commit();
  await expect(open({ mounts: [] })).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  chmodSync(base, 0o755);
});

test('an archive does not go to a terminal', () => {
  const terminal = { isTTY: true } as NodeJS.WriteStream;
  expect(() => stdoutTarget(terminal)).toThrow(
    expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining('-T') }),
  );
});
