import { rowsOf } from './drills-text.ts';
import type { DrillsReport } from './listed-drill.ts';

const COLUMNS = [
  ...['drill', 'start', 'end', 'trigger', 'by', 'source', 'kind', 'status', 'snapshot', 'held_at', 'age_ms'],
  ...['place', 'image', 'image_recorded', 'version', 'restore_ms', 'checks_ok', 'checks_failed', 'checks_skipped'],
  ...['error', 'signature', 'rpo_target_ms', 'rpo_met', 'rto_target_ms', 'rto_met', 'share', 'summary', 'unproven'],
  ...['notes', 'corrected_by', 'sequence', 'sha256'],
] as const;

/** Writes the evidence as CSV (RFC 4180), one line for each source of a drill, or for a drill that came to none. */
export function drillsCsv(report: DrillsReport): string {
  const lines = rowsOf(report).map(({ drill, result }) => {
    const count = (how: string) => result?.checks.filter((one) => one.result === how).length;
    const error = result?.error ?? drill.error;
    const { image, rpo, rto, share, summary } = result ?? {};
    const values: Record<(typeof COLUMNS)[number], unknown> = {
      ...{ drill: drill.id, start: drill.start, end: drill.end, trigger: drill.trigger, by: drill.by },
      ...{ source: result?.source, kind: result?.kind, status: (result ?? drill).status, snapshot: result?.snapshot },
      ...{ held_at: result?.heldAt, age_ms: result?.ageMs, place: result?.place },
      ...{ image: image?.digest ?? image?.id, image_recorded: image?.recorded },
      ...{ version: result?.version, restore_ms: result?.restoreMs },
      ...{ checks_ok: count('ok'), checks_failed: count('failed'), checks_skipped: count('skipped') },
      ...{ error: error && `${error.message} (${error.code})`, signature: drill.signature },
      ...{ rpo_target_ms: rpo?.targetMs, rpo_met: rpo?.met, rto_target_ms: rto?.targetMs, rto_met: rto?.met },
      ...{ share, summary, unproven: drill.unproven.join('\n'), notes: result?.notes.join('\n') },
      corrected_by: drill.corrected?.[result?.source ?? '*'],
      ...{ sequence: drill.sequence, sha256: drill.hash },
    };
    return COLUMNS.map((name) => csvValue(values[name])).join(',');
  });
  return [COLUMNS.join(','), ...lines].join('\r\n');
}

/**
 * Spreadsheets run a text that begins like this as a formula. Some of them part lines at semicolons or tabs too, and
 * then a text in the middle of a field begins one.
 */
const FORMULA = /(^|[;,\t\r\n])(\s*)(?=[=+\-@＝＋－＠])/gu;

function csvValue(value: unknown): string {
  const text = value === undefined || value === null ? '' : String(value);
  const safe = typeof value === 'string' ? text.replace(FORMULA, "$1$2'") : text;
  return /[",;\t\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
