import type { DrillCheck } from '../report/drill-report.ts';
import { plural } from '../report/format.ts';
import { compareRoles, type DatabaseDetails, readDetails } from '../sources/postgres/facts/details.ts';
import { type DatabaseFacts, readDatabaseFacts } from '../sources/postgres/facts/facts.ts';
import type { ObjectCounts } from '../sources/postgres/facts/object-counts.ts';
import { differingSequences, readSequences, type SequenceValue } from '../sources/postgres/facts/sequences.ts';
import type { LoadedDatabase } from '../sources/postgres/load/load.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import { equal, noneOf } from './context.ts';

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
  const of = recorded.name;
  const now = await readDatabaseFacts(session, session.versionNumber);
  return [
    rowsCheck(recorded, loaded),
    ...objectChecks(recorded, now),
    equal('large objects', of, recorded.largeObjects, now.largeObjects),
    extensionCheck(recorded, now),
    ...propertyChecks(recorded, now),
    ...(await detailChecks(session, recorded, versions)),
    await sequenceCheck(session, recorded),
  ];
}

function rowsCheck({ name: of }: DatabaseFacts, { rows, uncompared, reasons, tables }: LoadedDatabase): DrillCheck {
  const left =
    uncompared > 0 ? `; the rows of ${plural(uncompared, 'table')} are not compared: ${reasons.join(', ')}` : '';
  return { name: 'rows', of, result: 'ok', expected: rows, found: rows, detail: `${plural(tables, 'table')}${left}` };
}

/** The restore compares the numbers too. What it allows to differ, it names in its warnings, but for TimescaleDB. */
function objectChecks({ name: of, objects, extensions }: DatabaseFacts, now: DatabaseFacts): DrillCheck[] {
  if (!objects) return [unrecorded('objects', of)];
  const isTimescale = extensions.some(({ name }) => name === 'timescaledb');
  const detail = isTimescale ? CREATES : 'the restore left some out, see the notes about this database';
  return (Object.keys(objects) as (keyof ObjectCounts)[]).map((name) => {
    const [expected, found] = [objects[name], now.objects?.[name] ?? 0];
    return { name, of, expected, found, ...(expected === found ? { result: 'ok' } : { result: 'skipped', detail }) };
  });
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

/** Compares what stands outside of a dump of one database: its owner, encoding, settings and grants. */
function propertyChecks(recorded: DatabaseFacts, now: DatabaseFacts): DrillCheck[] {
  const of = recorded.name;
  const locale = ({ encoding, collate, ctype, provider, locale: name }: DatabaseFacts) =>
    [encoding, collate, ctype, provider, ...(name === undefined ? [] : [name])].join(' ');
  // The catalogue keeps the order in which settings were made.
  const settings = ({ settings: all }: DatabaseFacts) =>
    new Set(all.flatMap(({ role, config }) => config.map((one) => `${one.split('=')[0]} of ${role ?? 'all roles'}`)));
  const grants = ({ grants: all }: DatabaseFacts) =>
    new Set((all ?? []).map(({ grantee, privilege }) => `${privilege} to ${grantee ?? 'PUBLIC'}`));
  return [
    equal('owner of the database', of, recorded.owner, now.owner),
    equal('encoding and locale', of, locale(recorded), locale(now)),
    noneOf('settings of the database', of, missingFrom(settings(recorded), settings(now))),
    noneOf('grants on the database', of, missingFrom(grants(recorded), grants(now))),
  ];
}

function missingFrom(recorded: ReadonlySet<string>, now: ReadonlySet<string>): string[] {
  return [...recorded].filter((one) => !now.has(one)).map((one) => `${one} is missing`);
}

async function detailChecks(session: Session, recorded: DatabaseFacts, versions: Versions): Promise<DrillCheck[]> {
  const { name: of, details, extensions } = recorded;
  const names = ['owners', 'grants', 'constraints not validated', 'invalid indexes'];
  const skip = (detail: string) => names.map((name): DrillCheck => ({ name, of, result: 'skipped', detail }));
  if (!details) return names.map((name) => unrecorded(name, of));
  if (major(versions.recorded) !== major(versions.restored))
    return skip(
      `default rights differ between major versions ${major(versions.recorded)} and ${major(versions.restored)}`,
    );
  if (extensions.some(({ name }) => name === 'timescaledb')) return skip(CREATES);
  const now = await readDetails(session);
  const roles = (kind: 'owned' | 'granted') =>
    compareRoles(details[kind], now[kind]).map(
      ({ what, expected, found }) => `${what}: ${found}, recorded ${expected}`,
    );
  return [
    noneOf('owners', of, roles('owned')),
    noneOf('grants', of, roles('granted')),
    equal('constraints not validated', of, details.unvalidated, now.unvalidated),
    await invalidCheck(session, of, details),
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

async function sequenceCheck(session: Session, { name: of, sequences }: DatabaseFacts): Promise<DrillCheck> {
  if (!sequences) return unrecorded('sequence values', of);
  const at = (value: string | null) => (value === null ? 'was never used' : `is at ${value}`);
  const differences = differingSequences(sequences, await readSequences(session)).map(({ recorded, found }) =>
    found
      ? `sequence ${named(recorded)} ${at(found.value)}, recorded ${recorded.value ?? 'as never used'}`
      : `sequence ${named(recorded)} is missing`,
  );
  return noneOf('sequence values', of, differences, plural(sequences.length, 'sequence'));
}

function named({ schema, name }: SequenceValue): string {
  return `${schema}.${name}`;
}

function unrecorded(name: string, of: string): DrillCheck {
  return { name, of, result: 'skipped', detail: 'the snapshot does not record it' };
}

function major(versionNumber: number): number {
  return Math.floor(versionNumber / 10_000);
}
