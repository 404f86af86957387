import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { holder, Stack, until, whileRuns } from '../harness/stack.ts';

interface Status {
  running: string | null;
  last: RunReport | null;
  nextRun: string;
  sources: {
    name: string;
    attention: string | null;
    last: { status: string } | null;
    lastGood: { snapshot: string } | null;
  }[];
  snapshots: number;
}

/** Waits for full minutes. The two stacks share the wait. */
describe('runs by schedule', () => {
  let stack: Stack;
  let bare: Stack;
  const status = () => stack.json<Status>('status');
  const snapshots = async () =>
    (await stack.json<{ snapshots: { id: string; trigger: string; status: string }[] }>('snapshots')).snapshots;
  const logs = async (part: string, of = stack) =>
    (await of.logs('lifeboat')).split('\n').filter((line) => line.includes(part));

  beforeAll(async () => {
    [stack, bare] = await Promise.all([
      Stack.start({
        env: { LIFEBOAT_SCHEDULE: '* * * * *' },
        services: {
          web: holder(['media:/data'], {
            'lifeboat.volumes': 'media',
            'lifeboat.exec.pre': 'sh -c "while test -e /tmp/wait; do sleep 0.1; done"',
          }),
        },
        volumes: { media: {} },
        agent: { volumes: ['media:/v/media:ro'] },
        startAgent: false,
      }),
      Stack.start({ env: { LIFEBOAT_SCHEDULE: '* * * * *' }, services: {} }),
    ]);
    await stack.exec('web', ['sh', '-c', 'echo hello > /data/file; touch /tmp/wait']);
    // The manual run must be running before the first scheduled one.
    const leftMs = 60_000 - (Date.now() % 60_000);
    if (leftMs < 45_000) await sleep(leftMs + 500);
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
  });
  afterAll(async () => {
    await stack?.destroy();
    await bare?.destroy();
  });

  it('one run at a time: others are refused, and a run that is due meanwhile follows', async () => {
    const child = stack.spawn('backup');
    child.stdout?.resume();
    child.stderr?.resume();
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const under = until('the run is under way', async () => {
      const now = await status();
      return now.running === null ? undefined : now;
    });
    const during = await whileRuns(ended, under);
    expect(during).toMatchObject({
      running: expect.stringMatching(/^backup 2\d+T\d+Z-[0-9a-f]{6} since /),
      last: null,
    });
    expect(during.sources).toEqual([{ name: 'web.media', attention: 'never', last: null, lastGood: null }]);
    for (const args of [['backup'], ['prune']]) {
      const { code, stderr } = await stack.lifeboat(...args);
      expect({ args, code }).toEqual({ args, code: 11 });
      expect(stderr).toContain('LOCKED');
    }
    await until(
      'the scheduled run was put off',
      async () => (await logs('another run is under way')).length > 0,
      180_000,
      500,
    );
    await stack.exec('web', ['rm', '/tmp/wait']);
    expect(await ended).toBe(0);
    const after = await status();
    expect(after).toMatchObject({ last: { status: 'ok', trigger: 'manual' } });
    expect(after.sources[0]?.lastGood?.snapshot).toBe(after.last?.snapshot);
    await until(
      'a run by schedule',
      async () => (await snapshots()).some(({ trigger }) => trigger === 'schedule'),
      180_000,
      500,
    );
    // The daemon logs the run of another process, and its own.
    await until(
      'both runs are in the log',
      async () => (await logs(`${stack.project}: backup ok`)).length === 2,
      90_000,
    );
    expect(await logs('web.media: ok')).toHaveLength(2);
  });

  it('a project without labels is a failure that is reported at the scheduled time', async () => {
    const ping = await until(
      'the failure is reported',
      async () => bare.receiver?.requests.find(({ path }) => path.endsWith('/fail')),
      180_000,
    );
    expect(ping.body).toContain('NOTHING_LABELLED');
    expect(
      bare.receiver?.requests.some(({ path, body }) => path.startsWith('/services/') && body.includes('failed')),
    ).toBe(true);
    const { code, report } = await bare.backup();
    expect({ code, error: report.error?.code }).toEqual({ code: 4, error: 'NOTHING_LABELLED' });
    expect((await bare.lifeboat('plan')).code).toBe(4);
    expect((await bare.lifeboat('status')).code).toBe(1);
    expect((await bare.objects()).filter((key) => key.endsWith('manifest.json'))).toEqual([]);
  });

  it('a run that was missed while the agent was down is caught up once and reported as such', async () => {
    await stack.compose('stop', 'lifeboat');
    const before = (await stack.objects()).filter((key) => key.endsWith('manifest.json')).length;
    // Moves the last run back in time. The agent's state is only in this volume.
    const served = JSON.stringify({ '0 4 * * 1': '2020-01-01T00:00:00.000Z' });
    await stack.compose(
      ...[
        'run',
        '--rm',
        '--no-deps',
        '--entrypoint',
        'sh',
        'lifeboat',
        '-c',
        `echo '${served}' > /spool/state/served.json`,
      ],
    );
    const options = {
      env: { LIFEBOAT_SCHEDULE: '0 4 * * 1' },
      services: { web: holder(['media:/data'], { 'lifeboat.volumes': 'media' }) },
      volumes: { media: {} },
    };
    await stack.write(options);
    await stack.compose('up', '--detach', '--wait', '--no-deps', 'lifeboat');
    await until('it is caught up', async () => (await snapshots())[0]?.trigger === 'catch-up');
    expect(await logs('catching up on a run that was missed')).toHaveLength(1);
    expect((await snapshots()).length).toBe(before + 1);
    // Another restart catches up nothing.
    await stack.compose('restart', 'lifeboat');
    await until('the agent is ready again', async () => (await logs('"msg":"ready"')).length === 2);
    const { last, nextRun, running } = await status();
    expect({ running, trigger: last?.trigger }).toEqual({ running: null, trigger: 'catch-up' });
    expect(new Date(nextRun).toISOString()).toMatch(/T04:00:00/);
    expect((await snapshots()).length).toBe(before + 1);
  });
});
