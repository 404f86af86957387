import { EXIT } from '../base/exit.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { readWindows, type SourceWindows } from '../overview/windows.ts';
import { formatAge, formatAgo, formatBytes, oneLine } from '../report/format.ts';
import type { Window } from '../store/wal/windows.ts';
import type { CopiedWal, ReceiverState } from '../wal/receiver-state.ts';
import { type Call, print } from './call.ts';

/** `lifeboat windows`: shows to which times each database can be recovered. */
export async function showWindows(call: Call): Promise<number> {
  const [wanted] = call.operands as [string | undefined];
  const plan = call.app.found ? await call.app.plan() : undefined;
  const all = await readWindows(call.app, call.io.signal, { plan, wanted });
  const missing = call.app.found ? await missingImages(call.app.engine, all) : new Set<string>();
  const now = new Date();
  print(call, 'windows', { sources: all }, () =>
    all.length === 0
      ? 'No source has the label lifeboat.postgres.pitr.'
      : all.flatMap((one) => windowLines(one, { now, missing })).join('\n'),
  );
  return all.some(({ windows }) => windows.length > 0) ? EXIT.done : EXIT.nothing;
}

/** Returns the images of base backups that the engine does not have. One that cannot be looked up is not missing. */
export async function missingImages(
  engine: Pick<Engine, 'inspectImage'>,
  sources: readonly Pick<SourceWindows, 'windows'>[],
): Promise<Set<string>> {
  const bases = sources.flatMap(({ windows }) => windows.flatMap((one) => one.bases));
  const isHere = async (name: string) =>
    engine.inspectImage(name).then(
      () => true,
      (error: unknown) => !isNotFound(error),
    );
  const missing = new Set<string>();
  for (const [label, names] of new Map(bases.map((base) => [imageOf(base), [base.image, base.imageDigest]]))) {
    const known = names.filter((name) => name !== undefined && name !== '') as string[];
    const found = await Promise.all(known.map(isHere));
    if (label !== undefined && !found.includes(true)) missing.add(label);
  }
  return missing;
}

/** Names the image of a base backup. */
function imageOf({ image, imageDigest }: Window['bases'][number]): string | undefined {
  return imageDigest ?? (image === '' ? undefined : image);
}

/**
 * Renders the windows of a source: one line for each window and hole, in order, and for each image that is missing.
 *
 * @param missing see {@link missingImages}; absent: nobody has looked
 */
export function windowLines(
  { name, windows, holes, receiver, copies, problems }: SourceWindows,
  { now, missing = new Set() }: { now: Date; missing?: ReadonlySet<string> },
): string[] {
  const lines = [
    ...windows.map((one) => ({
      at: one.from,
      text: `  ${short(one.from)} → ${short(one.to)} (${formatAgo(new Date(one.to), now)}), ${timelineOf(one)}`,
    })),
    ...holes.map((one) => ({ at: one.from, text: `  ! not ${short(one.from)} → ${short(one.to)}: ${one.why}` })),
  ].sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  const head = windows.length === 0 ? `${oneLine(name)}: cannot be recovered to any time yet` : oneLine(name);
  return [
    head,
    ...lines.map(({ text }) => text),
    ...imageLines(windows, missing),
    ...receiverLines(receiver, now),
    ...Object.entries(copies).map(([copy, copied]) => copyLine(copy, copied, { receiver, now })),
    ...problems.map(({ code, message }) => `  ! ${message} (${code})`),
  ];
}

/** Says which windows need an image that is not here, with the last time that does. */
function imageLines(windows: readonly Window[], missing: ReadonlySet<string>): string[] {
  const last = new Map<string, string>();
  for (const base of windows.flatMap((one) => one.bases).toSorted((a, b) => a.stopTime.localeCompare(b.stopTime))) {
    const image = imageOf(base);
    if (image !== undefined && missing.has(image)) last.set(image, base.stopTime);
  }
  return [...last].map(
    ([image, time]) =>
      `  ! the image of base backups up to ${short(time)} is not on this engine, so a recovery from them needs the ` +
      `present one, of the same major version: ${image}`,
  );
}

/** Names the timeline of a window, and up to which time it is the same as the earlier ones. */
function timelineOf({ timeline, forks }: Window): string {
  const same = forks
    .filter((fork) => fork.timeline < timeline && fork.time !== undefined)
    .map((fork) => `the same as ${fork.timeline} up to ${short(fork.time as string)}`);
  return [`timeline ${timeline}`, ...same].join(', ');
}

function receiverLines(receiver: ReceiverState | null, now: Date): string[] {
  if (!receiver) return [];
  const { state, error, since, kept = 0, confirmed, written, stored } = receiver;
  const age = formatAge(now.getTime() - Date.parse(since));
  if (state === 'failed') return [`  ! WAL has not been received for ${age}: ${error?.message} (${error?.code})`];
  const behind =
    confirmed?.lsn === stored && stored === written ? 'everything is stored' : `${formatBytes(kept)} behind`;
  return [`  WAL: ${state} for ${age}, ${behind}`];
}

/** Says how far a copy has the WAL: what it lacks is lost with the host. */
function copyLine(
  copy: string,
  { page, revision, reached, error }: CopiedWal,
  { receiver, now }: { receiver: ReceiverState | null; now: Date },
): string {
  const { logged } = receiver ?? {};
  const last =
    reached === undefined ? 'no time of it is known' : `the last time in it is ${formatAgo(new Date(reached), now)}`;
  if (error) return `  ! ${copy} lacks the newest WAL, ${last}: ${error.message} (${error.code})`;
  const isUpToDate = logged?.page === page && logged.revision === revision;
  return `  WAL in ${copy}: ${isUpToDate ? 'everything that is stored' : last}`;
}

/** Returns an ISO time to the second, in UTC. */
function short(iso: string): string {
  return `${iso.slice(0, 19).replace('T', ' ')}Z`;
}
