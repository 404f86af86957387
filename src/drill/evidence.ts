import { z } from 'zod';
import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { canonicalJson, FORMAT, manifestHash } from '../store/objects/manifest.ts';
import { readEvenDamaged, streamOf } from '../store/objects/objects.ts';
import { drillKey, drillPrefix } from '../store/objects/records.ts';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Repository } from '../store/repository/repository.ts';
import { unsigned, type Verdict, verifyText } from '../store/repository/signing.ts';

/** The evidence of drills, `<project>/drills/<id>.json`: signed and chained as manifests are. */

const value = z.union([z.string(), z.number(), z.boolean()]);
const error = z
  .object({ code: z.string(), message: z.string(), hint: z.string().optional(), cause: z.string().optional() })
  .transform((one) => one as ErrorInfo);
const status = z.enum(['ok', 'failed', 'interrupted', 'unproven']);
const time = z.iso.datetime();

const check = z.object({
  ...{ name: z.string(), of: z.string(), result: z.enum(['ok', 'failed', 'skipped']) },
  ...{ expected: value.optional(), found: value.optional() },
  ...{ differences: z.array(z.string()).optional(), detail: z.string().optional() },
});

const result = z.object({
  ...{ source: z.string(), kind: z.enum(['postgres', 'volume', 'files', 'stack']), status, place: z.string() },
  ...{ snapshot: z.string().optional(), heldAt: time.optional(), ageMs: z.number().optional() },
  image: z.object({ id: z.string(), digest: z.string().optional(), recorded: z.boolean() }).optional(),
  version: z.string().optional(),
  steps: z.array(z.object({ name: z.string(), durationMs: z.number() })),
  ...{ share: z.number().optional(), restoreMs: z.number().optional(), summary: z.string().optional() },
  ...{ checks: z.array(check), notes: z.array(z.string()), error: error.optional() },
});

const document = z.object({
  format: z.literal(FORMAT),
  ...{ id: z.string(), project: z.string(), sequence: z.int().positive(), previous: z.string().nullable() },
  ...{ trigger: z.enum(['schedule', 'manual']), by: z.string().optional(), start: time, end: time, status },
  ...{ agentVersion: z.string(), results: z.array(result), unproven: z.array(z.string()), error: error.optional() },
});

/** Evidence as it is stored, with its place among all evidence of the project. */
interface StoredDrill {
  report: DrillReport;
  /** 1 for the first */
  sequence: number;
  /** hex SHA-256 of the stored document, and of the one before it */
  hash: string;
  previous: string | null;
  signature: Verdict;
}

/** The evidence of a project, oldest first. */
interface DrillList {
  drills: StoredDrill[];
  /** documents that are unreadable, changed or missing */
  problems: { id: string; error: ErrorInfo }[];
}

type Place = Pick<Repository, 'destination' | 'project' | 'signing'>;

/**
 * Stores the evidence of a drill after the newest one. Resolves to the last reports before it, oldest first.
 *
 * @throws the errors of the destination; DEST_EXISTS
 */
export async function putDrill(place: Place, report: DrillReport): Promise<DrillReport[]> {
  const { destination, project, signing } = place;
  const earlier = (await readDrills(place, { newest: LOOKED_AT })).drills;
  const last = earlier.at(-1);
  const chained = { sequence: (last?.sequence ?? 0) + 1, previous: last?.hash ?? null };
  // What is signed is what will be read, without fields that are undefined.
  const plain = document.parse(JSON.parse(JSON.stringify({ format: FORMAT, ...report, ...chained })));
  const text = `${canonicalJson(signing.sign('drill', plain))}\n`;
  await destination.put(drillKey(project, report.id), streamOf(text));
  return earlier.map((one) => one.report);
}

