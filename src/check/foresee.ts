import { access, constants, statfs } from 'node:fs/promises';
import { vanishedOutcome } from '../backup/outcome.ts';
import { emptyError, judgeEmpty, refuseClear, refuseUnsigned } from '../backup/rules.ts';
import { damagedProblems } from '../backup/store.ts';
import { errorInfo, hasErrno, LifeboatError } from '../base/errors.ts';
import type { CopyPlace } from '../copy/context.ts';
import { isReadPastCache } from '../destinations/local.ts';
import type { Note, Plan, PlannedSource, Problem } from '../plan/model.ts';
import { isS3 } from '../plan/s3-location.ts';
import { formatBoth } from '../report/format.ts';
import { vanishedSources } from '../run/history.ts';
import { knownPlaces } from '../run/remembered.ts';
import type { CopyState, State } from '../run/state.ts';
import { listIncomplete } from '../store/objects/documents.ts';
import { emptiedProblem, listEmptiedSources, refuseEmptied } from '../store/repository/emptied.ts';
import { findOtherProjects, otherProjectsText } from '../store/repository/other-projects.ts';
import { objectsOf } from '../store/repository/pack-lists.ts';
import type { Repository, SnapshotList } from '../store/repository/repository.ts';
import { refuseLostEnd } from '../store/repository/seen-chain.ts';
import { foreseeStoredAgain, type StoredAgain } from './stored-again.ts';

/** With less free space than this a place counts as full, because a run stores at least its documents. Bytes. */
const FULL = 1024 * 1024;

/** The most time that one place gets to respond, milliseconds. */
const LIMIT_MS = 20_000;

/** A place that stores backups. */
interface ForeseenPlace {
  /** the setting that names it */
  setting: string;
  /** absolute path, or `s3://…` */
  location: string;
}

interface ForeseeDeps {
  plan: Plan;
  state: Pick<State, 'accepted' | 'copies' | 'damaged' | 'directory'>;
  destination: ForeseenPlace;
  /** the destination's repository, or why it cannot be used; neither before the first backup */
  own: { repository?: Repository; error?: LifeboatError };
  copies: readonly (ForeseenPlace & { place: CopyPlace })[];
  /** the spool directory */
  spool: string;
  /** names of sources without files */
  empty: readonly string[];
  now: Date;
}

/**
 * Returns the problems that the next run would have. Checks the repository and its snapshots, the keys, the free space,
 * the copies, and sources that are empty or gone. Changes nothing. Never rejects.
 */
export async function foresee(deps: ForeseeDeps): Promise<{ problems: Problem[]; notes: Note[] }> {
  const { own, destination, copies, state } = deps;
  const list = own.repository ? await listSnapshots(own.repository).catch(asError) : undefined;
  const known = list && !(list instanceof LifeboatError) ? list : undefined;
  const states = await state.copies().catch((): Record<string, CopyState> => ({}));
  const main = own.repository && known ? { repository: own.repository, list: known } : undefined;
  const again = main && (await storedAgain(deps, main));
  const found = await Promise.all([
    list instanceof LifeboatError ? [errorAt(destination.setting, list)] : [],
    main ? repositoryProblems(deps, main) : [],
    own.error ? destinationProblem(deps, own.error) : placeProblems(destination, again?.bytes ?? 0),
    spoolProblems(deps.spool),
    ...copies.map((copy) => copyProblems(copy, main, states[copy.place.name])),
    main ? vanished(deps, main.list) : [],
  ]);
  const empty = await emptySources(deps, known);
  const renamed = main ? await renamedNotes(deps, main) : [];
  const cached = await Promise.all([destination, ...copies].map(cacheNotes));
  const notes = [...(again?.notes ?? []), ...empty.notes, ...renamed, ...cached.flat()];
  return { problems: [...found.flat(), ...empty.problems], notes };
}

async function storedAgain({ plan, state }: ForeseeDeps, { repository, list }: Main): Promise<StoredAgain> {
  const manifests = list.snapshots.map(({ manifest }) => manifest);
  const damaged = new Set(await state.damaged().catch(() => []));
  return foreseeStoredAgain({ plan, repository, manifests, damaged, signal: AbortSignal.timeout(LIMIT_MS) });
}

/** Notes that objects at a place are read back through the page cache. */
async function cacheNotes({ setting, location }: ForeseenPlace): Promise<Note[]> {
  const limit = new Promise<undefined>((resolve) => void setTimeout(() => resolve(undefined), LIMIT_MS).unref());
  if (isS3(location) || (await Promise.race([isReadPastCache(location), limit])) !== false) return [];
  const message = `the file system of ${location} allows no direct reads, so new objects are read back from memory, and not from the disk; \`lifeboat check --read-data\` reads the disk later`;
  return [{ subject: setting, message }];
}

/**
 * Notes that the place holds other projects, as long as this one has no snapshot: a renamed project begins a new
 * history.
 */
