import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Mount } from '../plan/model.ts';
import { type ComposeProject, isRecord } from './compose-files.ts';

/** The entries under `volumes:` of a service, as mounts of the container that it would have. */

/** Finds out whether a path of the host is a directory, a file, or something else. Undefined if it is not known. */
export type KindOf = (path: string) => Mount['kind'];

/** Compose's name of the project matters to no label, and `lifeboat init` may see the directory under another name. */
export const PROJECT = 'project';

/** The other facts that decide how an entry is read. */
interface MountContext {
  project: ComposeProject;
  /** the directory that relative paths start from */
  base: string;
  service: string;
  /** replaces variables */
  expand(text: string): string;
  kindOf: KindOf;
}

/**
 * Reads one entry under `volumes:` of a service: `media:/app/media:ro`, or its long form.
 *
 * @returns undefined for an entry that Compose would refuse
 */
export function mountOf(entry: unknown, context: MountContext): Mount | undefined {
  if (typeof entry === 'string') {
    const parts = context.expand(entry).split(':');
    const [source, target = '', mode = ''] = parts;
    if (parts.length === 1) return volume('', source ?? '', true, context);
    return make(source ?? '', target, !mode.split(',').includes('ro'), context);
  }
  if (!isRecord(entry)) return undefined;
  const text = (key: string) => (typeof entry[key] === 'string' ? context.expand(entry[key]) : '');
  const writable = entry.read_only !== true;
  const target = text('target');
  if (entry.type === 'tmpfs') return { type: 'tmpfs', source: '', destination: target, writable };
  if (entry.type === 'bind') return bind(text('source'), target, writable, context);
  return entry.type === 'volume' ? volume(text('source'), target, writable, context) : undefined;
}

function make(source: string, target: string, writable: boolean, context: MountContext): Mount | undefined {
  return /^[./~]/.test(source) ? bind(source, target, writable, context) : volume(source, target, writable, context);
}

function bind(source: string, target: string, writable: boolean, { base, kindOf }: MountContext): Mount | undefined {
  if (!target.startsWith('/') || source === '') return undefined;
  // The home directory of the person who runs Compose is not known here, and is not below the project.
  const place = source.startsWith('~') ? path.join('/home', source.slice(1)) : path.resolve(base, source);
  const kind = kindOf(place);
  const mount = { type: 'bind', source: place, destination: path.posix.resolve('/', target), writable };
  return kind === undefined ? mount : { ...mount, kind };
}

function volume(key: string, target: string, writable: boolean, context: MountContext): Mount | undefined {
  if (!target.startsWith('/')) return undefined;
  const destination = path.posix.resolve('/', target);
  if (key === '') {
    const name = anonymousName(`${context.service} ${destination}`);
    return { type: 'volume', name, source: sourceOf(name), destination, writable };
  }
  const { name, isKeyKnown } = volumeNamed(key, context);
  const mount = { type: 'volume', name, source: sourceOf(name), destination, writable };
  return isKeyKnown ? { ...mount, key } : mount;
}

function sourceOf(name: string): string {
  return `/var/lib/docker/volumes/${name}/_data`;
}

/**
 * Compose prefixes the name of a volume with that of the project, unless the file names the volume. It does not create
 * an external volume, so the engine does not know the key of one.
 */
function volumeNamed(key: string, { project: { files }, expand }: MountContext): { name: string; isKeyKnown: boolean } {
  const all = files.map(({ top }) => (isRecord(top.volumes) ? top.volumes[key] : undefined)).filter(isRecord);
  const { name, external }: Record<string, unknown> = Object.assign({}, ...all);
  const own = [isRecord(external) ? external.name : undefined, name].find((one) => typeof one === 'string');
  const isExternal = external === true || isRecord(external);
  if (typeof own === 'string') return { name: expand(own), isKeyKnown: !isExternal || expand(own) === key };
  return { name: isExternal ? key : `${PROJECT}_${key}`, isKeyKnown: true };
}

/** The engine names a volume without a name by 64 hex digits. */
function anonymousName(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
