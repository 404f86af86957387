import { expect, test } from 'vitest';
import { selectNames } from '../../../src/plan/values/name-patterns.ts';

const NAMES = ['config', 'db.postgres', 'other.web.media', 'web.cache', 'web.media'];

test.each([
  [['web.*'], ['web.cache', 'web.media'], []],
  [['*'], NAMES, []],
  [['*.postgres', 'config'], ['config', 'db.postgres'], []],
  [['web.media', 'web.*'], ['web.cache', 'web.media'], []],
  [['web.?edia'], ['web.media'], []],
  [['{db,web}.*'], ['db.postgres', 'web.cache', 'web.media'], []],
  [['web'], [], ['web']],
  [['web.media', 'nope.*'], ['web.media'], ['nope.*']],
  [['!web.media'], [], ['!web.media']],
  // A pattern that would take long is compared as a name.
  [['*a*b*c*d*e*'], [], ['*a*b*c*d*e*']],
])('%j', (words, selected, unmatched) => {
  expect(selectNames(words, NAMES)).toEqual({ selected, unmatched });
});
