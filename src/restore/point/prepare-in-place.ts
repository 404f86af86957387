import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo } from '../../base/errors.ts';
import { dataDirectoryOf } from '../../kept/data-directory.ts';
import { restoreTarget } from '../../kept/target.ts';
import { recoverVolumes } from '../../kept/undo-volumes.ts';
import { type VolumePlace, volumeName, volumePlace } from '../../kept/volume-place.ts';
import { checkWhole, swapVolume } from '../../kept/volumes.ts';
import type { Mount, PostgresSource, VolumeSource } from '../../plan/model.ts';
import { formatBytes, plural } from '../../report/format.ts';
import { HELPER_ROOT } from '../../sources/volume.ts';
import type { TreeDifference } from '../../store/content/compare-tree.ts';
import type { CopiedTree } from '../../store/exchange/copy-tree.ts';
import { areaName } from '../../store/filesystem/area.ts';
import type { Replacement } from '../../store/wal/remembered.ts';
import { storeIntervalMs } from '../../wal/store-interval.ts';
import type {
  Consent,
  KeptRecord,
  PreparedRestore,
  RestoreContext,
  RestoreDeps,
  Restored,
  RestorePreview,
} from '../context.ts';
import { fetchIndex } from '../fetch.ts';
import { refuseWriters } from '../services.ts';
import type { Aim, PointDeps, Start } from './find-start.ts';
import {
  clientsOf,
  type LiveServer,
  lookAtServer,
  lookAtStarted,
  type Reaching,
  type RecoveredServer,
  type StoredEnd,
  waitUntilStored,
} from './live-server.ts';
import { AMCHECK_MS, type RecoverDeps, recoverInto } from './recover-into.ts';
import {
  linkedWal,
  refuseDamaged,
  refuseFullVolume,
  refuseMountsInside,
  refuseOtherVersion,
} from './refuse-in-place.ts';

export interface InPlaceDeps extends RestoreDeps, PointDeps, Pick<RecoverDeps, 'agent'> {
  /** the last report of the receiver of a source */
  stored(source: string): ReturnType<StoredEnd>;
  /** records the data that is about to be put in place, for the receiver of a source */
  replacing(source: string, replacement: Replacement): Promise<void>;
}

export interface InPlaceRequest extends Aim, Consent {
  source: string;
  /** only show the preview */
  dryRun: boolean;
}

interface Work {
  deps: InPlaceDeps;
  request: InPlaceRequest;
  context: RestoreContext;
  start: Start;
  server: PostgresSource;
  /** undefined if it does not answer */
  live: LiveServer | undefined;
  volume: VolumeSource;
  place: VolumePlace;
  reaching: Reaching;
}

/**
 * Prepares a recovery in place: finds the data directory of the server, and compares it with the base backup.
 *
 * @throws SOURCE_UNKNOWN, TREE_TARGET_REFUSED, TREE_TARGET_FULL, TREE_HALF_RESTORED, OBJECT_*
 */
export async function prepareInPlace(
  deps: InPlaceDeps,
  request: InPlaceRequest,
  { context, start }: { context: RestoreContext; start: Start },
): Promise<PreparedRestore> {
  const server = await restoreTarget(deps, request.source, 'postgres');
  const { signal, say } = request;
  const reaching: Reaching = { deps, server, context, signal, say };
  const live = await lookAtServer(reaching);
  await refuseOtherVersion(context, server, live);
  const volume = dataDirectoryOf(server, live?.dataDirectory);
  refuseMountsInside(server, volume);
  // A recovery may take hours, so it does not begin if the exchange would be refused.
  await refuseWriters(deps.engine, volume, deps.agentId, { onlyForeign: true });
  const place = volumePlace(volume.mount, deps.agentMounts);
  await checkWhole(deps.journals, context.journal.file, place);
  const work: Work = { deps, request, context, start, server, live, volume, place, reaching };
  const difference = await compare(work);
  const wal = await linkedWal(deps.engine, server, volume, signal);
  let begun = false;
  let done: { copied: CopiedTree; recovered: RecoveredServer } | undefined;
  return {
    preview: previewOf(work, difference, wal),
    clients: () => clientsOf(reaching),
    async fetch() {
      begun = true;
      done = await recoverBeside(work, difference.needed);
    },
    swap: (keep) => swap(work, done as NonNullable<typeof done>, keep),
    look: () => lookAtStarted(reaching, (done as NonNullable<typeof done>).recovered),
    async close() {
      if (!begun) return;
      try {
        await recoverVolumes(deps, await context.journal.entries(), context.journal.file);
      } catch (error) {
        deps.log.debug('there is nothing more to clean up', { ...errorInfo(error) });
      }
    },
  };
}

/** Compares the data directory with the base backup: their sizes matter. */
async function compare({ deps, request, context, place }: Work): Promise<TreeDifference> {
  const indexPath = await fetchIndex(request, context);
  const job = { kind: 'compare' as const, root: place.root, indexPath, packs: [], paths: [], overwrite: false };
  const { journal, id: runId, progress } = context;
  return deps.treeStore.volume(job, {
    ...{ reach: place.reach, runId, journal: journal.file, signal: request.signal, progress },
  });
}

