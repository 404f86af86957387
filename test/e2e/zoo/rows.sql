SET search_path = pg_catalog;
SET row_security = off;
SELECT format('SELECT %L, count(*), md5(string_agg(x::text, E''\n'' ORDER BY x::text COLLATE "C")) FROM ONLY %I.%I x',
              n.nspname || '.' || c.relname, n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C" \gexec
