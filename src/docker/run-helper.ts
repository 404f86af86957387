import type { Duplex } from 'node:stream';
import { LifeboatError } from '../base/errors.ts';
import { interruption } from './bounds.ts';
import { Capture, lastWords } from './capture.ts';
import { frames } from './demux.ts';
import {
  createHelper,
  type Helper,
  type HelperContext,
  type HelperSpec,
  helperFailed,
  refusesBlkio,
  startCreated,
} from './helper.ts';
import { LineBuffer } from './lines.ts';

/** The input and output of a one-shot helper. */
interface HelperTalk {
  /** Written to the helper's stdin as one JSON document. The only way to pass secrets. */
  input: unknown;
  /** Called with each line of stdout, parsed from JSON, one at a time: a slow handler makes the helper wait. */
  onLine: (value: unknown) => void | Promise<void>;
}

/**
 * Runs a helper to its end, and removes its container in any case. Resolves only when the engine reports the container
 * as ended with status 0, and every line that arrived has been handled. A connection that is cut at the end of a line,
 * just before the helper succeeds, looks like the real end. So the last line must identify itself as the last.
 *
 * @throws HELPER_FAILED with the tail of stderr; the engine's error; the error of `onLine`
 */
export async function runHelper(
  context: HelperContext,
  spec: HelperSpec & { cmd: readonly string[] },
  talk: HelperTalk,
): Promise<void> {
  const { engine, signal } = context;
  const helper = await createHelper(context, spec, { attached: true });
  const stderr = new Capture(16 * 1024, 4096);
  let socket: Duplex | undefined;
  try {
    // Attaches before the start, so that no output is lost.
    socket = await engine.attach(helper.id, { stdin: true, signal });
    await startCreated(context, helper, spec);
    socket.end(`${JSON.stringify(talk.input)}\n`);
    const cut = await readLines(socket, stderr, talk.onLine, spec);
    await confirmEnd(context, helper, stderr, spec);
    if (cut) throw cut;
  } catch (error) {
    if (signal?.aborted) throw interruption(signal);
    if (refusesBlkio(engine, error)) return await runHelper(context, spec, talk);
    throw helperFailed(spec, 'could not be run', error);
  } finally {
    socket?.destroy();
    await helper.remove();
  }
}

/** Returns the error that cut the output, instead of throwing it: the exit status says more, and is checked first. */
async function readLines(
  socket: Duplex,
  stderr: Capture,
  onLine: HelperTalk['onLine'],
  spec: HelperSpec,
): Promise<LifeboatError | undefined> {
  const lines = new LineBuffer();
  const output = frames(socket);
  for (;;) {
    const next = await output.next().catch((error: LifeboatError) => error);
    if (next instanceof LifeboatError) {
      if (next.code === 'ENGINE_PROTOCOL') throw next;
      return next;
    }
    if (next.done) break;
    const { stream, data } = next.value;
    if (stream === 'stderr') stderr.add(data);
    else for (const line of lines.split(data)) await onLine(parseLine(line, spec));
  }
  if (lines.pending === 0) return undefined;
  return new LifeboatError('HELPER_FAILED', `the output of helper "${spec.purpose}" ended inside a line`);
}

function parseLine(line: string, spec: HelperSpec): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new LifeboatError(
      'HELPER_FAILED',
      `helper "${spec.purpose}" wrote a line that is not JSON: ${lastWords(line, 200)}`,
      { cause },
    );
  }
}

/**
 * Checks that the engine reports the container as ended with status 0, because the end of the stream proves nothing
 * (see exec.ts).
 */
async function confirmEnd(context: HelperContext, helper: Helper, stderr: Capture, spec: HelperSpec): Promise<void> {
  const { engine } = context;
  const lag = AbortSignal.timeout(engine.exitLagMs);
  const signal = context.signal ? AbortSignal.any([context.signal, lag]) : lag;
  const waited = await engine.waitContainer(helper.id, { signal }).catch((error: unknown) => {
    if (!lag.aborted) throw error;
    throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" was cut off, but still runs`);
  });
  const state = await engine.inspectContainer(helper.id, { signal: context.signal });
  if (!state.running && state.exitCode === 0 && waited.exitCode === 0 && !waited.error) return;
  const words = lastWords(waited.error ?? stderr.text());
  const why = state.oomKilled ? 'ran out of memory' : `ended with status ${waited.exitCode || state.exitCode}`;
  throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" ${why}${words ? `: ${words}` : ''}`);
}
