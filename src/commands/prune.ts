import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import type { Pruning } from '../copy/prune-everywhere.ts';
import { renderPrune } from '../report/prune-text.ts';
import { renderError } from '../report/text.ts';
import { type Call, print } from './call.ts';
import type { PlaceDocument } from './json/documents.ts';

/**
 * `lifeboat prune`. Exit status: 3 if a place failed, or if an unreadable manifest or list of packs keeps objects from
 * being deleted. 130 if it was interrupted, after it has printed what was pruned.
 */
export async function prune(call: Call): Promise<number> {
  const { app, io, options } = call;
  const maxUnused = options.maxUnused as number | undefined;
  const request = { dryRun: options.dryRun === true, clockIsRight: options.clockIsRight === true };
  if (maxUnused !== undefined && !request.dryRun) {
    throw new LifeboatError('USAGE', '--max-unused only has an effect with --dry-run', {
      hint: 'Backups use LIFEBOAT_MAX_UNUSED. Set it in the environment of Lifeboat.',
    });
  }
  const places = await app.prune({ ...request, ...(maxUnused === undefined ? {} : { maxUnused }) }, io.signal);
  const when = { now: new Date(), zone: app.settings.timeZone };
  const [own, ...copies] = places.map(documentOf) as [PlaceDocument, ...PlaceDocument[]];
  print(call, 'prune', copies.length === 0 ? own : { ...own, copies }, () =>
    places.map((place) => renderPlace(place, places.length > 1, when)).join('\n\n'),
  );
  if (io.signal.aborted) return EXIT.interrupted;
  if (places.some((place) => 'error' in place || place.result.unreadable || place.result.unread)) return EXIT.partial;
  return places.some((place) => 'result' in place && place.result.decisions.length > 0) ? EXIT.done : EXIT.nothing;
}

function documentOf(place: Pruning): PlaceDocument {
  const { destination } = place;
  return 'result' in place ? { destination, ...place.result } : { destination, error: place.error };
}

function renderPlace(place: Pruning, several: boolean, when: { now: Date; zone: string }): string {
  const title = several ? `${place.destination}\n` : '';
  if ('result' in place) return title + renderPrune(place.result, when);
  return title + renderError(place.error);
}
