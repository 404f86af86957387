import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { holder, ok, type Ran, Stack, sh, until, whileRuns } from '../harness/stack.ts';

const GATE = 'touch /tmp/held; while [ ! -e /tmp/go ]; do sleep 0.1; done; rm /tmp/held /tmp/go';
const DEAF = ['sh', '-c', "trap '' TERM; while :; do sleep 1; done"];

/** Ignores signals, and ends when the test allows it. */
const SLOW = ['sh', '-c', "trap '' TERM; while [ ! -e /tmp/end ]; do sleep 0.2; done; rm /tmp/end"];
const LAZY = ['sh', '-c', "trap 'sleep 6; exit 0' TERM; while :; do sleep 0.2; done"];

/** Ownership of runs when several containers and processes work on one project. */
describe('two agents in one project, and containers that are slow to stop', () => {
  let stack: Stack;
  let agent: string;
  let agentName: string;

  beforeAll(async () => {
    const deaf = { command: DEAF, init: false };
    stack = await Stack.start({
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
      services: {
        app: holder(
          ['files:/data'],
          { 'lifeboat.volumes': 'files', 'lifeboat.stop': 'true' },
          { deploy: { replicas: 2 }, stop_grace_period: '20s' },
        ),
        gate: holder(['gate:/gate'], { 'lifeboat.volumes': 'gate', 'lifeboat.exec.pre': `sh -c "${GATE}"` }),
        deaf: holder(
          ['deaf:/deaf'],
          { 'lifeboat.volumes': 'deaf', 'lifeboat.stop': 'true' },
          { ...deaf, stop_grace_period: '1s' },
        ),
        slow: holder(
          ['slow:/slow'],
          { 'lifeboat.volumes': 'slow', 'lifeboat.stop': 'true' },
          { command: SLOW, init: false, stop_grace_period: '10m' },
        ),
        // Ends without an error, 6 s after the stop signal.
        lazy: holder(
          ['lazy:/lazy'],
          { 'lifeboat.volumes': 'lazy', 'lifeboat.stop': 'true' },
          { command: LAZY, init: false, stop_grace_period: '20s' },
        ),
        // A second agent, with its own spool.
        second: {
          image: process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test',
          volumes: ['/var/run/docker.sock:/var/run/docker.sock', './backups:/backups'],
          profiles: ['second'],
        },
      },
      volumes: { files: {}, gate: {}, deaf: {}, slow: {}, lazy: {} },
    });
    agent = await stack.id('lifeboat');
    agentName = (await ok('docker', ['inspect', '--format', '{{.Name}}', agent])).trim().slice(1);
    const [first] = await ids('app');
    await ok('docker', ['exec', first as string, 'sh', '-c', 'head -c 3000000 /dev/urandom > /data/file']);
    for (const service of ['gate', 'deaf', 'slow', 'lazy'])
      await stack.exec(service, ['sh', '-c', `echo x > /${service}/file`]);
  });
  afterAll(() => stack?.destroy());

  const ids = async (service: string) => (await stack.id(service)).split('\n');
  const runs = async (id: string) =>
    (await ok('docker', ['inspect', '--format', '{{.State.Running}}', id])).trim() === 'true';
  const allRun = async (service: string) => (await Promise.all((await ids(service)).map(runs))).every(Boolean);
  /** Runs `lifeboat …` in a separate container. */
  const runAlongside = (service: string, ...args: string[]): Promise<Ran> =>
    sh('docker', ['compose', '--progress', 'quiet', 'run', '--rm', '--no-TTY', service, ...args], {
      cwd: stack.directory,
    });
  const journals = () => stack.exec('lifeboat', ['ls', '/spool/state/runs']);

  function begin(...sources: string[]): { ended: Promise<{ code: number | null; stdout: string }> } {
    const child = stack.spawn('backup', '--json', ...sources);
    let stdout = '';
    child.stdout?.on('data', (data: Buffer) => {
      stdout += data.toString();
    });
    child.stderr?.resume();
    return { ended: new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout }))) };
  }

  async function startAgent(): Promise<void> {
    const since = new Date().toISOString();
    await ok('docker', ['start', agent]);
    const log = async () => (await sh('docker', ['logs', '--since', since, agent])).stderr;
    await until('the agent is ready', async () => (await log()).includes('"ready"'));
  }

  it.each(['lifeboat', 'second'])('a run does not affect a running one of another container (%s)', async (service) => {
    const { ended } = begin('gate.gate');
    await until(
      'the run is under way',
      async () =>
        (await sh('docker', ['compose', 'exec', '-T', 'gate', 'test', '-e', '/tmp/held'], { cwd: stack.directory }))
          .code === 0,
    );
    const journal = await journals();
    const second = await runAlongside(service, 'backup', '--json');
    expect(second.code, second.stderr).toBe(11);
    expect(JSON.parse(second.stdout)).toMatchObject({
      error: { code: 'LOCKED', hint: expect.stringContaining(agentName) },
    });
    expect(await journals()).toBe(journal);
    await stack.exec('gate', ['touch', '/tmp/go']);
    const { code, stdout } = await ended;
    expect({ code, status: (JSON.parse(stdout) as RunReport).status }).toEqual({ code: 0, status: 'ok' });
    expect(await stack.helpers()).toEqual([]);
  });

  it('all containers of a scaled service are stopped and started again; a killed one is reported', async () => {
    const containers = await ids('app');
    expect(containers).toHaveLength(2);
    const watch = spawn('docker', [
      'events',
      ...['--since', new Date().toISOString()],
      ...containers.flatMap((id) => ['--filter', `container=${id}`]),
      ...['--filter', 'event=die', '--filter', 'event=start', '--format', '{{.Action}}'],
    ]);
    let events = '';
    watch.stdout.on('data', (data: Buffer) => {
      events += data.toString();
    });
    const { code, report } = await stack.backup('app.files', 'deaf.deaf');
    const told = until('all of it is told', async () => events.split('\n').length > 4);
    await told.finally(() => sleep(1000).then(() => watch.kill()));
    expect({ code, events }).toEqual({ code: 0, events: 'die\ndie\nstart\nstart\n' });
    expect(await allRun('app')).toBe(true);
    const warnings = Object.fromEntries(report.results.map(({ name, warnings }) => [name, warnings]));
    expect(warnings).toEqual({
      'app.files': [],
      'deaf.deaf': [expect.stringMatching(/-deaf-1 did not stop within 1 s and was killed/)],
    });
    expect(await allRun('deaf')).toBe(true);
  });

  it('leftovers of a killed agent are undone by a run of another container', async () => {
    const [first = ''] = await ids('app');
    // Enough data to keep it stopped for some time.
    await ok('docker', ['exec', first, 'sh', '-c', 'head -c 100000000 /dev/urandom > /data/large']);
    const { ended } = begin('app.files');
    await whileRuns(
      ended,
      until('the container is stopped', async () => !(await runs(first)), 60_000, 30),
    );
    await ok('docker', ['kill', agent]);
    await ended;
    expect(await allRun('app')).toBe(false);
    const second = await runAlongside('lifeboat', 'backup', '--json', 'app.files');
    expect(second.code, second.stdout + second.stderr).toBe(0);
    expect(await allRun('app')).toBe(true);
    expect(stack.receiver?.requests.some(({ body }) => body.includes('RUN_DIED'))).toBe(true);
    expect(await stack.helpers()).toEqual([]);
    await startAgent();
    expect(await journals()).toBe('');
  });

  /** Runs a backup of a source, and stops the agent once it has begun to stop the container. */
  async function stopInStop(source: string): Promise<void> {
    const { ended } = begin(source);
    const log = async () =>
      (
        await sh('docker', ['compose', 'exec', '-T', 'lifeboat', 'sh', '-c', 'cat /spool/state/runs/*'], {
          cwd: stack.directory,
        })
      ).stdout;
    await until('the container is being stopped', async () => (await log()).includes('"stop"'), 60_000, 100);
    await stack.compose('stop', 'lifeboat');
    await ended;
    // Not 137, the status after a kill: it ended by itself within its 20 s.
    expect((await ok('docker', ['inspect', '--format', '{{.State.ExitCode}}', agent])).trim()).toBe('0');
  }

  it('a stopping agent waits for a container that is still stopping, and starts it', async () => {
    const [lazy] = await ids('lazy');
    const startedAt = () => ok('docker', ['inspect', '--format', '{{.State.StartedAt}}', lazy as string]);
    const before = await startedAt();
    await stopInStop('lazy.lazy');
    expect(await runs(lazy as string)).toBe(true);
    expect(await startedAt()).not.toBe(before);
    await startAgent();
    expect(await journals()).toBe('');
  });

  it('an agent ends in time while a container takes long to stop, and starts the container later', async () => {
    const [slow] = await ids('slow');
    await stopInStop('slow.slow');
    expect(await runs(slow as string)).toBe(true);
    const name = `${stack.project}-slow-1`;
    const status = await runAlongside('lifeboat', 'status', '--json');
    expect(JSON.parse(status.stdout).held, status.stderr).toEqual([
      { container: name, run: expect.any(String), verb: 'backup', waitsFor: 'start', data: 'unchanged' },
    ]);
    for (const command of ['status', 'plan']) {
      const shown = await runAlongside('lifeboat', command);
      expect(shown.code, shown.stdout + shown.stderr).not.toBe(0);
      expect(shown.stdout).toMatch(
        new RegExp(`${name}: it is still stopped, or being stopped.* its data is unchanged`),
      );
    }
    // It ended by itself. A container that a user kills meanwhile stays stopped.
    await stack.exec('slow', ['touch', '/tmp/end']);
    await until('the container has ended', async () => !(await runs(slow as string)));
    await startAgent();
    await until('the container runs again', () => runs(slow as string));
    expect(await journals()).toBe('');
  });
});
