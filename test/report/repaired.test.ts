import { expect, test } from 'vitest';
import { vanishedError } from '../../src/backup/outcome.ts';
import type { Problem } from '../../src/plan/model.ts';
import { labelled, safety } from '../../src/report/last-good.ts';
import { withoutRepaired } from '../../src/report/tries.ts';
import { makeReport } from './fixtures.ts';

const label: Problem = {
  severity: 'error',
  code: 'LABEL_UNKNOWN',
  subject: 'web',
  message: 'unknown label',
  hint: 'x',
};
const hook: Problem = { ...label, code: 'HOOK_FAILED', message: 'a hook failed' };

test('a label problem of the last run that the present plan no longer has is left out', () => {
  const partial = makeReport({ status: 'partial', problems: [label] });
  expect(withoutRepaired(partial, [label])).toBe(partial);
  expect(withoutRepaired(partial, [])).toMatchObject({ status: 'ok', problems: [] });
  const reworded = { ...label, message: 'another unknown label' };
  expect(withoutRepaired(partial, [reworded])).toMatchObject({ status: 'partial', problems: [reworded] });
  const twice = makeReport({ status: 'partial', problems: [label, { ...label, message: 'a third one' }] });
  expect(withoutRepaired(twice, [reworded]).problems).toEqual([reworded]);
  // One of two mistakes is repaired. The present plan has the other one as an object of its own.
  const second = { ...label, message: 'a second unknown label' };
  const two = makeReport({ status: 'partial', problems: [label, second] });
  expect(withoutRepaired(two, [{ ...second }]).problems).toEqual([second]);
  const other = makeReport({ status: 'partial', problems: [label, hook] });
  expect(withoutRepaired(other, [])).toMatchObject({ status: 'partial', problems: [hook] });
});

test('nothing claims a backup that never existed', () => {
  expect(vanishedError({ name: 'bad.postgres' }).message).toBe(
    'bad.postgres only failed in earlier runs and is not there any more',
  );
  expect(labelled(safety({}, new Date()))).toBe('not safe: nothing is stored of this source yet');
  expect(labelled(safety({ unusable: 3 }, new Date()))).toBe(
    'not safe: no usable snapshot holds it; 3 snapshots cannot be used',
  );
  expect(labelled('the last good snapshot is 1h old')).toBe('safe: the last good snapshot is 1h old');
});
