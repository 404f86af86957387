import {
  chooseStatements,
  GRANT_STATEMENT,
  GRANTED_BY,
  inSteps,
  type Membership,
  membershipOf,
  ROLE_STATEMENT,
  type RolesPresent,
  roleOfStatement,
  type Step,
  splitStatements,
  statementsFor,
  TABLESPACE_STATEMENT,
} from '../facts/globals-statements.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';

/** The result of {@link loadGlobals}. */
interface GlobalsResult {
  created: string[];
  /** roles that existed, and are unchanged */
  kept: string[];
  warnings: string[];
}

/**
 * Creates the roles of a `pg_dumpall --globals-only` file that do not exist yet, with their passwords, attributes,
 * settings and memberships. A role that exists stays as it is (see {@link chooseStatements}): a restore never changes a
 * password in use. The texts of statements never reach an error or a log, because they hold password hashes.
 *
 * @param roles create only what these roles need, see {@link statementsFor}; absent: all roles
 */
export async function loadGlobals(session: Session, sql: string, roles?: readonly string[]): Promise<GlobalsResult> {
  const present = await readRoles(session);
  await keepOutOfServerLog(session);
  const all = splitStatements(sql);
  const statements = roles ? statementsFor(all, roles, present.existing) : all;
  const named = statements.filter((statement) => statement.startsWith('CREATE ROLE ')).flatMap(roleOfStatement);
  const result: GlobalsResult = {
    created: [],
    kept: named.flatMap((role) => (role !== undefined && present.existing.has(role) ? [role] : [])),
    warnings: [],
  };
  for (const step of inSteps(chooseStatements(statements, present))) {
    const { error, lost = [] } = await attempt(session, step);
    if (error === undefined && lost.length === 0) lost.push(...ambiguousDate(step));
    result.warnings.push(...lost.map((text) => `globals: ${text}`));
    if (error === undefined && step.creates && step.role !== undefined) result.created.push(step.role);
    if (error === undefined) continue;
    const isTablespace = TABLESPACE_STATEMENT.test(step.sql);
    const about =
      step.role !== undefined ? `role ${quoteIdentifier(step.role)}` : isTablespace ? 'a tablespace' : 'a statement';
    result.warnings.push(`globals: ${about} could not be set up (SQLSTATE ${sqlState(error) ?? 'unknown'})`);
  }
  result.warnings.push(...(await leftOutWarnings(session, all, statements)));
  return result;
}

/** Warns of roles that cannot log in or lack memberships after a restore, with the command that repairs it. */
async function leftOutWarnings(
  session: Session,
  all: readonly string[],
  statements: readonly string[],
): Promise<string[]> {
  const { existing } = await readRoles(session);
  const canLogIn = all.filter((one) => ROLE_STATEMENT.test(one) && / LOGIN /.test(`${one.split(" PASSWORD '")[0]} `));
  const missing = canLogIn.flatMap(roleOfStatement).filter((role) => role !== undefined && !existing.has(role));
  const rows = await readMemberships(session);
  const lacking = statements
    .flatMap((statement) => membershipOf(statement) ?? [])
    .filter(({ group, member }) => existing.has(group) && existing.has(member))
    .filter(({ group, member }) => !rows.some((row) => row.group === group && row.member === member));
  return [
    ...(missing.length === 0
      ? []
      : [
          `roles ${missing.join(', ')} of the snapshot could log in, and are left out, because no restored object needs them: --globals restores them`,
        ]),
    ...lacking.map(
      ({ group, member }) =>
        `role ${member} was a member of ${group}, and is none here: GRANT ${quoteIdentifier(group)} TO ${quoteIdentifier(member)}`,
    ),
  ];
}

/** Attributes that only a superuser may set (up to version 15 whatever the value). */
const SUPERUSERS_ONLY = / (NO)?(SUPERUSER|REPLICATION|BYPASSRLS)\b/g;

