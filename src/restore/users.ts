import { ownLabels } from '../plan/labels.ts';
import type { ContainerFacts, PlannedSource, PostgresSource } from '../plan/model.ts';
import { isStopForbidden } from '../plan/services.ts';
import { dependencies } from '../plan/values/depends-on.ts';
import { isOwner, needs, sortByNeed } from '../plan/values/needs.ts';
import { projectOf } from '../plan/volumes.ts';
import type { Client, Clients } from '../sources/postgres/facts/clients.ts';
import { concerns, namedServers } from './naming.ts';

/** A client of a database that a restore does not stop. */
export interface OtherClient {
  name: string;
  /** why it is not stopped, and what changes that */
  reason: string;
}

/** The containers that use a database. */
interface DatabaseUsers {
  /** running containers of the database's project, each after those that it depends on */
  using: ContainerFacts[];
  /** connected, and not stopped */
  others: OtherClient[];
}

interface UsersInput {
  /** all containers of the engine */
  all: readonly ContainerFacts[];
  target: PostgresSource;
  /** who is connected, as the server reports it; absent if it was not asked */
  clients?: Clients | undefined;
  /** ids of containers that are never stopped: the agent, and the servers of the restore */
  never: ReadonlySet<string>;
}

/**
 * Finds the containers that use a database, directly or through other services:
 *
 * 1. those that name its service in `depends_on`, or name it as a Postgres server in a variable or argument,
 * 2. those that are connected, by the addresses of the sessions,
 * 3. those with the label `lifeboat.stop: "true"` that have to do with the database, see {@link concerns},
 * 4. those that name one of these (a connection pooler, an API) in one of the two ways of 1.
 *
 * Containers of other projects, and those with `lifeboat.stop: "false"`, are not stopped. If they are connected, they
 * are returned as others. A shared network alone is no reason to stop a container.
 */
export function findUsers({ all, target, clients, never }: UsersInput): DatabaseUsers {
  const server = all.find(({ id }) => id === target.containerId);
  if (!server) return { using: [], others: [] };
  const connections = (clients?.clients ?? []).map((client) => ({
    client,
    containers: holdersOf(client, server, all, clients?.socketDirectories ?? []),
  }));
  const connected = new Set(connections.flatMap(({ containers }) => containers.map(({ id }) => id)));
  const kept = all.filter(({ id }) => id === server.id || never.has(id)).map(serviceKey);
  const members = all.filter(
    (one) => one.project !== '' && one.project === server.project && !kept.includes(serviceKey(one)),
  );
  const uses = usesAmong([...members, server]);
  const isFirst = (one: ContainerFacts) => connected.has(one.id) || uses(one, server) || isLabelled(one, target);
  const found = new Set<ContainerFacts>(members.filter(isFirst));
  // A set is visited in the order of insertion, so the loop also visits what it adds.
  for (const user of found) for (const one of members) if (uses(one, user)) found.add(one);
  const using = sortByNeed([...found], (one, other) => uses(one, other) || needs(one, other)).filter(
    (one) => one.running && !isStopForbidden(one),
  );
  const stopped = new Set(using.map(({ id }) => id));
  return { using, others: describeOthers(connections, server, stopped, never) };
}

function serviceKey({ project, service }: ContainerFacts): string {
  return JSON.stringify([project, service]);
}

/** Returns a function that says whether one container of a project is configured to use another one directly. */
function usesAmong(containers: readonly ContainerFacts[]): (one: ContainerFacts, used: ContainerFacts) => boolean {
  const edges = new Map(
    containers.map((one) => [one.id, { services: new Set(dependencies(one)), names: namedServers(one, containers) }]),
  );
  return (one, used) => {
    const edge = edges.get(one.id);
    return (
      one.service !== used.service && edge !== undefined && (edge.services.has(used.service) || edge.names.has(used.id))
    );
  };
}

/** Returns whether the label `lifeboat.stop` of a container applies to a source, see {@link concerns}. */
export function isLabelled(container: ContainerFacts, target: PlannedSource): boolean {
  const label = ownLabels(container.labels, container.imageLabels).get('lifeboat.stop');
  return /^(true|yes|1|on)$/i.test(label?.trim() ?? '') && concerns(container, target);
}

/**
 * Returns the running containers that a session may belong to. Containers that share a network namespace
 * (`network_mode: service:…`) have the same address. Of these, the function returns those that are configured to use
 * the server, or all of them if none is.
 */
