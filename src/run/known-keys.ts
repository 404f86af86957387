import path from 'node:path';
import type { SealKeys } from '../plan/seal-keys.ts';
import { keyId } from '../store/seal/encryption.ts';
import { readJson, writeJson } from './state-files.ts';

/** What the ids of encryption keys stand for. Manifests name keys by their ids, which reveal nothing. */

const FILE = 'recipients.json';

/** Returns the age public keys of each key id that this agent has encrypted with. `directory`: that of the state. */
export async function knownRecipients(directory: string): Promise<Record<string, string[]>> {
  return (await readJson<Record<string, string[]>>(path.join(directory, FILE))) ?? {};
}

/** Remembers the age public keys of `keys` under their id. @throws SPOOL_FULL */
export async function rememberRecipients(directory: string, keys: SealKeys): Promise<void> {
  const id = keyId(keys);
  if (id === undefined || keys.ageRecipients === undefined) return;
  const known = await knownRecipients(directory);
  if (known[id] === undefined) await writeJson(path.join(directory, FILE), { ...known, [id]: [...keys.ageRecipients] });
}

/**
 * Returns what a key id stands for, in words for people, or undefined if nothing here shows it.
 *
 * @param now the keys that are set now
 * @param recipients see {@link knownRecipients}
 */
export function describeKey(
  id: string,
  now: SealKeys,
  recipients: Readonly<Record<string, readonly string[]>>,
): string | undefined {
  const isSet = keyId(now) === id;
  const all = isSet ? now.ageRecipients : recipients[id];
  if (all) {
    const what = `public ${all.length === 1 ? 'key' : 'keys'} ${all.join(', ')}`;
    return isSet ? `${what} (LIFEBOAT_AGE_RECIPIENTS)` : what;
  }
  if (!isSet) return undefined;
  return now.gpgRecipients === undefined
    ? 'LIFEBOAT_GPG_PASSPHRASE as it is set'
    : 'LIFEBOAT_GPG_RECIPIENTS as it is set';
}
