import { isUtf8 } from 'node:buffer';
import { LifeboatError } from '../../base/errors.ts';
import { type DataRanges, pairs } from './data-ranges.ts';
import type { TreePath } from './path.ts';

/** Where a part of a large file is stored, and which part it is. */
interface StoredPart {
  /** where the part begins in the file, bytes */
  offset: number;
  /** bytes */
  size: number;
  /** hex SHA-256 of the part */
  sha256: string;
  /** ID of the pack with the part */
  pack: string;
  /** name of the part inside the pack */
  entry: string;
}

/** One line of an index, for one part of the file in the last line that is not a part. */
export interface IndexPart extends StoredPart {
  type: 'part';
  /** the path of the file; the line itself does not have it */
  path: TreePath;
}

/** Upper bound for a part, and for a content that is stored whole, bytes. A reader holds it in memory. */
export const MAX_CONTENT = 16 * 1024 * 1024;

/** Every line of a part starts like this, and no other line does. */
const PART_START = Buffer.from('{"offset":');

/** Returns whether a line of an index is that of a part, without parsing it. */
export function isPartLine(line: Buffer): boolean {
  return line.subarray(0, PART_START.length).equals(PART_START);
}

/** Returns a part as one line with its line feed. Keys are always in the same order. */
export function encodePart({ offset, size, sha256, pack, entry }: StoredPart): string {
  return `${JSON.stringify({ offset, size, sha256, pack, entry })}\n`;
}

/**
 * The inverse of {@link encodePart}, for one line without its line feed. Unknown keys are ignored.
 *
 * @throws OBJECT_DAMAGED for anything that `encodePart` cannot produce
 */
export function decodePart(line: Buffer | string): StoredPart {
  const fields = parseLine(line);
  const { entry } = fields;
  if (typeof entry !== 'string' || entry === '') throw damagedIndex('entry missing');
  return {
    offset: whole(fields.offset, 'offset', Number.MAX_SAFE_INTEGER),
    size: whole(fields.size, 'size of a part', MAX_CONTENT),
    sha256: matching(fields.sha256, SHA256, 'sha256'),
    pack: matching(fields.pack, PACK_ID, 'pack'),
    entry,
  };
}

/** Checks that the parts of a file cover its data exactly once, in order. */
export class PartOrder {
  private readonly places: Iterator<{ offset: number; length: number }>;
  private place: { offset: number; length: number } | undefined;
  private left: number;

  /** @param file `parts`: the number of parts that its line promises; `ranges`: absent if the file has no holes */
  constructor({ size = 0, ranges, parts = 0 }: { size?: number; ranges?: DataRanges; parts?: number }) {
    this.places = pairs(ranges ?? [0, size]);
    this.place = this.places.next().value;
    this.left = parts;
  }

  /** True once all parts were added. */
  get isComplete(): boolean {
    return this.left === 0;
  }

  /** @throws OBJECT_DAMAGED if the part is not the next one, or the last one does not complete the file */
  add({ offset, size }: StoredPart): void {
    const { place } = this;
    if (!place || offset !== place.offset) throw damagedIndex('a part of a file is missing or out of order');
    if (size === 0 || size > place.length) throw damagedIndex('the sizes of the parts of a file do not add up');
    this.place =
      size < place.length ? { offset: offset + size, length: place.length - size } : this.places.next().value;
    this.left--;
    if ((this.left === 0) !== (this.place === undefined)) throw damagedIndex('a file has too many or too few parts');
  }
}

export const SHA256 = /^[0-9a-f]{64}$/;
export const PACK_ID = /^[0-9a-f]{32}$/;

/** @throws OBJECT_DAMAGED if the line is not a JSON object */
export function parseLine(line: Buffer | string): Record<string, unknown> {
  if (typeof line !== 'string' && !isUtf8(line)) throw damagedIndex('not UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(typeof line === 'string' ? line : line.toString('utf8'));
  } catch {
    throw damagedIndex('not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw damagedIndex('not an object');
  return value as Record<string, unknown>;
}

/** Returns a text that matches a pattern. @throws OBJECT_DAMAGED */
export function matching(value: unknown, pattern: RegExp, name: string): string {
  if (typeof value !== 'string' || !pattern.test(value)) throw damagedIndex(`${name} missing or not well formed`);
  return value;
}

/** Returns a whole number from 0 to `max`. @throws OBJECT_DAMAGED */
export function whole(value: unknown, name: string, max: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max) {
    throw damagedIndex(`${name} missing or not well formed`);
  }
  return value;
}

export function damagedIndex(what: string): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', `the index is damaged: ${what}`);
}
