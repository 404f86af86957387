import { chmodSync, chownSync, linkSync, symlinkSync, utimesSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32, deflateSync } from 'node:zlib';

/**
 * Runs inside `web`: uploads files as people would, then gives some of them the owners, modes and times that old files
 * have.
 */

const SITE = 'http://127.0.0.1:3000';
const MEDIA = '/srv/media';

/** A real PNG picture of `size` × `size` pixels that is different for each `seed`. */
function picture(seed: number, size: number): Buffer {
  const pixels = Buffer.alloc(size * (1 + size * 3));
  let state = seed + 1;
  for (let i = 0; i < pixels.length; i += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    // each row begins with the number of its filter: 0, none
    pixels[i] = i % (1 + size * 3) === 0 ? 0 : state >> 16;
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(size, 0);
  header.writeUInt32BE(size, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(pixels)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

async function put(name: string, body: Buffer): Promise<void> {
  const url = `${SITE}/media/${name.split('/').map(encodeURIComponent).join('/')}`;
  const { status } = await fetch(url, { method: 'PUT', body: new Uint8Array(body) });
  if (status !== 201) throw new Error(`${name} was not taken: ${status}`);
}

async function siteIsUp(): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    if (
      await fetch(SITE).then(
        () => true,
        () => false,
      )
    )
      return;
    await sleep(100);
  }
  throw new Error('the upload site does not answer');
}

const named = [
  'Grüße aus Köln.png',
  '写真/猫と船.png',
  'Архив/Чайка.png',
  'café menu – été.png',
  'boats/🛟 rescue.png',
  'it\'s 100 % "fine".png',
];
await siteIsUp();
const photos = Array.from({ length: 200 }, (_, i) => put(`photos/${i + 1}.png`, picture(i + 1, 20 + (i % 60))));
const others = named.map((name, i) => put(name, picture(1000 + i, 64)));
const invoices = Array.from({ length: 34 }, (_, i) =>
  put(`invoices/2024/${i + 1}.txt`, Buffer.from(`Invoice no. ${i + 1}\n`.repeat(i + 1))),
);
await Promise.all([...photos, ...others, ...invoices]);

for (let i = 1; i <= 34; i += 1) {
  const file = `${MEDIA}/invoices/2024/${i}.txt`;
  chownSync(file, 33, 50 + i);
  chmodSync(file, i % 2 === 0 ? 0o600 : 0o640);
  utimesSync(file, 1_700_000_000 + i, 1_700_000_000 + i * 86_400 + 0.123_456);
}
symlinkSync('../Grüße aus Köln.png', `${MEDIA}/photos/newest.png`);
linkSync(`${MEDIA}/photos/1.png`, `${MEDIA}/photos/cover.png`);
chmodSync(`${MEDIA}/invoices`, 0o2750);
