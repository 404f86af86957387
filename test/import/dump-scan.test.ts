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
  ['CREATE POLICY p ON public.t FOR SELECT TO a, "b, c", d WITH CHECK (true);', ['a', 'b, c', 'd']],
  ['ALTER TABLE public."x OWNER TO y" OWNER TO "a OWNER TO b";', ['a OWNER TO b']],
  [`ALTER FUNCTION public.f(${'integer, '.repeat(1000)}integer) OWNER TO bob;`, ['bob']],
  [
    `COPY public.t (${'a, '.repeat(5000)}a) FROM stdin;\nALTER TABLE t OWNER TO row;\n\\.\r\nALTER TABLE t OWNER TO bob;`,
    ['bob'],
  ],
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

/** Feeds 64 MiB of one line. */
function feedLine(scanner: DumpScanner, start: string, filler: string): void {
  const chunk = Buffer.from(filler.repeat(Math.ceil(65_536 / filler.length)));
  scanner.add(Buffer.from(start));
  for (let fed = 0; fed < 64 * 1024 * 1024; fed += chunk.length) scanner.add(chunk);
}

test.each([
  ['', 'x'],
  ['-- ', 'comment '],
  ['GRANT ', ' ON  TO a'],
  ['CREATE ROLE ', 'x'],
  ['CREATE POLICY ', ' TO "a", " TO '],
  ['COPY public.t (a) FROM stdin;\n', '1\t'],
])('reads a line without end after %j with constant memory', (start, filler) => {
  const scanner = new DumpScanner();
  const before = process.memoryUsage().rss;
  feedLine(scanner, start, filler);
  expect(process.memoryUsage().rss - before).toBeLessThan(48 * 1024 * 1024);
  scanner.add(Buffer.from('\n'));
  expect(scanner.end().complete).toBe(false);
});

// With `.*` twice in a pattern, a line of one chunk took seconds.
test.each(['GRANT ', 'REVOKE ', 'ALTER DEFAULT PRIVILEGES FOR ROLE a ', 'CREATE POLICY p', 'CREATE SCHEMA '])(
  'reads a long line of %j in linear time',
  (start) => {
    const began = performance.now();
    const scanner = new DumpScanner();
    const line = `${start}${' ON x TO "a" FROM "b", AUTHORIZATION "" OWNER TO c'.repeat(5000)}\n`;
    for (let i = 0; i < 20; i++) scanner.add(Buffer.from(line));
    expect(scanner.end().complete).toBe(false);
    expect(performance.now() - began).toBeLessThan(2000);
  },
);

test.each([
  ['roles', (i: number) => `ALTER TABLE t OWNER TO r${i};\n`],
  ['roles', (i: number) => `CREATE ROLE r${i};\n`],
  ['databases', (i: number) => `\\connect d${i}\n`],
])('refuses a dump with too many %s', (what, line) => {
  const scanner = new DumpScanner();
  for (let i = 0; i < 20_001; i++) scanner.add(Buffer.from(line(i)));
  expect(() => scanner.end()).toThrow(`more than 20000 ${what}`);
});
