import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckResult } from '../../src/check/check.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { holder, ok, postgres, Stack, type StackOptions } from '../harness/stack.ts';
import { packsIn } from './repository-check.ts';

const SIGNING = 'a-key-that-only-this-test-knows';
const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const recipient = execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim();

/**
 * An agent that can write and sign but not read, and one that can do everything, against an attacker with the public
 * key.
 */
describe('encrypted and signed backups', () => {
  let stack: Stack;
  const options = (env: Record<string, string>): StackOptions => ({
    services: {
      db: postgres(17, { environment: { POSTGRES_DB: 'app' } }),
      web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
    },
    volumes: { media: {} },
    receiver: false,
    env: {
      LIFEBOAT_SCHEDULE: '0 0 1 1 *',
      LIFEBOAT_AGE_RECIPIENTS: recipient,
      LIFEBOAT_SIGNING_KEY: SIGNING,
      ...env,
    },
  });
  const file = (key: string) => path.join(stack.directory, 'backups', key);
  const manifestOf = (id: string) => file(`${stack.project}/snapshots/${id}/manifest.json`);
  const rows = () => stack.psql("SELECT count(*), md5(string_agg(v, ',' ORDER BY id)) FROM t", { database: 'app' });
  const media = () => stack.exec('web', ['sh', '-c', 'cd /media && find . -type f | sort | xargs sha256sum']);
  const restore = async (source: string) => {
    const { code, stdout } = await stack.lifeboat('restore', 'latest', source, '--yes', '--json');
    return { code, error: (JSON.parse(stdout) as { error?: { code: string } }).error?.code };
  };
  const check = async () => {
    const { code, stdout } = await stack.lifeboat('check', '--read-data', '--json');
    const { manifests, damaged, signatures, keys } = JSON.parse(stdout) as CheckResult;
    return { code, codes: [...manifests, ...damaged].map(({ error }) => error.code), signatures, keys };
  };
  let newest: Manifest;
  let stored: { rows: string; files: string };

  beforeAll(async () => {
    stack = await Stack.start(options({}));
    await stack.psql(
      'CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) i',
      { database: 'app' },
    );
    await stack.exec('web', ['sh', '-c', 'for i in 1 2 3; do head -c 200000 /dev/urandom > "/media/$i"; done']);
  });
  afterAll(() => stack?.destroy());

  it('are incremental without the identity, and check reports both keys', async () => {
    expect((await stack.backup()).report.status).toBe('ok');
    await stack.exec('web', ['sh', '-c', 'echo more > /media/more']);
    stored = { rows: await rows(), files: await media() };
    const { report } = await stack.backup();
    expect(report).toMatchObject({ status: 'ok' });
    expect(report.results.find(({ name }) => name === 'web.media')).toMatchObject({ newFiles: 1, warnings: [] });
    newest = JSON.parse(await readFile(manifestOf(report.snapshot as string), 'utf8')) as Manifest;
    expect(await check()).toMatchObject({
      ...{ code: 0, codes: [] },
      signatures: { checked: true, signed: 2, unsigned: [], keys: [newest.signature?.keyId] },
      keys: [{ encryption: 'age', snapshots: [newest.id, expect.any(String)] }],
    });
    // The key is in the settings, but nowhere in the repository or the log.
    const found = await ok('grep', ['--recursive', '--files-with-matches', SIGNING, stack.directory]);
    expect(found.trim()).toBe(path.join(stack.directory, 'compose.yaml'));
    expect(await stack.logs('lifeboat')).not.toContain(SIGNING);
  });

  it('are refused after tampering, with all keys set, and nothing changes', async () => {
    await stack.write(options({ LIFEBOAT_AGE_IDENTITY: identity }));
    await stack.compose('up', '--detach', '--wait', '--wait-timeout', '120', 'lifeboat');
    // Existing equal files would not be fetched.
    await stack.exec('web', ['sh', '-c', 'for file in /media/*; do echo other > "$file"; done']);
    const before = { rows: await rows(), files: await media() };
    const of = (source: string) => newest.sources[source] ?? expect.fail(`no ${source}`);
    const list = (source: string) => of(source).packs ?? expect.fail('no packs');
    const indexKey = of('web.media').index?.key ?? '';
    const flip = (bytes: Buffer) => {
      bytes[bytes.length - 20]! ^= 1;
      return bytes;
    };
    const identityFile = path.join(stack.directory, 'identity');
    await writeFile(identityFile, identity);
    const sealAnew = (bytes: Buffer) => {
      const plain = execFileSync('age', ['-d', '-i', identityFile, file(indexKey)]);
      const again = execFileSync('age', ['-r', recipient], { input: plain });
      expect(again.length).toBe(bytes.length);
      return again;
    };
    const other = (bytes: Buffer) => Buffer.from(bytes.toString().replace('"agentVersion":"', '"agentVersion":"9'));
    for (const [source, key, change, error] of [
      ['web.media', indexKey, sealAnew, 'OBJECT_DAMAGED'],
      ['web.media', (await packsIn(file(''), list('web.media'))).at(-1)?.key ?? '', flip, 'OBJECT_DAMAGED'],
      ['db.postgres', (await packsIn(file(''), list('db.postgres')))[0]?.key ?? '', flip, 'OBJECT_DAMAGED'],
      ['db.postgres', of('db.postgres').facts?.key ?? '', flip, 'OBJECT_DAMAGED'],
      ['db.postgres', path.relative(file(''), manifestOf(newest.id)), other, 'SIGNATURE_WRONG'],
    ] as const) {
      const bytes = await readFile(file(key));
      const changed = change(Buffer.from(bytes));
      expect(changed.equals(bytes)).toBe(false);
      await writeFile(file(key), changed);
      expect(await restore(source), key).toEqual({ code: 1, error });
      await writeFile(file(key), bytes);
    }
    expect({ rows: await rows(), files: await media() }).toEqual(before);
    expect(await check()).toMatchObject({ code: 0, codes: [] });
  });

  it('are restored with all keys', async () => {
    await stack.psql('DROP DATABASE app WITH (FORCE)');
    await stack.exec('web', ['sh', '-c', 'rm -rf /media/*']);
    for (const source of ['db.postgres', 'web.media'])
      expect(await restore(source)).toEqual({ code: 0, error: undefined });
    expect({ rows: await rows(), files: await media() }).toEqual(stored);
    // Everything stored in between is signed and encrypted, including safety snapshots and their pins.
    expect(await check()).toMatchObject({ code: 0, codes: [], signatures: { checked: true, unsigned: [] } });
    for (const key of await stack.objects()) {
      if (!/\/packs\/|\.(index|facts)\./.test(key)) continue;
      expect((await readFile(file(key))).subarray(0, 22).toString(), key).toBe('age-encryption.org/v1\n');
    }
  });
});
