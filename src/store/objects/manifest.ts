import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type ErrorCode, LifeboatError } from '../../base/errors.ts';
import { parseSnapshotId } from './snapshot-id.ts';

/** The format of a repository and its manifests that this version writes, and the newest it reads. */
export const FORMAT = 1;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();
const time = z.iso.datetime();

/** A key names an object below the repository: no part may be empty or start with a dot. */
const key = z.string().regex(/^(?:[^/.][^/]*\/)*[^/.][^/]*$/);

const objectRef = z.object({ key, size: count, sha256 });

const packRef = objectRef.extend({
  id: z.string().regex(/^[0-9a-f]{32}$/),
  plainSize: count,
  keyId: z.string().optional(),
});

const errorInfo = z.object({
  // A code of a newer version is kept as it is.
  code: z.string().transform((code) => code as ErrorCode),
  message: z.string(),
  hint: z.string().optional(),
  cause: z.string().optional(),
});

const source = z.object({
  kind: z.enum(['postgres', 'volume', 'files']),
  status: z.enum(['ok', 'partial', 'failed']),
  error: errorInfo.optional(),
  image: z.string().optional(),
  index: objectRef.optional(),
  facts: objectRef.optional(),
  packs: z.array(packRef),
  files: count,
  bytes: count,
  newBytes: count,
  newFiles: count,
  /** of a database source: rows of all tables */
  rows: count.optional(),
  /** of a database source: those that were to be stored, also those that are missing, and those that nobody can connect to */
  databases: z
    .array(z.object({ name: z.string(), status: z.enum(['ok', 'failed', 'closed']), error: errorInfo.optional() }))
    .optional(),
  /** of a database source: why it has no roles and tablespaces */
  withoutGlobals: errorInfo.optional(),
  summary: z.string(),
  warnings: z.array(z.string()),
  skipped: z.record(z.string(), count),
  /** the keep policy that it had, as a user writes it */
  keep: z.string().optional(),
  /** it was much smaller than in that snapshot */
  fell: z.object({ since: z.string() }).optional(),
});

const manifest = z.object({
  format: z.literal(FORMAT),
  id: z.string().refine((id) => parseSnapshotId(id) !== undefined),
  project: z.string().min(1),
  sequence: z.int().positive(),
  previous: sha256.nullable(),
  start: time,
  end: time,
  trigger: z.enum(['schedule', 'catch-up', 'manual', 'safety', 'import']),
  /** of an import: when the backup that it is of was made, and the name of its file */
  imported: z.object({ at: time, file: z.string() }).optional(),
  agentVersion: z.string(),
  status: z.enum(['ok', 'partial', 'failed']),
  sources: z.record(z.string(), source),
  /** by LIFEBOAT_SIGNING_KEY; one of an unknown form is left to whoever verifies it */
  signature: z.object({ algorithm: z.string(), keyId: z.string(), value: z.string() }).optional().catch(undefined),
});

/** A stored object as a manifest names it: size in bytes and hex SHA-256, both as stored. */
export type ObjectRef = z.infer<typeof objectRef>;

/** One source's part of a snapshot. Sizes in bytes. */
export type ManifestSource = z.infer<typeof source>;

/** The commit of one run: what it stored, and where. Holds nothing secret. */
export type Manifest = z.infer<typeof manifest>;

/**
 * True for a snapshot of what a source held when it was made. A safety snapshot has what somebody wanted to get away from, and an import is of
 * long ago: neither is the latest of a source, nor what the next one is compared with, nor counted by a retention.
 */
export function isRegular({ trigger }: Pick<Manifest, 'trigger'>): boolean {
  return trigger !== 'safety' && trigger !== 'import';
}

/** When what a snapshot holds was so: the end of its run, or of an import the time of the backup that it is of. ISO time. */
export function heldAt({ end, imported }: Pick<Manifest, 'end' | 'imported'>): string {
  return imported?.at ?? end;
}

/** The bytes of a manifest: JSON with sorted keys and no spaces, and a line feed. The same manifest always gives the same bytes. */
export function encodeManifest(value: Manifest): Buffer {
  return Buffer.from(`${canonicalJson(manifest.parse(value))}\n`);
}

/**
 * The inverse of {@link encodeManifest}. Fields it does not know are ignored.
 *
 * @throws FORMAT_UNSUPPORTED for a newer format, OBJECT_DAMAGED for what is no manifest
 */
export function decodeManifest(bytes: Buffer): Manifest {
  return decodeDocument(bytes, manifest, 'the manifest');
}

/** The hash by which the next manifest names this one. */
export function manifestHash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const repository = z.object({ format: z.literal(FORMAT), id: z.string().min(1), created: time });

/** What `lifeboat.json` says of a repository. */
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

/** JSON with the keys of every object sorted. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => {
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
