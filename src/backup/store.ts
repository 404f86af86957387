import { errorInfo, hasCode } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import { Listing } from '../destinations/listing.ts';
import type { Plan, Problem } from '../plan/model.ts';
import { storesPast } from '../report/trigger.ts';
import { vanishedSources } from '../run/history.ts';
import { journalObjects, readJournal } from '../run/journal.ts';
import { prolongLocks } from '../run/object-locks.ts';
import { knownPlaces, rememberPlaces, rememberRecipients } from '../run/remembered.ts';
import { spoolError } from '../run/spool.ts';
import { StoredSizes } from '../store/objects/key-set.ts';
import { FORMAT, isRegular, type Manifest } from '../store/objects/manifest.ts';
import { nextPlace } from '../store/repository/chain.ts';
import { isCertainFailure } from '../store/repository/commit.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import { emptiedProblem, listEmptiedSources, refuseEmptied } from '../store/repository/emptied.ts';
import { findOtherProjects, newProjectWarning } from '../store/repository/other-projects.ts';
import type { Repository } from '../store/repository/repository.ts';
import { placeOf } from '../store/repository/seen-chain.ts';
import { listContent } from '../store/repository/unreferenced.ts';
import { chosenSources, type Prepared, problemsOf, type Run, rememberChain } from './begin.ts';
import { captureAll } from './capture-all.ts';
import type { BackupDeps, BackupRequest, RunContext } from './context.ts';
import { failIncomplete } from './fail-incomplete.ts';
import { fitManifest } from './fit-manifest.ts';
import { type Captured, vanishedOutcome } from './outcome.ts';
import type { Ending } from './report.ts';
import { clockProblems, emptyRunError, refuseClear, refuseUnsigned, runStatus } from './rules.ts';

/**
 * Captures, stores and commits. Never rejects: the ending carries errors, and a run that commits nothing leaves no
 * objects.
 */
export async function storeSnapshot(deps: BackupDeps, request: BackupRequest, run: Run): Promise<Ending> {
  const captured: Captured[] = [];
  const problems: Problem[] = run.plan ? problemsOf(run.plan, request) : [];
  const { prepared, failure } = run;
  if (!prepared) return failedRun({ request, run, captured, problems }, failure);
  const { journal, list } = prepared;
  let context: RunContext | undefined;
  try {
    const clock = { now: deps.now(), zone: deps.zone };
    problems.push(...damagedProblems(list.damaged), ...clockProblems(list.snapshots, clock));
    context = await takePlace(deps, request, run, prepared);
    problems.push(...(await findEmptied(deps, prepared)), ...(await newProjectProblems(request, prepared)));
    const sources = chosenSources(prepared.plan, request);
    // Before any service stops.
    const contents = await deps.known?.(context);
    if (contents) context.known = contents;
    const services = storesPast(request.trigger) ? [] : [...prepared.plan.sources, ...(prepared.plan.hooks ?? [])];
    await captureAll({ deps, context, sources, services, captured, problems });
    captured.push(...(await listVanished(deps, request, prepared)));
    request.signal.throwIfAborted();
    await fitManifest(deps.capturer(context), captured);
    const listed = new Listing();
    const committing = {
      ...{ ...context, listed },
      sources: prepared.plan.sources,
      ...(request.imported ? { imported: request.imported } : {}),
    };
    const known = [...problems];
    try {
      const ending = await commit(deps, committing, captured, problems);
      if (ending.snapshot !== undefined && listed.size > 0) run.atCommit = listed;
      return ending;
    } catch (error) {
      if (!hasCode(error, 'OBJECT_MISSING', 'OBJECT_DAMAGED') || (await wasSent(journal))) throw error;
      const { repository } = context;
      if (!(await failIncomplete({ ...{ capturer: deps.capturer(context), captured, repository }, state: deps.state })))
        throw error;
      return await commit(deps, { ...committing, listed: new Listing() }, captured, known);
    }
  } catch (error) {
    const mayArrive = (await wasSent(journal)) && !isCertainFailure(error);
    if (context && !mayArrive) await removeObjects(context);
    return failedRun({ request, run, captured, problems, mayArrive }, error);
  }
}

