import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type ErrorCode, LifeboatError } from '../../base/errors.ts';
import { isRegularRun } from '../../report/trigger.ts';
import { listOf, recordOf } from './first-fault.ts';
import { parseSnapshotId } from './snapshot-id.ts';

/** The repository format that this version writes. It reads this format and older ones. */
export const FORMAT = 1;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();
const time = z.iso.datetime();

/** A key names an object relative to the repository. No part may be empty or start with a dot. */
const key = z.string().regex(/^(?:[^/.][^/]*\/)*[^/.][^/]*$/);

const objectRef = z.object({ key, size: count, sha256 });

/**
 * The object that lists the packs of a source, see pack-list.ts. `count`: the number of packs. `keyId`: the id of the
 * keys that encrypt the packs.
 */
const packList = objectRef.extend({ count, keyId: z.string().optional() });

/** No pack is larger, bytes: 64 MiB, one more content, and the names of 4,096 entries, twice. */
const MAX_PACK = 256 * 1024 * 1024;

const packRef = objectRef.extend({
  id: z.string().regex(/^[0-9a-f]{32}$/),
  plainSize: count.max(MAX_PACK),
  keyId: z.string().optional(),
  /** bytes of the zip that this snapshot uses, with their headers */
  used: count.optional(),
});

const errorInfo = z.object({
  // Codes of newer versions pass through unchanged.
  code: z.string().transform((code) => code as ErrorCode),
  message: z.string(),
  hint: z.string().optional(),
  cause: z.string().optional(),
});

const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/);

const source = z.object({
  kind: z.enum(['postgres', 'base', 'volume', 'files']),
  status: z.enum(['ok', 'partial', 'failed']),
  error: errorInfo.optional(),
  image: z.string().optional(),
  imageDigest: z.string().optional(),
  index: objectRef.optional(),
  facts: objectRef.optional(),
  /** absent if no file of the source has content */
  packs: packList.optional(),
  files: count,
  bytes: count,
  newBytes: count,
  newFiles: count,
  /** of a database source: rows of all tables */
  rows: count.optional(),
  /**
   * of a database source: all databases that should be stored, including failed ones and those that accept no
   * connections
   */
  databases: listOf(
    z.object({ name: z.string(), status: z.enum(['ok', 'failed', 'closed']), error: errorInfo.optional() }),
  ).optional(),
  /** of a database source: why roles and tablespaces are not stored */
  withoutGlobals: errorInfo.optional(),
  summary: z.string(),
  warnings: listOf(z.string()),
  skipped: recordOf(count),
  /** of files: data directories of databases whose content is not stored, for people; at most 20 */
  leftOut: listOf(z.string()).optional(),
  /** of a base backup: its place in the write-ahead log, and when it was made, by the server's clock */
  base: z
    .object({
      systemId: z.string().regex(/^\d{1,20}$/),
      timeline: z.int().positive(),
      startLsn: lsn,
      stopLsn: lsn,
      startTime: time,
      stopTime: time,
      /** number of the first page of the history of its WAL; absent: unknown */
      era: z.int().positive().optional(),
    })
    .optional(),
  /** the source's keep policy at that time, as a user writes it */
  keep: z.string().optional(),
  /** the source's schedule at that time, and its IANA time zone */
  schedule: z.object({ cron: z.string(), zone: z.string() }).optional(),
  /** set if the source has lost data since the snapshot `since`; `why`: what, for people */
  fell: z.object({ since: z.string(), why: listOf(z.string()).optional() }).optional(),
});

const manifest = z.object({
  format: z.literal(FORMAT),
  id: z.string().refine((id) => parseSnapshotId(id) !== undefined),
  project: z.string().min(1),
  sequence: z.int().positive(),
  previous: sha256.nullable(),
  start: time,
  end: time,
  // A version that does not know a value refuses the manifest, so another value needs another format.
  trigger: z.enum(['schedule', 'catch-up', 'manual', 'safety', 'import']),
  /**
   * of an import: the time of its data, and the name of the file. `kind`: `recovery` for a server as it was at a point
   * in time, then `file` says which; absent for a file, and in recoveries of older versions
   */
  imported: z.object({ at: time, file: z.string(), kind: z.string().optional() }).optional(),
  agentVersion: z.string(),
  status: z.enum(['ok', 'partial', 'failed']),
  sources: recordOf(source),
  /** made with LIFEBOAT_SIGNING_KEY; verification judges a malformed one */
  signature: z.object({ algorithm: z.string(), keyId: z.string(), value: z.string() }).optional().catch(undefined),
});

/** A manifest's reference to a stored object: size in bytes and hex SHA-256, both as stored. */
export type ObjectRef = z.infer<typeof objectRef>;

