import { setTimeout as sleep } from 'node:timers/promises';
import { isNotS3, NOT_S3 } from './not-s3.ts';

/** The limits of requests to an S3 server. */
export interface S3Limits {
  /** attempts before a request counts as failed */
  attempts: number;
  /** the longest wait before the second attempt, milliseconds; doubles with each attempt */
  baseDelayMs: number;
  /** the longest wait before any attempt, milliseconds */
  maxDelayMs: number;
  /** how long the server may be silent, milliseconds */
  silenceMs: number;
  /**
   * the slowest rate at which buffered bytes may leave the socket before the connection counts as broken, bytes per
   * second
   */
  slowest: number;
  /** how long the server may answer nothing before all requests stop retrying, milliseconds */
  outageMs: number;
  /** how often a server that is down is tried again, milliseconds */
  trialMs: number;
  /** time limit of a request after shutdown has begun, milliseconds: enough to release leases */
  leftMs: number;
}

/** About two minutes in total: the time that a server takes to restart, or asks clients to wait. */
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

/** Attempts, over a few seconds, if something other than an S3 server answers: usually its address is wrong. */
const NOT_S3_ATTEMPTS = 5;

/** The common properties of SDK errors. */
export interface S3Failure extends Error {
  code?: unknown;
  $metadata?: { httpStatusCode?: number };
  $response?: unknown;
}

/** Returns the HTTP status of a failed request; undefined if there was no response. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof Error ? (error as S3Failure).$metadata?.httpStatusCode : undefined;
}

/** Error names that mean: the same request may succeed a moment later. */
const PASSING = new Set([
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'TooManyRequestsException',
  'RequestLimitExceeded',
  'RequestTimeout',
  'InternalError',
  'ServiceUnavailable',
  'OperationAborted',
  'ConditionalRequestConflict',
  NOT_S3,
]);

/**
 * Returns true if the server's clock differs from the one that signed the request. The SDK corrects its clock from this
 * response, so a second attempt succeeds or none does.
 */
function isSkewed(error: unknown): boolean {
  return error instanceof Error && error.name === 'RequestTimeTooSkewed';
}

/** Error names that mean: the bytes did not arrive as they were sent. */
const MANGLED = new Set(['BadDigest', 'XAmzContentSHA256Mismatch', 'IncompleteBody']);

/** Returns true if the server found that the bytes that arrived differ from the bytes sent. */
export function isMangled(error: unknown): boolean {
  return error instanceof Error && MANGLED.has(error.name);
}

/** Network failures. The codes of disk errors begin with an E too. */
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

/** Wrong certificates and names do not go away. */
const LASTING = /CERT|TLS|SSL|ERR_INVALID/;

/** Returns true for failures that may be transient: of the network, of a busy server, of an interrupted response. */
export function isPassing(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (PASSING.has(error.name) || isMangled(error)) return true;
  const { code } = error as S3Failure;
  const status = statusOf(error);
  if (status !== undefined) {
    // A success status with an error: the response could not be read to its end.
    return status < 300 || status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 507);
  }
  if (error.name === 'TimeoutError' || '$response' in error) return true;
  if (typeof code !== 'string') return false;
  return NETWORK.has(code) || (/^(HPE_|ERR_|UND_)/.test(code) && !LASTING.test(code));
}

/**
 * Makes a request until it succeeds, fails for good, has failed `limits.attempts` times, or `isOver` returns true.
 * Between attempts, waits a random part of a time that doubles, so that clients that were refused together do not
 * return together.
 *
 * @throws the error of the last attempt; the signal's reason
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
      const again = passing(error) || (number === 1 && isSkewed(error));
      const most = isNotS3(error) ? Math.min(NOT_S3_ATTEMPTS, limits.attempts) : limits.attempts;
      if (number >= most || !again || isOver()) throw error;
      await pause(number, limits, signal, hurry);
    }
  }
}

/** Waits before attempt `number + 1`. Ends early, without an error, if one of the signals aborts. */
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
