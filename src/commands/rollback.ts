import { EXIT } from '../base/exit.ts';
import { restoreLines } from '../report/restore-text.ts';
import type { Rollback } from '../run/state.ts';
import { type Call, print } from './call.ts';
import { consent } from './consent.ts';

/** `lifeboat rollback` */
export async function rollback(call: Call): Promise<number> {
  const { app, operands, options, io } = call;
  const dryRun = options.dryRun === true;
  const request = { ...consent(call), dryRun, ...(operands[0] === undefined ? {} : { id: operands[0] as string }) };
  const unchanged = 'Nothing was changed: this was a dry run.';
  if (options.forget === true) {
    const { forgotten, failed } = await app.forget(request);
    const more = failed === undefined ? {} : { failed };
    print(call, 'rollback --forget', { ...(dryRun ? { wouldForget: forgotten } : { forgotten }), ...more }, () =>
      [
        ...(dryRun ? [unchanged] : forgotten.map(forgottenLine)),
        ...(failed ?? []).map(({ target, error }) =>
          io.paint.bad(
            `Not forgotten: ${target}: ${error.message} (${error.code})${error.hint === undefined ? '' : ` hint: ${error.hint}`}`,
          ),
        ),
      ].join('\n'),
    );
    return failed === undefined ? EXIT.done : EXIT.partial;
  }
  const report = await app.rollback(request);
  print(call, 'rollback', report, () =>
    dryRun ? unchanged : [`Rolled back ${report.source}`, ...restoreLines(report, io.paint)].join('\n'),
  );
  return report.status === 'partial' ? EXIT.partial : EXIT.done;
}

function forgottenLine({ id, source }: Rollback): string {
  return `Forgotten: restore ${id} of ${source} can no longer be rolled back.`;
}
