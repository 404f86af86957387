import { contains, whyNotMeant } from '../plan/host-paths.ts';
import { buildPlan } from '../plan/job.ts';
import { ownLabels } from '../plan/labels.ts';
import type { Mount, Plan } from '../plan/model.ts';
import { parseSettings } from '../plan/settings.ts';
import { isClusterOf } from './foreign.ts';
import { isBackupTool, isLifeboat, isOtherDatabase, isPostgresImage, throwawayOf } from './images.ts';
import { type ComposeService, PROJECT } from './services.ts';

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
  /** the service of Lifeboat, if there is one already */
  agent?: string;
}

/** Names of volumes and directories whose content an application can make again. */
const REMADE = /(^|[-_./])(caches?|tmp|temp|logs?|node_modules|thumbs|thumbnails|model-cache|sockets?)$/i;

/**
 * Decides which labels the services of a project need: `lifeboat.postgres` for a Postgres server, `lifeboat.volumes`
 * with the volumes and directories that a service writes to. Each volume gets one label, at the first service that
 * writes to it.
 *
 * @param directory the project directory, which the service of Lifeboat mounts as a whole
 */
export function proposeLabels(services: readonly ComposeService[], directory: string): Proposals {
  const result: Proposals = { proposals: [], labelled: [], leftOut: [] };
  const taken = new Set<string>();
  const agent = services.find(({ image, container }) => isLifeboat(image) || hasSettings(container.env));
  if (agent) result.agent = agent.name;
  for (const service of services) {
    const { name, container, image } = service;
    if (service === agent) continue;
    if (ownLabels(container.labels, {}).size > 0) result.labelled.push(name);
    else if (isBackupTool(image)) {
      result.leftOut.push({ service: name, what: image, why: 'makes backups itself; see docs/migrate/' });
    } else {
      const labels = labelsFor(service, { taken, directory, leftOut: result.leftOut });
      if (Object.keys(labels).length > 0) result.proposals.push({ service, labels });
    }
  }
  return result;
}

/** Returns the plan that follows from labels, as far as the Compose files show it. */
export function planProposals(services: readonly ComposeService[], proposals: readonly Proposal[]): Plan {
  const containers = services.map(({ name, container }) => {
    const labels = proposals.find(({ service }) => service.name === name)?.labels ?? {};
    return { ...container, labels: { ...container.labels, ...labels } };
  });
  const settings = parseSettings({}, () => '');
  return buildPlan({ containers, project: PROJECT, settings, configFiles: false });
}

function hasSettings(env: Readonly<Record<string, string>>): boolean {
  return Object.keys(env).some((name) => name.startsWith('LIFEBOAT_'));
}

function labelsFor(
  service: ComposeService,
  { taken, directory, leftOut }: { taken: Set<string>; directory: string; leftOut: LeftOut[] },
): Record<string, string> {
  const { image, container } = service;
  const isPostgres =
    isPostgresImage(image) || (image === '' && container.mounts.some((one) => isClusterOf(one, container)));
  const chosen = container.mounts.filter((mount) => {
    if (isPostgres && isClusterOf(mount, container)) return false;
    const identity = mount.name ?? mount.source;
    if (taken.has(identity)) return false;
    const why = whyLeftOut(mount, service, directory);
    if (why !== undefined) {
      if (why !== '') leftOut.push({ service: service.name, what: nameOf(mount), why });
      return false;
    }
    taken.add(identity);
    return true;
  });
  const names = chosen.map(nameOf);
  return {
    ...(isPostgres ? { 'lifeboat.postgres': 'true' } : {}),
    ...(names.length > 0 ? { 'lifeboat.volumes': names.join(',') } : {}),
    ...(names.length > 0 && isOtherDatabase(image) ? { 'lifeboat.stop': 'true' } : {}),
  };
}

/** The name of a mount in `lifeboat.volumes`. */
function nameOf({ key, destination }: Mount): string {
  return key ?? destination;
}

/** Returns why a mount needs no label; empty for one that no reader would expect a label for. */
function whyLeftOut(mount: Mount, { image }: ComposeService, directory: string): string | undefined {
  const { type, source, destination, writable, name, kind } = mount;
  if (type !== 'volume' && type !== 'bind') return '';
  if (!writable || kind === 'other' || [source, destination].some((path) => path.endsWith('.sock'))) return '';
  if (whyNotMeant(mount) !== undefined || source === '/') return '';
  if (type === 'bind' && contains(source, directory)) return 'is the project directory, which is backed up as `config`';
  // The service of Lifeboat mounts the project directory, which holds the single files that others mount.
  if (kind === 'file') return 'is a single file';
  if (name !== undefined && mount.key === undefined) return 'is a volume without a name';
  const throwaway = throwawayOf(image);
  if (throwaway !== undefined) return `holds ${throwaway}`;
  if (REMADE.test(nameOf(mount)) || REMADE.test(destination)) return 'looks like data that the application makes again';
  return /[,"\s]/.test(nameOf(mount)) ? 'has a name that a label cannot hold' : undefined;
}
