import { LifeboatError } from '../base/errors.ts';
import { listFacts } from '../docker/discover.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import type { ContainerFacts, PlannedSource, VolumeSource } from '../plan/model.ts';
import { findGuests, isTask } from '../plan/services.ts';
import { needs, sortByNeed } from '../plan/values/needs.ts';
import { writersTo } from '../plan/volumes.ts';
import { pausedError, withHold } from '../run/hold.ts';
import type { ContainerRef } from '../run/journal.ts';
import type { HoldDeps } from '../run/release.ts';
import type { Clients } from '../sources/postgres/facts/clients.ts';
import { becomesHealthy, PATIENCE, type ServiceCheck } from './service-health.ts';
import { findUsers, foreignReason, isLabelled, type OtherClient } from './users.ts';

/** Data that a restore replaces, and who is connected to it. */
export interface UsedData {
  target: PlannedSource;
  /** of a database; absent if the server was not asked */
  clients?: Clients | undefined;
}

/** The containers that use data. */
export interface Services {
  /** to stop; among the users of one database, each after those that it uses */
  using: ContainerRef[];
  /** that must not be stopped, with the reason */
  kept: { name: string; reason: string }[];
  /** connected to a database, and not stopped */
  others: OtherClient[];
  /** can write to a volume, and not stopped because they belong to other projects */
  writing: OtherClient[];
}

export const NO_SERVICES: Services = { using: [], kept: [], others: [], writing: [] };

/**
 * Finds the running containers that use data, except the agent and the servers of the data. A container of the project
 * uses a volume if it mounts the volume writable. {@link findUsers} finds the users of a database. Containers with the
 * label `lifeboat.stop` are included if they have to do with the data, see {@link concerns}. A paused container is not
 * stopped, because it would start unpaused. Containers of other projects are named and not stopped.
 *
 * @throws TREE_TARGET_REFUSED if a paused container has a volume mounted writable; ENGINE_*
 */
export async function containersUsing(engine: Engine, data: readonly UsedData[], agentId: string): Promise<Services> {
  const all = await listFacts(engine, { all: true });
  const servers = data.flatMap(({ target }) => (target.kind === 'postgres' ? [target.containerId] : []));
  const never = new Set([agentId, ...servers]);
  const found = new Map<string, ContainerFacts>();
  const others = new Map<string, OtherClient>();
  const writing = new Map<string, OtherClient>();
  for (const { target, clients } of data) {
    if (target.kind === 'postgres') {
      const users = findUsers({ all, target, clients, never });
      for (const one of users.using) found.set(one.id, one);
      for (const one of users.others) others.set(one.name, one);
    } else if (target.kind === 'volume') {
      const users = usingVolume(all, target, agentId);
      for (const one of users.using) if (!found.has(one.id)) found.set(one.id, one);
      for (const one of users.foreign) writing.set(one.name, { name: one.name, reason: foreignReason(one) });
    }
  }
  const volumes = data.flatMap(({ target }) => (target.kind === 'volume' ? [target] : []));
  const isFound = ({ name }: OtherClient) => [...found.values()].some((one) => one.name === name);
  const services: Services = {
    using: [],
    kept: [],
    others: [...others.values()].filter((one) => !isFound(one)),
    writing: [...writing.values()].filter((one) => !isFound(one)),
  };
  for (const one of found.values()) {
    const { id, name, service, project } = one;
    const details = await engine.inspectContainer(id).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!details?.running) continue;
    if (details.paused) {
      if (volumes.some((target) => mountsIt(one, target))) throw pausedError(name);
      services.kept.push({ name, reason: 'it is paused, and stays paused' });
    } else if (details.autoRemove) services.kept.push({ name, reason: 'it would be removed when it is stopped' });
    else if (isTask(details)) services.kept.push({ name, reason: `Swarm would replace it: ${RESTART_TASK}` });
    else services.using.push({ id, name, project, service });
  }
  return withGuests(services, all, never);
}

const RESTART_TASK = 'restart its service afterwards with `docker service update --force`';

/** Adds the containers that use a namespace of a stopped one: after a stop of its owner, each needs a restart. */
function withGuests(
  { using, kept, others, writing }: Services,
  all: readonly ContainerFacts[],
  never: ReadonlySet<string>,
): Services {
  const reasons = new Map([...never].map((id) => [id, 'a restore never stops it'] as const));
  const guests = findGuests(
    all,
    using.map(({ id }) => id),
    reasons,
  );
  const added = guests.filter(({ whyNot }) => !whyNot).map(({ container }) => container);
  const facts = new Map(all.map((one) => [one.id, one]));
  const needsIt = (one: ContainerRef, other: ContainerRef) => {
    const [its, others] = [facts.get(one.id), facts.get(other.id)];
    return its !== undefined && others !== undefined && needs(its, others);
  };
  const stopped = [...using, ...added.map(({ id, name, project, service }) => ({ id, name, project, service }))];
  const isLeft = ({ name }: OtherClient) => !added.some((one) => one.name === name);
  const left = guests.filter(({ whyNot }) => whyNot);
  return {
    using: sortByNeed(stopped, needsIt),
    kept: [
      ...kept.filter(({ name }) => !left.some(({ container }) => container.name === name)),
      ...left.map(({ container: { name }, shares, whyNot }) => {
        return { name, reason: `${whyNot}; it uses ${shares}, so it may need a restart afterwards` };
      }),
    ],
    ...{ others: others.filter(isLeft), writing: writing.filter(isLeft) },
  };
}

