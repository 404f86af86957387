import { type Call, print } from './call.ts';
import { LifeboatError } from './errors.ts';
import { EXIT } from './exit.ts';
import type { Pruning } from './prune-everywhere.ts';
import { renderPrune } from './report/prune-text.ts';
import { renderError } from './report/text.ts';
import { resolveSnapshot } from './store/chain.ts';
import { deletePin, putPin, readPins } from './store/pins.ts';
import { tombstoneIds } from './store/tombstones.ts';

/** The commands that decide what is kept. */

export async function prune(call: Call): Promise<number> {
  const { app, io, options } = call;
  const request = { dryRun: options.dryRun === true, clockIsRight: options.clockIsRight === true };
  const places = await app.prune(request, io.signal);
  const when = { now: new Date(), zone: app.settings.timeZone };
  const [own, ...copies] = places.map(({ destination, ...rest }) => ({
    destination,
    ...('result' in rest ? rest.result : rest),
  }));
  print(call, copies.length === 0 ? own : { ...own, copies }, () =>
    places.map((place) => renderPlace(place, places.length > 1, when)).join('\n\n'),
  );
  if (places.some((place) => 'error' in place)) return EXIT.partial;
  return places.some((place) => 'result' in place && place.result.decisions.length > 0) ? EXIT.done : EXIT.nothing;
}

function renderPlace(place: Pruning, several: boolean, when: { now: Date; zone: string }): string {
  const title = several ? `${place.destination}\n` : '';
  if ('result' in place) return title + renderPrune(place.result, when);
  return title + renderError(place.error);
}

export async function pin(call: Call): Promise<number> {
  const repository = await call.app.repository({ create: false });
  const { id } = (await resolveSnapshot(repository, call.operands[0] as string, Date.now())).manifest;
  const reason = (call.options.reason as string | undefined)?.trim() || 'no reason given';
  const before = (await readPins(repository)).get(id);
  if (!before) await putPin(repository, id, { reason, at: new Date().toISOString() });
  // A prune writes the tombstone first and then looks for a pin: one of the two sees the other.
  if ((await tombstoneIds(repository)).includes(id)) {
    await deletePin(repository, id);
    throw new LifeboatError('SNAPSHOT_UNKNOWN', `${id} is being removed by a prune`, {
      hint: '`lifeboat snapshots` lists what there is.',
    });
  }
  const kept = before?.reason ?? reason;
  print(call, { snapshot: id, pinned: kept }, () =>
    before ? `${id} was pinned before: ${kept}` : `${id} is kept until \`lifeboat unpin ${id}\`: ${kept}`,
  );
  return EXIT.done;
}

export async function unpin(call: Call): Promise<number> {
  const repository = await call.app.repository({ create: false });
  const { id } = (await resolveSnapshot(repository, call.operands[0] as string, Date.now())).manifest;
  const before = (await readPins(repository)).get(id);
  if (before) await deletePin(repository, id);
  print(call, { snapshot: id, unpinned: before?.reason ?? null }, () =>
    before
      ? `${id} is kept as LIFEBOAT_KEEP says from now on; it was pinned: ${before.reason}`
      : `${id} was not pinned.`,
  );
  return before ? EXIT.done : EXIT.nothing;
}
