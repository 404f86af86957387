import type { DrillCheck } from '../../report/drill-report.ts';
import { plural } from '../../report/format.ts';
import { compareRoles, type DatabaseDetails, readDetails } from '../../sources/postgres/facts/details.ts';
import { type DatabaseFacts, hasTimescale, readDatabaseFacts } from '../../sources/postgres/facts/facts.ts';
import { measureLargeObjects } from '../../sources/postgres/facts/large-objects.ts';
import type { ObjectCounts } from '../../sources/postgres/facts/object-counts.ts';
import { differingSequences, readSequences } from '../../sources/postgres/facts/sequences.ts';
import type { LoadedDatabase } from '../../sources/postgres/load/load.ts';
import type { Session } from '../../sources/postgres/server/session.ts';
import { equal, noneOf, unrecorded } from './check.ts';
import { DEFINITION_CHECKS, definitionChecks } from './definition-checks.ts';
import { propertyChecks } from './property-checks.ts';
import { rowChecks } from './row-checks.ts';
import { VIEWS, viewCheck } from './view-check.ts';

/** The versions of the servers that made and that restored a dump, such as 170004. */
interface Versions {
  recorded: number;
  restored: number;
}

const CREATES = 'TimescaleDB creates objects by itself';

/**
 * Compares a restored database with the record. The restore has already compared rows and numbers of objects, with the
 * exceptions that it knows, so these appear as it found them.
 */
export async function checkDatabase(
  session: Session,
  recorded: DatabaseFacts,
  loaded: LoadedDatabase,
  versions: Versions,
): Promise<DrillCheck[]> {
  await session.run('BEGIN READ ONLY');
  const now = await readDatabaseFacts(session, session.versionNumber);
  const checks = [
    ...rowChecks(recorded, loaded),
    ...objectChecks(recorded, now),
    ...(await largeObjectChecks(session, recorded, now)),
    extensionCheck(recorded, now),
    ...propertyChecks(recorded, now),
    ...(await detailChecks(session, recorded, loaded, versions)),
    await sequenceCheck(session, recorded),
  ];
  await session.run('ROLLBACK');
  return checks;
}

/** The restore compares the numbers too. What it allows to differ, it names in its warnings, but for TimescaleDB. */
function objectChecks({ name: of, objects, extensions }: DatabaseFacts, now: DatabaseFacts): DrillCheck[] {
  if (!objects) return [unrecorded('objects', of)];
  const why = (fewer: boolean) => {
    if (hasTimescale({ extensions })) return CREATES;
    return fewer
      ? 'the restore left some out, see the notes about this database'
      : 'the restore accepted more of them than recorded';
  };
  return (Object.keys(objects) as (keyof ObjectCounts)[]).map((name) => {
    const [expected, found] = [objects[name], now.objects?.[name] ?? 0];
    return {
      name,
      of,
      expected,
      found,
      ...(expected === found ? { result: 'ok' } : { result: 'skipped', detail: why(found < expected) }),
    };
  });
}

async function largeObjectChecks(
  session: Session,
  { name: of, largeObjects, largeObjectBytes: expected }: DatabaseFacts,
  now: DatabaseFacts,
): Promise<DrillCheck[]> {
  const number = equal('large objects', of, largeObjects, now.largeObjects);
  const name = 'bytes of large objects';
  if (expected === undefined) return [number, unrecorded(name, of)];
  const found = await measureLargeObjects(session, now);
  if (found === undefined)
    return [number, { name, of, result: 'skipped', detail: 'the server did not tell it in time' }];
  return [number, equal(name, of, expected, found)];
}

