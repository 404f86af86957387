import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { PlannedSource, PostgresSource } from '../plan/model.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import { formatAgo } from '../report/format.ts';
import type { RestoreContext } from '../restore/context.ts';
import { findSnapshot } from '../restore/find.ts';
import type { Journal } from '../run/journal.ts';
import { canonicalJson, decodeManifest, heldAt, manifestKey } from '../store/objects/manifest.ts';
import { readDocument } from '../store/objects/objects.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import { missingDatabases } from '../store/repository/stored-databases.ts';
import { requireKeys } from '../store/seal/encryption.ts';
import { type DrillDeps, type DrillRequest, equal, type Part } from './context.ts';
import { chooseImage } from './drill-server.ts';
import type { Places } from './places.ts';
import { drillPoint, type FoundPoint, findPoint } from './point-drill.ts';
import { drillDatabases } from './postgres-drill.ts';
import { nextShare } from './share.ts';
import { drillFiles } from './volume-drill.ts';

/** A drill in progress. */
export interface Run {
  id: string;
  startedAt: Date;
  journal: Journal;
  places: Places;
  plan: readonly PlannedSource[];
  /** reads the last drills, oldest first */
  earlier(): Promise<readonly DrillReport[]>;
  /** see {@link Part} */
  until: number;
  signal: AbortSignal;
  /** what the drills of the sources did not prove, although nothing failed */
  unproven: string[];
}

/** The source to drill. `whileUp`: see {@link Part}. */
interface Asked {
  source: string;
  whileUp?: NonNullable<Part['whileUp']>;
}

/**
 * Runs the drill of one source, from the next place if the present one cannot be read any more. Whatever fails is in
 * the result. Rejects only if the program is wrong.
 */
export async function drillOne(deps: DrillDeps, request: DrillRequest, run: Run, asked: Asked): Promise<DrillResult> {
  for (;;) {
    const { treeStore } = run.places.present;
    const { repository } = run.places;
    const here = { ...deps, treeStore, repository: async () => repository };
    const result = await drillHere(here, request, run, asked);
    if (run.signal.aborted || !(await run.places.leave(result.error))) return result;
  }
}

async function drillHere(
  deps: DrillDeps,
  request: DrillRequest,
  run: Run,
  { source, whileUp }: Asked,
): Promise<DrillResult> {
  const planned = run.plan.find(({ name }) => name === source);
  const kind = kindOf(planned);
  const place = run.places.repository.destination.name;
  const notes = [...run.places.notes];
  const result: DrillResult = { source, kind, status: 'ok', place, steps: [], checks: [], notes };
  try {
    const server = serverOfBase(source, planned, request);
    const found = server === undefined ? undefined : await findPoint(deps, { ...request, server }, Math.random());
    const context = await open(deps, request, run, { result, found });
    const { signal, until } = run;
    const part = {
      source,
      planned,
      context,
      result,
      log: deps.log,
      until,
      signal,
      say: request.say,
      ...(whileUp && { whileUp }),
    };
    if (await isReadable(part)) {
      await mkdir(context.directory, { recursive: true, mode: 0o700 });
      if (found && server) await drillPoint(deps, part, { ...found, server, planned: serverIn(run.plan, server) });
      else if (context.entry.kind === 'postgres') await drillDatabases(deps, part);
      else await drillFiles(deps, part, async () => nextShare(await run.earlier(), source, Math.random()));
      judgeWhole(part, run);
    } else run.unproven.push(`the content of ${source}: no key to decrypt it is set`);
  } catch (error) {
    const why = run.signal.aborted ? run.signal.reason : error;
    result.status = hasCode(why, 'INTERRUPTED') ? 'interrupted' : 'failed';
    result.error = errorInfo(why);
  }
  if (result.checks.some((check) => check.result === 'failed')) result.status = 'failed';
  // It says that everything is equal.
  if (result.status === 'failed' || result.status === 'interrupted') delete result.summary;
  return result;
}

