-- Roles, their memberships and settings, and databases with what belongs to them from outside.
SELECT current_setting('server_version_num')::int >= 140000 AS v14, current_setting('server_version_num')::int >= 150000 AS v15,
       current_setting('server_version_num')::int >= 160000 AS v16, current_setting('server_version_num')::int >= 170000 AS v17 \gset

-- By name, as pg_dumpall creates them: some listings of roles are in the order of their making.
CREATE ROLE "-f" BYPASSRLS REPLICATION;
CREATE ROLE "Keeper ""o'zoo"" $(id); -- ünï" LOGIN CREATEROLE PASSWORD 'keeper-canary-2';
CREATE ROLE zoo_group;
SET password_encryption = 'md5';
CREATE ROLE zoo_old LOGIN PASSWORD 'keeper-canary-3';
RESET password_encryption;
CREATE ROLE zoo_owner LOGIN CREATEDB PASSWORD 'keeper-canary-1';
CREATE ROLE zoo_reader NOLOGIN NOINHERIT;
CREATE ROLE zoo_writer LOGIN CONNECTION LIMIT 5 VALID UNTIL '2031-05-01 12:00+00' PASSWORD E'it''s "a" \\ pass; word';

GRANT zoo_reader TO zoo_writer WITH ADMIN OPTION;
SET SESSION AUTHORIZATION zoo_writer;
GRANT zoo_reader TO zoo_old;
RESET SESSION AUTHORIZATION;
GRANT zoo_group TO zoo_owner, "Keeper ""o'zoo"" $(id); -- ünï", postgres;
GRANT pg_monitor TO zoo_reader;
\if :v14
GRANT pg_read_all_data TO zoo_reader;
\endif
\if :v15
GRANT SET ON PARAMETER log_min_duration_statement TO zoo_writer;
\endif
\if :v16
GRANT zoo_reader TO "-f" WITH INHERIT FALSE, SET TRUE;
\endif

ALTER ROLE zoo_owner SET search_path = zoo, public, "we""ird, $(x)";
ALTER ROLE zoo_owner SET work_mem = '7MB';
ALTER ROLE zoo_writer SET zoo.greeting = E'tab\there, back\\slash, it''s; done';
ALTER ROLE postgres SET lock_timeout = '11min';
COMMENT ON ROLE zoo_owner IS E'two\nlines; -- and no comment';
COMMENT ON ROLE postgres IS 'the first';

CREATE DATABASE zoo OWNER zoo_owner;
COMMENT ON DATABASE zoo IS E'the zoo''s "own" \\ database';
ALTER DATABASE zoo CONNECTION LIMIT 77;
ALTER DATABASE zoo SET search_path = zoo, public, "$user", "we""ird, name";
ALTER DATABASE zoo SET default_statistics_target = 321;
ALTER DATABASE zoo SET zoo.secret = E'tab\there, back\\slash, it''s';
ALTER DATABASE zoo SET DateStyle = 'SQL, DMY';
ALTER DATABASE zoo SET extra_float_digits = 0;
ALTER DATABASE zoo SET standard_conforming_strings = off;
ALTER DATABASE zoo SET default_transaction_read_only = on;
ALTER ROLE zoo_reader IN DATABASE zoo SET work_mem = '9MB';
ALTER ROLE "Keeper ""o'zoo"" $(id); -- ünï" IN DATABASE zoo SET search_path = '';
REVOKE ALL ON DATABASE zoo FROM PUBLIC;
GRANT CONNECT ON DATABASE zoo TO zoo_writer WITH GRANT OPTION;
GRANT CREATE, TEMPORARY ON DATABASE zoo TO "Keeper ""o'zoo"" $(id); -- ünï";
SET SESSION AUTHORIZATION zoo_writer;
GRANT CONNECT ON DATABASE zoo TO zoo_reader;
RESET SESSION AUTHORIZATION;

CREATE DATABASE "-f zoo 'latin' ""1"" $(id)\n" TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' OWNER zoo_writer;
CREATE DATABASE zoo_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE "zoo = host='evil' äöü 漢字" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'en_US.utf8';
\if :v17
CREATE DATABASE zoo_builtin TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8';
\endif
\if :v16
CREATE DATABASE zoo_icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' ICU_RULES '&a < g';
\elif :v15
CREATE DATABASE zoo_icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk';
\endif

ALTER DATABASE postgres SET timezone = 'Europe/Berlin';
CREATE EXTENSION pgcrypto;
