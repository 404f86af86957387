/** Matches objects that belong to an extension, and that pg_dump therefore leaves out (pg_depend: e). */
export const member = (classId: string, objectId: string) =>
  `EXISTS (SELECT FROM pg_depend m WHERE m.classid = '${classId}'::regclass AND m.objid = ${objectId} AND m.deptype = 'e')`;

/** Matches schemas of the user. */
export const own = (namespace: string) =>
  `${namespace} IN (SELECT oid FROM pg_namespace
     WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)')`;

/** Matches tables of the user. An object that depends on a table of an extension belongs to the extension too. */
export const ownTable = (id: string) =>
  `${id} IN (SELECT t.oid FROM pg_class t WHERE ${own('t.relnamespace')} AND NOT ${member('pg_class', 't.oid')})`;

/** Matches what the user created outside of schemas. initdb creates objects with lower ids (FirstNormalObjectId). */
export const ownOutside = (catalogue: string, id: string) => `${id} >= 16384 AND NOT ${member(catalogue, id)}`;
