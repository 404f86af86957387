/**
 * Splits SQL at semicolons outside quotes and comments. Covers the output of `pg_dumpall --globals-only`, not all SQL.
 */
export function splitStatements(sql: string): string[] {
  const statements: string[] = [];
  let current = '';
  const token = /--[^\n]*|\\[^\n]*|E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|;|[^;'"E\\-]+|[\s\S]/g;
  for (const [text] of sql.matchAll(token)) {
    // Comments, and commands of psql (\restrict), are not SQL.
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
export const ROLE_STATEMENT = new RegExp(`^(?:CREATE|ALTER) ROLE ${IDENTIFIER}`);
const COMMENT_STATEMENT = new RegExp(`^COMMENT ON ROLE ${IDENTIFIER}`);
export const GRANT_STATEMENT = new RegExp(`^GRANT ${IDENTIFIER} TO ${IDENTIFIER}`);
const SETTING_STATEMENT = new RegExp(`^ALTER ROLE ${IDENTIFIER} SET `);
const PARAMETER_GRANT = new RegExp(`^GRANT [A-Z, ]+ ON PARAMETER .+ TO ${IDENTIFIER}(?: WITH GRANT OPTION)?$`, 's');
export const GRANTED_BY = new RegExp(` GRANTED BY ${IDENTIFIER}$`);
export const TABLESPACE_STATEMENT = /^(?:CREATE|ALTER|COMMENT ON|GRANT .* ON|REVOKE .* ON) TABLESPACE /s;

/** Returns the unquoted role that a statement defines or changes; undefined for other statements. */
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

/** The roles of a server, which decide which statements it needs. */
export interface RolesPresent {
  existing: ReadonlySet<string>;
  /** the role that initdb created on a new server; undefined if somebody has already configured it */
  fresh: string | undefined;
}

/**
 * Chooses the statements of a `pg_dumpall --globals-only` file to run on a server. Statements about an existing role
 * are left out, with two exceptions: its membership in a role that does not exist yet, and the settings and comment of
 * the first role of a new server.
 */
export function chooseStatements(statements: readonly string[], { existing, fresh }: RolesPresent): string[] {
  return statements.filter((statement) => {
    if (/^(SET|SELECT) /.test(statement)) return false;
    const role = roleOfStatement(statement);
    if (role === undefined || !existing.has(role)) return true;
    const membership = membershipOf(statement);
    if (membership) return !existing.has(membership.group);
    return role === fresh && (SETTING_STATEMENT.test(statement) || COMMENT_STATEMENT.test(statement));
  });
}

/** The two roles of `GRANT group TO member`. */
export interface Membership {
  group: string;
  member: string;
}

/** Returns the membership that a GRANT statement creates; undefined for other statements. */
export function membershipOf(statement: string): Membership | undefined {
  const match = GRANT_STATEMENT.exec(statement);
  return match ? { group: unquote(match[1] as string), member: unquote(match[2] as string) } : undefined;
}

/**
 * Returns the statements that `roles` need: those about the roles, about their direct and indirect members, and about
 * the groups of all of these. Leaves out statements about no role, such as those about tablespaces.
 */
export function statementsFor(
  statements: readonly string[],
  roles: readonly string[],
  existing: ReadonlySet<string>,
): string[] {
  const needed = rolesNeeded(
    statements.flatMap((statement) => membershipOf(statement) ?? []),
    roles,
  );
  return statements.filter((statement) => {
    const grantee = PARAMETER_GRANT.exec(statement)?.[1];
    if (grantee !== undefined) return needed.has(unquote(grantee)) && !existing.has(unquote(grantee));
    const role = roleOfStatement(statement);
    if (role === undefined || needed.has(role)) return role !== undefined;
    // An existing member joins the groups that are about to be created.
    const group = membershipOf(statement)?.group;
    return group !== undefined && existing.has(role) && needed.has(group);
  });
}

/** Returns the roles, their direct and indirect members, and the groups of all of these. */
export function rolesNeeded(memberships: readonly Membership[], roles: readonly string[]): Set<string> {
  const needed = new Set(roles);
  // The iteration of a set includes members that are added during the iteration.
  for (const role of needed) for (const { group, member } of memberships) if (group === role) needed.add(member);
  for (const role of needed) for (const { group, member } of memberships) if (member === role) needed.add(group);
  return needed;
}

/** One or more statements that succeed or fail together. */
export interface Step {
  sql: string;
  role: string | undefined;
  creates: boolean;
}

/**
 * Groups statements into steps. CREATE ROLE and the ALTER ROLE that sets its attributes and password form one step, so
 * that a crash leaves no unusable role.
 */
export function inSteps(statements: readonly string[]): Step[] {
  const steps: Step[] = [];
  for (const sql of statements) {
    const role = roleOfStatement(sql);
    const last = steps.at(-1);
    const completes = last?.creates && last.role === role && sql.startsWith('ALTER ROLE ') && sql.includes(' WITH ');
    if (completes) last.sql += `; ${sql}`;
    else steps.push({ sql, role, creates: sql.startsWith('CREATE ROLE ') });
  }
  return steps;
}
