import { randomInt } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunStart } from '../../src/report/events.ts';
import { type JournalEntry, readJournal } from '../../src/run/journal.ts';
import { openHolds } from '../../src/run/release.ts';
import { holder, ok, postgres, Stack, sh, until } from '../harness/stack.ts';
import { times } from '../harness/times.ts';
import { viewRepository } from './repository-check.ts';

const KILLS = Number(process.env.LIFEBOAT_KILLS ?? times(8, 12));

/** Leftovers of a killed run on the spool. */
interface Dead {
  run?: RunStart;
  /** it had already ended, and was only sending its report */
  ended: boolean;
  /** it was stopping a container; the engine may continue that, and the container is started again afterwards */
  stopping: boolean;
}

describe('an agent that is killed in the middle of a run', () => {
  let stack: Stack;
  let agent: string;
  let containers: { db: string; web: string; app: string };
  let lengthMs: number;
  const verified = new Set<string>();
  /** objects of runs that were killed while they sent their manifest: it might still arrive, so only a prune decides */
  const onTheirWay = new Set<string>();

  beforeAll(async () => {
    stack = await Stack.start({
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
      services: {
        db: postgres(17),
        web: holder(['media:/data'], { 'lifeboat.volumes': 'media' }),
        // Mounted in the agent too, so it is read in place.
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
    agent = await stack.id('lifeboat');
    const [db, web, app] = await Promise.all(['db', 'web', 'app'].map((name) => stack.id(name)));
    containers = { db, web, app } as typeof containers;
    await stack.psql('CREATE TABLE t AS SELECT i, md5(i::text) AS v FROM generate_series(1, 20000) i');
    await change(0);
    expect((await stack.backup()).code).toBe(0);
    await change(1);
    const { begun, ended } = spawnBackup();
    await begun;
    const from = performance.now();
    await ended;
    lengthMs = performance.now() - from;
  });
  afterAll(() => stack?.destroy());

  /** `begun`: the run has reported its start. `ended`: the command has ended, by itself or with the agent. */
  function spawnBackup(): { begun: Promise<unknown>; ended: Promise<unknown>; hasEnded(): boolean } {
    const starts = () => stack.receiver?.requests.filter((request) => request.path.endsWith('/start')).length ?? 0;
    const before = starts();
    const child = stack.spawn('backup');
    child.stdout?.resume();
    child.stderr?.resume();
    const ended = new Promise((resolve) => child.once('close', resolve));
    const begun = until('the run begins', async () => starts() > before, 60_000, 10);
    return { begun, ended, hasEnded: () => child.exitCode !== null };
  }

  /** Adds new content to every source. */
  async function change(round: number): Promise<void> {
    const files = 'for i in 1 2 3 4 5 6; do head -c 300000 /dev/urandom > /data/$i; done';
    await Promise.all([
      stack.psql(`UPDATE t SET v = md5(v) WHERE i % 50 = ${round}`),
      ...[containers.web, containers.app].map((id) => ok('docker', ['exec', id, 'sh', '-c', files])),
    ]);
  }

  async function readDead(): Promise<Dead> {
    const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-dead-'));
    try {
      await ok('docker', ['cp', `${agent}:/spool/state/.`, directory]);
      const journals = await readdir(path.join(directory, 'runs')).catch(() => []);
      const [journal] = journals;
      if (!journal) return { ended: false, stopping: false };
      expect(journals).toHaveLength(1);
      const entries = await readJournal(path.join(directory, 'runs', journal));
      const stopping = openHolds(entries).some(({ stop }) => stop);
      const { run } = (entries[0] ?? {}) as { run?: RunStart };
      if (!run) return { ended: false, stopping };
      await noteOnTheirWay(run, entries);
      const last = JSON.parse(await readFile(path.join(directory, 'last-run.json'), 'utf8')) as RunStart;
      return { run, ended: last.id === run.id, stopping };
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  async function noteOnTheirWay({ id }: RunStart, entries: readonly JournalEntry[]): Promise<void> {
    if (!entries.some(({ type }) => type === 'commit')) return;
    if ((await stack.objects()).some((key) => key.endsWith(`/snapshots/${id}/manifest.json`))) return;
    for (const entry of entries) if (entry.type === 'object') onTheirWay.add(entry.key);
  }

  async function startAgain(): Promise<void> {
    const since = new Date().toISOString();
    await ok('docker', ['start', agent]);
    await until(
      'the agent is ready',
      async () => /"msg":"ready"/.test((await sh('docker', ['logs', '--since', since, agent])).stderr),
      60_000,
      100,
    );
  }

  const running = async (id: string) =>
    (await ok('docker', ['inspect', '--format', '{{.State.Running}}', id])).trim() === 'true';

  /** Checks for leftovers of a crashed run, once the server and the engine have ended its sessions and helpers. */
  async function leftovers(): Promise<object> {
    // The server and the engine may still be ending sessions and helpers of the run.
    const sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lifeboat%'";
    const isOver = async () => (await stack.helpers()).length === 0 && (await stack.psql(sessions)) === '0';
    await until('its helpers and sessions are gone', isOver, 20_000);
    const [spool, appRuns, frozen, view] = await Promise.all([
      ok('docker', ['exec', agent, 'sh', '-c', 'ls /spool/runs /spool/state/runs | grep -v :; true']),
      running(containers.app),
      sh('docker', ['exec', containers.app, 'test', '-e', '/tmp/frozen']),
      viewRepository(path.join(stack.directory, 'backups'), verified),
    ]);
    return {
      spool: spool.trim(),
      appRuns,
      frozen: frozen.code === 0,
      bad: view.bad,
      // A prune records what it has seen unreferenced.
      orphans: view.orphans.filter(
        (key) => !onTheirWay.has(key) && !(onTheirWay.size > 0 && key.includes('/unreferenced/')),
      ),
    };
  }

  const clean = { spool: '', appRuns: true, frozen: false, bad: [], orphans: [] };

  it(`leaves nothing behind and is reported, ${KILLS} times`, async () => {
    const seen = { dead: 0, ended: 0, before: 0, late: 0 };
    for (let round = 0; round < KILLS; round++) {
      await change(round);
      const command = spawnBackup();
      // Sometimes before it has begun, else evenly distributed over the run, and never twice at the same point.
      const delay = round % 8 === 7 ? randomInt(1000) : ((round + randomInt(1000) / 1000) / KILLS) * lengthMs;
      if (round % 8 !== 7) await command.begun;
      else command.begun.catch(() => undefined);
      const from = performance.now();
      await sleep(delay);
      if (command.hasEnded() && seen.late++ < KILLS) {
        // The machine is faster than when the run was measured. Repeat this point within the new length.
        lengthMs = Math.min(lengthMs, performance.now() - from) * 0.9;
        round--;
        continue;
      }
      await ok('docker', ['kill', agent]);
      await command.ended;
      const { run, ended, stopping } = await readDead();
      const waits = stopping && (await running(containers.app));
      await startAgain();
      // The agent checks again each minute.
      if (waits) await until('the stop is over', async () => isDeepStrictEqual(await leftovers(), clean), 180_000, 500);
      expect(await leftovers(), `killed after ${Math.round(delay)} of ${Math.round(lengthMs)} ms`).toEqual(clean);
      if (!run) {
        seen.before++;
        continue;
      }
      seen[ended ? 'ended' : 'dead']++;
      const pings = stack.receiver?.requests.filter(({ query }) => query.rid === run.rid) ?? [];
      const signals = pings.map((ping) => ping.path.split('/').slice(3).join('/'));
      expect(signals.at(-1), `run ${run.id}`).toBe(ended ? '' : 'fail');
      if (!ended) expect(pings.at(-1)?.body).toContain('RUN_DIED');
    }
    console.log(`killed ${KILLS} times over ${Math.round(lengthMs)} ms:`, seen);
    // Most points must be inside a run, not before or after one.
    expect(seen.dead).toBeGreaterThanOrEqual(KILLS / 2);
  }, 1_800_000);

  it('backs up successfully afterwards, and the database never restarted', async () => {
    const { code, report } = await stack.backup();
    expect({ code, status: report.status, error: report.error }).toEqual({ code: 0, status: 'ok', error: undefined });
    expect(await leftovers()).toEqual(clean);
    const restored = await stack.lifeboat(
      'restore',
      'latest',
      'db.postgres',
      '--database',
      'postgres',
      '--to-database',
      'copy',
    );
    expect(restored.code, restored.stderr).toBe(0);
    const sum = "SELECT md5(string_agg(i || v, ',' ORDER BY i)) FROM t";
    expect(await stack.psql(sum, { database: 'copy' })).toBe(await stack.psql(sum));
    expect(await stack.logs('db')).not.toMatch(/reinitializing|was terminated by signal/);
  });
});
