import { LifeboatError } from '../base/errors.ts';
import type { Rollback } from '../run/state.ts';

/**
 * Checks the order of rollbacks. Restores of the same data are one stack: a later restore has put aside the data of an
 * earlier one. Only the newest restore in use can be rolled back, and only the oldest one that is rolled back can be
 * brought back. In another order, "the data from before" a restore would be the data of another one.
 *
 * @param all the records whose data still exists
 * @throws USAGE with the order that works
 */
export function refuseOutOfTurn(chosen: Rollback, all: readonly Rollback[]): void {
  const names = (one: Rollback) => (one.databases ?? []).map(({ name }) => name);
  const shares = (one: Rollback) =>
    one.source === chosen.source &&
    (one.volume !== undefined ||
      chosen.volume !== undefined ||
      names(one).some((name) => names(chosen).includes(name)));
  const sorted = all.filter(shares).sort((a, b) => (a.id < b.id ? -1 : 1));
  const later = sorted.filter(({ id, inUse }) => id > chosen.id && inUse === 'restored').reverse();
  const earlier =
    chosen.inUse === 'restored' ? [] : sorted.filter((one) => one.id < chosen.id && one.inUse === 'before');
  const [first, ...more] = [...later, ...earlier];
  if (!first) return;
  const when = first.id > chosen.id ? 'after' : 'before';
  const is = first.inUse === 'restored' ? 'in use' : 'rolled back';
  const commands = [first, ...more].map(({ id }) => `lifeboat rollback ${id}`).join(', then ');
  throw new LifeboatError('USAGE', `restore ${first.id} of ${chosen.source} came ${when} ${chosen.id} and is ${is}`, {
    hint: `Change ${more.length > 0 ? 'these first, in this order' : 'that first'}: ${commands}. Nothing was changed.`,
  });
}
