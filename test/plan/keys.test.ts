import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { secretValues } from '../../src/app/secret-values.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import { encryptionOf, encryptionText } from '../../src/plan/seal-keys.ts';
import { parseSettings } from '../../src/plan/settings.ts';

const parse = (env: Record<string, string>) =>
  parseSettings(env, () => {
    throw new Error('no files');
  });

function refusal(env: Record<string, string>): LifeboatError {
  try {
    parse(env);
  } catch (error) {
    if (error instanceof LifeboatError) return error;
    throw error;
  }
  throw new Error('the settings were accepted');
}

const written = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const identity = /^AGE-.*$/m.exec(written)![0];
const recipient = execFileSync('age-keygen', ['-y'], { input: written, encoding: 'utf8' }).trim();
const block = (kind: string) => `-----BEGIN PGP ${kind} KEY BLOCK-----\n\nabc\n-----END PGP ${kind} KEY BLOCK-----`;

describe('keys', () => {
  test('are parsed as age and gpg write them', () => {
    expect(parse({ LIFEBOAT_AGE_RECIPIENTS: `# mine\n${recipient}\n` }).keys).toEqual({ ageRecipients: [recipient] });
    const both = parse({ LIFEBOAT_AGE_RECIPIENTS: `${recipient}, ${recipient}`, LIFEBOAT_AGE_IDENTITY: written });
    expect(both.keys).toEqual({ ageRecipients: [recipient], ageIdentity: identity });
    expect(secretValues(both)).toEqual([identity]);
    const gpg = { LIFEBOAT_GPG_RECIPIENTS: block('PUBLIC'), LIFEBOAT_GPG_PRIVATE_KEY: block('PRIVATE') };
    expect(parse(gpg).keys).toEqual({ gpgRecipients: `${block('PUBLIC')}\n`, gpgPrivateKey: `${block('PRIVATE')}\n` });
  });

  test('a mistyped letter is detected', () => {
    for (const at of [10, 40, recipient.length - 1]) {
      const typed = recipient.slice(0, at) + (recipient[at] === 'q' ? 'p' : 'q') + recipient.slice(at + 1);
      expect(refusal({ LIFEBOAT_AGE_RECIPIENTS: typed }).message).toContain('is not an age public key');
      expect(refusal({ LIFEBOAT_AGE_RECIPIENTS: `${recipient},${typed}` }).message).toContain('item 2');
    }
    const typed = identity.replace(/.$/, (last) => (last === 'Q' ? 'P' : 'Q'));
    const error = refusal({ LIFEBOAT_AGE_RECIPIENTS: recipient, LIFEBOAT_AGE_IDENTITY: typed });
    expect(error.message).toBe('LIFEBOAT_AGE_IDENTITY has a line that is no age private key');
  });

  test.each([
    ['LIFEBOAT_AGE_RECIPIENTS', identity],
    ['LIFEBOAT_AGE_RECIPIENTS', `x${identity}`],
    ['LIFEBOAT_GPG_RECIPIENTS', block('PRIVATE')],
  ])('%s that is a private key by mistake is not told', (name, value) => {
    expect(refusal({ [name]: value }).message).toMatch(/holds a private key$/);
  });

  test('age and gpg exclude each other', () => {
    const age = { LIFEBOAT_AGE_RECIPIENTS: recipient };
    for (const other of [{ LIFEBOAT_GPG_PASSPHRASE: 'x' }, { LIFEBOAT_GPG_RECIPIENTS: block('PUBLIC') }])
      expect(refusal({ ...age, ...other }).message).toContain('are both set');
    // To read backups from before a change.
    expect(encryptionOf(parse({ LIFEBOAT_GPG_PASSPHRASE: 'x', LIFEBOAT_AGE_IDENTITY: identity }).keys)).toBe('gpg');
    expect(encryptionText(parse(age).keys)).toBe('encrypted to 1 age recipient');
    expect(encryptionText(parse({}).keys)).toBe('not encrypted');
  });
});
