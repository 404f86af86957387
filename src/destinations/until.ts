import { canReplace, type DeleteManyOptions, type Destination, deletesInBulk, isLocking } from './destination.ts';

/** Wraps a destination so that aborting `signal` ends every operation in progress with the signal's reason. */
export function until(destination: Destination, signal: AbortSignal): Destination {
  const both = (own: AbortSignal | undefined) => (own ? AbortSignal.any([own, signal]) : signal);
  return {
    name: destination.name,
    ...(destination.place === undefined ? {} : { place: destination.place }),
    put: (key, body, options) => destination.put(key, body, { ...options, signal: both(options?.signal) }),
    get: (key, options) => destination.get(key, { ...options, signal: both(options?.signal) }),
    list: (prefix, options) => destination.list(prefix, { ...options, signal: both(options?.signal) }),
    delete: (key, options) => destination.delete(key, { signal: both(options?.signal) }),
    ...(deletesInBulk(destination)
      ? {
          deleteMany: (keys: readonly string[], options?: DeleteManyOptions) =>
            destination.deleteMany(keys, { ...options, signal: both(options?.signal) }),
        }
      : {}),
    ...(canReplace(destination)
      ? {
          replace: (key: string, content: Buffer, version: string, own?: AbortSignal) =>
            destination.replace(key, content, version, both(own)),
        }
      : {}),
    ...(isLocking(destination)
      ? {
          prolongLocks: (keys: readonly string[], now: Date, own?: AbortSignal, alive?: () => void) =>
            destination.prolongLocks(keys, now, both(own), alive),
        }
      : {}),
  };
}
