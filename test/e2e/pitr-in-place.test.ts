import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SourceWindows } from '../../src/overview/windows.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import type { PointResult } from '../../src/restore/point/restore-point.ts';
import { holder, ok, postgres, Stack, sh, until } from '../harness/stack.ts';

/** Versions of services. Before 15, `pg_receivewal` begins elsewhere. */
const IMAGES = { db: 17, new: 18, old: 13 };

/** The data directory of a server in use is replaced by that of a point in time, and back. */
describe('point-in-time recovery in place', () => {
  let stack: Stack;
  const volumes: string[] = [];

  const container = (service: string) => `${stack.project}-${service}-1`;
  const windows = async (service = 'db'): Promise<SourceWindows> => {
    const { sources } = await stack.json<{ sources: SourceWindows[] }>('windows', `${service}.postgres`);
    return sources[0] as SourceWindows;
  };
  /** Resolves when everything that the server has written is stored. */
  const stored = async (service = 'db') => {
    const lsn = await stack.psql('SELECT pg_current_wal_flush_lsn()', { service });
    await stack.untilReceived(lsn, service);
    await until('the WAL is stored', async () => {
      const { receiver } = await windows(service);
      const confirmed = receiver?.state === 'receiving' ? receiver.confirmed?.lsn : undefined;
      const sql = `SELECT '${confirmed}'::pg_lsn >= '${lsn}'::pg_lsn AND timeline_id = ${receiver?.confirmed?.timeline}
        FROM pg_control_checkpoint()`;
      return confirmed !== undefined && (await stack.psql(sql, { service })) === 't';
    });
  };
  const write = async (n: number, service = 'db') => stack.psql(`INSERT INTO written VALUES (${n})`, { service });
  const now = (service = 'db') => stack.psql('SELECT clock_timestamp()', { service });
  const rows = (service = 'db') =>
    stack.psql("SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM written", { service });
  const timeline = () => stack.psql('SELECT timeline_id FROM pg_control_checkpoint()');
  const directory = (service: string) =>
    stack.exec(service, ['sh', '-c', 'stat -c "%u %g %a" "$PGDATA"; ls -A "$PGDATA" | grep -v "^pgsql_tmp" | sort']);
  const inPlace = async (at: string, ...more: string[]) => {
    const ran = await stack.lifeboatInTurn('restore', 'db.postgres', '--at', at, '--in-place', '--json', ...more);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    return JSON.parse(ran.stdout) as RestoreResult;
  };
  /** The base backups of all windows of a timeline. */
  const basesOf = async (timeline: number, service = 'db') => {
    const found = (await windows(service)).windows.filter((one) => one.timeline === timeline);
    return [...new Set(found.flatMap(({ bases }) => bases.map(({ startLsn }) => startLsn)))].sort();
  };
  /** Recovers a server as of a point into a volume. Returns the rows of a table of it, and the result. */
  const recover = async (service: keyof typeof IMAGES, ...point: string[]) => {
    const volume = `${stack.project}_then-${volumes.length}`;
    volumes.push(volume);
    const args = ['restore', `${service}.postgres`, ...point, '--to-volume', volume, '--json'];
    const ran = await stack.lifeboatInTurn(...args);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const result = JSON.parse(ran.stdout) as PointResult;
    const name = `${stack.project}-then-${volumes.length}`;
    const run = ['run', '--detach', '--name', name, '--volume', `${volume}:${result.dataDirectory}`];
    await ok('docker', [...run, `postgres:${IMAGES[service]}`, 'postgres', '-c', 'max_prepared_transactions=5']);
    const sql = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM written";
    try {
      const found = await until('the recovered server answers', async () => {
        const { code, stdout } = await sh('docker', ['exec', name, 'psql', '-U', 'postgres', '-XAtc', sql]);
        return code === 0 && stdout.trim();
      });
      return { found, ...result };
    } finally {
      await sh('docker', ['rm', '--force', '--volumes', name]);
    }
  };
  const rowsAt = async (...point: string[]) => {
    const { found, checks } = await recover('db', ...point);
    expect(checks).toMatchObject([
      { name: 'pg_verifybackup', ok: true, detail: expect.stringContaining('every file') },
      {
        name: 'amcheck',
        ok: true,
        detail: expect.stringMatching(/^[1-9]\d+ indexes and [1-9]\d+ tables are sound; half:/),
      },
    ]);
    return found;
  };

  let before: string;
  /** the base backups from before the fork */
  let bases: string[];
  /** a time of timeline 1, when timeline 2 was not there yet */
  let middle: string;

  beforeAll(async () => {
    const labels = { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' };
    stack = await Stack.start({
      services: {
        db: postgres(IMAGES.db, {
          labels,
          command: ['postgres', '-c', 'fsync=off', '-c', 'max_prepared_transactions=5'],
        }),
        new: postgres(IMAGES.new, { labels }),
        old: postgres(IMAGES.old, { labels }),
        web: holder([], {}, { depends_on: { db: { condition: 'service_healthy' } } }),
      },
      env: { LIFEBOAT_RPO: '1s', LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *' },
    });
    for (const service of Object.keys(IMAGES)) {
      await stack.psql('CREATE TABLE written (n int PRIMARY KEY)', { service });
      await stack.untilWindow(async () => (await windows(service)).windows.length > 0);
    }
    // As DROP DATABASE leaves it when it is interrupted. Nobody can connect to it.
    await stack.psql('CREATE DATABASE half');
    await stack.psql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'");
    await stack.psql("BEGIN; INSERT INTO written VALUES (100); PREPARE TRANSACTION 'later'");
    for (const n of [1, 2]) await write(n);
    before = await now();
    await write(3);
    middle = await now();
    await write(4);
    // The checks of a recovered server use numbers too. Timeline 1 gets past those.
    await stack.psql('DO $$ BEGIN FOR i IN 1..50 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
    await stored();
  });
  afterAll(async () => {
    await stack?.destroy();
    for (const volume of volumes) await sh('docker', ['volume', 'rm', '--force', volume]);
  });

  it('refuses options that do not go together, and shows what it would stop', async () => {
    const refused = ['restore', 'db.postgres', '--at', before, '--in-place', '--to-volume', 'x'];
    expect((await stack.lifeboat(...refused)).stderr).toContain('cannot be combined with --to-volume');
    const dry = await inPlace(before, '--dry-run');
    expect(dry.preview.stops.sort()).toEqual([container('db'), container('web')].sort());
    expect(await timeline()).toBe('1');
    expect(await rows()).toBe('1 2 3 4');
  });

  it('replaces the data directory, and keeps the former one', async () => {
    const meta = await directory('db');
    bases = await basesOf(1);
    const since = await ok('docker', ['inspect', '--format', '{{.State.StartedAt}}', container('web')]);
    const result = await inPlace(before, '--yes');
    expect(result).toMatchObject({ status: 'ok', canRollBack: true, stoppedMs: expect.any(Number) });
    expect(result.checks).toContainEqual({
      name: 'db.postgres',
      ok: true,
      detail: 'accepts connections, on timeline 2',
    });
    expect(await rows()).toBe('1 2');
    expect(await timeline()).toBe('2');
    expect(await stack.psql('SELECT gid FROM pg_prepared_xacts')).toBe('later');
    // As the image made it, and with no file of the recovery.
    const left = (text: string) =>
      text.split('\n').filter((line) => !/backup_label|backup_manifest|tablespace_map|^$/.test(line));
    expect(left(await directory('db'))).toEqual(left(meta));
    expect(await ok('docker', ['inspect', '--format', '{{.State.StartedAt}}', container('web')])).not.toBe(since);
    const servers = Object.keys(IMAGES).length;
    await until('each server has its receiver', async () => (await stack.helpers()).length === servers);
  });

  it('continues on the new timeline, and both sides of the fork can be recovered', async () => {
    const xid = await stack.psql('WITH one AS (INSERT INTO written VALUES (5)) SELECT pg_current_xact_id()');
    await stored();
    // The window goes on from the fork, without a new base backup.
    expect(await basesOf(2)).toEqual(bases);
    expect(await rowsAt('--xid', xid, '--timeline', '2')).toBe('1 2 5');
    // The former timeline gave the number to another transaction.
    const both = await stack.lifeboatInTurn('restore', 'db.postgres', '--xid', xid, '--to-volume', 'none');
    expect([both.code, both.stderr]).toEqual([1, expect.stringContaining('is a point on each of them: 1, 2')]);
    expect((await windows()).holes).toEqual([]);
    expect([...new Set((await windows()).windows.map((one) => one.timeline))].sort()).toEqual([1, 2]);
    expect(await rowsAt('--at', 'latest', '--timeline', '2')).toBe('1 2 5');
    expect(await rowsAt('--at', 'latest', '--timeline', '1')).toBe('1 2 3 4');
    // Timeline 2 has the state of the fork at a time before it began.
    const refused = await stack.lifeboatInTurn('restore', 'db.postgres', '--at', middle, '--in-place', '--yes');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain('PITR_TIME');
    expect(refused.stderr).toContain('--timeline');
    expect(await rowsAt('--at', middle, '--timeline', '1')).toBe('1 2 3');
    // Both have the same state before the fork.
    expect(await rowsAt('--at', before)).toBe('1 2');
  });

  it('makes base backups without the data that is put aside', async () => {
    const { code, report } = await stack.backup('db.postgres.base');
    expect({ code, report }).toMatchObject({ code: 0, report: { status: 'ok' } });
    const { stdout } = await stack.lifeboat('show', 'latest', 'db.postgres.base');
    expect(stdout).toContain('PG_VERSION');
    expect(stdout).not.toContain('lifeboat');
  });

  it('brings the old data back, and receives its WAL again', async () => {
    const ran = await stack.lifeboatInTurn('rollback', '--yes', '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await until('the server is back', async () => rows().catch(() => undefined))).toBe('1 2 3 4');
    expect(await timeline()).toBe('1');
    await write(6);
    await stored();
    expect(await rowsAt('--at', 'latest', '--timeline', '1')).toBe('1 2 3 4 6');
    const again = await stack.lifeboatInTurn('rollback', '--yes', '--json');
    expect(again.code, again.stdout + again.stderr).toBe(0);
    expect(await until('the server is back', async () => rows().catch(() => undefined))).toBe('1 2 5');
  });

  it.each([
    ['new', 'whose directory is inside its volume'],
    ['old', 'whose receiver begins where the server writes'],
  ] as const)('recovers the service %s, %s, and continues from the fork on', async (service, _) => {
    await write(1, service);
    const at = await now(service);
    await write(2, service);
    await stored(service);
    const before = await basesOf(1, service);
    const args = ['restore', `${service}.postgres`, '--at', at, '--in-place', '--yes', '--json'];
    const ran = await stack.lifeboatInTurn(...args);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await rows(service)).toBe('1');
    expect((await directory(service)).split('\n')[0]).toBe('999 999 700');
    const xid = await stack.psql('WITH one AS (INSERT INTO written VALUES (3)) SELECT pg_current_xact_id()', {
      service,
    });
    await stored(service);
    expect(await basesOf(2, service)).toEqual(before);
    expect((await windows(service)).holes).toEqual([]);
    expect((await recover(service, '--xid', xid)).found).toBe('1 3');
    const { stdout } = await stack.lifeboatInTurn('rollback', '--forget', '--yes');
    expect(stdout).toContain(`${service}.postgres`);
    expect(await stack.exec(service, ['sh', '-c', 'ls -A "$PGDATA" | grep lifeboat || true'])).toBe('');
  });

  it('refuses at once to exchange data to which a container of nobody writes', async () => {
    const [found, writer] = [await rows(), `${stack.project}-writer`];
    const sleeping = ['node:24-trixie-slim', 'sleep', '3600'];
    await ok('docker', ['run', '--detach', '--name', writer, '--volumes-from', container('db'), ...sleeping]);
    const refused = await stack.lifeboatInTurn('restore', 'db.postgres', '--at', before, '--in-place', '--yes');
    await ok('docker', ['rm', '--force', writer]);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain('TREE_TARGET_REFUSED');
    expect(refused.stderr).toContain(`${writer} can write to the data directory`);
    expect(refused.stderr).not.toContain('replaying');
    expect(await rows()).toBe(found);
  });

  it('names the old data after the spool is lost, as long as it is there', async () => {
    const areas = async () =>
      (await stack.json<{ strayAreas: { source: string; name: string }[] }>('status')).strayAreas;
    expect(await areas()).toEqual([]);
    const remove = 'ls -d "$PGDATA"/pgsql_tmp.lifeboat-before-*';
    const name = (await stack.exec('db', ['sh', '-c', remove])).trim().split('/').at(-1);
    await stack.compose('rm', '--stop', '--force', 'lifeboat');
    for (const helper of await stack.helpers()) await sh('docker', ['rm', '--force', helper]);
    await ok('docker', ['volume', 'rm', `${stack.project}_spool`]);
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    // The image has given the directory to the user of the server, so nobody can tell who made it.
    const named = [{ source: 'db.postgres', name, why: expect.stringContaining('user 999 owns it') }];
    expect(await areas()).toMatchObject(named);
    const ran = await until('no other run is under way', async () => {
      const one = await stack.lifeboat('backup', '--json', 'db.postgres.base');
      return one.code !== 11 && one;
    });
    expect(ran.stdout, ran.stderr).toContain(`a restore put it aside or did not finish it: ${name}`);
    expect(await areas()).toMatchObject(named);
    await ok('docker', ['exec', '--user', 'root', container('db'), 'sh', '-c', `rm -r "$PGDATA/${name}"`]);
    expect(await areas()).toEqual([]);
  });
});
