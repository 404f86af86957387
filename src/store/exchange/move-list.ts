import { createHash, type Hash } from 'node:crypto';
import { type BigIntStats, closeSync, createReadStream, fstatSync, fsyncSync, writeSync } from 'node:fs';
import { z } from 'zod';
import { LifeboatError } from '../../base/errors.ts';
import { parseAreaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { decodePath, type EncodedPath, encodePath, isSafePath, type TreePath } from '../filesystem/path.ts';
import { readLines } from '../filesystem/read-index.ts';
import type { Identity } from './identity.ts';
import { isOwn } from './own-area.ts';
import { BASE } from './root-base.ts';

/** The SHA-256 of a list of moves, hexadecimal, and its size in bytes. */
export interface ListProof {
  list: string;
  size: number;
}

/** The file that proves an area: its list of moves, or the file of root-base.ts, with the recorded SHA-256. */
export type SourceProof = ListProof | { base: string };

/** Describes an exchange, as the first line of its list. */
export interface ExchangeHeader {
  /** ID of the restore or rollback that runs the exchange */
  id: string;
  /** ID of the restore that the data belongs to: this one, or the one that is rolled back */
  restore: string;
  /** the data in the area: from before the restore, or restored by it */
  holds: 'before' | 'restored';
  /** ISO time */
  at: string;
  /** the directory whose content moves in, relative to the volume's root */
  incoming: TreePath;
  /** the area that holds the incoming directory */
  source: { identity: Identity } & SourceProof;
  /** true: everything at the top of the volume is exchanged; false: only the listed names */
  whole: boolean;
  /** ID of the restored snapshot */
  snapshot?: string;
}

/** One step of an exchange. No moved path is inside another one, so any step may come before any other. */
export type ExchangeStep =
  /**
   * `out`: the present content moves to the area; `in`: the incoming content moves in. `around`: the old content moves
   * out before everything else, and the new content moves in after everything else. If the exchange is taken back, what
   * came in also leaves first, and what left comes back last
   */
  | { type: 'move'; path: TreePath; out: boolean; in: boolean; around?: true | undefined }
  /** makes a directory that is missing above an incoming path, with the metadata it had */
  | { type: 'make'; path: TreePath; meta: DirectoryMeta }
  /** a directory in which something moves: its metadata before the exchange, and after it */
  | { type: 'directory'; path: TreePath; before: DirectoryMeta; after: DirectoryMeta };

/** Name of the list while moves may be in progress. The list gets this name only once it is complete and durable. */
export const UNDER_WAY = 'moves.ndjson';
/** Name of the list after all moves. */
const DONE = 'list.ndjson';
/** Name of the list while it is written. */
export const UNFINISHED = 'moves.tmp';
/** Name of a copy of the list, see list-proof.ts. */
export const COPY = 'moves.copy';
/** All names of files of Lifeboat in an area. */
export const OWN_FILES: readonly string[] = [UNDER_WAY, DONE, UNFINISHED, COPY, BASE];

/** Returns the state of an exchange, from its area. `none`: no move has been made yet. */
export function exchangeState(area: Directory): 'none' | 'under way' | 'done' {
  if (area.look(UNDER_WAY)) return 'under way';
  return area.look(DONE) ? 'done' : 'none';
}

/** Writes a list of steps, complete and durable. */
export async function writeMoves(
  area: Directory,
  header: ExchangeHeader,
  steps: Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
): Promise<ListProof> {
  const file = area.createFile(UNFINISHED);
  const hash = createHash('sha256');
  let size = 0;
  const write = (lines: readonly string[]) => writeAll(file, Buffer.from(lines.join('')), hash);
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
    size = fstatSync(file).size;
  } finally {
    closeSync(file);
  }
  area.move(UNFINISHED, area, UNDER_WAY);
  area.sync();
  return { list: hash.digest('hex'), size };
}

/** Writes and hashes a chunk. */
export function writeAll(file: number, data: Buffer, hash: Hash): void {
  hash.update(data);
  for (let at = 0; at < data.length; ) at += writeSync(file, data, at);
}

/** Returns the name of the list of an area. */
export function listName(area: Directory): string {
  return exchangeState(area) === 'done' ? DONE : UNDER_WAY;
}

