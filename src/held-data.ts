import type { PostgresSource } from './plan/model.ts';
import { formatAgo, formatBytes } from './report/format.ts';
import { type RestoreDeps, restoreTarget } from './restore-context.ts';
import type { Tools } from './sources/postgres/tools.ts';
import type { Rollback } from './state.ts';

/** One restore whose replaced data is still there, with what it holds. */
export interface HeldData extends Rollback {
  /** bytes of the data that is not in use; undefined where it cannot be told now */
  bytes?: number;
}

/** The restores that can be rolled back, with the space that their unused data holds, newest first. */
export async function heldData(
  deps: Pick<RestoreDeps, 'state' | 'plan'>,
  openTools: (source: PostgresSource) => Promise<Tools>,
): Promise<HeldData[]> {
  const held: HeldData[] = [];
  for (const one of (await deps.state.rollbacks()).toReversed()) {
    const bytes = await sizeOf(deps, one, openTools).catch(() => undefined);
    if (bytes === 0) continue;
    held.push(bytes === undefined ? one : { ...one, bytes });
  }
  return held;
}

async function sizeOf(
  deps: Pick<RestoreDeps, 'plan'>,
  { source, databases = [] }: Rollback,
  openTools: (source: PostgresSource) => Promise<Tools>,
): Promise<number> {
  const tools = await openTools(await restoreTarget(deps, source, 'postgres'));
  try {
    const names = databases.map(({ before }) => before);
    const { bytes } = await (await tools.control()).one<{ bytes: string }>(
      'SELECT coalesce(sum(pg_database_size(oid)), 0)::text AS bytes FROM pg_database WHERE datname = ANY($1)',
      [names],
    );
    return Number(bytes);
  } finally {
    await tools.close();
  }
}

/** One line for each, for `lifeboat status`. */
export function heldLines(held: readonly HeldData[], now: Date): string[] {
  return held.map(({ id, at, source, bytes, inUse }) => {
    const size = bytes === undefined ? '' : `, ${formatBytes(bytes)}`;
    const what = inUse === 'restored' ? 'replaced data kept' : 'rolled back, restored data kept';
    return `${source} restored ${formatAgo(new Date(at), now)} (${id}): ${what}${size}`;
  });
}
