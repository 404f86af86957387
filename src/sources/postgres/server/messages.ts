/**
 * Matches the lines of an error message where contents of tables or statements begin (libpq docs,
 * PQresultErrorMessage).
 */
const CONTENT = /^(DETAIL|CONTEXT|STATEMENT|QUERY|Command was):|^LINE \d+:|^\[\d+ bytes left out\]/;

/** Matches the first line of a message. */
const MESSAGE =
  /^(\S+: (error|warning|hint|info|fatal|from TOC entry|detail)\b|(ERROR|FATAL|PANIC|HINT|WARNING|NOTICE):|pg_\w+:)/i;

/**
 * Matches the text of ENOSPC and EDQUOT in glibc and in musl, the C library of Alpine ("Disk quota exceeded", "Quota
 * exceeded").
 */
export const NO_SPACE = /No space left on device|\b[Qq]uota exceeded/;

/**
 * Removes the user's data from messages of the Postgres tools: rows in a DETAIL or CONTEXT, and statements, which may
 * hold passwords (CREATE SUBSCRIPTION). Errors appear in records and notifications.
 */
export function withoutContent(stderr: string): string {
  let isMessage = true;
  const lines = stderr.split('\n').filter((line) => {
    if (CONTENT.test(line)) isMessage = false;
    else if (MESSAGE.test(line)) isMessage = true;
    return isMessage;
  });
  return lines.join('\n');
}
