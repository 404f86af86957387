import { plural } from '../../../report/format.ts';
import type { DatabaseFacts, PostgresFacts } from './facts.ts';

/** Returns the total of the rows in the dumps. */
export function rowsOf(databases: readonly Pick<DatabaseFacts, 'tables'>[]): number {
  const tables = databases.flatMap((database) => database.tables);
  return tables.reduce((sum, { data, rows }) => sum + (data === false ? 0 : rows), 0);
}

/** Returns `2 databases, 61 tables, 1,523,118 rows`, followed by what was left out. */
export function summarise(facts: PostgresFacts, templates: readonly string[]): string {
  const tables = facts.databases.flatMap((database) => database.tables);
  const stored = tables.filter(({ data }) => data !== false);
  const estimated = stored.some((table) => !table.exact) ? 'about ' : '';
  const leftOut = tables.filter(
    ({ data, extension, unloggedOnStandby }) => data === false && !extension && !unloggedOnStandby,
  ).length;
  const unchecked = facts.databases.reduce((sum, { uncheckedKeys = 0 }) => sum + uncheckedKeys, 0);
  return [
    plural(facts.databases.length, 'database'),
    plural(tables.length, 'table'),
    estimated + plural(facts.rows, 'row'),
    ...(leftOut > 0 ? [`${plural(leftOut, 'table')} without rows, as configured`] : []),
    ...(unchecked > 0 ? [`${plural(unchecked, 'foreign key')} not checked for orphan rows: too large`] : []),
    ...(templates.length > 0
      ? [`without the ${templates.length === 1 ? 'template' : 'templates'} ${templates.join(', ')}`]
      : []),
  ].join(', ');
}

/**
 * Warns of databases whose indexes were sorted with another version of the locale than the system has now. musl, the C
 * library of Alpine, has no versions: it sorts by code point, unlike the image that recorded a version.
 */
export function collationWarnings(facts: PostgresFacts): string[] {
  return facts.databases
    .filter((database) => database.collationVersion && database.collationVersion !== database.actualCollationVersion)
    .map(
      ({ name, collationVersion, actualCollationVersion }) =>
        `database ${name}: collation version ${collationVersion} was recorded, the system has ${actualCollationVersion ?? 'none'}; text indexes may need REINDEX`,
    );
}

/** Returns the roles that a recorded database names: owners, roles with rights, and roles with settings. */
export function rolesOf({
  owner,
  owners,
  grantees = [],
  settings,
}: Pick<DatabaseFacts, 'owner' | 'owners' | 'grantees' | 'settings'>): string[] {
  return [owner, ...owners, ...grantees, ...settings.flatMap(({ role }) => role ?? [])].filter((role) => role !== '');
}
