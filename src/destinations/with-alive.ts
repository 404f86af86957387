import { canReplace, type DeleteManyOptions, type Destination, deletesInBulk, isLocking } from './destination.ts';

/**
 * Wraps a destination so that `alive` is called at each sign of progress: after each call, for each listed object, and
 * during long calls.
 */
export function withAlive(destination: Destination, alive: () => void): Destination {
  const reported = async <T>(call: Promise<T>): Promise<T> => {
    const value = await call;
    alive();
    return value;
  };
  return {
    name: destination.name,
    ...(destination.place === undefined ? {} : { place: destination.place }),
    put: (key, body, options) => reported(destination.put(key, body, { ...options, alive })),
    get: (key, options) => reported(destination.get(key, options)),
    async *list(prefix, options) {
      for await (const object of destination.list(prefix, options)) {
        alive();
        yield object;
      }
    },
    delete: (key, options) => reported(destination.delete(key, options)),
    ...(deletesInBulk(destination)
      ? {
          deleteMany: (keys: readonly string[], options?: DeleteManyOptions) =>
            reported(destination.deleteMany(keys, options)),
        }
      : {}),
    ...(canReplace(destination)
      ? {
          replace: (key: string, content: Buffer, version: string, signal?: AbortSignal) =>
            reported(destination.replace(key, content, version, signal)),
        }
      : {}),
    ...(isLocking(destination)
      ? {
          prolongLocks: (keys: readonly string[], now: Date, signal?: AbortSignal) =>
            reported(destination.prolongLocks(keys, now, signal, alive)),
        }
      : {}),
  };
}
