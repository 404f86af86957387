import { LifeboatError } from '../base/errors.ts';
import { listFacts } from '../docker/discover.ts';
import type { Engine } from '../docker/engine.ts';
import type { Mount, Plan, PlannedSource } from '../plan/model.ts';
import { dataDirectoryOf } from './data-directory.ts';

/**
 * Refuses to restore into data that a container of another project mounts too: a bind, an external volume, or a volume
 * with a fixed name. The copy of a project would then be the project itself.
 *
 * @param name the source to restore into
 * @throws TREE_TARGET_REFUSED
 */
export async function refuseSharedData(
  { engine, plan, project }: { engine: Engine; plan(): Promise<Plan>; project: string },
  name: string,
): Promise<void> {
  const target = (await plan()).sources.find((source) => source.name === name);
  const mount = target && mountOf(target);
  if (!mount) return;
  const sharing = (await listFacts(engine, { all: true })).find(
    (one) => one.project !== project && one.mounts.some((other) => holdsSame(mount, other)),
  );
  if (!sharing) return;
  const what = mount.name === undefined ? `the directory ${mount.source}` : `the volume ${mount.name}`;
  const whose = sharing.project === '' ? 'a container outside of Compose' : `project ${sharing.project}`;
  throw new LifeboatError('TREE_TARGET_REFUSED', `${name} of ${project} is in ${what}, which ${whose} uses too`, {
    hint: 'Give the copy data of its own: a named volume without `name:` or `external:`, or another directory.',
  });
}

function mountOf(target: PlannedSource): Mount | undefined {
  if (target.kind === 'volume') return target.mount;
  if (target.kind !== 'postgres') return undefined;
  try {
    return dataDirectoryOf(target).mount;
  } catch {
    // The data is in the container itself, which nothing else uses.
    return undefined;
  }
}

/** Returns whether two mounts have files in common. */
function holdsSame(a: Mount, b: Mount): boolean {
  if (a.name !== undefined || b.name !== undefined) return a.name === b.name;
  const within = (inner: string, outer: string) => `${inner}/`.startsWith(`${outer.replace(/\/$/, '')}/`);
  return within(a.source, b.source) || within(b.source, a.source);
}
