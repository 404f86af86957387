import type { OpenExchange } from './finish-exchange.ts';
import type { ExchangeStep } from './move-list.ts';

/** A step that moves something. */
export type Move = ExchangeStep & { type: 'move' };

/** The part of a step to run: `out`: only what leaves the volume; `in`: only what comes into it; `both`: all of it. */
export type Half = 'out' | 'in' | 'both';

/**
 * Calls `run` for each step, in the order in which they are made. Steps that surround the others run twice: first their
 * half `out`, at the end their half `in`. A loss of power does not change this order, unless the file system cannot
 * sync directories.
 *
 * @param heard called before each call of `run`
 */
export async function eachInOrder(
  { root, header, steps }: Pick<OpenExchange, 'root' | 'header' | 'steps'>,
  heard: () => void,
  run: (step: ExchangeStep, half: Half) => void,
): Promise<void> {
  const surround = async (half: Half) => {
    // Only the list of a whole exchange has such steps. The list of a merge may be long.
    if (!header.whole) return;
    for await (const step of steps()) {
      if (!isAround(step)) continue;
      if (half === 'in') root.sync();
      heard();
      run(step, half);
      if (half === 'out') root.sync();
    }
  };
  await surround('out');
  for await (const step of steps()) {
    if (isAround(step)) continue;
    heard();
    run(step, 'both');
  }
  await surround('in');
}

function isAround(step: ExchangeStep): boolean {
  return step.type === 'move' && step.around === true;
}
