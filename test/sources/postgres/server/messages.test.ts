import { expect, test } from 'vitest';
import { withoutContent } from '../../../../src/sources/postgres/server/messages.ts';

test('rows and statements are removed from the output of a tool, and the error stays', () => {
  const said = `pg_restore: error: COPY failed for table "users": ERROR:  invalid byte sequence for encoding "UTF8": 0xff
CONTEXT:  COPY users, line 1: "1	ann@example.org
canary"
pg_restore: from TOC entry 3; 1 2 SUBSCRIPTION s postgres
pg_restore: error: could not execute query: ERROR:  could not connect
DETAIL:  Failing row contains (4711, canary).
HINT:  Look at it.
Command was: CREATE SUBSCRIPTION s
    CONNECTION 'password=canary';

pg_restore: error: could not execute query: ERROR:  syntax error
LINE 1: canary
pg_restore: warning: errors ignored on restore: 1
`;
  expect(
    withoutContent(said),
  ).toBe(`pg_restore: error: COPY failed for table "users": ERROR:  invalid byte sequence for encoding "UTF8": 0xff
pg_restore: from TOC entry 3; 1 2 SUBSCRIPTION s postgres
pg_restore: error: could not execute query: ERROR:  could not connect
HINT:  Look at it.
pg_restore: error: could not execute query: ERROR:  syntax error
pg_restore: warning: errors ignored on restore: 1
`);
});

test('output that is not a message of Postgres stays as it is', () => {
  expect(withoutContent('sh: 1: pg_dump: not found\n')).toBe('sh: 1: pg_dump: not found\n');
});
