import { expect, test } from 'vitest';
import { oneLine } from '../../src/report/format.ts';
import { oneLineStatement } from '../../src/report/restore-command.ts';

const KEY = 'FOREIGN KEY (a) REFERENCES public.b(id)';
test.each<[string, string | undefined]>([
  [`ALTER TABLE ONLY public.a\n    ADD CONSTRAINT k ${KEY}`, `ALTER TABLE ONLY public.a ADD CONSTRAINT k ${KEY}`],
  [`ALTER TABLE "it's"."a$b"\n    ADD CONSTRAINT k ${KEY}`, `ALTER TABLE "it's"."a$b" ADD CONSTRAINT k ${KEY}`],
  ['ALTER TABLE "two  blanks" ADD k', 'ALTER TABLE U&"two\\+000020\\+000020blanks" ADD k'],
  ['ALTER TABLE "a\n    ADD CONSTRAINT ""x\\\ty" ADD k', expect.stringContaining('U&"a\\+00000a')],
  ['ALTER TABLE "a`b" ADD k', 'ALTER TABLE U&"a\\+000060b" ADD k'],
  ['ALTER TABLE "a\u202eb" ADD k', 'ALTER TABLE U&"a\\+00202eb" ADD k'],
  ['ALTER TABLE "a""b c" ADD k', 'ALTER TABLE "a""b c" ADD k'],
  ["CREATE INDEX i ON t (f('a \"b c'))", "CREATE INDEX i ON t (f('a \"b c'))"],
  ["CREATE INDEX i ON t (f('a  b'))", undefined],
  ["CREATE INDEX i ON t (f('a`b'))", undefined],
])('a statement is put in one line and means the same: %j', (sql, expected) => {
  const line = oneLineStatement(sql);
  expect(line).toEqual(expected);
  // No report changes it.
  if (line !== undefined) expect(oneLine(line)).toBe(line);
});
