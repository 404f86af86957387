import { NAME_LIMIT } from '../load/load-plan.ts';

/**
 * The name of something that belongs to a table, when the table is called `to` instead of `from`: `orders_pkey` becomes
 * `orders_then_pkey`, and what does not begin with the table's name gets it in front. May be too long: see {@link freeName}.
 */
export function derivedName(name: string, from: string, to: string): string {
  return name.startsWith(from) ? to + name.slice(from.length) : `${to}_${name}`;
}

/** `name`, cut on a character border to what Postgres keeps, with a number behind it when it is taken. */
export function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 0; ; number++) {
    const suffix = number === 0 ? '' : `_${number}`;
    const characters = [...name];
    while (Buffer.byteLength(characters.join('') + suffix) > NAME_LIMIT) characters.pop();
    const candidate = characters.join('') + suffix;
    if (!taken.has(candidate)) return candidate;
  }
}
