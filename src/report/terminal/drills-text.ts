import type { DrillResult } from '../drill-report.ts';
import { checkText } from '../drill-text.ts';
import { formatAge, formatDuration, plural } from '../format.ts';
import { ageText, askedBy, type DrillsReport, type ListedDrill, outcome, restoreText } from './listed-drill.ts';
import { head, plain, row, utc } from './markdown.ts';

/** One source's part of a stored drill; without a result, the drill came to no source. */
interface Row {
  drill: ListedDrill;
  result?: DrillResult;
}

/** Writes the evidence as a report for people and auditors, in Markdown. */
export function drillsMarkdown(report: DrillsReport, now: Date): string {
  const rows = rowsOf(report);
  const period = report.since === undefined ? 'All drills' : `Drills since ${utc(report.since)}`;
  return [
    `# Restore tests of ${plain(report.project)}`,
    '',
    `${period}, written ${utc(now.toISOString())}. Each drill restored snapshots into throwaway containers and compared them with what was recorded when they were made.`,
    '',
    ...summaryLines(report, rows),
    '',
    ...head(COLUMNS),
    ...rows.map((one) => row(columns(one))),
    ...section('What failed, and what was done about it', rows.filter(isFailed).flatMap(failureLines)),
    ...section(
      'What was not proven',
      repeated(report.drills, ({ unproven }) => unproven),
    ),
    ...section('Notes', repeated(report.drills, notesOf)),
    ...section(
      'Problems of the evidence',
      [...report.problems, ...(report.unsigned ?? [])].map(
        ({ id, error }) => `- ${plain(id)}: ${plain(error.message)} (${plain(error.code)})`,
      ),
    ),
    '',
  ].join('\n');
}

/** Returns a row for each source of each drill, and one for a drill that came to no source. */
export function rowsOf({ drills }: Pick<DrillsReport, 'drills'>): Row[] {
  return drills.flatMap((drill): Row[] => {
    return drill.results.length === 0 ? [{ drill }] : drill.results.map((result) => ({ drill, result }));
  });
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', `## ${title}`, '', ...lines];
}

function isFailed({ drill, result }: Row): boolean {
  return (result ?? drill).status === 'failed';
}

function summaryLines(report: DrillsReport, rows: readonly Row[]): string[] {
  const results = rows.flatMap(({ result }) => result ?? []);
  const of = (status: DrillResult['status']) => results.filter((one) => one.status === status).length;
  const unbegun = rows.filter(({ drill, result }) => !result && drill.status === 'failed').length;
  const counted = [
    `of them failed: ${of('failed')}`,
    ...(of('unproven') > 0 ? [`proved only in part: ${of('unproven')}`] : []),
    ...(of('interrupted') > 0 ? [`ended early: ${of('interrupted')}`] : []),
  ];
  const more = unbegun > 0 ? `, of them could not begin: ${unbegun}` : '';
  return [
    `- Drills: ${report.drills.length}${more}. Restores: ${results.length}, ${counted.join(', ')}.`,
    ...sourceLines(results),
    `- Evidence: ${evidenceText(report)}`,
  ];
}

/** The longest whole restore of each source is what a recovery must reckon with. */
function sourceLines(results: readonly DrillResult[]): string[] {
  return [...Map.groupBy(results, ({ source }) => source)].map(([source, all]) => {
    const good = all.filter(({ status, restoreMs }) => status === 'ok' && restoreMs !== undefined);
    const times = good.flatMap(({ restoreMs, share }) => (share === undefined ? (restoreMs ?? []) : []));
    const ages = all.flatMap(({ ageMs }) => ageMs ?? []);
    const missed = all.filter(({ rpo, rto }) => rpo?.met === false || rto?.met === false).length;
    const parts = [
      plural(all.length, 'restore'),
      times.length > 0
        ? `longest restore ${formatDuration(Math.max(...times))}`
        : good.length > 0
          ? 'restored only in parts'
          : 'never restored',
      ...(ages.length === 0 ? [] : [`oldest data ${formatAge(Math.max(...ages))}`]),
      ...(missed === 0 ? [] : [`targets not met: ${missed}`]),
    ];
    return `- ${plain(source)}: ${parts.join(', ')}.`;
  });
}

function evidenceText({ drills, problems }: DrillsReport): string {
  const signed = drills.filter(({ signature }) => signature === 'signed').length;
  const chain = problems.length === 0 ? 'the chain is complete' : `${plural(problems.length, 'problem')}, see below`;
  return `${signed} of ${drills.length} signed and verified; ${chain}.`;
}

const COLUMNS = [
  ...['when', 'source', 'snapshot', 'age of the data', 'result', 'restored in', 'checks', 'place', 'image', 'asked by'],
  ...['drill', 'signature'],
];

function columns({ drill, result }: Row): string[] {
  const of = [drill.id, drill.signature ?? ''];
  if (!result) return [utc(drill.start), '', '', '', unbegunText(drill), '', '', '', '', askedBy(drill), ...of];
  const { source, snapshot = '', place, image } = result;
  const restored = [ageText(result), outcome(result), restoreText(result), checksText(result)];
  const images = image?.digest ?? image?.id.slice(0, 19) ?? '';
  return [utc(drill.start), source, snapshot, ...restored, place, images, askedBy(drill), ...of];
}

function unbegunText(drill: ListedDrill): string {
  return drill.error ? `${outcome(drill)}: ${drill.error.message} (${drill.error.code})` : outcome(drill);
}

function checksText({ checks }: DrillResult): string {
  const bad = checks.filter(({ result }) => result === 'failed').length;
  const skipped = checks.filter(({ result }) => result === 'skipped').length;
  const parts = [
    `${checks.length - bad - skipped} ok`,
    ...(bad > 0 ? [`${bad} failed`] : []),
    ...(skipped > 0 ? [`${skipped} not checked`] : []),
  ];
  return parts.join(', ');
}

function failureLines({ drill, result }: Row): string[] {
  const failed = result?.checks.filter((check) => check.result === 'failed') ?? [];
  const error = result ? result.error : drill.error;
  const what = error ? `${error.message} (${error.code})` : plural(failed.length, 'check');
  return [
    `- ${utc(drill.start)}, ${plain(result?.source ?? 'the whole drill')}: ${plain(what)}`,
    ...failed.flatMap((check) => [
      `  - ${plain(checkText(check))}`,
      ...(check.differences ?? []).map((one) => `    - ${plain(one)}`),
    ]),
    `  - ${correctedText(drill, result?.source ?? '*')}`,
  ];
}

/** Returns what was done about a failure, as later evidence shows it. */
export function correctedText({ corrected = {} }: ListedDrill, source: string): string {
  const by = Object.hasOwn(corrected, source) ? corrected[source] : undefined;
  return by === undefined ? 'Not corrected yet: no later drill proves it.' : `Corrected by drill ${plain(by)}.`;
}

function notesOf({ results }: ListedDrill): string[] {
  return results.flatMap(({ source, notes }) => notes.map((note) => `${source}: ${note}`));
}

/** Lists texts of drills, each once: most drills of a period say the same. */
function repeated(drills: readonly ListedDrill[], of: (drill: ListedDrill) => readonly string[]): string[] {
  const all = drills.flatMap((drill) => [...new Set(of(drill))].map((text) => ({ text, at: drill.start })));
  return [...Map.groupBy(all, ({ text }) => text)].map(([text, found]) => {
    const last = utc(found.map(({ at }) => at).reduce((a, b) => (a > b ? a : b)));
    return `- ${plain(text)} (${found.length === 1 ? last : `${found.length} drills, the last one ${last}`})`;
  });
}
