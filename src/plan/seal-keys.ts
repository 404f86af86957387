/** The keys of a repository, as the settings give them. Those to write with and those to read with need not be in one place. */
export interface SealKeys {
  /** age public keys that every new object is encrypted to */
  readonly ageRecipients?: readonly string[];
  /** age private keys, one a line */
  readonly ageIdentity?: string;
  /** what new objects are encrypted with, unless there are `gpgRecipients`; also opens `gpgPrivateKey` */
  readonly gpgPassphrase?: string;
  /** OpenPGP public keys, armored, that every new object is encrypted to */
  readonly gpgRecipients?: string;
  /** OpenPGP private keys, armored */
  readonly gpgPrivateKey?: string;
  /** somebody said that new objects are not to be encrypted, whatever earlier ones are */
  readonly inTheClear?: boolean;
}

/** How objects are encrypted: also the suffix of their names, without its dot. */
export type Encryption = 'age' | 'gpg';

/** How new objects are encrypted. Undefined: not at all. */
export function encryptionOf(keys: SealKeys): Encryption | undefined {
  if (keys.ageRecipients !== undefined) return 'age';
  return keys.gpgRecipients !== undefined || keys.gpgPassphrase !== undefined ? 'gpg' : undefined;
}

/** The form of encryption that an object's name tells. */
export function encryptionOfName(name: string): Encryption | undefined {
  return /\.(age|gpg)$/.exec(name)?.[1] as Encryption | undefined;
}

/** How new objects are encrypted, for people. */
export function encryptionText(keys: SealKeys): string {
  const { ageRecipients } = keys;
  if (ageRecipients)
    return `encrypted to ${ageRecipients.length} age ${ageRecipients.length === 1 ? 'recipient' : 'recipients'}`;
  if (keys.gpgRecipients !== undefined) return 'encrypted to OpenPGP recipients';
  return keys.gpgPassphrase === undefined ? 'not encrypted' : 'encrypted with an OpenPGP passphrase';
}
