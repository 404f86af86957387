import { LifeboatError } from '../base/errors.ts';
import { isFuture } from '../plan/values/clock.ts';
import { type LastGood, lastGoodOf, lastStoredOf } from '../run/history.ts';
import type { Manifest, ManifestSource } from '../store/objects/manifest.ts';
import { gapAfter, unreadAfter } from '../store/repository/chain.ts';
import type { Repository } from '../store/repository/repository.ts';
import { refuseLostEnd } from '../store/repository/seen-chain.ts';
import { unsigned } from '../store/repository/signing.ts';
import { closedDatabases, lastWithDatabase, missingDatabases } from '../store/repository/stored-databases.ts';

/** A snapshot, and what it holds of a source. */
interface FoundSnapshot {
  snapshot: Manifest;
  entry: ManifestSource;
  /** what is missing in it, or that a newer one has a part: lines for people */
  notes: string[];
}

/** What is asked for: `latest`, an id or the start of one. */
interface FindRequest {
  snapshot: string;
  source: string;
  /** one database of a server */
  database?: string;
  /** also one that is not signed although a signing key is set */
  unsigned: boolean;
  /** nothing is restored: `latest` may lack databases that an older snapshot holds */
  lookOnly?: boolean;
  signal?: AbortSignal;
  /** the present, by which dates in the future are told; default: by the clock */
  now?: Date;
}

/**
 * Finds the snapshot that a restore asks for.
 *
 * - `latest` of a server is its newest snapshot that holds any of its databases. It is refused when it lacks a database that an older
 *   snapshot holds: to go back to the older one would lose the newest data of all other databases, so a person has to choose.
 * - `latest` of one database is the newest snapshot that holds it, whatever else that snapshot lacks.
 * - `latest` of anything else is the newest snapshot that has the whole source, or a part of it where none has the whole.
 *
 * With a signing key, an unsigned snapshot is taken only with `unsigned`, and `latest` only where nothing newer is missing. The
 * chain says what is newest: a date that a wrong clock gave is only noted.
 *
 * Errors: SNAPSHOT_UNKNOWN, SNAPSHOT_PARTIAL, SOURCE_UNKNOWN, PG_DATABASE_UNKNOWN; SIGNATURE_*, CHAIN_BROKEN; OBJECT_DAMAGED for a
 * manifest that cannot be read; what the destination throws; the signal's reason.
 */
export async function findSnapshot(repository: Repository, request: FindRequest): Promise<FoundSnapshot> {
  const { source, database } = request;
  if (request.snapshot === 'latest') return findLatest(repository, request);
  const { manifest: snapshot, ...resolved } = await repository.resolve(request.snapshot);
  if (resolved.unsigned && !request.unsigned) throw unsigned(`snapshot ${snapshot.id}`);
  const entry = snapshot.sources[source];
  if (!entry || entry.status === 'failed') {
    const good = Object.keys(snapshot.sources).filter((name) => snapshot.sources[name]?.status !== 'failed');
    throw new LifeboatError('SOURCE_UNKNOWN', `snapshot ${snapshot.id} does not hold ${source}`, {
      hint: sourceHint(good),
    });
  }
  const before = await olderThan(repository, request, snapshot, entry);
  const lacking = [...missingDatabases(entry), ...closedDatabases(entry)].find(({ name }) => name === database);
  if (lacking) throw lacksDatabase(snapshot, before, source, lacking);
  const gaps = database === undefined ? gapsOf(entry, before, source) : [];
  return { snapshot, entry, notes: [...gaps, ...datesOf(snapshot, request)] };
}

/** Older snapshots, newest first, where they are needed to say which one has a database. */
async function olderThan(
  repository: Repository,
  { signal }: FindRequest,
  { sequence }: Manifest,
  entry: ManifestSource,
): Promise<Manifest[]> {
  if (missingDatabases(entry).length + closedDatabases(entry).length === 0) return [];
  const { snapshots } = await repository.snapshots(signal);
  return snapshots.map(({ manifest }) => manifest).filter((one) => one.sequence < sequence);
}

function lacksDatabase(
  { id }: Manifest,
  before: readonly Manifest[],
  source: string,
  { name, error }: ReturnType<typeof missingDatabases>[number],
): LifeboatError {
  const last = lastWithDatabase(before, source, name);
  const why = error ? `: ${error.message}` : '';
  return new LifeboatError('PG_DATABASE_UNKNOWN', `snapshot ${id} does not hold database ${name}${why}`, {
    hint: last ? `Snapshot ${last.snapshot} is the last before it that does.` : 'No snapshot before it does.',
  });
}

