import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
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
  const [left] = readdirSync(base) as [string];
  const old = new Date(Date.now() - 20 * 60_000);
  utimesSync(path.join(base, left), old, old);
  const others = ['.media.zip.old.part', '.media.zip.tar.01234567.0123abcd.part'];
  for (const name of others) {
    writeFileSync(path.join(base, name), 'of somebody else');
    utimesSync(path.join(base, name), old, old);
  }
  const next = await open();
  await write(next, 'whole');
  expect(readdirSync(base)).not.toContain(left);
  await next.commit();
  expect(readdirSync(base).sort()).toEqual([...others, 'media.zip']);
  expect(readFileSync(path.join(base, 'media.zip'), 'utf8')).toBe('whole');
  await killed.discard();
});

const long = 'x'.repeat(115);
test.each<[string, string, string]>([
  ['the same file', 'media.zip', 'media.zip'],
  ['files with long names that begin alike', `${long}a.zip`, `${long}b.zip`],
])('two exports to %s that overlap both succeed', async (_, one, other) => {
  const first = await open({ file: path.join(base, one), overwrite: true });
  await write(first, 'first');
  const old = new Date(Date.now() - 60_000);
  for (const name of readdirSync(base)) utimesSync(path.join(base, name), old, old);
  const second = await open({ file: path.join(base, other), overwrite: true });
  await write(second, 'second');
  await first.commit();
  expect(readFileSync(path.join(base, one), 'utf8')).toBe('first');
  await second.commit();
  expect(readFileSync(path.join(base, other), 'utf8')).toBe('second');
});

test('an export to a long name leaves the old file of an export to another one that begins alike', async () => {
  const first = await open({ file: path.join(base, `${long}a.zip`) });
  const [name] = readdirSync(base) as [string];
  utimesSync(path.join(base, name), new Date(0), new Date(0));
  const second = await open({ file: path.join(base, `${long}b.zip`) });
  await first.commit();
  await second.discard();
  expect(readdirSync(base)).toEqual([`${long}a.zip`]);
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
