import path from 'node:path';
import { hasCode, LifeboatError } from '../base/errors.ts';
import { execText } from '../docker/exec.ts';
import { startHelper } from '../docker/helper.ts';
import { HELPER_KINDS, kindSpec } from '../docker/helper-kinds.ts';
import type { Mount } from '../plan/model.ts';
import type { DrillCheck } from '../report/drill-report.ts';
import { formatBoth, formatBytes, plural } from '../report/format.ts';
import { fetchIndex } from '../restore/fetch.ts';
import { parseDf } from '../sources/postgres/facts/disk.ts';
import { HELPER_ROOT } from '../sources/volume.ts';
import type { Differences } from '../store/content/verify-tree.ts';
import { equal, noneOf } from './checks/check.ts';
import { type DrillDeps, type Part, step } from './context.ts';
import { type IndexContent, type Share, writeShare } from './share.ts';

const VOLUME = '/lifeboat/drill';

/** Volumes up to this size are restored whole, unless a setting says otherwise. 20 GiB. */
const WHOLE_BYTES = 20 * 1024 ** 3;

/** Space of a file in addition to its content, at most: its last block and its inode. Bytes. */
const FILE_OVERHEAD = 4096 + 512;

/** So much stays free on the disk of the engine, bytes. */
const RESERVE = 1024 ** 3;

/**
 * Restores the files of a snapshot, or a share of them, into a throwaway volume. Then reads everything back from the
 * disk, and compares the SHA-256 of each file, and all names, owners, modes, sizes and times, with the record.
 *
 * @param from where the share of a large volume begins, from 0, below 1
 * @throws OBJECT_*, KEY_*, TREE_TARGET_FULL, HELPER_FAILED, ENGINE_*
 */
export async function drillFiles(deps: DrillDeps, part: Part, from: () => Promise<number>): Promise<void> {
  const { context, result, source, signal } = part;
  const begin = performance.now();
  const whole = await step(part, 'fetching the index', () => fetchIndex({ source, signal }, context));
  const indexPath = path.join(context.directory, 'share.ndjson');
  const size = deps.settings.share ?? Math.min(1, WHOLE_BYTES / Math.max(1, context.entry.bytes));
  const share = { size, from: size < 1 ? await from() : 0 };
  const content = await writeShare(whole, indexPath, share);
  const { files, bytes } = context.entry;
  result.checks.push(
    equal('files in the index', source, files, content.whole.files),
    equal('bytes in the index', source, bytes, content.whole.bytes),
  );
  await withVolume(deps, part, async (volume, free) => {
    const needed = content.stored + (content.files + content.symlinks) * FILE_OVERHEAD + RESERVE;
    if (free !== undefined && free < needed) {
      const [has, needs] = formatBoth(free, needed);
      throw new LifeboatError(
        'TREE_TARGET_FULL',
        `the disk of the Docker engine has ${has} free, and the drill needs ${needs}`,
        {
          hint: 'Free space on that disk, or set LIFEBOAT_DRILL_SHARE. Nothing was changed.',
        },
      );
    }
    await step(part, 'restoring the files', () => extract(deps, part, { volume, indexPath, content }));
    result.restoreMs = Math.round(performance.now() - begin);
    if (share.size < 1) Object.assign(result, { share: share.size, shareFrom: share.from });
    await step(part, 'comparing with the record', () => compare(deps, part, { volume, indexPath, content }));
    const of = share.size < 1 ? ` of ${plural(context.entry.files, 'file')}, a share of ${percent(share)}` : '';
    result.summary = `${plural(content.files, 'file')}${of}, ${formatBytes(content.bytes)} equal`;
    await part.whileUp?.({ kind: 'volume', volume });
    if (of !== '') result.notes.push('each drill restores another part of the files');
  });
}

function percent({ size }: Share): string {
  return `${Math.max(1, Math.round(size * 100))} %`;
}

interface Restored {
  volume: Mount;
  indexPath: string;
  content: IndexContent;
}

/** The restore compares the hash of what it writes, so a wrong one is an error that names the file. */
async function extract(deps: DrillDeps, part: Part, { volume, indexPath, content }: Restored): Promise<void> {
  const { context, result, source, signal } = part;
  const { id: runId, journal, packs, directory: spool, progress } = context;
  try {
    const extracted = await deps.treeStore.extract({
      ...{ indexPath, packs, select: [], target: HELPER_ROOT, spool, runId, journal: journal.file, signal, progress },
      reach: { kind: 'helper', mount: volume },
    });
    const special = Object.entries(extracted.skipped).filter(([, count]) => count > 0);
    for (const [type, count] of special)
      result.notes.push(
        `${plural(count, type)} ${count === 1 ? 'is' : 'are'} not restored: there is no content to compare`,
      );
    result.checks.push(equal('restored files', source, content.files, extracted.files));
    result.checks.push(equal('bytes', source, content.bytes, extracted.bytes));
  } catch (error) {
    if (!hasCode(error, 'OBJECT_DAMAGED', 'OBJECT_MISSING')) throw error;
    result.checks.push(noneOf('SHA-256', source, [error.message]));
    throw error;
  }
}

/** Reads everything back from the disk: names, owners, modes, sizes, times and contents. */
async function compare(deps: DrillDeps, part: Part, { volume, indexPath, content }: Restored): Promise<void> {
  const { context, result, source, signal } = part;
  const { id: runId, journal, progress } = context;
  const { names, properties, contents, read, direct } = await deps.treeStore.volume(
    { kind: 'verify', root: HELPER_ROOT, indexPath },
    { reach: { kind: 'helper', mount: volume }, runId, journal: journal.file, signal, progress },
  );
  const all = content.files + content.symlinks + content.directories;
  const check = (name: string, of: number, { count, first }: Differences): DrillCheck => {
    const more = count > first.length ? [`and ${count - first.length} more`] : [];
    return { ...equal(name, source, of, of - count), ...(count > 0 ? { differences: [...first, ...more] } : {}) };
  };
  const sha256 = check('SHA-256', read, contents);
  if (!direct) sha256.detail = 'read through the page cache, because the file system allows no direct reads';
  result.checks.push(
    check('files, symlinks and directories', all, names),
    check('owner, mode, size, time and target', all, properties),
    sha256,
  );
}

/** Calls `work` with a new volume, which the engine removes together with the helper that holds it. */
async function withVolume(
  { agent, agentImage, project }: DrillDeps,
  { context, log, signal }: Part,
  work: (volume: Mount, free: number | undefined) => Promise<void>,
): Promise<void> {
  const { engine, id } = agent;
  const fresh: Mount = { type: 'volume', source: '', destination: VOLUME, writable: true };
  const helper = await startHelper(
    {
      ...{ engine, log, signal },
      recordBefore: async (name) => context.journal.record({ type: 'helper', name }),
    },
    {
      ...kindSpec(HELPER_KINDS.drill, { data: [{ mount: fresh, target: VOLUME }] }),
      ...{ project, agent: id, runId: context.id, image: agentImage },
    },
  );
  try {
    const { mounts } = await engine.inspectContainer(helper.id, { signal });
    const volume = mounts.find(({ destination }) => destination === VOLUME);
    if (volume?.name === undefined) throw new LifeboatError('HELPER_FAILED', 'the drill helper has no volume');
    const { stdout } = await execText(engine, helper.id, { argv: ['df', '-Pk', '--', VOLUME], signal });
    await work(volume, parseDf(stdout)?.free);
  } finally {
    await helper.remove();
  }
}
