import type { App } from '../app/app.ts';
import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { selectNames } from '../plan/values/name-patterns.ts';
import { sourcesHint } from '../plan/values/suggest.ts';
import type { RunReport } from '../report/events.ts';
import { type Call, print } from './call.ts';

export async function backup(call: Call): Promise<number> {
  const { app, io, operands, json } = call;
  const words = (operands[0] ?? []) as string[];
  const names = words.length > 0 ? await namesOf(app, words) : [];
  const { createProgress } = await import('../report/terminal/progress.ts');
  const { renderReport } = await import('../report/text.ts');
  const display = json ? undefined : createProgress(io.terminal, { paint: io.paint });
  const report = await app.backup(
    { trigger: 'manual', signal: io.signal, ...(names.length > 0 ? { only: ({ name }) => names.includes(name) } : {}) },
    display ? [display] : [],
  );
  display?.close();
  const zone = app.settings.timeZone;
  print(call, 'backup', report, () => renderReport(report, { now: new Date(), zone, paint: io.paint }));
  return reportStatus(report);
}

/** Returns the sources that names and patterns select. @throws SOURCE_UNKNOWN for a word that selects none */
async function namesOf(app: App, words: readonly string[]): Promise<string[]> {
  const known = (await app.plan()).sources.map(({ name }) => name);
  const { selected, unmatched } = selectNames(words, known);
  if (unmatched.length === 0) return selected;
  throw new LifeboatError('SOURCE_UNKNOWN', `no source is named ${unmatched.join(', ')}`, {
    hint: known.length > 0 ? sourcesHint(unmatched, known) : 'There is no source. See `lifeboat plan`.',
  });
}

function reportStatus(report: RunReport): number {
  if (report.error?.code === 'INTERRUPTED') return EXIT.interrupted;
  if (report.error?.code === 'LOCKED') return EXIT.locked;
  if (report.error?.code === 'NOTHING_LABELLED') return EXIT.nothing;
  return { ok: EXIT.done, partial: EXIT.partial, failed: EXIT.failed }[report.status];
}
