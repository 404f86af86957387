import { mkdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import { restoreTarget } from '../kept/target.ts';
import { recoverVolumes } from '../kept/undo-volumes.ts';
import { type VolumePlace, volumeName, volumePlace } from '../kept/volume-place.ts';
import { checkWhole, swapVolume } from '../kept/volumes.ts';
import type { VolumeSource } from '../plan/model.ts';
import { formatBoth, formatBytes, plural } from '../report/format.ts';
import type { TreeDifference } from '../store/content/compare-tree.ts';
import type { ExtractedTree } from '../store/content/extracted-tree.ts';
import type { BuiltTree } from '../store/exchange/build-tree.ts';
import { areaName } from '../store/filesystem/area.ts';
import type {
  PreparedRestore,
  RestoreContext,
  RestoreDeps,
  Restored,
  RestorePreview,
  RestoreRequest,
} from './context.ts';
import { checkTargetDirectory } from './directory.ts';
import { fetchIndex, keptDirectories } from './fetch.ts';
import { checkPaths, refuseOptions, withCompanions } from './paths.ts';
import { newerNote } from './preview.ts';
import { oldLogWarnings, prepareFile } from './single-file.ts';

/** The target of a restore of files. */
interface Target extends VolumePlace {
  /** as messages show it */
  name: string;
  planned?: NonNullable<RestorePreview['target']>;
  /** directories that were created for it, the topmost first */
  made: string[];
}

interface Work {
  deps: RestoreDeps;
  request: RestoreRequest;
  context: RestoreContext;
  target: Target;
  indexPath: string;
  difference: TreeDifference;
}

/**
 * Prepares a restore of files into their volume or a directory. The files are built alongside on the same volume,
 * compared with their recorded hashes, and moved into place by renames. Replaced files, and files that the snapshot
 * does not have, are put aside on the same volume for a rollback.
 *
 * @throws USAGE, PATH_UNKNOWN, SOURCE_UNKNOWN, TREE_TARGET_NOT_EMPTY, TREE_TARGET_REFUSED, TREE_TARGET_FULL,
 * TREE_HALF_RESTORED, OBJECT_MISSING, OBJECT_DAMAGED, before anything changes
 */
export async function prepareVolume(
  deps: RestoreDeps,
  asked: RestoreRequest,
  context: RestoreContext,
): Promise<PreparedRestore> {
  refuseOptions(asked, context);
  const { entry, packs, repository } = context;
  await repository.checkObjects([entry.index, entry.facts, ...packs]);
  const indexPath = await fetchIndex(asked, context);
  await checkPaths(asked.paths, indexPath);
  const request = { ...asked, paths: await withCompanions(asked.paths, indexPath) };
  const planned = await plannedTarget(deps, request);
  if (planned?.mount.kind === 'file') return prepareFile(deps, request, context, { planned, indexPath });
  const target = await findTarget(deps, request, context, planned);
  let begun = false;
  try {
    const { root, reach } = target;
    await checkWhole(deps.journals, context.journal.file, target);
    const { paths, overwrite, signal } = request;
    const job = { kind: 'compare' as const, root, indexPath, packs, paths, overwrite };
    const running = { reach, runId: context.id, journal: context.journal.file, signal, progress: context.progress };
    const difference = await deps.treeStore.volume(job, running);
    const work: Work = { deps, request, context, target, indexPath, difference };
    const preview = previewOf(work);
    let built: BuiltTree | undefined;
    return {
      preview,
      async fetch() {
        begun = true;
        built = await build(work);
      },
      swap: async (keep) => swap(work, built as BuiltTree, keep),
      close: () => close(work.deps, context, target, begun),
    };
  } catch (error) {
    await close(deps, context, target, begun);
    throw error;
  }
}

/** Returns the source whose volume is restored. Undefined for a directory. */
async function plannedTarget(deps: RestoreDeps, { to, source, toDirectory }: RestoreRequest) {
  return toDirectory === undefined ? await restoreTarget(deps, to ?? source, 'volume') : undefined;
}

async function findTarget(
  deps: RestoreDeps,
  { toDirectory = '' }: RestoreRequest,
  context: RestoreContext,
  planned: VolumeSource | undefined,
): Promise<Target> {
  if (planned)
    return { ...volumePlace(planned.mount, deps.agentMounts), name: volumeName(planned.mount), planned, made: [] };
  await checkTargetDirectory(toDirectory, deps.agentMounts, keptDirectories(context));
  const first = await mkdir(toDirectory, { recursive: true, mode: 0o700 });
  const made: string[] = [];
  for (let at = path.resolve(toDirectory); first !== undefined; at = path.dirname(at)) {
    made.unshift(at);
    if (at === path.resolve(first)) break;
  }
  return { root: toDirectory, reach: { kind: 'process' }, name: toDirectory, made };
}

function previewOf({ request, context, target, difference }: Work): RestorePreview {
  const { present, added, replaced, extra, equal, newer, fetch, needed, free } = difference;
  const { toDirectory, paths, overwrite } = request;
  if (toDirectory !== undefined && present.entries > 0) {
    throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `the directory ${toDirectory} is not empty`, {
      hint: 'Restore into a new directory, check its content, and move it.',
    });
  }
  if (needed > free) {
    const [has, needs] = formatBoth(free, needed);
    throw new LifeboatError(
      'TREE_TARGET_FULL',
      `${target.name} has ${has} free, and the restore alongside the present data needs ${needs}`,
      {
        hint: 'Restore only a part with --path, elsewhere with --to-directory, or free space: `lifeboat status` shows the data that earlier restores put aside.',
      },
    );
  }
  const whole = paths.length === 0;
  const changes = whole ? present.entries > 0 : replaced > 0;
  if (whole && changes) refuseLeftOut(context, target);
  const counts = [
    `${plural(added, 'file')} added`,
    `${plural(replaced, 'file')} replaced`,
    ...(paths.length > 0 ? [] : [`${plural(extra, 'file')} not in the snapshot moved away`]),
    `${plural(equal, 'file')} the same`,
  ].join(', ');
  const detail = `${formatBytes(present.bytes)} in ${plural(present.files, 'file')}; ${counts}`;
  const creates = whole ? [target.name] : added > 0 ? [`${plural(added, 'file')} in ${target.name}`] : [];
  return {
    ...(target.planned ? { target: target.planned } : {}),
    replaces: changes ? [{ name: target.name, detail }] : [],
    creates: changes ? [] : creates,
    left: [],
    bytes: fetch,
    space: { where: target.name, needed, free },
    notes: [...newerNote(newer, !whole && !overwrite), ...(whole && changes ? missingNotes(context, target) : [])],
  };
}