function holdersOf(
  { address, hidden }: Client,
  server: ContainerFacts,
  all: readonly ContainerFacts[],
  socketDirectories: readonly string[],
): ContainerFacts[] {
  if (hidden) return [];
  const running = all.filter(({ running, id }) => running && id !== server.id);
  const home = namespaceOf(server, all);
  const candidates =
    address === null
      ? running.filter((one) => namespaceOf(one, all).id === home.id || sharesSocket(one, server, socketDirectories))
      : isLocal(address, home)
        ? running.filter((one) => namespaceOf(one, all).id === home.id)
        : atAddress(address, home, running, all);
  const uses = usesAmong([...candidates, server]);
  const configured = candidates.filter((one) => one.project === server.project && uses(one, server));
  return configured.length > 0 ? configured : candidates;
}

/** Searches the networks of the server first, because another network may use the same addresses. */
function atAddress(
  address: string,
  home: ContainerFacts,
  running: readonly ContainerFacts[],
  all: readonly ContainerFacts[],
): ContainerFacts[] {
  const has = (one: ContainerFacts, isNetwork: (name: string) => boolean) =>
    Object.entries(namespaceOf(one, all).networks ?? {}).some(
      ([name, { addresses }]) => isNetwork(name) && addresses.includes(address),
    );
  const near = running.filter((one) => has(one, (name) => Object.hasOwn(home.networks ?? {}, name)));
  return near.length > 0 ? near : running.filter((one) => has(one, () => true));
}

/** Returns the container whose network namespace a container uses: its own, or that of `network_mode: container:…`. */
function namespaceOf(container: ContainerFacts, all: readonly ContainerFacts[]): ContainerFacts {
  // The engine does not allow a container to use the namespace of one that itself uses another, so one step is enough.
  return all.find((one) => isOwner(container.networkMode, one)) ?? container;
}

function isLocal(address: string, home: ContainerFacts): boolean {
  const own = Object.values(home.networks ?? {}).flatMap(({ addresses }) => addresses);
  return /^(127\.|::1$|::ffff:127\.)/.test(address) || own.includes(address);
}

/** Returns whether a container mounts the volume in which the server has its Unix socket. */
function sharesSocket(container: ContainerFacts, server: ContainerFacts, directories: readonly string[]): boolean {
  // /var/run is a link to /run.
  const plain = (directory: string) => directory.replace(/^\/var\/run(?=\/|$)/, '/run').replace(/\/$/, '');
  const sockets = server.mounts.filter(({ destination }) =>
    directories.some((one) => `${plain(one)}/`.startsWith(`${plain(destination)}/`)),
  );
  return container.mounts.some((mount) =>
    sockets.some(({ type, name, source }) => type === mount.type && (name ?? source) === (mount.name ?? mount.source)),
  );
}

function describeOthers(
  connections: readonly { client: Client; containers: readonly ContainerFacts[] }[],
  server: ContainerFacts,
  stopped: ReadonlySet<string>,
  never: ReadonlySet<string>,
): OtherClient[] {
  const others = new Map<string, OtherClient>();
  const add = (other: OtherClient) => others.set(JSON.stringify(other), other);
  for (const { client, containers } of connections) {
    if (containers.some(({ id }) => stopped.has(id))) continue;
    const foreign = containers.filter(({ id }) => !never.has(id));
    for (const one of foreign) add(describeContainer(one, server));
    if (containers.length === 0) add(describeStranger(client, server));
  }
  return [...others.values()];
}

function describeContainer(container: ContainerFacts, server: ContainerFacts): OtherClient {
  const { name, project } = container;
  if (project === '' || project !== server.project) {
    return { name, reason: foreignReason(container) };
  }
  if (isStopForbidden(container)) {
    return { name, reason: 'its label is lifeboat.stop: "false"; remove the label, and a restore stops it' };
  }
  return { name, reason: 'it is another container of the database service' };
}

/** Returns why a restore does not stop a container of another project. */
export function foreignReason(container: ContainerFacts): string {
  return `it belongs to ${projectOf(container)}, so a restore does not stop it: stop it yourself before you confirm`;
}

function describeStranger(
  { address, application, role, database, hidden }: Client,
  server: ContainerFacts,
): OtherClient {
  const what = [application, role === '' ? '' : `role ${role}`, `database ${database}`].filter((one) => one !== '');
  if (hidden) {
    const reason = `Lifeboat's role may not see its address; grant that role pg_read_all_stats`;
    return { name: `a client (${what.join(', ')})`, reason };
  }
  if (address === null || isLocal(address, server)) {
    return { name: `a client (${what.join(', ')})`, reason: `it runs inside ${server.name}, which is not stopped` };
  }
  const reason =
    'no container has its address, so it runs on the host or elsewhere; stop it yourself before you confirm';
  return { name: `${address} (${what.join(', ')})`, reason };
}
