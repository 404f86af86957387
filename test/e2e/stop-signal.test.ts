import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { holder, ok, postgres, Stack, until } from '../harness/stack.ts';
import { times } from '../harness/times.ts';
import { hashes } from './outcome.ts';

const STOPS = Number(process.env.LIFEBOAT_STOPS ?? times(7, 12));
/** id of the lifeboat service, see the harness */
const GRACE_MS = 20_000;

/**
 * Waits for the journal of a run, which names its process, and sends a stop signal. Does nothing if the run has just
 * ended.
 */
const stopAfter = (seconds: string) => `
  find_pid() { pid=$(cat /spool/state/runs/* 2>/dev/null | sed -n 's/.*"pid":\\([0-9]*\\).*/\\1/p'); [ -n "$pid" ]; }
  for i in $(seq 1000); do if find_pid; then break; fi; sleep 0.03; done
  sleep ${seconds}
  find_pid && kill -TERM $pid; true`;

/** An interrupted run fails cleanly and at once, at any point. */
describe('SIGTERM during a run', () => {
  let stack: Stack;
  let lengthMs: number;
  /** ids of the containers, by service: `docker exec` is faster than `docker compose exec` */
  const ids: Record<string, string> = {};
  const inside = (service: string, script: string) => ok('docker', ['exec', ids[service] ?? '', 'sh', '-c', script]);

  beforeAll(async () => {
    stack = await Stack.start({
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
      services: {
        db: postgres(17),
        web: holder(['media:/data'], { 'lifeboat.volumes': 'media' }),
        app: holder(['files:/data'], {
          'lifeboat.volumes': 'files',
          'lifeboat.stop': 'true',
          'lifeboat.exec.pre': 'touch /tmp/frozen',
          'lifeboat.exec.post': 'rm -f /tmp/frozen',
        }),
      },
      volumes: { media: {}, files: {} },
      agent: { volumes: ['files:/sources/files:ro'] },
    });
    for (const service of ['lifeboat', 'db', 'web', 'app']) ids[service] = await stack.id(service);
    await stack.psql('CREATE TABLE t AS SELECT i, md5(i::text) AS v FROM generate_series(1, 50000) i');
    await change();
    expect((await stack.backup()).code).toBe(0);
    await change();
    const begin = performance.now();
    expect((await stack.backup()).code).toBe(0);
    lengthMs = performance.now() - begin;
  });
  afterAll(() => stack?.destroy());

  async function change(): Promise<void> {
    const files = 'for i in 1 2 3 4 5 6; do head -c 2000000 /dev/urandom > /data/$i; done';
    await Promise.all([
      stack.psql('UPDATE t SET v = md5(v) WHERE i % 10 = 0'),
      inside('web', files),
      inside('app', files),
    ]);
  }

  async function rest() {
    const sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lifeboat%'";
    const [helpers, spool, app, objects] = await Promise.all([
      stack.helpers(),
      inside('lifeboat', 'ls -A /spool/runs /spool/state/runs | grep -v : | grep . ; true'),
      inside('app', 'test ! -e /tmp/frozen && echo free'),
      hashes(stack),
      until('no session is left', async () => (await stack.psql(sessions)) === '0'),
    ]);
    return { helpers, spool, app, objects };
  }

  const clean = { helpers: [], spool: '', app: 'free\n' };
  const signalsOf = (rid: string) =>
    (stack.receiver?.requests ?? [])
      .filter(({ query }) => query.rid === rid)
      .map(({ path }) => path.split('/')[3] ?? '')
      // Reported twice if the response to the first request was late.
      .filter((signal, i, all) => signal !== all[i - 1]);

  it(`ends a backup in exec with status 130 and no leftovers, or with 0 and a snapshot, ${STOPS} times`, async () => {
    let interrupted = 0;
    let objects = await hashes(stack);
    for (let round = 0; round < STOPS; round++) {
      await change();
      const started = performance.now();
      const child = spawn('docker', ['exec', ids.lifeboat ?? '', 'lifeboat', 'backup', '--json']);
      let out = '';
      child.stdout.on('data', (data: Buffer) => {
        out += data.toString();
      });
      let log = '';
      child.stderr.on('data', (data: Buffer) => {
        log += data.toString();
      });
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      const at = ((round + randomInt(1000) / 1000) / STOPS) * lengthMs * 0.6;
      await inside('lifeboat', stopAfter((at / 1000).toFixed(3)));
      const begin = performance.now();
      const code = await ended;
      const what = `run ${round}, asked to stop after ${Math.round(at)} ms, ended with ${code}\n${out}\n${log}`;
      expect(performance.now() - begin, what).toBeLessThan(GRACE_MS);
      const report = JSON.parse(out || '{}') as RunReport;
      if (report.snapshot !== undefined) {
        // It was already committed, because the machine is faster than when the run was measured. A signal that comes
        // while the
        // process ends may still kill it (143), after the report.
        lengthMs = Math.min(lengthMs, performance.now() - started);
        expect([0, 143], what).toContain(code);
        expect(report.status, what).toBe('ok');
        expect({ ...(await rest()), objects: {} }, what).toEqual({ ...clean, objects: {} });
        objects = await hashes(stack);
        continue;
      }
      interrupted++;
      expect({ code, status: report.status, error: report.error?.code }, what).toEqual({
        code: 130,
        status: 'failed',
        error: 'INTERRUPTED',
      });
      expect(await rest(), what).toEqual({ ...clean, objects });
      // A run that has to end at once waits some seconds for notifiers, and says if that was too short.
      const signals = signalsOf(report.rid);
      if (/not delivered in time|took too long/.test(log))
        expect(['start', 'fail'], what).toEqual(expect.arrayContaining(signals));
      else expect(signals, what).toEqual(['start', 'fail']);
    }
    console.log(`${interrupted} of ${STOPS} runs of ${Math.round(lengthMs)} ms were interrupted`);
    expect(interrupted).toBeGreaterThan(STOPS / 2);
  }, 1_800_000);

  it('docker compose stop ends a scheduled run within the grace period, and the next run succeeds', async () => {
    await change();
    const objects = await hashes(stack);
    const requests = stack.receiver?.requests.length ?? 0;
    // Its dump waits for that, so it cannot have ended.
    const lock = stack.psql('BEGIN; LOCK TABLE t; SELECT pg_sleep(600); COMMIT').catch(String);
    const holders = "FROM pg_locks WHERE relation = 't'::regclass AND granted AND mode = 'AccessExclusiveLock'";
    await until('the table is locked', async () => (await stack.psql(`SELECT 1 ${holders}`)) === '1');
    // A long missed run, which the next start catches up.
    const miss = 'echo \'{"0 0 1 1 *":"2001-01-01T00:00:00.000Z"}\' > /spool/state/served.json';
    await stack.compose('stop', 'lifeboat');
    await stack.compose('run', '--rm', '--no-deps', '--entrypoint', 'sh', 'lifeboat', '-c', miss);
    await stack.compose('start', 'lifeboat');
    const start = await until('the run has begun', async () =>
      stack.receiver?.requests.slice(requests).find(({ path }) => path.endsWith('/start')),
    );
    await sleep(300);
    const begin = performance.now();
    await stack.compose('stop', 'lifeboat');
    expect(performance.now() - begin).toBeLessThan(GRACE_MS);
    const exit = await ok('docker', ['inspect', '--format', '{{.State.ExitCode}}', await stack.id('lifeboat')]);
    expect(exit.trim()).toBe('0');
    await stack.psql(`SELECT pg_terminate_backend(pid) ${holders}`);
    await lock;
    expect(signalsOf(start.query.rid ?? '')).toEqual(['start', 'fail']);
    await stack.compose('start', 'lifeboat');
    expect(await rest()).toEqual({ ...clean, objects });
    const { code, report } = await stack.backup();
    expect({ code, status: report.status }).toEqual({ code: 0, status: 'ok' });
    expect(await stack.logs('db')).not.toMatch(/reinitializing/);
  });
});
