-- What each of the databases with other encodings holds: names and values beyond ASCII.
CREATE TABLE "täble Ñ" (id int PRIMARY KEY, "größe" text CHECK ("größe" <> 'ß'), raw bytea);
INSERT INTO "täble Ñ" SELECT i, 'wört ÿ ' || i, decode(lpad(to_hex(i), 8, '0'), 'hex') FROM generate_series(1, 300) i;
CREATE INDEX "ïndex" ON "täble Ñ" (lower("größe"));
CREATE FUNCTION "fün"(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'ø' || $1 $$;
COMMENT ON TABLE "täble Ñ" IS 'Überschrift';
