import { formatBytes } from '../report/format.ts';
import type { RestorePreview, RestoreRequest } from './context.ts';

/** Formats the preview of a restore for the user. */
export function previewLines(
  { dryRun, safety, source }: Pick<RestoreRequest, 'dryRun' | 'safety' | 'source'>,
  { replaces, creates, left, bytes, space, notes, target }: RestorePreview,
  services: { using: readonly { name: string }[]; notes: readonly string[] },
): string[] {
  const row = (label: string, text: string) => `  ${label.padEnd(14)} ${text}`;
  const will = (verb: string) => `${dryRun ? 'would' : 'will'} ${verb}`;
  const lines: string[] = [];
  if (target && target.name !== source) lines.push(row('into', `${target.name} (${target.containerName})`));
  for (const { name, detail } of replaces) lines.push(row(will('replace'), `${name} (${detail})`));
  for (const name of creates) lines.push(row(will('create'), name));
  for (const { database, reason } of left) lines.push(row('leaves', `${database} as it is: ${reason}`));
  if (services.using.length > 0) {
    const names = services.using.map(({ name }) => name).join(', ');
    lines.push(row(will('stop'), `${names} (they use it), and start them again`));
  }
  for (const note of services.notes) lines.push(row('note', note));
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

function spaceText(space: RestorePreview['space']): string {
  if (!space) return '';
  const free = space.free === undefined ? 'the free space is not known' : `has ${formatBytes(space.free)}`;
  return ` · needs ${formatBytes(space.needed)} free in ${space.where}, ${free}`;
}
