import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SealKeys } from '../../../../src/plan/seal-keys.ts';
import type { Manifest, ManifestSource } from '../../../../src/store/objects/manifest.ts';
import type { PackRef } from '../../../../src/store/packs/pack-stream.ts';
import { openRepository } from '../../../../src/store/repository/open-repository.ts';
import { at, type Bench, createBench, describeTree } from '../../helpers.ts';

const page = readFileSync(new URL('../../../../docs/restore-without-lifeboat.md', import.meta.url), 'utf8');
const script = /```sh\n(#!\/bin\/sh\n[\s\S]*?)```/.exec(page)?.[1];
const ID = '20261120T030000Z-4f1c9a';

let bench: Bench;
/** those of the last commit */
let packs: readonly PackRef[];
beforeEach(() => {
  bench = createBench();
});
afterEach(() => bench.remove());

/** Stores the tree and commits it as the only source of a snapshot. */
async function commit(keys: SealKeys = {}): Promise<string> {
  const repository = await openRepository(bench.destination, { project: 'shop', create: true, keys });
  const stored = await bench.store({ keys });
  const { files, bytes, newBytes, newFiles } = stored;
  packs = stored.packs;
  const index = await repository.putIndex(ID, 'web.media', bench.index);
  const list = await repository.putPacks({ id: ID, source: 'web.media', packs });
  const manifest: Manifest = {
    format: 1,
    id: ID,
    project: 'shop',
    sequence: 1,
    previous: null,
    trigger: 'manual',
    agentVersion: '0',
    status: 'ok',
    start: '2026-11-20T03:00:00.000Z',
    end: '2026-11-20T03:00:01.000Z',
    sources: {
      'web.media': {
        kind: 'volume',
        status: 'ok',
        index,
        ...(list ? { packs: list } : {}),
        files,
        bytes,
        newBytes,
        newFiles,
        summary: '',
        warnings: [],
        skipped: {},
      },
    },
  };
  await repository.commit(manifest);
  return join(bench.tree, '../repo');
}

