import { randomBytes } from 'node:crypto';
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorInfo, errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { PlannedSource, PostgresSource } from '../plan/model.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import { formatAgo } from '../report/format.ts';
import type { RestoreContext } from '../restore/context.ts';
import { findSnapshot } from '../restore/find.ts';
import type { Journal } from '../run/journal.ts';
import { SCRATCH } from '../sources/postgres/server/helper-mounts.ts';
import { removePath } from '../store/filesystem/remove-tree.ts';
import { canonicalJson, decodeManifest, heldAt, manifestKey } from '../store/objects/manifest.ts';
import { readDocument } from '../store/objects/objects.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import { missingDatabases } from '../store/repository/stored-databases.ts';
import { requireKeys } from '../store/seal/encryption.ts';
import { equal } from './checks/check.ts';
import { withoutExplained } from './checks/explained.ts';
import type { Wanted } from './choose.ts';
import type { DrillDeps, DrillRequest, Part } from './context.ts';
import type { Places } from './places.ts';
import { drillPoint, type FoundPoint, findPoint } from './point-drill.ts';
import { drillDatabases } from './postgres-drill.ts';
import { nextShare } from './share.ts';
import { saveTurn } from './turns.ts';
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
interface Asked extends Wanted {
  whileUp?: NonNullable<Part['whileUp']>;
}

/**
 * Runs the drill of one source, from the next place if the present one cannot be read any more. Whatever fails is in
 * the result. Rejects only if the program is wrong.
 */
export async function drillOne(deps: DrillDeps, request: DrillRequest, run: Run, asked: Asked): Promise<DrillResult> {
  await noteTurn(deps, asked.source, 'begun');
  const result = await drillSomewhere(deps, request, run, asked);
  await noteTurn(deps, asked.source, result.status === 'interrupted' ? 'interrupted' : 'done');
  return result;
}

/** Remembers the turn of a source, see {@link saveTurn}. Without that memory, a drill goes on. */
export async function noteTurn(
  { state, log, now }: Pick<DrillDeps, 'state' | 'log' | 'now'>,
  source: string,
  what: Parameters<typeof saveTurn>[2]['what'],
): Promise<void> {
  await saveTurn(state.directory, source, { what, now: now() }).catch((error: unknown) =>
    log.warn('the turns of drills cannot be remembered', { ...errorInfo(error) }),
  );
}

async function drillSomewhere(deps: DrillDeps, request: DrillRequest, run: Run, asked: Asked): Promise<DrillResult> {
  const { places, signal } = run;
  for (;;) {
    const { treeStore } = places.present;
    const { repository } = places;
    const here = { ...deps, treeStore, repository: async () => repository };
    const result = await drillHere(here, request, run, asked);
    if (signal.aborted || !result.error) return result;
    if (await places.leave(result.error, signal)) continue;
    // While it opened a copy.
    return signal.aborted ? { ...result, ...failureOf(run, result.error) } : result;
  }
}

/** Returns the status and the error of a result after something was thrown. */
function failureOf({ signal }: Run, error: unknown): Pick<DrillResult, 'status'> & { error: ErrorInfo } {
  const why = signal.aborted ? signal.reason : error;
  return { status: hasCode(why, 'INTERRUPTED') ? 'interrupted' : 'failed', error: errorInfo(why) };
}

async function drillHere(deps: DrillDeps, request: DrillRequest, run: Run, asked: Asked): Promise<DrillResult> {
  const { source, server, outcome } = asked;
  const planned = run.plan.find(({ name }) => name === source);
  const kind = kindOf(planned);
  const place = run.places.repository.destination.name;
  const notes = [...run.places.notes];
  const result: DrillResult = { source, kind, status: 'ok', place, steps: [], checks: [], notes };
  if (!planned && run.plan.length > 0) notes.push('the plan does not have this source now');
  if (outcome) {
    if (outcome.status === 'unproven') run.unproven.push(`${source}: ${outcome.error.message}`);
    return Object.assign(result, outcome);
  }
  let context: RestoreContext | undefined;
  try {
    const found = server === undefined ? undefined : await findPoint(deps, { ...request, server }, Math.random());
    if (found === 'too early') return notYet(result, run);
    context = await open(deps, request, run, { result, found });
    await mkdir(context.directory, { recursive: true, mode: 0o700 });
    const part = partOf(deps, request, run, { asked, planned, context, result });
    if (await isReadable(part)) {
      if (found && server) await drillPoint(deps, part, { ...found, server, planned: serverIn(run.plan, server) });
      else if (context.entry.kind === 'postgres') await drillDatabases(deps, part);
      else await drillFiles(deps, part, async () => nextShare(await run.earlier(), source, Math.random()));
      judgeWhole(part, run);
    } else run.unproven.push(`the content of ${source}: no key to decrypt it is set`);
    // Whoever asks afterwards is too late. In a stack, the result of the smoke tests shows it.
    if (!asked.whileUp) run.signal.throwIfAborted();
  } catch (thrown) {
    const error = run.signal.aborted ? thrown : await run.places.judge(thrown);
    // A failure during an outage, or in a server with too little memory, says nothing about the snapshot.
    const outage = error !== thrown ? 'place' : hasCode(error, 'HELPER_FAILED') ? 'helper' : undefined;
    if (outage) result.checks = withoutExplained(result.checks, outage);
    Object.assign(result, failureOf(run, error));
    if (result.status === 'failed' && hasCode(error, 'HELPER_FAILED')) {
      result.status = 'unproven';
      run.unproven.push(`${source}: ${error.message}`);
    }
  } finally {
    // The next source needs the room. In a stack, helpers still run, and only the end of the drill removes the rest.
    if (context && !asked.whileUp) await deps.clear(context.directory, run.id);
  }
  if (result.checks.some((check) => check.result === 'failed')) result.status = 'failed';
  // It says that everything is equal.
  if (result.status === 'failed' || result.status === 'interrupted') delete result.summary;
  return result;
}

/** The first window of a server opens some time after its first base backup. */
function notYet(result: DrillResult, run: Run): DrillResult {
  run.unproven.push(`${result.source}: its first window is not open yet`);
  result.notes.push('the first window is not open yet: `lifeboat windows` shows when it opens');
  return { ...result, status: 'unproven' };
}

function partOf(
  deps: DrillDeps,
  { say }: DrillRequest,
  { until, signal }: Run,
  { asked, ...given }: { asked: Asked } & Pick<Part, 'planned' | 'context' | 'result'>,
): Part {
  const { source, whileUp } = asked;
  const up: Part['whileUp'] =
    whileUp &&
    (async (data) => {
      await removeDump(given.context);
      await whileUp(data);
    });
  return { ...given, source, log: deps.log, until, signal, say, ...(up && { whileUp: up }) };
}

/** Removes the fetched files of a source that is restored. A helper may still write to its scratch directory. */
async function removeDump({ directory }: RestoreContext): Promise<void> {
  for (const name of await readdir(directory)) if (name !== SCRATCH) await removePath(directory, name);
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
  // Only the part after the end of the stored write-ahead log is lost.
  const held = found?.start.window.to ?? heldAt(snapshot);
  const ageMs = Math.max(0, startedAt.getTime() - Date.parse(held));
  Object.assign(result, { snapshot: snapshot.id, heldAt: held, ageMs });
  if (entry.kind !== 'base') result.kind = entry.kind;
  result.notes.push(...notes);
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
