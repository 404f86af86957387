import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Accepted } from '../plan/accepted.ts';
import { type Fall, MAX_FALL_TEXTS } from '../report/fall.ts';
import { type LastGood, lastGoodOf, lastStoredOf } from '../run/history.ts';
import type { RestoredSource } from '../run/restored.ts';
import { unacceptedFall } from '../run/source-status.ts';
import type { DatabaseFacts } from '../sources/postgres/facts/facts.ts';
import { rowsOf } from '../sources/postgres/facts/summary.ts';
import type { CapturedTree } from '../sources/source.ts';
import { type Manifest, type ManifestSource, withKeyId } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { lastWithDatabase } from '../store/repository/stored-databases.ts';

type Facts = CapturedTree['facts'];

export interface ShrinkageDeps {
  readFacts: Repository['readFacts'];
  log: Log;
  /** a larger drop of size or rows causes a warning: a share from 0 to 1 */
  share: number;
}

/** The snapshots to compare a source with. */
export interface FormerSnapshots {
  /** the newest complete one, or the newest partial one if none is complete */
  good: LastGood | undefined;
  /** the newest one, complete or partial */
  stored: LastGood | undefined;
  /** the newest one that holds a database of that name */
  withDatabase(name: string): LastGood | undefined;
  /** the last restore of the whole source */
  restored?: RestoredSource | undefined;
  /** the first loss that nobody has accepted */
  fall?: Fall | undefined;
}

/** Returns the snapshots to compare a source with. `manifests`: all of the project, newest first. */
export function formerSnapshots(
  manifests: readonly Manifest[],
  source: string,
  accepted: Accepted = {},
): FormerSnapshots {
  return {
    fall: unacceptedFall(manifests, source, accepted[source]),
    good: lastGoodOf(manifests, source),
    stored: lastStoredOf(manifests, source),
    withDatabase: (name) => lastWithDatabase(manifests, source, name),
  };
}

/** Data that a source has lost. */
export interface Shrinkage {
  /** one text for each loss that this run found */
  warnings: string[];
  /** absent: nothing is lost. `since`: the oldest of several snapshots, because it may hold more than the others */
  fell?: Fall;
}

/**
 * Finds data that a source has lost. Each database of a server is compared with the newest snapshot that holds it,
 * because a snapshot may lack some. Any other source is compared with its last good snapshot. Never rejects: if the
 * facts of a snapshot cannot be read, its databases are not compared by name.
 */
export async function findShrinkage(
  deps: ShrinkageDeps,
  captured: Pick<CapturedTree, 'facts' | 'databases'>,
  now: { files: number; bytes: number },
  former: FormerSnapshots,
): Promise<Shrinkage> {
  const { facts } = captured;
  const drops = isServer(facts)
    ? await dropsOfServer(deps, { facts, databases: captured.databases ?? [] }, now, former)
    : dropsOfFiles(deps, { ...now, ...recordedRows(facts) }, former);
  const warnings = drops.map(({ text }) => text);
  const since = drops.map((drop) => drop.since).sort()[0];
  const { fall } = former;
  if (since === undefined) return { warnings, ...(fall ? { fell: fall } : {}) };
  const earlier = fall === undefined || fall.since === since ? {} : { earlier: fall.since };
  return { warnings, fell: { since, why: warnings.slice(0, MAX_FALL_TEXTS), ...earlier } };
}

function dropsOfFiles(
  { share }: ShrinkageDeps,
  now: { files: number; bytes: number; rows?: number },
  { good }: FormerSnapshots,
): Shrink[] {
  if (!good) return [];
  return shrinkageWarnings(good.entry, now, share).map((text) => ({ text, since: good.snapshot }));
}

/** Returns the row count in the facts of a source, if they have one. */
export function recordedRows({ rows }: Facts): { rows?: number } {
  return typeof rows === 'number' ? { rows } : {};
}

/** The facts of a Postgres source that are compared between two snapshots. */
interface ServerRecord {
  kind: 'postgres';
  /** absent in a record of an import */
  server?: { systemIdentifier?: string };
  compression: string;
  databases: Pick<DatabaseFacts, 'name' | 'tables'>[];
}

/** One loss of a server since a snapshot. */
interface Shrink {
  text: string;
  since: string;
}