/** Returns the kind of results about a source, until its snapshot is found. */
export function kindOf(planned: PlannedSource | undefined): DrillResult['kind'] {
  return planned?.kind === undefined || planned.kind === 'base' ? 'postgres' : planned.kind;
}

/** A source that was not stored as a whole is not proven as a whole. */
function judgeWhole({ source, context: { entry }, result }: Part, { unproven }: Run): void {
  const lacking = [
    ...missingDatabases(entry).map(({ name, error }) => `database ${name}${error ? ` (${error.message})` : ''}`),
    ...(entry.withoutGlobals ? [`roles and tablespaces (${entry.withoutGlobals.message})`] : []),
  ];
  const why = entry.error?.message ?? 'some of it could not be stored';
  if (lacking.length === 0 && entry.status === 'partial') lacking.push(`a part (${why})`);
  if (lacking.length === 0) return;
  result.status = 'unproven';
  unproven.push(...lacking.map((one) => `${source}: the snapshot lacks ${one}`));
}

/** Returns the server whose recovery to a point in time is asked for; undefined for any other drill. */
function serverOfBase(source: string, planned: PlannedSource | undefined, { aim }: DrillRequest): string | undefined {
  if (planned?.kind === 'base') return planned.server;
  return aim === undefined ? undefined : source;
}

function serverIn(plan: readonly PlannedSource[], server: string): PostgresSource | undefined {
  return plan.find((one): one is PostgresSource => one.kind === 'postgres' && one.name === server);
}

/**
 * Finds the snapshot, and fills the result with what it is. Throws like {@link findSnapshot}.
 *
 * @param found the point of a recovery, whose base backup is the snapshot
 */
async function open(
  deps: DrillDeps,
  request: DrillRequest,
  { id, journal, places: { repository }, startedAt, signal }: Run,
  { result, found }: { result: DrillResult; found: FoundPoint | undefined },
): Promise<RestoreContext> {
  const { source } = result;
  const { snapshot, entry, notes } = found
    ? { ...found.start, notes: [] }
    : await findSnapshot(repository, { ...request, source, lookOnly: true, signal });
  // What is lost is what came after the end of the stored write-ahead log.
  const held = found?.start.window.to ?? heldAt(snapshot);
  const ageMs = Math.max(0, startedAt.getTime() - Date.parse(held));
  Object.assign(result, { snapshot: snapshot.id, heldAt: held, ageMs });
  if (entry.kind !== 'base') result.kind = entry.kind;
  result.notes.push(...notes);
  if (found) result.image = await chooseImage(deps.engine, entry, undefined);
  request.say(`Drill of ${source} from ${snapshot.id} (${formatAgo(new Date(held), startedAt)})`);
  const packs = await readPacks(repository, entry, signal);
  // A manifest of a stranger may give a source any name.
  const directory = path.join(deps.spool, id, randomBytes(4).toString('hex'));
  return { id, journal, directory, progress: () => undefined, repository, snapshot, entry, packs };
}

/**
 * Checks what needs no key: that the manifest is still there as it was read, and the objects of the snapshot, whole.
 * Resolves to whether there is a key for the rest. If not, the result is unproven.
 */
async function isReadable({ source, context, result }: Part): Promise<boolean> {
  const { entry, packs, repository, snapshot } = context;
  const key = manifestKey(repository.project, snapshot.id);
  // The manifest may come from a cache.
  const stored = decodeManifest(await readDocument(repository.destination, key));
  if (canonicalJson(stored) !== canonicalJson(snapshot))
    throw new LifeboatError('OBJECT_DAMAGED', `${key} is not the manifest that was read before`);
  const objects = [entry.index, entry.facts, ...packs].filter((one) => one !== undefined);
  await repository.checkObjects(objects);
  result.checks.push(equal('objects that are there, with their sizes', source, objects.length, objects.length));
  try {
    requireKeys(objects, repository.keys);
    return true;
  } catch (error) {
    if (!hasCode(error, 'KEY_MISSING')) throw error;
    Object.assign(result, { status: 'unproven', error: errorInfo(error) });
    return false;
  }
}
