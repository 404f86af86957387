import type { Facts } from './facts.ts';
import { gauge, type Metric, type Sample, seconds, since } from './metric.ts';

/** Metrics of copies. The values of `copy` are the locations of LIFEBOAT_COPY without their options. */
export const COPIES: Record<string, Metric> = {
  lifeboat_copy_complete_timestamp_seconds: gauge(
    'Time at which a copy last equalled the destination, seconds since 1970.',
    ['copy'],
    ({ facts }) =>
      facts.overview.copies.flatMap(({ name, complete }): Sample[] =>
        complete === undefined ? [] : [[seconds(complete), { copy: name }]],
      ),
  ),
  lifeboat_copy_lag_seconds: gauge('Time for which a copy has been behind, 0 if it is complete.', ['copy'], (input) =>
    input.facts.overview.copies.flatMap(({ name, behindSince, complete }): Sample[] => {
      if (behindSince !== undefined) return [[since(behindSince, input.now), { copy: name }]];
      return complete === undefined ? [] : [[0, { copy: name }]];
    }),
  ),
};

/** Metrics of size. The values of `place` are the destination and the copies, without their options. */
export const SIZES: Record<string, Metric> = {
  lifeboat_repository_bytes: gauge('Bytes that a place holds of the project.', ['place'], ({ facts }) =>
    ofPlaces(facts, ({ now }) => now?.bytes),
  ),
  lifeboat_repository_objects: gauge('Objects that a place holds of the project.', ['place'], ({ facts }) =>
    ofPlaces(facts, ({ now }) => now?.objects),
  ),
  lifeboat_repository_source_bytes: gauge(
    'Bytes that a place holds of a source: its packs, documents and WAL.',
    ['place', 'source'],
    ({ facts }) => {
      const known = new Set(facts.overview.sources.map(({ name }) => name));
      return facts.overview.places.flatMap(({ name: place, now }) =>
        Object.entries(now?.sources ?? {}).flatMap(([source, bytes]): Sample[] =>
          known.has(source) ? [[bytes, { place, source }]] : [],
        ),
      );
    },
  ),
  lifeboat_repository_cost: gauge(
    'Cost of a place a month, in the currency of its price-per-gb.',
    ['place'],
    ({ facts }) => ofPlaces(facts, ({ cost }) => cost),
  ),
};

type Place = Facts['overview']['places'][number];

function ofPlaces({ overview }: Facts, pick: (place: Place) => number | undefined): Sample[] {
  return overview.places.flatMap((place): Sample[] => {
    const value = pick(place);
    return value === undefined ? [] : [[value, { place: place.name }]];
  });
}
