import { type Destination, isLocking } from './destination.ts';

/** The same destination; `alive` is called at each sign of life: when a call has ended, for each object that is listed, and on the way. */
export function hearing(destination: Destination, alive: () => void): Destination {
  const heard = async <T>(call: Promise<T>): Promise<T> => {
    const value = await call;
    alive();
    return value;
  };
  return {
    name: destination.name,
    put: (key, body, options) => heard(destination.put(key, body, { ...options, alive })),
    get: (key, options) => heard(destination.get(key, options)),
    async *list(prefix, options) {
      for await (const object of destination.list(prefix, options)) {
        alive();
        yield object;
      }
    },
    delete: (key, options) => heard(destination.delete(key, options)),
    ...(isLocking(destination)
      ? {
          prolongLocks: (keys: readonly string[], now: Date, signal?: AbortSignal) =>
            heard(destination.prolongLocks(keys, now, signal, alive)),
        }
      : {}),
  };
}
