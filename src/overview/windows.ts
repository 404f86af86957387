import path from 'node:path';
import type { ErrorInfo, LifeboatError } from '../base/errors.ts';
import type { Plan } from '../plan/model.ts';
import { baseName } from '../plan/postgres.ts';
import { SPOOL } from '../run/mounts.ts';
import type { Repository } from '../store/repository/repository.ts';
import { readRecoverable } from '../store/wal/recoverable.ts';
import type { Hole, Window } from '../store/wal/windows.ts';
import { type CopiedWal, openReceiverMemory, type ReceiverState, rememberedOf } from '../wal/receiver-state.ts';
import { asideProblems } from '../wal/spool/aside.ts';

/** The times to which one source can be recovered. */
export interface SourceWindows {
  name: string;
  windows: Window[];
  holes: Hole[];
  receiver: ReceiverState | null;
  /** how far each copy has the WAL, by its name */
  copies: Record<string, CopiedWal>;
  problems: ErrorInfo[];
}

/** Where windows are read. */
export interface WindowDeps {
  /** the repository is not the agent's own */
  otherRepository: boolean;
  state: { readonly directory: string };
  copies: readonly { name: string }[];
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
    const names = { source: name, base: baseName(name) };
    const found = repository && (await readRecoverable(repository, names, rememberedOf(receiver), signal));
    const { spans: windows = [], holes = [] } = found ?? {};
    const aside = deps.otherRepository ? [] : await asideProblems(path.join(SPOOL, 'wal', name));
    const problems = [...(found?.problems ?? []).map(({ code, message }) => ({ code, message })), ...aside];
    const known = deps.otherRepository ? {} : await memory.copied(name);
    const present = new Set(deps.copies.map((one) => one.name));
    const copies = Object.fromEntries(Object.entries(known).filter(([copy]) => present.has(copy)));
    all.push({ name, windows, holes, receiver: receiver ?? null, copies, problems });
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
