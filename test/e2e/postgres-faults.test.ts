import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { ok, postgres, Stack, until, whileRuns } from '../harness/stack.ts';
import { times } from '../harness/times.ts';
import {
  askRestored,
  type Before,
  expectFailedCleanly,
  expectNextRunGood,
  expectStoredWithout,
  hashes,
  remember,
} from './outcome.ts';

/** Enough data for a dump of some seconds: about 100 MB that barely compress. */
const BIG_ROWS = 350_000;
const BIG = `CREATE TABLE big (id int PRIMARY KEY, v text);
  INSERT INTO big SELECT i, (SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, 8) j)
    FROM generate_series(1, ${BIG_ROWS}) i;`;
/** How often the same fault strikes, each time at another moment. */
const ROUNDS = Array.from({ length: times(2, 3) }, (_, i) => i + 1);
const SMALL = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i;`;
const ASK = "SELECT count(*), sum(id), md5(string_agg(v, ',' ORDER BY id)) FROM t";

/** The result of a run that was started in the background. */
type Ending = { code: number; report: RunReport; stderr: string };

function ending(child: ChildProcess): Promise<Ending> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      try {
        resolve({ code: code ?? -1, report: JSON.parse(stdout) as RunReport, stderr });
      } catch {
        reject(new Error(`backup gave no report (${code}):\n${stdout}\n${stderr}`));
      }
    });
  });
}

describe('a Postgres that fails in the middle of a dump', () => {
  let stack: Stack;
  let good: RunReport;
  let small: string;
  /** size of the dump of `big`, bytes */
  let dumpSize: number;

  beforeAll(async () => {
    stack = await Stack.start({
      // A stopping server first writes all its data. With a tmpfs, it ends at once.
      services: {
        db: postgres(17, {
          volumes: ['pgdata:/var/lib/postgresql/data'],
          command: ['postgres', '-c', 'fsync=off'],
        }),
      },
      volumes: { pgdata: {} },
    });
    await stack.psql('CREATE DATABASE small');
    await stack.psql('CREATE DATABASE big');
    await stack.psql(SMALL, { database: 'small' });
    await stack.psql(BIG, { database: 'big' });
    small = await stack.psql(ASK, { database: 'small' });
    good = await expectNextRunGood(stack);
    dumpSize = good.results[0]?.bytes ?? 0;
    expect(dumpSize).toBeGreaterThan(50e6);
  });
  afterAll(() => stack?.destroy());

  /** Starts a run, and causes the fault once the dump of `big` has reached `share` of its size. */
  async function strike(
    share: number,
    blow: () => Promise<unknown>,
    settings = {},
  ): Promise<{ before: Before; ran: Ending }> {
    const before = await remember(stack);
    const ended = ending(stack.spawnWith(settings, 'backup', '--json'));
    const size = String(Math.round(dumpSize * share));
    await whileRuns(ended, stack.exec('lifeboat', ['sh', '-c', WAIT, 'wait', size]));
    await blow();
    return { before, ran: await ended };
  }

  /** Waits until the dump of `big` has $1 bytes. */
  const WAIT = `for i in $(seq 10000); do
    set -- "$1" $(du -sb /spool/runs/*/db.postgres/tree/databases/big 2>/dev/null); [ "\${2:-0}" -ge "$1" ] && exit 0
    sleep 0.03; done; exit 1`;

  /** Far from both ends, so that the dump is certainly running. */
  const somewhere = () => 0.02 + 0.2 * Math.random();

  /** For a fault that takes effect after a second. */
  const atFirst = () => 0.02 + 0.1 * Math.random();

  /** A run that ends when a server does not respond. */
  const IMPATIENT = { LIFEBOAT_STALL_TIMEOUT: '10s' };

  const helper = async () => (await stack.helpers())[0] ?? 'there is no helper';

  async function expectStillGood(): Promise<void> {
    await expectNextRunGood(stack);
    expect(await askRestored(stack, good.id, 'small', ASK)).toBe(small);
  }

  it.each(ROUNDS)('fails cleanly if its helper is killed (%i)', async () => {
    const { before, ran } = await strike(somewhere(), async () => ok('docker', ['kill', await helper()]));
    await expectFailedCleanly(stack, before, ran, { code: ['PG_DUMP_FAILED', 'HELPER_FAILED', 'PG_UNREACHABLE'] });
    expect(ran.report.results[0]?.lastGood?.snapshot).toBeDefined();
  });

  it.each(ROUNDS)('continues without the database if one process of its pg_dump is killed (%i)', async () => {
    const kill = `set -- $(grep -lx pg_dump /proc/[0-9]*/comm); [ $# -ge 2 ] || exit 1
      n=$(($(od -An -N2 -tu2 /dev/urandom) % $# )); shift $n; pid=\${1#/proc/}; kill -9 "\${pid%/comm}"`;
    const { before, ran } = await strike(somewhere(), async () =>
      ok('docker', ['exec', await helper(), 'sh', '-c', kill]),
    );
    await expectStoredWithout(stack, before, ran, { code: 'PG_DUMP_FAILED', database: 'big' });
  });

  it('works again after killed helpers and dumps', expectStillGood);

  it('fails cleanly if the database container is killed', async () => {
    const db = await stack.id('db');
    const { before, ran } = await strike(somewhere(), () => ok('docker', ['kill', db]));
    await stack.compose('up', '--detach', '--wait', 'db');
    await expectFailedCleanly(stack, before, ran, { code: 'PG_RESTARTED', restarted: true });
  });

  it('fails cleanly if the database container is restarted, and takes seconds to end', async () => {
    const db = await stack.id('db');
    // A stopping server first ends its connections, then waits for its last checkpoint.
    const freeze = 'kill -STOP $(grep -l "postgres: [c]heckpointer" /proc/[0-9]*/cmdline | cut -d/ -f3)';
    await stack.exec('db', ['sh', '-c', freeze]);
    const { before, ran } = await strike(atFirst(), () => ok('docker', ['restart', '-t', '9', db]));
    await stack.compose('up', '--detach', '--wait', 'db');
    await expectFailedCleanly(stack, before, ran, { code: 'PG_RESTARTED', restarted: true });
  });

  it('fails cleanly if the database container is recreated, and finds the new one by its service', async () => {
    const old = await stack.id('db');
    const { before, ran } = await strike(atFirst(), () =>
      stack.compose('up', '--detach', '--wait', '--timeout', '2', '--force-recreate', '--no-deps', 'db'),
    );
    expect(await stack.id('db')).not.toBe(old);
    await expectFailedCleanly(stack, before, ran, { code: 'PG_RESTARTED', restarted: true });
    await expectStillGood();
  });

  it('ends the dump of a paused database after the stall timeout', async () => {
    const db = await stack.id('db');
    let pausedAt = 0;
    const pause = async () => {
      await stack.pause(db);
      pausedAt = Date.now();
    };
    const { before, ran } = await strike(somewhere(), pause, IMPATIENT);
    const tookMs = Date.now() - pausedAt;
    await ok('docker', ['unpause', db]);
    expect(tookMs).toBeGreaterThan(9_000);
    expect(tookMs).toBeLessThan(60_000);
    await expectFailedCleanly(stack, before, ran, { code: 'PG_STALLED' });
  });

  it('continues without a database whose dump waits for a lock, and does not end the lock', async () => {
    const before = await remember(stack);
    const lock = stack.psql('BEGIN; LOCK TABLE t; SELECT pg_sleep(600); COMMIT', { database: 'small' }).catch(String);
    const lockers = "FROM pg_locks WHERE relation = 't'::regclass AND granted AND mode = 'AccessExclusiveLock'";
    const locked = async () => (await stack.psql(`SELECT 1 ${lockers}`, { database: 'small' })) === '1';
    await until('the table is locked', locked);
    const ran = await ending(stack.spawnWith(IMPATIENT, 'backup', '--json'));
    await expectStoredWithout(stack, before, ran, { code: ['PG_STALLED', 'PG_DUMP_FAILED'], database: 'small' });
    expect(await locked()).toBe(true);
    await stack.psql(`SELECT pg_terminate_backend(pid) ${lockers}`, { database: 'small' });
    expect(await lock).toContain('terminating connection');
    await expectStillGood();
  });

  it('restores the large database from the first snapshot, which no fault has changed', async () => {
    const ask = 'SELECT count(*), sum(id), sum(hashtext(v)::bigint) FROM big';
    expect(await askRestored(stack, good.id, 'big', ask)).toBe(await stack.psql(ask, { database: 'big' }));
    expect(Object.keys(await hashes(stack)).some((name) => name.includes('.tmp'))).toBe(false);
  });
});
