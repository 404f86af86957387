-- Expressions that Postgres prints in another way after their first dump and restore, and what a dump leaves out.
DO $$ BEGIN CREATE ROLE app; CREATE ROLE other; EXCEPTION WHEN duplicate_object THEN END $$; 
CREATE SCHEMA s1;
CREATE TYPE s1.st AS ENUM ('a','b');
CREATE TABLE s1.a (id bigserial PRIMARY KEY, v varchar(20) CHECK (v IN ('a','b','c')), n numeric(10,2) DEFAULT 0, d date DEFAULT now(), ts timestamptz DEFAULT (now() AT TIME ZONE 'utc'),
  c char(5) DEFAULT 'x', st s1.st DEFAULT 'a' CHECK (st IN ('a','b')), i interval DEFAULT '1 day 02:03', m money DEFAULT 12.5, b bytea DEFAULT '\x00ff', j jsonb DEFAULT '{}', arr text[] DEFAULT '{}', arr2 varchar[] DEFAULT ARRAY['a','b'],
  x int CHECK (x BETWEEN 1 AND 10 AND x <> 5 AND (x > 3 OR x < 2)), y int DEFAULT -1, z float8 DEFAULT 1e-10, u uuid, t time(3) DEFAULT '01:02:03', tz timestamp(3) with time zone DEFAULT '2020-01-01', bits bit varying(5) DEFAULT B'101',
  CHECK (v LIKE 'a%' OR v SIMILAR TO '(b|c)%' AND NOT v IS NULL), CHECK (lower(v) IN ('a', 'b')), CHECK ((n > 0 AND x > 1) OR n IS DISTINCT FROM 5), CHECK (extract(year from ts) > 2000), CHECK (v NOT IN ('x','y')), CHECK (x = ANY ('{1,2,3}'::int[])));
CREATE INDEX ON s1.a (v) WHERE v IN ('a','b') AND x BETWEEN 2 AND 3;
CREATE INDEX ON s1.a (lower(v), (v || 'x'), (coalesce(n, 0)::int));
CREATE INDEX ON s1.a ((v::text COLLATE "C") text_pattern_ops DESC);
CREATE INDEX ON s1.a (x) INCLUDE (y) WITH (fillfactor=50);
CREATE UNIQUE INDEX ON s1.a (date_trunc('day', ts AT TIME ZONE 'UTC'));
CREATE VIEW s1.v AS SELECT a.id, a.v::text AS vt, CASE WHEN a.v IN ('a','b') THEN 1 ELSE 2 END AS k, a.x BETWEEN 1 AND 2 AND a.y > 3 AS bb, row_number() OVER (PARTITION BY a.v ORDER BY id) AS rn, ARRAY[a.v, 'z'] AS arr, a.n::int, 'lit' AS lit, NULL AS nul, (SELECT max(id) FROM s1.a i WHERE i.v = a.v) mx
  FROM s1.a LEFT JOIN LATERAL (SELECT 1 AS one WHERE a.x > 2) l ON true JOIN s1.a b USING (id) WHERE a.v NOT IN ('q', 'r') AND (a.x, a.y) = (1, 2) ORDER BY 1 LIMIT 5;
