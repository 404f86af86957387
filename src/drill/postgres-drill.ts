import { errorInfo } from '../base/errors.ts';
import type { DrillCheck } from '../report/drill-report.ts';
import { plural } from '../report/format.ts';
import { asksOf, type DatabaseFacts } from '../sources/postgres/facts/facts.ts';
import { type Membership, roleOfStatement, splitStatements } from '../sources/postgres/facts/globals-statements.ts';
import { DifferenceError } from '../sources/postgres/load/compare-database.ts';
import { readMemberships } from '../sources/postgres/load/globals.ts';
import type { FailedDatabase } from '../sources/postgres/load/load.ts';
import { recordedDatabase } from '../sources/postgres/load/load-plan.ts';
import { chooseImage } from '../sources/postgres/throwaway/choose-image.ts';
import { askAll } from './ask-all.ts';
import { checkIndexes } from './check-indexes.ts';
import { type DrillDeps, noneOf, type Part, step } from './context.ts';
import { checkDatabase } from './database-checks.ts';
import { type RestoredServer, withRestoredServer } from './restore-databases.ts';

/**
 * Restores the databases of a snapshot into a throwaway server, and compares them with the record. Fills the result of
 * the part: what differs is a failed check.
 *
 * @throws if the server cannot be started, or nothing can be fetched: OBJECT_*, KEY_*, HELPER_FAILED, PG_*, SPOOL_FULL
 */
export async function drillDatabases(deps: DrillDeps, part: Part): Promise<void> {
  const { result, context, planned, signal } = part;
  const present = planned?.kind === 'postgres' ? planned.imageId : undefined;
  const image = await chooseImage(deps.engine, context.entry, present);
  result.image = image;
  if (!image.recorded && context.entry.image !== undefined)
    result.notes.push('the image that the snapshot was made with is gone, so the present image of the source is used');
  const begin = performance.now();
  await withRestoredServer(deps, part, image, async (restored) => {
    result.restoreMs = Math.round(performance.now() - begin);
    const control = await restored.tools.control();
    const { version } = await control.one<{ version: string }>("SELECT current_setting('server_version') AS version");
    result.version = version.split(' ')[0] ?? version;
    await step(part, 'comparing with the record', () => compare(restored, part));
    await step(part, 'checking the indexes', async () => {
      for (const { target } of restored.databases)
        result.checks.push(await checkIndexes(restored.tools, target, { until: part.until, signal, tables: false }));
    });
    const present = restored.databases.map(({ target }) => target);
    const asks = planned?.kind === 'postgres' ? asksOf(planned) : restored.facts.asks;
    await askAll(deps, part, asks, { tools: restored.tools, present });
    const rows = restored.databases.reduce((sum, one) => sum + one.rows, 0);
    const tables = restored.databases.reduce((sum, one) => sum + one.tables, 0);
    result.summary = `${plural(tables, 'table')}, ${plural(rows, 'row')} equal`;
    await part.whileUp?.({ kind: 'server', container: restored.container });
  });
}

async function compare(restored: RestoredServer, { result, context, signal }: Part): Promise<void> {
  const { tools, facts, databases, failed } = restored;
  result.checks.push(...(await roleChecks(restored)), ...failed.flatMap(failedChecks));
  const control = await tools.control();
  const versions = { recorded: facts.server.versionNumber, restored: control.versionNumber };
  for (const loaded of databases) {
    const session = await tools.session(loaded.target, signal);
    try {
      const recorded = recordedDatabase(facts, loaded.target);
      result.checks.push(...(await checkDatabase(session, recorded, loaded, versions)));
    } finally {
      await session.close();
    }
    result.notes.push(...loaded.warnings);
  }
  for (const { name, status, error } of context.entry.databases ?? []) {
    if (status !== 'ok') result.notes.push(`the snapshot does not hold database ${name}: ${error?.message ?? status}`);
  }
}

/** A database that could not be restored: what differs from the record, or why the server refused it. */
function failedChecks({ target, error }: FailedDatabase): DrillCheck[] {
  if (error instanceof DifferenceError) return [noneOf('equal to the record', target, error.differences)];
  const { code, message, cause } = errorInfo(error);
  const why = cause === undefined ? '' : `: ${cause}`;
  return [noneOf('restored', target, [`${message} (${code})${why}`])];
}

async function roleChecks({ tools, facts, globals }: RestoredServer): Promise<DrillCheck[]> {
  const of = 'server';
  const control = await tools.control();
  const present = new Set(
    (await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles')).map(({ name }) => name),
  );
  const stored = splitStatements(globals)
    .filter((statement) => statement.startsWith('CREATE ROLE '))
    .flatMap((statement) => roleOfStatement(statement) ?? []);
  const owning = facts.databases.flatMap(({ owner, owners, grantees = [] }: DatabaseFacts) => [
    ...[owner, ...owners, ...grantees].filter((role) => role !== '' && !role.startsWith('pg_')),
  ]);
  const needed = [...new Set([...stored, ...owning])];
  const missing = needed.filter((role) => !present.has(role)).map((role) => `role ${role} is missing`);
  const roles = noneOf('roles', of, missing, plural(needed.length, 'role'));
  if (!facts.memberships) return [roles];
  const now = new Set((await readMemberships(control)).map(membershipText));
  const lost = facts.memberships.map(membershipText).filter((one) => !now.has(one));
  const detail = plural(facts.memberships.length, 'membership');
  return [
    roles,
    noneOf(
      'memberships',
      of,
      lost.map((one) => `${one} no more`),
      detail,
    ),
  ];
}

function membershipText({ group, member }: Membership): string {
  return `role ${member} is a member of ${group}`;
}