/** Returns warnings about containers that use data and are not stopped. */
export function serviceNotes({ kept, others, writing }: Services): string[] {
  return [
    ...others.map(({ name, reason }) => `also connected, not stopped: ${name}: ${reason}`),
    ...writing.map(({ name, reason }) => `also writing, not stopped: ${name}: ${reason}`),
    ...kept.map(({ name, reason }) => `${name} is not stopped: ${reason}`),
  ];
}

/** Containers of other projects write to the same files, and are not this project's to stop. */
function usingVolume(
  all: readonly ContainerFacts[],
  target: VolumeSource,
  agentId: string,
): { using: ContainerFacts[]; foreign: ContainerFacts[] } {
  const project = all.find(({ id }) => id === target.containerId)?.project ?? '';
  const isOwn = (one: ContainerFacts) => project !== '' && one.project === project;
  const writers = writersTo(target.mount, { containers: [...all], agentId });
  const labelled = all.filter((one) => one.running && one.id !== agentId && isLabelled(one, target));
  return {
    using: [...new Set([...writers, ...labelled])].filter(isOwn),
    foreign: writers.filter((one) => !isOwn(one)),
  };
}

/**
 * Refuses to exchange the data directory of a server while a container runs that can write to it. A server that keeps
 * running writes to the files that are put aside, and damages both. Others may have been left out: the user asked for
 * that, the container would be removed by a stop, or it belongs to another project.
 *
 * @param options `onlyForeign`: only the containers of other projects, which Lifeboat never stops
 * @throws TREE_TARGET_REFUSED; ENGINE_*
 */
export async function refuseWriters(
  engine: Engine,
  volume: VolumeSource,
  agentId: string,
  { onlyForeign = false }: { onlyForeign?: boolean } = {},
): Promise<void> {
  const containers = await listFacts(engine, { all: true });
  const { foreign } = usingVolume(containers, volume, agentId);
  const running = onlyForeign ? foreign : writersTo(volume.mount, { containers, agentId });
  if (running.length === 0) return;
  const names = running.map(({ name }) => name).join(', ');
  throw new LifeboatError(
    'TREE_TARGET_REFUSED',
    `${names} can write to the data directory of the server and is running, so the data cannot be exchanged`,
    {
      hint: `Nothing was changed. Stop ${running.length === 1 ? 'it' : 'them'} with \`docker stop\`, and do not use --no-stop.`,
    },
  );
}

/** Returns whether a container can write to the volume of a source. */
function mountsIt(container: ContainerFacts, { mount }: VolumeSource): boolean {
  return writersTo(mount, { containers: [container], agentId: '' }).length > 0;
}

interface WithStoppedOptions<T> {
  containers: readonly ContainerRef[];
  deps: HoldDeps;
  signal: AbortSignal;
  work: () => Promise<T>;
  /** ids of containers that `work` needs; they are not stopped, even if they use a namespace of a stopped one */
  needed?: readonly string[];
  patience?: typeof PATIENCE | undefined;
}

/**
 * Stops containers, runs `work`, and starts them again whether it succeeds or not. Each stop is recorded first, so
 * recovery starts the containers after a crash. Resolves when all of them are healthy or have timed out.
 *
 * @returns `stoppedMs`: from the first stop to the last start, milliseconds; absent if there was nothing to stop
 */
export async function withStopped<T>({
  containers,
  deps,
  signal,
  work,
  needed = [],
  patience = PATIENCE,
}: WithStoppedOptions<T>): Promise<{ result: T; checks: ServiceCheck[]; stoppedMs?: number }> {
  const [container] = containers;
  if (!container) return { result: await work(), checks: [] };
  const hold = { container, stop: [...containers], leftHeld: isHalfRestored, refusePaused: true as const, needed };
  const begin = performance.now();
  const result = await withHold(hold, deps, signal, work);
  const stoppedMs = Math.round(performance.now() - begin);
  const checks = await Promise.all(containers.map((one) => becomesHealthy(deps.engine, one, signal, patience)));
  return { result, checks, stoppedMs };
}

interface WithServersLastOptions extends Pick<WithStoppedOptions<void>, 'deps' | 'signal'> {
  services: Services;
  /** ids of the containers of the databases */
  servers: readonly string[];
  databases: () => Promise<void>;
  volumes: () => Promise<void>;
}

/**
 * Stops services once for databases and volumes. The database servers run while their databases are changed. A server
 * that uses a volume is stopped afterwards, while the volumes are changed.
 */
export async function withServersLast(
  options: WithServersLastOptions,
): Promise<{ checks: ServiceCheck[]; stoppedMs?: number }> {
  const { services, servers, deps, signal, databases, volumes } = options;
  const [inner, outer] = [true, false].map((isServer) =>
    services.using.filter(({ id }) => servers.includes(id) === isServer),
  ) as [ContainerRef[], ContainerRef[]];
  const work = async () => {
    await databases();
    return withStopped({ containers: inner, deps, signal, work: volumes });
  };
  const {
    result,
    checks,
    stoppedMs = result.stoppedMs,
  } = await withStopped({
    ...{ containers: outer, deps, signal, work, needed: servers },
  });
  return { checks: [...result.checks, ...checks], ...(stoppedMs !== undefined && { stoppedMs }) };
}
