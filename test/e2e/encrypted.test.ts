import { execFileSync } from 'node:child_process';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, postgres, Stack, type StackOptions } from '../harness/stack.ts';

const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const recipient = execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim();
const PASSPHRASE = 'canary horse battery';

/** Names of the objects that can be read without a key. */
const RECORDS =
  /^(lifeboat\.json|[^/]+\/(snapshots\/[^/]+\/(manifest\.json|[^/]+\.packs\.ndjson\.zst)|(restores|pins|tombstones|unreferenced|leases)\/[^/]+))$/;

/** An agent that can write but not read, then one that can, then one with other keys. */
describe('encrypted backups', () => {
  let stack: Stack;
  const base: StackOptions = {
    services: {
      db: postgres(17, { environment: { POSTGRES_DB: 'app' } }),
      web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
    },
    volumes: { media: {} },
    receiver: false,
  };

  const withKeys = async (env: Record<string, string>) => {
    await stack.write({ ...base, env });
    await stack.compose('up', '--detach', '--wait', '--wait-timeout', '120', 'lifeboat');
  };
  const backup = async () => {
    const { report, stderr } = await stack.backup();
    expect(report.status, JSON.stringify(report) + stderr).toBe('ok');
    return report;
  };
  const digest = () => stack.psql("SELECT count(*), md5(string_agg(v, ',' ORDER BY id)) FROM t", { database: 'app' });
  const media = () => stack.exec('web', ['sh', '-c', 'cd /media && find . -type f | sort | xargs sha256sum']);

  /** Returns the first bytes of every object that is not a record. */
  async function headers(): Promise<Map<string, Buffer>> {
    const found = new Map<string, Buffer>();
    for (const key of await stack.objects()) {
      if (RECORDS.test(key)) continue;
      const file = await open(path.join(stack.directory, 'backups', key));
      found.set(key, (await file.read(Buffer.alloc(32), 0, 32, 0)).buffer);
      await file.close();
    }
    return found;
  }

  beforeAll(async () => {
    stack = await Stack.start({ ...base, env: { LIFEBOAT_AGE_RECIPIENTS: recipient } });
    await stack.psql(
      'CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 5000) i',
      { database: 'app' },
    );
    await stack.exec('web', [
      'sh',
      '-c',
      'cd /media && head -c 20000000 /dev/urandom > large && for i in $(seq 1 100); do echo "$i" > "canary-$i.txt"; done',
    ]);
  });
  afterAll(() => stack?.destroy());

  it('are created and compared without an identity, and nothing in them is readable', async () => {
    await backup();
    await stack.exec('web', ['sh', '-c', 'echo more > /media/canary-more.txt']);
    const { results } = await backup();
    const second = results.find(({ name }) => name === 'web.media');
    expect(second).toMatchObject({ files: 102, newFiles: 1, warnings: [] });
    expect(second?.newBytes).toBeLessThan(10_000);
    const found = await headers();
    expect(found.size).toBeGreaterThan(8);
    for (const [key, bytes] of found) {
      expect(key).toMatch(/\.age$/);
      expect(key).not.toContain('canary');
      expect(bytes.toString('latin1'), key).toMatch(/^age-encryption\.org\/v1\n/);
    }
    const check = await stack.lifeboat('check', '--read-data');
    expect({ code: check.code, stdout: check.stdout }).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/age key [0-9a-f]{8}: needed by 2 snapshots/),
    });
    expect((await stack.lifeboat('plan')).stdout).toContain('encrypted to 1 age recipient');
  });

  it('are refused without the key before anything changes, and restored with it', async () => {
    const before = { rows: await digest(), files: await media() };
    for (const source of ['db.postgres', 'web.media']) {
      const refused = await stack.lifeboat('restore', 'latest', source);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain('KEY_MISSING');
      expect(refused.stderr).toContain('LIFEBOAT_AGE_IDENTITY_FILE');
    }
    expect({ rows: await digest(), files: await media() }).toEqual(before);
    await stack.psql('DROP DATABASE app WITH (FORCE)');
    await stack.exec('web', ['sh', '-c', 'rm -rf /media/*']);
    await withKeys({ LIFEBOAT_AGE_RECIPIENTS: recipient, LIFEBOAT_AGE_IDENTITY: identity });
    for (const source of ['db.postgres', 'web.media']) {
      const restored = await stack.lifeboat('restore', 'latest', source);
      expect(restored.code, restored.stderr).toBe(0);
    }
    expect({ rows: await digest(), files: await media() }).toEqual(before);
    const log = await stack.logs('lifeboat');
    expect(log).not.toContain(/^AGE-.*$/m.exec(identity)?.[0]);
  });

  it('with a passphrase follow, which store everything again, and both can be read', async () => {
    const files = await media();
    const first = (await headers()).size;
    await withKeys({ LIFEBOAT_GPG_PASSPHRASE: PASSPHRASE, LIFEBOAT_AGE_IDENTITY: identity });
    const { results } = await backup();
    expect(results.find(({ name }) => name === 'web.media')).toMatchObject({
      newFiles: 102,
      warnings: [expect.stringContaining('the encryption keys are not those of the last snapshot')],
    });
    const found = await headers();
    const added = [...found].filter(([key]) => key.endsWith('.gpg'));
    expect([...found].filter(([key]) => key.endsWith('.age'))).toHaveLength(first);
    expect(found.size).toBe(first + added.length);
    // A symmetric-key packet of version 4, followed by the encrypted data.
    for (const [key, bytes] of added) expect([bytes[0], bytes[2]], key).toEqual([0x8c, 4]);
    for (const [snapshot, expected] of [
      ['latest', files],
      [(await stack.json<{ snapshots: { id: string }[] }>('snapshots')).snapshots.at(-1)?.id ?? '', undefined],
    ] as const) {
      await stack.exec('web', ['sh', '-c', 'rm -rf /media/*']);
      const restored = await stack.lifeboat('restore', snapshot, 'web.media');
      expect(restored.code, restored.stderr).toBe(0);
      if (expected !== undefined) expect(await media()).toBe(expected);
      else expect((await media()).trim().split('\n')).toHaveLength(101);
    }
  });
});
