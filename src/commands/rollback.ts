import { EXIT } from '../base/exit.ts';
import { restoreLines } from '../report/restore-text.ts';
import { type Call, print } from './call.ts';
import { consent } from './consent.ts';

/** `lifeboat rollback` */
export async function rollback(call: Call): Promise<number> {
  const { app, operands, options, io } = call;
  const dryRun = options.dryRun === true;
  const request = { ...consent(call), dryRun, ...(operands[0] === undefined ? {} : { id: operands[0] as string }) };
  const unchanged = 'Nothing was changed: this was a dry run.';
  if (options.forget === true) {
    const forgotten = await app.forget(request);
    print(call, dryRun ? { wouldForget: forgotten } : { forgotten }, () =>
      dryRun ? unchanged : `Forgotten: restore ${forgotten.id} of ${forgotten.source} can no longer be rolled back.`,
    );
    return EXIT.done;
  }
  const report = await app.rollback(request);
  print(call, report, () =>
    dryRun ? unchanged : [`Rolled back ${report.source}`, ...restoreLines(report, io.paint)].join('\n'),
  );
  return report.status === 'partial' ? EXIT.partial : EXIT.done;
}
