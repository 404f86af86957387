import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import { ok, postgres, Stack } from '../harness/stack.ts';

/**
 * A database image with hostile tools. It runs as root in a helper, where it sees one directory of one run. Files that
 * it leaves there cannot redirect the agent.
 */
const TOOLS = '/usr/lib/postgresql/17/bin';
/** Acts like pg_dump. The name of the database selects what it does as well. */
const PG_DUMP = `#!/bin/bash
for last; do case $last in --file=*) dump=\${last#--file=};; esac; done
${TOOLS}/pg_dump.real "$@" || exit
case $dump in
*/sees) { grep -oE ' /(spool|backups|config|var/run/docker.sock|lifeboat)[^ ]*' /proc/mounts
  for target in /spool/state/compile-cache /spool/state/runs /spool/runs /backups; do mkdir -p $target && echo mine >$target/planted; done; } >&2; exit 1 ;;
*/links) ln -s /spool/victim $dump/../../leads-out ;;
*/swaps) (cd $dump/../..; until [ -f globals.sql ]; do sleep 0.1; done; rm -f globals.sql; ln -s /spool/victim globals.sql) ;;
*/deep) (cd $dump; name=$(printf 'n%.0s' {1..200}); for i in {1..40}; do mkdir $name && cd $name; done) ;;
*/fifo) mkfifo $dump/zz.fifo; cp -r $dump/toc.dat $dump/../ghost; mkdir $dump/../ghosts ;;
*/link) ln -s /spool/victim $dump/zz ;;
*/huge) truncate -s 4T $dump/zz.dat ;;
*/rots) for rows in $dump/[0-9]*.dat*; do head -c 100 /dev/zero | tr '\0' x >$rows; done ;;
*/shut) chmod 000 $dump ;;
esac
`;

let stack: Stack;
const image = `lbt-hostile-${Math.random().toString(16).slice(2, 10)}`;
const VICTIM = '/spool/victim';

beforeAll(async () => {
  const script = Buffer.from(PG_DUMP).toString('base64');
  const steps = `FROM postgres:17\nUSER root\nRUN mv ${TOOLS}/pg_dump ${TOOLS}/pg_dump.real && echo ${script} | base64 -d >${TOOLS}/pg_dump && chmod 755 ${TOOLS}/pg_dump\n`;
  await ok('docker', ['build', '--quiet', '--tag', image, '-'], { input: steps });
  stack = await Stack.start({ services: { db: postgres(17, { image }) }, agent: { volumes: ['./out:/out'] } });
  await stack.exec('lifeboat', ['sh', '-c', `echo untouched >${VICTIM}`]);
  await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 100) AS n');
});
afterAll(async () => {
  await stack?.destroy();
  await ok('docker', ['image', 'rm', image]);
});

interface Entry {
  databases?: { name: string; status: string; error?: ErrorInfo }[];
}

/** Creates a database with a table for each name, backs up, and returns the outcome with the errors of databases. */
async function backUpWith(...names: string[]) {
  for (const name of names) {
    await stack.psql(`CREATE DATABASE ${name}`);
    await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 100) AS n', { database: name });
  }
  const ran = await stack.backup();
  for (const name of names) await stack.psql(`DROP DATABASE ${name}`);
  const { snapshot } = ran.report;
  const { databases = [] } = snapshot ? await stack.json<Entry>('show', snapshot, 'db.postgres') : {};
  return { ...ran, databases };
}

it('sees one directory of the run, and can write nowhere else', async () => {
  const { code, report, databases, stderr } = await backUpWith('sees');
  expect(code, stderr).toBe(3);
  const cause = databases.find(({ name }) => name === 'sees')?.error?.cause ?? '';
  expect(cause.match(/ \/(spool|backups|config|var|lifeboat)\S*/g), cause).toEqual([
    ` /spool/runs/${report.id}/db.postgres/tree`,
  ]);
  // Files elsewhere were in its own container.
  expect(await stack.exec('lifeboat', ['find', '/spool', '/backups', '/lifeboat', '-name', 'planted'])).toBe('');
});

it('loses only the databases whose dumps hold other files than theirs', async () => {
  const { code, report, databases, stderr } = await backUpWith('fifo', 'link', 'huge', 'rots', 'shut', 'deep');
  const told = stderr + JSON.stringify([report, databases], null, 1);
  expect([code, report.results[0]?.status], told).toEqual([3, 'partial']);
  expect(Object.fromEntries(databases.map(({ name, error }) => [name, error?.message])), told).toEqual({
    postgres: undefined,
    fifo: 'the dump of fifo holds "zz.fifo", which is not a plain file',
    link: 'the dump of link holds "zz", which is a symbolic link',
    huge: 'the dump of huge holds "zz.dat", which its table of contents does not name',
    rots: expect.stringMatching(/^the dump of rots is damaged: "\d+.dat" lacks the end of its rows$/),
    shut: expect.stringContaining('the dump of shut'),
    deep: expect.stringMatching(/^the dump of deep holds "n{200}", which is a directory$/),
  });
  expect(report.results[0]?.warnings.join(), told).toMatch(/"databases\/ghosts?" and 1 other/);
  expect(report.results[0]?.bytes, told).toBeLessThan(1e6);
  expect(await stack.exec('lifeboat', ['cat', VICTIM])).toBe('untouched\n');
  // Nothing of it stays, however deep.
  expect(await stack.exec('lifeboat', ['ls', '/spool/runs'])).toBe('');
  const restored = await stack.lifeboat('restore', 'latest', 'db.postgres', '--to-directory', '/out/dump');
  expect(restored.code, restored.stderr).toBe(0);
  expect(await stack.exec('lifeboat', ['ls', '/out/dump/databases'])).toBe('postgres\n');
});

it('cannot redirect the agent with links in the dump', async () => {
  for (const name of ['links', 'swaps']) {
    const { report } = await backUpWith(name);
    expect(report.results[0], name).toMatchObject({ status: 'failed' });
    if (name === 'links') expect(report.results[0]?.error?.message).toContain('which is a symbolic link');
    expect(await stack.exec('lifeboat', ['cat', VICTIM])).toBe('untouched\n');
  }
  expect(await stack.exec('lifeboat', ['ls', '/spool/runs'])).toBe('');
});

it('sees the files that it restores, and cannot change them', async () => {
  const restored = await stack.lifeboat(
    'restore',
    'latest',
    'db.postgres',
    '--database',
    'postgres',
    '--to-database',
    'again',
  );
  expect(restored.code, restored.stderr).toBe(0);
  expect(await stack.psql('SELECT count(*) FROM t', { database: 'again' })).toBe('100');
  const table = await stack.lifeboat(
    'restore',
    'latest',
    'db.postgres',
    '--database',
    'postgres',
    '--table',
    'public.t',
    '--as',
    't2',
  );
  expect(table.code, table.stderr).toBe(0);
  expect(await stack.psql('SELECT count(*) FROM t2')).toBe('100');
});

it('shares no code that the agent loads with helpers', async () => {
  const cache = (await stack.exec('lifeboat', ['printenv', 'NODE_COMPILE_CACHE'])).trim();
  expect(cache).toBe('/lifeboat/compile-cache');
  const mounts = JSON.parse(
    await ok('docker', ['inspect', '--format', '{{json .Mounts}}', await stack.id('lifeboat')]),
  ) as { Destination: string }[];
  expect(mounts.filter(({ Destination }) => cache.startsWith(Destination))).toEqual([]);
});
