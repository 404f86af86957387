import { own, ownOutside } from './own.ts';
import { type Lines, named, plain, sorted } from './parts.ts';
import { rights } from './rights-lines.ts';

const EVENT_TRIGGERS: Lines = () => `SELECT NULL AS schema, evtname AS name,
    ROW(evtevent, evtenabled, evtfoid::regproc, ${sorted('evttags')})::text AS line
  FROM pg_event_trigger e WHERE ${ownOutside('pg_event_trigger', 'e.oid')}`;

const PUBLICATIONS: Lines = (version) => `SELECT NULL AS schema, pubname AS name,
    ROW(to_jsonb(p.*) - 'oid' - 'pubowner',
      (SELECT array_agg(ROW(prrelid::regclass ${
        version >= 150000
          ? `, ${plain('pg_get_expr(prqual, prrelid)')}, (SELECT array_agg(attname ORDER BY attname) FROM pg_attribute
               WHERE attrelid = prrelid AND attnum = ANY (prattrs::int2[]))`
          : ''
      })::text ORDER BY prrelid::regclass::text) FROM pg_publication_rel WHERE prpubid = p.oid)
      ${
        version >= 150000
          ? `, (SELECT array_agg(pnnspid::regnamespace::text ORDER BY pnnspid::regnamespace::text)
                 FROM pg_publication_namespace WHERE pnpubid = p.oid)`
          : ''
      })::text AS line
  FROM pg_publication p WHERE ${ownOutside('pg_publication', 'p.oid')}`;

/** Without connections, which may have passwords, and without the state: a restored subscription is disabled. */
const SUBSCRIPTIONS: Lines = () => `SELECT NULL AS schema, subname AS name,
    ROW(${sorted('subpublications')}, subslotname)::text AS line
  FROM pg_subscription s WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`;

/** Without the options of user mappings, which may have passwords. */
const FOREIGN: Lines = () => `SELECT NULL AS schema, concat('wrapper ', quote_ident(fdwname)) AS name,
    ROW(fdwhandler::regproc, fdwvalidator::regproc, ${sorted('fdwoptions')})::text AS line
  FROM pg_foreign_data_wrapper w WHERE ${ownOutside('pg_foreign_data_wrapper', 'w.oid')}
 UNION ALL SELECT NULL, concat('server ', quote_ident(srvname)),
    ROW(srvtype, srvversion, ${sorted('srvoptions')}, (SELECT fdwname FROM pg_foreign_data_wrapper w WHERE w.oid = srvfdw))::text
  FROM pg_foreign_server s WHERE ${ownOutside('pg_foreign_server', 's.oid')}
 UNION ALL SELECT NULL, concat('user mapping of ', quote_ident(usename), ' for ', quote_ident(srvname)), '' FROM pg_user_mappings`;

const DEFAULT_PRIVILEGES: Lines = () => `SELECT n.nspname AS schema,
    concat(CASE defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
      WHEN 'n' THEN 'schemas' ELSE 'large objects' END, ' of ', quote_ident(rolname)) AS name,
    ${rights('defaclacl')} AS line
  FROM pg_default_acl d JOIN pg_roles r ON r.oid = defaclrole LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
 WHERE ${ownOutside('pg_default_acl', 'd.oid')} AND (defaclnamespace = 0 OR ${own('defaclnamespace')})`;

/** Without the version, which is that of the system on which a collation is created. */
const COLLATIONS: Lines = () => `SELECT n.nspname AS schema, collname AS name,
    (to_jsonb(c.*) - 'oid' - 'collnamespace' - 'collowner' - 'collversion')::text AS line
  FROM pg_collation c JOIN pg_namespace n ON n.oid = collnamespace WHERE ${named('pg_collation', 'c.oid', 'collnamespace')}`;

const CONVERSIONS: Lines = () => `SELECT n.nspname AS schema, conname AS name,
    ROW(conforencoding, contoencoding, conproc::regproc, condefault)::text AS line
  FROM pg_conversion c JOIN pg_namespace n ON n.oid = connamespace WHERE ${named('pg_conversion', 'c.oid', 'connamespace')}`;

const TEXT_SEARCH: Lines = () => `SELECT n.nspname AS schema, concat('dictionary ', quote_ident(dictname)) AS name,
    ROW(dictinitoption, (SELECT ROW(tmplnamespace::regnamespace, tmplname)::text FROM pg_ts_template WHERE oid = dicttemplate))::text AS line
  FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = dictnamespace WHERE ${named('pg_ts_dict', 'd.oid', 'dictnamespace')}
 UNION ALL SELECT n.nspname, concat('configuration ', quote_ident(cfgname)),
    ROW((SELECT ROW(prsnamespace::regnamespace, prsname)::text FROM pg_ts_parser WHERE oid = cfgparser),
      (SELECT array_agg(ROW(maptokentype, mapdict::regdictionary)::text ORDER BY maptokentype, mapseqno)
         FROM pg_ts_config_map WHERE mapcfg = c.oid))::text
  FROM pg_ts_config c JOIN pg_namespace n ON n.oid = cfgnamespace WHERE ${named('pg_ts_config', 'c.oid', 'cfgnamespace')}`;

const LANGUAGES: Lines = () => `SELECT NULL AS schema, lanname AS name,
    ROW(lanpltrusted, lanplcallfoid::regproc, laninline::regproc, lanvalidator::regproc)::text AS line
  FROM pg_language l WHERE ${ownOutside('pg_language', 'l.oid')}`;

/** Objects that few databases have. */
export const OTHER_LINES: Readonly<Record<string, Lines>> = {
  'event triggers': EVENT_TRIGGERS,
  publications: PUBLICATIONS,
  subscriptions: SUBSCRIPTIONS,
  'foreign data': FOREIGN,
  'default privileges': DEFAULT_PRIVILEGES,
  collations: COLLATIONS,
  conversions: CONVERSIONS,
  'text search': TEXT_SEARCH,
  languages: LANGUAGES,
};
