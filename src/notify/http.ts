import type { Agent, IncomingMessage, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { LifeboatError } from '../base/errors.ts';
import { redact, registerSecret } from '../base/redact.ts';
import { oneLine } from '../report/format.ts';
import { noteFailure } from './failure.ts';

/** Larger bodies are refused before anything is sent. Bytes. */
const MAX_REQUEST = 1024 * 1024;
/** Only this much of an answer is read. Bytes. */
const MAX_ANSWER = 64 * 1024;
/**
 * Limits of the pause between attempts unless the server names one, in milliseconds. The first is at most RETRY_BASE.
 */
const RETRY_BASE = 500;
const RETRY_MAX = 5_000;

/** The answers below 500 after which the same request may succeed: timeout, too early, too many requests. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429]);

/** One POST. */
export interface PostRequest {
  url: URL;
  body: string;
  contentType: string;
  /** more headers, lower case; they may contain secrets */
  headers?: Readonly<Record<string, string>> | undefined;
  signal: AbortSignal;
  /** the largest number of attempts; default: that of the poster */
  attempts?: number;
  /** awaited before each attempt; a rejection ends the request */
  gate?: (signal: AbortSignal) => Promise<void>;
}

/** The server's answer. Header names are lower case. */
export interface PostAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** Sends a POST with time limits and retries. Resolves only for 2xx. Otherwise rejects with NOTIFY_FAILED. */
export type Post = (request: PostRequest) => Promise<PostAnswer>;

/** Options of {@link createPost}; times in milliseconds. */
interface PostOptions {
  attempts?: number;
  /** one attempt */
  attemptMs?: number;
  /** all attempts and pauses; below the dispatcher's limit, so that the error names the cause */
  limitMs?: number;
  random?: () => number;
  /** waits between attempts; rejects when the signal aborts */
  sleep?: (ms: number, signal: AbortSignal) => Promise<unknown>;
}

/**
 * Creates a poster. It retries (with full jitter) after network errors, 429 and 5xx, and honours
 * `Retry-After` within its limit. An answer can be lost, so a message may in rare cases arrive twice. HTTP_PROXY,
 * HTTPS_PROXY and NO_PROXY apply. Redirects are not followed. A URL is a secret here, so errors name only its host.
 */
export function createPost({
  attempts = 4,
  attemptMs = 8_000,
  limitMs = 25_000,
  random = Math.random,
  sleep = (ms, signal) => delay(ms, undefined, { signal }),
}: PostOptions = {}): Post {
  return async (request) => {
    const deadline = Date.now() + limitMs;
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(limitMs)]);
    if (Buffer.byteLength(request.body) > MAX_REQUEST) {
      const error = new LifeboatError('NOTIFY_FAILED', `the message for ${request.url.host} is larger than 1 MiB`);
      throw noteFailure(error, { isRefused: true });
    }
    const tries = request.attempts ?? attempts;
    for (let attempt = 1; ; attempt++) {
      await request.gate?.(signal);
      const outcome = await attemptPost(request, AbortSignal.any([signal, AbortSignal.timeout(attemptMs)]));
      if ('answer' in outcome) return outcome.answer;
      if (signal.aborted || !outcome.again || attempt >= tries) throw outcome.error;
      const pause = outcome.retryAfterMs ?? random() * Math.min(RETRY_MAX, RETRY_BASE * 2 ** (attempt - 1));
      if (Date.now() + pause >= deadline) throw outcome.error;
      // If the wait is aborted, the server's last answer says more than "aborted".
      await sleep(pause, signal).catch(() => {
        throw outcome.error;
      });
    }
  };
}

type Outcome = { answer: PostAnswer } | { error: LifeboatError; again: boolean; retryAfterMs?: number };

