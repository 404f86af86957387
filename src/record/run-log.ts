import { appendFile, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ErrorCode } from '../base/errors.ts';
import type { RunReport, RunStatus, SourceReport } from '../report/events.ts';
import type { Trigger } from '../report/trigger.ts';

/** The result of one run for one source. Sizes in bytes. */
export interface RanSource {
  status: SourceReport['status'];
  durationMs: number;
  bytes: number;
  newBytes: number;
  code?: ErrorCode;
}

/** One run that ended, whether or not it stored anything. */
export interface RanRun {
  id: string;
  trigger: Trigger;
  /** ISO times */
  start: string;
  end: string;
  status: RunStatus;
  /** why the run failed as a whole */
  code?: ErrorCode;
  sources: Record<string, RanSource>;
}

/** Above this size, the older half of the log is dropped. Bytes. */
const MAX_BYTES = 2 * 1024 * 1024;

const fileIn = (directory: string) => path.join(directory, 'runs.ndjson');

/**
 * Appends a run to the log of runs. Retention removes snapshots, and a failed run has none, so only this log shows how
 * each night of the last month went. Losing it loses no backup.
 *
 * @param directory of the state
 * @param report of one try
 * @param maxBytes the size above which the older half is dropped
 * @throws errors of the file system
 */
export async function appendRun(directory: string, report: RunReport, maxBytes = MAX_BYTES): Promise<void> {
  const file = fileIn(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  );
  // The line feed in front ends a line that a kill has cut.
  await appendFile(file, `\n${JSON.stringify(toRun(report))}`, { mode: 0o600 });
  if (size <= maxBytes) return;
  const text = await readFile(file, 'utf8');
  const half = text.indexOf('\n', Math.floor(text.length / 2));
  if (half < 0) return;
  await writeFile(`${file}.tmp`, text.slice(half), { mode: 0o600 });
  await rename(`${file}.tmp`, file);
}

/**
 * Reads the log of runs.
 *
 * @param directory of the state
 * @returns oldest first; empty if there is no log. Lines that a kill has cut are left out
 */
export async function readRuns(directory: string): Promise<RanRun[]> {
  const text = await readFile(fileIn(directory), 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => parseRun(line) ?? []);
}

function parseRun(line: string): RanRun | undefined {
  if (line === '') return undefined;
  try {
    return JSON.parse(line) as RanRun;
  } catch {
    return undefined;
  }
}

function toRun({ id, trigger, start, end, status, error, results, sources }: RunReport): RanRun {
  const failed: RanSource = { status: 'failed', durationMs: 0, bytes: 0, newBytes: 0 };
  // A run that failed as a whole failed for each of its sources.
  const all: Record<string, RanSource> = error
    ? Object.fromEntries(sources.map((name) => [name, { ...failed, code: error.code }]))
    : {};
  for (const { name, status: own, durationMs, bytes, newBytes, error: why } of results) {
    const stored = own === 'failed' || status !== 'failed';
    const code = why?.code ?? (stored ? undefined : error?.code);
    all[name] = { status: stored ? own : 'failed', durationMs, bytes, newBytes, ...(code ? { code } : {}) };
  }
  return { id, trigger, start, end, status, ...(error ? { code: error.code } : {}), sources: all };
}
