import { contains, whyNotMeant } from '../plan/host-paths.ts';
import { buildPlan } from '../plan/job.ts';
import { ownLabels } from '../plan/labels.ts';
import type { Mount, Plan } from '../plan/model.ts';
import { identityOf, isAnonymous } from '../plan/mounts.ts';
import { parseSettings } from '../plan/settings.ts';
import { PROJECT } from './compose-mounts.ts';
import { isBackupTool, isLifeboat, throwawayOf } from './images.ts';
import { byRank, findServers, type Servers } from './servers.ts';
import type { ComposeService } from './services.ts';

/** Labels for one service. */
export interface Proposal {
  service: ComposeService;
  labels: Readonly<Record<string, string>>;
}

/** Something that no label selects, with the reason. */
export interface LeftOut {
  service: string;
  what: string;
  why: string;
}

/** The additions that `lifeboat init` proposes. */
interface Proposals {
  proposals: Proposal[];
  /** services that have labels of Lifeboat already */
  labelled: string[];
  leftOut: LeftOut[];
  /** what a person should know about the proposals */
  notes: string[];
  /** the service of Lifeboat, if there is one already */
  agent?: ComposeService;
}

/** What decides about mounts. */
interface Known {
  /** the project directory, which the service of Lifeboat mounts as a whole */
  directory: string;
  servers: Servers;
  /** by identity: the labelled service that mounts it and selects volumes, and whether it selects this one */
  decided: ReadonlyMap<string, { by: string; selected: boolean }>;
  /** whether a directory of the host is known to have no files */
  isEmpty(path: string): boolean;
}

/** A mount of a service that may get a label. */
interface Candidate {
  service: ComposeService;
  mount: Mount;
  /** why it gets none; empty if no reader would expect one */
  why: string | undefined;
}

/** Names of volumes and directories whose content an application can make again. */
const REMADE = /(^|[-_./])(caches?|tmp|temp|logs?|node_modules|thumbs|thumbnails|model-cache|sockets?)$/i;

/** Directories of a container for such content. */
const REMADE_TREES = ['/run', '/var/run', '/tmp', '/var/tmp', '/var/log', '/var/cache'];

/** Names of volumes and directories with the backups of other programs. */
const BACKUPS = /(^|[-_./])(backups?|dumps?|pg_?dumps?)$/i;

/**
 * Decides which labels the services of a project need: `lifeboat.postgres` for a Postgres server, `lifeboat.volumes`
 * with the volumes and directories that a service writes to. Each volume gets one label, at the first service that
 * writes to it and always runs. A volume that labels have decided about already gets none.
 *
 * @param directory the project directory
 * @param isEmpty returns whether a directory of the host is known to have no files
 */
export function proposeLabels(
  services: readonly ComposeService[],
  directory: string,
  isEmpty: (path: string) => boolean = () => false,
): Proposals {
  const agent = services.find(({ image, container }) => isLifeboat(image) || hasSettings(container.env));
  const others = services.filter((one) => one !== agent);
  const tools = others.filter(({ image }) => isBackupTool(image));
  const users = others.filter((one) => !tools.includes(one));
  const labelled = users.filter(isLabelled);
  const known = { directory, servers: findServers(users), decided: decidedBy(labelled, services), isEmpty };
  const { chosen, leftOut } = chooseMounts(users, known);
  const proposals = users
    .filter((one) => !labelled.includes(one))
    .map((service) => ({ service, labels: labelsFor(service, known, chosen.get(service) ?? []) }))
    .filter(({ labels }) => Object.keys(labels).length > 0);
  return {
    proposals,
    labelled: labelled.map(({ name }) => name),
    leftOut: [
      ...tools.map(({ name, image }) => ({
        service: name,
        what: image,
        why: 'makes backups itself; see docs/migrate/',
      })),
      ...leftOut,
    ],
    notes: [...labelled, ...proposals.map(({ service }) => service)]
      .filter(({ runs }) => runs === 'waits')
      .map(({ name }) => waitingNote(name)),
    ...(agent ? { agent } : {}),
  };
}

/**
 * Returns the plan that follows from labels, as far as the Compose files show it.
 *
 * @param agentMounts the mounts of the service of Lifeboat
 */
export function planProposals(
  services: readonly ComposeService[],
  proposals: readonly Proposal[],
  agentMounts: readonly Mount[] = [],
): Plan {
  const containers = services.map(({ name, container }) => {
    const labels = proposals.find(({ service }) => service.name === name)?.labels ?? {};
    return { ...container, labels: { ...container.labels, ...labels } };
  });
  const settings = parseSettings({}, () => '');
  return buildPlan({ containers, project: PROJECT, settings, agentMounts, configFiles: false });
}

function hasSettings(env: Readonly<Record<string, string>>): boolean {
  return Object.keys(env).some((name) => name.startsWith('LIFEBOAT_'));
}

function isLabelled({ container }: ComposeService): boolean {
  return ownLabels(container.labels, {}).size > 0;
}

function waitingNote(name: string): string {
  return `${name} has no container after \`docker compose up\` (a profile, or no replicas). Without a container, Lifeboat does not see its labels, and backs up nothing of it`;
}

/** Finds the mounts about which the labels of services have decided: all those of a service that selects volumes. */
function decidedBy(labelled: readonly ComposeService[], services: readonly ComposeService[]): Known['decided'] {
  const { sources } = planProposals(services, []);
  const selected = new Set(sources.flatMap((source) => (source.kind === 'volume' ? [identityOf(source.mount)] : [])));
  const deciding = labelled.filter(({ container }) => ownLabels(container.labels, {}).has('lifeboat.volumes'));
  return new Map(
    deciding.flatMap(({ name, container }) =>
      container.mounts
        .map((mount) => ({ identity: identityOf(mount), writable: mount.writable }))
        // A service that only reads a volume decides nothing about it, unless its label names the volume.
        .filter(({ identity, writable }) => writable || selected.has(identity))
        .map(({ identity }) => [identity, { by: name, selected: selected.has(identity) }]),
    ),
  );
}

