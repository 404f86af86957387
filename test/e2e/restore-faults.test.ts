import { copyFile, cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import { GATE, openGates, shutGate } from '../harness/gate.ts';
import { ok, postgres, type Ran, Stack, until, whileRuns } from '../harness/stack.ts';

const CONTENT = "SELECT count(*), md5(string_agg(v, ',' ORDER BY id)) FROM t";

/** The outcome of a restore that loses a container, a process or an object. */
describe('a restore with a fault', () => {
  let stack: Stack;
  let expected: string;

  const error = ({ stdout }: Ran) => (JSON.parse(stdout) as { error?: ErrorInfo }).error?.code;
  const names = async () =>
    (await stack.psql('SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname COLLATE "C"')).split(
      '\n',
    );
  const working = async () => (await names()).find((name) => /^app(_2)?__restoring_[0-9a-f]{6}$/.test(name));
  const rowsLoading = () =>
    stack.psql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'");

  /** Starts a restore. Returns while it loads rows. */
  async function begin(...args: string[]): Promise<{ ended: Promise<number | null> }> {
    const child = stack.spawn('restore', 'latest', 'db.postgres', '--database', 'app', ...args);
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const loads = async () => (await working()) && Number(await rowsLoading()) > 0;
    await whileRuns(ended, until('the restore loads rows', loads));
    return { ended };
  }

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          environment: { POSTGRES_DB: 'app' },
          command: ['postgres', '-c', 'fsync=off', '-c', 'autovacuum=off'],
        }),
      },
      env: { LIFEBOAT_STALL_TIMEOUT: '5m' },
      receiver: false,
    });
    // The load is slow enough to be disturbed: the check of each row takes 20 ms, and waits while the gate is closed.
    await stack.psql(
      `CREATE ROLE mate;
       CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
         LOOP
           PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
           EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE query = '${GATE}');
         END LOOP;
         RETURN true;
       END $$;
       CREATE TABLE t (id int PRIMARY KEY, v text);
       INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 250) i;
       ALTER TABLE t ADD CONSTRAINT slow CHECK (slow(id));
       CREATE TABLE quick AS SELECT i FROM generate_series(1, 5000) i;`,
      { database: 'app' },
    );
    expected = await stack.psql(CONTENT, { database: 'app' });
    expect((await stack.backup()).report.status).toBe('ok');
  });
  afterEach(() => openGates(stack));
  afterAll(() => stack?.destroy());

  it.each([
    ['its agent is killed', async () => ok('docker', ['kill', await stack.id('lifeboat')])],
    ['its process is killed', () => stack.exec('lifeboat', ['sh', '-c', signalRestore('KILL')])],
  ])('leaves nothing under the name if %s, and the next start drops the rest', async (_, kill) => {
    await stack.psql('DROP DATABASE app WITH (FORCE)');
    const openGate = await shutGate(stack);
    const { ended } = await begin();
    await kill();
    expect(await ended).not.toBe(0);
    expect(await working()).toBeDefined();
    expect(await names()).not.toContain('app');
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    // The agent notices a killed process within a minute, and its own end at the next start.
    await until('the leftover is dropped', async () => !(await working()), 180_000, 1000);
    expect(await names()).toEqual(['postgres']);
    // It was dropped through a helper, which is removed a moment later.
    await until('no helper is left', async () => (await stack.helpers()).length === 0);
    await openGate();
    const ran = await stack.lifeboatInTurn('restore', 'latest', 'db.postgres', '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await stack.psql(CONTENT, { database: 'app' })).toBe(expected);
  });

  it('fails and cleans up at once if its helper is killed', async () => {
    await stack.psql('DROP DATABASE app WITH (FORCE)');
    const openGate = await shutGate(stack);
    const { ended } = await begin();
    const [helper] = await stack.helpers();
    await ok('docker', ['kill', helper as string]);
    expect(await ended).toBe(1);
    await openGate();
    expect(await names()).toEqual(['postgres']);
    expect(await stack.helpers()).toEqual([]);
  });

  it('fails and cleans up if it is interrupted', async () => {
    const openGate = await shutGate(stack);
    const { ended } = await begin();
    await stack.exec('lifeboat', ['sh', '-c', signalRestore('INT')]);
    expect(await ended).toBe(130);
    await openGate();
    expect(await names()).toEqual(['postgres']);
    expect(await stack.helpers()).toEqual([]);
  });

  it('fails if the server ends, and cleans up when it is back', async () => {
    await shutGate(stack);
    const { ended } = await begin();
    await stack.compose('kill', 'db');
    expect(await ended).toBe(1);
    await stack.compose('up', '--detach', '--wait', 'db');
    expect(await names()).not.toContain('app');
    const ran = await stack.lifeboatInTurn('restore', 'latest', 'db.postgres', '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await names()).toEqual(['app', 'postgres']);
    expect(await stack.psql(CONTENT, { database: 'app' })).toBe(expected);
  });

  it('excludes other runs: neither a backup nor another restore begins', async () => {
    const openGate = await shutGate(stack);
    const { ended } = await begin('--to-database', 'app_2');
    for (const args of [['backup'], ['restore', 'latest', 'db.postgres', '--to-database', 'app_3']]) {
      const ran = await stack.lifeboat(...args, '--json');
      expect({ code: ran.code, error: error(ran) }).toEqual({ code: 11, error: 'LOCKED' });
    }
    await openGate();
    expect(await ended).toBe(0);
    expect(await names()).toEqual(['app', 'app_2', 'postgres']);
  });

  it('refuses a damaged repository before it changes the server', async () => {
    const backups = path.join(stack.directory, 'backups');
    const whole = path.join(stack.directory, 'whole');
    await cp(backups, whole, { recursive: true, preserveTimestamps: true });
    const objects = await stack.objects();
    const object = (part: RegExp) => path.join(backups, objects.find((name) => part.test(name)) as string);
    const pack = object(/\/packs\//);
    const manifest = object(/manifest\.json$/);
    const flip = async (file: string, at: (size: number) => number) => {
      const bytes = await readFile(file);
      bytes[at(bytes.length)]! ^= 1;
      await writeFile(file, bytes);
    };
    const half = (size: number) => size >> 1;
    const damages: [what: string, file: string, code: string, damage: () => Promise<void>][] = [
      ['a flipped bit in a pack', pack, 'OBJECT_DAMAGED', () => flip(pack, half)],
      ['a truncated pack', pack, 'OBJECT_DAMAGED', () => truncate(pack, 1000)],
      ['a missing pack', pack, 'OBJECT_MISSING', () => rm(pack)],
      ['a truncated manifest', manifest, 'OBJECT_DAMAGED', () => truncate(manifest, 300)],
      ['an empty manifest', manifest, 'OBJECT_DAMAGED', () => truncate(manifest, 0)],
      ['a damaged index', object(/\.index\./), 'OBJECT_DAMAGED', () => flip(object(/\.index\./), half)],
      ['a missing index', object(/\.index\./), 'OBJECT_MISSING', () => rm(object(/\.index\./))],
      ['damaged facts', object(/\.facts\./), 'OBJECT_DAMAGED', () => flip(object(/\.facts\./), half)],
    ];
    await stack.psql('DROP DATABASE app WITH (FORCE)');
    await stack.psql('DROP DATABASE app_2 WITH (FORCE)');
    await stack.psql('DROP ROLE mate');
    const nextId = 'SELECT pg_snapshot_xmax(pg_current_snapshot())';
    const before = await stack.psql(nextId);
    const found: string[] = [];
    for (const [what, file, , damage] of damages) {
      await damage();
      const ran = await stack.lifeboat('restore', 'latest', 'db.postgres', '--globals', '--json');
      found.push(`${what}: ${ran.code} ${error(ran)}`);
      await copyFile(path.join(whole, path.relative(backups, file)), file);
    }
    expect(found).toEqual(damages.map(([what, , code]) => `${what}: 1 ${code}`));
    // No transaction has written anything.
    expect(await stack.psql(nextId)).toBe(before);
    expect(await names()).toEqual(['postgres']);
    expect((await stack.lifeboat('restore', 'latest', 'db.postgres', '--globals')).code).toBe(0);
    expect(await stack.psql("SELECT rolname FROM pg_roles WHERE rolname = 'mate'")).toBe('mate');
  });
});

/** A shell command that signals the restore, which is not process 1 of the agent's container. */
function signalRestore(signal: string): string {
  return `for p in /proc/[0-9]*; do
    if tr '\\0' ' ' < $p/cmdline | grep -q 'cli[.]js restore'; then kill -${signal} "\${p#/proc/}"; fi
  done 2>/dev/null; true`;
}
