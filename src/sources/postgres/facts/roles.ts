import type { Session } from '../server/session.ts';

/** A membership in another role, with its options. */
interface RoleMembership {
  group: string;
  admin: boolean;
  /** absent before version 16, where it is an attribute of the member */
  inherit?: boolean;
  set?: boolean;
}

/** A role with all that `pg_dumpall` keeps of it, apart from its password. */
export interface RoleFacts {
  name: string;
  /** of the role's creation: `LOGIN`, `CREATEDB` and others, those that are set */
  attributes: string[];
  connectionLimit: number;
  /** ISO time, or `infinity` */
  validUntil?: string;
  /** whether it has a password; absent if only a superuser may know */
  password?: boolean;
  memberOf: RoleMembership[];
  /** hash of its settings in all databases, by name */
  settings: Record<string, string>;
  /** hash of its rights to change parameters of the server */
  parameters?: string;
  /** the role that initdb created: only its settings are restored */
  first?: true;
}

const hash = (text: string) => `encode(sha256(convert_to(${text}, getdatabaseencoding())), 'hex')`;

/** Quotes and spaces in lists of names depend on how a setting was made. */
const SETTINGS = `(SELECT coalesce(json_object_agg(split_part(u, '=', 1), ${hash(`translate(u, E' "''', '')`)} ORDER BY u), '{}')
   FROM pg_db_role_setting, unnest(setconfig) u WHERE setrole = r.oid AND setdatabase = 0)`;

const PARAMETERS = `(SELECT ${hash(`string_agg(concat_ws(' ', parname, privilege_type, is_grantable), ',' ORDER BY parname COLLATE "C", privilege_type)`)}
   FROM pg_parameter_acl, aclexplode(paracl) WHERE grantee = r.oid)`;

/** Several roles may have granted the same membership. */
const memberships = (versionNumber: number) => `(SELECT coalesce(json_agg(m ORDER BY "group"), '[]') FROM (
   SELECT g.rolname AS "group", bool_or(admin_option) AS admin
          ${versionNumber >= 160000 ? ', bool_or(inherit_option) AS inherit, bool_or(set_option) AS set' : ''}
     FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid WHERE a.member = r.oid GROUP BY 1) m)`;

/**
 * Reads the roles of a server, apart from those of Postgres itself. Passwords are not read, only whether there are any.
 */
export async function readRoleFacts(session: Session): Promise<RoleFacts[]> {
  const { versionNumber } = session;
  const { superuser } = await session.one<{ superuser: boolean }>(
    'SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = current_user',
  );
  const rows = await session.all<
    Omit<RoleFacts, 'validUntil' | 'password' | 'parameters' | 'first'> & {
      validUntil: string | null;
      password: boolean | null;
      parameters: string | null;
      first: boolean;
    }
  >(
    `SELECT rolname AS name, array_remove(ARRAY[CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolinherit THEN 'INHERIT' END,
              CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
              CASE WHEN rolcanlogin THEN 'LOGIN' END, CASE WHEN rolreplication THEN 'REPLICATION' END,
              CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL) AS attributes,
            rolconnlimit AS "connectionLimit", (rolvaliduntil AT TIME ZONE 'UTC')::text AS "validUntil",
            ${superuser ? '(SELECT rolpassword IS NOT NULL FROM pg_authid a WHERE a.oid = r.oid)' : 'NULL'} AS password,
            ${memberships(versionNumber)} AS "memberOf", ${SETTINGS} AS settings,
            ${versionNumber >= 150000 ? PARAMETERS : 'NULL'} AS parameters, oid = 10 AS first
       FROM pg_roles r WHERE rolname !~ '^pg_' ORDER BY rolname`,
  );
  return rows.map(({ validUntil, password, parameters, first, ...row }) => ({
    ...row,
    ...(validUntil === null ? {} : { validUntil }),
    ...(password === null ? {} : { password }),
    ...(parameters === null ? {} : { parameters }),
    ...(first ? { first } : {}),
  }));
}

/** Describes how the roles of a restored server differ from the recorded ones. Passwords are not compared. */
export function roleDifferences(
  recorded: readonly RoleFacts[],
  restored: readonly RoleFacts[],
): Record<'roles' | 'memberships', string[]> {
  const now = new Map(restored.map((role) => [role.name, role]));
  const then = new Set(recorded.map(({ name }) => name));
  const found = { roles: [] as string[], memberships: [] as string[] };
  for (const role of recorded) {
    const present = now.get(role.name);
    if (!present) found.roles.push(`role ${role.name} is missing`);
    else {
      found.roles.push(...attributeDifferences(role, present));
      found.memberships.push(...membershipDifferences(role, present));
    }
  }
  // The server has its first role before anything is restored.
  for (const { name, first } of restored)
    if (!then.has(name) && !first) found.roles.push(`role ${name} is not in the record`);
  return found;
}

function attributeDifferences(then: RoleFacts, now: RoleFacts): string[] {
  const of = `role ${then.name}`;
  const differences: string[] = [];
  if (!then.first) {
    const lost = then.attributes.filter((one) => !now.attributes.includes(one));
    const gained = now.attributes.filter((one) => !then.attributes.includes(one));
    differences.push(...lost.map((one) => `${of} has ${one} no more`), ...gained.map((one) => `${of} has ${one} now`));
    if (then.connectionLimit !== now.connectionLimit)
      differences.push(`${of} has connection limit ${now.connectionLimit}, recorded ${then.connectionLimit}`);
    if (then.validUntil !== now.validUntil)
      differences.push(
        `${of} is valid until ${now.validUntil ?? 'any time'}, recorded ${then.validUntil ?? 'any time'}`,
      );
    if (then.password !== undefined && now.password !== undefined && then.password !== now.password)
      differences.push(`${of} has ${now.password ? 'a password' : 'no password'}, unlike recorded`);
  }
  for (const name of new Set([...Object.keys(then.settings), ...Object.keys(now.settings)]))
    if (then.settings[name] !== now.settings[name]) differences.push(`setting ${name} of ${of} differs`);
  if (then.parameters !== now.parameters) differences.push(`the rights of ${of} on parameters of the server differ`);
  return differences;
}

function membershipDifferences(then: RoleFacts, now: RoleFacts): string[] {
  // The first role of a new server and the predefined roles exist, so a restore leaves that role as it is.
  const texts = ({ name, memberOf, first }: RoleFacts) =>
    memberOf
      .filter(({ group }) => !first || !group.startsWith('pg_'))
      .map(({ group, admin, inherit, set }) => {
        const options = [
          ...(admin ? ['ADMIN'] : []),
          ...(inherit === false ? ['no INHERIT'] : []),
          ...(set === false ? ['no SET'] : []),
        ];
        return `role ${name} is a member of ${group}${options.length > 0 ? ` (${options.join(', ')})` : ''}`;
      });
  const [recorded, present] = [texts(then), texts(now)];
  return [
    ...recorded.filter((one) => !present.includes(one)).map((one) => `${one} no more`),
    ...present.filter((one) => !recorded.includes(one)).map((one) => `${one}, not in the record`),
  ];
}
