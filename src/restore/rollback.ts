import { LifeboatError, toLifeboatError } from '../base/errors.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import type { RestoreReport, RestoreStart } from '../report/events.ts';
import { Journal } from '../run/journal.ts';
import type { Rollback } from '../run/state.ts';
import { startTimer } from '../run/timer.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Consent, PreviewSummary, RestoreDeps } from './context.ts';
import { endJournals } from './end-journal.ts';
import { conclude } from './finish.ts';
import { lockForRestore } from './lock.ts';
import { emptyReport } from './part.ts';
import { serviceLines, summariseServices } from './preview.ts';
import { type KeptData, withServer, withVolume } from './rollback-data.ts';
import { answersWell } from './service-health.ts';
import { containersUsing, NO_SERVICES, type Services, serviceNotes, withStopped } from './services.ts';

export interface RollbackRequest extends Consent {
  /** id of a restore, or the start of one; absent: the newest restore that can be rolled back */
  id?: string;
  /** only of this source */
  source?: string;
  /** show the effects, and change nothing */
  dryRun?: boolean;
}

/** The result of a rollback. */
export interface RollbackResult extends RestoreReport {
  /** what the preview showed */
  preview: Pick<PreviewSummary, 'replaces' | 'stops' | 'alsoConnected' | 'alsoWriting'>;
}

/**
 * Brings back the data that a restore replaced, and puts the restored data aside. The same command reverses that.
 *
 * @throws NOTHING_TO_ROLL_BACK, NOT_CONFIRMED, PG_TARGET_BUSY; USAGE if another restore has to be rolled back first
 * (see {@link refuseOutOfTurn}); the errors of a session
 */
export async function rollback(deps: RestoreDeps, request: RollbackRequest): Promise<RollbackResult> {
  return withRollback(deps, request, async ({ journal, chosen, kept }) => {
    const startedAt = deps.now();
    const ended = startTimer(deps.now, startedAt);
    const start: RestoreStart = {
      id: journalId(journal),
      project: deps.project,
      verb: 'rollback',
      source: chosen.source,
      target: chosen.source,
      snapshot: chosen.snapshot,
      start: startedAt.toISOString(),
    };
    refuseOutOfTurn(chosen, await deps.state.rollbacks());
    await kept.check(chosen);
    const now = chosen.inUse === 'restored' ? 'the data from before that restore' : 'the restored data';
    request.say(`Rollback of ${chosen.source}: brings back ${now} (restore ${chosen.id})`);
    const services = await servicesToStop(deps, request, chosen, kept);
    for (const line of serviceLines(services, { will: request.dryRun ? 'would' : 'will' })) request.say(line);
    const preview = { ...summariseServices(services), replaces: namesReplaced(chosen) };
    if (request.dryRun) return { ...emptyReport(deps, start, serviceNotes(services)), of: chosen.id, preview };
    await request.confirm(chosen.source);
    journal.record({ type: 'begun', restore: start, from: { id: chosen.id, inUse: chosen.inUse } });
    deps.dispatcher.emit({ type: 'restore-started', restore: start });
    return { ...(await swapBack({ ...deps, ended }, request, { journal, chosen, kept, services }, start)), preview };
  });
}

/** Returns the names whose data a rollback replaces, and which data comes back. */
export function namesReplaced({ source, databases, inUse }: Rollback): RollbackResult['preview']['replaces'] {
  const names = databases?.map(({ name }) => name) ?? [source];
  const detail = inUse === 'restored' ? 'by the data from before the restore' : 'by the restored data';
  return names.map((name) => ({ name, detail }));
}

/**
 * Drops put-aside data: the replaced data after a restore, the restored data after a rollback.
 *
 * @throws NOTHING_TO_ROLL_BACK, NOT_CONFIRMED
 */
export async function forget(deps: RestoreDeps, request: RollbackRequest): Promise<Rollback> {
  return withRollback(deps, request, async ({ chosen, kept }) => {
    const what = chosen.inUse === 'restored' ? 'the data that it replaced' : 'the restored data';
    request.say(`Forget restore ${chosen.id} of ${chosen.source}: permanently drops ${what}`);
    if (request.dryRun) return chosen;
    await request.confirm(chosen.source);
    await kept.drop(chosen);
    await deps.state.saveRollbacks((await deps.state.rollbacks()).filter(({ id }) => id !== chosen.id));
    return chosen;
  });
}

interface Run {
  journal: Journal;
  chosen: Rollback;
  /** where its data is */
  kept: KeptData;
}

/**
 * Finds the rollback that the request means, and calls `work` with it. Removes records of rollbacks whose data is gone.
 */
