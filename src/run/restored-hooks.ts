import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Engine } from '../docker/engine.ts';
import type { Hook, HookService, PlannedSource } from '../plan/model.ts';
import { current } from './current.ts';
import { runHook } from './hooks.ts';
import type { ContainerRef } from './journal.ts';

/** The services of the project as they are after the restore. */
export interface Planned {
  sources: readonly PlannedSource[];
  hooks?: readonly HookService[];
}

/** The result of one command. */
interface HookCheck {
  name: string;
  ok: boolean;
  detail?: string;
}

/**
 * Runs `lifeboat.exec.restored` of each service whose data a restore has replaced: the service of the source itself,
 * and services that depend on a restored database. A command that fails is a failed check, because the restored data
 * stays in place; so is a list of services that cannot be read.
 *
 * @param plan lists all sources of the project as they are after the restore
 * In a copy of a project, most services have never started, so their commands cannot run: they are skipped.
 *
 * @param replaced the sources whose data was replaced
 * @param warnings receives a line for each command that is skipped
 * @throws the reason of `signal`
 */
export async function runRestoredHooks(
  { engine, plan, isCopy = false }: { engine: Engine; plan(): Promise<Planned>; isCopy?: boolean },
  replaced: readonly PlannedSource[],
  signal: AbortSignal,
  warnings: string[],
): Promise<HookCheck[]> {
  let services: readonly (PlannedSource | HookService)[];
  try {
    const { sources, hooks = [] } = await plan();
    services = [...sources, ...hooks];
  } catch (error) {
    signal.throwIfAborted();
    return [{ name: 'lifeboat.exec.restored', ok: false, detail: errorInfo(error).message }];
  }
  const checks = new Map<string, HookCheck | undefined>();
  for (const source of services) {
    const { restored: hook, containerId: id, containerName: name, project, service } = source;
    const key = JSON.stringify([id, hook]);
    if (!hook || checks.has(key) || !replaced.some((one) => concernsHook(source, one))) continue;
    if (isCopy && (await hasNeverStarted(engine, id, signal))) {
      checks.set(key, undefined);
      warnings.push(
        `lifeboat.exec.restored of ${name} did not run, because the service has never started. Start it, then run the command`,
      );
      continue;
    }
    const container = { id, name, project, service };
    const failed = await runRestored(engine, container, hook, signal).then(
      () => undefined,
      (error: unknown) => {
        signal.throwIfAborted();
        const { message, cause } = errorInfo(error);
        return cause ?? message;
      },
    );
    const check = { name: `lifeboat.exec.restored in ${name}` };
    checks.set(key, failed === undefined ? { ...check, ok: true } : { ...check, ok: false, detail: failed });
  }
  return [...checks.values()].filter((check) => check !== undefined);
}

/** Returns whether a container was created and never started. False if the engine does not say. */
export async function hasNeverStarted(engine: Engine, id: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await engine.inspectContainer(id, { signal })).state === 'created';
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

/** Runs the command in the container as it is now. @throws HOOK_FAILED if it does not run; as {@link runHook} */
async function runRestored(engine: Engine, known: ContainerRef, hook: Hook, signal: AbortSignal): Promise<void> {
  const now = await current(engine, known);
  const { name } = now?.container ?? known;
  const notRun = (why: string) => new LifeboatError('HOOK_FAILED', `${name} ${why}, then run the command`);
  if (!now) throw notRun('is gone: create it again');
  if (!now.details.running) throw notRun('is stopped: start it');
  if (now.details.paused) throw notRun('is paused: unpause it');
  await runHook({ engine, container: now.container, which: 'restored', hook, signal });
}

/** Returns whether a service has or uses data that a restore has replaced. */
export function concernsHook(source: PlannedSource | HookService, replaced: PlannedSource): boolean {
  if (source.containerId === replaced.containerId) return true;
  if ('kind' in source && source.kind === 'volume' && replaced.kind === 'volume') return source.name === replaced.name;
  const isUsed = source.project === replaced.project && (source.dependsOn ?? []).includes(replaced.service);
  return replaced.kind === 'postgres' && isUsed;
}
