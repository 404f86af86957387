import { expect, test } from 'vitest';
import { DumpScanner } from '../../src/import/dump-scan.ts';

function scan(text: string, size = 7) {
  const scanner = new DumpScanner();
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) scanner.add(bytes.subarray(at, at + size));
  return scanner.end();
}

const END = '--\n-- PostgreSQL database dump complete\n--\n\n';

test.each([
  ['ALTER TABLE public.t OWNER TO shop;', ['shop']],
  ['ALTER TABLE public."a b" OWNER TO "Odd ""name";', ['Odd "name']],
  ['ALTER FUNCTION public.f(a integer) OWNER TO größe;', ['größe']],
  ['GRANT SELECT ON TABLE public.t TO bob WITH GRANT OPTION;', ['bob']],
  ['GRANT ALL ON SCHEMA public TO PUBLIC;', []],
  ['REVOKE ALL ON SCHEMA public FROM eve;', ['eve']],
  ['ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA public GRANT SELECT ON TABLES TO b;', ['a', 'b']],
  ['CREATE POLICY p ON public.t FOR SELECT TO bob USING (true);', ['bob']],
  ['CREATE SCHEMA s AUTHORIZATION bob;', ['bob']],
  ["SET SESSION AUTHORIZATION 'bob';", ['bob']],
  ['GRANT SELECT ON TABLE public.t TO pg_monitor;', []],
  ['CREATE ROLE shop;\nALTER ROLE shop WITH LOGIN;\nALTER TABLE public.t OWNER TO shop;', []],
  ['COPY public.t (a) FROM stdin;\nALTER TABLE t OWNER TO row;\n\\.\nALTER TABLE t OWNER TO bob;', ['bob']],
  [`SELECT '${'x'.repeat(100_000)}';\nALTER TABLE t OWNER TO bob;`, ['bob']],
  ['ALTER TABLE public.t OWNER TO shop;\r', ['shop']],
])('names the roles of %.80s', (text, roles) => {
  expect(scan(`${text}\n${END}`)).toEqual({ roles, databases: [], complete: true });
});

test.each([
  ['\\connect shop', ['shop']],
  [String.raw`\connect -reuse-previous=on "dbname='odd \'name'"`, ["odd 'name"]],
  ['\\connect "two words"', ['two words']],
])('names the database of %s', (text, databases) => {
  expect(scan(`${text}\n${END}`).databases).toEqual(databases);
});

test.each([
  ['', false],
  ['SELECT 1;\n', false],
  [`SELECT 1;\n${END}`, true],
  [`SELECT 1;\n${END}\\unrestrict abc\n\n`, true],
  ['SELECT 1;\n--\n-- PostgreSQL database cluster dump complete\n--\n', true],
  // Of several databases, one is whole and the next is cut.
  [`${END}COPY public.t (a) FROM stdin;\n1\n`, false],
  [`COPY public.t (a) FROM stdin;\n${END}`, false],
])('knows whether %j is complete', (text, complete) => {
  expect(scan(text, 3).complete).toBe(complete);
});