function restore(
  repository: string,
  shell: string,
  env: Record<string, string> = {},
  snapshot = ID,
  only?: Buffer,
): { target: string; status: number | null; stderr: string } {
  const file = join(bench.spool, 'restore.sh');
  const target = join(bench.spool, `out ${shell}`);
  writeFileSync(file, script ?? '');
  // Node passes only UTF-8 as arguments, so other bytes reach the script as escapes of printf.
  const escapes = only === undefined ? [] : [[...only].map((byte) => `\\x${byte.toString(16)}`).join('')];
  const call = '[ $# -lt 7 ] && exec "$0" "$@"; printf -v path "$7"; exec "$0" "$1" "$2" "$3" "$4" "$5" "$6" "$path"';
  const { status, stderr } = spawnSync(
    'bash',
    ['-c', call, shell, file, repository, 'shop', snapshot, 'web.media', target, ...escapes],
    { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C', ...env } },
  );
  return { target, status, stderr };
}

const whole = ({ sources }: Manifest) => sources['web.media'] as ManifestSource;
const gone = { key: 'shop/gone.zst', size: 1, sha256: '00'.repeat(32), count: 1 };

describe('the script of docs/restore-without-lifeboat.md', () => {
  test.each(['dash', 'bash'])('restores large files with holes, in %s', async (shell) => {
    const make = (name: string, pieces: Record<number, string>) => {
      const fd = openSync(join(bench.tree, name), 'w');
      ftruncateSync(fd, 50_000_000);
      for (const [offset, text] of Object.entries(pieces)) writeSync(fd, text, Number(offset));
      closeSync(fd);
    };
    make('some', { 5: 'begin', 30000001: 'middle', 49999997: 'end' });
    make('100%', { 49999999: '!' });
    make('none', {});
    const repository = await commit();
    expect((await bench.entries()).filter(({ ranges }) => ranges)).toHaveLength(3);
    const { target, status, stderr } = restore(repository, shell);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(describeTree(target)).toEqual(describeTree(bench.tree));
    expect(lstatSync(join(target, 'some')).blocks * 512).toBeLessThan(100_000);
  });

  test.each(['dash', 'bash'])('restores a tree with any names, in %s', async (shell) => {
    const names = [
      'with  space ',
      "quo'te",
      'dou"ble',
      'new\nline',
      'ends in newline\n',
      '-dash',
      '--',
      '-x',
      'per%cent',
      '-%41',
      '%[a]*?',
      'back\\slash',
      '*',
      '[a]',
      '?',
      '$(touch x)',
      '`x`',
      'c:drive',
      'caf\xc3\xa9',
      '\xff\xfe\n',
      'x'.repeat(255),
      '\xe9'.repeat(255),
      '...',
      ';1',
      'semi;1',
      '\xf0\x9f\x98\x80',
      '~',
      '#U00e9',
      '!',
    ];
    mkdirSync(at(bench.tree, 'dir \xff\n'));
    for (const name of names) {
      writeFileSync(at(bench.tree, name), `content of ${name}`);
      writeFileSync(at(bench.tree, `dir \xff\n/${name}`), `in dir ${name}`);
    }
    writeFileSync(join(bench.tree, 'empty'), '');
    writeFileSync(join(bench.tree, 'big'), Buffer.alloc(3_000_000, 'big'));
    linkSync(join(bench.tree, 'empty'), join(bench.tree, 'linked empty'));
    linkSync(join(bench.tree, '-dash'), join(bench.tree, 'linked'));
    symlinkSync(at(bench.tree, '\xff\xfe\n'), join(bench.tree, 'sym'));
    symlinkSync('-x', join(bench.tree, '-sym'));
    execFileSync('sh', [
      '-c',
      'cd "$1"; chown 12:34 ./linked; chmod 4751 ./linked; chmod 0 empty; chown -h 7:8 sym; touch -d @-5.000000001 big; touch -d @0.5 ./*space*',
      'sh',
      bench.tree,
    ]);
    execFileSync('mkdir', ['-p', join(bench.tree, 'databases/a%2Fb')]);
    writeFileSync(join(bench.tree, 'databases/a%2Fb/toc.dat'), 'PGDMP');
    execFileSync('sh', [
      '-c',
      'cd "$1"; chmod 1700 databases; chmod 2750 .; chown 3:4 .; touch -d @1700000000.123456789 databases .',
      'sh',
      bench.tree,
    ]);
    const { target, status, stderr } = restore(await commit(), shell);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(describeTree(target)).toEqual(describeTree(bench.tree));
  });

  // The selection is compared with that of a restore, for each kind of path and each name of a file with several names.
  test.each(['dash', 'bash'])('restores any path that is given, in %s', async (shell) => {
    const names = [
      'a/first',
      'a/\xff\xfe\n',
      'b/\xff',
      'b/caf\xc3\xa9',
      'b/ends\n',
      'b/sub/second',
      'b/third',
      'c/\xff/x',
      'c/y',
    ];
    for (const name of ['a', 'b/sub', 'c/\xff', 'c/\xef\xbf\xbd']) mkdirSync(at(bench.tree, name), { recursive: true });
    for (const name of names) writeFileSync(at(bench.tree, name), `content of ${name}`);
    writeFileSync(at(bench.tree, 'c/\xef\xbf\xbd/x'), 'another name, which a lossy decoder takes for the first');
    const link = (from: string, to: string) => linkSync(at(bench.tree, from), at(bench.tree, to));
    for (const name of ['a/link', 'b/link', 'b/sub/\xfelink', 'c/link', 'd']) link('a/\xff\xfe\n', name);
    writeFileSync(at(bench.tree, 'a/large'), randomBytes(10_000_000));
    for (const name of ['b/large', 'b/sub/large', 'c/\xff/large']) link('a/large', name);
    writeFileSync(at(bench.tree, 'a/empty'), '');
    for (const name of ['b/empty', 'c/\xff/empty']) link('a/empty', name);
    const repository = await commit();
    const paths = [
      'a/first',
      'a/',
      'b',
      'b/\xff',
      'b/caf\xc3\xa9',
      'b/ends\n',
      'b/large',
      'b/sub/\xfelink',
      'c/\xff',
      'd',
    ];
    for (const path of paths) {
      const { target, status, stderr } = restore(repository, shell, {}, ID, Buffer.from(path, 'latin1'));
      expect({ path, status, stderr }).toEqual({ path, status: 0, stderr: '' });
      const only = path.replace(/\/$/, '');
      const select = (one: string) => one === only || one.startsWith(`${only}/`);
      const { target: expected } = await bench.extract({ packs: [...packs] }, { select });
      const [got, wanted] = [describeTree(target), describeTree(expected)];
      // Only a restore gives the directory TARGET itself a mode, an owner and a time.
      for (const tree of [got, wanted]) tree.delete('');
      expect(got).toEqual(wanted);
      rmSync(target, { recursive: true });
    }
    for (const path of ['b/lin', 'x', 'c/\xfe']) {
      const { target, status, stderr } = restore(repository, shell, {}, ID, Buffer.from(path, 'latin1'));
      expect({ path, status, stderr }).toMatchObject({
        path,
        status: 1,
        stderr: expect.stringContaining('in web.media'),
      });
      rmSync(target, { recursive: true });
    }
  });

  test('decrypts backups encrypted with age and gpg', async () => {
    writeFileSync(join(bench.tree, 'a'), 'content '.repeat(1000));
    writeFileSync(join(bench.tree, 'random'), randomBytes(100_000));
    const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const recipient = execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim();
    const [identityFile, passphraseFile] = [join(bench.spool, 'identity'), join(bench.spool, 'passphrase')];
    writeFileSync(identityFile, identity);
    writeFileSync(passphraseFile, 'correct $(horse) `battery`\n');
    const given = { AGE_IDENTITY: identityFile, GPG_PASSPHRASE_FILE: passphraseFile };
    for (const keys of [{ ageRecipients: [recipient] }, { gpgPassphrase: 'correct $(horse) `battery`' }]) {
      const repository = await commit(keys);
      const { target, status, stderr } = restore(repository, 'dash', given);
      expect(stderr).toBe('');
      expect(status).toBe(0);
      expect(describeTree(target)).toEqual(describeTree(bench.tree));
      rmSync(target, { recursive: true });
      rmSync(repository, { recursive: true });
      mkdirSync(repository);
    }
  });

  test('takes the snapshot with the highest sequence as the latest, regardless of dates', async () => {
    writeFileSync(join(bench.tree, 'a'), 'content');
    const repository = await commit();
    const manifests = join(repository, 'shop', 'snapshots');
    const manifest = JSON.parse(readFileSync(join(manifests, ID, 'manifest.json'), 'utf8')) as Manifest;
    const put = (id: string, over: Partial<Manifest>) => {
      mkdirSync(join(manifests, id), { recursive: true });
      writeFileSync(join(manifests, id, 'manifest.json'), JSON.stringify({ ...manifest, id, ...over }));
    };
    // Its date is in the future, and its tree is missing.
    put('20271120T030000Z-aaaaaa', {
      sequence: 1,
      sources: { 'web.media': { ...whole(manifest), packs: gone, index: gone } },
    });
    put(ID, { sequence: 2 });
    put('20251120T030000Z-aaaaaa', { sequence: 3, trigger: 'safety' });
    put('20261121T030000Z-aaaaaa', {
      sequence: 4,
      sources: { 'web.media': { ...whole(manifest), status: 'partial' } },
    });
    put('20261122T030000Z-aaaaaa', {
      sequence: 5,
      trigger: 'import',
      sources: { 'web.media': { ...whole(manifest), packs: gone, index: gone } },
    });
    const { target, status, stderr } = restore(repository, 'dash', {}, 'latest');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe('content');
  });

  test('refuses damaged objects and a target that is not empty', async () => {
    writeFileSync(join(bench.tree, 'a'), 'content');
    const repository = await commit();
    const { target } = restore(repository, 'sh');
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe('content');
    expect(restore(repository, 'sh')).toMatchObject({ status: 1, stderr: expect.stringContaining('not empty') });
    const [pack] = execFileSync('find', [repository, '-name', '*.zip*'], { encoding: 'utf8' }).trim().split('\n');
    const bytes = readFileSync(pack!);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(pack!, bytes);
    expect(restore(repository, 'dash')).toMatchObject({ status: 1, stderr: expect.stringContaining('did NOT match') });
  });
});
