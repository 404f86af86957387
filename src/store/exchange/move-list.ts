import { closeSync, createReadStream, fstatSync, fsyncSync, writeSync } from 'node:fs';
import { LifeboatError } from '../../base/errors.ts';
import { parseAreaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { readLines } from '../filesystem/index-file.ts';
import { decodePath, type EncodedPath, encodePath, isSafePath, type TreePath } from '../filesystem/path.ts';

/** What an exchange is about. */
export interface ExchangeHeader {
  /** of the restore or rollback that made it */
  id: string;
  /** of the restore that it goes back to: its own, or the one that is rolled back */
  restore: string;
  /** what the area keeps: the data from before that restore, or what it restored */
  holds: 'before' | 'restored';
  /** ISO time */
  at: string;
  /** below the volume's root: the directory whose content comes in */
  incoming: TreePath;
  /** everything at the top of the volume is exchanged; otherwise only what the list names */
  whole: boolean;
  /** the snapshot that was restored */
  snapshot?: string;
}

/** One step of an exchange. Their order does not matter: no path is inside another one's. */
export type ExchangeStep =
  /** `out`: what is there is moved to the area; `in`: what comes in is moved there */
  | { type: 'move'; path: TreePath; out: boolean; in: boolean }
  /** a directory that is missing above one that comes in, made with what it was like */
  | { type: 'make'; path: TreePath; meta: DirectoryMeta }
  /** a directory in which something moves: what it was like before, and is to be like after */
  | { type: 'directory'; path: TreePath; before: DirectoryMeta; after: DirectoryMeta };

/** While moves may be under way; the list has this name only once it is on the disk as a whole. */
const UNDER_WAY = 'moves.ndjson';
/** Once they are all made. */
const DONE = 'list.ndjson';
const UNFINISHED = 'moves.tmp';

/** The state of an exchange, as its area tells. `none`: no move was made yet. */
export function exchangeState(area: Directory): 'none' | 'under way' | 'done' {
  if (area.look(UNDER_WAY)) return 'under way';
  return area.look(DONE) ? 'done' : 'none';
}

/** Writes a list of steps. It is on the disk, whole, when this resolves. */
export async function writeMoves(
  area: Directory,
  header: ExchangeHeader,
  steps: Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
): Promise<void> {
  const file = area.createFile(UNFINISHED);
  const write = (lines: readonly string[]) => {
    const data = Buffer.from(lines.join(''));
    for (let at = 0; at < data.length; ) at += writeSync(file, data, at);
  };
  try {
    let pending = [`${JSON.stringify({ format: 1, ...header, incoming: encodePath(header.incoming) })}\n`];
    for await (const step of steps) {
      pending.push(encodeStep(step));
      if (pending.length >= 1000) {
        write(pending);
        pending = [];
      }
    }
    write(pending);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  area.move(UNFINISHED, area, UNDER_WAY);
  area.sync();
}

/** Marks all moves of the list as made. */
export function markDone(area: Directory): void {
  area.replace(UNDER_WAY, area, DONE);
  area.sync();
}

/** Reads the list of an area, finished or not. The area has to stay open while steps are read. */
export async function readMoves(
  area: Directory,
): Promise<{ header: ExchangeHeader; steps: () => AsyncGenerator<ExchangeStep> }> {
  const name = exchangeState(area) === 'done' ? DONE : UNDER_WAY;
  const lines = () => readLines(streamOf(area, name));
  for await (const line of lines()) {
    const { incoming, ...rest } = JSON.parse(line.toString('utf8')) as ExchangeHeader & { incoming: EncodedPath };
    const header = { ...rest, incoming: checked(incoming) };
    // Only ever inside an area: the list lies in the volume.
    if (!parseAreaName(header.incoming.split('/')[0] ?? '')) throw damaged();
    return {
      header,
      steps: async function* () {
        let first = true;
        for await (const next of lines()) {
          if (!first) yield decodeStep(next);
          first = false;
        }
      },
    };
  }
  throw damaged();
}

function streamOf(area: Directory, name: string): AsyncIterable<Buffer> {
  const fd = area.openFile(name);
  if (fstatSync(fd).isFile()) return createReadStream('', { fd });
  closeSync(fd);
  throw damaged();
}

function encodeStep(step: ExchangeStep): string {
  const text = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
  return `${JSON.stringify({ ...step, path: encodePath(step.path) }, text)}\n`;
}

function decodeStep(line: Buffer): ExchangeStep {
  const step = JSON.parse(line.toString('utf8')) as ExchangeStep & { path: unknown };
  const meta = (value: DirectoryMeta) => ({ ...value, mtime: BigInt(value.mtime) });
  const at = { path: checked(step.path as unknown as EncodedPath) };
  if (step.type === 'move') return { ...step, ...at };
  if (step.type === 'make') return { ...step, ...at, meta: meta(step.meta) };
  return { ...step, ...at, before: meta(step.before), after: meta(step.after) };
}

/** The list lies in the volume, where others may write. */
function checked(encoded: EncodedPath): TreePath {
  const decoded = decodePath(encoded);
  if (decoded === undefined || !isSafePath(decoded)) throw damaged();
  return decoded;
}

function damaged(): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', 'the list of what a restore moved is damaged');
}
