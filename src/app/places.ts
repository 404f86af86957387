import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Log } from '../base/log.ts';
import type { CopyPlace } from '../copy/context.ts';
import type { Destination, SweepingDestination } from '../destinations/destination.ts';
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
import { destinationError, openElsewhere } from './destinations.ts';
import type { Self } from './own-container.ts';

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
  sweep(at: string, destination: SweepingDestination, signal?: AbortSignal): Promise<void>;
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
      const place = createHash('sha256').update(destination.name).digest('hex').slice(0, 16);
      const lists = openPackListCache(path.join(state.directory, 'packs'));
      const manifests = openManifestCache(path.join(state.directory, 'manifests', place, options.project));
      return openRepository(destination, { keys: settings.keys, ...signing, manifests, lists, ...options });
    },
    lease: async ({ destination, project: of }, objects) => {
      const home = await state.home();
      const deps = { destination, project: of, home, sightings: state, holder: holderOf(self), now, log };
      return takeLease(deps, objects);
    },
    async sweep(at, destination, signal) {
      if (destinationError(at, self.facts.mounts, true)) return;
      // Unfinished files there may belong to another agent that is storing them.
      const look = signal ? until(destination, signal) : destination;
      const home = await state.home();
      if (await isLeasedToOther({ destination: look, project, home, sightings: state, now })) return;
      await destination.sweepTemporary({ prefix: `${project}/`, olderThanMs: 0, ...(signal ? { signal } : {}) });
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
      sweep: (signal) => places.sweep(at, destination, signal),
    }),
    copy: ({ location, ...copy }) => ({
      ...places.copyTo(location, openElsewhere(location, settings, { hurry })),
      ...copy,
    }),
  };
  return places;
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
