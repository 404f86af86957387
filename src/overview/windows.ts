import type { ErrorInfo, LifeboatError } from '../base/errors.ts';
import type { Plan } from '../plan/model.ts';
import { baseName } from '../plan/postgres.ts';
import type { Repository } from '../store/repository/repository.ts';
import { readRecoverable } from '../store/wal/recoverable.ts';
import type { Hole, Window } from '../store/wal/windows.ts';
import { openReceiverMemory, type ReceiverState } from '../wal/receiver-state.ts';

/** The times to which one source can be recovered. */
export interface SourceWindows {
  name: string;
  windows: Window[];
  holes: Hole[];
  receiver: ReceiverState | null;
  problems: ErrorInfo[];
}

/** Where windows are read. */
export interface WindowDeps {
  /** the repository is not the agent's own */
  otherRepository: boolean;
  state: { readonly directory: string };
  repository(options: { create: boolean }): Promise<Repository>;
  own: { look(): Promise<{ repository?: Repository; error?: LifeboatError }> };
}

/**
 * Reads the windows of all sources of a plan, or of one source, which need not exist any more.
 *
 * @param deps where to read
 * @param of `plan`: absent without an engine; `wanted`: name of a server's source, such as `db.postgres`
 * @throws what the destination throws; the signal's reason
 */
export async function readWindows(
  deps: WindowDeps,
  signal: AbortSignal,
  { plan, wanted }: { plan: Plan | undefined; wanted?: string | undefined },
): Promise<SourceWindows[]> {
  const planned = (plan?.sources ?? []).filter((one) => one.kind === 'base').map(({ server }) => server);
  if (wanted === undefined && planned.length === 0) return [];
  const repository = await openToRead(deps);
  const memory = openReceiverMemory(deps.state.directory);
  const all: SourceWindows[] = [];
  for (const name of wanted === undefined ? planned : [wanted]) {
    const receiver = deps.otherRepository ? undefined : await memory.state(name);
    const { confirmed, systemId } = receiver ?? {};
    const known = confirmed && systemId ? { [systemId]: confirmed } : {};
    const names = { source: name, base: baseName(name) };
    const { windows, holes, logs } = repository
      ? await readRecoverable(repository, names, known, signal)
      : { windows: [], holes: [], logs: [] };
    const problems = logs.flatMap((log) => log.problems.map(({ code, message }) => ({ code, message })));
    all.push({ name, windows, holes, receiver: receiver ?? null, problems });
  }
  return all;
}

/** Returns the repository; undefined if nothing was ever stored. */
async function openToRead(deps: WindowDeps): Promise<Repository | undefined> {
  if (deps.otherRepository) return deps.repository({ create: false });
  const { repository, error } = await deps.own.look();
  if (error) throw error;
  return repository;
}