/** Returns whether the last drill of the same sources left the same unproven, so that people know it already. */
export function isKnown(report: DrillReport, earlier: readonly DrillReport[]): boolean {
  const sources = (one: DrillReport) => JSON.stringify(one.results.map(({ source }) => source).sort());
  const last = earlier.findLast((one) => sources(one) === sources(report));
  if (report.status !== 'unproven' || last?.status !== 'unproven') return false;
  return JSON.stringify(last.unproven) === JSON.stringify(report.unproven);
}

/** The number of documents to read to find the newest. More than one, because a clock may have been wrong. */
const LOOKED_AT = 20;

/** Returns how many drills have evidence. */
export async function countDrills({ destination, project }: Place): Promise<number> {
  let count = 0;
  for await (const _ of destination.list(drillPrefix(project))) count++;
  return count;
}

/**
 * Reads evidence, and verifies signatures and the chain. Rejects only if the destination cannot be read.
 *
 * @param options `newest`: read only so many documents, those with the latest dates
 */
export async function readDrills(
  place: Place,
  { newest = Number.POSITIVE_INFINITY, signal }: { newest?: number; signal?: AbortSignal } = {},
): Promise<DrillList> {
  const { destination, project, signing } = place;
  const prefix = drillPrefix(project);
  const list: DrillList = { drills: [], problems: [] };
  const ids: string[] = [];
  for await (const { key } of destination.list(prefix)) {
    const id = key.slice(prefix.length).replace(/\.json$/, '');
    if (parseSnapshotId(id)) ids.push(id);
  }
  for (const id of ids.sort().reverse().slice(0, newest)) {
    signal?.throwIfAborted();
    const key = drillKey(project, id);
    const found = await readEvenDamaged(destination, key);
    if (!found) continue;
    try {
      if (found.damage) throw found.damage;
      const text = found.bytes.toString('utf8');
      const signature = verifyText(signing, 'drill', text, { id, project });
      list.drills.push({ ...decode(id, text), hash: manifestHash(found.bytes), signature });
    } catch (why) {
      list.problems.push({ id, error: errorInfo(why) });
    }
  }
  list.drills.sort((a, b) => a.sequence - b.sequence || (a.report.id < b.report.id ? -1 : 1));
  withoutForged(list);
  list.problems.push(...breaksOf(list));
  return list;
}

/** Moves unsigned documents to the problems, except those from before the first signed one. */
function withoutForged(list: DrillList): void {
  const first = list.drills.findIndex(({ signature }) => signature === 'signed');
  const forged = list.drills.filter(({ signature }, i) => signature === 'unsigned' && first >= 0 && i > first);
  list.drills = list.drills.filter((one) => !forged.includes(one));
  for (const { report } of forged)
    list.problems.push({ id: report.id, error: errorInfo(unsigned(`the evidence of drill ${report.id}`)) });
}

function decode(id: string, text: string): Omit<StoredDrill, 'hash' | 'signature'> {
  const parsed = document.safeParse(JSON.parse(text));
  if (!parsed.success || parsed.data.id !== id)
    throw new LifeboatError('OBJECT_DAMAGED', `the evidence of drill ${id} cannot be read`);
  const { format: _, sequence, previous, ...report } = parsed.data;
  return { report: withoutUndefined(report), sequence, previous };
}

/** The schema makes absent fields optional, and the types of this project tell absent from undefined. */
function withoutUndefined(report: Omit<z.infer<typeof document>, 'format' | 'sequence' | 'previous'>): DrillReport {
  return JSON.parse(JSON.stringify(report)) as DrillReport;
}

/** Finds evidence that does not follow an earlier document: one between them was removed or changed. */
function breaksOf({ drills, problems }: DrillList): DrillList['problems'] {
  const earlier = new Set<string>();
  return drills.flatMap(({ report, sequence, previous, hash }) => {
    const follows = previous === null ? sequence === 1 : earlier.has(previous);
    earlier.add(hash);
    if (follows || problems.length > 0) return [];
    const message = `the evidence of drill ${report.id} does not follow an earlier one: evidence is missing or was changed`;
    return [{ id: report.id, error: { code: 'CHAIN_BROKEN' as const, message } }];
  });
}
