import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { RestoreReport } from '../../src/report/events.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import type { RollbackResult } from '../../src/restore/rollback.ts';
import { GATE, openGates, shutGate } from '../harness/gate.ts';
import { holder, ok, postgres, Stack, sh, until, whileRuns } from '../harness/stack.ts';

/**
 * A client that repeats a statement over one connection, and connects again when that ends. No variable names its
 * server. The statement ends with its client: a loop inside the server would not.
 */
function client(server: string, sql: string, extra: Record<string, unknown> = {}): object {
  const { environment, ...rest } = extra;
  const psql = '/usr/lib/postgresql/17/bin/psql -XqAt "$$0" >/dev/null 2>&1';
  const script = `while :; do printf '%s\\n' "$$1" '\\watch 0.05' | ${psql}; sleep 0.2; done`;
  return {
    image: 'postgres:17',
    entrypoint: ['bash', '-c', script, server, sql],
    environment: {
      PGPASSWORD: 'canary-pg-password',
      PGUSER: 'postgres',
      PGDATABASE: 'app',
      ...(environment as object),
    },
    init: true,
    stop_grace_period: '2s',
    ...rest,
  };
}

const writes = (who: string) => `INSERT INTO w VALUES ('${who}', clock_timestamp())`;

/** Connects again when its session ends. */
const BI = `while :; do
  psql -X 'host=db user=postgres dbname=app application_name=bi' -c 'SELECT pg_sleep(3600)'; sleep 0.2
done`;

/** Forwards connections, as a pooler does. */
const POOL =
  "require('net').createServer((c)=>{const s=require('net').connect(5432,'db');for(const [a,b] of [[c,s],[s,c]]){a.pipe(b);a.on('error',()=>b.destroy())}}).listen(6432)";

/** Adds an empty file each time, named after the time in nanoseconds. A file without content is never half written. */
const ADD_FILES = 'while :; do : >/docs/at-$$(date +%s%N); sleep 0.2; done';

/** While the gate is shut, a restore waits in the middle of the database. */
const GATED = `CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_activity WHERE query = '${GATE}') LOOP
      PERFORM pg_sleep(0.05), pg_stat_clear_snapshot();
    END LOOP;
    RETURN true;
  END $$; CREATE TABLE gated (id int CHECK (gate())); INSERT INTO gated VALUES (1)`;

/** Waits until a journal has an entry, then kills the restore within some hundredths of a second. */
const killAfter = (type: string) => `until grep -qs '"type":"${type}"' /spool/state/runs/*.ndjson; do sleep 0.01; done
  for p in /proc/[0-9]*; do
    if tr '\\0' ' ' < $p/cmdline | grep -q 'cli[.]js restore '; then kill -KILL "\${p#/proc/}" && echo killed; fi
  done 2>/dev/null; true`;

