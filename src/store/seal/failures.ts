import type { Encryption } from '../../plan/seal-keys.ts';
import type { Failure } from './program.ts';

/** The failure of every decryption for content that is not what was encrypted. */
export const DAMAGED: Failure = {
  code: 'OBJECT_DAMAGED',
  message: 'an object cannot be decrypted: it is cut or was changed',
};

/** The hint if no key to read with is set. */
export const NEEDED = {
  age: 'Set LIFEBOAT_AGE_IDENTITY_FILE to a file with the private key of one of the recipients.',
  gpg: 'Set LIFEBOAT_GPG_PASSPHRASE, or LIFEBOAT_GPG_PRIVATE_KEY if it was encrypted to recipients.',
} as const;

/** The failure if the keys that are set cannot read the object. */
export const WRONG = {
  age: {
    code: 'KEY_WRONG',
    message: 'no key in LIFEBOAT_AGE_IDENTITY can decrypt the backup',
    hint: 'Add the private key of a recipient that was set when the backup was made. LIFEBOAT_AGE_IDENTITY can hold several keys, one per line.',
  },
  gpg: {
    code: 'KEY_WRONG',
    message: 'neither the passphrase nor the private key can decrypt the backup',
    hint: 'Set the LIFEBOAT_GPG_PASSPHRASE from when the backup was made, or the private key of one of its recipients.',
  },
} as const satisfies Record<Encryption, Failure>;
