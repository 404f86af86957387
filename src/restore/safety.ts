import { type ErrorInfo, LifeboatError } from '../base/errors.ts';
import type { ManifestSource } from '../store/objects/manifest.ts';
import { putPin } from '../store/repository/pins.ts';
import { holdsDatabase } from '../store/repository/stored-databases.ts';
import type { RestoreContext, RestoreDeps, RestoreRequest } from './context.ts';

const WITHOUT =
  'Nothing was changed. --no-safety restores without a safety snapshot: a rollback then only has the data that the restore puts aside.';

/** The reason why data was not stored, from a report or a manifest. */
type Cause = Pick<ErrorInfo, 'code' | 'message'> & { hint?: string | undefined; cause?: string | undefined };

interface SafetyDeps {
  deps: Pick<RestoreDeps, 'safetyBackup' | 'now'>;
  request: Pick<RestoreRequest, 'say' | 'signal'>;
  context: Pick<RestoreContext, 'repository' | 'id'>;
}

/** A source whose data is replaced, and the replaced databases; none for a volume. */
interface SafetyTarget {
  target: string;
  databases: readonly string[];
}

/**
 * Stores the data that a restore is about to replace as a snapshot, and pins that.
 *
 * @returns id of the snapshot
 * @throws the code of what kept the source, or one of the databases, from being stored
 */
export async function takeSafetySnapshot(safety: SafetyDeps, target: SafetyTarget): Promise<string> {
  const { snapshot, failed } = await takeSafetySnapshots(safety, [target]);
  const why = failed.get(target.target);
  if (why) throw why;
  return snapshot;
}

/**
 * Stores the data of several sources as one snapshot. Pins the snapshot if it holds all replaced data of at least one
 * source.
 *
 * @returns id of the snapshot, and for each source that it does not protect, the reason
 * @throws the code of the reason if no source could be stored
 */
export async function takeSafetySnapshots(
  { deps, request, context }: SafetyDeps,
  targets: readonly SafetyTarget[],
): Promise<{ snapshot: string; failed: Map<string, LifeboatError> }> {
  const { repository, id } = context;
  const names = targets.map(({ target }) => target);
  request.say(`  taking a safety snapshot of ${names.join(', ')}`);
  const run = await deps.safetyBackup(names, request.signal);
  const { snapshot } = run;
  if (snapshot === undefined) {
    const why = run.results.find(({ name, error }) => error && names.includes(name))?.error ?? run.error;
    throw safetyError('no safety snapshot could be taken', why);
  }
  const failed = new Map<string, LifeboatError>();
  for (const { target, databases } of targets) {
    const result = run.results.find(({ name }) => name === target);
    const entry = databases.length === 0 ? undefined : await entryOf(repository, snapshot, target);
    const missing = databases.filter((name) => !entry || !holdsDatabase(entry, name));
    if (missing.length > 0) {
      const causes = (entry?.databases ?? []).filter(({ name }) => missing.includes(name));
      const cause =
        causes.find(({ error }) => error !== undefined)?.error ?? result?.error ?? run.error ?? leftOut(missing);
      failed.set(target, safetyError(`the safety snapshot does not hold ${missing.join(', ')}`, cause));
    } else if (databases.length === 0 && !(await entryOf(repository, snapshot, target))) {
      failed.set(target, safetyError(`the safety snapshot does not hold ${target}`, result?.error ?? run.error));
    }
  }
  if (failed.size < targets.length) {
    const at = deps.now().toISOString();
    await putPin(repository, snapshot, { reason: `before restore ${id}`, at });
    request.say(`  safety snapshot ${snapshot} is stored and pinned`);
  }
  return { snapshot, failed };
}

/** A run stores what it can, and leaves out what labels exclude. */
async function entryOf(
  repository: RestoreContext['repository'],
  snapshot: string,
  source: string,
): Promise<ManifestSource | undefined> {
  const { snapshots } = await repository.snapshots();
  return snapshots.find(({ manifest }) => manifest.id === snapshot)?.manifest.sources[source];
}

function leftOut(names: readonly string[]): Cause {
  return {
    code: 'PG_DATABASE_UNKNOWN',
    message: `the labels leave ${names.join(', ')} out of backups`,
    hint: 'Change lifeboat.postgres.databases or lifeboat.postgres.exclude-databases.',
  };
}

function safetyError(message: string, cause: Cause | undefined): LifeboatError {
  const none: Cause = { code: 'INTERNAL', message: 'the run gave no reason' };
  const { code, message: why, hint, cause: words } = cause ?? none;
  return new LifeboatError(code, `${message}: ${why}`, {
    ...(words === undefined ? {} : { cause: new Error(words) }),
    hint: hint === undefined ? WITHOUT : `${hint} ${WITHOUT}`,
  });
}
