import { member, own } from './own.ts';
import { columns, type Lines, named, plain } from './parts.ts';

/** Functions, procedures and aggregates, without the constructors of range types (pg_depend: i). */
const FUNCTIONS: Lines = (version) => `SELECT n.nspname AS schema, p.oid::regprocedure::text AS name,
    ROW(prokind, lanname, prosrc, probin, ${version >= 140000 ? plain('pg_get_function_sqlbody(p.oid)') : 'NULL'},
      ${plain('pg_get_function_arguments(p.oid)')}, pg_get_function_result(p.oid), provolatile, proisstrict, prosecdef,
      proleakproof, proparallel, procost, prorows, prosupport::regproc, translate(proconfig::text, E' "''\\\\', ''),
      (SELECT array_agg(format_type(u, NULL) ORDER BY u) FROM unnest(protrftypes) u),
      (SELECT ROW(aggkind, aggtransfn::regprocedure, aggfinalfn::regprocedure, aggcombinefn::regprocedure,
          aggserialfn::regprocedure, aggdeserialfn::regprocedure, aggmtransfn::regprocedure, aggminvtransfn::regprocedure,
          aggmfinalfn::regprocedure, aggfinalextra, aggmfinalextra, aggfinalmodify, aggmfinalmodify,
          aggsortop::regoperator, format_type(aggtranstype, NULL), aggtransspace, format_type(aggmtranstype, NULL),
          aggmtransspace, agginitval, aggminitval)::text FROM pg_aggregate a WHERE a.aggfnoid = p.oid))::text AS line
  FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
 WHERE ${own('pronamespace')} AND NOT EXISTS (SELECT FROM pg_depend m
    WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND m.deptype IN ('e', 'i'))`;

/** Types that a user creates by themselves: domains, enumerations, composite types, ranges and base types. */
const TYPES: Lines = (version) => `SELECT n.nspname AS schema, t.typname AS name,
    ROW(typtype, typnotnull, format_type(nullif(typbasetype, 0), typtypmod),
      CASE WHEN typcollation <> 0 THEN typcollation::regcollation END,
      coalesce(${plain('pg_get_expr(typdefaultbin, 0)')}, typdefault),
      (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
      (SELECT ROW(format_type(rngsubtype, NULL), rngcollation::regcollation, rngcanonical::regproc, rngsubdiff::regproc,
          (SELECT opcname FROM pg_opclass o WHERE o.oid = rngsubopc)
          ${version >= 140000 ? ', format_type(rngmultitypid, NULL)' : ''})::text FROM pg_range WHERE rngtypid = t.oid),
      CASE typtype WHEN 'b' THEN ROW(typinput::regproc, typoutput::regproc, typreceive::regproc, typsend::regproc,
        typmodin::regproc, typmodout::regproc, typanalyze::regproc, typlen, typbyval, typalign, typstorage, typdelim,
        typcategory, typispreferred, format_type(nullif(typelem, 0), NULL))::text END,
      CASE typtype WHEN 'c' THEN ${columns(version)} END)::text AS line
  FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace LEFT JOIN pg_class c ON c.oid = typrelid
 WHERE typisdefined AND ${OWN_TYPE}`;

/** Matches types that stand for themselves, not for a table, an array or a range. */
export const OWN_TYPE = `(typtype IN ('d', 'e', 'r') OR (typtype = 'c' AND EXISTS (SELECT FROM pg_class r
      WHERE r.oid = typrelid AND r.relkind = 'c')) OR (typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e
      WHERE e.typarray = t.oid))) AND ${named('pg_type', 't.oid', 'typnamespace')}`;

const OPERATORS: Lines = () => `SELECT n.nspname AS schema, o.oid::regoperator::text AS name,
    ROW(oprkind, oprcanmerge, oprcanhash, format_type(oprresult, NULL), oprcode::regprocedure, oprcom::regoperator,
      oprnegate::regoperator, oprrest::regproc, oprjoin::regproc)::text AS line
  FROM pg_operator o JOIN pg_namespace n ON n.oid = oprnamespace
 WHERE oprcode <> 0 AND ${named('pg_operator', 'o.oid', 'oprnamespace')}`;

/** Families with their operators and functions, which include those of their classes. */
const FAMILIES: Lines = () => `SELECT n.nspname AS schema, concat(amname, ' ', quote_ident(opfname)) AS name,
    ROW((SELECT array_agg(ROW(amopstrategy, amoppurpose, amopopr::regoperator)::text
           ORDER BY amopstrategy, amopopr::regoperator::text) FROM pg_amop WHERE amopfamily = f.oid),
      (SELECT array_agg(ROW(amprocnum, format_type(amproclefttype, NULL), format_type(amprocrighttype, NULL),
          amproc::regprocedure)::text ORDER BY amprocnum, amproc::regprocedure::text) FROM pg_amproc
        WHERE amprocfamily = f.oid),
      (SELECT array_agg(ROW(opcname, format_type(opcintype, NULL), opcdefault, format_type(nullif(opckeytype, 0), NULL))::text
           ORDER BY opcname) FROM pg_opclass o WHERE opcfamily = f.oid))::text AS line
  FROM pg_opfamily f JOIN pg_am a ON a.oid = opfmethod JOIN pg_namespace n ON n.oid = opfnamespace
 WHERE ${named('pg_opfamily', 'f.oid', 'opfnamespace')}`;

const CASTS: Lines = () => `SELECT NULL AS schema,
    concat(format_type(castsource, NULL), ' AS ', format_type(casttarget, NULL)) AS name,
    ROW(castfunc::regprocedure, castcontext, castmethod)::text AS line
  FROM pg_cast c WHERE c.oid >= 16384 AND NOT ${member('pg_cast', 'c.oid')}`;

/** The objects that functions need, and those that need functions. */
export const ROUTINE_LINES: Readonly<Record<string, Lines>> = {
  functions: FUNCTIONS,
  types: TYPES,
  operators: OPERATORS,
  'operator families': FAMILIES,
  casts: CASTS,
};
