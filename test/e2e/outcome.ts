import path from 'node:path';
import { expect } from 'vitest';
import type { ErrorCode } from '../../src/base/errors.ts';
import type { RunReport } from '../../src/report/events.ts';
import { ok, type Stack, sh, until } from '../harness/stack.ts';

/** The state that a failed run must not change. */
export interface Before {
  /** SHA-256 of every file of the repository, by path */
  objects: Record<string, string>;
  /** pg_postmaster_start_time() of the service `db` */
  startedAt: string;
  /** number of requests to the receiver */
  requests: number;
  /** ISO time, for `docker logs --since` */
  at: string;
}

/** Records the state. Call it just before the run that is expected to fail. */
export async function remember(stack: Stack, user = 'postgres'): Promise<Before> {
  const [objects, startedAt] = await Promise.all([hashes(stack), postmasterStart(stack, user)]);
  return { objects, startedAt, requests: stack.receiver?.requests.length ?? 0, at: new Date().toISOString() };
}

export interface Expected {
  /** code of the source, or of the run if no source failed; several if it depends on the moment */
  code: ErrorCode | readonly ErrorCode[];
  /** default `db.postgres`; null: the run itself has the error */
  source?: string | null;
  /** the test itself restarted Postgres */
  restarted?: boolean;
  /** superuser of the database container */
  user?: string;
}

/**
 * Checks the standard outcome of a run with a fault: it failed and reported a code, stored nothing, damaged nothing,
 * left nothing behind, and did not restart Postgres. The fault must be over, because this function queries the
 * database.
 */
export async function expectFailedCleanly(
  stack: Stack,
  before: Before,
  ran: { code: number; report: RunReport; stderr: string },
  expected: Expected,
): Promise<void> {
  const { report } = ran;
  const told = `${JSON.stringify(report, null, 1)}\n${ran.stderr}`;
  expect(ran.code, told).toBe(1);
  expect(report.status, told).toBe('failed');
  expect(report.snapshot).toBeUndefined();
  const { source = 'db.postgres' } = expected;
  const error = source === null ? report.error : report.results.find(({ name }) => name === source)?.error;
  expect([expected.code].flat(), told).toContain(error?.code);
  expect(error?.message).toMatch(/^[^A-Z].*[^.]$/s);

  expectNotified(stack, before, report, error?.code ?? '');
  // All stored files, including temporary ones, are equal to the byte.
  expect(await hashes(stack)).toEqual(before.objects);
  expect(await stack.helpers()).toEqual([]);
  expect(await left(stack), 'in the spool').toBe('');
  await expectDatabaseUntouched(stack, before, expected);
}

/**
 * Checks the outcome of a run with a fault in one database: the others are stored, that one is named, the run is
 * reported as failed, and earlier objects stay unchanged.
 */
export async function expectStoredWithout(
  stack: Stack,
  before: Before,
  ran: { code: number; report: RunReport; stderr: string },
  { database, ...expected }: Expected & { database: string },
): Promise<void> {
  const { report } = ran;
  const told = `${JSON.stringify(report, null, 1)}\n${ran.stderr}`;
  expect([ran.code, report.status, report.results[0]?.status], told).toEqual([3, 'partial', 'partial']);
  const error = report.results.find(({ name }) => name === 'db.postgres')?.error;
  expect([expected.code].flat(), told).toContain(error?.code);
  expect(error?.message).toContain(`database ${database} is not stored: `);
  const shown = await stack.json<{ databases: { name: string; status: string }[] }>('show', report.id, 'db.postgres');
  expect(shown.databases.filter(({ status }) => status !== 'ok').map(({ name }) => name)).toEqual([database]);
  const pings = (stack.receiver?.requests ?? []).slice(before.requests).filter(({ path }) => path.startsWith('/ping/'));
  expect(pings.map((ping) => ping.path.split('/')[3])).toEqual(['start', 'fail']);
  expect(pings[1]?.body).toContain(`database ${database} is not stored`);
  expect(await hashes(stack)).toMatchObject(before.objects);
  expect(await stack.helpers()).toEqual([]);
  expect(await left(stack), 'in the spool').toBe('');
  await expectDatabaseUntouched(stack, before, expected);
}

function expectNotified(stack: Stack, before: Before, report: RunReport, code: string): void {
  const requests = (stack.receiver?.requests ?? []).slice(before.requests);
  const pings = requests.filter((request) => request.path.startsWith('/ping/'));
  const verbs = pings.map((ping) => [ping.path.split('/')[3] ?? '', ping.query.rid]);
  expect(verbs).toEqual([
    ['start', report.rid],
    ['fail', report.rid],
  ]);
  expect(pings[1]?.body).toContain(code);
  const messages = requests.filter((request) => request.path.startsWith('/services/'));
  expect(messages).toHaveLength(1);
  expect(messages[0]?.body).toContain('backup failed');
  expect(messages[0]?.body).toContain(code);
}

async function expectDatabaseUntouched(stack: Stack, before: Before, expected: Expected): Promise<void> {
  const { user = 'postgres', restarted = false } = expected;
  await until(
    'no session of Lifeboat is left',
    async () =>
      (await stack.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lifeboat%'", { user })) ===
      '0',
    20_000,
  );
  if (!restarted) expect(await postmasterStart(stack, user)).toBe(before.startedAt);
  // Postgres logs to stderr.
  const log = await sh('docker', ['logs', '--since', before.at, await stack.id('db')]);
  expect(log.code).toBe(0);
  expect(log.stdout + log.stderr).not.toMatch(/reinitializing|terminating any other active server processes/);
}

/** Runs the next backup and restores an earlier snapshot. `check` compares the database `restored`. */
export async function expectNextRunGood(stack: Stack): Promise<RunReport> {
  const { code, report, stderr } = await stack.backup();
  expect({ code, status: report.status }, JSON.stringify(report, null, 1) + stderr).toEqual({ code: 0, status: 'ok' });
  return report;
}

/** Restores one database of a snapshot to a temporary copy, and returns the result of `sql` there. Drops the copy. */
export async function askRestored(
  stack: Stack,
  snapshot: string,
  database: string,
  sql: string,
  { user = 'postgres', source = 'db.postgres' } = {},
): Promise<string> {
  const copy = 'restored_beside';
  const { code, stderr } = await stack.lifeboat(
    ...['restore', snapshot, source, '--database', database, '--to-database', copy],
  );
  expect(code, stderr).toBe(0);
  const answer = await stack.psql(sql, { database: copy, user });
  await stack.psql(`DROP DATABASE ${copy}`, { user });
  return answer;
}

/** Returns the SHA-256 of every file of the repository, by path, except for the newest lease. */
export async function hashes(stack: Stack): Promise<Record<string, string>> {
  const cwd = path.join(stack.directory, 'backups');
  const out = await ok('find', ['.', '-type', 'f', '!', '-path', '*/leases/*', '-exec', 'sha256sum', '{}', '+'], {
    cwd,
  });
  const lines = out.split('\n').filter((line) => line !== '');
  return Object.fromEntries(lines.map((line) => [line.slice(66), line.slice(0, 64)]).sort());
}

/** Returns journals of open runs, and files of dumps in the spool. */
async function left(stack: Stack): Promise<string> {
  return stack.exec('lifeboat', ['sh', '-c', 'find /spool/state/runs -type f; find /spool/runs -path "*/tree*"']);
}

function postmasterStart(stack: Stack, user: string): Promise<string> {
  return stack.psql('SELECT pg_postmaster_start_time()', { user });
}
