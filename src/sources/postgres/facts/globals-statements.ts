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
export const ROLE_STATEMENT = new RegExp(`^(?:CREATE|ALTER) ROLE ${IDENTIFIER}`);
const COMMENT_STATEMENT = new RegExp(`^COMMENT ON ROLE ${IDENTIFIER}`);
export const GRANT_STATEMENT = new RegExp(`^GRANT ${IDENTIFIER} TO ${IDENTIFIER}`);
const SETTING_STATEMENT = new RegExp(`^ALTER ROLE ${IDENTIFIER} SET `);
const PARAMETER_GRANT = new RegExp(`^GRANT [A-Z, ]+ ON PARAMETER .+ TO ${IDENTIFIER}(?: WITH GRANT OPTION)?$`, 's');
export const GRANTED_BY = new RegExp(` GRANTED BY ${IDENTIFIER}$`);
export const TABLESPACE_STATEMENT = /^(?:CREATE|ALTER|COMMENT ON|GRANT .* ON|REVOKE .* ON) TABLESPACE /s;

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
    const membership = membershipOf(statement);
    if (membership) return !existing.has(membership.group);
    return role === fresh && (SETTING_STATEMENT.test(statement) || COMMENT_STATEMENT.test(statement));
  });
}

/** `GRANT group TO member` as two names. */
export interface Membership {
  group: string;
  member: string;
}

export function membershipOf(statement: string): Membership | undefined {
  const match = GRANT_STATEMENT.exec(statement);
  return match ? { group: unquote(match[1] as string), member: unquote(match[2] as string) } : undefined;
}

/**
 * The statements that some roles need: their own, those of their members, who act through them, at any depth, and those of the
 * groups that any of these are members of. Without tablespaces and the like, which belong to nobody.
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
    // A member that is there already gets the groups that are made only now.
    const group = membershipOf(statement)?.group;
    return group !== undefined && existing.has(role) && needed.has(group);
  });
}

/** Roles, those that are members of them, and the groups of all these. */
export function rolesNeeded(memberships: readonly Membership[], roles: readonly string[]): Set<string> {
  const needed = new Set(roles);
  // A set visits what is added on the way too.
  for (const role of needed) for (const { group, member } of memberships) if (group === role) needed.add(member);
  for (const role of needed) for (const { group, member } of memberships) if (member === role) needed.add(group);
  return needed;
}

/** A statement, or several that hold together or not at all. */
export interface Step {
  sql: string;
  role: string | undefined;
  creates: boolean;
}

/** A role and its attributes, its password among them, are one step: else a crash leaves a role that nobody can use. */
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
