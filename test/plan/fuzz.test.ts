import { fuzz } from './fuzz-properties.ts';

fuzz(100);
