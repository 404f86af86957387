import type { DrillCheck } from '../../report/drill-report.ts';
import { plural } from '../../report/format.ts';
import type { DatabaseFacts, PostgresFacts } from '../../sources/postgres/facts/facts.ts';
import { type Membership, roleOfStatement, splitStatements } from '../../sources/postgres/facts/globals-statements.ts';
import { type RoleFacts, readRoleFacts, roleDifferences } from '../../sources/postgres/facts/roles.ts';
import { readMemberships } from '../../sources/postgres/load/globals.ts';
import type { Session } from '../../sources/postgres/server/session.ts';
import { noneOf } from './check.ts';

/** The inputs of the comparison of roles. */
interface Roles {
  control: Session;
  facts: PostgresFacts;
  /** `globals.sql` of the snapshot; undefined if it has none */
  globals: string | undefined;
}

const OF = 'server';

/**
 * Compares the roles and memberships of a restored server with the record. A snapshot of an older agent records
 * neither attributes nor settings, and another major version has other attributes: then only the names are compared.
 */
export async function roleChecks({ control, facts, globals }: Roles): Promise<DrillCheck[]> {
  if (globals === undefined) return ['roles', 'memberships'].map((name) => skipped(name, 'the snapshot has no roles'));
  const { roles, server } = facts;
  const isSame = Math.floor(server.versionNumber / 10_000) === Math.floor(control.versionNumber / 10_000);
  if (roles && isSame) return compareRoles(roles, await readRoleFacts(control));
  const why = roles
    ? 'the server has another major version than the recorded one'
    : 'the snapshot does not record them, or they changed while it was made';
  return [...(await namesOnly(control, facts, globals)), skipped('attributes and settings of roles', why)];
}

function compareRoles(recorded: readonly RoleFacts[], restored: readonly RoleFacts[]): DrillCheck[] {
  const { roles, memberships } = roleDifferences(recorded, restored);
  const count = recorded.reduce((sum, { memberOf }) => sum + memberOf.length, 0);
  return [
    noneOf('roles', OF, roles, plural(recorded.length, 'role')),
    noneOf('memberships', OF, memberships, plural(count, 'membership')),
  ];
}

async function namesOnly(control: Session, facts: PostgresFacts, globals: string): Promise<DrillCheck[]> {
  const present = new Set(
    (await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles')).map(({ name }) => name),
  );
  const stored = splitStatements(globals)
    .filter((statement) => statement.startsWith('CREATE ROLE '))
    .flatMap((statement) => roleOfStatement(statement) ?? []);
  const owning = facts.databases.flatMap(({ owner, owners, grantees = [] }: DatabaseFacts) => [
    ...[owner, ...owners, ...grantees].filter((role) => role !== '' && !role.startsWith('pg_')),
  ]);
  const needed = [...new Set([...stored, ...owning, ...(facts.roles ?? []).map(({ name }) => name)])];
  const missing = needed.filter((role) => !present.has(role)).map((role) => `role ${role} is missing`);
  const roles = noneOf('roles', OF, missing, plural(needed.length, 'role'));
  if (!facts.memberships) return [roles];
  const now = new Set((await readMemberships(control)).map(membershipText));
  const lost = facts.memberships.map(membershipText).filter((one) => !now.has(one));
  const differences = lost.map((one) => `${one} no more`);
  return [roles, noneOf('memberships', OF, differences, plural(facts.memberships.length, 'membership'))];
}

function membershipText({ group, member }: Membership): string {
  return `role ${member} is a member of ${group}`;
}

function skipped(name: string, detail: string): DrillCheck {
  return { name, of: OF, result: 'skipped', detail };
}
