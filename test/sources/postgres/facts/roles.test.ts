import { expect, test } from 'vitest';
import { type RoleFacts, roleDifferences } from '../../../../src/sources/postgres/facts/roles.ts';

const role = (name: string, more: Partial<RoleFacts> = {}): RoleFacts => ({
  ...{ name, attributes: ['INHERIT', 'LOGIN'], connectionLimit: -1, memberOf: [], settings: {} },
  ...more,
});
const team = { group: 'team', admin: false, inherit: true, set: true };

test('roles that are equal have no difference', () => {
  const roles = [role('app', { memberOf: [team], settings: { work_mem: 'a' }, password: true })];
  expect(roleDifferences(roles, structuredClone(roles))).toEqual({ roles: [], memberships: [] });
});

test.each<[string, Partial<RoleFacts>, Partial<RoleFacts>, string]>([
  ['an attribute that was lost', {}, { attributes: ['INHERIT'] }, 'role app has LOGIN no more'],
  ['an attribute that is new', {}, { attributes: ['INHERIT', 'LOGIN', 'SUPERUSER'] }, 'role app has SUPERUSER now'],
  ['a limit', {}, { connectionLimit: 5 }, 'role app has connection limit 5, recorded -1'],
  ['an expiry', { validUntil: 'infinity' }, {}, 'role app is valid until any time, recorded infinity'],
  ['a lost password', { password: true }, { password: false }, 'role app has no password, unlike recorded'],
  ['a setting', { settings: { x: 'a' } }, { settings: { x: 'b' } }, 'setting x of role app differs'],
  ['a setting that is new', {}, { settings: { x: 'b' } }, 'setting x of role app differs'],
  ['rights on parameters', { parameters: 'a' }, {}, 'the rights of role app on parameters of the server differ'],
])('%s is a difference', (_, then, now, text) => {
  expect(roleDifferences([role('app', then)], [role('app', now)]).roles).toEqual([text]);
});

test('memberships are compared in both directions, with their options', () => {
  const then = [role('app', { memberOf: [team] })];
  expect(
    roleDifferences(then, [role('app', { memberOf: [{ ...team, admin: true, set: false }] })]).memberships,
  ).toEqual([
    'role app is a member of team no more',
    'role app is a member of team (ADMIN, no SET), not in the record',
  ]);
});

test('roles that are missing or new are named, apart from the first role of the new server', () => {
  const found = roleDifferences([role('app')], [role('other'), role('postgres', { first: true })]);
  expect(found.roles).toEqual(['role app is missing', 'role other is not in the record']);
});

test('of the first role only the settings are compared, and a password that could not be read is not', () => {
  const first = { first: true as const };
  const then = [role('postgres', { ...first, settings: { x: 'a' } }), role('app')];
  const now = [role('postgres', { ...first, password: true, connectionLimit: 3 }), role('app', { password: true })];
  expect(roleDifferences(then, now).roles).toEqual(['setting x of role postgres differs']);
});
