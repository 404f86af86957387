import { fuzz } from '../fuzz-properties.ts';

// Half a minute.
fuzz(10_000);
