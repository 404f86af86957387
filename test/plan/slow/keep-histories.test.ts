import { test } from 'vitest';
import { checkHistory } from '../keep-property.ts';

test('100,000 agrees with an independent calculation on generated histories', { timeout: 1_800_000 }, () => {
  for (let seed = 1_000_001; seed <= 1_100_000; seed++) checkHistory(seed);
});
