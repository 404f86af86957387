import { dependencies } from './depends-on.ts';

/** The rules by which containers need each other: the namespaces that they share, and `depends_on`. */

/** The facts that say what a container needs. */
export interface NeedFacts {
  id: string;
  name: string;
  project: string;
  service: string;
  labels: Readonly<Record<string, string>>;
  /** `container:<id>` for the namespace of another container */
  networkMode?: string;
  ipcMode?: string;
  pidMode?: string;
}

/**
 * Returns whether a container runs in a namespace of another one, or its service depends on the service of that one.
 * The engine does not start a container while the owner of its namespace is stopped.
 */
export function needs(one: NeedFacts, other: NeedFacts): boolean {
  if (sharedNamespace(one, other) !== undefined) return true;
  const isPeer = one.project !== '' && one.project === other.project && one.service !== other.service;
  return isPeer && dependencies(one).includes(other.service);
}

/** Sorts items so that each comes after those that it needs. Keeps the order of the others, and of a circle. */
export function sortByNeed<T>(items: readonly T[], needsIt: (one: T, other: T) => boolean): T[] {
  const sorted = new Set<T>();
  const visited = new Set<T>();
  const visit = (one: T) => {
    if (visited.has(one)) return;
    visited.add(one);
    for (const other of items) if (other !== one && needsIt(one, other)) visit(other);
    sorted.add(one);
  };
  for (const one of items) visit(one);
  return [...sorted];
}

/** Returns the namespace of another container that a container uses, or undefined. */
export function sharedNamespace(one: NeedFacts, owner: NeedFacts): string | undefined {
  if (isOwner(one.networkMode, owner)) return 'network';
  if (isOwner(one.pidMode, owner)) return 'process namespace';
  return isOwner(one.ipcMode, owner) ? 'IPC namespace' : undefined;
}

/** Returns whether `mode` is `container:` with the id, a long part of the id, or the name of a container. */
export function isOwner(mode: string | undefined, { id, name }: Pick<NeedFacts, 'id' | 'name'>): boolean {
  const key = mode?.match(/^container:(.+)$/)?.[1];
  return key !== undefined && (key === id || key === name || (key.length >= 12 && id.startsWith(key)));
}