/**
 * Refuses to put aside the data of a database that the snapshot leaves out: its server would start with an empty
 * directory.
 *
 * @throws TREE_TARGET_REFUSED
 */
function refuseLeftOut({ entry }: RestoreContext, { name }: Target): void {
  if (!entry.leftOut?.length) return;
  const message = `the snapshot leaves out the data of a database, and a restore of the whole of ${name} would put it aside: ${entry.leftOut.join(', ')}`;
  throw new LifeboatError('TREE_TARGET_REFUSED', message, {
    hint: 'Restore what you need with --path, or everything with --to-directory DIR.',
  });
}

/** Warns that files which the snapshot lacks are moved away too, also those that were left out on purpose. */
function missingNotes({ entry }: RestoreContext, { planned }: Target): string[] {
  const filtered = planned?.kind === 'volume' && planned.include.length + planned.exclude.length > 0;
  return [
    ...(filtered
      ? [
          'files that lifeboat.volumes.include and exclude leave out of backups are put aside too; with --path they stay',
        ]
      : []),
    ...(entry.status === 'partial' ? ['the snapshot lacks files that could not be read'] : []),
  ];
}

async function build({ deps, request, context, target, indexPath, difference }: Work): Promise<BuiltTree> {
  const { id, journal, packs, directory } = context;
  const { root, reach, mount, name } = target;
  request.say(
    `  writing ${request.paths.length > 0 ? 'the files' : 'all files'} alongside, in ${areaName('restoring', id)} of ${name}`,
  );
  journal.record({ type: 'volume', id, root, reach, ...(mount ? { mount } : {}) });
  const { paths, overwrite, signal } = request;
  const snapshot = { indexPath, packs, paths, overwrite };
  return deps.treeStore.volume(
    { kind: 'build', root, id, journal: journal.file, spool: directory, needed: difference.needed, ...snapshot },
    { reach, runId: id, journal: journal.file, signal, progress: context.progress },
  );
}

async function swap(work: Work, built: BuiltTree, keep: Parameters<PreparedRestore['swap']>[0]): Promise<Restored> {
  const { deps, request, context, target, difference } = work;
  const { id, journal, snapshot } = context;
  const { name, planned } = target;
  // A directory is empty, so nothing is put aside.
  const whole = request.paths.length === 0 || planned === undefined;
  const putsAside = planned !== undefined && (!whole || difference.present.entries > 0);
  // The user confirmed nothing, and no service was stopped, so the volume must still be empty.
  const empty = request.paths.length === 0 && difference.present.entries === 0;
  const done = await swapVolume({
    ...{ deps, place: target, now: deps.now(), progress: context.progress },
    run: { id, journal: journal.file, signal: request.signal },
    built: { areas: built.areas, whole, empty, snapshot: snapshot.id },
    keep: putsAside ? (volume) => keep(volume ? { volume } : {}) : undefined,
  });
  const { kept: aside, swapMs } = done;
  target.made = [];
  const kept = aside === undefined ? {} : { kept: areaName('before', aside.area) };
  const { files, bytes } = built;
  request.say(`  ${plural(files, 'file')}, ${formatBytes(bytes)} are in ${name}, each compared with its recorded hash`);
  const left = [
    ...(built.equal > 0 ? [`${plural(built.equal, 'file')} equal already`] : []),
    ...(built.newer > 0 ? [`${plural(built.newer, 'file')} newer than the snapshot`] : []),
  ];
  if (left.length > 0) request.say(`  left as they are: ${left.join(', ')}`);
  return {
    restored: [{ target: name, files, bytes, ...kept }],
    ...(swapMs === undefined ? {} : { withoutDataMs: swapMs }),
    warnings: [...specialFiles(built), ...oldLogWarnings(request, context.entry), ...done.warnings],
  };
}

function specialFiles({ skipped }: ExtractedTree): string[] {
  const found = Object.entries(skipped).filter(([, count]) => count > 0);
  return found.map(
    ([type, count]) => `not restored, because the snapshot has no content of them: ${plural(count, type)}`,
  );
}

/** Removes files that were built and are not in place. Recovery at the next start removes the rest. */
async function close(deps: RestoreDeps, context: RestoreContext, target: Target, begun: boolean): Promise<void> {
  const { journal } = context;
  try {
    if (begun) await recoverVolumes(deps, await journal.entries(), journal.file);
    // rmdir only removes empty directories: a restore that did not happen leaves none.
    for (const directory of target.made.toReversed()) await rmdir(directory);
  } catch (error) {
    deps.log.debug('there is nothing more to clean up', { ...errorInfo(error) });
  }
}
