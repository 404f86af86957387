import type { ServerConfig } from '../server/server-config.ts';
import type { Session } from '../server/session.ts';
import { type Contents, readContents } from './contents.ts';
import type { Membership } from './globals-statements.ts';
import { type ObjectCounts, readObjectCounts } from './object-counts.ts';
import type { Uncounted } from './uncounted.ts';

/** What is recorded of a server. */
export interface ServerFacts {
  /** `17.4` */
  version: string;
  /** 170004 */
  versionNumber: number;
  /** from pg_control_system(): two clusters never share it */
  systemIdentifier: string;
  /** ISO time of pg_postmaster_start_time(): a restart during the run shows here */
  startedAt: string;
  inRecovery: boolean;
  /** not in snapshots of older agents */
  config?: ServerConfig;
}

export interface TableFacts {
  schema: string;
  name: string;
  owner: string;
  /** rows in the dumped snapshot, or the planner's estimate when `exact` is false: too large, or not to be counted */
  rows: number;
  exact: boolean;
  /** why not; not in snapshots of older agents */
  uncounted?: Uncounted;
  /** heap and TOAST, bytes */
  bytes: number;
  /** the extension that owns the table: its rows are not dumped as a rule */
  extension?: string;
  /** false when its rows are not in the dump: left out on request, an extension makes them again, or see below */
  data?: boolean;
  /** an unlogged table of a standby, where nobody can read its rows */
  unloggedOnStandby?: true;
}

interface RoleSetting {
  /** null: for every role */
  role: string | null;
  /** `name=value` */
  config: string[];
}

interface DatabaseGrant {
  grantor: string | null;
  /** null: PUBLIC */
  grantee: string | null;
  privilege: string;
  grantable: boolean;
}

export interface DatabaseFacts {
  name: string;
  owner: string;
  encoding: string;
  collate: string;
  ctype: string;
  /** `libc`, `icu` or `builtin` */
  provider: string;
  /** ICU or builtin locale */
  locale?: string;
  icuRules?: string;
  /** collation version recorded in the catalogue, and the one that the operating system has now */
  collationVersion?: string;
  actualCollationVersion?: string;
  /** that it is in, where that is not the default one */
  tablespace?: string;
  connectionLimit: number;
  /** others can be made from it */
  template?: true;
  comment?: string;
  settings: RoleSetting[];
  /** grants on the database itself, in the order they were made; null when they are the default */
  grants: DatabaseGrant[] | null;
  contents: Contents;
  /** bytes, of tables and indexes */
  size: number;
  extensions: { name: string; version: string; schema: string }[];
  tables: TableFacts[];
  largeObjects: number;
  /** foreign keys whose rows were not looked at, since their tables are too large; not in snapshots of older agents */
  uncheckedKeys?: number;
  /** not in snapshots of older agents */
  objects?: ObjectCounts;
  /** roles that own something in the database: a restore needs them. In snapshots of older agents also those with rights on something */
  owners: string[];
  /** roles that own nothing here and have rights on something, or stand in a policy: without them, the rest is whole */
  grantees?: string[];
}

/** The facts object of a Postgres source. */
export interface PostgresFacts extends Record<string, unknown> {
  kind: 'postgres';
  server: ServerFacts;
  compression: 'zstd' | 'none';
  /** in the dumps of all databases */
  rows: number;
  databases: DatabaseFacts[];
  /** which roles are members of which; not in snapshots of older agents */
  memberships?: Membership[];
}

