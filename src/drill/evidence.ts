import { z } from 'zod';
import { type ErrorInfo, errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { MAX_DOCUMENT } from '../store/objects/bounds.ts';
import { canonicalJson, FORMAT, manifestHash } from '../store/objects/manifest.ts';
import { readIfThere, streamOf } from '../store/objects/objects.ts';
import { drillKey, drillPrefix } from '../store/objects/records.ts';
import { newSnapshotId, parseSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Repository } from '../store/repository/repository.ts';
import { verifyText } from '../store/repository/signing.ts';
import { type BadDrill, breaksOf, lost, partUnsigned, type SeenDrill, type StoredDrill } from './evidence-chain.ts';

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

const target = z.object({ targetMs: z.number(), met: z.boolean().nullable() });
const fraction = z.number().min(0).max(1);

const result = z.object({
  ...{ source: z.string(), kind: z.enum(['postgres', 'volume', 'files', 'stack']), status, place: z.string() },
  ...{ snapshot: z.string().optional(), heldAt: time.optional(), ageMs: z.number().optional() },
  ...{ rpo: target.optional(), rto: target.optional() },
  image: z.object({ id: z.string(), digest: z.string().optional(), recorded: z.boolean() }).optional(),
  version: z.string().optional(),
  steps: z.array(z.object({ name: z.string(), durationMs: z.number() })),
  ...{ share: fraction.optional(), shareFrom: fraction.optional() },
  ...{ restoreMs: z.number().optional(), summary: z.string().optional() },
  ...{ checks: z.array(check), notes: z.array(z.string()), error: error.optional() },
});

const asked = z.object({
  ...{ sources: z.array(z.string()).optional(), snapshot: z.string().optional(), at: z.string().optional() },
  ...{ from: z.string().optional(), stack: z.literal(true).optional() },
});

const document = z.object({
  format: z.literal(FORMAT),
  ...{ id: z.string(), project: z.string(), sequence: z.int().positive(), previous: z.string().nullable() },
  place: z.string().optional(),
  ...{
    trigger: z.enum(['schedule', 'manual']),
    by: z.string().optional(),
    asked: asked.optional(),
    start: time,
    end: time,
    status,
  },
  ...{ agentVersion: z.string(), results: z.array(result), unproven: z.array(z.string()), error: error.optional() },
});

/** The evidence of a project at a place. */
interface DrillList {
  /** name of the place */
  place: string;
  /** oldest first */
  drills: StoredDrill[];
  /** documents that are unreadable, changed or missing */
  problems: BadDrill[];
  /** documents that do not count, because a key is set and they have no signature */
  unsigned: BadDrill[];
}

type Place = Pick<Repository, 'destination' | 'project' | 'signing'>;

/**
 * Stores the evidence of a drill after the newest one.
 *
 * @param seen the newest evidence that the agent has seen there: if it was removed, the next one still names it
 * @returns the last reports before it, oldest first, and the place of the new one
 * @throws the errors of the destination; DEST_EXISTS
 */
export async function putDrill(
  place: Place,
  report: DrillReport,
  seen?: SeenDrill,
): Promise<{ earlier: DrillReport[]; stored: SeenDrill }> {
  const { destination, project, signing } = place;
  const earlier = (await readDrills(place, { newest: LOOKED_AT })).drills;
  const newest = earlier.at(-1);
  const last = seen && seen.sequence > (newest?.sequence ?? 0) ? seen : newest;
  const chained = { sequence: (last?.sequence ?? 0) + 1, previous: last?.hash ?? null };
  // The signature covers the document as it will be read: without fields that are undefined.
  const plain = document.parse(
    JSON.parse(JSON.stringify({ format: FORMAT, ...report, ...chained, place: destination.name })),
  );
  const text = `${canonicalJson(signing.sign('drill', plain))}\n`;
  await destination.put(drillKey(project, report.id), streamOf(text));
  const stored = { id: report.id, sequence: chained.sequence, hash: manifestHash(Buffer.from(text)) };
  return { earlier: earlier.map((one) => one.report), stored };
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

interface ReadOptions {
  /** read only so many documents, those with the latest dates */
  newest?: number;
  /** the newest evidence that the agent has seen there */
  seen?: SeenDrill | undefined;
  signal?: AbortSignal;
}

/**
 * Reads evidence, and verifies signatures and the chain. One document that cannot be read is a problem. Rejects only if
 * the destination cannot be read.
 */
export async function readDrills(place: Place, options: ReadOptions = {}): Promise<DrillList> {
  const { newest = Number.POSITIVE_INFINITY, seen, signal } = options;
  const { destination, signing } = place;
  const list: DrillList = { place: destination.name, drills: [], problems: [], unsigned: [] };
  const ids = await idsOf(place);
  let read = 0;
  for (const id of ids) {
    // Nobody can hide signed evidence behind documents without a signature.
    if (read >= newest && (!signing.active || list.drills.some(({ signature }) => signature === 'signed'))) break;
    signal?.throwIfAborted();
    read++;
    await readOne(place, id, list);
  }
  // A clock that was wrong may have given others a later date.
  const isMissed = seen && !list.drills.some(({ hash }) => hash === seen.hash) && !isBad(list, seen.id);
  if (isMissed && ids.indexOf(seen.id) >= read) await readOne(place, seen.id, list);
  list.drills.sort((a, b) => a.sequence - b.sequence || (a.report.id < b.report.id ? -1 : 1));
  const parted = partUnsigned(list.drills);
  Object.assign(list, parted);
  list.problems.push(...breaksOf(list.drills, read < ids.length));
  if (seen && !list.drills.some(({ hash }) => hash === seen.hash) && !isBad(list, seen.id))
    list.problems.push(lost(seen));
  return list;
}

function isBad({ problems }: DrillList, id: string): boolean {
  return problems.some((one) => one.id === id);
}

/**
 * Reads the evidence of one drill. Resolves to undefined if there is none that counts: with a key, only what is signed.
 *
 * @throws the errors of the destination
 */
export async function readDrill(place: Place, id: string): Promise<DrillReport | undefined> {
  const list: DrillList = { place: place.destination.name, drills: [], problems: [], unsigned: [] };
  await readOne(place, id, list);
  return list.drills.find(({ signature }) => signature !== 'unsigned')?.report;
}

/** Lists the ids of all evidence, newest first. */
async function idsOf({ destination, project }: Place): Promise<string[]> {
  const prefix = drillPrefix(project);
  const ids: string[] = [];
  for await (const { key } of destination.list(prefix)) {
    const id = key.slice(prefix.length).replace(/\.json$/, '');
    if (parseSnapshotId(id)) ids.push(id);
  }
  return ids.sort().reverse();
}

async function readOne(place: Place, id: string, list: DrillList): Promise<void> {
  const { destination, project, signing } = place;
  try {
    const bytes = await readIfThere(destination, drillKey(project, id), { limit: MAX_DOCUMENT });
    if (!bytes) return;
    const text = bytes.toString('utf8');
    const signature = verifyText(signing, 'drill', text, { id, project });
    list.drills.push({ ...decode(id, text), hash: manifestHash(bytes), signature });
  } catch (why) {
    // One document may be locked or archived. A place that does not answer is no problem of the document.
    if (!hasCode(why, 'OBJECT_DAMAGED', 'SIGNATURE_WRONG', 'SIGNATURE_KEY')) await idsOf(place);
    list.problems.push({ id, error: errorInfo(why) });
  }
}

function decode(id: string, text: string): Omit<StoredDrill, 'hash' | 'signature'> {
  const parsed = document.safeParse(JSON.parse(text));
  // An id has the time of its drill, to the second.
  const isItself =
    parsed.success &&
    parsed.data.id === id &&
    newSnapshotId(new Date(parsed.data.start)).slice(0, 16) === id.slice(0, 16);
  if (!isItself) throw new LifeboatError('OBJECT_DAMAGED', `the evidence of drill ${id} cannot be read`);
  const { format: _, sequence, previous, place, ...report } = parsed.data;
  return { report: withoutUndefined(report), sequence, previous, ...(place === undefined ? {} : { place }) };
}

/** The schema makes absent fields optional, and the types of this project tell absent from undefined. */
function withoutUndefined(
  report: Omit<z.infer<typeof document>, 'format' | 'sequence' | 'previous' | 'place'>,
): DrillReport {
  return JSON.parse(JSON.stringify(report)) as DrillReport;
}
