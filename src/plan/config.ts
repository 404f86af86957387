import { contains } from './host-paths.ts';
import type { FilesSource, Mount, Note, VolumeSource } from './model.ts';
import { mountHolding } from './mounts.ts';
import { type PlanInput, targetsOf } from './services.ts';

/** The directory of the agent for files that belong to no service. */
const ROOT = '/config';
const SPOOL = '/spool';

/** Data that may be inside a directory mounted at `/config` and is no configuration. */
interface Other {
  mount: Mount;
  what: string;
}

/**
 * Plans the source `config`. A project directory mounted there often holds more than configuration: the backups
 * themselves, directories that are sources of their own, and those that the agent writes to. They are left out, with a
 * note. Data directories of databases are recognised only when the files are read, see
 * store/filesystem/data-directory.ts.
 *
 * @param volumes sources of the same plan
 */
export function planConfig(input: PlanInput, volumes: readonly VolumeSource[]): { source: FilesSource; notes: Note[] } {
  const { settings, agentMounts = [] } = input;
  const places = [settings.destination, ...settings.copies.map(({ location }) => location)];
  const others: Other[] = [
    ...places.flatMap((path) => otherAt(path, agentMounts, 'the backups')),
    ...otherAt(SPOOL, agentMounts, 'the state of Lifeboat'),
    ...volumes.map(({ mount, name }) => ({ mount, what: `source ${name}` })),
    ...agentMounts.filter(isOutput).map((mount) => ({ mount, what: `mounted at ${mount.destination}` })),
  ];
  const leftOut = new Map<string, string>();
  for (const path of places) if (path.startsWith(`${ROOT}/`)) leftOut.set(path.slice(ROOT.length + 1), 'the backups');
  for (const own of agentMounts.filter(({ destination }) => contains(ROOT, destination))) {
    for (const { mount, what } of others) {
      const path = pathInside(own, mount);
      // If a source is the whole of /config, it is stored twice: that is better than a source without files.
      if (path !== undefined && path !== '' && !leftOut.has(path)) leftOut.set(path, what);
    }
  }
  const none = { project: '', service: '', containerId: '', containerName: '' };
  const exclude = [...leftOut.keys()].map((path) => `/${escapeGlob(path)}`);
  const names = [...leftOut].map(([path, what]) => `${path} (${what})`);
  const written = writtenByOthers(input, [...leftOut.keys()]).map((note) => ({ subject: 'config', message: note }));
  return {
    source: {
      ...{ kind: 'files', name: 'config', ...none, root: ROOT, exclude },
      ...{ schedule: settings.schedule, keep: settings.keep },
      ...targetsOf(settings.rpoMs, settings.rtoMs),
    },
    notes: [
      ...(names.length === 0 ? [] : [{ subject: 'config', message: `leaves out ${names.sort().join(', ')}` }]),
      ...written,
    ],
  };
}

/**
 * Says which directories below `/config` containers write to. They are stored with the Compose files, which may not be
 * what the user means: they may be large, such as the archives of another backup program.
 */
function writtenByOthers({ containers, agentMounts = [], agentId }: PlanInput, leftOut: readonly string[]): string[] {
  const found = new Map<string, string>();
  for (const own of agentMounts.filter(({ destination }) => contains(ROOT, destination))) {
    for (const { id, service, mounts } of containers) {
      if (id === agentId) continue;
      for (const mount of mounts.filter(({ type, writable }) => type === 'bind' && writable)) {
        const path = pathInside(own, mount);
        const isOut = path === undefined || path === '' || leftOut.some((out) => contains(`/${out}`, `/${path}`));
        if (!isOut && !found.has(path)) found.set(path, service);
      }
    }
  }
  return [...found].map(([path, service]) => `also stores ${path}, which ${service} writes to`);
}

/** Returns whether the agent writes to a mount, such as `/restored`: files there are copies, or exports. */
function isOutput({ type, writable, destination }: Mount): boolean {
  return type === 'bind' && writable && !contains(ROOT, destination);
}

function otherAt(path: string, agentMounts: readonly Mount[], what: string): Other[] {
  const mount = mountHolding(path, agentMounts);
  return mount === undefined ? [] : [{ mount, what }];
}

/** Where `mount` is below `/config`, relative to that, by a mount of the agent there; undefined where it is not. */
function pathInside(own: Mount, mount: Mount): string | undefined {
  const at = own.destination.slice(ROOT.length + 1);
  if (own.name !== undefined || mount.name !== undefined) return own.name === mount.name ? at : undefined;
  if (!contains(own.source, mount.source)) return undefined;
  const below = mount.source.slice(own.source.replace(/\/+$/, '').length + 1);
  return [at, below].filter((part) => part !== '').join('/');
}

/** A path as a glob that matches it alone. */
function escapeGlob(path: string): string {
  return path.replace(/[^\w/\P{ASCII}]/gu, (character) => `\\${character}`);
}
