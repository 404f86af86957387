import { setTimeout as delay } from 'node:timers/promises';

/** Wrong passwords that a network may send before its checks are slowed down. */
const MOST = 20;
/** The same for all networks together, because one guesser may have many addresses. */
const MOST_OF_ALL = 200;
/** The time after which a wrong password no longer counts, milliseconds. */
const REFILL_MS = 3000;
/** The duration of a slow check, milliseconds. */
const SLOW_MS = 1000;
/** Slow checks of a network at a time: with the time they take, 10 guesses a second. */
const SLOW_AT_ONCE = 10;
/** The networks that are remembered. When there are more, the oldest one is forgotten. */
const MAX_NETWORKS = 1000;
/** The key of all networks together. */
const ALL = 'all';

/** The wrong passwords of a network that still count, at a time in milliseconds. */
interface Spent {
  count: number;
  at: number;
  /** its checks were slow since it last had no wrong passwords that count */
  slowed: boolean;
}

/** Slows down who guesses passwords. */
interface GuessLimit {
  /**
   * Waits until a password may be checked: not at all, or a second after many wrong ones. The wait is the same for
   * right and wrong passwords, so that it shows nothing.
   *
   * @returns false if too many checks of this network, or of all, wait
   */
  turn(address: string): Promise<boolean>;
  /** Counts a wrong password. Returns true if the checks of the address become slow, once until it stops guessing. */
  spend(address: string): boolean;
}

/** Options of {@link createGuessLimit}. `clock`: a clock that nobody sets, milliseconds. `wait`: for tests. */
interface GuessLimitOptions {
  clock?: (() => number) | undefined;
  wait?: ((ms: number) => Promise<unknown>) | undefined;
}

/** Creates a limit. */
export function createGuessLimit({
  clock = () => performance.now(),
  wait = delay,
}: GuessLimitOptions = {}): GuessLimit {
  const all = new Map<string, Spent>();
  const slow = new Map<string, number>();
  const countOf = (key: string) => {
    const known = all.get(key);
    if (known === undefined) return 0;
    const refill = key === ALL ? (REFILL_MS * MOST) / MOST_OF_ALL : REFILL_MS;
    return Math.max(0, known.count - (clock() - known.at) / refill);
  };
  const isOver = (key: string) => countOf(key) > (key === ALL ? MOST_OF_ALL : MOST) - 1;
  const spendOne = (key: string) => {
    const count = countOf(key) + 1;
    const before = count > 1 && all.get(key)?.slowed === true;
    // A network that was seen last is forgotten last.
    all.delete(key);
    all.set(key, { count, at: clock(), slowed: before });
    const isNew = isOver(key) && !before;
    all.set(key, { count, at: clock(), slowed: before || isNew });
    return isNew;
  };
  return {
    async turn(address) {
      const network = networkOf(address);
      const key = isOver(network) ? network : isOver(ALL) ? ALL : undefined;
      if (key === undefined) return true;
      const waiting = slow.get(key) ?? 0;
      if (waiting >= SLOW_AT_ONCE) return false;
      slow.set(key, waiting + 1);
      try {
        await wait(SLOW_MS);
      } finally {
        const left = (slow.get(key) ?? 1) - 1;
        if (left === 0) slow.delete(key);
        else slow.set(key, left);
      }
      return true;
    },
    spend(address) {
      const isNew = spendOne(networkOf(address));
      const isAllNew = spendOne(ALL);
      const oldest = [...all.keys()].find((key) => key !== ALL);
      if (all.size > MAX_NETWORKS && oldest !== undefined) all.delete(oldest);
      return isNew || isAllNew;
    },
  };
}

/**
 * Returns the network of an address: an IPv4 address itself, and the first 64 bits of an IPv6 address, because one
 * subscriber has all addresses in them.
 */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%')[0] ?? '').toLowerCase().split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail ? tail.split(':') : [];
  const gap = tail === undefined ? [] : Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0');
  const groups = [...left, ...gap, ...right].slice(0, 4).map((group) => group.replace(/^0+(?=.)/, ''));
  return `${groups.join(':')}::/64`;
}
