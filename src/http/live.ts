import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import { errorInfo } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import { readProgress } from '../overview/progress-file.ts';
import type { HttpDeps } from './deps.ts';
import { type Live, liveLines } from './page/live.ts';

/** The time between two reads of the progress while a page is open, milliseconds. */
const EVERY_MS = 1000;
/** A comment this often keeps proxies from closing the connection, in reads. */
const ALIVE_EVERY = 15;
/** The most readers at a time. Others get 503 and the plain page. */
const MAX_READERS = 20;

/** Returns the run in progress, in this process or another one. A restore runs a backup, so the newest counts. */
export async function readLive({
  runsUnderWay,
  state,
}: Pick<HttpDeps, 'runsUnderWay' | 'state'>): Promise<Live | null> {
  const start = (await runsUnderWay()).at(-1)?.start;
  if (!start) return null;
  if (start.verb !== 'backup') return { verb: start.verb, id: start.id };
  const { id, start: since } = start.run;
  const progress = await readProgress(state.directory, id);
  return { verb: 'backup', id, start: since, ...(progress ? { progress } : {}) };
}

/**
 * Creates the handler of `/api/events`: server-sent events (HTML standard, section 9.2). `progress` has a {@link Live}
 * with its lines as JSON, whenever it changes; `end` comes when a run has ended, and at once if there is none.
 */
export function createLive(deps: Pick<HttpDeps, 'runsUnderWay' | 'state' | 'log'>, signal: AbortSignal) {
  let readers = 0;
  return (context: Context): Response | Promise<Response> => {
    // Nobody would read the events of a HEAD request, so its reader would never leave.
    if (context.req.method === 'HEAD') return context.body(null, 200, { 'content-type': 'text/event-stream' });
    if (readers >= MAX_READERS) return context.text('too many readers\n', 503, { 'retry-after': '30' });
    readers += 1;
    return streamSSE(context, async (stream) => {
      let before: string | undefined;
      let quiet = 0;
      try {
        while (!stream.aborted && !signal.aborted) {
          const live = await readLive(deps);
          const text = live ? JSON.stringify(redactDeep({ ...live, lines: liveLines(live) })) : 'null';
          if (text === before) {
            if (++quiet % ALIVE_EVERY === 0) await stream.write(': alive\n\n');
          } else if (live) await stream.writeSSE({ event: 'progress', data: text });
          else await stream.writeSSE({ event: 'end', data: '' });
          before = text;
          await stream.sleep(EVERY_MS);
        }
      } catch (error) {
        deps.log.warn('the progress of a run cannot be shown', { ...errorInfo(error) });
      } finally {
        readers -= 1;
      }
    });
  };
}
