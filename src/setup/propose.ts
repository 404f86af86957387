import { contains } from '../plan/host-paths.ts';
import { buildPlan } from '../plan/job.ts';
import { ownLabels } from '../plan/labels.ts';
import type { Mount, Plan } from '../plan/model.ts';
import { identityOf } from '../plan/mounts.ts';
import { parseSettings } from '../plan/settings.ts';
import { PROJECT } from './compose-mounts.ts';
import { isBackupTool, isLifeboat } from './images.ts';
import { isLabelled, type Known, nameOf, whyLeftOut } from './left-out.ts';
import { byRank, findServers } from './servers.ts';
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

/** A mount of a service that may get a label. */
interface Candidate {
  service: ComposeService;
  mount: Mount;
  /** why it gets none; empty if no reader would expect one */
  why: string | undefined;
}

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
  const containers = services.map(({ name, container, runs }) => {
    const proposed = proposals.find(({ service }) => service.name === name)?.labels ?? {};
    const labels = { ...container.labels, ...proposed };
    // A service without labels that has ended writes to no volume.
    const running = runs === 'always' || runs === 'once' || ownLabels(labels, {}).size > 0;
    return { ...container, labels, running };
  });
  const settings = parseSettings({}, () => '');
  return buildPlan({ containers, project: PROJECT, settings, agentMounts, configFiles: false });
}

function hasSettings(env: Readonly<Record<string, string>>): boolean {
  return Object.keys(env).some((name) => name.startsWith('LIFEBOAT_'));
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
