import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import Docker from 'dockerode';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { holder, ok, Stack, sh, until, whileRuns } from '../harness/stack.ts';
import { viewRepository } from './repository-check.ts';

/**
 * `lifeboat.stop` and `lifeboat.exec.*`: whatever the outcome of a run, the user's containers are in their old state.
 */
describe('containers held while their volumes are read', () => {
  let stack: Stack;
  const state = async (id: string) =>
    JSON.parse(await ok('docker', ['inspect', '--format', '{{json .State}}', id])) as {
      Running: boolean;
      StartedAt: string;
      FinishedAt: string;
    };
  const hooks = (service: string) => stack.exec(service, ['sh', '-c', 'cat /tmp/hooks 2>/dev/null; rm -f /tmp/hooks']);

  const nothingLeft = async () => (await stack.exec('lifeboat', ['ls', '/spool/state/runs'])) === '';

  /** All sources except the one whose container takes long to stop. */
  const quick = ['app.one', 'app.two', 'idle.three', 'frozen.four', 'refusing.five'];

  const say = (word: string) => `sh -c "echo ${word} >> /tmp/hooks"`;

  beforeAll(async () => {
    stack = await Stack.start({
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
      services: {
        // Both volumes during one stop.
        app: holder(['one:/one', 'two:/two'], { 'lifeboat.volumes': 'one, two', 'lifeboat.stop': 'true' }),
        // Without a restart, it has no network after the stop of `app`.
        guest: holder([], {}, { network_mode: 'service:app' }),
        idle: holder(['three:/three'], { 'lifeboat.volumes': 'three', 'lifeboat.stop': 'true' }),
        // Ignores the stop signal, and ends at its stop timeout.
        stubborn: holder(
          ['six:/six'],
          { 'lifeboat.volumes': 'six', 'lifeboat.stop': 'true' },
          { command: ['sh', '-c', "trap '' TERM; while :; do sleep 1; done"], init: false, stop_grace_period: '8s' },
        ),
        frozen: holder(['four:/four'], {
          'lifeboat.volumes': 'four',
          'lifeboat.exec.pre': say('pre'),
          'lifeboat.exec.post': say('post'),
        }),
        refusing: holder(['five:/five'], {
          'lifeboat.volumes': 'five',
          'lifeboat.exec.pre': 'sh -c "echo pre >> /tmp/hooks; test ! -e /tmp/refuse"',
          'lifeboat.exec.post': 'sh -c "echo post >> /tmp/hooks; test ! -e /tmp/refuse-post"',
        }),
      },
      volumes: { one: {}, two: {}, three: {}, four: {}, five: {}, six: {} },
      // A volume that the agent reads itself, so that the runs are short.
      agent: { volumes: ['two:/v/two:ro', 'three:/v/three:ro', 'four:/v/four:ro', 'five:/v/five:ro'] },
    });
    const files = [
      ['app', 'one'],
      ['app', 'two'],
      ['idle', 'three'],
      ['frozen', 'four'],
      ['refusing', 'five'],
      ['stubborn', 'six'],
    ] as const;
    for (const [service, name] of files) await stack.exec(service, ['sh', '-c', `echo ${name} > /${name}/file`]);
  });
  afterAll(() => stack?.destroy());

  it('are stopped once, only if they ran, and started again; hooks run around', async () => {
    await stack.compose('stop', 'idle');
    const [app, idle] = [await stack.id('app'), await stack.id('idle')];
    const before = { app: await state(app), idle: await state(idle) };
    // The test listens from before, because the engine only stores its last few hundred events.
    const watch = spawn('docker', [
      'events',
      '--since',
      new Date().toISOString(),
      '--filter',
      `container=${app}`,
      '--filter',
      'event=die',
      '--format',
      '{{.Action}}',
    ]);
    let stops = '';
    watch.stdout.on('data', (data: Buffer) => {
      stops += data.toString();
    });
    const { code, report } = await stack.backup(...quick);
    expect({ code, results: report.results.map(({ name, status }) => [name, status]) }).toEqual({
      // A user may have forgotten the stopped container, so the run succeeds with a warning.
      code: 0,
      results: expect.arrayContaining([
        ['app.one', 'ok'],
        ['app.two', 'ok'],
        ['idle.three', 'ok'],
        ['frozen.four', 'ok'],
        ['refusing.five', 'ok'],
      ]),
    });
    expect(report.problems).toMatchObject([{ code: 'CONTAINER_STOPPED', severity: 'warning' }]);
    const after = { app: await state(app), idle: await state(idle) };
    expect(after.app.Running).toBe(true);
    expect(after.app.StartedAt > before.app.StartedAt).toBe(true);
    expect(after.idle).toEqual(before.idle);
    expect(await stack.exec('guest', ['ls', '/sys/class/net'])).toContain('eth0');
    expect((await state(await stack.id('guest'))).StartedAt > after.app.StartedAt).toBe(true);
    await until('the stop is told', async () => stops !== '').finally(() => sleep(1000).then(() => watch.kill()));
    expect(stops).toBe('die\n');
    expect(await hooks('frozen')).toBe('pre\npost\n');
    expect(await hooks('refusing')).toBe('pre\npost\n');
  });

  it('run after each of two backups in a row', async () => {
    const app = await stack.id('app');
    for (const _run of [1, 2]) {
      expect((await stack.backup('app.one', 'app.two')).code).toBe(0);
      expect((await state(app)).Running).toBe(true);
    }
  });

  it('stay paused if they were paused, and no restore replaces their data', async () => {
    const app = await stack.id('app');
    await stack.pause(app);
    const before = await state(app);
    try {
      const { code, report } = await stack.backup('app.one', 'app.two');
      expect(code).toBe(0);
      for (const { warnings } of report.results) expect(warnings.join()).toContain('is paused, so it was neither');
      const ran = await stack.lifeboat('restore', 'latest', 'app.one', '--yes', '--json');
      expect(ran.code, ran.stderr).toBe(1);
      expect(ran.stdout + ran.stderr).toContain('TREE_TARGET_REFUSED');
      expect(await state(app)).toEqual(before);
    } finally {
      await ok('docker', ['unpause', app]);
    }
  });

  it('a failed pre hook fails only its sources, and post still runs', async () => {
    await stack.exec('refusing', ['touch', '/tmp/refuse']);
    const { code, report } = await stack.backup(...quick);
    await stack.exec('refusing', ['rm', '/tmp/refuse']);
    expect(code).toBe(3);
    const failed = report.results.filter(({ status }) => status !== 'ok');
    expect(failed).toMatchObject([{ name: 'refusing.five', status: 'failed', error: { code: 'HOOK_FAILED' } }]);
    expect(failed[0]?.error?.hint).toContain('docker exec');
    expect(report.results).toHaveLength(5);
    expect(report.snapshot).toBeDefined();
    expect(await hooks('refusing')).toBe('pre\npost\n');
  });

  it('a failed post hook is reported and not repeated, and the stored data stays', async () => {
    await stack.exec('refusing', ['touch', '/tmp/refuse-post']);
    const { code, report } = await stack.backup('refusing.five');
    await stack.exec('refusing', ['rm', '/tmp/refuse-post']);
    expect(code).toBe(3);
    expect(report.results).toMatchObject([{ name: 'refusing.five', status: 'ok' }]);
    expect(report.problems).toContainEqual(expect.objectContaining({ code: 'HOOK_FAILED', severity: 'error' }));
    expect(await hooks('refusing')).toBe('pre\npost\n');
    expect(await stack.exec('lifeboat', ['ls', '/spool/state/runs'])).toBe('');
  });

  /** Starts a run of one source and waits until its container is stopped. */
  async function startAndCatch(): Promise<{ ended: Promise<number | null> }> {
    // Enough data to keep it stopped for some time.
    await stack.exec('app', ['sh', '-c', 'head -c 100000000 /dev/urandom > /one/large']);
    const child = stack.spawn('backup', 'app.one', 'app.two');
    child.stdout?.resume();
    child.stderr?.resume();
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    const app = await stack.id('app');
    const isStopped = async () => !(await state(app)).Running;
    await whileRuns(ended, until('the container is stopped', isStopped, 60_000, 30));
    return { ended };
  }

  it('a container that is recreated while held is found again, and runs', async () => {
    const old = await stack.id('app');
    const { ended } = await startAndCatch();
    await stack.compose('up', '--detach', '--force-recreate', '--no-deps', 'app', 'guest');
    expect([0, 1, 3]).toContain(await ended);
    const now = await stack.id('app');
    expect(now).not.toBe(old);
    expect((await state(now)).Running).toBe(true);
    const { code, report } = await stack.backup('app.one', 'app.two');
    expect({ code, results: report.results.map(({ status }) => status) }).toEqual({ code: 0, results: ['ok', 'ok'] });
  });

  it('a container whose run is killed is started by the next start of the agent', async () => {
    const agent = await stack.id('lifeboat');
    const { ended } = await startAndCatch();
    await ok('docker', ['kill', agent]);
    await ended;
    const app = await stack.id('app');
    expect((await state(app)).Running).toBe(false);
    await ok('docker', ['start', agent]);
    await until('the container runs again', async () => (await state(app)).Running, 60_000);
  });

  it('a run in exec is interrupted by a stop of the agent, and undoes everything within the grace period', async () => {
    await until(
      'the agent is at rest',
      async () => (await stack.json<{ running: string | null }>('status')).running === null,
    );
    await stack.exec('frozen', ['rm', '-f', '/tmp/hooks']);
    const requests = stack.receiver?.requests.length ?? 0;
    const agent = await stack.id('lifeboat');
    const { ended } = await startAndCatch();
    const begin = performance.now();
    await ok('docker', ['stop', agent]);
    expect(performance.now() - begin).toBeLessThan(19_000);
    await ended;
    expect((await state(await stack.id('app'))).Running).toBe(true);
    const pings = (stack.receiver?.requests ?? []).slice(requests).filter(({ path }) => path.startsWith('/ping/'));
    expect(pings.at(-1)?.path).toMatch(/\/fail$/);
    expect(pings.at(-1)?.body).toContain('INTERRUPTED');
    expect(await stack.helpers()).toEqual([]);
    const { bad, orphans } = await viewRepository(`${stack.directory}/backups`);
    expect({ bad, orphans }).toEqual({ bad: [], orphans: [] });
    const restarted = new Date().toISOString();
    await stack.compose('start', 'lifeboat');
    const logs = async () => (await sh('docker', ['logs', '--since', restarted, await stack.id('lifeboat')])).stderr;
    await until('the agent is ready', async () => (await logs()).includes('"ready"'));
    expect(await logs()).not.toContain('died');
  });

  it('a container that a user starts while it is held stays running, and the backup does not succeed', async () => {
    const { ended } = await startAndCatch();
    const app = await stack.id('app');
    await ok('docker', ['start', app]);
    const { StartedAt } = await state(app);
    expect(await ended).toBe(3);
    expect(await state(app)).toMatchObject({ Running: true, StartedAt });
    const { last } = await stack.json<{ last: RunReport }>('status');
    const [result] = last.results;
    expect(result, JSON.stringify(last)).toMatchObject({ status: 'partial', error: { code: 'HOOK_FAILED' } });
  });

  /** Makes the engine forget its events, of which it remembers 256. */
  async function flood(id: string): Promise<void> {
    const docker = new Docker();
    const image = docker.getImage((await docker.getContainer(id).inspect()).Image);
    for (let i = 0; i < 300; i++) await image.tag({ repo: 'lifeboat-test/flood', tag: 'x' });
    await docker.getImage('lifeboat-test/flood:x').remove();
  }

  /** Starts a run, and waits until the engine has sent the stop signal to `stubborn`. */
  async function startAndStop(): Promise<{ ended: Promise<number | null>; id: string }> {
    const id = await stack.id('stubborn');
    const since = new Date().toISOString();
    const filter = ['--filter', `container=${id}`, '--filter', 'event=kill'];
    const watch = spawn('docker', ['events', '--since', since, ...filter, '--format', 'x']);
    let asked = '';
    watch.stdout.on('data', (data: Buffer) => {
      asked += data.toString();
    });
    const child = stack.spawn('backup', 'stubborn.six');
    child.stdout?.resume();
    child.stderr?.resume();
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    await whileRuns(
      ended,
      until('it is asked to stop', async () => asked !== '', 60_000, 30),
    ).finally(() => watch.kill());
    return { ended, id };
  }

  it('a container that a user stops while it is being stopped stays stopped, on a busy host', async () => {
    const { ended, id } = await startAndStop();
    const stopped = ok('docker', ['stop', id]);
    await sleep(1000);
    await flood(id);
    await stopped;
    expect(await ended).toBe(0);
    expect((await state(id)).Running).toBe(false);
    expect(await stack.exec('lifeboat', ['ls', '/spool/state/runs'])).toBe('');
    await ok('docker', ['start', id]);
  });

  it('a container whose agent is killed while it is being stopped is started as soon as possible', async () => {
    const agent = await stack.id('lifeboat');
    const { ended, id } = await startAndStop();
    const before = (await state(id)).StartedAt;
    const since = new Date().toISOString();
    await ok('docker', ['kill', agent]);
    await ended;
    await ok('docker', ['start', agent]);
    await until('it is started', async () => (await state(id)).StartedAt !== before, 60_000);
    await until('nothing is left to be undone', nothingLeft);
    const logs = (await sh('docker', ['logs', '--since', since, agent])).stderr;
    expect(logs).toMatch(/"code":"RUN_DIED".*"msg":"run failed"/);
    expect((await stack.json<{ held: unknown[] }>('status')).held).toEqual([]);
  });

  it('a container runs again if the agent and another service are restarted while it is held', async () => {
    const { ended } = await startAndCatch();
    const app = await stack.id('app');
    await stack.compose('restart', 'lifeboat', 'frozen');
    await ended;
    await until('it runs again', async () => (await state(app)).Running, 60_000);
    await until('nothing is left to be undone', nothingLeft);
  });

  it('a container whose whole project is stopped while it is held stays stopped', async () => {
    const { ended } = await startAndCatch();
    const app = await stack.id('app');
    const { StartedAt } = await state(app);
    await stack.compose('stop');
    await ended;
    expect(await state(app)).toMatchObject({ Running: false, StartedAt });
    // A start of only the agent does not start it either.
    await stack.compose('start', 'lifeboat');
    await until('nothing is left to be undone', nothingLeft, 60_000);
    expect(await state(app)).toMatchObject({ Running: false, StartedAt });
  });
});