/** Marks all moves of the list as made. */
export function markDone(area: Directory): void {
  area.replace(UNDER_WAY, area, DONE);
  area.sync();
}

/**
 * Reads the list of an area, finished or not. The area must stay open while steps are read.
 *
 * @param id of the restore or rollback that made the area
 * @param anyOwner reads a list that others may write to, too; nothing may be changed according to it then
 * @throws OBJECT_DAMAGED also if others may write to the list, or if Lifeboat wrote it for another area
 */
export async function readMoves(
  area: Directory,
  id: string,
  anyOwner = false,
): Promise<{ header: ExchangeHeader; steps: () => AsyncGenerator<ExchangeStep> }> {
  // The list is renamed when all moves are made.
  const lines = () => readLines(streamOf(area, listName(area), anyOwner));
  for await (const line of lines()) {
    const { incoming, snapshot, ...rest } = parsed(HEADER, line);
    const header = { ...rest, incoming: checked(incoming), ...(snapshot === undefined ? {} : { snapshot }) };
    // Incoming content is always inside an area.
    if (header.id !== id || !parseAreaName(header.incoming.split('/')[0] ?? '')) throw damaged();
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

function streamOf(area: Directory, name: string, anyOwner: boolean): AsyncIterable<Buffer> {
  const fd = area.openFile(name);
  const stat = fstatSync(fd, { bigint: true });
  if (anyOwner ? stat.isFile() : isOwnFile(area, stat)) return createReadStream('', { fd });
  closeSync(fd);
  throw damaged();
}

/** Returns whether only this process's user can have written a file. */
export function isOwnFile(area: Directory, stat: BigIntStats): boolean {
  return stat.isFile() && stat.nlink === 1n && isOwn(area, stat);
}

const PATH = z.union([z.strictObject({ text: z.string() }), z.strictObject({ base64: z.string() })]);

const HEADER = z.object({
  id: z.string(),
  restore: z.string(),
  holds: z.enum(['before', 'restored']),
  at: z.string(),
  incoming: PATH,
  source: z.union([
    z.object({ identity: z.string(), list: z.string(), size: z.int() }),
    z.object({ identity: z.string(), base: z.string() }),
  ]),
  whole: z.boolean(),
  snapshot: z.string().optional(),
});

const META = z.object({
  mode: z.int().min(0).max(0o7777),
  uid: z.int().min(0),
  gid: z.int().min(0),
  mtime: z.string().regex(/^-?\d{1,20}$/),
});

const STEP = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('move'),
    path: PATH,
    out: z.boolean(),
    in: z.boolean(),
    around: z.literal(true).optional(),
  }),
  z.object({ type: z.literal('make'), path: PATH, meta: META }),
  z.object({ type: z.literal('directory'), path: PATH, before: META, after: META }),
]);

/** Parses a line. Throws OBJECT_DAMAGED if it is not what {@link writeMoves} writes. */
function parsed<T>(shape: z.ZodType<T>, line: Buffer): T {
  try {
    return shape.parse(JSON.parse(line.toString('utf8')));
  } catch (error) {
    throw damaged(error);
  }
}

function encodeStep(step: ExchangeStep): string {
  const text = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
  return `${JSON.stringify({ ...step, path: encodePath(step.path) }, text)}\n`;
}

function decodeStep(line: Buffer): ExchangeStep {
  const step = parsed(STEP, line);
  const meta = (value: z.infer<typeof META>): DirectoryMeta => ({ ...value, mtime: BigInt(value.mtime) });
  const path = checked(step.path);
  if (step.type === 'move') return { ...step, path };
  if (step.type === 'make') return { ...step, path, meta: meta(step.meta) };
  return { ...step, path, before: meta(step.before), after: meta(step.after) };
}

/** Decodes a path, and refuses one that leaves the volume. */
function checked(encoded: EncodedPath): TreePath {
  const decoded = decodePath(encoded);
  if (decoded === undefined || !isSafePath(decoded)) throw damaged();
  return decoded;
}

function damaged(cause?: unknown): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', 'the list of moves that a restore recorded is damaged', { cause });
}
