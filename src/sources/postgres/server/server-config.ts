import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

interface ConfigSetting {
  name: string;
  value?: string;
}

/** The configuration of a server, as far as the role may read it. Values that may be secret are not recorded. */
export interface ServerConfig {
  /** value of shared_preload_libraries; absent if the role may not read it */
  preload?: string;
  /** settings from ALTER SYSTEM, without `value` if that may be a secret; absent if only a superuser may read them */
  altered?: ConfigSetting[];
  /** settings of ALTER ROLE ALL, which apply to all sessions; without `value` if that may be a secret */
  everyone?: ConfigSetting[];
  /** rules of pg_hba.conf, in order, only with the names of their options; absent if only a superuser may read them */
  rules?: string[];
}

/** Settings of the server that may hold passwords, directly or in a command (Postgres docs, 20.3 to 20.9). */
const SECRET = /conninfo|command|pass|secret|key|token|auth|cred|url|dsn/i;

/** Reads the configuration of a server. Parts that the role may not read are absent. */
export async function readServerConfig(session: Session): Promise<ServerConfig> {
  const preload = await visible(
    session.all<{ setting: string }>("SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'"),
  );
  const altered = await visible(
    session.all<FoundSetting>(
      `SELECT f.name, f.setting AS value, s.vartype AS type FROM pg_file_settings f LEFT JOIN pg_settings s USING (name)
        WHERE f.sourcefile LIKE '%/postgresql.auto.conf' ORDER BY f.name`,
    ),
  );
  // pg_dumpall writes the settings of single roles and databases, but not those of ALTER ROLE ALL.
  const everyone = await visible(
    session.all<FoundSetting>(
      `SELECT split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value, s.vartype AS type
         FROM pg_db_role_setting d, unnest(setconfig) c LEFT JOIN pg_settings s ON lower(s.name) = lower(split_part(c, '=', 1))
        WHERE setdatabase = 0 AND setrole = 0 ORDER BY 1`,
    ),
  );
  const rules = await visible(
    session.all<{ rule: string }>(
      `SELECT concat_ws(' ', type, array_to_string(database, ','), array_to_string(user_name, ','), address, netmask, auth_method,
                        (SELECT string_agg(split_part(o, '=', 1), ' ') FROM unnest(options) o)) AS rule
         FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number`,
    ),
  );
  return {
    ...(preload?.[0] ? { preload: preload[0].setting } : {}),
    ...(altered ? { altered: altered.map(withoutSecret) } : {}),
    ...(everyone?.length ? { everyone: everyone.map(withoutSecret) } : {}),
    ...(rules ? { rules: rules.map(({ rule }) => rule) } : {}),
  };
}

interface FoundSetting {
  name: string;
  value: string;
  /** as in pg_settings; null if the server does not know the setting */
  type: string | null;
}

function withoutSecret({ name, value, type }: FoundSetting): ConfigSetting {
  return isSafe(name, type) ? { name, value } : { name };
}

/**
 * Returns whether a setting cannot be a secret. Numbers and enums are safe. Texts of extensions and applications
 * (`app.jwt`) may be secrets.
 */
function isSafe(name: string, type: string | null): boolean {
  if (type !== null && type !== 'string') return true;
  return type !== null && !name.includes('.') && !SECRET.test(name);
}

/** Returns undefined if the server refuses the query. */
async function visible<T>(query: Promise<T>): Promise<T | undefined> {
  return query.catch((error: unknown) => {
    if (sqlState(error) === undefined) throw error;
    return undefined;
  });
}

/** The most settings or rules that a note names. */
const NAMED = 5;

/** Returns notes about the configuration that the server of a snapshot had and the present server lacks. */
export function configNotes(recorded: ServerConfig | undefined, present: ServerConfig): string[] {
  if (!recorded) return [];
  const libraries = (text = '') =>
    text
      .split(',')
      .map((one) => one.trim().replaceAll('"', ''))
      .filter(Boolean);
  const loaded = libraries(present.preload);
  const preload =
    present.preload === undefined ? [] : libraries(recorded.preload).filter((one) => !loaded.includes(one));
  const altered = present.altered ? lacking(recorded.altered, present.altered) : [];
  const everyone = lacking(recorded.everyone, present.everyone);
  const rules = present.rules ? (recorded.rules ?? []).filter((rule) => !present.rules?.includes(rule)) : [];
  const from = 'the server of the snapshot had';
  return [
    ...(preload.length > 0 ? [`${from} ${preload.join(', ')} in shared_preload_libraries, which this one lacks`] : []),
    ...(altered.length > 0 ? [`${from} settings from ALTER SYSTEM that this one lacks: ${listed(altered)}`] : []),
    ...(everyone.length > 0 ? [`${from} settings from ALTER ROLE ALL that this one lacks: ${listed(everyone)}`] : []),
    ...(rules.length > 0 ? [`${from} rules in pg_hba.conf that this one lacks: ${listed(rules)}`] : []),
  ];
}

/** Describes the settings that the present server lacks or has with another value. */
function lacking(recorded: readonly ConfigSetting[] = [], present: readonly ConfigSetting[] = []): string[] {
  const has = new Map(present.map(({ name, value }) => [name, value]));
  return recorded
    .filter(({ name, value }) => !has.has(name) || has.get(name) !== value)
    .map(({ name, value }) => (value === undefined ? `${name} (its value is not recorded)` : `${name} = ${value}`));
}

function listed(texts: readonly string[]): string {
  const more = texts.length > NAMED ? [`${texts.length - NAMED} more`] : [];
  return [...texts.slice(0, NAMED), ...more].join('; ');
}
