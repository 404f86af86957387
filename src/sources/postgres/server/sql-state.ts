/** The five-letter SQLSTATE of an error from the server, or undefined. */
export function sqlState(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause as Error) {
    if ('code' in e && typeof e.code === 'string' && /^[0-9A-Z]{5}$/.test(e.code) && 'severity' in e) return e.code;
  }
  return undefined;
}

/** What a server answered a statement that it refused; undefined for an error that is no answer of the server. */
export function serverWords(error: unknown): string | undefined {
  for (let e = error; e instanceof Error; e = e.cause as Error) if ('severity' in e) return e.message;
  return undefined;
}
