import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { createCapturer } from '../backup/capture.ts';
import type { RunContext } from '../backup/context.ts';
import type { ImportDeps } from '../import/import.ts';
import type { PathLookup } from '../import/leading-directories.ts';
import { volumePlace } from '../kept/volume-place.ts';
import type { PlannedSource } from '../plan/model.ts';
import { createDispatcher } from '../report/dispatch.ts';
import type { Listener } from '../report/events.ts';
import { lastStoredOf } from '../run/history.ts';
import type { RootMeta } from '../store/archive/unpack.ts';
import type { TreePath } from '../store/filesystem/path.ts';
import { readIndexFile } from '../store/filesystem/read-index.ts';
import { withKeyId } from '../store/objects/manifest.ts';
import { renewalRuleOf } from './destinations.ts';
import type { Environment } from './environment.ts';
import { backupDepsOf } from './wiring.ts';

/** Makes the dependencies of an import. Only the command reports it, so the record of the last run stays unchanged. */
export function importDepsOf(environment: Environment, listeners: readonly Listener[]): ImportDeps {
  const { log, settings, treeStore, now } = environment;
  const dispatcher = createDispatcher(listeners, { log });
  const state = { ...environment.state, saveLastRun: async () => undefined };
  const { capturer: _, ...deps } = backupDepsOf(environment, dispatcher);
  return {
    ...deps,
    state,
    agent: environment.agent,
    repository: () => environment.repository({ create: true }),
    capturerWith: (make) => (context) =>
      createCapturer(
        {
          ...{ state, dispatcher, treeStore, now, shrinkageShare: settings.fall, clear: deps.clear, zone: deps.zone },
          renewal: renewalRuleOf(settings),
          makeSource: make,
          spool: path.join(environment.runs, context.run.id),
        },
        context,
      ),
    lastRoot: (source, context) => lastRoot(environment, source, context),
    knownOf: (planned, paths, context) => lookUpPaths(environment, planned, paths, context),
  };
}

/** Fetches the index of the last snapshot of a source. Returns its path on the spool. */
async function lastIndex({ runs }: Environment, source: string, context: RunContext): Promise<string | undefined> {
  const manifests = context.snapshots.map(({ manifest }) => manifest);
  const last = lastStoredOf(manifests, source)?.entry;
  if (!last?.index) return undefined;
  const file = path.join(runs, context.run.id, `last-${randomUUID()}.ndjson`);
  await context.repository.fetchIndex(withKeyId(last.index, last), file, context.signal);
  return file;
}

async function lastRoot(environment: Environment, source: string, context: RunContext): Promise<RootMeta | undefined> {
  const file = await lastIndex(environment, source, context);
  if (file === undefined) return undefined;
  for await (const { mode, uid, gid, mtime } of readIndexFile(file)) return { mode, uid, gid, mtime };
  return undefined;
}

/** Names that are no patterns, so that they can be searched for. */
const PLAIN_NAME = /^[\w .+-]+$/;

/**
 * Returns which paths the last snapshot has. Without a snapshot, checks the source itself for files below the first
 * path. A directory without files counts as unknown, and so does a name that may be a pattern.
 */
export async function lookUpPaths(
  environment: Environment,
  planned: PlannedSource,
  paths: readonly TreePath[],
  context: RunContext,
): ReturnType<PathLookup> {
  const file = await lastIndex(environment, planned.name, context);
  if (file !== undefined) {
    const found = new Set<TreePath>();
    const wanted = new Set(paths);
    for await (const entry of readIndexFile(file)) if (wanted.has(entry.path)) found.add(entry.path);
    return found;
  }
  const [first] = paths;
  if (first === undefined || !PLAIN_NAME.test(first)) return undefined;
  if (planned.kind === 'postgres' || planned.kind === 'base') return undefined;
  const { treeStore, self } = environment;
  const { root, reach } =
    planned.kind === 'files'
      ? { root: planned.root, reach: { kind: 'here' as const } }
      : volumePlace(planned.mount, self.facts.mounts);
  const { files } = await treeStore.measure({
    ...{ root, reach, include: [`${first}/**`], exclude: [] },
    ...{ runId: context.run.id, signal: context.signal },
  });
  return files > 0 ? new Set([first]) : undefined;
}
