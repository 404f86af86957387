import { setTimeout as sleep } from 'node:timers/promises';

/** How long and how often an S3 server is asked. */
export interface S3Limits {
  /** how often one request is made before it counts as failed */
  attempts: number;
  /** the wait before the second attempt is up to this; it doubles, milliseconds */
  baseDelayMs: number;
  /** the longest such wait, milliseconds */
  maxDelayMs: number;
  /** how long the server may say nothing, milliseconds */
  silenceMs: number;
  /** how slowly what the socket has taken may go on its way, bytes a second, before the line counts as broken */
  slowest: number;
  /** how long nothing may be answered before no further attempt is made, by any request, milliseconds */
  outageMs: number;
  /** how often a server that is down is asked again, milliseconds */
  trialMs: number;
  /** how long a request may still take when the process is to end, milliseconds: enough to give back what is held */
  leftMs: number;
}

/** Some two minutes in all, as a server that is restarted takes, or one that asks to go slower. */
export const S3_LIMITS: S3Limits = {
  attempts: 8,
  baseDelayMs: 500,
  maxDelayMs: 30_000,
  silenceMs: 60_000,
  slowest: 64 * 1024,
  outageMs: 120_000,
  trialMs: 15_000,
  leftMs: 5000,
};

/** What the errors of the SDK have in common. */
export interface S3Failure extends Error {
  code?: unknown;
  $metadata?: { httpStatusCode?: number };
  $response?: unknown;
}

/** The HTTP status of a failed request, where there was an answer. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof Error ? (error as S3Failure).$metadata?.httpStatusCode : undefined;
}

/** Answers that mean: the same request may well go through a moment later. */
const PASSING = new Set([
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'TooManyRequestsException',
  'RequestLimitExceeded',
  'RequestTimeout',
  'RequestTimeTooSkewed',
  'InternalError',
  'ServiceUnavailable',
  'OperationAborted',
  'ConditionalRequestConflict',
]);

/** Answers that mean: the bytes did not arrive as they were sent. */
const MANGLED = new Set(['BadDigest', 'XAmzContentSHA256Mismatch', 'IncompleteBody']);

/** True when the server found that what arrived is not what was sent. */
export function isMangled(error: unknown): boolean {
  return error instanceof Error && MANGLED.has(error.name);
}

/** Failures of the network. Those of a disk begin with an E too. */
const NETWORK = new Set([
  'EADDRNOTAVAIL',
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'ENOBUFS',
  'ENOTCONN',
  'ENOTFOUND',
  'EPIPE',
  'EPROTO',
  'ETIMEDOUT',
]);

/** Certificates and names that are wrong stay wrong. */
const LASTING = /CERT|TLS|SSL|ERR_INVALID/;

/** True for a failure that may pass: of the network, of a server that is busy, of an answer that was cut off. */
export function isPassing(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (PASSING.has(error.name) || isMangled(error)) return true;
  const { code } = error as S3Failure;
  const status = statusOf(error);
  if (status !== undefined) {
    // A good status with an error: the answer could not be read to its end.
    return status < 300 || status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 507);
  }
  if (error.name === 'TimeoutError' || '$response' in error) return true;
  if (typeof code !== 'string') return false;
  return NETWORK.has(code) || (/^(HPE_|ERR_|UND_)/.test(code) && !LASTING.test(code));
}

/**
 * Makes a request until it succeeds, fails for good, has failed `limits.attempts` times, or `isOver`. Between attempts it waits a
 * random part of a time that doubles, so that many who were refused together do not come back together.
 *
 * @throws what the last attempt threw; the signal's reason
 */
export async function withRetries<T>(
  attempt: (number: number) => Promise<T>,
  limits: S3Limits,
  {
    signal,
    passing = isPassing,
    isOver = () => false,
    hurry,
  }: {
    signal?: AbortSignal | undefined;
    passing?: (error: unknown) => boolean;
    isOver?: () => boolean;
    /** ends the wait between attempts */
    hurry?: AbortSignal | undefined;
  } = {},
): Promise<T> {
  for (let number = 1; ; number++) {
    signal?.throwIfAborted();
    try {
      return await attempt(number);
    } catch (error) {
      signal?.throwIfAborted();
      if (number >= limits.attempts || !passing(error) || isOver()) throw error;
      await pause(number, limits, signal, hurry);
    }
  }
}

/** Waits before attempt `number + 1`. Ends early, and without an error, when one of the signals is aborted. */
export async function pause(
  number: number,
  limits: S3Limits,
  ...signals: readonly (AbortSignal | undefined)[]
): Promise<void> {
  const longest = Math.min(limits.maxDelayMs, limits.baseDelayMs * 2 ** (number - 1));
  const wait = longest * (0.5 + Math.random() / 2);
  const signal = AbortSignal.any(signals.filter((one) => one !== undefined));
  await sleep(wait, undefined, { signal }).catch(() => undefined);
}
