import type { Parsed } from './values/fields.ts';

/** What LIFEBOAT_PGCREDENTIALS says of one source. */
export interface SourceCredentials {
  /** `db.postgres` */
  source: string;
  user?: string;
  password?: string;
}

const FORM = 'write a line for each source: source:role:password, with \\: and \\\\ for a colon and a backslash';

/** Lines `source:role:password`, escaped as in the password file of libpq (Postgres docs, 34.16). Blank lines and # lines are passed over. */
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
    if (!/^[a-z0-9][a-z0-9_.-]*$/.test(source.trim())) return wrong('begins with no name of a source');
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
