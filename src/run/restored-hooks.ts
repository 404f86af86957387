import { errorInfo } from '../base/errors.ts';
import type { Engine } from '../docker/engine.ts';
import type { PlannedSource } from '../plan/model.ts';
import { runHook } from './release.ts';

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
 * @param replaced the sources whose data was replaced
 * @throws the reason of `signal`
 */
export async function runRestoredHooks(
  { engine, plan }: { engine: Engine; plan(): Promise<{ sources: readonly PlannedSource[] }> },
  replaced: readonly PlannedSource[],
  signal: AbortSignal,
): Promise<HookCheck[]> {
  let sources: readonly PlannedSource[];
  try {
    ({ sources } = await plan());
  } catch (error) {
    signal.throwIfAborted();
    return [{ name: 'lifeboat.exec.restored', ok: false, detail: errorInfo(error).message }];
  }
  const checks = new Map<string, HookCheck>();
  for (const source of sources) {
    const { restored: hook, containerId: id, containerName: name, project, service } = source;
    const key = JSON.stringify([id, hook]);
    if (!hook || checks.has(key) || !replaced.some((one) => concernsHook(source, one))) continue;
    const container = { id, name, project, service };
    const failed = await runHook({ engine, container, which: 'restored', hook, signal }).then(
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
  return [...checks.values()];
}

function concernsHook(source: PlannedSource, replaced: PlannedSource): boolean {
  if (source.containerId === replaced.containerId) return true;
  if (source.kind === 'volume' && replaced.kind === 'volume') return source.name === replaced.name;
  const isUsed = source.project === replaced.project && (source.dependsOn ?? []).includes(replaced.service);
  return replaced.kind === 'postgres' && isUsed;
}
