import type { Parsed } from './values/fields.ts';

/** The credentials of one source in LIFEBOAT_PGCREDENTIALS. */
export interface SourceCredentials {
  /** `db.postgres` */
  source: string;
  user?: string;
  password?: string;
}

const FORM = 'write a line for each source: source:role:password, with \\: and \\\\ for a colon and a backslash';

/**
 * Parses lines `source:role:password`, escaped as in the password file of libpq (Postgres docs, 34.16). Skips blank and
 * # lines.
 */
export function pgCredentials(text: string): Parsed<readonly SourceCredentials[]> {
  const found = new Map<string, SourceCredentials>();
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const fields = line
      .match(/(?:^|:)(?:\\.|[^:\\])*/g)
      ?.map((field, n) => unescaped(n === 0 ? field : field.slice(1)));
    const [source = '', user, password] = fields ?? [];
    const whole = fields?.length === 3;
    const wrong = (problem: string) => ({ problem: `has a line ${i + 1} that ${problem}`, hint: FORM });
    if (!whole || /(^|[^\\])(\\\\)*\\$/.test(line)) return wrong('does not have three parts');
    if (!/^[a-z0-9][a-z0-9_.-]*$/.test(source.trim())) return wrong('does not begin with the name of a source');
    if (!user && !password) return wrong('has neither a role nor a password');
    if (found.has(source.trim())) return wrong('names a source for the second time');
    const credentials = { ...(user ? { user } : {}), ...(password ? { password } : {}) };
    found.set(source.trim(), { source: source.trim(), ...credentials });
  }
  return { value: [...found.values()] };
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/gs, '$1');
}
