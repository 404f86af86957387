import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { compose } from './project.ts';

/** The page of the demo's Lifeboat. */

/** Returns the address of the page on this host; undefined while Lifeboat does not run. */
export async function pageAddress(signal: AbortSignal): Promise<string | undefined> {
  const published = await compose(['port', 'lifeboat', '8080'], { signal }).catch(() => '');
  return addressOf(published);
}

/** Turns what `docker compose port` prints into a URL; undefined if the port is not published. */
export function addressOf(published: string): string | undefined {
  const [, port] = /:(\d+)\s*$/.exec(published) ?? [];
  return port === undefined || port === '0' ? undefined : `http://127.0.0.1:${port}/`;
}

/**
 * Waits until somebody presses Enter, the input ends, or the signal aborts.
 *
 * @param input the terminal
 */
export async function waitForEnter(input: Readable, signal: AbortSignal): Promise<void> {
  input.resume();
  const pressed = ['data', 'end'].map((name) => once(input, name, { signal }));
  await Promise.race(pressed).catch(() => undefined);
  input.pause();
}
