import { hasCode, LifeboatError, toLifeboatError } from '../base/errors.ts';
import { baseName } from '../plan/postgres.ts';
import type { CopyReport } from '../report/events.ts';
import { MAX_DOCUMENT } from '../store/objects/bounds.ts';
import type { Manifest, ObjectRef } from '../store/objects/manifest.ts';
import { deleteUnlessKept, readDocument } from '../store/objects/objects.ts';
import { copyDocument, copyObject, removeWrong } from '../store/repository/copy-objects.ts';
import { isDamage } from '../store/repository/damage.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import { parseSegmentName } from '../store/wal/names.ts';
import { currentLog, neededWal, problemsOf } from '../store/wal/needed.ts';
import { incompleteOf, pageKey, parsePageKey, type WalPage, walPrefix } from '../store/wal/page.ts';
import { readWalLogs, type WalLog } from '../store/wal/read-log.ts';
import { basesOf, serversOf } from '../store/wal/recoverable.ts';
import { refuseContradiction, walNamedThere } from './named-there.ts';

export interface WalCopying {
  from: Repository;
  to: Repository;
  /** counts what was sent so far */
  report: Pick<CopyReport, 'objects' | 'bytes'>;
  signal: AbortSignal;
  /** reports progress to the watchdog */
  alive(): void;
  /** what the pages of the copy say of their objects, by source and key; read when it is needed first */
  named?: Map<string, Promise<Map<string, ObjectRef>>>;
}

/** The segment that is being received grows while it is copied, so its parts may be replaced meanwhile. */
const ATTEMPTS = 5;

/**
 * Brings a copy the WAL that its base backups need: first the objects, then the pages that list them. Without base
 * backups, it sends no request.
 *
 * @param snapshots those of the copy
 * @returns why some of the WAL is missing; the rest is there
 * @throws what the destinations throw
 */
export async function copyWal(
  copying: WalCopying,
  snapshots: readonly Pick<Snapshot, 'manifest'>[],
): Promise<LifeboatError | undefined> {
  const manifests = snapshots.map(({ manifest }) => manifest);
  let problem: LifeboatError | undefined;
  for (const source of serversOf(manifests)) {
    for (let attempt = 1; ; attempt++) {
      const { error, isReplaced } = await copySource(copying, source, manifests);
      if (isReplaced && attempt < ATTEMPTS) continue;
      problem ??= error;
      break;
    }
  }
  return problem;
}

/** Why some of the WAL of a source was not copied. */
interface Outcome {
  error?: LifeboatError | undefined;
  /** the writer has replaced a part of the open segment, or a page, meanwhile */
  isReplaced?: boolean;
}

const failed = (error: LifeboatError): Outcome => ({ error, isReplaced: hasCode(error, 'OBJECT_MISSING') });

async function copySource(copying: WalCopying, source: string, manifests: readonly Manifest[]): Promise<Outcome> {
  const { from, to, signal } = copying;
  const prefix = walPrefix({ project: from.project, source });
  const logs = await readWalLogs(from, source, signal);
  const there = new Map<string, number | undefined>();
  for await (const { key, size } of to.destination.list(prefix, { signal })) there.set(key, size);
  const bases = basesOf(manifests, baseName(source));
  const current = currentLog(logs);
  let problem: LifeboatError | undefined = logs.flatMap((log) => problemsOf(log, logs, bases))[0];
  for (const log of logs) {
    const { objects, pages, open } = neededWal(log, bases, log === current);
    for (const ref of objects) problem = (await send(copying, ref, { there, source })) ?? problem;
    for (const ref of open) {
      const error = await send(copying, ref, { there, source });
      if (error) return failed(error);
    }
    const error = await sendPages(copying, log, pages, there);
    if (error) return failed(error);
  }
  return { error: problem };
}

async function send(
  copying: WalCopying,
  ref: ObjectRef,
  { there, source }: { there: Map<string, number | undefined>; source: string },
): Promise<LifeboatError | undefined> {
  const { from, to, report, signal, alive } = copying;
  signal.throwIfAborted();
  alive();
  if (there.get(ref.key) === ref.size) return undefined;
  try {
    if (there.has(ref.key)) {
      copying.named ??= new Map();
      const named = copying.named.get(source) ?? walNamedThere(copying, source);
      copying.named.set(source, named);
      refuseContradiction(ref, (await named).get(ref.key));
      await removeWrong(to.destination, ref.key, 'has the wrong size');
    }
    await copyObject({ from, to, onBytes: alive, signal }, ref);
  } catch (error) {
    signal.throwIfAborted();
    // A run and the continuous copying may send the same object at the same time.
    if (hasCode(error, 'DEST_EXISTS')) return undefined;
    if (error instanceof LifeboatError && (isDamage(error) || hasCode(error, 'DELETE_REFUSED'))) return error;
    throw error;
  }
  there.set(ref.key, ref.size);
  report.objects += 1;
  report.bytes += ref.size;
  return undefined;
}

/**
 * Copies pages, oldest first, then removes their earlier revisions. An earlier revision stays until the copy has the
 * later one: without any, everything that the page lists would be lost.
 *
 * @returns why a page was not copied
 */
async function sendPages(
  { from, to, alive }: WalCopying,
  { place }: Pick<WalLog, 'place'>,
  pages: readonly string[],
  there: Map<string, number | undefined>,
): Promise<LifeboatError | undefined> {
  const prefix = walPrefix(place);
  const nameOf = (key: string) => {
    const found = parsePageKey(key.slice(prefix.length));
    return found && { key, revision: found.revision, page: `${found.systemId}/${found.page}` };
  };
  const present = Map.groupBy(
    [...there.keys()].flatMap((key) => nameOf(key) ?? []),
    ({ page }) => page,
  );
  for (const key of pages) {
    alive();
    if (!there.has(key)) {
      const isIntact = await copyDocument(from.destination, to.destination, key);
      if (!isIntact) return new LifeboatError('OBJECT_DAMAGED', `${key} is damaged, so it was not copied`);
      const error = await readDocument(to.destination, key, { limit: MAX_DOCUMENT }).then(
        () => undefined,
        toLifeboatError,
      );
      if (error) return error;
      there.set(key, undefined);
    }
    const now = nameOf(key);
    for (const one of (now && present.get(now.page)) ?? []) {
      if (!now || one.revision >= now.revision) continue;
      await deleteUnlessKept(to.destination, one.key);
      there.delete(one.key);
    }
  }
  return undefined;
}

/**
 * Brings a copy one page of the log, and what it lists, without a look at the rest of the WAL there.
 *
 * @param there the keys that the copy is known to have, which the function adds to
 * @param first number of the first segment that a base backup of the copy needs
 * @returns why it was not copied; OBJECT_MISSING if the writer has replaced a part or the page meanwhile
 */
export async function copyPage(
  copying: WalCopying,
  page: WalPage,
  { there, first }: { there: Map<string, number | undefined>; first: number },
): Promise<LifeboatError | undefined> {
  const { segments, histories, segmentSize } = page;
  const isNeeded = ({ name }: { name: string }) => (parseSegmentName(name, segmentSize)?.number ?? 0) >= first;
  const parts = incompleteOf(page)
    .filter(isNeeded)
    .flatMap((one) => one.parts);
  for (const ref of [...segments.filter(isNeeded), ...histories, ...parts]) {
    const error = await send(copying, ref, { there, source: page.source });
    if (error) return error;
  }
  return sendPages(copying, { place: page }, [pageKey(page, page)], there);
}
