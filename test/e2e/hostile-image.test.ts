import { afterAll, beforeAll, expect, it } from 'vitest';
import { ok, postgres, Stack } from '../harness/stack.ts';

/**
 * A database image with hostile tools. It runs as root in a helper, where it sees one directory of one run. Files that
 * it leaves there cannot redirect the agent.
 */
const TOOLS = '/usr/lib/postgresql/17/bin';
/** Acts like pg_dump, and records next to the dump what it can see and do. The database selects what it plants. */
const PG_DUMP = `#!/bin/bash
for last; do case $last in --file=*) dump=\${last#--file=};; esac; done
${TOOLS}/pg_dump.real "$@" || exit
{ grep -oE ' /(spool|backups|config|var/run/docker.sock|lifeboat)[^ ]*' /proc/mounts
  for target in /spool/state/compile-cache /spool/state/runs /spool/runs /backups; do mkdir -p $target && echo mine >$target/planted; done; } >$dump/seen.txt 2>&1
case $dump in
*/links) ln -s /spool/victim $dump/../../leads-out ;;
*/deep) (cd $dump; name=$(printf 'n%.0s' {1..200}); for i in {1..40}; do mkdir $name && cd $name; done) ;;
*/swaps) (cd $dump/../..; until [ -f globals.sql ]; do sleep 0.1; done; rm -f globals.sql; ln -s /spool/victim globals.sql) ;;
esac
`;

let stack: Stack;
const image = `lbt-hostile-${Math.random().toString(16).slice(2, 10)}`;
const VICTIM = '/spool/victim';
const withDatabase = async (name: string, work: () => Promise<void>) => {
  await stack.psql(`CREATE DATABASE ${name}`);
  await work();
  await stack.psql(`DROP DATABASE ${name}`);
};

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

it('sees one directory of the run, and can write nowhere else', async () => {
  const { code, report, stderr } = await stack.backup();
  expect(code, stderr).toBe(0);
  const restored = await stack.lifeboat('restore', 'latest', 'db.postgres', '--to-directory', '/out/dump');
  expect(restored.code, restored.stderr).toBe(0);
  const seen = (await stack.exec('lifeboat', ['cat', '/out/dump/databases/postgres/seen.txt'])).trimEnd().split('\n');
  expect(seen).toEqual([` /spool/runs/${report.id}/db.postgres/tree`]);
  // Files elsewhere were in its own container.
  expect(await stack.exec('lifeboat', ['find', '/spool', '/backups', '/lifeboat', '-name', 'planted'])).toBe('');
});

it('cannot redirect the agent with links in the dump', async () => {
  for (const name of ['links', 'swaps', 'deep']) {
    await withDatabase(name, async () => {
      const { report } = await stack.backup();
      expect(report.results[0], name).toMatchObject({ status: 'failed' });
      if (name === 'deep') expect(report.results[0]?.error?.message).toContain('which is nested too deeply');
      if (name === 'links') expect(report.results[0]?.error?.message).toContain('which is a symbolic link');
    });
    expect(await stack.exec('lifeboat', ['cat', VICTIM])).toBe('untouched\n');
  }
  // Nothing of it stays, however deep.
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
