import path from 'node:path';
import { isNode } from 'yaml';
import type { ContainerFacts, Mount } from '../plan/model.ts';
import { type ComposeFile, type ComposeProject, isRecord } from './compose-files.ts';
import { type KindOf, mountOf, PROJECT } from './compose-mounts.ts';
import { isPlainSystem } from './images.ts';
import { interpolate } from './interpolate.ts';

/** The services of a project's Compose files, as containers that a plan can be made of. */

/** A service as all Compose files together define it. */
export interface ComposeService {
  name: string;
  /** the reference of the image; empty for a service that is only built */
  image: string;
  /** the file where its labels go: the first of the project's files that defines it, or replaces its labels */
  file: ComposeFile;
  /**
   * Whether `docker compose up` starts it: `always`: yes, and the engine restarts it; `once`: yes; `ends`: yes, and it
   * ends by itself; `waits`: only a profile or another number of replicas starts it.
   */
  runs: 'always' | 'once' | 'ends' | 'waits';
  /** the one container that the service would have */
  container: ContainerFacts;
}

/** Layers of a definition: later ones add to earlier ones, and replace their single values. */
interface Layer {
  body: Record<string, unknown>;
  /** the directory that relative paths start from */
  base: string;
  /** the tag of an entry that replaces those of earlier layers: `!override` or `!reset` */
  tagOf(key: string): string | undefined;
}

/** The longest chain of services that extend each other. */
const MAX_DEPTH = 20;

/** Returns the services of all files, in the order in which the files name them. Malformed services are left out. */
export function servicesOf(project: ComposeProject, kindOf: KindOf): ComposeService[] {
  const names = [...new Set(project.files.flatMap(({ services }) => Object.keys(services)))];
  const found = names.flatMap((name) => {
    const replaced = project.files.findLastIndex((one) => tagAt(one, name) !== undefined);
    const defining = project.files
      .slice(Math.max(replaced, 0))
      .filter((one) => isRecord(one.services[name]) && tagAt(one, name) !== '!reset');
    const file = defining.findLast((one) => tagAt(one, name, 'labels') !== undefined) ?? defining[0];
    if (!file) return [];
    const layers = defining.flatMap((one) => layersOf(project, one, name, 0));
    return [{ name, file, layers, ...readService(project, name, layers, kindOf) }];
  });
  const ending = new Set(found.flatMap(({ layers }) => layers.flatMap(({ body }) => awaitedEnds(body.depends_on))));
  return found.map(({ layers, ...service }) => {
    const runs = runsOf(layers, project);
    return { ...service, runs: runs !== 'waits' && ending.has(service.name) ? 'ends' : runs };
  });
}

/** Returns the definition of a service in one file, after those that it extends. */
function layersOf(project: ComposeProject, file: ComposeFile, name: string, depth: number): Layer[] {
  const body = file.services[name];
  if (!isRecord(body) || depth > MAX_DEPTH) return [];
  const { base } = file;
  const own = { body, base, tagOf: (key: string) => tagAt(file, name, key) };
  const { extends: parent } = body;
  if (typeof parent === 'string') return [...layersOf(project, file, parent, depth + 1), own];
  if (!isRecord(parent) || typeof parent.service !== 'string') return [own];
  const from = typeof parent.file === 'string' ? project.extended.get(path.resolve(base, parent.file)) : file;
  return [...(from ? layersOf(project, from, parent.service, depth + 1) : []), own];
}

/** Returns the tag of a service, or of an entry of it, if it changes what Compose merges. */
function tagAt({ document }: ComposeFile, ...names: string[]): string | undefined {
  const node = document.getIn(['services', ...names], true);
  const tag = isNode(node) ? node.tag : undefined;
  return tag === '!override' || tag === '!reset' ? tag : undefined;
}

/** Returns the values of a key in all layers that count. */
function valuesOf(layers: readonly Layer[], key: string): { value: unknown; base: string }[] {
  const from = Math.max(
    layers.findLastIndex(({ tagOf }) => tagOf(key) !== undefined),
    0,
  );
  return layers
    .slice(from)
    .filter(({ body, tagOf }) => body[key] !== undefined && tagOf(key) !== '!reset')
    .map(({ body, base }) => ({ value: body[key], base }));
}

function readService(
  project: ComposeProject,
  name: string,
  layers: readonly Layer[],
  kindOf: KindOf,
): { image: string; container: ContainerFacts } {
  const expand = (text: string) => interpolate(text, project.variables);
  const all = (key: string) => valuesOf(layers, key).map(({ value }) => value);
  const image = expand(all('image').findLast((one) => typeof one === 'string') ?? '');
  const maps = (key: string) => Object.assign({}, ...all(key).map((value) => pairsOf(value, expand)));
  const mounts = new Map<string, Mount>();
  for (const { value, base } of valuesOf(layers, 'volumes')) {
    for (const entry of Array.isArray(value) ? value : []) {
      const mount = mountOf(entry, { project, base, service: name, expand, kindOf });
      if (mount) mounts.set(mount.destination, mount);
    }
  }
  const dependsOn = [...new Set(all('depends_on').flatMap(namesIn))];
  const labels: Record<string, string> = maps('labels');
  if (dependsOn.length > 0) {
    labels['com.docker.compose.depends_on'] = dependsOn.map((one) => `${one}:service_started:false`).join(',');
  }
  // The last value of each counts as a whole.
  const command = [all('entrypoint').at(-1), all('command').at(-1)].flatMap(wordsOf).map(expand);
  return {
    image,
    container: {
      ...{ id: name, name: `${PROJECT}-${name}-1`, project: PROJECT, service: name, imageId: image },
      ...{ running: true, labels, imageLabels: {}, env: maps('environment'), mounts: [...mounts.values()], command },
    },
  };
}

/** Decides how long a service runs, as far as its own definition shows it. */
function runsOf(layers: readonly Layer[], { variables }: ComposeProject): ComposeService['runs'] {
  const all = (key: string) => valuesOf(layers, key).map(({ value }) => value);
  const last = (key: string) => interpolate(String(all(key).at(-1) ?? ''), variables).trim();
  const profiles = all('profiles').flatMap(namesIn);
  const active = (variables.COMPOSE_PROFILES ?? '').split(',').map((one) => one.trim());
  const isActive = profiles.length === 0 || active.includes('*') || profiles.some((one) => active.includes(one));
  const deploy: Record<string, unknown> = Object.assign({}, ...all('deploy').filter(isRecord));
  const count = last('scale') || interpolate(String(deploy.replicas ?? ''), variables).trim();
  if (!isActive || count === '0') return 'waits';
  if (/-job$/.test(String(deploy.mode))) return 'ends';
  const restart = last('restart');
  if (restart === '' && isPlainSystem(last('image'))) return 'ends';
  return restart === 'no' ? 'ends' : restart === '' ? 'once' : 'always';
}

/** Returns the services whose end a service waits for. */
function awaitedEnds(dependsOn: unknown): string[] {
  if (!isRecord(dependsOn)) return [];
  const isEnd = (one: unknown) => isRecord(one) && one.condition === 'service_completed_successfully';
  return Object.keys(dependsOn).filter((name) => isEnd(dependsOn[name]));
}

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
