import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { HelperLimits } from '../../docker/helper.ts';
import type { Mount, PostgresSource } from '../../plan/model.ts';
import { formatBytes } from '../../report/format.ts';
import type { Journal } from '../../run/journal.ts';
import type { RecordedBase } from '../../sources/postgres/base-source.ts';
import type { AgentContext } from '../../sources/postgres/server/tools.ts';
import { chooseImage } from '../../sources/postgres/throwaway/choose-image.ts';
import { HELPER_ROOT } from '../../sources/volume.ts';
import { readIndexFile } from '../../store/filesystem/read-index.ts';
import { withKeyId } from '../../store/objects/manifest.ts';
import { readPacks } from '../../store/repository/pack-lists.ts';
import type { Repository } from '../../store/repository/repository.ts';
import type { TreeStore } from '../../trees/runner.ts';
import { checkWithAmcheck, type PointCheck } from './check-recovered.ts';
import type { Aim, Start } from './find-start.ts';
import { RecoveringServer } from './recovering-server.ts';
import type { Recovered } from './server-messages.ts';
import { explainMemory } from './server-programs.ts';
import { serverTarget } from './server-target.ts';
import { withServing } from './serving.ts';
import { describePoint } from './target.ts';
import { WalServer } from './wal-server.ts';

export interface RecoverDeps {
  agent: AgentContext;
  treeStore: TreeStore;
  log: Log;
}

/** The longest time for checks of recovered indexes and tables, milliseconds. */
export const AMCHECK_MS = 10 * 60_000;

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
  /** what the server may use; absent: no limits */
  limits?: HelperLimits;
  /** the image to use; absent: see {@link chooseImage} */
  image?: Awaited<ReturnType<typeof chooseImage>>;
}

/** A recovery whose server is about to start. */
interface Prepared extends Recovery {
  /** the index of the base backup */
  indexPath: string;
  wal: WalServer;
  stopAt: Awaited<ReturnType<typeof serverTarget>>;
}

export interface RecoveryRequest extends Aim {
  source: string;
  signal: AbortSignal;
  say(line: string): void;
  /** id of the image that the source has now: used if that of the base backup is gone */
  presentImage?: string | undefined;
  /** the source in the plan, to check its recovered indexes and tables; absent: they are not checked */
  amcheck?: { planned: PostgresSource; limitMs: number };
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
  checks: PointCheck[];
}

/**
 * Recovers a server into a new volume. The server is shut down, and its helper stays: the caller removes it. The base
 * backup is compared with its manifest before the recovery.
 *
 * @throws PG_RESTORE_FAILED, OBJECT_*, KEY_*, ENGINE_*; HELPER_FAILED, also if there is no image of its major version
 */
export async function recoverInto(
  deps: RecoverDeps,
  request: RecoveryRequest,
  recovery: Recovery,
): Promise<RecoveredVolume & { server: RecoveringServer }> {
  const { source, signal, say } = request;
  const { repository, start, id, journal, directory, volume, limits } = recovery;
  const { base, window, entry, log } = start;
  if (!entry.index || !entry.facts)
    throw new LifeboatError('OBJECT_MISSING', `the base backup ${base.snapshot} is not complete`);
  const facts = (await repository.readFacts(withKeyId(entry.facts, entry))) as RecordedBase;
  const image = recovery.image ?? (await chooseImage(deps.agent.engine, entry, request.presentImage));
  const place = volume ? `, into volume ${volume}` : '';
  say(`Recover ${source} to ${wantedOf(request, start)}, from the base backup of ${base.stopTime}${place}`);
  if (!image.recorded) say('  the image of the base backup is gone, so the present image of the source is used');
  const indexPath = path.join(directory, 'base.ndjson');
  await repository.fetchIndex(withKeyId(entry.index, entry), indexPath, signal);
  // This comes before the base backup is restored, which may take hours. Meanwhile, the receiver replaces the objects
  // at the end of the log again and again.
  const stopAt = await serverTarget({ repository, log, signal }, start, request.target);
  const exchange = { files: path.join(directory, 'wal'), wanted: path.join(directory, 'wanted') };
  const wal = new WalServer(repository, log, exchange);
  await wal.open();
  const { segmentSize } = log.wal;
  const server = await RecoveringServer.start({
    ...{ agent: deps.agent, image: image.id, runId: id, volume, limits, exchange, segmentSize, content: entry },
    ...{ recordHelper: (helper) => journal.record({ type: 'helper', name: helper }), log: deps.log, signal },
    ...(await ownerOf(indexPath)),
  });
  try {
    if (!image.recorded) await server.refuseOtherMajor(facts.server.versionNumber);
    const until = AbortSignal.any([signal, server.full]);
    const done = await recoverIn(server, deps, { ...request, signal: until }, { ...recovery, indexPath, wal, stopAt });
    return {
      ...{ source, id, snapshot: base.snapshot, volume: server.volume, segments: wal.served, server, ...done },
      target: request.target === 'latest' ? 'latest' : wantedOf(request, start),
      window: { from: window.from, to: window.to },
      dataDirectory: facts.dataDirectory,
      image: image.id,
    };
  } catch (error) {
    const explained =
      limits && !signal.aborted ? await explainMemory(deps.agent.engine, server.helper.id, error) : error;
    await server.remove();
    throw server.full.aborted && !signal.aborted ? server.full.reason : explained;
  }
}

/** Returns the point to recover to, for a message. */
function wantedOf({ target }: RecoveryRequest, { window, marker }: Start): string {
  return target === 'latest' ? window.to : describePoint(target, marker);
}

/** Restores the base backup into the volume of a server, recovers it, and checks both. */
async function recoverIn(
  server: RecoveringServer,
  { agent, treeStore, log }: RecoverDeps,
  { signal, say, amcheck }: RecoveryRequest,
  { repository, start, id, journal, directory, indexPath, wal, stopAt }: Prepared,
): Promise<Pick<RecoveredVolume, 'recovered' | 'checks'>> {
  const { base, window, entry } = start;
  const volume: Mount = { type: 'volume', name: server.volume, source: '', destination: '', writable: true };
  say(`  restoring the base backup (${formatBytes(entry.bytes)})`);
  await treeStore.extract({
    ...{ indexPath, packs: await readPacks(repository, entry, signal), select: [], target: HELPER_ROOT },
    ...{ runId: id, journal: journal.file, signal, spool: directory, progress: () => undefined },
    reach: { kind: 'helper', mount: volume },
  });
  const checks = [await server.verifyBase()];
  say('  replaying the write-ahead log');
  const to = {
    ...stopAt,
    end: window.toLsn,
    lastRecord: () => wal.lastRecord(window, signal),
    ...(window.timeline === base.timeline ? {} : { timeline: window.timeline }),
  };
  const onLine = (line: string) => log.debug('recovering server', { line });
  const recovered = await withWal(wal, signal, () => server.recover(to, onLine));
  if (!amcheck) return { recovered, checks };
  say('  checking the recovered indexes and tables');
  const run = {
    agent,
    runId: id,
    recordHelper: (name: string) => journal.record({ type: 'helper', name }),
    log,
    signal,
  };
  const { planned, limitMs } = amcheck;
  const found = await withServing(server, planned, run, (tools) => checkWithAmcheck(tools, { limitMs, signal }));
  return { recovered, checks: [...checks, found] };
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
