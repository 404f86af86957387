import { formatBytes } from '../report/format.ts';
import type { PreviewSummary, RestorePreview, RestoreRequest } from './context.ts';
import type { Services } from './services.ts';

/** Formats the preview of a restore for the user. */
export function previewLines(
  { dryRun, safety, source }: Pick<RestoreRequest, 'dryRun' | 'safety' | 'source'>,
  { replaces, creates, left, bytes, space, notes, target }: RestorePreview,
  services: Services,
): string[] {
  const will = (verb: string) => `${dryRun ? 'would' : 'will'} ${verb}`;
  const lines: string[] = [];
  if (target && target.name !== source) lines.push(row('into', `${target.name} (${target.containerName})`));
  for (const { name, detail } of replaces) lines.push(row(will('replace'), `${name} (${detail})`));
  for (const name of creates) lines.push(row(will('create'), name));
  for (const { database, reason } of left) lines.push(row('leaves', `${database} as it is: ${reason}`));
  lines.push(...serviceLines(services, dryRun ? 'would' : 'will'));
  for (const note of notes) lines.push(row('note', note));
  if (replaces.length > 0) {
    const kept = safety
      ? 'the present data, put aside for `lifeboat rollback`, and a pinned safety snapshot'
      : 'the present data, put aside for `lifeboat rollback`; no safety snapshot is taken';
    lines.push(row('keeps', kept));
  }
  lines.push(row('reads', `at most ${formatBytes(bytes)}${spaceText(space)}`));
  return lines;
}

function row(label: string, text: string): string {
  return `  ${label.padEnd(14)} ${text}`;
}

/** Formats the services that are stopped, and the clients that stay connected. */
export function serviceLines({ using, kept, others }: Services, will: 'will' | 'would'): string[] {
  const names = using.map(({ name }) => name).join(', ');
  return [
    ...(using.length > 0 ? [row(`${will} stop`, `${names} (they use it), and start them again`)] : []),
    ...others.map(({ name, reason }) => row('also connected', `${name}, not stopped: ${reason}`)),
    ...kept.map(({ name, reason }) => row('note', `${name} is not stopped: ${reason}`)),
  ];
}

/** Returns the part of a preview that a result repeats. */
export function summarise(
  preview: Pick<RestorePreview, 'replaces' | 'creates' | 'bytes' | 'notes' | 'space'>,
  services: Services,
): PreviewSummary {
  const { replaces, creates, bytes, notes, space } = preview;
  return { replaces, creates, bytes, notes, ...(space && { space }), ...summariseServices(services) };
}

/**
 * Returns the part of the services that a result repeats: the names of those to stop, and the clients that stay
 * connected.
 */
export function summariseServices({ using, others }: Services): Pick<PreviewSummary, 'stops' | 'alsoConnected'> {
  return { stops: using.map(({ name }) => name), alsoConnected: others };
}

function spaceText(space: RestorePreview['space']): string {
  if (!space) return '';
  const free = space.free === undefined ? 'the free space is not known' : `has ${formatBytes(space.free)}`;
  return ` · needs ${formatBytes(space.needed)} free in ${space.where}, ${free}`;
}