async function dropsOfServer(
  deps: ShrinkageDeps,
  { facts, databases }: { facts: ServerRecord & Facts; databases: NonNullable<CapturedTree['databases']> },
  now: { files: number; bytes: number },
  former: FormerSnapshots,
): Promise<Shrink[]> {
  const { stored } = former;
  if (!stored) return [];
  const read = factsOfSnapshots(deps);
  const last = await read(stored);
  // Manifests of older agents do not list their databases.
  const named = stored.entry.databases;
  const lastWith = (name: string) => (named ? former.withDatabase(name) : stored);
  // A database that could not be stored is reported as a failure. The totals then say nothing about the others.
  const isMissing = databases.some(({ error }) => error);
  const drops: Shrink[] = [];
  if (!isFilled(former.restored, stored, facts)) drops.push(...changeOfServer(last, facts, stored.snapshot));
  const known = new Set([...facts.databases, ...databases].map(({ name }) => name));
  const listed = named ? named.filter(({ status }) => status !== 'closed') : (last?.databases ?? []);
  for (const { name } of listed) {
    const holding = lastWith(name);
    if (known.has(name) || !holding) continue;
    const text = `database ${name} is not in this backup, and was in the last good one`;
    drops.push({ text, since: holding.snapshot });
  }
  for (const database of facts.databases) {
    const holding = lastWith(database.name);
    const before = holding && (await read(holding))?.databases.find(({ name }) => name === database.name);
    if (before) drops.push(...shrinkageOfDatabase(before, database, deps.share, holding.snapshot));
  }
  if (!isMissing) {
    const likeSizes = last === undefined || last.compression === facts.compression;
    // With facts, rows were compared by database already.
    const { bytes, status } = stored.entry;
    const before = last === undefined ? stored.entry : { bytes, status, files: 0 };
    const whole = shrinkageWarnings(before, { ...now, ...recordedRows(facts), likeSizes }, deps.share);
    drops.push(...whole.map((text) => ({ text, since: stored.snapshot })));
  }
  return drops;
}

/** Returns whether a server was filled from the last snapshot. */
function isFilled(restored: RestoredSource | undefined, { snapshot }: LastGood, { server }: ServerRecord): boolean {
  return restored !== undefined && restored.snapshot === snapshot && restored.system === server?.systemIdentifier;
}

/**
 * A server whose data directory was created again, such as after `docker compose down --volumes`, looks well once the
 * application has created its tables. initdb gives each data directory a system identifier of its own (Postgres docs,
 * pg_control_system).
 */
function changeOfServer(last: ServerRecord | undefined, now: ServerRecord, since: string): Shrink[] {
  const [was, is] = [last?.server?.systemIdentifier, now.server?.systemIdentifier];
  if (was === undefined || is === undefined || was === is) return [];
  return [{ text: `this is another server than in the last snapshot (system identifier ${is}, was ${was})`, since }];
}

type Database = ServerRecord['databases'][number];

function shrinkageOfDatabase(before: Database, now: Database, share: number, since: string): Shrink[] {
  if (!before.tables || !now.tables) return [];
  const [was, is] = [rowsOf([before]), rowsOf([now])];
  const texts = shrinkageWarnings({ rows: was, bytes: 0, files: 0 }, { rows: is, bytes: 0, files: 0 }, share);
  return texts.map((text) => ({ text: `database ${now.name}: ${text}`, since }));
}

/**
 * Returns a reader of facts that reads each snapshot once. It returns undefined for facts that it cannot read or use.
 */
function factsOfSnapshots({ readFacts, log }: ShrinkageDeps): (of: LastGood) => Promise<ServerRecord | undefined> {
  const known = new Map<string, Promise<ServerRecord | undefined>>();
  const read = async ({ entry }: LastGood) => {
    if (!entry.facts) return undefined;
    const { key } = entry.facts;
    const found = await readFacts(withKeyId(entry.facts, entry)).catch((error: unknown) =>
      log.warn('former facts cannot be read, so databases are not compared by name', { ...errorInfo(error), key }),
    );
    return isServer(found) ? found : undefined;
  };
  return (of) => {
    const reading = known.get(of.snapshot) ?? read(of);
    known.set(of.snapshot, reading);
    return reading;
  };
}

function isServer(facts: unknown): facts is ServerRecord & Facts {
  if (typeof facts !== 'object' || facts === null) return false;
  return 'kind' in facts && facts.kind === 'postgres' && 'databases' in facts && Array.isArray(facts.databases);
}

/**
 * Returns warnings for a source that has lost more than `share` (0 to 1) since the snapshot that `before` is of.
 * `likeSizes` is false if the two are compressed differently, because their sizes cannot be compared.
 */
export function shrinkageWarnings(
  before: (Pick<ManifestSource, 'bytes' | 'files' | 'rows'> & Partial<Pick<ManifestSource, 'status'>>) | undefined,
  now: { bytes: number; files: number; rows?: number; likeSizes?: boolean },
  share: number,
): string[] {
  if (!before) return [];
  const warnings: string[] = [];
  const since = before.status === 'partial' ? 'the last snapshot, which was partial' : 'the last good snapshot';
  const compare = (what: string, was: number | undefined, is: number | undefined) => {
    if (was === undefined || is === undefined || was === 0 || is >= was * (1 - share)) return;
    const percent = Math.round((1 - is / was) * 100);
    warnings.push(
      `${what} fell by ${percent} % since ${since}: from ${was.toLocaleString('en-US')} to ${is.toLocaleString('en-US')}`,
    );
  };
  const isCounted = now.rows !== undefined && before.rows !== undefined;
  compare('rows', before.rows, now.rows);
  // The same number of rows may hold less, such as after a column was emptied.
  if (now.likeSizes !== false) compare('size in bytes', before.bytes, now.bytes);
  // A dump has a file for each table, even an empty one.
  if (!isCounted) compare('number of files', before.files, now.files);
  return warnings;
}
