import { quoteIdentifier } from './quote.ts';
import type { Session } from './session.ts';
import { sqlState } from './session.ts';

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
const TABLESPACE_STATEMENT = /^(?:CREATE|ALTER|COMMENT ON|GRANT .* ON|REVOKE .* ON) TABLESPACE /s;

/** The role that a statement defines or changes, unquoted; undefined for statements about something else. */
export function roleOfStatement(statement: string): string | undefined {
  const match =
    ROLE_STATEMENT.exec(statement)?.[1] ??
    COMMENT_STATEMENT.exec(statement)?.[1] ??
    GRANT_STATEMENT.exec(statement)?.[2];
  return match?.startsWith('"') ? match.slice(1, -1).replaceAll('""', '"') : match;
}

/** What {@link loadGlobals} did. */
export interface GlobalsResult {
  created: string[];
  /** left as they are: they existed */
  kept: string[];
  warnings: string[];
}

/**
 * Creates the roles of a `pg_dumpall --globals-only` file that do not exist yet, with their passwords, attributes,
 * settings and memberships. A role that exists is left exactly as it is: a restore never changes a password that somebody
 * uses. Statement texts never reach an error or a log, since they hold password hashes.
 */
export async function loadGlobals(session: Session, sql: string): Promise<GlobalsResult> {
  const rows = await session.all<{ name: string }>('SELECT rolname AS name FROM pg_roles');
  const existing = new Set(rows.map((row) => row.name));
  await keepOutOfServerLog(session);
  const result: GlobalsResult = { created: [], kept: [], warnings: [] };
  for (const statement of splitStatements(sql)) {
    if (/^(SET|SELECT) /.test(statement)) continue;
    const role = roleOfStatement(statement);
    if (role !== undefined && existing.has(role)) {
      if (statement.startsWith('CREATE ROLE')) result.kept.push(role);
      continue;
    }
    try {
      await session.run(statement);
      if (role !== undefined && statement.startsWith('CREATE ROLE')) result.created.push(role);
    } catch (error) {
      const about =
        role !== undefined
          ? `role ${quoteIdentifier(role)}`
          : TABLESPACE_STATEMENT.test(statement)
            ? 'a tablespace'
            : 'a statement';
      result.warnings.push(`globals: ${about} could not be set up (SQLSTATE ${sqlState(error) ?? 'unknown'})`);
    }
  }
  return result;
}

/** A server that logs DDL would log password hashes with it. Only a superuser may turn that off; others get a try. */
async function keepOutOfServerLog(session: Session): Promise<void> {
  const settings = ["log_statement = 'none'", 'log_min_duration_statement = -1', 'log_min_error_statement = panic'];
  for (const setting of settings) await session.run(`SET ${setting}`).catch(() => undefined);
}
