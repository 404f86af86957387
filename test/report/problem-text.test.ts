import { expect, test } from 'vitest';
import { problemLines, problemText, withoutRepeated } from '../../src/report/problem-text.ts';

test.each([
  ['db', 'container shop-db-1 is not running', 'db: container shop-db-1 is not running'],
  ['web.media', 'web.media was backed up before', 'web.media was backed up before'],
  ['web', 'web.media was backed up before', 'web: web.media was backed up before'],
  ['web.media', 'the volume of web.media, and more', 'the volume of web.media, and more'],
  ['web.media', 'no file /srv/web.media', 'web.media: no file /srv/web.media'],
  ['web.media', 'names "web.media" twice', 'web.media: names "web.media" twice'],
  ['shop-db-1', 'container shop-db-1 is not running', 'container shop-db-1 is not running'],
  ['app', 'the volume at /app/media has no name', 'app: the volume at /app/media has no name'],
  ['media', 'the volume at /app/media has no name', 'media: the volume at /app/media has no name'],
  ['volume', 'the volume at /app/media has no name', 'volume: the volume at /app/media has no name'],
  ['the', 'the volume at /app/media has no name', 'the: the volume at /app/media has no name'],
  ['read-only', 'the mount is read-only', 'read-only: the mount is read-only'],
  ['17', 'Postgres 17 does not answer', '17: Postgres 17 does not answer'],
  ['LIFEBOAT_COPY', 'LIFEBOAT_COPY names a file', 'LIFEBOAT_COPY names a file'],
  ['b', 'bäb b', 'b: bäb b'],
  ['', 'nothing answers', 'nothing answers'],
  ['(a+', 'odd', '(a+: odd'],
])('the subject %j is a prefix unless the message is known to name it', (subject, message, text) => {
  expect(problemText({ subject, message })).toBe(text);
});

test('a problem is shown with what another program said, and with what to do', () => {
  const problem = { severity: 'error', code: 'PG_DUMP_FAILED', subject: 'db', message: 'pg_dump failed' } as const;
  expect(problemLines({ ...problem, cause: 'no such table\nDETAIL: x', hint: 'Restore it.' })).toEqual([
    '  ! db: pg_dump failed (PG_DUMP_FAILED)',
    '    cause: no such table DETAIL: x',
    '    hint: Restore it.',
  ]);
});

test('a problem that an error says already is left out', () => {
  const problem = { severity: 'error', code: 'CONTAINER_STOPPED', subject: 'db', message: 'is not running' } as const;
  const { severity: _, subject: __, ...error } = problem;
  expect(withoutRepeated([problem], [undefined, error])).toEqual([]);
  expect(withoutRepeated([problem], [{ ...error, message: 'another' }])).toEqual([problem]);
});