CREATE VIEW s1.w AS WITH q AS (SELECT * FROM s1.v UNION ALL SELECT * FROM s1.v) SELECT DISTINCT ON (id) *, count(*) FILTER (WHERE k = 1) OVER () FROM q WHERE vt ~~* 'x' AND EXISTS (SELECT FROM s1.a) GROUP BY GROUPING SETS ((id, vt, k, bb, rn, arr, n, lit, nul, mx), ()) HAVING count(*) > 1 ORDER BY id, vt;
CREATE VIEW s1.x AS SELECT * FROM (VALUES (1, 'a'::varchar), (2, 'b')) AS t (i, s) WHERE s IN ('a','b') OR i IN (1, 2.5);
CREATE VIEW s1.y WITH (check_option=local, security_barrier=true) AS SELECT id, v FROM s1.a WHERE v = 'a' OR v = 'b' OR v = 'c';
CREATE MATERIALIZED VIEW s1.mv AS SELECT a.id, string_agg(v, ',' ORDER BY v DESC) s FROM s1.a GROUP BY a.id WITH NO DATA;
CREATE TABLE s1.p (id int, k varchar(5), PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE s1.p1 PARTITION OF s1.p FOR VALUES IN ('a', 'b'); CREATE TABLE s1.p2 PARTITION OF s1.p DEFAULT;
CREATE TABLE s1.r (d date) PARTITION BY RANGE (d); CREATE TABLE s1.r1 PARTITION OF s1.r FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE s1.e (ts timestamptz, k text) PARTITION BY RANGE (date_trunc('day', ts AT TIME ZONE 'UTC'), lower(k));
CREATE TABLE s1.e1 PARTITION OF s1.e FOR VALUES FROM ('2020-01-01', 'a') TO ('2021-01-01', 'b');
CREATE TABLE s1.f (a_id bigint REFERENCES s1.a ON DELETE SET NULL, p_id int, p_k varchar(5), FOREIGN KEY (p_id, p_k) REFERENCES s1.p MATCH FULL);
CREATE TABLE s1.parent (a int NOT NULL DEFAULT 5, b varchar CHECK (b IN ('1','2')), CONSTRAINT noin CHECK (a > 0) NO INHERIT); CREATE TABLE s1.child (own int) INHERITS (s1.parent); ALTER TABLE s1.parent ADD COLUMN late text DEFAULT 'x'; ALTER TABLE s1.child ADD CHECK (b IN ('1','2','3')), ALTER a SET DEFAULT 7;
CREATE TABLE s1.child2 (b varchar CHECK (b IN ('1','2')), a int, extra text) INHERITS (s1.parent);
CREATE FUNCTION s1.f1(a int DEFAULT -5, b varchar DEFAULT 'x', VARIADIC c text[] DEFAULT ARRAY['a','b']::varchar[]) RETURNS TABLE (x int, y text) LANGUAGE plpgsql SET search_path = s1, "$user", 'odd "one' SET work_mem = '5MB' AS $$ BEGIN RETURN; END $$;
CREATE FUNCTION s1.f2() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1';
CREATE FUNCTION s1.tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t1 BEFORE UPDATE OF v, n ON s1.a FOR EACH ROW WHEN (OLD.v IS DISTINCT FROM NEW.v AND NEW.v IN ('a','b') AND NEW.x BETWEEN 1 AND 2) EXECUTE FUNCTION s1.tf('a', '\x');
CREATE TRIGGER tp AFTER INSERT ON s1.p FOR EACH ROW EXECUTE FUNCTION s1.tf(); ALTER TABLE s1.p1 DISABLE TRIGGER tp;
CREATE RULE r1 AS ON UPDATE TO s1.y WHERE old.v IN ('a','b') AND old.id BETWEEN 1 AND 5 DO INSTEAD UPDATE s1.a SET v = new.v WHERE id = old.id;
ALTER TABLE s1.a ENABLE ROW LEVEL SECURITY; CREATE POLICY pp ON s1.a FOR ALL TO app, other USING (v IN ('a','b') AND x BETWEEN 1 AND 2 AND current_setting('x.y', true)::int = id) WITH CHECK (v = 'a');
CREATE DOMAIN s1.dom AS varchar(10) DEFAULT 'a' CHECK (VALUE IN ('a','b')) CHECK (length(VALUE) BETWEEN 1 AND 5 AND VALUE <> 'q'); CREATE DOMAIN s1.dom2 AS s1.dom NOT NULL CONSTRAINT dd CHECK (VALUE::text ~ '^x');
CREATE STATISTICS s1.stat ON v, x FROM s1.a;
GRANT SELECT ON s1.a TO app WITH GRANT OPTION; REVOKE ALL ON s1.f FROM postgres; ALTER TABLE s1.p OWNER TO app; GRANT INSERT ON s1.p TO other; REVOKE ALL ON FUNCTION s1.f2() FROM PUBLIC; GRANT USAGE ON TYPE s1.st TO app; REVOKE USAGE ON TYPE s1.dom FROM PUBLIC;
GRANT SELECT (id), UPDATE (v) ON s1.a TO other; REVOKE SELECT (id) ON s1.a FROM other;
ALTER DEFAULT PRIVILEGES IN SCHEMA s1 GRANT SELECT ON TABLES TO app; ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC; ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT ALL ON SCHEMAS TO other;
COMMENT ON TABLE s1.a IS 't'; COMMENT ON COLUMN s1.a.v IS 'c'; COMMENT ON CONSTRAINT p_pkey ON s1.p IS 'pk'; COMMENT ON CONSTRAINT p1_pkey ON s1.p1 IS 'pk'; COMMENT ON INDEX s1.p1_pkey IS 'i'; COMMENT ON TRIGGER tp ON s1.p IS 'x'; COMMENT ON TRIGGER tp ON s1.p1 IS 'lost'; COMMENT ON SCHEMA s1 IS 'changed'; COMMENT ON RULE r1 ON s1.y IS 'r'; COMMENT ON DOMAIN s1.dom IS 'd'; COMMENT ON STATISTICS s1.stat IS 's'; COMMENT ON CONSTRAINT dd ON DOMAIN s1.dom2 IS 'd';
COMMENT ON CONSTRAINT parent_b_check ON s1.child IS 'inherited';
SELECT lo_create(4711); COMMENT ON LARGE OBJECT 4711 IS 'lo'; ALTER LARGE OBJECT 4711 OWNER TO app; GRANT SELECT ON LARGE OBJECT 4711 TO other;
DROP SCHEMA public; CREATE EXTENSION hstore SCHEMA s1; COMMENT ON EXTENSION hstore IS 'mine'; COMMENT ON TYPE s1.hstore IS 'lost';
CREATE VIEW s1.ht AS SELECT 'a=>1'::s1.hstore OPERATOR(s1.->) v AS x, s1.hstore('a', v) OPERATOR(s1.=) 'b=>1' AS y FROM s1.a;
CREATE TABLE s1.gen (a int, b int GENERATED ALWAYS AS (a * 2 + 1) STORED, c text GENERATED ALWAYS AS (CASE WHEN a IN (1,2) THEN 'x' ELSE 'y' || a::varchar END) STORED);
CREATE FUNCTION s1.etf() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER et ON ddl_command_end WHEN TAG IN ('DROP TABLE', 'CREATE TABLE') EXECUTE FUNCTION s1.etf();