/** A manifest's reference to the list of a source's packs. */
export type PackListRef = z.infer<typeof packList>;

/** A line of a list of packs: the reference to a pack. `plainSize`: bytes of the zip itself. */
export type ListedPack = z.infer<typeof packRef>;

/** One source's part of a snapshot. Sizes in bytes. */
export type ManifestSource = z.infer<typeof source>;

/** The commit of one run: the objects it stored, with their results. Contains no secrets. */
export type Manifest = z.infer<typeof manifest>;

/**
 * Returns true for a snapshot of a source's regular state at that time. A safety snapshot holds the state that a
 * restore replaced, and an import holds an old state. Neither is a source's latest snapshot, nor a base for
 * comparisons, nor counted by retention.
 */
export function isRegular({ trigger }: Pick<Manifest, 'trigger'>): boolean {
  return isRegularRun(trigger);
}

/** Returns the time of the data in a snapshot, as ISO time: the end of its run, or the time of the imported backup. */
export function heldAt({ end, imported }: Pick<Manifest, 'end' | 'imported'>): string {
  return imported?.at ?? end;
}

/** Encodes a manifest as JSON with sorted keys, no spaces, and a line feed. Equal manifests give equal bytes. */
export function encodeManifest(value: Manifest): Buffer {
  return Buffer.from(`${canonicalJson(manifest.parse(value))}\n`);
}

/**
 * Decodes the bytes of a manifest: the inverse of {@link encodeManifest}. Ignores unknown fields.
 *
 * @throws FORMAT_UNSUPPORTED for a newer format, OBJECT_DAMAGED for anything else that is not a manifest
 */
export function decodeManifest(bytes: Buffer): Manifest {
  return decodeDocument(bytes, manifest, 'the manifest');
}

/** Returns the hash by which the next manifest names this one: hex SHA-256. */
export function manifestHash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Returns the key of a snapshot's manifest. */
export function manifestKey(project: string, id: string): string {
  return `${project}/snapshots/${id}/manifest.json`;
}

/** Returns the documents of a source: its index, its facts and the list of its packs. */
export function documentsOfEntry({
  index,
  facts,
  packs,
}: Pick<ManifestSource, 'index' | 'facts' | 'packs'>): ObjectRef[] {
  return [index, facts, packs].filter((ref) => ref !== undefined);
}

/** Returns the objects that a manifest itself names. The packs are in the lists that it names, see pack-lists.ts. */
export function documentsOf(manifest: Pick<Manifest, 'sources'>): ObjectRef[] {
  return Object.values(manifest.sources).flatMap(documentsOfEntry);
}

/**
 * Returns a source's index or facts with the id of the keys that encrypted them. All objects of a source have the same
 * keys, and only the list of its packs names them.
 */
export function withKeyId(ref: ObjectRef, { packs }: Pick<ManifestSource, 'packs'>): ObjectRef & { keyId?: string } {
  const id = packs?.keyId;
  return id === undefined ? ref : { ...ref, keyId: id };
}

/**
 * Decodes one line of a pack list.
 *
 * @throws OBJECT_DAMAGED
 */
export function decodePackLine(line: string, key: string): ListedPack {
  try {
    return packRef.parse(JSON.parse(line));
  } catch (cause) {
    throw new LifeboatError('OBJECT_DAMAGED', `${key} is not a list of packs`, { cause });
  }
}

const repository = z.object({ format: z.literal(FORMAT), id: z.string().min(1), created: time });

/** The content of `lifeboat.json`, which identifies a repository. */
export type RepositoryInfo = z.infer<typeof repository>;

export function encodeRepositoryInfo(info: RepositoryInfo): Buffer {
  return Buffer.from(`${canonicalJson(info)}\n`);
}

/** @throws FORMAT_UNSUPPORTED, OBJECT_DAMAGED */
export function decodeRepositoryInfo(bytes: Buffer): RepositoryInfo {
  return decodeDocument(bytes, repository, 'lifeboat.json');
}

function decodeDocument<T>(bytes: Buffer, schema: z.ZodType<T>, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new LifeboatError('OBJECT_DAMAGED', `${what} is not JSON`, { cause });
  }
  const format = z.object({ format: z.number() }).safeParse(value);
  if (format.success && format.data.format > FORMAT) {
    throw new LifeboatError('FORMAT_UNSUPPORTED', `${what} has format ${format.data.format}`, {
      hint: `This version of Lifeboat reads format ${FORMAT}; use a newer one.`,
    });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new LifeboatError('OBJECT_DAMAGED', `${what} is damaged`, { cause: parsed.error });
  return parsed.data;
}

/** Returns JSON with the keys of every object sorted. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => {
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
