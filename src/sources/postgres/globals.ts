import { quoteIdentifier } from './quote.ts';
import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

/** Splits SQL at semicolons outside quotes and comments. Enough for what `pg_dumpall --globals-only` writes. */
export function splitStatements(sql: string): string[] {
  const statements: string[] = [];
  let current = '';
  const token = /--[^\n]*|\\[^\n]*|E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|;|[^;'"E\\-]+|[\s\S]/g;
  for (const [text] of sql.matchAll(token)) {
    // Comments, and psql's own commands (\restrict), are no SQL.
    if (text.startsWith('--') || (text.startsWith('\\') && current.trim() === '')) continue;
    if (text === ';') {
      if (current.trim()) statements.push(current.trim());
      current = '';
    } else {
      current += text;
    }
  }
  if (current.trim()) statements.push(current.trim());
  return statements;
}

const IDENTIFIER = `("(?:[^"]|"")*"|[a-z_][a-z0-9_$]*)`;
const ROLE_STATEMENT = new RegExp(`^(?:CREATE|ALTER) ROLE ${IDENTIFIER}`);
const COMMENT_STATEMENT = new RegExp(`^COMMENT ON ROLE ${IDENTIFIER}`);
const GRANT_STATEMENT = new RegExp(`^GRANT ${IDENTIFIER} TO ${IDENTIFIER}`);
const SETTING_STATEMENT = new RegExp(`^ALTER ROLE ${IDENTIFIER} SET `);
const GRANTED_BY = new RegExp(` GRANTED BY ${IDENTIFIER}$`);
const TABLESPACE_STATEMENT = /^(?:CREATE|ALTER|COMMENT ON|GRANT .* ON|REVOKE .* ON) TABLESPACE /s;

/** The role that a statement defines or changes, unquoted; undefined for statements about something else. */
export function roleOfStatement(statement: string): string | undefined {
  const match =
    ROLE_STATEMENT.exec(statement)?.[1] ??
    COMMENT_STATEMENT.exec(statement)?.[1] ??
    GRANT_STATEMENT.exec(statement)?.[2];
  return match === undefined ? undefined : unquote(match);
}

function unquote(identifier: string): string {
  return identifier.startsWith('"') ? identifier.slice(1, -1).replaceAll('""', '"') : identifier;
}

/** What {@link loadGlobals} did. */
export interface GlobalsResult {
  created: string[];
  /** left as they are: they existed */
  kept: string[];
  warnings: string[];
}

/** What decides which statements are for a server. */
export interface RolesPresent {
  existing: ReadonlySet<string>;
  /** The role that initdb makes, so that it is there on a new server too; undefined when somebody set it up already. */
  fresh: string | undefined;
}

/**
 * Which statements of a `pg_dumpall --globals-only` file are to be run on a server. What is about a role that exists is
 * left out, except: its membership in a role that is only now created, and the settings and comment of a new server's own
 * first role.
 */
export function chooseStatements(statements: readonly string[], { existing, fresh }: RolesPresent): string[] {
  return statements.filter((statement) => {
    if (/^(SET|SELECT) /.test(statement)) return false;
    const role = roleOfStatement(statement);
    if (role === undefined || !existing.has(role)) return true;
    const granted = GRANT_STATEMENT.exec(statement)?.[1];
    if (granted !== undefined) return !existing.has(unquote(granted));
    return role === fresh && (SETTING_STATEMENT.test(statement) || COMMENT_STATEMENT.test(statement));
  });
}

/**
 * The statements that some roles need: their own, and those of the roles that they are members of. Without tablespaces and
 * the like, which belong to nobody.
 */
export function statementsFor(
  statements: readonly string[],
  roles: readonly string[],
  existing: ReadonlySet<string>,
): string[] {
  const grants = statements.flatMap((statement) => {
    const match = GRANT_STATEMENT.exec(statement);
    return match ? [{ group: unquote(match[1] as string), member: unquote(match[2] as string) }] : [];
  });
  const needed = new Set(roles);
  // A set visits what is added on the way too.
  for (const role of needed) for (const { group, member } of grants) if (member === role) needed.add(group);
  return statements.filter((statement) => {
    const role = roleOfStatement(statement);
    if (role === undefined || needed.has(role)) return role !== undefined;
    // A member that is there already gets the groups that are made only now.
    const group = GRANT_STATEMENT.exec(statement)?.[1];
    return group !== undefined && existing.has(role) && needed.has(unquote(group));
  });
}

/**
 * Creates the roles of a `pg_dumpall --globals-only` file that do not exist yet, with their passwords, attributes,
 * settings and memberships; only those named, and what they are members of, where `roles` is given. A role that exists is left as it is (see {@link chooseStatements}): a restore never changes a
 * password that somebody uses. Statement texts never reach an error or a log, since they hold password hashes.
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
  for (const statement of chooseStatements(statements, present)) {
    const role = roleOfStatement(statement);
    const error = await attempt(session, statement);
    if (error === undefined && statement.startsWith('CREATE ROLE ') && role !== undefined) result.created.push(role);
    if (error === undefined) continue;
    const isTablespace = TABLESPACE_STATEMENT.test(statement);
    const about = role !== undefined ? `role ${quoteIdentifier(role)}` : isTablespace ? 'a tablespace' : 'a statement';
    result.warnings.push(`globals: ${about} could not be set up (SQLSTATE ${sqlState(error) ?? 'unknown'})`);
  }
  return result;
}

/** Runs a statement; resolves to its error. A grant whose grantor is not in a position here is made in our own name. */
async function attempt(session: Session, statement: string): Promise<unknown> {
  const run = (sql: string) =>
    session.run(sql).then(
      () => undefined,
      (error: unknown) => error,
    );
  const error = await run(statement);
  const inOurName = statement.replace(GRANTED_BY, '');
  if (error === undefined || !GRANT_STATEMENT.test(statement) || inOurName === statement) return error;
  return run(inOurName);
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
 * A server that logs statements, or samples them, would log password hashes with them. Only a superuser may turn that off;
 * others get a try.
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
