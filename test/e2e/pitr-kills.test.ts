import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SourceWindows } from '../../src/overview/windows.ts';
import { holder, ok, postgres, Stack, until } from '../harness/stack.ts';
import { times } from '../harness/times.ts';

const KILLS = times(6, 50);

/** The journals of restores that have not ended. */
const JOURNALS = 'grep -ls \'"verb":"restore"\' /spool/state/runs/*.ndjson';
/** Waits until a restore has begun, then prints the number of steps in its journal when it had ended. */
const COUNT = `until f=$(${JOURNALS}); do sleep 0.02; done
  while c=$(grep -c . $f); do n=$c; sleep 0.01; done 2>/dev/null; echo $n`;
/** Waits until the journal of a restore has this many steps, or is gone. */
const waitFor = (steps: number) => `until f=$(${JOURNALS}); do sleep 0.02; done
  while c=$(grep -c . $f) && [ $c -lt ${steps} ]; do sleep 0.005; done 2>/dev/null; true`;
/** Kills the process of a restore, which is not process 1 of its container. */
const KILL = `for p in /proc/[0-9]*; do
    if tr '\\0' ' ' < $p/cmdline | grep -q 'cli[.]js restore '; then kill -KILL "\${p#/proc/}"; fi
  done 2>/dev/null; true`;

/** Fault 19, for the data directory of a server: a recovery in place is killed at any step. */
describe('a recovery in place that is killed', () => {
  let stack: Stack;
  let agent: string;
  /** the time to which each recovery goes, at which the table has one row */
  let at: string;
  /** the steps of a complete recovery */
  let steps: number;

  const rows = () => stack.psql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM written");
  const inAgent = (script: string) => ok('docker', ['exec', agent, 'sh', '-c', script]);
  const windows = async () =>
    (await stack.json<{ sources: SourceWindows[] }>('windows', 'db.postgres')).sources[0] as SourceWindows;
  const runs = async (service: string) =>
    (await ok('docker', ['inspect', '--format', '{{.State.Running}}', await stack.id(service)])).trim() === 'true';
  /** Returns the directories of the data directory, each with its inode. */
  const directories = async () => {
    const find = `cd "$PGDATA" && find . -mindepth 1 -maxdepth 1 -type d ! -name 'pgsql_tmp*' -printf '%f %i\\n' | sort`;
    return (await stack.exec('db', ['sh', '-c', find])).trim().split('\n');
  };
  const restores = async () => (await stack.json<{ restores: object[]; stray?: object[] }>('status')).restores;
  const forget = async () => {
    const ran = await stack.lifeboatInTurn('rollback', '--forget', '--yes');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await restores()).toEqual([]);
  };
  const restore = (): Promise<number | null> => {
    const child = stack.spawn('restore', 'db.postgres', '--at', at, '--in-place', '--yes');
    child.stdout?.resume();
    child.stderr?.resume();
    return new Promise((resolve) => child.once('close', resolve));
  };

  beforeAll(async () => {
    const labels = { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' };
    stack = await Stack.start({
      services: {
        db: postgres(17, { labels }),
        web: holder([], {}, { depends_on: { db: { condition: 'service_healthy' } } }),
      },
      env: { LIFEBOAT_RPO: '1s', LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *' },
    });
    agent = await stack.id('lifeboat');
    await stack.psql('CREATE TABLE written (n int PRIMARY KEY); INSERT INTO written VALUES (1)');
    await stack.untilWindow(async () => (await windows()).windows.length > 0);
    at = await stack.psql('SELECT clock_timestamp()');
    await stack.psql('INSERT INTO written VALUES (2)');
    await until('the time is stored', async () => {
      const to = (await windows()).windows.at(-1)?.to;
      return to !== undefined && Date.parse(to) > Date.parse(at);
    });
    const [counted, code] = await Promise.all([inAgent(COUNT), restore()]);
    expect(code).toBe(0);
    steps = Number(counted);
    expect(await rows()).toBe('1');
    await forget();
  });
  afterAll(() => stack?.destroy());

  /** Kills the agent's container and starts it again, or kills only the process, and the daemon cleans up. */
  async function kill(what: 'agent' | 'process'): Promise<void> {
    if (what === 'process') {
      await inAgent(KILL);
      return;
    }
    await ok('docker', ['kill', agent]);
    await ok('docker', ['start', agent]);
  }

  /** Waits until nothing is left of the recovery but, perhaps, old data. */
  async function undone(when: string): Promise<void> {
    await until(`everything is undone, killed ${when}`, async () => {
      const open = await inAgent('ls /spool/runs /spool/state/runs | grep -v :; true').catch(() => 'it starts');
      return open.trim() === '' && !(await stack.isMarked());
    });
    await until(`only the receiver is left, killed ${when}`, async () => (await stack.helpers()).length <= 1);
    await until(`the services run, killed ${when}`, async () => (await runs('web')) && rows().catch(() => undefined));
  }

  it(`leaves the data directory wholly old or wholly new, ${KILLS} times`, async () => {
    const seen = { old: 0, new: 0 };
    for (let round = 0; round < KILLS; round++) {
      await stack.psql(`INSERT INTO written VALUES (${round + 10})`);
      const [old, before] = [await rows(), await directories()];
      const what = round % 3 === 2 ? 'process' : 'agent';
      const step = Math.ceil(((round + randomInt(1000) / 1000) / KILLS) * steps);
      const delay = randomInt(2) * randomInt(400);
      const when = `${what}, ${delay} ms after step ${step} of ${steps}`;
      const ended = restore();
      await inAgent(waitFor(step));
      await sleep(delay);
      await kill(what);
      await ended;
      await undone(when);
      const [found, after] = [await rows(), await directories()];
      const same = after.filter((one) => before.includes(one)).length;
      expect([old, '1'], when).toContain(found);
      const isOld = found === old;
      expect({ same, names: after.map(nameOf) }, when).toEqual({
        same: isOld ? before.length : 0,
        names: before.map(nameOf),
      });
      const left = await stack.exec('db', ['sh', '-c', 'ls -A "$PGDATA" | grep lifeboat || true']);
      expect(left.match(/lifeboat-restoring/g), when).toBeNull();
      expect(await restores(), when).toHaveLength(isOld ? 0 : 1);
      expect(left.trim().split('\n').filter(Boolean), when).toHaveLength(isOld ? 0 : 1);
      if (!isOld) await forget();
      seen[isOld ? 'old' : 'new']++;
    }
    process.stderr.write(`killed ${KILLS} times over ${steps} steps: ${JSON.stringify(seen)}\n`);
    expect(seen.old).toBeGreaterThan(0);
    expect(seen.new).toBeGreaterThan(0);
  }, 1_800_000);

  it('works again after that, and both sides of each fork stay', async () => {
    expect(await restore()).toBe(0);
    expect(await rows()).toBe('1');
    await stack.psql('INSERT INTO written VALUES (2)');
    const lsn = await stack.psql('SELECT pg_current_wal_flush_lsn()');
    await until('the WAL is stored', async () => {
      const { receiver } = await windows();
      const confirmed = receiver?.state === 'receiving' ? receiver.confirmed?.lsn : undefined;
      return confirmed !== undefined && (await stack.psql(`SELECT '${confirmed}'::pg_lsn >= '${lsn}'::pg_lsn`)) === 't';
    });
    expect((await windows()).holes).toEqual([]);
  });
});

function nameOf(line: string): string {
  return line.split(' ')[0] as string;
}
