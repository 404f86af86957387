import { createHash } from 'node:crypto';
import path from 'node:path';
import type { ContainerFacts, Mount } from '../plan/model.ts';
import { type ComposeFile, type ComposeProject, isRecord } from './compose-files.ts';
import { interpolate } from './interpolate.ts';

/** The services of a project's Compose files, as containers that a plan can be made of. */

/** A service as all Compose files together define it. */
export interface ComposeService {
  name: string;
  /** the reference of the image; empty for a service that is only built */
  image: string;
  /** the first of the project's files that defines it, where its labels go */
  file: ComposeFile;
  /** the one container that the service would have */
  container: ContainerFacts;
}

/** Finds out whether a path of the host is a directory, a file, or something else. Undefined if it is not known. */
type KindOf = (path: string) => Mount['kind'];

/** Layers of a definition: later ones add to earlier ones, and replace their single values. */
interface Layer {
  body: Record<string, unknown>;
  /** the directory that relative paths start from */
  base: string;
}

/** The longest chain of services that extend each other. */
const MAX_DEPTH = 20;

/** Returns the services of all files, in the order in which the files name them. Malformed services are left out. */
export function servicesOf(project: ComposeProject, kindOf: KindOf): ComposeService[] {
  const names = [...new Set(project.files.flatMap(({ services }) => Object.keys(services)))];
  return names.flatMap((name) => {
    const defining = project.files.filter((file) => isRecord(file.services[name]));
    const [file] = defining;
    if (!file) return [];
    // Paths in any of a project's files are relative to its directory; those of an included file to that file.
    const layers = defining.flatMap((one) => layersOf(project, one, name, 0));
    return [{ name, file, ...readService(project, name, layers, kindOf) }];
  });
}

/** Returns the definition of a service in one file, after those that it extends. */
function layersOf(project: ComposeProject, file: ComposeFile, name: string, depth: number): Layer[] {
  const body = file.services[name];
  if (!isRecord(body) || depth > MAX_DEPTH) return [];
  const base = path.dirname(path.resolve(project.directory, file.name));
  const own = { body, base };
  const { extends: parent } = body;
  if (typeof parent === 'string') return [...layersOf(project, file, parent, depth + 1), own];
  if (!isRecord(parent) || typeof parent.service !== 'string') return [own];
  const from = typeof parent.file === 'string' ? project.extended.get(path.resolve(base, parent.file)) : file;
  return [...(from ? layersOf(project, from, parent.service, depth + 1) : []), own];
}

function readService(
  project: ComposeProject,
  name: string,
  layers: readonly Layer[],
  kindOf: KindOf,
): { image: string; container: ContainerFacts } {
  const expand = (text: string) => interpolate(text, project.variables);
  const image = expand(layers.map(({ body }) => body.image).findLast((one) => typeof one === 'string') ?? '');
  const maps = (key: string) => Object.assign({}, ...layers.map(({ body }) => pairsOf(body[key], expand)));
  const mounts = new Map<string, Mount>();
  for (const { body, base } of layers) {
    const entries = Array.isArray(body.volumes) ? body.volumes : [];
    for (const entry of entries) {
      const mount = mountOf(entry, { project, base, service: name, expand, kindOf });
      if (mount) mounts.set(mount.destination, mount);
    }
  }
  const dependsOn = [...new Set(layers.flatMap(({ body }) => namesIn(body.depends_on)))];
  const labels: Record<string, string> = maps('labels');
  if (dependsOn.length > 0) {
    labels['com.docker.compose.depends_on'] = dependsOn.map((one) => `${one}:service_started:false`).join(',');
  }
  return {
    image,
    container: {
      ...{ id: name, name: `${PROJECT}-${name}-1`, project: PROJECT, service: name, imageId: image },
      ...{ running: true, labels, imageLabels: {}, env: maps('environment'), mounts: [...mounts.values()] },
      command: layers.flatMap(({ body }) => wordsOf(body.command)).map(expand),
    },
  };
}

/** Compose's name of the project matters to no label, and `lifeboat init` may see the directory under another name. */
export const PROJECT = 'project';

/** Reads a mapping, or a list of `key=value`. */
function pairsOf(value: unknown, expand: (text: string) => string): Record<string, string> {
  if (Array.isArray(value)) {
    const texts = value.filter((one): one is string => typeof one === 'string');
    return Object.fromEntries(
      texts.map((text) => {
        const at = text.indexOf('=');
        return at < 0 ? [text, ''] : [text.slice(0, at), expand(text.slice(at + 1))];
      }),
    );
  }
  if (!isRecord(value)) return {};
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, expand(String(one ?? ''))]));
}

function namesIn(value: unknown): string[] {
  if (Array.isArray(value)) return value.filter((one): one is string => typeof one === 'string');
  return isRecord(value) ? Object.keys(value) : [];
}

function wordsOf(value: unknown): string[] {
  if (typeof value === 'string') return value.split(/\s+/);
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];
}

interface MountContext {
  project: ComposeProject;
  base: string;
  service: string;
  expand(text: string): string;
  kindOf: KindOf;
}

/** Reads one entry under `volumes:` of a service: `media:/app/media:ro`, or its long form. */
function mountOf(entry: unknown, context: MountContext): Mount | undefined {
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
  const mount = { type: 'bind', source: place, destination: path.posix.normalize(target), writable };
  return kind === undefined ? mount : { ...mount, kind };
}

function volume(key: string, target: string, writable: boolean, context: MountContext): Mount | undefined {
  if (!target.startsWith('/')) return undefined;
  const destination = path.posix.normalize(target);
  const name = key === '' ? anonymousName(`${context.service} ${destination}`) : volumeName(key, context);
  const mount = { type: 'volume', name, source: `/var/lib/docker/volumes/${name}/_data`, destination, writable };
  return key === '' ? mount : { ...mount, key };
}

/** Compose prefixes the name of a volume with that of the project, unless the file names the volume. */
function volumeName(key: string, { project: { files }, expand }: MountContext): string {
  for (const { top } of files.toReversed()) {
    const found = isRecord(top.volumes) ? top.volumes[key] : undefined;
    if (!isRecord(found)) continue;
    if (typeof found.name === 'string') return expand(found.name);
    if (found.external === true) return key;
  }
  return `${PROJECT}_${key}`;
}

/** The engine names a volume without a name by 64 hex digits. */
function anonymousName(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
