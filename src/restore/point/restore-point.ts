import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import type { Engine } from '../../docker/engine.ts';
import { isNotFound } from '../../docker/engine-errors.ts';
import type { Mount } from '../../plan/model.ts';
import { formatBytes } from '../../report/format.ts';
import { Journal } from '../../run/journal.ts';
import type { RunDeps } from '../../run/run-deps.ts';
import type { RecordedBase } from '../../sources/postgres/base-source.ts';
import type { AgentContext } from '../../sources/postgres/server/tools.ts';
import { HELPER_ROOT } from '../../sources/volume.ts';
import { readIndexFile } from '../../store/filesystem/read-index.ts';
import { newSnapshotId } from '../../store/objects/snapshot-id.ts';
import type { Repository } from '../../store/repository/repository.ts';
import { requireKeys } from '../../store/seal/encryption.ts';
import type { TreeStore } from '../../trees/runner.ts';
import type { RestoreDeps } from '../context.ts';
import { lockForRestore } from '../lock.ts';
import { findStart, type Start, type Target } from './find-start.ts';
import { type Recovered, RecoveringServer } from './recovering-server.ts';
import { WalServer } from './wal-server.ts';

export interface PointDeps
  extends Pick<RunDeps, 'journals' | 'spool' | 'agentId' | 'recover' | 'clear' | 'log' | 'now'> {
  lock: RestoreDeps['lock'];
  engine: Engine;
  agent: AgentContext;
  treeStore: TreeStore;
  repository(): Promise<Repository>;
  /** until when the server of a source is known to have written nothing more, by its system identifier */
  confirmed(source: string): Promise<Parameters<typeof findStart>[2]>;
}

export interface PointRequest {
  source: string;
  target: Target;
  /** name of the new volume */
  toVolume: string;
  signal: AbortSignal;
  say(line: string): void;
}

/** The result of a recovery to a point in time. */
export interface PointResult {
  source: string;
  /** id of the restore */
  id: string;
  snapshot: string;
  /** ISO time, or `latest` */
  target: string;
  window: { from: string; to: string };
  volume: string;
  /** path at which the container has its data */
  dataDirectory: string;
  image: string;
  recovered: Recovered;
  /** number of WAL segments that were read */
  segments: number;
  durationMs: number;
}

/**
 * Recovers a server to a point in time, into a new volume: restores the base backup before that point, and replays the
 * WAL after it in a helper of the recorded image. The server that the source has now stays as it is.
 *
 * @throws PITR_TIME, before anything is made; TREE_TARGET_NOT_EMPTY if the volume exists; PG_RESTORE_FAILED;
 * KEY_MISSING, OBJECT_*, HELPER_FAILED
 */
export async function restoreToPoint(deps: PointDeps, request: PointRequest): Promise<PointResult> {
  const find = async () => {
    const repository = await deps.repository();
    const start = await findStart(repository, request, await deps.confirmed(request.source));
    const { index, facts, packs } = start.entry;
    requireKeys([index, facts, ...packs], repository.keys);
    await refuseExisting(deps.engine, request.toVolume);
    return { repository, start };
  };
  const lock = await lockForRestore(deps, { ask: true, check: find });
  const begun = deps.now();
  try {
    await deps.recover();
    const { repository, start } = await find();
    const id = newSnapshotId(begun);
    const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId });
    const directory = path.join(deps.spool, id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      const done = await recover(deps, request, { repository, start, id, journal, directory });
      return { ...done, durationMs: deps.now().getTime() - begun.getTime() };
    } finally {
      await deps.clear(directory, id);
      await journal.close();
    }
  } finally {
    await lock.release();
  }
}

/** @throws TREE_TARGET_NOT_EMPTY */
async function refuseExisting(engine: Engine, volume: string): Promise<void> {
  try {
    await engine.inspectVolume(volume);
  } catch (error) {
    if (isNotFound(error)) return;
    throw error;
  }
  throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `there is a volume ${volume} already`, {
    hint: 'Name a volume that does not exist yet. Lifeboat creates it.',
  });
}

interface Recovery {
  repository: Repository;
  start: Start;
  id: string;
  journal: Journal;
  directory: string;
}

async function recover(
  deps: PointDeps,
  { source, target, toVolume, signal, say }: PointRequest,
  { repository, start, id, journal, directory }: Recovery,
): Promise<Omit<PointResult, 'durationMs'>> {
  const { base, window, entry, log } = start;
  const wanted = target === 'latest' ? window.to : target.text;
  if (!entry.index || !entry.facts || !entry.image)
    throw new LifeboatError('OBJECT_MISSING', `the base backup ${base.snapshot} is not complete`);
  const facts = (await repository.readFacts(entry.facts)) as RecordedBase;
  say(`Recover ${source} to ${wanted}, from the base backup of ${base.stopTime}, into the new volume ${toVolume}`);
  const indexPath = path.join(directory, 'index.ndjson');
  await repository.fetchIndex(entry.index, indexPath, signal);
  const owner = await ownerOf(indexPath);
  const volume: Mount = { type: 'volume', name: toVolume, source: '', destination: '', writable: true };
  say(`  restoring the base backup (${formatBytes(entry.bytes)})`);
  await deps.treeStore.extract({
    ...{ indexPath, packs: entry.packs, select: [], target: HELPER_ROOT, runId: id, journal: journal.file, signal },
    reach: { kind: 'helper', mount: volume },
    spool: directory,
    progress: () => undefined,
  });
  const exchange = { files: path.join(directory, 'wal'), wanted: path.join(directory, 'wanted') };
  const wal = new WalServer(repository, log, exchange);
  await wal.open();
  const recordHelper = (name: string) => journal.record({ type: 'helper', name });
  const server = await RecoveringServer.start({
    ...{ agent: deps.agent, image: entry.image, runId: id, volume, exchange, recordHelper, log: deps.log, signal },
    ...owner,
  });
  try {
    say('  replaying the write-ahead log');
    const recovered = await withWal(wal, signal, () =>
      server.recover(
        {
          ...(target === 'latest' ? {} : { time: target }),
          ...(window.timeline === base.timeline ? {} : { timeline: window.timeline }),
        },
        (line) => deps.log.debug('recovering server', { line }),
      ),
    );
    return {
      ...{ source, id, snapshot: base.snapshot, volume: toVolume, recovered, segments: wal.served },
      target: target === 'latest' ? 'latest' : wanted,
      window: { from: window.from, to: window.to },
      dataDirectory: facts.dataDirectory,
      image: entry.image,
    };
  } finally {
    await server.remove();
  }
}

/** Serves WAL while `work` runs. If serving fails, so does the work: the server would wait for ever. */
async function withWal<T>(wal: WalServer, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const over = new AbortController();
  const serving = wal.serve(AbortSignal.any([signal, over.signal]));
  try {
    return await Promise.race([
      work(),
      serving.then(() => {
        throw signal.reason ?? new LifeboatError('INTERNAL', 'no more WAL is served');
      }),
    ]);
  } finally {
    over.abort();
    await serving.catch(() => undefined);
  }
}

/** Returns the owner of the data: that of the root of the tree. */
async function ownerOf(indexPath: string): Promise<{ uid: number; gid: number }> {
  for await (const { path: name, uid, gid } of readIndexFile(indexPath)) {
    if (name === '') return { uid, gid };
  }
  throw new LifeboatError('OBJECT_DAMAGED', 'the index of the base backup has no root');
}
