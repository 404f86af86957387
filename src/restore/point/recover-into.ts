import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Mount } from '../../plan/model.ts';
import { formatBytes } from '../../report/format.ts';
import type { Journal } from '../../run/journal.ts';
import type { RecordedBase } from '../../sources/postgres/base-source.ts';
import type { AgentContext } from '../../sources/postgres/server/tools.ts';
import { HELPER_ROOT } from '../../sources/volume.ts';
import { readIndexFile } from '../../store/filesystem/read-index.ts';
import { withKeyId } from '../../store/objects/manifest.ts';
import { readPacks } from '../../store/repository/pack-lists.ts';
import type { Repository } from '../../store/repository/repository.ts';
import type { TreeStore } from '../../trees/runner.ts';
import type { Aim, Start } from './find-start.ts';
import { RecoveringServer } from './recovering-server.ts';
import type { Recovered } from './server-messages.ts';
import { describeTarget } from './target.ts';
import { WalServer } from './wal-server.ts';

export interface RecoverDeps {
  agent: AgentContext;
  treeStore: TreeStore;
  log: Log;
}

/** A recovery: its start, and the place to work in. */
interface Recovery {
  repository: Repository;
  start: Start;
  /** id of the run */
  id: string;
  journal: Journal;
  /** an empty directory of the run in the spool */
  directory: string;
  /** name of the volume to make; absent: one that is removed with the server's helper */
  volume?: string;
}

interface RecoveryRequest extends Aim {
  source: string;
  signal: AbortSignal;
  say(line: string): void;
}

/** A volume that holds a recovered server. */
export interface RecoveredVolume {
  source: string;
  /** id of the restore */
  id: string;
  snapshot: string;
  /** time, or `latest` */
  target: string;
  window: { from: string; to: string };
  volume: string;
  /** path at which the container has its data */
  dataDirectory: string;
  image: string;
  recovered: Recovered;
  /** number of WAL segments that were read */
  segments: number;
}

/**
 * Recovers a server into a new volume. The server is shut down, and its helper stays: the caller removes it.
 *
 * @throws PG_RESTORE_FAILED, OBJECT_*, KEY_*, HELPER_FAILED, ENGINE_*
 */
export async function recoverInto(
  deps: RecoverDeps,
  { source, target, signal, say }: RecoveryRequest,
  { repository, start, id, journal, directory, volume: name }: Recovery,
): Promise<RecoveredVolume & { server: RecoveringServer }> {
  const { base, window, entry, log } = start;
  const wanted = target === 'latest' ? window.to : describeTarget(target);
  if (!entry.index || !entry.facts || !entry.image)
    throw new LifeboatError('OBJECT_MISSING', `the base backup ${base.snapshot} is not complete`);
  const facts = (await repository.readFacts(withKeyId(entry.facts, entry))) as RecordedBase;
  const packs = await readPacks(repository, entry, signal);
  say(`Recover ${source} to ${wanted}, from the base backup of ${base.stopTime}${name ? `, into volume ${name}` : ''}`);
  const indexPath = path.join(directory, 'base.ndjson');
  await repository.fetchIndex(withKeyId(entry.index, entry), indexPath, signal);
  const exchange = { files: path.join(directory, 'wal'), wanted: path.join(directory, 'wanted') };
  const wal = new WalServer(repository, log, exchange);
  await wal.open();
  const recordHelper = (helper: string) => journal.record({ type: 'helper', name: helper });
  const { segmentSize } = log.wal;
  const server = await RecoveringServer.start({
    ...{ agent: deps.agent, image: entry.image, runId: id, volume: name, exchange, segmentSize },
    ...{ recordHelper, log: deps.log, signal },
    ...(await ownerOf(indexPath)),
  });
  try {
    const volume: Mount = { type: 'volume', name: server.volume, source: '', destination: '', writable: true };
    say(`  restoring the base backup (${formatBytes(entry.bytes)})`);
    await deps.treeStore.extract({
      ...{ indexPath, packs, select: [], target: HELPER_ROOT, runId: id, journal: journal.file, signal },
      reach: { kind: 'helper', mount: volume },
      spool: directory,
      progress: () => undefined,
    });
    say('  replaying the write-ahead log');
    const to = {
      ...(target === 'latest' ? {} : { target }),
      end: window.toLsn,
      ...(window.timeline === base.timeline ? {} : { timeline: window.timeline }),
    };
    const onLine = (line: string) => deps.log.debug('recovering server', { line });
    const recovered = await withWal(wal, signal, () => server.recover(to, onLine));
    return {
      ...{ source, id, snapshot: base.snapshot, volume: server.volume, recovered, segments: wal.served, server },
      target: target === 'latest' ? 'latest' : wanted,
      window: { from: window.from, to: window.to },
      dataDirectory: facts.dataDirectory,
      image: entry.image,
    };
  } catch (error) {
    await server.remove();
    throw error;
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
