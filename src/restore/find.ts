import { LifeboatError } from '../base/errors.ts';
import { renamed } from '../kept/target.ts';
import { isFuture } from '../plan/values/clock.ts';
import { sourcesHint } from '../plan/values/suggest.ts';
import { type ReadingOptions, restoreCommand, shellWord } from '../report/restore-command.ts';
import { type LastGood, lastGoodOf, lastNameOf, lastStoredOf } from '../run/history.ts';
import type { Manifest, ManifestSource } from '../store/objects/manifest.ts';
import { gapAfter, unreadAfter } from '../store/repository/chain.ts';
import { findOtherProjects, otherProjectsText } from '../store/repository/other-projects.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import { refuseLostEnd } from '../store/repository/seen-chain.ts';
import { unsigned, visibleId } from '../store/repository/signing.ts';
import { closedDatabases, lastWithDatabase, missingDatabases } from '../store/repository/stored-databases.ts';

/** A snapshot, and its entry for a source. */
interface FoundSnapshot {
  snapshot: Manifest;
  entry: ManifestSource;
  /** lines for the user: what the snapshot lacks, or that a newer one holds a part of the source */
  notes: string[];
}

/** The snapshot that a restore asks for. */
interface FindRequest extends ReadingOptions {
  /** `latest`, an id, or the start of one */
  snapshot: string;
  source: string;
  /** one database of a server */
  database?: string;
  unsigned: boolean;
  /** the present name of a shared volume that has had the name `source`, see {@link Plan.shared} */
  storedAs?: string | undefined;
  /** nothing is restored: `latest` may lack databases that an older snapshot holds */
  lookOnly?: boolean;
  signal?: AbortSignal;
  /** the present time, to find dates in the future; default: the clock */
  now?: Date;
}

/**
 * Finds the snapshot that a restore asks for.
 *
 * - `latest` of a server is its newest snapshot that holds any of its databases. It is refused if it lacks a database
 *   that an older snapshot holds: restoring the older one would lose the newest data of all other databases, so a
 *   person has to choose.
 * - `latest` of one database is the newest snapshot that holds it, whatever else that snapshot lacks.
 * - `latest` of any other source is the newest snapshot that holds all of it, or a part of it if no snapshot holds all.
 *
 * With a signing key, an unsigned snapshot is accepted only with `unsigned`, and `latest` only if no newer snapshot is
 * missing. The chain defines the order; a date from a wrong clock is only noted.
 *
 * @throws SNAPSHOT_UNKNOWN, SNAPSHOT_PARTIAL, SOURCE_UNKNOWN, PG_DATABASE_UNKNOWN, SIGNATURE_*, CHAIN_BROKEN;
 * OBJECT_DAMAGED for a manifest that cannot be read; the errors of the destination; the signal's reason
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
      hint: sourceHint(source, good, repository.project),
    });
  }
  const before = await olderThan(repository, request, snapshot, entry);
  const lacking = [...missingDatabases(entry), ...closedDatabases(entry)].find(({ name }) => name === database);
  if (lacking) throw lacksDatabase(snapshot, before, source, lacking);
  const gaps = database === undefined ? gapsOf(entry, before, source) : [];
  return { snapshot, entry, notes: [...unverified(repository, snapshot), ...gaps, ...datesOf(snapshot, request)] };
}

/** Notes that a signed snapshot is used without its key, so that nobody takes it for verified. */
function unverified({ signing }: Repository, { signature }: Manifest): string[] {
  if (signing.active || signature === undefined) return [];
  return [
    `the snapshot is signed with key ${visibleId(signature.keyId)}, but nothing was verified: LIFEBOAT_SIGNING_KEY is not set`,
  ];
}

/** Reads the older snapshots, newest first, if they are needed to find a missing database. */
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

