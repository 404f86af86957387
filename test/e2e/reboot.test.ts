import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { holder, ok, postgres, Stack, sh, until } from '../harness/stack.ts';

/** Until the first file is removed, no server listens. Until the second is, the server replays its write-ahead log. */
const SHUT = '/var/lib/postgresql/shut';
const REPLAY = '/var/lib/postgresql/replay';

/** Fault 36: not every service is up when the run is due. */
describe('a host that reboots', () => {
  let stack: Stack;
  let agent: string;
  let db: string;

  beforeAll(async () => {
    stack = await Stack.start({
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *', LIFEBOAT_STALL_TIMEOUT: '30s' },
      services: {
        db: postgres(17, {
          restart: 'unless-stopped',
          entrypoint: ['sh', '-c', `while test -e ${SHUT}; do sleep 0.1; done; exec docker-entrypoint.sh postgres`],
        }),
        web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
      },
      volumes: { media: {} },
      agent: { volumes: ['media:/v/media:ro'] },
    });
    [agent, db] = [await stack.id('lifeboat'), await stack.id('db')];
    await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 100) AS n');
    await stack.exec('web', ['sh', '-c', 'echo photo >/media/1.png']);
    expect((await stack.backup()).code).toBe(0);
  });
  afterAll(() => stack?.destroy());

  const says = (what: string) =>
    until(`the log says: ${what}`, async () =>
      (await sh('docker', ['logs', '--since', '0', agent])).stderr.includes(what),
    );
  const inAgent = (script: string) => stack.exec('lifeboat', ['sh', '-c', script]);
  /** Changes the state of the agent. A running one would read it at any full minute. */
  const whileDown = (script: string) =>
    stack.compose('run', '--rm', '--no-deps', '--entrypoint', 'sh', 'lifeboat', '-c', script);
  /** A run that was due long ago, which the next start catches up. */
  const miss = () => whileDown('echo \'{"0 0 1 1 *":"2001-01-01T00:00:00.000Z"}\' > /spool/state/served.json');
  const last = async () => (await stack.json<{ last: RunReport }>('status')).last;
  /** The notifications about a run: the kinds of pings to healthchecks.io, and the messages in `told`. */
  const heardOf = ({ rid, project }: RunReport, after: number) =>
    (stack.receiver?.requests ?? []).slice(after).flatMap(({ path, query, body }) => {
      if (query.rid === rid) return [path.split('/')[3] ?? 'success'];
      return path.startsWith('/services/') && body.includes(project) ? ['told'] : [];
    });
  const requests = () => stack.receiver?.requests.length ?? 0;

  it('causes no alarm: the run waits for the container, for the server to listen, and for the replay of its log', async () => {
    const before = requests();
    const recover = `touch ${SHUT} ${REPLAY} $PGDATA/recovery.signal
      echo "restore_command = 'while test -e ${REPLAY}; do sleep 0.1; done; false'" >> $PGDATA/postgresql.auto.conf`;
    await stack.exec('db', ['sh', '-c', recover]);
    await Promise.all([agent, db].map((id) => ok('docker', ['kill', id])));
    await miss();
    await ok('docker', ['start', agent]);
    await says('waiting for a container to start');
    await ok('docker', ['start', db]);
    await says('it does not listen yet');
    await stack.exec('db', ['rm', SHUT]);
    await says('it is starting up');
    await stack.exec('db', ['rm', REPLAY]);
    const report = await until('the run is over', async () => {
      const found = await last();
      return found.trigger === 'catch-up' && found;
    });
    expect(report).toMatchObject({
      status: 'ok',
      results: [{ name: 'db.postgres', status: 'ok' }, { name: 'web.media' }],
    });
    await until('people hear of it', async () => heardOf(report, before).length >= 3);
    expect(heardOf(report, before)).toEqual(['start', 'success', 'told']);
  });

  it.each([
    ['backup', ['backup'], 'db.postgres   waiting'],
    ['restore', ['restore', 'latest', 'db.postgres', '--dry-run'], '  waiting'],
  ])('makes a manual %s show what it waits for', async (_, command, says) => {
    await stack.exec('db', ['touch', SHUT]);
    await ok('docker', ['restart', '-t', '1', db]);
    const child = stack.spawn(...command);
    let said = '';
    child.stderr?.on('data', (data: Buffer) => {
      said += data.toString();
    });
    const ended = new Promise((resolve) => child.once('close', resolve));
    await until('it says so', async () => said.includes(`${says} for the database: it does not listen yet`));
    await stack.exec('db', ['rm', SHUT]);
    expect(await ended).toBe(0);
  });

  it('makes the agent repeat failed sources later, even after another start, and one report covers both tries', async () => {
    const before = requests();
    await ok('docker', ['stop', agent]);
    await miss();
    await stack.pause(db);
    await ok('docker', ['start', agent]);
    const failed = await until('the run has failed', async () => {
      const found = await last();
      return found.status === 'partial' && found;
    });
    expect(failed).toMatchObject({
      results: [{ error: { code: expect.stringMatching(/^PG_(STALLED|UNREACHABLE)$/) } }, { status: 'ok' }],
      retry: { quiet: true },
    });
    await until('people hear of it', async () => heardOf(failed, before).length >= 2);
    expect(heardOf(failed, before)).toEqual(['start', 'log']);
    expect((await stack.lifeboat('status')).stdout).toContain('next attempt ');
    await ok('docker', ['unpause', db]);
    // Ten minutes pass.
    await ok('docker', ['stop', agent]);
    await whileDown(`sed -i 's/"at":"[^"]*"/"at":"2026-01-01T00:00:00.000Z"/' /spool/state/retries.json`);
    await ok('docker', ['start', agent]);
    const again = await until('it is made again', async () => {
      const found = await last();
      return found.id !== failed.id && found;
    });
    expect(again).toMatchObject({ status: 'ok', trigger: 'catch-up', sources: ['db.postgres'] });
    expect(again.results.map(({ name, status, run }) => [name, status, run])).toEqual([
      ['web.media', 'ok', failed.id],
      ['db.postgres', 'ok', undefined],
    ]);
    expect(again.retry).toBeUndefined();
    await until('people hear of it', async () => heardOf(again, before).length >= 3);
    await until('nothing is left to try', async () => (await inAgent('cat /spool/state/retries.json')) === '[]');
    expect(heardOf(again, before)).toEqual(['start', 'success', 'told']);
    expect((await stack.lifeboat('status')).stdout).not.toContain('next attempt');
  });
});
