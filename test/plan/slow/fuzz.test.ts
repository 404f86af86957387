import { times } from '../../harness/times.ts';
import { fuzz } from '../fuzz-properties.ts';

fuzz(times(1500, 10_000));
