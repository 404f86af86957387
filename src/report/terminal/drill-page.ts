import type { DrillCheck, DrillResult } from '../drill-report.ts';
import { drillHeadline } from '../drill-text.ts';
import { formatDuration } from '../format.ts';
import { correctedText } from './drills-text.ts';
import { ageText, askedBy, type ListedDrill, outcome, restoreText } from './listed-drill.ts';
import { head, plain, row, utc } from './markdown.ts';

/** Writes the evidence of one drill as a report of one page, in Markdown. */
export function drillMarkdown(drill: ListedDrill): string {
  return [
    `# Restore test ${plain(drill.id)}`,
    '',
    `${plain(drillHeadline(drill))}.`,
    '',
    `- When: ${utc(drill.start)} to ${utc(drill.end)}.`,
    `- Asked by: ${plain(askedBy(drill))}${drill.by === undefined ? '' : ` (${drill.trigger})`}.`,
    `- Asked for: ${plain(askedFor(drill))}.`,
    `- Made with: Lifeboat ${plain(drill.agentVersion)}.`,
    `- Evidence: ${evidenceText(drill)}.`,
    ...(drill.error ? [`- Error: ${plain(drill.error.message)} (${plain(drill.error.code)}).`] : []),
    ...(drill.results.length === 0 && drill.status === 'failed' ? [`- ${correctedText(drill, '*')}`] : []),
    ...drill.results.flatMap((result) => resultLines(drill, result)),
    ...(drill.unproven.length === 0
      ? []
      : ['', '## Not proven', '', ...drill.unproven.map((one) => `- ${plain(one)}`)]),
    '',
  ].join('\n');
}

function askedFor({ asked = {} }: ListedDrill): string {
  const { sources, snapshot, at, from, stack } = asked;
  const parts = [
    sources ? sources.join(', ') : 'all sources',
    snapshot === undefined ? 'the newest snapshot' : `snapshot ${snapshot}`,
    ...(at === undefined ? [] : [`recovered to ${at}`]),
    ...(from === undefined ? [] : [`read from ${from}`]),
    ...(stack ? ['the whole stack with its smoke tests'] : []),
  ];
  return parts.join('; ');
}

const SIGNATURES: Record<string, string> = {
  signed: 'signed and verified',
  unsigned: 'not signed',
  unchecked: 'not verified, because no signing key is set',
};

function evidenceText({ signature = 'unchecked', sequence, hash }: ListedDrill): string {
  const place = sequence === undefined ? '' : `number ${sequence} of its chain, `;
  const sum = hash === undefined ? '' : `, SHA-256 ${hash}`;
  return `${place}${SIGNATURES[signature] ?? plain(signature)}${sum}`;
}

function resultLines(drill: ListedDrill, result: DrillResult): string[] {
  const { source, summary, snapshot, heldAt, place, image, version, steps, checks, notes, error } = result;
  const restored = restoreText(result);
  const facts = [
    ...(summary === undefined ? [] : [plain(summary)]),
    ...(error === undefined ? [] : [`Error: ${plain(error.message)} (${plain(error.code)})`]),
    ...(error?.cause === undefined ? [] : [`Cause: ${plain(error.cause)}`]),
    ...(snapshot === undefined
      ? []
      : [`Snapshot: ${plain(snapshot)}${heldAt === undefined ? '' : `, data of ${utc(heldAt)}`}`]),
    ...(result.ageMs === undefined ? [] : [`Age of the data (RPO): ${ageText(result)}`]),
    `Read from: ${plain(place)}`,
    ...(restored === '' ? [] : [`Restored in (RTO): ${restored}`]),
    ...(version === undefined ? [] : [`Restored on: Postgres ${plain(version)}`]),
    ...(image === undefined
      ? []
      : [`Image: ${plain(image.digest ?? image.id)}, ${image.recorded ? 'as recorded' : 'not the recorded one'}`]),
    ...(steps.length === 0 ? [] : [`Steps: ${steps.map((one) => `${plain(one.name)} ${stepTime(one)}`).join(', ')}`]),
    ...notes.map((note) => `Note: ${plain(note)}`),
    ...(result.status === 'failed' ? [correctedText(drill, source)] : []),
  ];
  return [
    ...['', `## ${plain(source)}: ${outcome(result)}`, '', ...facts.map((fact) => `- ${fact}`)],
    ...(checks.length === 0 ? [] : ['', ...head(['check', 'of', 'result', 'expected', 'found', 'details'])]),
    ...checks.map((check) => row(checkCells(check))),
  ];
}

/** Many steps take less than a second. */
function stepTime({ durationMs }: { durationMs: number }): string {
  return durationMs < 1000 ? `${(durationMs / 1000).toFixed(1)}s` : formatDuration(durationMs);
}

const RESULTS: Record<DrillCheck['result'], string> = { ok: 'ok', failed: 'FAILED', skipped: 'not checked' };

function checkCells({ name, of, result, expected, found, detail, differences = [] }: DrillCheck): string[] {
  const text = (value: DrillCheck['found']) => (value === undefined ? '' : String(value));
  const details = [...(detail === undefined ? [] : [detail]), ...differences].join('; ');
  return [name, of, RESULTS[result], text(expected), text(found), details];
}
