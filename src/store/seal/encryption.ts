import { spawn } from 'node:child_process';
import { createHash, scryptSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import { type Encryption, encryptionOf, encryptionOfName, type SealKeys } from '../../plan/seal-keys.ts';
import { decryptAge, encryptAge } from './age.ts';
import { DAMAGED, NEEDED, WRONG } from './failures.ts';
import { type Failure, type Filter, type Step, toolEnv } from './program.ts';

/**
 * Encrypts with age inside the process, and with the program gpg. Secrets reach gpg through separate pipes, from file
 * descriptor 3 on.
 */

/** A directory in memory, because private keys must not be written to a disk. */
const MEMORY = '/dev/shm';

/** Disables bash's start-up files, which it would read because its stdin is a socket. */
const BASH = ['--noprofile', '--norc', '-c'];

/** Bash's message for a missing program. */
const NOT_FOUND = /: gpg: (command )?not found/;
const MISSING_PROGRAM: Failure = {
  code: 'TOOL_FAILED',
  message: 'the program for decryption could not be started',
  hint: "Install gpg where Lifeboat runs. Lifeboat's image contains it.",
};

/** Returns the step that encrypts with `keys`. Call it only if {@link encryptionOf} returns an encryption. */
export function encrypting(keys: SealKeys): Step {
  if (encryptionOf(keys) === 'age') return () => encryptAge(keys.ageRecipients ?? []);
  return keys.gpgRecipients === undefined
    ? gpgWithPassphrase(keys.gpgPassphrase ?? '')
    : gpgToRecipients(keys.gpgRecipients);
}

/**
 * Returns the step that decrypts: the inverse of {@link encrypting}. The step fails with KEY_MISSING, KEY_WRONG or
 * OBJECT_DAMAGED.
 *
 * @throws KEY_MISSING
 */
export function decrypting(encryption: Encryption, keys: SealKeys): Step {
  const missing = missingKey(encryption, keys);
  if (missing) throw missing;
  return encryption === 'age' ? () => decryptAge(keys.ageIdentity ?? '') : gpgDecrypting(keys);
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
