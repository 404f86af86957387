import path from 'node:path';
import { z } from 'zod';
import type { DrillReport } from '../report/drill-report.ts';
import { readJson, writeJson } from '../run/state-files.ts';

/** Stands for the sources of a drill that failed before it came to any of them. The next good drill ends it. */
const ALL = '*';

const document = z.object({ failing: z.array(z.string()) });

/** The memory of the sources whose last drill failed. */
interface DrillMemory {
  /**
   * Notes a drill. Never rejects.
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
  let known: string[] = [];
  const read = async () => {
    const found = file === undefined ? undefined : await readJson(file).catch(() => undefined);
    return document.safeParse(found).data?.failing ?? known;
  };
  return {
    async note({ status, results, error }) {
      const before = await read();
      const failing = new Set(before);
      if (status === 'ok') failing.delete(ALL);
      for (const one of results) {
        if (one.status === 'failed') failing.add(one.source);
        if (one.status === 'ok') failing.delete(one.source);
      }
      const isNamed = results.some((one) => one.status === 'failed');
      if (status === 'failed' && (error !== undefined || !isNamed)) failing.add(ALL);
      known = [...failing].sort();
      // Losing it costs one message.
      if (file !== undefined && known.join() !== before.join())
        await writeJson(file, { failing: known }).catch(() => undefined);
      return { before, failing: known };
    },
  };
}
