import { spawn } from 'node:child_process';
import { createHash, scryptSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import { type Encryption, encryptionOf, encryptionOfName, type SealKeys } from '../../plan/seal-keys.ts';
import { type Failure, type Filter, toolEnv } from './program.ts';

/** Encryption by the programs age and gpg. Secrets reach them through pipes of their own, from file descriptor 3 on. */

/** In memory: a private key is never on a disk. */
const MEMORY = '/dev/shm';

/** No start-up files: with a socket as its stdin, bash would read them. */
const BASH = ['--noprofile', '--norc', '-c'];

const DAMAGED: Failure = { code: 'OBJECT_DAMAGED', message: 'an object cannot be decrypted: it is cut or was changed' };

/** What bash says. */
const NOT_FOUND = /: (age|gpg): (command )?not found/;
const MISSING_PROGRAM: Failure = {
  code: 'TOOL_FAILED',
  message: 'the program that decrypts could not be started',
  hint: 'Install age and gpg where Lifeboat runs; its own image holds them.',
};

/** The filter that encrypts to the keys to write with. Only if {@link encryptionOf} says that there are any. */
export function encrypting(keys: SealKeys): Filter {
  if (encryptionOf(keys) === 'age') return ageEncrypting(keys.ageRecipients ?? []);
  return keys.gpgRecipients === undefined
    ? gpgWithPassphrase(keys.gpgPassphrase ?? '')
    : gpgToRecipients(keys.gpgRecipients);
}

/** The filter that undoes it. Throws KEY_MISSING; what it runs fails with KEY_MISSING, KEY_WRONG or OBJECT_DAMAGED. */
export function decrypting(encryption: Encryption, keys: SealKeys): Filter {
  const missing = missingKey(encryption, keys);
  if (missing) throw missing;
  return encryption === 'age' ? ageDecrypting(keys.ageIdentity ?? '') : gpgDecrypting(keys);
}

/** What is wrong when objects of that encryption are to be read. */
function missingKey(encryption: Encryption, keys: SealKeys): LifeboatError | undefined {
  const given = encryption === 'age' ? keys.ageIdentity : (keys.gpgPassphrase ?? keys.gpgPrivateKey);
  if (given !== undefined) return undefined;
  return new LifeboatError(
    'KEY_MISSING',
    `what is stored is encrypted with ${encryption}, and no key to read it is set`,
    {
      hint: NEEDED[encryption],
    },
  );
}

const ids = new WeakMap<SealKeys, string | undefined>();

/**
 * Names the keys that new objects are encrypted with: 8 hex digits, the same for the same keys. Undefined where there are none. Of a
 * passphrase it says no more than an encrypted object does, and trying one takes longer.
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

/** Whether a stored pack is one that these keys would make: only such a one may be part of a new snapshot. */
export function isSealedWith(pack: { keyId?: string | undefined }, keys: SealKeys): boolean {
  return pack.keyId === keyId(keys);
}

/** Throws KEY_MISSING when one of the objects cannot be read with these keys, as far as their names tell. */
export function requireKeys(objects: readonly ({ key: string } | undefined)[], keys: SealKeys): void {
  for (const object of objects) {
    const encryption = object && encryptionOfName(object.key);
    const missing = encryption && missingKey(encryption, keys);
    if (missing) throw missing;
  }
}

const NEEDED = {
  age: 'Set LIFEBOAT_AGE_IDENTITY_FILE to a file with the private key of one of the recipients.',
  gpg: 'Set LIFEBOAT_GPG_PASSPHRASE, or, for what was encrypted to recipients, LIFEBOAT_GPG_PRIVATE_KEY.',
} as const;

const WRONG = {
  age: {
    code: 'KEY_WRONG',
    message: 'no key in LIFEBOAT_AGE_IDENTITY opens what is stored',
    hint: 'It needs the private key of one of the recipients that were set when it was stored; LIFEBOAT_AGE_IDENTITY can hold several, one a line.',
  },
  gpg: {
    code: 'KEY_WRONG',
    message: 'neither passphrase nor private key opens what is stored',
    hint: 'It needs the LIFEBOAT_GPG_PASSPHRASE that was set when it was stored, or the private key of one of its recipients.',
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

/** OpenPGP that any version reads: not the packets that GnuPG 2.4 would choose. No compression: that was done before. */
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
  // An empty one stands for none: gpg must not ask for it.
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
          message: 'what is stored is encrypted to OpenPGP recipients, and no private key is set',
          hint: NEEDED.gpg,
        };
      }
      return /Bad session key|Bad passphrase|No secret key|No passphrase|^key refused$/m.test(words)
        ? WRONG.gpg
        : DAMAGED;
    },
  };
}

/** Homes in use. A private key must not stay in one when the process ends before gpg did. */
const homes = new Set<string>();
process.once('exit', () => {
  for (const home of homes) rmSync(home, { recursive: true, force: true });
});

/** A run of gpg with a home of its own, in memory, and no agent that outlives it. */
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
