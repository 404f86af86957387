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

/**
 * Stores the data that a restore is about to replace as a snapshot, and pins that.
 *
 * @param target source whose data is replaced, and which of its databases; none for a volume
 * @returns id of the snapshot
 * @throws the code of what kept the source, or one of the databases, from being stored
 */
export async function takeSafetySnapshot(
  { deps, request, context }: SafetyDeps,
  { target, databases }: { target: string; databases: readonly string[] },
): Promise<string> {
  const { repository, id } = context;
  request.say(`  taking a safety snapshot of ${target}`);
  const run = await deps.safetyBackup(target, request.signal);
  const failed = run.results.find(({ name }) => name === target)?.error ?? run.error;
  if (run.snapshot === undefined) throw safetyError('no safety snapshot could be taken', failed);
  const entry = databases.length === 0 ? undefined : await entryOf(repository, run.snapshot, target);
  const missing = databases.filter((name) => !entry || !holdsDatabase(entry, name));
  if (missing.length > 0) {
    const causes = (entry?.databases ?? []).filter(({ name }) => missing.includes(name));
    const cause = causes.find(({ error }) => error !== undefined)?.error ?? failed ?? leftOut(missing);
    throw safetyError(`the safety snapshot does not hold ${missing.join(', ')}`, cause);
  }
  const at = deps.now().toISOString();
  await putPin(repository, run.snapshot, { reason: `before restore ${id}`, at });
  request.say(`  safety snapshot ${run.snapshot} is stored and pinned`);
  return run.snapshot;
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
