import type { ErrorInfo } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import type { CapturedDatabase } from '../../source.ts';

/** The most databases that an error names. */
const NAMED = 10;
/** The most characters of each cause if there are several. */
const CAUSE_LENGTH = 300;

/**
 * Returns why a server is only partly stored; undefined when all of its databases are stored. The code is that of the
 * first missing database.
 *
 * @param lastStored returns the last snapshot that holds a database of that name, if any
 */
export function missingError(
  databases: readonly CapturedDatabase[],
  lastStored: (name: string) => string | undefined,
): ErrorInfo | undefined {
  const missing = databases.flatMap(({ name, error, closed }) => (error && !closed ? [{ name, error }] : []));
  const [first] = missing;
  if (!first) return undefined;
  const { code, message, hint } = first.error;
  const cause = causeOf(missing);
  const named = missing.slice(0, NAMED).map(({ name, error }) => `${name} (${error.message}, ${error.code})`);
  const more = missing.length > NAMED ? [`${missing.length - NAMED} more`] : [];
  const text =
    missing.length === 1
      ? `database ${first.name} is not stored: ${message}`
      : `${missing.length} of ${plural(databases.filter(({ closed }) => !closed).length, 'database')} are not stored: ${[...named, ...more].join(', ')}`;
  const where = missing.slice(0, NAMED).map(({ name }) => {
    const snapshot = lastStored(name);
    return snapshot === undefined
      ? `No snapshot holds ${name}.`
      : `Snapshot ${snapshot} is the last that holds ${name}.`;
  });
  return {
    code,
    message: text,
    ...(cause === undefined ? {} : { cause }),
    hint: [...(hint === undefined ? [] : [hint]), 'The other databases are stored.', ...where].join(' '),
  };
}

/** Returns the cause of a single database unchanged, or the shortened causes of several. */
function causeOf(missing: readonly { name: string; error: ErrorInfo }[]): string | undefined {
  if (missing.length === 1) return missing[0]?.error.cause;
  const causes = missing
    .slice(0, NAMED)
    .flatMap(({ name, error: { cause } }) => (cause ? [`${name}: ${shorten(cause)}`] : []));
  return causes.length > 0 ? causes.join('; ') : undefined;
}

function shorten(text: string): string {
  return text.length > CAUSE_LENGTH ? `${text.slice(0, CAUSE_LENGTH)}…` : text;
}
