import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, LifeboatError } from '../base/errors.ts';
import type { ExecState } from '../docker/answers.ts';
import type { Engine } from '../docker/engine.ts';
import { engineStatusOf, isNotFound } from '../docker/engine-errors.ts';
import { execText } from '../docker/exec.ts';
import type { Hook } from '../plan/model.ts';
import { current } from './current.ts';
import type { ContainerRef, JournalEntry } from './journal.ts';

/** The time limit of a hook, milliseconds. */
const HOOK_LIMIT_MS = 15 * 60_000;
const POLL_MS = 250;
/**
 * A run checks at this interval whether the container of a hook is paused, milliseconds. Two such checks end the wait.
 */
const PAUSE_POLL_MS = 10_000;

export interface HookDeps {
  engine: Engine;
  record(entry: JournalEntry): void;
  /** how long to wait for a command of an interrupted run, milliseconds */
  patienceMs: number;
}

type ExecEntry = JournalEntry & { type: 'pre' | 'post' };

/** A `post` that has to run. */
export interface OpenPost {
  container: ContainerRef;
  post: Hook;
  /** the command that must end before `post` runs */
  pre?: ExecEntry;
  /** an earlier try of `post` */
  begun?: ExecEntry;
}

/** Why `post` failed. `isOver`: the command ran, or its container is gone, so there is no other try. */
interface PostFailure {
  error: unknown;
  isOver: boolean;
}

/** Runs `pre` and records its exec. Throws as {@link runHook}. */
export async function runPre(deps: HookDeps, container: ContainerRef, pre: Hook, signal: AbortSignal): Promise<void> {
  const onCreated = recordExec(deps, 'pre', container);
  await runHook({ engine: deps.engine, container, which: 'pre', hook: pre, signal, onCreated });
}

function recordExec({ record }: HookDeps, type: 'pre' | 'post', container: ContainerRef): (exec: string) => void {
  const until = new Date(Date.now() + HOOK_LIMIT_MS).toISOString();
  return (exec) => record({ type, container, exec, until });
}

/**
 * Runs `post`, unless an earlier try ran it. Records its exec, and that it is over. It stays open while its container
 * does not run or is paused, and while it is unknown whether the command ran.
 *
 * @param signal ends the wait for the command, which the engine continues
 */
export async function runPost(
  deps: HookDeps,
  { container, post, pre, begun }: OpenPost,
  signal?: AbortSignal,
): Promise<PostFailure | undefined> {
  const failed = await tryPost();
  if (!failed || failed.isOver) deps.record({ type: 'hook-done', container });
  return failed;

  async function tryPost(): Promise<PostFailure | undefined> {
    try {
      const now = await current(deps.engine, container);
      if (!now) return { error: notRun(`${container.name} is gone`), isOver: true };
      const { name } = now.container;
      if (!now.details.running) return { error: notRun(`${name} does not run`, `Start ${name}`), isOver: false };
      if (now.details.paused) return { error: notRun(`${name} is paused`, unpause(name)), isOver: false };
      if (pre) await execEnded(deps, pre, signal);
      const earlier = begun && (await execEnded(deps, begun, signal));
      if (earlier?.running) return { error: hookError('post', container, post, 'it still runs'), isOver: true };
      // Without an exit status, the engine created the command and did not start it.
      if (earlier && earlier.exitCode !== null) {
        if (earlier.exitCode === 0) return undefined;
        const why = `it ended with status ${earlier.exitCode}`;
        return { error: hookError('post', container, post, why), isOver: true };
      }
      const onCreated = recordExec(deps, 'post', container);
      await runHook({ engine: deps.engine, container: now.container, which: 'post', hook: post, signal, onCreated });
      return undefined;
    } catch (error) {
      const isOver =
        hasCode(error, 'HOOK_FAILED') && !isNotStarted(error as Error) && !(await isPaused(deps.engine, container));
      return { error, isOver };
    }
  }
}

/** Returns the error of a `post` whose container cannot run it now. */
function notRun(why: string, step?: string): LifeboatError {
  const message = `lifeboat.exec.post could not be run: ${why}`;
  return new LifeboatError('HOOK_FAILED', message, {
    ...(step === undefined ? {} : { hint: `${step}. Lifeboat then runs the command within a minute.` }),
  });
}

