import { randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RestoreReport } from '../../src/report/events.ts';
import { holder, ok, postgres, Stack, sh, until, whileRuns } from '../harness/stack.ts';
import { times } from '../harness/times.ts';

const KILLS = Number(process.env.LIFEBOAT_KILLS ?? times(11, 15));

/** While this runs, a restore that loads the table `gated` waits, for as long as a test needs. */
const GATE = 'SELECT pg_sleep(300) AS gate';

/** Returns the rows, schema, owner and settings of a database as one value. */
const CONTENT = `SELECT md5(concat(
    (SELECT string_agg(md5(t::text), ',' ORDER BY id) FROM t),
    (SELECT string_agg(concat_ws(' ', table_name, column_name, data_type), ',' ORDER BY table_name, column_name)
       FROM information_schema.columns WHERE table_schema = 'public'),
    (SELECT string_agg(concat_ws(' ', conname, pg_get_constraintdef(oid)), ',' ORDER BY conname)
       FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f', 'c')),
    (SELECT concat_ws(' ', pg_get_userbyid(datdba), datcollate, datacl) FROM pg_database WHERE datname = current_database()),
    (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase =
      (SELECT oid FROM pg_database WHERE datname = current_database()))))`;

/** Fault 19: a restore in place is killed at any point. */
describe('a restore in place that is killed', () => {
  let stack: Stack;
  let containers: { agent: string; db: string; web: string };
  let snapshot: string;
  let contents: { restored: string; changed: string };
  let lengthMs: number;

  const sql = (text: string, database = 'postgres') => stack.psql(text, { database });
  const names = async () =>
    (await sql("SELECT datname FROM pg_database WHERE datname LIKE 'app%' ORDER BY 1")).split('\n');
  const inPlace = (...more: string[]) => [
    ...['restore', snapshot, 'db.postgres', '--database', 'app', '--yes', ...more],
  ];

  beforeAll(async () => {
    stack = await Stack.start({
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
      services: {
        db: postgres(17, {
          environment: { POSTGRES_DB: 'app' },
          command: ['postgres', '-c', 'fsync=off'],
          labels: {
            'lifeboat.postgres': 'true',
            'lifeboat.exec.restored': "sh -c 'while [ -e /tmp/hold ]; do sleep 0.1; done'",
          },
        }),
        web: holder([], {}, { depends_on: { db: { condition: 'service_healthy' } } }),
      },
    });
    const [agent, db, web] = await Promise.all(['lifeboat', 'db', 'web'].map((name) => stack.id(name)));
    containers = { agent, db, web } as typeof containers;
    await sql("CREATE ROLE owner LOGIN; ALTER DATABASE app OWNER TO owner; ALTER DATABASE app SET work_mem = '7MB'");
    await sql(
      `CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> ''));
       CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t);
       CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
         WHILE EXISTS (SELECT FROM pg_stat_activity WHERE query = '${GATE}') LOOP
           PERFORM pg_sleep(0.05), pg_stat_clear_snapshot();
         END LOOP;
         RETURN true;
       END $$;
       CREATE TABLE gated (id int CHECK (gate())); INSERT INTO gated VALUES (1);
       INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i; INSERT INTO child SELECT id, id FROM t`,
      'app',
    );
    const restored = await sql(CONTENT, 'app');
    const { report } = await stack.backup();
    expect(report.status).toBe('ok');
    snapshot = report.snapshot as string;
    await sql(
      "DELETE FROM t WHERE id > 20000; ALTER TABLE t ADD COLUMN later int DEFAULT 7; INSERT INTO t VALUES (0, 'changed')",
      'app',
    );
    contents = { restored, changed: await sql(CONTENT, 'app') };
    expect(contents.changed).not.toBe(restored);
    // Duration of a restore, from its first change on.
    const whole = spawn(inPlace('--no-safety'));
    await whole.begun;
    const from = performance.now();
    expect(await whole.ended).toBe(0);
    lengthMs = performance.now() - from;
    await rollBack();
  });
  afterAll(() => stack?.destroy());

  const starts = () =>
    stack.receiver?.requests.filter(({ path: at, body }) => at.startsWith('/services/') && / started/.test(body))
      .length ?? 0;

  /** `begun`: it has reported its start. */
  function spawn(args: string[]): { begun: Promise<unknown>; ended: Promise<number | null>; hasEnded(): boolean } {
    const before = starts();
    const child = stack.spawn(...args);
    child.stdout?.resume();
    child.stderr?.resume();
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const begun = until('it begins', async () => starts() > before || child.exitCode !== null, 60_000, 10);
    // Not every test waits for it.
    begun.catch(() => undefined);
    return { begun, ended, hasEnded: () => child.exitCode !== null };
  }

  /** Restores the changed data, and drops the databases of the restore by hand. */
  async function rollBack(): Promise<void> {
    const ran = await stack.lifeboat('rollback', '--yes', '--no-stop', '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await sql(CONTENT, 'app')).toBe(contents.changed);
    for (const name of await names()) if (name !== 'app') await sql(`DROP DATABASE ${name}`);
  }

  /** Kills the agent's container and starts it again, or kills only the process, so that the next command recovers. */
  async function kill(what: 'agent' | 'process', verb = 'restore'): Promise<void> {
    if (what === 'agent') await ok('docker', ['kill', containers.agent]);
    else await ok('docker', ['exec', containers.agent, 'sh', '-c', killProcess(verb)]);
  }

  async function recovers(what: 'agent' | 'process'): Promise<void> {
    if (what === 'process') {
      // The daemon checks each full minute. A command that begins earlier recovers too.
      const ran = await stack.lifeboatInTurn('restore', 'no-such-snapshot', 'db.postgres', '--json');
      expect(ran.stdout).toContain('SNAPSHOT_UNKNOWN');
      return;
    }
    const since = new Date().toISOString();
    await ok('docker', ['start', containers.agent]);
    await until(
      'the agent is ready',
      async () => /"msg":"ready"/.test((await sh('docker', ['logs', '--since', since, containers.agent])).stderr),
      undefined,
      100,
    );
    await until('nobody works on the project', async () => !(await stack.isMarked()), undefined, 100);
  }

  /** Checks for leftovers of a crashed restore. Returns which content is in place. */
  async function judge(when: string): Promise<'restored' | 'changed'> {
    // The server and the engine may still be ending sessions and helpers.
    const ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lifeboat%'";
    const isOver = async () => (await stack.helpers()).length === 0 && (await sql(ours)) === '0';
    await undone(when);
    await until(`its helpers and sessions are gone, killed ${when}`, isOver);
    const [content, databases, stopped] = await Promise.all([sql(CONTENT, 'app'), names(), webStopped()]);
    const found = content === contents.restored ? 'restored' : 'changed';
    const kept = databases.filter((name) => /^app__before_[0-9a-f]{6}$/.test(name));
    const expected = { content: contents[found], databases: ['app', ...kept], stopped: false };
    expect({ content, databases, stopped }, `killed ${when}`).toEqual(expected);
    expect(kept).toHaveLength(found === 'restored' ? 1 : 0);
    return found;
  }

  /** Returns leftovers of runs on the spool. */
  const openRuns = async () =>
    (
      await ok('docker', ['exec', containers.agent, 'sh', '-c', 'ls /spool/runs /spool/state/runs | grep -v :; true'])
    ).trim();

  /**
   * Waits until nothing is left to undo. The agent tries again at least each minute: a stop may take effect until its
   * timeout, and a busy server may respond too late.
   */
  const undone = (when: string) => until(`everything is undone, killed ${when}`, async () => (await openRuns()) === '');

  /** Returns the record of the newest restore. A crashed one has a record too. */
  async function newestRecord(): Promise<RestoreReport> {
    const key = (await stack.objects()).filter((name) => name.includes('/restores/')).at(-1) as string;
    return JSON.parse(await readFile(path.join(stack.directory, 'backups', key), 'utf8')) as RestoreReport;
  }

  async function expectReported(found: 'restored' | 'changed'): Promise<void> {
    const record = await newestRecord();
    // A restore that was killed after its end has written the record itself.
    if (record.status === 'ok') return;
    expect(record).toMatchObject({
      verb: 'restore',
      snapshot,
      status: 'failed',
      canRollBack: found === 'restored',
      error: { code: 'RUN_DIED' },
    });
    const told = stack.receiver?.requests.filter(
      ({ path: at, body }) => at.startsWith('/services/') && body.includes('RUN_DIED'),
    );
    expect(told?.at(-1)?.body).toContain(
      found === 'restored' ? `lifeboat rollback ${record.id}` : 'Nothing was replaced',
    );
  }

  it(`leaves the database completely old or completely new, ${KILLS} times`, async () => {
    const seen = { restored: 0, changed: 0, before: 0, late: 0, slow: 0 };
    for (let round = 0; round < KILLS; round++) {
      const what = round % 3 === 2 ? 'process' : 'agent';
      const records = (await stack.objects()).length;
      const restore = spawn(inPlace('--no-safety', ...(round % 2 === 0 ? [] : ['--live'])));
      const early = round % 11 === 5;
      if (!early) await restore.begun;
      // More points before and around the swap than while the services become healthy again.
      const delay = early ? randomInt(1500) : ((round + randomInt(1000) / 1000) / KILLS) ** 1.7 * lengthMs;
      const from = performance.now();
      await sleep(delay);
      if (restore.hasEnded()) {
        // The machine is faster than before. Repeat this point within the new length.
        expect(seen.late++).toBeLessThan(KILLS);
        lengthMs = Math.min(lengthMs, performance.now() - from) * 0.95;
        await rollBack();
        round--;
        continue;
      }
      await kill(what);
      await restore.ended;
      await recovers(what);
      const found = await judge(`${what} after ${Math.round(delay)} of ${Math.round(lengthMs)} ms`);
      seen[found]++;
      if ((await stack.objects()).length > records) await expectReported(found);
      else {
        seen.before++;
        expect({ found, early }).toEqual({ found: 'changed', early: true });
      }
      if (found === 'restored') await rollBack();
      if (round === KILLS - 1 && seen.restored === 0) {
        // The machine is slower than before: no kill came after the swap.
        expect(seen.slow++).toBeLessThan(KILLS);
        lengthMs *= 1.4;
        round--;
      }
    }
    process.stderr.write(`killed ${KILLS} times over ${Math.round(lengthMs)} ms: ${JSON.stringify(seen)}\n`);
    expect(seen.changed).toBeGreaterThan(0);
    expect(seen.restored).toBeGreaterThan(0);
  }, 1_800_000);

  const activity = (like: string) => async () =>
    (await sql(`SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lifeboat%' AND ${like}`)) !== '0';

  it.each([
    ['its safety snapshot is taken', () => stack.helpers().then((all) => all.length > 1), []],
    ['it loads', activity("datname LIKE 'app\\_\\_restoring%' AND backend_type = 'client backend'"), ['--no-safety']],
    ['the web service is stopped', webStopped, ['--no-safety']],
    ['it loads with --live, and the web service runs', loadsLive, ['--no-safety', '--live']],
  ] as const)('leaves the old database if it is killed while %s', async (_, moment, more) => {
    await ok('docker', ['exec', '--detach', containers.db, 'psql', '-XqU', 'postgres', '-d', 'template1', '-c', GATE]);
    const atGate = `FROM pg_stat_activity WHERE query = '${GATE}'`;
    await until('the gate is shut', async () => (await sql(`SELECT count(*) ${atGate}`)) === '1');
    // A safety snapshot waits for that. Only the preview reads the rows too, and not for long.
    const lock = more.length === 0 ? sql('BEGIN; LOCK TABLE child; SELECT pg_sleep(300)', 'app').catch(String) : '';
    const locks = "FROM pg_locks WHERE relation = 'child'::regclass AND granted AND mode = 'AccessExclusiveLock'";
    if (lock) await until('the lock is held', async () => (await sql(`SELECT 1 ${locks}`, 'app')) === '1');
    const restore = spawn(inPlace(...more));
    await whileRuns(restore.ended, until('the moment', moment, 180_000, 20));
    await kill('agent');
    await restore.ended;
    await recovers('agent');
    await sql(`SELECT pg_terminate_backend(pid) ${atGate}`);
    await sql(`SELECT pg_terminate_backend(pid) ${locks}`, 'app');
    await lock;
    expect(await judge(_)).toBe('changed');
    await expectReported('changed');
    const { snapshots } = await stack.json<{ snapshots: { id: string; trigger: string }[] }>('snapshots');
    expect(snapshots.map(({ trigger }) => trigger)).toEqual(['manual']);
    expect(await stack.logs('lifeboat')).not.toContain('"msg":"run failed"');
  });

  async function loadsLive(): Promise<boolean> {
    const loads = activity("datname LIKE 'app\\_\\_restoring%' AND query LIKE 'COPY%'");
    return (await loads()) && !(await webStopped());
  }

  async function webStopped(): Promise<boolean> {
    return (await ok('docker', ['inspect', '--format', '{{.State.Running}}', containers.web])).trim() === 'false';
  }

  it('leaves the old database if it is killed while its rename waits, even if the rename could continue', async () => {
    // A statement about the database, in a session on another one, blocks the rename until its transaction ends.
    const id = containers.db;
    const hold = "BEGIN; COMMENT ON DATABASE app IS 'held'; SELECT pg_sleep(300); ROLLBACK";
    await ok('docker', ['exec', '--detach', id, 'psql', '-XqU', 'postgres', '-d', 'template1', '-c', hold]);
    const held = "query LIKE '%held%' AND wait_event = 'PgSleep' AND pid <> pg_backend_pid()";
    await until(
      'it is held up',
      async () => (await sql(`SELECT count(*) FROM pg_stat_activity WHERE ${held}`)) === '1',
    );
    const restore = spawn(inPlace('--no-safety', '--live'));
    const waits = activity("query LIKE 'ALTER DATABASE%RENAME%' AND wait_event_type = 'Lock'");
    await whileRuns(restore.ended, until('the rename waits', waits));
    expect(await webStopped()).toBe(true);
    await kill('agent');
    await restore.ended;
    await recovers('agent');
    await sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%held%' AND pid <> pg_backend_pid()",
    );
    expect(await judge('while its rename waits')).toBe('changed');
    await expectReported('changed');
  });

  it('leaves the new database if it is killed right after the swap', async () => {
    const restore = spawn(inPlace('--no-safety', '--live'));
    const swapped = async () => (await names()).some((name) => name.startsWith('app__before_'));
    await whileRuns(restore.ended, until('the swap', swapped, 180_000, 5));
    await kill('agent');
    await restore.ended;
    await recovers('agent');
    expect(await judge('right after the swap')).toBe('restored');
    await expectReported('restored');
    await rollBack();
  });

  it('says that a database which was gone is in place, if it is killed before its commands have run', async () => {
    await ok('docker', ['exec', containers.db, 'touch', '/tmp/hold']);
    await sql('ALTER DATABASE app RENAME TO app_aside');
    const restore = spawn(inPlace('--no-safety'));
    const swapped = async () => (await names()).includes('app');
    await whileRuns(restore.ended, until('the swap', swapped, 180_000, 20));
    await kill('agent');
    await restore.ended;
    await recovers('agent');
    await undone('after the swap of a database that was gone');
    expect(await sql(CONTENT, 'app')).toBe(contents.restored);
    const record = await newestRecord();
    expect(record).toMatchObject({ status: 'failed', canRollBack: false, undo: 'DROP DATABASE "app"' });
    expect(record.error?.hint).toBe(
      'The restored data is in place, complete. If a service has `lifeboat.exec.restored`, run that command.',
    );
    await ok('docker', ['exec', containers.db, 'rm', '/tmp/hold']);
    await sql('DROP DATABASE app');
    await sql('ALTER DATABASE app_aside RENAME TO app');
  });

  it('is reported correctly after a killed rollback, and another rollback restores the data', async () => {
    const seen = { restored: 0, changed: 0 };
    expect((await stack.lifeboat(...inPlace('--no-safety'))).code).toBe(0);
    let now: keyof typeof seen = 'restored';
    for (let round = 0; round < times(4, 6); round++) {
      const rollback = spawn(['rollback', '--yes']);
      await rollback.begun;
      await sleep(randomInt(1200));
      const what = round % 2 === 0 ? 'agent' : 'process';
      await kill(what, 'rollback');
      await rollback.ended;
      await recovers(what);
      await undone('in a rollback');
      const content = await sql(CONTENT, 'app');
      const found = content === contents.restored ? 'restored' : 'changed';
      expect(content).toBe(contents[found]);
      expect((await names()).length).toBe(2);
      const { restores } = await stack.json<{ restores: { inUse: string }[] }>('status');
      expect(restores).toMatchObject([{ inUse: found === 'restored' ? 'restored' : 'before' }]);
      const record = await newestRecord();
      expect(record).toMatchObject({ verb: 'rollback' });
      if (record.status === 'failed') expect(record.canRollBack).toBe(found !== now);
      await until('no helper is left', async () => (await stack.helpers()).length === 0);
      expect(await webStopped()).toBe(false);
      seen[found]++;
      now = found;
    }
    process.stderr.write(`rollbacks killed: ${JSON.stringify(seen)}\n`);
    if (now === 'restored') expect((await stack.lifeboat('rollback', '--yes', '--no-stop')).code).toBe(0);
    expect(await sql(CONTENT, 'app')).toBe(contents.changed);
    const { restores } = await stack.json<{ restores: unknown[] }>('status');
    expect(restores).toHaveLength(1);
  });
});

/** Kills a Lifeboat command, which is not process 1 of the container. */
function killProcess(verb: string): string {
  return `for p in /proc/[0-9]*; do
    if tr '\\0' ' ' < $p/cmdline | grep -q 'cli[.]js ${verb} '; then kill -KILL "\${p#/proc/}"; fi
  done 2>/dev/null; true`;
}
