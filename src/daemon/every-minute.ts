const MINUTE_MS = 60_000;

/**
 * A tick comes this long after the full minute, because a timer may fire a little early by the wall clock;
 * milliseconds.
 */
const MARGIN_MS = 100;

/**
 * Calls `tick` shortly after every full minute, until the returned function is called. Each wait is measured from the
 * current time and lasts about a minute at most, so a clock that jumps ahead or back by years delays one tick only, and
 * no missed minute is made up for.
 *
 * @param tick never rejects
 */
export function everyMinute(tick: () => Promise<void>): () => void {
  let timer: NodeJS.Timeout;
  const wait = () => {
    timer = setTimeout(
      () => {
        wait();
        void tick();
      },
      MINUTE_MS - (Date.now() % MINUTE_MS) + MARGIN_MS,
    );
  };
  wait();
  return () => clearTimeout(timer);
}
