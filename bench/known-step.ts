import { hash } from 'node:crypto';
import { statSync } from 'node:fs';
import path from 'node:path';
import { addIndex } from '../src/store/known/add-index.ts';
import { ContentTable } from '../src/store/known/content-table.ts';

/** Runs one step of the benchmark of known contents in this process, and sends its result to the parent. */

const OF = 'bench';
const LOOKUPS = 100_000;

export interface Added {
  /** for each index */
  seconds: number[];
  /** seconds to add the last index a second time */
  again: number;
  peakMiB: number;
  slotBytes: number;
  factBytes: number;
}

export interface Found {
  /** microseconds for each lookup */
  hit: number;
  miss: number;
  peakMiB: number;
}

const peakMiB = () => process.resourceUsage().maxRSS / 1024;

async function timed(work: () => Promise<void> | void): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

async function add(directory: string, indexes: readonly string[]): Promise<Added> {
  const addOne = async (index: string) => {
    const table = await ContentTable.write(directory, OF);
    await addIndex(table, index, { isKept: () => true });
    table.cover(index);
    await table.close();
  };
  const seconds: number[] = [];
  for (const index of indexes) seconds.push(await timed(() => addOne(index)));
  const again = await timed(() => addOne(indexes.at(-1) as string));
  const sizeOf = (name: string) => statSync(path.join(directory, name)).size;
  return { seconds, again, peakMiB: peakMiB(), slotBytes: sizeOf('slots'), factBytes: sizeOf('facts') };
}

/** Looks up parts of files all over the table, and contents that it does not have. */
async function find(directory: string, files: number): Promise<Found> {
  const table = ContentTable.read(directory, OF);
  if (!table) throw new Error('the table cannot be opened');
  const look = (name: string, size: number) => table.find({ kind: 'part', sha256: hash('sha256', name), size });
  const places = Array.from({ length: LOOKUPS }, (_, i) => Math.floor((i / LOOKUPS) * files));
  const hit = await timed(() => {
    for (const n of places) if (!look(`part ${n} ${n % 10}`, 1_000_000)) throw new Error(`part ${n} is not found`);
  });
  const miss = await timed(() => {
    for (const n of places) if (look(`other ${n}`, 1)) throw new Error(`other ${n} is found`);
  });
  await table.close();
  return { hit: (hit / LOOKUPS) * 1e6, miss: (miss / LOOKUPS) * 1e6, peakMiB: peakMiB() };
}

const [step, directory = '', ...rest] = process.argv.slice(2);
const result = step === 'add' ? await add(directory, rest) : await find(directory, Number(rest[0]));
process.send?.(result, () => process.disconnect());
