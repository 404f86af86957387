import type { Duplex } from 'node:stream';
import { errorInfo, LifeboatError } from '../errors.ts';
import { type Log, silentLog } from '../log.ts';
import { Capture, lastWords } from './capture.ts';
import { frames } from './demux.ts';
import type { Engine } from './engine.ts';
import { createBody, type HelperSpec, helperName, PROJECT_LABEL, RUN_LABEL } from './helper-spec.ts';
import { LineBuffer } from './lines.ts';
import { interruption, isNotFound, statusOf } from './transport.ts';

export interface Helper {
  id: string;
  name: string;
  /** Kills and removes it with its anonymous volumes. Resolves also when it is gone already. */
  remove(): Promise<void>;
}

/** The engine may take a moment after the stream's end to record the exit; longer than this, the stream was cut. */
const EXIT_LAG_MS = 5_000;

// Engines on which a weight for block I/O kept a helper from starting.
const withoutBlkio = new WeakSet<Engine>();

/** Creates and starts a helper. Throws HELPER_FAILED, or what the engine failed with; then nothing is left of it. */
export async function startHelper(engine: Engine, spec: HelperSpec): Promise<Helper> {
  const helper = await createHelper(engine, spec, false);
  try {
    await engine.startContainer(helper.id, { signal: spec.signal });
    return helper;
  } catch (error) {
    await removeQuietly(helper, spec.log);
    if (refusesBlkio(engine, error)) return startHelper(engine, spec);
    throw helperFailed(spec, 'could not be started', error);
  }
}

/**
 * Runs a helper to its end: `input` to its stdin, then `onLine` with each line of its stdout, one at a time, so that a
 * slow `onLine` makes the helper wait. Secrets go in by `input`. Resolves only when the engine knows the container as
 * ended with status 0 and every line that arrived was handled. A connection cut at a line's end just before a helper
 * ends well cannot be told from the real end: let the last line say that it is the last.
 * Throws HELPER_FAILED with the tail of its stderr. Whatever happens, the container is removed.
 */
export async function runHelper(
  engine: Engine,
  spec: HelperSpec & { input: string; onLine: (line: string) => void | Promise<void> },
): Promise<void> {
  const { signal } = spec;
  const helper = await createHelper(engine, spec, true);
  const stderr = new Capture(16 * 1024, 4096);
  let socket: Duplex | undefined;
  try {
    // Attached before it starts, so that nothing it writes is lost.
    socket = await engine.attach(helper.id, { stdin: true, signal });
    await engine.startContainer(helper.id, { signal });
    socket.end(spec.input);
    const cut = await readLines(socket, stderr, spec);
    await confirmEnd(engine, helper, stderr, spec);
    if (cut) throw cut;
  } catch (error) {
    if (signal?.aborted) throw interruption(signal);
    if (refusesBlkio(engine, error)) return await runHelper(engine, spec);
    throw error instanceof LifeboatError ? helperFailed(spec, 'could not be run', error) : error;
  } finally {
    socket?.destroy();
    await removeQuietly(helper, spec.log);
  }
}

async function createHelper(engine: Engine, spec: HelperSpec, attached: boolean): Promise<Helper> {
  const { signal, log = silentLog } = spec;
  const name = helperName(spec);
  const image = await engine.inspectImage(spec.image, { signal }).catch((error: unknown) => {
    throw helperFailed(spec, `has no image ${spec.image}`, error);
  });
  await spec.recordBefore(name);
  // By name, because the answer with the id can be lost after the container was made.
  const remove = () => removeContainer(engine, name);
  try {
    const body = createBody(spec, image.labels, { attached, blkio: !withoutBlkio.has(engine) });
    const { id, warnings } = await engine.createContainer(name, body, { signal });
    for (const warning of warnings) log.debug('the engine warned of a helper', { name, warning });
    return { id, name, remove };
  } catch (error) {
    await removeQuietly({ id: '', name, remove }, log);
    throw helperFailed(spec, 'could not be created', error);
  }
}

