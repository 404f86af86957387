import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { ok, postgres, type Ran, Stack, until, whileRuns } from '../harness/stack.ts';
import { askRestored, expectFailedCleanly, expectNextRunGood, remember } from './outcome.ts';

const ASK = "SELECT count(*), sum(id), md5(string_agg(v, ',' ORDER BY id)) FROM t";
const FILL = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i;`;

function ending(child: ChildProcess): Promise<Ran> {
  const ran = { code: -1, stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk: Buffer) => (ran.stdout += chunk));
  child.stderr?.on('data', (chunk: Buffer) => (ran.stderr += chunk));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ ...ran, code: code ?? -1 }));
  });
}

/** A paused container keeps its connections open and does not respond, so every wait must have a limit. */
describe('a Postgres server that is paused during queries', () => {
  let stack: Stack;
  let good: RunReport;
  let small: string;

  beforeAll(async () => {
    stack = await Stack.start({ services: { db: postgres(17) } });
    await stack.psql('CREATE DATABASE small');
    await stack.psql(FILL, { database: 'small' });
    small = await stack.psql(ASK, { database: 'small' });
    good = await expectNextRunGood(stack);
  });
  afterAll(() => stack?.destroy());

  /** Runs a command that waits for a lock on `catalogue`. Pauses the database from then until the command ends. */
  async function pauseAt(catalogue: string, command: readonly string[]): Promise<Ran> {
    const lock = stack.psql(`BEGIN; LOCK TABLE ${catalogue}; SELECT pg_sleep(600); COMMIT`).catch(String);
    const holders = `FROM pg_locks WHERE relation = '${catalogue}'::regclass AND granted AND mode = 'AccessExclusiveLock'`;
    await until(`${catalogue} is locked`, async () => (await stack.psql(`SELECT 1 ${holders}`)) === '1');
    const child = stack.spawnWith({ LIFEBOAT_STALL_TIMEOUT: '20s' }, ...command);
    const ended = ending(child);
    const db = await stack.id('db');
    let took = 0;
    try {
      const waiting = `SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE relation = '${catalogue}'::regclass AND NOT granted AND application_name LIKE 'lifeboat%'`;
      await whileRuns(
        ended,
        until('it waits', async () => (await stack.psql(waiting)) === '1'),
      );
      await stack.pause(db);
      const pausedAt = Date.now();
      const late = new Promise<never>((_, reject) => {
        setTimeout(() => reject(new Error('it still waits for the paused database')), 110_000).unref();
      });
      await Promise.race([ended, late]).finally(() => ok('docker', ['unpause', db]));
      took = Date.now() - pausedAt;
    } finally {
      child.kill();
      await stack.psql(`SELECT pg_terminate_backend(pid) ${holders}`);
    }
    expect(await lock).toContain('terminating connection');
    expect(took).toBeLessThan(80_000);
    return ended;
  }

  it('ends a backup whose pg_dumpall waits for it', async () => {
    const before = await remember(stack);
    // Only pg_dumpall reads that catalogue.
    const ran = await pauseAt('pg_parameter_acl', ['backup', '--json']);
    await expectFailedCleanly(stack, before, { ...ran, report: JSON.parse(ran.stdout) }, { code: 'PG_STALLED' });
  });

  it('ends a restore that inspects its target, and changes nothing', async () => {
    const ran = await pauseAt('pg_subscription', [
      ...['restore', good.id, 'db.postgres', '--database', 'small', '--yes', '--json'],
    ]);
    expect(ran.code, ran.stderr).toBe(1);
    expect(ran.stdout + ran.stderr).toContain('PG_STALLED');
    expect(await stack.helpers()).toEqual([]);
    expect(await stack.psql(ASK, { database: 'small' })).toBe(small);
  });

  it('is reported as paused at once, by a backup, a plan and a restore', async () => {
    const db = await stack.id('db');
    await stack.pause(db);
    const begun = performance.now();
    try {
      const restored = await stack.lifeboat('restore', good.id, 'db.postgres', '--database', 'small', '--yes');
      expect(restored.code).toBe(1);
      expect(restored.stderr).toMatch(/is paused, so its server does not answer.*PG_UNREACHABLE[\s\S]*docker unpause/);
      const { code, report } = await stack.backup();
      expect(code).toBe(1);
      const message = expect.stringContaining('is paused');
      expect(report.results[0]?.error).toMatchObject({ code: 'PG_UNREACHABLE', message });
      const plan = await stack.lifeboat('plan');
      expect(plan.stdout + plan.stderr).toContain('is paused');
      // Each of them waited for 46 s before.
      expect(performance.now() - begun).toBeLessThan(100_000);
    } finally {
      await ok('docker', ['unpause', db]);
    }
  });

  it('is reported as restarting while its container is in a crash loop', async () => {
    const looping = { ...postgres(17), restart: 'always', command: ['postgres', '-c', 'shared_buffers=lots'] };
    await stack.write({ services: { db: looping } });
    await stack.compose('up', '--detach', '--no-deps', 'db');
    const says = /restarts again and again \(\d+ times so far(, last with exit status 1)?\)/;
    try {
      const { code, report } = await stack.backup();
      expect(code).toBe(1);
      expect(report.results[0]?.error).toMatchObject({
        code: 'PG_UNREACHABLE',
        message: expect.stringMatching(says),
        hint: expect.stringContaining('docker logs'),
      });
      const plan = await stack.lifeboat('plan');
      expect(plan.stdout + plan.stderr).toMatch(says);
      const restored = await stack.lifeboat('restore', good.id, 'db.postgres', '--database', 'small', '--yes');
      expect(restored.code).toBe(1);
      expect(restored.stdout + restored.stderr).toMatch(says);
    } finally {
      await stack.write({ services: { db: postgres(17) } });
      await stack.compose('up', '--detach', '--wait', 'db');
    }
  });

  it('works again afterwards', async () => {
    const next = await expectNextRunGood(stack);
    expect(await askRestored(stack, next.id, 'small', ASK)).toBe(small);
  });
});
