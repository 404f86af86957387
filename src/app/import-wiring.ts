import path from 'node:path';
import { createCapturer } from '../backup/capture.ts';
import type { RunContext } from '../backup/context.ts';
import type { ImportDeps } from '../import/import.ts';
import { createDispatcher } from '../report/dispatch.ts';
import type { Listener } from '../report/events.ts';
import { lastStoredOf } from '../run/history.ts';
import type { RootMeta } from '../store/archive/unpack.ts';
import { readIndexFile } from '../store/filesystem/read-index.ts';
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
          ...{ state, dispatcher, treeStore, now, shrinkageShare: settings.fall, clear: deps.clear },
          renewal: renewalRuleOf(settings),
          makeSource: make,
          spool: path.join(environment.runs, context.run.id),
        },
        context,
      ),
    lastRoot: (source, context) => lastRoot(environment, source, context),
  };
}

async function lastRoot({ runs }: Environment, source: string, context: RunContext): Promise<RootMeta | undefined> {
  const manifests = context.snapshots.map(({ manifest }) => manifest);
  const last = lastStoredOf(manifests, source)?.entry.index;
  if (!last) return undefined;
  const file = path.join(runs, context.run.id, 'last.ndjson');
  await context.repository.fetchIndex(last, file, context.signal);
  for await (const { mode, uid, gid, mtime } of readIndexFile(file)) return { mode, uid, gid, mtime };
  return undefined;
}
