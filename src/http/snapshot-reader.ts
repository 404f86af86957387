import path from 'node:path';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import { type DirectoryPage, readDirectory } from '../overview/browse.ts';
import { withLookDirectory } from '../run/spool.ts';
import type { TreePath } from '../store/filesystem/path.ts';
import { readIndexFile } from '../store/filesystem/read-index.ts';
import { type Manifest, withKeyId } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { HttpDeps } from './deps.ts';
import type { ServerFacts, SnapshotFacts } from './page/snapshot.ts';

/** The most requests that may wait for their turn. */
const MAX_WAITING = 8;

/** Reads the content of snapshots from the destination. */
export interface SnapshotReader {
  /** Returns the facts of each database source. A source whose facts cannot be read has an error instead. */
  readFacts(manifest: Manifest): Promise<SnapshotFacts>;
  /** Reads a page of a directory. @throws SOURCE_UNKNOWN, OBJECT_*, KEY_*, DEST_*; LOCKED if too many requests wait */
  readDirectory(manifest: Manifest, of: DirectoryOf, signal: AbortSignal): Promise<DirectoryPage>;
}

interface DirectoryOf {
  source: string;
  directory: TreePath;
  after: number;
  most: number;
}

/**
 * Creates a reader. Requests take turns, because facts and indexes may be large: the agent's memory does not grow with
 * the number of readers.
 */
export function createSnapshotReader(deps: Pick<HttpDeps, 'own' | 'runs' | 'state'>): SnapshotReader {
  const inTurn = createQueue();
  const open = async (): Promise<Repository> => {
    const { repository, error } = await deps.own.look();
    if (error) throw error;
    if (!repository) throw new LifeboatError('SNAPSHOT_UNKNOWN', 'there is no backup yet');
    return repository;
  };
  return {
    readFacts: (manifest) =>
      inTurn(async () => {
        const found = new Map<string, ServerFacts | { error: string }>();
        for (const [name, entry] of Object.entries(manifest.sources)) {
          if (entry.kind !== 'postgres' || !entry.facts) continue;
          const { facts: object } = entry;
          // Without the destination, the manifest is still known.
          const facts = await open()
            .then((repository) => repository.readFacts(withKeyId(object, entry)))
            .then(asServer, (error: unknown) => {
              const { message, code } = errorInfo(error);
              return { error: `${message} (${code})` };
            });
          found.set(name, facts);
        }
        return found;
      }),
    readDirectory: (manifest, { source, directory, ...page }, signal) =>
      inTurn(async () => {
        // Who waited for a turn may have left.
        signal.throwIfAborted();
        const entry = manifest.sources[source];
        if (!entry?.index) throw new LifeboatError('SOURCE_UNKNOWN', 'the snapshot has no files of that source');
        const { index } = entry;
        const cached = await deps.state.cachedIndex(source, index.sha256);
        if (cached !== undefined) return readDirectory(readIndexFile(cached), directory, { ...page, signal });
        const repository = await open();
        return withLookDirectory(deps.runs, async (look) => {
          const file = path.join(look, 'index.ndjson');
          await repository.fetchIndex(withKeyId(index, entry), file, signal);
          return readDirectory(readIndexFile(file), directory, { ...page, signal });
        });
      }),
  };
}

/** Facts come from a document that this or another version of the agent wrote. */
function asServer(value: unknown): ServerFacts | { error: string } {
  return isServer(value) ? value : { error: 'its facts have an unknown form' };
}

function isServer(value: unknown): value is ServerFacts {
  if (typeof value !== 'object' || value === null || !('databases' in value) || !('server' in value)) return false;
  const { databases, server } = value;
  const isDatabase = (one: unknown) =>
    typeof one === 'object' && one !== null && 'name' in one && 'tables' in one && Array.isArray(one.tables);
  return typeof server === 'object' && server !== null && Array.isArray(databases) && databases.every(isDatabase);
}

/** Returns a function that runs one work at a time. @throws LOCKED if too many wait */
function createQueue(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return async (work) => {
    if (waiting >= MAX_WAITING) throw new LifeboatError('LOCKED', 'too many requests wait for their turn');
    waiting += 1;
    const turn = last.then(work, work).finally(() => {
      waiting -= 1;
    });
    last = turn.catch(() => undefined);
    return turn;
  };
}
