import { expect, test } from 'vitest';
import { withCommands } from '../../../../src/notify/slack-text.ts';
import { oneLine } from '../../../../src/report/format.ts';
import { makeLinks } from '../../../../src/sources/postgres/tables/table-links.ts';

const warningsFor = (sql: string) => {
  const parts = { foreignKeys: [], triggers: [], views: [], publications: [] };
  const made = {
    ...{ recorded: {}, shaped: { links: [], statistics: [] }, indexes: [], copy: false },
    parts: { ...parts, keysOfOthers: [{ what: 'public.lines key', sql }] },
  };
  return makeLinks(() => expect.fail('nothing to make'), made as unknown as Parameters<typeof makeLinks>[1]);
};

test.each([
  ['lines', 'public.lines'],
  ['two blanks', 'public.U&"two\\+000020\\+000020blanks"'],
])('the statement of a foreign key stays whole in every report: %s', async (name, shown) => {
  const table = name === 'lines' ? 'public.lines' : 'public."two  blanks"';
  const key = `FOREIGN KEY (${'c'.repeat(60)}, ${'d'.repeat(60)}) REFERENCES public.orders(id)`;
  const [warning = ''] = await warningsFor(`ALTER TABLE ONLY ${table}\n    ADD CONSTRAINT k ${key}`);
  const statement = `ALTER TABLE ONLY ${shown} ADD CONSTRAINT k ${key}`;
  expect(oneLine(warning)).toContain(`\`${statement}\``);
  expect(withCommands(warning, 200).join('\n')).toContain(statement.replace('&', '&amp;'));
});

test('a statement that no single line can hold is not shown changed', async () => {
  const [warning] = await warningsFor("CREATE INDEX i ON t (f('a\n  b'))");
  expect(warning).not.toContain('CREATE INDEX');
  expect(warning).toContain('`pg_restore --schema-only`');
});
