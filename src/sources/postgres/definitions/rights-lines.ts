import { member, own, ownOutside, ownTable } from './own.ts';
import { type Lines, named } from './parts.ts';
import { OWN_TYPE } from './routine-lines.ts';

/** Rights as text, in order. Leaves out those of roles that no longer exist. */
export const rights = (acl: string) =>
  `(SELECT array_agg(ROW(rolname, privilege_type, is_grantable)::text
       ORDER BY rolname, privilege_type COLLATE "C", is_grantable)
     FROM aclexplode(${acl}) LEFT JOIN pg_roles g ON g.oid = grantee WHERE grantee = 0 OR g.oid IS NOT NULL)::text`;

/** The owner and all rights. Default rights are written out, because a dump may store either form. */
const owned = (owner: string, acl: string, type: string) =>
  `ROW(pg_get_userbyid(${owner}), ${rights(`coalesce(${acl}, acldefault('${type}'::"char", ${owner}))`)})::text AS line`;

const ofRelations =
  (kinds: string, type: string): Lines =>
  () =>
    `SELECT n.nspname AS schema, relname AS name, ${owned('relowner', 'relacl', type)}
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relkind IN (${kinds}) AND relpersistence <> 't' AND ${ownTable('c.oid')}`;

const ON_COLUMNS: Lines = () => `SELECT n.nspname AS schema, concat(c.oid::regclass, '.', quote_ident(attname)) AS name,
    ${rights('attacl')} AS line
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
 WHERE NOT attisdropped AND ${ownTable('c.oid')}
   AND EXISTS (SELECT FROM aclexplode(attacl) WHERE grantee = 0 OR grantee IN (SELECT oid FROM pg_roles))`;

const ON_FUNCTIONS: Lines = () => `SELECT n.nspname AS schema, p.oid::regprocedure::text AS name,
    ${owned('proowner', 'proacl', 'f')}
  FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
 WHERE ${own('pronamespace')} AND NOT EXISTS (SELECT FROM pg_depend m
    WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND m.deptype IN ('e', 'i'))`;

/**
 * The schema `public` as initdb creates it does not count: if somebody dropped it, a restored database has it again.
 * Since version 15, it belongs to pg_database_owner (6171), before to the first superuser (10).
 */
const ON_SCHEMAS: Lines = (version) => {
  const [owner, byDefault] = version >= 150000 ? [6171, '0 U'] : [10, '0 C 0 U'];
  return `SELECT nspname AS schema, nspname AS name, ${owned('nspowner', 'nspacl', 'n')}
  FROM pg_namespace n WHERE ${own('n.oid')} AND NOT ${member('pg_namespace', 'n.oid')}
   AND NOT (nspname = 'public' AND nspowner = ${owner} AND '${byDefault} ${owner} C ${owner} U' =
     (SELECT string_agg(concat(grantee, ' ', left(privilege_type, 1), CASE WHEN is_grantable THEN '*' END), ' '
        ORDER BY grantee, privilege_type) FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner)))))`;
};

const ON_TYPES: Lines = () => `SELECT n.nspname AS schema, typname AS name, ${owned('typowner', 'typacl', 'T')}
  FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE typisdefined AND ${OWN_TYPE}`;

const ON_LARGE_OBJECTS: Lines = () => `SELECT NULL AS schema, l.oid::text AS name, ${owned('lomowner', 'lomacl', 'L')}
  FROM pg_largeobject_metadata l`;

/** Languages, servers and foreign data wrappers have rights. Other objects only have an owner. */
const ON_OTHERS: Lines =
  () => `SELECT NULL AS schema, concat('language ', lanname) AS name, ${owned('lanowner', 'lanacl', 'l')}
  FROM pg_language l WHERE lanpltrusted
 UNION ALL SELECT NULL, concat('server ', srvname), ${owned('srvowner', 'srvacl', 'S')}
  FROM pg_foreign_server s WHERE ${ownOutside('pg_foreign_server', 's.oid')}
 UNION ALL SELECT NULL, concat('foreign data wrapper ', fdwname), ${owned('fdwowner', 'fdwacl', 'F')}
  FROM pg_foreign_data_wrapper w WHERE ${ownOutside('pg_foreign_data_wrapper', 'w.oid')}
 UNION ALL SELECT NULL, concat('event trigger ', evtname), pg_get_userbyid(evtowner)
  FROM pg_event_trigger e WHERE ${ownOutside('pg_event_trigger', 'e.oid')}
 UNION ALL SELECT NULL, concat('publication ', pubname), pg_get_userbyid(pubowner)
  FROM pg_publication p WHERE ${ownOutside('pg_publication', 'p.oid')}
 ${OWNED_IN_SCHEMAS.map(
   ([
     what,
     catalogue,
     prefix,
   ]) => `UNION ALL SELECT n.nspname, concat('${what} ', ${prefix}name), pg_get_userbyid(${prefix}owner)
  FROM ${catalogue} x JOIN pg_namespace n ON n.oid = ${prefix}namespace
 WHERE ${named(catalogue, 'x.oid', `${prefix}namespace`)}`,
 ).join('\n')}`;

const OWNED_IN_SCHEMAS = [
  ['collation', 'pg_collation', 'coll'],
  ['conversion', 'pg_conversion', 'con'],
  ['operator', 'pg_operator', 'opr'],
  ['operator family', 'pg_opfamily', 'opf'],
  ['statistics object', 'pg_statistic_ext', 'stx'],
  ['text search dictionary', 'pg_ts_dict', 'dict'],
  ['text search configuration', 'pg_ts_config', 'cfg'],
] as const;

/** Owners and rights, by kind of object. */
export const RIGHTS_LINES: Readonly<Record<string, Lines>> = {
  'rights on tables': ofRelations("'r', 'p', 'f'", 'r'),
  'rights on views': ofRelations("'v', 'm'", 'r'),
  'rights on sequences': ofRelations("'S'", 's'),
  'rights on columns': ON_COLUMNS,
  'rights on functions': ON_FUNCTIONS,
  'rights on schemas': ON_SCHEMAS,
  'rights on types': ON_TYPES,
  'rights on large objects': ON_LARGE_OBJECTS,
  'rights on other objects': ON_OTHERS,
};
