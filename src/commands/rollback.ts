import { EXIT } from '../base/exit.ts';
import { restoreLines } from '../report/restore-text.ts';
import { type Call, print } from './call.ts';
import { consent } from './consent.ts';

/** `lifeboat rollback` */
export async function rollback(call: Call): Promise<number> {
  const { app, operands, options, io } = call;
  const request = { ...consent(call), ...(operands[0] === undefined ? {} : { id: operands[0] as string }) };
  if (options.forget === true) {
    const forgotten = await app.forget(request);
    print(
      call,
      { forgotten },
      () => `Forgotten: restore ${forgotten.id} of ${forgotten.source} can no longer be rolled back.`,
    );
    return EXIT.done;
  }
  const report = await app.rollback(request);
  print(call, report, () => [`Rolled back ${report.source}`, ...restoreLines(report, io.paint)].join('\n'));
  return report.status === 'partial' ? EXIT.partial : EXIT.done;
}
