import type { DrillCheck } from '../../report/drill-report.ts';
import type { DatabaseFacts } from '../../sources/postgres/facts/facts.ts';
import { equal, noneOf } from './check.ts';

/** Compares what stands outside of a dump of one database: its owner, encoding, settings and grants. */
export function propertyChecks(recorded: DatabaseFacts, now: DatabaseFacts): DrillCheck[] {
  const of = recorded.name;
  const locale = ({ encoding, collate, ctype, provider, locale: name }: DatabaseFacts) =>
    [encoding, collate, ctype, provider, ...(name === undefined ? [] : [name])].join(' ');
  return [
    equal('owner of the database', of, recorded.owner, now.owner),
    equal('encoding and locale', of, locale(recorded), locale(now)),
    noneOf('settings of the database', of, settingDifferences(recorded, now)),
    noneOf('grants on the database', of, grantDifferences(recorded, now)),
  ];
}

/** Names settings without their values, which may be secrets. */
function settingDifferences(recorded: DatabaseFacts, now: DatabaseFacts): string[] {
  const [then, present] = [settingsOf(recorded), settingsOf(now)];
  return [...new Map([...then, ...present]).keys()].flatMap((name) => {
    if (then.get(name) === present.get(name)) return [];
    if (!present.has(name)) return [`${name} is missing`];
    return [then.has(name) ? `${name} has another value than recorded` : `${name} is not in the record`];
  });
}

/** Quotes and spaces in a list of names depend on how a setting was made. */
function settingsOf({ settings, connectionLimit, comment, template }: DatabaseFacts): Map<string, string> {
  const all = settings.flatMap(({ role, config }) =>
    config.map((one): [string, string] => {
      const [name = ''] = one.split('=', 1);
      return [`${name} of ${role ?? 'all roles'}`, one.slice(name.length + 1).replaceAll(/["' ]/g, '')];
    }),
  );
  return new Map([
    ...all,
    ['the connection limit', String(connectionLimit)],
    ...(comment === undefined ? [] : [['the comment', comment] as const]),
    ...(template ? [['IS_TEMPLATE', 'true'] as const] : []),
  ]);
}

function grantDifferences(recorded: DatabaseFacts, now: DatabaseFacts): string[] {
  const [then, present] = [grantsOf(recorded), grantsOf(now)];
  return [
    ...[...then].filter((one) => !present.has(one)).map((one) => `${one} is missing`),
    ...[...present].filter((one) => !then.has(one)).map((one) => `${one} is not in the record`),
  ];
}

/** Writes default grants out (Postgres docs, 5.8), because a restore may store either form. */
function grantsOf({ grants, owner }: DatabaseFacts): Set<string> {
  const to = (grantee: string | null, ...privileges: string[]) =>
    privileges.map((privilege) => ({ grantee, privilege, grantable: false }));
  const all = grants ?? [...to(null, 'TEMPORARY', 'CONNECT'), ...to(owner, 'CREATE', 'TEMPORARY', 'CONNECT')];
  return new Set(
    all.map(
      ({ grantee, privilege, grantable }) =>
        `${privilege} to ${grantee ?? 'PUBLIC'}${grantable && grantee !== owner ? ' with grant option' : ''}`,
    ),
  );
}
