import type { Mount } from './model.ts';

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
