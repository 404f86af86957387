/** Where content of tables and the text of statements begin in what the tools print of an error (libpq docs, PQresultErrorMessage). */
const CONTENT = /^(DETAIL|CONTEXT|STATEMENT|QUERY|Command was):|^LINE \d+:|^\[\d+ bytes left out\]/;

/** Where the next message begins. */
const MESSAGE =
  /^(\S+: (error|warning|hint|info|fatal|from TOC entry|detail)\b|(ERROR|FATAL|PANIC|HINT|WARNING|NOTICE):|pg_\w+:)/i;

/**
 * What the tools of Postgres print, without what may be the users' own: rows in a DETAIL or CONTEXT, and statements, in which
 * passwords stand (CREATE SUBSCRIPTION). Errors go to records and notifications.
 */
export function withoutContent(stderr: string): string {
  let telling = true;
  const lines = stderr.split('\n').filter((line) => {
    if (CONTENT.test(line)) telling = false;
    else if (MESSAGE.test(line)) telling = true;
    return telling;
  });
  return lines.join('\n');
}
