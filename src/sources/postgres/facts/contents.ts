import type { Session } from '../server/session.ts';

/**
 * The contents of a database. `nothing`: as `CREATE DATABASE … TEMPLATE template0` creates it. `extensions`: only
 * objects of extensions, as in the databases that some images prepare. `data`: at least one object that a person or an
 * application created.
 */
export type Contents = 'nothing' | 'extensions' | 'data';

/** Objects that initdb creates have lower ids (FirstNormalObjectId, access/transam.h). */
const FIRST_OBJECT = 16384;

/** Catalogues whose objects may belong to no schema. Objects of all others are found through their schema. */
const OUTSIDE_SCHEMAS = [
  'pg_foreign_data_wrapper',
  'pg_foreign_server',
  'pg_event_trigger',
  'pg_publication',
  'pg_default_acl',
  'pg_cast',
  'pg_language',
];

/** Reads the contents of the session's database. Dependencies (pg_depend) show which objects belong to an extension. */
export async function readContents(session: Session): Promise<Contents> {
  const member = (classId: string, objectId: string) =>
    `EXISTS (SELECT FROM pg_depend m WHERE m.classid = ${classId} AND m.objid = ${objectId} AND m.deptype = 'e')`;
  const own = [
    'EXISTS (SELECT FROM pg_largeobject_metadata)',
    `EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.objid >= ${FIRST_OBJECT}
        AND d.classid <> 'pg_extension'::regclass AND NOT ${member('d.classid', 'd.objid')})`,
    `EXISTS (SELECT FROM pg_namespace n WHERE n.oid >= ${FIRST_OBJECT} AND n.nspname !~ '^pg_(toast_)?temp_'
        AND NOT ${member("'pg_namespace'::regclass", 'n.oid')}
        AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extnamespace = n.oid))`,
    ...OUTSIDE_SCHEMAS.map(
      (catalogue) =>
        `EXISTS (SELECT FROM ${catalogue} c WHERE c.oid >= ${FIRST_OBJECT} AND NOT ${member(`'${catalogue}'::regclass`, 'c.oid')})`,
    ),
  ];
  const { data, extensions } = await session.one<{ data: boolean; extensions: boolean }>(
    `SELECT ${own.join('\n OR ')} AS data, EXISTS (SELECT FROM pg_extension WHERE oid >= ${FIRST_OBJECT}) AS extensions`,
  );
  if (data) return 'data';
  return extensions ? 'extensions' : 'nothing';
}
