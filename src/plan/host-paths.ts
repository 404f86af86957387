import path from 'node:path';
import type { Mount, MountingContainer, PlannedSource } from './model.ts';
import { isOneOff, type PlanInput } from './services.ts';

/** Decides which paths of the host are data of an application, for binds. */

/** Directories in which Compose and other tools mount secrets. */
const SECRETS = ['/run/secrets', '/var/run/secrets'];

/** Directories of the host's system, with all that is in them. */
const SYSTEM_TREES = [
  '/bin',
  '/boot',
  '/etc/ca-certificates',
  '/etc/pki',
  '/etc/ssl',
  '/lib',
  '/lib64',
  '/run',
  '/sbin',
  '/usr',
  '/var/lib/docker',
  '/var/run',
];

/** Files of the host's system, mounted to share its time zone, users or name. */
const SYSTEM_FILES = [
  'group',
  'hostname',
  'hosts',
  'localtime',
  'machine-id',
  'nsswitch.conf',
  'passwd',
  'resolv.conf',
  'timezone',
].map((name) => `/etc/${name}`);

/** True if `path` is `directory` or below it. Both are absolute. */
export function contains(directory: string, path: string): boolean {
  const base = directory.replace(/\/+$/, '');
  return path === base || path === directory || path.startsWith(`${base}/`);
}

/** Appends a relative path to an absolute one. */
export function join(base: string, rest: string): string {
  return `${base.replace(/\/+$/, '')}/${rest.replace(/^\/+/, '')}`.replace(/(?<=.)\/$/, '');
}

/** Why `lifeboat.volumes: "true"` does not mean this bind, in words that follow "it"; undefined when it does. */
export function whyNotMeant({ type, source, destination, writable, kind }: Mount): string | undefined {
  if (type !== 'bind') return undefined;
  if (SECRETS.some((directory) => contains(directory, destination))) return 'is a secret';
  if (SYSTEM_FILES.includes(source)) return "is a file of the host's system";
  if (kind === 'file') return writable ? undefined : 'is a single file, mounted read-only';
  if (writable) return undefined;
  if (source === '/') return 'is the whole host, mounted read-only';
  const isSystem = source === '/etc' || SYSTEM_TREES.some((directory) => contains(directory, source));
  return isSystem ? "is a directory of the host's system, mounted read-only" : undefined;
}

/**
 * Returns the host paths that containers bind writable without the files next to them. SQLite in such a container keeps
 * the log of a database in the container's own layer, or in another mount. A path may also be a directory: the engine
 * does not report the type of a bind, and only a database at exactly this path matters.
 *
 * A stopped container counts, because an application that was killed leaves its log in the layer, and uses it again
 * after a start. That excludes a container that never ran, a one-off container, and one that running containers of its
 * service have replaced.
 *
 * @param agentId the agent's own container, which writes to no database
 */
export function fileMountsOf(containers: readonly MountingContainer[], agentId?: string): string[] {
  const serviceOf = ({ project, service }: MountingContainer) => JSON.stringify([project, service]);
  const live = new Set(containers.filter((one) => one.running && !isOneOff(one)).map(serviceOf));
  const mayHaveLog = (one: MountingContainer) =>
    one.running || !(isOneOff(one) || one.life?.state === 'created' || live.has(serviceOf(one)));
  const found = containers
    .filter((one) => one.id !== agentId && mayHaveLog(one))
    .flatMap(({ mounts }) => mounts.filter((mount) => isFileMount(mount, mounts)))
    .map(({ source }) => normalized(source));
  return [...new Set(found)].sort();
}

/** Adds the paths of {@link fileMountsOf} to sources of files. Any of them may be inside the source. */
export function withFileMounts(sources: readonly PlannedSource[], input: PlanInput): PlannedSource[] {
  const { containers, others = [], agentId } = input;
  const fileMounts = fileMountsOf([...containers, ...others], agentId);
  if (fileMounts.length === 0) return [...sources];
  return sources.map((source) => (source.kind === 'postgres' ? source : { ...source, fileMounts }));
}

/** Returns whether a bind may be a single file whose log the container does not keep next to the bind's source. */
function isFileMount({ type, source, destination, writable, kind }: Mount, mounts: readonly Mount[]): boolean {
  if (type !== 'bind' || !writable || kind === 'directory' || kind === 'other') return false;
  const log = `${normalized(destination)}-wal`;
  const [holding] = mounts
    .filter((mount) => contains(mount.destination, log))
    .sort((a, b) => b.destination.length - a.destination.length);
  if (holding === undefined || holding.source === '') return true;
  const place = join(holding.source, log.slice(holding.destination.replace(/\/+$/, '').length));
  return normalized(place) !== `${normalized(source)}-wal`;
}

/** Returns an absolute path without `.`, `..`, double slashes, and slashes at the end, as the engine mounts it. */
function normalized(name: string): string {
  return path.posix.resolve('/', name);
}
