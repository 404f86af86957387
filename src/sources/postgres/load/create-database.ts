import { hasCode, LifeboatError } from '../../../base/errors.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { serverWords, sqlState } from '../server/sql-state.ts';

/**
 * Builds the statement that creates an empty database with the recorded encoding and locale (Postgres docs, CREATE
 * DATABASE).
 *
 * @param versionNumber of the server: 170002
 */
export function createDatabase(
  name: string,
  recorded: DatabaseFacts,
  versionNumber: number,
  tablespace?: string,
): string {
  const parts = [
    `CREATE DATABASE ${quoteIdentifier(name)} TEMPLATE template0`,
    `OWNER ${quoteIdentifier(recorded.owner)}`,
    `ENCODING ${quoteLiteral(recorded.encoding)}`,
    `LC_COLLATE ${quoteLiteral(recorded.collate)}`,
    `LC_CTYPE ${quoteLiteral(recorded.ctype)}`,
  ];
  if (tablespace !== undefined) parts.push(`TABLESPACE ${quoteIdentifier(tablespace)}`);
  if (recorded.provider === 'icu') {
    parts.push('LOCALE_PROVIDER icu', `ICU_LOCALE ${quoteLiteral(recorded.locale ?? '')}`);
    if (recorded.icuRules) parts.push(`ICU_RULES ${quoteLiteral(recorded.icuRules)}`);
  } else if (recorded.provider === 'builtin') {
    parts.push('LOCALE_PROVIDER builtin', `BUILTIN_LOCALE ${quoteLiteral(recorded.locale ?? '')}`);
  } else if (versionNumber >= 150000) {
    // The default is the provider of the template, which depends on how the cluster was created.
    parts.push('LOCALE_PROVIDER libc');
  }
  return parts.join(' ');
}

/**
 * Converts the error of a refused {@link createDatabase} to PG_NO_SPACE or PG_RESTORE_FAILED, with a hint if the
 * SQLSTATE gives the cause (Postgres docs, appendix A). Returns an error that is no answer of the server unchanged.
 */
export function createFailed(error: unknown, recorded: DatabaseFacts): unknown {
  const state = sqlState(error);
  if (state === undefined) return error;
  const words = serverWords(error) ?? '';
  const hint = createHint(state, words, recorded);
  return new LifeboatError(
    state === '53100' ? 'PG_NO_SPACE' : 'PG_RESTORE_FAILED',
    `a database like ${recorded.name} cannot be created: ${words}`,
    { cause: error, ...(hint === undefined ? {} : { hint }) },
  );
}

function createHint(
  state: string,
  words: string,
  { owner, encoding, locale, collate }: DatabaseFacts,
): string | undefined {
  // read_only_sql_transaction
  if (state === '25006') return 'The server is a standby, or set to be read-only: restore into the primary.';
  if (state === '53100') return 'Free space first: `lifeboat status` shows the data that earlier restores put aside.';
  if (state === '42501') {
    // Version 16 and newer require SET ROLE, older ones membership.
    return /SET ROLE|must be (?:a )?member of role/.test(words)
      ? `The database belongs to ${owner}, and the role that Lifeboat uses may not act for it: GRANT ${quoteIdentifier(owner)} TO that role, or let Lifeboat use a superuser (LIFEBOAT_PGUSER).`
      : 'Grant the role CREATEDB, or let Lifeboat use a superuser (LIFEBOAT_PGUSER).';
  }
  // wrong_object_type and invalid_parameter_value: the server lacks the locale, or the encoding does not match it.
  if ((state === '42809' || state === '22023') && /locale|collat|encoding|ICU|LC_/i.test(words)) {
    return `The database has encoding ${encoding} and locale ${locale ?? collate}: use an image that has them.`;
  }
  return undefined;
}

/** Statements, and a description without values: settings may be secrets. */
interface PropertyStatement {
  sql: string[];
  about: string;
}

