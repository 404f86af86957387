/** The keys of a repository from the settings. An agent that only backs up needs no keys to read with. */
export interface SealKeys {
  /** age public keys that every new object is encrypted to */
  readonly ageRecipients?: readonly string[];
  /** age private keys, one a line */
  readonly ageIdentity?: string;
  /** passphrase that encrypts new objects unless there are `gpgRecipients`; also unlocks `gpgPrivateKey` */
  readonly gpgPassphrase?: string;
  /** OpenPGP public keys, armored, that every new object is encrypted to */
  readonly gpgRecipients?: string;
  /** OpenPGP private keys, armored */
  readonly gpgPrivateKey?: string;
  /** a setting confirms that new objects are unencrypted although earlier ones are encrypted */
  readonly inTheClear?: boolean;
}

/** The form of encryption of an object, which is also the suffix of its name without the dot. */
export type Encryption = 'age' | 'gpg';

/** Returns the form of encryption of new objects; undefined: none. */
export function encryptionOf(keys: SealKeys): Encryption | undefined {
  if (keys.ageRecipients !== undefined) return 'age';
  return keys.gpgRecipients !== undefined || keys.gpgPassphrase !== undefined ? 'gpg' : undefined;
}

/** Returns the form of encryption in an object's name; undefined: none. */
export function encryptionOfName(name: string): Encryption | undefined {
  return /\.(age|gpg)$/.exec(name)?.[1] as Encryption | undefined;
}

/** Describes the encryption of new objects, for `lifeboat plan`. */
export function encryptionText(keys: SealKeys): string {
  const { ageRecipients } = keys;
  if (ageRecipients)
    return `encrypted to ${ageRecipients.length} age ${ageRecipients.length === 1 ? 'recipient' : 'recipients'}`;
  if (keys.gpgRecipients !== undefined) return 'encrypted to OpenPGP recipients';
  return keys.gpgPassphrase === undefined ? 'not encrypted' : 'encrypted with an OpenPGP passphrase';
}