/** @throws TREE_TARGET_FULL */
function previewOf(
  { request, context, start, server, live, volume }: Work,
  difference: TreeDifference,
  wal: string | undefined,
): RestorePreview {
  const { present, free } = difference;
  const name = volumeName(volume.mount);
  // The recovered data is in a volume of its own first, which usually is on the same disk.
  const needed = 2 * difference.needed;
  refuseFullVolume(name, { free, needed });
  const { base } = start;
  const other = live && live.systemId !== base.systemId;
  return {
    target: server,
    dataDirectory: volume,
    replaces: [
      { name: `the data directory of ${request.source}`, detail: `${formatBytes(present.bytes)} in volume ${name}` },
    ],
    ...{ creates: [], left: [], bytes: context.entry.bytes },
    space: { where: name, needed, free },
    notes: [
      `the configuration files in the data directory become those of the base backup of ${base.stopTime}`,
      ...(wal === undefined
        ? []
        : [`pg_wal becomes a part of the data directory; it was a link to ${wal}, where the former WAL stays`]),
      ...(other ? ['the present data is of another server: it was created again since that time'] : []),
      ...(live ? [] : ['the server does not answer, so nobody can see who is connected to it']),
    ],
  };
}

/** Recovers the server into a volume of the run, and copies the result into an area of the data directory. */
async function recoverBeside(work: Work, needed: number): Promise<{ copied: CopiedTree; recovered: RecoveredServer }> {
  const { deps, request, context, start, server, live, place, reaching } = work;
  const { repository, journal, id } = context;
  const directory = path.join(context.directory, 'recovery');
  await mkdir(directory, { mode: 0o700 });
  const amcheck = { planned: server, limitMs: AMCHECK_MS };
  const asked = { ...request, presentImage: server.imageId, amcheck };
  const recovered = await recoverInto(deps, asked, { repository, start, id, journal, directory });
  let done: { copied: CopiedTree; recovered: RecoveredServer };
  try {
    refuseDamaged(recovered.checks);
    const { at, stopped, lastCommit } = recovered.recovered;
    request.say(
      `  recovered ${at === 'target' ? `to the target: stopped ${stopped}` : 'to the end of the stored WAL'}`,
    );
    if (lastCommit !== undefined) request.say(`  the last transaction in it was committed at ${lastCommit}`);
    for (const { name, detail } of recovered.checks) request.say(`  ${name}: ${detail}`);
    const identity = await recovered.server.identity();
    done = { copied: await copy(work, recovered.volume, needed), recovered: identity };
  } finally {
    await recovered.server.remove();
  }
  const limitMs = 3 * storeIntervalMs(server.rpoMs) + 10_000;
  const stored = () => deps.stored(request.source);
  if (live && !(await waitUntilStored(reaching, stored, { systemId: live.systemId, limitMs }))) {
    request.say('  the newest WAL of the present server is not stored: only the old data has it');
  }
  request.say(`  the recovered data is complete, in ${areaName('restoring', id, place.root)} of the data directory`);
  return done;
}

async function copy(work: Work, volume: string, needed: number): Promise<CopiedTree> {
  const { deps, request, context, place } = work;
  const { id, journal, progress } = context;
  const { root, reach, mount } = place;
  const from: Mount = { type: 'volume', name: volume, source: '', destination: '', writable: false };
  const { signal } = request;
  const { bytes, files } = await deps.treeStore.measure({
    ...{ root: HELPER_ROOT, include: [], exclude: [], reach: { kind: 'helper', mount: from }, runId: id, signal },
  });
  request.say(`  copying ${formatBytes(bytes)} in ${plural(files, 'file')} to the data directory`);
  journal.record({ type: 'volume', id, root, reach, ...(mount ? { mount } : {}) });
  return deps.treeStore.volume(
    { kind: 'copy', root, id, from, journal: journal.file, needed: Math.max(needed, bytes) },
    { reach, runId: id, journal: journal.file, signal, progress },
  );
}

async function swap(
  { deps, request, context, start, volume, place }: Work,
  { copied: { areas, files, bytes }, recovered }: { copied: CopiedTree; recovered: RecoveredServer },
  keep: (record: KeptRecord) => Promise<void>,
): Promise<Restored> {
  const { id, journal, snapshot, progress } = context;
  await refuseWriters(deps.engine, volume, deps.agentId);
  // WAL of another repository may contradict what is stored here.
  const era = deps.otherRepository ? {} : { era: start.log.wal.era ?? 1 };
  await deps.replacing(request.source, { ...recovered, ...era });
  const done = await swapVolume({
    ...{ deps, place, now: deps.now(), progress },
    run: { id, journal: journal.file, signal: request.signal },
    built: { areas, whole: true, empty: false, snapshot: snapshot.id },
    keep: (kept) => keep(kept ? { volume: kept, dataDirectory: volume } : {}),
  });
  const { kept, swapMs } = done;
  request.say(`  ${plural(files, 'file')}, ${formatBytes(bytes)} are the data directory of ${request.source} now`);
  const name = `the data directory of ${request.source}`;
  return {
    restored: [{ target: name, files, bytes, ...(kept ? { kept: areaName('before', kept.area, place.root) } : {}) }],
    ...(swapMs === undefined ? {} : { withoutDataMs: swapMs }),
    warnings: done.warnings,
  };
}
