import type { Destination, ObjectInfo } from './destination.ts';

/**
 * Returns a view of a destination that lists everything below `prefix` at most once, when a listing is first needed,
 * and answers later listings from memory. Objects that are stored or deleted afterwards do not change its listings.
 *
 * @param objects what is below `prefix`, if it is known already
 */
export function listOnce(destination: Destination, prefix: string, objects?: readonly ObjectInfo[]): Destination {
  let known: Promise<readonly ObjectInfo[]> | undefined = objects && Promise.resolve(objects);
  const listed = (options?: { signal?: AbortSignal }) => {
    known ??= collect(destination.list(prefix, options)).catch((error: unknown) => {
      known = undefined;
      throw error;
    });
    return known;
  };
  async function* list(below: string, options?: { signal?: AbortSignal }): AsyncGenerator<ObjectInfo> {
    if (!below.startsWith(prefix)) return yield* destination.list(below, options);
    for (const object of await listed(options)) {
      options?.signal?.throwIfAborted();
      if (object.key.startsWith(below)) yield object;
    }
  }
  // The view can do everything else that the destination can do.
  return Object.create(destination, { list: { value: list } }) as Destination;
}

async function collect(listing: AsyncIterable<ObjectInfo>): Promise<ObjectInfo[]> {
  const objects: ObjectInfo[] = [];
  for await (const object of listing) objects.push(object);
  return objects;
}
