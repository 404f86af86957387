/** The reason why a message could not be sent. */
export interface SendFailure {
  /** the other side refuses this message, and will refuse it again */
  isRefused: boolean;
  /** the other side takes no message for this time, milliseconds */
  retryAfterMs?: number | undefined;
}

const known = new WeakMap<object, SendFailure>();

/** Notes what is known about an error of `Channel.send`. Returns the error. */
export function noteFailure<T extends Error>(error: T, failure: SendFailure): T {
  known.set(error, failure);
  return error;
}

/** Returns what is known about an error of `Channel.send`. One that nobody has noted may pass. */
export function failureOf(error: unknown): SendFailure {
  return (error instanceof Error ? known.get(error) : undefined) ?? { isRefused: false };
}
