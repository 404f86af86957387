import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { PRINTING, readDefinitions } from '../../../../src/sources/postgres/definitions/definitions.ts';
import { LINES } from '../../../../src/sources/postgres/definitions/lines.ts';
import { LEFT_OUT } from '../../../../src/sources/postgres/definitions/own.ts';
import { asPrinted, plain } from '../../../../src/sources/postgres/definitions/parts.ts';
import { careFor } from '../../../../src/sources/postgres/load/extensions.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

test('the lines of objects are those of the recorded printing', () => {
  const versions = [130000, 140000, 150000, 160000, 170000, 180000];
  const queries = Object.entries(LINES).map(([kind, lines]) => [kind, ...versions.map(lines)]);
  const hash = createHash('sha256').update(JSON.stringify(queries)).digest('hex').slice(0, 16);
  // If the line of any object has changed, raise PRINTING: older snapshots would differ from what they hold.
  expect([PRINTING, hash]).toEqual([2, 'f235983b653e693f']);
});

/** Removes what the server removes: the pattern means the same to both. */
function removed(text: string): string {
  const [, pattern = ''] = /^regexp_replace\(x, '(.*)', '\\1', 'g'\)$/.exec(plain('x')) ?? [];
  return text.replaceAll(new RegExp(pattern.replaceAll("''", "'"), 'g'), '$1');
}

test.each([
  ["((v)::text = ANY ((ARRAY['a'::character varying])::text[]))", "v=ANYARRAY['a']"],
  ["(v = 'a (b)::text c'::text)", "v='a (b)::text c'"],
  [`(("a (b)" = 'it''s )'::"My type") AND c)`, `"a (b)"='it''s )'ANDc`],
  ["(t > '2026-01-01 00:00:00'::timestamp(3) with time zone)", "t>'2026-01-01 00:00:00'"],
])('the line of %s keeps its literals, without parentheses and casts', (printed, line) => {
  expect(removed(printed)).toBe(line);
});

test('lines with expressions are read as they are printed, too', () => {
  const [policies, schemas] = [LINES.policies?.(170000) ?? '', LINES.schemas?.(170000) ?? ''];
  expect(asPrinted(policies)?.split('$^')).toHaveLength(policies.split('regexp_replace').length);
  expect(asPrinted(schemas)).toBeUndefined();
});

test('what a restore leaves out with an extension is in no line', () => {
  const versions = [130000, 180000];
  for (const { extension, schema } of LEFT_OUT) {
    const care = careFor({ name: 'app', extensions: [{ name: extension, version: '1', schema: 'public' }] }, 1);
    expect(care.leftOut).toEqual([{ extension, schema }]);
    for (const kind of ['schemas', 'tables', 'functions', 'comments', 'default privileges', 'rights on tables'])
      for (const version of versions) {
        expect(LINES[kind]?.(version)).toContain(`= '${schema}'`);
        expect(LINES[kind]?.(version)).toContain(`extname = '${extension}'`);
      }
    expect(LINES.comments?.(170000)).toContain(`type = 'extension' AND o.identity = '${extension}'`);
  }
});

/** A database with one subscription. */
const subscribed = (superuser: boolean) =>
  ({
    versionNumber: 170000,
    run: async () => undefined,
    one: async () => ({ schemas: 1, superuser }),
    all: async (sql: string) =>
      sql.includes('FROM pg_subscription s')
        ? [{ schema: null, objects: 1, sha256: 'a', definitions: '1', places: '1' }]
        : [],
  }) as unknown as Session;

test('subscriptions, which only a superuser can dump, are not compared otherwise', async () => {
  expect(await readDefinitions(subscribed(true))).toMatchObject({ digests: [{ kind: 'subscriptions' }], left: [] });
  expect(await readDefinitions(subscribed(false))).toMatchObject({
    digests: [],
    left: [{ kind: 'subscriptions', why: 'undumped' }],
  });
});
