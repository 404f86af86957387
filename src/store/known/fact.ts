import { crc32 } from 'node:zlib';
import type { Hash } from './slots.ts';

/** `file`: the whole content of a file; `part`: a part of a large file. Readers expect the two in different packs. */
export type FactKind = 'file' | 'part';

/** Where a content is stored. */
export interface Fact {
  kind: FactKind;
  /** hex SHA-256 of the content */
  sha256: string;
  /** bytes */
  size: number;
  /** id of the pack */
  pack: string;
  /** name of the entry in the pack */
  entry: string;
}

// kind (1), unused (1), length of the entry (2), size (4), SHA-256 (32), pack (16), then the entry and a checksum (4).
const ENTRY_AT = 56;
const SHA_AT = 8;
const PACK_AT = 40;
const CHECKSUM = 4;
const KINDS: readonly FactKind[] = ['file', 'part'];

/** No fact is longer, bytes. */
export const MAX_FACT = ENTRY_AT + 0xffff + CHECKSUM;

/** Encodes a fact as bytes. */
export function encodeFact({ kind, sha256, size, pack, entry }: Fact): Buffer {
  const name = Buffer.from(entry);
  const bytes = Buffer.allocUnsafe(ENTRY_AT + name.length + CHECKSUM);
  bytes.writeUInt8(0, 1);
  bytes.writeUInt8(KINDS.indexOf(kind) + 1, 0);
  bytes.writeUInt16LE(name.length, 2);
  bytes.writeUInt32LE(size, 4);
  bytes.write(sha256, SHA_AT, 'hex');
  bytes.write(pack, PACK_AT, 'hex');
  name.copy(bytes, ENTRY_AT);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -CHECKSUM)), bytes.length - CHECKSUM);
  return bytes;
}

/** Returns the length of the fact at the beginning of some bytes, as far as they show it. */
export function lengthOfFact(bytes: Buffer): number {
  return ENTRY_AT + (bytes.length < 4 ? 0 : bytes.readUInt16LE(2)) + CHECKSUM;
}

/** Decodes the fact at the beginning of some bytes: the inverse of {@link encodeFact}. Undefined if it is damaged. */
export function decodeFact(bytes: Buffer): Fact | undefined {
  const length = lengthOfFact(bytes);
  if (bytes.length < length) return undefined;
  const checked = bytes.subarray(0, length - CHECKSUM);
  const kind = KINDS[bytes.readUInt8(0) - 1];
  if (!kind || crc32(checked) !== bytes.readUInt32LE(length - CHECKSUM)) return undefined;
  return {
    kind,
    sha256: bytes.toString('hex', SHA_AT, PACK_AT),
    size: bytes.readUInt32LE(4),
    pack: bytes.toString('hex', PACK_AT, ENTRY_AT),
    entry: checked.toString('utf8', ENTRY_AT),
  };
}

/** Returns whether a fact is about a content. */
export function isSameContent(fact: Fact, wanted: Pick<Fact, 'kind' | 'sha256' | 'size'> | undefined): boolean {
  return fact.kind === wanted?.kind && fact.sha256 === wanted.sha256 && fact.size === wanted.size;
}

/** Returns the place of a content in a hash table. Equal contents of both kinds have different places. */
export function hashOfFact({ kind, sha256 }: Pick<Fact, 'kind' | 'sha256'>): Hash {
  const at = kind === 'file' ? 0 : 32;
  const word = (from: number) => Number.parseInt(sha256.slice(from, from + 8), 16);
  return { high: word(at), low: word(at + 8) };
}

/** The same for an encoded fact. */
export function hashOfEncoded(bytes: Buffer): Hash {
  const at = SHA_AT + (bytes.readUInt8(0) === KINDS.indexOf('file') + 1 ? 0 : 16);
  return { high: bytes.readUInt32BE(at), low: bytes.readUInt32BE(at + 4) };
}
