import { type ErrorInfo, errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Plan } from '../plan/model.ts';
import { baseName } from '../plan/postgres.ts';
import { sourcesHint } from '../plan/values/suggest.ts';
import { findStart } from '../restore/point/find-start.ts';
import { vanishedSources } from '../run/history.ts';
import { isRegular, type Manifest } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { readRecoverable, serversOf } from '../store/wal/recoverable.ts';
import type { DrillDeps, DrillRequest } from './context.ts';

/** A source to drill. */
export interface Wanted {
  source: string;
  /** the server to recover to a point in time; absent for any other drill */
  server?: string;
  /** known before: nothing of the source is stored */
  outcome?: { status: 'failed' | 'unproven'; error: ErrorInfo };
}

/** The sources and snapshots that a drill can choose from. */
interface Stored {
  repository: Repository;
  plan: Plan;
  /** newest first */
  manifests: readonly Manifest[];
  /** some manifests cannot be read, so nobody knows what they hold */
  isUncertain: boolean;
}

/** Without a plan: how long before the newest snapshot another one says what there is to drill. 31 days. */
const RECENT_MS = 31 * 86_400_000;

/** Refuses options that contradict each other. @throws USAGE */
export function refuseContradiction({ aim, snapshot, stack }: DrillRequest): void {
  if (!aim) return;
  const other = snapshot === 'latest' ? (stack ? '--stack' : undefined) : '--snapshot';
  if (other !== undefined) throw new LifeboatError('USAGE', `--at and ${other} contradict each other`);
}

/**
 * Returns the sources to drill. Refuses a mistake of the user before anything is done or recorded, so that it raises no
 * alarm. Without names, these are all sources of the plan, and those that snapshots hold and the plan lacks: a
 * container that was stopped, or whose label was misspelt, must not drop out of sight.
 *
 * @throws SOURCE_UNKNOWN, SNAPSHOT_UNKNOWN, PITR_TIME, USAGE; the errors of listing the snapshots
 */
export async function choose(
  deps: DrillDeps,
  repository: Repository,
  plan: Plan,
  request: DrillRequest,
): Promise<Wanted[]> {
  const { snapshots, damaged } = await repository.snapshots(request.signal);
  const manifests = snapshots.map(({ manifest }) => manifest);
  const stored = { repository, plan, manifests, isUncertain: damaged.length > 0 };
  const names = [...new Set(request.sources)];
  refuseUnknown(stored, names);
  if (request.aim) return chooseServers(deps, stored, request, names);
  if (request.snapshot !== 'latest') return chooseIn(stored, request.snapshot, names);
  const all = names.length > 0 ? names : await everything(deps, stored);
  if (all.length === 0) throw new LifeboatError('SOURCE_UNKNOWN', 'there is no snapshot, so there is nothing to drill');
  return all.map((source) => ({ ...wanted(stored, source), ...neverStored(stored, source) }));
}

/** @throws SOURCE_UNKNOWN for names that neither the plan nor a snapshot has */
function refuseUnknown({ plan, manifests }: Stored, names: readonly string[]): void {
  const known = new Set([
    ...plan.sources.map(({ name }) => name),
    ...manifests.flatMap(({ sources }) => Object.keys(sources)),
  ]);
  const unknown = names.filter((name) => !known.has(name));
  if (unknown.length === 0) return;
  throw new LifeboatError('SOURCE_UNKNOWN', `no source is named ${unknown.join(', ')}`, {
    hint: known.size > 0 ? sourcesHint(unknown, [...known]) : 'There is no snapshot yet.',
  });
}

async function everything({ state }: DrillDeps, { plan, manifests }: Stored): Promise<string[]> {
  if (plan.sources.length > 0) {
    const lacking = vanishedSources(manifests, plan, { accepted: await state.accepted() });
    return [...plan.sources, ...lacking].map(({ name }) => name);
  }
  const regular = manifests.filter(isRegular);
  const since = Date.parse((regular[0] ?? manifests[0])?.end ?? '') - RECENT_MS;
  const recent = (regular.length > 0 ? regular : manifests).filter(({ end }) => Date.parse(end) >= since);
  return [...new Set(recent.flatMap(({ sources }) => Object.keys(sources)))];
}

/** Base backups are drilled as recoveries of their server. */
function wanted({ plan, manifests }: Stored, source: string): Wanted {
  const planned = plan.sources.find(({ name }) => name === source);
  if (planned) return planned.kind === 'base' ? { source, server: planned.server } : { source };
  const server = serversOf(manifests).find((one) => baseName(one) === source);
  return server === undefined ? { source } : { source, server };
}

