import { z } from 'zod';

/**
 * What version 0.1.0 accepts of stored documents: the values and the fields that it needs. It ignores other fields. This
 * file changes only with the format.
 */

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();
const time = z.iso.datetime();
const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/);
const format = z.literal(1);
const ref = z.object({ key: z.string(), size: count, sha256 });
const error = z.object({
  ...{ code: z.string(), message: z.string(), hint: z.string().optional(), cause: z.string().optional() },
});

const source = z.object({
  kind: z.enum(['postgres', 'base', 'volume', 'files']),
  status: z.enum(['ok', 'partial', 'failed']),
  ...{ error: error.optional(), image: z.string().optional(), index: ref.optional(), facts: ref.optional() },
  packs: ref.extend({ count, keyId: z.string().optional() }).optional(),
  ...{ files: count, bytes: count, newBytes: count, newFiles: count, rows: count.optional() },
  databases: z
    .array(z.object({ name: z.string(), status: z.enum(['ok', 'failed', 'closed']), error: error.optional() }))
    .optional(),
  ...{ withoutGlobals: error.optional(), summary: z.string(), warnings: z.array(z.string()) },
  ...{ skipped: z.record(z.string(), count), leftOut: z.array(z.string()).optional() },
  base: z
    .object({
      ...{ systemId: z.string(), timeline: z.int().positive(), startLsn: lsn, stopLsn: lsn },
      ...{ startTime: time, stopTime: time },
    })
    .optional(),
  keep: z.string().optional(),
  fell: z.object({ since: z.string(), why: z.array(z.string()).optional() }).optional(),
});

export const manifest = z.object({
  ...{ format, id: z.string(), project: z.string(), sequence: z.int().positive(), previous: sha256.nullable() },
  ...{ start: time, end: time, trigger: z.enum(['schedule', 'catch-up', 'manual', 'safety', 'import']) },
  ...{ imported: z.object({ at: time, file: z.string() }).optional(), agentVersion: z.string() },
  ...{ status: z.enum(['ok', 'partial', 'failed']), sources: z.record(z.string(), source) },
});

export const packLine = ref.extend({
  ...{ id: z.string(), plainSize: count, keyId: z.string().optional(), used: count.optional() },
});

const history = ref.extend({
  ...{ name: z.string(), ancestors: z.array(z.object({ timeline: z.int().positive(), until: lsn })) },
});
const incomplete = z.object({
  ...{ name: z.string(), parts: z.array(ref.extend({ from: count, to: count })), reached: time.optional() },
});

export const walPage = z.object({
  ...{ format, project: z.string(), source: z.string(), systemId: z.string(), segmentSize: z.int() },
  ...{
    page: z.int().positive(),
    revision: z.int().positive(),
    previous: sha256.nullable(),
    home: z.string(),
    at: time,
  },
  segments: z.array(ref.extend({ name: z.string(), reached: time.optional() })),
  ...{ histories: z.array(history), open: incomplete.optional(), partials: z.array(incomplete) },
  gaps: z.array(z.object({ at: time, timeline: z.int().positive(), to: lsn, why: z.string() })),
});

export const lease = z.object({
  ...{ format, token: z.string(), home: z.string(), holder: z.string(), at: time, expires: time },
  ...{ released: z.boolean(), sequence: count.optional() },
});

export const pin = z.object({ format, reason: z.string(), at: time });

export const tombstone = z.object({
  ...{ format, id: z.string(), project: z.string(), sequence: z.int().positive(), sha256 },
  ...{ previous: sha256.nullable(), removed: time, why: z.string() },
});

const value = z.union([z.string(), z.number(), z.boolean()]);
const drillStatus = z.enum(['ok', 'failed', 'interrupted', 'unproven']);

const drillResult = z.object({
  ...{ source: z.string(), kind: z.enum(['postgres', 'volume', 'files', 'stack']), status: drillStatus },
  ...{ place: z.string(), snapshot: z.string().optional(), heldAt: time.optional(), ageMs: z.number().optional() },
  image: z.object({ id: z.string(), digest: z.string().optional(), recorded: z.boolean() }).optional(),
  version: z.string().optional(),
  steps: z.array(z.object({ name: z.string(), durationMs: z.number() })),
  ...{ share: z.number().optional(), restoreMs: z.number().optional(), summary: z.string().optional() },
  checks: z.array(
    z.object({
      ...{ name: z.string(), of: z.string(), result: z.enum(['ok', 'failed', 'skipped']) },
      ...{ expected: value.optional(), found: value.optional() },
      ...{ differences: z.array(z.string()).optional(), detail: z.string().optional() },
    }),
  ),
  ...{ notes: z.array(z.string()), error: error.optional() },
});

/** Without `format`, `sequence` and `previous`. */
export const evidence = z.object({
  ...{ id: z.string(), project: z.string(), trigger: z.enum(['schedule', 'manual']), by: z.string().optional() },
  ...{ start: time, end: time, status: drillStatus, agentVersion: z.string(), results: z.array(drillResult) },
  ...{ unproven: z.array(z.string()), error: error.optional() },
});
