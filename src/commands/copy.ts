import { EXIT } from '../base/exit.ts';
import { copyLines, isCopyOk } from '../report/copy-text.ts';
import { createMeterLine } from '../report/terminal/progress.ts';
import { type Call, print } from './call.ts';

/** `lifeboat copy`. Exit status: 0 all copies are up to date, 3 some are, 1 none is, 4 there are no copies. */
export async function copy(call: Call): Promise<number> {
  const { app, io, json } = call;
  const line = createMeterLine(json ? undefined : io.terminal, 'copying');
  // Copies run in parallel. The line shows their sum.
  const known = new Map<string, [number, number]>();
  const progress = (name: string, done: number, total: number) => {
    known.set(name, [done, total]);
    const sum = (pick: 0 | 1) => [...known.values()].reduce((all, one) => all + one[pick], 0);
    line.show(sum(0), sum(1));
  };
  const reports = await app.copy({ signal: io.signal, progress }).finally(() => line.clear());
  const now = new Date();
  print(call, 'copy', { copies: reports }, () =>
    reports.length === 0
      ? 'No copies are configured: see LIFEBOAT_COPY.'
      : copyLines(reports, now, io.paint).join('\n'),
  );
  if (reports.length === 0) return EXIT.nothing;
  const good = reports.filter(isCopyOk).length;
  if (io.signal.aborted) return EXIT.interrupted;
  return good === reports.length ? EXIT.done : good > 0 ? EXIT.partial : EXIT.failed;
}
