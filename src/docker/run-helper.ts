import type { Duplex } from 'node:stream';
import { LifeboatError } from '../errors.ts';
import { Capture, lastWords } from './capture.ts';
import { frames } from './demux.ts';
import { createHelper, type Helper, type HelperContext, type HelperSpec, helperFailed } from './helper.ts';
import { interruption } from './transport.ts';

/** A line longer than this, in bytes, is not one that a helper of ours writes. */
const MAX_LINE = 8 * 1024 * 1024;
/** The engine may take a moment after the stream's end to record the exit; longer than this, the stream was cut. */
const EXIT_LAG_MS = 5_000;

/** What goes into a one-shot helper and what comes out. */
export interface HelperTalk {
  /** Written to its stdin as one JSON document; the way for secrets. */
  input: unknown;
  /** Called with each line of its stdout, parsed from JSON; the helper waits while it runs. */
  onLine: (value: unknown) => void | Promise<void>;
}

/**
 * Runs a helper to its end: input in, lines out, exit status 0. Resolves only when the container is known to have ended
 * with status 0 and everything that arrived was handled. A connection cut at a line's end just before the helper ends
 * well cannot be told from the real end: a helper's last line must say that it is the last. Throws HELPER_FAILED with the tail of its stderr. Whatever
 * happens, the container is gone afterwards.
 */
export async function runHelper(
  context: HelperContext,
  spec: HelperSpec & { cmd: readonly string[] },
  talk: HelperTalk,
): Promise<void> {
  const { engine, signal } = context;
  const helper = await createHelper(context, spec, { attached: true });
  const stderr = new Capture(16 * 1024, 4096);
  try {
    // Attached before it starts, so that nothing it writes is lost.
    const socket = await engine.attach(helper.id, { stdin: true, signal });
    try {
      await engine.startContainer(helper.id, { signal });
      socket.end(`${JSON.stringify(talk.input)}\n`);
      const cut = await readLines(socket, stderr, talk.onLine, spec);
      await confirmEnd(context, spec, helper, stderr);
      if (cut) throw cut;
    } finally {
      socket.destroy();
    }
  } catch (error) {
    if (signal?.aborted) throw interruption(signal);
    throw error instanceof LifeboatError ? helperFailed(spec, 'could not be run', error) : error;
  } finally {
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
  const lines = new LineBuffer(spec);
  const output = frames(socket);
  for (;;) {
    const next = await output.next().catch((error: LifeboatError) => error);
    if (next instanceof LifeboatError) return next;
    if (next.done) return lines.end();
    const { stream, data } = next.value;
    if (stream === 'stderr') stderr.add(data);
    else for (const line of lines.split(data)) await onLine(parseLine(line, spec));
  }
}

/** Cuts chunks into lines, keeping the last, unfinished one within a bound. */
class LineBuffer {
  readonly #spec: HelperSpec;
  #rest: Buffer[] = [];
  #size = 0;

  constructor(spec: HelperSpec) {
    this.#spec = spec;
  }

  *split(data: Buffer): Generator<Buffer> {
    let from = 0;
    for (let at = data.indexOf(10); at >= 0; at = data.indexOf(10, from)) {
      yield Buffer.concat([...this.#rest, data.subarray(from, at)]);
      this.#rest = [];
      this.#size = 0;
      from = at + 1;
    }
    if (from === data.length) return;
    this.#rest.push(Buffer.from(data.subarray(from)));
    this.#size += data.length - from;
    if (this.#size > MAX_LINE) {
      throw new LifeboatError('HELPER_FAILED', `helper "${this.#spec.purpose}" wrote an endless line`);
    }
  }

  end(): LifeboatError | undefined {
    if (this.#size === 0) return undefined;
    return new LifeboatError('HELPER_FAILED', `the output of helper "${this.#spec.purpose}" ended inside a line`);
  }
}

/** The stream's end proves nothing (see exec.ts): the engine must know the container as ended, with status 0. */
async function confirmEnd(
  { engine, signal }: HelperContext,
  spec: HelperSpec,
  helper: Helper,
  stderr: Capture,
): Promise<void> {
  const lag = AbortSignal.timeout(EXIT_LAG_MS);
  const waited = await engine
    .waitContainer(helper.id, { signal: signal ? AbortSignal.any([signal, lag]) : lag })
    .catch((error: unknown) => {
      if (!lag.aborted) throw error;
      throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" was cut off while it still runs`);
    });
  const state = await engine.inspectContainer(helper.id, { signal });
  if (!state.running && state.exitCode === 0 && waited.exitCode === 0 && !waited.error) return;
  const words = lastWords(waited.error ?? stderr.text());
  const why = state.oomKilled ? 'ran out of memory' : `ended with status ${waited.exitCode || state.exitCode}`;
  throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" ${why}${words ? `: ${words}` : ''}`);
}

function parseLine(line: Buffer, spec: HelperSpec): unknown {
  try {
    return JSON.parse(line.toString('utf8'));
  } catch (cause) {
    const words = lastWords(line.toString('utf8'), 200);
    throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" wrote a line that is not JSON: ${words}`, {
      cause,
    });
  }
}
