import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { postgres, Stack } from '../harness/stack.ts';
import { times } from '../harness/times.ts';
import { askRestored, expectNextRunGood } from './outcome.ts';

const COUNT = times(80, 200);
const NAMES = Array.from({ length: COUNT }, (_, i) => `tenant_${String(i).padStart(3, '0')}`);

/** The most sessions at a time: four dumps with two each, and the control session. */
const CONNECTIONS = 9;

describe(`a server with ${COUNT} databases`, () => {
  let stack: Stack;

  beforeAll(async () => {
    // 3 of its 20 connections are reserved for superusers, so a run without a limit fails.
    const command = ['postgres', '-c', 'max_connections=20', '-c', 'fsync=off', '-c', 'log_connections=on'];
    stack = await Stack.start({
      services: { db: postgres(17, { command: [...command, '-c', 'log_disconnections=on'] }) },
    });
    await stack.psql('CREATE TABLE t (id int PRIMARY KEY)', { database: 'template1' });
    const strategy = NAMES.map((name) => `CREATE DATABASE ${name} STRATEGY file_copy;`).join('\n');
    await stack.psql(strategy);
    const fill = NAMES.map((name, i) => `\\connect ${name}\nINSERT INTO t SELECT generate_series(1, ${i + 1});`);
    await stack.psql(fill.join('\n'));
    await stack.psql('CREATE DATABASE closed');
    await stack.psql('ALTER DATABASE closed ALLOW_CONNECTIONS false');
  });
  afterAll(() => stack?.destroy());

  it('backs up all of them in one snapshot, with few connections, one message and one report', async () => {
    const since = stack.receiver?.requests.length ?? 0;
    const report = await expectNextRunGood(stack);
    expect(report.results).toHaveLength(1);
    const rows = (COUNT * (COUNT + 1)) / 2;
    expect(report.results[0]?.summary).toBe(
      `${COUNT + 1} databases, ${COUNT} tables, ${rows.toLocaleString('en-US')} rows`,
    );
    expect(report.results[0]?.warnings).toEqual([
      expect.stringMatching(/^database closed is not backed up: it allows no connections/),
      expect.stringMatching(/^database template1 has tables \(public\.t\) and is not backed up/),
    ]);
    const shown = await stack.json<{ facts: { databases: { name: string }[] } }>('show', report.id, 'db.postgres');
    expect(shown.facts.databases.map(({ name }) => name)).toEqual(['postgres', ...NAMES]);

    const requests = (stack.receiver?.requests ?? []).slice(since);
    expect(
      requests.filter(({ path }) => path.startsWith('/ping/')).map(({ path }) => path.split('/')[3] ?? ''),
    ).toEqual(['start', '']);
    expect(requests.filter(({ path }) => path.startsWith('/services/'))).toHaveLength(1);
    const highest = highestCount(await stack.logs('db'));
    expect(highest).toBeGreaterThan(1);
    expect(highest).toBeLessThanOrEqual(CONNECTIONS);
    expect(await askRestored(stack, report.id, 'tenant_037', 'SELECT count(*), sum(id) FROM t')).toBe('38|741');
  }, 900_000);
});

/** Returns the most sessions of Lifeboat at a time, from the server's log of connections. */
function highestCount(log: string): number {
  const open = new Set<string>();
  let highest = 0;
  for (const line of log.split('\n')) {
    const pid = /\[(\d+)\]/.exec(line)?.[1];
    if (!pid) continue;
    if (/connection authorized: .*application_name=lifeboat/.test(line)) open.add(pid);
    if (/disconnection: /.test(line)) open.delete(pid);
    highest = Math.max(highest, open.size);
  }
  return highest;
}