export async function readServerFacts(session: Session): Promise<ServerFacts> {
  const row = await session.one<Record<'version' | 'number' | 'started' | 'system' | 'recovery', string>>(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num') AS number,
            to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS started,
            (SELECT system_identifier::text FROM pg_control_system()) AS system,
            pg_is_in_recovery()::text AS recovery`,
  );
  return {
    version: row.version.split(' ')[0] ?? row.version,
    versionNumber: Number(row.number),
    systemIdentifier: row.system,
    startedAt: row.started,
    inRecovery: row.recovery === 'true',
  };
}

/** Reads what describes the session's own database, apart from its tables. The columns differ by server version. */
export async function readDatabaseFacts(session: Session, versionNumber: number): Promise<DatabaseFacts> {
  const locale = versionNumber >= 170000 ? 'datlocale' : versionNumber >= 150000 ? 'daticulocale' : 'NULL::text';
  const modern = versionNumber >= 150000;
  const row = await session.one<Record<string, string | null>>(
    `SELECT d.datname AS name, r.rolname AS owner, pg_encoding_to_char(encoding) AS encoding,
            datcollate AS collate, datctype AS ctype, ${locale} AS locale,
            ${modern ? 'datlocprovider::text' : "'c'"} AS provider,
            ${versionNumber >= 160000 ? 'daticurules' : 'NULL::text'} AS rules,
            ${modern ? 'datcollversion' : 'NULL::text'} AS collversion,
            ${modern ? 'pg_database_collation_actual_version(d.oid)' : 'NULL::text'} AS actual,
            (SELECT spcname FROM pg_tablespace t WHERE t.oid = dattablespace AND spcname <> 'pg_default') AS tablespace,
            datconnlimit::text AS connlimit, datistemplate::text AS template, shobj_description(d.oid, 'pg_database') AS comment,
            pg_database_size(d.oid)::text AS size, (datacl IS NULL)::text AS plain,
            (SELECT count(*)::text FROM pg_largeobject_metadata) AS objects
       FROM pg_database d LEFT JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = current_database()`,
  );
  const facts: DatabaseFacts = {
    name: row.name ?? '',
    owner: row.owner ?? '',
    encoding: row.encoding ?? '',
    collate: row.collate ?? '',
    ctype: row.ctype ?? '',
    provider: { c: 'libc', i: 'icu', b: 'builtin' }[row.provider ?? 'c'] ?? 'libc',
    connectionLimit: Number(row.connlimit),
    size: Number(row.size),
    largeObjects: Number(row.objects),
    settings: await readSettings(session),
    grants: row.plain === 'true' ? null : await readGrants(session),
    contents: await readContents(session),
    extensions: await session.all(
      `SELECT extname AS name, extversion AS version, nspname AS schema
         FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace ORDER BY extname`,
    ),
    tables: [],
    objects: await readObjectCounts(session),
    ...(await readOwners(session)),
  };
  if (row.locale) facts.locale = row.locale;
  if (row.rules) facts.icuRules = row.rules;
  if (row.collversion) facts.collationVersion = row.collversion;
  if (row.actual) facts.actualCollationVersion = row.actual;
  if (row.tablespace) facts.tablespace = row.tablespace;
  if (row.template === 'true') facts.template = true;
  if (row.comment) facts.comment = row.comment;
  return facts;
}

/** In the order in which they were made, which is the one in which pg_dump writes them. */
function readSettings(session: Session): Promise<RoleSetting[]> {
  return session.all(
    `SELECT rolname AS role, setconfig AS config FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
      WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
      ORDER BY s.ctid`,
  );
}

function readGrants(session: Session): Promise<DatabaseGrant[]> {
  return session.all(
    `SELECT o.rolname AS grantor, e.rolname AS grantee, privilege_type AS privilege, is_grantable AS grantable
       FROM pg_database d, aclexplode(d.datacl) WITH ORDINALITY a
       LEFT JOIN pg_roles o ON o.oid = a.grantor LEFT JOIN pg_roles e ON e.oid = a.grantee
      WHERE d.datname = current_database() ORDER BY a.ordinality`,
  );
}

/** What the first superuser may own. Dependencies on that role are not recorded (pg_shdepend): it cannot be dropped. */
const OWNED = [
  ['pg_class', 'relowner', "AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'"],
  ['pg_proc', 'proowner', ''],
  ['pg_namespace', 'nspowner', ''],
  ['pg_foreign_server', 'srvowner', ''],
  ['pg_largeobject_metadata', 'lomowner', ''],
  ['pg_default_acl', 'defaclrole', ''],
] as const;

/**
 * Roles that own something here, and others that hold rights on something, apart from extensions' own (pg_shdepend: o owner, a
 * ACL, r policy).
 */
async function readOwners(session: Session): Promise<{ owners: string[]; grantees: string[] }> {
  const firstSuperuserOwns = OWNED.map(
    ([catalogue, owner, more]) =>
      `EXISTS (SELECT FROM ${catalogue} c WHERE ${owner} = 10 AND oid >= 16384 ${more} AND NOT EXISTS
         (SELECT FROM pg_depend m WHERE m.classid = '${catalogue}'::regclass AND m.objid = c.oid AND m.deptype = 'e'))`,
  );
  const rows = await session.all<{ name: string; owns: boolean }>(
    `SELECT name, bool_or(owns) AS owns FROM (
       SELECT rolname AS name, deptype = 'o' AS owns FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
        WHERE refclassid = 'pg_authid'::regclass AND (dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           OR (dbid = 0 AND classid = 'pg_database'::regclass
               AND objid = (SELECT oid FROM pg_database WHERE datname = current_database())))
       UNION ALL SELECT rolname, true FROM pg_roles WHERE oid = 10 AND (${firstSuperuserOwns.join(' OR ')})) r
      GROUP BY name ORDER BY 1`,
  );
  const named = (wanted: boolean) => rows.flatMap(({ name, owns }) => (owns === wanted ? [name] : []));
  return { owners: named(true), grantees: named(false) };
}
