import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { CONFIG, SPOOL } from './agent.ts';
import { LifeboatError } from './errors.ts';
import { formatBytes, formatCount } from './report/format.ts';
import {
  type RestoreContext,
  type RestoreDeps,
  type RestoreRequest,
  type RestoreResult,
  restoreTarget,
} from './restore-context.ts';
import { checkTargetDirectory } from './restore-directory.ts';
import type { Reach } from './sources/source.ts';
import { HELPER_ROOT, pathInAgent } from './sources/volume.ts';

/** A source that is files: into a directory, or into its own volume, which has to be empty. */
export async function restoreTree(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
): Promise<Pick<RestoreResult, 'restored' | 'left' | 'warnings'>> {
  if (request.toDatabase !== undefined || request.database !== undefined) {
    throw new LifeboatError('USAGE', `${request.source} is not a database`, {
      hint: 'Use --to-directory DIR, or no target for its own volume.',
    });
  }
  const where = request.toDirectory ?? `volume of ${request.source}`;
  const extracted =
    request.toDirectory !== undefined
      ? await fetchTree(deps, request, context, request.toDirectory, [])
      : await intoVolume(deps, request, context);
  request.say(
    `  ${formatCount(extracted.files)} files, ${formatBytes(extracted.bytes)} are in ${where}, every one compared with its recorded hash`,
  );
  const skipped = Object.entries(extracted.skipped).filter(([, count]) => count > 0);
  const warnings = skipped.map(
    ([type, count]) => `${count} ${type} entries were recorded but have no content to restore`,
  );
  return { restored: [{ target: where, files: extracted.files, bytes: extracted.bytes }], left: [], warnings };
}

async function intoVolume(deps: RestoreDeps, request: RestoreRequest, context: RestoreContext) {
  if (context.entry.kind === 'files') {
    throw new LifeboatError('USAGE', `${request.source} is mounted read-only into the agent as a rule`, {
      hint: 'Restore it with --to-directory DIR and copy the files from there.',
    });
  }
  const planned = await restoreTarget(deps, request.source, 'volume');
  const here = pathInAgent(
    planned.mount,
    deps.agentMounts.filter((mount) => mount.writable),
  );
  request.say(`  into ${planned.mount.name ?? planned.mount.source} of ${planned.containerName}, which must be empty`);
  const reach =
    here === undefined ? ({ kind: 'helper', mount: planned.mount } as const) : ({ kind: 'process' } as const);
  return extract(deps, request, context, here ?? HELPER_ROOT, [], reach);
}

/**
 * The selected paths of a source's tree (none selected: all) into a directory of the agent, which has to be empty: one of
 * the restore's own spool, or one that the user named. Throws TREE_TARGET_REFUSED for a bad choice.
 */
export async function fetchTree(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
  directory: string,
  select: string[],
) {
  const own = directory.startsWith(`${context.directory}/`);
  if (!own) await checkTargetDirectory(directory, deps.agentMounts, keptDirectories(context));
  return extract(deps, request, context, directory, select, { kind: own ? 'here' : 'process' });
}

function keptDirectories({ repository }: RestoreContext): { directory: string; holds: string }[] {
  const { name } = repository.destination;
  return [
    { directory: SPOOL, holds: 'its spool' },
    { directory: CONFIG, holds: 'the files that are the source config' },
    ...(name.startsWith('/') ? [{ directory: name, holds: 'the backups' }] : []),
  ];
}

async function extract(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
  directory: string,
  select: string[],
  reach: Reach,
) {
  const { entry, repository, journal } = context;
  if (!entry.index)
    throw new LifeboatError('OBJECT_MISSING', `snapshot ${context.snapshot.id} has no index of ${request.source}`);
  const indexPath = path.join(context.directory, `index-${randomUUID()}.ndjson`);
  await repository.fetchIndex(entry.index, indexPath, request.signal);
  return deps.treeStore.extract({
    indexPath,
    packs: entry.packs,
    target: directory,
    select,
    spool: context.directory,
    reach,
    runId: context.id,
    journal: journal.file,
    signal: request.signal,
    progress: () => undefined,
  });
}