/** Returns how a run without sources begins to end: it only brings the copies up to date, see {@link BackupRequest}. */
export function storeNothing(request: BackupRequest, run: Run): Ending {
  const problems = run.plan ? problemsOf(run.plan, request) : [];
  if (!run.prepared) return failedRun({ request, run, captured: [], problems }, run.failure);
  const isOk = !problems.some(({ severity }) => severity === 'error');
  return { status: isOk ? 'ok' : 'partial', results: [], problems };
}

function failedRun(
  {
    request: { signal },
    run: { log },
    captured,
    problems,
    mayArrive,
  }: { request: BackupRequest; run: Run; captured: Captured[]; problems: Problem[]; mayArrive?: boolean },
  error: unknown,
): Ending {
  const why = errorInfo(signal.aborted ? signal.reason : spoolError(error));
  if (mayArrive) why.hint = [...(why.hint ? [why.hint] : []), MAY_ARRIVE].join(' ');
  log.debug('run failed', { ...why });
  return { status: 'failed', results: captured.map(({ report }) => report), problems, error: why };
}

/**
 * Finds the position of the new manifest in the chain.
 *
 * @throws SIGNATURE_KEY, KEY_MISSING if the keys of the existing snapshots are no longer set; DEST_FOREIGN if all their
 * packs are gone
 */
async function takePlace(
  { state }: Pick<BackupDeps, 'state'>,
  { signal }: BackupRequest,
  { start, ended, log }: Run,
  { journal, lease, repository, listed, list, takenSequence }: Prepared,
): Promise<RunContext> {
  const { snapshots } = list;
  refuseUnsigned(repository.signing, snapshots);
  refuseClear(repository.keys, snapshots);
  await refuseEmptied(listed, snapshots, new Set(await state.damaged()));
  const place = await nextPlace(listed, list, Math.max(lease.claimed ?? 0, takenSequence));
  const stored = listed === repository ? undefined : await listStored(listed);
  const context = { run: start, ended, journal, repository, lease, snapshots, place, log, signal };
  return { ...context, ...(stored ? { stored } : {}) };
}

async function listStored({ destination, project }: Repository): Promise<StoredSizes> {
  const stored = new StoredSizes();
  for await (const object of listContent(destination, project)) stored.add(object);
  return stored;
}

/** Finds sources whose packs are all gone, and lets this run store their content again. Returns a problem for each. */
async function findEmptied({ state }: BackupDeps, { listed, list }: Prepared): Promise<Problem[]> {
  const damaged = await state.damaged();
  const emptied = await listEmptiedSources(listed, list.snapshots, new Set(damaged));
  const keys = emptied.flatMap((one) => one.keys);
  if (keys.length > 0) await state.saveDamaged([...new Set([...damaged, ...keys])]);
  return emptied.map((one) => emptiedProblem(listed, one));
}

/**
 * Returns a warning if this is the first backup of the project and the repository holds others. After a rename, the
 * project begins with new, empty volumes, and its backups would look good.
 */
async function newProjectProblems(request: BackupRequest, { repository, list }: Prepared): Promise<Problem[]> {
  if (!isRegular(request) || list.snapshots.length + list.damaged.length > 0) return [];
  return newProjectWarning(repository.destination.name, await findOtherProjects(repository, request.signal));
}

/** Returns the problems of the run for manifests that cannot be used, one for each reason. */
export function damagedProblems(damaged: Prepared['list']['damaged']): Problem[] {
  return groupDamaged(damaged).map(({ id, error: { code, message, hint } }) => {
    // These messages say what to do, and nothing is damaged.
    const isKnown = code === 'CHAIN_BROKEN' || code === 'SIGNATURE_KEY';
    return {
      severity: 'error',
      code,
      subject: id,
      message: isKnown ? message : `the manifest cannot be used: ${message}`,
      hint: (isKnown && hint) || 'Run `lifeboat check`. Content that only this snapshot held cannot be restored.',
    };
  });
}

