/** The format of all JSON documents. Later versions add members, and raise it if they remove or change one. */
const FORMAT = 1;

/** Returns a JSON document with its format, which is also in place of a member of that name: a manifest has one. */
export function asDocument<T extends object>(value: T): T & { format: typeof FORMAT } {
  // At the top for readers, and again because the members of the value come after it.
  return Object.assign({ format: FORMAT }, value, { format: FORMAT } as const);
}
