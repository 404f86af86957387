import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import type { PostgresFacts } from '../../src/sources/postgres/facts.ts';
import type { ManifestSource } from '../../src/store/manifest.ts';
import { postgres, Stack, until, whileRuns } from '../harness/stack.ts';
import { askRestored } from './outcome.ts';

/** An index over a function of an extension that finds its own by the search path (before Postgres 17). */
const EARTH = `CREATE EXTENSION cube; CREATE EXTENSION earthdistance;
  CREATE TABLE places (id int PRIMARY KEY, lat float8, lng float8);
  CREATE INDEX ON places USING gist (ll_to_earth(lat, lng));
  INSERT INTO places VALUES (1, 52.5, 13.4), (2, 48.1, 11.6);
  CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain SELECT generate_series(1, 7);`;

/** The function that an index calls was replaced since: planning whatever reads the table fails, under any path. */
const BROKEN_INDEX = `CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
  CREATE FUNCTION key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.helper($1)';
  CREATE TABLE broken (id int); INSERT INTO broken SELECT generate_series(1, 5);
  CREATE INDEX ON broken (key(id)); DROP FUNCTION helper(int);`;

/** Above 64 MiB: such databases are dumped first. */
const BIG = `CREATE TABLE big (id int, v text); ALTER TABLE big ALTER v SET STORAGE plain;
  INSERT INTO big SELECT i, repeat('x', 4000) FROM generate_series(1, 20000) i;`;

describe('one bad thing in a server', () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({ services: { db: postgres(15) } });
    for (const name of ['earth', 'app', 'blog']) await stack.psql(`CREATE DATABASE ${name}`);
    await stack.psql(EARTH, { database: 'earth' });
    await stack.psql(BROKEN_INDEX, { database: 'blog' });
    await stack.psql('CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10)', { database: 'app' });
  });
  afterAll(() => stack?.destroy());

  const facts = async (snapshot: string): Promise<{ entry: ManifestSource; databases: PostgresFacts['databases'] }> => {
    const { stdout } = await stack.lifeboat('show', snapshot, 'db.postgres', '--json');
    const { facts: read, ...entry } = JSON.parse(stdout) as ManifestSource & { facts: PostgresFacts };
    return { entry: entry as ManifestSource, databases: read.databases };
  };
  const result = (report: RunReport) => report.results.find(({ name }) => name === 'db.postgres');

  it('is no failure when it only keeps rows from being counted', async () => {
    const { code, report, stderr } = await stack.backup();
    expect(code, JSON.stringify(report, null, 1) + stderr).toBe(0);
    const { entry, databases } = await facts(report.snapshot ?? '');
    const counted = databases.flatMap(({ tables }) =>
      tables.map(({ name, exact, rows }) => [name, exact ? rows : 'not counted']),
    );
    expect(Object.fromEntries(counted)).toEqual({ places: 2, plain: 7, broken: 'not counted', t: 10 });
    expect(result(report)?.warnings).toEqual([
      expect.stringMatching(
        /^database blog: 1 table not counted, .*public\.broken \(function public\.helper\(integer\) does not exist\)$/,
      ),
    ]);
    expect(entry.databases?.map(({ name, status }) => [name, status])).toEqual(
      ['app', 'blog', 'earth', 'postgres'].map((name) => [name, 'ok']),
    );
  });

  it('takes no other database with it: one dropped meanwhile, one damaged, one that is not there', async () => {
    const whole = (await stack.backup()).report.snapshot ?? '';
    for (const name of ['big', 'doomed']) await stack.psql(`CREATE DATABASE ${name}`);
    await stack.psql(BIG, { database: 'big' });
    const file = await stack.psql("CHECKPOINT; SELECT pg_relation_filepath('t')", { database: 'app' });
    await stack.exec('db', ['rm', `/var/lib/postgresql/data/${file.trim().split('\n').at(-1)}`]);
    // Its dump waits; the small databases, which were listed before it, come after it.
    const lock = stack.psql('BEGIN; LOCK TABLE big; SELECT pg_sleep(600)', { database: 'big' }).catch(String);
    const held = "FROM pg_locks WHERE relation = 'big'::regclass AND mode = 'AccessExclusiveLock' AND granted";
    const waits = "FROM pg_locks WHERE relation = 'big'::regclass AND NOT granted";
    const any = (from: string) => async () => (await stack.psql(`SELECT 1 ${from}`, { database: 'big' })) !== '';
    await until('the table is locked', any(held));
    const running = stack.backup();
    await whileRuns(running, until('the dump waits', any(waits)));
    await stack.psql('DROP DATABASE doomed');
    await stack.psql(`SELECT pg_terminate_backend(pid) ${held}`, { database: 'big' });
    await lock;
    const { code, report, stderr } = await running;
    const told = JSON.stringify(report, null, 1) + stderr;
    expect([code, report.status], told).toEqual([3, 'partial']);
    const { entry, databases } = await facts(report.snapshot ?? '');
    expect(databases.map(({ name }) => name)).toEqual(['big', 'blog', 'earth', 'postgres']);
    expect(
      entry.databases?.filter(({ status }) => status === 'failed').map(({ name, error }) => [name, error?.code]),
    ).toEqual([
      ['app', 'PG_DUMP_FAILED'],
      ['doomed', 'PG_DATABASE_UNKNOWN'],
    ]);
    expect(result(report)?.error, told).toMatchObject({
      code: 'PG_DUMP_FAILED',
      message: expect.stringMatching(/^2 of 6 databases are not stored: app \(.*\), doomed \(.*\)$/),
      hint: expect.stringContaining(`Snapshot ${whole} is the last that holds app. No snapshot holds doomed.`),
    });
    const failed = (stack.receiver?.requests ?? []).filter(({ path }) => path.endsWith('/fail'));
    expect(failed.at(-1)?.body).toContain('doomed');
    // Nothing half made is stored as if it were whole.
    const files = await stack.lifeboat('show', report.snapshot ?? '', 'db.postgres', 'databases/*', '--json');
    expect(files.stdout).not.toMatch(/databases\/(app|doomed)/);

    // Each database comes back from the newest snapshot that holds it.
    const ask = 'SELECT count(*) FROM t';
    expect(await askRestored(stack, 'latest', 'app', ask)).toBe('10');
    expect(await askRestored(stack, 'latest', 'big', 'SELECT count(*) FROM big')).toBe('20000');
    const shown = await stack.lifeboat('status');
    expect([shown.code, shown.stdout]).toEqual([
      3,
      expect.stringContaining(`Snapshot ${whole} is the last that holds app.`),
    ]);
    expect((await stack.lifeboat('snapshots')).stdout).toContain('db.postgres (without app, doomed)');
  });
});
