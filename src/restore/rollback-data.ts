import { hasCode, type LifeboatError } from '../base/errors.ts';
import { chooseUsable, type Wanted, WHY_MISSING } from '../kept/choose.ts';
import { refuseForeignData } from '../kept/copy-data.ts';
import { volumeOf } from '../kept/data-directory.ts';
import { namesOf, refreshKept } from '../kept/databases.ts';
import { type Described, describeDatabases, describeVolume } from '../kept/describe.ts';
import { forgetLast } from '../kept/last-unkept.ts';
import { holds, outOfTurn, swapDatabases } from '../kept/swap-databases.ts';
import { restoreTarget } from '../kept/target.ts';
import { volumeName, volumePlace } from '../kept/volume-place.ts';
import { knownAreas, recordPlace, refreshKeptVolume } from '../kept/volume-records.ts';
import { checkRollBack, checkWhole, forgetVolume, keptIn, rollBackVolume, unsavedWarning } from '../kept/volumes.ts';
import type { PlannedSource, PostgresSource } from '../plan/model.ts';
import type { RestoredItem } from '../report/events.ts';
import type { Journal } from '../run/journal.ts';
import { saveRestored } from '../run/restored.ts';
import type { Rollback } from '../run/state.ts';
import { type Clients, readClients } from '../sources/postgres/facts/clients.ts';
import { dropDatabase } from '../sources/postgres/load/drop-database.ts';
import { checkRenamable } from '../sources/postgres/load/load-plan.ts';
import { readDatabases } from '../sources/postgres/load/swap.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import type { KnownArea } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import { areaName } from '../store/filesystem/area.ts';
import type { Consent, RestoreDeps } from './context.ts';
import { refuseWriters } from './services.ts';

/** The replaced and the restored data of a restore, on a server or in a volume. */
export interface KeptData {
  planned: PlannedSource;
  /** the server whose data directory is swapped, if it runs */
  server?: PostgresSource;
  /** Corrects the agent's records from the present data. Returns the IDs of those whose data is not found, and why. */
  refresh(): Promise<Map<string, Missing>>;
  /** Checks that the data can be swapped now, before services are stopped for it. */
  check(chosen: Rollback): Promise<void>;
  /** Reads who is connected to the databases. Absent for a volume. */
  clients?(chosen: Rollback): Promise<Clients>;
  /** Swaps the old data and the data in use, and saves the record. */
  swap(chosen: Rollback): Promise<SwappedBack>;
  /** Describes the data in use and the data that is not, as far as it can be read. Called after `refresh`. */
  describe(chosen: Rollback): Promise<Described[]>;
  /** Drops the old data. */
  drop(chosen: Rollback): Promise<void>;
}

/** Why data is not found: it is not in its volume, or the volume is another one. */
type Missing = 'area' | 'volume';

interface SwappedBack {
  swapMs?: number;
  restored: RestoredItem[];
  /** whether the replaced data is put aside */
  canRollBack: boolean;
  warnings: string[];
}

/** The dependencies of work with old data. */
interface KeptRun {
  deps: RestoreDeps;
  request: Consent;
  journal: Journal;
  /** of the rollback */
  id: string;
}

/** A rollback whose data is open. */
export interface Run {
  journal: Journal;
  chosen: Rollback;
  /** the restores whose data is not found, and why */
  missing: ReadonlyMap<string, 'area' | 'volume'>;
  /** the records of all restores */
  all: readonly Rollback[];
  /** where its data is */
  kept: KeptData;
}

/** The work with the chosen restore. */
export interface Work<T> {
  work(run: Run): Promise<T>;
  /** for a restore whose source has no running container; `why`: the error that says so */
  withoutSource(chosen: Rollback, why: LifeboatError): Promise<T>;
  /** runs before the source is opened; its result ends the command, unless it is undefined */
  first?(chosen: Rollback, run: { runId: string; signal: AbortSignal }): Promise<T | undefined>;
  /** without an id, a restore whose data cannot be reached is passed over */
  skips: boolean;
}

/** Opens the place of the data of the chosen restore. Without an id, `skips` passes over restores without data. */
export async function inTurn<T>(
  run: KeptRun & { request: Wanted & { dryRun?: boolean } },
  { work, withoutSource, skips }: Work<T>,
): Promise<T> {
  const { deps, request, journal } = run;
  const unusable = new Map<string, string>();
  const leaveOut = ({ id, source }: Rollback, why: string) => {
    if (!skips || request.id !== undefined || unusable.has(id)) return;
    unusable.set(id, why);
    request.say(`Restore ${id} of ${source} cannot be rolled back: ${why}`);
  };
  const choose = async () => chooseUsable(await deps.state.rollbacks(), request, unusable);
  for (;;) {
    const first = await choose();
    const { source, volume } = first;
    const finding = volume ? volumeOf(deps, first) : restoreTarget(deps, source, 'postgres');
    const why = await finding.then(() => undefined, sourceUnknown);
    if (why) leaveOut(first, why.message);
    if (why && !unusable.has(first.id)) return withoutSource(first, why);
    if (why) continue;
    const open = volume ? withVolume : withServer;
    const done = await open(run, first, async (kept) => {
      const missing = await kept.refresh();
      for (const one of await deps.state.rollbacks()) {
        const what = one.source === source && missing.get(one.id);
        if (what) leaveOut(one, WHY_MISSING[what]);
      }
      const chosen = await choose();
      if (chosen.source !== source || (chosen.volume === undefined) !== (volume === undefined)) return undefined;
      return { result: await work({ journal, chosen, missing, kept, all: await deps.state.rollbacks() }) };
    });
    if (done) return done.result;
  }
}

