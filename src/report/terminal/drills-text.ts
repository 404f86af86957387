import type { DrillReport, DrillResult } from '../drill-report.ts';
import { checkText } from '../drill-text.ts';
import { formatAge, formatDuration, oneLine, plural } from '../format.ts';

/** One source's part of a stored drill. */
interface Row {
  drill: DrillReport & { signature?: string };
  result: DrillResult;
}

/** The evidence of a period, as `lifeboat drills` reads it. */
export interface DrillsReport {
  project: string;
  /** ISO time of the start of the period; absent: all evidence */
  since?: string;
  /** newest first */
  drills: readonly (DrillReport & { signature?: string })[];
  /** evidence that is unreadable, changed or missing */
  problems: readonly { id: string; error: { code: string; message: string } }[];
}

/** Writes the evidence as a report for people and auditors, in Markdown. */
export function drillsMarkdown(report: DrillsReport, now: Date): string {
  const rows = rowsOf(report);
  const failed = rows.filter(({ result }) => result.status === 'failed');
  const period = report.since === undefined ? 'all drills' : `drills since ${time(report.since)}`;
  return [
    `# Restore tests of ${cell(report.project)}`,
    '',
    `${period[0]?.toUpperCase()}${period.slice(1)}, written ${time(now.toISOString())}. Each drill restored snapshots into throwaway containers and compared them with what was recorded when they were made.`,
    '',
    `- Drills: ${report.drills.length}. Restores: ${rows.length}, of them failed: ${failed.length}.`,
    ...sourceLines(rows),
    `- Evidence: ${evidenceText(report)}`,
    '',
    '| when | source | snapshot | age of the data | result | restored in | checks | place | image | asked by |',
    '|---|---|---|---|---|---|---|---|---|---|',
    ...rows.map((row) => `| ${columns(row).map(cell).join(' | ')} |`),
    ...(failed.length === 0 ? [] : ['', '## What failed', '', ...failed.flatMap((row) => failureLines(row))]),
    '',
  ].join('\n');
}

/** Returns a time that is right whenever the report is read: `2026-11-19 12:00 UTC`. */
function time(iso: string): string {
  return `${iso.slice(0, 16).replace('T', ' ')} UTC`;
}

/** The longest restore of each source is what a recovery must reckon with. */
function sourceLines(rows: readonly Row[]): string[] {
  return [...Map.groupBy(rows, ({ result }) => result.source)].map(([source, all]) => {
    const times = all.flatMap(({ result }) => (result.status === 'ok' ? (result.restoreMs ?? []) : []));
    const ages = all.flatMap(({ result }) => result.ageMs ?? []);
    const longest = times.length === 0 ? 'never restored' : `longest restore ${formatDuration(Math.max(...times))}`;
    const oldest = ages.length === 0 ? '' : `, oldest data ${formatAge(Math.max(...ages))}`;
    return `- ${cell(source)}: ${plural(all.length, 'restore')}, ${longest}${oldest}.`;
  });
}

function evidenceText({ drills, problems }: DrillsReport): string {
  const signed = drills.filter(({ signature }) => signature === 'signed').length;
  const chain =
    problems.length === 0
      ? 'the chain is complete'
      : `${plural(problems.length, 'problem')}: ${problems.map(({ error }) => cell(error.message)).join('; ')}`;
  return `${signed} of ${drills.length} signed and verified; ${chain}.`;
}

function columns({ drill, result }: Row): string[] {
  const bad = result.checks.filter(({ result: how }) => how === 'failed').length;
  const skipped = result.checks.filter(({ result: how }) => how === 'skipped').length;
  const counted = [
    `${result.checks.length - bad - skipped} ok`,
    ...(bad > 0 ? [`${bad} failed`] : []),
    ...(skipped > 0 ? [`${skipped} not checked`] : []),
  ];
  return [
    ...[
      time(drill.start),
      result.source,
      result.snapshot ?? '',
      result.ageMs === undefined ? '' : formatAge(result.ageMs),
    ],
    ...[result.status, result.restoreMs === undefined ? '' : formatDuration(result.restoreMs), counted.join(', ')],
    ...[result.place, result.image?.digest ?? result.image?.id.slice(0, 19) ?? '', drill.by ?? drill.trigger],
  ];
}

function failureLines({ drill, result }: Row): string[] {
  const failed = result.checks.filter(({ result: how }) => how === 'failed');
  return [
    `- ${time(drill.start)}, ${cell(result.source)}: ${result.error ? `${cell(result.error.message)} (${cell(result.error.code)})` : plural(failed.length, 'check')}`,
    ...failed.flatMap((check) => [
      `  - ${cell(checkText(check))}`,
      ...(check.differences ?? []).map((one) => `    - ${cell(one)}`),
    ]),
  ];
}

const CSV_COLUMNS = [
  ...['drill', 'start', 'end', 'trigger', 'by', 'source', 'kind', 'status', 'snapshot', 'held_at', 'age_ms'],
  ...['place', 'image', 'image_recorded', 'version', 'restore_ms', 'checks_ok', 'checks_failed', 'checks_skipped'],
  ...['error', 'signature'],
] as const;

/** Writes the evidence as CSV (RFC 4180), one line for each source of a drill. */
export function drillsCsv(report: DrillsReport): string {
  const lines = rowsOf(report).map(({ drill, result }) => {
    const count = (how: string) => result.checks.filter((one) => one.result === how).length;
    const values: Record<(typeof CSV_COLUMNS)[number], unknown> = {
      ...{ drill: drill.id, start: drill.start, end: drill.end, trigger: drill.trigger, by: drill.by },
      ...{ source: result.source, kind: result.kind, status: result.status, snapshot: result.snapshot },
      ...{ held_at: result.heldAt, age_ms: result.ageMs, place: result.place },
      ...{ image: result.image?.digest ?? result.image?.id, image_recorded: result.image?.recorded },
      ...{ version: result.version, restore_ms: result.restoreMs },
      ...{ checks_ok: count('ok'), checks_failed: count('failed'), checks_skipped: count('skipped') },
      ...{ error: result.error && `${result.error.message} (${result.error.code})`, signature: drill.signature },
    };
    return CSV_COLUMNS.map((name) => csvValue(values[name])).join(',');
  });
  return [CSV_COLUMNS.join(','), ...lines].join('\r\n');
}

function rowsOf({ drills }: DrillsReport): Row[] {
  return drills.flatMap((drill) => drill.results.map((result) => ({ drill, result })));
}

/** Spreadsheets run a text that begins like this as a formula. */
const FORMULA = /^[=+\-@\t\r]/;

function csvValue(value: unknown): string {
  const text = value === undefined ? '' : String(value);
  const safe = typeof value === 'string' && FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Escapes a text for a cell of a Markdown table. The evidence comes from a place that others may write to. */
function cell(text: string): string {
  return oneLine(text).replace(/[\\`*_[\]<>|~]/g, '\\$&');
}
