import type { Pruned, RunReport } from './events.ts';
import { formatBytes, formatWhen, oneLine, plural, table } from './format.ts';
import type { Paint } from './paint.ts';
import { isRegularRun } from './trigger.ts';

/** The subject of problems that a run has with its prune. */
export const PRUNE = 'prune';

/** Packs of a source that the next backup no longer uses, because much of them is unused. */
export interface Renewed {
  source: string;
  /** number of packs */
  packs: number;
  /** their stored size, bytes: free once no older snapshot needs them */
  bytes: number;
  /** content that the backup stores again, bytes before compression */
  again: number;
}

/** The parts of a prune's result that are shown. Sizes in bytes, times ISO. */
interface PruneView {
  dryRun: boolean;
  snapshots: number;
  objects: number;
  bytes: number;
  decisions: {
    id: string;
    keep: boolean;
    sources: Record<string, string[]>;
    always: string[];
    start: string;
    status: string;
    trigger: string;
  }[];
  waiting: { objects: number; bytes: number; from?: string };
  refused?: { snapshots: number; objects: number };
  unreadable?: Pruned['unreadable'];
  held?: Pruned['held'];
  unread?: Pruned['unread'];
  renewal?: readonly Renewed[];
}

/** Renders each snapshot with the reason why it stays or goes, and the deleted objects. */
export function renderPrune(view: PruneView, { now, zone }: { now: Date; zone: string }): string {
  if (view.decisions.length === 0) return 'No snapshot yet.';
  const rows = view.decisions.map((one) => [
    one.id,
    formatWhen(new Date(one.start), { now, zone }),
    one.keep ? 'keep' : 'remove',
    one.keep ? oneLine(reasons(one)) : `no source needs it (${Object.keys(one.sources).join(', ')})`,
  ]);
  const { snapshots, objects, bytes, waiting, dryRun } = view;
  const will = dryRun ? 'would be ' : '';
  const lines = [
    ...table([['SNAPSHOT', 'TAKEN', '', 'WHY'], ...rows]),
    '',
    `${plural(snapshots, 'snapshot')} ${will}removed, ${plural(view.decisions.length - snapshots, 'snapshot')} kept`,
    `${plural(objects, 'object')} (${formatBytes(bytes)}) ${will}deleted`,
  ];
  if (waiting.objects > 0) {
    const from = waiting.from === undefined ? '' : ` from ${formatWhen(new Date(waiting.from), { now, zone })} on`;
    lines.push(
      `${plural(waiting.objects, 'object')} (${formatBytes(waiting.bytes)}) no longer needed, to be deleted${from}`,
    );
  }
  lines.push(...(view.renewal ?? []).map(renewedText));
  if (view.refused) {
    const { snapshots: kept, objects: more } = view.refused;
    lines.push(
      `${plural(kept, 'snapshot')} and ${plural(more, 'object')} stay, because the destination refuses to delete them (DELETE_REFUSED)`,
    );
  }
  if (view.unreadable) lines.push(`${doubtedText(view.unreadable)}. ${forgetHint(view.unreadable)}`);
  if (view.unread) lines.push(`${unreadText(view.unread)}. ${LIST_HINT}`);
  if (view.held) lines.push(heldBack(view.held));
  return lines.join('\n');
}

/** Returns a line about what a prune did, or none. */
export function prunedLines(pruned: Pruned, paint: Paint): string[] {
  const parts = [...prunedParts(pruned), ...(pruned.held ? [heldBack(pruned.held)] : [])];
  return parts.length === 0 ? [] : [`  ${paint.dim(parts.join('; '))}`];
}

/**
 * Returns `pruned 2 old snapshots` and `161 MiB freed`, as far as they apply. The freed bytes belonged to snapshots
 * that were pruned a day ago or earlier.
 */
export function prunedParts({ snapshots, objects, bytes, refused }: Pruned): string[] {
  const parts: string[] = [];
  if (snapshots > 0) parts.push(`pruned ${plural(snapshots, 'old snapshot')}`);
  if (objects > 0) parts.push(`${formatBytes(bytes)} freed`);
  if (refused && refused.snapshots > 0) {
    parts.push(`${plural(refused.snapshots, 'old snapshot')} that the destination refuses to delete`);
  }
  return parts;
}

/** `the next backup stores 12 MiB of web.media again, to free 3 packs (40 MiB) once no older snapshot needs them`. */
function renewedText({ source, packs, bytes, again }: Renewed): string {
  const freed = `${plural(packs, 'pack')} (${formatBytes(bytes)})`;
  return `the next backup stores ${formatBytes(again)} of ${oneLine(source)} again, to free ${freed} once no older snapshot needs them`;
}

/** `no pack is deleted (3 objects may be unneeded), because the manifest of … cannot be read and could name it`. */
export function doubtedText({ snapshots, objects }: NonNullable<Pruned['unreadable']>): string {
  const [first = '', ...others] = snapshots;
  const more = others.length === 0 ? '' : ` and ${plural(others.length, 'other manifest')}`;
  const due = objects === 0 ? '' : ` (${plural(objects, 'object')} may be unneeded)`;
  return `no pack is deleted${due}, because the manifest of ${first}${more} cannot be read and could name it`;
}

/** Returns what to do about unreadable manifests that keep packs from being deleted. */
export function forgetHint({ snapshots }: NonNullable<Pruned['unreadable']>): string {
  return `Bring the manifest back from a copy with \`lifeboat copy --from\`, or give it up with \`lifeboat forget ${snapshots[0]} --unreadable\`.`;
}

/** `no pack is deleted, because 1 list of packs cannot be read and could name it: …`. */
export function unreadText(lists: NonNullable<Pruned['unread']>): string {
  return `no pack is deleted, because ${plural(lists.length, 'list')} of packs cannot be read and could name it: ${oneLine(lists[0] ?? '')}`;
}

/** The hint for lists of packs that cannot be read. */
export const LIST_HINT =
  'Bring the list back from a copy with `lifeboat copy --from`. Otherwise, packs are deleted again once retention has removed the snapshots that need it; `lifeboat check` names them.';

/** `4 old snapshots kept because web.media failed last`. */
function heldBack({ snapshots, sources }: NonNullable<Pruned['held']>): string {
  return `${plural(snapshots, 'old snapshot')} kept because ${oneLine(sources.join(', '))} failed last`;
}

/** Returns a line for `status` if the retention after the last run removed less than it should, else none. */
export function retentionLines({ pruned, problems, snapshot, trigger }: RunReport, paint: Paint): string[] {
  if (!isRegularRun(trigger)) return [];
  const failed = problems.find(({ subject }) => subject === PRUNE);
  if (failed) return [`  ${paint.bad('!')} retention: ${oneLine(failed.message)} (${failed.code})`];
  if (snapshot === undefined) return ['  retention: nothing was removed, because the run stored nothing'];
  return pruned?.held ? [`  retention: ${heldBack(pruned.held)}`] : [];
}

/** Joins the reasons. One that several sources share appears once: `daily 2026-11-20 (db.postgres, web.media)`. */
function reasons({ always, sources }: PruneView['decisions'][number]): string {
  const by = new Map<string, string[]>();
  for (const [name, all] of Object.entries(sources)) {
    for (const why of all) by.set(why, [...(by.get(why) ?? []), name]);
  }
  const names = Object.keys(sources);
  const shared = [...by].map(([why, of]) =>
    of.length === names.length || of.every((name) => why.includes(name)) ? why : `${why} (${of.join(', ')})`,
  );
  return [...always, ...shared].join(' · ');
}
