import { readdirSync } from 'node:fs';
import type { StoredTree } from '../../../src/store/content/stored-tree.ts';
import type { BuiltAreas } from '../../../src/store/exchange/build-area.ts';
import { type BuildOptions, buildTree, undoIncomplete } from '../../../src/store/exchange/build-tree.ts';
import { identityOf } from '../../../src/store/exchange/identity.ts';
import type { KnownArea } from '../../../src/store/exchange/known-area.ts';
import { listAreas } from '../../../src/store/exchange/list-areas.ts';
import type { AreaRecord, Ended } from '../../../src/store/exchange/own-area.ts';
import { forgetArea, rollBackArea, swapBuilt } from '../../../src/store/exchange/volume-areas.ts';
import { Directory } from '../../../src/store/filesystem/directory.ts';
import { readIndexFileLines } from '../../../src/store/filesystem/read-index.ts';
import type { Bench } from '../helpers.ts';

export const ID = '20261120T030000Z-00000a';
export const SECOND = '20261120T030000Z-00000b';
export const THIRD = '20261120T030000Z-00000c';
export const AT = '2026-11-20T03:00:00.000Z';

type Swap = Partial<Parameters<typeof swapBuilt>[0]>;
type Back = Partial<Parameters<typeof rollBackArea>[0]>;

/** Restores, rollbacks and recoveries in a volume, with the journal and the records that an agent keeps of them. */
export interface VolumeBench {
  /** the journal, by the ID of the restore or rollback: its areas */
  journal: Record<string, AreaRecord>;
  /** the areas of a build, by the ID of its restore */
  built: Record<string, BuiltAreas>;
  /** the records of old data, by the ID of the restore */
  records: Record<string, KnownArea>;
  build(stored: StoredTree, options?: Partial<BuildOptions>): ReturnType<typeof buildTree>;
  swap(options?: Swap): ReturnType<typeof swapBuilt>;
  /** Rolls a restore back or forth. The area for the replaced data gets the name of `id`. */
  back(id: string, restore?: string, options?: Back): ReturnType<typeof rollBackArea>;
  forget(restore?: string, heard?: () => void): Promise<void>;
  undo(id?: string, heard?: () => void): Promise<'old' | 'new' | 'unknown'>;
  /** Lists the recorded areas. */
  list(): ReturnType<typeof listAreas>;
  areas(): string[];
}

export function createVolumeBench(bench: Bench, volume: string): VolumeBench {
  const journalled = (id: string) => ({
    begun: ({ identity, list, size, root }: KnownArea) => {
      one.journal[id] = { ...one.journal[id], before: identity, list, size, root };
    },
    ended: (ended: Ended) => {
      one.journal[id] = { ...one.journal[id], ended };
      return true;
    },
    made: (areas: AreaRecord) => {
      one.journal[id] = areas;
    },
  });
  const keep = (restore: string, kept: KnownArea | undefined) => {
    if (kept) one.records[restore] = kept;
    else delete one.records[restore];
  };
  const one: VolumeBench = {
    journal: {},
    built: {},
    records: {},
    async build(stored, options = {}) {
      const id = options.id ?? ID;
      const { made } = journalled(id);
      const built = await buildTree({
        root: volume,
        id,
        index: () => readIndexFileLines(bench.index),
        packs: stored.packs,
        destination: bench.destination,
        keys: {},
        spool: bench.spool,
        overwrite: false,
        needed: 0,
        made,
        takenBack: () => {
          one.journal[id] = {};
        },
        ...options,
      });
      one.built[id] = built.areas;
      return built;
    },
    async swap(options = {}) {
      const id = options.id ?? ID;
      const { begun, ended } = journalled(id);
      const areas = one.built[id] as BuiltAreas;
      const about = { root: volume, id, at: AT, whole: true, snapshot: 'snap', areas };
      const done = await swapBuilt({ ...about, begun, ended, ...options });
      keep(id, done.kept);
      return done;
    },
    async back(id, restore = ID, options = {}) {
      const known = one.records[restore] as KnownArea;
      const done = await rollBackArea({ root: volume, id, at: AT, restore, known, ...journalled(id), ...options });
      if (!options.check) keep(restore, done.kept);
      return done;
    },
    async forget(restore = ID, heard = () => undefined) {
      const known = one.records[restore];
      if (!known) return;
      await forgetArea(volume, known, heard, true);
      const forgotten = { ...known, forgotten: true as const };
      one.records[restore] = forgotten;
      await forgetArea(volume, forgotten, heard);
      delete one.records[restore];
    },
    async undo(id = ID, heard = () => undefined) {
      const record = one.journal[id] ?? {};
      const { ended } = journalled(id);
      const { now } = await undoIncomplete(volume, id, { record, ended, heard });
      return now;
    },
    async list() {
      const known = Object.values(one.records);
      const areas = await listAreas(volume, known);
      return areas.filter(({ kind, id }) => kind === 'before' && known.some(({ area }) => area === id));
    },
    areas: () => readdirSync(volume).filter((name) => name.startsWith('.lifeboat-')),
  };
  return one;
}

/** Returns the identity of a directory. */
export function identityAt(path: string): string {
  const directory = Directory.open(path);
  try {
    return identityOf(directory);
  } finally {
    directory.close();
  }
}
