import { expect, test } from 'vitest';
import { unqualifiedNames } from '../../../../src/sources/postgres/dump/fragile.ts';

test('names without a schema are found in a body, and in nothing that is text, comment or qualified', () => {
  expect(
    unqualifiedNames(`BEGIN
      -- FROM commented
      /* FROM commented_too */
      RETURN EXISTS (SELECT 1 FROM rates r JOIN ONLY "Odd ""one""" o ON true JOIN public.known USING (id))
        AND helper(x) > 0 AND public.other(x) = 1 AND s . third(x) = 2 AND note <> 'FROM text and call()'
        AND EXISTS (SELECT FROM generate_series(1, 2));
    END`),
  ).toEqual({
    tables: ['rates', 'Odd "one"'],
    functions: ['exists', 'using', 'helper', 'exists', 'generate_series'],
  });
});
