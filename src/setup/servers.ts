import { ownLabels } from '../plan/labels.ts';
import type { ContainerFacts, Mount, Note } from '../plan/model.ts';
import { identityOf } from '../plan/mounts.ts';
import { isOneOff } from '../plan/services.ts';
import { isClusterOf, looksLikeCluster } from './foreign.ts';
import {
  isBackupTool,
  isDatabaseByName,
  isOtherDatabase,
  isOtherDirectory,
  isPlainSystem,
  isPostgresImage,
} from './images.ts';
import type { ComposeService } from './services.ts';

/** Finds the database servers among services, and the volumes that hold their files. */

/** Database servers of a project. */
export interface Servers {
  /** services that run a Postgres server */
  postgres: ReadonlySet<ComposeService>;
  /** by the identity of a mount: the Postgres server whose files it holds, or may hold */
  clusters: ReadonlyMap<string, ComposeService>;
  /** identities in `clusters` of which only the server is certain */
  undecided: ReadonlySet<string>;
  /** by the identity of a mount: the server of another kind whose files it holds */
  others: ReadonlyMap<string, ComposeService>;
}

/** The order in which services get a volume: those that always run come first. */
const RANK = { always: 0, once: 1, ends: 2, waits: 3 };

/** Returns services in the order in which they get a volume that several of them mount. */
export function byRank(services: readonly ComposeService[]): ComposeService[] {
  return services.toSorted((a, b) => RANK[a.runs] - RANK[b.runs]);
}

/**
 * Finds the servers. The image or a label shows a Postgres server; without either, a mount at a usual data directory
 * that no such server has.
 */
export function findServers(services: readonly ComposeService[]): Servers {
  const ordered = byRank(services.filter(({ image }) => !isBackupTool(image)));
  const known = ordered.filter(isKnownServer);
  const postgres = new Set([...known.filter(isAsked), ...known]);
  const clusters = new Map<string, ComposeService>();
  const undecided = new Set<string>();
  for (const service of postgres) {
    const files = filesOf(service);
    const own = files.filter((mount) => isClusterOf(mount, service.container));
    // A service that upgrades or prepares the files of another server is none itself.
    const isOther = own.length > 0 && own.every((mount) => clusters.has(identityOf(mount)));
    if (isOther && !isAsked(service)) postgres.delete(service);
    for (const mount of own.length > 0 ? own : files) {
      const identity = identityOf(mount);
      if (clusters.has(identity)) continue;
      clusters.set(identity, service);
      if (own.length === 0) undecided.add(identity);
    }
  }
  for (const service of ordered) {
    if (postgres.has(service) || isPlainSystem(service.image)) continue;
    for (const mount of filesOf(service).filter((one) => looksLikeCluster(one, service.container))) {
      if (clusters.has(identityOf(mount))) continue;
      clusters.set(identityOf(mount), service);
      postgres.add(service);
    }
  }
  return { postgres, clusters, undecided, others: otherServers(ordered, postgres) };
}

function otherServers(
  ordered: readonly ComposeService[],
  postgres: ReadonlySet<ComposeService>,
): Map<string, ComposeService> {
  const others = new Map<string, ComposeService>();
  const rest = ordered.filter((service) => !postgres.has(service) && !isPlainSystem(service.image));
  const byImage = rest.filter(({ image }) => isOtherDatabase(image));
  const holdsData = (service: ComposeService) => filesOf(service).some((one) => isOtherDirectory(one.destination));
  const certain = byImage.filter((service) => isDatabaseByName(service.image) || holdsData(service));
  // `zabbix-server-mysql` uses a server. Such a name is one of a server only if the project has no other.
  const servers = certain.length > 0 || rest.some(holdsData) ? certain : byImage;
  for (const service of [...servers, ...rest.filter((one) => !servers.includes(one))]) {
    for (const mount of filesOf(service)) {
      // The image says more than a directory, which a service that only prepares the volume has too.
      const isData = servers.includes(service) || isOtherDirectory(mount.destination);
      if (isData && !others.has(identityOf(mount))) others.set(identityOf(mount), service);
    }
  }
  return others;
}

function isAsked({ container }: ComposeService): boolean {
  return ownLabels(container.labels, {}).has('lifeboat.postgres');
}

function isKnownServer(service: ComposeService): boolean {
  const { image, container } = service;
  if (isAsked(service)) return true;
  return isPostgresImage(image) && (filesOf(service).some((one) => isClusterOf(one, container)) || !isClient(service));
}

/** Returns whether a service runs another program of the image, such as `psql` or a script that makes dumps. */
function isClient({ container: { command = [] } }: ComposeService): boolean {
  const [first = ''] = command;
  if (first === '' || first.startsWith('-')) return false;
  const server =
    /(^|[;&|]\s*|\bexec\s+|\bbin\/|entrypoint\S*\s+)(postgres|postmaster|patroni)\b(?!:)|entrypoint\S*\s*$/;
  return !server.test(command.join(' '));
}

/** Returns the mounts in which a server can have its files. */
function filesOf({ container }: ComposeService): Mount[] {
  return container.mounts.filter(
    ({ type, writable, kind, source, destination }) =>
      (type === 'volume' || type === 'bind') &&
      writable &&
      (kind === undefined || kind === 'directory') &&
      source !== '/' &&
      destination !== '/docker-entrypoint-initdb.d' &&
      ![source, destination].some((one) => one.endsWith('.sock')),
  );
}

/**
 * Returns a note for each service of a project that looks like a Postgres server and has no label of Lifeboat, while
 * other services ask for backups. A server whose volume another service has labelled is left out.
 */
export function unlabelledServers(containers: readonly ContainerFacts[], project: string): Note[] {
  const own = containers.filter((one) => one.project === project && one.running && !isOneOff(one));
  const labelsOf = ({ labels, imageLabels }: ContainerFacts) => ownLabels(labels, imageLabels);
  const asking = own.filter((one) => ['lifeboat.postgres', 'lifeboat.volumes'].some((key) => labelsOf(one).has(key)));
  if (asking.length === 0) return [];
  const known = new Set(asking.flatMap(({ mounts }) => mounts.map(identityOf)));
  const servers = own.filter(
    (one) =>
      one.unreadLabels === undefined &&
      labelsOf(one).size === 0 &&
      one.mounts.some((mount) => looksLikeCluster(mount, one) && !known.has(identityOf(mount))),
  );
  return [...new Set(servers.map(({ service }) => service))].map((subject) => ({
    subject,
    message:
      'looks like a Postgres server and has no label, so it is not backed up; lifeboat.postgres: "true" backs it up, and "false" ends this note',
  }));
}
