import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { compareDefinitions, unchanged } from '../../../../src/sources/postgres/definitions/compare-definitions.ts';
import { type Definitions, type Digest, PRIME } from '../../../../src/sources/postgres/definitions/definitions.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

const number = (text: string) => BigInt(`0x${createHash('sha256').update(text).digest('hex').slice(0, 15)}`);

/** Returns the digest of some objects, from their definitions by name, as a server computes it. */
function digest(kind: string, objects: Record<string, string>, schema = 'public'): Digest {
  const all = Object.entries(objects).map(([name, line]) => ({ line: number(`${name} ${line}`), place: number(name) }));
  const sum = (of: (one: (typeof all)[number]) => bigint) =>
    (all.reduce((total, one) => total + of(one), 0n) % PRIME).toString(16);
  return {
    ...{ kind, schema, objects: all.length, sha256: sum(({ line }) => line) },
    sums: { definitions: sum(({ line }) => line), places: sum(({ line, place }) => line * place) },
  };
}
const definitions = (...digests: Digest[]): Definitions => ({ printing: 1, bySchema: true, digests, left: [] });

/** A session in a database that has objects of these names. */
const session = (...names: string[]) =>
  ({
    versionNumber: 170000,
    run: async () => undefined,
    all: async () => names.map((name) => ({ name: `public.${name}`, place: String(number(name)) })),
  }) as unknown as Session;

const NOTHING = { definitions: [], rights: [] };
const TABLES = { a: '(id int)', b: '(id int)', c: '(v text)' };

describe('definitions', () => {
  test('that are equal have no difference', async () => {
    const equal = definitions(digest('tables', TABLES), digest('views', {}));
    expect(await compareDefinitions(session(), equal, equal)).toEqual({ definitions: [], rights: [], left: NOTHING });
  });

  test.each([
    ['changed', { ...TABLES, b: '(id bigint)' }, 'tables in schema public differ from the record: public.b'],
    ['new', { ...TABLES, d: '(id int)' }, 'tables in schema public: 4, recorded 3: public.d'],
    ['missing', { a: TABLES.a, b: TABLES.b }, 'tables in schema public: 2, recorded 3'],
    ['renamed', { a: TABLES.a, b: TABLES.b, d: TABLES.c }, 'tables in schema public differ from the record'],
    ['changed in two', { a: 'x', b: 'y', c: TABLES.c }, 'tables in schema public differ from the record'],
  ])('of which one is %s differ, and it is named if it is there', async (_, now, text) => {
    const recorded = definitions(digest('tables', TABLES));
    const found = await compareDefinitions(session(...Object.keys(now)), recorded, definitions(digest('tables', now)));
    expect(found.definitions).toEqual([text]);
  });

  test('of a kind or schema that only one of both has differ', async () => {
    const [one, other] = [digest('views', { v: 'x' }), digest('views', { v: 'x' }, 'other')];
    const { definitions: found } = await compareDefinitions(session('v'), definitions(one), definitions(other));
    expect(found).toEqual([
      'views in schema public: 0, recorded 1: public.v',
      'views in schema other: 1, recorded 0: public.v',
    ]);
  });

  test('and rights are told apart', async () => {
    const [one, other] = [digest('rights on views', { v: 'x' }), digest('rights on views', { v: 'y' })];
    const found = await compareDefinitions(session('v'), definitions(one), definitions(other));
    expect(found).toEqual({
      definitions: [],
      rights: ['rights on views in schema public differ from the record: public.v'],
      left: NOTHING,
    });
  });

  test('that changed during the dump, or that the server refused, are not compared', async () => {
    const before = definitions(digest('tables', TABLES), digest('views', { v: 'x' }), digest('views', { w: 'x' }, 'b'));
    const after: Definitions = {
      ...definitions(digest('views', { v: 'y' }), digest('views', { w: 'x' }, 'b')),
      left: [
        { kind: 'tables', why: 'refused' },
        { kind: 'rights on tables', why: 'refused' },
        { kind: 'subscriptions', why: 'undumped' },
      ],
    };
    const recorded = unchanged(before, after);
    expect(recorded.digests).toEqual([digest('views', { w: 'x' }, 'b')]);
    const now = definitions(digest('tables', {}), digest('views', { v: 'z' }), digest('views', { w: 'z' }, 'b'));
    expect(await compareDefinitions(session('w'), recorded, now)).toEqual({
      definitions: ['views in schema b differ from the record: public.w'],
      rights: [],
      left: {
        definitions: [
          'tables: the server did not show them, or not in time',
          'subscriptions: not dumped, because the role of the backup is no superuser',
          'views in schema public: changed while the snapshot was made',
        ],
        rights: ['rights on tables: the server did not show them, or not in time'],
      },
    });
  });

  test('that are printed with other parentheses are neither equal nor different', async () => {
    const printed = (text: string) => definitions({ ...digest('policies', { p: 'a AND b OR c' }), printed: text });
    const [one, other] = [printed('x'), printed('y')];
    expect(await compareDefinitions(session('p'), one, one)).toMatchObject({ left: NOTHING });
    expect(await compareDefinitions(session('p'), one, other)).toEqual({
      ...{ definitions: [], rights: [] },
      left: {
        definitions: ['policies in schema public: equal, but some of 1 are printed with other parentheses or casts'],
        rights: [],
      },
    });
    // During a dump, somebody may have changed the parentheses.
    expect(unchanged(one, other)).toMatchObject({ digests: [], left: [{ kind: 'policies', why: 'changed' }] });
  });
});
