import path from 'node:path';
import { SPOOL } from '../run/mounts.ts';
import { openState } from '../run/state.ts';

/** Names that every shell completes without quotes. */
const PLAIN = /^[\w.-]+$/;

/**
 * Prints the names of the sources that runs have covered, one a line: `lifeboat source-names`, which completion in a
 * shell uses. A key press waits for it, so it asks neither the engine nor the destination. Without a state, it prints
 * nothing.
 */
export async function printSourceNames(out: (text: string) => void, spool = SPOOL): Promise<void> {
  const results = await openState(path.join(spool, 'state'))
    .results()
    .catch(() => ({}));
  const names = Object.keys(results).filter((name) => PLAIN.test(name));
  for (const name of names.sort()) out(`${name}\n`);
}
