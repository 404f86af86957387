import { EXIT } from '../base/exit.ts';
import { redact } from '../base/redact.ts';
import { readDrills } from '../drill/evidence.ts';
import { drillHeadline, drillLine, drillText } from '../report/drill-text.ts';
import { formatWhen, oneLine } from '../report/format.ts';
import { type DrillsReport, drillsCsv, drillsMarkdown } from '../report/terminal/drills-text.ts';
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

/** `lifeboat drills`: the evidence of drills. Exit status: 3 if evidence is missing or was changed, 4 without any. */
export async function drills(call: Call): Promise<number> {
  const { app, io, options } = call;
  const now = new Date();
  const days = options.since as number | undefined;
  const since = days === undefined ? undefined : new Date(now.getTime() - days * DAY_MS);
  const list = await readDrills(await app.repository({ create: false }), { signal: io.signal });
  const chosen = list.drills.filter(({ report }) => since === undefined || new Date(report.start) >= since);
  const report: DrillsReport = {
    project: app.project,
    ...(since === undefined ? {} : { since: since.toISOString() }),
    drills: chosen.reverse().map(({ report: one, signature }) => ({ ...one, signature })),
    problems: list.problems,
  };
  const when = { now, zone: app.settings.timeZone };
  print({ ...call, json: call.json || options.format === 'json' }, 'drills', report, () =>
    options.format === 'md'
      ? drillsMarkdown(report, now)
      : options.format === 'csv'
        ? drillsCsv(report)
        : text(report, when),
  );
  if (list.problems.length > 0) return EXIT.partial;
  return report.drills.length === 0 ? EXIT.nothing : EXIT.done;
}

function text({ drills: all, problems }: DrillsReport, when: { now: Date; zone: string }): string {
  const lines = all.flatMap((one) => [
    `${formatWhen(new Date(one.start), when)}  ${drillHeadline(one)}`,
    ...one.results.map((result) => `  ${drillLine(result)}`),
  ]);
  const bad = problems.map(({ error }) => `! ${oneLine(error.message)} (${error.code})`);
  return [...(lines.length > 0 ? lines : ['No drill has been run.']), ...bad].join('\n');
}
