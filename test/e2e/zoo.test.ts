import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import type { PostgresFacts } from '../../src/sources/postgres/facts/facts.ts';
import { ok, postgres, Stack, type StackOptions, sh } from '../harness/stack.ts';

const VERSIONS = [13, 15, 17, 18] as const;

/** The services, each with its Postgres version. */
function services(versions: Record<string, number>): StackOptions {
  const command = ['postgres', '-c', 'wal_level=logical', '-c', 'fsync=off'];
  return {
    services: Object.fromEntries(
      Object.entries(versions).map(([name, version]) => [name, postgres(version, { command })]),
    ),
    receiver: false,
  };
}

/**
 * Returns the expected warnings of a restore. ANALYZE runs as the owner of a table. Before version 14, ANALYZE of some
 * columns also evaluates index expressions, and one of them calls a function in a schema that this owner may not use.
 */
const toldOf = (version: number) => [
  expect.stringContaining('subscription sub is restored disabled'),
  ...(version < 14
    ? [expect.stringContaining('table zoo.animal could not be analysed: permission denied for schema public')]
    : []),
];

/** The contents of a server, as its own tools print them (zoo/server.sh): `dump of …` or `rows of …` → text. */
type Shown = Map<string, string>;

describe('the schema zoo', () => {
  const originals = new Map<number, Shown>();
  const versions: Record<string, number> = Object.fromEntries(VERSIONS.map((version) => [`db${version}`, version]));
  let stack: Stack;
  let directory: string;
  let report: RunReport;

  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'zoo-'));
    stack = await Stack.start(services(versions));
    for (const version of VERSIONS) {
      await inServer(`db${version}`, 'load');
      originals.set(version, await show(`db${version}`));
    }
    report = (await stack.backup()).report;
  });
  afterAll(async () => {
    await stack?.destroy();
    await rm(directory, { recursive: true, force: true });
  });

  async function inServer(service: string, what: 'load' | 'show'): Promise<string> {
    const id = await stack.id(service);
    await ok('docker', ['cp', fileURLToPath(new URL('zoo', import.meta.url)), `${id}:/`]);
    return ok('docker', ['exec', id, 'bash', '/zoo/server.sh', what]);
  }

  async function show(service: string): Promise<Shown> {
    const text = (await inServer(service, 'show'))
      .replaceAll(/^\\(un)?restrict .*$/gm, '')
      // A new server uses a new salt for the same password.
      .replace(/^(ALTER ROLE postgres WITH .*) PASSWORD '[^']*'/m, '$1');
    const parts = text.split(/^=== /m).slice(1);
    return new Map(parts.map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]));
  }

  const rowsOf = (shown: Shown): Shown => new Map([...shown].filter(([name]) => name.startsWith('rows of ')));

  /** Creates a container with a new volume, in the present version of the service. */
  async function recreate(service: string): Promise<void> {
    await stack.write(services(versions));
    await stack.compose('rm', '--stop', '--force', '--volumes', service);
    await stack.compose('up', '--detach', '--wait', service);
  }

  async function differences(before: Shown, after: Shown): Promise<string> {
    expect([...after.keys()]).toEqual([...before.keys()]);
    const found: string[] = [];
    for (const [name, text] of before) {
      if (after.get(name) === text) continue;
      const files = [path.join(directory, 'before'), path.join(directory, 'after')] as const;
      await writeFile(files[0], text);
      await writeFile(files[1], after.get(name) ?? '');
      found.push(`${name}\n${(await sh('diff', ['--text', '-U1', ...files])).stdout.slice(0, 8000)}`);
    }
    return found.join('\n');
  }

  it('is backed up completely', () => {
    expect(report.status, JSON.stringify(report.results, null, 1)).toBe('ok');
    expect(report.results.map(({ name, warnings }) => ({ name, warnings }))).toEqual(
      VERSIONS.map((version) => ({ name: `db${version}.postgres`, warnings: [] })),
    );
  });

  it.each(VERSIONS)('is restored in place without any difference on Postgres %i', async (version) => {
    const service = `db${version}`;
    const source = `${service}.postgres`;
    // A setting of the zoo makes every session read-only.
    await stack.psql(
      'SET default_transaction_read_only = off; DROP TABLE zoo.animal CASCADE; CREATE TABLE later (i int)',
      {
        service,
        database: 'zoo',
      },
    );
    const { code, stdout, stderr } = await stack.lifeboat(
      'restore',
      'latest',
      source,
      '--yes',
      '--no-safety',
      '--json',
    );
    expect(code, stdout + stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      status: 'ok',
      warnings: toldOf(version),
      canRollBack: true,
    });
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
    expect(await differences(originals.get(version) as Shown, await show(service))).toBe('');
  });

  it.each(VERSIONS)('is restored without any difference on Postgres %i', async (version) => {
    const service = `db${version}`;
    await recreate(service);
    const { code, stdout, stderr } = await stack.lifeboat('restore', 'latest', `${service}.postgres`, '--globals');
    expect({ code, warnings: stdout.match(/warning: .*/g) }, stderr).toEqual({
      code: 0,
      warnings: toldOf(version),
    });
    expect(await differences(originals.get(version) as Shown, await show(service))).toBe('');
  });

  it('is recorded with the exact numbers of rows', async () => {
    const { facts } = await stack.json<{ facts: PostgresFacts }>('show', 'latest', 'db17.postgres');
    const zoo = facts.databases.find(({ name }) => name === 'zoo');
    const table = (name: string) => zoo?.tables.find((candidate) => candidate.name === name);
    expect(table('animal')).toMatchObject({ schema: 'zoo', owner: 'zoo_owner', rows: 500, exact: true });
    expect(table('two\nlines\ttab')).toMatchObject({ rows: 3, exact: true });
    expect(table('no_columns')).toMatchObject({ rows: 2 });
    expect(table('parent')).toMatchObject({ rows: 1 });
    expect(zoo).toMatchObject({ owner: 'zoo_owner', largeObjects: 3, connectionLimit: 77, contents: 'data' });
  });

  it('is refused by an older server, before anything changes', async () => {
    versions.db17 = 13;
    await recreate('db17');
    const before = await show('db17');
    const refused = await stack.lifeboat('restore', 'latest', 'db17.postgres', '--globals', '--json');
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'PG_VERSION' } });
    expect(await differences(before, await show('db17'))).toBe('');
  });

  it('is restored on a newer server, with every row', async () => {
    versions.db13 = 17;
    await recreate('db13');
    const { code, stderr } = await stack.lifeboat('restore', 'latest', 'db13.postgres', '--globals');
    expect(code, stderr).toBe(0);
    expect(await differences(rowsOf(originals.get(13) as Shown), rowsOf(await show('db13')))).toBe('');
  });
});
