import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from './errors.ts';
import { Journal, readJournal } from './journal.ts';
import { formatAgo } from './report/format.ts';
import type { RestoreContext, RestoreDeps, RestoreRequest, RestoreResult } from './restore-context.ts';
import { restoreDatabases } from './restore-database.ts';
import { fetchTree, restoreTree } from './restore-volume.ts';
import type { Manifest, ManifestSource } from './store/manifest.ts';
import type { Repository } from './store/repository.ts';
import { newSnapshotId } from './store/snapshot-id.ts';
import { openDatabases } from './working-databases.ts';

/**
 * The line of backup.ts backwards: resolve → fetch → load → compare → report. Existing data is never replaced: everything
 * is checked before anything is made, and what is made gets its final name last.
 *
 * Errors: SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN, PG_TARGET_EXISTS, TREE_TARGET_NOT_EMPTY before anything was touched.
 */
export async function restore(deps: RestoreDeps, request: RestoreRequest): Promise<RestoreResult> {
  const lock = await deps.lock();
  const startedAt = deps.now();
  try {
    await deps.recover();
    const repository = await deps.repository();
    const { snapshot, entry } = await find(repository, request);
    const age = formatAgo(new Date(snapshot.end), startedAt);
    request.say(`Restore ${request.source} from ${snapshot.id} (${age})`);
    for (const warning of entry.warnings) request.say(`  warning, recorded then: ${warning}`);
    const id = newSnapshotId(startedAt);
    const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId });
    const directory = path.join(deps.spool, id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const context: RestoreContext = { id, journal, directory, repository, snapshot, entry };
    try {
      const done =
        entry.kind === 'postgres'
          ? await restoreDatabases(deps, request, context, (to, select) =>
              fetchTree(deps, request, context, to, select),
            )
          : await restoreTree(deps, request, context);
      const durationMs = deps.now().getTime() - startedAt.getTime();
      return { snapshot: snapshot.id, source: request.source, ...done, durationMs };
    } finally {
      await rm(directory, { recursive: true, force: true });
      // What could not be dropped from here, because the helper is gone, gets one more try with a new one.
      if (openDatabases(await readJournal(journal.file)).size > 0) await deps.recover();
      else await journal.close();
    }
  } finally {
    await lock.release();
  }
}

async function find(
  repository: Repository,
  request: RestoreRequest,
): Promise<{ snapshot: Manifest; entry: ManifestSource }> {
  const { source } = request;
  if (request.snapshot === 'latest') return findLatest(repository, source);
  const { manifest: snapshot } = await repository.resolve(request.snapshot);
  const entry = snapshot.sources[source];
  if (!entry || entry.status === 'failed') {
    const good = Object.keys(snapshot.sources).filter((name) => snapshot.sources[name]?.status !== 'failed');
    throw new LifeboatError('SOURCE_UNKNOWN', `snapshot ${snapshot.id} does not hold ${source}`, {
      hint: sourceHint(good),
    });
  }
  return { snapshot, entry };
}

/** The newest snapshot that holds the source. With a damaged manifest among the newer ones that cannot be told. */
async function findLatest(
  repository: Repository,
  source: string,
): Promise<{ snapshot: Manifest; entry: ManifestSource }> {
  const { snapshots, damaged } = await repository.snapshots();
  const found = snapshots.find(({ manifest }) => (manifest.sources[source]?.status ?? 'failed') !== 'failed');
  const newer = damaged.find(({ id }) => found === undefined || id > found.manifest.id);
  if (newer) {
    throw new LifeboatError(
      newer.error.code,
      `the manifest of ${newer.id} cannot be read, so the latest is not known`,
      {
        cause: newer.error,
        hint: found
          ? `The newest one that can be read is ${found.manifest.id}: name it to restore it.`
          : 'No other snapshot holds the source.',
      },
    );
  }
  if (found) return { snapshot: found.manifest, entry: found.manifest.sources[source] as ManifestSource };
  const names = new Set(snapshots.flatMap(({ manifest }) => Object.keys(manifest.sources)));
  throw new LifeboatError('SOURCE_UNKNOWN', `no snapshot holds ${source}`, { hint: sourceHint([...names]) });
}

function sourceHint(names: string[]): string {
  return names.length === 0 ? 'The repository holds no snapshot yet.' : `There is: ${names.sort().join(', ')}.`;
}
