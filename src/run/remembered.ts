import path from 'node:path';
import type { PlannedSource } from '../plan/model.ts';
import { placeOfSource } from '../plan/mounts.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import { keyId } from '../store/seal/encryption.ts';
import { readJson, writeJson } from './state-files.ts';

/**
 * Facts that the agent remembers for its messages. Manifests do not contain them, because anybody who can read the
 * destination can read manifests. Without these facts, messages say less.
 */

const FILE = 'recipients.json';
const PLACES = 'places.json';

/** Returns the place of each source at its last backup, see {@link placeOfSource}. `directory`: that of the state. */
export async function knownPlaces(directory: string): Promise<Record<string, string>> {
  return (await readJson<Record<string, string>>(path.join(directory, PLACES))) ?? {};
}

/** Remembers the places of sources that a run stored, for the time when one of them is gone. @throws SPOOL_FULL */
export async function rememberPlaces(directory: string, sources: readonly PlannedSource[]): Promise<void> {
  const known = await knownPlaces(directory);
  const next = { ...known };
  for (const source of sources) {
    const place = placeOfSource(source);
    if (place === undefined) delete next[source.name];
    else next[source.name] = place;
  }
  if (JSON.stringify(next) !== JSON.stringify(known)) await writeJson(path.join(directory, PLACES), next);
}

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
