import { formatAgo, formatBytes, plural } from '../report/format.ts';
import type { Rollback } from '../run/state.ts';
import { describePresent, type PresentDatabase } from '../sources/postgres/facts/present.ts';
import { readDatabases } from '../sources/postgres/load/swap.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import { keptName } from './choose.ts';
import { areaOf } from './volume-records.ts';

/** Describes the data that a rollback takes out of use, and the data that it brings back. */
export interface Described {
  /** of the database, or of the source of a volume */
  name: string;
  /** the name of the data that is not in use */
  aside: string;
  /** content of the data in use; absent if it is not known */
  present?: string;
  /** content of the data that is not in use; absent if it is not known */
  old?: string;
}

/** The longest time to count the rows of all databases of a restore, milliseconds. */
const COUNT_MS = 5000;

/**
 * Describes the databases of a restore, and the data that is not in use. A database that cannot be read has no content.
 */
export async function describeDatabases(
  tools: Tools,
  { databases = [] }: Rollback,
  signal: AbortSignal,
): Promise<Described[]> {
  const described: Described[] = [];
  const names = databases.flatMap(({ name, before }) => [name, before]);
  const sizes = await readDatabases(await tools.control(), names);
  // A rollback is urgent, and the rows of a large database take long to count.
  const limit = AbortSignal.any([signal, AbortSignal.timeout(COUNT_MS)]);
  const describe = async (name: string) => {
    const size = sizes.get(name)?.bytes;
    return (await contentOf(tools, name, limit)) ?? (size === undefined ? undefined : formatBytes(size));
  };
  for (const { name, before: aside } of databases) {
    const [present, old] = [await describe(name), await describe(aside)];
    signal.throwIfAborted();
    described.push({ name, aside, ...(present && { present }), ...(old && { old }) });
  }
  return described;
}

async function contentOf(tools: Tools, name: string, signal: AbortSignal): Promise<string | undefined> {
  if (signal.aborted) return undefined;
  const found = await describePresent(tools, name, { tables: [] }, signal).catch(() => undefined);
  return found && contentText(found);
}

function contentText({ size, tables, rows, uncounted }: Omit<PresentDatabase, 'name'>): string | undefined {
  const space = size === undefined ? [] : [formatBytes(size)];
  if (uncounted !== undefined && tables === 0) return space[0];
  const about = uncounted === undefined ? '' : 'about ';
  return [...space, plural(tables, 'table'), `${about}${plural(rows, 'row')}`].join(', ');
}

/** Describes the volume of a restore. Nobody counts the files in use for that. */
export function describeVolume(record: Rollback, areas: readonly VolumeArea[]): Described[] {
  const area = areaOf(record, areas);
  const old = area && `${formatBytes(area.bytes)}, ${plural(area.files, 'file')}`;
  return [{ name: record.source, aside: keptName(record), ...(old && { old }) }];
}

/** Formats when a restore was made, for a message. */
export function madeAgo({ id, at }: Pick<Rollback, 'id' | 'at'>, now: Date): string {
  return `restore ${id}, made ${formatAgo(new Date(at), now)}`;
}

/**
 * Returns the names whose data a rollback replaces, each with its content now and afterwards, as far as it is known.
 */
export function replacedText({ inUse }: Rollback, described: readonly Described[]): { name: string; detail: string }[] {
  const by = inUse === 'restored' ? 'by the data from before the restore' : 'by the restored data';
  return described.map(({ name, present, old }) => ({
    name,
    detail: `${present === undefined ? '' : `${present}: `}${by}${old === undefined ? '' : `: ${old}`}`,
  }));
}

/** Says where everything goes that was written since data was swapped. */
export function writtenSince({ inUse }: Pick<Rollback, 'inUse'>): string {
  const since = inUse === 'restored' ? 'the restore' : 'the rollback';
  return `everything written since ${since} goes out of use with the data in use now. It is put aside, not lost: the same command brings it back, until \`--forget\``;
}

/** Lists the data that `--forget` drops, with its size. */
export function asideText(described: readonly Described[]): string {
  return described.map(({ aside, old }) => (old === undefined ? aside : `${aside} (${old})`)).join(', ');
}
