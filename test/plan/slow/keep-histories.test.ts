import { test } from 'vitest';
import { checkHistory } from '../keep-property.ts';

test('100,000 made-up histories are kept as an independent reckoning has it', { timeout: 1_800_000 }, () => {
  for (let seed = 1_000_001; seed <= 1_100_000; seed++) checkHistory(seed);
});
