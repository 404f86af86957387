import { expect, test } from 'vitest';
import { print } from '../../src/commands/call.ts';
import type { Documents } from '../../src/commands/json/documents.ts';

test('the format of a JSON document is its own, not that of a manifest in it', () => {
  let printed = '';
  const io = { out: (text: string) => (printed += text) };
  const manifest = { format: 7, id: 'x' } as unknown as Documents['show SNAPSHOT'];
  print({ io, json: true } as unknown as Parameters<typeof print>[0], 'show SNAPSHOT', manifest, () => '');
  expect(printed).toBe('{"format":1,"id":"x"}\n');
});
