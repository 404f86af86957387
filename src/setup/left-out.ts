import { contains, whyNotMeant } from '../plan/host-paths.ts';
import { ownLabels } from '../plan/labels.ts';
import type { Mount } from '../plan/model.ts';
import { identityOf, isAnonymous, whyRefused } from '../plan/mounts.ts';
import { throwawayOf } from './images.ts';
import type { Servers } from './servers.ts';
import type { ComposeService } from './services.ts';

/** Decides which mounts of services need no label. */

/** The facts that decide about mounts. */
export interface Known {
  /** the project directory, which the service of Lifeboat mounts as a whole */
  directory: string;
  servers: Servers;
  /** by identity: the labelled service that mounts it and selects volumes, and whether it selects this one */
  decided: ReadonlyMap<string, { by: string; selected: boolean }>;
  /** whether a directory of the host is known to have no files */
  isEmpty(path: string): boolean;
}

/** Names of volumes and directories whose content an application can make again. */
const REMADE = /(^|[-_./])(caches?|tmp|temp|logs?|node_modules|thumbs|thumbnails|model-cache|sockets?|transcodes?)$/i;

/** Directories for such content. */
const REMADE_TREES = ['/run', '/var/run', '/var/log', '/var/cache'];
/** The same on the host. An application that has a volume below its own `/tmp` keeps something there. */
const HOST_TREES = [...REMADE_TREES, '/tmp', '/var/tmp'];

/** Names of volumes and directories with the backups of other programs. */
const BACKUPS = /(^|[-_./])(backups?|dumps?|pg_?dumps?)$/i;

/** Returns whether a service has labels of Lifeboat. */
export function isLabelled({ container }: ComposeService): boolean {
  return ownLabels(container.labels, {}).size > 0;
}

/** The name of a mount in `lifeboat.volumes`. */
export function nameOf({ key, destination }: Mount): string {
  return key ?? destination;
}

/** Returns why a mount needs no label; empty for one that no reader would expect a label for. */
export function whyLeftOut(service: ComposeService, mount: Mount, known: Known): string | undefined {
  const { type, source, writable, kind } = mount;
  const { servers, directory } = known;
  const identity = identityOf(mount);
  if (!writable || whyRefused(mount) !== undefined) return '';
  const server = servers.clusters.get(identity);
  if (server !== undefined) {
    if (!servers.undecided.has(identity) || server !== service || isLabelled(server)) return '';
    return 'may hold the files of the database. If it does not, name it in lifeboat.volumes';
  }
  const decision = known.decided.get(identity);
  if (decision?.selected) return '';
  if (whyNotMeant(mount) !== undefined) return '';
  if (isOfSystem(mount, directory)) return "is of the host's system";
  if (type === 'bind' && contains(source, directory)) return 'is the project directory, which is backed up as `config`';
  // The service of Lifeboat mounts the project directory, which holds the single files that others mount.
  if (kind === 'file') return 'is a single file';
  if (isAnonymous(mount)) return 'is a volume without a name, or its variable is not set';
  if (decision) return `is not in lifeboat.volumes of ${decision.by}`;
  return whyUnwanted(service, mount, known);
}

/** Returns whether a writable bind shares a directory of the host's system, and holds no data of an application. */
function isOfSystem(mount: Mount, directory: string): boolean {
  if (mount.kind === 'file' || ['/usr/local', directory].some((other) => contains(other, mount.source))) return false;
  return whyNotMeant({ ...mount, writable: false }) !== undefined;
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
  const isRemade =
    names.some((name) => REMADE.test(name)) ||
    REMADE_TREES.some((tree) => contains(tree, destination)) ||
    (type === 'bind' && !contains(directory, source) && HOST_TREES.some((tree) => contains(tree, source)));
  if (isRemade) return 'looks like data that the application makes again';
  if (names.some((name) => BACKUPS.test(name))) return 'looks like backups of another program';
  const inner = [...servers.clusters].find(([place]) => type === 'bind' && place !== source && contains(source, place));
  if (inner) {
    return `holds the database of ${inner[1].name}. Select it with lifeboat.volumes, and that with lifeboat.volumes.exclude`;
  }
  if (contains('/docker-entrypoint-initdb.d', destination)) {
    return contains(directory, source) ? '' : 'holds scripts for the first start of the database';
  }
  if (isLabelled(service)) return `is not backed up by the labels of ${service.name}`;
  if (type === 'bind' && contains(directory, source) && isEmpty(source)) {
    return 'is empty. Files that come later are backed up as `config`';
  }
  return /[,"\s]/.test(nameOf(mount)) ? 'has a name that a label cannot hold' : undefined;
}
