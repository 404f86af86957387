/** Wrong credentials that an address may send at once. */
const MOST = 20;
/** The time after which it may send one more, milliseconds: 30,000 guesses a day, of passwords with 8 characters. */
const REFILL_MS = 3000;
/** The addresses that are remembered. When there are more, the oldest one is forgotten. */
const MAX_ADDRESSES = 1000;

/** The wrong credentials of one address that still count, at a time in milliseconds. */
interface Spent {
  count: number;
  at: number;
  /** it had to wait since it last had no guesses that count */
  waited: boolean;
}

/** Limits how fast an address can guess credentials. */
interface GuessLimit {
  /** Returns how long an address has to wait before its next guess, in whole seconds; 0: it need not wait. */
  waitOf(address: string): number;
  /** Counts a wrong guess. Returns true if the address has to wait now, once until it stops guessing. */
  spend(address: string): boolean;
}

/** Creates a limit. `clock`: milliseconds, by a clock that nobody sets. */
export function createGuessLimit(clock: () => number = () => performance.now()): GuessLimit {
  const all = new Map<string, Spent>();
  const countOf = (address: string) => {
    const known = all.get(address);
    return known === undefined ? 0 : Math.max(0, known.count - (clock() - known.at) / REFILL_MS);
  };
  return {
    waitOf(address) {
      const over = countOf(address) - (MOST - 1);
      return over > 0 ? Math.ceil((over * REFILL_MS) / 1000) : 0;
    },
    spend(address) {
      const before = countOf(address);
      const waited = before > 0 && all.get(address)?.waited === true;
      const count = before + 1;
      const mustWait = count > MOST - 1;
      // An address that was seen last is forgotten last.
      all.delete(address);
      all.set(address, { count, at: clock(), waited: waited || mustWait });
      const [oldest] = all.keys();
      if (all.size > MAX_ADDRESSES && oldest !== undefined) all.delete(oldest);
      return mustWait && !waited;
    },
  };
}
