import { createInterface } from 'node:readline/promises';
import { type Call, type Options, print } from './call.ts';
import { LifeboatError } from './errors.ts';
import { EXIT } from './exit.ts';
import { redact } from './redact.ts';
import { createProgress } from './report/progress.ts';
import { restoreLines } from './report/restore-text.ts';
import type { Consent, RestoreRequest } from './restore-context.ts';

/** How long a question waits for its answer, milliseconds: nothing else runs meanwhile. */
const ANSWER_LIMIT_MS = 10 * 60_000;

/** `lifeboat restore` */
export async function restore(call: Call): Promise<number> {
  const { app, operands, options } = call;
  const [snapshot, source] = operands as [string, string];
  const request: RestoreRequest = {
    ...consent(call),
    snapshot,
    source,
    ...texts(options, 'to', 'database', 'toDatabase', 'toDirectory', 'as'),
    tables: list(options.table),
    paths: list(options.path),
    overwrite: options.overwrite === true,
    globals: options.globals === true,
    unsigned: options.unsigned === true,
    dryRun: options.dryRun === true,
    safety: options.safety !== false,
    skipFailed: options.skipFailed === true,
  };
  const display = createProgress(call.io.terminal, { paint: call.io.paint });
  const say: Consent['say'] = (line) => {
    if (call.json) return;
    // What was under way is done when the next step is told.
    display.close();
    display.write(`${redact(line)}\n`);
  };
  const listeners = call.json ? [] : [display];
  const result = await app.restore({ ...request, say }, listeners).finally(() => display.close());
  print(call, result, () => {
    if (request.dryRun) return 'Nothing was changed: this was a dry run.';
    const made = result.restored.map(({ target }) => target).join(', ') || 'nothing: everything is there already';
    return [
      `Restored ${made} in ${(result.durationMs / 1000).toFixed(1)}s`,
      ...restoreLines(result, call.io.paint),
    ].join('\n');
  });
  if (result.status === 'partial') return EXIT.partial;
  return request.dryRun || result.restored.length > 0 || options.globals === true ? EXIT.done : EXIT.nothing;
}

/** `lifeboat rollback` */
export async function rollback(call: Call): Promise<number> {
  const { app, operands, options, io } = call;
  const request = { ...consent(call), ...(operands[0] === undefined ? {} : { id: operands[0] as string }) };
  if (options.forget === true) {
    const forgotten = await app.forget(request);
    print(
      call,
      { forgotten },
      () => `Forgotten: restore ${forgotten.id} of ${forgotten.source} cannot be rolled back any more.`,
    );
    return EXIT.done;
  }
  const report = await app.rollback(request);
  print(call, report, () => [`Rolled back ${report.source}`, ...restoreLines(report, io.paint)].join('\n'));
  return report.status === 'partial' ? EXIT.partial : EXIT.done;
}

function consent(call: Call): Consent {
  const { io, options, json } = call;
  const { healthUrl } = options;
  return {
    confirm: (name) => (options.yes === true ? Promise.resolve() : ask(call, name)),
    stopServices: options.stop !== false,
    ...(healthUrl instanceof URL ? { healthUrl } : {}),
    signal: io.signal,
    say: (line) => (json ? undefined : io.err(`${redact(line)}\n`)),
  };
}

/** A person types the name of what is replaced; a script says --yes. NOT_CONFIRMED otherwise. */
async function ask({ io, json }: Call, name: string): Promise<void> {
  if (!io.stdin.isTTY || json) {
    throw new LifeboatError('NOT_CONFIRMED', 'data would be replaced, and there is no terminal to ask on', {
      hint: 'Look at it with --dry-run, then say --yes. Nothing was changed.',
    });
  }
  const lines = createInterface({ input: io.stdin, output: io.terminal });
  const limit = AbortSignal.timeout(ANSWER_LIMIT_MS);
  // Ctrl+D ends the input, and the question would never be answered.
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  try {
    const question = lines.question(`Type ${name} to go on: `, { signal: AbortSignal.any([io.signal, limit]) });
    if ((await Promise.race([question, ended])).trim() === name) return;
  } catch (error) {
    if (io.signal.aborted) throw io.signal.reason;
    // Ctrl+C is an answer too.
    if (!(error instanceof Error && error.name === 'AbortError')) throw error;
  } finally {
    lines.close();
  }
  throw new LifeboatError('NOT_CONFIRMED', `the answer was not ${name}`, { hint: 'Nothing was changed.' });
}

function texts<K extends string>(options: Options, ...names: K[]): Partial<Record<K, string>> {
  const given = names.flatMap((name) => (typeof options[name] === 'string' ? [[name, options[name]]] : []));
  return Object.fromEntries(given) as Partial<Record<K, string>>;
}

function list(value: unknown): string[] {
  return Array.isArray(value) ? (value as string[]) : [];
}
