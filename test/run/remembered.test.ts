import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { PlannedSource } from '../../src/plan/model.ts';
import {
  describeKey,
  knownPlaces,
  knownRecipients,
  rememberPlaces,
  rememberRecipients,
} from '../../src/run/remembered.ts';
import { keyId } from '../../src/store/seal/encryption.ts';
import { scratchBase } from '../store/helpers.ts';

const ONE = 'age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq';
const TWO = 'age1aaaszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq';
const directory = mkdtempSync(path.join(scratchBase, 'lifeboat-keys-'));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a key id is explained by the keys that are set, and by those that were', async () => {
  const old = { ageRecipients: [ONE, TWO] };
  await rememberRecipients(directory, old);
  await rememberRecipients(directory, { ageRecipients: [TWO] });
  // A passphrase is never written down.
  await rememberRecipients(directory, { gpgPassphrase: 'a passphrase' });
  const known = await knownRecipients(directory);
  expect(Object.values(known)).toEqual([[ONE, TWO], [TWO]]);
  const [id, now] = [keyId(old) ?? '', { ageRecipients: [TWO] }];
  expect(describeKey(id, now, known)).toBe(`public keys ${ONE}, ${TWO}`);
  expect(describeKey(keyId(now) ?? '', now, {})).toBe(`public key ${TWO} (LIFEBOAT_AGE_RECIPIENTS)`);
  expect(describeKey(id, now, {})).toBeUndefined();
  const gpg = { gpgPassphrase: 'a passphrase' };
  expect(describeKey(keyId(gpg) ?? '', gpg, {})).toBe('LIFEBOAT_GPG_PASSPHRASE as it is set');
});

test('the documented commands print the id', () => {
  const shell = (script: string) => execFileSync('sh', ['-c', script], { encoding: 'utf8' }).trim();
  expect(shell(`printf %s ${ONE} | sha256sum | cut -c1-8`)).toBe(keyId({ ageRecipients: [ONE] }));
  const all = `printf '%s\\n' ${ONE} ${TWO} | LC_ALL=C sort | paste -sd, - | tr -d '\\n' | sha256sum | cut -c1-8`;
  expect(shell(all)).toBe(keyId({ ageRecipients: [ONE, TWO] }));
});

test('the place of a source stays known after the source is gone', async () => {
  const volume = (name: string, mount: object) => ({ name, kind: 'volume', mount }) as unknown as PlannedSource;
  const media = volume('web.media', { type: 'volume', name: 'shop_media', source: '/v' });
  await rememberPlaces(directory, [media, volume('web.files', { type: 'bind', source: '/srv/files' })]);
  await rememberPlaces(directory, [volume('web.media', { type: 'tmpfs', source: '' })]);
  expect(await knownPlaces(directory)).toEqual({ 'web.files': '/srv/files' });
  await rememberPlaces(directory, [media]);
  await rememberPlaces(directory, []);
  expect(await knownPlaces(directory)).toEqual({ 'web.files': '/srv/files', 'web.media': 'volume shop_media' });
});
