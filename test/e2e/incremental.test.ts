import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SourceReport } from '../../src/report/events.ts';
import type { PostgresFacts } from '../../src/sources/postgres/facts/facts.ts';
import { holder, postgres, Stack } from '../harness/stack.ts';

const TABLES = 20;
const FILES = 2000;

/** A run stores only changes since the previous one. */
describe('a second backup', () => {
  let stack: Stack;
  let first: Results;

  /** Returns the reports, by source. */
  type Results = Record<string, SourceReport>;

  async function backup(): Promise<Results> {
    const { report } = await stack.backup();
    expect(report.status, JSON.stringify(report.results)).toBe('ok');
    return Object.fromEntries(report.results.map((result) => [result.name, result]));
  }
  const fill = (table: string) =>
    `CREATE TABLE ${table} (id int PRIMARY KEY, v text); INSERT INTO ${table} SELECT i, md5('${table}' || i) FROM generate_series(1, 2000) i;`;

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, { environment: { POSTGRES_DB: 'app' } }),
        web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
      },
      volumes: { media: {} },
      receiver: false,
    });
    const tables = Array.from({ length: TABLES }, (_, i) => fill(`t${String(i).padStart(2, '0')}`));
    await stack.psql(tables.join('\n'), { database: 'app' });
    // One large object of 5 bytes, and one of 5,003 with a hole.
    await stack.psql("SELECT lo_from_bytea(0, 'large'), lo_put(lo_create(7), 5000, 'end')", { database: 'app' });
    await stack.exec('web', [
      'sh',
      '-c',
      `head -c ${FILES * 5000} /dev/urandom | split -b 5000 -a 4 -d - /media/file-`,
    ]);
    first = await backup();
  });
  afterAll(() => stack?.destroy());

  it('stores everything the first time', () => {
    expect(first['web.media']).toMatchObject({ files: FILES, newFiles: FILES, bytes: FILES * 5000 });
    expect(first['web.media']?.newBytes).toBeGreaterThan(FILES * 5000);
    // 20 tables, a table of contents for each database, and the globals.
    expect(first['db.postgres']?.files).toBeGreaterThan(TABLES);
    expect(first['db.postgres']?.newBytes).toBeGreaterThan(TABLES * 2000 * 16);
  });

  it('knows the size of all large objects, whose files in a dump have no mark at their end', async () => {
    const text = await stack.exec('lifeboat', [
      'sh',
      '-c',
      'zstd -dc /backups/*/snapshots/*/db.postgres.facts.json.zst',
    ]);
    const { databases } = JSON.parse(text) as PostgresFacts;
    expect(databases.map(({ name, largeObjectBytes }) => [name, largeObjectBytes])).toEqual([
      ['app', 5008],
      ['postgres', 0],
    ]);
  });

  it('stores almost nothing if nothing has changed, and says so', async () => {
    const { stdout, code } = await stack.lifeboat('backup');
    expect(code).toBe(0);
    expect(stdout).toMatch(/web\.media .* 2,000 files, unchanged\n/);
    const snapshot = /Snapshot (\S+)/.exec(stdout)?.[1] as string;
    const { sources } = await stack.json<{ sources: Results }>('show', snapshot);
    expect(sources['web.media']).toMatchObject({ files: FILES, newFiles: 0, newBytes: 0 });
    const { newBytes, newFiles, files } = sources['db.postgres'] as SourceReport;
    expect(files).toBe(first['db.postgres']?.files);
    // The times and random keys that pg_dump writes do not count.
    expect({ newFiles, newBytes }).toEqual({ newFiles: 0, newBytes: 0 });
    expect(stdout).toMatch(/db\.postgres .* unchanged\n/);
  });

  it('stores only one changed table and one percent of the files', async () => {
    await stack.psql('UPDATE t07 SET v = md5(v)', { database: 'app' });
    await stack.exec('web', ['sh', '-c', 'head -c 100000 /dev/urandom | split -b 5000 -a 4 -d - /media/file-']);
    const { 'db.postgres': db, 'web.media': media } = await backup();
    expect(media).toMatchObject({ files: FILES, newFiles: 20 });
    expect(media?.newBytes).toBeGreaterThan(20 * 5000);
    expect(media?.newBytes).toBeLessThan(20 * 5000 * 1.1);
    expect(db?.newFiles).toBe(1);
    expect(db?.newBytes).toBeLessThan((first['db.postgres']?.newBytes ?? 0) / 10);
  });

  it('recognises tables by their content, whatever the names of their files', async () => {
    // Both change the ids in the names of pg_dump's files.
    await stack.psql(`${fill('a_new_one')} DROP TABLE t03;`, { database: 'app' });
    const { 'db.postgres': db } = await backup();
    // The table, and the table of contents.
    expect(db?.newFiles).toBe(2);
    expect(db?.newBytes).toBeLessThan((first['db.postgres']?.newBytes ?? 0) / 10);
  });

  it('stores only the changed parts of a large table', async () => {
    const rows = (from: number, to: number) =>
      `INSERT INTO hot SELECT i, md5(i::text), md5('more' || i) FROM generate_series(${from}, ${to}) i`;
    await stack.psql(`CREATE TABLE hot (id int PRIMARY KEY, v text, w text); ${rows(1, 400_000)}`, { database: 'app' });
    const { 'db.postgres': whole } = await backup();
    expect(whole?.newBytes).toBeGreaterThan(10e6);
    const recent = `UPDATE hot SET v = 'new' WHERE id > 396000`;
    await stack.psql(`${rows(400_001, 402_000)}; ${recent}`, { database: 'app' });
    const { 'db.postgres': changed } = await backup();
    // The table of contents, and the end of the table.
    expect(changed?.newBytes).toBeLessThan((whole?.newBytes ?? 0) / 8);
  });

  it('restores content from several snapshots', async () => {
    await stack.psql('CREATE DATABASE other');
    expect((await stack.lifeboat('restore', 'latest', 'db.postgres', '--to-database', 'copy')).code).toBe(0);
    const all = `SELECT count(*), sum(length(v)), md5(string_agg(v, ',' ORDER BY t, id)) FROM (
      SELECT 1 AS t, id, v FROM t07 UNION ALL SELECT 2, id, v FROM a_new_one UNION ALL SELECT 3, id, v FROM t19
      UNION ALL SELECT 4, id, v || w FROM hot) x`;
    expect(await stack.psql(all, { database: 'copy' })).toBe(await stack.psql(all, { database: 'app' }));
  });

  it('stores everything of a source again if all of its packs are gone, and reports the loss once', async () => {
    await stack.exec('lifeboat', ['sh', '-c', 'rm -r /backups/*/packs/web.media']);
    const plan = await stack.lifeboat('plan');
    expect(plan.stdout).toContain('holds no packs of web.media any more');
    const { report, code } = await stack.backup();
    expect(code).toBe(3);
    expect(report.problems).toMatchObject([{ severity: 'error', code: 'OBJECT_MISSING', subject: 'web.media' }]);
    const results = Object.fromEntries(report.results.map((result) => [result.name, result]));
    expect(results['web.media']).toMatchObject({ status: 'ok', newFiles: FILES });
    expect(results['db.postgres']).toMatchObject({ status: 'ok' });
    // The test before made two databases, each with a table of contents.
    expect(results['db.postgres']?.newFiles).toBeLessThanOrEqual(5);
    expect((await backup())['web.media']).toMatchObject({ newFiles: 0 });
  });
});
