import { writtenSince } from '../kept/describe.ts';
import { formatBytes, plural } from '../report/format.ts';
import type { Rollback } from '../run/state.ts';
import type { PresentDatabase } from '../sources/postgres/facts/present.ts';
import type { PreviewSummary, RestoreDeps, RestorePreview, RestoreRequest } from './context.ts';
import type { Services } from './services.ts';

/** Formats the preview of a restore for the user. */
export function previewLines(
  { dryRun, safety, source, live }: Pick<RestoreRequest, 'dryRun' | 'safety' | 'source' | 'live'>,
  { replaces, creates, left, bytes, space, spool, notes, target }: RestorePreview,
  services: Services,
): string[] {
  const will = (verb: string) => `${dryRun ? 'would' : 'will'} ${verb}`;
  const lines: string[] = [];
  if (target && target.name !== source) lines.push(row('into', `${target.name} (${target.containerName})`));
  for (const { name, detail } of replaces) lines.push(row(will('replace'), `${name} (${detail})`));
  for (const name of creates) lines.push(row(will('create'), name));
  for (const { database, reason } of left) lines.push(row('leaves', `${database} as it is: ${reason}`));
  lines.push(...serviceLines(services, { will: dryRun ? 'would' : 'will', live }));
  lines.push(...noteLines(notes));
  if (replaces.length > 0) {
    const taken = live ? ' that is taken while the services run' : '';
    const more = safety ? `, and a pinned safety snapshot${taken}` : '; no safety snapshot is taken';
    lines.push(row('keeps', `the present data, put aside for \`lifeboat rollback\`${more}`));
  }
  lines.push(
    row(
      'reads',
      `at most ${formatBytes(bytes)}${spaceText(space)}${spaceText(spool && { where: '/spool', ...spool })}`,
    ),
  );
  return lines;
}

/** Returns the line that names the copy into which a restore goes; none if it goes into the live project. */
export function copyLines({ project, isCopy }: Pick<RestoreDeps, 'project' | 'isCopy'>): string[] {
  return isCopy ? [row('into project', `${project}, a copy: no safety snapshot of it is taken`)] : [];
}

/** Returns where the data of a rollback is, for messages: empty for the live project. */
export function inCopy({ project, isCopy }: Pick<RestoreDeps, 'project' | 'isCopy'>): string {
  return isCopy ? ` in project ${project}` : '';
}

/** Returns the name that a user types before data of one source is replaced: in a copy, its project. */
export function nameToConfirm({ project, isCopy }: Pick<RestoreDeps, 'project' | 'isCopy'>, source: string): string {
  return isCopy ? project : source;
}

function row(label: string, text: string): string {
  return `  ${label.padEnd(14)} ${text}`;
}

/** Formats the data that a rollback takes out of use, and what happens to it. */
export function replacedLines(
  { dryRun }: { dryRun?: boolean },
  replaces: RestorePreview['replaces'],
  record: Pick<Rollback, 'inUse'>,
): string[] {
  const lines = replaces.map(({ name, detail }) => row(`${dryRun ? 'would' : 'will'} replace`, `${name} (${detail})`));
  return [...lines, ...noteLines([writtenSince(record)])];
}

export function noteLines(notes: readonly string[]): string[] {
  return notes.map((note) => row('note', note));
}

/** Formats the services that are stopped, and the containers that use the data and are not stopped. */
export function serviceLines(
  { using, kept, others, writing }: Services,
  { will, live = false }: { will: 'will' | 'would'; live?: boolean },
): string[] {
  const names = using.map(({ name }) => name).join(', ');
  const [use, them] = using.length === 1 ? ['it uses', 'it'] : ['they use', 'them'];
  const when = live ? ' only for the swap,' : '';
  return [
    ...(using.length > 0 ? [row(`${will} stop`, `${names} (${use} the data),${when} and start ${them} again`)] : []),
    ...others.map(({ name, reason }) => row('also connected', `${name}, not stopped: ${reason}`)),
    ...writing.map(({ name, reason }) => row('also writing', `${name}, not stopped: ${reason}`)),
    ...kept.map(({ name, reason }) => row('note', `${name} is not stopped: ${reason}`)),
  ];
}

/** Returns the notes of a restore whose services run while the data is built. */
export function liveNotes({ live }: Pick<RestoreRequest, 'live'>, { using }: Services): string[] {
  if (!live || using.length === 0) return [];
  return [
    'the services run until the swap: data that they write until then, and that the restore replaces, is only in the old data',
  ];
}

/** Returns the part of a preview that a result repeats. */
export function summarise(
  preview: Pick<RestorePreview, 'replaces' | 'creates' | 'bytes' | 'notes' | 'space' | 'spool'>,
  services: Services,
): PreviewSummary {
  const { replaces, creates, bytes, notes, space, spool } = preview;
  return {
    replaces,
    creates,
    bytes,
    notes,
    ...(space && { space }),
    ...(spool && { spool }),
    ...summariseServices(services),
  };
}

/**
 * Returns the part of the services that a result repeats: the names of those to stop, and the containers that use the
 * data and are not stopped.
 */
export function summariseServices({
  using,
  others,
  writing,
}: Services): Pick<PreviewSummary, 'stops' | 'alsoConnected' | 'alsoWriting'> {
  return { stops: using.map(({ name }) => name), alsoConnected: others, alsoWriting: writing };
}

function spaceText(space: RestorePreview['space']): string {
  if (!space) return '';
  const free = space.free === undefined ? 'the free space is not known' : `has ${formatBytes(space.free)}`;
  return ` · needs ${formatBytes(space.needed)} free in ${space.where}, ${free}`;
}

/**
 * Returns what happens to files that changed after the snapshot.
 *
 * @param newer how many there are
 * @param stay whether they stay as they are
 */
export function newerNote(newer: number, stay: boolean): string[] {
  if (newer === 0) return [];
  const files = `${plural(newer, 'file')} changed after the snapshot`;
  const [stays, whose] = newer === 1 ? ['stays as it is', 'its'] : ['stay as they are', 'their'];
  const aside = `${files}: ${whose} present content is put aside`;
  return [stay ? `${files} and ${stays}; --overwrite replaces what is newer` : aside];
}

/** Describes the present content of a database, compared with the snapshot. */
export function presentText({ size, tables, rows, uncounted, more, fewer, newTables }: PresentDatabase): string {
  const space = size === undefined ? 'size not known' : formatBytes(size);
  if (uncounted !== undefined) {
    const estimated = tables === 0 ? '' : `, ${plural(tables, 'table')}, about ${plural(rows, 'row')}`;
    return `${space}${estimated}: not counted, ${uncounted}`;
  }
  const differences = [
    ...(more > 0 ? [plural(more, 'more row')] : []),
    ...(fewer > 0 ? [plural(fewer, 'fewer row')] : []),
  ];
  const difference = differences.length === 0 ? 'as many rows' : differences.join(' and ');
  const added = newTables.length === 0 ? '' : `, and ${plural(newTables.length, 'table')} that it does not have`;
  const than = differences.length === 0 ? 'as' : 'than';
  return `${space}, ${plural(tables, 'table')}, ${plural(rows, 'row')}: ${difference} ${than} the snapshot${added}`;
}
