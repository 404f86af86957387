import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { redact } from '../base/redact.ts';
import { readEvidence } from '../drill/seen-evidence.ts';
import { listedDrills } from '../overview/drills.ts';
import { drillHeadline, drillLine, drillText } from '../report/drill-text.ts';
import { formatWhen, oneLine } from '../report/format.ts';
import { drillMarkdown } from '../report/terminal/drill-page.ts';
import { drillsCsv } from '../report/terminal/drills-csv.ts';
import { drillsMarkdown } from '../report/terminal/drills-text.ts';
import type { DrillsReport, ListedDrill } from '../report/terminal/listed-drill.ts';
import { type Call, print } from './call.ts';
import { aimOf } from './option-values.ts';

/** `lifeboat drill`. Exit status: 1 if a source failed, 3 if a part is not proven, 130 if the drill ended early. */
export async function drill(call: Call): Promise<number> {
  const { app, io, operands, options, json } = call;
  const aim = aimOf(options);
  const report = await app.drill({
    sources: (operands[0] ?? []) as string[],
    snapshot: typeof options.snapshot === 'string' ? options.snapshot : 'latest',
    ...(aim ? { aim } : {}),
    stack: options.stack === true,
    trigger: 'manual',
    ...(typeof options.by === 'string' ? { by: options.by } : {}),
    unsigned: options.unsigned === true,
    signal: io.signal,
    say: (line) => (json ? undefined : io.err(`${redact(line)}\n`)),
  });
  print(call, 'drill', report, () => drillText(report, io.paint));
  const statuses = { ok: EXIT.done, failed: EXIT.failed, interrupted: EXIT.interrupted, unproven: EXIT.partial };
  return statuses[report.status];
}

const DAY_MS = 86_400_000;

/**
 * `lifeboat drills`: the evidence of drills, or of the one with that id. Exit status: 3 if evidence is missing or was
 * changed, 4 without any.
 *
 * @throws SNAPSHOT_UNKNOWN, USAGE for the id
 */
export async function drills(call: Call): Promise<number> {
  const { app, io, operands, options } = call;
  const now = new Date();
  const days = options.since as number | undefined;
  const since = days === undefined ? undefined : new Date(now.getTime() - days * DAY_MS);
  const memory = { directory: app.state.directory, log: app.log };
  const list = await readEvidence(memory, await app.repository({ create: false }), { signal: io.signal });
  const all = listedDrills(list);
  const asked = operands[0] as string | undefined;
  const one = asked === undefined ? undefined : named(all, asked);
  const report: DrillsReport = {
    project: app.project,
    ...(since === undefined || one ? {} : { since: since.toISOString() }),
    drills: one ? [one] : all.filter(({ start }) => since === undefined || new Date(start) >= since).reverse(),
    problems: list.problems,
    unsigned: list.unsigned,
  };
  const when = { now, zone: app.settings.timeZone };
  print({ ...call, json: call.json || options.format === 'json' }, 'drills', report, () => {
    if (options.format === 'md') return one ? drillMarkdown(one) : drillsMarkdown(report, now);
    if (options.format === 'csv') return drillsCsv(report);
    return one ? [drillText(one, io.paint), ...problemLines(report)].join('\n') : text(report, when);
  });
  if (list.problems.length > 0) return EXIT.partial;
  return report.drills.length === 0 ? EXIT.nothing : EXIT.done;
}

/** Returns the drill with that id, or the start of one. @throws SNAPSHOT_UNKNOWN, USAGE */
function named(all: readonly ListedDrill[], id: string): ListedDrill {
  const found = all.filter((one) => one.id.startsWith(id));
  const [only] = found;
  if (only && found.length === 1) return only;
  if (only) throw new LifeboatError('USAGE', `${found.length} drills begin with ${oneLine(id)}`);
  const hint = '`lifeboat drills --json` shows the ids of all drills.';
  throw new LifeboatError('SNAPSHOT_UNKNOWN', `there is no evidence of a drill ${oneLine(id)}`, { hint });
}

function text(report: DrillsReport, when: { now: Date; zone: string }): string {
  const lines = report.drills.flatMap((one) => [
    `${formatWhen(new Date(one.start), when)}  ${one.id}  ${drillHeadline(one)}`,
    ...one.results.map((result) => `  ${drillLine(result)}`),
  ]);
  return [...(lines.length > 0 ? lines : ['No drill has been run.']), ...problemLines(report)].join('\n');
}

function problemLines({ problems, unsigned = [] }: DrillsReport): string[] {
  return [...problems, ...unsigned].flatMap(({ error: { message, code, hint } }) => [
    `! ${oneLine(message)} (${code})`,
    ...(hint === undefined ? [] : [`  hint: ${oneLine(hint)}`]),
  ]);
}
