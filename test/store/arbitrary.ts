import fc from 'fast-check';
import { pathFromText } from '../../src/store/filesystem/path.ts';

const name = fc
  .array(
    fc.integer({ min: 1, max: 255 }).filter((byte) => byte !== 0x2f),
    { minLength: 1, maxLength: 12 },
  )
  .map((bytes) => String.fromCharCode(...bytes))
  .filter((text) => text !== '.' && text !== '..');
const textName = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 8 })
  .map((text) => text.replaceAll(/[/\0]/g, '_'))
  .map(pathFromText)
  .filter((text) => text !== '.' && text !== '..');
/** Any path that can be in a tree. */
export const treePath = fc
  .array(fc.oneof(name, textName), { minLength: 1, maxLength: 4 })
  .map((parts) => parts.join('/'));
