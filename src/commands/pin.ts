import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { resolveSnapshot } from '../store/repository/chain.ts';
import { deletePin, putPin, readPins } from '../store/repository/pins.ts';
import { isBeingRemoved } from '../store/repository/tombstones.ts';
import { type Call, print } from './call.ts';

export async function pin(call: Call): Promise<number> {
  const repository = await call.app.repository({ create: false });
  const snapshot = await resolveSnapshot(repository, call.operands[0] as string, Date.now());
  const { id } = snapshot.manifest;
  const reason = (call.options.reason as string | undefined)?.trim() || 'no reason given';
  const before = (await readPins(repository)).get(id);
  if (!before) await putPin(repository, id, { reason, at: new Date().toISOString() });
  // A prune writes the tombstone, then looks for a pin. A pin is written before this look for a tombstone. So one of
  // the two always sees the other. A prune that came first has removed nothing that was pinned before.
  if (!before && (await isBeingRemoved(repository, snapshot, new Date()))) {
    await deletePin(repository, id);
    throw new LifeboatError('SNAPSHOT_UNKNOWN', `a prune is removing ${id}`, {
      hint: '`lifeboat snapshots` lists the snapshots.',
    });
  }
  const shown = before?.reason ?? reason;
  print(call, 'pin', { snapshot: id, pinned: shown }, () =>
    before ? `${id} was already pinned: ${shown}` : `Pinned ${id} until \`lifeboat unpin ${id}\`: ${shown}`,
  );
  return EXIT.done;
}

export async function unpin(call: Call): Promise<number> {
  const repository = await call.app.repository({ create: false });
  const { id } = (await resolveSnapshot(repository, call.operands[0] as string, Date.now())).manifest;
  const before = (await readPins(repository)).get(id);
  if (before) await deletePin(repository, id);
  print(call, 'unpin', { snapshot: id, unpinned: before?.reason ?? null }, () =>
    before ? `Unpinned ${id}: retention now decides about it. The pin said: ${before.reason}` : `${id} was not pinned.`,
  );
  return before ? EXIT.done : EXIT.nothing;
}
