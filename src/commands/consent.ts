import { createInterface } from 'node:readline/promises';
import { LifeboatError } from '../base/errors.ts';
import { redact } from '../base/redact.ts';
import type { Consent } from '../restore/context.ts';
import type { Call, Options } from './call.ts';

/** A question waits this long for its answer, milliseconds. Nothing else runs meanwhile. */
const ANSWER_LIMIT_MS = 10 * 60_000;

/**
 * Returns how the user of a command agrees to data being replaced or dropped: at a terminal, or in advance with --yes.
 * With LIFEBOAT_UNATTENDED_RESTORE=no, --yes needs a terminal too.
 */
export function consent(call: Call): Consent {
  const { app, io, options, json } = call;
  const { healthUrl } = options;
  const isRefused = !app.settings.unattendedRestore && io.stdin.isTTY !== true;
  const yes = options.yes === true && !isRefused;
  return {
    canConfirm: yes || (!isRefused && hasTerminal(call)),
    ...(yes ? { unattended: true as const } : {}),
    confirm: async (name) => {
      if (isRefused) throw unattended();
      if (!yes) await ask(call, name);
    },
    stopServices: options.stop !== false,
    ...(healthUrl instanceof URL ? { healthUrl } : {}),
    signal: io.signal,
    say: (line) => (json ? undefined : io.err(`${redact(line)}\n`)),
  };
}

function unattended(): LifeboatError {
  const message = 'data would be replaced without a terminal, and LIFEBOAT_UNATTENDED_RESTORE is no';
  const hint = 'Nothing was changed. Run the command at a terminal, for example with `docker compose exec` without -T.';
  return new LifeboatError('NOT_CONFIRMED', message, { hint });
}

function hasTerminal({ io, json }: Call): boolean {
  return io.stdin.isTTY === true && !json;
}

/**
 * Asks a person to type the name of the data that is replaced. A script passes --yes instead.
 *
 * @throws NOT_CONFIRMED
 */
async function ask(call: Call, name: string): Promise<void> {
  const { io } = call;
  if (!hasTerminal(call)) {
    throw new LifeboatError(
      'NOT_CONFIRMED',
      'data would be replaced, and there is no terminal to ask for confirmation',
      {
        hint: 'Nothing was changed. Look at the effect with --dry-run, then pass --yes.',
      },
    );
  }
  const lines = createInterface({ input: io.stdin, output: io.terminal });
  const limit = AbortSignal.timeout(ANSWER_LIMIT_MS);
  // Ctrl+D ends the input. Without this, the question would wait for its answer forever.
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  try {
    const put = async (question: string) =>
      (await Promise.race([lines.question(question, { signal: AbortSignal.any([io.signal, limit]) }), ended])).trim();
    const answer = await put(`Type ${name} to continue: `);
    if (answer === name) return;
    const isYes = /^y(es)?$/i.test(answer);
    if (isYes && (await put(`Type the name ${name} itself, so that no mistake costs data: `)) === name) return;
  } catch (error) {
    if (io.signal.aborted) throw io.signal.reason;
    // Ctrl+C counts as a refusal.
    if (!(error instanceof Error && error.name === 'AbortError')) throw error;
  } finally {
    lines.close();
  }
  throw new LifeboatError('NOT_CONFIRMED', `the answer was not ${name}`, { hint: 'Nothing was changed.' });
}

export function texts<K extends string>(options: Options, ...names: K[]): Partial<Record<K, string>> {
  const given = names.flatMap((name) => (typeof options[name] === 'string' ? [[name, options[name]]] : []));
  return Object.fromEntries(given) as Partial<Record<K, string>>;
}

export function list(value: unknown): string[] {
  return Array.isArray(value) ? (value as string[]) : [];
}