/** With a damaged manifest among the newer ones the latest cannot be told. */
async function findLatest(
  repository: Repository,
  { source, database, unsigned: takeUnsigned, lookOnly, signal, now = new Date() }: FindRequest,
): Promise<FoundSnapshot> {
  const list = await repository.snapshots(signal);
  refuseLostEnd(repository, list);
  const { snapshots } = list;
  const manifests = snapshots.map(({ manifest }) => manifest);
  const ofDatabase = database === undefined ? undefined : lastWithDatabase(manifests, source, database);
  const lastGood = ofDatabase ?? latestOf(manifests, source);
  const found = lastGood && manifests.find(({ id }) => id === lastGood.snapshot);
  const newer = await unreadAfter(repository, list, found, now.getTime());
  if (newer) {
    throw new LifeboatError(
      newer.error.code,
      `the manifest of ${newer.id} cannot be used, so the latest is not known`,
      {
        cause: newer.error,
        hint: found
          ? `The newest one that can be used is ${found.id}: name it to restore it.`
          : 'No other snapshot holds the source.',
      },
    );
  }
  if (found) {
    if (!takeUnsigned && snapshots.some((one) => one.unsigned && one.manifest === found)) {
      throw unsigned(`snapshot ${found.id}`);
    }
    const gap = repository.signing.active ? await gapAfter(repository, snapshots, found) : undefined;
    if (gap) {
      throw new LifeboatError('CHAIN_BROKEN', `${gap.error.message}, so the latest is not known`, {
        hint: `The newest one that can be used is ${found.id}: name it to restore it. \`lifeboat check\` tells more.`,
      });
    }
    if (!ofDatabase && !lookOnly) refuseLacking(found, lastGood.entry, manifests, source);
    const stored = lastStoredOf(manifests, source);
    const beyond = stored && stored.snapshot !== found.id ? [leftAside(stored, database)] : [];
    const gaps = ofDatabase ? [] : gapsOf(lastGood.entry, manifests, source);
    return { snapshot: found, entry: lastGood.entry, notes: [...gaps, ...datesOf(found, { now }), ...beyond] };
  }
  const names = new Set(manifests.flatMap(({ sources }) => Object.keys(sources)));
  throw new LifeboatError('SOURCE_UNKNOWN', `no snapshot holds ${source}`, { hint: sourceHint([...names]) });
}

/** The newest snapshot of a server that says which databases it lacks; otherwise the newest whole one. */
function latestOf(manifests: readonly Manifest[], source: string): LastGood | undefined {
  const stored = lastStoredOf(manifests, source);
  const isExplained =
    stored && (missingDatabases(stored.entry).length > 0 || stored.entry.withoutGlobals !== undefined);
  return isExplained ? stored : lastGoodOf(manifests, source);
}

/** How many databases a message or a hint names. */
const NAMED = 5;

/** @throws SNAPSHOT_PARTIAL when an older snapshot holds a database that this one lacks */
function refuseLacking({ id }: Manifest, entry: ManifestSource, manifests: readonly Manifest[], source: string): void {
  const elsewhere = missingDatabases(entry).flatMap(({ name, error }) => {
    const last = lastWithDatabase(manifests, source, name);
    return last ? [{ name, error, last }] : [];
  });
  if (elsewhere.length === 0) return;
  const lacked = elsewhere.map(({ name, error }) => (error ? `${name} (${error.message})` : name));
  const held = (entry.databases ?? []).flatMap(({ name, status }) => (status === 'ok' ? [name] : []));
  const single = elsewhere.slice(0, NAMED).map(({ name, last }) => {
    return `\`restore latest ${source} --database ${shellWord(name)}\` restores ${name} from ${last.snapshot}.`;
  });
  const whole = lastGoodOf(manifests, source);
  const older =
    whole?.entry.status === 'ok'
      ? [`\`restore ${whole.snapshot} ${source}\` takes all databases of ${whole.snapshot} back to that time.`]
      : [];
  const message = `${id} is the newest snapshot of ${source} and lacks databases that older ones hold: ${shorten(lacked)}`;
  throw new LifeboatError('SNAPSHOT_PARTIAL', message, {
    hint: [
      `Nothing was changed; choose. \`restore ${id} ${source}\` restores ${shorten(held)} and leaves the others as they are.`,
      ...single,
      ...older,
    ].join(' '),
  });
}

function shorten(names: readonly string[]): string {
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  return names.slice(0, NAMED).join(', ') + more;
}

/** A name as a person can paste it into a shell. */
function shellWord(name: string): string {
  return /^[\w.-]+$/.test(name) && !name.startsWith('-') ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

function leftAside({ snapshot }: LastGood, database: string | undefined): string {
  if (database !== undefined) return `${snapshot} is newer and does not hold database ${database}, so it is left aside`;
  return `${snapshot} is newer but not whole, so it is left aside; name it to restore it`;
}

/** What an entry lacks, and where each database that it lacks was last stored. */
function gapsOf(entry: ManifestSource, manifests: readonly Manifest[], source: string): string[] {
  const { status, error } = entry;
  const elsewhere = [...missingDatabases(entry), ...closedDatabases(entry)].flatMap(({ name }) => {
    const last = lastWithDatabase(manifests, source, name);
    return last ? [`database ${name} is in ${last.snapshot}: restore it from there, with --database`] : [];
  });
  const closed = closedDatabases(entry).map(
    ({ name }) => `database ${name} was not stored: nobody could connect to it`,
  );
  const gap = status === 'partial' && error ? [`not whole: ${error.message} (${error.code})`] : [];
  return [...gap, ...closed, ...elsewhere];
}

function datesOf({ id, start }: Manifest, { now = new Date() }: Pick<FindRequest, 'now'>): string[] {
  if (!isFuture(Date.parse(start), now.getTime())) return [];
  return [`${id} is dated in the future: a clock was wrong when it was made, or is wrong now`];
}

function sourceHint(names: string[]): string {
  return names.length === 0 ? 'The repository holds no snapshot yet.' : `There is: ${names.sort().join(', ')}.`;
}
