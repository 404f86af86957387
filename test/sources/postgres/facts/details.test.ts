import { describe, expect, test } from 'vitest';
import { compareRoles } from '../../../../src/sources/postgres/facts/details.ts';
import { differingSequences, watchSequences } from '../../../../src/sources/postgres/facts/sequences.ts';

describe('owners and rights', () => {
  const granted = [
    { kind: 'table', role: 'web', privilege: 'SELECT', objects: 61 },
    { kind: 'function', role: null, privilege: 'EXECUTE', objects: 3 },
  ];

  test('that are equal have no difference, in whatever order', () => {
    expect(compareRoles(granted, granted.toReversed())).toEqual([]);
  });

  test('that were lost, or came in addition, are named', () => {
    const now = [
      { kind: 'table', role: 'web', privilege: 'SELECT', objects: 60 },
      { kind: 'table', role: 'web', privilege: 'DELETE', objects: 1 },
    ];
    expect(compareRoles(granted, now)).toEqual([
      { what: 'tables on which web has SELECT', expected: 61, found: 60 },
      { what: 'functions on which PUBLIC has EXECUTE', expected: 3, found: 0 },
      { what: 'tables on which web has DELETE', expected: 0, found: 1 },
    ]);
    const owned = compareRoles(
      [{ kind: 'table', role: 'app', objects: 2 }],
      [{ kind: 'table', role: 'web', objects: 2 }],
    );
    expect(owned.map(({ what }) => what)).toEqual(['tables that app owns', 'tables that web owns']);
  });
});

describe('the values of sequences', () => {
  const at = (name: string, value: string | null) => ({ schema: 'public', name, value });

  /** A session that returns these values one after the other. An error stands for a query that the server refuses. */
  function session(...answers: (ReturnType<typeof at>[] | Error)[]) {
    return {
      ...{ database: 'app', versionNumber: 170004, one: async () => ({}) as never, close: async () => undefined },
      run: async () => undefined,
      async all<T extends object>(): Promise<T[]> {
        const answer = answers.shift() ?? [];
        if (answer instanceof Error) throw answer;
        return answer as T[];
      },
    };
  }
  const refused = Object.assign(new Error('permission denied'), { code: '42501', severity: 'ERROR' });

  test('are recorded, those that moved with both values', async () => {
    const before = [at('still', '5'), at('unused', null), at('moving', '7'), at('dropped', '1')];
    const watched = await watchSequences(session(before, [at('still', '5'), at('unused', null), at('moving', '9')]));
    expect(await watched.afterwards()).toEqual({
      sequences: [at('still', '5'), at('unused', null)],
      moved: [{ ...at('moving', '7'), after: '9' }],
    });
  });

  test('are not recorded if the server refuses them, and the dump goes on', async () => {
    expect(await (await watchSequences(session(refused))).afterwards()).toEqual({});
    expect(await (await watchSequences(session([at('still', '5')], refused))).afterwards()).toEqual({});
    expect(await (await watchSequences(session([at('still', '5')], new Error('lost')))).afterwards()).toEqual({});
    await expect(watchSequences(session(new Error('lost')))).rejects.toThrow('lost');
  });

  test('differ if one is missing, or at another value', () => {
    const sequences = [at('same', '5'), at('behind', '9'), at('gone', '1')];
    expect(differingSequences({ sequences }, [at('same', '5'), at('behind', '3'), at('new', '1')])).toEqual([
      { recorded: at('behind', '9'), found: at('behind', '3') },
      { recorded: at('gone', '1'), found: undefined },
    ]);
  });

  test.each([
    ['5', '9', ['5', '7', '9'], ['4', '10', null]],
    [null, '9', [null, '1', '9'], ['10']],
    ['9223372036854775800', '9223372036854775806', ['9223372036854775803'], ['9223372036854775807']],
    // It began again, so nothing is known.
    ['9', '2', ['1', '100'], []],
    ['9', null, ['1', null], []],
  ])('that moved from %s to %s lie in between', (value, after, good, bad) => {
    const moved = [{ ...at('s', value), after }];
    const differing = (found: string | null) => differingSequences({ sequences: [], moved }, [at('s', found)]).length;
    expect([good.map(differing), bad.map(differing)]).toEqual([good.map(() => 0), bad.map(() => 1)]);
  });

  test('that fall lie in between, too', () => {
    const moved = [{ ...at('s', '-5'), after: '-9', falls: true as const }];
    const differing = (found: string) => differingSequences({ sequences: [], moved }, [at('s', found)]).length;
    expect(['-4', '-5', '-7', '-9', '-10'].map(differing)).toEqual([1, 0, 0, 0, 1]);
  });
});