/** Builds the statements for what a dump of one database does not hold: its limit, comment, settings and grants. */
function databaseProperties(name: string, recorded: DatabaseFacts): PropertyStatement[] {
  const database = quoteIdentifier(name);
  const statements: PropertyStatement[] = [];
  if (recorded.connectionLimit !== -1) {
    const sql = `ALTER DATABASE ${database} CONNECTION LIMIT ${recorded.connectionLimit}`;
    statements.push({ sql: [sql], about: 'the connection limit' });
  }
  if (recorded.comment) {
    statements.push({
      sql: [`COMMENT ON DATABASE ${database} IS ${quoteLiteral(recorded.comment)}`],
      about: 'the comment',
    });
  }
  for (const { role, config } of recorded.settings) {
    const whom =
      role === null ? `ALTER DATABASE ${database}` : `ALTER ROLE ${quoteIdentifier(role)} IN DATABASE ${database}`;
    for (const entry of config) {
      const about = `setting ${entry.split('=')[0]}${role === null ? '' : ` of role ${role}`}`;
      statements.push({ sql: [`${whom} SET ${setting(entry)}`], about });
    }
  }
  if (recorded.template) {
    statements.push({ sql: [`ALTER DATABASE ${database} IS_TEMPLATE true`], about: 'that it is a template' });
  }
  return [...statements, ...grants(database, recorded)];
}

/** Builds the grants in the recorded order, each by the role that granted it. */
function grants(database: string, recorded: DatabaseFacts): PropertyStatement[] {
  if (recorded.grants === null) return [];
  const revoke = `REVOKE ALL ON DATABASE ${database} FROM PUBLIC, ${quoteIdentifier(recorded.owner)}`;
  const statements: PropertyStatement[] = [{ sql: [revoke], about: 'the default grants' }];
  for (const { grantor, grantee, privilege, grantable } of recorded.grants) {
    const to = grantee === null ? 'PUBLIC' : quoteIdentifier(grantee);
    const option = grantable && grantee !== null && grantee !== recorded.owner ? ' WITH GRANT OPTION' : '';
    const grant = `GRANT ${privilege} ON DATABASE ${database} TO ${to}${option}`;
    const byOwner = grantor === null || grantor === recorded.owner;
    const sql = byOwner
      ? [grant]
      : [`SET SESSION AUTHORIZATION ${quoteIdentifier(grantor)}`, grant, 'RESET SESSION AUTHORIZATION'];
    statements.push({ sql, about: `the grant of ${privilege} to ${grantee ?? 'PUBLIC'}` });
  }
  return statements;
}

/**
 * Settings whose value is a list of names (GUC_LIST_QUOTE, pg_dump's variable_is_guc_list_quote). The catalogue holds
 * each name quoted; quoting the whole list again would turn it into one name.
 */
const LIST_SETTINGS = new Set([
  'local_preload_libraries',
  'search_path',
  'session_preload_libraries',
  'shared_preload_libraries',
  'temp_tablespaces',
  'unix_socket_directories',
]);

/** Converts the catalogue's `name=value` to `name TO value`. */
function setting(entry: string): string {
  const at = entry.indexOf('=');
  const name = entry.slice(0, at);
  const value = entry.slice(at + 1);
  const key = name.split('.').map(quoteIdentifier).join('.');
  if (!LIST_SETTINGS.has(name.toLowerCase())) return `${key} TO ${quoteLiteral(value)}`;
  const items = [...value.matchAll(/"((?:[^"]|"")*)"|([^",\s][^",]*)/g)];
  const names = items.map((item) =>
    item[1] !== undefined ? item[1].replaceAll('""', '"') : (item[2] as string).trim(),
  );
  return `${key} TO ${names.map(quoteLiteral).join(', ') || "''"}`;
}

/**
 * Sets the recorded properties of a database. A property that cannot be set is a warning: a newer server may not know a
 * setting.
 */
export async function setProperties(control: Session, recorded: DatabaseFacts, working: string): Promise<string[]> {
  const warnings: string[] = [];
  for (const { sql, about } of databaseProperties(working, recorded)) {
    try {
      // One query is one transaction.
      await control.run(sql.join('; '));
    } catch (error) {
      if (!hasCode(error, 'PG_QUERY')) throw error;
      warnings.push(`database ${recorded.name}: ${about} could not be set (SQLSTATE ${sqlState(error)})`);
    }
  }
  return warnings;
}
