import { spawn } from 'node:child_process';
import { createHash, scryptSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import { type Encryption, encryptionOf, encryptionOfName, type SealKeys } from '../../plan/seal-keys.ts';
import { type Failure, type Filter, toolEnv } from './program.ts';

/** Encrypts with the programs age and gpg. Secrets reach them through separate pipes, from file descriptor 3 on. */

/** A directory in memory, because private keys must not be written to a disk. */
const MEMORY = '/dev/shm';

/** Disables bash's start-up files, which it would read because its stdin is a socket. */
const BASH = ['--noprofile', '--norc', '-c'];

const DAMAGED: Failure = { code: 'OBJECT_DAMAGED', message: 'an object cannot be decrypted: it is cut or was changed' };

/** Bash's message for a missing program. */
const NOT_FOUND = /: (age|gpg): (command )?not found/;
const MISSING_PROGRAM: Failure = {
  code: 'TOOL_FAILED',
  message: 'the program for decryption could not be started',
  hint: 'Install age and gpg where Lifeboat runs; its own image holds them.',
};

/** Returns the filter that encrypts with `keys`. Call it only if {@link encryptionOf} returns an encryption. */
export function encrypting(keys: SealKeys): Filter {
  if (encryptionOf(keys) === 'age') return ageEncrypting(keys.ageRecipients ?? []);
  return keys.gpgRecipients === undefined
    ? gpgWithPassphrase(keys.gpgPassphrase ?? '')
    : gpgToRecipients(keys.gpgRecipients);
}

/**
 * Returns the filter that decrypts: the inverse of {@link encrypting}. The filter fails with KEY_MISSING, KEY_WRONG or
 * OBJECT_DAMAGED.
 *
 * @throws KEY_MISSING
 */
export function decrypting(encryption: Encryption, keys: SealKeys): Filter {
  const missing = missingKey(encryption, keys);
  if (missing) throw missing;
  return encryption === 'age' ? ageDecrypting(keys.ageIdentity ?? '') : gpgDecrypting(keys);
}

/** Returns KEY_MISSING if no key is set that can read objects of an encryption. */
function missingKey(encryption: Encryption, keys: SealKeys): LifeboatError | undefined {
  const given = encryption === 'age' ? keys.ageIdentity : (keys.gpgPassphrase ?? keys.gpgPrivateKey);
  if (given !== undefined) return undefined;
  return new LifeboatError('KEY_MISSING', `the backup is encrypted with ${encryption}, and no key to read it is set`, {
    hint: NEEDED[encryption],
  });
}

const ids = new WeakMap<SealKeys, string | undefined>();

/**
 * Returns an id of the keys that encrypt new objects: 8 hex digits, the same for the same keys; undefined if there are
 * none. For an attacker who guesses a passphrase, the id is no more helpful than an encrypted object, and each guess
 * takes longer.
 */
export function keyId(keys: SealKeys): string | undefined {
  if (ids.has(keys)) return ids.get(keys);
  const id = makeKeyId(keys);
  ids.set(keys, id);
  return id;
}

function makeKeyId(keys: SealKeys): string | undefined {
  const { ageRecipients, gpgRecipients, gpgPassphrase } = keys;
  const publicKeys = ageRecipients ? [...ageRecipients].sort().join() : gpgRecipients;
  if (publicKeys !== undefined) return createHash('sha256').update(publicKeys).digest('hex').slice(0, 8);
  if (gpgPassphrase === undefined) return undefined;
  const derived = scryptSync(gpgPassphrase, 'lifeboat key id', 4, {
    N: 2 ** 15,
    r: 8,
    p: 1,
    maxmem: 64 * 1024 * 1024,
  });
  return derived.toString('hex');
}

/** Returns whether a stored pack is encrypted with these keys. Only such packs may be part of a new snapshot. */
export function isSealedWith(pack: { keyId?: string | undefined }, keys: SealKeys): boolean {
  return pack.keyId === keyId(keys);
}

/** Checks, by their names, that objects can be read with these keys. @throws KEY_MISSING */
export function requireKeys(objects: readonly ({ key: string } | undefined)[], keys: SealKeys): void {
  for (const object of objects) {
    const encryption = object && encryptionOfName(object.key);
    const missing = encryption && missingKey(encryption, keys);
    if (missing) throw missing;
  }
}

const NEEDED = {
  age: 'Set LIFEBOAT_AGE_IDENTITY_FILE to a file with the private key of one of the recipients.',
  gpg: 'Set LIFEBOAT_GPG_PASSPHRASE, or LIFEBOAT_GPG_PRIVATE_KEY if it was encrypted to recipients.',
} as const;

const WRONG = {
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

function ageEncrypting(recipients: readonly string[]): Filter {
  return {
    command: 'age',
    args: recipients.flatMap((recipient) => ['-r', recipient]),
    failure: () => ({ code: 'TOOL_FAILED', message: 'encrypting with age failed' }),
  };
}

function ageDecrypting(identity: string): Filter {
  return {
    command: 'bash',
    args: [...BASH, 'exec age -d -i <(cat <&3)'],
    inputs: [`${identity}\n`],
    failure(words) {
      if (NOT_FOUND.test(words)) return MISSING_PROGRAM;
      return /no identity matched|malformed secret key|reading "\/dev\/fd/.test(words) ? WRONG.age : DAMAGED;
    },
  };
}

/** Writes OpenPGP that every version reads, not GnuPG 2.4's own packets. Does not compress: that was done before. */
const GPG_WRITE = '--rfc4880 --cipher-algo AES256 --s2k-digest-algo SHA512 --s2k-count 65011712 -z 0';
const GPG = 'gpg --homedir "$GNUPGHOME" --batch --no-tty --pinentry-mode loopback';

function gpgWithPassphrase(passphrase: string): Filter {
  return {
    ...gpg(`exec ${GPG} --no-autostart --passphrase-fd 3 ${GPG_WRITE} --symmetric`, [`${passphrase}\n`]),
    failure: () => ({ code: 'TOOL_FAILED', message: 'encrypting with gpg failed' }),
  };
}

const GPG_RECIPIENTS = `
  ${GPG} --no-autostart --quiet --import <&3 || exit 2
  to=() wanted=
  while IFS=: read -r -a field; do
    case \${field[0]} in
      pub) wanted=1 ;;
      fpr) [ "$wanted" ] && to+=(--recipient "\${field[9]}"); wanted= ;;
    esac
  done < <(${GPG} --no-autostart --with-colons --list-keys)
  exec ${GPG} --no-autostart ${GPG_WRITE} --trust-model always "\${to[@]}" --encrypt 3<&-`;

function gpgToRecipients(publicKeys: string): Filter {
  return {
    ...gpg(GPG_RECIPIENTS, [publicKeys]),
    failure: () => ({ code: 'TOOL_FAILED', message: 'encrypting with gpg failed' }),
  };
}

function gpgDecrypting({ gpgPassphrase, gpgPrivateKey }: SealKeys): Filter {
  // Without a passphrase, gpg gets an empty one so that it does not prompt.
  const secret = '--passphrase-fd 3';
  const script =
    gpgPrivateKey === undefined
      ? `exec ${GPG} --no-autostart ${secret} --decrypt`
      : `${GPG} --quiet --import <&4 || { echo key refused >&2; exit 2; }\n  exec ${GPG} ${secret} --decrypt 4<&-`;
  return {
    ...gpg(script, [`${gpgPassphrase ?? ''}\n`, ...(gpgPrivateKey === undefined ? [] : [gpgPrivateKey])]),
    failure(words) {
      if (NOT_FOUND.test(words)) return MISSING_PROGRAM;
      if (/No secret key/.test(words) && gpgPrivateKey === undefined) {
        return {
          code: 'KEY_MISSING',
          message: 'the backup is encrypted to OpenPGP recipients, and no private key is set',
          hint: NEEDED.gpg,
        };
      }
      return /Bad session key|Bad passphrase|No secret key|No passphrase|^key refused$/m.test(words)
        ? WRONG.gpg
        : DAMAGED;
    },
  };
}

/** gpg homes in use, removed at exit: a private key must not stay there if the process ends before gpg. */
const homes = new Set<string>();
process.once('exit', () => {
  for (const home of homes) rmSync(home, { recursive: true, force: true });
});

/** Returns a run of gpg with its own home in memory, whose gpg-agent ends with it. */
function gpg(script: string, inputs: string[]): Omit<Filter, 'failure'> {
  const home = mkdtempSync(path.join(MEMORY, 'lifeboat-gpg-'));
  homes.add(home);
  return {
    command: 'bash',
    args: [...BASH, script],
    env: { GNUPGHOME: home },
    inputs,
    async ended() {
      await new Promise<void>((resolve) => {
        const child = spawn('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore', env: toolEnv() });
        child.on('error', () => resolve());
        child.on('close', () => resolve());
      });
      await rm(home, { recursive: true, force: true });
      homes.delete(home);
    },
  };
}