/** Returns, rather than throws, what cut the output off: the exit status says more, and is looked at first. */
async function readLines(
  socket: Duplex,
  stderr: Capture,
  spec: { purpose: string; onLine: (line: string) => void | Promise<void> },
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
    else for (const line of lines.split(data)) await spec.onLine(line);
  }
  if (lines.pending === 0) return undefined;
  return new LifeboatError('HELPER_FAILED', `the output of helper "${spec.purpose}" ended inside a line`);
}

/** The stream's end proves nothing (see exec-stream.ts): the engine must know the container as ended, with status 0. */
async function confirmEnd(engine: Engine, helper: Helper, stderr: Capture, spec: HelperSpec): Promise<void> {
  const lag = AbortSignal.timeout(EXIT_LAG_MS);
  const signal = spec.signal ? AbortSignal.any([spec.signal, lag]) : lag;
  const waited = await engine.waitContainer(helper.id, { signal }).catch((error: unknown) => {
    if (!lag.aborted) throw error;
    throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" was cut off while it still runs`);
  });
  const state = await engine.inspectContainer(helper.id, { signal: spec.signal });
  if (!state.running && state.exitCode === 0 && waited.exitCode === 0 && !waited.error) return;
  const words = lastWords(waited.error ?? stderr.text());
  const why = state.oomKilled ? 'ran out of memory' : `ended with status ${waited.exitCode || state.exitCode}`;
  throw new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" ${why}${words ? `: ${words}` : ''}`);
}

/** Refusals become HELPER_FAILED; an engine that is gone, or a run that was stopped, stays what it is. */
function helperFailed(spec: HelperSpec, what: string, cause: unknown): unknown {
  if (!(cause instanceof LifeboatError) || cause.code !== 'ENGINE_REFUSED') return cause;
  const hint = isForbidden(cause)
    ? 'Allow create, start, attach and remove in the proxy of the Docker socket.'
    : cause.hint;
  return new LifeboatError('HELPER_FAILED', `helper "${spec.purpose}" ${what}: ${cause.message}`, {
    cause,
    ...(hint ? { hint } : {}),
  });
}

function isForbidden(error: unknown): boolean {
  return statusOf(error) === 403;
}

/** True the first time that an engine refuses a helper for its block I/O weight; from then on it is left out. */
function refusesBlkio(engine: Engine, error: unknown): boolean {
  if (withoutBlkio.has(engine) || statusOf(error) === undefined || !/blkio|io\.weight|io\.bfq/i.test(String(error))) {
    return false;
  }
  withoutBlkio.add(engine);
  return true;
}

/** Has no signal: removal is not given up when the run is, and the engine's own bound in time applies. */
async function removeContainer(engine: Engine, idOrName: string): Promise<void> {
  try {
    await engine.removeContainer(idOrName, { force: true, volumes: true });
  } catch (error) {
    // 409: its removal is under way already.
    if (!isNotFound(error) && statusOf(error) !== 409) throw error;
  }
}

async function removeQuietly(helper: Helper, log: Log = silentLog): Promise<void> {
  await helper.remove().catch((error: unknown) => {
    log.warn('a helper could not be removed and is left for the next clean-up', {
      name: helper.name,
      ...errorInfo(error),
    });
  });
}

/**
 * Removes the helpers of a project that belong to none of `keepRunIds`, running or not, with their anonymous volumes.
 * Touches only containers that carry both of our labels with exactly this project. One that cannot be removed is logged
 * and left for the next time. Returns the names of those found.
 */
export async function reapHelpers(
  engine: Engine,
  project: string,
  keepRunIds: readonly string[],
  log: Log = silentLog,
): Promise<string[]> {
  const found = await engine.listContainers({ labels: [RUN_LABEL, `${PROJECT_LABEL}=${project}`] });
  const ours = found.filter(({ labels }) => {
    const run = labels[RUN_LABEL];
    return run !== undefined && labels[PROJECT_LABEL] === project && !keepRunIds.includes(run);
  });
  await Promise.all(
    ours.map(({ id, name }) => removeQuietly({ id, name, remove: () => removeContainer(engine, id) }, log)),
  );
  return ours.map(({ name }) => name);
}
