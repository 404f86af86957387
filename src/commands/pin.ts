import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { resolveSnapshot } from '../store/repository/chain.ts';
import { deletePin, putPin, readPins } from '../store/repository/pins.ts';
import { tombstoneIds } from '../store/repository/tombstones.ts';
import { type Call, print } from './call.ts';

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
