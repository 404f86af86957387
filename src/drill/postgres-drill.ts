import { errorInfo } from '../base/errors.ts';
import type { DrillCheck } from '../report/drill-report.ts';
import { formatCount, plural } from '../report/format.ts';
import { asksOf } from '../sources/postgres/facts/facts.ts';
import { DifferenceError } from '../sources/postgres/load/compare-database.ts';
import type { FailedDatabase, LoadedDatabase } from '../sources/postgres/load/load.ts';
import { recordedDatabase } from '../sources/postgres/load/load-plan.ts';
import { chooseImage } from '../sources/postgres/throwaway/choose-image.ts';
import { askAll } from './ask-all.ts';
import { checkIndexes } from './check-indexes.ts';
import { noneOf } from './checks/check.ts';
import { checkDatabase } from './checks/database-checks.ts';
import { roleChecks } from './checks/role-checks.ts';
import { type DrillDeps, type Part, step } from './context.ts';
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
    result.summary = equalText(restored.databases);
    await part.whileUp?.({ kind: 'server', container: restored.container });
  });
}

/** Returns `61 tables, 1,523,118 rows equal`, or `58 of 61 tables, …` if the rows of some are not compared. */
function equalText(databases: readonly LoadedDatabase[]): string {
  const total = (of: (one: LoadedDatabase) => number) => databases.reduce((sum, one) => sum + of(one), 0);
  const [compared, uncompared] = [total((one) => one.compared), total((one) => one.uncompared)];
  const tables = uncompared === 0 ? '' : `${formatCount(compared)} of `;
  return `${tables}${plural(compared + uncompared, 'table')}, ${plural(
    total(({ rows }) => rows),
    'row',
  )} equal`;
}

async function compare(restored: RestoredServer, { result, context, signal }: Part): Promise<void> {
  const { tools, facts, globals, databases, failed } = restored;
  const control = await tools.control();
  result.checks.push(...(await roleChecks({ control, facts, globals })), ...failed.flatMap(failedChecks));
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
