import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { canonicalJson, documentsOf, type Manifest } from '../../../src/store/objects/manifest.ts';
import { putPin } from '../../../src/store/repository/pins.ts';
import { ageKey, SealedBench, SOURCE } from '../../run/sealed-bench.ts';
import { describeTree } from '../../store/helpers.ts';

/** An encrypted and signed repository. */

const { identity, recipient } = ageKey();
const publicOnly = { ageRecipients: [recipient] };
const whole = { ...publicOnly, ageIdentity: identity };

let sealed: SealedBench;
beforeEach(() => {
  sealed = new SealedBench();
});
afterEach(() => sealed.bench.remove());

const root = () => sealed.bench.destination.name;
const manifestKey = ({ id }: Manifest) => `shop/snapshots/${id}/manifest.json`;

test('every object except the signed ones begins with the header of age, and the hash of its stored form is signed', async () => {
  const { manifest, packs } = await sealed.run(publicOnly);
  const list = manifest.sources[SOURCE]?.packs?.key as string;
  const pin = { reason: 'before deploy 4.2', at: sealed.now.toISOString() };
  await putPin(await sealed.open(publicOnly), manifest.id, pin);
  const named = [...documentsOf(manifest), ...packs];
  for (const { key, size, sha256 } of named) {
    const bytes = readFileSync(path.join(root(), key));
    // The list of packs holds no content, and a copy needs it without a key.
    if (key !== list) expect(bytes.subarray(0, 22).toString(), key).toBe('age-encryption.org/v1\n');
    expect({ size, sha256 }).toEqual({ size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
  }
  const all = readdirSync(root(), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => path.relative(root(), path.join(parentPath, name)));
  const clear = all.filter((one) => !named.some(({ key }) => key === one)).sort();
  expect(clear).toEqual(['lifeboat.json', `shop/pins/${manifest.id}.json`, manifestKey(manifest)]);
  for (const key of clear) {
    const document = readFileSync(path.join(root(), key), 'utf8');
    expect(document).not.toContain('canary');
    if (key !== 'lifeboat.json') expect(JSON.parse(document)).toHaveProperty('signature');
  }
});

test('tampered content is refused before the volume changes', async () => {
  const { manifest, entry, packs } = await sealed.run(publicOnly);
  for (const name of ['small', 'large']) writeFileSync(path.join(sealed.tree, name), 'changed since');
  const present = describeTree(sealed.tree);
  const flip = (bytes: Buffer) => {
    bytes[bytes.length - 20]! ^= 1;
    return bytes;
  };
  // Written by an attacker with the public key: it can be decrypted, and has the expected size.
  const sealAnew = (bytes: Buffer) => {
    const key = path.join(sealed.bench.spool, 'identity');
    writeFileSync(key, identity);
    return execFileSync('age', ['-r', recipient], { input: execFileSync('age', ['-d', '-i', key], { input: bytes }) });
  };
  const another = (bytes: Buffer) => bytes.toString().replaceAll(entry.index!.sha256, packs[0]!.sha256);
  const withoutSignature = (bytes: Buffer) => {
    const { signature: _, ...document } = JSON.parse(bytes.toString()) as Record<string, unknown>;
    return `${canonicalJson(document)}\n`;
  };
  const tampered: [string, (bytes: Buffer) => Buffer | string, string][] = [
    [entry.index!.key, sealAnew, 'OBJECT_DAMAGED'],
    [entry.index!.key, (bytes) => bytes.subarray(0, -1), 'OBJECT_DAMAGED'],
    [entry.packs!.key, flip, 'OBJECT_DAMAGED'],
    ...packs.map(({ key }): (typeof tampered)[number] => [key, flip, 'OBJECT_DAMAGED']),
    [manifestKey(manifest), another, 'SIGNATURE_WRONG'],
    [manifestKey(manifest), withoutSignature, 'SIGNATURE_MISSING'],
  ];
  expect(tampered).toHaveLength(7);
  for (const [key, change, code] of tampered) {
    const file = path.join(root(), key);
    const before = readFileSync(file);
    const after = change(Buffer.from(before));
    expect(before.equals(Buffer.from(after))).toBe(false);
    rmSync(file);
    writeFileSync(file, after);
    await expect(sealed.restore(whole), key).rejects.toMatchObject({ code });
    expect(describeTree(sealed.tree), key).toEqual(present);
    writeFileSync(file, before);
  }
  await sealed.restore(whole);
  expect(readFileSync(path.join(sealed.tree, 'small'), 'utf8')).toContain('canary');
});
