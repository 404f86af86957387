import { test } from 'vitest';
import { times } from '../../harness/times.ts';
import { checkHistory } from '../keep-property.ts';

const HISTORIES = times(10_000, 100_000);

test(`agrees with an independent calculation on ${HISTORIES} generated histories`, { timeout: 1_800_000 }, () => {
  for (let seed = 1_000_001; seed <= 1_000_000 + HISTORIES; seed++) checkHistory(seed);
});
