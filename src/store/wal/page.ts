import { createHash } from 'node:crypto';
import { z } from 'zod';
import { LifeboatError } from '../../base/errors.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { isSegmentSize } from './names.ts';

/**
 * The log of a server's stored WAL: pages of JSON, in order. A page lists stored segments. It is written again, under
 * the next revision, for each change, until it is full. Each page has the hash of the final revision of the page before
 * it, so a page that is missing, swapped or replayed is seen.
 */

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();
const time = z.iso.datetime();
const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/);
const stored = z.object({
  key: z.string().regex(/^(?:[^/.][^/]*\/)*[^/.][^/]*$/),
  size: count,
  sha256,
});

const segment = stored.extend({
  /** name of the file, such as `000000010000000000000002` */
  name: z.string().regex(/^[0-9A-F]{24}$/),
  /** by the server's clock: every transaction that had committed by then is in this segment or before it */
  reached: time.optional(),
});

/** `ancestors`: what the file says, oldest first. Readers then need neither the file nor its key. */
const history = stored.extend({
  name: z.string().regex(/^[0-9A-F]{8}\.history$/),
  ancestors: z.array(z.object({ timeline: z.int().positive(), until: lsn })),
});

/** `from`, `to`: offsets in the segment, bytes; `to` is exclusive */
const part = stored.extend({ from: count, to: count });

/** A segment of which only the beginning is stored. Its parts follow each other without a break. */
const partial = z.object({
  name: z.string().regex(/^[0-9A-F]{24}$/),
  parts: z.array(part),
  reached: time.optional(),
});

/** `timeline`, `to`: where the WAL continues after the gap */
const gap = z.object({ at: time, timeline: z.int().positive(), to: lsn, why: z.string() });

/**
 * The bytes at the end of the stored WAL: of a segment, before an offset. A server that went back to older data writes
 * other WAL under the same names, and may be further than the stored WAL when Lifeboat sees it again. Its bytes differ.
 */
const tail = z.object({ name: z.string().regex(/^[0-9A-F]{24}$/), to: count, sha256 });

/**
 * The format of the pages of all histories but the first. Version 0.1.0 does not know `era`, and would join the
 * segments of several histories, which have the same names.
 */
export const ERA_FORMAT = 2;

const page = z.object({
  format: z.literal([FORMAT, ERA_FORMAT]),
  project: z.string().min(1),
  source: z.string().min(1),
  systemId: z.string().regex(/^\d{1,20}$/),
  segmentSize: z.int().refine(isSegmentSize),
  page: z.int().positive(),
  revision: z.int().positive(),
  /** SHA-256 of the bytes of the final revision of the page before; null for the first */
  previous: sha256.nullable(),
  /**
   * the history that the page belongs to: its first page, and since when it is written. Absent: the first one. A server
   * that went back to older data begins another, because it writes other WAL under the same names
   */
  era: z.object({ page: z.int().positive(), since: time }).optional(),
  /** id of the agent's memory: a page of another one shows that somebody else receives the WAL of this server */
  home: z.string(),
  at: time,
  segments: z.array(segment),
  histories: z.array(history),
  /** the segment that is being received */
  open: partial.optional(),
  /** segments that were open once and never became complete: the server left their timeline, or lost the rest */
  partials: z.array(partial),
  gaps: z.array(gap),
  /** what was stored last. Absent: nothing was, or Lifeboat was older */
  tail: tail.optional(),
  signature: z.object({ algorithm: z.string(), keyId: z.string(), value: z.string() }).optional().catch(undefined),
});

/** A page of the log. */
export type WalPage = z.infer<typeof page>;
export type StoredSegment = z.infer<typeof segment>;
export type StoredHistory = z.infer<typeof history>;
export type PartialSegment = z.infer<typeof partial>;
export type StoredGap = z.infer<typeof gap>;
export type StoredTail = z.infer<typeof tail>;
export type StoredPart = z.infer<typeof part>;

/** Returns the segments of a page of which only the beginning is stored. */
export function incompleteOf({ partials, open }: Pick<WalPage, 'partials' | 'open'>): PartialSegment[] {
  return [...partials, ...(open ? [open] : [])];
}

/** A page is full when it has this many segments, incomplete segments and gaps. */
export const PAGE_ENTRIES = 256;

/** Where the WAL of one server is stored. */
export interface WalPlace {
  project: string;
  source: string;
  systemId: string;
}

/** Returns the prefix of the WAL objects of all servers that a source ever was. */
export function walPrefix({ project, source }: Pick<WalPlace, 'project' | 'source'>): string {
  return `${project}/wal/${source}/`;
}

const number8 = (value: number) => String(value).padStart(8, '0');

/** Returns the prefix of the pages of a server. */
export function logPrefix(place: WalPlace): string {
  return `${walPrefix(place)}${place.systemId}/log/`;
}

/** Returns the key of a page. */
export function pageKey(place: WalPlace, { page: number, revision }: Pick<WalPage, 'page' | 'revision'>): string {
  return `${logPrefix(place)}${number8(number)}-${number8(revision)}.json`;
}

/** Parses the key of a page, without its prefix: `<system id>/log/<page>-<revision>.json`. */
export function parsePageKey(rest: string): Pick<WalPage, 'systemId' | 'page' | 'revision'> | undefined {
  const match = /^(\d{1,20})\/log\/(\d{8,})-(\d{8,})\.json$/.exec(rest);
  return match ? { systemId: match[1] as string, page: Number(match[2]), revision: Number(match[3]) } : undefined;
}

const OBJECT =
  /^\d{1,20}\/[0-9A-F]{8}\/[0-9A-F]{8}(?:[0-9A-F]{16}|\.history)(?:\.[0-9A-F]{8})?-[0-9a-f]{6}(?:\.zst)?(?:\.age|\.gpg)?$/;

/** Returns whether a key, without the prefix of its source, is that of a page, a segment, a part or a history file. */
export function isWalObject(rest: string): boolean {
  return parsePageKey(rest) !== undefined || OBJECT.test(rest);
}

/** Encodes a page as JSON with sorted keys and a line feed. */
export function encodePage(value: WalPage): Buffer {
  return Buffer.from(`${canonicalJson(value)}\n`);
}

/** Decodes the bytes of a page: the inverse of {@link encodePage}. @throws OBJECT_DAMAGED */
export function decodePage(bytes: Buffer): WalPage {
  try {
    return page.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new LifeboatError('OBJECT_DAMAGED', 'a page of the WAL log is damaged', { cause });
  }
}

/** Returns the hash by which the next page names this one: hex SHA-256. */
export function pageHash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
