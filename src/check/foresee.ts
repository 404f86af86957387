import { access, constants, statfs } from 'node:fs/promises';
import { vanishedOutcome } from '../backup/outcome.ts';
import { emptyError, judgeEmpty, refuseClear, refuseUnsigned } from '../backup/rules.ts';
import { damagedProblem } from '../backup/store.ts';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { CopyPlace } from '../copy/copy.ts';
import type { Note, Plan, PlannedSource, Problem } from '../plan/model.ts';
import { isS3 } from '../plan/s3-location.ts';
import { formatBytes } from '../report/format.ts';
import { vanishedSources } from '../run/history.ts';
import type { CopyState, State } from '../run/state.ts';
import { refuseLostEnd } from '../store/repository/chain.ts';
import { objectsOf, type Repository, type SnapshotList } from '../store/repository/repository.ts';

/** Below this a place counts as full, bytes: a run stores at least its documents. */
const FULL = 1024 * 1024;

/** How long one place may take to answer, milliseconds. */
const LIMIT_MS = 20_000;

/** A place where backups are kept. */
interface ForeseenPlace {
  /** the setting that names it */
  setting: string;
  /** absolute path, or `s3://…` */
  location: string;
}

interface ForeseeDeps {
  plan: Plan;
  project: string;
  state: Pick<State, 'chainEnd' | 'accepted' | 'copies'>;
  destination: ForeseenPlace;
  /** the own repository, or why it cannot be used; neither before the first backup */
  own: { repository?: Repository; error?: LifeboatError };
  copies: readonly (ForeseenPlace & { place: CopyPlace })[];
  /** the directory of the spool */
  spool: string;
  /** names of sources without any file */
  empty: readonly string[];
  now: Date;
}

/**
 * Says what the next run would fail with, by looking alone: the repository and its snapshots, the keys, the space, the copies, and
 * sources that are empty or gone. Never rejects.
 */
export async function foresee(deps: ForeseeDeps): Promise<{ problems: Problem[]; notes: Note[] }> {
  const { own, destination, copies, state } = deps;
  const list = own.repository ? await listSnapshots(own.repository).catch(asError) : undefined;
  const known = list && !(list instanceof LifeboatError) ? list : undefined;
  const states = await state.copies().catch((): Record<string, CopyState> => ({}));
  const main = own.repository && known ? { repository: own.repository, list: known } : undefined;
  const found = await Promise.all([
    list instanceof LifeboatError ? [errorAt(destination.setting, list)] : [],
    main ? repositoryProblems(deps, main) : [],
    own.error ? destinationProblem(deps, own.error) : placeProblems(destination, 0),
    placeProblems({ setting: 'the spool', location: deps.spool }, 0, 'SPOOL_FULL'),
    ...copies.map((copy) => copyProblems(copy, main, states[copy.place.name])),
    main ? vanished(deps, main.list) : [],
  ]);
  const empty = await emptySources(deps, known);
  return { problems: [...found.flat(), ...empty.problems], notes: empty.notes };
}

type Main = { repository: Repository; list: SnapshotList };

const listSnapshots = (repository: Repository) => repository.snapshots(AbortSignal.timeout(LIMIT_MS));

function asError(error: unknown): LifeboatError {
  return error instanceof LifeboatError ? error : new LifeboatError('INTERNAL', String(error), { cause: error });
}

function errorAt(subject: string, error: unknown): Problem {
  const { code, message, cause, hint } = errorInfo(error);
  return {
    ...{ severity: 'error', code, subject, message: cause === undefined ? message : `${message}: ${cause}` },
    ...(hint === undefined ? {} : { hint }),
  };
}

/** What a run refuses before it reads any source, and what makes it partly failed. */
async function repositoryProblems(
  { destination: { setting }, state, project }: ForeseeDeps,
  { repository, list }: Main,
): Promise<Problem[]> {
  const checks: [string, () => void | Promise<void>][] = [
    [setting, async () => refuseLostEnd(repository, list, await state.chainEnd(project))],
    ['LIFEBOAT_SIGNING_KEY', () => refuseUnsigned(repository.signing, list.snapshots)],
    ['LIFEBOAT_ENCRYPTION', () => refuseClear(repository.keys, list.snapshots)],
  ];
  const problems = list.damaged.map(damagedProblem);
  for (const [subject, check] of checks) {
    try {
      await check();
    } catch (error) {
      problems.push(errorAt(subject, error));
    }
  }
  return problems;
}