/** A product of many services around one database: some use it without saying so in `depends_on`. */
describe('a restore of a product', () => {
  let stack: Stack;
  let snapshot: string;
  let takenAt: string;
  const names = (services: string[]) => services.map((one) => `${stack.project}-${one}-1`);
  const inApp = (sql: string, database = 'app') => stack.psql(sql, { database });
  const life = async (service: string) => {
    const format = '{{.State.StartedAt}} {{.State.FinishedAt}}';
    const [started, finished] = (await ok('docker', ['inspect', '--format', format, await stack.id(service)])).split(
      ' ',
    );
    return { started: started as string, finished: finished as string };
  };
  const outsider = () => `${stack.project}-outsider`;
  const writers = ['worker', 'behind'];
  const users = ['worker', 'pool', 'behind', 'api', 'sidekiq', 'web'];
  const hooks = {
    'lifeboat.exec.pre': "sh -c 'date +%s%N >/tmp/pre'",
    'lifeboat.exec.post': "sh -c 'date +%s%N >/tmp/post'",
  };
  const restoredHook = () => `lifeboat.exec.restored in ${names(['web'])}`;
  const healthOf = () => `lifeboat.health of ${names(['web'])}`;

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          environment: { POSTGRES_DB: 'app' },
          command: ['postgres', '-c', 'fsync=off'],
          labels: { 'lifeboat.postgres': 'true', ...hooks },
        }),
        worker: client('host=db', writes('worker')),
        pool: holder([], {}, { command: ['node', '-e', POOL] }),
        behind: client('host=pool port=6432', writes('behind'), {
          environment: { DATABASE_URL: 'postgres://postgres@pool:6432/app' },
        }),
        api: holder([], {}, { depends_on: { db: { condition: 'service_healthy' } } }),
        sidekiq: holder([], {}, { depends_on: ['api'] }),
        web: holder(
          ['media:/media'],
          {
            'lifeboat.volumes': 'media',
            ...hooks,
            'lifeboat.exec.restored': "sh -c 'id -un >>/tmp/restored'",
            // It runs after the command above, as the same user.
            'lifeboat.health': `sh -c 'grep -q "$(id -un)" /tmp/restored'`,
            'lifeboat.exec.user': 'node',
          },
          { depends_on: ['sidekiq'] },
        ),
        files: holder(
          ['docs:/docs'],
          { 'lifeboat.volumes': 'docs' },
          {
            command: ['sh', '-c', ADD_FILES],
          },
        ),
        bystander: holder([], {}),
        reports: client('host=db', 'SELECT pg_sleep(3600)', { labels: { 'lifeboat.stop': 'false' } }),
      },
      volumes: { media: {}, docs: {} },
      receiver: false,
    });
    await stack.exec('web', ['sh', '-c', 'echo one >/media/one']);
    await stack.exec('files', ['sh', '-c', 'echo one >/docs/one; echo only here >/docs/own']);
    await inApp(GATED);
    await inApp('CREATE TABLE w (who text, at timestamptz); CREATE TABLE t AS SELECT generate_series(1, 100) AS id');
    // Compose is not involved: a container that another project would have.
    await ok('docker', [
      ...['run', '--detach', '--init', '--name', outsider(), '--network', `${stack.project}_default`],
      ...['--label', 'com.docker.compose.project=lbt-elsewhere', '--label', 'com.docker.compose.service=bi'],
      ...['--volume', `${stack.project}_docs:/docs`, '--env', 'PGPASSWORD=canary-pg-password', 'postgres:17'],
      ...['bash', '-c', BI],
    ]);
    for (const who of writers)
      await until(
        `${who} writes`,
        async () => (await inApp(`SELECT count(*) FROM w WHERE who = '${who}'`)) !== '0',
        60_000,
      );
    const clients =
      'SELECT count(DISTINCT client_addr) FROM pg_stat_activity WHERE client_addr IS NOT NULL AND pid <> pg_backend_pid()';
    await until('all clients are connected', async () => (await inApp(clients)) === '4', 60_000);
    const { report } = await stack.backup();
    expect(report.status).toBe('ok');
    snapshot = report.snapshot as string;
    takenAt = report.end;
    await inApp('DELETE FROM t WHERE id > 50');
  });
  afterEach(() => openGates(stack));
  afterAll(async () => {
    await ok('docker', ['rm', '--force', '--volumes', outsider()]).catch(() => undefined);
    await stack?.destroy();
  });

  it('runs the commands of a service around the backup of the database that it depends on', async () => {
    const time = async (service: string, hook: string) => BigInt(await stack.exec(service, ['cat', `/tmp/${hook}`]));
    const times = [
      await time('web', 'pre'),
      await time('db', 'pre'),
      await time('db', 'post'),
      await time('web', 'post'),
    ];
    expect(times).toEqual(times.toSorted((a, b) => (a < b ? -1 : 1)));
    expect((await stack.exec('web', ['stat', '--format', '%U', '/tmp/pre'])).trim()).toBe('node');
  });

  it('shows beforehand who is stopped, who is not although connected, and the label that changes it', async () => {
    const ran = await stack.lifeboat('restore', 'latest', 'db.postgres', '--database', 'app', '--dry-run');
    const stop = ran.stderr.match(/would stop +(.*) \((?:it uses|they use) the data\)/)?.[1]?.split(', ') ?? [];
    expect(stop.toSorted(), ran.stderr).toEqual(names(users).sort());
    expect(stop.indexOf(`${stack.project}-api-1`)).toBeLessThan(stop.indexOf(`${stack.project}-web-1`));
    expect(ran.stderr).toMatch(/also connected \S+-reports-1, not stopped: .*lifeboat\.stop/);
    expect(ran.stderr).toMatch(/also connected \S+-outsider, not stopped: .*project lbt-elsewhere/);
    const { preview } = await stack.json<RestoreResult>('restore', 'latest', 'db.postgres', '--dry-run');
    expect(preview).toMatchObject({
      stops: stop,
      replaces: expect.arrayContaining([expect.objectContaining({ name: 'app' })]),
    });
    expect(preview.bytes).toBeGreaterThan(0);
    expect(preview.alsoConnected.map(({ name }) => name)).toEqual(
      expect.arrayContaining([outsider(), ...names(['reports'])]),
    );
  });

  it('writes nothing between the stop and the start of those that use the database', async () => {
    const before = { reports: await life('reports'), bystander: await life('bystander') };
    const ran = await stack.lifeboat('restore', 'latest', 'db.postgres', '--database', 'app', '--yes', '--json');
    const result = JSON.parse(ran.stdout) as RestoreReport;
    expect(ran.code, ran.stderr + ran.stdout).toBe(0);
    expect(result.warnings.join('\n')).toMatch(/also connected, not stopped: \S+-reports-1/);
    expect(result.stoppedMs).toBeGreaterThan(result.withoutDataMs as number);
    expect(await inApp('SELECT count(*) FROM t')).toBe('100');
    expect(result.checks).toContainEqual({ name: restoredHook(), ok: true });
    expect(result.checks).toContainEqual({ name: healthOf(), ok: true, detail: 'the command succeeded' });
    expect(await stack.exec('web', ['cat', '/tmp/restored'])).toBe('node\n');
    const kept = result.restored[0]?.kept as string;
    for (const who of writers) {
      const { started, finished } = await life(who);
      const during = `SELECT count(*) FROM w WHERE who = '${who}' AND at > '${finished}' AND at < '${started}'`;
      expect({ who, old: await inApp(during, kept), new: await inApp(during) }).toEqual({ who, old: '0', new: '0' });
      await until(
        `${who} writes again`,
        async () => (await inApp(`SELECT count(*) FROM w WHERE at > '${started}'`)) !== '0',
      );
    }
    expect({ reports: await life('reports'), bystander: await life('bystander') }).toEqual(before);
  });

  it('rolls back with the same services stopped', async () => {
    const { started } = await life('worker');
    expect((await stack.lifeboat('rollback')).stderr).toMatch(/NOT_CONFIRMED.*--dry-run/s);
    const dry = await stack.lifeboat('rollback', '--dry-run');
    expect(dry.code, dry.stderr).toBe(0);
    expect(dry.stderr).toMatch(/would stop .*-worker-1/);
    const { preview, restored } = await stack.json<RollbackResult>('rollback', '--dry-run');
    expect(preview.stops.toSorted()).toEqual(names(users).sort());
    expect(preview.replaces).toMatchObject([{ name: 'app' }]);
    const forget = await stack.lifeboat('rollback', '--forget', '--dry-run', '--json');
    expect(JSON.parse(forget.stdout)).toMatchObject({ wouldForget: [{ source: 'db.postgres' }] });
    expect(restored).toEqual([]);
    expect({ count: await inApp('SELECT count(*) FROM t'), started: (await life('worker')).started }).toEqual({
      count: '100',
      started,
    });
    const ran = await stack.lifeboat('rollback', '--yes', '--json');
    expect(ran.code, ran.stderr + ran.stdout).toBe(0);
    expect((JSON.parse(ran.stdout) as RestoreReport).checks.map(({ name }) => name).sort()).toEqual(
      [healthOf(), ...names(users)].sort(),
    );
    expect(await inApp('SELECT count(*) FROM t')).toBe('50');
    expect((await life('worker')).started).not.toBe(started);
    // A later restore could not be rolled back and forth while this one is rolled back.
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
  });

  describe('of all sources', () => {
    const state = async () => [
      await inApp('SELECT count(*) FROM t'),
      await stack.exec('web', ['cat', '/media/one']),
      await stack.exec('files', ['cat', '/docs/one']),
    ];
    const all = (...more: string[]) => stack.lifeboat('restore', snapshot, '--all', '--json', ...more);

    it('is shown beforehand, and asks once', async () => {
      for (const [service, file] of [
        ['web', '/media/one'],
        ['files', '/docs/one'],
      ] as const)
        await stack.exec(service, ['sh', '-c', `echo changed >${file}`]);
      const ran = await all('--dry-run');
      expect(ran.code, ran.stderr + ran.stdout).toBe(0);
      const { preview, sources } = JSON.parse(ran.stdout) as RestoreResult;
      expect(preview.stops.toSorted()).toEqual(names([...users, 'files']).sort());
      expect(preview.alsoWriting).toEqual([
        { name: outsider(), reason: expect.stringMatching(/service bi of project lbt-elsewhere, .* does not stop it/) },
      ]);
      expect((await stack.lifeboat('plan')).stdout).toContain(`${outsider()} (service bi of project lbt-elsewhere)`);
      expect(sources?.map(({ source }) => source)).toEqual(['db.postgres', 'files.docs', 'web.media']);
      expect((await all()).code).toBe(2);
      expect(await state()).toEqual(['50', 'changed\n', 'changed\n']);
    });

    it('stops each service once, and rolls back as a whole', async () => {
      const ran = await all('--yes');
      const result = JSON.parse(ran.stdout) as RestoreResult;
      expect(ran.code, ran.stderr + ran.stdout).toBe(0);
      expect(await state()).toEqual(['100', 'one\n', 'one\n']);
      expect(result.checks.map(({ name }) => name).sort()).toEqual(
        [restoredHook(), healthOf(), ...names([...users, 'files'])].sort(),
      );
      expect(result.restored.map(({ target }) => target.split(':')[0])).toEqual([
        ...['db.postgres', 'files.docs', 'web.media'],
      ]);
      expect(result.stoppedMs).toBeGreaterThan(result.withoutDataMs as number);
      const dry = await stack.json<RollbackResult>('rollback', result.id, '--dry-run');
      expect(dry.preview.replaces.map(({ name }) => name)).toEqual(expect.arrayContaining(['app', 'web.media']));
      expect(await state()).toEqual(['100', 'one\n', 'one\n']);
      const back = await stack.lifeboat('rollback', result.id, '--yes', '--json');
      expect(back.code, back.stderr + back.stdout).toBe(0);
      expect(await state()).toEqual(['50', 'changed\n', 'changed\n']);
      const again = await stack.lifeboat('rollback', '--yes', '--json');
      expect(again.code, again.stderr + again.stdout).toBe(0);
      expect(await state()).toEqual(['100', 'one\n', 'one\n']);
    });

    const change = async () => {
      await inApp('DELETE FROM t WHERE id > 50');
      for (const [service, file] of [
        ['web', '/media/one'],
        ['files', '/docs/one'],
      ] as const)
        await stack.exec(service, ['sh', '-c', `echo changed >${file}`]);
    };

    /** Starts a restore that waits in the middle of the database, with the volumes built. */
    const beginLive = async () => {
      const open = await shutGate(stack);
      const ended = all('--yes', '--live', '--no-safety');
      const loading = "SELECT count(*) FROM pg_stat_activity WHERE datname ~ '^app__restoring' AND query ~ 'gated'";
      await whileRuns(
        ended,
        until('the restore loads rows', async () => (await inApp(loading, 'postgres')) !== '0'),
      );
      return { open, ended };
    };
    const lives = () => Promise.all([...writers, 'files', 'web'].map(life));
    const lastRow = async (database = 'app') =>
      Number(await inApp('SELECT extract(epoch FROM max(at)) FROM w', database));
    /** Returns the times in the names of the files in a directory of the volume, in seconds. */
    const fileTimes = async (directory = '.') =>
      (await stack.exec('files', ['sh', '-c', `cd /docs/${directory} && ls | sed -n 's/^at-//p'`]))
        .trim()
        .split('\n')
        .map((name) => Number(name) / 1e9);
    /** Returns the tree that a restore is building in the volume. */
    const building = async () => (await stack.exec('files', ['sh', '-c', 'ls -A /docs | grep restoring || :'])).trim();
    const seconds = (time: string) => Date.parse(time.trim()) / 1000;

    it('stops services only for the swap with --live, and keeps what they write until then', async () => {
      await change();
      // A volume that holds nothing gets no old data.
      await stack.exec('web', ['find', '/media', '-mindepth', '1', '-not', '-path', '*.lifeboat*', '-delete']);
      const dry = await stack.lifeboat('restore', snapshot, '--all', '--live', '--dry-run');
      expect(dry.stderr).toMatch(
        /would stop .*\((?:it uses|they use) the data\), only for the swap, and start (?:it|them) again/,
      );
      expect(dry.stderr).toMatch(/note +the services run until the swap: data that they write until then/);
      const before = await lives();
      const { open, ended } = await beginLive();
      const from = performance.now();
      // A deployment replaces a container that the preview named.
      await stack.compose('up', '--detach', '--force-recreate', 'sidekiq');
      const [rows, files] = [await lastRow(), Math.max(...(await fileTimes()))];
      await until('rows are written', async () => (await lastRow()) > rows);
      await until('files are written', async () => (await fileTimes()).some((at) => at > files));
      expect(await building()).toMatch(/^\.lifeboat-restoring-\S+$/);
      expect(await lives()).toEqual(before);
      const gatedMs = performance.now() - from;
      const openedAt = Date.now() / 1000;
      await open();
      const ran = await ended;
      const result = JSON.parse(ran.stdout) as RestoreResult;
      expect(ran.code, ran.stderr + ran.stdout).toBe(0);
      expect(result).toMatchObject({ status: 'ok', live: true, canRollBack: true });
      expect(result.checks).toContainEqual({ name: restoredHook(), ok: true });
      expect(result.warnings.join('\n')).toContain(`also writing, not stopped: ${outsider()}`);
      expect(await state()).toEqual(['100', 'one\n', 'one\n']);
      // The time away leaves out the load.
      expect(result.stoppedMs).toBeLessThan(result.durationMs - gatedMs);
      const kept = (source: string) => result.restored.find(({ target }) => target.startsWith(source))?.kept as string;
      const adds = await life('files');
      expect(seconds((await life('sidekiq')).finished)).toBeGreaterThan(openedAt);
      const stored = seconds(takenAt);
      // The engine notes the start of a container only once its program runs already.
      for (const at of await fileTimes()) expect(at < stored || at > seconds(adds.finished), `${at}`).toBe(true);
      const newest = Math.max(...(await fileTimes(`${kept('files')}/tree`)));
      for (const at of [newest, await lastRow(kept('db'))]) expect(at).toBeGreaterThan(openedAt);
      expect(newest).toBeLessThan(seconds(adds.finished));
      const back = await stack.lifeboat('rollback', result.id, '--yes', '--json');
      expect(back.code, back.stderr + back.stdout).toBe(0);
      expect((JSON.parse(back.stdout) as RollbackResult).warnings.join('\n')).toMatch(
        /web\.media: \S+_media keeps the restored data: it held nothing before the restore/,
      );
      expect(await state()).toEqual(['50', 'one\n', 'changed\n']);
      expect(await fileTimes()).toContain(newest);
      // The id that the restore printed, or no id, means all of its sources.
      const restores = async () => (await stack.json<{ restores: { id: string; group: string }[] }>('status')).restores;
      const ids = (of: Awaited<ReturnType<typeof restores>>) => of.map(({ id }) => id);
      const others = (await restores()).filter(({ group }) => group !== result.id);
      const forgotten = await stack.lifeboat('rollback', result.id, '--forget', '--yes');
      expect(forgotten.code, forgotten.stderr).toBe(0);
      expect(forgotten.stdout).toMatch(/of db\.postgres can no longer.*\n.*of files\.docs can no longer/);
      expect(ids(await restores())).toEqual(ids(others));
      for (const { id } of (await stack.json<{ restores: { id: string }[] }>('status')).restores)
        await stack.lifeboat('rollback', id, '--forget', '--yes');
    });

    it.each([
      ['while it loads', 'database', false],
      ['between databases and volumes', 'swapped', true],
      ['after the services were started', 'started', true],
    ])('leaves each source old or new and names it, if it is killed %s with --live', async (_, entry, isSwapped) => {
      await change();
      const since = new Date().toISOString();
      const before = await lives();
      const killed = stack.exec('lifeboat', ['sh', '-c', killAfter(entry)]);
      const child = stack.spawn('restore', snapshot, '--all', '--yes', '--live', '--no-safety');
      child.stdout?.resume();
      child.stderr?.resume();
      const ended = new Promise((resolve) => child.once('close', resolve));
      expect(await killed).toContain('killed');
      await ended;
      if (!isSwapped) expect(await lives()).toEqual(before);
      // The daemon may recover first: it looks at each full minute.
      const next = await stack.lifeboatInTurn('restore', 'no-such-snapshot', 'db.postgres', '--json');
      expect(next.stdout).toContain('SNAPSHOT_UNKNOWN');
      const sources = ['db.postgres', 'web.media', 'files.docs'];
      const agent = await stack.id('lifeboat');
      // On a busy machine, a helper of the dead run may still be there, and a later recovery undoes the rest.
      const said = await until('each source is reported', async () => {
        const logs = await sh('docker', ['logs', '--since', since, agent]);
        const lines = `${next.stderr}${logs.stderr}`.split('\n').filter((line) => line.includes('RUN_DIED'));
        return sources.every((source) => lines.some((line) => line.includes(source))) && lines;
      });
      const stopped = names([...users, 'files']);
      const running = async () =>
        (await ok('docker', ['inspect', '--format', '{{.State.Running}}', ...stopped])).match(/true/g)?.length ===
        stopped.length;
      await until('the services run again', running, 60_000);
      if (!isSwapped) expect(await lives()).toEqual(before);
      const [rows, media, docs] = await state();
      expect(rows).toBe(isSwapped ? '100' : '50');
      for (const content of [media, docs])
        expect(isSwapped ? ['one\n', 'changed\n'] : ['changed\n']).toContain(content);
      await until('no tree is left that the restore was building', async () => (await building()) === '');
      const left = "SELECT count(*) FROM pg_database WHERE datname ~ '__restoring'";
      expect(await inApp(left)).toBe('0');
      for (const [source, isNew] of [
        ['db.postgres', isSwapped],
        ['web.media', media === 'one\n'],
        ['files.docs', docs === 'one\n'],
      ] as const) {
        const about = said.filter((line) => line.includes(source));
        expect(about, said.join('\n')).toHaveLength(1);
        expect(about[0]).toContain(isNew ? 'in place' : 'Nothing was replaced');
      }
    });

    it('can be started again after that', async () => {
      const again = await all('--yes', '--no-safety');
      expect(again.code, again.stderr + again.stdout).toBe(0);
      expect(await state()).toEqual(['100', 'one\n', 'one\n']);
    });

    it('restores the others if one source cannot be restored', async () => {
      await inApp('DELETE FROM t WHERE id > 30');
      await stack.exec('web', ['sh', '-c', 'echo changed >/media/one']);
      await stack.exec('lifeboat', ['sh', '-c', 'rm -r /backups/*/packs/files.docs']);
      const ran = await all('--yes', '--no-safety');
      const result = JSON.parse(ran.stdout) as RestoreResult;
      expect(ran.code, ran.stderr + ran.stdout).toBe(3);
      expect(result.failed).toEqual([
        { target: 'files.docs', error: expect.objectContaining({ code: 'OBJECT_MISSING' }) },
      ]);
      expect(await state()).toEqual(['100', 'one\n', 'one\n']);
    });
  });

  it('runs the command of a service after the restore of a database that was gone', async () => {
    await stack.psql('DROP DATABASE app WITH (FORCE)');
    const args = ['restore', snapshot, 'db.postgres', '--database', 'app', '--yes', '--no-safety', '--json'];
    const ran = await stack.lifeboat(...args);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const { checks, canRollBack } = JSON.parse(ran.stdout) as RestoreResult;
    expect(checks).toContainEqual({ name: restoredHook(), ok: true });
    expect(canRollBack).toBe(false);
    expect(await inApp('SELECT count(*) FROM t')).toBe('100');
  });
});