async function attemptPost(
  { url, body, contentType, headers: more }: PostRequest,
  signal: AbortSignal,
): Promise<Outcome> {
  const host = url.host;
  try {
    const response = await open(url, { body, contentType, headers: more, signal });
    const text = await readSome(response);
    const { statusCode: status = 0, headers } = response;
    const answer = { status, headers: flat(headers), body: text };
    if (status >= 200 && status < 300) return { answer };
    const said = scrub(text, url).slice(0, 100);
    const error = new LifeboatError('NOTIFY_FAILED', `${host} answered ${status}${said ? `: ${said}` : ''}`, {
      ...hintFor(status),
    });
    // A pause of 0 asks for nothing.
    const retryAfterMs =
      (parseRetryAfter(answer.headers['retry-after'], Date.now()) ?? retryAfterIn(text)) || undefined;
    const again = PASSING.has(status) || status >= 500;
    noteFailure(error, { isRefused: !again, ...(again ? { retryAfterMs } : {}) });
    return { error, again, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  } catch (error) {
    const why = signal.aborted ? 'no answer in time' : networkReason(error, url);
    const failed = new LifeboatError('NOTIFY_FAILED', `no message could be sent to ${host}: ${why}`);
    return { error: noteFailure(failed, { isRefused: false }), again: true };
  }
}

/** Sends the request. Resolves to the answer, whose body is still to be read. The signal ends both. */
function open(
  url: URL,
  { body, contentType, headers: more, signal }: Pick<PostRequest, 'body' | 'contentType' | 'headers' | 'signal'>,
): Promise<IncomingMessage> {
  const { target, headers } = withoutUserinfo(url);
  const { request, agent } = clientFor(url.protocol);
  const options = {
    method: 'POST',
    agent,
    headers: { 'content-type': contentType, 'user-agent': 'lifeboat', ...headers, ...more },
    signal,
  };
  return new Promise((resolve, reject) => {
    request(target, options, resolve).on('error', reject).end(body);
  });
}

/** The modules are not imported: that also loads a second HTTP client, which takes 60 ms of processor time. */
function clientFor(protocol: string): { request: typeof request; agent: Agent } {
  const options = { proxyEnv: process.env };
  const { request, Agent } = process.getBuiltinModule('node:http');
  if (protocol === 'http:') return { request, agent: new Agent(options) };
  const secure = process.getBuiltinModule('node:https');
  return { request: secure.request, agent: new secure.Agent(options) };
}

function hintFor(status: number): { hint?: string } {
  if (status >= 300 && status < 400) return { hint: 'Redirects are not followed: set the final URL.' };
  if (status === 404 || status === 410 || status === 403)
    return { hint: 'Check that the URL is complete and was not revoked.' };
  return {};
}

async function readSome(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= MAX_ANSWER) break;
  }
  return Buffer.concat(chunks).subarray(0, MAX_ANSWER).toString('utf8');
}

function flat(headers: NodeJS.Dict<string | string[]>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

/** `https://user:password@host/` is allowed, and so is a bare `%` in it, which Node refuses. */
function withoutUserinfo(url: URL): { target: URL; headers: Record<string, string> } {
  if (url.username === '' && url.password === '') return { target: url, headers: {} };
  const target = new URL(url);
  target.username = '';
  target.password = '';
  const pair = `${decoded(url.username)}:${decoded(url.password)}`;
  return { target, headers: { authorization: `Basic ${Buffer.from(pair).toString('base64')}` } };
}

/** `Retry-After` as milliseconds from `now`: seconds or an HTTP date (RFC 9110, 10.2.3). */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value.trim())) return Number(value) * 1_000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

const retryAnswer = z.object({
  retry_after: z.number().nonnegative().optional(),
  parameters: z.object({ retry_after: z.number().nonnegative() }).partial().optional(),
});

/** The pause in the JSON of an answer, in seconds there: Discord `retry_after`, Telegram `parameters.retry_after`. */
function retryAfterIn(text: string): number | undefined {
  if (!text.includes('retry_after')) return undefined;
  try {
    const { data } = retryAnswer.safeParse(JSON.parse(text));
    const seconds = data?.retry_after ?? data?.parameters?.retry_after;
    return seconds === undefined ? undefined : seconds * 1_000;
  } catch {
    return undefined;
  }
}

/** Says why a connection failed, without the parts of the error that contain the request. */
function networkReason(error: unknown, url: URL): string {
  if (!(error instanceof Error)) return 'unknown error';
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  // For a host with several addresses, Node throws an AggregateError without a message of its own.
  const inner = error instanceof AggregateError ? error.errors.find((e) => e instanceof Error) : undefined;
  const message = scrub(error.message || (inner instanceof Error ? inner.message : ''), url);
  return [message, message.includes(code) ? '' : code].filter(Boolean).join(' ') || error.name;
}

/** Hides secrets and the URL itself in the words of a server or library. */
function scrub(text: string, url: URL): string {
  let result = redact(text);
  for (const part of [url.href, url.pathname + url.search, url.pathname]) {
    if (part.length > 1) result = result.replaceAll(part, '[url]');
  }
  return oneLine(result);
}

/** Path segments and query values of at least this length count as tokens. */
const TOKEN_LENGTH = 16;

/**
 * Reads a URL from the settings and registers it as a secret, with its password and the long parts of its path and
 * query. Throws SETTING_INVALID, naming the setting and never the value.
 */
export function secretUrl(value: string, setting: string): URL {
  const url = URL.parse(value.trim());
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new LifeboatError('SETTING_INVALID', `${setting} is not an http or https URL`);
  }
  registerSecret(value.trim());
  registerSecret(url.href);
  const tokens = [...url.pathname.split('/'), ...url.searchParams.values()].filter(
    (part) => part.length >= TOKEN_LENGTH,
  );
  for (const secret of [url.password, ...tokens]) if (secret !== '') registerSecret(decoded(secret));
  if (url.password !== '') registerSecret(`${decoded(url.username)}:${decoded(url.password)}`);
  return url;
}

/** Percent-decodes a text if possible. A URL may contain a bare `%`. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
