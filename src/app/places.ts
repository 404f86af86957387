import { createHash } from 'node:crypto';
import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Log } from '../base/log.ts';
import type { CopyPlace } from '../copy/context.ts';
import { type Destination, placeOf, type SweepingDestination } from '../destinations/destination.ts';
import type { Listing } from '../destinations/listing.ts';
import { until } from '../destinations/until.ts';
import type { LimitedPlace } from '../overview/size-log.ts';
import type { CopyLocation } from '../plan/location.ts';
import type { Settings } from '../plan/settings.ts';
import { openManifestCache, openPackListCache } from '../run/document-caches.ts';
import type { State } from '../run/state.ts';
import { isLeasedToOther, type Lease, takeLease } from '../store/repository/lease.ts';
import { openRepository } from '../store/repository/open-repository.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { RepositoryOptions } from '../store/repository/repository-info.ts';
import { destinationError, openElsewhere, placeAt } from './destinations.ts';
import type { Self } from './own-container.ts';

/** No upload of WAL takes longer, milliseconds. */
const WAL_UPLOAD_MS = 24 * 60 * 60_000;

/** The dependencies of opening a repository at any place. */
interface PlaceContext {
  settings: Settings;
  self: Self;
  project: string;
  state: State;
  log: Log;
  now(): Date;
  hurry?: AbortSignal | undefined;
}

type OpenOptions = Omit<RepositoryOptions, 'keys' | 'signingKeys'>;

/** Limits a sweep. */
export interface SweepPlace {
  /** only unfinished WAL that is a day old: a crash has left it, because receivers store all the time */
  onlyWal?: boolean;
  signal?: AbortSignal | undefined;
}

/** Opens, leases and sweeps repositories at the destination and its copies. */
export interface Places {
  /**
   * Opens the repository at a destination. `at`: the name of that destination in the settings.
   *
   * Errors: DEST_NOT_MOUNTED, DEST_UNWRITABLE, and those of {@link openRepository}.
   */
  open(at: string, destination: Destination, options: OpenOptions): Promise<Repository>;
  /** Takes the lease, see {@link takeLease}. Throws LOCKED while another agent works on the project there. */
  lease(repository: Repository, objects?: Listing): Promise<Lease>;
  /** Removes unfinished files of the project, unless another agent works there. */
  sweep(at: string, destination: SweepingDestination, options?: SweepPlace): Promise<void>;
  /** Returns a destination as a place to copy to. */
  copyTo(at: string, destination: SweepingDestination): CopyPlace;
  /** Returns a copy of the settings. */
  copy(location: CopyLocation): CopyPlace;
}

export function createPlaces({ settings, self, project, state, log, now, hurry }: PlaceContext): Places {
  const signing = settings.signingKeys ? { signingKeys: settings.signingKeys } : {};
  const places: Places = {
    async open(at, destination, options) {
      const mistaken = destinationError(at, self.facts.mounts, options.create);
      if (mistaken) throw mistaken;
      const lists = openPackListCache(path.join(state.directory, 'packs'));
      const manifests = openManifestCache(
        path.join(manifestsIn(state.directory), cacheOf(placeOf(destination)), options.project),
      );
      return openRepository(destination, { keys: settings.keys, ...signing, manifests, lists, ...options });
    },
    lease: async ({ destination, project: of }, objects) => {
      const home = await state.home();
      const deps = { destination, project: of, home, sightings: state, holder: holderOf(self), now, log };
      return takeLease(deps, objects);
    },
    async sweep(at, destination, { onlyWal = false, signal } = {}) {
      if (destinationError(at, self.facts.mounts, true)) return;
      // Unfinished files there may belong to another agent that is storing them.
      const look = signal ? until(destination, signal) : destination;
      const home = await state.home();
      if (await isLeasedToOther({ destination: look, project, home, sightings: state, now })) return;
      // Receivers store WAL all the time, also in another process.
      const recent = { prefix: `${project}/wal/`, olderThanMs: WAL_UPLOAD_MS };
      await destination.sweepTemporary({
        ...(onlyWal ? recent : { prefix: `${project}/`, olderThanMs: 0 }),
        recent,
        ...(signal ? { signal } : {}),
      });
    },
    copyTo: (at, destination) => ({
      name: destination.name,
      open: (main, options) => places.open(at, destination, { project: main.project, copyOf: main.info, ...options }),
      isEmpty: async (signal) => {
        const mistaken = destinationError(at, self.facts.mounts, true);
        if (mistaken) throw mistaken;
        for await (const _ of until(destination, signal).list('')) return false;
        return true;
      },
      lease: places.lease,
      sweep: (signal) => places.sweep(at, destination, { signal }),
    }),
    copy: ({ location, ...copy }) => ({
      ...places.copyTo(location, openElsewhere(location, settings, { hurry })),
      ...copy,
    }),
  };
  return places;
}

const manifestsIn = (directory: string) => path.join(directory, 'manifests');
const cacheOf = (place: string) => createHash('sha256').update(place).digest('hex').slice(0, 16);

/** Cached manifests of a place that is not in the settings stay for so long after the last one, milliseconds. */
const FORGOTTEN_AFTER_MS = 30 * 24 * 60 * 60_000;

/**
 * Removes the cached manifests of places that are not in the settings, unless a command has read some lately: somebody
 * may use the place with `--from`. Never rejects.
 *
 * @param directory of the state
 */
export async function forgetPlaces(
  directory: string,
  { destination, copies }: Pick<Settings, 'destination' | 'copies'>,
): Promise<void> {
  const locations = [destination, ...copies.map(({ location }) => location)];
  const kept = new Set(locations.map((location) => cacheOf(placeAt(location))));
  for (const name of await readdir(manifestsIn(directory)).catch(() => [])) {
    if (kept.has(name)) continue;
    const cache = path.join(manifestsIn(directory), name);
    if (Date.now() - (await lastChange(cache)) < FORGOTTEN_AFTER_MS) continue;
    await rm(cache, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Returns when something in a directory was last written, milliseconds since 1970; 0 if that cannot be read. */
async function lastChange(directory: string): Promise<number> {
  const names = await readdir(directory, { recursive: true }).catch(() => []);
  let last = 0;
  for (const name of names) {
    last = Math.max(
      last,
      await stat(path.join(directory, name)).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    );
  }
  return last;
}

/** Returns the agent's own destination and the copies, with what their storage costs. */
export function limitedPlacesOf({
  settings,
  own,
}: {
  settings: Settings;
  own: { destination: { name: string } };
}): LimitedPlace[] {
  return [{ name: own.destination.name, limits: settings.destinationLimits }, ...settings.copies];
}

/** Names the container for people on another host, who cannot see it. */
function holderOf({ facts: { id, name } }: Self): string {
  return `container ${name} (${id.slice(0, 12)})`;
}