/** SQLSTATEs of a date in the DateStyle of another server: invalid_datetime_format, datetime_field_overflow. */
const UNREADABLE_DATE = /^2200[78]$/;
const VALID_UNTIL = / VALID UNTIL '([^']*)'$/;

/** Warns of an expiry date whose meaning depends on the DateStyle of the server that wrote it: `03/02/2030`. */
function ambiguousDate({ sql, role, creates }: Step): string[] {
  const date = creates ? VALID_UNTIL.exec(sql)?.[1] : undefined;
  if (date === undefined || /^(\d{4,}-|-?infinity)/.test(date)) return [];
  return [
    `role ${role} is valid until '${date}', and servers read day and month of such a date in different orders: check it`,
  ];
}

/**
 * Runs a step. Tries again without the parts that this role may not execute: the grantor of a grant, and attributes
 * that only a superuser may set. A role whose expiry date cannot be read is created without it.
 *
 * @returns `error` if the step failed; `lost`: what a new role lacks, in words
 */
async function attempt(session: Session, { sql, role, creates }: Step): Promise<{ error?: unknown; lost?: string[] }> {
  const run = (text: string) =>
    session.run(text).then(
      () => undefined,
      (error: unknown) => error,
    );
  const error = await run(sql);
  if (error === undefined) return {};
  if (creates && VALID_UNTIL.test(sql) && UNREADABLE_DATE.test(sqlState(error) ?? '')) {
    const again = await attempt(session, { sql: sql.replace(VALID_UNTIL, ''), role, creates });
    const lost = `role ${role} is created without VALID UNTIL, because its date cannot be read`;
    return again.error === undefined ? { lost: [lost, ...(again.lost ?? [])] } : again;
  }
  if (creates && sqlState(error) === '42501') {
    const [head = '', ...password] = sql.split(/(?= PASSWORD ')/);
    const left = [...head.matchAll(SUPERUSERS_ONLY)].filter(([, no]) => no === undefined).map(([, , what]) => what);
    const again = await run([head.replaceAll(SUPERUSERS_ONLY, ''), ...password].join(''));
    const lost = left.length === 0 ? {} : { lost: [`role ${role} is created without ${left.join(', ')}`] };
    return again === undefined ? lost : { error: again };
  }
  const inOurName = sql.replace(GRANTED_BY, '');
  if (!GRANT_STATEMENT.test(sql) || inOurName === sql) return { error };
  const again = await run(inOurName);
  return again === undefined ? {} : { error: again };
}

async function readRoles(session: Session): Promise<RolesPresent> {
  const rows = await session.all<{ name: string; first: boolean; plain: boolean }>(
    `SELECT rolname AS name, oid = 10 AS first, shobj_description(oid, 'pg_authid') IS NULL
            AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0) AS plain
       FROM pg_roles r`,
  );
  return {
    existing: new Set(rows.map(({ name }) => name)),
    fresh: rows.find(({ first, plain }) => first && plain)?.name,
  };
}

/**
 * Turns off the logging of statements for the session, because statements hold password hashes. Only a superuser may do
 * that; for other roles it is an attempt.
 */
async function keepOutOfServerLog(session: Session): Promise<void> {
  const settings = [
    "log_statement = 'none'",
    'log_min_duration_statement = -1',
    'log_min_duration_sample = -1',
    'log_transaction_sample_rate = 0',
    'log_min_error_statement = panic',
    'pg_stat_statements.track_utility = off',
  ];
  for (const setting of settings) await session.run(`SET ${setting}`).catch(() => undefined);
}

/** Reads the memberships of roles on a server, without those of the system. */
export function readMemberships(session: Session): Promise<Membership[]> {
  return session.all<Membership>(
    `SELECT g.rolname AS group, m.rolname AS member FROM pg_auth_members a
       JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
      WHERE m.oid >= 16384 OR m.oid = 10 ORDER BY 1, 2`,
  );
}
