import type { ContainerFacts, Mount } from '../plan/model.ts';
import { kindInContainer } from './container-file.ts';
import type { CallOptions, Engine } from './engine.ts';

/** The label in which Compose records the key of a volume under `volumes:`. */
const VOLUME_KEY = 'com.docker.compose.volume';

// Neither changes while the container exists. Cached per engine, so that a listing every minute needs no further calls.
const details = new WeakMap<Engine, Map<string, Pick<Mount, 'kind' | 'key'>>>();

/**
 * Adds to the mounts of some containers what the inspection of a container does not say: whether a bind is a directory
 * or a file, and the Compose key of a volume. What a proxy of the Docker socket refuses, or what is gone, stays
 * unknown.
 *
 * @param wanted selects the containers; all others come back as they are
 */
export async function withMountDetails(
  engine: Engine,
  containers: readonly ContainerFacts[],
  wanted: (container: ContainerFacts) => boolean,
  options: CallOptions = {},
): Promise<ContainerFacts[]> {
  const before = details.get(engine) ?? new Map<string, Pick<Mount, 'kind' | 'key'>>();
  const now = new Map<string, Pick<Mount, 'kind' | 'key'>>();
  details.set(engine, now);
  const look = async (id: string, mount: Mount): Promise<Mount> => {
    const place = JSON.stringify([id, mount.destination]);
    const found = before.get(place) ?? (await detailsOf(engine, id, mount, options));
    if (found) now.set(place, found);
    return { ...mount, ...found };
  };
  const result: ContainerFacts[] = [];
  for (const container of containers) {
    if (!wanted(container)) result.push(container);
    else {
      const mounts = await Promise.all(container.mounts.map((mount) => look(container.id, mount)));
      result.push({ ...container, mounts });
    }
  }
  return result;
}

/** Returns undefined if a later call may find it. */
async function detailsOf(
  engine: Engine,
  id: string,
  { type, name, destination }: Mount,
  options: CallOptions,
): Promise<Pick<Mount, 'kind' | 'key'> | undefined> {
  try {
    if (type === 'volume' && name !== undefined) {
      const { labels } = await engine.inspectVolume(name, options);
      const key = labels[VOLUME_KEY];
      return key === undefined ? {} : { key };
    }
    const kind = type === 'bind' ? await kindInContainer(engine, id, destination, options) : undefined;
    return kind === undefined ? {} : { kind };
  } catch {
    options.signal?.throwIfAborted();
    return undefined;
  }
}