async function withRollback<T>(
  deps: RestoreDeps,
  request: RollbackRequest,
  work: (run: Run) => Promise<T>,
): Promise<T> {
  const lock = await lockForRestore(deps, {
    ask: request.canConfirm && !request.dryRun,
    check: async () => choose(await deps.state.rollbacks(), request),
  });
  try {
    await deps.recover();
    let chosen = choose(await deps.state.rollbacks(), request);
    const id = newSnapshotId(deps.now());
    const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId });
    try {
      for (;;) {
        const { source, volume } = chosen;
        const open = volume ? withVolume : withServer;
        const done = await open({ deps, request, journal, id }, source, async (kept) => {
          await kept.refresh();
          chosen = choose(await deps.state.rollbacks(), request);
          if (chosen.source !== source || (chosen.volume === undefined) !== (volume === undefined)) return undefined;
          return { result: await work({ journal, chosen, kept }) };
        });
        if (done) return done.result;
      }
    } finally {
      await endJournals(deps, [journal]);
    }
  } finally {
    await lock.release();
  }
}

function journalId({ file }: Journal): string {
  return (file.split('/').at(-1) as string).replace(/\.ndjson$/, '');
}

function choose(all: readonly Rollback[], { id, source }: RollbackRequest): Rollback {
  const matching = all.filter(
    (one) => (id === undefined || one.id.startsWith(id)) && (source === undefined || one.source === source),
  );
  const [newest] = matching.toReversed();
  if (newest && (id === undefined || matching.length === 1 || newest.id === id)) return newest;
  const members = all.filter(({ group }) => id !== undefined && group?.startsWith(id));
  const names = (members.length > 0 ? members : all).map((one) => `${one.id} (${one.source})`).join(', ');
  throw new LifeboatError(
    'NOTHING_TO_ROLL_BACK',
    newest ? `more than one restore starts with ${id}` : 'no such restore',
    {
      hint: names === '' ? 'No restore has put-aside data that still exists.' : `The restores are: ${names}.`,
    },
  );
}

/**
 * Checks the order of rollbacks. A later restore in use has put aside the data of this one, and a restore that is
 * rolled back replaced the data of an earlier one. In another order, the records would no longer match the names of the
 * databases.
 *
 * @throws USAGE if another restore has to be rolled back first
 */
export function refuseOutOfTurn(chosen: Rollback, all: readonly Rollback[]): void {
  const names = (one: Rollback) => (one.databases ?? []).map(({ name }) => name);
  const shares = (one: Rollback) =>
    one.source === chosen.source &&
    (one.volume !== undefined || names(one).some((name) => names(chosen).includes(name)));
  const [when, other] =
    chosen.inUse === 'restored'
      ? ['after', all.findLast((one) => one.id > chosen.id && one.inUse === 'restored' && shares(one))]
      : ['before', all.find((one) => one.id < chosen.id && one.inUse === 'before' && shares(one))];
  if (!other) return;
  const is = other.inUse === 'restored' ? 'in use' : 'rolled back';
  throw new LifeboatError('USAGE', `restore ${other.id} of ${chosen.source} came ${when} ${chosen.id} and is ${is}`, {
    hint: `Change that first: lifeboat rollback ${other.id}. Nothing was changed.`,
  });
}

async function servicesToStop(
  deps: RestoreDeps,
  { stopServices }: RollbackRequest,
  chosen: Rollback,
  kept: KeptData,
): Promise<Services> {
  if (!stopServices) return NO_SERVICES;
  const clients = await kept.clients?.(chosen);
  return containersUsing(deps.engine, [{ target: kept.planned, clients }], deps.agentId);
}

async function swapBack(
  deps: RestoreDeps & { ended(): Date },
  request: RollbackRequest,
  { journal, chosen, kept, services }: Run & { services: Services },
  start: RestoreStart,
): Promise<RestoreReport> {
  const report: RestoreReport = {
    ...start,
    end: start.start,
    status: 'ok',
    restored: [],
    steps: [],
    checks: [],
    canRollBack: true,
    of: chosen.id,
    warnings: serviceNotes(services),
  };
  let failure: unknown;
  try {
    const { checks, stoppedMs } = await withStopped({
      containers: services.using,
      deps: deps.holdDeps(journal),
      signal: request.signal,
      work: async () => {
        const { swapMs, restored, now } = await kept.swap(chosen);
        // Recorded at once: the data is swapped, whatever fails later.
        if (swapMs !== undefined) report.withoutDataMs = Math.round(swapMs);
        report.restored = restored;
        report.canRollBack = now !== undefined;
        const others = (await deps.state.rollbacks()).filter(({ id }) => id !== chosen.id);
        await deps.state.saveRollbacks(now ? [...others, now] : others).catch((error: unknown) => {
          const { message } = toLifeboatError(error);
          report.warnings.push(
            `the record of put-aside data could not be saved: ${message}. The next command corrects it`,
          );
        });
      },
    });
    report.checks.push(...checks);
    if (stoppedMs !== undefined) report.stoppedMs = stoppedMs;
    if (request.healthUrl) report.checks.push(await answersWell(request.healthUrl, request.signal));
  } catch (error) {
    failure = request.signal.aborted && !isHalfRestored(error) ? request.signal.reason : error;
  }
  await conclude(deps, deps.repository, report, failure);
  if (failure !== undefined) throw failure;
  return report;
}
