import { z } from 'zod';
import type { ErrorCode, ErrorInfo } from '../../src/base/errors.ts';
import type { WebhookMessage } from '../../src/notify/webhook.ts';
import type { Problem } from '../../src/plan/model.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import type { CopyReport, OtherSource, RestoreReport, RunReport, SourceReport } from '../../src/report/events.ts';
import type { Letter } from '../../src/report/letter.ts';

/**
 * The form of the webhook's body. The compiler holds it against the types that the code sends, in both directions, and
 * docs/webhook.schema.json is made from it. Objects may gain members, so unknown ones are allowed.
 */

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
/** Accepts a schema only if its type is exactly the expected one. */
const exactly =
  <T>() =>
  <S extends z.ZodType>(schema: S & (Same<z.infer<S>, T> extends true ? unknown : never)): S =>
    schema;

const { exactOptional: maybe } = z;
const time = z.iso.datetime().describe('ISO 8601, UTC');
const code = z.string().describe('see docs/errors.md') as unknown as z.ZodType<ErrorCode>;
const bytes = z.number().describe('bytes');
const ms = z.number().describe('milliseconds');
const texts = z.array(z.string());
const isTrue = z.literal(true);
const status = z.enum(['ok', 'partial', 'failed']);

const error = exactly<ErrorInfo>()(
  z.object({ code, message: z.string(), hint: maybe(z.string()), cause: maybe(z.string()) }),
);
const problem = exactly<Problem>()(
  z.object({
    ...{ severity: z.enum(['error', 'warning']), code, subject: z.string(), message: z.string() },
    ...{ cause: maybe(z.string()), hint: maybe(z.string()) },
  }),
);
const stored = {
  lastGood: maybe(z.object({ snapshot: z.string(), at: time, partial: maybe(isTrue), damaged: maybe(isTrue) })),
  unusable: maybe(z.number()),
  proven: maybe(time),
};
const source = exactly<SourceReport>()(
  z.object({
    ...{ name: z.string(), kind: z.enum(['postgres', 'base', 'volume', 'files']), status, durationMs: ms },
    ...{ bytes, files: z.number(), newBytes: bytes, newFiles: z.number(), summary: z.string(), warnings: texts },
    fell: maybe(z.object({ since: z.string(), earlier: maybe(z.string()), why: texts, at: maybe(time) })),
    ...{ error: maybe(error), run: maybe(z.string()), ...stored },
  }),
);
const other = exactly<OtherSource>()(
  z.object({
    ...{ name: z.string(), attention: z.enum(['failed', 'partial', 'late', 'vanished']), at: maybe(time) },
    ...{ error: maybe(error), ...stored },
  }),
);
const counts = z.object({ snapshots: z.number(), objects: z.number() });
const pruned = z.object({
  ...{ snapshots: z.number(), objects: z.number(), bytes, refused: maybe(counts) },
  unreadable: maybe(z.object({ snapshots: texts, objects: z.number() })),
  held: maybe(z.object({ snapshots: z.number(), sources: texts })),
  unread: maybe(texts),
});
const copy = exactly<CopyReport>()(
  z.object({
    ...{ name: z.string(), status, snapshots: z.number(), objects: z.number(), bytes, behindSince: maybe(time) },
    ...{ error: maybe(error), isDestination: maybe(isTrue), problems: maybe(z.array(problem)) },
    ...{ pruned: maybe(pruned), pruneError: maybe(error) },
  }),
);
const report = exactly<RunReport>()(
  z.object({
    ...{ id: z.string(), rid: z.string(), project: z.string(), start: time, end: time, sources: texts, status },
    trigger: z.enum(['schedule', 'catch-up', 'manual', 'safety', 'import']),
    ...{ snapshot: maybe(z.string()), results: z.array(source), problems: z.array(problem) },
    ...{ others: maybe(z.array(other)), error: maybe(error) },
    safe: maybe(z.array(z.object({ name: z.string(), ...stored }))),
    ...{ copies: maybe(z.array(copy)), pruned: maybe(pruned), after: maybe(z.number()), destination: z.string() },
    ...{ logTail: texts, previousStatus: maybe(status), nextRun: maybe(time) },
    retry: maybe(z.object({ at: time, quiet: z.boolean() })),
  }),
);
const skipped = z.object({
  ...{ database: z.string(), kind: z.string(), name: z.string(), statement: maybe(z.string()), message: z.string() },
});
const restored = z.object({
  ...{ target: z.string(), tables: maybe(z.number()), rows: maybe(z.number()), files: maybe(z.number()) },
  ...{ bytes: maybe(bytes), kept: maybe(z.string()) },
});
const restore = exactly<RestoreReport>()(
  z.object({
    ...{ id: z.string(), project: z.string(), verb: z.enum(['restore', 'rollback']), source: z.string() },
    ...{ target: z.string(), snapshot: z.string(), start: time, end: time, status, restored: z.array(restored) },
    failed: maybe(z.array(z.object({ target: z.string(), error }))),
    skipped: maybe(z.array(skipped)),
    steps: z.array(z.object({ name: z.string(), durationMs: ms })),
    checks: z.array(z.object({ name: z.string(), ok: z.boolean(), detail: maybe(z.string()) })),
    ...{ workMs: maybe(ms), whole: maybe(texts), live: maybe(isTrue), stoppedMs: maybe(ms), withoutDataMs: maybe(ms) },
    ...{
      safety: maybe(z.string()),
      canRollBack: z.boolean(),
      undo: maybe(z.string()),
      of: maybe(z.string()),
      warnings: texts,
    },
    error: maybe(error),
  }),
);
const alarm = exactly<Alarm>()(
  z.object({
    ...{ project: z.string(), topic: z.enum(['wal', 'wal-gap', 'wal-behind', 'rpo', 'rto']), source: z.string() },
    ...{ at: time, error, safe: maybe(z.string()), next: maybe(z.string()), over: maybe(isTrue), since: maybe(time) },
  }),
);
const value = z.union([z.string(), z.number(), z.boolean()]);
const proof = z.enum(['ok', 'failed', 'interrupted', 'unproven']);
const drill = exactly<DrillReport>()(
  z.object({
    ...{ id: z.string(), project: z.string(), trigger: z.enum(['schedule', 'manual']), by: maybe(z.string()) },
    ...{ start: time, end: time, status: proof, agentVersion: z.string(), unproven: texts, error: maybe(error) },
    results: z.array(
      z.object({
        ...{ source: z.string(), kind: z.enum(['postgres', 'volume', 'files']), status: proof, place: z.string() },
        ...{ snapshot: maybe(z.string()), heldAt: maybe(time), ageMs: maybe(ms), version: maybe(z.string()) },
        image: maybe(z.object({ id: z.string(), digest: maybe(z.string()), recorded: z.boolean() })),
        steps: z.array(z.object({ name: z.string(), durationMs: ms })),
        ...{
          share: maybe(z.number()),
          restoreMs: maybe(ms),
          summary: maybe(z.string()),
          notes: texts,
          error: maybe(error),
        },
        checks: z.array(
          z.object({
            ...{ name: z.string(), of: z.string(), result: z.enum(['ok', 'failed', 'skipped']) },
            ...{ expected: maybe(value), found: maybe(value), differences: maybe(texts), detail: maybe(z.string()) },
          }),
        ),
      }),
    ),
  }),
);
const letter = exactly<Letter>()(
  z.object({
    ...{ project: z.string(), from: time, to: time, pruned: z.number(), snapshots: z.number() },
    sources: z.array(
      z.object({
        ...{ name: z.string(), good: z.number(), bad: z.number(), bytes: maybe(bytes), bytesBefore: maybe(bytes) },
        ...{ newBytes: bytes, lastGood: maybe(time) },
        restored: maybe(z.object({ at: time, durationMs: ms, by: z.enum(['restore', 'drill']) })),
      }),
    ),
    ...{ copies: texts, needs: texts, nextRun: maybe(time) },
  }),
);

export const webhookSchema = exactly<WebhookMessage>()(
  z.object({
    format: z.literal(1),
    event: z.enum(['run-finished', 'restore-started', 'restore-finished', 'drill-finished', 'alarm', 'letter', 'test']),
    ...{ project: z.string(), at: time, level: z.enum(['bad', 'warning', 'good', 'info']), text: z.string() },
    ...{ facts: texts, safe: texts, next: texts },
    ...{ report: maybe(report), restore: maybe(restore), alarm: maybe(alarm), alarms: maybe(z.array(alarm)) },
    ...{ drill: maybe(drill), letter: maybe(letter) },
  }),
);

/** Returns the JSON Schema of docs/webhook.schema.json. Bodies of later versions are valid too. */
export function jsonSchema(): object {
  return {
    $id: 'https://lifeboat.example/webhook.schema.json',
    title: 'The body of a request to LIFEBOAT_WEBHOOK_URL, format 1',
    ...z.toJSONSchema(webhookSchema, { io: 'input', reused: 'ref' }),
  };
}
