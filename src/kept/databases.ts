import type { Plan, PostgresSource } from '../plan/model.ts';
import type { RestoreStart } from '../report/events.ts';
import type { Reached, RolledBackFrom } from '../run/journal.ts';
import type { KeptDatabase, Rollback, State } from '../run/state.ts';
import type { Aside } from '../sources/postgres/facts/databases.ts';
import { endOwn, readDatabases, type WorkingDatabase, workingName } from '../sources/postgres/load/swap.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { restoreTarget } from './target.ts';

/** The databases that a server has under some names, see {@link readDatabases}. */
export type Present = Awaited<ReturnType<typeof readDatabases>>;

/** Returns every name that the databases of some rollbacks may have. */
export function namesOf(rollbacks: readonly Rollback[]): string[] {
  return rollbacks.flatMap(({ databases = [] }) => databases.flatMap(({ name, before }) => [name, before]));
}

/** The end of a name that a restore gives to a database, see {@link workingName}. */
const WORKING = /__(before|restoring)_([0-9a-f]{6})$/;

/**
 * Lists the databases of a source that restores put aside, by their names there. Those that the agent does not
 * remember, because its spool is gone, are recognised by their names, as long as the database that they were made for
 * is there too.
 *
 * @param listed every database of the server
 */
export async function keptDatabases(
  state: Pick<State, 'rollbacks'>,
  source: string,
  listed: readonly { name: string }[],
): Promise<Aside[]> {
  const remembered = await rememberedDatabases(state, source);
  const isRemembered = (name: string) => remembered.some((one) => one.name === name);
  const isWorking = ({ name }: { name: string }) => {
    const [, what, id] = WORKING.exec(name) ?? [];
    if (what === undefined || id === undefined || isRemembered(name)) return false;
    return listed.some((one) => workingName(one.name, what as WorkingDatabase['what'], id) === name);
  };
  const found = listed.filter(isWorking).map(({ name }): Aside => ({ name, stored: false, forgotten: true }));
  return [...remembered, ...found];
}

async function rememberedDatabases(state: Pick<State, 'rollbacks'>, source: string): Promise<Aside[]> {
  const all = (await state.rollbacks()).filter((one) => one.source === source);
  return all.flatMap(({ databases = [], inUse, safety }) =>
    // After a rollback, the restored data is put aside, with everything written to it since the restore.
    databases.map(({ before }) => ({ name: before, stored: inUse === 'restored' && safety !== undefined })),
  );
}

/**
 * Corrects a rollback's record from the databases on its server. Returns undefined if the old data is gone,
 * because the restore died before its swap or somebody dropped the data. OIDs show which data is in use: a process that
 * renamed the databases may have died before it updated the record.
 */
export function asFound(one: Rollback, present: Present): Rollback | undefined {
  // A restore swaps databases one by one. A database that it did not reach still has its own name, and nothing is put
  // aside.
  const untouched = ({ name, before, oid }: KeptDatabase) =>
    oid !== undefined && !present.has(before) && present.get(name)?.oid === oid;
  const databases = (one.databases ?? []).filter((database) => !untouched(database));
  return inUseNow({ ...one, databases }, present);
}

function inUseNow(one: Rollback, present: Present): Rollback | undefined {
  const [first] = (one.databases ?? []).filter(({ before }) => present.has(before));
  if (!first) return undefined;
  if (first.oid === undefined) return one;
  if (first.oid === present.get(first.before)?.oid) return { ...one, inUse: 'restored' };
  return first.oid === present.get(first.name)?.oid ? { ...one, inUse: 'before' } : one;
}

/**
 * Returns whether the databases of a restore are in a data directory that is put aside as a whole. The server in use
 * says nothing about them, and they come back with that directory.
 */
export function isInsideAside({ id, source }: Rollback, all: readonly Rollback[]): boolean {
  const exchanged = all.filter((one) => one.source === source && one.dataDirectory !== undefined);
  return exchanged.some((one) => (one.inUse === 'restored' ? id < one.id : id > one.id));
}

/**
 * Corrects the records of the restores into a source from its server. The caller must hold the lock, because a restore
 * is recorded before its data is put aside.
 *
 * @returns restores that can be rolled back, and the ids of those whose record named the wrong data as in use
 */
export async function refreshKept(
  state: State,
  source: string,
  read: (names: string[]) => Promise<Present>,
): Promise<{ kept: Rollback[]; turned: string[] }> {
  const all = await state.rollbacks();
  const concerns = (one: Rollback) => one.source === source && one.databases !== undefined && !isInsideAside(one, all);
  const mine = all.filter(concerns);
  if (mine.length === 0) return { kept: [], turned: [] };
  const present = await read(namesOf(mine));
  const now = all.flatMap((one) => (concerns(one) ? (asFound(one, present) ?? []) : one));
  if (JSON.stringify(now) !== JSON.stringify(all)) await state.saveRollbacks(now);
  const kept = now.filter(concerns);
  const turned = kept.filter(({ id, inUse }) => mine.some((one) => one.id === id && one.inUse !== inUse));
  return { kept, turned: turned.map(({ id }) => id) };
}

/** Starts a helper for the server of a source, and calls `work` with its tools. */
export async function withServerTools<T>(
  deps: { plan(): Promise<Plan> },
  source: string,
  openTools: (planned: PostgresSource) => Promise<Tools>,
  work: (tools: Tools) => Promise<T>,
): Promise<T> {
  const tools = await openTools(await restoreTarget(deps, source, 'postgres'));
  try {
    return await work(tools);
  } finally {
    await tools.close();
  }
}

/**
 * Determines how far a dead restore or rollback came, and corrects its record. Rejects if the server cannot be queried.
 */
export async function reachedBy(
  deps: { state: State; plan(): Promise<Plan> },
  { id, verb, target }: RestoreStart,
  from: RolledBackFrom | undefined,
  openTools: (planned: PostgresSource) => Promise<Tools>,
): Promise<Reached> {
  const ofVolume = (await deps.state.rollbacks()).some(
    (one) => one.source === target && one.volume && (one.dataDirectory === undefined || one.id === (from?.id ?? id)),
  );
  if (ofVolume) return 'unknown';
  const { kept } = await refreshKept(deps.state, target, (names) =>
    withServerTools(deps, target, openTools, async (tools) => {
      const control = await tools.control();
      // A rename that the dead run started may still be in progress.
      await endOwn(control, tools.connection.application);
      return readDatabases(control, names);
    }),
  );
  if (verb === 'rollback') {
    const now = kept.find((one) => one.id === from?.id);
    return now ? (now.inUse === from?.inUse ? 'nothing' : 'swapped') : 'unknown';
  }
  const swapped = kept.some((one) => one.id === id);
  return swapped ? 'swapped' : 'nothing';
}
