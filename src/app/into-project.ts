import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import { listFacts } from '../docker/discover.ts';
import type { Engine } from '../docker/engine.ts';
import { quote } from '../plan/values/fields.ts';
import { SPOOL } from '../run/mounts.ts';
import { openState } from '../run/state.ts';

/**
 * Restores into another Compose project of the same engine: a copy of the agent's own, `--into-project`. Its state,
 * journals and files of runs are in a directory of their own in the spool, because its sources have the same names as
 * those of the agent's project.
 */
const INTO = path.join(SPOOL, 'into');

/** Returns the directory of the spool that belongs to a restore: `into` names another project. */
export function spoolOf(into: string | undefined): string {
  return into === undefined ? SPOOL : path.join(INTO, into);
}

/**
 * Checks that a project can be restored into: it is not the agent's own, and its containers exist.
 *
 * @param into as the user named it
 * @param own the agent's project
 * @throws USAGE, PROJECT_UNKNOWN, ENGINE_*
 */
export async function checkInto(engine: Engine, into: string, own: string): Promise<void> {
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(into)) {
    throw new LifeboatError('USAGE', `--into-project ${quote(into)} is not the name of a Compose project`, {
      hint: 'Names have lower-case letters, digits, hyphens and underscores.',
    });
  }
  if (into === own) {
    throw new LifeboatError('USAGE', `${into} is the project of Lifeboat itself`, {
      hint: 'Leave out --into-project to restore the project in place.',
    });
  }
  const containers = await listFacts(engine);
  if (containers.some(({ project }) => project === into)) return;
  throw new LifeboatError('PROJECT_UNKNOWN', `no container of project ${into} exists`, {
    hint: `Create them from the same Compose files: \`docker compose --project-name ${into} create\`. Then start the databases alone: \`docker compose --project-name ${into} up --detach --wait db\`.`,
  });
}

/** Returns the project into which a restore went, by the id of the restore; undefined if it was no other project. */
export async function projectOfRestore(id: string | undefined): Promise<string | undefined> {
  if (id === undefined) return undefined;
  for (const project of await readdir(INTO).catch(() => [])) {
    const rollbacks = await openState(path.join(spoolOf(project), 'state')).rollbacks();
    if (rollbacks.some((one) => one.id.startsWith(id) || one.group?.startsWith(id))) return project;
  }
  return undefined;
}
