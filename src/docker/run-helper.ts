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
} from './helper.ts';
import { LineBuffer } from './lines.ts';

/** What goes into a one-shot helper and what comes out. */
interface HelperTalk {
  /** Written to its stdin as one JSON document; the way for secrets. */
  input: unknown;
  /** Called with each line of its stdout, parsed from JSON, one at a time: a slow one makes the helper wait. */
  onLine: (value: unknown) => void | Promise<void>;
}

/**
 * Runs a helper to its end. Resolves only when the engine knows the container as ended with status 0 and every line
 * that arrived was handled. A connection cut at a line's end just before a helper ends well cannot be told from the
 * real end: let the last line say that it is the last. Throws HELPER_FAILED with the tail of its stderr, what the
 * engine failed with, or what `onLine` throws. Whatever happens, the container is removed.
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
    // Attached before it starts, so that nothing it writes is lost.
    socket = await engine.attach(helper.id, { stdin: true, signal });
    await engine.startContainer(helper.id, { signal });
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

/** Returns, rather than throws, what cut the output off: the exit status says more, and is looked at first. */
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

/** The stream's end proves nothing (see exec.ts): the engine must know the container as ended, with status 0. */
async function confirmEnd(context: HelperContext, helper: Helper, stderr: Capture, spec: HelperSpec): Promise<void> {
  const { engine } = context;
  const lag = AbortSignal.timeout(engine.exitLagMs);
  const signal = context.signal ? AbortSignal.any([context.signal, lag]) : lag;
  const waited = await engine.waitContainer(helper.id, { signal }).catch((error: unknown) => {
    if (!lag.aborted) throw error;
    throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" was cut off while it still runs`);
  });
  const state = await engine.inspectContainer(helper.id, { signal: context.signal });
  if (!state.running && state.exitCode === 0 && waited.exitCode === 0 && !waited.error) return;
  const words = lastWords(waited.error ?? stderr.text());
  const why = state.oomKilled ? 'ran out of memory' : `ended with status ${waited.exitCode || state.exitCode}`;
  throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" ${why}${words ? `: ${words}` : ''}`);
}
