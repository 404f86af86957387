import { hash } from 'node:crypto';
import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { encodeIndexEntry } from '../src/store/filesystem/index-file.ts';
import { encodePart } from '../src/store/filesystem/index-part.ts';
import { forkStep } from './fork-step.ts';
import type { Added, Found } from './known-step.ts';
import type { BenchOptions } from './stack.ts';

/** A tenth of the contents are whole files, the others are parts of large files. */
const PARTS_A_FILE = 10;
const CONTENTS_A_PACK = 64;
const INDEXES = 10;
const LINES_AT_ONCE = 1000;
const MOST_MIB = 300;

/**
 * Adds a million files and 10 million parts to the table of known contents, an index of 100,000 files at a time, then
 * looks some of them up. Each step is a process of its own, without an engine.
 */
export async function benchKnown({ small }: Pick<BenchOptions, 'small'>): Promise<string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-bench-'));
  const files = (small ? 100_000 : 1_000_000) / INDEXES;
  try {
    const indexes: string[] = [];
    for (let i = 0; i < INDEXES; i++) {
      process.stderr.write(`making index ${i + 1} of ${INDEXES}\n`);
      const file = path.join(directory, `${i}.ndjson`);
      await pipeline(Readable.from(linesOf(i * files, files)), createWriteStream(file));
      indexes.push(file);
    }
    const table = path.join(directory, 'contents');
    const added = await forkStep<Added>('known-step.ts', ['add', table, ...indexes]);
    const found = await forkStep<Found>('known-step.ts', ['find', table, `${INDEXES * files}`]);
    const all = INDEXES * files * (PARTS_A_FILE + 1);
    const peak = Math.max(added.peakMiB, found.peakMiB);
    return [
      `${INDEXES * files} files and ${INDEXES * files * PARTS_A_FILE} parts in ${INDEXES} indexes.`,
      '',
      '| what | measured |',
      '|---|---|',
      `| adding all | ${sum(added.seconds).toFixed(1)} s, ${((sum(added.seconds) / all) * 1e6).toFixed(1)} µs each |`,
      `| each index | ${added.seconds.map((one) => one.toFixed(1)).join(' · ')} s |`,
      `| adding one of them again | ${added.again.toFixed(1)} s |`,
      `| peak memory when adding | ${added.peakMiB.toFixed(0)} MiB |`,
      `| a lookup of a known content | ${found.hit.toFixed(1)} µs |`,
      `| a lookup of another content | ${found.miss.toFixed(1)} µs |`,
      `| peak memory when looking up | ${found.peakMiB.toFixed(0)} MiB |`,
      `| slots on the disk | ${(added.slotBytes / 1e6).toFixed(0)} MB |`,
      `| facts on the disk | ${(added.factBytes / 1e6).toFixed(0)} MB |`,
      '',
      '| budget | measured | most | met |',
      '|---|---|---|---|',
      `| peak memory | ${peak.toFixed(0)} MiB | ${MOST_MIB} MiB | ${peak <= MOST_MIB ? 'yes' : 'no'} |`,
    ].join('\n');
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, one) => total + one, 0);
}

/** The lines of an index with `count` files, each of its parts in another pack. */
function* linesOf(first: number, count: number): Generator<string> {
  const fields = { mode: 0o644, uid: 0, gid: 0, mtime: 1_780_000_000_000_000_000n };
  let lines = '';
  for (let n = first; n < first + count; n++) {
    const sha256 = hash('sha256', `file ${n}`);
    const pack = hash('md5', `files ${Math.floor(n / CONTENTS_A_PACK)}`);
    lines += encodeIndexEntry({
      ...fields,
      path: `files/${n}`,
      type: 'file',
      size: 1,
      sha256,
      pack,
      entry: `files/${n}`,
    });
    for (let i = 0; i < PARTS_A_FILE; i++) {
      const at = n * PARTS_A_FILE + i;
      lines += encodePart({
        ...{ offset: i * 1_000_000, size: 1_000_000, sha256: hash('sha256', `part ${n} ${i}`) },
        ...{ pack: hash('md5', `parts ${Math.floor(at / CONTENTS_A_PACK)}`), entry: `${at % CONTENTS_A_PACK}` },
      });
    }
    if (n % LINES_AT_ONCE === LINES_AT_ONCE - 1 || n === first + count - 1) {
      yield lines;
      lines = '';
    }
  }
}
