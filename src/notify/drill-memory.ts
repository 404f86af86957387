import path from 'node:path';
import { z } from 'zod';
import { ALL_SOURCES, failedSources, isProof, isWhole } from '../report/drill-proof.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import { readJson, writeJson } from '../run/state-files.ts';

/** `early`: those that failed before anything was restored, such as for a missing object */
const document = z.object({ failing: z.array(z.string()), early: z.array(z.string()).default([]) });

type Known = z.infer<typeof document>;

/** The memory of the sources whose last drill failed. */
interface DrillMemory {
  /**
   * Notes a drill. Never rejects. A source that failed is failing until a drill of its newest snapshot is good, or
   * until it is gone: a drill of everything does not have it. A drill that came to no source is over when the next one
   * does.
   *
   * @returns the sources that were failing before it, and those that are failing now
   */
  note(report: DrillReport): Promise<{ before: string[]; failing: string[] }>;
}

/**
 * Opens the memory of a notifier. The next drill may run in another process, so it is in a file.
 *
 * @param name of the notifier
 * @param directory of the state; absent: only in memory
 */
export function openDrillMemory(name: string, directory: string | undefined): DrillMemory {
  const file = directory === undefined ? undefined : path.join(directory, 'outbox', `${name}.drill.json`);
  let known: Known = { failing: [], early: [] };
  const read = async () => {
    const found = file === undefined ? undefined : await readJson(file).catch(() => undefined);
    return document.safeParse(found).data ?? known;
  };
  return {
    async note(report) {
      const before = await read();
      known = after(before, report);
      // Losing it costs one message.
      if (file !== undefined && JSON.stringify(known) !== JSON.stringify(before))
        await writeJson(file, known).catch(() => undefined);
      return { before: before.failing, failing: known.failing };
    },
  };
}

function after(before: Known, report: DrillReport): Known {
  const { results } = report;
  const failing = new Set(before.failing);
  const early = new Set(before.early);
  if (results.some(({ status }) => status !== 'interrupted')) failing.delete(ALL_SOURCES);
  const there = new Set(results.map(({ source }) => source));
  if (isWhole(report))
    for (const one of before.failing) if (one !== ALL_SOURCES && !there.has(one)) failing.delete(one);
  for (const one of results) if (isOver(report, one, early)) failing.delete(one.source);
  for (const source of failedSources(report)) failing.add(source);
  for (const { source, status, steps } of results) {
    if (status === 'failed' && steps.length === 0) early.add(source);
    else if (status === 'failed') early.delete(source);
  }
  const names = [...failing].sort();
  return { failing: names, early: names.filter((one) => early.has(one)) };
}

/** Without a key, a drill cannot prove the content. It does prove that what it found missing before is there. */
function isOver(report: DrillReport, result: DrillResult, early: ReadonlySet<string>): boolean {
  if (!isProof(report, result)) return false;
  return result.status === 'ok' || (result.error?.code === 'KEY_MISSING' && early.has(result.source));
}