/** A damaged manifest among the newer ones leaves it unknown which snapshot is the latest. */
async function findLatest(repository: Repository, request: FindRequest): Promise<FoundSnapshot> {
  const { source, database, unsigned: takeUnsigned, lookOnly, storedAs, signal, now = new Date() } = request;
  const list = await repository.snapshots(signal);
  refuseLostEnd(repository, list);
  const { snapshots } = list;
  const manifests = snapshots.map(({ manifest }) => manifest);
  const ofDatabase = database === undefined ? undefined : lastWithDatabase(manifests, source, database);
  const lastGood = ofDatabase ?? latestOf(manifests, source);
  const found = lastGood && manifests.find(({ id }) => id === lastGood.snapshot);
  // Under its old name, a shared volume has only old data.
  if (storedAs !== undefined && lastNameOf(manifests, [source, storedAs]) === storedAs) {
    throw renamed(source, storedAs, restoreCommand(request, 'latest', storedAs));
  }
  const newer = await unreadAfter(repository, list, found, now.getTime());
  if (newer) {
    throw new LifeboatError(
      newer.error.code,
      `the manifest of ${newer.id} cannot be used, so the newest snapshot is not certain`,
      {
        cause: newer.error,
        hint: [
          ...(newer.error.code === 'SIGNATURE_KEY' && newer.error.hint ? [newer.error.hint] : []),
          found
            ? `The newest one that can be used is ${found.id}: name it to restore it.`
            : 'No other snapshot holds the source.',
        ].join(' '),
      },
    );
  }
  if (found) {
    if (!takeUnsigned && snapshots.some((one) => one.unsigned && one.manifest === found)) {
      throw unsigned(`snapshot ${found.id}`);
    }
    const gap = repository.signing.active ? await gapAfter(repository, snapshots, found) : undefined;
    if (gap) {
      throw new LifeboatError('CHAIN_BROKEN', `${gap.error.message}, so the newest snapshot is not certain`, {
        hint: `The newest one that can be used is ${found.id}: name it to restore it. \`lifeboat check\` shows more.`,
      });
    }
    if (!ofDatabase && !lookOnly) refuseLacking(request, found, lastGood.entry, manifests);
    const stored = lastStoredOf(manifests, source);
    const beyond = stored && stored.snapshot !== found.id ? [leftAside(stored, database)] : [];
    const gaps = ofDatabase ? [] : gapsOf(lastGood.entry, manifests, source);
    const notes = [...unverified(repository, found), ...gaps, ...datesOf(found, { now }), ...beyond];
    return { snapshot: found, entry: lastGood.entry, notes };
  }
  const names = new Set(manifests.flatMap(({ sources }) => Object.keys(sources)));
  const others = otherProjectsText(repository.destination.name, await findOtherProjects(repository, signal));
  throw new LifeboatError('SOURCE_UNKNOWN', `no snapshot holds ${source}`, {
    hint: `${sourceHint(source, [...names], repository.project)}${others ? ` ${others}.` : ''}`,
  });
}

/** Returns the newest snapshot if it says which databases it lacks, else the newest whole one. */
function latestOf(manifests: readonly Manifest[], source: string): LastGood | undefined {
  const stored = lastStoredOf(manifests, source);
  const isExplained =
    stored && (missingDatabases(stored.entry).length > 0 || stored.entry.withoutGlobals !== undefined);
  return isExplained ? stored : lastGoodOf(manifests, source);
}

/** The most databases that a message or a hint names. */
const NAMED = 5;

/** @throws SNAPSHOT_PARTIAL if an older snapshot holds a database that this one lacks */
function refuseLacking(
  request: FindRequest,
  { id }: Manifest,
  entry: ManifestSource,
  manifests: readonly Manifest[],
): void {
  const { source } = request;
  const elsewhere = missingDatabases(entry).flatMap(({ name, error }) => {
    const last = lastWithDatabase(manifests, source, name);
    return last ? [{ name, error, last }] : [];
  });
  if (elsewhere.length === 0) return;
  const lacked = elsewhere.map(({ name, error }) => (error ? `${name} (${error.message})` : name));
  const held = (entry.databases ?? []).flatMap(({ name, status }) => (status === 'ok' ? [name] : []));
  const single = elsewhere.slice(0, NAMED).map(({ name, last }) => {
    const command = restoreCommand(request, last.snapshot, source, `--database ${shellWord(name)}`);
    return `\`${command}\` restores ${name} from ${last.snapshot}.`;
  });
  const whole = lastGoodOf(manifests, source);
  const older =
    whole?.entry.status === 'ok'
      ? [
          `\`${restoreCommand(request, whole.snapshot, source)}\` takes all databases of ${whole.snapshot} back to that time.`,
        ]
      : [];
  const message = `${id} is the newest snapshot of ${source} and lacks databases that older ones hold: ${shorten(lacked)}`;
  throw new LifeboatError('SNAPSHOT_PARTIAL', message, {
    hint: [
      `Nothing was changed. Choose: \`${restoreCommand(request, id, source)}\` restores ${shorten(held)} and leaves the others as they are.`,
      ...single,
      ...older,
    ].join(' '),
  });
}

function shorten(names: readonly string[]): string {
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  return names.slice(0, NAMED).join(', ') + more;
}

function leftAside({ snapshot }: LastGood, database: string | undefined): string {
  if (database !== undefined) return `${snapshot} is newer and does not hold database ${database}, so it is not used`;
  return `${snapshot} is newer but not whole, so it is not used; name it to restore it`;
}

/** Says what an entry lacks, and which snapshot last held each missing database. */
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

/** Returns the error about a restore that names no source: its only operand may be a source, in place of a snapshot. */
export function withoutSource(operand: string, snapshots: readonly Snapshot[]): LifeboatError {
  const names = new Set(snapshots.flatMap(({ manifest }) => Object.keys(manifest.sources)));
  if (names.has(operand)) {
    const hint = `Put the snapshot first: \`lifeboat restore latest ${operand}\`. A point in time needs none: \`lifeboat restore ${operand} --at TIME\`.`;
    return new LifeboatError('USAGE', `${operand} is a source, not a snapshot`, { hint });
  }
  const known = names.size === 0 ? '' : `The sources are: ${[...names].sort().join(', ')}.`;
  return new LifeboatError('USAGE', 'name a source, or use --all', { hint: known });
}

function sourceHint(word: string, names: string[], project: string): string {
  return names.length === 0 ? `There is no snapshot of project ${project} yet.` : sourcesHint([word], names);
}
