import { onAbort } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';
import { redact, registerSecret } from '../base/redact.ts';
import { newestThatFit, oneLine } from '../report/format.ts';
import { noteFailure } from './failure.ts';
import type { Post, PostAnswer } from './http.ts';

/** The ping endpoints of healthchecks.io. A self-hosted server has its own. */
const HEALTHCHECKS_BASE = 'https://hc-ping.com';

/**
 * The target of pings: the URL of a check, or the ping key of a project and a slug, for which the server creates the
 * check at the first ping. Protocol: https://healthchecks.io/docs/http_api/
 */
export type PingTarget = { url: URL } | { pingKey: string; slug: string; base?: string | undefined };

/** `log` adds an entry to the check without changing its status. */
type PingSignal = 'start' | 'success' | 'fail' | 'log';

/** Limit for the body if the server names none, in bytes. */
const DEFAULT_BODY_LIMIT = 10_000;
/** The service's limit per check. */
const PINGS_A_MINUTE = 5;
/** Pings of that limit which starts and alarms may use, including retries. The results of runs need the rest. */
const EARLY_A_MINUTE = 3;

/** Pings one check. */
export interface Pinger {
  /** Pings. `body` gets the number of bytes that the server takes. @throws NOTIFY_FAILED */
  ping(kind: PingSignal, body: (limit: number) => string, options: PingOptions): Promise<PostAnswer>;
}

interface PingOptions {
  signal: AbortSignal;
  /** UUID that is the same for the start and the end of a run */
  rid?: string | undefined;
  /** it can be sent later, so it leaves the last pings of a minute to others */
  yields?: boolean;
}

/** Creates a pinger that keeps the limits of the service. It skips a start rather than a result. */
export function createPinger({
  target,
  post,
  now,
}: {
  target: PingTarget;
  post: Post;
  /** for tests */
  now?: (() => number) | undefined;
}): Pinger {
  if ('pingKey' in target) registerSecret(target.pingKey);
  const pace = createPace(PINGS_A_MINUTE, 60_000, now);
  let bodyLimit = DEFAULT_BODY_LIMIT;
  return {
    async ping(kind, body, { signal, rid, yields = false }) {
      const url = pingUrl(target, kind, rid);
      const isFull = pace.used() >= EARLY_A_MINUTE;
      if (kind === 'start' && isFull) return { status: 0, headers: {}, body: '' };
      if (yields && isFull)
        throw later(new LifeboatError('NOTIFY_FAILED', 'the other pings of this minute are kept for runs'));
      const answer = await post({
        url,
        body: body(bodyLimit),
        contentType: 'text/plain; charset=utf-8',
        signal,
        gate: pace.take,
        ...(kind === 'start' || yields ? { attempts: 2 } : {}),
      });
      const limit = answer.headers['ping-body-limit'];
      if (limit !== undefined && /^\d+$/.test(limit)) bodyLimit = Number(limit);
      // The service answers 200 even if it ignores a ping. Only the text says so.
      const ignored = /\((not found|rate limited)\)/.exec(answer.body)?.[1];
      if (ignored !== undefined) {
        const hint = ignored === 'not found' ? { hint: 'Copy the URL again from the page of the check.' } : {};
        throw later(new LifeboatError('NOTIFY_FAILED', `${url.host} ignored the ping: ${ignored}`, hint));
      }
      return answer;
    },
  };
}

/** Notes that a ping may succeed later. A check that was not found may be created. */
function later(error: LifeboatError): LifeboatError {
  return noteFailure(error, { isRefused: false });
}

/** Returns the URL for one kind of ping. The query of a check's URL stays. */
export function pingUrl(target: PingTarget, kind: PingSignal, rid?: string): URL {
  const url =
    'url' in target
      ? new URL(target.url)
      : new URL(
          `${(target.base ?? HEALTHCHECKS_BASE).replace(/\/+$/, '')}/${encodeURIComponent(target.pingKey)}/${toSlug(target.slug)}`,
        );
  url.hash = '';
  url.pathname = url.pathname.replace(/\/+$/, '') + (kind === 'success' ? '' : `/${kind}`);
  if ('pingKey' in target) url.searchParams.set('create', '1');
  if (rid !== undefined) url.searchParams.set('rid', rid);
  return url;
}

/** Turns a name into a slug. The service accepts a-z, 0-9, hyphen and underscore. */
export function toSlug(name: string): string {
  const slug = name
    .toLowerCase()
    .replace(/[^a-z0-9_]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return slug || 'lifeboat';
}

/**
 * Joins report and log to one redacted body of at most `limit` bytes: the head of the report, and the newest lines of
 * the log that fit.
 */
export function pingBody(report: string, logTail: readonly string[], limit: number): string {
  const head = cutText(redact(report), limit);
  const title = '\n\nlog:\n';
  const room = limit - Buffer.byteLength(head) - Buffer.byteLength(title);
  const clean = logTail.map((line) => oneLine(redact(line)));
  const lines = newestThatFit(clean, room, (line) => Buffer.byteLength(line) + 1);
  return lines.length === 0 ? head : `${head}${title}${lines.join('\n')}\n`;
}

/** Cuts a text to `limit` bytes of UTF-8, never inside a character. A text that was cut ends in `…`, if that fits. */
export function cutText(text: string, limit: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= limit) return text;
  const mark = '…';
  const room = Math.max(0, limit - Buffer.byteLength(mark));
  let end = room;
  // Bytes 10xxxxxx continue a character: step back to where it starts.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  const start = bytes.subarray(0, end).toString('utf8');
  return limit >= Buffer.byteLength(mark) ? start + mark : start;
}

/**
 * Allows `max` takes within any window (milliseconds). A further take waits, or rejects if its signal aborts first.
 *
 * @param now milliseconds; default: a clock that nobody sets back, which would make pings wait
 */
export function createPace(max: number, windowMs: number, now: () => number = () => performance.now()) {
  let taken: number[] = [];
  const used = () => {
    taken = taken.filter((at) => now() - at < windowMs);
    return taken.length;
  };
  return {
    used,
    async take(signal: AbortSignal): Promise<void> {
      while (used() >= max) {
        const wait = (taken[0] ?? 0) + windowMs - now();
        await new Promise<void>((resolve, reject) => {
          const tooMany = () => reject(later(new LifeboatError('NOTIFY_FAILED', `more than ${max} pings a minute`)));
          const timer = setTimeout(() => {
            forget();
            resolve();
          }, wait);
          const forget = onAbort(signal, () => {
            clearTimeout(timer);
            tooMany();
          });
        });
      }
      taken.push(now());
    },
  };
}
