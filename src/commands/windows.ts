import type { ErrorInfo } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import type { Plan } from '../plan/model.ts';
import { baseName } from '../plan/postgres.ts';
import { formatAgo, formatBytes, oneLine } from '../report/format.ts';
import type { Repository } from '../store/repository/repository.ts';
import { readRecoverable } from '../store/wal/recoverable.ts';
import type { Hole, Window } from '../store/wal/windows.ts';
import { openReceiverMemory, type ReceiverState } from '../wal/receiver-state.ts';
import { type Call, print } from './call.ts';

/** The times to which one source can be recovered. */
export interface SourceWindows {
  name: string;
  windows: Window[];
  holes: Hole[];
  receiver: ReceiverState | null;
  problems: ErrorInfo[];
}

/** `lifeboat windows`: shows to which times each database can be recovered. */
export async function showWindows(call: Call): Promise<number> {
  const [wanted] = call.operands as [string | undefined];
  const all = await readWindows(call, call.app.found ? await call.app.plan() : undefined, wanted);
  const now = new Date();
  print(call, { sources: all }, () =>
    all.length === 0
      ? 'No source has the label lifeboat.postgres.pitr.'
      : all.flatMap((one) => windowLines(one, now)).join('\n'),
  );
  return all.some(({ windows }) => windows.length > 0) ? EXIT.done : EXIT.nothing;
}

/** Reads the windows of all sources of a plan, or of one source, which need not exist any more. */
export async function readWindows(
  { app, io }: Call,
  plan: Plan | undefined,
  wanted?: string,
): Promise<SourceWindows[]> {
  const planned = (plan?.sources ?? []).filter((one) => one.kind === 'base').map(({ server }) => server);
  if (wanted === undefined && planned.length === 0) return [];
  const repository = await openToRead(app);
  const memory = openReceiverMemory(app.state.directory);
  const all: SourceWindows[] = [];
  for (const name of wanted === undefined ? planned : [wanted]) {
    const receiver = app.otherRepository ? undefined : await memory.state(name);
    const { confirmed, systemId } = receiver ?? {};
    const known = confirmed && systemId ? { [systemId]: confirmed } : {};
    const names = { source: name, base: baseName(name) };
    const { windows, holes, logs } = repository
      ? await readRecoverable(repository, names, known, io.signal)
      : { windows: [], holes: [], logs: [] };
    const problems = logs.flatMap((log) => log.problems.map(({ code, message }) => ({ code, message })));
    all.push({ name, windows, holes, receiver: receiver ?? null, problems });
  }
  return all;
}

/** Returns the repository; undefined if nothing was ever stored. */
async function openToRead(app: Call['app']): Promise<Repository | undefined> {
  if (app.otherRepository) return app.repository({ create: false });
  const { repository, error } = await app.own.look();
  if (error) throw error;
  return repository;
}

/** Renders the windows of a source: one line for each window and hole, in order. */
export function windowLines({ name, windows, holes, receiver, problems }: SourceWindows, now: Date): string[] {
  const lines = [
    ...windows.map((one) => ({
      at: one.from,
      text: `  ${short(one.from)} → ${short(one.to)} (${formatAgo(new Date(one.to), now)}), timeline ${one.timeline}`,
    })),
    ...holes.map((one) => ({ at: one.from, text: `  ! not ${short(one.from)} → ${short(one.to)}: ${one.why}` })),
  ].sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  const head = windows.length === 0 ? `${oneLine(name)}: cannot be recovered to any time yet` : oneLine(name);
  return [
    head,
    ...lines.map(({ text }) => text),
    ...receiverLines(receiver, now),
    ...problems.map(({ code, message }) => `  ! ${message} (${code})`),
  ];
}

function receiverLines(receiver: ReceiverState | null, now: Date): string[] {
  if (!receiver) return [];
  const { state, error, since, kept = 0, confirmed, written, stored } = receiver;
  const ago = formatAgo(new Date(since), now);
  if (state === 'failed') return [`  ! WAL is not received, since ${ago}: ${error?.message} (${error?.code})`];
  const behind =
    confirmed?.lsn === stored && stored === written ? 'everything is stored' : `${formatBytes(kept)} behind`;
  return [`  WAL: ${state} since ${ago}, ${behind}`];
}

/** Returns an ISO time to the second, in UTC. */
function short(iso: string): string {
  return `${iso.slice(0, 19).replace('T', ' ')}Z`;
}