function extensionCheck({ name: of, extensions }: DatabaseFacts, now: DatabaseFacts): DrillCheck {
  // pg_cron can only be created under the final name of its database, and the notes say so.
  const missing = extensions
    .filter(({ name }) => name !== 'pg_cron' && !now.extensions.some((one) => one.name === name))
    .map(({ name }) => `extension ${name} is missing`);
  const newer = extensions.flatMap(({ name, version }) => {
    const present = now.extensions.find((one) => one.name === name)?.version;
    return present === undefined || present === version ? [] : [`${name} ${version} is ${present} now`];
  });
  return noneOf('extensions', of, missing, newer.length > 0 ? newer.join(', ') : undefined);
}

async function detailChecks(
  session: Session,
  recorded: DatabaseFacts,
  { unreachable }: LoadedDatabase,
  versions: Versions,
): Promise<DrillCheck[]> {
  const { name: of, details, definitions } = recorded;
  const names = [...DEFINITION_CHECKS, 'owners', 'grants', 'constraints not validated', 'invalid indexes', VIEWS];
  const skip = (detail: string) => names.map((name): DrillCheck => ({ name, of, result: 'skipped', detail }));
  if (!details) return names.map((name) => unrecorded(name, of));
  if (major(versions.recorded) !== major(versions.restored))
    return skip(
      `default rights differ between major versions ${major(versions.recorded)} and ${major(versions.restored)}`,
    );
  if (hasTimescale(recorded)) return skip(CREATES);
  const defined = await definitionChecks(session, recorded);
  const now = await readDetails(session);
  // The numbers include the schema public even if it was dropped. The definitions do not.
  const counts = ({ kind }: { kind: string }) => !definitions || kind !== 'schema';
  const roles = (kind: 'owned' | 'granted') =>
    compareRoles(details[kind].filter(counts), now[kind].filter(counts)).map(
      ({ what, expected, found }) => `${what}: ${found}, recorded ${expected}`,
    );
  return [
    ...defined,
    noneOf('owners', of, roles('owned')),
    noneOf('grants', of, roles('granted')),
    equal('constraints not validated', of, details.unvalidated, now.unvalidated),
    await invalidCheck(session, of, details),
    await viewCheck(session, of, details, unreachable),
  ];
}

/** Every index is built by the restore, so one that is not valid was not valid when it was recorded, or is a fault. */
async function invalidCheck(session: Session, of: string, { invalidIndexes }: DatabaseDetails): Promise<DrillCheck> {
  const invalid = await session.all<{ name: string }>(
    `SELECT indexrelid::regclass::text AS name FROM pg_index WHERE NOT indisvalid ORDER BY 1`,
  );
  const check = equal('invalid indexes', of, invalidIndexes, invalid.length);
  if (check.result === 'ok') return check;
  return { ...check, differences: invalid.slice(0, 20).map(({ name }) => `index ${name} is not valid`) };
}

async function sequenceCheck(
  session: Session,
  { name: of, sequences, movedSequences: moved = [], objects }: DatabaseFacts,
): Promise<DrillCheck> {
  if (!sequences) return unrecorded('sequence values', of);
  const differences = differingSequences({ sequences, moved }, await readSequences(session)).map(sequenceText);
  const left = (objects?.sequences ?? 0) - sequences.length - moved.length;
  const detail = [
    plural(sequences.length + moved.length, 'sequence'),
    ...(moved.length > 0 ? [`${moved.length} of them moved during the dump, and have a value in between`] : []),
    ...(left > 0 ? [`${left} more could not be read before and after the dump`] : []),
  ];
  return noneOf('sequence values', of, differences, detail.join('; '));
}

function sequenceText({ recorded, found }: ReturnType<typeof differingSequences>[number]): string {
  const named = `sequence ${recorded.schema}.${recorded.name}`;
  if (!found) return `${named} is missing`;
  const shown = (value: string | null) => value ?? 'as never used';
  const between =
    'after' in recorded ? `between ${shown(recorded.value)} and ${shown(recorded.after)}` : shown(recorded.value);
  return `${named} ${found.value === null ? 'was never used' : `is at ${found.value}`}, recorded ${between}`;
}

function major(versionNumber: number): number {
  return Math.floor(versionNumber / 10_000);
}
