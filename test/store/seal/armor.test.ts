import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { removeArmor } from '../../../src/store/seal/armor.ts';

const BEGIN = '-----BEGIN AGE ENCRYPTED FILE-----\n';
const END = '-----END AGE ENCRYPTED FILE-----\n';

function armor(content: Buffer): string {
  return `${BEGIN}${content
    .toString('base64')
    .replace(/(.{64})/g, '$1\n')
    .trimEnd()}\n${END}`;
}
const open = (...pieces: string[]) => buffer(removeArmor(Readable.from(pieces.map((piece) => Buffer.from(piece)))));

test('armor is removed, whatever pieces it arrives in', async () => {
  for (const size of [1, 47, 48, 49, 1000, 10_000]) {
    const content = randomBytes(size);
    const text = armor(content);
    expect((await open(text)).equals(content)).toBe(true);
    expect((await open(...text)).equals(content)).toBe(true);
    expect((await open(text.replaceAll('\n', '\r\n'))).equals(content)).toBe(true);
  }
});

test('armor that is cut, changed or continued is damaged, and a long line is not gathered', async () => {
  const text = armor(randomBytes(1000));
  const bad = [
    '',
    BEGIN,
    text.slice(0, -END.length),
    text.replace(END, ''),
    `${text}more\n`,
    text.replace('\n', '\n*\n'),
    text.slice(1),
  ];
  for (const [i, one] of bad.entries())
    await expect(open(one), String(i)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  let read = 0;
  const endless = function* () {
    yield Buffer.from(BEGIN);
    for (; read < 1000; read++) yield Buffer.alloc(65_536, 'A');
  };
  await expect(buffer(removeArmor(Readable.from(endless())))).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  expect(read).toBeLessThan(20);
});

test('a stream that nobody reads ends its input', async () => {
  const input = Readable.from([Buffer.from(BEGIN)]);
  const stream = removeArmor(input);
  stream.destroy();
  await new Promise((resolve) => stream.once('close', resolve));
  expect(input.destroyed).toBe(true);
});
