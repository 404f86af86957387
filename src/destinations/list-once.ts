import type { Destination, ListOptions, ObjectInfo } from './destination.ts';
import { isAfter } from './keys.ts';
import { Listing } from './listing.ts';

/**
 * Returns a view of a destination that lists everything below `prefix` at most once, when a listing is first needed,
 * and answers later listings from memory, except for those that must be fresh. Objects that are stored or deleted
 * afterwards do not change its listings.
 *
 * @param objects what is below `prefix`, if it is known already
 */
export function listOnce(destination: Destination, prefix: string, objects?: Listing): Destination {
  let known: Promise<Listing> | undefined = objects && Promise.resolve(objects);
  const listed = (options?: { signal?: AbortSignal }) => {
    known ??= collect(destination.list(prefix, options)).catch((error: unknown) => {
      known = undefined;
      throw error;
    });
    return known;
  };
  async function* list(below: string, options?: ListOptions): AsyncGenerator<ObjectInfo> {
    if (options?.fresh || !below.startsWith(prefix)) return yield* destination.list(below, options);
    for (const object of (await listed(options)).below(below)) {
      options?.signal?.throwIfAborted();
      if (isAfter(object.key, options?.after)) yield object;
    }
  }
  // The view can do everything else that the destination can do.
  return Object.create(destination, { list: { value: list } }) as Destination;
}

async function collect(listing: AsyncIterable<ObjectInfo>): Promise<Listing> {
  const objects = new Listing();
  for await (const object of listing) objects.add(object);
  return objects;
}