function unpause(name: string): string {
  return `Run \`docker unpause ${name}\``;
}

/** A command in a paused container continues when somebody unpauses it. */
async function isPaused(engine: Engine, container: ContainerRef): Promise<boolean> {
  const now = await current(engine, container).catch(() => undefined);
  return now?.details.paused ?? false;
}

/**
 * Returns true if a command did not start: the engine refused it because its container stopped or was paused at that
 * moment, or a full spool had no space to record it.
 */
function isNotStarted({ cause }: { cause?: unknown }): boolean {
  const status = engineStatusOf(cause);
  return status === 404 || status === 409 || hasCode(cause, 'SPOOL_FULL');
}

/**
 * Waits for the end of a command, because the engine continues an exec that nobody waits for. Returns its state, which
 * is `running` after its time limit, or undefined if the engine does not know it any more.
 *
 * @throws INTERRUPTED if the command still runs after {@link HookDeps.patienceMs}; ENGINE_*
 */
async function execEnded(
  { engine, patienceMs }: HookDeps,
  { container, exec, until, type }: ExecEntry,
  signal?: AbortSignal,
): Promise<ExecState | undefined> {
  const patient = performance.now() + patienceMs;
  for (;;) {
    const state = await engine.execInspect(exec).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!state?.running || Date.now() >= Date.parse(until)) return state;
    if (performance.now() >= patient || signal?.aborted) {
      const message = `the command of lifeboat.exec.${type} in ${container.name} still runs`;
      throw new LifeboatError('INTERRUPTED', type === 'pre' ? `${message}, so lifeboat.exec.post waits` : message);
    }
    await sleep(POLL_MS);
  }
}

interface RunHookOptions {
  engine: Engine;
  container: ContainerRef;
  which: 'pre' | 'post' | 'restored';
  hook: Hook;
  signal?: AbortSignal | undefined;
  onCreated?: ((execId: string) => void) | undefined;
}

/**
 * Runs a command of `lifeboat.exec` in a container. Calls `onCreated` with the id of the exec before the command
 * starts.
 *
 * @throws HOOK_FAILED when the command fails, or its container stays paused; ENGINE_UNREACHABLE when it is unknown
 * whether it ran; the reason of `signal`
 */
export async function runHook({ engine, container, which, hook, signal, onCreated }: RunHookOptions): Promise<void> {
  const limit = AbortSignal.timeout(HOOK_LIMIT_MS);
  const pause = watchPause(engine, container, which);
  const bounded = AbortSignal.any([...(signal ? [signal] : []), limit, pause.signal]);
  try {
    await execText(engine, container.id, { ...hook, signal: bounded, ...(onCreated ? { onCreated } : {}) });
  } catch (error) {
    if (signal?.aborted || pause.signal.aborted) throw error;
    // It is unknown whether the command ran, so this is no failure of the command.
    if (hasCode(error, 'ENGINE_UNREACHABLE') && !limit.aborted) throw error;
    throw hookError(which, container, hook, error);
  } finally {
    pause.end();
  }
}

function hookError(which: string, { name }: ContainerRef, { argv }: Hook, cause: unknown): LifeboatError {
  return new LifeboatError('HOOK_FAILED', `lifeboat.exec.${which} in ${name} failed`, {
    cause: typeof cause === 'string' ? new Error(cause) : cause,
    // The hint omits the arguments, because they may contain a password.
    hint: `Look at the command ${JSON.stringify(argv[0])} of the label lifeboat.exec.${which}, and try it with docker exec.`,
  });
}

/** Returns a signal that aborts with HOOK_FAILED when a container is paused at two checks in a row. */
function watchPause(engine: Engine, { id, name }: ContainerRef, which: string): { signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  let was = false;
  const look = async () => {
    const is = await engine.inspectContainer(id).then(
      (details) => details.paused,
      () => false,
    );
    if (is && was) {
      const message = `${name} is paused, so lifeboat.exec.${which} cannot end`;
      controller.abort(new LifeboatError('HOOK_FAILED', message, { hint: `${unpause(name)}.` }));
    }
    was = is;
  };
  const timer = setInterval(() => void look(), PAUSE_POLL_MS);
  timer.unref();
  return { signal: controller.signal, end: () => clearInterval(timer) };
}
