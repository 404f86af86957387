import type { ManifestSource } from '../store/objects/manifest.ts';

/** The beginning of a warning about one database. A name may contain anything, also one of the ends. */
const ABOUT = /^database (.+?)(?:: |, which | is not )/s;
const ENDS = [': ', ', which ', ' is not '];

/**
 * Selects the recorded warnings of a source that concern a restore of one database: those about this database, and
 * those about the server as a whole. Pure.
 *
 * @param database absent for a restore of all of them
 */
export function warningsFor(
  { warnings, databases = [] }: Pick<ManifestSource, 'warnings' | 'databases'>,
  database: string | undefined,
): string[] {
  if (database === undefined) return [...warnings];
  const names = [database, ...databases.map(({ name }) => name)];
  return warnings.filter((text) => [undefined, database].includes(databaseOf(text, names)));
}

/** The database that a warning is about; undefined for the server. */
function databaseOf(text: string, names: readonly string[]): string | undefined {
  const known = names.filter((name) => ENDS.some((end) => text.startsWith(`database ${name}${end}`)));
  // A database may be called `app: test`.
  return known.toSorted((a, b) => b.length - a.length)[0] ?? ABOUT.exec(text)?.[1];
}
