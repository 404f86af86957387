/** Returns the SQLSTATE of an error from the server, five characters; undefined for other errors. */
export function sqlState(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause as Error) {
    if ('code' in e && typeof e.code === 'string' && /^[0-9A-Z]{5}$/.test(e.code) && 'severity' in e) return e.code;
  }
  return undefined;
}

/** Returns the message of an error from the server; undefined for other errors. */
export function serverWords(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause as Error) if ('severity' in e) return e.message;
  return undefined;
}