async function renamedNotes({ destination }: ForeseeDeps, { repository, list }: Main): Promise<Note[]> {
  if (list.snapshots.length + list.damaged.length > 0) return [];
  const others = await findOtherProjects(repository, AbortSignal.timeout(LIMIT_MS)).catch(() => []);
  const message = otherProjectsText(repository.destination.name, others);
  return message === undefined ? [] : [{ subject: destination.setting, message }];
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

/**
 * Returns the problems of the repository for which a run stops before it reads any source, or becomes partly failed.
 */
async function repositoryProblems(
  { destination: { setting }, state }: ForeseeDeps,
  { repository, list }: Main,
): Promise<Problem[]> {
  const damaged = new Set(await state.damaged().catch(() => []));
  const checks: [string, () => void | Promise<void>][] = [
    [setting, () => refuseLostEnd(repository, list)],
    [setting, () => refuseEmptied(repository, list.snapshots, damaged)],
    ['LIFEBOAT_SIGNING_KEY', () => refuseUnsigned(repository.signing, list.snapshots)],
    ['LIFEBOAT_ENCRYPTION', () => refuseClear(repository.keys, list.snapshots)],
  ];
  const problems = damagedProblems(list.damaged);
  const emptied = await listEmptiedSources(repository, list.snapshots, damaged).catch((error: unknown) => {
    problems.push(errorAt(setting, error));
    return [];
  });
  for (const [subject, check] of checks) {
    try {
      await check();
    } catch (error) {
      problems.push(errorAt(subject, error));
    }
  }
  // If nothing is left at all, that is one problem.
  const single = problems.some(({ code }) => code === 'DEST_FOREIGN') ? [] : emptied;
  return [...problems, ...single.map((one) => emptiedProblem(repository, one))];
}

/** Returns why the repository cannot be used, unless the plan already contains that problem. */
function destinationProblem({ plan, destination: { setting } }: ForeseeDeps, error: LifeboatError): Problem[] {
  const isKnown = plan.problems.some(({ code, subject }) => code === error.code && subject === setting);
  return isKnown ? [] : [errorAt(setting, error)];
}

/** Checks that a directory is writable and has enough free space. `needed`: bytes, as far as known. */
async function placeProblems(
  { setting, location }: ForeseenPlace,
  needed: number,
  full: 'DEST_FULL' | 'SPOOL_FULL' = 'DEST_FULL',
): Promise<Problem[]> {
  if (isS3(location)) return [];
  const found = await statfs(location).catch(() => undefined);
  // A missing directory is already a problem of the plan.
  if (!found) return [];
  const free = found.bavail * found.bsize;
  const writable = await access(location, constants.W_OK).then(
    () => true,
    (error: unknown) => !hasErrno(error, 'EROFS'),
  );
  if (!writable) {
    const hint =
      'Mount the directory without :ro. If it is not mounted that way, check the disk: a file system with errors becomes read-only.';
    return [
      { severity: 'error', code: 'DEST_UNWRITABLE', subject: setting, message: `${location} is read-only`, hint },
    ];
  }
  if (free >= Math.max(FULL, needed)) return [];
  const [has, needs] = formatBoth(free, needed);
  const message = `${location} has ${has} free${needed > FULL ? `, but needs ${needs}` : ''}`;
  const hint = 'Free space on that disk, or mount a larger one.';
  return [{ severity: 'error', code: full, subject: setting, message, hint }];
}

/** Returns the problem of a spool that is full or read-only. A run then fails, and leaves no report in the spool. */
export function spoolProblems(location: string): Promise<Problem[]> {
  return placeProblems({ setting: 'the spool', location }, 0, 'SPOOL_FULL');
}

/** Returns the problems that would prevent the update of a copy. The next run fills a place that is still empty. */
async function copyProblems(
  { setting, location, place }: ForeseenPlace & { place: CopyPlace },
  main: Main | undefined,
  before: CopyState | undefined,
): Promise<Problem[]> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  try {
    const isEmpty = await place.isEmpty(signal);
    const isNew = isEmpty && before?.made === undefined && before?.complete === undefined;
    if (isNew || !main) return placeProblems({ setting, location }, main ? await missingBytes(main, undefined) : 0);
    const copy = await place.open(main.repository, { create: false, signal });
    return placeProblems({ setting, location }, await missingBytes(main, copy));
  } catch (error) {
    return [errorAt(setting, signal.aborted ? tooSlow(place.name) : error)];
  }
}

function tooSlow(name: string): LifeboatError {
  return new LifeboatError('DEST_UNREACHABLE', `${name} did not answer within ${LIMIT_MS / 1000} s`);
}

/** Returns how many bytes of the newest snapshot a copy lacks. A run sends at least these. */
async function missingBytes({ repository, list: { snapshots } }: Main, copy: Repository | undefined): Promise<number> {
  const newest = snapshots[0];
  if (!newest) return 0;
  // An unreadable list of packs is a problem of the destination, which others report.
  const objects = await objectsOf(repository, newest.manifest).catch(() => []);
  const missing = copy && (await listIncomplete(copy.destination, copy.project, objects));
  return objects.reduce((sum, { key, size }) => sum + (missing && !missing.has(key) ? 0 : size), 0);
}

async function vanished({ plan, state }: ForeseeDeps, { snapshots }: SnapshotList): Promise<Problem[]> {
  // Some containers are not running yet, so their sources are unknown. A run waits for them.
  if (plan.awaited) return [];
  const manifests = snapshots.map(({ manifest }) => manifest);
  const gone = vanishedSources(manifests, plan, {
    accepted: await state.accepted().catch(() => ({})),
    places: await knownPlaces(state.directory).catch(() => ({})),
  });
  return gone.flatMap((source) => {
    const { error } = vanishedOutcome(source).report;
    // The plan itself has the error of a database that does not run.
    if (!error || source.stopped !== undefined) return [];
    return [{ severity: 'error', subject: source.name, ...error, code: 'SOURCE_VANISHED' } as const];
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
