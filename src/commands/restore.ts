import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { redact } from '../base/redact.ts';
import { createProgress } from '../report/progress.ts';
import { restoredSummary, restoreLines } from '../report/restore-text.ts';
import type { Consent, RestoreRequest } from '../restore/context.ts';
import { type Call, print } from './call.ts';
import { consent, list, texts } from './consent.ts';

/** `lifeboat restore` */
export async function restore(call: Call): Promise<number> {
  const { app, operands, options } = call;
  const [snapshot, source] = operands as [string, string | undefined];
  checkScope(call, source);
  checkLive(call);
  const request: Omit<RestoreRequest, 'source'> & { source?: string } = {
    ...consent(call),
    snapshot,
    ...(source === undefined ? {} : { source }),
    ...texts(options, 'to', 'database', 'toDatabase', 'toDirectory', 'as'),
    tables: list(options.table),
    paths: list(options.path),
    overwrite: options.overwrite === true,
    globals: options.globals === true,
    unsigned: options.unsigned === true,
    dryRun: options.dryRun === true,
    safety: options.safety !== false,
    skipFailed: options.skipFailed === true,
    live: options.live === true,
  };
  const display = createProgress(call.io.terminal, { paint: call.io.paint });
  const say: Consent['say'] = (line) => {
    if (call.json) return;
    // The next step starts, so the progress of the last one is final.
    display.close();
    display.write(`${redact(line)}\n`);
  };
  const listeners = call.json ? [] : [display];
  const result = await app.restore({ ...request, say }, listeners).finally(() => display.close());
  print(call, result, () => {
    if (request.dryRun) return 'Nothing was changed: this was a dry run.';
    return [
      `Restored ${restoredSummary(result)} in ${(result.durationMs / 1000).toFixed(1)}s`,
      ...restoreLines(result, call.io.paint),
    ].join('\n');
  });
  if (result.status === 'partial') return EXIT.partial;
  return request.dryRun || result.restored.length > 0 || options.globals === true ? EXIT.done : EXIT.nothing;
}

/** Options that apply to a single source. */
const OF_ONE = ['database', 'toDatabase', 'toDirectory', 'to', 'table', 'as', 'path', 'overwrite'];

/** Checks that the command names either one source or all sources. @throws USAGE */
function checkScope({ options }: Call, source: string | undefined): void {
  const all = options.all === true;
  if (all === (source === undefined)) {
    const given = OF_ONE.filter((name) => options[name] !== undefined);
    if (!all || given.length === 0) return;
    throw new LifeboatError('USAGE', '--all cannot be combined with options for a single source', {
      hint: 'Name the source instead of --all.',
    });
  }
  throw new LifeboatError('USAGE', all ? 'use either --all or a source' : 'name a source, or use --all', {
    hint: '`lifeboat show latest` lists the sources.',
  });
}

/** Options with which a restore stops no service. */
const STOPS_NONE = ['toDatabase', 'toDirectory', 'table', 'as'];

/** Checks that a restore with `--live` stops services. @throws USAGE */
function checkLive({ options }: Call): void {
  if (options.live !== true) return;
  const given = STOPS_NONE.find((name) => options[name] !== undefined);
  const option =
    options.stop === false ? '--no-stop' : given && `--${given.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
  if (option === undefined) return;
  throw new LifeboatError('USAGE', `--live cannot be combined with ${option}, which stops no service`, {
    hint: 'Leave one of them out: --live stops services only for the swap.',
  });
}
