import { NAME_LIMIT } from '../load/load-plan.ts';

/**
 * Derives the name of an object that belongs to a table when the table is renamed: `orders_pkey` becomes
 * `orders_then_pkey`, and a name that does not begin with the table's name gets it as a prefix. The result may be too
 * long, see {@link freeName}.
 */
export function derivedName(name: string, from: string, to: string): string {
  return name.startsWith(from) ? to + name.slice(from.length) : `${to}_${name}`;
}

/** Returns `name`, cut at a character to the longest name of Postgres, with a number added if it is taken. */
export function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 0; ; number++) {
    const suffix = number === 0 ? '' : `_${number}`;
    const characters = [...name];
    while (Buffer.byteLength(characters.join('') + suffix) > NAME_LIMIT) characters.pop();
    const candidate = characters.join('') + suffix;
    if (!taken.has(candidate)) return candidate;
  }
}