/** Why the own repository cannot be used; what is mounted wrongly is among the problems of the plan already. */
function destinationProblem({ plan, destination: { setting } }: ForeseeDeps, error: LifeboatError): Problem[] {
  const isSaid = plan.problems.some(({ code, subject }) => code === error.code && subject === setting);
  return isSaid ? [] : [errorAt(setting, error)];
}

/** Whether a directory can be written to, and has the space that is needed. `needed`: bytes, as far as that is known. */
async function placeProblems(
  { setting, location }: ForeseenPlace,
  needed: number,
  full: 'DEST_FULL' | 'SPOOL_FULL' = 'DEST_FULL',
): Promise<Problem[]> {
  if (isS3(location)) return [];
  const found = await statfs(location).catch(() => undefined);
  // What is not there at all is a problem of the plan.
  if (!found) return [];
  const free = found.bavail * found.bsize;
  const writable = await access(location, constants.W_OK).then(
    () => true,
    (error: unknown) => !(error instanceof Error && 'code' in error && error.code === 'EROFS'),
  );
  if (!writable) {
    const hint =
      'Look at the disk: a file system with errors is mounted read-only. Or mount the directory without :ro.';
    return [
      { severity: 'error', code: 'DEST_UNWRITABLE', subject: setting, message: `${location} is read-only`, hint },
    ];
  }
  if (free >= Math.max(FULL, needed)) return [];
  const message = `${location} has ${formatBytes(free)} free${needed > FULL ? `, and ${formatBytes(needed)} are missing there` : ''}`;
  const hint = 'Free space on that disk, or mount a larger one.';
  return [{ severity: 'error', code: full, subject: setting, message, hint }];
}

/** What keeps a copy from being brought up to date. A place that is still empty is filled by the next run. */
async function copyProblems(
  { setting, location, place }: ForeseenPlace & { place: CopyPlace },
  main: Main | undefined,
  before: CopyState | undefined,
): Promise<Problem[]> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  try {
    const isEmpty = await place.isEmpty(signal);
    const isNew = isEmpty && before?.made === undefined && before?.complete === undefined;
    if (isNew || !main) return placeProblems({ setting, location }, main ? missingBytes(main.list, undefined) : 0);
    const copy = await place.open(main.repository, { create: false, signal });
    return placeProblems({ setting, location }, missingBytes(main.list, await copy.snapshots(signal)));
  } catch (error) {
    return [errorAt(setting, signal.aborted ? tooSlow(place.name) : error)];
  }
}

function tooSlow(name: string): LifeboatError {
  return new LifeboatError('DEST_UNREACHABLE', `${name} did not answer within ${LIMIT_MS / 1000} s`);
}

/** The bytes of the newest snapshot that a copy lacks: at least so many are sent to it. */
function missingBytes({ snapshots }: SnapshotList, copy: SnapshotList | undefined): number {
  const newest = snapshots[0];
  if (!newest) return 0;
  const there = new Set((copy?.snapshots ?? []).flatMap(({ manifest }) => objectsOf(manifest).map(({ key }) => key)));
  return objectsOf(newest.manifest).reduce((sum, { key, size }) => sum + (there.has(key) ? 0 : size), 0);
}

async function vanished({ plan, state }: ForeseeDeps, { snapshots }: SnapshotList): Promise<Problem[]> {
  // Which sources a container has is known once it runs; a run waits for it.
  if (plan.awaited) return [];
  const manifests = snapshots.map(({ manifest }) => manifest);
  const gone = vanishedSources(manifests, plan, await state.accepted().catch(() => ({})));
  return gone.flatMap((source) => {
    const { error } = vanishedOutcome(source).report;
    return error ? [{ severity: 'error', subject: source.name, ...error, code: 'SOURCE_VANISHED' } as const] : [];
  });
}

async function emptySources(
  { plan, empty, state, now }: ForeseeDeps,
  list: SnapshotList | undefined,
): Promise<{ problems: Problem[]; notes: Note[] }> {
  const problems: Problem[] = [];
  const notes: Note[] = [];
  const snapshots = (list?.snapshots ?? []).map(({ manifest }) => manifest);
  const accepted = await state.accepted().catch(() => ({}));
  const add = (source: PlannedSource) => {
    const verdict = judgeEmpty(source, { snapshots, accepted, now });
    if (verdict === 'lost') problems.push(errorAt(source.containerName || source.name, emptyError(source)));
    if (verdict === 'never filled') notes.push({ subject: source.name, message: 'holds no files; it never held any' });
    if (verdict === 'not filled yet') notes.push({ subject: source.name, message: 'holds no files yet' });
  };
  for (const source of plan.sources) if (empty.includes(source.name)) add(source);
  return { problems, notes };
}
