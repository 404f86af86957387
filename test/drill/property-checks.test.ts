import { describe, expect, test } from 'vitest';
import { propertyChecks } from '../../src/drill/checks/property-checks.ts';
import type { DatabaseFacts } from '../../src/sources/postgres/facts/facts.ts';

const shop = (more: Partial<DatabaseFacts> = {}) =>
  ({
    ...{
      name: 'shop',
      owner: 'app',
      encoding: 'UTF8',
      collate: 'C',
      ctype: 'C',
      provider: 'libc',
      connectionLimit: -1,
    },
    ...{ settings: [{ role: null, config: ['work_mem=7MB', 'search_path=a, "b"'] }], grants: null },
    ...more,
  }) as DatabaseFacts;
const grant = (grantee: string | null, privilege: string, grantable = false) => ({
  ...{ grantor: 'app', grantee, privilege, grantable },
});
const DEFAULT = [
  ...['TEMPORARY', 'CONNECT'].map((one) => grant(null, one)),
  ...['CREATE', 'TEMPORARY', 'CONNECT'].map((one) => grant('app', one)),
];
const differences = (then: DatabaseFacts, now: DatabaseFacts) =>
  propertyChecks(then, now).flatMap((check) => check.differences ?? []);

describe('the properties of a database', () => {
  test('are equal with default grants in either form, and lists in either spelling', () => {
    const now = shop({
      grants: DEFAULT.toReversed(),
      settings: [{ role: null, config: ["search_path='a',b", 'work_mem=7MB'] }],
    });
    expect(differences(shop(), now)).toEqual([]);
    expect(differences(now, shop())).toEqual([]);
  });

  test.each<[string, Partial<DatabaseFacts>, Partial<DatabaseFacts>, string]>([
    [
      'another value',
      {},
      { settings: [{ role: null, config: ['work_mem=8MB', 'search_path=a, "b"'] }] },
      'work_mem of all roles has another value than recorded',
    ],
    ['a lost setting', { settings: [{ role: 'web', config: ['x=1'] }] }, { settings: [] }, 'x of web is missing'],
    [
      'a new setting',
      { settings: [] },
      { settings: [{ role: 'web', config: ['x=1'] }] },
      'x of web is not in the record',
    ],
    ['a limit', {}, { connectionLimit: 5 }, 'the connection limit has another value than recorded'],
    ['a comment', { comment: 'a' }, {}, 'the comment is missing'],
    [
      'a surviving CONNECT for PUBLIC',
      { grants: DEFAULT.slice(2) },
      { grants: DEFAULT.slice(1) },
      'CONNECT to PUBLIC is not in the record',
    ],
    ['default grants that were revoked', { grants: DEFAULT.slice(1) }, {}, 'TEMPORARY to PUBLIC is not in the record'],
    ['a lost grant', { grants: [...DEFAULT, grant('web', 'CREATE')] }, {}, 'CREATE to web is missing'],
  ])('differ by %s', (_, then, now, text) => {
    expect(differences(shop(then), shop(now))).toEqual([text]);
  });

  test('differ by a lost grant option', () => {
    const then = shop({ grants: [...DEFAULT, grant('web', 'CREATE', true)] });
    expect(differences(then, shop({ grants: [...DEFAULT, grant('web', 'CREATE')] }))).toEqual([
      'CREATE to web with grant option is missing',
      'CREATE to web is not in the record',
    ]);
  });
});
