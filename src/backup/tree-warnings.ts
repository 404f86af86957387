import { LifeboatError } from '../base/errors.ts';
import type { PlannedSource } from '../plan/model.ts';
import { plural } from '../report/format.ts';
import type { StoredTree, TreeIssue } from '../store/content/stored-tree.ts';
import type { DataDirectory } from '../store/filesystem/data-directory.ts';

/** Summary, errors and warnings of a stored tree. */

const SHOWN = 3;

const SPECIAL: Record<string, string> = { char: 'character device', block: 'block device', fifo: 'FIFO' };

const STOP_HINT = `Set the label lifeboat.stop: "true" on the service, so that nothing writes while its files are read.`;
const STOPPED_HINT = 'Find out what writes there besides this service, and stop it with a lifeboat.exec.pre hook.';

/** Returns a one-line summary, for a tree whose source gives none. It names what the tree leaves out by itself. */
export function treeSummary({ files, databases, dataDirectories }: StoredTree): string {
  const found = databases > 0 ? `, ${plural(databases, 'SQLite database')}` : '';
  const left = leftOutNames(dataDirectories);
  const more = left.length > SHOWN ? ` and ${left.length - SHOWN} more` : '';
  return plural(files, 'file') + found + (left.length > 0 ? `, without ${left.slice(0, SHOWN).join(', ')}${more}` : '');
}

/** Returns the data directories that a tree leaves out, for people: `pgdata (PostgreSQL)`. */
export function leftOutNames(found: readonly DataDirectory[]): string[] {
  return found
    .filter(({ leftOut }) => leftOut)
    .map(({ path, kind }) => (path === '.' ? `the data of ${kind}` : `${path} (${kind})`));
}

/** Returns why a source is only partly stored or may be unusable, the worst error first. */
export function treeErrors(source: PlannedSource, stored: StoredTree): LifeboatError[] {
  const { unreadable, unreadableCount, torn, tornCount, damaged, damagedCount } = stored;
  const errors: LifeboatError[] = [];
  if (unreadableCount > 0) {
    const message = `${plural(unreadableCount, 'path')} of ${source.name} could not be read: ${shown(unreadable)}`;
    errors.push(
      new LifeboatError('TREE_UNREADABLE', message, {
        hint: `Everything else is stored. ${unreadableHint(unreadable)}`,
      }),
    );
  }
  if (tornCount > 0) {
    const message = `${plural(tornCount, 'SQLite database')} of ${source.name} may be unusable: ${shown(torn)}`;
    errors.push(new LifeboatError('SQLITE_TORN', message, { hint: tornHint(source, torn) }));
  }
  if (damagedCount > 0) {
    const verb = damagedCount === 1 ? 'is' : 'are';
    const message = `${plural(damagedCount, 'SQLite database')} of ${source.name} ${verb} damaged: ${shown(damaged)}`;
    errors.push(
      new LifeboatError('SQLITE_DAMAGED', message, {
        hint: 'It is stored as it is. An older snapshot may hold an intact copy; `sqlite3 FILE ".recover"` saves what can be read.',
      }),
    );
  }
  return errors;
}

/** Returns warnings about a tree that is stored completely. */
export function treeWarnings(source: PlannedSource, stored: StoredTree): string[] {
  const { changed, changedCount, noted, notedCount } = stored;
  const warnings = [...stored.warnings];
  if (changedCount > 0) {
    const names = changed.slice(0, SHOWN).map(({ path }) => path);
    const more = changedCount > names.length ? ' among them ' : ' ';
    warnings.push(
      `${plural(changedCount, 'file')} kept changing while being read:${more}${names.join(', ')}. ${stopHint(source)}`,
    );
  }
  const running = runningData(source, stored.dataDirectories);
  if (running) warnings.push(`${running.message}. ${running.hint}`);
  if (notedCount > 0) warnings.push(`${plural(notedCount, 'SQLite database')}: ${shown(noted)}`);
  const skipped = Object.entries(stored.skipped).filter(([, count]) => count > 0);
  if (skipped.length > 0) {
    const named = skipped.map(([type, count]) => plural(count, SPECIAL[type] ?? type));
    warnings.push(`without content, so only recorded: ${named.join(', ')}`);
  }
  return warnings;
}

/** For an SQLite database that is mounted without its log. */
export const MOUNT_HINT =
  'Mount the directory that holds the database, not the single file: SQLite keeps the log next to the database.';

const COVER_HINT =
  'Set the label lifeboat.stop: "true" on the service, or dump the database with a lifeboat.exec.pre hook; for a Postgres server, use lifeboat.postgres.';

/**
 * Returns a warning for a volume that holds a database's data while its server can write to it: such a copy may not
 * restore. Returns undefined if nothing runs, the container is stopped, or a hook prepares the data.
 */
export function runningData(
  source: PlannedSource,
  found: readonly DataDirectory[],
): { message: string; hint: string } | undefined {
  if (source.kind !== 'volume' || source.stop.length > 0 || source.pre || !source.writers?.length) return undefined;
  const data = found.filter(({ kind, leftOut }) => !leftOut && kind !== 'a Lifeboat repository');
  if (data.length === 0) return undefined;
  const kinds = [...new Set(data.map(({ kind }) => kind))].join(', ');
  const places = data.map(({ path }) => path).filter((path) => path !== '.');
  const where = places.length > 0 ? ` (${places.slice(0, SHOWN).join(', ')})` : '';
  const who = source.writers.slice(0, SHOWN).join(', ');
  const message = `${source.name} holds the data of a database, ${kinds}${where}, and is read while ${who} can write to it; such a copy may be unusable`;
  return { message, hint: COVER_HINT };
}

function shown(issues: readonly TreeIssue[]): string {
  return issues
    .slice(0, SHOWN)
    .map(({ path, message }) => `${path} (${message})`)
    .join(', ');
}

function unreadableHint(issues: readonly TreeIssue[]): string {
  const long = issues.filter(({ cause }) => cause === 'length').length;
  const shorten = long > 0 ? ['Rename or move directories until no path is longer than 4,095 bytes.'] : [];
  const look = long < issues.length ? ['Check the file system and the permissions of these paths.'] : [];
  return [...look, ...shorten].join(' ');
}

/** Returns the hint for the first database. Others may have other causes, which their own lines name. */
function tornHint(source: PlannedSource, [first]: readonly TreeIssue[]): string {
  if (first?.cause === 'space')
    return 'Free space on the disk of the volume mounted at /spool, or mount a larger one there: a copy of the database and its log has to fit.';
  if (first?.cause === 'name')
    return 'Give the database one name: SQLite keeps the log next to the name that an application opens.';
  if (first?.cause === 'mount') return MOUNT_HINT;
  return stopHint(source);
}

function stopHint(source: PlannedSource): string {
  return source.kind === 'volume' && source.stop.length > 0 ? STOPPED_HINT : STOP_HINT;
}
