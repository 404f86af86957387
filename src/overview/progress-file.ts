import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Listener, Progress, RunEvent, RunStart, SourceReport } from '../report/events.ts';
import { createMeter } from '../report/terminal/progress.ts';
import type { RateInfo } from '../report/text.ts';
import { readJson } from '../run/state-files.ts';

/** The progress of one source of a run. */
export interface SourceProgress {
  /** `waiting`: its turn has not come yet */
  state: 'waiting' | 'running' | SourceReport['status'];
  progress?: Progress;
  rate?: RateInfo;
}

/** The progress of the run that is under way. */
export interface RunProgress {
  /** id of the run; a file of another run is old */
  run: string;
  start: string;
  sources: Record<string, SourceProgress>;
}

/** The shortest time between two writes, milliseconds. */
const WRITE_MS = 1000;

const fileIn = (directory: string) => path.join(directory, 'progress.json');

/**
 * Creates a listener that keeps the progress of a run in a file, so that the daemon can show runs of other processes,
 * such as `docker compose exec`. A write that fails is left out, because the progress is of no use later.
 *
 * @param directory of the state
 */
export function createProgressFile(directory: string): Listener {
  const file = fileIn(directory);
  let now: RunProgress | undefined;
  let timer: NodeJS.Timeout | undefined;
  let writing = Promise.resolve();
  const meters = new Map<string, ReturnType<typeof createMeter>>();
  const write = () => {
    timer = undefined;
    const text = JSON.stringify(now);
    // A reader may meet half a text and then waits for the next one, so no rename and no sync are needed.
    writing = writing.then(() => writeFile(file, text, { mode: 0o600 }).catch(() => undefined));
  };
  const change = (source: string, of: SourceProgress) => {
    if (!now) return;
    now.sources[source] = of;
    timer ??= setTimeout(write, WRITE_MS).unref();
  };
  return {
    name: 'progress file',
    async handle(event: RunEvent) {
      if (event.type === 'run-started') {
        now = startOf(event.run);
        meters.clear();
        write();
      } else if (event.type === 'source-started') change(event.source, { state: 'running' });
      else if (event.type === 'progress') {
        const { progress } = event;
        const meter = meters.get(progress.source) ?? createMeter(Date.now);
        meters.set(progress.source, meter);
        meter.add(progress);
        const rate = meter.rate();
        change(progress.source, { state: 'running', progress, ...(rate ? { rate } : {}) });
      } else if (event.type === 'source-finished') change(event.result.name, { state: event.result.status });
      else if (event.type === 'run-finished') {
        clearTimeout(timer);
        timer = undefined;
        now = undefined;
        await writing;
        await rm(file, { force: true });
      }
    },
  };
}

function startOf({ id, start, sources }: RunStart): RunProgress {
  return { run: id, start, sources: Object.fromEntries(sources.map((name) => [name, { state: 'waiting' }])) };
}

/**
 * Reads the progress of a run.
 *
 * @param directory of the state
 * @param run id of the run
 * @returns undefined if there is no progress of that run
 */
export async function readProgress(directory: string, run: string): Promise<RunProgress | undefined> {
  const found = await readJson<RunProgress>(fileIn(directory)).catch(() => undefined);
  return found?.run === run ? found : undefined;
}