function neverStored({ manifests, isUncertain }: Stored, source: string): Pick<Wanted, 'outcome'> {
  if (isUncertain || manifests.some(({ sources }) => sources[source] !== undefined)) return {};
  const error = new LifeboatError('SOURCE_UNKNOWN', `no backup of ${source} is stored yet`, {
    hint: 'The next backup stores one. `lifeboat backup` makes one now.',
  });
  return { outcome: { status: 'unproven', error: errorInfo(error) } };
}

/** The sources of one snapshot. @throws SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN, USAGE */
async function chooseIn(stored: Stored, snapshot: string, names: readonly string[]): Promise<Wanted[]> {
  const { repository } = stored;
  const manifest = await readManifest(repository, snapshot);
  if (manifest instanceof LifeboatError) return unreadable(stored, names, manifest);
  const entries = Object.entries(manifest.sources);
  const held = new Map(entries.filter(([, { kind }]) => kind !== 'base'));
  const base = names.find((name) => manifest.sources[name] && !held.has(name));
  if (base !== undefined) {
    throw new LifeboatError('USAGE', `--snapshot does not choose the moment that ${base} is recovered to`, {
      hint: 'Name a time with --at, or leave --snapshot out: a drill then takes a random moment.',
    });
  }
  const lacking = names.find((name) => !held.has(name));
  if (lacking !== undefined || held.size === 0) {
    throw new LifeboatError('SOURCE_UNKNOWN', `snapshot ${manifest.id} does not hold ${lacking ?? 'any source'}`, {
      hint: `It holds ${[...held.keys()].join(', ') || 'nothing that a drill could restore'}.`,
    });
  }
  return (names.length > 0 ? names : [...held.keys()]).map((source) => {
    const entry = held.get(source);
    if (entry?.status !== 'failed') return { source };
    const why = entry.error?.message ?? 'its backup failed';
    const error = new LifeboatError('SOURCE_UNKNOWN', `snapshot ${manifest.id} does not hold ${source}: ${why}`);
    return { source, outcome: { status: 'failed', error: errorInfo(error) } };
  });
}

/** Errors of the snapshot itself. A drill reports them as its result, because the user made no mistake. */
const BAD = ['OBJECT_DAMAGED', 'OBJECT_MISSING', 'SIGNATURE_MISSING', 'SIGNATURE_WRONG', 'CHAIN_BROKEN'] as const;

/** Resolves to the error if the manifest is there and bad. @throws SNAPSHOT_UNKNOWN; the errors of the destination */
async function readManifest(repository: Repository, snapshot: string): Promise<Manifest | LifeboatError> {
  try {
    return (await repository.resolve(snapshot)).manifest;
  } catch (error) {
    if (hasCode(error, ...BAD)) return error;
    throw error;
  }
}

/** Fails what the snapshot may hold: the named sources, or those of the plan. */
function unreadable({ plan }: Stored, names: readonly string[], why: LifeboatError): Wanted[] {
  const planned = plan.sources.flatMap(({ name, kind }) => (kind === 'base' ? [] : [name]));
  const all = names.length > 0 ? names : planned;
  if (all.length === 0) throw why;
  return all.map((source) => ({ source, outcome: { status: 'failed', error: errorInfo(why) } }));
}

/** The servers to recover to a point in time, each once. @throws PITR_TIME, USAGE */
async function chooseServers(
  deps: DrillDeps,
  stored: Stored,
  { aim, signal }: DrillRequest,
  names: readonly string[],
): Promise<Wanted[]> {
  const { repository, plan, manifests } = stored;
  const planned = plan.sources.flatMap((one) => (one.kind === 'base' ? [one.server] : []));
  const servers = new Set([...planned, ...serversOf(manifests)]);
  const found = new Map<string, Wanted>();
  for (const source of names.length > 0 ? names : planned.length > 0 ? planned : servers) {
    const server = wanted(stored, source).server ?? source;
    if (!servers.has(server)) {
      throw new LifeboatError('USAGE', `${source} cannot be recovered to a point in time`, {
        hint: servers.size > 0 ? `These can: ${[...servers].join(', ')}.` : 'No server has lifeboat.postgres.pitr.',
      });
    }
    if (!found.has(server)) found.set(server, { source, server });
  }
  if (found.size === 0)
    throw new LifeboatError('USAGE', 'no server here can be recovered to a point in time', {
      hint: 'Set lifeboat.postgres.pitr on the container of a server.',
    });
  for (const server of found.keys()) {
    const remembered = await deps.remembered(server);
    const source = { source: server, base: baseName(server) };
    const { problems } = await readRecoverable(repository, source, remembered, signal);
    // A point that damage has made unreachable is the result of a drill.
    if (aim && problems.length === 0) await findStart(repository, { source: server, signal, ...aim }, remembered);
  }
  return [...found.values()];
}