function sourceUnknown(error: unknown): LifeboatError {
  if (hasCode(error, 'SOURCE_UNKNOWN')) return error;
  throw error;
}

/** Opens the server of a source, and calls `work` with the old databases there. */
export async function withServer<T>(
  { deps, request, journal, id }: KeptRun,
  { source }: Pick<Rollback, 'source'>,
  work: (kept: KeptData) => Promise<T>,
): Promise<T> {
  const planned = await restoreTarget(deps, source, 'postgres');
  await refuseForeignData(deps, planned, request);
  const application = applicationName(deps.project, id);
  const { signal, say } = request;
  const tools = await deps.openTools(planned, { runId: id, application, journal, signal, say });
  try {
    return await work({
      planned,
      async refresh() {
        await refreshKept(deps.state, source, async (names) => readDatabases(await tools.control(), names));
        return new Map();
      },
      async check(chosen) {
        const { databases = [] } = chosen;
        const control = await tools.control();
        const present = await readDatabases(control, namesOf([chosen]));
        if (
          databases.some(({ name, before, oid }) => oid !== undefined && !holds(present, chosen, { name, before, oid }))
        )
          throw outOfTurn(chosen);
        for (const name of databases.flatMap(({ name, before }) => [name, before]))
          await checkRenamable(control, name, tools.container);
      },
      clients: async (chosen) => readClients(await tools.control(), chosen.databases ?? []),
      describe: (chosen) => describeDatabases(tools, chosen, signal),
      async swap(chosen) {
        await refuseForeignData(deps, planned, request);
        const swapMs = await swapDatabases(tools, chosen, signal);
        const restored = (chosen.databases ?? []).map(({ name, before }) => ({ target: name, kept: before }));
        const unsaved = await saveTurned(deps.state, chosen, {}).catch((error: unknown) => ({ error }));
        // OIDs show which data is in use.
        const warnings = unsaved ? [unsavedWarning(unsaved.error)] : [];
        return { swapMs, restored, canRollBack: true, warnings };
      },
      async drop({ databases = [] }) {
        for (const { before } of databases) {
          const subscriptions = await dropDatabase(tools, before, signal);
          request.say(`  dropped database ${before}`);
          for (const name of subscriptions)
            request.say(
              `  dropped its subscription ${name} too: if nothing else uses its slot on the publisher, drop that slot`,
            );
        }
      },
    });
  } finally {
    await tools.close();
  }
}

/** Opens the volume of a source, and calls `work` with the old data there. */
export async function withVolume<T>(
  { deps, request, journal, id }: KeptRun,
  record: Pick<Rollback, 'source' | 'dataDirectory'>,
  work: (kept: KeptData) => Promise<T>,
): Promise<T> {
  const { treeStore, state } = deps;
  const { source } = record;
  const planned = await volumeOf(deps, record);
  await refuseForeignData(deps, planned, request);
  const place = volumePlace(planned.mount, deps.agentMounts);
  const name = volumeName(planned.mount);
  const run = { id, journal: journal.file, signal: request.signal };
  await checkWhole(deps.journals, journal.file, place);
  const isServer = planned.mount.directory !== undefined;
  const server = isServer ? await restoreTarget(deps, source, 'postgres').catch(() => undefined) : undefined;
  let areas: VolumeArea[] = [];
  return work({
    planned,
    ...(server ? { server } : {}),
    async refresh() {
      const known = knownAreas(await state.rollbacks(), source);
      areas = await keptIn(treeStore, place, { runId: id, signal: request.signal }, known);
      return refreshKeptVolume(state, recordPlace(planned), areas);
    },
    describe: async (chosen) => describeVolume(chosen, areas),
    check: (chosen) => checkRollBack(deps, place, chosen, run),
    async swap(chosen) {
      await refuseForeignData(deps, planned, request);
      if (isServer) await refuseWriters(deps.engine, planned, deps.agentId);
      const save = (volume: KnownArea | undefined) => saveTurned(state, chosen, volume && { volume });
      const done = await rollBackVolume({ deps, place, chosen, run, now: deps.now(), save });
      const { kept, swapMs, warnings } = done;
      const restored = [{ target: name, ...(kept ? { kept: areaName('before', kept.area, place.root) } : {}) }];
      return { ...(swapMs === undefined ? {} : { swapMs }), restored, canRollBack: kept !== undefined, warnings };
    },
    async drop(chosen) {
      const begin = async (volume: KnownArea) =>
        state.saveRollbacks((await state.rollbacks()).map((one) => (one.id === chosen.id ? { ...one, volume } : one)));
      await forgetVolume(treeStore, place, chosen, { ...run, begin });
      request.say(`  deleted the old data in ${name}`);
    },
  });
}

/** Saves the record of a restore whose data was swapped. `volume`: its new area. `now` absent: nothing is put aside. */
async function saveTurned(
  state: RestoreDeps['state'],
  chosen: Rollback,
  now: Pick<Rollback, 'volume'> | undefined,
): Promise<void> {
  await saveRestored(state.directory, chosen.source, undefined);
  await forgetLast(state);
  const others = (await state.rollbacks()).filter(({ id }) => id !== chosen.id);
  await state.saveRollbacks(
    now ? [...others, { ...chosen, inUse: chosen.inUse === 'restored' ? 'before' : 'restored', ...now }] : others,
  );
}
