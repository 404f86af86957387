-- SQL_ASCII takes any byte: this is not UTF-8, in names too.
SET client_encoding = 'SQL_ASCII';
CREATE TABLE plain (id int PRIMARY KEY, v text);
INSERT INTO plain SELECT i, E'\xe4\xf6' || i FROM generate_series(1, 50) i;
DO $$ BEGIN EXECUTE E'CREATE TABLE "t\xe4ble" AS SELECT 1 AS "k\xf6nig"'; END $$;
