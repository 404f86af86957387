import type { PostgresSource } from '../../../plan/model.ts';
import type { DrillAssert } from '../../../plan/values/drill-assert.ts';
import type { Definitions } from '../definitions/definitions.ts';
import type { ServerConfig } from '../server/server-config.ts';
import type { Session } from '../server/session.ts';
import { type Contents, readContents } from './contents.ts';
import type { DatabaseDetails } from './details.ts';
import type { Membership } from './globals-statements.ts';
import { type ObjectCounts, readObjectCounts } from './object-counts.ts';
import type { RoleFacts } from './roles.ts';
import type { MovedSequence, SequenceValue } from './sequences.ts';
import type { Uncounted } from './uncounted.ts';

/** The recorded facts about a server. */
export interface ServerFacts {
  /** `17.4` */
  version: string;
  /** 170004 */
  versionNumber: number;
  /** from pg_control_system(); differs for each cluster */
  systemIdentifier: string;
  /** ISO time of pg_postmaster_start_time(); a restart during the run changes it */
  startedAt: string;
  inRecovery: boolean;
  /** the role that initdb created; absent in snapshots of older agents */
  superuser?: string;
  /** absent in snapshots of older agents */
  config?: ServerConfig;
}

export interface TableFacts {
  schema: string;
  name: string;
  owner: string;
  /** rows in the dumped snapshot; the planner's estimate when `exact` is false */
  rows: number;
  exact: boolean;
  /** why `exact` is false; absent in snapshots of older agents */
  uncounted?: Uncounted;
  /** heap and TOAST, bytes */
  bytes: number;
  /** the extension that owns the table, whose rows are usually not dumped */
  extension?: string;
  /** false when the dump lacks the rows: left out on request, created again by an extension, or `unloggedOnStandby` */
  data?: boolean;
  /** an unlogged table on a standby, where its rows cannot be read */
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
  /** absent for the default tablespace */
  tablespace?: string;
  connectionLimit: number;
  /** serves as a template of new databases */
  template?: true;
  comment?: string;
  settings: RoleSetting[];
  /** grants on the database itself, in the order in which they were granted; null for the default */
  grants: DatabaseGrant[] | null;
  contents: Contents;
  /** bytes, of tables and indexes */
  size: number;
  extensions: { name: string; version: string; schema: string }[];
  tables: TableFacts[];
  largeObjects: number;
  /** size of all large objects, bytes; absent if the server did not tell, and in older compressed dumps */
  largeObjectBytes?: number | undefined;
  /** foreign keys that were not checked for orphan rows; absent in snapshots of older agents */
  uncheckedKeys?: number;
  /** absent in snapshots of older agents */
  objects?: ObjectCounts;
  /** what a drill compares too; absent if the server refused it, and in snapshots of older agents */
  details?: DatabaseDetails;
  /** digests of all definitions and rights; absent if the dump was not certain, and in snapshots of older agents */
  definitions?: Definitions;
  /** sequences that did not move during the dump; absent if the server refused it, and in snapshots of older agents */
  sequences?: SequenceValue[];
  /** sequences that moved during the dump; absent like `sequences` */
  movedSequences?: MovedSequence[];
  /** roles that own objects, which a restore needs; in snapshots of older agents also roles that only have rights */
  owners: string[];
  /** roles that own no object but have rights or are named in a policy; a restore works without them */
  grantees?: string[];
}

/** The conditions that must be true on a restored server, and the database that they are about. */
export interface RecordedAsks {
  asserts: DrillAssert[];
  database: string;
}

/** Returns the conditions of a server in the plan; undefined if it has none. */
export function asksOf({ drill, database }: Pick<PostgresSource, 'drill' | 'database'>): RecordedAsks | undefined {
  if (!drill || drill.asserts.length === 0) return undefined;
  return { asserts: drill.asserts, database: drill.database ?? database };
}

/** The facts object of a Postgres source. */
export interface PostgresFacts extends Record<string, unknown> {
  kind: 'postgres';
  server: ServerFacts;
  compression: 'zstd' | 'none';
  /** total of the dumps of all databases */
  rows: number;
  databases: DatabaseFacts[];
  /** which roles are members of which; absent in snapshots of older agents */
  memberships?: Membership[];
  /**
   * as they were before and after `globals.sql` was written; absent if they changed meanwhile, and in snapshots of
   * older agents
   */
  roles?: RoleFacts[];
  /** what its labels asked of drills: a drill elsewhere has no labels */
  asks?: RecordedAsks;
}

/** Returns whether a database uses TimescaleDB, which creates objects in the schemas of the user. */
export function hasTimescale({ extensions }: Pick<DatabaseFacts, 'extensions'>): boolean {
  return extensions.some(({ name }) => name === 'timescaledb');
}

/** Reads the facts about the server of a session, apart from its configuration. */
export async function readServerFacts(session: Session): Promise<ServerFacts> {
  const row = await session.one<
    Record<'version' | 'number' | 'started' | 'system' | 'recovery', string> & { superuser: string | null }
  >(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num') AS number,
            to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS started,
            (SELECT system_identifier::text FROM pg_control_system()) AS system,
            pg_is_in_recovery()::text AS recovery,
            (SELECT rolname FROM pg_roles WHERE oid = 10) AS superuser`,
  );
  return {
    version: row.version.split(' ')[0] ?? row.version,
    versionNumber: Number(row.number),
    systemIdentifier: row.system,
    startedAt: row.started,
    inRecovery: row.recovery === 'true',
    ...(row.superuser === null ? {} : { superuser: row.superuser }),
  };
}

/** Reads the facts about the session's database, apart from its tables. The columns depend on the server's version. */
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

/** Reads settings in the order in which they were created. pg_dump writes them in the same order. */
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

/**
 * Objects that the first superuser may own. pg_shdepend records no dependencies on that role, which cannot be dropped.
 */
const OWNED = [
  ['pg_class', 'relowner', "AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'"],
  ['pg_proc', 'proowner', ''],
  ['pg_namespace', 'nspowner', ''],
  ['pg_foreign_server', 'srvowner', ''],
  ['pg_largeobject_metadata', 'lomowner', ''],
  ['pg_default_acl', 'defaclrole', ''],
] as const;

/**
 * Returns the roles that own objects in the session's database, and the other roles that have rights on objects.
 * Objects of extensions do not count for the first superuser (pg_shdepend: o owner, a ACL, r policy).
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
