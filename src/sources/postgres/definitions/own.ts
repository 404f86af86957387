/** Matches objects that belong to an extension, and that pg_dump therefore leaves out (pg_depend: e). */
export const member = (classId: string, objectId: string) =>
  `EXISTS (SELECT FROM pg_depend m WHERE m.classid = '${classId}'::regclass AND m.objid = ${objectId} AND m.deptype = 'e')`;

/** Extensions that a restore leaves out, and the schemas that it leaves out with them, whoever made what is in them. */
export const LEFT_OUT = [{ extension: 'pg_cron', schema: 'cron' }] as const;

/** Matches the names of schemas that a restore leaves out. The restored database has neither them nor the extension. */
const leftOutSchema = (name: string) =>
  LEFT_OUT.map(
    ({ extension, schema }) =>
      `(${name} = '${schema}' AND EXISTS (SELECT FROM pg_extension WHERE extname = '${extension}'))`,
  ).join(' OR ');

/** Matches schemas of the user, apart from those that a restore leaves out. */
export const own = (namespace: string) =>
  `${namespace} IN (SELECT oid FROM pg_namespace
     WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
       AND NOT (${leftOutSchema('nspname')}))`;

/**
 * Matches what a restore leaves out with an extension: the extension, its schema, and what is in that schema or on one
 * of its tables.
 *
 * @param o the object, as pg_identify_object describes it
 */
export const leftOut = (o: string) =>
  `(${LEFT_OUT.map(
    ({ extension, schema }) => `${o}.type = 'extension' AND ${o}.identity = '${extension}'
       OR (${o}.schema = '${schema}' OR ${o}.type = 'schema' AND ${o}.identity = '${schema}'
         OR ${o}.schema IS NULL AND ${o}.identity ~ ' on ${schema}[.][^ ]+$')
         AND EXISTS (SELECT FROM pg_extension WHERE extname = '${extension}')`,
  ).join(' OR ')})`;

/** Matches tables of the user. An object that depends on a table of an extension belongs to the extension too. */
export const ownTable = (id: string) =>
  `${id} IN (SELECT t.oid FROM pg_class t WHERE ${own('t.relnamespace')} AND NOT ${member('pg_class', 't.oid')})`;

/** Matches what the user created outside of schemas. initdb creates objects with lower ids (FirstNormalObjectId). */
export const ownOutside = (catalogue: string, id: string) => `${id} >= 16384 AND NOT ${member(catalogue, id)}`;