/** Chooses one service for each volume. Mounts that none of the services gets are left out, with the first reason. */
function chooseMounts(
  services: readonly ComposeService[],
  known: Known,
): { chosen: Map<ComposeService, Mount[]>; leftOut: LeftOut[] } {
  const { servers } = known;
  const all = services.flatMap((service) =>
    service.container.mounts.map((mount): Candidate => ({ service, mount, why: whyLeftOut(service, mount, known) })),
  );
  const chosen: Candidate[] = [];
  const left: Candidate[] = [];
  for (const [identity, same] of Map.groupBy(all, ({ mount }) => identityOf(mount))) {
    const usable = same.filter(({ why }) => why === undefined);
    const owner = servers.others.get(identity);
    const order = byRank(usable.map(({ service }) => service));
    const first = usable.find(({ service }) => service === owner) ?? usable.find(({ service }) => service === order[0]);
    if (first) chosen.push(first);
    else left.push(...same.filter(({ why }) => why !== '').slice(0, 1));
  }
  // The identity of a directory is its path, and no name of a volume begins with a slash.
  const places = [
    ...[...known.decided].filter(([, { selected }]) => selected).map(([identity]) => identity),
    ...chosen.map(({ mount }) => identityOf(mount)),
  ];
  const isInside = ({ mount: { type, source } }: Candidate) =>
    type === 'bind' && places.some((place) => place !== source && contains(place, source));
  const outer = chosen.filter((one) => !isInside(one));
  return {
    chosen: new Map(
      [...Map.groupBy(outer, ({ service }) => service)].map(([service, own]) => [
        service,
        own.map(({ mount }) => mount),
      ]),
    ),
    leftOut: left.map(({ service, mount, why = '' }) => ({ service: service.name, what: nameOf(mount), why })),
  };
}

function labelsFor(service: ComposeService, { servers }: Known, mounts: readonly Mount[]): Record<string, string> {
  const names = mounts.map(nameOf);
  const stops = mounts.some((mount) => servers.others.get(identityOf(mount)) === service);
  return {
    ...(servers.postgres.has(service) ? { 'lifeboat.postgres': 'true' } : {}),
    ...(names.length > 0 ? { 'lifeboat.volumes': names.join(',') } : {}),
    ...(stops ? { 'lifeboat.stop': 'true' } : {}),
  };
}

/** The name of a mount in `lifeboat.volumes`. */
function nameOf({ key, destination }: Mount): string {
  return key ?? destination;
}

/** Returns why a mount needs no label; empty for one that no reader would expect a label for. */
function whyLeftOut(service: ComposeService, mount: Mount, known: Known): string | undefined {
  const { type, source, destination, writable, kind } = mount;
  const { servers, directory } = known;
  const identity = identityOf(mount);
  if (type !== 'volume' && type !== 'bind') return '';
  const server = servers.clusters.get(identity);
  if (server !== undefined) {
    if (!servers.undecided.has(identity) || server !== service || isLabelled(server)) return '';
    return 'may hold the files of the database. If it does not, name it in lifeboat.volumes';
  }
  const decision = known.decided.get(identity);
  if (decision?.selected) return '';
  if (!writable || kind === 'other' || [source, destination].some((path) => path.endsWith('.sock'))) return '';
  if (whyNotMeant(mount) !== undefined || source === '/') return '';
  if (type === 'bind' && contains(source, directory)) return 'is the project directory, which is backed up as `config`';
  // The service of Lifeboat mounts the project directory, which holds the single files that others mount.
  if (kind === 'file') return 'is a single file';
  if (isAnonymous(mount)) return 'is a volume without a name';
  if (decision) return `is not in lifeboat.volumes of ${decision.by}`;
  return whyUnwanted(service, mount, known);
}

/** Returns why a writable directory gets no label. */
function whyUnwanted(
  service: ComposeService,
  mount: Mount,
  { servers, directory, isEmpty }: Known,
): string | undefined {
  const { type, source, destination } = mount;
  const throwaway = throwawayOf(service.image);
  if (throwaway !== undefined) return `holds ${throwaway}`;
  const names = [nameOf(mount), destination, ...(type === 'bind' ? [source] : [])];
  const isRemade = names.some((name) => REMADE.test(name)) || REMADE_TREES.some((tree) => contains(tree, destination));
  if (isRemade) return 'looks like data that the application makes again';
  if (names.some((name) => BACKUPS.test(name))) return 'looks like backups of another program';
  const inner = [...servers.clusters].find(([place]) => type === 'bind' && place !== source && contains(source, place));
  if (inner) {
    return `holds the database of ${inner[1].name}. Select it with lifeboat.volumes, and that with lifeboat.volumes.exclude`;
  }
  // Scripts for a server's first start are read only, whatever the mode of the mount.
  if (destination.startsWith('/docker-entrypoint-initdb.d') && contains(directory, source)) return '';
  if (isLabelled(service)) return `is not backed up by the labels of ${service.name}`;
  if (type === 'bind' && contains(directory, source) && isEmpty(source)) {
    return 'is empty. Files that come later are backed up as `config`';
  }
  return /[,"\s]/.test(nameOf(mount)) ? 'has a name that a label cannot hold' : undefined;
}
