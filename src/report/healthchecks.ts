import { onAbort } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';
import { redact, registerSecret } from '../base/redact.ts';
import { overall, type RunStart } from './events.ts';
import { newestThatFit, oneLine } from './format.ts';
import { createPost, type Post, type PostAnswer } from './http.ts';
import type { Notifier } from './notifier.ts';
import { restoreHeadline, restoreLines } from './restore-text.ts';
import { headline, renderReport } from './text.ts';

/** Where healthchecks.io keeps the ping endpoints; a self-hosted server has its own. */
const HEALTHCHECKS_BASE = 'https://hc-ping.com';

/**
 * What is pinged: a check's own URL, or a project's ping key and a slug, with which the server makes the check at the
 * first ping. Protocol: https://healthchecks.io/docs/http_api/
 */
type PingTarget = { url: URL } | { pingKey: string; slug: string; base?: string | undefined };

/** `log` is kept with the check and changes nothing about its status. */
type PingSignal = 'start' | 'success' | 'fail' | 'log';

/** Body size where the server does not say, bytes. */
const DEFAULT_BODY_LIMIT = 10_000;
/** The service's limit per check. */
const PINGS_A_MINUTE = 5;
/** How many of those a start may use, retries counted: the result needs the rest. */
const STARTS_A_MINUTE = 3;

/** Options of {@link createHealthchecks}. */
interface HealthchecksOptions {
  target: PingTarget;
  project: string;
  zone?: string | undefined;
  post?: Post;
  now?: () => number;
}

/**
 * Pings a check at the start and end of every run, whatever LIFEBOAT_NOTIFY says: a dead-man's switch needs all of them.
 * A run that is only partly well counts as failed, and so does a good one while a source that it left out is not well: a
 * success would end an alarm whose reason is still there. A failure that is tried again is a log entry: the last try
 * decides.
 */
export function createHealthchecks(options: HealthchecksOptions): Notifier {
  const { target, project, zone, post = createPost(), now = Date.now } = options;
  if ('pingKey' in target) registerSecret(target.pingKey);
  const pace = createPace(PINGS_A_MINUTE, 60_000, now);
  let bodyLimit = DEFAULT_BODY_LIMIT;

  async function ping(
    kind: PingSignal,
    rid: string | undefined,
    body: string,
    signal: AbortSignal,
  ): Promise<PostAnswer> {
    const url = pingUrl(target, kind, rid);
    const answer = await post({
      url,
      body,
      contentType: 'text/plain; charset=utf-8',
      signal,
      gate: pace.take,
      ...(kind === 'start' ? { attempts: 2 } : {}),
    });
    const limit = answer.headers['ping-body-limit'];
    if (limit !== undefined && /^\d+$/.test(limit)) bodyLimit = Number(limit);
    // The service answers 200 also when it ignores a ping, and says so only in the text.
    const ignored = /\((not found|rate limited)\)/.exec(answer.body)?.[1];
    if (ignored !== undefined) {
      const hint = ignored === 'not found' ? { hint: 'Copy the URL again from the page of the check.' } : {};
      throw new LifeboatError('NOTIFY_FAILED', `${url.host} ignored the ping: ${ignored}`, hint);
    }
    return answer;
  }

  return {
    name: 'healthchecks',
    async handle(event, signal) {
      if (event.type === 'run-started') {
        if (pace.used() >= STARTS_A_MINUTE) return;
        await ping('start', event.run.rid, cutText(startText(event.run), bodyLimit), signal);
      } else if (event.type === 'run-finished') {
        const { report } = event;
        const text = `${headline(report)}\n${renderReport(report, { now: new Date(now()), zone, failedFirst: true })}`;
        const kind = report.retry?.quiet ? 'log' : overall(report) === 'ok' ? 'success' : 'fail';
        await ping(kind, report.rid, pingBody(text, report.logTail, bodyLimit), signal);
      } else if (event.type === 'restore-finished') {
        // A restore says nothing about whether backups are made: it is only noted with the check.
        const text = [restoreHeadline(event.report), ...restoreLines(event.report)].join('\n');
        await ping('log', undefined, cutText(redact(text), bodyLimit), signal);
      }
    },
    async test(signal) {
      const text = `${project}: test message from Lifeboat, no backup was made`;
      const answer = await ping('log', undefined, text, signal);
      const made = answer.status === 201 ? ', and made the check' : '';
      return `${pingUrl(target, 'log').host} took a log entry${made}; the check's status is unchanged`;
    },
  };
}

/** The URL for one kind of ping; query and trailing slash of a check's own URL are kept in order. */
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

/** A name as a slug: the service takes a-z, 0-9, hyphen and underscore. */
export function toSlug(name: string): string {
  const slug = name
    .toLowerCase()
    .replace(/[^a-z0-9_]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return slug || 'lifeboat';
}

function startText(run: RunStart): string {
  return redact(`${oneLine(run.project)}: backup started (${run.trigger}), run ${run.id}`);
}

/**
 * Report and log as one body of at most `limit` bytes: of the report the head is kept, of the log the newest lines that
 * fit. Both must be redacted, or are here.
 */
export function pingBody(report: string, logTail: readonly string[], limit: number): string {
  const head = cutText(redact(report), limit);
  const title = '\n\nlog:\n';
  const room = limit - Buffer.byteLength(head) - Buffer.byteLength(title);
  const clean = logTail.map((line) => oneLine(redact(line)));
  const lines = newestThatFit(clean, room, (line) => Buffer.byteLength(line) + 1);
  return lines.length === 0 ? head : `${head}${title}${lines.join('\n')}\n`;
}

/** Cuts a text to `limit` bytes of UTF-8 without splitting a character; what was cut is marked by `…` where it fits. */
export function cutText(text: string, limit: number): string {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length <= limit) return text;
  const mark = '…';
  const room = Math.max(0, limit - Buffer.byteLength(mark));
  let end = room;
  // Bytes 10xxxxxx continue a character: step back to where it starts.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  const kept = bytes.subarray(0, end).toString('utf8');
  return limit >= Buffer.byteLength(mark) ? kept + mark : kept;
}

/** Allows `max` takes in any window (ms); a take beyond waits for room, or rejects when its signal aborts first. */
export function createPace(max: number, windowMs: number, now: () => number = Date.now) {
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
          const tooMany = () => reject(new LifeboatError('NOTIFY_FAILED', `more than ${max} pings a minute`));
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