/** Returns outcomes for sources that vanished. A manual run of some sources does not check for others. */
async function listVanished(
  { state }: BackupDeps,
  request: BackupRequest,
  { plan, list }: Prepared,
): Promise<Captured[]> {
  if (!isRegular(request) || (request.trigger === 'manual' && request.only)) return [];
  const manifests = list.snapshots.map(({ manifest }) => manifest);
  const places = await knownPlaces(state.directory).catch(() => ({}));
  return vanishedSources(manifests, plan, { accepted: await state.accepted(), places }).map(vanishedOutcome);
}

const MAY_ARRIVE =
  'Its manifest was being sent. If it arrives, the snapshot is complete; if not, a prune removes the objects of the run.';

/**
 * Returns whether the manifest may still arrive. A prune, which waits for a day, then decides about the objects it
 * names.
 */
async function wasSent({ file }: Prepared['journal']): Promise<boolean> {
  return (await readJournal(file)).some(({ type }) => type === 'commit');
}

/**
 * Removes the objects of a failed run. A failure is logged, because only the journal of the run names these objects.
 */
async function removeObjects({ repository, journal, log }: RunContext): Promise<void> {
  try {
    await repository.removeObjects(await journalObjects(journal.file));
  } catch (error) {
    log.warn('objects of the failed run could not be removed', { ...errorInfo(error) });
  }
}

/** Writes the manifest, which makes the snapshot exist. Until then nothing of the run is visible. */
async function commit(
  deps: BackupDeps,
  context: RunContext & Pick<BackupRequest, 'imported'> & Pick<Plan, 'sources'> & { listed: Listing },
  captured: Captured[],
  problems: Problem[],
): Promise<Ending> {
  const results = captured.map(({ report }) => report);
  const status = runStatus(results, problems);
  if (status === 'failed') {
    await removeObjects(context);
    const ending: Ending = { status, results, problems };
    return results.length === 0 ? { ...ending, ...emptyRunError(problems) } : ending;
  }
  const manifest: Manifest = {
    format: FORMAT,
    project: deps.project,
    ...context.place,
    id: context.run.id,
    start: context.run.start,
    end: context.ended().toISOString(),
    trigger: context.run.trigger,
    ...(context.imported ? { imported: context.imported } : {}),
    agentVersion: deps.agentVersion,
    status,
    // Errors and warnings quote tools, and anybody can read the manifest without a key.
    sources: Object.fromEntries(captured.map(({ report, entry }) => [report.name, { ...entry, ...clean(entry) }])),
  };
  problems.push(...(await prolongLocks(context.repository, manifest, deps.now(), context.signal)));
  const { fence } = context.lease;
  const pinning = (key: string) => context.journal.record({ type: 'object', key });
  const sending = () => context.journal.record({ type: 'commit' });
  const { listed } = context;
  const place = placeOf(await context.repository.commit(manifest, { fence, pinning, sending, listed }));
  await rememberChain(deps, context.log, async (seen = []) => [...seen, place]);
  const { directory } = deps.state;
  const stored = new Set(results.filter((one) => one.status !== 'failed').map(({ name }) => name));
  await Promise.all([
    rememberRecipients(directory, context.repository.keys),
    isRegular(context.run) &&
      rememberPlaces(
        directory,
        context.sources.filter(({ name }) => stored.has(name)),
      ),
  ]).catch((error: unknown) =>
    context.log.warn('the public keys and volumes could not be remembered', { ...errorInfo(error) }),
  );
  // The snapshot exists. If an index cannot be cached, the next run fetches it. No run is compared with a safety
  // snapshot or an import. Their indexes would replace the one that the next run needs. Without a key, that run could
  // not read it again, and would store everything.
  for (const { keepIndex } of isRegular(context.run) ? captured : []) {
    await keepIndex?.().catch((error: unknown) =>
      context.log.warn('an index could not be cached', { ...errorInfo(error) }),
    );
  }
  return { status, results, problems, snapshot: context.run.id };
}

function clean(entry: Captured['entry']): Partial<Captured['entry']> {
  const { error, warnings, databases } = entry;
  return redactDeep({ warnings, ...(error ? { error } : {}), ...(databases ? { databases } : {}) });
}
