import { readFile, rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, ok, postgres, Stack } from '../harness/stack.ts';

const IMAGE = process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test';

/** Commands of point-in-time recovery, which the server of this test does not have. See pitr.test.ts. */
const OF_PITR = /lifeboat (windows\b|restore .* --at )/;

/** Runs SQL, and returns its output. */
const SQLITE = `const { DatabaseSync } = require('node:sqlite');
  const database = new DatabaseSync('/data/app.db');
  const [sql] = process.argv.slice(1);
  if (sql.startsWith('SELECT')) console.log(JSON.stringify(database.prepare(sql).all()));
  else database.exec(sql);`;

/** Runs the commands of docs/runbook.md unchanged, except that questions are answered in advance. */
describe('the runbook', () => {
  let stack: Stack;
  let page: string;

  /** Returns the command lines of a section, or of a part of it that begins with some words. */
  function commands(title: string, after = ''): string[] {
    const from = page.indexOf(`\n## ${title}\n`);
    expect(from, title).toBeGreaterThan(-1);
    const end = page.indexOf('\n## ', from + 1);
    const section = page.slice(from, end < 0 ? undefined : end);
    const begin = section.indexOf(after);
    expect(begin, after).toBeGreaterThan(-1);
    const lines = section.slice(begin).replaceAll('\\\n', ' ').split('\n');
    return lines.filter((line) => /^ {4,}docker /.test(line) && !OF_PITR.test(line)).map((line) => line.trim());
  }

  /** Changes a command as a script has to: without a terminal, it cannot ask. */
  function prepared(line: string): string {
    const asked = /lifeboat (restore|rollback)\b/.test(line) && !line.includes('--dry-run') ? `${line} --yes` : line;
    return asked
      .replace('20261117T030000Z-4f1c9a', first)
      .replace('compose exec ', 'compose exec -T ')
      .replace('-T -T', '-T')
      .replace('lifeboat:latest', IMAGE);
  }

  async function run(lines: readonly string[]): Promise<void> {
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) await ok('bash', ['-ec', prepared(line)], { cwd: stack.directory });
  }

  const inShop = (sql: string) => stack.psql(sql, { database: 'shop', user: 'shop' });
  const media = () =>
    stack.exec('web', [
      'sh',
      '-c',
      "cd /media && find . -path './.lifeboat-*' -prune -o -type f -exec sha256sum {} + | sort",
    ]);
  const orders = () => inShop('SELECT count(*), sum(id) FROM orders');
  let photos: string;
  /** id of the first snapshot, which replaces the example in the page */
  let first: string;
  /** Runs SQL in the SQLite database of the volume `data`. Returns the rows as JSON. */
  const inApp = (sql: string) =>
    stack.exec('web', ['node', '--no-warnings', '--eval', SQLITE, sql]).then((out) => out.trim());

  beforeAll(async () => {
    page = await readFile(new URL('../../docs/runbook.md', import.meta.url), 'utf8');
    stack = await Stack.start({
      services: {
        db: postgres(17, { environment: { POSTGRES_USER: 'shop', POSTGRES_DB: 'shop' } }),
        web: holder(['media:/media', 'data:/data'], { 'lifeboat.volumes': 'media, data' }, { depends_on: ['db'] }),
      },
      volumes: { media: {}, data: {} },
      agent: { volumes: ['./restored:/restored', './compose.yaml:/config/compose.yml:ro'] },
      receiver: false,
    });
    await inShop('CREATE TABLE orders (id serial PRIMARY KEY, note text)');
    await inShop("INSERT INTO orders (note) SELECT 'order ' || i FROM generate_series(1, 500) i");
    await stack.exec('web', [
      'sh',
      '-c',
      'for i in 1 2 3; do echo "photo $i" >/media/$i.png; done; mkdir -p /media/uploads/2026; echo cat >/media/uploads/2026/cat.png',
    ]);
    photos = await media();
    await stack.psql('CREATE DATABASE blog', { database: 'shop', user: 'shop' });
    await inApp('CREATE TABLE notes (text); INSERT INTO notes VALUES (1), (2), (3)');
    const { report } = await stack.backup();
    expect(report.status).toBe('ok');
    first = report.id;
  });
  afterAll(() => stack?.destroy());

  it('a database', async () => {
    await inShop('DELETE FROM orders WHERE id > 100');
    await run(commands('A database'));
    expect(await orders()).toBe('500|125250');
  });

  it('a restore that was wrong', async () => {
    await inShop('DELETE FROM orders WHERE id > 100');
    const [look, restore] = commands('A database') as [string, string];
    await run([look, restore]);
    await run(commands('A restore that was wrong'));
    expect(await orders()).toBe('100|5050');
    await run([restore]);
    expect(await orders()).toBe('500|125250');
  });

  it('a lost table', async () => {
    const lines = commands('A lost table');
    await inShop('DROP TABLE orders');
    await run(lines.slice(0, 1));
    expect(await orders()).toBe('500|125250');
    // The application has created it again.
    await inShop('DROP TABLE orders; CREATE TABLE orders (id serial PRIMARY KEY)');
    await expect(run(lines.slice(0, 1))).rejects.toThrow(/is empty: .*`DROP TABLE "public"\."orders"`/);
    await run(lines.slice(1));
    expect(await orders()).toBe('500|125250');
    await inShop("INSERT INTO orders (note) VALUES ('the sequence goes on')");
    await inShop('DELETE FROM orders WHERE id > 500');
  });

  it('some rows of a table', async () => {
    await inShop('DELETE FROM orders WHERE id BETWEEN 100 AND 200');
    await run(commands('Some rows of a table'));
    expect(await orders()).toBe('500|125250');
  });

  it('a volume, and a file of it', async () => {
    const lines = commands('A volume');
    const rollback = lines.findIndex((line) => line.includes('lifeboat rollback'));
    await stack.exec('web', ['sh', '-c', 'rm /media/1.png; echo other >/media/2.png']);
    const changed = await media();
    await run(lines.slice(0, rollback));
    expect(await media()).toBe(photos);
    const forgotten = lines.findIndex((line) => line.includes('--forget')) + 1;
    await run(lines.slice(rollback, forgotten));
    expect(await media()).toBe(changed);
    await stack.exec('web', ['rm', '/media/uploads/2026/cat.png']);
    await inApp('DELETE FROM notes');
    await run(lines.slice(forgotten));
    expect(await inApp('SELECT count(*) AS n FROM notes')).toBe('[{"n":3}]');
    const look = await readFile(`${stack.directory}/restored/look/app.db`);
    expect(look.subarray(0, 15).toString()).toBe('SQLite format 3');
    expect(await media()).toBe(changed);
    expect(await readFile(`${stack.directory}/restored/uploads/uploads/2026/cat.png`, 'utf8')).toBe('cat\n');
    await run(lines.slice(0, rollback));
    expect(await media()).toBe(photos);
  });

  it('the host', async () => {
    await stack.compose('down', '--volumes', '--timeout', '1');
    const lines = commands('The host');
    const fetching = lines.filter((line) => line.startsWith('docker run'));
    // From a directory. copy.test.ts does the same from a bucket.
    expect(fetching.map((line) => line.includes('s3://'))).toEqual([false, true]);
    await run(fetching.slice(0, 1));
    const kept = await readFile(`${stack.directory}/compose.yml`, 'utf8');
    expect(kept).toBe(await readFile(`${stack.directory}/compose.yaml`, 'utf8'));
    await rm(`${stack.directory}/compose.yml`);
    await run(lines.filter((line) => line.startsWith('docker compose')));
    expect(await orders()).toBe('500|125250');
    expect(await media()).toBe(photos);
    await rm(`${stack.directory}/restored`, { recursive: true, force: true });
  });
});
